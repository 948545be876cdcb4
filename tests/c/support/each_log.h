/* Tests that run over every kind of log: in memory, in a file, in many small segments, and without syncs.
 *
 * EACH_LOG(id) begins a test as TEST(id) does, and gets a fixture with an open log. */
#ifndef FLUME_TEST_EACH_LOG_H
#define FLUME_TEST_EACH_LOG_H

#include "support.h"

struct kind {
  const char *name;
  bool memory;
  enum flume_sync sync;
  uint64_t segment_bytes;
};

static const struct kind kinds[] = {
    {.name = "memory", .memory = true},
    {.name = "file"},
    {.name = "segments", .segment_bytes = 300},
    {.name = "os", .sync = FLUME_SYNC_OS, .segment_bytes = 4096},
};

struct fixture {
  const struct kind *kind;
  uv_loop_t loop;
  char root[TEST_PATH_MAX];
  char dir[TEST_PATH_MAX + 8];
  struct flume_log_options options;
  struct faults faults;
  struct flume_log *log; /* NULL while closed */
  struct flume_err err;
};

static inline void fixture_open(struct fixture *f) {
  int rv = f->kind->memory ? flume_log_open_memory(&f->log, &f->loop, &f->options, &f->err)
                           : flume_log_open(&f->log, &f->loop, f->dir, &f->options, &f->err);
  if (rv != 0) printf("%s\n", f->err.msg);
  MUST(rv == 0);
}

static inline void fixture_close(struct fixture *f) {
  log_close_wait(f->log, &f->loop);
  f->log = NULL;
}

/* Closes and opens the log again. False for a log in memory, which would be lost: nothing is done. */
static inline bool fixture_reopen(struct fixture *f) {
  if (f->kind->memory) return false;
  fixture_close(f);
  fixture_open(f);
  return true;
}

static inline void fixture_init(struct fixture *f, const struct kind *kind) {
  memset(f, 0, sizeof *f);
  f->kind = kind;
  MUST(uv_loop_init(&f->loop) == 0);
  temp_dir(f->root);
  snprintf(f->dir, sizeof f->dir, "%s/a/log", f->root);
  faults_init(&f->faults);
  f->options = (struct flume_log_options){
      .sync = kind->sync, .segment_bytes = kind->segment_bytes, .max_record_bytes = 32u << 20, .io = &f->faults.io};
}

static inline void fixture_fini(struct fixture *f) {
  if (f->log != NULL) fixture_close(f);
  loop_end(&f->loop);
  CHECK_INT_EQ(atomic_load(&f->faults.files), 0);
  CHECK_INT_EQ(atomic_load(&f->faults.allocations), 0);
  remove_dir(f->root);
}

static inline void on_kind(const struct kind *kind, void (*run)(struct fixture *f)) {
  static struct fixture f;
  fixture_init(&f, kind);
  fixture_open(&f);
  run(&f);
  fixture_fini(&f);
}

#define ON_KIND(id, i)      \
  TEST(id##_on_##i) {       \
    on_kind(&kinds[i], id); \
  }

#define EACH_LOG(id)                 \
  static void id(struct fixture *f); \
  ON_KIND(id, 0)                     \
  ON_KIND(id, 1)                     \
  ON_KIND(id, 2)                     \
  ON_KIND(id, 3)                     \
  static void id(struct fixture *f)

/* --- Helpers ------------------------------------------------------------------------------------------------------ */

/* The seq, or the negative code. */
static inline int64_t append_text(struct fixture *f, const char *text) {
  struct flume_slice record = slice_text(text);
  int64_t seq = -1;
  int rv = log_append(f->log, &f->loop, &record, 1, &seq);
  return rv == 0 ? seq : rv;
}

static inline int64_t append_wait_text(struct fixture *f, const char *text) {
  struct flume_slice record = slice_text(text);
  int64_t seq = -1;
  int rv = flume_log_append_wait(f->log, &record, 1, &seq, &f->err);
  return rv == 0 ? seq : rv;
}

static inline void append_numbers(struct fixture *f, int64_t from, int64_t to) {
  for (int64_t i = from; i <= to; i++) {
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)i);
    CHECK_INT_EQ(append_wait_text(f, text), i);
  }
}

static inline int del_one(struct fixture *f, int64_t seq) {
  return log_del(f->log, &f->loop, &seq, 1);
}

/* Whether record seq exists and has this text. */
static inline bool is_text(struct fixture *f, int64_t seq, const char *text) {
  struct flume_record record;
  int rv = flume_log_get(f->log, seq, &record, &f->err);
  if (rv != 0) return false;
  bool same = record.seq == seq && record.len == strlen(text) && memcmp(record.data, text, record.len) == 0;
  flume_record_release(&record);
  return same;
}

static inline int get_code(struct fixture *f, int64_t seq) {
  struct flume_record record = {0};
  int rv = flume_log_get(f->log, seq, &record, &f->err);
  if (rv == 0) flume_record_release(&record);
  else CHECK_INT_EQ(f->err.code, rv);
  return rv;
}

/* The seqs that the stream gives now, such as "0 1 2", and then "." at the end, "..." when it waits, or the error's
 * name. */
static inline const char *rest_of(struct flume_stream *stream) {
  static char text[4096];
  size_t len = 0;
  struct flume_record record;
  int rv;
  text[0] = '\0';
  while ((rv = flume_stream_next(stream, &record, NULL)) == 1 && len < sizeof text - 64) {
    len += (size_t)snprintf(text + len, 24, "%lld ", (long long)record.seq);
    flume_record_release(&record);
  }
  snprintf(text + len, 32, "%s", rv == 0 ? "." : rv == FLUME_EAGAIN ? "..." : flume_err_name(rv));
  return text;
}

static inline struct flume_stream *stream_new(struct fixture *f, const struct flume_range *range) {
  struct flume_stream *stream = NULL;
  MUST(flume_stream_open(&stream, f->log, range, &f->err) == 0);
  return stream;
}

static inline const char *all_of(struct fixture *f, const struct flume_range *range) {
  struct flume_stream *stream = stream_new(f, range);
  const char *text = rest_of(stream);
  flume_stream_close(stream);
  return text;
}

static inline struct flume_range everything(void) {
  struct flume_range range;
  flume_range_init(&range);
  return range;
}

static inline struct flume_range backwards(void) {
  struct flume_range range = everything();
  range.reverse = true;
  return range;
}

static inline struct flume_range living(bool old) {
  struct flume_range range = everything();
  range.live = true;
  range.old = old;
  return range;
}

#endif
