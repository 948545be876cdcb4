/* Keys by paths, against a straightforward walk. */
#include "index/key_path.h"

#include <math.h>

#include "codec/key.h"
#include "support.h"

#define PATHS_MAX 3

static struct flume_err err;
static uint64_t random_state;

/* --- Records ----------------------------------------------------------------------------------------------------- */

static const char *const names[] = {"a", "b", "c", "a.b", ""};

static void write_value(struct flume_buf *buf, unsigned depth);

static void write_map(struct flume_buf *buf, unsigned depth) {
  uint32_t count = random_below(&random_state, 6);
  MUST(flume_msgpack_write_map(buf, count) == 0);
  for (uint32_t i = 0; i < count; i++) {
    if (random_below(&random_state, 8) == 0) {
      MUST(flume_msgpack_write_int(buf, random_below(&random_state, 3)) == 0);
    } else {
      const char *name = names[random_below(&random_state, 5)];
      MUST(flume_msgpack_write_str(buf, name, strlen(name)) == 0);
    }
    write_value(buf, depth + 1);
  }
}

static void write_value(struct flume_buf *buf, unsigned depth) {
  switch (random_below(&random_state, depth < 3 ? 10 : 6)) {
    case 0: MUST(flume_msgpack_write_nil(buf) == 0); break;
    case 1: MUST(flume_msgpack_write_bool(buf, random_below(&random_state, 2)) == 0); break;
    case 2: MUST(flume_msgpack_write_int(buf, random_below(&random_state, 100)) == 0); break;
    case 3: MUST(flume_msgpack_write_float(buf, random_below(&random_state, 4) == 0 ? (double)NAN : 1.5) == 0); break;
    case 4:
    case 5: MUST(flume_msgpack_write_str(buf, "text", random_below(&random_state, 5)) == 0); break;
    case 6:
      MUST(flume_msgpack_write_array(buf, 2) == 0);
      write_value(buf, depth + 1);
      write_value(buf, depth + 1);
      break;
    default: write_map(buf, depth);
  }
}

/* --- The model ---------------------------------------------------------------------------------------------------- */

/* The value under a name in the map at p: where it begins; NULL for none. Of equal names the first counts. */
static const uint8_t *find(const uint8_t *p, const uint8_t *end, const char *name, size_t len) {
  struct flume_value v;
  MUST(flume_msgpack_read(&p, end, &v) == 0);
  if (v.type != FLUME_TYPE_MAP) return NULL;
  for (uint32_t i = 0; i < v.count; i++) {
    struct flume_value key;
    MUST(flume_msgpack_read(&p, end, &key) == 0);
    if (key.type == FLUME_TYPE_STR && key.str.len == len && memcmp(key.str.data, name, len) == 0) return p;
    MUST(flume_msgpack_skip(&p, end) == 0);
  }
  return NULL;
}

/* The bytes at a path that is not null; false for none. */
static bool follow(const uint8_t *p, const uint8_t *end, const char *path, struct flume_slice *value) {
  while (p != NULL) {
    size_t len = strcspn(path, ".");
    p = find(p, end, path, len);
    if (path[len] == '\0') break;
    path += len + 1;
  }
  if (p == NULL || *p == 0xc0) return false;
  const uint8_t *behind = p;
  MUST(flume_msgpack_skip(&behind, end) == 0);
  *value = slice(p, (size_t)(behind - p));
  return true;
}

/* As extract.h has it: true, and the key. */
static bool expect(const struct flume_buf *record, const char *const *paths, size_t count, bool is_list,
                   struct flume_buf *key) {
  const uint8_t *end = record->data + record->len;
  struct flume_buf value;
  bool found = false;
  flume_buf_init(&value, &flume_io_posix);
  if (is_list) flume_msgpack_write_array(&value, (uint32_t)count);
  for (size_t i = 0; i < count; i++) {
    struct flume_slice at;
    if (follow(record->data, end, paths[i], &at)) {
      found = true;
      flume_buf_append(&value, at.data, at.len);
    } else if (is_list) {
      flume_msgpack_write_nil(&value);
    }
  }
  bool has_key = found && flume_key_encode(value.data, value.len, key, NULL) == 0;
  flume_buf_fini(&value);
  return has_key;
}

/* --- Comparing ---------------------------------------------------------------------------------------------------- */

static struct flume_extract *make_extract(const struct flume_io *io, const char *const *paths, size_t count,
                                          bool is_list) {
  struct flume_msgpack_path *parsed[PATHS_MAX];
  struct flume_extract *extract = NULL;
  for (size_t i = 0; i < count; i++) {
    MUST(flume_msgpack_path_parse(io, paths[i], strlen(paths[i]), &parsed[i], &err) == 0);
  }
  MUST(flume_extract_new(io, is_list ? FLUME_EXTRACT_ARRAY : FLUME_EXTRACT_VALUE, parsed, count, &extract, &err) == 0);
  return extract;
}

static void compare(const char *const *paths, size_t count, bool is_list, int rounds) {
  struct flume_extract *extract = make_extract(&flume_io_posix, paths, count, is_list);
  struct flume_buf record, key, want, scratch;
  int with_key = 0;
  flume_buf_init(&record, &flume_io_posix);
  flume_buf_init(&key, &flume_io_posix);
  flume_buf_init(&want, &flume_io_posix);
  flume_buf_init(&scratch, &flume_io_posix);
  for (int i = 0; i < rounds && !test_failed; i++) {
    record.len = key.len = want.len = 0;
    if (random_below(&random_state, 10) == 0) write_value(&record, 0);
    else write_map(&record, 0);
    flume_buf_append(&key, "abc", 3);
    bool has_key = expect(&record, paths, count, is_list, &want);
    CHECK_INT_EQ(flume_extract_key(extract, record.data, record.len, &key, &scratch), has_key);
    CHECK_INT_EQ(key.len, want.len + 3);
    CHECK(want.len == 0 || memcmp(key.data + 3, want.data, want.len) == 0);
    with_key += has_key;
  }
  CHECK(with_key > 10 && with_key < rounds);
  flume_extract_free(extract);
  flume_buf_fini(&record);
  flume_buf_fini(&key);
  flume_buf_fini(&want);
  flume_buf_fini(&scratch);
}

TEST(random_records) {
  random_state = random_seed();
  compare((const char *const[]){"a"}, 1, false, 5000);
  compare((const char *const[]){"a.b"}, 1, false, 5000);
  compare((const char *const[]){"a.b.c"}, 1, false, 20000);
  compare((const char *const[]){"a"}, 1, true, 5000);
  compare((const char *const[]){"a", "b"}, 2, true, 5000);
  compare((const char *const[]){"c", "a.b", "a"}, 3, true, 5000);
}

/* Cut and changed records have a key, none, or are refused. */
TEST(damaged_records) {
  struct flume_extract *extract = make_extract(&flume_io_posix, (const char *const[]){"a.b", "c"}, 2, true);
  random_state = random_seed();
  struct flume_buf record, key, scratch;
  flume_buf_init(&record, &flume_io_posix);
  flume_buf_init(&key, &flume_io_posix);
  flume_buf_init(&scratch, &flume_io_posix);
  for (int i = 0; i < 20000 && !test_failed; i++) {
    record.len = key.len = 0;
    write_map(&record, 0);
    size_t len = random_below(&random_state, 2) == 0 ? random_below(&random_state, (uint32_t)record.len) : record.len;
    if (len == record.len) record.data[random_below(&random_state, (uint32_t)len)] = (uint8_t)random_next(&random_state);
    uint8_t *copy = malloc(len > 0 ? len : 1);
    MUST(copy != NULL);
    memcpy(copy, record.data, len);
    int rv = flume_extract_key(extract, copy, len, &key, &scratch);
    CHECK(rv == 1 || rv == 0 || rv == FLUME_ECORRUPT);
    CHECK_INT_EQ(rv == 1, key.len > 0);
    free(copy);
  }
  flume_extract_free(extract);
  flume_buf_fini(&record);
  flume_buf_fini(&key);
  flume_buf_fini(&scratch);
}

/* The kind that a record {a = value} has at "a"; 0 for none. */
static int kind_of(const char *path, const char *value, size_t len) {
  struct flume_buf record, key, scratch;
  struct flume_msgpack_path *parsed;
  struct flume_extract *extract;
  flume_buf_init(&record, &flume_io_posix);
  flume_buf_init(&key, &flume_io_posix);
  flume_buf_init(&scratch, &flume_io_posix);
  MUST(flume_msgpack_write_map(&record, 1) == 0 && flume_msgpack_write_str(&record, "a", 1) == 0);
  MUST(flume_buf_append(&record, value, len) == 0);
  MUST(flume_msgpack_path_parse(&flume_io_posix, path, strlen(path), &parsed, &err) == 0);
  MUST(flume_extract_new(&flume_io_posix, FLUME_EXTRACT_KIND, &parsed, 1, &extract, &err) == 0);
  int rv = flume_extract_key(extract, record.data, record.len, &key, &scratch);
  if (rv == 1) MUST(key.len == 1);
  int kind = rv == 1 ? key.data[0] : rv;
  flume_extract_free(extract);
  flume_buf_fini(&record);
  flume_buf_fini(&key);
  flume_buf_fini(&scratch);
  return kind;
}

TEST(kinds_of_values) {
  CHECK_INT_EQ(kind_of("a", "\xc0", 1), FLUME_KIND_NULL);
  CHECK_INT_EQ(kind_of("a", "\xc3", 1), FLUME_KIND_BOOL);
  CHECK_INT_EQ(kind_of("a", "\x07", 1), FLUME_KIND_NUMBER);
  CHECK_INT_EQ(kind_of("a", "\xcb\x3f\xf8\0\0\0\0\0\0", 9), FLUME_KIND_NUMBER);
  CHECK_INT_EQ(kind_of("a", "\xcb\x7f\xf8\0\0\0\0\0\0", 9), FLUME_KIND_NAN);
  CHECK_INT_EQ(kind_of("a", "\xa1x", 2), FLUME_KIND_STRING);
  CHECK_INT_EQ(kind_of("a", "\x92\x01\x02", 3), FLUME_KIND_ARRAY);
  CHECK_INT_EQ(kind_of("a", "\x91\x80", 2), FLUME_KIND_OTHER_ARRAY);
  CHECK_INT_EQ(kind_of("a", "\x80", 1), FLUME_KIND_MAP);
  CHECK_INT_EQ(kind_of("b", "\x07", 1), 0);
  CHECK_INT_EQ(kind_of("a.b", "\x07", 1), 0);
  CHECK_INT_EQ(kind_of("a.b", "\x81\xa1" "b\x07", 4), FLUME_KIND_NUMBER);
  CHECK_INT_EQ(kind_of("a", "\x92\x01", 2), FLUME_ECORRUPT);
}

TEST(any_record_has_the_same_key) {
  struct flume_buf key, scratch;
  struct flume_extract *extract;
  flume_buf_init(&key, &flume_io_posix);
  flume_buf_init(&scratch, &flume_io_posix);
  MUST(flume_extract_new(&flume_io_posix, FLUME_EXTRACT_ANY, NULL, 0, &extract, &err) == 0);
  CHECK_INT_EQ(flume_extract_key(extract, (const uint8_t *)"\x07", 1, &key, &scratch), 1);
  CHECK(key.len == 1 && key.data[0] == '*');
  flume_extract_free(extract);
  flume_buf_fini(&key);
}

TEST(without_memory) {
  struct faults faults;
  faults_init(&faults);
  const char *const paths[] = {"a.b", "c"};
  struct flume_msgpack_path *parsed[2];
  struct flume_extract *extract = NULL;
  for (size_t i = 0; i < 2; i++) {
    MUST(flume_msgpack_path_parse(&faults.io, paths[i], strlen(paths[i]), &parsed[i], &err) == 0);
  }
  faults_arm(&faults, FAULT_ALLOC, 1, UV_ENOMEM);
  CHECK_INT_EQ(flume_extract_new(&faults.io, FLUME_EXTRACT_ARRAY, parsed, 2, &extract, &err), FLUME_ENOMEM);
  CHECK_INT_EQ(err.code, FLUME_ENOMEM);
  CHECK_INT_EQ(atomic_load(&faults.allocations), 0); /* the paths were taken over all the same */
  flume_extract_free(NULL);
}
