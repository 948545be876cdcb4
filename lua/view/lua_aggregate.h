/* Makes an aggregate of core from the declaration of a view. */
#ifndef FLUME_LUA_AGGREGATE_H
#define FLUME_LUA_AGGREGATE_H

#include <lua.h>

#include "core/index/aggregate.h"

enum { FLUME_AGGREGATE_FIELDS_MAX = 64, FLUME_AGGREGATE_PATHS_MAX = 16 };

/* Reads the host object (kinds/aggregate.lua) at index: aggregate, a list of {op, path or nil}; paths and
 * paths_are_list, of the group, or no paths for a single one. *out is NULL when it has no aggregate. FLUME_EINVAL,
 * FLUME_E2BIG, FLUME_ENOMEM. Raises nothing for a host of kinds/aggregate.lua but memory errors of Lua. */
int flume__aggregate_make(lua_State *L, int index, struct flume_aggregate **out, struct flume_err *err);

#endif
