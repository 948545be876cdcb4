/* Happy path: the log publishes records, and tells the pump on the thread that wrote them. Every idle sink that is
 * behind needs the block with its next record. A block in the window is handed over; any other block is planned, and
 * loaded by a worker, which then looks at all sinks again. While a sink works on a block, the next block is loaded. A
 * sink that has consumed its block gets the next block at once, on the same thread.
 *
 * Sinks that build side by side share one pass over the log: a block stays in the window while a sink that keeps
 * pace needs it, and a sink that is a whole window ahead waits for the others. No sink waits for a slow sink, which
 * loads its blocks itself.
 *
 * Failures:
 *   - A block can't be read: the sinks that need it fail, and no others. They can be restarted.
 *   - There is no memory for a plan: the same.
 *   - The log can't follow its writer: waits for records beyond the log's since end with the reason.
 *
 * Invariants: a sink is fed only records up to the log's since, in order, none twice. Its since never passes the log's.
 * A sink with unprocessed deletions of consumed records is not fed. */
#include "view/pump.h"

#include <assert.h>

#include "base/err.h"

#define BLOCK_BYTES (512u << 10)
#define LOAD_HERE_BYTES (64u << 10) /* smaller blocks are read at once: they were just written */
#define PACE_RATIO 4u               /* times the quickest sink's time for a block: no sink waits for a slower one */
#define PACE_MS 5u                  /* plus this, since a turn is short */
#define PATIENCE_MS 100u
#define TURN_PAUSE_NS (1000u * 1000)
#define PATIENCE_SINK_MS 10u

struct flume_load {
  struct flume_job job;
  struct flume_pump *pump;
  struct flume_block *block;
  int64_t deletions; /* of the log when the block was planned */
  uint64_t number;   /* blocks read before it */
  bool loading;
  bool dropped; /* no longer in the window: freed when loading ends */
  int status;
  struct flume_err err;
};

static void schedule_all(struct flume_pump *pump);

static void load_free(struct flume_load *load) {
  flume_block_unref(load->block);
  flume_io_free(load->pump->log->io, load);
}

static uint64_t now_ns(const struct flume_pump *pump) {
  return pump->log->io->hrtime_ns(pump->log->io->ctx);
}

/* --- The lock, and the owner's loop ---------------------------------------------------------------------------- */

void flume_pump_lock(struct flume_pump *pump) {
  uv_mutex_lock(&pump->lock);
}

static bool is_owner(const struct flume_pump *pump) {
  uv_thread_t self = uv_thread_self();
  return uv_thread_equal(&self, &pump->owner.thread) != 0;
}

/* Owner. Work and pending news keep the loop alive. */
static void keep_loop(struct flume_pump *pump, bool alive) {
  if (alive == pump->owner.referenced || pump->closed != NULL) return;
  pump->owner.referenced = alive;
  if (alive) uv_ref((uv_handle_t *)&pump->owner.async);
  else uv_unref((uv_handle_t *)&pump->owner.async);
}

static bool has_news(const struct flume_pump *pump) {
  return pump->news.moved || !flume_queue_empty(&pump->news.notices) || !flume_queue_empty(&pump->news.turns);
}

void flume_pump_unlock(struct flume_pump *pump) {
  bool here = is_owner(pump), news = has_news(pump), alive = news || pump->busy > 0;
  bool tells = !pump->news.told && (news || (!here && pump->busy == 0));
  if (tells) pump->news.told = true;
  if (tells && !here) uv_async_send(&pump->owner.async); /* still locked: the pump can't be closed meanwhile */
  uv_mutex_unlock(&pump->lock);
  if (!here) return;
  keep_loop(pump, alive);
  if (tells) flume_defer(&pump->log->defer, &pump->owner.drain);
}

/* Zeroed, or taken out of a list. */
static bool is_in_no_list(const struct flume_queue *node) {
  return node->next == NULL || flume_queue_empty(node);
}

void flume_pump_tell(struct flume_pump *pump, struct flume_notice *notice) {
  assert(is_in_no_list(&notice->queue) && notice->run != NULL);
  flume_queue_push(&pump->news.notices, &notice->queue);
}

void flume_pump_give_turn(struct flume_pump *pump, struct flume_turn *turn) {
  assert(is_in_no_list(&turn->queue) && turn->run != NULL);
  flume_queue_push(&pump->news.turns, &turn->queue);
  atomic_store_explicit(&pump->news.has_turns, true, memory_order_relaxed);
}

void flume_pump_begin_work(struct flume_pump *pump) {
  pump->busy++;
}

void flume_pump_end_work(struct flume_pump *pump) {
  assert(pump->busy > 0);
  pump->busy--;
}

void flume_pump_take_turns(struct flume_pump *pump) {
  struct flume_queue round, *node;
  assert(is_owner(pump));
  if (pump->owner.taking || !atomic_load_explicit(&pump->news.has_turns, memory_order_relaxed)) return;
  pump->owner.taking = true;
  flume_queue_init(&round);
  flume_pump_lock(pump);
  flume_queue_move(&round, &pump->news.turns);
  atomic_store_explicit(&pump->news.has_turns, false, memory_order_relaxed);
  while ((node = flume_queue_shift(&round)) != NULL) {
    flume_pump_unlock(pump);
    struct flume_turn *turn = FLUME_CONTAINER_OF(node, struct flume_turn, queue);
    turn->run(turn);
    flume_pump_lock(pump);
  }
  pump->owner.taking = false;
  flume_pump_unlock(pump);
}

void flume_pump_take_due_turns(struct flume_pump *pump) {
  if (!atomic_load_explicit(&pump->news.has_turns, memory_order_relaxed)) return;
  uint64_t now = now_ns(pump);
  if (now - pump->owner.took_ns < TURN_PAUSE_NS) return;
  pump->owner.took_ns = now;
  flume_pump_take_turns(pump);
}

static void tell_observers(struct flume_pump *pump) {
  if (!pump->news.moved) return;
  pump->news.moved = false;
  for (struct flume_queue *s = pump->sinks.next; s != &pump->sinks; s = s->next) {
    struct flume_sink *sink = FLUME_CONTAINER_OF(s, struct flume_sink, queue);
    int64_t since = sink->since.value;
    if (since == sink->seen_since) continue;
    sink->seen_since = since;
    flume_obv_touch(&sink->since);
  }
}

/* Notices that a notice queues wait for the next turn of the loop, so that the loop polls in between. */
static void run_notices(struct flume_pump *pump) {
  struct flume_queue round, *node;
  flume_queue_init(&round);
  flume_pump_lock(pump);
  pump->news.told = false;
  tell_observers(pump);
  flume_queue_move(&round, &pump->news.notices);
  while ((node = flume_queue_shift(&round)) != NULL) { /* locked: a notice that is in no queue may be handed in again */
    uv_mutex_unlock(&pump->lock);
    struct flume_notice *notice = FLUME_CONTAINER_OF(node, struct flume_notice, queue);
    notice->run(notice);
    flume_pump_lock(pump);
  }
  uv_mutex_unlock(&pump->lock);
}

static void drain(struct flume_pump *pump) {
  run_notices(pump);
  flume_pump_take_turns(pump);
  flume_pump_lock(pump);
  flume_pump_unlock(pump); /* unlocking updates whether the loop stays alive */
}

static void on_drain(struct flume_deferred *deferred) {
  drain(FLUME_CONTAINER_OF(deferred, struct flume_pump, owner.drain));
}

static void on_async(uv_async_t *async) {
  struct flume_pump *pump = async->data;
  if (pump->closed == NULL) drain(pump);
  else flume_defer(&pump->log->defer, &pump->owner.drain);
}

/* --- Waits --------------------------------------------------------------------------------------------------- */

/* A repair may leave deletions whose seq is not known (-1): such a record may be any that was consumed. */
bool flume_sink_is_stale(const struct flume_sink *sink) {
  struct flume_log *log = sink->pump->log;
  if (sink->since.value < 0) return false; /* nothing was consumed */
  for (int64_t i = sink->deletions; i < log->deletions.value; i++) {
    if (flume__log_deletion_at(log, i) <= sink->since.value) return true;
  }
  return false;
}

static bool has_reached(const struct flume_sink *sink, int64_t seq) {
  return sink->pump->ready && !sink->restarting && sink->since.value >= seq && !flume_sink_is_stale(sink);
}

bool flume_sink_has(const struct flume_sink *sink, int64_t seq) {
  return sink->state != FLUME_SINK_FAILED && has_reached(sink, seq);
}

/* Why a log can't follow its writer any more; 0: it can. */
static int lost_status(struct flume_log *log) {
  flume__log_lock(log);
  int status = log->following == FLUME_FOLLOWING_LOST ? log->following_why.code : 0;
  flume__log_unlock(log);
  return status;
}

/* 1: the wait continues. */
static int wait_status(const struct flume_sink *sink, const struct flume_wait *wait, uint64_t now) {
  if (sink->state == FLUME_SINK_FAILED && !sink->restarting) return FLUME_EVIEW;
  if (has_reached(sink, wait->seq)) return 0;
  struct flume_log *log = sink->pump->log;
  if (wait->seq > log->since.value) {
    int lost = lost_status(log);
    if (lost != 0) return lost;
  }
  if (wait->deadline_ns != 0 && wait->deadline_ns <= now) return FLUME_ETIMEDOUT;
  return 1;
}

static void run_wait(struct flume_notice *notice) {
  struct flume_wait *wait = FLUME_CONTAINER_OF(notice, struct flume_wait, notice);
  wait->cb(wait, wait->status);
}

void flume_sink_unwait(struct flume_sink *sink, struct flume_wait *wait) {
  assert(!flume_queue_empty(&wait->queue));
  if (wait->deadline_ns != 0) flume_pump_end_work(sink->pump);
  flume_queue_remove(&wait->queue);
}

static void end_wait(struct flume_sink *sink, struct flume_wait *wait, int status) {
  assert(status <= 0);
  flume_sink_unwait(sink, wait);
  if (wait->locked != NULL) {
    wait->locked(wait, status);
    return;
  }
  wait->status = status;
  wait->notice.run = run_wait;
  flume_pump_tell(sink->pump, &wait->notice);
}

static void look_at_waits(struct flume_sink *sink) {
  struct flume_queue *node, *next;
  if (flume_queue_empty(&sink->waits)) return;
  uint64_t now = now_ns(sink->pump);
  for (node = sink->waits.next; node != &sink->waits; node = next) {
    next = node->next;
    struct flume_wait *wait = FLUME_CONTAINER_OF(node, struct flume_wait, queue);
    int status = wait_status(sink, wait, now);
    if (status <= 0) end_wait(sink, wait, status);
  }
}

/* The sink may have moved: ends the waits that are over, and tells the sink. */
static void end_waits(struct flume_sink *sink) {
  look_at_waits(sink);
  if (sink->ops->moved != NULL) sink->ops->moved(sink);
}

/* --- The clock ------------------------------------------------------------------------------------------------- */

static uint64_t earlier(uint64_t a, uint64_t b) {
  return a == 0 || (b != 0 && b < a) ? b : a;
}

static uint64_t earliest_of(const struct flume_sink *sink) {
  uint64_t earliest = sink->due_ns;
  for (struct flume_queue *w = sink->waits.next; w != &sink->waits; w = w->next) {
    earliest = earlier(earliest, FLUME_CONTAINER_OF(w, struct flume_wait, queue)->deadline_ns);
  }
  return earliest;
}

/* The alarm moves only to an earlier time: it may ring once too often, never too late. */
static void wake_by(struct flume_pump *pump, uint64_t at_ns) {
  uint64_t earliest = earlier(pump->rings_ns, at_ns);
  if (earliest == pump->rings_ns || pump->closing) return;
  pump->rings_ns = earliest;
  flume_pool_set_alarm(pump->pool, &pump->alarm, earliest);
}

static void on_alarm(struct flume_alarm *alarm) {
  struct flume_pump *pump = FLUME_CONTAINER_OF(alarm, struct flume_pump, alarm);
  struct flume_queue *s, *next;
  flume_pump_lock(pump);
  pump->rings_ns = 0;
  uint64_t now = now_ns(pump), earliest = 0;
  for (s = pump->sinks.next; s != &pump->sinks; s = next) {
    next = s->next;
    struct flume_sink *sink = FLUME_CONTAINER_OF(s, struct flume_sink, queue);
    if (sink->due_ns != 0 && sink->due_ns <= now) {
      sink->due_ns = 0;
      sink->ops->due(sink);
    }
    end_waits(sink);
    earliest = earlier(earliest, earliest_of(sink));
  }
  if (pump->held_back) schedule_all(pump);
  wake_by(pump, earliest);
  flume_pump_unlock(pump);
}

void flume_sink_wake_at(struct flume_sink *sink, uint64_t due_ns) {
  sink->due_ns = due_ns;
  wake_by(sink->pump, due_ns);
}

void flume_sink_wait(struct flume_sink *sink, struct flume_wait *wait) {
  struct flume_pump *pump = sink->pump;
  if (wait->deadline_ns != 0) flume_pump_begin_work(pump);
  flume_queue_push(&sink->waits, &wait->queue);
  look_at_waits(sink);
  wake_by(pump, wait->deadline_ns);
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

/* How long a sink may work on a block before it counts as stuck. Sinks take turns, so it grows with their number. */
static uint64_t patience_ns(const struct flume_pump *pump) {
  return (PATIENCE_MS + PATIENCE_SINK_MS * (uint64_t)pump->sinks_count) * 1000000u;
}

static bool keeps_pace(const struct flume_sink *sink, uint64_t now) {
  if (sink->restarting || sink->slow) return false;
  if (sink->state == FLUME_SINK_FEEDING) return now - sink->feed_ns < patience_ns(sink->pump);
  return sink->state == FLUME_SINK_IDLE;
}

/* Whether the sink takes much longer for a block than the quickest sink. */
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

/* Whether a sink that keeps pace works on the block, or on an earlier block in the window. */
static bool is_needed(struct flume_pump *pump, const struct flume_load *load, uint64_t now) {
  for (struct flume_queue *s = pump->sinks.next; s != &pump->sinks; s = s->next) {
    struct flume_sink *sink = FLUME_CONTAINER_OF(s, struct flume_sink, queue);
    int64_t next = sink->since.value + 1;
    bool has_to_come = next <= flume_block_last_seq(load->block);
    if (has_to_come && keeps_pace(sink, now) && find_load(pump, next) != NULL) return true;
  }
  return false;
}

/* A place in the window for one more block: a free place, or the place of the oldest block that no sink in pace
 * needs. NULL: none for now. */
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
  assert(!load->dropped);
  if (load->loading) load->dropped = true;
  else load_free(load);
}

static void load_run(struct flume_job *job) {
  struct flume_load *load = FLUME_CONTAINER_OF(job, struct flume_load, job);
  struct flume_pump *pump = load->pump;
  load->status = flume_block_load(load->block, &load->err);
  flume_pump_lock(pump);
  assert(load->loading && pump->loads > 0);
  load->loading = false;
  pump->loads--;
  flume_pump_end_work(pump);
  if (load->dropped) load_free(load);
  schedule_all(pump);
  flume_pump_unlock(pump);
}

/* Begins to load the block with seq. *out is the load, in the window. FLUME_EAGAIN: no place for now. */
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
  flume_queue_init(&load->job.queue);
  if (*place != NULL) drop_load(*place);
  *place = load;
  load->number = pump->blocks_read++;
  if (load->block->bytes <= LOAD_HERE_BYTES) {
    load->status = flume_block_load(load->block, &load->err);
  } else {
    load->loading = true;
    pump->loads++;
    flume_pump_begin_work(pump);
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

/* A sink that waits for a place in the window continues at the next alarm at the latest; the loop stays alive until
 * then. */
static void set_held_back(struct flume_pump *pump, bool held_back) {
  if (held_back == pump->held_back) return;
  pump->held_back = held_back;
  if (held_back) flume_pump_begin_work(pump);
  else flume_pump_end_work(pump);
}

/* Makes the sink process new deletions. Deleted records that it has not consumed need no work: blocks leave them
 * out. */
static void learn_deletions(struct flume_sink *sink) {
  int64_t deletions = sink->pump->log->deletions.value;
  if (sink->deletions == deletions) return;
  if (flume_sink_is_stale(sink)) {
    sink->state = FLUME_SINK_FORGETTING;
    sink->ops->forget(sink);
  } else {
    sink->deletions = deletions;
  }
}

static void feed(struct flume_sink *sink) {
  struct flume_pump *pump = sink->pump;
  int64_t next = sink->since.value + 1;
  struct flume_err err = {0};
  struct flume_load *load = find_load(pump, next);
  int rv = load != NULL ? 0 : begin_load(pump, next, &load, &err);
  if (rv == FLUME_EAGAIN) {
    set_held_back(pump, true);
    wake_by(pump, now_ns(pump) + PATIENCE_MS * 1000000u);
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
  if (load->deletions != sink->deletions) learn_deletions(sink); /* some came while the block was planned */
  if (load->deletions != sink->deletions || sink->state != FLUME_SINK_IDLE) return;
  struct flume_block *block = flume_block_ref(load->block);
  assert(flume_block_has_next(block, next) && flume_block_last_seq(block) <= pump->log->since.value);
  sink->state = FLUME_SINK_FEEDING;
  sink->feed_ns = now_ns(pump);
  load_ahead(pump, block);
  sink->ops->feed(sink, block, flume_block_find(block, next));
}

/* Tells a failed sink when the record that it failed on was deleted. */
static void look_for_cure(struct flume_sink *sink) {
  struct flume_log *log = sink->pump->log;
  int64_t deletions = log->deletions.value;
  if (sink->failure_seq < 0 || sink->ops->healed == NULL) return;
  while (sink->failure_deletions < deletions) {
    if (flume__log_deletion_at(log, sink->failure_deletions++) != sink->failure_seq) continue;
    sink->failure_seq = -1;
    sink->ops->healed(sink);
    return;
  }
}

static void schedule_sink(struct flume_sink *sink) {
  struct flume_pump *pump = sink->pump;
  if (pump->closing || sink->restarting) return;
  if (sink->state == FLUME_SINK_FAILED) look_for_cure(sink);
  if (sink->state == FLUME_SINK_IDLE) learn_deletions(sink);
  if (sink->deletions != pump->log->deletions.value) return; /* deletions must be processed before the sink is fed */
  if (sink->state == FLUME_SINK_IDLE && pump->ready && sink->since.value < pump->log->since.value) feed(sink);
}

/* Each sink moves to the end of the list, so that each round begins with a different sink. */
static void schedule_each(struct flume_pump *pump) {
  set_held_back(pump, false);
  for (unsigned left = pump->sinks_count; left > 0; left--) {
    struct flume_queue *node = flume_queue_shift(&pump->sinks);
    struct flume_sink *sink = FLUME_CONTAINER_OF(node, struct flume_sink, queue);
    flume_queue_push(&pump->sinks, node);
    schedule_sink(sink);
    end_waits(sink);
  }
}

/* A request within a round, as by a sink that fails, makes one more round follow. */
static void schedule_all(struct flume_pump *pump) {
  if (pump->round != FLUME_PUMP_AT_REST) {
    pump->round = FLUME_PUMP_AGAIN;
    return;
  }
  do {
    pump->round = FLUME_PUMP_SCHEDULING;
    schedule_each(pump);
  } while (pump->round == FLUME_PUMP_AGAIN);
  pump->round = FLUME_PUMP_AT_REST;
}

/* Looks at the sink again; at all sinks, when one waits for a place in the window. */
static void reschedule(struct flume_sink *sink) {
  schedule_sink(sink);
  end_waits(sink);
  if (sink->pump->held_back) schedule_all(sink->pump);
}

static void on_moved(struct flume_log_listener *listener) {
  struct flume_pump *pump = FLUME_CONTAINER_OF(listener, struct flume_pump, listener);
  flume_pump_lock(pump);
  schedule_all(pump);
  flume_pump_unlock(pump);
}

/* --- Sinks --------------------------------------------------------------------------------------------------- */

static void start_progress(struct flume_sink *sink, int64_t since) {
  sink->start_seq = since;
  sink->start_ns = now_ns(sink->pump);
}

static void set_since(struct flume_sink *sink, int64_t since) {
  assert(since >= -1);
  if (sink->since.value == since) return;
  sink->since.value = since;
  sink->pump->news.moved = true;
}

static bool is_at_rest(const struct flume_sink *sink) {
  return sink->state == FLUME_SINK_IDLE || sink->state == FLUME_SINK_FAILED || sink->state == FLUME_SINK_STOPPED;
}

void flume_sink_attach(struct flume_sink *sink, struct flume_pump *pump, const struct flume_sink_ops *ops,
                       int64_t since, int64_t deletions) {
  assert(sink->state == FLUME_SINK_DETACHED);
  sink->ops = ops;
  sink->pump = pump;
  sink->state = FLUME_SINK_IDLE;
  sink->restarting = false;
  sink->slow = false;
  sink->turn_ns = sink->due_ns = 0;
  sink->deletions = deletions;
  sink->failure_seq = -1;
  sink->seen_since = since;
  flume_obv_init(&sink->since, &pump->log->defer, since);
  flume_queue_init(&sink->waits);
  flume_queue_push(&pump->sinks, &sink->queue);
  pump->sinks_count++;
  start_progress(sink, since);
  reschedule(sink);
}

void flume_sink_detach(struct flume_sink *sink) {
  assert(is_at_rest(sink));
  struct flume_pump *pump = sink->pump;
  sink->state = FLUME_SINK_DETACHED;
  flume_queue_remove(&sink->queue);
  assert(pump->sinks_count > 0);
  pump->sinks_count--;
  while (!flume_queue_empty(&sink->waits)) {
    end_wait(sink, FLUME_CONTAINER_OF(sink->waits.next, struct flume_wait, queue), FLUME_ECLOSED);
  }
  if (pump->held_back) schedule_all(pump);
}

void flume_sink_fini(struct flume_sink *sink) {
  assert(sink->state == FLUME_SINK_DETACHED);
  flume_obv_fini(&sink->since);
}

void flume_sink_restart(struct flume_sink *sink, int64_t since, int64_t deletions) {
  assert(is_at_rest(sink) && sink->state != FLUME_SINK_STOPPED);
  sink->state = FLUME_SINK_IDLE;
  sink->restarting = false;
  sink->failure = (struct flume_err){0};
  sink->failure_seq = -1;
  sink->deletions = deletions;
  start_progress(sink, since);
  set_since(sink, since);
  reschedule(sink);
}

void flume_sink_fed(struct flume_sink *sink, int64_t since) {
  assert(sink->state == FLUME_SINK_FEEDING);
  assert(since > sink->since.value && since <= sink->pump->log->since.value);
  sink->state = FLUME_SINK_IDLE;
  note_turn(sink);
  set_since(sink, since);
  reschedule(sink);
}

void flume_sink_unfeed(struct flume_sink *sink) {
  assert(sink->state == FLUME_SINK_FEEDING || sink->state == FLUME_SINK_FORGETTING);
  sink->state = FLUME_SINK_IDLE;
}

void flume_sink_stop(struct flume_sink *sink) {
  assert(sink->state != FLUME_SINK_DETACHED);
  if (sink->state != FLUME_SINK_FAILED) sink->state = FLUME_SINK_STOPPED;
}

void flume_sink_forgot(struct flume_sink *sink, int64_t deletions) {
  assert(sink->state == FLUME_SINK_FORGETTING);
  assert(deletions >= sink->deletions && deletions <= sink->pump->log->deletions.value);
  sink->state = FLUME_SINK_IDLE;
  sink->deletions = deletions;
  reschedule(sink);
}

void flume_sink_failed(struct flume_sink *sink, int64_t seq, const struct flume_err *err) {
  assert(sink->state != FLUME_SINK_DETACHED);
  sink->state = FLUME_SINK_FAILED;
  sink->failure = *err;
  sink->failure_seq = seq;
  sink->failure_deletions = sink->deletions;
  end_waits(sink);
  if (sink->pump->held_back) schedule_all(sink->pump);
}

/* --- Opening and closing ------------------------------------------------------------------------------------- */

int flume_pump_open(struct flume_pump *pump, struct flume_log *log, struct flume_pool *pool) {
  *pump = (struct flume_pump){.log = log, .pool = pool, .ready = true, .owner = {.thread = uv_thread_self()}};
  int rv = uv_mutex_init(&pump->lock);
  if (rv != 0) return rv;
  rv = uv_async_init(log->loop, &pump->owner.async, on_async);
  if (rv != 0) {
    uv_mutex_destroy(&pump->lock);
    return rv;
  }
  pump->owner.async.data = pump;
  uv_unref((uv_handle_t *)&pump->owner.async);
  flume_queue_init(&pump->sinks);
  flume_queue_init(&pump->news.notices);
  flume_queue_init(&pump->news.turns);
  flume_deferred_init(&pump->owner.drain, on_drain);
  pump->alarm.run = on_alarm;
  pump->listener.moved = on_moved;
  flume__log_listen(log, &pump->listener);
  return 0;
}

void flume_pump_set_ready(struct flume_pump *pump, bool ready) {
  flume_pump_lock(pump);
  pump->ready = ready;
  schedule_all(pump);
  flume_pump_unlock(pump);
}

static void on_async_closed(uv_handle_t *handle) {
  struct flume_pump *pump = handle->data;
  uv_mutex_destroy(&pump->lock);
  pump->closed(pump);
}

/* Pending news goes first. A load that ends wakes the loop, which defers this function again. */
static void close_when_quiet(struct flume_deferred *deferred) {
  struct flume_pump *pump = FLUME_CONTAINER_OF(deferred, struct flume_pump, owner.drain);
  run_notices(pump);
  flume_pump_lock(pump);
  bool has_loads = pump->loads > 0, more = has_news(pump);
  uv_mutex_unlock(&pump->lock);
  if (more) flume_defer(&pump->log->defer, &pump->owner.drain);
  if (more || has_loads) return;
  for (unsigned i = 0; i < FLUME_PUMP_WINDOW; i++) {
    if (pump->window[i] != NULL) load_free(pump->window[i]);
    pump->window[i] = NULL;
  }
  uv_close((uv_handle_t *)&pump->owner.async, on_async_closed);
}

void flume_pump_close(struct flume_pump *pump, void (*closed)(struct flume_pump *pump)) {
  assert(is_owner(pump) && pump->sinks_count == 0 && closed != NULL);
  flume__log_unlisten(pump->log, &pump->listener);
  flume_pump_lock(pump);
  pump->closing = true;
  uv_mutex_unlock(&pump->lock);
  flume_pool_cancel_alarm(pump->pool, &pump->alarm);
  keep_loop(pump, true);
  pump->closed = closed;
  flume_deferred_cancel(&pump->owner.drain);
  pump->owner.drain.run = close_when_quiet;
  flume_defer(&pump->log->defer, &pump->owner.drain);
}
