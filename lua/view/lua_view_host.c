/* The vtable of the engine (struct flume_view_ops): calls the functions of the host object in its Lua state. One
 * thread at a time, which has entered the state. Nothing raises. */
#include <lauxlib.h>

#include "lua/view/lua_view.h"

static struct lua_view *self_of(struct flume_view *view) {
  return FLUME_CONTAINER_OF(view, struct lua_view, view);
}

/* --- Folding ------------------------------------------------------------------------------------------------------ */

static void prepare(const struct lua_view *self, enum flume_fold_action action, struct flume_block *block,
                    struct flume_fold *fold) {
  *fold = (struct flume_fold){.host = flume__view_host(self),
                              .action = action,
                              .codec = self->pump->log->codec,
                              .store = (struct flume_lua_store *)&self->kept,
                              .extract = self->extract,
                              .aggregates = self->aggregates,
                              .bitmaps = self->view.bitmaps,
                              .skips = self->view.skips.seqs,
                              .skips_count = self->view.skips.count,
                              .block = block};
  if (self->vm == NULL) return;
  fold->interrupt = &self->vm->wanted;
  fold->budget = &self->vm->budget;
}

static int host_fold(struct flume_view *view, struct flume_view_span *span, struct flume_err *err) {
  struct lua_view *self = self_of(view);
  struct flume_fold fold;
  prepare(self, FLUME_FOLD_STEP, span->block, &fold);
  fold.from = span->from;
  fold.until_ns = span->until_ns;
  int rv = flume_fold_run(flume__view_state(self), &fold, &view->work.failed.traceback, err);
  span->next = fold.next;
  if (rv == 0 && fold.next > span->from) self->kept.seq = flume_block_seq(span->block, fold.next - 1);
  return rv;
}

static int host_retract(struct flume_view *view, struct flume_block *block, struct flume_err *err) {
  struct lua_view *self = self_of(view);
  struct flume_fold fold;
  prepare(self, FLUME_FOLD_RETRACT, block, &fold);
  int rv = flume_fold_run(flume__view_state(self), &fold, &view->work.failed.traceback, err);
  self->kept.seq = view->meta.since;
  if (!self->kept.must_rebuild) return rv;
  self->kept.must_rebuild = false;
  return 1;
}

/* host, field -> whether the host has the field. Raises memory errors, as the name may be new to the state. */
static int has_field(lua_State *L) {
  lua_pushboolean(L, lua_getfield(L, 1, lua_touserdata(L, 2)) != LUA_TNIL);
  return 1;
}

/* Whether the host on top has that field; false when there is no memory to look. */
static bool host_has(lua_State *L, const char *field) {
  lua_pushcfunction(L, has_field);
  lua_pushvalue(L, -2);
  lua_pushlightuserdata(L, (void *)(uintptr_t)field);
  bool has = lua_pcall(L, 2, 1, 0) == LUA_OK && lua_toboolean(L, -1);
  lua_pop(L, 1);
  return has;
}

static bool host_can_retract(struct flume_view *view) {
  struct lua_view *self = self_of(view);
  if (self->kind == FLUME_VIEW_BITMAP) return true;
  lua_State *L = flume__view_state(self);
  lua_rawgeti(L, LUA_REGISTRYINDEX, flume__view_host(self));
  /* "anew": of a view that uses others */
  bool can = self->kind == FLUME_VIEW_INDEX ? !host_has(L, "anew") : host_has(L, "retract");
  lua_pop(L, 1);
  return can;
}

/* The host of an inline view may start over in its own way, which ends with core:rebuild. */
static bool host_start_over(struct flume_view *view) {
  struct lua_view *self = self_of(view);
  lua_State *L = self->loop->L;
  lua_rawgeti(L, LUA_REGISTRYINDEX, self->host);
  bool itself = host_has(L, "start_over");
  if (itself) {
    lua_getfield(L, -1, "start_over");
    flume__loop_call(self->loop, 0);
  }
  lua_pop(L, 1);
  return itself;
}

/* --- From the store to Lua, and back ------------------------------------------------------------------------------ */

static int restore_initial(struct lua_view *self) {
  lua_State *L = flume__view_state(self);
  lua_rawgeti(L, LUA_REGISTRYINDEX, flume__view_host(self));
  lua_getfield(L, -1, "initial");
  size_t len;
  const char *initial = lua_tolstring(L, -1, &len);
  int rv = initial != NULL ? flume_fold_restore(L, flume__view_host(self), initial, len) : 0;
  lua_pop(L, 2);
  return rv;
}

/* Replaces the state in Lua by the state in the store: the reducer's state; cached groups are dropped. */
static int host_restore(struct flume_view *view, struct flume_err *err) {
  struct lua_view *self = self_of(view);
  self->kept.store = view->store;
  self->kept.seq = view->meta.since;
  flume__store_forget_recent(&self->kept);
  int rv = flume_fold_call(flume__view_state(self), flume__view_host(self), "forget", err);
  if (rv != 0 || self->kind != FLUME_VIEW_REDUCE) return rv;
  struct flume_buf value;
  flume_buf_init(&value, &flume_io_posix);
  rv = flume_store_get_state(view->store, &value, err);
  if (rv == 0) rv = flume_fold_restore(flume__view_state(self), flume__view_host(self), value.data, value.len);
  else if (rv == FLUME_ENOENT) rv = restore_initial(self);
  flume_buf_fini(&value);
  return rv == 0 ? 0 : flume_err_set(err, rv, "taking up the state: %s", flume_strerror(rv));
}

static int host_save(struct flume_view *view, struct flume_err *err) {
  struct lua_view *self = self_of(view);
  lua_State *L = flume__view_state(self);
  int host = flume__view_host(self);
  int rv = flume_fold_call(L, host, "flush", err);
  if (rv != 0 || self->kind != FLUME_VIEW_REDUCE) return rv;
  struct flume_buf *value = &self->kept.value;
  value->len = 0;
  rv = flume_fold_save(L, host, value, err);
  return rv == 0 ? flume_store_put_state(view->store, value->data, value->len, err) : rv;
}

/* --- Who is at it ------------------------------------------------------------------------------------------------- */

static void host_enter(struct flume_view *view) {
  flume__view_enter(self_of(view));
}

static void host_leave(struct flume_view *view) {
  flume__view_leave(self_of(view));
}

static bool host_begin_write(struct flume_view *view) {
  return flume__store_begin_write(&self_of(view)->kept);
}

static void host_end_write(struct flume_view *view) {
  flume__store_end_write(&self_of(view)->kept);
}

static void host_announce(struct flume_view *view) {
  flume__store_announce(&self_of(view)->kept);
}

const struct flume_view_ops flume__view_script_ops = {.fold = host_fold,
                                                      .retract = host_retract,
                                                      .can_retract = host_can_retract,
                                                      .save = host_save,
                                                      .restore = host_restore,
                                                      .call = flume__view_run_call,
                                                      .enter = host_enter,
                                                      .leave = host_leave,
                                                      .begin_write = host_begin_write,
                                                      .end_write = host_end_write};

const struct flume_view_ops flume__view_inline_ops = {.fold = host_fold,
                                                      .retract = host_retract,
                                                      .can_retract = host_can_retract,
                                                      .save = host_save,
                                                      .restore = host_restore,
                                                      .enter = host_enter,
                                                      .leave = host_leave,
                                                      .begin_write = host_begin_write,
                                                      .end_write = host_end_write,
                                                      .announce = host_announce,
                                                      .start_over = host_start_over};
