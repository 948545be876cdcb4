/* The directory of a view's versions (core/view/view_dir.h) for Lua. */
#ifndef FLUME_LUA_DIR_H
#define FLUME_LUA_DIR_H

#include <lua.h>

/* Puts a table view_dir into the table on top. Paths are strings; each function gives nil, message, code on failure.
 *
 *   active(path) -> number or nil     remove(path, number) -> true
 *   list(path) -> numbers             sweep(path, numbers) -> true
 *   read(path, name) -> text          write(path, name, text) -> true
 *
 *   obstacle(path) -> why nothing can be written there, a text; nil when it can
 *   is_ours(path) -> whether the file, the lock of a log, was written by this process */
void flume__dir_open(lua_State *L);

#endif
