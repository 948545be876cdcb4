/* Bitmaps: an index that has, for each key, the set of the records that have it, as compressed bitmaps (CRoaring).
 *
 * Sets are kept in spans of FLUME_BITMAP_SPAN records, one bitmap a key and span, so that the newest records of a key
 * are found without looking at the old ones, and a set changes by little. What was added or removed is in memory until
 * flume_bitmaps_save puts it, as groups, into a store (store.h), which makes it durable together with its meta data.
 *
 * Keys are any bytes of which none begins another (key.h). Any thread, one at a time; not while the store is committed. */
#ifndef FLUME_BITMAPS_H
#define FLUME_BITMAPS_H

#include <roaring/roaring.h>

#include "store/store.h"

#define FLUME_BITMAP_SPAN_BITS 18
#define FLUME_BITMAP_SPAN (INT64_C(1) << FLUME_BITMAP_SPAN_BITS)

struct flume_bitmaps;

/* Without any. FLUME_ENOMEM. */
int flume_bitmaps_new(const struct flume_io *io, struct flume_bitmaps **bitmaps, struct flume_err *err);
void flume_bitmaps_free(struct flume_bitmaps *bitmaps); /* NULL is allowed */

/* The store that they are kept in from now on, borrowed. What is in memory is let go of: also to be called when what
 * the store has is not what it was. */
void flume_bitmaps_use(struct flume_bitmaps *bitmaps, struct flume_store *store);

/* Adds a record to the key's set, or takes it out; neither has to make a difference. FLUME_EINVAL for a seq below 0,
 * FLUME_ECORRUPT, FLUME_ENOMEM, an errno. */
int flume_bitmaps_add(struct flume_bitmaps *bitmaps, const void *key, size_t key_len, int64_t seq,
                      struct flume_err *err);
int flume_bitmaps_remove(struct flume_bitmaps *bitmaps, const void *key, size_t key_len, int64_t seq,
                         struct flume_err *err);

/* Puts what has changed into the store. FLUME_ENOMEM; then what is left to be put is still pending. */
int flume_bitmaps_save(struct flume_bitmaps *bitmaps, struct flume_err *err);

/* The records of the key from span * FLUME_BITMAP_SPAN on, as numbers from there; NULL: there are none. Borrowed until
 * the next call but this one. FLUME_ECORRUPT, FLUME_ENOMEM, an errno. */
int flume_bitmaps_get(struct flume_bitmaps *bitmaps, const void *key, size_t key_len, int64_t span,
                      const roaring_bitmap_t **bitmap, struct flume_err *err);

/* Lets go of what is in memory and not pending, if it has become much. */
void flume_bitmaps_trim(struct flume_bitmaps *bitmaps);

/* Bytes of memory that a save and a commit would free, about. */
size_t flume_bitmaps_pending_bytes(const struct flume_bitmaps *bitmaps);

#endif
