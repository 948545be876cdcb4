/* A store that is written anew has all that the old one had, and nothing else; and it is followed by its readers. */
#include "store/store.h"

#include "support.h"

#define LONG_KEY 700

static struct flume_err err;
static struct faults faults;
static char root[TEST_PATH_MAX];
static char from[TEST_PATH_MAX], to[TEST_PATH_MAX];

static void begin(void) {
  temp_dir(root);
  faults_init(&faults);
  strcpy(from, path_in(root, "1"));
  strcpy(to, path_in(root, "new"));
}

static void end(void) {
  CHECK_INT_EQ(atomic_load(&faults.allocations), 0);
  CHECK_INT_EQ(atomic_load(&faults.files), 0);
  remove_dir(root);
}

static struct flume_store *open_at(const char *dir, enum flume_store_access access) {
  struct flume_store *store;
  MUST(flume_store_open(&store, &faults.io, dir, access, &err) == 0);
  return store;
}

static struct flume_store_meta meta_of(int64_t since) {
  return (struct flume_store_meta){.since = since, .version = "1", .deletions = 3};
}

static size_t key_of(uint8_t *key, int i) {
  size_t len = i % 10 == 0 ? LONG_KEY : 8;
  memset(key, 'k', len);
  snprintf((char *)key, 9, "%08d", i);
  key[8] = 'x';
  return len;
}

/* Records from first to last: each a group and an entry, both with what names the record. */
static void put(struct flume_store *store, int first, int last, size_t value_len) {
  char *value = calloc(1, value_len);
  uint8_t key[LONG_KEY];
  MUST(value != NULL);
  for (int i = first; i <= last; i++) {
    size_t key_len = key_of(key, i);
    snprintf(value, value_len, "value-of-%08d.", i);
    MUST(flume_store_put_group(store, key, key_len, value, value_len, &err) == 0);
    MUST(flume_store_add_entry(store, key, key_len, i, value, value_len, &err) == 0);
    MUST(flume_store_add_entry(store, "all", 3, i, NULL, 0, &err) == 0);
  }
  MUST(flume_store_put_state(store, value, value_len, &err) == 0);
  struct flume_store_meta meta = meta_of(last);
  MUST(flume_store_commit(store, &meta, &err) == 0);
  free(value);
}

static void remove_record(struct flume_store *store, int i) {
  uint8_t key[LONG_KEY];
  size_t key_len = key_of(key, i);
  MUST(flume_store_del_group(store, key, key_len, &err) == 0);
  MUST(flume_store_remove_entries(store, key, key_len, i, &err) == 0);
  MUST(flume_store_remove_entries(store, "all", 3, i, &err) == 0);
}

/* 0, and steps; or the error. */
static int rewrite(struct flume_store *store, const struct flume_store_meta *meta, int *steps) {
  struct flume_store_rewrite *rewrite;
  int rv = flume_store_rewrite_begin(&rewrite, store, to, meta, &err);
  if (rv != 0) return rv;
  *steps = 0;
  do ++*steps;
  while ((rv = flume_store_rewrite_step(rewrite, &err)) == 1);
  flume_store_rewrite_free(rewrite);
  return rv;
}

static bool same_rows(struct flume_store *a, struct flume_store *b, enum flume_store_kind kind, int64_t *rows) {
  struct flume_store_cursor *cursors[2];
  struct flume_store_entry entries[2];
  struct flume_store_range range;
  flume_store_range_init(&range);
  MUST(flume_store_cursor_open(&cursors[0], a, kind, &range, &err) == 0);
  MUST(flume_store_cursor_open(&cursors[1], b, kind, &range, &err) == 0);
  bool same = true;
  int more;
  for (*rows = 0; same; ++*rows) {
    more = flume_store_cursor_next(cursors[0], &entries[0], &err);
    same = flume_store_cursor_next(cursors[1], &entries[1], &err) == more;
    if (more != 1 || !same) break;
    same = entries[0].key_len == entries[1].key_len && entries[0].seq == entries[1].seq &&
           entries[0].value_len == entries[1].value_len &&
           memcmp(entries[0].key, entries[1].key, entries[0].key_len) == 0 &&
           (entries[0].value_len == 0 || memcmp(entries[0].value, entries[1].value, entries[0].value_len) == 0);
  }
  flume_store_cursor_close(cursors[0]);
  flume_store_cursor_close(cursors[1]);
  return same && more == 0;
}

static bool same_state(struct flume_store *a, struct flume_store *b) {
  struct flume_buf states[2];
  flume_buf_init(&states[0], &flume_io_posix);
  flume_buf_init(&states[1], &flume_io_posix);
  int rv = flume_store_get_state(a, &states[0], &err);
  bool same = flume_store_get_state(b, &states[1], &err) == rv && states[0].len == states[1].len &&
              (rv != 0 || memcmp(states[0].data, states[1].data, states[0].len) == 0);
  flume_buf_fini(&states[0]);
  flume_buf_fini(&states[1]);
  return same;
}

static bool file_has(const char *dir, int i) {
  char text[32];
  struct image image = {.count = 0};
  int len = snprintf(text, sizeof text, "value-of-%08d.", i);
  image_take_file(&image, dir, "data.mdb");
  bool has = memmem(image.files[0].data, image.files[0].len, text, (size_t)len) != NULL;
  image_free(&image);
  return has;
}

static void rewritten(int records, size_t value_len, int steps_min) {
  begin();
  struct flume_store *store = open_at(from, FLUME_STORE_WRITE);
  if (records > 0) put(store, 0, records - 1, value_len);
  for (int i = 0; i < records; i += 3) remove_record(store, i);
  struct flume_store_meta meta = meta_of(records - 1), found;
  CHECK_INT_EQ(flume_store_commit(store, &meta, &err), 0);
  CHECK_INT_EQ(flume_store_erased(store, &err), 0);
  int steps = 0;
  if (!CHECK_INT_EQ(rewrite(store, &meta, &steps), 0)) printf("%s\n", err.msg);
  CHECK(steps >= steps_min);
  struct flume_store *copy = open_at(to, FLUME_STORE_READ);
  int64_t rows;
  CHECK_INT_EQ(flume_store_load(copy, &found, &err), 0);
  CHECK(found.since == records - 1 && found.deletions == 3 && strcmp(found.version, "1") == 0);
  CHECK(same_rows(store, copy, FLUME_STORE_GROUPS, &rows));
  CHECK_INT_EQ(rows, records - (records + 2) / 3);
  CHECK(same_rows(store, copy, FLUME_STORE_INDEX, &rows) && same_state(store, copy));
  CHECK_INT_EQ(rows, 2 * (records - (records + 2) / 3));
  CHECK_INT_EQ(flume_store_erased(copy, &err), 3);
  for (int i = 0; i + 1 < records; i += records / 40 + 1) CHECK(file_has(to, i) == (i % 3 != 0));
  flume_store_close(copy);
  flume_store_close(store);
  CHECK_INT_EQ(flume_store_check(&faults.io, to, FLUME_STORE_RESTS, &found, &err), 0);
  end();
}

TEST(rewritten_empty) { rewritten(0, 0, 2); }
TEST(rewritten_small) { rewritten(100, 30, 2); }
TEST(rewritten_in_many_steps) { rewritten(20000, 100, 5); }
TEST(rewritten_with_a_map_that_grows) { rewritten(3000, 9000, 30); }

TEST(rewritten_over_leftovers_of_a_crash) {
  begin();
  struct flume_store *store = open_at(from, FLUME_STORE_WRITE);
  put(store, 0, 50, 30);
  MUST(mkdir(to, 0777) == 0);
  write_file(path_in(to, "data.mdb"), "nonsense", 8, 5000);
  struct flume_store_meta meta = meta_of(50);
  int steps;
  CHECK_INT_EQ(rewrite(store, &meta, &steps), 0);
  CHECK_INT_EQ(flume_store_check(&faults.io, to, FLUME_STORE_RESTS, &meta, &err), 0);
  flume_store_close(store);
  end();
}

TEST(a_damaged_row_is_not_carried_over) {
  begin();
  struct flume_store *store = open_at(from, FLUME_STORE_WRITE);
  put(store, 0, 50, 30);
  flume_store_close(store);
  struct image image = {.count = 0};
  image_take_file(&image, from, "data.mdb");
  uint8_t *at = memmem(image.files[0].data, image.files[0].len, "value-of-00000031", 17);
  MUST(at != NULL);
  do at[3] ^= 1;
  while ((at = memmem(at, (size_t)(image.files[0].data + image.files[0].len - at), "value-of-00000031", 17)) != NULL);
  image_put_file(&image.files[0], from);
  image_free(&image);
  store = open_at(from, FLUME_STORE_WRITE);
  struct flume_store_meta meta = meta_of(50);
  int steps;
  CHECK_INT_EQ(rewrite(store, &meta, &steps), FLUME_ECORRUPT);
  flume_store_close(store);
  CHECK_INT_EQ(flume_store_check(&faults.io, to, FLUME_STORE_RESTS, &meta, &err), FLUME_ENOENT);
  end();
}

/* Whatever fails, the old store is as it was. */
static void failing(enum fault_op op, int code) {
  bool hit = true;
  for (int nth = 1; hit && nth < 100 && !test_failed; nth++) {
    begin();
    struct flume_store *store = open_at(from, FLUME_STORE_WRITE);
    put(store, 0, 50, 30);
    struct flume_store_meta meta = meta_of(50), found;
    int steps;
    faults_arm(&faults, op, nth, code);
    int rv = rewrite(store, &meta, &steps);
    if (rv == 0) rv = flume_store_move(store, to, &err);
    hit = fault_was_hit(&faults);
    faults_arm(&faults, FAULT_NONE, 0, 0);
    CHECK(rv == 0 || rv == code || (op == FAULT_SIZE && rv == FLUME_ECORRUPT));
    CHECK(hit || rv == 0);
    CHECK_INT_EQ(flume_store_load(store, &found, &err), 0);
    CHECK_INT_EQ(found.since, 50);
    put(store, 51, 60, 30);
    flume_store_close(store);
    if (test_failed) printf("call %d of %s\n", nth, fault_names[op]);
    end();
  }
}

TEST(rewrite_without_memory) { failing(FAULT_ALLOC, UV_ENOMEM); }
TEST(rewrite_with_failing_directories) { failing(FAULT_MKDIR, UV_ENOSPC); }
TEST(rewrite_with_failing_syncs) { failing(FAULT_SYNC_DIR, UV_EIO); }
TEST(rewrite_with_failing_sizes) { failing(FAULT_SIZE, UV_EIO); }
TEST(rewrite_with_failing_lists) { failing(FAULT_LIST, UV_EACCES); }

TEST(continues_where_it_was_moved) {
  begin();
  struct flume_store *store = open_at(from, FLUME_STORE_WRITE);
  put(store, 0, 50, 30);
  struct flume_store_meta meta = meta_of(50);
  int steps;
  CHECK_INT_EQ(rewrite(store, &meta, &steps), 0);
  CHECK_INT_EQ(flume_store_move(store, to, &err), 0);
  MUST(flume_io_remove_all(&flume_io_posix, from) == 0);
  put(store, 51, 60, 30);
  flume_store_close(store);
  CHECK_INT_EQ(flume_store_check(&faults.io, to, FLUME_STORE_RESTS, &meta, &err), 0);
  CHECK_INT_EQ(meta.since, 60);
  end();
}

TEST(a_store_in_memory_has_no_file) {
  begin();
  struct flume_store *store = open_at(NULL, FLUME_STORE_WRITE);
  CHECK_INT_EQ(flume_store_erased(store, &err), 0);
  flume_store_close(store);
  store = open_at(from, FLUME_STORE_READ);
  CHECK_INT_EQ(flume_store_erased(store, &err), FLUME_ENOENT);
  flume_store_close(store);
  end();
}

/* --- Following ------------------------------------------------------------------------------------------------- */

TEST(a_reader_follows_to_the_new_directory) {
  begin();
  struct flume_store *store = open_at(from, FLUME_STORE_WRITE);
  put(store, 0, 50, 30);
  struct flume_store *reader = open_at(from, FLUME_STORE_READ);
  struct flume_store_meta own, meta = meta_of(50), limit = {.since = 1000, .deletions = 1000}, found;
  CHECK_INT_EQ(flume_store_load(reader, &own, &err), 0);
  int steps;
  CHECK_INT_EQ(rewrite(store, &meta, &steps), 0);
  CHECK_INT_EQ(flume_store_move(store, to, &err), 0);
  MUST(flume_io_remove_all(&flume_io_posix, from) == 0);
  put(store, 51, 60, 30);
  flume_store_close(store);
  int64_t rows;
  CHECK(same_rows(reader, reader, FLUME_STORE_GROUPS, &rows) && rows == 51);
  CHECK_INT_EQ(flume_store_follow(reader, from, &own, &limit, &found, &err), FLUME_ENOENT);
  limit.since = 55;
  CHECK_INT_EQ(flume_store_follow(reader, to, &own, &limit, &found, &err), FLUME_EAGAIN);
  limit.since = 1000;
  faults_arm(&faults, FAULT_ALLOC, 1, UV_ENOMEM);
  CHECK_INT_EQ(flume_store_follow(reader, to, &own, &limit, &found, &err), FLUME_ENOMEM);
  faults_arm(&faults, FAULT_NONE, 0, 0);
  CHECK_INT_EQ(flume_store_load(reader, &found, &err), 0);
  CHECK_INT_EQ(found.since, 50);
  strcpy(own.version, "2");
  CHECK_INT_EQ(flume_store_follow(reader, to, &own, &limit, &found, &err), FLUME_EAGAIN);
  strcpy(own.version, "1");
  CHECK_INT_EQ(flume_store_follow(reader, to, &own, &limit, &found, &err), 0);
  CHECK_INT_EQ(found.since, 60);
  CHECK(same_rows(reader, reader, FLUME_STORE_GROUPS, &rows) && rows == 61);
  CHECK_INT_EQ(flume_store_load(reader, &found, &err), 0);
  CHECK_INT_EQ(found.since, 60);
  flume_store_close(reader);
  end();
}
