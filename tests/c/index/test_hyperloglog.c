/* Counting distinct values: exactly at first, then within the error that is promised. */
#include "index/hyperloglog.h"

#include <math.h>

#include "base/bytes.h"
#include "base/hash.h"
#include "support.h"

static struct flume_buf state;

static uint64_t hash_of(uint64_t value) {
  uint8_t bytes[8];
  flume_put_le64(bytes, value);
  return flume_hash64(bytes, sizeof bytes);
}

static int64_t count(void) {
  CHECK(flume_hyperloglog_is_state(state.len));
  return flume_hyperloglog_count(state.data, state.len);
}

static void add_range(uint64_t from, uint64_t to) {
  for (uint64_t i = from; i < to; i++) MUST(flume_hyperloglog_add(&state, hash_of(i)) == 0);
}

TEST(counts_128_values_exactly) {
  flume_buf_init(&state, &flume_io_posix);
  CHECK_INT_EQ(count(), 0);
  for (uint64_t i = 0; i < 128; i++) {
    add_range(0, i + 1);
    CHECK_INT_EQ(count(), (int64_t)i + 1);
  }
  CHECK_INT_EQ(state.len, 1024);
  flume_buf_fini(&state);
}

/* The mean of many estimates is the value itself, and they lie around it as the error says. */
TEST(is_within_its_error_and_without_bias) {
  static const uint64_t sizes[] = {129, 200, 1000, 5000, 10000, 15000, 30000, 100000};
  enum { ROUNDS = 40 };
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    double mean = 0, square = 0;
    for (uint64_t round = 0; round < ROUNDS; round++) {
      flume_buf_init(&state, &flume_io_posix);
      add_range(round << 32, (round << 32) + sizes[s]);
      double error = (double)count() / (double)sizes[s] - 1;
      CHECK(fabs(error) < 0.07);
      mean += error / ROUNDS;
      square += error * error / ROUNDS;
      flume_buf_fini(&state);
    }
    CHECK(fabs(mean) < 0.01);
    CHECK(sqrt(square) < 0.022);
  }
}

TEST(does_not_depend_on_the_order) {
  static uint8_t forwards[FLUME_HYPERLOGLOG_MAX_BYTES];
  flume_buf_init(&state, &flume_io_posix);
  add_range(0, 1000);
  CHECK_INT_EQ(state.len, sizeof forwards);
  memcpy(forwards, state.data, state.len);
  flume_buf_fini(&state);
  for (uint64_t i = 1000; i-- > 0;) MUST(flume_hyperloglog_add(&state, hash_of(i)) == 0);
  add_range(0, 1000);
  CHECK(memcmp(forwards, state.data, sizeof forwards) == 0);
  flume_buf_fini(&state);
}

TEST(takes_any_hash) {
  static const uint64_t extremes[] = {0, UINT64_MAX, 1, UINT64_C(1) << 63, UINT64_C(1) << 52, (UINT64_C(1) << 52) - 1};
  flume_buf_init(&state, &flume_io_posix);
  add_range(0, 200);
  for (size_t i = 0; i < sizeof extremes / sizeof *extremes; i++) MUST(flume_hyperloglog_add(&state, extremes[i]) == 0);
  CHECK(llabs(count() - 206) < 15);
  memset(state.data, 255, state.len); /* no state that adding makes */
  CHECK(flume_hyperloglog_count(state.data, state.len) != 0);
  flume_buf_fini(&state);
}

TEST(refuses_invalid_states) {
  CHECK(flume_hyperloglog_is_state(0));
  CHECK(flume_hyperloglog_is_state(8));
  CHECK(!flume_hyperloglog_is_state(12));
  CHECK(!flume_hyperloglog_is_state(1032));
  CHECK(flume_hyperloglog_is_state(4096));
}
