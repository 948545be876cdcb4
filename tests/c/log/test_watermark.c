/* Files that were cut between two frames, where no frame is bad: the note in the file "lock" tells what was there. */
#include "check_support.h"
#include "broken_log.h"

#define DELETE_FRAME_BYTES 60 /* of one seq */
#define FIRST "00000000000000000000.flume"

static void begin_made(enum flume_sync sync, bool closes) {
  begin();
  struct flume_log *log = NULL;
  struct flume_log_options options = options_of(0);
  options.sync = sync;
  options.interval_ms = 3600000;
  MUST(try_open(&log, &options) == 0);
  for (int i = 0; i < 5; i++) made_append(log, 2);
  made_del(log, 1);
  made_del(log, 4);
  struct image crashed = {.count = 0};
  image_take(&crashed, dir);
  struct image lock = {.count = 0}; /* images have none */
  image_take_file(&lock, dir, "lock");
  log_close_wait(log, &loop);
  if (!closes) {
    image_put(&crashed, dir);
    image_put_file(&lock.files[0], dir);
  }
  image_free(&lock);
  image_free(&crashed);
}

static int open_again(void) {
  return try_open_with(false, false);
}

static int64_t damages(const char *file, const char *what) {
  struct flume_log *log = NULL;
  struct flume_log_options options = {.readonly = true, .damaged = true, .io = &faults.io};
  struct check_answer answer;
  if (!CHECK_INT_EQ(try_open(&log, &options), 0)) return -1;
  int rv = log_check(log, &loop, &answer);
  int64_t count = rv == 0 ? (int64_t)answer.req.report.damages : rv;
  if (rv == 0 && count > 0) CHECK(find_finding(&answer.req.report, FLUME_FINDING_DAMAGE, file, what) != NULL);
  if (rv == 0) flume_report_fini(&answer.req.report);
  log_close_wait(log, &loop);
  return count;
}

/* It is said to be damaged, and nothing is changed; once repaired, what is lost has the seqs it had. */
static void found_and_repaired(const char *file, const char *what, int64_t lost_from) {
  struct image before = {.count = 0};
  image_take(&before, dir);
  CHECK_INT_EQ(open_again(), FLUME_ECORRUPT);
  CHECK(names_file_and_byte(file) && strstr(err.msg, "acknowledged") != NULL);
  CHECK(image_is(&before, dir, -1, 0, 0));
  image_free(&before);
  CHECK_INT_EQ(damages(file, what), 1);
  struct flume_report report;
  CHECK_INT_EQ(flume_log_repair(dir, &faults.io, &report, &err), 0);
  flume_report_fini(&report);
  CHECK_INT_EQ(damages(file, what), 0);
  struct flume_log *log = must_open(0);
  CHECK_INT_EQ(flume_log_since(log), made.count - 1);
  for (int64_t seq = lost_from; seq < made.count; seq++) made.records[seq].deleted = true;
  all_survive(log);
  goes_on(log);
}

static void cut_log(enum flume_sync sync, bool closes, int frames) {
  begin_made(sync, closes);
  const struct made_frame *frame = &made.frames[frames - 1];
  MUST(truncate(path_in(dir, FIRST), (off_t)frame->end_off) == 0);
  found_and_repaired(FIRST, "acknowledged", frame->next_seq);
  end();
}

TEST(log_cut_behind_a_crash) { cut_log(FLUME_SYNC_ALWAYS, false, 4); }
TEST(log_cut_after_it_was_closed) { cut_log(FLUME_SYNC_ALWAYS, true, 4); }
TEST(log_cut_to_its_first_frame) { cut_log(FLUME_SYNC_ALWAYS, true, 3); }
TEST(log_of_weak_appends_cut_after_it_was_closed) { cut_log(FLUME_SYNC_OS, true, 4); }
TEST(log_with_an_interval_cut_after_it_was_closed) { cut_log(FLUME_SYNC_INTERVAL, true, 4); }

/* A whole log and its end frame: nothing is missing. */
TEST(log_without_its_end_frame) {
  begin_made(FLUME_SYNC_ALWAYS, true);
  MUST(truncate(path_in(dir, FIRST), (off_t)made.frames[4].end_off) == 0);
  struct flume_log *log = must_open(0);
  all_survive(log);
  goes_on(log);
  end();
}

static void cut_deletes(bool closes, bool all) {
  begin_made(FLUME_SYNC_ALWAYS, closes);
  if (all) MUST(unlink(path_in(dir, "deleted")) == 0);
  else MUST(truncate(path_in(dir, "deleted"), DELETE_FRAME_BYTES) == 0);
  CHECK_INT_EQ(open_again(), FLUME_ECORRUPT);
  CHECK(names_file_and_byte("deleted") && strstr(err.msg, "acknowledged") != NULL);
  CHECK_INT_EQ(damages("deleted", "acknowledged"), 1);
  struct flume_report report;
  CHECK_INT_EQ(flume_log_repair(dir, &faults.io, &report, &err), 0);
  flume_report_fini(&report);
  CHECK_INT_EQ(damages("deleted", ""), 0);
  made.records[4].deleted = false; /* that is what the damage did */
  if (all) made.records[1].deleted = false;
  struct flume_log *log = must_open(0);
  all_survive(log);
  goes_on(log);
  end();
}

TEST(deletes_cut_behind_a_crash) { cut_deletes(false, false); }
TEST(deletes_cut_after_a_close) { cut_deletes(true, false); }
TEST(deletes_that_are_gone) { cut_deletes(true, true); }

/* What can't be known: without the note a file that ends between two frames is a whole one. */
TEST(a_cut_is_not_noticed_without_the_watermark_file) {
  begin_made(FLUME_SYNC_ALWAYS, false);
  MUST(truncate(path_in(dir, FIRST), (off_t)made.frames[3].end_off) == 0);
  MUST(unlink(path_in(dir, "lock")) == 0);
  struct flume_log *log = must_open(0);
  CHECK_INT_EQ(flume_log_since(log), made.frames[3].next_seq - 1);
  log_close_wait(log, &loop);
  end();
}

/* A note that is not whole, or another log's, is none. */
TEST(a_damaged_watermark_file_is_ignored) {
  for (int at = FLUME_IO_LOCK_BYTES; at < FLUME_IO_LOCK_BYTES + FLUME_WATERMARK_BYTES; at++) {
    begin_made(FLUME_SYNC_ALWAYS, true);
    struct image image = {.count = 0};
    image_take_file(&image, dir, "lock");
    image.files[0].data[at] ^= 0x10;
    write_file(path_in(dir, "lock"), image.files[0].data, image.files[0].len, image.files[0].len);
    image_free(&image);
    struct flume_log *log = must_open(0);
    all_survive(log);
    log_close_wait(log, &loop);
    end();
  }
}

static void fails(enum fault_op op, int code) {
  bool hit = true;
  for (int nth = 1; hit && nth < 200 && !test_failed; nth++) {
    begin_made(FLUME_SYNC_ALWAYS, true);
    MUST(truncate(path_in(dir, FIRST), (off_t)made.frames[3].end_off) == 0);
    struct flume_report report;
    faults_arm(&faults, op, nth, code);
    int rv = flume_log_repair(dir, &faults.io, &report, &err);
    hit = fault_was_hit(&faults);
    faults_arm(&faults, FAULT_NONE, 0, 0);
    CHECK(rv == 0 || rv == code);
    flume_report_fini(&report);
    if (rv != 0) { /* it can be repaired again */
      CHECK_INT_EQ(flume_log_repair(dir, &faults.io, &report, &err), 0);
      flume_report_fini(&report);
    }
    struct flume_log *log = must_open(0);
    CHECK_INT_EQ(flume_log_since(log), made.count - 1);
    log_close_wait(log, &loop);
    end();
  }
}

TEST(repair_with_failing_reads) { fails(FAULT_READ, UV_EIO); }
TEST(repair_with_failing_syncs) { fails(FAULT_SYNC, UV_EIO); }
TEST(repair_with_failing_cuts) { fails(FAULT_TRUNCATE, UV_EIO); }
TEST(repair_with_failing_opens) { fails(FAULT_OPEN, UV_EMFILE); }
