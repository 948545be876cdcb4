/* A read-only offset log that sees what its writer does: flume's, or a program that knows only the file. What several
 * processes make of it is in tests/spec/log/follow_spec.lua and tests/interop. */
#include <sys/stat.h>

#include "offset_fixture.h"
#include "follow_steps.h"

static int reader_try(struct flume_log_options options) {
  options.readonly = true;
  options.io = &reader_faults.io;
  return try_open(&reader, options);
}

static void reader_open(void) {
  if (!CHECK_INT_EQ(reader_try((struct flume_log_options){0}), 0)) printf("%s\n", err.msg);
  MUST(reader != NULL);
}

static struct flume_log *open_weak(enum flume_sync sync) {
  struct flume_log *log = NULL;
  MUST(try_open(&log, (struct flume_log_options){.sync = sync, .interval_ms = 3600000}) == 0);
  return log;
}

/* What another program does: it knows of the file alone. */
static void write_from(const struct file *file, size_t off, size_t end_off) {
  put_bytes(off, file->data + off, end_off - off);
}

static bool counts_deletions(int64_t count) {
  return reader->deletions.value >= count;
}

/* A writer on a loop of its own: the reader has no turn until the test lets it. */
static uv_loop_t own;

static struct flume_log *open_apart(void) {
  struct flume_log *log = NULL;
  struct flume_log_options options = {.io = &faults.io};
  MUST(uv_loop_init(&own) == 0 && flume_log_open_offset(&log, &own, path, &options, &err) == 0);
  return log;
}

static void close_apart(struct flume_log *log) {
  log_close_wait(log, &own);
  loop_end(&own);
}

/* --- Beside a writer of flume's --------------------------------------------------------------------------------- */

TEST(follows_from_an_empty_log) {
  reader_begin();
  CHECK_INT_EQ(reader_try((struct flume_log_options){0}), UV_ENOENT);
  struct flume_log *log = must_open();
  reader_open();
  CHECK_INT_EQ(flume_log_following(reader, NULL), FLUME_FOLLOWING_EVENTS);
  CHECK_INT_EQ(flume_log_following(log, NULL), FLUME_FOLLOWING_NONE);
  CHECK_INT_EQ(flume_log_since(reader), -1);
  for (int64_t i = 0; i < 50; i++) {
    CHECK_INT_EQ(append_record(log, "record"), i * 18);
    CHECK(comes(sees, i * 18));
    CHECK(reads(i * 18, "record"));
  }
  CHECK_INT_EQ(code_of(7), FLUME_ENOENT);
  close_log(log);
  reader_end();
}

TEST(goes_on_over_closings_and_openings) {
  reader_begin();
  struct flume_log *log = must_open();
  append_record(log, "0");
  reader_open();
  int64_t seq = 0;
  for (int i = 1; i < 60; i++) {
    if (i % 7 == 0) {
      close_log(log);
      log = i % 2 == 0 ? must_open() : open_weak(FLUME_SYNC_OS);
    }
    seq = append_record(log, "more");
    if (i % 3 == 0) CHECK(comes(sees, seq));
  }
  CHECK(comes(sees, seq));
  CHECK_INT_EQ(see(reader, false).count, 60);
  close_log(log);
  append_record(log = must_open(), "last");
  CHECK(comes(sees, seq + 16));
  CHECK(reads(seq + 16, "last"));
  close_log(log);
  reader_end();
}

TEST(is_streamed_live) {
  reader_begin();
  struct flume_log *log = must_open();
  reader_open();
  struct flume_stream *stream;
  struct flume_range range;
  struct flume_record record;
  flume_range_init(&range);
  range.live = true;
  MUST(flume_stream_open(&stream, reader, &range, NULL) == 0);
  CHECK_INT_EQ(flume_stream_peek(stream, &record, &err), FLUME_EAGAIN);
  for (int64_t i = 0; i < 3; i++) {
    append_record(log, "live");
    CHECK(comes(sees, i * 16));
    CHECK_INT_EQ(flume_stream_peek(stream, &record, &err), 1);
    CHECK_INT_EQ(record.seq, i * 16);
    CHECK_INT_EQ(flume_stream_peek(stream, &record, &err), FLUME_EAGAIN);
  }
  flume_stream_close(stream);
  close_log(log);
  reader_end();
}

TEST(takes_much_at_once_in_many_turns) {
  reader_begin();
  struct flume_log *log = must_open();
  reader_open();
  static uint8_t bytes[100000];
  memset(bytes, 'x', sizeof bytes);
  struct flume_slice records[10];
  for (int i = 0; i < 10; i++) records[i] = slice(bytes, sizeof bytes);
  int64_t seq = -1;
  for (int i = 0; i < 20; i++) CHECK_INT_EQ(flume_log_append_wait(log, records, 10, &seq, &err), 0);
  int turns = 0;
  for (int64_t since = 0; since < seq && turns < 10000; turns++) {
    uv_run(&loop, UV_RUN_ONCE);
    CHECK(flume_log_since(reader) - since <= 2000000);
    since = flume_log_since(reader);
  }
  CHECK_INT_EQ(flume_log_since(reader), seq);
  close_log(log);
  reader_end();
}

TEST(sees_deletes) {
  reader_begin();
  struct flume_log *log = must_open();
  for (int i = 0; i < 10; i++) append_record(log, "x");
  CHECK_INT_EQ(log_del(log, &loop, (int64_t[]){26}, 1), 0);
  reader_open();
  CHECK_INT_EQ(code_of(26), FLUME_EDELETED);
  CHECK_INT_EQ(reader->deletions.value, 1);
  CHECK_INT_EQ(log_del(log, &loop, (int64_t[]){117, 39}, 2), 0);
  CHECK(comes(counts_deletions, 3));
  CHECK_INT_EQ(code_of(39), FLUME_EDELETED);
  CHECK_INT_EQ(code_of(117), FLUME_EDELETED);
  CHECK_INT_EQ(code_of(104), 0);
  CHECK_INT_EQ(flume__log_deleted_count(reader, 116), 2);
  CHECK_INT_EQ(flume__log_deletion_at(reader, 1), 39);
  close_log(log);
  reader_end();
}

/* The next writer writes the file "deleted" anew when a crash has left it without an end frame. */
TEST(sees_deletes_in_a_file_that_was_rewritten) {
  reader_begin();
  struct flume_log *log = must_open();
  for (int i = 0; i < 10; i++) append_record(log, "x");
  for (int64_t seq = 0; seq < 52; seq += 13) CHECK_INT_EQ(log_del(log, &loop, &seq, 1), 0);
  reader_open();
  close_log(log);
  struct stat now;
  const char *name = path_in(root, "log.flume/deleted");
  MUST(stat(name, &now) == 0);
  CHECK_INT_EQ(truncate(name, now.st_size - FLUME_FRAME_HEADER_BYTES), 0);
  log = must_open();
  CHECK_INT_EQ(log_del(log, &loop, (int64_t[]){65}, 1), 0);
  CHECK(comes(counts_deletions, 5));
  CHECK_INT_EQ(code_of(65), FLUME_EDELETED);
  CHECK_INT_EQ(flume__log_deletion_at(reader, 4), 65);
  CHECK_INT_EQ(flume_log_following(reader, &err), FLUME_FOLLOWING_EVENTS);
  close_log(log);
  reader_end();
}

TEST(records_of_zeros_are_kept) {
  static const uint8_t zeros[600];
  reader_begin();
  struct flume_log *log = must_open();
  append_record(log, "first");
  reader_open();
  struct flume_slice records[] = {slice(zeros, 3), slice_text("between"), slice(zeros, 600), slice(zeros, 0)};
  int64_t seq = -1;
  CHECK_INT_EQ(flume_log_append_wait(log, records, 4, &seq, &err), 0);
  CHECK(comes(sees, seq));
  CHECK_INT_EQ(see(reader, false).count, 5);
  CHECK_INT_EQ(reader->deletions.value, 0);
  CHECK_INT_EQ(log_del(log, &loop, (int64_t[]){17}, 1), 0);
  CHECK(comes(counts_deletions, 1));
  CHECK_INT_EQ(see(reader, false).count, 4);
  close_log(log);
  reader_end();
}

TEST(sees_appends_of_the_weaker_sync_modes) {
  for (int mode = FLUME_SYNC_INTERVAL; mode <= FLUME_SYNC_OS; mode++) {
    reader_begin();
    struct flume_log *log = open_weak((enum flume_sync)mode);
    reader_open();
    for (int64_t i = 0; i < 40; i++) {
      append_record(log, "weak");
      if (i % 4 == 0) CHECK(comes(sees, i * 16));
    }
    CHECK(comes(sees, 39 * 16));
    CHECK_INT_EQ(log_del(log, &loop, (int64_t[]){80}, 1), 0);
    CHECK(comes(counts_deletions, 1));
    CHECK_INT_EQ(code_of(80), FLUME_EDELETED);
    close_log(log);
    reader_end();
  }
}

/* --- Not seeing what may be taken back -------------------------------------------------------------------------- */

TEST(does_not_show_unacknowledged_appends) {
  reader_begin();
  struct flume_log *log = must_open();
  append_record(log, "zero");
  reader_open();
  faults_arm(&faults, FAULT_SYNC, 1, UV_EIO);
  CHECK_INT_EQ(append_record(log, "one"), UV_EIO); /* it is in the file, whole */
  faults_arm(&faults, FAULT_NONE, 0, 0);
  run_for(20);
  CHECK_INT_EQ(flume_log_since(reader), 0);
  log_close_wait(reader, &loop);
  reader_open();
  CHECK_INT_EQ(flume_log_since(reader), 0);
  close_log(log);
  log = must_open();
  CHECK_INT_EQ(flume_log_since(log), 16); /* the next writer has synced it, and says so */
  CHECK(comes(sees, 16));
  CHECK(reads(16, "one"));
  close_log(log);
  reader_end();
}

TEST(does_not_show_unacknowledged_deletes) {
  reader_begin();
  struct flume_log *log = must_open();
  append_record(log, "zero");
  append_record(log, "one");
  CHECK_INT_EQ(log_del(log, &loop, (int64_t[]){0}, 1), 0);
  reader_open();
  faults_arm(&faults, FAULT_SYNC, 1, UV_EIO);
  CHECK_INT_EQ(log_del(log, &loop, (int64_t[]){16}, 1), UV_EIO);
  faults_arm(&faults, FAULT_NONE, 0, 0);
  run_for(20);
  CHECK_INT_EQ(code_of(0), FLUME_EDELETED);
  CHECK_INT_EQ(code_of(16), 0);
  CHECK_INT_EQ(reader->deletions.value, 1);
  close_log(log);
  reader_end();
}

/* The reader comes upon it while another process overwrites it: a part is zeros, and "deleted" has it already. */
TEST(does_not_show_a_record_that_is_half_overwritten) {
  static uint8_t bytes[10000];
  reader_begin();
  memset(bytes, 'x', sizeof bytes);
  struct flume_log *log = must_open();
  struct flume_slice record = slice(bytes, sizeof bytes), like_one = slice("\0 is the first byte", 19);
  int64_t seq;
  CHECK_INT_EQ(flume_log_append_wait(log, &record, 1, &seq, &err), 0);
  CHECK_INT_EQ(flume_log_append_wait(log, &like_one, 1, &seq, &err), 0);
  reader_open();
  run_for(1);
  faults_arm(&faults, FAULT_WRITE, 6, UV_EIO); /* the frame, its end, the note; then 4096 bytes, and 4096 */
  CHECK_INT_EQ(log_del(log, &loop, (int64_t[]){0}, 1), UV_EIO);
  faults_arm(&faults, FAULT_NONE, 0, 0);
  struct flume_block *block;
  MUST(flume__log_plan(reader, 0, false, 1 << 20, &block, &err) == 0);
  CHECK_INT_EQ(flume_block_load(block, &err), 0);
  uint32_t len;
  CHECK(flume_block_get(block, 0, &len) == NULL);
  CHECK(flume_block_get(block, 1, &len) != NULL && len == 19);
  flume_block_unref(block);
  close_log(log);
  reader_end();
}

/* --- Beside a program that knows only the file ------------------------------------------------------------------ */

TEST(follows_another_program_and_creates_no_files) {
  static const uint32_t all_bits[] = {32, 48, 53};
  for (int i = 0; i < 3; i++) {
    struct file file;
    reader_begin();
    make_file(&file, all_bits[i]);
    put_bytes(0, "", 0);
    reader_open();
    for (int n = 0; n < file.count; n++) {
      size_t end_off = n + 1 < file.count ? file.starts[n + 1] : file.len;
      write_from(&file, file.starts[n], end_off);
      CHECK(comes(sees, (int64_t)file.starts[n]));
      CHECK_INT_EQ(see(reader, false).count, n + 1);
    }
    CHECK(access(path_in(root, "log.flume"), F_OK) != 0);
    reader_end();
  }
}

TEST(leaves_a_record_that_is_being_written_until_it_is_whole) {
  for (int bits = 32; bits < 54; bits += bits == 32 ? 16 : 5) {
    struct file file;
    reader_begin();
    make_file(&file, (uint32_t)bits);
    put_bytes(0, "", 0);
    reader_open();
    for (size_t off = 0; off < file.len; off += 7) {
      size_t end_off = off + 7 < file.len ? off + 7 : file.len;
      write_from(&file, off, end_off);
      run_for(1);
      CHECK(flume_log_since(reader) < (int64_t)end_off);
    }
    CHECK(comes(sees, (int64_t)file.starts[file.count - 1]));
    CHECK_INT_EQ(see(reader, false).count, file.count);
    CHECK_INT_EQ(flume_log_following(reader, NULL), FLUME_FOLLOWING_EVENTS);
    reader_end();
  }
}

/* It is none of the reader's to cut; the program that is opened next does, and writes others in its place. */
TEST(passes_over_a_torn_tail_until_it_is_cut) {
  struct file file, other = {.len = 0};
  uint8_t bytes[8192];
  reader_begin();
  make_file(&file, 32);
  write_bytes(file.data, file.len - 3);
  reader_open();
  CHECK_INT_EQ(see(reader, false).count, file.count - 1);
  run_for(5);
  CHECK_INT_EQ(read_bytes(bytes, sizeof bytes), file.len - 3);
  size_t end_off = file.starts[file.count - 1];
  other = file;
  other.len = end_off;
  other.count--;
  frame_text(&other, "in its place", 32);
  CHECK_INT_EQ(truncate(path, (off_t)end_off), 0);
  write_from(&other, end_off, other.len);
  CHECK(comes(sees, (int64_t)end_off));
  CHECK(reads((int64_t)end_off, "in its place"));
  reader_end();
}

TEST(syncs_records_without_a_watermark) {
  struct file file;
  reader_begin();
  make_file(&file, 32);
  write_bytes(file.data, file.starts[3]);
  faults_arm(&reader_faults, FAULT_SYNC, 1000000, UV_EIO);
  reader_open();
  CHECK_INT_EQ(atomic_load(&reader_faults.calls[FAULT_SYNC]), 1);
  faults_arm(&reader_faults, FAULT_SYNC, 1, UV_EROFS);
  write_from(&file, file.starts[3], file.starts[4]);
  CHECK(comes(sees, (int64_t)file.starts[3]));
  faults_arm(&reader_faults, FAULT_SYNC, 1, UV_EIO);
  write_from(&file, file.starts[4], file.starts[5]);
  check_lost(UV_EIO, (int64_t)file.starts[3]);
  reader_end();
}

TEST(a_new_record_of_zeros_was_deleted_by_the_other) {
  struct file file;
  reader_begin();
  make_file(&file, 32);
  memset(file.data + file.starts[2] + 4, 0, 40);
  write_bytes(file.data, file.starts[2]);
  reader_open();
  write_from(&file, file.starts[2], file.len);
  CHECK(comes(counts_deletions, 1));
  CHECK_INT_EQ(code_of((int64_t)file.starts[2]), FLUME_EDELETED);
  CHECK_INT_EQ(see(reader, false).count, file.count - 1);
  struct flume_log *log = must_open(); /* which finds it too, and puts it down */
  append_record(log, "more");
  CHECK(comes(sees, (int64_t)file.len));
  CHECK_INT_EQ(log_del(log, &loop, (int64_t[]){0}, 1), 0);
  CHECK(comes(counts_deletions, 2));
  CHECK_INT_EQ(flume__log_deletion_at(reader, 1), 0);
  close_log(log);
  reader_end();
}

/* What it overwrites of what was read before is gone for whoever reads it. */
TEST(a_record_that_the_other_overwrites_is_gone) {
  static const uint8_t zeros[40];
  struct file file;
  reader_begin();
  make_file(&file, 32);
  write_bytes(file.data, file.len);
  reader_open();
  put_bytes(file.starts[2] + 4, zeros, 40);
  CHECK_INT_EQ(code_of((int64_t)file.starts[2]), FLUME_EDELETED);
  CHECK_INT_EQ(see(reader, false).count, file.count - 1);
  reader_end();
}

TEST(both_write_in_turn) {
  struct file file;
  reader_begin();
  make_file(&file, 32);
  write_bytes(file.data, file.starts[2]);
  reader_open();
  struct flume_log *log = must_open();
  CHECK_INT_EQ(append_record(log, "flume's"), (int64_t)file.starts[2]);
  CHECK(comes(sees, (int64_t)file.starts[2]));
  close_log(log);
  struct file more = {.len = read_bytes(more.data, sizeof more.data)};
  frame_text(&more, "the other's", 32);
  write_from(&more, more.starts[0], more.len);
  CHECK(comes(sees, (int64_t)more.starts[0]));
  CHECK(reads((int64_t)more.starts[0], "the other's"));
  log = must_open();
  CHECK_INT_EQ(append_record(log, "flume's again"), (int64_t)more.len);
  CHECK(comes(sees, (int64_t)more.len));
  close_log(log);
  reader_end();
}

/* --- What has to end it ----------------------------------------------------------------------------------------- */

TEST(damage_in_acknowledged_records) {
  reader_begin();
  struct flume_log *log = must_open();
  append_record(log, "zero");
  reader_open();
  append_record(log, "one");
  put_bytes(16, "\1", 1);
  check_lost(FLUME_ECORRUPT, 0);
  CHECK(says("/log: byte 16: the log was acknowledged up to seq 16, but here"));
  CHECK(reads(0, "zero"));
  close_log(log);
  reader_end();
}

TEST(a_delete_that_was_acknowledged_is_not_there) {
  reader_begin();
  struct flume_log *log = open_apart();
  for (int i = 0; i < 3; i++) append_record(log, "x");
  reader_open();
  run_for(1);
  CHECK_INT_EQ(log_del(log, &own, (int64_t[]){13}, 1), 0);
  CHECK_INT_EQ(truncate(path_in(root, "log.flume/deleted"), 0), 0);
  check_lost(FLUME_ECORRUPT, 26);
  CHECK(says("/log.flume/deleted: byte 0: what was acknowledged is not there"));
  close_apart(log);
  reader_end();
}

TEST(damage_before_records_of_another_program) {
  struct file file;
  reader_begin();
  make_file(&file, 32);
  write_bytes(file.data, file.starts[2]);
  reader_open();
  file.data[file.starts[3] - 1] ^= 1;
  write_from(&file, file.starts[2], file.len);
  check_lost(FLUME_ECORRUPT, (int64_t)file.starts[1]);
  CHECK(says("the next good record is at byte"));
  reader_end();
}

TEST(shorter_than_it_was) {
  struct file file;
  reader_begin();
  make_file(&file, 32);
  write_bytes(file.data, file.len);
  reader_open();
  CHECK_INT_EQ(truncate(path, 10), 0);
  check_lost(FLUME_ECORRUPT, (int64_t)file.starts[file.count - 1]);
  CHECK(says("/log: byte 10: the file is shorter than what was read of it"));
  reader_end();
}

TEST(removed_and_replaced) {
  struct file file;
  reader_begin();
  make_file(&file, 32);
  write_bytes(file.data, file.len);
  reader_open();
  CHECK_INT_EQ(unlink(path), 0);
  check_lost(UV_ENOENT, (int64_t)file.starts[file.count - 1]);
  CHECK(says("removed"));
  CHECK_INT_EQ(see(reader, false).count, file.count);
  log_close_wait(reader, &loop);
  write_bytes(file.data, file.len);
  reader_open();
  write_file(path_in(root, "other"), file.data, file.len, file.len);
  CHECK_INT_EQ(rename(path_in(root, "other"), path), 0);
  check_lost(FLUME_ECORRUPT, (int64_t)file.starts[file.count - 1]);
  CHECK(says("/log: byte 0: the log was replaced by another"));
  reader_end();
}

TEST(files_beside_it_belong_to_another_log) {
  reader_begin();
  struct flume_log *log = must_open();
  append_record(log, "zero");
  reader_open();
  close_log(log);
  run_for(1);
  remove_files_beside();
  log = open_apart();
  append_record(log, "one");
  close_apart(log);
  check_lost(FLUME_ECORRUPT, 0);
  CHECK(says("replaced by another"));
  reader_end();
}

/* --- Beginning -------------------------------------------------------------------------------------------------- */

/* A writer appends while the reader opens the file: the note that it reads is behind what it measures, or before. */
static struct flume_log *busy;

static int64_t size_behind_appends(void *ctx, int file) {
  int64_t size = flume_io_posix.size(ctx, file);
  append_record(busy, "meanwhile");
  return size;
}

TEST(opened_while_a_writer_appends) {
  reader_begin();
  busy = must_open();
  append_record(busy, "zero");
  reader_faults.io.size = size_behind_appends;
  reader_open();
  reader_faults.io.size = faults.io.size;
  int64_t seq = append_record(busy, "last");
  CHECK(comes(sees, seq));
  close_log(busy);
  reader_end();
}

/* A writer comes between the reader's measuring and its reading: it cuts what a crash of another program has torn, so
 * that the file is shorter than it was; and it deletes, and goes again. */
static struct file torn;

static int64_t size_before_a_writer_cuts(void *ctx, int file) {
  int64_t size = flume_io_posix.size(ctx, file);
  if (size != (int64_t)torn.len) return size;
  struct flume_log *log = open_apart();
  append_record(log, "new");
  CHECK_INT_EQ(log_del(log, &own, (int64_t[]){0}, 1), 0);
  close_apart(log);
  return size;
}

TEST(opened_while_a_writer_cuts_a_torn_tail) {
  reader_begin();
  make_file(&torn, 32);
  torn.len = torn.starts[4] - 30;
  write_bytes(torn.data, torn.len);
  reader_faults.io.size = size_before_a_writer_cuts;
  reader_open();
  reader_faults.io.size = faults.io.size;
  CHECK_INT_EQ(flume_log_since(reader), torn.starts[3]);
  CHECK(reads((int64_t)torn.starts[3], "new"));
  CHECK_INT_EQ(code_of(0), FLUME_EDELETED);
  CHECK_INT_EQ(see(reader, false).count, 3);
  struct flume_log *log = must_open();
  int64_t seq = append_record(log, "newer");
  CHECK(comes(sees, seq));
  close_log(log);
  reader_end();
}

/* It may be the writer's doing, and is read again; but not for ever. */
TEST(opened_where_acknowledged_records_are_damaged) {
  reader_begin();
  struct flume_log *log = must_open();
  append_record(log, "zero");
  append_record(log, "one");
  put_bytes(16, "\1", 1);
  CHECK_INT_EQ(reader_try((struct flume_log_options){0}), FLUME_ECORRUPT);
  CHECK(says("/log: byte 16: the log was acknowledged up to seq 16, but here"));
  put_bytes(16, "\0", 1);
  reader_open();
  CHECK(reads(16, "one"));
  close_log(log);
  reader_end();
}

TEST(opened_beside_a_weak_writer) {
  reader_begin();
  struct flume_log *log = open_weak(FLUME_SYNC_OS);
  for (int i = 0; i < 5; i++) append_record(log, "weak");
  reader_open();
  CHECK_INT_EQ(flume_log_since(reader), 64);
  close_log(log);
  reader_end();
}

/* --- Without events --------------------------------------------------------------------------------------------- */

TEST(polls_where_there_are_no_file_events_and_as_often_as_asked) {
  reader_begin();
  struct flume_log *log = must_open();
  reader_faults.io.has_events = no_events;
  reader_open();
  CHECK_INT_EQ(flume_log_following(reader, &err), FLUME_FOLLOWING_POLL);
  CHECK(says("every 250 ms") && says("no space"));
  append_record(log, "polled");
  CHECK(comes(sees, 0));
  log_close_wait(reader, &loop);
  CHECK_INT_EQ(reader_try((struct flume_log_options){.poll_ms = 5}), 0);
  CHECK_INT_EQ(flume_log_following(reader, &err), FLUME_FOLLOWING_POLL);
  CHECK(says("every 5 ms") && says("asked for"));
  append_record(log, "polled");
  CHECK(comes(sees, 18));
  close_log(log);
  log_close_wait(reader, &loop);
  reader = NULL;
  CHECK_INT_EQ(try_open(&log, (struct flume_log_options){.poll_ms = 5}), FLUME_EINVAL);
  reader_end();
}

/* --- Costing nothing, leaving nothing --------------------------------------------------------------------------- */

static int calls_of_reader(void) {
  return atomic_load(&reader_faults.calls[FAULT_READ]) + atomic_load(&reader_faults.calls[FAULT_OPEN]) +
         atomic_load(&reader_faults.calls[FAULT_SIZE]);
}

TEST(does_nothing_while_nothing_happens) {
  reader_begin();
  struct flume_log *log = must_open();
  append_record(log, "x");
  faults_arm(&reader_faults, FAULT_READ, 1000000000, UV_EIO);
  reader_open();
  run_for(20);
  int before = calls_of_reader();
  run_for(300);
  CHECK_INT_EQ(calls_of_reader(), before);
  append_record(log, "y");
  CHECK(comes(sees, 13));
  CHECK(calls_of_reader() > before);
  close_log(log);
  reader_end();
}

static bool lost_or_sees(int64_t since) {
  return is_lost(0) || (sees(since) && counts_deletions(2));
}

/* Any call that fails, while opening or following, is an error and leaves nothing behind. */
static void fail_each(enum fault_op op, int code) {
  for (int nth = 1; nth < 400; nth++) {
    struct flume_slice records[] = {slice("\0\0", 2), slice_text("z")};
    int64_t seq = -1;
    reader_begin();
    struct flume_log *log = must_open();
    for (int i = 0; i < 5; i++) append_record(log, "x");
    CHECK_INT_EQ(log_del(log, &loop, (int64_t[]){13}, 1), 0);
    faults_arm(&reader_faults, op, nth, code);
    int rv = reader_try((struct flume_log_options){0});
    if (rv == 0) {
      for (int i = 0; i < 8; i++) append_record(log, "y");
      CHECK_INT_EQ(log_del(log, &loop, (int64_t[]){26}, 1), 0);
      CHECK_INT_EQ(flume_log_append_wait(log, records, 2, &seq, &err), 0);
      CHECK(comes(lost_or_sees, seq));
      if (is_lost(0)) CHECK_INT_EQ(err.code, code);
    } else {
      CHECK_INT_EQ(rv, code);
    }
    bool hit = fault_was_hit(&reader_faults);
    CHECK(hit || (rv == 0 && lost_or_sees(seq) && !is_lost(0)));
    close_log(log);
    if (rv != 0) reader = NULL;
    reader_end();
    if (test_failed) printf("call %d of %s fails with %s\n", nth, fault_names[op], flume_err_name(code));
    if (!hit || test_failed) return;
  }
  CHECK(false); /* so many calls are not made */
}

TEST(read_fails) { fail_each(FAULT_READ, UV_EIO); }
TEST(open_fails) { fail_each(FAULT_OPEN, UV_EMFILE); }
TEST(size_fails) { fail_each(FAULT_SIZE, UV_EIO); }
TEST(no_memory) { fail_each(FAULT_ALLOC, UV_ENOMEM); }

static bool is_lost_or_has(int64_t since) {
  return is_lost(0) || sees(since);
}

/* All of it is seen in one look: each of its allocations fails once. */
TEST(new_records_of_zeros_without_memory) {
  bool hit = true;
  for (int nth = 1; hit && nth < 100 && !test_failed; nth++) {
    struct flume_slice records[] = {slice("\0\0", 2), slice_text("z")};
    int64_t seq = -1;
    reader_begin();
    struct flume_log *log = must_open();
    append_record(log, "x");
    reader_open();
    run_for(1);
    CHECK_INT_EQ(flume_log_append_wait(log, records, 2, &seq, &err), 0);
    faults_arm(&reader_faults, FAULT_ALLOC, nth, UV_ENOMEM);
    CHECK(comes(is_lost_or_has, seq));
    hit = fault_was_hit(&reader_faults);
    CHECK_INT_EQ(is_lost(0), hit);
    if (hit) CHECK_INT_EQ(err.code, FLUME_ENOMEM);
    faults_arm(&reader_faults, FAULT_NONE, 0, 0);
    if (!hit) CHECK_INT_EQ(see(reader, false).count, 3);
    close_log(log);
    reader_end();
    if (test_failed) printf("allocation %d\n", nth);
  }
  CHECK(!hit);
}
