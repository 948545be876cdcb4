/* SQLite: a table log(seq INTEGER PRIMARY KEY, value BLOB), WAL, synchronous=FULL. */
#include <sqlite3.h>

#include "bench.h"

static void check(sqlite3 *db, int rv) {
  if (rv != SQLITE_OK && rv != SQLITE_DONE && rv != SQLITE_ROW) bench_die("SQLite: %s", sqlite3_errmsg(db));
}

static sqlite3 *store_open(const struct bench_job *job) {
  char path[4096];
  sqlite3 *db;
  check(NULL, sqlite3_open(bench_path(path, job->dir, "sqlite"), &db));
  return db;
}

static void run(sqlite3 *db, const char *sql) {
  check(db, sqlite3_exec(db, sql, NULL, NULL, NULL));
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql) {
  sqlite3_stmt *stmt;
  check(db, sqlite3_prepare_v2(db, sql, -1, &stmt, NULL));
  return stmt;
}

static void put_batch(sqlite3 *db, sqlite3_stmt *insert, const struct bench_job *job, size_t first) {
  size_t end = job->count - first < job->batch ? job->count : first + job->batch;
  run(db, "BEGIN");
  for (size_t seq = first; seq < end; seq++) {
    const struct flume_slice *record = &job->data->records[seq];
    sqlite3_bind_int64(insert, 1, (sqlite3_int64)seq);
    sqlite3_bind_blob(insert, 2, record->data, (int)record->len, SQLITE_STATIC);
    check(db, sqlite3_step(insert));
    check(db, sqlite3_reset(insert));
  }
  run(db, "COMMIT");
}

static uint64_t sqlite_append(const struct bench_job *job) {
  sqlite3 *db = store_open(job);
  run(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
          "CREATE TABLE log(seq INTEGER PRIMARY KEY, value BLOB)");
  sqlite3_stmt *insert = prepare(db, "INSERT INTO log VALUES(?, ?)");
  uint64_t start = bench_now_ns();
  for (size_t first = 0; first < job->count; first += job->batch) put_batch(db, insert, job, first);
  uint64_t time_ns = bench_now_ns() - start;
  sqlite3_finalize(insert);
  sqlite3_close(db);
  return time_ns;
}

static void add_row(sqlite3_stmt *stmt, struct bench_tally *tally) {
  const void *data = sqlite3_column_blob(stmt, 0);
  bench_tally_add(tally, data, (size_t)sqlite3_column_bytes(stmt, 0));
}

static uint64_t sqlite_scan(const struct bench_job *job, struct bench_tally *tally) {
  sqlite3 *db = store_open(job);
  sqlite3_stmt *stmt = prepare(db, "SELECT value FROM log ORDER BY seq");
  uint64_t start = bench_now_ns();
  int rv;
  while ((rv = sqlite3_step(stmt)) == SQLITE_ROW) add_row(stmt, tally);
  check(db, rv);
  uint64_t time_ns = bench_now_ns() - start;
  sqlite3_finalize(stmt);
  sqlite3_close(db);
  return time_ns;
}

static uint64_t sqlite_get(const struct bench_job *job, struct bench_tally *tally) {
  sqlite3 *db = store_open(job);
  sqlite3_stmt *stmt = prepare(db, "SELECT value FROM log WHERE seq = ?");
  uint64_t start = bench_now_ns();
  for (size_t i = 0; i < job->picks_count; i++) {
    sqlite3_bind_int64(stmt, 1, job->picks[i]);
    if (sqlite3_step(stmt) != SQLITE_ROW) bench_die("SQLite: no record %u", job->picks[i]);
    add_row(stmt, tally);
    sqlite3_reset(stmt);
  }
  uint64_t time_ns = bench_now_ns() - start;
  sqlite3_finalize(stmt);
  sqlite3_close(db);
  return time_ns;
}

static uint64_t sqlite_open(const struct bench_job *job, struct bench_tally *tally) {
  uint64_t start = bench_now_ns();
  sqlite3 *db = store_open(job);
  sqlite3_stmt *stmt = prepare(db, "SELECT value FROM log ORDER BY seq DESC LIMIT 1");
  if (sqlite3_step(stmt) != SQLITE_ROW) bench_die("SQLite: no last record");
  add_row(stmt, tally);
  uint64_t time_ns = bench_now_ns() - start;
  sqlite3_finalize(stmt);
  sqlite3_close(db);
  return time_ns;
}

const struct bench_peer bench_sqlite = {
    .name = "sqlite", .append = sqlite_append, .scan = sqlite_scan, .get = sqlite_get, .open = sqlite_open};
