/* A store on disk when LMDB refuses: its functions are wrapped by the linker, and the nth call of any of them answers a
 * code of LMDB's or of the system's. Whatever is refused is told, with the code that stands for it; what was committed
 * stays, what was not is still pending, and nothing is left behind. (Disks that fail: test_faults_store.c.)
 *
 * LMDB syncs nothing here: nobody pulls the plug. */
#include <lmdb.h>

#include "store/store.h"
#include "support.h"

#define GROUPS 6
#define ENTRIES 30

/* --- The wrapped functions ---------------------------------------------------------------------------------------- */

static struct {
  int nth; /* call that fails, counted from 1; 0: none does */
  int seen;
  int code;
  bool for_ever;
  bool hit;
} broken;

static bool fails(void) {
  if (broken.nth == 0) return false;
  broken.seen++;
  broken.hit |= broken.seen == broken.nth;
  return broken.seen == broken.nth || (broken.for_ever && broken.hit);
}

#define WRAP(name, params, args)                            \
  int __real_##name params;                                 \
  int __wrap_##name params;                                 \
  int __wrap_##name params { return fails() ? broken.code : __real_##name args; }

WRAP(mdb_env_create, (MDB_env **env), (env))
WRAP(mdb_env_set_mapsize, (MDB_env *env, size_t size), (env, size))
WRAP(mdb_env_info, (MDB_env *env, MDB_envinfo *info), (env, info))
WRAP(mdb_env_stat, (MDB_env *env, MDB_stat *stat), (env, stat))
WRAP(mdb_env_get_fd, (MDB_env *env, mdb_filehandle_t *fd), (env, fd))
WRAP(mdb_env_sync, (MDB_env *env, int force), (env, force))
WRAP(mdb_env_copy2, (MDB_env *env, const char *path, unsigned flags), (env, path, flags))
WRAP(mdb_reader_check, (MDB_env *env, int *dead), (env, dead))
WRAP(mdb_txn_begin, (MDB_env *env, MDB_txn *parent, unsigned flags, MDB_txn **txn), (env, parent, flags, txn))
WRAP(mdb_txn_renew, (MDB_txn *txn), (txn))
WRAP(mdb_dbi_open, (MDB_txn *txn, const char *name, unsigned flags, MDB_dbi *dbi), (txn, name, flags, dbi))
WRAP(mdb_get, (MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *val), (txn, dbi, key, val))
WRAP(mdb_put, (MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *val, unsigned flags), (txn, dbi, key, val, flags))
WRAP(mdb_drop, (MDB_txn *txn, MDB_dbi dbi, int del), (txn, dbi, del))
WRAP(mdb_cursor_open, (MDB_txn *txn, MDB_dbi dbi, MDB_cursor **cursor), (txn, dbi, cursor))
WRAP(mdb_cursor_get, (MDB_cursor *cursor, MDB_val *key, MDB_val *val, MDB_cursor_op op), (cursor, key, val, op))
WRAP(mdb_cursor_put, (MDB_cursor *cursor, MDB_val *key, MDB_val *val, unsigned flags), (cursor, key, val, flags))
WRAP(mdb_cursor_del, (MDB_cursor *cursor, unsigned flags), (cursor, flags))

int __real_mdb_env_open(MDB_env *env, const char *path, unsigned flags, mdb_mode_t mode);
int __wrap_mdb_env_open(MDB_env *env, const char *path, unsigned flags, mdb_mode_t mode);
int __real_mdb_txn_commit(MDB_txn *txn);
int __wrap_mdb_txn_commit(MDB_txn *txn);

int __wrap_mdb_env_open(MDB_env *env, const char *path, unsigned flags, mdb_mode_t mode) {
  return fails() ? broken.code : __real_mdb_env_open(env, path, flags | MDB_NOSYNC, mode);
}

/* A transaction is gone after a commit, whatever that answers. */
int __wrap_mdb_txn_commit(MDB_txn *txn) {
  if (!fails()) return __real_mdb_txn_commit(txn);
  mdb_txn_abort(txn);
  return broken.code;
}

/* --- A store, and what it has ------------------------------------------------------------------------------------- */

static struct flume_err err;
static struct faults faults;
static char root[TEST_PATH_MAX];
static char dir[TEST_PATH_MAX + 8], other[TEST_PATH_MAX + 8];
static struct flume_store *store;
static int64_t written;   /* the last round of which all was put */
static int64_t committed; /* the last one whose commit was acknowledged */
static int expected;      /* our code for the one that LMDB answers */

static size_t key_of(uint8_t *key, int i) {
  return (size_t)snprintf((char *)key, 64, "\x02%06d", i) + 1;
}

static void write_round(void) {
  uint8_t key[64];
  written++;
  for (int i = 0; i < GROUPS; i++) {
    size_t len = key_of(key, i);
    MUST(flume_store_put_group(store, key, len, &written, sizeof written, &err) == 0);
  }
  for (int64_t i = 0; i < ENTRIES; i++) {
    size_t len = key_of(key, (int)(i % 3));
    MUST(flume_store_add_entry(store, key, len, written * ENTRIES + i, "v", 1, &err) == 0);
  }
  size_t len = key_of(key, GROUPS);
  MUST(written % 2 != 0 ? flume_store_put_group(store, key, len, "odd", 3, &err) == 0
                        : flume_store_del_group(store, key, len, &err) == 0);
  MUST(flume_store_put_state(store, &written, sizeof written, &err) == 0);
}

static struct flume_store_meta meta_of(int64_t round) {
  return (struct flume_store_meta){.since = (round + 1) * ENTRIES - 1, .deletions = round};
}

/* Nothing failed, or what LMDB refused. */
static bool went_well(int64_t rv) {
  if (rv >= 0) return true;
  if (!CHECK(rv == expected || rv == UV_EIO)) printf("%lld: %s\n", (long long)rv, err.msg);
  CHECK(broken.hit);
  CHECK_INT_EQ(err.code, rv);
  return false;
}

static void commit(void) {
  struct flume_store_meta meta = meta_of(written);
  if (went_well(flume_store_commit(store, &meta, &err))) committed = written;
}

static void open_store(const char *path, enum flume_store_access access) {
  MUST(flume_store_open(&store, &faults.io, path, access, &err) == 0);
}

/* --- Reading ------------------------------------------------------------------------------------------------------ */

static void read_groups(int64_t round) {
  uint8_t key[64];
  struct flume_buf value;
  flume_buf_init(&value, &faults.io);
  for (int i = 0; i <= GROUPS; i++) {
    size_t len = key_of(key, i);
    value.len = 0;
    int rv = flume_store_get_group(store, key, len, &value, &err);
    if (rv == FLUME_ENOENT) CHECK(i == GROUPS && round % 2 == 0);
    else if (!went_well(rv)) continue;
    else if (i == GROUPS) CHECK(round % 2 != 0 && value.len == 3);
    else CHECK(value.len == sizeof round && memcmp(value.data, &round, sizeof round) == 0);
  }
  flume_buf_fini(&value);
}

static void read_state(int64_t round) {
  struct flume_buf value;
  flume_buf_init(&value, &faults.io);
  if (went_well(flume_store_get_state(store, &value, &err))) {
    CHECK(value.len == sizeof round && memcmp(value.data, &round, sizeof round) == 0);
  }
  flume_buf_fini(&value);
}

/* Every entry of the rounds from the first on, in the order of keys; or an error. */
static void read_entries(int64_t round, bool reverse) {
  struct flume_store_cursor *cursor;
  struct flume_store_range range;
  struct flume_store_entry entry;
  flume_store_range_init(&range);
  range.reverse = reverse;
  if (!went_well(flume_store_cursor_open(&cursor, store, FLUME_STORE_INDEX, &range, &err))) return;
  int64_t count = 0, last = -1;
  int rv, last_key = -1;
  while ((rv = flume_store_cursor_next(cursor, &entry, &err)) == 1) {
    int key = (int)(entry.seq % 3);
    CHECK(entry.value_len == 1 && *entry.value == 'v');
    if (key == last_key) CHECK(reverse ? entry.seq < last : entry.seq > last);
    last = entry.seq;
    last_key = key;
    count++;
  }
  flume_store_cursor_close(cursor);
  if (went_well(rv)) CHECK_INT_EQ(count, round * ENTRIES);
}

static void read_all(int64_t round) {
  struct flume_store_range range;
  read_groups(round);
  read_state(round);
  read_entries(round, false);
  read_entries(round, true);
  flume_store_range_init(&range);
  int64_t count = flume_store_count(store, FLUME_STORE_INDEX, &range, &err);
  if (went_well(count)) CHECK_INT_EQ(count, round * ENTRIES);
}

static void read_meta(int64_t round) {
  struct flume_store_meta meta;
  int rv = flume_store_load(store, &meta, &err);
  if (round == 0 && rv == FLUME_ENOENT) return;
  if (went_well(rv)) CHECK_INT_EQ(meta.since, (round + 1) * ENTRIES - 1);
}

/* --- Running scenarios -------------------------------------------------------------------------------------------- */

static void begin(void) {
  faults_init(&faults);
  temp_dir(root);
  snprintf(dir, sizeof dir, "%s/store", root);
  snprintf(other, sizeof other, "%s/other", root);
  written = committed = 0;
  store = NULL;
}

static void disarm(void) {
  broken.nth = 0;
}

/* What is in the directory, with LMDB as it should be: the rounds that were committed. */
static void check_committed(const char *path) {
  struct flume_store_meta meta;
  disarm();
  open_store(path, FLUME_STORE_WRITE);
  if (committed > 0) {
    read_meta(committed);
    read_all(committed);
  } else {
    CHECK_INT_EQ(flume_store_load(store, &meta, &err), FLUME_ENOENT);
  }
  flume_store_close(store);
}

static void end(void) {
  CHECK_INT_EQ(atomic_load(&faults.files), 0);
  CHECK_INT_EQ(atomic_load(&faults.allocations), 0);
  remove_dir(root);
}

struct code {
  int lmdb;
  int ours;
};

static const struct code codes[] = {
    {EIO, UV_EIO},
    {ENOMEM, FLUME_ENOMEM},
    {MDB_CORRUPTED, FLUME_ECORRUPT},
    {MDB_VERSION_MISMATCH, FLUME_EVERSION},
    {MDB_BAD_TXN, UV_EIO},
    {MDB_READERS_FULL, UV_EBUSY},
    {MDB_MAP_RESIZED, UV_EIO},
};

static void fail_each_call(void (*scenario)(void), const struct code *code, bool for_ever) {
  bool hit = true;
  int nth = 1;
  for (; hit && nth < 1000 && !test_failed; nth++) {
    begin();
    expected = code->ours;
    broken.code = code->lmdb;
    broken.for_ever = for_ever;
    broken.seen = 0;
    broken.hit = false;
    broken.nth = nth;
    scenario();
    hit = broken.hit;
    check_committed(dir);
    end();
    if (test_failed) printf("call %d answers %s\n", nth, mdb_strerror(code->lmdb));
  }
  CHECK(!hit && nth > 10);
}

static void fail_with(void (*scenario)(void), size_t count) {
  for (size_t i = 0; i < count; i++) fail_each_call(scenario, &codes[i], false);
  fail_each_call(scenario, &codes[0], true);
}

/* Only what begins a read tells the later codes from others. */
static void fail_each(void (*scenario)(void)) {
  fail_with(scenario, 3);
}

static void fail_each_with_all(void (*scenario)(void)) {
  fail_with(scenario, sizeof codes / sizeof *codes);
}

/* --- Scenarios ---------------------------------------------------------------------------------------------------- */

/* Two rounds are committed, and all of it is read, also while the second is pending. */
static void commit_and_read(void) {
  open_store(dir, FLUME_STORE_WRITE);
  read_meta(0);
  write_round();
  commit();
  write_round();
  read_all(written);
  commit();
  read_all(written);
  flume_store_close(store);
}

TEST(commits_and_reads) { fail_each_with_all(commit_and_read); }

/* What a commit that failed did not bring is brought by the next. */
static void commit_again(void) {
  open_store(dir, FLUME_STORE_WRITE);
  write_round();
  commit();
  if (committed == 0) {
    disarm();
    flume_store_rollback(store); /* without, all would be refused when nobody knows what is on disk */
    written = 0;
    write_round();
    commit();
  }
  CHECK_INT_EQ(committed, 1);
  flume_store_close(store);
}

TEST(a_commit_after_one_that_failed) { fail_each(commit_again); }

/* Entries of the first round's records are taken out: all of them, so that the round counts as none. */
static void remove_entries(void) {
  uint8_t key[64];
  bool all = true;
  open_store(dir, FLUME_STORE_WRITE);
  write_round();
  commit();
  for (int64_t i = 0; i < ENTRIES && committed == 1; i++) {
    size_t len = key_of(key, (int)(i % 3));
    all &= went_well(flume_store_remove_entries(store, key, len, ENTRIES + i, &err));
  }
  if (committed == 1 && all) {
    read_entries(0, false);
    read_entries(0, true);
  }
  flume_store_close(store);
}

TEST(removals) { fail_each(remove_entries); }

static void clear(void) {
  open_store(dir, FLUME_STORE_WRITE);
  write_round();
  commit();
  if (committed == 1 && went_well(flume_store_clear(store, &err))) {
    committed = written = 0;
    read_meta(0);
  }
  flume_store_close(store);
}

TEST(clearing) { fail_each(clear); }

/* The rows of a store come into another one, which then has them all, or is not used. */
static void rewrite(void) {
  struct flume_store_rewrite *rewrite = NULL;
  open_store(dir, FLUME_STORE_WRITE);
  write_round();
  commit();
  struct flume_store_meta meta = meta_of(1);
  int rv = committed == 1 ? flume_store_rewrite_begin(&rewrite, store, other, &meta, &err) : UV_EIO;
  if (committed == 1 && went_well(rv)) {
    while ((rv = flume_store_rewrite_step(rewrite, &err)) == 1) continue;
    went_well(rv);
    flume_store_rewrite_free(rewrite);
  }
  if (rv == 0) {
    CHECK_INT_EQ(flume_store_move(store, other, &err), 0);
    read_all(1);
    int64_t erased = flume_store_erased(store, &err);
    if (went_well(erased)) CHECK_INT_EQ(erased, 1);
  }
  flume_store_close(store);
  if (rv == 0) check_committed(other);
}

TEST(rewriting) { fail_each(rewrite); }

/* A copy has what was committed, or there is an error; so does a check. */
static void copy_and_check(void) {
  struct flume_store_meta meta = {.since = -7};
  open_store(dir, FLUME_STORE_WRITE);
  write_round();
  commit();
  flume_store_close(store);
  if (committed == 0) return;
  for (int sharing = FLUME_STORE_RESTS; sharing <= FLUME_STORE_SHARED; sharing++) {
    int rv = flume_store_check(&faults.io, dir, (enum flume_store_sharing)sharing, &meta, &err);
    if (went_well(rv)) CHECK_INT_EQ(meta.since, 2 * ENTRIES - 1);
  }
  MUST(mkdir(other, 0777) == 0);
  int rv = flume_store_copy(&faults.io, dir, other, FLUME_STORE_RESTS, &err);
  if (went_well(rv)) check_committed(other);
}

TEST(copies_and_checks) { fail_each(copy_and_check); }

/* Both directories have the same round, made while nothing is refused. */
static void make_both(void) {
  struct flume_store_rewrite *rewrite;
  struct flume_store_meta meta = meta_of(1);
  int nth = broken.nth, rv;
  disarm();
  open_store(dir, FLUME_STORE_WRITE);
  write_round();
  commit();
  MUST(flume_store_rewrite_begin(&rewrite, store, other, &meta, &err) == 0);
  while ((rv = flume_store_rewrite_step(rewrite, &err)) == 1) continue;
  MUST(rv == 0);
  flume_store_rewrite_free(rewrite);
  flume_store_close(store);
  broken.nth = nth;
}

/* EAGAIN: what is there does not fit, or nothing could be read yet. */
static void check_followed(int rv, const struct flume_store_meta *meta) {
  if (rv != FLUME_EAGAIN && went_well(rv)) CHECK_INT_EQ(meta->since, 2 * ENTRIES - 1);
  read_all(1);
}

/* A reader goes on to what was committed last, and to the place where the one who writes has gone on. */
static void read_and_follow(void) {
  struct flume_store_meta own = meta_of(1), meta;
  struct flume_store_meta limit = {.since = INT64_MAX, .deletions = INT64_MAX}, small = {.since = 5};
  make_both();
  open_store(dir, FLUME_STORE_READ);
  read_meta(1);
  read_all(1);
  check_followed(flume_store_renew(store, &own, &limit, &meta, &err), &meta);
  int rv = flume_store_renew(store, &own, &small, &meta, &err);
  CHECK(rv == FLUME_EAGAIN || !went_well(rv));
  rv = flume_store_follow(store, other, &own, &small, &meta, &err);
  CHECK(rv == FLUME_EAGAIN || !went_well(rv));
  check_followed(flume_store_follow(store, other, &own, &limit, &meta, &err), &meta);
  flume_store_close(store);
  check_committed(other);
}

TEST(readers) { fail_each_with_all(read_and_follow); }

/* The map is full: it is made larger, and what was refused is written. */
TEST(a_full_map_grows) {
  static const struct code full = {MDB_MAP_FULL, UV_EIO};
  fail_each_call(commit_again, &full, false);
  fail_each_call(rewrite, &full, false);
}
