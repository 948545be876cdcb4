/* Group commit.
 *
 * Happy path: append copies the records into the waiting commit, checksums them, and numbers them. When no commit is
 * on its way, the waiting one is handed to a thread of libuv's pool, which writes it as one frame and syncs; back on
 * the loop, since grows, the callbacks fire, and the next waiting commit goes. All appends that came in meanwhile are
 * in it: they share its frame, its write and its sync.
 *
 * One commit is one frame on purpose: with sync = "always" a crash then leaves at most one bad frame, the last one, and
 * recovery can tell it from damage.
 *
 * When a write or a sync fails, nothing is tried again: after a failed fsync the kernel may have dropped the pages, and
 * a second one would answer success for data that is gone. The commit and all that wait behind it are answered with the
 * error (their records were numbered after records that are not there), and the handle takes no more appends. Reads go
 * on. Opening the log again cuts what was left half written. */
#include <assert.h>

#include "base/err.h"
#include "log/file/file_follow.h"

#define JOIN_BYTES (4u << 20)             /* a waiting commit of this size takes no more appends */
#define ZERO_AHEAD_BYTES (1u << 20)       /* written at a time */
#define ZERO_AHEAD_MAX_FRAME (128u << 10) /* for larger frames it does not pay */
#define SPARE_MAX 4u
#define SPARE_BYTES (8u << 20) /* a larger buffer is not kept */

static void start_next(struct log_file *log);

void flume__commit_free(struct flume_commit *commit) {
  const struct flume_io *io = commit->log->log.io;
  flume_buf_fini(&commit->bytes);
  flume_io_free(io, commit->offsets);
  flume_io_free(io, commit);
}

static struct flume_commit *commit_new(struct log_file *log, enum flume_commit_kind kind) {
  struct flume_commit *commit;
  struct flume_queue *spare = flume_queue_shift(&log->spare);
  if (spare != NULL) {
    log->spare_count--;
    commit = FLUME_CONTAINER_OF(spare, struct flume_commit, queue);
  } else {
    commit = flume_io_zalloc(log->log.io, sizeof *commit);
    if (commit == NULL) return NULL;
    commit->log = log;
    flume_buf_init(&commit->bytes, log->log.io);
  }
  flume_queue_init(&commit->queue);
  flume_queue_init(&commit->reqs);
  commit->kind = kind;
  commit->count = 0;
  commit->bytes.len = 0;
  commit->roll = commit->synced = false;
  commit->segment = NULL;
  commit->status = 0;
  commit->first_seq = log->next_seq;
  return commit;
}

static void commit_recycle(struct flume_commit *commit) {
  struct log_file *log = commit->log;
  if (commit->segment != NULL) flume_segment_unref(commit->segment);
  if (log->spare_count >= SPARE_MAX || commit->bytes.cap > SPARE_BYTES) {
    flume__commit_free(commit);
    return;
  }
  flume_queue_push(&log->spare, &commit->queue);
  log->spare_count++;
}

/* --- Taking records ------------------------------------------------------------------------------------------ */

static int commit_reserve(struct flume_commit *commit, size_t bytes, size_t count) {
  if (commit->bytes.len == 0) bytes += FLUME_FRAME_HEADER_BYTES;
  int rv = flume_buf_reserve(&commit->bytes, bytes);
  if (rv != 0) return rv;
  if (commit->offsets_cap - commit->count >= count) return 0;
  size_t cap = commit->offsets_cap > 0 ? commit->offsets_cap : 64;
  while (cap - commit->count < count) cap *= 2;
  uint32_t *offsets = flume_io_realloc(commit->log->log.io, commit->offsets, cap * sizeof *offsets);
  if (offsets == NULL) return FLUME_ENOMEM;
  commit->offsets = offsets;
  commit->offsets_cap = (uint32_t)cap;
  return 0;
}

static int commit_take(struct flume_commit *commit, const struct flume_slice *records, size_t count) {
  size_t bytes = 0;
  for (size_t i = 0; i < count; i++) bytes += records[i].len + FLUME_RECORD_HEADER_BYTES;
  int rv = commit_reserve(commit, bytes, count);
  if (rv != 0) return rv;
  if (commit->bytes.len == 0) commit->bytes.len = FLUME_FRAME_HEADER_BYTES;
  uint8_t *out = commit->bytes.data + commit->bytes.len;
  flume_records_put(out, (uint32_t)commit->bytes.len, records, count, commit->log->next_seq,
                    commit->offsets + commit->count);
  commit->bytes.len += bytes;
  commit->count += (uint32_t)count;
  commit->log->next_seq += (int64_t)count;
  return 0;
}

/* The commit at the end of the queue, when more records may go into it. */
static struct flume_commit *joinable(struct log_file *log) {
  if (flume_queue_empty(&log->commits)) return NULL;
  struct flume_commit *last = FLUME_CONTAINER_OF(log->commits.prev, struct flume_commit, queue);
  return last->kind == FLUME_COMMIT_DATA && last->bytes.len < JOIN_BYTES ? last : NULL;
}

/* A process that is forked from the writer has a copy of the handle, which knows nothing of what the writer does from
 * then on: with it, two would write into one log. */
int flume__file_check_writer(const struct log_file *log, struct flume_err *err) {
  if (log->readonly) return flume_err_set(err, FLUME_EREADONLY, "%s is open read-only", log->log.dir);
  if (log->pid == uv_os_getpid()) return 0;
  return flume_err_set(err, FLUME_ELOCKED, "%s was opened for writing by process %d, and this is another", log->log.dir,
                       (int)log->pid);
}

int flume__file_append(struct flume_log *base, struct flume_append *req, const struct flume_slice *records,
                       size_t count, struct flume_err *err) {
  struct log_file *log = (struct log_file *)base;
  int rv = flume__file_check_writer(log, err);
  if (rv != 0) return rv;
  struct flume_commit *commit = joinable(log);
  bool joins = commit != NULL;
  if (!joins) commit = commit_new(log, FLUME_COMMIT_DATA);
  if (commit == NULL) return flume_err_nomem(err);
  rv = commit_take(commit, records, count);
  if (rv != 0) {
    if (!joins) commit_recycle(commit);
    return flume_err_nomem(err);
  }
  req->seq = log->next_seq - 1;
  flume_queue_push(&commit->reqs, &req->queue);
  if (!joins) flume_queue_push(&log->commits, &commit->queue);
  start_next(log);
  return 0;
}

/* --- On a worker thread -------------------------------------------------------------------------------------- */

/* Zeros in front of small frames: a sync then has no new file size to write (measured: 1.5 to 1.75 times as many
 * durable appends). A full disk is no failure here, but of the write that needs the room: what was taken of the last of
 * it is given back, and left to others. */
static void zero_ahead(struct flume_commit *commit) {
  static const uint8_t zeros[ZERO_AHEAD_BYTES];
  struct flume_segment *segment = commit->segment;
  const struct flume_io *io = segment->io;
  uint64_t end = segment->end_off + commit->bytes.len;
  if (commit->log->sync != FLUME_SYNC_ALWAYS || commit->bytes.len > ZERO_AHEAD_MAX_FRAME) return;
  if (end <= segment->zeroed_off || segment->no_room_ahead) return;
  if (flume_io_write_full(io, segment->file, zeros, sizeof zeros, end) == 0) {
    segment->zeroed_off = end + sizeof zeros;
    return;
  }
  segment->no_room_ahead = true;
  io->truncate(io->ctx, segment->file, segment->end_off); /* fails: the zeros do no harm */
}

static int write_data(struct flume_commit *commit) {
  struct log_file *log = commit->log;
  struct flume_segment *segment = commit->segment;
  const struct flume_io *io = log->log.io;
  struct flume_frame frame = {.kind = FLUME_FRAME_DATA,
                              .count = commit->count,
                              .body_bytes = (uint32_t)(commit->bytes.len - FLUME_FRAME_HEADER_BYTES),
                              .first_seq = commit->first_seq,
                              .time_ms = io->now_ms(io->ctx),
                              .durable_off = segment->durable_off};
  struct flume_place place = {segment->log_id, segment->first_seq, segment->end_off};
  flume_frame_put(commit->bytes.data, &frame, &place);
  zero_ahead(commit);
  int rv = flume_io_write_full(io, segment->file, commit->bytes.data, commit->bytes.len, segment->end_off);
  if (rv != 0) return flume_err_set(&commit->err, rv, "writing %s: %s", segment->path, flume_strerror(rv));
  segment->end_off += commit->bytes.len;
  return 0;
}

static int sync_segment(struct flume_commit *commit) {
  struct flume_segment *segment = commit->segment;
  int rv = flume__log_sync_file(&commit->log->log, segment->file);
  if (rv != 0) return flume_err_set(&commit->err, rv, "syncing %s: %s", segment->path, flume_strerror(rv));
  segment->durable_off = segment->end_off;
  return 0;
}

/* Happy path: settle the segment, make the next one, seal the segment. So a sealed segment has a successor, and one
 * that is missing is noticed; a crash in between leaves a successor without records, and opening seals what is before
 * it. */
static int roll_segment(struct flume_commit *commit) {
  int rv = flume_segment_settle(commit->segment, &commit->err);
  if (rv != 0) return rv;
  struct log_file *log = commit->log;
  struct flume_segment *next = flume_segment_new(log->log.io, log->log.dir, commit->first_seq);
  if (next == NULL) return flume_err_nomem(&commit->err);
  rv = flume_segment_reserve(next, commit->count) != 0 ? flume_err_nomem(&commit->err) : 0;
  if (rv == 0) rv = flume_segment_create(next, log->log.dir, log->log.id, &commit->err);
  if (rv == 0) rv = flume_segment_seal(commit->segment, &commit->err);
  if (rv != 0) {
    flume_segment_unref(next);
    return rv;
  }
  flume_segment_unref(commit->segment);
  commit->segment = next;
  return 0;
}

/* The file with the newest records is synced on the way: no other thread may do so meanwhile. */
static int run_syncing(struct flume_commit *commit, int (*step)(struct flume_commit *commit)) {
  int rv = flume__log_sync_begin(&commit->log->log);
  if (rv == 0) return flume__log_sync_end(&commit->log->log, step(commit));
  return flume_err_set(&commit->err, rv, "syncing %s: %s", commit->segment->path, flume_strerror(rv));
}

static int end_segment(struct flume_commit *commit) {
  return flume_segment_end(commit->segment, &commit->err);
}

/* Tells those who follow the log what is acknowledged now. */
static int write_note(struct flume_commit *commit) {
  struct log_file *log = commit->log;
  log->note.deleted_end_off = log->deletions.end_off;
  int rv = flume__note_write(log);
  return rv == 0 ? 0 : flume_err_set(&commit->err, rv, "writing %s/lock: %s", log->log.dir, flume_strerror(rv));
}

/* The timer sees to the ceiling while the loop runs; the clock does for a caller who appends and never lets it. */
static bool sync_is_due(const struct log_file *log) {
  if (log->sync == FLUME_SYNC_ALWAYS) return true;
  if (log->sync != FLUME_SYNC_INTERVAL || log->unsynced_since_ns == 0) return false;
  uint64_t now_ns = log->log.io->hrtime_ns(log->log.io->ctx);
  return now_ns - log->unsynced_since_ns >= (uint64_t)log->interval_ms * 1000000;
}

static int commit_run(struct flume_commit *commit) {
  int rv = 0;
  switch (commit->kind) {
    case FLUME_COMMIT_DATA:
      if (commit->roll) rv = run_syncing(commit, roll_segment);
      if (rv == 0) rv = write_data(commit);
      if (rv != 0 || !sync_is_due(commit->log)) return rv;
      rv = sync_segment(commit);
      commit->synced = rv == 0;
      if (rv != 0 || commit->log->sync != FLUME_SYNC_ALWAYS) return rv;
      commit->log->note.since = commit->first_seq + commit->count - 1;
      return write_note(commit);
    case FLUME_COMMIT_SYNC: return sync_segment(commit);
    case FLUME_COMMIT_DELETE: /* never on disk before its records: it would hit the next ones with their seqs */
      if (commit->log->sync != FLUME_SYNC_ALWAYS) rv = sync_segment(commit);
      if (rv == 0) rv = flume__deleted_write(commit);
      return rv == 0 ? write_note(commit) : rv;
    case FLUME_COMMIT_ROLL: return commit->roll ? run_syncing(commit, roll_segment) : 0;
    case FLUME_COMMIT_END: break;
  }
  rv = commit->was_ended ? 0 : run_syncing(commit, end_segment);
  if (rv == 0) rv = flume__deleted_end(commit);
  if (rv != 0) return rv;
  commit->log->note.since = commit->first_seq - 1;
  return write_note(commit);
}

/* --- Back on the loop thread --------------------------------------------------------------------------------- */

static void on_interval(uv_timer_t *timer) {
  struct log_file *log = timer->data;
  struct flume_err err;
  if (log->committing == NULL && log->log.durable_seq == log->log.since.value) { /* another thread has synced */
    log->unsynced_since_ns = 0;
    return;
  }
  int rv = flume__file_submit(log, FLUME_COMMIT_SYNC, NULL);
  if (rv == 0) return;
  flume_err_set(&err, rv, "syncing %s: %s", log->log.dir, flume_strerror(rv));
  flume__log_fail(&log->log, rv, &err);
}

static void note_synced(struct log_file *log, int64_t durable_seq) {
  assert(flume__log_is_locked(&log->log) && durable_seq >= log->log.durable_seq);
  log->unsynced_since_ns = 0;
  log->log.durable_seq = durable_seq;
  uv_timer_stop(&log->timer);
}

static void publish_roll(struct log_file *log, struct flume_commit *commit) {
  if (!commit->roll) return;
  assert(commit->segment->first_seq == flume__file_active(log)->next_seq);
  flume__file_loaded_add(log, flume__file_active(log));
  flume__file_add_segment(log, flume_segment_ref(commit->segment));
}

/* The records of a written frame are in the file: they get their offsets and are seen by readers. */
static void publish(struct log_file *log, struct flume_commit *commit) {
  assert(flume__log_is_locked(&log->log));
  publish_roll(log, commit);
  struct flume_segment *segment = commit->segment;
  assert(segment == flume__file_active(log) && segment->next_seq == commit->first_seq);
  uint32_t frame_off = (uint32_t)(segment->end_off - commit->bytes.len);
  uint32_t *offsets = segment->offsets + (segment->next_seq - segment->first_seq);
  for (uint32_t i = 0; i < commit->count; i++) offsets[i] = frame_off + commit->offsets[i];
  segment->next_seq += commit->count;
  segment->data_end_off = segment->end_off;
  segment->ended = false;
  flume_obv_set(&log->log.since, segment->next_seq - 1);
  if (commit->synced) {
    note_synced(log, segment->next_seq - 1);
  } else if (log->sync == FLUME_SYNC_INTERVAL && log->unsynced_since_ns == 0) { /* later appends don't start it anew */
    log->unsynced_since_ns = log->log.io->hrtime_ns(log->log.io->ctx);
    if (log->log.state == FLUME_LOG_OPEN) uv_timer_start(&log->timer, on_interval, log->interval_ms, 0);
  }
}

static void finish_reqs(struct log_file *log, struct flume_commit *commit) {
  struct flume_queue *node;
  while ((node = flume_queue_shift(&commit->reqs)) != NULL) {
    struct flume_append *req = FLUME_CONTAINER_OF(node, struct flume_append, queue);
    flume__append_finish(&log->log, req, commit->status, req->seq);
  }
}

/* The commit failed: nothing that came after it can be taken either. */
static void fail_all(struct log_file *log, struct flume_commit *commit) {
  finish_reqs(log, commit);
  struct flume_queue *node;
  while ((node = flume_queue_shift(&log->commits)) != NULL) {
    struct flume_commit *waiting = FLUME_CONTAINER_OF(node, struct flume_commit, queue);
    waiting->status = commit->status;
    finish_reqs(log, waiting);
    commit_recycle(waiting);
  }
  log->next_seq = log->log.since.value + 1;
}

/* Makes the commit seen by readers. */
static void publish_commit(struct log_file *log, struct flume_commit *commit) {
  flume__log_lock(&log->log);
  switch (commit->kind) {
    case FLUME_COMMIT_DATA: publish(log, commit); break;
    case FLUME_COMMIT_ROLL: publish_roll(log, commit); break;
    /* Commits go one after another: what was written before this sync, and nothing else, is what readers see. */
    case FLUME_COMMIT_SYNC: note_synced(log, log->log.since.value); break;
    case FLUME_COMMIT_DELETE: flume__deleted_publish(commit); break;
    case FLUME_COMMIT_END: break;
  }
  flume__log_unlock(&log->log);
}

static void commit_done(struct flume_commit *commit) {
  assert(commit->log->committing == NULL || commit->log->committing == commit);
  struct log_file *log = commit->log;
  log->committing = NULL;
  if (commit->status != 0) {
    flume__log_fail(&log->log, commit->status, &commit->err);
    fail_all(log, commit);
  } else {
    publish_commit(log, commit);
    finish_reqs(log, commit);
  }
  commit_recycle(commit);
  flume__log_moved(&log->log);
}

static void on_work(uv_work_t *work) {
  struct log_file *log = work->data;
  log->committing->status = commit_run(log->committing);
}

static void on_work_done(uv_work_t *work, int status) {
  struct log_file *log = work->data;
  (void)status; /* the work is never cancelled */
  commit_done(log->committing);
  start_next(log);
  flume__file_drained(log);
  flume__log_run_finished(&log->log);
}

/* Everything that the commit needs and that could fail for want of memory, before it goes. */
static int reserve(struct log_file *log, struct flume_commit *commit, const struct flume_segment *active) {
  assert(flume__log_is_locked(&log->log));
  if (commit->kind == FLUME_COMMIT_DELETE) return flume__deleted_reserve(commit);
  if (commit->kind != FLUME_COMMIT_DATA && commit->kind != FLUME_COMMIT_ROLL) return 0;
  bool full = commit->kind == FLUME_COMMIT_ROLL || active->end_off + commit->bytes.len > log->segment_bytes;
  commit->roll = active->next_seq > active->first_seq && full;
  if (!commit->roll) return flume_segment_reserve(commit->segment, commit->count);
  int rv = flume__file_reserve_segment(log);
  return rv == 0 ? flume__file_loaded_reserve(log) : rv;
}

/* A reader must not be the one to load the active segment while the commit is at it: only an end commit leaves it
 * unloaded, and then has nothing to do with it. */
static int prepare_locked(struct log_file *log, struct flume_commit *commit) {
  struct flume_segment *active = flume__file_active(log);
  commit->segment = flume_segment_ref(active);
  commit->was_ended = commit->kind == FLUME_COMMIT_END && !active->loaded;
  assert(!commit->was_ended || active->ended);
  int rv = active->loaded || commit->was_ended ? 0 : flume__file_load_active(log, &commit->err);
  if (rv != 0) return rv;
  if (active->synced_off > active->durable_off) active->durable_off = active->synced_off;
  return reserve(log, commit, active) == 0 ? 0 : flume_err_nomem(&commit->err);
}

static int prepare(struct log_file *log, struct flume_commit *commit) {
  flume__log_lock(&log->log);
  int rv = prepare_locked(log, commit);
  flume__log_unlock(&log->log);
  return rv == 0 ? flume__file_settle_active(log, &commit->err) : rv;
}

static void start_next(struct log_file *log) {
  if (log->committing != NULL) return;
  struct flume_queue *node = flume_queue_shift(&log->commits);
  if (node == NULL) return;
  struct flume_commit *commit = FLUME_CONTAINER_OF(node, struct flume_commit, queue);
  log->committing = commit;
  int rv = flume__log_failure(&log->log, &commit->err); /* a sync on another thread may have failed meanwhile */
  if (rv == 0) rv = prepare(log, commit);
  if (rv == 0) rv = uv_queue_work(log->log.loop, &log->work, on_work, on_work_done);
  if (rv == 0) return;
  log->committing = NULL; /* the disk was not touched: what waits has failed, but the log goes on */
  commit->status = rv;
  fail_all(log, commit);
  commit_recycle(commit);
}

int flume__file_append_wait(struct flume_log *base, const struct flume_slice *records, size_t count, int64_t *seq,
                            struct flume_err *err) {
  struct log_file *log = (struct log_file *)base;
  int rv = flume__file_check_writer(log, err);
  if (rv != 0) return rv;
  if (log->committing != NULL || !flume_queue_empty(&log->commits)) {
    return flume_err_set(err, FLUME_EBUSY, "other appends are pending");
  }
  struct flume_commit *commit = commit_new(log, FLUME_COMMIT_DATA);
  if (commit == NULL) return flume_err_nomem(err);
  rv = commit_take(commit, records, count);
  if (rv != 0) flume_err_nomem(&commit->err);
  else rv = prepare(log, commit);
  if (rv != 0) {
    log->next_seq = base->since.value + 1;
    if (err != NULL) *err = commit->err;
    commit_recycle(commit);
    return rv;
  }
  int64_t last = log->next_seq - 1;
  commit->status = rv = commit_run(commit);
  commit_done(commit);
  if (rv == 0) *seq = last;
  else flume__log_failure(base, err);
  return rv;
}

/* --- What carries no records --------------------------------------------------------------------------------- */

int flume__file_submit(struct log_file *log, enum flume_commit_kind kind, struct flume_append *req) {
  struct flume_commit *commit = commit_new(log, kind);
  if (commit == NULL) return FLUME_ENOMEM;
  if (req != NULL) {
    req->seq = log->next_seq - 1;
    flume_queue_push(&commit->reqs, &req->queue);
  }
  flume_queue_push(&log->commits, &commit->queue);
  start_next(log);
  return 0;
}

int flume__file_sync(struct flume_log *base, struct flume_append *req, struct flume_err *err) {
  struct log_file *log = (struct log_file *)base;
  int rv = flume__file_check_writer(log, err);
  if (rv != 0) return rv;
  return flume__file_submit(log, FLUME_COMMIT_SYNC, req) == 0 ? 0 : flume_err_nomem(err);
}

/* The newest records are in the active segment; a segment is synced before the next one is begun. The reference keeps
 * the file open should it be rolled meanwhile. */
int flume__file_sync_now(struct flume_log *base, struct flume_err *err) {
  struct log_file *log = (struct log_file *)base;
  flume__log_lock(base);
  struct flume_segment *segment = flume_segment_ref(flume__file_active(log));
  int64_t since = base->since.value;
  uint64_t data_end_off = segment->data_end_off;
  flume__log_unlock(base);
  int rv;
  if (log->readonly) {
    rv = flume_follow_sync(base->io, segment->file, segment->path, err);
  } else {
    rv = flume__log_sync_file(base, segment->file);
    if (rv != 0) flume_err_set(err, rv, "syncing %s: %s", segment->path, flume_strerror(rv));
  }
  if (rv == 0) {
    flume__log_lock(base);
    if (base->durable_seq < since) base->durable_seq = since;
    if (segment->synced_off < data_end_off) segment->synced_off = data_end_off;
    flume__log_unlock(base);
  }
  flume_segment_unref(segment);
  return rv;
}

int flume__file_del(struct flume_log *base, struct flume_append *req, const int64_t *seqs, size_t count,
                    struct flume_err *err) {
  struct log_file *log = (struct log_file *)base;
  int rv = flume__file_check_writer(log, err);
  if (rv != 0) return rv;
  struct flume_commit *commit = commit_new(log, FLUME_COMMIT_DELETE);
  if (commit == NULL) return flume_err_nomem(err);
  if (flume__deleted_take(commit, seqs, count) != 0) {
    commit_recycle(commit);
    return flume_err_nomem(err);
  }
  req->seq = log->next_seq - 1;
  flume_queue_push(&commit->reqs, &req->queue);
  flume_queue_push(&log->commits, &commit->queue);
  start_next(log);
  return 0;
}
