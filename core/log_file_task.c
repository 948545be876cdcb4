/* Work on the files that goes on beside appends: compaction, backup, check.
 *
 * A task keeps its log open: closing waits for the piece that is under way, and the task is then answered with
 * FLUME_ECLOSED. */
#include "err.h"
#include "log_file.h"

static void end(struct flume_task *task) {
  struct log_file *log = task->log;
  flume_queue_remove(&task->queue);
  task->end(task);
  flume__file_drained(log);
}

static void on_work(uv_work_t *work) {
  struct flume_task *task = work->data;
  task->status = task->run(task);
}

static void on_work_done(uv_work_t *work, int status) {
  struct flume_task *task = work->data;
  (void)status; /* the work is never cancelled */
  if (task->status >= 0) {
    int rv = task->turn(task);
    if (rv != 0) task->status = rv;
  }
  if (task->status == 1) flume__task_go(task);
  else end(task);
}

void flume__task_init(struct flume_task *task, struct log_file *log) {
  task->log = log;
  task->work.data = task;
  flume_queue_push(&log->tasks, &task->queue);
}

void flume__task_go(struct flume_task *task) {
  if (task->log->draining) {
    flume__task_fail(task, flume_err_set(&task->err, FLUME_ECLOSED, "the log was closed"));
    return;
  }
  uv_queue_work(task->log->log.loop, &task->work, on_work, on_work_done); /* fails for want of a function alone */
}

void flume__task_fail(struct flume_task *task, int status) {
  task->status = status;
  end(task);
}
