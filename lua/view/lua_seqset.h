/* Sets of records (core/index/seqset.h) in Lua: what the indexes of a query leave. */
#ifndef FLUME_LUA_SEQSET_H
#define FLUME_LUA_SEQSET_H

#include <lua.h>

/* seqset(plan), walk(view, range, set or nil, n, last_seq, resume or nil): into the table on top. See lua_seqset.c. */
void flume__seqset_open(lua_State *L);

#endif
