#include "log/file/segment_compact.h"

#include "base/err.h"

int flume_compaction_begin(struct flume_compaction *compaction, const char *dir, struct flume_segment *from,
                           const int64_t *gone, size_t gone_count, struct flume_err *err) {
  *compaction = (struct flume_compaction){
      .from = from, .gone = gone, .gone_count = gone_count, .off = FLUME_SEGMENT_HEADER_BYTES};
  flume_window_init(&compaction->window, from->io, from->file, from->end_off);
  return flume_segment_writer_open(&compaction->writer, from->io, dir, from->first_seq, from->log_id, err);
}

static int fail(const struct flume_compaction *compaction, int rv, const char *why, struct flume_err *err) {
  const struct flume_segment *from = compaction->from;
  if (rv != FLUME_ECORRUPT) return flume_err_set(err, rv, "reading %s: %s", from->path, flume_strerror(rv));
  return flume_err_set(err, rv, "%s: byte %llu (seq %lld): %s", from->path, (unsigned long long)compaction->off,
                       (long long)compaction->writer.segment->next_seq,
                       why != NULL ? why : "the file is shorter than it was");
}

static int begin_frame(struct flume_compaction *compaction, struct flume_err *err) {
  const struct flume_segment *from = compaction->from;
  const uint8_t *header;
  uint64_t rest = from->end_off - compaction->off;
  if (rest < FLUME_FRAME_HEADER_BYTES) {
    return fail(compaction, FLUME_ECORRUPT, "the file ends within a frame header", err);
  }
  const char *why = NULL;
  int rv = flume_window_get(&compaction->window, compaction->off, FLUME_FRAME_HEADER_BYTES, &header);
  struct flume_place place = {from->log_id, from->first_seq, compaction->off};
  struct flume_frame *frame = &compaction->frame;
  if (rv == 0) rv = flume_frame_get(header, frame, &place, &why);
  if (rv != 0) return fail(compaction, rv, why, err);
  if (frame->body_bytes > rest - FLUME_FRAME_HEADER_BYTES) {
    return fail(compaction, FLUME_ECORRUPT, "the file ends within a frame", err);
  }
  compaction->off += FLUME_FRAME_HEADER_BYTES;
  compaction->frame_end_off = compaction->off + frame->body_bytes;
  if (frame->kind != FLUME_FRAME_DATA) { /* index and end: the new file gets its own */
    compaction->off = compaction->frame_end_off;
    return 0;
  }
  if (frame->first_seq != compaction->writer.segment->next_seq || frame->count == 0) {
    return fail(compaction, FLUME_ECORRUPT, "frame with an unexpected seq", err);
  }
  compaction->frame_left = frame->count;
  return flume_segment_writer_begin(&compaction->writer, frame->time_ms, err);
}

static bool is_gone(struct flume_compaction *compaction, int64_t seq) {
  while (compaction->gone_at < compaction->gone_count && compaction->gone[compaction->gone_at] < seq) {
    compaction->gone_at++;
  }
  return compaction->gone_at < compaction->gone_count && compaction->gone[compaction->gone_at] == seq;
}

/* The next record of the frame, header and all, not checked yet; *len is 8 for one that was removed before. */
static int get_record(struct flume_compaction *compaction, int64_t seq, const uint8_t **bytes, size_t *len,
                      const char **why) {
  uint64_t rest = compaction->frame_end_off - compaction->off;
  *why = "frame that ends within a record";
  if (rest < FLUME_RECORD_HEADER_BYTES) return FLUME_ECORRUPT;
  int rv = flume_window_get(&compaction->window, compaction->off, FLUME_RECORD_HEADER_BYTES, bytes);
  if (rv != 0) return rv;
  *len = FLUME_RECORD_HEADER_BYTES;
  if (flume_record_is_removed(*bytes, seq)) return 0;
  uint32_t record_len = flume_get_le32(*bytes);
  if (rest - FLUME_RECORD_HEADER_BYTES < record_len) return FLUME_ECORRUPT;
  *len += record_len;
  return flume_window_get(&compaction->window, compaction->off, *len, bytes);
}

static bool is_whole(const uint8_t *bytes, size_t len, int64_t seq) {
  uint32_t seed = flume_record_seed(seq, (uint32_t)(len - FLUME_RECORD_HEADER_BYTES));
  uint32_t crc = flume_crc32c(seed, bytes + FLUME_RECORD_HEADER_BYTES, len - FLUME_RECORD_HEADER_BYTES);
  return crc == flume_get_le32(bytes + 4);
}

static int copy_record(struct flume_compaction *compaction, struct flume_err *err) {
  int64_t seq = compaction->writer.segment->next_seq;
  const uint8_t *bytes;
  const char *why;
  size_t len;
  int rv = get_record(compaction, seq, &bytes, &len, &why);
  if (rv != 0) return fail(compaction, rv, why, err);
  bool goes = is_gone(compaction, seq) || flume_record_is_removed(bytes, seq);
  if (!goes && !is_whole(bytes, len, seq)) return fail(compaction, FLUME_ECORRUPT, "record checksum mismatch", err);
  rv = goes ? flume_segment_writer_remove(&compaction->writer, err)
            : flume_segment_writer_put(&compaction->writer, bytes, len, err);
  if (rv != 0) return rv;
  compaction->off += len;
  if (--compaction->frame_left > 0) return 0;
  if (compaction->off != compaction->frame_end_off) {
    return fail(compaction, FLUME_ECORRUPT, "frame with bytes after its last record", err);
  }
  return flume_segment_writer_end(&compaction->writer, err);
}

int flume_compaction_step(struct flume_compaction *compaction, uint64_t max_bytes, struct flume_err *err) {
  const struct flume_segment *from = compaction->from;
  uint64_t until = compaction->off + max_bytes;
  while (compaction->off < until) {
    int rv;
    if (compaction->frame_left > 0) {
      rv = copy_record(compaction, err);
    } else if (compaction->off < from->end_off) {
      rv = begin_frame(compaction, err);
    } else if (compaction->writer.segment->next_seq != from->next_seq) {
      return fail(compaction, FLUME_ECORRUPT, "records are missing at the end", err);
    } else {
      return flume_segment_writer_finish(&compaction->writer, FLUME_FRAME_SEALED, err);
    }
    if (rv != 0) return rv;
  }
  return 1;
}

int flume_compaction_publish(struct flume_compaction *compaction, struct flume_segment **segment,
                             struct flume_err *err) {
  return flume_segment_writer_publish(&compaction->writer, segment, err);
}

void flume_compaction_fini(struct flume_compaction *compaction) {
  if (compaction->from == NULL) return;
  flume_window_fini(&compaction->window);
  flume_segment_writer_fini(&compaction->writer);
}
