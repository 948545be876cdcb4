/* A store on disk when the disk fails. LMDB does its own I/O: its system calls are wrapped by the linker, and the nth of
 * a kind fails. What was committed can be read all the while, and what was not is still pending: once the disk works
 * again, the next commit has it. */
#include <sys/uio.h>

#include "store/store.h"
#include "support.h"

#define GROUPS 40
#define ENTRIES 2000
#define VALUE_BYTES 300

enum call { CALL_NONE = 0, CALL_WRITE = 1, CALL_SYNC = 2 };

/* What the first call that fails has done nevertheless; the others do nothing. */
enum leaving { LEAVES_HALF, LEAVES_ALL };

static struct {
  unsigned calls; /* that fail, of enum call */
  enum leaving leaving;
  int nth; /* of them, counted from 1 */
  int seen;
  int code;
  bool for_ever;
} broken;

static bool fails(enum call call) {
  if ((broken.calls & call) == 0) return false;
  broken.seen++;
  return broken.seen == broken.nth || (broken.for_ever && broken.seen > broken.nth);
}

static bool was_hit(void) {
  return broken.calls != CALL_NONE && broken.seen >= broken.nth;
}

/* How much of a write that fails is done. */
static size_t part_of(size_t len) {
  if (broken.seen > broken.nth) return 0;
  return broken.leaving == LEAVES_ALL ? len : len / 2;
}

ssize_t __real_pwrite(int fd, const void *data, size_t len, off_t off);
ssize_t __wrap_pwrite(int fd, const void *data, size_t len, off_t off);
ssize_t __real_writev(int fd, const struct iovec *parts, int count);
ssize_t __wrap_writev(int fd, const struct iovec *parts, int count);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

ssize_t __wrap_pwrite(int fd, const void *data, size_t len, off_t off) {
  if (!fails(CALL_WRITE)) return __real_pwrite(fd, data, len, off);
  if (part_of(len) > 0) __real_pwrite(fd, data, part_of(len), off);
  errno = broken.code;
  return -1;
}

ssize_t __wrap_writev(int fd, const struct iovec *parts, int count) {
  if (!fails(CALL_WRITE)) return __real_writev(fd, parts, count);
  if (part_of((size_t)count) > 0) __real_writev(fd, parts, (int)part_of((size_t)count));
  errno = broken.code;
  return -1;
}

int __wrap_fdatasync(int fd) {
  if (!fails(CALL_SYNC)) return __real_fdatasync(fd);
  errno = broken.code;
  return -1;
}

/* --- What is in the store ------------------------------------------------------------------------------------------- */

static struct flume_err err;
static char dir[TEST_PATH_MAX];

/* A key of key.h: a string. */
static size_t key_of(uint8_t *key, int i) {
  return (size_t)snprintf((char *)key, 64, "\x02%06d some more bytes, so that there are pages", i) + 1;
}

/* Round 1 writes everything; round 2 replaces the groups, and adds to the index. */
static void write_round(struct flume_store *store, int64_t round) {
  uint8_t key[64], *value = payload_new(VALUE_BYTES, (uint64_t)round);
  for (int i = 0; i < GROUPS; i++) {
    size_t len = key_of(key, i);
    MUST(flume_store_put_group(store, key, len, value, VALUE_BYTES, &err) == 0);
  }
  for (int64_t i = 0; i < ENTRIES; i++) {
    size_t len = key_of(key, (int)(i % 7));
    MUST(flume_store_add_entry(store, key, len, round * ENTRIES + i, NULL, 0, &err) == 0);
  }
  MUST(flume_store_put_state(store, &round, sizeof round, &err) == 0);
  free(value);
}

static int commit_round(struct flume_store *store, int64_t round) {
  struct flume_store_meta meta = {.since = (round + 1) * ENTRIES - 1};
  return flume_store_commit(store, &meta, &err);
}

static void check_groups(struct flume_store *store, int64_t round) {
  uint8_t key[64];
  struct flume_buf value;
  flume_buf_init(&value, &flume_io_posix);
  for (int i = 0; i < GROUPS; i++) {
    size_t len = key_of(key, i);
    value.len = 0;
    if (!CHECK_INT_EQ(flume_store_get_group(store, key, len, &value, &err), 0)) printf("%s\n", err.msg);
    else CHECK(value.len == VALUE_BYTES && payload_is(value.data, value.len, (uint64_t)round));
  }
  flume_buf_fini(&value);
}

/* All that the rounds up to this one have written is there. */
static void check_round(struct flume_store *store, int64_t round) {
  struct flume_store_range range;
  struct flume_buf state;
  flume_buf_init(&state, &flume_io_posix);
  CHECK_INT_EQ(flume_store_get_state(store, &state, &err), 0);
  CHECK(state.len == sizeof round && memcmp(state.data, &round, sizeof round) == 0);
  flume_buf_fini(&state);
  check_groups(store, round);
  flume_store_range_init(&range);
  CHECK_INT_EQ(flume_store_count(store, FLUME_STORE_INDEX, &range, &err), round * ENTRIES);
}

static void check_since(struct flume_store *store, int64_t round) {
  struct flume_store_meta meta = {.since = -7};
  if (!CHECK_INT_EQ(flume_store_load(store, &meta, &err), 0)) printf("%s\n", err.msg);
  CHECK_INT_EQ(meta.since, (round + 1) * ENTRIES - 1);
}

static struct flume_store *must_open(void) {
  struct flume_store *store = NULL;
  MUST(flume_store_open(&store, &flume_io_posix, dir, FLUME_STORE_WRITE, &err) == 0);
  return store;
}

/* --- Tests ---------------------------------------------------------------------------------------------------------- */

static struct flume_store *begin(void) {
  temp_dir(dir);
  struct flume_store *store = must_open();
  write_round(store, 1);
  CHECK_INT_EQ(commit_round(store, 1), 0);
  write_round(store, 2);
  return store;
}

static void end(struct flume_store *store, int64_t round) {
  check_round(store, round);
  check_since(store, round);
  flume_store_close(store);
  store = must_open();
  check_round(store, round);
  check_since(store, round);
  flume_store_close(store);
  remove_dir(dir);
}

static void arm(unsigned calls, enum leaving leaving, int nth, int code, bool for_ever) {
  broken.calls = calls;
  broken.leaving = leaving;
  broken.nth = nth;
  broken.seen = 0;
  broken.code = code;
  broken.for_ever = for_ever;
}

static void disarm(void) {
  arm(CALL_NONE, LEAVES_HALF, 0, 0, false);
}

/* The commit of round 2 fails with the nth call, or has found out that it did not fail after all. */
static void fail_each(unsigned calls, enum leaving leaving, int code, bool for_ever) {
  bool hit = true;
  for (int nth = 1; hit && nth < 100 && !test_failed; nth++) {
    struct flume_store *store = begin();
    arm(calls, leaving, nth, code, for_ever);
    int rv = commit_round(store, 2);
    hit = was_hit();
    disarm();
    if (rv != 0) {
      CHECK(hit);
      CHECK_INT_EQ(rv, -code);
      CHECK(strstr(err.msg, dir) != NULL);
      check_since(store, 1);
      check_round(store, 2);
      if (!CHECK_INT_EQ(commit_round(store, 2), 0)) printf("%s\n", err.msg);
    } else {
      CHECK(!hit || leaving == LEAVES_ALL);
    }
    end(store, 2);
    if (test_failed) printf("call %d\n", nth);
  }
  CHECK(!hit);
}

TEST(a_write_fails_once) { fail_each(CALL_WRITE, LEAVES_HALF, EIO, false); }
TEST(writes_fail_for_ever) { fail_each(CALL_WRITE, LEAVES_HALF, ENOSPC, true); }
TEST(a_sync_fails_once) { fail_each(CALL_SYNC, LEAVES_HALF, EIO, false); }
TEST(syncs_fail_for_ever) { fail_each(CALL_SYNC, LEAVES_HALF, EIO, true); }
TEST(a_write_succeeds_but_reports_failure) { fail_each(CALL_WRITE, LEAVES_ALL, EIO, false); }
TEST(a_write_succeeds_but_reports_failure_and_all_later_writes_fail) { fail_each(CALL_WRITE, LEAVES_ALL, EIO, true); }

/* Nobody can tell whether what is pending is on disk: then there are no answers, until it is let go of. */
TEST(no_entry_is_stored_twice) {
  int in_doubt = 0;
  bool hit = true;
  for (int nth = 1; hit && nth < 100 && !test_failed; nth++) {
    struct flume_store *store = begin();
    struct flume_store_meta meta;
    arm(CALL_WRITE | CALL_SYNC, LEAVES_ALL, nth, EIO, true);
    int rv = commit_round(store, 2);
    hit = was_hit();
    disarm();
    int64_t round = rv == 0 ? 2 : 1;
    CHECK_INT_EQ(rv, hit ? UV_EIO : 0);
    if (rv != 0 && flume_store_load(store, &meta, &err) != 0) {
      in_doubt++;
      round = 2;
      CHECK_INT_EQ(err.code, UV_EIO);
      CHECK_INT_EQ(commit_round(store, 2), UV_EIO);
    }
    flume_store_rollback(store);
    end(store, round);
    if (test_failed) printf("call %d\n", nth);
  }
  CHECK(!hit);
  CHECK_INT_EQ(in_doubt, 1);
}
