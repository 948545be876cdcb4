/* An offset log's part of a check. */
#include "base/err.h"
#include "log/offset/offset_verify.h"
#include "maintenance/check.h"

#define PIECE_BYTES (8u << 20)

struct offset_check {
  struct flume_check_task base;
  bool begun;
  struct flume_offset_verify verify;
};

static int step(struct flume_check_task *base) {
  struct offset_check *check = (struct offset_check *)base;
  int rv = check->begun ? 0 : flume_offset_verify_begin(&check->verify, &base->task.err);
  check->begun = true;
  return rv == 0 ? flume_offset_verify_step(&check->verify, PIECE_BYTES, &base->task.err) : rv;
}

static void measure(const struct flume_check_task *base, uint64_t *done_bytes, uint64_t *total_bytes) {
  const struct offset_check *check = (const struct offset_check *)base;
  *done_bytes = check->verify.off;
  *total_bytes = check->verify.window.file_bytes;
}

static void fini(struct flume_check_task *base) {
  struct offset_check *check = (struct offset_check *)base;
  const struct offset_log *log = (const struct offset_log *)flume_task_log(&base->task);
  base->req->report.deleted = flume__offset_gone(log)->count;
  base->req->report.segments = 1;
  flume_offset_verify_fini(&check->verify);
}

static const struct flume_check_kind offset_kind = {.step = step, .measure = measure, .fini = fini};

int flume__offset_check(struct flume_log *base, const char *views_dir, struct flume_check *req, struct flume_err *err) {
  struct offset_log *log = (struct offset_log *)base;
  struct offset_check *check = flume_io_zalloc(base->io, sizeof *check);
  if (check == NULL) return flume_err_nomem(err);
  check->base.kind = &offset_kind;
  check->base.req = req;
  flume_offset_verify_init(&check->verify, log, &req->report);
  if (!log->log.readonly) check->verify.live_off = log->data_end_off;
  return flume_check_go(&check->base, &log->tasks, views_dir, err);
}
