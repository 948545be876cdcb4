/* pairs and next in an order that depends on the keys alone. Lua's own goes along its hash table, and hashes strings anew
 * for each state.
 *
 *   1, 2, 3 and all positive integers; other integers; other numbers, each ascending; strings, by their bytes; false,
 *   true; then tables, functions and the like as Lua gives them */
#ifndef FLUME_LUA_ORDER_H
#define FLUME_LUA_ORDER_H

#include <lua.h>

/* Puts pairs and next into the table on top. */
void flume__order_open(lua_State *L);

#endif
