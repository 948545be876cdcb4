/* The offset log on a disk that crashes: what is tried after each workload is told in crash.h. */
#include "crash_maintenance.h"

/* Every file that a workload makes is an offset log's. */
#define OFFSET_CRASH(id)                           \
  static void id##_on_offset(struct crash *crash); \
  CRASH(id) {                                      \
    crash->offset = crash->rewrites = true;        \
    id##_on_offset(crash);                         \
  }                                                \
  static void id##_on_offset(struct crash *crash)

OFFSET_CRASH(single_appends) {
  crash_open(crash);
  crash_append(crash, 1, 40);
  crash_append(crash, 1, 0);
  crash_append(crash, 1, 700);
  crash_append(crash, 1, 13); /* of zeros, as every fifth from here on */
  crash_append(crash, 1, 5);
}

/* Later sectors of a batch may come to the disk before the first ones. */
OFFSET_CRASH(batches) {
  crash_open(crash);
  crash_append(crash, 3, 40);
  crash_append(crash, 5, 300);
  crash_append(crash, 1, 1500);
  crash_append(crash, 8, 0);
  crash_append(crash, 2, 2500);
}

OFFSET_CRASH(closed_and_opened_again) {
  for (int i = 0; i < 4; i++) {
    crash_open(crash);
    if (i != 2) crash_append(crash, 2, 90);
    if (i == 3) crash_append(crash, 1, 600);
    crash_close(crash);
  }
}

OFFSET_CRASH(group_commit) {
  crash_open(crash);
  for (int round = 0; round < 3; round++) {
    struct answer answers[6] = {{.calls = 0}};
    struct flume_slice records[3];
    for (int i = 0; i < 6; i++) {
      crash_take(crash, records, 1 + i % 3, 150);
      CHECK_INT_EQ(flume_log_append(crash->log, &answers[i].req, records, (size_t)(1 + i % 3), on_answer, NULL), 0);
      crash_release(records, 1 + i % 3);
    }
    for (int i = 0; i < 6; i++) {
      answer_wait(&crash_loop, &answers[i]);
      CHECK_INT_EQ(answers[i].status, 0);
      crash_acknowledged(crash, crash_number_of(crash, answers[i].seq));
    }
  }
}

OFFSET_CRASH(deletes) {
  crash_open(crash);
  crash_append(crash, 3, 30);
  crash_del(crash, (int64_t[]){1}, 1);
  crash_append(crash, 2, 900);
  crash_del(crash, (int64_t[]){0, 4, 1}, 3);
  crash_append(crash, 1, 30);
  crash_close(crash);
  crash_open(crash);
  crash_del(crash, (int64_t[]){5, 3}, 2);
}

OFFSET_CRASH(first_delete_in_a_closed_log) {
  crash_open(crash);
  crash_append(crash, 3, 30);
  crash_close(crash);
  crash_open(crash);
  crash_del(crash, (int64_t[]){1}, 1);
  crash_del(crash, (int64_t[]){2, 0}, 2);
}

/* What was appended since the last sync may be gone, but in order. */
OFFSET_CRASH(weak_appends) {
  crash->options.sync = FLUME_SYNC_OS;
  crash_open(crash);
  for (int i = 0; i < 4; i++) crash_append(crash, 1 + i % 2, 200);
  crash_sync(crash);
  for (int i = 0; i < 6; i++) crash_append(crash, 1 + i % 2, 300);
  crash_sync(crash);
  crash_append(crash, 2, 700);
}

OFFSET_CRASH(weak_deletes) {
  crash->options.sync = FLUME_SYNC_OS;
  crash_open(crash);
  crash_append(crash, 3, 100);
  crash_del(crash, (int64_t[]){2}, 1);
  crash_append(crash, 2, 400);
  crash_del(crash, (int64_t[]){0, 4}, 2);
  crash_append(crash, 1, 20);
}

OFFSET_CRASH(interval) {
  crash->options.sync = FLUME_SYNC_INTERVAL;
  crash->options.interval_ms = 3600000;
  crash_open(crash);
  for (int i = 0; i < 3; i++) crash_append(crash, 1, 100);
  crash_sync(crash);
  for (int i = 0; i < 3; i++) crash_append(crash, 1, 100);
  crash_close(crash);
  crash_open(crash);
  crash_append(crash, 2, 100);
}

/* A sync that fails: nothing after it is acknowledged, and what was before it is there. */
OFFSET_CRASH(failing_sync) {
  crash_open(crash);
  crash_append(crash, 2, 100);
  crash->sim.failing_sync = atomic_load(&crash->sim.syncs) + 1;
  crash_append(crash, 3, 300);
  crash_append(crash, 1, 30);
}

/* --- Maintenance ---------------------------------------------------------------------------------------------- */

OFFSET_CRASH(backup_while_it_is_used) {
  crash->after = crash_backup_is_whole;
  crash_open(crash);
  for (int i = 0; i < 3; i++) crash_append(crash, 2, 150);
  crash_del(crash, (int64_t[]){2}, 1);
  crash_backup(crash);
  crash_append(crash, 1, 20);
}

/* Bytes of the file go bad on the disk. */
static void damage(struct crash *crash, int64_t off, size_t len) {
  struct sim_fs *fs = crash->sim.fs;
  int file = sim_fs_find(fs, CRASH_DIR);
  MUST(file >= 0);
  for (size_t i = 0; i < len; i++) {
    fs->inodes[file]->cached.data[off + (int64_t)i] ^= 0xa7;
    fs->inodes[file]->durable.data[off + (int64_t)i] ^= 0xa7;
  }
}

OFFSET_CRASH(repair_of_damaged_records) {
  crash_open(crash);
  for (int i = 0; i < 4; i++) crash_append(crash, 2, 150);
  crash_del(crash, (int64_t[]){0}, 1);
  crash_close(crash);
  crash->before = crash_repair;
  int64_t lost = crash_seq_of(crash, 2), next = crash_seq_of(crash, 3);
  damage(crash, lost, (size_t)(next - lost));
  damage(crash, crash_seq_of(crash, 5), 2); /* mended: its length is told by two other things */
  crash->oracle.records[2].deleting = true;
  crash_forget(crash);
  CHECK(crash_repair(crash));
}
