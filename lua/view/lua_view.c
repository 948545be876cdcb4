#include "lua/view/lua_view.h"

#include <assert.h>
#include <lauxlib.h>
#include <string.h>

#include "lua/binding/lua_observer.h"
#include "lua/value/box.h"
#include "lua/value/marshal.h"

enum { VIEW_UV_PUMP = 1, VIEW_UV_COUNT = 1 };

/* --- Opening ----------------------------------------------------------------------------------------------------- */

static int ref_value(lua_State *L, int index) {
  lua_pushvalue(L, index);
  return luaL_ref(L, LUA_REGISTRYINDEX);
}

struct flume_view *flume__view_check(lua_State *L, int index) {
  struct flume_view *self = luaL_checkudata(L, index, FLUME_VIEW_TYPE);
  if (!self->open || self->closing) luaL_error(L, "the view is closed");
  return self;
}

static struct flume_view *check_view(lua_State *L) {
  return flume__view_check(L, 1);
}

/* load(self, host_bytecode, args...) of a view that has a state of its own -> true | nil, message, code */
static int view_load(lua_State *L) {
  struct flume_view *self = luaL_checkudata(L, 1, FLUME_VIEW_TYPE);
  size_t len;
  const char *source = luaL_checklstring(L, 2, &len);
  struct flume_buf args;
  struct flume_err err;
  flume_buf_init(&args, &flume_io_posix);
  int rv = flume_values_put(L, 3, lua_gettop(L), &args, &err);
  if (rv == 0) {
    flume_vm_enter(self->vm);
    rv = flume_vm_load(self->vm, source, len, &args, &err);
    flume_vm_leave(self->vm);
  }
  flume_buf_fini(&args);
  if (rv != 0) return flume__fail(L, rv, &err);
  lua_pushboolean(L, 1);
  return 1;
}

/* --- Waiting and calling --------------------------------------------------------------------------------------- */

static int view_since(lua_State *L) {
  struct flume_view *self = luaL_checkudata(L, 1, FLUME_VIEW_TYPE);
  lua_pushinteger(L, self->open ? self->sink.since.value : self->meta.since);
  return 1;
}

/* reached(self) -> the last seq that may be in its state: since, or the end of the block that it is at */
static int view_reached(lua_State *L) {
  struct flume_view *self = check_view(L);
  const struct flume_block *block = self->working == FLUME_WORK_FEED ? self->block : NULL;
  lua_pushinteger(L, block != NULL ? flume_block_last_seq(block) : self->sink.since.value);
  return 1;
}

/* progress(self) -> start, milliseconds since then */
static int view_progress(lua_State *L) {
  struct flume_view *self = check_view(L);
  lua_pushinteger(L, self->sink.start_seq);
  lua_pushnumber(L, (lua_Number)(uv_hrtime() - self->sink.start_ns) / 1e6);
  return 2;
}

/* failure(self) -> nil | message, seq, traceback, code */
static int view_failure(lua_State *L) {
  struct flume_view *self = check_view(L);
  if (self->sink.state != FLUME_SINK_FAILED || self->sink.restarting) return 0;
  lua_pushstring(L, self->sink.failure.msg);
  lua_pushinteger(L, self->sink.failure_seq);
  lua_pushstring(L, self->traceback.len > 0 ? (const char *)self->traceback.data : "");
  lua_pushstring(L, flume_err_name(self->sink.failure.code));
  return 4;
}

static int view_observe(lua_State *L) {
  struct flume_view *self = check_view(L);
  flume__observe(L, self->loop, &self->sink.since, 2);
  return 1;
}

/* has(self, seq) -> boolean */
static int view_has(lua_State *L) {
  lua_pushboolean(L, flume_sink_has(&check_view(L)->sink, luaL_checkinteger(L, 2)));
  return 1;
}

struct lua_wait {
  struct flume_wait wait;
  struct flume_loop *loop;
  int cb;
};

static void on_wait(struct flume_wait *wait, int status) {
  struct lua_wait *self = FLUME_CONTAINER_OF(wait, struct lua_wait, wait);
  struct flume_loop *loop = self->loop;
  lua_State *L = loop->L;
  lua_rawgeti(L, LUA_REGISTRYINDEX, self->cb);
  luaL_unref(L, LUA_REGISTRYINDEX, self->cb);
  flume_io_free(&flume_io_posix, self);
  if (status == 0) lua_pushnil(L);
  else flume__push_error_name(L, status);
  flume__loop_call(loop, 1);
}

/* wait(self, seq, timeout_ms or nil, cb); cb(code or nil) */
static int view_wait(lua_State *L) {
  struct flume_view *self = check_view(L);
  lua_Integer seq = luaL_checkinteger(L, 2);
  lua_Number timeout_ms = luaL_optnumber(L, 3, -1);
  luaL_checktype(L, 4, LUA_TFUNCTION);
  int cb = ref_value(L, 4);
  struct lua_wait *wait = flume_io_zalloc(&flume_io_posix, sizeof *wait);
  if (wait == NULL) {
    luaL_unref(L, LUA_REGISTRYINDEX, cb);
    return luaL_error(L, "out of memory");
  }
  wait->loop = self->loop;
  wait->wait.cb = on_wait;
  wait->wait.seq = seq;
  if (timeout_ms >= 0 && timeout_ms < 9e15) { /* else for ever */
    uv_update_time(self->loop->loop);
    wait->wait.deadline_ms = uv_now(self->loop->loop) + (uint64_t)timeout_ms + 1;
  }
  wait->cb = cb;
  flume_sink_wait(&self->sink, &wait->wait);
  return 0;
}

/* call(self, cb, name, args...) -> true | nil, message, code; of a view with a state of its own. cb(err, results...) */
static int view_call(lua_State *L) {
  struct flume_view *self = check_view(L);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  const char *name = luaL_checkstring(L, 3);
  int cb = ref_value(L, 2);
  struct flume_view_call *call = flume_io_zalloc(&flume_io_posix, sizeof *call);
  if (call == NULL) {
    luaL_unref(L, LUA_REGISTRYINDEX, cb);
    return luaL_error(L, "out of memory");
  }
  flume_buf_init(&call->args, &flume_io_posix);
  flume_buf_init(&call->results, &flume_io_posix);
  call->cb = cb;
  struct flume_err err;
  snprintf(call->name, sizeof call->name, "%s", name);
  int rv = flume_values_put(L, 4, lua_gettop(L), &call->args, &err);
  if (rv != 0) {
    flume__view_call_free(L, call);
    return flume__fail(L, rv, &err);
  }
  flume_queue_push(&self->calls, &call->queue);
  flume__view_next(self);
  lua_pushboolean(L, 1);
  return 1;
}

/* Calls host[name] with what is on the stack from index 3 on. */
static int call_here(lua_State *L, struct flume_view *self) {
  const char *name = luaL_checkstring(L, 2);
  int last = lua_gettop(L);
  struct flume_buf *args = flume_box_buf(L), *results = flume_box_buf(L);
  struct flume_err err;
  int rv = flume_values_put(L, 3, last, args, &err);
  if (rv == 0) {
    flume_vm_enter(self->vm);
    rv = flume_vm_call(self->vm, name, args, results, &err);
    flume_vm_leave(self->vm);
  }
  if (rv != 0) return flume__fail(L, rv, &err);
  lua_pushboolean(L, 1);
  int count = flume_values_push(L, results);
  if (count < 0) return luaL_error(L, "results can't be decoded");
  return 1 + count;
}

/* call_now(self, name, args...) -> true, results... | nil, message, code. On this thread, between two records. */
static int view_call_now(lua_State *L) {
  struct flume_view *self = luaL_checkudata(L, 1, FLUME_VIEW_TYPE);
  if (self->vm == NULL) return luaL_error(L, "the view is closed");
  return call_here(L, self);
}

static bool is_idle(const struct flume_view *self) {
  return self->vm != NULL && self->working == FLUME_WORK_NONE && flume_queue_empty(&self->calls) && !self->syncing;
}

/* call_if_idle(self, name, args...): the same, when nothing is under way for the view and nobody waits; else nil */
static int view_call_if_idle(lua_State *L) {
  struct flume_view *self = check_view(L);
  return is_idle(self) ? call_here(L, self) : 0;
}

static bool has_page(const struct flume_view *self) {
  return is_idle(self) && self->kind == FLUME_VIEW_INDEX && self->kept.store != NULL;
}

/* page_if_idle(self, range, n, min_seq, max_seq, resume) -> as page in store.h, and as of which seq; nil when the view is at
 * work. Of an index, all of which is in the store: its entries become values of this state without a way through its own. */
static int view_page_if_idle(lua_State *L) {
  struct flume_view *self = check_view(L);
  struct flume_err err;
  if (!has_page(self)) return 0;
  struct flume_store_page *page = flume__store_begin_page(L, 2);
  if (!has_page(self)) return 0; /* a finalizer has asked it for something */
  int64_t seq = self->kept.seq;
  if (flume__store_read_page(L, page, self->kept.store, &err) != 0) return luaL_error(L, "%s", err.msg);
  flume__store_push_page(L, page);
  lua_pushinteger(L, seq);
  return 3;
}

/* rebuild(self): starts over as soon as nothing is under way */
static int view_rebuild(lua_State *L) {
  struct flume_view *self = check_view(L);
  self->rebuilding = self->sink.restarting = true;
  self->reason = NULL;
  flume__view_next(self);
  return 0;
}

/* revive(self): goes on from the last checkpoint, also after a failure */
static int view_revive(lua_State *L) {
  struct flume_view *self = check_view(L);
  self->reviving = self->sink.restarting = true;
  flume__view_next(self);
  return 0;
}

/* reason(self) -> nil | why it started over, or why it stalls */
static int view_reason(lua_State *L) {
  struct flume_view *self = check_view(L);
  if (self->stall.code != 0) lua_pushstring(L, self->stall.msg);
  else lua_pushstring(L, self->reason);
  lua_pushboolean(L, self->stall.code != 0);
  return 2;
}

/* skips(self, seqs): the records that it passes over, ascending, from the next block on */
static int view_skips(lua_State *L) {
  struct flume_view *self = luaL_checkudata(L, 1, FLUME_VIEW_TYPE);
  luaL_checktype(L, 2, LUA_TTABLE);
  size_t count = lua_rawlen(L, 2);
  int64_t *seqs = flume_io_alloc(&flume_io_posix, (count + 1) * sizeof *seqs);
  if (seqs == NULL) return luaL_error(L, "out of memory");
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, 2, (lua_Integer)i + 1);
    seqs[i] = lua_tointeger(L, -1);
    lua_pop(L, 1);
  }
  flume_io_free(&flume_io_posix, self->new_skips);
  self->new_skips = seqs;
  self->new_skips_count = count;
  if (self->open) flume__view_next(self);
  else flume__view_take_wishes(self);
  return 0;
}

/* quiet(self, cb): cb() when nothing is under way and no call waits; from then on it is held, and its store has all of
 * its state, unless it has failed. Also when it is closed before. */
static int view_quiet(lua_State *L) {
  struct flume_view *self = check_view(L);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  if (self->quiet_cb != LUA_NOREF) return luaL_error(L, "somebody waits for it to be quiet already");
  self->quiet_cb = ref_value(L, 2);
  flume_defer(&self->pump->pump.log->defer, &self->nudge);
  return 0;
}

/* activate(self, cb): a checkpoint, and then this version is the active one on disk; cb(err), also when it is closed
 * before. EAGAIN: it has started over, and may be asked again when it has caught up. */
static int view_activate(lua_State *L) {
  struct flume_view *self = check_view(L);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  luaL_unref(L, LUA_REGISTRYINDEX, self->active_cb);
  self->active_cb = ref_value(L, 2);
  self->wants_active = true;
  self->activation_off = false;
  flume_defer(&self->pump->pump.log->defer, &self->nudge);
  return 0;
}

/* size(self) -> bytes on disk, when it was opened or after the last checkpoint */
static int view_size(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)check_view(L)->size_bytes);
  return 1;
}

/* fail(self, message): the view consumes nothing more, and all that is asked of it answers the message */
static int view_fail(lua_State *L) {
  struct flume_view *self = check_view(L);
  struct flume_err err;
  flume_err_set(&err, FLUME_EVIEW, "%s", luaL_checkstring(L, 2));
  self->rebuilding = self->reviving = self->sink.restarting = false;
  if (self->sink.state == FLUME_SINK_FEEDING) { /* held, so the block has not been begun */
    flume_block_unref(self->block);
    self->block = NULL;
    flume_sink_unfeed(&self->sink);
  }
  flume_sink_failed(&self->sink, -1, &err);
  return 0;
}

/* hold(self, held): an inline view is not fed while it is held */
static int view_hold(lua_State *L) {
  struct flume_view *self = check_view(L);
  self->held = lua_toboolean(L, 2);
  flume__view_next(self);
  return 0;
}

/* --- Closing --------------------------------------------------------------------------------------------------- */

static void release(lua_State *L, struct flume_view *self) {
  if (self->released) return;
  self->released = true;
  if (self->vm != NULL) flume_vm_free(self->vm);
  self->vm = NULL;
  luaL_unref(L, LUA_REGISTRYINDEX, self->host);
  self->host = LUA_NOREF;
  flume_buf_fini(&self->traceback);
  flume__store_fini(&self->kept);
  flume_extract_free(self->extract);
  self->extract = NULL;
  flume_bitmaps_free(self->bitmaps);
  self->bitmaps = NULL;
  flume_io_free(&flume_io_posix, self->skips);
  flume_io_free(&flume_io_posix, self->new_skips);
  flume_io_free(&flume_io_posix, self->dir);
  self->skips = self->new_skips = NULL;
  self->dir = NULL;
}

/* Calls what the reference stands for, if anything, with the error that the status is, or none; gives it up. */
static void call_ref(struct flume_loop *loop, int ref, int status) {
  struct flume_err err;
  if (ref == LUA_NOREF) return;
  lua_rawgeti(loop->L, LUA_REGISTRYINDEX, ref);
  luaL_unref(loop->L, LUA_REGISTRYINDEX, ref);
  if (status == 0) lua_pushnil(loop->L);
  else flume__push_error(loop->L, flume_err_set(&err, status, "the view was closed"), &err);
  flume__loop_call(loop, 1);
}

static void on_idle_closed(uv_handle_t *handle) {
  struct flume_view *self = handle->data;
  struct flume_loop *loop = self->loop;
  int quiet_cb = self->quiet_cb, close_cb = self->close_cb, active_cb = self->active_cb;
  flume_deferred_cancel(&self->slice);
  flume_deferred_cancel(&self->nudge);
  flume_sink_detach(&self->sink);
  self->open = false;
  self->quiet_cb = self->close_cb = self->active_cb = LUA_NOREF;
  release(loop->L, self);
  flume__pump_left(self->pump);
  luaL_unref(loop->L, LUA_REGISTRYINDEX, self->pin);
  call_ref(loop, quiet_cb, 0);
  call_ref(loop, active_cb, FLUME_ECLOSED);
  call_ref(loop, close_cb, 0);
}

void flume__view_finish_close(struct flume_view *self) {
  if (self->finishing) return;
  self->finishing = true;
  uv_close((uv_handle_t *)&self->idle, on_idle_closed);
}

/* The callback of closing is never called from inside close. */
static void begin_close(struct flume_deferred *deferred) {
  struct flume_view *self = FLUME_CONTAINER_OF(deferred, struct flume_view, slice);
  flume__view_next(self);
}

static void close_view(struct flume_view *self) {
  self->closing = true;
  if (self->working != FLUME_WORK_NONE) return; /* goes on from there */
  self->slice.run = begin_close;
  flume_defer(&self->pump->pump.log->defer, &self->slice);
}

/* Lua ran out of memory when it was about to keep a view that had been started: nobody else can close it. */
static void close_left(struct flume_lua_pump *pump) {
  for (struct flume_queue *node = pump->pump.sinks.next; node != &pump->pump.sinks; node = node->next) {
    struct flume_view *view = FLUME_CONTAINER_OF(node, struct flume_view, sink.queue);
    if (!view->closing) close_view(view);
  }
}

static void nudge(struct flume_deferred *deferred) {
  struct flume_view *self = FLUME_CONTAINER_OF(deferred, struct flume_view, nudge);
  flume__view_tell_active(self);
  flume__view_next(self);
}

/* close(self, cb [, "drop"]): a last checkpoint, unless its state is to be dropped; then cb() */
static int view_close(lua_State *L) {
  static const char *const ends[] = {"keep", "drop", NULL};
  struct flume_view *self = check_view(L);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  self->end = (enum flume_view_end)luaL_checkoption(L, 3, "keep", ends);
  self->close_cb = ref_value(L, 2);
  close_view(self);
  return 0;
}

static int nothing(lua_State *L) {
  (void)L;
  return 0;
}

/* An open view is pinned: if it is collected, the state is being closed, and nobody has closed the database. */
static int view_gc(lua_State *L) {
  struct flume_view *self = luaL_checkudata(L, 1, FLUME_VIEW_TYPE);
  if (!self->open) {
    release(L, self);
    return 0;
  }
  if (self->pump->log->log == NULL || !self->pump->open) return 0;
  self->loop->ending = true;
  if (!self->closing) {
    lua_pushcfunction(L, nothing);
    self->close_cb = luaL_ref(L, LUA_REGISTRYINDEX);
    close_view(self);
  }
  while (self->open && uv_run(self->loop->loop, UV_RUN_ONCE) != 0) continue;
  return 0;
}

static void push_view_metatable(lua_State *L) {
  static const luaL_Reg methods[] = {{"load", view_load},
                                     {"start", flume__view_start},
                                     {"adopt", flume__view_adopt},
                                     {"start_dry", flume__view_start_dry},
                                     {"explain", flume__view_explain},
                                     {"explain_stop", flume__view_explain_stop},
                                     {"since", view_since},
                                     {"reached", view_reached},
                                     {"progress", view_progress},
                                     {"failure", view_failure},
                                     {"observe", view_observe},
                                     {"has", view_has},
                                     {"wait", view_wait},
                                     {"call", view_call},
                                     {"call_now", view_call_now},
                                     {"call_if_idle", view_call_if_idle},
                                     {"page_if_idle", view_page_if_idle},
                                     {"close", view_close},
                                     {"rebuild", view_rebuild},
                                     {"revive", view_revive},
                                     {"reason", view_reason},
                                     {"skips", view_skips},
                                     {"quiet", view_quiet},
                                     {"activate", view_activate},
                                     {"erase", flume__view_erase},
                                     {"size", view_size},
                                     {"hold", view_hold},
                                     {"fail", view_fail},
                                     {"__gc", view_gc},
                                     {NULL, NULL}};
  if (luaL_newmetatable(L, FLUME_VIEW_TYPE) == 0) return;
  luaL_setfuncs(L, methods, 0);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
}

/* view(pump, host): an inline view. view(pump, nil, memory_bytes, budget): one with a state of its own; with
 * "trusted" instead of a budget, one with all of Lua's library. */
static int view_new(lua_State *L) {
  struct flume_lua_pump *pump = flume__pump_check(L, 1);
  bool is_inline = lua_istable(L, 2);
  lua_Integer memory_bytes = luaL_optinteger(L, 3, 0);
  bool trusted = lua_type(L, 4) == LUA_TSTRING;
  lua_Integer budget = trusted ? 0 : luaL_optinteger(L, 4, 0);
  struct flume_view *self = lua_newuserdatauv(L, sizeof *self, VIEW_UV_COUNT);
  memset(self, 0, sizeof *self);
  self->meta.since = -1;
  self->pump = pump;
  pump->close_left = close_left;
  self->loop = pump->log->loop;
  self->host = self->pin = self->close_cb = self->quiet_cb = self->active_cb = self->erase_cb = LUA_NOREF;
  flume__view_work_init(self);
  flume_deferred_init(&self->nudge, nudge);
  int rv = flume__store_init(&self->kept, &flume_io_posix);
  if (rv != 0) return luaL_error(L, "a view's store: %s", flume_strerror(rv));
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, VIEW_UV_PUMP);
  push_view_metatable(L);
  lua_setmetatable(L, -2);
  if (is_inline) {
    self->host = ref_value(L, 2);
  } else {
    size_t memory_max_bytes = (size_t)memory_bytes;
    self->vm = trusted ? flume_vm_new_trusted(memory_max_bytes) : flume_vm_new(memory_max_bytes, (uint64_t)budget);
    if (self->vm == NULL) return luaL_error(L, "no memory for a view's state");
  }
  return 1;
}

void flume__view_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"view", view_new}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
