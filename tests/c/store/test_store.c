/* Stores in memory and on disk, against a model, and what is particular about them. */
#include "store_model.h"

static void run_model(bool on_disk, int steps) {
  random_state = random_seed();
  begin(on_disk);
  for (int i = 0; i < steps && !test_failed; i++) {
    do_something();
    if (i % 40 == 0) check_all();
  }
  check_all();
  end();
}

TEST(random_operations_in_memory) { run_model(false, 4000); }
TEST(random_operations_on_disk) { run_model(true, 4000); }

/* --- Single things --------------------------------------------------------------------------------------------------- */

static void add(int key, int64_t seq, const void *value, size_t len) {
  CHECK_INT_EQ(flume_store_add_entry(store, keys[key].bytes.data, keys[key].bytes.len, seq, value, len, &err), 0);
}

static void commit_at(int64_t since) {
  struct flume_store_meta meta = {.since = since};
  CHECK_INT_EQ(flume_store_commit(store, &meta, &err), 0);
}

static int64_t count_all(enum flume_store_kind kind) {
  struct flume_store_range range;
  flume_store_range_init(&range);
  return flume_store_count(store, kind, &range, &err);
}

TEST(values_of_some_megabytes) {
  for (int on_disk = 0; on_disk < 2; on_disk++) {
    begin(on_disk);
    size_t len = 3 << 20;
    uint8_t *value = payload_new(len, 5);
    add(0, 0, value, len);
    add(0, 0, value, len - 1);
    add(0, 1, "x", 1);
    CHECK_INT_EQ(flume_store_put_group(store, keys[3].bytes.data, keys[3].bytes.len, value, len, &err), 0);
    CHECK_INT_EQ(flume_store_put_state(store, value, len, &err), 0);
    for (int round = 0; round < 2; round++) {
      struct flume_store_range range;
      struct flume_store_entry entry;
      flume_store_range_init(&range);
      struct flume_store_cursor *cursor = open_cursor(FLUME_STORE_INDEX, &range);
      CHECK_INT_EQ(flume_store_cursor_next(cursor, &entry, &err), 1);
      CHECK(entry.value_len == len && payload_is(entry.value, len, 5) && entry.ordinal == 0);
      CHECK_INT_EQ(flume_store_cursor_next(cursor, &entry, &err), 1);
      CHECK(entry.value_len == len - 1 && payload_is(entry.value, len - 8, 5) && entry.ordinal == 1);
      CHECK_INT_EQ(flume_store_cursor_next(cursor, &entry, &err), 1);
      CHECK(entry.value_len == 1 && entry.seq == 1);
      flume_store_cursor_close(cursor);
      struct flume_buf got;
      flume_buf_init(&got, &flume_io_posix);
      CHECK_INT_EQ(flume_store_get_group(store, keys[3].bytes.data, keys[3].bytes.len, &got, &err), 0);
      CHECK(got.len == len && payload_is(got.data, len, 5));
      got.len = 0;
      CHECK_INT_EQ(flume_store_get_state(store, &got, &err), 0);
      CHECK(got.len == len && payload_is(got.data, len, 5));
      flume_buf_fini(&got);
      commit_at(1);
    }
    CHECK(flume_store_size_bytes(store) > 9 << 20);
    free(value);
    end();
  }
}

/* One record may have more entries of a key than a chunk has room for. */
TEST(many_entries_of_one_record) {
  for (int on_disk = 0; on_disk < 2; on_disk++) {
    begin(on_disk);
    add(5, 3, NULL, 0);
    for (int i = 0; i < 100000; i++) add(5, 4, i % 1000 == 0 ? "v" : NULL, i % 1000 == 0);
    add(5, 5, NULL, 0);
    commit_at(5);
    CHECK_INT_EQ(count_all(FLUME_STORE_INDEX), 100002);
    struct flume_store_range range;
    struct flume_store_entry entry;
    flume_store_range_init(&range);
    range.reverse = true;
    struct flume_store_cursor *cursor = open_cursor(FLUME_STORE_INDEX, &range);
    flume_store_cursor_resume(cursor, keys[5].bytes.data, keys[5].bytes.len, 4, 50001);
    CHECK_INT_EQ(flume_store_cursor_next(cursor, &entry, &err), 1);
    CHECK(entry.seq == 4 && entry.ordinal == 50000 && entry.value_len == 1);
    flume_store_cursor_close(cursor);
    CHECK_INT_EQ(flume_store_remove_entries(store, keys[5].bytes.data, keys[5].bytes.len, 4, &err), 0);
    CHECK_INT_EQ(count_all(FLUME_STORE_INDEX), 2);
    end();
  }
}

TEST(entries_come_in_order) {
  begin(true);
  add(0, 5, NULL, 0);
  CHECK_INT_EQ(flume_store_add_entry(store, "\x01", 1, 4, NULL, 0, &err), FLUME_EINVAL);
  CHECK_STR_EQ(err.msg, "an entry of record 4, behind one of record 5");
  add(0, 5, NULL, 0);
  commit_at(5);
  CHECK_INT_EQ(flume_store_add_entry(store, "\x01", 1, 5, NULL, 0, &err), FLUME_EINVAL);
  add(0, 6, NULL, 0);
  flume_store_rollback(store);
  CHECK_INT_EQ(count_all(FLUME_STORE_INDEX), 2);
  add(0, 6, NULL, 0);
  commit_at(9);
  flume_store_close(store);
  must_open(FLUME_STORE_WRITE);
  struct flume_store_meta meta;
  CHECK_INT_EQ(flume_store_load(store, &meta, &err), 0);
  CHECK_INT_EQ(flume_store_add_entry(store, "\x01", 1, 9, NULL, 0, &err), FLUME_EINVAL);
  add(0, 10, NULL, 0);
  CHECK_INT_EQ(count_all(FLUME_STORE_INDEX), 4);
  CHECK_INT_EQ(flume_store_add_entry(store, "", 0, 11, NULL, 0, &err), FLUME_EINVAL);
  CHECK_INT_EQ(flume_store_put_group(store, "", 0, "v", 1, &err), FLUME_EINVAL);
  end();
}

/* Refused before a byte of it is looked at. */
TEST(keys_and_values_that_are_too_large_are_refused) {
  for (int on_disk = 0; on_disk < 2; on_disk++) {
    begin(on_disk);
    CHECK_INT_EQ(flume_store_put_group(store, "\x01", UINT32_MAX, "v", 1, &err), FLUME_E2BIG);
    CHECK_INT_EQ(flume_store_put_group(store, "\x01", 1, "v", UINT32_MAX, &err), FLUME_E2BIG);
    CHECK_INT_EQ(flume_store_del_group(store, "\x01", UINT32_MAX, &err), FLUME_E2BIG);
    CHECK_INT_EQ(flume_store_get_group(store, "\x01", UINT32_MAX, &keys[0].bytes, &err), FLUME_E2BIG);
    CHECK_INT_EQ(flume_store_add_entry(store, "\x01", 1, 4, "v", UINT32_MAX, &err), FLUME_E2BIG);
    CHECK_INT_EQ(flume_store_remove_entries(store, "", 0, 4, &err), 0);
    CHECK_INT_EQ(flume_store_remove_entries(store, "\x01", 1, -1, &err), 0);
    CHECK_INT_EQ(count_all(FLUME_STORE_INDEX) + count_all(FLUME_STORE_GROUPS), 0);
    end();
  }
}

/* An empty bound lies before every key. */
TEST(bounds_that_are_empty) {
  for (int on_disk = 0; on_disk < 2; on_disk++) {
    begin(on_disk);
    for (int key = 0; key < KEYS; key++) add(key, key, NULL, 0);
    commit_at(KEYS);
    struct flume_store_range range;
    for (int reverse = 0; reverse < 2; reverse++) {
      flume_store_range_init(&range);
      range.reverse = reverse != 0;
      range.lower = (const uint8_t *)"";
      CHECK_INT_EQ(flume_store_count(store, FLUME_STORE_INDEX, &range, &err), KEYS);
      range.upper = range.lower;
      CHECK_INT_EQ(flume_store_count(store, FLUME_STORE_INDEX, &range, &err), 0);
    }
    end();
  }
}

/* Small commits join their entries with the chunk before, so that a key has few rows. */
TEST(commits_join_chunks) {
  begin(true);
  for (int64_t seq = 0; seq < 300; seq++) {
    add(0, seq, NULL, 0);
    if (seq % 3 == 0) add(1, seq, "value", 5);
    add(KEYS - 1, seq, NULL, 0);
    if (seq % 10 == 9) commit_at(seq);
  }
  CHECK_INT_EQ(count_all(FLUME_STORE_INDEX), 700);
  MDB_txn *txn;
  MDB_stat stat;
  MUST(flume__store_begin(store, &txn, &err) == 0);
  MUST(mdb_stat(txn, store->env->rows_db[FLUME_STORE_INDEX], &stat) == 0);
  flume__store_end(store, txn);
  CHECK_INT_EQ(stat.ms_entries, 3);
  end();
}

TEST(opening_reads_and_creates_nothing) {
  begin(true);
  struct flume_store_meta meta;
  CHECK_INT_EQ(flume_store_load(store, &meta, &err), FLUME_ENOENT);
  CHECK_INT_EQ(count_all(FLUME_STORE_INDEX), 0);
  CHECK_INT_EQ(count_all(FLUME_STORE_GROUPS), 0);
  CHECK(!file_exists(dir, "data.mdb"));
  check_group(0);
  check_state();
  CHECK_INT_EQ(flume_store_remove_entries(store, "\x01", 1, 3, &err), 0);
  end();
}

TEST(a_store_for_reading_is_not_written) {
  begin(true);
  do_add();
  do_group();
  do_commit();
  flume_store_close(store);
  must_open(FLUME_STORE_READ);
  check_meta();
  check_all();
  struct flume_store_meta meta = {.since = 99};
  CHECK_INT_EQ(flume_store_commit(store, &meta, &err), FLUME_EREADONLY);
  CHECK_INT_EQ(flume_store_clear(store, &err), FLUME_EREADONLY);
  check_meta();
  end();
}

/* What can't be written stays pending, and what was committed stays as it was. */
TEST(a_commit_that_fails) {
  begin(true);
  char blocked[TEST_PATH_MAX + 16];
  snprintf(blocked, sizeof blocked, "%s/file", dir);
  write_file(blocked, "x", 1, 1);
  snprintf(blocked, sizeof blocked, "%s/file/store", dir);
  flume_store_close(store);
  MUST(flume_store_open(&store, &faults.io, blocked, FLUME_STORE_WRITE, &err) == 0);
  add(0, 1, "v", 1);
  struct flume_store_meta meta = {.since = 1};
  CHECK(flume_store_commit(store, &meta, &err) < 0);
  CHECK(strstr(err.msg, blocked) != NULL);
  CHECK(count_all(FLUME_STORE_INDEX) < 0);
  MUST(unlink(path_in(dir, "file")) == 0);
  commit_at(1);
  CHECK_INT_EQ(count_all(FLUME_STORE_INDEX), 1);
  CHECK_INT_EQ(flume_store_load(store, &meta, &err), 0);
  end();
}

/* --- Long keys ------------------------------------------------------------------------------------------------------- */

#define LONG_KEYS 60

static uint8_t long_key[FLUME_STORE_KEY_MAX + 1];

/* Key number i of LONG_KEYS, in ascending order: strings of some length that agree in all but their last bytes. */
static size_t make_long_key(int i, size_t len) {
  memset(long_key, 'k', len);
  long_key[0] = 2;
  long_key[len - 3] = (uint8_t)('a' + i / 26);
  long_key[len - 2] = (uint8_t)('a' + i % 26);
  long_key[len - 1] = 0;
  return len;
}

/* Puts groups and entries in an order that is not that of the keys, half of them before a commit and half after it. */
static void put_long_keys(size_t len) {
  for (int i = 0; i < LONG_KEYS; i++) {
    int number = i * 37 % LONG_KEYS;
    size_t key_len = make_long_key(number, len);
    uint8_t value = (uint8_t)number;
    CHECK_INT_EQ(flume_store_put_group(store, long_key, key_len, &value, 1, &err), 0);
    CHECK_INT_EQ(flume_store_add_entry(store, long_key, key_len, i, &value, 1, &err), 0);
    if (i == LONG_KEYS / 2) commit_at(i);
  }
}

/* Walks from key number from on (-1: from the beginning or end), and expects count keys in order. */
static void walk_long_keys(enum flume_store_kind kind, bool reverse, int from, size_t len, int count) {
  struct flume_store_range range;
  struct flume_store_entry entry;
  flume_store_range_init(&range);
  range.reverse = reverse;
  struct flume_store_cursor *cursor = open_cursor(kind, &range);
  if (from >= 0) flume_store_cursor_resume(cursor, long_key, make_long_key(from, len), INT32_MAX, 0);
  if (from >= 0 && reverse && kind == FLUME_STORE_INDEX) {
    flume_store_cursor_close(cursor);
    cursor = open_cursor(kind, &range);
    flume_store_cursor_resume(cursor, long_key, make_long_key(from, len), 0, 0);
  }
  int next = from >= 0 ? from + (reverse ? -1 : 1) : reverse ? LONG_KEYS - 1 : 0, seen = 0, rv;
  while ((rv = flume_store_cursor_next(cursor, &entry, &err)) == 1) {
    size_t key_len = make_long_key(next, len);
    CHECK(entry.key_len == key_len && memcmp(entry.key, long_key, key_len) == 0);
    CHECK(entry.value_len == 1 && *entry.value == next);
    next += reverse ? -1 : 1;
    seen++;
  }
  CHECK_INT_EQ(rv, 0);
  CHECK_INT_EQ(seen, count);
  flume_store_cursor_close(cursor);
}

static void check_long_keys(size_t len) {
  for (int kind = 0; kind < 2; kind++) {
    for (int reverse = 0; reverse < 2; reverse++) {
      walk_long_keys((enum flume_store_kind)kind, reverse, -1, len, LONG_KEYS);
      walk_long_keys((enum flume_store_kind)kind, reverse, 20, len, reverse ? 20 : LONG_KEYS - 21);
    }
    struct flume_store_range range;
    flume_store_range_init(&range);
    uint8_t *lower = malloc(len), *upper = malloc(len);
    memcpy(lower, long_key, make_long_key(10, len));
    memcpy(upper, long_key, make_long_key(31, len));
    range.lower = lower;
    range.upper = upper;
    range.lower_len = range.upper_len = len;
    CHECK_INT_EQ(flume_store_count(store, (enum flume_store_kind)kind, &range, &err), 21);
    range.lower_len = range.upper_len = len - 3; /* no key lies between the beginning of all and itself */
    CHECK_INT_EQ(flume_store_count(store, (enum flume_store_kind)kind, &range, &err), 0);
    range.upper = NULL;
    CHECK_INT_EQ(flume_store_count(store, (enum flume_store_kind)kind, &range, &err), LONG_KEYS);
    free(lower);
    free(upper);
  }
}

/* From the last length that LMDB takes over those where a level of the tree ends to the longest. */
TEST(long_keys_are_in_the_order_of_their_bytes) {
  static const size_t lens[] = {439, 440, 441, 447, 448, 449, 871, 872, 873, 880, 1304, 1305, 5000, 65000, FLUME_STORE_KEY_MAX};
  for (size_t i = 0; i < 2 * sizeof lens / sizeof *lens && !test_failed; i++) {
    size_t len = lens[i / 2];
    begin(i % 2 == 0);
    put_long_keys(len);
    check_long_keys(len);
    commit_at(LONG_KEYS);
    check_long_keys(len);
    if (test_failed) printf("keys of %zu bytes, %s\n", len, i % 2 == 0 ? "on disk" : "in memory");
    end();
  }
}

static uint64_t count_tails(enum flume_store_kind kind) {
  MDB_txn *txn;
  MDB_stat stat;
  MUST(flume__store_begin(store, &txn, &err) == 0);
  MUST(mdb_stat(txn, store->env->tails_db[kind], &stat) == 0);
  flume__store_end(store, txn);
  return stat.ms_entries;
}

/* Nodes go with their last rows. */
TEST(long_keys_that_are_removed_leave_nothing) {
  begin(true);
  put_long_keys(2000);
  commit_at(LONG_KEYS);
  CHECK_INT_EQ(count_tails(FLUME_STORE_GROUPS), LONG_KEYS + 3);
  CHECK_INT_EQ(count_tails(FLUME_STORE_INDEX), LONG_KEYS + 3);
  for (int i = 0; i < LONG_KEYS; i++) {
    size_t len = make_long_key(i * 37 % LONG_KEYS, 2000);
    CHECK_INT_EQ(flume_store_del_group(store, long_key, len, &err), 0);
    CHECK_INT_EQ(flume_store_remove_entries(store, long_key, len, i, &err), 0);
    if (i == 20) commit_at(LONG_KEYS + 1);
    if (i == 20) CHECK_INT_EQ(count_all(FLUME_STORE_GROUPS), LONG_KEYS - 21);
  }
  commit_at(LONG_KEYS + 2);
  CHECK_INT_EQ(count_all(FLUME_STORE_GROUPS) + count_all(FLUME_STORE_INDEX), 0);
  CHECK_INT_EQ(count_tails(FLUME_STORE_GROUPS) + count_tails(FLUME_STORE_INDEX), 0);
  end();
}

TEST(keys_beyond_the_limit_are_refused) {
  for (int on_disk = 0; on_disk < 2; on_disk++) {
    begin(on_disk);
    size_t len = make_long_key(0, FLUME_STORE_KEY_MAX + 1);
    CHECK_INT_EQ(flume_store_put_group(store, long_key, len, "v", 1, &err), FLUME_E2BIG);
    CHECK_STR_EQ(err.msg, "a key of 65537 bytes (at most 65536)");
    CHECK_INT_EQ(flume_store_add_entry(store, long_key, len, 1, "v", 1, &err), FLUME_E2BIG);
    CHECK_STR_EQ(err.msg, "a key of 65537 bytes (at most 65536)");
    CHECK_INT_EQ(flume_store_remove_entries(store, long_key, len, 1, &err), 0);
    commit_at(1);
    CHECK_INT_EQ(count_all(FLUME_STORE_GROUPS) + count_all(FLUME_STORE_INDEX), 0);
    end();
  }
}

TEST(meta_data_has_the_digest_of_the_record) {
  for (int on_disk = 0; on_disk < 2; on_disk++) {
    begin(on_disk);
    struct flume_store_meta meta = {.since = 1, .has_digest = true, .digest = 0xfedcba98}, found;
    CHECK_INT_EQ(flume_store_commit(store, &meta, &err), 0);
    CHECK_INT_EQ(flume_store_load(store, &found, &err), 0);
    CHECK(found.has_digest && found.digest == 0xfedcba98);
    CHECK(flume_store_meta_is_of(&found, 0xfedcba98) && !flume_store_meta_is_of(&found, 0));
    meta.has_digest = false;
    CHECK_INT_EQ(flume_store_commit(store, &meta, &err), 0);
    CHECK_INT_EQ(flume_store_load(store, &found, &err), 0);
    CHECK(!found.has_digest && flume_store_meta_is_of(&found, 5));
    end();
  }
}

/* --- Without memory -------------------------------------------------------------------------------------------------- */

/* What fails has changed nothing; the model has only what succeeded. */
static void scenario_step(int i) {
  struct model_entry entry = {.key = (i * 7) % KEYS, .seq = i, .value = (uint64_t)i + 1, .value_len = (size_t)(i % 5) * 100};
  const struct flume_buf *key = &keys[entry.key].bytes;
  uint8_t *value = payload_new(entry.value_len, entry.value);
  int rv;
  if (i % 3 == 0) {
    entry.seq = -1;
    rv = flume_store_put_group(store, key->data, key->len, value, entry.value_len, &err);
    if (rv == 0) model_insert(&now.lists[FLUME_STORE_GROUPS], &entry);
  } else if (i % 7 == 5 && now.lists[FLUME_STORE_INDEX].count > 0) {
    const struct model_entry *gone = &now.lists[FLUME_STORE_INDEX].entries[now.lists[FLUME_STORE_INDEX].count / 2];
    int at = gone->key;
    int64_t seq = gone->seq;
    rv = flume_store_remove_entries(store, keys[at].bytes.data, keys[at].bytes.len, seq, &err);
    if (rv == 0) model_remove_at(&now.lists[FLUME_STORE_INDEX], model_find(&now.lists[FLUME_STORE_INDEX], at, seq, 0));
  } else {
    rv = flume_store_add_entry(store, key->data, key->len, i, value, entry.value_len, &err);
    if (rv == 0) model_insert(&now.lists[FLUME_STORE_INDEX], &entry);
  }
  now.seq = i + 1;
  CHECK(rv == 0 || rv == FLUME_ENOMEM);
  free(value);
  if (i % 30 != 29) return;
  struct flume_store_meta meta = {.since = i};
  rv = flume_store_commit(store, &meta, &err);
  CHECK(rv == 0 || rv == FLUME_ENOMEM);
}

/* With an allocation that fails: the right answer, or none. */
static void scenario_read(void) {
  struct flume_store_range range;
  struct flume_store_cursor *cursor;
  struct flume_store_entry entry;
  flume_store_range_init(&range);
  size_t i = 0;
  int rv = flume_store_cursor_open(&cursor, store, FLUME_STORE_INDEX, &range, &err);
  if (rv == 0) {
    while ((rv = flume_store_cursor_next(cursor, &entry, &err)) == 1) {
      is_entry(&entry, &now.lists[FLUME_STORE_INDEX].entries[i++]);
    }
    if (rv == 0) CHECK_INT_EQ(i, now.lists[FLUME_STORE_INDEX].count);
    flume_store_cursor_close(cursor);
  }
  CHECK(rv == 0 || rv == FLUME_ENOMEM);
}

static void fail_each_allocation(bool on_disk) {
  bool hit = true;
  random_state = 5;
  for (int nth = 1; hit && nth < 2000 && !test_failed; nth += 1 + nth / 10) {
    begin(on_disk);
    flume_store_close(store);
    store = NULL;
    faults_arm(&faults, FAULT_ALLOC, nth, UV_ENOMEM);
    int rv = flume_store_open(&store, &faults.io, store_dir, FLUME_STORE_WRITE, &err);
    if (rv != 0) {
      CHECK_INT_EQ(rv, FLUME_ENOMEM);
      must_open(FLUME_STORE_WRITE);
    }
    for (int i = 0; i < 120; i++) {
      scenario_step(i);
      if (i % 20 == 0) scenario_read();
    }
    scenario_read();
    hit = fault_was_hit(&faults);
    faults_arm(&faults, FAULT_NONE, 0, 0);
    now.has_state = false;
    check_all();
    commit_at(now.seq);
    check_all();
    if (test_failed) printf("allocation %d\n", nth);
    end();
  }
  CHECK(!hit);
}

TEST(without_memory_in_memory) { fail_each_allocation(false); }
TEST(without_memory_on_disk) { fail_each_allocation(true); }
