/* Work on the files that goes on beside appends: compaction, backup, check.
 *
 * A task keeps its log open: closing waits for the piece that is under way, and the task is then answered with
 * FLUME_ECLOSED. */
#include <stdio.h>
#include <stdlib.h>

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

/* What the lock file has is the process that has, or had, the log open for writing. */
static bool is_written_here(const struct log_file *log) {
  const struct flume_io *io = log->log.io;
  char path[4096], text[16] = {0};
  int len = snprintf(path, sizeof path, "%s/lock", log->log.dir);
  int file = len > 0 && (size_t)len < sizeof path ? io->open(io->ctx, path, FLUME_IO_READ) : -1;
  if (file < 0) return false;
  int64_t read = io->read(io->ctx, file, text, sizeof text - 1, 0);
  io->close(io->ctx, file);
  return read > 0 && atoi(text) == (int)uv_os_getpid();
}

enum flume_store_sharing flume__file_sharing(const struct log_file *log) {
  return !log->readonly || is_written_here(log) ? FLUME_STORE_RESTS : FLUME_STORE_SHARED;
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
