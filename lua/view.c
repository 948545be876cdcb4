#include "view.h"

#include <assert.h>
#include <lauxlib.h>
#include <string.h>

#include "box.h"
#include "marshal.h"
#include "observer.h"

#define PUMP_TYPE "flume.pump"
#define VIEW_TYPE "flume.view"

enum { PUMP_UV_LOG = 1, PUMP_UV_COUNT = 1 };
enum { VIEW_UV_PUMP = 1, VIEW_UV_COUNT = 1 };

/* --- The pump -------------------------------------------------------------------------------------------------- */

static struct flume_lua_pump *check_pump(lua_State *L, int index) {
  struct flume_lua_pump *self = luaL_checkudata(L, index, PUMP_TYPE);
  if (!self->open || self->closing) luaL_error(L, "the pump is closed");
  return self;
}

/* set_ready(self, ready) */
static int pump_set_ready(lua_State *L) {
  flume_pump_set_ready(&check_pump(L, 1)->pump, lua_toboolean(L, 2));
  return 0;
}

static int pump_blocks_read(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)check_pump(L, 1)->pump.blocks_read);
  return 1;
}

static void on_pump_closed(struct flume_pump *pump) {
  struct flume_lua_pump *self = FLUME_CONTAINER_OF(pump, struct flume_lua_pump, pump);
  lua_State *L = self->log->loop->L;
  self->open = false;
  lua_rawgeti(L, LUA_REGISTRYINDEX, self->cb);
  luaL_unref(L, LUA_REGISTRYINDEX, self->cb);
  luaL_unref(L, LUA_REGISTRYINDEX, self->pin);
  flume__loop_call(self->log->loop, 0);
}

static int ref_value(lua_State *L, int index) {
  lua_pushvalue(L, index);
  return luaL_ref(L, LUA_REGISTRYINDEX);
}

/* close(self, cb): its views must be closed */
static int pump_close(lua_State *L) {
  struct flume_lua_pump *self = check_pump(L, 1);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  self->cb = ref_value(L, 2);
  self->pin = ref_value(L, 1);
  self->closing = true;
  flume_pump_close(&self->pump, on_pump_closed);
  return 0;
}

static void on_pump_gc(struct flume_pump *pump) {
  FLUME_CONTAINER_OF(pump, struct flume_lua_pump, pump)->open = false;
}

/* The safety net at the end of the state; views were collected before. */
static int pump_gc(lua_State *L) {
  struct flume_lua_pump *self = luaL_checkudata(L, 1, PUMP_TYPE);
  if (!self->open || self->closing || self->log->log == NULL) return 0;
  self->closing = true;
  flume_pump_close(&self->pump, on_pump_gc);
  while (self->open && uv_run(self->log->loop->loop, UV_RUN_ONCE) != 0) continue;
  return 0;
}

/* pump(log) -> pump */
static int pump_new(lua_State *L) {
  struct flume_lua_log *log = flume__log_check(L, 1);
  struct flume_lua_pump *self = lua_newuserdatauv(L, sizeof *self, PUMP_UV_COUNT);
  memset(self, 0, sizeof *self);
  self->log = log;
  self->cb = self->pin = LUA_NOREF;
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, PUMP_UV_LOG);
  if (luaL_newmetatable(L, PUMP_TYPE)) {
    static const luaL_Reg methods[] = {{"set_ready", pump_set_ready},
                                       {"blocks_read", pump_blocks_read},
                                       {"close", pump_close},
                                       {"__gc", pump_gc},
                                       {NULL, NULL}};
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
  }
  lua_setmetatable(L, -2);
  flume_pump_open(&self->pump, log->log, log->loop->pool);
  self->open = true;
  return 1;
}

/* --- Opening a view --------------------------------------------------------------------------------------------- */

static struct flume_view *check_view(lua_State *L) {
  struct flume_view *self = luaL_checkudata(L, 1, VIEW_TYPE);
  if (!self->open || self->closing) luaL_error(L, "the view is closed");
  return self;
}

/* load(self, host_bytecode, args...) of a view that has a state of its own -> true | nil, message, code */
static int view_load(lua_State *L) {
  struct flume_view *self = luaL_checkudata(L, 1, VIEW_TYPE);
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

static int restore_initial(struct flume_view *self) {
  lua_State *L = self->vm != NULL ? self->vm->L : self->loop->L;
  int host = self->vm != NULL ? self->vm->host : self->host;
  lua_rawgeti(L, LUA_REGISTRYINDEX, host);
  lua_getfield(L, -1, "initial");
  size_t len;
  const char *initial = lua_tolstring(L, -1, &len);
  int rv = initial != NULL ? flume_fold_restore(L, host, initial, len) : 0;
  lua_pop(L, 2);
  return rv;
}

#define REASON_BYTES 192

/* Why the state on disk can't be gone on with; NULL when it can. text has room for the reason. */
static const char *reason_to_rebuild(const struct flume_view *self, const struct flume_state_meta *wanted,
                                     const struct flume_log *log, char *text) {
  const struct flume_state_meta *found = &self->meta;
  if (memcmp(found->log_id, wanted->log_id, 16) != 0) return "the log is another one";
  if (found->since > flume_log_since(log)) return "the view is ahead of the log";
  if (strcmp(found->version, wanted->version) != 0) {
    snprintf(text, REASON_BYTES, "version %s -> %s", found->version[0] != '\0' ? found->version : "(none)",
             wanted->version[0] != '\0' ? wanted->version : "(none)");
    return text;
  }
  if (wanted->version[0] == '\0' && found->fingerprint != wanted->fingerprint) return "the source has changed";
  if ((int64_t)found->deletions != log->ops->deleted_count(log, found->since)) return "records were deleted";
  return NULL;
}

/* Takes over what is on disk, if it fits. *reason: why it does not; NULL also when there is nothing. */
static int load_state(struct flume_view *self, const struct flume_state_meta *wanted, const char **reason, char *text,
                      struct flume_err *err) {
  struct flume_buf value;
  flume_buf_init(&value, &flume_io_posix);
  *reason = NULL;
  int rv = flume_state_load(self->state, &self->meta, &value, err);
  if (rv == 0) {
    *reason = reason_to_rebuild(self, wanted, self->pump->log->log, text);
    if (*reason == NULL) {
      lua_State *L = self->vm != NULL ? self->vm->L : self->loop->L;
      rv = flume_fold_restore(L, self->vm != NULL ? self->vm->host : self->host, value.data, value.len);
      if (rv == FLUME_ECORRUPT) *reason = "the state on disk is damaged";
    }
  } else if (rv == FLUME_ECORRUPT || rv == FLUME_EVERSION) {
    *reason = "the state on disk is not readable";
  }
  flume_buf_fini(&value);
  bool usable = rv == 0 && *reason == NULL;
  if (usable || rv == FLUME_ENOMEM) return rv;
  self->meta = *wanted;
  rv = restore_initial(self);
  return rv == 0 ? 0 : flume_err_set(err, rv, "setting the initial state: %s", flume_strerror(rv));
}

/* start(self, version, fingerprint, dir or nil, since) -> since, reason or nil | nil, message, code. With dir the state
 * is kept there and since is what it says; without it the view begins behind since. */
static int view_start(lua_State *L) {
  struct flume_view *self = luaL_checkudata(L, 1, VIEW_TYPE);
  const char *version = luaL_checkstring(L, 2);
  struct flume_state_meta wanted = {.since = -1, .fingerprint = (uint64_t)luaL_checkinteger(L, 3)};
  const char *dir = luaL_optstring(L, 4, NULL);
  const char *reason = NULL;
  char text[REASON_BYTES];
  struct flume_err err;
  if (strlen(version) >= sizeof wanted.version) return luaL_error(L, "a version of more than 63 bytes");
  strcpy(wanted.version, version);
  memcpy(wanted.log_id, flume_log_id(self->pump->log->log), 16);
  wanted.since = luaL_optinteger(L, 5, -1);
  wanted.deletions = (uint64_t)self->pump->log->log->ops->deleted_count(self->pump->log->log, wanted.since);
  int rv;
  if (dir != NULL) {
    rv = flume_state_open(&self->state, &flume_io_posix, dir, &err);
    if (rv == 0) rv = load_state(self, &wanted, &reason, text, &err);
  } else {
    self->meta = wanted;
    rv = restore_initial(self);
    if (rv != 0) flume_err_set(&err, rv, "setting the initial state: %s", flume_strerror(rv));
  }
  if (rv != 0) return flume__fail(L, rv, &err);
  self->open = true;
  self->pin = ref_value(L, 1);
  flume_sink_attach(&self->sink, &self->pump->pump, &flume__view_sink_ops, self->meta.since,
                    (int64_t)self->meta.deletions);
  lua_pushinteger(L, self->meta.since);
  lua_pushstring(L, reason);
  return 2;
}

/* --- Waiting and calling --------------------------------------------------------------------------------------- */

static int view_since(lua_State *L) {
  struct flume_view *self = luaL_checkudata(L, 1, VIEW_TYPE);
  lua_pushinteger(L, self->open ? self->sink.since.value : self->meta.since);
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
  else lua_pushstring(L, flume_err_name(status));
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

/* call_now(self, name, args...) -> true, results... | nil, message, code. On this thread, between two records. */
static int view_call_now(lua_State *L) {
  struct flume_view *self = luaL_checkudata(L, 1, VIEW_TYPE);
  if (self->vm == NULL) return luaL_error(L, "the view is closed");
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

/* rebuild(self): starts over as soon as nothing is under way */
static int view_rebuild(lua_State *L) {
  struct flume_view *self = check_view(L);
  self->rebuilding = self->sink.restarting = true;
  flume__view_next(self);
  lua_pushboolean(L, !self->rebuilding);
  return 1;
}

/* fail(self, message): the view consumes nothing more, and all that is asked of it answers the message */
static int view_fail(lua_State *L) {
  struct flume_view *self = check_view(L);
  struct flume_err err;
  flume_err_set(&err, FLUME_EVIEW, "%s", luaL_checkstring(L, 2));
  self->rebuilding = self->sink.restarting = false;
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
  if (self->state != NULL) flume_state_close(self->state);
  self->state = NULL;
  if (self->vm != NULL) flume_vm_free(self->vm);
  self->vm = NULL;
  luaL_unref(L, LUA_REGISTRYINDEX, self->host);
  self->host = LUA_NOREF;
  flume_buf_fini(&self->traceback);
  flume_buf_fini(&self->saved);
}

void flume__view_finish_close(struct flume_view *self) {
  lua_State *L = self->loop->L;
  flume_deferred_cancel(&self->slice);
  flume_sink_detach(&self->sink);
  self->open = false;
  release(L, self);
  lua_rawgeti(L, LUA_REGISTRYINDEX, self->close_cb);
  luaL_unref(L, LUA_REGISTRYINDEX, self->close_cb);
  luaL_unref(L, LUA_REGISTRYINDEX, self->pin);
  flume__loop_call(self->loop, 0);
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

/* close(self, cb): a last checkpoint, then cb() */
static int view_close(lua_State *L) {
  struct flume_view *self = check_view(L);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  self->close_cb = ref_value(L, 2);
  close_view(self);
  return 0;
}

static int nothing(lua_State *L) {
  (void)L;
  return 0;
}

static int view_gc(lua_State *L) {
  struct flume_view *self = luaL_checkudata(L, 1, VIEW_TYPE);
  if (!self->open) {
    release(L, self);
    return 0;
  }
  if (self->pump->log->log == NULL || !self->pump->open) return 0;
  if (!self->closing) {
    lua_pushcfunction(L, nothing);
    self->close_cb = luaL_ref(L, LUA_REGISTRYINDEX);
    close_view(self);
  }
  while (self->open && uv_run(self->loop->loop, UV_RUN_ONCE) != 0) continue;
  return 0;
}

static void push_view_metatable(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"load", view_load},       {"start", view_start},       {"since", view_since}, {"progress", view_progress},
      {"failure", view_failure}, {"observe", view_observe},   {"has", view_has},     {"wait", view_wait},
      {"call", view_call},       {"call_now", view_call_now}, {"close", view_close}, {"rebuild", view_rebuild},
      {"hold", view_hold},       {"fail", view_fail},         {"__gc", view_gc},     {NULL, NULL}};
  if (luaL_newmetatable(L, VIEW_TYPE) == 0) return;
  luaL_setfuncs(L, methods, 0);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
}

/* view(pump, host): an inline view. view(pump, nil, memory_bytes, budget): one with a state of its own. */
static int view_new(lua_State *L) {
  struct flume_lua_pump *pump = check_pump(L, 1);
  bool is_inline = lua_istable(L, 2);
  lua_Integer memory_bytes = luaL_optinteger(L, 3, 0);
  lua_Integer budget = luaL_optinteger(L, 4, 0);
  struct flume_view *self = lua_newuserdatauv(L, sizeof *self, VIEW_UV_COUNT);
  memset(self, 0, sizeof *self);
  self->pump = pump;
  self->loop = pump->log->loop;
  self->host = self->pin = self->close_cb = LUA_NOREF;
  flume__view_work_init(self);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, VIEW_UV_PUMP);
  push_view_metatable(L);
  lua_setmetatable(L, -2);
  if (is_inline) {
    self->host = ref_value(L, 2);
  } else {
    self->vm = flume_vm_new((size_t)memory_bytes, (uint64_t)budget);
    if (self->vm == NULL) return luaL_error(L, "no memory for a view's state");
  }
  return 1;
}

void flume__view_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"pump", pump_new}, {"view", view_new}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
