/* Check finds every kind of damage; repair keeps what is good, and says what is lost. */
#include <dirent.h>

#include "check_support.h"
#include "compact_support.h"
#include "broken_log.h"

/* The report of a check on a log that is opened read-only, whatever state it is in. */
static struct flume_report check_closed(void) {
  struct flume_log *log = NULL;
  struct flume_log_options options = {.readonly = true, .damaged = true, .io = &faults.io};
  struct check_answer answer = {.calls = 0};
  if (!CHECK_INT_EQ(try_open(&log, &options), 0)) {
    printf("%s\n", err.msg);
    return (struct flume_report){.io = NULL};
  }
  if (!CHECK_INT_EQ(log_check(log, &loop, &answer), 0)) printf("%s\n", answer.err.msg);
  log_close_wait(log, &loop);
  return answer.req.report;
}

static void check_is_clean(int64_t records) {
  struct flume_report report = check_closed();
  CHECK_INT_EQ(report.records, records);
  if (!CHECK_INT_EQ(report.damages, 0)) print_report(&report);
  flume_report_fini(&report);
}

static struct flume_report repair(void) {
  struct flume_report report;
  if (!CHECK_INT_EQ(flume_log_repair(dir, &faults.io, &report, &err), 0)) printf("%s\n", err.msg);
  return report;
}

static int remove_aside(void *arg, const char *name) {
  (void)arg;
  return strncmp(name, "damaged-", 8) == 0 ? flume_io_remove_all(&flume_io_posix, path_in(dir, name)) : 0;
}

static void forget_aside(void) {
  MUST(flume_io_posix.list(NULL, dir, remove_aside, NULL) == 0);
}

/* --- Logs without damage -------------------------------------------------------------------------------------- */

static void clean(const char *text, uint64_t segment_bytes) {
  begin();
  make(text, segment_bytes);
  image_put(&made.crashed, dir);
  check_is_clean(made.count);
  image_put(&made.closed, dir);
  check_is_clean(made.count);
  struct flume_report report = repair();
  CHECK_INT_EQ(report.damages, 0);
  CHECK(find_finding(&report, FLUME_FINDING_REPAIR, "", "") == NULL);
  CHECK(image_is(&made.closed, dir, -1, 0, 0));
  flume_report_fini(&report);
  end();
}

TEST(clean_empty_log) { clean("", 0); }
TEST(clean_batches) { clean("1312", 0); }
TEST(clean_reopened_log) { clean("1r2rr3r", 0); }
TEST(clean_segments) { clean("12131r213", 200); }
TEST(clean_deletions) { clean("333d1D2D", 0); }

TEST(clean_while_it_is_used) {
  begin();
  struct flume_log *log = must_open(300);
  for (int i = 0; i < 12; i++) made_append(log, 1 + i % 4);
  made_del(log, 3);
  struct compaction_answer compacted;
  CHECK_INT_EQ(log_compact(log, &loop, &compacted), 0);
  made_append(log, 2);
  struct check_answer answer;
  REQUIRE(log_check(log, &loop, &answer) == 0);
  if (!CHECK_INT_EQ(answer.req.report.damages, 0)) print_report(&answer.req.report);
  CHECK_INT_EQ(answer.req.report.records, made.count);
  CHECK_INT_EQ(answer.req.report.deleted, 1);
  CHECK(answer.req.report.segments > 3);
  flume_report_fini(&answer.req.report);
  log_close_wait(log, &loop);
  check_is_clean(made.count);
  end();
}

TEST(check_beside_appends_deletes_and_a_compaction) {
  begin();
  struct flume_log *log = must_open(300);
  for (int i = 0; i < 15; i++) made_append(log, 3);
  for (int round = 0; round < 10; round++) {
    struct check_answer checked = {.calls = 0};
    struct compaction_answer compacted = {.calls = 0};
    made_del(log, round * 4);
    CHECK_INT_EQ(flume_log_check(log, NULL, &checked.req, on_checked, &err), 0);
    CHECK_INT_EQ(flume_log_compact(log, &compacted.req, on_compacted, &err), 0);
    made_del(log, round * 4 + 1);
    made_append(log, 1);
    while (checked.calls == 0 || compacted.calls == 0) uv_run(&loop, UV_RUN_ONCE);
    CHECK_INT_EQ(checked.status, 0);
    if (!CHECK_INT_EQ(checked.req.report.damages, 0)) print_report(&checked.req.report);
    flume_report_fini(&checked.req.report);
  }
  log_close_wait(log, &loop);
  check_is_clean(made.count);
  end();
}

TEST(close_while_it_checks) {
  begin();
  struct flume_log *log = must_open(300);
  for (int i = 0; i < 10; i++) made_append(log, 2);
  struct check_answer answer = {.calls = 0};
  CHECK_INT_EQ(flume_log_check(log, NULL, &answer.req, on_checked, &err), 0);
  log_close_wait(log, &loop);
  CHECK_INT_EQ(answer.calls, 1);
  CHECK_INT_EQ(answer.status, FLUME_ECLOSED);
  end();
}

TEST(a_log_in_memory_is_sound) {
  begin();
  struct flume_log *log;
  struct flume_log_options options = {.io = &faults.io};
  REQUIRE(flume_log_open_memory(&log, &loop, &options, &err) == 0);
  struct flume_slice record = slice_text("hello");
  int64_t seq;
  CHECK_INT_EQ(flume_log_append_wait(log, &record, 1, &seq, &err), 0);
  struct check_answer answer;
  CHECK_INT_EQ(log_check(log, &loop, &answer), 0);
  CHECK_INT_EQ(answer.req.report.records, 1);
  CHECK_INT_EQ(answer.req.report.damages, 0);
  flume_report_fini(&answer.req.report);
  log_close_wait(log, &loop);
  end();
}

/* --- Every byte ----------------------------------------------------------------------------------------------- */

/* After a repair: opens for writing, and has all records but for at most `lost` of them, which are said to be lost. */
static bool check_repaired(int64_t lost_max, bool undeleted) {
  struct flume_log *log = NULL;
  struct flume_log_options options = options_of(300);
  if (!CHECK_INT_EQ(try_open(&log, &options), 0)) {
    printf("%s\n", err.msg);
    return false;
  }
  int64_t lost = made.count - 1 - flume_log_since(log);
  bool good = CHECK(lost >= 0);
  for (int64_t seq = 0; good && seq <= flume_log_since(log); seq++) {
    struct flume_record record;
    const struct made_record *expected = &made.records[seq];
    int rv = flume_log_get(log, seq, &record, &err);
    if (rv == FLUME_EDELETED) {
      bool is_lost = strstr(err.msg, "lost") != NULL;
      lost += is_lost;
      good = CHECK(is_lost || expected->deleted);
      continue;
    }
    good = CHECK_INT_EQ(rv, 0) && CHECK(!expected->deleted || undeleted) &&
           CHECK(record.len == expected->len && payload_is(record.data, record.len, expected->key));
    if (rv == 0) flume_record_release(&record);
  }
  if (!CHECK(lost <= lost_max)) printf("%d records lost\n", (int)lost);
  good = good && lost <= lost_max;
  return goes_on(log) && good;
}

struct flip_case {
  struct image *image;
  bool closed;
};

/* A flip is damage that is told; or in the end, that may be torn; or in an index that an open segment can do without.
 * Repair leaves nothing of damage, and loses one record at most, or in a torn end the last frame. */
static bool check_flip(const struct flip_case *flip, int i, size_t off) {
  struct image_file *file = &flip->image->files[i];
  bool is_last = file == last_segment(flip->image), is_deleted = strcmp(file->name, "deleted") == 0;
  file->data[off] ^= 0x41;
  image_put(flip->image, dir);
  file->data[off] ^= 0x41;
  struct flume_report report = check_closed();
  bool torn = report.damages == 0 && find_finding(&report, FLUME_FINDING_NOTE, file->name, "torn") != NULL;
  bool passed_over = report.damages == 0 && find_finding(&report, FLUME_FINDING_NOTE, file->name, "index") != NULL;
  bool good = CHECK(report.damages > 0 || torn || passed_over) && CHECK(report.damages > 0 || is_last || is_deleted) &&
              CHECK(!(passed_over && flip->closed));
  bool damaged = report.damages > 0;
  flume_report_fini(&report);
  report = repair();
  good &= CHECK((find_finding(&report, FLUME_FINDING_REPAIR, file->name, "") != NULL) == damaged);
  if (damaged) good &= CHECK(find_finding(&report, FLUME_FINDING_REPAIR, "damaged-", "as they were") != NULL);
  flume_report_fini(&report);
  report = check_closed();
  good &= CHECK_INT_EQ(report.damages, 0);
  if (!good) print_report(&report);
  flume_report_fini(&report);
  good &= check_repaired(torn && is_last ? made.count - first_of_last_frame() : is_deleted ? 0 : 1, is_deleted);
  forget_aside();
  return good;
}

static void flip_image(const struct flip_case *flip) {
  for (int i = 0; i < flip->image->count; i++) {
    const struct image_file *file = &flip->image->files[i];
    bool alone = flip->image->count == 1 || (flip->image->count == 2 && i == 0);
    for (size_t off = alone ? HEADER_BYTES : 0; off < file->used; off++) { /* a log without any header is nobody's */
      if (check_flip(flip, i, off)) continue;
      printf("%s, byte %zu of %s\n", flip->closed ? "closed" : "crashed", off, file->name);
      return;
    }
  }
}

static void flip_all(const char *text, uint64_t segment_bytes) {
  begin();
  make(text, segment_bytes);
  flip_image(&(struct flip_case){&made.crashed, false});
  flip_image(&(struct flip_case){&made.closed, true});
  end();
}

TEST(flip_batches) { flip_all("312", 0); }
TEST(flip_segments) { flip_all("1213121", 300); }
TEST(flip_a_reopened_log) { flip_all("2r1r1", 0); }
TEST(flip_deletions) { flip_all("33d1D", 0); }

/* --- Larger damage -------------------------------------------------------------------------------------------- */

static void begin_segments(void) {
  begin();
  make("12131213121312131", 300);
  CHECK(made.closed.count > 4);
  image_put(&made.closed, dir);
}

static int64_t first_seq_of(int i) {
  return strtoll(made.closed.files[i].name, NULL, 10);
}

/* The damage is told by a check, and mended by a repair that loses so many records. */
static void end_segments(const char *file, const char *what, int64_t lost) {
  struct flume_report report = check_closed();
  const struct flume_finding *found = find_finding(&report, FLUME_FINDING_DAMAGE, file, what);
  if (!CHECK(found != NULL)) print_report(&report);
  flume_report_fini(&report);
  report = repair();
  flume_report_fini(&report);
  check_is_clean(made.count);
  check_repaired(lost, false);
  report = repair();
  CHECK_INT_EQ(report.damages, 0);
  flume_report_fini(&report);
  end();
}

TEST(a_missing_segment) {
  begin_segments();
  int64_t lost = first_seq_of(3) - first_seq_of(2);
  CHECK_INT_EQ(unlink(path_in(dir, made.closed.files[2].name)), 0);
  end_segments(made.closed.files[1].name, "before the next segment are missing", lost);
}

TEST(the_missing_first_segment) {
  begin_segments();
  int64_t lost = first_seq_of(1);
  CHECK_INT_EQ(unlink(path_in(dir, made.closed.files[0].name)), 0);
  struct flume_report report = check_closed();
  CHECK(find_finding(&report, FLUME_FINDING_DAMAGE, "00000000000000000000", "missing") != NULL);
  flume_report_fini(&report);
  report = repair();
  CHECK(find_finding(&report, FLUME_FINDING_DAMAGE, "00000000000000000000", "missing") != NULL);
  flume_report_fini(&report);
  check_is_clean(made.count);
  check_repaired(lost, false);
  end();
}

TEST(the_missing_newest_segment) {
  begin_segments();
  int last = made.closed.count - 1;
  int64_t left = first_seq_of(last);
  CHECK_INT_EQ(unlink(path_in(dir, made.closed.files[last].name)), 0);
  struct flume_report report = check_closed();
  CHECK(find_finding(&report, FLUME_FINDING_DAMAGE, made.closed.files[last - 1].name, "after this one") != NULL);
  flume_report_fini(&report);
  report = repair();
  CHECK(find_finding(&report, FLUME_FINDING_REPAIR, made.closed.files[last].name, "made empty") != NULL);
  flume_report_fini(&report);
  check_is_clean(left);
  check_repaired(made.count - left, false);
  end();
}

TEST(a_segment_cut_short) {
  begin_segments();
  int64_t lost = first_seq_of(3) - first_seq_of(2);
  const struct image_file *file = &made.closed.files[2];
  write_file(path_in(dir, file->name), file->data, 100, 100);
  end_segments(file->name, "", lost);
}

TEST(an_emptied_segment) {
  begin_segments();
  int64_t lost = first_seq_of(3) - first_seq_of(2);
  write_file(path_in(dir, made.closed.files[2].name), "", 0, 0);
  end_segments(made.closed.files[2].name, "header", lost);
}

TEST(a_segment_of_zeros) {
  begin_segments();
  int64_t lost = first_seq_of(3) - first_seq_of(2);
  write_file(path_in(dir, made.closed.files[2].name), "", 0, made.closed.files[2].len);
  end_segments(made.closed.files[2].name, "header", lost);
}

TEST(a_segment_of_another_log) {
  begin_segments();
  int64_t lost = first_seq_of(3) - first_seq_of(2);
  struct image_file *file = &made.closed.files[2];
  file->data[30] ^= 1;
  flume_put_le32(file->data + 60, flume_crc32c(0, file->data, 60));
  image_put_file(file, dir);
  end_segments(file->name, "another log", lost);
}

/* Somebody wrote over the middle of a large frame: only what was written over is lost. */
TEST(a_hole_in_a_large_frame) {
  begin();
  struct flume_log *log = must_open(0);
  enum { COUNT = 60, HOLE = 150 };
  struct flume_slice records[COUNT];
  made_next(records, COUNT);
  int64_t seq;
  CHECK_INT_EQ(flume_log_append_wait(log, records, COUNT, &seq, &err), 0);
  made_free(records, COUNT);
  made.count = COUNT;
  made_append(log, 1);
  log_close_wait(log, &loop);
  struct image image;
  image_take(&image, dir);
  struct image_file *file = &image.files[0];
  int most = 0;
  for (size_t off = 64; off + HOLE < 1500 && !test_failed; off += 37) {
    uint8_t saved[HOLE];
    memcpy(saved, file->data + off, HOLE);
    payload_fill(file->data + off, HOLE, off % 3 == 0 ? 0 : off);
    image_put(&image, dir);
    memcpy(file->data + off, saved, HOLE);
    struct flume_report report = repair();
    CHECK(report.damages > 0);
    flume_report_fini(&report);
    check_is_clean(made.count);
    check_repaired(16, false);
    forget_aside();
    if (test_failed) printf("hole at %zu\n", off);
    most++;
  }
  CHECK(most > 20);
  image_free(&image);
  end();
}

TEST(deleted_records_that_are_missing_at_the_end) {
  begin();
  make("31D", 0);
  struct image_file *file = last_segment(&made.closed);
  image_put(&made.closed, dir);
  write_file(path_in(dir, file->name), file->data, made.frames[0].end_off, made.frames[0].end_off);
  CHECK_INT_EQ(try_open_with(false, false), FLUME_ECORRUPT);
  end_segments(file->name, "missing at the end", 0);
}

TEST(a_lost_file_deleted) {
  begin();
  struct flume_log *log = must_open(300);
  for (int i = 0; i < 10; i++) made_append(log, 2);
  made_del(log, 3);
  struct compaction_answer compacted;
  CHECK_INT_EQ(log_compact(log, &loop, &compacted), 0);
  log_close_wait(log, &loop);
  CHECK_INT_EQ(unlink(path_in(dir, "deleted")), 0);
  end_segments("deleted", "taken out", 1);
}

/* --- What can't be proven ------------------------------------------------------------------------------------- */

static void check_unprovable(const char *what) {
  struct image before;
  struct flume_report report;
  image_take(&before, dir);
  CHECK_INT_EQ(flume_log_repair(dir, &faults.io, &report, &err), FLUME_ECORRUPT);
  if (!CHECK(strstr(err.msg, what) != NULL)) printf("%s\n", err.msg);
  CHECK(image_is(&before, dir, -1, 0, 0));
  image_free(&before);
  flume_report_fini(&report);
}

TEST(a_misnamed_segment) {
  begin_segments();
  int last = made.closed.count - 1;
  CHECK_INT_EQ(rename(path_in(dir, made.closed.files[last].name), path_in(dir, "09000000000000000000.flume")), 0);
  check_unprovable("misnamed");
  end();
}

TEST(all_segment_headers_damaged) {
  begin();
  make("12", 0);
  made.closed.files[0].data[3] ^= 1;
  image_put(&made.closed, dir);
  check_unprovable("no segment has a good header");
  end();
}

TEST(nothing_to_repair) {
  begin();
  struct flume_report report;
  CHECK_INT_EQ(flume_log_repair(dir, &faults.io, &report, &err), UV_ENOENT);
  flume_report_fini(&report);
  CHECK_INT_EQ(mkdir(dir, 0777), 0);
  CHECK_INT_EQ(flume_log_repair(dir, &faults.io, &report, &err), UV_ENOENT);
  flume_report_fini(&report);
  CHECK(!file_exists(dir, "lock"));
  end();
}

TEST(an_open_log_is_not_repaired) {
  begin();
  struct flume_log *log = must_open(0);
  struct flume_report report;
  CHECK_INT_EQ(flume_log_repair(dir, &faults.io, &report, &err), FLUME_ELOCKED);
  flume_report_fini(&report);
  log_close_wait(log, &loop);
  end();
}

TEST(unknown_and_leftover_files_are_reported) {
  begin_segments();
  write_file(path_in(dir, "README"), "hello", 5, 5);
  write_file(path_in(dir, "00000000000000000003.flume.new"), "hello", 5, 5);
  write_file(path_in(dir, "deleted.new"), "hello", 5, 5);
  struct flume_report report = check_closed();
  CHECK_INT_EQ(report.damages, 0);
  CHECK(find_finding(&report, FLUME_FINDING_NOTE, "README", "no file of the log") != NULL);
  CHECK(find_finding(&report, FLUME_FINDING_NOTE, "00000000000000000003.flume.new", "left over") != NULL);
  CHECK(find_finding(&report, FLUME_FINDING_NOTE, "deleted.new", "left over") != NULL);
  flume_report_fini(&report);
  log_close_wait(must_open(0), &loop);
  CHECK(file_exists(dir, "README") && !file_exists(dir, "deleted.new"));
  end();
}

/* --- When the disk fails -------------------------------------------------------------------------------------- */

/* A repair that fails on its way can be made again, and has destroyed nothing. */
static void fail_repair(enum fault_op op, int code) {
  bool hit = true;
  for (int nth = 1; hit && nth < 500 && !test_failed; nth++) {
    begin_segments();
    struct image_file *file = &made.closed.files[1];
    memset(file->data + 70, 0, 60);
    image_put_file(file, dir);
    CHECK_INT_EQ(unlink(path_in(dir, made.closed.files[3].name)), 0);
    int64_t lost = 3 + first_seq_of(4) - first_seq_of(3);
    faults_arm(&faults, op, nth, code);
    struct flume_report report;
    int rv = flume_log_repair(dir, &faults.io, &report, &err);
    hit = fault_was_hit(&faults);
    CHECK(rv == code || (rv == 0 && !hit));
    flume_report_fini(&report);
    CHECK_INT_EQ(atomic_load(&faults.files), 0);
    CHECK_INT_EQ(atomic_load(&faults.allocations), 0);
    faults_arm(&faults, FAULT_NONE, 0, 0);
    report = repair();
    flume_report_fini(&report);
    check_is_clean(made.count);
    check_repaired(lost, false);
    if (test_failed) printf("call %d of %s\n", nth, fault_names[op]);
    end();
  }
}

TEST(repair_with_failing_writes) { fail_repair(FAULT_WRITE, UV_ENOSPC); }
TEST(repair_with_failing_reads) { fail_repair(FAULT_READ, UV_EIO); }
TEST(repair_with_failing_syncs) { fail_repair(FAULT_SYNC, UV_EIO); }
TEST(repair_with_failing_renames) { fail_repair(FAULT_RENAME, UV_EIO); }
TEST(repair_without_memory) { fail_repair(FAULT_ALLOC, UV_ENOMEM); }
