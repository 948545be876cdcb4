#include "loop/defer.h"

#include <assert.h>

static void on_idle(uv_idle_t *idle) {
  (void)idle; /* an active idle handle keeps the loop from sleeping */
}

static void stop_when_empty(struct flume_defer *defer) {
  if (!flume_queue_empty(&defer->pending)) return;
  uv_idle_stop(&defer->idle);
  uv_check_stop(&defer->check);
}

static void on_check(uv_check_t *check) {
  struct flume_defer *defer = check->data;
  struct flume_queue
      round; /* work that is deferred meanwhile waits for the next turn, so that the loop polls in between */
  flume_queue_init(&round);
  flume_queue_move(&round, &defer->pending);
  struct flume_queue *node;
  while ((node = flume_queue_shift(&round)) != NULL) {
    struct flume_deferred *deferred = FLUME_CONTAINER_OF(node, struct flume_deferred, queue);
    deferred->run(deferred);
  }
  stop_when_empty(defer);
}

void flume_defer_open(struct flume_defer *defer, uv_loop_t *loop) {
  flume_queue_init(&defer->pending);
  uv_idle_init(loop, &defer->idle); /* neither init can fail */
  uv_check_init(loop, &defer->check);
  defer->idle.data = defer;
  defer->check.data = defer;
  defer->open_handles = 2;
}

static void on_close(uv_handle_t *handle) {
  struct flume_defer *defer = handle->data;
  assert(defer->open_handles > 0 && flume_queue_empty(&defer->pending));
  if (--defer->open_handles == 0) defer->closed(defer);
}

void flume_defer_close(struct flume_defer *defer, void (*closed)(struct flume_defer *defer)) {
  assert(closed != NULL && defer->open_handles == 2);
  while (flume_queue_shift(&defer->pending) != NULL) continue;
  defer->closed = closed;
  uv_close((uv_handle_t *)&defer->idle, on_close);
  uv_close((uv_handle_t *)&defer->check, on_close);
}

void flume_deferred_init(struct flume_deferred *deferred, void (*run)(struct flume_deferred *deferred)) {
  assert(run != NULL);
  deferred->run = run;
  flume_queue_init(&deferred->queue);
}

void flume_defer(struct flume_defer *defer, struct flume_deferred *deferred) {
  if (!flume_queue_empty(&deferred->queue)) return;
  flume_queue_push(&defer->pending, &deferred->queue);
  uv_idle_start(&defer->idle, on_idle);
  uv_check_start(&defer->check, on_check);
}

void flume_deferred_cancel(struct flume_deferred *deferred) {
  flume_queue_remove(&deferred->queue);
}
