/* The flume binary: a Lua state, a terminal for it, and the command line, which is written in Lua (lua/flume/cli.lua).
 *
 * It finds its Lua modules from where it lies: for ROOT/bin/flume in ROOT/share/lua/5.4 and ROOT/lib/lua/5.4. The
 * terminal is the module "flume.terminal"; its functions are described where they are defined.
 *
 * SIGINT raises "interrupted!" in the watched coroutine, once that runs Lua code, and sets a flag for whoever waits
 * on behalf of one that does not. A second that finds the first unanswered ends the process, unless it has a prompt. */
#include <errno.h>
#include <limits.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <editline/readline.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

/* libedit calls back without an argument and signals know no owner, hence the variables of the process. */
static lua_State *volatile watched;       /* where SIGINT raises an error, or NULL */
static volatile sig_atomic_t interrupted; /* a SIGINT that nobody has answered yet */
static volatile sig_atomic_t interactive; /* readline has been called */
static lua_State *reader;                 /* the coroutine that is in readline */
static char *line;                        /* what take_line got; NULL at the end of input */
static bool line_taken;
static const char completer_key[] = "flume.completer"; /* of the registry */

static void raise_interrupt(lua_State *L, lua_Debug *ar) {
  (void)ar;
  lua_sethook(L, NULL, 0, 0);
  luaL_error(L, "interrupted!");
}

static void on_sigint(int sig) {
  lua_State *L = watched;
  if (interrupted && !interactive) _exit(128 + sig);
  interrupted = 1;
  if (L != NULL) lua_sethook(L, raise_interrupt, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

/* watch([thread]): from now on SIGINT raises "interrupted!" in this coroutine, or nowhere. */
static int terminal_watch(lua_State *L) {
  lua_settop(L, 1);
  watched = NULL;
  lua_pushvalue(L, 1);
  lua_setfield(L, LUA_REGISTRYINDEX, "flume.watched"); /* it can't be collected while the handler may touch it */
  watched = lua_tothread(L, 1);
  return 0;
}

/* interrupted() → whether there was a SIGINT since the last call. */
static int terminal_interrupted(lua_State *L) {
  lua_pushboolean(L, interrupted);
  interrupted = 0;
  return 1;
}

static void take_line(char *text) {
  line = text;
  line_taken = true;
  rl_callback_handler_remove();
}

static char **complete(const char *word, int start, int end) {
  char **matches = NULL;
  int top = lua_gettop(reader);
  (void)word;
  rl_attempted_completion_over = 1; /* no file names instead */
  rl_completion_append_character = '\0';
  lua_getfield(reader, LUA_REGISTRYINDEX, completer_key);
  lua_pushstring(reader, rl_line_buffer);
  lua_pushinteger(reader, start + 1);
  lua_pushinteger(reader, end);
  if (lua_pcall(reader, 3, 1, 0) == LUA_OK && lua_istable(reader, -1)) {
    lua_Unsigned count = lua_rawlen(reader, -1);
    matches = calloc(count + 1, sizeof *matches);
    for (lua_Unsigned i = 0; matches != NULL && i < count; i++) {
      lua_rawgeti(reader, top + 1, (lua_Integer)i + 1);
      matches[i] = strdup(lua_tostring(reader, -1));
    }
  }
  lua_settop(reader, top);
  return matches;
}

/* set_completer(fn): fn(line, first, last) returns what the word line:sub(first, last) may become: what all of that has
 * in common, and then all of it; nil for nothing. */
static int terminal_set_completer(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_setfield(L, LUA_REGISTRYINDEX, completer_key);
  rl_attempted_completion_function = complete;
  rl_basic_word_break_characters = " \t\n\"'`=<>~;,|&+-*/%^#(){}[]";
  return 0;
}

/* readline(prompt, idle) → the line; nil, "eof"; or nil, "interrupted". While there is no input idle is called; it
 * returns for how many ms it need not be called again. Its error ends the line, and is passed on. */
static int terminal_readline(lua_State *L) {
  struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
  int ready, wait_ms = 0, status = LUA_OK;
  fflush(stdout);
  interactive = 1;
  interrupted = 0;
  line_taken = false;
  reader = L;
  rl_callback_handler_install(luaL_checkstring(L, 1), take_line);
  while (!line_taken && !interrupted && status == LUA_OK) {
    if ((ready = poll(&input, 1, wait_ms)) > 0) {
      rl_callback_read_char();
    } else if (ready == 0) {
      lua_settop(L, 2);
      lua_pushvalue(L, 2);
      status = lua_pcall(L, 0, 1, 0);
      wait_ms = (int)lua_tointeger(L, -1);
    }
  }
  if (!line_taken) rl_callback_handler_remove();
  interrupted = 0;
  if (status != LUA_OK) return lua_error(L);
  lua_pushstring(L, line_taken ? line : NULL);
  if (line_taken) free(line);
  if (!lua_isnil(L, -1)) return 1;
  puts(line_taken ? "" : "^C");
  lua_pushstring(L, line_taken ? "eof" : "interrupted");
  return 2;
}

static int terminal_history_add(lua_State *L) {
  add_history(luaL_checkstring(L, 1));
  return 0;
}

/* history_load(path, entries): also says how many entries are kept. */
static int terminal_history_load(lua_State *L) {
  using_history();
  stifle_history((int)luaL_checkinteger(L, 2));
  return luaL_fileresult(L, (errno = read_history(luaL_checkstring(L, 1))) == 0, lua_tostring(L, 1));
}

/* history_save(path): libedit gives the file mode 0600 before it writes. */
static int terminal_history_save(lua_State *L) {
  return luaL_fileresult(L, (errno = write_history(luaL_checkstring(L, 1))) == 0, lua_tostring(L, 1));
}

static int terminal_is_tty(lua_State *L) {
  lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
  return 1;
}

/* columns() → the width of the terminal; 0 when there is none. */
static int terminal_columns(lua_State *L) {
  struct winsize size = {0};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0) ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
  lua_pushinteger(L, size.ws_col);
  return 1;
}

/* read(fd, max_bytes, timeout_ms) → what has come; "" when nothing has in time, or a signal did; nil at the end;
 * nil, message, errno. A timeout of -1 is for ever. */
static int terminal_read(lua_State *L) {
  struct pollfd input = {.fd = (int)luaL_checkinteger(L, 1), .events = POLLIN};
  size_t max = (size_t)luaL_checkinteger(L, 2);
  luaL_Buffer buffer;
  ssize_t n = 0;
  int ready = poll(&input, 1, (int)luaL_checkinteger(L, 3));
  char *bytes = luaL_buffinitsize(L, &buffer, max);
  if (ready > 0) n = read(input.fd, bytes, max);
  if ((ready < 0 || n < 0) && errno != EINTR && errno != EAGAIN) return luaL_fileresult(L, 0, NULL);
  if (ready > 0 && n == 0) return 0;
  luaL_pushresultsize(&buffer, n > 0 ? (size_t)n : 0);
  return 1;
}

static int open_terminal(lua_State *L) {
  static const luaL_Reg functions[] = {{"watch", terminal_watch},
                                       {"interrupted", terminal_interrupted},
                                       {"readline", terminal_readline},
                                       {"set_completer", terminal_set_completer},
                                       {"history_add", terminal_history_add},
                                       {"history_load", terminal_history_load},
                                       {"history_save", terminal_history_save},
                                       {"is_tty", terminal_is_tty},
                                       {"columns", terminal_columns},
                                       {"read", terminal_read},
                                       {NULL, NULL}};
  luaL_newlib(L, functions);
  return 1;
}

/* Called with the program's path and its arguments; returns what flume.cli's main does. */
static const char start_code[] =
    "local program, arguments = ...\n"
    "local root, version = program:match '^(.*)/[^/]*/[^/]*$', _VERSION:match '%d.*'\n"
    "local share = root .. '/share/lua/' .. version\n"
    "package.path = share .. '/?.lua;' .. share .. '/?/init.lua;' .. package.path\n"
    "package.cpath = root .. '/lib/lua/' .. version .. '/?.so;' .. package.cpath\n"
    "return require('flume.cli').main(arguments)\n";

static int traceback(lua_State *L) {
  luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
  return 1;
}

static int start(lua_State *L) {
  char **argv = lua_touserdata(L, 1), program[PATH_MAX];
  ssize_t len = readlink("/proc/self/exe", program, sizeof program);
  if (len < 0) return luaL_error(L, "cannot tell where the program lies: %s", strerror(errno));
  luaL_openlibs(L);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, open_terminal);
  lua_setfield(L, -2, "flume.terminal");
  if (luaL_loadbuffer(L, start_code, sizeof start_code - 1, "=flume") != LUA_OK) return lua_error(L);
  lua_pushlstring(L, program, (size_t)len);
  lua_newtable(L);
  for (lua_Integer i = 0; argv[i] != NULL; i++) {
    lua_pushstring(L, argv[i]);
    lua_rawseti(L, -2, i);
  }
  lua_call(L, 2, 1);
  return 1;
}

int main(int argc, char **argv) {
  struct sigaction action = {.sa_handler = on_sigint}; /* no SA_RESTART: a read that waits has to come back */
  lua_State *L = luaL_newstate();
  int status = EXIT_FAILURE;
  (void)argc;
  if (L == NULL) return fputs("flume: out of memory\n", stderr), status;
  setlocale(LC_CTYPE, "");
  watched = L;
  sigaction(SIGINT, &action, NULL);
  lua_pushcfunction(L, traceback);
  lua_pushcfunction(L, start);
  lua_pushlightuserdata(L, argv);
  if (lua_pcall(L, 1, 1, 1) == LUA_OK) status = (int)lua_tointeger(L, -1);
  else fprintf(stderr, "flume: %s\n", lua_tostring(L, -1));
  watched = NULL;
  lua_close(L);
  return status;
}
