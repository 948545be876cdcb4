/* For tests of crashes while a log of any kind is backed up, or repaired. */
#ifndef FLUME_TEST_CRASH_UPKEEP_H
#define FLUME_TEST_CRASH_UPKEEP_H

#include "backup_support.h"
#include "crash.h"

#define CRASH_COPY "/db/copy"

/* The log has at least six records; record 2 is deleted. */
static inline void crash_backup(struct crash *crash) {
  struct backup_answer answer;
  strcpy(backup_target, CRASH_COPY);
  CHECK_INT_EQ(backup(crash->log, &crash_loop, NULL, &answer), 0);
  sim_lock(&crash->sim);
  crash->oracle.backup_since = answer.req.since;
  sim_unlock(&crash->sim);
}

/* A backup exists as a whole, or not at all. */
static inline bool crash_backup_is_whole(struct crash *crash) {
  struct flume_log_options options = {.readonly = true, .io = &crash->sim.io};
  struct flume_log *log;
  if (sim_fs_find(crash->sim.fs, CRASH_COPY) < 0) return CHECK_INT_EQ(crash->oracle.backup_since, -2);
  int rv = crash->offset ? flume_log_open_offset(&log, &crash_loop, CRASH_COPY "/log", &options, &crash_err)
                         : flume_log_open(&log, &crash_loop, CRASH_COPY "/log", &options, &crash_err);
  if (!CHECK_INT_EQ(rv, 0)) {
    printf("%s\n", crash_err.msg);
    loop_drain(&crash_loop);
    return false;
  }
  int64_t since = flume_log_since(log);
  bool good = CHECK(since >= crash->oracle.backup_since) && CHECK(since >= crash_seq_of(crash, 5));
  for (int64_t number = 0; good && number <= 5; number++) {
    struct oracle_record then = crash->oracle.records[number]; /* records may have been deleted after the backup */
    then.deleting = then.deleted = number == 2;
    good = oracle_is(&then, log, crash_seq_of(crash, number));
  }
  log_close_wait(log, &crash_loop);
  return good;
}

/* A repair that a power cut interrupted can be repeated; the repaired log opens. */
static inline bool crash_repair(struct crash *crash) {
  if (crash->oracle.repaired) return true;
  struct flume_report report = {0};
  int rv = (crash->offset ? flume_log_repair_offset : flume_log_repair)(CRASH_DIR, &crash->sim.io, &report, &crash_err);
  if (!CHECK_INT_EQ(rv, 0)) printf("%s\n", crash_err.msg);
  if (rv != 0) return false;
  flume_report_fini(&report);
  sim_lock(&crash->sim);
  crash->oracle.repaired = true;
  sim_unlock(&crash->sim);
  return true;
}

#endif
