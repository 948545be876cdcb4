/* Makes an extract of core from the declaration of an index. */
#ifndef FLUME_LUA_EXTRACT_H
#define FLUME_LUA_EXTRACT_H

#include <lua.h>

#include "core/index/key_path.h"

enum { FLUME_EXTRACT_PATHS_MAX = 16 };

/* Reads the host object (kinds/index.lua) at index: paths, a list, and shape, "value" of one path where there is none.
 * *out is NULL when it has no paths. FLUME_EINVAL, FLUME_ENOMEM. Raises nothing for a host of kinds/index.lua
 * but memory errors of Lua. */
int flume__extract_make(lua_State *L, int index, struct flume_extract **out, struct flume_err *err);

#endif
