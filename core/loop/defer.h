/* Work for the loop's next turn. A function that promises never to call back from inside itself defers the callback.
 *
 * Pending work keeps the loop alive and awake. Loop thread only. */
#ifndef FLUME_DEFER_H
#define FLUME_DEFER_H

#include "base/queue.h"

struct flume_deferred {
  void (*run)(struct flume_deferred *deferred);
  struct flume_queue queue;
};

struct flume_defer {
  uv_idle_t idle;             /* active while there is work */
  uv_check_t check;           /* runs the work after the loop has polled */
  struct flume_queue pending; /* struct flume_deferred */
  void (*closed)(struct flume_defer *defer);
  int open_handles;
};

void flume_defer_open(struct flume_defer *defer, uv_loop_t *loop);
/* closed fires when the handles are gone. Pending work is dropped, and never runs. */
void flume_defer_close(struct flume_defer *defer, void (*closed)(struct flume_defer *defer));

void flume_deferred_init(struct flume_deferred *deferred, void (*run)(struct flume_deferred *deferred));
/* Queues deferred, which runs once in the loop's next turn, however often it is deferred until then. */
void flume_defer(struct flume_defer *defer, struct flume_deferred *deferred);
void flume_deferred_cancel(struct flume_deferred *deferred);

#endif
