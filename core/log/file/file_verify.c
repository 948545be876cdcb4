#include "log/file/file_verify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/path.h"
#include "log/quarantine.h"

/* The file's name without its directory. */
static const char *name_of(const struct flume_segment *segment) {
  return strrchr(segment->path, '/') + 1;
}

static int no_memory(int rv, struct flume_err *err) {
  return rv == 0 ? 0 : flume_err_nomem(err);
}

/* --- The high watermark ------------------------------------------------------------------------------------------------ */

/* Read before the other files, so that they have at least what it says. Zeros when there is none. */
static int read_watermark(const struct flume_checker *checker, uint8_t *bytes, struct flume_err *err) {
  const struct flume_io *io = checker->io;
  char path[FLUME_PATH_MAX];
  memset(bytes, 0, FLUME_WATERMARK_BYTES);
  int rv = flume__lock_file_path(checker->dir, path, sizeof path, err);
  if (rv != 0) return rv;
  int file = io->open(io->ctx, path, FLUME_IO_READ);
  if (file == UV_ENOENT) return 0;
  if (file < 0) return flume_err_set(err, file, "opening %s: %s", path, flume_strerror(file));
  rv = flume_io_read_full(io, file, bytes, FLUME_WATERMARK_BYTES, FLUME_IO_LOCK_BYTES);
  io->close(io->ctx, file);
  if (rv == 0 || rv == FLUME_ECORRUPT) return 0; /* shorter: no high watermark */
  return flume_err_set(err, rv, "reading %s: %s", path, flume_strerror(rv));
}

static void take_watermark(struct flume_checker *checker, const uint8_t *bytes) {
  struct flume_watermark watermark;
  if (flume__watermark_get(bytes, checker->log_id, &watermark) != 0) return;
  checker->watermark = watermark;
  if (watermark.since == FLUME_SEQ_MAX) checker->watermark.since = -1;
}

/* --- The directory ------------------------------------------------------------------------------------------- */

static int add_segment(struct flume_checker *checker, int64_t first_seq) {
  if (checker->segments_count == checker->segments_cap) {
    size_t cap = checker->segments_cap > 0 ? checker->segments_cap * 2 : 16;
    void *segments = flume_io_realloc(checker->io, checker->segments, cap * sizeof *checker->segments);
    if (segments == NULL) return FLUME_ENOMEM;
    checker->segments = segments;
    checker->segments_cap = cap;
  }
  checker->segments[checker->segments_count++] = (struct flume_checked_segment){.first_seq = first_seq};
  return 0;
}

static int each_name(void *arg, const char *name) {
  struct flume_checker *checker = arg;
  bool live = checker->live_seq >= 0;
  int64_t first_seq = flume_segment_seq_of(name);
  if (first_seq >= 0) return live && first_seq > checker->live_seq ? 0 : add_segment(checker, first_seq);
  if (flume_segment_is_temporary(name)) {
    if (live) return 0;
    return flume_report_add(checker->report, FLUME_FINDING_NOTE, name, 0, -1,
                            "left over; removed when the log is opened");
  }
  if (strcmp(name, "deleted") == 0 || strcmp(name, "lock") == 0) return 0;
  if (strncmp(name, FLUME_QUARANTINE_PREFIX, strlen(FLUME_QUARANTINE_PREFIX)) == 0) {
    return flume_report_add(checker->report, FLUME_FINDING_NOTE, name, 0, -1, "what a repair has put aside");
  }
  return flume_report_add(checker->report, FLUME_FINDING_NOTE, name, 0, -1, "no file of the log");
}

static int by_first_seq(const void *a, const void *b) {
  const struct flume_checked_segment *x = a, *y = b;
  return (x->first_seq > y->first_seq) - (x->first_seq < y->first_seq);
}

static int list(struct flume_checker *checker, struct flume_err *err) {
  int rv = checker->io->list(checker->io->ctx, checker->dir, each_name, checker);
  if (rv == FLUME_ENOMEM) return flume_err_nomem(err);
  if (rv != 0) return flume_err_set(err, rv, "listing %s: %s", checker->dir, flume_strerror(rv));
  if (checker->segments_count == 0) return flume_err_set(err, FLUME_ENOENT, "%s: there is no log here", checker->dir);
  qsort(checker->segments, checker->segments_count, sizeof *checker->segments, by_first_seq);
  if (checker->segments[0].first_seq == 0) return 0;
  rv = flume_report_add(checker->report, FLUME_FINDING_DAMAGE, "00000000000000000000" FLUME_SEGMENT_SUFFIX, 0, 0,
                        "the first segment is missing");
  if (rv == 0) rv = add_segment(checker, 0);
  if (rv != 0) return flume_err_nomem(err);
  struct flume_checked_segment *added = &checker->segments[checker->segments_count - 1];
  added->damaged = added->unnamed = true;
  qsort(checker->segments, checker->segments_count, sizeof *checker->segments, by_first_seq);
  return 0;
}

/* Each segment has the id of the log. Where they differ, most of them are right. */
static int vote(struct flume_checker *checker, struct flume_err *err) {
  int64_t votes = 0;
  struct flume_err why;
  for (size_t i = 0; i < checker->segments_count; i++) {
    if (checker->segments[i].unnamed) continue;
    struct flume_segment *segment = flume_segment_new(checker->io, checker->dir, checker->segments[i].first_seq);
    if (segment == NULL) return flume_err_nomem(err);
    int rv = flume_segment_open(segment, true, &why);
    if (rv == 0) {
      int64_t size = checker->io->size(checker->io->ctx, segment->file);
      if (size > 0) checker->total_bytes += (uint64_t)size;
      if (votes == 0) memcpy(checker->log_id, segment->log_id, sizeof checker->log_id);
      votes += memcmp(checker->log_id, segment->log_id, sizeof checker->log_id) == 0 ? 1 : -1;
    }
    flume_segment_unref(segment);
    if (rv == 0 || rv == FLUME_ECORRUPT) continue;
    if (err != NULL) *err = why;
    return rv;
  }
  if (votes > 0) return 0;
  return flume_err_set(err, FLUME_ECORRUPT, "%s: no segment has a good header to tell which log it belongs to",
                       checker->dir);
}

/* --- The file "deleted" -------------------------------------------------------------------------------------- */

static int read_deleted(const struct flume_checker *checker, struct flume_buf *bytes, struct flume_err *err) {
  const struct flume_io *io = checker->io;
  char path[FLUME_PATH_MAX];
  int rv = flume_path_join(path, sizeof path, checker->dir, "deleted");
  if (rv != 0) return flume_err_set(err, rv, "%s: %s", checker->dir, flume_strerror(rv));
  int file = io->open(io->ctx, path, FLUME_IO_READ);
  if (file == UV_ENOENT) return 0;
  if (file < 0) return flume_err_set(err, file, "opening %s: %s", path, flume_strerror(file));
  int64_t size = io->size(io->ctx, file);
  rv = size < 0 ? (int)size : flume_buf_reserve(bytes, (size_t)size);
  if (rv == 0) rv = flume_io_read_full(io, file, bytes->data, (size_t)size, 0);
  io->close(io->ctx, file);
  if (rv != 0) return flume_err_set(err, rv, "reading %s: %s", path, flume_strerror(rv));
  bytes->len = (size_t)size;
  return 0;
}

/* No frame is bad, but there have been more. */
static int check_end_of_deleted(struct flume_checker *checker, const struct flume_buf *bytes) {
  if (checker->deletions_damaged || checker->live_seq >= 0) return 0;
  uint64_t end_off = checker->deletions.end_off;
  if (end_off < checker->watermark.deleted_end_off) {
    checker->deletions_damaged = true;
    return flume_report_add(checker->report, FLUME_FINDING_DAMAGE, "deleted", end_off, -1,
                            "deletes that were acknowledged are missing at the end");
  }
  if (bytes->len == 0 || checker->deletions.ended) return 0;
  return flume_report_add(checker->report, FLUME_FINDING_NOTE, "deleted", end_off, -1,
                          "torn end, cut when the log is opened");
}

static int check_deleted(struct flume_checker *checker, struct flume_err *err) {
  struct flume_buf bytes;
  flume_buf_init(&bytes, checker->io);
  int rv = read_deleted(checker, &bytes, err);
  uint64_t off = 0, bad_off;
  while (rv == 0) {
    rv = flume_deletions_salvage(&checker->deletions, &bytes, checker->log_id, &off, &bad_off);
    if (rv != FLUME_ECORRUPT) break;
    checker->deletions_damaged = true;
    rv = flume_report_add(checker->report, FLUME_FINDING_DAMAGE, "deleted", bad_off, -1, "bad frame");
  }
  checker->report->bytes += bytes.len;
  if (rv == 0) rv = check_end_of_deleted(checker, &bytes);
  flume_buf_fini(&bytes);
  return rv == FLUME_ENOMEM ? flume_err_nomem(err) : rv;
}

/* --- Segments ------------------------------------------------------------------------------------------------ */

static int on_frame(void *arg, uint64_t time_ms) {
  (void)arg;
  (void)time_ms;
  return 0;
}

static int on_record(void *arg, int64_t seq, const uint8_t *bytes, size_t len) {
  struct flume_checker *checker = arg;
  (void)len;
  checker->report->records++;
  if (flume_get_le32(bytes) != FLUME_RECORD_REMOVED || flume_tombstones_has(&checker->deletions.deleted, seq)) return 0;
  return flume_buf_append(&checker->removed, &seq, sizeof seq);
}

static int on_lost(void *arg, int64_t seq, int64_t count) {
  struct flume_checker *checker = arg;
  struct flume_lost_range range = {seq, count};
  return flume_buf_append(&checker->lost, &range, sizeof range);
}

static int on_problem(void *arg, uint64_t off, int64_t seq, const char *what) {
  struct flume_checker *checker = arg;
  checker->segments[checker->at].damaged = true;
  return flume_report_add(checker->report, FLUME_FINDING_DAMAGE, name_of(checker->segment), off, seq, "%s", what);
}

static int on_remnant(void *arg, uint64_t off, int64_t seq) {
  struct flume_checker *checker = arg;
  return flume_report_add(checker->report, FLUME_FINDING_NOTE, name_of(checker->segment), off, seq,
                          "index that is not whole, as a crash may leave it; passed over: no record is missing");
}

static const struct flume_verify_ops report_ops = {
    .frame = on_frame, .record = on_record, .lost = on_lost, .problem = on_problem, .remnant = on_remnant};

int flume_checker_verify(const struct flume_checker *checker, size_t i, const struct flume_verify_ops *ops, void *arg,
                         struct flume_segment **out, struct flume_verify *verify, struct flume_err *err) {
  int64_t first_seq = checker->segments[i].first_seq;
  bool last = i + 1 == checker->segments_count;
  struct flume_segment *segment = flume_segment_new(checker->io, checker->dir, first_seq);
  if (segment == NULL) return flume_err_nomem(err);
  int rv = flume_segment_open_damaged(segment, checker->log_id, err);
  int64_t size = rv == 0 ? checker->io->size(checker->io->ctx, segment->file) : 0;
  if (size < 0) rv = flume_err_set(err, (int)size, "%s: %s", segment->path, flume_strerror((int)size));
  if (rv != 0) {
    flume_segment_unref(segment);
    return rv;
  }
  if (first_seq == checker->live_seq && (uint64_t)size > checker->live_off) size = (int64_t)checker->live_off;
  int64_t known_seq = flume_tombstones_last(&checker->deletions.deleted);
  if (known_seq < checker->watermark.since) known_seq = checker->watermark.since;
  int64_t bound_seq = last ? (checker->live_seq < 0 ? known_seq + 1 : 0) : checker->segments[i + 1].first_seq;
  flume_verify_init(verify, segment, (uint64_t)size, last, bound_seq, ops, arg);
  *out = segment;
  return 0;
}

/* What the header says; and whether there is any use in reading on. */
static int check_header(struct flume_checker *checker, bool *goes_on, struct flume_err *err) {
  struct flume_checked_segment *checked = &checker->segments[checker->at];
  *goes_on = !checked->unnamed;
  if (checked->unnamed) return 0;
  struct flume_segment *segment = flume_segment_new(checker->io, checker->dir, checked->first_seq);
  if (segment == NULL) return flume_err_nomem(err);
  struct flume_err why;
  int rv = flume_segment_open(segment, true, &why);
  checked->foreign = rv == 0 && memcmp(segment->log_id, checker->log_id, 16) != 0;
  checked->damaged = checked->foreign || rv == FLUME_ECORRUPT;
  *goes_on = !checked->foreign;
  if (rv == FLUME_ECORRUPT) {
    rv = no_memory(flume_report_add(checker->report, FLUME_FINDING_DAMAGE, name_of(segment), 0, -1,
                                    "the header of the segment is damaged"),
                   err);
  } else if (checked->foreign) {
    rv = no_memory(flume_report_add(checker->report, FLUME_FINDING_DAMAGE, name_of(segment), 24, -1,
                                    "the segment belongs to another log"),
                   err);
  } else if (rv != 0 && err != NULL) {
    *err = why;
  }
  flume_segment_unref(segment);
  return rv;
}

/* All that would be in a segment which is not there, or not this log's. */
static int lose_segment(struct flume_checker *checker, struct flume_err *err) {
  size_t i = checker->at++;
  checker->next_seq = checker->segments[i].first_seq;
  if (i + 1 == checker->segments_count) return 0;
  int64_t first_seq = checker->segments[i].first_seq;
  return no_memory(on_lost(checker, first_seq, checker->segments[i + 1].first_seq - first_seq), err);
}

static int begin_segment(struct flume_checker *checker, struct flume_err *err) {
  bool goes_on;
  int rv = check_header(checker, &goes_on, err);
  if (rv != 0) return rv;
  if (!goes_on) return lose_segment(checker, err);
  return flume_checker_verify(checker, checker->at, &report_ops, checker, &checker->segment, &checker->verify, err);
}

static bool file_exists(const struct flume_checker *checker, int64_t first_seq) {
  struct flume_segment *segment = flume_segment_new(checker->io, checker->dir, first_seq);
  bool exists = segment != NULL && flume_segment_open_damaged(segment, checker->log_id, NULL) == 0;
  if (segment != NULL) flume_segment_unref(segment);
  return exists;
}

/* The last segment that was listed. A writer may have begun the next one since. */
static int check_successor(struct flume_checker *checker) {
  if (!checker->verify.sealed || file_exists(checker, checker->verify.next_seq)) return 0;
  checker->successor_missing = true;
  return flume_report_add(checker->report, FLUME_FINDING_DAMAGE, name_of(checker->segment), checker->verify.off,
                          checker->verify.next_seq, "the segment after this one is missing");
}

static int end_segment(struct flume_checker *checker, struct flume_err *err) {
  int rv = 0;
  if (checker->verify.last) rv = check_successor(checker);
  else if (checker->verify.next_seq > checker->verify.bound_seq) checker->overlaps = true;
  checker->next_seq = checker->verify.next_seq;
  if (rv == 0 && checker->verify.torn_off != 0 && checker->live_seq < 0) {
    rv = flume_report_add(checker->report, FLUME_FINDING_NOTE, name_of(checker->segment), checker->verify.torn_off,
                          checker->verify.next_seq, "torn end, never acknowledged; cut when the log is opened");
  }
  checker->report->segments++;
  checker->done_bytes += checker->verify.window.file_bytes;
  checker->report->bytes += checker->verify.window.file_bytes;
  flume_verify_fini(&checker->verify);
  flume_segment_unref(checker->segment);
  checker->segment = NULL;
  checker->at++;
  return no_memory(rv, err);
}

/* What was taken out must have been deleted: by now, when the log is in use. */
static int check_removed(struct flume_checker *checker, struct flume_err *err) {
  if (checker->removed.len == 0) return 0;
  struct flume_deletions now;
  struct flume_buf bytes;
  uint64_t off = 0, bad_off;
  flume_deletions_init(&now, checker->io);
  flume_buf_init(&bytes, checker->io);
  int rv = read_deleted(checker, &bytes, err);
  while (rv == 0 && flume_deletions_salvage(&now, &bytes, checker->log_id, &off, &bad_off) == FLUME_ECORRUPT) continue;
  size_t left = 0;
  for (size_t i = 0; rv == 0 && i < checker->removed.len / sizeof(int64_t); i++) {
    int64_t seq;
    memcpy(&seq, checker->removed.data + i * sizeof seq, sizeof seq);
    if (flume_tombstones_has(&now.deleted, seq)) continue;
    memcpy(checker->removed.data + left++ * sizeof seq, &seq, sizeof seq);
    rv = no_memory(flume_report_add(checker->report, FLUME_FINDING_DAMAGE, "deleted", 0, seq,
                                    "a record that was taken out is not in here"),
                   err);
  }
  checker->removed.len = left * sizeof(int64_t);
  flume_buf_fini(&bytes);
  flume_deletions_fini(&now);
  return rv;
}

/* --- All of it ----------------------------------------------------------------------------------------------- */

int flume_checker_open(struct flume_checker *checker, const struct flume_io *io, const char *dir, int64_t live_seq,
                       uint64_t live_off, struct flume_report *report, struct flume_err *err) {
  *checker = (struct flume_checker){.io = io, .dir = dir, .report = report, .live_seq = live_seq, .live_off = live_off};
  uint8_t bytes[FLUME_WATERMARK_BYTES];
  checker->watermark.since = -1;
  flume_deletions_init(&checker->deletions, io);
  flume_buf_init(&checker->lost, io);
  flume_buf_init(&checker->removed, io);
  int rv = read_watermark(checker, bytes, err);
  if (rv == 0) rv = list(checker, err);
  if (rv == 0) rv = vote(checker, err);
  if (rv != 0) return rv;
  take_watermark(checker, bytes);
  rv = check_deleted(checker, err);
  report->deleted = checker->deletions.deleted.count;
  return rv;
}

int flume_checker_step(struct flume_checker *checker, uint64_t max_bytes, struct flume_err *err) {
  if (checker->segment == NULL) {
    if (checker->at == checker->segments_count) return check_removed(checker, err);
    int rv = begin_segment(checker, err);
    return rv == 0 ? 1 : rv;
  }
  int rv = flume_verify_step(&checker->verify, max_bytes);
  if (rv < 0) return flume_err_set(err, rv, "reading %s: %s", checker->segment->path, flume_strerror(rv));
  if (rv == 0) rv = end_segment(checker, err);
  return rv < 0 ? rv : 1;
}

uint64_t flume_checker_done(const struct flume_checker *checker) {
  uint64_t here = checker->segment != NULL ? checker->verify.off : 0;
  uint64_t done = checker->done_bytes + here;
  return done < checker->total_bytes ? done : checker->total_bytes;
}

void flume_checker_fini(struct flume_checker *checker) {
  if (checker->segment != NULL) {
    flume_verify_fini(&checker->verify);
    flume_segment_unref(checker->segment);
    checker->segment = NULL;
  }
  flume_io_free(checker->io, checker->segments);
  checker->segments = NULL;
  flume_deletions_fini(&checker->deletions);
  flume_buf_fini(&checker->lost);
  flume_buf_fini(&checker->removed);
}
