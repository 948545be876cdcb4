/* BIPF to MessagePack: each type, what is cut or changed anywhere, and memory that runs out. Files of it are read in
 * test_import.c. */
#include "codec/bipf.h"

#include <math.h>

#include "codec/json.h"
#include "codec/msgpack.h"
#include "bipf_samples.h"

static const uint8_t no = 0, yes = 1, undefined = 2, neither = 3;

static struct flume_err err;
static struct faults faults;
static struct flume_buf packed;

/* Something lies in the buffer already; it stays. */
static void begin(void) {
  faults_init(&faults);
  flume_buf_init(&packed, &faults.io);
  MUST(flume_buf_append(&packed, "before", 6) == 0);
}

static void end(void) {
  flume_buf_fini(&packed);
  CHECK_INT_EQ(atomic_load(&faults.allocations), 0);
}

/* From a copy of just these bytes, so that a sanitizer sees a read behind them. */
static int convert(const uint8_t *data, size_t len) {
  uint8_t *copy = malloc(len > 0 ? len : 1);
  MUST(copy != NULL);
  if (len > 0) memcpy(copy, data, len);
  int rv = flume_bipf_to_msgpack(copy, len, &packed, &err);
  free(copy);
  CHECK(packed.len >= 6 && memcmp(packed.data, "before", 6) == 0);
  return rv;
}

static void check_json(const struct bipf *bipf, const char *expected) {
  struct flume_buf json;
  begin();
  flume_buf_init(&json, &faults.io);
  CHECK_INT_EQ(convert(bipf->data, bipf->len), 0);
  CHECK_INT_EQ(flume_msgpack_to_json(packed.data + 6, packed.len - 6, FLUME_JSON_LOSSY, &json, NULL, &err), 0);
  MUST(flume_buf_append(&json, "", 1) == 0);
  CHECK_STR_EQ((const char *)json.data, expected);
  flume_buf_fini(&json);
  end();
}

static void check_refused(const struct bipf *bipf, const char *expected) {
  begin();
  CHECK_INT_EQ(convert(bipf->data, bipf->len), FLUME_ECORRUPT);
  CHECK_STR_EQ(err.msg, expected);
  CHECK_INT_EQ(packed.len, 6);
  end();
}

static struct bipf scalar(enum bipf_tag tag, const void *data, size_t len) {
  struct bipf bipf = {.len = 0};
  bipf_put_value(&bipf, tag, data, len);
  return bipf;
}

/* depth arrays, one in the other. */
static struct bipf nested(int depth) {
  struct bipf bipf = {.len = 0};
  for (int i = 0; i < depth; i++) {
    struct bipf outer = {.len = 0};
    bipf_put_container(&outer, BIPF_ARRAY, &bipf);
    bipf = outer;
  }
  return bipf;
}

/* {"text": "word", "list": [1, -2, {}], "raw": 0x00ff, "half": 0.5, "whole": 3, "yes": true, "none": null} */
static struct bipf example(void) {
  struct bipf list = {.len = 0}, inside = {.len = 0}, bipf = {.len = 0};
  bipf_put_int(&list, 1);
  bipf_put_int(&list, -2);
  bipf_put_value(&list, BIPF_OBJECT, "", 0);
  bipf_put_text(&inside, "text");
  bipf_put_text(&inside, "word");
  bipf_put_text(&inside, "list");
  bipf_put_container(&inside, BIPF_ARRAY, &list);
  bipf_put_text(&inside, "raw");
  bipf_put_value(&inside, BIPF_BUFFER, "\x00\x7f", 2);
  bipf_put_text(&inside, "half");
  bipf_put_double(&inside, 0.5);
  bipf_put_text(&inside, "whole");
  bipf_put_double(&inside, 3);
  bipf_put_text(&inside, "yes");
  bipf_put_value(&inside, BIPF_BOOL, &yes, 1);
  bipf_put_text(&inside, "none");
  bipf_put_value(&inside, BIPF_BOOL, "", 0);
  bipf_put_container(&bipf, BIPF_OBJECT, &inside);
  return bipf;
}

/* --- What is well-formed ------------------------------------------------------------------------------------------ */

TEST(each_type) {
  struct bipf bipf = example();
  check_json(&bipf, "{\"text\":\"word\",\"list\":[1,-2,{}],\"raw\":\"\\u0000\x7f\",\"half\":0.5,\"whole\":3,"
                    "\"yes\":true,\"none\":null}");
}

TEST(true_false_null_and_undefined) {
  struct bipf bipf = scalar(BIPF_BOOL, &yes, 1);
  check_json(&bipf, "true");
  bipf = scalar(BIPF_BOOL, &no, 1);
  check_json(&bipf, "false");
  bipf = scalar(BIPF_BOOL, "", 0);
  check_json(&bipf, "null");
  bipf = scalar(BIPF_BOOL, &undefined, 1);
  check_json(&bipf, "null");
}

TEST(integers_keep_their_sign) {
  static const int32_t numbers[] = {0, 127, -32, 70000, INT32_MAX, INT32_MIN};
  static const char *const texts[] = {"0", "127", "-32", "70000", "2147483647", "-2147483648"};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    struct bipf bipf = {.len = 0};
    bipf_put_int(&bipf, numbers[i]);
    check_json(&bipf, texts[i]);
  }
}

/* A double that holds an integer exactly is one; others stay floats. */
TEST(doubles) {
  static const double numbers[] = {-7, 1.25, 9007199254740992, -9007199254740992, 18014398509481984, 1e300};
  static const char *const texts[] = {"-7",   "1.25", "9007199254740992", "-9007199254740992", "18014398509481984.0",
                                      "1e+300"};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    struct bipf bipf = {.len = 0};
    bipf_put_double(&bipf, numbers[i]);
    check_json(&bipf, texts[i]);
  }
  struct bipf bipf = {.len = 0};
  bipf_put_double(&bipf, NAN);
  check_json(&bipf, "null");
}

/* Their counts and lengths take more than the shortest form of a header has room for. */
TEST(long_containers_and_texts) {
  struct bipf inside = {.len = 0}, bipf = {.len = 0};
  char text[301] = {0}, expected[500] = {0};
  memset(text, 'x', 300);
  bipf_put_text(&inside, text);
  for (int i = 0; i < 20; i++) bipf_put_value(&inside, BIPF_BOOL, &yes, 1);
  bipf_put_container(&bipf, BIPF_ARRAY, &inside);
  int len = snprintf(expected, sizeof expected, "[\"%s\"", text);
  for (int i = 0; i < 20; i++) len += snprintf(expected + len, sizeof expected - (size_t)len, ",true");
  snprintf(expected + len, sizeof expected - (size_t)len, "]");
  check_json(&bipf, expected);
}

TEST(nesting_ends_at_128) {
  struct bipf bipf = nested(128);
  begin();
  CHECK_INT_EQ(convert(bipf.data, bipf.len), 0);
  CHECK_INT_EQ(flume_msgpack_check(packed.data + 6, packed.len - 6), 0);
  end();
  bipf = nested(129);
  begin();
  CHECK_INT_EQ(convert(bipf.data, bipf.len), FLUME_ECORRUPT);
  CHECK(strstr(err.msg, "nested more than 128 deep") != NULL);
  CHECK_INT_EQ(packed.len, 6);
  end();
}

/* --- What is not -------------------------------------------------------------------------------------------------- */

TEST(errors_name_the_byte) {
  struct bipf bipf = {.len = 0};
  check_refused(&bipf, "byte 0: a tag that is cut off");
  bipf = scalar(BIPF_INT, "\1\2\3", 3);
  check_refused(&bipf, "byte 1: an integer that has not four bytes");
  bipf = scalar(BIPF_DOUBLE, "\1\2\3\4", 4);
  check_refused(&bipf, "byte 1: a double without eight bytes");
  bipf = scalar(BIPF_BOOL, &neither, 1);
  check_refused(&bipf, "byte 1: neither true nor false nor null");
  bipf = scalar(BIPF_BOOL, "\1\1", 2);
  check_refused(&bipf, "byte 1: neither true nor false nor null");
  bipf = scalar(BIPF_NO_TYPE, "x", 1);
  check_refused(&bipf, "byte 1: a type that does not exist");
  bipf = scalar(BIPF_STRING, "word", 4);
  bipf_put(&bipf, "s", 1);
  check_refused(&bipf, "byte 5: bytes behind the value");
  bipf.len = 0;
  bipf_put(&bipf, "\x80\x80\x80\x80\x80\x01", 6);
  check_refused(&bipf, "byte 0: a tag that is too long");
  bipf.len = 0;
  bipf_put_tag(&bipf, BIPF_STRING, 400);
  check_refused(&bipf, "byte 0: a value that is longer than what it is in");
}

/* What is in a container has to end where that does. */
TEST(errors_in_a_container_name_the_byte) {
  struct bipf bipf = scalar(BIPF_ARRAY, "\x20" "word", 4); /* a string of 4 bytes, of which 3 are in the array */
  bipf_put(&bipf, "d", 1);
  check_refused(&bipf, "byte 1: a value that is longer than what it is in");
  bipf = scalar(BIPF_OBJECT, "\x08k", 2);
  check_refused(&bipf, "byte 3: a tag that is cut off");
  bipf = scalar(BIPF_OBJECT, "\x09k\x06", 3);
  check_refused(&bipf, "byte 1: a key that is no string");
  bipf = scalar(BIPF_OBJECT, "\x80", 1);
  check_refused(&bipf, "byte 1: a tag that is cut off");
}

TEST(a_value_cut_anywhere_is_refused) {
  struct bipf bipf = example();
  begin();
  for (size_t len = 0; len < bipf.len; len++) {
    CHECK_INT_EQ(convert(bipf.data, len), FLUME_ECORRUPT);
    CHECK_INT_EQ(packed.len, 6);
    CHECK(strncmp(err.msg, "byte ", 5) == 0);
  }
  end();
}

/* Whatever a byte is changed to: another value, that is a whole one, or none. */
TEST(any_changed_byte_is_refused_or_gives_a_different_value) {
  struct bipf bipf = example();
  int told = 0, made = 0;
  begin();
  for (size_t at = 0; at < bipf.len && !test_failed; at++) {
    for (unsigned change = 1; change < 256; change++) {
      struct bipf changed = bipf;
      changed.data[at] ^= (uint8_t)change;
      packed.len = 6;
      int rv = convert(changed.data, changed.len);
      if (rv == 0) CHECK_INT_EQ(flume_msgpack_check(packed.data + 6, packed.len - 6), 0);
      else CHECK(rv == FLUME_ECORRUPT && packed.len == 6 && strncmp(err.msg, "byte ", 5) == 0);
      told += rv != 0;
      made += rv == 0;
    }
    if (test_failed) printf("byte %zu\n", at);
  }
  CHECK(told > 1000 && made > 1000);
  end();
}

TEST(without_memory) {
  struct bipf bipf = example(), inside = {.len = 0};
  for (int i = 0; i < 3; i++) bipf_put_container(&inside, BIPF_ARRAY, &bipf);
  bipf.len = 0;
  bipf_put_container(&bipf, BIPF_ARRAY, &inside);
  int nth = 1;
  for (bool hit = true; hit && !test_failed; nth++) {
    begin();
    faults_arm(&faults, FAULT_ALLOC, nth, UV_ENOMEM);
    int rv = convert(bipf.data, bipf.len);
    hit = fault_was_hit(&faults);
    CHECK_INT_EQ(rv, hit ? FLUME_ENOMEM : 0);
    if (rv != 0) CHECK_INT_EQ(packed.len, 6);
    end();
  }
  CHECK(nth > 2);
}
