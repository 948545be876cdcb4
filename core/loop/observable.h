/* An observable number that only grows or is set back: a log's or a view's since. The value may be read on any thread;
 * all else is the loop thread's. A thread that reads a value sees what was written before it was set. */
#ifndef FLUME_OBV_H
#define FLUME_OBV_H

#include <stdatomic.h>

#include "base/queue.h"
#include "loop/defer.h"

struct flume_obv {
  _Atomic int64_t value;
  struct flume_queue observers; /* struct flume_observer */
  struct flume_defer *defer;    /* where notifications wait for the loop */
  struct flume_deferred notify;
};

void flume_obv_init(struct flume_obv *obv, struct flume_defer *defer, int64_t value);
/* Observers still there are let go of, and never called again. */
void flume_obv_fini(struct flume_obv *obv);

/* The value is seen at once; the observers are called from the loop, once for all that was set until then. */
void flume_obv_set(struct flume_obv *obv, int64_t value);

/* The observers are called although the value has not changed: something beside it has. */
void flume_obv_touch(struct flume_obv *obv);

void flume_obv_observe(struct flume_obv *obv, struct flume_observer *observer);

#endif
