/* Kills an appending process at a random moment, and checks the log that is left.
 *
 *   kill9 [rounds]              rounds on one log, 30 by default; FLUME_TEST_SEED=N repeats a run
 *   kill9 --MODE [rounds]       deletes, batches, offset and others: see the table of modes
 *   kill9 --million             one kill while a million records are appended in batches of a thousand
 *
 * The child writes each acknowledged seq and each acknowledged delete to a pipe: these are the promises. The parent
 * kills the child after a random number of promises, opens the log, and checks:
 *
 * - The log opens at once.
 * - Every promised record and delete is there.
 * - The records are a prefix of the records that the child appends, each with the right bytes.
 * - No batch is there in part. (The format of offset logs has no batches: the first records of a batch that was not
 *   promised may be there.)
 *
 * The number of a record determines its bytes and its batch. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "log/log.h"

#define IN_FLIGHT 12
#define OFFSET_FRAMING 12 /* bytes around a record of an offset log */
#define MILLION 1000000
#define MILLION_BATCH 1000
#define BATCH_MAX 1000
#define RECORD_MAX 5000

struct mode {
  const char *name;
  enum flume_sync sync; /* a kill loses no writes, so acknowledged records are there in every mode */
  uint64_t segment_bytes;
  uint32_t batch_max;
  uint32_t delete_one_in; /* one record in so many is deleted; 0: none */
  bool compacts;          /* without a pause */
  bool offset;            /* an offset log */
};

static const struct mode modes[] = {
    {"--all", FLUME_SYNC_ALWAYS, 100000, 60, 20, false, false},
    {"--deletes", FLUME_SYNC_ALWAYS, 100000, 3, 2, false, false},
    {"--batches", FLUME_SYNC_ALWAYS, 1000000, 1000, 50, false, false},
    {"--segments", FLUME_SYNC_ALWAYS, 3000, 8, 20, false, false},
    {"--interval", FLUME_SYNC_INTERVAL, 100000, 60, 20, false, false},
    {"--compact", FLUME_SYNC_ALWAYS, 20000, 20, 4, true, false},
    {"--offset", FLUME_SYNC_ALWAYS, 0, 60, 4, false, true},
    {"--offset-interval", FLUME_SYNC_INTERVAL, 0, 60, 20, false, true},
    {"--million", FLUME_SYNC_ALWAYS, 32u << 20, MILLION_BATCH, 0, false, false},
};

static const struct mode *mode = &modes[0];
static bool million;

static uint64_t mix(uint64_t z) {
  z = (z + 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

static uint64_t random_next(uint64_t *state) {
  return mix((*state)++ * 7919 + 17);
}

/* --- What the child appends --------------------------------------------------------------------------------------- */

/* The number of records of the batch that begins with this record. */
static size_t batch_count(int64_t number) {
  if (million) return MILLION_BATCH;
  uint64_t h = mix((uint64_t)number);
  return h % 3 == 0 ? 1 + h / 3 % mode->batch_max : 1;
}

static uint32_t record_len(int64_t number) {
  uint64_t h = mix((uint64_t)number ^ 0x5555);
  if (million) return 100 + h % 100;
  return h % 50 == 0 ? (uint32_t)(h / 50 % RECORD_MAX) : (uint32_t)(h / 50 % 300);
}

static void record_fill(int64_t number, uint8_t *out) {
  uint32_t len = record_len(number);
  for (uint32_t i = 0; i < len; i += 8) {
    uint64_t word = number % 13 == 0 ? 0 : mix((uint64_t)number * 1000 + i);
    memcpy(out + i, &word, len - i < 8 ? len - i : 8);
  }
}

static bool may_be_deleted(int64_t number) {
  return mode->delete_one_in > 0 && mix((uint64_t)number ^ 0x3333) % mode->delete_one_in == 0;
}

/* --- Numbers and seqs --------------------------------------------------------------------------------------------- */

/* The byte offset of each record in an offset log, which follows from the records before. */
static int64_t *starts;
static int64_t starts_count, starts_cap;

static void starts_reach(int64_t count) {
  if (count > starts_cap) {
    starts_cap = count * 2;
    starts = realloc(starts, (size_t)starts_cap * sizeof *starts);
    if (starts == NULL) abort();
  }
  for (; starts_count < count; starts_count++) {
    int64_t before = starts_count - 1;
    starts[starts_count] = before < 0 ? 0 : starts[before] + record_len(before) + OFFSET_FRAMING;
  }
}

static int64_t seq_of(int64_t number) {
  if (!mode->offset || number < 0) return number;
  starts_reach(number + 1);
  return starts[number];
}

/* The number of the record that begins at the offset; -2: none. */
static int64_t number_of(int64_t seq) {
  if (!mode->offset || seq < 0) return seq;
  while (starts_count == 0 || starts[starts_count - 1] < seq) starts_reach(starts_count + 1000);
  int64_t low = 0, high = starts_count;
  while (high - low > 1) {
    int64_t mid = low + (high - low) / 2;
    if (starts[mid] <= seq) low = mid;
    else high = mid;
  }
  return starts[low] == seq ? low : -2;
}

/* --- The child ---------------------------------------------------------------------------------------------------- */

struct pending {
  struct flume_append req;
  int64_t deletes; /* number; -1 when it appends */
};

static struct flume_log *log_;
static int64_t next_number;
static struct pending pending[IN_FLIGHT];

static void die(const char *what, const char *why) {
  fprintf(stderr, "kill9: %s: %s\n", what, why);
  _exit(2);
}

/* The pipe has the number of the last record for an append, and -1 - number for a delete. */
static void tell(int64_t value) {
  if (write(STDOUT_FILENO, &value, sizeof value) != sizeof value) _exit(0);
}

static void submit(struct pending *p);

static void on_done(struct flume_append *req, int status, int64_t seq, const struct flume_err *err) {
  struct pending *p = (struct pending *)req;
  if (status != 0) die("append", err->msg);
  tell(p->deletes >= 0 ? -1 - p->deletes : number_of(seq));
  int64_t candidate = number_of(seq);
  bool deletes = p->deletes < 0 && may_be_deleted(candidate);
  p->deletes = -1;
  if (!deletes) {
    submit(p);
    return;
  }
  struct flume_err why;
  p->deletes = candidate;
  int64_t deleted = seq_of(candidate);
  if (flume_log_del(log_, req, &deleted, 1, on_done, &why) != 0) die("del", why.msg);
}

static void submit(struct pending *p) {
  static uint8_t bytes[BATCH_MAX * RECORD_MAX];
  struct flume_slice records[BATCH_MAX];
  struct flume_err err;
  size_t count = batch_count(next_number), used = 0;
  if (million && next_number >= MILLION) return;
  for (size_t i = 0; i < count; i++) {
    int64_t number = next_number + (int64_t)i;
    records[i] = (struct flume_slice){bytes + used, record_len(number)};
    record_fill(number, bytes + used);
    used += records[i].len;
  }
  p->deletes = -1;
  next_number += (int64_t)count;
  if (flume_log_append(log_, &p->req, records, count, on_done, &err) != 0) die("append", err.msg);
}

static struct flume_log_options log_options(void) {
  return (struct flume_log_options){.sync = mode->sync, .interval_ms = 5, .segment_bytes = mode->segment_bytes};
}

static int open_log(struct flume_log **log, uv_loop_t *loop, const char *dir, const struct flume_log_options *options,
                    struct flume_err *err) {
  char path[600];
  if (!mode->offset) return flume_log_open(log, loop, dir, options, err);
  snprintf(path, sizeof path, "%s/log", dir);
  return flume_log_open_offset(log, loop, path, options, err);
}

static void compact(struct flume_compact *req);

static void on_compacted(struct flume_compact *req, int status, const struct flume_err *err) {
  if (status != 0) die("compact", err->msg);
  compact(req);
}

static void compact(struct flume_compact *req) {
  struct flume_err err;
  if (flume_log_compact(log_, req, on_compacted, &err) != 0) die("compact", err.msg);
}

static int child(const char *dir) {
  struct flume_log_options options = log_options();
  struct flume_err err;
  if (open_log(&log_, uv_default_loop(), dir, &options, &err) != 0) die("open", err.msg);
  next_number = number_of(flume_log_since(log_)) + 1;
  for (int i = 0; i < (million ? 2 : IN_FLIGHT); i++) submit(&pending[i]);
  static struct flume_compact compaction;
  if (mode->compacts) compact(&compaction);
  uv_run(uv_default_loop(), UV_RUN_DEFAULT);
  flume_log_close(log_, NULL, NULL);
  uv_run(uv_default_loop(), UV_RUN_DEFAULT);
  return 0;
}

/* --- The parent: promises ----------------------------------------------------------------------------------------- */

struct promise {
  int64_t last;  /* number */
  bool *deleted; /* by number */
  int64_t cap;
};

static void promise_take(struct promise *promise, int64_t value) {
  if (value >= 0) {
    if (value > promise->last) promise->last = value;
    return;
  }
  int64_t number = -1 - value;
  if (number >= promise->cap) {
    int64_t cap = (number + 1) * 2;
    promise->deleted = realloc(promise->deleted, (size_t)cap);
    if (promise->deleted == NULL) abort();
    memset(promise->deleted + promise->cap, 0, (size_t)(cap - promise->cap));
    promise->cap = cap;
  }
  promise->deleted[number] = true;
}

static bool promised_deleted(const struct promise *promise, int64_t number) {
  return number < promise->cap && promise->deleted[number];
}

/* The next value; false at the end of the pipe, or after timeout_ms. */
static bool promise_read(struct promise *promise, int pipe_end, int timeout_ms) {
  struct pollfd fd = {.fd = pipe_end, .events = POLLIN};
  int64_t value;
  if (poll(&fd, 1, timeout_ms) <= 0) return false;
  if (read(pipe_end, &value, sizeof value) != sizeof value) return false; /* a pipe takes 8 bytes as one */
  promise_take(promise, value);
  return true;
}

static pid_t spawn(const char *dir, int *pipe_end) {
  int ends[2];
  if (pipe(ends) != 0) abort();
  pid_t pid = fork();
  if (pid < 0) abort();
  if (pid == 0) {
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    close(ends[1]);
    execl("/proc/self/exe", "kill9", mode->name, "--child", dir, (char *)NULL);
    _exit(3);
  }
  close(ends[1]);
  *pipe_end = ends[0];
  return pid;
}

/* Lets a child append until the pipe has given so many values, and a moment longer; then kills it. */
static bool run_and_kill(const char *dir, struct promise *promise, uint64_t values, uint64_t moment_us) {
  int pipe_end, status;
  pid_t pid = spawn(dir, &pipe_end);
  bool told = true;
  for (uint64_t i = 0; i < values && told; i++) told = promise_read(promise, pipe_end, 60000);
  for (uint64_t until = uv_hrtime() + moment_us * 1000; uv_hrtime() < until;) promise_read(promise, pipe_end, 0);
  kill(pid, SIGKILL);
  while (promise_read(promise, pipe_end, 60000)) continue;
  close(pipe_end);
  if (waitpid(pid, &status, 0) != pid) abort();
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) return true;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true; /* the child had finished */
  printf("the child ended by itself, with status %x\n", (unsigned)status);
  return false;
}

/* --- The parent: the log after a kill ----------------------------------------------------------------------------- */

static bool complain(const char *what, int64_t number) {
  printf("record %lld: %s\n", (long long)number, what);
  return false;
}

static bool check_batches(int64_t last) {
  int64_t number = 0;
  if (mode->offset) return true;
  while (number <= last) number += (int64_t)batch_count(number);
  return number == last + 1 ? true : complain("a batch is there in part", last);
}

static bool check_record(const struct flume_record *record, int64_t number, const struct promise *promise) {
  static uint8_t expected[RECORD_MAX];
  if (number < 0) return complain("begins where none should", record->seq);
  record_fill(number, expected);
  bool same = record->len == record_len(number) && memcmp(record->data, expected, record->len) == 0;
  if (!same) return complain("is wrong", number);
  return promised_deleted(promise, number) ? complain("was deleted", number) : true;
}

static bool check_records(struct flume_log *log, int64_t last, const struct promise *promise) {
  struct flume_stream *stream;
  struct flume_range range;
  struct flume_record record;
  struct flume_err err;
  flume_range_init(&range);
  if (flume_stream_open(&stream, log, &range, &err) != 0) return complain(err.msg, -1);
  int64_t next = 0;
  bool good = true;
  while (good && next <= last) {
    int rv = flume_stream_peek(stream, &record, &err);
    if (rv < 0) good = complain(err.msg, next);
    int64_t number = rv == 1 ? number_of(record.seq) : last + 1;
    for (; good && next < number; next++) {
      if (!may_be_deleted(next)) good = complain("is missing", next);
    }
    if (!good || rv != 1) break;
    good = check_record(&record, number, promise);
    next = number + 1;
  }
  flume_stream_close(stream);
  return good;
}

static bool check(const char *dir, const struct flume_log_options *options, const struct promise *promise,
                  int64_t *recovered) {
  uv_loop_t loop;
  struct flume_log *log;
  struct flume_err err;
  uv_loop_init(&loop);
  if (open_log(&log, &loop, dir, options, &err) != 0) return complain(err.msg, promise->last);
  int64_t last = number_of(flume_log_since(log));
  bool good = last >= promise->last ? true : complain("was promised, and is gone", promise->last);
  good = good && check_batches(last) && check_records(log, last, promise);
  flume_log_close(log, NULL, NULL);
  uv_run(&loop, UV_RUN_DEFAULT);
  good = uv_loop_close(&loop) == 0 && good;
  *recovered = last;
  return good;
}

static bool run_rounds(const char *dir, int rounds, uint64_t *random) {
  struct promise promise = {.last = -1};
  bool good = true;
  int64_t recovered = -1, deepest = 0;
  for (int round = 0; good && round < rounds; round++) {
    struct flume_log_options options = log_options();
    options.readonly = round % 2 == 1; /* the next child then recovers the log */
    uint64_t choice = random_next(random) % 8;
    uint64_t values = choice == 0 ? 0 : choice == 1 ? 1 + random_next(random) % 5 : 1 + random_next(random) % 1500;
    int64_t before = recovered;
    uint64_t moment_us = random_next(random) % (values == 0 ? 20000 : 2000);
    good = run_and_kill(dir, &promise, values, moment_us) && check(dir, &options, &promise, &recovered);
    if (good && recovered < before) good = complain("was there in the round before", before);
    if (recovered - promise.last > deepest) deepest = recovered - promise.last;
    if (!good) printf("round %d, killed after %llu values\n", round + 1, (unsigned long long)values);
  }
  if (good) {
    printf("%d rounds, %lld records, at most %lld more than promised\n", rounds, (long long)recovered + 1,
           (long long)deepest);
  }
  free(promise.deleted);
  free(starts);
  return good;
}

static bool run_million(const char *dir, uint64_t *random) {
  struct promise promise = {.last = -1};
  int64_t recovered = -1;
  uint64_t batches = 1 + random_next(random) % (MILLION / MILLION_BATCH);
  struct flume_log_options options = log_options();
  bool good =
      run_and_kill(dir, &promise, batches, random_next(random) % 3000) && check(dir, &options, &promise, &recovered);
  printf("killed after %llu of %d batches: %lld records promised, %lld there\n", (unsigned long long)batches,
         MILLION / MILLION_BATCH, (long long)promise.last + 1, (long long)recovered + 1);
  free(promise.deleted);
  return good;
}

/* Sets the mode that the argument names; false when it names none. */
static bool take_mode(const char *name) {
  for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
    if (strcmp(modes[i].name, name) != 0) continue;
    mode = &modes[i];
    million = strcmp(name, "--million") == 0;
    return true;
  }
  return false;
}

int main(int argc, char **argv) {
  bool named = argc > 1 && take_mode(argv[1]);
  if (named && argc == 4 && strcmp(argv[2], "--child") == 0) return child(argv[3]);
  const char *rounds = argc > 1 + named ? argv[1 + named] : "30";
  const char *text = getenv("FLUME_TEST_SEED"), *tmp = getenv("TMPDIR");
  uint64_t seed = text != NULL ? strtoull(text, NULL, 10) : uv_hrtime() % 1000000000u, random = seed;
  char dir[512];
  snprintf(dir, sizeof dir, "%s/flume-kill9-XXXXXX", tmp != NULL ? tmp : "/tmp");
  if (mkdtemp(dir) == NULL) abort();
  printf("FLUME_TEST_SEED=%llu\n", (unsigned long long)seed);
  fflush(stdout);
  bool good = million ? run_million(dir, &random) : run_rounds(dir, atoi(rounds), &random);
  if (good) flume_io_remove_all(&flume_io_posix, dir);
  else printf("FAILED; the log is in %s\n", dir);
  printf("%d passed, %d failed, 0 skipped\n", good, !good);
  return good ? 0 : 1;
}
