/* Threads that read a log while its owner appends, deletes, begins segments and compacts; the listeners; and making records
 * durable from another thread. Meant to be run with -fsanitize=thread as well. */
#include "support.h"

#include "log/log.h"

#define READERS 2
#define ROUNDS 400         /* of the owner, at least */
#define KEPT_DELETIONS 300 /* what is deleted beyond so many is not compacted */
#define READER_ROUNDS 300  /* of each reader, at least */

enum where { IN_MEMORY, IN_SEGMENTS, IN_OFFSET_FILE };

struct fixture {
  enum where where;
  uv_loop_t loop;
  char root[TEST_PATH_MAX];
  char path[TEST_PATH_MAX + 8];
  struct flume_log_options options;
  struct faults faults;
  struct flume_log *log;
  struct flume_err err;
  uint64_t random;
  uint64_t next_key;
};

static struct flume_log *open_with(struct fixture *f, const struct flume_log_options *options) {
  struct flume_log *log = NULL;
  int rv = f->where == IN_MEMORY     ? flume_log_open_memory(&log, &f->loop, options, &f->err)
           : f->where == IN_SEGMENTS ? flume_log_open(&log, &f->loop, f->path, options, &f->err)
                                     : flume_log_open_offset(&log, &f->loop, f->path, options, &f->err);
  if (rv != 0) printf("%s\n", f->err.msg);
  MUST(rv == 0);
  return log;
}

static void fixture_init(struct fixture *f, enum where where, enum flume_sync sync) {
  memset(f, 0, sizeof *f);
  f->where = where;
  f->random = random_seed();
  MUST(uv_loop_init(&f->loop) == 0);
  temp_dir(f->root);
  snprintf(f->path, sizeof f->path, "%s/log", f->root);
  faults_init(&f->faults);
  f->options = (struct flume_log_options){.sync = sync, .interval_ms = 1, .segment_bytes = 8192, .io = &f->faults.io};
  f->log = open_with(f, &f->options);
}

static void fixture_fini(struct fixture *f) {
  log_close_wait(f->log, &f->loop);
  loop_end(&f->loop);
  CHECK_INT_EQ(atomic_load(&f->faults.files), 0);
  CHECK_INT_EQ(atomic_load(&f->faults.allocations), 0);
  remove_dir(f->root);
}

/* --- Records that can be recognised: a key, and what it gives ---------------------------------------------------- */

#define RECORD_MAX 300

static size_t record_fill(uint8_t *out, uint64_t key) {
  size_t len = 16 + key * 37 % (RECORD_MAX - 16);
  memcpy(out, &key, 8);
  payload_fill(out + 8, len - 8, key);
  return len;
}

static bool record_is_good(const uint8_t *data, uint32_t len) {
  uint64_t key;
  if (len < 16) return false;
  memcpy(&key, data, 8);
  return key > 0 && len == 16 + key * 37 % (RECORD_MAX - 16) && payload_is(data + 8, len - 8, key);
}

/* --- Readers ------------------------------------------------------------------------------------------------------ */

struct reader {
  uv_thread_t thread;
  struct flume_log *log;
  uint64_t random;
  bool syncs;
  atomic_int rounds;
  atomic_bool *stop;
  /* What went wrong; the checks of a test are its main thread's. */
  int bad_records, bad_marks, bad_counts, bad_errors;
  atomic_int blocks, deleted;
};

static void expect(int *bad, bool ok) {
  if (!ok) ++*bad;
}

/* A deletion that the block knows of is marked in it; another one may be. */
static void check_marks(struct reader *r, const struct flume_block *block) {
  for (int64_t n = 0; n < block->deletions; n++) {
    int64_t seq = flume__log_deletion_at(r->log, n);
    if (seq < block->first_seq || seq > flume_block_last_seq(block)) continue;
    uint32_t i = flume_block_find(block, seq);
    if (flume_block_seq(block, i) == seq) expect(&r->bad_marks, block->offsets[i] == FLUME_BLOCK_GONE);
  }
}

static void read_block(struct reader *r, int64_t since) {
  bool reverse = random_below(&r->random, 2) == 0;
  int64_t seq = (int64_t)(random_next(&r->random) % (uint64_t)(since + 1));
  size_t max_bytes = 1 + random_below(&r->random, 20000);
  struct flume_block *block;
  struct flume_err err;
  int rv = flume__log_plan(r->log, seq, reverse, max_bytes, &block, &err);
  expect(&r->bad_errors, rv == 0);
  if (rv != 0) return;
  expect(&r->bad_errors, flume_block_load(block, &err) == 0);
  expect(&r->bad_counts, flume_block_last_seq(block) <= r->log->since.value);
  for (uint32_t i = 0; i < block->count; i++) {
    uint32_t len = 0;
    const uint8_t *data = flume_block_get(block, i, &len);
    if (data != NULL) expect(&r->bad_records, record_is_good(data, len));
  }
  check_marks(r, block);
  atomic_fetch_add(&r->blocks, 1);
  flume_block_unref(block);
}

static void read_deletions(struct reader *r, int64_t since) {
  int64_t count = r->log->deletions.value;
  int64_t deleted = flume__log_deleted_count(r->log, since);
  expect(&r->bad_counts, deleted >= 0 && deleted <= r->log->deletions.value);
  if (count == 0) return;
  int64_t seq = flume__log_deletion_at(r->log, (int64_t)(random_next(&r->random) % (uint64_t)count));
  struct flume_block *block;
  struct flume_err err;
  expect(&r->bad_counts, seq <= r->log->since.value && !flume__log_is_lost(r->log, seq));
  expect(&r->bad_counts, flume__log_deleted_count(r->log, seq) >= 1);
  int rv = flume__log_read_deleted(r->log, seq, &block, &err);
  expect(&r->bad_errors, rv == 0 || rv == FLUME_ENOENT);
  if (rv != 0) return;
  uint32_t len = 0;
  const uint8_t *data = flume_block_get(block, 0, &len);
  expect(&r->bad_records, record_is_good(data, len));
  flume_block_unref(block);
  atomic_fetch_add(&r->deleted, 1);
}

static void read_one(struct reader *r, int64_t since) {
  struct flume_record record;
  struct flume_err err;
  uint32_t digest;
  int rv = flume_log_get(r->log, since, &record, &err);
  expect(&r->bad_errors, rv == 0 || rv == FLUME_EDELETED);
  if (rv == 0) {
    expect(&r->bad_records, record_is_good(record.data, record.len));
    flume_record_release(&record);
  }
  rv = flume__log_digest(r->log, since, &digest, &err);
  expect(&r->bad_errors, rv == 0 || rv == FLUME_EDELETED);
}

static void sync_some(struct reader *r, int64_t since) {
  struct flume_err err;
  expect(&r->bad_errors, flume__log_sync_now(r->log, since, &err) == 0);
  expect(&r->bad_counts, r->log->durable_seq >= since);
}

static void reader_run(void *arg) {
  struct reader *r = arg;
  int64_t last_since = -1;
  while (!atomic_load(r->stop) || atomic_load(&r->rounds) < READER_ROUNDS) {
    int64_t durable = r->log->durable_seq;
    int64_t since = r->log->since.value;
    expect(&r->bad_counts, since >= last_since && durable <= since);
    last_since = since;
    if (since < 0) continue;
    read_block(r, since);
    read_deletions(r, since);
    read_one(r, since);
    if (r->syncs && atomic_load(&r->rounds) % 16 == 0) sync_some(r, since);
    atomic_fetch_add(&r->rounds, 1);
  }
}

static void readers_start(struct reader *readers, struct fixture *f, struct flume_log *log, atomic_bool *stop,
                          bool syncs) {
  memset(readers, 0, READERS * sizeof *readers);
  for (int i = 0; i < READERS; i++) {
    readers[i].log = log;
    readers[i].random = random_next(&f->random);
    readers[i].stop = stop;
    readers[i].syncs = syncs;
    MUST(uv_thread_create(&readers[i].thread, reader_run, &readers[i]) == 0);
  }
}

/* An offset log has no bytes of deleted records. */
static bool readers_are_slow(const struct reader *readers) {
  for (int i = 0; i < READERS; i++) {
    bool keeps_deleted = strcmp(readers[i].log->ops->kind, "offset") != 0;
    if (atomic_load(&readers[i].rounds) < READER_ROUNDS) return true;
    if (keeps_deleted && atomic_load(&readers[i].deleted) == 0) return true;
  }
  return false;
}

static void readers_end(struct reader *readers, atomic_bool *stop) {
  atomic_store(stop, true);
  for (int i = 0; i < READERS; i++) {
    struct reader *r = &readers[i];
    MUST(uv_thread_join(&r->thread) == 0);
    CHECK_INT_EQ(r->bad_records, 0);
    CHECK_INT_EQ(r->bad_marks, 0);
    CHECK_INT_EQ(r->bad_counts, 0);
    CHECK_INT_EQ(r->bad_errors, 0);
    CHECK(atomic_load(&r->blocks) > 0);
  }
}

/* --- The owner ---------------------------------------------------------------------------------------------------- */

static int64_t seqs[1 << 20]; /* of all records */
static size_t seqs_count;

/* One to four records, in one of the two ways. */
static void append_some(struct fixture *f) {
  uint8_t bytes[4][RECORD_MAX];
  struct flume_slice records[4];
  size_t count = 1 + random_below(&f->random, 4), framing = 0;
  for (size_t i = 0; i < count; i++) records[i] = slice(bytes[i], record_fill(bytes[i], ++f->next_key));
  int64_t seq = -1;
  int rv = FLUME_EBUSY; /* also when the interval's sync is on its way */
  if (random_below(&f->random, 3) > 0) rv = flume_log_append_wait(f->log, records, count, &seq, &f->err);
  if (rv == FLUME_EBUSY) rv = log_append(f->log, &f->loop, records, count, &seq);
  if (!CHECK_INT_EQ(rv, 0)) return;
  MUST(seqs_count + count <= sizeof seqs / sizeof *seqs);
  if (f->where == IN_OFFSET_FILE) framing = 12;
  for (size_t i = count; i-- > 0;) {
    seqs[seqs_count + i] = seq;
    if (i > 0) seq -= framing > 0 ? (int64_t)(records[i - 1].len + framing) : 1;
  }
  seqs_count += count;
}

static void delete_some(struct fixture *f) {
  int64_t gone[3];
  for (int i = 0; i < 3; i++) gone[i] = seqs[random_next(&f->random) % seqs_count];
  CHECK_INT_EQ(log_del(f->log, &f->loop, gone, 3), 0);
}

struct compact_answer {
  struct flume_compact req;
  int calls;
  int status;
};

static void on_compacted(struct flume_compact *req, int status, const struct flume_err *err) {
  struct compact_answer *answer = FLUME_CONTAINER_OF(req, struct compact_answer, req);
  if (err != NULL) printf("%s\n", err->msg);
  answer->calls++;
  answer->status = status;
}

static void compact_all(struct fixture *f) {
  struct compact_answer answer = {.calls = 0};
  REQUIRE(flume_log_compact(f->log, &answer.req, on_compacted, &f->err) == 0);
  while (answer.calls == 0) uv_run(&f->loop, UV_RUN_ONCE);
  CHECK_INT_EQ(answer.status, 0);
}

static void own(struct fixture *f, const struct reader *readers) {
  seqs_count = 0;
  append_some(f);
  for (int round = 0; round < ROUNDS || readers_are_slow(readers); round++) {
    if (seqs_count < 20000) append_some(f);
    if (round % 8 == 0 && f->log->deletions.value < KEPT_DELETIONS + 100) delete_some(f);
    if (round % 64 == 63 && f->log->deletions.value < KEPT_DELETIONS) compact_all(f);
    uv_run(&f->loop, UV_RUN_NOWAIT);
  }
}

static void read_beside_owner(enum where where, enum flume_sync sync) {
  static struct fixture f;
  struct reader readers[READERS];
  atomic_bool stop = false;
  fixture_init(&f, where, sync);
  readers_start(readers, &f, f.log, &stop, true);
  own(&f, readers);
  readers_end(readers, &stop);
  fixture_fini(&f);
}

TEST(readers_beside_the_owner_in_memory) {
  read_beside_owner(IN_MEMORY, FLUME_SYNC_ALWAYS);
}
TEST(readers_beside_the_owner_with_syncs) {
  read_beside_owner(IN_SEGMENTS, FLUME_SYNC_ALWAYS);
}
TEST(readers_beside_the_owner_with_few_syncs) {
  read_beside_owner(IN_SEGMENTS, FLUME_SYNC_INTERVAL);
}
TEST(readers_beside_the_owner_without_syncs) {
  read_beside_owner(IN_SEGMENTS, FLUME_SYNC_OS);
}
TEST(readers_beside_the_owner_of_an_offset_log) {
  read_beside_owner(IN_OFFSET_FILE, FLUME_SYNC_ALWAYS);
}
TEST(readers_beside_the_owner_of_an_offset_log_with_few_syncs) {
  read_beside_owner(IN_OFFSET_FILE, FLUME_SYNC_INTERVAL);
}

/* A follower's owner reads the files while other threads plan on what it has. */
static void read_beside_follower(enum where where) {
  static struct fixture f;
  struct reader readers[READERS];
  atomic_bool stop = false;
  fixture_init(&f, where, FLUME_SYNC_ALWAYS);
  append_some(&f);
  struct flume_log_options options = f.options;
  options.readonly = true;
  struct flume_log *follower = open_with(&f, &options);
  readers_start(readers, &f, follower, &stop, true);
  own(&f, readers);
  while (follower->since.value < f.log->since.value || follower->deletions.value < f.log->deletions.value) {
    uv_run(&f.loop, UV_RUN_ONCE);
  }
  readers_end(readers, &stop);
  CHECK_INT_EQ(flume_log_following(follower, NULL), FLUME_FOLLOWING_EVENTS);
  log_close_wait(follower, &f.loop);
  fixture_fini(&f);
}

TEST(readers_beside_a_follower) {
  read_beside_follower(IN_SEGMENTS);
}
TEST(readers_beside_a_follower_of_an_offset_log) {
  read_beside_follower(IN_OFFSET_FILE);
}

/* A log that was closed in order and is opened again has its active segment unloaded: any thread may be the first. */
TEST(a_reader_is_the_first_to_read_the_active_segment) {
  static struct fixture f;
  for (int i = 0; i < 20; i++) {
    struct reader readers[READERS];
    atomic_bool stop = false;
    fixture_init(&f, IN_SEGMENTS, FLUME_SYNC_ALWAYS);
    seqs_count = 0;
    for (int n = 0; n < 10; n++) append_some(&f);
    log_close_wait(f.log, &f.loop);
    f.log = open_with(&f, &f.options);
    readers_start(readers, &f, f.log, &stop, false);
    if (i % 2 == 0) append_some(&f);
    readers_end(readers, &stop);
    fixture_fini(&f);
  }
}

/* --- Listeners ---------------------------------------------------------------------------------------------------- */

struct ear {
  struct flume_log_listener listener;
  struct flume_log *log;
  uv_thread_t thread;
  int calls;
  int64_t since, durable, deletions;
  bool locked;
};

static void on_moved(struct flume_log_listener *listener) {
  struct ear *ear = FLUME_CONTAINER_OF(listener, struct ear, listener);
  ear->calls++;
  ear->thread = uv_thread_self();
  ear->since = ear->log->since.value;
  ear->durable = ear->log->durable_seq;
  ear->deletions = ear->log->deletions.value;
  ear->locked = ear->locked || flume__log_is_locked(ear->log);
  if (ear->deletions > 0) CHECK_INT_EQ(flume__log_deletion_at(ear->log, 0), 0); /* it may read */
}

static void listens(enum where where, int64_t last_seq) {
  static struct fixture f;
  fixture_init(&f, where, FLUME_SYNC_ALWAYS);
  struct ear ear = {.listener = {.moved = on_moved}, .log = f.log};
  flume__log_listen(f.log, &ear.listener);
  struct flume_slice records[] = {slice_text("a"), slice_text("b")};
  int64_t seq;
  CHECK_INT_EQ(flume_log_append_wait(f.log, records, 2, &seq, &f.err), 0); /* the loop does not turn */
  CHECK_INT_EQ(ear.calls, 1);
  CHECK_INT_EQ(ear.since, last_seq);
  CHECK_INT_EQ(ear.durable, last_seq);
  int calls = ear.calls;
  int64_t gone = 0;
  CHECK_INT_EQ(log_del(f.log, &f.loop, &gone, 1), 0);
  CHECK(ear.calls > calls);
  CHECK_INT_EQ(ear.deletions, 1);
  CHECK(!ear.locked);
  flume__log_unlisten(f.log, &ear.listener);
  calls = ear.calls;
  CHECK_INT_EQ(flume_log_append_wait(f.log, records, 2, &seq, &f.err), 0);
  CHECK_INT_EQ(ear.calls, calls);
  fixture_fini(&f);
}

TEST(listeners_are_told_without_the_loop_in_memory) {
  listens(IN_MEMORY, 1);
}
TEST(listeners_are_told_without_the_loop) {
  listens(IN_SEGMENTS, 1);
}
TEST(listeners_are_told_without_the_loop_of_an_offset_log) {
  listens(IN_OFFSET_FILE, 13);
}

/* --- Syncs by other threads ---------------------------------------------------------------------------------------- */

/* While it is shut, syncs stop at the gate: entered is posted when one is there, and go lets one through. */
static struct {
  atomic_bool shut;
  uv_sem_t entered, go;
} gate;

static int gate_sync(void *ctx, int file) {
  if (atomic_load(&gate.shut)) {
    uv_sem_post(&gate.entered);
    uv_sem_wait(&gate.go);
  }
  return fault_sync(ctx, file);
}

static void gate_init(struct fixture *f) {
  MUST(uv_sem_init(&gate.entered, 0) == 0 && uv_sem_init(&gate.go, 0) == 0);
  atomic_store(&gate.shut, false);
  f->faults.io.sync = gate_sync; /* the log has a pointer to it */
}

static void gate_fini(void) {
  uv_sem_destroy(&gate.entered);
  uv_sem_destroy(&gate.go);
}

struct syncer {
  uv_thread_t thread;
  struct flume_log *log;
  int64_t seq;
  int status;
  struct flume_err err;
};

static void sync_run(void *arg) {
  struct syncer *syncer = arg;
  syncer->status = flume__log_sync_now(syncer->log, syncer->seq, &syncer->err);
}

static void sync_start(struct syncer *syncer, struct flume_log *log, int64_t seq) {
  *syncer = (struct syncer){.log = log, .seq = seq};
  MUST(uv_thread_create(&syncer->thread, sync_run, syncer) == 0);
}

static int sync_join(struct syncer *syncer) {
  MUST(uv_thread_join(&syncer->thread) == 0);
  return syncer->status;
}

static int64_t append_one(struct fixture *f, const char *text) {
  struct flume_slice record = slice_text(text);
  int64_t seq = -1;
  int rv = flume_log_append_wait(f->log, &record, 1, &seq, &f->err);
  return rv == 0 ? seq : rv;
}

static void syncs_from_a_thread(enum where where) {
  static struct fixture f;
  struct syncer syncer;
  fixture_init(&f, where, FLUME_SYNC_OS);
  struct ear ear = {.listener = {.moved = on_moved}, .log = f.log};
  int64_t seq = append_one(&f, "one");
  CHECK(f.log->durable_seq < seq);
  flume__log_listen(f.log, &ear.listener);
  int before = atomic_load(&f.faults.calls[FAULT_SYNC]);
  sync_start(&syncer, f.log, seq);
  CHECK_INT_EQ(sync_join(&syncer), 0);
  CHECK_INT_EQ(atomic_load(&f.faults.calls[FAULT_SYNC]) - before, 1);
  CHECK_INT_EQ(f.log->durable_seq, seq);
  CHECK_INT_EQ(ear.calls, 1);
  CHECK_INT_EQ(ear.durable, seq);
  uv_thread_t self = uv_thread_self();
  CHECK(!uv_thread_equal(&ear.thread, &self));
  CHECK_INT_EQ(flume__log_sync_now(f.log, seq, &f.err), 0); /* nothing is left to do */
  CHECK_INT_EQ(atomic_load(&f.faults.calls[FAULT_SYNC]) - before, 1);
  CHECK_INT_EQ(flume__log_sync_now(f.log, seq + 100, &f.err), FLUME_EINVAL);
  flume__log_unlisten(f.log, &ear.listener);
  fixture_fini(&f);
}

TEST(a_thread_makes_records_durable) {
  syncs_from_a_thread(IN_SEGMENTS);
}
TEST(a_thread_makes_records_of_an_offset_log_durable) {
  syncs_from_a_thread(IN_OFFSET_FILE);
}

/* The log takes no more appends, and a sync that would succeed now is not believed. */
static void a_failed_sync_poisons(enum where where) {
  static struct fixture f;
  struct syncer syncer;
  fixture_init(&f, where, FLUME_SYNC_OS);
  int64_t seq = append_one(&f, "one");
  faults_arm(&f.faults, FAULT_SYNC, 1, UV_EIO);
  sync_start(&syncer, f.log, seq);
  CHECK_INT_EQ(sync_join(&syncer), UV_EIO);
  CHECK(strstr(syncer.err.msg, "syncing") != NULL);
  CHECK(f.log->durable_seq < seq);
  CHECK_INT_EQ(append_one(&f, "two"), UV_EIO);
  CHECK_STR_EQ(f.err.msg, syncer.err.msg);
  CHECK_INT_EQ(flume__log_sync_now(f.log, seq, &f.err), UV_EIO);
  CHECK_INT_EQ(log_sync(f.log, &f.loop), UV_EIO);
  CHECK(f.log->durable_seq < seq);
  struct flume_record record;
  REQUIRE(flume_log_get(f.log, seq, &record, &f.err) == 0);
  flume_record_release(&record);
  fixture_fini(&f);
}

TEST(a_sync_that_fails_on_a_thread_poisons_the_log) {
  a_failed_sync_poisons(IN_SEGMENTS);
}
TEST(a_sync_that_fails_on_a_thread_poisons_an_offset_log) {
  a_failed_sync_poisons(IN_OFFSET_FILE);
}

/* The system tells of a failure once: here the commit's sync gets it, and the loop has not heard of it yet. */
static void a_failure_of_a_commit_is_known(enum where where) {
  static struct fixture f;
  struct answer answer = {.calls = 0};
  struct syncer syncer;
  fixture_init(&f, where, FLUME_SYNC_OS);
  gate_init(&f);
  int64_t seq = append_one(&f, "one");
  faults_arm(&f.faults, FAULT_SYNC, 1, UV_EIO);
  atomic_store(&gate.shut, true);
  REQUIRE(flume_log_sync(f.log, &answer.req, on_answer, &f.err) == 0);
  uv_sem_wait(&gate.entered); /* the commit thread syncs */
  atomic_store(&gate.shut, false);
  sync_start(&syncer, f.log, seq);
  uv_sem_post(&gate.go);
  CHECK_INT_EQ(sync_join(&syncer), UV_EIO);
  CHECK(f.log->durable_seq < seq);
  answer_wait(&f.loop, &answer);
  CHECK_INT_EQ(answer.status, UV_EIO);
  CHECK_INT_EQ(append_one(&f, "two"), UV_EIO);
  gate_fini();
  fixture_fini(&f);
}

TEST(a_failed_sync_of_a_commit_is_known_to_a_thread) {
  a_failure_of_a_commit_is_known(IN_SEGMENTS);
}
TEST(a_failed_sync_of_a_commit_of_an_offset_log_is_known_to_a_thread) {
  a_failure_of_a_commit_is_known(IN_OFFSET_FILE);
}

/* Appends go on while a thread syncs; what is appended meanwhile does not count as durable. */
static void appends_beside_a_sync(enum where where) {
  static struct fixture f;
  struct syncer syncer;
  fixture_init(&f, where, FLUME_SYNC_OS);
  gate_init(&f);
  append_one(&f, "zero"); /* the first record of an offset log syncs its superblock */
  int64_t seq = append_one(&f, "one");
  atomic_store(&gate.shut, true);
  sync_start(&syncer, f.log, seq);
  uv_sem_wait(&gate.entered);
  atomic_store(&gate.shut, false);
  int64_t later = append_one(&f, "two");
  CHECK(later > seq);
  CHECK(f.log->durable_seq < seq);
  uv_sem_post(&gate.go);
  CHECK_INT_EQ(sync_join(&syncer), 0);
  CHECK_INT_EQ(f.log->durable_seq, seq);
  CHECK_INT_EQ(flume__log_sync_now(f.log, later, &f.err), 0);
  CHECK_INT_EQ(f.log->durable_seq, later);
  gate_fini();
  fixture_fini(&f);
}

TEST(appends_go_on_beside_a_sync) {
  appends_beside_a_sync(IN_SEGMENTS);
}
TEST(appends_go_on_beside_a_sync_of_an_offset_log) {
  appends_beside_a_sync(IN_OFFSET_FILE);
}

/* The segment that a thread syncs is sealed, compacted and replaced before it is let through the gate. */
TEST(a_segment_is_rolled_beside_a_sync) {
  static struct fixture f;
  static uint8_t large[8192];
  struct syncer syncer;
  struct answer answers[3] = {{.calls = 0}};
  fixture_init(&f, IN_SEGMENTS, FLUME_SYNC_OS);
  gate_init(&f);
  int64_t seq = append_one(&f, "one");
  atomic_store(&gate.shut, true);
  sync_start(&syncer, f.log, seq);
  uv_sem_wait(&gate.entered);
  atomic_store(&gate.shut, false);
  struct flume_slice record = slice(large, sizeof large);
  for (int i = 0; i < 3; i++) {
    REQUIRE(flume_log_append(f.log, &answers[i].req, &record, 1, on_answer, &f.err) == 0);
  }
  uv_sem_post(&gate.go);
  for (int i = 0; i < 3; i++) answer_wait(&f.loop, &answers[i]);
  CHECK_INT_EQ(sync_join(&syncer), 0);
  CHECK(f.log->durable_seq >= seq && f.log->durable_seq <= f.log->since.value);
  CHECK_INT_EQ(flume__log_sync_now(f.log, f.log->since.value, &f.err), 0);
  CHECK_INT_EQ(f.log->durable_seq, f.log->since.value);
  CHECK(((struct file_log *)f.log)->segments.count > 1);
  gate_fini();
  fixture_fini(&f);
}
