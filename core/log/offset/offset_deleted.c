/* The files "deleted" and "zeros" of PATH.flume: rows of delete frames with an end frame behind them, like the file "deleted"
 * of a file log (core/FORMAT.md).
 *
 * Happy path: a frame is written over the end frame and synced; then an end frame is written behind it, which is not
 * synced.
 *
 * Failures: a bad frame with no good one behind it is a torn write, which was never acknowledged. Any other is damage.
 *
 * Invariants: seqs in memory are those of frames that are on disk. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/path.h"
#include "log/offset/offset_log.h"

void flume__offset_set_init(struct flume_offset_set *set, const struct flume_io *io, const char *name) {
  *set = (struct flume_offset_set){.name = name, .file = -1};
  flume_deletions_init(&set->seqs, io);
}

void flume__offset_set_fini(struct flume_offset_set *set, const struct flume_io *io) {
  if (set->file >= 0) io->close(io->ctx, set->file);
  set->file = -1;
  flume_deletions_fini(&set->seqs);
  flume_deletions_init(&set->seqs, io);
}

static int fail(const struct offset_log *log, const struct flume_offset_set *set, const char *doing, int rv,
                struct flume_err *err) {
  return flume_err_set(err, rv, "%s %s/%s: %s", doing, log->log.dir, set->name, flume_strerror(rv));
}

static int open_file(struct offset_log *log, struct flume_offset_set *set, const char *suffix, int mode) {
  char name[32], path[FLUME_PATH_MAX];
  snprintf(name, sizeof name, "%s%s", set->name, suffix);
  int rv = flume__offset_path(log, name, path, sizeof path);
  return rv == 0 ? log->log.io->open(log->log.io->ctx, path, mode) : rv;
}

/* Takes over what the file has between the end of what is known and end_off. */
static int take_more(struct offset_log *log, struct flume_offset_set *set, uint64_t end_off, struct flume_buf *bytes,
                     struct flume_err *err) {
  const struct flume_io *io = log->log.io;
  int64_t size = io->size(io->ctx, set->file);
  if (size < 0) return fail(log, set, "reading", (int)size, err);
  uint64_t from = set->seqs.end_off, to = (uint64_t)size < end_off ? (uint64_t)size : end_off, bad_off = 0;
  if (to <= from) return 0;
  int rv = flume_buf_reserve(bytes, (size_t)(to - from));
  if (rv == 0) rv = flume_io_read_full(io, set->file, bytes->data, (size_t)(to - from), from);
  if (rv != 0) return fail(log, set, "reading", rv, err);
  bytes->len = (size_t)(to - from);
  rv = flume_deletions_follow(&set->seqs, bytes, log->log.id, &bad_off);
  if (rv == FLUME_ENOMEM) flume_err_nomem(err);
  if (rv == FLUME_ECORRUPT) {
    flume_err_set(err, rv, "%s/%s: byte %llu: bad frame", log->log.dir, set->name, (unsigned long long)bad_off);
  }
  return rv;
}

int flume__offset_set_load(struct offset_log *log, struct flume_offset_set *set, uint64_t end_off,
                           struct flume_err *err) {
  if (set->file < 0) {
    int rv = open_file(log, set, "", log->log.readonly ? FLUME_IO_READ : FLUME_IO_WRITE);
    if (rv == UV_ENOENT || rv == UV_ENOTDIR) return 0;
    if (rv < 0) return fail(log, set, "opening", rv, err);
    set->file = rv;
  }
  struct flume_buf bytes;
  flume_buf_init(&bytes, log->log.io);
  int rv = take_more(log, set, end_off, &bytes, err);
  flume_buf_fini(&bytes);
  return rv;
}

int flume__offset_set_read(struct offset_log *log, struct flume_offset_set *set, struct flume_buf *bytes) {
  const struct flume_io *io = log->log.io;
  int file = open_file(log, set, "", FLUME_IO_READ);
  int64_t size = file >= 0 ? io->size(io->ctx, file) : file;
  int rv = size < 0 ? (int)size : flume_buf_reserve(bytes, (size_t)size);
  if (rv == 0) rv = flume_io_read_full(io, file, bytes->data, (size_t)size, 0);
  if (rv == 0) bytes->len = (size_t)size;
  if (file >= 0) io->close(io->ctx, file);
  return rv;
}

/* A writer puts another file in its place when it opens the log. */
static int check_name(struct offset_log *log, struct flume_offset_set *set, struct flume_err *err) {
  const struct flume_io *io = log->log.io;
  char path[FLUME_PATH_MAX];
  int rv = flume__offset_path(log, set->name, path, sizeof path);
  if (rv != 0) return fail(log, set, "reading", rv, err);
  rv = io->is_at(io->ctx, set->file, path);
  if (rv < 0 && rv != UV_ENOENT && rv != UV_ENOTDIR) return fail(log, set, "reading", rv, err);
  if (rv != 1) flume__offset_set_fini(set, io);
  return 0;
}

int flume__offset_set_follow(struct offset_log *log, struct flume_offset_set *set, uint64_t end_off,
                             struct flume_err *err) {
  int rv = set->file >= 0 ? check_name(log, set, err) : 0;
  if (rv == 0) rv = flume__offset_set_load(log, set, end_off, err);
  if (rv != 0 || end_off == UINT64_MAX || set->seqs.end_off >= end_off) return rv;
  return flume_err_set(err, FLUME_ECORRUPT, "%s/%s: byte %llu: what was acknowledged is not there", log->log.dir,
                       set->name, (unsigned long long)set->seqs.end_off);
}

/* Writes a new file, and puts it in the place of the old one. */
static int replace(struct offset_log *log, struct flume_offset_set *set, const struct flume_buf *bytes) {
  const struct flume_io *io = log->log.io;
  char from[FLUME_PATH_MAX], to[FLUME_PATH_MAX], name[32];
  snprintf(name, sizeof name, "%s.new", set->name);
  int rv = flume__offset_path(log, name, from, sizeof from);
  if (rv == 0) rv = flume__offset_path(log, set->name, to, sizeof to);
  if (rv != 0) return rv;
  int file = open_file(log, set, ".new", FLUME_IO_WRITE | FLUME_IO_CREATE);
  if (file < 0) return file;
  rv = io->truncate(io->ctx, file, 0);
  if (rv == 0) rv = flume_io_write_full(io, file, bytes->data, bytes->len, 0);
  if (rv == 0) rv = io->sync(io->ctx, file);
  if (rv == 0) rv = io->rename(io->ctx, from, to);
  if (rv == 0) rv = io->sync_dir(io->ctx, log->log.dir);
  if (rv != 0) {
    io->close(io->ctx, file);
    return rv;
  }
  if (set->file >= 0) io->close(io->ctx, set->file);
  set->file = file;
  return 0;
}

int flume__offset_set_rewrite(struct offset_log *log, struct flume_offset_set *set, struct flume_err *err) {
  assert(!log->log.readonly);
  if (set->seqs.ended || (set->file < 0 && set->seqs.deleted.count == 0)) return 0;
  const struct flume_io *io = log->log.io;
  struct flume_buf bytes;
  flume_buf_init(&bytes, io);
  int rv = flume_deletions_write(&set->seqs, &bytes, io->now_ms(io->ctx), log->log.id);
  if (rv == 0) rv = replace(log, set, &bytes);
  if (rv == 0) {
    set->seqs.end_off = bytes.len - FLUME_FRAME_HEADER_BYTES;
    set->seqs.ended = true;
  } else {
    fail(log, set, "writing", rv, err);
  }
  flume_buf_fini(&bytes);
  return rv;
}

static int open_new(struct offset_log *log, struct flume_offset_set *set) {
  int file = open_file(log, set, "", FLUME_IO_WRITE | FLUME_IO_CREATE);
  if (file < 0) return file;
  set->file = file;
  return log->log.io->sync_dir(log->log.io->ctx, log->log.dir);
}

int flume__offset_set_write(struct offset_log *log, struct flume_offset_set *set, struct flume_buf *bytes,
                            uint32_t count, struct flume_err *err) {
  const struct flume_io *io = log->log.io;
  if (count == 0) return 0;
  int64_t ordinal = (int64_t)set->seqs.deleted.count;
  assert(!log->log.readonly && bytes->cap > FLUME_FRAME_HEADER_BYTES);
  uint64_t time_ms = io->now_ms(io->ctx);
  flume_deletions_put(bytes, count, ordinal, set->seqs.end_off, time_ms, log->log.id, 0);
  int rv = set->file >= 0 ? 0 : open_new(log, set);
  if (rv == 0) rv = flume_io_write_full(io, set->file, bytes->data, bytes->len, set->seqs.end_off);
  if (rv == 0) rv = io->sync(io->ctx, set->file);
  if (rv != 0) return fail(log, set, "writing", rv, err);
  set->seqs.end_off += bytes->len;
  uint8_t header[FLUME_FRAME_HEADER_BYTES];
  flume_deletions_put_end(header, ordinal + count, set->seqs.end_off, time_ms, log->log.id);
  /* Should this fail, the seqs are on disk even so, and a torn end frame is what a crash may leave as well. */
  set->unsynced = flume_io_write_full(io, set->file, header, sizeof header, set->seqs.end_off) == 0;
  return 0;
}

void flume__offset_set_publish(struct flume_offset_set *set, const struct flume_buf *bytes, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    flume_tombstones_add(&set->seqs.deleted, (int64_t)flume_get_le64(flume_deletions_seq(bytes, i)));
  }
}

int flume__offset_set_end(struct offset_log *log, struct flume_offset_set *set, struct flume_err *err) {
  if (!set->unsynced) return 0;
  int rv = log->log.io->sync(log->log.io->ctx, set->file);
  if (rv != 0) return fail(log, set, "syncing", rv, err);
  set->unsynced = false;
  return 0;
}
