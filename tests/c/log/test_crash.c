/* The file log on a disk that crashes: what is tried after each workload is told in crash.h. */
#include "check_support.h"
#include "crash_maintenance.h"

CRASH(single_appends) {
  crash_open(crash);
  crash_append(crash, 1, 40);
  crash_append(crash, 1, 0);
  crash_append(crash, 1, 700);
  crash_append(crash, 1, 13);
}

CRASH(batches) {
  crash_open(crash);
  crash_append(crash, 3, 40);
  crash_append(crash, 5, 300);
  crash_append(crash, 1, 1500);
  crash_append(crash, 8, 0);
  crash_append(crash, 2, 2500);
}

CRASH(closed_and_opened_again) {
  for (int i = 0; i < 4; i++) {
    crash_open(crash);
    if (i != 2) crash_append(crash, 2, 90);
    if (i == 3) crash_append(crash, 1, 600);
    crash_close(crash);
  }
}

/* Appends that wait while another is on its way share the next frame; each is still a batch of its own. */
CRASH(group_commit) {
  crash_open(crash);
  for (int round = 0; round < 3; round++) {
    struct answer answers[6] = {{.calls = 0}};
    struct flume_slice records[3];
    int64_t last = -1;
    for (int i = 0; i < 6; i++) {
      crash_take(crash, records, 1 + i % 3, 150);
      CHECK_INT_EQ(flume_log_append(crash->log, &answers[i].req, records, (size_t)(1 + i % 3), on_answer, NULL), 0);
      crash_release(records, 1 + i % 3);
    }
    for (int i = 0; i < 6; i++) {
      answer_wait(&crash_loop, &answers[i]);
      CHECK_INT_EQ(answers[i].status, 0);
      CHECK(answers[i].seq > last);
      crash_acknowledged(crash, last = answers[i].seq);
    }
  }
}

CRASH(segments) {
  crash->options.segment_bytes = 900;
  crash_open(crash);
  for (int i = 0; i < 9; i++) crash_append(crash, 1 + i % 3, 100 + 50 * (uint32_t)(i % 4));
}

CRASH(segments_closed_and_opened_again) {
  crash->options.segment_bytes = 600;
  for (int i = 0; i < 3; i++) {
    crash_open(crash);
    crash_append(crash, 2, 100);
    crash_append(crash, 1, 350);
    crash_append(crash, 1, 10);
    crash_close(crash);
  }
}

CRASH(deletes) {
  crash_open(crash);
  crash_append(crash, 3, 30);
  crash_del(crash, (int64_t[]){1}, 1);
  crash_append(crash, 2, 200);
  crash_del(crash, (int64_t[]){0, 4, 1}, 3);
  crash_append(crash, 1, 30);
  crash_close(crash);
  crash_open(crash);
  crash_del(crash, (int64_t[]){5}, 1);
}

CRASH(first_delete_in_a_closed_log) {
  crash_open(crash);
  crash_append(crash, 3, 30);
  crash_close(crash);
  crash_open(crash);
  crash_del(crash, (int64_t[]){1}, 1);
  crash_del(crash, (int64_t[]){2, 0}, 2);
}

CRASH(many_deletes_at_once) {
  int64_t seqs[100];
  crash_open(crash);
  for (int i = 0; i < 5; i++) crash_append(crash, 20, 4);
  for (int i = 0; i < 100; i++) seqs[i] = 99 - i;
  crash_del(crash, seqs, 80);
  crash_del(crash, seqs + 20, 80);
}

/* What was appended since the last sync may be gone, but in order. */
CRASH(weak_appends) {
  crash->options.sync = FLUME_SYNC_OS;
  crash_open(crash);
  for (int i = 0; i < 4; i++) crash_append(crash, 1 + i % 2, 200);
  crash_sync(crash);
  for (int i = 0; i < 6; i++) crash_append(crash, 1 + i % 2, 300);
  crash_sync(crash);
  crash_append(crash, 2, 700);
}

CRASH(weak_segments) {
  crash->options.sync = FLUME_SYNC_OS;
  crash->options.segment_bytes = 1000;
  crash_open(crash);
  for (int i = 0; i < 8; i++) crash_append(crash, 1, 150 + 100 * (uint32_t)(i % 3));
  crash_close(crash);
  crash_open(crash);
  for (int i = 0; i < 4; i++) crash_append(crash, 2, 150);
}

CRASH(weak_deletes) {
  crash->options.sync = FLUME_SYNC_OS;
  crash_open(crash);
  crash_append(crash, 3, 100);
  crash_del(crash, (int64_t[]){2}, 1);
  crash_append(crash, 2, 400);
  crash_del(crash, (int64_t[]){0, 4}, 2);
  crash_append(crash, 1, 20);
}

CRASH(interval) {
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

CRASH(interval_batches_segments_and_deletes) {
  crash->options.sync = FLUME_SYNC_INTERVAL;
  crash->options.interval_ms = 3600000;
  crash->options.segment_bytes = 900;
  crash_open(crash);
  for (int i = 0; i < 6; i++) crash_append(crash, 1 + i % 3, 150);
  crash_del(crash, (int64_t[]){1, 4}, 2);
  for (int i = 0; i < 3; i++) crash_append(crash, 2, 300);
  crash_sync(crash);
  crash_append(crash, 3, 40);
  crash_close(crash);
  crash_open(crash);
  crash_append(crash, 2, 100);
}

/* --- Maintenance ---------------------------------------------------------------------------------------------- */

struct compaction {
  struct flume_compact req;
  int calls;
  int status;
};

static void on_compacted(struct flume_compact *req, int status, const struct flume_err *err) {
  struct compaction *compaction = FLUME_CONTAINER_OF(req, struct compaction, req);
  compaction->calls++;
  compaction->status = status;
  if (err != NULL) crash_err = *err;
}

static void compaction_begin(struct crash *crash, struct compaction *compaction) {
  memset(compaction, 0, sizeof *compaction);
  crash->rewrites = true;
  CHECK_INT_EQ(flume_log_compact(crash->log, &compaction->req, on_compacted, &crash_err), 0);
}

static void compaction_wait(struct compaction *compaction) {
  while (compaction->calls == 0) uv_run(&crash_loop, UV_RUN_ONCE);
  CHECK_INT_EQ(compaction->status, 0);
}

CRASH(compaction) {
  struct compaction compaction;
  crash->options.segment_bytes = 700;
  crash_open(crash);
  for (int i = 0; i < 5; i++) crash_append(crash, 2, 150);
  crash_del(crash, (int64_t[]){0, 3, 4, 5}, 4);
  compaction_begin(crash, &compaction);
  compaction_wait(&compaction);
  CHECK(compaction.req.records == 4);
  crash_append(crash, 1, 20);
  crash_del(crash, (int64_t[]){1, 10}, 2);
  compaction_begin(crash, &compaction);
  compaction_wait(&compaction);
}

/* Appends, deletes and new segments while a compaction is under way. */
CRASH(compaction_meanwhile) {
  struct compaction compaction;
  crash->options.segment_bytes = 700;
  crash_open(crash);
  for (int i = 0; i < 6; i++) crash_append(crash, 2, 150);
  crash_del(crash, (int64_t[]){0, 1, 2, 3, 7}, 5);
  compaction_begin(crash, &compaction);
  for (int i = 0; i < 3; i++) {
    struct answer answer = {.calls = 0};
    struct flume_slice records[2];
    crash_take(crash, records, 2, 150);
    CHECK_INT_EQ(flume_log_append(crash->log, &answer.req, records, 2, on_answer, NULL), 0);
    crash_release(records, 2);
    answer_wait(&crash_loop, &answer);
    crash_acknowledged(crash, answer.seq);
    crash_del(crash, (int64_t[]){4 + i}, 1);
  }
  compaction_wait(&compaction);
}

CRASH(compaction_without_syncs) {
  struct compaction compaction;
  crash->options.segment_bytes = 700;
  crash->options.sync = FLUME_SYNC_OS;
  crash_open(crash);
  for (int i = 0; i < 5; i++) crash_append(crash, 2, 150);
  crash_del(crash, (int64_t[]){0, 3, 4, 5}, 4);
  compaction_begin(crash, &compaction);
  compaction_wait(&compaction);
  crash_append(crash, 1, 20);
}

/* A check finds every record, and no damage, in what a crash has left and an opening has put in order. */
static bool finds_no_damage(struct crash *crash) {
  struct flume_log_options options = {.readonly = true, .io = &crash->sim.io};
  struct flume_log *log;
  struct check_answer answer;
  if (!CHECK_INT_EQ(flume_log_open(&log, &crash_loop, CRASH_DIR, &options, &crash_err), 0)) return false;
  bool good = CHECK_INT_EQ(log_check(log, &crash_loop, &answer), 0);
  if (good) {
    good = CHECK_INT_EQ(answer.req.report.records, flume_log_since(log) + 1) &&
           CHECK_INT_EQ(answer.req.report.damages, 0);
    if (!good) print_report(&answer.req.report);
    flume_report_fini(&answer.req.report);
  }
  log_close_wait(log, &crash_loop);
  return good;
}

CRASH(check) {
  crash->options.segment_bytes = 700;
  crash->after = finds_no_damage;
  crash_open(crash);
  for (int i = 0; i < 4; i++) {
    struct check_answer answer;
    crash_append(crash, 1 + i % 3, 150);
    crash_del(crash, (int64_t[]){i}, 1);
    CHECK_INT_EQ(log_check(crash->log, &crash_loop, &answer), 0);
    CHECK_INT_EQ(answer.req.report.damages, 0);
    flume_report_fini(&answer.req.report);
  }
  crash_close(crash);
  crash_open(crash);
  crash_append(crash, 2, 100);
}

CRASH(backup_while_it_is_used) {
  crash->options.segment_bytes = 700;
  crash->after = crash_backup_is_whole;
  crash_open(crash);
  for (int i = 0; i < 3; i++) crash_append(crash, 2, 150);
  crash_del(crash, (int64_t[]){2}, 1);
  crash->rewrites = true;
  crash_backup(crash);
  crash_append(crash, 1, 20);
}

/* Record seq goes bad on the disk, and may be lost. */
static void damage(struct crash *crash, int64_t seq) {
  struct sim_fs *fs = crash->sim.fs;
  const struct oracle_record *record = &crash->oracle.records[seq];
  uint8_t *data = payload_new(record->len, record->key);
  for (int i = 0; i < fs->inodes_count; i++) {
    struct sim_bytes *cached = &fs->inodes[i]->cached;
    for (size_t off = 0; off + record->len <= cached->used; off++) {
      if (memcmp(cached->data + off, data, record->len) != 0) continue;
      cached->data[off] ^= 0xff;
      fs->inodes[i]->durable.data[off] ^= 0xff;
    }
  }
  free(data);
  crash->oracle.records[seq].deleting = true;
}

CRASH(repair_of_a_damaged_record) {
  crash->options.segment_bytes = 700;
  crash->rewrites = true;
  crash_open(crash);
  for (int i = 0; i < 4; i++) crash_append(crash, 2, 150);
  crash_del(crash, (int64_t[]){0}, 1);
  crash_close(crash);
  crash->before = crash_repair;
  damage(crash, 2);
  crash_forget(crash);
  CHECK(crash_repair(crash));
}

/* --- Disks that fail ------------------------------------------------------------------------------------------ */

/* A sync that fails drops what was written, and the next one answers success. What is read back from the cache then is
 * not on the disk: opening the log again has to bring it there before it reports it. */
static void fail_a_sync(const char *name, enum flume_sync sync) {
  static struct crash crash;
  uint64_t before = crash_states;
  bool hit = true;
  for (int nth = 2; hit && !test_failed; nth++) {
    crash_begin(&crash, name);
    crash.options.sync = sync;
    crash.options.segment_bytes = 900;
    crash.sample_states = 10;
    crash_open(&crash);
    crash.sim.failing_sync = nth;
    for (int i = 0; i < 6; i++) {
      crash_append(&crash, 1 + i % 3, 150);
      if (i == 3 && crash.log->failure.code == 0) crash_del(&crash, (int64_t[]){0, 1}, 2);
    }
    crash_close(&crash);
    hit = atomic_load(&crash.sim.syncs) >= nth;
    crash_end(&crash);
    if (test_failed) printf("  sync %d fails\n", nth);
  }
  crash_report(name, before);
}

TEST(failing_sync_crashes) { fail_a_sync("failing_sync", FLUME_SYNC_ALWAYS); }
TEST(failing_weak_sync_crashes) { fail_a_sync("failing_weak_sync", FLUME_SYNC_OS); }

/* The disk is full after so many bytes. What was acknowledged can be read then, and is there when space has been made. */
static void fill_the_disk(const char *name, enum flume_sync sync) {
  static struct crash crash;
  uint64_t before = crash_states;
  bool failed = true;
  for (uint64_t capacity = 100; failed && !test_failed; capacity += 97) {
    crash_begin(&crash, name);
    crash.options.sync = sync;
    crash.options.segment_bytes = 900;
    crash.sample_states = 6;
    crash_open(&crash);
    crash.sim.capacity_bytes = capacity;
    for (int i = 0; i < 6; i++) {
      crash_append(&crash, 1 + i % 3, 150);
      if (i == 3 && crash.log->failure.code == 0) crash_del(&crash, (int64_t[]){0, 1}, 2);
    }
    failed = crash.log->failure.code != 0;
    CHECK(!failed || crash.log->failure.code == UV_ENOSPC);
    CHECK(!failed || capacity < 4000); /* what is written ahead takes nobody's room */
    keeps_promises(&crash, crash.log);
    crash_close(&crash);
    crash.sim.capacity_bytes = 0;
    crash_end(&crash);
    if (test_failed) printf("  the disk has room for %llu bytes\n", (unsigned long long)capacity);
  }
  crash_report(name, before);
}

TEST(full_disk_crashes) { fill_the_disk("full_disk", FLUME_SYNC_ALWAYS); }
TEST(full_disk_with_weak_sync_crashes) { fill_the_disk("full_disk_with_weak_sync", FLUME_SYNC_OS); }

/* --- Anything ------------------------------------------------------------------------------------------------- */

static void random_appends(struct crash *crash, uint64_t *random) {
  struct answer answers[5] = {{.calls = 0}};
  struct flume_slice records[4];
  int pending = 1 + (int)random_below(random, 5);
  for (int i = 0; i < pending; i++) {
    int count = 1 + (int)random_below(random, 4);
    crash_take(crash, records, count, random_below(random, random_below(random, 8) == 0 ? 3000 : 200));
    CHECK_INT_EQ(flume_log_append(crash->log, &answers[i].req, records, (size_t)count, on_answer, NULL), 0);
    crash_release(records, count);
  }
  for (int i = 0; i < pending; i++) {
    answer_wait(&crash_loop, &answers[i]);
    CHECK_INT_EQ(answers[i].status, 0);
    crash_acknowledged(crash, answers[i].seq);
  }
}

static void random_del(struct crash *crash, uint64_t *random) {
  int64_t seqs[5], since = flume_log_since(crash->log);
  size_t count = 1 + random_below(random, 5);
  if (since < 0) return;
  for (size_t i = 0; i < count; i++) seqs[i] = random_below(random, (uint32_t)since + 1);
  crash_del(crash, seqs, count);
}

static void random_workload(struct crash *crash, uint64_t *random) {
  crash->options.sync = random_below(random, 2) == 0 ? FLUME_SYNC_ALWAYS : FLUME_SYNC_OS;
  crash->options.segment_bytes = random_below(random, 2) == 0 ? 0 : 500 + random_below(random, 3000);
  crash_open(crash);
  for (int i = 0; i < 14; i++) {
    switch (random_below(random, 8)) {
      case 0: random_del(crash, random); break;
      case 1: crash_sync(crash); break;
      case 2:
        crash_close(crash);
        crash_open(crash);
        break;
      case 3: random_appends(crash, random); break;
      default: crash_append(crash, 1, random_below(random, 600)); break;
    }
  }
}

TEST(random_crashes) {
  static struct crash crash;
  uint64_t before = crash_states, first = crash_all() ? random_seed() : 1;
  for (uint64_t seed = first; seed < first + (crash_all() ? 40 : 5) && !test_failed; seed++) {
    uint64_t random = seed;
    crash_begin(&crash, "random");
    random_workload(&crash, &random);
    crash_end(&crash);
  }
  if (crash_all()) printf("FLUME_TEST_SEED=%llu\n", (unsigned long long)first);
  crash_report("random", before);
}

TEST(total) {
  CHECK(crash_states > 0);
  printf("%llu crash states in all\n", (unsigned long long)crash_states);
}
