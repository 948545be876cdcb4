/* A read-only log that sees what its writer does: here both in one process, so that each step can be chosen. What
 * several processes make of it is in tests/spec/log/follow_spec.lua. */
#include <dirent.h>

#include "compact_support.h"
#include "follow_support.h"

/* --- Seeing --------------------------------------------------------------------------------------------------- */

TEST(follows_from_an_empty_log) {
  reader_begin();
  CHECK_INT_EQ(reader_try(0), FLUME_ENOENT);
  struct flume_log *log = must_open(0);
  reader_open();
  CHECK_INT_EQ(flume_log_following(reader, NULL), FLUME_FOLLOWING_EVENTS);
  CHECK_INT_EQ(flume_log_following(log, NULL), FLUME_FOLLOWING_NONE);
  CHECK_INT_EQ(flume_log_since(reader), -1);
  for (int64_t i = 0; i < 50; i++) {
    CHECK_INT_EQ(append_record(log, "record"), i);
    CHECK(comes(sees, i));
    CHECK(reads(i, "record"));
  }
  log_close_wait(log, &loop);
  reader_end();
}

static void on_count(struct flume_observer *observer, int64_t value) {
  (void)value;
  ++*(int *)observer->data;
}

TEST(its_since_can_be_observed_and_streamed) {
  reader_begin();
  struct flume_log *log = must_open(0);
  reader_open();
  int calls = 0;
  struct flume_observer observer = {.cb = on_count, .data = &calls};
  flume_log_observe(reader, &observer);
  struct flume_stream *stream;
  struct flume_range range;
  struct flume_record record;
  flume_range_init(&range);
  range.live = true;
  MUST(flume_stream_open(&stream, reader, &range, NULL) == 0);
  CHECK_INT_EQ(flume_stream_peek(stream, &record, &err), FLUME_EAGAIN);
  for (int64_t i = 0; i < 3; i++) {
    append_record(log, "live");
    CHECK(comes(sees, i));
    CHECK_INT_EQ(flume_stream_peek(stream, &record, &err), 1);
    CHECK_INT_EQ(record.seq, i);
    CHECK_INT_EQ(flume_stream_peek(stream, &record, &err), FLUME_EAGAIN);
  }
  run_for(1);
  CHECK_INT_EQ(calls, 3);
  flume_observer_stop(&observer);
  flume_stream_close(stream);
  log_close_wait(log, &loop);
  reader_end();
}

TEST(follows_over_segments_and_reopenings) {
  reader_begin();
  struct flume_log *log = must_open(300);
  append_record(log, "0");
  reader_open();
  char text[32];
  for (int64_t i = 1; i < 120; i++) {
    if (i % 7 == 0) {
      log_close_wait(log, &loop);
      log = must_open(300);
    }
    snprintf(text, sizeof text, "%lld", (long long)i);
    CHECK_INT_EQ(append_record(log, text), i);
    if (i % 3 == 0) CHECK(comes(sees, i));
  }
  CHECK(comes(sees, 119));
  CHECK(((struct file_log *)reader)->segments.count > 10);
  for (int64_t i = 0; i < 120; i++) {
    snprintf(text, sizeof text, "%lld", (long long)i);
    CHECK(reads(i, text));
  }
  log_close_wait(log, &loop);
  reader_end();
}

TEST(goes_on_behind_a_log_that_was_closed) {
  reader_begin();
  struct flume_log *log = must_open(0);
  append_record(log, "zero");
  log_close_wait(log, &loop);
  reader_open();
  CHECK_INT_EQ(flume_log_since(reader), 0);
  log = must_open(0);
  append_record(log, "one");
  CHECK(comes(sees, 1));
  CHECK(reads(0, "zero") && reads(1, "one"));
  log_close_wait(log, &loop);
  reader_end();
}

TEST(takes_much_at_once_in_many_turns) {
  reader_begin();
  struct flume_log *log = must_open(8u << 20);
  reader_open();
  static uint8_t bytes[100000];
  struct flume_slice records[10];
  for (int i = 0; i < 10; i++) records[i] = slice(bytes, sizeof bytes);
  int64_t seq = -1;
  for (int i = 0; i < 20; i++) CHECK_INT_EQ(flume_log_append_wait(log, records, 10, &seq, &err), 0);
  int turns = 0;
  for (int64_t since = -1; since < 199 && turns < 10000; turns++) {
    uv_run(&loop, UV_RUN_ONCE);
    CHECK(flume_log_since(reader) - since <= 20);
    since = flume_log_since(reader);
  }
  CHECK_INT_EQ(flume_log_since(reader), 199);
  log_close_wait(log, &loop);
  reader_end();
}

TEST(sees_deletes) {
  reader_begin();
  struct flume_log *log = must_open(0);
  for (int i = 0; i < 10; i++) append_record(log, "x");
  CHECK_INT_EQ(log_del(log, &loop, (int64_t[]){2}, 1), 0);
  reader_open();
  CHECK_INT_EQ(code_of(2), FLUME_EDELETED);
  int64_t before = flume__log_deleted_count(reader, 9);
  CHECK_INT_EQ(log_del(log, &loop, (int64_t[]){3, 9}, 2), 0);
  append_record(log, "after");
  CHECK(comes(sees, 10));
  CHECK_INT_EQ(code_of(3), FLUME_EDELETED);
  CHECK_INT_EQ(code_of(9), FLUME_EDELETED);
  CHECK_INT_EQ(code_of(8), 0);
  CHECK_INT_EQ(flume__log_deleted_count(reader, 9) - before, 2);
  CHECK_INT_EQ(reader->deletions.value, log->deletions.value);
  log_close_wait(log, &loop);
  reader_end();
}

TEST(sees_appends_of_the_weaker_sync_modes) {
  for (int mode = FLUME_SYNC_INTERVAL; mode <= FLUME_SYNC_OS; mode++) {
    reader_begin();
    struct flume_log *log = NULL;
    struct flume_log_options options = options_of(400);
    options.sync = (enum flume_sync)mode;
    options.interval_ms = 3600000;
    MUST(try_open(&log, &options) == 0);
    reader_open();
    for (int64_t i = 0; i < 40; i++) {
      append_record(log, "weak");
      if (i % 4 == 0) CHECK(comes(sees, i));
    }
    CHECK(comes(sees, 39));
    CHECK_INT_EQ(log_del(log, &loop, (int64_t[]){5}, 1), 0);
    append_record(log, "weak");
    CHECK(comes(sees, 40));
    CHECK_INT_EQ(code_of(5), FLUME_EDELETED);
    log_close_wait(log, &loop);
    reader_end();
  }
}

/* The writer cuts the zeros behind its last frame while the reader believes that the file is as long as it was. */
static int64_t size_before_the_cut(void *ctx, int file) {
  int64_t size = flume_io_posix.size(ctx, file);
  return size > 0 ? size + 100000 : size;
}

TEST(file_that_is_cut_while_it_is_read) {
  reader_begin();
  struct flume_log_options options = options_of(2000);
  struct flume_log *log = must_open(2000);
  append_record(log, "zero");
  reader_open();
  log_close_wait(log, &loop);
  reader_faults.io.size = size_before_the_cut;
  for (int64_t i = 1; i < 60; i++) {
    uv_loop_t own; /* the reader has no turn until the zeros are cut */
    MUST(uv_loop_init(&own) == 0);
    MUST(flume_log_open(&log, &own, dir, &options, &err) == 0);
    CHECK_INT_EQ(append_record(log, "x"), i);
    log_close_wait(log, &own);
    loop_end(&own);
    REQUIRE(comes(sees, i));
  }
  CHECK(((struct file_log *)reader)->segments.count > 1);
  reader_end();
}

/* --- Not seeing what may be taken back -------------------------------------------------------------------------- */

TEST(does_not_show_unacknowledged_appends) {
  reader_begin();
  struct flume_log *log = must_open(0);
  append_record(log, "zero");
  reader_open();
  faults_arm(&faults, FAULT_SYNC, 1, UV_EIO);
  CHECK_INT_EQ(append_record(log, "one"), UV_EIO); /* it is in the file, whole */
  faults_arm(&faults, FAULT_NONE, 0, 0);
  run_for(20);
  CHECK_INT_EQ(flume_log_since(reader), 0);
  log_close_wait(log, &loop);
  log = must_open(0);
  CHECK_INT_EQ(flume_log_since(log), 1); /* the next writer has synced it, and says so */
  CHECK(comes(sees, 1));
  CHECK(reads(1, "one"));
  log_close_wait(log, &loop);
  reader_end();
}

TEST(does_not_show_unacknowledged_deletes) {
  reader_begin();
  struct flume_log *log = must_open(0);
  append_record(log, "zero");
  CHECK_INT_EQ(log_del(log, &loop, (int64_t[]){0}, 1), 0);
  append_record(log, "one");
  reader_open();
  faults_arm(&faults, FAULT_SYNC, 1, UV_EIO);
  CHECK_INT_EQ(log_del(log, &loop, (int64_t[]){1}, 1), UV_EIO);
  faults_arm(&faults, FAULT_NONE, 0, 0);
  run_for(20);
  CHECK_INT_EQ(code_of(0), FLUME_EDELETED);
  CHECK_INT_EQ(code_of(1), 0);
  log_close_wait(log, &loop);
  reader_end();
}

/* Without a writer whole frames count, but are synced before they are shown. */
TEST(syncs_appends_of_a_dead_writer) {
  reader_begin();
  make("1213", 0);
  image_put(&made.crashed, dir);
  faults_arm(&reader_faults, FAULT_SYNC, 1000000, UV_EIO);
  reader_open();
  CHECK_INT_EQ(flume_log_since(reader), 6);
  CHECK_INT_EQ(atomic_load(&reader_faults.calls[FAULT_SYNC]), 1);
  log_close_wait(reader, &loop);
  reader = NULL;
  faults_arm(&reader_faults, FAULT_SYNC, 1, UV_EIO);
  CHECK_INT_EQ(reader_try(0), UV_EIO);
  faults_arm(&reader_faults, FAULT_SYNC, 1, UV_EROFS);
  CHECK_INT_EQ(reader_try(0), 0);
  CHECK_INT_EQ(flume_log_since(reader), 6);
  reader_end();
}

TEST(passes_over_a_torn_tail_until_it_is_cut) {
  reader_begin();
  make("1213", 0);
  struct image_file *file = last_segment(&made.crashed);
  size_t torn = made.frames[3].end_off - 1;
  image_put(&made.crashed, dir);
  write_file(path_in(dir, file->name), file->data, torn, torn);
  reader_open();
  CHECK_INT_EQ(flume_log_since(reader), 3);
  struct flume_log *log = must_open(0);
  CHECK_INT_EQ(append_record(log, "in its place"), 4);
  CHECK(comes(sees, 4));
  CHECK(reads(4, "in its place"));
  log_close_wait(log, &loop);
  reader_end();
}

/* --- What has to end it ----------------------------------------------------------------------------------------- */

TEST(damage_in_acknowledged_records) {
  reader_begin();
  struct flume_log *log = must_open(0);
  append_record(log, "zero");
  reader_open();
  append_record(log, "one");
  uint64_t off = flume__file_active((struct file_log *)log)->end_off - 1;
  append_record(log, "two");
  int fd = open(path_in(dir, segment_name(0)), O_WRONLY | O_CLOEXEC);
  MUST(fd >= 0 && pwrite(fd, "?", 1, (off_t)off) == 1);
  close(fd);
  check_lost(FLUME_ECORRUPT, 0);
  CHECK(names_file_and_byte(segment_name(0)));
  CHECK(reads(0, "zero"));
  log_close_wait(log, &loop);
  reader_end();
}

TEST(shorter_than_it_was) {
  reader_begin();
  struct flume_log *log = must_open(0);
  for (int i = 0; i < 10; i++) append_record(log, "x");
  log_close_wait(log, &loop);
  reader_open();
  CHECK_INT_EQ(truncate(path_in(dir, segment_name(0)), 100), 0);
  check_lost(FLUME_ECORRUPT, 9);
  CHECK(names_file_and_byte(segment_name(0)) && says("shorter"));
  reader_end();
}

/* An older copy is put back, byte by byte into the same files, and a writer goes on from there. */
TEST(replaced_by_an_older_copy) {
  reader_begin();
  make("11", 0);
  struct flume_log *log = must_open(0);
  for (int i = 0; i < 10; i++) append_record(log, "newer");
  reader_open();
  log_close_wait(log, &loop);
  uv_loop_t own; /* the reader has no turn until all is done */
  MUST(uv_loop_init(&own) == 0);
  image_put(&made.crashed, dir);
  struct flume_log_options options = options_of(0);
  MUST(flume_log_open(&log, &own, dir, &options, &err) == 0);
  CHECK_INT_EQ(flume_log_since(log), 1);
  check_lost(FLUME_ECORRUPT, 11);
  log_close_wait(log, &own);
  loop_end(&own);
  reader_end();
}

TEST(removed_and_created_again) {
  reader_begin();
  struct flume_log *log = must_open(0);
  append_record(log, "old");
  log_close_wait(log, &loop);
  reader_open();
  remove_dir(dir);
  check_lost(UV_ENOENT, 0);
  CHECK(says("removed"));
  CHECK(reads(0, "old"));
  log_close_wait(reader, &loop);
  log = must_open(0);
  append_record(log, "new");
  reader_open();
  CHECK(reads(0, "new"));
  log_close_wait(log, &loop);
  reader_end();
}

TEST(replaced_by_another_log_of_that_name) {
  reader_begin();
  struct flume_log *log = must_open(0);
  append_record(log, "old");
  log_close_wait(log, &loop);
  reader_open();
  char old[TEST_PATH_MAX + 16];
  snprintf(old, sizeof old, "%s.old", dir);
  CHECK_INT_EQ(rename(dir, old), 0);
  log = must_open(0);
  append_record(log, "new");
  append_record(log, "new");
  check_lost(FLUME_ECORRUPT, 0);
  CHECK(names_file_and_byte(segment_name(0)) && says("replaced"));
  log_close_wait(log, &loop);
  reader_end();
}

TEST(segment_of_another_log_comes_next) {
  reader_begin();
  struct flume_log *log = must_open(200);
  append_record(log, "zero");
  reader_open();
  for (int i = 0; i < 3; i++) append_record(log, "a record that fills a segment");
  struct file_log *file = (struct file_log *)log;
  MUST(file->segments.count > 1);
  const char *path = file->segments.list[1]->path;
  uint8_t header[HEADER_BYTES];
  int fd = open(path, O_RDWR | O_CLOEXEC);
  MUST(fd >= 0 && pread(fd, header, sizeof header, 0) == (ssize_t)sizeof header);
  header[30] ^= 1;
  flume_put_le32(header + 60, flume_crc32c(0, header, 60));
  MUST(pwrite(fd, header, sizeof header, 0) == (ssize_t)sizeof header);
  close(fd);
  check_lost(FLUME_ECORRUPT, file->segments.list[1]->first_seq - 1);
  CHECK(says("belongs to another log"));
  log_close_wait(log, &loop);
  reader_end();
}

/* --- Files that are replaced ------------------------------------------------------------------------------------ */

static void replace_by_copy(const char *name) {
  struct image image = {.count = 0};
  image_take_file(&image, dir, name);
  write_file(path_in(dir, "copy"), image.files[0].data, image.files[0].len, image.files[0].len);
  CHECK_INT_EQ(rename(path_in(dir, "copy"), path_in(dir, name)), 0);
  image_free(&image);
}

static bool was_let_go(int64_t i) {
  return ((struct file_log *)reader)->segments.list[i]->file < 0;
}

TEST(sealed_segment_that_is_replaced) {
  reader_begin();
  struct flume_log *log = must_open(300);
  for (int i = 0; i < 20; i++) append_record(log, "sealed");
  reader_open();
  struct flume_record kept;
  MUST(flume_log_get(reader, 0, &kept, &err) == 0);
  CHECK(!was_let_go(0));
  replace_by_copy(segment_name(0));
  CHECK(comes(was_let_go, 0));
  CHECK(kept.len == 6 && memcmp(kept.data, "sealed", 6) == 0);
  CHECK(reads(0, "sealed") && reads(19, "sealed"));
  flume_record_release(&kept);
  append_record(log, "more");
  CHECK(comes(sees, 20));
  log_close_wait(log, &loop);
  reader_end();
}

/* A compaction that the reader sees at once, of segments that it has open and of others. */
TEST(compaction_of_an_open_segment) {
  reader_begin();
  struct flume_log *log = must_open(300);
  for (int i = 0; i < 40; i++) append_record(log, "to be compacted");
  reader_open();
  struct flume_record kept;
  MUST(flume_log_get(reader, 0, &kept, &err) == 0);
  for (int64_t seq = 0; seq < 40; seq += 2) CHECK_INT_EQ(log_del(log, &loop, &seq, 1), 0);
  struct compaction_answer answer;
  CHECK_INT_EQ(log_compact(log, &loop, &answer), 0);
  CHECK_INT_EQ(answer.req.records, 20);
  append_record(log, "after");
  CHECK(comes(sees, 40) && comes(was_let_go, 0));
  CHECK(kept.len == 15 && memcmp(kept.data, "to be compacted", 15) == 0);
  flume_record_release(&kept);
  for (int64_t seq = 0; seq < 40; seq++) {
    if (seq % 2 == 0) CHECK_INT_EQ(code_of(seq), FLUME_EDELETED);
    else CHECK(reads(seq, "to be compacted"));
  }
  CHECK(reads(40, "after"));
  CHECK(!is_lost(0));
  log_close_wait(log, &loop);
  reader_end();
}

/* One that it has not seen yet when it opens the files. */
TEST(compaction_of_segments_not_read_yet) {
  reader_begin();
  struct flume_log *log = must_open(300);
  for (int i = 0; i < 40; i++) append_record(log, "x");
  log_close_wait(log, &loop);
  reader_open();
  uv_loop_t own; /* the reader has no turn meanwhile */
  struct flume_log_options options = options_of(300);
  MUST(uv_loop_init(&own) == 0 && flume_log_open(&log, &own, dir, &options, &err) == 0);
  for (int64_t seq = 0; seq < 30; seq += 3) CHECK_INT_EQ(log_del(log, &own, &seq, 1), 0);
  struct compaction_answer answer;
  CHECK_INT_EQ(log_compact(log, &own, &answer), 0);
  for (int64_t seq = 0; seq < 40; seq++) {
    if (seq % 3 == 0 && seq < 30) CHECK_INT_EQ(code_of(seq), FLUME_EDELETED);
    else CHECK(reads(seq, "x"));
  }
  log_close_wait(log, &own);
  loop_end(&own);
  reader_end();
}

/* The active segment is sealed, and replaced, with nothing new behind it. */
TEST(compaction_of_the_active_segment) {
  reader_begin();
  struct flume_log *log = must_open(0);
  for (int i = 0; i < 10; i++) append_record(log, "x");
  reader_open();
  run_for(1);
  log_close_wait(log, &loop);
  uv_loop_t own; /* the reader has no turn meanwhile */
  struct flume_log_options options = options_of(0);
  MUST(uv_loop_init(&own) == 0 && flume_log_open(&log, &own, dir, &options, &err) == 0);
  CHECK_INT_EQ(log_del(log, &own, (int64_t[]){3}, 1), 0);
  struct compaction_answer answer;
  CHECK_INT_EQ(log_compact(log, &own, &answer), 0);
  CHECK_INT_EQ(answer.req.segments, 1);
  CHECK(comes(was_let_go, 0));
  CHECK(!is_lost(0));
  CHECK_INT_EQ(code_of(3), FLUME_EDELETED);
  append_record(log, "y");
  CHECK(comes(sees, 10));
  CHECK(reads(9, "x") && reads(10, "y"));
  log_close_wait(log, &own);
  loop_end(&own);
  reader_end();
}

/* --- Without events --------------------------------------------------------------------------------------------- */

TEST(polls_where_there_are_no_file_events) {
  reader_begin();
  struct flume_log *log = must_open(300);
  reader_faults.io.has_events = no_events;
  reader_open();
  CHECK_INT_EQ(flume_log_following(reader, &err), FLUME_FOLLOWING_POLL);
  CHECK(says("every 250 ms") && says("no space"));
  for (int i = 0; i < 20; i++) append_record(log, "polled");
  CHECK(comes(sees, 19));
  CHECK_INT_EQ(log_del(log, &loop, (int64_t[]){7}, 1), 0);
  append_record(log, "polled");
  CHECK(comes(sees, 20));
  CHECK_INT_EQ(code_of(7), FLUME_EDELETED);
  log_close_wait(log, &loop);
  remove_dir(dir);
  check_lost(UV_ENOENT, 20);
  reader_end();
}

TEST(polls_as_often_as_asked) {
  reader_begin();
  struct flume_log *log = must_open(0);
  CHECK_INT_EQ(reader_try(5), 0);
  CHECK_INT_EQ(flume_log_following(reader, &err), FLUME_FOLLOWING_POLL);
  CHECK(says("every 5 ms") && says("asked for"));
  append_record(log, "polled");
  CHECK(comes(sees, 0));
  log_close_wait(log, &loop);
  log_close_wait(reader, &loop);
  reader = NULL;
  struct flume_log_options options = {.poll_ms = 5, .io = &faults.io};
  CHECK_INT_EQ(try_open(&log, &options), FLUME_EINVAL);
  reader_end();
}

/* --- Costing nothing -------------------------------------------------------------------------------------------- */

static int reads_of_reader(void) {
  return atomic_load(&reader_faults.calls[FAULT_READ]) + atomic_load(&reader_faults.calls[FAULT_OPEN]);
}

TEST(does_nothing_while_nothing_happens) {
  reader_begin();
  struct flume_log *log = must_open(0);
  append_record(log, "x");
  faults_arm(&reader_faults, FAULT_READ, 1000000000, UV_EIO);
  reader_open();
  run_for(20);
  int before = reads_of_reader();
  run_for(500);
  CHECK_INT_EQ(reads_of_reader(), before);
  append_record(log, "y");
  CHECK(comes(sees, 1));
  CHECK(reads_of_reader() > before);
  log_close_wait(reader, &loop);
  CHECK_INT_EQ(reader_try(100), 0);
  run_for(20);
  before = reads_of_reader();
  run_for(500);
  CHECK(reads_of_reader() - before > 0);
  CHECK(reads_of_reader() - before <= 6 * 4);
  log_close_wait(log, &loop);
  reader_end();
}

static int open_files(void) {
  DIR *list = opendir("/proc/self/fd");
  if (list == NULL) return -1;
  int count = 0;
  while (readdir(list) != NULL) count++;
  closedir(list);
  return count;
}

TEST(opening_and_closing_leaves_nothing_open) {
  reader_begin();
  struct flume_log *log = must_open(300);
  for (int i = 0; i < 20; i++) append_record(log, "x");
  int before = -1;
  for (int i = 0; i < 300; i++) {
    CHECK_INT_EQ(reader_try(i % 3 == 0 ? 10 : 0), 0);
    if (i % 2 == 0) uv_run(&loop, UV_RUN_NOWAIT);
    log_close_wait(reader, &loop);
    reader = NULL;
    if (i == 1) before = open_files(); /* the loop keeps what it watches with */
  }
  CHECK(before > 0);
  CHECK_INT_EQ(open_files(), before);
  log_close_wait(log, &loop);
  reader_end();
}

/* Any call of the system's that fails, while opening or following, is an error and leaves nothing behind. */
static bool lost_or_sees(int64_t since) {
  return is_lost(0) || sees(since);
}

static void fail_each(enum fault_op op, int code) {
  for (int nth = 1; nth < 200; nth++) {
    reader_begin();
    struct flume_log *log = must_open(300);
    for (int i = 0; i < 5; i++) append_record(log, "x");
    CHECK_INT_EQ(log_del(log, &loop, (int64_t[]){1}, 1), 0);
    faults_arm(&reader_faults, op, nth, code);
    int rv = reader_try(0);
    if (rv == 0) {
      for (int i = 0; i < 8; i++) append_record(log, "y");
      CHECK_INT_EQ(log_del(log, &loop, (int64_t[]){2}, 1), 0);
      append_record(log, "z");
      CHECK(comes(lost_or_sees, 13));
      if (is_lost(0)) CHECK_INT_EQ(err.code, code);
    } else {
      CHECK_INT_EQ(rv, code);
    }
    bool hit = fault_was_hit(&reader_faults);
    CHECK(hit || (rv == 0 && sees(13)));
    log_close_wait(log, &loop);
    if (rv != 0) reader = NULL;
    reader_end();
    if (!hit) return;
  }
  CHECK(false); /* so many calls are not made */
}

TEST(read_fails) { fail_each(FAULT_READ, UV_EIO); }
TEST(open_fails) { fail_each(FAULT_OPEN, UV_EMFILE); }
TEST(no_memory) { fail_each(FAULT_ALLOC, UV_ENOMEM); }
