/* The file "deleted": which records were deleted, in the order of the deletions.
 *
 * It is a row of frames, each with the seqs of one call of del that were not deleted before. An end frame closes the row.
 *
 * Happy path: a delete is written over the end frame and synced; then an end frame is written behind it, which says that
 * the frame before it was on disk. The end frame is not synced: it only has to be there when that frame is found to be bad.
 *
 * Failures:
 *
 * - A bad frame with no good one behind it is a torn write. It was never acknowledged, and is cut.
 * - A bad frame with a good one behind it, at least the end frame, is damage.
 * - A lost end frame costs nothing, and is written again.
 *
 * Invariants: an ordinal is the number of deletions before it. Seqs in memory are those of frames that are on disk. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/path.h"
#include "log/file/file_log.h"

static int deleted_path(const struct file_log *log, char *path, size_t size) {
  return flume_path_join(path, size, log->log.dir, "deleted");
}

/* --- Loading ------------------------------------------------------------------------------------------------- */

static int take_all(struct file_log *log, const struct flume_buf *file, struct flume_err *err) {
  uint64_t bad_off;
  int rv = flume_deletions_read(&log->deletions, file, log->log.id, &bad_off);
  if (rv != FLUME_ECORRUPT) return rv == 0 ? 0 : flume_err_nomem(err);
  return flume_err_set(err, rv, "%s/deleted: byte %llu: bad frame", log->log.dir, (unsigned long long)bad_off);
}

/* Only what was acknowledged can be deleted: a log that ends before it has lost more than a torn tail. So has one that
 * ends before the last high watermark. A follower can't judge that, as the writer may have gone on since it read the
 * segments. */
static int check_acknowledged(const struct file_log *log, struct flume_err *err) {
  int64_t last = flume_tombstones_last(&log->deletions.deleted);
  if (log->log.readonly) return 0;
  if (last <= log->log.since.value) return flume__file_check_watermark(log, err);
  const struct flume_segment *active = flume__file_active(log);
  return flume_err_set(err, FLUME_ECORRUPT, "%s: byte %llu (seq %lld): the log ends here, but seq %lld was deleted",
                       active->path, (unsigned long long)active->end_off, (long long)log->next_seq, (long long)last);
}

static int write_end(struct file_log *log, int64_t deletions) {
  const struct flume_io *io = log->log.io;
  uint8_t header[FLUME_FRAME_HEADER_BYTES];
  flume_deletions_put_end(header, deletions, log->deletions.end_off, io->now_ms(io->ctx), log->log.id);
  return flume_io_write_full(io, log->deleted_file, header, sizeof header, log->deletions.end_off);
}

/* Cuts a torn frame, and puts the end frame where it is missing. Without one the frames before it may be in the system's
 * cache alone, also after a sync that failed, and the file's name as well: both are made durable. */
static int settle(struct file_log *log, const struct flume_buf *file, struct flume_err *err) {
  assert(!log->log.readonly && log->deletions.end_off <= file->len);
  const struct flume_io *io = log->log.io;
  size_t end_off = (size_t)log->deletions.end_off;
  int rv = io->truncate(io->ctx, log->deleted_file, end_off);
  if (rv == 0) rv = flume_io_write_full(io, log->deleted_file, file->data, end_off, 0);
  if (rv == 0) rv = io->sync(io->ctx, log->deleted_file);
  if (rv == 0) rv = io->sync_dir(io->ctx, log->log.dir);
  if (rv == 0) rv = write_end(log, (int64_t)log->deletions.deleted.count);
  if (rv == 0) rv = io->sync(io->ctx, log->deleted_file);
  if (rv == 0) return 0;
  return flume_err_set(err, rv, "settling the end of %s/deleted: %s", log->log.dir, flume_strerror(rv));
}

/* The bytes of the file from off to end_off. */
static int read_bytes(const struct file_log *log, uint64_t off, uint64_t end_off, struct flume_buf *bytes,
                      struct flume_err *err) {
  const struct flume_io *io = log->log.io;
  size_t len = (size_t)(end_off - off);
  int rv = flume_buf_reserve(bytes, len);
  if (rv == 0) rv = flume_io_read_full(io, log->deleted_file, bytes->data, len, off);
  if (rv != 0) return flume_err_set(err, rv, "reading %s/deleted: %s", log->log.dir, flume_strerror(rv));
  bytes->len = len;
  return 0;
}

static int64_t measure(const struct file_log *log, struct flume_err *err) {
  const struct flume_io *io = log->log.io;
  int64_t size = io->size(io->ctx, log->deleted_file);
  if (size >= 0) return size;
  return flume_err_set(err, (int)size, "reading %s/deleted: %s", log->log.dir, flume_strerror((int)size));
}

/* 0; UV_ENOENT when nothing was ever deleted. */
static int open_existing(struct file_log *log, struct flume_err *err) {
  const struct flume_io *io = log->log.io;
  if (log->deleted_file >= 0) return 0;
  char path[FLUME_PATH_MAX];
  int rv = deleted_path(log, path, sizeof path);
  if (rv == 0) rv = io->open(io->ctx, path, log->log.readonly ? FLUME_IO_READ : FLUME_IO_WRITE);
  if (rv < 0) return flume_err_set(err, rv, "opening %s/deleted: %s", log->log.dir, flume_strerror(rv));
  log->deleted_file = rv;
  return 0;
}

int flume__file_deleted_load(struct file_log *log, struct flume_err *err) {
  int rv = open_existing(log, err);
  if (rv != 0) return rv == UV_ENOENT ? check_acknowledged(log, err) : rv;
  int64_t size = measure(log, err);
  if (size < 0) return (int)size;
  struct flume_buf file;
  flume_buf_init(&file, log->log.io);
  rv = read_bytes(log, 0, (uint64_t)size, &file, err);
  if (rv == 0) rv = take_all(log, &file, err);
  if (rv == 0) rv = check_acknowledged(log, err);
  if (rv == 0 && !log->deletions.ended && !log->log.readonly) rv = settle(log, &file, err);
  flume_buf_fini(&file);
  log->log.deletions.value = (int64_t)log->deletions.deleted.count;
  return rv;
}

/* --- Following ----------------------------------------------------------------------------------------------- */

/* Takes over what stands between what was read and end_off, as far as it is good. */
static int take_more(struct file_log *log, uint64_t end_off, struct flume_err *err) {
  assert(flume__log_is_locked(&log->log) && end_off > log->deletions.end_off);
  struct flume_buf more;
  flume_buf_init(&more, log->log.io);
  uint64_t bad_off;
  int rv = read_bytes(log, log->deletions.end_off, end_off, &more, err);
  if (rv == 0) {
    rv = flume_deletions_follow(&log->deletions, &more, log->log.id, &bad_off);
    if (rv == FLUME_ENOMEM) flume_err_nomem(err);
    if (rv == FLUME_ECORRUPT) {
      flume_err_set(err, rv, "%s/deleted: byte %llu: bad frame", log->log.dir, (unsigned long long)bad_off);
    }
  }
  flume_buf_fini(&more);
  log->log.deletions.value = (int64_t)log->deletions.deleted.count; /* observers are told by the next look: follow.h */
  return rv;
}

int flume__file_deleted_follow(struct file_log *log, uint64_t end_off, struct flume_err *err) {
  assert(flume__log_is_locked(&log->log));
  if (end_off <= log->deletions.end_off) return 0;
  int rv = open_existing(log, err);
  if (rv == UV_ENOENT && end_off == UINT64_MAX) return 0;
  if (rv != 0) return rv;
  int64_t size = measure(log, err);
  if (size < 0) return (int)size;
  uint64_t to = (uint64_t)size < end_off ? (uint64_t)size : end_off;
  rv = to > log->deletions.end_off ? take_more(log, to, err) : 0;
  if (rv != 0 || end_off == UINT64_MAX || log->deletions.end_off == end_off) return rv;
  return flume_err_set(err, FLUME_ECORRUPT, "%s/deleted: byte %llu: what was acknowledged is not there", log->log.dir,
                       (unsigned long long)log->deletions.end_off);
}

/* --- Writing ------------------------------------------------------------------------------------------------- */

static int64_t seq_of(const struct file_commit *commit, uint32_t i) {
  return (int64_t)flume_get_le64(flume_deletions_seq(&commit->base.bytes, i));
}

static int open_new(struct file_log *log) {
  const struct flume_io *io = log->log.io;
  char path[FLUME_PATH_MAX];
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

static int write_frame(struct file_commit *commit) {
  struct file_log *log = flume__commit_log(commit);
  assert(log->deleted_file >= 0 && commit->base.count > 0);
  const struct flume_io *io = log->log.io;
  flume_deletions_put(&commit->base.bytes, commit->base.count, (int64_t)log->deletions.deleted.count,
                      log->deletions.end_off, io->now_ms(io->ctx), log->log.id, 0);
  int rv = flume_io_write_full(io, log->deleted_file, commit->base.bytes.data, commit->base.bytes.len,
                               log->deletions.end_off);
  return rv == 0 ? io->sync(io->ctx, log->deleted_file) : rv;
}

int flume__file_deleted_write(struct file_commit *commit) {
  struct file_log *log = flume__commit_log(commit);
  if (commit->base.count == 0) return 0;
  int rv = log->deleted_file >= 0 ? 0 : open_new(log);
  if (rv == 0) rv = write_frame(commit);
  if (rv != 0) {
    return flume_err_set(&commit->base.err, rv, "writing deletions in %s: %s", log->log.dir, flume_strerror(rv));
  }
  log->deletions.end_off += commit->base.bytes.len;
  /* Should this fail, the deletes are on disk even so, and a torn end frame is what a crash may leave as well. */
  log->deleted_unsynced = write_end(log, (int64_t)log->deletions.deleted.count + commit->base.count) == 0;
  return 0;
}

int flume__file_deleted_end(struct file_commit *commit) {
  struct file_log *log = flume__commit_log(commit);
  if (!log->deleted_unsynced) return 0;
  int rv = log->log.io->sync(log->log.io->ctx, log->deleted_file);
  if (rv != 0) return flume_err_set(&commit->base.err, rv, "syncing %s/deleted: %s", log->log.dir, flume_strerror(rv));
  log->deleted_unsynced = false;
  return 0;
}

void flume__file_deleted_publish(struct file_commit *commit) {
  struct file_log *log = flume__commit_log(commit);
  assert(flume__log_is_locked(&log->log));
  for (uint32_t i = 0; i < commit->base.count; i++) flume_tombstones_add(&log->deletions.deleted, seq_of(commit, i));
  flume_obv_set(&log->log.deletions, (int64_t)log->deletions.deleted.count);
}
