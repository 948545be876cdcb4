/* A plain Lua interpreter, lua [-e CODE] [SCRIPT [ARGS]], to be linked with a sanitizer: the tests of a sanitized module
 * run in it, and the shells that they start are left alone. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>

#include "longjmp.h"

static int traceback(lua_State *L) {
  luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
  return 1;
}

static int run(lua_State *L, int status, int nargs) {
  if (status == LUA_OK) {
    int base = lua_gettop(L) - nargs;
    lua_pushcfunction(L, traceback);
    lua_insert(L, base);
    status = lua_pcall(L, nargs, 0, base);
  }
  if (status != LUA_OK) fprintf(stderr, "lua: %s\n", lua_tostring(L, -1));
  return status == LUA_OK ? 0 : 1;
}

static void set_arg(lua_State *L, int argc, char **argv, int script) {
  lua_createtable(L, argc - script, script + 1);
  for (int i = 0; i < argc; i++) {
    lua_pushstring(L, argv[i]);
    lua_rawseti(L, -2, i - script);
  }
  lua_setglobal(L, "arg");
}

int main(int argc, char **argv) {
  lua_State *L = luaL_newstate();
  if (L == NULL) return 1;
  luaL_openlibs(L);
  int at = 1, status = 0;
  set_arg(L, argc, argv, argc > 3 && strcmp(argv[1], "-e") == 0 ? 3 : 1);
  for (; status == 0 && at + 1 < argc && strcmp(argv[at], "-e") == 0; at += 2) {
    status = run(L, luaL_loadstring(L, argv[at + 1]), 0);
  }
  if (status == 0 && at < argc) {
    int loaded = luaL_loadfile(L, argv[at]);
    int nargs = 0;
    for (; loaded == LUA_OK && at + 1 + nargs < argc; nargs++) lua_pushstring(L, argv[at + 1 + nargs]);
    status = run(L, loaded, nargs);
  }
  lua_close(L);
  return status;
}
