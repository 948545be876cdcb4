/* A read-only log finds that what its writer has acknowledged is not in the files, or can't be made safe. */
#include "follow_support.h"

/* A writer on a loop of its own: the reader has no turn until the test lets it. */
static uv_loop_t own;

static struct flume_log *open_writer(uint64_t segment_bytes) {
  struct flume_log *log;
  struct flume_log_options options = options_of(segment_bytes);
  MUST(uv_loop_init(&own) == 0 && flume_log_open(&log, &own, dir, &options, &err) == 0);
  return log;
}

static void close_writer(struct flume_log *log) {
  log_close_wait(log, &own);
  loop_end(&own);
}

TEST(acknowledged_deletes_are_cut_off) {
  reader_begin();
  struct flume_log *log = open_writer(0);
  append_record(log, "zero");
  append_record(log, "one");
  CHECK_INT_EQ(log_del(log, &own, (int64_t[]){0}, 1), 0);
  reader_open();
  uint64_t end_off = ((struct file_log *)log)->deletions.end_off;
  CHECK_INT_EQ(log_del(log, &own, (int64_t[]){1}, 1), 0);
  MUST(truncate(path_in(dir, "deleted"), (off_t)end_off) == 0);
  check_lost(FLUME_ECORRUPT, 1);
  CHECK(names_file_and_byte("deleted") && says("acknowledged"));
  close_writer(log);
  reader_end();
}

TEST(acknowledged_records_are_cut_off) {
  reader_begin();
  struct flume_log *log = open_writer(0);
  append_record(log, "zero");
  reader_open();
  uint64_t off = flume__file_active((struct file_log *)log)->end_off;
  append_record(log, "one");
  MUST(truncate(path_in(dir, segment_name(0)), (off_t)off) == 0);
  check_lost(FLUME_ECORRUPT, 0);
  CHECK(names_file_and_byte(segment_name(0)) && says("acknowledged up to seq 1"));
  CHECK(reads(0, "zero"));
  close_writer(log);
  reader_end();
}

/* What a dead writer left is not shown while it can't be synced. */
TEST(later_appends_of_a_dead_writer_are_synced) {
  reader_begin();
  make("1213", 0);
  struct image_file *file = last_segment(&made.crashed);
  image_put(&made.crashed, dir);
  MUST(file_exists(dir, file->name));
  write_file(path_in(dir, file->name), file->data, made.frames[1].end_off, made.frames[1].end_off);
  reader_open();
  CHECK_INT_EQ(flume_log_since(reader), 2);
  faults_arm(&reader_faults, FAULT_SYNC, 1, UV_EIO);
  write_file(path_in(dir, file->name), file->data, file->used, file->len);
  check_lost(UV_EIO, 2);
  CHECK(survives(reader, 2));
  reader_end();
}

/* A writer's note is behind what the reader has seen already, but all of that is there. */
TEST(a_watermark_that_is_behind) {
  reader_begin();
  struct flume_log *log = open_writer(0);
  for (int i = 0; i < 3; i++) append_record(log, "x");
  reader_open();
  CHECK_INT_EQ(flume_log_since(reader), 2);
  struct file_log *writer = (struct file_log *)log;
  writer->log.lock_file.watermark.since = 1;
  MUST(flume__watermark_tell(&writer->log.lock_file, writer->log.id, NULL) == 0);
  run_for(20);
  CHECK(!is_lost(0));
  CHECK_INT_EQ(flume_log_since(reader), 2);
  CHECK_INT_EQ(append_record(log, "more"), 3);
  CHECK(comes(sees, 3));
  close_writer(log);
  reader_end();
}

/* The deletes are looked at when a segment is opened that may have been compacted. */
TEST(deletes_that_cannot_be_read) {
  static const enum fault_op ops[] = {FAULT_OPEN, FAULT_READ, FAULT_SIZE};
  for (int i = 0; i < 3; i++) {
    bool hit = true;
    for (int nth = 1; hit && nth < 50 && !test_failed; nth++) {
      reader_begin();
      struct flume_log *log = open_writer(300);
      for (int k = 0; k < 40; k++) append_record(log, "x");
      close_writer(log);
      reader_open();
      log = open_writer(300);
      CHECK_INT_EQ(log_del(log, &own, (int64_t[]){3}, 1), 0);
      faults_arm(&reader_faults, ops[i], nth, UV_EIO);
      int rv = code_of(3);
      hit = fault_was_hit(&reader_faults);
      CHECK(rv == FLUME_EDELETED || rv == UV_EIO || rv == 0);
      CHECK(hit || rv == FLUME_EDELETED);
      faults_arm(&reader_faults, FAULT_NONE, 0, 0);
      CHECK_INT_EQ(code_of(3), FLUME_EDELETED);
      CHECK(reads(4, "x"));
      close_writer(log);
      reader_end();
    }
  }
}
