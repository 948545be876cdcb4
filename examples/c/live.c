/* On one loop: appends that don't wait, and a live stream of the appended records.   ./live data
 *
 * A request (here struct flume_append) belongs to the caller, who keeps it until its callback. A callback never runs
 * from inside the call that asked for it. */
#include <flume.h>
#include <stdio.h>
#include <string.h>

#define RECORDS 3

struct example {
  struct flume_log *log;
  struct flume_stream *stream;
  struct flume_observer observer;
  struct flume_append appends[RECORDS];
  int seen;
};

static void finish(struct example *self) {
  flume_observer_stop(&self->observer);
  flume_stream_close(self->stream);
  flume_log_close(self->log, NULL, NULL);
}

/* Reads the stream to its present end. At FLUME_EAGAIN the stream waits, and the observer will call again. */
static void take(struct example *self) {
  struct flume_record record;
  struct flume_err err;
  int rv;
  while ((rv = flume_stream_next(self->stream, &record, &err)) == 1) {
    printf("record %lld: %.*s\n", (long long)record.seq, (int)record.len, (const char *)record.data);
    flume_record_release(&record);
    self->seen++;
  }
  if (rv != FLUME_EAGAIN) fprintf(stderr, "live: %s\n", err.msg);
  if (rv != FLUME_EAGAIN || self->seen == RECORDS) finish(self);
}

static void on_since(struct flume_observer *observer, int64_t value) {
  (void)value;
  take(observer->data);
}

static void on_append(struct flume_append *req, int status, int64_t seq, const struct flume_err *err) {
  (void)req;
  if (status == 0) printf("appended %lld\n", (long long)seq);
  else fprintf(stderr, "live: %s\n", err->msg);
}

static int start(struct example *self, struct flume_err *err) {
  static const char *const texts[RECORDS] = {"one", "two", "three"};
  struct flume_range range;
  flume_range_init(&range);
  range.live = true;
  range.old = false; /* without the records that are in the log already */
  int rv = flume_stream_open(&self->stream, self->log, &range, err);
  if (rv != 0) return rv;
  self->observer = (struct flume_observer){.cb = on_since, .data = self};
  flume_log_observe(self->log, &self->observer);
  for (int i = 0; i < RECORDS; i++) {
    struct flume_slice record = {.data = texts[i], .len = strlen(texts[i])};
    if ((rv = flume_log_append(self->log, &self->appends[i], &record, 1, on_append, err)) != 0) return rv;
  }
  return 0;
}

int main(int argc, char **argv) {
  struct example self = {0};
  struct flume_err err;
  uv_loop_t loop;
  if (argc != 2) return fprintf(stderr, "usage: live DIR\n"), 2;
  uv_loop_init(&loop);
  int rv = flume_log_open(&self.log, &loop, argv[1], NULL, &err);
  if (rv == 0) rv = start(&self, &err);
  if (rv != 0) {
    fprintf(stderr, "live: %s\n", err.msg);
    return 1;
  }
  uv_run(&loop, UV_RUN_DEFAULT);
  uv_loop_close(&loop);
  return self.seen == RECORDS ? 0 : 1;
}
