#include "log/task.h"

#include <assert.h>

#include "base/err.h"

void flume_tasks_init(struct flume_tasks *tasks, struct flume_log *log, void (*ended)(struct flume_log *log)) {
  *tasks = (struct flume_tasks){.log = log, .ended = ended};
  flume_queue_init(&tasks->list);
  log->tasks = tasks;
}

static void end(struct flume_task *task) {
  struct flume_tasks *tasks = task->tasks;
  flume_queue_remove(&task->queue);
  task->end(task);
  tasks->ended(tasks->log);
}

static void on_work(uv_work_t *work) {
  struct flume_task *task = work->data;
  task->status = task->run(task);
}

static void on_work_done(uv_work_t *work, int status) {
  struct flume_task *task = work->data;
  (void)status; /* the work is never cancelled */
  assert(task->status <= 1 && !flume_queue_empty(&task->queue));
  if (task->status >= 0) {
    int rv = task->turn(task);
    if (rv != 0) task->status = rv;
  }
  if (task->status == 1) flume_task_go(task);
  else end(task);
}

void flume_task_init(struct flume_task *task, struct flume_tasks *tasks) {
  assert(task->run != NULL && task->turn != NULL && task->end != NULL && tasks->log->state == FLUME_LOG_OPEN);
  task->tasks = tasks;
  task->work.data = task;
  flume_queue_push(&tasks->list, &task->queue);
}

void flume_task_go(struct flume_task *task) {
  struct flume_log *log = flume_task_log(task);
  if (log->state != FLUME_LOG_OPEN) {
    flume_task_fail(task, flume_err_set(&task->err, FLUME_ECLOSED, "the log was closed"));
    return;
  }
  uv_queue_work(log->loop, &task->work, on_work, on_work_done); /* fails for want of a function alone */
}

void flume_task_fail(struct flume_task *task, int status) {
  assert(status < 0 && !flume_queue_empty(&task->queue));
  task->status = status;
  end(task);
}
