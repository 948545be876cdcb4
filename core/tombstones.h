/* The set of deleted seqs, ordered, in memory. */
#ifndef FLUME_TOMBSTONES_H
#define FLUME_TOMBSTONES_H

#include "io.h"

struct flume_tombstones {
  const struct flume_io *io;
  int64_t *seqs; /* ascending, each once */
  size_t count;
  size_t cap;
};

void flume_tombstones_init(struct flume_tombstones *set, const struct flume_io *io);
void flume_tombstones_fini(struct flume_tombstones *set);

/* Makes room, so that the next `count` calls of add can't fail: 0 or FLUME_ENOMEM. */
int flume_tombstones_reserve(struct flume_tombstones *set, size_t count);
/* True when seq was not in the set. Room must have been reserved. */
bool flume_tombstones_add(struct flume_tombstones *set, int64_t seq);
/* How many seqs of the set are not greater than seq. */
int64_t flume_tombstones_count(const struct flume_tombstones *set, int64_t seq);

/* Replaces the offsets of deleted records by FLUME_BLOCK_GONE; offsets[i] belongs to seq first_seq + i. */
void flume_tombstones_mark(const struct flume_tombstones *set, int64_t first_seq, uint32_t *offsets, uint32_t count);

#endif
