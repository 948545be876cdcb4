/* Blocks as userdata: what lazy records are pinned to. */
#ifndef FLUME_LUA_BLOCK_H
#define FLUME_LUA_BLOCK_H

#include <lua.h>

#include "core/log/block.h"

/* Pushes a userdata that owns one reference to block. The reference is taken over at once, also when pushing raises. */
void flume__block_push(lua_State *L, struct flume_block *block);

/* Pushes an empty such userdata, and returns the place for the block. */
struct flume_block **flume__block_slot(lua_State *L);

#endif
