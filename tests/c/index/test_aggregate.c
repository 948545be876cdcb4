/* Aggregates over a store: what they come to is shown by tests/spec/view/views_aggregate_spec.lua; here it is what
 * may go wrong. */
#include "index/aggregate.h"

#include "codec/key.h"
#include "support.h"

static struct flume_err err;
static struct faults faults;
static struct flume_store *store;
static struct flume_aggregate *aggregate;
static uint64_t random_state;

static struct flume_msgpack_path *path(const char *text) {
  struct flume_msgpack_path *parsed;
  MUST(flume_msgpack_path_parse(&faults.io, text, strlen(text), &parsed, &err) == 0);
  return parsed;
}

static int make(void) {
  struct flume_msgpack_path *by[] = {path("k")};
  struct flume_aggregate_field fields[] = {{FLUME_AGGREGATE_COUNT, NULL},
                                           {FLUME_AGGREGATE_SUM, path("n")},
                                           {FLUME_AGGREGATE_MIN, path("s")},
                                           {FLUME_AGGREGATE_DISTINCT, path("n")}};
  struct flume_extract *group;
  MUST(flume_extract_new(&faults.io, FLUME_EXTRACT_VALUE, by, 1, &group, &err) == 0);
  return flume_aggregate_new(&faults.io, group, fields, 4, &aggregate, &err);
}

static void begin(void) {
  faults_init(&faults);
  aggregate = NULL;
  MUST(flume_store_open(&store, &faults.io, NULL, FLUME_STORE_WRITE, &err) == 0);
}

static void end(void) {
  flume_aggregate_free(aggregate);
  flume_store_close(store);
  CHECK_INT_EQ(atomic_load(&faults.allocations), 0);
}

/* {k = k, n = n, s = a text of so many bytes} */
static void write_record(struct flume_buf *buf, int64_t k, int64_t n, size_t text) {
  static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
  buf->len = 0;
  MUST(flume_msgpack_write_map(buf, 3) == 0);
  MUST(flume_msgpack_write_str(buf, "k", 1) == 0 && flume_msgpack_write_int(buf, k) == 0);
  MUST(flume_msgpack_write_str(buf, "n", 1) == 0 && flume_msgpack_write_int(buf, n) == 0);
  MUST(flume_msgpack_write_str(buf, "s", 1) == 0 && flume_msgpack_write_str(buf, letters, text) == 0);
}

static int add(int64_t k, int64_t n) {
  struct flume_buf record;
  flume_buf_init(&record, &flume_io_posix);
  write_record(&record, k, n, (size_t)(n & 15));
  int rv = flume_aggregate_add(aggregate, store, NULL, record.data, record.len, &err);
  flume_buf_fini(&record);
  return rv;
}

/* The element of a group's state as an integer; 0 is how many records are in it. */
static int64_t state_of(int64_t k, size_t element) {
  struct flume_buf packed, key, value;
  struct flume_value v;
  flume_buf_init(&packed, &flume_io_posix);
  flume_buf_init(&key, &flume_io_posix);
  flume_buf_init(&value, &flume_io_posix);
  MUST(flume_msgpack_write_int(&packed, k) == 0 && flume_key_encode(packed.data, packed.len, &key, &err) == 0);
  int rv = flume_store_get_group(store, key.data, key.len, &value, &err);
  const uint8_t *p = value.data, *behind = p + value.len;
  if (rv == 0) MUST(flume_msgpack_read(&p, behind, &v) == 0);
  for (size_t i = 0; rv == 0 && i < element; i++) MUST(flume_msgpack_skip(&p, behind) == 0);
  if (rv == 0) MUST(flume_msgpack_read(&p, behind, &v) == 0);
  flume_buf_fini(&packed);
  flume_buf_fini(&key);
  flume_buf_fini(&value);
  return rv == 0 ? v.i : rv;
}

/* Groups that are let go of are taken up again from the store. */
TEST(continues_from_the_stored_groups) {
  begin();
  MUST(make() == 0);
  for (int64_t i = 0; i < 300; i++) {
    MUST(add(i % 3, i) == 0);
    if (i % 50 != 49) continue;
    MUST(flume_aggregate_flush(aggregate, store, &err) == 0);
    flume_aggregate_forget(aggregate);
  }
  CHECK_INT_EQ(state_of(0, 0), 100);
  CHECK_INT_EQ(state_of(1, 2), 14950);
  CHECK_INT_EQ(state_of(3, 0), FLUME_ENOENT);
  end();
}

static int change(int64_t k, int64_t n,
                  int (*fn)(struct flume_aggregate *, struct flume_store *, struct flume_store *, const uint8_t *,
                            size_t, struct flume_err *)) {
  struct flume_buf record;
  flume_buf_init(&record, &flume_io_posix);
  write_record(&record, k, n, 0);
  int rv = fn(aggregate, store, NULL, record.data, record.len, &err);
  flume_buf_fini(&record);
  return rv;
}

static int make_count(void) {
  struct flume_msgpack_path *by[] = {path("k")};
  struct flume_aggregate_field fields[] = {{FLUME_AGGREGATE_COUNT, NULL}};
  struct flume_extract *group;
  MUST(flume_extract_new(&faults.io, FLUME_EXTRACT_VALUE, by, 1, &group, &err) == 0);
  return flume_aggregate_new(&faults.io, group, fields, 1, &aggregate, &err);
}

/* A flush has the groups that have changed since the last one, and none that is gone. */
TEST(flushes_changed_groups) {
  begin();
  MUST(make_count() == 0);
  for (int64_t k = 0; k < 5; k++) MUST(change(k, 1, flume_aggregate_add) == 0);
  CHECK_INT_EQ(state_of(2, 0), FLUME_ENOENT);
  MUST(change(2, 1, flume_aggregate_remove) == 0); /* in the middle, first and last of those that have changed */
  MUST(change(4, 1, flume_aggregate_remove) == 0);
  MUST(change(0, 1, flume_aggregate_remove) == 0);
  MUST(flume_aggregate_flush(aggregate, store, &err) == 0);
  for (int64_t k = 0; k < 5; k++) CHECK_INT_EQ(state_of(k, 0), k % 2 == 1 ? 1 : FLUME_ENOENT);
  MUST(change(3, 1, flume_aggregate_add) == 0 && change(2, 1, flume_aggregate_add) == 0);
  CHECK_INT_EQ(state_of(3, 0), 1);
  MUST(flume_aggregate_flush(aggregate, store, &err) == 0);
  CHECK_INT_EQ(state_of(3, 0), 2);
  CHECK_INT_EQ(state_of(2, 0), 1);
  CHECK_INT_EQ(state_of(1, 0), 1);
  end();
}

/* With a prefix its groups lie elsewhere. */
TEST(keeps_groups_behind_a_prefix) {
  struct flume_store_range range;
  struct flume_store_cursor *cursor;
  struct flume_store_entry entry;
  begin();
  MUST(make_count() == 0);
  MUST(flume_aggregate_prefix(aggregate, "\x81", 1, &err) == 0);
  for (int64_t k = 0; k < 3; k++) MUST(change(k, 1, flume_aggregate_add) == 0);
  MUST(flume_aggregate_flush(aggregate, store, &err) == 0);
  flume_aggregate_forget(aggregate);
  MUST(change(1, 1, flume_aggregate_add) == 0);
  MUST(flume_aggregate_flush(aggregate, store, &err) == 0);
  CHECK_INT_EQ(state_of(1, 0), FLUME_ENOENT);
  flume_store_range_init(&range);
  CHECK_INT_EQ(flume_store_count(store, FLUME_STORE_GROUPS, &range, &err), 3);
  MUST(flume_store_cursor_open(&cursor, store, FLUME_STORE_GROUPS, &range, &err) == 0);
  while (flume_store_cursor_next(cursor, &entry, &err) == 1) CHECK_INT_EQ(entry.key[0], 0x81);
  flume_store_cursor_close(cursor);
  end();
}

/* Whichever allocation fails, the error is told, and nothing is lost or left. */
TEST(without_memory) {
  for (int nth = 1, failures = 1; failures > 0 && nth < 10000; nth++) {
    failures = 0;
    begin();
    faults_arm(&faults, FAULT_ALLOC, 0, UV_ENOMEM);
    MUST(make() == 0);
    faults_arm(&faults, FAULT_ALLOC, nth, UV_ENOMEM);
    for (int64_t i = 0; i < 400 && failures == 0; i++) {
      int rv = add(i % 2, i);
      CHECK(rv == 0 || rv == FLUME_ENOMEM);
      failures += rv != 0;
    }
    if (failures == 0) {
      int rv = flume_aggregate_flush(aggregate, store, &err);
      CHECK(rv == 0 || rv == FLUME_ENOMEM);
      failures += rv != 0;
    }
    if (failures == 0) CHECK_INT_EQ(state_of(0, 0), 200);
    end();
  }
}

TEST(a_failed_creation_frees_its_arguments) {
  begin();
  struct flume_msgpack_path *by[] = {path("k")};
  struct flume_aggregate_field fields[] = {{FLUME_AGGREGATE_SUM, path("n")}};
  struct flume_extract *group;
  MUST(flume_extract_new(&faults.io, FLUME_EXTRACT_VALUE, by, 1, &group, &err) == 0);
  faults_arm(&faults, FAULT_ALLOC, 1, UV_ENOMEM);
  CHECK_INT_EQ(flume_aggregate_new(&faults.io, group, fields, 1, &aggregate, &err), FLUME_ENOMEM);
  end();
}

/* Cut and changed records are added, passed over, or refused. */
TEST(damaged_records) {
  random_state = random_seed();
  begin();
  MUST(make() == 0);
  struct flume_buf record;
  flume_buf_init(&record, &flume_io_posix);
  for (int i = 0; i < 20000 && !test_failed; i++) {
    write_record(&record, i % 5, i, (size_t)(i % 20));
    size_t len = i % 2 == 0 ? random_below(&random_state, (uint32_t)record.len) : record.len;
    if (i % 2 != 0) record.data[random_below(&random_state, (uint32_t)len)] = (uint8_t)random_next(&random_state);
    uint8_t *copy = malloc(len > 0 ? len : 1);
    MUST(copy != NULL);
    if (len > 0) memcpy(copy, record.data, len);
    int rv = i % 3 == 0 ? flume_aggregate_remove(aggregate, store, NULL, copy, len, &err)
                        : flume_aggregate_add(aggregate, store, NULL, copy, len, &err);
    CHECK(rv == 0 || rv == FLUME_ECORRUPT || (i % 3 == 0 && rv == FLUME_EAGAIN));
    free(copy);
  }
  flume_buf_fini(&record);
  end();
}

/* What is in the store may have been made by something else. */
TEST(a_damaged_group_is_reported) {
  static const uint8_t states[][8] = {{0x01},
                                      {0x92, 1, 1},
                                      {0x95, 0xc0, 1, 1, 0xc0, 0xa0},
                                      {0x95, 1, 1, 1, 1, 0xa1, 'x'},
                                      {0x95, 1, 0xc0, 1, 1, 0xa0},
                                      {0x95, 1, 1, 1, 0x80, 0xa0}};
  begin();
  MUST(make() == 0);
  uint8_t one = 1;
  struct flume_buf key;
  flume_buf_init(&key, &flume_io_posix);
  MUST(flume_key_encode(&one, 1, &key, &err) == 0);
  for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
    MUST(flume_store_put_group(store, key.data, key.len, states[i], sizeof states[i], &err) == 0);
    CHECK(add(1, 1) < 0);
    CHECK(strstr(err.msg, "damaged") != NULL);
  }
  flume_buf_fini(&key);
  end();
}
