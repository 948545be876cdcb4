/* Sets of records, combined of others: the candidates of a query, computed one span (bitmap_index.h) at a time.
 *
 * A set is a tree. Its leaves are the sets of keys of an index, and lists of seqs. A span is computed when it is
 * read, with the content of the index at that time.
 *
 * Threads: as bitmap_index.h, any, one at a time. The bitmaps must outlive the set. */
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
/* Takes ownership of the sets, at least one, also on failure; the array stays the caller's. FLUME_ENOMEM. */
int flume_seqset_combine(const struct flume_io *io, enum flume_seqset_op op, struct flume_seqset **sets, size_t count,
                         struct flume_seqset **set);
void flume_seqset_free(struct flume_seqset *set); /* NULL is allowed */

/* Writes the first records of the set from first to last, both included, to seqs: ascending, or descending from last.
 * Returns their number, at most cap; or an error of flume_bitmaps_get. */
int64_t flume_seqset_read(struct flume_seqset *set, int64_t first, int64_t last, bool reverse, int64_t *seqs,
                          size_t cap, struct flume_err *err);
/* The number of records from first to last, or an error. */
int64_t flume_seqset_count(struct flume_seqset *set, int64_t first, int64_t last, struct flume_err *err);

/* Whether the set has seq: 1, 0, or an error. The spans that this computes are kept until flume_seqset_forget, and
 * the set may not be used otherwise before. */
int flume_seqset_has(struct flume_seqset *set, int64_t seq, struct flume_err *err);
void flume_seqset_forget(struct flume_seqset *set);

#endif
