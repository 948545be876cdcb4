/* Checking the files of a log that is open, beside its use: the views first, then what a kind of log has. */
#ifndef FLUME_CHECK_TASK_H
#define FLUME_CHECK_TASK_H

#include "log/task.h"

struct flume_check_task;

/* What a kind of log does. */
struct flume_check_kind {
  /* One piece, on a worker thread: 1 when there is more, 0 when the report is complete; or an error, with task.err. */
  int (*step)(struct flume_check_task *check);
  /* How many bytes were read, of how many. Loop thread. */
  void (*measure)(const struct flume_check_task *check, uint64_t *done_bytes, uint64_t *total_bytes);
  /* It is over: the last things are put into the report, and what step has is let go of. Loop thread. */
  void (*fini)(struct flume_check_task *check);
};

/* Embedded first in a struct of the kind's own. */
struct flume_check_task {
  struct flume_task task;
  const struct flume_check_kind *kind;
  struct flume_check *req;
  char *views_dir; /* to be checked before; then NULL */
};

/* Begins. The task is zeroed but for kind, req and what is the kind's own; it is freed when it has ended, or now, without
 * fini, if this fails. FLUME_ENOMEM. Loop thread. */
int flume_check_go(struct flume_check_task *check, struct flume_tasks *tasks, const char *views_dir,
                   struct flume_err *err);

#endif
