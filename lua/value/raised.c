#include "lua/value/raised.h"

#include <lauxlib.h>

#include "core/codec/json.h"
#include "lua/value/box.h"
#include "lua/value/marshal.h"

#define MAX_TEXT 300

/* The JSON of the table into out; 0 or an error. */
static int to_json(lua_State *L, int index, struct flume_buf *packed, struct flume_buf *out) {
  struct flume_err err;
  int rv = flume_marshal_encode_sorted(L, index, packed, &err);
  return rv != 0 ? rv : flume_msgpack_to_json(packed->data, packed->len, FLUME_JSON_LOSSY, out, NULL, &err);
}

bool flume_raised_push_text(lua_State *L, int index) {
  index = lua_absindex(L, index);
  if (!lua_istable(L, index)) return false;
  if (luaL_getmetafield(L, index, "__tostring") != LUA_TNIL) {
    lua_pop(L, 1);
    return false;
  }
  int top = lua_gettop(L);
  struct flume_buf *packed = flume_box_buf(L), *out = flume_box_buf(L);
  if (to_json(L, index, packed, out) != 0) {
    lua_settop(L, top);
    return false;
  }
  bool is_long = out->len > MAX_TEXT;
  lua_pushliteral(L, "an error object: ");
  lua_pushlstring(L, (const char *)out->data, is_long ? MAX_TEXT : out->len);
  lua_pushstring(L, is_long ? "..." : "");
  lua_concat(L, 3);
  lua_replace(L, top + 1);
  lua_settop(L, top + 1);
  return true;
}
