/* Compiling Lua source within the budget of a state. */
#ifndef FLUME_LUA_LOAD_H
#define FLUME_LUA_LOAD_H

#include <lua.h>
#include <stddef.h>
#include <stdint.h>

/* About how many steps Lua takes to compile len bytes of source. Any text is accepted; any thread. */
uint64_t flume_load_steps(const char *source, size_t len);

/* Puts compile(source, chunk_name [, env]) -> function | nil, message into the table on top. It charges for the work, and
 * raises when the budget is spent. Raises memory errors. */
void flume__load_open(lua_State *L);

#endif
