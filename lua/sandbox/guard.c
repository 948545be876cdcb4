#include "lua/sandbox/guard.h"

#include <lauxlib.h>
#include <string.h>

#include "lua/value/budget.h"

#define STEPS_PER_ERROR 500

/* Its address is the registry key of the metatables in use: weak keys, all with the value true. */
static const char metatables_key = 'm';

static bool has_field(lua_State *L, int index, const char *name) {
  lua_pushstring(L, name);
  bool has = lua_rawget(L, index) != LUA_TNIL;
  lua_pop(L, 1);
  return has;
}

static void remember(lua_State *L, int metatable) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &metatables_key);
  lua_pushvalue(L, metatable);
  if (lua_rawget(L, -2) == LUA_TNIL) {
    lua_pushvalue(L, metatable);
    lua_pushboolean(L, 1);
    lua_rawset(L, -4);
  }
  lua_pop(L, 2);
}

/* setmetatable(table, metatable): a finalizer would run where no instructions are counted, and when it does is chance, as
 * it is when weak entries go. */
static int set_metatable(lua_State *L) {
  int type = lua_type(L, 2);
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_argexpected(L, type == LUA_TNIL || type == LUA_TTABLE, 2, "nil or table");
  if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL) return luaL_error(L, "cannot change a protected metatable");
  lua_settop(L, 2);
  if (type == LUA_TTABLE) {
    if (has_field(L, 2, "__gc")) return luaL_error(L, "__gc is not available in a view");
    if (has_field(L, 2, "__mode")) return luaL_error(L, "__mode is not available in a view");
    remember(L, 2);
  }
  lua_setmetatable(L, 1);
  return 1;
}

void flume_guard_check(lua_State *L) {
  luaL_checkstack(L, 6, NULL);
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &metatables_key) != LUA_TTABLE) {
    lua_pop(L, 1);
    return;
  }
  int metatables = lua_gettop(L);
  lua_pushnil(L);
  while (lua_next(L, metatables)) {
    lua_pop(L, 1);
    if (has_field(L, metatables + 1, "__mode")) luaL_error(L, "__mode is not available in a view");
  }
  lua_pop(L, 1);
}

/* caught(error): somebody has caught it. When the budget is spent it goes on; and errors are dear, where the stack is
 * deep. */
static int caught(lua_State *L) {
  struct flume_budget *budget = flume_budget_of(L);
  flume_budget_take(budget, STEPS_PER_ERROR);
  if (!flume_budget_is_spent(budget)) return 0;
  lua_settop(L, 1);
  bool tells = lua_type(L, 1) == LUA_TSTRING && strstr(lua_tostring(L, 1), "instruction budget") != NULL;
  return tells ? lua_error(L) : flume_budget_raise(L, budget);
}

/* exhausted() -> whether the running record or call has spent its budget */
static int exhausted(lua_State *L) {
  lua_pushboolean(L, flume_budget_is_spent(flume_budget_of(L)));
  return 1;
}

/* charge(steps) */
static int charge(lua_State *L) {
  flume_budget_charge(L, flume_budget_of(L), (uint64_t)luaL_checkinteger(L, 1));
  return 0;
}

void flume__guard_open(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"setmetatable", set_metatable}, {"exhausted", exhausted}, {"charge", charge}, {"caught", caught}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &metatables_key);
}
