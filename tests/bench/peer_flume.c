/* flume's file log through its public header. */
#include "bench.h"

#define WINDOW 32 /* appends on their way at once: while some are written, the next are taken in */

struct feed {
  struct flume_log *log;
  const struct bench_job *job;
  size_t next; /* record to append */
  unsigned pending;
  bool done;
  struct flume_append reqs[WINDOW];
};

static struct flume_log *store_open(uv_loop_t *loop, const struct bench_job *job, enum flume_sync sync) {
  struct flume_log_options options = {.sync = sync};
  struct flume_log *log;
  struct flume_err err;
  if (flume_log_open(&log, loop, job->dir, &options, &err) != 0) bench_die("flume: %s", err.msg);
  return log;
}

static void store_close(uv_loop_t *loop, struct flume_log *log) {
  flume_log_close(log, NULL, NULL);
  uv_run(loop, UV_RUN_DEFAULT);
  if (uv_loop_close(loop) != 0) bench_die("flume: handles are left in the loop");
}

static void on_sync(struct flume_append *req, int status, int64_t seq, const struct flume_err *err) {
  struct feed *feed = req->data;
  (void)seq;
  if (status != 0) bench_die("flume: %s", err->msg);
  feed->done = true;
}

static void feed_next(struct feed *feed, struct flume_append *req);

static void on_append(struct flume_append *req, int status, int64_t seq, const struct flume_err *err) {
  struct feed *feed = req->data;
  (void)seq;
  if (status != 0) bench_die("flume: %s", err->msg);
  feed->pending--;
  feed_next(feed, req);
}

static void feed_next(struct feed *feed, struct flume_append *req) {
  const struct bench_job *job = feed->job;
  struct flume_err err;
  int rv = 0;
  if (feed->next < job->count) {
    size_t count = job->count - feed->next < job->batch ? job->count - feed->next : job->batch;
    rv = flume_log_append(feed->log, req, job->data->records + feed->next, count, on_append, &err);
    feed->next += count;
    feed->pending++;
  } else if (feed->pending == 0) {
    rv = flume_log_sync(feed->log, req, on_sync, &err);
  }
  if (rv != 0) bench_die("flume: %s", err.msg);
}

static void append_by_callback(uv_loop_t *loop, struct flume_log *log, const struct bench_job *job) {
  struct feed feed = {.log = log, .job = job};
  for (size_t i = 0; i < WINDOW && feed.next < job->count; i++) {
    feed.reqs[i].data = &feed;
    feed_next(&feed, &feed.reqs[i]);
  }
  while (!feed.done) uv_run(loop, UV_RUN_ONCE);
}

static void append_waiting(struct flume_log *log, const struct bench_job *job) {
  struct flume_err err;
  int64_t seq;
  for (size_t first = 0; first < job->count; first += job->batch) {
    size_t count = job->count - first < job->batch ? job->count - first : job->batch;
    int rv = flume_log_append_wait(log, job->data->records + first, count, &seq, &err);
    if (rv != 0) bench_die("flume: %s", err.msg);
  }
}

static uint64_t flume_append_all(const struct bench_job *job) {
  bool at_end = job->durable == BENCH_DURABLE_END;
  uv_loop_t loop;
  uv_loop_init(&loop);
  struct flume_log *log = store_open(&loop, job, at_end ? FLUME_SYNC_OS : FLUME_SYNC_ALWAYS);
  uint64_t start = bench_now_ns();
  if (at_end) append_by_callback(&loop, log, job);
  else append_waiting(log, job);
  uint64_t time_ns = bench_now_ns() - start;
  store_close(&loop, log);
  return time_ns;
}

static uint64_t flume_scan(const struct bench_job *job, struct bench_tally *tally) {
  struct flume_range range;
  struct flume_stream *stream;
  struct flume_record record;
  struct flume_err err;
  uv_loop_t loop;
  uv_loop_init(&loop);
  struct flume_log *log = store_open(&loop, job, FLUME_SYNC_ALWAYS);
  flume_range_init(&range);
  uint64_t start = bench_now_ns();
  if (flume_stream_open(&stream, log, &range, &err) != 0) bench_die("flume: %s", err.msg);
  int rv;
  while ((rv = flume_stream_peek(stream, &record, &err)) == 1) bench_tally_add(tally, record.data, record.len);
  if (rv != 0) bench_die("flume: %s", err.msg);
  uint64_t time_ns = bench_now_ns() - start;
  flume_stream_close(stream);
  store_close(&loop, log);
  return time_ns;
}

static void get_one(struct flume_log *log, int64_t seq, struct bench_tally *tally) {
  struct flume_record record;
  struct flume_err err;
  if (flume_log_get(log, seq, &record, &err) != 0) bench_die("flume: %s", err.msg);
  bench_tally_add(tally, record.data, record.len);
  flume_record_release(&record);
}

static uint64_t flume_get_all(const struct bench_job *job, struct bench_tally *tally) {
  uv_loop_t loop;
  uv_loop_init(&loop);
  struct flume_log *log = store_open(&loop, job, FLUME_SYNC_ALWAYS);
  uint64_t start = bench_now_ns();
  for (size_t i = 0; i < job->picks_count; i++) get_one(log, job->picks[i], tally);
  uint64_t time_ns = bench_now_ns() - start;
  store_close(&loop, log);
  return time_ns;
}

static uint64_t flume_open_last(const struct bench_job *job, struct bench_tally *tally) {
  uv_loop_t loop;
  uint64_t start = bench_now_ns();
  uv_loop_init(&loop);
  struct flume_log *log = store_open(&loop, job, FLUME_SYNC_ALWAYS);
  get_one(log, flume_log_since(log), tally);
  uint64_t time_ns = bench_now_ns() - start;
  store_close(&loop, log);
  return time_ns;
}

const struct bench_peer bench_flume = {
    .name = "flume", .append = flume_append_all, .scan = flume_scan, .get = flume_get_all, .open = flume_open_last};
