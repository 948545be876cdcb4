/* Names for objects that do not tell where they lie in memory: "table: 1". A state that has a budget numbers the objects
 * that are named, anew with each record or call, so that folding the same records gives the same names. Other states
 * go on to see addresses. */
#ifndef FLUME_LUA_NAME_H
#define FLUME_LUA_NAME_H

#include <lua.h>

/* Pushes the value at index as a string, by its __tostring if it has one, and returns that. Raises what luaL_tolstring
 * raises. */
const char *flume_name_tostring(lua_State *L, int index, size_t *len);

/* Pushes what takes the place of the address of the value at index: "0x00000001". */
void flume_name_push_address(lua_State *L, int index);

#endif
