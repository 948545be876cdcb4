/* Entries of an index. A new one goes to the last chunk of its key that is pending, or begins one. Removing rewrites the
 * chunk that has it; one from disk is then pending as well, and stands in for the row there. */
#include "base/bytes.h"
#include "store/store_private.h"

static const char *const too_early = "an entry of record %lld, behind one of record %lld";

/* The pending row of the key that begins last, at seq or before; NULL for none. place is left before it. */
static const struct flume_mem_entry *find_pending(const struct flume_store *store, struct flume__row_name *name,
                                                  int64_t seq, struct flume_mem_place *place) {
  const struct flume_memtable *table = &store->tables[FLUME_STORE_INDEX];
  flume_put_be64(name->bytes + name->len - FLUME__ROW_SEQ, (uint64_t)seq + 1);
  *place = flume_memtable_seek(table, name->bytes, name->len);
  flume_put_be64(name->bytes + name->len - FLUME__ROW_SEQ, (uint64_t)seq);
  const struct flume_mem_entry *entry = flume_memtable_prev(table, place);
  bool found = entry != NULL && flume__row_is_same_key(entry->bytes, entry->key_len, name->bytes, name->len);
  return found ? entry : NULL;
}

/* --- Adding ------------------------------------------------------------------------------------------------------ */

/* Whether the pending row may take one more entry. */
static bool takes(const struct flume_mem_entry *entry, size_t key_bytes, int64_t seq, size_t len) {
  if (entry->state != FLUME_MEM_PUT) return false;
  size_t chunk_len = entry->value_len - key_bytes;
  return chunk_len + FLUME_CHUNK_ITEM_BYTES + len <= FLUME_CHUNK_BYTES ||
         flume_chunk_last_seq(flume_mem_value(entry) + key_bytes) == seq;
}

static void append(struct flume_mem_entry *entry, size_t key_bytes, int64_t seq, const void *value, size_t len) {
  uint8_t *chunk = flume_mem_value_of(entry) + key_bytes;
  size_t chunk_len = flume_chunk_append(chunk, entry->value_len - key_bytes, seq, value, len);
  entry->value_len = (uint32_t)(key_bytes + chunk_len);
}

static int begin_chunk(struct flume_store *store, const struct flume__row_name *name, const void *key, size_t key_len,
                       int64_t seq, const void *value, size_t len) {
  struct flume_mem_entry *entry;
  size_t key_bytes = flume__row_key_bytes(key_len);
  size_t cap = key_bytes + FLUME_CHUNK_HEADER_BYTES + FLUME_CHUNK_ITEM_BYTES + len;
  int rv = flume_memtable_set(&store->tables[FLUME_STORE_INDEX], name->bytes, name->len, cap, &entry);
  if (rv != 0) return rv;
  flume__row_put_key(flume_mem_value_of(entry), key, key_len);
  entry->value_len = (uint32_t)(key_bytes + flume_chunk_begin(flume_mem_value_of(entry) + key_bytes, seq));
  append(entry, key_bytes, seq, value, len);
  return 0;
}

int flume_store_add_entry(struct flume_store *store, const void *key, size_t key_len, int64_t seq, const void *value,
                          size_t len, struct flume_err *err) {
  struct flume__row_name name;
  struct flume_mem_place place;
  if (seq < store->last_seq || seq <= store->committed_seq) {
    return flume_err_set(err, FLUME_EINVAL, too_early, (long long)seq, (long long)store->last_seq);
  }
  if (key_len == 0) return flume_err_set(err, FLUME_EINVAL, "an empty key");
  size_t key_bytes = flume__row_key_bytes(key_len);
  flume__row_name_make(&name, FLUME_STORE_INDEX, key, key_len, seq);
  const struct flume_mem_entry *last = find_pending(store, &name, seq, &place);
  size_t taken = last != NULL ? last->value_len : 0;
  if (key_len > UINT32_MAX - 1024 || len > UINT32_MAX - 1024 - key_len || taken > UINT32_MAX - 1024 - key_len - len) {
    return flume_err_set(err, FLUME_E2BIG, "a key with its entries of one record of more than 4 GiB");
  }
  if (last != NULL && takes(last, key_bytes, seq, len)) {
    struct flume_mem_entry *entry =
        flume_memtable_reserve(&store->tables[FLUME_STORE_INDEX], place, FLUME_CHUNK_ITEM_BYTES + len);
    if (entry == NULL) return flume_err_nomem(err);
    append(entry, key_bytes, seq, value, len);
  } else if (begin_chunk(store, &name, key, key_len, seq, value, len) != 0) {
    return flume_err_nomem(err);
  }
  store->last_seq = seq;
  return 0;
}

/* --- Removing ---------------------------------------------------------------------------------------------------- */

/* Puts the row anew, without its entries of seq. state is what a row has that is put in its place. */
static int rewrite(struct flume_store *store, const void *name, size_t name_len, const struct flume__row *row,
                   int64_t seq, enum flume_mem_state state) {
  struct flume_memtable *table = &store->tables[FLUME_STORE_INDEX];
  struct flume_chunk chunk;
  struct flume_buf body;
  int rv = flume_chunk_open(&chunk, row->seq, row->data, row->len);
  if (rv != 0) return rv;
  flume_buf_init(&body, store->io);
  size_t key_bytes = flume__row_key_bytes(row->key_len);
  if (key_bytes > 0) rv = flume_buf_reserve(&body, key_bytes);
  if (rv == 0 && key_bytes > 0) {
    flume__row_put_key(body.data, row->key, row->key_len);
    body.len = key_bytes;
  }
  int64_t left = rv == 0 ? flume_chunk_without(&chunk, seq, &body) : rv;
  struct flume_mem_entry *entry;
  if (left < 0) {
    rv = (int)left;
  } else if (left == 0 && state == FLUME_MEM_PUT) {
    flume_memtable_remove(table, name, name_len);
  } else if (left == 0) {
    rv = flume_memtable_put(table, name, name_len, NULL, 0);
  } else if (left < chunk.count) {
    rv = flume_memtable_set(table, name, name_len, body.len, &entry);
    if (rv == 0) {
      memcpy(flume_mem_value_of(entry), body.data, body.len);
      entry->value_len = (uint32_t)body.len;
      entry->state = (uint8_t)state;
    }
  }
  flume_buf_fini(&body);
  return rv;
}

static int remove_pending(struct flume_store *store, const struct flume_mem_entry *entry, int64_t seq) {
  uint8_t name[FLUME__ROW_MAX];
  size_t name_len = entry->key_len;
  struct flume__row row;
  if (entry->state == FLUME_MEM_GONE) return 0;
  memcpy(name, entry->bytes, name_len);
  int rv = flume__row_read(&row, FLUME_STORE_INDEX, name, name_len, flume_mem_value(entry), entry->value_len);
  return rv == 0 ? rewrite(store, name, name_len, &row, seq, (enum flume_mem_state)entry->state) : rv;
}

/* The row on disk of the key that begins last, at name's seq or before. MDB_NOTFOUND. */
static int find_on_disk(MDB_cursor *cursor, const struct flume__row_name *name, MDB_val *key, MDB_val *value) {
  *key = (MDB_val){.mv_data = (void *)name->bytes, .mv_size = name->len};
  int rv = mdb_cursor_get(cursor, key, value, MDB_SET_RANGE);
  if (rv == 0 && key->mv_size == name->len && memcmp(key->mv_data, name->bytes, name->len) == 0) return 0;
  if (rv == 0) rv = mdb_cursor_get(cursor, key, value, MDB_PREV);
  else if (rv == MDB_NOTFOUND) rv = mdb_cursor_get(cursor, key, value, MDB_LAST);
  if (rv != 0) return rv;
  return flume__row_is_same_key(key->mv_data, key->mv_size, name->bytes, name->len) ? 0 : MDB_NOTFOUND;
}

/* pending: the row that begins last of those that are pending, or NULL. Of it and the one on disk, the later has seq. */
static int remove_later(struct flume_store *store, MDB_txn *txn, const struct flume__row_name *name, int64_t seq,
                        const struct flume_mem_entry *pending) {
  MDB_cursor *cursor;
  MDB_val key, value;
  struct flume__row row;
  int rv = mdb_cursor_open(txn, store->dbs[FLUME_STORE_INDEX], &cursor);
  if (rv != 0) return rv;
  rv = find_on_disk(cursor, name, &key, &value);
  bool on_disk = rv == 0 && (pending == NULL || memcmp(key.mv_data, pending->bytes, name->len) > 0);
  if (rv == MDB_NOTFOUND) rv = 0;
  if (rv == 0 && on_disk) {
    rv = flume__row_read_mapped(&row, store, FLUME_STORE_INDEX, &key, &value);
    if (rv == 0) rv = rewrite(store, key.mv_data, key.mv_size, &row, seq, FLUME_MEM_REPLACED);
  } else if (rv == 0 && pending != NULL) {
    rv = remove_pending(store, pending, seq);
  }
  mdb_cursor_close(cursor);
  return rv;
}

static int remove_entries(struct flume_store *store, const struct flume__row_name *name, int64_t seq,
                          const struct flume_mem_entry *pending, struct flume_err *err) {
  MDB_txn *txn;
  int rv = flume__store_begin(store, &txn, err);
  if (rv == FLUME_ENOENT) return pending != NULL ? remove_pending(store, pending, seq) : 0;
  if (rv != 0) return rv;
  rv = remove_later(store, txn, name, seq, pending);
  flume__store_end(store, txn);
  return rv;
}

int flume_store_remove_entries(struct flume_store *store, const void *key, size_t key_len, int64_t seq,
                               struct flume_err *err) {
  struct flume__row_name name;
  struct flume_mem_place place;
  int rv = 0;
  if (key_len == 0 || seq < 0) return 0;
  flume__row_name_make(&name, FLUME_STORE_INDEX, key, key_len, seq);
  const struct flume_mem_entry *pending = find_pending(store, &name, seq, &place);
  if (store->dir != NULL && (pending == NULL || pending->state != FLUME_MEM_PUT)) {
    rv = remove_entries(store, &name, seq, pending, err);
  } else if (pending != NULL) {
    rv = remove_pending(store, pending, seq);
  }
  return rv == 0 ? 0 : flume__store_fail(store, err, rv, "removing from");
}
