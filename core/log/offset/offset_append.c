/* The commits of an offset log; see log/group_commit.h for how they come about.
 *
 * Happy path: a data commit is a run of framed records, written behind the file's end. The format has no frames of
 * batches: a crash may leave the first records of a batch that was not acknowledged.
 *
 * Deleting: the seqs are written to the file "deleted" of PATH.flume, and synced; then the records are overwritten with
 * zeros. Opening the log finishes what a crash interrupted.
 *
 * Failures, beside those of every group commit:
 *
 * - The file has another length than it should: another program writes to it. The commit fails, and the log takes no more
 *   appends.
 * - The pointers of the file reach no further: the append is refused with FLUME_E2BIG, and the log goes on.
 *
 * Invariants: the superblock allows for what is written before it is written (offset_superblock.c). Deletes are written
 * once their records are on disk. */
#include <assert.h>
#include <stdlib.h>

#include "base/err.h"
#include "log/offset/offset_follow.h"

#define AHEAD_BYTES (16u << 20) /* by which the superblock's limit is raised */

static struct offset_commit *own(struct flume_commit *commit) {
  return (struct offset_commit *)commit;
}

static struct offset_log *log_of(const struct offset_commit *commit) {
  return (struct offset_log *)commit->base.group->log;
}

static struct flume_commit *commit_alloc(struct flume_group *group) {
  struct offset_commit *commit = flume_io_zalloc(group->log->io, sizeof *commit);
  if (commit == NULL) return NULL;
  flume_buf_init(&commit->zeros, group->log->io);
  return &commit->base;
}

static void commit_free(struct flume_commit *base) {
  flume_buf_fini(&base->bytes);
  flume_buf_fini(&own(base)->zeros);
  flume_io_free(base->group->log->io, base);
}

static void commit_release(struct flume_commit *base) {
  (void)base; /* its buffers are used again */
}

static void commit_begin(struct flume_commit *base) {
  struct offset_commit *commit = own(base);
  commit->zeros.len = 0;
  commit->zeros_count = 0;
  commit->deletes_durable = false;
  commit->first_off = log_of(commit)->next_off;
  base->last_seq = base->group->log->since.value;
}

/* --- Taking records ------------------------------------------------------------------------------------------ */

/* Notes that a record is all zeros: such a one counts as deleted unless it stands in the file "zeros". */
static int take_zero(struct offset_commit *commit, uint64_t off) {
  int rv = flume_deletions_reserve(&commit->zeros, (size_t)commit->zeros_count + 1);
  if (rv != 0) return rv;
  commit->zeros.len = 0;
  flume_put_le64(flume_deletions_seq(&commit->zeros, commit->zeros_count), off);
  commit->zeros.len = (size_t)(flume_deletions_seq(&commit->zeros, commit->zeros_count + 1) - commit->zeros.data);
  commit->zeros_count++;
  return 0;
}

static int take_records(struct offset_commit *commit, const struct flume_slice *records, size_t count) {
  struct offset_log *log = log_of(commit);
  assert(commit->first_off + commit->base.bytes.len == log->next_off);
  struct flume_commit *base = &commit->base;
  enum flume_offset_bits bits = log->file->bits;
  uint32_t zeros_before = commit->zeros_count;
  size_t bytes = 0;
  for (size_t i = 0; i < count; i++) bytes += records[i].len + flume_offset_framing_bytes(bits);
  int rv = flume_buf_reserve(&base->bytes, bytes);
  uint64_t off = log->next_off, last_off = off;
  uint8_t *out = base->bytes.data + base->bytes.len;
  for (size_t i = 0; i < count && rv == 0; i++) {
    uint8_t *frame = out;
    last_off = off;
    if (flume_offset_is_zero(records[i].data, records[i].len)) rv = take_zero(commit, off);
    out = flume_offset_put(out, records[i], off, bits);
    if (flume_offset_has_hole(frame, (size_t)(out - frame), off)) base->must_sync = true;
    off += (uint64_t)(out - frame);
  }
  if (rv != 0) {
    commit->zeros_count = zeros_before;
    return rv;
  }
  base->bytes.len += bytes;
  base->count += (uint32_t)count;
  base->last_seq = (int64_t)last_off;
  log->next_off = off;
  return 0;
}

/* What the format can hold. */
static int check_room(const struct offset_log *log, const struct flume_slice *records, size_t count,
                      struct flume_err *err) {
  enum flume_offset_bits bits = log->file->bits;
  uint64_t end_off = log->next_off;
  for (size_t i = 0; i < count; i++) end_off += records[i].len + flume_offset_framing_bytes(bits);
  if (end_off <= flume_offset_max(bits)) return 0;
  return flume_err_set(err, FLUME_E2BIG, "%s: byte %llu: its pointers of %d bits reach no further", log->file->path,
                       (unsigned long long)log->next_off, bits);
}

static int commit_take(struct flume_commit *base, const struct flume_slice *records, size_t count,
                       struct flume_err *err) {
  struct offset_commit *commit = own(base);
  int rv = check_room(log_of(commit), records, count, err);
  if (rv != 0) return rv;
  return take_records(commit, records, count) == 0 ? 0 : flume_err_nomem(err);
}

/* --- On a worker thread -------------------------------------------------------------------------------------- */

static int fail(struct offset_commit *commit, const char *doing, int rv) {
  return flume_err_set(&commit->base.err, rv, "%s %s: %s", doing, log_of(commit)->file->path, flume_strerror(rv));
}

/* A program that knows nothing of the lock may have written. */
static int check_end(struct offset_commit *commit) {
  struct offset_log *log = log_of(commit);
  int64_t size = log->log.io->size(log->log.io->ctx, log->file->file);
  if (size < 0) return fail(commit, "measuring", (int)size);
  if ((uint64_t)size == log->end_off) return 0;
  return flume_err_set(&commit->base.err, FLUME_ECORRUPT,
                       "%s: byte %llu: the file should end here, and has %lld bytes: another program writes to it",
                       log->file->path, (unsigned long long)log->end_off, (long long)size);
}

/* Raises the superblock's write limit before anything is written behind it. */
static int raise_limit(struct offset_commit *commit) {
  struct offset_log *log = log_of(commit);
  uint64_t end_off = log->end_off + commit->base.bytes.len;
  if (log->superblock.open && end_off <= log->superblock.limit_off) return 0;
  log->superblock.open = true;
  log->superblock.limit_off = end_off + AHEAD_BYTES;
  return flume__offset_superblock_sync(log, &commit->base.err);
}

static int commit_write(struct flume_commit *base) {
  struct offset_commit *commit = own(base);
  struct offset_log *log = log_of(commit);
  int rv = check_end(commit);
  if (rv == 0) rv = raise_limit(commit);
  if (rv == 0) rv = flume__offset_set_write(log, &log->zeros, &commit->zeros, commit->zeros_count, &commit->base.err);
  if (rv != 0) return rv;
  rv = flume_io_write_full(log->log.io, log->file->file, commit->base.bytes.data, commit->base.bytes.len, log->end_off);
  if (rv != 0) return fail(commit, "writing", rv);
  log->end_off += commit->base.bytes.len;
  return 0;
}

static int sync_file(struct offset_commit *commit) {
  struct offset_log *log = log_of(commit);
  int rv = flume__log_sync_file(&log->log, log->file->file);
  if (rv != 0) return fail(commit, "syncing", rv);
  log->superblock.durable_off = log->end_off;
  return log->superblock.open ? flume__offset_superblock_write(log, &commit->base.err) : 0;
}

/* Tells followers what is acknowledged now. */
static int tell(struct offset_commit *commit) {
  struct offset_log *log = log_of(commit);
  struct flume_lock_file *lock = &log->log.lock_file;
  lock->watermark.deleted_end_off = log->deleted.seqs.end_off;
  return flume__watermark_tell(lock, log->log.id, &commit->base.err);
}

static int commit_tell(struct flume_commit *base) {
  base->group->log->lock_file.watermark.since = base->last_seq;
  return tell(own(base));
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

int flume__offset_zero(struct offset_log *log, uint64_t off) {
  struct flume_offset_file *file = log->file;
  uv_rwlock_wrlock(&file->zeroing);
  int rv = flume__offset_zero_in(log->log.io, file->file, off);
  uv_rwlock_wrunlock(&file->zeroing);
  return rv;
}

static int zero_records(struct offset_commit *commit) {
  int rv = 0;
  for (uint32_t i = 0; i < commit->base.count && rv == 0; i++) {
    rv = flume__offset_zero(log_of(commit), flume_get_le64(flume_deletions_seq(&commit->base.bytes, i)));
  }
  return rv == 0 ? 0 : fail(commit, "overwriting a record of", rv);
}

/* Never on disk before its records: it would hit the next ones with their seqs. */
static int write_deletes(struct offset_commit *commit) {
  assert(commit->base.kind == FLUME_COMMIT_DELETE && !commit->deletes_durable);
  struct offset_log *log = log_of(commit);
  if (commit->base.count == 0) return 0;
  int rv = log->group.sync != FLUME_SYNC_ALWAYS ? sync_file(commit) : 0;
  if (rv == 0)
    rv = flume__offset_set_write(log, &log->deleted, &commit->base.bytes, commit->base.count, &commit->base.err);
  commit->deletes_durable = rv == 0;
  if (rv == 0 && log->superblock.open) rv = flume__offset_superblock_sync(log, &commit->base.err);
  if (rv == 0) rv = zero_records(commit);
  if (rv == 0) rv = sync_file(commit);
  return rv == 0 ? tell(commit) : rv;
}

/* Nothing is under way any more, and all of it is on disk. */
static int close_superblock(struct offset_commit *commit) {
  struct offset_log *log = log_of(commit);
  if (!log->superblock.open) return 0;
  int rv = flume__log_sync_file(&log->log, log->file->file);
  if (rv != 0) return fail(commit, "syncing", rv);
  log->superblock = (struct flume_offset_superblock){.durable_off = log->end_off, .limit_off = log->end_off};
  return flume__offset_superblock_sync(log, &commit->base.err);
}

static int write_end(struct offset_commit *commit) {
  struct offset_log *log = log_of(commit);
  int rv = flume__offset_set_end(log, &log->zeros, &commit->base.err);
  if (rv == 0) rv = flume__offset_set_end(log, &log->deleted, &commit->base.err);
  if (rv == 0) rv = close_superblock(commit);
  return rv == 0 ? commit_tell(&commit->base) : rv;
}

/* A record that looks as if a part of it had not been written is believed only if the superblock on disk vouches for it. */
static int commit_sync(struct flume_commit *base) {
  struct offset_commit *commit = own(base);
  int rv = sync_file(commit);
  return rv == 0 && base->must_sync ? flume__offset_superblock_sync(log_of(commit), &base->err) : rv;
}

static int commit_run(struct flume_commit *base) {
  if (base->kind == FLUME_COMMIT_DELETE) return write_deletes(own(base));
  assert(base->kind == FLUME_COMMIT_END);
  return write_end(own(base));
}

/* --- On the loop thread ------------------------------------------------------------------------------------- */

/* The records are in the file: they are seen by readers. */
static void publish_records(struct offset_log *log, struct offset_commit *commit) {
  assert(flume__log_is_locked(&log->log) && commit->first_off == log->data_end_off);
  uint32_t framing = flume_offset_framing_bytes(log->file->bits);
  uint64_t off = commit->first_off, last_off = off;
  flume__offset_set_publish(&log->zeros, &commit->zeros, commit->zeros_count);
  for (const uint8_t *p = commit->base.bytes.data; off < log->end_off;) {
    uint32_t len = flume_get_be32(p) + framing;
    flume_offset_index_add(&log->index, off); /* room was made for it */
    last_off = off;
    off += len;
    p += len;
  }
  log->data_end_off = log->end_off;
  assert((int64_t)last_off == commit->base.last_seq);
  flume_obv_set(&log->log.since, (int64_t)last_off);
}

static void publish_deletes(struct offset_log *log, const struct offset_commit *commit) {
  flume__offset_set_publish(&log->deleted, &commit->base.bytes, commit->base.count);
  flume_obv_set(&log->log.deletions, (int64_t)log->deleted.seqs.deleted.count);
}

/* The deletes that are on disk count, whatever came of the records. */
static void commit_publish(struct flume_commit *base) {
  struct offset_commit *commit = own(base);
  assert(flume__log_is_locked(base->group->log));
  if (commit->deletes_durable) publish_deletes(log_of(commit), commit);
  if (base->status == 0 && base->kind == FLUME_COMMIT_DATA) publish_records(log_of(commit), commit);
}

static void group_rewind(struct flume_group *group) {
  struct offset_log *log = (struct offset_log *)group->log;
  log->next_off = log->data_end_off;
}

static void group_drained(struct flume_group *group) {
  flume__offset_drained((struct offset_log *)group->log);
}

/* Everything that the commit needs and that could fail for want of memory, before it goes. */
static int prepare(struct offset_log *log, struct offset_commit *commit) {
  struct flume_commit *base = &commit->base;
  assert(flume__log_is_locked(&log->log));
  int rv = 0;
  if (log->synced_off > log->superblock.durable_off) log->superblock.durable_off = log->synced_off;
  if (base->kind == FLUME_COMMIT_END) base->last_seq = log->log.since.value;
  if (base->kind == FLUME_COMMIT_DELETE) rv = flume__commit_reserve_deletes(base, &log->deleted.seqs.deleted);
  if (base->kind == FLUME_COMMIT_DATA) {
    rv = flume_offset_index_reserve(&log->index, base->count);
    if (rv == 0) rv = flume_tombstones_reserve(&log->zeros.seqs.deleted, commit->zeros_count);
  }
  return rv == 0 ? 0 : flume_err_nomem(&base->err);
}

static int commit_prepare(struct flume_commit *base) {
  struct offset_log *log = log_of(own(base));
  flume__log_lock(&log->log);
  int rv = prepare(log, own(base));
  flume__log_unlock(&log->log);
  return rv;
}

const struct flume_group_ops flume__offset_group = {
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

int flume__offset_sync_now(struct flume_log *base, struct flume_err *err) {
  struct offset_log *log = (struct offset_log *)base;
  flume__log_lock(base);
  int64_t since = base->since.value;
  uint64_t data_end_off = log->data_end_off;
  flume__log_unlock(base);
  int rv;
  if (base->readonly) {
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

int flume__offset_del(struct flume_log *base, struct flume_append *req, const int64_t *seqs, size_t count,
                      struct flume_err *err) {
  const struct offset_log *log = (const struct offset_log *)base;
  for (size_t i = 0; i < count; i++) {
    if (flume_offset_index_has(&log->index, (uint64_t)seqs[i])) continue;
    return flume_err_set(err, FLUME_ENOENT, "no record begins at byte %lld", (long long)seqs[i]);
  }
  return flume__group_del(base, req, seqs, count, err);
}
