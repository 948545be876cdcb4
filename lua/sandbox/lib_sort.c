/* A merge sort from the bottom up. The elements move between two tables of its own, and are written back in the end, so
 * that an order function that raises leaves the list as it was. */
#include "lua/sandbox/lib_sort.h"

#include <lauxlib.h>
#include <limits.h>

#include "lua/value/budget.h"

#define LONG_BYTES 256 /* strings that take more than a step to compare */
#define BYTES_PER_STEP 8

enum { AT_LIST = 1, AT_LESS, AT_FROM, AT_TO, AT_LEFT, AT_RIGHT };

struct sorting {
  lua_State *L;
  struct flume_budget *budget;
  bool has_less;
  int from; /* stack index of the table with the runs so far; AT_TO is the other one */
  int to;
};

static void charge_strings(const struct sorting *sorting) {
  lua_State *L = sorting->L;
  if (lua_type(L, AT_LEFT) != LUA_TSTRING || lua_type(L, AT_RIGHT) != LUA_TSTRING) return;
  lua_Unsigned left = lua_rawlen(L, AT_LEFT), right = lua_rawlen(L, AT_RIGHT), less = left < right ? left : right;
  if (less > LONG_BYTES) flume_budget_charge(L, sorting->budget, less / BYTES_PER_STEP);
}

/* Whether the element at the one stack index goes before the one at the other. */
static bool goes_before(const struct sorting *sorting, int a, int b) {
  lua_State *L = sorting->L;
  flume_budget_look(L, sorting->budget);
  if (!sorting->has_less) {
    charge_strings(sorting);
    return lua_compare(L, a, b, LUA_OPLT);
  }
  lua_pushvalue(L, AT_LESS);
  lua_pushvalue(L, a);
  lua_pushvalue(L, b);
  lua_call(L, 2, 1);
  bool before = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return before;
}

/* Pushes in place of the value at `at` the next element of a run, if it has one left. */
static void take_next(const struct sorting *sorting, int at, lua_Integer i, lua_Integer end) {
  if (i >= end) return;
  lua_rawgeti(sorting->L, sorting->from, i);
  lua_replace(sorting->L, at);
}

/* Merges the runs [left, right) and [right, end) of the one table into the other. */
static void merge(const struct sorting *sorting, lua_Integer left, lua_Integer right, lua_Integer end) {
  lua_State *L = sorting->L;
  lua_Integer left_end = right, to = left;
  take_next(sorting, AT_LEFT, left, left_end);
  take_next(sorting, AT_RIGHT, right, end);
  while (left < left_end && right < end) {
    bool takes_right = goes_before(sorting, AT_RIGHT, AT_LEFT);
    lua_pushvalue(L, takes_right ? AT_RIGHT : AT_LEFT);
    lua_rawseti(L, sorting->to, to++);
    if (takes_right) take_next(sorting, AT_RIGHT, ++right, end);
    else take_next(sorting, AT_LEFT, ++left, left_end);
  }
  for (; left < left_end; left++) {
    lua_rawgeti(L, sorting->from, left);
    lua_rawseti(L, sorting->to, to++);
  }
  for (; right < end; right++) {
    lua_rawgeti(L, sorting->from, right);
    lua_rawseti(L, sorting->to, to++);
  }
}

static void merge_all(struct sorting *sorting, lua_Integer count) {
  for (lua_Integer width = 1; width < count; width *= 2) {
    for (lua_Integer left = 1; left <= count; left += 2 * width) {
      lua_Integer right = left + width <= count ? left + width : count + 1;
      lua_Integer end = right + width <= count ? right + width : count + 1;
      merge(sorting, left, right, end);
    }
    int other = sorting->from;
    sorting->from = sorting->to;
    sorting->to = other;
  }
}

/* Steps to sort so many elements, without what their order function takes. */
static uint64_t steps_for(lua_Integer count) {
  uint64_t passes = 2;
  for (lua_Integer width = 1; width < count; width *= 2) passes++;
  return (uint64_t)count * passes;
}

int flume_sort(lua_State *L) {
  struct sorting sorting = {L, flume_budget_of(L), false, AT_FROM, AT_TO};
  if (luaL_getmetafield(L, AT_LIST, "__len") == LUA_TNIL) luaL_checktype(L, AT_LIST, LUA_TTABLE);
  lua_settop(L, AT_LESS);
  lua_Integer count = luaL_len(L, AT_LIST);
  if (count < 2) return 0;
  luaL_argcheck(L, count < INT_MAX, AT_LIST, "array too big");
  sorting.has_less = !lua_isnil(L, AT_LESS);
  if (sorting.has_less) luaL_checktype(L, AT_LESS, LUA_TFUNCTION);
  flume_budget_charge(L, sorting.budget, steps_for(count));
  luaL_checkstack(L, 10, NULL);
  lua_createtable(L, (int)count, 0);
  lua_createtable(L, (int)count, 0);
  lua_settop(L, AT_RIGHT);
  for (lua_Integer i = 1; i <= count; i++) {
    flume_budget_look(L, sorting.budget);
    lua_geti(L, AT_LIST, i);
    lua_rawseti(L, AT_FROM, i);
  }
  merge_all(&sorting, count);
  for (lua_Integer i = 1; i <= count; i++) {
    flume_budget_look(L, sorting.budget);
    lua_rawgeti(L, sorting.from, i);
    lua_seti(L, AT_LIST, i);
  }
  return 0;
}
