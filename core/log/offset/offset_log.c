#include "log/offset/offset_log.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "log/offset/offset_follow.h"

#define DEFAULT_INTERVAL_MS 100

static struct flume_offset_file *file_new(const struct flume_io *io, const char *path) {
  struct flume_offset_file *file = flume_io_zalloc(io, sizeof *file + strlen(path) + 1);
  if (file == NULL) return NULL;
  if (uv_rwlock_init(&file->zeroing) != 0) {
    flume_io_free(io, file);
    return NULL;
  }
  atomic_init(&file->refs, 1);
  file->io = io;
  file->file = -1;
  strcpy(file->path, path);
  return file;
}

void flume__offset_file_unref(struct flume_offset_file *file) {
  if (atomic_fetch_sub_explicit(&file->refs, 1, memory_order_acq_rel) != 1) return;
  if (file->file >= 0) file->io->close(file->io->ctx, file->file);
  uv_rwlock_destroy(&file->zeroing);
  flume_io_free(file->io, file);
}

int flume__offset_init(struct log_offset *log, const struct flume_io *io, const char *path) {
  size_t dir_bytes = strlen(path) + sizeof ".flume";
  *log = (struct log_offset){.log = {.io = io}, .lock = -1};
  flume_offset_index_init(&log->index, io);
  flume__offset_set_init(&log->deleted, io, "deleted");
  flume__offset_set_init(&log->zeros, io, "zeros");
  flume_tombstones_init(&log->gone, io);
  flume_queue_init(&log->commits);
  log->log.dir = flume_io_alloc(io, dir_bytes);
  log->file = file_new(io, path);
  if (log->log.dir != NULL && log->file != NULL) {
    snprintf(log->log.dir, dir_bytes, "%s.flume", path);
    return 0;
  }
  flume__offset_fini(log);
  return FLUME_ENOMEM;
}

static void release(struct log_offset *log) {
  const struct flume_io *io = log->log.io;
  flume__offset_set_fini(&log->deleted, io);
  flume__offset_set_fini(&log->zeros, io);
  if (log->file != NULL) flume__offset_file_unref(log->file);
  log->file = NULL;
  if (log->lock >= 0) io->close(io->ctx, log->lock);
  log->lock = -1;
  flume__offset_follow_free(log);
}

void flume__offset_fini(struct log_offset *log) {
  release(log);
  flume_offset_index_fini(&log->index);
  flume_tombstones_fini(&log->gone);
  flume_io_free(log->log.io, log->log.dir);
}

static void offset_free(struct flume_log *base) {
  flume__offset_fini((struct log_offset *)base);
  flume_io_free(base->io, base);
}

static void on_timer_closed(uv_handle_t *handle) {
  struct log_offset *log = handle->data;
  release(log); /* the lock goes before anyone is told */
  flume__log_closed(&log->log);
}

void flume__offset_drained(struct log_offset *log) {
  if (!log->draining || log->committing != NULL || !flume_queue_empty(&log->tasks.list)) return;
  if (log->follow != NULL && !flume__offset_follow_closed(log->follow)) return;
  uv_close((uv_handle_t *)&log->timer, on_timer_closed);
}

/* --- Compaction ---------------------------------------------------------------------------------------------- */

static void answer_compact(struct flume_deferred *deferred) {
  struct log_offset *log = FLUME_CONTAINER_OF(deferred, struct log_offset, answer_compact);
  struct flume_compact *req = log->compacting;
  log->compacting = NULL;
  req->cb(req, 0, NULL);
}

/* There is nothing left to do: a delete overwrites the record, and where the others are is what they are called. */
static int offset_compact(struct flume_log *base, struct flume_compact *req, struct flume_err *err) {
  struct log_offset *log = (struct log_offset *)base;
  int rv = flume__offset_check_writer(log, err);
  if (rv != 0) return rv;
  if (log->compacting != NULL) return flume_err_set(err, FLUME_EBUSY, "the log is being compacted already");
  log->compacting = req;
  flume_defer(&base->defer, &log->answer_compact);
  return 0;
}

/* --- Opening and closing ------------------------------------------------------------------------------------- */

static void offset_close(struct flume_log *base) {
  struct log_offset *log = (struct log_offset *)base;
  assert(log->compacting == NULL); /* its answer was deferred before this was, and nothing is compacted behind it */
  uv_timer_stop(&log->timer);
  log->draining = true;
  if (log->follow != NULL) flume__offset_follow_close(log->follow);
  if (flume__offset_check_writer(log, NULL) == 0 && flume__log_failure(base, NULL) == 0) {
    flume__offset_submit(log, FLUME_OFFSET_COMMIT_END, NULL);
  }
  flume__offset_drained(log);
}

static const struct flume_log_ops offset_ops = {
    .kind = "offset",
    .erased = "overwritten",
    .append = flume__offset_append,
    .append_wait = flume__offset_append_wait,
    .sync = flume__offset_sync,
    .del = flume__offset_del,
    .plan = flume__offset_plan,
    .plan_one = flume__offset_plan_one,
    .deleted_count = flume__offset_deleted_count,
    .deletion_at = flume__offset_deletion_at,
    .is_lost = flume__offset_is_lost,
    .sync_now = flume__offset_sync_now,
    .compact = offset_compact,
    .backup = flume__offset_backup,
    .check = flume__offset_check,
    .close = offset_close,
    .free = offset_free,
};

int flume__offset_lock(struct log_offset *log, struct flume_err *err) {
  const struct flume_io *io = log->log.io;
  int rv = flume_io_mkdir_all(io, log->log.dir);
  if (rv != 0) return flume_err_set(err, rv, "creating %s: %s", log->log.dir, flume_strerror(rv));
  char path[4096];
  rv = flume__offset_path(log, "lock", path, sizeof path);
  if (rv != 0) return flume_err_set(err, rv, "%s", log->log.dir);
  int file = io->open(io->ctx, path, FLUME_IO_WRITE | FLUME_IO_CREATE);
  if (file < 0) return flume_err_set(err, file, "opening %s: %s", path, flume_strerror(file));
  char holder[128];
  rv = io->lock(io->ctx, file, holder, sizeof holder);
  if (rv != 0) io->close(io->ctx, file);
  if (rv == UV_EAGAIN) {
    return flume_err_set(err, FLUME_ELOCKED, "%s is open for writing in %s", log->file->path, holder);
  }
  if (rv != 0) return flume_err_set(err, rv, "locking %s: %s", path, flume_strerror(rv));
  log->lock = file; /* what the one before has told those who follow says nothing of what comes now */
  rv = io->truncate(io->ctx, file, FLUME_IO_LOCK_BYTES);
  if (rv != 0) return flume_err_set(err, rv, "writing %s: %s", path, flume_strerror(rv));
  log->pid = uv_os_getpid();
  return 0;
}

static int check_options(const struct flume_log_options *options, struct flume_err *err) {
  if (options->sync > FLUME_SYNC_OS) return flume_err_set(err, FLUME_EINVAL, "unknown sync mode %d", options->sync);
  if (options->offset_bits != 0 && !flume_offset_bits_known(options->offset_bits)) {
    return flume_err_set(err, FLUME_EINVAL, "pointers have 32, 48 or 53 bits, not %u", options->offset_bits);
  }
  if (options->damaged && !options->readonly) {
    return flume_err_set(err, FLUME_EINVAL, "a damaged log can only be opened read-only");
  }
  if (options->poll_ms > 0 && !options->readonly) {
    return flume_err_set(err, FLUME_EINVAL, "only a log that is opened read-only looks for what others write");
  }
  return 0;
}

static void on_task_ended(struct flume_log *log) {
  flume__offset_drained((struct log_offset *)log);
}

/* The struct with all that it needs before anything is opened. */
static struct log_offset *log_new(const struct flume_io *io, uv_loop_t *loop, const char *path,
                                  const struct flume_log_options *options) {
  struct log_offset *log = flume_io_alloc(io, sizeof *log);
  if (log == NULL) return NULL;
  if (flume__offset_init(log, io, path) != 0) {
    flume_io_free(io, log);
    return NULL;
  }
  if (flume__log_init(&log->log, &offset_ops, io, loop, options->max_record_bytes) != 0) {
    flume__offset_fini(log);
    flume_io_free(io, log);
    return NULL;
  }
  log->sync = options->sync;
  log->interval_ms = options->interval_ms > 0 ? options->interval_ms : DEFAULT_INTERVAL_MS;
  log->readonly = options->readonly;
  log->work.data = log->timer.data = log;
  flume_tasks_init(&log->tasks, &log->log, on_task_ended);
  log->tasks.readonly = log->readonly;
  flume_deferred_init(&log->answer_compact, answer_compact);
  return log;
}

static int open_to_write(struct log_offset *log, const struct flume_log_options *options, struct flume_err *err) {
  int rv = flume__offset_look(log, err);
  if (rv == 0) rv = flume__offset_lock(log, err);
  if (rv == 0) rv = flume__offset_recover(log, options->offset_bits, false, err);
  return rv == 0 ? flume__offset_tell_begin(log, err) : rv;
}

static int open_to_read(struct log_offset *log, const struct flume_log_options *options, struct flume_err *err) {
  int rv = options->damaged ? 0 : flume__offset_follow_new(log, options->poll_ms, err);
  return rv == 0 ? flume__offset_recover(log, options->offset_bits, options->damaged, err) : rv;
}

int flume_log_open_offset(struct flume_log **out, uv_loop_t *loop, const char *path,
                          const struct flume_log_options *options, struct flume_err *err) {
  static const struct flume_log_options defaults;
  if (options == NULL) options = &defaults;
  int rv = check_options(options, err);
  if (rv != 0) return rv;
  const struct flume_io *io = options->io != NULL ? options->io : &flume_io_posix;
  struct log_offset *log = log_new(io, loop, path, options);
  if (log == NULL) return flume_err_nomem(err);
  rv = log->readonly ? open_to_read(log, options, err) : open_to_write(log, options, err);
  if (rv != 0) {
    release(log); /* the lock at once, the memory when the loop has closed the handles */
    flume__log_abandon(&log->log);
    return rv;
  }
  uv_timer_init(loop, &log->timer); /* can't fail */
  if (log->follow != NULL) flume__offset_follow_start(log->follow);
  *out = &log->log;
  return 0;
}
