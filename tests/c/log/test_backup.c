/* A backup is the log as of one moment, whole or not there at all. */
#include "backup_support.h"
#include "compact_support.h"
#include "broken_log.h"
#include "store/store.h"

static void begin_backup(void) {
  begin();
  strcpy(backup_target, path_in(root, "copies/one"));
}

/* The copy has all that is made, and goes on as a log of its own. */
static void check_copy(int64_t since, const uint8_t *id) {
  char original[sizeof dir];
  strcpy(original, dir);
  strcpy(dir, path_in(root, "copies/one/log"));
  struct flume_log *log = NULL;
  struct flume_log_options options = options_of(300);
  if (CHECK_INT_EQ(try_open(&log, &options), 0)) {
    CHECK_INT_EQ(flume_log_since(log), since);
    CHECK(memcmp(flume_log_id(log), id, 16) == 0);
    all_survive(log);
    goes_on(log);
  } else {
    printf("%s\n", err.msg);
  }
  strcpy(dir, original);
}

static void copy_made(const char *text, bool compacts) {
  begin_backup();
  make(text, 300);
  struct flume_log *log = must_open(300);
  uint8_t id[16];
  memcpy(id, flume_log_id(log), 16);
  struct compaction_answer compacted;
  if (compacts) CHECK_INT_EQ(log_compact(log, &loop, &compacted), 0);
  struct backup_answer answer;
  if (!CHECK_INT_EQ(backup(log, &loop, NULL, &answer), 0)) printf("%s\n", answer.err.msg);
  CHECK_INT_EQ(answer.req.since, made.count - 1);
  CHECK(answer.req.files > 0 && answer.req.bytes >= 64);
  log_close_wait(log, &loop);
  check_copy(made.count - 1, id);
  end();
}

TEST(copy_an_empty_log) { copy_made("", false); }
TEST(copy_one_segment) { copy_made("12", false); }
TEST(copy_segments) { copy_made("12131r213", false); }
TEST(copy_deletions) { copy_made("1213d12D2", false); }
TEST(copy_a_compacted_log) { copy_made("1213d12D2", true); }

/* What was appended, deleted and compacted meanwhile is in the copy or not, but the copy is as of one moment. */
TEST(copy_while_it_is_used) {
  begin_backup();
  struct flume_log *log = must_open(300);
  for (int i = 0; i < 10; i++) made_append(log, 3);
  uint8_t id[16];
  memcpy(id, flume_log_id(log), 16);
  made_del(log, 2);
  struct backup_answer answer = {.calls = 0};
  struct compaction_answer compacted = {.calls = 0};
  CHECK_INT_EQ(flume_log_backup(log, backup_target, NULL, &answer.req, on_backup, &err), 0);
  CHECK_INT_EQ(flume_log_compact(log, &compacted.req, on_compacted, &err), 0);
  while (answer.calls == 0 || compacted.calls == 0) {
    if (made.count < 60) made_append(log, 1);
    uv_run(&loop, UV_RUN_NOWAIT);
  }
  CHECK_INT_EQ(answer.status, 0);
  CHECK(answer.req.since >= 29 && answer.req.since < made.count);
  log_close_wait(log, &loop);
  check_copy(answer.req.since, id);
  end();
}

TEST(copy_from_a_reader) {
  begin_backup();
  make("12131d2", 300);
  image_put(&made.crashed, dir);
  struct flume_log *log = NULL;
  struct flume_log_options options = {.readonly = true, .io = &faults.io};
  REQUIRE(try_open(&log, &options) == 0);
  uint8_t id[16];
  memcpy(id, flume_log_id(log), 16);
  struct backup_answer answer;
  CHECK_INT_EQ(backup(log, &loop, NULL, &answer), 0);
  log_close_wait(log, &loop);
  check_copy(made.count - 1, id);
  end();
}

TEST(an_empty_directory_will_do) {
  begin_backup();
  make("12", 300);
  MUST(flume_io_mkdir_all(&flume_io_posix, backup_target) == 0);
  strcat(backup_target, "//");
  struct flume_log *log = must_open(300);
  struct backup_answer answer;
  if (!CHECK_INT_EQ(backup(log, &loop, NULL, &answer), 0)) printf("%s\n", answer.err.msg);
  CHECK(file_exists(backup_target, "log/00000000000000000000.flume"));
  log_close_wait(log, &loop);
  end();
}

TEST(existing_files_are_not_touched) {
  begin_backup();
  make("12", 300);
  MUST(flume_io_mkdir_all(&flume_io_posix, backup_target) == 0);
  write_file(path_in(backup_target, "mine"), "mine", 4, 4);
  struct flume_log *log = must_open(300);
  struct backup_answer answer;
  CHECK_INT_EQ(backup(log, &loop, NULL, &answer), FLUME_EEXIST);
  CHECK(strstr(answer.err.msg, backup_target) != NULL);
  CHECK_INT_EQ(unlink(path_in(backup_target, "mine")), 0);
  char partial[sizeof backup_target];
  strcpy(partial, path_in(root, "copies/one.partial"));
  MUST(mkdir(partial, 0777) == 0);
  CHECK_INT_EQ(backup(log, &loop, NULL, &answer), FLUME_EEXIST);
  CHECK(strstr(answer.err.msg, ".partial") != NULL && access(partial, F_OK) == 0);
  CHECK(!file_exists(backup_target, "log"));
  log_close_wait(log, &loop);
  end();
}

/* A name alone, and slashes at its end. */
TEST(copy_to_where_the_process_is) {
  char here[TEST_PATH_MAX];
  begin_backup();
  make("12", 300);
  struct flume_log *log = must_open(300);
  MUST(getcwd(here, sizeof here) != NULL && chdir(root) == 0);
  struct backup_answer answer;
  strcpy(backup_target, "one//");
  if (!CHECK_INT_EQ(backup(log, &loop, NULL, &answer), 0)) printf("%s\n", answer.err.msg);
  MUST(chdir(here) == 0);
  CHECK(file_exists(root, "one/log/00000000000000000000.flume"));
  log_close_wait(log, &loop);
  end();
}

/* A directory of so many bytes that is not there, in parts that are not too long. */
static char *long_path(size_t len) {
  char *path = malloc(len + 1);
  MUST(path != NULL);
  memset(path, 'x', len);
  size_t at = (size_t)snprintf(path, len, "%s", root);
  path[at] = '/';
  for (at += 200; at + 100 < len; at += 200) path[at] = '/';
  path[len] = '\0';
  return path;
}

/* Not even the beginning of one is left where a path has no room. */
TEST(copy_to_paths_that_are_too_long) {
  begin_backup();
  make("12", 300);
  struct flume_log *log = must_open(300);
  for (size_t len = 4060; len < 4110; len += 3) {
    struct backup_answer answer = {.calls = 0};
    char *path = long_path(len);
    CHECK_INT_EQ(flume_log_backup(log, path, NULL, &answer.req, on_backup, &err), 0);
    while (answer.calls == 0) uv_run(&loop, UV_RUN_ONCE);
    CHECK_INT_EQ(answer.status, UV_ENAMETOOLONG);
    CHECK(access(path, F_OK) != 0);
    free(path);
  }
  all_survive(log);
  log_close_wait(log, &loop);
  end();
}

TEST(a_log_without_a_good_segment_is_not_copied) {
  begin_backup();
  make("12", 300);
  struct image_file *file = last_segment(&made.closed);
  file->data[0] ^= 1;
  write_file(path_in(dir, file->name), file->data, file->used, file->len);
  struct flume_log *log = NULL;
  struct flume_log_options options = {.readonly = true, .damaged = true, .io = &faults.io};
  REQUIRE(try_open(&log, &options) == 0);
  struct backup_answer answer;
  CHECK_INT_EQ(backup(log, &loop, NULL, &answer), FLUME_ECORRUPT);
  CHECK(strstr(answer.err.msg, "nothing of it is good") != NULL);
  log_close_wait(log, &loop);
  end();
}

TEST(a_log_in_memory_is_not_copied) {
  begin_backup();
  struct flume_log *log;
  REQUIRE(flume_log_open_memory(&log, &loop, NULL, &err) == 0);
  struct backup_answer answer;
  CHECK_INT_EQ(backup(log, &loop, NULL, &answer), FLUME_ENOTSUP);
  log_close_wait(log, &loop);
  end();
}

TEST(close_while_it_copies) {
  begin_backup();
  make("12131213", 300);
  struct flume_log *log = must_open(300);
  struct backup_answer answer = {.calls = 0};
  CHECK_INT_EQ(flume_log_backup(log, backup_target, NULL, &answer.req, on_backup, &err), 0);
  log_close_wait(log, &loop);
  CHECK_INT_EQ(answer.calls, 1);
  CHECK_INT_EQ(answer.status, FLUME_ECLOSED);
  strcat(backup_target, ".partial");
  CHECK(access(backup_target, F_OK) != 0);
  end();
}

/* Whatever fails, nothing is left that could be taken for a backup, and the log goes on. */
static void fail_each(enum fault_op op, int code) {
  bool hit = true;
  for (int nth = 1; hit && nth < 300 && !test_failed; nth++) {
    begin_backup();
    make("1213d12", 300);
    struct flume_log *log = must_open(300);
    faults_arm(&faults, op, nth, code);
    struct backup_answer answer;
    int rv = backup(log, &loop, NULL, &answer);
    hit = fault_was_hit(&faults);
    faults_arm(&faults, FAULT_NONE, 0, 0);
    bool whole = file_exists(backup_target, "log");
    CHECK(rv == 0 || rv == code);
    CHECK(hit || rv == 0);
    CHECK(whole || rv != 0);
    all_survive(log);
    log_close_wait(log, &loop);
    strcat(backup_target, ".partial");
    CHECK(op == FAULT_LIST || access(backup_target, F_OK) != 0);
    if (test_failed) printf("call %d of %s\n", nth, fault_names[op]);
    end();
  }
}

TEST(copy_with_failing_writes) { fail_each(FAULT_WRITE, UV_ENOSPC); }
TEST(copy_with_failing_reads) { fail_each(FAULT_READ, UV_EIO); }
TEST(copy_with_failing_syncs) { fail_each(FAULT_SYNC, UV_EIO); }
TEST(copy_with_failing_opens) { fail_each(FAULT_OPEN, UV_EMFILE); }
TEST(copy_with_failing_renames) { fail_each(FAULT_RENAME, UV_EIO); }
TEST(copy_with_failing_lists) { fail_each(FAULT_LIST, UV_EIO); }
TEST(copy_without_memory) { fail_each(FAULT_ALLOC, UV_ENOMEM); }

/* --- Views ---------------------------------------------------------------------------------------------------- */

static struct flume_store_meta store_meta(int64_t since) {
  return (struct flume_store_meta){.since = since, .version = "1"};
}

static void make_store(const char *path, int count) {
  struct flume_store *store;
  struct flume_store_meta meta = store_meta(41);
  MUST(flume_store_open(&store, &flume_io_posix, path, FLUME_STORE_WRITE, &err) == 0);
  for (int i = 0; i < count; i++) {
    char text[200];
    snprintf(text, sizeof text, "%0100d", i);
    MUST(flume_store_put_group(store, text + 88, 12, text, 100, &err) == 0);
  }
  MUST(flume_store_commit(store, &meta, &err) == 0);
  flume_store_close(store);
}

static int64_t count_groups(const char *path) {
  struct flume_store *store;
  struct flume_store_range range;
  flume_store_range_init(&range);
  MUST(flume_store_open(&store, &flume_io_posix, path, FLUME_STORE_READ, &err) == 0);
  int64_t count = flume_store_count(store, FLUME_STORE_GROUPS, &range, &err);
  flume_store_close(store);
  return count;
}

TEST(views_are_copied) {
  begin_backup();
  make("12", 300);
  char views[TEST_PATH_MAX], path[TEST_PATH_MAX];
  strcpy(views, path_in(root, "views"));
  strcpy(path, path_in(views, "sum/1"));
  MUST(flume_io_mkdir_all(&flume_io_posix, path) == 0);
  make_store(path, 1000);
  write_file(path_in(views, "sum/active"), "1\n", 2, 2);
  CHECK(file_exists(path, "lock.mdb"));
  strcpy(path, path_in(views, "broken"));
  MUST(flume_io_mkdir_all(&flume_io_posix, path) == 0);
  write_file(path_in(path, "data.mdb"), "nonsense", 8, 10000);
  struct flume_log *log = must_open(300);
  struct backup_answer answer;
  if (!CHECK_INT_EQ(backup(log, &loop, views, &answer), 0)) printf("%s\n", answer.err.msg);
  log_close_wait(log, &loop);
  strcpy(path, path_in(backup_target, "views/sum/1"));
  CHECK(!file_exists(path, "lock.mdb"));
  CHECK_INT_EQ(count_groups(path), 1000);
  CHECK(file_exists(backup_target, "views/sum/active"));
  CHECK(!file_exists(backup_target, "views/broken"));
  CHECK(answer.req.bytes > 100000);
  end();
}

TEST(a_database_without_views) {
  begin_backup();
  make("12", 300);
  char views[TEST_PATH_MAX];
  strcpy(views, path_in(root, "views"));
  struct flume_log *log = must_open(300);
  struct backup_answer answer;
  CHECK_INT_EQ(backup(log, &loop, views, &answer), 0);
  CHECK(!file_exists(backup_target, "views"));
  log_close_wait(log, &loop);
  end();
}
