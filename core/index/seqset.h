/* Sets of records made of others: what a query's indexes leave, computed a span (bitmaps.h) at a time.
 *
 * A set is a tree. Its leaves are the sets that an index has for a key, and lists that were put together seq by seq.
 * Nothing is computed before it is read; what is read is as of then.
 *
 * As bitmaps.h: any thread, one at a time, and the bitmaps must outlive the set. */
#ifndef FLUME_SEQSET_H
#define FLUME_SEQSET_H

#include "index/bitmap_index.h"

struct flume_seqset;

enum flume_seqset_op {
  FLUME_SEQSET_AND,
  FLUME_SEQSET_OR,
  FLUME_SEQSET_WITHOUT, /* the first set, less the others */
};

/* The records that the index has for a key. The key is copied. FLUME_ENOMEM. */
int flume_seqset_of_key(const struct flume_io *io, struct flume_bitmaps *bitmaps, const void *key, size_t key_len,
                        struct flume_seqset **set);
/* A list without any records, which flume_seqset_put adds to. FLUME_ENOMEM. */
int flume_seqset_of_list(const struct flume_io *io, struct flume_seqset **set);
/* FLUME_ENOMEM. */
int flume_seqset_put(struct flume_seqset *list, int64_t seq);
/* Takes over the sets, one at least, also on failure; the array is the caller's. FLUME_ENOMEM. */
int flume_seqset_combine(const struct flume_io *io, enum flume_seqset_op op, struct flume_seqset **sets, size_t count,
                         struct flume_seqset **set);
void flume_seqset_free(struct flume_seqset *set); /* NULL is allowed */

/* The first records of the set from first to last, both included: ascending, or from last down. How many were put into
 * seqs, at most cap; or an error as of flume_bitmaps_get. */
int64_t flume_seqset_read(struct flume_seqset *set, int64_t first, int64_t last, bool reverse, int64_t *seqs,
                          size_t cap, struct flume_err *err);
/* How many records from first to last it has, or an error. */
int64_t flume_seqset_count(struct flume_seqset *set, int64_t first, int64_t last, struct flume_err *err);

/* Looks up one record after the other, in any order, while nothing else is done with the set: 1 when it has seq, 0, or
 * an error. What was computed for that is kept until flume_seqset_forget. */
int flume_seqset_has(struct flume_seqset *set, int64_t seq, struct flume_err *err);
void flume_seqset_forget(struct flume_seqset *set);

#endif
