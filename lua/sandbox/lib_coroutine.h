/* pcall, xpcall and the functions of coroutines for a state with a budget.
 *
 * An error is caught as in Lua, except the error of a spent budget: whatever catches that error raises it again. */
#ifndef FLUME_LUA_LIB_COROUTINE_H
#define FLUME_LUA_LIB_COROUTINE_H

#include <lua.h>

/* Puts pcall and xpcall into the table on top. Raises memory errors. */
void flume__catching_open(lua_State *L);

/* Puts create, resume, wrap and close into the table on top. Raises memory errors. */
void flume__coroutine_open(lua_State *L);

#endif
