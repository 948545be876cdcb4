/* The benchmarks: flume beside its peers, in one run.
 *
 *   bench.c         options, rounds, checks
 *   data.c          the records, the same for everyone and for every run
 *   peer_flume.c    one file a peer, each filling in struct bench_peer
 *   peer_lmdb.c
 *   peer_sqlite.c
 *   peer_raw.c      write() and read() alone: the limit
 *   reduce.c        what reduce.lua needs: the same records as a flume log and as an SQLite database
 *   index.c         an index and look-ups by the peers, and look-ups in flume's from C, for index.lua
 *   query.c         the newest of a type and an author by the peers, and by flume's bitmaps from C, for query.lua
 *   table.lua       from measurements to the table
 *   run             everything, one after the other
 *
 * A measurement is a line "test TAB peer TAB round TAB seconds TAB units" on standard output. A peer that reads
 * something else than what was written ends the program with exit code 1; no time ever does. */
#ifndef FLUME_BENCH_H
#define FLUME_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "flume.h"

#define BENCH_TYPES 10
#define BENCH_AUTHORS 1000

/* --- data.c -------------------------------------------------------------------------------------------------- */

/* One record before it is encoded; the texts end with a zero byte. */
struct bench_fields {
  char key[33];
  const char *author;
  const char *type;
  int64_t seq;
  int64_t timestamp;
  char text[256];
  size_t text_len; /* bytes */
};

struct bench_data {
  struct flume_slice *records; /* MessagePack */
  size_t count;
  uint8_t *bytes; /* what records point into */
};

/* Record number seq, always the same. */
void bench_fields_make(struct bench_fields *fields, int64_t seq);
/* As JSON text, ended by a zero byte; out has room for 1024. Returns its length. */
size_t bench_fields_json(const struct bench_fields *fields, char *out);
void bench_data_init(struct bench_data *data, size_t count);
void bench_data_fini(struct bench_data *data);
const char *bench_type_name(size_t i);
const char *bench_author(size_t i); /* 44 bytes and a zero; the lower i, the more records */

/* --- What was read ------------------------------------------------------------------------------------------- */

struct bench_tally {
  uint64_t count;
  uint64_t bytes;
  uint64_t sum; /* over the first and the last 8 bytes of each record */
};

static inline void bench_tally_add(struct bench_tally *tally, const void *data, size_t len) {
  uint64_t head, tail;
  memcpy(&head, data, 8); /* no record is shorter */
  memcpy(&tail, (const char *)data + len - 8, 8);
  tally->count++;
  tally->bytes += len;
  tally->sum += head + tail;
}

/* --- Peers --------------------------------------------------------------------------------------------------- */

enum bench_durable {
  BENCH_DURABLE_END,  /* once, after the last batch */
  BENCH_DURABLE_EACH, /* after every batch */
};

struct bench_job {
  const char *dir; /* of this peer's store */
  const struct bench_data *data;
  size_t count; /* records to append, or that there are */
  size_t batch; /* records */
  enum bench_durable durable;
  const uint32_t *picks; /* seqs to get */
  size_t picks_count;
};

/* Each runs a job and returns how long the work itself took, in nanoseconds; NULL where a peer has no part. */
struct bench_peer {
  const char *name;
  uint64_t (*append)(const struct bench_job *job);
  uint64_t (*scan)(const struct bench_job *job, struct bench_tally *tally);
  uint64_t (*get)(const struct bench_job *job, struct bench_tally *tally);
  uint64_t (*open)(const struct bench_job *job, struct bench_tally *tally); /* and read the last record */
};

extern const struct bench_peer bench_flume, bench_lmdb, bench_sqlite, bench_raw, bench_raw_prewritten;

/* --- bench.c ------------------------------------------------------------------------------------------------- */

/* Says what is wrong and ends the program. */
void bench_die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
void *bench_alloc(size_t size);
uint64_t bench_now_ns(void);
/* DIR/NAME in path, which has room for 4096 bytes. Returns path. */
const char *bench_path(char *path, const char *dir, const char *name);
void bench_report(const char *test, const char *peer, int round, uint64_t time_ns, uint64_t units);

/* --- reduce.c ------------------------------------------------------------------------------------------------ */

/* Makes DIR/flume/log and DIR/reduce.sqlite, and prints what a view must find: "type TAB count TAB sum". */
void bench_reduce_prepare(const char *dir, const struct bench_data *data);
/* "columns" or "json": count and sum by type, as one measurement and then the lines as above. */
void bench_reduce_sqlite(const char *dir, const char *how, int round, size_t count);

/* --- index.c ------------------------------------------------------------------------------------------------- */

/* Prints the authors that are looked up, one a line. */
void bench_index_picks(void);
/* how: "build-lmdb" and "build-sqlite" make an index in DIR; "lmdb", "sqlite", or the directory of a flume view's store:
 * looks up the newest ten of each of the authors, and prints "sum SUM OF SEQS" after the measurement. */
void bench_index(const char *dir, const char *how, int round, size_t count);

/* --- query.c ------------------------------------------------------------------------------------------------- */

/* Prints what is asked for, "TYPE AUTHOR", one a line. */
void bench_query_picks(void);
/* how: "build-lmdb", "build-sqlite" (an index of each column), "build-sqlite-both" (one of both) make indexes in DIR;
 * "lmdb", "sqlite", "sqlite-both", or the directory of a query view's indexes: asks, and prints "sum SUM OF SEQS" after
 * the measurement. */
void bench_query(const char *dir, const char *how, int round, size_t count);

#endif
