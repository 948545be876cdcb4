/* A file log's part of a check; see log/log_check.h. */
#include "base/err.h"
#include "log/file/file_log.h"
#include "log/file/file_verify.h"
#include "log/log_check.h"

#define PIECE_BYTES (8u << 20)

struct file_check {
  struct flume_log_check base;
  int64_t live_seq; /* as of the beginning; see flume_checker_open */
  uint64_t live_off;
  bool opened;
  struct flume_checker checker;
};

static int step(struct flume_log_check *base) {
  struct file_check *check = (struct file_check *)base;
  const struct flume_log *log = base->log;
  if (check->opened) return flume_checker_step(&check->checker, PIECE_BYTES, &base->err);
  check->opened = true;
  int rv = flume_checker_open(&check->checker, log->io, log->dir, check->live_seq, check->live_off, base->report,
                              &base->err);
  return rv == 0 ? 1 : rv;
}

static void measure(const struct flume_log_check *base, uint64_t *done_bytes, uint64_t *total_bytes) {
  const struct file_check *check = (const struct file_check *)base;
  *done_bytes = flume_checker_done(&check->checker);
  *total_bytes = check->checker.total_bytes;
}

static void fini(struct flume_log_check *base) {
  struct file_check *check = (struct file_check *)base;
  if (check->opened) flume_checker_fini(&check->checker);
}

static const struct flume_log_check_ops file_ops = {.step = step, .measure = measure, .fini = fini};

int flume__file_check(struct flume_log *base, struct flume_report *report, struct flume_log_check **out,
                      struct flume_err *err) {
  struct file_log *log = (struct file_log *)base;
  struct file_check *check = flume_io_zalloc(base->io, sizeof *check);
  if (check == NULL) return flume_err_nomem(err);
  check->base.ops = &file_ops;
  check->base.log = base;
  check->base.report = report;
  check->live_seq = -1;
  if (!log->log.readonly) {
    flume__log_lock(base);
    check->live_seq = flume__file_active(log)->first_seq;
    check->live_off = flume__file_active(log)->data_end_off; /* end_off belongs to the commit that may be under way */
    flume__log_unlock(base);
    if (check->live_off < FLUME_SEGMENT_HEADER_BYTES) check->live_off = FLUME_SEGMENT_HEADER_BYTES;
  }
  *out = &check->base;
  return 0;
}
