#include "lua/binding/lua_stream.h"

#include <lauxlib.h>

#include "lua/value/block_ref.h"
#include "lua/value/record.h"

#define CURSOR_TYPE "flume.cursor"

struct cursor {
  struct flume_stream *stream; /* NULL once closed */
  struct flume_lua_log *log;   /* kept by the user value */
  bool lazy;
  bool has_values; /* records are decoded */
};

/* User values of a cursor: its log; with lazy also the userdata of the current block. */
enum { UV_LOG = 1, UV_BLOCK = 2, UV_COUNT = 2 };

static struct cursor *check_cursor(lua_State *L) {
  return luaL_checkudata(L, 1, CURSOR_TYPE);
}

static int cursor_close(lua_State *L) {
  struct cursor *self = check_cursor(L);
  if (self->stream != NULL) flume_stream_close(self->stream);
  self->stream = NULL;
  return 0;
}

/* The stack index of the userdata that pins the block of lazy records. */
static int push_block(lua_State *L, struct flume_block *block) {
  if (lua_getiuservalue(L, 1, UV_BLOCK) == LUA_TUSERDATA && *(struct flume_block **)lua_touserdata(L, -1) == block) {
    return lua_gettop(L);
  }
  lua_pop(L, 1);
  struct flume_block **slot = flume__block_slot(L);
  *slot = flume_block_ref(block);
  lua_pushvalue(L, -1);
  lua_setiuservalue(L, 1, UV_BLOCK);
  return lua_gettop(L);
}

/* next(self) -> seq, value, nil, length in bytes | nothing at the end | false: later | nil, message, code */
static int cursor_next(lua_State *L) {
  struct cursor *self = check_cursor(L);
  if (self->stream == NULL || self->log->log == NULL) return flume__fail(L, FLUME_ECLOSED, NULL);
  struct flume_record record;
  struct flume_err err;
  int rv = flume_stream_peek(self->stream, &record, &err);
  if (rv == 0) return 0;
  if (rv == FLUME_EAGAIN) {
    lua_pushboolean(L, 0);
    return 1;
  }
  if (rv < 0) return flume__fail(L, rv, &err);
  bool is_packed = self->log->codec == FLUME_CODEC_MSGPACK;
  if (!self->has_values) {
    lua_pushinteger(L, record.seq);
    return 1;
  }
  int block_index = self->lazy && is_packed ? push_block(L, record.block) : 0;
  lua_pushinteger(L, record.seq);
  rv = 0;
  if (block_index != 0) flume_record_push(L, record.data, record.len, block_index);
  else if (self->lazy) rv = flume__json_push_lazy(L, record.data, record.len, &err);
  else rv = flume__value_push(L, self->log->codec, record.data, record.len, &err);
  if (rv != 0) return flume__fail_decoding(L, record.seq, &err);
  lua_pushnil(L);
  lua_pushinteger(L, record.len);
  return 4;
}

static int cursor_new(lua_State *L) {
  struct flume_lua_log *log = flume__lua_log_check(L, 1);
  struct flume_range range = {.first = luaL_checkinteger(L, 2),
                              .last = luaL_checkinteger(L, 3),
                              .limit = luaL_checkinteger(L, 4),
                              .reverse = lua_toboolean(L, 5),
                              .live = lua_toboolean(L, 6),
                              .old = lua_toboolean(L, 7)};
  struct cursor *self = lua_newuserdatauv(L, sizeof *self, UV_COUNT);
  *self = (struct cursor){.log = log,
                          .lazy = lua_toboolean(L, 8) && log->codec != FLUME_CODEC_RAW,
                          .has_values = lua_isnone(L, 9) || lua_toboolean(L, 9)};
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, UV_LOG);
  if (luaL_newmetatable(L, CURSOR_TYPE)) {
    static const luaL_Reg methods[] = {
        {"next", cursor_next}, {"close", cursor_close}, {"__gc", cursor_close}, {NULL, NULL}};
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
  }
  lua_setmetatable(L, -2);
  struct flume_err err;
  int rv = flume_stream_open(&self->stream, log->log, &range, &err);
  return rv == 0 ? 1 : flume__fail(L, rv, &err);
}

void flume__cursor_open(lua_State *L) {
  lua_pushcfunction(L, cursor_new);
  lua_setfield(L, -2, "cursor");
}
