#include "bench.h"

#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"

#define MAX_PEERS 5
#define OPENS 21 /* an open is short: the median of so many counts as one measurement */

enum action { ACTION_APPEND, ACTION_SCAN, ACTION_GET, ACTION_OPEN };

struct test {
  const char *name;
  enum action action;
  size_t batch;   /* appends only, as the two below */
  size_t divisor; /* of the number of records */
  enum bench_durable durable;
};

/* The stores that the first test leaves are what the reading ones read. */
static const struct test tests[] = {
    {"append-batch", ACTION_APPEND, 1000, 1, BENCH_DURABLE_END},
    {"scan", ACTION_SCAN, 0, 0, 0},
    {"get", ACTION_GET, 0, 0, 0},
    {"open", ACTION_OPEN, 0, 0, 0},
    {"append-100", ACTION_APPEND, 100, 10, BENCH_DURABLE_EACH},
    {"append-1", ACTION_APPEND, 1, 1000, BENCH_DURABLE_EACH},
};
#define TESTS (sizeof tests / sizeof *tests)

static const struct bench_peer *const peers[MAX_PEERS] = {&bench_flume, &bench_lmdb, &bench_sqlite, &bench_raw,
                                                          &bench_raw_prewritten};

struct options {
  const char *command; /* NULL: measure */
  const char *how;
  const char *dir;
  const char *test; /* NULL: every one */
  const char *peer; /* NULL: every one */
  size_t count;
  int rounds; /* for the command "sqlite": the round it reports */
};

void bench_die(const char *format, ...) {
  va_list args;
  va_start(args, format);
  fputs("bench: ", stderr);
  vfprintf(stderr, format, args);
  fputc('\n', stderr);
  va_end(args);
  exit(1);
}

void *bench_alloc(size_t size) {
  void *ptr = malloc(size > 0 ? size : 1);
  if (ptr == NULL) bench_die("no memory for %zu bytes", size);
  return ptr;
}

uint64_t bench_now_ns(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

const char *bench_path(char *path, const char *dir, const char *name) {
  int len = snprintf(path, 4096, "%s/%s", dir, name);
  if (len < 0 || len >= 4096) bench_die("the path %s is too long", dir);
  return path;
}

void bench_report(const char *test, const char *peer, int round, uint64_t time_ns, uint64_t units) {
  printf("%s\t%s\t%d\t%.9f\t%llu\n", test, peer, round, (double)time_ns / 1e9, (unsigned long long)units);
  fflush(stdout);
}

/* --- Checks -------------------------------------------------------------------------------------------------- */

static void check_tally(const char *test, const char *peer, const struct bench_tally *got,
                        const struct bench_tally *want) {
  if (memcmp(got, want, sizeof *got) == 0) return;
  bench_die("%s, %s: read %llu records, %llu bytes, sum %llx; written were %llu, %llu, %llx", test, peer,
            (unsigned long long)got->count, (unsigned long long)got->bytes, (unsigned long long)got->sum,
            (unsigned long long)want->count, (unsigned long long)want->bytes, (unsigned long long)want->sum);
}

static struct bench_tally expect(const struct test *test, const struct bench_job *job) {
  const struct flume_slice *records = job->data->records;
  struct bench_tally want = {0};
  if (test->action == ACTION_OPEN) {
    bench_tally_add(&want, records[job->count - 1].data, records[job->count - 1].len);
  } else if (test->action == ACTION_GET) {
    for (size_t i = 0; i < job->picks_count; i++) {
      bench_tally_add(&want, records[job->picks[i]].data, records[job->picks[i]].len);
    }
  } else {
    for (size_t i = 0; i < job->count; i++) bench_tally_add(&want, records[i].data, records[i].len);
  }
  return want;
}

/* --- One measurement ----------------------------------------------------------------------------------------- */

static int compare_times(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

static uint64_t median_open(const struct bench_peer *peer, const struct bench_job *job, struct bench_tally *tally) {
  uint64_t times[OPENS];
  for (int i = 0; i < OPENS; i++) {
    *tally = (struct bench_tally){0};
    times[i] = peer->open(job, tally);
  }
  qsort(times, OPENS, sizeof *times, compare_times);
  return times[OPENS / 2];
}

static void empty_dir(const char *dir) {
  if (flume_io_remove_all(&flume_io_posix, dir) != 0) bench_die("removing %s failed", dir);
  if (flume_io_mkdir_all(&flume_io_posix, dir) != 0) bench_die("making %s failed", dir);
}

/* An append is measured on an idle disk, and then read back. */
static uint64_t run_append(const struct bench_peer *peer, const struct bench_job *job, struct bench_tally *tally) {
  empty_dir(job->dir);
  sync();
  uint64_t time_ns = peer->append(job);
  peer->scan(job, tally);
  return time_ns;
}

static bool takes_part(const struct test *test, const struct bench_peer *peer) {
  switch (test->action) {
    case ACTION_APPEND: return peer != &bench_raw_prewritten || test->durable == BENCH_DURABLE_EACH;
    case ACTION_SCAN: return peer != &bench_raw_prewritten;
    case ACTION_GET: return peer->get != NULL;
    case ACTION_OPEN: return peer->open != NULL;
  }
  return false;
}

static void run_one(const struct test *test, const struct bench_peer *peer, struct bench_job *job, int round) {
  struct bench_tally tally = {0};
  uint64_t time_ns = 0, units = job->count;
  job->count = job->data->count;
  if (test->action == ACTION_APPEND) {
    job->count = job->data->count / test->divisor > 0 ? job->data->count / test->divisor : 1;
    job->batch = test->batch;
    job->durable = test->durable;
  }
  switch (test->action) {
    case ACTION_APPEND: time_ns = run_append(peer, job, &tally); units = job->count; break;
    case ACTION_SCAN: time_ns = peer->scan(job, &tally); units = job->count; break;
    case ACTION_GET: time_ns = peer->get(job, &tally); units = job->picks_count; break;
    case ACTION_OPEN: time_ns = median_open(peer, job, &tally); units = 1; break;
  }
  struct bench_tally want = expect(test, job);
  check_tally(test->name, peer->name, &tally, &want);
  if (round > 0) bench_report(test->name, peer->name, round, time_ns, units);
}

static bool wanted(const char *only, const char *name) {
  return only == NULL || strcmp(only, name) == 0;
}

/* The order changes from round to round, and with it who follows whom. */
static void run_test(const struct options *options, const struct test *test, struct bench_job *job, int round) {
  size_t stride = (size_t)round % (MAX_PEERS - 1) + 1; /* the number of peers is a prime: each one gets its turn */
  for (size_t i = 0; i < MAX_PEERS; i++) {
    const struct bench_peer *peer = peers[(i * stride + (size_t)round) % MAX_PEERS];
    if (!wanted(options->peer, peer->name) || !takes_part(test, peer)) continue;
    char dir[4096];
    job->dir = bench_path(dir, options->dir, peer->name);
    run_one(test, peer, job, round);
  }
}

static void remove_stores(const struct options *options) {
  char dir[4096];
  for (size_t i = 0; i < MAX_PEERS; i++) {
    flume_io_remove_all(&flume_io_posix, bench_path(dir, options->dir, peers[i]->name));
  }
}

static void measure(const struct options *options) {
  struct bench_data data;
  bench_data_init(&data, options->count);
  size_t picks_count = options->count < 100000 ? options->count : 100000;
  uint32_t *picks = bench_alloc(picks_count * sizeof *picks);
  uint64_t state = 1;
  for (size_t i = 0; i < picks_count; i++) {
    state = state * 6364136223846793005 + 1442695040888963407;
    picks[i] = (uint32_t)((state >> 33) % options->count);
  }
  struct bench_job job = {.data = &data, .picks = picks, .picks_count = picks_count};
  /* Round 0 is not counted: pages that this machine has never used are slow to write. */
  for (int round = 0; round <= options->rounds; round++) {
    for (size_t i = 0; i < TESTS; i++) {
      bool builds = i == 0; /* what the others read */
      if (round == 0 && !builds) continue;
      if (!wanted(options->test, tests[i].name) && !(round == 0 && builds)) continue;
      run_test(options, &tests[i], &job, round);
    }
  }
  remove_stores(options);
  free(picks);
  bench_data_fini(&data);
}

/* --- The command line ---------------------------------------------------------------------------------------- */

static void usage(void) {
  fputs("usage: bench -d DIR [-n RECORDS] [-r ROUNDS] [-t TEST] [-p PEER]\n"
        "       bench -d DIR [-n RECORDS] prepare\n"
        "       bench -d DIR [-n RECORDS] [-r ROUND] sqlite columns|json\n"
        "       bench -d DIR [-n RECORDS] [-r ROUND] index picks|build-lmdb|build-sqlite|lmdb|sqlite|STORE\n"
        "       bench -d DIR [-n RECORDS] [-r ROUND] query picks|build-lmdb|build-sqlite[-both]|lmdb|sqlite[-both]|INDEXES\n"
        "       bench -d DIR now\n", stderr);
  exit(2);
}

static void parse(struct options *options, int argc, char **argv) {
  int c;
  while ((c = getopt(argc, argv, "d:n:r:t:p:")) != -1) {
    switch (c) {
      case 'd': options->dir = optarg; break;
      case 'n': options->count = strtoul(optarg, NULL, 10); break;
      case 'r': options->rounds = atoi(optarg); break;
      case 't': options->test = optarg; break;
      case 'p': options->peer = optarg; break;
      default: usage();
    }
  }
  if (optind < argc) options->command = argv[optind++];
  if (optind < argc) options->how = argv[optind++];
  if (optind < argc || options->dir == NULL || options->count == 0 || options->count > UINT32_MAX) usage();
}

int main(int argc, char **argv) {
  struct options options = {.count = 1000000, .rounds = 3};
  parse(&options, argc, argv);
  if (options.command == NULL) {
    measure(&options);
  } else if (strcmp(options.command, "prepare") == 0) {
    struct bench_data data;
    bench_data_init(&data, options.count);
    bench_reduce_prepare(options.dir, &data);
    bench_data_fini(&data);
  } else if (strcmp(options.command, "sqlite") == 0 && options.how != NULL) {
    bench_reduce_sqlite(options.dir, options.how, options.rounds, options.count);
  } else if (strcmp(options.command, "index") == 0 && options.how != NULL) {
    if (strcmp(options.how, "picks") == 0) bench_index_picks();
    else bench_index(options.dir, options.how, options.rounds, options.count);
  } else if (strcmp(options.command, "query") == 0 && options.how != NULL) {
    if (strcmp(options.how, "picks") == 0) bench_query_picks();
    else bench_query(options.dir, options.how, options.rounds, options.count);
  } else if (strcmp(options.command, "now") == 0) {
    printf("%llu\n", (unsigned long long)bench_now_ns());
  } else {
    usage();
  }
  return 0;
}
