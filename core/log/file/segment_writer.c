#include "log/file/segment_writer.h"

#include <assert.h>
#include <string.h>

#include "base/err.h"

#define FLUSH_BYTES (1u << 20)

int flume_segment_writer_open(struct flume_segment_writer *writer, const struct flume_io *io, const char *dir,
                              int64_t first_seq, const uint8_t *log_id, struct flume_err *err) {
  *writer = (struct flume_segment_writer){.dir = dir, .out_off = FLUME_SEGMENT_HEADER_BYTES};
  flume_buf_init(&writer->out, io);
  struct flume_segment *segment = flume_segment_new(io, dir, first_seq);
  if (segment == NULL) return flume_err_nomem(err);
  int rv = flume_segment_draft(segment, log_id, err);
  if (rv != 0) {
    flume_segment_unref(segment);
    return rv;
  }
  writer->segment = segment;
  return 0;
}

static int fail(const struct flume_segment_writer *writer, int rv, struct flume_err *err) {
  return flume_err_set(err, rv, "writing %s.new: %s", writer->segment->path, flume_strerror(rv));
}

static int flush(struct flume_segment_writer *writer) {
  const struct flume_segment *segment = writer->segment;
  int rv = flume_io_write_full(segment->io, segment->file, writer->out.data, writer->out.len, writer->out_off);
  if (rv != 0) return rv;
  writer->out_off += writer->out.len;
  writer->out.len = 0;
  return 0;
}

static uint64_t end_off(const struct flume_segment_writer *writer) {
  return writer->out_off + writer->out.len;
}

int flume_segment_writer_begin(struct flume_segment_writer *writer, uint64_t time_ms, struct flume_err *err) {
  assert(writer->frame_off == 0);
  static const uint8_t room[FLUME_FRAME_HEADER_BYTES];
  writer->frame_off = end_off(writer);
  writer->frame_seq = writer->segment->next_seq;
  writer->frame_time_ms = time_ms;
  return flume_buf_append(&writer->out, room, sizeof room) == 0 ? 0 : flume_err_nomem(err);
}

int flume_segment_writer_put(struct flume_segment_writer *writer, const uint8_t *bytes, size_t len,
                             struct flume_err *err) {
  assert(writer->frame_off != 0);
  struct flume_segment *segment = writer->segment;
  uint64_t off = end_off(writer);
  if (off > UINT32_MAX) return flume_err_set(err, UV_EFBIG, "%s would be too large", segment->path);
  if (flume_segment_reserve(segment, 1) != 0 || flume_buf_append(&writer->out, bytes, len) != 0) {
    return flume_err_nomem(err);
  }
  segment->offsets[segment->next_seq - segment->first_seq] = (uint32_t)off;
  segment->next_seq++;
  if (writer->out.len < FLUSH_BYTES) return 0;
  int rv = flush(writer);
  return rv == 0 ? 0 : fail(writer, rv, err);
}

int flume_segment_writer_remove(struct flume_segment_writer *writer, struct flume_err *err) {
  uint8_t slot[FLUME_RECORD_HEADER_BYTES];
  flume_put_le32(slot, FLUME_RECORD_REMOVED);
  flume_put_le32(slot + 4, flume_record_seed(writer->segment->next_seq, FLUME_RECORD_REMOVED));
  writer->segment->removed_count++;
  return flume_segment_writer_put(writer, slot, sizeof slot, err);
}

int flume_segment_writer_end(struct flume_segment_writer *writer, struct flume_err *err) {
  struct flume_segment *segment = writer->segment;
  uint64_t off = writer->frame_off;
  assert(off != 0);
  writer->frame_off = 0;
  if (segment->next_seq == writer->frame_seq) {
    writer->out.len -= FLUME_FRAME_HEADER_BYTES;
    return 0;
  }
  struct flume_frame frame = {.kind = FLUME_FRAME_DATA,
                              .count = (uint32_t)(segment->next_seq - writer->frame_seq),
                              .body_bytes = (uint32_t)(end_off(writer) - off - FLUME_FRAME_HEADER_BYTES),
                              .first_seq = writer->frame_seq,
                              .time_ms = writer->frame_time_ms,
                              .durable_off = off};
  struct flume_place place = {segment->log_id, segment->first_seq, off};
  segment->data_end_off = end_off(writer);
  if (off >= writer->out_off) {
    flume_frame_put(writer->out.data + (off - writer->out_off), &frame, &place);
    return 0;
  }
  uint8_t header[FLUME_FRAME_HEADER_BYTES];
  flume_frame_put(header, &frame, &place);
  int rv = flume_io_write_full(segment->io, segment->file, header, sizeof header, off);
  return rv == 0 ? 0 : fail(writer, rv, err);
}

int flume_segment_writer_finish(struct flume_segment_writer *writer, uint16_t flags, struct flume_err *err) {
  assert(writer->frame_off == 0);
  struct flume_segment *segment = writer->segment;
  int rv = flush(writer);
  if (rv != 0) return fail(writer, rv, err);
  segment->end_off = segment->file_bytes = segment->zeroed_off = segment->durable_off = writer->out_off;
  return flags & FLUME_FRAME_SEALED ? flume_segment_seal(segment, err) : flume_segment_end(segment, err);
}

int flume_segment_writer_publish(struct flume_segment_writer *writer, struct flume_segment **segment,
                                 struct flume_err *err) {
  assert(writer->segment != NULL && writer->segment->ended && writer->frame_off == 0);
  int rv = flume_segment_publish(writer->segment, writer->dir, err);
  if (rv != 0) return rv;
  *segment = writer->segment;
  writer->segment = NULL;
  return 0;
}

void flume_segment_writer_fini(struct flume_segment_writer *writer) {
  flume_buf_fini(&writer->out);
  if (writer->segment == NULL) return;
  flume_segment_undraft(writer->segment);
  flume_segment_unref(writer->segment);
  writer->segment = NULL;
}
