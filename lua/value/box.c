#include "lua/value/box.h"

#include <lauxlib.h>

#include "lua/value/budget.h"

#define TYPE_NAME "flume.box"

static int collect(lua_State *L) {
  flume_buf_fini(luaL_checkudata(L, 1, TYPE_NAME));
  return 0;
}

struct flume_buf *flume_box_buf(lua_State *L) {
  struct flume_buf *buf = lua_newuserdatauv(L, sizeof *buf, 0);
  flume_buf_init(buf, flume_budget_io(flume_budget_of(L)));
  if (luaL_newmetatable(L, TYPE_NAME)) {
    lua_pushcfunction(L, collect);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, collect);
    lua_setfield(L, -2, "__close");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
  }
  lua_setmetatable(L, -2);
  return buf;
}

struct flume_buf *flume_box_get(lua_State *L, int index) {
  return lua_touserdata(L, index);
}

void flume_box_free(lua_State *L, int index) {
  flume_buf_fini(flume_box_get(L, index));
}
