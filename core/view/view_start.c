/* The state of a view is in memory, behind the vtable, and in the store, which survives. Opening takes up the state
 * in the store, if it fits the view. Restoring replaces the state in memory by the state in the store.
 *
 * Failures:
 *   - The state on disk is of a different version or a different log: it stays, and the caller gets the reason.
 *   - The files are not a state, or are damaged: the caller gets the reason, and tries a different place.
 *   - The environment fails (permission, memory): an error; the state stays. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/path.h"
#include "view/view.h"
#include "view/view_dir.h"

#define FIRST_COMMIT_NS (200u * 1000 * 1000) /* after opening */

/* The age at which a snapshot of a store that another process writes is renewed: an old snapshot keeps that process
 * from reusing pages. */
#define RENEW_NS (5u * 1000 * 1000 * 1000)

int flume__view_path(const struct flume_view *view, const char *name, char path[FLUME_VIEW_PATH_BYTES],
                     struct flume_err *err) {
  if (flume_path_join(path, FLUME_VIEW_PATH_BYTES, view->place.dir, name) == 0) return 0;
  return flume_err_set(err, UV_ENAMETOOLONG, "%s/%s: a view's path of more than %d bytes", view->place.dir, name,
                       FLUME_VIEW_PATH_BYTES - 1);
}

int flume__view_restore(struct flume_view *view, struct flume_err *err) {
  if (view->bitmaps != NULL) flume_bitmaps_use(view->bitmaps, view->store);
  return view->ops->restore(view, err);
}

/* Replaces the store that another process writes by a store in memory. */
static int leave_store(struct flume_view *view, struct flume_err *err) {
  const struct flume_io *io = flume__view_io(view);
  struct flume_store *store;
  int rv = flume_store_open(&store, io, NULL, FLUME_STORE_WRITE, err);
  if (rv != 0) return rv;
  flume_store_close(view->store);
  view->store = store;
  flume_io_free(io, view->place.dir);
  view->place.dir = NULL;
  view->place.reads_only = false;
  return 0;
}

int flume__view_reset(struct flume_view *view, struct flume_err *err) {
  view->meta.since = -1;
  view->meta.deletions = 0;
  view->checkpoint.freshness = FLUME_VIEW_CLEAN;
  if (view->store == NULL) return 0;
  int rv = view->place.reads_only ? leave_store(view, err) : flume_store_clear(view->store, err);
  return rv == 0 ? flume__view_restore(view, err) : rv;
}

/* A store that another process writes may know of records, or deletions, that this process's log has not seen yet. */
static bool is_ahead(const struct flume_view *view, const struct flume_store_meta *meta) {
  return meta->since > view->work.since || meta->deletions > view->work.deletions;
}

int flume__view_revert(struct flume_view *view, struct flume_err *err) {
  struct flume_store_meta meta;
  if (view->store == NULL || view->place.dir == NULL) return flume__view_reset(view, err);
  flume_store_rollback(view->store);
  int rv = flume_store_load(view->store, &meta, err);
  if (rv == FLUME_ENOENT || flume_store_is_unusable(rv)) return flume__view_reset(view, err);
  if (rv != 0) return rv;
  if (is_ahead(view, &meta)) return flume__view_reset(view, err);
  view->meta.since = meta.since;
  view->meta.deletions = meta.deletions;
  view->checkpoint.freshness = FLUME_VIEW_CLEAN;
  return flume__view_restore(view, err);
}

/* --- Following a writer ------------------------------------------------------------------------------------------ */

/* The writer may have moved to a different directory: after a scrub, or with a new version. */
static int follow(struct flume_view *view, const struct flume_store_meta *limit, struct flume_store_meta *meta) {
  char path[FLUME_VIEW_PATH_BYTES], name[16];
  uint32_t number = FLUME_VIEW_DIR_NONE;
  int rv = flume_view_dir_active(flume__view_io(view), view->place.dir, &number, NULL);
  if (rv != 0 || number == FLUME_VIEW_DIR_NONE || number == view->place.number) return FLUME_EAGAIN;
  snprintf(name, sizeof name, "%u", (unsigned)number);
  if (flume__view_path(view, name, path, NULL) != 0) return FLUME_EAGAIN;
  rv = flume_store_follow(view->store, path, &view->meta, limit, meta, NULL);
  if (rv == 0) view->place.number = number;
  return rv;
}

void flume__view_renew(struct flume_view *view) {
  struct flume_store_meta limit = {.since = view->work.since, .deletions = view->work.deletions}, meta;
  struct flume_view_failure *failed = &view->work.failed;
  view->checkpoint.next_ns = flume__view_now_ns(view) + RENEW_NS;
  if (follow(view, &limit, &meta) != 0 && flume_store_renew(view->store, &view->meta, &limit, &meta, NULL) != 0) return;
  assert(meta.since >= view->meta.since);
  view->meta.since = meta.since;
  view->meta.deletions = meta.deletions;
  failed->status = flume__view_restore(view, &failed->err);
}

/* --- Opening ---------------------------------------------------------------------------------------------------- */

/* Whether the record at since is the record that the state was folded from. True when that is unknown. */
static bool is_of_this_log(struct flume_log *log, const struct flume_store_meta *found) {
  uint32_t digest;
  if (!found->has_digest || flume__log_digest(log, found->since, &digest, NULL) != 0) return true;
  return flume_store_meta_is_of(found, digest);
}

/* Why the state on disk must be rebuilt; NULL: it fits. text: room for the reason. */
static const char *reason_to_rebuild(struct flume_view *view, const struct flume_store_meta *found, char *text) {
  const struct flume_store_meta *wanted = &view->meta;
  const struct flume_log *log = view->sink.pump->log;
  if (memcmp(found->log_id, wanted->log_id, 16) != 0) return "the state is of a different log";
  if (found->since > log->since.value) return "the view is ahead of the log";
  if (found->deletions > log->deletions.value) return "the log knows of fewer deletions";
  if (!is_of_this_log(view->sink.pump->log, found)) return "the log has a different record where the view ends";
  if (found->since >= view->place.unusable_from) return "a record was skipped";
  bool is_same = strcmp(found->version, wanted->version) == 0 &&
                 (wanted->version[0] != '\0' || found->fingerprint == wanted->fingerprint);
  view->place.accepts = view->place.accepts && !is_same;
  if (is_same || view->place.accepts) return NULL;
  if (strcmp(found->version, wanted->version) != 0) {
    snprintf(text, FLUME_VIEW_REASON_BYTES, "version %s -> %s", found->version[0] != '\0' ? found->version : "(none)",
             wanted->version[0] != '\0' ? wanted->version : "(none)");
    return text;
  }
  return "the source has changed";
}

/* Takes up the state in the store, if it fits. An empty store is no reason to rebuild: since is -1. */
static int take_up(struct flume_view *view, const char **reason, char *text, struct flume_err *err) {
  struct flume_store_meta found;
  *reason = NULL;
  int rv = flume_store_load(view->store, &found, err);
  if (rv == FLUME_ENOENT) {
    view->place.accepts = false;
    return flume__view_restore(view, err);
  }
  if (flume_store_is_unusable(rv)) {
    *reason = "the state on disk is not readable";
    return 0;
  }
  if (rv != 0) return rv;
  *reason = reason_to_rebuild(view, &found, text);
  if (*reason != NULL) return 0;
  view->meta.since = found.since;
  view->meta.deletions = found.deletions;
  rv = flume__view_restore(view, err);
  if (rv != FLUME_ECORRUPT) return rv;
  *reason = "the state on disk is damaged";
  return 0;
}

static int open_store(struct flume_view *view, struct flume_err *err) {
  const struct flume_io *io = flume__view_io(view);
  enum flume_store_access access = view->place.reads_only ? FLUME_STORE_READ : FLUME_STORE_WRITE;
  char path[FLUME_VIEW_PATH_BYTES], name[16];
  if (view->place.dir == NULL) return flume_store_open(&view->store, io, NULL, access, err);
  snprintf(name, sizeof name, "%u", (unsigned)view->place.number);
  int rv = flume__view_path(view, name, path, err);
  return rv == 0 ? flume_store_open(&view->store, io, path, access, err) : rv;
}

/* Undoes open_store. */
static void undo_open(struct flume_view *view) {
  if (view->store != NULL) flume_store_close(view->store);
  view->store = NULL;
  flume_io_free(flume__view_io(view), view->place.dir);
  view->place = (struct flume_view_place){.unusable_from = INT64_MAX};
  view->meta.since = -1;
  view->meta.deletions = 0;
}

int flume_view_open(struct flume_view *view, const char **reason, char text[FLUME_VIEW_REASON_BYTES],
                    struct flume_err *err) {
  assert(view->state == FLUME_VIEW_NEW && view->store == NULL);
  *reason = NULL;
  int rv = open_store(view, err);
  if (rv == 0) rv = take_up(view, reason, text, err);
  if (rv != 0 || *reason != NULL) {
    undo_open(view);
    return rv;
  }
  struct flume_view_checkpoint *checkpoint = &view->checkpoint;
  checkpoint->next_ns = flume__view_now_ns(view) + FIRST_COMMIT_NS;
  if (view->place.begins_active) checkpoint->activation = FLUME_VIEW_FIRST;
  if (view->place.accepts) checkpoint->freshness = FLUME_VIEW_DUE;
  return 0;
}

int flume_view_adopt(struct flume_view *view, struct flume_view *other, struct flume_err *err) {
  assert(view->state == FLUME_VIEW_NEW && other->state == FLUME_VIEW_IDLE && other->held);
  view->store = other->store;
  view->meta.since = other->meta.since;
  view->meta.deletions = other->meta.deletions;
  int rv = flume__view_restore(view, err);
  if (rv != 0) {
    view->store = NULL;
    return rv;
  }
  other->store = NULL;
  view->place = other->place;
  other->place = (struct flume_view_place){.unusable_from = INT64_MAX};
  view->checkpoint.activation = other->checkpoint.activation;
  if (view->checkpoint.activation == FLUME_VIEW_ASKED) {
    view->checkpoint.activation = view->place.begins_active ? FLUME_VIEW_FIRST : FLUME_VIEW_OFF;
  }
  view->checkpoint.freshness = view->place.dir != NULL ? FLUME_VIEW_DUE : FLUME_VIEW_DIRTY;
  return 0;
}
