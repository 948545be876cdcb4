/* Prints the last records of a log, by default 10:   ./tail data 3
 *
 * The log is opened for reading, so another process may write to it. */
#include <flume.h>
#include <stdio.h>
#include <stdlib.h>

/* Prints the records of the range; returns 0 or an error. */
static int print_range(struct flume_log *log, const struct flume_range *range, struct flume_err *err) {
  struct flume_stream *stream;
  struct flume_record record;
  int rv = flume_stream_open(&stream, log, range, err);
  if (rv != 0) return rv;
  while ((rv = flume_stream_peek(stream, &record, err)) == 1) { /* borrowed until the next call: nothing to release */
    printf("%lld\t%.*s\n", (long long)record.seq, (int)record.len, (const char *)record.data);
  }
  flume_stream_close(stream);
  return rv;
}

int main(int argc, char **argv) {
  struct flume_log_options options = {.readonly = true};
  struct flume_range range;
  struct flume_log *log;
  struct flume_err err;
  uv_loop_t loop;
  if (argc < 2) return fprintf(stderr, "usage: tail DIR [COUNT]\n"), 2;
  uv_loop_init(&loop);
  int rv = flume_log_open(&log, &loop, argv[1], &options, &err);
  if (rv != 0) {
    fprintf(stderr, "tail: %s\n", err.msg);
    return 1;
  }
  flume_range_init(&range);
  range.first = flume_log_since(log) + 1 - (argc > 2 ? atoll(argv[2]) : 10);
  if (range.first < 0) range.first = 0;
  rv = print_range(log, &range, &err);
  if (rv != 0) fprintf(stderr, "tail: %s\n", err.msg);
  flume_log_close(log, NULL, NULL);
  uv_run(&loop, UV_RUN_DEFAULT);
  uv_loop_close(&loop);
  return rv == 0 ? 0 : 1;
}
