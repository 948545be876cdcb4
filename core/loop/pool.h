/* Worker threads for views: as many as the machine has processors, started when there is first something to do.
 *
 * (The log's writes and syncs go to libuv's own pool, so that no view can keep an append waiting.) */
#ifndef FLUME_POOL_H
#define FLUME_POOL_H

#include "base/io.h"
#include "base/queue.h"

struct flume_pool;

/* Embedded by the caller, who keeps it until done. */
struct flume_job {
  void (*run)(struct flume_job *job);  /* on a worker thread */
  void (*done)(struct flume_job *job); /* then, on the loop */
  struct flume_queue queue;            /* private */
};

/* Jobs that have not come back keep the loop alive; the pool alone does not. Errors: FLUME_ENOMEM, or libuv's. */
int flume_pool_open(struct flume_pool **pool, uv_loop_t *loop, const struct flume_io *io);

/* Jobs are begun in the order in which they are submitted. Loop thread. When not even one thread can be started, the
 * job is run within this call; done comes with the loop's next turn all the same. */
void flume_pool_submit(struct flume_pool *pool, struct flume_job *job);

/* The same, ahead of all that wait: for what is short, and waited for. */
void flume_pool_submit_first(struct flume_pool *pool, struct flume_job *job);

/* Waits for the threads to end; no job may be pending. closed (may be NULL) fires when the pool is gone. */
void flume_pool_close(struct flume_pool *pool, void (*closed)(void *data), void *data);

#endif
