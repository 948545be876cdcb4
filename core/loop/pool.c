#include "loop/pool.h"

#include <assert.h>

#define MAX_THREADS 64u

struct flume_pool {
  const struct flume_io *io;
  uv_mutex_t mutex;
  uv_cond_t wake;           /* there is a job, or the pool closes */
  struct flume_queue todo;  /* guarded by mutex */
  struct flume_queue ended; /* guarded by mutex */
  bool closing;             /* guarded by mutex */
  uv_async_t async;         /* something has ended */
  unsigned pending;         /* jobs that have not come back; loop thread */
  uv_thread_t threads[MAX_THREADS];
  unsigned threads_count;
  unsigned threads_max;
  void (*closed)(void *data);
  void *data;
};

static void run_thread(void *arg) {
  struct flume_pool *pool = arg;
  uv_mutex_lock(&pool->mutex);
  for (;;) {
    struct flume_queue *node = flume_queue_shift(&pool->todo);
    if (node == NULL) {
      if (pool->closing) break;
      uv_cond_wait(&pool->wake, &pool->mutex);
      continue;
    }
    uv_mutex_unlock(&pool->mutex);
    struct flume_job *job = FLUME_CONTAINER_OF(node, struct flume_job, queue);
    job->run(job);
    uv_mutex_lock(&pool->mutex);
    bool first = flume_queue_empty(&pool->ended);
    flume_queue_push(&pool->ended, &job->queue);
    if (first) uv_async_send(&pool->async);
  }
  uv_mutex_unlock(&pool->mutex);
}

static void on_async(uv_async_t *async) {
  struct flume_pool *pool = async->data;
  struct flume_queue round;
  flume_queue_init(&round);
  uv_mutex_lock(&pool->mutex);
  flume_queue_move(&round, &pool->ended);
  uv_mutex_unlock(&pool->mutex);
  struct flume_queue *node;
  while ((node = flume_queue_shift(&round)) != NULL) {
    struct flume_job *job = FLUME_CONTAINER_OF(node, struct flume_job, queue);
    if (--pool->pending == 0) uv_unref((uv_handle_t *)&pool->async);
    job->done(job);
  }
}

int flume_pool_open(struct flume_pool **out, uv_loop_t *loop, const struct flume_io *io) {
  struct flume_pool *pool = flume_io_zalloc(io, sizeof *pool);
  if (pool == NULL) return FLUME_ENOMEM;
  pool->io = io;
  flume_queue_init(&pool->todo);
  flume_queue_init(&pool->ended);
  unsigned processors = uv_available_parallelism();
  pool->threads_max = processors < MAX_THREADS ? processors : MAX_THREADS;
  int rv = uv_mutex_init(&pool->mutex);
  if (rv != 0) goto err_after_alloc;
  rv = uv_cond_init(&pool->wake);
  if (rv != 0) goto err_after_mutex;
  rv = uv_async_init(loop, &pool->async, on_async);
  if (rv != 0) goto err_after_cond;
  pool->async.data = pool;
  uv_unref((uv_handle_t *)&pool->async);
  *out = pool;
  return 0;

err_after_cond:
  uv_cond_destroy(&pool->wake);
err_after_mutex:
  uv_mutex_destroy(&pool->mutex);
err_after_alloc:
  assert(rv != 0);
  flume_io_free(io, pool);
  return rv;
}

static void start_thread(struct flume_pool *pool) {
  if (pool->threads_count == pool->threads_max || pool->pending <= pool->threads_count) return;
  if (uv_thread_create(&pool->threads[pool->threads_count], run_thread, pool) == 0) pool->threads_count++;
}

/* place(todo) is the node that the job goes before. */
static void submit_before(struct flume_pool *pool, struct flume_job *job,
                          struct flume_queue *(*place)(struct flume_queue *todo)) {
  if (pool->pending++ == 0) uv_ref((uv_handle_t *)&pool->async);
  start_thread(pool);
  if (pool->threads_count == 0) {
    job->run(job);
    uv_mutex_lock(&pool->mutex);
    flume_queue_push(&pool->ended, &job->queue);
    uv_mutex_unlock(&pool->mutex);
    uv_async_send(&pool->async);
    return;
  }
  uv_mutex_lock(&pool->mutex);
  flume_queue_push(place(&pool->todo), &job->queue);
  uv_cond_signal(&pool->wake);
  uv_mutex_unlock(&pool->mutex);
}

static struct flume_queue *end_of(struct flume_queue *list) {
  return list;
}

static struct flume_queue *start_of(struct flume_queue *list) {
  return list->next;
}

void flume_pool_submit(struct flume_pool *pool, struct flume_job *job) {
  submit_before(pool, job, end_of);
}

void flume_pool_submit_first(struct flume_pool *pool, struct flume_job *job) {
  submit_before(pool, job, start_of);
}

static void on_closed(uv_handle_t *handle) {
  struct flume_pool *pool = handle->data;
  void (*closed)(void *) = pool->closed;
  void *data = pool->data;
  flume_io_free(pool->io, pool);
  if (closed != NULL) closed(data);
}

void flume_pool_close(struct flume_pool *pool, void (*closed)(void *data), void *data) {
  assert(pool->pending == 0);
  uv_mutex_lock(&pool->mutex);
  pool->closing = true;
  uv_cond_broadcast(&pool->wake);
  uv_mutex_unlock(&pool->mutex);
  for (unsigned i = 0; i < pool->threads_count; i++) uv_thread_join(&pool->threads[i]);
  uv_cond_destroy(&pool->wake);
  uv_mutex_destroy(&pool->mutex);
  pool->closed = closed;
  pool->data = data;
  uv_close((uv_handle_t *)&pool->async, on_closed);
}
