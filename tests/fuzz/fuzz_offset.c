/* A flumelog-offset file of some records in one of the three framings, with changed bytes, cut at any place.
 *
 * - The log opens, or the error is ECORRUPT and names a byte.
 * - Its records can be read forwards, backwards and one by one, with the same result.
 * - A log that opens for writing takes an append, and has the record after reopening.
 * - An import of the file ends. It ends, too, when the bytes are read as an async-append-only-log file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "flume.h"
#include "fuzz.h"
#include "import/log_import.h"

static char dir[64];
static char path[128];
static char beside[128];

static void clean(void) {
  flume_io_remove_all(&flume_io_posix, dir);
}

static void make_dir(void) {
  if (dir[0] != '\0') return;
  strcpy(dir, access("/dev/shm", W_OK) == 0 ? "/dev/shm/flume-fuzz-XXXXXX" : "/tmp/flume-fuzz-XXXXXX");
  if (mkdtemp(dir) == NULL) abort();
  snprintf(path, sizeof path, "%s/log", dir);
  snprintf(beside, sizeof beside, "%s/log.flume", dir);
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

static void write_file(const uint8_t *data, size_t len) {
  FILE *file = fopen(path, "wb");
  if (file == NULL) abort();
  fwrite(data, 1, len, file);
  fclose(file);
}

/* Byte 0 has the framing and the number of edits, byte 1 the number of records. The lengths of the records, the edits
 * and the cut follow. The rest of the input fills the records, and is written behind them. */
static void make_file(const uint8_t *input, size_t len) {
  static const enum flume_offset_bits all[] = {FLUME_OFFSET_32, FLUME_OFFSET_48, FLUME_OFFSET_53};
  static uint8_t data[16384];
  uint8_t *out = data;
  if (len < 2) {
    write_file(input, len);
    return;
  }
  enum flume_offset_bits bits = all[input[0] % 3];
  size_t edits = input[0] >> 5, count = input[1] % 16;
  input += 2, len -= 2;
  for (size_t i = 0; i < count && len > 0; i++) {
    size_t bytes = (size_t)input[0] * (i % 4 == 3 ? 4 : 1);
    struct flume_slice record = {input + 1, bytes < len - 1 ? bytes : len - 1};
    out = flume_offset_put(out, record, (uint64_t)(out - data), bits);
    input++, len--;
  }
  size_t used = (size_t)(out - data);
  for (; edits > 0 && len >= 3 && used > 0; edits--, input += 3, len -= 3) {
    data[((size_t)input[0] << 8 | input[1]) % used] ^= input[2];
  }
  if (len >= 2 && used > 0 && input[0] % 2 == 0) used = ((size_t)input[0] << 8 | input[1]) % used;
  size_t more = len < 64 ? len : 64;
  memcpy(data + used, input, more);
  write_file(data, used + more);
}

static int read_all(struct flume_log *log, bool reverse) {
  struct flume_range range;
  struct flume_stream *stream;
  struct flume_record record;
  struct flume_err err;
  int count = 0;
  flume_range_init(&range);
  range.reverse = reverse;
  EXPECT(flume_stream_open(&stream, log, &range, &err) == 0);
  while (flume_stream_next(stream, &record, &err) == 1) {
    struct flume_record again;
    EXPECT(flume_log_get(log, record.seq, &again, &err) == 0);
    EXPECT(again.len == record.len && memcmp(again.data, record.data, record.len) == 0);
    flume_record_release(&again);
    flume_record_release(&record);
    count++;
  }
  flume_stream_close(stream);
  return count;
}

/* Imports the file to its end. */
static void import_all(enum flume_import_format format) {
  struct flume_import import;
  struct flume_err err;
  struct flume_buf out;
  if (flume_import_open(&import, &flume_io_posix, format, path, 0, &err) != 0) return;
  flume_buf_init(&out, &flume_io_posix);
  int rv = 1, turns = 0;
  while ((rv = flume_import_next_json(&import, &out, &err)) != 0) {
    EXPECT(rv == 1 || rv == FLUME_ECORRUPT || rv == FLUME_EINVAL);
    turns++;
    EXPECT(turns <= 20000);
    out.len = 0;
  }
  flume_buf_fini(&out);
  flume_import_close(&import);
}

static void try_log(uv_loop_t *loop) {
  struct flume_log *log;
  struct flume_err err;
  if (flume_log_open_offset(&log, loop, path, NULL, &err) != 0) {
    EXPECT(err.code == FLUME_ECORRUPT && strstr(err.msg, "byte") != NULL);
    return;
  }
  int count = read_all(log, false);
  EXPECT(read_all(log, true) == count);
  struct flume_slice record = {"fuzz", 4};
  int64_t seq = -1;
  EXPECT(flume_log_append_wait(log, &record, 1, &seq, &err) == 0);
  close_log(log, loop);
  EXPECT(flume_log_open_offset(&log, loop, path, NULL, &err) == 0);
  EXPECT(flume_log_since(log) == seq && read_all(log, false) == count + 1);
  close_log(log, loop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  uv_loop_t loop;
  uv_loop_init(&loop);
  make_dir();
  flume_io_remove_all(&flume_io_posix, beside);
  make_file(data, len);
  import_all(FLUME_IMPORT_OFFSET);
  import_all(FLUME_IMPORT_ASYNC);
  try_log(&loop);
  uv_run(&loop, UV_RUN_DEFAULT);
  EXPECT(uv_loop_close(&loop) == 0);
  return 0;
}
