/* The terminal as a Lua module, "flume.terminal": a line editor with history and completion, on libedit, and what the
 * terminal is like. Each function is described where it is defined. */
#ifndef FLUME_TERMINAL_H
#define FLUME_TERMINAL_H

#include <lua.h>

/* A lua_CFunction that returns the module; for one Lua state of the process, since libedit calls back without
 * an argument. */
int flume_terminal_open(lua_State *L);

#endif
