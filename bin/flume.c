/* The flume binary: a Lua state, a terminal for it, and the command line, which is written in Lua (lua/flume/cli/init.lua).
 *
 * The path of its own file tells where its Lua modules are: for ROOT/bin/flume in ROOT/share/lua/5.4 and
 * ROOT/lib/lua/5.4. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <locale.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "interrupt.h"
#include "terminal.h"

/* Called with the program's path and its arguments; returns what flume.cli's main does. */
static const char start_code[] =
    "local program, arguments = ...\n"
    "local root, version = program:match '^(.*)/[^/]*/[^/]*$', _VERSION:match '%d.*'\n"
    "local share = root .. '/share/lua/' .. version\n"
    "package.path = share .. '/?.lua;' .. share .. '/?/init.lua;' .. package.path\n"
    "package.cpath = root .. '/lib/lua/' .. version .. '/?.so;' .. package.cpath\n"
    "return require('flume.cli.init').main(arguments)\n";

static int traceback(lua_State *L) {
  luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
  return 1;
}

/* The path of the program's file, without links. Where /proc is not mounted, the path that the kernel started tells it.
 * Writes a string of at most PATH_MAX bytes; returns false, with errno, when neither gives the path. */
static bool find_program(char program[PATH_MAX]) {
  ssize_t len = readlink("/proc/self/exe", program, PATH_MAX - 1);
  if (len < 0) return realpath((const char *)getauxval(AT_EXECFN), program) != NULL;
  program[len] = '\0';
  return true;
}

static int start(lua_State *L) {
  char **argv = lua_touserdata(L, 1), program[PATH_MAX];
  if (!find_program(program)) return luaL_error(L, "can't find the program's own file: %s", strerror(errno));
  luaL_openlibs(L);
  flume_interrupt_open(L);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, flume_terminal_open);
  lua_setfield(L, -2, "flume.terminal");
  if (luaL_loadbuffer(L, start_code, sizeof start_code - 1, "=flume") != LUA_OK) return lua_error(L);
  lua_pushstring(L, program);
  lua_newtable(L);
  for (lua_Integer i = 0; argv[i] != NULL; i++) {
    lua_pushstring(L, argv[i]);
    lua_rawseti(L, -2, i);
  }
  lua_call(L, 2, 1);
  return 1;
}

/* A standard stream that is closed would become the number of the next file that is opened, and what is printed would
 * land in the log. These fail when they are used: what was closed can't be read, or written. */
static int occupy_standard_streams(void) {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd) return -1;
  }
  return 0;
}

/* The locale of the user. One that is not installed, or none at all, says nothing about the terminal: it is UTF-8 then. */
static void set_locale(void) {
  const char *all = getenv("LC_ALL"), *got = setlocale(LC_CTYPE, "");
  if (got == NULL || (strcmp(got, "C") == 0 && (all == NULL || *all == '\0'))) setlocale(LC_CTYPE, "C.UTF-8");
}

int main(int argc, char **argv) {
  lua_State *L = luaL_newstate();
  int status = EXIT_FAILURE;
  (void)argc;
  if (L == NULL) return fputs("flume: out of memory\n", stderr), status;
  if (occupy_standard_streams() != 0) return status;
  set_locale();
  lua_pushcfunction(L, traceback);
  lua_pushcfunction(L, start);
  lua_pushlightuserdata(L, argv);
  if (lua_pcall(L, 1, 1, 1) == LUA_OK) status = (int)lua_tointeger(L, -1);
  else fprintf(stderr, "flume: %s\n", lua_tostring(L, -1));
  flume_interrupt_close();
  lua_close(L);
  flume_interrupt_end_process();
  return status;
}
