/* Streams and blocks as userdata. */
#ifndef FLUME_LUA_CURSOR_H
#define FLUME_LUA_CURSOR_H

#include "log.h"

/* Pushes a userdata that owns one reference to block. The reference is taken over at once, also when pushing raises. */
void flume__block_push(lua_State *L, struct flume_block *block);

/* cursor(log, first, last, limit, reverse, live, old, lazy) -> cursor with methods next and close
 *   next() -> seq, value | nil at the end | false when a live one has to wait | nil, message, code */
int flume__cursor_new(lua_State *L);

/* Calls the function at fn_index on the loop, with the number, whenever obv has grown; pushes an observer. */
void flume__observe(lua_State *L, struct flume_loop *loop, struct flume_obv *obv, int fn_index);

#endif
