#include "log/lock_file.h"

#include <assert.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/path.h"

#define AT_CRC (FLUME_WATERMARK_BYTES - 4)

/* --- The lock ---------------------------------------------------------------------------------------------------- */

int flume__lock_file_path(const char *dir, char *path, size_t size, struct flume_err *err) {
  int rv = flume_path_join(path, size, dir, "lock");
  return rv == 0 ? 0 : flume_err_set(err, rv, "%s: %s", dir, flume_strerror(rv));
}

uv_pid_t flume__lock_file_holder(const struct flume_io *io, const char *dir) {
  char path[FLUME_PATH_MAX], text[16] = {0};
  int file = flume__lock_file_path(dir, path, sizeof path, NULL);
  if (file == 0) file = io->open(io->ctx, path, FLUME_IO_READ);
  if (file < 0) return 0;
  int64_t read = io->read(io->ctx, file, text, sizeof text - 1, 0);
  io->close(io->ctx, file);
  return read > 0 ? (uv_pid_t)atoi(text) : 0;
}

void flume__lock_file_init(struct flume_lock_file *lock, const struct flume_io *io, const char *dir) {
  *lock = (struct flume_lock_file){.io = io, .dir = dir, .file = -1};
}

int flume__lock_file_take(struct flume_lock_file *lock, const char *name, struct flume_err *err) {
  const struct flume_io *io = lock->io;
  char path[FLUME_PATH_MAX], holder[128];
  assert(lock->file < 0);
  int rv = flume__lock_file_path(lock->dir, path, sizeof path, err);
  if (rv != 0) return rv;
  int file = io->open(io->ctx, path, FLUME_IO_WRITE | FLUME_IO_CREATE);
  if (file < 0) return flume_err_set(err, file, "opening %s: %s", path, flume_strerror(file));
  rv = io->lock(io->ctx, file, holder, sizeof holder);
  if (rv != 0) io->close(io->ctx, file);
  if (rv == UV_EAGAIN) return flume_err_set(err, FLUME_ELOCKED, "%s is open for writing in %s", name, holder);
  if (rv != 0) return flume_err_set(err, rv, "locking %s: %s", path, flume_strerror(rv));
  lock->file = file;
  lock->pid = uv_os_getpid();
  return 0;
}

void flume__lock_file_release(struct flume_lock_file *lock) {
  if (lock->file >= 0) lock->io->close(lock->io->ctx, lock->file);
  lock->file = -1;
}

int flume__lock_file_check(const struct flume_lock_file *lock, const char *name, struct flume_err *err) {
  if (lock->pid == uv_os_getpid()) return 0;
  return flume_err_set(err, FLUME_ELOCKED, "%s was opened for writing by process %d, and this is another", name,
                       (int)lock->pid);
}

/* --- The high watermark ------------------------------------------------------------------------------------------- */

int flume__watermark_begin(struct flume_lock_file *lock, const uint8_t *log_id, int64_t since, uint64_t deleted_end_off,
                           struct flume_err *err) {
  assert(lock->file >= 0);
  int rv = uv_random(NULL, NULL, &lock->watermark.writer, sizeof lock->watermark.writer, 0, NULL);
  if (rv != 0) return flume_err_set(err, rv, "writing %s/lock: %s", lock->dir, flume_strerror(rv));
  lock->watermark.since = since;
  lock->watermark.deleted_end_off = deleted_end_off;
  return flume__watermark_tell(lock, log_id, err);
}

int flume__watermark_tell(struct flume_lock_file *lock, const uint8_t *log_id, struct flume_err *err) {
  assert(lock->file >= 0);
  int rv = flume__watermark_write(lock->io, lock->file, log_id, &lock->watermark);
  return rv == 0 ? 0 : flume_err_set(err, rv, "writing %s/lock: %s", lock->dir, flume_strerror(rv));
}

static uint32_t watermark_crc(const uint8_t *log_id, const uint8_t *bytes) {
  return flume_crc32c(flume_crc32c(0, log_id, 16), bytes, AT_CRC);
}

int flume__watermark_write(const struct flume_io *io, int lock_file, const uint8_t *log_id,
                           const struct flume_watermark *watermark) {
  uint8_t bytes[FLUME_WATERMARK_BYTES];
  flume_put_le64(bytes, (uint64_t)watermark->since);
  flume_put_le64(bytes + 8, watermark->deleted_end_off);
  flume_put_le64(bytes + 16, watermark->writer);
  flume_put_le32(bytes + AT_CRC, watermark_crc(log_id, bytes));
  return flume_io_write_full(io, lock_file, bytes, sizeof bytes, FLUME_IO_LOCK_BYTES);
}

int flume__watermark_get(const uint8_t *bytes, const uint8_t *log_id, struct flume_watermark *watermark) {
  if (flume_get_le32(bytes + AT_CRC) != watermark_crc(log_id, bytes)) return FLUME_ENOENT;
  watermark->since = (int64_t)flume_get_le64(bytes);
  watermark->deleted_end_off = flume_get_le64(bytes + 8);
  watermark->writer = flume_get_le64(bytes + 16);
  return 0;
}

int flume__watermark_read(const struct flume_io *io, int lock_file, const uint8_t *log_id,
                          struct flume_watermark *watermark) {
  uint8_t bytes[FLUME_WATERMARK_BYTES];
  int rv = flume_io_read_full(io, lock_file, bytes, sizeof bytes, FLUME_IO_LOCK_BYTES);
  if (rv == FLUME_ECORRUPT) return FLUME_ENOENT;
  return rv == 0 ? flume__watermark_get(bytes, log_id, watermark) : rv;
}

int flume__watermark_remove(const struct flume_io *io, int lock_file) {
  int rv = io->truncate(io->ctx, lock_file, FLUME_IO_LOCK_BYTES);
  return rv == 0 ? io->sync(io->ctx, lock_file) : rv;
}
