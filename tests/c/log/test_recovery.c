/* What a file log makes of its files after a crash and after damage. */
#include "broken_log.h"

/* --- Every byte flipped --------------------------------------------------------------------------------------- */

struct flip {
  struct image *image;
  int file;
  size_t off;
  uint8_t xor;
  bool closed;
};

static const char *flipped_name(const struct flip *flip) {
  return flip->image->files[flip->file].name;
}

static bool flipped_deleted(const struct flip *flip) {
  return strcmp(flipped_name(flip), "deleted") == 0;
}

/* The frames of the last segment that lie before the flip have to be there even so. */
static int64_t undamaged_count(const struct flip *flip) {
  if (&flip->image->files[flip->file] != last_segment(flip->image)) return 0;
  int64_t count = 0;
  for (int i = 0; i < made.frames_count; i++) {
    if (made.frames[i].end_off <= flip->off) count = made.frames[i].next_seq;
  }
  return count;
}

static bool check_refused(const struct flip *flip) {
  bool good = CHECK(names_file_and_byte(made.last_deleted >= 0 ? "/" : flipped_name(flip)));
  good &= CHECK(image_is(flip->image, dir, flip->file, flip->off, flip->xor));
  if (flipped_deleted(flip)) return good;
  struct flume_log *log = NULL;
  struct flume_log_options options = {.readonly = true, .damaged = true, .io = &faults.io};
  if (!CHECK_INT_EQ(try_open(&log, &options), 0)) return false;
  good &= CHECK(flume_log_since(log) + 1 >= undamaged_count(flip));
  good &= all_survive(log);
  log_close_wait(log, &loop);
  return good && CHECK(image_is(flip->image, dir, flip->file, flip->off, flip->xor));
}

static bool check_opened(const struct flip *flip, struct flume_log *log) {
  int64_t count = flume_log_since(log) + 1;
  bool cut = !flip->closed && made.frames_count > 0 && count == first_of_last_frame();
  bool good = CHECK(count == made.count || cut) && all_survive(log);
  if (good) return goes_on(log);
  log_close_wait(log, &loop);
  return false;
}

static bool check_flip(const struct flip *flip) {
  struct image_file *file = &flip->image->files[flip->file];
  size_t used = file->used;
  if (flip->off >= used) file->used = flip->off + 1;
  file->data[flip->off] ^= flip->xor;
  image_put(flip->image, dir);
  file->data[flip->off] ^= flip->xor;
  file->used = used;
  struct flume_log *log = NULL;
  struct flume_log_options options = options_of(0);
  int rv = try_open(&log, &options);
  bool good;
  if (rv == 0) good = check_opened(flip, log);
  else good = CHECK_INT_EQ(rv, FLUME_ECORRUPT) && check_refused(flip);
  const char *state = flip->closed ? "closed" : "crashed";
  if (!good) printf("%s, byte %zu of %s, xor %02x\n", state, flip->off, file->name, flip->xor);
  return good;
}

/* The bytes in use one by one; the zeros behind them here and there. */
static size_t next_flip(const struct image_file *file, size_t off) {
  return off < file->used + 64 ? off + 1 : off + 99991;
}

static void flip_image(struct image *image, bool closed) {
  struct flip flip = {.image = image, .closed = closed};
  for (flip.file = 0; flip.file < image->count; flip.file++) {
    const struct image_file *file = &image->files[flip.file];
    for (flip.off = 0; flip.off < file->len; flip.off = next_flip(file, flip.off)) {
      flip.xor = flip.off % 2 == 0 ? 0xff : (uint8_t)(1u << flip.off / 2 % 8);
      if (!check_flip(&flip)) return;
    }
  }
}

static void flip_all(const char *text, uint64_t segment_bytes) {
  begin();
  make(text, segment_bytes);
  flip_image(&made.crashed, false);
  flip_image(&made.closed, true);
  end();
}

TEST(flip_in_an_empty_log) { flip_all("", 0); }
TEST(flip_in_one_record) { flip_all("1", 0); }
TEST(flip_in_one_batch) { flip_all("5", 0); }
TEST(flip_in_singles) { flip_all("1111", 0); }
TEST(flip_in_batches) { flip_all("312", 0); }
TEST(flip_in_a_reopened_log) { flip_all("21r12", 0); }
TEST(flip_in_a_log_reopened_often) { flip_all("1r1rr1r", 0); }
TEST(flip_in_segments) { flip_all("1213121", 300); }
TEST(flip_in_deletes) { flip_all("13d1D", 0); }
TEST(flip_in_a_deleted_last_record) { flip_all("31D", 0); }

/* --- Torn tails ----------------------------------------------------------------------------------------------- */

/* How many records are left when the last segment ends at len. */
static int64_t count_within(uint64_t len) {
  int64_t count = made.frames_count > 0 ? made.frames[0].first_seq : made.count;
  for (int i = 0; i < made.frames_count; i++) {
    if (made.frames[i].end_off <= len) count = made.frames[i].next_seq;
  }
  return count;
}

static bool delete_beyond(int64_t count) {
  for (int64_t seq = count; seq < made.count; seq++) {
    if (made.records[seq].deleted) return true;
  }
  return false;
}

/* The last segment is cut at len; with size > len, zeros follow. */
static bool check_cut(struct image *image, size_t len, size_t size) {
  struct image_file *file = last_segment(image);
  image_put(image, dir);
  write_file(path_in(dir, file->name), file->data, len < file->len ? len : file->len, size);
  while (len < size && len < file->len && file->data[len] == 0) len++; /* these zeros were there before */
  int64_t count = count_within(len);
  struct flume_log *log = NULL;
  struct flume_log_options options = options_of(0);
  int rv = try_open(&log, &options);
  if (len < HEADER_BYTES && rv != 0) return CHECK_INT_EQ(rv, FLUME_ECORRUPT) && CHECK(names_file_and_byte(file->name));
  if (delete_beyond(count)) {
    if (rv == 0) log_close_wait(log, &loop);
    return CHECK_INT_EQ(rv, FLUME_ECORRUPT) && CHECK(names_file_and_byte(file->name));
  }
  if (!CHECK_INT_EQ(rv, 0)) return false;
  bool good = CHECK_INT_EQ(flume_log_since(log), count - 1) && all_survive(log);
  if (good) return goes_on(log);
  log_close_wait(log, &loop);
  return false;
}

static void cut_all(const char *text, uint64_t segment_bytes) {
  begin();
  make(text, segment_bytes);
  size_t used = last_segment(&made.crashed)->used;
  for (size_t len = 0; len <= used + 8; len++) {
    if (!check_cut(&made.crashed, len, len) || !check_cut(&made.crashed, len, last_segment(&made.crashed)->len)) {
      printf("crashed, cut at byte %zu\n", len);
      break;
    }
  }
  for (size_t len = 0; len <= last_segment(&made.closed)->len; len++) {
    if (!check_cut(&made.closed, len, len) || !check_cut(&made.closed, len, last_segment(&made.closed)->len)) {
      printf("closed, cut at byte %zu\n", len);
      break;
    }
  }
  end();
}

TEST(cut_an_empty_log) { cut_all("", 0); }
TEST(cut_within_the_first_record) { cut_all("1", 0); }
TEST(cut_within_the_first_batch) { cut_all("4", 0); }
TEST(cut_singles_and_batches) { cut_all("1131", 0); }
TEST(cut_a_reopened_log) { cut_all("21r12", 0); }
TEST(cut_segments) { cut_all("1213121", 300); }
TEST(cut_deleted_records) { cut_all("21d1D1", 0); }

/* Any of the sectors of the last frame may have come to the disk, and the others be zeros or what was there. */
TEST(any_sectors_of_the_last_frame) {
  begin();
  struct flume_log *log = must_open(0);
  made_append(log, 3);
  uint64_t off = made.frames[0].end_off;
  uint8_t *data = payload_new(2000, 77);
  struct flume_slice record = slice(data, 2000);
  int64_t seq = -1;
  CHECK_INT_EQ(flume_log_append_wait(log, &record, 1, &seq, &err), 0);
  image_take(&made.crashed, dir);
  log_close_wait(log, &loop);
  struct image_file *file = last_segment(&made.crashed);
  uint8_t *whole = malloc(file->len);
  MUST(whole != NULL);
  memcpy(whole, file->data, file->len);
  for (int subset = 0; subset < 64; subset++) {
    bool complete = true;
    for (uint64_t at = off; at < off + 2056; at++) {
      bool written = subset >> at / 512 % 5 & 1;
      complete &= written;
      file->data[at] = written ? whole[at] : subset < 32 ? 0 : 0xa5;
    }
    image_put(&made.crashed, dir);
    log = must_open(0);
    CHECK_INT_EQ(flume_log_since(log), complete ? 3 : 2);
    for (int64_t i = 0; i < 3; i++) survives(log, i);
    goes_on(log);
  }
  free(whole);
  free(data);
  end();
}

TEST(torn_tail_read_only) {
  begin();
  make("111", 0);
  struct image_file *file = last_segment(&made.crashed);
  image_put(&made.crashed, dir);
  write_file(path_in(dir, file->name), file->data, made.frames[2].end_off - 1, made.frames[2].end_off - 1);
  struct flume_log *log = NULL;
  struct flume_log_options options = {.readonly = true, .io = &faults.io};
  REQUIRE(try_open(&log, &options) == 0);
  CHECK_INT_EQ(flume_log_since(log), 1);
  struct flume_slice record = slice_text("no");
  struct answer answer = {.calls = 0};
  int64_t seq;
  CHECK_INT_EQ(flume_log_append(log, &answer.req, &record, 1, on_answer, &err), FLUME_EREADONLY);
  CHECK_INT_EQ(flume_log_append_wait(log, &record, 1, &seq, &err), FLUME_EREADONLY);
  CHECK_INT_EQ(flume_log_del(log, &answer.req, (int64_t[]){0}, 1, on_answer, &err), FLUME_EREADONLY);
  CHECK_INT_EQ(flume_log_sync(log, &answer.req, on_answer, &err), FLUME_EREADONLY);
  log_close_wait(log, &loop);
  struct stat st;
  CHECK(stat(path_in(dir, file->name), &st) == 0 && st.st_size == (off_t)made.frames[2].end_off - 1);
  end();
}

TEST(zeros_written_ahead) {
  begin();
  make("11", 0);
  CHECK(last_segment(&made.crashed)->len > 1u << 20);
  CHECK(last_segment(&made.closed)->len < 1024);
  image_put(&made.crashed, dir);
  struct flume_log *log = must_open(0);
  CHECK_INT_EQ(flume_log_since(log), 1);
  all_survive(log);
  goes_on(log);
  struct stat st;
  CHECK(stat(path_in(dir, last_segment(&made.crashed)->name), &st) == 0 && st.st_size < 2048);
  end();
}

/* --- Damage --------------------------------------------------------------------------------------------------- */

static void damage_second_frame(void) {
  struct image_file *file = last_segment(&made.crashed);
  size_t at = made.frames[1].off + 20;
  file->data[at] ^= 0xff;
  image_put(&made.crashed, dir);
  file->data[at] ^= 0xff;
}

TEST(damage_is_refused_and_read_up_to) {
  begin();
  make("112", 0);
  damage_second_frame();
  char expected[32];
  snprintf(expected, sizeof expected, "byte %d", (int)made.frames[1].off);
  CHECK_INT_EQ(try_open_with(false, false), FLUME_ECORRUPT);
  CHECK(names_file_and_byte(last_segment(&made.crashed)->name) && strstr(err.msg, expected) != NULL);
  CHECK_INT_EQ(try_open_with(true, false), FLUME_ECORRUPT);
  CHECK_INT_EQ(try_open_with(false, true), FLUME_EINVAL);
  struct flume_log *log = NULL;
  struct flume_log_options options = {.readonly = true, .damaged = true, .io = &faults.io};
  REQUIRE(try_open(&log, &options) == 0);
  CHECK_INT_EQ(flume_log_since(log), 0);
  all_survive(log);
  log_close_wait(log, &loop);
  end();
}

static void flip_in(struct image_file *file, size_t at) {
  file->data[at] ^= 0x10;
}

/* An index begins with the seq of a record that lies before it: that is no sign that none is missing. */
TEST(damage_before_an_index) {
  begin();
  make("1r1", 0);
  struct image_file *file = last_segment(&made.closed);
  flip_in(file, made.frames[1].off + 50);
  image_put(&made.closed, dir);
  write_file(path_in(dir, file->name), file->data, file->len - 60, file->len - 60); /* without its end frame */
  CHECK_INT_EQ(try_open_with(false, false), FLUME_ECORRUPT);
  CHECK(names_file_and_byte(file->name));
  CHECK_INT_EQ(try_open_with(true, false), FLUME_ECORRUPT);
  CHECK_INT_EQ(try_open_with(true, true), 0);
  end();
}

/* The end frame says how many records there are. When neither the index nor they can be read, that is found when they
 * are asked for, and nothing is appended behind them. */
TEST(damage_to_an_index_and_its_records) {
  begin();
  make("1r1r11", 0);
  struct image_file *file = last_segment(&made.closed);
  flip_in(file, made.frames[1].off + 50);
  flip_in(file, made.frames[3].end_off + 50);
  image_put(&made.closed, dir);
  struct flume_log *log = must_open(0);
  struct flume_slice record = slice_text("no");
  struct flume_record got;
  int64_t seq = -1;
  CHECK_INT_EQ(flume_log_since(log), 3);
  for (int i = 0; i < 4; i++) CHECK_INT_EQ(flume_log_get(log, i, &got, &err), FLUME_ECORRUPT);
  CHECK(names_file_and_byte(file->name));
  CHECK_INT_EQ(flume_log_append_wait(log, &record, 1, &seq, &err), FLUME_ECORRUPT);
  log_close_wait(log, &loop);
  end();
}

/* What is in the segments around one that can't be read is there; the first look and the second say the same. */
static void check_lost_segment(int64_t first, int64_t next) {
  struct flume_log *log = must_open(300);
  CHECK_INT_EQ(flume_log_since(log), made.count - 1);
  for (int round = 0; round < 2; round++) {
    for (int64_t seq = 0; seq < made.count; seq++) {
      struct flume_record record;
      int rv = flume_log_get(log, seq, &record, &err);
      if (seq < first || seq >= next) CHECK_INT_EQ(rv, 0);
      else if (rv != 0) CHECK(rv == FLUME_ECORRUPT || rv == FLUME_ENOENT);
      if (rv != 0) continue;
      CHECK(record.len == made.records[seq].len && payload_is(record.data, record.len, made.records[seq].key));
      flume_record_release(&record);
    }
  }
  log_close_wait(log, &loop);
}

TEST(sealed_segment_lost_or_cut) {
  begin();
  make("12131213", 200);
  struct image *image = &made.closed;
  for (int i = 1; i + 1 < image->count; i++) {
    int64_t first = strtoll(image->files[i].name, NULL, 10), next = strtoll(image->files[i + 1].name, NULL, 10);
    image_put(image, dir);
    CHECK_INT_EQ(unlink(path_in(dir, image->files[i].name)), 0);
    check_lost_segment(i > 1 ? strtoll(image->files[i - 1].name, NULL, 10) : 0, next);
    for (size_t len = 0; len < image->files[i].len; len += 7) {
      image_put(image, dir);
      write_file(path_in(dir, image->files[i].name), image->files[i].data, len, len);
      check_lost_segment(first, next);
    }
  }
  end();
}

/* The index of a sealed segment only saves time: without it the records are found by a scan. */
TEST(sealed_segment_with_a_damaged_index) {
  begin();
  make("121312", 200);
  struct image_file *file = &made.closed.files[1];
  file->data[file->len - 10] ^= 1;
  image_put(&made.closed, dir);
  struct flume_log *log = must_open(200);
  CHECK_INT_EQ(flume_log_since(log), made.count - 1);
  for (int64_t seq = 0; seq < made.count; seq++) {
    struct flume_record record = {0};
    CHECK_INT_EQ(flume_log_get(log, seq, &record, &err), 0);
    flume_record_release(&record);
  }
  log_close_wait(log, &loop);
  end();
}

TEST(missing_first_segment) {
  begin();
  make("121312", 200);
  CHECK(made.closed.count > 2);
  CHECK_INT_EQ(unlink(path_in(dir, made.closed.files[0].name)), 0);
  CHECK_INT_EQ(try_open_with(false, false), FLUME_ECORRUPT);
  CHECK(strstr(err.msg, dir) != NULL && strstr(err.msg, "missing") != NULL);
  CHECK_INT_EQ(try_open_with(true, false), FLUME_ECORRUPT);
  end();
}

/* All but the newest segments are there: the one before was sealed when they were begun. */
static void check_missing_newest(struct image *image, int missing) {
  image_put(image, dir);
  int64_t left = strtoll(image->files[image->count - missing].name, NULL, 10);
  for (int i = 1; i <= missing; i++) CHECK_INT_EQ(unlink(path_in(dir, image->files[image->count - i].name)), 0);
  for (int readonly = 0; readonly < 2; readonly++) {
    CHECK_INT_EQ(try_open_with(readonly, false), FLUME_ECORRUPT);
    CHECK(names_file_and_byte(image->files[image->count - missing - 1].name) && strstr(err.msg, "missing") != NULL);
  }
  struct flume_log *log = NULL;
  struct flume_log_options options = {.readonly = true, .damaged = true, .io = &faults.io};
  REQUIRE(try_open(&log, &options) == 0);
  CHECK_INT_EQ(flume_log_since(log), left - 1);
  all_survive(log);
  log_close_wait(log, &loop);
}

TEST(missing_newest_segments) {
  begin();
  make("12131r213", 200);
  for (int missing = 1; missing < made.closed.count; missing++) {
    check_missing_newest(&made.closed, missing);
    check_missing_newest(&made.crashed, missing);
  }
  end();
}

/* The process dies before the segment is sealed: its successor is there, without records. */
static void roll_and_fail(enum fault_op op, int nth) {
  begin();
  struct flume_log *log = must_open(200);
  made_append(log, 3);
  struct flume_slice records[4];
  int64_t seq = -1;
  made_next(records, 4);
  faults_arm(&faults, op, nth, UV_EIO);
  CHECK_INT_EQ(flume_log_append_wait(log, records, 4, &seq, &err), UV_EIO);
  made_free(records, 4);
  log_close_wait(log, &loop);
  faults_arm(&faults, FAULT_NONE, 0, 0);
  static const char next[] = "00000000000000000003.flume";
  REQUIRE(file_exists(dir, next));
  made.count = 3;
  log = must_open(200);
  all_survive(log);
  CHECK(goes_on(log));
  CHECK_INT_EQ(unlink(path_in(dir, next)), 0);
  CHECK_INT_EQ(try_open_with(false, false), FLUME_ECORRUPT);
  end();
}

TEST(dying_before_a_segment_is_sealed) { roll_and_fail(FAULT_WRITE, 2); }
TEST(dying_while_a_segment_is_sealed) { roll_and_fail(FAULT_SYNC, 3); }
TEST(dying_when_a_segment_was_sealed) { roll_and_fail(FAULT_WRITE, 4); } /* 3: zeros ahead */

/* Cut anywhere, it is a torn write, and what is before it counts; the same with zeros in the place of what is missing. */
TEST(cut_deletions) {
  begin();
  make("333d1D2D", 0);
  struct image_file *file = &made.crashed.files[made.crashed.count - 1];
  CHECK_STR_EQ(file->name, "deleted");
  for (size_t len = 0; len <= file->len; len++) {
    for (int zeros = 0; zeros < 2; zeros++) {
      image_put(&made.crashed, dir);
      write_file(path_in(dir, "deleted"), file->data, len, zeros ? file->len : len);
      struct flume_log *log = must_open(0);
      int64_t count = log->deletions.value;
      size_t there = len; /* zeros may be just what was there */
      while (zeros && there < file->len && file->data[there] == 0) there++;
      CHECK_INT_EQ(count, there < 60 ? 0 : there < 120 ? 1 : there < 180 ? 2 : 3);
      log_close_wait(log, &loop);
      struct image now = {.count = 0};
      image_take_file(&now, dir, "deleted");
      CHECK_INT_EQ(now.files[0].len, count * 60 + 48);
      image_free(&now);
    }
  }
  end();
}

TEST(segment_of_another_log) {
  begin();
  make("121312", 200);
  struct image_file foreign = made.closed.files[1];
  image_free(&(struct image){.files = {made.closed.files[0]}, .count = 1});
  made.closed.files[0].data = malloc(1);
  foreign.data[30] ^= 1;
  flume_put_le32(foreign.data + 60, flume_crc32c(0, foreign.data, 60));
  image_put_file(&foreign, dir);
  struct flume_log *log = must_open(200);
  struct flume_record record;
  int64_t seq = strtoll(foreign.name, NULL, 10);
  CHECK_INT_EQ(flume_log_get(log, seq, &record, &err), FLUME_ECORRUPT);
  CHECK(names_file_and_byte(foreign.name));
  CHECK_INT_EQ(flume_log_get(log, seq, &record, &err), FLUME_ECORRUPT);
  log_close_wait(log, &loop);
  end();
}

TEST(leftover_of_a_segment_that_was_being_made) {
  begin();
  make("12", 0);
  static const char name[] = "00000000000000000003.flume.new";
  write_file(path_in(dir, name), "half a header", 13, 13);
  CHECK_INT_EQ(try_open_with(true, false), 0);
  CHECK(file_exists(dir, name));
  struct flume_log *log = must_open(0);
  CHECK(!file_exists(dir, name));
  all_survive(log);
  CHECK_INT_EQ(flume_log_since(log), 2);
  goes_on(log);
  end();
}

TEST(unknown_files_are_left_alone) {
  begin();
  make("12", 0);
  static const char *const names[] = {"README", "1.flume", "00000000000000000009.flume~", ".flume.new"};
  for (int i = 0; i < 4; i++) write_file(path_in(dir, names[i]), "hello", 5, 5);
  struct flume_log *log = must_open(0);
  CHECK_INT_EQ(flume_log_since(log), 2);
  log_close_wait(log, &loop);
  for (int i = 0; i < 4; i++) CHECK(file_exists(dir, names[i]));
  end();
}

TEST(unknown_version) {
  begin();
  make("12", 0);
  struct image_file *file = &made.closed.files[0];
  flume_put_le32(file->data + 8, 2);
  flume_put_le32(file->data + 60, flume_crc32c(0, file->data, 60));
  image_put(&made.closed, dir);
  CHECK_INT_EQ(try_open_with(false, false), FLUME_EVERSION);
  CHECK(strstr(err.msg, "version 2") != NULL && strstr(err.msg, file->name) != NULL);
  CHECK_INT_EQ(try_open_with(true, false), FLUME_EVERSION);
  end();
}

TEST(not_a_segment_at_all) {
  begin();
  make("12", 0);
  const char *path = path_in(dir, made.closed.files[0].name);
  write_file(path, "", 0, 0);
  CHECK_INT_EQ(try_open_with(false, false), FLUME_ECORRUPT);
  CHECK(names_file_and_byte(made.closed.files[0].name));
  write_file(path, "hello", 5, 5000);
  CHECK_INT_EQ(try_open_with(false, false), FLUME_ECORRUPT);
  CHECK(names_file_and_byte(made.closed.files[0].name));
  CHECK_INT_EQ(try_open_with(true, true), 0);
  end();
}

TEST(read_only_without_a_log) {
  begin();
  CHECK_INT_EQ(try_open_with(true, false), FLUME_ENOENT);
  CHECK(strstr(err.msg, dir) != NULL);
  CHECK_INT_EQ(mkdir(dir, 0777), 0);
  CHECK_INT_EQ(try_open_with(true, false), FLUME_ENOENT);
  CHECK(!file_exists(dir, "lock"));
  end();
}

/* A new log's directory, each new one above it, and the last one that was there, are on disk before anything is
 * acknowledged. A log that was closed in order needs none of it. */
TEST(names_of_new_directories_are_synced) {
  begin();
  snprintf(dir, sizeof dir, "%s/a/b", root);
  struct flume_log *log = must_open(0);
  CHECK_INT_EQ(atomic_load(&faults.calls[FAULT_SYNC_DIR]), 5);
  log_close_wait(log, &loop);
  log = must_open(0);
  CHECK_INT_EQ(atomic_load(&faults.calls[FAULT_SYNC_DIR]), 5);
  log_close_wait(log, &loop);
  end();
}
