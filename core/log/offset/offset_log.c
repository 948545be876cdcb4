#include "log/offset/offset_log.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/path.h"
#include "log/offset/offset_follow.h"

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

int flume__offset_init(struct offset_log *log, const struct flume_io *io, const char *path) {
  size_t dir_bytes = strlen(path) + sizeof ".flume";
  *log = (struct offset_log){.log = {.io = io}};
  flume__lock_file_init(&log->log.lock_file, io, NULL);
  flume_offset_index_init(&log->index, io);
  flume__offset_set_init(&log->deleted, io, "deleted");
  flume__offset_set_init(&log->zeros, io, "zeros");
  flume_tombstones_init(&log->gone, io);
  log->log.dir = flume_io_alloc(io, dir_bytes);
  log->file = file_new(io, path);
  if (log->log.dir != NULL && log->file != NULL) {
    snprintf(log->log.dir, dir_bytes, "%s.flume", path);
    log->log.name = log->file->path;
    log->log.lock_file.dir = log->log.dir;
    return 0;
  }
  flume__offset_fini(log);
  return FLUME_ENOMEM;
}

static void release(struct offset_log *log) {
  const struct flume_io *io = log->log.io;
  flume__offset_set_fini(&log->deleted, io);
  flume__offset_set_fini(&log->zeros, io);
  if (log->file != NULL) flume__offset_file_unref(log->file);
  log->file = NULL;
  flume__lock_file_release(&log->log.lock_file);
  if (log->log.group != NULL) flume__group_fini(&log->group);
  flume__offset_follow_free(log);
}

void flume__offset_fini(struct offset_log *log) {
  release(log);
  flume_offset_index_fini(&log->index);
  flume_tombstones_fini(&log->gone);
  flume_io_free(log->log.io, log->log.dir);
}

static void offset_free(struct flume_log *base) {
  flume__offset_fini((struct offset_log *)base);
  flume_io_free(base->io, base);
}

static void on_group_closed(uv_handle_t *handle) {
  struct flume_group *group = handle->data;
  assert(group->log->state == FLUME_LOG_CLOSING && ((struct offset_log *)group->log)->draining);
  release((struct offset_log *)group->log); /* the lock goes before anyone is told */
  flume__log_closed(group->log);
}

void flume__offset_drained(struct offset_log *log) {
  if (!log->draining || log->group.committing != NULL || !flume_queue_empty(&log->tasks.list)) return;
  if (log->follow != NULL && !flume__offset_follow_closed(log->follow)) return;
  flume__group_close(&log->group, on_group_closed);
}

/* --- Compaction ---------------------------------------------------------------------------------------------- */

static void answer_compact(struct flume_deferred *deferred) {
  struct offset_log *log = FLUME_CONTAINER_OF(deferred, struct offset_log, answer_compact);
  struct flume_compact *req = log->compacting;
  log->compacting = NULL;
  req->cb(req, 0, NULL);
}

/* Nothing to do: a delete overwrites the record at once, and the others can't move, as their seqs are their places. */
static int offset_compact(struct flume_log *base, struct flume_compact *req, struct flume_err *err) {
  struct offset_log *log = (struct offset_log *)base;
  int rv = flume__log_check_writer(&log->log, err);
  if (rv != 0) return rv;
  if (log->compacting != NULL) return flume_err_set(err, FLUME_EBUSY, "the log is being compacted already");
  log->compacting = req;
  flume_defer(&base->defer, &log->answer_compact);
  return 0;
}

/* --- Opening and closing ------------------------------------------------------------------------------------- */

static void offset_close(struct flume_log *base) {
  struct offset_log *log = (struct offset_log *)base;
  assert(log->compacting == NULL); /* its answer was deferred before this was, and nothing is compacted behind it */
  log->draining = true;
  if (log->follow != NULL) flume__offset_follow_close(log->follow);
  flume__group_end(&log->group);
  flume__offset_drained(log);
}

static const struct flume_log_ops offset_ops = {
    .kind = "offset",
    .erased = "overwritten",
    .append = flume__group_append,
    .sync = flume__group_sync,
    .del = flume__offset_del,
    .plan = flume__offset_plan,
    .plan_one = flume__offset_plan_one,
    .deleted_count = flume__offset_deleted_count,
    .deletion_at = flume__offset_deletion_at,
    .is_lost = flume__offset_is_lost,
    .sync_now = flume__offset_sync_now,
    .compact = offset_compact,
    .copy = flume__offset_copy,
    .check = flume__offset_check,
    .close = offset_close,
    .free = offset_free,
};

/* The high watermark of the last writer says nothing of this one, and is cut off. */
int flume__offset_lock(struct offset_log *log, struct flume_err *err) {
  struct flume_log *base = &log->log;
  int rv = flume_io_mkdir_all(base->io, base->dir);
  if (rv != 0) return flume_err_set(err, rv, "creating %s: %s", base->dir, flume_strerror(rv));
  rv = flume__lock_file_take(&base->lock_file, base->name, err);
  if (rv != 0) return rv;
  rv = base->io->truncate(base->io->ctx, base->lock_file.file, FLUME_IO_LOCK_BYTES);
  return rv == 0 ? 0 : flume_err_set(err, rv, "writing %s/lock: %s", base->dir, flume_strerror(rv));
}

static int check_options(const struct flume_log_options *options, struct flume_err *err) {
  if (options->offset_bits != 0 && !flume_offset_bits_known(options->offset_bits)) {
    return flume_err_set(err, FLUME_EINVAL, "pointers have 32, 48 or 53 bits, not %u", options->offset_bits);
  }
  return flume__log_check_options(options, err);
}

static void on_task_ended(struct flume_log *log) {
  flume__offset_drained((struct offset_log *)log);
}

/* The struct with all that it needs before anything is opened. */
static struct offset_log *log_new(const struct flume_io *io, uv_loop_t *loop, const char *path,
                                  const struct flume_log_options *options) {
  struct offset_log *log = flume_io_alloc(io, sizeof *log);
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
  flume__group_init(&log->group, &flume__offset_group, &log->log, options->sync, options->interval_ms);
  log->log.readonly = options->readonly;
  flume_tasks_init(&log->tasks, &log->log, on_task_ended);
  flume_deferred_init(&log->answer_compact, answer_compact);
  return log;
}

static int open_to_write(struct offset_log *log, const struct flume_log_options *options, struct flume_err *err) {
  int rv = flume__offset_look(log, err);
  if (rv == 0) rv = flume__offset_lock(log, err);
  if (rv == 0) rv = flume__offset_recover(log, options->offset_bits, false, err);
  if (rv != 0) return rv;
  int64_t since = log->group.sync == FLUME_SYNC_ALWAYS ? log->log.since.value : FLUME_SEQ_MAX;
  return flume__watermark_begin(&log->log.lock_file, log->log.id, since, log->deleted.seqs.end_off, err);
}

static int open_to_read(struct offset_log *log, const struct flume_log_options *options, struct flume_err *err) {
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
  char place[FLUME_PATH_MAX];
  rv = flume__log_place(io, path, place, err);
  if (rv != 0) return rv;
  struct offset_log *log = log_new(io, loop, place, options);
  if (log == NULL) return flume_err_nomem(err);
  rv = log->log.readonly ? open_to_read(log, options, err) : open_to_write(log, options, err);
  if (rv != 0) {
    release(log); /* the lock at once, the memory when the loop has closed the handles */
    flume__log_abandon(&log->log);
    return rv;
  }
  flume__group_open(&log->group);
  if (log->follow != NULL) flume__offset_follow_start(log->follow);
  *out = &log->log;
  return 0;
}
