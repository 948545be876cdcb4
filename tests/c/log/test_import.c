/* Imports: whole files of other logs, torn and damaged ones, and disks that fail. Files that the originals have written
 * are read by cli_import_spec.lua. */
#include "import/log_import.h"

#include "codec/msgpack.h"
#include "bipf_samples.h"
#include "offset_fixture.h"

#define BLOCK 65536u
#define FILE_MAX (3 * BLOCK)

static struct flume_import import;
static struct flume_buf json;

/* What a file has: records as JSON texts, and what is said of the rest. */
struct walk {
  char texts[RECORDS_MAX][80];
  int count;
  char errors[RECORDS_MAX][160];
  uint64_t behind[RECORDS_MAX]; /* where it went on after each */
  int errors_count;
  uint64_t deleted;
  int status; /* of what ended it; 0 at the end */
};

static int open_import(enum flume_import_format format, uint32_t bits) {
  err.code = 0;
  int rv = flume_import_open(&import, &faults.io, format, path, bits, &err);
  CHECK_INT_EQ(err.code, rv);
  return rv;
}

static void note_text(struct walk *walk) {
  MUST(walk->count < RECORDS_MAX);
  snprintf(walk->texts[walk->count++], sizeof walk->texts[0], "%.*s", (int)json.len, (const char *)json.data);
}

/* Damage is passed over; any other error ends it. */
static struct walk walk_on(void) {
  struct walk walk = {.count = 0};
  flume_buf_init(&json, &faults.io);
  for (;;) {
    uint64_t before = import.off;
    json.len = 0;
    walk.status = flume_import_next_json(&import, &json, &err);
    if (walk.status == 1) {
      note_text(&walk);
    } else if (walk.status == FLUME_ECORRUPT && walk.errors_count < RECORDS_MAX) {
      CHECK(import.off > before);
      CHECK_INT_EQ(json.len, 0);
      CHECK(strncmp(err.msg, path, strlen(path)) == 0);
      snprintf(walk.errors[walk.errors_count], sizeof walk.errors[0], "%.150s", err.msg + strlen(path));
      walk.behind[walk.errors_count++] = import.off;
    } else {
      break;
    }
  }
  walk.deleted = import.deleted;
  flume_buf_fini(&json);
  return walk;
}

static struct walk walk(enum flume_import_format format, uint32_t bits) {
  struct walk walk = {.status = open_import(format, bits)};
  if (walk.status != 0) return walk;
  walk = walk_on();
  flume_import_close(&import);
  return walk;
}

static void check_texts(const struct walk *walk, const char *const *expected, int count) {
  CHECK_INT_EQ(walk->count, count);
  for (int i = 0; i < count && i < walk->count; i++) CHECK_STR_EQ(walk->texts[i], expected[i]);
}

/* The texts are a part of those expected, in their order. */
static bool is_part(const struct walk *walk, const char *const *expected, int count) {
  int at = 0;
  for (int i = 0; i < walk->count; i++, at++) {
    while (at < count && strcmp(walk->texts[i], expected[at]) != 0) at++;
    if (at == count) return false;
  }
  return true;
}

/* --- Files -------------------------------------------------------------------------------------------------------- */

static const char *const objects[] = {"{\"a\":1}", "[1,\"two\",null]", "\"text\"", "12", "{\"b\":{\"c\":[]}}"};
enum { OBJECTS = 5 };

static void make_offset(struct file *file, uint32_t bits) {
  *file = (struct file){.len = 0};
  for (int i = 0; i < OBJECTS; i++) frame_text(file, objects[i], bits);
}

/* An async file is made record by record; a block has no room for the next when that would reach beyond it. */
struct async {
  uint8_t data[FILE_MAX];
  size_t len;
  size_t starts[RECORDS_MAX];
  int count;
};

static struct async async;

static void put_record(const uint8_t *data, size_t len) {
  MUST(async.len + len + 2 <= sizeof async.data && async.count < RECORDS_MAX);
  async.starts[async.count++] = async.len;
  async.data[async.len++] = (uint8_t)len;
  async.data[async.len++] = (uint8_t)(len >> 8);
  memcpy(async.data + async.len, data, len);
  async.len += len;
}

/* {"n": n} */
static void put_number(int32_t n) {
  struct bipf inside = {.len = 0}, bipf = {.len = 0};
  bipf_put_text(&inside, "n");
  bipf_put_int(&inside, n);
  bipf_put_container(&bipf, BIPF_OBJECT, &inside);
  put_record(bipf.data, bipf.len);
}

static const char *const numbers[] = {"{\"n\":0}", "{\"n\":1}", "{\"n\":2}", "{\"n\":3}", "{\"n\":4}"};
enum { NUMBERS = 5 };

static void make_numbers(void) {
  async.len = 0;
  async.count = 0;
  memset(async.data, 0, sizeof async.data);
  for (int n = 0; n < NUMBERS; n++) put_number(n);
}

static void end_block(void) {
  async.len = (async.len + BLOCK - 1) / BLOCK * BLOCK;
}

/* --- Offset files ------------------------------------------------------------------------------------------------- */

static const uint32_t all_bits[] = {32, 48, 53};

TEST(offset_file_of_each_framing) {
  for (int i = 0; i < 3; i++) {
    struct file file;
    begin();
    make_offset(&file, all_bits[i]);
    memset(file.data + file.starts[2] + 4, 0, strlen(objects[2]));
    write_bytes(file.data, file.len);
    const char *left[] = {objects[0], objects[1], objects[3], objects[4]};
    for (int given = 0; given < 2; given++) {
      struct walk seen = walk(FLUME_IMPORT_OFFSET, given ? all_bits[i] : 0);
      CHECK_INT_EQ(seen.status, 0);
      CHECK_INT_EQ(seen.deleted, 1);
      CHECK_INT_EQ(seen.errors_count, 0);
      check_texts(&seen, left, 4);
    }
    end();
  }
}

/* As MessagePack the bytes are those of the value. */
TEST(records_as_messagepack) {
  struct file file;
  struct flume_buf packed;
  struct flume_value value;
  const uint8_t *text;
  begin();
  make_offset(&file, 32);
  write_bytes(file.data, file.len);
  flume_buf_init(&packed, &faults.io);
  MUST(open_import(FLUME_IMPORT_OFFSET, 0) == 0);
  CHECK_INT_EQ(flume_import_next(&import, &packed, &err), 1);
  CHECK_INT_EQ(flume_msgpack_find(packed.data, packed.data + packed.len, "a", 1, &text), 0);
  CHECK_INT_EQ(flume_msgpack_read(&text, packed.data + packed.len, &value), 0);
  CHECK(value.type == FLUME_TYPE_INT && value.i == 1);
  for (int i = 1; i < OBJECTS; i++) CHECK_INT_EQ(flume_import_next(&import, &packed, &err), 1);
  CHECK_INT_EQ(flume_import_next(&import, &packed, &err), 0);
  flume_buf_fini(&packed);
  flume_import_close(&import);
  flume_import_close(&import); /* does nothing */
  end();
}

TEST(files_that_are_not_there_or_empty) {
  begin();
  CHECK_INT_EQ(open_import(FLUME_IMPORT_OFFSET, 0), UV_ENOENT);
  CHECK(strstr(err.msg, path) != NULL);
  write_bytes("", 0);
  for (int format = FLUME_IMPORT_OFFSET; format <= FLUME_IMPORT_ASYNC; format++) {
    struct walk seen = walk((enum flume_import_format)format, 0);
    CHECK_INT_EQ(seen.status, 0);
    CHECK_INT_EQ(seen.count + seen.errors_count, 0);
  }
  end();
}

TEST(a_file_without_any_frame_is_refused) {
  begin();
  write_bytes("this is a text, and no log at all\n", 34);
  CHECK_INT_EQ(open_import(FLUME_IMPORT_OFFSET, 0), FLUME_ECORRUPT);
  CHECK(strstr(err.msg, "byte 0: no flumelog-offset record with pointers of 32, 48 or 53 bits") != NULL);
  struct walk seen = walk(FLUME_IMPORT_OFFSET, 48);
  CHECK_INT_EQ(seen.status, 0);
  CHECK_INT_EQ(seen.errors_count, 1);
  CHECK_INT_EQ(seen.behind[0], 34);
  end();
}

TEST(a_record_that_is_not_json_is_skipped) {
  struct file file = {.len = 0};
  char where[32];
  begin();
  frame_text(&file, objects[0], 32);
  frame_text(&file, "{\"a\":", 32);
  frame_text(&file, "", 32);
  frame_text(&file, objects[1], 32);
  write_bytes(file.data, file.len);
  struct walk seen = walk(FLUME_IMPORT_OFFSET, 0);
  check_texts(&seen, objects, 2);
  CHECK_INT_EQ(seen.errors_count, 2);
  for (int i = 0; i < 2; i++) {
    snprintf(where, sizeof where, ": byte %zu: column ", file.starts[i + 1]);
    CHECK(strncmp(seen.errors[i], where, strlen(where)) == 0);
    CHECK_INT_EQ(seen.behind[i], file.starts[i + 2]);
  }
  end();
}

/* All that ends before the cut is there; the rest is told of once. */
TEST(an_offset_file_that_is_cut_anywhere) {
  struct file file;
  begin();
  make_offset(&file, 48);
  for (size_t len = 1; len < file.len && !test_failed; len++) {
    int whole = 0;
    while (whole + 1 < OBJECTS && file.starts[whole + 1] <= len) whole++;
    write_bytes(file.data, len);
    struct walk seen = walk(FLUME_IMPORT_OFFSET, 48);
    CHECK_INT_EQ(seen.status, 0);
    check_texts(&seen, objects, whole);
    CHECK_INT_EQ(seen.errors_count, file.starts[whole] < len);
    if (test_failed) printf("cut at %zu\n", len);
  }
  end();
}

static int frame_at(const struct file *file, size_t at) {
  int n = file->count - 1;
  while (file->starts[n] > at) n--;
  return n;
}

/* One record is hit: all others are found, in their order, and when its frame was hit that is told, with its byte. */
TEST(an_offset_file_with_any_byte_flipped) {
  struct file file;
  char where[32];
  begin();
  make_offset(&file, 32);
  for (size_t at = 0; at < file.len && !test_failed; at++) {
    struct file flipped = file;
    const char *left[OBJECTS];
    int n = frame_at(&file, at);
    size_t len = strlen(objects[n]);
    flipped.data[at] ^= 0x55;
    write_bytes(flipped.data, flipped.len);
    struct walk seen = walk(FLUME_IMPORT_OFFSET, 0);
    CHECK_INT_EQ(seen.status, 0);
    CHECK(seen.count >= OBJECTS - 1 && seen.count + seen.errors_count == OBJECTS);
    if (at < file.starts[n] + 4 || at >= file.starts[n] + 4 + len) {
      for (int i = 0; i < OBJECTS - 1; i++) left[i] = objects[i < n ? i : i + 1];
      check_texts(&seen, left, OBJECTS - 1);
      snprintf(where, sizeof where, ": byte %zu: ", file.starts[n]);
      CHECK(strncmp(seen.errors[0], where, strlen(where)) == 0);
    }
    if (test_failed) printf("byte %zu, of record %d\n", at, n);
  }
  end();
}

TEST(a_file_that_becomes_shorter_is_reported) {
  struct file file;
  begin();
  make_offset(&file, 32);
  write_bytes(file.data, file.len);
  MUST(open_import(FLUME_IMPORT_OFFSET, 32) == 0);
  write_bytes(file.data, 10);
  flume_buf_init(&json, &faults.io);
  CHECK_INT_EQ(flume_import_next_json(&import, &json, &err), FLUME_ECORRUPT);
  CHECK(strstr(err.msg, "the file has become shorter") != NULL);
  flume_buf_fini(&json);
  flume_import_close(&import);
  end();
}

/* --- async-append-only-log files ---------------------------------------------------------------------------------- */

TEST(async_file_of_some_blocks) {
  begin();
  make_numbers();
  memset(async.data + async.starts[1] + 2, 0, async.starts[2] - async.starts[1] - 2);
  end_block();
  put_number(5);
  end_block();
  put_number(6);
  write_bytes(async.data, async.len);
  static const char *const left[] = {"{\"n\":0}", "{\"n\":2}", "{\"n\":3}", "{\"n\":4}", "{\"n\":5}", "{\"n\":6}"};
  struct walk seen = walk(FLUME_IMPORT_ASYNC, 0);
  CHECK_INT_EQ(seen.status, 0);
  CHECK_INT_EQ(seen.errors_count, 0);
  CHECK_INT_EQ(seen.deleted, 1);
  check_texts(&seen, left, 6);
  end();
}

/* A record may fill a block, or leave a byte of it. */
TEST(records_as_long_as_a_block) {
  for (size_t rest = 0; rest < 3; rest++) {
    static uint8_t record[BLOCK];
    size_t len = BLOCK - 2 - rest;
    begin();
    make_numbers();
    async.len = async.count = 0;
    uint32_t tag = (uint32_t)(len - 3) << 3 | BIPF_STRING; /* of three bytes */
    memset(record, 'x', sizeof record);
    for (int i = 0; i < 3; i++) record[i] = (uint8_t)((tag >> (7 * i) & 0x7f) | (i < 2 ? 0x80 : 0));
    memset(async.data, 0, BLOCK);
    put_record(record, len);
    end_block();
    put_number(7);
    write_bytes(async.data, async.len);
    struct walk seen = walk(FLUME_IMPORT_ASYNC, 0);
    CHECK_INT_EQ(seen.errors_count, 0);
    CHECK_INT_EQ(seen.count, 2);
    CHECK(strncmp(seen.texts[0], "\"xxxxxxxx", 9) == 0);
    CHECK_STR_EQ(seen.texts[1], "{\"n\":7}");
    end();
  }
}

/* What is wrong in a block ends it, and the next one is read; a record that is no BIPF is passed over alone. */
TEST(damage_in_a_block_leaves_the_next_one) {
  static const char *const left[] = {"{\"n\":0}", "{\"n\":1}", "{\"n\":2}", "{\"n\":3}", "{\"n\":4}", "{\"n\":9}"};
  begin();
  for (int damage = 0; damage < 3; damage++) {
    make_numbers();
    size_t at = async.len;
    if (damage == 0) async.data[at + 100] = 1;
    if (damage == 1) async.data[at] = async.data[at + 1] = 0xff;
    if (damage == 2) put_record((const uint8_t *)"\x3a\x01", 2);
    end_block();
    put_number(9);
    write_bytes(async.data, async.len);
    struct walk seen = walk(FLUME_IMPORT_ASYNC, 0);
    static const char *const words[] = {"something behind the end of a block", "a record that is longer than its block",
                                        "byte 0: a value that is longer than what it is in"};
    char expected[160];
    snprintf(expected, sizeof expected, ": byte %zu: %s", at, words[damage]);
    CHECK_INT_EQ(seen.status, 0);
    REQUIRE(seen.errors_count == 1);
    CHECK_STR_EQ(seen.errors[0], expected);
    check_texts(&seen, left, 6);
  }
  end();
}

TEST(an_async_file_that_is_cut_anywhere) {
  begin();
  make_numbers();
  for (size_t len = 1; len < async.len && !test_failed; len++) {
    int whole = 0;
    while (whole + 1 < NUMBERS && async.starts[whole + 1] <= len) whole++;
    write_bytes(async.data, len);
    struct walk seen = walk(FLUME_IMPORT_ASYNC, 0);
    CHECK_INT_EQ(seen.status, 0);
    check_texts(&seen, numbers, whole);
    CHECK_INT_EQ(seen.errors_count, len - async.starts[whole] >= 2); /* one byte may be what is left of a block */
    if (test_failed) printf("cut at %zu\n", len);
  }
  end();
}

/* There are no checksums: what is before the byte is there, and the rest are other values or damage. A byte within a
 * record changes that one alone. */
TEST(an_async_file_with_any_byte_flipped) {
  begin();
  make_numbers();
  for (size_t at = 0; at < async.len && !test_failed; at++) {
    int n = NUMBERS - 1;
    while (async.starts[n] > at) n--;
    async.data[at] ^= 0x55;
    write_bytes(async.data, async.len);
    async.data[at] ^= 0x55;
    struct walk seen = walk(FLUME_IMPORT_ASYNC, 0);
    CHECK_INT_EQ(seen.status, 0);
    CHECK(seen.count >= n);
    for (int i = 0; i < n && i < seen.count; i++) CHECK_STR_EQ(seen.texts[i], numbers[i]);
    if (at >= async.starts[n] + 2) {
      CHECK_INT_EQ(seen.count + seen.errors_count, NUMBERS);
      for (int i = n + 1; i < NUMBERS; i++) CHECK_STR_EQ(seen.texts[seen.count - NUMBERS + i], numbers[i]);
    }
    if (test_failed) printf("byte %zu, of record %d\n", at, n);
  }
  end();
}

/* Zeros at the end of a file are no records; a file may be all zeros. */
TEST(a_file_of_zeros_has_no_records) {
  begin();
  make_numbers();
  memset(async.data, 0, sizeof async.data);
  write_bytes(async.data, BLOCK + 10);
  struct walk seen = walk(FLUME_IMPORT_ASYNC, 0);
  CHECK_INT_EQ(seen.status, 0);
  CHECK_INT_EQ(seen.count + seen.errors_count, 0);
  end();
}

/* --- Failures ----------------------------------------------------------------------------------------------------- */

/* The nth call fails: it is told, with its code and the file's path, what was read before is right, and nothing is left
 * open or allocated. */
static void fail_each(enum flume_import_format format, enum fault_op op, int code) {
  const char *const *expected = format == FLUME_IMPORT_OFFSET ? objects : numbers;
  int nth = 1;
  for (bool hit = true; hit && nth < 100 && !test_failed; nth++) {
    faults_arm(&faults, op, nth, code);
    struct walk seen = walk(format, 0);
    hit = fault_was_hit(&faults);
    CHECK_INT_EQ(seen.status, hit ? code : 0);
    CHECK(is_part(&seen, expected, OBJECTS));
    if (!hit) CHECK_INT_EQ(seen.count, OBJECTS - 1);
    if (hit && code != FLUME_ENOMEM) CHECK(strstr(err.msg, path) != NULL);
    CHECK_INT_EQ(atomic_load(&faults.files), 0);
    CHECK_INT_EQ(atomic_load(&faults.allocations), 0);
    if (test_failed) printf("call %d of %s\n", nth, fault_names[op]);
  }
  CHECK(nth > 2);
}

/* One record is damaged, so that the next one is looked for. */
static void fail_offset(enum fault_op op, int code) {
  struct file file;
  begin();
  make_offset(&file, 32);
  file.data[file.starts[0]] ^= 1;
  write_bytes(file.data, file.len);
  fail_each(FLUME_IMPORT_OFFSET, op, code);
  end();
}

static void fail_async(enum fault_op op, int code) {
  begin();
  make_numbers();
  memset(async.data + async.starts[3] + 2, 0, async.starts[4] - async.starts[3] - 2);
  end_block();
  write_bytes(async.data, async.len);
  fail_each(FLUME_IMPORT_ASYNC, op, code);
  end();
}

TEST(offset_file_when_opening_fails) { fail_offset(FAULT_OPEN, UV_EMFILE); }
TEST(offset_file_when_reads_fail) { fail_offset(FAULT_READ, UV_EIO); }
TEST(offset_file_when_sizes_fail) { fail_offset(FAULT_SIZE, UV_EIO); }
TEST(offset_file_without_memory) { fail_offset(FAULT_ALLOC, UV_ENOMEM); }
TEST(async_file_when_opening_fails) { fail_async(FAULT_OPEN, UV_EMFILE); }
TEST(async_file_when_reads_fail) { fail_async(FAULT_READ, UV_EIO); }
TEST(async_file_when_sizes_fail) { fail_async(FAULT_SIZE, UV_EIO); }
TEST(async_file_without_memory) { fail_async(FAULT_ALLOC, UV_ENOMEM); }

/* Reads that give a few bytes at a time, and are interrupted, give the same. */
TEST(short_and_interrupted_reads) {
  begin();
  make_numbers();
  write_bytes(async.data, async.len);
  faults.max_transfer = 7;
  faults.interrupts = true;
  struct walk seen = walk(FLUME_IMPORT_ASYNC, 0);
  check_texts(&seen, numbers, NUMBERS);
  end();
}
