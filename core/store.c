#include "store.h"

#include <assert.h>
#include <string.h>

#include "bytes.h"
#include "crc32c.h"
#include "store_private.h"

#define LONG_KEY_HEADER_BYTES 4

/* --- Rows -------------------------------------------------------------------------------------------------------- */

void flume__row_make(struct flume__row *row, enum flume_store_kind kind, const void *key, size_t key_len, int64_t seq,
                     uint32_t ordinal) {
  row->len = flume__row_is_cut(key_len) ? FLUME__ROW_KEY_MAX : key_len;
  if (row->len > 0) memcpy(row->bytes, key, row->len);
  if (flume__row_is_cut(key_len)) {
    flume_put_be32(row->bytes + row->len, flume_crc32c(0, key, key_len));
    flume_put_be32(row->bytes + row->len + 4, (uint32_t)key_len);
    row->len += 8;
  }
  if (kind != FLUME_STORE_INDEX) return;
  flume_put_be64(row->bytes + row->len, (uint64_t)seq);
  flume_put_be32(row->bytes + row->len + 8, ordinal);
  row->len += FLUME__ROW_SUFFIX;
}

int flume__row_read(enum flume_store_kind kind, const uint8_t *row, size_t row_len, const uint8_t *value,
                    size_t value_len, struct flume_store_entry *entry) {
  size_t suffix = kind == FLUME_STORE_INDEX ? FLUME__ROW_SUFFIX : 0;
  if (row_len < suffix) return FLUME_ECORRUPT;
  *entry = (struct flume_store_entry){
      .key = row, .key_len = row_len - suffix, .seq = -1, .value = value, .value_len = value_len};
  if (suffix > 0) {
    entry->seq = (int64_t)flume_get_be64(row + entry->key_len);
    entry->ordinal = flume_get_be32(row + entry->key_len + 8);
  }
  if (entry->key_len <= FLUME__ROW_KEY_MAX) return 0;
  if (value_len < LONG_KEY_HEADER_BYTES) return FLUME_ECORRUPT;
  size_t key_len = flume_get_le32(value);
  if (!flume__row_is_cut(key_len) || key_len > value_len - LONG_KEY_HEADER_BYTES) return FLUME_ECORRUPT;
  entry->key = value + LONG_KEY_HEADER_BYTES;
  entry->key_len = key_len;
  entry->value = entry->key + key_len;
  entry->value_len = value_len - LONG_KEY_HEADER_BYTES - key_len;
  return 0;
}

/* The value of a row, with the whole key before it if that was cut. The buffer is the caller's. */
static int make_value(struct flume_buf *buf, const void *key, size_t key_len, const void *value, size_t len) {
  uint8_t header[LONG_KEY_HEADER_BYTES];
  flume_put_le32(header, (uint32_t)key_len);
  int rv = flume_buf_append(buf, header, sizeof header);
  if (rv == 0) rv = flume_buf_append(buf, key, key_len);
  if (rv == 0) rv = flume_buf_append(buf, value, len);
  return rv;
}

static int put_row(struct flume_store *store, enum flume_store_kind kind, const struct flume__row *row, const void *key,
                   size_t key_len, const void *value, size_t len, struct flume_err *err) {
  int rv;
  if (key_len > UINT32_MAX - 64 || len > UINT32_MAX - 64 - key_len) {
    return flume_err_set(err, FLUME_E2BIG, "a key and its value of more than 4 GiB");
  }
  if (flume__row_is_cut(key_len)) {
    struct flume_buf whole;
    flume_buf_init(&whole, store->io);
    rv = make_value(&whole, key, key_len, value, len);
    if (rv == 0) rv = flume_memtable_put(&store->tables[kind], row->bytes, row->len, whole.data, whole.len);
    flume_buf_fini(&whole);
  } else {
    rv = flume_memtable_put(&store->tables[kind], row->bytes, row->len, value != NULL ? value : "", len);
  }
  return rv == 0 ? 0 : flume_err_nomem(err);
}

/* In memory there is nothing below that a note would have to hide. */
static int del_row(struct flume_store *store, enum flume_store_kind kind, const uint8_t *row, size_t len,
                   struct flume_err *err) {
  if (store->dir == NULL) {
    flume_memtable_remove(&store->tables[kind], row, len);
    return 0;
  }
  return flume_memtable_put(&store->tables[kind], row, len, NULL, 0) == 0 ? 0 : flume_err_nomem(err);
}

/* --- Opening ----------------------------------------------------------------------------------------------------- */

int flume_store_open(struct flume_store **out, const struct flume_io *io, const char *dir,
                     enum flume_store_access access, struct flume_err *err) {
  struct flume_store *store = flume_io_zalloc(io, sizeof *store);
  if (store == NULL) return flume_err_nomem(err);
  store->io = io;
  store->access = access;
  if (dir != NULL) {
    store->dir = flume_io_alloc(io, strlen(dir) + 1);
    if (store->dir == NULL) {
      flume_io_free(io, store);
      return flume_err_nomem(err);
    }
    strcpy(store->dir, dir);
  }
  flume_memtable_init(&store->tables[FLUME_STORE_GROUPS], io);
  flume_memtable_init(&store->tables[FLUME_STORE_INDEX], io);
  flume_buf_init(&store->state, io);
  *out = store;
  return 0;
}

void flume_store_close(struct flume_store *store) {
  if (store->env != NULL) mdb_env_close(store->env);
  flume_memtable_fini(&store->tables[FLUME_STORE_GROUPS]);
  flume_memtable_fini(&store->tables[FLUME_STORE_INDEX]);
  flume_buf_fini(&store->state);
  flume_io_free(store->io, store->dir);
  flume_io_free(store->io, store);
}

int flume_store_load(struct flume_store *store, struct flume_store_meta *meta, struct flume_err *err) {
  if (store->dir != NULL) return flume__store_load_meta(store, meta, err);
  if (!store->has_meta) return flume_err_set(err, FLUME_ENOENT, "nothing was committed yet");
  *meta = store->meta;
  return 0;
}

static void forget_pending(struct flume_store *store) {
  flume_memtable_clear(&store->tables[FLUME_STORE_GROUPS]);
  flume_memtable_clear(&store->tables[FLUME_STORE_INDEX]);
  flume_buf_fini(&store->state);
  store->has_state = false;
}

int flume_store_commit(struct flume_store *store, const struct flume_store_meta *meta, struct flume_err *err) {
  if (store->access == FLUME_STORE_READ) return flume_err_set(err, FLUME_EREADONLY, "the store was opened for reading");
  if (store->dir == NULL) {
    store->meta = *meta;
    store->has_meta = true;
    return 0;
  }
  int rv = flume__store_write(store, meta, err);
  if (rv == 0) forget_pending(store);
  return rv;
}

void flume_store_rollback(struct flume_store *store) {
  forget_pending(store);
}

int flume_store_clear(struct flume_store *store, struct flume_err *err) {
  if (store->access == FLUME_STORE_READ) return flume_err_set(err, FLUME_EREADONLY, "the store was opened for reading");
  forget_pending(store);
  store->has_meta = false;
  return store->dir == NULL ? 0 : flume__store_drop(store, err);
}

size_t flume_store_pending_bytes(const struct flume_store *store) {
  return store->tables[FLUME_STORE_GROUPS].bytes + store->tables[FLUME_STORE_INDEX].bytes + store->state.cap;
}

uint64_t flume_store_size_bytes(const struct flume_store *store) {
  return store->dir != NULL ? flume__store_disk_bytes(store) : flume_store_pending_bytes(store);
}

/* --- State and groups -------------------------------------------------------------------------------------------- */

int flume_store_put_state(struct flume_store *store, const void *value, size_t len, struct flume_err *err) {
  int rv = flume_buf_reserve(&store->state, len > store->state.len ? len - store->state.len : 0);
  if (rv != 0) return flume_err_nomem(err);
  store->state.len = 0;
  store->has_state = true;
  flume_buf_append(&store->state, value, len);
  return 0;
}

int flume_store_get_state(struct flume_store *store, struct flume_buf *value, struct flume_err *err) {
  if (store->has_state) {
    return flume_buf_append(value, store->state.data, store->state.len) == 0 ? 0 : flume_err_nomem(err);
  }
  if (store->dir == NULL) return flume_err_set(err, FLUME_ENOENT, "there is no state");
  return flume__store_read_state(store, value, err);
}

int flume_store_put_group(struct flume_store *store, const void *key, size_t key_len, const void *value, size_t len,
                          struct flume_err *err) {
  struct flume__row row;
  flume__row_make(&row, FLUME_STORE_GROUPS, key, key_len, -1, 0);
  return put_row(store, FLUME_STORE_GROUPS, &row, key, key_len, value, len, err);
}

int flume_store_del_group(struct flume_store *store, const void *key, size_t key_len, struct flume_err *err) {
  struct flume__row row;
  flume__row_make(&row, FLUME_STORE_GROUPS, key, key_len, -1, 0);
  return del_row(store, FLUME_STORE_GROUPS, row.bytes, row.len, err);
}

/* The value in a row that was found, if it is this key's. */
static int take_value(const struct flume__row *row, const uint8_t *found, size_t found_len, struct flume_buf *value) {
  struct flume_store_entry entry;
  int rv = flume__row_read(FLUME_STORE_GROUPS, row->bytes, row->len, found, found_len, &entry);
  return rv == 0 ? flume_buf_append(value, entry.value, entry.value_len) : rv;
}

static int get_from_disk(struct flume_store *store, const struct flume__row *row, struct flume_buf *value,
                         struct flume_err *err) {
  MDB_txn *txn;
  MDB_val key = {.mv_data = (void *)row->bytes, .mv_size = row->len}, val;
  int rv = flume__store_begin(store, &txn, err);
  if (rv != 0) return rv;
  rv = mdb_get(txn, store->dbs[FLUME_STORE_GROUPS], &key, &val);
  if (rv == 0) rv = take_value(row, val.mv_data, val.mv_size, value);
  mdb_txn_abort(txn);
  return rv == 0 ? 0 : flume__store_fail(store, err, rv, "reading");
}

int flume_store_get_group(struct flume_store *store, const void *key, size_t key_len, struct flume_buf *value,
                          struct flume_err *err) {
  struct flume__row row;
  flume__row_make(&row, FLUME_STORE_GROUPS, key, key_len, -1, 0);
  const struct flume_mem_entry *entry = flume_memtable_get(&store->tables[FLUME_STORE_GROUPS], row.bytes, row.len);
  if (entry != NULL && !entry->gone) {
    int rv = take_value(&row, flume_mem_value(entry), entry->value_len, value);
    return rv == 0 ? 0 : flume_err_set(err, rv, "reading a group: %s", flume_strerror(rv));
  }
  if (entry != NULL || store->dir == NULL) return flume_err_set(err, FLUME_ENOENT, "there is no such group");
  return get_from_disk(store, &row, value, err);
}

/* --- Index ------------------------------------------------------------------------------------------------------- */

/* How many entries the table has for the key and seq. */
static uint32_t next_ordinal(const struct flume_store *store, const struct flume__row *first) {
  const struct flume_memtable *table = &store->tables[FLUME_STORE_INDEX];
  struct flume_mem_place place = flume_memtable_seek(table, first->bytes, first->len);
  const struct flume_mem_entry *entry;
  uint32_t ordinal = 0;
  while ((entry = flume_memtable_next(table, &place)) != NULL && entry->key_len == first->len &&
         memcmp(entry->bytes, first->bytes, first->len - 4) == 0) {
    if (!entry->gone) ordinal = flume_get_be32(entry->bytes + first->len - 4) + 1;
  }
  return ordinal;
}

int flume_store_add_entry(struct flume_store *store, const void *key, size_t key_len, int64_t seq, const void *value,
                          size_t len, struct flume_err *err) {
  struct flume__row row;
  assert(seq >= 0);
  flume__row_make(&row, FLUME_STORE_INDEX, key, key_len, seq, 0);
  flume_put_be32(row.bytes + row.len - 4, next_ordinal(store, &row));
  return put_row(store, FLUME_STORE_INDEX, &row, key, key_len, value, len, err);
}

/* Notes as deleted what is in LMDB for the key and seq. */
static int remove_from_disk(struct flume_store *store, const struct flume__row *first, struct flume_err *err) {
  MDB_txn *txn;
  MDB_cursor *cursor;
  MDB_val key = {.mv_data = (void *)first->bytes, .mv_size = first->len}, val;
  int rv = flume__store_begin(store, &txn, err);
  if (rv != 0) return rv == FLUME_ENOENT ? 0 : rv;
  rv = mdb_cursor_open(txn, store->dbs[FLUME_STORE_INDEX], &cursor);
  if (rv == 0) {
    rv = mdb_cursor_get(cursor, &key, &val, MDB_SET_RANGE);
    while (rv == 0 && key.mv_size == first->len && memcmp(key.mv_data, first->bytes, first->len - 4) == 0) {
      if (del_row(store, FLUME_STORE_INDEX, key.mv_data, key.mv_size, NULL) != 0) rv = FLUME_ENOMEM;
      else rv = mdb_cursor_get(cursor, &key, &val, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
  }
  mdb_txn_abort(txn);
  if (rv == FLUME_ENOMEM) return flume_err_nomem(err);
  return rv == 0 || rv == MDB_NOTFOUND ? 0 : flume__store_fail(store, err, rv, "reading");
}

int flume_store_remove_entries(struct flume_store *store, const void *key, size_t key_len, int64_t seq,
                               struct flume_err *err) {
  struct flume__row row;
  flume__row_make(&row, FLUME_STORE_INDEX, key, key_len, seq, 0);
  uint32_t count = next_ordinal(store, &row);
  for (uint32_t i = 0; i < count; i++) {
    flume_put_be32(row.bytes + row.len - 4, i);
    int rv = del_row(store, FLUME_STORE_INDEX, row.bytes, row.len, err);
    if (rv != 0) return rv;
  }
  flume_put_be32(row.bytes + row.len - 4, 0);
  return store->dir != NULL ? remove_from_disk(store, &row, err) : 0;
}
