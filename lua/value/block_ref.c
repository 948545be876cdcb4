#include "lua/value/block_ref.h"

#include <lauxlib.h>

#define BLOCK_TYPE "flume.block"

static int block_gc(lua_State *L) {
  struct flume_block **block = luaL_checkudata(L, 1, BLOCK_TYPE);
  flume_block_unref(*block);
  *block = NULL;
  return 0;
}

struct flume_block **flume__block_slot(lua_State *L) {
  struct flume_block **slot = lua_newuserdatauv(L, sizeof *slot, 0);
  *slot = NULL;
  if (luaL_newmetatable(L, BLOCK_TYPE)) {
    lua_pushcfunction(L, block_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return slot;
}

static int push_slot(lua_State *L) {
  flume__block_slot(L);
  return 1;
}

void flume__block_push(lua_State *L, struct flume_block *block) {
  lua_pushcfunction(L, push_slot);
  if (lua_pcall(L, 0, 1, 0) != LUA_OK) {
    flume_block_unref(block);
    lua_error(L);
  }
  *(struct flume_block **)lua_touserdata(L, -1) = block;
}
