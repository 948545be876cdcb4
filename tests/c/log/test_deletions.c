/* Deletions in their order: by ordinal, and with the bytes that the deleted records had. */
#include "each_log.h"

/* The seqs in the order of their deletions, "3 0 8". */
static const char *order_of(const struct fixture *f) {
  static char text[1024];
  size_t len = 0;
  text[0] = '\0';
  for (int64_t i = 0; i < f->log->deletions.value; i++) {
    len += (size_t)snprintf(text + len, 24, i > 0 ? " %lld" : "%lld", (long long)flume__log_deletion_at(f->log, i));
  }
  return text;
}

EACH_LOG(deletions_keep_their_order) {
  append_numbers(f, 0, 9);
  CHECK_STR_EQ(order_of(f), "");
  CHECK_INT_EQ(del_one(f, 7), 0);
  CHECK_INT_EQ(del_one(f, 2), 0);
  CHECK_INT_EQ(del_one(f, 9), 0);
  CHECK_INT_EQ(del_one(f, 0), 0);
  CHECK_STR_EQ(order_of(f), "7 2 9 0");
  if (fixture_reopen(f)) CHECK_STR_EQ(order_of(f), "7 2 9 0");
  CHECK_INT_EQ(del_one(f, 1), 0);
  CHECK_STR_EQ(order_of(f), "7 2 9 0 1");
  if (fixture_reopen(f)) CHECK_STR_EQ(order_of(f), "7 2 9 0 1");
}

EACH_LOG(a_record_is_deleted_once) {
  append_numbers(f, 0, 9);
  CHECK_INT_EQ(del_one(f, 4), 0);
  CHECK_INT_EQ(del_one(f, 4), 0);
  CHECK_INT_EQ(log_del(f->log, &f->loop, (int64_t[]){4, 6, 6, 4}, 4), 0);
  CHECK_INT_EQ(del_one(f, 6), 0);
  CHECK_INT_EQ(f->log->deletions.value, 2);
  CHECK_STR_EQ(order_of(f), "4 6");
  if (!fixture_reopen(f)) return;
  CHECK_INT_EQ(f->log->deletions.value, 2);
  CHECK_STR_EQ(order_of(f), "4 6");
}

EACH_LOG(deletions_at_once_are_in_order_too) {
  append_numbers(f, 0, 9);
  struct answer first = {.calls = 0}, second = {.calls = 0};
  CHECK_INT_EQ(flume_log_del(f->log, &first.req, (int64_t[]){5, 6}, 2, on_answer, NULL), 0);
  CHECK_INT_EQ(flume_log_del(f->log, &second.req, (int64_t[]){6, 1}, 2, on_answer, NULL), 0);
  answer_wait(&f->loop, &second);
  CHECK_INT_EQ(first.calls, 1);
  CHECK_STR_EQ(order_of(f), "5 6 1");
}

static void count_observed(struct flume_observer *observer, int64_t value) {
  *(int64_t *)observer->data = value;
}

EACH_LOG(deletions_are_observed_by_their_number) {
  append_numbers(f, 0, 9);
  CHECK_INT_EQ(log_del(f->log, &f->loop, (int64_t[]){1, 2, 3}, 3), 0);
  fixture_reopen(f);
  int64_t seen = -1;
  struct flume_observer observer = {.cb = count_observed, .data = &seen};
  flume_obv_observe(&f->log->deletions, &observer);
  CHECK_INT_EQ(del_one(f, 9), 0);
  loop_drain(&f->loop);
  CHECK_INT_EQ(seen, 4);
  flume_observer_stop(&observer);
}

static int read_deleted_code(struct fixture *f, int64_t seq) {
  struct flume_block *block = NULL;
  int rv = flume__log_read_deleted(f->log, seq, &block, &f->err);
  flume_block_unref(block);
  return rv;
}

static bool deleted_is(struct fixture *f, int64_t seq, const char *text) {
  struct flume_block *block = NULL;
  if (!CHECK_INT_EQ(flume__log_read_deleted(f->log, seq, &block, &f->err), 0)) return false;
  uint32_t len = 0;
  const uint8_t *data = flume_block_get(block, 0, &len);
  bool same = block->count == 1 && block->first_seq == seq && data != NULL && len == strlen(text) &&
              memcmp(data, text, len) == 0;
  flume_block_unref(block);
  return same;
}

EACH_LOG(the_bytes_of_a_deleted_record) {
  append_numbers(f, 0, 20);
  CHECK_INT_EQ(append_text(f, ""), 21);
  CHECK_INT_EQ(read_deleted_code(f, 3), FLUME_ENOENT);
  CHECK_INT_EQ(log_del(f->log, &f->loop, (int64_t[]){0, 3, 20, 21}, 4), 0);
  for (int round = 0; round < 2; round++) {
    CHECK(deleted_is(f, 0, "0"));
    CHECK(deleted_is(f, 3, "3"));
    CHECK(deleted_is(f, 20, "20"));
    CHECK(deleted_is(f, 21, ""));
    CHECK_INT_EQ(read_deleted_code(f, 4), FLUME_ENOENT);
    CHECK_INT_EQ(read_deleted_code(f, 100), FLUME_ENOENT);
    CHECK_INT_EQ(get_code(f, 3), FLUME_EDELETED);
    if (!fixture_reopen(f)) return;
  }
}

/* More than are kept apart as recent ones, in no order. */
TEST(many_deletions) {
  enum { COUNT = 20000 };
  struct faults faults;
  faults_init(&faults);
  struct flume_tombstones set;
  flume_tombstones_init(&set, &faults.io);
  static int64_t expected[COUNT];
  static bool has[COUNT];
  memset(has, 0, sizeof has);
  uint64_t state = random_seed();
  size_t count = 0;
  for (int i = 0; i < COUNT; i++) {
    int64_t seq = random_below(&state, COUNT);
    MUST(flume_tombstones_reserve(&set, 1) == 0);
    CHECK_INT_EQ(flume_tombstones_add(&set, seq), !has[seq]);
    if (!has[seq]) expected[count++] = seq;
    has[seq] = true;
  }
  CHECK_INT_EQ(set.count, count);
  CHECK(memcmp(set.order, expected, count * sizeof *expected) == 0);
  static uint32_t offsets[COUNT];
  memset(offsets, 0, sizeof offsets);
  flume_tombstones_mark(&set, 10, offsets, COUNT - 20);
  int64_t below = 0, last = -1;
  for (int64_t seq = 0; seq < COUNT; seq++) {
    below += has[seq];
    if (has[seq]) last = seq;
    bool good = flume_tombstones_has(&set, seq) == has[seq] && flume_tombstones_count(&set, seq) == below;
    if (seq >= 10 && seq < COUNT - 10) good &= (offsets[seq - 10] == FLUME_BLOCK_GONE) == has[seq];
    if (!CHECK(good)) printf("seq %d\n", (int)seq);
    if (!good) break;
  }
  CHECK_INT_EQ(flume_tombstones_last(&set), last);
  flume_tombstones_fini(&set);
  CHECK_INT_EQ(atomic_load(&faults.allocations), 0);
}
