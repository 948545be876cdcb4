/* An import as a userdata, which has the open file; the path is its user value. */
#include "lua/binding/lua_import.h"

#include <lauxlib.h>

#include "lua/binding/lua_loop.h"

#define IMPORT_TYPE "flume.import"

struct flume_import *flume__import_check(lua_State *L, int index) {
  return luaL_checkudata(L, index, IMPORT_TYPE);
}

/* place(self) -> bytes done, bytes in all, records that were deleted */
static int import_place(lua_State *L) {
  const struct flume_import *self = flume__import_check(L, 1);
  lua_pushinteger(L, (lua_Integer)self->off);
  lua_pushinteger(L, (lua_Integer)self->window.file_bytes);
  lua_pushinteger(L, (lua_Integer)self->deleted);
  return 3;
}

static int import_close(lua_State *L) {
  flume_import_close(flume__import_check(L, 1));
  return 0;
}

static void push_metatable(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"place", import_place}, {"__gc", import_close}, {"__close", import_close}, {NULL, NULL}};
  if (luaL_newmetatable(L, IMPORT_TYPE) == 0) return;
  luaL_setfuncs(L, methods, 0);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
}

/* import_open(path, format, bits) -> import | nil, message, code; bits 0: detected from the file */
static int import_open(lua_State *L) {
  static const char *const formats[] = {"flumelog-offset", "async-append-only-log", NULL};
  const char *path = luaL_checkstring(L, 1);
  int format = luaL_checkoption(L, 2, NULL, formats);
  uint32_t bits = (uint32_t)luaL_checkinteger(L, 3);
  struct flume_import *self = lua_newuserdatauv(L, sizeof *self, 1);
  *self = (struct flume_import){.off = 0}; /* closing it does nothing */
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  push_metatable(L);
  lua_setmetatable(L, -2);
  struct flume_err err;
  int rv = flume_import_open(self, &flume_io_posix, (enum flume_import_format)format, path, bits, &err);
  return rv == 0 ? 1 : flume__fail(L, rv, &err);
}

void flume__import_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"import_open", import_open}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
