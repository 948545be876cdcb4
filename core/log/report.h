/* What a check or a repair found: a list of findings, and sums. */
#ifndef FLUME_REPORT_H
#define FLUME_REPORT_H

#include "base/io.h"

#define FLUME_FINDINGS_MAX 10000 /* kept; more are counted alone */

void flume_report_init(struct flume_report *report, const struct flume_io *io);

/* Adds a finding about a file, named without its directory. seq -1: about no record. FLUME_ENOMEM. */
int flume_report_add(struct flume_report *report, enum flume_finding_kind kind, const char *file, uint64_t off,
                     int64_t seq, const char *fmt, ...) __attribute__((format(printf, 6, 7)));

#endif
