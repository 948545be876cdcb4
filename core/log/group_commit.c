#include "log/group_commit.h"

#include <assert.h>
#include <stdlib.h>

#include "base/err.h"

#define DEFAULT_INTERVAL_MS 100
#define JOIN_BYTES (4u << 20) /* a waiting commit of this size takes no more appends */
#define SPARE_MAX 4u
#define SPARE_BYTES (8u << 20) /* a larger buffer is not kept */

static void start_next(struct flume_group *group);

/* --- Commits --------------------------------------------------------------------------------------------------- */

static struct flume_commit *commit_of(struct flume_queue *node) {
  return FLUME_CONTAINER_OF(node, struct flume_commit, queue);
}

struct flume_commit *flume__commit_new(struct flume_group *group, enum flume_commit_kind kind) {
  struct flume_commit *commit;
  struct flume_queue *spare = flume_queue_shift(&group->spare);
  if (spare != NULL) {
    assert(group->spare_count > 0);
    group->spare_count--;
    commit = commit_of(spare);
  } else {
    commit = group->ops->alloc(group);
    if (commit == NULL) return NULL;
    flume_buf_init(&commit->bytes, group->log->io);
  }
  commit->group = group;
  flume_queue_init(&commit->queue);
  flume_queue_init(&commit->reqs);
  commit->kind = kind;
  commit->count = 0;
  commit->bytes.len = 0;
  commit->must_sync = commit->synced = false;
  commit->status = 0;
  group->ops->begin(commit);
  return commit;
}

void flume__commit_drop(struct flume_commit *commit) {
  struct flume_group *group = commit->group;
  assert(flume_queue_empty(&commit->queue) && flume_queue_empty(&commit->reqs) && group->committing != commit);
  group->ops->release(commit);
  if (group->spare_count >= SPARE_MAX || commit->bytes.cap > SPARE_BYTES) {
    group->ops->free(commit);
    return;
  }
  flume_queue_push(&group->spare, &commit->queue);
  group->spare_count++;
}

static bool has_room(const struct flume_commit *commit) {
  if (commit->kind == FLUME_COMMIT_DELETE) return commit->count < JOIN_BYTES / sizeof(int64_t);
  return commit->bytes.len < JOIN_BYTES;
}

/* The waiting commit that more records, or deletes, may go into: the last one. Records also go into the one before the
 * last, in front of deletes, which never concern them. A delete never goes in front of records: one may be put in the
 * place of another, and a crash must not leave neither. */
static struct flume_commit *joinable(struct flume_group *group, enum flume_commit_kind kind) {
  const struct flume_queue *node = group->waiting.prev;
  if (node == &group->waiting) return NULL;
  struct flume_commit *last = commit_of(group->waiting.prev);
  if (kind == FLUME_COMMIT_DATA && last->kind == FLUME_COMMIT_DELETE && node->prev != &group->waiting) {
    last = commit_of(node->prev);
  }
  return last->kind == kind && has_room(last) ? last : NULL;
}

bool flume__group_is_idle(const struct flume_group *group) {
  return group->committing == NULL && flume_queue_empty(&group->waiting);
}

/* --- On the commit thread -------------------------------------------------------------------------------------- */

/* The timer sees to the ceiling while the loop runs; the clock does for a caller who appends and never lets it. */
static bool sync_is_due(const struct flume_group *group) {
  if (group->sync == FLUME_SYNC_ALWAYS) return true;
  if (group->sync != FLUME_SYNC_INTERVAL || group->unsynced_since_ns == 0) return false;
  uint64_t now_ns = group->log->io->hrtime_ns(group->log->io->ctx);
  return now_ns - group->unsynced_since_ns >= (uint64_t)group->interval_ms * 1000000;
}

static int run_data(struct flume_commit *commit) {
  const struct flume_group *group = commit->group;
  int rv = group->ops->write(commit);
  if (rv != 0 || !(sync_is_due(group) || commit->must_sync)) return rv;
  rv = group->ops->sync(commit);
  commit->synced = rv == 0;
  return rv == 0 && group->sync == FLUME_SYNC_ALWAYS ? group->ops->tell(commit) : rv;
}

static int run(struct flume_commit *commit) {
  assert(!flume__log_is_locked(commit->group->log));
  switch (commit->kind) {
    case FLUME_COMMIT_DATA: return run_data(commit);
    case FLUME_COMMIT_SYNC: return commit->group->ops->sync(commit);
    case FLUME_COMMIT_DELETE:
    case FLUME_COMMIT_ROLL:
    case FLUME_COMMIT_END: break;
  }
  return commit->group->ops->run(commit);
}

/* --- Back on the loop thread ------------------------------------------------------------------------------------ */

static void on_interval(uv_timer_t *timer) {
  struct flume_group *group = timer->data;
  struct flume_log *log = group->log;
  struct flume_err err;
  if (group->committing == NULL && log->durable_seq == log->since.value) { /* another thread has synced */
    group->unsynced_since_ns = 0;
    return;
  }
  int rv = flume__group_submit(group, FLUME_COMMIT_SYNC, NULL);
  if (rv == 0) return;
  flume_err_set(&err, rv, "syncing %s: %s", log->name, flume_strerror(rv));
  flume__log_fail(log, rv, &err);
}

/* Commits go one after another: what was written before a sync, and nothing else, is what readers see. */
static void note_synced(struct flume_group *group) {
  struct flume_log *log = group->log;
  assert(flume__log_is_locked(log) && log->since.value >= log->durable_seq);
  group->unsynced_since_ns = 0;
  log->durable_seq = log->since.value;
  uv_timer_stop(&group->timer);
}

/* Later appends don't start the interval again. */
static void note_written(struct flume_group *group) {
  const struct flume_log *log = group->log;
  if (group->sync != FLUME_SYNC_INTERVAL || group->unsynced_since_ns != 0) return;
  group->unsynced_since_ns = log->io->hrtime_ns(log->io->ctx);
  if (log->state == FLUME_LOG_OPEN) uv_timer_start(&group->timer, on_interval, group->interval_ms, 0);
}

static void publish(struct flume_commit *commit) {
  struct flume_group *group = commit->group;
  int64_t since = group->log->since.value;
  flume__log_lock(group->log);
  group->ops->publish(commit);
  assert(group->log->since.value >= since);
  if (commit->status == 0 && (commit->kind == FLUME_COMMIT_SYNC || commit->synced)) note_synced(group);
  else if (commit->status == 0 && commit->kind == FLUME_COMMIT_DATA) note_written(group);
  flume__log_unlock(group->log);
}

static void finish_reqs(struct flume_commit *commit) {
  struct flume_queue *node;
  while ((node = flume_queue_shift(&commit->reqs)) != NULL) {
    struct flume_append *req = FLUME_CONTAINER_OF(node, struct flume_append, queue);
    flume__append_finish(commit->group->log, req, commit->status, req->seq);
  }
}

/* The commit failed: nothing that came after it can be taken either. */
static void fail_all(struct flume_commit *commit) {
  struct flume_group *group = commit->group;
  assert(commit->status != 0);
  finish_reqs(commit);
  struct flume_queue *node;
  while ((node = flume_queue_shift(&group->waiting)) != NULL) {
    struct flume_commit *waiting = commit_of(node);
    waiting->status = commit->status;
    finish_reqs(waiting);
    flume__commit_drop(waiting);
  }
  group->ops->rewind(group);
}

static void finish(struct flume_commit *commit) {
  struct flume_group *group = commit->group;
  group->committing = NULL;
  publish(commit);
  if (commit->status != 0) {
    flume__log_fail(group->log, commit->status, &commit->err);
    fail_all(commit);
  } else {
    finish_reqs(commit);
  }
  flume__commit_drop(commit);
  flume__log_moved(group->log);
}

static void on_work(uv_work_t *work) {
  struct flume_group *group = work->data;
  group->committing->status = run(group->committing);
}

static void on_work_done(uv_work_t *work, int status) {
  struct flume_group *group = work->data;
  (void)status; /* the work is never cancelled */
  finish(group->committing);
  start_next(group);
  group->ops->drained(group);
  flume__log_run_finished(group->log);
}

static void start_next(struct flume_group *group) {
  if (group->committing != NULL) return;
  struct flume_queue *node = flume_queue_shift(&group->waiting);
  if (node == NULL) return;
  struct flume_commit *commit = commit_of(node);
  group->committing = commit;
  int rv = flume__log_failure(group->log, &commit->err); /* a sync on another thread may have failed meanwhile */
  if (rv == 0) rv = group->ops->prepare(commit);
  if (rv == 0) rv = uv_queue_work(group->log->loop, &group->work, on_work, on_work_done);
  if (rv == 0) return;
  group->committing = NULL; /* the disk was not touched: what waits has failed, but the log goes on */
  commit->status = rv;
  fail_all(commit);
  flume__commit_drop(commit);
}

/* --- Submitting -------------------------------------------------------------------------------------------------- */

void flume__commit_submit(struct flume_commit *commit, struct flume_append *req) {
  struct flume_group *group = commit->group;
  assert(flume_queue_empty(&commit->queue) && commit->status == 0);
  if (req != NULL) {
    req->seq = commit->last_seq;
    flume_queue_push(&commit->reqs, &req->queue);
  }
  flume_queue_push(&group->waiting, &commit->queue);
  start_next(group);
}

int flume__group_submit(struct flume_group *group, enum flume_commit_kind kind, struct flume_append *req) {
  assert(kind != FLUME_COMMIT_DATA && kind != FLUME_COMMIT_DELETE);
  struct flume_commit *commit = flume__commit_new(group, kind);
  if (commit == NULL) return FLUME_ENOMEM;
  flume__commit_submit(commit, req);
  return 0;
}

int flume__group_sync(struct flume_log *log, struct flume_append *req, struct flume_err *err) {
  int rv = flume__log_check_writer(log, err);
  if (rv != 0) return rv;
  return flume__group_submit(log->group, FLUME_COMMIT_SYNC, req) == 0 ? 0 : flume_err_nomem(err);
}

int flume__group_append(struct flume_log *log, struct flume_append *req, const struct flume_slice *records,
                        size_t count, struct flume_err *err) {
  struct flume_group *group = log->group;
  int rv = flume__log_check_writer(log, err);
  if (rv != 0) return rv;
  struct flume_commit *commit = joinable(group, FLUME_COMMIT_DATA);
  bool joins = commit != NULL;
  if (!joins) commit = flume__commit_new(group, FLUME_COMMIT_DATA);
  if (commit == NULL) return flume_err_nomem(err);
  rv = group->ops->take(commit, records, count, err);
  if (rv != 0) {
    if (!joins) flume__commit_drop(commit);
    return rv;
  }
  req->seq = commit->last_seq;
  flume_queue_push(&commit->reqs, &req->queue);
  if (!joins) flume_queue_push(&group->waiting, &commit->queue);
  start_next(group);
  return 0;
}

static int take_deletes(struct flume_commit *commit, const int64_t *seqs, size_t count) {
  int rv = flume_deletions_reserve(&commit->bytes, commit->count + count);
  if (rv != 0) return rv;
  for (size_t i = 0; i < count; i++) {
    flume_put_le64(flume_deletions_seq(&commit->bytes, commit->count++), (uint64_t)seqs[i]);
  }
  return 0;
}

int flume__group_del(struct flume_log *log, struct flume_append *req, const int64_t *seqs, size_t count,
                     struct flume_err *err) {
  struct flume_group *group = log->group;
  int rv = flume__log_check_writer(log, err);
  if (rv != 0) return rv;
  struct flume_commit *commit = joinable(group, FLUME_COMMIT_DELETE);
  bool joins = commit != NULL;
  if (!joins) commit = flume__commit_new(group, FLUME_COMMIT_DELETE);
  if (commit == NULL) return flume_err_nomem(err);
  if (take_deletes(commit, seqs, count) != 0) {
    if (!joins) flume__commit_drop(commit);
    return flume_err_nomem(err);
  }
  if (!joins) {
    flume__commit_submit(commit, req);
    return 0;
  }
  req->seq = commit->last_seq;
  flume_queue_push(&commit->reqs, &req->queue);
  return 0;
}

int flume__commit_reserve_deletes(struct flume_commit *commit, struct flume_tombstones *deleted) {
  const struct flume_io *io = commit->bytes.io;
  assert(commit->kind == FLUME_COMMIT_DELETE && flume__log_is_locked(commit->group->log));
  if (commit->count == 0) return 0;
  int64_t *sorted = flume_io_alloc(io, commit->count * sizeof *sorted);
  if (sorted == NULL) return FLUME_ENOMEM;
  for (uint32_t i = 0; i < commit->count; i++) {
    sorted[i] = (int64_t)flume_get_le64(flume_deletions_seq(&commit->bytes, i));
  }
  qsort(sorted, commit->count, sizeof *sorted, flume__compare_seqs);
  uint32_t kept = 0;
  for (uint32_t i = 0; i < commit->count; i++) {
    if ((i > 0 && sorted[i] == sorted[i - 1]) || flume_tombstones_has(deleted, sorted[i])) continue;
    flume_put_le64(flume_deletions_seq(&commit->bytes, kept++), (uint64_t)sorted[i]);
  }
  flume_io_free(io, sorted);
  assert(kept <= commit->count);
  commit->count = kept;
  return flume_tombstones_reserve(deleted, kept);
}

int flume__group_append_wait(struct flume_group *group, const struct flume_slice *records, size_t count, int64_t *seq,
                             struct flume_err *err) {
  int rv = flume__log_check_writer(group->log, err);
  if (rv != 0) return rv;
  if (!flume__group_is_idle(group)) return flume_err_set(err, FLUME_EBUSY, "other appends are pending");
  struct flume_commit *commit = flume__commit_new(group, FLUME_COMMIT_DATA);
  if (commit == NULL) return flume_err_nomem(err);
  rv = group->ops->take(commit, records, count, &commit->err);
  if (rv == 0) rv = group->ops->prepare(commit);
  if (rv != 0) {
    group->ops->rewind(group);
    if (err != NULL) *err = commit->err;
    flume__commit_drop(commit);
    return rv;
  }
  int64_t last_seq = commit->last_seq;
  commit->status = rv = run(commit);
  finish(commit);
  if (rv == 0) *seq = last_seq;
  else flume__log_failure(group->log, err);
  return rv;
}

/* --- Beginning and ending ---------------------------------------------------------------------------------------- */

void flume__group_init(struct flume_group *group, const struct flume_group_ops *ops, struct flume_log *log,
                       enum flume_sync sync, uint32_t interval_ms) {
  *group = (struct flume_group){.ops = ops, .log = log, .sync = sync, .interval_ms = interval_ms};
  if (interval_ms == 0) group->interval_ms = DEFAULT_INTERVAL_MS;
  flume_queue_init(&group->waiting);
  flume_queue_init(&group->spare);
  group->work.data = group;
  group->timer.data = group;
  log->group = group;
}

void flume__group_open(struct flume_group *group) {
  uv_timer_init(group->log->loop, &group->timer); /* can't fail */
}

void flume__group_end(struct flume_group *group) {
  uv_timer_stop(&group->timer);
  if (flume__log_check_writer(group->log, NULL) != 0 || flume__log_failure(group->log, NULL) != 0) return;
  flume__group_submit(group, FLUME_COMMIT_END, NULL); /* without memory the log is closed as by a crash */
}

void flume__group_close(struct flume_group *group, uv_close_cb closed) {
  assert(flume__group_is_idle(group));
  uv_close((uv_handle_t *)&group->timer, closed);
}

void flume__group_fini(struct flume_group *group) {
  struct flume_queue *node;
  while ((node = flume_queue_shift(&group->spare)) != NULL) group->ops->free(commit_of(node));
  group->spare_count = 0;
}
