#include "log/report.h"

#include <stdarg.h>
#include <stdio.h>

void flume_report_init(struct flume_report *report, const struct flume_io *io) {
  *report = (struct flume_report){.io = io};
}

void flume_report_fini(struct flume_report *report) {
  if (report->io == NULL) return;
  flume_io_free(report->io, report->findings);
  report->findings = NULL;
  report->findings_count = report->findings_cap = 0;
}

static int reserve(struct flume_report *report) {
  if (report->findings_count < report->findings_cap) return 0;
  size_t cap = report->findings_cap > 0 ? report->findings_cap * 2 : 8;
  struct flume_finding *findings = flume_io_realloc(report->io, report->findings, cap * sizeof *findings);
  if (findings == NULL) return FLUME_ENOMEM;
  report->findings = findings;
  report->findings_cap = cap;
  return 0;
}

int flume_report_add(struct flume_report *report, enum flume_finding_kind kind, const char *file, uint64_t off,
                     int64_t seq, const char *fmt, ...) {
  if (kind == FLUME_FINDING_DAMAGE) report->damages++;
  if (report->findings_count >= FLUME_FINDINGS_MAX) return 0;
  if (reserve(report) != 0) return FLUME_ENOMEM;
  struct flume_finding *finding = &report->findings[report->findings_count++];
  *finding = (struct flume_finding){.kind = kind, .off = off, .seq = seq};
  snprintf(finding->file, sizeof finding->file, "%s", file);
  va_list args;
  va_start(args, fmt);
  vsnprintf(finding->what, sizeof finding->what, fmt, args);
  va_end(args);
  return 0;
}
