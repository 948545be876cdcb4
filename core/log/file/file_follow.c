/* A follower of a file log: a read-only handle that sees what the writer does.
 *
 * Happy path: the writer writes a frame, syncs it, and puts the last seq into the high watermark (lock_file.h). The file
 * event of that wakes the follower. It reads the high watermark, then the frames up to it, verifies every byte, and lets
 * since grow. When a segment is at its end, the name of the next one begins with the next seq.
 *
 * What a follower may show:
 *
 * - A whole, valid frame is in the page cache: kill -9 of its writer does not take it back, as recovery cuts at the first
 *   bad frame. Until its sync has returned, a loss of power does, and so does a failed sync. A record that was shown can't
 *   be taken back: it may have been sent to another machine. So beside a writer, a follower shows what the writer has
 *   acknowledged, and no more. In the weaker sync modes that is every whole frame.
 * - Without a writer, or beside a writer that has not written its high watermark yet, nothing is acknowledged, and every
 *   whole frame is going to be kept. The follower syncs the file, which needs no right to write, and shows the frames:
 *   they are on disk then, as after a recovery.
 * - The death of a writer makes no event. Whole frames that it did not acknowledge are seen when the next writer has
 *   written its high watermark.
 *
 * Failures end the following for good. Live streams answer the error once they have delivered what there is, waiting reads
 * of views at once; the records that were read can still be read from the files that are open:
 *
 * - The log is shorter than what was read or acknowledged, or damaged there.
 * - A segment is gone, or belongs to another log.
 * - A sync fails: then the records that it was to make durable are not shown. One risk is left: after a failed sync of the
 *   writer, the follower's may succeed although the disk has nothing. The next writer writes such a tail again.
 *
 * Invariants: since never goes back. Records beyond since may be in the active segment, and are not planned. A sealed
 * segment whose file was replaced (by compaction) is opened again when it is next read; blocks keep the old file. */
#include "log/file/file_follow.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/path.h"

static struct file_log *log_of(const struct flume_follow *follow) {
  return (struct file_log *)follow->log;
}

/* The last seq that was read. The last one that is shown is since. */
static int64_t last_seq(struct file_log *log) {
  flume__log_lock(&log->log);
  int64_t next_seq = flume__file_active(log)->next_seq;
  flume__log_unlock(&log->log);
  return next_seq - 1;
}

/* --- Reading records ------------------------------------------------------------------------------------------ */

static int sync_file(const struct flume_segment *segment, struct flume_err *err) {
  return flume_follow_sync(segment->io, segment->file, segment->path, err);
}

/* The size of the active segment's file. A file that is shorter than what was read of it is damaged. */
static int measure(struct file_log *log, uint64_t *file_bytes, struct flume_err *err) {
  struct flume_segment *segment = flume__file_active(log);
  int64_t size = segment->io->size(segment->io->ctx, segment->file);
  if (size < 0) return flume_err_set(err, (int)size, "reading %s: %s", segment->path, flume_strerror((int)size));
  flume__log_lock(&log->log);
  bool shorter = (uint64_t)size < segment->data_end_off;
  if (!shorter && (uint64_t)size < segment->end_off)
    segment->end_off = segment->data_end_off; /* an index was cut off */
  int64_t next_seq = segment->next_seq;
  flume__log_unlock(&log->log);
  *file_bytes = (uint64_t)size;
  if (!shorter) return 0;
  return flume_err_set(err, FLUME_ECORRUPT,
                       "%s: byte %lld: the file is shorter than what was read of it (up to seq %lld)", segment->path,
                       (long long)size, (long long)next_seq - 1);
}

/* Begins a tail of the active segment, unless the segment ends where the file does: then *any is false. */
static int begin_tail(struct file_log *log, uint64_t file_bytes, struct flume_segment *tail, bool *any,
                      struct flume_err *err) {
  struct flume_segment *active = flume__file_active(log);
  assert(flume__log_is_locked(&log->log));
  *any = file_bytes != active->end_off;
  if (!*any) return 0;
  int rv = active->loaded ? 0 : flume__file_load_active(log, err);
  if (rv == 0) flume_segment_tail_init(tail, active, file_bytes);
  return rv;
}

/* Takes more frames of the active segment, *taken_bytes of them: 1; 0 when there are none. Readers of the segment see
 * them at once, but not beyond since. */
static int take_frames(struct file_log *log, const struct flume_bound *bound, size_t max_bytes, uint64_t *taken_bytes,
                       struct flume_err *err) {
  struct flume_segment *active = flume__file_active(log), tail;
  uint64_t file_bytes;
  bool any;
  *taken_bytes = 0;
  int rv = measure(log, &file_bytes, err);
  if (rv != 0) return rv;
  flume__log_lock(&log->log);
  rv = begin_tail(log, file_bytes, &tail, &any, err);
  flume__log_unlock(&log->log);
  if (rv != 0 || !any) return rv;
  uint64_t end_off = tail.end_off;
  assert(tail.offsets_seq == tail.next_seq);
  int taken = flume_segment_follow(&tail, bound->watermark.since, max_bytes, err);
  if (taken == 1 && !bound->alive && tail.next_seq > tail.offsets_seq) rv = sync_file(active, err);
  if (taken == 1 && rv == 0) {
    flume__log_lock(&log->log);
    if (flume_segment_take_tail(active, &tail) != 0) rv = flume_err_nomem(err);
    flume__log_unlock(&log->log);
    *taken_bytes = tail.end_off - end_off;
  }
  flume_segment_tail_fini(&tail);
  return rv == 0 ? taken : rv;
}

/* Puts the segment that follows the active one into the list. FLUME_ENOMEM. */
static int add_next(struct file_log *log, struct flume_segment *next) {
  assert(flume__log_is_locked(&log->log));
  struct flume_segment *active = flume__file_active(log);
  assert(next->first_seq == active->next_seq);
  if (flume__segments_reserve(&log->segments) != 0) return FLUME_ENOMEM;
  next->loaded = true;
  if (active->loaded) flume__segments_loaded(&log->segments, active);
  flume__segments_add(&log->segments, next);
  return 0;
}

/* Opens the segment that begins where the active one ends: 1; 0 when there is none yet. */
static int next_segment(struct file_log *log, struct flume_err *err) {
  int64_t next_seq = last_seq(log) + 1;
  if (next_seq == flume__file_active(log)->first_seq) return 0;
  struct flume_segment *next = flume_segment_new(log->log.io, log->log.dir, next_seq);
  if (next == NULL) return flume_err_nomem(err);
  int rv = flume_segment_open(next, true, err);
  if (rv == UV_ENOENT) {
    flume_segment_unref(next);
    return 0;
  }
  if (rv != 0) goto err_after_new;
  if (memcmp(next->log_id, log->log.id, 16) != 0) {
    rv = flume_err_set(err, FLUME_ECORRUPT, "%s: byte 24: the segment belongs to another log", next->path);
    goto err_after_new;
  }
  flume__log_lock(&log->log);
  rv = add_next(log, next);
  flume__log_unlock(&log->log);
  if (rv == 0) return 1;
  flume_err_nomem(err);

err_after_new:
  assert(rv != 0);
  flume_segment_unref(next);
  return rv;
}

static int ends_early(struct file_log *log, const struct flume_bound *bound, struct flume_err *err) {
  flume__log_lock(&log->log);
  const struct flume_segment *active = flume__file_active(log);
  int rv = flume_err_set(err, FLUME_ECORRUPT,
                         "%s: byte %llu (seq %lld): the log was acknowledged up to seq %lld, but ends here",
                         active->path, (unsigned long long)active->end_off, (long long)active->next_seq,
                         (long long)bound->watermark.since);
  flume__log_unlock(&log->log);
  return rv;
}

/* Takes what the bound allows, about max_bytes of it. 1: there is more to take. */
static int take_all(struct file_log *log, const struct flume_bound *bound, size_t max_bytes, struct flume_err *err) {
  size_t left = max_bytes;
  while (last_seq(log) < bound->watermark.since) {
    if (left == 0) return 1;
    uint64_t bytes;
    int rv = take_frames(log, bound, left, &bytes, err);
    if (rv == 0) rv = next_segment(log, err);
    if (rv < 0) return rv;
    if (rv == 0) return bound->watermark.since == FLUME_SEQ_MAX ? 0 : ends_early(log, bound, err);
    left = bytes < left ? left - (size_t)bytes : 0;
  }
  return 0;
}

/* If the writer who said that whole frames count has been followed by another writer meanwhile, the new writer may not
 * have synced what was just read. */
static int sync_if_passed_on(struct flume_follow *follow, const struct flume_bound *bound, struct flume_err *err) {
  if (!bound->alive || bound->watermark.since != FLUME_SEQ_MAX) return 0;
  int rv = flume_follow_bound_holds(follow, bound, err);
  if (rv == 0) rv = sync_file(flume__file_active(log_of(follow)), err);
  return rv < 0 ? rv : 0;
}

/* --- Files that were replaced --------------------------------------------------------------------------------- */

/* Puts an unopened segment in the place of the one whose file was replaced. */
static int reopen_segment(struct file_log *log, size_t i, struct flume_err *err) {
  assert(i + 1 < log->segments.count);
  struct flume_segment *fresh = flume_segment_new(log->log.io, log->log.dir, log->segments.list[i]->first_seq);
  if (fresh == NULL) return flume_err_nomem(err);
  flume__log_lock(&log->log);
  struct flume_segment *old = flume__segments_replace(&log->segments, i, fresh);
  flume__log_unlock(&log->log);
  flume_segment_unref(old);
  return 0;
}

/* The lock keeps the file open: a segment that is not used may be closed otherwise. */
static int is_in_place(struct file_log *log, const struct flume_segment *segment) {
  flume__log_lock(&log->log);
  int rv = segment->file < 0 ? 1 : segment->io->is_at(segment->io->ctx, segment->file, segment->path);
  flume__log_unlock(&log->log);
  return rv;
}

static int check_segment(struct file_log *log, size_t i, struct flume_err *err) {
  struct flume_segment *segment = log->segments.list[i];
  int rv = is_in_place(log, segment);
  if (rv == 1) return 0;
  if (rv < 0) return flume_err_set(err, rv, "%s: the log was removed: %s", segment->path, flume_strerror(rv));
  rv = segment == flume__file_active(log) ? next_segment(log, err) : 1; /* it may have been sealed, and then replaced */
  if (rv < 0) return rv;
  if (rv == 1) return reopen_segment(log, i, err);
  return flume_err_set(err, FLUME_ECORRUPT, "%s: byte 0: the log was replaced by another while it was being read",
                       segment->path);
}

/* A repair puts another file in its place. */
static int check_deleted(struct file_log *log, struct flume_err *err) {
  char path[FLUME_PATH_MAX];
  int rv = flume_path_join(path, sizeof path, log->log.dir, "deleted");
  if (rv != 0) return flume_err_set(err, rv, "%s: %s", log->log.dir, flume_strerror(rv));
  flume__log_lock(&log->log);
  rv = log->deleted_file < 0 ? 1 : log->log.io->is_at(log->log.io->ctx, log->deleted_file, path);
  flume__log_unlock(&log->log);
  if (rv == 1) return 0;
  if (rv == 0) return flume_err_set(err, FLUME_ECORRUPT, "%s: byte 0: the log was repaired while it was read", path);
  return flume_err_set(err, rv, "%s: the log was removed: %s", path, flume_strerror(rv));
}

static int check_names(struct file_log *log, struct flume_err *err) {
  int rv = check_deleted(log, err);
  for (size_t i = 0; i < log->segments.count && rv == 0; i++) rv = check_segment(log, i, err);
  return rv;
}

/* --- Looking -------------------------------------------------------------------------------------------------- */

static void publish(struct file_log *log, const struct flume_bound *bound) {
  flume__log_lock(&log->log);
  int64_t since = flume__file_active(log)->next_seq - 1;
  assert(since >= log->log.since.value);
  log->next_seq = since + 1;
  flume_obv_set(&log->log.since, since);
  if (!bound->alive || bound->watermark.since != FLUME_SEQ_MAX) log->log.durable_seq = since;
  flume__log_unlock(&log->log);
}

/* Takes what there is, records first: deletes are of records that are there. What was taken before damage is shown. 1:
 * there is more. */
static int take(struct flume_follow *follow, const struct flume_bound *bound, struct flume_err *err) {
  struct file_log *log = log_of(follow);
  int taken = take_all(log, bound, FLUME_FOLLOW_BYTES, err);
  int rv = taken < 0 ? 0 : sync_if_passed_on(follow, bound, err);
  if (rv != 0) return rv;
  publish(log, bound);
  if (taken != 0) return taken;
  flume__log_lock(&log->log);
  rv = flume__file_deleted_follow(log, bound->watermark.deleted_end_off, err);
  flume__log_unlock(&log->log);
  return rv;
}

/* Whether files may have been replaced since it was last asked. */
static bool take_names_changed(struct flume_follow *follow) {
  flume__log_lock(follow->log);
  bool changed = follow->names_changed;
  follow->names_changed = false;
  flume__log_unlock(follow->log);
  return changed;
}

/* The names come last: a segment that is not read to its end may be replaced too, but only once it is sealed. 1: there
 * is more to see. */
static int look(struct flume_follow *follow, struct flume_err *err) {
  assert(!log_of(follow)->draining && !flume__log_is_locked(follow->log));
  struct flume_bound bound;
  uint64_t file_bytes;
  int rv = flume_follow_bound(follow, &bound, err);
  if (rv == 0) rv = measure(log_of(follow), &file_bytes, err);
  if (rv == 0) rv = flume_follow_check(follow, &bound, err);
  if (rv == 0 && !bound.unknown) rv = take(follow, &bound, err);
  if (rv != 0 || !take_names_changed(follow)) return rv;
  return check_names(log_of(follow), err);
}

/* --- Beginning and ending ------------------------------------------------------------------------------------- */

/* Without a writer, or beside one that has not written its high watermark yet: every whole frame is kept. */
static int recover_whole(struct file_log *log, struct flume_err *err) {
  struct flume_segment *active = flume__file_active(log);
  struct flume_damage damage;
  struct flume_err why;
  int rv = flume_segment_load(active, &damage, &why);
  if (rv == FLUME_ECORRUPT && damage.why != NULL && damage.torn) rv = 0;
  if (rv == 0) rv = sync_file(active, &why);
  if (rv != 0 && err != NULL) *err = why;
  return rv;
}

static int recover_acknowledged(struct flume_follow *follow, const struct flume_bound *bound, struct flume_err *err) {
  struct flume_segment *active = flume__file_active(log_of(follow));
  assert(active->file >= 0 && bound->alive && !bound->unknown);
  active->next_seq = active->first_seq;
  active->end_off = active->data_end_off = FLUME_SEGMENT_HEADER_BYTES;
  active->ended = false;
  active->loaded = true;
  int rv;
  while ((rv = take_all(log_of(follow), bound, SIZE_MAX, err)) > 0) continue;
  return rv == 0 ? sync_if_passed_on(follow, bound, err) : rv;
}

/* What looks like damage may come of a writer that has just begun, and cuts the file while it is read. */
int flume__file_follow_recover(struct flume_follow *follow, struct flume_err *err) {
  int rv = 0;
  for (int i = 0; i < FLUME_FOLLOW_ATTEMPTS; i++) {
    struct flume_bound bound;
    rv = flume_follow_bound(follow, &bound, err);
    if (rv != 0) return rv;
    if (bound.alive && !bound.unknown) return recover_acknowledged(follow, &bound, err);
    rv = recover_whole(log_of(follow), err);
    if (rv != FLUME_ECORRUPT) return rv;
  }
  return rv;
}

int flume__file_follow_deletes(struct flume_follow *follow, struct flume_err *err) {
  assert(flume__log_is_locked(follow->log));
  struct flume_bound bound;
  int rv = flume__follow_bound_locked(follow, &bound, err);
  return rv == 0 ? flume__file_deleted_follow(log_of(follow), bound.watermark.deleted_end_off, err) : rv;
}

static void on_closed(struct flume_follow *follow) {
  flume__file_drained(log_of(follow));
}

int flume__file_follow_new(struct file_log *log, uint32_t poll_ms, struct flume_err *err) {
  struct flume_follow *follow = flume_io_zalloc(log->log.io, sizeof *follow);
  if (follow == NULL) return flume_err_nomem(err);
  flume_follow_init(follow, &log->log, poll_ms);
  follow->run = look;
  follow->closed = on_closed;
  log->follow = follow;
  return 0;
}

void flume__file_follow_free(struct file_log *log) {
  if (log->follow == NULL) return;
  flume_follow_fini(log->follow);
  flume_io_free(log->log.io, log->follow);
  log->follow = NULL;
}
