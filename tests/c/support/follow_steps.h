/* For tests of read-only logs of any kind that follow their writer. The writer is in the same process, so that the test
 * chooses each step. Include it after the fixture of the logs, which has loop, err, begin and end. */
#ifndef FLUME_TEST_WAITING_H
#define FLUME_TEST_WAITING_H

#include "support.h"

#define PATIENCE_MS 30000

static struct faults reader_faults;
static struct flume_log *reader;

static inline void reader_begin(void) {
  begin();
  faults_init(&reader_faults);
  reader = NULL;
}

static inline void reader_end(void) {
  if (reader != NULL) log_close_wait(reader, &loop);
  end();
  CHECK_INT_EQ(atomic_load(&reader_faults.files), 0);
  CHECK_INT_EQ(atomic_load(&reader_faults.allocations), 0);
}

static inline void on_patience(uv_timer_t *timer) {
  *(bool *)timer->data = true;
}

static inline void on_timer_closed(uv_handle_t *handle) {
  (void)handle; /* the handle is on the stack of the waiting function */
}

/* The timers below repeat: a single timer that is due before the loop polls would not wake it. */

/* Runs the loop until fn() is true; false after a time limit. */
static inline bool comes(bool (*fn)(int64_t), int64_t arg) {
  bool late = false;
  uv_timer_t timer;
  uv_timer_init(&loop, &timer);
  timer.data = &late;
  uv_timer_start(&timer, on_patience, PATIENCE_MS, PATIENCE_MS);
  while (!fn(arg) && !late) uv_run(&loop, UV_RUN_ONCE);
  uv_close((uv_handle_t *)&timer, on_timer_closed);
  uv_run(&loop, UV_RUN_NOWAIT);
  return fn(arg);
}

/* Runs the loop for a while; the test then checks that nothing happened. */
static inline void run_for(uint64_t ms) {
  bool over = false;
  uv_timer_t timer;
  uv_timer_init(&loop, &timer);
  timer.data = &over;
  uv_timer_start(&timer, on_patience, ms, ms);
  while (!over) uv_run(&loop, UV_RUN_ONCE);
  uv_close((uv_handle_t *)&timer, on_timer_closed);
  uv_run(&loop, UV_RUN_NOWAIT);
}

static inline bool sees(int64_t since) {
  return flume_log_since(reader) >= since;
}

static inline bool is_lost(int64_t arg) {
  (void)arg;
  return flume_log_following(reader, &err) == FLUME_FOLLOWING_LOST;
}

static inline bool says(const char *text) {
  bool good = strstr(err.msg, text) != NULL;
  if (!good) printf("the text is: %s\n", err.msg);
  return good;
}

/* Appends the writer's next record. */
static inline int64_t append_record(struct flume_log *log, const char *text) {
  struct flume_slice record = slice_text(text);
  int64_t seq = -1;
  int rv = flume_log_append_wait(log, &record, 1, &seq, &err);
  return rv == 0 ? seq : rv;
}

static inline bool reads(int64_t seq, const char *text) {
  struct flume_record record;
  int rv = flume_log_get(reader, seq, &record, &err);
  if (!CHECK_INT_EQ(rv, 0)) return false;
  bool same = record.len == strlen(text) && memcmp(record.data, text, record.len) == 0;
  flume_record_release(&record);
  return CHECK(same);
}

static inline int code_of(int64_t seq) {
  struct flume_record record;
  int rv = flume_log_get(reader, seq, &record, &err);
  if (rv == 0) flume_record_release(&record);
  return rv;
}

/* A live stream gives the records that exist, and then the error that ended the following. */
static inline void check_lost(int code, int64_t since) {
  CHECK(comes(is_lost, 0));
  CHECK_INT_EQ(err.code, code);
  struct flume_stream *stream;
  struct flume_range range;
  struct flume_record record;
  flume_range_init(&range);
  range.live = true;
  range.first = since + 1;
  MUST(flume_stream_open(&stream, reader, &range, NULL) == 0);
  struct flume_err why = {0};
  CHECK_INT_EQ(flume_stream_peek(stream, &record, &why), code);
  CHECK_STR_EQ(why.msg, err.msg);
  flume_stream_close(stream);
  CHECK_INT_EQ(flume_log_since(reader), since);
}

/* For io.has_events: there are no file events, as when the system has no free watches. */
static inline int no_events(void *ctx, const char *name) {
  (void)ctx;
  (void)name;
  return UV_ENOSPC;
}

#endif
