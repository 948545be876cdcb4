/* Repairing an offset log: what is good stays where it is, what can be told is mended, and nothing is lost silently. */
#include "check_support.h"
#include "offset_fixture.h"

static const uint32_t all_bits[] = {32, 48, 53};

static struct flume_report report;

/* 0, or what it failed with. */
static int repair(void) {
  flume_report_fini(&report);
  return flume_log_repair_offset(path, &faults.io, &report, &err);
}

static void must_repair(void) {
  if (!CHECK_INT_EQ(repair(), 0)) printf("%s\n", err.msg);
}

static void finish(void) {
  flume_report_fini(&report);
  memset(&report, 0, sizeof report);
  end();
}

/* A log that flume has had open, and closed. */
static void make_closed(struct file *file, uint32_t bits) {
  make_file(file, bits);
  write_bytes(file->data, file->len);
  close_log(must_open());
}

/* Nothing is wrong with it any more. */
static void check_sound(struct flume_log *log) {
  struct check_answer answer;
  CHECK_INT_EQ(log_check(log, &loop, &answer), 0);
  if (!CHECK_INT_EQ(answer.req.report.damages, 0)) print_report(&answer.req.report);
  flume_report_fini(&answer.req.report);
}

static size_t end_of(const struct file *file, int n) {
  return n + 1 < file->count ? file->starts[n + 1] : file->len;
}

/* Whether record n is there as it was. */
static bool is_there(struct flume_log *log, const struct file *file, int n) {
  struct flume_record record;
  if (flume_log_get(log, (int64_t)file->starts[n], &record, &err) != 0) return false;
  size_t len = (size_t)flume_get_be32(file->data + file->starts[n]);
  bool same = record.len == len && memcmp(record.data, file->data + file->starts[n] + 4, len) == 0;
  flume_record_release(&record);
  return same;
}

/* All records but those that reach into [from, to) are there; and what is appended goes behind where the file ended. */
static void check_rest(const struct file *file, size_t from, size_t to) {
  struct flume_log *log = must_open();
  check_sound(log);
  for (int n = 0; n < file->count; n++) {
    if (end_of(file, n) <= from || file->starts[n] >= to) CHECK(is_there(log, file, n));
  }
  struct flume_slice record = slice_text("more");
  int64_t seq = -1;
  CHECK_INT_EQ(flume_log_append_wait(log, &record, 1, &seq, &err), 0);
  CHECK_INT_EQ(seq, file->len);
  close_log(log);
}

/* --- The file ------------------------------------------------------------------------------------------------- */

TEST(a_sound_log_is_left_alone) {
  struct file file;
  uint8_t bytes[8192];
  begin();
  make_closed(&file, 32);
  must_repair();
  CHECK_INT_EQ(report.findings_count, 0);
  CHECK_INT_EQ(report.records, file.count);
  CHECK_INT_EQ(read_bytes(bytes, sizeof bytes), file.len);
  CHECK(memcmp(bytes, file.data, file.len) == 0);
  finish();
}

/* One wrong byte in what frames a record: two other things tell what it was. */
TEST(a_flip_in_the_framing_is_mended) {
  for (int i = 0; i < 3; i++) {
    struct file file;
    uint8_t bytes[8192];
    begin();
    make_closed(&file, all_bits[i]);
    for (int n = 0; n < file.count; n++) {
      size_t len = (size_t)flume_get_be32(file.data + file.starts[n]);
      for (size_t at = file.starts[n]; at < end_of(&file, n) && !test_failed; at++) {
        if (at >= file.starts[n] + 4 && at < file.starts[n] + 4 + len) continue;
        struct file flipped = file;
        flipped.data[at] ^= 0x55;
        write_bytes(flipped.data, flipped.len);
        must_repair();
        CHECK(report.damages > 0);
        CHECK_INT_EQ(report.records, file.count);
        const struct flume_finding *done = find_finding(&report, FLUME_FINDING_REPAIR, "log", "framing");
        CHECK(done != NULL && done->seq == (int64_t)file.starts[n]);
        CHECK_INT_EQ(read_bytes(bytes, sizeof bytes), file.len);
        CHECK(memcmp(bytes, file.data, file.len) == 0);
        if (test_failed) printf("byte %zu, %u bits\n", at, all_bits[i]);
      }
    }
    finish();
  }
}

TEST(whatever_is_overwritten_the_rest_is_there) {
  static const size_t lens[] = {1, 2, 5, 9, 30, 100, 800};
  for (int i = 0; i < 3; i++) {
    struct file file;
    make_file(&file, all_bits[i]);
    for (size_t l = 0; l < sizeof lens / sizeof *lens; l++) {
      for (size_t at = 0; at + lens[l] <= file.len && !test_failed; at += 13) {
        struct file damaged = file;
        begin();
        make_closed(&file, all_bits[i]);
        for (size_t k = 0; k < lens[l]; k++) damaged.data[at + k] = (uint8_t)(0xa5 ^ (k * 37));
        write_bytes(damaged.data, damaged.len);
        must_repair();
        check_rest(&file, at, at + lens[l]);
        if (test_failed) printf("%zu bytes at %zu, %u bits\n", lens[l], at, all_bits[i]);
        finish();
      }
    }
  }
}

TEST(a_closed_log_that_is_cut_keeps_its_place) {
  struct file file;
  make_file(&file, 32);
  for (size_t len = 0; len < file.len && !test_failed; len += 3) {
    begin();
    make_closed(&file, 32);
    write_bytes(file.data, len);
    must_repair();
    CHECK(report.damages > 0);
    check_rest(&file, len, file.len);
    if (test_failed) printf("cut at %zu\n", len);
    finish();
  }
}

TEST(lost_records_say_so_and_stay_deleted) {
  struct file file, damaged;
  begin();
  make_closed(&file, 32);
  damaged = file;
  memset(damaged.data + file.starts[2], 0xee, file.starts[4] - file.starts[2]);
  write_bytes(damaged.data, damaged.len);
  struct flume_log *log = NULL;
  CHECK_INT_EQ(try_open(&log, (struct flume_log_options){0}), FLUME_ECORRUPT);
  must_repair();
  const struct flume_finding *lost = find_finding(&report, FLUME_FINDING_REPAIR, "log", "lost");
  CHECK(lost != NULL && lost->off == file.starts[2] && lost->seq == (int64_t)file.starts[2]);
  CHECK(find_finding(&report, FLUME_FINDING_REPAIR, "damaged-", "as it was") != NULL);
  for (int round = 0; round < 2; round++) {
    log = must_open();
    CHECK_INT_EQ(flume_log_get(log, (int64_t)file.starts[2], &(struct flume_record){0}, &err), FLUME_EDELETED);
    CHECK(strstr(err.msg, "lost") != NULL);
    CHECK_INT_EQ(see(log, false).count, file.count - 2);
    CHECK_INT_EQ(log->deletions.value, 1);
    close_log(log);
  }
  finish();
}

/* What was replaced stands where it was, in a file of that name. */
TEST(replaced_bytes_are_moved_aside) {
  struct file file, damaged;
  uint8_t bytes[8192] = {0};
  char aside[TEST_PATH_MAX + 128];
  begin();
  make_closed(&file, 32);
  damaged = file;
  memset(damaged.data + file.starts[3], 0xee, 700);
  write_bytes(damaged.data, damaged.len);
  must_repair();
  const struct flume_finding *made = find_finding(&report, FLUME_FINDING_REPAIR, "damaged-", "as it was");
  REQUIRE(made != NULL);
  snprintf(aside, sizeof aside, "%s.flume/%s/log", path, made->file);
  int fd = open(aside, O_RDONLY | O_CLOEXEC);
  MUST(fd >= 0);
  ssize_t len = read(fd, bytes, sizeof bytes);
  close(fd);
  CHECK_INT_EQ(len, file.starts[4]);
  CHECK(memcmp(bytes + file.starts[3], damaged.data + file.starts[3], file.starts[4] - file.starts[3]) == 0);
  finish();
}

/* Of three records, of which the second has taken bytes of the file, and is lost. */
static void lose_much(size_t taken) {
  static uint8_t bytes[3 << 20];
  memset(bytes, 0xee, sizeof bytes);
  struct flume_log *log = must_open();
  struct flume_slice records[] = {slice_text("first"), slice(bytes, taken - 12), slice_text("last")};
  int64_t seq = -1;
  CHECK_INT_EQ(flume_log_append_wait(log, records, 3, &seq, &err), 0);
  CHECK_INT_EQ(seq, 17 + taken);
  close_log(log);
  put_bytes(17, bytes, taken);
}

static void check_much(size_t taken, size_t pieces) {
  struct flume_log *log = must_open();
  check_sound(log);
  struct seen seen = see(log, false);
  CHECK_INT_EQ(seen.count, 2);
  CHECK_INT_EQ(seen.seqs[1], 17 + taken);
  CHECK_INT_EQ(log->deletions.value, pieces);
  for (int64_t n = 0; n < log->deletions.value; n++) CHECK(flume__log_is_lost(log, flume__log_deletion_at(log, n)));
  close_log(log);
  if (test_failed) printf("%zu bytes\n", taken);
}

/* What is lost is cut into pieces, so that nobody has to read it as one record; each is a record, and has room. */
TEST(a_large_loss_becomes_several_records) {
  static const size_t sizes[][2] = {
      {1 << 20, 1}, {(1 << 20) + 1, 2}, {(1 << 20) + 12, 2}, {(1 << 20) + 13, 2}, {3 << 20, 3}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes && !test_failed; i++) {
    begin();
    lose_much(sizes[i][0]);
    must_repair();
    CHECK(find_finding(&report, FLUME_FINDING_REPAIR, "log", "lost") != NULL);
    check_much(sizes[i][0], sizes[i][1]);
    finish();
  }
}

/* Its pieces are deleted before they are there: the next repair finds them again. */
TEST(an_interrupted_repair_counts_nothing_twice) {
  for (int nth = 1; nth < 24 && !test_failed; nth++) {
    const size_t taken = (1 << 20) + 500;
    begin();
    lose_much(taken);
    faults_arm(&faults, FAULT_WRITE, nth, UV_EIO);
    int rv = repair();
    CHECK(rv == 0 || rv == UV_EIO);
    CHECK_INT_EQ(rv != 0, fault_was_hit(&faults));
    faults_arm(&faults, FAULT_NONE, 0, 0);
    must_repair();
    check_much(taken, 2);
    if (test_failed) printf("write %d\n", nth);
    finish();
  }
}

/* Nothing else has that size. */
TEST(an_empty_record_is_recovered_by_its_place) {
  struct file file = {.len = 0}, damaged;
  uint8_t bytes[128];
  begin();
  frame_text(&file, "before", 32);
  frame_text(&file, "", 32);
  frame_text(&file, "behind", 32);
  write_bytes(file.data, file.len);
  close_log(must_open());
  damaged = file;
  memset(damaged.data + file.starts[1], 0xee, 12);
  write_bytes(damaged.data, damaged.len);
  must_repair();
  CHECK_INT_EQ(read_bytes(bytes, sizeof bytes), file.len);
  CHECK(memcmp(bytes, file.data, file.len) == 0);
  check_rest(&file, 0, 0);
  finish();
}

/* Between two good records: nothing that the format has fits there. */
TEST(a_place_that_is_too_small_for_a_record) {
  struct file file = {.len = 0};
  uint8_t bytes[128];
  begin();
  frame_text(&file, "before", 32);
  memset(file.data + file.len, 0xee, 5);
  file.len += 5;
  frame_text(&file, "behind", 32);
  write_bytes(file.data, file.len);
  CHECK_INT_EQ(repair(), FLUME_ECORRUPT);
  CHECK(strstr(err.msg, "/log: byte 18: 5 bytes up to the next good record are too few") != NULL);
  CHECK_INT_EQ(read_bytes(bytes, sizeof bytes), file.len);
  CHECK(memcmp(bytes, file.data, file.len) == 0);
  finish();
}

/* The last record is damaged, and something follows that was never acknowledged. */
TEST(bytes_behind_a_damaged_end_are_cut) {
  struct file file, damaged;
  uint8_t bytes[8192];
  begin();
  make_closed(&file, 32);
  damaged = file;
  memset(damaged.data + file.starts[5], 0xee, file.len + 50 - file.starts[5]);
  write_bytes(damaged.data, file.len + 50);
  must_repair();
  CHECK_INT_EQ(read_bytes(bytes, sizeof bytes), file.len);
  check_rest(&file, file.starts[5], file.len);
  finish();
}

/* Nobody of flume's has had it open before. */
TEST(a_file_alone_is_repaired_too) {
  struct file file;
  begin();
  make_file(&file, 48);
  memset(file.data + file.starts[1], 0xee, 30);
  write_bytes(file.data, file.len);
  must_repair();
  check_rest(&file, file.starts[1], file.starts[1] + 30);
  finish();
}

TEST(files_that_are_not_logs_are_not_touched) {
  uint8_t bytes[64];
  begin();
  CHECK_INT_EQ(repair(), UV_ENOENT);
  write_bytes("some notes, no log\n", 19);
  CHECK_INT_EQ(repair(), FLUME_ECORRUPT);
  CHECK_INT_EQ(read_bytes(bytes, sizeof bytes), 19);
  CHECK(access(path_in(root, "log.flume"), F_OK) != 0);
  struct flume_log *log = NULL;
  CHECK_INT_EQ(unlink(path), 0);
  log = must_open();
  CHECK_INT_EQ(repair(), FLUME_ELOCKED);
  close_log(log);
  finish();
}

/* --- What is beside it ---------------------------------------------------------------------------------------- */

static void make_with_sets(struct file *file) {
  make_file(file, 32);
  write_bytes(file->data, file->len);
  struct flume_log *log = must_open();
  struct flume_slice record = slice("\0\0", 2);
  int64_t seq;
  CHECK_INT_EQ(log_append(log, &loop, &record, 1, &seq), 0);
  CHECK_INT_EQ(log_del(log, &loop, (int64_t[]){(int64_t)file->starts[2]}, 1), 0);
  CHECK_INT_EQ(log_del(log, &loop, (int64_t[]){0}, 1), 0);
  close_log(log);
}

/* Every byte of it: the records are there, and those that were deleted stay that. */
static void flip_beside(const char *name) {
  for (size_t at = 0; at < 700 && !test_failed; at++) {
    struct file file;
    char beside[TEST_PATH_MAX + 32];
    begin();
    make_with_sets(&file);
    snprintf(beside, sizeof beside, "%s.flume/%s", path, name);
    int fd = open(beside, O_RDWR | O_CLOEXEC);
    uint8_t byte;
    bool there = pread(fd, &byte, 1, (off_t)at) == 1;
    byte ^= 0x55;
    if (there) MUST(pwrite(fd, &byte, 1, (off_t)at) == 1);
    close(fd);
    int rv = repair();
    CHECK(rv == 0 || rv == FLUME_EVERSION);
    if (rv == 0) {
      struct flume_log *log = must_open();
      check_sound(log);
      struct seen seen = see(log, false);
      CHECK(seen.count == file.count - 1 || seen.count == file.count - 2); /* the record of zeros may count as deleted */
      CHECK_INT_EQ(flume_log_get(log, 0, &(struct flume_record){0}, &err), FLUME_EDELETED);
      close_log(log);
    }
    if (test_failed) printf("byte %zu of %s\n", at, name);
    finish();
    if (!there) return;
  }
}

TEST(a_flip_in_the_file_deleted) { flip_beside("deleted"); }
TEST(a_flip_in_the_file_zeros) { flip_beside("zeros"); }
TEST(a_flip_in_the_superblock) { flip_beside("note"); }

TEST(a_superblock_that_is_damaged_twice_is_rewritten) {
  struct file file;
  uint8_t id[16];
  begin();
  make_with_sets(&file);
  struct flume_log *log = must_open();
  memcpy(id, flume_log_id(log), sizeof id);
  close_log(log);
  write_file(path_in(root, "log.flume/note"), "garbage", 7, 600);
  CHECK_INT_EQ(try_open(&log, (struct flume_log_options){0}), FLUME_ECORRUPT);
  must_repair();
  CHECK(find_finding(&report, FLUME_FINDING_DAMAGE, "note", "") != NULL);
  CHECK(find_finding(&report, FLUME_FINDING_REPAIR, "note", "made anew") != NULL);
  log = must_open();
  CHECK(memcmp(flume_log_id(log), id, sizeof id) != 0);
  CHECK_INT_EQ(see(log, false).count, file.count - 2);
  CHECK_INT_EQ(log->deletions.value, 3);
  close_log(log);
  finish();
}

/* Two records have become one, or are lost together: which ones were deleted nobody can tell, but how many is known. */
TEST(deletes_of_records_that_were_cut_off) {
  for (int lost = 0; lost < 2; lost++) {
    struct file file, damaged;
    struct flume_log *reader;
    begin();
    make_with_sets(&file);
    damaged = file;
    damaged.len = file.starts[1];
    if (lost) memset(damaged.data + file.starts[1], 0xee, file.starts[3] - file.starts[1]);
    else frame(&damaged, file.data, file.starts[3] - file.starts[1] - 12, 32);
    put_bytes(file.starts[1], damaged.data + file.starts[1], file.starts[3] - file.starts[1]);
    must_repair();
    const struct flume_finding *found = find_finding(&report, FLUME_FINDING_DAMAGE, "deleted", "no record begins there");
    CHECK(lost ? found == NULL : found != NULL && found->seq == (int64_t)file.starts[2]);
    CHECK(find_finding(&report, FLUME_FINDING_REPAIR, "deleted", "written anew") != NULL);
    struct flume_log *log = must_open();
    check_sound(log);
    MUST(try_open(&reader, (struct flume_log_options){.readonly = true}) == 0);
    struct flume_log *const both[] = {log, reader};
    for (int i = 0; i < 2; i++) {
      CHECK_INT_EQ(both[i]->deletions.value, 2 + lost);
      CHECK_INT_EQ(flume__log_deletion_at(both[i], 0), -1);
      CHECK_INT_EQ(flume__log_deletion_at(both[i], 1), 0);
      CHECK_INT_EQ(flume__log_deleted_count(both[i], INT64_MAX - 1), 1 + lost);
      CHECK_INT_EQ(see(both[i], false).count, file.count - 2 + (lost ? 0 : 1));
    }
    close_log(reader);
    close_log(log);
    finish();
  }
}

/* A crash has left its bytes, but for the first ones, and what frames it is damaged with the record before it. */
TEST(a_delete_that_was_interrupted_is_of_a_mended_record_too) {
  struct file file;
  static const uint8_t wrong[52] = {0xee};
  begin();
  make_file(&file, 32);
  write_bytes(file.data, file.len);
  struct flume_log *log = must_open();
  int64_t seq = (int64_t)file.starts[3];
  faults_arm(&faults, FAULT_WRITE, 3, UV_EIO); /* the frame, its end, then the record */
  CHECK_INT_EQ(log_del(log, &loop, &seq, 1), UV_EIO);
  faults_arm(&faults, FAULT_NONE, 0, 0);
  close_log(log);
  put_bytes(file.starts[2], wrong, sizeof wrong);
  put_bytes(file.starts[3], wrong, 1);
  must_repair();
  const struct flume_finding *done = find_finding(&report, FLUME_FINDING_REPAIR, "log", "framing");
  CHECK(done != NULL && done->seq == seq);
  log = must_open();
  check_sound(log);
  CHECK_INT_EQ(flume_log_get(log, seq, &(struct flume_record){0}, &err), FLUME_EDELETED);
  CHECK_INT_EQ(flume__log_deletion_at(log, 0), seq);
  CHECK_INT_EQ(see(log, false).count, file.count - 2);
  close_log(log);
  finish();
}

/* --- Failing on its way --------------------------------------------------------------------------------------- */

static void fail_each(enum fault_op op, int code) {
  for (int nth = 1; nth < 300; nth++) {
    struct file file, damaged;
    begin();
    make_closed(&file, 32);
    damaged = file;
    memset(damaged.data + file.starts[1], 0xee, 30);
    damaged.data[file.starts[3]] ^= 1;
    write_bytes(damaged.data, damaged.len);
    faults_arm(&faults, op, nth, code);
    int rv = repair();
    bool hit = fault_was_hit(&faults);
    faults_arm(&faults, FAULT_NONE, 0, 0);
    CHECK(rv == 0 || rv == code);
    CHECK(hit || rv == 0);
    must_repair();
    struct flume_log *log = must_open();
    CHECK(is_there(log, &file, 3)); /* mended, by the first or by the second */
    close_log(log);
    check_rest(&file, file.starts[1], file.starts[1] + 30);
    finish();
    if (test_failed) printf("call %d of %s fails with %s\n", nth, fault_names[op], flume_err_name(code));
    if (!hit || test_failed) return;
  }
  CHECK(false); /* so many calls are not made */
}

TEST(write_fails) { fail_each(FAULT_WRITE, UV_ENOSPC); }
TEST(sync_fails) { fail_each(FAULT_SYNC, UV_EIO); }
TEST(read_fails) { fail_each(FAULT_READ, UV_EIO); }
TEST(open_fails) { fail_each(FAULT_OPEN, UV_EMFILE); }
TEST(rename_fails) { fail_each(FAULT_RENAME, UV_EIO); }
TEST(no_memory) { fail_each(FAULT_ALLOC, UV_ENOMEM); }
