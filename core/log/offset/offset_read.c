/* Blocks of an offset log: planned with the log's lock held, loaded without it, on any thread.
 *
 * Which records a block has is known from the index when it is planned; loading reads their frames at once, verifies
 * them, and turns them into what a block consists of, where they lie: the eight bytes before a record's own, which are
 * its length and the end of the pointer before it, become its header. Before the first frame four bytes are kept free
 * for that.
 *
 * Failures: a follower may read a record while another process overwrites it with zeros, and get a part of each. Such a
 * record begins or ends with a zero, and is in the file "deleted" already: so it is looked up there. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/path.h"
#include "log/offset/offset_log.h"

#define FREE_BYTES (FLUME_RECORD_HEADER_BYTES - FLUME_OFFSET_LENGTH_BYTES)

struct offset_block {
  struct flume_block block;
  struct flume_block_gaps gaps;
  struct flume_offset_file *file; /* a reference */
  uint8_t *data;                  /* NULL until loaded */
  uint32_t *offsets;              /* of each record in data */
  uint8_t *kept;                  /* of each record, whether it may be all zeros; NULL: none may */
  uint64_t deleted_off;           /* a reader's: how much of the file "deleted" is known */
  uint8_t log_id[16];             /* a reader's */
  bool readonly;
  uint32_t steps[];
};

static void block_free(struct flume_block *base) {
  struct offset_block *block = (struct offset_block *)base;
  struct flume_offset_file *file = block->file;
  const struct flume_io *io = file->io;
  flume_io_free(io, block->data);
  flume_io_free(io, block->offsets);
  flume_io_free(io, block->kept);
  flume_io_free(io, block);
  flume__offset_file_unref(file);
}

static uint32_t frame_end(const struct offset_block *block, uint32_t i) {
  return i + 1 < block->block.count ? block->steps[i + 1] : block->block.bytes;
}

/* Verifies the frame of record i, and makes its header. A record that was overwritten in the meantime is gone. */
static const char *take_record(struct offset_block *block, uint32_t i) {
  uint32_t framing = flume_offset_framing_bytes(block->file->bits);
  uint8_t *frame = block->data + FREE_BYTES + block->steps[i];
  uint32_t len = frame_end(block, i) - block->steps[i] - framing;
  uint8_t *bytes = frame + FLUME_OFFSET_LENGTH_BYTES, *behind = bytes + len;
  uint64_t end_off = (uint64_t)block->block.first_seq + frame_end(block, i);
  if (flume_get_be32(frame) != len || flume_get_be32(behind) != len) return "the length of a record has changed";
  if (flume_offset_pointer(behind + FLUME_OFFSET_LENGTH_BYTES, block->file->bits) != end_off) {
    return "the pointer behind a record is wrong";
  }
  bool may_be_zero = block->kept != NULL && block->kept[i] != 0;
  if (!may_be_zero && flume_offset_is_zero(bytes, len)) block->offsets[i] = FLUME_BLOCK_GONE;
  flume_put_le32(bytes - FLUME_RECORD_HEADER_BYTES, len);
  flume_put_le32(bytes - FLUME_RECORD_HEADER_BYTES + 4, 0);
  return NULL;
}

/* --- Records that are being overwritten ------------------------------------------------------------------------ */

static bool may_be_torn(const struct offset_block *block, uint32_t i) {
  uint32_t len = frame_end(block, i) - block->steps[i] - flume_offset_framing_bytes(block->file->bits);
  const uint8_t *bytes = block->data + FREE_BYTES + block->steps[i] + FLUME_OFFSET_LENGTH_BYTES;
  bool kept = block->kept != NULL && block->kept[i] != 0;
  return block->offsets[i] != FLUME_BLOCK_GONE && !kept && len > 0 && (bytes[0] == 0 || bytes[len - 1] == 0);
}

static bool any_may_be_torn(const struct offset_block *block) {
  for (uint32_t i = 0; i < block->block.count; i++) {
    if (may_be_torn(block, i)) return true;
  }
  return false;
}

/* What the file has, unless it is as long as it was when the block was planned. */
static int read_deleted(const struct offset_block *block, int file, struct flume_deletions *deletions) {
  const struct flume_io *io = block->file->io;
  uint64_t bad_off;
  int64_t size = io->size(io->ctx, file);
  if (size < 0) return (int)size;
  if ((uint64_t)size == block->deleted_off + FLUME_FRAME_HEADER_BYTES) return 0;
  struct flume_buf bytes;
  flume_buf_init(&bytes, io);
  int rv = flume_buf_reserve(&bytes, (size_t)size);
  if (rv == 0) rv = flume_io_read_full(io, file, bytes.data, (size_t)size, 0);
  if (rv == 0) {
    bytes.len = (size_t)size;
    rv = flume_deletions_read(deletions, &bytes, block->log_id, &bad_off);
  }
  flume_buf_fini(&bytes);
  return rv;
}

static int mark_torn(struct offset_block *block) {
  assert(block->readonly && block->data != NULL);
  const struct flume_io *io = block->file->io;
  char path[FLUME_PATH_MAX];
  int rv = flume_path_append(path, sizeof path, block->file->path, ".flume/deleted");
  if (rv != 0) return rv;
  int file = io->open(io->ctx, path, FLUME_IO_READ);
  if (file == UV_ENOENT || file == UV_ENOTDIR) return 0;
  if (file < 0) return file;
  struct flume_deletions deletions;
  flume_deletions_init(&deletions, io);
  rv = read_deleted(block, file, &deletions);
  for (uint32_t i = 0; i < block->block.count && rv == 0; i++) {
    int64_t seq = flume_block_seq(&block->block, i);
    if (may_be_torn(block, i) && flume_tombstones_has(&deletions.deleted, seq)) block->offsets[i] = FLUME_BLOCK_GONE;
  }
  flume_deletions_fini(&deletions);
  io->close(io->ctx, file);
  return rv;
}

/* --- Loading -------------------------------------------------------------------------------------------------- */

static int block_load(struct flume_block *base, struct flume_err *err) {
  struct offset_block *block = (struct offset_block *)base;
  struct flume_offset_file *file = block->file;
  if (block->data != NULL) return 0;
  block->data = flume_io_alloc(file->io, FREE_BYTES + (size_t)base->bytes);
  if (block->data == NULL) return flume_err_nomem(err);
  uv_rwlock_rdlock(&file->zeroing);
  int rv = flume_io_read_full(file->io, file->file, block->data + FREE_BYTES, base->bytes, (uint64_t)base->first_seq);
  uv_rwlock_rdunlock(&file->zeroing);
  if (rv != 0) {
    flume_err_set(err, rv, "%s: byte %lld: %s", file->path, (long long)base->first_seq,
                  rv == FLUME_ECORRUPT ? "the file has become shorter" : flume_strerror(rv));
  }
  for (uint32_t i = 0; rv == 0 && i < base->count; i++) {
    const char *why = take_record(block, i);
    if (why == NULL) continue;
    rv = flume_err_set(err, FLUME_ECORRUPT, "%s: byte %lld: %s", file->path, (long long)flume_block_seq(base, i), why);
  }
  if (rv == 0 && block->readonly && any_may_be_torn(block)) {
    rv = mark_torn(block);
    if (rv != 0) flume_err_set(err, rv, "reading %s.flume/deleted: %s", file->path, flume_strerror(rv));
  }
  if (rv != 0) {
    flume_io_free(file->io, block->data);
    block->data = NULL;
    return rv;
  }
  base->base = block->data;
  return 0;
}

/* Marks the records that may be zeros, if there are any. */
static int mark_zeros(const struct offset_log *log, struct offset_block *block) {
  const struct flume_tombstones *zeros = &log->zeros.seqs.deleted;
  int64_t first_seq = block->block.first_seq, last_seq = flume_block_last_seq(&block->block);
  if (flume_tombstones_count(zeros, last_seq) == flume_tombstones_count(zeros, first_seq - 1)) return 0;
  block->kept = flume_io_zalloc(log->log.io, block->block.count);
  if (block->kept == NULL) return FLUME_ENOMEM;
  for (uint32_t i = 0; i < block->block.count; i++) {
    block->kept[i] = flume_tombstones_has(zeros, flume_block_seq(&block->block, i));
  }
  return 0;
}

static void mark_deleted(const struct offset_log *log, struct offset_block *block) {
  const struct flume_tombstones *deleted = flume__offset_gone(log);
  int64_t first_seq = block->block.first_seq, last_seq = flume_block_last_seq(&block->block);
  if (flume_tombstones_count(deleted, last_seq) == flume_tombstones_count(deleted, first_seq - 1)) return;
  for (uint32_t i = 0; i < block->block.count; i++) {
    if (flume_tombstones_has(deleted, flume_block_seq(&block->block, i))) block->offsets[i] = FLUME_BLOCK_GONE;
  }
}

/* A block of records number from..to of the index. */
static struct offset_block *block_new(const struct offset_log *log, uint64_t from, uint64_t to) {
  assert(from <= to && to < log->index.count);
  const struct flume_io *io = log->log.io;
  uint32_t count = (uint32_t)(to - from + 1);
  struct offset_block *block = flume_io_zalloc(io, sizeof *block + count * sizeof *block->steps);
  if (block == NULL) return NULL;
  block->offsets = flume_io_alloc(io, count * sizeof *block->offsets);
  if (block->offsets == NULL) {
    flume_io_free(io, block);
    return NULL;
  }
  uint64_t first_off = flume_offset_index_at(&log->index, from);
  uint64_t end_off = flume__offset_end_of(log, to);
  for (uint32_t i = 0; i < count; i++) {
    block->steps[i] = block->offsets[i] = (uint32_t)(flume_offset_index_at(&log->index, from + i) - first_off);
  }
  block->gaps =
      (struct flume_block_gaps){.low_seq = from > 0 ? (int64_t)flume_offset_index_at(&log->index, from - 1) + 1 : 0,
                                .end_seq = (int64_t)end_off,
                                .steps = block->steps};
  block->block = (struct flume_block){.count = count,
                                      .bytes = (uint32_t)(end_off - first_off),
                                      .first_seq = (int64_t)first_off,
                                      .gaps = &block->gaps,
                                      .offsets = block->offsets,
                                      .load = block_load,
                                      .free = block_free};
  atomic_init(&block->block.refs, 1);
  atomic_fetch_add_explicit(&log->file->refs, 1, memory_order_relaxed);
  block->file = log->file;
  block->readonly = log->log.readonly;
  if (log->log.readonly) block->deleted_off = log->deleted.seqs.end_off; /* a writer's commit thread owns it */
  memcpy(block->log_id, log->log.id, sizeof block->log_id);
  return block;
}

/* Widens from..to, one of them fixed, to about max_bytes. */
static void widen(const struct offset_log *log, uint64_t *from, uint64_t *to, bool reverse, size_t max_bytes) {
  const struct flume_offset_index *index = &log->index;
  uint64_t here = flume_offset_index_at(index, *from);
  if (reverse) {
    while (*from > 0 && here - flume_offset_index_at(index, *from - 1) < max_bytes) (*from)--;
  } else {
    while (*to + 1 < index->count && flume_offset_index_at(index, *to + 1) - here < max_bytes) (*to)++;
  }
}

int flume__offset_plan(struct flume_log *base, int64_t seq, bool reverse, size_t max_bytes, struct flume_block **block,
                       struct flume_err *err) {
  struct offset_log *log = (struct offset_log *)base;
  assert(flume__log_is_locked(base));
  uint64_t at = flume_offset_index_find(&log->index, reverse ? (uint64_t)seq + 1 : (uint64_t)seq);
  if (reverse ? at == 0 : at == log->index.count) {
    return flume_err_set(err, FLUME_ENOENT, "no record there: byte %lld", (long long)seq);
  }
  uint64_t from = reverse ? at - 1 : at, to = from;
  widen(log, &from, &to, reverse, max_bytes);
  struct offset_block *made = block_new(log, from, to);
  if (made == NULL) return flume_err_nomem(err);
  if (mark_zeros(log, made) != 0) {
    flume_block_unref(&made->block);
    return flume_err_nomem(err);
  }
  mark_deleted(log, made);
  *block = &made->block;
  return 0;
}

int64_t flume__offset_deleted_count(const struct flume_log *base, int64_t seq) {
  return flume_tombstones_count(flume__offset_gone((const struct offset_log *)base), seq);
}

int64_t flume__offset_deletion_at(const struct flume_log *base, int64_t ordinal) {
  return flume__offset_gone((const struct offset_log *)base)->order[ordinal];
}

bool flume__offset_is_lost(const struct flume_log *base, int64_t seq) {
  return flume_tombstones_has(&((const struct offset_log *)base)->deleted.seqs.lost, seq);
}

/* A delete overwrites the record at once, so that loading a deleted record finds zeros. */
int flume__offset_plan_one(struct flume_log *base, int64_t seq, struct flume_block **block, struct flume_err *err) {
  struct offset_log *log = (struct offset_log *)base;
  assert(flume__log_is_locked(base));
  if (!flume_offset_index_has(&log->index, (uint64_t)seq)) {
    return flume_err_set(err, FLUME_ENOENT, "no record begins at byte %lld", (long long)seq);
  }
  uint64_t at = flume_offset_index_find(&log->index, (uint64_t)seq);
  struct offset_block *made = block_new(log, at, at);
  if (made == NULL) return flume_err_nomem(err);
  if (mark_zeros(log, made) != 0) {
    flume_block_unref(&made->block);
    return flume_err_nomem(err);
  }
  mark_deleted(log, made);
  *block = &made->block;
  return 0;
}
