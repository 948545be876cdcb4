/* What the fields of an aggregate come to, record by record: records and states are JSON here. What may go wrong with
 * memory and bytes is in test_aggregate.c. */
#include <math.h>

#include "index/aggregate.h"
#include "index/hyperloglog.h"
#include "codec/json.h"
#include "codec/key.h"
#include "codec/msgpack.h"
#include "support.h"

static struct flume_err err;
static struct faults faults;
static struct flume_store *store;
static struct flume_aggregate *aggregate;

static struct flume_msgpack_path *path(const char *text) {
  struct flume_msgpack_path *parsed;
  MUST(flume_msgpack_path_parse(&faults.io, text, strlen(text), &parsed, &err) == 0);
  return parsed;
}

/* Grouped by the value at `by`; NULL: not at all. */
static void begin(const char *by, const struct flume_aggregate_field *fields, size_t count) {
  struct flume_extract *group = NULL;
  struct flume_msgpack_path *paths[1];
  if (by != NULL) paths[0] = path(by);
  MUST(by == NULL || flume_extract_new(&faults.io, FLUME_EXTRACT_VALUE, paths, 1, &group, &err) == 0);
  MUST(flume_aggregate_new(&faults.io, group, fields, count, &aggregate, &err) == 0);
  MUST(flume_store_open(&store, &faults.io, NULL, FLUME_STORE_WRITE, &err) == 0);
}

static void end(void) {
  flume_aggregate_free(aggregate);
  flume_store_close(store);
  CHECK_INT_EQ(atomic_load(&faults.allocations), 0);
}

static void pack(struct flume_buf *buf, const char *json) {
  flume_buf_init(buf, &flume_io_posix);
  if (flume_json_to_msgpack(json, strlen(json), buf, &err) != 0) printf("%s: %s\n", json, err.msg);
  MUST(buf->len > 0);
}

typedef int (*change_by)(struct flume_aggregate *, struct flume_store *, struct flume_store *, const uint8_t *, size_t,
                         struct flume_err *);

static int change(const char *json, struct flume_store *base, change_by by) {
  struct flume_buf record;
  pack(&record, json);
  int rv = by(aggregate, store, base, record.data, record.len, &err);
  flume_buf_fini(&record);
  return rv;
}

static int add(const char *json) {
  return change(json, NULL, flume_aggregate_add);
}

static int take_back(const char *json) {
  return change(json, NULL, flume_aggregate_remove);
}

static void check_packed(const uint8_t *data, size_t len, const char *expected) {
  struct flume_buf json;
  flume_buf_init(&json, &flume_io_posix);
  CHECK_INT_EQ(flume_msgpack_to_json(data, len, FLUME_JSON_TEXT_KEYS, &json, NULL, &err), 0);
  MUST(flume_buf_append(&json, "", 1) == 0);
  CHECK_STR_EQ((const char *)json.data, expected);
  flume_buf_fini(&json);
}

/* The state of the group in a store; NULL: it has none. */
static void check_state(struct flume_store *at, const char *group, const char *expected) {
  struct flume_buf packed, key, value;
  pack(&packed, group);
  flume_buf_init(&key, &flume_io_posix);
  flume_buf_init(&value, &flume_io_posix);
  MUST(flume_key_encode(packed.data, packed.len, &key, &err) == 0);
  MUST(flume_aggregate_flush(aggregate, store, &err) == 0);
  int rv = flume_store_get_group(at, key.data, key.len, &value, &err);
  CHECK_INT_EQ(rv, expected != NULL ? 0 : FLUME_ENOENT);
  if (rv == 0 && expected != NULL) check_packed(value.data, value.len, expected);
  flume_buf_fini(&packed);
  flume_buf_fini(&key);
  flume_buf_fini(&value);
}

/* One field over all records, which are given as JSON; its state is checked after each. */
struct step {
  const char *record;
  const char *state;
};

static void run_steps(enum flume_aggregate_op op, const struct step *steps, size_t count) {
  faults_init(&faults);
  struct flume_aggregate_field field = {op, path("v")};
  begin(NULL, &field, 1);
  for (size_t i = 0; i < count; i++) {
    CHECK_INT_EQ(add(steps[i].record), 0);
    check_state(store, "true", steps[i].state);
    if (i % 2 != 0) flume_aggregate_forget(aggregate); /* the next one finds it in the store */
    if (test_failed) printf("after record %zu\n", i);
  }
  end();
}

#define RUN_STEPS(op, ...)                                      \
  do {                                                          \
    const struct step steps[] = {__VA_ARGS__};                  \
    run_steps(op, steps, sizeof steps / sizeof *steps);         \
  } while (0)

/* --- Fields ------------------------------------------------------------------------------------------------------- */

TEST(counts_leave_out_missing_values) {
  RUN_STEPS(FLUME_AGGREGATE_COUNT, {"{\"v\":1}", "[1,1]"}, {"{\"v\":null}", "[2,1]"}, {"{\"w\":1}", "[3,1]"},
            {"{\"v\":[]}", "[4,2]"}, {"5", "[5,2]"});
}

TEST(sums_stay_integers_as_long_as_they_can) {
  RUN_STEPS(FLUME_AGGREGATE_SUM, {"{\"v\":1}", "[1,1]"}, {"{\"v\":\"2\"}", "[2,1]"}, {"{\"v\":-3}", "[3,-2]"},
            {"{\"v\":9223372036854775807}", "[4,9223372036854775805]"}, {"{\"v\":true}", "[5,9223372036854775805]"},
            {"{\"v\":9223372036854775807}", "[6,1.8446744073709552e+19]"},
            {"{\"v\":-1}", "[7,1.8446744073709552e+19]"});
  RUN_STEPS(FLUME_AGGREGATE_SUM, {"{\"v\":1}", "[1,1]"}, {"{\"v\":0.5}", "[2,1.5]"}, {"{\"v\":2}", "[3,3.5]"},
            {"{\"v\":0.25}", "[4,3.75]"});
}

/* In the order of keys: strings, arrays, numbers, booleans. Null is none, and a map is passed over. */
TEST(least_values) {
  RUN_STEPS(FLUME_AGGREGATE_MIN, {"{\"v\":null}", "[1,null]"}, {"{\"v\":true}", "[2,true]"}, {"{\"v\":9}", "[3,9]"},
            {"{\"v\":{}}", "[4,9]"}, {"{\"v\":7}", "[5,7]"}, {"{\"v\":8}", "[6,7]"}, {"{\"v\":6.5}", "[7,6.5]"},
            {"{\"v\":8}", "[8,6.5]"}, {"{\"v\":-2}", "[9,-2]"}, {"{\"v\":-2}", "[10,-2]"},
            {"{\"v\":\"b\"}", "[11,\"b\"]"}, {"{\"v\":\"ab\"}", "[12,\"ab\"]"}, {"{\"v\":1}", "[13,\"ab\"]"},
            {"{\"v\":[1]}", "[14,\"ab\"]"});
}

TEST(greatest_values) {
  RUN_STEPS(FLUME_AGGREGATE_MAX, {"{\"v\":null}", "[1,null]"}, {"{\"v\":\"a\"}", "[2,\"a\"]"},
            {"{\"v\":\"ab\"}", "[3,\"ab\"]"}, {"{\"v\":\"aa\"}", "[4,\"ab\"]"}, {"{\"v\":[1]}", "[5,[1]]"},
            {"{\"v\":[0,2]}", "[6,[1]]"}, {"{\"v\":2}", "[7,2]"}, {"{\"v\":1}", "[8,2]"}, {"{\"v\":3}", "[9,3]"},
            {"{\"v\":2.5}", "[10,3]"}, {"{\"v\":3.5}", "[11,3.5]"}, {"{\"v\":3}", "[12,3.5]"},
            {"{\"v\":\"z\"}", "[13,3.5]"}, {"{\"v\":false}", "[14,false]"}, {"{\"v\":true}", "[15,true]"},
            {"{\"v\":99}", "[16,true]"});
}

/* What is no number to anyone is none in a sum. */
TEST(nan_is_not_summed) {
  struct flume_buf record;
  faults_init(&faults);
  struct flume_aggregate_field field = {FLUME_AGGREGATE_SUM, path("v")};
  begin(NULL, &field, 1);
  CHECK_INT_EQ(add("{\"v\":5}"), 0);
  flume_buf_init(&record, &flume_io_posix);
  MUST(flume_msgpack_write_map(&record, 1) == 0 && flume_msgpack_write_str(&record, "v", 1) == 0 &&
       flume_msgpack_write_float(&record, NAN) == 0);
  CHECK_INT_EQ(flume_aggregate_add(aggregate, store, NULL, record.data, record.len, &err), 0);
  check_state(store, "true", "[2,5]");
  flume_buf_fini(&record);
  end();
}

/* Several fields of one path look at the same value; paths that only begin alike do not. */
TEST(fields_of_the_same_path) {
  faults_init(&faults);
  struct flume_aggregate_field fields[] = {{FLUME_AGGREGATE_COUNT, NULL},        {FLUME_AGGREGATE_SUM, path("a.b")},
                                           {FLUME_AGGREGATE_MAX, path("a.b")},   {FLUME_AGGREGATE_SUM, path("a.c")},
                                           {FLUME_AGGREGATE_COUNT, path("a")},   {FLUME_AGGREGATE_MIN, path("a.bb")},
                                           {FLUME_AGGREGATE_COUNT, path("a.b")}, {FLUME_AGGREGATE_COUNT, NULL}};
  begin(NULL, fields, sizeof fields / sizeof *fields);
  CHECK_INT_EQ(add("{\"a\":{\"b\":4,\"c\":10,\"bb\":\"x\"}}"), 0);
  CHECK_INT_EQ(add("{\"a\":{\"b\":3}}"), 0);
  CHECK_INT_EQ(add("{\"a\":{\"c\":1}}"), 0);
  check_state(store, "true", "[3,3,7,4,11,3,\"x\",2,3]");
  end();
}

static int64_t distinct_of(const char *group) {
  struct flume_buf packed, key, value;
  struct flume_value v = {.type = FLUME_TYPE_NIL};
  pack(&packed, group);
  flume_buf_init(&key, &flume_io_posix);
  flume_buf_init(&value, &flume_io_posix);
  MUST(flume_key_encode(packed.data, packed.len, &key, &err) == 0);
  MUST(flume_aggregate_flush(aggregate, store, &err) == 0);
  MUST(flume_store_get_group(store, key.data, key.len, &value, &err) == 0);
  const uint8_t *p = value.data, *behind = p + value.len;
  for (int i = 0; i < 3; i++) MUST(flume_msgpack_read(&p, behind, &v) == 0); /* the array, records, the state */
  int64_t count = flume_hyperloglog_count(v.str.data, v.str.len);
  flume_buf_fini(&packed);
  flume_buf_fini(&key);
  flume_buf_fini(&value);
  return count;
}

TEST(distinct_values) {
  static const char *const records[] = {"{\"v\":1}",   "{\"v\":\"1\"}", "{\"v\":1}", "{\"v\":[1]}",
                                        "{\"v\":null}", "{\"v\":{}}",    "{\"v\":2}", "{\"w\":3}"};
  faults_init(&faults);
  struct flume_aggregate_field field = {FLUME_AGGREGATE_DISTINCT, path("v")};
  begin(NULL, &field, 1);
  for (size_t i = 0; i < sizeof records / sizeof *records; i++) {
    CHECK_INT_EQ(add(records[i]), 0);
    if (i != 3) continue;
    CHECK_INT_EQ(distinct_of("true"), 3);
    flume_aggregate_forget(aggregate);
  }
  CHECK_INT_EQ(distinct_of("true"), 4);
  CHECK_INT_EQ(take_back("{\"v\":{}}"), 0);
  CHECK_INT_EQ(take_back("{\"v\":2}"), FLUME_EAGAIN);
  end();
}

/* --- Groups ------------------------------------------------------------------------------------------------------- */

static void begin_by_key(void) {
  faults_init(&faults);
  struct flume_aggregate_field fields[] = {{FLUME_AGGREGATE_SUM, path("v")}, {FLUME_AGGREGATE_MIN, path("w")}};
  begin("k", fields, 2);
}

TEST(groups_of_their_own) {
  begin_by_key();
  CHECK_INT_EQ(add("{\"k\":\"a\",\"v\":1}"), 0);
  CHECK_INT_EQ(add("{\"k\":2,\"v\":10}"), 0);
  CHECK_INT_EQ(add("{\"k\":\"a\",\"v\":2,\"w\":5}"), 0);
  CHECK_INT_EQ(add("{\"v\":100}"), 0); /* in none */
  CHECK_INT_EQ(add("{\"k\":{},\"v\":100}"), 0);
  check_state(store, "\"a\"", "[2,3,5]");
  check_state(store, "2", "[1,10,null]");
  check_state(store, "true", NULL);
  end();
}

TEST(the_group_of_the_last_record) {
  struct flume_buf key, value, plain;
  begin_by_key();
  flume_buf_init(&key, &flume_io_posix);
  flume_buf_init(&value, &faults.io);
  flume_buf_init(&plain, &flume_io_posix);
  CHECK_INT_EQ(flume_aggregate_last(aggregate, &key, &value), 0);
  CHECK_INT_EQ(add("{\"k\":\"a\",\"v\":1}"), 0);
  CHECK_INT_EQ(add("{\"k\":\"b\",\"v\":2,\"w\":\"x\"}"), 0);
  faults_arm(&faults, FAULT_ALLOC, 1, UV_ENOMEM);
  CHECK_INT_EQ(flume_aggregate_last(aggregate, &key, &value), FLUME_ENOMEM);
  faults_arm(&faults, FAULT_NONE, 0, 0);
  key.len = value.len = 0;
  CHECK_INT_EQ(flume_aggregate_last(aggregate, &key, &value), 1);
  const uint8_t *p = key.data;
  CHECK_INT_EQ(flume_key_decode(&p, key.data + key.len, &plain), 0);
  check_packed(plain.data, plain.len, "\"b\"");
  check_packed(value.data, value.len, "[1,2,\"x\"]");
  CHECK_INT_EQ(add("{\"v\":1}"), 0);
  CHECK_INT_EQ(flume_aggregate_last(aggregate, &key, &value), 0);
  flume_buf_fini(&key);
  flume_buf_fini(&value);
  flume_buf_fini(&plain);
  end();
}

/* A group that the store has not goes on from what another one has, which stays as it is. */
TEST(groups_continue_from_a_stored_base) {
  struct flume_store *base;
  begin_by_key();
  CHECK_INT_EQ(add("{\"k\":1,\"v\":4}"), 0);
  CHECK_INT_EQ(add("{\"k\":2,\"v\":5}"), 0);
  MUST(flume_aggregate_flush(aggregate, store, &err) == 0);
  flume_aggregate_forget(aggregate);
  base = store;
  MUST(flume_store_open(&store, &faults.io, NULL, FLUME_STORE_WRITE, &err) == 0);
  CHECK_INT_EQ(change("{\"k\":1,\"v\":10}", base, flume_aggregate_add), 0);
  CHECK_INT_EQ(change("{\"k\":3,\"v\":1}", base, flume_aggregate_add), 0);
  CHECK_INT_EQ(change("{\"k\":1,\"v\":1}", base, flume_aggregate_remove), 0);
  check_state(store, "1", "[1,13,null]");
  check_state(store, "2", NULL);
  check_state(store, "3", "[1,1,null]");
  check_state(base, "1", "[1,4,null]");
  flume_store_close(base);
  end();
}

/* More of them than the table has places for at first. */
TEST(many_groups) {
  char record[64];
  begin_by_key();
  for (int i = 0; i < 9000; i++) {
    snprintf(record, sizeof record, "{\"k\":%d,\"v\":%d}", i % 3000, i);
    CHECK_INT_EQ(add(record), 0);
  }
  char group[16], state[64];
  for (int k = 0; k < 3000; k += 7) {
    snprintf(group, sizeof group, "%d", k);
    snprintf(state, sizeof state, "[3,%d,null]", 3 * k + 9000);
    check_state(store, group, state);
  }
  end();
}

/* Groups go to the store when they take too much memory. */
TEST(large_groups_are_not_cached) {
  static char record[1 << 20];
  char group[16];
  begin_by_key();
  for (int i = 0; i < 40; i++) {
    int len = snprintf(record, sizeof record, "{\"k\":%d,\"v\":%d,\"w\":\"", i % 20, i);
    memset(record + len, 'x', sizeof record - (size_t)len - 3);
    strcpy(record + sizeof record - 3, "\"}");
    CHECK_INT_EQ(add(record), 0);
  }
  CHECK(flume_store_pending_bytes(store) > 15u << 20);
  flume_aggregate_forget(aggregate);
  for (int k = 0; k < 3; k++) {
    struct flume_buf packed, key, value;
    struct flume_value v;
    snprintf(group, sizeof group, "%d", k);
    pack(&packed, group);
    flume_buf_init(&key, &flume_io_posix);
    flume_buf_init(&value, &flume_io_posix);
    MUST(flume_key_encode(packed.data, packed.len, &key, &err) == 0);
    CHECK_INT_EQ(flume_store_get_group(store, key.data, key.len, &value, &err), 0);
    const uint8_t *p = value.data, *behind = p + value.len;
    for (int i = 0; i < 3; i++) MUST(flume_msgpack_read(&p, behind, &v) == 0);
    CHECK(v.type == FLUME_TYPE_INT && (v.i == k || v.i == 2 * k + 20));
    flume_buf_fini(&packed);
    flume_buf_fini(&key);
    flume_buf_fini(&value);
  }
  end();
}

/* --- Taking back -------------------------------------------------------------------------------------------------- */

TEST(the_last_record_removes_its_group) {
  begin_by_key();
  CHECK_INT_EQ(add("{\"k\":1,\"v\":4,\"w\":3}"), 0);
  CHECK_INT_EQ(add("{\"k\":1,\"v\":5,\"w\":8}"), 0);
  CHECK_INT_EQ(take_back("{\"k\":1,\"v\":5,\"w\":8}"), 0);
  check_state(store, "1", "[1,4,3]");
  CHECK_INT_EQ(take_back("{\"k\":1,\"v\":4,\"w\":3}"), 0);
  check_state(store, "1", NULL);
  CHECK_INT_EQ(take_back("{\"v\":4}"), 0); /* in none */
  CHECK_INT_EQ(add("{\"k\":1,\"v\":6}"), 0);
  check_state(store, "1", "[1,6,null]");
  end();
}

/* Of what a least value, or a sum of floats, was before a record nobody knows. */
TEST(changes_that_can_not_be_retracted) {
  static const struct {
    const char *others, *record;
    int rv;
  } cases[] = {{"{\"k\":1,\"w\":1}", "{\"k\":1,\"w\":0}", FLUME_EAGAIN},
               {"{\"k\":1,\"w\":1}", "{\"k\":1,\"w\":2}", 0},
               {"{\"k\":1,\"w\":1}", "{\"k\":1,\"w\":{}}", 0},
               {"{\"k\":1,\"v\":1}", "{\"k\":1,\"v\":0.5}", FLUME_EAGAIN},
               {"{\"k\":1,\"v\":0.5}", "{\"k\":1,\"v\":1}", FLUME_EAGAIN},
               {"{\"k\":1,\"v\":1}", "{\"k\":1,\"v\":\"x\"}", 0},
               {"{\"k\":1,\"v\":1}", "{\"k\":1,\"v\":7}", 0}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    begin_by_key();
    CHECK_INT_EQ(add(cases[i].others), 0);
    CHECK_INT_EQ(add(cases[i].others), 0);
    CHECK_INT_EQ(add(cases[i].record), 0);
    CHECK_INT_EQ(take_back(cases[i].record), cases[i].rv);
    if (cases[i].rv != 0) CHECK_STR_EQ(err.msg, "the record can't be taken back");
    if (test_failed) printf("case %zu\n", i);
    end();
  }
}

TEST(a_sum_that_would_leave_its_range_is_not_retracted) {
  faults_init(&faults);
  struct flume_aggregate_field fields[] = {{FLUME_AGGREGATE_SUM, path("v")}, {FLUME_AGGREGATE_COUNT, path("v")}};
  begin(NULL, fields, 2);
  CHECK_INT_EQ(add("{\"v\":-9223372036854775808}"), 0);
  CHECK_INT_EQ(add("{\"v\":1}"), 0);
  CHECK_INT_EQ(add("{\"v\":2}"), 0);
  CHECK_INT_EQ(take_back("{\"v\":2}"), 0);
  check_state(store, "true", "[2,-9223372036854775807,2]");
  CHECK_INT_EQ(take_back("{\"v\":2}"), FLUME_EAGAIN); /* which was never added */
  end();
}
