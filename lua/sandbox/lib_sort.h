/* table.sort for views. Lua's own takes its pivots from the clock, so that the order of equal elements is by chance, and
 * may take quadratic time. */
#ifndef FLUME_LUA_SORT_H
#define FLUME_LUA_SORT_H

#include <lua.h>

/* sort(list [, less]): stable. Takes steps for each element in advance, and for long strings. */
int flume_sort(lua_State *L);

#endif
