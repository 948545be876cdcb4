/* What every log does with appends, gets and deletes, when it is closed and opened again, and when it syncs. */
#include "each_log.h"

/* --- Appending ------------------------------------------------------------------------------------------------ */

EACH_LOG(append_numbers_records) {
  CHECK_INT_EQ(flume_log_since(f->log), -1);
  CHECK_INT_EQ(append_text(f, "zero"), 0);
  CHECK_INT_EQ(flume_log_since(f->log), 0);
  struct flume_slice batch[] = {slice_text("one"), slice_text(""), slice_text("three")};
  int64_t seq = -1;
  CHECK_INT_EQ(log_append(f->log, &f->loop, batch, 3, &seq), 0);
  CHECK_INT_EQ(seq, 3);
  CHECK_INT_EQ(append_text(f, "four"), 4);
  CHECK_INT_EQ(flume_log_since(f->log), 4);
  CHECK(is_text(f, 0, "zero") && is_text(f, 1, "one") && is_text(f, 2, ""));
  CHECK(is_text(f, 3, "three") && is_text(f, 4, "four"));
}

EACH_LOG(each_callback_has_its_own_seq) {
  struct answer answers[20] = {{.calls = 0}};
  struct flume_slice batch[20];
  for (int i = 0; i < 20; i++) batch[i] = slice("abcdefghijklmnopqrst", (size_t)i + 1);
  for (int i = 0; i < 20; i++) {
    CHECK_INT_EQ(flume_log_append(f->log, &answers[i].req, batch, (size_t)i + 1, on_answer, NULL), 0);
    for (int k = 0; k <= i; k++) CHECK_INT_EQ(answers[k].calls, 0);
  }
  int64_t expected = -1;
  for (int i = 0; i < 20; i++) {
    answer_wait(&f->loop, &answers[i]);
    expected += i + 1;
    CHECK_INT_EQ(answers[i].status, 0);
    CHECK_INT_EQ(answers[i].seq, expected);
    CHECK(flume_log_since(f->log) >= answers[i].seq);
  }
  loop_drain(&f->loop);
  for (int i = 0; i < 20; i++) CHECK_INT_EQ(answers[i].calls, 1);
  CHECK_INT_EQ(flume_log_since(f->log), expected);
}

EACH_LOG(append_copies) {
  char text[8] = "before";
  struct flume_slice record = slice(text, 6);
  struct answer answer = {.calls = 0};
  CHECK_INT_EQ(flume_log_append(f->log, &answer.req, &record, 1, on_answer, NULL), 0);
  memset(text, '!', sizeof text);
  record = slice(NULL, 0);
  answer_wait(&f->loop, &answer);
  CHECK(is_text(f, 0, "before"));
}

struct chain {
  struct flume_append req;
  struct flume_log *log;
  int left;
  bool submitting;
  int64_t last_seq;
};

static void on_link(struct flume_append *req, int status, int64_t seq, const struct flume_err *err) {
  struct chain *chain = FLUME_CONTAINER_OF(req, struct chain, req);
  CHECK_INT_EQ(status, 0);
  CHECK(err == NULL);
  CHECK(!chain->submitting);
  CHECK_INT_EQ(seq, chain->last_seq + 1);
  chain->last_seq = seq;
  if (--chain->left == 0) return;
  chain->submitting = true;
  struct flume_slice record = slice_text("again");
  CHECK_INT_EQ(flume_log_append(chain->log, req, &record, 1, on_link, NULL), 0);
  chain->submitting = false;
}

EACH_LOG(append_from_a_callback) {
  struct chain chain = {.log = f->log, .left = 200, .last_seq = -1};
  struct flume_slice record = slice_text("first");
  CHECK_INT_EQ(flume_log_append(f->log, &chain.req, &record, 1, on_link, NULL), 0);
  while (chain.left > 0) uv_run(&f->loop, UV_RUN_ONCE);
  CHECK_INT_EQ(flume_log_since(f->log), 199);
}

EACH_LOG(append_wait_is_done_when_it_returns) {
  CHECK_INT_EQ(append_wait_text(f, "zero"), 0);
  CHECK(is_text(f, 0, "zero"));
  struct flume_slice batch[] = {slice_text("one"), slice_text("two")};
  int64_t seq = -1;
  CHECK_INT_EQ(flume_log_append_wait(f->log, batch, 2, &seq, NULL), 0);
  CHECK_INT_EQ(seq, 2);
  CHECK_INT_EQ(append_text(f, "three"), 3);
  CHECK_INT_EQ(append_wait_text(f, "four"), 4);
}

/* A log in memory has nothing to wait for, so there it may succeed; but never out of order. */
EACH_LOG(append_wait_while_others_are_pending) {
  struct answer answer = {.calls = 0};
  struct flume_slice record = slice_text("zero");
  CHECK_INT_EQ(flume_log_append(f->log, &answer.req, &record, 1, on_answer, NULL), 0);
  int64_t rv = append_wait_text(f, "one");
  CHECK_INT_EQ(answer.calls, 0);
  if (f->kind->memory) CHECK_INT_EQ(rv, 1);
  else CHECK_INT_EQ(rv, FLUME_EBUSY);
  answer_wait(&f->loop, &answer);
  CHECK_INT_EQ(answer.seq, 0);
  int64_t next = f->kind->memory ? 2 : 1;
  CHECK_INT_EQ(append_wait_text(f, "next"), next);
  CHECK(is_text(f, 0, "zero") && is_text(f, next, "next"));
}

EACH_LOG(empty_batch_is_refused) {
  struct answer answer = {.calls = 0};
  int64_t seq = -7;
  CHECK_INT_EQ(flume_log_append(f->log, &answer.req, NULL, 0, on_answer, &f->err), FLUME_EINVAL);
  CHECK_INT_EQ(flume_log_append_wait(f->log, NULL, 0, &seq, &f->err), FLUME_EINVAL);
  CHECK_INT_EQ(f->err.code, FLUME_EINVAL);
  CHECK_INT_EQ(seq, -7);
  CHECK_INT_EQ(append_text(f, "fine"), 0);
  CHECK_INT_EQ(answer.calls, 0);
}

EACH_LOG(too_large_fails_alone) {
  fixture_close(f);
  f->options.max_record_bytes = 100;
  fixture_open(f);
  uint8_t bytes[101] = {0};
  struct flume_slice exact = slice(bytes, 100), large = slice(bytes, 101);
  struct flume_slice batch[] = {exact, exact, large};
  struct answer answer = {.calls = 0};
  int64_t seq = -7;
  CHECK_INT_EQ(append_text(f, "zero"), 0);
  CHECK_INT_EQ(flume_log_append(f->log, &answer.req, &large, 1, on_answer, &f->err), FLUME_E2BIG);
  CHECK_INT_EQ(f->err.code, FLUME_E2BIG);
  CHECK_INT_EQ(flume_log_append(f->log, &answer.req, batch, 3, on_answer, &f->err), FLUME_E2BIG);
  CHECK_INT_EQ(flume_log_append_wait(f->log, batch, 3, &seq, &f->err), FLUME_E2BIG);
  CHECK_INT_EQ(seq, -7);
  CHECK_INT_EQ(log_append(f->log, &f->loop, &exact, 1, &seq), 0);
  CHECK_INT_EQ(seq, 1);
  CHECK_INT_EQ(append_wait_text(f, "two"), 2);
  CHECK_INT_EQ(answer.calls, 0);
  CHECK_STR_EQ(all_of(f, &(struct flume_range){.last = 9, .limit = -1, .old = true}), "0 1 2 .");
}

static const struct {
  size_t len;
  uint64_t key;
} sizes[] = {{0, 1}, {1, 2}, {1, 0}, {100, 3},      {100, 0},      {0, 1},   {65536, 4},
             {65536, 0}, {7, 5}, {20000000, 6}, {20000000, 0}, {0, 0}, {255, 7}, {4096, 0}};

enum { SIZES = sizeof sizes / sizeof sizes[0] };

static void check_size(struct flume_record *record, int at) {
  CHECK_INT_EQ(record->seq, at);
  CHECK_INT_EQ(record->len, sizes[at].len);
  CHECK(payload_is(record->data, record->len, sizes[at].key));
  flume_record_release(record);
}

static void check_sizes(struct fixture *f, bool reverse) {
  struct flume_range range = reverse ? backwards() : everything();
  struct flume_stream *stream = stream_new(f, &range);
  struct flume_record record;
  for (int i = 0; i < SIZES; i++) {
    int at = reverse ? SIZES - 1 - i : i;
    REQUIRE(flume_stream_next(stream, &record, &f->err) == 1);
    check_size(&record, at);
    REQUIRE(flume_log_get(f->log, at, &record, &f->err) == 0);
    check_size(&record, at);
  }
  CHECK_STR_EQ(rest_of(stream), ".");
  flume_stream_close(stream);
}

EACH_LOG(records_of_all_sizes) {
  for (int i = 0; i < SIZES; i++) {
    uint8_t *data = payload_new(sizes[i].len, sizes[i].key);
    struct flume_slice record = slice(data, sizes[i].len);
    int64_t seq = -1;
    CHECK_INT_EQ(log_append(f->log, &f->loop, &record, 1, &seq), 0);
    CHECK_INT_EQ(seq, i);
    free(data);
  }
  check_sizes(f, false);
  check_sizes(f, true);
  if (!fixture_reopen(f)) return;
  check_sizes(f, false);
  check_sizes(f, true);
}

/* --- Getting and deleting ------------------------------------------------------------------------------------- */

EACH_LOG(get_of_what_is_not_there) {
  CHECK_INT_EQ(get_code(f, 0), FLUME_ENOENT);
  CHECK_INT_EQ(get_code(f, -1), FLUME_ENOENT);
  append_numbers(f, 0, 2);
  CHECK_INT_EQ(get_code(f, 2), 0);
  CHECK_INT_EQ(get_code(f, 3), FLUME_ENOENT);
  CHECK_INT_EQ(get_code(f, INT64_MAX), FLUME_ENOENT);
  CHECK_INT_EQ(get_code(f, INT64_MIN), FLUME_ENOENT);
}

static void check_deleted(struct fixture *f) {
  CHECK_INT_EQ(get_code(f, 0), FLUME_EDELETED);
  CHECK_INT_EQ(get_code(f, 3), FLUME_EDELETED);
  CHECK_INT_EQ(get_code(f, 8), FLUME_EDELETED);
  CHECK(is_text(f, 5, "5"));
  CHECK_INT_EQ(flume_log_since(f->log), 9);
  struct flume_range range = everything();
  CHECK_STR_EQ(all_of(f, &range), "1 2 4 5 6 7 9 .");
  range = backwards();
  CHECK_STR_EQ(all_of(f, &range), "9 7 6 5 4 2 1 .");
  range.limit = 3;
  range.last = 8;
  CHECK_STR_EQ(all_of(f, &range), "7 6 5 .");
}

EACH_LOG(deleted_records) {
  append_numbers(f, 0, 9);
  CHECK_INT_EQ(log_del(f->log, &f->loop, (int64_t[]){8, 0, 3, 3}, 4), 0);
  CHECK_INT_EQ(del_one(f, 3), 0);
  CHECK_INT_EQ(del_one(f, 10), FLUME_ENOENT);
  CHECK_INT_EQ(del_one(f, -1), FLUME_ENOENT);
  CHECK_INT_EQ(log_del(f->log, &f->loop, (int64_t[]){5, 10}, 2), FLUME_ENOENT);
  check_deleted(f);
  if (fixture_reopen(f)) check_deleted(f);
}

EACH_LOG(delete_the_last_record) {
  append_numbers(f, 0, 2);
  struct flume_range live = living(true);
  struct flume_stream *before = stream_new(f, &live);
  CHECK_INT_EQ(del_one(f, 2), 0);
  struct flume_stream *after = stream_new(f, &live);
  struct flume_range range = everything(), reverse = backwards();
  CHECK_INT_EQ(flume_log_since(f->log), 2);
  CHECK_STR_EQ(all_of(f, &range), "0 1 .");
  CHECK_STR_EQ(all_of(f, &reverse), "1 0 .");
  CHECK_STR_EQ(rest_of(before), "0 1 ...");
  CHECK_STR_EQ(rest_of(after), "0 1 ...");
  CHECK_INT_EQ(append_text(f, "three"), 3);
  CHECK_STR_EQ(rest_of(before), "3 ...");
  CHECK_STR_EQ(rest_of(after), "3 ...");
  flume_stream_close(before);
  flume_stream_close(after);
  CHECK_INT_EQ(log_del(f->log, &f->loop, (int64_t[]){0, 1, 3}, 3), 0);
  CHECK_STR_EQ(all_of(f, &range), ".");
  CHECK_STR_EQ(all_of(f, &reverse), ".");
  if (!fixture_reopen(f)) return;
  CHECK_STR_EQ(all_of(f, &range), ".");
  CHECK_INT_EQ(append_text(f, "four"), 4);
  CHECK_STR_EQ(all_of(f, &range), "4 .");
}

EACH_LOG(delete_under_an_open_stream) {
  append_numbers(f, 0, 5);
  struct flume_range range = everything();
  struct flume_stream *stream = stream_new(f, &range);
  struct flume_record record;
  REQUIRE(flume_stream_next(stream, &record, NULL) == 1);
  CHECK_INT_EQ(log_del(f->log, &f->loop, (int64_t[]){0, 1, 5}, 3), 0);
  CHECK(record.len == 1 && record.data[0] == '0');
  flume_record_release(&record);
  CHECK_STR_EQ(rest_of(stream), "2 3 4 .");
  flume_stream_close(stream);
}

EACH_LOG(delete_what_is_still_pending) {
  struct answer append = {.calls = 0}, del = {.calls = 0};
  struct flume_slice record = slice_text("zero");
  CHECK_INT_EQ(flume_log_append(f->log, &append.req, &record, 1, on_answer, NULL), 0);
  int rv = flume_log_del(f->log, &del.req, (int64_t[]){0}, 1, on_answer, NULL);
  if (!f->kind->memory) CHECK_INT_EQ(rv, FLUME_ENOENT);
  answer_wait(&f->loop, &append);
  if (rv == 0) answer_wait(&f->loop, &del);
}

/* --- Closing -------------------------------------------------------------------------------------------------- */

struct closing {
  struct answer answers[6];
  bool closed;
};

static void on_closing(void *data) {
  struct closing *closing = data;
  for (int i = 0; i < 6; i++) CHECK_INT_EQ(closing->answers[i].calls, 1);
  closing->closed = true;
}

EACH_LOG(close_finishes_what_is_pending) {
  struct closing closing = {.closed = false};
  char text[] = "0";
  append_numbers(f, 0, 0);
  for (int i = 0; i < 4; i++) {
    struct flume_slice record = slice(text, 1);
    text[0] = (char)('1' + i);
    CHECK_INT_EQ(flume_log_append(f->log, &closing.answers[i].req, &record, 1, on_answer, NULL), 0);
  }
  CHECK_INT_EQ(flume_log_del(f->log, &closing.answers[4].req, (int64_t[]){0}, 1, on_answer, NULL), 0);
  CHECK_INT_EQ(flume_log_sync(f->log, &closing.answers[5].req, on_answer, NULL), 0);
  flume_log_close(f->log, on_closing, &closing);
  CHECK(!closing.closed);
  while (!closing.closed) uv_run(&f->loop, UV_RUN_ONCE);
  for (int i = 0; i < 6; i++) CHECK_INT_EQ(closing.answers[i].status, 0);
  for (int i = 0; i < 4; i++) CHECK_INT_EQ(closing.answers[i].seq, i + 1);
  f->log = NULL;
  if (f->kind->memory) return;
  fixture_open(f);
  CHECK_INT_EQ(flume_log_since(f->log), 4);
  CHECK_INT_EQ(get_code(f, 0), FLUME_EDELETED);
  CHECK(is_text(f, 1, "1") && is_text(f, 4, "4"));
}

/* The commit is back from its thread, but the loop has not turned, when close is called. */
EACH_LOG(close_when_a_commit_is_just_done) {
  struct answer answer = {.calls = 0};
  struct flume_slice record = slice_text("zero");
  faults_arm(&f->faults, FAULT_NONE, 0, 0);
  CHECK_INT_EQ(flume_log_append(f->log, &answer.req, &record, 1, on_answer, NULL), 0);
  enum fault_op last = f->kind->sync == FLUME_SYNC_ALWAYS ? FAULT_SYNC : FAULT_WRITE;
  while (!f->kind->memory && atomic_load(&f->faults.calls[last]) == 0) sched_yield();
  for (int i = 0; i < 20000; i++) sched_yield();
  fixture_close(f);
  CHECK_INT_EQ(answer.calls, 1);
  CHECK_INT_EQ(answer.status, 0);
  if (f->kind->memory) return;
  fixture_open(f);
  CHECK(is_text(f, 0, "zero"));
}

static void on_refusal(struct flume_append *req, int status, int64_t seq, const struct flume_err *err) {
  struct answer *answer = FLUME_CONTAINER_OF(req, struct answer, req);
  struct flume_log *log = req->data;
  struct flume_slice record = slice_text("late");
  static struct answer late;
  on_answer(req, status, seq, err);
  CHECK_INT_EQ(flume_log_append(log, &late.req, &record, 1, on_answer, NULL), FLUME_ECLOSED);
  CHECK_INT_EQ(answer->calls, 1);
}

EACH_LOG(append_after_close) {
  struct answer answer = {.req.data = f->log}, late = {.calls = 0};
  struct flume_slice record = slice_text("zero");
  int64_t seq = -7;
  bool closed = false;
  CHECK_INT_EQ(flume_log_append(f->log, &answer.req, &record, 1, on_refusal, NULL), 0);
  flume_log_close(f->log, on_closed, &closed);
  CHECK_INT_EQ(flume_log_append(f->log, &late.req, &record, 1, on_answer, &f->err), FLUME_ECLOSED);
  CHECK_INT_EQ(f->err.code, FLUME_ECLOSED);
  CHECK_INT_EQ(flume_log_append_wait(f->log, &record, 1, &seq, NULL), FLUME_ECLOSED);
  CHECK_INT_EQ(flume_log_del(f->log, &late.req, (int64_t[]){0}, 1, on_answer, NULL), FLUME_ECLOSED);
  CHECK_INT_EQ(flume_log_sync(f->log, &late.req, on_answer, NULL), FLUME_ECLOSED);
  while (!closed) uv_run(&f->loop, UV_RUN_ONCE);
  f->log = NULL;
  CHECK_INT_EQ(answer.calls, 1);
  CHECK_INT_EQ(answer.status, 0);
  CHECK_INT_EQ(late.calls, 0);
  CHECK_INT_EQ(seq, -7);
}

EACH_LOG(close_without_a_callback) {
  append_numbers(f, 0, 3);
  flume_log_close(f->log, NULL, NULL);
  f->log = NULL;
  loop_drain(&f->loop);
}

/* --- Observers ------------------------------------------------------------------------------------------------ */

struct watcher {
  struct flume_observer observer;
  int calls;
  int64_t value;
  struct flume_observer *stops;
  struct watcher *starts;
  struct flume_log *log;
};

static void on_value(struct flume_observer *observer, int64_t value) {
  struct watcher *watcher = FLUME_CONTAINER_OF(observer, struct watcher, observer);
  CHECK(value > watcher->value);
  watcher->calls++;
  watcher->value = value;
  if (watcher->stops != NULL) flume_observer_stop(watcher->stops);
  if (watcher->starts != NULL) flume_log_observe(watcher->log, &watcher->starts->observer);
  watcher->starts = NULL;
}

static void watch(struct fixture *f, struct watcher *watcher) {
  *watcher = (struct watcher){.observer.cb = on_value, .value = -1, .log = f->log};
  flume_log_observe(f->log, &watcher->observer);
}

EACH_LOG(observers_see_since_grow) {
  struct watcher watcher;
  watch(f, &watcher);
  loop_drain(&f->loop);
  CHECK_INT_EQ(watcher.calls, 0);
  append_numbers(f, 0, 2);
  CHECK_INT_EQ(watcher.calls, 0);
  loop_drain(&f->loop);
  CHECK_INT_EQ(watcher.calls, 1);
  CHECK_INT_EQ(watcher.value, 2);
  CHECK_INT_EQ(append_text(f, "three"), 3);
  loop_drain(&f->loop);
  CHECK_INT_EQ(watcher.value, 3);
  CHECK_INT_EQ(del_one(f, 3), 0);
  loop_drain(&f->loop);
  CHECK_INT_EQ(watcher.calls, 2);
  flume_observer_stop(&watcher.observer);
  flume_observer_stop(&watcher.observer);
  append_numbers(f, 4, 4);
  loop_drain(&f->loop);
  CHECK_INT_EQ(watcher.calls, 2);
}

EACH_LOG(observers_stop_from_callbacks) {
  struct watcher a, b, c, d;
  watch(f, &a);
  watch(f, &b);
  watch(f, &c);
  a.stops = &b.observer;
  c.stops = &c.observer;
  d = (struct watcher){.observer.cb = on_value, .value = -1};
  c.starts = &d;
  append_numbers(f, 0, 0);
  loop_drain(&f->loop);
  CHECK_INT_EQ(a.calls, 1);
  CHECK_INT_EQ(b.calls, 0);
  CHECK_INT_EQ(c.calls, 1);
  append_numbers(f, 1, 1);
  loop_drain(&f->loop);
  CHECK_INT_EQ(a.calls, 2);
  CHECK_INT_EQ(b.calls, 0);
  CHECK_INT_EQ(c.calls, 1);
  CHECK_INT_EQ(d.value, 1);
  flume_observer_stop(&a.observer);
  flume_observer_stop(&b.observer);
  flume_observer_stop(&d.observer);
  flume_observer_stop(&(struct flume_observer){.cb = on_value});
}

EACH_LOG(observers_of_a_closed_log) {
  struct watcher watcher;
  watch(f, &watcher);
  append_numbers(f, 0, 0);
  fixture_close(f);
  loop_drain(&f->loop);
  flume_observer_stop(&watcher.observer);
}

/* --- Many segments, and again --------------------------------------------------------------------------------- */

EACH_LOG(a_log_is_what_it_was_when_reopened) {
  uint8_t id[16];
  memcpy(id, flume_log_id(f->log), 16);
  if (f->kind->memory) CHECK(flume_log_dir(f->log) == NULL);
  else CHECK_STR_EQ(flume_log_dir(f->log), f->dir);
  for (int64_t round = 0; round < 5 && !f->kind->memory; round++) {
    append_numbers(f, round * 10, round * 10 + 9);
    CHECK_INT_EQ(del_one(f, round * 10 + 4), 0);
    CHECK_INT_EQ(log_sync(f->log, &f->loop), 0);
    CHECK(fixture_reopen(f));
    if (round % 2 == 0) CHECK(fixture_reopen(f));
    CHECK(memcmp(id, flume_log_id(f->log), 16) == 0);
    CHECK_INT_EQ(flume_log_since(f->log), round * 10 + 9);
    for (int64_t seq = 0; seq < (round + 1) * 10; seq++) {
      char text[24];
      snprintf(text, sizeof text, "%lld", (long long)seq);
      if (seq % 10 == 4) CHECK_INT_EQ(get_code(f, seq), FLUME_EDELETED);
      else CHECK(is_text(f, seq, text));
    }
  }
}

static int count_segment(void *arg, const char *name) {
  *(int *)arg += strstr(name, ".flume") != NULL;
  return 0;
}

static int count_segments(struct fixture *f) {
  int count = 0;
  MUST(flume_io_posix.list(NULL, f->dir, count_segment, &count) == 0);
  return count;
}

static void check_both_ways(struct fixture *f, int64_t count) {
  for (int reverse = 0; reverse < 2; reverse++) {
    struct flume_range range = reverse ? backwards() : everything();
    struct flume_stream *stream = stream_new(f, &range);
    struct flume_record record;
    int64_t seen = 0;
    while (flume_stream_next(stream, &record, &f->err) == 1) {
      int64_t seq = reverse ? count - 1 - seen : seen;
      bool good = record.seq == seq && payload_is(record.data, record.len, (uint64_t)seq + 1);
      flume_record_release(&record);
      seen++;
      if (!CHECK(good)) break;
    }
    CHECK_INT_EQ(seen, count);
    flume_stream_close(stream);
  }
}

EACH_LOG(many_segments) {
  const int64_t count = 2000;
  uint8_t bytes[64];
  for (int64_t seq = 0; seq < count; seq++) {
    struct flume_slice record = slice(bytes, (size_t)seq % sizeof bytes);
    payload_fill(bytes, record.len, (uint64_t)seq + 1);
    int64_t got = -1;
    CHECK_INT_EQ(flume_log_append_wait(f->log, &record, 1, &got, &f->err), 0);
    CHECK_INT_EQ(got, seq);
  }
  check_both_ways(f, count);
  if (f->kind->memory) return;
  if (f->kind->segment_bytes == 300) CHECK(count_segments(f) > 400);
  CHECK(fixture_reopen(f));
  check_both_ways(f, count);
  uint64_t state = 1;
  for (int i = 0; i < 500; i++) {
    int64_t seq = random_below(&state, (uint32_t)count);
    struct flume_record record;
    REQUIRE(flume_log_get(f->log, seq, &record, &f->err) == 0);
    CHECK(payload_is(record.data, record.len, (uint64_t)seq + 1));
    flume_record_release(&record);
  }
}

/* The offsets of sealed segments take so much room that some are dropped and loaded again. */
TEST(offsets_of_sealed_segments_are_dropped) {
  enum { BATCH = 1 << 20, BATCHES = 7 };
  static struct fixture f;
  fixture_init(&f, &kinds[1]);
  f.options.segment_bytes = 8u << 20;
  fixture_open(&f);
  struct flume_slice *records = calloc(BATCH, sizeof *records);
  MUST(records != NULL);
  for (int64_t i = 0; i < BATCHES; i++) {
    char text[8];
    snprintf(text, sizeof text, "%d", (int)i);
    for (int k = 0; k < BATCH; k++) records[k] = slice(text, (size_t)(k % 1000 == 0));
    int64_t seq = -1;
    CHECK_INT_EQ(flume_log_append_wait(f.log, records, BATCH, &seq, &f.err), 0);
    CHECK_INT_EQ(seq, (i + 1) * BATCH - 1);
  }
  free(records);
  CHECK_INT_EQ(count_segments(&f), BATCHES);
  struct flume_record held;
  REQUIRE(flume_log_get(f.log, 1000, &held, &f.err) == 0);
  for (int round = 0; round < 2; round++) {
    for (int64_t i = 0; i < 4 * BATCHES; i++) {
      int64_t segment = (i * 5) % BATCHES;
      char text[8];
      snprintf(text, sizeof text, "%d", (int)segment);
      CHECK(is_text(&f, segment * BATCH + 2000, text));
      CHECK(is_text(&f, segment * BATCH + 2001, ""));
    }
    CHECK(atomic_load(&f.faults.files) <= BATCHES + 1);
    if (round == 0) CHECK(fixture_reopen(&f));
  }
  CHECK(held.len == 1 && held.data[0] == '0');
  flume_record_release(&held);
  fixture_fini(&f);
}

/* --- Sync modes ----------------------------------------------------------------------------------------------- */

TEST(interval_syncs_under_steady_appends) {
  static struct fixture f;
  fixture_init(&f, &kinds[1]);
  f.options.sync = FLUME_SYNC_INTERVAL;
  f.options.interval_ms = 2;
  fixture_open(&f);
  faults_arm(&f.faults, FAULT_NONE, 0, 0);
  uint64_t start = uv_hrtime();
  int64_t count = 0;
  while (atomic_load(&f.faults.calls[FAULT_SYNC]) < 3 && uv_hrtime() - start < 60000000000u) {
    CHECK_INT_EQ(append_text(&f, "steady"), count++);
  }
  CHECK(atomic_load(&f.faults.calls[FAULT_SYNC]) >= 3);
  fixture_fini(&f);
}

static uint64_t clock_ns;

static uint64_t clock_read(void *ctx) {
  (void)ctx;
  return clock_ns;
}

/* An append every millisecond, and the loop never runs: no record waits longer than the interval for its sync. */
TEST(interval_syncs_without_the_loop) {
  static struct fixture f;
  fixture_init(&f, &kinds[1]);
  f.options.sync = FLUME_SYNC_INTERVAL;
  f.options.interval_ms = 10;
  f.faults.io.hrtime_ns = clock_read;
  clock_ns = 1000000000;
  fixture_open(&f);
  faults_arm(&f.faults, FAULT_NONE, 0, 0);
  int syncs = 0, waiting_ms = 0;
  for (int64_t i = 0; i < 200; i++) {
    CHECK_INT_EQ(append_wait_text(&f, "steady"), i);
    int now = atomic_load(&f.faults.calls[FAULT_SYNC]);
    waiting_ms = now > syncs ? 0 : waiting_ms + 1;
    CHECK(waiting_ms <= 11);
    if (now > syncs) CHECK_INT_EQ(f.log->durable_seq, i);
    syncs = now;
    clock_ns += 1000000;
  }
  CHECK(syncs >= 17 && syncs <= 20);
  fixture_fini(&f);
}

TEST(interval_syncs_what_came_last) {
  static struct fixture f;
  fixture_init(&f, &kinds[1]);
  f.options.sync = FLUME_SYNC_INTERVAL;
  f.options.interval_ms = 1;
  fixture_open(&f);
  faults_arm(&f.faults, FAULT_NONE, 0, 0);
  CHECK_INT_EQ(append_wait_text(&f, "zero"), 0);
  loop_drain(&f.loop);
  CHECK_INT_EQ(atomic_load(&f.faults.calls[FAULT_SYNC]), 1);
  loop_drain(&f.loop);
  CHECK_INT_EQ(atomic_load(&f.faults.calls[FAULT_SYNC]), 1);
  fixture_fini(&f);
}

EACH_LOG(syncs_by_mode) {
  faults_arm(&f->faults, FAULT_NONE, 0, 0);
  CHECK_INT_EQ(append_wait_text(f, "zero"), 0);
  bool always = !f->kind->memory && f->kind->sync == FLUME_SYNC_ALWAYS;
  CHECK_INT_EQ(atomic_load(&f->faults.calls[FAULT_SYNC]), always);
  CHECK_INT_EQ(log_sync(f->log, &f->loop), 0);
  CHECK_INT_EQ(atomic_load(&f->faults.calls[FAULT_SYNC]), always + !f->kind->memory);
}

/* A delete that outlives its record would hit the next one with that seq. */
TEST(a_delete_is_not_on_disk_before_its_record) {
  static struct fixture f;
  fixture_init(&f, &kinds[1]);
  f.options.sync = FLUME_SYNC_OS;
  fixture_open(&f);
  CHECK_INT_EQ(append_wait_text(&f, "zero"), 0);
  faults_arm(&f.faults, FAULT_NONE, 0, 0);
  CHECK_INT_EQ(del_one(&f, 0), 0);
  CHECK_INT_EQ(atomic_load(&f.faults.calls[FAULT_SYNC]), 2);
  fixture_fini(&f);
}

/* All that wait share one trip to the disk. */
TEST(group_commit) {
  static struct fixture f;
  struct answer answers[100] = {{.calls = 0}};
  fixture_init(&f, &kinds[1]);
  fixture_open(&f);
  faults_arm(&f.faults, FAULT_NONE, 0, 0);
  struct flume_slice record = slice_text("one of many");
  for (int i = 0; i < 100; i++) {
    CHECK_INT_EQ(flume_log_append(f.log, &answers[i].req, &record, 1, on_answer, NULL), 0);
  }
  answer_wait(&f.loop, &answers[99]);
  for (int i = 0; i < 100; i++) CHECK_INT_EQ(answers[i].seq, i);
  CHECK_INT_EQ(atomic_load(&f.faults.calls[FAULT_SYNC]), 2);
  fixture_fini(&f);
}

/* Deletes that wait share one trip as well, in every sync mode: one sync for the records, one for the deletes. */
EACH_LOG(deletes_are_committed_in_groups) {
  struct answer answers[100] = {{.calls = 0}};
  for (int64_t i = 0; i < 102; i++) CHECK_INT_EQ(append_wait_text(f, "one of many"), i);
  faults_arm(&f->faults, FAULT_NONE, 0, 0);
  for (int64_t i = 0; i < 100; i++) {
    int64_t seqs[] = {i, 99 - i, i}; /* each again and again, in no order */
    CHECK_INT_EQ(flume_log_del(f->log, &answers[i].req, seqs, 3, on_answer, NULL), 0);
    CHECK_INT_EQ(answers[i].calls, 0);
  }
  for (int i = 0; i < 100; i++) {
    answer_wait(&f->loop, &answers[i]);
    CHECK_INT_EQ(answers[i].status, 0);
  }
  CHECK(atomic_load(&f->faults.calls[FAULT_SYNC]) <= 5);
  for (int64_t i = 0; i < 102; i++) CHECK(i < 100 ? get_code(f, i) == FLUME_EDELETED : is_text(f, i, "one of many"));
  CHECK_INT_EQ(f->log->deletions.value, 100);
}

/* Appends and deletes by turns are two commits, and each callback has what was asked for. */
TEST(deletes_between_appends_are_committed_in_groups) {
  enum { COUNT = 100 };
  static struct fixture f;
  struct answer appends[COUNT] = {{.calls = 0}}, deletes[COUNT] = {{.calls = 0}};
  fixture_init(&f, &kinds[1]);
  fixture_open(&f);
  for (int64_t i = 0; i < COUNT; i++) CHECK_INT_EQ(append_wait_text(&f, "old"), i);
  faults_arm(&f.faults, FAULT_NONE, 0, 0);
  struct flume_slice record = slice_text("new");
  for (int64_t i = 0; i < COUNT; i++) {
    CHECK_INT_EQ(flume_log_append(f.log, &appends[i].req, &record, 1, on_answer, NULL), 0);
    CHECK_INT_EQ(flume_log_del(f.log, &deletes[i].req, &i, 1, on_answer, NULL), 0);
  }
  for (int i = 0; i < COUNT; i++) {
    answer_wait(&f.loop, &appends[i]);
    answer_wait(&f.loop, &deletes[i]);
    CHECK_INT_EQ(appends[i].seq, COUNT + i);
    CHECK_INT_EQ(deletes[i].status, 0);
  }
  CHECK(atomic_load(&f.faults.calls[FAULT_SYNC]) <= 6);
  CHECK(fixture_reopen(&f));
  for (int64_t i = 0; i < COUNT; i++) CHECK(get_code(&f, i) == FLUME_EDELETED && is_text(&f, COUNT + i, "new"));
  fixture_fini(&f);
}
