/* Worker threads for views, and a clock for them: what the view engine runs on, without the caller's loop.
 *
 * There are as many workers as the machine has processors. They start when there is first something to do. One more
 * thread waits for alarms, so that busy workers delay none.
 *
 * (The log's writes and syncs go to libuv's own pool, so that no view can keep an append waiting.) */
#ifndef FLUME_POOL_H
#define FLUME_POOL_H

#include "base/io.h"
#include "base/queue.h"

struct flume_pool;

/* Embedded by the caller, who keeps it until `done` was called or, without one, until `run` has returned. A job that is
 * in no queue may be submitted again, also from its own run. */
struct flume_job {
  void (*run)(struct flume_job *job);  /* on a worker thread */
  void (*done)(struct flume_job *job); /* then, on the loop; NULL: the loop is not told */
  struct flume_queue queue;            /* private */
};

/* A moment at which something is to be done. Embedded by the caller, who keeps it until it is cancelled. */
struct flume_alarm {
  void (*run)(struct flume_alarm *alarm); /* on the clock's thread; short */
  uint64_t at_ns;                         /* by io->hrtime_ns; 0 while it is not set. Guarded by the pool */
  struct flume_queue queue;               /* private */
};

/* Jobs with `done` that have not come back keep the loop alive; the pool alone does not. Where io->submit is set, jobs
 * and alarms go there, and the pool has no threads. Errors: FLUME_ENOMEM, or libuv's. Loop thread. */
int flume_pool_open(struct flume_pool **pool, uv_loop_t *loop, const struct flume_io *io);

/* Jobs begin in the order in which they are submitted. With `done`: loop thread; without: any thread. When not even one
 * thread can be started, a job with `done` runs within this call, one without in the loop's next turn. */
void flume_pool_submit(struct flume_pool *pool, struct flume_job *job);

/* The same, ahead of all that wait: for a job that is short, and waited for. */
void flume_pool_submit_first(struct flume_pool *pool, struct flume_job *job);
/* A job that was submitted, and may still wait, goes ahead of all that wait. Any thread. */
void flume_pool_hurry(struct flume_pool *pool, struct flume_job *job);

/* Whether a job waits for a thread: whoever runs long should let it have this one. Any thread. */
bool flume_pool_is_wanted(struct flume_pool *pool);

/* Sets the alarm, or moves it: it runs once, soon after at_ns. Any thread. Without a thread for the clock it runs late:
 * when the next one is set and a thread can be started. */
void flume_pool_set_alarm(struct flume_pool *pool, struct flume_alarm *alarm, uint64_t at_ns);
/* The alarm does not run any more, and is not running: waits for it, so holds no lock that it takes. Any other thread. */
void flume_pool_cancel_alarm(struct flume_pool *pool, struct flume_alarm *alarm);

/* Waits for the threads to end; no job may be pending. closed (may be NULL) fires when the pool is gone. In a process
 * that was forked from the one that opened the pool there are no threads to wait for. Loop thread. */
void flume_pool_close(struct flume_pool *pool, void (*closed)(void *data), void *data);

#endif
