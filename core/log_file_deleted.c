/* The file "deleted": which records were deleted and not yet removed by compaction.
 *
 * A row of frames, each with the seqs of one call of del. A delete is acknowledged after its frame was synced, so a bad
 * frame is a torn write if it is the last one, and damage otherwise. */
#include <stdio.h>
#include <string.h>

#include "err.h"
#include "log_file.h"

#define DELETED_SEGMENT_SEQ (-1) /* in the place of its frames: no segment has it */

static int deleted_path(const struct log_file *log, char *path, size_t size) {
  int len = snprintf(path, size, "%s/deleted", log->log.dir);
  return len > 0 && (size_t)len < size ? 0 : UV_ENAMETOOLONG;
}

/* In file are the bytes from deleted_end_off on; off counts from there. */
static int frame_at(const struct log_file *log, const struct flume_buf *file, size_t off, struct flume_frame *frame) {
  const char *why;
  if (file->len - off < FLUME_FRAME_HEADER_BYTES) return FLUME_ECORRUPT;
  struct flume_place place = {log->log.id, DELETED_SEGMENT_SEQ, log->deleted_end_off + off};
  int rv = flume_frame_get(file->data + off, frame, &place, &why);
  return rv == 0 && frame->kind != FLUME_FRAME_DELETE ? FLUME_ECORRUPT : rv;
}

/* Takes over the seqs of the frame at off, and *off behind it. */
static int take_frame(struct log_file *log, const struct flume_buf *file, size_t *off) {
  struct flume_frame frame;
  int rv = frame_at(log, file, *off, &frame);
  if (rv != 0) return rv;
  size_t body_off = *off + FLUME_FRAME_HEADER_BYTES;
  if (frame.body_bytes != 4 + (uint64_t)frame.count * 8 || file->len - body_off < frame.body_bytes)
    return FLUME_ECORRUPT;
  const uint8_t *body = file->data + body_off;
  if (flume_get_le32(body) != flume_crc32c(0, body + 4, frame.body_bytes - 4)) return FLUME_ECORRUPT;
  rv = flume_tombstones_reserve(&log->deleted, frame.count);
  if (rv != 0) return rv;
  for (uint32_t i = 0; i < frame.count; i++) {
    flume_tombstones_add(&log->deleted, (int64_t)flume_get_le64(body + 4 + (size_t)i * 8));
  }
  *off = body_off + frame.body_bytes;
  return 0;
}

static int take_all(struct log_file *log, const struct flume_buf *file, struct flume_err *err) {
  size_t off = 0;
  int rv = 0;
  while (off < file->len && (rv = take_frame(log, file, &off)) == 0) continue;
  if (rv == FLUME_ENOMEM) return flume_err_nomem(err);
  struct flume_frame later;
  for (size_t at = off + 1; rv != 0 && at < file->len; at++) {
    if (frame_at(log, file, at, &later) == 0) {
      return flume_err_set(err, FLUME_ECORRUPT, "%s/deleted: byte %llu: bad frame", log->log.dir,
                           (unsigned long long)log->deleted_end_off + off);
    }
  }
  log->deleted_end_off += off;
  return 0;
}

/* Only what was acknowledged can be deleted: a log that ends before it has lost more than a torn tail. A reader is no
 * judge of that, as the writer may have gone on since it read the segments. */
static int check_since(const struct log_file *log, struct flume_err *err) {
  if (log->readonly || log->deleted.count == 0) return 0;
  int64_t last = flume_tombstones_last(&log->deleted);
  if (last <= log->log.since.value) return 0;
  const struct flume_segment *active = flume__file_active(log);
  return flume_err_set(err, FLUME_ECORRUPT, "%s: byte %llu (seq %lld): the log ends here, but seq %lld was deleted",
                       active->path, (unsigned long long)active->end_off, (long long)log->next_seq, (long long)last);
}

/* 0; UV_ENOENT when nothing was ever deleted. */
static int open_existing(struct log_file *log, struct flume_err *err) {
  const struct flume_io *io = log->log.io;
  if (log->deleted_file >= 0) return 0;
  char path[4096];
  int rv = deleted_path(log, path, sizeof path);
  if (rv == 0) rv = io->open(io->ctx, path, log->readonly ? FLUME_IO_READ : FLUME_IO_WRITE);
  if (rv < 0) return flume_err_set(err, rv, "opening %s/deleted: %s", log->log.dir, flume_strerror(rv));
  log->deleted_file = rv;
  return 0;
}

/* Takes over what stands between deleted_end_off and end_off, as far as it is good. */
static int take_to(struct log_file *log, uint64_t end_off, struct flume_err *err) {
  const struct flume_io *io = log->log.io;
  size_t bytes = (size_t)(end_off - log->deleted_end_off);
  struct flume_buf file;
  flume_buf_init(&file, io);
  int rv = flume_buf_reserve(&file, bytes);
  if (rv == 0) rv = flume_io_read_full(io, log->deleted_file, file.data, bytes, log->deleted_end_off);
  if (rv != 0) {
    flume_err_set(err, rv, "reading %s/deleted: %s", log->log.dir, flume_strerror(rv));
  } else {
    file.len = bytes;
    rv = take_all(log, &file, err);
    flume_obv_set(&log->log.deletions, (int64_t)log->deleted.count);
  }
  flume_buf_fini(&file);
  return rv;
}

static int64_t measure(const struct log_file *log, struct flume_err *err) {
  const struct flume_io *io = log->log.io;
  int64_t size = io->size(io->ctx, log->deleted_file);
  if (size >= 0) return size;
  return flume_err_set(err, (int)size, "reading %s/deleted: %s", log->log.dir, flume_strerror((int)size));
}

int flume__deleted_load(struct log_file *log, struct flume_err *err) {
  const struct flume_io *io = log->log.io;
  int rv = open_existing(log, err);
  if (rv != 0) return rv == UV_ENOENT ? 0 : rv;
  int64_t size = measure(log, err);
  if (size < 0) return (int)size;
  rv = take_to(log, (uint64_t)size, err);
  if (rv == 0) rv = check_since(log, err);
  if (rv != 0 || log->readonly || log->deleted_end_off == (uint64_t)size) return rv;
  rv = io->truncate(io->ctx, log->deleted_file, log->deleted_end_off);
  if (rv == 0) rv = io->sync(io->ctx, log->deleted_file);
  if (rv == 0) return 0;
  return flume_err_set(err, rv, "cutting the torn end of %s/deleted: %s", log->log.dir, flume_strerror(rv));
}

int flume__deleted_follow(struct log_file *log, uint64_t end_off, struct flume_err *err) {
  if (end_off <= log->deleted_end_off) return 0;
  int rv = open_existing(log, err);
  if (rv == UV_ENOENT && end_off == UINT64_MAX) return 0;
  if (rv != 0) return rv;
  int64_t size = measure(log, err);
  if (size < 0) return (int)size;
  uint64_t to = (uint64_t)size < end_off ? (uint64_t)size : end_off;
  rv = to > log->deleted_end_off ? take_to(log, to, err) : 0;
  if (rv != 0 || end_off == UINT64_MAX || log->deleted_end_off == end_off) return rv;
  return flume_err_set(err, FLUME_ECORRUPT, "%s/deleted: byte %llu: what was acknowledged is not there", log->log.dir,
                       (unsigned long long)log->deleted_end_off);
}

int flume__deleted_put(struct flume_buf *bytes, const int64_t *seqs, size_t count) {
  size_t body_bytes = 4 + count * 8;
  int rv = flume_buf_reserve(bytes, FLUME_FRAME_HEADER_BYTES + body_bytes);
  if (rv != 0) return rv;
  uint8_t *body = bytes->data + FLUME_FRAME_HEADER_BYTES;
  for (size_t i = 0; i < count; i++) flume_put_le64(body + 4 + i * 8, (uint64_t)seqs[i]);
  flume_put_le32(body, flume_crc32c(0, body + 4, body_bytes - 4));
  bytes->len = FLUME_FRAME_HEADER_BYTES + body_bytes;
  return 0;
}

static int open_new(struct log_file *log) {
  const struct flume_io *io = log->log.io;
  char path[4096];
  int rv = deleted_path(log, path, sizeof path);
  if (rv != 0) return rv;
  int file = io->open(io->ctx, path, FLUME_IO_WRITE | FLUME_IO_CREATE);
  if (file < 0) return file;
  rv = io->sync_dir(io->ctx, log->log.dir);
  if (rv != 0) {
    io->close(io->ctx, file);
    return rv;
  }
  log->deleted_file = file;
  return 0;
}

int flume__deleted_write(struct log_file *log, struct flume_buf *bytes, uint32_t count) {
  const struct flume_io *io = log->log.io;
  int rv = log->deleted_file >= 0 ? 0 : open_new(log);
  if (rv != 0) return rv;
  struct flume_frame frame = {.kind = FLUME_FRAME_DELETE,
                              .count = count,
                              .body_bytes = (uint32_t)(bytes->len - FLUME_FRAME_HEADER_BYTES),
                              .first_seq = 0,
                              .time_ms = io->now_ms(io->ctx),
                              .durable_off = log->deleted_end_off};
  struct flume_place place = {log->log.id, DELETED_SEGMENT_SEQ, log->deleted_end_off};
  flume_frame_put(bytes->data, &frame, &place);
  rv = flume_io_write_full(io, log->deleted_file, bytes->data, bytes->len, log->deleted_end_off);
  if (rv == 0) rv = io->sync(io->ctx, log->deleted_file);
  if (rv == 0) log->deleted_end_off += bytes->len;
  return rv;
}
