/* A backup of an offset log: the file as of one moment, with what is deleted, and with what stands beside it. */
#include <sys/stat.h>

#include "backup_support.h"
#include "offset_fixture.h"

static void begin_backup(void) {
  begin();
  strcpy(backup_target, path_in(root, "copies/one"));
}

/* Works on the copy from now on. */
static void turn_to_copy(void) {
  snprintf(path, sizeof path, "%s/log", backup_target);
}

static int64_t append_text(struct flume_log *log, const char *text) {
  struct flume_slice record = slice_text(text);
  int64_t seq = -1;
  CHECK_INT_EQ(flume_log_append_wait(log, &record, 1, &seq, &err), 0);
  return seq;
}

TEST(has_all_records_and_is_the_same_log) {
  static const uint32_t all_bits[] = {32, 48, 53};
  for (int i = 0; i < 3; i++) {
    struct file file;
    uint8_t id[16], bytes[8192];
    struct backup_answer answer;
    begin_backup();
    make_file(&file, all_bits[i]);
    write_bytes(file.data, file.len);
    struct flume_log *log = must_open();
    memcpy(id, flume_log_id(log), sizeof id);
    CHECK_INT_EQ(backup(log, &loop, NULL, &answer), 0);
    CHECK_INT_EQ(answer.req.since, file.starts[file.count - 1]);
    CHECK_INT_EQ(answer.req.files, 2); /* with the note */
    append_text(log, "behind the copy");
    close_log(log);
    turn_to_copy();
    CHECK_INT_EQ(read_bytes(bytes, sizeof bytes), file.len);
    CHECK(memcmp(bytes, file.data, file.len) == 0);
    log = must_open();
    CHECK(memcmp(flume_log_id(log), id, sizeof id) == 0);
    CHECK_INT_EQ(see(log, false).count, file.count);
    CHECK_INT_EQ(append_text(log, "goes on"), file.len);
    close_log(log);
    end();
  }
}

TEST(has_deletions_in_their_order_and_records_of_zeros) {
  struct file file;
  struct backup_answer answer;
  begin_backup();
  make_file(&file, 32);
  write_bytes(file.data, file.len);
  struct flume_log *log = must_open();
  struct flume_slice zeros = slice("\0\0\0", 3);
  int64_t seq, gone[] = {(int64_t)file.starts[3], 0, (int64_t)file.starts[1]};
  CHECK_INT_EQ(flume_log_append_wait(log, &zeros, 1, &seq, &err), 0);
  for (int i = 0; i < 3; i++) CHECK_INT_EQ(log_del(log, &loop, &gone[i], 1), 0);
  CHECK_INT_EQ(backup(log, &loop, NULL, &answer), 0);
  CHECK_INT_EQ(answer.req.files, 4);
  close_log(log);
  turn_to_copy();
  log = must_open();
  CHECK_INT_EQ(log->deletions.value, 3);
  for (int i = 0; i < 3; i++) CHECK_INT_EQ(flume__log_deletion_at(log, i), gone[i]);
  CHECK_INT_EQ(see(log, false).count, file.count + 1 - 3);
  close_log(log);
  end();
}

/* What is deleted, or appended and deleted, after the moment that the copy is of. */
static struct flume_log *busy;
static int64_t late[2];

static void on_late(struct flume_append *req, int status, int64_t seq, const struct flume_err *error) {
  (void)req;
  (void)seq;
  (void)error;
  CHECK_INT_EQ(status, 0);
}

static void delete_late(struct flume_backup *req, uint64_t done_bytes, uint64_t total_bytes) {
  static struct flume_append del;
  static bool begun;
  (void)total_bytes;
  (void)req;
  if (done_bytes > 0) begun = false;
  if (done_bytes > 0 || begun) return;
  begun = true;
  late[1] = append_text(busy, "late");
  CHECK_INT_EQ(flume_log_del(busy, &del, late, 2, on_late, &err), 0);
}

TEST(records_deleted_meanwhile_are_whole_or_deleted) {
  struct file file;
  struct backup_answer answer = {.req.progress = delete_late};
  begin_backup();
  make_file(&file, 32);
  write_bytes(file.data, file.len);
  late[0] = (int64_t)file.starts[3];
  busy = must_open();
  CHECK_INT_EQ(log_del(busy, &loop, (int64_t[]){0}, 1), 0);
  CHECK_INT_EQ(backup_on(busy, &loop, NULL, &answer), 0);
  close_log(busy);
  turn_to_copy();
  struct flume_log *log = must_open();
  struct seen seen = see(log, false);
  CHECK(seen.count == file.count - 1 || seen.count == file.count - 2);
  for (int i = 0; i < seen.count; i++) CHECK(seen.first_bytes[i] >= 'b');
  CHECK_INT_EQ(flume__log_deletion_at(log, 0), 0);
  close_log(log);
  end();
}

/* The record that is being overwritten when the copy is done comes into it as deleted. */
TEST(overwrites_what_is_in_the_file_deleted) {
  static uint8_t bytes[10000];
  struct backup_answer answer;
  begin_backup();
  memset(bytes, 'x', sizeof bytes);
  struct flume_log *log = must_open();
  struct flume_slice record = slice(bytes, sizeof bytes);
  int64_t seq;
  CHECK_INT_EQ(flume_log_append_wait(log, &record, 1, &seq, &err), 0);
  append_text(log, "other");
  faults_arm(&faults, FAULT_WRITE, 6, UV_EIO); /* the frame, its end, the note; then 4096 bytes, and 4096 */
  CHECK_INT_EQ(log_del(log, &loop, (int64_t[]){0}, 1), UV_EIO);
  faults_arm(&faults, FAULT_NONE, 0, 0);
  CHECK_INT_EQ(backup(log, &loop, NULL, &answer), 0);
  close_log(log);
  turn_to_copy();
  log = must_open();
  CHECK_INT_EQ(see(log, false).count, 1);
  CHECK_INT_EQ(flume__log_deletion_at(log, 0), 0);
  close_log(log);
  end();
}

TEST(of_a_reader_beside_its_writer_and_of_an_empty_log) {
  struct flume_log *reader, *log;
  struct backup_answer answer;
  begin_backup();
  log = must_open();
  CHECK_INT_EQ(backup(log, &loop, NULL, &answer), 0);
  CHECK_INT_EQ(answer.req.since, -1);
  append_text(log, "one");
  append_text(log, "two");
  CHECK_INT_EQ(log_del(log, &loop, (int64_t[]){0}, 1), 0);
  CHECK_INT_EQ(try_open(&reader, (struct flume_log_options){.readonly = true}), 0);
  strcpy(backup_target, path_in(root, "copies/two"));
  CHECK_INT_EQ(backup(reader, &loop, NULL, &answer), 0);
  close_log(reader);
  close_log(log);
  for (int i = 1; i <= 2; i++) {
    strcpy(backup_target, path_in(root, i == 1 ? "copies/one" : "copies/two"));
    turn_to_copy();
    log = must_open();
    CHECK_INT_EQ(see(log, false).count, i - 1);
    close_log(log);
  }
  end();
}

/* Nobody of flume's has written to it: there is nothing beside it, and nothing is made there. */
TEST(of_a_file_alone) {
  struct file file;
  struct flume_log *reader;
  struct backup_answer answer;
  begin_backup();
  make_file(&file, 48);
  write_bytes(file.data, file.len - 2);
  CHECK_INT_EQ(try_open(&reader, (struct flume_log_options){.readonly = true}), 0);
  CHECK_INT_EQ(backup(reader, &loop, NULL, &answer), 0);
  CHECK_INT_EQ(answer.req.files, 1);
  close_log(reader);
  turn_to_copy();
  struct stat found;
  CHECK(stat(path_in(backup_target, "log.flume"), &found) != 0);
  struct flume_log *log = must_open();
  CHECK_INT_EQ(see(log, false).count, file.count - 1);
  close_log(log);
  end();
}

TEST(of_a_damaged_log_is_refused) {
  struct file file;
  struct flume_log *log;
  struct backup_answer answer;
  begin_backup();
  make_file(&file, 32);
  file.data[file.starts[2]] ^= 1;
  write_bytes(file.data, file.len);
  MUST(try_open(&log, (struct flume_log_options){.readonly = true, .damaged = true}) == 0);
  CHECK_INT_EQ(backup(log, &loop, NULL, &answer), FLUME_ECORRUPT);
  close_log(log);
  end();
}

/* How many deletions there were, and which of them were losses, views of the copy have to find as they were. */
TEST(of_a_repaired_log) {
  for (int lost = 0; lost < 2; lost++) {
    struct file file, damaged;
    struct flume_report report = {0};
    struct backup_answer answer;
    begin_backup();
    make_file(&file, 32);
    write_bytes(file.data, file.len);
    struct flume_log *log = must_open();
    CHECK_INT_EQ(log_del(log, &loop, (int64_t[]){0}, 1), 0);
    CHECK_INT_EQ(log_del(log, &loop, (int64_t[]){(int64_t)file.starts[2]}, 1), 0);
    close_log(log);
    damaged = file;
    damaged.len = file.starts[1];
    if (lost) memset(damaged.data + file.starts[1], 0xee, file.starts[3] - file.starts[1]);
    else frame(&damaged, file.data, file.starts[3] - file.starts[1] - 12, 32);
    put_bytes(file.starts[1], damaged.data + file.starts[1], file.starts[3] - file.starts[1]);
    CHECK_INT_EQ(flume_log_repair_offset(path, &faults.io, &report, &err), 0);
    flume_report_fini(&report);
    log = must_open();
    CHECK_INT_EQ(log->deletions.value, 2 + lost);
    CHECK_INT_EQ(backup(log, &loop, NULL, &answer), 0);
    close_log(log);
    turn_to_copy();
    log = must_open();
    CHECK_INT_EQ(log->deletions.value, 2 + lost);
    CHECK_INT_EQ(flume__log_deletion_at(log, 0), 0);
    CHECK_INT_EQ(flume__log_deletion_at(log, 1), -1);
    CHECK(flume__log_is_lost(log, (int64_t)file.starts[1]) == lost);
    close_log(log);
    end();
  }
}

/* The copy has a directory and files that are named after it. */
TEST(of_a_file_whose_name_is_too_long) {
  struct backup_answer answer;
  begin_backup();
  memset(path + strlen(path), 'x', 238);
  path[strlen(root) + 1 + 241] = '\0';
  struct flume_log *log = must_open();
  CHECK_INT_EQ(backup(log, &loop, NULL, &answer), UV_ENAMETOOLONG);
  CHECK(access(path_in(root, "copies"), F_OK) != 0);
  close_log(log);
  end();
}

TEST(into_an_existing_folder_is_refused) {
  struct backup_answer answer;
  begin_backup();
  struct flume_log *log = must_open();
  MUST(mkdir(path_in(root, "copies"), 0777) == 0 && mkdir(backup_target, 0777) == 0);
  write_file(path_in(backup_target, "x"), "x", 1, 1);
  CHECK_INT_EQ(backup(log, &loop, NULL, &answer), UV_EEXIST);
  close_log(log);
  end();
}

static int any(void *arg, const char *name) {
  (void)arg;
  (void)name;
  return 1;
}

/* Any call that fails: an error, and nothing is left; the log goes on. */
static void fail_each(enum fault_op op, int code) {
  for (int nth = 1; nth < 200; nth++) {
    struct file file;
    struct backup_answer answer;
    begin_backup();
    make_file(&file, 32);
    write_bytes(file.data, file.len);
    struct flume_log *log = must_open();
    struct flume_slice zeros = slice("\0\0\0", 3);
    int64_t seq;
    CHECK_INT_EQ(flume_log_append_wait(log, &zeros, 1, &seq, &err), 0);
    CHECK_INT_EQ(log_del(log, &loop, (int64_t[]){0}, 1), 0);
    faults_arm(&faults, op, nth, code);
    int rv = backup(log, &loop, NULL, &answer);
    bool hit = fault_was_hit(&faults);
    faults_arm(&faults, FAULT_NONE, 0, 0);
    CHECK(rv == 0 || rv == code);
    CHECK(hit || rv == 0);
    CHECK_INT_EQ(flume_io_posix.list(NULL, backup_target, any, NULL), rv == 0 ? 1 : UV_ENOENT);
    append_text(log, "goes on");
    close_log(log);
    end();
    if (test_failed) printf("call %d of %s fails with %s\n", nth, fault_names[op], flume_err_name(code));
    if (!hit || test_failed) return;
  }
  CHECK(false); /* so many calls are not made */
}

TEST(write_fails) { fail_each(FAULT_WRITE, UV_ENOSPC); }
TEST(sync_fails) { fail_each(FAULT_SYNC, UV_EIO); }
TEST(read_fails) { fail_each(FAULT_READ, UV_EIO); }
TEST(open_fails) { fail_each(FAULT_OPEN, UV_EMFILE); }
TEST(no_memory) { fail_each(FAULT_ALLOC, UV_ENOMEM); }
