#include "base/io.h"

#include <string.h>

#include "base/err.h"
#include "base/path.h"

void *flume_io_alloc(const struct flume_io *io, size_t size) {
  return io->realloc(io->ctx, NULL, size > 0 ? size : 1);
}

void *flume_io_zalloc(const struct flume_io *io, size_t size) {
  void *ptr = flume_io_alloc(io, size);
  if (ptr != NULL) memset(ptr, 0, size);
  return ptr;
}

void *flume_io_realloc(const struct flume_io *io, void *ptr, size_t size) {
  return io->realloc(io->ctx, ptr, size > 0 ? size : 1);
}

void flume_io_free(const struct flume_io *io, void *ptr) {
  if (ptr != NULL) io->realloc(io->ctx, ptr, 0);
}

int flume_io_read_full(const struct flume_io *io, int file, void *data, size_t len, uint64_t off) {
  uint8_t *p = data;
  while (len > 0) {
    int64_t n = io->read(io->ctx, file, p, len, off);
    if (n == UV_EINTR) continue;
    if (n < 0) return (int)n;
    if (n == 0) return FLUME_ECORRUPT;
    p += n;
    off += (uint64_t)n;
    len -= (size_t)n;
  }
  return 0;
}

int flume_io_write_full(const struct flume_io *io, int file, const void *data, size_t len, uint64_t off) {
  const uint8_t *p = data;
  while (len > 0) {
    int64_t n = io->write(io->ctx, file, p, len, off);
    if (n == UV_EINTR) continue;
    if (n < 0) return (int)n;
    if (n == 0) return UV_ENOSPC;
    p += n;
    off += (uint64_t)n;
    len -= (size_t)n;
  }
  return 0;
}

#define COPY_BYTES (1u << 20)

static int copy_bytes(const struct flume_io *io, int from, int to, uint64_t len) {
  void *piece = flume_io_alloc(io, COPY_BYTES);
  if (piece == NULL) return FLUME_ENOMEM;
  int rv = 0;
  for (uint64_t off = 0; off < len && rv == 0; off += COPY_BYTES) {
    size_t bytes = len - off < COPY_BYTES ? (size_t)(len - off) : COPY_BYTES;
    rv = flume_io_read_full(io, from, piece, bytes, off);
    if (rv == 0) rv = flume_io_write_full(io, to, piece, bytes, off);
  }
  flume_io_free(io, piece);
  return rv == 0 ? io->sync(io->ctx, to) : rv;
}

int flume_io_copy(const struct flume_io *io, const char *from, const char *to, uint64_t len) {
  int source = io->open(io->ctx, from, FLUME_IO_READ);
  if (source < 0) return source;
  int target = io->open(io->ctx, to, FLUME_IO_WRITE | FLUME_IO_CREATE | FLUME_IO_EXCLUSIVE);
  int rv = target < 0 ? target : copy_bytes(io, source, target, len);
  if (target >= 0) {
    int closed = io->close(io->ctx, target);
    if (rv == 0) rv = closed;
  }
  io->close(io->ctx, source);
  return rv;
}

int flume_io_sync_name(const struct flume_io *io, const char *path) {
  char parent[FLUME_PATH_MAX];
  size_t len = strlen(path);
  if (len >= sizeof parent) return UV_ENAMETOOLONG;
  while (len > 1 && path[len - 1] == '/') len--;
  while (len > 0 && path[len - 1] != '/') len--;
  memcpy(parent, path, len);
  parent[len] = '\0';
  int rv = io->sync_dir(io->ctx, len > 0 ? parent : ".");
  return rv == UV_EACCES ? 0 : rv; /* where nothing can be read, nothing was made by us */
}

/* Whether a directory is there: 1, 0 or an errno. */
static int dir_exists(const struct flume_io *io, const char *path) {
  int file = io->open(io->ctx, path, FLUME_IO_READ);
  if (file >= 0) io->close(io->ctx, file);
  if (file >= 0 || file == UV_EACCES) return 1;
  return file == UV_ENOENT ? 0 : file;
}

/* A directory that is there may have been left by a process that was killed before it could make the name durable: so,
 * before anything is put into the last one that is there, its name is synced too. */
int flume_io_mkdir_all(const struct flume_io *io, const char *path) {
  char part[FLUME_PATH_MAX];
  size_t len = strlen(path), there = len;
  if (len == 0 || len >= sizeof part) return UV_ENAMETOOLONG;
  memcpy(part, path, len + 1);
  int rv = 0;
  while (there > 0 && (rv = dir_exists(io, part)) == 0) {
    const char *slash = strrchr(part, '/');
    there = slash == NULL ? 0 : (size_t)(slash - part);
    part[there] = '\0';
  }
  if (rv >= 0) rv = there == 0 || there == len ? 0 : flume_io_sync_name(io, part);
  for (size_t i = there + 1; rv == 0 && i <= len; i++) {
    if (path[i] != '/' && path[i] != '\0') continue;
    memcpy(part, path, i);
    part[i] = '\0';
    rv = io->mkdir(io->ctx, part);
    if (rv == 0) rv = flume_io_sync_name(io, part);
  }
  return rv;
}

struct removal {
  const struct flume_io *io;
  const char *dir;
};

static int remove_entry(void *arg, const char *name) {
  struct removal *removal = arg;
  char path[FLUME_PATH_MAX];
  int rv = flume_path_join(path, sizeof path, removal->dir, name);
  if (rv != 0) return rv;
  rv = removal->io->unlink(removal->io->ctx, path);
  if (rv == UV_EISDIR || rv == UV_EPERM) rv = flume_io_remove_all(removal->io, path);
  return rv == UV_ENOENT ? 0 : rv;
}

int flume_io_remove_all(const struct flume_io *io, const char *path) {
  struct removal removal = {.io = io, .dir = path};
  int rv = io->list(io->ctx, path, remove_entry, &removal);
  if (rv == UV_ENOENT) return 0;
  if (rv != 0) return rv;
  return io->rmdir(io->ctx, path);
}
