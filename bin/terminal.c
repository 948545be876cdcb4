#include "terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <langinfo.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <editline/readline.h>
#include <lauxlib.h>

#include "interrupt.h"

static lua_State *reader; /* the coroutine that is in readline */
static char *line;        /* what take_line got; NULL at the end of input */
static bool line_taken;
static bool is_hidden; /* the prompt is not on the screen */

static const char completer_key[] = "flume.completer"; /* of the registry */

/* --- Reading lines -------------------------------------------------------------------------------------------------- */

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
static int set_completer(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_setfield(L, LUA_REGISTRYINDEX, completer_key);
  rl_attempted_completion_function = complete;
  rl_basic_word_break_characters = " \t\n\"'`=<>~;,|&+-*/%^#(){}[]";
  return 0;
}

/* bind(text): a line of editrc(5). */
static int bind(lua_State *L) {
  rl_parse_and_bind(luaL_checkstring(L, 1));
  return 0;
}

/* Whether the terminal can't erase a line. */
static bool is_dumb(void) {
  const char *term = getenv("TERM");
  return term == NULL || *term == '\0' || strcmp(term, "dumb") == 0;
}

/* The line of the prompt for something else. */
static void clear_line(void) {
  fputs(is_dumb() ? "\n" : "\r\33[K", stdout);
  fflush(stdout);
}

static void show_prompt(void) {
  if (!is_hidden) return;
  is_hidden = false;
  if (!is_dumb()) clear_line();
  rl_forced_update_display();
}

/* hide() → true once the prompt is off the screen, so that something else can be printed in its place; it comes back by
 * itself. false when it can't go: there is none, or what is typed takes more than a line. */
static int hide(lua_State *L) {
  bool is_short = reader != NULL && !line_taken && rl_end == 0;
  if (is_short && !is_hidden) {
    clear_line();
    is_hidden = true;
  }
  lua_pushboolean(L, is_short);
  return 1;
}

/* One turn of readline: takes a key, or calls the function at 2. */
static int read_turn(lua_State *L, int *wait_ms) {
  struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
  int status = LUA_OK, ready = poll(&input, 1, *wait_ms);
  if (ready > 0 && (input.revents & (POLLHUP | POLLERR | POLLNVAL))) {
    take_line(NULL); /* the terminal has gone: libedit would read on for ever */
  } else if (ready > 0) {
    show_prompt();
    rl_callback_read_char();
  } else if (ready == 0) {
    lua_settop(L, 2);
    lua_pushvalue(L, 2);
    status = lua_pcall(L, 0, 2, 0);
    if (status != LUA_OK) return status;
    *wait_ms = (int)lua_tointeger(L, 3);
    if (!lua_toboolean(L, 4)) show_prompt();
  }
  return status;
}

/* A signal to end may have come, and been taken, before there was a prompt. */
static bool is_interrupted(void) {
  return flume_interrupt_pending() || flume_interrupt_terminated();
}

/* readline(prompt, idle) → the line; nil, "eof"; or nil, "interrupted". While there is no input idle is called; it
 * returns for how many ms it need not be called again, and true to keep hidden what it hid. Its error ends the line, and
 * is passed on. */
static int read_line(lua_State *L) {
  int wait_ms = 0, status = LUA_OK;
  fflush(stdout);
  flume_interrupt_keep_process();
  flume_interrupt_take();
  line_taken = is_hidden = false;
  reader = L;
  rl_callback_handler_install(luaL_checkstring(L, 1), take_line);
  rl_end = 0;               /* libedit brings it up to date with the first key */
  flume_interrupt_handle(); /* libedit would send them to the whole process group */
  while (!line_taken && !is_interrupted() && status == LUA_OK) status = read_turn(L, &wait_ms);
  if (!line_taken) rl_callback_handler_remove();
  reader = NULL;
  flume_interrupt_take();
  if (status != LUA_OK) return lua_error(L);
  lua_pushstring(L, line_taken ? line : NULL);
  if (line_taken) free(line);
  if (!lua_isnil(L, -1)) return 1;
  puts(line_taken ? "" : "^C");
  lua_pushstring(L, line_taken ? "eof" : "interrupted");
  return 2;
}

/* --- History -------------------------------------------------------------------------------------------------------- */

/* history_limit(entries): how many are kept. */
static int history_limit(lua_State *L) {
  using_history();
  stifle_history((int)luaL_checkinteger(L, 1));
  return 0;
}

static int history_add(lua_State *L) {
  add_history(luaL_checkstring(L, 1));
  return 0;
}

/* append_private(path, bytes): to the end of a file that only its owner may read, in one piece. */
static int append_private(lua_State *L) {
  size_t len;
  const char *path = luaL_checkstring(L, 1), *bytes = luaL_checklstring(L, 2, &len);
  int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, S_IRUSR | S_IWUSR);
  if (fd < 0) return luaL_fileresult(L, 0, path);
  ssize_t written = fchmod(fd, S_IRUSR | S_IWUSR) == 0 ? write(fd, bytes, len) : -1;
  if (written >= 0 && (size_t)written < len) {
    errno = ENOSPC;
    written = -1;
  }
  int failure = errno;
  if (close(fd) != 0 && written >= 0) return luaL_fileresult(L, 0, path);
  errno = failure;
  return luaL_fileresult(L, written >= 0, path);
}

/* --- What the terminal is like -------------------------------------------------------------------------------------- */

/* is_dumb() → whether nothing can be shown in the place of something else, nor in colours. */
static int is_dumb_terminal(lua_State *L) {
  lua_pushboolean(L, is_dumb());
  return 1;
}

static int is_tty(lua_State *L) {
  lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
  return 1;
}

/* is_utf8() → whether text is in UTF-8, by the locale. */
static int is_utf8(lua_State *L) {
  lua_pushboolean(L, strcmp(nl_langinfo(CODESET), "UTF-8") == 0);
  return 1;
}

/* columns() → the width of the terminal; 0 when there is none. */
static int columns(lua_State *L) {
  struct winsize size = {0};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0) ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
  lua_pushinteger(L, size.ws_col);
  return 1;
}

/* open(path) → a file descriptor to read from, nil, and whether it is a regular file; nil, message, errno. A named pipe
 * does not make the call wait for its writer. */
static int open_input(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  struct stat status;
  int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) return luaL_fileresult(L, 0, path);
  lua_pushinteger(L, fd);
  lua_pushnil(L);
  lua_pushboolean(L, fstat(fd, &status) == 0 && S_ISREG(status.st_mode));
  return 3;
}

/* close(fd) */
static int close_input(lua_State *L) {
  close((int)luaL_checkinteger(L, 1));
  return 0;
}

/* read(fd, max_bytes, timeout_ms) → what has come; "" when nothing has in time, or a signal did; nil at the end;
 * nil, message, errno. A timeout of -1 is for ever. */
static int read_some(lua_State *L) {
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

static bool is_reader_gone(void) {
  struct pollfd output = {.fd = STDOUT_FILENO, .events = POLLOUT};
  return poll(&output, 1, 0) > 0 && (output.revents & POLLERR);
}

/* reader_gone() → whether standard output is a pipe that nobody reads any more. */
static int reader_gone(lua_State *L) {
  lua_pushboolean(L, is_reader_gone());
  return 1;
}

/* output_state() → "good"; "failed" when something could not be written to standard output, as Lua's print does not
 * tell; or "gone" when that was since nobody reads it any more. */
static int output_state(lua_State *L) {
  lua_pushstring(L, !ferror(stdout) ? "good" : is_reader_gone() ? "gone" : "failed");
  return 1;
}

/* --- Signals -------------------------------------------------------------------------------------------------------- */

/* interrupted() → whether there was a signal since the last call. */
static int interrupted(lua_State *L) {
  lua_pushboolean(L, flume_interrupt_take());
  return 1;
}

/* terminated() → whether the process was told to end. */
static int terminated(lua_State *L) {
  lua_pushboolean(L, flume_interrupt_terminated());
  return 1;
}

int flume_terminal_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"watch", flume_interrupt_watch},
                                       {"watch_loop", flume_interrupt_watch_loop},
                                       {"guard", flume_interrupt_guard},
                                       {"abandon", flume_interrupt_abandon},
                                       {"interrupted", interrupted},
                                       {"terminated", terminated},
                                       {"readline", read_line},
                                       {"hide", hide},
                                       {"bind", bind},
                                       {"set_completer", set_completer},
                                       {"history_limit", history_limit},
                                       {"history_add", history_add},
                                       {"append_private", append_private},
                                       {"is_tty", is_tty},
                                       {"is_dumb", is_dumb_terminal},
                                       {"is_utf8", is_utf8},
                                       {"columns", columns},
                                       {"open", open_input},
                                       {"close", close_input},
                                       {"read", read_some},
                                       {"output_state", output_state},
                                       {"reader_gone", reader_gone},
                                       {NULL, NULL}};
  luaL_newlib(L, functions);
  return 1;
}
