/* What all kinds of logs have in common: the checks before a kind is called, the locks, the listeners, and the reading
 * functions. See log.h for the threads. */
#include "log/log.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/err.h"
#include "base/path.h"
#include "log/frame.h"
#include "log/group_commit.h"

#define DEFAULT_MAX_RECORD_BYTES (256u << 20)
#define LIMIT_MAX_RECORD_BYTES (1u << 30)
#define PENDING_MAX_BYTES ((uint64_t)64 << 20)
#define PENDING_REQUEST_BYTES 512u /* about what a request and its callback take besides its records */
#define LIMIT_SEGMENT_BYTES ((uint64_t)2 << 30)
#define LIMIT_MS 86400000u /* a day */

/* One frame holds a batch, and its length is a 32-bit number with room for the record headers. */
#define MAX_BATCH_BYTES ((uint64_t)2 << 30)
#define MAX_BATCH_COUNT (1u << 27)

static void run_finished(struct flume_deferred *deferred) {
  flume__log_run_finished(FLUME_CONTAINER_OF(deferred, struct flume_log, finish));
}

static void run_close(struct flume_deferred *deferred) {
  struct flume_log *log = FLUME_CONTAINER_OF(deferred, struct flume_log, close_later);
  log->ops->close(log);
}

/* --- Locks and listeners ------------------------------------------------------------------------------------- */

static bool is_held_by(const struct flume_log *log, uintptr_t thread) {
  return atomic_load_explicit(&log->lock_holder, memory_order_relaxed) == thread;
}

bool flume__log_is_locked(const struct flume_log *log) {
  return is_held_by(log, (uintptr_t)pthread_self());
}

void flume__log_lock(struct flume_log *log) {
  uintptr_t self = (uintptr_t)pthread_self();
  assert(!is_held_by(log, self));
  uv_mutex_lock(&log->lock);
  atomic_store_explicit(&log->lock_holder, self, memory_order_relaxed);
}

void flume__log_unlock(struct flume_log *log) {
  assert(flume__log_is_locked(log));
  atomic_store_explicit(&log->lock_holder, 0, memory_order_relaxed);
  uv_mutex_unlock(&log->lock);
}

void flume__log_listen(struct flume_log *log, struct flume_log_listener *listener) {
  assert(listener->moved != NULL);
  uv_mutex_lock(&log->listening);
  flume_queue_push(&log->listeners, &listener->queue);
  log->listeners_count++;
  uv_mutex_unlock(&log->listening);
}

void flume__log_unlisten(struct flume_log *log, struct flume_log_listener *listener) {
  uv_mutex_lock(&log->listening);
  flume_queue_remove(&listener->queue);
  assert(log->listeners_count > 0);
  log->listeners_count--;
  uv_mutex_unlock(&log->listening);
}

void flume__log_moved(struct flume_log *log) {
  assert(!flume__log_is_locked(log));
  if (log->listeners_count == 0) return;
  uv_mutex_lock(&log->listening);
  for (struct flume_queue *node = log->listeners.next; node != &log->listeners; node = node->next) {
    struct flume_log_listener *listener = FLUME_CONTAINER_OF(node, struct flume_log_listener, queue);
    listener->moved(listener);
  }
  uv_mutex_unlock(&log->listening);
}

void flume__log_fail(struct flume_log *log, int code, const struct flume_err *err) {
  assert(code != 0);
  flume__log_lock(log);
  if (log->failure.code == 0) {
    log->failure = *err;
    log->failure.code = code;
    log->failed = true;
  }
  flume__log_unlock(log);
}

int flume__log_failure(struct flume_log *log, struct flume_err *err) {
  if (!log->failed) return 0;
  flume__log_lock(log);
  int code = log->failure.code;
  if (code != 0 && err != NULL) *err = log->failure;
  flume__log_unlock(log);
  return code;
}

int flume__log_sync_begin(struct flume_log *log) {
  assert(!flume__log_is_locked(log));
  uv_mutex_lock(&log->sync_lock);
  if (log->sync_failed == 0) return 0;
  int rv = log->sync_failed;
  uv_mutex_unlock(&log->sync_lock);
  return rv;
}

int flume__log_sync_end(struct flume_log *log, int rv) {
  assert(rv <= 0);
  if (rv != 0) log->sync_failed = rv;
  uv_mutex_unlock(&log->sync_lock);
  return rv;
}

int flume__log_sync_file(struct flume_log *log, int file) {
  int rv = flume__log_sync_begin(log);
  return rv == 0 ? flume__log_sync_end(log, log->io->sync(log->io->ctx, file)) : rv;
}

/* --- Beginning and ending ------------------------------------------------------------------------------------ */

static int init_locks(struct flume_log *log) {
  int rv = uv_mutex_init(&log->lock);
  if (rv != 0) return rv;
  rv = uv_mutex_init(&log->sync_lock);
  if (rv != 0) goto err_after_lock;
  rv = uv_mutex_init(&log->listening);
  if (rv != 0) goto err_after_sync_lock;
  atomic_init(&log->lock_holder, 0);
  atomic_init(&log->listeners_count, 0);
  atomic_init(&log->failed, false);
  log->sync_failed = 0;
  return 0;

err_after_sync_lock:
  uv_mutex_destroy(&log->sync_lock);
err_after_lock:
  uv_mutex_destroy(&log->lock);
  assert(rv != 0);
  return rv;
}

int flume__log_init(struct flume_log *log, const struct flume_log_ops *ops, const struct flume_io *io, uv_loop_t *loop,
                    uint32_t max_record_bytes) {
  int rv = init_locks(log);
  if (rv != 0) return rv;
  log->ops = ops;
  log->io = io;
  log->loop = loop;
  log->state = FLUME_LOG_OPEN;
  log->max_record_bytes = max_record_bytes > 0 ? max_record_bytes : DEFAULT_MAX_RECORD_BYTES;
  flume_queue_init(&log->listeners);
  flume_queue_init(&log->finished);
  flume_deferred_init(&log->finish, run_finished);
  flume_deferred_init(&log->close_later, run_close);
  flume_defer_open(&log->defer, loop);
  flume_obv_init(&log->since, &log->defer, -1);
  atomic_init(&log->durable_seq, -1);
  flume_obv_init(&log->deletions, &log->defer, 0);
  return 0;
}

static void on_defer_closed(struct flume_defer *defer) {
  struct flume_log *log = FLUME_CONTAINER_OF(defer, struct flume_log, defer);
  flume_log_close_cb cb = log->close_cb;
  void *data = log->close_data;
  assert(flume_queue_empty(&log->listeners) && log->listeners_count == 0);
  uv_mutex_destroy(&log->listening);
  uv_mutex_destroy(&log->sync_lock);
  uv_mutex_destroy(&log->lock);
  log->ops->free(log);
  if (cb != NULL) cb(data);
}

void flume__log_abandon(struct flume_log *log) {
  flume_defer_close(&log->defer, on_defer_closed);
}

void flume__append_finish(struct flume_log *log, struct flume_append *req, int status, int64_t seq) {
  assert(status <= 0 && !flume__log_is_locked(log));
  req->status = status;
  req->seq = seq;
  flume_queue_push(&log->finished, &req->queue);
  flume_defer(&log->defer, &log->finish);
}

void flume__log_run_finished(struct flume_log *log) {
  struct flume_queue round;
  flume_queue_init(&round);
  flume_queue_move(&round, &log->finished);
  struct flume_queue *node;
  struct flume_err failure;
  while ((node = flume_queue_shift(&round)) != NULL) {
    struct flume_append *req = FLUME_CONTAINER_OF(node, struct flume_append, queue);
    assert(log->pending_bytes >= req->pending_bytes);
    log->pending_bytes -= req->pending_bytes;
    if (req->status == 0) {
      req->cb(req, 0, req->seq, NULL);
      continue;
    }
    struct flume_err err = {.code = req->status};
    if (flume__log_failure(log, &failure) == req->status) err = failure;
    else flume_err_set(&err, req->status, "%s", flume_strerror(req->status));
    req->cb(req, req->status, -1, &err);
  }
}

static int check_writable(struct flume_log *log, struct flume_err *err) {
  if (log->state != FLUME_LOG_OPEN) return flume_err_set(err, FLUME_ECLOSED, "the log is closed");
  return flume__log_failure(log, err);
}

int flume__log_check_writer(const struct flume_log *log, struct flume_err *err) {
  if (log->readonly) return flume_err_set(err, FLUME_EREADONLY, "%s is open read-only", log->name);
  return flume__lock_file_check(&log->lock_file, log->name, err);
}

static int check_limit(const char *name, uint64_t value, uint64_t limit, struct flume_err *err) {
  if (value <= limit) return 0;
  return flume_err_set(err, FLUME_EINVAL, "%s must be between 1 and %llu, not %llu", name, (unsigned long long)limit,
                       (unsigned long long)value);
}

static int check_limits(const struct flume_log_options *options, struct flume_err *err) {
  int rv = check_limit("max_record_bytes", options->max_record_bytes, LIMIT_MAX_RECORD_BYTES, err);
  if (rv == 0) rv = check_limit("segment_bytes", options->segment_bytes, LIMIT_SEGMENT_BYTES, err);
  if (rv == 0) rv = check_limit("interval_ms", options->interval_ms, LIMIT_MS, err);
  return rv == 0 ? check_limit("poll_ms", options->poll_ms, LIMIT_MS, err) : rv;
}

int flume__log_place(const struct flume_io *io, const char *path, char *out, struct flume_err *err) {
  if (path[0] == '\0') return flume_err_set(err, FLUME_EINVAL, "an empty path");
  int rv = io == &flume_io_posix ? flume_path_absolute(out, FLUME_PATH_MAX, path)
                                 : flume_path_append(out, FLUME_PATH_MAX, path, "");
  return rv == 0 ? 0 : flume_err_set(err, rv, "opening %s: %s", path, flume_strerror(rv));
}

int flume__log_check_options(const struct flume_log_options *options, struct flume_err *err) {
  if (options->sync > FLUME_SYNC_OS) return flume_err_set(err, FLUME_EINVAL, "unknown sync mode %d", options->sync);
  if (options->damaged && !options->readonly) {
    return flume_err_set(err, FLUME_EINVAL, "a damaged log can only be opened read-only");
  }
  if (options->poll_ms > 0 && !options->readonly) {
    return flume_err_set(err, FLUME_EINVAL, "only a log that is opened read-only looks for what others write");
  }
  return check_limits(options, err);
}

/* Bounds the memory of what is pending. A request alone may be larger. */
static int check_pending(const struct flume_log *log, uint64_t bytes, struct flume_err *err) {
  if (log->pending_bytes == 0 || log->pending_bytes + bytes + PENDING_REQUEST_BYTES <= PENDING_MAX_BYTES) return 0;
  return flume_err_set(err, FLUME_EAGAIN, "%llu bytes of appends and deletes are pending, of at most %llu",
                       (unsigned long long)log->pending_bytes, (unsigned long long)PENDING_MAX_BYTES);
}

/* The request was taken: its callback will fire. */
static void note_pending(struct flume_log *log, struct flume_append *req, uint64_t bytes) {
  req->pending_bytes = bytes + PENDING_REQUEST_BYTES;
  log->pending_bytes += req->pending_bytes;
}

static uint64_t bytes_of(const struct flume_slice *records, size_t count) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < count; i++) bytes += records[i].len + FLUME_RECORD_HEADER_BYTES;
  return bytes;
}

static int check_batch(const struct flume_log *log, const struct flume_slice *records, size_t count,
                       struct flume_err *err) {
  if (count == 0) return flume_err_set(err, FLUME_EINVAL, "an empty batch");
  uint64_t bytes = 0;
  for (size_t i = 0; i < count; i++) {
    if (records[i].len > log->max_record_bytes) {
      return flume_err_set(err, FLUME_E2BIG, "record %zu of the batch has %zu bytes; the limit is %u", i + 1,
                           records[i].len, log->max_record_bytes);
    }
    bytes += records[i].len + FLUME_RECORD_HEADER_BYTES;
  }
  if (bytes > MAX_BATCH_BYTES || count > MAX_BATCH_COUNT) {
    return flume_err_set(err, FLUME_E2BIG, "the batch has %zu records and %llu bytes; the limit is %u and %llu", count,
                         (unsigned long long)bytes, MAX_BATCH_COUNT, (unsigned long long)MAX_BATCH_BYTES);
  }
  return 0;
}

int flume_log_append(struct flume_log *log, struct flume_append *req, const struct flume_slice *records, size_t count,
                     flume_append_cb cb, struct flume_err *err) {
  int rv = check_writable(log, err);
  if (rv == 0) rv = check_batch(log, records, count, err);
  if (rv != 0) return rv;
  uint64_t bytes = bytes_of(records, count);
  rv = check_pending(log, bytes, err);
  if (rv != 0) return rv;
  req->cb = cb;
  rv = log->ops->append(log, req, records, count, err);
  if (rv == 0) note_pending(log, req, bytes);
  return rv;
}

int flume_log_append_wait(struct flume_log *log, const struct flume_slice *records, size_t count, int64_t *seq,
                          struct flume_err *err) {
  int rv = check_writable(log, err);
  if (rv == 0) rv = check_batch(log, records, count, err);
  if (rv != 0) return rv;
  if (log->group != NULL) return flume__group_append_wait(log->group, records, count, seq, err);
  struct flume_append req = {.cb = NULL};
  rv = log->ops->append(log, &req, records, count, err);
  if (rv != 0) return rv;
  flume_queue_remove(&req.queue); /* it was finished at once, and needs no callback */
  assert(req.status == 0);
  *seq = req.seq;
  return 0;
}

int flume_log_sync(struct flume_log *log, struct flume_append *req, flume_append_cb cb, struct flume_err *err) {
  int rv = check_writable(log, err);
  if (rv != 0) return rv;
  req->cb = cb;
  rv = log->ops->sync(log, req, err);
  if (rv == 0) note_pending(log, req, 0);
  return rv;
}

static int no_record(const struct flume_log *log, int64_t seq, struct flume_err *err) {
  if (log->since.value < 0) return flume_err_set(err, FLUME_ENOENT, "no record %lld: the log is empty", (long long)seq);
  return flume_err_set(err, FLUME_ENOENT, "no record %lld: the log ends at %lld", (long long)seq,
                       (long long)log->since.value);
}

int flume_log_del(struct flume_log *log, struct flume_append *req, const int64_t *seqs, size_t count,
                  flume_append_cb cb, struct flume_err *err) {
  int rv = check_writable(log, err);
  if (rv != 0) return rv;
  if (count > MAX_BATCH_COUNT) return flume_err_set(err, FLUME_E2BIG, "%zu records to delete at once", count);
  for (size_t i = 0; i < count; i++) {
    if (seqs[i] < 0 || seqs[i] > log->since.value) {
      return no_record(log, seqs[i], err);
    }
  }
  rv = check_pending(log, count * sizeof *seqs, err);
  if (rv != 0) return rv;
  req->cb = cb;
  rv = log->ops->del(log, req, seqs, count, err);
  if (rv == 0) note_pending(log, req, count * sizeof *seqs);
  return rv;
}

int flume_log_compact(struct flume_log *log, struct flume_compact *req, flume_compact_cb cb, struct flume_err *err) {
  int rv = check_writable(log, err);
  if (rv != 0) return rv;
  if (log->ops->compact == NULL) {
    return flume_err_set(err, FLUME_ENOTSUP, "a %s log can't be compacted", log->ops->kind);
  }
  req->cb = cb;
  req->segments = 0;
  req->records = req->bytes_before = req->bytes_after = 0;
  return log->ops->compact(log, req, err);
}

/* --- Reading, from any thread -------------------------------------------------------------------------------- */

int flume__log_plan(struct flume_log *log, int64_t seq, bool reverse, size_t max_bytes, struct flume_block **block,
                    struct flume_err *err) {
  assert(seq >= 0);
  flume__log_lock(log);
  int rv = log->ops->plan(log, seq, reverse, max_bytes, block, err);
  if (rv == 0) (*block)->deletions = log->deletions.value;
  flume__log_unlock(log);
  return rv;
}

int64_t flume__log_deleted_count(struct flume_log *log, int64_t seq) {
  flume__log_lock(log);
  int64_t count = log->ops->deleted_count(log, seq);
  flume__log_unlock(log);
  return count;
}

int64_t flume__log_deletion_at(struct flume_log *log, int64_t ordinal) {
  flume__log_lock(log);
  assert(ordinal >= 0 && ordinal < log->deletions.value);
  int64_t seq = log->ops->deletion_at(log, ordinal);
  flume__log_unlock(log);
  return seq;
}

bool flume__log_is_lost(struct flume_log *log, int64_t seq) {
  if (log->ops->is_lost == NULL) return false;
  flume__log_lock(log);
  bool lost = log->ops->is_lost(log, seq);
  flume__log_unlock(log);
  return lost;
}

static int plan_deleted(struct flume_log *log, int64_t seq, struct flume_block **block, struct flume_err *err) {
  assert(flume__log_is_locked(log));
  if (seq < 0 || log->ops->deleted_count(log, seq) == log->ops->deleted_count(log, seq - 1)) {
    return flume_err_set(err, FLUME_ENOENT, "record %lld is not deleted", (long long)seq);
  }
  return log->ops->plan_one(log, seq, block, err);
}

int flume__log_read_deleted(struct flume_log *log, int64_t seq, struct flume_block **block, struct flume_err *err) {
  struct flume_block *planned = NULL;
  flume__log_lock(log);
  int rv = plan_deleted(log, seq, &planned, err);
  flume__log_unlock(log);
  if (rv != 0) return rv;
  assert(planned != NULL);
  rv = flume_block_load(planned, err);
  if (rv == 0 && planned->offsets[0] == FLUME_BLOCK_GONE) {
    rv = flume_err_set(err, FLUME_ENOENT, "the bytes of record %lld were %s", (long long)seq, log->ops->erased);
  }
  if (rv != 0) {
    flume_block_unref(planned);
    return rv;
  }
  *block = planned;
  return 0;
}

int flume__log_digest(struct flume_log *log, int64_t seq, uint32_t *digest, struct flume_err *err) {
  assert(seq >= 0 && seq <= log->since.value);
  struct flume_block *block;
  flume__log_lock(log);
  int rv = log->ops->plan_one(log, seq, &block, err);
  flume__log_unlock(log);
  if (rv != 0) return rv;
  rv = flume_block_load(block, err);
  if (rv == 0) {
    uint32_t len = 0;
    const uint8_t *data = flume_block_get(block, 0, &len);
    if (data == NULL) rv = flume_err_set(err, FLUME_EDELETED, "deleted");
    else *digest = flume_crc32c(flume_record_seed(seq, len), data, len);
  }
  flume_block_unref(block);
  return rv;
}

int flume__log_sync_now(struct flume_log *log, int64_t seq, struct flume_err *err) {
  if (seq > log->since.value) {
    return flume_err_set(err, FLUME_EINVAL, "record %lld can't be synced: the log ends at %lld", (long long)seq,
                         (long long)log->since.value);
  }
  if (seq <= log->durable_seq) return 0;
  assert(log->ops->sync_now != NULL);
  struct flume_err why;
  int rv = flume__log_failure(log, err);
  if (rv != 0) return rv;
  rv = log->ops->sync_now(log, &why);
  if (rv != 0) {
    flume__log_fail(log, rv, &why);
    if (err != NULL) *err = why;
  }
  assert(rv != 0 || seq <= log->durable_seq);
  flume__log_moved(log);
  return rv;
}

int flume_log_read(struct flume_log *log, int64_t seq, bool reverse, size_t max_bytes, struct flume_block **block,
                   struct flume_err *err) {
  struct flume_block *planned;
  int rv = flume__log_plan(log, seq, reverse, max_bytes, &planned, err);
  if (rv != 0) return rv;
  rv = flume_block_load(planned, err);
  if (rv != 0) {
    flume_block_unref(planned);
    return rv;
  }
  *block = planned;
  return 0;
}

int flume_log_get(struct flume_log *log, int64_t seq, struct flume_record *record, struct flume_err *err) {
  if (seq < 0 || seq > log->since.value) {
    return no_record(log, seq, err);
  }
  struct flume_block *block;
  int rv = flume_log_read(log, seq, false, 1, &block, err);
  if (rv != 0) return rv;
  if (block->first_seq > seq) {
    flume_block_unref(block);
    return flume_err_set(err, FLUME_ENOENT, "no record begins at byte %lld", (long long)seq);
  }
  uint32_t len = 0;
  const uint8_t *data = flume_block_get(block, flume_block_find(block, seq), &len);
  if (data == NULL) {
    flume_block_unref(block);
    bool lost = flume__log_is_lost(log, seq);
    return flume_err_set(err, FLUME_EDELETED, "%s",
                         lost ? "lost: it was damaged, and a repair took it out" : "deleted");
  }
  *record = (struct flume_record){.seq = seq, .data = data, .len = len, .block = block};
  return 0;
}

void flume_record_release(struct flume_record *record) {
  flume_block_unref(record->block);
  record->block = NULL;
}

void flume_log_observe(struct flume_log *log, struct flume_observer *observer) {
  flume_obv_observe(&log->since, observer);
}

int64_t flume_log_since(const struct flume_log *log) {
  return log->since.value;
}

enum flume_following flume_log_following(const struct flume_log *base, struct flume_err *why) {
  struct flume_log *log = (struct flume_log *)base; /* for its lock alone */
  flume__log_lock(log);
  enum flume_following following = log->following;
  if (why != NULL && following >= FLUME_FOLLOWING_POLL) *why = log->following_why;
  flume__log_unlock(log);
  return following;
}

const char *flume_log_dir(const struct flume_log *log) {
  return log->dir;
}

const uint8_t *flume_log_id(const struct flume_log *log) {
  return log->id;
}

void flume_log_close(struct flume_log *log, flume_log_close_cb cb, void *data) {
  assert(log->state == FLUME_LOG_OPEN);
  log->state = FLUME_LOG_CLOSING;
  log->close_cb = cb;
  log->close_data = data;
  flume_defer(&log->defer, &log->close_later);
}

void flume__log_closed(struct flume_log *log) {
  assert(log->state == FLUME_LOG_CLOSING);
  flume__log_run_finished(log);
  flume_obv_fini(&log->since);
  flume_obv_fini(&log->deletions);
  flume_defer_close(&log->defer, on_defer_closed);
}
