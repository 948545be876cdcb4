#include "lua/binding/lua_observer.h"

#include <lauxlib.h>

#define OBSERVER_TYPE "flume.observer"

struct lua_observer {
  struct flume_observer observer;
  struct flume_loop *loop;
  int cb;  /* registry; LUA_NOREF once stopped */
  int pin; /* registry: this userdata, while it observes */
};

static void on_since(struct flume_observer *observer, int64_t value) {
  struct lua_observer *self = FLUME_CONTAINER_OF(observer, struct lua_observer, observer);
  lua_rawgeti(self->loop->L, LUA_REGISTRYINDEX, self->cb);
  lua_pushinteger(self->loop->L, value);
  flume__loop_call(self->loop, 1);
}

static int observer_stop(lua_State *L) {
  struct lua_observer *self = luaL_checkudata(L, 1, OBSERVER_TYPE);
  flume_observer_stop(&self->observer);
  luaL_unref(L, LUA_REGISTRYINDEX, self->cb);
  luaL_unref(L, LUA_REGISTRYINDEX, self->pin);
  self->cb = self->pin = LUA_NOREF;
  return 0;
}

void flume__observe(lua_State *L, struct flume_loop *loop, struct flume_obv *obv, int fn_index) {
  luaL_checktype(L, fn_index, LUA_TFUNCTION);
  struct lua_observer *self = lua_newuserdatauv(L, sizeof *self, 0);
  *self = (struct lua_observer){.observer = {.cb = on_since}, .loop = loop, .cb = LUA_NOREF, .pin = LUA_NOREF};
  if (luaL_newmetatable(L, OBSERVER_TYPE)) {
    lua_pushcfunction(L, observer_stop);
    lua_setfield(L, -2, "stop");
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
  }
  lua_setmetatable(L, -2);
  lua_pushvalue(L, fn_index);
  self->cb = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushvalue(L, -1);
  self->pin = luaL_ref(L, LUA_REGISTRYINDEX);
  flume_obv_observe(obv, &self->observer);
}
