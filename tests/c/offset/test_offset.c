/* The offset log: files as the JavaScript original writes them, what is damaged in them, and disks that fail. */
#include "check_support.h"
#include "offset_fixture.h"

static const uint32_t all_bits[] = {32, 48, 53};

/* --- Reading and writing -------------------------------------------------------------------------------------- */

TEST(reads_each_framing_and_finds_out_which_it_is) {
  for (int i = 0; i < 3; i++) {
    struct file file;
    begin();
    make_file(&file, all_bits[i]);
    write_bytes(file.data, file.len);
    struct flume_log *log = must_open();
    struct seen seen = see(log, false), back = see(log, true);
    CHECK_INT_EQ(seen.status, 0);
    REQUIRE(seen.count == file.count && back.count == file.count);
    for (int n = 0; n < file.count; n++) {
      CHECK_INT_EQ(seen.seqs[n], file.starts[n]);
      CHECK_INT_EQ(seen.first_bytes[n], 'a' + n);
      CHECK_INT_EQ(back.seqs[file.count - 1 - n], file.starts[n]);
    }
    CHECK_INT_EQ(flume_log_since(log), file.starts[file.count - 1]);
    close_log(log);
    end();
  }
}

TEST(writes_each_framing_byte_by_byte) {
  for (int i = 0; i < 3; i++) {
    struct file file = {.len = 0};
    uint8_t written[256];
    int64_t seq = -1;
    begin();
    frame_text(&file, "one", all_bits[i]);
    frame_text(&file, "", all_bits[i]);
    frame_text(&file, "three", all_bits[i]);
    struct flume_log *log = NULL;
    MUST(try_open(&log, (struct flume_log_options){.offset_bits = all_bits[i]}) == 0);
    struct flume_slice records[] = {slice_text("one"), slice_text("")}, last = slice_text("three");
    CHECK_INT_EQ(flume_log_append_wait(log, records, 2, &seq, &err), 0);
    CHECK_INT_EQ(seq, file.starts[1]);
    CHECK_INT_EQ(log_append(log, &loop, &last, 1, &seq), 0);
    CHECK_INT_EQ(seq, file.starts[2]);
    CHECK_INT_EQ(read_bytes(written, sizeof written), file.len);
    CHECK(memcmp(written, file.data, file.len) == 0);
    close_log(log);
    end();
  }
}

TEST(a_seq_between_records_has_no_record) {
  struct file file;
  begin();
  make_file(&file, 32);
  write_bytes(file.data, file.len);
  struct flume_log *log = must_open();
  for (int64_t seq = -1; seq <= (int64_t)file.len + 1; seq++) {
    struct flume_record record = {0};
    bool begins = false;
    for (int n = 0; n < file.count; n++) begins |= (int64_t)file.starts[n] == seq;
    CHECK_INT_EQ(flume_log_get(log, seq, &record, &err), begins ? 0 : FLUME_ENOENT);
    flume_record_release(&record);
    if (!begins) CHECK_INT_EQ(log_del(log, &loop, &seq, 1), FLUME_ENOENT);
  }
  CHECK_INT_EQ(see(log, false).count, file.count);
  close_log(log);
  end();
}

/* What is asked for need not be a record's place: then it is the next one, or the one before. */
TEST(reads_around_a_place) {
  struct file file;
  struct flume_block *block;
  begin();
  make_file(&file, 32);
  write_bytes(file.data, 0);
  struct flume_log *log = must_open();
  CHECK_INT_EQ(flume_log_read(log, 0, false, 1, &block, &err), FLUME_ENOENT);
  CHECK_INT_EQ(flume_log_read(log, 0, true, 1, &block, &err), FLUME_ENOENT);
  close_log(log);
  write_bytes(file.data, file.len);
  log = must_open();
  for (int reverse = 0; reverse < 2; reverse++) {
    MUST(flume_log_read(log, (int64_t)file.starts[2] + 1, reverse, 1, &block, &err) == 0);
    CHECK_INT_EQ(block->first_seq, file.starts[reverse ? 2 : 3]);
    flume_block_unref(block);
  }
  MUST(flume_log_read(log, (int64_t)file.len, true, 1, &block, &err) == 0);
  CHECK_INT_EQ(block->first_seq, file.starts[5]);
  flume_block_unref(block);
  CHECK_INT_EQ(flume_log_read(log, (int64_t)file.starts[5] + 1, false, 1, &block, &err), FLUME_ENOENT);
  CHECK(strstr(err.msg, "no record there: byte ") != NULL);
  close_log(log);
  end();
}

TEST(a_framing_that_differs_from_the_file_is_refused) {
  struct file file;
  struct flume_log *log;
  begin();
  make_file(&file, 48);
  write_bytes(file.data, file.len);
  CHECK_INT_EQ(try_open(&log, (struct flume_log_options){.offset_bits = 32}), FLUME_EINVAL);
  CHECK(strstr(err.msg, "48 bits, not 32") != NULL);
  CHECK_INT_EQ(try_open(&log, (struct flume_log_options){.offset_bits = 64}), FLUME_EINVAL);
  end();
}

TEST(a_second_writer_is_refused_and_a_reader_is_not) {
  struct flume_log *log, *reader, *second;
  begin();
  log = must_open();
  CHECK_INT_EQ(try_open(&second, (struct flume_log_options){0}), FLUME_ELOCKED);
  CHECK_INT_EQ(try_open(&reader, (struct flume_log_options){.readonly = true}), 0);
  struct flume_slice record = slice_text("x");
  int64_t seq;
  CHECK_INT_EQ(flume_log_append_wait(reader, &record, 1, &seq, &err), FLUME_EREADONLY);
  close_log(reader);
  close_log(log);
  end();
}

/* Another program takes no lock; what it wrote is not overwritten. */
TEST(an_append_notices_that_another_program_has_written) {
  struct file file = {.len = 0};
  begin();
  struct flume_log *log = must_open();
  frame_text(&file, "of another", 32);
  write_bytes(file.data, file.len);
  struct flume_slice record = slice_text("x");
  int64_t seq;
  CHECK_INT_EQ(flume_log_append_wait(log, &record, 1, &seq, &err), FLUME_ECORRUPT);
  CHECK(strstr(err.msg, "another program writes to it") != NULL);
  close_log(log);
  log = must_open();
  CHECK_INT_EQ(see(log, false).count, 1);
  close_log(log);
  end();
}

/* Pointers of 32 bits end at 4 GiB. The log is made to believe that it is as long. */
TEST(a_file_that_would_outgrow_its_pointers_is_refused_more) {
  struct flume_slice record = slice_text("0123456789");
  int64_t seq = -1;
  begin();
  struct flume_log *log = must_open();
  struct offset_log *inside = (struct offset_log *)log;
  inside->next_off = UINT32_MAX - 21;
  CHECK_INT_EQ(flume_log_append_wait(log, &record, 1, &seq, &err), FLUME_E2BIG);
  CHECK(strstr(err.msg, "its pointers of 32 bits reach no further") != NULL);
  inside->next_off = 0;
  CHECK_INT_EQ(flume_log_append_wait(log, &record, 1, &seq, &err), 0);
  close_log(log);
  end();
}

/* --- Deleting ------------------------------------------------------------------------------------------------- */

TEST(a_delete_overwrites_the_record_with_zeros) {
  struct file file;
  uint8_t written[8192];
  begin();
  make_file(&file, 32);
  write_bytes(file.data, file.len);
  struct flume_log *log = must_open();
  int64_t seq = (int64_t)file.starts[3];
  CHECK_INT_EQ(log_del(log, &loop, &seq, 1), 0);
  memset(file.data + file.starts[3] + 4, 0, 700);
  CHECK_INT_EQ(read_bytes(written, sizeof written), file.len);
  CHECK(memcmp(written, file.data, file.len) == 0);
  close_log(log);
  log = must_open();
  CHECK_INT_EQ(flume_log_get(log, seq, &(struct flume_record){0}, &err), FLUME_EDELETED);
  CHECK_INT_EQ(log->deletions.value, 1);
  close_log(log);
  end();
}

/* What another program deleted comes behind the deletions that views know of. */
TEST(a_delete_by_another_program_is_noticed_when_the_log_is_opened) {
  struct file file;
  begin();
  make_file(&file, 32);
  write_bytes(file.data, file.len);
  struct flume_log *log = must_open();
  int64_t seq = (int64_t)file.starts[4];
  CHECK_INT_EQ(log_del(log, &loop, &seq, 1), 0);
  close_log(log);
  memset(file.data + file.starts[4] + 4, 0, 3);
  memset(file.data + file.starts[0] + 4, 0, 9);
  write_bytes(file.data, file.len);
  for (int round = 0; round < 2; round++) {
    log = must_open();
    CHECK_INT_EQ(log->deletions.value, 2);
    CHECK_INT_EQ(flume__log_deletion_at(log, 0), seq);
    CHECK_INT_EQ(flume__log_deletion_at(log, 1), 0);
    CHECK_INT_EQ(see(log, false).count, file.count - 2);
    close_log(log);
  }
  end();
}

TEST(records_of_zeros_and_empty_records_are_not_deletes) {
  static const uint8_t zeros[1500];
  begin();
  struct flume_log *log = must_open();
  struct flume_slice records[] = {slice(zeros, 1), slice(zeros, 0), slice(zeros, 1500), slice_text("after")};
  int64_t seq = -1;
  CHECK_INT_EQ(flume_log_append_wait(log, records, 4, &seq, &err), 0);
  for (int round = 0; round < 2; round++) {
    struct seen seen = see(log, false);
    REQUIRE(seen.count == 4);
    CHECK_INT_EQ(seen.lens[0], 1);
    CHECK_INT_EQ(seen.lens[1], 0);
    CHECK_INT_EQ(seen.lens[2], 1500);
    CHECK_INT_EQ(seen.first_bytes[3], 'a');
    close_log(log);
    log = must_open();
  }
  seq = 0;
  CHECK_INT_EQ(log_del(log, &loop, &seq, 1), 0);
  CHECK_INT_EQ(see(log, false).count, 3);
  close_log(log);
  end();
}

/* --- Damage --------------------------------------------------------------------------------------------------- */

/* The records of the file that lie before len bytes. */
static int whole_before(const struct file *file, size_t len) {
  int count = 0;
  for (; count < file->count; count++) {
    size_t end_off = count + 1 < file->count ? file->starts[count + 1] : file->len;
    if (end_off > len) break;
  }
  return count;
}

static void cut_at_every_length(uint32_t bits) {
  struct file file;
  begin();
  make_file(&file, bits);
  for (size_t len = 0; len < file.len && !test_failed; len++) {
    struct flume_log *log = NULL;
    write_bytes(file.data, len);
    MUST(try_open(&log, (struct flume_log_options){.readonly = true, .offset_bits = bits}) == 0);
    CHECK_INT_EQ(see(log, false).count, whole_before(&file, len));
    close_log(log);
    MUST(try_open(&log, (struct flume_log_options){.offset_bits = bits}) == 0);
    int whole = whole_before(&file, len);
    CHECK_INT_EQ(see(log, false).count, whole);
    struct flume_slice record = slice_text("again");
    int64_t seq = -1;
    CHECK_INT_EQ(flume_log_append_wait(log, &record, 1, &seq, &err), 0);
    CHECK_INT_EQ(seq, whole < file.count ? file.starts[whole] : file.len);
    close_log(log);
    remove_files_beside();
    if (test_failed) printf("cut at %zu\n", len);
  }
  end();
}

TEST(a_tail_that_is_cut_anywhere_is_cut_off) {
  for (int i = 0; i < 3; i++) cut_at_every_length(all_bits[i]);
}

/* Which record byte i belongs to, and whether it is of its bytes rather than of its frame. */
static int record_at(const struct file *file, size_t i, bool *inside) {
  int n = file->count - 1;
  while (file->starts[n] > i) n--;
  size_t len = (size_t)flume_get_be32(file->data + file->starts[n]);
  *inside = i >= file->starts[n] + 4 && i < file->starts[n] + 4 + len;
  return n;
}

/* Flips byte i: the log says where it is damaged, or has all but the record that was hit. */
static void flip(const struct file *file, size_t i, bool closed) {
  struct file flipped = *file;
  struct flume_log *log = NULL;
  char where[64];
  bool inside;
  int n = record_at(file, i, &inside);
  flipped.data[i] ^= 0x55;
  write_bytes(flipped.data, flipped.len);
  int rv = try_open(&log, (struct flume_log_options){.readonly = true});
  snprintf(where, sizeof where, "byte %zu:", file->starts[n]);
  if (inside) {
    CHECK_INT_EQ(rv, 0);
  } else if (n < file->count - 1 || closed) {
    CHECK_INT_EQ(rv, FLUME_ECORRUPT);
    CHECK(strstr(err.msg, where) != NULL);
  }
  if (rv == 0) {
    int expected = inside ? file->count : n;
    CHECK_INT_EQ(see(log, false).count, expected);
    close_log(log);
  }
  if (test_failed) printf("byte %zu of record %d, %s: %s\n", i, n, closed ? "closed" : "by another", err.msg);
}

TEST(a_flip_of_any_byte_is_found_or_stays_within_its_record) {
  for (int i = 0; i < 3; i++) {
    struct file file;
    begin();
    make_file(&file, all_bits[i]);
    for (size_t at = 0; at < file.len && !test_failed; at++) flip(&file, at, false);
    end();
  }
}

/* The note of a log that was closed in order knows that its last record is no torn one. */
TEST(a_flip_in_a_closed_log_is_damage_and_no_torn_tail) {
  struct file file;
  begin();
  make_file(&file, 32);
  write_bytes(file.data, file.len);
  close_log(must_open());
  for (size_t at = 0; at < file.len && !test_failed; at++) flip(&file, at, true);
  for (size_t len = 0; len < file.len && !test_failed; len++) {
    struct flume_log *log;
    write_bytes(file.data, len);
    CHECK_INT_EQ(try_open(&log, (struct flume_log_options){0}), FLUME_ECORRUPT);
  }
  end();
}

TEST(records_before_damage_can_be_read) {
  struct file file;
  struct flume_log *log = NULL;
  begin();
  make_file(&file, 32);
  file.data[file.starts[2]] ^= 1;
  write_bytes(file.data, file.len);
  MUST(try_open(&log, (struct flume_log_options){.readonly = true, .damaged = true}) == 0);
  CHECK_INT_EQ(see(log, false).count, 2);
  close_log(log);
  end();
}

/* False behind the end of the file. */
static bool flip_byte(const char *name, size_t at) {
  uint8_t byte;
  int fd = open(name, O_RDWR | O_CLOEXEC);
  MUST(fd >= 0);
  bool there = pread(fd, &byte, 1, (off_t)at) == 1;
  byte ^= 0x55;
  if (there) MUST(pwrite(fd, &byte, 1, (off_t)at) == 1);
  close(fd);
  return there;
}

/* Every byte of what flume keeps beside the file: no other records than those that are there. */
TEST(a_flip_in_the_files_beside_the_log_changes_no_record) {
  static const char *const names[] = {"note", "deleted", "zeros"};
  struct file file;
  begin();
  make_file(&file, 32);
  write_bytes(file.data, file.len);
  struct flume_log *log = must_open();
  int64_t seqs[] = {0, (int64_t)file.starts[2]}, seq;
  struct flume_slice record = slice("\0\0", 2);
  CHECK_INT_EQ(log_append(log, &loop, &record, 1, &seq), 0);
  CHECK_INT_EQ(log_del(log, &loop, seqs, 2), 0);
  close_log(log);
  struct image image = {.count = 0};
  char dir[TEST_PATH_MAX + 16];
  snprintf(dir, sizeof dir, "%s/log.flume", root);
  image_take(&image, dir);
  for (int i = 0; i < 3; i++) {
    for (size_t at = 0; at < 700 && !test_failed; at++) {
      image_put(&image, dir);
      if (!flip_byte(path_in(dir, names[i]), at)) break;
      int rv = try_open(&log, (struct flume_log_options){.readonly = true});
      if (rv != 0) CHECK(rv == FLUME_ECORRUPT || rv == FLUME_EVERSION);
      if (rv == 0) {
        struct seen seen = see(log, false);
        CHECK(seen.count == file.count - 1 || (i == 2 && seen.count == file.count - 2));
        close_log(log);
      }
      if (test_failed) printf("byte %zu of %s\n", at, names[i]);
    }
  }
  image_free(&image);
  end();
}

TEST(check_says_which_bytes_are_no_record) {
  struct file file;
  struct flume_log *log = NULL;
  begin();
  make_file(&file, 32);
  file.data[file.starts[2]] ^= 1;
  write_bytes(file.data, file.len - 3);
  MUST(try_open(&log, (struct flume_log_options){.readonly = true, .damaged = true}) == 0);
  struct check_answer answer;
  CHECK_INT_EQ(log_check(log, &loop, &answer), 0);
  const struct flume_report *report = &answer.req.report;
  CHECK_INT_EQ(report->records, 4);
  CHECK_INT_EQ(report->damages, 1);
  CHECK_INT_EQ(report->findings_count, 2);
  CHECK_INT_EQ(report->findings[0].off, file.starts[2]);
  CHECK_INT_EQ(report->findings[1].kind, FLUME_FINDING_NOTE);
  CHECK_INT_EQ(report->findings[1].off, file.starts[5]);
  flume_report_fini(&answer.req.report);
  close_log(log);
  end();
}
