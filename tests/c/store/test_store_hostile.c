/* Stores on disk whose rows are wrong, with checksums that are right: as another program would write them, or a bug.
 * Each is told as damage or read as other entries; nothing is read beyond a row, and nothing hangs. */
#include <lmdb.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "store/store_private.h"
#include "support.h"

#define ENTRIES 24 /* of each key */
#define LONG_KEY 700

static struct flume_err err;
static struct faults faults;
static struct flume_store *store;
static char dir[TEST_PATH_MAX];

/* --- Keys: one with values, one without, one that is longer than a name in LMDB ------------------------------------------ */

enum { KEYS = 3 };

static size_t key_of(uint8_t *key, int i) {
  memset(key, 'k', LONG_KEY);
  key[0] = 2;
  key[1] = (uint8_t)('a' + i);
  return i == KEYS - 1 ? LONG_KEY : 8;
}

static void open_store(enum flume_store_access access) {
  MUST(flume_store_open(&store, &faults.io, dir, access, &err) == 0);
}

static void begin(void) {
  uint8_t key[LONG_KEY];
  struct flume_store_meta meta = {.since = ENTRIES - 1, .version = "1"};
  faults_init(&faults);
  temp_dir(dir);
  open_store(FLUME_STORE_WRITE);
  for (int64_t seq = 0; seq < ENTRIES; seq++) {
    for (int i = 0; i < KEYS; i++) {
      size_t len = key_of(key, i);
      MUST(flume_store_add_entry(store, key, len, seq / 2 * 2, "value", i == 0 ? 0 : 5, &err) == 0);
    }
  }
  for (int i = 0; i < KEYS; i++) {
    size_t len = key_of(key, i);
    MUST(flume_store_put_group(store, key, len, "a group", 7, &err) == 0);
  }
  MUST(flume_store_put_state(store, "the state", 9, &err) == 0);
  MUST(flume_store_commit(store, &meta, &err) == 0);
  flume_store_close(store);
}

static void end(void) {
  CHECK_INT_EQ(atomic_load(&faults.files), 0);
  CHECK_INT_EQ(atomic_load(&faults.allocations), 0);
  remove_dir(dir);
}

/* --- Rows, past the store ----------------------------------------------------------------------------------------- */

struct raw {
  MDB_env *env;
  MDB_txn *txn;
  MDB_dbi db;
};

static struct raw raw_open(const char *db) {
  struct raw raw;
  MUST(mdb_env_create(&raw.env) == 0 && mdb_env_set_maxdbs(raw.env, 5) == 0);
  MUST(mdb_env_open(raw.env, dir, MDB_NOSYNC, 0666) == 0);
  MUST(mdb_txn_begin(raw.env, NULL, 0, &raw.txn) == 0);
  MUST(mdb_dbi_open(raw.txn, db, 0, &raw.db) == 0);
  return raw;
}

static void raw_close(struct raw *raw) {
  MUST(mdb_txn_commit(raw->txn) == 0);
  mdb_env_close(raw->env);
}

static void put_value(const char *db, const void *name, size_t name_len, const void *value, size_t len) {
  struct raw raw = raw_open(db);
  MDB_val key = {.mv_data = (void *)name, .mv_size = name_len}, val = {.mv_data = (void *)value, .mv_size = len};
  MUST(mdb_put(raw.txn, raw.db, &key, &val, 0) == 0);
  raw_close(&raw);
}

static bool is_of_tails(const char *db) {
  return strstr(db, "tails") != NULL;
}

/* With the checksum that belongs to it: of the whole name, in which the beginning of the long key stands for a node's
 * number, and a mark does not count. */
static void put_row(const char *db, const uint8_t *name, size_t name_len, const uint8_t *body, size_t len) {
  uint8_t value[2 * LONG_KEY], key[LONG_KEY];
  uint32_t crc = 0;
  MUST(len + FLUME__ROW_CRC <= sizeof value);
  key_of(key, KEYS - 1);
  if (is_of_tails(db)) {
    crc = flume_crc32c(flume_crc32c(0, key, FLUME__NAME_KEY_MAX), name + 8, name_len - 8);
  } else {
    crc = flume_crc32c(0, name, name_len == FLUME__MARK_NAME ? FLUME__NAME_KEY_MAX : name_len);
  }
  flume_put_le32(value, flume_crc32c(crc, body, len));
  if (len > 0) memcpy(value + FLUME__ROW_CRC, body, len);
  put_value(db, name, name_len, value, FLUME__ROW_CRC + len);
}

struct row {
  uint8_t name[512];
  size_t name_len;
  uint8_t body[2 * LONG_KEY];
  size_t len;
};

/* Row number i; false when there are no more. */
static bool get_row(const char *db, int i, struct row *row) {
  struct raw raw = raw_open(db);
  MDB_cursor *cursor;
  MDB_val name, value;
  MUST(mdb_cursor_open(raw.txn, raw.db, &cursor) == 0);
  int rv = mdb_cursor_get(cursor, &name, &value, MDB_FIRST);
  while (rv == 0 && i-- > 0) rv = mdb_cursor_get(cursor, &name, &value, MDB_NEXT);
  if (rv == 0) {
    row->name_len = name.mv_size;
    row->len = value.mv_size - FLUME__ROW_CRC;
    MUST(row->name_len <= sizeof row->name && row->len <= sizeof row->body);
    memcpy(row->name, name.mv_data, row->name_len);
    memcpy(row->body, (uint8_t *)value.mv_data + FLUME__ROW_CRC, row->len);
  }
  mdb_cursor_close(cursor);
  raw_close(&raw);
  return rv == 0;
}

/* --- Reading all of it -------------------------------------------------------------------------------------------- */

static int worst; /* answer */

static void judge(int64_t rv) {
  if (rv >= 0 || rv == FLUME_ENOENT) return;
  if (!CHECK(rv == FLUME_ECORRUPT || rv == FLUME_EVERSION)) printf("%lld: %s\n", (long long)rv, err.msg);
  CHECK(strstr(err.msg, dir) != NULL);
  worst = (int)rv;
}

static void walk(enum flume_store_kind kind, bool reverse) {
  struct flume_store_cursor *cursor;
  struct flume_store_range range;
  struct flume_store_entry entry;
  uint32_t sum = 0;
  int rv, count = 0;
  flume_store_range_init(&range);
  range.reverse = reverse;
  rv = flume_store_cursor_open(&cursor, store, kind, &range, &err);
  judge(rv);
  if (rv != 0) return;
  while ((rv = flume_store_cursor_next(cursor, &entry, &err)) == 1 && count++ < 100000) {
    sum = flume_crc32c(flume_crc32c(sum, entry.key, entry.key_len), entry.value, entry.value_len); /* all can be read */
  }
  CHECK(count < 100000 && (count > 0 || sum == 0));
  judge(rv);
  flume_store_cursor_close(cursor);
}

static void read_all(void) {
  struct flume_store_range range;
  struct flume_buf value;
  uint8_t key[LONG_KEY];
  flume_buf_init(&value, &faults.io);
  for (int i = 0; i < KEYS; i++) {
    size_t len = key_of(key, i);
    judge(flume_store_get_group(store, key, len, &value, &err));
  }
  flume_buf_fini(&value);
  for (int kind = 0; kind < 2; kind++) {
    walk((enum flume_store_kind)kind, false);
    walk((enum flume_store_kind)kind, true);
  }
  flume_store_range_init(&range);
  range.max_seq = ENTRIES / 2;
  judge(flume_store_count(store, FLUME_STORE_INDEX, &range, &err));
}

static int judge_reading(void) {
  worst = 0;
  open_store(FLUME_STORE_READ);
  read_all();
  flume_store_close(store);
  return worst;
}

/* Entries are taken out and added, all of it is committed and read; what is there then is not as before. */
static int judge_writing(void) {
  struct flume_store_meta meta = {.since = ENTRIES};
  uint8_t key[LONG_KEY];
  worst = 0;
  open_store(FLUME_STORE_WRITE);
  for (int i = 0; i < KEYS; i++) {
    size_t len = key_of(key, i);
    judge(flume_store_remove_entries(store, key, len, 6, &err));
    judge(flume_store_add_entry(store, key, len, ENTRIES, "more", 4, &err));
  }
  read_all();
  judge(flume_store_commit(store, &meta, &err));
  read_all();
  flume_store_close(store);
  return worst;
}

/* --- Meta data and state ------------------------------------------------------------------------------------------ */

static int load(void) {
  struct flume_store_meta meta;
  open_store(FLUME_STORE_READ);
  int rv = flume_store_load(store, &meta, &err);
  flume_store_close(store);
  return rv;
}

TEST(wrong_meta_data) {
  uint8_t bytes[512];
  begin();
  CHECK_INT_EQ(load(), 0);
  struct raw raw = raw_open("meta");
  MDB_val key = {.mv_data = (void *)"meta", .mv_size = 4}, val;
  MUST(mdb_get(raw.txn, raw.db, &key, &val) == 0 && val.mv_size < sizeof bytes);
  size_t len = val.mv_size;
  memcpy(bytes, val.mv_data, len);
  raw_close(&raw);
  put_value("meta", "meta", 4, bytes, 4);
  CHECK_INT_EQ(load(), FLUME_EVERSION);
  put_value("meta", "meta", 4, bytes, len - 1);
  CHECK_INT_EQ(load(), FLUME_ECORRUPT);
  bytes[0] ^= 1;
  put_value("meta", "meta", 4, bytes, len);
  CHECK_INT_EQ(load(), FLUME_EVERSION);
  bytes[0] ^= 1;
  bytes[20] ^= 1;
  put_value("meta", "meta", 4, bytes, len);
  CHECK_INT_EQ(load(), FLUME_ECORRUPT);
  bytes[20] ^= 1;
  put_value("meta", "meta", 4, bytes, len);
  CHECK_INT_EQ(load(), 0);
  end();
}

static int read_state(void) {
  struct flume_buf value;
  flume_buf_init(&value, &faults.io);
  open_store(FLUME_STORE_READ);
  int rv = flume_store_get_state(store, &value, &err);
  CHECK(rv == 0 || value.len == 0);
  flume_store_close(store);
  flume_buf_fini(&value);
  return rv;
}

TEST(wrong_state) {
  begin();
  CHECK_INT_EQ(read_state(), 0);
  for (size_t len = 0; len < 4; len++) {
    put_value("meta", "state", 5, "\0\0\0\0", len);
    CHECK_INT_EQ(read_state(), FLUME_ECORRUPT);
  }
  put_value("meta", "state", 5, "\0\0\0\0", 4); /* the checksum of nothing */
  CHECK_INT_EQ(read_state(), 0);
  put_value("meta", "state", 5, "\0\0\0\0x", 5);
  CHECK_INT_EQ(read_state(), FLUME_ECORRUPT);
  end();
}

static int64_t erased(void) {
  open_store(FLUME_STORE_READ);
  int64_t count = flume_store_erased(store, &err);
  flume_store_close(store);
  return count;
}

TEST(wrong_count_of_erased_entries) {
  begin();
  CHECK_INT_EQ(erased(), 0);
  put_value("meta", "erased", 6, "\5\0\0\0\0\0\0\0", 8);
  CHECK_INT_EQ(erased(), 5);
  put_value("meta", "erased", 6, "\5\0\0\0\0\0\0\0", 7);
  CHECK_INT_EQ(erased(), FLUME_ECORRUPT);
  end();
}

/* --- Rows --------------------------------------------------------------------------------------------------------- */

TEST(rows_that_are_too_short) {
  static const char *const dbs[] = {"groups", "index", "group_tails", "index_tails"};
  struct row row;
  for (int db = 0; db < 4; db++) {
    begin();
    for (int i = 0; get_row(dbs[db], i, &row); i++) {
      for (size_t len = 0; len < FLUME__ROW_CRC; len++) {
        put_value(dbs[db], row.name, row.name_len, row.body, len);
        CHECK_INT_EQ(judge_reading(), FLUME_ECORRUPT);
      }
      put_row(dbs[db], row.name, row.name_len, row.body, row.len);
      CHECK_INT_EQ(judge_reading(), 0);
    }
    end();
  }
}

/* The name has no room for a seq. */
TEST(an_index_row_with_a_short_name) {
  begin();
  put_row("index", (const uint8_t *)"short", 5, (const uint8_t *)"body", 4);
  CHECK_INT_EQ(judge_reading(), FLUME_ECORRUPT);
  judge_writing();
  end();
}

/* Numbers of nodes that have no rows, lie beyond the tree, or lead back; a mark that is none, or has no number. */
TEST(marks_that_are_wrong) {
  static const uint64_t nodes[] = {0, 2, UINT64_MAX - 1, UINT64_MAX};
  struct row row, tail;
  uint8_t body[9] = {0};
  begin();
  MUST(get_row("groups", KEYS - 1, &row) && row.name_len == FLUME__MARK_NAME && row.len == 8);
  MUST(get_row("group_tails", 0, &tail) && flume_get_be64(tail.name) == 1);
  for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++) {
    flume_put_be64(body, nodes[i]);
    put_row("groups", row.name, row.name_len, body, 8);
    CHECK_INT_EQ(judge_reading(), FLUME_ECORRUPT);
  }
  flume_put_be64(body, 1);
  for (size_t len = 0; len <= sizeof body; len++) {
    put_row("groups", row.name, row.name_len, body, len);
    CHECK_INT_EQ(judge_reading(), len == 8 ? 0 : FLUME_ECORRUPT);
  }
  put_row("groups", row.name, row.name_len, body, 8);
  row.name[FLUME__MARK_NAME - 1] = 0;
  put_row("groups", row.name, row.name_len, body, 8);
  CHECK_INT_EQ(judge_reading(), FLUME_ECORRUPT);
  end();
}

/* A mark in a node that leads to the node itself. */
TEST(a_node_below_itself) {
  uint8_t name[FLUME__MARK_NAME], body[8];
  begin();
  memset(name, 'k', sizeof name);
  flume_put_be64(name, 1);
  memset(name + FLUME__NAME_KEY_MAX, 0xff, FLUME__MARK_BYTES);
  flume_put_be64(body, 1);
  put_row("group_tails", name, sizeof name, body, 8);
  CHECK_INT_EQ(judge_reading(), FLUME_ECORRUPT);
  end();
}

/* A name in a node without the node's number. */
TEST(a_node_with_a_short_name) {
  begin();
  put_value("group_tails", "a", 1, "body", 4);
  put_value("group_tails", "\0\0", 2, "body", 4);
  CHECK_INT_EQ(judge_reading(), FLUME_ECORRUPT);
  end();
}

static int64_t count_groups(void) {
  struct flume_store_range range;
  flume_store_range_init(&range);
  return flume_store_count(store, FLUME_STORE_GROUPS, &range, &err);
}

/* Rows belong to meta data. Without these they are damage to readers, and are removed by the first commit. */
TEST(rows_without_meta_data) {
  struct flume_store_meta meta;
  begin();
  struct raw raw = raw_open("meta");
  MDB_val name = {.mv_data = (void *)"meta", .mv_size = 4};
  MUST(mdb_del(raw.txn, raw.db, &name, NULL) == 0);
  raw_close(&raw);
  CHECK_INT_EQ(flume_store_check(&faults.io, dir, FLUME_STORE_SHARED, &meta, &err), FLUME_ECORRUPT);
  CHECK(strstr(err.msg, "has rows without meta data") != NULL);
  open_store(FLUME_STORE_WRITE);
  CHECK_INT_EQ(flume_store_load(store, &meta, &err), FLUME_ECORRUPT);
  CHECK_INT_EQ(count_groups(), 0);
  CHECK_INT_EQ(flume_store_get_state(store, &(struct flume_buf){.io = &faults.io}, &err), FLUME_ENOENT);
  CHECK_INT_EQ(flume_store_put_group(store, "new", 3, "v", 1, &err), 0);
  meta = (struct flume_store_meta){.since = 0};
  CHECK_INT_EQ(flume_store_commit(store, &meta, &err), 0);
  CHECK_INT_EQ(count_groups(), 1);
  flume_store_close(store);
  CHECK_INT_EQ(flume_store_check(&faults.io, dir, FLUME_STORE_SHARED, &meta, &err), 0);
  end();
}

TEST(chunks_that_are_cut_anywhere) {
  struct row row;
  int told = 0;
  begin();
  for (int i = 0; i < KEYS && !test_failed; i++) {
    const char *db = i < KEYS - 1 ? "index" : "index_tails";
    MUST(get_row(db, i < KEYS - 1 ? i : 0, &row));
    for (size_t len = 0; len < row.len; len++) {
      put_row(db, row.name, row.name_len, row.body, len);
      CHECK_INT_EQ(judge_reading() < 0, true);
      told++;
    }
    put_row(db, row.name, row.name_len, row.body, row.len);
  }
  CHECK(told > 100);
  end();
}

/* Whatever a byte of a chunk is: damage, or other entries. */
static void change_each_byte(int (*judge_all)(void)) {
  static const uint8_t changes[] = {1, 0x80, 0xff};
  struct image image = {.count = 0};
  struct row row;
  int told = 0, read = 0;
  begin();
  image_take_file(&image, dir, "data.mdb");
  for (int i = 0; i < KEYS && !test_failed; i++) {
    const char *db = i < KEYS - 1 ? "index" : "index_tails";
    MUST(get_row(db, i < KEYS - 1 ? i : 0, &row));
    for (size_t at = 0; at < row.len && !test_failed; at++) {
      for (size_t n = 0; n < sizeof changes; n++) {
        row.body[at] ^= changes[n];
        put_row(db, row.name, row.name_len, row.body, row.len);
        row.body[at] ^= changes[n];
        int rv = judge_all();
        told += rv != 0;
        read += rv == 0;
        if (test_failed) printf("byte %zu of row %d, by %02x\n", at, i, changes[n]);
        image_put_file(&image.files[0], dir);
      }
    }
  }
  CHECK(told > 100 && read > 100);
  image_free(&image);
  end();
}

TEST(chunks_with_a_changed_byte_are_read) { change_each_byte(judge_reading); }
TEST(chunks_with_a_changed_byte_are_written) { change_each_byte(judge_writing); }

/* A rewrite does not look into rows; but into their checksums. */
TEST(a_damaged_row_is_not_rewritten) {
  struct flume_store_rewrite *rewrite;
  struct flume_store_meta meta = {.since = ENTRIES - 1};
  struct row row;
  char to[TEST_PATH_MAX + 8];
  begin();
  snprintf(to, sizeof to, "%s/new", dir);
  MUST(get_row("index", 1, &row));
  put_value("index", row.name, row.name_len, row.body, row.len);
  open_store(FLUME_STORE_WRITE);
  CHECK_INT_EQ(flume_store_rewrite_begin(&rewrite, store, to, &meta, &err), 0);
  int rv;
  while ((rv = flume_store_rewrite_step(rewrite, &err)) == 1) continue;
  CHECK_INT_EQ(rv, FLUME_ECORRUPT);
  flume_store_rewrite_free(rewrite);
  flume_store_close(store);
  end();
}
