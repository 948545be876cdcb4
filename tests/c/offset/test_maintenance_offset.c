/* The upkeep of an offset log: checks beside its use, compactions that have nothing to do, syncs in time, what stands
 * beside the file when that is wrong, and copies of the handle in other processes. */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "check_support.h"
#include "compact_support.h"
#include "offset_fixture.h"

static struct file made;

static bool no_locks;

int __real_uv_rwlock_init(uv_rwlock_t *lock);
int __wrap_uv_rwlock_init(uv_rwlock_t *lock);
int __wrap_uv_rwlock_init(uv_rwlock_t *lock) { return no_locks ? UV_ENOMEM : __real_uv_rwlock_init(lock); }

static void begin_with_file(void) {
  begin();
  make_file(&made, 32);
  write_bytes(made.data, made.len);
}

static struct flume_log *must_open_readonly(void) {
  struct flume_log *log = NULL;
  MUST(try_open(&log, (struct flume_log_options){.readonly = true, .damaged = true}) == 0);
  return log;
}

static int append_text(struct flume_log *log, const char *text, int64_t *seq) {
  struct flume_slice record = slice_text(text);
  return flume_log_append_wait(log, &record, 1, seq, &err);
}

static void wait_for_check(struct check_answer *answer) {
  while (answer->calls == 0) MUST(uv_run(&loop, UV_RUN_ONCE) != 0 || answer->calls > 0);
  CHECK_INT_EQ(answer->calls, 1);
}

/* --- Checks ------------------------------------------------------------------------------------------------------- */

/* Of a file that is open for writing: a tail that nobody has acknowledged is damage there. */
TEST(a_log_is_checked_beside_its_use) {
  struct check_answer answer = {.calls = 0}, second = {.calls = 0};
  int64_t seq = 0;
  begin_with_file();
  struct flume_log *log = must_open();
  CHECK_INT_EQ(log_del(log, &loop, &seq, 1), 0);
  CHECK_INT_EQ(flume_log_check(log, NULL, &answer.req, on_checked, &err), 0);
  CHECK_INT_EQ(flume_log_check(log, NULL, &second.req, on_checked, &err), 0); /* as that of a file log */
  CHECK_INT_EQ(append_text(log, "meanwhile", &seq), 0);
  wait_for_check(&answer);
  wait_for_check(&second);
  CHECK_INT_EQ(second.req.report.records, made.count);
  flume_report_fini(&second.req.report);
  CHECK_INT_EQ(answer.status, 0);
  CHECK_INT_EQ(answer.req.report.records, made.count); /* as of when it began */
  CHECK_INT_EQ(answer.req.report.deleted, 1);
  CHECK_INT_EQ(answer.req.report.bytes, made.len);
  CHECK_INT_EQ(answer.req.report.findings_count, 0);
  flume_report_fini(&answer.req.report);
  close_log(log);
  end();
}

TEST(damage_behind_the_last_frame_of_a_log_in_use) {
  struct check_answer answer;
  begin_with_file();
  struct flume_log *log = must_open();
  write_bytes(made.data, made.starts[5] + 3); /* by another program */
  made.data[made.starts[5]] ^= 1;
  write_bytes(made.data, made.len);
  CHECK_INT_EQ(log_check(log, &loop, &answer), 0);
  CHECK_INT_EQ(answer.req.report.damages, 1);
  CHECK_INT_EQ(answer.req.report.findings[0].off, made.starts[5]);
  CHECK_INT_EQ(answer.req.report.records, made.count - 1);
  flume_report_fini(&answer.req.report);
  close_log(log);
  end();
}

static int told; /* calls of progress */

static void on_progress(struct flume_check *req, uint64_t done_bytes, uint64_t total_bytes) {
  (void)req;
  CHECK(done_bytes <= total_bytes);
  told++;
}

/* The views come first, then the records; each is a piece of work that progress tells of. */
TEST(views_are_checked_with_the_log) {
  char views[TEST_PATH_MAX + 32], version[TEST_PATH_MAX + 64];
  for (int readonly = 0; readonly < 2; readonly++) {
    struct check_answer answer = {.calls = 0};
    begin_with_file();
    snprintf(views, sizeof views, "%s/views", root);
    snprintf(version, sizeof version, "%s/sum/1", views);
    MUST(flume_io_mkdir_all(&flume_io_posix, version) == 0);
    write_file(path_in(version, "data.mdb"), "nonsense", 8, 10000);
    struct flume_log *log = readonly ? must_open_readonly() : must_open();
    told = 0;
    answer.req.progress = on_progress;
    CHECK_INT_EQ(flume_log_check(log, views, &answer.req, on_checked, &err), 0);
    wait_for_check(&answer);
    CHECK_INT_EQ(answer.status, 0);
    CHECK_INT_EQ(told, 2);
    CHECK_INT_EQ(answer.req.report.records, made.count);
    const struct flume_finding *finding = find_finding(&answer.req.report, FLUME_FINDING_DAMAGE, "views/sum/1", "");
    CHECK(finding != NULL && answer.req.report.damages == 1);
    flume_report_fini(&answer.req.report);
    close_log(log);
    end();
  }
}

static uv_sem_t gate;

static int list_at_the_gate(void *ctx, const char *dir, int (*each)(void *arg, const char *name), void *arg) {
  uv_sem_wait(&gate);
  return fault_list(ctx, dir, each, arg);
}

/* It is at the views when closing begins, and does not go on to the records. */
TEST(closing_ends_a_check) {
  struct check_answer answer = {.calls = 0};
  char views[TEST_PATH_MAX + 32];
  bool closed = false;
  begin_with_file();
  MUST(uv_sem_init(&gate, 0) == 0);
  snprintf(views, sizeof views, "%s/views", root);
  struct flume_log *log = must_open();
  faults.io.list = list_at_the_gate;
  CHECK_INT_EQ(flume_log_check(log, views, &answer.req, on_checked, &err), 0);
  flume_log_close(log, on_closed, &closed);
  while (!((struct offset_log *)log)->draining) uv_run(&loop, UV_RUN_ONCE);
  CHECK_INT_EQ(answer.calls, 0);
  CHECK(!closed);
  uv_sem_post(&gate);
  while (!closed) uv_run(&loop, UV_RUN_ONCE);
  CHECK_INT_EQ(answer.calls, 1);
  CHECK_INT_EQ(answer.status, FLUME_ECLOSED);
  uv_sem_destroy(&gate);
  end();
}

/* The nth call fails while a damaged file and its views are checked: that is told, or it is a finding of a view's. */
static void fail_checks(enum fault_op op, int code) {
  bool hit = true;
  int nth = 1;
  for (; hit && nth < 200 && !test_failed; nth++) {
    struct check_answer answer = {.calls = 0};
    char views[TEST_PATH_MAX + 32];
    begin_with_file();
    snprintf(views, sizeof views, "%s/views", root);
    MUST(flume_io_mkdir_all(&flume_io_posix, path_in(views, "sum/1")) == 0);
    made.data[made.starts[2]] ^= 1;
    write_bytes(made.data, made.len - 3);
    struct flume_log *log = must_open_readonly();
    faults_arm(&faults, op, nth, code);
    int rv = flume_log_check(log, views, &answer.req, on_checked, &answer.err);
    if (rv == 0) {
      wait_for_check(&answer);
      rv = answer.status;
    }
    hit = fault_was_hit(&faults);
    CHECK_INT_EQ(rv, hit ? code : 0);
    if (rv == 0) CHECK_INT_EQ(answer.req.report.damages, 1);
    if (rv == 0) flume_report_fini(&answer.req.report);
    else CHECK_INT_EQ(answer.err.code, code);
    faults_arm(&faults, FAULT_NONE, 0, 0);
    close_log(log);
    end();
    if (test_failed) printf("call %d of %s\n", nth, fault_names[op]);
  }
  CHECK(nth > 2);
}

TEST(checks_when_reads_fail) { fail_checks(FAULT_READ, UV_EIO); }
TEST(checks_when_sizes_fail) { fail_checks(FAULT_SIZE, UV_EIO); }
TEST(checks_when_lists_fail) { fail_checks(FAULT_LIST, UV_EIO); }
TEST(checks_without_memory) { fail_checks(FAULT_ALLOC, UV_ENOMEM); }

TEST(a_check_of_a_file_that_becomes_shorter) {
  struct check_answer answer;
  begin_with_file();
  struct flume_log *log = must_open();
  write_bytes(made.data, made.starts[3] + 5);
  CHECK_INT_EQ(log_check(log, &loop, &answer), 0); /* damage is no failure of a check */
  CHECK_INT_EQ(answer.req.report.damages, 1);
  CHECK_INT_EQ(answer.req.report.findings[0].off, made.starts[3]);
  CHECK_INT_EQ(answer.req.report.records, 3);
  flume_report_fini(&answer.req.report);
  close_log(log);
  end();
}

/* --- Compactions, digests ----------------------------------------------------------------------------------------- */

/* A delete has overwritten the record: nothing is left to be done. */
TEST(a_compaction_has_nothing_to_do) {
  struct compaction_answer answer = {.calls = 0}, second = {.calls = 0};
  int64_t seq;
  begin_with_file();
  seq = (int64_t)made.starts[2];
  struct flume_log *log = must_open();
  CHECK_INT_EQ(log_del(log, &loop, &seq, 1), 0);
  CHECK_INT_EQ(flume_log_compact(log, &answer.req, on_compacted, &err), 0);
  CHECK_INT_EQ(flume_log_compact(log, &second.req, on_compacted, &err), FLUME_EBUSY);
  CHECK_INT_EQ(answer.calls, 0);
  while (answer.calls == 0) uv_run(&loop, UV_RUN_ONCE);
  CHECK_INT_EQ(answer.status, 0);
  CHECK_INT_EQ(answer.req.segments + answer.req.records, 0);
  struct flume_block *block;
  CHECK_INT_EQ(flume__log_read_deleted(log, seq, &block, &err), FLUME_ENOENT);
  CHECK(strstr(err.msg, "were overwritten") != NULL);
  answer.calls = 0;
  CHECK_INT_EQ(flume_log_compact(log, &answer.req, on_compacted, &err), 0);
  close_log(log); /* it is answered all the same */
  CHECK_INT_EQ(answer.calls, 1);
  log = must_open_readonly();
  CHECK_INT_EQ(flume_log_compact(log, &answer.req, on_compacted, &err), FLUME_EREADONLY);
  close_log(log);
  end();
}

/* Of what a record has and where it stands. */
TEST(digests_of_records) {
  uint32_t digests[RECORDS_MAX], again;
  begin_with_file();
  struct flume_log *log = must_open();
  for (int i = 0; i < made.count; i++) {
    CHECK_INT_EQ(flume__log_digest(log, (int64_t)made.starts[i], &digests[i], &err), 0);
    for (int n = 0; n < i; n++) CHECK(digests[n] != digests[i]);
  }
  int64_t seq = (int64_t)made.starts[1];
  CHECK_INT_EQ(flume__log_digest(log, seq + 1, &again, &err), FLUME_ENOENT);
  CHECK_INT_EQ(log_del(log, &loop, &seq, 1), 0);
  CHECK_INT_EQ(flume__log_digest(log, seq, &again, &err), FLUME_EDELETED);
  close_log(log);
  log = must_open();
  CHECK_INT_EQ(flume__log_digest(log, (int64_t)made.starts[3], &again, &err), 0);
  CHECK_INT_EQ(again, digests[3]);
  close_log(log);
  end();
}

/* --- Reading what another program has changed --------------------------------------------------------------------- */

static int64_t get_first(struct flume_log *log) {
  struct flume_record record = {0};
  int rv = flume_log_get(log, 0, &record, &err);
  if (rv == 0) flume_record_release(&record);
  return rv;
}

TEST(a_record_whose_frame_changes_is_refused_by_a_read) {
  begin_with_file();
  struct flume_log *log = must_open();
  CHECK_INT_EQ(get_first(log), 0);
  close_log(log);
  const size_t len = made.starts[1];
  static const char *const words[] = {"the length of a record has changed", "the length of a record has changed",
                                      "the pointer behind a record is wrong"};
  const size_t places[] = {3, len - 5, len - 1};
  for (size_t i = 0; i < 3; i++) {
    log = must_open();
    made.data[places[i]] ^= 1;
    write_bytes(made.data, made.len);
    CHECK_INT_EQ(get_first(log), FLUME_ECORRUPT);
    CHECK(strstr(err.msg, words[i]) != NULL && strstr(err.msg, "byte 0: ") != NULL);
    made.data[places[i]] ^= 1;
    write_bytes(made.data, made.len);
    close_log(log);
  }
  log = must_open();
  write_bytes(made.data, 10);
  CHECK_INT_EQ(get_first(log), FLUME_ECORRUPT);
  CHECK(strstr(err.msg, "the file has become shorter") != NULL);
  write_bytes(made.data, made.len);
  close_log(log);
  end();
}

/* --- Syncs in time ------------------------------------------------------------------------------------------------ */

static struct flume_log *open_with_interval(uint32_t interval_ms) {
  struct flume_log *log = NULL;
  MUST(try_open(&log, (struct flume_log_options){.sync = FLUME_SYNC_INTERVAL, .interval_ms = interval_ms}) == 0);
  return log;
}

TEST(writes_are_synced_within_the_interval) {
  int64_t seq = -1;
  begin();
  struct flume_log *log = open_with_interval(1);
  CHECK_INT_EQ(append_text(log, "a record", &seq), 0);
  CHECK(log->durable_seq < seq);
  loop_drain(&loop);
  CHECK_INT_EQ(log->durable_seq, seq);
  close_log(log);
  end();
}

/* When there is no memory for the sync, nothing more is taken: it would be written and never synced. */
TEST(a_sync_without_memory) {
  int64_t seq = -1;
  begin();
  struct flume_log *log = open_with_interval(1);
  CHECK_INT_EQ(append_text(log, "a record", &seq), 0);
  flume__group_fini(&((struct offset_log *)log)->group); /* no commit is at hand that could be used again */
  faults.forever = true;
  faults_arm(&faults, FAULT_ALLOC, 1, UV_ENOMEM);
  loop_drain(&loop);
  CHECK_INT_EQ(log->failure.code, FLUME_ENOMEM);
  faults_arm(&faults, FAULT_NONE, 0, 0);
  CHECK_INT_EQ(append_text(log, "another", &seq), FLUME_ENOMEM);
  CHECK(strstr(err.msg, path) != NULL);
  close_log(log);
  log = must_open();
  CHECK_INT_EQ(see(log, false).count, 1);
  close_log(log);
  end();
}

TEST(an_append_that_waits_does_not_pass_others) {
  struct answer answer = {.calls = 0};
  struct flume_slice record = slice_text("first");
  int64_t seq = -1;
  begin();
  struct flume_log *log = must_open();
  CHECK_INT_EQ(flume_log_append(log, &answer.req, &record, 1, on_answer, &err), 0);
  CHECK_INT_EQ(append_text(log, "second", &seq), FLUME_EBUSY);
  answer_wait(&loop, &answer);
  CHECK_INT_EQ(append_text(log, "second", &seq), 0);
  CHECK(seq > answer.seq);
  close_log(log);
  end();
}

/* What waits behind an append that fails, fails with it; another handle has what was acknowledged. */
TEST(appends_that_wait_behind_one_that_fails) {
  struct answer answers[6] = {{.calls = 0}};
  int64_t seq;
  begin_with_file();
  seq = (int64_t)made.starts[1];
  struct flume_log *log = must_open();
  faults_arm(&faults, FAULT_WRITE, 1, UV_EIO);
  for (int i = 0; i < 6; i++) {
    struct flume_slice record = slice_text("a record");
    int rv = i == 3 ? flume_log_del(log, &answers[i].req, &seq, 1, on_answer, &err)
                    : i == 4 ? flume_log_sync(log, &answers[i].req, on_answer, &err)
                             : flume_log_append(log, &answers[i].req, &record, 1, on_answer, &err);
    CHECK_INT_EQ(rv, 0);
  }
  for (int i = 0; i < 6; i++) {
    answer_wait(&loop, &answers[i]);
    CHECK_INT_EQ(answers[i].status, UV_EIO);
    CHECK_INT_EQ(answers[i].calls, 1);
    CHECK_STR_EQ(answers[i].err.msg, answers[0].err.msg);
  }
  CHECK_INT_EQ(append_text(log, "another", &seq), UV_EIO);
  close_log(log);
  faults_arm(&faults, FAULT_NONE, 0, 0);
  log = must_open();
  CHECK_INT_EQ(see(log, false).count, made.count);
  close_log(log);
  end();
}

/* A seq that is given twice is deleted once. */
TEST(a_delete_of_the_same_record_twice) {
  begin_with_file();
  struct flume_log *log = must_open();
  int64_t seqs[] = {(int64_t)made.starts[3], (int64_t)made.starts[1], (int64_t)made.starts[3]};
  CHECK_INT_EQ(log_del(log, &loop, seqs, 3), 0);
  CHECK_INT_EQ(log->deletions.value, 2);
  CHECK_INT_EQ(log_del(log, &loop, seqs, 2), 0);
  CHECK_INT_EQ(log_del(log, &loop, seqs, 0), 0);
  CHECK_INT_EQ(log->deletions.value, 2);
  CHECK_INT_EQ(see(log, false).count, made.count - 2);
  close_log(log);
  end();
}

/* --- What stands beside the file ---------------------------------------------------------------------------------- */

/* Both copies in the note, with checksums that are right. Offsets: see core/FORMAT.md. */
static void change_note(size_t at, uint16_t number) {
  char note[TEST_PATH_MAX + 32];
  uint8_t bytes[1024];
  snprintf(note, sizeof note, "%s/log.flume/note", root);
  int fd = open(note, O_RDWR | O_CLOEXEC);
  MUST(fd >= 0);
  ssize_t len = read(fd, bytes, sizeof bytes);
  for (ssize_t slot = 0; slot + 60 <= len; slot += 512) {
    flume_put_le16(bytes + slot + at, number);
    flume_put_le32(bytes + slot + 56, flume_crc32c(0, bytes + slot, 56));
  }
  MUST(pwrite(fd, bytes, (size_t)len, 0) == len);
  close(fd);
}

static int open_and_close(void) {
  struct flume_log *log;
  int rv = try_open(&log, (struct flume_log_options){0});
  if (rv == 0) close_log(log);
  return rv;
}

TEST(superblocks_of_a_newer_format) {
  begin_with_file();
  close_log(must_open());
  change_note(4, 2);
  CHECK_INT_EQ(open_and_close(), FLUME_EVERSION);
  CHECK(strstr(err.msg, "note: byte 4: unknown version") != NULL);
  change_note(4, 1);
  change_note(6, 64);
  CHECK_INT_EQ(open_and_close(), FLUME_EVERSION);
  CHECK(strstr(err.msg, "pointers of 64 bits") != NULL);
  change_note(6, 32);
  CHECK_INT_EQ(open_and_close(), 0);
  end();
}

TEST(a_superblock_without_a_good_copy) {
  char note[TEST_PATH_MAX + 32];
  uint8_t bytes[1024];
  begin_with_file();
  close_log(must_open());
  snprintf(note, sizeof note, "%s/log.flume/note", root);
  memset(bytes, 0xaa, sizeof bytes);
  for (size_t len = 0; len <= sizeof bytes; len += 256) {
    write_file(note, bytes, len, len);
    CHECK_INT_EQ(open_and_close(), FLUME_ECORRUPT);
    CHECK(strstr(err.msg, "note: byte 0: damaged") != NULL);
  }
  remove_files_beside();
  CHECK_INT_EQ(open_and_close(), 0);
  end();
}

/* The file is another's than what stands beside it: deletes would hit records that nobody deleted. */
TEST(deletes_that_name_no_record) {
  struct file other = {.len = 0};
  int64_t seq;
  begin_with_file();
  seq = (int64_t)made.starts[2];
  struct flume_log *log = must_open();
  CHECK_INT_EQ(log_del(log, &loop, &seq, 1), 0);
  close_log(log);
  char text[200];
  memset(text, 'y', sizeof text);
  for (int i = 0; i < 5; i++) frame(&other, text, sizeof text, 32);
  write_bytes(other.data, other.len);
  CHECK_INT_EQ(open_and_close(), FLUME_ECORRUPT);
  CHECK(strstr(err.msg, "no record begins here") != NULL);
  end();
}

TEST(a_file_of_something_else_is_left_alone) {
  static const char text[] = "this is a text, and no log at all; nothing is made beside it";
  uint8_t left[128];
  begin();
  write_bytes(text, sizeof text);
  CHECK_INT_EQ(open_and_close(), FLUME_ECORRUPT);
  CHECK(strstr(err.msg, "this is no flumelog-offset file") != NULL);
  CHECK(read_bytes(left, sizeof left) == sizeof text && memcmp(left, text, sizeof text) == 0);
  CHECK(!file_exists(root, "log.flume"));
  end();
}

TEST(a_log_that_gets_no_lock_is_not_opened) {
  begin_with_file();
  no_locks = true;
  CHECK_INT_EQ(open_and_close(), FLUME_ENOMEM);
  no_locks = false;
  CHECK_INT_EQ(open_and_close(), 0);
  end();
}

TEST(invalid_options) {
  struct flume_log *log;
  begin();
  CHECK_INT_EQ(try_open(&log, (struct flume_log_options){.sync = (enum flume_sync)9}), FLUME_EINVAL);
  CHECK_INT_EQ(try_open(&log, (struct flume_log_options){.damaged = true}), FLUME_EINVAL);
  MUST(flume_log_open_offset(&log, &loop, path, NULL, NULL) == 0);
  close_log(log);
  end();
}

/* --- Other processes ---------------------------------------------------------------------------------------------- */

/* A process that was forked has a copy of the handle, and may not write with it. */
TEST(copies_of_the_handle_do_not_write) {
  struct compaction_answer compaction = {.calls = 0};
  struct answer answer = {.calls = 0};
  struct flume_slice record = slice_text("of the child");
  int64_t seq = 0;
  int status;
  begin_with_file();
  struct flume_log *log = must_open();
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    bool refused = append_text(log, "of the child", &seq) == FLUME_ELOCKED &&
                   flume_log_append(log, &answer.req, &record, 1, on_answer, &err) == FLUME_ELOCKED &&
                   flume_log_del(log, &answer.req, &seq, 1, on_answer, &err) == FLUME_ELOCKED &&
                   flume_log_sync(log, &answer.req, on_answer, &err) == FLUME_ELOCKED &&
                   flume_log_compact(log, &compaction.req, on_compacted, &err) == FLUME_ELOCKED;
    child_exit(refused && strstr(err.msg, "and this is another") != NULL ? 0 : 3);
  }
  MUST(waitpid(pid, &status, 0) == pid);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK_INT_EQ(append_text(log, "of the parent", &seq), 0);
  close_log(log);
  end();
}
