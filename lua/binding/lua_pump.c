#include "lua/binding/lua_pump.h"

#include <lauxlib.h>
#include <string.h>

#define PUMP_TYPE "flume.pump"

enum { PUMP_UV_LOG = 1, PUMP_UV_COUNT = 1 };

struct flume_lua_pump *flume__pump_check(lua_State *L, int index) {
  struct flume_lua_pump *self = luaL_checkudata(L, index, PUMP_TYPE);
  if (!self->open || self->closing) luaL_error(L, "the pump is closed");
  return self;
}

/* set_ready(self, ready) */
static int pump_set_ready(lua_State *L) {
  flume_pump_set_ready(&flume__pump_check(L, 1)->pump, lua_toboolean(L, 2));
  return 0;
}

/* take_turns(self): views that live in this state go on for a slice, if they have something to do */
static int pump_take_turns(lua_State *L) {
  flume_pump_take_due_turns(&flume__pump_check(L, 1)->pump);
  return 0;
}

static int pump_blocks_read(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)flume__pump_check(L, 1)->pump.blocks_read);
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

void flume__pump_left(struct flume_lua_pump *self) {
  bool waits = self->closing && !self->pump.closing;
  if (waits && self->pump.sinks_count == 0) flume_pump_close(&self->pump, on_pump_closed);
}

static void close_left(struct flume_deferred *deferred) {
  struct flume_lua_pump *self = FLUME_CONTAINER_OF(deferred, struct flume_lua_pump, left);
  self->close_left(self);
}

/* close(self, cb): after the views were closed; views that Lua had no memory to keep are closed first */
static int pump_close(lua_State *L) {
  struct flume_lua_pump *self = flume__pump_check(L, 1);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  self->cb = ref_value(L, 2);
  self->pin = ref_value(L, 1);
  self->closing = true;
  flume__pump_left(self);
  if (self->pump.closing) return 0;
  flume_deferred_init(&self->left, close_left);
  flume_defer(&self->log->log->defer, &self->left);
  return 0;
}

static void on_pump_gc(struct flume_pump *pump) {
  FLUME_CONTAINER_OF(pump, struct flume_lua_pump, pump)->open = false;
}

/* Closes a pump that was collected unclosed; its views were collected before. */
static int pump_gc(lua_State *L) {
  struct flume_lua_pump *self = luaL_checkudata(L, 1, PUMP_TYPE);
  if (!self->open || self->closing || self->log->log == NULL || flume__loop_is_inherited(self->log->loop)) return 0;
  self->closing = true;
  flume_pump_close(&self->pump, on_pump_gc);
  while (self->open && uv_run(self->log->loop->loop, UV_RUN_ONCE) != 0) continue;
  return 0;
}

/* pump(log) -> pump */
static int pump_new(lua_State *L) {
  struct flume_lua_log *log = flume__lua_log_check(L, 1);
  struct flume_lua_pump *self = lua_newuserdatauv(L, sizeof *self, PUMP_UV_COUNT);
  memset(self, 0, sizeof *self);
  self->log = log;
  self->cb = self->pin = LUA_NOREF;
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, PUMP_UV_LOG);
  if (luaL_newmetatable(L, PUMP_TYPE)) {
    static const luaL_Reg methods[] = {{"set_ready", pump_set_ready},
                                       {"take_turns", pump_take_turns},
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

void flume__pump_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"pump", pump_new}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
