/* A cursor over a log: it asks for one block after another and walks through it.
 *
 * bound is the last seq (with reverse: the first) that the stream can deliver at all; without live it is fixed when
 * the stream opens, so that a reader is not led on by appends. */
#include <assert.h>

#include "base/err.h"
#include "log/log.h"

#define STREAM_BLOCK_BYTES (256u << 10)

struct flume_stream {
  const struct flume_io *io; /* the log's, which it outlives */
  struct flume_log *log;
  struct flume_block *block; /* the one being walked through, or NULL */
  int64_t next;              /* seq to deliver next; there may be no record with it */
  int64_t bound;             /* inclusive */
  int64_t left;              /* of the limit; -1 without one */
  bool reverse;
  bool live;
  uint32_t reads; /* blocks so far: the first are small, so that a short look costs little */
};

void flume_range_init(struct flume_range *range) {
  *range = (struct flume_range){.first = 0, .last = FLUME_SEQ_MAX, .limit = -1, .old = true};
}

int flume_stream_open(struct flume_stream **out, struct flume_log *log, const struct flume_range *range,
                      struct flume_err *err) {
  if (range->reverse && range->live) return flume_err_set(err, FLUME_EINVAL, "reverse and live exclude each other");
  struct flume_stream *stream = flume_io_zalloc(log->io, sizeof *stream);
  if (stream == NULL) return flume_err_nomem(err);
  int64_t since = log->since.value;
  int64_t first = range->first > 0 ? range->first : 0;
  int64_t last = range->live || range->last < since ? range->last : since;
  if (!range->old && first <= since) first = since + 1;
  stream->io = log->io;
  stream->log = log;
  stream->left = range->limit;
  stream->reverse = range->reverse;
  stream->live = range->live;
  stream->next = range->reverse ? last : first;
  stream->bound = range->reverse ? first : last;
  *out = stream;
  return 0;
}

static bool is_beyond(const struct flume_stream *stream, int64_t seq) {
  return stream->reverse ? seq < stream->bound : seq > stream->bound;
}

static bool at_end(const struct flume_stream *stream) {
  return stream->left == 0 || is_beyond(stream, stream->next);
}

static bool block_serves(const struct flume_stream *stream) {
  const struct flume_block *block = stream->block;
  if (block == NULL || block->deletions != stream->log->deletions.value) return false;
  return stream->reverse ? flume_block_has_last(block, stream->next) : flume_block_has_next(block, stream->next);
}

/* Which record of the block is the next one. */
static uint32_t place_in_block(const struct flume_stream *stream) {
  if (!stream->reverse) return flume_block_find(stream->block, stream->next);
  return flume_block_find(stream->block, stream->next + 1) - 1;
}

/* Makes stream->block one that holds the record at stream->next, or the nearest in the stream's direction. */
static int step_block(struct flume_stream *stream, struct flume_err *err) {
  assert(stream->next >= 0 && stream->next <= stream->log->since.value);
  if (block_serves(stream)) return 0;
  struct flume_block *block;
  size_t max_bytes = stream->reads < 3 ? 4096u << (2 * stream->reads) : STREAM_BLOCK_BYTES;
  int rv = flume_log_read(stream->log, stream->next, stream->reverse, max_bytes, &block, err);
  if (rv != 0) return rv;
  stream->reads++;
  flume_block_unref(stream->block);
  stream->block = block;
  return 0;
}

int flume_stream_peek(struct flume_stream *stream, struct flume_record *record, struct flume_err *err) {
  while (!at_end(stream)) {
    if (stream->next > stream->log->since.value) {
      assert(stream->live);
      struct flume_err why;
      if (flume_log_following(stream->log, &why) != FLUME_FOLLOWING_LOST) return FLUME_EAGAIN;
      if (err != NULL) *err = why;
      return why.code;
    }
    int rv = step_block(stream, err);
    if (rv != 0) return rv;
    uint32_t i = place_in_block(stream), len = 0;
    int64_t seq = flume_block_seq(stream->block, i);
    stream->next = stream->reverse ? seq - 1 : seq + 1;
    if (is_beyond(stream, seq)) return 0;
    const uint8_t *data = flume_block_get(stream->block, i, &len);
    if (data == NULL) continue;
    if (stream->left > 0) stream->left--;
    *record = (struct flume_record){.seq = seq, .data = data, .len = len, .block = stream->block};
    return 1;
  }
  return 0;
}

int flume_stream_next(struct flume_stream *stream, struct flume_record *record, struct flume_err *err) {
  int rv = flume_stream_peek(stream, record, err);
  if (rv == 1) flume_block_ref(record->block);
  return rv;
}

void flume_stream_close(struct flume_stream *stream) {
  flume_block_unref(stream->block);
  flume_io_free(stream->io, stream);
}
