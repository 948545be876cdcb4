#include "store/memtable.h"

#include <assert.h>
#include <string.h>

#include "base/bytes.h"

#define LEAF_MAX 128
#define ENTRY_OVERHEAD 40 /* bytes: pointer, first bytes of the key, and what the allocator takes */

struct flume_mem_leaf {
  uint32_t count;
  uint64_t firsts[LEAF_MAX]; /* the first eight bytes of each key */
  struct flume_mem_entry *entries[LEAF_MAX];
};

static uint64_t first_of(const uint8_t *key, size_t len) {
  uint8_t bytes[8] = {0};
  if (len >= 8) return flume_get_be64(key);
  if (len > 0) memcpy(bytes, key, len);
  return flume_get_be64(bytes);
}

static int compare(const struct flume_mem_entry *entry, const uint8_t *key, size_t len) {
  size_t common = entry->key_len < len ? entry->key_len : len;
  int order = common > 0 ? memcmp(entry->bytes, key, common) : 0;
  return order != 0 ? order : (entry->key_len > len) - (entry->key_len < len);
}

static int compare_at(const struct flume_mem_leaf *leaf, size_t i, uint64_t first, const uint8_t *key, size_t len) {
  if (leaf->firsts[i] != first) return leaf->firsts[i] < first ? -1 : 1;
  return compare(leaf->entries[i], key, len);
}

/* --- Finding --------------------------------------------------------------------------------------------------- */

/* The last leaf whose first key is not above key; 0 when there is none. */
static size_t find_leaf(const struct flume_memtable *table, uint64_t first, const uint8_t *key, size_t len) {
  size_t low = 0, high = table->leaves_count;
  while (high - low > 1) {
    size_t middle = low + (high - low) / 2;
    bool above = table->firsts[middle] != first ? table->firsts[middle] > first
                                                : compare(table->leaves[middle]->entries[0], key, len) > 0;
    if (above) high = middle;
    else low = middle;
  }
  return low;
}

/* The first entry of the leaf that is not below key. */
static size_t find_in_leaf(const struct flume_mem_leaf *leaf, uint64_t first, const uint8_t *key, size_t len) {
  size_t low = 0, high = leaf->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (compare_at(leaf, middle, first, key, len) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

struct flume_mem_place flume_memtable_seek(const struct flume_memtable *table, const void *key, size_t key_len) {
  struct flume_mem_place place = {0, 0};
  if (table->leaves_count == 0) return place;
  uint64_t first = first_of(key, key_len);
  place.leaf = find_leaf(table, first, key, key_len);
  place.index = find_in_leaf(table->leaves[place.leaf], first, key, key_len);
  return place;
}

struct flume_mem_place flume_memtable_end(const struct flume_memtable *table) {
  return (struct flume_mem_place){table->leaves_count, 0};
}

const struct flume_mem_entry *flume_memtable_next(const struct flume_memtable *table, struct flume_mem_place *place) {
  while (place->leaf < table->leaves_count) {
    const struct flume_mem_leaf *leaf = table->leaves[place->leaf];
    if (place->index < leaf->count) return leaf->entries[place->index++];
    place->leaf++;
    place->index = 0;
  }
  return NULL;
}

const struct flume_mem_entry *flume_memtable_prev(const struct flume_memtable *table, struct flume_mem_place *place) {
  for (;;) {
    if (place->index > 0) return table->leaves[place->leaf]->entries[--place->index];
    if (place->leaf == 0) return NULL;
    place->leaf--;
    place->index = table->leaves[place->leaf]->count;
  }
}

const struct flume_mem_entry *flume_memtable_get(const struct flume_memtable *table, const void *key, size_t key_len) {
  struct flume_mem_place place = flume_memtable_seek(table, key, key_len);
  const struct flume_mem_entry *entry = flume_memtable_next(table, &place);
  return entry != NULL && compare(entry, key, key_len) == 0 ? entry : NULL;
}

/* --- Writing --------------------------------------------------------------------------------------------------- */

static size_t size_of(const struct flume_mem_entry *entry) {
  return sizeof *entry + ENTRY_OVERHEAD + entry->key_len + entry->value_cap;
}

static struct flume_mem_entry *make_entry(const struct flume_io *io, const void *key, size_t key_len,
                                          size_t value_cap) {
  struct flume_mem_entry *entry = flume_io_alloc(io, sizeof *entry + key_len + value_cap);
  if (entry == NULL) return NULL;
  entry->key_len = (uint32_t)key_len;
  entry->value_len = 0;
  entry->value_cap = (uint32_t)value_cap;
  entry->state = FLUME_MEM_PUT;
  if (key_len > 0) memcpy(entry->bytes, key, key_len);
  return entry;
}

static int reserve_leaf(struct flume_memtable *table) {
  if (table->leaves_count < table->leaves_cap) return 0;
  size_t cap = table->leaves_cap == 0 ? 16 : table->leaves_cap * 2;
  void *leaves = flume_io_realloc(table->io, table->leaves, cap * sizeof *table->leaves);
  if (leaves == NULL) return FLUME_ENOMEM;
  table->leaves = leaves;
  void *firsts = flume_io_realloc(table->io, table->firsts, cap * sizeof *table->firsts);
  if (firsts == NULL) return FLUME_ENOMEM;
  table->firsts = firsts;
  table->leaves_cap = cap;
  return 0;
}

static void insert_leaf(struct flume_memtable *table, size_t at, struct flume_mem_leaf *leaf) {
  assert(at <= table->leaves_count && table->leaves_count < table->leaves_cap);
  size_t behind = table->leaves_count - at;
  memmove(table->leaves + at + 1, table->leaves + at, behind * sizeof *table->leaves);
  memmove(table->firsts + at + 1, table->firsts + at, behind * sizeof *table->firsts);
  table->leaves[at] = leaf;
  table->leaves_count++;
  table->bytes += sizeof *leaf;
}

/* Makes room in a full leaf: half of its entries go into a new leaf. When the new key lies behind the end of the
 * leaf, none do, so that ascending keys fill their leaves. */
static int split(struct flume_memtable *table, struct flume_mem_place *place) {
  struct flume_mem_leaf *leaf = table->leaves[place->leaf];
  uint32_t stay = place->index == leaf->count ? leaf->count : leaf->count / 2;
  struct flume_mem_leaf *behind = flume_io_alloc(table->io, sizeof *behind);
  if (behind == NULL) return FLUME_ENOMEM;
  behind->count = leaf->count - stay;
  memcpy(behind->firsts, leaf->firsts + stay, behind->count * sizeof *leaf->firsts);
  memcpy(behind->entries, leaf->entries + stay, behind->count * sizeof *leaf->entries);
  leaf->count = stay;
  insert_leaf(table, place->leaf + 1, behind);
  if (behind->count > 0) table->firsts[place->leaf + 1] = behind->firsts[0];
  if (place->index < stay || (place->index == stay && behind->count > 0)) return 0;
  place->leaf++;
  place->index -= stay;
  return 0;
}

static int make_room(struct flume_memtable *table, struct flume_mem_place *place) {
  int rv = reserve_leaf(table);
  if (rv != 0) return rv;
  if (table->leaves_count > 0) return table->leaves[place->leaf]->count < LEAF_MAX ? 0 : split(table, place);
  struct flume_mem_leaf *leaf = flume_io_alloc(table->io, sizeof *leaf);
  if (leaf == NULL) return FLUME_ENOMEM;
  leaf->count = 0;
  insert_leaf(table, 0, leaf);
  return 0;
}

static void insert(struct flume_memtable *table, struct flume_mem_place place, struct flume_mem_entry *entry) {
  struct flume_mem_leaf *leaf = table->leaves[place.leaf];
  assert(leaf->count < LEAF_MAX && place.index <= leaf->count);
  assert(place.index == 0 || compare(leaf->entries[place.index - 1], entry->bytes, entry->key_len) < 0);
  assert(place.index == leaf->count || compare(leaf->entries[place.index], entry->bytes, entry->key_len) > 0);
  size_t behind = leaf->count - place.index;
  memmove(leaf->entries + place.index + 1, leaf->entries + place.index, behind * sizeof *leaf->entries);
  memmove(leaf->firsts + place.index + 1, leaf->firsts + place.index, behind * sizeof *leaf->firsts);
  leaf->entries[place.index] = entry;
  leaf->firsts[place.index] = first_of(entry->bytes, entry->key_len);
  leaf->count++;
  table->firsts[place.leaf] = leaf->firsts[0];
  table->count++;
  table->bytes += size_of(entry);
}

int flume_memtable_set(struct flume_memtable *table, const void *key, size_t key_len, size_t value_cap,
                       struct flume_mem_entry **out) {
  struct flume_mem_entry *entry = make_entry(table->io, key, key_len, value_cap);
  if (entry == NULL) return FLUME_ENOMEM;
  struct flume_mem_place place = flume_memtable_seek(table, key, key_len);
  struct flume_mem_leaf *leaf = table->leaves_count > 0 ? table->leaves[place.leaf] : NULL;
  *out = entry;
  if (leaf != NULL && place.index < leaf->count && compare(leaf->entries[place.index], key, key_len) == 0) {
    table->bytes += size_of(entry) - size_of(leaf->entries[place.index]);
    flume_io_free(table->io, leaf->entries[place.index]);
    leaf->entries[place.index] = entry;
    return 0;
  }
  int rv = make_room(table, &place);
  if (rv == 0) insert(table, place, entry);
  else flume_io_free(table->io, entry);
  return rv;
}

int flume_memtable_put(struct flume_memtable *table, const void *key, size_t key_len, const void *value, size_t len) {
  struct flume_mem_entry *entry;
  int rv = flume_memtable_set(table, key, key_len, len, &entry);
  if (rv != 0) return rv;
  if (len > 0) memcpy(flume_mem_value_of(entry), value, len);
  entry->value_len = (uint32_t)len;
  if (value == NULL) entry->state = FLUME_MEM_GONE;
  return 0;
}

struct flume_mem_entry *flume_memtable_reserve(struct flume_memtable *table, struct flume_mem_place place, size_t len) {
  assert(place.leaf < table->leaves_count && place.index < table->leaves[place.leaf]->count);
  struct flume_mem_entry **slot = &table->leaves[place.leaf]->entries[place.index], *entry = *slot;
  size_t wanted = entry->value_len + len;
  if (wanted <= entry->value_cap) return entry;
  size_t cap = (size_t)entry->value_cap * 2 > wanted ? (size_t)entry->value_cap * 2 : wanted;
  entry = flume_io_realloc(table->io, entry, sizeof *entry + entry->key_len + cap);
  if (entry == NULL) return NULL;
  table->bytes += cap - entry->value_cap;
  entry->value_cap = (uint32_t)cap;
  *slot = entry;
  return entry;
}

static void remove_leaf(struct flume_memtable *table, size_t at) {
  assert(at < table->leaves_count && table->leaves[at]->count == 0);
  size_t behind = --table->leaves_count - at;
  table->bytes -= sizeof *table->leaves[at];
  flume_io_free(table->io, table->leaves[at]);
  memmove(table->leaves + at, table->leaves + at + 1, behind * sizeof *table->leaves);
  memmove(table->firsts + at, table->firsts + at + 1, behind * sizeof *table->firsts);
}

void flume_memtable_remove(struct flume_memtable *table, const void *key, size_t key_len) {
  struct flume_mem_place place = flume_memtable_seek(table, key, key_len);
  struct flume_mem_leaf *leaf = table->leaves_count > 0 ? table->leaves[place.leaf] : NULL;
  if (leaf == NULL || place.index == leaf->count || compare(leaf->entries[place.index], key, key_len) != 0) return;
  table->bytes -= size_of(leaf->entries[place.index]);
  table->count--;
  flume_io_free(table->io, leaf->entries[place.index]);
  size_t behind = --leaf->count - place.index;
  memmove(leaf->entries + place.index, leaf->entries + place.index + 1, behind * sizeof *leaf->entries);
  memmove(leaf->firsts + place.index, leaf->firsts + place.index + 1, behind * sizeof *leaf->firsts);
  if (leaf->count == 0) remove_leaf(table, place.leaf);
  else table->firsts[place.leaf] = leaf->firsts[0];
}

/* --- Beginning and end ------------------------------------------------------------------------------------------- */

void flume_memtable_init(struct flume_memtable *table, const struct flume_io *io) {
  *table = (struct flume_memtable){.io = io};
}

void flume_memtable_clear(struct flume_memtable *table) {
  for (size_t i = 0; i < table->leaves_count; i++) {
    for (uint32_t j = 0; j < table->leaves[i]->count; j++) flume_io_free(table->io, table->leaves[i]->entries[j]);
    flume_io_free(table->io, table->leaves[i]);
  }
  table->leaves_count = table->count = table->bytes = 0;
}

void flume_memtable_fini(struct flume_memtable *table) {
  flume_memtable_clear(table);
  flume_io_free(table->io, table->leaves);
  flume_io_free(table->io, table->firsts);
  flume_memtable_init(table, table->io);
}
