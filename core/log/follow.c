#include "log/follow.h"

#include <assert.h>
#include <stdio.h>

#include "base/err.h"
#include "base/path.h"

void flume_follow_init(struct flume_follow *follow, struct flume_log *log, uint32_t poll_ms) {
  *follow = (struct flume_follow){.log = log, .poll_ms = poll_ms, .lock_file = -1};
}

static void close_lock(struct flume_follow *follow) {
  const struct flume_io *io = follow->log->io;
  if (follow->lock_file >= 0) io->close(io->ctx, follow->lock_file);
  follow->lock_file = -1;
}

void flume_follow_fini(struct flume_follow *follow) {
  close_lock(follow);
}

/* --- The high watermark ------------------------------------------------------------------------------------------------- */

static int open_lock(struct flume_follow *follow, struct flume_err *err) {
  const struct flume_log *log = follow->log;
  char path[FLUME_PATH_MAX];
  int rv = flume__lock_file_path(log->dir, path, sizeof path, err);
  if (rv != 0) return rv;
  if (follow->names_changed && follow->lock_file >= 0 && log->io->is_at(log->io->ctx, follow->lock_file, path) != 1) {
    close_lock(follow);
  }
  if (follow->lock_file >= 0) return 0;
  rv = log->io->open(log->io->ctx, path, FLUME_IO_READ);
  if (rv == UV_ENOENT || rv == UV_ENOTDIR) return 0;
  if (rv < 0) return flume_err_set(err, rv, "opening %s: %s", path, flume_strerror(rv));
  follow->lock_file = rv;
  return 0;
}

/* The high watermark is read after the lock was looked at: a writer that is gone by then said everything before. */
int flume__follow_bound_locked(struct flume_follow *follow, struct flume_bound *bound, struct flume_err *err) {
  assert(flume__log_is_locked(follow->log));
  const struct flume_log *log = follow->log;
  *bound = (struct flume_bound){.watermark = {.since = FLUME_SEQ_MAX, .deleted_end_off = UINT64_MAX}};
  int rv = open_lock(follow, err);
  if (rv != 0 || follow->lock_file < 0) return rv;
  bound->alive = log->io->locked(log->io->ctx, follow->lock_file) == 1;
  struct flume_watermark watermark;
  rv = flume__watermark_read(log->io, follow->lock_file, log->id, &watermark);
  if (rv != 0 && rv != FLUME_ENOENT) {
    return flume_err_set(err, rv, "reading %s/lock: %s", log->dir, flume_strerror(rv));
  }
  if (!bound->alive && rv == 0) follow->dead_writer = watermark.writer;
  bound->unknown = bound->alive && rv == FLUME_ENOENT;
  if (bound->alive && rv == 0) bound->watermark = watermark;
  return 0;
}

int flume_follow_bound(struct flume_follow *follow, struct flume_bound *bound, struct flume_err *err) {
  flume__log_lock(follow->log);
  int rv = flume__follow_bound_locked(follow, bound, err);
  flume__log_unlock(follow->log);
  return rv;
}

int flume_follow_bound_holds(struct flume_follow *follow, const struct flume_bound *bound, struct flume_err *err) {
  struct flume_bound now;
  int rv = flume_follow_bound(follow, &now, err);
  if (rv != 0) return rv;
  return now.alive == bound->alive && now.unknown == bound->unknown && now.watermark.writer == bound->watermark.writer;
}

int flume_follow_check(const struct flume_follow *follow, const struct flume_bound *bound, struct flume_err *err) {
  struct flume_log *log = follow->log;
  int64_t since = log->since.value;
  if (!bound->alive || bound->unknown || bound->watermark.since >= since) return 0;
  if (bound->watermark.writer == follow->dead_writer) return 0;
  struct flume_block *block;
  if (flume_log_read(log, since, true, 1, &block, NULL) == 0) {
    flume_block_unref(block);
    return 0;
  }
  return flume_err_set(err, FLUME_ECORRUPT,
                       "%s: the log ends at seq %lld, but had %lld when it was read: it was replaced by an older copy",
                       log->dir, (long long)bound->watermark.since, (long long)since);
}

int flume_follow_sync(const struct flume_io *io, int file, const char *path, struct flume_err *err) {
  int rv = io->sync(io->ctx, file);
  if (rv == 0 || rv == UV_EROFS || rv == UV_EINVAL || rv == UV_ENOTSUP) return 0;
  return flume_err_set(err, rv, "syncing %s: %s", path, flume_strerror(rv));
}

/* --- Looking -------------------------------------------------------------------------------------------------- */

static void lose(struct flume_follow *follow, const struct flume_err *err) {
  struct flume_log *log = follow->log;
  assert(err->code != 0);
  flume_dir_watch_stop(&follow->watch);
  flume__log_lock(log);
  log->following = FLUME_FOLLOWING_LOST;
  log->following_why = *err;
  flume__log_unlock(log);
  flume_obv_touch(&log->since);
}

/* A reader thread may have learned of deletions, which it can't tell to observers. The writer's own change of its files
 * brings the look that does. */
static void tell_deletions(struct flume_follow *follow) {
  struct flume_log *log = follow->log;
  if (follow->told_deletions == log->deletions.value) return;
  follow->told_deletions = log->deletions.value;
  flume_obv_touch(&log->deletions);
}

static void run_look(struct flume_deferred *deferred) {
  struct flume_follow *follow = FLUME_CONTAINER_OF(deferred, struct flume_follow, look);
  assert(follow->log->following != FLUME_FOLLOWING_LOST && follow->log->following != FLUME_FOLLOWING_NONE);
  struct flume_err err;
  int rv = follow->run(follow, &err);
  if (rv < 0) lose(follow, &err);
  tell_deletions(follow);
  flume__log_moved(follow->log);
  if (rv > 0) flume_defer(&follow->log->defer, &follow->look);
}

void flume_follow_changed(struct flume_follow *follow, enum flume_dir_change change) {
  if (follow->log->following == FLUME_FOLLOWING_LOST) return;
  flume__log_lock(follow->log);
  if (change != FLUME_DIR_BYTES) follow->names_changed = true;
  flume__log_unlock(follow->log);
  flume_defer(&follow->log->defer, &follow->look);
}

static void on_change(struct flume_dir_watch *watch, enum flume_dir_change change) {
  flume_follow_changed(watch->data, change);
}

/* --- Beginning and ending ------------------------------------------------------------------------------------- */

void flume_follow_start(struct flume_follow *follow, const char *path) {
  struct flume_log *log = follow->log;
  assert(follow->run != NULL && follow->closed != NULL);
  assert(log->readonly && log->following == FLUME_FOLLOWING_NONE);
  follow->watch.cb = on_change;
  follow->watch.data = follow;
  flume_dir_watch_open(&follow->watch, log->loop, log->io, path, follow->poll_ms);
  follow->told_deletions = log->deletions.value;
  log->following = follow->watch.poll_ms == 0 ? FLUME_FOLLOWING_EVENTS : FLUME_FOLLOWING_POLL;
  if (follow->watch.poll_ms != 0) {
    flume_err_set(&log->following_why, follow->watch.reason, "looking every %u ms: %s", follow->watch.poll_ms,
                  follow->watch.reason == 0 ? "asked for" : flume_strerror(follow->watch.reason));
  }
  flume_deferred_init(&follow->look, run_look);
  flume_defer(&log->defer, &follow->look); /* for what was written since the files were read */
}

static void on_watch_closed(struct flume_dir_watch *watch) {
  struct flume_follow *follow = watch->data;
  follow->closed(follow);
}

void flume_follow_close(struct flume_follow *follow) {
  flume_deferred_cancel(&follow->look);
  flume_dir_watch_close(&follow->watch, on_watch_closed);
}
