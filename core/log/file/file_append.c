/* The commits of a file log; see log/group_commit.h for how they come about.
 *
 * Happy path: a data commit is one frame of records, written behind the active segment's last one; in front of it, when
 * that segment is full, the next one is begun. The records are published with their offsets.
 *
 * One commit is one frame on purpose: with sync = "always" a crash then leaves at most one bad frame, the last one, and
 * recovery can tell it from damage.
 *
 * Invariants: the high watermark is written when the records are as safe as the sync mode makes them, and before anyone is
 * told. A segment is synced before the next one is begun, and deletes are written once their records are on disk. */
#include <assert.h>

#include "base/err.h"
#include "log/file/file_follow.h"

#define ZERO_AHEAD_BYTES (1u << 20)       /* written at a time */
#define ZERO_AHEAD_MAX_FRAME (128u << 10) /* for larger frames it does not pay */

static struct file_commit *own(struct flume_commit *commit) {
  return (struct file_commit *)commit;
}

static struct flume_commit *commit_alloc(struct flume_group *group) {
  return flume_io_zalloc(group->log->io, sizeof(struct file_commit));
}

static void commit_free(struct flume_commit *base) {
  const struct flume_io *io = base->group->log->io;
  flume_buf_fini(&base->bytes);
  flume_io_free(io, own(base)->offsets);
  flume_io_free(io, base);
}

static void commit_release(struct flume_commit *base) {
  struct file_commit *commit = own(base);
  if (commit->segment != NULL) flume_segment_unref(commit->segment);
  commit->segment = NULL;
}

static void commit_begin(struct flume_commit *base) {
  struct file_commit *commit = own(base);
  int64_t next_seq = flume__commit_log(commit)->next_seq;
  assert(commit->segment == NULL);
  commit->roll = commit->was_ended = false;
  commit->first_seq = next_seq;
  base->last_seq = next_seq - 1;
}

/* --- Taking records ------------------------------------------------------------------------------------------ */

static int commit_reserve(struct file_commit *commit, size_t bytes, size_t count) {
  struct flume_commit *base = &commit->base;
  if (base->bytes.len == 0) bytes += FLUME_FRAME_HEADER_BYTES;
  int rv = flume_buf_reserve(&base->bytes, bytes);
  if (rv != 0) return rv;
  if (commit->offsets_cap - base->count >= count) return 0;
  size_t cap = commit->offsets_cap > 0 ? commit->offsets_cap : 64;
  while (cap - base->count < count) cap *= 2;
  uint32_t *offsets = flume_io_realloc(base->bytes.io, commit->offsets, cap * sizeof *offsets);
  if (offsets == NULL) return FLUME_ENOMEM;
  commit->offsets = offsets;
  commit->offsets_cap = (uint32_t)cap;
  return 0;
}

static int commit_take(struct flume_commit *base, const struct flume_slice *records, size_t count,
                       struct flume_err *err) {
  struct file_commit *commit = own(base);
  struct file_log *log = flume__commit_log(commit);
  assert(log->next_seq == commit->first_seq + base->count);
  size_t bytes = 0;
  for (size_t i = 0; i < count; i++) bytes += records[i].len + FLUME_RECORD_HEADER_BYTES;
  if (commit_reserve(commit, bytes, count) != 0) return flume_err_nomem(err);
  if (base->bytes.len == 0) base->bytes.len = FLUME_FRAME_HEADER_BYTES;
  uint8_t *out = base->bytes.data + base->bytes.len;
  flume_records_put(out, (uint32_t)base->bytes.len, records, count, log->next_seq, commit->offsets + base->count);
  base->bytes.len += bytes;
  base->count += (uint32_t)count;
  log->next_seq += (int64_t)count;
  base->last_seq = log->next_seq - 1;
  return 0;
}

/* --- On the commit thread ------------------------------------------------------------------------------------- */

/* Zeros in front of small frames: a sync then has no new file size to write (measured: 1.5 to 1.75 times as many
 * durable appends). A full disk fails the write that needs the room, and not the zeros: their room is given back. */
static void zero_ahead(struct file_commit *commit) {
  static const uint8_t zeros[ZERO_AHEAD_BYTES];
  struct flume_segment *segment = commit->segment;
  const struct flume_io *io = segment->io;
  uint64_t end = segment->end_off + commit->base.bytes.len;
  if (commit->base.group->sync != FLUME_SYNC_ALWAYS || commit->base.bytes.len > ZERO_AHEAD_MAX_FRAME) return;
  if (end <= segment->zeroed_off || segment->no_room_ahead) return;
  if (flume_io_write_full(io, segment->file, zeros, sizeof zeros, end) == 0) {
    segment->zeroed_off = end + sizeof zeros;
    return;
  }
  segment->no_room_ahead = true;
  io->truncate(io->ctx, segment->file, segment->end_off); /* fails: the zeros do no harm */
}

static int write_frame(struct file_commit *commit) {
  struct file_log *log = flume__commit_log(commit);
  struct flume_segment *segment = commit->segment;
  struct flume_buf *bytes = &commit->base.bytes;
  const struct flume_io *io = log->log.io;
  struct flume_frame frame = {.kind = FLUME_FRAME_DATA,
                              .count = commit->base.count,
                              .body_bytes = (uint32_t)(bytes->len - FLUME_FRAME_HEADER_BYTES),
                              .first_seq = commit->first_seq,
                              .time_ms = io->now_ms(io->ctx),
                              .durable_off = segment->durable_off};
  struct flume_place place = {segment->log_id, segment->first_seq, segment->end_off};
  assert(segment->durable_off <= segment->end_off);
  flume_frame_put(bytes->data, &frame, &place);
  zero_ahead(commit);
  int rv = flume_io_write_full(io, segment->file, bytes->data, bytes->len, segment->end_off);
  if (rv != 0) return flume_err_set(&commit->base.err, rv, "writing %s: %s", segment->path, flume_strerror(rv));
  segment->end_off += bytes->len;
  return 0;
}

static int commit_sync(struct flume_commit *base) {
  struct flume_segment *segment = own(base)->segment;
  int rv = flume__log_sync_file(base->group->log, segment->file);
  if (rv != 0) return flume_err_set(&base->err, rv, "syncing %s: %s", segment->path, flume_strerror(rv));
  segment->durable_off = segment->end_off;
  return 0;
}

/* Happy path: settle the segment, make the next one, seal the segment. So a sealed segment has a successor, and one
 * that is missing is noticed; a crash in between leaves a successor without records, and opening seals what is before
 * it. */
static int roll_segment(struct file_commit *commit) {
  struct flume_err *err = &commit->base.err;
  int rv = flume_segment_settle(commit->segment, err);
  if (rv != 0) return rv;
  struct file_log *log = flume__commit_log(commit);
  struct flume_segment *next = flume_segment_new(log->log.io, log->log.dir, commit->first_seq);
  if (next == NULL) return flume_err_nomem(err);
  rv = flume_segment_reserve(next, commit->base.count) != 0 ? flume_err_nomem(err) : 0;
  if (rv == 0) rv = flume_segment_create(next, log->log.dir, log->log.id, err);
  if (rv == 0) rv = flume_segment_seal(commit->segment, err);
  if (rv != 0) {
    flume_segment_unref(next);
    return rv;
  }
  assert(commit->segment->sealed && commit->segment->next_seq == next->first_seq);
  flume_segment_unref(commit->segment);
  commit->segment = next;
  return 0;
}

static int end_segment(struct file_commit *commit) {
  return flume_segment_end(commit->segment, &commit->base.err);
}

/* The file with the newest records is synced on the way: no other thread may do so meanwhile. */
static int run_syncing(struct file_commit *commit, int (*step)(struct file_commit *commit)) {
  struct flume_log *log = commit->base.group->log;
  int rv = flume__log_sync_begin(log);
  if (rv == 0) return flume__log_sync_end(log, step(commit));
  return flume_err_set(&commit->base.err, rv, "syncing %s: %s", commit->segment->path, flume_strerror(rv));
}

static int commit_write(struct flume_commit *base) {
  struct file_commit *commit = own(base);
  int rv = commit->roll ? run_syncing(commit, roll_segment) : 0;
  return rv == 0 ? write_frame(commit) : rv;
}

/* Tells followers what is acknowledged now. */
static int tell(struct file_commit *commit) {
  struct file_log *log = flume__commit_log(commit);
  struct flume_lock_file *lock = &log->log.lock_file;
  lock->watermark.deleted_end_off = log->deletions.end_off;
  return flume__watermark_tell(lock, log->log.id, &commit->base.err);
}

static int commit_tell(struct flume_commit *base) {
  base->group->log->lock_file.watermark.since = base->last_seq;
  return tell(own(base));
}

/* Deletes are never on disk before their records: they would hit the next ones with their seqs. */
static int write_deletes(struct file_commit *commit) {
  int rv = commit->base.group->sync != FLUME_SYNC_ALWAYS ? commit_sync(&commit->base) : 0;
  if (rv == 0) rv = flume__file_deleted_write(commit);
  return rv == 0 ? tell(commit) : rv;
}

static int end(struct file_commit *commit) {
  int rv = commit->was_ended ? 0 : run_syncing(commit, end_segment);
  if (rv == 0) rv = flume__file_deleted_end(commit);
  return rv == 0 ? commit_tell(&commit->base) : rv;
}

static int commit_run(struct flume_commit *base) {
  struct file_commit *commit = own(base);
  if (base->kind == FLUME_COMMIT_DELETE) return write_deletes(commit);
  if (base->kind == FLUME_COMMIT_END) return end(commit);
  assert(base->kind == FLUME_COMMIT_ROLL);
  return commit->roll ? run_syncing(commit, roll_segment) : 0;
}

/* --- On the loop thread ---------------------------------------------------------------------------------------- */

static void publish_roll(struct file_log *log, struct file_commit *commit) {
  if (!commit->roll) return;
  assert(commit->segment->first_seq == flume__file_active(log)->next_seq);
  flume__segments_loaded(&log->segments, flume__file_active(log));
  flume__segments_add(&log->segments, flume_segment_ref(commit->segment));
}

/* The records of a written frame are in the file: they get their offsets and are seen by readers. */
static void publish_records(struct file_log *log, struct file_commit *commit) {
  struct flume_segment *segment = commit->segment;
  uint32_t count = commit->base.count;
  assert(segment == flume__file_active(log) && segment->next_seq == commit->first_seq);
  assert(commit->base.last_seq == commit->first_seq + count - 1);
  uint32_t frame_off = (uint32_t)(segment->end_off - commit->base.bytes.len);
  uint32_t *offsets = segment->offsets + (segment->next_seq - segment->first_seq);
  for (uint32_t i = 0; i < count; i++) offsets[i] = frame_off + commit->offsets[i];
  segment->next_seq += count;
  segment->data_end_off = segment->end_off;
  segment->ended = false;
  flume_obv_set(&log->log.since, segment->next_seq - 1);
}

static void commit_publish(struct flume_commit *base) {
  struct file_commit *commit = own(base);
  struct file_log *log = flume__commit_log(commit);
  assert(flume__log_is_locked(&log->log));
  if (base->status != 0) return;
  if (base->kind == FLUME_COMMIT_DATA || base->kind == FLUME_COMMIT_ROLL) publish_roll(log, commit);
  if (base->kind == FLUME_COMMIT_DATA) publish_records(log, commit);
  if (base->kind == FLUME_COMMIT_DELETE) flume__file_deleted_publish(commit);
}

static void group_rewind(struct flume_group *group) {
  ((struct file_log *)group->log)->next_seq = group->log->since.value + 1;
}

static void group_drained(struct flume_group *group) {
  flume__file_drained((struct file_log *)group->log);
}

/* Everything that the commit needs and that could fail for want of memory, before it goes. */
static int reserve(struct file_log *log, struct file_commit *commit, const struct flume_segment *active) {
  struct flume_commit *base = &commit->base;
  if (base->kind == FLUME_COMMIT_DELETE) return flume__commit_reserve_deletes(base, &log->deletions.deleted);
  if (base->kind != FLUME_COMMIT_DATA && base->kind != FLUME_COMMIT_ROLL) return 0;
  bool full = base->kind == FLUME_COMMIT_ROLL || active->end_off + base->bytes.len > log->segment_bytes;
  commit->roll = active->next_seq > active->first_seq && full;
  return commit->roll ? flume__segments_reserve(&log->segments) : flume_segment_reserve(commit->segment, base->count);
}

/* A reader must not be the one to load the active segment while the commit is at it: only an end commit leaves it
 * unloaded, and then has nothing to do with it. */
static int prepare(struct file_log *log, struct file_commit *commit) {
  struct flume_segment *active = flume__file_active(log);
  struct flume_err *err = &commit->base.err;
  assert(flume__log_is_locked(&log->log) && commit->segment == NULL);
  commit->segment = flume_segment_ref(active);
  commit->was_ended = commit->base.kind == FLUME_COMMIT_END && !active->loaded;
  assert(!commit->was_ended || active->ended);
  int rv = active->loaded || commit->was_ended ? 0 : flume__file_load_active(log, err);
  if (rv != 0) return rv;
  if (active->synced_off > active->durable_off) active->durable_off = active->synced_off;
  return reserve(log, commit, active) == 0 ? 0 : flume_err_nomem(err);
}

static int commit_prepare(struct flume_commit *base) {
  struct file_log *log = flume__commit_log(own(base));
  flume__log_lock(&log->log);
  int rv = prepare(log, own(base));
  flume__log_unlock(&log->log);
  return rv == 0 ? flume__file_settle_active(log, &base->err) : rv;
}

const struct flume_group_ops flume__file_group = {
    .alloc = commit_alloc,
    .free = commit_free,
    .release = commit_release,
    .begin = commit_begin,
    .take = commit_take,
    .prepare = commit_prepare,
    .write = commit_write,
    .sync = commit_sync,
    .tell = commit_tell,
    .run = commit_run,
    .publish = commit_publish,
    .rewind = group_rewind,
    .drained = group_drained,
};

/* The newest records are in the active segment; a segment is synced before the next one is begun. The reference keeps
 * the file open should it be rolled meanwhile. */
int flume__file_sync_now(struct flume_log *base, struct flume_err *err) {
  struct file_log *log = (struct file_log *)base;
  flume__log_lock(base);
  struct flume_segment *segment = flume_segment_ref(flume__file_active(log));
  int64_t since = base->since.value;
  uint64_t data_end_off = segment->data_end_off;
  flume__log_unlock(base);
  int rv;
  if (base->readonly) {
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
