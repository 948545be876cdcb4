/* Offset logs for tests: on a real disk whose calls fail on demand, and files that are framed by hand. */
#ifndef FLUME_TEST_OFFSET_MADE_H
#define FLUME_TEST_OFFSET_MADE_H

#include "log/offset/offset_log.h"
#include "support.h"

#define RECORDS_MAX 64

static uv_loop_t loop;
static struct faults faults;
static char root[TEST_PATH_MAX];
static char path[TEST_PATH_MAX + 8];
static struct flume_err err;

static inline void begin(void) {
  MUST(uv_loop_init(&loop) == 0);
  faults_init(&faults);
  temp_dir(root);
  snprintf(path, sizeof path, "%s/log", root);
}

static inline void end(void) {
  loop_end(&loop);
  CHECK_INT_EQ(atomic_load(&faults.files), 0);
  CHECK_INT_EQ(atomic_load(&faults.allocations), 0);
  remove_dir(root);
}

/* Opens a log. After a failed open the loop is empty once it has run. */
static inline int try_open(struct flume_log **log, struct flume_log_options options) {
  if (options.io == NULL) options.io = &faults.io;
  err.code = 0;
  int rv = flume_log_open_offset(log, &loop, path, &options, &err);
  if (rv != 0) {
    CHECK_INT_EQ(err.code, rv);
    loop_drain(&loop);
  }
  return rv;
}

static inline struct flume_log *must_open(void) {
  struct flume_log *log = NULL;
  int rv = try_open(&log, (struct flume_log_options){0});
  if (!CHECK_INT_EQ(rv, 0)) printf("%s\n", err.msg);
  MUST(log != NULL);
  return log;
}

static inline void close_log(struct flume_log *log) {
  log_close_wait(log, &loop);
}

/* Removes flume's own files beside the log: it then looks as if another program had written it. */
static inline void remove_files_beside(void) {
  remove_dir(path_in(root, "log.flume"));
}

/* Every record of the log, and the status that ended the reading. */
struct seen {
  int64_t seqs[RECORDS_MAX];
  uint32_t lens[RECORDS_MAX];
  uint8_t first_bytes[RECORDS_MAX]; /* 0 for an empty record */
  int count;
  int status; /* 0 at the end */
};

static inline struct seen see(struct flume_log *log, bool reverse) {
  struct seen seen = {.count = 0};
  struct flume_stream *stream;
  struct flume_range range;
  struct flume_record record;
  flume_range_init(&range);
  range.reverse = reverse;
  MUST(flume_stream_open(&stream, log, &range, NULL) == 0);
  while ((seen.status = flume_stream_next(stream, &record, &err)) == 1) {
    MUST(seen.count < RECORDS_MAX);
    seen.seqs[seen.count] = record.seq;
    seen.lens[seen.count] = record.len;
    seen.first_bytes[seen.count++] = record.len > 0 ? record.data[0] : 0;
    flume_record_release(&record);
  }
  flume_stream_close(stream);
  return seen;
}

/* --- Files that are framed by hand -------------------------------------------------------------------------------- */

struct file {
  uint8_t data[8192];
  size_t len;
  size_t starts[RECORDS_MAX];
  int count;
};

static inline void put_be(struct file *file, uint64_t number, int bytes) {
  for (int i = bytes - 1; i >= 0; i--) file->data[file->len++] = (uint8_t)(number >> (8 * i));
}

static inline void frame(struct file *file, const void *data, size_t len, uint32_t bits) {
  MUST(file->len + len + 16 <= sizeof file->data && file->count < RECORDS_MAX);
  file->starts[file->count++] = file->len;
  put_be(file, len, 4);
  if (len > 0) memcpy(file->data + file->len, data, len);
  file->len += len;
  put_be(file, len, 4);
  int pointer_bytes = bits == 32 ? 4 : bits == 48 ? 6 : 8;
  put_be(file, file->len + (size_t)pointer_bytes, pointer_bytes);
}

static inline void frame_text(struct file *file, const char *text, uint32_t bits) {
  frame(file, text, strlen(text), bits);
}

static inline void write_bytes(const void *data, size_t len) {
  write_file(path, data, len, len);
}

/* Creates the file when it does not exist. */
static inline void put_bytes(size_t off, const void *data, size_t len) {
  int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  MUST(fd >= 0 && pwrite(fd, data, len, (off_t)off) == (ssize_t)len);
  close(fd);
}

static inline size_t read_bytes(uint8_t *data, size_t size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  MUST(fd >= 0);
  ssize_t len = read(fd, data, size);
  MUST(len >= 0);
  close(fd);
  return (size_t)len;
}

/* A file with records of all sizes. */
static inline void make_file(struct file *file, uint32_t bits) {
  *file = (struct file){.len = 0};
  char text[900];
  memset(text, 'x', sizeof text);
  static const size_t lens[] = {9, 1, 40, 700, 3, 2};
  for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
    text[0] = (char)('a' + i);
    frame(file, text, lens[i], bits);
  }
}

#endif
