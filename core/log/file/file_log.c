#include "log/file/file_log.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "log/file/file_follow.h"

#define DEFAULT_SEGMENT_BYTES ((uint64_t)256 << 20)
#define LIMIT_SEGMENT_BYTES ((uint64_t)2 << 30)
#define DEFAULT_INTERVAL_MS 100

static void release(struct log_file *log) {
  const struct flume_io *io = log->log.io;
  for (size_t i = 0; i < log->segments_count; i++) flume_segment_unref(log->segments[i]);
  log->segments_count = 0;
  struct flume_queue *node;
  while ((node = flume_queue_shift(&log->spare)) != NULL) {
    flume__commit_free(FLUME_CONTAINER_OF(node, struct flume_commit, queue));
  }
  if (log->deleted_file >= 0) io->close(io->ctx, log->deleted_file);
  log->deleted_file = -1;
  if (log->lock >= 0) io->close(io->ctx, log->lock);
  log->lock = -1;
  flume__follow_free(log);
}

static void file_free(struct flume_log *base) {
  struct log_file *log = (struct log_file *)base;
  const struct flume_io *io = base->io;
  release(log);
  flume_deletions_fini(&log->deletions);
  flume_io_free(io, log->segments);
  flume_io_free(io, log->loaded);
  flume_io_free(io, base->dir);
  flume_io_free(io, log);
}

static void on_timer_closed(uv_handle_t *handle) {
  struct log_file *log = handle->data;
  release(log); /* the lock goes before anyone is told */
  flume__log_closed(&log->log);
}

void flume__file_drained(struct log_file *log) {
  if (!log->draining || log->committing != NULL || !flume_queue_empty(&log->tasks.list)) return;
  if (log->follow != NULL && log->follow->watch.open_handles > 0) return;
  uv_close((uv_handle_t *)&log->timer, on_timer_closed);
}

static void file_close(struct flume_log *base) {
  struct log_file *log = (struct log_file *)base;
  uv_timer_stop(&log->timer);
  log->draining = true;
  if (log->follow != NULL) flume_follow_close(log->follow);
  if (flume__file_check_writer(log, NULL) == 0 && flume__log_failure(base, NULL) == 0) {
    flume__file_submit(log, FLUME_COMMIT_END, NULL);
  }
  flume__file_drained(log);
}

static const struct flume_log_ops file_ops = {
    .kind = "file",
    .erased = "removed",
    .append = flume__file_append,
    .append_wait = flume__file_append_wait,
    .sync = flume__file_sync,
    .del = flume__file_del,
    .plan = flume__file_plan,
    .plan_one = flume__file_plan_one,
    .deleted_count = flume__file_deleted_count,
    .deletion_at = flume__file_deletion_at,
    .is_lost = flume__file_is_lost,
    .sync_now = flume__file_sync_now,
    .compact = flume__file_compact,
    .backup = flume__file_backup,
    .check = flume__file_check,
    .close = file_close,
    .free = file_free,
};

int flume__file_lock(const struct flume_io *io, const char *dir, int *lock, struct flume_err *err) {
  char path[4096];
  int len = snprintf(path, sizeof path, "%s/lock", dir);
  if (len < 0 || (size_t)len >= sizeof path) return flume_err_set(err, UV_ENAMETOOLONG, "%s", dir);
  int file = io->open(io->ctx, path, FLUME_IO_WRITE | FLUME_IO_CREATE);
  if (file < 0) return flume_err_set(err, file, "opening %s: %s", path, flume_strerror(file));
  char holder[128];
  int rv = io->lock(io->ctx, file, holder, sizeof holder);
  if (rv != 0) io->close(io->ctx, file);
  if (rv == UV_EAGAIN) {
    return flume_err_set(err, FLUME_ELOCKED, "%s is open for writing in %s", dir, holder);
  }
  if (rv != 0) return flume_err_set(err, rv, "locking %s: %s", path, flume_strerror(rv));
  *lock = file;
  return 0;
}

static int open_dir(struct log_file *log, const struct flume_log_options *options, struct flume_err *err) {
  const struct flume_io *io = log->log.io;
  if (!log->readonly) {
    int rv = flume_io_mkdir_all(io, log->log.dir);
    if (rv != 0) return flume_err_set(err, rv, "creating %s: %s", log->log.dir, flume_strerror(rv));
    rv = flume__file_lock(io, log->log.dir, &log->lock, err);
    if (rv != 0) return rv;
    log->pid = uv_os_getpid();
  }
  int rv = flume__file_recover(log, options->damaged, err);
  return rv != 0 || log->readonly ? rv : flume__note_begin(log, err);
}

static int check_options(const struct flume_log_options *options, struct flume_err *err) {
  if (options->sync > FLUME_SYNC_OS) return flume_err_set(err, FLUME_EINVAL, "unknown sync mode %d", options->sync);
  if (options->damaged && !options->readonly) {
    return flume_err_set(err, FLUME_EINVAL, "a damaged log can only be opened read-only");
  }
  if (options->poll_ms > 0 && !options->readonly) {
    return flume_err_set(err, FLUME_EINVAL, "only a log that is opened read-only looks for what others write");
  }
  return 0;
}

static void on_task_ended(struct flume_log *log) {
  flume__file_drained((struct log_file *)log);
}

static void configure(struct log_file *log, const struct flume_log_options *options) {
  log->sync = options->sync;
  log->interval_ms = options->interval_ms > 0 ? options->interval_ms : DEFAULT_INTERVAL_MS;
  log->segment_bytes = options->segment_bytes > 0 ? options->segment_bytes : DEFAULT_SEGMENT_BYTES;
  if (log->segment_bytes > LIMIT_SEGMENT_BYTES) log->segment_bytes = LIMIT_SEGMENT_BYTES;
  log->readonly = options->readonly;
  log->lock = -1;
  log->deleted_file = -1;
  log->work.data = log;
  log->timer.data = log;
  flume_queue_init(&log->commits);
  flume_queue_init(&log->spare);
  flume_tasks_init(&log->tasks, &log->log, on_task_ended);
  log->tasks.readonly = log->readonly;
  flume_deletions_init(&log->deletions, log->log.io);
}

/* The struct with all that it needs before anything is opened. */
static struct log_file *log_new(const struct flume_io *io, uv_loop_t *loop, const char *dir,
                                const struct flume_log_options *options) {
  struct log_file *log = flume_io_zalloc(io, sizeof *log);
  if (log == NULL) return NULL;
  log->log.dir = flume_io_alloc(io, strlen(dir) + 1);
  if (log->log.dir == NULL) goto err_after_log;
  strcpy(log->log.dir, dir);
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
  int rv = check_options(options, err);
  if (rv != 0) return rv;
  const struct flume_io *io = options->io != NULL ? options->io : &flume_io_posix;
  struct log_file *log = log_new(io, loop, dir, options);
  if (log == NULL) return flume_err_nomem(err);
  if (log->readonly && !options->damaged) rv = flume__follow_new(log, options->poll_ms, err);
  if (rv == 0) rv = open_dir(log, options, err);
  if (rv != 0) {
    release(log); /* the lock at once, the memory when the loop has closed the handles */
    flume__log_abandon(&log->log);
    return rv;
  }
  uv_timer_init(loop, &log->timer); /* can't fail */
  if (log->follow != NULL) flume_follow_start(log->follow, log->log.dir);
  *out = &log->log;
  return 0;
}
