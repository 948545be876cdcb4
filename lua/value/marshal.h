/* Lua values to and from MessagePack: the only place where the one becomes the other.
 *
 * nil, booleans, integers, floats and strings map one to one; strings are bytes. A table is an array when its keys are
 * exactly 1..n, the empty table too, and else a map; its keys are strings, numbers and booleans. Two metatables settle
 * the doubtful cases: flume.map makes any table a map, flume.array a table with holes an array. Inside containers null
 * is flume.null, the light userdata NULL. Metamethods are never called.
 *
 * All functions: on the thread of the Lua state. */
#ifndef FLUME_LUA_MARSHAL_H
#define FLUME_LUA_MARSHAL_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/codec/msgpack.h"

/* Processor time of one encoding in a view's own state, when its budget does not set encode_max_ns. */
#define FLUME_MARSHAL_MAX_NS UINT64_C(10000000000)

/* Makes the two marking metatables, once for a state, and puts null, array and map into the table on top of the stack.
 * array([t]) and map([t]) mark t, or a new table, and return it. */
void flume_marshal_open(lua_State *L);

/* Appends the value at index to out. Raises no Lua error and leaves the stack as it was. out is the caller's; before the
 * caller calls a function that raises, out belongs into a box (box.h).
 *
 * FLUME_EINVAL for a value that can't be stored, naming where: "value.a.b[3]: function cannot be stored";
 * FLUME_ENOMEM. On failure out is as long as before.
 *
 * In a view's own state the output is no longer than the memory that the state may have, and takes no more time than
 * FLUME_MARSHAL_MAX_NS: a table that is in many places is written as often. More is FLUME_EINVAL.
 *
 * A table marked as an array has nil for its holes; it may have at most 3 holes for each element, and 1024 more. A lazy
 * record goes out as the bytes it stands for. */
int flume_marshal_encode(lua_State *L, int index, struct flume_buf *out, struct flume_err *err);

/* The same, and the bytes are the same for the same contents: maps have their pairs in the order of the encoded keys,
 * where the other one writes them as Lua's hash tables have them. A record goes out as it came. */
int flume_marshal_encode_sorted(lua_State *L, int index, struct flume_buf *out, struct flume_err *err);

/* As flume_marshal_encode_sorted, of a view's state: errors name it, "state.f: function cannot be stored". */
int flume_marshal_encode_state(lua_State *L, int index, struct flume_buf *out, struct flume_err *err);

/* Whether the value at index would be stored as an array. Raises memory errors. */
bool flume_marshal_is_array(lua_State *L, int index);

/* Pushes the one value that data is. A nil by itself is nil; in a container it is flume.null. A map is marked as such
 * where it would otherwise be taken for an array.
 *
 * Nothing is pushed on failure: FLUME_ECORRUPT for bytes that are not one MessagePack value nested at most 128 deep;
 * FLUME_ENOTSUP for a value that Lua has not: an extension type, or a key that is nil, nan or a container. Raises memory
 * errors. */
int flume_marshal_push(lua_State *L, const uint8_t *data, size_t len);

/* Writes into err why flume_marshal_push refused the bytes, with what it returned; returns that. Any thread. */
int flume_marshal_explain(const uint8_t *data, size_t len, int status, struct flume_err *err);

/* Pushes one token that is no container, nil as flume.null: 0, or FLUME_ENOTSUP and nothing pushed. */
static inline int flume__marshal_push_scalar(lua_State *L, const struct flume_value *v) {
  switch (v->type) {
    case FLUME_TYPE_STR: lua_pushlstring(L, (const char *)v->str.data, v->str.len); return 0;
    case FLUME_TYPE_INT: lua_pushinteger(L, v->i); return 0;
    case FLUME_TYPE_FLOAT: lua_pushnumber(L, v->f); return 0;
    case FLUME_TYPE_BOOL: lua_pushboolean(L, v->b); return 0;
    case FLUME_TYPE_NIL: lua_pushlightuserdata(L, NULL); return 0;
    default: return FLUME_ENOTSUP;
  }
}

/* As flume__marshal_push_scalar, for the key of a map, which is neither nil nor nan. */
static inline int flume__marshal_push_key(lua_State *L, const struct flume_value *v) {
  if (v->type == FLUME_TYPE_NIL || (v->type == FLUME_TYPE_FLOAT && v->f != v->f)) return FLUME_ENOTSUP;
  return flume__marshal_push_scalar(L, v);
}

#endif
