/* Compaction: the bytes of deleted records go, and nothing else changes. */
#include "compact_support.h"
#include "each_log.h"

#define RECORDS 40

/* Text of record i: empty, short or long; "secret-NN-" where it is long enough to be looked for. */
static const char *text_of(int64_t i) {
  static char text[800];
  int len = snprintf(text, sizeof text, "secret-%02d-", (int)i);
  if (i % 7 == 3) text[0] = '\0';
  else if (i % 5 == 0) memset(text + len, 'x', 600), text[len + 600] = '\0';
  return text;
}

static void append_batch(struct fixture *f, int64_t from, int count) {
  struct flume_slice records[10];
  char texts[10][800];
  int64_t seq = -1;
  for (int i = 0; i < count; i++) {
    strcpy(texts[i], text_of(from + i));
    records[i] = slice_text(texts[i]);
  }
  CHECK_INT_EQ(flume_log_append_wait(f->log, records, (size_t)count, &seq, &f->err), 0);
  CHECK_INT_EQ(seq, from + count - 1);
}

/* 40 records in frames of 1, 2, 3, 4, ... */
static void fill(struct fixture *f) {
  int count = 1;
  for (int64_t next = 0; next < RECORDS; next += count, count = count % 4 + 1) {
    if (count > RECORDS - next) count = (int)(RECORDS - next);
    append_batch(f, next, count);
  }
}

static struct compaction_answer compact(struct fixture *f) {
  struct compaction_answer answer;
  if (!CHECK_INT_EQ(log_compact(f->log, &f->loop, &answer), 0)) printf("%s\n", answer.err.msg);
  return answer;
}

/* Every record by get, and all of them by streams in both directions. */
static void check_records(struct fixture *f, const bool *deleted) {
  char forward[512] = "", backward[512] = "", one[24], both[512];
  for (int64_t seq = 0; seq < RECORDS; seq++) {
    if (deleted[seq]) {
      CHECK_INT_EQ(get_code(f, seq), FLUME_EDELETED);
      continue;
    }
    CHECK(is_text(f, seq, text_of(seq)));
    snprintf(one, sizeof one, "%d ", (int)seq);
    strcat(forward, one);
    snprintf(both, sizeof both, "%s%s", one, backward);
    strcpy(backward, both);
  }
  struct flume_range range = everything(), reverse = backwards();
  CHECK_STR_EQ(all_of(f, &range), strcat(forward, "."));
  CHECK_STR_EQ(all_of(f, &reverse), strcat(backward, "."));
}

static void check_erased(struct fixture *f, const bool *deleted) {
  if (f->kind->memory) return;
  for (int64_t seq = 0; seq < RECORDS; seq++) {
    char name[16];
    snprintf(name, sizeof name, "secret-%02d-", (int)seq);
    if (seq % 7 != 3) CHECK_INT_EQ(files_with(f->dir, name, strlen(name)), !deleted[seq]);
  }
}

static int read_deleted_code(struct fixture *f, int64_t seq) {
  struct flume_block *block = NULL;
  int rv = flume__log_read_deleted(f->log, seq, &block, &f->err);
  flume_block_unref(block);
  return rv;
}

/* Deletes the records whose bit is set in the pattern (of 40), and compacts; then a second time with more of them. */
static void delete_and_compact(struct fixture *f, uint64_t pattern) {
  int64_t seqs[RECORDS];
  bool deleted[RECORDS];
  size_t count = 0;
  for (int64_t seq = 0; seq < RECORDS; seq++) {
    deleted[seq] = pattern >> seq & 1;
    if (deleted[seq]) seqs[count++] = seq;
  }
  int64_t before = f->log->deletions.value;
  CHECK_INT_EQ(log_del(f->log, &f->loop, seqs, count), 0);
  struct compaction_answer answer = compact(f);
  CHECK_INT_EQ(answer.req.records, f->log->deletions.value - before);
  CHECK((answer.req.segments > 0) == (answer.req.records > 0) && answer.req.bytes_after <= answer.req.bytes_before);
  for (size_t i = 0; i < count; i++) CHECK_INT_EQ(read_deleted_code(f, seqs[i]), FLUME_ENOENT);
  check_records(f, deleted);
  check_erased(f, deleted);
  answer = compact(f);
  CHECK_INT_EQ(answer.req.segments, 0);
  CHECK_INT_EQ(flume__log_deleted_count(f->log, RECORDS - 1), f->log->deletions.value);
  if (!fixture_reopen(f)) return;
  check_records(f, deleted);
  answer = compact(f);
  CHECK_INT_EQ(answer.req.segments, 0);
}

static const uint64_t all_records = ((uint64_t)1 << RECORDS) - 1;

#define COMPACT(name, pattern)                \
  EACH_LOG(compact_##name) {                  \
    fill(f);                                  \
    delete_and_compact(f, (pattern));         \
    CHECK_INT_EQ(append_text(f, "more"), 40); \
    CHECK(is_text(f, 40, "more"));            \
  }

COMPACT(nothing, 0)
COMPACT(the_first_record, 1)
COMPACT(the_last_record, (uint64_t)1 << (RECORDS - 1))
COMPACT(one_in_the_middle, (uint64_t)1 << 17)
COMPACT(empty_records, (uint64_t)1 << 3 | (uint64_t)1 << 10 | (uint64_t)1 << 38)
COMPACT(whole_frames, 0x3fe0)
COMPACT(every_second_record, 0xaaaaaaaaaa)
COMPACT(all_but_one, all_records & ~((uint64_t)1 << 20))
COMPACT(all_records, all_records)

EACH_LOG(compact_again_and_again) {
  fill(f);
  uint64_t state = random_seed(), pattern = 0;
  while (pattern != all_records && !test_failed) {
    pattern |= (random_next(&state) & random_next(&state) & random_next(&state)) & all_records;
    delete_and_compact(f, pattern);
  }
}

EACH_LOG(compact_an_empty_log) {
  struct compaction_answer answer = compact(f);
  CHECK_INT_EQ(answer.req.segments, 0);
  CHECK_INT_EQ(append_text(f, "zero"), 0);
}

EACH_LOG(compact_large_records) {
  size_t len = 20u << 20;
  uint8_t *data = payload_new(len, 5);
  struct flume_slice records[3] = {slice_text("small"), slice(data, len), slice(data, len)};
  int64_t seq = -1;
  CHECK_INT_EQ(flume_log_append_wait(f->log, records, 3, &seq, &f->err), 0);
  CHECK_INT_EQ(del_one(f, 1), 0);
  struct compaction_answer answer = compact(f);
  CHECK_INT_EQ(answer.req.records, 1);
  CHECK_INT_EQ(answer.req.bytes_before - answer.req.bytes_after, len);
  for (int round = 0; round < 2; round++) {
    struct flume_record record;
    CHECK_INT_EQ(get_code(f, 1), FLUME_EDELETED);
    CHECK(is_text(f, 0, "small"));
    REQUIRE(flume_log_get(f->log, 2, &record, &f->err) == 0);
    CHECK(record.len == len && payload_is(record.data, len, 5));
    flume_record_release(&record);
    if (!fixture_reopen(f)) break;
  }
  free(data);
}

/* --- Meanwhile ------------------------------------------------------------------------------------------------ */

/* Appends and reads, from before the compaction until it is done. */
EACH_LOG(appends_and_streams_go_on) {
  fill(f);
  struct flume_range live = living(true), range = everything();
  struct flume_stream *before = stream_new(f, &range), *follows = stream_new(f, &live);
  struct flume_record first;
  REQUIRE(flume_stream_next(before, &first, NULL) == 1);
  CHECK_INT_EQ(log_del(f->log, &f->loop, (int64_t[]){0, 2, 39}, 3), 0);
  struct compaction_answer answer = {.calls = 0};
  CHECK_INT_EQ(flume_log_compact(f->log, &answer.req, on_compacted, &f->err), 0);
  int64_t next = RECORDS;
  while (answer.calls == 0) {
    CHECK_INT_EQ(append_text(f, "new"), next++);
    CHECK(is_text(f, 1, text_of(1)) && is_text(f, next - 1, "new"));
    CHECK_INT_EQ(get_code(f, 2), FLUME_EDELETED);
  }
  CHECK_INT_EQ(answer.status, 0);
  CHECK_INT_EQ(answer.req.records, 3);
  CHECK(first.len > 600 && memcmp(first.data, "secret-00-", 10) == 0);
  flume_record_release(&first);
  CHECK(strncmp(rest_of(before), "1 3 4 5 ", 8) == 0);
  CHECK(strncmp(rest_of(follows), "1 3 4 5 ", 8) == 0);
  CHECK_INT_EQ(append_text(f, "last"), next);
  char last[24];
  snprintf(last, sizeof last, "%d ...", (int)next);
  CHECK_STR_EQ(rest_of(follows), last);
  flume_stream_close(before);
  flume_stream_close(follows);
}

/* A block that was planned before reads from the file that is replaced. */
EACH_LOG(planned_blocks_stay_good) {
  fill(f);
  struct flume_block *block;
  REQUIRE(flume__log_plan(f->log, 1, false, 1 << 20, &block, &f->err) == 0);
  CHECK_INT_EQ(log_del(f->log, &f->loop, (int64_t[]){0, 1}, 2), 0);
  CHECK_INT_EQ(compact(f).req.records, 2);
  REQUIRE(flume_block_load(block, &f->err) == 0);
  uint32_t len;
  const uint8_t *data = flume_block_get(block, 0, &len);
  CHECK(data != NULL && len == 10 && memcmp(data, "secret-01-", 10) == 0);
  flume_block_unref(block);
}

EACH_LOG(deletes_meanwhile_wait_for_the_next) {
  fill(f);
  CHECK_INT_EQ(del_one(f, 4), 0);
  struct compaction_answer answer = {.calls = 0};
  CHECK_INT_EQ(flume_log_compact(f->log, &answer.req, on_compacted, &f->err), 0);
  CHECK_INT_EQ(del_one(f, 5), 0);
  while (answer.calls == 0) uv_run(&f->loop, UV_RUN_ONCE);
  CHECK_INT_EQ(answer.req.records + compact(f).req.records, 2);
  CHECK_INT_EQ(get_code(f, 4), FLUME_EDELETED);
  CHECK_INT_EQ(get_code(f, 5), FLUME_EDELETED);
  CHECK(is_text(f, 6, text_of(6)));
}

EACH_LOG(one_compaction_at_a_time) {
  fill(f);
  CHECK_INT_EQ(del_one(f, 4), 0);
  struct compaction_answer first = {.calls = 0}, second = {.calls = 0};
  CHECK_INT_EQ(flume_log_compact(f->log, &first.req, on_compacted, &f->err), 0);
  CHECK_INT_EQ(flume_log_compact(f->log, &second.req, on_compacted, &f->err), FLUME_EBUSY);
  while (first.calls == 0) uv_run(&f->loop, UV_RUN_ONCE);
  CHECK_INT_EQ(second.calls, 0);
  CHECK_INT_EQ(log_compact(f->log, &f->loop, &second), 0);
}

EACH_LOG(close_while_it_compacts) {
  fill(f);
  CHECK_INT_EQ(log_del(f->log, &f->loop, (int64_t[]){0, 20, 39}, 3), 0);
  struct compaction_answer answer = {.calls = 0};
  CHECK_INT_EQ(flume_log_compact(f->log, &answer.req, on_compacted, &f->err), 0);
  fixture_close(f);
  CHECK_INT_EQ(answer.calls, 1);
  CHECK(answer.status == (f->kind->memory ? 0 : FLUME_ECLOSED));
  if (f->kind->memory) return;
  fixture_open(f);
  CHECK_INT_EQ(compact(f).req.records + answer.req.records, 3);
  CHECK(is_text(f, 1, text_of(1)));
  CHECK_INT_EQ(get_code(f, 39), FLUME_EDELETED);
}

static void note_progress(struct flume_compact *req, uint64_t done_bytes, uint64_t total_bytes) {
  uint64_t *last = req->data;
  CHECK(done_bytes >= last[0] && done_bytes <= total_bytes && (last[1] == 0 || last[1] == total_bytes));
  last[0] = done_bytes;
  last[1] = total_bytes;
}

TEST(progress_is_reported) {
  static struct fixture fixture;
  struct fixture *f = &fixture;
  fixture_init(f, &kinds[2]);
  fixture_open(f);
  fill(f);
  CHECK_INT_EQ(log_del(f->log, &f->loop, (int64_t[]){0, 20, 39}, 3), 0);
  uint64_t last[2] = {0, 0};
  struct compaction_answer answer = {.req = {.data = last, .progress = note_progress}};
  CHECK_INT_EQ(flume_log_compact(f->log, &answer.req, on_compacted, &f->err), 0);
  while (answer.calls == 0) uv_run(&f->loop, UV_RUN_ONCE);
  CHECK(last[1] > 0 && last[0] == last[1] && last[1] == answer.req.bytes_before);
  fixture_fini(f);
}

/* --- Files ---------------------------------------------------------------------------------------------------- */

struct file_fixture {
  struct fixture f;
  struct image image;
};

/* A log of many segments with some deleted records. */
static void file_begin(struct file_fixture *ff) {
  fixture_init(&ff->f, &kinds[2]);
  fixture_open(&ff->f);
  fill(&ff->f);
  CHECK_INT_EQ(log_del(ff->f.log, &ff->f.loop, (int64_t[]){0, 5, 20, 21, 39}, 5), 0);
}

static void file_end(struct file_fixture *ff) {
  faults_arm(&ff->f.faults, FAULT_NONE, 0, 0);
  fixture_fini(&ff->f);
}

static void deleted_of(bool *deleted) {
  memset(deleted, 0, RECORDS * sizeof *deleted);
  deleted[0] = deleted[5] = deleted[20] = deleted[21] = deleted[39] = true;
}

/* Whatever fails: the log goes on, nothing is lost, and the next compaction removes what is left. */
static void fail_each(enum fault_op op, int code) {
  static struct file_fixture ff;
  bool deleted[RECORDS], hit = true;
  deleted_of(deleted);
  for (int nth = 1; hit && nth < 500 && !test_failed; nth++) {
    file_begin(&ff);
    struct fixture *f = &ff.f;
    faults_arm(&f->faults, op, nth, code);
    struct compaction_answer answer;
    int rv = log_compact(f->log, &f->loop, &answer);
    hit = fault_was_hit(&f->faults);
    CHECK(rv == 0 || rv == code);
    CHECK(hit || rv == 0);
    faults_arm(&f->faults, FAULT_NONE, 0, 0);
    check_records(f, deleted);
    fixture_reopen(f);
    check_records(f, deleted);
    compact(f);
    check_records(f, deleted);
    check_erased(f, deleted);
    CHECK_INT_EQ(append_text(f, "more"), RECORDS);
    if (test_failed) printf("call %d of %s\n", nth, fault_names[op]);
    file_end(&ff);
  }
}

TEST(compact_with_failing_writes) { fail_each(FAULT_WRITE, UV_ENOSPC); }
TEST(compact_with_failing_reads) { fail_each(FAULT_READ, UV_EIO); }
TEST(compact_with_failing_syncs) { fail_each(FAULT_SYNC, UV_EIO); }
TEST(compact_with_failing_opens) { fail_each(FAULT_OPEN, UV_EMFILE); }
TEST(compact_with_failing_renames) { fail_each(FAULT_RENAME, UV_EIO); }
TEST(compact_with_failing_directory_syncs) { fail_each(FAULT_SYNC_DIR, UV_EIO); }
TEST(compact_with_failing_truncates) { fail_each(FAULT_TRUNCATE, UV_EIO); }
TEST(compact_without_memory) { fail_each(FAULT_ALLOC, UV_ENOMEM); }

/* What a crash may leave of the new file is removed, and was never data. */
TEST(leftovers_of_a_compaction) {
  static struct file_fixture ff;
  bool deleted[RECORDS];
  deleted_of(deleted);
  file_begin(&ff);
  struct fixture *f = &ff.f;
  fixture_close(f);
  image_take(&ff.image, f->dir);
  const struct image_file *file = &ff.image.files[0];
  static const char name[] = "00000000000000000000.flume.new";
  for (size_t len = 0; len <= file->len; len += 13) {
    write_file(path_in(f->dir, name), file->data, len, file->len);
    f->options.readonly = true;
    fixture_open(f);
    check_records(f, deleted);
    fixture_close(f);
    f->options.readonly = false;
    CHECK(file_exists(f->dir, name));
    fixture_open(f);
    CHECK(!file_exists(f->dir, name));
    check_records(f, deleted);
    fixture_close(f);
  }
  image_free(&ff.image);
  fixture_open(f);
  file_end(&ff);
}

/* The index of a compacted segment only saves time, too. */
TEST(compacted_segments_without_their_index) {
  static struct file_fixture ff;
  bool deleted[RECORDS];
  deleted_of(deleted);
  file_begin(&ff);
  struct fixture *f = &ff.f;
  compact(f);
  fixture_close(f);
  image_take(&ff.image, f->dir);
  for (int i = 0; i < ff.image.count; i++) {
    struct image_file *file = &ff.image.files[i];
    if (strstr(file->name, FLUME_SEGMENT_SUFFIX) != NULL && file->len > 64) file->data[file->len - 10] ^= 1;
  }
  image_put(&ff.image, f->dir);
  image_free(&ff.image);
  fixture_open(f);
  check_records(f, deleted);
  CHECK_INT_EQ(flume__log_deleted_count(f->log, RECORDS - 1), 5);
  file_end(&ff);
}

/* Each byte of a compacted segment is guarded: it reads as it was, or as damaged. */
TEST(flip_in_a_compacted_segment) {
  static struct file_fixture ff;
  file_begin(&ff);
  struct fixture *f = &ff.f;
  compact(f);
  fixture_close(f);
  image_take(&ff.image, f->dir);
  struct image_file *file = &ff.image.files[0];
  bool deleted[RECORDS];
  deleted_of(deleted);
  for (size_t off = 0; off < file->len && !test_failed; off++) {
    file->data[off] ^= 0x41;
    image_put(&ff.image, f->dir);
    file->data[off] ^= 0x41;
    fixture_open(f);
    for (int64_t seq = 0; seq < RECORDS; seq++) {
      int rv = get_code(f, seq);
      if (rv == 0) CHECK(!deleted[seq] && is_text(f, seq, text_of(seq)));
      else CHECK((rv == FLUME_EDELETED && deleted[seq]) || rv == FLUME_ECORRUPT);
    }
    fixture_close(f);
    if (test_failed) printf("byte %zu\n", off);
  }
  image_put(&ff.image, f->dir);
  image_free(&ff.image);
  fixture_open(f);
  file_end(&ff);
}

/* What is damaged is not written anew: that would make the damage good. */
TEST(damage_ends_a_compaction) {
  static struct file_fixture ff;
  file_begin(&ff);
  struct fixture *f = &ff.f;
  fixture_close(f);
  image_take(&ff.image, f->dir);
  struct image_file *file = ff.image.files; /* the one with record 4, beside 5, which is deleted */
  uint8_t *at;
  while ((at = memmem(file->data, file->len, "secret-04-", 10)) == NULL) file++;
  *at ^= 1;
  image_put(&ff.image, f->dir);
  fixture_open(f);
  struct compaction_answer answer;
  CHECK_INT_EQ(log_compact(f->log, &f->loop, &answer), FLUME_ECORRUPT);
  CHECK(strstr(answer.err.msg, file->name) != NULL && strstr(answer.err.msg, "byte") != NULL);
  CHECK(image_is(&(struct image){.files = {*file}, .count = 1}, f->dir, 0, 0, 0));
  char left_over[80];
  snprintf(left_over, sizeof left_over, "%s.new", file->name);
  CHECK(!file_exists(f->dir, left_over));
  CHECK_INT_EQ(append_text(f, "more"), RECORDS);
  image_free(&ff.image);
  file_end(&ff);
}

TEST(a_reader_compacts_nothing) {
  static struct file_fixture ff;
  file_begin(&ff);
  struct fixture *f = &ff.f;
  fixture_close(f);
  f->options.readonly = true;
  fixture_open(f);
  struct compaction_answer answer;
  CHECK_INT_EQ(log_compact(f->log, &f->loop, &answer), FLUME_EREADONLY);
  CHECK_INT_EQ(answer.calls, 0);
  file_end(&ff);
}

/* --- Digests -------------------------------------------------------------------------------------------------- */

static int64_t digest_of(struct fixture *f, int64_t seq) {
  uint32_t digest = 0;
  int rv = flume__log_digest(f->log, seq, &digest, &f->err);
  return rv == 0 ? (int64_t)digest : rv;
}

EACH_LOG(digests_tell_records_apart) {
  append_numbers(f, 0, 9);
  CHECK_INT_EQ(append_text(f, "5"), 10);
  int64_t fifth = digest_of(f, 5), sixth = digest_of(f, 6);
  CHECK(fifth >= 0 && sixth >= 0 && fifth != sixth && fifth != digest_of(f, 10));
  CHECK_INT_EQ(fifth, flume_crc32c(flume_record_seed(5, 1), "5", 1));
  if (fixture_reopen(f)) CHECK_INT_EQ(digest_of(f, 5), fifth);
  CHECK_INT_EQ(del_one(f, 5), 0);
  CHECK_INT_EQ(digest_of(f, 5), fifth);
  compact(f);
  CHECK_INT_EQ(digest_of(f, 5), FLUME_EDELETED);
  CHECK_INT_EQ(digest_of(f, 6), sixth);
  if (!fixture_reopen(f)) return;
  CHECK_INT_EQ(digest_of(f, 5), FLUME_EDELETED);
  CHECK_INT_EQ(digest_of(f, 6), sixth);
}
