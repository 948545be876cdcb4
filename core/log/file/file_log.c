#include "log/file/file_log.h"

#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "base/path.h"
#include "log/file/file_follow.h"

#define DEFAULT_SEGMENT_BYTES ((uint64_t)256 << 20)

static void release(struct file_log *log) {
  const struct flume_io *io = log->log.io;
  flume__segments_clear(&log->segments);
  flume__group_fini(&log->group);
  if (log->deleted_file >= 0) io->close(io->ctx, log->deleted_file);
  log->deleted_file = -1;
  flume__lock_file_release(&log->log.lock_file);
  flume__file_follow_free(log);
}

static void file_free(struct flume_log *base) {
  struct file_log *log = (struct file_log *)base;
  const struct flume_io *io = base->io;
  release(log);
  flume_deletions_fini(&log->deletions);
  flume__segments_fini(&log->segments);
  flume_io_free(io, base->dir);
  flume_io_free(io, log);
}

static void on_group_closed(uv_handle_t *handle) {
  struct flume_group *group = handle->data;
  assert(group->log->state == FLUME_LOG_CLOSING && ((struct file_log *)group->log)->draining);
  release((struct file_log *)group->log); /* the lock goes before anyone is told */
  flume__log_closed(group->log);
}

void flume__file_drained(struct file_log *log) {
  if (!log->draining || log->group.committing != NULL || !flume_queue_empty(&log->tasks.list)) return;
  if (log->follow != NULL && log->follow->watch.open_handles > 0) return;
  flume__group_close(&log->group, on_group_closed);
}

static void file_close(struct flume_log *base) {
  struct file_log *log = (struct file_log *)base;
  assert(base->state == FLUME_LOG_CLOSING && !log->draining);
  log->draining = true;
  if (log->follow != NULL) flume_follow_close(log->follow);
  flume__group_end(&log->group);
  flume__file_drained(log);
}

static const struct flume_log_ops file_ops = {
    .kind = "file",
    .erased = "removed",
    .append = flume__group_append,
    .sync = flume__group_sync,
    .del = flume__group_del,
    .plan = flume__file_plan,
    .plan_one = flume__file_plan_one,
    .deleted_count = flume__file_deleted_count,
    .deletion_at = flume__file_deletion_at,
    .is_lost = flume__file_is_lost,
    .sync_now = flume__file_sync_now,
    .compact = flume__file_compact,
    .copy = flume__file_copy,
    .check = flume__file_check,
    .close = file_close,
    .free = file_free,
};

static int open_dir(struct file_log *log, const struct flume_log_options *options, struct flume_err *err) {
  struct flume_log *base = &log->log;
  if (base->readonly) return flume__file_recover(log, options->damaged, err);
  int rv = flume_io_mkdir_all(base->io, base->dir);
  if (rv != 0) return flume_err_set(err, rv, "creating %s: %s", base->dir, flume_strerror(rv));
  rv = flume__lock_file_take(&base->lock_file, base->name, err);
  if (rv == 0) rv = flume__file_recover(log, false, err);
  if (rv != 0) return rv;
  int64_t since = log->group.sync == FLUME_SYNC_ALWAYS ? base->since.value : FLUME_SEQ_MAX;
  return flume__watermark_begin(&base->lock_file, base->id, since, log->deletions.end_off, err);
}

static void on_task_ended(struct flume_log *log) {
  flume__file_drained((struct file_log *)log);
}

static void configure(struct file_log *log, const struct flume_log_options *options) {
  flume__group_init(&log->group, &flume__file_group, &log->log, options->sync, options->interval_ms);
  log->segment_bytes = options->segment_bytes > 0 ? options->segment_bytes : DEFAULT_SEGMENT_BYTES;
  log->log.readonly = options->readonly;
  log->deleted_file = -1;
  flume__segments_init(&log->segments, &log->log);
  flume_tasks_init(&log->tasks, &log->log, on_task_ended);
  flume_deletions_init(&log->deletions, log->log.io);
}

/* The struct with all that it needs before anything is opened. */
static struct file_log *log_new(const struct flume_io *io, uv_loop_t *loop, const char *dir,
                                const struct flume_log_options *options) {
  struct file_log *log = flume_io_zalloc(io, sizeof *log);
  if (log == NULL) return NULL;
  log->log.dir = flume_io_alloc(io, strlen(dir) + 1);
  if (log->log.dir == NULL) goto err_after_log;
  strcpy(log->log.dir, dir);
  log->log.name = log->log.dir;
  flume__lock_file_init(&log->log.lock_file, io, log->log.dir);
  if (flume__log_init(&log->log, &file_ops, io, loop, options->max_record_bytes) != 0) goto err_after_dir;
  configure(log, options);
  return log;

err_after_dir:
  flume_io_free(io, log->log.dir);
err_after_log:
  flume_io_free(io, log);
  return NULL;
}

int flume_log_open(struct flume_log **out, uv_loop_t *loop, const char *dir, const struct flume_log_options *options,
                   struct flume_err *err) {
  static const struct flume_log_options defaults;
  if (options == NULL) options = &defaults;
  int rv = flume__log_check_options(options, err);
  if (rv != 0) return rv;
  const struct flume_io *io = options->io != NULL ? options->io : &flume_io_posix;
  char place[FLUME_PATH_MAX];
  rv = flume__log_place(io, dir, place, err);
  if (rv != 0) return rv;
  struct file_log *log = log_new(io, loop, place, options);
  if (log == NULL) return flume_err_nomem(err);
  if (options->readonly && !options->damaged) rv = flume__file_follow_new(log, options->poll_ms, err);
  if (rv == 0) rv = open_dir(log, options, err);
  if (rv != 0) {
    release(log); /* the lock at once, the memory when the loop has closed the handles */
    flume__log_abandon(&log->log);
    return rv;
  }
  flume__group_open(&log->group);
  if (log->follow != NULL) flume_follow_start(log->follow, log->log.dir);
  *out = &log->log;
  return 0;
}
