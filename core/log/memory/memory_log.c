/* A log in memory: for tests, for caches, and the measure for every other kind.
 *
 * The log's lock guards the list of chunks, their counts and lengths, and the set of deletions. The owner fills the free
 * part of a chunk without the lock, and raises its count with it.
 *
 * Records are packed into chunks, in the same form as in a file (length, checksum, bytes), so that a block of this log
 * is read like any other. A chunk never moves: its bytes are filled once and then only read, and a block is a window
 * on one chunk that holds a reference to it. */
#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "log/frame.h"
#include "log/log.h"
#include "log/log_check.h"
#include "log/task.h"
#include "log/tombstones.h"

#define CHUNK_BYTES (256u << 10)
#define CHUNK_RECORDS 4096u

struct chunk {
  atomic_int refs; /* one of the log's, one of each block's */
  const struct flume_io *io;
  int64_t first_seq;
  uint32_t count; /* records */
  uint32_t max_count;
  uint32_t removed_count; /* records whose bytes a compaction took out */
  size_t len;             /* bytes in use */
  size_t cap;
  uint32_t *offsets; /* of each record's header in data */
  uint8_t *data;
};

struct memory_log {
  struct flume_log log;
  struct flume_tombstones deleted;
  struct chunk **chunks;
  size_t chunks_count;
  size_t chunks_cap;
  int64_t next_seq;
  struct flume_compact *compacting; /* done, to be answered; or NULL */
  struct flume_deferred answer_compact;
  struct flume_tasks tasks;
  bool draining; /* closing has begun */
};

struct memory_block {
  struct flume_block block;
  struct chunk *chunk;
  uint32_t offsets[];
};

static void chunk_unref(struct chunk *chunk) {
  if (atomic_fetch_sub_explicit(&chunk->refs, 1, memory_order_acq_rel) != 1) return;
  flume_io_free(chunk->io, chunk->offsets);
  flume_io_free(chunk->io, chunk->data);
  flume_io_free(chunk->io, chunk);
}

static struct chunk *chunk_new(const struct flume_io *io, int64_t first_seq, size_t bytes, size_t records) {
  struct chunk *chunk = flume_io_zalloc(io, sizeof *chunk);
  if (chunk == NULL) return NULL;
  chunk->io = io;
  chunk->first_seq = first_seq;
  chunk->cap = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
  chunk->max_count = records > CHUNK_RECORDS ? (uint32_t)records : CHUNK_RECORDS;
  chunk->data = flume_io_alloc(io, chunk->cap);
  chunk->offsets = flume_io_alloc(io, chunk->max_count * sizeof *chunk->offsets);
  atomic_init(&chunk->refs, 1);
  if (chunk->data != NULL && chunk->offsets != NULL) return chunk;
  chunk_unref(chunk);
  return NULL;
}

/* Puts a chunk at the end of the list. NULL: no memory. */
static struct chunk *add_chunk(struct memory_log *log, size_t bytes, size_t records) {
  assert(flume__log_is_locked(&log->log));
  if (log->chunks_count == log->chunks_cap) {
    size_t cap = log->chunks_cap > 0 ? log->chunks_cap * 2 : 16;
    struct chunk **chunks = flume_io_realloc(log->log.io, log->chunks, cap * sizeof(struct chunk *));
    if (chunks == NULL) return NULL;
    log->chunks = chunks;
    log->chunks_cap = cap;
  }
  struct chunk *chunk = chunk_new(log->log.io, log->next_seq, bytes, records);
  if (chunk != NULL) log->chunks[log->chunks_count++] = chunk;
  return chunk;
}

/* The chunk that the batch goes into as a whole. */
static struct chunk *chunk_for(struct memory_log *log, size_t bytes, size_t records) {
  struct chunk *last = log->chunks_count > 0 ? log->chunks[log->chunks_count - 1] : NULL;
  if (last != NULL && last->cap - last->len >= bytes && last->max_count - last->count >= records) return last;
  flume__log_lock(&log->log);
  last = add_chunk(log, bytes, records);
  flume__log_unlock(&log->log);
  return last;
}

static int store(struct memory_log *log, const struct flume_slice *records, size_t count, struct flume_err *err) {
  size_t bytes = 0;
  for (size_t i = 0; i < count; i++) bytes += records[i].len + FLUME_RECORD_HEADER_BYTES;
  struct chunk *chunk = chunk_for(log, bytes, count);
  if (chunk == NULL) return flume_err_nomem(err);
  size_t len = chunk->len;
  for (size_t i = 0; i < count; i++) {
    uint8_t *header = chunk->data + len;
    flume_put_le32(header, (uint32_t)records[i].len);
    flume_put_le32(header + 4, 0); /* nothing to guard against in memory */
    if (records[i].len > 0) memcpy(header + FLUME_RECORD_HEADER_BYTES, records[i].data, records[i].len);
    chunk->offsets[chunk->count + i] = (uint32_t)len;
    len += FLUME_RECORD_HEADER_BYTES + records[i].len;
  }
  log->next_seq += (int64_t)count;
  flume__log_lock(&log->log);
  chunk->count += (uint32_t)count;
  chunk->len = len;
  flume_obv_set(&log->log.since, log->next_seq - 1);
  log->log.durable_seq = log->next_seq - 1;
  flume__log_unlock(&log->log);
  flume__log_moved(&log->log);
  return 0;
}

static int memory_append(struct flume_log *base, struct flume_append *req, const struct flume_slice *records,
                         size_t count, struct flume_err *err) {
  struct memory_log *log = (struct memory_log *)base;
  int rv = store(log, records, count, err);
  if (rv == 0) flume__append_finish(base, req, 0, log->next_seq - 1);
  return rv;
}

static int memory_sync(struct flume_log *base, struct flume_append *req, struct flume_err *err) {
  (void)err;
  flume__append_finish(base, req, 0, base->since.value);
  return 0;
}

static int add_deletions(struct memory_log *log, const int64_t *seqs, size_t count) {
  assert(flume__log_is_locked(&log->log));
  if (flume_tombstones_reserve(&log->deleted, count) != 0) return FLUME_ENOMEM;
  for (size_t i = 0; i < count; i++) flume_tombstones_add(&log->deleted, seqs[i]);
  flume_obv_set(&log->log.deletions, (int64_t)log->deleted.count);
  return 0;
}

static int memory_del(struct flume_log *base, struct flume_append *req, const int64_t *seqs, size_t count,
                      struct flume_err *err) {
  flume__log_lock(base);
  int rv = add_deletions((struct memory_log *)base, seqs, count);
  flume__log_unlock(base);
  if (rv != 0) return flume_err_nomem(err);
  flume__log_moved(base);
  flume__append_finish(base, req, 0, base->since.value);
  return 0;
}

static struct chunk *chunk_of(const struct memory_log *log, int64_t seq) {
  size_t low = 0, high = log->chunks_count;
  while (high - low > 1) {
    size_t mid = low + (high - low) / 2;
    if (log->chunks[mid]->first_seq <= seq) low = mid;
    else high = mid;
  }
  return log->chunks[low];
}

static void memory_block_free(struct flume_block *base) {
  struct memory_block *block = (struct memory_block *)base;
  const struct flume_io *io = block->chunk->io;
  chunk_unref(block->chunk);
  flume_io_free(io, block);
}

/* A block of the chunk's records from..to (inclusive), none of them marked. */
static struct memory_block *block_new(struct chunk *chunk, int64_t from, int64_t to) {
  uint32_t count = (uint32_t)(to - from + 1);
  struct memory_block *made = flume_io_alloc(chunk->io, sizeof *made + count * sizeof(uint32_t));
  if (made == NULL) return NULL;
  memcpy(made->offsets, chunk->offsets + from, count * sizeof(uint32_t));
  atomic_fetch_add_explicit(&chunk->refs, 1, memory_order_relaxed);
  made->chunk = chunk;
  made->block = (struct flume_block){.count = count,
                                     .first_seq = chunk->first_seq + from,
                                     .base = chunk->data,
                                     .offsets = made->offsets,
                                     .free = memory_block_free};
  atomic_init(&made->block.refs, 1);
  return made;
}

static int memory_plan(struct flume_log *base, int64_t seq, bool reverse, size_t max_bytes, struct flume_block **block,
                       struct flume_err *err) {
  struct memory_log *log = (struct memory_log *)base;
  struct chunk *chunk = chunk_of(log, seq);
  int64_t at = seq - chunk->first_seq;
  assert(at >= 0 && at < chunk->count);
  assert(flume__log_is_locked(base));
  int64_t from = at, to = at; /* inclusive */
  uint32_t here = chunk->offsets[at];
  if (reverse) {
    while (from > 0 && here - chunk->offsets[from - 1] < max_bytes) from--;
  } else {
    while (to + 1 < chunk->count && chunk->offsets[to + 1] - here < max_bytes) to++;
  }
  struct memory_block *made = block_new(chunk, from, to);
  if (made == NULL) return flume_err_nomem(err);
  flume_tombstones_mark(&log->deleted, made->block.first_seq, made->offsets, made->block.count);
  *block = &made->block;
  return 0;
}

static int64_t memory_deleted_count(const struct flume_log *base, int64_t seq) {
  return flume_tombstones_count(&((const struct memory_log *)base)->deleted, seq);
}

static int64_t memory_deletion_at(const struct flume_log *base, int64_t ordinal) {
  return ((const struct memory_log *)base)->deleted.order[ordinal];
}

static int memory_plan_one(struct flume_log *base, int64_t seq, struct flume_block **block, struct flume_err *err) {
  struct chunk *chunk = chunk_of((struct memory_log *)base, seq);
  int64_t at = seq - chunk->first_seq;
  assert(at >= 0 && at < chunk->count);
  struct memory_block *made = block_new(chunk, at, at);
  if (made == NULL) return flume_err_nomem(err);
  if (flume_get_le32(chunk->data + chunk->offsets[at]) == FLUME_RECORD_REMOVED) made->offsets[0] = FLUME_BLOCK_GONE;
  *block = &made->block;
  return 0;
}

/* --- Compaction ---------------------------------------------------------------------------------------------- */

/* A copy without the bytes of deleted records, which leave a header each; it takes as many more records and bytes. */
static struct chunk *chunk_without_deleted(const struct memory_log *log, const struct chunk *chunk) {
  struct chunk *made = chunk_new(chunk->io, chunk->first_seq, chunk->cap, chunk->max_count);
  if (made == NULL) return NULL;
  for (uint32_t i = 0; i < chunk->count; i++) {
    const uint8_t *header = chunk->data + chunk->offsets[i];
    uint32_t len = flume_get_le32(header);
    bool removed = flume_tombstones_has(&log->deleted, chunk->first_seq + i);
    size_t bytes = FLUME_RECORD_HEADER_BYTES + (removed ? 0 : (size_t)len);
    memcpy(made->data + made->len, header, bytes);
    if (removed) flume_put_le32(made->data + made->len, FLUME_RECORD_REMOVED);
    made->removed_count += removed;
    made->offsets[made->count++] = (uint32_t)made->len;
    made->len += bytes;
  }
  return made;
}

static uint32_t deleted_in(const struct memory_log *log, const struct chunk *chunk) {
  return (uint32_t)(flume_tombstones_count(&log->deleted, chunk->first_seq + chunk->count - 1) -
                    flume_tombstones_count(&log->deleted, chunk->first_seq - 1));
}

static void answer_compact(struct flume_deferred *deferred) {
  struct memory_log *log = FLUME_CONTAINER_OF(deferred, struct memory_log, answer_compact);
  struct flume_compact *req = log->compacting;
  log->compacting = NULL;
  req->cb(req, 0, NULL);
}

/* What is in a chunk takes the place of segments here. Blocks keep the old chunk. */
static int memory_compact(struct flume_log *base, struct flume_compact *req, struct flume_err *err) {
  struct memory_log *log = (struct memory_log *)base;
  if (log->compacting != NULL) return flume_err_set(err, FLUME_EBUSY, "the log is being compacted already");
  for (size_t i = 0; i < log->chunks_count; i++) {
    struct chunk *chunk = log->chunks[i];
    if (deleted_in(log, chunk) <= chunk->removed_count) continue;
    struct chunk *made = chunk_without_deleted(log, chunk);
    if (made == NULL) return flume_err_nomem(err);
    req->segments++;
    req->records += made->removed_count - chunk->removed_count;
    req->bytes_before += chunk->len;
    req->bytes_after += made->len;
    flume__log_lock(base);
    log->chunks[i] = made;
    flume__log_unlock(base);
    chunk_unref(chunk);
  }
  log->compacting = req;
  flume_defer(&base->defer, &log->answer_compact);
  return 0;
}

/* --- Checking ------------------------------------------------------------------------------------------------- */

/* There are no checksums here, and nothing to go wrong: the report was complete when the check was made. */
static int check_step(struct flume_log_check *check) {
  (void)check;
  return 0;
}

static void check_measure(const struct flume_log_check *check, uint64_t *done_bytes, uint64_t *total_bytes) {
  *done_bytes = *total_bytes = check->report->bytes;
}

static void check_fini(struct flume_log_check *check) {
  (void)check;
}

static const struct flume_log_check_ops check_ops = {.step = check_step, .measure = check_measure, .fini = check_fini};

static int memory_check(struct flume_log *base, struct flume_report *report, struct flume_log_check **out,
                        struct flume_err *err) {
  const struct memory_log *log = (const struct memory_log *)base;
  struct flume_log_check *check = flume_io_zalloc(base->io, sizeof *check);
  if (check == NULL) return flume_err_nomem(err);
  *check = (struct flume_log_check){.ops = &check_ops, .log = base, .report = report};
  for (size_t i = 0; i < log->chunks_count; i++) report->bytes += log->chunks[i]->len;
  report->records = (uint64_t)log->next_seq;
  report->deleted = log->deleted.count;
  *out = check;
  return 0;
}

/* --- Closing -------------------------------------------------------------------------------------------------- */

static void close_when_done(struct flume_log *base) {
  const struct memory_log *log = (const struct memory_log *)base;
  if (log->draining && flume_queue_empty(&log->tasks.list)) flume__log_closed(base);
}

static void memory_close(struct flume_log *base) {
  struct memory_log *log = (struct memory_log *)base;
  assert(base->state == FLUME_LOG_CLOSING && !log->draining);
  if (log->compacting != NULL) answer_compact(&log->answer_compact);
  log->draining = true;
  close_when_done(base);
}

static void memory_free(struct flume_log *base) {
  struct memory_log *log = (struct memory_log *)base;
  for (size_t i = 0; i < log->chunks_count; i++) chunk_unref(log->chunks[i]);
  flume_io_free(base->io, log->chunks);
  flume_tombstones_fini(&log->deleted);
  flume_io_free(base->io, log);
}

static const struct flume_log_ops memory_ops = {
    .kind = "memory",
    .erased = "removed",
    .append = memory_append,
    .sync = memory_sync,
    .del = memory_del,
    .plan = memory_plan,
    .plan_one = memory_plan_one,
    .deleted_count = memory_deleted_count,
    .deletion_at = memory_deletion_at,
    .compact = memory_compact,
    .check = memory_check,
    .close = memory_close,
    .free = memory_free,
};

int flume_log_open_memory(struct flume_log **out, uv_loop_t *loop, const struct flume_log_options *options,
                          struct flume_err *err) {
  const struct flume_io *io = options != NULL && options->io != NULL ? options->io : &flume_io_posix;
  int rv = options != NULL ? flume__log_check_options(options, err) : 0;
  if (rv != 0) return rv;
  struct memory_log *log = flume_io_zalloc(io, sizeof *log);
  if (log == NULL) return flume_err_nomem(err);
  rv = uv_random(NULL, NULL, log->log.id, sizeof log->log.id, 0, NULL);
  if (rv == 0) {
    rv = flume__log_init(&log->log, &memory_ops, io, loop, options != NULL ? options->max_record_bytes : 0);
  }
  if (rv != 0) {
    flume_io_free(io, log);
    return flume_err_set(err, rv, "making a log in memory: %s", flume_strerror(rv));
  }
  flume_tombstones_init(&log->deleted, io);
  flume_deferred_init(&log->answer_compact, answer_compact);
  flume_tasks_init(&log->tasks, &log->log, close_when_done);
  *out = &log->log;
  return 0;
}
