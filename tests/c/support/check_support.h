/* For tests of check and repair: waiting for a check, and looking at its report. */
#ifndef FLUME_TEST_CHECKING_H
#define FLUME_TEST_CHECKING_H

#include "support.h"

struct check_answer {
  struct flume_check req;
  int calls;
  int status;
  struct flume_err err;
};

static inline void on_checked(struct flume_check *req, int status, const struct flume_err *err) {
  struct check_answer *answer = FLUME_CONTAINER_OF(req, struct check_answer, req);
  answer->calls++;
  answer->status = status;
  CHECK((err != NULL) == (status != 0));
  if (err != NULL) answer->err = *err;
}

/* Submits a check and waits on the loop. When it returns 0, the caller calls flume_report_fini. */
static inline int log_check(struct flume_log *log, uv_loop_t *loop, struct check_answer *answer) {
  *answer = (struct check_answer){.calls = 0};
  int rv = flume_log_check(log, NULL, &answer->req, on_checked, &answer->err);
  if (rv != 0) return rv;
  CHECK_INT_EQ(answer->calls, 0);
  while (answer->calls == 0) MUST(uv_run(loop, UV_RUN_ONCE) != 0 || answer->calls > 0);
  CHECK_INT_EQ(answer->calls, 1);
  return answer->status;
}

static inline const struct flume_finding *find_finding(const struct flume_report *report, enum flume_finding_kind kind,
                                                       const char *file, const char *what) {
  for (size_t i = 0; i < report->findings_count; i++) {
    const struct flume_finding *finding = &report->findings[i];
    if (finding->kind == kind && strstr(finding->file, file) != NULL && strstr(finding->what, what) != NULL) {
      return finding;
    }
  }
  return NULL;
}

static inline void print_report(const struct flume_report *report) {
  static const char *const kinds[] = {"damage", "note", "repair"};
  for (size_t i = 0; i < report->findings_count; i++) {
    const struct flume_finding *finding = &report->findings[i];
    printf("  %s: %s: byte %llu, seq %lld: %s\n", kinds[finding->kind], finding->file, (unsigned long long)finding->off,
           (long long)finding->seq, finding->what);
  }
}

#endif
