/* The newest 25 of a type and an author: two indexes of LMDB's (sorted duplicates), one walked and the other looked at;
 * SQLite with an index of each, and with one of both; and flume's bitmaps from C. Those query.lua has had built. */
#include <lmdb.h>
#include <sqlite3.h>
#include <stdlib.h>

#include "codec/key.h"
#include "index/seqset.h"
#include "bench.h"

#define NEWEST 25
#define QUERIES 5000
#define TYPES_ASKED 3
#define MAP_BYTES ((size_t)1 << 30)

static void check_lmdb(int rv, const char *what) {
  if (rv != 0) bench_die("LMDB: %s: %s", what, mdb_strerror(rv));
}

static void check_sqlite(sqlite3 *db, int rv) {
  if (rv != SQLITE_OK && rv != SQLITE_DONE && rv != SQLITE_ROW) bench_die("SQLite: %s", sqlite3_errmsg(db));
}

/* What query i asks for. */
static void pick(size_t i, const char **type, const char **author) {
  uint64_t state = (i + 1) * 0x9e3779b97f4a7c15;
  *author = bench_author((size_t)((state >> 33) % BENCH_AUTHORS));
  *type = bench_type_name(i % TYPES_ASKED);
}

void bench_query_picks(void) {
  for (size_t i = 0; i < QUERIES; i++) {
    const char *type, *author;
    pick(i, &type, &author);
    printf("%s %s\n", type, author);
  }
}

static void report(const char *peer, int round, uint64_t start_ns, uint64_t sum) {
  bench_report("query", peer, round, bench_now_ns() - start_ns, QUERIES);
  printf("sum %llu\n", (unsigned long long)sum);
}

/* --- LMDB -------------------------------------------------------------------------------------------------------- */

struct lmdb {
  MDB_env *env;
  MDB_txn *txn;
  MDB_dbi authors;
  MDB_dbi types;
};

static void open_lmdb(struct lmdb *lmdb, const char *dir, unsigned flags) {
  char path[4096];
  unsigned dup = MDB_DUPSORT | MDB_DUPFIXED | MDB_INTEGERDUP | (flags == 0 ? MDB_CREATE : 0);
  check_lmdb(mdb_env_create(&lmdb->env), "mdb_env_create");
  check_lmdb(mdb_env_set_mapsize(lmdb->env, MAP_BYTES), "mdb_env_set_mapsize");
  check_lmdb(mdb_env_set_maxdbs(lmdb->env, 2), "mdb_env_set_maxdbs");
  check_lmdb(mdb_env_open(lmdb->env, bench_path(path, dir, "query.lmdb"), MDB_NOSUBDIR, 0666), "mdb_env_open");
  check_lmdb(mdb_txn_begin(lmdb->env, NULL, flags, &lmdb->txn), "mdb_txn_begin");
  check_lmdb(mdb_dbi_open(lmdb->txn, "authors", dup, &lmdb->authors), "mdb_dbi_open");
  check_lmdb(mdb_dbi_open(lmdb->txn, "types", dup, &lmdb->types), "mdb_dbi_open");
}

static void build_lmdb(const char *dir, size_t count) {
  char path[4096];
  struct bench_fields fields;
  struct lmdb lmdb;
  remove(bench_path(path, dir, "query.lmdb"));
  open_lmdb(&lmdb, dir, 0);
  for (size_t seq = 0; seq < count; seq++) {
    bench_fields_make(&fields, (int64_t)seq);
    MDB_val value = {sizeof seq, &seq}, author = {44, (void *)fields.author};
    MDB_val type = {strlen(fields.type), (void *)fields.type};
    check_lmdb(mdb_put(lmdb.txn, lmdb.authors, &author, &value, MDB_APPENDDUP), "mdb_put");
    check_lmdb(mdb_put(lmdb.txn, lmdb.types, &type, &value, MDB_APPENDDUP), "mdb_put");
  }
  check_lmdb(mdb_txn_commit(lmdb.txn), "mdb_txn_commit");
  mdb_env_close(lmdb.env);
}

static uint64_t ask_lmdb(struct lmdb *lmdb, const char *type, const char *author) {
  MDB_cursor *walk, *look;
  MDB_val key = {44, (void *)author}, value;
  uint64_t sum = 0;
  check_lmdb(mdb_txn_renew(lmdb->txn), "mdb_txn_renew");
  check_lmdb(mdb_cursor_open(lmdb->txn, lmdb->authors, &walk), "mdb_cursor_open");
  check_lmdb(mdb_cursor_open(lmdb->txn, lmdb->types, &look), "mdb_cursor_open");
  int rv = mdb_cursor_get(walk, &key, &value, MDB_SET_KEY);
  if (rv == 0) rv = mdb_cursor_get(walk, &key, &value, MDB_LAST_DUP);
  for (int found = 0; rv == 0 && found < NEWEST;) {
    MDB_val other = {strlen(type), (void *)type}, same = value;
    size_t seq;
    if (mdb_cursor_get(look, &other, &same, MDB_GET_BOTH) == 0) {
      memcpy(&seq, value.mv_data, sizeof seq);
      sum += seq;
      found++;
    }
    rv = mdb_cursor_get(walk, &key, &value, MDB_PREV_DUP);
  }
  mdb_cursor_close(walk);
  mdb_cursor_close(look);
  mdb_txn_reset(lmdb->txn);
  return sum;
}

static void ask_all_lmdb(const char *dir, int round) {
  struct lmdb lmdb;
  uint64_t sum = 0;
  open_lmdb(&lmdb, dir, MDB_RDONLY);
  check_lmdb(mdb_txn_commit(lmdb.txn), "mdb_txn_commit"); /* so that the handles stay open */
  check_lmdb(mdb_txn_begin(lmdb.env, NULL, MDB_RDONLY, &lmdb.txn), "mdb_txn_begin");
  mdb_txn_reset(lmdb.txn);
  uint64_t start = bench_now_ns();
  for (size_t i = 0; i < QUERIES; i++) {
    const char *type, *author;
    pick(i, &type, &author);
    sum += ask_lmdb(&lmdb, type, author);
  }
  report("lmdb", round, start, sum);
  mdb_txn_abort(lmdb.txn);
  mdb_env_close(lmdb.env);
}

/* --- SQLite ------------------------------------------------------------------------------------------------------ */

static sqlite3 *open_sqlite(const char *dir) {
  char path[4096];
  sqlite3 *db;
  check_sqlite(NULL, sqlite3_open(bench_path(path, dir, "reduce.sqlite"), &db));
  return db;
}

/* With one index of each column; or of both, which only somebody who knows the query makes. */
static void build_sqlite(const char *dir, const char *sql) {
  sqlite3 *db = open_sqlite(dir);
  check_sqlite(db, sqlite3_exec(db,
                                "DROP INDEX IF EXISTS by_author; DROP INDEX IF EXISTS by_type; "
                                "DROP INDEX IF EXISTS by_both",
                                NULL, NULL, NULL));
  check_sqlite(db, sqlite3_exec(db, sql, NULL, NULL, NULL));
  sqlite3_close(db);
}

static void ask_all_sqlite(const char *dir, const char *peer, int round) {
  sqlite3 *db = open_sqlite(dir);
  sqlite3_stmt *stmt;
  uint64_t sum = 0;
  check_sqlite(db, sqlite3_prepare_v2(db, "SELECT seq FROM columns WHERE type = ? AND author = ? ORDER BY seq DESC LIMIT 25",
                                      -1, &stmt, NULL));
  uint64_t start = bench_now_ns();
  for (size_t i = 0; i < QUERIES; i++) {
    const char *type, *author;
    int rv;
    pick(i, &type, &author);
    sqlite3_bind_text(stmt, 1, type, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, author, 44, SQLITE_STATIC);
    while ((rv = sqlite3_step(stmt)) == SQLITE_ROW) sum += (uint64_t)sqlite3_column_int64(stmt, 0);
    check_sqlite(db, rv);
    sqlite3_reset(stmt);
  }
  report(peer, round, start, sum);
  sqlite3_finalize(stmt);
  sqlite3_close(db);
}

/* --- flume ------------------------------------------------------------------------------------------------------- */

struct index {
  struct flume_store *store;
  struct flume_bitmaps *bitmaps;
};

static void open_index(struct index *index, const char *dir, const char *name) {
  char path[4096];
  snprintf(path, sizeof path, "%s/is-%s/1", dir, name);
  if (flume_store_open(&index->store, &flume_io_posix, path, FLUME_STORE_READ, NULL) != 0 ||
      flume_bitmaps_new(&flume_io_posix, &index->bitmaps, NULL) != 0) {
    bench_die("no memory");
  }
  flume_bitmaps_use(index->bitmaps, index->store);
}

static void close_index(struct index *index) {
  flume_bitmaps_free(index->bitmaps);
  flume_store_close(index->store);
}

static struct flume_seqset *set_of(const struct index *index, const char *text, struct flume_buf *scratch) {
  struct flume_seqset *set;
  scratch->len = 0;
  flume_msgpack_write_str(scratch, text, strlen(text));
  size_t packed = scratch->len;
  if (flume_buf_reserve(scratch, 256) != 0 || flume_key_encode(scratch->data, packed, scratch, NULL) != 0 ||
      flume_seqset_of_key(&flume_io_posix, index->bitmaps, scratch->data + packed, scratch->len - packed, &set) != 0) {
    bench_die("no memory");
  }
  return set;
}

static void ask_all_flume(const char *dir, int round, size_t count) {
  struct index authors, types;
  struct flume_buf scratch;
  uint64_t sum = 0;
  open_index(&authors, dir, "author");
  open_index(&types, dir, "type");
  flume_buf_init(&scratch, &flume_io_posix);
  uint64_t start = bench_now_ns();
  for (size_t i = 0; i < QUERIES; i++) {
    const char *type, *author;
    int64_t seqs[NEWEST];
    struct flume_seqset *set;
    pick(i, &type, &author);
    struct flume_seqset *sets[] = {set_of(&authors, author, &scratch), set_of(&types, type, &scratch)};
    if (flume_seqset_combine(&flume_io_posix, FLUME_SEQSET_AND, sets, 2, &set) != 0) bench_die("no memory");
    int64_t found = flume_seqset_read(set, 0, (int64_t)count - 1, true, seqs, NEWEST, NULL);
    if (found < 0) bench_die("the index: %s", flume_strerror((int)found));
    for (int64_t k = 0; k < found; k++) sum += (uint64_t)seqs[k];
    flume_seqset_free(set);
  }
  report("flume", round, start, sum);
  flume_buf_fini(&scratch);
  close_index(&authors);
  close_index(&types);
}

void bench_query(const char *dir, const char *how, int round, size_t count) {
  if (strcmp(how, "build-lmdb") == 0) build_lmdb(dir, count);
  else if (strcmp(how, "build-sqlite") == 0) {
    build_sqlite(dir, "CREATE INDEX by_author ON columns(author); CREATE INDEX by_type ON columns(type); ANALYZE");
  } else if (strcmp(how, "build-sqlite-both") == 0) {
    build_sqlite(dir, "CREATE INDEX by_both ON columns(type, author); ANALYZE");
  } else if (strcmp(how, "lmdb") == 0) ask_all_lmdb(dir, round);
  else if (strncmp(how, "sqlite", 6) == 0) ask_all_sqlite(dir, how, round);
  else ask_all_flume(how, round, count);
}
