/* A file log's part of a backup (log/log_copy.h): its segments, and the deletions as of the moment that is copied.
 *
 * The sealed segments are copied from their files as they are when it is their turn: a compaction may put others in
 * their place meanwhile, with the same records. The active one only grows. */
#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "log/file/file_log.h"
#include "log/log_copy.h"

struct file_backup {
  struct flume_log_copy base;
  struct flume_buf deleted; /* what goes into the file of that name; empty when nothing was deleted */
};

static int name(const struct flume_log_copy *copy, const struct flume_portion *portion, char *from, char *to,
                size_t size) {
  int rv = flume_segment_path(copy->log->dir, portion->first_seq, from, size);
  return rv == 0 ? flume_segment_path("log", portion->first_seq, to, size) : rv;
}

static int finish(struct flume_log_copy *copy) {
  return flume__copy_put(copy, "log/deleted", &((struct file_backup *)copy)->deleted);
}

static int take_stock_locked(struct flume_log_copy *copy) {
  const struct file_log *log = (const struct file_log *)copy->log;
  assert(flume__log_is_locked(&log->log));
  const struct flume_io *io = log->log.io;
  const struct flume_segment *active = flume__file_active(log);
  copy->portions = flume_io_alloc(io, log->segments.count * sizeof *copy->portions);
  if (copy->portions == NULL) return flume_err_nomem(&copy->err);
  copy->portions_count = log->segments.count;
  for (size_t i = 0; i < copy->portions_count; i++) {
    bool sealed = log->segments.list[i] != active;
    uint64_t bytes = sealed ? log->segment_bytes : active->data_end_off;
    if (!sealed && active->next_seq == active->first_seq) bytes = FLUME_SEGMENT_HEADER_BYTES;
    copy->portions[i] =
        (struct flume_portion){.first_seq = log->segments.list[i]->first_seq, .bytes = bytes, .whole = sealed};
  }
  copy->since = log->log.since.value;
  if (log->deletions.deleted.count == 0) return 0;
  struct flume_buf *deleted = &((struct file_backup *)copy)->deleted;
  int rv = flume_deletions_write(&log->deletions, deleted, io->now_ms(io->ctx), log->log.id);
  return rv == 0 ? 0 : flume_err_nomem(&copy->err);
}

static int take_stock(struct flume_log_copy *copy) {
  struct flume_log *log = copy->log;
  flume__log_lock(log);
  int rv = take_stock_locked(copy);
  flume__log_unlock(log);
  return rv;
}

static void fini(struct flume_log_copy *copy) {
  flume_buf_fini(&((struct file_backup *)copy)->deleted);
}

static const struct flume_log_copy_ops file_ops = {
    .take_stock = take_stock, .name = name, .finish = finish, .fini = fini};

int flume__file_copy(struct flume_log *base, struct flume_log_copy **out, struct flume_err *err) {
  struct file_log *log = (struct file_log *)base;
  if (log->segments.count == 0) return flume_err_set(err, FLUME_ECORRUPT, "%s: nothing of it is good", base->dir);
  struct file_backup *task = flume_io_zalloc(base->io, sizeof *task);
  if (task == NULL) return flume_err_nomem(err);
  task->base.ops = &file_ops;
  task->base.log = base;
  flume_buf_init(&task->deleted, base->io);
  strcpy(task->base.log_dir, "log");
  strcpy(task->base.views_name, "views");
  *out = &task->base;
  return 0;
}
