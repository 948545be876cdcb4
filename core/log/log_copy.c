#include "log/log_copy.h"

#include <assert.h>

#include "base/err.h"
#include "base/path.h"

#define PIECE_BYTES (8u << 20)

int flume__copy_fail(struct flume_log_copy *copy, int rv, const char *path) {
  assert(rv != 0);
  return flume_err_set(&copy->err, rv, "backing up to %s: %s", path, flume_strerror(rv));
}

int flume__copy_path(const struct flume_log_copy *copy, const char *name, char *path, size_t size) {
  return flume_path_join(path, size, copy->dir, name);
}

static int open_portion(struct flume_log_copy *copy) {
  const struct flume_io *io = copy->log->io;
  struct flume_portion *portion = &copy->portions[copy->at];
  char from[FLUME_PATH_MAX], to[FLUME_PATH_MAX], name[FLUME_PATH_MAX];
  int rv = copy->ops->name(copy, portion, from, name, sizeof name);
  if (rv == 0) rv = flume__copy_path(copy, name, to, sizeof to);
  if (rv != 0) return flume__copy_fail(copy, rv, copy->dir);
  copy->from = io->open(io->ctx, from, FLUME_IO_READ);
  if (copy->from < 0) return flume__copy_fail(copy, copy->from, from);
  copy->to = io->open(io->ctx, to, FLUME_IO_WRITE | FLUME_IO_CREATE | FLUME_IO_EXCLUSIVE);
  if (copy->to < 0) return flume__copy_fail(copy, copy->to, to);
  int64_t size = io->size(io->ctx, copy->from);
  if (size < 0) return flume__copy_fail(copy, (int)size, from);
  if (portion->whole) { /* now it is known */
    copy->total_bytes += (uint64_t)size - portion->bytes;
    portion->bytes = (uint64_t)size;
  }
  if ((uint64_t)size < portion->bytes) return flume__copy_fail(copy, FLUME_ECORRUPT, from);
  copy->off = 0;
  return 0;
}

static int close_portion(struct flume_log_copy *copy) {
  const struct flume_io *io = copy->log->io;
  int rv = 0;
  if (copy->to >= 0) rv = io->close(io->ctx, copy->to);
  if (copy->from >= 0) io->close(io->ctx, copy->from);
  copy->from = copy->to = -1;
  return rv;
}

static int copy_piece(struct flume_log_copy *copy) {
  const struct flume_io *io = copy->log->io;
  uint64_t left = copy->portions[copy->at].bytes - copy->off;
  size_t bytes = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
  struct flume_buf piece;
  flume_buf_init(&piece, io);
  int rv = flume_buf_reserve(&piece, bytes);
  if (rv == 0) rv = flume_io_read_full(io, copy->from, piece.data, bytes, copy->off);
  if (rv == 0) rv = flume_io_write_full(io, copy->to, piece.data, bytes, copy->off);
  flume_buf_fini(&piece);
  copy->off += bytes;
  return rv;
}

/* 1 when there is more to copy. */
static int step_portions(struct flume_log_copy *copy) {
  const struct flume_io *io = copy->log->io;
  int rv = copy->from < 0 ? open_portion(copy) : 0;
  if (rv != 0) return rv;
  rv = copy_piece(copy);
  if (rv != 0) return flume__copy_fail(copy, rv, copy->dir);
  const struct flume_portion *portion = &copy->portions[copy->at];
  if (copy->off < portion->bytes) return 1;
  rv = io->sync(io->ctx, copy->to);
  if (rv == 0) rv = close_portion(copy);
  if (rv != 0) return flume__copy_fail(copy, rv, copy->dir);
  copy->done_bytes += portion->bytes;
  copy->off = 0;
  copy->bytes += portion->bytes;
  copy->files++;
  return ++copy->at < copy->portions_count;
}

int flume__copy_put(struct flume_log_copy *copy, const char *name, const struct flume_buf *bytes) {
  const struct flume_io *io = copy->log->io;
  char path[FLUME_PATH_MAX];
  if (bytes->len == 0) return 0;
  int rv = flume__copy_path(copy, name, path, sizeof path);
  int file = rv == 0 ? io->open(io->ctx, path, FLUME_IO_WRITE | FLUME_IO_CREATE | FLUME_IO_EXCLUSIVE) : rv;
  if (file < 0) return flume__copy_fail(copy, file, copy->dir);
  rv = flume_io_write_full(io, file, bytes->data, bytes->len, 0);
  if (rv == 0) rv = io->sync(io->ctx, file);
  io->close(io->ctx, file);
  if (rv != 0) return flume__copy_fail(copy, rv, copy->dir);
  copy->bytes += bytes->len;
  copy->files++;
  return 0;
}

static int finish(struct flume_log_copy *copy) {
  char path[FLUME_PATH_MAX];
  int rv = copy->ops->finish(copy);
  if (rv != 0) return rv;
  rv = flume__copy_path(copy, copy->log_dir, path, sizeof path);
  if (rv == 0) rv = copy->log->io->sync_dir(copy->log->io->ctx, path);
  return rv == 0 ? 0 : flume__copy_fail(copy, rv, copy->dir);
}

int flume__copy_step(struct flume_log_copy *copy) {
  assert(copy->at <= copy->portions_count);
  if (copy->at == copy->portions_count) return finish(copy);
  int rv = step_portions(copy);
  return rv < 0 ? rv : 1;
}

int flume__copy_take_stock(struct flume_log_copy *copy) {
  assert(copy->portions == NULL);
  int rv = copy->ops->take_stock(copy);
  if (rv != 0) return rv;
  for (size_t i = 0; i < copy->portions_count; i++) copy->total_bytes += copy->portions[i].bytes;
  return 0;
}

void flume__copy_measure(const struct flume_log_copy *copy, uint64_t *done_bytes, uint64_t *total_bytes) {
  *total_bytes = copy->total_bytes;
  *done_bytes = copy->done_bytes + copy->off;
  if (copy->at == copy->portions_count || *done_bytes > *total_bytes) *done_bytes = *total_bytes;
}

void flume__copy_init(struct flume_log_copy *copy, const char *dir) {
  copy->dir = dir;
  copy->from = copy->to = -1;
  copy->since = -1;
}

void flume__copy_free(struct flume_log_copy *copy) {
  const struct flume_io *io = copy->log->io;
  close_portion(copy);
  copy->ops->fini(copy);
  flume_io_free(io, copy->portions);
  flume_io_free(io, copy);
}
