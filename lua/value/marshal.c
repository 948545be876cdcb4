/* Encoding walks the tables on the Lua stack, three slots a level: the table, a key and its value. The levels remember
 * where their keys are, so that the path of a value is only spelt out when there is something wrong with it.
 *
 * Decoding gives every table its final size at once. A header that promises more than the bytes can hold is refused
 * before anything is made: every value takes a byte, so all counts together stay below the length of the data. */
#include "lua/value/marshal.h"

#include <lauxlib.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lua/value/budget.h"
#include "lua/value/record.h"

#define TABLE_BYTES 56 /* that an empty table takes in Lua */
#define TOO_MUCH "more than the view may have in memory"
#define LOOK_AT_CLOCK_EVERY 16 /* tables; one that was emptied may take milliseconds to walk through */

/* Their addresses are the registry keys of the marking metatables. */
static const char array_mark = 'a';
static const char map_mark = 'm';

/* --- Encoding: errors ----------------------------------------------------------------------------------------- */

struct level {
  const void *table;   /* identity, to find cycles */
  int key;             /* stack index of the key in work; 0 when it is element */
  lua_Integer element; /* the index in work, in an array */
};

struct encoder {
  lua_State *L;
  struct flume_buf *out;
  struct flume_err *err;
  const char *root;       /* the name of the value, for errors */
  uint64_t max_ns;        /* of processor time; 0: no limit */
  uint64_t begun_ns;      /* processor time when the first tables were written; 0: not yet */
  const void *array_mark; /* identity of the metatable; NULL when the state has none */
  const void *map_mark;
  struct flume_buf *pairs; /* of the maps in work, to be sorted; NULL for the order that Lua gives */
  size_t tables_left;      /* a table that is in many places counts, and costs, as often */
  size_t bytes_max;        /* of out */
  unsigned depth;          /* levels in use */
  struct level levels[FLUME_MSGPACK_MAX_DEPTH];
};

/* A path under construction; what does not fit is left out, and shown by dots at the end. */
struct path {
  char text[400];
  size_t len;
  bool full;
};

static void add(struct path *path, const char *text, size_t len) {
  if (path->full || len > sizeof path->text - 4 - path->len) {
    path->full = true;
    return;
  }
  memcpy(path->text + path->len, text, len);
  path->len += len;
}

static bool is_identifier(const char *s, size_t len) {
  for (size_t i = 0; i < len; i++) {
    bool letter = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') || s[i] == '_';
    if (!letter && (i == 0 || s[i] < '0' || s[i] > '9')) return false;
  }
  return len > 0;
}

static void add_quoted(struct path *path, const char *s, size_t len) {
  add(path, "[\"", 2);
  for (size_t i = 0; i < len; i++) {
    char escape[5] = {'\\', s[i]};
    if (s[i] == '"' || s[i] == '\\') {
      add(path, escape, 2);
    } else if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f) {
      snprintf(escape, sizeof escape, "\\x%02x", (unsigned char)s[i]);
      add(path, escape, 4);
    } else {
      add(path, &s[i], 1);
    }
  }
  add(path, "\"]", 2);
}

static void add_string_key(struct path *path, const char *s, size_t len) {
  if (!is_identifier(s, len)) {
    add_quoted(path, s, len);
  } else {
    add(path, ".", 1);
    add(path, s, len);
  }
}

static void add_key(struct path *path, lua_State *L, const struct level *level) {
  char text[64];
  size_t len;
  if (level->key == 0 || lua_isinteger(L, level->key)) {
    lua_Integer i = level->key == 0 ? level->element : lua_tointeger(L, level->key);
    snprintf(text, sizeof text, "[" LUA_INTEGER_FMT "]", i);
  } else if (lua_type(L, level->key) == LUA_TSTRING) {
    const char *s = lua_tolstring(L, level->key, &len);
    add_string_key(path, s, len);
    return;
  } else if (lua_type(L, level->key) == LUA_TNUMBER) {
    snprintf(text, sizeof text, "[" LUA_NUMBER_FMT "]", lua_tonumber(L, level->key));
  } else {
    snprintf(text, sizeof text, "[%s]", lua_toboolean(L, level->key) ? "true" : "false");
  }
  add(path, text, strlen(text));
}

static int fail(struct encoder *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* "value.a.b[3]: <text>", with the path to the value in work. */
static int fail(struct encoder *e, const char *fmt, ...) {
  struct path path = {.len = 0};
  char text[100];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  for (unsigned i = 0; i < e->depth; i++) add_key(&path, e->L, &e->levels[i]);
  strcpy(path.text + path.len, path.full ? "..." : "");
  return flume_err_set(e->err, FLUME_EINVAL, "%s%s: %s", e->root, path.text, text);
}

static int fail_write(struct encoder *e, int rv) {
  if (rv == FLUME_ENOMEM) return flume_err_nomem(e->err);
  return fail(e, "%s", e->out->len > e->bytes_max ? TOO_MUCH : "longer than 4 GiB");
}

/* --- Encoding ------------------------------------------------------------------------------------------------- */

static int encode_value(struct encoder *e, int index);

static inline int encode_number(struct encoder *e, int index) {
  if (lua_isinteger(e->L, index)) return flume_msgpack_write_int(e->out, lua_tointeger(e->L, index));
  return flume_msgpack_write_float(e->out, lua_tonumber(e->L, index));
}

static inline int encode_string(struct encoder *e, int index) {
  size_t len;
  const char *s = lua_tolstring(e->L, index, &len);
  if (e->out->len > e->bytes_max) return FLUME_E2BIG;
  return flume_msgpack_write_str(e->out, s, len);
}

/* The levels around name the table whose key this is, not the key. */
static int encode_key(struct encoder *e, int index) {
  int type = lua_type(e->L, index), rv;
  switch (type) {
    case LUA_TSTRING: rv = encode_string(e, index); break;
    case LUA_TNUMBER: rv = encode_number(e, index); break;
    case LUA_TBOOLEAN: rv = flume_msgpack_write_bool(e->out, lua_toboolean(e->L, index)); break;
    default:
      e->depth--;
      rv = fail(e, "a key that is a %s cannot be stored", lua_typename(e->L, type));
      e->depth++;
      return rv;
  }
  return rv == 0 ? 0 : fail_write(e, rv);
}

/* A key and its value in the output. */
struct pair {
  size_t off;
  size_t key_len;
  size_t len;
};

static int note_pair(struct encoder *e, size_t off, size_t key_end) {
  struct pair pair = {off, key_end - off, e->out->len - off};
  int rv = flume_buf_append(e->pairs, &pair, sizeof pair);
  return rv == 0 ? 0 : flume_err_nomem(e->err);
}

static int compare_pairs(const void *a, const void *b, void *out) {
  const struct pair *x = a, *y = b;
  const uint8_t *data = ((const struct flume_buf *)out)->data;
  int order = memcmp(data + x->off, data + y->off, x->key_len < y->key_len ? x->key_len : y->key_len);
  return order != 0 ? order : (x->key_len > y->key_len) - (x->key_len < y->key_len);
}

/* Puts the pairs from `first` on, which are the end of the output, into the order of their encoded keys. */
static int sort_pairs(struct encoder *e, size_t first, uint32_t count) {
  struct flume_buf *pairs = e->pairs, *out = e->out;
  struct pair *list = (struct pair *)(void *)(pairs->data + first);
  size_t start = list[0].off, bytes = out->len - start, end = pairs->len, to = start;
  qsort_r(list, count, sizeof *list, compare_pairs, out);
  int rv = flume_buf_append(pairs, out->data + start, bytes);
  if (rv != 0) return flume_err_nomem(e->err);
  list = (struct pair *)(void *)(pairs->data + first);
  for (uint32_t i = 0; i < count; i++) {
    memcpy(out->data + to, pairs->data + end + (list[i].off - start), list[i].len);
    to += list[i].len;
  }
  return 0;
}

static int encode_map(struct encoder *e, int index, struct level *level) {
  lua_State *L = e->L;
  size_t header_off, first = e->pairs != NULL ? e->pairs->len : 0;
  uint32_t count = 0;
  int rv = flume_msgpack_open(e->out, &header_off);
  if (rv != 0) return fail_write(e, rv);
  level->key = lua_gettop(L) + 1;
  lua_pushnil(L);
  while (lua_next(L, index)) {
    size_t off = e->out->len;
    rv = encode_key(e, level->key);
    size_t key_end = e->out->len;
    if (rv == 0) rv = encode_value(e, level->key + 1);
    if (rv == 0 && e->pairs != NULL) rv = note_pair(e, off, key_end);
    if (rv != 0) return rv;
    lua_pop(L, 1);
    count++;
  }
  if (e->pairs != NULL) {
    if (count > 1) rv = sort_pairs(e, first, count);
    e->pairs->len = first;
    if (rv != 0) return rv;
  }
  rv = flume_msgpack_close(e->out, header_off, FLUME_TYPE_MAP, count);
  return rv == 0 ? 0 : fail_write(e, rv);
}

static int encode_array(struct encoder *e, int index, lua_Integer count, struct level *level) {
  lua_State *L = e->L;
  int top = lua_gettop(L), rv;
  level->key = 0;
  level->element = 0;
  if (count > UINT32_MAX) return fail(e, "array of more than %u elements", UINT32_MAX);
  rv = flume_msgpack_write_array(e->out, (uint32_t)count);
  if (rv != 0) return fail_write(e, rv);
  for (lua_Integer i = 1; i <= count; i++) {
    level->element = i;
    lua_rawgeti(L, index, i);
    rv = encode_value(e, top + 1);
    if (rv != 0) return rv;
    lua_settop(L, top);
  }
  return 0;
}

/* Whether the keys of a table with the border n are exactly 1..n. */
static bool is_sequence(lua_State *L, int index, lua_Unsigned n) {
  lua_Unsigned count = 0;
  lua_pushnil(L);
  while (lua_next(L, index)) {
    lua_pop(L, 1);
    if (!lua_isinteger(L, -1) || (lua_Unsigned)lua_tointeger(L, -1) - 1 >= n) {
      lua_pop(L, 1);
      return false;
    }
    count++;
  }
  return count == n;
}

/* A table marked as an array: its largest index becomes its length. */
static int encode_marked_array(struct encoder *e, int index, struct level *level) {
  lua_State *L = e->L;
  lua_Integer count = 0, largest = 0;
  level->key = lua_gettop(L) + 1;
  lua_pushnil(L);
  while (lua_next(L, index)) {
    lua_Integer i = lua_isinteger(L, -2) ? lua_tointeger(L, -2) : 0;
    if (i < 1) {
      lua_pop(L, 1);
      return fail(e, "not an index, in a table marked as an array");
    }
    lua_pop(L, 1);
    if (i > largest) largest = i;
    count++;
  }
  if (largest / 4 > count + 256) {
    level->key = 0;
    level->element = largest;
    return fail(e, "an array of this length with %lld elements has too many holes", (long long)count);
  }
  return encode_array(e, index, largest, level);
}

static bool is_time_up(struct encoder *e) {
  if (e->max_ns == 0 || e->tables_left % LOOK_AT_CLOCK_EVERY != 0) return false;
  uint64_t cpu_ns = flume_budget_cpu_ns();
  if (e->begun_ns == 0) e->begun_ns = cpu_ns;
  return cpu_ns - e->begun_ns > e->max_ns;
}

/* Writes a table by its mark, or by its keys. */
static int encode_fields(struct encoder *e, int index, const void *mark, struct level *level) {
  lua_Unsigned border = lua_rawlen(e->L, index);
  if (mark != NULL && mark == e->map_mark) return encode_map(e, index, level);
  if (mark != NULL && mark == e->array_mark) return encode_marked_array(e, index, level);
  if (border > 0 && is_sequence(e->L, index, border)) return encode_array(e, index, (lua_Integer)border, level);
  size_t header_off = e->out->len;
  int rv = encode_map(e, index, level);
  if (rv == 0 && e->out->len == header_off + 1) e->out->data[header_off] = 0x90; /* an empty array */
  return rv;
}

static int encode_table(struct encoder *e, int index) {
  lua_State *L = e->L;
  const void *table = lua_topointer(L, index), *mark = NULL;
  struct level *level = &e->levels[e->depth];
  int rv;
  for (unsigned i = 0; i < e->depth; i++) {
    if (e->levels[i].table == table) return fail(e, "cycle");
  }
  if (e->depth == FLUME_MSGPACK_MAX_DEPTH) return fail(e, "nested deeper than %d", FLUME_MSGPACK_MAX_DEPTH);
  if (e->tables_left-- == 0 || e->out->len > e->bytes_max) return fail(e, TOO_MUCH);
  if (is_time_up(e)) return fail(e, "more than can be stored in %d ms", (int)(e->max_ns / 1000000));
  if (!lua_checkstack(L, 4)) return flume_err_nomem(e->err);
  if (lua_getmetatable(L, index)) {
    mark = lua_topointer(L, -1);
    lua_pop(L, 1);
  }
  e->depth++;
  level->table = table;
  rv = encode_fields(e, index, mark, level);
  e->depth--;
  return rv;
}

static int encode_userdata(struct encoder *e, int index) {
  const uint8_t *data;
  uint32_t len;
  int rv;
  if (!flume_record_bytes(e->L, index, &data, &len)) return fail(e, "userdata cannot be stored");
  rv = flume__msgpack_check_depth(data, len, FLUME_MSGPACK_MAX_DEPTH - e->depth);
  if (rv == FLUME_E2BIG) return fail(e, "nested deeper than %d", FLUME_MSGPACK_MAX_DEPTH);
  if (rv != 0) return fail(e, "record is not valid MessagePack");
  rv = flume_buf_append(e->out, data, len);
  return rv == 0 ? 0 : fail_write(e, rv);
}

/* index is absolute. */
static int encode_value(struct encoder *e, int index) {
  lua_State *L = e->L;
  int type = lua_type(L, index), rv;
  switch (type) {
    case LUA_TSTRING: rv = encode_string(e, index); break;
    case LUA_TNUMBER: rv = encode_number(e, index); break;
    case LUA_TBOOLEAN: rv = flume_msgpack_write_bool(e->out, lua_toboolean(L, index)); break;
    case LUA_TNONE:
    case LUA_TNIL: rv = flume_msgpack_write_nil(e->out); break;
    case LUA_TTABLE: return encode_table(e, index);
    case LUA_TUSERDATA: return encode_userdata(e, index);
    case LUA_TLIGHTUSERDATA:
      if (lua_touserdata(L, index) != NULL) return fail(e, "userdata cannot be stored");
      rv = flume_msgpack_write_nil(e->out);
      break;
    default: return fail(e, "%s cannot be stored", lua_typename(L, type));
  }
  return rv == 0 ? 0 : fail_write(e, rv);
}

static const void *mark_identity(lua_State *L, const char *key) {
  const void *identity;
  lua_rawgetp(L, LUA_REGISTRYINDEX, key);
  identity = lua_topointer(L, -1);
  lua_pop(L, 1);
  return identity;
}

/* What a state with limited memory can hold can be stored. The same table in many places may stand for far more. */
static void limit(struct encoder *e, const struct flume_budget *budget) {
  size_t max_bytes = budget != NULL ? budget->memory_max_bytes : SIZE_MAX;
  e->tables_left = max_bytes / TABLE_BYTES;
  e->bytes_max = max_bytes < SIZE_MAX - e->out->len ? e->out->len + max_bytes : SIZE_MAX;
  e->begun_ns = e->max_ns = 0;
  if (budget == NULL || budget->steps_max == 0) return;
  e->max_ns = budget->encode_max_ns != 0 ? budget->encode_max_ns : FLUME_MARSHAL_MAX_NS;
}

static int encode(lua_State *L, int index, const char *root, struct flume_buf *pairs, struct flume_buf *out,
                  struct flume_err *err) {
  struct encoder e;
  size_t before = out->len;
  int top = lua_gettop(L), rv;
  index = lua_absindex(L, index);
  e.L = L;
  e.out = out;
  e.err = err;
  e.pairs = pairs;
  e.root = root;
  limit(&e, flume_budget_of(L));
  e.depth = 0;
  if (!lua_checkstack(L, 4)) return flume_err_nomem(err);
  e.array_mark = mark_identity(L, &array_mark);
  e.map_mark = mark_identity(L, &map_mark);
  rv = encode_value(&e, index);
  if (rv != 0) {
    lua_settop(L, top);
    out->len = before;
  }
  return rv;
}

int flume_marshal_encode(lua_State *L, int index, struct flume_buf *out, struct flume_err *err) {
  return encode(L, index, "value", NULL, out, err);
}

static int encode_sorted(lua_State *L, int index, const char *root, struct flume_buf *out, struct flume_err *err) {
  struct flume_buf pairs;
  flume_buf_init(&pairs, flume_budget_io(flume_budget_of(L)));
  int rv = encode(L, index, root, &pairs, out, err);
  flume_buf_fini(&pairs);
  return rv;
}

int flume_marshal_encode_sorted(lua_State *L, int index, struct flume_buf *out, struct flume_err *err) {
  return encode_sorted(L, index, "value", out, err);
}

int flume_marshal_encode_state(lua_State *L, int index, struct flume_buf *out, struct flume_err *err) {
  return encode_sorted(L, index, "state", out, err);
}

/* --- Decoding ------------------------------------------------------------------------------------------------- */

struct decoder {
  lua_State *L;
  const uint8_t *p;
  const uint8_t *end;
  uint64_t budget; /* values that the bytes may still hold */
  unsigned depth;
};

static int push_value(struct decoder *d);

/* Accounts for the values of a container before room is made for them. */
static int enter(struct decoder *d, uint64_t values) {
  if (values > d->budget || d->depth == FLUME_MSGPACK_MAX_DEPTH) return FLUME_ECORRUPT;
  d->budget -= values;
  d->depth++;
  luaL_checkstack(d->L, 6, "value is nested too deep");
  return 0;
}

static int push_array(struct decoder *d, uint32_t count) {
  int rv = enter(d, count);
  if (rv != 0) return rv;
  lua_createtable(d->L, (int)count, 0);
  for (uint32_t i = 1; i <= count; i++) {
    rv = push_value(d);
    if (rv != 0) return rv;
    lua_rawseti(d->L, -2, i);
  }
  d->depth--;
  return 0;
}

/* Whether a key is one that an array of count elements has too. */
static inline bool is_index(const struct flume_value *key, uint32_t count) {
  if (key->type == FLUME_TYPE_INT) return key->i >= 1 && key->i <= count;
  return key->type == FLUME_TYPE_FLOAT && key->f >= 1 && key->f <= count && key->f == (double)(uint32_t)key->f;
}

static int push_map(struct decoder *d, uint32_t count) {
  lua_State *L = d->L;
  struct flume_value key;
  uint32_t indices = 0;
  int rv = enter(d, 2 * (uint64_t)count);
  if (rv != 0) return rv;
  lua_createtable(L, 0, (int)count);
  for (uint32_t i = 0; i < count; i++) {
    rv = flume_msgpack_read(&d->p, d->end, &key);
    if (rv == 0) rv = flume__marshal_push_key(L, &key);
    if (rv == 0) rv = push_value(d);
    if (rv != 0) return rv;
    indices += is_index(&key, count);
    lua_rawset(L, -3);
  }
  if (indices == count) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &map_mark);
    lua_setmetatable(L, -2);
  }
  d->depth--;
  return 0;
}

static int push_value(struct decoder *d) {
  struct flume_value v;
  if (flume_msgpack_read(&d->p, d->end, &v) != 0) return FLUME_ECORRUPT;
  if (v.type == FLUME_TYPE_MAP) return push_map(d, v.count);
  if (v.type == FLUME_TYPE_ARRAY) return push_array(d, v.count);
  return flume__marshal_push_scalar(d->L, &v);
}

int flume_marshal_push(lua_State *L, const uint8_t *data, size_t len) {
  struct decoder d = {.L = L, .p = data, .end = data + len, .budget = len};
  int top = lua_gettop(L), rv;
  luaL_checkstack(L, 6, "no room for a value");
  if (len == 1 && data[0] == 0xc0) {
    lua_pushnil(L);
    return 0;
  }
  rv = push_value(&d);
  if (rv == 0 && d.p != d.end) rv = FLUME_ECORRUPT;
  if (rv != 0) lua_settop(L, top);
  return rv;
}

/* --- Explaining ------------------------------------------------------------------------------------------------ */

/* What is wrong with a token, as the key of a map or as a value; NULL for nothing. */
static const char *describe_token(const struct flume_value *v, bool is_key, char *text, size_t text_bytes) {
  if (v->type == FLUME_TYPE_EXT) {
    snprintf(text, text_bytes, "MessagePack extension type %d, of %u bytes, has no value in Lua", v->str.ext,
             v->str.len);
    return text;
  }
  if (!is_key) return NULL;
  if (v->type == FLUME_TYPE_NIL) return "a map has a key that is nil, which no table of Lua can have";
  if (v->type == FLUME_TYPE_FLOAT && v->f != v->f) return "a map has a key that is nan, which no table of Lua can have";
  if (v->type == FLUME_TYPE_ARRAY) return "a map has a key that is an array, which no table of Lua can have";
  if (v->type == FLUME_TYPE_MAP) return "a map has a key that is a map, which no table of Lua can have";
  return NULL;
}

int flume_marshal_explain(const uint8_t *data, size_t len, int status, struct flume_err *err) {
  uint64_t left[FLUME_MSGPACK_MAX_DEPTH + 1] = {1}; /* tokens to come in each container; of a map, keys and values */
  bool is_map[FLUME_MSGPACK_MAX_DEPTH + 1] = {false};
  const uint8_t *at = data, *end = data + len;
  unsigned depth = 0;
  char text[100];
  struct flume_value v;
  if (status != FLUME_ENOTSUP) return flume_err_set(err, status, "not valid MessagePack");
  for (;;) {
    while (left[depth] == 0 && depth > 0) depth--;
    if (left[depth] == 0 || flume_msgpack_read(&at, end, &v) != 0) break;
    const char *wrong = describe_token(&v, is_map[depth] && left[depth] % 2 == 0, text, sizeof text);
    if (wrong != NULL) return flume_err_set(err, status, "%s", wrong);
    left[depth]--;
    if (v.type != FLUME_TYPE_ARRAY && v.type != FLUME_TYPE_MAP) continue;
    if (depth == FLUME_MSGPACK_MAX_DEPTH) break;
    is_map[++depth] = v.type == FLUME_TYPE_MAP;
    left[depth] = is_map[depth] ? 2 * (uint64_t)v.count : v.count;
  }
  return flume_err_set(err, status, "a value that Lua has not");
}

/* --- Marks ---------------------------------------------------------------------------------------------------- */

bool flume_marshal_is_array(lua_State *L, int index) {
  if (lua_type(L, index) != LUA_TTABLE) return false;
  index = lua_absindex(L, index);
  if (lua_getmetatable(L, index)) {
    const void *mark = lua_topointer(L, -1);
    lua_pop(L, 1);
    if (mark == mark_identity(L, &map_mark)) return false;
    if (mark == mark_identity(L, &array_mark)) return true;
  }
  luaL_checkstack(L, 4, NULL);
  struct flume_budget *budget = flume_budget_of(L);
  flume_budget_charge(L, budget, lua_rawlen(L, index));
  bool is_array = is_sequence(L, index, lua_rawlen(L, index));
  flume_budget_look_large(L, budget);
  return is_array;
}

/* Marks the table argument, or a new one, with the metatable in upvalue 1. */
static int mark(lua_State *L) {
  if (lua_isnone(L, 1)) {
    lua_newtable(L);
  } else {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    if (lua_getmetatable(L, 1)) {
      const void *other = lua_topointer(L, -1);
      bool ours = other == mark_identity(L, &array_mark) || other == mark_identity(L, &map_mark);
      luaL_argcheck(L, ours, 1, "the table has a metatable of its own");
      lua_settop(L, 1);
    }
  }
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_setmetatable(L, -2);
  return 1;
}

/* Puts the function that marks into the table on top, with a metatable made once. */
static void open_mark(lua_State *L, const char *key, const char *type_name, const char *function_name) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, key) != LUA_TTABLE) {
    lua_pop(L, 1);
    lua_createtable(L, 0, 1);
    lua_pushstring(L, type_name);
    lua_setfield(L, -2, "__name");
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, key);
  }
  lua_pushcclosure(L, mark, 1);
  lua_setfield(L, -2, function_name);
}

void flume_marshal_open(lua_State *L) {
  luaL_checkstack(L, 4, NULL);
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
  open_mark(L, &array_mark, "flume.array", "array");
  open_mark(L, &map_mark, "flume.map", "map");
}
