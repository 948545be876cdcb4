/* The unit that moves: an immutable, reference-counted run of consecutive records.
 *
 * A log makes blocks, a stream or the pump hands them on, a record points into one. A block is made in two steps: the
 * log plans it (which bytes of which file) under the log's lock, and flume_block_load then reads and verifies it, once,
 * without a lock. Both may be done on any thread. */
#ifndef FLUME_BLOCK_H
#define FLUME_BLOCK_H

#include <stdatomic.h>

#include "base/bytes.h"
#include "flume.h"

/* A record is stored behind 8 bytes: its length and its checksum (core/FORMAT.md). */
#define FLUME_RECORD_HEADER_BYTES 8

/* In place of an offset: the record was deleted. */
#define FLUME_BLOCK_GONE UINT32_MAX

/* The seqs of a block whose seqs don't follow one another: a block of an offset log. */
struct flume_block_gaps {
  int64_t low_seq;       /* no record lies from here up to the block's first one */
  int64_t end_seq;       /* nor behind its last one, up to here (exclusive) */
  const uint32_t *steps; /* record i has the seq first_seq + steps[i] */
};

struct flume_block {
  atomic_int refs;
  uint32_t count;                      /* records */
  uint32_t bytes;                      /* that loading it reads; 0 when there is nothing to read */
  int64_t first_seq;                   /* of record 0 */
  int64_t deletions;                   /* of the log, when the block was planned: those are marked in it */
  const struct flume_block_gaps *gaps; /* NULL: record i has the seq first_seq + i */
  const uint8_t *base;                 /* where offsets count from; NULL until loaded */
  const uint32_t *offsets;             /* of each record's header, or FLUME_BLOCK_GONE */
  int (*load)(struct flume_block *block, struct flume_err *err); /* NULL when there is nothing to read */
  void (*free)(struct flume_block *block);
};

static inline struct flume_block *flume_block_ref(struct flume_block *block) {
  atomic_fetch_add_explicit(&block->refs, 1, memory_order_relaxed);
  return block;
}

static inline void flume_block_unref(struct flume_block *block) {
  if (block != NULL && atomic_fetch_sub_explicit(&block->refs, 1, memory_order_acq_rel) == 1) block->free(block);
}

static inline int64_t flume_block_seq(const struct flume_block *block, uint32_t i) {
  return block->first_seq + (block->gaps != NULL ? block->gaps->steps[i] : i);
}

static inline int64_t flume_block_last_seq(const struct flume_block *block) {
  return flume_block_seq(block, block->count - 1);
}

/* The first record whose seq is not smaller; count when there is none. */
static inline uint32_t flume_block_find(const struct flume_block *block, int64_t seq) {
  if (seq <= block->first_seq) return 0;
  if (seq > flume_block_last_seq(block)) return block->count;
  if (block->gaps == NULL) return (uint32_t)(seq - block->first_seq);
  uint32_t low = 0, high = block->count;
  while (low < high) {
    uint32_t mid = low + (high - low) / 2;
    if (flume_block_seq(block, mid) < seq) low = mid + 1;
    else high = mid;
  }
  return low;
}

/* Whether the first record that is not before seq is in the block. */
static inline bool flume_block_has_next(const struct flume_block *block, int64_t seq) {
  int64_t low_seq = block->gaps != NULL ? block->gaps->low_seq : block->first_seq;
  return seq >= low_seq && seq <= flume_block_last_seq(block);
}

/* Whether the last record that is not behind seq is in the block. */
static inline bool flume_block_has_last(const struct flume_block *block, int64_t seq) {
  int64_t end_seq = block->gaps != NULL ? block->gaps->end_seq : block->first_seq + block->count;
  return seq >= block->first_seq && seq < end_seq;
}

/* Reads and verifies the bytes. By the one thread that holds the block; afterwards it may be shared. */
static inline int flume_block_load(struct flume_block *block, struct flume_err *err) {
  return block->load != NULL ? block->load(block, err) : 0;
}

/* Record i of a loaded block, borrowed from it: its bytes, or NULL when it was deleted. */
static inline const uint8_t *flume_block_get(const struct flume_block *block, uint32_t i, uint32_t *len) {
  if (block->offsets[i] == FLUME_BLOCK_GONE) return NULL;
  const uint8_t *header = block->base + block->offsets[i];
  *len = flume_get_le32(header);
  return header + FLUME_RECORD_HEADER_BYTES;
}

#endif
