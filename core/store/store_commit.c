/* Writing what is pending: in the order of the rows, so that each page of LMDB is changed at once.
 *
 * A new chunk of a key is joined with the key's last chunk on disk where that has room. As soon as no row on disk
 * lies behind those that are written, they are appended without looking for their place. A failure leaves the store
 * as it was, and what was pending is still pending. */
#include <assert.h>

#include "store/store_private.h"

struct writer {
  enum flume_store_kind kind;
  struct flume__rows rows;
  bool at_end;           /* the rows to come lie behind all that are there */
  struct flume_buf name; /* scratch */
  struct flume_buf body; /* scratch */
};

/* Joins the new chunk with the row before it, which has the same key, if that row has room. */
static int join(struct writer *writer, const struct flume__row *added, bool *joined) {
  struct flume__rows *rows = &writer->rows;
  struct flume__row before;
  struct flume_chunk chunk;
  assert(rows->has_row && rows->is_writing);
  if (rows->value.mv_size > FLUME__ROW_CRC + FLUME_CHUNK_BYTES) return 0;
  int rv = flume__row_read_disk(&before, writer->kind, rows->name, rows->name_len, &rows->value);
  if (rv == 0) rv = flume_chunk_open(&chunk, before.seq, before.data, before.len);
  if (rv == 0 && chunk.last_seq >= added->seq) rv = FLUME_ECORRUPT; /* beyond what was committed */
  if (rv != 0 || before.len + added->len - FLUME_CHUNK_HEADER_BYTES > FLUME_CHUNK_BYTES) return rv;
  writer->body.len = writer->name.len = 0; /* the page that the row is in may move */
  rv = flume_buf_append(&writer->name, rows->name, rows->name_len);
  if (rv == 0) rv = flume_buf_append(&writer->body, before.data, before.len);
  if (rv == 0) rv = flume_chunk_open(&chunk, added->seq, added->data, added->len);
  if (rv == 0) rv = flume_chunk_join(&writer->body, 0, &chunk);
  if (rv != 0) return rv;
  *joined = true;
  return flume__rows_put(rows, writer->name.data, writer->name.len, writer->body.data, writer->body.len, false);
}

static int put_row(struct writer *writer, const struct flume_mem_entry *entry) {
  return flume__rows_put(&writer->rows, entry->bytes, entry->key_len, flume_mem_value(entry), entry->value_len,
                         writer->at_end);
}

static int put_new_chunk(struct writer *writer, const struct flume_mem_entry *entry) {
  struct flume__row added;
  bool joined = false;
  if (writer->at_end) return put_row(writer, entry);
  int rv =
      flume__row_read(&added, writer->kind, entry->bytes, entry->key_len, flume_mem_value(entry), entry->value_len);
  if (rv == 0) rv = flume__rows_find_before(&writer->rows, entry->bytes, entry->key_len, &writer->at_end);
  if (rv == 0 && writer->rows.has_row) rv = join(writer, &added, &joined);
  return rv != 0 || joined ? rv : put_row(writer, entry);
}

/* --- All of it --------------------------------------------------------------------------------------------------- */

static int put_entry(struct writer *writer, const struct flume_mem_entry *entry) {
  if (entry->state == FLUME_MEM_GONE) return flume__rows_remove(&writer->rows, entry->bytes, entry->key_len);
  if (writer->kind == FLUME_STORE_INDEX && entry->state == FLUME_MEM_PUT) return put_new_chunk(writer, entry);
  return put_row(writer, entry);
}

static int put_rows(struct flume_store *store, MDB_txn *txn, enum flume_store_kind kind) {
  assert(store->access == FLUME_STORE_WRITE && store->env->is_writable);
  const struct flume_memtable *table = &store->tables[kind];
  const struct flume_mem_entry *entry;
  struct flume_mem_place place = {0, 0};
  struct writer writer = {.kind = kind};
  if (table->count == 0) return 0;
  flume_buf_init(&writer.name, store->io);
  flume_buf_init(&writer.body, store->io);
  int rv = flume__rows_open(&writer.rows, store->env, store->io, kind, txn, true);
  while (rv == 0 && (entry = flume_memtable_next(table, &place)) != NULL) rv = put_entry(&writer, entry);
  flume__rows_close(&writer.rows);
  flume_buf_fini(&writer.body);
  flume_buf_fini(&writer.name);
  return rv;
}

static size_t last_txn(const struct flume_store *store) {
  MDB_envinfo info;
  return mdb_env_info(store->env->mdb, &info) == 0 ? info.me_last_txnid : 0;
}

/* A transaction could not be committed. LMDB may answer everything with MDB_PANIC from now on, reads too, so that a
 * new environment replaces this one. Seldom the transaction is on disk all the same: its last write was done but said
 * to have failed, and could not be taken back. Then it counts as soon as it is durable. Until that is known, nothing
 * is read or written: what is pending might be there twice. A store of this process that has the environment open as
 * well must close it first. */
static int replace_env(struct flume_store *store, size_t before, int failure) {
  flume__env_kill(store->env);
  flume__store_close_env(store);
  bool is_open = flume__store_open_for_writing(store, NULL) == 0;
  if (is_open && last_txn(store) <= before) return failure;
  if (is_open && mdb_env_sync(store->env->mdb, 1) == 0) return 0;
  flume__store_close_env(store);
  store->in_doubt = true;
  return failure;
}

static int commit(struct flume_store *store, MDB_txn *txn, bool is_first) {
  size_t before = last_txn(store);
  int rv = mdb_txn_commit(txn);
  flume__env_end_writing(store->env, is_first, rv == 0);
  return rv == 0 || rv == MDB_MAP_FULL ? rv : replace_env(store, before, rv);
}

static void give_up(struct flume_store *store, MDB_txn *txn, bool is_first) {
  mdb_txn_abort(txn);
  flume__env_end_writing(store->env, is_first, false);
}

static int write_once(struct flume_store *store, const struct flume_store_meta *meta) {
  MDB_txn *txn;
  bool is_first;
  int rv = flume__env_begin_writing(store->env, &txn, &is_first);
  if (rv != 0) return rv;
  rv = flume__store_put_state(store, txn);
  if (rv == 0) rv = put_rows(store, txn, FLUME_STORE_GROUPS);
  if (rv == 0) rv = put_rows(store, txn, FLUME_STORE_INDEX);
  if (rv == 0) rv = flume__store_put_meta(store, txn, meta);
  if (rv != 0) {
    give_up(store, txn, is_first);
    return rv;
  }
  rv = commit(store, txn, is_first);
  if (rv != 0) return rv;
  flume__env_fill_file(store->env, store->io);
  return 0;
}

int flume__store_grow(struct flume_store *store) {
  MDB_envinfo info;
  mdb_env_info(store->env->mdb, &info);
  return flume__env_map(store->env, info.me_mapsize * 2, 0);
}

int flume__store_write(struct flume_store *store, const struct flume_store_meta *meta, struct flume_err *err) {
  int rv = flume__store_open_for_writing(store, err);
  if (rv != 0) return rv;
  rv = write_once(store, meta);
  while (rv == MDB_MAP_FULL) {
    rv = flume__store_grow(store);
    if (rv == 0) rv = write_once(store, meta);
  }
  return rv == 0 ? 0 : flume__store_fail(store, err, rv, "committing");
}

static int drop_all(struct flume_store *store, MDB_txn *txn) {
  const struct flume__env *env = store->env;
  int rv = mdb_drop(txn, env->meta_db, 0);
  for (int kind = 0; rv == 0 && kind < 2; kind++) {
    rv = mdb_drop(txn, env->rows_db[kind], 0);
    if (rv == 0) rv = mdb_drop(txn, env->tails_db[kind], 0);
  }
  return rv;
}

int flume__store_drop(struct flume_store *store, struct flume_err *err) {
  MDB_txn *txn;
  bool is_first;
  int rv = flume__store_open_for_writing(store, err);
  if (rv != 0) return rv;
  rv = flume__env_begin_writing(store->env, &txn, &is_first);
  if (rv == 0) {
    rv = drop_all(store, txn);
    if (rv == 0) rv = commit(store, txn, is_first);
    else give_up(store, txn, is_first);
  }
  if (rv != 0) return flume__store_fail(store, err, rv, "clearing");
  flume__env_fill_file(store->env, store->io);
  return 0;
}
