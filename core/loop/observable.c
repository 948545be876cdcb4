#include "loop/observable.h"

#include <assert.h>

static void notify(struct flume_deferred *deferred) {
  struct flume_obv *obv = FLUME_CONTAINER_OF(deferred, struct flume_obv, notify);
  /* A callback may stop any observer, add observers, or set the value. Each observer goes back into the list before
   * its callback, so that stopping it works at any time. */
  struct flume_queue round;
  flume_queue_init(&round);
  flume_queue_move(&round, &obv->observers);
  struct flume_queue *node;
  while ((node = flume_queue_shift(&round)) != NULL) {
    struct flume_observer *observer = FLUME_CONTAINER_OF(node, struct flume_observer, queue);
    flume_queue_push(&obv->observers, node);
    observer->cb(observer, obv->value);
  }
}

void flume_obv_init(struct flume_obv *obv, struct flume_defer *defer, int64_t value) {
  atomic_init(&obv->value, value);
  obv->defer = defer;
  flume_queue_init(&obv->observers);
  flume_deferred_init(&obv->notify, notify);
}

void flume_obv_fini(struct flume_obv *obv) {
  flume_deferred_cancel(&obv->notify);
  while (flume_queue_shift(&obv->observers) != NULL) continue;
}

void flume_obv_touch(struct flume_obv *obv) {
  if (!flume_queue_empty(&obv->observers)) flume_defer(obv->defer, &obv->notify);
}

void flume_obv_set(struct flume_obv *obv, int64_t value) {
  if (obv->value == value) return;
  atomic_store_explicit(&obv->value, value, memory_order_release);
  flume_obv_touch(obv);
}

void flume_obv_observe(struct flume_obv *obv, struct flume_observer *observer) {
  assert(observer->cb != NULL);
  flume_queue_push(&obv->observers, &observer->queue);
}

void flume_observer_stop(struct flume_observer *observer) {
  if (observer->queue.next != NULL) flume_queue_remove(&observer->queue);
}
