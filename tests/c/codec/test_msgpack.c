#include "codec/msgpack.h"

#include <math.h>
#include <stdlib.h>

#include "test.h"

static struct flume_buf buf;

static void reset(void) {
  flume_buf_fini(&buf);
  flume_buf_init(&buf, &flume_io_posix);
}

/* What was written last, as hexadecimal digits. */
static const char *hex(void) {
  static char text[512];
  text[0] = '\0';
  for (size_t i = 0; i < buf.len && i < 200; i++) snprintf(text + 2 * i, 3, "%02x", buf.data[i]);
  return text;
}

static struct flume_value read_back(void) {
  struct flume_value v = {.type = FLUME_TYPE_EXT};
  const uint8_t *p = buf.data;
  CHECK_INT_EQ(flume_msgpack_read(&p, buf.data + buf.len, &v), 0);
  CHECK(p == buf.data + buf.len);
  return v;
}

/* A copy of exactly these bytes on the heap, so that a sanitizer sees a read beyond them. */
static uint8_t *exact(const void *data, size_t len) {
  uint8_t *copy = malloc(len > 0 ? len : 1);
  if (copy == NULL) abort();
  if (len > 0) memcpy(copy, data, len);
  return copy;
}

static int check_bytes(const void *data, size_t len) {
  uint8_t *copy = exact(data, len);
  int rv = flume_msgpack_check(copy, len);
  free(copy);
  return rv;
}

TEST(integers_take_the_smallest_form) {
  static const struct {
    int64_t value;
    const char *bytes;
  } cases[] = {
    {0, "00"}, {127, "7f"}, {128, "cc80"}, {255, "ccff"}, {256, "cd0100"}, {65535, "cdffff"},
    {65536, "ce00010000"}, {4294967295, "ceffffffff"}, {4294967296, "cf0000000100000000"},
    {INT64_MAX, "cf7fffffffffffffff"}, {-1, "ff"}, {-32, "e0"}, {-33, "d0df"}, {-128, "d080"}, {-129, "d1ff7f"},
    {-32768, "d18000"}, {-32769, "d2ffff7fff"}, {INT32_MIN, "d280000000"}, {-2147483649, "d3ffffffff7fffffff"},
    {INT64_MIN, "d38000000000000000"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    reset();
    CHECK_INT_EQ(flume_msgpack_write_int(&buf, cases[i].value), 0);
    CHECK_STR_EQ(hex(), cases[i].bytes);
    CHECK_INT_EQ(read_back().type, FLUME_TYPE_INT);
    CHECK_INT_EQ(read_back().i, cases[i].value);
  }
}

TEST(floats_stay_floats) {
  static const double values[] = {0.0, -0.0, 3.0, 0.1, 1e300, INFINITY, -INFINITY};
  for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
    reset();
    CHECK_INT_EQ(flume_msgpack_write_float(&buf, values[i]), 0);
    CHECK_INT_EQ(buf.len, 9);
    CHECK_INT_EQ(read_back().type, FLUME_TYPE_FLOAT);
    double back = read_back().f;
    CHECK(memcmp(&back, &values[i], sizeof back) == 0);
  }
  reset();
  CHECK_INT_EQ(flume_msgpack_write_float(&buf, NAN), 0);
  CHECK(isnan(read_back().f));
}

TEST(other_writers_numbers) {
  reset();
  flume_buf_append(&buf, "\xca\x3f\xc0\x00\x00", 5);
  CHECK(read_back().type == FLUME_TYPE_FLOAT && read_back().f == 1.5);
  reset();
  flume_buf_append(&buf, "\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 9);
  CHECK(read_back().type == FLUME_TYPE_FLOAT && read_back().f == 18446744073709551616.0);
  reset();
  flume_buf_append(&buf, "\xd3\x00\x00\x00\x00\x00\x00\x00\x05", 9);
  CHECK(read_back().type == FLUME_TYPE_INT && read_back().i == 5);
}

TEST(nil_and_booleans) {
  reset();
  flume_msgpack_write_nil(&buf);
  CHECK_INT_EQ(read_back().type, FLUME_TYPE_NIL);
  reset();
  flume_msgpack_write_bool(&buf, true);
  CHECK(read_back().type == FLUME_TYPE_BOOL && read_back().b);
  reset();
  flume_msgpack_write_bool(&buf, false);
  CHECK(read_back().type == FLUME_TYPE_BOOL && !read_back().b);
}

TEST(strings_of_every_length_class) {
  static const size_t lens[] = {0, 1, 31, 32, 255, 256, 65535, 65536};
  static const size_t headers[] = {1, 1, 1, 2, 2, 3, 3, 5};
  static const size_t bin_headers[] = {2, 2, 2, 2, 2, 3, 3, 5};
  static char text[65536];
  memset(text, 'x', sizeof text);
  for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
    reset();
    CHECK_INT_EQ(flume_msgpack_write_str(&buf, text, lens[i]), 0);
    CHECK_INT_EQ(buf.len, headers[i] + lens[i]);
    CHECK(read_back().type == FLUME_TYPE_STR && read_back().str.len == lens[i]);
    CHECK(memcmp(read_back().str.data, text, lens[i]) == 0);
    CHECK_INT_EQ(check_bytes(buf.data, buf.len), 0);
    reset();
    CHECK_INT_EQ(flume_msgpack_write_bin(&buf, text, lens[i]), 0);
    CHECK_INT_EQ(buf.len, bin_headers[i] + lens[i]);
    CHECK(read_back().type == FLUME_TYPE_STR && read_back().str.len == lens[i]);
  }
  CHECK_INT_EQ(flume_msgpack_write_str(&buf, text, (size_t)UINT32_MAX + 1), FLUME_E2BIG);
}

TEST(headers_known_first_and_last_are_the_same) {
  static const uint32_t counts[] = {0, 15, 16, 65535, 65536};
  static const enum flume_type types[] = {FLUME_TYPE_ARRAY, FLUME_TYPE_MAP};
  for (size_t t = 0; t < 2; t++) {
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
      struct flume_buf first;
      size_t off = 0;
      uint32_t tokens = counts[i] * (types[t] == FLUME_TYPE_MAP ? 2 : 1);
      flume_buf_init(&first, &flume_io_posix);
      if (types[t] == FLUME_TYPE_MAP) flume_msgpack_write_map(&first, counts[i]);
      else flume_msgpack_write_array(&first, counts[i]);
      reset();
      CHECK_INT_EQ(flume_msgpack_open(&buf, &off), 0);
      for (uint32_t k = 0; k < tokens; k++) {
        flume_msgpack_write_int(&first, k % 100);
        flume_msgpack_write_int(&buf, k % 100);
      }
      CHECK_INT_EQ(flume_msgpack_close(&buf, off, types[t], counts[i]), 0);
      CHECK(first.len == buf.len && memcmp(first.data, buf.data, buf.len) == 0);
      CHECK_INT_EQ(check_bytes(buf.data, buf.len), 0);
      flume_buf_fini(&first);
    }
  }
}

TEST(ext_is_read_as_its_payload) {
  struct flume_value v;
  static const char fixed[] = "\xd6\x01\x01\x02\x03\x04", sized[] = "\xc7\x03\x05xyz";
  const uint8_t *p = (const uint8_t *)fixed;
  CHECK_INT_EQ(flume_msgpack_read(&p, p + 6, &v), 0);
  CHECK(v.type == FLUME_TYPE_EXT && v.str.ext == 1 && v.str.len == 4 && v.str.data[0] == 1);
  p = (const uint8_t *)sized;
  CHECK_INT_EQ(flume_msgpack_read(&p, p + 6, &v), 0);
  CHECK(v.type == FLUME_TYPE_EXT && v.str.ext == 5 && v.str.len == 3 && v.str.data[0] == 'x');
  CHECK_INT_EQ(check_bytes(fixed, 6), 0);
  CHECK_INT_EQ(check_bytes(sized, 6), 0);
  CHECK_INT_EQ(check_bytes(sized, 5), FLUME_ECORRUPT);
}

/* Type -1 is a number in each of the three forms of the specification, and a payload in any other form. */
TEST(timestamp_is_read_as_a_number) {
  struct flume_value v;
  static const char seconds[] = "\xd6\xff\x65\x53\xf1\x00";
  static const char fraction[] = "\xd7\xff\x77\x35\x94\x00\x65\x53\xf1\x00"; /* 500,000,000 ns in 30 bits */
  static const char early[] = "\xc7\x0c\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff";
  static const char overfull[] = "\xd7\xff\xff\xff\xff\xff\x00\x00\x00\x00", odd[] = "\xc7\x02\xff\x01\x02";
  const uint8_t *p = (const uint8_t *)seconds;
  CHECK_INT_EQ(flume_msgpack_read(&p, p + 6, &v), 0);
  CHECK(v.type == FLUME_TYPE_INT && v.i == 1700000000);
  p = (const uint8_t *)fraction;
  CHECK_INT_EQ(flume_msgpack_read(&p, p + 10, &v), 0);
  CHECK(v.type == FLUME_TYPE_FLOAT && v.f == 1700000000.5);
  p = (const uint8_t *)early;
  CHECK_INT_EQ(flume_msgpack_read(&p, p + 15, &v), 0);
  CHECK(v.type == FLUME_TYPE_INT && v.i == -1);
  p = (const uint8_t *)overfull;
  CHECK_INT_EQ(flume_msgpack_read(&p, p + 10, &v), 0);
  CHECK(v.type == FLUME_TYPE_EXT && v.str.ext == -1 && v.str.len == 8);
  p = (const uint8_t *)odd;
  CHECK_INT_EQ(flume_msgpack_read(&p, p + 5, &v), 0);
  CHECK(v.type == FLUME_TYPE_EXT && v.str.ext == -1 && v.str.len == 2 && v.str.data[0] == 1);
}

/* {"a": 1, "b": [1, {"c": "x"}, 2.5], "long key of more than 31 bytes, to be sure": nil, "m": {"n": {"o": -7}}} */
static void write_sample(void) {
  reset();
  flume_msgpack_write_map(&buf, 4);
  flume_msgpack_write_str(&buf, "a", 1);
  flume_msgpack_write_int(&buf, 1);
  flume_msgpack_write_str(&buf, "b", 1);
  flume_msgpack_write_array(&buf, 3);
  flume_msgpack_write_int(&buf, 1);
  flume_msgpack_write_map(&buf, 1);
  flume_msgpack_write_str(&buf, "c", 1);
  flume_msgpack_write_str(&buf, "x", 1);
  flume_msgpack_write_float(&buf, 2.5);
  flume_msgpack_write_str(&buf, "long key of more than 31 bytes, to be sure", 42);
  flume_msgpack_write_nil(&buf);
  flume_msgpack_write_str(&buf, "m", 1);
  flume_msgpack_write_map(&buf, 1);
  flume_msgpack_write_str(&buf, "n", 1);
  flume_msgpack_write_map(&buf, 1);
  flume_msgpack_write_str(&buf, "o", 1);
  flume_msgpack_write_int(&buf, -7);
}

TEST(skip_passes_whole_values) {
  const uint8_t *p, *end;
  write_sample();
  p = buf.data;
  end = buf.data + buf.len;
  CHECK_INT_EQ(flume_msgpack_skip(&p, end), 0);
  CHECK(p == end);
  CHECK_INT_EQ(flume_msgpack_skip(&p, end), FLUME_ECORRUPT);
  CHECK(p == end);
}

TEST(find_and_seek) {
  struct flume_msgpack_path *path;
  struct flume_value v;
  struct flume_msgpack_path_key keys[] = {{"m", 1}, {"n", 1}};
  const uint8_t *at;
  write_sample();
  CHECK_INT_EQ(flume_msgpack_find(buf.data, buf.data + buf.len, "b", 1, &at), 0);
  CHECK(*at == 0x93);
  CHECK_INT_EQ(flume_msgpack_find(at, buf.data + buf.len, "b", 1, &at), FLUME_ENOENT);
  CHECK_INT_EQ(flume_msgpack_find(buf.data, buf.data + buf.len, "bb", 2, &at), FLUME_ENOENT);
  CHECK_INT_EQ(flume_msgpack_find(buf.data, buf.data + buf.len, "", 0, &at), FLUME_ENOENT);
  CHECK_INT_EQ(
    flume_msgpack_find(buf.data, buf.data + buf.len, "long key of more than 31 bytes, to be sure", 42, &at), 0);
  CHECK(*at == 0xc0);

  REQUIRE(flume_msgpack_path_parse(&flume_io_posix, "m.n.o", 5, &path, NULL) == 0);
  CHECK_INT_EQ(path->count, 3);
  CHECK_INT_EQ(flume_msgpack_seek(buf.data, buf.data + buf.len, path, &at), 0);
  CHECK_INT_EQ(flume_msgpack_read(&at, buf.data + buf.len, &v), 0);
  CHECK(v.type == FLUME_TYPE_INT && v.i == -7);
  flume_msgpack_path_free(path);

  REQUIRE(flume_msgpack_path_parse(&flume_io_posix, "a.b", 3, &path, NULL) == 0);
  CHECK_INT_EQ(flume_msgpack_seek(buf.data, buf.data + buf.len, path, &at), FLUME_ENOENT);
  flume_msgpack_path_free(path);

  REQUIRE(flume_msgpack_path_new(&flume_io_posix, keys, 2, &path, NULL) == 0);
  CHECK_INT_EQ(flume_msgpack_seek(buf.data, buf.data + buf.len, path, &at), 0);
  CHECK(*at == 0x81);
  flume_msgpack_path_free(path);
}

TEST(find_gives_the_first_of_equal_keys) {
  static const char twice[] = "\x82\xa1k\x01\xa1k\x02";
  const uint8_t *at;
  CHECK_INT_EQ(flume_msgpack_find((const uint8_t *)twice, (const uint8_t *)twice + 7, "k", 1, &at), 0);
  CHECK_INT_EQ(*at, 1);
}

TEST(find_passes_keys_that_are_no_strings) {
  static const char map[] = "\x84\x01\x02\x92\x01\x02\x03\xc4\x01k\x07\xa1k\x08";
  const uint8_t *at;
  CHECK_INT_EQ(flume_msgpack_find((const uint8_t *)map, (const uint8_t *)map + sizeof map - 1, "k", 1, &at), 0);
  CHECK_INT_EQ(*at, 7);
}

TEST(bad_paths_are_refused) {
  static const char *const bad[] = {"", ".", "a.", ".a", "a..b"};
  struct flume_msgpack_path *path = NULL;
  struct flume_err err;
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    CHECK_INT_EQ(flume_msgpack_path_parse(&flume_io_posix, bad[i], strlen(bad[i]), &path, &err), FLUME_EINVAL);
    CHECK(path == NULL);
  }
  CHECK_STR_EQ(err.msg, "path 'a..b': key 2 is empty");
  CHECK_INT_EQ(flume_msgpack_path_new(&flume_io_posix, NULL, 0, &path, NULL), FLUME_EINVAL);
}

TEST(every_cut_is_corrupt) {
  write_sample();
  CHECK_INT_EQ(check_bytes(buf.data, buf.len), 0);
  for (size_t len = 0; len < buf.len; len++) CHECK_INT_EQ(check_bytes(buf.data, len), FLUME_ECORRUPT);
  flume_msgpack_write_nil(&buf);
  CHECK_INT_EQ(check_bytes(buf.data, buf.len), FLUME_ECORRUPT);
}

TEST(hostile_headers_are_corrupt) {
  CHECK_INT_EQ(check_bytes("\xc1", 1), FLUME_ECORRUPT);
  CHECK_INT_EQ(check_bytes("\xdd\xff\xff\xff\xff\x00", 6), FLUME_ECORRUPT);
  CHECK_INT_EQ(check_bytes("\xdf\xff\xff\xff\xff\x00", 6), FLUME_ECORRUPT);
  CHECK_INT_EQ(check_bytes("\xdb\xff\xff\xff\xff\x00", 6), FLUME_ECORRUPT);
  CHECK_INT_EQ(check_bytes("\xc9\xff\xff\xff\xff\x00", 6), FLUME_ECORRUPT);
  CHECK_INT_EQ(check_bytes("\x81\x01", 2), FLUME_ECORRUPT);
}

TEST(depth_is_limited_in_check_but_not_in_skip) {
  static uint8_t deep[100000];
  const uint8_t *p = deep;
  memset(deep, 0x91, sizeof deep);
  deep[sizeof deep - 1] = 0xc0;
  CHECK_INT_EQ(flume_msgpack_skip(&p, deep + sizeof deep), 0);
  CHECK_INT_EQ(flume_msgpack_check(deep, sizeof deep), FLUME_ECORRUPT);
  CHECK_INT_EQ(flume_msgpack_check(deep + sizeof deep - 129, 129), 0);
  CHECK_INT_EQ(flume_msgpack_check(deep + sizeof deep - 130, 130), FLUME_ECORRUPT);
  deep[sizeof deep - 1] = 0x90;
  CHECK_INT_EQ(flume_msgpack_check(deep + sizeof deep - 128, 128), 0);
  CHECK_INT_EQ(flume_msgpack_check(deep + sizeof deep - 129, 129), FLUME_ECORRUPT);
  CHECK_INT_EQ(flume__msgpack_check_depth(deep + sizeof deep - 3, 3, 2), FLUME_E2BIG);
  CHECK_INT_EQ(flume__msgpack_check_depth(deep + sizeof deep - 3, 3, 3), 0);
}

/* A second, recursive opinion on where a value ends; NULL when it does not. */
static const uint8_t *walk(const uint8_t *p, const uint8_t *end) {
  struct flume_value v;
  uint64_t children;
  if (flume_msgpack_read(&p, end, &v) != 0) return NULL;
  children = v.type == FLUME_TYPE_ARRAY ? v.count : v.type == FLUME_TYPE_MAP ? 2 * (uint64_t)v.count : 0;
  while (p != NULL && children-- > 0) p = walk(p, end);
  return p;
}

TEST(check_and_skip_agree_on_random_bytes) {
  unsigned seed = 12345;
  for (int round = 0; round < 200000; round++) {
    const uint8_t *p, *at;
    uint8_t *copy;
    size_t len;
    write_sample();
    for (int flips = rand_r(&seed) % 6; flips >= 0; flips--) {
      buf.data[(size_t)rand_r(&seed) % buf.len] = (uint8_t)rand_r(&seed);
    }
    len = 1 + (size_t)rand_r(&seed) % buf.len;
    copy = exact(buf.data, len);
    p = copy;
    if (flume_msgpack_skip(&p, copy + len) == 0) {
      if (walk(copy, copy + len) != p) CHECK(!"skip and read agree");
    } else if (walk(copy, copy + len) != NULL) {
      CHECK(!"skip refuses what can't be read");
    }
    (void)flume_msgpack_find(copy, copy + len, "m", 1, &at);
    free(copy);
  }
  flume_buf_fini(&buf);
}

static void *refuse(void *ctx, void *ptr, size_t size) {
  (void)ctx;
  (void)ptr;
  (void)size;
  return NULL;
}

TEST(failed_allocations_leave_the_buffer_unchanged) {
  struct flume_io io = {.realloc = refuse};
  struct flume_buf none;
  struct flume_msgpack_path *path;
  flume_buf_init(&none, &io);
  CHECK_INT_EQ(flume_msgpack_write_nil(&none), FLUME_ENOMEM);
  CHECK_INT_EQ(flume_msgpack_write_int(&none, 1), FLUME_ENOMEM);
  CHECK_INT_EQ(flume_msgpack_write_float(&none, 1), FLUME_ENOMEM);
  CHECK_INT_EQ(flume_msgpack_write_str(&none, "x", 1), FLUME_ENOMEM);
  CHECK_INT_EQ(flume_msgpack_write_bin(&none, "x", 1), FLUME_ENOMEM);
  CHECK_INT_EQ(flume_msgpack_write_map(&none, 1), FLUME_ENOMEM);
  CHECK_INT_EQ(none.len, 0);
  CHECK_INT_EQ(flume_msgpack_path_parse(&io, "a", 1, &path, NULL), FLUME_ENOMEM);
}
