/* An index of the author, and the newest ten of one: LMDB (sorted duplicates), SQLite, and flume's store from C. What the
 * index of flume is, index.lua has built. */
#include <lmdb.h>
#include <sqlite3.h>
#include <stdlib.h>

#include "codec/key.h"
#include "store/store.h"
#include "bench.h"

#define NEWEST 10
#define LOOK_UPS 20000
#define MAP_BYTES ((size_t)1 << 30)

static void check_lmdb(int rv, const char *what) {
  if (rv != 0) bench_die("LMDB: %s: %s", what, mdb_strerror(rv));
}

static void check_sqlite(sqlite3 *db, int rv) {
  if (rv != SQLITE_OK && rv != SQLITE_DONE && rv != SQLITE_ROW) bench_die("SQLite: %s", sqlite3_errmsg(db));
}

/* The author that look-up i asks for; each as often as any other. */
static const char *author_of(size_t i) {
  uint64_t state = (i + 1) * 0x9e3779b97f4a7c15;
  return bench_author((size_t)((state >> 33) % BENCH_AUTHORS));
}

void bench_index_picks(void) {
  for (size_t i = 0; i < LOOK_UPS; i++) puts(author_of(i));
}

static void report(const char *peer, int round, uint64_t start_ns, uint64_t sum) {
  bench_report("look-up", peer, round, bench_now_ns() - start_ns, LOOK_UPS);
  printf("sum %llu\n", (unsigned long long)sum);
}

/* --- LMDB -------------------------------------------------------------------------------------------------------- */

static MDB_env *open_lmdb(const char *dir) {
  char path[4096];
  MDB_env *env;
  check_lmdb(mdb_env_create(&env), "mdb_env_create");
  check_lmdb(mdb_env_set_mapsize(env, MAP_BYTES), "mdb_env_set_mapsize");
  check_lmdb(mdb_env_open(env, bench_path(path, dir, "index.lmdb"), MDB_NOSUBDIR, 0666), "mdb_env_open");
  return env;
}

static void build_lmdb(const char *dir, int round, size_t count) {
  char path[4096];
  struct bench_fields fields;
  const char **authors = bench_alloc(count * sizeof *authors);
  MDB_txn *txn;
  MDB_dbi dbi;
  for (size_t i = 0; i < count; i++) {
    bench_fields_make(&fields, (int64_t)i);
    authors[i] = fields.author;
  }
  remove(bench_path(path, dir, "index.lmdb"));
  MDB_env *env = open_lmdb(dir);
  uint64_t start = bench_now_ns();
  check_lmdb(mdb_txn_begin(env, NULL, 0, &txn), "mdb_txn_begin");
  check_lmdb(mdb_dbi_open(txn, NULL, MDB_DUPSORT | MDB_DUPFIXED | MDB_INTEGERDUP, &dbi), "mdb_dbi_open");
  for (size_t seq = 0; seq < count; seq++) {
    MDB_val key = {44, (void *)authors[seq]}, value = {sizeof seq, &seq};
    check_lmdb(mdb_put(txn, dbi, &key, &value, MDB_APPENDDUP), "mdb_put");
  }
  check_lmdb(mdb_txn_commit(txn), "mdb_txn_commit");
  bench_report("index", "lmdb", round, bench_now_ns() - start, count);
  mdb_env_close(env);
  free(authors);
}

static uint64_t look_up_lmdb(MDB_env *env, MDB_txn *txn, MDB_dbi dbi, const char *author) {
  MDB_cursor *cursor;
  MDB_val key = {44, (void *)author}, value;
  uint64_t sum = 0;
  (void)env;
  check_lmdb(mdb_txn_renew(txn), "mdb_txn_renew");
  check_lmdb(mdb_cursor_open(txn, dbi, &cursor), "mdb_cursor_open");
  int rv = mdb_cursor_get(cursor, &key, &value, MDB_SET_KEY);
  if (rv == 0) rv = mdb_cursor_get(cursor, &key, &value, MDB_LAST_DUP);
  for (int i = 0; rv == 0 && i < NEWEST; i++) {
    size_t seq;
    memcpy(&seq, value.mv_data, sizeof seq);
    sum += seq;
    rv = mdb_cursor_get(cursor, &key, &value, MDB_PREV_DUP);
  }
  mdb_cursor_close(cursor);
  mdb_txn_reset(txn);
  return sum;
}

static void look_up_all_lmdb(const char *dir, int round) {
  MDB_env *env = open_lmdb(dir);
  MDB_txn *txn;
  MDB_dbi dbi;
  uint64_t sum = 0;
  check_lmdb(mdb_txn_begin(env, NULL, MDB_RDONLY, &txn), "mdb_txn_begin");
  check_lmdb(mdb_dbi_open(txn, NULL, MDB_DUPSORT | MDB_DUPFIXED | MDB_INTEGERDUP, &dbi), "mdb_dbi_open");
  mdb_txn_reset(txn);
  uint64_t start = bench_now_ns();
  for (size_t i = 0; i < LOOK_UPS; i++) sum += look_up_lmdb(env, txn, dbi, author_of(i));
  report("lmdb", round, start, sum);
  mdb_txn_abort(txn);
  mdb_env_close(env);
}

/* --- SQLite ------------------------------------------------------------------------------------------------------ */

static sqlite3 *open_sqlite(const char *dir) {
  char path[4096];
  sqlite3 *db;
  check_sqlite(NULL, sqlite3_open(bench_path(path, dir, "reduce.sqlite"), &db));
  return db;
}

static void build_sqlite(const char *dir, int round, size_t count) {
  sqlite3 *db = open_sqlite(dir);
  check_sqlite(db, sqlite3_exec(db, "DROP INDEX IF EXISTS by_author", NULL, NULL, NULL));
  uint64_t start = bench_now_ns();
  check_sqlite(db, sqlite3_exec(db, "CREATE INDEX by_author ON columns(author)", NULL, NULL, NULL));
  bench_report("index", "sqlite", round, bench_now_ns() - start, count);
  sqlite3_close(db);
}

static void look_up_all_sqlite(const char *dir, int round) {
  sqlite3 *db = open_sqlite(dir);
  sqlite3_stmt *stmt;
  uint64_t sum = 0;
  check_sqlite(db, sqlite3_prepare_v2(db, "SELECT seq FROM columns WHERE author = ? ORDER BY seq DESC LIMIT 10", -1,
                                      &stmt, NULL));
  uint64_t start = bench_now_ns();
  for (size_t i = 0; i < LOOK_UPS; i++) {
    sqlite3_bind_text(stmt, 1, author_of(i), 44, SQLITE_STATIC);
    int rv;
    while ((rv = sqlite3_step(stmt)) == SQLITE_ROW) sum += (uint64_t)sqlite3_column_int64(stmt, 0);
    check_sqlite(db, rv);
    sqlite3_reset(stmt);
  }
  report("sqlite", round, start, sum);
  sqlite3_finalize(stmt);
  sqlite3_close(db);
}

/* --- flume ------------------------------------------------------------------------------------------------------- */

static uint64_t look_up_flume(struct flume_store *store, const char *author, struct flume_buf *scratch) {
  struct flume_store_range range;
  struct flume_store_cursor *cursor;
  struct flume_store_entry entry;
  uint64_t sum = 0;
  int rv;
  scratch->len = 0;
  flume_msgpack_write_str(scratch, author, 44);
  size_t packed = scratch->len;
  if (flume_buf_reserve(scratch, 256) != 0 || flume_key_encode(scratch->data, packed, scratch, NULL) != 0) {
    bench_die("no memory");
  }
  flume_store_range_init(&range);
  range.lower = scratch->data + packed;
  range.lower_len = scratch->len - packed;
  flume_buf_append(scratch, "\xff", 1);
  range.upper = range.lower;
  range.upper_len = range.lower_len + 1;
  range.reverse = true;
  rv = flume_store_cursor_open(&cursor, store, FLUME_STORE_INDEX, &range, NULL);
  if (rv != 0) bench_die("the index: %s", flume_strerror(rv));
  for (int i = 0; i < NEWEST && (rv = flume_store_cursor_next(cursor, &entry, NULL)) == 1; i++) sum += (uint64_t)entry.seq;
  if (rv < 0) bench_die("the index: %s", flume_strerror(rv));
  flume_store_cursor_close(cursor);
  return sum;
}

static void look_up_all_flume(const char *store_dir, int round) {
  struct flume_store *store;
  struct flume_buf scratch;
  uint64_t sum = 0;
  flume_buf_init(&scratch, &flume_io_posix);
  if (flume_store_open(&store, &flume_io_posix, store_dir, FLUME_STORE_READ, NULL) != 0) bench_die("no memory");
  uint64_t start = bench_now_ns();
  for (size_t i = 0; i < LOOK_UPS; i++) sum += look_up_flume(store, author_of(i), &scratch);
  report("flume", round, start, sum);
  flume_store_close(store);
  flume_buf_fini(&scratch);
}

void bench_index(const char *dir, const char *how, int round, size_t count) {
  if (strcmp(how, "build-lmdb") == 0) build_lmdb(dir, round, count);
  else if (strcmp(how, "build-sqlite") == 0) build_sqlite(dir, round, count);
  else if (strcmp(how, "lmdb") == 0) look_up_all_lmdb(dir, round);
  else if (strcmp(how, "sqlite") == 0) look_up_all_sqlite(dir, round);
  else look_up_all_flume(how, round);
}
