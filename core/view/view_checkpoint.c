/* Checkpoints: one commit makes the state and its seq durable. It may also make the version the active version.
 *
 * A checkpoint is due some time after the last one, when many bytes are pending, when it is requested, and shortly
 * after the last record (idle checkpoint timer). It never contains records that the log doesn't have on disk: the
 * log is synced first, if needed.
 *
 * Failures:
 *   - The disk is full: the view stalls, and tries again while the pending bytes fit into memory.
 *   - Any other error: the view fails. The last checkpoint stays valid. */
#include <assert.h>
#include <errno.h>

#include "base/err.h"
#include "view/view.h"
#include "view/view_dir.h"

#define STALL_NS (1000u * 1000 * 1000)     /* between two attempts while the disk is full */
#define PENDING_MAX_BYTES (16u << 20)      /* pending bytes of a store at which a checkpoint is due */
#define PENDING_STALLED_BYTES (128u << 20) /* pending bytes of a store on a full disk at which the view fails */

/* After a checkpoint that took t, none follows for 20 t, and for half a second at least: checkpoints cost a
 * twentieth of the time at most. */
#define COMMIT_SHARE 20u
#define COMMIT_PAUSE_NS (500u * 1000 * 1000)

/* --- When ------------------------------------------------------------------------------------------------------ */

size_t flume__view_pending_bytes(const struct flume_view *view) {
  size_t bytes = view->store != NULL ? flume_store_pending_bytes(view->store) : 0;
  return view->bitmaps != NULL ? bytes + flume_bitmaps_pending_bytes(view->bitmaps) : bytes;
}

bool flume__view_wants_commit(const struct flume_view *view) {
  const struct flume_view_checkpoint *checkpoint = &view->checkpoint;
  if (view->place.dir == NULL || view->place.reads_only) return false;
  if (flume__view_now_ns(view) >= checkpoint->next_ns) return true;
  return checkpoint->stall.code == 0 && flume__view_pending_bytes(view) > PENDING_MAX_BYTES;
}

bool flume__view_is_durable(const struct flume_view *view) {
  return view->meta.since <= view->work.durable_seq;
}

void flume__view_commit_when_idle(struct flume_view *view) {
  if (view->checkpoint.freshness != FLUME_VIEW_DIRTY || view->place.dir == NULL || view->place.reads_only) return;
  if (view->sink.due_ns != 0) return;
  uint64_t now = flume__view_now_ns(view), next = view->checkpoint.next_ns;
  flume_sink_wake_at(&view->sink, next > now ? next : now + 1);
}

bool flume__view_wants_last_commit(const struct flume_view *view) {
  const struct flume_view_checkpoint *checkpoint = &view->checkpoint;
  bool keeps = view->place.dir != NULL && !view->place.reads_only && view->store != NULL;
  bool is_good = view->sink.state != FLUME_SINK_FAILED && !view->sink.restarting;
  bool may = checkpoint->commit_status == 0 && checkpoint->sync_status == 0 && is_good;
  return keeps && may && (view->wants & FLUME_WANT_DROP) == 0 && checkpoint->freshness != FLUME_VIEW_CLEAN;
}

/* --- Working --------------------------------------------------------------------------------------------------- */

void flume__view_run_save(struct flume_view *view) {
  struct flume_view_failure *failed = &view->work.failed;
  view->checkpoint.commit_status = 0;
  if (view->bitmaps != NULL) view->checkpoint.commit_status = flume_bitmaps_save(view->bitmaps, &failed->err);
  else view->checkpoint.commit_status = view->ops->save(view, &failed->err);
}

static int activate(struct flume_view *view, struct flume_err *err) {
  struct flume_view_checkpoint *checkpoint = &view->checkpoint;
  if (checkpoint->activation != FLUME_VIEW_FIRST && checkpoint->activation != FLUME_VIEW_ASKED) return 0;
  int rv = flume_view_dir_activate(flume__view_io(view), view->place.dir, view->place.number, err);
  if (rv == 0) checkpoint->activation = FLUME_VIEW_ACTIVE;
  return rv;
}

/* A state belongs to the record at its since, not only to its number: the log may be put back from an older copy. */
static void note_digest(struct flume_view *view) {
  struct flume_store_meta *meta = &view->meta;
  struct flume_log *log = view->sink.pump->log;
  meta->has_digest = meta->since >= 0 && flume__log_digest(log, meta->since, &meta->digest, NULL) == 0;
}

static int commit(struct flume_view *view, struct flume_err *err) {
  struct flume_view_checkpoint *checkpoint = &view->checkpoint;
  note_digest(view);
  assert(view->meta.since <= view->sink.pump->log->durable_seq);
  uint64_t start = flume__view_now_ns(view);
  int rv = flume_store_commit(view->store, &view->meta, err);
  checkpoint->committed_bytes = flume_store_size_bytes(view->store);
  view->ops->end_write(view);
  if (rv == 0) rv = activate(view, err);
  uint64_t end = flume__view_now_ns(view), pause = (end - start) * COMMIT_SHARE;
  checkpoint->next_ns = end + (pause > COMMIT_PAUSE_NS ? pause : COMMIT_PAUSE_NS);
  if (rv == 0) checkpoint->freshness = FLUME_VIEW_CLEAN;
  return rv;
}

/* A checkpoint must not contain records that a power cut can still remove. */
static int sync_log(struct flume_view *view, struct flume_err *err) {
  if (flume__view_is_durable(view)) return 0;
  return flume__log_sync_now(view->sink.pump->log, view->meta.since, err);
}

void flume__view_run_commit(struct flume_view *view, bool saves) {
  struct flume_view_checkpoint *checkpoint = &view->checkpoint;
  struct flume_err *err = &view->work.failed.err;
  assert(view->store != NULL && view->place.dir != NULL && !view->place.reads_only);
  checkpoint->commit_status = 0;
  checkpoint->put_off = false;
  checkpoint->sync_status = sync_log(view, err);
  if (checkpoint->sync_status != 0) return;
  if (saves) flume__view_run_save(view);
  if (checkpoint->commit_status != 0) return;
  checkpoint->put_off = !view->ops->begin_write(view);
  if (!checkpoint->put_off) checkpoint->commit_status = commit(view, err);
}

/* --- What follows ---------------------------------------------------------------------------------------------- */

/* On a full disk the checkpoint is tried again, while the pending bytes fit into memory. */
void flume__view_settle_commit(struct flume_view *view) {
  struct flume_view_checkpoint *checkpoint = &view->checkpoint;
  int rv = checkpoint->commit_status;
  bool is_full = rv == UV_ENOSPC || rv == -EDQUOT, is_closing = (view->wants & FLUME_WANT_CLOSE) != 0;
  if (rv == 0) {
    if (checkpoint->freshness == FLUME_VIEW_CLEAN) checkpoint->stall.code = 0;
  } else if (is_full && !is_closing && flume__view_pending_bytes(view) < PENDING_STALLED_BYTES) {
    checkpoint->stall = view->work.failed.err;
    checkpoint->commit_status = 0;
    checkpoint->next_ns = flume__view_now_ns(view) + STALL_NS;
  }
}

/* When the log can't be synced, views fold its records on and keep their last checkpoint. A checkpoint that was put
 * off is still due. */
void flume__view_committed(struct flume_view *view) {
  struct flume_view_checkpoint *checkpoint = &view->checkpoint;
  if (checkpoint->sync_status != 0) checkpoint->commit_status = checkpoint->sync_status;
  bool is_due = checkpoint->freshness == FLUME_VIEW_DUE && checkpoint->put_off;
  if (checkpoint->freshness == FLUME_VIEW_DUE && !is_due) checkpoint->freshness = FLUME_VIEW_DIRTY;
  if (checkpoint->sync_status != 0) return;
  flume__view_settle_commit(view);
  bool is_closing = (view->wants & FLUME_WANT_CLOSE) != 0;
  if (checkpoint->commit_status != 0 && !is_closing) flume__view_fail_at(view, view->meta.since);
  else flume__view_commit_when_idle(view);
}

/* --- Being the active version ---------------------------------------------------------------------------------- */

int flume__view_activation_status(const struct flume_view *view, struct flume_err *err) {
  const struct flume_view_checkpoint *checkpoint = &view->checkpoint;
  if (checkpoint->activation == FLUME_VIEW_ACTIVE) return 0;
  bool has_failed = view->sink.state == FLUME_SINK_FAILED;
  if (!has_failed && checkpoint->commit_status == 0) return 1;
  *err = has_failed ? view->sink.failure : view->work.failed.err;
  return err->code != 0 ? err->code : checkpoint->commit_status;
}

void flume__view_tell_active(struct flume_view *view) {
  struct flume_err err = {0};
  if (view->requests.active == NULL || (view->wants & FLUME_WANT_ACTIVE) != 0) return;
  int status = flume__view_activation_status(view, &err);
  if (status > 0) return;
  if (status < 0) {
    view->checkpoint.activation = FLUME_VIEW_OFF;
    view->place.begins_active = false;
  }
  flume__view_answer(view, &view->requests.active, status, &err);
}
