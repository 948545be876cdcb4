/* Keys: the bytes sort as the values do. */
#include "codec/key.h"

#include <math.h>
#include <stdarg.h>

#include "support.h"

#define VALUES_MAX 400

static struct flume_err err;

/* --- Values ------------------------------------------------------------------------------------------------------ */

/* Appends values to buf, by a letter each: n nil, t true, f false, i int64_t, d double, s text, b bytes and length,
 * [ int count (the elements follow), { int count. */
static void write_values(struct flume_buf *buf, const char *letters, va_list args) {
  for (; *letters != '\0'; letters++) {
    int rv = -1;
    const char *text;
    switch (*letters) {
      case 'n': rv = flume_msgpack_write_nil(buf); break;
      case 't': rv = flume_msgpack_write_bool(buf, true); break;
      case 'f': rv = flume_msgpack_write_bool(buf, false); break;
      case 'i': rv = flume_msgpack_write_int(buf, va_arg(args, int64_t)); break;
      case 'd': rv = flume_msgpack_write_float(buf, va_arg(args, double)); break;
      case 's':
        text = va_arg(args, const char *);
        rv = flume_msgpack_write_str(buf, text, strlen(text));
        break;
      case 'b':
        text = va_arg(args, const char *);
        rv = flume_msgpack_write_str(buf, text, va_arg(args, size_t));
        break;
      case '[': rv = flume_msgpack_write_array(buf, (uint32_t)va_arg(args, int)); break;
      case '{': rv = flume_msgpack_write_map(buf, (uint32_t)va_arg(args, int)); break;
    }
    MUST(rv == 0);
  }
}

struct made_value {
  struct flume_buf bytes; /* MessagePack */
  struct flume_buf key;
};

static struct made_value values[VALUES_MAX];
static size_t values_count;

static struct made_value *new_value(void) {
  MUST(values_count < VALUES_MAX);
  struct made_value *value = &values[values_count++];
  flume_buf_init(&value->bytes, &flume_io_posix);
  flume_buf_init(&value->key, &flume_io_posix);
  return value;
}

static void encode(struct made_value *value) {
  if (!CHECK_INT_EQ(flume_key_encode(value->bytes.data, value->bytes.len, &value->key, &err), 0))
    printf("%s\n", err.msg);
}

/* One more value, encoded. */
static struct made_value *add(const char *letters, ...) {
  struct made_value *value = new_value();
  va_list args;
  va_start(args, letters);
  write_values(&value->bytes, letters, args);
  va_end(args);
  encode(value);
  return value;
}

static void forget(void) {
  for (size_t i = 0; i < values_count; i++) {
    flume_buf_fini(&values[i].bytes);
    flume_buf_fini(&values[i].key);
  }
  values_count = 0;
}

/* --- The order of values, straight from what it should be ---------------------------------------------------------- */

static int rank(const struct flume_value *v) {
  switch (v->type) {
    case FLUME_TYPE_NIL: return 0;
    case FLUME_TYPE_STR: return 1;
    case FLUME_TYPE_ARRAY: return 2;
    case FLUME_TYPE_INT:
    case FLUME_TYPE_FLOAT: return 3;
    case FLUME_TYPE_BOOL: return v->b ? 5 : 4;
    default: MUST(false); return -1;
  }
}

static int compare_bytes(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len) {
  size_t len = a_len < b_len ? a_len : b_len;
  int order = len > 0 ? memcmp(a, b, len) : 0;
  return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

static int compare_floats(double a, double b) {
  return (a > b) - (a < b);
}

/* Exact, though a double does not hold every int64. */
static int compare_to_float(int64_t i, double f) {
  if (f >= 0x1p63) return -1;
  if (f < -0x1p63) return 1;
  if (isnan(f)) return 0;
  int64_t whole = (int64_t)f;
  if (i != whole) return i < whole ? -1 : 1;
  return compare_floats((double)whole, f);
}

static int compare_numbers(const struct flume_value *a, const struct flume_value *b) {
  bool a_is_int = a->type == FLUME_TYPE_INT, b_is_int = b->type == FLUME_TYPE_INT;
  if (a_is_int && b_is_int) return (a->i > b->i) - (a->i < b->i);
  if (a_is_int) return compare_to_float(a->i, b->f);
  if (b_is_int) return -compare_to_float(b->i, a->f);
  return compare_floats(a->f, b->f);
}

static int compare_values(const uint8_t **a, const uint8_t *a_end, const uint8_t **b, const uint8_t *b_end) {
  struct flume_value va, vb;
  MUST(flume_msgpack_read(a, a_end, &va) == 0 && flume_msgpack_read(b, b_end, &vb) == 0);
  int order = rank(&va) - rank(&vb);
  if (order != 0) return order;
  if (va.type == FLUME_TYPE_STR) return compare_bytes(va.str.data, va.str.len, vb.str.data, vb.str.len);
  if (va.type == FLUME_TYPE_INT || va.type == FLUME_TYPE_FLOAT) return compare_numbers(&va, &vb);
  if (va.type != FLUME_TYPE_ARRAY) return 0;
  uint32_t count = va.count < vb.count ? va.count : vb.count;
  for (uint32_t i = 0; i < count; i++) {
    order = compare_values(a, a_end, b, b_end);
    if (order != 0) return order;
  }
  return (va.count > vb.count) - (va.count < vb.count);
}

static int compare_made(const struct made_value *a, const struct made_value *b) {
  const uint8_t *pa = a->bytes.data, *pb = b->bytes.data;
  return compare_values(&pa, pa + a->bytes.len, &pb, pb + b->bytes.len);
}

static int sign(int n) {
  return (n > 0) - (n < 0);
}

static void print_bytes(const char *what, const struct flume_buf *buf) {
  printf("  %s", what);
  for (size_t i = 0; i < buf->len && i < 60; i++) printf(" %02x", buf->data[i]);
  printf("\n");
}

static bool begins_with(const struct flume_buf *key, const struct flume_buf *prefix) {
  return key->len >= prefix->len && memcmp(key->data, prefix->data, prefix->len) == 0;
}

/* Order, equality, and that none begins another. */
static void check_pair(const struct made_value *a, const struct made_value *b) {
  int want = sign(compare_made(a, b));
  int got = sign(compare_bytes(a->key.data, a->key.len, b->key.data, b->key.len));
  bool ok = CHECK_INT_EQ(got, want);
  if (want != 0) ok &= CHECK(!begins_with(&a->key, &b->key) && !begins_with(&b->key, &a->key));
  if (ok) return;
  print_bytes("value", &a->bytes);
  print_bytes("value", &b->bytes);
  print_bytes("key", &a->key);
  print_bytes("key", &b->key);
}

/* The value comes back worth the same, and an integral float that an int64 holds as that integer; skip ends where
 * decode does. */
static void check_round_trip(const struct made_value *value) {
  struct flume_buf out;
  flume_buf_init(&out, &flume_io_posix);
  flume_buf_append(&out, "x", 1);
  const uint8_t *p = value->key.data, *q = p, *end = p + value->key.len;
  CHECK_INT_EQ(flume_key_decode(&p, end, &out), 0);
  CHECK(p == end && out.data[0] == 'x');
  CHECK_INT_EQ(flume_key_skip(&q, end), 0);
  CHECK(q == end);
  struct made_value back = {.bytes = {.data = out.data + 1, .len = out.len - 1}};
  CHECK_INT_EQ(compare_made(value, &back), 0);
  CHECK_INT_EQ(flume_msgpack_check(back.bytes.data, back.bytes.len), 0);
  struct flume_value v;
  const uint8_t *at = back.bytes.data;
  while (at < back.bytes.data + back.bytes.len) {
    MUST(flume_msgpack_read(&at, back.bytes.data + back.bytes.len, &v) == 0);
    if (v.type != FLUME_TYPE_FLOAT) continue;
    bool fits = v.f >= (double)INT64_MIN && v.f < -(double)INT64_MIN;
    CHECK(!fits || v.f != floor(v.f));
  }
  flume_buf_fini(&out);
}

static void check_all(void) {
  for (size_t i = 0; i < values_count && !test_failed; i++) {
    check_round_trip(&values[i]);
    for (size_t j = 0; j < values_count && !test_failed; j++) check_pair(&values[i], &values[j]);
  }
}

/* --- Order --------------------------------------------------------------------------------------------------------- */

static void add_scalars(void) {
  static const int64_t ints[] = {0,   1,   -1,   2,    -2,    9,     10,        127,      128,
                                 255, 256, -255, -256, 65535, 65536, INT32_MAX, INT32_MIN};
  static const double floats[] = {0.0,       -0.0,    0.5,    -0.5,   1.5,     -1.5,  1e-300,  -1e-300,
                                  5e-324,    -5e-324, 255.5,  1e18,   1e19,    -1e19, 1.7e308, INFINITY,
                                  -INFINITY, 0x1p53,  0x1p62, 0x1p63, -0x1p63, 0x1p64};
  static const char *const texts[] = {"",     "a",     "aa",       "ab",       "b",        "A",    "~",
                                      "\x7f", "\xff",  "\xff\xff", "\xff\xfe", "\xc3\xa4", "\x01", "\x02",
                                      "\x03", "a\x01", "a\x02",    "\x01\x01", "\x01\x02"};
  add("n");
  add("f");
  add("t");
  for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) add("i", ints[i]);
  for (size_t i = 0; i < sizeof floats / sizeof *floats; i++) add("d", floats[i]);
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) add("s", texts[i]);
  add("b", "\0", (size_t)1);
  add("b", "\0\0", (size_t)2);
  add("b", "\0\xff", (size_t)2);
  add("b", "\0\1", (size_t)2);
  add("b", "a\0", (size_t)2);
  add("b", "a\0b", (size_t)3);
  add("b", "\1\0", (size_t)2);
  add("b", "\xff\0", (size_t)2);
}

/* Integers about 2^53 and 2^63, and the floats that lie among them. */
static void add_edges(void) {
  for (int exponent = 52; exponent <= 62; exponent += exponent == 55 ? 7 : 1) {
    for (int64_t d = -3; d <= 3; d++) {
      add("i", ((int64_t)1 << exponent) + d);
      add("i", -((int64_t)1 << exponent) + d);
    }
    double at = ldexp(1, exponent);
    add("d", nextafter(at, 0));
    add("d", at);
    add("d", nextafter(at, INFINITY));
    add("d", -nextafter(at, INFINITY));
  }
  for (int64_t d = 0; d < 4; d++) {
    add("i", INT64_MAX - d);
    add("i", INT64_MIN + d);
    add("i", INT64_MAX - 1023 + d - 2);
  }
  add("d", nextafter(0x1p63, 0));
  add("d", nextafter(-0x1p63, 0));
  add("d", nextafter(-0x1p63, -INFINITY));
  add("d", 0x1p52 + 0.5);
  add("d", -0x1p51 - 0.25);
}

static void add_arrays(void) {
  add("[", 0);
  add("[[", 1, 0);
  add("[[[", 1, 1, 0);
  add("[n", 1);
  add("[nn", 2);
  add("[n[", 2, 0);
  add("[[n", 2, 0);
  add("[s", 1, "");
  add("[ss", 2, "", "");
  add("[s", 1, "a");
  add("[ss", 2, "a", "");
  add("[ss", 2, "a", "b");
  add("[b", 1, "a\0", (size_t)2);
  add("[bi", 2, "\0", (size_t)1, (int64_t)0);
  add("[s", 1, "ab");
  add("[i", 1, (int64_t)0);
  add("[d", 1, -0.0);
  add("[ii", 2, (int64_t)1, (int64_t)2);
  add("[id", 2, (int64_t)1, 2.0);
  add("[id", 2, (int64_t)1, 2.5);
  add("[t", 1);
  add("[ft", 2);
  add("[[ii", 1, 2, (int64_t)1, (int64_t)2);
  add("[[ii", 2, 1, (int64_t)1, (int64_t)2);
  add("[d", 1, INFINITY);
}

TEST(all_pairs_sort_as_their_values) {
  add_scalars();
  add_edges();
  add_arrays();
  check_all();
  forget();
}

TEST(kinds_come_one_after_the_other) {
  add("n");
  add("s", "\xff\xff");
  add("[", 0);
  add("d", -INFINITY);
  add("f");
  add("t");
  for (size_t i = 0; i + 1 < values_count; i++) {
    CHECK(compare_bytes(values[i].key.data, values[i].key.len, values[i + 1].key.data, values[i + 1].key.len) < 0);
  }
  forget();
}

TEST(floats_that_integers_equal_are_the_same_key) {
  static const struct {
    double f;
    int64_t i;
  } same[] = {{0.0, 0},
              {-0.0, 0},
              {1.0, 1},
              {-1.0, -1},
              {0x1p53, (int64_t)1 << 53},
              {0x1p62, (int64_t)1 << 62},
              {-0x1p63, INT64_MIN},
              {1e15, 1000000000000000}};
  for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
    struct made_value *f = add("d", same[i].f), *n = add("i", same[i].i);
    CHECK(f->key.len == n->key.len && memcmp(f->key.data, n->key.data, n->key.len) == 0);
  }
  forget();
}

/* --- A random model ------------------------------------------------------------------------------------------------- */

static void write_random(struct flume_buf *buf, uint64_t *random, unsigned depth) {
  static const uint8_t bytes[] = {0x00, 0x01, 0x02, 'a', 'b', 0x7f, 0xfe, 0xff};
  uint8_t text[12];
  uint64_t bits = random_next(random);
  double f;
  uint32_t count = random_below(random, 4);
  switch (random_below(random, depth < 4 ? 8 : 6)) {
    case 0: MUST(flume_msgpack_write_nil(buf) == 0); break;
    case 1: MUST(flume_msgpack_write_bool(buf, bits & 1) == 0); break;
    case 2: MUST(flume_msgpack_write_int(buf, (int64_t)bits >> random_below(random, 64)) == 0); break;
    case 3:
      f = (double)((int64_t)bits >> random_below(random, 64)) / (random_below(random, 2) == 0 ? 1 : 4);
      MUST(flume_msgpack_write_float(buf, f) == 0);
      break;
    case 4:
      memcpy(&f, &bits, sizeof f);
      MUST(flume_msgpack_write_float(buf, f != f ? 1 : f) == 0);
      break;
    case 5:
      count = random_below(random, sizeof text);
      for (uint32_t i = 0; i < count; i++) text[i] = bytes[random_below(random, sizeof bytes)];
      MUST(flume_msgpack_write_str(buf, text, count) == 0);
      break;
    default:
      MUST(flume_msgpack_write_array(buf, count) == 0);
      for (uint32_t i = 0; i < count; i++) write_random(buf, random, depth + 1);
  }
}

TEST(random_values) {
  uint64_t random = random_seed();
  for (int round = 0; round < 20 && !test_failed; round++) {
    for (size_t i = 0; i < 150; i++) {
      struct made_value *value = new_value();
      write_random(&value->bytes, &random, 0);
      encode(value);
    }
    check_all();
    forget();
  }
}

/* --- Ranges --------------------------------------------------------------------------------------------------------- */

/* Whether a value begins with another one, as prefix ranges mean it. */
static bool value_begins_with(const struct made_value *value, const struct made_value *prefix) {
  const uint8_t *p = value->bytes.data, *p_end = p + value->bytes.len;
  const uint8_t *q = prefix->bytes.data, *q_end = q + prefix->bytes.len;
  struct flume_value v, w;
  MUST(flume_msgpack_read(&p, p_end, &v) == 0 && flume_msgpack_read(&q, q_end, &w) == 0);
  if (v.type == FLUME_TYPE_STR && w.type == FLUME_TYPE_STR) {
    return v.str.len >= w.str.len && memcmp(v.str.data, w.str.data, w.str.len) == 0;
  }
  if (v.type != FLUME_TYPE_ARRAY || w.type != FLUME_TYPE_ARRAY) return compare_made(value, prefix) == 0;
  if (v.count < w.count) return false;
  for (uint32_t i = 0; i < w.count; i++) {
    if (compare_values(&p, p_end, &q, q_end) != 0) return false;
  }
  return true;
}

TEST(a_prefix_is_what_the_bytes_of_its_keys_begin_with) {
  add_scalars();
  add_arrays();
  for (size_t i = 0; i < values_count && !test_failed; i++) {
    struct flume_buf prefix;
    flume_buf_init(&prefix, &flume_io_posix);
    CHECK_INT_EQ(flume_key_encode_prefix(values[i].bytes.data, values[i].bytes.len, &prefix, &err), 0);
    for (size_t j = 0; j < values_count; j++) {
      CHECK_INT_EQ(begins_with(&values[j].key, &prefix), value_begins_with(&values[j], &values[i]));
    }
    flume_buf_fini(&prefix);
  }
  forget();
}

/* As store.h has it for bounds: of all keys, key and 0xff lie behind the key, and before the next one; also when the
 * seq of an entry, which begins with less than 0x80, follows the key. */
TEST(a_key_with_ff_behind_it_is_a_bound) {
  add_scalars();
  add_edges();
  add_arrays();
  for (size_t i = 0; i < values_count && !test_failed; i++) {
    struct flume_buf bound;
    flume_buf_init(&bound, &flume_io_posix);
    flume_buf_append(&bound, values[i].key.data, values[i].key.len);
    flume_buf_append(&bound, "\xff", 1);
    for (size_t j = 0; j < values_count; j++) {
      int order = compare_made(&values[j], &values[i]);
      int got = compare_bytes(values[j].key.data, values[j].key.len, bound.data, bound.len);
      CHECK_INT_EQ(sign(got), order <= 0 ? -1 : 1);
      flume_buf_append(&values[j].key, "\x7f\xff\xff\xff\xff\xff\xff\xff", 8);
      got = compare_bytes(values[j].key.data, values[j].key.len, bound.data, bound.len);
      CHECK_INT_EQ(sign(got), order <= 0 ? -1 : 1);
      values[j].key.len -= 8;
    }
    flume_buf_fini(&bound);
  }
  forget();
}

/* --- What is no key ------------------------------------------------------------------------------------------------- */

static void refuses(const char *message, const char *letters, ...) {
  struct flume_buf bytes, out;
  va_list args;
  flume_buf_init(&bytes, &flume_io_posix);
  flume_buf_init(&out, &flume_io_posix);
  flume_buf_append(&out, "abc", 3);
  va_start(args, letters);
  write_values(&bytes, letters, args);
  va_end(args);
  CHECK_INT_EQ(flume_key_encode(bytes.data, bytes.len, &out, &err), FLUME_EINVAL);
  CHECK_STR_EQ(err.msg, message);
  CHECK_INT_EQ(err.code, FLUME_EINVAL);
  CHECK_INT_EQ(out.len, 3);
  CHECK_INT_EQ(flume_key_encode_prefix(bytes.data, bytes.len, &out, &err), FLUME_EINVAL);
  CHECK_STR_EQ(err.msg, message);
  CHECK_INT_EQ(out.len, 3);
  flume_buf_fini(&bytes);
  flume_buf_fini(&out);
}

TEST(errors_name_the_place) {
  refuses("key: a map can't be a key", "{", 0);
  refuses("key: nan can't be a key", "d", (double)NAN);
  refuses("key[2]: a map can't be a key", "[s{", 2, "a", 0);
  refuses("key[1][3]: nan can't be a key", "[[nnd", 1, 3, (double)NAN);
  refuses("key[2][1][1]: a map can't be a key", "[[n[[{", 2, 1, 1, 1, 0);
}

TEST(depth) {
  struct flume_buf bytes, key, out;
  flume_buf_init(&bytes, &flume_io_posix);
  flume_buf_init(&key, &flume_io_posix);
  flume_buf_init(&out, &flume_io_posix);
  for (int i = 0; i < FLUME_KEY_MAX_DEPTH - 1; i++) flume_msgpack_write_array(&bytes, 1);
  flume_msgpack_write_array(&bytes, 0);
  CHECK_INT_EQ(flume_key_encode(bytes.data, bytes.len, &key, &err), 0);
  const uint8_t *p = key.data;
  CHECK_INT_EQ(flume_key_decode(&p, key.data + key.len, &out), 0);
  CHECK(out.len == bytes.len && memcmp(out.data, bytes.data, out.len) == 0);
  bytes.data[bytes.len - 1] = 0x91;
  flume_msgpack_write_array(&bytes, 0);
  CHECK_INT_EQ(flume_key_encode(bytes.data, bytes.len, &key, &err), FLUME_EINVAL);
  CHECK(strstr(err.msg, "key[1][1]") == err.msg);
  CHECK(strstr(err.msg, ": an array that is nested so deep can't be a key") != NULL);
  key.len = 0;
  for (int i = 0; i <= FLUME_KEY_MAX_DEPTH; i++) flume_buf_append(&key, "\x05", 1);
  for (int i = 0; i <= FLUME_KEY_MAX_DEPTH; i++) flume_buf_append(&key, "\0", 1);
  p = key.data;
  CHECK_INT_EQ(flume_key_decode(&p, key.data + key.len, &out), FLUME_ECORRUPT);
  CHECK_INT_EQ(flume_key_skip(&p, key.data + key.len), FLUME_ECORRUPT);
  CHECK(p == key.data);
  flume_buf_fini(&bytes);
  flume_buf_fini(&key);
  flume_buf_fini(&out);
}

TEST(bytes_that_encode_no_value) {
  struct flume_buf out;
  flume_buf_init(&out, &flume_io_posix);
  static const char *const bad[] = {"\xc1", "\x92\x01", "\xa3xy", "\x01\x02", "\xd9"};
  static const size_t lens[] = {1, 2, 3, 2, 1};
  for (size_t i = 0; i < 5; i++) {
    CHECK_INT_EQ(flume_key_encode((const uint8_t *)bad[i], lens[i], &out, &err), FLUME_ECORRUPT);
    CHECK_INT_EQ(flume_key_encode_prefix((const uint8_t *)bad[i], lens[i], &out, &err), FLUME_ECORRUPT);
    CHECK_INT_EQ(out.len, 0);
  }
  CHECK_INT_EQ(flume_key_encode(NULL, 0, &out, NULL), FLUME_ECORRUPT);
  flume_buf_fini(&out);
}

/* --- Damaged keys --------------------------------------------------------------------------------------------------- */

/* Decodes a copy on the heap, so that a sanitizer sees a read beyond it. Both agree about where the key ends, but that
 * decode finds more that is wrong. */
static int decode_copy(const uint8_t *data, size_t len) {
  uint8_t *copy = malloc(len > 0 ? len : 1);
  MUST(copy != NULL);
  if (len > 0) memcpy(copy, data, len);
  struct flume_buf out;
  flume_buf_init(&out, &flume_io_posix);
  flume_buf_append(&out, "xyz", 3);
  const uint8_t *p = copy, *q = copy;
  int rv = flume_key_decode(&p, copy + len, &out);
  int skipped = flume_key_skip(&q, copy + len);
  if (rv != 0) {
    CHECK_INT_EQ(rv, FLUME_ECORRUPT);
    CHECK_INT_EQ(out.len, 3);
    CHECK(p == copy);
  } else {
    CHECK_INT_EQ(skipped, 0);
    CHECK(p == q);
    CHECK_INT_EQ(flume_msgpack_check(out.data + 3, out.len - 3), 0);
  }
  if (skipped != 0) CHECK(q == copy);
  flume_buf_fini(&out);
  free(copy);
  return rv;
}

TEST(cut_and_changed_bytes) {
  add_scalars();
  add_edges();
  add_arrays();
  for (size_t i = 0; i < values_count && !test_failed; i++) {
    struct flume_buf *key = &values[i].key;
    for (size_t len = 0; len < key->len; len++) CHECK_INT_EQ(decode_copy(key->data, len), FLUME_ECORRUPT);
    for (size_t at = 0; at < key->len; at++) {
      for (int bit = 0; bit < 8; bit++) {
        key->data[at] ^= (uint8_t)(1 << bit);
        decode_copy(key->data, key->len);
        key->data[at] ^= (uint8_t)(1 << bit);
      }
    }
  }
  forget();
}

TEST(bytes_that_encode_no_key) {
  static const struct {
    const char *bytes;
    size_t len;
  } bad[] = {{"", 0},
             {"\0", 1},
             {"\xff", 1},
             {"\x03", 1},
             {"\x02\x01\x00", 3},
             {"\x02\x01\x03\x00", 4},
             {"\x02\x01\x00\x00", 4},
             {"\x05\x00", 1},
             {"\x05\x28\x00", 3},
             /* nan; 0.5 and something missing; more than an int64 */
             {"\x10\xff\xf8\0\0\0\0\0\0\0\0", 11},
             {"\x10\xbf\xe0\0\0\0\0\0\0\0\1", 11},
             {"\x10\xc3\xdf\xff\xff\xff\xff\xff\xff\x04\x00", 11}};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    if (!CHECK_INT_EQ(decode_copy((const uint8_t *)bad[i].bytes, bad[i].len), FLUME_ECORRUPT)) printf("case %zu\n", i);
  }
  CHECK_INT_EQ(decode_copy((const uint8_t *)"\x10\xc3\xdf\xff\xff\xff\xff\xff\xff\x03\xff", 11), 0); /* INT64_MAX */
  CHECK_INT_EQ(decode_copy((const uint8_t *)"\x10\x3c\x1f\xff\xff\xff\xff\xff\xff\xff\xff", 11),
               0); /* -2^63 and more */
}

TEST(random_bytes) {
  uint64_t random = random_seed();
  static const uint8_t tags[] = {0x00, 0x01, 0x02, 0x05, 0x10, 0x26, 0x27, 0xff};
  uint8_t bytes[40];
  for (int i = 0; i < 200000 && !test_failed; i++) {
    size_t len = random_below(&random, sizeof bytes);
    for (size_t k = 0; k < len; k++) {
      bytes[k] = random_below(&random, 3) == 0 ? (uint8_t)random_next(&random) : tags[random_below(&random, 8)];
    }
    decode_copy(bytes, len);
  }
}

TEST(without_memory) {
  struct faults faults;
  faults_init(&faults);
  add("[s[in", 2, "some text that is a little longer", 2, (int64_t)5);
  bool hit = true;
  for (int nth = 1; hit && nth < 50; nth++) {
    struct flume_buf out;
    flume_buf_init(&out, &faults.io);
    faults_arm(&faults, FAULT_ALLOC, nth, UV_ENOMEM);
    err.code = 0;
    int rv = flume_key_encode(values[0].bytes.data, values[0].bytes.len, &out, &err);
    hit = fault_was_hit(&faults);
    CHECK_INT_EQ(rv, hit ? FLUME_ENOMEM : 0);
    CHECK_INT_EQ(err.code, hit ? FLUME_ENOMEM : 0);
    if (hit) CHECK_INT_EQ(out.len, 0);
    flume_buf_fini(&out);
  }
  CHECK(!hit);
  CHECK_INT_EQ(atomic_load(&faults.allocations), 0);
  forget();
}
