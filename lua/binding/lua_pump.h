/* The pump (core/view/pump.h) as a userdata. */
#ifndef FLUME_LUA_PUMP_H
#define FLUME_LUA_PUMP_H

#include "core/view/pump.h"
#include "lua/binding/lua_log.h"

struct flume_lua_pump {
  struct flume_pump pump;
  struct flume_lua_log *log;
  bool open;
  bool closing;
  /* Closes the views that are still attached when the pump closes. Set by lua/view/lua_view.c. */
  void (*close_left)(struct flume_lua_pump *pump);
  struct flume_deferred left; /* calls close_left */
  int pin;                    /* registry: this userdata, while closing */
  int cb;
};

/* The pump at index; raises when it is something else, or closed. */
struct flume_lua_pump *flume__pump_check(lua_State *L, int index);

/* A view was detached. If it was the last view, closing continues. */
void flume__pump_left(struct flume_lua_pump *pump);

/* pump(log): into the table on top. */
void flume__pump_open(lua_State *L);

#endif
