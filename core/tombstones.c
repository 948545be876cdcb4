#include "tombstones.h"

#include <assert.h>
#include <string.h>

#include "block.h"

void flume_tombstones_init(struct flume_tombstones *set, const struct flume_io *io) {
  *set = (struct flume_tombstones){.io = io};
}

void flume_tombstones_fini(struct flume_tombstones *set) {
  flume_io_free(set->io, set->seqs);
  set->seqs = NULL;
  set->count = 0;
  set->cap = 0;
}

/* The place of the first seq that is not smaller. */
static size_t lower_bound(const struct flume_tombstones *set, int64_t seq) {
  size_t low = 0, high = set->count;
  while (low < high) {
    size_t mid = low + (high - low) / 2;
    if (set->seqs[mid] < seq) low = mid + 1;
    else high = mid;
  }
  return low;
}

int flume_tombstones_reserve(struct flume_tombstones *set, size_t count) {
  if (set->cap - set->count >= count) return 0;
  size_t cap = set->cap > 0 ? set->cap : 16;
  while (cap - set->count < count) cap *= 2;
  int64_t *seqs = flume_io_realloc(set->io, set->seqs, cap * sizeof *seqs);
  if (seqs == NULL) return FLUME_ENOMEM;
  set->seqs = seqs;
  set->cap = cap;
  return 0;
}

bool flume_tombstones_add(struct flume_tombstones *set, int64_t seq) {
  size_t at = lower_bound(set, seq);
  if (at < set->count && set->seqs[at] == seq) return false;
  assert(set->count < set->cap);
  memmove(set->seqs + at + 1, set->seqs + at, (set->count - at) * sizeof *set->seqs);
  set->seqs[at] = seq;
  set->count++;
  return true;
}

int64_t flume_tombstones_count(const struct flume_tombstones *set, int64_t seq) {
  return (int64_t)lower_bound(set, seq + 1);
}

void flume_tombstones_mark(const struct flume_tombstones *set, int64_t first_seq, uint32_t *offsets, uint32_t count) {
  for (size_t at = lower_bound(set, first_seq); at < set->count; at++) {
    int64_t i = set->seqs[at] - first_seq;
    if (i >= count) break;
    offsets[i] = FLUME_BLOCK_GONE;
  }
}
