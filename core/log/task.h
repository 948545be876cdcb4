/* Work on the files of a log that goes on beside its use: compaction, backup, check. It goes in pieces on a worker thread,
 * each followed by a turn on the loop.
 *
 * A task keeps its log open: closing waits for the piece that is under way, and the task is then answered with
 * FLUME_ECLOSED. */
#ifndef FLUME_TASK_H
#define FLUME_TASK_H

#include "log/log.h"

/* Those of one log. Loop thread. */
struct flume_tasks {
  struct flume_log *log;
  struct flume_queue list; /* struct flume_task, until they end */
  void (*ended)(struct flume_log *log);
};

struct flume_task {
  struct flume_queue queue;
  struct flume_tasks *tasks;
  uv_work_t work;
  /* One piece, on a worker thread: 1 when there is more to do, 0 when all is done; or an error, with err. */
  int (*run)(struct flume_task *task);
  /* After each piece that did not fail, on the loop. 0 or an error, with err. */
  int (*turn)(struct flume_task *task);
  /* Nothing is under way any more: answers with status and err, and frees the task. Loop thread. */
  void (*end)(struct flume_task *task);
  int status;
  struct flume_err err;
};

/* ended is called when a task has ended: the log may have waited for it. */
void flume_tasks_init(struct flume_tasks *tasks, struct flume_log *log, void (*ended)(struct flume_log *log));

/* run, turn and end are set. Loop thread. */
void flume_task_init(struct flume_task *task, struct flume_tasks *tasks);
/* Begins the first piece. Loop thread. */
void flume_task_go(struct flume_task *task);
/* Ends it, before its first piece. Not from within the call that the user made. */
void flume_task_fail(struct flume_task *task, int status);

/* The log that it works on. */
static inline struct flume_log *flume_task_log(const struct flume_task *task) {
  return task->tasks->log;
}

#endif
