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

#include <lauxlib.h>

#include "interrupt.h"
#include "line_editor.h"

/* --- Files ---------------------------------------------------------------------------------------------------------- */

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
  lua_pushboolean(L, flume_line_editor_is_dumb());
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

/* reader_gone() → whether standard output is a pipe whose reader has gone. */
static int reader_gone(lua_State *L) {
  lua_pushboolean(L, is_reader_gone());
  return 1;
}

/* output_state() → "good"; "failed" when something could not be written to standard output, as Lua's print does not
 * tell; or "gone" when that was because its reader has gone. */
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
                                       {"readline", flume_line_editor_read},
                                       {"hide", flume_line_editor_hide},
                                       {"bind", flume_line_editor_bind},
                                       {"set_completer", flume_line_editor_set_completer},
                                       {"history_limit", flume_line_editor_history_limit},
                                       {"history_add", flume_line_editor_history_add},
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
