/* An offset log's part of a check; see log/log_check.h. */
#include "base/err.h"
#include "log/log_check.h"
#include "log/offset/offset_verify.h"

#define PIECE_BYTES (8u << 20)

struct offset_check {
  struct flume_log_check base;
  bool begun;
  struct flume_offset_verify verify;
};

static int step(struct flume_log_check *base) {
  struct offset_check *check = (struct offset_check *)base;
  int rv = check->begun ? 0 : flume_offset_verify_begin(&check->verify, &base->err);
  check->begun = true;
  return rv == 0 ? flume_offset_verify_step(&check->verify, PIECE_BYTES, &base->err) : rv;
}

static void measure(const struct flume_log_check *base, uint64_t *done_bytes, uint64_t *total_bytes) {
  const struct offset_check *check = (const struct offset_check *)base;
  *done_bytes = check->verify.off;
  *total_bytes = check->verify.window.file_bytes;
}

static void fini(struct flume_log_check *base) {
  struct offset_check *check = (struct offset_check *)base;
  const struct offset_log *log = (const struct offset_log *)base->log;
  base->report->deleted = flume__offset_gone(log)->count;
  base->report->segments = 1;
  flume_offset_verify_fini(&check->verify);
}

static const struct flume_log_check_ops offset_ops = {.step = step, .measure = measure, .fini = fini};

int flume__offset_check(struct flume_log *base, struct flume_report *report, struct flume_log_check **out,
                        struct flume_err *err) {
  struct offset_log *log = (struct offset_log *)base;
  struct offset_check *check = flume_io_zalloc(base->io, sizeof *check);
  if (check == NULL) return flume_err_nomem(err);
  check->base.ops = &offset_ops;
  check->base.log = base;
  check->base.report = report;
  flume_offset_verify_init(&check->verify, log, report);
  if (!log->log.readonly) check->verify.live_off = log->data_end_off;
  *out = &check->base;
  return 0;
}
