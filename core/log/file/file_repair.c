/* Repairing a file log that is damaged.
 *
 * Happy path: check everything; put the lost records into the list of deleted ones, and write the file "deleted" again; then
 * rewrite each damaged segment with the good records and a slot for each lost one. Every file that is replaced is copied
 * to the quarantine before. Each file is synced and renamed, so that a crash leaves a log which can be repaired again.
 *
 * Failures: lost seqs are known by their neighbours, as frames and segments say with which seq they begin. Where that gives
 * no answer, or two, nothing is done.
 *
 * Invariants: no good record is dropped, and no seq changes. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/path.h"
#include "log/file/file_log.h"
#include "log/file/file_verify.h"
#include "log/file/segment_writer.h"
#include "log/quarantine.h"

#define STEP_BYTES (64u << 20)
#define LOST_MAX ((int64_t)1 << 27) /* in one place: a segment has no more records */

#define UNKNOWN_MAX (1u << 20) /* deletions without a seq that are added for those that are missing */

struct repair {
  const struct flume_io *io;
  const char *dir;
  struct flume_report *report;
  struct flume_checker checker;
  struct flume_quarantine quarantine;
};

static int tell(struct repair *repair, const char *name, int64_t seq, const char *what, struct flume_err *err) {
  int rv = flume_report_add(repair->report, FLUME_FINDING_REPAIR, name, 0, seq, "%s", what);
  return rv == 0 ? 0 : flume_err_nomem(err);
}

/* --- The file "deleted" -------------------------------------------------------------------------------------- */

static int add_lost(struct flume_deletions *deletions, int64_t seq, int64_t count) {
  if (flume_tombstones_reserve(&deletions->deleted, (size_t)count) != 0 ||
      flume_tombstones_reserve(&deletions->lost, (size_t)count) != 0) {
    return FLUME_ENOMEM;
  }
  for (int64_t i = 0; i < count; i++) {
    if (flume_tombstones_add(&deletions->deleted, seq + i)) flume_tombstones_add(&deletions->lost, seq + i);
  }
  return 0;
}

/* Lost records count as deleted, and so do removed ones of which no deletion is known. */
static int add_all_lost(struct repair *repair, struct flume_err *err) {
  struct flume_checker *checker = &repair->checker;
  int rv = 0;
  for (size_t at = 0; at < checker->lost.len && rv == 0; at += sizeof(struct flume_lost_range)) {
    struct flume_lost_range range;
    memcpy(&range, checker->lost.data + at, sizeof range);
    rv = add_lost(&checker->deletions, range.seq, range.count);
  }
  for (size_t at = 0; at < checker->removed.len && rv == 0; at += sizeof(int64_t)) {
    int64_t seq;
    memcpy(&seq, checker->removed.data + at, sizeof seq);
    rv = add_lost(&checker->deletions, seq, 1);
  }
  return rv == 0 ? 0 : flume_err_nomem(err);
}

/* Records that damaged frames had deleted are there again. Views that know of these deletions must start over: for them
 * the log has more deletions than it ever had. The frames that are missing at the end had at most a seq in 8 bytes. */
static int add_unknown(struct repair *repair, struct flume_err *err) {
  struct flume_checker *checker = &repair->checker;
  struct flume_deletions *deletions = &checker->deletions;
  if (!checker->deletions_damaged) return 0;
  uint64_t acknowledged_off = checker->watermark.deleted_end_off, count = 1;
  if (acknowledged_off > deletions->end_off) count += (acknowledged_off - deletions->end_off) / 8;
  if (count > UNKNOWN_MAX) return 0; /* the log has fewer deletions than before, which views notice as well */
  if (flume_tombstones_reserve(&deletions->deleted, (size_t)count) != 0) return flume_err_nomem(err);
  while (count-- > 0) flume_tombstones_add_unknown(&deletions->deleted);
  return 0;
}

static int replace_deleted(struct repair *repair, const struct flume_buf *bytes, struct flume_err *err) {
  const struct flume_io *io = repair->io;
  char path[FLUME_PATH_MAX], temporary[FLUME_PATH_MAX];
  int rv = flume_path_join(path, sizeof path, repair->dir, "deleted");
  if (rv == 0) rv = flume_path_join(temporary, sizeof temporary, repair->dir, "deleted" FLUME_TEMPORARY_SUFFIX);
  int file = rv == 0 ? io->open(io->ctx, temporary, FLUME_IO_WRITE | FLUME_IO_CREATE) : rv;
  if (file < 0) return flume_err_set(err, file, "creating %s: %s", temporary, flume_strerror(file));
  rv = flume_io_write_full(io, file, bytes->data, bytes->len, 0);
  if (rv == 0) rv = io->truncate(io->ctx, file, bytes->len);
  if (rv == 0) rv = io->sync(io->ctx, file);
  io->close(io->ctx, file);
  if (rv == 0) rv = io->rename(io->ctx, temporary, path);
  if (rv == 0) rv = io->sync_dir(io->ctx, repair->dir);
  return rv == 0 ? 0 : flume_err_set(err, rv, "writing %s: %s", path, flume_strerror(rv));
}

static int repair_deleted(struct repair *repair, struct flume_err *err) {
  struct flume_checker *checker = &repair->checker;
  size_t before = checker->deletions.deleted.count;
  int rv = add_all_lost(repair, err);
  size_t lost = checker->deletions.deleted.count - before;
  if (rv == 0) rv = add_unknown(repair, err);
  if (rv != 0 || (lost == 0 && !checker->deletions_damaged)) return rv;
  struct flume_buf bytes;
  flume_buf_init(&bytes, repair->io);
  rv = flume_deletions_write(&checker->deletions, &bytes, repair->io->now_ms(repair->io->ctx), checker->log_id);
  if (rv != 0) flume_err_nomem(err);
  if (rv == 0) rv = flume__quarantine_put(&repair->quarantine, "deleted", err);
  if (rv == 0) rv = replace_deleted(repair, &bytes, err);
  flume_buf_fini(&bytes);
  if (rv != 0) return rv;
  if (checker->deletions_damaged) {
    rv = tell(repair, "deleted", -1, "written anew; what its damaged frames deleted is not deleted any more", err);
  }
  char what[80];
  snprintf(what, sizeof what, "%zu record%s noted as lost", lost, lost == 1 ? "" : "s");
  return rv == 0 && lost > 0 ? tell(repair, "deleted", -1, what, err) : rv;
}

/* --- Segments ------------------------------------------------------------------------------------------------ */

struct rewriting {
  struct flume_segment_writer writer;
  bool in_frame;
  int64_t kept;
  int64_t lost;
  struct flume_err *err;
};

static int on_frame(void *arg, uint64_t time_ms) {
  struct rewriting *rewriting = arg;
  int rv = rewriting->in_frame ? flume_segment_writer_end(&rewriting->writer, rewriting->err) : 0;
  rewriting->in_frame = true;
  return rv == 0 ? flume_segment_writer_begin(&rewriting->writer, time_ms, rewriting->err) : rv;
}

static int on_record(void *arg, int64_t seq, const uint8_t *bytes, size_t len) {
  struct rewriting *rewriting = arg;
  (void)seq;
  rewriting->kept++;
  if (flume_get_le32(bytes) == FLUME_RECORD_REMOVED) {
    return flume_segment_writer_remove(&rewriting->writer, rewriting->err);
  }
  return flume_segment_writer_put(&rewriting->writer, bytes, len, rewriting->err);
}

static int on_lost(void *arg, int64_t seq, int64_t count) {
  struct rewriting *rewriting = arg;
  (void)seq;
  rewriting->lost += count;
  int rv = rewriting->in_frame ? 0 : on_frame(rewriting, 0);
  while (rv == 0 && count-- > 0) rv = flume_segment_writer_remove(&rewriting->writer, rewriting->err);
  return rv;
}

static int on_problem(void *arg, uint64_t off, int64_t seq, const char *what) {
  (void)arg;
  (void)off;
  (void)seq;
  (void)what;
  return 0; /* the checker has told */
}

static int on_remnant(void *arg, uint64_t off, int64_t seq) {
  (void)arg;
  (void)off;
  (void)seq;
  return 0; /* not taken over */
}

static const struct flume_verify_ops rewrite_ops = {
    .frame = on_frame, .record = on_record, .lost = on_lost, .problem = on_problem, .remnant = on_remnant};

static int64_t end_of(const struct repair *repair, size_t i) {
  const struct flume_checker *checker = &repair->checker;
  bool last = i + 1 == checker->segments_count;
  return last ? checker->segments[i].first_seq : checker->segments[i + 1].first_seq;
}

static int copy_good(struct repair *repair, size_t i, struct rewriting *rewriting) {
  struct flume_segment *segment;
  struct flume_verify verify;
  const struct flume_checked_segment *checked = &repair->checker.segments[i];
  if (checked->unnamed || checked->foreign) {
    return on_lost(rewriting, checked->first_seq, end_of(repair, i) - checked->first_seq);
  }
  int rv = flume_checker_verify(&repair->checker, i, &rewrite_ops, rewriting, &segment, &verify, rewriting->err);
  if (rv != 0) return rv;
  while ((rv = flume_verify_step(&verify, STEP_BYTES)) == 1) continue;
  flume_verify_fini(&verify);
  flume_segment_unref(segment);
  return rv;
}

static int rewrite(struct repair *repair, size_t i, struct rewriting *rewriting) {
  const struct flume_checker *checker = &repair->checker;
  bool last = i + 1 == checker->segments_count;
  uint16_t flags = !last || checker->successor_missing ? FLUME_FRAME_SEALED : 0;
  struct flume_segment *made;
  int rv = flume_segment_writer_open(&rewriting->writer, repair->io, repair->dir, checker->segments[i].first_seq,
                                     checker->log_id, rewriting->err);
  if (rv == 0) rv = copy_good(repair, i, rewriting);
  if (rv == 0 && rewriting->in_frame) rv = flume_segment_writer_end(&rewriting->writer, rewriting->err);
  if (rv == 0) rv = flume_segment_writer_finish(&rewriting->writer, flags, rewriting->err);
  if (rv == 0) rv = flume_segment_writer_publish(&rewriting->writer, &made, rewriting->err);
  if (rv == 0) flume_segment_unref(made);
  flume_segment_writer_fini(&rewriting->writer);
  return rv;
}

static int repair_segment(struct repair *repair, size_t i, struct flume_err *err) {
  char name[64], what[160];
  int64_t first_seq = repair->checker.segments[i].first_seq;
  snprintf(name, sizeof name, "%020lld" FLUME_SEGMENT_SUFFIX, (long long)first_seq);
  int rv = flume__quarantine_put(&repair->quarantine, name, err);
  if (rv != 0) return rv;
  struct rewriting rewriting = {.err = err};
  flume_err_set(err, 0, "writing %s anew", name);
  rv = rewrite(repair, i, &rewriting);
  if (rv != 0 && err != NULL && err->code != rv)
    flume_err_set(err, rv, "writing %s anew: %s", name, flume_strerror(rv));
  if (rv != 0) return rv;
  snprintf(what, sizeof what, "written anew: %lld records are good, %lld lost", (long long)rewriting.kept,
           (long long)rewriting.lost);
  return tell(repair, name, first_seq, what, err);
}

static int make_successor(struct repair *repair, struct flume_err *err) {
  const struct flume_checker *checker = &repair->checker;
  struct flume_segment *segment = flume_segment_new(repair->io, repair->dir, checker->next_seq);
  if (segment == NULL) return flume_err_nomem(err);
  int rv = flume_segment_create(segment, repair->dir, checker->log_id, err);
  if (rv == 0)
    rv = tell(repair, strrchr(segment->path, '/') + 1, checker->next_seq,
              "made empty; how many records are lost behind here can't be known", err);
  flume_segment_unref(segment);
  return rv;
}

/* --- All of it ----------------------------------------------------------------------------------------------- */

static int check_all(struct repair *repair, struct flume_err *err) {
  int rv = flume_checker_open(&repair->checker, repair->io, repair->dir, -1, 0, repair->report, err);
  while (rv == 0 && (rv = flume_checker_step(&repair->checker, STEP_BYTES, err)) == 1) rv = 0;
  return rv;
}

/* Whether the missing seqs are known, and their number is not absurd. */
static int check_provable(const struct repair *repair, struct flume_err *err) {
  const struct flume_checker *checker = &repair->checker;
  if (checker->overlaps) {
    return flume_err_set(err, FLUME_ECORRUPT,
                         "%s: two segments have records with the same seqs, and either may be right", repair->dir);
  }
  for (size_t at = 0; at < checker->lost.len; at += sizeof(struct flume_lost_range)) {
    struct flume_lost_range range;
    memcpy(&range, checker->lost.data + at, sizeof range);
    if (range.count <= LOST_MAX) continue;
    return flume_err_set(err, FLUME_ECORRUPT, "%s: %lld records from seq %lld on would be missing; is a file misnamed?",
                         repair->dir, (long long)range.count, (long long)range.seq);
  }
  return 0;
}

static int mend(struct repair *repair, struct flume_err *err) {
  int rv = check_provable(repair, err);
  if (rv == 0) rv = repair_deleted(repair, err);
  for (size_t i = 0; i < repair->checker.segments_count && rv == 0; i++) {
    if (repair->checker.segments[i].damaged) rv = repair_segment(repair, i, err);
  }
  if (rv == 0 && repair->checker.successor_missing) rv = make_successor(repair, err);
  const char *quarantined = flume__quarantine_dir(&repair->quarantine);
  if (rv == 0 && quarantined != NULL) rv = tell(repair, quarantined, -1, "holds the files as they were", err);
  return rv;
}

/* The high watermark of the damaged files says nothing of the repaired ones. */
static int forget_watermark(const struct repair *repair, int lock_file, struct flume_err *err) {
  int rv = flume__watermark_remove(repair->io, lock_file);
  return rv == 0 ? 0 : flume_err_set(err, rv, "writing %s/lock: %s", repair->dir, flume_strerror(rv));
}

int flume_log_repair(const char *dir, const struct flume_io *io, struct flume_report *report, struct flume_err *err) {
  struct repair repair = {.io = io != NULL ? io : &flume_io_posix, .dir = dir, .report = report};
  flume__quarantine_init(&repair.quarantine, repair.io, dir);
  flume_report_init(report, repair.io);
  struct flume_report before; /* a look without the lock: it must not be put where there is no log */
  flume_report_init(&before, repair.io);
  int rv = flume_checker_open(&repair.checker, repair.io, dir, -1, 0, &before, err);
  flume_checker_fini(&repair.checker);
  flume_report_fini(&before);
  struct flume_lock_file lock;
  flume__lock_file_init(&lock, repair.io, dir);
  if (rv == 0) rv = flume__lock_file_take(&lock, dir, err);
  if (rv != 0) return rv;
  rv = check_all(&repair, err);
  if (rv == 0 && report->damages > 0) {
    rv = mend(&repair, err);
    if (rv == 0) rv = forget_watermark(&repair, lock.file, err);
  }
  flume_checker_fini(&repair.checker);
  flume__lock_file_release(&lock);
  return rv;
}
