#include "lua/binding/lua_view_dir.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/store/store.h"
#include "core/view/view_dir.h"
#include "lua/binding/lua_loop.h"
#include "lua/value/box.h"

#define IO (&flume_io_posix)

static int done(lua_State *L, int rv, const struct flume_err *err) {
  if (rv != 0) return flume__fail(L, rv, err);
  lua_pushboolean(L, 1);
  return 1;
}

static int active(lua_State *L) {
  struct flume_err err;
  uint32_t number = FLUME_VIEW_DIR_NONE;
  int rv = flume_view_dir_active(IO, luaL_checkstring(L, 1), &number, &err);
  if (rv != 0) return flume__fail(L, rv, &err);
  if (number == FLUME_VIEW_DIR_NONE) return 0;
  lua_pushinteger(L, number);
  return 1;
}

static int list(lua_State *L) {
  struct flume_err err;
  const char *path = luaL_checkstring(L, 1);
  struct flume_buf *numbers = flume_box_buf(L);
  int rv = flume_view_dir_list(IO, path, numbers, &err);
  if (rv != 0) return flume__fail(L, rv, &err);
  lua_newtable(L);
  for (size_t i = 0; i < numbers->len / sizeof(uint32_t); i++) {
    uint32_t number;
    memcpy(&number, numbers->data + i * sizeof number, sizeof number);
    lua_pushinteger(L, number);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

/* erased(path, number) -> the number of deletions without bytes left in the version's file | nil, message, code */
static int erased(lua_State *L) {
  struct flume_err err;
  struct flume_store *store;
  char path[4096];
  int len = snprintf(path, sizeof path, "%s/%d", luaL_checkstring(L, 1), (int)luaL_checkinteger(L, 2));
  luaL_argcheck(L, len > 0 && (size_t)len < sizeof path, 1, "too long");
  int rv = flume_store_open(&store, IO, path, FLUME_STORE_READ, &err);
  if (rv != 0) return flume__fail(L, rv, &err);
  int64_t deletions = flume_store_erased(store, &err);
  flume_store_close(store);
  if (deletions < 0 && deletions != FLUME_ENOENT) return flume__fail(L, (int)deletions, &err);
  lua_pushinteger(L, deletions < 0 ? LUA_MAXINTEGER : deletions); /* nothing was committed */
  return 1;
}

static int remove_version(lua_State *L) {
  struct flume_err err;
  const char *path = luaL_checkstring(L, 1);
  return done(L, flume_view_dir_remove(IO, path, (uint32_t)luaL_checkinteger(L, 2), &err), &err);
}

static int remove_all(lua_State *L) {
  struct flume_err err;
  return done(L, flume_view_dir_remove_all(IO, luaL_checkstring(L, 1), &err), &err);
}

static int sweep(lua_State *L) {
  struct flume_err err;
  const char *path = luaL_checkstring(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  struct flume_buf *keep = flume_box_buf(L);
  size_t count = lua_rawlen(L, 2);
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, 2, (lua_Integer)i + 1);
    uint32_t number = (uint32_t)luaL_checkinteger(L, -1);
    lua_pop(L, 1);
    if (flume_buf_append(keep, &number, sizeof number) != 0) return luaL_error(L, "out of memory");
  }
  return done(L, flume_view_dir_sweep(IO, path, (const uint32_t *)(void *)keep->data, count, &err), &err);
}

static int read_text(lua_State *L) {
  struct flume_err err;
  const char *path = luaL_checkstring(L, 1), *name = luaL_checkstring(L, 2);
  struct flume_buf *text = flume_box_buf(L);
  int rv = flume_view_dir_read(IO, path, name, text, &err);
  if (rv != 0) return flume__fail(L, rv, &err);
  lua_pushlstring(L, (const char *)text->data, text->len);
  return 1;
}

static int write_text(lua_State *L) {
  struct flume_err err;
  const char *path = luaL_checkstring(L, 1), *name = luaL_checkstring(L, 2);
  size_t len;
  const char *text = luaL_checklstring(L, 3, &len);
  return done(L, flume_view_dir_write(IO, path, name, text, len, &err), &err);
}

/* obstacle(path) -> nil | why the directory, or its parent if there is none, can't be written to */
static int obstacle(lua_State *L) {
  char path[4096];
  size_t len;
  const char *given = luaL_checklstring(L, 1, &len);
  luaL_argcheck(L, len < sizeof path, 1, "too long");
  memcpy(path, given, len + 1);
  while (access(path, F_OK) != 0 && errno == ENOENT) {
    char *slash = strrchr(path, '/');
    if (slash == NULL || slash == path) return 0;
    *slash = '\0';
  }
  if (access(path, W_OK | X_OK) == 0) return 0;
  lua_pushfstring(L, "%s: %s", path, strerror(errno));
  return 1;
}

/* is_ours(path) -> whether the file begins with the id of this process, as the lock file of a log does */
static int is_ours(lua_State *L) {
  char text[16] = {0};
  int file = IO->open(IO->ctx, luaL_checkstring(L, 1), FLUME_IO_READ);
  if (file >= 0) {
    IO->read(IO->ctx, file, text, sizeof text - 1, 0);
    IO->close(IO->ctx, file);
  }
  lua_pushboolean(L, file >= 0 && strtol(text, NULL, 10) == (long)getpid());
  return 1;
}

void flume__dir_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"active", active},         {"list", list},       {"remove", remove_version},
                                       {"sweep", sweep},           {"is_ours", is_ours}, {"read", read_text},
                                       {"write", write_text},      {"erased", erased},   {"obstacle", obstacle},
                                       {"remove_all", remove_all}, {NULL, NULL}};
  luaL_newlib(L, functions);
  lua_setfield(L, -2, "view_dir");
}
