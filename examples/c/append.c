/* Appends each line of standard input to a log as a record:   printf 'one\ntwo\n' | ./append data
 *
 * Lines that are read together are one batch: after a crash all of its records exist, or none. When a seq is printed,
 * the records up to it are on disk. */
#include <flume.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 1000

static char *lines[BATCH];
static struct flume_slice records[BATCH];

/* Reads up to BATCH lines and returns their number. */
static size_t read_lines(void) {
  size_t count = 0, cap = 0;
  char *line = NULL;
  ssize_t len;
  while (count < BATCH && (len = getline(&line, &cap, stdin)) >= 0) {
    if (len > 0 && line[len - 1] == '\n') len--;
    records[count] = (struct flume_slice){.data = line, .len = (size_t)len};
    lines[count++] = line;
    line = NULL;
  }
  free(line);
  return count;
}

int main(int argc, char **argv) {
  uv_loop_t loop;
  struct flume_log *log;
  struct flume_err err;
  int64_t seq = -1;
  int rv;
  size_t count;
  if (argc != 2) return fprintf(stderr, "usage: append DIR\n"), 2;
  uv_loop_init(&loop);
  if ((rv = flume_log_open(&log, &loop, argv[1], NULL, &err)) != 0) {
    fprintf(stderr, "append: %s\n", err.msg);
    return 1;
  }
  while (rv == 0 && (count = read_lines()) > 0) {
    rv = flume_log_append_wait(log, records, count, &seq, &err);
    if (rv == 0) printf("%lld\n", (long long)seq);
    while (count > 0) free(lines[--count]);
  }
  if (rv != 0) fprintf(stderr, "append: %s\n", err.msg);
  flume_log_close(log, NULL, NULL);
  uv_run(&loop, UV_RUN_DEFAULT); /* closing goes on in the loop */
  uv_loop_close(&loop);
  return rv == 0 ? 0 : 1;
}
