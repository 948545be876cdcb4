/* Opening an offset log.
 *
 * Happy path: the superblock says which framing the file has, or else its first record does. All frames are read from the
 * first one on. Each says where the next one begins, and the last one ends where the file does. A record of zeros that is
 * in no list of deletions was deleted by another program: it is put behind the deletions that are known. A follower beside
 * a writer reads up to the high watermark, and believes it.
 *
 * Failures:
 *
 * - Bytes that are no frame are a torn tail when no frame begins behind them, or when the superblock says that all of them
 *   were being written (offset_superblock.c). A writer cuts them, a follower passes over them.
 * - Any other bytes that are no frame are damage.
 * - A delete whose record still has its bytes was interrupted. A writer finishes it.
 *
 * Invariants: everything before data_end_off is on disk when a writer has opened the log. */
#include <assert.h>
#include <stdio.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/path.h"
#include "log/offset/offset_follow.h"

static int fail(const struct offset_log *log, const char *doing, int rv, struct flume_err *err) {
  return flume_err_set(err, rv, "%s %s: %s", doing, log->file->path, flume_strerror(rv));
}

/* --- The file ------------------------------------------------------------------------------------------------ */

static int open_file(struct offset_log *log, struct flume_err *err) {
  const struct flume_io *io = log->log.io;
  struct flume_offset_file *file = log->file;
  if (file->file >= 0) return 0;
  int rv = io->open(io->ctx, file->path, log->log.readonly ? FLUME_IO_READ : FLUME_IO_WRITE);
  if (rv == UV_ENOENT && !log->log.readonly) rv = io->open(io->ctx, file->path, FLUME_IO_WRITE | FLUME_IO_CREATE);
  if (rv < 0) return fail(log, "opening", rv, err);
  file->file = rv;
  return 0;
}

/* Which framing it is: the superblock says it, or the first record, or the caller for a file without either. */
int flume__offset_choose_bits(struct offset_log *log, struct flume_window *window, uint32_t asked,
                              struct flume_err *err) {
  uint32_t known = log->superblock_bits;
  int found = window->file_bytes > 0 ? flume_offset_detect(window) : 0;
  if (found < 0) return fail(log, "reading", found, err);
  uint32_t bits = known != 0 ? known : found != 0 ? (uint32_t)found : asked != 0 ? asked : FLUME_OFFSET_32;
  if (!flume_offset_bits_known(bits)) {
    return flume_err_set(err, FLUME_EVERSION, "%s/note: byte 6: pointers of %u bits", log->log.dir, bits);
  }
  if (asked != 0 && asked != bits) {
    return flume_err_set(err, FLUME_EINVAL, "%s has pointers of %u bits, not %u", log->file->path, bits, asked);
  }
  log->file->bits = (enum flume_offset_bits)bits;
  return 0;
}

/* --- The tail ------------------------------------------------------------------------------------------------ */

/* Whether a file without any record can be what a crash left of a first one: zeros, or the beginning of a record of less
 * than 16 MiB. What is none of that may be anything, and is not touched. */
static int check_first(const struct offset_log *log, struct flume_window *window, struct flume_err *err) {
  const uint8_t *bytes;
  uint64_t size = window->file_bytes;
  size_t len = size < FLUME_OFFSET_SECTOR_BYTES ? (size_t)size : FLUME_OFFSET_SECTOR_BYTES;
  int rv = flume_window_get(window, 0, len, &bytes);
  if (rv != 0) return fail(log, "reading", rv, err);
  if (flume_offset_is_zero(bytes, len)) return 0;
  if (bytes[0] == 0 && len < FLUME_OFFSET_LENGTH_BYTES) return 0;
  if (bytes[0] == 0 && (uint64_t)flume_get_be32(bytes) + flume_offset_framing_bytes(FLUME_OFFSET_53) >= size) return 0;
  return flume_err_set(err, FLUME_ECORRUPT, "%s: byte 0: this is no flumelog-offset file", log->file->path);
}

int flume__offset_check_tail(struct offset_log *log, struct flume_offset_scan *scan, struct flume_err *err) {
  struct flume_offset_record next;
  uint64_t bytes = scan->window.file_bytes;
  const char *path = log->file->path, *why = scan->why;
  if (scan->off < log->superblock.durable_off) {
    return flume_err_set(err, FLUME_ECORRUPT, "%s: byte %llu: %s", path, (unsigned long long)scan->off,
                         scan->off == bytes ? "the file ends here, and was longer" : why);
  }
  if (scan->off == bytes || (log->superblock.open && bytes <= log->superblock.limit_off)) return 0;
  int rv = flume_offset_find(&scan->window, scan->off, log->file->bits, &next);
  if (rv < 0) return fail(log, "reading", rv, err);
  if (rv == 0) return scan->off == 0 ? check_first(log, &scan->window, err) : 0;
  return flume_err_set(err, FLUME_ECORRUPT, "%s: byte %llu: %s; the next good record is at byte %llu", path,
                       (unsigned long long)scan->off, why, (unsigned long long)next.off);
}

/* --- Deletions ----------------------------------------------------------------------------------------------- */

/* Every seq of the set is that of a record, or is not known any more. */
static int check_set(const struct offset_log *log, const struct flume_offset_set *set, struct flume_err *err) {
  const struct flume_tombstones *seqs = &set->seqs.deleted;
  for (size_t i = 0; i < seqs->count; i++) {
    if (seqs->order[i] < 0 || flume_offset_index_has(&log->index, (uint64_t)seqs->order[i])) continue;
    return flume_err_set(err, FLUME_ECORRUPT, "%s: byte %lld: no record begins here, but %s/%s names it",
                         log->file->path, (long long)seqs->order[i], log->log.dir, set->name);
  }
  return 0;
}

/* Records of zeros that are not there any more: a crash took them before they were acknowledged. */
static int drop_stale_zeros(struct offset_log *log, const struct flume_offset_scan *scan, struct flume_err *err) {
  struct flume_tombstones *known = &log->zeros.seqs.deleted, kept;
  size_t count;
  const int64_t *found = flume__offset_scan_zeros(scan, &count);
  flume_tombstones_init(&kept, log->log.io);
  if (flume_tombstones_reserve(&kept, count) != 0) {
    flume_tombstones_fini(&kept);
    return flume_err_nomem(err);
  }
  for (size_t i = 0; i < count; i++) {
    if (flume_tombstones_has(known, found[i])) flume_tombstones_add(&kept, found[i]);
  }
  if (kept.count < known->count) log->zeros.seqs.ended = false; /* the file is to be rewritten */
  flume_tombstones_fini(known);
  *known = kept;
  return 0;
}

/* Deletes by other programs, in the order of the file. They are not in the file "deleted" yet. */
static int add_foreign_deletes(struct offset_log *log, const struct flume_offset_scan *scan, struct flume_err *err) {
  struct flume_tombstones *gone = log->log.readonly ? &log->gone : &log->deleted.seqs.deleted;
  size_t count;
  const int64_t *found = flume__offset_scan_zeros(scan, &count);
  if (flume_tombstones_reserve(gone, count) != 0) return flume_err_nomem(err);
  for (size_t i = 0; i < count; i++) {
    if (flume_tombstones_has(&log->zeros.seqs.deleted, found[i])) continue;
    if (flume_tombstones_add(gone, found[i])) log->deleted.seqs.ended = false;
  }
  return 0;
}

static int finish_deletes(struct offset_log *log, const struct flume_offset_scan *scan, struct flume_err *err) {
  const int64_t *seqs = (const int64_t *)(const void *)scan->unzeroed.data;
  for (size_t i = 0; i < scan->unzeroed.len / sizeof *seqs; i++) {
    int rv = flume__offset_zero(log, (uint64_t)seqs[i]);
    if (rv != 0) return fail(log, "writing", rv, err);
  }
  return 0;
}

/* Beside a writer, a record of zeros that is not known yet is one that it is deleting. */
static int settle_deletions(struct offset_log *log, const struct flume_offset_scan *scan, bool damaged,
                            struct flume_err *err) {
  int rv = damaged ? 0 : check_set(log, &log->deleted, err);
  if (rv == 0) rv = drop_stale_zeros(log, scan, err);
  if (rv == 0 && log->log.readonly) rv = flume__offset_take_gone(log, err);
  if (rv == 0 && !scan->acknowledged) rv = add_foreign_deletes(log, scan, err);
  log->log.deletions.value = (int64_t)flume__offset_gone(log)->count;
  return rv;
}

/* --- All of it ----------------------------------------------------------------------------------------------- */

static int sync_file(const struct offset_log *log, struct flume_err *err) {
  int rv = log->log.io->sync(log->log.io->ctx, log->file->file);
  return rv == 0 ? 0 : fail(log, "syncing", rv, err);
}

/* Cuts a torn tail, and makes the rest durable: another program may have written it, or a crash may have left it in the
 * system's cache alone. */
static int settle_records(struct offset_log *log, const struct flume_offset_scan *scan, bool known,
                          struct flume_err *err) {
  const struct flume_io *io = log->log.io;
  bool torn = scan->off < scan->window.file_bytes;
  if (known && !torn && !log->superblock.open && log->superblock.durable_off == scan->off) return 0;
  int rv = known ? 0 : uv_random(NULL, NULL, log->log.id, sizeof log->log.id, 0, NULL);
  if (rv == 0 && torn) rv = io->truncate(io->ctx, log->file->file, scan->off);
  if (rv != 0) return fail(log, "cutting", rv, err);
  if (!known) rv = flume_io_sync_name(io, log->file->path);
  if (rv != 0) return fail(log, "syncing", rv, err);
  rv = sync_file(log, err);
  log->superblock = (struct flume_offset_superblock){.durable_off = scan->off, .limit_off = scan->off};
  return rv == 0 ? flume__offset_superblock_sync(log, err) : rv;
}

/* What a writer changes, in an order that any crash may interrupt: records, deletes, and the bytes of deleted records. */
static int settle(struct offset_log *log, const struct flume_offset_scan *scan, struct flume_err *err) {
  assert(!log->log.readonly && log->log.lock_file.file >= 0 && log->end_off == scan->off);
  int rv = settle_records(log, scan, log->superblock_bits != 0, err);
  if (rv == 0) log->superblock_bits = log->file->bits;
  if (rv == 0) rv = flume__offset_set_rewrite(log, &log->zeros, err);
  if (rv == 0) rv = flume__offset_set_rewrite(log, &log->deleted, err);
  if (rv != 0 || scan->unzeroed.len == 0) return rv;
  rv = finish_deletes(log, scan, err);
  return rv == 0 ? sync_file(log, err) : rv;
}

/* Reads the records, with everything known that is beside the file; bound: how far. */
static int read_records(struct offset_log *log, struct flume_offset_scan *scan, const struct flume_bound *bound,
                        struct flume_err *err) {
  int64_t since = bound->watermark.since;
  scan->acknowledged = bound->alive && !bound->unknown;
  scan->last_seq = since;
  int rv = flume__offset_scan_records(log, scan, err);
  log->end_off = log->data_end_off = log->next_off = scan->off;
  log->log.since.value = log->log.durable_seq = flume__offset_last_seq(log);
  if (rv < 0) return rv;
  if (since == FLUME_SEQ_MAX) return flume__offset_check_tail(log, scan, err);
  return log->log.since.value >= since ? 0 : flume__offset_ends_early(log, scan, since, err);
}

/* What is asked for is what there is before damage: which then is no failure. */
static int pass_over(struct offset_log *log, bool damaged, int rv) {
  if (rv != FLUME_ECORRUPT || !damaged) return rv;
  log->damaged = true;
  return 0;
}

static int recover(struct offset_log *log, struct flume_offset_scan *scan, uint32_t bits,
                   const struct flume_bound *bound, bool damaged, struct flume_err *err) {
  bool known = log->superblock_bits != 0;
  int rv = flume__offset_choose_bits(log, &scan->window, bits, err);
  if (rv == 0 && known) rv = pass_over(log, damaged, flume__offset_set_load(log, &log->zeros, UINT64_MAX, err));
  if (rv == 0 && known) {
    uint64_t end_off = bound->watermark.deleted_end_off;
    rv = pass_over(log, damaged, flume__offset_set_load(log, &log->deleted, end_off, err));
  }
  if (rv == 0 && log->follow != NULL && (!bound->alive || bound->unknown)) rv = flume__offset_follow_sync(log, err);
  if (rv == 0) rv = pass_over(log, damaged, read_records(log, scan, bound, err));
  if (rv == 0) rv = settle_deletions(log, scan, damaged || log->log.readonly, err);
  return rv != 0 || log->log.readonly ? rv : settle(log, scan, err);
}

static bool has_superblock(const struct offset_log *log) {
  const struct flume_io *io = log->log.io;
  char path[FLUME_PATH_MAX];
  int file = UV_ENAMETOOLONG;
  if (flume__offset_path(log, "note", path, sizeof path) == 0) file = io->open(io->ctx, path, FLUME_IO_READ);
  if (file >= 0) io->close(io->ctx, file);
  return file >= 0;
}

int flume__offset_look(struct offset_log *log, struct flume_err *err) {
  const struct flume_io *io = log->log.io;
  int file = has_superblock(log) ? UV_EEXIST : io->open(io->ctx, log->file->path, FLUME_IO_READ);
  if (file < 0) return 0;
  int64_t size = io->size(io->ctx, file);
  struct flume_window window;
  flume_window_init(&window, io, file, size > 0 ? (uint64_t)size : 0);
  int found = size > 0 ? flume_offset_detect(&window) : 0;
  int rv = size < 0 ? fail(log, "reading", (int)size, err) : found < 0 ? fail(log, "reading", found, err) : 0;
  if (size > 0 && found == 0) rv = check_first(log, &window, err);
  flume_window_fini(&window);
  io->close(io->ctx, file);
  return rv;
}

/* The file as it is now, with what the note says of it: *size. The note comes first, as the file only grows behind what
 * it says. */
static int begin(struct offset_log *log, struct flume_bound *bound, bool damaged, uint64_t *size,
                 struct flume_err *err) {
  const struct flume_io *io = log->log.io;
  *bound = (struct flume_bound){.watermark = {.since = FLUME_SEQ_MAX, .deleted_end_off = UINT64_MAX}};
  int rv = open_file(log, err);
  if (rv == 0) rv = pass_over(log, damaged, flume__offset_superblock_load(log, err));
  if (rv == 0 && log->follow != NULL) rv = flume__offset_follow_bound(log, bound, err);
  if (rv != 0) return rv;
  int64_t bytes = io->size(io->ctx, log->file->file);
  if (bytes < 0) return fail(log, "reading", (int)bytes, err);
  *size = (uint64_t)bytes;
  return 0;
}

/* Whether what looked like damage may come of a writer that was changing the files while they were read. */
static bool is_changing(struct offset_log *log, const struct flume_bound *bound, uint64_t size) {
  const struct flume_io *io = log->log.io;
  if (log->follow == NULL) return false;
  if (io->size(io->ctx, log->file->file) != (int64_t)size) return true;
  return bound->alive || flume__offset_follow_holds(log, bound, NULL) != 1;
}

/* As before it was read. */
static void forget(struct offset_log *log) {
  flume_offset_index_fini(&log->index);
  flume__offset_set_fini(&log->zeros, log->log.io);
  flume__offset_set_fini(&log->deleted, log->log.io);
  flume_tombstones_fini(&log->gone);
  log->gone_taken = 0;
  log->end_off = log->data_end_off = log->next_off = 0;
  log->log.since.value = log->log.durable_seq = -1;
}

int flume__offset_recover(struct offset_log *log, uint32_t bits, bool damaged, struct flume_err *err) {
  for (int attempt = 1;; attempt++) {
    struct flume_bound bound;
    struct flume_offset_scan scan;
    uint64_t size = 0;
    struct flume_err why; /* also of damage that is no failure */
    int rv = begin(log, &bound, damaged, &size, &why);
    flume__offset_scan_init(&scan, log, size);
    if (rv == 0) rv = recover(log, &scan, bits, &bound, damaged, &why);
    flume__offset_scan_fini(&scan);
    if (rv != 0 && err != NULL) *err = why;
    if (rv != FLUME_ECORRUPT || attempt == FLUME_FOLLOW_ATTEMPTS || !is_changing(log, &bound, size)) return rv;
    forget(log);
  }
}
