/* A file log's part of a check. */
#include "base/err.h"
#include "log/file/file_log.h"
#include "log/file/file_verify.h"
#include "maintenance/check.h"

#define PIECE_BYTES (8u << 20)

struct file_check {
  struct flume_check_task base;
  int64_t live_seq; /* as of the beginning; see flume_checker_open */
  uint64_t live_off;
  bool opened;
  struct flume_checker checker;
};

static int step(struct flume_check_task *base) {
  struct file_check *check = (struct file_check *)base;
  const struct flume_log *log = flume_task_log(&base->task);
  if (check->opened) return flume_checker_step(&check->checker, PIECE_BYTES, &base->task.err);
  check->opened = true;
  int rv = flume_checker_open(&check->checker, log->io, log->dir, check->live_seq, check->live_off, &base->req->report,
                              &base->task.err);
  return rv == 0 ? 1 : rv;
}

static void measure(const struct flume_check_task *base, uint64_t *done_bytes, uint64_t *total_bytes) {
  const struct file_check *check = (const struct file_check *)base;
  *done_bytes = flume_checker_done(&check->checker);
  *total_bytes = check->checker.total_bytes;
}

static void fini(struct flume_check_task *base) {
  struct file_check *check = (struct file_check *)base;
  if (check->opened) flume_checker_fini(&check->checker);
}

static const struct flume_check_kind file_kind = {.step = step, .measure = measure, .fini = fini};

int flume__file_check(struct flume_log *base, const char *views_dir, struct flume_check *req, struct flume_err *err) {
  struct file_log *log = (struct file_log *)base;
  struct file_check *check = flume_io_zalloc(base->io, sizeof *check);
  if (check == NULL) return flume_err_nomem(err);
  check->base.kind = &file_kind;
  check->base.req = req;
  check->live_seq = -1;
  if (!log->log.readonly) {
    flume__log_lock(base);
    check->live_seq = flume__file_active(log)->first_seq;
    check->live_off = flume__file_active(log)->data_end_off; /* end_off belongs to the commit that may be under way */
    flume__log_unlock(base);
    if (check->live_off < FLUME_SEGMENT_HEADER_BYTES) check->live_off = FLUME_SEGMENT_HEADER_BYTES;
  }
  return flume_check_go(&check->base, &log->tasks, views_dir, err);
}
