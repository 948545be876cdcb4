/* The pump (core/pump.h) as a userdata. */
#ifndef FLUME_LUA_PUMP_H
#define FLUME_LUA_PUMP_H

#include "../core/pump.h"
#include "log.h"

struct flume_lua_pump {
  struct flume_pump pump;
  struct flume_lua_log *log;
  bool open;
  bool closing;
  int pin; /* registry: this userdata, while it closes */
  int cb;
};

/* The pump at index; raises when it is something else, or closed. */
struct flume_lua_pump *flume__pump_check(lua_State *L, int index);

/* pump(log): into the table on top. */
void flume__pump_open(lua_State *L);

#endif
