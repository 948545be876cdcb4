/* Group commit of an offset log.
 *
 * Happy path: append frames the records into the waiting commit, and numbers them. When no commit is on its way, the
 * waiting one is handed to a thread of libuv's pool, which writes it behind the file's end and syncs; back on the loop,
 * since grows, the callbacks fire, and the next waiting commit goes. The format has no frames of batches: a crash may
 * leave the first records of a batch that was not acknowledged.
 *
 * Deleting: the seqs are noted in the file "deleted" of PATH.flume, and synced; then the records are overwritten with
 * zeros. Opening the log finishes what a crash interrupted.
 *
 * When a write or a sync fails, nothing is tried again (see log_file_append.c): the commit and all that wait behind it
 * are answered with the error, and the handle takes no more appends. So it is when the file has another length than it
 * should: another program writes to it. */
#include <assert.h>
#include <stdlib.h>

#include "base/err.h"
#include "log/offset/offset_follow.h"

#define JOIN_BYTES (4u << 20)   /* a waiting commit of this size takes no more appends */
#define AHEAD_BYTES (16u << 20) /* by which the note's limit is raised */
#define KEEP_BYTES (8u << 20)   /* a larger buffer is not kept */

static void start_next(struct log_offset *log);

static struct flume_offset_commit *commit_new(struct log_offset *log, enum flume_offset_commit_kind kind) {
  struct flume_offset_commit *commit = flume_io_zalloc(log->log.io, sizeof *commit);
  if (commit == NULL) return NULL;
  commit->log = log;
  commit->kind = kind;
  commit->first_off = log->next_off;
  flume_queue_init(&commit->queue);
  flume_queue_init(&commit->reqs);
  flume_buf_init(&commit->bytes, log->log.io);
  flume_buf_init(&commit->zeros, log->log.io);
  return commit;
}

static void commit_free(struct flume_offset_commit *commit) {
  flume_buf_fini(&commit->bytes);
  flume_buf_fini(&commit->zeros);
  flume_io_free(commit->log->log.io, commit);
}

int flume__offset_check_writer(const struct log_offset *log, struct flume_err *err) {
  if (log->readonly) return flume_err_set(err, FLUME_EREADONLY, "%s is open read-only", log->file->path);
  if (log->pid == uv_os_getpid()) return 0;
  return flume_err_set(err, FLUME_ELOCKED, "%s was opened for writing by process %d, and this is another",
                       log->file->path, (int)log->pid);
}

/* --- Taking records ------------------------------------------------------------------------------------------ */

/* Notes that a record is all zeros: such a one counts as deleted unless it stands in the file "zeros". */
static int take_zero(struct flume_offset_commit *commit, uint64_t off) {
  int rv = flume_deletions_reserve(&commit->zeros, (size_t)commit->zeros_count + 1);
  if (rv != 0) return rv;
  commit->zeros.len = 0;
  flume_put_le64(flume_deletions_seq(&commit->zeros, commit->zeros_count), off);
  commit->zeros.len = (size_t)(flume_deletions_seq(&commit->zeros, commit->zeros_count + 1) - commit->zeros.data);
  commit->zeros_count++;
  return 0;
}

static int commit_take(struct flume_offset_commit *commit, const struct flume_slice *records, size_t count) {
  enum flume_offset_bits bits = commit->log->file->bits;
  uint32_t zeros_before = commit->zeros_count;
  size_t bytes = 0;
  for (size_t i = 0; i < count; i++) bytes += records[i].len + flume_offset_framing_bytes(bits);
  int rv = flume_buf_reserve(&commit->bytes, bytes);
  uint64_t off = commit->log->next_off;
  uint8_t *out = commit->bytes.data + commit->bytes.len;
  for (size_t i = 0; i < count && rv == 0; i++) {
    uint8_t *frame = out;
    commit->last_seq = (int64_t)off;
    if (flume_offset_is_zero(records[i].data, records[i].len)) rv = take_zero(commit, off);
    out = flume_offset_put(out, records[i], off, bits);
    if (flume_offset_has_hole(frame, (size_t)(out - frame), off)) commit->has_hole = true;
    off += (uint64_t)(out - frame);
  }
  if (rv != 0) {
    commit->zeros_count = zeros_before;
    return rv;
  }
  commit->bytes.len += bytes;
  commit->count += (uint32_t)count;
  commit->log->next_off = off;
  return 0;
}

/* What the format can hold. */
static int check_room(const struct log_offset *log, const struct flume_slice *records, size_t count,
                      struct flume_err *err) {
  enum flume_offset_bits bits = log->file->bits;
  uint64_t end_off = log->next_off;
  for (size_t i = 0; i < count; i++) end_off += records[i].len + flume_offset_framing_bytes(bits);
  if (end_off <= flume_offset_max(bits)) return 0;
  return flume_err_set(err, FLUME_E2BIG, "%s: byte %llu: its pointers of %d bits reach no further", log->file->path,
                       (unsigned long long)log->next_off, bits);
}

/* The commit at the end of the queue, when more records may go into it. */
static struct flume_offset_commit *joinable(struct log_offset *log) {
  if (flume_queue_empty(&log->commits)) return NULL;
  struct flume_offset_commit *last = FLUME_CONTAINER_OF(log->commits.prev, struct flume_offset_commit, queue);
  return last->kind == FLUME_OFFSET_COMMIT_DATA && last->bytes.len < JOIN_BYTES ? last : NULL;
}

static int64_t last_seq(const struct log_offset *log, const struct flume_slice *last) {
  return (int64_t)(log->next_off - last->len - flume_offset_framing_bytes(log->file->bits));
}

int flume__offset_append(struct flume_log *base, struct flume_append *req, const struct flume_slice *records,
                         size_t count, struct flume_err *err) {
  struct log_offset *log = (struct log_offset *)base;
  int rv = flume__offset_check_writer(log, err);
  if (rv == 0) rv = check_room(log, records, count, err);
  if (rv != 0) return rv;
  struct flume_offset_commit *commit = joinable(log);
  bool joins = commit != NULL;
  if (!joins) commit = commit_new(log, FLUME_OFFSET_COMMIT_DATA);
  if (commit == NULL) return flume_err_nomem(err);
  if (commit_take(commit, records, count) != 0) {
    if (!joins) commit_free(commit);
    return flume_err_nomem(err);
  }
  req->seq = last_seq(log, &records[count - 1]);
  flume_queue_push(&commit->reqs, &req->queue);
  if (!joins) flume_queue_push(&log->commits, &commit->queue);
  start_next(log);
  return 0;
}

/* --- On a worker thread -------------------------------------------------------------------------------------- */

static int fail(struct flume_offset_commit *commit, const char *doing, int rv) {
  return flume_err_set(&commit->err, rv, "%s %s: %s", doing, commit->log->file->path, flume_strerror(rv));
}

/* A program that knows nothing of the lock may have written. */
static int check_end(struct flume_offset_commit *commit) {
  struct log_offset *log = commit->log;
  int64_t size = log->log.io->size(log->log.io->ctx, log->file->file);
  if (size < 0) return fail(commit, "measuring", (int)size);
  if ((uint64_t)size == log->end_off) return 0;
  return flume_err_set(&commit->err, FLUME_ECORRUPT,
                       "%s: byte %llu: the file should end here, and has %lld bytes: another program writes to it",
                       log->file->path, (unsigned long long)log->end_off, (long long)size);
}

/* The note allows for what is going to be written. */
static int raise_limit(struct flume_offset_commit *commit) {
  struct log_offset *log = commit->log;
  uint64_t end_off = log->end_off + commit->bytes.len;
  if (log->note.open && end_off <= log->note.limit_off) return 0;
  log->note.open = true;
  log->note.limit_off = end_off + AHEAD_BYTES;
  return flume__offset_note_sync(log, &commit->err);
}

static int write_data(struct flume_offset_commit *commit) {
  struct log_offset *log = commit->log;
  int rv = check_end(commit);
  if (rv == 0) rv = raise_limit(commit);
  if (rv == 0) rv = flume__offset_set_write(log, &log->zeros, &commit->zeros, commit->zeros_count, &commit->err);
  if (rv != 0) return rv;
  rv = flume_io_write_full(log->log.io, log->file->file, commit->bytes.data, commit->bytes.len, log->end_off);
  if (rv != 0) return fail(commit, "writing", rv);
  log->end_off += commit->bytes.len;
  return 0;
}

static int sync_file(struct flume_offset_commit *commit) {
  struct log_offset *log = commit->log;
  int rv = flume__log_sync_file(&log->log, log->file->file);
  if (rv != 0) return fail(commit, "syncing", rv);
  log->note.durable_off = log->end_off;
  return log->note.open ? flume__offset_note_write(log, &commit->err) : 0;
}

/* Tells those who follow the log what is acknowledged now. */
static int tell(struct flume_offset_commit *commit) {
  struct log_offset *log = commit->log;
  if (commit->kind != FLUME_OFFSET_COMMIT_DELETE) log->told.since = commit->last_seq;
  return flume__offset_tell(log, &commit->err);
}

/* The timer sees to the ceiling while the loop runs; the clock does for a caller who appends and never lets it. */
static bool sync_is_due(const struct log_offset *log) {
  if (log->sync == FLUME_SYNC_ALWAYS) return true;
  if (log->sync != FLUME_SYNC_INTERVAL || log->unsynced_since_ns == 0) return false;
  uint64_t now_ns = log->log.io->hrtime_ns(log->log.io->ctx);
  return now_ns - log->unsynced_since_ns >= (uint64_t)log->interval_ms * 1000000;
}

int flume__offset_zero_in(const struct flume_io *io, int file, uint64_t off) {
  static const uint8_t zeros[4096];
  uint8_t bytes[FLUME_OFFSET_LENGTH_BYTES];
  int rv = flume_io_read_full(io, file, bytes, sizeof bytes, off);
  if (rv != 0) return rv;
  uint64_t at = off + FLUME_OFFSET_LENGTH_BYTES, end_off = at + flume_get_be32(bytes);
  for (; at < end_off && rv == 0; at += sizeof zeros) {
    rv = flume_io_write_full(io, file, zeros, end_off - at < sizeof zeros ? end_off - at : sizeof zeros, at);
  }
  return rv;
}

int flume__offset_zero(struct log_offset *log, uint64_t off) {
  struct flume_offset_file *file = log->file;
  uv_rwlock_wrlock(&file->zeroing);
  int rv = flume__offset_zero_in(log->log.io, file->file, off);
  uv_rwlock_wrunlock(&file->zeroing);
  return rv;
}

static int zero_records(struct flume_offset_commit *commit) {
  int rv = 0;
  for (uint32_t i = 0; i < commit->count && rv == 0; i++) {
    rv = flume__offset_zero(commit->log, flume_get_le64(flume_deletions_seq(&commit->bytes, i)));
  }
  return rv == 0 ? 0 : fail(commit, "overwriting a record of", rv);
}

/* Never on disk before its records: it would hit the next ones with their seqs. */
static int write_deletes(struct flume_offset_commit *commit) {
  struct log_offset *log = commit->log;
  if (commit->count == 0) return 0;
  int rv = log->sync != FLUME_SYNC_ALWAYS ? sync_file(commit) : 0;
  if (rv == 0) rv = flume__offset_set_write(log, &log->deleted, &commit->bytes, commit->count, &commit->err);
  commit->noted = rv == 0;
  if (rv == 0 && log->note.open) rv = flume__offset_note_sync(log, &commit->err);
  if (rv == 0) rv = zero_records(commit);
  if (rv == 0) rv = sync_file(commit);
  return rv == 0 ? tell(commit) : rv;
}

/* Nothing is under way any more, and all of it is on disk. */
static int close_note(struct flume_offset_commit *commit) {
  struct log_offset *log = commit->log;
  if (!log->note.open) return 0;
  int rv = flume__log_sync_file(&log->log, log->file->file);
  if (rv != 0) return fail(commit, "syncing", rv);
  log->note = (struct flume_offset_note){.durable_off = log->end_off, .limit_off = log->end_off};
  return flume__offset_note_sync(log, &commit->err);
}

static int write_end(struct flume_offset_commit *commit) {
  struct log_offset *log = commit->log;
  int rv = flume__offset_set_end(log, &log->zeros, &commit->err);
  if (rv == 0) rv = flume__offset_set_end(log, &log->deleted, &commit->err);
  if (rv == 0) rv = close_note(commit);
  return rv == 0 ? tell(commit) : rv;
}

static int commit_data(struct flume_offset_commit *commit) {
  struct log_offset *log = commit->log;
  int rv = write_data(commit);
  if (rv != 0 || !(sync_is_due(log) || commit->has_hole)) return rv;
  rv = sync_file(commit);
  commit->synced = rv == 0;
  if (rv == 0 && commit->has_hole) rv = flume__offset_note_sync(log, &commit->err);
  return rv == 0 && log->sync == FLUME_SYNC_ALWAYS ? tell(commit) : rv;
}

static int commit_run(struct flume_offset_commit *commit) {
  switch (commit->kind) {
    case FLUME_OFFSET_COMMIT_DATA: return commit_data(commit);
    case FLUME_OFFSET_COMMIT_SYNC: return sync_file(commit);
    case FLUME_OFFSET_COMMIT_DELETE: return write_deletes(commit);
    case FLUME_OFFSET_COMMIT_END: break;
  }
  return write_end(commit);
}

/* --- Back on the loop thread --------------------------------------------------------------------------------- */

static void on_interval(uv_timer_t *timer) {
  struct log_offset *log = timer->data;
  struct flume_err err;
  if (log->committing == NULL && log->log.durable_seq == log->log.since.value) { /* another thread has synced */
    log->unsynced_since_ns = 0;
    return;
  }
  int rv = flume__offset_submit(log, FLUME_OFFSET_COMMIT_SYNC, NULL);
  if (rv == 0) return;
  flume_err_set(&err, rv, "syncing %s: %s", log->file->path, flume_strerror(rv));
  flume__log_fail(&log->log, rv, &err);
}

static void note_synced(struct log_offset *log) {
  assert(flume__log_is_locked(&log->log));
  log->unsynced_since_ns = 0;
  log->log.durable_seq = log->log.since.value;
  uv_timer_stop(&log->timer);
}

/* The records are in the file: they are seen by readers. */
static void publish(struct log_offset *log, struct flume_offset_commit *commit) {
  assert(flume__log_is_locked(&log->log) && commit->first_off == log->data_end_off);
  uint32_t framing = flume_offset_framing_bytes(log->file->bits);
  uint64_t off = commit->first_off, last_off = off;
  flume__offset_set_publish(&log->zeros, &commit->zeros, commit->zeros_count);
  for (const uint8_t *p = commit->bytes.data; off < log->end_off;) {
    uint32_t len = flume_get_be32(p) + framing;
    flume_offset_index_add(&log->index, off); /* room was made for it */
    last_off = off;
    off += len;
    p += len;
  }
  log->data_end_off = log->end_off;
  flume_obv_set(&log->log.since, (int64_t)last_off);
  if (commit->synced) {
    note_synced(log);
  } else if (log->sync == FLUME_SYNC_INTERVAL && log->unsynced_since_ns == 0) { /* later appends don't start it anew */
    log->unsynced_since_ns = log->log.io->hrtime_ns(log->log.io->ctx);
    if (log->log.state == FLUME_LOG_OPEN) uv_timer_start(&log->timer, on_interval, log->interval_ms, 0);
  }
}

static void finish_reqs(struct log_offset *log, struct flume_offset_commit *commit) {
  struct flume_queue *node;
  while ((node = flume_queue_shift(&commit->reqs)) != NULL) {
    struct flume_append *req = FLUME_CONTAINER_OF(node, struct flume_append, queue);
    flume__append_finish(&log->log, req, commit->status, req->seq);
  }
}

/* The commit failed: nothing that came after it can be taken either. */
static void fail_all(struct log_offset *log, struct flume_offset_commit *commit) {
  finish_reqs(log, commit);
  struct flume_queue *node;
  while ((node = flume_queue_shift(&log->commits)) != NULL) {
    struct flume_offset_commit *waiting = FLUME_CONTAINER_OF(node, struct flume_offset_commit, queue);
    waiting->status = commit->status;
    finish_reqs(log, waiting);
    commit_free(waiting);
  }
  log->next_off = log->data_end_off;
}

static void publish_deletes(struct log_offset *log, const struct flume_offset_commit *commit) {
  flume__offset_set_publish(&log->deleted, &commit->bytes, commit->count);
  flume_obv_set(&log->log.deletions, (int64_t)log->deleted.seqs.deleted.count);
}

/* Makes the commit seen by readers; of one that failed, the deletes that are on disk all the same. */
static void publish_commit(struct log_offset *log, struct flume_offset_commit *commit) {
  bool done = commit->status == 0;
  flume__log_lock(&log->log);
  if (commit->noted) publish_deletes(log, commit);
  if (done && commit->kind == FLUME_OFFSET_COMMIT_DATA) publish(log, commit);
  /* Commits go one after another: what was written before this sync, and nothing else, is what readers see. */
  if (done && commit->kind == FLUME_OFFSET_COMMIT_SYNC) note_synced(log);
  flume__log_unlock(&log->log);
}

static void commit_done(struct flume_offset_commit *commit) {
  struct log_offset *log = commit->log;
  log->committing = NULL;
  publish_commit(log, commit);
  if (commit->status != 0) {
    flume__log_fail(&log->log, commit->status, &commit->err);
    fail_all(log, commit);
  } else {
    finish_reqs(log, commit);
  }
  commit_free(commit);
  flume__log_moved(&log->log);
}

static void on_work(uv_work_t *work) {
  struct log_offset *log = work->data;
  log->committing->status = commit_run(log->committing);
}

static void on_work_done(uv_work_t *work, int status) {
  struct log_offset *log = work->data;
  (void)status; /* the work is never cancelled */
  commit_done(log->committing);
  start_next(log);
  flume__offset_drained(log);
  flume__log_run_finished(&log->log);
}

/* Takes out what was deleted before, and makes room in the set for the rest. */
static int reserve_deletes(struct log_offset *log, struct flume_offset_commit *commit) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < commit->count; i++) {
    uint64_t seq = flume_get_le64(flume_deletions_seq(&commit->bytes, i));
    if (flume_tombstones_has(&log->deleted.seqs.deleted, (int64_t)seq)) continue;
    flume_put_le64(flume_deletions_seq(&commit->bytes, kept++), seq);
  }
  commit->count = kept;
  return flume_tombstones_reserve(&log->deleted.seqs.deleted, kept);
}

/* Everything that the commit needs and that could fail for want of memory, before it goes. */
static int prepare_locked(struct log_offset *log, struct flume_offset_commit *commit) {
  assert(flume__log_is_locked(&log->log));
  int rv = 0;
  if (log->synced_off > log->note.durable_off) log->note.durable_off = log->synced_off;
  if (commit->kind == FLUME_OFFSET_COMMIT_END) commit->last_seq = log->log.since.value;
  if (commit->kind == FLUME_OFFSET_COMMIT_DELETE) rv = reserve_deletes(log, commit);
  if (commit->kind == FLUME_OFFSET_COMMIT_DATA) {
    rv = flume_offset_index_reserve(&log->index, commit->count);
    if (rv == 0) rv = flume_tombstones_reserve(&log->zeros.seqs.deleted, commit->zeros_count);
  }
  return rv == 0 ? 0 : flume_err_nomem(&commit->err);
}

static int prepare(struct log_offset *log, struct flume_offset_commit *commit) {
  flume__log_lock(&log->log);
  int rv = prepare_locked(log, commit);
  flume__log_unlock(&log->log);
  return rv;
}

static void start_next(struct log_offset *log) {
  if (log->committing != NULL) return;
  struct flume_queue *node = flume_queue_shift(&log->commits);
  if (node == NULL) return;
  struct flume_offset_commit *commit = FLUME_CONTAINER_OF(node, struct flume_offset_commit, queue);
  log->committing = commit;
  int rv = flume__log_failure(&log->log, &commit->err); /* a sync on another thread may have failed meanwhile */
  if (rv == 0) rv = prepare(log, commit);
  if (rv == 0) rv = uv_queue_work(log->log.loop, &log->work, on_work, on_work_done);
  if (rv == 0) return;
  log->committing = NULL; /* the disk was not touched: what waits has failed, but the log goes on */
  commit->status = rv;
  fail_all(log, commit);
  commit_free(commit);
}

int flume__offset_append_wait(struct flume_log *base, const struct flume_slice *records, size_t count, int64_t *seq,
                              struct flume_err *err) {
  struct log_offset *log = (struct log_offset *)base;
  int rv = flume__offset_check_writer(log, err);
  if (rv == 0) rv = check_room(log, records, count, err);
  if (rv != 0) return rv;
  if (log->committing != NULL || !flume_queue_empty(&log->commits)) {
    return flume_err_set(err, FLUME_EBUSY, "other appends are pending");
  }
  struct flume_offset_commit *commit = commit_new(log, FLUME_OFFSET_COMMIT_DATA);
  if (commit == NULL) return flume_err_nomem(err);
  rv = commit_take(commit, records, count);
  if (rv == 0) rv = prepare(log, commit);
  if (rv != 0) {
    log->next_off = log->data_end_off;
    commit_free(commit);
    return flume_err_nomem(err);
  }
  int64_t last = last_seq(log, &records[count - 1]);
  commit->status = rv = commit_run(commit);
  commit_done(commit);
  if (rv == 0) *seq = last;
  else flume__log_failure(base, err);
  return rv;
}

/* --- What carries no records --------------------------------------------------------------------------------- */

static void push_commit(struct log_offset *log, struct flume_offset_commit *commit, struct flume_append *req) {
  if (req != NULL) {
    req->seq = log->log.since.value;
    flume_queue_push(&commit->reqs, &req->queue);
  }
  flume_queue_push(&log->commits, &commit->queue);
  start_next(log);
}

int flume__offset_submit(struct log_offset *log, enum flume_offset_commit_kind kind, struct flume_append *req) {
  struct flume_offset_commit *commit = commit_new(log, kind);
  if (commit == NULL) return FLUME_ENOMEM;
  push_commit(log, commit, req);
  return 0;
}

int flume__offset_sync(struct flume_log *base, struct flume_append *req, struct flume_err *err) {
  struct log_offset *log = (struct log_offset *)base;
  int rv = flume__offset_check_writer(log, err);
  if (rv != 0) return rv;
  return flume__offset_submit(log, FLUME_OFFSET_COMMIT_SYNC, req) == 0 ? 0 : flume_err_nomem(err);
}

int flume__offset_sync_now(struct flume_log *base, struct flume_err *err) {
  struct log_offset *log = (struct log_offset *)base;
  flume__log_lock(base);
  int64_t since = base->since.value;
  uint64_t data_end_off = log->data_end_off;
  flume__log_unlock(base);
  int rv;
  if (log->readonly) {
    rv = flume_follow_sync(base->io, log->file->file, log->file->path, err);
  } else {
    rv = flume__log_sync_file(base, log->file->file);
    if (rv != 0) flume_err_set(err, rv, "syncing %s: %s", log->file->path, flume_strerror(rv));
  }
  if (rv != 0) return rv;
  flume__log_lock(base);
  if (base->durable_seq < since) base->durable_seq = since;
  if (log->synced_off < data_end_off) log->synced_off = data_end_off;
  flume__log_unlock(base);
  return 0;
}

/* Puts the seqs, in ascending order and each once, into a commit of deletes. */
static int take_deletes(struct flume_offset_commit *commit, const int64_t *seqs, size_t count) {
  const struct flume_io *io = commit->log->log.io;
  int rv = flume_deletions_reserve(&commit->bytes, count);
  if (rv != 0) return rv;
  int64_t *sorted = flume_io_alloc(io, count * sizeof *sorted);
  if (sorted == NULL) return FLUME_ENOMEM;
  if (count > 0) memcpy(sorted, seqs, count * sizeof *sorted);
  qsort(sorted, count, sizeof *sorted, flume__compare_seqs);
  for (size_t i = 0; i < count; i++) {
    if (i > 0 && sorted[i] == sorted[i - 1]) continue;
    flume_put_le64(flume_deletions_seq(&commit->bytes, commit->count++), (uint64_t)sorted[i]);
  }
  flume_io_free(io, sorted);
  return 0;
}

int flume__offset_del(struct flume_log *base, struct flume_append *req, const int64_t *seqs, size_t count,
                      struct flume_err *err) {
  struct log_offset *log = (struct log_offset *)base;
  int rv = flume__offset_check_writer(log, err);
  if (rv != 0) return rv;
  for (size_t i = 0; i < count; i++) {
    if (flume_offset_index_has(&log->index, (uint64_t)seqs[i])) continue;
    return flume_err_set(err, FLUME_ENOENT, "no record begins at byte %lld", (long long)seqs[i]);
  }
  struct flume_offset_commit *commit = commit_new(log, FLUME_OFFSET_COMMIT_DELETE);
  if (commit == NULL) return flume_err_nomem(err);
  if (take_deletes(commit, seqs, count) != 0) {
    commit_free(commit);
    return flume_err_nomem(err);
  }
  push_commit(log, commit, req);
  return 0;
}
