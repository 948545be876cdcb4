/* The set of deleted seqs, in memory: by seq for reading, and in the order in which they were deleted for views, which
 * count deletions by their ordinals. */
#ifndef FLUME_TOMBSTONES_H
#define FLUME_TOMBSTONES_H

#include "base/io.h"

struct flume_tombstones {
  const struct flume_io *io;
  int64_t *order; /* each seq once, in the order of the deletions; -1 for a seq that is not known */
  size_t count;
  int64_t *seqs;   /* the same, ascending, but for the recent ones */
  size_t merged;   /* of seqs */
  size_t cap;      /* of order and of seqs */
  int64_t *recent; /* ascending: not in seqs yet, so that adding a seq moves few others */
  size_t recent_count;
};

void flume_tombstones_init(struct flume_tombstones *set, const struct flume_io *io);
void flume_tombstones_fini(struct flume_tombstones *set);

/* Makes room, so that the next `count` calls of add can't fail: 0 or FLUME_ENOMEM. */
int flume_tombstones_reserve(struct flume_tombstones *set, size_t count);
/* True when seq was not in the set. Room must have been reserved. */
bool flume_tombstones_add(struct flume_tombstones *set, int64_t seq);
/* A deletion whose seq is not known any more: its place in the order has -1. Room as for add. */
void flume_tombstones_add_unknown(struct flume_tombstones *set);
bool flume_tombstones_has(const struct flume_tombstones *set, int64_t seq);
/* How many seqs of the set are not greater than seq. */
int64_t flume_tombstones_count(const struct flume_tombstones *set, int64_t seq);
/* The greatest seq in the set; -1 when it is empty. */
int64_t flume_tombstones_last(const struct flume_tombstones *set);

/* Writes the seqs, ascending, to out, which has room for flume_tombstones_count(set, INT64_MAX - 1) of them. */
void flume_tombstones_copy(const struct flume_tombstones *set, int64_t *out);
/* Replaces the offsets of deleted records by FLUME_BLOCK_GONE; offsets[i] belongs to seq first_seq + i. */
void flume_tombstones_mark(const struct flume_tombstones *set, int64_t first_seq, uint32_t *offsets, uint32_t count);

#endif
