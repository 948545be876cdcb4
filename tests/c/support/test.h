/* A small runner for C tests: one program a file, which includes this header once.
 *
 *   TEST(buf_grows) {
 *     CHECK_INT_EQ(flume_buf_grow(&buf, 10), 0);
 *   }
 *
 * Tests run in the order of the file. The arguments of the program, if there are any, choose the tests whose names
 * contain one of them. A failed check prints file:line and the test goes on; REQUIRE leaves the test. The last line of
 * the output is "N passed, N failed, N skipped"; the exit code is 0 when no test failed.
 *
 * Random tests begin with random_seed(). A program with a failed test prints the seed, and FLUME_TEST_SEED=N repeats
 * the run. A program that crashes prints nothing: it leaves the name of the test and the seed in the file that
 * FLUME_TEST_PROGRESS names (see tests/run). */
#ifndef FLUME_TEST_H
#define FLUME_TEST_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TEST_SECONDS 1800 /* a test that takes longer hangs; the program ends */

struct test {
  const char *name;
  void (*run)(void);
  struct test *next;
};

static struct test *test_first;
static struct test **test_last = &test_first;
static bool test_failed, test_skipped;
static uint64_t test_seed;
static bool test_is_random; /* a test has asked for the seed */

#define TEST(id)                                                      \
  static void test_##id(void);                                        \
  __attribute__((constructor)) static void test_register_##id(void) { \
    static struct test entry = {#id, test_##id, NULL};                \
    *test_last = &entry;                                              \
    test_last = &entry.next;                                          \
  }                                                                   \
  static void test_##id(void)

#define CHECK(cond) test_check((cond), __FILE__, __LINE__, #cond)
#define CHECK_INT_EQ(got, expected) test_check_int((int64_t)(got), (int64_t)(expected), __FILE__, __LINE__, #got)
#define CHECK_STR_EQ(got, expected) test_check_str((got), (expected), __FILE__, __LINE__, #got)
#define REQUIRE(cond)         \
  do {                        \
    if (!CHECK(cond)) return; \
  } while (0)
#define SKIP(reason)                     \
  do {                                   \
    printf("  skipped: %s\n", (reason)); \
    test_skipped = true;                 \
    return;                              \
  } while (0)

static inline bool test_check(bool ok, const char *file, int line, const char *what) {
  if (ok) return true;
  printf("%s:%d: failed: %s\n", file, line, what);
  test_failed = true;
  return false;
}

static inline bool test_check_int(int64_t got, int64_t expected, const char *file, int line, const char *what) {
  if (got == expected) return true;
  printf("%s:%d: %s is %lld, not %lld\n", file, line, what, (long long)got, (long long)expected);
  test_failed = true;
  return false;
}

static inline bool test_check_str(const char *got, const char *expected, const char *file, int line, const char *what) {
  if (got != NULL && expected != NULL && strcmp(got, expected) == 0) return true;
  printf("%s:%d: %s is\n  %s\nnot\n  %s\n", file, line, what, got ? got : "NULL", expected ? expected : "NULL");
  test_failed = true;
  return false;
}

static bool test_chosen(const struct test *test, int argc, char **argv) {
  if (argc < 2) return true;
  for (int i = 1; i < argc; i++) {
    if (strstr(test->name, argv[i]) != NULL) return true;
  }
  return false;
}

/* FLUME_TEST_SEED, or a different number in each run; the same for all tests of the program. */
static inline uint64_t random_seed(void) {
  test_is_random = true;
  return test_seed;
}

static void test_draw_seed(void) {
  const char *text = getenv("FLUME_TEST_SEED");
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  test_seed = ((uint64_t)now.tv_nsec ^ (uint64_t)getpid() << 32) % 1000000000u;
  if (text != NULL) test_seed = strtoull(text, NULL, 10);
}

static void test_tell_running(const char *name) {
  const char *path = getenv("FLUME_TEST_PROGRESS");
  FILE *file = path != NULL ? fopen(path, "w") : NULL;
  if (file == NULL) return;
  fprintf(file, "%s, FLUME_TEST_SEED=%llu\n", name, (unsigned long long)test_seed);
  fclose(file);
}

int main(int argc, char **argv) {
  int passed = 0, failed = 0, skipped = 0;
  test_draw_seed();
  for (struct test *test = test_first; test != NULL; test = test->next) {
    if (!test_chosen(test, argc, argv)) continue;
    test_failed = test_skipped = false;
    test_tell_running(test->name);
    alarm(TEST_SECONDS);
    test->run();
    if (test_failed) {
      printf("FAILED %s\n", test->name);
      failed++;
    } else if (test_skipped) {
      skipped++;
    } else {
      passed++;
    }
    fflush(stdout);
  }
  if (failed > 0 && test_is_random) printf("FLUME_TEST_SEED=%llu\n", (unsigned long long)test_seed);
  printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
  return failed != 0;
}

#endif
