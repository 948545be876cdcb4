/* Where the records of an offset log begin, in memory: ascending offsets, four bytes each. */
#ifndef FLUME_OFFSET_INDEX_H
#define FLUME_OFFSET_INDEX_H

#include "base/io.h"

struct flume_offset_piece;

struct flume_offset_index {
  const struct flume_io *io;
  struct flume_offset_piece **pieces;
  size_t pieces_count;
  size_t pieces_cap;
  uint64_t count; /* records */
};

void flume_offset_index_init(struct flume_offset_index *index, const struct flume_io *io);
void flume_offset_index_fini(struct flume_offset_index *index);

/* Makes room, so that the next `count` calls of add can't fail, if the offsets stay within 4 GiB of one another: 0 or
 * FLUME_ENOMEM. */
int flume_offset_index_reserve(struct flume_offset_index *index, uint64_t count);
/* The offset is greater than all in it. FLUME_ENOMEM. */
int flume_offset_index_add(struct flume_offset_index *index, uint64_t off);

/* Offset number i < count. */
uint64_t flume_offset_index_at(const struct flume_offset_index *index, uint64_t i);
/* How many offsets are smaller than off; so which one is the first that is not. */
uint64_t flume_offset_index_find(const struct flume_offset_index *index, uint64_t off);
/* Whether off is in it. */
bool flume_offset_index_has(const struct flume_offset_index *index, uint64_t off);

#endif
