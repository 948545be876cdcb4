/* Logs for tests that damage them.
 *
 * A text builds a log: a digit appends a batch of as many records, d deletes the record in the middle, D the last
 * record, r closes the log and opens it again. Two images of the directory are kept: of the open log (the files after
 * a crash), and of the closed log. */
#ifndef FLUME_TEST_MADE_H
#define FLUME_TEST_MADE_H

#include "support.h"

#define RECORDS_MAX 64
#define HEADER_BYTES 64

struct made_record {
  uint64_t key;
  uint32_t len;
  bool deleted;
};

/* A data frame of the last segment. */
struct made_frame {
  uint64_t off;
  uint64_t end_off;
  int64_t first_seq;
  int64_t next_seq; /* of the record after the frame */
};

struct made {
  struct made_record records[RECORDS_MAX];
  int64_t count;
  struct made_frame frames[RECORDS_MAX];
  int frames_count;
  int64_t last_deleted; /* the seq of the last delete; -1: none */
  struct image crashed;
  struct image closed;
};

static uv_loop_t loop;
static struct faults faults;
static char root[TEST_PATH_MAX];
static char dir[TEST_PATH_MAX + 8];
static struct flume_err err;
static struct made made;

static inline struct flume_log_options options_of(uint64_t segment_bytes) {
  return (struct flume_log_options){.segment_bytes = segment_bytes, .io = &faults.io};
}

static inline void begin(void) {
  memset(&made, 0, sizeof made);
  made.last_deleted = -1;
  MUST(uv_loop_init(&loop) == 0);
  faults_init(&faults);
  temp_dir(root);
  snprintf(dir, sizeof dir, "%s/log", root);
}

static inline void end(void) {
  loop_end(&loop);
  CHECK_INT_EQ(atomic_load(&faults.files), 0);
  CHECK_INT_EQ(atomic_load(&faults.allocations), 0);
  image_free(&made.crashed);
  image_free(&made.closed);
  remove_dir(root);
}

/* Opens a log. After a failed open the loop is empty once it has run. */
static inline int try_open(struct flume_log **log, const struct flume_log_options *options) {
  err.code = 0;
  int rv = flume_log_open(log, &loop, dir, options, &err);
  if (rv != 0) {
    CHECK_INT_EQ(err.code, rv);
    loop_drain(&loop);
  }
  return rv;
}

static inline struct flume_log *must_open(uint64_t segment_bytes) {
  struct flume_log *log = NULL;
  struct flume_log_options options = options_of(segment_bytes);
  if (!CHECK_INT_EQ(try_open(&log, &options), 0)) printf("%s\n", err.msg);
  MUST(log != NULL);
  return log;
}

static inline int try_open_with(bool readonly, bool damaged) {
  struct flume_log *log = NULL;
  struct flume_log_options options = {.readonly = readonly, .damaged = damaged, .io = &faults.io};
  int rv = try_open(&log, &options);
  if (rv == 0) log_close_wait(log, &loop);
  return rv;
}

/* --- Making logs -------------------------------------------------------------------------------------------------- */

static const uint32_t made_lens[] = {40, 0, 1, 13, 90, 8, 0, 25};

static inline uint64_t made_key(int64_t seq) {
  return seq % 5 == 3 ? 0 : (uint64_t)seq + 1;
}

/* Fills in count slices for the next records; made_free frees them. */
static inline void made_next(struct flume_slice *records, int count) {
  for (int i = 0; i < count; i++) {
    int64_t seq = made.count + i;
    MUST(seq < RECORDS_MAX);
    made.records[seq] = (struct made_record){.key = made_key(seq), .len = made_lens[seq % 8]};
    records[i] = slice(payload_new(made.records[seq].len, made.records[seq].key), made.records[seq].len);
  }
}

static inline void made_free(struct flume_slice *records, int count) {
  for (int i = 0; i < count; i++) free((void *)records[i].data);
}

static inline void made_append(struct flume_log *log, int count) {
  struct flume_slice records[10];
  int64_t seq = -1;
  uint64_t off = flume__file_active((struct file_log *)log)->end_off;
  made_next(records, count);
  CHECK_INT_EQ(flume_log_append_wait(log, records, (size_t)count, &seq, &err), 0);
  made_free(records, count);
  made.count += count;
  CHECK_INT_EQ(seq, made.count - 1);
  const struct flume_segment *active = flume__file_active((struct file_log *)log);
  if (active->first_seq == made.count - count && made.frames_count > 0) {
    made.frames_count = 0;
    off = HEADER_BYTES;
  }
  made.frames[made.frames_count++] = (struct made_frame){off, active->end_off, made.count - count, made.count};
}

static inline void made_del(struct flume_log *log, int64_t seq) {
  CHECK_INT_EQ(log_del(log, &loop, &seq, 1), 0);
  made.records[seq].deleted = true;
  made.last_deleted = seq;
}

/* Builds the log at dir, and both images. */
static inline void make(const char *text, uint64_t segment_bytes) {
  struct flume_log *log = must_open(segment_bytes);
  for (; *text != '\0'; text++) {
    if (*text == 'd') made_del(log, made.count / 2);
    if (*text == 'D') made_del(log, made.count - 1);
    if (*text >= '1' && *text <= '9') made_append(log, *text - '0');
    if (*text == 'r') {
      log_close_wait(log, &loop);
      log = must_open(segment_bytes);
    }
  }
  image_take(&made.crashed, dir);
  log_close_wait(log, &loop);
  image_take(&made.closed, dir);
}

static inline struct image_file *last_segment(struct image *image) {
  int i = image->count - 1;
  while (i > 0 && strcmp(image->files[i].name, "deleted") == 0) i--;
  return &image->files[i];
}

/* --- Checking a damaged log --------------------------------------------------------------------------------------- */

static inline int64_t first_of_last_frame(void) {
  return made.frames_count > 0 ? made.frames[made.frames_count - 1].first_seq : made.count;
}

static inline bool names_file_and_byte(const char *name) {
  bool good = strstr(err.msg, name) != NULL && strstr(err.msg, "byte ") != NULL;
  if (!good) printf("the text is: %s\n", err.msg);
  return good;
}

/* The record is unchanged, or the error is ECORRUPT. */
static inline bool survives(struct flume_log *log, int64_t seq) {
  const struct made_record *expected = &made.records[seq];
  struct flume_record record;
  int rv = flume_log_get(log, seq, &record, &err);
  if (rv == FLUME_ECORRUPT) return CHECK(names_file_and_byte(".flume"));
  if (expected->deleted) return CHECK_INT_EQ(rv, FLUME_EDELETED);
  if (!CHECK_INT_EQ(rv, 0)) return false;
  bool good = record.seq == seq && record.len == expected->len && payload_is(record.data, record.len, expected->key);
  flume_record_release(&record);
  return CHECK(good);
}

/* A stream gives the unchanged records in order, up to the end or the first damage. */
static inline bool stream_survives(struct flume_log *log, int64_t since) {
  struct flume_stream *stream;
  struct flume_range range;
  struct flume_record record;
  flume_range_init(&range);
  MUST(flume_stream_open(&stream, log, &range, NULL) == 0);
  int64_t last = -1;
  int rv;
  bool good = true;
  while (good && (rv = flume_stream_peek(stream, &record, NULL)) == 1) {
    const struct made_record *expected = &made.records[record.seq];
    good = record.seq > last && record.len == expected->len && payload_is(record.data, record.len, expected->key);
    for (last++; good && last < record.seq; last++) good = made.records[last].deleted;
  }
  flume_stream_close(stream);
  if (!CHECK(good)) return false;
  if (rv == 0) {
    for (last++; good && last <= since; last++) good = made.records[last].deleted;
  }
  return CHECK(good) && CHECK(rv == 0 || rv == FLUME_ECORRUPT);
}

static inline bool all_survive(struct flume_log *log) {
  int64_t since = flume_log_since(log);
  bool good = CHECK(since < made.count);
  for (int64_t seq = 0; good && seq <= since; seq++) good = survives(log, seq);
  return good && stream_survives(log, since);
}

/* The log takes an append at its end, and has the record when it is opened again. Closes the log. */
static inline bool goes_on(struct flume_log *log) {
  struct flume_slice record = slice_text("more");
  int64_t since = flume_log_since(log), seq = -1;
  bool good = CHECK_INT_EQ(flume_log_append_wait(log, &record, 1, &seq, &err), 0) && CHECK_INT_EQ(seq, since + 1);
  log_close_wait(log, &loop);
  if (!good) return false;
  struct flume_log_options options = options_of(0);
  if (!CHECK_INT_EQ(try_open(&log, &options), 0)) return false;
  struct flume_record got;
  good = CHECK_INT_EQ(flume_log_since(log), seq) && CHECK_INT_EQ(flume_log_get(log, seq, &got, &err), 0);
  if (good) {
    good = CHECK(got.len == 4 && memcmp(got.data, "more", 4) == 0);
    flume_record_release(&got);
  }
  log_close_wait(log, &loop);
  return good;
}

#endif
