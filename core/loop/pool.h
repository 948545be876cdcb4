/* Worker threads and a clock for the view engine, which needs no event loop.
 *
 * There is one worker for each processor. Workers start with the first job. The clock is a thread of its own that waits
 * for alarms, so that busy workers delay no alarm.
 *
 * (The log's writes and syncs go to libuv's own pool, so that no view delays an append.) */
#ifndef FLUME_POOL_H
#define FLUME_POOL_H

#include "base/io.h"
#include "base/queue.h"

struct flume_pool;

/* Embedded by the caller and kept until `done` is called or, without `done`, until `run` has returned. A job that is
 * in no queue may be submitted again, also from its own run. */
struct flume_job {
  void (*run)(struct flume_job *job);  /* on a worker thread */
  void (*done)(struct flume_job *job); /* afterwards, on the loop; NULL: not called */
  struct flume_queue queue;            /* private */
};

/* A time at which run is called. Embedded by the caller and kept until it is cancelled. */
struct flume_alarm {
  void (*run)(struct flume_alarm *alarm); /* on the clock's thread; short */
  uint64_t at_ns;                         /* by io->hrtime_ns; 0 while it is not set. Guarded by the pool */
  struct flume_queue queue;               /* private */
};

/* Opens a pool; flume_pool_close frees it. Jobs whose `done` is due keep the loop alive; the pool alone doesn't.
 * Where io->submit is set, jobs and alarms go there, and the pool has no threads. Errors: FLUME_ENOMEM, or libuv's.
 * Loop thread. */
int flume_pool_open(struct flume_pool **pool, uv_loop_t *loop, const struct flume_io *io);

/* Jobs begin in the order in which they are submitted. With `done`: loop thread; without: any thread. When not even one
 * thread can be started, a job with `done` runs within this call, one without in the loop's next turn. */
void flume_pool_submit(struct flume_pool *pool, struct flume_job *job);

/* The same, ahead of all waiting jobs: for a short job that a caller waits for. */
void flume_pool_submit_first(struct flume_pool *pool, struct flume_job *job);
/* Moves a submitted job that still waits ahead of all waiting jobs. Any thread. */
void flume_pool_hurry(struct flume_pool *pool, struct flume_job *job);

/* Whether a job waits for a thread: then a long job should end early. Any thread. */
bool flume_pool_is_wanted(struct flume_pool *pool);

/* Sets or moves the alarm: it runs once, soon after at_ns. Any thread. If the clock's thread can't be started, the
 * alarm runs late, once a later call starts it. */
void flume_pool_set_alarm(struct flume_pool *pool, struct flume_alarm *alarm, uint64_t at_ns);
/* Cancels the alarm, and waits until it doesn't run: the caller must not hold a lock that run takes. Any thread but
 * the clock's. */
void flume_pool_cancel_alarm(struct flume_pool *pool, struct flume_alarm *alarm);

/* Waits for the threads to end; no job may be pending. closed (may be NULL) fires when the pool is freed. A forked
 * child has no threads to wait for. Loop thread. */
void flume_pool_close(struct flume_pool *pool, void (*closed)(void *data), void *data);

#endif
