/* The C module. require "flume" gives the public API, lua/flume/init.lua; require "flume.core" the primitives that it
 * is made of, which are its own business. */
#include <lauxlib.h>
#include <lua.h>

#include "lua/binding/lua_dir_watch.h"
#include "lua/binding/lua_import.h"
#include "lua/binding/lua_log.h"
#include "lua/binding/lua_loop.h"
#include "lua/binding/lua_pump.h"
#include "lua/binding/lua_stream.h"
#include "lua/binding/lua_view_dir.h"
#include "lua/sandbox/pattern.h"
#include "lua/sandbox/vm.h"
#include "lua/value/codec.h"
#include "lua/view/lua_seqset.h"
#include "lua/view/lua_view.h"

FLUME_EXPORT int luaopen_flume_core(lua_State *L);
FLUME_EXPORT int luaopen_flume(lua_State *L);

int luaopen_flume_core(lua_State *L) {
  flume__codec_open(L);
  flume__loop_open(L);
  flume__import_open(L);
  flume__log_open(L);
  flume__cursor_open(L);
  flume__pump_open(L);
  flume__view_open(L);
  flume__slot_open(L);
  flume__seqset_open(L);
  flume__dir_open(L);
  flume__vm_open(L);
  flume__watch_open(L);
  lua_newtable(L); /* what strings can do in a view's state, without a budget here */
  flume__pattern_open(L);
  lua_setfield(L, -2, "patterns");
  lua_pushliteral(L, FLUME_VERSION);
  lua_setfield(L, -2, "version");
  return 1;
}

/* Found first where package.path has no ?/init.lua. */
int luaopen_flume(lua_State *L) {
  lua_getglobal(L, "require");
  lua_pushliteral(L, "flume.init");
  lua_call(L, 1, 1);
  return 1;
}
