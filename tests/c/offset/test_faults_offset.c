/* The offset log when the disk or the memory fails. */
#include "offset_fixture.h"

struct scenario {
  int64_t acked; /* bytes: where the last acknowledged record ends */
  bool deleted;  /* the first record: acknowledged */
  int failure;   /* the first one that was answered */
};

static const uint32_t lens[] = {40, 1, 700, 13, 90, 8, 600, 25};

static void note(struct scenario *s, int rv) {
  if (rv != 0 && s->failure == 0) s->failure = rv;
}

/* Record number n has what says so. Every fifth is of zeros. */
static uint64_t key_of(int64_t n) {
  return n % 5 == 3 ? 0 : (uint64_t)n + 1;
}

/* How many records end at or before off. */
static int64_t number_at(int64_t off) {
  int64_t n = 0;
  for (int64_t at = 0; at < off; n++) at += lens[n % 8] + 12;
  return n;
}

static void append(struct scenario *s, struct flume_log *log, int count, bool wait) {
  struct flume_slice records[4];
  int64_t seq = -1, n = number_at(s->acked), end_off = s->acked;
  for (int i = 0; i < count; i++) {
    uint32_t len = lens[(n + i) % 8];
    records[i] = slice(payload_new(len, key_of(n + i)), len);
    end_off += len + 12;
  }
  int rv = wait ? flume_log_append_wait(log, records, (size_t)count, &seq, &err)
                : log_append(log, &loop, records, (size_t)count, &seq);
  for (int i = 0; i < count; i++) free((void *)records[i].data);
  note(s, rv);
  if (rv == 0) s->acked = end_off;
  if (rv == 0) CHECK_INT_EQ(seq, end_off - (int64_t)records[count - 1].len - 12);
}

/* The records of the log are those that were appended; a read fails with the fault, or not at all. */
static void read_all(struct flume_log *log) {
  struct flume_stream *stream;
  struct flume_range range;
  struct flume_record record;
  int rv;
  flume_range_init(&range);
  if (flume_stream_open(&stream, log, &range, &err) != 0) return;
  while ((rv = flume_stream_next(stream, &record, &err)) == 1) {
    int64_t n = number_at(record.seq);
    CHECK(record.len == lens[n % 8] && payload_is(record.data, record.len, key_of(n)));
    flume_record_release(&record);
  }
  if (rv != 0) CHECK_INT_EQ(rv, faults.code);
  flume_stream_close(stream);
}

/* Where the log ends. */
static int64_t end_of(struct flume_log *log) {
  return (int64_t)((struct offset_log *)log)->data_end_off;
}

static void visit(struct scenario *s, int appends) {
  struct flume_log *log = NULL;
  int64_t first = 0;
  int rv = try_open(&log, (struct flume_log_options){0});
  note(s, rv);
  if (rv != 0) return;
  CHECK(end_of(log) >= s->acked);
  s->acked = end_of(log); /* what was written and not acknowledged may be there */
  for (int i = 0; i < appends; i++) {
    append(s, log, 1 + i % 4, i % 2 == 0);
    if (i == 3 && s->acked > 0) {
      rv = log_del(log, &loop, &first, 1);
      note(s, rv);
      s->deleted |= rv == 0;
    }
    if (i == 4) note(s, log_sync(log, &loop));
  }
  read_all(log);
  close_log(log);
}

/* What was acknowledged is there when the log is opened again, and it takes appends. */
static void check_after(struct scenario *s) {
  loop_drain(&loop);
  CHECK_INT_EQ(atomic_load(&faults.files), 0);
  CHECK_INT_EQ(atomic_load(&faults.allocations), 0);
  faults_arm(&faults, FAULT_NONE, 0, 0);
  struct flume_log *log = must_open();
  CHECK(end_of(log) >= s->acked);
  s->acked = end_of(log);
  struct flume_record record = {0};
  if (s->deleted) CHECK_INT_EQ(flume_log_get(log, 0, &record, &err), FLUME_EDELETED);
  append(s, log, 2, true);
  read_all(log);
  close_log(log);
}

/* The nth call fails, for each n that is reached. */
static void fail_each(enum fault_op op, int code, bool forever) {
  for (int nth = 1; nth < 400 && !test_failed; nth++) {
    begin();
    struct scenario s = {.acked = 0};
    faults.forever = forever;
    faults_arm(&faults, op, nth, code);
    visit(&s, 6);
    visit(&s, 2);
    loop_drain(&loop);
    bool hit = fault_was_hit(&faults);
    CHECK(s.failure == 0 || s.failure == code);
    CHECK(hit || s.failure == 0);
    check_after(&s);
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
FAIL(FAULT_OPEN, EIO)
FAIL(FAULT_OPEN, EMFILE)
FAIL(FAULT_READ, EIO)
FAIL(FAULT_RENAME, EIO)
FAIL(FAULT_SYNC_DIR, EIO)
FAIL(FAULT_LOCK, EIO)
FAIL(FAULT_SIZE, EIO)
FAIL(FAULT_MKDIR, ENOSPC)
FAIL(FAULT_ALLOC, ENOMEM)

/* The same while a log is opened that has a torn tail, and deletes of which nobody knows. */
static void fail_recovery(enum fault_op op, int code) {
  begin();
  struct file file;
  bool hit = true;
  make_file(&file, 32);
  memset(file.data + file.starts[2] + 4, 0, 40);
  for (int nth = 1; hit && nth < 400 && !test_failed; nth++) {
    struct flume_log *log = NULL;
    write_bytes(file.data, file.len - 5);
    faults_arm(&faults, op, nth, code);
    int rv = try_open(&log, (struct flume_log_options){0});
    if (rv != 0) CHECK_INT_EQ(rv, code);
    if (rv == 0) close_log(log);
    hit = fault_was_hit(&faults);
    faults_arm(&faults, FAULT_NONE, 0, 0);
    log = must_open();
    CHECK_INT_EQ(see(log, false).count, file.count - 2);
    CHECK_INT_EQ(log->deletions.value, 1);
    close_log(log);
    remove_files_beside();
    if (test_failed) printf("call %d of %s fails with %s\n", nth, fault_names[op], flume_err_name(code));
  }
  end();
}

TEST(recovery_when_writes_fail) { fail_recovery(FAULT_WRITE, UV_EIO); }
TEST(recovery_when_syncs_fail) { fail_recovery(FAULT_SYNC, UV_EIO); }
TEST(recovery_when_reads_fail) { fail_recovery(FAULT_READ, UV_EIO); }
TEST(recovery_when_truncating_fails) { fail_recovery(FAULT_TRUNCATE, UV_EIO); }
TEST(recovery_when_opens_fail) { fail_recovery(FAULT_OPEN, UV_EIO); }
TEST(recovery_when_renames_fail) { fail_recovery(FAULT_RENAME, UV_EIO); }
TEST(recovery_without_memory) { fail_recovery(FAULT_ALLOC, UV_ENOMEM); }
