/* Scrubbing: removing every byte of deleted records from a view's files.
 *
 * Happy path: the view takes back deleted records, and commits. Its store is rewritten in the directory `new`,
 * beside the versions of the view. Calls run between two pieces of the rewrite; no records are folded. A rename
 * gives the new store a number. It becomes the active version if the old store was active, and the view continues
 * with it. The caller then removes the old store.
 *
 * Failures:
 *   - The view has failed, or its checkpoints can't be written: the request is answered with the reason.
 *   - A crash: either the old or the new version is active; the next mount removes the other.
 *   - The view is rebuilt, or closed: the request is answered with FLUME_EAGAIN or FLUME_ECLOSED. */
#include <assert.h>
#include <stdio.h>

#include "base/err.h"
#include "view/view.h"
#include "view/view_dir.h"

/* --- Working --------------------------------------------------------------------------------------------------- */

/* The new store replaces the old one. */
static int publish(struct flume_view *view, struct flume_err *err) {
  const struct flume_io *io = flume__view_io(view);
  char path[FLUME_VIEW_PATH_BYTES], name[16];
  snprintf(name, sizeof name, "%u", (unsigned)view->scrub.number);
  int rv = flume__view_path(view, name, path, err);
  if (rv == 0) rv = flume_view_dir_number(io, view->place.dir, view->scrub.number, err);
  if (rv == 0 && view->checkpoint.activation == FLUME_VIEW_ACTIVE) {
    rv = flume_view_dir_activate(io, view->place.dir, view->scrub.number, err);
  }
  if (rv == 0) rv = flume_store_move(view->store, path, err);
  if (rv == 0) view->place.number = view->scrub.number;
  return rv;
}

static int begin(struct flume_view *view, struct flume_err *err) {
  char path[FLUME_VIEW_PATH_BYTES];
  int rv = flume__view_path(view, FLUME_VIEW_DIR_NEW, path, err);
  if (rv == 0) rv = flume_store_rewrite_begin(&view->scrub.rewrite, view->store, path, &view->meta, err);
  return rv == 0 ? 1 : rv;
}

/* 1: more to do; 0: done; else the error. */
static int scrub_some(struct flume_view *view, struct flume_err *err) {
  struct flume_view_scrub *scrub = &view->scrub;
  if (scrub->gone < 0) {
    scrub->gone = flume_store_erased(view->store, err);
    if (scrub->gone == FLUME_ENOENT) scrub->gone = scrub->until; /* nothing was committed: no file exists */
    if (scrub->gone < 0 || scrub->gone >= scrub->until) return scrub->gone < 0 ? (int)scrub->gone : 0;
  }
  if (scrub->rewrite == NULL) return begin(view, err);
  int rv = flume_store_rewrite_step(scrub->rewrite, err);
  if (rv != 0) return rv;
  flume_store_rewrite_free(scrub->rewrite);
  scrub->rewrite = NULL;
  rv = publish(view, err);
  if (rv == 0) scrub->gone = view->meta.deletions;
  return rv;
}

void flume__view_run_scrub(struct flume_view *view) {
  assert(view->checkpoint.freshness == FLUME_VIEW_CLEAN && view->place.dir != NULL && !view->place.reads_only);
  view->scrub.status = 1;
  if (!view->ops->begin_write(view)) return;
  view->scrub.status = scrub_some(view, &view->work.failed.err);
  view->checkpoint.committed_bytes = flume_store_size_bytes(view->store);
  view->ops->end_write(view);
}

/* --- Locked ---------------------------------------------------------------------------------------------------- */

void flume__view_end_scrub(struct flume_view *view, int status, const struct flume_err *err) {
  flume_store_rewrite_free(view->scrub.rewrite);
  view->scrub.rewrite = NULL;
  flume__view_answer(view, &view->requests.scrub, status, err);
}

void flume__view_scrubbed(struct flume_view *view) {
  int status = view->scrub.status;
  if (status <= 0) flume__view_end_scrub(view, status, status < 0 ? &view->work.failed.err : NULL);
}

static void end_with(struct flume_view *view, int status, const char *why) {
  struct flume_err err;
  flume_err_set(&err, status, "%s", why);
  flume__view_end_scrub(view, status, &err);
}

/* All deleted records are taken back, and nothing keeps the view from writing. */
static bool is_settled(const struct flume_view *view) {
  bool is_idle = view->sink.state == FLUME_SINK_IDLE || view->work.block != NULL;
  return is_idle && !view->sink.restarting && !view->held && (view->wants & FLUME_WANT_RETRACT) == 0 &&
         view->sink.deletions >= view->scrub.until;
}

static bool is_over(struct flume_view *view) {
  const struct flume_view_checkpoint *checkpoint = &view->checkpoint;
  bool is_writing = view->scrub.rewrite != NULL;
  if (view->sink.state == FLUME_SINK_FAILED && !view->sink.restarting) {
    flume__view_end_scrub(view, view->sink.failure.code, &view->sink.failure);
  } else if (is_writing && (!is_settled(view) || checkpoint->freshness == FLUME_VIEW_DUE)) {
    end_with(view, FLUME_EAGAIN, "the view was changed meanwhile");
  } else if (checkpoint->sync_status != 0) {
    end_with(view, checkpoint->sync_status, "the log can't be synced");
  } else if (checkpoint->stall.code != 0) {
    flume__view_end_scrub(view, checkpoint->stall.code, &checkpoint->stall);
  }
  return view->requests.scrub == NULL;
}

bool flume__view_scrub_is_next(struct flume_view *view) {
  if (view->requests.scrub == NULL || is_over(view) || !is_settled(view)) return false;
  bool is_clean = view->checkpoint.freshness == FLUME_VIEW_CLEAN && view->meta.deletions == view->sink.deletions;
  if (view->scrub.rewrite == NULL && !is_clean) {
    view->meta.deletions = view->sink.deletions;
    view->checkpoint.freshness = FLUME_VIEW_DUE;
    return false;
  }
  return flume_queue_empty(&view->calls) || view->called_last;
}
