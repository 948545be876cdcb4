/* Nothing is left of deleted records in a view's files.
 *
 * Happy path: the view takes back what was deleted, and commits. Its store is written anew, beside the versions of the
 * view, under a name that is no number; calls are answered between two pieces of that, but no more records are folded. The
 * new store gets a number by a rename, is made the active version if the old one was, and the view goes on with it. The
 * caller then removes the old one.
 *
 * Failures: a view that has failed, or whose checkpoints can't be written, says so. A crash leaves the version that was
 * active, or the new one, and the other is swept away when the view is mounted. What interrupts it (the view is built anew,
 * or closed) ends it with FLUME_EAGAIN or FLUME_ECLOSED. */
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "lua/view/lua_view.h"

#define IO (&flume_io_posix)
#define PATH_BYTES 4096

/* --- On a worker thread ------------------------------------------------------------------------------------------- */

static int path_of(char *path, const char *dir, const char *name, struct flume_err *err) {
  int len = snprintf(path, PATH_BYTES, "%s/%s", dir, name);
  return len > 0 && len < PATH_BYTES ? 0 : flume_err_set(err, UV_ENAMETOOLONG, "a view's path is too long");
}

/* The new store takes the old one's place. */
static int publish(struct flume_view *view) {
  char path[PATH_BYTES], name[16];
  snprintf(name, sizeof name, "%u", (unsigned)view->erase_number);
  int rv = path_of(path, view->dir, name, &view->err);
  if (rv == 0) rv = flume_view_dir_number(IO, view->dir, view->erase_number, &view->err);
  if (rv == 0 && view->active) rv = flume_view_dir_activate(IO, view->dir, view->erase_number, &view->err);
  if (rv == 0) rv = flume_store_move(view->kept.store, path, &view->err);
  if (rv == 0) view->number = view->erase_number;
  return rv;
}

static int begin(struct flume_view *view) {
  char path[PATH_BYTES];
  int rv = path_of(path, view->dir, FLUME_VIEW_DIR_NEW, &view->err);
  if (rv != 0) return rv;
  rv = flume_store_rewrite_begin(&view->rewrite, view->kept.store, path, &view->meta, &view->err);
  return rv == 0 ? 1 : rv;
}

/* 1: there is more to do. */
static int erase_some(struct flume_view *view) {
  if (view->erased < 0) {
    view->erased = flume_store_erased(view->kept.store, &view->err);
    if (view->erased == FLUME_ENOENT) view->erased = view->erase_until; /* nothing was committed: there is no file */
    if (view->erased < 0 || view->erased >= view->erase_until) return view->erased < 0 ? (int)view->erased : 0;
  }
  if (view->rewrite == NULL) return begin(view);
  int rv = flume_store_rewrite_step(view->rewrite, &view->err);
  if (rv != 0) return rv;
  flume_store_rewrite_free(view->rewrite);
  view->rewrite = NULL;
  rv = publish(view);
  if (rv == 0) view->erased = view->meta.deletions;
  return rv;
}

void flume__view_erase_run(struct flume_view *view) {
  view->erase_status = 1;
  if (!flume__store_begin_write(&view->kept)) return;
  view->erase_status = erase_some(view);
  view->committed_bytes = flume_store_size_bytes(view->kept.store);
  flume__store_end_write(&view->kept);
}

/* --- On the loop -------------------------------------------------------------------------------------------------- */

void flume__view_erase_end(struct flume_view *view, int status) {
  lua_State *L = view->loop->L;
  int cb = view->erase_cb;
  flume_store_rewrite_free(view->rewrite);
  view->rewrite = NULL;
  if (cb == LUA_NOREF) return;
  view->erase_cb = LUA_NOREF;
  lua_rawgeti(L, LUA_REGISTRYINDEX, cb);
  luaL_unref(L, LUA_REGISTRYINDEX, cb);
  if (status == 0) lua_pushnil(L);
  else flume__push_error(L, status, status == FLUME_ECLOSED ? NULL : &view->err);
  lua_pushinteger(L, view->number);
  flume__loop_call(view->loop, 2);
}

void flume__view_erase_ran(struct flume_view *view) {
  if (view->erase_status <= 0) flume__view_erase_end(view, view->erase_status);
}

static void end_with(struct flume_view *view, int status, const char *why) {
  flume__view_erase_end(view, flume_err_set(&view->err, status, "%s", why));
}

/* All that was deleted is taken back, and nothing keeps the view from writing. */
static bool is_settled(const struct flume_view *view) {
  bool is_idle = view->sink.state == FLUME_SINK_IDLE || view->block != NULL;
  return is_idle && !view->sink.restarting && !view->held && !view->forgetting &&
         view->sink.deletions >= view->erase_until;
}

static bool is_over(struct flume_view *view) {
  bool is_writing = view->rewrite != NULL;
  if (view->sink.state == FLUME_SINK_FAILED && !view->sink.restarting) {
    view->err = view->sink.failure;
    flume__view_erase_end(view, view->err.code);
  } else if (is_writing && (!is_settled(view) || view->commit_due)) {
    end_with(view, FLUME_EAGAIN, "the view was changed meanwhile");
  } else if (view->sync_status != 0) {
    end_with(view, view->sync_status, "the log can't be synced");
  } else if (view->stall.code != 0) {
    view->err = view->stall;
    flume__view_erase_end(view, view->err.code);
  }
  return view->erase_cb == LUA_NOREF;
}

bool flume__view_erase_next(struct flume_view *view) {
  if (view->erase_cb == LUA_NOREF || is_over(view) || !is_settled(view)) return false;
  if (view->rewrite == NULL && (view->dirty || view->meta.deletions != view->sink.deletions)) {
    view->meta.deletions = view->sink.deletions;
    view->dirty = view->commit_due = true;
    return false;
  }
  bool has_call = !flume_queue_empty(&view->calls);
  if (has_call && !view->called_last) return false;
  view->called_last = false;
  view->working = FLUME_WORK_ERASE;
  if (view->vm == NULL) flume__store_announce(&view->kept);
  flume_pool_submit(view->loop->pool, &view->job);
  return true;
}

/* erase(self, number, cb): cb(err, number of its version) when it has taken back all that is deleted now, and nothing of
 * that is left in its files; the number is the given one if that took writing them anew. */
int flume__view_erase(lua_State *L) {
  struct flume_view *view = flume__view_check(L, 1);
  uint32_t number = (uint32_t)luaL_checkinteger(L, 2);
  luaL_checktype(L, 3, LUA_TFUNCTION);
  if (view->erase_cb != LUA_NOREF) return luaL_error(L, "it is being done already");
  lua_settop(L, 3);
  view->erase_cb = luaL_ref(L, LUA_REGISTRYINDEX);
  view->erase_number = number;
  view->erase_until = view->pump->log->log->deletions.value;
  view->erased = -1;
  flume_defer(&view->pump->pump.log->defer, &view->nudge);
  return 0;
}
