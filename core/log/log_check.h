/* Verifying the files of a log that is in use, in steps: what a kind of log does. */
#ifndef FLUME_LOG_CHECK_H
#define FLUME_LOG_CHECK_H

#include "log/log.h"

struct flume_log_check_ops {
  /* Any thread, one at a time: 1 when there is more, 0 when the report is complete; or an error, with err. */
  int (*step)(struct flume_log_check *check);
  /* How many bytes were read, of how many. While no step is under way. */
  void (*measure)(const struct flume_log_check *check, uint64_t *done_bytes, uint64_t *total_bytes);
  /* It is over: the last things are put into the report, and what step has is let go of. Loop thread. */
  void (*fini)(struct flume_log_check *check);
};

/* Embedded first in a struct of the kind's own, from flume_io_zalloc; the caller ends it with fini, and frees it. */
struct flume_log_check {
  const struct flume_log_check_ops *ops;
  struct flume_log *log;
  struct flume_report *report;
  struct flume_err err;
};

#endif
