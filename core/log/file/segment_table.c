#include "log/file/segment_table.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define LOADED_MAX_BYTES ((size_t)16 << 20)

void flume__segments_init(struct flume_segment_table *table, struct flume_log *log) {
  *table = (struct flume_segment_table){.log = log};
}

void flume__segments_clear(struct flume_segment_table *table) {
  table->loaded_count = table->loaded_bytes = 0;
  while (table->count > 0) flume_segment_unref(table->list[--table->count]);
}

void flume__segments_fini(struct flume_segment_table *table) {
  flume__segments_clear(table);
  flume_io_free(table->log->io, table->list);
  flume_io_free(table->log->io, table->loaded);
  flume__segments_init(table, table->log);
}

/* --- The list ----------------------------------------------------------------------------------------------------- */

static int grow(struct flume_segment_table *table, struct flume_segment ***array, size_t *cap) {
  size_t grown_cap = *cap > 0 ? *cap * 2 : 8;
  struct flume_segment **grown = flume_io_realloc(table->log->io, *array, grown_cap * sizeof **array);
  if (grown == NULL) return FLUME_ENOMEM;
  *array = grown;
  *cap = grown_cap;
  return 0;
}

int flume__segments_collect(struct flume_segment_table *table, struct flume_segment *segment) {
  if (table->count == table->cap && grow(table, &table->list, &table->cap) != 0) return FLUME_ENOMEM;
  table->list[table->count++] = segment;
  return 0;
}

static int by_first_seq(const void *a, const void *b) {
  const struct flume_segment *x = *(struct flume_segment *const *)a;
  const struct flume_segment *y = *(struct flume_segment *const *)b;
  return (x->first_seq > y->first_seq) - (x->first_seq < y->first_seq);
}

void flume__segments_sort(struct flume_segment_table *table) {
  if (table->count > 0) qsort(table->list, table->count, sizeof *table->list, by_first_seq);
}

void flume__segments_drop_last(struct flume_segment_table *table) {
  assert(table->count > 0);
  flume_segment_unref(table->list[--table->count]);
}

int flume__segments_reserve(struct flume_segment_table *table) {
  assert(flume__log_is_locked(table->log));
  if (table->count == table->cap && grow(table, &table->list, &table->cap) != 0) return FLUME_ENOMEM;
  if (table->loaded_cap - table->loaded_count >= 2) return 0;
  return grow(table, &table->loaded, &table->loaded_cap);
}

void flume__segments_add(struct flume_segment_table *table, struct flume_segment *segment) {
  assert(flume__log_is_locked(table->log) && table->count < table->cap);
  assert(table->count == 0 || segment->first_seq > flume__segments_last(table)->first_seq);
  table->list[table->count++] = segment;
}

size_t flume__segments_find(const struct flume_segment_table *table, int64_t seq) {
  size_t low = 0, high = table->count;
  assert(high > 0 && seq >= table->list[0]->first_seq);
  while (high - low > 1) {
    size_t mid = low + (high - low) / 2;
    if (table->list[mid]->first_seq <= seq) low = mid;
    else high = mid;
  }
  return low;
}

/* --- The cache ---------------------------------------------------------------------------------------------------- */

static size_t find_loaded(const struct flume_segment_table *table, const struct flume_segment *segment) {
  size_t i = 0;
  while (i < table->loaded_count && table->loaded[i] != segment) i++;
  return i;
}

static void remove_loaded(struct flume_segment_table *table, size_t i) {
  size_t bytes = table->loaded[i]->offsets_cap * sizeof(uint32_t);
  assert(table->loaded_bytes >= bytes);
  table->loaded_bytes -= bytes;
  memmove(table->loaded + i, table->loaded + i + 1, (--table->loaded_count - i) * sizeof *table->loaded);
}

/* Blocks have copies of the offsets that they need. */
static void drop_oldest(struct flume_segment_table *table) {
  struct flume_segment *oldest = table->loaded[0];
  remove_loaded(table, 0);
  flume_segment_unload(oldest);
  if (atomic_load(&oldest->refs) > 1) return;
  oldest->io->close(oldest->io->ctx, oldest->file); /* no block reads from it */
  oldest->file = -1;
}

void flume__segments_loaded(struct flume_segment_table *table, struct flume_segment *segment) {
  assert(flume__log_is_locked(table->log) && table->loaded_count < table->loaded_cap);
  assert(segment->loaded && segment->file >= 0 && find_loaded(table, segment) == table->loaded_count);
  table->loaded[table->loaded_count++] = segment;
  table->loaded_bytes += segment->offsets_cap * sizeof(uint32_t);
  while (table->loaded_bytes > LOADED_MAX_BYTES && table->loaded_count > 1) drop_oldest(table);
}

void flume__segments_touch(struct flume_segment_table *table, const struct flume_segment *segment) {
  assert(flume__log_is_locked(table->log));
  size_t i = find_loaded(table, segment);
  if (i == table->loaded_count) return; /* the active one */
  struct flume_segment *used = table->loaded[i];
  memmove(table->loaded + i, table->loaded + i + 1, (table->loaded_count - i - 1) * sizeof *table->loaded);
  table->loaded[table->loaded_count - 1] = used;
}

struct flume_segment *flume__segments_replace(struct flume_segment_table *table, size_t i,
                                              struct flume_segment *segment) {
  assert(flume__log_is_locked(table->log) && i < table->count);
  struct flume_segment *old = table->list[i];
  assert(old->first_seq == segment->first_seq && !segment->loaded);
  size_t at = find_loaded(table, old);
  if (at < table->loaded_count) remove_loaded(table, at);
  table->list[i] = segment;
  return old;
}
