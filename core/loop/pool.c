/* Happy path: a job is queued, a worker takes it, runs it, and takes the next. A job that the loop is to hear of
 * goes to the list of ended jobs, and wakes the loop.
 *
 * Failures:
 *   - No thread can be started: jobs run on the loop thread.
 *   - The process was forked: the child has none of the threads, and waits for none. */
#include "loop/pool.h"

#include <assert.h>

#define MAX_THREADS 64u

struct flume_pool {
  const struct flume_io *io;
  uv_pid_t pid; /* of the process that started the threads */
  uv_mutex_t mutex;
  uv_cond_t wake;            /* a job waits, or the pool closes */
  struct flume_queue todo;   /* guarded by mutex, as all up to the next blank line */
  struct flume_queue ended;  /* ended jobs whose `done` is due */
  struct flume_queue alarms; /* struct flume_alarm, the earliest first */
  struct flume_alarm *ringing;
  uv_cond_t clock_wake; /* the earliest alarm has changed, one has ended, or the pool closes */
  unsigned waiting;     /* jobs in todo */
  unsigned running;     /* jobs that threads are at */
  bool closing;
  bool has_clock;
  uv_thread_t threads[MAX_THREADS];
  unsigned threads_count;

  unsigned threads_max;
  uv_thread_t clock;
  uv_async_t async; /* something has ended */
  unsigned pending; /* jobs with `done` that have not come back; loop thread */
  void (*closed)(void *data);
  void *data;
};

/* --- Workers ------------------------------------------------------------------------------------------------------ */

/* With the mutex held, also on return. A job without `done` may be freed once it has run. */
static void run_one(struct flume_pool *pool, struct flume_queue *node) {
  struct flume_job *job = FLUME_CONTAINER_OF(node, struct flume_job, queue);
  bool is_told = job->done != NULL;
  assert(pool->waiting > 0);
  pool->waiting--;
  pool->running++;
  uv_mutex_unlock(&pool->mutex);
  job->run(job);
  uv_mutex_lock(&pool->mutex);
  pool->running--;
  if (!is_told) return;
  bool first = flume_queue_empty(&pool->ended);
  flume_queue_push(&pool->ended, &job->queue);
  if (first) uv_async_send(&pool->async);
}

static void run_thread(void *arg) {
  struct flume_pool *pool = arg;
  uv_mutex_lock(&pool->mutex);
  for (;;) {
    struct flume_queue *node = flume_queue_shift(&pool->todo);
    if (node != NULL) {
      run_one(pool, node);
    } else if (pool->closing) {
      break;
    } else {
      uv_cond_wait(&pool->wake, &pool->mutex);
    }
  }
  uv_mutex_unlock(&pool->mutex);
}

/* With the mutex held. */
static void start_thread(struct flume_pool *pool) {
  if (pool->threads_count == pool->threads_max || pool->waiting + pool->running <= pool->threads_count) return;
  if (uv_thread_create(&pool->threads[pool->threads_count], run_thread, pool) == 0) pool->threads_count++;
}

/* --- On the loop -------------------------------------------------------------------------------------------------- */

/* No thread could be started: the loop runs the jobs. */
static void run_here(struct flume_pool *pool) {
  struct flume_queue *node;
  while (pool->threads_count == 0 && (node = flume_queue_shift(&pool->todo)) != NULL) run_one(pool, node);
}

static void on_async(uv_async_t *async) {
  struct flume_pool *pool = async->data;
  struct flume_queue round;
  flume_queue_init(&round);
  uv_mutex_lock(&pool->mutex);
  run_here(pool);
  flume_queue_move(&round, &pool->ended);
  uv_mutex_unlock(&pool->mutex);
  struct flume_queue *node;
  while ((node = flume_queue_shift(&round)) != NULL) {
    struct flume_job *job = FLUME_CONTAINER_OF(node, struct flume_job, queue);
    assert(pool->pending > 0);
    if (--pool->pending == 0) uv_unref((uv_handle_t *)&pool->async);
    job->done(job);
  }
}

int flume_pool_open(struct flume_pool **out, uv_loop_t *loop, const struct flume_io *io) {
  struct flume_pool *pool = flume_io_zalloc(io, sizeof *pool);
  if (pool == NULL) return FLUME_ENOMEM;
  pool->io = io;
  pool->pid = uv_os_getpid();
  flume_queue_init(&pool->todo);
  flume_queue_init(&pool->ended);
  flume_queue_init(&pool->alarms);
  unsigned processors = uv_available_parallelism();
  pool->threads_max = processors < MAX_THREADS ? processors : MAX_THREADS;
  int rv = uv_mutex_init(&pool->mutex);
  if (rv != 0) goto err_after_alloc;
  rv = uv_cond_init(&pool->wake);
  if (rv != 0) goto err_after_mutex;
  rv = uv_cond_init(&pool->clock_wake);
  if (rv != 0) goto err_after_wake;
  rv = uv_async_init(loop, &pool->async, on_async);
  if (rv != 0) goto err_after_clock_wake;
  pool->async.data = pool;
  uv_unref((uv_handle_t *)&pool->async);
  *out = pool;
  return 0;

err_after_clock_wake:
  uv_cond_destroy(&pool->clock_wake);
err_after_wake:
  uv_cond_destroy(&pool->wake);
err_after_mutex:
  uv_mutex_destroy(&pool->mutex);
err_after_alloc:
  assert(rv != 0);
  flume_io_free(io, pool);
  return rv;
}

/* place(todo) is the node that the job goes before. */
static void submit_before(struct flume_pool *pool, struct flume_job *job,
                          struct flume_queue *(*place)(struct flume_queue *todo)) {
  assert(job->run != NULL && !pool->closing);
  if (job->done != NULL && pool->pending++ == 0) uv_ref((uv_handle_t *)&pool->async);
  uv_mutex_lock(&pool->mutex);
  pool->waiting++;
  flume_queue_push(place(&pool->todo), &job->queue);
  start_thread(pool);
  if (pool->threads_count > 0) uv_cond_signal(&pool->wake);
  else if (job->done != NULL) run_here(pool);
  else uv_async_send(&pool->async);
  uv_mutex_unlock(&pool->mutex);
}

static struct flume_queue *end_of(struct flume_queue *list) {
  return list;
}

static struct flume_queue *start_of(struct flume_queue *list) {
  return list->next;
}

void flume_pool_submit(struct flume_pool *pool, struct flume_job *job) {
  if (pool->io->submit != NULL) pool->io->submit(pool->io->ctx, job);
  else submit_before(pool, job, end_of);
}

void flume_pool_submit_first(struct flume_pool *pool, struct flume_job *job) {
  if (pool->io->submit != NULL) pool->io->submit(pool->io->ctx, job);
  else submit_before(pool, job, start_of);
}

void flume_pool_hurry(struct flume_pool *pool, struct flume_job *job) {
  if (pool->io->submit != NULL) return;
  uv_mutex_lock(&pool->mutex);
  if (!flume_queue_empty(&job->queue)) { /* a running job is in no list */
    flume_queue_remove(&job->queue);
    flume_queue_push(pool->todo.next, &job->queue);
  }
  uv_mutex_unlock(&pool->mutex);
}

bool flume_pool_is_wanted(struct flume_pool *pool) {
  uv_mutex_lock(&pool->mutex);
  bool wanted = pool->waiting > 0;
  uv_mutex_unlock(&pool->mutex);
  return wanted;
}

/* --- The clock ---------------------------------------------------------------------------------------------------- */

static void run_alarm(struct flume_pool *pool, struct flume_alarm *alarm) {
  assert(pool->ringing == NULL && alarm->at_ns != 0);
  flume_queue_remove(&alarm->queue);
  alarm->at_ns = 0;
  pool->ringing = alarm;
  uv_mutex_unlock(&pool->mutex);
  alarm->run(alarm);
  uv_mutex_lock(&pool->mutex);
  pool->ringing = NULL;
  uv_cond_broadcast(&pool->clock_wake);
}

static void run_clock(void *arg) {
  struct flume_pool *pool = arg;
  uv_mutex_lock(&pool->mutex);
  while (!pool->closing) {
    if (flume_queue_empty(&pool->alarms)) {
      uv_cond_wait(&pool->clock_wake, &pool->mutex);
      continue;
    }
    struct flume_alarm *next = FLUME_CONTAINER_OF(pool->alarms.next, struct flume_alarm, queue);
    uint64_t now_ns = pool->io->hrtime_ns(pool->io->ctx);
    if (next->at_ns <= now_ns) run_alarm(pool, next);
    else uv_cond_timedwait(&pool->clock_wake, &pool->mutex, next->at_ns - now_ns);
  }
  uv_mutex_unlock(&pool->mutex);
}

static void insert_alarm(struct flume_pool *pool, struct flume_alarm *alarm) {
  struct flume_queue *node = pool->alarms.next;
  while (node != &pool->alarms && FLUME_CONTAINER_OF(node, struct flume_alarm, queue)->at_ns <= alarm->at_ns) {
    node = node->next;
  }
  flume_queue_push(node, &alarm->queue);
}

void flume_pool_set_alarm(struct flume_pool *pool, struct flume_alarm *alarm, uint64_t at_ns) {
  assert(at_ns != 0);
  if (pool->io->submit != NULL) {
    pool->io->set_alarm(pool->io->ctx, alarm, at_ns);
    return;
  }
  uv_mutex_lock(&pool->mutex);
  if (alarm->at_ns != 0) flume_queue_remove(&alarm->queue);
  alarm->at_ns = at_ns;
  insert_alarm(pool, alarm);
  if (!pool->has_clock) pool->has_clock = uv_thread_create(&pool->clock, run_clock, pool) == 0;
  if (pool->alarms.next == &alarm->queue) uv_cond_broadcast(&pool->clock_wake);
  uv_mutex_unlock(&pool->mutex);
}

void flume_pool_cancel_alarm(struct flume_pool *pool, struct flume_alarm *alarm) {
  if (pool->io->submit != NULL) {
    pool->io->set_alarm(pool->io->ctx, alarm, 0);
    return;
  }
  uv_mutex_lock(&pool->mutex);
  while (pool->ringing == alarm && pool->pid == uv_os_getpid()) uv_cond_wait(&pool->clock_wake, &pool->mutex);
  if (alarm->at_ns != 0) flume_queue_remove(&alarm->queue);
  alarm->at_ns = 0;
  uv_mutex_unlock(&pool->mutex);
}

/* --- Closing ------------------------------------------------------------------------------------------------------ */

static void on_closed(uv_handle_t *handle) {
  struct flume_pool *pool = handle->data;
  void (*closed)(void *) = pool->closed;
  void *data = pool->data;
  flume_io_free(pool->io, pool);
  if (closed != NULL) closed(data);
}

static void end_threads(struct flume_pool *pool) {
  uv_mutex_lock(&pool->mutex);
  pool->closing = true;
  uv_cond_broadcast(&pool->wake);
  uv_cond_broadcast(&pool->clock_wake);
  uv_mutex_unlock(&pool->mutex);
  for (unsigned i = 0; i < pool->threads_count; i++) uv_thread_join(&pool->threads[i]);
  if (pool->has_clock) uv_thread_join(&pool->clock);
  uv_cond_destroy(&pool->clock_wake);
  uv_cond_destroy(&pool->wake);
  uv_mutex_destroy(&pool->mutex);
}

/* A fork may have left the mutex locked in the child: it is not touched there. */
void flume_pool_close(struct flume_pool *pool, void (*closed)(void *data), void *data) {
  if (pool->pid == uv_os_getpid()) {
    assert(pool->pending == 0 && pool->waiting == 0 && flume_queue_empty(&pool->alarms));
    end_threads(pool);
  }
  pool->closed = closed;
  pool->data = data;
  uv_close((uv_handle_t *)&pool->async, on_closed);
}
