#include "lua/view/lua_view.h"

#include <assert.h>
#include <lauxlib.h>
#include <string.h>

#include "lua/binding/lua_observer.h"
#include "lua/value/box.h"

enum { VIEW_UV_PUMP = 1, VIEW_UV_COUNT = 2 };

static int ref_value(lua_State *L, int index) {
  lua_pushvalue(L, index);
  return luaL_ref(L, LUA_REGISTRYINDEX);
}

struct lua_view *flume__view_check_any(lua_State *L, int index) {
  return luaL_checkudata(L, index, FLUME_VIEW_TYPE);
}

struct lua_view *flume__view_check(lua_State *L, int index) {
  struct lua_view *self = flume__view_check_any(L, index);
  if (!self->open || self->closing) luaL_error(L, "the view is closed");
  return self;
}

static struct lua_view *check_view(lua_State *L) {
  return flume__view_check(L, 1);
}

/* load(self, host_bytecode, args...) of a view that has a state of its own -> true | nil, message, code */
static int view_load(lua_State *L) {
  struct lua_view *self = flume__view_check_any(L, 1);
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

/* --- Looking at it ------------------------------------------------------------------------------------------------ */

static int view_since(lua_State *L) {
  struct lua_view *self = flume__view_check_any(L, 1);
  lua_pushinteger(L, self->open ? self->view.sink.since.value : self->view.meta.since);
  return 1;
}

/* reached(self) -> the last seq that the state may contain: since, or the end of the current block */
static int view_reached(lua_State *L) {
  struct lua_view *self = check_view(L);
  struct flume_view *view = &self->view;
  flume_pump_lock(&self->pump->pump);
  bool is_folding = view->state == FLUME_VIEW_FOLDING;
  int64_t seq = is_folding ? flume_block_last_seq(view->work.block) : view->sink.since.value;
  flume_pump_unlock(&self->pump->pump);
  lua_pushinteger(L, seq);
  return 1;
}

/* progress(self) -> start, milliseconds since then */
static int view_progress(lua_State *L) {
  struct lua_view *self = check_view(L);
  flume_pump_lock(&self->pump->pump);
  int64_t start_seq = self->view.sink.start_seq;
  uint64_t start_ns = self->view.sink.start_ns;
  flume_pump_unlock(&self->pump->pump);
  lua_pushinteger(L, start_seq);
  lua_pushnumber(L, (lua_Number)(flume__view_now_ns(&self->view) - start_ns) / 1e6);
  return 2;
}

struct failure {
  struct flume_err err;
  int64_t seq;
  struct flume_buf *traceback; /* a string */
};

/* The failure, copied; false when the view has not failed. Nothing may raise while the pump is locked. */
static bool get_failure(struct lua_view *self, struct failure *failure) {
  const struct flume_view *view = &self->view;
  flume_pump_lock(&self->pump->pump);
  bool has_failed = view->sink.state == FLUME_SINK_FAILED && !view->sink.restarting;
  if (has_failed) {
    failure->err = view->sink.failure;
    failure->seq = view->sink.failure_seq;
    if (failure->traceback != NULL) flume_buf_append(failure->traceback, view->traceback.data, view->traceback.len);
  }
  flume_pump_unlock(&self->pump->pump);
  return has_failed;
}

/* failure(self) -> nil | message, seq, traceback, code */
static int view_failure(lua_State *L) {
  struct lua_view *self = check_view(L);
  struct failure failure = {.traceback = NULL};
  if (!get_failure(self, &failure)) return 0;
  failure.traceback = flume_box_buf(L);
  if (!get_failure(self, &failure)) return 0;
  lua_pushstring(L, failure.err.msg);
  lua_pushinteger(L, failure.seq);
  lua_pushstring(L, failure.traceback->len > 0 ? (const char *)failure.traceback->data : "");
  lua_pushstring(L, flume_err_name(failure.err.code));
  return 4;
}

/* state(self) -> the name of the engine's state */
static int view_state(lua_State *L) {
  struct lua_view *self = check_view(L);
  flume_pump_lock(&self->pump->pump);
  enum flume_view_state state = self->view.state;
  flume_pump_unlock(&self->pump->pump);
  lua_pushstring(L, flume_view_state_name(state));
  return 1;
}

/* reason(self) -> nil | why the view started over or stalls, whether it stalls */
static int view_reason(lua_State *L) {
  struct lua_view *self = check_view(L);
  flume_pump_lock(&self->pump->pump);
  struct flume_err stall = self->view.checkpoint.stall;
  const char *reason = self->view.reason;
  flume_pump_unlock(&self->pump->pump);
  lua_pushstring(L, stall.code != 0 ? stall.msg : reason);
  lua_pushboolean(L, stall.code != 0);
  return 2;
}

/* size(self) -> bytes on disk at opening, or after the last checkpoint */
static int view_size(lua_State *L) {
  struct lua_view *self = check_view(L);
  flume_pump_lock(&self->pump->pump);
  uint64_t size_bytes = self->view.checkpoint.size_bytes;
  flume_pump_unlock(&self->pump->pump);
  lua_pushinteger(L, (lua_Integer)size_bytes);
  return 1;
}

/* --- Waiting ------------------------------------------------------------------------------------------------------ */

static int view_observe(lua_State *L) {
  struct lua_view *self = check_view(L);
  flume__observe(L, self->loop, &self->view.sink.since, 2);
  return 1;
}

/* has(self, seq) -> boolean */
static int view_has(lua_State *L) {
  struct lua_view *self = check_view(L);
  lua_Integer seq = luaL_checkinteger(L, 2);
  flume_pump_lock(&self->pump->pump);
  bool has = flume_sink_has(&self->view.sink, seq);
  flume_pump_unlock(&self->pump->pump);
  lua_pushboolean(L, has);
  return 1;
}

/* deletions(self) -> the number of the log's deletions that the view has processed */
static int view_deletions(lua_State *L) {
  struct lua_view *self = check_view(L);
  flume_pump_lock(&self->pump->pump);
  int64_t deletions = self->view.sink.deletions;
  flume_pump_unlock(&self->pump->pump);
  lua_pushinteger(L, deletions);
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
  struct lua_view *self = check_view(L);
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
  if (timeout_ms >= 0 && timeout_ms < 9e12) { /* else for ever */
    wait->wait.deadline_ns = flume__view_now_ns(&self->view) + (uint64_t)(timeout_ms * 1e6) + 1;
  }
  wait->cb = cb;
  flume_pump_lock(&self->pump->pump);
  flume_sink_wait(&self->view.sink, &wait->wait);
  flume_pump_unlock(&self->pump->pump);
  return 0;
}

/* --- Asking for something ----------------------------------------------------------------------------------------- */

struct lua_request {
  struct flume_view_request request;
  struct lua_view *self;
  int cb; /* registry */
};

/* The callback is called with the error, or nil, and the number of the view's version. */
static void on_request(struct flume_view_request *request, int status, const struct flume_err *err) {
  struct lua_request *asked = FLUME_CONTAINER_OF(request, struct lua_request, request);
  struct lua_view *self = asked->self;
  lua_State *L = self->loop->L;
  lua_rawgeti(L, LUA_REGISTRYINDEX, asked->cb);
  luaL_unref(L, LUA_REGISTRYINDEX, asked->cb);
  if (status == 0) lua_pushnil(L);
  else flume__push_error(L, status, err);
  lua_pushinteger(L, self->view.place.number);
  flume_io_free(&flume_io_posix, asked);
  flume__loop_call(self->loop, 2);
}

/* A request with the function at index as its callback. Raises memory errors. */
static struct flume_view_request *new_request(lua_State *L, struct lua_view *self, int index) {
  luaL_checktype(L, index, LUA_TFUNCTION);
  int cb = ref_value(L, index);
  struct lua_request *asked = flume_io_zalloc(&flume_io_posix, sizeof *asked);
  if (asked == NULL) {
    luaL_unref(L, LUA_REGISTRYINDEX, cb);
    luaL_error(L, "out of memory");
    return NULL;
  }
  asked->request.cb = on_request;
  asked->self = self;
  asked->cb = cb;
  return &asked->request;
}

/* rebuild(self): starts over when no work is under way */
static int view_rebuild(lua_State *L) {
  flume_view_rebuild(&check_view(L)->view, NULL);
  return 0;
}

/* revive(self): restores the last checkpoint, also after a failure */
static int view_revive(lua_State *L) {
  flume_view_revive(&check_view(L)->view);
  return 0;
}

/* skips(self, seqs): the records that the view doesn't fold, ascending, from the next block on */
static int view_skips(lua_State *L) {
  struct lua_view *self = flume__view_check_any(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  size_t count = lua_rawlen(L, 2);
  int64_t *seqs = flume_io_alloc(&flume_io_posix, (count + 1) * sizeof *seqs);
  if (seqs == NULL) return luaL_error(L, "out of memory");
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, 2, (lua_Integer)i + 1);
    seqs[i] = lua_tointeger(L, -1);
    lua_pop(L, 1);
  }
  flume_view_set_skips(&self->view, seqs, count);
  return 0;
}

/* quiet(self, cb): cb() when no work is under way and no call waits, or when the view was closed. From then on the
 * view is held, and its store has the whole state, unless the view has failed. */
static int view_quiet(lua_State *L) {
  struct lua_view *self = check_view(L);
  if (self->view.requests.quiet != NULL) return luaL_error(L, "the view is asked to be quiet already");
  flume_view_quiet(&self->view, new_request(L, self, 2));
  return 0;
}

/* activate(self, cb): commits a checkpoint that makes this version the active version on disk; cb(err). EAGAIN: the
 * view has started over; ask again once it has caught up. ECLOSED. A new call replaces a waiting one, whose cb is
 * never called. */
static int view_activate(lua_State *L) {
  struct lua_view *self = check_view(L);
  flume_view_activate(&self->view, new_request(L, self, 2));
  return 0;
}

/* scrub(self, number, cb): takes back all records that are deleted now and removes their bytes from the files; then
 * cb(err, number of the version). A rewrite gives the version the number given. */
static int view_scrub(lua_State *L) {
  struct lua_view *self = check_view(L);
  uint32_t number = (uint32_t)luaL_checkinteger(L, 2);
  if (self->view.requests.scrub != NULL) return luaL_error(L, "the view is scrubbed already");
  flume_view_scrub(&self->view, number, new_request(L, self, 3));
  return 0;
}

/* fail(self, message): fails a view that is held: it consumes nothing more, and all waits end */
static int view_fail(lua_State *L) {
  struct lua_view *self = check_view(L);
  struct flume_err err;
  flume_err_set(&err, FLUME_EVIEW, "%s", luaL_checkstring(L, 2));
  flume_view_fail(&self->view, &err);
  return 0;
}

/* hold(self, held) -> whether the view was held before: a held view begins no block */
static int view_hold(lua_State *L) {
  lua_pushboolean(L, flume_view_hold(&check_view(L)->view, lua_toboolean(L, 2)));
  return 1;
}

/* --- Closing ------------------------------------------------------------------------------------------------------ */

static void release(lua_State *L, struct lua_view *self) {
  if (self->released) return;
  self->released = true;
  if (self->vm != NULL) flume_vm_free(self->vm);
  self->vm = NULL;
  luaL_unref(L, LUA_REGISTRYINDEX, self->host);
  self->host = LUA_NOREF;
  self->kept.store = NULL; /* the engine's */
  flume__store_fini(&self->kept);
  flume_view_fini(&self->view);
  flume_extract_free(self->extract);
  self->extract = NULL;
}

static void on_closed(struct flume_view_request *request, int status, const struct flume_err *err) {
  struct lua_view *self = FLUME_CONTAINER_OF(request, struct lua_view, end);
  struct flume_loop *loop = self->loop;
  int close_cb = self->close_cb;
  struct flume_err why = *err;
  self->open = false;
  self->close_cb = LUA_NOREF;
  release(loop->L, self);
  flume__pump_left(self->pump);
  luaL_unref(loop->L, LUA_REGISTRYINDEX, self->pin);
  if (close_cb == LUA_NOREF) return;
  lua_rawgeti(loop->L, LUA_REGISTRYINDEX, close_cb);
  luaL_unref(loop->L, LUA_REGISTRYINDEX, close_cb);
  if (status == 0) lua_pushnil(loop->L);
  else flume__push_error(loop->L, status, &why);
  flume__loop_call(loop, 1);
}

static void close_view(struct lua_view *self, bool drops) {
  self->closing = true;
  self->end.cb = on_closed;
  flume_view_close(&self->view, drops, &self->end);
}

/* Closes a started view that Lua had no memory to keep. */
static void close_left(struct flume_lua_pump *pump) {
  struct lua_view *left = NULL;
  do {
    left = NULL;
    flume_pump_lock(&pump->pump);
    for (struct flume_queue *node = pump->pump.sinks.next; node != &pump->pump.sinks; node = node->next) {
      struct flume_view *view = FLUME_CONTAINER_OF(node, struct flume_view, sink.queue);
      struct lua_view *self = FLUME_CONTAINER_OF(view, struct lua_view, view);
      if (!self->closing) left = self;
    }
    flume_pump_unlock(&pump->pump);
    if (left != NULL) close_view(left, false);
  } while (left != NULL);
}

/* close(self, cb [, "drop"]): a last checkpoint, unless the state is dropped; then cb(err): why the state can't be
 * stored, or nil */
static int view_close(lua_State *L) {
  static const char *const ends[] = {"keep", "drop", NULL};
  struct lua_view *self = check_view(L);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  bool drops = luaL_checkoption(L, 3, "keep", ends) == 1;
  self->close_cb = ref_value(L, 2);
  close_view(self, drops);
  return 0;
}

/* An open view is pinned. If it is collected, the Lua state closes while the database is open. */
static int view_gc(lua_State *L) {
  struct lua_view *self = flume__view_check_any(L, 1);
  if (!self->open) {
    release(L, self);
    return 0;
  }
  if (self->pump->log->log == NULL || !self->pump->open) return 0;
  if (flume__loop_is_inherited(self->loop)) return 0; /* a forked process: the view is its parent's */
  self->loop->ending = true;
  if (!self->closing) close_view(self, false);
  while (self->open && uv_run(self->loop->loop, UV_RUN_ONCE) != 0) continue;
  return 0;
}

/* --- Opening ------------------------------------------------------------------------------------------------------ */

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
                                     {"state", view_state},
                                     {"observe", view_observe},
                                     {"has", view_has},
                                     {"deletions", view_deletions},
                                     {"wait", view_wait},
                                     {"call", flume__view_call},
                                     {"call_now", flume__view_call_now},
                                     {"call_if_idle", flume__view_call_if_idle},
                                     {"page_if_idle", flume__view_page_if_idle},
                                     {"close", view_close},
                                     {"rebuild", view_rebuild},
                                     {"revive", view_revive},
                                     {"reason", view_reason},
                                     {"skips", view_skips},
                                     {"quiet", view_quiet},
                                     {"activate", view_activate},
                                     {"scrub", view_scrub},
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
  struct lua_view *self = lua_newuserdatauv(L, sizeof *self, VIEW_UV_COUNT);
  memset(self, 0, sizeof *self);
  self->pump = pump;
  pump->close_left = close_left;
  self->loop = pump->log->loop;
  self->host = self->pin = self->close_cb = LUA_NOREF;
  int rv = flume__store_init(&self->kept, &flume_io_posix);
  if (rv != 0) return luaL_error(L, "a view's store: %s", flume_strerror(rv));
  flume_view_init(&self->view, &pump->pump, is_inline ? &flume__view_inline_ops : &flume__view_script_ops, is_inline);
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
