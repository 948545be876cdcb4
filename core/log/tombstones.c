#include "log/tombstones.h"

#include <assert.h>
#include <string.h>

#include "log/block.h"

#define RECENT_MAX 2048

void flume_tombstones_init(struct flume_tombstones *set, const struct flume_io *io) {
  *set = (struct flume_tombstones){.io = io};
}

void flume_tombstones_fini(struct flume_tombstones *set) {
  flume_io_free(set->io, set->order);
  flume_io_free(set->io, set->seqs);
  flume_io_free(set->io, set->recent);
  flume_tombstones_init(set, set->io);
}

/* The place of the first seq that is not smaller. */
static size_t lower_bound(const int64_t *seqs, size_t count, int64_t seq) {
  size_t low = 0, high = count;
  while (low < high) {
    size_t mid = low + (high - low) / 2;
    if (seqs[mid] < seq) low = mid + 1;
    else high = mid;
  }
  return low;
}

static bool holds(const int64_t *seqs, size_t count, int64_t seq) {
  size_t at = lower_bound(seqs, count, seq);
  return at < count && seqs[at] == seq;
}

static int grow(struct flume_tombstones *set, int64_t **seqs, size_t cap) {
  int64_t *grown = flume_io_realloc(set->io, *seqs, cap * sizeof **seqs);
  if (grown == NULL) return FLUME_ENOMEM;
  *seqs = grown;
  return 0;
}

int flume_tombstones_reserve(struct flume_tombstones *set, size_t count) {
  if (set->recent == NULL && grow(set, &set->recent, RECENT_MAX) != 0) return FLUME_ENOMEM;
  if (set->cap - set->count >= count) return 0;
  size_t cap = set->cap > 0 ? set->cap : 16;
  while (cap - set->count < count) cap *= 2;
  if (grow(set, &set->order, cap) != 0 || grow(set, &set->seqs, cap) != 0) return FLUME_ENOMEM;
  set->cap = cap;
  return 0;
}

/* From the back, so that it needs no other room. */
static void merge_recent(struct flume_tombstones *set) {
  size_t left = set->merged, added = set->recent_count;
  assert(left + added <= set->cap);
  set->merged += added;
  for (size_t to = set->merged; added > 0;) {
    bool old = left > 0 && set->seqs[left - 1] > set->recent[added - 1];
    set->seqs[--to] = old ? set->seqs[--left] : set->recent[--added];
  }
  set->recent_count = 0;
}

bool flume_tombstones_add(struct flume_tombstones *set, int64_t seq) {
  if (holds(set->seqs, set->merged, seq)) return false;
  size_t at = lower_bound(set->recent, set->recent_count, seq);
  if (at < set->recent_count && set->recent[at] == seq) return false;
  assert(set->count < set->cap && set->recent_count < RECENT_MAX);
  memmove(set->recent + at + 1, set->recent + at, (set->recent_count - at) * sizeof *set->recent);
  set->recent[at] = seq;
  set->order[set->count++] = seq;
  if (++set->recent_count == RECENT_MAX) merge_recent(set);
  return true;
}

void flume_tombstones_add_unknown(struct flume_tombstones *set) {
  assert(set->count < set->cap);
  set->order[set->count++] = -1;
}

bool flume_tombstones_has(const struct flume_tombstones *set, int64_t seq) {
  return holds(set->seqs, set->merged, seq) || holds(set->recent, set->recent_count, seq);
}

int64_t flume_tombstones_count(const struct flume_tombstones *set, int64_t seq) {
  return (int64_t)(lower_bound(set->seqs, set->merged, seq + 1) + lower_bound(set->recent, set->recent_count, seq + 1));
}

int64_t flume_tombstones_last(const struct flume_tombstones *set) {
  int64_t last = set->merged > 0 ? set->seqs[set->merged - 1] : -1;
  if (set->recent_count > 0 && set->recent[set->recent_count - 1] > last) last = set->recent[set->recent_count - 1];
  return last;
}

void flume_tombstones_copy(const struct flume_tombstones *set, int64_t *out) {
  size_t i = 0, j = 0;
  while (i < set->merged || j < set->recent_count) {
    bool old = j == set->recent_count || (i < set->merged && set->seqs[i] < set->recent[j]);
    *out++ = old ? set->seqs[i++] : set->recent[j++];
  }
}

static void mark(const int64_t *seqs, size_t seqs_count, int64_t first_seq, uint32_t *offsets, uint32_t count) {
  for (size_t at = lower_bound(seqs, seqs_count, first_seq); at < seqs_count; at++) {
    int64_t i = seqs[at] - first_seq;
    if (i >= count) break;
    offsets[i] = FLUME_BLOCK_GONE;
  }
}

void flume_tombstones_mark(const struct flume_tombstones *set, int64_t first_seq, uint32_t *offsets, uint32_t count) {
  mark(set->seqs, set->merged, first_seq, offsets, count);
  mark(set->recent, set->recent_count, first_seq, offsets, count);
}
