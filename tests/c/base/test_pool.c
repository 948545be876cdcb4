/* The pool when the system gives it no threads, or none of what it is made of. (Jobs on threads: test_pump.c.) */
#include "loop/pool.h"
#include "support.h"

#define JOBS 5

/* --- The wrapped functions ---------------------------------------------------------------------------------------- */

enum piece { NOTHING, A_MUTEX, A_CONDITION, AN_ASYNC, THREADS };

static enum piece refused;

#define WRAP(name, piece, params, args)                                   \
  int __real_##name params;                                               \
  int __wrap_##name params;                                               \
  int __wrap_##name params { return refused == piece ? UV_EAGAIN : __real_##name args; }

WRAP(uv_mutex_init, A_MUTEX, (uv_mutex_t *mutex), (mutex))
WRAP(uv_cond_init, A_CONDITION, (uv_cond_t *condition), (condition))
WRAP(uv_async_init, AN_ASYNC, (uv_loop_t *loop, uv_async_t *async, uv_async_cb cb), (loop, async, cb))
WRAP(uv_thread_create, THREADS, (uv_thread_t *thread, uv_thread_cb entry, void *arg), (thread, entry, arg))

/* --- Jobs --------------------------------------------------------------------------------------------------------- */

struct job {
  struct flume_job job;
  uv_thread_t ran_on;
  int ran, done;
};

static struct faults faults;
static uv_loop_t loop;
static struct flume_pool *pool;
static struct job jobs[JOBS];
static int order[JOBS]; /* in which they were done */
static int done_count;

static void run(struct flume_job *base) {
  struct job *job = FLUME_CONTAINER_OF(base, struct job, job);
  job->ran_on = uv_thread_self();
  job->ran++;
}

static void done(struct flume_job *base) {
  struct job *job = FLUME_CONTAINER_OF(base, struct job, job);
  CHECK_INT_EQ(job->ran, 1);
  job->done++;
  order[done_count++] = (int)(job - jobs);
}

static void submit(int i) {
  jobs[i] = (struct job){.job = {.run = run, .done = done}};
  flume_pool_submit(pool, &jobs[i].job);
  CHECK_INT_EQ(jobs[i].done, 0);
}

static void begin(void) {
  faults_init(&faults);
  MUST(uv_loop_init(&loop) == 0);
  done_count = 0;
}

static void end(void) {
  refused = NOTHING;
  loop_end(&loop);
  CHECK_INT_EQ(atomic_load(&faults.allocations), 0);
}

/* --- Tests -------------------------------------------------------------------------------------------------------- */

TEST(a_pool_that_can_not_be_created) {
  for (int piece = A_MUTEX; piece <= AN_ASYNC; piece++) {
    begin();
    pool = NULL;
    refused = (enum piece)piece;
    CHECK_INT_EQ(flume_pool_open(&pool, &loop, &faults.io), UV_EAGAIN);
    CHECK(pool == NULL);
    end();
  }
}

/* Jobs are done all the same, on the thread of the loop, and their answers come when that turns. */
TEST(a_pool_without_threads) {
  begin();
  REQUIRE(flume_pool_open(&pool, &loop, &faults.io) == 0);
  refused = THREADS;
  for (int i = 0; i < JOBS; i++) submit(i);
  loop_drain(&loop);
  CHECK_INT_EQ(done_count, JOBS);
  uv_thread_t here = uv_thread_self();
  for (int i = 0; i < JOBS; i++) {
    CHECK_INT_EQ(order[i], i);
    CHECK_INT_EQ(jobs[i].done, 1);
    CHECK(uv_thread_equal(&jobs[i].ran_on, &here));
  }
  flume_pool_close(pool, NULL, NULL);
  end();
}

/* A thread is tried again with the next job. */
TEST(threads_that_start_later) {
  begin();
  REQUIRE(flume_pool_open(&pool, &loop, &faults.io) == 0);
  refused = THREADS;
  submit(0);
  refused = NOTHING;
  submit(1);
  loop_drain(&loop);
  CHECK_INT_EQ(done_count, 2);
  uv_thread_t here = uv_thread_self();
  CHECK(uv_thread_equal(&jobs[0].ran_on, &here));
  CHECK(!uv_thread_equal(&jobs[1].ran_on, &here));
  flume_pool_close(pool, NULL, NULL);
  end();
}
