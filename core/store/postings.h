/* Chunks: entries of one key of an index, some hundred at a time, so that a store has few rows.
 *
 * A chunk is a header and the entries in order of their seqs. An entry has the difference of its seq to the one
 * before, and a value where there is one (see FORMAT.md). The first seq is counted from the base, which is not in the
 * chunk but in the name of its row. Invariant: all entries of a key with the same seq are in the same chunk.
 *
 * Reading accepts any bytes: bytes that are not well-formed are FLUME_ECORRUPT. Any thread. */
#ifndef FLUME_CHUNK_H
#define FLUME_CHUNK_H

#include <stdbool.h>

#include "base/buf.h"

enum {
  FLUME_CHUNK_HEADER_BYTES = 14,
  FLUME_CHUNK_ITEM_BYTES = 15, /* of an entry without its value, at most */
  FLUME_CHUNK_BYTES = 1000,    /* a chunk this long takes only entries of its last seq */
};

/* What the header says. */
struct flume_chunk {
  const uint8_t *data; /* borrowed */
  size_t len;
  int64_t base_seq;
  uint32_t count; /* entries; at least one */
  bool has_values;
  int64_t last_seq;
};

struct flume_chunk_item {
  int64_t seq;
  uint32_t ordinal; /* how many entries of the same seq lie before it */
  uint32_t value_len;
  const uint8_t *value; /* points into the chunk */
};

/* Reads the header. FLUME_EVERSION: of a format that is not known. */
int flume_chunk_open(struct flume_chunk *chunk, int64_t base_seq, const uint8_t *data, size_t len);

/* A place between two entries. */
struct flume_chunk_place {
  const uint8_t *p;
  int64_t seq;      /* of the entry before it */
  uint32_t left;    /* entries that are left in the direction of the walk */
  uint32_t ordinal; /* of the next entry, if it has the same seq as the one before */
};

/* Walks through the entries: 1 and the next one, 0 at the end, or FLUME_ECORRUPT. */
void flume_chunk_first(const struct flume_chunk *chunk, struct flume_chunk_place *place);
int flume_chunk_next(const struct flume_chunk *chunk, struct flume_chunk_place *place, struct flume_chunk_item *item);
/* The same from the last to the first, in a chunk that has no values. */
int flume_chunk_last(const struct flume_chunk *chunk, struct flume_chunk_place *place);
int flume_chunk_prev(const struct flume_chunk *chunk, struct flume_chunk_place *place, struct flume_chunk_item *item);

/* Reads all entries; items has room for chunk->count of them. */
int flume_chunk_read(const struct flume_chunk *chunk, struct flume_chunk_item *items);

/* Writes the header of an empty chunk. Returns its length. */
size_t flume_chunk_begin(uint8_t *data, int64_t base_seq);
/* Appends an entry to the chunk of len bytes. seq is not below the chunk's last one, and behind the chunk there is
 * room for FLUME_CHUNK_ITEM_BYTES and the value. Returns the new length. */
size_t flume_chunk_append(uint8_t *data, size_t len, int64_t seq, const void *value, size_t value_len);
/* The last seq (of an empty chunk, the base). */
int64_t flume_chunk_last_seq(const uint8_t *data);

/* Appends the entries of another chunk, whose seqs lie above, to the chunk in buf that begins at start. FLUME_ECORRUPT;
 * FLUME_ENOMEM. */
int flume_chunk_join(struct flume_buf *buf, size_t start, const struct flume_chunk *chunk);

/* Appends to buf a chunk of all entries but those of seq. Returns the number of entries in it (0: nothing was
 * appended), or FLUME_ECORRUPT, FLUME_ENOMEM. */
int64_t flume_chunk_without(const struct flume_chunk *chunk, int64_t seq, struct flume_buf *buf);

#endif
