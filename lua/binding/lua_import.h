/* Importing the records of other log formats, for Lua. */
#ifndef FLUME_LUA_IMPORT_H
#define FLUME_LUA_IMPORT_H

#include <lua.h>

#include "core/import/log_import.h"

/* The import at index, borrowed from the userdata; raises when the value is something else. */
struct flume_import *flume__import_check(lua_State *L, int index);

/* import_open(path, format, bits): into the table on top. */
void flume__import_open(lua_State *L);

#endif
