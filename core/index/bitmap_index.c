/* A hash table has the bitmaps in memory: those that were changed and those that were read. A missing bitmap is
 * remembered as NULL, since it is asked for as often.
 *
 * In the store a bitmap is a group. Its name is the key and the span, 8 bytes big-endian; its value is CRoaring's
 * portable format. */
#include "index/bitmap_index.h"

#include <assert.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/hash.h"

enum {
  FIRST_BUCKETS = 64,
  SPAN_BYTES = 8,
  ENTRY_BYTES = 160, /* of memory that an entry takes beside key and bits, about */
  KEY_MAX = FLUME_STORE_KEY_MAX - SPAN_BYTES,
  KEY_KEPT = 440, /* bytes of a longer key that are kept as they are */
  KEY_DIGEST = 16,
  CLEAN_MAX_BYTES = 8 << 20, /* of what is at hand and not pending */
};

struct entry {
  struct entry *next;       /* in the bucket */
  roaring_bitmap_t *bitmap; /* NULL: empty */
  uint32_t hash;
  uint32_t key_len; /* with the span */
  size_t bytes;     /* of memory, about */
  bool changed;
  uint8_t key[];
};

struct flume_bitmaps {
  const struct flume_io *io;
  struct flume_store *store;
  struct entry **buckets;
  size_t buckets_count; /* a power of two */
  size_t count;
  size_t clean_bytes;
  size_t changed_bytes;
  struct flume_buf key; /* scratch, so are the next two */
  struct flume_buf value;
  struct entry *last; /* that was asked for; NULL for none */
};

int flume_bitmaps_new(const struct flume_io *io, struct flume_bitmaps **out, struct flume_err *err) {
  struct flume_bitmaps *self = flume_io_zalloc(io, sizeof *self);
  if (self == NULL) return flume_err_nomem(err);
  self->io = io;
  self->buckets_count = FIRST_BUCKETS;
  self->buckets = flume_io_zalloc(io, FIRST_BUCKETS * sizeof *self->buckets);
  if (self->buckets == NULL) {
    flume_io_free(io, self);
    return flume_err_nomem(err);
  }
  flume_buf_init(&self->key, io);
  flume_buf_init(&self->value, io);
  *out = self;
  return 0;
}

static void free_entry(struct flume_bitmaps *self, struct entry *entry) {
  assert(self->count > 0 && entry->bytes <= (entry->changed ? self->changed_bytes : self->clean_bytes));
  if (entry->changed) self->changed_bytes -= entry->bytes;
  else self->clean_bytes -= entry->bytes;
  self->count--;
  if (entry->bitmap != NULL) roaring_bitmap_free(entry->bitmap);
  flume_io_free(self->io, entry);
}

/* Frees the entries that are clean, or all. */
static void let_go(struct flume_bitmaps *self, bool also_changed) {
  self->last = NULL;
  for (size_t i = 0; i < self->buckets_count; i++) {
    struct entry **at = &self->buckets[i];
    while (*at != NULL) {
      struct entry *entry = *at;
      if (entry->changed && !also_changed) {
        at = &entry->next;
        continue;
      }
      *at = entry->next;
      free_entry(self, entry);
    }
  }
}

void flume_bitmaps_free(struct flume_bitmaps *self) {
  if (self == NULL) return;
  let_go(self, true);
  flume_io_free(self->io, self->buckets);
  flume_buf_fini(&self->key);
  flume_buf_fini(&self->value);
  flume_io_free(self->io, self);
}

void flume_bitmaps_use(struct flume_bitmaps *self, struct flume_store *store) {
  let_go(self, true);
  self->store = store;
}

void flume_bitmaps_trim(struct flume_bitmaps *self) {
  if (self->clean_bytes > CLEAN_MAX_BYTES) let_go(self, false);
}

size_t flume_bitmaps_pending_bytes(const struct flume_bitmaps *self) {
  return self->changed_bytes;
}

/* --- The table --------------------------------------------------------------------------------------------------- */

static size_t bytes_of(const struct entry *entry) {
  size_t bits = entry->bitmap != NULL ? roaring_bitmap_portable_size_in_bytes(entry->bitmap) : 0;
  return ENTRY_BYTES + entry->key_len + bits;
}

static void grow(struct flume_bitmaps *self) {
  size_t count = self->buckets_count * 2;
  struct entry **buckets = flume_io_zalloc(self->io, count * sizeof *buckets);
  if (buckets == NULL) return; /* the chains get longer */
  for (size_t i = 0; i < self->buckets_count; i++) {
    while (self->buckets[i] != NULL) {
      struct entry *entry = self->buckets[i];
      self->buckets[i] = entry->next;
      entry->next = buckets[entry->hash & (count - 1)];
      buckets[entry->hash & (count - 1)] = entry;
    }
  }
  flume_io_free(self->io, self->buckets);
  self->buckets = buckets;
  self->buckets_count = count;
}

static bool is_of(const struct entry *entry, const void *key, size_t key_len, const uint8_t *span) {
  return entry->key_len == key_len + SPAN_BYTES && memcmp(entry->key, key, key_len) == 0 &&
         memcmp(entry->key + key_len, span, SPAN_BYTES) == 0;
}

/* What the store has; NULL for nothing. */
static int load(struct flume_bitmaps *self, const struct entry *entry, roaring_bitmap_t **bitmap,
                struct flume_err *err) {
  *bitmap = NULL;
  if (self->store == NULL) return 0;
  self->value.len = 0;
  int rv = flume_store_get_group(self->store, entry->key, entry->key_len, &self->value, err);
  if (rv == FLUME_ENOENT) return 0;
  if (rv != 0) return rv;
  const char *data = (const char *)self->value.data;
  size_t len = roaring_bitmap_portable_deserialize_size(data, self->value.len);
  if (len == 0 || len != self->value.len) return flume_err_set(err, FLUME_ECORRUPT, "a bitmap is damaged");
  *bitmap = roaring_bitmap_portable_deserialize_safe(data, len);
  return *bitmap != NULL ? 0 : flume_err_nomem(err);
}

/* NULL, and *rv says why. */
static struct entry *make_entry(struct flume_bitmaps *self, const void *key, size_t key_len, const uint8_t *span,
                                uint32_t hash, int *rv, struct flume_err *err) {
  struct entry *entry = flume_io_alloc(self->io, sizeof *entry + key_len + SPAN_BYTES);
  if (entry == NULL) {
    *rv = flume_err_nomem(err);
    return NULL;
  }
  entry->hash = hash;
  entry->key_len = (uint32_t)(key_len + SPAN_BYTES);
  entry->changed = false;
  memcpy(entry->key, key, key_len);
  memcpy(entry->key + key_len, span, SPAN_BYTES);
  *rv = load(self, entry, &entry->bitmap, err);
  if (*rv != 0) {
    flume_io_free(self->io, entry);
    return NULL;
  }
  entry->bytes = bytes_of(entry);
  self->clean_bytes += entry->bytes;
  if (self->count++ >= self->buckets_count) grow(self);
  struct entry **bucket = &self->buckets[hash & (self->buckets_count - 1)];
  entry->next = *bucket;
  *bucket = entry;
  return entry;
}

/* A key that is too long for the store is cut; its length, checksum and a hash stand for the rest. Bitmaps have no order,
 * so that a cut key only has to differ from all others: two keys that agree in the digest and in what was kept are
 * taken for one, 1 in 2^96. */
static void cut_key(const uint8_t **key, size_t *key_len, uint8_t *out) {
  if (*key_len <= KEY_MAX) return;
  memcpy(out, *key, KEY_KEPT);
  flume_put_be64(out + KEY_KEPT, flume_hash64(*key, *key_len));
  flume_put_be32(out + KEY_KEPT + 8, flume_crc32c(0, *key, *key_len));
  flume_put_be32(out + KEY_KEPT + 12, (uint32_t)*key_len);
  *key = out;
  *key_len = KEY_KEPT + KEY_DIGEST;
}

/* NULL, and *rv says why. */
static struct entry *find(struct flume_bitmaps *self, const void *given, size_t key_len, int64_t span, int *rv,
                          struct flume_err *err) {
  uint8_t bytes[SPAN_BYTES], cut[KEY_KEPT + KEY_DIGEST];
  const uint8_t *key = given;
  *rv = 0;
  assert(span >= 0 && key_len > 0);
  if (key_len > UINT32_MAX - SPAN_BYTES) {
    *rv = flume_err_set(err, FLUME_E2BIG, "a key of more than 4 GiB");
    return NULL;
  }
  cut_key(&key, &key_len, cut);
  flume_put_be64(bytes, (uint64_t)span);
  if (self->last != NULL && is_of(self->last, key, key_len, bytes)) return self->last;
  uint32_t hash = flume_crc32c(flume_crc32c(0, key, key_len), bytes, SPAN_BYTES);
  struct entry *entry = self->buckets[hash & (self->buckets_count - 1)];
  while (entry != NULL && !(entry->hash == hash && is_of(entry, key, key_len, bytes))) entry = entry->next;
  if (entry == NULL) entry = make_entry(self, key, key_len, bytes, hash, rv, err);
  if (entry != NULL) self->last = entry;
  return entry;
}

int flume_bitmaps_get(struct flume_bitmaps *self, const void *key, size_t key_len, int64_t span,
                      const roaring_bitmap_t **bitmap, struct flume_err *err) {
  int rv;
  struct entry *entry = find(self, key, key_len, span, &rv, err);
  if (entry == NULL) return rv;
  bool is_empty = entry->bitmap == NULL || roaring_bitmap_is_empty(entry->bitmap);
  *bitmap = is_empty ? NULL : entry->bitmap;
  return 0;
}

/* --- Changing ---------------------------------------------------------------------------------------------------- */

/* Counts two bytes of memory for each change. */
static void note_change(struct flume_bitmaps *self, struct entry *entry) {
  assert(entry == self->last);
  if (!entry->changed) {
    entry->changed = true;
    self->clean_bytes -= entry->bytes;
    self->changed_bytes += entry->bytes;
  }
  entry->bytes += 2;
  self->changed_bytes += 2;
}

int flume_bitmaps_add(struct flume_bitmaps *self, const void *key, size_t key_len, int64_t seq, struct flume_err *err) {
  int rv;
  if (seq < 0) return flume_err_set(err, FLUME_EINVAL, "a seq below 0");
  struct entry *entry = find(self, key, key_len, seq >> FLUME_BITMAP_SPAN_BITS, &rv, err);
  if (entry == NULL) return rv;
  if (entry->bitmap == NULL) entry->bitmap = roaring_bitmap_create();
  if (entry->bitmap == NULL) return flume_err_nomem(err);
  roaring_bitmap_add(entry->bitmap, (uint32_t)(seq & (FLUME_BITMAP_SPAN - 1)));
  note_change(self, entry);
  return 0;
}

int flume_bitmaps_remove(struct flume_bitmaps *self, const void *key, size_t key_len, int64_t seq,
                         struct flume_err *err) {
  int rv;
  if (seq < 0) return flume_err_set(err, FLUME_EINVAL, "a seq below 0");
  struct entry *entry = find(self, key, key_len, seq >> FLUME_BITMAP_SPAN_BITS, &rv, err);
  if (entry == NULL || entry->bitmap == NULL) return rv;
  roaring_bitmap_remove(entry->bitmap, (uint32_t)(seq & (FLUME_BITMAP_SPAN - 1)));
  note_change(self, entry);
  return 0;
}

/* --- Saving ------------------------------------------------------------------------------------------------------ */

static int save_entry(struct flume_bitmaps *self, struct entry *entry, struct flume_err *err) {
  assert(entry->changed && self->store != NULL);
  if (entry->bitmap == NULL || roaring_bitmap_is_empty(entry->bitmap)) {
    return flume_store_del_group(self->store, entry->key, entry->key_len, err);
  }
  roaring_bitmap_run_optimize(entry->bitmap);
  size_t len = roaring_bitmap_portable_size_in_bytes(entry->bitmap);
  self->value.len = 0;
  int rv = flume_buf_reserve(&self->value, len);
  if (rv != 0) return flume_err_nomem(err);
  self->value.len = roaring_bitmap_portable_serialize(entry->bitmap, (char *)self->value.data);
  return flume_store_put_group(self->store, entry->key, entry->key_len, self->value.data, self->value.len, err);
}

int flume_bitmaps_save(struct flume_bitmaps *self, struct flume_err *err) {
  for (size_t i = 0; self->changed_bytes > 0 && i < self->buckets_count; i++) {
    for (struct entry *entry = self->buckets[i]; entry != NULL; entry = entry->next) {
      if (!entry->changed) continue;
      int rv = save_entry(self, entry, err);
      if (rv != 0) return rv;
      self->changed_bytes -= entry->bytes;
      entry->changed = false;
      entry->bytes = bytes_of(entry);
      self->clean_bytes += entry->bytes;
    }
  }
  assert(self->changed_bytes == 0);
  flume_bitmaps_trim(self);
  return 0;
}
