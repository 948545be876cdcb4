/* The text of a value that was raised as an error. */
#ifndef FLUME_LUA_RAISED_H
#define FLUME_LUA_RAISED_H

#include <lua.h>
#include <stdbool.h>

/* Pushes the text of the table at index, which was raised: "an error object: {"code":5}", cut where it is long. Returns
 * false, and pushes nothing, when it is no table, has a __tostring of its own, or holds what can't be stored. Raises
 * memory errors. */
bool flume_raised_push_text(lua_State *L, int index);

#endif
