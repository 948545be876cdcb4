#include "lua/sandbox/lib_tostring.h"

#include <lauxlib.h>
#include <stdio.h>

#include "lua/value/budget.h"

/* Its address is the registry key of the numbers by object. */
static const char numbers_key = 'n';

/* Pushes the table of numbers; its keys are weak. */
static void push_numbers(lua_State *L, const struct flume_budget *budget) {
  if (budget->named > 0 && lua_rawgetp(L, LUA_REGISTRYINDEX, &numbers_key) == LUA_TTABLE) return;
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &numbers_key);
}

static lua_Integer number_of(lua_State *L, int index, struct flume_budget *budget) {
  index = lua_absindex(L, index);
  luaL_checkstack(L, 6, NULL);
  push_numbers(L, budget);
  lua_pushvalue(L, index);
  if (lua_rawget(L, -2) == LUA_TNIL) {
    lua_pop(L, 1);
    lua_pushinteger(L, (lua_Integer)++budget->named);
    lua_pushvalue(L, index);
    lua_pushvalue(L, -2);
    lua_rawset(L, -4);
  }
  lua_Integer number = lua_tointeger(L, -1);
  lua_pop(L, 2);
  return number;
}

/* Whether the value would be named by its address. */
static int has_address(lua_State *L, int index) {
  switch (lua_type(L, index)) {
    case LUA_TTABLE:
    case LUA_TFUNCTION:
    case LUA_TTHREAD:
    case LUA_TUSERDATA: break;
    default: return 0;
  }
  if (luaL_getmetafield(L, index, "__tostring") == LUA_TNIL) return 1;
  lua_pop(L, 1);
  return 0;
}

const char *flume_name_tostring(lua_State *L, int index, size_t *len) {
  struct flume_budget *budget = flume_budget_of(L);
  index = lua_absindex(L, index);
  if (budget == NULL || !has_address(L, index)) return luaL_tolstring(L, index, len);
  lua_Integer number = number_of(L, index, budget);
  int named = luaL_getmetafield(L, index, "__name");
  const char *kind = named == LUA_TSTRING ? lua_tostring(L, -1) : luaL_typename(L, index);
  lua_pushfstring(L, "%s: %I", kind, (LUAI_UACINT)number);
  if (named != LUA_TNIL) lua_remove(L, -2);
  return lua_tolstring(L, -1, len);
}

void flume_name_push_address(lua_State *L, int index) {
  struct flume_budget *budget = flume_budget_of(L);
  char text[24];
  if (lua_topointer(L, index) == NULL) {
    lua_pushliteral(L, "(null)");
    return;
  }
  snprintf(text, sizeof text, "0x%08llx", budget != NULL ? (unsigned long long)number_of(L, index, budget) : 0);
  lua_pushstring(L, text);
}
