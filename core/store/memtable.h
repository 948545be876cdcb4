/* An ordered map of bytes to bytes in memory: the pending rows of a store.
 *
 * The map is a sorted list of leaves, and each leaf is a sorted array of entries. The first eight bytes of a key lie
 * beside the pointer to its entry, so that most comparisons touch one cache line. An insertion moves entries of one
 * leaf, and sometimes the list.
 *
 * Invariants: no leaf is empty; firsts[i] has the first eight bytes of leaf i's first key.
 *
 * Threads: one at a time. Entries are borrowed until the map is next written; their values may be written in place. */
#ifndef FLUME_MEMTABLE_H
#define FLUME_MEMTABLE_H

#include <stdbool.h>

#include "base/io.h"

enum flume_mem_state {
  FLUME_MEM_PUT,      /* it was set */
  FLUME_MEM_REPLACED, /* it was set in place of a row on disk; the map treats it as FLUME_MEM_PUT */
  FLUME_MEM_GONE,     /* it was deleted: it hides a row on disk */
};

struct flume_mem_entry {
  uint32_t key_len;
  uint32_t value_len;
  uint32_t value_cap; /* bytes that the value has room for */
  uint8_t state;      /* enum flume_mem_state */
  uint8_t bytes[];    /* key, value */
};

struct flume_mem_leaf;

struct flume_memtable {
  const struct flume_io *io;
  struct flume_mem_leaf **leaves; /* ascending; none is empty */
  uint64_t *firsts;               /* the first eight bytes of each leaf's first key */
  size_t leaves_count;
  size_t leaves_cap;
  size_t count; /* entries */
  size_t bytes; /* of memory, about */
};

/* A place between entries. */
struct flume_mem_place {
  size_t leaf;
  size_t index;
};

static inline const uint8_t *flume_mem_value(const struct flume_mem_entry *entry) {
  return entry->bytes + entry->key_len;
}

static inline uint8_t *flume_mem_value_of(struct flume_mem_entry *entry) {
  return entry->bytes + entry->key_len;
}

void flume_memtable_init(struct flume_memtable *table, const struct flume_io *io);
void flume_memtable_fini(struct flume_memtable *table);
void flume_memtable_clear(struct flume_memtable *table);

/* Sets or replaces; the bytes are copied. value NULL: the key is noted as deleted. FLUME_ENOMEM: nothing has
 * changed. */
int flume_memtable_put(struct flume_memtable *table, const void *key, size_t key_len, const void *value, size_t len);
/* Sets or replaces an entry. Its value is empty and has room for value_cap bytes, for the caller to fill.
 * FLUME_ENOMEM: nothing has changed. */
int flume_memtable_set(struct flume_memtable *table, const void *key, size_t key_len, size_t value_cap,
                       struct flume_mem_entry **entry);
/* Makes room for len more bytes in the value of the entry behind the place. The entry may move. NULL: no memory, and
 * nothing has changed. */
struct flume_mem_entry *flume_memtable_reserve(struct flume_memtable *table, struct flume_mem_place place, size_t len);
/* Removes an entry, without a note that it was deleted. */
void flume_memtable_remove(struct flume_memtable *table, const void *key, size_t key_len);
/* The entry of key, noted as deleted or not; NULL for none. */
const struct flume_mem_entry *flume_memtable_get(const struct flume_memtable *table, const void *key, size_t key_len);

/* The place before the first entry that is not below key. */
struct flume_mem_place flume_memtable_seek(const struct flume_memtable *table, const void *key, size_t key_len);
struct flume_mem_place flume_memtable_end(const struct flume_memtable *table);
/* The entry behind the place, or before it; the place moves over that entry. NULL at the end. */
const struct flume_mem_entry *flume_memtable_next(const struct flume_memtable *table, struct flume_mem_place *place);
const struct flume_mem_entry *flume_memtable_prev(const struct flume_memtable *table, struct flume_mem_place *place);

#endif
