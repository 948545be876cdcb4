#include <sqlite3.h>
#include <stdlib.h>

#include "bench.h"

#define ROWS_PER_COMMIT 100000

static void check(sqlite3 *db, int rv) {
  if (rv != SQLITE_OK && rv != SQLITE_DONE && rv != SQLITE_ROW) bench_die("SQLite: %s", sqlite3_errmsg(db));
}

static sqlite3 *open_database(const char *dir) {
  char path[4096];
  sqlite3 *db;
  check(NULL, sqlite3_open(bench_path(path, dir, "reduce.sqlite"), &db));
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

static void insert_columns(sqlite3_stmt *stmt, const struct bench_fields *fields) {
  sqlite3_bind_text(stmt, 1, fields->key, -1, SQLITE_STATIC);
  sqlite3_bind_text(stmt, 2, fields->author, -1, SQLITE_STATIC);
  sqlite3_bind_text(stmt, 3, fields->type, -1, SQLITE_STATIC);
  sqlite3_bind_int64(stmt, 4, fields->seq);
  sqlite3_bind_int64(stmt, 5, fields->timestamp);
  sqlite3_bind_text(stmt, 6, fields->text, (int)fields->text_len, SQLITE_STATIC);
  check(sqlite3_db_handle(stmt), sqlite3_step(stmt));
  sqlite3_reset(stmt);
}

static void insert_json(sqlite3_stmt *stmt, const struct bench_fields *fields) {
  char json[1024];
  size_t len = bench_fields_json(fields, json);
  sqlite3_bind_int64(stmt, 1, fields->seq);
  sqlite3_bind_text(stmt, 2, json, (int)len, SQLITE_STATIC);
  check(sqlite3_db_handle(stmt), sqlite3_step(stmt));
  sqlite3_reset(stmt);
}

static void fill_table(sqlite3 *db, const char *sql, size_t count,
                       void (*insert)(sqlite3_stmt *stmt, const struct bench_fields *fields)) {
  sqlite3_stmt *stmt = prepare(db, sql);
  struct bench_fields fields;
  run(db, "BEGIN");
  for (size_t i = 0; i < count; i++) {
    if (i % ROWS_PER_COMMIT == ROWS_PER_COMMIT - 1) run(db, "COMMIT; BEGIN");
    bench_fields_make(&fields, (int64_t)i);
    insert(stmt, &fields);
  }
  run(db, "COMMIT");
  sqlite3_finalize(stmt);
}

static void fill_database(const char *dir, size_t count) {
  sqlite3 *db = open_database(dir);
  run(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
          "CREATE TABLE columns(key TEXT, author TEXT, type TEXT, seq INTEGER PRIMARY KEY, timestamp INTEGER, "
          "text TEXT);"
          "CREATE TABLE json(seq INTEGER PRIMARY KEY, value TEXT)");
  fill_table(db, "INSERT INTO columns VALUES(?, ?, ?, ?, ?, ?)", count, insert_columns);
  fill_table(db, "INSERT INTO json VALUES(?, ?)", count, insert_json);
  sqlite3_close(db);
}

static void print_expected(size_t count) {
  uint64_t counts[BENCH_TYPES] = {0}, sums[BENCH_TYPES] = {0};
  struct bench_fields fields;
  for (size_t i = 0; i < count; i++) {
    bench_fields_make(&fields, (int64_t)i);
    size_t type = 0;
    while (bench_type_name(type) != fields.type) type++;
    counts[type]++;
    sums[type] += i;
  }
  for (size_t i = 0; i < BENCH_TYPES; i++) {
    if (counts[i] == 0) continue;
    printf("%s\t%llu\t%llu\n", bench_type_name(i), (unsigned long long)counts[i], (unsigned long long)sums[i]);
  }
}

void bench_reduce_prepare(const char *dir, const struct bench_data *data) {
  char flume_dir[4096], log_dir[4096];
  bench_path(log_dir, bench_path(flume_dir, dir, "flume"), "log");
  struct bench_job job = {
      .dir = log_dir, .data = data, .count = data->count, .batch = 1000, .durable = BENCH_DURABLE_END};
  bench_flume.append(&job);
  fill_database(dir, data->count);
  print_expected(data->count);
}

void bench_reduce_sqlite(const char *dir, const char *how, int round, size_t count) {
  bool json = strcmp(how, "json") == 0;
  sqlite3 *db = open_database(dir);
  sqlite3_stmt *stmt = prepare(db, json ? "SELECT json_extract(value, '$.type') AS type, count(*), "
                                          "sum(json_extract(value, '$.seq')) FROM json GROUP BY 1 ORDER BY type"
                                        : "SELECT type, count(*), sum(seq) FROM columns GROUP BY type ORDER BY type");
  char lines[BENCH_TYPES][128];
  int rows = 0, rv;
  uint64_t start = bench_now_ns();
  while ((rv = sqlite3_step(stmt)) == SQLITE_ROW && rows < BENCH_TYPES) {
    snprintf(lines[rows++], sizeof *lines, "%s\t%lld\t%lld", (const char *)sqlite3_column_text(stmt, 0),
             (long long)sqlite3_column_int64(stmt, 1), (long long)sqlite3_column_int64(stmt, 2));
  }
  check(db, rv);
  bench_report("reduce", json ? "sqlite-json" : "sqlite-columns", round, bench_now_ns() - start, count);
  for (int i = 0; i < rows; i++) puts(lines[i]);
  sqlite3_finalize(stmt);
  sqlite3_close(db);
}
