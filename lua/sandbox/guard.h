/* Metatables of a script: what keeps it from making finalizers, and from seeing when garbage is collected.
 *
 * All functions: on the thread that runs the state. */
#ifndef FLUME_LUA_GUARD_H
#define FLUME_LUA_GUARD_H

#include <lua.h>

/* Puts setmetatable, getmetatable and charge into the table on top, for sandbox.lua. Raises memory errors. */
void flume__guard_open(lua_State *L);

/* Raises when a metatable that setmetatable was given has got __mode since. Does nothing in a state without the guard. */
void flume_guard_check(lua_State *L);

/* Before lua_close: removes __gc from all metatables of the script, so that lua_close runs no function of it. Raises
 * nothing, needs no memory. Does nothing in a state without the guard. */
void flume_guard_close(lua_State *L);

#endif
