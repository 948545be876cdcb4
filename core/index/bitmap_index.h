/* A bitmap index: for each key the set of the records that have it, as compressed bitmaps (CRoaring).
 *
 * A set is divided into spans of FLUME_BITMAP_SPAN records, with one bitmap for each key and span. So the newest
 * records of a key are found without reading the old ones, and a change writes one bitmap. Changes are in memory
 * until flume_bitmaps_save puts them into a store (store.h) as groups; the store's commit makes them durable,
 * together with the meta data.
 *
 * Keys are any bytes of which none begins another (key.h), of any length. Threads: any,
 * one at a time; not while the store is committed. */
#ifndef FLUME_BITMAPS_H
#define FLUME_BITMAPS_H

#include <roaring/roaring.h>

#include "store/store.h"

#define FLUME_BITMAP_SPAN_BITS 18
#define FLUME_BITMAP_SPAN (INT64_C(1) << FLUME_BITMAP_SPAN_BITS)

struct flume_bitmaps;

/* An empty index. The caller frees it. FLUME_ENOMEM. */
int flume_bitmaps_new(const struct flume_io *io, struct flume_bitmaps **bitmaps, struct flume_err *err);
void flume_bitmaps_free(struct flume_bitmaps *bitmaps); /* NULL is allowed */

/* The store of the bitmaps from now on, borrowed. Discards what is in memory; so it is called also when the content
 * of the store was replaced. */
void flume_bitmaps_use(struct flume_bitmaps *bitmaps, struct flume_store *store);

/* Adds a record to the key's set, or removes it. Adding a member, or removing a record that is none, is no error.
 * FLUME_EINVAL for a seq below 0, FLUME_ECORRUPT, FLUME_ENOMEM, an errno. */
int flume_bitmaps_add(struct flume_bitmaps *bitmaps, const void *key, size_t key_len, int64_t seq,
                      struct flume_err *err);
int flume_bitmaps_remove(struct flume_bitmaps *bitmaps, const void *key, size_t key_len, int64_t seq,
                         struct flume_err *err);

/* Puts the changed bitmaps into the store. FLUME_ENOMEM: the others are still pending. */
int flume_bitmaps_save(struct flume_bitmaps *bitmaps, struct flume_err *err);

/* The records of the key in the span, counted from span * FLUME_BITMAP_SPAN; NULL: there are none. Borrowed until the
 * next call of another function. FLUME_ECORRUPT, FLUME_ENOMEM, an errno. */
int flume_bitmaps_get(struct flume_bitmaps *bitmaps, const void *key, size_t key_len, int64_t span,
                      const roaring_bitmap_t **bitmap, struct flume_err *err);

/* Frees bitmaps in memory that are not pending, when they take much. */
void flume_bitmaps_trim(struct flume_bitmaps *bitmaps);

/* Bytes of memory that a save and a commit would free, about. */
size_t flume_bitmaps_pending_bytes(const struct flume_bitmaps *bitmaps);

#endif
