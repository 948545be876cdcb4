/* Compaction: removing the bytes of deleted records.
 *
 * Happy path: if the active segment holds such bytes it is sealed, as when it is full. A survey on a worker thread finds
 * the segments that have more deleted records than removed ones; their end frames say how many those are. One after
 * another they are rewritten under a temporary name, synced, and renamed. Each new segment takes the old one's place in
 * the list. Blocks that were planned on the old one keep its file open, and can still be loaded.
 *
 * Failures:
 *
 * - A crash leaves the old segment and a temporary file, which opening the log removes; or the new segment.
 * - What can't be read or written ends the compaction. Each segment is the old one or the new one.
 *
 * Invariants: a segment and the one that replaces it have the same seqs. Only sealed segments are rewritten. */
#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "log/file/file_log.h"
#include "log/file/segment_compact.h"

#define PIECE_BYTES (4u << 20)

/* A sealed segment with deleted records. */
struct candidate {
  int64_t first_seq;
  int64_t next_seq;
  size_t gone_at; /* its deleted seqs in the task's list */
  size_t gone_count;
  uint32_t removed_count; /* of them, before */
  uint64_t bytes;         /* of the file; 0 when there is nothing to remove */
};

struct compact_task {
  struct flume_task task;
  struct flume_compact *req;
  struct flume_append roll;
  int64_t *gone; /* all deleted seqs as of the beginning, ascending */
  struct candidate *candidates;
  size_t candidates_count;
  size_t at; /* the candidate that is rewritten */
  bool surveyed;
  uint64_t total_bytes;
  uint64_t done_bytes;        /* of the candidates before the one that is under way */
  struct flume_segment *from; /* of that one; NULL between two */
  struct flume_compaction compaction;
  struct flume_segment *made; /* the segment that takes its place; NULL until it is published */
};

static struct file_log *log_of(const struct compact_task *task) {
  return (struct file_log *)flume_task_log(&task->task);
}

/* --- On a worker thread -------------------------------------------------------------------------------------- */

/* A segment of its own: those of the log are guarded by its lock. */
static int open_candidate(struct compact_task *task, const struct candidate *candidate, struct flume_segment **out) {
  struct file_log *log = log_of(task);
  struct flume_err *err = &task->task.err;
  struct flume_segment *segment = flume_segment_new(log->log.io, log->log.dir, candidate->first_seq);
  if (segment == NULL) return flume_err_nomem(err);
  struct flume_damage damage;
  int rv = flume_segment_open(segment, true, err);
  if (rv == 0) rv = flume_segment_peek(segment, err);
  if (rv == FLUME_ENOENT && segment->file >= 0) rv = flume_segment_load(segment, &damage, err);
  if (rv == 0 && segment->next_seq != candidate->next_seq) rv = flume__file_gap(segment, candidate->next_seq, err);
  if (rv != 0) {
    flume_segment_unref(segment);
    return rv;
  }
  *out = segment;
  return 0;
}

static int survey(struct compact_task *task) {
  for (size_t i = 0; i < task->candidates_count; i++) {
    struct candidate *candidate = &task->candidates[i];
    struct flume_segment *segment = NULL;
    int rv = open_candidate(task, candidate, &segment);
    if (rv != 0 || segment == NULL) return rv;
    candidate->removed_count = segment->removed_count;
    if (candidate->gone_count > segment->removed_count) candidate->bytes = segment->file_bytes;
    task->total_bytes += candidate->bytes;
    flume_segment_unref(segment);
  }
  task->surveyed = true;
  return 0;
}

static int begin_next(struct compact_task *task) {
  assert(task->at < task->candidates_count && task->from == NULL);
  const struct candidate *candidate = &task->candidates[task->at];
  int rv = open_candidate(task, candidate, &task->from);
  if (rv != 0) return rv;
  return flume_compaction_begin(&task->compaction, flume_task_log(&task->task)->dir, task->from,
                                task->gone + candidate->gone_at, candidate->gone_count, &task->task.err);
}

/* To the next candidate with something to remove: 1, or 0 when there is none. */
static int seek(struct compact_task *task) {
  while (task->at < task->candidates_count && task->candidates[task->at].bytes == 0) task->at++;
  return task->at < task->candidates_count;
}

static int run(struct flume_task *base) {
  struct compact_task *task = (struct compact_task *)base;
  assert(task->made == NULL && task->at <= task->candidates_count);
  int rv = task->surveyed ? 0 : survey(task);
  if (rv != 0 || seek(task) == 0) return rv;
  if (task->from == NULL) rv = begin_next(task);
  if (rv == 0) rv = flume_compaction_step(&task->compaction, PIECE_BYTES, &base->err);
  if (rv != 0) return rv;
  rv = flume_compaction_publish(&task->compaction, &task->made, &base->err);
  return rv == 0 ? 1 : rv;
}

/* --- On the loop --------------------------------------------------------------------------------------------- */

static void finish_candidate(struct compact_task *task) {
  struct flume_compact *req = task->req;
  const struct candidate *candidate = &task->candidates[task->at++];
  assert(task->from != NULL && task->made->first_seq == candidate->first_seq);
  assert(task->made->next_seq == candidate->next_seq && task->made->sealed);
  req->segments++;
  req->records += task->made->removed_count - candidate->removed_count;
  req->bytes_before += candidate->bytes;
  req->bytes_after += task->made->file_bytes;
  task->done_bytes += candidate->bytes;
  flume_compaction_fini(&task->compaction);
  task->compaction = (struct flume_compaction){.from = NULL};
  flume_segment_unref(task->from);
  task->from = NULL;
  flume__file_replace(log_of(task), task->made);
  task->made = NULL;
}

static int turn(struct flume_task *base) {
  struct compact_task *task = (struct compact_task *)base;
  if (task->made != NULL) finish_candidate(task);
  uint64_t done_bytes = task->done_bytes + task->compaction.off;
  if (done_bytes > task->total_bytes) done_bytes = task->total_bytes;
  if (task->req->progress != NULL) task->req->progress(task->req, done_bytes, task->total_bytes);
  return 0;
}

static void task_free(struct compact_task *task) {
  const struct flume_io *io = flume_task_log(&task->task)->io;
  flume_compaction_fini(&task->compaction);
  if (task->from != NULL) flume_segment_unref(task->from);
  flume_io_free(io, task->gone);
  flume_io_free(io, task->candidates);
  flume_io_free(io, task);
}

static void end(struct flume_task *base) {
  struct compact_task *task = (struct compact_task *)base;
  struct flume_compact *req = task->req;
  int status = base->status;
  struct flume_err err = base->err;
  err.code = status;
  assert(log_of(task)->compacting);
  log_of(task)->compacting = false;
  task_free(task);
  req->cb(req, status, status == 0 ? NULL : &err);
}

static size_t deleted_before(const struct file_log *log, int64_t seq) {
  return (size_t)flume_tombstones_count(&log->deletions.deleted, seq - 1);
}

/* What is deleted now, and the sealed segments that it is in. */
static int plan(struct compact_task *task) {
  assert(task->gone == NULL && task->candidates == NULL);
  const struct file_log *log = log_of(task);
  const struct flume_io *io = log->log.io;
  size_t all = deleted_before(log, log->next_seq);
  task->gone = flume_io_alloc(io, all * sizeof *task->gone);
  task->candidates = flume_io_alloc(io, log->segments.count * sizeof *task->candidates);
  if (task->gone == NULL || task->candidates == NULL) return flume_err_nomem(&task->task.err);
  flume_tombstones_copy(&log->deletions.deleted, task->gone);
  for (size_t i = 0; i + 1 < log->segments.count; i++) {
    struct candidate candidate = {.first_seq = log->segments.list[i]->first_seq,
                                  .next_seq = log->segments.list[i + 1]->first_seq};
    candidate.gone_at = deleted_before(log, candidate.first_seq);
    candidate.gone_count = deleted_before(log, candidate.next_seq) - candidate.gone_at;
    if (candidate.gone_count > 0) task->candidates[task->candidates_count++] = candidate;
  }
  return 0;
}

static void on_rolled(struct flume_append *req, int status, int64_t seq, const struct flume_err *err) {
  struct compact_task *task = FLUME_CONTAINER_OF(req, struct compact_task, roll);
  (void)seq;
  if (status == 0) status = plan(task);
  else task->task.err = *err;
  if (status == 0) flume_task_go(&task->task);
  else flume_task_fail(&task->task, status);
}

static bool holds_deleted(struct file_log *log, const struct flume_segment *segment) {
  flume__log_lock(&log->log);
  bool holds =
      deleted_before(log, segment->next_seq) - deleted_before(log, segment->first_seq) > segment->removed_count;
  flume__log_unlock(&log->log);
  return holds;
}

int flume__file_compact(struct flume_log *base, struct flume_compact *req, struct flume_err *err) {
  struct file_log *log = (struct file_log *)base;
  if (log->log.readonly) return flume_err_set(err, FLUME_EREADONLY, "%s is open read-only", base->dir);
  if (log->compacting) return flume_err_set(err, FLUME_EBUSY, "%s is being compacted already", base->dir);
  struct compact_task *task = flume_io_zalloc(base->io, sizeof *task);
  if (task == NULL) return flume_err_nomem(err);
  task->req = req;
  task->task.run = run;
  task->task.turn = turn;
  task->task.end = end;
  task->roll.cb = on_rolled;
  bool seals = holds_deleted(log, flume__file_active(log));
  if (seals && flume__group_submit(&log->group, FLUME_COMMIT_ROLL, &task->roll) != 0) {
    flume_io_free(base->io, task);
    return flume_err_nomem(err);
  }
  flume_task_init(&task->task, &log->tasks);
  log->compacting = true;
  if (!seals) flume__append_finish(base, &task->roll, 0, base->since.value);
  return 0;
}
