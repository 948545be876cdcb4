/* Repairing an offset log that is damaged.
 *
 * Happy path: check everything; copy what is going to be replaced to the quarantine; put the seqs of lost records into the
 * list of deleted ones; then write over the bytes of the file that are no records, in their place, and sync. The other
 * records stay where they are, and so keep their seqs. A crash leaves a log that can be repaired again.
 *
 * What can be repaired: a record states its length twice, and where it ends; there the next one begins. If only one of
 * these is wrong it is corrected, and the record is there again. The bytes of the record can't be verified. All else is
 * lost: records of zeros take its place, and count as deleted, so that the original program can read the file too. How many
 * records were there is not known, but their seqs are never given to other records.
 *
 * Failures: a superblock with both slots damaged is beyond repair, and so are the files that name the log's id. The log
 * gets a new id, and overwritten records are deleted in the order of the file.
 *
 * Invariants: no good record moves. */
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/path.h"
#include "log/offset/offset_verify.h"
#include "log/quarantine.h"

#define STEP_BYTES (64u << 20)
#define LOST_PIECE_BYTES (1u << 20) /* of a record of zeros: it is read as a whole when it is come by */
#define COPY_BYTES (64u << 10)

struct repair {
  const struct flume_io *io;
  struct offset_log *log;
  struct flume_report *report;
  struct flume_offset_verify verify;
  struct flume_buf lost;   /* int64_t, ascending: where records of zeros begin */
  struct flume_buf mended; /* int64_t, ascending: records whose framing is written anew */
  struct flume_quarantine quarantine;
};

static int fail(const struct repair *repair, const char *doing, int rv, struct flume_err *err) {
  return flume_err_set(err, rv, "%s %s: %s", doing, repair->log->file->path, flume_strerror(rv));
}

static int tell(struct repair *repair, const char *name, uint64_t off, int64_t seq, const char *what,
                struct flume_err *err) {
  int rv = flume_report_add(repair->report, FLUME_FINDING_REPAIR, name, off, seq, "%s", what);
  return rv == 0 ? 0 : flume_err_nomem(err);
}

/* --- What to write -------------------------------------------------------------------------------------------- */

/* Bytes of the file, as many as there are; what would be behind its end is zeros. */
static int read_bytes(const struct repair *repair, uint64_t off, uint8_t *bytes, size_t len) {
  uint64_t file_bytes = repair->verify.window.file_bytes;
  memset(bytes, 0, len);
  if (off >= file_bytes) return 0;
  size_t there = file_bytes - off < len ? (size_t)(file_bytes - off) : len;
  return flume_io_read_full(repair->io, repair->log->file->file, bytes, there, off);
}

/* What a frame with len bytes at off, which ends before end_off or there, has in its three places. */
struct witnesses {
  bool before;  /* the length before the bytes is right */
  bool behind;  /* the length behind them is */
  bool pointer; /* the pointer is */
};

static int look_at(const struct repair *repair, uint64_t off, uint32_t len, struct witnesses *witnesses) {
  enum flume_offset_bits bits = repair->log->file->bits;
  uint8_t before[FLUME_OFFSET_LENGTH_BYTES], behind[FLUME_OFFSET_LENGTH_BYTES + 8];
  uint64_t end_off = off + flume_offset_framing_bytes(bits) + len;
  int rv = read_bytes(repair, off, before, sizeof before);
  if (rv == 0) rv = read_bytes(repair, off + sizeof before + len, behind, sizeof behind);
  if (rv != 0) return rv;
  witnesses->before = flume_get_be32(before) == len;
  witnesses->behind = flume_get_be32(behind) == len;
  witnesses->pointer = flume_offset_pointer(behind + FLUME_OFFSET_LENGTH_BYTES, bits) == end_off;
  return 0;
}

/* Whether a record begins at off of which one thing alone is wrong; end_off is where another begins. 1 and *len, or 0. */
static int is_mendable(const struct repair *repair, uint64_t off, uint64_t end_off, uint32_t *len) {
  uint64_t framing = flume_offset_framing_bytes(repair->log->file->bits);
  uint8_t bytes[FLUME_OFFSET_LENGTH_BYTES];
  struct witnesses witnesses;
  if (end_off - off < framing) return 0;
  int rv = read_bytes(repair, off, bytes, sizeof bytes);
  if (rv != 0) return rv;
  uint64_t said = flume_get_be32(bytes), fits = end_off - off - framing;
  if (fits == 0) { /* then it is an empty one */
    *len = 0;
    return 1;
  }
  if (fits <= FLUME_OFFSET_LIMIT_BYTES) { /* as long as the gap */
    rv = look_at(repair, off, (uint32_t)fits, &witnesses);
    if (rv != 0) return rv;
    *len = (uint32_t)fits;
    if (witnesses.before + witnesses.behind + witnesses.pointer >= 2) return 1;
  }
  if (said >= fits || fits - said < framing) return 0; /* what is left has to be enough for another */
  rv = look_at(repair, off, (uint32_t)said, &witnesses);
  *len = (uint32_t)said;
  return rv != 0 ? rv : witnesses.behind || witnesses.pointer;
}

/* --- Quarantine ------------------------------------------------------------------------------------------- */

static int copy_range(const struct repair *repair, int to, uint64_t off, uint64_t end_off, uint8_t *piece) {
  int rv = 0;
  for (; off < end_off && rv == 0; off += COPY_BYTES) {
    size_t len = end_off - off < COPY_BYTES ? (size_t)(end_off - off) : COPY_BYTES;
    rv = flume_io_read_full(repair->io, repair->log->file->file, piece, len, off);
    if (rv == 0) rv = flume_io_write_full(repair->io, to, piece, len, off);
  }
  return rv;
}

static int copy_gaps(const struct repair *repair, int to) {
  const struct flume_offset_verify *verify = &repair->verify;
  uint8_t *piece = flume_io_alloc(repair->io, COPY_BYTES);
  if (piece == NULL) return FLUME_ENOMEM;
  int rv = 0;
  for (size_t at = 0; at < verify->gaps.len && rv == 0; at += sizeof(struct flume_offset_gap)) {
    struct flume_offset_gap gap;
    memcpy(&gap, verify->gaps.data + at, sizeof gap);
    bool last = at + sizeof gap == verify->gaps.len && verify->at_end;
    uint64_t end_off = last || gap.end_off > verify->window.file_bytes ? verify->window.file_bytes : gap.end_off;
    rv = copy_range(repair, to, gap.off, end_off, piece);
  }
  flume_io_free(repair->io, piece);
  return rv;
}

/* The bytes that are going to be replaced, in a file of the log's name, where they are in that: the rest is holes. */
static int put_gaps_aside(struct repair *repair, struct flume_err *err) {
  const struct flume_io *io = repair->io;
  char path[FLUME_PATH_MAX];
  if (repair->verify.gaps.len == 0) return 0;
  int rv = flume__quarantine_make(&repair->quarantine, err);
  if (rv != 0) return rv;
  rv = flume__quarantine_name(&repair->quarantine, flume__offset_name(repair->log), path, sizeof path);
  int to = rv == 0 ? io->open(io->ctx, path, FLUME_IO_WRITE | FLUME_IO_CREATE | FLUME_IO_EXCLUSIVE) : rv;
  if (to < 0) return flume_err_set(err, to, "creating %s: %s", path, flume_strerror(to));
  rv = copy_gaps(repair, to);
  if (rv == 0) rv = io->sync(io->ctx, to);
  io->close(io->ctx, to);
  if (rv == 0) rv = io->sync_dir(io->ctx, repair->quarantine.path);
  return rv == 0 ? 0 : flume_err_set(err, rv, "copying to %s: %s", path, flume_strerror(rv));
}

/* --- The file ------------------------------------------------------------------------------------------------- */

/* How much of what is lost becomes one record of zeros: what is left must be enough for another. */
static uint64_t lost_piece(uint64_t bytes, uint64_t framing) {
  if (bytes <= LOST_PIECE_BYTES) return bytes;
  return bytes - LOST_PIECE_BYTES > framing ? LOST_PIECE_BYTES : LOST_PIECE_BYTES - 2 * framing;
}

/* What is done about each place. */
struct mending {
  int (*mend)(struct repair *repair, uint64_t off, uint32_t len, struct flume_err *err);
  int (*lose)(struct repair *repair, uint64_t off, uint64_t end_off, struct flume_err *err);
};

static int too_short(const struct repair *repair, const struct flume_offset_gap *gap, struct flume_err *err) {
  return flume_err_set(err, FLUME_ECORRUPT,
                       "%s: byte %llu: %llu bytes up to the next good record are too few for another; can't be mended",
                       repair->log->file->path, (unsigned long long)gap->off,
                       (unsigned long long)(gap->end_off - gap->off));
}

/* A record behind off of which the length before its bytes alone is wrong, and with room for another before it: 1 and
 * *next_off, where it begins; 0. */
static int find_mendable(struct repair *repair, uint64_t off, uint64_t end_off, uint64_t *next_off) {
  enum flume_offset_bits bits = repair->log->file->bits;
  struct flume_window *window = &repair->verify.window;
  uint64_t framing = flume_offset_framing_bytes(bits);
  size_t tail = (size_t)framing - FLUME_OFFSET_LENGTH_BYTES;
  if (end_off > window->file_bytes) end_off = window->file_bytes;
  for (uint64_t at = off + 2 * framing + 1; at <= end_off; at++) {
    const uint8_t *bytes;
    int rv = flume_window_get(window, at - tail, tail, &bytes);
    if (rv != 0) return rv;
    if (flume_offset_pointer(bytes + FLUME_OFFSET_LENGTH_BYTES, bits) != at) continue;
    uint64_t whole = framing + flume_get_be32(bytes);
    if (whole >= at - off - framing) continue;
    *next_off = at - whole;
    return 1;
  }
  return 0;
}

/* One step: what begins at gap->off is mended, or lost. */
static int go_on(struct repair *repair, struct flume_offset_gap *gap, const struct mending *mending,
                 struct flume_err *err) {
  uint64_t framing = flume_offset_framing_bytes(repair->log->file->bits), next_off = gap->end_off;
  uint32_t len = 0;
  int rv = is_mendable(repair, gap->off, gap->end_off, &len);
  if (rv == 0) {
    rv = find_mendable(repair, gap->off, gap->end_off, &next_off);
    if (rv == 1) rv = is_mendable(repair, gap->off, next_off, &len);
  }
  if (rv < 0) return fail(repair, "reading", rv, err);
  if (rv == 0 && next_off - gap->off < framing) return too_short(repair, gap, err);
  uint64_t off = gap->off;
  gap->off = rv == 1 ? off + framing + len : next_off;
  return rv == 1 ? mending->mend(repair, off, len, err) : mending->lose(repair, off, next_off, err);
}

static int for_each_gap(struct repair *repair, const struct mending *mending, struct flume_err *err) {
  int rv = 0;
  for (size_t at = 0; at < repair->verify.gaps.len && rv == 0; at += sizeof(struct flume_offset_gap)) {
    struct flume_offset_gap gap;
    memcpy(&gap, repair->verify.gaps.data + at, sizeof gap);
    while (gap.off < gap.end_off && rv == 0) rv = go_on(repair, &gap, mending, err);
  }
  return rv;
}

static int plan_mend(struct repair *repair, uint64_t off, uint32_t len, struct flume_err *err) {
  int64_t seq = (int64_t)off;
  (void)len;
  return flume_buf_append(&repair->mended, &seq, sizeof seq) == 0 ? 0 : flume_err_nomem(err);
}

static int plan_loss(struct repair *repair, uint64_t off, uint64_t end_off, struct flume_err *err) {
  uint64_t framing = flume_offset_framing_bytes(repair->log->file->bits);
  while (off < end_off) {
    int64_t seq = (int64_t)off;
    if (flume_buf_append(&repair->lost, &seq, sizeof seq) != 0) return flume_err_nomem(err);
    off += lost_piece(end_off - off, framing);
  }
  return 0;
}

static const struct mending planning = {.mend = plan_mend, .lose = plan_loss};

/* The frame around len bytes at off. */
static int write_frame(struct repair *repair, uint64_t off, uint32_t len) {
  enum flume_offset_bits bits = repair->log->file->bits;
  int file = repair->log->file->file;
  uint8_t frame[FLUME_OFFSET_LENGTH_BYTES * 2 + 8];
  struct flume_slice nothing = {.data = NULL, .len = 0};
  flume_offset_put(frame, nothing, off + len, bits); /* ends where the record does; the lengths follow */
  flume_put_be32(frame, len);
  flume_put_be32(frame + FLUME_OFFSET_LENGTH_BYTES, len);
  size_t tail = flume_offset_framing_bytes(bits) - FLUME_OFFSET_LENGTH_BYTES;
  int rv = flume_io_write_full(repair->io, file, frame, FLUME_OFFSET_LENGTH_BYTES, off);
  if (rv != 0) return rv;
  uint64_t behind_off = off + FLUME_OFFSET_LENGTH_BYTES + len;
  return flume_io_write_full(repair->io, file, frame + FLUME_OFFSET_LENGTH_BYTES, tail, behind_off);
}

static int mend(struct repair *repair, uint64_t off, uint32_t len, struct flume_err *err) {
  int rv = write_frame(repair, off, len);
  if (rv != 0) return fail(repair, "writing", rv, err);
  repair->report->records++;
  return tell(repair, flume__offset_name(repair->log), off, (int64_t)off,
              "its framing was written anew; its bytes can't be verified", err);
}

static int lose(struct repair *repair, uint64_t off, uint64_t end_off, struct flume_err *err) {
  uint64_t framing = flume_offset_framing_bytes(repair->log->file->bits);
  char what[128];
  snprintf(what, sizeof what, "lost: %llu bytes, up to byte %llu, are a record that is deleted",
           (unsigned long long)(end_off - off), (unsigned long long)end_off);
  for (uint64_t at = off; at < end_off;) {
    uint64_t bytes = lost_piece(end_off - at, framing);
    int rv = write_frame(repair, at, (uint32_t)(bytes - framing));
    if (rv == 0) rv = flume__offset_zero_in(repair->io, repair->log->file->file, at);
    if (rv != 0) return fail(repair, "writing", rv, err);
    at += bytes;
  }
  return tell(repair, flume__offset_name(repair->log), off, (int64_t)off, what, err);
}

static const struct mending doing = {.mend = mend, .lose = lose};

/* The file ends where it did on disk: what comes behind damage at its end was never acknowledged. */
static int mend_file(struct repair *repair, struct flume_err *err) {
  const struct flume_offset_verify *verify = &repair->verify;
  const struct flume_io *io = repair->io;
  struct flume_offset_gap last;
  if (verify->gaps.len == 0) return 0;
  int rv = for_each_gap(repair, &doing, err);
  if (rv != 0) return rv;
  memcpy(&last, verify->gaps.data + verify->gaps.len - sizeof last, sizeof last);
  if (verify->at_end && last.end_off < verify->window.file_bytes) {
    rv = io->truncate(io->ctx, repair->log->file->file, last.end_off);
  }
  if (rv == 0) rv = io->sync(io->ctx, repair->log->file->file);
  return rv == 0 ? 0 : fail(repair, "writing", rv, err);
}

/* --- What is beside it ---------------------------------------------------------------------------------------- */

/* Of ascending int64_t. */
static bool holds(const struct flume_buf *seqs, int64_t seq) {
  return seqs->len > 0 && bsearch(&seq, seqs->data, seqs->len / sizeof seq, sizeof seq, flume__compare_seqs) != NULL;
}

/* Whether a record begins there, once the file is mended. */
static bool is_record(const struct repair *repair, int64_t seq) {
  return !holds(&repair->verify.strangers, seq) || holds(&repair->mended, seq) || holds(&repair->lost, seq);
}

/* The deletions that can be told, each in its place, and behind them what is lost now. Where a seq was of a record that
 * is not there any more nobody knows what was deleted. */
static int list_deleted(struct repair *repair, struct flume_deletions *list) {
  const struct flume_deletions *known = &repair->verify.deleted.seqs;
  size_t lost = repair->lost.len / sizeof(int64_t);
  if (flume_tombstones_reserve(&list->deleted, known->deleted.count + lost) != 0) return FLUME_ENOMEM;
  if (flume_tombstones_reserve(&list->lost, known->lost.count + lost) != 0) return FLUME_ENOMEM;
  for (size_t i = 0; i < known->deleted.count; i++) {
    int64_t seq = known->deleted.order[i];
    if (seq >= 0 && is_record(repair, seq)) {
      flume_tombstones_add(&list->deleted, seq);
      if (flume_tombstones_has(&known->lost, seq)) flume_tombstones_add(&list->lost, seq);
    } else {
      flume_tombstones_add_unknown(&list->deleted);
    }
  }
  for (size_t i = 0; i < lost; i++) {
    int64_t seq;
    memcpy(&seq, repair->lost.data + i * sizeof seq, sizeof seq);
    if (flume_tombstones_add(&list->deleted, seq)) flume_tombstones_add(&list->lost, seq);
  }
  return 0;
}

static int remove_file(struct repair *repair, const char *name, struct flume_err *err) {
  char path[FLUME_PATH_MAX];
  int rv = flume__quarantine_put(&repair->quarantine, name, err);
  if (rv != 0) return rv;
  rv = flume__offset_path(repair->log, name, path, sizeof path);
  if (rv == 0) rv = repair->io->unlink(repair->io->ctx, path);
  if (rv == 0) rv = repair->io->sync_dir(repair->io->ctx, repair->log->log.dir);
  return rv == 0 || rv == UV_ENOENT ? 0 : flume_err_set(err, rv, "removing %s: %s", path, flume_strerror(rv));
}

static int write_set(struct repair *repair, struct flume_offset_set *set, const char *what, struct flume_err *err) {
  bool empty = set->seqs.deleted.count == 0;
  int rv = empty ? remove_file(repair, set->name, err) : flume__quarantine_put(&repair->quarantine, set->name, err);
  set->seqs.ended = false;
  if (rv == 0 && !empty) rv = flume__offset_set_rewrite(repair->log, set, err);
  return rv == 0 ? tell(repair, set->name, 0, -1, what, err) : rv;
}

static int mend_deleted(struct repair *repair, struct flume_err *err) {
  const struct flume_offset_verify *verify = &repair->verify;
  if (repair->lost.len == 0 && !verify->deleted_damaged && verify->strangers.len == 0) return 0;
  struct flume_offset_set set;
  flume__offset_set_init(&set, repair->io, "deleted");
  int rv = list_deleted(repair, &set.seqs) != 0 ? flume_err_nomem(err) : 0;
  const char *what = verify->deleted_damaged || verify->strangers.len > 0
                         ? "written anew; what its damaged frames deleted stays overwritten"
                         : "what is lost was added";
  if (rv == 0) rv = write_set(repair, &set, what, err);
  flume__offset_set_fini(&set, repair->io);
  return rv;
}

static int mend_zeros(struct repair *repair, struct flume_err *err) {
  struct flume_offset_verify *verify = &repair->verify;
  if (!verify->zeros_damaged) return 0;
  return write_set(repair, &verify->zeros,
                   "written anew; records of zeros that its damaged frames had count as deleted", err);
}

/* The note last: without it nothing of the others is looked at. */
static int begin_anew(struct repair *repair, struct flume_err *err) {
  struct offset_log *log = repair->log;
  if (!repair->verify.superblock_damaged && log->superblock_bits != 0) return 0;
  bool damaged = repair->verify.superblock_damaged;
  int rv = 0;
  if (damaged) rv = remove_file(repair, "deleted", err);
  if (rv == 0 && damaged) rv = remove_file(repair, "zeros", err);
  if (rv == 0 && damaged) rv = remove_file(repair, "note", err);
  if (rv != 0) return rv;
  rv = uv_random(NULL, NULL, log->log.id, sizeof log->log.id, 0, NULL);
  if (rv != 0) return fail(repair, "repairing", rv, err);
  log->superblock = (struct flume_offset_superblock){.durable_off = 0};
  rv = flume__offset_superblock_sync(log, err);
  if (rv != 0 || !damaged) return rv;
  return tell(repair, "note", 0, -1,
              "made anew: the log has another id, views are built anew, records of zeros are deleted", err);
}

/* --- All of it ------------------------------------------------------------------------------------------------ */

static int check_all(struct repair *repair, struct flume_err *err) {
  int rv = flume_offset_verify_begin(&repair->verify, err);
  if (rv == 0) rv = flume__offset_choose_bits(repair->log, &repair->verify.window, 0, err);
  if (rv != 0) return rv;
  while ((rv = flume_offset_verify_step(&repair->verify, STEP_BYTES, err)) == 1) continue;
  repair->report->segments = 1;
  repair->report->deleted = repair->verify.named_count;
  return rv;
}

static int mend_all(struct repair *repair, struct flume_err *err) {
  int rv = for_each_gap(repair, &planning, err);
  if (rv == 0) rv = put_gaps_aside(repair, err);
  if (rv == 0) rv = begin_anew(repair, err);
  if (rv == 0) rv = mend_zeros(repair, err);
  if (rv == 0) rv = mend_deleted(repair, err);
  if (rv == 0) rv = mend_file(repair, err);
  const char *quarantined = flume__quarantine_dir(&repair->quarantine);
  return rv == 0 && quarantined != NULL ? tell(repair, quarantined, 0, -1, "holds what was replaced, as it was", err)
                                        : rv;
}

static int repair_log(struct offset_log *log, struct flume_report *report, struct flume_err *err) {
  struct repair repair = {.io = log->log.io, .log = log, .report = report};
  flume__quarantine_init(&repair.quarantine, log->log.io, log->log.dir);
  flume_offset_verify_init(&repair.verify, log, report);
  flume_buf_init(&repair.lost, log->log.io);
  flume_buf_init(&repair.mended, log->log.io);
  int rv = check_all(&repair, err);
  if (rv == 0 && report->damages > 0) rv = mend_all(&repair, err);
  flume_buf_fini(&repair.mended);
  flume_buf_fini(&repair.lost);
  flume_offset_verify_fini(&repair.verify);
  return rv;
}

/* Before anything is made beside what may be no log at all. */
static int find(struct offset_log *log, struct flume_err *err) {
  const struct flume_io *io = log->log.io;
  int file = io->open(io->ctx, log->file->path, FLUME_IO_WRITE);
  if (file < 0) return flume_err_set(err, file, "opening %s: %s", log->file->path, flume_strerror(file));
  log->file->file = file;
  return flume__offset_look(log, err);
}

int flume_log_repair_offset(const char *path, const struct flume_io *io, struct flume_report *report,
                            struct flume_err *err) {
  struct offset_log log;
  if (io == NULL) io = &flume_io_posix;
  flume_report_init(report, io);
  int rv = flume__offset_init(&log, io, path);
  if (rv != 0) return flume_err_nomem(err);
  struct flume_err why;
  rv = find(&log, &why);
  if (rv == 0) rv = flume__offset_lock(&log, &why);
  if (rv == 0) {
    rv = flume__offset_superblock_load(&log, &why);
    if (rv == FLUME_ECORRUPT) rv = 0; /* as the check will say */
  }
  if (rv == 0) rv = repair_log(&log, report, &why);
  if (rv != 0 && err != NULL) *err = why;
  flume__offset_fini(&log);
  return rv;
}
