/* The segments of a file log in the order of their seqs, and which of the sealed ones have their offsets in memory.
 *
 * Happy path: the last segment is the active one, whose offsets stay in memory. Those of a sealed segment are loaded when
 * it is first read, and put into the cache; when the cache takes too much memory, the least recently used segment loses its
 * offsets, and its file is closed unless a block reads from it.
 *
 * Failures: room is reserved before anything is added, so that adding can't fail.
 *
 * Invariants: first_seq ascends. A segment in the cache is sealed and loaded, and is in the list. The table has one
 * reference of each segment in the list, and none for the cache.
 *
 * Threads: once the log is open, with the log's lock held, except that the owner reads the list without it. */
#ifndef FLUME_SEGMENT_TABLE_H
#define FLUME_SEGMENT_TABLE_H

#include "log/file/segment.h"
#include "log/log.h"

struct flume_segment_table {
  struct flume_log *log;       /* whose lock guards it */
  struct flume_segment **list; /* ascending by first_seq; the last one is the active one */
  size_t count;
  size_t cap;
  struct flume_segment **loaded; /* the cache: least recently used first */
  size_t loaded_count;
  size_t loaded_cap;
  size_t loaded_bytes; /* of their offsets */
};

void flume__segments_init(struct flume_segment_table *table, struct flume_log *log);
/* Gives back all segments. Blocks keep those that they read from. */
void flume__segments_clear(struct flume_segment_table *table);
/* Clears the table and frees it. */
void flume__segments_fini(struct flume_segment_table *table);

static inline struct flume_segment *flume__segments_last(const struct flume_segment_table *table) {
  return table->list[table->count - 1];
}

/* While the log is opened: a segment anywhere in the list, by reference of the caller. FLUME_ENOMEM. */
int flume__segments_collect(struct flume_segment_table *table, struct flume_segment *segment);
/* Sorts what was collected. */
void flume__segments_sort(struct flume_segment_table *table);
/* Takes the last segment out, and gives back its reference. */
void flume__segments_drop_last(struct flume_segment_table *table);

/* Room for one more segment in the list, and for one in the cache beside one that was reserved before. FLUME_ENOMEM. */
int flume__segments_reserve(struct flume_segment_table *table);
/* Puts a segment at the end of the list, where there is room; takes over the caller's reference. */
void flume__segments_add(struct flume_segment_table *table, struct flume_segment *segment);
/* Puts a segment in the place of number i; the reference of the old one is the caller's. */
struct flume_segment *flume__segments_replace(struct flume_segment_table *table, size_t i,
                                              struct flume_segment *segment);
/* The number of the segment that holds seq, or would. */
size_t flume__segments_find(const struct flume_segment_table *table, int64_t seq);

/* A sealed segment has its offsets in memory; room was reserved. Others may lose theirs. */
void flume__segments_loaded(struct flume_segment_table *table, struct flume_segment *segment);
/* A segment was used. */
void flume__segments_touch(struct flume_segment_table *table, const struct flume_segment *segment);

#endif
