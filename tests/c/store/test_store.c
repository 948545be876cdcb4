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
  MUST(mdb_stat(txn, store->dbs[FLUME_STORE_INDEX], &stat) == 0);
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
