/* An observable number that grows, or is set back: the since of a log or a view. Any thread may read the value, and
 * then sees all writes before it was set. Everything else: loop thread. */
#ifndef FLUME_OBV_H
#define FLUME_OBV_H

#include <stdatomic.h>

#include "base/queue.h"
#include "loop/defer.h"

struct flume_obv {
  _Atomic int64_t value;
  struct flume_queue observers; /* struct flume_observer */
  struct flume_defer *defer;    /* where notifications wait for the loop's next turn */
  struct flume_deferred notify;
};

void flume_obv_init(struct flume_obv *obv, struct flume_defer *defer, int64_t value);
/* Removes all observers, which are never called again. */
void flume_obv_fini(struct flume_obv *obv);

/* Sets the value at once. The loop calls the observers later, once for all changes until then. */
void flume_obv_set(struct flume_obv *obv, int64_t value);

/* The loop calls the observers although the value has not changed. */
void flume_obv_touch(struct flume_obv *obv);

void flume_obv_observe(struct flume_obv *obv, struct flume_observer *observer);

#endif
