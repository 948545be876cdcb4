/* Tries the crashes of a workload.
 *
 * A workload is a function that uses a log on a simulated disk (sim.h). After each of its operations a copy of the
 * disk is kept, with the promises of that moment (struct oracle). For each of these moments:
 *
 *   power cut   every allowed combination of writes that were not durable is left, or a sample of them (sim.h)
 *   kill        the process ends; another process opens the log on the disk with all writes of the cache
 *
 * On each of these disks the log is opened, read, appended to, closed and opened again, and must keep its promises. The
 * moments of that recovery are kept, too: a second power cut happens during recovery, or after a kill.
 *
 * FLUME_CRASH=all tries all crashes. Without it each workload gets an even sample of some hundred, always the same. */
#ifndef FLUME_TEST_CRASH_H
#define FLUME_TEST_CRASH_H

#include "sim.h"
#include "support.h"

#define CRASH_RECORDS_MAX 400
#define CRASH_DIR "/db/log"
#define PROBE_LEN 21
#define SAMPLE_STATES 80          /* of a workload */
#define SAMPLE_FOLLOWING_STATES 8 /* of the recovery after one crash */
#define DEPTH_MAX 2

struct oracle_record {
  uint64_t key; /* of its payload */
  uint32_t len;
  bool ends;     /* the last one of its batch */
  bool deleting; /* a delete was asked for */
  bool deleted;  /* and acknowledged */
};

/* The records that were submitted, and the promises. */
struct oracle {
  struct oracle_record records[CRASH_RECORDS_MAX];
  int64_t submitted;    /* records */
  int64_t since;        /* the records up to this one are there after any crash */
  int64_t backup_since; /* the same of the backup; -2: there may be no backup */
  bool repaired;        /* a repair has finished */
};

/* A data frame as it was written. Recovery must find every frame that is whole on the disk. */
struct frame_copy {
  int inode;
  uint64_t off;
  size_t len;
  uint8_t *data;
  int64_t first_seq;
  int64_t next_seq;
};

struct moment {
  struct sim_fs *fs;
  struct oracle oracle;
  int frames_count; /* written by then */
};

struct crash {
  const char *name;
  int depth; /* 0: a workload, 1: the recovery after its crash, 2: the recovery after a crash of that recovery */
  struct sim sim;
  struct oracle oracle;
  struct flume_log_options options;
  struct flume_log *log;
  struct moment *moments;
  int moments_count, moments_cap;
  struct frame_copy *frames;
  int frames_count, frames_cap;
  int frames_borrowed; /* the number of frames that belong to the crash before */
  int sample_states;   /* the approximate number of states that are tried without FLUME_CRASH=all */
  bool rewrites;       /* frames are rewritten elsewhere, so the copies are not compared */
  bool offset;         /* an offset log: seqs are byte offsets, and a batch is no frame */
  /* A workload's own checks, before the log is opened and after it was tried. NULL: none. */
  bool (*before)(struct crash *crash);
  bool (*after)(struct crash *crash);
};

static uv_loop_t crash_loop;
static struct flume_err crash_err;

/* The number of states that were tried. The states of one workload differ from each other. */
static uint64_t crash_states;

static inline bool crash_all(void) {
  const char *text = getenv("FLUME_CRASH");
  return text != NULL && strcmp(text, "all") == 0;
}

/* --- States that were seen ---------------------------------------------------------------------------------------- */

static struct {
  uint64_t *hashes; /* 0: free */
  size_t cap, count;
} seen;

static inline void seen_clear(void) {
  free(seen.hashes);
  memset(&seen, 0, sizeof seen);
}

static inline bool seen_insert(uint64_t *hashes, size_t cap, uint64_t hash) {
  size_t at = hash & (cap - 1);
  while (hashes[at] != 0 && hashes[at] != hash) at = (at + 1) & (cap - 1);
  if (hashes[at] == hash) return false;
  hashes[at] = hash;
  return true;
}

static inline bool seen_add(uint64_t hash) {
  if (hash == 0) hash = 1;
  if (2 * seen.count >= seen.cap) {
    size_t cap = seen.cap > 0 ? 2 * seen.cap : 1024;
    uint64_t *hashes = calloc(cap, sizeof *hashes);
    MUST(hashes != NULL);
    for (size_t i = 0; i < seen.cap; i++) {
      if (seen.hashes[i] != 0) seen_insert(hashes, cap, seen.hashes[i]);
    }
    free(seen.hashes);
    seen.hashes = hashes;
    seen.cap = cap;
  }
  bool is_new = seen_insert(seen.hashes, seen.cap, hash);
  seen.count += is_new;
  return is_new;
}

static inline uint64_t oracle_hash(const struct oracle *oracle) {
  uint64_t state = (uint64_t)oracle->since * 31 + (uint64_t)oracle->submitted, hash = random_next(&state);
  hash ^= (uint64_t)(oracle->backup_since + 2) * 2 + oracle->repaired;
  for (int64_t seq = 0; seq < oracle->submitted; seq++) {
    const struct oracle_record *record = &oracle->records[seq];
    state ^= record->key * 4 + record->deleting * 2u + record->deleted;
    hash ^= random_next(&state);
  }
  return hash;
}

/* --- Keeping the moments ------------------------------------------------------------------------------------------ */

static inline void *grown(void *items, int count, int *cap, size_t size) {
  if (count < *cap) return items;
  *cap = *cap > 0 ? 2 * *cap : 16;
  items = realloc(items, (size_t)*cap * size);
  MUST(items != NULL);
  return items;
}

static inline void note_frame(struct crash *crash, const struct sim *sim) {
  if (sim->written == NULL || sim->written_bytes < FLUME_FRAME_HEADER_BYTES) return;
  if (flume_get_le32(sim->written) != FLUME_FRAME_MAGIC || flume_get_le16(sim->written + 8) != FLUME_FRAME_DATA) return;
  if (sim->written_bytes != FLUME_FRAME_HEADER_BYTES + flume_get_le32(sim->written + 16)) return; /* the disk is full */
  crash->frames = grown(crash->frames, crash->frames_count, &crash->frames_cap, sizeof *crash->frames);
  struct frame_copy *frame = &crash->frames[crash->frames_count++];
  *frame = (struct frame_copy){.inode = sim->written_inode, .off = sim->written_off, .len = sim->written_bytes};
  frame->data = malloc(frame->len);
  MUST(frame->data != NULL);
  memcpy(frame->data, sim->written, frame->len);
  frame->first_seq = (int64_t)flume_get_le64(frame->data + 24);
  frame->next_seq = frame->first_seq + flume_get_le32(frame->data + 12);
}

static inline void on_crash_change(struct sim *sim, void *arg) {
  struct crash *crash = arg;
  note_frame(crash, sim);
  crash->moments = grown(crash->moments, crash->moments_count, &crash->moments_cap, sizeof *crash->moments);
  struct moment *moment = &crash->moments[crash->moments_count++];
  moment->fs = sim_fs_copy(sim->fs);
  moment->oracle = crash->oracle;
  moment->frames_count = crash->frames_count;
}

/* Forgets the moments so far. */
static inline void crash_forget(struct crash *crash) {
  for (int i = 0; i < crash->moments_count; i++) sim_fs_free(crash->moments[i].fs);
  crash->moments_count = 0;
}

static inline void crash_init(struct crash *crash, const char *name, int depth, struct sim_fs *fs) {
  memset(crash, 0, sizeof *crash);
  crash->name = name;
  crash->depth = depth;
  crash->oracle.since = -1;
  crash->oracle.backup_since = -2;
  crash->sample_states = depth == 0 ? SAMPLE_STATES : SAMPLE_FOLLOWING_STATES;
  sim_init(&crash->sim, fs);
  crash->options.io = &crash->sim.io;
  crash->sim.on_change = on_crash_change;
  crash->sim.arg = crash;
}

static inline void crash_fini(struct crash *crash) {
  CHECK_INT_EQ(sim_open_files(&crash->sim), 0);
  CHECK_INT_EQ(atomic_load(&crash->sim.allocations), 0);
  crash_forget(crash);
  for (int i = crash->frames_borrowed; i < crash->frames_count; i++) free(crash->frames[i].data);
  free(crash->moments);
  free(crash->frames);
  sim_fini(&crash->sim);
}

/* --- Seqs of an offset log ---------------------------------------------------------------------------------------- */

#define CRASH_FRAMING_BYTES 12 /* around a record */

/* From the oracle's record numbers 0, 1, 2 ... to the log's seqs, and back. -1 stays -1. */
static inline int64_t crash_seq_of(const struct crash *crash, int64_t number) {
  int64_t seq = 0;
  if (!crash->offset || number < 0) return number;
  for (int64_t i = 0; i < number; i++) seq += crash->oracle.records[i].len + CRASH_FRAMING_BYTES;
  return seq;
}

static inline int64_t crash_number_of(const struct crash *crash, int64_t seq) {
  int64_t number = 0;
  if (!crash->offset || seq < 0) return seq;
  while (number < crash->oracle.submitted && crash_seq_of(crash, number) < seq) number++;
  CHECK_INT_EQ(crash_seq_of(crash, number), seq);
  return number;
}

/* The number of the log's last record. */
static inline int64_t crash_since(const struct crash *crash) {
  return crash_number_of(crash, flume_log_since(crash->log));
}

/* --- What a workload does ----------------------------------------------------------------------------------------- */

static inline bool crash_try_open(struct crash *crash) {
  int rv = crash->offset ? flume_log_open_offset(&crash->log, &crash_loop, CRASH_DIR, &crash->options, &crash_err)
                         : flume_log_open(&crash->log, &crash_loop, CRASH_DIR, &crash->options, &crash_err);
  if (rv == 0) return true;
  crash->log = NULL;
  loop_drain(&crash_loop);
  return false;
}

static inline void crash_open(struct crash *crash) {
  if (!crash_try_open(crash)) printf("%s\n", crash_err.msg);
  MUST(crash->log != NULL);
}

static inline void crash_close(struct crash *crash) {
  log_close_wait(crash->log, &crash_loop);
  crash->log = NULL;
}

/* The next count records, each of len bytes, in slices that crash_release frees. */
static inline void crash_take(struct crash *crash, struct flume_slice *records, int count, uint32_t len) {
  sim_lock(&crash->sim);
  for (int i = 0; i < count; i++) {
    int64_t seq = crash->oracle.submitted++;
    MUST(seq < CRASH_RECORDS_MAX);
    struct oracle_record *record = &crash->oracle.records[seq];
    *record = (struct oracle_record){.key = seq % 5 == 3 ? 0 : (uint64_t)seq + 1, .len = len, .ends = i == count - 1};
    records[i] = slice(payload_new(len, record->key), len);
  }
  sim_unlock(&crash->sim);
}

static inline void crash_release(struct flume_slice *records, int count) {
  for (int i = 0; i < count; i++) free((void *)records[i].data);
}

static inline void crash_promise(struct crash *crash, int64_t since) {
  sim_lock(&crash->sim);
  if (since > crash->oracle.since) crash->oracle.since = since;
  sim_unlock(&crash->sim);
}

/* An acknowledged append is durable only in this mode. */
static inline void crash_acknowledged(struct crash *crash, int64_t seq) {
  if (crash->options.sync == FLUME_SYNC_ALWAYS) crash_promise(crash, seq);
}

/* Whether the result is right: on a failing disk an error is. */
static inline bool crash_check(const struct crash *crash, int rv) {
  if (rv == UV_EIO && crash->sim.failing_sync > 0) return false;
  if (rv == UV_ENOSPC && crash->sim.capacity_bytes > 0) return false;
  return CHECK_INT_EQ(rv, 0);
}

/* Appends a batch and waits for it. */
static inline void crash_append(struct crash *crash, int count, uint32_t len) {
  struct flume_slice records[32];
  int64_t seq = -1;
  if (crash->log->failure.code != 0) return;
  crash_take(crash, records, count, len);
  if (crash_check(crash, flume_log_append_wait(crash->log, records, (size_t)count, &seq, &crash_err))) {
    crash_acknowledged(crash, crash_number_of(crash, seq));
  }
  crash_release(records, count);
}

static inline void crash_sync(struct crash *crash) {
  int64_t since = crash_since(crash);
  if (crash_check(crash, log_sync(crash->log, &crash_loop))) crash_promise(crash, since);
}

/* A record whose delete was acknowledged is on the disk, as its delete is. */
static inline void crash_del(struct crash *crash, const int64_t *numbers, size_t count) {
  int64_t since = crash_since(crash), seqs[CRASH_RECORDS_MAX];
  sim_lock(&crash->sim);
  for (size_t i = 0; i < count; i++) crash->oracle.records[numbers[i]].deleting = true;
  for (size_t i = 0; i < count; i++) seqs[i] = crash_seq_of(crash, numbers[i]);
  sim_unlock(&crash->sim);
  if (!crash_check(crash, log_del(crash->log, &crash_loop, seqs, count))) return;
  sim_lock(&crash->sim);
  for (size_t i = 0; i < count; i++) crash->oracle.records[numbers[i]].deleted = true;
  sim_unlock(&crash->sim);
  crash_promise(crash, since);
}

/* --- Checking the promises ---------------------------------------------------------------------------------------- */

static inline bool oracle_is(const struct oracle_record *expected, struct flume_log *log, int64_t seq) {
  struct flume_record record;
  int rv = flume_log_get(log, seq, &record, &crash_err);
  if (rv == FLUME_EDELETED) return CHECK(expected->deleting);
  if (!CHECK_INT_EQ(rv, 0)) printf("%s\n", crash_err.msg);
  if (rv != 0) return false;
  bool good = CHECK(!expected->deleted);
  good &= CHECK(record.len == expected->len && payload_is(record.data, record.len, expected->key));
  flume_record_release(&record);
  return good;
}

static inline bool stream_is_whole(const struct crash *crash, struct flume_log *log) {
  struct flume_stream *stream;
  struct flume_range range;
  struct flume_record record;
  flume_range_init(&range);
  MUST(flume_stream_open(&stream, log, &range, NULL) == 0);
  int64_t count = 0;
  int rv;
  while ((rv = flume_stream_peek(stream, &record, &crash_err)) == 1) count++;
  flume_stream_close(stream);
  int64_t since = flume_log_since(log);
  int64_t records = crash_number_of(crash, since) + 1;
  return CHECK_INT_EQ(rv, 0) && CHECK_INT_EQ(count, records - flume__log_deleted_count(log, since));
}

static inline bool keeps_promises(const struct crash *crash, struct flume_log *log) {
  const struct oracle *oracle = &crash->oracle;
  int64_t since = crash_number_of(crash, flume_log_since(log));
  bool good = CHECK(since >= oracle->since) && CHECK(since < oracle->submitted);
  if (!good)
    printf("there are %lld records, %lld were promised and %lld submitted\n", (long long)since + 1,
           (long long)oracle->since + 1, (long long)oracle->submitted);
  good = good && CHECK(since < 0 || crash->offset || oracle->records[since].ends);
  for (int64_t number = 0; good && number <= since; number++) {
    good = oracle_is(&oracle->records[number], log, crash_seq_of(crash, number));
  }
  return good && stream_is_whole(crash, log);
}

static inline bool is_whole(const struct sim_fs *fs, const struct frame_copy *frame) {
  const char *name = sim_fs_name_of(fs, frame->inode);
  size_t len = name != NULL ? strlen(name) : 0, suffix_len = strlen(FLUME_SEGMENT_SUFFIX);
  return len > suffix_len && strcmp(name + len - suffix_len, FLUME_SEGMENT_SUFFIX) == 0 &&
         sim_fs_has(fs, frame->inode, frame->off, frame->data, frame->len);
}

/* The number of records whose frames are whole on the disk, up to the first missing record. */
static inline int64_t whole_since(const struct sim_fs *fs, const struct frame_copy *frames, int count) {
  int64_t next_seq = 0;
  for (int i = 0; i < count; i++) {
    if (frames[i].first_seq != next_seq || !is_whole(fs, &frames[i])) continue;
    next_seq = frames[i].next_seq;
    i = -1;
  }
  return next_seq - 1;
}

/* Opens the log for reading, which changes nothing except that it may sync. *since is the last record that the reader
 * sees; the writer must see the same. */
static inline bool reads(struct crash *crash, int64_t *since) {
  uint64_t before = sim_fs_hash(crash->sim.fs);
  *since = -1;
  crash->options.readonly = true;
  bool opened = crash_try_open(crash);
  crash->options.readonly = false;
  if (!opened) return CHECK_INT_EQ(crash_err.code, FLUME_ENOENT);
  *since = crash_since(crash);
  bool good = keeps_promises(crash, crash->log);
  crash_close(crash);
  crash_forget(crash);
  return good && CHECK(sim_fs_hash(crash->sim.fs) == before);
}

/* A recovered delete is promised from now on; a delete that was not recovered never happened. */
static inline void promise_deletes(struct crash *crash) {
  struct flume_log *log = crash->log;
  for (int64_t number = 0; number <= crash_since(crash); number++) {
    struct oracle_record *record = &crash->oracle.records[number];
    int64_t seq = crash_seq_of(crash, number);
    record->deleting = record->deleted = flume__log_deleted_count(log, seq) > flume__log_deleted_count(log, seq - 1);
  }
}

static inline bool takes_a_probe(struct crash *crash) {
  int64_t since = crash_since(crash), seq = -1;
  uint8_t data[PROBE_LEN];
  struct oracle_record probe = {.key = 0x900d + (uint64_t)crash->depth, .len = PROBE_LEN, .ends = true};
  payload_fill(data, sizeof data, probe.key);
  struct flume_slice record = slice(data, sizeof data);
  sim_lock(&crash->sim);
  promise_deletes(crash);
  crash->oracle.since = since; /* recovered records are promised from now on */
  crash->oracle.submitted = since + 2;
  crash->oracle.records[since + 1] = probe;
  sim_unlock(&crash->sim);
  if (!CHECK_INT_EQ(flume_log_append_wait(crash->log, &record, 1, &seq, &crash_err), 0)) return false;
  seq = crash_number_of(crash, seq);
  crash_acknowledged(crash, seq);
  if (since >= 0) crash_del(crash, &since, 1);
  return CHECK_INT_EQ(seq, since + 1);
}

static inline bool goes_on(struct crash *crash, int64_t since) {
  if (!CHECK(crash_try_open(crash))) {
    printf("%s\n", crash_err.msg);
    return false;
  }
  bool good = CHECK_INT_EQ(crash_since(crash), since) && keeps_promises(crash, crash->log) && takes_a_probe(crash);
  crash_close(crash);
  if (!good) return false;
  crash_promise(crash, crash->oracle.submitted - 1);
  crash_open(crash);
  good = keeps_promises(crash, crash->log);
  crash_close(crash);
  return good;
}

static inline bool keeps_all(struct crash *crash, int64_t whole) {
  int64_t since;
  if (crash->before != NULL && !crash->before(crash)) return false;
  if (!reads(crash, &since)) return false;
  if (!crash->rewrites && !CHECK_INT_EQ(since, whole)) return false;
  return goes_on(crash, since) && (crash->after == NULL || crash->after(crash));
}

static inline void crash_try_each(struct crash *crash);

static inline void borrow_frames(struct crash *crash, const struct crash *before, int count) {
  for (int i = 0; i < count; i++) {
    crash->frames = grown(crash->frames, crash->frames_count, &crash->frames_cap, sizeof *crash->frames);
    crash->frames[crash->frames_count++] = before->frames[i];
  }
  crash->frames_borrowed = count;
}

/* Recovers from fs, the disk after a crash. Takes ownership of fs. */
static inline bool try_state(const struct crash *before, struct sim_fs *fs, const struct moment *moment) {
  static struct crash rooms[DEPTH_MAX];
  struct crash *crash = &rooms[before->depth];
  int64_t whole = whole_since(fs, before->frames, moment->frames_count);
  crash_init(crash, before->name, before->depth + 1, fs);
  borrow_frames(crash, before, moment->frames_count);
  crash->oracle = moment->oracle;
  crash->options.sync = before->options.sync;
  crash->options.segment_bytes = before->options.segment_bytes;
  crash->options.interval_ms = before->options.interval_ms;
  crash->rewrites = before->rewrites;
  crash->offset = before->offset;
  crash->before = before->before;
  crash->after = before->after;
  crash_states++;
  bool good = keeps_all(crash, whole);
  if (good) crash_try_each(crash);
  crash_fini(crash);
  return good && !test_failed;
}

/* --- Choosing ----------------------------------------------------------------------------------------------------- */

static inline struct sim_limits limits_of(const struct crash *crash) {
  if (crash->depth == 0) return (struct sim_limits){.exhaustive_items = 12, .random_subsets = 64};
  return (struct sim_limits){.exhaustive_items = crash_all() ? 10 : 4, .random_subsets = crash_all() ? 32 : 1};
}

static inline uint64_t count_crashes(const struct crash *crash) {
  struct sim_crashes crashes;
  uint64_t count = 0;
  for (int i = 0; i < crash->moments_count; i++) {
    sim_crashes_init(&crashes, crash->moments[i].fs, limits_of(crash), 1);
    while (sim_crashes_next(&crashes)) count++;
  }
  return count;
}

static inline void try_power_cuts(struct crash *crash, int i, uint64_t stride, uint64_t *turn) {
  struct moment *moment = &crash->moments[i];
  struct sim_crashes crashes;
  sim_crashes_init(&crashes, moment->fs, limits_of(crash), 1);
  while (!test_failed && sim_crashes_next(&crashes)) {
    if ((*turn)++ % stride != 0) continue;
    struct sim_fs *fs = sim_fs_crash(moment->fs, crashes.survives);
    if (!seen_add(sim_fs_hash(fs) ^ oracle_hash(&moment->oracle))) {
      sim_fs_free(fs);
      continue;
    }
    if (try_state(crash, fs, moment)) continue;
    printf("  %s, crash %d: the power went after operation %d of %d with%s\n", crash->name, crash->depth + 1, i + 1,
           crash->moments_count, sim_crashes_text(&crashes));
  }
}

static inline void try_kill(struct crash *crash, int i) {
  if (crash->depth + 1 >= DEPTH_MAX || test_failed) return; /* a kill alone loses nothing: a power cut must follow */
  if (try_state(crash, sim_fs_copy(crash->moments[i].fs), &crash->moments[i])) return;
  printf("  %s, crash %d: killed after operation %d of %d\n", crash->name, crash->depth + 1, i + 1,
         crash->moments_count);
}

static inline void crash_try_each(struct crash *crash) {
  if (crash->depth >= DEPTH_MAX) return;
  uint64_t stride = crash_all() ? 1 : count_crashes(crash) / (uint64_t)crash->sample_states + 1, turn = 0;
  int kill_stride = crash_all() ? 1 : 1 + crash->moments_count * 4 / crash->sample_states;
  for (int i = 0; i < crash->moments_count; i++) {
    try_power_cuts(crash, i, stride, &turn);
    if (i % kill_stride == 0 || i == crash->moments_count - 1) try_kill(crash, i);
  }
}

static inline void crash_begin(struct crash *crash, const char *name) {
  MUST(uv_loop_init(&crash_loop) == 0);
  crash_init(crash, name, 0, sim_fs_new());
}

static inline void crash_end(struct crash *crash) {
  if (crash->log != NULL) crash_close(crash);
  crash_try_each(crash);
  crash_fini(crash);
  seen_clear();
  loop_end(&crash_loop);
}

static inline void crash_report(const char *name, uint64_t states_before) {
  printf("%s: %llu crash states\n", name, (unsigned long long)(crash_states - states_before));
}

static inline void crash_workload(const char *name, void (*run)(struct crash *crash)) {
  static struct crash crash;
  uint64_t before = crash_states;
  crash_begin(&crash, name);
  run(&crash);
  crash_end(&crash);
  crash_report(name, before);
}

#define CRASH(id)                      \
  static void id(struct crash *crash); \
  TEST(id##_crashes) {                 \
    crash_workload(#id, id);           \
  }                                    \
  static void id(struct crash *crash)

#endif
