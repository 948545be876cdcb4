/* The pump and its worker threads, without Lua: sinks that count what they are fed. */
#include "base/err.h"
#include "view/pump.h"

#include "support.h"

#define BIG 200000 /* bytes: three of these make a block, which is loaded on a worker thread */
#define CONSUMERS 3

struct consumer {
  struct flume_sink sink;
  struct flume_turn turn; /* the feed is answered on the loop */
  struct flume_block *block;
  uint32_t from;
  int64_t seen; /* records that it has, deleted ones taken back */
  /* Set before it is attached, since a worker may feed it at once. */
  int64_t fails_at;
  bool gives_back; /* the next block */
  bool holds;      /* the next block, until release() */
  uint64_t takes_ns;
  int forgets;
};

static struct fixture {
  uv_loop_t loop;
  struct faults faults;
  char dir[TEST_PATH_MAX];
  struct flume_log *log;
  struct flume_pool *pool;
  struct flume_pump pump;
  struct consumer consumers[CONSUMERS];
  _Atomic uint64_t clock_ns;  /* added to the time */
  _Atomic uint64_t stands_ns; /* the time of a clock that only clock_ns moves; 0 for a clock that goes by itself */
  bool closed;
} fx;

static struct flume_err err;

/* --- Sinks ----------------------------------------------------------------------------------------------------- */

static struct consumer *consumer_of(struct flume_sink *sink) {
  return FLUME_CONTAINER_OF(sink, struct consumer, sink);
}

static void consume(struct flume_turn *turn) {
  struct consumer *consumer = FLUME_CONTAINER_OF(turn, struct consumer, turn);
  struct flume_block *block = consumer->block;
  int64_t since = block->first_seq + block->count - 1;
  consumer->sink.feed_ns -= consumer->takes_ns; /* as if it had been handed over so much earlier */
  for (uint32_t i = consumer->from; i < block->count; i++) {
    uint32_t len;
    consumer->seen += flume_block_get(block, i, &len) != NULL;
  }
  consumer->block = NULL;
  flume_block_unref(block);
  flume_pump_lock(&fx.pump);
  flume_sink_fed(&consumer->sink, since);
  flume_pump_unlock(&fx.pump);
}

static void fail_feed(struct flume_turn *turn) {
  struct consumer *consumer = FLUME_CONTAINER_OF(turn, struct consumer, turn);
  struct flume_err why;
  flume_err_set(&why, FLUME_EVIEW, "can't stand %lld", (long long)consumer->fails_at);
  flume_block_unref(consumer->block);
  consumer->block = NULL;
  flume_pump_lock(&fx.pump);
  flume_sink_unfeed(&consumer->sink);
  flume_sink_failed(&consumer->sink, consumer->fails_at, &why);
  flume_pump_unlock(&fx.pump);
}

static void give_back(struct flume_turn *turn) {
  struct consumer *consumer = FLUME_CONTAINER_OF(turn, struct consumer, turn);
  flume_block_unref(consumer->block);
  consumer->block = NULL;
  consumer->gives_back = false;
  flume_pump_lock(&fx.pump);
  flume_sink_unfeed(&consumer->sink);
  flume_pump_unlock(&fx.pump);
  flume_pump_set_ready(&fx.pump, true); /* it has to be looked at again */
}

static void feed(struct flume_sink *sink, struct flume_block *block, uint32_t from) {
  struct consumer *consumer = consumer_of(sink);
  bool fails = consumer->fails_at >= block->first_seq && consumer->fails_at < block->first_seq + block->count;
  consumer->block = block;
  consumer->from = from;
  consumer->turn.run = fails ? fail_feed : consumer->gives_back ? give_back : consume;
  if (!consumer->holds) flume_pump_give_turn(&fx.pump, &consumer->turn);
}

static void release(struct consumer *consumer) {
  MUST(consumer->holds && consumer->block != NULL);
  consumer->holds = false;
  flume_pump_lock(&fx.pump);
  flume_pump_give_turn(&fx.pump, &consumer->turn);
  flume_pump_unlock(&fx.pump);
}

static void forgot(struct flume_turn *turn) {
  struct consumer *consumer = FLUME_CONTAINER_OF(turn, struct consumer, turn);
  for (int64_t i = consumer->sink.deletions; i < fx.log->deletions.value; i++) {
    consumer->seen -= flume__log_deletion_at(fx.log, i) <= consumer->sink.since.value;
  }
  flume_pump_lock(&fx.pump);
  flume_sink_forgot(&consumer->sink, fx.log->deletions.value);
  flume_pump_unlock(&fx.pump);
}

static void forget(struct flume_sink *sink) {
  struct consumer *consumer = consumer_of(sink);
  consumer->forgets++;
  consumer->turn.run = forgot;
  flume_pump_give_turn(&fx.pump, &consumer->turn);
}

static const struct flume_sink_ops consumer_ops = {.feed = feed, .forget = forget};

static struct consumer *attach_as(int i, struct consumer how) {
  struct consumer *consumer = &fx.consumers[i];
  *consumer = how;
  consumer->turn.run = consume;
  flume_queue_init(&consumer->turn.queue);
  flume_pump_lock(&fx.pump);
  flume_sink_attach(&consumer->sink, &fx.pump, &consumer_ops, -1, 0);
  flume_pump_unlock(&fx.pump);
  return consumer;
}

static struct consumer *attach(int i) {
  return attach_as(i, (struct consumer){.fails_at = -1});
}

static void detach(struct flume_sink *sink) {
  flume_pump_lock(&fx.pump);
  flume_sink_detach(sink);
  flume_pump_unlock(&fx.pump);
  flume_sink_fini(sink);
}

static void restart(struct flume_sink *sink, int64_t since, int64_t deletions) {
  flume_pump_lock(&fx.pump);
  flume_sink_restart(sink, since, deletions);
  flume_pump_unlock(&fx.pump);
}

static bool sink_has(struct flume_sink *sink, int64_t seq) {
  flume_pump_lock(&fx.pump);
  bool has = flume_sink_has(sink, seq);
  flume_pump_unlock(&fx.pump);
  return has;
}

/* --- Fixture ----------------------------------------------------------------------------------------------- */

static uint64_t read_clock(void *ctx) {
  (void)ctx;
  return (fx.stands_ns != 0 ? fx.stands_ns : uv_hrtime()) + fx.clock_ns;
}

static void open_with(bool memory) {
  memset(&fx, 0, sizeof fx);
  MUST(uv_loop_init(&fx.loop) == 0);
  faults_init(&fx.faults);
  fx.faults.io.hrtime_ns = read_clock;
  temp_dir(fx.dir);
  struct flume_log_options options = {.io = &fx.faults.io};
  int rv = memory ? flume_log_open_memory(&fx.log, &fx.loop, &options, &err)
                  : flume_log_open(&fx.log, &fx.loop, fx.dir, &options, &err);
  MUST(rv == 0 && flume_pool_open(&fx.pool, &fx.loop, &fx.faults.io) == 0);
  MUST(flume_pump_open(&fx.pump, fx.log, fx.pool) == 0);
}

static void on_pump_closed(struct flume_pump *pump) {
  (void)pump;
  fx.closed = true;
}

static void on_pool_closed(void *data) {
  *(bool *)data = true;
}

static void close_all(void) {
  bool gone = false;
  flume_pump_close(&fx.pump, on_pump_closed);
  while (!fx.closed) uv_run(&fx.loop, UV_RUN_ONCE);
  flume_pool_close(fx.pool, on_pool_closed, &gone);
  log_close_wait(fx.log, &fx.loop);
  loop_end(&fx.loop);
  CHECK(gone);
  CHECK_INT_EQ(atomic_load(&fx.faults.files), 0);
  CHECK_INT_EQ(atomic_load(&fx.faults.allocations), 0);
  remove_dir(fx.dir);
}

static void append(int count, size_t len) {
  uint8_t *data = payload_new(len, 7);
  struct flume_slice record = slice(data, len);
  int64_t seq;
  for (int i = 0; i < count; i++) MUST(flume_log_append_wait(fx.log, &record, 1, &seq, &err) == 0);
  free(data);
}

/* --- Waiting --------------------------------------------------------------------------------------------------- */

struct waiting {
  struct flume_wait wait;
  int calls;
  int status;
};

static void on_wait(struct flume_wait *wait, int status) {
  struct waiting *waiting = FLUME_CONTAINER_OF(wait, struct waiting, wait);
  waiting->calls++;
  waiting->status = status;
}

static void wait_for(struct waiting *waiting, struct consumer *consumer, int64_t seq, uint64_t timeout_ms) {
  *waiting = (struct waiting){.wait = {.cb = on_wait, .seq = seq}};
  if (timeout_ms > 0) waiting->wait.deadline_ns = read_clock(NULL) + timeout_ms * 1000000;
  flume_pump_lock(&fx.pump);
  flume_sink_wait(&consumer->sink, &waiting->wait);
  flume_pump_unlock(&fx.pump);
  CHECK_INT_EQ(waiting->calls, 0);
}

static int wait_end(struct waiting *waiting) {
  while (waiting->calls == 0) MUST(uv_run(&fx.loop, UV_RUN_ONCE) != 0 || waiting->calls > 0);
  CHECK_INT_EQ(waiting->calls, 1);
  return waiting->status;
}

static int wait_until_at(struct consumer *consumer, int64_t seq) {
  struct waiting waiting;
  wait_for(&waiting, consumer, seq, 0);
  return wait_end(&waiting);
}

/* --- Tests ----------------------------------------------------------------------------------------------------- */

static void follow(bool memory) {
  open_with(memory);
  append(5, 10);
  struct consumer *consumer = attach(0);
  CHECK_INT_EQ(wait_until_at(consumer, 4), 0);
  CHECK_INT_EQ(consumer->seen, 5);
  append(3, 10);
  CHECK(!sink_has(&consumer->sink, 7));
  CHECK_INT_EQ(wait_until_at(consumer, 7), 0);
  CHECK(sink_has(&consumer->sink, 7));
  CHECK_INT_EQ(consumer->seen, 8);
  CHECK_INT_EQ(wait_until_at(consumer, 2), 0);
  detach(&consumer->sink);
  close_all();
}

TEST(a_sink_follows_a_memory_log) { follow(true); }
TEST(a_sink_follows_a_file_log) { follow(false); }

/* Blocks that are loaded on worker threads, more of them than the window holds. */
TEST(sinks_side_by_side_share_one_pass) {
  open_with(false);
  append(60, BIG);
  for (int i = 0; i < CONSUMERS; i++) attach(i);
  for (int i = 0; i < CONSUMERS; i++) CHECK_INT_EQ(wait_until_at(&fx.consumers[i], 59), 0);
  for (int i = 0; i < CONSUMERS; i++) CHECK_INT_EQ(fx.consumers[i].seen, 60);
  CHECK(fx.pump.blocks_read >= 20 && fx.pump.blocks_read <= 23);
  for (int i = 0; i < CONSUMERS; i++) detach(&fx.consumers[i].sink);
  close_all();
}

/* A sink that takes a second for each block is left behind, and reaches the end alone. */
TEST(a_slow_sink_holds_no_other_back) {
  open_with(false);
  append(60, BIG);
  struct consumer *quick = attach(0);
  struct consumer *slow = attach_as(1, (struct consumer){.fails_at = -1, .takes_ns = 1000000000u});
  CHECK_INT_EQ(wait_until_at(quick, 59), 0);
  CHECK_INT_EQ(wait_until_at(slow, 59), 0);
  CHECK(slow->sink.slow && !quick->sink.slow);
  CHECK_INT_EQ(slow->seen, 60);
  detach(&slow->sink);
  detach(&quick->sink);
  close_all();
}

/* Two sinks; the other holds its first block until the quick sink can't go on. Gives the quick sink's position. The
 * clock stands still, so that a slow machine makes no sink slow. */
static int64_t hold_back(struct consumer **quick, struct consumer **other) {
  open_with(false);
  fx.stands_ns = uv_hrtime();
  append(60, BIG);
  *quick = attach(0);
  *other = attach_as(1, (struct consumer){.fails_at = -1, .holds = true});
  while (!fx.pump.held_back) MUST(uv_run(&fx.loop, UV_RUN_ONCE) != 0);
  CHECK_INT_EQ((*other)->sink.since.value, -1);
  CHECK((*quick)->sink.since.value > 0 && (*quick)->sink.since.value < 59);
  CHECK_INT_EQ(fx.pump.blocks_read, FLUME_PUMP_WINDOW);
  return (*quick)->sink.since.value;
}

/* A sink that is a whole window ahead waits for one that keeps pace: each block is read once. */
TEST(a_sink_that_is_a_window_ahead_waits) {
  struct consumer *quick, *other;
  struct waiting timed;
  int64_t at = hold_back(&quick, &other);
  wait_for(&timed, quick, 59, 5);
  fx.clock_ns += 5000000;
  CHECK_INT_EQ(wait_end(&timed), FLUME_ETIMEDOUT);
  CHECK_INT_EQ(quick->sink.since.value, at);
  release(other);
  CHECK_INT_EQ(wait_until_at(quick, 59), 0);
  CHECK_INT_EQ(wait_until_at(other, 59), 0);
  CHECK(quick->seen == 60 && other->seen == 60);
  CHECK(fx.pump.blocks_read >= 20 && fx.pump.blocks_read <= 23);
  detach(&quick->sink);
  detach(&other->sink);
  close_all();
}

/* The wait has a limit: a sink that holds a block for too long is left behind. */
TEST(a_sink_waits_for_a_slow_one_only_so_long) {
  struct consumer *quick, *other;
  hold_back(&quick, &other);
  fx.clock_ns += 3600000000000u;
  CHECK_INT_EQ(wait_until_at(quick, 59), 0);
  CHECK_INT_EQ(other->sink.since.value, -1);
  release(other);
  CHECK_INT_EQ(wait_until_at(other, 59), 0);
  CHECK(quick->seen == 60 && other->seen == 60);
  detach(&quick->sink);
  detach(&other->sink);
  close_all();
}

/* Of a log that has lost its writer nothing more is to be waited for; what it has is there. */
TEST(waits_on_a_log_that_was_replaced) {
  struct waiting beyond;
  open_with(true);
  append(3, 10);
  struct consumer *consumer = attach(0);
  wait_for(&beyond, consumer, 3, 0);
  CHECK_INT_EQ(wait_until_at(consumer, 2), 0);
  CHECK_INT_EQ(beyond.calls, 0);
  fx.log->following = FLUME_FOLLOWING_LOST;
  flume_err_set(&fx.log->following_why, FLUME_ECORRUPT, "another log lies there now");
  CHECK_INT_EQ(wait_until_at(consumer, 2), 0);
  CHECK_INT_EQ(wait_end(&beyond), FLUME_ECORRUPT);
  CHECK_INT_EQ(wait_until_at(consumer, 3), FLUME_ECORRUPT);
  detach(&consumer->sink);
  close_all();
}

TEST(a_block_that_is_given_back_comes_again) {
  open_with(true);
  append(4, 10);
  struct consumer *consumer = attach_as(0, (struct consumer){.fails_at = -1, .gives_back = true});
  CHECK_INT_EQ(wait_until_at(consumer, 3), 0);
  CHECK(!consumer->gives_back);
  CHECK_INT_EQ(consumer->seen, 4);
  detach(&consumer->sink);
  close_all();
}

TEST(waits_end_in_any_order) {
  struct waiting late, early, never, timed, longer;
  open_with(true);
  append(3, 10);
  struct consumer *consumer = attach(0);
  wait_for(&late, consumer, 5, 0);
  wait_for(&early, consumer, 1, 0);
  wait_for(&timed, consumer, 100, 1);
  wait_for(&longer, consumer, 5, 100000);
  wait_for(&never, consumer, 1000, 0);
  CHECK_INT_EQ(wait_end(&early), 0);
  CHECK_INT_EQ(late.calls, 0);
  CHECK_INT_EQ(wait_end(&timed), FLUME_ETIMEDOUT);
  append(3, 10);
  CHECK_INT_EQ(wait_end(&late), 0);
  CHECK_INT_EQ(wait_end(&longer), 0);
  CHECK_INT_EQ(never.calls, 0);
  detach(&consumer->sink);
  CHECK_INT_EQ(wait_end(&never), FLUME_ECLOSED);
  close_all();
}

/* Nothing is fed while the pump is not ready; what waits goes on waiting, or times out. */
TEST(nothing_moves_before_it_is_ready) {
  struct waiting waiting, timed;
  open_with(true);
  flume_pump_set_ready(&fx.pump, false);
  append(3, 10);
  struct consumer *consumer = attach(0);
  wait_for(&waiting, consumer, -1, 0);
  wait_for(&timed, consumer, -1, 1);
  CHECK_INT_EQ(wait_end(&timed), FLUME_ETIMEDOUT);
  CHECK_INT_EQ(consumer->seen, 0);
  CHECK_INT_EQ(waiting.calls, 0);
  flume_pump_set_ready(&fx.pump, true);
  CHECK_INT_EQ(wait_end(&waiting), 0);
  CHECK_INT_EQ(wait_until_at(consumer, 2), 0);
  detach(&consumer->sink);
  close_all();
}

TEST(a_sink_that_fails_stops_alone) {
  struct waiting waiting;
  open_with(true);
  append(2, 10);
  struct consumer *bad = attach_as(0, (struct consumer){.fails_at = 3}), *good = attach(1);
  CHECK_INT_EQ(wait_until_at(bad, 1), 0);
  wait_for(&waiting, bad, 4, 0);
  append(3, 10);
  CHECK_INT_EQ(wait_end(&waiting), FLUME_EVIEW);
  CHECK_INT_EQ(wait_until_at(good, 4), 0);
  CHECK_INT_EQ(bad->sink.state, FLUME_SINK_FAILED);
  CHECK_INT_EQ(bad->sink.failure_seq, 3);
  CHECK_STR_EQ(bad->sink.failure.msg, "can't stand 3");
  CHECK(!sink_has(&bad->sink, 0));
  bad->fails_at = -1;
  bad->seen = 0;
  restart(&bad->sink, -1, 0);
  CHECK_INT_EQ(wait_until_at(bad, 4), 0);
  CHECK_INT_EQ(bad->seen, 5);
  detach(&bad->sink);
  detach(&good->sink);
  close_all();
}

/* What was consumed is taken back; what was not, is passed over. */
TEST(sinks_learn_of_deletions) {
  open_with(true);
  append(6, 10);
  struct consumer *consumer = attach(0);
  CHECK_INT_EQ(wait_until_at(consumer, 5), 0);
  CHECK_INT_EQ(log_del(fx.log, &fx.loop, (int64_t[]){1, 4}, 2), 0);
  CHECK_INT_EQ(wait_until_at(consumer, 5), 0);
  CHECK_INT_EQ(consumer->seen, 4);
  CHECK_INT_EQ(consumer->forgets, 1);
  flume_pump_set_ready(&fx.pump, false);
  append(2, 10);
  CHECK_INT_EQ(log_del(fx.log, &fx.loop, (int64_t[]){7}, 1), 0);
  flume_pump_set_ready(&fx.pump, true);
  CHECK_INT_EQ(wait_until_at(consumer, 7), 0);
  CHECK_INT_EQ(consumer->seen, 5);
  CHECK_INT_EQ(consumer->forgets, 1);
  detach(&consumer->sink);
  close_all();
}

/* A block that can't be read fails the sink that needs it, and it can be restarted. */
TEST(a_block_that_can_not_be_read) {
  open_with(false);
  append(2, 10);
  append(9, BIG);
  faults_arm(&fx.faults, FAULT_READ, 3, UV_EIO);
  struct consumer *consumer = attach(0);
  CHECK_INT_EQ(wait_until_at(consumer, 10), FLUME_EVIEW);
  CHECK_INT_EQ(consumer->sink.failure.code, UV_EIO);
  CHECK(strstr(consumer->sink.failure.msg, ".flume") != NULL);
  faults_arm(&fx.faults, FAULT_NONE, 0, 0);
  restart(&consumer->sink, consumer->sink.since.value, 0);
  CHECK_INT_EQ(wait_until_at(consumer, 10), 0);
  CHECK_INT_EQ(consumer->seen, 11);
  detach(&consumer->sink);
  close_all();
}

/* Every allocation in its turn fails: then the sink has failed, or did without. */
TEST(without_memory) {
  for (int nth = 1; nth < 200 && !test_failed; nth++) {
    open_with(false);
    append(12, BIG);
    struct consumer *consumer = attach(0);
    faults_arm(&fx.faults, FAULT_ALLOC, nth, UV_ENOMEM);
    int status = wait_until_at(consumer, 11);
    bool hit = fault_was_hit(&fx.faults);
    faults_arm(&fx.faults, FAULT_NONE, 0, 0);
    CHECK(status == 0 || (hit && consumer->sink.failure.code == UV_ENOMEM));
    if (status != 0) {
      restart(&consumer->sink, consumer->sink.since.value, 0);
      CHECK_INT_EQ(wait_until_at(consumer, 11), 0);
    }
    CHECK_INT_EQ(consumer->seen, 12);
    detach(&consumer->sink);
    close_all();
    if (hit) continue;
    CHECK(nth > 1);
    return;
  }
}

/* Closing waits for the blocks that are on their way. */
TEST(closing_while_blocks_are_fed) {
  open_with(false);
  append(30, BIG);
  for (int i = 0; i < CONSUMERS; i++) attach(i);
  while (fx.pump.loads == 0) uv_run(&fx.loop, UV_RUN_NOWAIT);
  for (int i = 0; i < CONSUMERS; i++) {
    struct consumer *consumer = &fx.consumers[i];
    while (consumer->sink.state == FLUME_SINK_FEEDING) uv_run(&fx.loop, UV_RUN_NOWAIT);
    detach(&consumer->sink);
  }
  close_all();
}

/* --- The pool -------------------------------------------------------------------------------------------------- */

struct numbered {
  struct flume_job job;
  int number;
};

static struct {
  uv_sem_t arrived, gate;
  int ran[16], done[16]; /* numbers, in order */
  atomic_int ran_count;
  int done_count;
} jobs;

static void run_job(struct flume_job *job) {
  jobs.ran[atomic_fetch_add(&jobs.ran_count, 1)] = FLUME_CONTAINER_OF(job, struct numbered, job)->number;
}

static void run_at_the_gate(struct flume_job *job) {
  uv_sem_post(&jobs.arrived);
  uv_sem_wait(&jobs.gate);
  run_job(job);
}

static void job_done(struct flume_job *job) {
  jobs.done[jobs.done_count++] = FLUME_CONTAINER_OF(job, struct numbered, job)->number;
}

/* All threads but one are kept busy: that one takes what waits in its order, what was submitted first before the rest. */
TEST(jobs_with_priority) {
  uv_loop_t loop;
  struct flume_pool *pool;
  struct numbered all[16];
  int threads = (int)uv_available_parallelism();
  bool gone = false;
  if (threads > 8) SKIP("too many processors to keep them all busy");
  MUST(uv_loop_init(&loop) == 0 && uv_sem_init(&jobs.gate, 0) == 0 && uv_sem_init(&jobs.arrived, 0) == 0);
  atomic_store(&jobs.ran_count, 0);
  jobs.done_count = 0;
  CHECK_INT_EQ(flume_pool_open(&pool, &loop, &flume_io_posix), 0);
  for (int i = 0; i < threads + 3; i++) {
    all[i] = (struct numbered){{.run = i < threads ? run_at_the_gate : run_job, .done = job_done}, i};
    if (i < threads + 2) flume_pool_submit(pool, &all[i].job);
    else flume_pool_submit_first(pool, &all[i].job);
    if (i < threads) uv_sem_wait(&jobs.arrived);
  }
  CHECK_INT_EQ(jobs.done_count, 0);
  uv_sem_post(&jobs.gate);
  while (jobs.done_count < 4) uv_run(&loop, UV_RUN_ONCE);
  CHECK(jobs.ran[0] < threads);
  CHECK_INT_EQ(jobs.ran[1], threads + 2);
  CHECK_INT_EQ(jobs.ran[2], threads);
  CHECK_INT_EQ(jobs.ran[3], threads + 1);
  for (int i = 1; i < threads; i++) uv_sem_post(&jobs.gate);
  while (jobs.done_count < threads + 3) uv_run(&loop, UV_RUN_ONCE);
  flume_pool_close(pool, on_pool_closed, &gone);
  loop_end(&loop);
  CHECK(gone);
  uv_sem_destroy(&jobs.gate);
  uv_sem_destroy(&jobs.arrived);
}

TEST(a_pool_without_memory) {
  uv_loop_t loop;
  struct flume_pool *pool;
  struct faults faults;
  MUST(uv_loop_init(&loop) == 0);
  faults_init(&faults);
  faults_arm(&faults, FAULT_ALLOC, 1, UV_ENOMEM);
  CHECK_INT_EQ(flume_pool_open(&pool, &loop, &faults.io), FLUME_ENOMEM);
  loop_end(&loop);
}
