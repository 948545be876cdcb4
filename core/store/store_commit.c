/* Writing what is pending: in the order of the rows, so that each page of LMDB is changed at once.
 *
 * New chunks of a key are joined with the last one that it has on disk where that has room. As soon as there is nothing
 * behind the rows that are written, they are appended without looking for their place. A failure leaves the store as it
 * was, and what was pending is still pending. */
#include <assert.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "store/store_private.h"

struct writer {
  struct flume_store *store;
  MDB_txn *txn;
  enum flume_store_kind kind;
  MDB_cursor *cursor;
  bool at_end;           /* all that comes goes behind what is there */
  struct flume_buf body; /* scratch */
};

static int put_row(struct writer *writer, const void *name, size_t name_len, const uint8_t *body, size_t len) {
  MDB_val key = {.mv_data = (void *)name, .mv_size = name_len}, val = {.mv_size = FLUME__ROW_CRC + len};
  uint32_t crc = flume_crc32c(flume_crc32c(0, name, name_len), body, len);
  int rv = mdb_cursor_put(writer->cursor, &key, &val, MDB_RESERVE | (writer->at_end ? MDB_APPEND : 0));
  if (rv != 0) return rv;
  flume_put_le32(val.mv_data, crc);
  memcpy((uint8_t *)val.mv_data + FLUME__ROW_CRC, body, len);
  return 0;
}

static int del_row(struct writer *writer, const struct flume_mem_entry *entry) {
  MDB_val key = {.mv_data = (void *)entry->bytes, .mv_size = entry->key_len}, val;
  int rv = mdb_cursor_get(writer->cursor, &key, &val, MDB_SET);
  if (rv == 0) rv = mdb_cursor_del(writer->cursor, 0);
  return rv == MDB_NOTFOUND ? 0 : rv;
}

/* --- Joining ----------------------------------------------------------------------------------------------------- */

/* The row before the place of a new one; MDB_NOTFOUND. */
static int find_before(struct writer *writer, const struct flume_mem_entry *entry, MDB_val *name, MDB_val *value) {
  *name = (MDB_val){.mv_data = (void *)entry->bytes, .mv_size = entry->key_len};
  int rv = mdb_cursor_get(writer->cursor, name, value, MDB_SET_RANGE);
  if (rv == 0) return mdb_cursor_get(writer->cursor, name, value, MDB_PREV);
  if (rv != MDB_NOTFOUND) return rv;
  rv = mdb_cursor_get(writer->cursor, name, value, MDB_LAST);
  writer->at_end = rv == 0 || rv == MDB_NOTFOUND;
  return rv;
}

/* Joins the new chunk with the one before it, if that is of the same key and has room. */
static int join(struct writer *writer, const struct flume_mem_entry *entry, const MDB_val *name, const MDB_val *value,
                bool *joined) {
  struct flume__row before, added;
  struct flume_chunk chunk;
  int rv =
      flume__row_read(&added, writer->kind, entry->bytes, entry->key_len, flume_mem_value(entry), entry->value_len);
  if (rv != 0) return rv;
  if (value->mv_size > FLUME__ROW_CRC + flume__row_key_bytes(added.key_len) + FLUME_CHUNK_BYTES) return 0;
  rv = flume__row_read_disk(&before, writer->kind, name, value);
  if (rv == 0) rv = flume_chunk_open(&chunk, before.seq, before.data, before.len);
  if (rv != 0 || before.len + added.len - FLUME_CHUNK_HEADER_BYTES > FLUME_CHUNK_BYTES) return rv;
  uint8_t row_name[FLUME__ROW_MAX]; /* the page that name is in may move */
  size_t name_len = name->mv_size, key_bytes = flume__row_key_bytes(before.key_len);
  assert(name_len == entry->key_len && name_len <= sizeof row_name);
  memcpy(row_name, name->mv_data, name_len);
  writer->body.len = 0;
  rv = flume_buf_append(&writer->body, (uint8_t *)value->mv_data + FLUME__ROW_CRC, key_bytes + before.len);
  if (rv == 0) rv = flume_chunk_open(&chunk, added.seq, added.data, added.len);
  if (rv == 0) rv = flume_chunk_join(&writer->body, key_bytes, &chunk);
  if (rv != 0) return rv;
  bool at_end = writer->at_end;
  writer->at_end = false;
  rv = put_row(writer, row_name, name_len, writer->body.data, writer->body.len);
  writer->at_end = at_end;
  *joined = rv == 0;
  return rv;
}

static int put_new_chunk(struct writer *writer, const struct flume_mem_entry *entry) {
  bool joined = false;
  if (!writer->at_end) {
    MDB_val name, value;
    int rv = find_before(writer, entry, &name, &value);
    if (rv == 0 && flume__row_is_same_key(name.mv_data, name.mv_size, entry->bytes, entry->key_len)) {
      rv = join(writer, entry, &name, &value, &joined);
    }
    if (rv != 0 && rv != MDB_NOTFOUND) return rv;
  }
  return joined ? 0 : put_row(writer, entry->bytes, entry->key_len, flume_mem_value(entry), entry->value_len);
}

/* --- All of it --------------------------------------------------------------------------------------------------- */

static int put_entry(struct writer *writer, const struct flume_mem_entry *entry) {
  if (entry->state == FLUME_MEM_GONE) return del_row(writer, entry);
  if (writer->kind == FLUME_STORE_INDEX && entry->state == FLUME_MEM_PUT) return put_new_chunk(writer, entry);
  return put_row(writer, entry->bytes, entry->key_len, flume_mem_value(entry), entry->value_len);
}

static int put_rows(struct flume_store *store, MDB_txn *txn, enum flume_store_kind kind) {
  const struct flume_memtable *table = &store->tables[kind];
  const struct flume_mem_entry *entry;
  struct flume_mem_place place = {0, 0};
  struct writer writer = {.store = store, .txn = txn, .kind = kind};
  if (table->count == 0) return 0;
  int rv = mdb_cursor_open(txn, store->dbs[kind], &writer.cursor);
  if (rv != 0) return rv;
  flume_buf_init(&writer.body, store->io);
  while (rv == 0 && (entry = flume_memtable_next(table, &place)) != NULL) rv = put_entry(&writer, entry);
  flume_buf_fini(&writer.body);
  mdb_cursor_close(writer.cursor);
  return rv;
}

static size_t last_txn(const struct flume_store *store) {
  MDB_envinfo info;
  return mdb_env_info(store->env, &info) == 0 ? info.me_last_txnid : 0;
}

/* A transaction could not be committed. LMDB may answer everything with MDB_PANIC from now on, reads too, so another
 * environment takes the place of this one. Seldom the transaction is there all the same, when its last write was done
 * but said to have failed, and could not be taken back: then it counts as soon as it is durable. As long as that is not
 * known nothing can be read or written, lest what is pending be there twice. */
static int replace_env(struct flume_store *store, size_t before, int failure) {
  flume__store_close_env(store);
  bool is_open = flume__store_open_for_writing(store, NULL) == 0;
  if (is_open && last_txn(store) <= before) return failure;
  if (is_open && mdb_env_sync(store->env, 1) == 0) return 0;
  flume__store_close_env(store);
  store->in_doubt = true;
  return failure;
}

static int commit(struct flume_store *store, MDB_txn *txn) {
  size_t before = last_txn(store);
  int rv = mdb_txn_commit(txn);
  if (rv == 0) store->has_dbs = true;
  return rv == 0 || rv == MDB_MAP_FULL ? rv : replace_env(store, before, rv);
}

static int write_once(struct flume_store *store, const struct flume_store_meta *meta) {
  MDB_txn *txn;
  int rv = flume__store_begin_writing(store, &txn);
  if (rv != 0) return rv;
  rv = flume__store_put_state(store, txn);
  if (rv == 0) rv = put_rows(store, txn, FLUME_STORE_GROUPS);
  if (rv == 0) rv = put_rows(store, txn, FLUME_STORE_INDEX);
  if (rv == 0) rv = flume__store_put_meta(store, txn, meta);
  if (rv != 0) {
    mdb_txn_abort(txn);
    return rv;
  }
  rv = commit(store, txn);
  if (rv != 0) return rv;
  flume__store_fill_file(store);
  return 0;
}

int flume__store_grow(struct flume_store *store) {
  MDB_envinfo info;
  mdb_env_info(store->env, &info);
  return mdb_env_set_mapsize(store->env, info.me_mapsize * 2);
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

int flume__store_drop(struct flume_store *store, struct flume_err *err) {
  MDB_txn *txn;
  int rv = flume__store_open_for_writing(store, err);
  if (rv != 0) return rv;
  rv = flume__store_begin_writing(store, &txn);
  if (rv == 0) {
    rv = mdb_drop(txn, store->meta_db, 0);
    if (rv == 0) rv = mdb_drop(txn, store->dbs[FLUME_STORE_GROUPS], 0);
    if (rv == 0) rv = mdb_drop(txn, store->dbs[FLUME_STORE_INDEX], 0);
    if (rv == 0) rv = commit(store, txn);
    else mdb_txn_abort(txn);
  }
  if (rv != 0) return flume__store_fail(store, err, rv, "clearing");
  flume__store_fill_file(store);
  return 0;
}
