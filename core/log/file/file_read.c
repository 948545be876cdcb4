/* Planning and loading blocks of a file log, on any thread: planning with the log's lock held, loading without it.
 *
 * Happy path: a plan is made from the offsets of a segment, so that reading a block or a record takes one pread, whatever
 * its frames are. Each record is verified against its own checksum. The offsets of the active segment are in memory; those
 * of a sealed one are loaded from its index when it is first needed.
 *
 * Failures:
 *
 * - The index of a sealed segment is damaged: the offsets come from a scan.
 * - The records of a segment end before the next segment begins, or are damaged: FLUME_ECORRUPT with file and byte.
 * - A follower finds a segment that was compacted: it learns of the deletions first, as records are missing there that it
 *   does not know to be deleted.
 *
 * Invariants: a block has no record beyond since, and knows of block->deletions deletions. It has a reference of its
 * segment, whose file stays open. */
#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "log/file/file_follow.h"

struct file_block {
  struct flume_block block;
  struct flume_segment *segment; /* a reference */
  uint64_t off;                  /* of the first byte in the file */
  size_t len;                    /* bytes */
  uint8_t *data;
  uint32_t offsets[];
};

static void file_block_free(struct flume_block *base) {
  struct file_block *block = (struct file_block *)base;
  const struct flume_io *io = block->segment->io;
  flume_segment_unref(block->segment);
  flume_io_free(io, block->data);
  flume_io_free(io, block);
}

static int file_block_load(struct flume_block *base, struct flume_err *err) {
  struct file_block *block = (struct file_block *)base;
  const struct flume_segment *segment = block->segment;
  block->data = flume_io_alloc(segment->io, block->len);
  if (block->data == NULL) return flume_err_nomem(err);
  int rv = flume_io_read_full(segment->io, segment->file, block->data, block->len, block->off);
  if (rv == FLUME_ECORRUPT) {
    return flume_err_set(err, rv, "%s: byte %llu: the file is shorter than it was", segment->path,
                         (unsigned long long)block->off);
  }
  if (rv != 0) return flume_err_set(err, rv, "reading %s: %s", segment->path, flume_strerror(rv));
  uint32_t good = flume_records_check(block->data, block->len, block->offsets, base->count, base->first_seq);
  if (good < base->count) {
    return flume_err_set(err, FLUME_ECORRUPT, "%s: byte %llu (seq %lld): record checksum mismatch", segment->path,
                         (unsigned long long)block->off + block->offsets[good], (long long)base->first_seq + good);
  }
  base->base = block->data;
  return 0;
}

void flume__file_replace(struct file_log *log, struct flume_segment *segment) {
  flume_segment_unload(segment); /* it is loaded again when it is read */
  flume__log_lock(&log->log);
  size_t i = flume__segments_find(&log->segments, segment->first_seq);
  struct flume_segment *old = flume__segments_replace(&log->segments, i, segment);
  flume__log_unlock(&log->log);
  flume_segment_unref(old);
}

/* A reader may find that the writer has compacted the segment since it last looked: then records are missing in it that
 * it does not know to be deleted yet. */
static int open_sealed(struct file_log *log, struct flume_segment *segment, struct flume_err *err) {
  int rv = flume_segment_open(segment, true, err);
  if (rv != 0 || log->follow == NULL) return rv;
  rv = flume__file_follow_deletes(log->follow, err);
  if (rv == 0) return 0;
  segment->io->close(segment->io->ctx, segment->file);
  segment->file = -1;
  return rv;
}

static int load_sealed(struct file_log *log, struct flume_segment *segment, int64_t next_seq, struct flume_err *err) {
  if (flume__segments_reserve(&log->segments) != 0) return flume_err_nomem(err);
  int rv = segment->file >= 0 ? 0 : open_sealed(log, segment, err);
  if (rv != 0) return rv;
  if (memcmp(segment->log_id, log->log.id, 16) != 0) {
    return flume_err_set(err, FLUME_ECORRUPT, "%s: byte 24: the segment belongs to another log", segment->path);
  }
  struct flume_damage damage;
  struct flume_err why;
  rv = flume_segment_load(segment, &damage, &why);
  if (rv == FLUME_ECORRUPT && damage.why != NULL && segment->next_seq == next_seq)
    rv = 0; /* only index or end is bad */
  if (rv != 0) {
    segment->loaded = false;
    if (err != NULL) *err = why;
    return rv;
  }
  if (segment->next_seq != next_seq) {
    segment->loaded = false;
    return flume__file_gap(segment, next_seq, err);
  }
  flume__segments_loaded(&log->segments, segment);
  return 0;
}

/* The segment that holds seq, with its offsets in memory. */
static int find_segment(struct file_log *log, int64_t seq, struct flume_segment **out, struct flume_err *err) {
  assert(flume__log_is_locked(&log->log));
  size_t i = flume__segments_find(&log->segments, seq);
  struct flume_segment *segment = log->segments.list[i];
  if (!segment->loaded && segment == flume__file_active(log)) {
    int rv = flume__file_load_active(log, err);
    if (rv != 0) return rv;
  } else if (!segment->loaded) {
    int rv = load_sealed(log, segment, log->segments.list[i + 1]->first_seq, err);
    if (rv != 0) return rv;
  } else {
    flume__segments_touch(&log->segments, segment);
  }
  *out = segment;
  return 0;
}

/* Widens [*from, *to] (inclusive, both `at` at first) in one direction until the bytes are about max_bytes; not beyond
 * record number last. */
static void widen(const struct flume_segment *segment, uint32_t at, uint32_t last, bool reverse, size_t max_bytes,
                  uint32_t *from, uint32_t *to) {
  const uint32_t *offsets = segment->offsets;
  uint32_t low, high;
  if (reverse) { /* the first record that begins less than max_bytes before `at` */
    low = 0;
    high = at;
    while (low < high) {
      uint32_t mid = low + (high - low) / 2;
      if (offsets[at] - offsets[mid] < max_bytes) high = mid;
      else low = mid + 1;
    }
    *from = low;
    return;
  }
  uint32_t step = 1;
  low = at; /* the last record that begins less than max_bytes after `at`: it is near, so look there first */
  while (step <= last - low && offsets[low + step] - offsets[at] < max_bytes) {
    low += step;
    step *= 2;
  }
  high = step <= last - low ? low + step - 1 : last;
  while (low < high) {
    uint32_t mid = low + (high - low + 1) / 2;
    if (offsets[mid] - offsets[at] < max_bytes) low = mid;
    else high = mid - 1;
  }
  *to = low;
}

/* A block of the segment's records from..to (inclusive), none of them marked. NULL: no memory. */
static struct file_block *block_new(struct flume_segment *segment, uint32_t from, uint32_t to) {
  assert(segment->loaded && from <= to && segment->first_seq + to < segment->next_seq);
  uint32_t count = to - from + 1;
  struct file_block *block = flume_io_alloc(segment->io, sizeof *block + (size_t)count * sizeof(uint32_t));
  if (block == NULL) return NULL;
  uint32_t start = segment->offsets[from];
  int64_t next = segment->first_seq + to + 1;
  uint64_t end = next < segment->next_seq ? segment->offsets[to + 1] : segment->data_end_off;
  block->segment = flume_segment_ref(segment);
  block->off = start;
  block->len = (size_t)(end - start);
  block->data = NULL;
  for (uint32_t i = 0; i < count; i++) block->offsets[i] = segment->offsets[from + i] - start;
  block->block = (struct flume_block){.count = count,
                                      .bytes = (uint32_t)block->len,
                                      .first_seq = segment->first_seq + from,
                                      .offsets = block->offsets,
                                      .load = file_block_load,
                                      .free = file_block_free};
  atomic_init(&block->block.refs, 1);
  return block;
}

int flume__file_plan(struct flume_log *base, int64_t seq, bool reverse, size_t max_bytes, struct flume_block **out,
                     struct flume_err *err) {
  struct file_log *log = (struct file_log *)base;
  struct flume_segment *segment;
  int rv = find_segment(log, seq, &segment, err);
  if (rv != 0) return rv;
  assert(seq >= segment->first_seq && seq < segment->next_seq);
  uint32_t at = (uint32_t)(seq - segment->first_seq);
  int64_t last_seq = segment->next_seq - 1; /* a follower's segment may have records that it doesn't show yet */
  if (last_seq > base->since.value) last_seq = base->since.value;
  assert(last_seq >= seq);
  uint32_t from = at, to = at;
  widen(segment, at, (uint32_t)(last_seq - segment->first_seq), reverse, max_bytes, &from, &to);
  struct file_block *block = block_new(segment, from, to);
  if (block == NULL) return flume_err_nomem(err);
  flume_tombstones_mark(&log->deletions.deleted, block->block.first_seq, block->offsets, block->block.count);
  *out = &block->block;
  return 0;
}

/* --- Deleted records ----------------------------------------------------------------------------------------- */

int64_t flume__file_deleted_count(const struct flume_log *base, int64_t seq) {
  const struct file_log *log = (const struct file_log *)base;
  return flume_tombstones_count(&log->deletions.deleted, seq);
}

int64_t flume__file_deletion_at(const struct flume_log *base, int64_t ordinal) {
  assert(ordinal >= 0 && ordinal < base->deletions.value);
  return ((const struct file_log *)base)->deletions.deleted.order[ordinal];
}

int flume__file_plan_one(struct flume_log *base, int64_t seq, struct flume_block **out, struct flume_err *err) {
  struct flume_segment *segment;
  int rv = find_segment((struct file_log *)base, seq, &segment, err);
  if (rv != 0) return rv;
  assert(seq >= segment->first_seq && seq < segment->next_seq);
  uint32_t at = (uint32_t)(seq - segment->first_seq);
  struct file_block *block = block_new(segment, at, at);
  if (block == NULL) return flume_err_nomem(err);
  *out = &block->block;
  return 0;
}

bool flume__file_is_lost(const struct flume_log *base, int64_t seq) {
  return flume_tombstones_has(&((const struct file_log *)base)->deletions.lost, seq);
}
