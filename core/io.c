#include "io.h"

#include <stdio.h>
#include <string.h>

#include "err.h"

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

/* Makes path, and its name durable, unless it is there already. */
static int make_dir(const struct flume_io *io, const char *path, const char *parent) {
  int file = io->open(io->ctx, path, FLUME_IO_READ);
  if (file >= 0) return io->close(io->ctx, file);
  int rv = io->mkdir(io->ctx, path);
  return rv == 0 && file == UV_ENOENT ? io->sync_dir(io->ctx, parent) : rv;
}

int flume_io_mkdir_all(const struct flume_io *io, const char *path) {
  char part[4096], parent[4096];
  size_t len = strlen(path);
  if (len == 0 || len >= sizeof part) return UV_ENAMETOOLONG;
  memcpy(part, path, len + 1);
  strcpy(parent, path[0] == '/' ? "/" : ".");
  for (size_t i = 1; i < len; i++) {
    if (part[i] != '/') continue;
    part[i] = '\0';
    int rv = make_dir(io, part, parent);
    if (rv != 0) return rv;
    memcpy(parent, part, i + 1);
    part[i] = '/';
  }
  return make_dir(io, part, parent);
}

struct removal {
  const struct flume_io *io;
  const char *dir;
};

static int remove_entry(void *arg, const char *name) {
  struct removal *removal = arg;
  char path[4096];
  int len = snprintf(path, sizeof path, "%s/%s", removal->dir, name);
  if (len < 0 || (size_t)len >= sizeof path) return UV_ENAMETOOLONG;
  int rv = removal->io->unlink(removal->io->ctx, path);
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
