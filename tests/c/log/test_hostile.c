/* Files whose checksums are right and whose content is not: made by somebody who means harm, or by a flume that is
 * broken. Each field of each frame is given values that it can't have, with the checksums computed anew. Opening,
 * reading, checking, compacting and repairing such a log ends well or with an error; a record that is given out is the
 * one that was put in, as its own checksum covers its seq and length. */
#include "sim.h"
#include "support.h"

#define DIR "/log"
#define FRAMES_MAX 64

static uv_loop_t loop;
static struct flume_err err;
static const uint32_t lens[] = {40, 0, 1, 90, 8, 0, 25, 300, 5, 5, 0, 60};
static const int64_t count = sizeof lens / sizeof *lens;
static uint64_t tried, refused;

/* --- Making ---------------------------------------------------------------------------------------------------- */

static struct flume_log *open_log(struct sim *sim, uint64_t segment_bytes, bool readonly, bool damaged) {
  struct flume_log *log = NULL;
  struct flume_log_options options = {
      .readonly = readonly, .damaged = damaged, .segment_bytes = segment_bytes, .io = &sim->io};
  if (flume_log_open(&log, &loop, DIR, &options, &err) == 0) return log;
  loop_drain(&loop);
  return NULL;
}

static void append_next(struct flume_log *log, int64_t seq, int records) {
  struct flume_slice slices[4];
  for (int i = 0; i < records; i++) {
    slices[i] = slice(payload_new(lens[seq + i], (uint64_t)(seq + i) + 1), lens[seq + i]);
  }
  MUST(flume_log_append_wait(log, slices, (size_t)records, &seq, &err) == 0);
  for (int i = 0; i < records; i++) free((void *)slices[i].data);
}

/* Twelve records in batches of one to four; the log is closed and opened again in between, so that there are indexes, and
 * two records are deleted. */
static struct sim_fs *build(uint64_t segment_bytes, bool closed) {
  static const int batches[] = {1, 3, 2, 4, 2};
  struct sim sim;
  int64_t seq = 0;
  sim_init(&sim, sim_fs_new());
  sim.fs->never_crashes = true;
  struct flume_log *log = open_log(&sim, segment_bytes, false, false);
  for (int i = 0; i < 5; i++) {
    if (i == 2 || i == 4) {
      log_close_wait(log, &loop);
      log = open_log(&sim, segment_bytes, false, false);
    }
    append_next(log, seq, batches[i]);
    seq += batches[i];
    if (i == 1) MUST(log_del(log, &loop, (int64_t[]){2}, 1) == 0);
    if (i == 3) MUST(log_del(log, &loop, (int64_t[]){0, 7}, 2) == 0);
  }
  struct sim_fs *fs = closed ? NULL : sim_fs_copy(sim.fs);
  log_close_wait(log, &loop);
  if (closed) fs = sim_fs_copy(sim.fs);
  sim_fini(&sim);
  return fs;
}

/* --- Frames ---------------------------------------------------------------------------------------------------- */

struct place {
  int inode;
  struct flume_frame frame;
  struct flume_place at; /* log_id is set anew when it is used */
};

static uint8_t log_id[16];

static int find_frames(const struct sim_fs *fs, struct place *places) {
  int found = 0;
  for (int i = 0; i < fs->cached.count; i++) {
    const struct sim_name *name = &fs->cached.entries[i];
    const struct sim_bytes *bytes = &fs->inodes[name->inode]->cached;
    int64_t segment_seq = strcmp(name->name, "deleted") == 0 ? -1 : flume_segment_seq_of(name->name);
    if (segment_seq >= 0) memcpy(log_id, bytes->data + 24, sizeof log_id);
    for (size_t off = 0; off + FLUME_FRAME_HEADER_BYTES <= bytes->used; off++) {
      struct place place = {.inode = name->inode, .at = {log_id, segment_seq, off}};
      const char *why;
      if (flume_frame_get(bytes->data + off, &place.frame, &place.at, &why) != 0) continue;
      MUST(found < FRAMES_MAX);
      places[found++] = place;
    }
  }
  return found;
}

/* A body that begins with its checksum has one that is right. */
static void fix_body(uint8_t *body, const struct flume_frame *frame, size_t room) {
  if (frame->kind == FLUME_FRAME_DATA || frame->body_bytes < 4 || frame->body_bytes > room) return;
  flume_put_le32(body, flume_crc32c(0, body + 4, frame->body_bytes - 4));
}

enum field { KIND, FLAGS, COUNT, BODY_BYTES, FIRST_SEQ, DURABLE_OFF, BODY_AT_4, BODY_AT_8, BODY_AT_12, BODY_AT_16, FIELDS };

static const int64_t values[] = {0, 1, 2, 3, 4, 5, 7, 11, 12, 13, 64, 1000, 0x7fffffff, 0xffffffff, -1, INT64_MAX, INT64_MIN};

static void forge(struct sim_fs *fs, const struct place *place, enum field field, int64_t value) {
  struct sim_bytes *bytes = &fs->inodes[place->inode]->cached;
  struct flume_frame frame = place->frame;
  uint8_t *body = bytes->data + place->at.off + FLUME_FRAME_HEADER_BYTES;
  size_t room = bytes->used - (size_t)place->at.off - FLUME_FRAME_HEADER_BYTES;
  switch (field) {
    case KIND: frame.kind = (uint16_t)value; break;
    case FLAGS: frame.flags = (uint16_t)value; break;
    case COUNT: frame.count = (uint32_t)value; break;
    case BODY_BYTES: frame.body_bytes = (uint32_t)value; break;
    case FIRST_SEQ: frame.first_seq = value; break;
    case DURABLE_OFF: frame.durable_off = (uint64_t)value; break;
    default:
      if (room >= 20) flume_put_le32(body + 4 + 4 * (field - BODY_AT_4), (uint32_t)value);
      break;
  }
  fix_body(body, &frame, room);
  flume_frame_put(bytes->data + place->at.off, &frame, &place->at);
}

/* --- What comes of it ------------------------------------------------------------------------------------------ */

static bool is_expected(int rv) {
  return rv == 0 || rv == FLUME_ECORRUPT || rv == FLUME_EDELETED || rv == FLUME_EVERSION || rv == FLUME_ENOENT;
}

static void read_all(struct flume_log *log) {
  int64_t since = flume_log_since(log);
  for (int64_t seq = 0; seq <= since && seq < count; seq++) {
    struct flume_record record;
    int rv = flume_log_get(log, seq, &record, &err);
    CHECK(is_expected(rv));
    if (rv != 0) continue;
    CHECK(record.len == lens[seq] && payload_is(record.data, record.len, (uint64_t)seq + 1));
    flume_record_release(&record);
  }
  struct flume_stream *stream;
  struct flume_range range;
  struct flume_record record;
  flume_range_init(&range);
  range.reverse = true;
  MUST(flume_stream_open(&stream, log, &range, NULL) == 0);
  int rv;
  while ((rv = flume_stream_peek(stream, &record, NULL)) == 1) continue;
  CHECK(is_expected(rv));
  flume_stream_close(stream);
}

static void on_checked(struct flume_check *req, int status, const struct flume_err *why) {
  (void)why;
  *(int *)req->data = status;
}

static void check_it(struct flume_log *log) {
  int status = 1;
  struct flume_check req = {.data = &status};
  CHECK_INT_EQ(flume_log_check(log, NULL, &req, on_checked, &err), 0);
  while (status == 1) uv_run(&loop, UV_RUN_ONCE);
  CHECK(is_expected(status));
  if (status == 0) flume_report_fini(&req.report);
}

static void on_compacted(struct flume_compact *req, int status, const struct flume_err *why) {
  (void)why;
  *(int *)req->data = status;
}

static void compact_it(struct flume_log *log) {
  int status = 1;
  struct flume_compact req = {.data = &status};
  int rv = flume_log_compact(log, &req, on_compacted, &err);
  while (rv == 0 && status == 1) uv_run(&loop, UV_RUN_ONCE);
  CHECK(rv == FLUME_ECORRUPT || (rv == 0 && is_expected(status)));
}

static void try_writing(struct flume_log *log) {
  struct flume_slice record = slice_text("more");
  int64_t seq = -1;
  int rv = flume_log_append_wait(log, &record, 1, &seq, &err);
  CHECK(is_expected(rv));
  if (rv == 0) compact_it(log);
}

/* Takes fs over. */
static void try_with(struct sim_fs *fs, uint64_t segment_bytes, void (*use)(struct sim *sim, uint64_t segment_bytes)) {
  struct sim sim;
  sim_init(&sim, fs);
  use(&sim, segment_bytes);
  CHECK_INT_EQ(sim_open_files(&sim), 0);
  CHECK_INT_EQ(atomic_load(&sim.allocations), 0);
  sim_fini(&sim);
}

static void use_reading(struct sim *sim, uint64_t segment_bytes) {
  for (int damaged = 0; damaged < 2; damaged++) {
    struct flume_log *log = open_log(sim, segment_bytes, true, damaged == 1);
    if (log == NULL) {
      CHECK(is_expected(err.code));
      refused++;
      continue;
    }
    read_all(log);
    if (damaged == 1) check_it(log);
    log_close_wait(log, &loop);
  }
}

static void use_writing(struct sim *sim, uint64_t segment_bytes) {
  struct flume_log *log = open_log(sim, segment_bytes, false, false);
  if (log == NULL) return;
  read_all(log);
  try_writing(log);
  log_close_wait(log, &loop);
}

static void use_repair(struct sim *sim, uint64_t segment_bytes) {
  struct flume_report report = {0};
  int rv = flume_log_repair(DIR, &sim->io, &report, &err);
  CHECK(is_expected(rv));
  flume_report_fini(&report);
  if (rv == 0) use_writing(sim, segment_bytes);
}

static void forge_each(uint64_t segment_bytes, bool closed) {
  static struct place places[FRAMES_MAX];
  MUST(uv_loop_init(&loop) == 0);
  struct sim_fs *fs = build(segment_bytes, closed);
  int found = find_frames(fs, places);
  CHECK(found >= 8);
  for (int i = 0; i < found; i++) {
    for (int field = 0; field < FIELDS; field++) {
      for (size_t v = 0; v < sizeof values / sizeof *values && !test_failed; v++) {
        void (*const uses[])(struct sim *, uint64_t) = {use_reading, use_writing, use_repair};
        for (int use = 0; use < 3; use++) {
          struct sim_fs *forged = sim_fs_copy(fs);
          forge(forged, &places[i], (enum field)field, values[v]);
          try_with(forged, segment_bytes, uses[use]);
        }
        tried++;
        if (test_failed) {
          printf("frame %d of kind %d at byte %llu of %s: field %d is %lld\n", i, places[i].frame.kind,
                 (unsigned long long)places[i].at.off, sim_fs_name_of(fs, places[i].inode), field, (long long)values[v]);
        }
      }
    }
  }
  sim_fs_free(fs);
  loop_end(&loop);
}

TEST(a_crashed_log) { forge_each(0, false); }
TEST(a_closed_log) { forge_each(0, true); }
TEST(crashed_segments) { forge_each(500, false); }
TEST(closed_segments) { forge_each(500, true); }

TEST(total) {
  CHECK(refused > 0 && refused < 2 * tried);
  printf("%llu forged logs\n", (unsigned long long)tried);
}
