/* For tests of a read-only file log that follows its writer. */
#ifndef FLUME_TEST_FOLLOWING_H
#define FLUME_TEST_FOLLOWING_H

#include "broken_log.h"
#include "follow_steps.h"

static inline int reader_try(uint32_t poll_ms) {
  struct flume_log_options options = {.readonly = true, .poll_ms = poll_ms, .io = &reader_faults.io};
  return try_open(&reader, &options);
}

static inline void reader_open(void) {
  if (!CHECK_INT_EQ(reader_try(0), 0)) printf("%s\n", err.msg);
  MUST(reader != NULL);
}

static inline const char *segment_name(int64_t first_seq) {
  static char name[64];
  snprintf(name, sizeof name, "%020lld.flume", (long long)first_seq);
  return name;
}

#endif
