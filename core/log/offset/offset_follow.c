/* A follower of an offset log; file_follow.c says what may be shown beside a writer, and without one.
 *
 * Happy path: flume's writer appends to the file, syncs it, and puts the last seq into the high watermark; the file event of
 * that wakes the follower, which reads the high watermark, then the records up to it. A program in JavaScript appends to
 * the file alone, and takes no lock: then every whole record counts, and is synced before it is shown. Such a program
 * writes each batch with one write, so the beginning of a batch may be there alone.
 *
 * A record that is not whole yet is left until there is more of it; a follower never cuts it.
 *
 * Deletes are read from the file "deleted", whose frames are on disk before a record is overwritten. A record that another
 * program overwrites after it was read is found by whoever reads it again, and by views when the log is opened next: no
 * event tells which record it was.
 *
 * Failures: as those of a file log.
 *
 * Invariants: records are found into an index of their own, and get into the log's index with the lock held. */
#include "log/offset/offset_follow.h"

#include <assert.h>

#include "base/err.h"

static struct flume_offset_follow *own(struct flume_follow *follow) {
  return FLUME_CONTAINER_OF(follow, struct flume_offset_follow, follow);
}

static struct offset_log *log_of(const struct flume_offset_follow *follow) {
  return (struct offset_log *)follow->follow.log;
}

int flume__offset_follow_bound(struct offset_log *log, struct flume_bound *bound, struct flume_err *err) {
  return flume_follow_bound(&log->follow->follow, bound, err);
}

int flume__offset_follow_holds(struct offset_log *log, const struct flume_bound *bound, struct flume_err *err) {
  return flume_follow_bound_holds(&log->follow->follow, bound, err);
}

int flume__offset_follow_sync(struct offset_log *log, struct flume_err *err) {
  return flume_follow_sync(log->log.io, log->file->file, log->file->path, err);
}

/* --- What is beside the file ---------------------------------------------------------------------------------- */

static void on_change_beside(struct flume_dir_watch *watch, enum flume_dir_change change) {
  struct flume_offset_follow *follow = watch->data;
  flume_follow_changed(&follow->follow, change);
}

/* A reader makes no directory; the first writer of flume's does, and then writes to the file. */
static void watch_beside(struct flume_offset_follow *follow) {
  struct flume_log *log = follow->follow.log;
  if (follow->watches_beside || follow->follow.watch.poll_ms > 0) return;
  if (log->io->has_events(log->io->ctx, log->dir) == UV_ENOENT) return;
  follow->watches_beside = true;
  follow->beside.cb = on_change_beside;
  follow->beside.data = follow;
  flume_dir_watch_open(&follow->beside, log->loop, log->io, log->dir, 0);
}

/* The superblock says which log this is, and how far it is on disk. There is none before flume's first writer. */
static int read_superblock(struct offset_log *log, struct flume_err *err) {
  uint8_t id[sizeof log->log.id];
  uint32_t noted_bits = log->superblock_bits;
  memcpy(id, log->log.id, sizeof id);
  int rv = flume__offset_superblock_load(log, err);
  if (rv != 0 || noted_bits == 0 || memcmp(id, log->log.id, sizeof id) == 0) return rv;
  return flume_err_set(err, FLUME_ECORRUPT, "%s: the log was replaced by another while it was being read",
                       log->file->path);
}

static int read_bound(struct flume_offset_follow *follow, struct flume_bound *bound, struct flume_err *err) {
  struct flume_log *log = follow->follow.log;
  int rv = flume_follow_bound(&follow->follow, bound, err);
  if (rv != 0 || (bound->alive && !bound->unknown)) return rv;
  flume__log_lock(log);
  rv = read_superblock(log_of(follow), err);
  flume__log_unlock(log);
  return rv == 0 ? flume_follow_bound(&follow->follow, bound, err) : rv;
}

/* --- Records -------------------------------------------------------------------------------------------------- */

/* The file must be the same, and no shorter than what was read of it. */
static int measure(const struct offset_log *log, uint64_t *size, struct flume_err *err) {
  const struct flume_io *io = log->log.io;
  const char *path = log->file->path;
  int rv = io->is_at(io->ctx, log->file->file, path);
  if (rv < 0) return flume_err_set(err, rv, "%s: the log was removed: %s", path, flume_strerror(rv));
  if (rv == 0) {
    return flume_err_set(err, FLUME_ECORRUPT, "%s: byte 0: the log was replaced by another while it was being read",
                         path);
  }
  int64_t bytes = io->size(io->ctx, log->file->file);
  if (bytes < 0) return flume_err_set(err, (int)bytes, "reading %s: %s", path, flume_strerror((int)bytes));
  *size = (uint64_t)bytes;
  if (*size >= log->data_end_off) return 0;
  return flume_err_set(err, FLUME_ECORRUPT,
                       "%s: byte %lld: the file is shorter than what was read of it (up to seq %lld)", path,
                       (long long)bytes, (long long)flume__offset_last_seq(log));
}

int flume__offset_ends_early(const struct offset_log *log, const struct flume_offset_scan *scan, int64_t since,
                             struct flume_err *err) {
  bool at_end = scan->off == scan->window.file_bytes;
  return flume_err_set(err, FLUME_ECORRUPT, "%s: byte %llu: the log was acknowledged up to seq %lld, but here %s",
                       log->file->path, (unsigned long long)scan->off, (long long)since,
                       at_end ? "it ends" : scan->why);
}

/* What is no record and lies within the file may have been read while it was written: so it is read once more. */
static int check_stuck(struct flume_offset_follow *follow, struct flume_offset_scan *scan, struct flume_err *err) {
  struct offset_log *log = log_of(follow);
  if (scan->off == scan->window.file_bytes || follow->searched_bytes == scan->window.file_bytes) return 0;
  flume_window_forget(&scan->window);
  int rv = flume__offset_scan_records(log, scan, err);
  if (rv != 0) return rv;
  follow->searched_bytes = scan->window.file_bytes;
  return flume__offset_check_tail(log, scan, err);
}

/* The seq of the last record: what was scanned is not in the log's index yet. */
static int64_t last_found(const struct offset_log *log, const struct flume_offset_scan *scan) {
  const struct flume_offset_index *index = scan->index;
  return index->count > 0 ? (int64_t)flume_offset_index_at(index, index->count - 1) : flume__offset_last_seq(log);
}

/* Records as far as the bound goes: 1 when there are more. */
static int scan(struct flume_offset_follow *follow, struct flume_offset_scan *scan, const struct flume_bound *bound,
                struct flume_err *err) {
  struct offset_log *log = log_of(follow);
  scan->acknowledged = bound->alive;
  scan->last_seq = bound->watermark.since;
  scan->until_off = scan->off + FLUME_FOLLOW_BYTES;
  scan->window.step_bytes = 4096; /* most of the time it is little that is new */
  if (log->index.count == 0 && scan->index->count == 0) {
    int rv = flume__offset_choose_bits(log, &scan->window, 0, err);
    if (rv != 0) return rv;
  }
  int rv = flume__offset_scan_records(log, scan, err);
  if (rv < 0) return rv;
  if (rv == 1) return (int64_t)scan->off <= scan->last_seq;
  if (bound->watermark.since == FLUME_SEQ_MAX) return bound->alive ? 0 : check_stuck(follow, scan, err);
  if (last_found(log, scan) >= bound->watermark.since) return 0;
  return flume__offset_ends_early(log, scan, bound->watermark.since, err);
}

/* --- Deletes -------------------------------------------------------------------------------------------------- */

int flume__offset_take_gone(struct offset_log *log, struct flume_err *err) {
  assert(log->log.readonly && log->gone_taken <= log->deleted.seqs.deleted.count);
  const struct flume_tombstones *deleted = &log->deleted.seqs.deleted;
  if (flume_tombstones_reserve(&log->gone, deleted->count) != 0) return flume_err_nomem(err);
  for (; log->gone_taken < deleted->count; log->gone_taken++) {
    int64_t seq = deleted->order[log->gone_taken];
    if (seq >= 0) flume_tombstones_add(&log->gone, seq);
    else flume_tombstones_add_unknown(&log->gone);
  }
  return 0;
}

static int take_deletes(struct offset_log *log, const struct flume_bound *bound, struct flume_err *err) {
  int rv = flume__offset_set_follow(log, &log->deleted, bound->watermark.deleted_end_off, err);
  return rv == 0 ? flume__offset_take_gone(log, err) : rv;
}

/* New records of zeros: those that stand in the file "zeros" are what they are, the others were deleted by another
 * program. Beside a writer that would be its own doing, of which the file "deleted" will tell. */
static int take_zeros(struct offset_log *log, const struct flume_offset_scan *scan, const struct flume_bound *bound,
                      struct flume_err *err) {
  size_t count;
  const int64_t *found = flume__offset_scan_zeros(scan, &count);
  if (count == 0) return 0;
  struct flume_offset_set listed;
  flume__offset_set_init(&listed, log->log.io, "zeros");
  int rv = flume__offset_set_load(log, &listed, UINT64_MAX, err);
  if (rv == 0 && (flume_tombstones_reserve(&log->zeros.seqs.deleted, count) != 0 ||
                  flume_tombstones_reserve(&log->gone, count) != 0)) {
    rv = flume_err_nomem(err);
  }
  for (size_t i = 0; i < count && rv == 0; i++) {
    if (flume_tombstones_has(&listed.seqs.deleted, found[i])) {
      flume_tombstones_add(&log->zeros.seqs.deleted, found[i]);
    } else if (!bound->alive) {
      flume_tombstones_add(&log->gone, found[i]);
    }
  }
  flume__offset_set_fini(&listed, log->log.io);
  return rv;
}

/* --- Looking -------------------------------------------------------------------------------------------------- */

/* The records that were found, and nothing when there is no memory for them. */
static int take_found(struct offset_log *log, const struct flume_offset_scan *found) {
  assert(flume__log_is_locked(&log->log));
  int rv = flume_offset_index_reserve(&log->index, found->index->count);
  for (uint64_t i = 0; i < found->index->count && rv == 0; i++) {
    rv = flume_offset_index_add(&log->index, flume_offset_index_at(found->index, i));
  }
  return rv;
}

static int publish(struct offset_log *log, const struct flume_offset_scan *found, const struct flume_bound *bound,
                   struct flume_err *err) {
  assert(flume__log_is_locked(&log->log) && found->off >= log->data_end_off);
  if (take_found(log, found) != 0) return flume_err_nomem(err);
  int64_t since = flume__offset_last_seq(log);
  log->end_off = log->data_end_off = log->next_off = found->off;
  flume_obv_set(&log->log.since, since);
  if (!bound->alive || bound->watermark.since != FLUME_SEQ_MAX) log->log.durable_seq = since;
  return 0;
}

/* The writer who acknowledged what is written, synced or not, may have been followed by another writer meanwhile. */
static int sync_if_passed_on(struct flume_offset_follow *follow, const struct flume_bound *bound,
                             struct flume_err *err) {
  if (!bound->alive || bound->watermark.since != FLUME_SEQ_MAX) return 0;
  int rv = flume_follow_bound_holds(&follow->follow, bound, err);
  if (rv == 0) rv = flume__offset_follow_sync(log_of(follow), err);
  return rv < 0 ? rv : 0;
}

/* Records first: deletes are of records that are there. What was found before damage is shown. */
static int take_found_and_deletes(struct offset_log *log, const struct flume_offset_scan *found, bool whole,
                                  const struct flume_bound *bound, struct flume_err *err) {
  int rv = publish(log, found, bound, err);
  if (rv == 0 && whole) rv = take_deletes(log, bound, err);
  if (rv == 0 && whole) rv = take_zeros(log, found, bound, err);
  flume_obv_set(&log->log.deletions, (int64_t)log->gone.count);
  return rv;
}

/* Takes what there is. 1: there is more. */
static int take(struct flume_offset_follow *follow, uint64_t size, const struct flume_bound *bound,
                struct flume_err *err) {
  struct offset_log *log = log_of(follow);
  struct flume_offset_scan found;
  struct flume_offset_index index;
  if (!bound->alive && size > log->data_end_off) {
    int rv = flume__offset_follow_sync(log, err);
    if (rv != 0) return rv;
  }
  flume_offset_index_init(&index, log->log.io);
  flume__offset_scan_init(&found, log, size);
  found.index = &index;
  int more = scan(follow, &found, bound, err);
  int rv = more < 0 ? 0 : sync_if_passed_on(follow, bound, err);
  if (rv == 0) {
    flume__log_lock(&log->log);
    rv = take_found_and_deletes(log, &found, more >= 0, bound, err);
    flume__log_unlock(&log->log);
  }
  flume__offset_scan_fini(&found);
  flume_offset_index_fini(&index);
  return rv == 0 ? more : rv;
}

/* What was wrong may come of a writer that has begun meanwhile, or of a program that cuts a torn record: then a second look
 * is due. */
static int look_again(struct flume_offset_follow *follow, uint64_t size, const struct flume_bound *bound, int rv) {
  struct offset_log *log = log_of(follow);
  if (rv != FLUME_ECORRUPT) return rv;
  if (flume_follow_bound_holds(&follow->follow, bound, NULL) != 1) return 1;
  int64_t now = log->log.io->size(log->log.io->ctx, log->file->file);
  return now >= (int64_t)log->data_end_off && now < (int64_t)size ? 1 : rv;
}

static int look(struct flume_follow *base, struct flume_err *err) {
  struct flume_offset_follow *follow = own(base);
  assert(!log_of(follow)->draining && !flume__log_is_locked(base->log));
  struct flume_bound bound;
  uint64_t size = 0;
  watch_beside(follow);
  int rv = read_bound(follow, &bound, err);
  flume__log_lock(base->log);
  base->names_changed = false;
  flume__log_unlock(base->log);
  if (rv == 0) rv = measure(log_of(follow), &size, err);
  if (rv == 0) rv = flume_follow_check(base, &bound, err);
  if (rv != 0 || bound.unknown) return rv;
  return look_again(follow, size, &bound, take(follow, size, &bound, err));
}

/* --- Beginning and ending ------------------------------------------------------------------------------------- */

bool flume__offset_follow_closed(const struct flume_offset_follow *follow) {
  return follow->follow.watch.open_handles == 0 && follow->beside.open_handles == 0;
}

static void on_closed(struct flume_follow *follow) {
  flume__offset_drained((struct offset_log *)follow->log);
}

static void on_beside_closed(struct flume_dir_watch *watch) {
  struct flume_offset_follow *follow = watch->data;
  flume__offset_drained(log_of(follow));
}

int flume__offset_follow_new(struct offset_log *log, uint32_t poll_ms, struct flume_err *err) {
  struct flume_offset_follow *follow = flume_io_zalloc(log->log.io, sizeof *follow);
  if (follow == NULL) return flume_err_nomem(err);
  flume_follow_init(&follow->follow, &log->log, poll_ms);
  follow->follow.run = look;
  follow->follow.closed = on_closed;
  log->follow = follow;
  return 0;
}

void flume__offset_follow_free(struct offset_log *log) {
  if (log->follow == NULL) return;
  flume_follow_fini(&log->follow->follow);
  flume_io_free(log->log.io, log->follow);
  log->follow = NULL;
}

void flume__offset_follow_start(struct flume_offset_follow *follow) {
  flume_follow_start(&follow->follow, log_of(follow)->file->path);
}

void flume__offset_follow_close(struct flume_offset_follow *follow) {
  flume_follow_close(&follow->follow);
  if (follow->watches_beside) flume_dir_watch_close(&follow->beside, on_beside_closed);
}
