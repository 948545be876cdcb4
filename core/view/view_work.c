/* The work of each state, and what follows.
 *
 * Happy path: the pump hands over a block; the view folds it for a slice of time; when a checkpoint is due, the
 * state is saved and committed together with its seq; the view reports the seq to the pump, which hands over the
 * next block. For a script view one worker does all of this, block after block.
 *
 * When folded records are deleted, a view that can retract takes them back, some at a time. Any other view starts over.
 *
 * Failures are told in view.h. */
#include <assert.h>

#include "base/err.h"
#include "view/view.h"
#include "view/view_slot.h"

#define POOL_SLICE_NS (20u * 1000 * 1000)
#define OWNER_SLICE_NS (4u * 1000 * 1000)

/* --- Working -------------------------------------------------------------------------------------------------- */

static bool wants_renewal(const struct flume_view *view) {
  if (!view->place.reads_only) return false;
  return flume__view_now_ns(view) >= view->checkpoint.next_ns || flume__view_pending_bytes(view) > 16u << 20;
}

static void mark_dirty(struct flume_view *view) {
  if (view->checkpoint.freshness == FLUME_VIEW_CLEAN) view->checkpoint.freshness = FLUME_VIEW_DIRTY;
  if (flume__view_wants_commit(view)) view->checkpoint.freshness = FLUME_VIEW_DUE;
}

static void run_fold(struct flume_view *view) {
  struct flume_view_work *work = &view->work;
  uint64_t slice_ns = view->executor.is_inline ? OWNER_SLICE_NS : POOL_SLICE_NS;
  work->span = (struct flume_view_span){
      .block = work->block, .from = work->from, .until_ns = flume__view_now_ns(view) + slice_ns, .next = work->from};
  work->failed.status = view->ops->fold(view, &work->span, &work->failed.err);
  if (work->failed.status != 0) return;
  assert(work->span.next > work->from && work->span.next <= work->block->count);
  view->meta.since = flume_block_seq(work->block, work->span.next - 1);
  mark_dirty(view);
  if (wants_renewal(view)) flume__view_renew(view);
  if (!view->executor.is_inline && view->checkpoint.freshness == FLUME_VIEW_DUE && flume__view_is_durable(view)) {
    flume__view_run_commit(view, true);
  }
}

/* Reads the next deleted records that the view had consumed. Their number, or a negative code. */
static int fetch_gone(struct flume_view *view, struct flume_block **gone) {
  struct flume_log *log = view->sink.pump->log;
  struct flume_err err;
  int count = 0;
  int64_t i = view->meta.since < 0 ? view->work.deletions : view->work.gone_until; /* nothing was consumed */
  while (i < view->work.deletions && count < FLUME_VIEW_GONE_MAX) {
    int64_t seq = flume__log_deletion_at(log, i++);
    if (seq > view->meta.since) continue;
    int rv = seq < 0 ? FLUME_ENOENT : flume__log_read_deleted(log, seq, &gone[count], &err);
    if (rv != 0) {
      while (count > 0) flume_block_unref(gone[--count]);
      return rv;
    }
    count++;
  }
  view->work.gone_until = i;
  return count;
}

/* A record whose bytes are gone can't be taken back: then the view starts over. */
static void run_retract(struct flume_view *view) {
  struct flume_block *gone[FLUME_VIEW_GONE_MAX];
  struct flume_view_work *work = &view->work;
  int count = view->ops->can_retract(view) ? fetch_gone(view, gone) : FLUME_ENOTSUP, rv = 0;
  work->cant_retract = count < 0;
  for (int i = 0; i < count; i++) {
    if (rv == 0) {
      work->failing_seq = gone[i]->first_seq;
      rv = view->ops->retract(view, gone[i], &work->failed.err);
    }
    flume_block_unref(gone[i]);
  }
  if (rv > 0) work->cant_retract = true;
  work->failed.status = rv < 0 ? rv : 0;
  if (rv == 0 && count > 0) mark_dirty(view);
}

/* The state on disk is cleared first, so that a crash finds either the old state or none. */
static void run_restore(struct flume_view *view) {
  struct flume_view_failure *failed = &view->work.failed;
  if (view->work.rebuilds) failed->status = flume__view_reset(view, &failed->err);
  else failed->status = flume__view_revert(view, &failed->err);
}

static void run(struct flume_view *view) {
  switch (view->state) {
    case FLUME_VIEW_FOLDING: run_fold(view); break;
    case FLUME_VIEW_RETRACTING: run_retract(view); break;
    case FLUME_VIEW_CALLING: view->ops->call(view, view->calling); break;
    case FLUME_VIEW_RESTORING: run_restore(view); break;
    case FLUME_VIEW_SAVING: flume__view_run_save(view); break;
    case FLUME_VIEW_COMMITTING: flume__view_run_commit(view, !view->executor.is_inline); break;
    case FLUME_VIEW_SCRUBBING: flume__view_run_scrub(view); break;
    case FLUME_VIEW_NEW:
    case FLUME_VIEW_IDLE:
    case FLUME_VIEW_READING:
    case FLUME_VIEW_CLOSED: assert(false); break;
  }
}

void flume__view_run(struct flume_view *view) {
  view->ops->enter(view);
  run(view);
  view->ops->leave(view);
}

/* --- What follows --------------------------------------------------------------------------------------------- */

static void folded(struct flume_view *view) {
  struct flume_view_work *work = &view->work;
  struct flume_block *block = work->block;
  assert(block != NULL && view->sink.state == FLUME_SINK_FEEDING);
  uint32_t at = work->span.next < block->count ? work->span.next : block->count - 1;
  int64_t failing_seq = work->failed.status != 0 ? flume_block_seq(block, at) : view->meta.since;
  work->block = NULL;
  flume__view_settle_commit(view);
  if (work->failed.status != 0 || view->checkpoint.commit_status != 0) {
    flume__view_fail_at(view, failing_seq);
  } else {
    flume__view_commit_when_idle(view);
    view->sink.deletions = view->meta.deletions;
    flume_sink_fed(&view->sink, view->meta.since);
  }
  flume_block_unref(block);
}

/* On the loop. */
static void start_over_itself(struct flume_notice *notice) {
  struct flume_view *view = FLUME_CONTAINER_OF(notice, struct flume_view, start_over);
  flume_pump_lock(view->sink.pump);
  notice->run = NULL;
  bool is_closing = (view->wants & FLUME_WANT_CLOSE) != 0;
  flume_pump_unlock(view->sink.pump);
  if (is_closing) return;
  if (!view->ops->start_over(view)) flume_view_rebuild(view, view->reason);
}

static void start_over(struct flume_view *view) {
  view->reason = "records were deleted";
  view->sink.restarting = true;
  view->wants &= ~FLUME_WANT_RETRACT;
  flume_sink_forgot(&view->sink, view->sink.deletions);
  if (view->ops->start_over == NULL) {
    view->wants |= FLUME_WANT_REBUILD;
    return;
  }
  if (view->start_over.run != NULL) return; /* the loop has still to hear of it */
  view->start_over.run = start_over_itself;
  flume_pump_tell(view->sink.pump, &view->start_over);
}

static void retracted(struct flume_view *view) {
  struct flume_view_work *work = &view->work;
  assert(view->sink.state == FLUME_SINK_FORGETTING && (view->wants & FLUME_WANT_RETRACT) != 0);
  if (work->cant_retract) {
    start_over(view);
  } else if (work->failed.status != 0) {
    view->wants &= ~FLUME_WANT_RETRACT;
    flume__view_fail_at(view, work->failing_seq);
  } else {
    assert(work->gone_until >= view->sink.deletions && work->gone_until <= work->deletions);
    view->meta.deletions = work->gone_until;
    if (work->gone_until < view->sink.pump->log->deletions.value) return; /* there is more */
    view->wants &= ~FLUME_WANT_RETRACT;
    flume__view_commit_when_idle(view);
    flume_sink_forgot(&view->sink, work->gone_until);
  }
}

static void restored(struct flume_view *view) {
  struct flume_err err;
  view->checkpoint.commit_status = 0;
  if (view->checkpoint.activation == FLUME_VIEW_ASKED) { /* the state that the request was about is gone */
    view->checkpoint.activation = view->place.begins_active ? FLUME_VIEW_FIRST : FLUME_VIEW_OFF;
  }
  view->wants &= ~(unsigned)FLUME_WANT_ACTIVE;
  if (view->requests.active != NULL) {
    flume_err_set(&err, FLUME_EAGAIN, "the view has started over");
    flume__view_answer(view, &view->requests.active, FLUME_EAGAIN, &err);
  }
  flume__view_let_go(view);
  view->traceback.len = 0;
  assert(view->work.block == NULL && view->meta.since >= -1);
  flume_sink_restart(&view->sink, view->meta.since, view->meta.deletions);
  view->sink.restarting = (view->wants & (FLUME_WANT_REBUILD | FLUME_WANT_REVIVE)) != 0; /* asked for meanwhile */
  if (view->work.failed.status != 0) flume__view_fail_at(view, -1); /* restarting has fed it already */
}

static void called(struct flume_view *view) {
  assert(view->calling != NULL);
  struct flume_view_request *request = &view->calling->request;
  view->calling = NULL;
  view->called_last = true;
  flume__view_answer(view, &request, request->status, &request->err);
}

/* The state was saved for a commit, or for a request for quiet. A view whose state can't be saved has none to take
 * over: it fails. */
static void saved(struct flume_view *view) {
  bool commits = view->checkpoint.freshness == FLUME_VIEW_DUE;
  if (commits && view->checkpoint.commit_status == 0) {
    flume__view_set_state(view, FLUME_VIEW_COMMITTING);
    return;
  }
  flume__view_set_state(view, FLUME_VIEW_IDLE);
  if (commits) {
    flume__view_committed(view);
    return;
  }
  if (view->checkpoint.commit_status != 0) flume__view_fail_at(view, view->meta.since);
  bool is_pending = flume__view_pending_bytes(view) > 0; /* a scrub begins with a store in which nothing is */
  if (is_pending && view->checkpoint.freshness == FLUME_VIEW_CLEAN) view->checkpoint.freshness = FLUME_VIEW_DIRTY;
  view->held = true;
  flume__view_answer(view, &view->requests.quiet, 0, NULL);
}

void flume__view_ran(struct flume_view *view) {
  enum flume_view_state state = view->state;
  if (state != FLUME_VIEW_SAVING) flume__view_set_state(view, FLUME_VIEW_IDLE);
  view->checkpoint.size_bytes = view->checkpoint.committed_bytes;
  switch (state) {
    case FLUME_VIEW_FOLDING: folded(view); break;
    case FLUME_VIEW_RETRACTING: retracted(view); break;
    case FLUME_VIEW_CALLING: called(view); break;
    case FLUME_VIEW_RESTORING: restored(view); break;
    case FLUME_VIEW_SAVING: saved(view); break;
    case FLUME_VIEW_COMMITTING: flume__view_committed(view); break;
    case FLUME_VIEW_SCRUBBING: flume__view_scrubbed(view); break;
    case FLUME_VIEW_NEW:
    case FLUME_VIEW_IDLE:
    case FLUME_VIEW_READING:
    case FLUME_VIEW_CLOSED: assert(false); break;
  }
  if (view->state != FLUME_VIEW_IDLE) return;
  flume__view_tell_active(view);
  if (view->slot == NULL) return;
  bool is_active = view->checkpoint.activation == FLUME_VIEW_ACTIVE;
  if (is_active && view->work.activation != FLUME_VIEW_ACTIVE) flume__slot_activated(view->slot, view);
  flume__slot_look(view->slot);
}

/* --- As a sink ------------------------------------------------------------------------------------------------ */

static struct flume_view *view_of(struct flume_sink *sink) {
  return FLUME_CONTAINER_OF(sink, struct flume_view, sink);
}

static void feed(struct flume_sink *sink, struct flume_block *block, uint32_t from) {
  struct flume_view *view = view_of(sink);
  assert(view->work.block == NULL);
  view->work.block = block;
  view->work.from = from;
  flume__view_wake(view);
}

static void forget(struct flume_sink *sink) {
  struct flume_view *view = view_of(sink);
  assert(view->work.block == NULL && (view->wants & FLUME_WANT_RETRACT) == 0);
  view->wants |= FLUME_WANT_RETRACT;
  view->work.gone_until = sink->deletions;
  flume__view_wake(view);
}

/* The idle checkpoint timer: no record has come for a while. */
static void due(struct flume_sink *sink) {
  struct flume_view *view = view_of(sink);
  bool is_resting = view->state == FLUME_VIEW_IDLE && (view->wants & FLUME_WANT_CLOSE) == 0;
  if (is_resting && view->checkpoint.freshness == FLUME_VIEW_DIRTY) view->checkpoint.freshness = FLUME_VIEW_DUE;
  flume__view_wake(view);
}

static void healed(struct flume_sink *sink) {
  struct flume_view *view = view_of(sink);
  if ((view->wants & FLUME_WANT_CLOSE) != 0) return;
  sink->restarting = true;
  view->wants |= FLUME_WANT_REVIVE;
  flume__view_wake(view);
}

static void moved(struct flume_sink *sink) {
  struct flume_view *view = view_of(sink);
  if (view->slot != NULL) flume__slot_look(view->slot);
}

const struct flume_sink_ops flume__view_sink_ops = {
    .feed = feed, .forget = forget, .due = due, .healed = healed, .moved = moved};
