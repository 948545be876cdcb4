#include "store/store.h"

#include <assert.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "store/store_private.h"

/* --- Rows -------------------------------------------------------------------------------------------------------- */

int flume__row_name_make(struct flume_buf *name, enum flume_store_kind kind, const void *key, size_t key_len,
                         int64_t seq) {
  uint8_t suffix[FLUME__ROW_SEQ];
  name->len = 0;
  flume_put_be64(suffix, (uint64_t)seq);
  int rv = flume_buf_reserve(name, key_len + sizeof suffix);
  if (rv == 0) rv = flume_buf_append(name, key, key_len);
  return rv == 0 ? flume_buf_append(name, suffix, flume__row_suffix(kind)) : rv;
}

void flume__row_name_set_seq(struct flume_buf *name, int64_t seq) {
  assert(name->len > FLUME__ROW_SEQ);
  flume_put_be64(name->data + name->len - FLUME__ROW_SEQ, (uint64_t)seq);
}

bool flume__row_is_same_key(const void *a, size_t a_len, const void *b, size_t b_len) {
  return a_len == b_len && a_len >= FLUME__ROW_SEQ && memcmp(a, b, a_len - FLUME__ROW_SEQ) == 0;
}

int flume__row_compare(const void *a, size_t a_len, const void *b, size_t b_len) {
  size_t len = a_len < b_len ? a_len : b_len;
  int order = len > 0 ? memcmp(a, b, len) : 0;
  return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

int flume__row_read(struct flume__row *row, enum flume_store_kind kind, const void *name, size_t name_len,
                    const uint8_t *body, size_t body_len) {
  size_t suffix = flume__row_suffix(kind);
  if (name_len <= suffix) return FLUME_ECORRUPT;
  *row = (struct flume__row){.key = name, .key_len = name_len - suffix, .seq = -1, .data = body, .len = body_len};
  if (suffix > 0) row->seq = (int64_t)flume_get_be64(row->key + row->key_len);
  return 0;
}

int flume__row_read_disk(struct flume__row *row, enum flume_store_kind kind, const void *name, size_t name_len,
                         const MDB_val *value) {
  const uint8_t *data = value->mv_data;
  if (value->mv_size < FLUME__ROW_CRC) return FLUME_ECORRUPT;
  size_t len = value->mv_size - FLUME__ROW_CRC;
  uint32_t crc = flume_crc32c(flume_crc32c(0, name, name_len), data + FLUME__ROW_CRC, len);
  if (crc != flume_get_le32(data)) return FLUME_ECORRUPT;
  return flume__row_read(row, kind, name, name_len, data + FLUME__ROW_CRC, len);
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
  flume_buf_init(&store->name, io);
  store->last_seq = store->committed_seq = -1;
  *out = store;
  return 0;
}

void flume_store_close(struct flume_store *store) {
  flume__store_close_env(store);
  flume_memtable_fini(&store->tables[FLUME_STORE_GROUPS]);
  flume_memtable_fini(&store->tables[FLUME_STORE_INDEX]);
  flume_buf_fini(&store->state);
  flume_buf_fini(&store->name);
  flume_io_free(store->io, store->dir);
  flume_io_free(store->io, store);
}

int flume_store_load(struct flume_store *store, struct flume_store_meta *meta, struct flume_err *err) {
  if (store->dir == NULL && !store->has_meta) return flume_err_set(err, FLUME_ENOENT, "nothing was committed yet");
  int rv = 0;
  if (store->dir != NULL) rv = flume__store_load_meta(store, meta, err);
  else *meta = store->meta;
  if (rv != 0) return rv;
  store->committed_seq = meta->since;
  if (store->last_seq < meta->since) store->last_seq = meta->since;
  return 0;
}

static void forget_pending(struct flume_store *store) {
  assert(store->has_state || store->state.len == 0);
  flume_memtable_clear(&store->tables[FLUME_STORE_GROUPS]);
  flume_memtable_clear(&store->tables[FLUME_STORE_INDEX]);
  flume_buf_fini(&store->state);
  store->has_state = false;
  store->in_doubt = false;
}

int flume_store_commit(struct flume_store *store, const struct flume_store_meta *meta, struct flume_err *err) {
  int rv = 0;
  if (store->access == FLUME_STORE_READ) return flume_err_set(err, FLUME_EREADONLY, "the store was opened for reading");
  if (store->dir == NULL) {
    store->meta = *meta;
    store->has_meta = true;
  } else {
    rv = flume__store_write(store, meta, err);
    if (rv == 0) forget_pending(store);
  }
  if (rv == 0) store->committed_seq = store->last_seq;
  assert(store->committed_seq <= store->last_seq);
  return rv;
}

int flume_store_renew(struct flume_store *store, const struct flume_store_meta *own,
                      const struct flume_store_meta *limit, struct flume_store_meta *meta, struct flume_err *err) {
  if (store->held == NULL) return flume_err_set(err, FLUME_EAGAIN, "nothing was read yet");
  int rv = flume__store_renew(store, own, limit, meta, err);
  if (rv != 0) return rv;
  store->committed_seq = store->last_seq = meta->since;
  forget_pending(store);
  return 0;
}

void flume_store_rollback(struct flume_store *store) {
  forget_pending(store);
  flume__store_let_go(store);
  if (store->dir == NULL) {
    store->has_meta = false;
    store->committed_seq = -1;
  }
  store->last_seq = store->committed_seq;
}

int flume_store_clear(struct flume_store *store, struct flume_err *err) {
  if (store->access == FLUME_STORE_READ) return flume_err_set(err, FLUME_EREADONLY, "the store was opened for reading");
  forget_pending(store);
  store->has_meta = false;
  store->last_seq = store->committed_seq = -1;
  return store->dir == NULL ? 0 : flume__store_drop(store, err);
}

/* --- In another directory
 * ------------------------------------------------------------------------------------------ */

int flume_store_move(struct flume_store *store, const char *dir, struct flume_err *err) {
  assert(store->dir != NULL && store->tables[FLUME_STORE_GROUPS].count == 0);
  assert(store->tables[FLUME_STORE_INDEX].count == 0 && !store->has_state);
  char *copy = flume_io_alloc(store->io, strlen(dir) + 1);
  if (copy == NULL) return flume_err_nomem(err);
  strcpy(copy, dir);
  flume__store_close_env(store);
  flume_io_free(store->io, store->dir);
  store->dir = copy;
  return 0;
}

/* Exchanges the directories of two stores, and what they have open there. */
static void exchange_places(struct flume_store *store, struct flume_store *other) {
  struct flume_store old = *store;
  store->dir = other->dir;
  store->env = other->env;
  store->idle = other->idle;
  store->held = other->held;
  other->dir = old.dir;
  other->env = old.env;
  other->idle = old.idle;
  other->held = old.held;
}

int flume_store_follow(struct flume_store *store, const char *dir, const struct flume_store_meta *own,
                       const struct flume_store_meta *limit, struct flume_store_meta *meta, struct flume_err *err) {
  struct flume_store *other;
  struct flume_store_meta found = *own;
  assert(store->access == FLUME_STORE_READ);
  int rv = flume_store_open(&other, store->io, dir, FLUME_STORE_READ, err);
  if (rv != 0) return rv;
  rv = flume_store_load(other, &found, err);
  if (rv == 0 && !flume__store_fits(&found, own, limit)) {
    rv = flume_err_set(err, FLUME_EAGAIN, "what %s has does not fit", dir);
  }
  if (rv == 0) {
    exchange_places(store, other);
    store->committed_seq = store->last_seq = found.since;
    forget_pending(store);
    *meta = found;
  }
  flume_store_close(other);
  return rv;
}

int64_t flume_store_erased(struct flume_store *store, struct flume_err *err) {
  return store->dir == NULL ? 0 : flume__store_read_erased(store, err);
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

static int check_key(size_t key_len, size_t len, struct flume_err *err) {
  if (key_len == 0) return flume_err_set(err, FLUME_EINVAL, "an empty key");
  if (key_len > FLUME_STORE_KEY_MAX) {
    return flume_err_set(err, FLUME_E2BIG, "a key of %zu bytes (at most %d)", key_len, FLUME_STORE_KEY_MAX);
  }
  if (len > UINT32_MAX - 1024 - key_len) return flume_err_set(err, FLUME_E2BIG, "a value of more than 4 GiB");
  return 0;
}

int flume_store_put_group(struct flume_store *store, const void *key, size_t key_len, const void *value, size_t len,
                          struct flume_err *err) {
  struct flume_mem_entry *entry;
  int rv = check_key(key_len, len, err);
  if (rv != 0) return rv;
  rv = flume_memtable_set(&store->tables[FLUME_STORE_GROUPS], key, key_len, len, &entry);
  if (rv != 0) return flume_err_nomem(err);
  if (len > 0) memcpy(flume_mem_value_of(entry), value, len);
  entry->value_len = (uint32_t)len;
  return 0;
}

/* In memory there is no row below that a note would have to hide. */
int flume_store_del_group(struct flume_store *store, const void *key, size_t key_len, struct flume_err *err) {
  int rv = check_key(key_len, 0, err);
  if (rv != 0) return rv;
  if (store->dir == NULL) flume_memtable_remove(&store->tables[FLUME_STORE_GROUPS], key, key_len);
  else rv = flume_memtable_put(&store->tables[FLUME_STORE_GROUPS], key, key_len, NULL, 0);
  return rv == 0 ? 0 : flume_err_nomem(err);
}

static int read_group(struct flume_store *store, MDB_txn *txn, const uint8_t *key, size_t key_len,
                      struct flume_buf *value) {
  struct flume__rows rows;
  struct flume__row row;
  MDB_val body;
  int rv = flume__rows_open(&rows, store->env, store->io, FLUME_STORE_GROUPS, txn, false);
  if (rv == 0) rv = flume__rows_get(&rows, key, key_len, &body);
  if (rv == 0) rv = flume__row_read_disk(&row, FLUME_STORE_GROUPS, key, key_len, &body);
  if (rv == 0) rv = flume_buf_append(value, row.data, row.len);
  flume__rows_close(&rows);
  return rv;
}

static int get_from_disk(struct flume_store *store, const uint8_t *key, size_t key_len, struct flume_buf *value,
                         struct flume_err *err) {
  MDB_txn *txn;
  int rv = flume__store_begin(store, &txn, err);
  if (rv != 0) return rv;
  rv = read_group(store, txn, key, key_len, value);
  flume__store_end(store, txn);
  return rv == 0 ? 0 : flume__store_fail(store, err, rv, "reading");
}

int flume_store_get_group(struct flume_store *store, const void *key, size_t key_len, struct flume_buf *value,
                          struct flume_err *err) {
  int rv = check_key(key_len, 0, err);
  if (rv != 0) return rv;
  const struct flume_mem_entry *entry = flume_memtable_get(&store->tables[FLUME_STORE_GROUPS], key, key_len);
  if (entry != NULL && entry->state != FLUME_MEM_GONE) {
    rv = flume_buf_append(value, flume_mem_value(entry), entry->value_len);
    return rv == 0 ? 0 : flume_err_nomem(err);
  }
  if (entry != NULL || store->dir == NULL) return flume_err_set(err, FLUME_ENOENT, "there is no such group");
  return get_from_disk(store, key, key_len, value, err);
}
