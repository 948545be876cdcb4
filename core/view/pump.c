/* Happy path: since grows; every idle sink that is behind asks for the block with its next record. If the block is in
 * the window it is handed over; else it is planned and loaded on a worker thread, and when it is back all sinks are
 * looked at again. While a sink works on a block, the next one is loaded ahead.
 *
 * Sinks that build side by side share one pass over the log: a block stays in the window while a sink that keeps pace
 * still needs it, and a sink that is a whole window ahead waits for the others. One that takes its time over a block
 * is left behind, and reads for itself.
 *
 * Failures: a block that can't be read fails the sinks that need it, and nobody else; they can be restarted. */
#include "view/pump.h"

#include <assert.h>

#include "base/err.h"

#define BLOCK_BYTES (512u << 10)
#define LOAD_HERE_BYTES (64u << 10) /* smaller blocks are read at once: they were just written */
#define PACE_RATIO 4u               /* over the quickest: who takes longer over a block is not waited for */
#define PACE_MS 5u                  /* and this much more, since a turn is short */
#define PATIENCE_MS 100u
#define PATIENCE_SINK_MS 10u

struct flume_load {
  struct flume_job job;
  struct flume_pump *pump;
  struct flume_block *block;
  int64_t deletions; /* of the log, when the block was planned */
  uint64_t number;   /* blocks read before it */
  bool loading;
  bool dropped; /* no longer in the window: to be freed when back */
  int status;
  struct flume_err err;
};

static void load_free(struct flume_load *load) {
  flume_block_unref(load->block);
  flume_io_free(load->pump->log->io, load);
}

bool flume_sink_is_stale(const struct flume_sink *sink) {
  struct flume_log *log = sink->pump->log;
  for (int64_t i = sink->deletions; i < log->deletions.value; i++) {
    if (flume__log_deletion_at(log, i) <= sink->since.value) return true;
  }
  return false;
}

static bool has_come_to(const struct flume_sink *sink, int64_t seq) {
  return sink->pump->ready && !sink->restarting && sink->since.value >= seq && !flume_sink_is_stale(sink);
}

/* --- Waits --------------------------------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer);

static void set_timer(struct flume_pump *pump) {
  uint64_t earliest = 0;
  struct flume_queue *s, *w;
  for (s = pump->sinks.next; s != &pump->sinks; s = s->next) {
    struct flume_sink *sink = FLUME_CONTAINER_OF(s, struct flume_sink, queue);
    for (w = sink->waits.next; w != &sink->waits; w = w->next) {
      uint64_t deadline = FLUME_CONTAINER_OF(w, struct flume_wait, queue)->deadline_ms;
      if (deadline != 0 && (earliest == 0 || deadline < earliest)) earliest = deadline;
    }
  }
  uint64_t now = uv_now(pump->log->loop);
  if (pump->held_back && (earliest == 0 || earliest > now + PATIENCE_MS)) earliest = now + PATIENCE_MS;
  if (earliest == 0) uv_timer_stop(&pump->timer);
  else uv_timer_start(&pump->timer, on_timer, earliest > now ? earliest - now : 0, 0);
}

static int wait_status(const struct flume_sink *sink, const struct flume_wait *wait, uint64_t now) {
  if (sink->state == FLUME_SINK_FAILED && !sink->restarting) return FLUME_EVIEW;
  if (has_come_to(sink, wait->seq)) return 0;
  const struct flume_log *log = sink->pump->log;
  if (log->following == FLUME_FOLLOWING_LOST && wait->seq > log->since.value) return log->following_why.code;
  if (wait->deadline_ms != 0 && wait->deadline_ms <= now) return FLUME_ETIMEDOUT;
  return 1;
}

/* Ends the waits that can be ended. They are taken out first: a callback may wait anew. */
static void end_waits(struct flume_sink *sink) {
  struct flume_queue ended, *node, *next;
  flume_queue_init(&ended);
  uint64_t now = uv_now(sink->pump->log->loop);
  for (node = sink->waits.next; node != &sink->waits; node = next) {
    next = node->next;
    if (wait_status(sink, FLUME_CONTAINER_OF(node, struct flume_wait, queue), now) > 0) continue;
    flume_queue_remove(node);
    flume_queue_push(&ended, node);
  }
  while ((node = flume_queue_shift(&ended)) != NULL) {
    struct flume_wait *wait = FLUME_CONTAINER_OF(node, struct flume_wait, queue);
    wait->cb(wait, wait_status(sink, wait, now));
  }
}

static void on_timer(uv_timer_t *timer) {
  struct flume_pump *pump = timer->data;
  flume_defer(&pump->log->defer, &pump->schedule);
}

bool flume_sink_has(const struct flume_sink *sink, int64_t seq) {
  return sink->state != FLUME_SINK_FAILED && has_come_to(sink, seq);
}

void flume_sink_wait(struct flume_sink *sink, struct flume_wait *wait) {
  flume_queue_push(&sink->waits, &wait->queue);
  flume_defer(&sink->pump->log->defer, &sink->pump->schedule);
}

/* --- Blocks -------------------------------------------------------------------------------------------------- */

static bool load_holds(const struct flume_load *load, int64_t seq) {
  const struct flume_block *block = load->block;
  return flume_block_has_next(block, seq) && load->deletions == load->pump->log->deletions.value;
}

static struct flume_load *find_load(struct flume_pump *pump, int64_t seq) {
  for (unsigned i = 0; i < FLUME_PUMP_WINDOW; i++) {
    if (pump->window[i] != NULL && load_holds(pump->window[i], seq)) return pump->window[i];
  }
  return NULL;
}

static uint64_t now_ns(const struct flume_pump *pump) {
  return pump->log->io->hrtime_ns(pump->log->io->ctx);
}

/* How long a sink may be at a block until it counts as stuck. They take turns, so the more there are the longer. */
static uint64_t patience_ns(const struct flume_pump *pump) {
  return (PATIENCE_MS + PATIENCE_SINK_MS * (uint64_t)pump->sinks_count) * 1000000u;
}

static bool keeps_pace(const struct flume_sink *sink, uint64_t now) {
  if (sink->restarting || sink->slow) return false;
  if (sink->state == FLUME_SINK_FEEDING) return now - sink->feed_ns < patience_ns(sink->pump);
  return sink->state == FLUME_SINK_IDLE;
}

/* Whether the sink takes much longer over its blocks than the quickest one does. */
static bool lags(const struct flume_sink *sink) {
  const struct flume_queue *sinks = &sink->pump->sinks;
  uint64_t quickest = sink->turn_ns;
  for (struct flume_queue *s = sinks->next; s != sinks; s = s->next) {
    const struct flume_sink *other = FLUME_CONTAINER_OF(s, struct flume_sink, queue);
    if (other->turn_ns != 0 && other->turn_ns < quickest) quickest = other->turn_ns;
  }
  return sink->turn_ns > PACE_RATIO * quickest + PACE_MS * 1000000u;
}

static void note_turn(struct flume_sink *sink) {
  uint64_t turn = now_ns(sink->pump) - sink->feed_ns;
  sink->turn_ns = sink->turn_ns == 0 ? turn : sink->turn_ns - sink->turn_ns / 4 + turn / 4;
  sink->slow = lags(sink);
}

/* By a sink that is at it, or at a block before it that is at hand too. */
static bool is_needed(struct flume_pump *pump, const struct flume_load *load, uint64_t now) {
  for (struct flume_queue *s = pump->sinks.next; s != &pump->sinks; s = s->next) {
    struct flume_sink *sink = FLUME_CONTAINER_OF(s, struct flume_sink, queue);
    int64_t next = sink->since.value + 1;
    bool has_to_come = next <= flume_block_last_seq(load->block);
    if (has_to_come && keeps_pace(sink, now) && find_load(pump, next) != NULL) return true;
  }
  return false;
}

/* A place in the window for another block: one that is free, or whose block nobody needs who keeps pace, the oldest
 * first. NULL: there is none now. */
static struct flume_load **find_place(struct flume_pump *pump) {
  struct flume_load **oldest = NULL;
  uint64_t now = now_ns(pump);
  for (unsigned i = 0; i < FLUME_PUMP_WINDOW; i++) {
    struct flume_load **place = &pump->window[i];
    if (*place == NULL) return place;
    bool older = oldest == NULL || (*place)->number < (*oldest)->number;
    if (older && !is_needed(pump, *place, now)) oldest = place;
  }
  return oldest;
}

static void drop_load(struct flume_load *load) {
  if (load->loading) load->dropped = true;
  else load_free(load);
}

static void load_run(struct flume_job *job) {
  struct flume_load *load = FLUME_CONTAINER_OF(job, struct flume_load, job);
  load->status = flume_block_load(load->block, &load->err);
}

static void load_done(struct flume_job *job) {
  struct flume_load *load = FLUME_CONTAINER_OF(job, struct flume_load, job);
  struct flume_pump *pump = load->pump;
  load->loading = false;
  pump->loads--;
  if (load->dropped) load_free(load);
  flume_defer(&pump->log->defer, &pump->schedule);
}

/* Begins to read the block with seq. *out is the load, in the window. FLUME_EAGAIN: no place for it now. */
static int begin_load(struct flume_pump *pump, int64_t seq, struct flume_load **out, struct flume_err *err) {
  struct flume_load **place = find_place(pump);
  if (place == NULL) return FLUME_EAGAIN;
  struct flume_load *load = flume_io_zalloc(pump->log->io, sizeof *load);
  if (load == NULL) return flume_err_nomem(err);
  int rv = flume__log_plan(pump->log, seq, false, BLOCK_BYTES, &load->block, err);
  if (rv != 0) {
    flume_io_free(pump->log->io, load);
    return rv;
  }
  load->pump = pump;
  load->deletions = load->block->deletions;
  load->job.run = load_run;
  load->job.done = load_done;
  if (*place != NULL) drop_load(*place);
  *place = load;
  load->number = pump->blocks_read++;
  if (load->block->bytes <= LOAD_HERE_BYTES) {
    load->status = flume_block_load(load->block, &load->err);
  } else {
    load->loading = true;
    pump->loads++;
    flume_pool_submit_first(pump->pool, &load->job);
  }
  *out = load;
  return 0;
}

static void forget_load(struct flume_pump *pump, struct flume_load *load) {
  for (unsigned i = 0; i < FLUME_PUMP_WINDOW; i++) {
    if (pump->window[i] == load) pump->window[i] = NULL;
  }
  load_free(load);
}

static void load_ahead(struct flume_pump *pump, const struct flume_block *block) {
  int64_t next = flume_block_last_seq(block) + 1;
  struct flume_load *load;
  if (next <= pump->log->since.value && find_load(pump, next) == NULL) begin_load(pump, next, &load, NULL);
}

/* --- Scheduling ---------------------------------------------------------------------------------------------- */

static void feed(struct flume_sink *sink) {
  struct flume_pump *pump = sink->pump;
  int64_t next = sink->since.value + 1;
  struct flume_err err = {0};
  struct flume_load *load = find_load(pump, next);
  int rv = load != NULL ? 0 : begin_load(pump, next, &load, &err);
  if (rv == FLUME_EAGAIN) {
    pump->held_back = true;
    return;
  }
  if (rv != 0 || load == NULL) {
    flume_sink_failed(sink, next, &err);
    return;
  }
  if (load->loading) return;
  if (load->status != 0) {
    err = load->err;
    forget_load(pump, load);
    flume_sink_failed(sink, next, &err);
    return;
  }
  struct flume_block *block = flume_block_ref(load->block);
  sink->state = FLUME_SINK_FEEDING;
  sink->feed_ns = now_ns(pump);
  load_ahead(pump, block);
  sink->ops->feed(sink, block, flume_block_find(block, next));
}

/* Brings the sink to where all deletions are known to it: what it has not consumed it will pass over. */
static void learn_deletions(struct flume_sink *sink) {
  if (flume_sink_is_stale(sink)) {
    sink->state = FLUME_SINK_FORGETTING;
    sink->ops->forget(sink);
  } else {
    sink->deletions = sink->pump->log->deletions.value;
  }
}

static void schedule_sink(struct flume_sink *sink) {
  struct flume_pump *pump = sink->pump;
  if (sink->state == FLUME_SINK_IDLE && !sink->restarting) learn_deletions(sink);
  if (sink->deletions != pump->log->deletions.value) return; /* it has to learn of them before it is fed */
  if (sink->state == FLUME_SINK_IDLE && pump->ready && sink->since.value < pump->log->since.value) feed(sink);
}

static void run_schedule(struct flume_deferred *deferred) {
  struct flume_pump *pump = FLUME_CONTAINER_OF(deferred, struct flume_pump, schedule);
  pump->held_back = false;
  /* Each comes to the end of the list, so that all are in it all the time; a callback may attach and detach any. */
  for (unsigned left = pump->sinks_count; left > 0 && !flume_queue_empty(&pump->sinks); left--) {
    struct flume_queue *node = flume_queue_shift(&pump->sinks);
    struct flume_sink *sink = FLUME_CONTAINER_OF(node, struct flume_sink, queue);
    flume_queue_push(&pump->sinks, node);
    schedule_sink(sink);
    if (sink->state != FLUME_SINK_DETACHED) end_waits(sink);
  }
  if (pump->closing) return;
  set_timer(pump);
}

static void on_since(struct flume_observer *observer, int64_t value) {
  (void)value;
  struct flume_pump *pump = observer->data;
  flume_defer(&pump->log->defer, &pump->schedule);
}

/* --- Sinks --------------------------------------------------------------------------------------------------- */

static void start_progress(struct flume_sink *sink, int64_t since) {
  sink->start_seq = since;
  sink->start_ns = now_ns(sink->pump);
}

void flume_sink_attach(struct flume_sink *sink, struct flume_pump *pump, const struct flume_sink_ops *ops,
                       int64_t since, int64_t deletions) {
  sink->ops = ops;
  sink->pump = pump;
  sink->state = FLUME_SINK_IDLE;
  sink->restarting = false;
  sink->slow = false;
  sink->turn_ns = 0;
  sink->deletions = deletions;
  sink->failure_seq = -1;
  flume_obv_init(&sink->since, &pump->log->defer, since);
  flume_queue_init(&sink->waits);
  flume_queue_push(&pump->sinks, &sink->queue);
  pump->sinks_count++;
  start_progress(sink, since);
  flume_defer(&pump->log->defer, &pump->schedule);
}

void flume_sink_detach(struct flume_sink *sink) {
  assert(sink->state != FLUME_SINK_FEEDING && sink->state != FLUME_SINK_FORGETTING);
  sink->state = FLUME_SINK_DETACHED;
  flume_queue_remove(&sink->queue);
  sink->pump->sinks_count--;
  struct flume_queue *node;
  while ((node = flume_queue_shift(&sink->waits)) != NULL) {
    struct flume_wait *wait = FLUME_CONTAINER_OF(node, struct flume_wait, queue);
    wait->cb(wait, FLUME_ECLOSED);
  }
  flume_obv_fini(&sink->since);
}

void flume_sink_restart(struct flume_sink *sink, int64_t since, int64_t deletions) {
  assert(sink->state != FLUME_SINK_FEEDING && sink->state != FLUME_SINK_FORGETTING);
  sink->state = FLUME_SINK_IDLE;
  sink->restarting = false;
  sink->failure = (struct flume_err){0};
  sink->failure_seq = -1;
  sink->deletions = deletions;
  start_progress(sink, since);
  flume_obv_set(&sink->since, since);
  flume_defer(&sink->pump->log->defer, &sink->pump->schedule);
}

void flume_sink_fed(struct flume_sink *sink, int64_t since) {
  assert(sink->state == FLUME_SINK_FEEDING);
  sink->state = FLUME_SINK_IDLE;
  note_turn(sink);
  flume_obv_set(&sink->since, since);
  flume_defer(&sink->pump->log->defer, &sink->pump->schedule);
}

void flume_sink_unfeed(struct flume_sink *sink) {
  assert(sink->state == FLUME_SINK_FEEDING);
  sink->state = FLUME_SINK_IDLE;
}

void flume_sink_forgot(struct flume_sink *sink, int64_t deletions) {
  assert(sink->state == FLUME_SINK_FORGETTING);
  sink->state = FLUME_SINK_IDLE;
  sink->deletions = deletions;
  flume_defer(&sink->pump->log->defer, &sink->pump->schedule);
}

void flume_sink_failed(struct flume_sink *sink, int64_t seq, const struct flume_err *err) {
  sink->state = FLUME_SINK_FAILED;
  sink->failure = *err;
  sink->failure_seq = seq;
  flume_defer(&sink->pump->log->defer, &sink->pump->schedule);
}

/* --- Opening and closing ------------------------------------------------------------------------------------- */

int flume_pump_open(struct flume_pump *pump, struct flume_log *log, struct flume_pool *pool) {
  *pump = (struct flume_pump){.log = log, .pool = pool, .ready = true};
  flume_queue_init(&pump->sinks);
  flume_deferred_init(&pump->schedule, run_schedule);
  pump->on_since = (struct flume_observer){.cb = on_since, .data = pump};
  pump->on_deletion = (struct flume_observer){.cb = on_since, .data = pump};
  flume_obv_observe(&log->since, &pump->on_since);
  flume_obv_observe(&log->deletions, &pump->on_deletion);
  uv_timer_init(log->loop, &pump->timer);
  pump->timer.data = pump;
  return 0;
}

void flume_pump_set_ready(struct flume_pump *pump, bool ready) {
  pump->ready = ready;
  flume_defer(&pump->log->defer, &pump->schedule);
}

static void on_timer_closed(uv_handle_t *handle) {
  struct flume_pump *pump = handle->data;
  pump->closed(pump);
}

static void close_when_quiet(struct flume_deferred *deferred) {
  struct flume_pump *pump = FLUME_CONTAINER_OF(deferred, struct flume_pump, schedule);
  if (pump->loads > 0) return; /* the last one to come back defers this again */
  for (unsigned i = 0; i < FLUME_PUMP_WINDOW; i++) {
    if (pump->window[i] != NULL) load_free(pump->window[i]);
    pump->window[i] = NULL;
  }
  uv_close((uv_handle_t *)&pump->timer, on_timer_closed);
}

void flume_pump_close(struct flume_pump *pump, void (*closed)(struct flume_pump *pump)) {
  assert(pump->sinks_count == 0);
  pump->closing = true;
  pump->closed = closed;
  flume_observer_stop(&pump->on_since);
  flume_observer_stop(&pump->on_deletion);
  uv_timer_stop(&pump->timer);
  flume_deferred_cancel(&pump->schedule);
  pump->schedule.run = close_when_quiet;
  flume_defer(&pump->log->defer, &pump->schedule);
}
