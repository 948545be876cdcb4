/* The functions of table that loop: charged by the elements they touch. */
#include <lauxlib.h>
#include <limits.h>

#include "lua/sandbox/lib.h"
#include "lua/sandbox/lib_sort.h"
#include "lua/value/budget.h"

/* Raises when the argument is neither a table nor has the metamethod. */
static void check_can(lua_State *L, int index, const char *metamethod) {
  if (lua_type(L, index) == LUA_TTABLE) return;
  if (luaL_getmetafield(L, index, metamethod) == LUA_TNIL) luaL_checktype(L, index, LUA_TTABLE);
  lua_pop(L, 1);
}

static lua_Integer length_of(lua_State *L, int index) {
  check_can(L, index, "__len");
  return luaL_len(L, index);
}

/* How many there are from first to last, which must not be less than before first. */
static lua_Unsigned count_of(lua_Integer first, lua_Integer last) {
  return (lua_Unsigned)last - (lua_Unsigned)first + 1;
}

/* Copies the elements from..from + count - 1 of the table at index 1 to another place, in the table at index into. An
 * element of a table with an __index may be as expensive as many instructions. */
static void move_up(lua_State *L, lua_Integer from, lua_Integer to, lua_Unsigned count, int into) {
  struct flume_budget *budget = flume_budget_of(L);
  for (lua_Unsigned i = count; i-- > 0;) {
    flume_budget_look(L, budget);
    lua_geti(L, 1, from + (lua_Integer)i);
    lua_seti(L, into, to + (lua_Integer)i);
  }
}

static void move_down(lua_State *L, lua_Integer from, lua_Integer to, lua_Unsigned count, int into) {
  struct flume_budget *budget = flume_budget_of(L);
  for (lua_Unsigned i = 0; i < count; i++) {
    flume_budget_look(L, budget);
    lua_geti(L, 1, from + (lua_Integer)i);
    lua_seti(L, into, to + (lua_Integer)i);
  }
}

/* insert(list, [pos,] value) */
static int insert(lua_State *L) {
  check_can(L, 1, "__newindex");
  lua_Integer end = (lua_Integer)((lua_Unsigned)length_of(L, 1) + 1);
  switch (lua_gettop(L)) {
    case 2: lua_seti(L, 1, end); return 0;
    case 3: break;
    default: return luaL_error(L, "wrong number of arguments to 'insert'");
  }
  lua_Integer pos = luaL_checkinteger(L, 2);
  luaL_argcheck(L, (lua_Unsigned)pos - 1 < (lua_Unsigned)end, 2, "position out of bounds");
  flume_budget_charge(L, flume_budget_of(L), (lua_Unsigned)end - (lua_Unsigned)pos);
  move_up(L, pos, pos + 1, (lua_Unsigned)end - (lua_Unsigned)pos, 1);
  lua_seti(L, 1, pos);
  return 0;
}

/* remove(list [, pos]) -> the element */
static int remove_at(lua_State *L) {
  check_can(L, 1, "__newindex");
  lua_Integer size = length_of(L, 1), pos = luaL_optinteger(L, 2, size);
  luaL_argcheck(L, pos == size || (lua_Unsigned)pos - 1 <= (lua_Unsigned)size, 2, "position out of bounds");
  lua_geti(L, 1, pos);
  if (pos < size) {
    flume_budget_charge(L, flume_budget_of(L), (lua_Unsigned)size - (lua_Unsigned)pos);
    move_down(L, pos + 1, pos, (lua_Unsigned)size - (lua_Unsigned)pos, 1);
    pos = size;
  }
  lua_pushnil(L);
  lua_seti(L, 1, pos);
  return 1;
}

/* move(a1, f, e, t [, a2]) -> a2 */
static int move(lua_State *L) {
  lua_Integer from = luaL_checkinteger(L, 2), last = luaL_checkinteger(L, 3), to = luaL_checkinteger(L, 4);
  int into = lua_isnoneornil(L, 5) ? 1 : 5;
  check_can(L, 1, "__index");
  check_can(L, into, "__newindex");
  if (last >= from) {
    luaL_argcheck(L, from > 0 || last < LUA_MAXINTEGER + from, 3, "too many elements to move");
    lua_Unsigned count = count_of(from, last);
    luaL_argcheck(L, to <= LUA_MAXINTEGER - (lua_Integer)count + 1, 4, "destination wrap around");
    flume_budget_charge(L, flume_budget_of(L), count);
    bool is_ahead = to > last || to <= from || (into != 1 && !lua_compare(L, 1, into, LUA_OPEQ));
    if (is_ahead) move_down(L, from, to, count, into);
    else move_up(L, from, to, count, into);
  }
  lua_pushvalue(L, into);
  return 1;
}

static void add_element(lua_State *L, luaL_Buffer *out, lua_Integer i) {
  lua_geti(L, 1, i);
  if (!lua_isstring(L, -1)) {
    luaL_error(L, "invalid value (%s) at index %I in table for 'concat'", luaL_typename(L, -1), (LUAI_UACINT)i);
  }
  luaL_addvalue(out);
}

/* concat(list [, sep [, i [, j]]]) */
static int concat(lua_State *L) {
  luaL_Buffer out;
  size_t sep_len;
  struct flume_budget *budget = flume_budget_of(L);
  check_can(L, 1, "__index");
  lua_Integer last = length_of(L, 1);
  const char *sep = luaL_optlstring(L, 2, "", &sep_len);
  lua_Integer first = luaL_optinteger(L, 3, 1);
  last = luaL_optinteger(L, 4, last);
  if (first <= last) {
    lua_Unsigned count = count_of(first, last);
    flume_budget_charge(L, budget, count != 0 ? count : UINT64_MAX);
  }
  luaL_buffinit(L, &out);
  for (lua_Integer i = first; i <= last; i++) {
    flume_budget_look(L, budget);
    add_element(L, &out, i);
    if (i == last) break; /* which may be the largest integer */
    luaL_addlstring(&out, sep, sep_len);
  }
  luaL_pushresult(&out);
  return 1;
}

/* unpack(list [, i [, j]]) */
static int unpack(lua_State *L) {
  lua_Integer first = luaL_optinteger(L, 2, 1);
  lua_Integer last = lua_isnoneornil(L, 3) ? luaL_len(L, 1) : luaL_checkinteger(L, 3);
  if (first > last) return 0;
  lua_Unsigned count = count_of(first, last);
  if (count - 1 >= INT_MAX - 1 || !lua_checkstack(L, (int)count)) {
    return luaL_error(L, "too many results to unpack");
  }
  struct flume_budget *budget = flume_budget_of(L);
  flume_budget_charge_values(L, budget, count);
  for (lua_Unsigned i = 0; i < count; i++) {
    flume_budget_look(L, budget);
    lua_geti(L, 1, first + (lua_Integer)i);
  }
  return (int)count;
}

void flume__library_open_table(lua_State *L) {
  static const luaL_Reg functions[] = {{"insert", insert}, {"remove", remove_at}, {"move", move}, {"concat", concat},
                                       {"unpack", unpack}, {"sort", flume_sort},  {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
