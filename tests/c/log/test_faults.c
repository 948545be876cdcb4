/* A file log when the disk or the memory fails. */
#include "view/view_dir.h"

#include <sys/mount.h>

#include "broken_log.h"

struct scenario {
  int64_t acked;     /* records */
  bool deleted;      /* record 1: acknowledged */
  int failure;       /* the first one that was answered */
};

static void note(struct scenario *s, int rv, int64_t count) {
  if (rv == 0) s->acked += count;
  else if (s->failure == 0) s->failure = rv;
}

static void scenario_append(struct scenario *s, struct flume_log *log, int count, bool wait) {
  struct flume_slice records[10];
  int64_t seq = -1;
  made.count = s->acked;
  made_next(records, count);
  int rv = wait ? flume_log_append_wait(log, records, (size_t)count, &seq, &err)
                : log_append(log, &loop, records, (size_t)count, &seq);
  made_free(records, count);
  note(s, rv, count);
  if (rv == 0) CHECK_INT_EQ(seq, s->acked - 1);
  CHECK_INT_EQ(flume_log_since(log), s->acked - 1);
}

/* Reads answer what is there, or with the fault. */
static void scenario_read(struct scenario *s, struct flume_log *log) {
  for (int64_t seq = 0; seq < s->acked; seq++) {
    struct flume_record record;
    int rv = flume_log_get(log, seq, &record, &err);
    if (rv == FLUME_EDELETED) CHECK(seq == 1);
    else if (rv != 0) CHECK_INT_EQ(rv, faults.code);
    if (rv != 0) continue;
    CHECK(record.len == made.records[seq].len && payload_is(record.data, record.len, made.records[seq].key));
    flume_record_release(&record);
  }
  struct flume_stream *stream;
  struct flume_range range;
  flume_range_init(&range);
  if (flume_stream_open(&stream, log, &range, &err) != 0) return;
  struct flume_record record;
  int64_t seen = 0;
  int rv;
  int failures = 0;
  while ((rv = flume_stream_next(stream, &record, &err)) == 1 || (rv == faults.code && failures++ < 3)) {
    if (rv != 1) continue;
    CHECK(record.seq >= seen);
    seen = record.seq + 1;
    flume_record_release(&record);
  }
  if (failures == 0) CHECK(seen == s->acked || (seen == 1 && s->acked == 2));
  flume_stream_close(stream);
}

/* Opens the log, appends batches from `from` on, deletes, syncs, reads, closes. */
static void scenario_visit(struct scenario *s, int from, int to) {
  static const int batches[] = {1, 2, 1, 3, 1, 1, 4, 1, 2, 1};
  struct flume_log *log = NULL;
  struct flume_log_options options = options_of(250);
  int rv = try_open(&log, &options);
  note(s, rv, 0);
  if (rv != 0) return;
  s->acked = flume_log_since(log) + 1; /* what was written and not acknowledged may be there */
  for (int i = from; i < to; i++) {
    scenario_append(s, log, batches[i], i % 2);
    if (i == 3 && s->acked > 1) {
      rv = log_del(log, &loop, (int64_t[]){1}, 1);
      note(s, rv, 0);
      s->deleted = rv == 0;
    }
    if (i == 5) note(s, log_sync(log, &loop), 0);
  }
  scenario_read(s, log);
  log_close_wait(log, &loop);
}

/* Two visits; a leftover of a segment that was not finished lies there at the second. */
static void scenario_run(struct scenario *s) {
  int64_t acked = 0;
  scenario_visit(s, 0, 8);
  acked = s->acked;
  if (access(dir, F_OK) == 0) write_file(path_in(dir, "00000000000000000999.flume.new"), "", 0, 0);
  scenario_visit(s, 8, 10);
  CHECK(s->acked >= acked);
}

/* What was acknowledged is there when the log is opened again, and it takes appends. */
static void scenario_check(const struct scenario *s) {
  loop_drain(&loop);
  CHECK_INT_EQ(atomic_load(&faults.files), 0);
  CHECK_INT_EQ(atomic_load(&faults.allocations), 0);
  faults_arm(&faults, FAULT_NONE, 0, 0);
  struct flume_log *log = must_open(250);
  int64_t since = flume_log_since(log);
  CHECK(since + 1 >= s->acked);
  for (int64_t seq = 0; seq <= since; seq++) {
    struct flume_record record;
    int rv = flume_log_get(log, seq, &record, &err);
    if (seq == 1 && (s->deleted || rv == FLUME_EDELETED)) {
      CHECK_INT_EQ(rv, FLUME_EDELETED);
      continue;
    }
    if (!CHECK_INT_EQ(rv, 0)) printf("%s\n", err.msg);
    if (rv != 0) continue;
    CHECK(record.len == made_lens[seq % 8] && payload_is(record.data, record.len, made_key(seq)));
    flume_record_release(&record);
  }
  goes_on(log);
}

/* The nth call fails, for each n that is reached. */
static void fail_each(enum fault_op op, int code, bool forever) {
  for (int nth = 1; nth < 400 && !test_failed; nth++) {
    begin();
    struct scenario s = {.acked = 0};
    faults.forever = forever;
    faults_arm(&faults, op, nth, code);
    scenario_run(&s);
    loop_drain(&loop);
    bool hit = fault_was_hit(&faults);
    CHECK(s.failure == 0 || s.failure == code);
    CHECK(hit || s.failure == 0);
    scenario_check(&s);
    if (test_failed) printf("call %d of %s fails with %s\n", nth, fault_names[op], flume_err_name(code));
    end();
    if (!hit) {
      CHECK(nth > 1);
      return;
    }
  }
}

#define FAIL(op, code)                                                   \
  TEST(op##_fails_once_with_##code) { fail_each(op, UV_##code, false); } \
  TEST(op##_fails_for_ever_with_##code) { fail_each(op, UV_##code, true); }

FAIL(FAULT_WRITE, EIO)
FAIL(FAULT_WRITE, ENOSPC)
FAIL(FAULT_SYNC, EIO)
FAIL(FAULT_SYNC, ENOSPC)
FAIL(FAULT_OPEN, EIO)
FAIL(FAULT_OPEN, EMFILE)
FAIL(FAULT_READ, EIO)
FAIL(FAULT_TRUNCATE, EIO)
FAIL(FAULT_RENAME, EIO)
FAIL(FAULT_RENAME, ENOSPC)
FAIL(FAULT_SYNC_DIR, EIO)
FAIL(FAULT_LIST, EIO)
FAIL(FAULT_LOCK, EIO)
FAIL(FAULT_SIZE, EIO)
FAIL(FAULT_MKDIR, ENOSPC)
FAIL(FAULT_UNLINK, EIO)
FAIL(FAULT_ALLOC, ENOMEM)

/* The same while a log that crashed is opened, and read. */
static void fail_recovery(enum fault_op op, int code) {
  begin();
  make("2131d21", 250);
  struct image_file *file = last_segment(&made.crashed);
  bool hit = true;
  for (int nth = 1; hit && nth < 400 && !test_failed; nth++) {
    image_put(&made.crashed, dir);
    write_file(path_in(dir, file->name), file->data, file->used, file->used + 5);
    faults_arm(&faults, op, nth, code);
    struct flume_log *log = NULL;
    struct flume_log_options options = options_of(250);
    int rv = try_open(&log, &options);
    if (rv == 0) {
      struct flume_record record;
      for (int64_t seq = 0; seq < made.count; seq++) {
        int got = flume_log_get(log, seq, &record, &err);
        if (got == 0) flume_record_release(&record);
        else CHECK(got == code || (got == FLUME_EDELETED && made.records[seq].deleted));
      }
      log_close_wait(log, &loop);
    } else {
      CHECK_INT_EQ(rv, code);
    }
    hit = fault_was_hit(&faults);
    CHECK_INT_EQ(atomic_load(&faults.files), 0);
    CHECK_INT_EQ(atomic_load(&faults.allocations), 0);
    faults_arm(&faults, FAULT_NONE, 0, 0);
    log = must_open(250);
    CHECK_INT_EQ(flume_log_since(log), made.count - 1);
    all_survive(log);
    goes_on(log);
    if (test_failed) printf("call %d of %s\n", nth, fault_names[op]);
  }
  end();
}

TEST(recovery_with_failing_reads) { fail_recovery(FAULT_READ, UV_EIO); }
TEST(recovery_with_failing_writes) { fail_recovery(FAULT_WRITE, UV_ENOSPC); }
TEST(recovery_with_failing_syncs) { fail_recovery(FAULT_SYNC, UV_EIO); }
TEST(recovery_with_failing_truncates) { fail_recovery(FAULT_TRUNCATE, UV_EIO); }
TEST(recovery_with_failing_opens) { fail_recovery(FAULT_OPEN, UV_EMFILE); }
TEST(recovery_with_failing_syncs_of_the_directory) { fail_recovery(FAULT_SYNC_DIR, UV_EIO); }
TEST(recovery_with_failing_sizes) { fail_recovery(FAULT_SIZE, UV_EIO); }
TEST(recovery_with_failing_lists) { fail_recovery(FAULT_LIST, UV_EIO); }
TEST(recovery_without_memory) { fail_recovery(FAULT_ALLOC, UV_ENOMEM); }

static void transfer_slowly(size_t max_transfer, bool interrupts) {
  begin();
  struct scenario s = {.acked = 0};
  faults.max_transfer = max_transfer;
  faults.interrupts = interrupts;
  scenario_run(&s);
  CHECK_INT_EQ(s.failure, 0);
  CHECK_INT_EQ(s.acked, 17);
  CHECK(s.deleted);
  scenario_check(&s);
  end();
}

TEST(short_transfers) { transfer_slowly(7, false); }
TEST(interrupted_transfers) { transfer_slowly(0, true); }
TEST(short_and_interrupted_transfers) { transfer_slowly(1000, true); }

/* After a failed sync nothing can be appended, with the same words each time; reads go on. */
TEST(failed_sync) {
  begin();
  struct flume_log *log = must_open(0);
  made_append(log, 2);
  faults_arm(&faults, FAULT_SYNC, 1, UV_EIO);
  struct flume_slice record = slice_text("lost");
  struct answer answers[3] = {{.calls = 0}};
  for (int i = 0; i < 3; i++) {
    CHECK_INT_EQ(flume_log_append(log, &answers[i].req, &record, 1, on_answer, NULL), 0);
  }
  for (int i = 0; i < 3; i++) {
    answer_wait(&loop, &answers[i]);
    CHECK_INT_EQ(answers[i].status, UV_EIO);
    CHECK_INT_EQ(answers[i].seq, -1);
    CHECK(strstr(answers[i].err.msg, ".flume") != NULL);
  }
  int64_t seq = -7;
  CHECK_INT_EQ(flume_log_since(log), 1);
  CHECK_INT_EQ(flume_log_append_wait(log, &record, 1, &seq, &err), UV_EIO);
  CHECK_STR_EQ(err.msg, answers[0].err.msg);
  CHECK_INT_EQ(flume_log_append(log, &answers[0].req, &record, 1, on_answer, &err), UV_EIO);
  CHECK_INT_EQ(flume_log_sync(log, &answers[0].req, on_answer, &err), UV_EIO);
  CHECK_INT_EQ(flume_log_del(log, &answers[0].req, (int64_t[]){0}, 1, on_answer, &err), UV_EIO);
  CHECK_INT_EQ(seq, -7);
  CHECK_INT_EQ(atomic_load(&faults.calls[FAULT_SYNC]), 1);
  all_survive(log);
  log_close_wait(log, &loop);
  CHECK_INT_EQ(atomic_load(&faults.calls[FAULT_SYNC]), 1);
  faults_arm(&faults, FAULT_NONE, 0, 0);
  log = must_open(0);
  CHECK(flume_log_since(log) >= 1);
  CHECK(survives(log, 0) && survives(log, 1));
  goes_on(log);
  end();
}

/* An append that finds no memory fails alone. */
TEST(append_without_memory) {
  for (int nth = 1; nth < 50 && !test_failed; nth++) {
    begin();
    struct flume_log *log = must_open(0);
    made_append(log, 1);
    faults_arm(&faults, FAULT_ALLOC, nth, UV_ENOMEM);
    struct flume_slice *records = calloc(3000, sizeof *records);
    MUST(records != NULL);
    for (int i = 0; i < 3000; i++) records[i] = slice("record", 6);
    int64_t seq = -7;
    int rv = nth % 2 == 0 ? log_append(log, &loop, records, 3000, &seq)
                          : flume_log_append_wait(log, records, 3000, &seq, &err);
    bool hit = fault_was_hit(&faults);
    CHECK_INT_EQ(rv, hit ? UV_ENOMEM : 0);
    faults_arm(&faults, FAULT_NONE, 0, 0);
    int64_t since = flume_log_since(log);
    CHECK_INT_EQ(since, hit ? 0 : 3000);
    CHECK_INT_EQ(log_append(log, &loop, records, 3000, &seq), 0);
    CHECK_INT_EQ(seq, since + 3000);
    free(records);
    CHECK(survives(log, 0));
    log_close_wait(log, &loop);
    log = must_open(0);
    CHECK_INT_EQ(flume_log_since(log), since + 3000);
    goes_on(log);
    end();
    if (!hit) return;
  }
}

/* --- A full disk ----------------------------------------------------------------------------------------------- */

/* Appends until the disk is full; how many were acknowledged. */
static int64_t fill_up(struct flume_log *log) {
  int64_t count = 0, seq = -1;
  uint8_t *data = payload_new(3000, 5);
  struct flume_slice record = slice(data, 3000);
  int rv;
  while ((rv = flume_log_append_wait(log, &record, 1, &seq, &err)) == 0) CHECK_INT_EQ(seq, count++);
  CHECK_INT_EQ(rv, UV_ENOSPC);
  CHECK_INT_EQ(flume_log_append_wait(log, &record, 1, &seq, &err), UV_ENOSPC);
  free(data);
  return count;
}

static void check_filled(struct flume_log *log, int64_t count) {
  CHECK(flume_log_since(log) >= count - 1);
  for (int64_t seq = 0; seq < count; seq++) {
    struct flume_record record = {0};
    CHECK_INT_EQ(flume_log_get(log, seq, &record, &err), 0);
    CHECK(record.len == 3000 && payload_is(record.data, record.len, 5));
    flume_record_release(&record);
  }
}

static void fill_and_free(enum flume_sync sync, uint64_t segment_bytes) {
  struct flume_log *log = NULL;
  struct flume_log_options options = {.sync = sync, .segment_bytes = segment_bytes, .io = &faults.io};
  MUST(try_open(&log, &options) == 0);
  int64_t count = fill_up(log);
  CHECK(count > 10);
  check_filled(log, count);
  log_close_wait(log, &loop);
  struct flume_log_options reading = {.readonly = true, .io = &faults.io};
  CHECK_INT_EQ(try_open(&log, &reading), 0);
  check_filled(log, count);
  log_close_wait(log, &loop);
  CHECK_INT_EQ(unlink(path_in(root, "room")), 0);
  CHECK_INT_EQ(try_open(&log, &options), 0);
  check_filled(log, count);
  goes_on(log);
}

/* A file system of a megabyte, with a file in it that can be given up. */
static void on_a_small_disk(enum flume_sync sync, uint64_t segment_bytes) {
  begin();
  bool mounted = mount("none", root, "tmpfs", 0, "size=1m") == 0;
  if (mounted) {
    uint8_t *room = payload_new(100000, 1);
    write_file(path_in(root, "room"), room, 100000, 100000);
    free(room);
    fill_and_free(sync, segment_bytes);
    CHECK_INT_EQ(umount(root), 0);
  }
  end();
  if (!mounted) SKIP("nothing can be mounted here; a full disk is simulated in test_crash.c");
}

TEST(full_disk) { on_a_small_disk(FLUME_SYNC_ALWAYS, 0); }
TEST(full_disk_with_segments) { on_a_small_disk(FLUME_SYNC_ALWAYS, 50000); }
TEST(full_disk_with_weak_sync) { on_a_small_disk(FLUME_SYNC_OS, 50000); }

/* --- A log in memory ------------------------------------------------------------------------------------------- */

static void memory_scenario(struct scenario *s) {
  struct flume_log *log = NULL;
  struct flume_log_options options = {.io = &faults.io};
  int rv = flume_log_open_memory(&log, &loop, &options, &err);
  note(s, rv, 0);
  if (rv != 0) return;
  for (int i = 0; i < 4; i++) scenario_append(s, log, 1 + i, i % 2);
  if (s->acked > 1) {
    rv = log_del(log, &loop, (int64_t[]){1}, 1);
    note(s, rv, 0);
    s->deleted = rv == 0;
    CHECK_INT_EQ(flume__log_deleted_count(log, s->acked - 1), s->deleted);
  }
  scenario_read(s, log);
  log_close_wait(log, &loop);
}

TEST(memory_log_without_memory) {
  for (int nth = 1; nth < 200 && !test_failed; nth++) {
    begin();
    struct scenario s = {.acked = 0};
    faults_arm(&faults, FAULT_ALLOC, nth, UV_ENOMEM);
    memory_scenario(&s);
    bool hit = fault_was_hit(&faults);
    CHECK(s.failure == 0 || s.failure == UV_ENOMEM);
    CHECK(hit || (s.acked == 10 && s.failure == 0));
    if (test_failed) printf("allocation %d\n", nth);
    end();
    if (!hit) {
      CHECK(nth > 1);
      return;
    }
  }
}

/* --- The versions of a view ------------------------------------------------------------------------------------ */

static int make_version(const char *path, uint32_t number) {
  char whole[TEST_PATH_MAX + 32];
  snprintf(whole, sizeof whole, "%s/%u", path, (unsigned)number);
  return flume_view_dir_write(&faults.io, whole, "data.mdb", "x", 1, &err);
}

/* Goes from version 1 to version 2; the last step that went well. */
static int change_version(const char *path, int *failure) {
  uint32_t number = 0;
  struct flume_buf numbers;
  flume_buf_init(&numbers, &faults.io);
  int step = 0, rv = make_version(path, 1);
  if (rv == 0) rv = flume_view_dir_activate(&faults.io, path, 1, &err);
  if (rv == 0) step = 1;
  if (rv == 0) rv = flume_view_dir_list(&faults.io, path, &numbers, &err);
  if (rv == 0) rv = make_version(path, 2);
  if (rv == 0) rv = flume_view_dir_activate(&faults.io, path, 2, &err);
  if (rv == 0) step = 2;
  if (rv == 0) rv = flume_view_dir_active(&faults.io, path, &number, &err);
  if (rv == 0) CHECK_INT_EQ(number, 2);
  if (rv == 0) rv = flume_view_dir_remove(&faults.io, path, 1, &err);
  if (rv == 0) rv = make_version(path, 3);
  if (rv == 0) rv = flume_view_dir_sweep(&faults.io, path, &number, 1, &err);
  flume_buf_fini(&numbers);
  *failure = rv;
  return step;
}

static void fail_views(enum fault_op op, int code) {
  char path[TEST_PATH_MAX + 16];
  for (int nth = 1; nth < 200 && !test_failed; nth++) {
    int failure = 0;
    begin();
    snprintf(path, sizeof path, "%s/views/v", root);
    faults_arm(&faults, op, nth, code);
    int step = change_version(path, &failure);
    bool hit = fault_was_hit(&faults);
    faults_arm(&faults, FAULT_NONE, 0, 0);
    CHECK(hit ? failure == code || failure == 0 : failure == 0);
    if (failure != 0) CHECK_INT_EQ(err.code, failure);
    uint32_t number = 99;
    CHECK_INT_EQ(flume_view_dir_active(&faults.io, path, &number, &err), 0);
    CHECK(step == 2 ? number == 2 : step == 1 ? number == 1 || number == 2 : number <= 1);
    CHECK(number == FLUME_VIEW_DIR_NONE || flume_view_dir_sweep(&faults.io, path, &number, 1, &err) == 0);
    CHECK_INT_EQ(change_version(path, &failure), 2);
    CHECK_INT_EQ(failure, 0);
    if (test_failed) printf("call %d of %s\n", nth, fault_names[op]);
    end();
    if (!hit) {
      CHECK(nth > 1);
      return;
    }
  }
}

TEST(views_with_failing_opens) { fail_views(FAULT_OPEN, UV_EMFILE); }
TEST(views_with_failing_reads) { fail_views(FAULT_READ, UV_EIO); }
TEST(views_with_failing_writes) { fail_views(FAULT_WRITE, UV_ENOSPC); }
TEST(views_with_failing_syncs) { fail_views(FAULT_SYNC, UV_EIO); }
TEST(views_with_failing_truncates) { fail_views(FAULT_TRUNCATE, UV_EIO); }
TEST(views_with_failing_renames) { fail_views(FAULT_RENAME, UV_EIO); }
TEST(views_with_failing_syncs_of_directories) { fail_views(FAULT_SYNC_DIR, UV_EIO); }
TEST(views_with_failing_mkdirs) { fail_views(FAULT_MKDIR, UV_ENOSPC); }
TEST(views_with_failing_lists) { fail_views(FAULT_LIST, UV_EIO); }
TEST(views_with_failing_sizes) { fail_views(FAULT_SIZE, UV_EIO); }
TEST(views_with_failing_unlinks) { fail_views(FAULT_UNLINK, UV_EIO); }
TEST(views_with_failing_rmdirs) { fail_views(FAULT_RMDIR, UV_EIO); }
TEST(views_without_memory) { fail_views(FAULT_ALLOC, UV_ENOMEM); }
