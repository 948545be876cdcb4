/* Each function that writes keeps its buffers in boxes among its upvalues and uses them again in the next call: no Lua
 * code runs while one is in use, and an error leaves nothing behind. */
#include "lua/value/codec.h"

#include <lauxlib.h>
#include <math.h>

#include "core/base/hash.h"
#include "core/codec/float_text.h"
#include "core/codec/json.h"
#include "core/codec/key.h"
#include "core/codec/msgpack.h"
#include "core/index/hyperloglog.h"
#include "lua/value/box.h"
#include "lua/value/budget.h"
#include "lua/value/marshal.h"
#include "lua/value/raised.h"
#include "lua/value/record.h"

/* A buffer larger than this is not kept for the next call. */
#define KEEP_BYTES (1 << 20)

#define BYTES_PER_STEP 4
#define STEPS_PER_ELEMENT 4
#define LOOKED_AT_STEPS 10000 /* the clock too: such a call is worth many instructions */

/* The buffer in upvalue n, empty. */
static struct flume_buf *take_buf(lua_State *L, int n) {
  struct flume_buf *buf = flume_box_get(L, lua_upvalueindex(n));
  if (buf->cap > KEEP_BYTES) flume_buf_fini(buf);
  buf->len = 0;
  return buf;
}

static int push_failure(lua_State *L, const struct flume_err *err) {
  lua_pushnil(L);
  lua_pushstring(L, err->msg);
  lua_pushstring(L, flume_err_name(err->code));
  return 3;
}

static int push_undecodable(lua_State *L, const uint8_t *data, size_t len, int status) {
  struct flume_err err;
  flume_marshal_explain(data, len, status, &err);
  return push_failure(L, &err);
}

/* Takes steps for so many bytes that were encoded or hashed, and for the elements of a table at index 1. */
static void charge(lua_State *L, size_t bytes) {
  struct flume_budget *budget = flume_budget_of(L);
  uint64_t elements = lua_type(L, 1) == LUA_TTABLE ? lua_rawlen(L, 1) : 0;
  uint64_t steps = bytes / BYTES_PER_STEP + elements * STEPS_PER_ELEMENT;
  if (steps > LOOKED_AT_STEPS && flume_budget_is_up(budget)) flume_budget_raise(L, budget);
  flume_budget_charge(L, budget, steps);
}

/* What hash could not do: for want of memory also when the budget is spent. */
static int raise_hash(lua_State *L, const struct flume_err *err) {
  struct flume_budget *budget = flume_budget_of(L);
  if (budget != NULL && flume_budget_is_spent(budget)) return flume_budget_raise(L, budget);
  return luaL_error(L, "hash: %s", err->msg);
}

static int push_encoded(lua_State *L, int (*encode)(lua_State *, int, struct flume_buf *, struct flume_err *)) {
  struct flume_buf *out = take_buf(L, 1);
  struct flume_err err;
  luaL_checkany(L, 1);
  if (encode(L, 1, out, &err) != 0) return push_failure(L, &err);
  lua_pushlstring(L, (const char *)out->data, out->len);
  return 1;
}

static int encode(lua_State *L) {
  return push_encoded(L, flume_marshal_encode);
}

static int encode_sorted(lua_State *L) {
  return push_encoded(L, flume_marshal_encode_sorted);
}

static int encode_state(lua_State *L) {
  return push_encoded(L, flume_marshal_encode_state);
}

static int decode(lua_State *L) {
  size_t len;
  const char *data = luaL_checklstring(L, 1, &len);
  int rv = flume_marshal_push(L, (const uint8_t *)data, len);
  return rv == 0 ? 1 : push_undecodable(L, (const uint8_t *)data, len, rv);
}

static int record(lua_State *L) {
  size_t len;
  const uint8_t *data = (const uint8_t *)luaL_checklstring(L, 1, &len), *p = data;
  struct flume_value header;
  luaL_argcheck(L, len <= UINT32_MAX, 1, "longer than 4 GiB");
  if (flume_msgpack_read(&p, data + len, &header) != 0) return push_undecodable(L, data, len, FLUME_ECORRUPT);
  if (header.type == FLUME_TYPE_EXT) return push_undecodable(L, data, len, FLUME_ENOTSUP);
  flume_record_push(L, data, (uint32_t)len, 1);
  return 1;
}

static int to_table(lua_State *L) {
  luaL_checkany(L, 1);
  flume_record_copy(L, 1);
  return 1;
}

static int is_array(lua_State *L) {
  lua_pushboolean(L, flume_marshal_is_array(L, 1) || flume_record_is_array(L, 1));
  return 1;
}

/* hash(key) -> integer: the same for keys that are the same */
static int hash(lua_State *L) {
  struct flume_buf *packed = take_buf(L, 1), *key = take_buf(L, 2);
  struct flume_err err;
  luaL_checkany(L, 1);
  if (flume_marshal_encode_sorted(L, 1, packed, &err) != 0) return raise_hash(L, &err);
  charge(L, packed->len);
  if (flume_key_encode(packed->data, packed->len, key, &err) != 0) return raise_hash(L, &err);
  lua_pushinteger(L, (lua_Integer)flume_hash64(key->data, key->len));
  return 1;
}

/* distinct(state) -> integer: how many values were added to a state of core/index/hyperloglog.h, about */
static int distinct(lua_State *L) {
  size_t len;
  const char *state = luaL_checklstring(L, 1, &len);
  luaL_argcheck(L, flume_hyperloglog_is_state(len), 1, "no state of distinct values");
  lua_pushinteger(L, flume_hyperloglog_count((const uint8_t *)state, len));
  return 1;
}

static int json_encode(lua_State *L) {
  struct flume_buf *packed = take_buf(L, 1), *out = take_buf(L, 2);
  struct flume_err err;
  luaL_checkany(L, 1);
  int rv = flume_marshal_encode(L, 1, packed, &err);
  if (rv == 0) rv = flume_msgpack_to_json(packed->data, packed->len, FLUME_JSON_TEXT_KEYS, out, NULL, &err);
  if (rv != 0) return push_failure(L, &err);
  lua_pushlstring(L, (const char *)out->data, out->len);
  return 1;
}

static int json_show(lua_State *L) {
  struct flume_buf *packed = take_buf(L, 1), *out = take_buf(L, 2);
  struct flume_json_loss loss;
  struct flume_err err;
  luaL_checkany(L, 1);
  int rv = flume_marshal_encode_sorted(L, 1, packed, &err);
  if (rv == 0) rv = flume_msgpack_to_json(packed->data, packed->len, FLUME_JSON_LOSSY, out, &loss, &err);
  if (rv != 0) return push_failure(L, &err);
  lua_pushlstring(L, (const char *)out->data, out->len);
  if (!loss.values && !loss.keys) return 1;
  lua_pushstring(L, loss.what);
  lua_pushboolean(L, !loss.values);
  return 3;
}

static int error_text(lua_State *L) {
  luaL_checkany(L, 1);
  if (!flume_raised_push_text(L, 1)) luaL_tolstring(L, 1, NULL);
  return 1;
}

static int float_text(lua_State *L) {
  char text[FLUME_FLOAT_TEXT_SIZE];
  double v = luaL_checknumber(L, 1);
  if (isfinite(v)) lua_pushlstring(L, text, flume_float_text(v, text));
  else lua_pushstring(L, isnan(v) ? "nan" : v < 0 ? "-inf" : "inf");
  return 1;
}

static int json_decode(lua_State *L) {
  struct flume_buf *packed = take_buf(L, 1);
  struct flume_err err;
  size_t len;
  const char *text = luaL_checklstring(L, 1, &len);
  if (flume_json_to_msgpack(text, len, packed, &err) != 0) return push_failure(L, &err);
  int rv = flume_marshal_push(L, packed->data, packed->len);
  return rv == 0 ? 1 : push_undecodable(L, packed->data, packed->len, rv);
}

int flume__codec_open(lua_State *L) {
  static const luaL_Reg plain[] = {
      {"decode", decode},     {"record", record},         {"table", to_table},        {"is_array", is_array},
      {"distinct", distinct}, {"float_text", float_text}, {"error_text", error_text}, {NULL, NULL}};
  static const luaL_Reg boxed[] = {
      {"encode", encode}, {"encode_sorted", encode_sorted}, {"encode_state", encode_state}, {NULL, NULL}};
  static const luaL_Reg json[] = {{"encode", json_encode}, {"decode", json_decode}, {NULL, NULL}};
  luaL_newlib(L, plain);
  flume_box_buf(L);
  luaL_setfuncs(L, boxed, 1);
  flume_box_buf(L);
  flume_box_buf(L);
  lua_pushcclosure(L, hash, 2);
  lua_setfield(L, -2, "hash");
  luaL_newlibtable(L, json);
  flume_box_buf(L);
  flume_box_buf(L);
  luaL_setfuncs(L, json, 2);
  lua_setfield(L, -2, "json");
  flume_box_buf(L);
  flume_box_buf(L);
  lua_pushcclosure(L, json_show, 2);
  lua_setfield(L, -2, "json_show");
  flume_marshal_open(L);
  return 1;
}
