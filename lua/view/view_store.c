#include "lua/view/view_store.h"

#include "core/base/bytes.h"

#define ENTRY_HEADER_BYTES 8

int flume__store_init(struct flume_lua_store *self, const struct flume_io *io) {
  *self = (struct flume_lua_store){.seq = -1, .own = {.store = self}, .recent = {.from_seq = INT64_MAX}};
  flume_buf_init(&self->emitted, io);
  flume_buf_init(&self->recent.entries, io);
  flume_buf_init(&self->packed, io);
  flume_buf_init(&self->key, io);
  flume_buf_init(&self->value, io);
  flume_buf_init(&self->lower, io);
  flume_buf_init(&self->upper, io);
  return uv_mutex_init(&self->guard);
}

void flume__store_fini(struct flume_lua_store *self) {
  if (self->store != NULL) flume_store_close(self->store);
  self->store = NULL;
  flume_aggregate_free(self->own.aggregate);
  self->own.aggregate = NULL;
  flume_buf_fini(&self->emitted);
  flume_buf_fini(&self->recent.entries);
  flume_buf_fini(&self->packed);
  flume_buf_fini(&self->key);
  flume_buf_fini(&self->value);
  flume_buf_fini(&self->lower);
  flume_buf_fini(&self->upper);
  uv_mutex_destroy(&self->guard);
}

/* --- Who is at it ------------------------------------------------------------------------------------------------- */

void flume__store_announce(struct flume_lua_store *self) {
  uv_mutex_lock(&self->guard);
  self->has_writer = true;
  self->is_read = false;
  uv_mutex_unlock(&self->guard);
}

void flume__store_await(struct flume_lua_store *self) {
  uv_mutex_lock(&self->guard);
  self->is_read = self->has_writer;
  uv_mutex_unlock(&self->guard);
}

bool flume__store_begin_write(struct flume_lua_store *self) {
  uv_mutex_lock(&self->guard);
  if (!self->is_read) return true;
  self->has_writer = false;
  uv_mutex_unlock(&self->guard);
  return false;
}

void flume__store_end_write(struct flume_lua_store *self) {
  self->has_writer = false;
  uv_mutex_unlock(&self->guard);
}

/* --- What a record emits ---------------------------------------------------------------------------------------- */

int flume__emitted_add(struct flume_buf *emitted, const struct flume_buf *key, const struct flume_buf *value) {
  uint8_t header[ENTRY_HEADER_BYTES];
  int rv = flume_buf_reserve(emitted, sizeof header + key->len + value->len);
  if (rv != 0) return rv;
  flume_put_le32(header, (uint32_t)key->len);
  flume_put_le32(header + 4, (uint32_t)value->len);
  flume_buf_append(emitted, header, sizeof header);
  flume_buf_append(emitted, key->data, key->len);
  flume_buf_append(emitted, value->data, value->len);
  return 0;
}

bool flume__emitted_next(const struct flume_buf *emitted, size_t *off, struct flume_emitted *entry) {
  if (*off >= emitted->len) return false;
  const uint8_t *header = emitted->data + *off;
  entry->key_len = flume_get_le32(header);
  entry->value_len = flume_get_le32(header + 4);
  entry->key = header + ENTRY_HEADER_BYTES;
  entry->value = entry->key + entry->key_len;
  *off += ENTRY_HEADER_BYTES + entry->key_len + entry->value_len;
  return true;
}

/* For followers: appends the entries of the record, behind its seq and their length. When the list is too long, it
 * is dropped, and followers read the range again. */
static void note_recent(struct flume_lua_store *self) {
  struct flume_recent *recent = &self->recent;
  uint8_t header[FLUME_RECENT_HEADER_BYTES];
  if (recent->readers == 0 || self->emitted.len == 0) return;
  flume_put_le64(header, (uint64_t)self->seq);
  flume_put_le64(header + 8, self->emitted.len);
  bool fits = recent->entries.len + self->emitted.len <= FLUME_RECENT_MAX_BYTES;
  if (fits && flume_buf_reserve(&recent->entries, sizeof header + self->emitted.len) == 0) {
    flume_buf_append(&recent->entries, header, sizeof header);
    flume_buf_append(&recent->entries, self->emitted.data, self->emitted.len);
    return;
  }
  flume__store_forget_recent(self);
}

void flume__store_forget_recent(struct flume_lua_store *self) {
  self->recent.entries.len = 0;
  if (self->recent.readers > 0) self->recent.from_seq = self->seq + 1;
}

/* Removes the record from the recent records. */
static void drop_recent(struct flume_lua_store *self, int64_t seq) {
  struct flume_buf *entries = &self->recent.entries;
  for (size_t at = 0; at < entries->len;) {
    size_t len = FLUME_RECENT_HEADER_BYTES + flume_get_le64(entries->data + at + 8);
    if ((int64_t)flume_get_le64(entries->data + at) != seq) {
      at += len;
      continue;
    }
    memmove(entries->data + at, entries->data + at + len, entries->len - at - len);
    entries->len -= len;
  }
}

void flume__store_note_group(struct flume_lua_store *self) {
  if (self->recent.readers == 0) return;
  self->emitted.len = 0;
  if (flume__emitted_add(&self->emitted, &self->key, &self->value) == 0) note_recent(self);
  self->emitted.len = 0;
}

int flume__store_aggregate_add(struct flume_lua_store *self, const uint8_t *record, size_t len, struct flume_err *err) {
  int rv = flume_aggregate_add(self->own.aggregate, self->store, self->base, record, len, err);
  if (rv != 0 || self->recent.readers == 0) return rv;
  self->key.len = self->value.len = 0;
  rv = flume_aggregate_last(self->own.aggregate, &self->key, &self->value);
  if (rv < 0) return flume_err_nomem(err);
  if (rv == 1) flume__store_note_group(self);
  return 0;
}

int flume__store_aggregate_remove(struct flume_lua_store *self, const uint8_t *record, size_t len,
                                  struct flume_err *err) {
  int rv = flume_aggregate_remove(self->own.aggregate, self->store, self->base, record, len, err);
  if (rv != FLUME_EAGAIN) return rv;
  self->must_rebuild = true;
  return 0;
}

static int add_entries(struct flume_lua_store *self, struct flume_err *err) {
  struct flume_emitted entry;
  size_t off = 0;
  int rv = 0;
  while (rv == 0 && flume__emitted_next(&self->emitted, &off, &entry)) {
    rv = flume_store_add_entry(self->store, entry.key, entry.key_len, self->seq, entry.value, entry.value_len, err);
  }
  return rv;
}

int flume__store_add_emitted(struct flume_lua_store *self, struct flume_err *err) {
  int rv = add_entries(self, err);
  if (rv == 0) note_recent(self);
  self->emitted.len = 0;
  return rv;
}

int flume__store_add_used(struct flume_lua_store *self, struct flume_err *err) {
  int rv = add_entries(self, err);
  self->emitted.len = 0;
  return rv;
}

int flume__store_fold_used(struct flume_store_part *part, const uint8_t *data, uint32_t len, struct flume_err *err) {
  struct flume_lua_store *self = part->store;
  if (part->aggregate != NULL) {
    return flume_aggregate_add(part->aggregate, self->store, self->base, data, len, err);
  }
  self->key.len = 0;
  if (flume_buf_append(&self->key, &part->prefix, part->prefix_len) != 0) return flume_err_nomem(err);
  int rv = flume_extract_key(part->extract, data, len, &self->key, &self->packed);
  if (rv < 0) return flume_err_set(err, rv, "the record can't be read: %s", flume_strerror(rv));
  return rv == 0 ? 0 : flume_store_add_entry(self->store, self->key.data, self->key.len, self->seq, NULL, 0, err);
}

int flume__store_remove_emitted(struct flume_lua_store *self, struct flume_err *err) {
  struct flume_emitted entry;
  size_t off = 0;
  int rv = 0;
  while (rv == 0 && flume__emitted_next(&self->emitted, &off, &entry)) {
    rv = flume_store_remove_entries(self->store, entry.key, entry.key_len, self->seq, err);
  }
  drop_recent(self, self->seq);
  self->emitted.len = 0;
  return rv;
}
