/* Checking the files of an offset log that is open, beside its use. */
#include "err.h"
#include "log_offset_verify.h"
#include "view_files.h"

#define PIECE_BYTES (8u << 20)

struct offset_check {
  struct flume_task task;
  struct flume_check *req;
  char *views_dir; /* to be checked before; then NULL */
  bool begun;
  struct flume_offset_verify verify;
};

static int check_views(struct offset_check *check) {
  const struct flume_io *io = flume_task_log(&check->task)->io;
  enum flume_store_sharing sharing = flume_tasks_sharing(check->task.tasks);
  int rv = flume_views_check(io, check->views_dir, sharing, &check->req->report, &check->task.err);
  flume_io_free(io, check->views_dir);
  check->views_dir = NULL;
  return rv == 0 ? 1 : rv;
}

static int run(struct flume_task *base) {
  struct offset_check *check = (struct offset_check *)base;
  if (check->views_dir != NULL) return check_views(check);
  int rv = check->begun ? 0 : flume_offset_verify_begin(&check->verify, &base->err);
  check->begun = true;
  return rv == 0 ? flume_offset_verify_step(&check->verify, PIECE_BYTES, &base->err) : rv;
}

static int turn(struct flume_task *base) {
  struct offset_check *check = (struct offset_check *)base;
  if (check->req->progress == NULL) return 0;
  check->req->progress(check->req, check->verify.off, check->verify.window.file_bytes);
  return 0;
}

static void end(struct flume_task *base) {
  struct offset_check *check = (struct offset_check *)base;
  struct flume_check *req = check->req;
  const struct flume_log *log = flume_task_log(base);
  int status = base->status;
  struct flume_err err = base->err;
  err.code = status;
  req->report.deleted = flume__offset_gone((const struct log_offset *)log)->count;
  req->report.segments = 1;
  flume_offset_verify_fini(&check->verify);
  flume_io_free(log->io, check->views_dir);
  flume_io_free(log->io, check);
  if (status != 0) flume_report_fini(&req->report);
  req->cb(req, status, status == 0 ? NULL : &err);
}

static char *copy_text(const struct flume_io *io, const char *text) {
  char *copy = flume_io_alloc(io, strlen(text) + 1);
  if (copy != NULL) strcpy(copy, text);
  return copy;
}

int flume__offset_check(struct flume_log *base, const char *views_dir, struct flume_check *req, struct flume_err *err) {
  struct log_offset *log = (struct log_offset *)base;
  struct offset_check *check = flume_io_zalloc(base->io, sizeof *check);
  if (check == NULL) return flume_err_nomem(err);
  if (views_dir != NULL && (check->views_dir = copy_text(base->io, views_dir)) == NULL) {
    flume_io_free(base->io, check);
    return flume_err_nomem(err);
  }
  check->req = req;
  check->task.run = run;
  check->task.turn = turn;
  check->task.end = end;
  flume_offset_verify_init(&check->verify, log, &req->report);
  if (!log->readonly) check->verify.live_off = log->data_end_off;
  flume_task_init(&check->task, &log->tasks);
  flume_task_go(&check->task);
  return 0;
}
