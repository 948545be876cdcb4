/* LMDB: one database with integer keys, appended in order with MDB_APPEND. */
#include <lmdb.h>

#include "bench.h"

#define MAP_BYTES ((size_t)8 << 30)

struct store {
  MDB_env *env;
  MDB_txn *txn;
  MDB_dbi dbi;
};

static void check(int rv, const char *what) {
  if (rv != 0) bench_die("LMDB: %s: %s", what, mdb_strerror(rv));
}

static void store_open(struct store *store, const struct bench_job *job, unsigned env_flags, unsigned txn_flags) {
  char path[4096];
  check(mdb_env_create(&store->env), "mdb_env_create");
  check(mdb_env_set_mapsize(store->env, MAP_BYTES), "mdb_env_set_mapsize");
  bench_path(path, job->dir, "lmdb");
  check(mdb_env_open(store->env, path, env_flags | MDB_NOSUBDIR, 0666), "mdb_env_open");
  check(mdb_txn_begin(store->env, NULL, txn_flags, &store->txn), "mdb_txn_begin");
  unsigned dbi_flags = txn_flags == MDB_RDONLY ? MDB_INTEGERKEY : MDB_INTEGERKEY | MDB_CREATE;
  check(mdb_dbi_open(store->txn, NULL, dbi_flags, &store->dbi), "mdb_dbi_open");
}

static void store_close(struct store *store) {
  mdb_txn_abort(store->txn);
  mdb_env_close(store->env);
}

static void put_batch(struct store *store, const struct bench_job *job, size_t first) {
  MDB_txn *txn;
  check(mdb_txn_begin(store->env, NULL, 0, &txn), "mdb_txn_begin");
  size_t end = job->count - first < job->batch ? job->count : first + job->batch;
  for (size_t seq = first; seq < end; seq++) {
    MDB_val key = {sizeof seq, &seq};
    MDB_val value = {job->data->records[seq].len, (void *)job->data->records[seq].data};
    check(mdb_put(txn, store->dbi, &key, &value, MDB_APPEND), "mdb_put");
  }
  check(mdb_txn_commit(txn), "mdb_txn_commit");
}

static uint64_t lmdb_append(const struct bench_job *job) {
  struct store store;
  store_open(&store, job, job->durable == BENCH_DURABLE_END ? MDB_NOSYNC : 0, 0);
  check(mdb_txn_commit(store.txn), "mdb_txn_commit");
  store.txn = NULL;
  uint64_t start = bench_now_ns();
  for (size_t first = 0; first < job->count; first += job->batch) put_batch(&store, job, first);
  if (job->durable == BENCH_DURABLE_END) check(mdb_env_sync(store.env, 1), "mdb_env_sync");
  uint64_t time_ns = bench_now_ns() - start;
  mdb_env_close(store.env);
  return time_ns;
}

static uint64_t lmdb_scan(const struct bench_job *job, struct bench_tally *tally) {
  struct store store;
  MDB_cursor *cursor;
  MDB_val key, value;
  store_open(&store, job, 0, MDB_RDONLY);
  uint64_t start = bench_now_ns();
  check(mdb_cursor_open(store.txn, store.dbi, &cursor), "mdb_cursor_open");
  int rv;
  while ((rv = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
    bench_tally_add(tally, value.mv_data, value.mv_size);
  }
  if (rv != MDB_NOTFOUND) check(rv, "mdb_cursor_get");
  uint64_t time_ns = bench_now_ns() - start;
  mdb_cursor_close(cursor);
  store_close(&store);
  return time_ns;
}

static uint64_t lmdb_get(const struct bench_job *job, struct bench_tally *tally) {
  struct store store;
  store_open(&store, job, 0, MDB_RDONLY);
  uint64_t start = bench_now_ns();
  for (size_t i = 0; i < job->picks_count; i++) {
    size_t seq = job->picks[i];
    MDB_val key = {sizeof seq, &seq}, value;
    check(mdb_get(store.txn, store.dbi, &key, &value), "mdb_get");
    bench_tally_add(tally, value.mv_data, value.mv_size);
  }
  uint64_t time_ns = bench_now_ns() - start;
  store_close(&store);
  return time_ns;
}

static uint64_t lmdb_open(const struct bench_job *job, struct bench_tally *tally) {
  struct store store;
  MDB_cursor *cursor;
  MDB_val key, value;
  uint64_t start = bench_now_ns();
  store_open(&store, job, 0, MDB_RDONLY);
  check(mdb_cursor_open(store.txn, store.dbi, &cursor), "mdb_cursor_open");
  check(mdb_cursor_get(cursor, &key, &value, MDB_LAST), "mdb_cursor_get");
  bench_tally_add(tally, value.mv_data, value.mv_size);
  uint64_t time_ns = bench_now_ns() - start;
  mdb_cursor_close(cursor);
  store_close(&store);
  return time_ns;
}

const struct bench_peer bench_lmdb = {
    .name = "lmdb", .append = lmdb_append, .scan = lmdb_scan, .get = lmdb_get, .open = lmdb_open};
