/* Checking the files of a log that is open, beside its use. */
#include <string.h>

#include "check.h"
#include "err.h"
#include "log_file.h"
#include "view_files.h"

#define PIECE_BYTES (8u << 20)

struct check_task {
  struct flume_task task;
  struct flume_check *req;
  int64_t live_seq; /* as of the beginning; see flume_checker_open */
  uint64_t live_off;
  char *views_dir; /* to be checked before; then NULL */
  bool opened;
  struct flume_checker checker;
};

static int check_views(struct check_task *task) {
  const struct flume_io *io = flume_task_log(&task->task)->io;
  enum flume_store_sharing sharing = flume_tasks_sharing(task->task.tasks);
  int rv = flume_views_check(io, task->views_dir, sharing, &task->req->report, &task->task.err);
  flume_io_free(io, task->views_dir);
  task->views_dir = NULL;
  return rv == 0 ? 1 : rv;
}

static int run(struct flume_task *base) {
  struct check_task *task = (struct check_task *)base;
  const struct flume_log *log = flume_task_log(base);
  if (task->views_dir != NULL) return check_views(task);
  if (task->opened) return flume_checker_step(&task->checker, PIECE_BYTES, &base->err);
  task->opened = true;
  int rv = flume_checker_open(&task->checker, log->io, log->dir, task->live_seq, task->live_off, &task->req->report,
                              &base->err);
  return rv == 0 ? 1 : rv;
}

static int turn(struct flume_task *base) {
  struct check_task *task = (struct check_task *)base;
  if (task->req->progress == NULL) return 0;
  task->req->progress(task->req, flume_checker_done(&task->checker), task->checker.total_bytes);
  return 0;
}

static void end(struct flume_task *base) {
  struct check_task *task = (struct check_task *)base;
  struct flume_check *req = task->req;
  int status = base->status;
  struct flume_err err = base->err;
  err.code = status;
  if (task->opened) flume_checker_fini(&task->checker);
  flume_io_free(flume_task_log(base)->io, task->views_dir);
  flume_io_free(flume_task_log(base)->io, task);
  if (status != 0) flume_report_fini(&req->report);
  req->cb(req, status, status == 0 ? NULL : &err);
}

static char *copy_text(const struct flume_io *io, const char *text) {
  char *copy = flume_io_alloc(io, strlen(text) + 1);
  if (copy != NULL) strcpy(copy, text);
  return copy;
}

int flume__file_check(struct flume_log *base, const char *views_dir, struct flume_check *req, struct flume_err *err) {
  struct log_file *log = (struct log_file *)base;
  struct check_task *task = flume_io_zalloc(base->io, sizeof *task);
  if (task == NULL) return flume_err_nomem(err);
  if (views_dir != NULL && (task->views_dir = copy_text(base->io, views_dir)) == NULL) {
    flume_io_free(base->io, task);
    return flume_err_nomem(err);
  }
  task->req = req;
  task->task.run = run;
  task->task.turn = turn;
  task->task.end = end;
  task->live_seq = -1;
  if (!log->readonly) {
    task->live_seq = flume__file_active(log)->first_seq;
    task->live_off = flume__file_active(log)->data_end_off; /* end_off belongs to the commit that may be under way */
    if (task->live_off < FLUME_SEGMENT_HEADER_BYTES) task->live_off = FLUME_SEGMENT_HEADER_BYTES;
  }
  flume_task_init(&task->task, &log->tasks);
  flume_task_go(&task->task);
  return 0;
}
