/* Observables of core, watched from Lua. */
#ifndef FLUME_LUA_OBSERVER_H
#define FLUME_LUA_OBSERVER_H

#include "core/loop/observable.h"
#include "lua/binding/lua_loop.h"

/* Calls the function at fn_index with the number, on the loop, whenever obv has changed. Pushes an observer: it
 * observes until its method stop is called, also when nothing refers to it. */
void flume__observe(lua_State *L, struct flume_loop *loop, struct flume_obv *obv, int fn_index);

#endif
