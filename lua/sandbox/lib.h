/* What a script gets in place of those functions of Lua's library that could do much within one instruction, or whose
 * results depend on chance: bounded and charged to the budget of the state, and the same on every machine.
 *
 *   lib.c             basic functions, utf8
 *   lib_string.c      strings
 *   pattern.c         patterns
 *   lib_table.c       tables
 *   lib_sort.c        table.sort
 *   lib_pairs.c       pairs and next
 *   lib_coroutine.c   coroutines
 *   lib_tostring.c    tostring */
#ifndef FLUME_LUA_LIBRARY_H
#define FLUME_LUA_LIBRARY_H

#include <lua.h>

/* Puts a table `library` of them by library and name ("base" for the basic functions) into the table on top. Those
 * for strings go into the string library of the state as well: they are the methods of strings. The libraries of Lua
 * must be open. */
void flume__library_open(lua_State *L);

/* lib_table.c: into the table on top. */
void flume__library_open_table(lua_State *L);

#endif
