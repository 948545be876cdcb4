/* Entries of an index. A new entry goes to the last pending chunk of its key, or begins a chunk. Removing rewrites
 * the chunk that has the entry; a chunk on disk becomes pending thereby, and replaces the row there. */
#include <assert.h>

#include "base/bytes.h"
#include "store/store_private.h"

static const char *const too_early = "an entry of record %lld, behind one of record %lld";

/* The pending row of the key that begins last, at seq or before; NULL for none. place is left before it. */
static const struct flume_mem_entry *find_pending(const struct flume_store *store, struct flume_buf *name, int64_t seq,
                                                  struct flume_mem_place *place) {
  const struct flume_memtable *table = &store->tables[FLUME_STORE_INDEX];
  flume__row_name_set_seq(name, seq + 1);
  *place = flume_memtable_seek(table, name->data, name->len);
  flume__row_name_set_seq(name, seq);
  const struct flume_mem_entry *entry = flume_memtable_prev(table, place);
  bool found = entry != NULL && flume__row_is_same_key(entry->bytes, entry->key_len, name->data, name->len);
  return found ? entry : NULL;
}

/* --- Adding ------------------------------------------------------------------------------------------------------ */

/* Whether the pending row may take one more entry. */
static bool takes(const struct flume_mem_entry *entry, int64_t seq, size_t len) {
  if (entry->state != FLUME_MEM_PUT) return false;
  return entry->value_len + FLUME_CHUNK_ITEM_BYTES + len <= FLUME_CHUNK_BYTES ||
         flume_chunk_last_seq(flume_mem_value(entry)) == seq;
}

static void append(struct flume_mem_entry *entry, int64_t seq, const void *value, size_t len) {
  size_t chunk_len = flume_chunk_append(flume_mem_value_of(entry), entry->value_len, seq, value, len);
  assert(chunk_len <= entry->value_cap);
  entry->value_len = (uint32_t)chunk_len;
}

static int begin_chunk(struct flume_store *store, int64_t seq, const void *value, size_t len) {
  struct flume_mem_entry *entry;
  const struct flume_buf *name = &store->name;
  size_t cap = FLUME_CHUNK_HEADER_BYTES + FLUME_CHUNK_ITEM_BYTES + len;
  int rv = flume_memtable_set(&store->tables[FLUME_STORE_INDEX], name->data, name->len, cap, &entry);
  if (rv != 0) return rv;
  entry->value_len = (uint32_t)flume_chunk_begin(flume_mem_value_of(entry), seq);
  append(entry, seq, value, len);
  return 0;
}

/* The sizes that an entry may have. */
static int check_entry(size_t key_len, size_t len, size_t taken, struct flume_err *err) {
  if (key_len == 0) return flume_err_set(err, FLUME_EINVAL, "an empty key");
  if (key_len > FLUME_STORE_KEY_MAX) {
    return flume_err_set(err, FLUME_E2BIG, "a key of %zu bytes (at most %d)", key_len, FLUME_STORE_KEY_MAX);
  }
  if (len > UINT32_MAX - 1024 - key_len || taken > UINT32_MAX - 1024 - key_len - len) {
    return flume_err_set(err, FLUME_E2BIG, "a key with its entries of one record of more than 4 GiB");
  }
  return 0;
}

int flume_store_add_entry(struct flume_store *store, const void *key, size_t key_len, int64_t seq, const void *value,
                          size_t len, struct flume_err *err) {
  struct flume_mem_place place;
  if (seq < store->last_seq || seq <= store->committed_seq) {
    return flume_err_set(err, FLUME_EINVAL, too_early, (long long)seq, (long long)store->last_seq);
  }
  int rv = check_entry(key_len, len, 0, err);
  if (rv != 0) return rv;
  if (flume__row_name_make(&store->name, FLUME_STORE_INDEX, key, key_len, seq) != 0) return flume_err_nomem(err);
  const struct flume_mem_entry *last = find_pending(store, &store->name, seq, &place);
  rv = check_entry(key_len, len, last != NULL ? last->value_len : 0, err);
  if (rv != 0) return rv;
  if (last != NULL && takes(last, seq, len)) {
    struct flume_mem_entry *entry =
        flume_memtable_reserve(&store->tables[FLUME_STORE_INDEX], place, FLUME_CHUNK_ITEM_BYTES + len);
    if (entry == NULL) return flume_err_nomem(err);
    append(entry, seq, value, len);
  } else if (begin_chunk(store, seq, value, len) != 0) {
    return flume_err_nomem(err);
  }
  assert(seq > store->committed_seq);
  store->last_seq = seq;
  return 0;
}

/* --- Removing ---------------------------------------------------------------------------------------------------- */

/* Puts the row with this name without its entries of seq. state: of the new row. name is not in the table. */
static int rewrite(struct flume_store *store, const struct flume_buf *name, const struct flume__row *row, int64_t seq,
                   enum flume_mem_state state) {
  struct flume_memtable *table = &store->tables[FLUME_STORE_INDEX];
  struct flume_chunk chunk;
  struct flume_mem_entry *entry;
  struct flume_buf body;
  int rv = flume_chunk_open(&chunk, row->seq, row->data, row->len);
  if (rv != 0) return rv;
  flume_buf_init(&body, store->io);
  int64_t left = flume_chunk_without(&chunk, seq, &body);
  if (left < 0) {
    rv = (int)left;
  } else if (left == 0 && state == FLUME_MEM_PUT) {
    flume_memtable_remove(table, name->data, name->len);
  } else if (left == 0) {
    rv = flume_memtable_put(table, name->data, name->len, NULL, 0);
  } else if (left < chunk.count) {
    rv = flume_memtable_set(table, name->data, name->len, body.len, &entry);
    if (rv == 0) {
      memcpy(flume_mem_value_of(entry), body.data, body.len);
      entry->value_len = (uint32_t)body.len;
      entry->state = (uint8_t)state;
    }
  }
  flume_buf_fini(&body);
  return rv;
}

/* name: of the key; its seq becomes that of the row. */
static int remove_pending(struct flume_store *store, struct flume_buf *name, const struct flume_mem_entry *entry,
                          int64_t seq) {
  struct flume__row row;
  if (entry->state == FLUME_MEM_GONE) return 0;
  assert(entry->key_len == name->len && flume__row_is_same_key(entry->bytes, entry->key_len, name->data, name->len));
  int rv =
      flume__row_read(&row, FLUME_STORE_INDEX, entry->bytes, entry->key_len, flume_mem_value(entry), entry->value_len);
  if (rv != 0) return rv;
  flume__row_name_set_seq(name, row.seq);
  return rewrite(store, name, &row, seq, (enum flume_mem_state)entry->state);
}

/* pending: the row that begins last of those that are pending, or NULL. Of it and the one on disk, the later has
 * seq. */
static int remove_later(struct flume_store *store, struct flume__rows *rows, int64_t seq,
                        const struct flume_mem_entry *pending) {
  struct flume_buf *name = &store->name;
  struct flume__row row;
  bool at_end;
  int rv = flume__rows_find_before(rows, name->data, name->len, &at_end);
  if (rv != 0) return rv;
  bool on_disk = rows->has_row && (pending == NULL || memcmp(rows->name, pending->bytes, name->len) > 0);
  if (!on_disk) return pending != NULL ? remove_pending(store, name, pending, seq) : 0;
  rv = flume__row_read_disk(&row, FLUME_STORE_INDEX, rows->name, rows->name_len, &rows->value);
  if (rv != 0) return rv;
  flume__row_name_set_seq(name, row.seq);
  return rewrite(store, name, &row, seq, FLUME_MEM_REPLACED);
}

static int remove_entries(struct flume_store *store, int64_t seq, const struct flume_mem_entry *pending) {
  MDB_txn *txn;
  struct flume__rows rows;
  int rv = flume__store_begin(store, &txn, NULL);
  if (rv == FLUME_ENOENT) return pending != NULL ? remove_pending(store, &store->name, pending, seq) : 0;
  if (rv != 0) return rv;
  rv = flume__rows_open(&rows, store->env, store->io, FLUME_STORE_INDEX, txn, false);
  if (rv == 0) rv = remove_later(store, &rows, seq, pending);
  flume__rows_close(&rows);
  flume__store_end(store, txn);
  return rv;
}

int flume_store_remove_entries(struct flume_store *store, const void *key, size_t key_len, int64_t seq,
                               struct flume_err *err) {
  struct flume_mem_place place;
  int rv = 0;
  if (key_len == 0 || key_len > FLUME_STORE_KEY_MAX || seq < 0) return 0;
  if (flume__row_name_make(&store->name, FLUME_STORE_INDEX, key, key_len, seq) != 0) return flume_err_nomem(err);
  const struct flume_mem_entry *pending = find_pending(store, &store->name, seq, &place);
  if (store->dir != NULL && (pending == NULL || pending->state != FLUME_MEM_PUT)) {
    rv = remove_entries(store, seq, pending);
  } else if (pending != NULL) {
    rv = remove_pending(store, &store->name, pending, seq);
  }
  return rv == 0 ? 0 : flume__store_fail(store, err, rv, "removing from");
}
