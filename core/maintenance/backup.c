/* Copying a log that is in use, and what its views keep, to a new directory.
 *
 * Happy path: in DIR.partial the views are copied first; then, on the loop, it is noted how far the log goes, which is
 * further than any of them; then the log's files are copied up to there. All is synced, and DIR.partial becomes DIR.
 *
 * Failures: a backup that fails removes DIR.partial; a crash leaves it, and its name says that it is no backup. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/path.h"
#include "log/log_copy.h"
#include "log/task.h"
#include "maintenance/view_files.h"

#define PARTIAL ".partial"

enum stage { STAGE_VIEWS, STAGE_LOG };

struct backup {
  struct flume_task task;
  struct flume_backup *req;
  struct flume_log_copy *copy;
  enum stage stage;
  char *dir;       /* the backup, in the end */
  char *partial;   /* until then */
  char *views_dir; /* or NULL */
  bool made;       /* there is a DIR.partial */
};

static const struct flume_io *io_of(const struct backup *task) {
  return flume_task_log(&task->task)->io;
}

static int fail(struct backup *task, int rv, const char *path) {
  return flume_err_set(&task->task.err, rv, "backing up to %s: %s", path, flume_strerror(rv));
}

/* --- On a worker thread -------------------------------------------------------------------------------------- */

static int any_name(void *arg, const char *name) {
  (void)arg;
  (void)name;
  return UV_ENOTEMPTY;
}

static int check_room(struct backup *task) {
  const struct flume_io *io = io_of(task);
  int rv = io->list(io->ctx, task->dir, any_name, NULL);
  if (rv == UV_ENOTEMPTY) return flume_err_set(&task->task.err, UV_EEXIST, "%s is there, and not empty", task->dir);
  if (rv != 0 && rv != UV_ENOENT) return fail(task, rv, task->dir);
  rv = io->list(io->ctx, task->partial, any_name, NULL);
  if (rv == 0 || rv == UV_ENOTEMPTY || rv == UV_ENOTDIR) {
    return flume_err_set(&task->task.err, UV_EEXIST, "%s is in the way: a backup that was cut short has left it",
                         task->partial);
  }
  return rv == UV_ENOENT ? 0 : fail(task, rv, task->partial);
}

static int copy_views(struct backup *task) {
  const struct flume_log *log = flume_task_log(&task->task);
  char path[FLUME_PATH_MAX];
  if (task->views_dir == NULL || task->copy->views_name[0] == '\0') return 0;
  int rv = flume__copy_path(task->copy, task->copy->views_name, path, sizeof path);
  if (rv != 0) return fail(task, rv, task->partial);
  struct flume_copied copied = {.bytes = 0};
  rv = flume_views_copy(log->io, task->views_dir, path, flume__views_sharing(log), &copied, &task->task.err);
  task->copy->bytes += copied.bytes;
  task->copy->files += copied.files;
  return rv;
}

static int begin(struct backup *task) {
  char path[FLUME_PATH_MAX];
  int rv = check_room(task);
  if (rv != 0) return rv;
  task->made = true;
  rv = flume__copy_path(task->copy, task->copy->log_dir, path, sizeof path);
  if (rv == 0) rv = flume_io_mkdir_all(io_of(task), path);
  return rv == 0 ? copy_views(task) : fail(task, rv, task->partial);
}

/* The directory that the backup is in. */
static void parent_of(const char *dir, char *parent, size_t size) {
  const char *slash = strrchr(dir, '/');
  if (slash == NULL) snprintf(parent, size, ".");
  else snprintf(parent, size, "%.*s", slash == dir ? 1 : (int)(slash - dir), dir);
}

/* DIR.partial becomes DIR. */
static int finish(struct backup *task) {
  const struct flume_io *io = io_of(task);
  char parent[FLUME_PATH_MAX];
  parent_of(task->dir, parent, sizeof parent);
  int rv = io->sync_dir(io->ctx, task->partial);
  if (rv == 0) rv = io->rename(io->ctx, task->partial, task->dir);
  if (rv != 0) return fail(task, rv, task->partial);
  task->made = false;
  rv = io->sync_dir(io->ctx, parent);
  return rv == 0 ? 0 : fail(task, rv, task->dir);
}

static int run(struct flume_task *base) {
  struct backup *task = (struct backup *)base;
  assert(task->copy != NULL && task->made == (task->stage == STAGE_LOG));
  int rv;
  if (task->stage == STAGE_VIEWS) {
    rv = begin(task);
    return rv == 0 ? 1 : rv;
  }
  rv = flume__copy_step(task->copy);
  if (rv < 0) base->err = task->copy->err;
  return rv == 0 ? finish(task) : rv;
}

/* --- On the loop --------------------------------------------------------------------------------------------- */

static void report(struct backup *task) {
  task->req->since = task->copy->since;
  task->req->bytes = task->copy->bytes;
  task->req->files = task->copy->files;
}

static int turn(struct flume_task *base) {
  struct backup *task = (struct backup *)base;
  uint64_t done_bytes, total_bytes;
  if (task->stage == STAGE_VIEWS) {
    task->stage = STAGE_LOG;
    int rv = flume__copy_take_stock(task->copy);
    if (rv != 0) base->err = task->copy->err;
    if (rv != 0) return rv;
  }
  report(task);
  if (task->req->progress == NULL) return 0;
  flume__copy_measure(task->copy, &done_bytes, &total_bytes);
  task->req->progress(task->req, done_bytes, total_bytes);
  return 0;
}

static void task_free(struct backup *task, const struct flume_io *io) {
  if (task->copy != NULL) flume__copy_free(task->copy);
  flume_io_free(io, task->dir);
  flume_io_free(io, task->partial);
  flume_io_free(io, task->views_dir);
  flume_io_free(io, task);
}

static void end(struct flume_task *base) {
  struct backup *task = (struct backup *)base;
  const struct flume_io *io = io_of(task);
  struct flume_backup *req = task->req;
  int status = base->status;
  struct flume_err err = base->err;
  err.code = status;
  report(task);
  if (task->made) flume_io_remove_all(io, task->partial);
  task_free(task, io);
  req->cb(req, status, status == 0 ? NULL : &err);
}

/* --- Beginning -------------------------------------------------------------------------------------------------- */

/* text without slashes at its end, and more. */
static char *copy_text(const struct flume_io *io, const char *text, const char *more) {
  size_t len = strlen(text), more_len = strlen(more);
  while (len > 1 && text[len - 1] == '/') len--;
  char *copy = flume_io_alloc(io, len + more_len + 1);
  if (copy != NULL) snprintf(copy, len + more_len + 1, "%.*s%s", (int)len, text, more);
  return copy;
}

static struct backup *backup_new(const struct flume_io *io, const char *dir, const char *views_dir) {
  struct backup *task = flume_io_zalloc(io, sizeof *task);
  if (task == NULL) return NULL;
  task->task.run = run;
  task->task.turn = turn;
  task->task.end = end;
  task->dir = copy_text(io, dir, "");
  task->partial = copy_text(io, dir, PARTIAL);
  task->views_dir = views_dir != NULL ? copy_text(io, views_dir, "") : NULL;
  if (task->dir != NULL && task->partial != NULL && (views_dir == NULL || task->views_dir != NULL)) return task;
  task_free(task, io);
  return NULL;
}

int flume_log_backup(struct flume_log *log, const char *dir, const char *views_dir, struct flume_backup *req,
                     flume_backup_cb cb, struct flume_err *err) {
  if (log->state != FLUME_LOG_OPEN) return flume_err_set(err, FLUME_ECLOSED, "the log is closed");
  if (log->ops->copy == NULL) {
    return flume_err_set(err, FLUME_ENOTSUP, "a %s log can't be backed up", log->ops->kind);
  }
  req->cb = cb;
  req->since = -1;
  req->bytes = req->files = 0;
  struct backup *task = backup_new(log->io, dir, views_dir);
  if (task == NULL) return flume_err_nomem(err);
  task->req = req;
  int rv = log->ops->copy(log, &task->copy, err);
  if (rv != 0) {
    task_free(task, log->io);
    return rv;
  }
  flume__copy_init(task->copy, task->partial);
  flume_task_init(&task->task, log->tasks);
  flume_task_go(&task->task);
  return 0;
}
