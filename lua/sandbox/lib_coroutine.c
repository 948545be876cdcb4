/* Happy path: resume moves the arguments into the coroutine, runs it until it yields or returns, and moves the results
 * back. An error that is caught takes steps; when the budget is spent, the error is raised again in the catching thread.
 *
 * Three things that Lua's own functions do not do:
 *   - A coroutine that died of a spent budget is never closed. Lua does not call its hook any more, so that a __close
 *     function in it would run without a limit. The table in upvalue 1 has these coroutines as weak keys.
 *   - Closing a coroutine from the __close function of a coroutine that is being closed nests on the C stack, and Lua
 *     5.4.4 counts no such level: depth is counted here.
 *   - The budget is told which thread runs, so that the interval of its hook can be made shorter.
 *
 * The handler of xpcall is called after the error has left the function: no instructions are counted during an error. */
#include "lua/sandbox/lib_coroutine.h"

#include <assert.h>
#include <lauxlib.h>
#include <string.h>

#include "lua/value/budget.h"

#define STEPS_PER_ERROR 500
#define CLOSING_MAX 100 /* coroutines that are being closed, one by the other */
#define HANDLER_MAX 10  /* calls of a handler that raises; Lua gives up when its C stack is full */

/* --- Catching ---------------------------------------------------------------------------------------------------- */

/* Takes steps for the caught error on top, which are many because unwinding a deep stack takes time. Raises when the
 * budget is spent. */
static void note_caught(lua_State *L) {
  struct flume_budget *budget = flume_budget_of(L);
  flume_budget_take(budget, STEPS_PER_ERROR);
  if (!flume_budget_is_spent(budget)) return;
  bool tells = lua_type(L, -1) == LUA_TSTRING && strstr(lua_tostring(L, -1), FLUME_BUDGET_SPENT) != NULL;
  if (tells) lua_error(L);
  flume_budget_raise(L, budget);
}

/* The results of a protected call are on the stack behind `below` other values, or the error is on top. */
static int finish_pcall(lua_State *L, int status, lua_KContext below) {
  if (status == LUA_OK || status == LUA_YIELD) return lua_gettop(L) - (int)below;
  note_caught(L);
  lua_pushboolean(L, 0);
  lua_insert(L, -2);
  return 2;
}

/* pcall(fn, ...) */
static int pcall(lua_State *L) {
  luaL_checkany(L, 1);
  lua_pushboolean(L, 1);
  lua_insert(L, 1);
  int status = lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 0, 0, finish_pcall);
  return finish_pcall(L, status, 0);
}

/* The handler is at index 1. Its first result is on top, or the error of its call number `calls`, which it gets too. */
static int finish_handler(lua_State *L, int status, lua_KContext calls) {
  while (status != LUA_OK && status != LUA_YIELD) {
    note_caught(L);
    if (calls == HANDLER_MAX) {
      lua_pushliteral(L, "error in error handling");
      break;
    }
    lua_pushvalue(L, 1);
    lua_insert(L, -2);
    status = lua_pcallk(L, 1, 1, 0, ++calls, finish_handler);
  }
  lua_pushboolean(L, 0);
  lua_insert(L, -2);
  return 2;
}

static int finish_xpcall(lua_State *L, int status, lua_KContext below) {
  if (status == LUA_OK || status == LUA_YIELD) return lua_gettop(L) - (int)below;
  return finish_handler(L, status, 0);
}

/* xpcall(fn, handler, ...): on the stack, handler, true and fn with its arguments. */
static int xpcall(lua_State *L) {
  int count = lua_gettop(L) - 2;
  luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_pushvalue(L, 1);
  lua_copy(L, 2, 1);
  lua_replace(L, 2);
  lua_pushboolean(L, 1);
  lua_insert(L, 2);
  int status = lua_pcallk(L, count, LUA_MULTRET, 0, 1, finish_xpcall);
  return finish_xpcall(L, status, 1);
}

/* --- Coroutines -------------------------------------------------------------------------------------------------- */

#define DEAD lua_upvalueindex(1) /* table: coroutines that died of a spent budget */
#define WRAPPED lua_upvalueindex(2)

static lua_State *check_coroutine(lua_State *L) {
  lua_State *co = lua_tothread(L, 1);
  luaL_argexpected(L, co != NULL, 1, "coroutine");
  return co;
}

static bool died_of_budget(lua_State *L, lua_State *co) {
  luaL_checkstack(L, 4, NULL);
  luaL_checkstack(co, 1, NULL);
  lua_pushthread(co);
  lua_xmove(co, L, 1);
  bool is_there = lua_rawget(L, DEAD) != LUA_TNIL;
  lua_pop(L, 1);
  return is_there;
}

/* Of the coroutine whose error is on top. */
static void note_death(lua_State *L, lua_State *co) {
  if (!flume_budget_is_spent(flume_budget_of(L))) return;
  luaL_checkstack(L, 4, NULL);
  luaL_checkstack(co, 1, NULL);
  lua_pushthread(co);
  lua_xmove(co, L, 1);
  lua_pushboolean(L, 1);
  lua_rawset(L, DEAD);
}

/* create(fn) -> coroutine */
static int create(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_State *co = lua_newthread(L);
  lua_pushvalue(L, 1);
  lua_xmove(L, co, 1);
  flume_budget_watch(co, L, flume_budget_of(L));
  return 1;
}

/* Resumes co with the count values on top: the number of the results, which are on top; or -1, with the error there. */
static int run(lua_State *L, lua_State *co, int count) {
  int results;
  if (!lua_checkstack(co, count)) {
    lua_pushliteral(L, "too many arguments to resume");
    return -1;
  }
  lua_xmove(L, co, count);
  struct flume_budget *budget = flume_budget_of(L);
  lua_State *before = flume_budget_switch(co, budget);
  int status = lua_resume(co, L, count, &results);
  flume_budget_switch(before, budget);
  if (status != LUA_OK && status != LUA_YIELD) {
    lua_xmove(co, L, 1);
    if (lua_status(co) != LUA_OK && lua_status(co) != LUA_YIELD) note_death(L, co);
    return -1;
  }
  if (!lua_checkstack(L, results + 1)) {
    lua_pop(co, results);
    lua_pushliteral(L, "too many results to resume");
    return -1;
  }
  lua_xmove(co, L, results);
  return results;
}

/* resume(coroutine, ...) */
static int resume(lua_State *L) {
  lua_State *co = check_coroutine(L);
  int count = run(L, co, lua_gettop(L) - 1);
  if (count < 0) note_caught(L);
  lua_pushboolean(L, count >= 0);
  lua_insert(L, count >= 0 ? -(count + 1) : -2);
  return count >= 0 ? count + 1 : 2;
}

/* Closes a coroutine that has not died of the budget: true; or false, with the error on top. */
static bool close_coroutine(lua_State *L, lua_State *co) {
  struct flume_budget *budget = flume_budget_of(L);
  if (budget->closing == CLOSING_MAX) {
    lua_pushliteral(L, "C stack overflow");
    return false;
  }
  lua_State *before = flume_budget_switch(co, budget);
  budget->closing++;
  int status = lua_resetthread(co);
  assert(budget->closing > 0);
  budget->closing--;
  flume_budget_switch(before, budget);
  if (status == LUA_OK) return true;
  lua_xmove(co, L, 1);
  note_death(L, co);
  return false;
}

static void check_can_close(lua_State *L, lua_State *co) {
  lua_Debug activation;
  if (co == L) luaL_error(L, "cannot close a running coroutine");
  if (lua_status(co) == LUA_OK && lua_getstack(co, 0, &activation)) luaL_error(L, "cannot close a normal coroutine");
}

/* close(coroutine) -> true | false, error */
static int close_given(lua_State *L) {
  lua_State *co = check_coroutine(L);
  check_can_close(L, co);
  if (died_of_budget(L, co)) {
    lua_pushboolean(L, 0);
    lua_pushliteral(L, "the coroutine has spent the instruction budget");
    return 2;
  }
  bool closed = close_coroutine(L, co);
  if (!closed) note_caught(L);
  lua_pushboolean(L, closed);
  if (closed) return 1;
  lua_insert(L, -2);
  return 2;
}

static int resume_wrapped(lua_State *L) {
  lua_State *co = lua_tothread(L, WRAPPED);
  int count = run(L, co, lua_gettop(L));
  if (count >= 0) return count;
  note_caught(L);
  if (lua_status(co) != LUA_OK && lua_status(co) != LUA_YIELD && !died_of_budget(L, co) && !close_coroutine(L, co)) {
    note_caught(L);
  }
  if (lua_type(L, -1) == LUA_TSTRING) { /* the place of this call in front */
    luaL_where(L, 1);
    lua_insert(L, -2);
    lua_concat(L, 2);
  }
  return lua_error(L);
}

/* wrap(fn) -> a function that resumes a new coroutine */
static int wrap(lua_State *L) {
  create(L);
  lua_pushvalue(L, DEAD);
  lua_insert(L, -2);
  lua_pushcclosure(L, resume_wrapped, 2);
  return 1;
}

/* --- Putting them together --------------------------------------------------------------------------------------- */

void flume__catching_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"pcall", pcall}, {"xpcall", xpcall}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}

void flume__coroutine_open(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"create", create}, {"resume", resume}, {"wrap", wrap}, {"close", close_given}, {NULL, NULL}};
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  luaL_setfuncs(L, functions, 1);
}
