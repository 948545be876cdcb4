#include "maintenance/view_files.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/path.h"
#include "log/report.h"

#define STORE "data.mdb"
#define STORE_LOCK "lock.mdb"
#define TRIES 4

struct copying {
  const struct flume_io *io;
  const char *from;
  const char *to;
  enum flume_store_sharing sharing;
  struct flume_copied *copied;
};

static int copy_tree(const struct copying *copying);

static int copy_store(const struct copying *copying) {
  struct flume_store_meta meta;
  int rv = flume_store_copy(copying->io, copying->from, copying->to, copying->sharing, NULL);
  return rv == 0 ? flume_store_check(copying->io, copying->to, FLUME_STORE_RESTS, &meta, NULL) : rv;
}

enum flume_store_sharing flume__views_sharing(const struct flume_log *log) {
  bool here = !log->readonly || flume__lock_file_holder(log->io, log->dir) == uv_os_getpid();
  return here ? FLUME_STORE_RESTS : FLUME_STORE_SHARED;
}

/* --- Trees --------------------------------------------------------------------------------------------------- */

static int count_file(const struct copying *copying, const char *path) {
  const struct flume_io *io = copying->io;
  int file = io->open(io->ctx, path, FLUME_IO_WRITE);
  if (file < 0) return file;
  int64_t size = io->size(io->ctx, file);
  int rv = size < 0 ? (int)size : io->sync(io->ctx, file);
  io->close(io->ctx, file);
  if (rv != 0) return rv;
  copying->copied->files++;
  copying->copied->bytes += (uint64_t)size;
  return 0;
}

static int copy_file(const struct copying *copying, const char *from, const char *to) {
  const struct flume_io *io = copying->io;
  int file = io->open(io->ctx, from, FLUME_IO_READ);
  if (file < 0) return file;
  int64_t size = io->size(io->ctx, file);
  io->close(io->ctx, file);
  return size < 0 ? (int)size : flume_io_copy(io, from, to, (uint64_t)size);
}

static int copy_entry(void *arg, const char *name) {
  const struct copying *copying = arg;
  char from[FLUME_PATH_MAX], to[FLUME_PATH_MAX];
  int rv = flume_path_join(from, sizeof from, copying->from, name);
  if (rv == 0) rv = flume_path_join(to, sizeof to, copying->to, name);
  if (rv != 0 || strcmp(name, STORE_LOCK) == 0) return rv;
  struct copying below = *copying;
  below.from = from;
  below.to = to;
  rv = copy_tree(&below);
  if (rv != UV_ENOTDIR) return rv;
  rv = strcmp(name, STORE) == 0 ? copy_store(copying) : copy_file(copying, from, to);
  return rv == 0 ? count_file(copying, to) : rv;
}

static int each_nothing(void *arg, const char *name) {
  (void)arg;
  (void)name;
  return 0;
}

/* UV_ENOTDIR for a file. */
static int copy_tree(const struct copying *copying) {
  const struct flume_io *io = copying->io;
  int rv = io->list(io->ctx, copying->from, each_nothing, NULL);
  if (rv == 0) rv = io->mkdir(io->ctx, copying->to);
  if (rv == 0) rv = io->list(io->ctx, copying->from, copy_entry, (void *)copying);
  return rv == 0 ? io->sync_dir(io->ctx, copying->to) : rv;
}

/* --- Views --------------------------------------------------------------------------------------------------- */

/* What failed was the view's own doing: it changed under the copying, or it is damaged. */
static bool is_of_view(int rv) {
  return rv == UV_ENOENT || rv == UV_EEXIST || rv == FLUME_ECORRUPT || rv == UV_EINVAL;
}

static int copy_view(void *arg, const char *name) {
  const struct copying *views = arg;
  char from[FLUME_PATH_MAX], to[FLUME_PATH_MAX];
  int rv = flume_path_join(from, sizeof from, views->from, name);
  if (rv == 0) rv = flume_path_join(to, sizeof to, views->to, name);
  if (rv != 0) return rv;
  for (int i = 0; i < TRIES; i++) {
    struct flume_copied copied = {.bytes = 0};
    struct copying view = {views->io, from, to, views->sharing, &copied};
    rv = copy_tree(&view);
    if (rv == UV_ENOTDIR) return 0; /* no view */
    if (rv == 0) {
      views->copied->bytes += copied.bytes;
      views->copied->files += copied.files;
      return 0;
    }
    int removed = flume_io_remove_all(views->io, to);
    if (removed != 0 || !is_of_view(rv)) return removed != 0 ? removed : rv;
  }
  return 0;
}

int flume_views_copy(const struct flume_io *io, const char *from, const char *to, enum flume_store_sharing sharing,
                     struct flume_copied *copied, struct flume_err *err) {
  struct copying views = {io, from, to, sharing, copied};
  int rv = io->list(io->ctx, from, each_nothing, NULL);
  if (rv == UV_ENOENT) return 0;
  if (rv == 0) rv = io->mkdir(io->ctx, to);
  if (rv == 0) rv = io->list(io->ctx, from, copy_view, &views);
  if (rv == 0) rv = io->sync_dir(io->ctx, to);
  return rv == 0 ? 0 : flume_err_set(err, rv, "copying %s to %s: %s", from, to, flume_strerror(rv));
}

/* --- Checking ------------------------------------------------------------------------------------------------ */

struct checking {
  const struct flume_io *io;
  const char *dir;
  const char *name; /* of the view; NULL among views */
  enum flume_store_sharing sharing;
  struct flume_report *report;
};

static int check_version(void *arg, const char *name) {
  const struct checking *view = arg;
  char path[FLUME_PATH_MAX], file[128];
  struct flume_store_meta meta;
  struct flume_err why;
  int rv = flume_path_join(path, sizeof path, view->dir, name);
  if (rv != 0 || name[strspn(name, "0123456789")] != '\0') return rv;
  rv = flume_store_check(view->io, path, view->sharing, &meta, &why);
  if (rv == 0 || rv == FLUME_ENOENT) return 0;
  if (rv == FLUME_ENOMEM) return rv;
  snprintf(file, sizeof file, "views/%s/%s", view->name, name);
  return flume_report_add(view->report, FLUME_FINDING_DAMAGE, file, 0, -1, "%s", flume_strerror(rv));
}

static int check_view(void *arg, const char *name) {
  const struct checking *views = arg;
  char path[FLUME_PATH_MAX];
  int rv = flume_path_join(path, sizeof path, views->dir, name);
  if (rv != 0) return rv;
  struct checking view = {views->io, path, name, views->sharing, views->report};
  rv = views->io->list(views->io->ctx, path, check_version, &view);
  return rv == UV_ENOTDIR || rv == UV_ENOENT ? 0 : rv;
}

int flume_views_check(const struct flume_io *io, const char *dir, enum flume_store_sharing sharing,
                      struct flume_report *report, struct flume_err *err) {
  struct checking views = {io, dir, NULL, sharing, report};
  int rv = io->list(io->ctx, dir, check_view, &views);
  if (rv == 0 || rv == UV_ENOENT) return 0;
  return flume_err_set(err, rv, "checking the views in %s: %s", dir, flume_strerror(rv));
}
