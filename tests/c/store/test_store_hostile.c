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

/* --- Keys: one with values, one without, one that is too long for a name ------------------------------------------ */

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
  MUST(mdb_env_create(&raw.env) == 0 && mdb_env_set_maxdbs(raw.env, 3) == 0);
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

/* With the checksum that belongs to it. */
static void put_row(const char *db, const uint8_t *name, size_t name_len, const uint8_t *body, size_t len) {
  uint8_t value[2 * LONG_KEY];
  MUST(len + FLUME__ROW_CRC <= sizeof value);
  flume_put_le32(value, flume_crc32c(flume_crc32c(0, name, name_len), body, len));
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
  static const char *const dbs[] = {"groups", "index"};
  struct row row;
  for (int db = 0; db < 2; db++) {
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

/* A key that is not in its row, that is none that is too long, or longer than the row. */
TEST(rows_whose_long_key_is_wrong) {
  uint8_t body[1000];
  struct row row;
  begin();
  MUST(get_row("groups", KEYS - 1, &row) && row.name_len > FLUME__ROW_KEY_MAX);
  memset(body, 'x', sizeof body);
  const uint32_t lens[] = {0, FLUME__ROW_KEY_MAX, sizeof body - 3, UINT32_MAX};
  for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
    flume_put_le32(body, lens[i]);
    put_row("groups", row.name, row.name_len, body, sizeof body);
    CHECK_INT_EQ(judge_reading(), FLUME_ECORRUPT);
  }
  put_row("groups", row.name, row.name_len, body, 3);
  CHECK_INT_EQ(judge_reading(), FLUME_ECORRUPT);
  flume_put_le32(body, sizeof body - 4); /* all of it is the key */
  put_row("groups", row.name, row.name_len, body, sizeof body);
  CHECK_INT_EQ(judge_reading(), 0);
  end();
}

TEST(chunks_that_are_cut_anywhere) {
  struct row row;
  int told = 0;
  begin();
  for (int i = 0; get_row("index", i, &row) && !test_failed; i++) {
    size_t step = row.len > LONG_KEY ? 37 : 1;
    for (size_t len = 0; len < row.len; len += step) {
      put_row("index", row.name, row.name_len, row.body, len);
      CHECK_INT_EQ(judge_reading() < 0, true);
      told++;
    }
    put_row("index", row.name, row.name_len, row.body, row.len);
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
  for (int i = 0; get_row("index", i, &row) && !test_failed; i++) {
    for (size_t at = row.len > LONG_KEY ? LONG_KEY - 2 : 0; at < row.len && !test_failed; at++) {
      for (size_t n = 0; n < sizeof changes; n++) {
        row.body[at] ^= changes[n];
        put_row("index", row.name, row.name_len, row.body, row.len);
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
