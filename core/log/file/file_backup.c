/* A file log's part of a backup: its segments, and the deletions as of the moment that is copied.
 *
 * The sealed segments are copied from their files as they are when it is their turn: a compaction may put others in
 * their place meanwhile, with the same records. The active one only grows. */
#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "log/file/file_log.h"
#include "maintenance/backup.h"

struct file_backup {
  struct flume_backup_task base;
  struct flume_buf deleted; /* what goes into the file of that name; empty when nothing was deleted */
};

static int name(const struct flume_backup_task *task, const struct flume_portion *portion, char *from, char *to,
                size_t size) {
  int rv = flume_segment_path(flume_task_log(&task->task)->dir, portion->first_seq, from, size);
  return rv == 0 ? flume_segment_path("log", portion->first_seq, to, size) : rv;
}

static int finish(struct flume_backup_task *task) {
  return flume_backup_put(task, "log/deleted", &((struct file_backup *)task)->deleted);
}

static int take_stock_locked(struct flume_backup_task *task) {
  const struct file_log *log = (const struct file_log *)flume_task_log(&task->task);
  assert(flume__log_is_locked(&log->log));
  const struct flume_io *io = log->log.io;
  const struct flume_segment *active = flume__file_active(log);
  task->portions = flume_io_alloc(io, log->segments.count * sizeof *task->portions);
  if (task->portions == NULL) return flume_err_nomem(&task->task.err);
  task->portions_count = log->segments.count;
  for (size_t i = 0; i < task->portions_count; i++) {
    bool sealed = log->segments.list[i] != active;
    uint64_t bytes = sealed ? log->segment_bytes : active->data_end_off;
    if (!sealed && active->next_seq == active->first_seq) bytes = FLUME_SEGMENT_HEADER_BYTES;
    task->portions[i] =
        (struct flume_portion){.first_seq = log->segments.list[i]->first_seq, .bytes = bytes, .whole = sealed};
  }
  task->req->since = log->log.since.value;
  if (log->deletions.deleted.count == 0) return 0;
  struct flume_buf *deleted = &((struct file_backup *)task)->deleted;
  int rv = flume_deletions_write(&log->deletions, deleted, io->now_ms(io->ctx), log->log.id);
  return rv == 0 ? 0 : flume_err_nomem(&task->task.err);
}

static int take_stock(struct flume_backup_task *task) {
  struct flume_log *log = flume_task_log(&task->task);
  flume__log_lock(log);
  int rv = take_stock_locked(task);
  flume__log_unlock(log);
  return rv;
}

static void fini(struct flume_backup_task *task) {
  flume_buf_fini(&((struct file_backup *)task)->deleted);
}

static const struct flume_backup_kind file_kind = {
    .take_stock = take_stock, .name = name, .finish = finish, .fini = fini};

int flume__file_backup(struct flume_log *base, const char *dir, const char *views_dir, struct flume_backup *req,
                       struct flume_err *err) {
  struct file_log *log = (struct file_log *)base;
  if (log->segments.count == 0) return flume_err_set(err, FLUME_ECORRUPT, "%s: nothing of it is good", base->dir);
  struct file_backup *task = flume_io_zalloc(base->io, sizeof *task);
  if (task == NULL) return flume_err_nomem(err);
  task->base.kind = &file_kind;
  task->base.req = req;
  flume_buf_init(&task->deleted, base->io);
  strcpy(task->base.log_dir, "log");
  strcpy(task->base.views_name, "views");
  return flume_backup_go(&task->base, &log->tasks, dir, views_dir, err);
}
