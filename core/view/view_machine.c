/* The state machine of a view: the choice of the next work, and requests. The table of states is in view.h. */
#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "view/view.h"
#include "view/view_slot.h"

/* --- States --------------------------------------------------------------------------------------------------- */

static const char *const names[] = {
    [FLUME_VIEW_NEW] = "new",
    [FLUME_VIEW_IDLE] = "idle",
    [FLUME_VIEW_FOLDING] = "folding",
    [FLUME_VIEW_RETRACTING] = "retracting",
    [FLUME_VIEW_CALLING] = "calling",
    [FLUME_VIEW_RESTORING] = "restoring",
    [FLUME_VIEW_SAVING] = "saving",
    [FLUME_VIEW_COMMITTING] = "committing",
    [FLUME_VIEW_SCRUBBING] = "scrubbing",
    [FLUME_VIEW_READING] = "reading",
    [FLUME_VIEW_CLOSED] = "closed",
};

#define TO(state) (1u << FLUME_VIEW_##state)
#define WORKING \
  (TO(FOLDING) | TO(RETRACTING) | TO(CALLING) | TO(RESTORING) | TO(SAVING) | TO(COMMITTING) | TO(SCRUBBING))

static const unsigned transitions[] = {
    [FLUME_VIEW_NEW] = TO(IDLE) | TO(CLOSED),
    [FLUME_VIEW_IDLE] = WORKING | TO(READING) | TO(CLOSED),
    [FLUME_VIEW_FOLDING] = TO(IDLE),
    [FLUME_VIEW_RETRACTING] = TO(IDLE),
    [FLUME_VIEW_CALLING] = TO(IDLE),
    [FLUME_VIEW_RESTORING] = TO(IDLE),
    [FLUME_VIEW_SAVING] = TO(IDLE) | TO(COMMITTING),
    [FLUME_VIEW_COMMITTING] = TO(IDLE),
    [FLUME_VIEW_SCRUBBING] = TO(IDLE),
    [FLUME_VIEW_READING] = TO(IDLE),
    [FLUME_VIEW_CLOSED] = 0,
};

const char *flume_view_state_name(enum flume_view_state state) {
  return names[state];
}

bool flume__view_is_working(const struct flume_view *view) {
  return (1u << view->state & WORKING) != 0;
}

/* A view that works, or waits for a thread, keeps the owner's loop alive. */
static void count_busy(struct flume_view *view) {
  bool is_busy = flume__view_is_working(view) || view->executor.seat != FLUME_SEAT_NONE;
  if (is_busy == view->executor.is_busy) return;
  view->executor.is_busy = is_busy;
  if (is_busy) flume_pump_begin_work(view->sink.pump);
  else flume_pump_end_work(view->sink.pump);
}

void flume__view_set_state(struct flume_view *view, enum flume_view_state state) {
  assert((transitions[view->state] & 1u << state) != 0);
  view->state = state;
  count_busy(view);
}

static void set_seat(struct flume_view *view, enum flume_view_seat seat) {
  view->executor.seat = seat;
  count_busy(view);
}

/* --- Answers -------------------------------------------------------------------------------------------------- */

static void run_request(struct flume_notice *notice) {
  struct flume_view_request *request = FLUME_CONTAINER_OF(notice, struct flume_view_request, notice);
  request->cb(request, request->status, &request->err);
}

static void answer(struct flume_view *view, struct flume_view_request *request, int status,
                   const struct flume_err *err) {
  assert(status <= 0);
  request->status = status;
  if (err != NULL) request->err = *err;
  else flume_err_set(&request->err, status, "%s", flume_strerror(status));
  request->notice.run = run_request;
  flume_pump_tell(view->sink.pump, &request->notice);
}

void flume__view_answer(struct flume_view *view, struct flume_view_request **request, int status,
                        const struct flume_err *err) {
  struct flume_view_request *waiting = *request;
  *request = NULL;
  if (waiting != NULL) answer(view, waiting, status, err);
}

static void answer_closed(struct flume_view *view, struct flume_view_request **request) {
  struct flume_err err;
  flume_err_set(&err, FLUME_ECLOSED, "the view was closed");
  flume__view_answer(view, request, FLUME_ECLOSED, &err);
}

/* --- What is next --------------------------------------------------------------------------------------------- */

static void replace_skips(struct flume_view *view) {
  flume_io_free(flume__view_io(view), view->skips.seqs);
  view->skips = view->new_skips;
  view->new_skips = (struct flume_view_skips){0};
}

void flume__view_take_wishes(struct flume_view *view) {
  assert(!flume__view_is_working(view));
  if ((view->wants & FLUME_WANT_ACTIVE) != 0 && !view->place.reads_only) {
    view->wants &= ~FLUME_WANT_ACTIVE;
    view->checkpoint.activation = FLUME_VIEW_ASKED; /* even if it was active: a different version may be active now */
    view->checkpoint.freshness = FLUME_VIEW_DUE;
  }
  if (view->new_skips.seqs != NULL) replace_skips(view);
}

void flume__view_let_go(struct flume_view *view) {
  flume_block_unref(view->work.block);
  view->work.block = NULL;
  view->wants &= ~FLUME_WANT_RETRACT;
  bool has_work = view->sink.state == FLUME_SINK_FEEDING || view->sink.state == FLUME_SINK_FORGETTING;
  if (has_work) flume_sink_unfeed(&view->sink);
}

void flume__view_fail_at(struct flume_view *view, int64_t seq) {
  struct flume_view_failure *failed = &view->work.failed;
  flume__view_let_go(view); /* a block may wait while a checkpoint is made */
  if (view->checkpoint.freshness == FLUME_VIEW_DUE) view->checkpoint.freshness = FLUME_VIEW_DIRTY;
  flume_buf_fini(&view->traceback);
  view->traceback = failed->traceback;
  assert(view->work.block == NULL && view->state == FLUME_VIEW_IDLE);
  flume_buf_init(&failed->traceback, flume__view_io(view));
  flume_sink_failed(&view->sink, seq, &failed->err);
}

static bool has_failed(const struct flume_view *view) {
  return view->sink.state == FLUME_SINK_FAILED;
}

/* A worker commits. For an inline view, the owner saves the state into the store first. */
static enum flume_view_state saving_state(const struct flume_view *view) {
  return view->executor.is_inline ? FLUME_VIEW_SAVING : FLUME_VIEW_COMMITTING;
}

/* No checkpoint can be made: the view has failed, or the log, which could not be synced. */
static void tell_why_not(struct flume_view *view) {
  struct flume_err *err = &view->work.failed.err;
  if (has_failed(view)) {
    *err = view->sink.failure;
  } else if (flume__log_failure(view->sink.pump->log, err) == 0) {
    flume_err_set(err, view->checkpoint.sync_status, "the log could not be synced");
  }
}

/* Whether a checkpoint is due and possible. If it is impossible, the waiting request is answered. */
static bool may_commit(struct flume_view *view) {
  struct flume_view_checkpoint *checkpoint = &view->checkpoint;
  if (checkpoint->freshness != FLUME_VIEW_DUE || view->sink.restarting) return false;
  if (view->store == NULL || view->place.dir == NULL) {
    checkpoint->freshness = FLUME_VIEW_DIRTY;
    return false;
  }
  if (checkpoint->sync_status == 0 && !has_failed(view)) return true;
  checkpoint->freshness = FLUME_VIEW_DIRTY;
  tell_why_not(view);
  checkpoint->commit_status = view->work.failed.err.code;
  flume__view_tell_active(view);
  return false;
}

static struct flume_view_call *take_call(struct flume_view *view) {
  struct flume_queue *node = flume_queue_shift(&view->calls);
  assert(node != NULL && view->calling == NULL);
  return FLUME_CONTAINER_OF(node, struct flume_view_call, queue);
}

static void cancel_calls(struct flume_view *view) {
  struct flume_err err;
  flume_err_set(&err, FLUME_ECLOSED, "the database was closed");
  while (!flume_queue_empty(&view->calls)) {
    answer(view, &take_call(view)->request, FLUME_ECLOSED, &err);
  }
}

/* A state that can't be stored is a mistake in the view: closing reports it. */
static int close_status(const struct flume_view *view) {
  int status = view->checkpoint.commit_status;
  bool is_own = status == FLUME_EVIEW || status == FLUME_EINVAL;
  return is_own && view->sink.state != FLUME_SINK_FAILED && (view->wants & FLUME_WANT_DROP) == 0 ? status : 0;
}

static void end(struct flume_view *view) {
  assert(view->executor.seat == FLUME_SEAT_WORKING && view->work.block == NULL);
  if (view->slot != NULL) flume__slot_closed(view->slot, view); /* first: reads move to a different version */
  int status = close_status(view);                              /* while the sink still has its failure */
  flume_sink_detach(&view->sink);
  flume__view_set_state(view, FLUME_VIEW_CLOSED);
  flume__view_answer(view, &view->requests.quiet, 0, NULL);
  answer_closed(view, &view->requests.active);
  flume__view_answer(view, &view->requests.close, status, &view->work.failed.err);
}

/* A closing view. A version that was replaced still runs the calls that were queued. */
static enum flume_view_state choose_last(struct flume_view *view) {
  struct flume_err err;
  flume_err_set(&err, FLUME_ECLOSED, "the view was closed");
  flume__view_end_scrub(view, FLUME_ECLOSED, &err);
  if ((view->wants & FLUME_WANT_DROP) != 0 && !flume_queue_empty(&view->calls)) return FLUME_VIEW_CALLING;
  cancel_calls(view);
  flume__view_let_go(view);
  flume_sink_stop(&view->sink);
  if (!flume__view_wants_last_commit(view)) return FLUME_VIEW_CLOSED;
  view->checkpoint.freshness = FLUME_VIEW_DUE;
  return saving_state(view);
}

/* No work is under way and no call waits. A view without a store, or one that has failed, has nothing to save. A
 * view that starts over is quiet afterwards. */
static enum flume_view_state choose_quiet(struct flume_view *view) {
  if (view->requests.quiet == NULL) return FLUME_VIEW_IDLE;
  if (view->store != NULL && view->sink.restarting) return FLUME_VIEW_IDLE;
  bool is_saved = view->checkpoint.freshness == FLUME_VIEW_CLEAN; /* saving it again would leave that pending */
  if (view->store != NULL && !is_saved && !has_failed(view)) return FLUME_VIEW_SAVING;
  view->held = true;
  flume__view_answer(view, &view->requests.quiet, 0, NULL);
  return FLUME_VIEW_IDLE;
}

/* The next state of a view that is IDLE. IDLE: no work; CLOSED: all work is done. */
static enum flume_view_state choose(struct flume_view *view) {
  flume__view_take_wishes(view);
  if ((view->wants & FLUME_WANT_CLOSE) != 0) return choose_last(view);
  if ((view->wants & (FLUME_WANT_REBUILD | FLUME_WANT_REVIVE)) != 0) return FLUME_VIEW_RESTORING;
  if (flume__view_scrub_is_next(view)) return FLUME_VIEW_SCRUBBING;
  if (may_commit(view)) return saving_state(view);
  if ((view->wants & FLUME_WANT_RETRACT) != 0 && !view->held) return FLUME_VIEW_RETRACTING;
  bool has_call = !flume_queue_empty(&view->calls);
  bool may_feed = view->work.block != NULL && !view->held && view->requests.quiet == NULL;
  if (has_call && !(view->called_last && may_feed)) return FLUME_VIEW_CALLING;
  return may_feed ? FLUME_VIEW_FOLDING : choose_quiet(view);
}

/* False: choose would find no work. True: it may find some. */
static bool may_have_work(const struct flume_view *view) {
  const unsigned at_once = FLUME_WANT_CLOSE | FLUME_WANT_REBUILD | FLUME_WANT_REVIVE | FLUME_WANT_ACTIVE;
  const struct flume_view_requests *requests = &view->requests;
  if ((view->wants & at_once) != 0 || view->new_skips.seqs != NULL) return true;
  if (requests->quiet != NULL || requests->scrub != NULL || !flume_queue_empty(&view->calls)) return true;
  if (view->checkpoint.freshness == FLUME_VIEW_DUE) return true;
  return !view->held && ((view->wants & FLUME_WANT_RETRACT) != 0 || view->work.block != NULL);
}

/* --- Working -------------------------------------------------------------------------------------------------- */

static void take_seat(struct flume_view *view) {
  struct flume_pump *pump = view->sink.pump;
  assert(view->state == FLUME_VIEW_IDLE && view->executor.seat == FLUME_SEAT_NONE);
  if (view->executor.is_inline) {
    set_seat(view, FLUME_SEAT_TURNS);
    flume_pump_give_turn(pump, &view->executor.turn);
  } else {
    set_seat(view, FLUME_SEAT_POOL);
    if (flume_queue_empty(&view->calls)) flume_pool_submit(pump->pool, &view->executor.job);
    else flume_pool_submit_first(pump->pool, &view->executor.job);
  }
}

void flume__view_wake(struct flume_view *view) {
  if (view->state != FLUME_VIEW_IDLE || view->executor.seat != FLUME_SEAT_NONE || !may_have_work(view)) return;
  take_seat(view);
}

static bool is_for_pool(const struct flume_view *view, enum flume_view_state state) {
  return !view->executor.is_inline || state == FLUME_VIEW_COMMITTING || state == FLUME_VIEW_SCRUBBING;
}

static void begin(struct flume_view *view, enum flume_view_state state) {
  const struct flume_log *log = view->sink.pump->log;
  struct flume_view_work *work = &view->work;
  assert(view->state == FLUME_VIEW_IDLE && view->executor.seat == FLUME_SEAT_WORKING && view->calling == NULL);
  work->deletions = log->deletions.value;
  work->since = log->since.value;
  work->durable_seq = log->durable_seq;
  work->failed.status = 0;
  work->cant_retract = false;
  work->activation = view->checkpoint.activation;
  if (state == FLUME_VIEW_FOLDING) {
    assert(work->block != NULL && view->sink.state == FLUME_SINK_FEEDING);
    view->called_last = false;
    view->meta.deletions = view->sink.deletions;
  }
  assert(state != FLUME_VIEW_RETRACTING || (view->sink.state == FLUME_SINK_FORGETTING && work->block == NULL));
  if (state == FLUME_VIEW_CALLING) view->calling = take_call(view);
  if (state == FLUME_VIEW_SCRUBBING) view->called_last = false;
  if (state == FLUME_VIEW_RESTORING) {
    work->rebuilds = (view->wants & FLUME_WANT_REBUILD) != 0;
    view->wants &= ~(FLUME_WANT_REBUILD | FLUME_WANT_REVIVE);
  }
  flume__view_set_state(view, state);
}

static void run(struct flume_view *view) {
  struct flume_pump *pump = view->sink.pump;
  flume_pump_unlock(pump);
  flume__view_run(view);
  flume_pump_lock(pump);
  flume__view_ran(view);
}

/* Hands work of an inline view that waits for the disk to the pool. */
static void hand_to_pool(struct flume_view *view) {
  assert(view->executor.seat == FLUME_SEAT_WORKING && view->state != FLUME_VIEW_IDLE);
  set_seat(view, FLUME_SEAT_POOL);
  if (view->ops->announce != NULL) view->ops->announce(view);
  flume_pool_submit(view->sink.pump->pool, &view->executor.job);
}

/* Does the next work. False: there is none, or a worker does it. */
static bool step(struct flume_view *view) {
  enum flume_view_state state = choose(view);
  if (state == FLUME_VIEW_CLOSED) end(view);
  if (state == FLUME_VIEW_IDLE || state == FLUME_VIEW_CLOSED) return false;
  begin(view, state);
  bool is_here = !view->executor.is_inline || !is_for_pool(view, state);
  if (is_here) run(view);
  if (view->state == FLUME_VIEW_IDLE) return true;
  assert(view->executor.is_inline && is_for_pool(view, view->state));
  hand_to_pool(view);
  return false;
}

/* Works until there is nothing to do, or until another job waits for the thread. */
static void work(struct flume_view *view) {
  view->executor.seat = FLUME_SEAT_WORKING;
  bool more = step(view);
  while (more && !view->executor.is_inline && !flume_pool_is_wanted(view->sink.pump->pool)) more = step(view);
  if (view->executor.seat != FLUME_SEAT_WORKING) return; /* a worker continues */
  set_seat(view, FLUME_SEAT_NONE);
  if (more) flume__view_wake(view);
}

/* On a worker. */
static void run_job(struct flume_job *job) {
  struct flume_view *view = FLUME_CONTAINER_OF(job, struct flume_view, executor.job);
  struct flume_pump *pump = view->sink.pump;
  flume_pump_lock(pump);
  assert(view->executor.seat == FLUME_SEAT_POOL);
  if (view->executor.is_inline) {
    assert(is_for_pool(view, view->state));
    view->executor.seat = FLUME_SEAT_WORKING;
    run(view);
    set_seat(view, FLUME_SEAT_NONE);
    flume__view_wake(view);
  } else if (view->state == FLUME_VIEW_IDLE) {
    work(view);
  } else {
    assert(view->state == FLUME_VIEW_READING); /* flume_view_end_reading wakes the view again */
    set_seat(view, FLUME_SEAT_NONE);
  }
  flume_pump_unlock(pump);
}

/* On the owner's thread. */
static void run_turn(struct flume_turn *turn) {
  struct flume_view *view = FLUME_CONTAINER_OF(turn, struct flume_view, executor.turn);
  struct flume_pump *pump = view->sink.pump;
  flume_pump_lock(pump);
  assert(view->executor.seat == FLUME_SEAT_TURNS && view->executor.is_inline);
  if (view->state == FLUME_VIEW_IDLE) work(view);
  else set_seat(view, FLUME_SEAT_NONE); /* the owner reads the view, and wakes it afterwards */
  flume_pump_unlock(pump);
}

/* --- Beginning and end ---------------------------------------------------------------------------------------- */

void flume_view_init(struct flume_view *view, struct flume_pump *pump, const struct flume_view_ops *ops,
                     bool is_inline) {
  memset(view, 0, sizeof *view);
  view->ops = ops;
  view->executor.is_inline = is_inline;
  view->sink.pump = pump;
  view->io = pump->log->io;
  view->executor.job.run = run_job;
  view->executor.turn.run = run_turn;
  flume_queue_init(&view->executor.job.queue);
  flume_queue_init(&view->executor.turn.queue);
  flume_queue_init(&view->calls);
  flume_buf_init(&view->traceback, flume__view_io(view));
  flume_buf_init(&view->work.failed.traceback, flume__view_io(view));
  view->meta.since = -1;
  view->place.unusable_from = INT64_MAX;
}

void flume_view_fini(struct flume_view *view) {
  const struct flume_io *io = flume__view_io(view);
  assert(view->state == FLUME_VIEW_NEW || view->state == FLUME_VIEW_CLOSED);
  if (view->state == FLUME_VIEW_CLOSED) flume_sink_fini(&view->sink);
  if (view->store != NULL) flume_store_close(view->store);
  flume_bitmaps_free(view->bitmaps);
  flume_buf_fini(&view->traceback);
  flume_buf_fini(&view->work.failed.traceback);
  flume_io_free(io, view->skips.seqs);
  flume_io_free(io, view->new_skips.seqs);
  flume_io_free(io, view->place.dir);
  view->store = NULL;
  view->bitmaps = NULL;
  view->skips.seqs = view->new_skips.seqs = NULL;
  view->place.dir = NULL;
}

void flume_view_attach(struct flume_view *view) {
  struct flume_pump *pump = view->sink.pump;
  if (view->store != NULL) view->checkpoint.committed_bytes = flume_store_size_bytes(view->store);
  view->checkpoint.size_bytes = view->checkpoint.committed_bytes;
  flume_pump_lock(pump);
  flume__view_set_state(view, FLUME_VIEW_IDLE);
  flume_sink_attach(&view->sink, pump, &flume__view_sink_ops, view->meta.since, view->meta.deletions);
  flume__view_wake(view);
  flume_pump_unlock(pump);
}

/* --- What may be asked of it ---------------------------------------------------------------------------------- */

static void want(struct flume_view *view, unsigned wants) {
  view->wants |= wants;
  flume__view_wake(view);
}

void flume__view_submit(struct flume_view *view, struct flume_view_call *call) {
  assert(!view->executor.is_inline && view->state != FLUME_VIEW_CLOSED);
  flume_queue_push(&view->calls, &call->queue);
  if (view->executor.seat == FLUME_SEAT_POOL) flume_pool_hurry(view->sink.pump->pool, &view->executor.job);
  flume__view_wake(view);
}

void flume_view_submit(struct flume_view *view, struct flume_view_call *call) {
  flume_pump_lock(view->sink.pump);
  flume__view_submit(view, call);
  flume_pump_unlock(view->sink.pump);
}

void flume__view_want_active(struct flume_view *view) {
  want(view, FLUME_WANT_ACTIVE);
}

void flume__view_unwant_active(struct flume_view *view) {
  view->wants &= ~(unsigned)FLUME_WANT_ACTIVE;
  if (flume__view_is_working(view) || view->checkpoint.activation != FLUME_VIEW_ASKED) return;
  view->checkpoint.activation = FLUME_VIEW_OFF;
}

void flume_view_rebuild(struct flume_view *view, const char *why) {
  flume_pump_lock(view->sink.pump);
  view->sink.restarting = true;
  view->reason = why;
  want(view, FLUME_WANT_REBUILD);
  flume_pump_unlock(view->sink.pump);
}

void flume_view_revive(struct flume_view *view) {
  flume_pump_lock(view->sink.pump);
  view->sink.restarting = true;
  want(view, FLUME_WANT_REVIVE);
  flume_pump_unlock(view->sink.pump);
}

void flume_view_set_skips(struct flume_view *view, int64_t *seqs, size_t count) {
  flume_pump_lock(view->sink.pump);
  flume_io_free(flume__view_io(view), view->new_skips.seqs);
  view->new_skips = (struct flume_view_skips){seqs, count};
  if (view->state == FLUME_VIEW_NEW) replace_skips(view);
  flume__view_wake(view);
  flume_pump_unlock(view->sink.pump);
}

bool flume_view_hold(struct flume_view *view, bool held) {
  flume_pump_lock(view->sink.pump);
  bool was_held = view->held;
  view->held = held;
  flume__view_wake(view);
  flume_pump_unlock(view->sink.pump);
  return was_held;
}

void flume_view_fail(struct flume_view *view, const struct flume_err *err) {
  flume_pump_lock(view->sink.pump);
  assert(view->held && view->state != FLUME_VIEW_FOLDING);
  view->wants &= ~(FLUME_WANT_REBUILD | FLUME_WANT_REVIVE);
  view->sink.restarting = false;
  flume__view_let_go(view);
  flume_sink_failed(&view->sink, -1, err);
  flume_pump_unlock(view->sink.pump);
}

void flume_view_quiet(struct flume_view *view, struct flume_view_request *request) {
  flume_pump_lock(view->sink.pump);
  assert(view->requests.quiet == NULL);
  view->requests.quiet = request;
  flume__view_wake(view);
  flume_pump_unlock(view->sink.pump);
}

void flume_view_activate(struct flume_view *view, struct flume_view_request *request) {
  flume_pump_lock(view->sink.pump);
  view->requests.active = request;
  want(view, FLUME_WANT_ACTIVE);
  flume_pump_unlock(view->sink.pump);
}

void flume_view_scrub(struct flume_view *view, uint32_t number, struct flume_view_request *request) {
  flume_pump_lock(view->sink.pump);
  assert(view->requests.scrub == NULL && view->scrub.rewrite == NULL);
  view->requests.scrub = request;
  view->scrub.number = number;
  view->scrub.until = view->sink.pump->log->deletions.value;
  view->scrub.gone = -1;
  flume__view_wake(view);
  flume_pump_unlock(view->sink.pump);
}

void flume_view_close(struct flume_view *view, bool drop, struct flume_view_request *request) {
  flume_pump_lock(view->sink.pump);
  assert(view->state != FLUME_VIEW_NEW);
  if (request != NULL) view->requests.close = request;
  if (view->state == FLUME_VIEW_CLOSED) flume__view_answer(view, &view->requests.close, 0, NULL);
  else want(view, FLUME_WANT_CLOSE | (drop ? FLUME_WANT_DROP : 0));
  flume_pump_unlock(view->sink.pump);
}

bool flume_view_begin_reading(struct flume_view *view) {
  flume_pump_lock(view->sink.pump);
  bool may = view->state == FLUME_VIEW_IDLE && flume_queue_empty(&view->calls);
  if (may) flume__view_set_state(view, FLUME_VIEW_READING);
  flume_pump_unlock(view->sink.pump);
  return may;
}

void flume_view_end_reading(struct flume_view *view) {
  flume_pump_lock(view->sink.pump);
  assert(view->state == FLUME_VIEW_READING);
  flume__view_set_state(view, FLUME_VIEW_IDLE);
  flume__view_wake(view);
  flume_pump_unlock(view->sink.pump);
}
