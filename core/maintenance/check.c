/* Checking what a log and its views have on disk, beside their use.
 *
 * Happy path: what the views keep is read first, as it must rest meanwhile; then the log verifies its own files in steps.
 *
 * Failures: damage is no failure, but a finding of the report. A file that can't be read ends the check with an error, and
 * there is no report. */
#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "log/log_check.h"
#include "log/report.h"
#include "log/task.h"
#include "maintenance/view_files.h"

struct check {
  struct flume_task task;
  struct flume_check *req;
  struct flume_log_check *log_check;
  char *views_dir; /* to be checked before the log; then NULL */
};

static int check_views(struct check *check) {
  const struct flume_log *log = flume_task_log(&check->task);
  int rv =
      flume_views_check(log->io, check->views_dir, flume__views_sharing(log), &check->req->report, &check->task.err);
  flume_io_free(log->io, check->views_dir);
  check->views_dir = NULL;
  return rv == 0 ? 1 : rv;
}

static int run(struct flume_task *base) {
  struct check *check = (struct check *)base;
  assert(check->log_check != NULL);
  if (check->views_dir != NULL) return check_views(check);
  int rv = check->log_check->ops->step(check->log_check);
  if (rv < 0) base->err = check->log_check->err;
  return rv;
}

static int turn(struct flume_task *base) {
  struct check *check = (struct check *)base;
  uint64_t done_bytes, total_bytes;
  if (check->req->progress == NULL) return 0;
  check->log_check->ops->measure(check->log_check, &done_bytes, &total_bytes);
  check->req->progress(check->req, done_bytes, total_bytes);
  return 0;
}

static void check_free(struct check *check, const struct flume_io *io) {
  if (check->log_check != NULL) check->log_check->ops->fini(check->log_check);
  flume_io_free(io, check->log_check);
  flume_io_free(io, check->views_dir);
  flume_io_free(io, check);
}

static void end(struct flume_task *base) {
  struct check *check = (struct check *)base;
  struct flume_check *req = check->req;
  int status = base->status;
  struct flume_err err = base->err;
  err.code = status;
  check_free(check, flume_task_log(base)->io);
  if (status != 0) flume_report_fini(&req->report);
  req->cb(req, status, status == 0 ? NULL : &err);
}

static struct check *check_new(const struct flume_io *io, const char *views_dir) {
  struct check *check = flume_io_zalloc(io, sizeof *check);
  if (check == NULL) return NULL;
  check->task.run = run;
  check->task.turn = turn;
  check->task.end = end;
  if (views_dir == NULL) return check;
  check->views_dir = flume_io_alloc(io, strlen(views_dir) + 1);
  if (check->views_dir == NULL) {
    flume_io_free(io, check);
    return NULL;
  }
  strcpy(check->views_dir, views_dir);
  return check;
}

/* A log in memory has no views on disk. */
int flume_log_check(struct flume_log *log, const char *views_dir, struct flume_check *req, flume_check_cb cb,
                    struct flume_err *err) {
  if (log->state != FLUME_LOG_OPEN) return flume_err_set(err, FLUME_ECLOSED, "the log is closed");
  req->cb = cb;
  flume_report_init(&req->report, log->io);
  struct check *check = check_new(log->io, log->dir != NULL ? views_dir : NULL);
  if (check == NULL) return flume_err_nomem(err);
  check->req = req;
  int rv = log->ops->check(log, &req->report, &check->log_check, err);
  if (rv != 0) {
    check_free(check, log->io);
    return rv;
  }
  flume_task_init(&check->task, log->tasks);
  flume_task_go(&check->task);
  return 0;
}
