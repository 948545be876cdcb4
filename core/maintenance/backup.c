/* Happy path: in DIR.partial the views are copied first; then, on the loop, it is noted how far the log goes, which is
 * further than any of them; then the files are copied up to there, and what else the kind of log has is written. All is
 * synced, and DIR.partial becomes DIR.
 *
 * Failures: what was copied is removed; a crash leaves DIR.partial, which nobody takes for a backup. */
#include "maintenance/backup.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/path.h"
#include "maintenance/view_files.h"

#define PIECE_BYTES (8u << 20)
#define PARTIAL ".partial"

enum stage { STAGE_BEGIN, STAGE_PORTIONS, STAGE_END };

int flume_backup_fail(struct flume_backup_task *task, int rv, const char *path) {
  return flume_err_set(&task->task.err, rv, "backing up to %s: %s", path, flume_strerror(rv));
}

int flume_backup_path(const struct flume_backup_task *task, const char *name, char *path, size_t size) {
  return flume_path_join(path, size, task->partial, name);
}

static const struct flume_io *io_of(const struct flume_backup_task *task) {
  return flume_task_log(&task->task)->io;
}

/* --- On a worker thread -------------------------------------------------------------------------------------- */

static int any_name(void *arg, const char *name) {
  (void)arg;
  (void)name;
  return UV_ENOTEMPTY;
}

static int check_room(struct flume_backup_task *task) {
  const struct flume_io *io = io_of(task);
  int rv = io->list(io->ctx, task->dir, any_name, NULL);
  if (rv == UV_ENOTEMPTY) return flume_err_set(&task->task.err, UV_EEXIST, "%s is there, and not empty", task->dir);
  if (rv != 0 && rv != UV_ENOENT) return flume_backup_fail(task, rv, task->dir);
  rv = io->list(io->ctx, task->partial, any_name, NULL);
  if (rv == 0 || rv == UV_ENOTEMPTY || rv == UV_ENOTDIR) {
    return flume_err_set(&task->task.err, UV_EEXIST, "%s is in the way: a backup that was cut short has left it",
                         task->partial);
  }
  return rv == UV_ENOENT ? 0 : flume_backup_fail(task, rv, task->partial);
}

static int begin(struct flume_backup_task *task) {
  const struct flume_io *io = io_of(task);
  char path[FLUME_PATH_MAX];
  int rv = check_room(task);
  if (rv != 0) return rv;
  task->made = true;
  rv = flume_backup_path(task, task->log_dir, path, sizeof path);
  if (rv == 0) rv = flume_io_mkdir_all(io, path);
  if (rv != 0) return flume_backup_fail(task, rv, task->partial);
  if (task->views_dir == NULL) return 0;
  rv = flume_backup_path(task, task->views_name, path, sizeof path);
  if (rv != 0) return flume_backup_fail(task, rv, task->partial);
  struct flume_copied copied = {.bytes = 0};
  rv = flume_views_copy(io, task->views_dir, path, flume_tasks_sharing(task->task.tasks), &copied, &task->task.err);
  task->req->bytes += copied.bytes;
  task->req->files += copied.files;
  return rv;
}

static int open_portion(struct flume_backup_task *task) {
  const struct flume_io *io = io_of(task);
  struct flume_portion *portion = &task->portions[task->at];
  char from[FLUME_PATH_MAX], to[FLUME_PATH_MAX], name[FLUME_PATH_MAX];
  int rv = task->kind->name(task, portion, from, name, sizeof name);
  if (rv == 0) rv = flume_backup_path(task, name, to, sizeof to);
  if (rv != 0) return flume_backup_fail(task, rv, task->partial);
  task->from = io->open(io->ctx, from, FLUME_IO_READ);
  if (task->from < 0) return flume_backup_fail(task, task->from, from);
  task->to = io->open(io->ctx, to, FLUME_IO_WRITE | FLUME_IO_CREATE | FLUME_IO_EXCLUSIVE);
  if (task->to < 0) return flume_backup_fail(task, task->to, to);
  int64_t size = io->size(io->ctx, task->from);
  if (size < 0) return flume_backup_fail(task, (int)size, from);
  if (portion->whole) { /* now it is known */
    task->total_bytes += (uint64_t)size - portion->bytes;
    portion->bytes = (uint64_t)size;
  }
  if ((uint64_t)size < portion->bytes) return flume_backup_fail(task, FLUME_ECORRUPT, from);
  task->off = 0;
  return 0;
}

static int close_portion(struct flume_backup_task *task) {
  const struct flume_io *io = io_of(task);
  int rv = 0;
  if (task->to >= 0) rv = io->close(io->ctx, task->to);
  if (task->from >= 0) io->close(io->ctx, task->from);
  task->from = task->to = -1;
  return rv;
}

static int copy_piece(struct flume_backup_task *task) {
  const struct flume_io *io = io_of(task);
  uint64_t left = task->portions[task->at].bytes - task->off;
  size_t bytes = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
  struct flume_buf piece;
  flume_buf_init(&piece, io);
  int rv = flume_buf_reserve(&piece, bytes);
  if (rv == 0) rv = flume_io_read_full(io, task->from, piece.data, bytes, task->off);
  if (rv == 0) rv = flume_io_write_full(io, task->to, piece.data, bytes, task->off);
  flume_buf_fini(&piece);
  task->off += bytes;
  return rv;
}

/* 1 when there is more to copy. */
static int copy_portions(struct flume_backup_task *task) {
  const struct flume_io *io = io_of(task);
  int rv = task->from < 0 ? open_portion(task) : 0;
  if (rv != 0) return rv;
  rv = copy_piece(task);
  if (rv != 0) return flume_backup_fail(task, rv, task->partial);
  const struct flume_portion *portion = &task->portions[task->at];
  if (task->off < portion->bytes) return 1;
  rv = io->sync(io->ctx, task->to);
  if (rv == 0) rv = close_portion(task);
  if (rv != 0) return flume_backup_fail(task, rv, task->partial);
  task->done_bytes += portion->bytes;
  task->off = 0;
  task->req->bytes += portion->bytes;
  task->req->files++;
  return ++task->at < task->portions_count;
}

int flume_backup_put(struct flume_backup_task *task, const char *name, const struct flume_buf *bytes) {
  const struct flume_io *io = io_of(task);
  char path[FLUME_PATH_MAX];
  if (bytes->len == 0) return 0;
  int rv = flume_backup_path(task, name, path, sizeof path);
  int file = rv == 0 ? io->open(io->ctx, path, FLUME_IO_WRITE | FLUME_IO_CREATE | FLUME_IO_EXCLUSIVE) : rv;
  if (file < 0) return flume_backup_fail(task, file, task->partial);
  rv = flume_io_write_full(io, file, bytes->data, bytes->len, 0);
  if (rv == 0) rv = io->sync(io->ctx, file);
  io->close(io->ctx, file);
  if (rv != 0) return flume_backup_fail(task, rv, task->partial);
  task->req->bytes += bytes->len;
  task->req->files++;
  return 0;
}

/* The directory that the backup is in. */
static void parent_of(const char *dir, char *parent, size_t size) {
  const char *slash = strrchr(dir, '/');
  if (slash == NULL) snprintf(parent, size, ".");
  else snprintf(parent, size, "%.*s", slash == dir ? 1 : (int)(slash - dir), dir);
}

static int finish(struct flume_backup_task *task) {
  const struct flume_io *io = io_of(task);
  char path[FLUME_PATH_MAX], parent[FLUME_PATH_MAX];
  parent_of(task->dir, parent, sizeof parent);
  int rv = task->kind->finish(task);
  if (rv != 0) return rv;
  rv = flume_backup_path(task, task->log_dir, path, sizeof path);
  if (rv == 0) rv = io->sync_dir(io->ctx, path);
  if (rv == 0) rv = io->sync_dir(io->ctx, task->partial);
  if (rv == 0) rv = io->rename(io->ctx, task->partial, task->dir);
  if (rv != 0) return flume_backup_fail(task, rv, task->partial);
  task->made = false;
  rv = io->sync_dir(io->ctx, parent);
  return rv == 0 ? 0 : flume_backup_fail(task, rv, task->dir);
}

static int run(struct flume_task *base) {
  struct flume_backup_task *task = (struct flume_backup_task *)base;
  int rv = 0;
  switch ((enum stage)task->stage) {
    case STAGE_BEGIN: rv = begin(task); break;
    case STAGE_PORTIONS:
      rv = copy_portions(task);
      if (rv == 0) task->stage = STAGE_END;
      break;
    case STAGE_END: return finish(task);
  }
  return rv == 0 ? 1 : rv;
}

/* --- On the loop --------------------------------------------------------------------------------------------- */

static int turn(struct flume_task *base) {
  struct flume_backup_task *task = (struct flume_backup_task *)base;
  if (task->stage == STAGE_BEGIN) {
    task->stage = STAGE_PORTIONS;
    int rv = task->kind->take_stock(task);
    if (rv != 0) return rv;
    for (size_t i = 0; i < task->portions_count; i++) task->total_bytes += task->portions[i].bytes;
  }
  if (task->req->progress == NULL) return 0;
  uint64_t done_bytes = task->done_bytes + task->off;
  if (task->stage == STAGE_END || done_bytes > task->total_bytes) done_bytes = task->total_bytes;
  task->req->progress(task->req, done_bytes, task->total_bytes);
  return 0;
}

static void task_free(struct flume_backup_task *task, const struct flume_io *io) {
  task->kind->fini(task);
  flume_io_free(io, task->portions);
  flume_io_free(io, task->dir);
  flume_io_free(io, task->partial);
  flume_io_free(io, task->views_dir);
  flume_io_free(io, task);
}

static void end(struct flume_task *base) {
  struct flume_backup_task *task = (struct flume_backup_task *)base;
  const struct flume_io *io = io_of(task);
  struct flume_backup *req = task->req;
  int status = base->status;
  struct flume_err err = base->err;
  err.code = status;
  close_portion(task);
  if (task->made) flume_io_remove_all(io, task->partial);
  task_free(task, io);
  req->cb(req, status, status == 0 ? NULL : &err);
}

/* text without slashes at its end, and more. */
static char *copy_text(const struct flume_io *io, const char *text, const char *more) {
  size_t len = strlen(text), more_len = strlen(more);
  while (len > 1 && text[len - 1] == '/') len--;
  char *copy = flume_io_alloc(io, len + more_len + 1);
  if (copy != NULL) snprintf(copy, len + more_len + 1, "%.*s%s", (int)len, text, more);
  return copy;
}

int flume_backup_go(struct flume_backup_task *task, struct flume_tasks *tasks, const char *dir, const char *views_dir,
                    struct flume_err *err) {
  const struct flume_io *io = tasks->log->io;
  task->task.run = run;
  task->task.turn = turn;
  task->task.end = end;
  task->from = task->to = -1;
  task->dir = copy_text(io, dir, "");
  task->partial = copy_text(io, dir, PARTIAL);
  task->views_dir = views_dir != NULL ? copy_text(io, views_dir, "") : NULL;
  if (task->dir == NULL || task->partial == NULL || (views_dir != NULL && task->views_dir == NULL)) {
    task_free(task, io);
    return flume_err_nomem(err);
  }
  flume_task_init(&task->task, tasks);
  flume_task_go(&task->task);
  return 0;
}
