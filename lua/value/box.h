/* Temporary C memory that a Lua error can't leak: the buffer belongs to a userdata. */
#ifndef FLUME_LUA_BOX_H
#define FLUME_LUA_BOX_H

#include <lua.h>

#include "core/base/buf.h"

/* Pushes a userdata that owns an empty buffer, and returns the buffer. The buffer is valid as long as the userdata lives,
 * and freed with it: when it is collected, or leaves its scope after lua_toclose. In a state with a budget the bytes count
 * as its memory. Raises a memory error. */
struct flume_buf *flume_box_buf(lua_State *L);

/* The buffer of the box at index, which must be one: an upvalue that C code has set, say. */
struct flume_buf *flume_box_get(lua_State *L, int index);

/* Frees the bytes of the box at index now. The box stays usable, and empty. */
void flume_box_free(lua_State *L, int index);

#endif
