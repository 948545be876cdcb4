#include "log/log.h"

#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "log/report.h"

#define DEFAULT_MAX_RECORD_BYTES (256u << 20)
#define LIMIT_MAX_RECORD_BYTES (1u << 30)

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

void flume__log_init(struct flume_log *log, const struct flume_log_ops *ops, const struct flume_io *io, uv_loop_t *loop,
                     uint32_t max_record_bytes) {
  log->ops = ops;
  log->io = io;
  log->loop = loop;
  log->state = FLUME_LOG_OPEN;
  log->max_record_bytes = max_record_bytes > 0 ? max_record_bytes : DEFAULT_MAX_RECORD_BYTES;
  if (log->max_record_bytes > LIMIT_MAX_RECORD_BYTES) log->max_record_bytes = LIMIT_MAX_RECORD_BYTES;
  flume_queue_init(&log->finished);
  flume_deferred_init(&log->finish, run_finished);
  flume_deferred_init(&log->close_later, run_close);
  flume_defer_open(&log->defer, loop);
  flume_obv_init(&log->since, &log->defer, -1);
  log->durable_seq = -1;
  flume_obv_init(&log->deletions, &log->defer, 0);
}

static void on_defer_closed(struct flume_defer *defer) {
  struct flume_log *log = FLUME_CONTAINER_OF(defer, struct flume_log, defer);
  flume_log_close_cb cb = log->close_cb;
  void *data = log->close_data;
  log->ops->free(log);
  if (cb != NULL) cb(data);
}

void flume__log_abandon(struct flume_log *log) {
  flume_defer_close(&log->defer, on_defer_closed);
}

void flume__append_finish(struct flume_log *log, struct flume_append *req, int status, int64_t seq) {
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
  while ((node = flume_queue_shift(&round)) != NULL) {
    struct flume_append *req = FLUME_CONTAINER_OF(node, struct flume_append, queue);
    if (req->status == 0) {
      req->cb(req, 0, req->seq, NULL);
      continue;
    }
    struct flume_err err = {.code = req->status};
    if (log->failure.code == req->status) err = log->failure;
    else flume_err_set(&err, req->status, "%s", flume_strerror(req->status));
    req->cb(req, req->status, -1, &err);
  }
}

static int check_writable(const struct flume_log *log, struct flume_err *err) {
  if (log->state != FLUME_LOG_OPEN) return flume_err_set(err, FLUME_ECLOSED, "the log is closed");
  if (log->failure.code != 0) {
    if (err != NULL) *err = log->failure;
    return log->failure.code;
  }
  return 0;
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
  req->cb = cb;
  return log->ops->append(log, req, records, count, err);
}

int flume_log_append_wait(struct flume_log *log, const struct flume_slice *records, size_t count, int64_t *seq,
                          struct flume_err *err) {
  int rv = check_writable(log, err);
  if (rv == 0) rv = check_batch(log, records, count, err);
  if (rv != 0) return rv;
  return log->ops->append_wait(log, records, count, seq, err);
}

int flume_log_sync(struct flume_log *log, struct flume_append *req, flume_append_cb cb, struct flume_err *err) {
  int rv = check_writable(log, err);
  if (rv != 0) return rv;
  req->cb = cb;
  return log->ops->sync(log, req, err);
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
  req->cb = cb;
  return log->ops->del(log, req, seqs, count, err);
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

int flume_log_backup(struct flume_log *log, const char *dir, const char *views_dir, struct flume_backup *req,
                     flume_backup_cb cb, struct flume_err *err) {
  if (log->state != FLUME_LOG_OPEN) return flume_err_set(err, FLUME_ECLOSED, "the log is closed");
  if (log->ops->backup == NULL) {
    return flume_err_set(err, FLUME_ENOTSUP, "a %s log can't be backed up", log->ops->kind);
  }
  req->cb = cb;
  req->since = -1;
  req->bytes = req->files = 0;
  return log->ops->backup(log, dir, views_dir, req, err);
}

int flume_log_check(struct flume_log *log, const char *views_dir, struct flume_check *req, flume_check_cb cb,
                    struct flume_err *err) {
  if (log->state != FLUME_LOG_OPEN) return flume_err_set(err, FLUME_ECLOSED, "the log is closed");
  if (log->ops->check == NULL) return flume_err_set(err, FLUME_ENOTSUP, "a %s log can't be checked", log->ops->kind);
  req->cb = cb;
  flume_report_init(&req->report, log->io);
  return log->ops->check(log, views_dir, req, err);
}

int flume_log_read(struct flume_log *log, int64_t seq, bool reverse, size_t max_bytes, struct flume_block **block,
                   struct flume_err *err) {
  struct flume_block *planned;
  int rv = log->ops->plan(log, seq, reverse, max_bytes, &planned, err);
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
    bool lost = log->ops->is_lost != NULL && log->ops->is_lost(log, seq);
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

enum flume_following flume_log_following(const struct flume_log *log, struct flume_err *why) {
  if (why != NULL && log->following >= FLUME_FOLLOWING_POLL) *why = log->following_why;
  return log->following;
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
  flume__log_run_finished(log);
  flume_obv_fini(&log->since);
  flume_obv_fini(&log->deletions);
  flume_defer_close(&log->defer, on_defer_closed);
}
