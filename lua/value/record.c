/* A record knows where its value begins and where the bytes around it end; where exactly a nested value ends is only
 * looked for when somebody asks for its bytes. Reading the elements of an array in order costs the same for each: the
 * record remembers where the last one was.
 *
 * Upvalue 1 of every metamethod is the metatable: to tell a record from other userdata, and for records inside. */
#include "lua/value/record.h"

#include <lauxlib.h>

#include "core/codec/msgpack.h"
#include "lua/value/budget.h"
#include "lua/value/marshal.h"

#define CHARGED_BYTES 4096 /* less is looked through for free */
#define BYTES_PER_STEP 16

struct record {
  const uint8_t *data;
  uint32_t len;             /* up to the end of the outermost value */
  uint32_t cursor_off;      /* where in data the element cursor_index begins */
  lua_Integer cursor_index; /* 0 before the first look-up */
};

/* Its address is the registry key of the metatable. */
static const char metatable_key = 'r';

#define METATABLE lua_upvalueindex(1)

static int raise_corrupt(lua_State *L) {
  return luaL_error(L, "record is not valid MessagePack");
}

/* Why the value in data, or a key of a map, could not be pushed. */
static int raise_undecodable(lua_State *L, const uint8_t *data, size_t len, int status) {
  struct flume_err err;
  if (status != FLUME_ENOTSUP) return raise_corrupt(L);
  flume_marshal_explain(data, len, status, &err);
  return luaL_error(L, "record: %s", err.msg);
}

/* --- Pushing -------------------------------------------------------------------------------------------------- */

static inline void push_record(lua_State *L, const uint8_t *data, uint32_t len, int block_index, int metatable_index) {
  struct record *r = lua_newuserdatauv(L, sizeof *r, 1);
  r->data = data;
  r->len = len;
  r->cursor_off = 0;
  r->cursor_index = 0;
  if (block_index != 0) {
    lua_pushvalue(L, block_index);
    lua_setiuservalue(L, -2, 1);
  }
  lua_pushvalue(L, metatable_index);
  lua_setmetatable(L, -2);
}

static void push_plain(lua_State *L, const uint8_t *data, uint32_t len) {
  const uint8_t *p = data;
  struct flume_value v;
  if (flume_msgpack_read(&p, data + len, &v) != 0 || p != data + len) raise_corrupt(L);
  int rv = flume__marshal_push_scalar(L, &v);
  if (rv != 0) raise_undecodable(L, data, len, rv);
}

void flume_record_push_fast(lua_State *L, const uint8_t *data, uint32_t len, int block_index, int metatable_index) {
  if (len > 0 && flume__msgpack_is_container(data[0])) {
    push_record(L, data, len, block_index, metatable_index);
  } else {
    push_plain(L, data, len);
  }
}

void flume_record_push(lua_State *L, const uint8_t *data, uint32_t len, int block_index) {
  if (block_index != 0) block_index = lua_absindex(L, block_index);
  flume_record_open(L);
  flume_record_push_fast(L, data, len, block_index, lua_gettop(L));
  lua_remove(L, -2);
}

/* Pushes the value at `at` in the record at record_index. */
static inline void push_inner(lua_State *L, const struct record *r, int record_index, const uint8_t *at) {
  const uint8_t *from = at, *end = r->data + r->len;
  struct flume_value v;
  if (flume_msgpack_read(&at, end, &v) != 0) raise_corrupt(L);
  if (v.type == FLUME_TYPE_MAP || v.type == FLUME_TYPE_ARRAY) {
    lua_getiuservalue(L, record_index, 1);
    push_record(L, from, (uint32_t)(end - from), lua_gettop(L), METATABLE);
    lua_replace(L, -2);
  } else if (flume__marshal_push_scalar(L, &v) != 0) {
    raise_undecodable(L, from, (size_t)(at - from), FLUME_ENOTSUP);
  }
}

/* --- Looking up ----------------------------------------------------------------------------------------------- */

/* The record that is argument 1 of a metamethod. */
static inline struct record *check_record(lua_State *L) {
  struct record *r = lua_touserdata(L, 1);
  if (r == NULL || !lua_getmetatable(L, 1) || lua_topointer(L, -1) != lua_topointer(L, METATABLE)) {
    luaL_typeerror(L, 1, "flume.record");
  }
  lua_pop(L, 1);
  return r;
}

/* Takes steps for looking through so many bytes of a large record. */
static inline void charge_bytes(lua_State *L, size_t bytes) {
  if (bytes >= CHARGED_BYTES) flume_budget_charge(L, flume_budget_of(L), bytes / BYTES_PER_STEP);
}

static int find_element(struct record *r, uint32_t count, lua_Integer index, const uint8_t *first,
                        const uint8_t **value) {
  const uint8_t *at = first, *end = r->data + r->len;
  lua_Integer i = 1;
  if (index < 1 || index > (lua_Integer)count) return FLUME_ENOENT;
  if (r->cursor_index > 0 && r->cursor_index <= index) {
    i = r->cursor_index;
    at = r->data + r->cursor_off;
  }
  for (; i < index; i++) {
    if (flume_msgpack_skip(&at, end) != 0) return FLUME_ECORRUPT;
  }
  r->cursor_index = index;
  r->cursor_off = (uint32_t)(at - r->data);
  *value = at;
  return 0;
}

static bool same_key(const struct flume_value *a, const struct flume_value *b) {
  if (a->type == FLUME_TYPE_FLOAT && b->type == FLUME_TYPE_INT) return a->f == (double)b->i;
  if (a->type != b->type) return false;
  switch (a->type) {
    case FLUME_TYPE_INT: return a->i == b->i;
    case FLUME_TYPE_FLOAT: return a->f == b->f;
    case FLUME_TYPE_BOOL: return a->b == b->b;
    default: return false;
  }
}

/* The value of a number or boolean key among the count pairs at `at`. */
static int find_pair(const uint8_t *at, const uint8_t *end, uint32_t count, const struct flume_value *key,
                     const uint8_t **value) {
  for (uint32_t i = 0; i < count; i++) {
    const uint8_t *peek = at;
    struct flume_value v;
    if (flume_msgpack_read(&peek, end, &v) != 0 || flume_msgpack_skip(&at, end) != 0) return FLUME_ECORRUPT;
    if (same_key(&v, key)) {
      *value = at;
      return 0;
    }
    if (flume_msgpack_skip(&at, end) != 0) return FLUME_ECORRUPT;
  }
  return FLUME_ENOENT;
}

/* A number or boolean key, argument 2; a float with an integral value is that integer, as in a table. */
static int find_other(lua_State *L, struct record *r, const uint8_t **value) {
  const uint8_t *at = r->data, *end = r->data + r->len;
  struct flume_value header, key = {.type = FLUME_TYPE_INT};
  int integral = 0;
  if (flume_msgpack_read(&at, end, &header) != 0) return FLUME_ECORRUPT;
  if (lua_type(L, 2) == LUA_TNUMBER) {
    key.i = lua_tointegerx(L, 2, &integral);
    if (integral && header.type == FLUME_TYPE_ARRAY) return find_element(r, header.count, key.i, at, value);
    if (!integral) {
      key.type = FLUME_TYPE_FLOAT;
      key.f = lua_tonumber(L, 2);
    }
  } else if (lua_type(L, 2) == LUA_TBOOLEAN) {
    key.type = FLUME_TYPE_BOOL;
    key.b = lua_toboolean(L, 2);
  } else {
    return FLUME_ENOENT;
  }
  return header.type == FLUME_TYPE_MAP ? find_pair(at, end, header.count, &key, value) : FLUME_ENOENT;
}

/* How much of the record was looked through to find the value; all of it when there was none. Elements of an array are
 * found from the one that was asked for last, which was at before_off. */
static size_t looked_through(const struct record *r, int rv, const uint8_t *value, uint32_t before_off) {
  if (rv != 0) {
    const uint8_t *end = r->data;
    return flume_msgpack_skip(&end, r->data + r->len) == 0 ? (size_t)(end - r->data) : r->len;
  }
  uint32_t off = (uint32_t)(value - r->data);
  return off == r->cursor_off && off >= before_off ? off - before_off : off;
}

static int get_index(lua_State *L) {
  struct record *r = check_record(L);
  const uint8_t *value = NULL;
  uint32_t before_off = r->cursor_off;
  int rv;
  if (lua_type(L, 2) == LUA_TSTRING) {
    size_t len;
    const char *key = lua_tolstring(L, 2, &len);
    rv = flume_msgpack_find(r->data, r->data + r->len, key, len, &value);
  } else {
    rv = find_other(L, r, &value);
  }
  if (r->len >= CHARGED_BYTES) charge_bytes(L, looked_through(r, rv, value, before_off));
  if (rv == 0) {
    push_inner(L, r, 1, value);
  } else if (rv == FLUME_ENOENT) {
    lua_pushnil(L);
  } else {
    raise_corrupt(L);
  }
  return 1;
}

static struct flume_value read_header(lua_State *L, const struct record *r) {
  struct flume_value header;
  const uint8_t *p = r->data;
  if (flume_msgpack_read(&p, r->data + r->len, &header) != 0) raise_corrupt(L);
  return header;
}

static int get_len(lua_State *L) {
  struct flume_value header = read_header(L, check_record(L));
  lua_pushinteger(L, header.type == FLUME_TYPE_ARRAY ? header.count : 0);
  return 1;
}

/* --- Iterating ------------------------------------------------------------------------------------------------ */

#define NEXT_RECORD lua_upvalueindex(2) /* the record under iteration */
#define NEXT_OFF lua_upvalueindex(3)    /* where in its data the next key or element begins */
#define NEXT_INDEX lua_upvalueindex(4)  /* how many are behind */

/* Pushes the key at *p and moves *p to its value. */
static void push_key(lua_State *L, const struct record *r, const uint8_t **p) {
  struct flume_value key;
  if (flume_msgpack_read(p, r->data + r->len, &key) != 0) raise_corrupt(L);
  if (flume__marshal_push_key(L, &key) != 0) raise_undecodable(L, r->data, r->len, FLUME_ENOTSUP);
}

static int next(lua_State *L) {
  const struct record *r = lua_touserdata(L, NEXT_RECORD);
  lua_Integer i = lua_tointeger(L, NEXT_INDEX);
  struct flume_value header = read_header(L, r);
  const uint8_t *p = r->data + lua_tointeger(L, NEXT_OFF);
  if (i >= (lua_Integer)header.count) {
    lua_pushnil(L);
    return 1;
  }
  lua_settop(L, 0);
  if (header.type == FLUME_TYPE_MAP) {
    push_key(L, r, &p);
  } else {
    lua_pushinteger(L, i + 1);
  }
  push_inner(L, r, NEXT_RECORD, p);
  const uint8_t *from = p;
  if (flume_msgpack_skip(&p, r->data + r->len) != 0) raise_corrupt(L);
  charge_bytes(L, (size_t)(p - from));
  lua_pushinteger(L, i + 1);
  lua_replace(L, NEXT_INDEX);
  lua_pushinteger(L, p - r->data);
  lua_replace(L, NEXT_OFF);
  return 2;
}

static int get_pairs(lua_State *L) {
  const struct record *r = check_record(L);
  const uint8_t *p = r->data;
  struct flume_value header;
  if (flume_msgpack_read(&p, r->data + r->len, &header) != 0) raise_corrupt(L);
  lua_pushvalue(L, METATABLE);
  lua_pushvalue(L, 1);
  lua_pushinteger(L, p - r->data);
  lua_pushinteger(L, 0);
  lua_pushcclosure(L, next, 4);
  lua_pushvalue(L, 1);
  lua_pushnil(L);
  return 3;
}

/* --- Metatable ------------------------------------------------------------------------------------------------ */

static int refuse_newindex(lua_State *L) {
  return luaL_error(L, "records are read-only; use flume.table(item) for a copy");
}

static int to_string(lua_State *L) {
  struct flume_value header = read_header(L, check_record(L));
  const char *plural = header.count == 1 ? "" : "s";
  if (header.type == FLUME_TYPE_MAP) {
    lua_pushfstring(L, "record: {%I field%s}", (LUAI_UACINT)header.count, plural);
  } else {
    lua_pushfstring(L, "record: [%I element%s]", (LUAI_UACINT)header.count, plural);
  }
  return 1;
}

void flume_record_open(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"__index", get_index}, {"__newindex", refuse_newindex}, {"__len", get_len},
      {"__pairs", get_pairs}, {"__tostring", to_string},       {NULL, NULL},
  };
  luaL_checkstack(L, 4, NULL);
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &metatable_key) == LUA_TTABLE) return;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_pushvalue(L, -1);
  luaL_setfuncs(L, methods, 1);
  lua_pushstring(L, "flume.record");
  lua_setfield(L, -2, "__name");
  lua_pushstring(L, "flume.record");
  lua_setfield(L, -2, "__metatable");
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &metatable_key);
}

/* --- Bytes ---------------------------------------------------------------------------------------------------- */

/* The record at index; NULL when it is something else. */
static const struct record *to_record(lua_State *L, int index) {
  const struct record *r = lua_touserdata(L, index);
  if (r == NULL || !lua_checkstack(L, 2) || !lua_getmetatable(L, index)) return NULL;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &metatable_key);
  bool is_record = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return is_record ? r : NULL;
}

bool flume_record_is_array(lua_State *L, int index) {
  const struct record *r = to_record(L, index);
  return r != NULL && ((r->data[0] & 0xf0) == 0x90 || r->data[0] == 0xdc || r->data[0] == 0xdd);
}

bool flume_record_bytes(lua_State *L, int index, const uint8_t **data, uint32_t *len) {
  const struct record *r = to_record(L, index);
  const uint8_t *end;
  if (r == NULL) return false;
  end = r->data;
  *data = r->data;
  *len = flume_msgpack_skip(&end, r->data + r->len) == 0 ? (uint32_t)(end - r->data) : r->len;
  return true;
}

void flume_record_copy(lua_State *L, int index) {
  const uint8_t *data;
  uint32_t len;
  luaL_checkstack(L, 1, NULL);
  if (!flume_record_bytes(L, index, &data, &len)) {
    lua_pushvalue(L, index);
    return;
  }
  charge_bytes(L, len);
  int rv = flume_marshal_push(L, data, len);
  if (rv != 0) raise_undecodable(L, data, len, rv);
}
