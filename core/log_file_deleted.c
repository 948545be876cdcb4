/* The file "deleted": which records were deleted, in the order in which they were.
 *
 * A row of frames, each with the seqs of one call of del that were not deleted before, and behind them an end frame.
 *
 * Happy path: a delete is written in the place of the end frame and synced; then an end frame is written behind it,
 * which says that the frame was on disk. It is not synced: it only has to be there when the frame is found to be bad.
 *
 * Failures: a bad frame with no good one behind it is a torn write, which was never acknowledged, and is cut. Behind any
 * other there is at least the end frame: that is damage. A lost end frame costs nothing and is written anew. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "err.h"
#include "log_file.h"

#define DELETED_SEGMENT_SEQ (-1) /* in the place of its frames: no segment has it */
#define BODY_HEADER_BYTES 4      /* checksum */

static int deleted_path(const struct log_file *log, char *path, size_t size) {
  int len = snprintf(path, size, "%s/deleted", log->log.dir);
  return len > 0 && (size_t)len < size ? 0 : UV_ENAMETOOLONG;
}

/* --- Loading ------------------------------------------------------------------------------------------------- */

static int frame_at(const struct log_file *log, const struct flume_buf *file, size_t off, struct flume_frame *frame) {
  const char *why;
  if (file->len - off < FLUME_FRAME_HEADER_BYTES) return FLUME_ECORRUPT;
  struct flume_place place = {log->log.id, DELETED_SEGMENT_SEQ, off};
  int rv = flume_frame_get(file->data + off, frame, &place, &why);
  if (rv != 0) return rv;
  return frame->kind == FLUME_FRAME_DELETE || frame->kind == FLUME_FRAME_END ? 0 : FLUME_ECORRUPT;
}

static int take_seqs(struct log_file *log, const struct flume_frame *frame, const uint8_t *seqs) {
  int rv = flume_tombstones_reserve(&log->deleted, frame->count);
  bool lost = (frame->flags & FLUME_FRAME_LOST) != 0;
  if (rv == 0 && lost) rv = flume_tombstones_reserve(&log->lost, frame->count);
  if (rv != 0) return rv;
  for (uint32_t i = 0; i < frame->count; i++) {
    int64_t seq = (int64_t)flume_get_le64(seqs + (size_t)i * 8);
    if (seq < 0) flume_tombstones_add_unknown(&log->deleted);
    else flume_tombstones_add(&log->deleted, seq);
    if (lost) flume_tombstones_add(&log->lost, seq);
  }
  return 0;
}

/* Takes over the seqs of the frame at off, and *off behind it. */
static int take_frame(struct log_file *log, const struct flume_buf *file, size_t *off) {
  struct flume_frame frame;
  int rv = frame_at(log, file, *off, &frame);
  if (rv != 0) return rv;
  size_t body_off = *off + FLUME_FRAME_HEADER_BYTES;
  if (frame.kind != FLUME_FRAME_DELETE || frame.first_seq != (int64_t)log->deleted.count ||
      frame.body_bytes != BODY_HEADER_BYTES + (uint64_t)frame.count * 8 || file->len - body_off < frame.body_bytes) {
    return FLUME_ECORRUPT;
  }
  const uint8_t *body = file->data + body_off;
  if (flume_get_le32(body) != flume_crc32c(0, body + 4, frame.body_bytes - 4)) return FLUME_ECORRUPT;
  rv = take_seqs(log, &frame, body + BODY_HEADER_BYTES);
  if (rv == 0) *off = body_off + frame.body_bytes;
  return rv;
}

/* *ended: the end frame is where it should be, and nothing behind it. */
static int take_all(struct log_file *log, const struct flume_buf *file, bool *ended, struct flume_err *err) {
  size_t off = 0;
  int rv = 0;
  while (off < file->len && (rv = take_frame(log, file, &off)) == 0) continue;
  if (rv == FLUME_ENOMEM) return flume_err_nomem(err);
  struct flume_frame frame;
  for (size_t at = off + 1; at < file->len; at++) {
    if (frame_at(log, file, at, &frame) == 0) {
      return flume_err_set(err, FLUME_ECORRUPT, "%s/deleted: byte %zu: bad frame", log->log.dir, off);
    }
  }
  log->deleted_end_off = off;
  *ended = file->len == off + FLUME_FRAME_HEADER_BYTES && frame_at(log, file, off, &frame) == 0;
  return 0;
}

/* Only what was acknowledged can be deleted: a log that ends before it has lost more than a torn tail. A reader is no
 * judge of that, as the writer may have gone on since it read the segments. */
static int check_since(const struct log_file *log, struct flume_err *err) {
  int64_t last = flume_tombstones_last(&log->deleted);
  if (log->readonly || last <= log->log.since.value) return 0;
  const struct flume_segment *active = flume__file_active(log);
  return flume_err_set(err, FLUME_ECORRUPT, "%s: byte %llu (seq %lld): the log ends here, but seq %lld was deleted",
                       active->path, (unsigned long long)active->end_off, (long long)log->next_seq, (long long)last);
}

static int write_end(struct log_file *log, int64_t deletions) {
  const struct flume_io *io = log->log.io;
  struct flume_frame frame = {.kind = FLUME_FRAME_END,
                              .first_seq = deletions,
                              .time_ms = io->now_ms(io->ctx),
                              .durable_off = log->deleted_end_off};
  struct flume_place place = {log->log.id, DELETED_SEGMENT_SEQ, log->deleted_end_off};
  uint8_t header[FLUME_FRAME_HEADER_BYTES];
  flume_frame_put(header, &frame, &place);
  return flume_io_write_full(io, log->deleted_file, header, sizeof header, log->deleted_end_off);
}

/* Cuts a torn frame, and puts the end frame where it is missing. */
static int settle(struct log_file *log, struct flume_err *err) {
  const struct flume_io *io = log->log.io;
  int rv = io->truncate(io->ctx, log->deleted_file, log->deleted_end_off);
  if (rv == 0) rv = io->sync(io->ctx, log->deleted_file);
  if (rv == 0) rv = write_end(log, (int64_t)log->deleted.count);
  if (rv == 0) rv = io->sync(io->ctx, log->deleted_file);
  if (rv == 0) return 0;
  return flume_err_set(err, rv, "cutting the torn end of %s/deleted: %s", log->log.dir, flume_strerror(rv));
}

static int read_file(const struct log_file *log, struct flume_buf *file, struct flume_err *err) {
  const struct flume_io *io = log->log.io;
  int64_t size = io->size(io->ctx, log->deleted_file);
  int rv = size < 0 ? (int)size : flume_buf_reserve(file, (size_t)size);
  if (rv == 0) rv = flume_io_read_full(io, log->deleted_file, file->data, (size_t)size, 0);
  if (rv != 0) return flume_err_set(err, rv, "reading %s/deleted: %s", log->log.dir, flume_strerror(rv));
  file->len = (size_t)size;
  return 0;
}

int flume__deleted_load(struct log_file *log, struct flume_err *err) {
  const struct flume_io *io = log->log.io;
  char path[4096];
  int rv = deleted_path(log, path, sizeof path);
  if (rv == 0) rv = io->open(io->ctx, path, log->readonly ? FLUME_IO_READ : FLUME_IO_WRITE);
  if (rv == UV_ENOENT) return 0;
  if (rv < 0) return flume_err_set(err, rv, "opening %s/deleted: %s", log->log.dir, flume_strerror(rv));
  log->deleted_file = rv;
  struct flume_buf file;
  bool ended = false;
  flume_buf_init(&file, io);
  rv = read_file(log, &file, err);
  if (rv == 0) rv = take_all(log, &file, &ended, err);
  if (rv == 0) rv = check_since(log, err);
  if (rv == 0 && !ended && !log->readonly) rv = settle(log, err);
  flume_buf_fini(&file);
  log->log.deletions.value = (int64_t)log->deleted.count;
  return rv;
}

/* --- Writing ------------------------------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

static uint8_t *seqs_of(const struct flume_commit *commit) {
  return commit->bytes.data + FLUME_FRAME_HEADER_BYTES + BODY_HEADER_BYTES;
}

static int64_t seq_of(const struct flume_commit *commit, uint32_t i) {
  return (int64_t)flume_get_le64(seqs_of(commit) + (size_t)i * 8);
}

static void set_count(struct flume_commit *commit, uint32_t count) {
  commit->count = count;
  commit->bytes.len = FLUME_FRAME_HEADER_BYTES + BODY_HEADER_BYTES + (size_t)count * 8;
}

int flume__deleted_take(struct flume_commit *commit, const int64_t *seqs, size_t count) {
  const struct flume_io *io = commit->log->log.io;
  int rv = flume_buf_reserve(&commit->bytes, FLUME_FRAME_HEADER_BYTES + BODY_HEADER_BYTES + count * 8);
  if (rv != 0) return rv;
  int64_t *sorted = flume_io_alloc(io, count * sizeof *sorted);
  if (sorted == NULL) return FLUME_ENOMEM;
  if (count > 0) memcpy(sorted, seqs, count * sizeof *sorted);
  qsort(sorted, count, sizeof *sorted, ascending);
  uint32_t kept = 0;
  for (size_t i = 0; i < count; i++) {
    if (i > 0 && sorted[i] == sorted[i - 1]) continue;
    flume_put_le64(seqs_of(commit) + (size_t)kept++ * 8, (uint64_t)sorted[i]);
  }
  set_count(commit, kept);
  flume_io_free(io, sorted);
  return 0;
}

int flume__deleted_reserve(struct flume_commit *commit) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < commit->count; i++) {
    int64_t seq = seq_of(commit, i);
    if (flume_tombstones_has(&commit->log->deleted, seq)) continue;
    flume_put_le64(seqs_of(commit) + (size_t)kept++ * 8, (uint64_t)seq);
  }
  set_count(commit, kept);
  return flume_tombstones_reserve(&commit->log->deleted, kept);
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

static int write_frame(struct flume_commit *commit) {
  struct log_file *log = commit->log;
  const struct flume_io *io = log->log.io;
  struct flume_buf *bytes = &commit->bytes;
  uint8_t *body = bytes->data + FLUME_FRAME_HEADER_BYTES;
  uint32_t body_bytes = (uint32_t)(bytes->len - FLUME_FRAME_HEADER_BYTES);
  flume_put_le32(body, flume_crc32c(0, body + 4, body_bytes - 4));
  struct flume_frame frame = {.kind = FLUME_FRAME_DELETE,
                              .count = commit->count,
                              .body_bytes = body_bytes,
                              .first_seq = (int64_t)log->deleted.count,
                              .time_ms = io->now_ms(io->ctx),
                              .durable_off = log->deleted_end_off};
  struct flume_place place = {log->log.id, DELETED_SEGMENT_SEQ, log->deleted_end_off};
  flume_frame_put(bytes->data, &frame, &place);
  int rv = flume_io_write_full(io, log->deleted_file, bytes->data, bytes->len, log->deleted_end_off);
  return rv == 0 ? io->sync(io->ctx, log->deleted_file) : rv;
}

int flume__deleted_write(struct flume_commit *commit) {
  struct log_file *log = commit->log;
  if (commit->count == 0) return 0;
  int rv = log->deleted_file >= 0 ? 0 : open_new(log);
  if (rv == 0) rv = write_frame(commit);
  if (rv != 0) {
    return flume_err_set(&commit->err, rv, "writing deletions in %s: %s", log->log.dir, flume_strerror(rv));
  }
  log->deleted_end_off += commit->bytes.len;
  /* Should this fail, the deletes are on disk even so, and a torn end frame is what a crash may leave as well. */
  log->deleted_unsynced = write_end(log, (int64_t)log->deleted.count + commit->count) == 0;
  return 0;
}

int flume__deleted_end(struct flume_commit *commit) {
  struct log_file *log = commit->log;
  if (!log->deleted_unsynced) return 0;
  int rv = log->log.io->sync(log->log.io->ctx, log->deleted_file);
  if (rv != 0) return flume_err_set(&commit->err, rv, "syncing %s/deleted: %s", log->log.dir, flume_strerror(rv));
  log->deleted_unsynced = false;
  return 0;
}

void flume__deleted_publish(struct flume_commit *commit) {
  struct log_file *log = commit->log;
  for (uint32_t i = 0; i < commit->count; i++) flume_tombstones_add(&log->deleted, seq_of(commit, i));
  flume_obv_set(&log->log.deletions, (int64_t)log->deleted.count);
}
