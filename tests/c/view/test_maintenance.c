/* Check, backup and compaction beside views, in steps, and when the system fails them. */
#include "maintenance/view_files.h"
#include "log/file/file_verify.h"
#include "log/report.h"
#include "log/file/segment_writer.h"
#include "store/store.h"

#include "check_support.h"
#include "compact_support.h"
#include "broken_log.h"

static char views[TEST_PATH_MAX];

static void make_store(const char *path, int count) {
  struct flume_store *store;
  struct flume_store_meta meta = {.since = 1, .version = "1"};
  MUST(flume_io_mkdir_all(&flume_io_posix, path) == 0);
  MUST(flume_store_open(&store, &flume_io_posix, path, FLUME_STORE_WRITE, &err) == 0);
  for (int i = 0; i < count; i++) {
    uint8_t key[4];
    flume_put_be32(key, (uint32_t)i);
    MUST(flume_store_put_group(store, key, sizeof key, "value", 5, &err) == 0);
  }
  MUST(flume_store_commit(store, &meta, &err) == 0);
  flume_store_close(store);
}

/* A log, and beside it views: a good one with two versions, of which one was never written; and a file that is none. */
static void begin_with_views(void) {
  char path[TEST_PATH_MAX];
  begin();
  make("12d3", 300);
  strcpy(views, path_in(root, "views"));
  strcpy(path, path_in(views, "good/1"));
  make_store(path, 500);
  MUST(mkdir(path_in(views, "good/2"), 0777) == 0);
  write_file(path_in(views, "good/active"), "1\n", 2, 2);
  write_file(path_in(views, "note.txt"), "mine", 4, 4);
}

static void add_broken_view(void) {
  char path[TEST_PATH_MAX];
  strcpy(path, path_in(views, "broken/7"));
  MUST(flume_io_mkdir_all(&flume_io_posix, path) == 0);
  write_file(path_in(path, "data.mdb"), "nonsense", 8, 10000);
}

static uint64_t told_done, told_total;
static int told_calls;

static void tell_check(struct flume_check *req, uint64_t done_bytes, uint64_t total_bytes) {
  (void)req;
  CHECK(done_bytes <= total_bytes && (total_bytes != told_total || done_bytes >= told_done));
  told_done = done_bytes;
  told_total = total_bytes;
  told_calls++;
}

static int check_with_views(struct flume_log *log, struct check_answer *answer) {
  *answer = (struct check_answer){.calls = 0};
  told_calls = 0;
  told_done = told_total = 0;
  answer->req.progress = tell_check;
  int rv = flume_log_check(log, views, &answer->req, on_checked, &answer->err);
  while (rv == 0 && answer->calls == 0) uv_run(&loop, UV_RUN_ONCE);
  return rv != 0 ? rv : answer->status;
}

/* --- Check ---------------------------------------------------------------------------------------------------- */

static void check_finds_nothing(struct flume_log *log) {
  struct check_answer answer;
  if (!CHECK_INT_EQ(check_with_views(log, &answer), 0)) return;
  if (!CHECK_INT_EQ(answer.req.report.damages, 0)) print_report(&answer.req.report);
  CHECK_INT_EQ(answer.req.report.records, made.count);
  CHECK(told_calls > 2 && told_total > 0);
  flume_report_fini(&answer.req.report);
}

TEST(views_are_checked) {
  begin_with_views();
  struct flume_log *log = must_open(300);
  check_finds_nothing(log);
  add_broken_view();
  struct check_answer answer;
  CHECK_INT_EQ(check_with_views(log, &answer), 0);
  CHECK_INT_EQ(answer.req.report.damages, 1);
  CHECK(find_finding(&answer.req.report, FLUME_FINDING_DAMAGE, "views/broken/7", "") != NULL);
  flume_report_fini(&answer.req.report);
  log_close_wait(log, &loop);
  end();
}

TEST(a_database_without_views_is_checked) {
  begin_with_views();
  strcpy(views, path_in(root, "nothing"));
  struct flume_log *log = must_open(300);
  check_finds_nothing(log);
  log_close_wait(log, &loop);
  end();
}

/* Who reads beside a writer in this very process leaves the locks of the stores alone; one beside another process does
 * not. */
TEST(readers_check_views) {
  begin_with_views();
  struct flume_log *reader = NULL, *log = must_open(300);
  struct flume_log_options options = {.readonly = true, .io = &faults.io};
  REQUIRE(try_open(&reader, &options) == 0);
  CHECK_INT_EQ(flume__views_sharing(reader), FLUME_STORE_RESTS);
  check_finds_nothing(reader);
  log_close_wait(log, &loop);
  log_close_wait(reader, &loop);
  write_file(path_in(dir, "lock"), "999999999\n", 10, 10);
  REQUIRE(try_open(&reader, &options) == 0);
  CHECK_INT_EQ(flume__views_sharing(reader), FLUME_STORE_SHARED);
  check_finds_nothing(reader);
  log_close_wait(reader, &loop);
  MUST(unlink(path_in(dir, "lock")) == 0);
  REQUIRE(try_open(&reader, &options) == 0);
  CHECK_INT_EQ(flume__views_sharing(reader), FLUME_STORE_SHARED);
  log_close_wait(reader, &loop);
  end();
}

TEST(close_while_it_checks_views) {
  begin_with_views();
  struct flume_log *log = must_open(300);
  struct check_answer answer = {.calls = 0};
  CHECK_INT_EQ(flume_log_check(log, views, &answer.req, on_checked, &err), 0);
  log_close_wait(log, &loop);
  CHECK_INT_EQ(answer.calls, 1);
  CHECK_INT_EQ(answer.status, FLUME_ECLOSED);
  end();
}

/* A check that fails says so; one that does not has looked at everything, and finds no damage where none is. */
static void check_failing(enum fault_op op, int code) {
  bool hit = true;
  for (int nth = 1; hit && nth < 300 && !test_failed; nth++) {
    begin_with_views();
    struct flume_log *log = must_open(300);
    faults_arm(&faults, op, nth, code);
    struct check_answer answer;
    int rv = check_with_views(log, &answer);
    hit = fault_was_hit(&faults);
    faults_arm(&faults, FAULT_NONE, 0, 0);
    CHECK(rv == 0 || rv == code);
    CHECK(hit || rv == 0);
    if (rv == 0) {
      CHECK(hit || answer.req.report.damages == 0);
      flume_report_fini(&answer.req.report);
    }
    all_survive(log);
    log_close_wait(log, &loop);
    if (test_failed) printf("call %d of %s\n", nth, fault_names[op]);
    end();
  }
}

TEST(check_without_memory) { check_failing(FAULT_ALLOC, UV_ENOMEM); }
TEST(check_with_failing_opens) { check_failing(FAULT_OPEN, UV_EMFILE); }
TEST(check_with_failing_sizes) { check_failing(FAULT_SIZE, UV_EIO); }
TEST(check_with_failing_reads) { check_failing(FAULT_READ, UV_EIO); }
TEST(check_with_failing_lists) { check_failing(FAULT_LIST, UV_EACCES); }

TEST(check_in_small_steps) {
  begin();
  make("12131d213", 300);
  struct flume_report report = {.io = &faults.io};
  struct flume_checker checker;
  REQUIRE(flume_checker_open(&checker, &faults.io, dir, -1, 0, &report, &err) == 0);
  uint64_t done = 0;
  int rv, steps = 0;
  while ((rv = flume_checker_step(&checker, 100, &err)) == 1) {
    CHECK(flume_checker_done(&checker) >= done);
    done = flume_checker_done(&checker);
    steps++;
  }
  CHECK_INT_EQ(rv, 0);
  CHECK(steps > 10 && done <= checker.total_bytes);
  CHECK_INT_EQ(report.damages, 0);
  CHECK_INT_EQ(report.records, made.count);
  flume_checker_fini(&checker);
  flume_report_fini(&report);
  end();
}

/* Beyond a limit damages are counted alone. */
TEST(a_report_has_its_limit) {
  begin();
  struct flume_report report;
  flume_report_init(&report, &faults.io);
  for (uint32_t i = 0; i < FLUME_FINDINGS_MAX + 7; i++) {
    CHECK_INT_EQ(flume_report_add(&report, FLUME_FINDING_DAMAGE, "a file", i, -1, "number %u", (unsigned)i), 0);
  }
  CHECK_INT_EQ(report.findings_count, FLUME_FINDINGS_MAX);
  CHECK_INT_EQ(report.damages, FLUME_FINDINGS_MAX + 7);
  CHECK_STR_EQ(report.findings[FLUME_FINDINGS_MAX - 1].what, "number 9999");
  flume_report_fini(&report);
  struct flume_report none = {.io = NULL}; /* of a check that was not begun */
  flume_report_fini(&none);
  CHECK_INT_EQ(none.findings_count, 0);
  end();
}

/* --- Backup --------------------------------------------------------------------------------------------------- */

struct backup_answer {
  struct flume_backup req;
  int calls;
  int status;
};

static void on_backup(struct flume_backup *req, int status, const struct flume_err *error) {
  struct backup_answer *answer = FLUME_CONTAINER_OF(req, struct backup_answer, req);
  (void)error;
  answer->calls++;
  answer->status = status;
}

static void tell_backup(struct flume_backup *req, uint64_t done_bytes, uint64_t total_bytes) {
  (void)req;
  CHECK(done_bytes <= total_bytes);
  told_done = done_bytes;
  told_total = total_bytes;
  told_calls++;
}

static int backup(struct flume_log *log) {
  struct backup_answer answer = {.calls = 0};
  answer.req.progress = tell_backup;
  told_calls = 0;
  int rv = flume_log_backup(log, path_in(root, "copy"), views, &answer.req, on_backup, &err);
  while (rv == 0 && answer.calls == 0) uv_run(&loop, UV_RUN_ONCE);
  return rv != 0 ? rv : answer.status;
}

static bool copy_is_whole(void) {
  struct flume_store_meta meta;
  char path[TEST_PATH_MAX];
  strcpy(path, path_in(root, "copy/views/good/1"));
  return file_exists(root, "copy/log/00000000000000000000.flume") && file_exists(root, "copy/views/good/active") &&
         flume_store_check(&flume_io_posix, path, FLUME_STORE_RESTS, &meta, &err) == 0 && meta.since == 1;
}

TEST(a_backup_says_how_far_it_is) {
  begin_with_views();
  struct flume_log *log = must_open(300);
  CHECK_INT_EQ(backup(log), 0);
  CHECK(told_calls > 1 && told_total > 0 && told_done == told_total);
  CHECK(copy_is_whole());
  log_close_wait(log, &loop);
  end();
}

/* There is a whole copy, or none. A view that could not be read may be left out of it. */
static void backup_failing(enum fault_op op, int code) {
  bool hit = true;
  for (int nth = 1; hit && nth < 300 && !test_failed; nth++) {
    begin_with_views();
    struct flume_log *log = must_open(300);
    faults_arm(&faults, op, nth, code);
    int rv = backup(log);
    hit = fault_was_hit(&faults);
    faults_arm(&faults, FAULT_NONE, 0, 0);
    CHECK(hit || rv == 0);
    CHECK(rv != 0 || file_exists(root, "copy"));
    if (file_exists(root, "copy")) CHECK(copy_is_whole());
    log_close_wait(log, &loop);
    if (test_failed) printf("call %d of %s\n", nth, fault_names[op]);
    end();
  }
}

TEST(backup_without_memory) { backup_failing(FAULT_ALLOC, UV_ENOMEM); }
TEST(backup_with_failing_opens) { backup_failing(FAULT_OPEN, UV_EMFILE); }
TEST(backup_with_failing_sizes) { backup_failing(FAULT_SIZE, UV_EIO); }
TEST(backup_with_failing_syncs) { backup_failing(FAULT_SYNC, UV_EIO); }
TEST(backup_with_failing_syncs_of_names) { backup_failing(FAULT_SYNC_DIR, UV_EIO); }
TEST(backup_with_failing_directories) { backup_failing(FAULT_MKDIR, UV_ENOSPC); }
TEST(backup_with_failing_lists) { backup_failing(FAULT_LIST, UV_EACCES); }

/* What is there of a copy of a view that is left out goes again; when it can't, there is no backup. */
static void fail_to_take_back(enum fault_op op) {
  begin_with_views();
  add_broken_view();
  struct flume_log *log = must_open(300);
  faults.forever = true;
  faults_arm(&faults, op, 1, UV_EIO);
  CHECK_INT_EQ(backup(log), UV_EIO);
  CHECK(fault_was_hit(&faults) && !file_exists(root, "copy"));
  faults_arm(&faults, FAULT_NONE, 0, 0);
  MUST(flume_io_remove_all(&flume_io_posix, path_in(root, "copy.partial")) == 0);
  CHECK_INT_EQ(backup(log), 0);
  CHECK(copy_is_whole() && !file_exists(root, "copy/views/broken"));
  log_close_wait(log, &loop);
  end();
}

TEST(backup_when_files_can_not_be_removed) { fail_to_take_back(FAULT_RMDIR); }

/* --- Compaction ----------------------------------------------------------------------------------------------- */

TEST(compaction_without_memory) {
  bool hit = true;
  for (int nth = 1; hit && nth < 300 && !test_failed; nth++) {
    begin();
    struct flume_log *log = must_open(300);
    for (int i = 0; i < 4; i++) made_append(log, 3);
    made_append(log, 1);
    made_del(log, 1);
    made_del(log, made.count - 1);
    log_close_wait(log, &loop);
    log = must_open(300);
    faults_arm(&faults, FAULT_ALLOC, nth, UV_ENOMEM);
    struct compaction_answer answer;
    int rv = log_compact(log, &loop, &answer);
    hit = fault_was_hit(&faults);
    faults_arm(&faults, FAULT_NONE, 0, 0);
    CHECK(rv == 0 || rv == FLUME_ENOMEM);
    CHECK(hit || rv == 0);
    all_survive(log);
    log_close_wait(log, &loop); /* a roll that failed has made it read-only */
    log = must_open(300);
    if (!CHECK_INT_EQ(log_compact(log, &loop, &answer), 0)) printf("call %d: %s\n", nth, answer.err.msg);
    all_survive(log);
    log_close_wait(log, &loop);
    end();
  }
}

TEST(a_log_that_knows_no_compaction) {
  begin();
  struct flume_log *log;
  REQUIRE(flume_log_open_memory(&log, &loop, NULL, &err) == 0);
  const struct flume_log_ops *ops = log->ops;
  struct flume_log_ops less = *ops;
  less.compact = NULL;
  log->ops = &less;
  struct compaction_answer answer;
  CHECK_INT_EQ(log_compact(log, &loop, &answer), FLUME_ENOTSUP);
  CHECK(strstr(answer.err.msg, "memory") != NULL);
  log->ops = ops;
  log_close_wait(log, &loop);
  end();
}

/* --- What does not go well elsewhere --------------------------------------------------------------------------- */

TEST(a_path_that_is_too_long_for_a_temporary_file) {
  begin();
  struct flume_segment_writer writer;
  uint8_t id[16] = {1};
  char *path = malloc(4090);
  MUST(path != NULL);
  memset(path, 'x', 4089);
  path[0] = '/';
  path[4066] = '\0'; /* with the name of a segment it is 4093 long */
  CHECK_INT_EQ(flume_segment_writer_open(&writer, &faults.io, path, 0, id, &err), UV_ENAMETOOLONG);
  flume_segment_writer_fini(&writer);
  free(path);
  end();
}

TEST(a_block_whose_file_became_shorter) {
  begin();
  struct flume_log *log = must_open(0);
  for (int i = 0; i < 5; i++) made_append(log, 3);
  struct flume_block *block;
  REQUIRE(flume__log_plan(log, 0, false, 1 << 20, &block, &err) == 0);
  MUST(truncate(path_in(dir, "00000000000000000000.flume"), 100) == 0);
  CHECK_INT_EQ(flume_block_load(block, &err), FLUME_ECORRUPT);
  CHECK(names_file_and_byte(".flume") && strstr(err.msg, "shorter") != NULL);
  flume_block_unref(block);
  log_close_wait(log, &loop);
  end();
}

/* The process died while it rolled, and the segment that it had not sealed is damaged. */
TEST(damage_in_the_segment_before_an_empty_one) {
  begin();
  struct flume_log *log = must_open(300);
  while (((struct file_log *)log)->segments.count < 2) made_append(log, 2);
  int64_t first_seq = flume__file_active((struct file_log *)log)->first_seq;
  uint64_t end_off = ((struct file_log *)log)->segments.list[0]->data_end_off;
  log_close_wait(log, &loop);
  char name[64];
  snprintf(name, sizeof name, "%020lld.flume", (long long)first_seq);
  MUST(truncate(path_in(dir, name), HEADER_BYTES) == 0);
  struct image image = {.count = 0};
  image_take_file(&image, dir, "00000000000000000000.flume");
  image.files[0].data[HEADER_BYTES + 70] ^= 1;
  write_file(path_in(dir, "00000000000000000000.flume"), image.files[0].data, (size_t)end_off, (size_t)end_off);
  image_free(&image);
  MUST(unlink(path_in(dir, "lock")) == 0); /* its note would tell */
  CHECK_INT_EQ(try_open_with(false, false), FLUME_ECORRUPT);
  CHECK(names_file_and_byte("00000000000000000000.flume"));
  end();
}

/* What was taken out of a segment stays out when another record of it is damaged, and it is repaired. */
TEST(repair_of_a_compacted_segment) {
  begin();
  struct flume_log *log = must_open(0);
  for (int i = 0; i < 4; i++) made_append(log, 3);
  made_del(log, 4);
  struct compaction_answer answer;
  CHECK_INT_EQ(log_compact(log, &loop, &answer), 0);
  log_close_wait(log, &loop);
  struct image image = {.count = 0};
  image_take_file(&image, dir, "00000000000000000000.flume");
  uint8_t first[40];
  payload_fill(first, sizeof first, made_key(0));
  uint8_t *at = memmem(image.files[0].data, image.files[0].len, first, sizeof first);
  REQUIRE(at != NULL);
  at[3] ^= 1;
  image_put_file(&image.files[0], dir);
  image_free(&image);
  struct flume_report report;
  CHECK_INT_EQ(flume_log_repair(dir, &faults.io, &report, &err), 0);
  CHECK(find_finding(&report, FLUME_FINDING_REPAIR, "", "") != NULL);
  flume_report_fini(&report);
  made.records[0].deleted = true;
  log = must_open(0);
  all_survive(log);
  log_close_wait(log, &loop);
  end();
}
