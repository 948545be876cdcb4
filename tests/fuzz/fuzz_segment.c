/* A segment of a killed writer or of a closed log, cut at any place, with changed and added bytes.
 *
 * - The log opens, or the error is ECORRUPT.
 * - Its records can be read in both directions, or the read fails with ECORRUPT.
 * - A log that opens for writing takes an append, and has the record after reopening.
 * - A log that was repaired is sound, and opens. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "flume.h"
#include "fuzz.h"
#include "log/file/segment.h"

static char dir[64];
static char path[128];

static void clean(void) {
  flume_io_remove_all(&flume_io_posix, dir);
}

static void make_dir(void) {
  if (dir[0] != '\0') return;
  strcpy(dir, access("/dev/shm", W_OK) == 0 ? "/dev/shm/flume-fuzz-XXXXXX" : "/tmp/flume-fuzz-XXXXXX");
  if (mkdtemp(dir) == NULL) abort();
  snprintf(path, sizeof path, "%s/%020d" FLUME_SEGMENT_SUFFIX, dir, 0);
  atexit(clean);
}

static void on_closed(void *data) {
  *(bool *)data = true;
}

static void close_log(struct flume_log *log, uv_loop_t *loop) {
  bool closed = false;
  flume_log_close(log, on_closed, &closed);
  while (!closed) uv_run(loop, UV_RUN_ONCE);
}

/* The segments before the edits. */
static struct {
  uint8_t data[4096];
  size_t len;
} templates[2];

static void keep_template(int i) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) abort();
  templates[i].len = fread(templates[i].data, 1, sizeof templates[i].data, file);
  fclose(file);
}

static void append(struct flume_log *log, const char *text, size_t count) {
  struct flume_slice records[4];
  struct flume_err err;
  int64_t seq;
  for (size_t i = 0; i < count; i++) records[i] = (struct flume_slice){text, strlen(text)};
  if (flume_log_append_wait(log, records, count, &seq, &err) != 0) abort();
}

static void make_templates(uv_loop_t *loop) {
  struct flume_log *log;
  struct flume_err err;
  for (int round = 0; round < 2; round++) { /* the second template has an index and an end frame in its middle */
    if (flume_log_open(&log, loop, dir, NULL, &err) != 0) abort();
    append(log, "one", 1);
    append(log, "", 3);
    append(log, "a longer record, with rFlm in it", 2);
    keep_template(0);
    close_log(log, loop);
    keep_template(1);
  }
}

/* Byte 0 of the input has the template and the number of edits, bytes 1 and 2 the place of the cut. The edits follow,
 * three bytes each: two for the offset, one for the mask. The rest is added at the end. */
static void write_segment(const uint8_t *input, size_t len) {
  uint8_t data[sizeof templates[0].data];
  size_t used = templates[0].len, edits = 0;
  if (len > 0) {
    int i = input[0] & 1;
    used = templates[i].len;
    memcpy(data, templates[i].data, used);
    edits = input[0] >> 4;
    input++, len--;
  } else {
    memcpy(data, templates[0].data, used);
  }
  if (len > 1) {
    size_t cut = (size_t)input[0] << 8 | input[1];
    if (cut > FLUME_SEGMENT_HEADER_BYTES && cut < used) used = cut;
    input += 2, len -= 2;
  }
  for (; edits > 0 && len >= 3; edits--, input += 3, len -= 3) {
    size_t off = ((size_t)input[0] << 8 | input[1]) % used;
    if (off >= FLUME_SEGMENT_HEADER_BYTES) data[off] ^= input[2];
  }
  FILE *file = fopen(path, "wb");
  if (file == NULL) abort();
  fwrite(data, 1, used, file);
  fwrite(input, 1, len, file);
  fclose(file);
}

static void read_all(struct flume_log *log, bool reverse) {
  struct flume_range range;
  struct flume_stream *stream;
  struct flume_record record;
  struct flume_err err;
  flume_range_init(&range);
  range.reverse = reverse;
  EXPECT(flume_stream_open(&stream, log, &range, &err) == 0);
  int rv;
  while ((rv = flume_stream_peek(stream, &record, &err)) == 1) continue;
  EXPECT(rv == 0 || rv == FLUME_ECORRUPT);
  flume_stream_close(stream);
}

static int remove_new(void *arg, const char *name) {
  (void)arg;
  char file[200];
  if (strncmp(name, "damaged-", 8) != 0 && strcmp(name, "deleted") != 0) return 0;
  snprintf(file, sizeof file, "%s/%s", dir, name);
  return strcmp(name, "deleted") == 0 ? unlink(file) : flume_io_remove_all(&flume_io_posix, file);
}

/* What a repair mends is sound. False when it can't be proven what was there. */
static bool mend(void) {
  struct flume_report report;
  struct flume_err err;
  int rv = flume_log_repair(dir, NULL, &report, &err);
  EXPECT(rv == 0 ? report.damages > 0 : rv == FLUME_ECORRUPT);
  flume_report_fini(&report);
  if (rv != 0) return false;
  EXPECT(flume_log_repair(dir, NULL, &report, &err) == 0);
  EXPECT(report.damages == 0);
  flume_report_fini(&report);
  return true;
}

static void try_log(uv_loop_t *loop) {
  struct flume_log *log;
  struct flume_err err;
  int rv = flume_log_open(&log, loop, dir, NULL, &err);
  if (rv != 0) {
    EXPECT(rv == FLUME_ECORRUPT);
    EXPECT(strstr(err.msg, "byte") != NULL);
    if (!mend()) return;
    EXPECT(flume_log_open(&log, loop, dir, NULL, &err) == 0);
  }
  read_all(log, false);
  read_all(log, true);
  struct flume_slice record = {"fuzz", 4};
  int64_t seq = -1;
  rv = flume_log_append_wait(log, &record, 1, &seq, &err);
  EXPECT(rv == 0 || rv == FLUME_ECORRUPT);
  close_log(log, loop);
  if (rv != 0) return;
  EXPECT(flume_log_open(&log, loop, dir, NULL, &err) == 0);
  EXPECT(flume_log_since(log) == seq);
  close_log(log, loop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  uv_loop_t loop;
  uv_loop_init(&loop);
  make_dir();
  if (templates[1].len == 0) make_templates(&loop);
  flume_io_posix.list(NULL, dir, remove_new, NULL);
  write_segment(data, len);
  try_log(&loop);
  uv_run(&loop, UV_RUN_DEFAULT);
  EXPECT(uv_loop_close(&loop) == 0);
  return 0;
}
