/* Streams as userdata. */
#ifndef FLUME_LUA_CURSOR_H
#define FLUME_LUA_CURSOR_H

#include "lua/binding/lua_log.h"

/* Puts cursor(log, first, last, limit, reverse, live, old, lazy) into the table on top: a cursor with next and close.
 *   next() -> seq, value | nil at the end | false when a live one has to wait | nil, message, code */
void flume__cursor_open(lua_State *L);

#endif
