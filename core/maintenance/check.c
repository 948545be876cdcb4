#include "maintenance/check.h"

#include <string.h>

#include "base/err.h"
#include "maintenance/view_files.h"

static int check_views(struct flume_check_task *check) {
  const struct flume_io *io = flume_task_log(&check->task)->io;
  enum flume_store_sharing sharing = flume_tasks_sharing(check->task.tasks);
  int rv = flume_views_check(io, check->views_dir, sharing, &check->req->report, &check->task.err);
  flume_io_free(io, check->views_dir);
  check->views_dir = NULL;
  return rv == 0 ? 1 : rv;
}

static int run(struct flume_task *base) {
  struct flume_check_task *check = (struct flume_check_task *)base;
  return check->views_dir != NULL ? check_views(check) : check->kind->step(check);
}

static int turn(struct flume_task *base) {
  struct flume_check_task *check = (struct flume_check_task *)base;
  uint64_t done_bytes, total_bytes;
  if (check->req->progress == NULL) return 0;
  check->kind->measure(check, &done_bytes, &total_bytes);
  check->req->progress(check->req, done_bytes, total_bytes);
  return 0;
}

static void end(struct flume_task *base) {
  struct flume_check_task *check = (struct flume_check_task *)base;
  const struct flume_io *io = flume_task_log(base)->io;
  struct flume_check *req = check->req;
  int status = base->status;
  struct flume_err err = base->err;
  err.code = status;
  check->kind->fini(check);
  flume_io_free(io, check->views_dir);
  flume_io_free(io, check);
  if (status != 0) flume_report_fini(&req->report);
  req->cb(req, status, status == 0 ? NULL : &err);
}

int flume_check_go(struct flume_check_task *check, struct flume_tasks *tasks, const char *views_dir,
                   struct flume_err *err) {
  const struct flume_io *io = tasks->log->io;
  if (views_dir != NULL) {
    check->views_dir = flume_io_alloc(io, strlen(views_dir) + 1);
    if (check->views_dir == NULL) {
      flume_io_free(io, check);
      return flume_err_nomem(err);
    }
    strcpy(check->views_dir, views_dir);
  }
  check->task.run = run;
  check->task.turn = turn;
  check->task.end = end;
  flume_task_init(&check->task, tasks);
  flume_task_go(&check->task);
  return 0;
}
