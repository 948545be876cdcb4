/* What keeps a script from seeing when garbage is collected, and from catching the error of a spent budget. */
#ifndef FLUME_LUA_GUARD_H
#define FLUME_LUA_GUARD_H

#include <lua.h>

/* Puts setmetatable, exhausted, charge and caught into the table on top, for sandbox.lua. */
void flume__guard_open(lua_State *L);

/* Raises when a metatable that setmetatable was given has got __mode since. Nothing in a state without the guard. */
void flume_guard_check(lua_State *L);

#endif
