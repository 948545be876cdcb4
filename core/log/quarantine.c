#include "log/quarantine.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/path.h"

void flume__quarantine_init(struct flume_quarantine *quarantine, const struct flume_io *io, const char *dir) {
  quarantine->io = io;
  quarantine->dir = dir;
  quarantine->path[0] = '\0';
}

static bool exists(const struct flume_io *io, const char *path) {
  int file = io->open(io->ctx, path, FLUME_IO_READ);
  if (file >= 0) io->close(io->ctx, file);
  return file >= 0;
}

static int make(struct flume_quarantine *quarantine) {
  const struct flume_io *io = quarantine->io;
  if (quarantine->path[0] != '\0') return 0;
  uint64_t time_ms = io->now_ms(io->ctx);
  int rv;
  do {
    char name[40];
    snprintf(name, sizeof name, FLUME_QUARANTINE_PREFIX "%llu", (unsigned long long)time_ms++);
    rv = flume_path_join(quarantine->path, sizeof quarantine->path, quarantine->dir, name);
  } while (rv == 0 && exists(io, quarantine->path));
  if (rv == 0) rv = io->mkdir(io->ctx, quarantine->path);
  return rv == 0 ? io->sync_dir(io->ctx, quarantine->dir) : rv;
}

int flume__quarantine_make(struct flume_quarantine *quarantine, struct flume_err *err) {
  int rv = make(quarantine);
  return rv == 0 ? 0 : flume_err_set(err, rv, "creating %s: %s", quarantine->path, flume_strerror(rv));
}

int flume__quarantine_name(const struct flume_quarantine *quarantine, const char *name, char *path, size_t size) {
  return flume_path_join(path, size, quarantine->path, name);
}

int flume__quarantine_put(struct flume_quarantine *quarantine, const char *name, struct flume_err *err) {
  const struct flume_io *io = quarantine->io;
  char from[FLUME_PATH_MAX], to[FLUME_PATH_MAX];
  int rv = flume_path_join(from, sizeof from, quarantine->dir, name);
  int file = rv == 0 ? io->open(io->ctx, from, FLUME_IO_READ) : rv;
  if (file == UV_ENOENT) return 0;
  int64_t size = file >= 0 ? io->size(io->ctx, file) : file;
  if (file >= 0) io->close(io->ctx, file);
  if (size < 0) return flume_err_set(err, (int)size, "%s: %s", from, flume_strerror((int)size));
  rv = make(quarantine);
  if (rv == 0) rv = flume_path_join(to, sizeof to, quarantine->path, name);
  if (rv == 0) rv = flume_io_copy(io, from, to, (uint64_t)size);
  if (rv == 0) rv = io->sync_dir(io->ctx, quarantine->path);
  return rv == 0 ? 0 : flume_err_set(err, rv, "copying %s to %s: %s", from, quarantine->path, flume_strerror(rv));
}

const char *flume__quarantine_dir(const struct flume_quarantine *quarantine) {
  return quarantine->path[0] != '\0' ? strrchr(quarantine->path, '/') + 1 : NULL;
}
