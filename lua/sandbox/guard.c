/* A script only gets metatables that it has made itself. The metatables of the host's own objects (arrays, maps,
 * observables, records) stay out of its reach: a __gc in one of them would make finalizers of the script's functions, and
 * Lua calls no hook in a finalizer, so that nothing could end it; a __mode would show when garbage is collected.
 *
 * So no function of a script is ever a finalizer: setmetatable refuses a metatable with __gc, and Lua only looks for __gc
 * when a metatable is set. flume_guard_close makes sure of it once more before a state is closed. */
#include "lua/sandbox/guard.h"

#include <lauxlib.h>

#include "lua/value/budget.h"

/* Its address is the registry key of the script's metatables: weak keys, all with the value true. */
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

/* Whether the table on top was given to setmetatable by a script. */
static bool is_remembered(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &metatables_key);
  lua_pushvalue(L, -2);
  bool is_there = lua_rawget(L, -2) != LUA_TNIL;
  lua_pop(L, 2);
  return is_there;
}

/* setmetatable(table, metatable): a finalizer would run where no instructions are counted; and when it runs is chance,
 * as it is when weak entries go. */
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

/* getmetatable(value) -> as in Lua for metatables of the script; false for one that belongs to the host */
static int get_metatable(lua_State *L) {
  luaL_checkany(L, 1);
  if (lua_type(L, 1) == LUA_TSTRING || !lua_getmetatable(L, 1)) {
    lua_pushnil(L);
    return 1;
  }
  if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL) return 1;
  if (!is_remembered(L)) lua_pushboolean(L, 0);
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

void flume_guard_close(lua_State *L) {
  if (!lua_checkstack(L, 6) || lua_rawgetp(L, LUA_REGISTRYINDEX, &metatables_key) != LUA_TTABLE) return;
  int metatables = lua_gettop(L);
  lua_pushnil(L);
  while (lua_next(L, metatables)) {
    lua_pop(L, 1);
    lua_pushliteral(L, "__gc");
    if (lua_rawget(L, metatables + 1) != LUA_TNIL) {
      lua_pushliteral(L, "__gc"); /* of a field that is there: needs no memory */
      lua_pushnil(L);
      lua_rawset(L, metatables + 1);
    }
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

/* charge(steps) */
static int charge(lua_State *L) {
  flume_budget_charge(L, flume_budget_of(L), (uint64_t)luaL_checkinteger(L, 1));
  return 0;
}

void flume__guard_open(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"setmetatable", set_metatable}, {"getmetatable", get_metatable}, {"charge", charge}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &metatables_key);
}
