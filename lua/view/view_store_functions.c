/* The functions of a store for the Lua code of a host. Each function works on one part of the store: it adds the
 * part's prefix to keys, and removes it from results. */
#include <lauxlib.h>

#include "core/base/bytes.h"
#include "core/codec/key.h"
#include "lua/value/budget.h"
#include "lua/value/marshal.h"
#include "lua/value/record.h"
#include "lua/view/view_store.h"

#define BEHIND 0xff /* a byte that puts a bound behind a key, see struct flume_store_range */
#define EMITTED_BYTES_PER_STEP 8

/* --- Values and keys -------------------------------------------------------------------------------------------- */

static struct flume_store_part *part_of(lua_State *L) {
  struct flume_store_part *part = lua_touserdata(L, lua_upvalueindex(1));
  flume__store_await(part->store);
  if (part->store->store == NULL) luaL_error(L, "the view is closed");
  return part;
}

static struct flume_lua_store *self_of(lua_State *L) {
  return part_of(L)->store;
}

static int raise_error(lua_State *L, const struct flume_err *err) {
  return luaL_error(L, "%s", err->msg);
}

static void append(lua_State *L, struct flume_buf *buf, const void *data, size_t len) {
  if (flume_buf_append(buf, data, len) != 0) luaL_error(L, "not enough memory");
}

static void pack(lua_State *L, int index, struct flume_buf *out) {
  struct flume_err err;
  out->len = 0;
  if (flume_marshal_encode_sorted(L, index, out, &err) != 0) raise_error(L, &err);
}

typedef int (*encode_key)(const uint8_t *value, size_t len, struct flume_buf *out, struct flume_err *err);

/* The key of a row, from the value at index, into the scratch buffer for keys. */
static void put_key(lua_State *L, struct flume_store_part *part, int index, encode_key encode) {
  struct flume_lua_store *self = part->store;
  struct flume_err err;
  pack(L, index, &self->packed);
  self->key.len = 0;
  append(L, &self->key, &part->prefix, part->prefix_len);
  if (encode(self->packed.data, self->packed.len, &self->key, &err) != 0) raise_error(L, &err);
}

/* emit(key [, value]); null counts as no value, as a reader would get nil */
static int emit(lua_State *L) {
  struct flume_store_part *part = lua_touserdata(L, lua_upvalueindex(1));
  struct flume_lua_store *self = part->store;
  lua_settop(L, 2);
  put_key(L, part, 1, flume_key_encode);
  self->value.len = 0;
  bool is_null = lua_islightuserdata(L, 2) && lua_touserdata(L, 2) == NULL;
  if (!lua_isnil(L, 2) && !is_null) pack(L, 2, &self->value);
  struct flume_budget *budget = flume_budget_of(L);
  flume_budget_charge(L, budget, (self->key.len + self->value.len) / EMITTED_BYTES_PER_STEP);
  flume_budget_check_bytes(L, budget, self->emitted.len);
  if (flume__emitted_add(&self->emitted, &self->key, &self->value) != 0) return luaL_error(L, "not enough memory");
  return 0;
}

/* get(key) -> state or nil */
static int get(lua_State *L) {
  struct flume_store_part *part = part_of(L);
  struct flume_lua_store *self = part->store;
  struct flume_err err;
  put_key(L, part, 1, flume_key_encode);
  self->value.len = 0;
  int rv = flume_store_get_group(self->store, self->key.data, self->key.len, &self->value, &err);
  if (rv == FLUME_ENOENT && self->base != NULL) {
    rv = flume_store_get_group(self->base, self->key.data, self->key.len, &self->value, &err);
  }
  if (rv == FLUME_ENOENT) return 0;
  if (rv != 0) return raise_error(L, &err);
  rv = flume_marshal_push(L, self->value.data, self->value.len);
  return rv == 0 ? 1 : luaL_error(L, "a group's state is damaged");
}

/* put(key, state or nil) */
static int put(lua_State *L) {
  struct flume_store_part *part = part_of(L);
  struct flume_lua_store *self = part->store;
  struct flume_err err;
  int rv;
  lua_settop(L, 2);
  put_key(L, part, 1, flume_key_encode);
  if (lua_isnil(L, 2)) {
    rv = flume_store_del_group(self->store, self->key.data, self->key.len, &err);
  } else {
    pack(L, 2, &self->value);
    rv = flume_store_put_group(self->store, self->key.data, self->key.len, self->value.data, self->value.len, &err);
    if (rv == 0 && part == &self->own) flume__store_note_group(self);
  }
  return rv == 0 ? 0 : raise_error(L, &err);
}

/* The bytes of an item; those of a record are not encoded again. */
static void get_item(lua_State *L, struct flume_lua_store *self, int index, const uint8_t **data, size_t *len) {
  uint32_t record_len;
  luaL_checkany(L, index);
  if (flume_record_bytes(L, index, data, &record_len)) {
    *len = record_len;
    return;
  }
  pack(L, index, &self->packed);
  *data = self->packed.data;
  *len = self->packed.len;
}

static int add(lua_State *L) {
  struct flume_store_part *part = part_of(L);
  struct flume_lua_store *self = part->store;
  struct flume_err err;
  const uint8_t *data;
  size_t len;
  get_item(L, self, 1, &data, &len);
  int rv = part == &self->own ? flume__store_aggregate_add(self, data, len, &err)
                              : flume_aggregate_add(part->aggregate, self->store, self->base, data, len, &err);
  return rv == 0 ? 0 : raise_error(L, &err);
}

/* (The C library has a function remove.) A used view takes nothing back. */
static int take_back(lua_State *L) {
  struct flume_lua_store *self = self_of(L);
  struct flume_err err;
  const uint8_t *data;
  size_t len;
  get_item(L, self, 1, &data, &len);
  return flume__store_aggregate_remove(self, data, len, &err) == 0 ? 0 : raise_error(L, &err);
}

/* rebuild(): the current record can't be taken back */
static int rebuild(lua_State *L) {
  self_of(L)->must_rebuild = true;
  return 0;
}

static int flush(lua_State *L) {
  struct flume_store_part *part = part_of(L);
  struct flume_err err;
  return flume_aggregate_flush(part->aggregate, part->store->store, &err) == 0 ? 0 : raise_error(L, &err);
}

static int forget(lua_State *L) {
  flume_aggregate_forget(part_of(L)->aggregate);
  return 0;
}

/* seq() -> the seq of the current or last record */
static int seq(lua_State *L) {
  lua_pushinteger(L, self_of(L)->seq);
  return 1;
}

/* id(key) -> the key's bytes */
static int id(lua_State *L) {
  struct flume_store_part *part = part_of(L);
  struct flume_lua_store *self = part->store;
  put_key(L, part, 1, flume_key_encode);
  lua_pushlstring(L, (const char *)self->key.data, self->key.len);
  return 1;
}

/* --- Ranges ----------------------------------------------------------------------------------------------------- */

static void raise_lower(lua_State *L, struct flume_lua_store *self, struct flume_store_range *range) {
  if (range->lower != NULL && flume__store_compare(self->key.data, self->key.len, range->lower, range->lower_len) <= 0)
    return;
  self->lower.len = 0;
  append(L, &self->lower, self->key.data, self->key.len);
  range->lower = self->lower.data;
  range->lower_len = self->lower.len;
}

static void lower_upper(lua_State *L, struct flume_lua_store *self, struct flume_store_range *range) {
  if (range->upper != NULL && flume__store_compare(self->key.data, self->key.len, range->upper, range->upper_len) >= 0)
    return;
  self->upper.len = 0;
  append(L, &self->upper, self->key.data, self->key.len);
  range->upper = self->upper.data;
  range->upper_len = self->upper.len;
}

/* Changes a prefix into the first bytes behind all keys with the prefix; false: there are none. */
static bool step_behind(struct flume_buf *prefix) {
  while (prefix->len > 0 && prefix->data[prefix->len - 1] == 0xff) prefix->len--;
  if (prefix->len == 0) return false;
  prefix->data[prefix->len - 1]++;
  return true;
}

/* Puts the field's value, as a key, into the scratch buffer; false when the table has none. */
static bool get_bound(lua_State *L, struct flume_store_part *part, int index, const char *name, encode_key encode) {
  if (lua_getfield(L, index, name) == LUA_TNIL) {
    lua_pop(L, 1);
    return false;
  }
  put_key(L, part, lua_gettop(L), encode);
  lua_pop(L, 1);
  return true;
}

/* All rows of the part. */
static void get_whole(lua_State *L, struct flume_store_part *part, struct flume_store_range *range) {
  static const uint8_t used = FLUME_USED_PREFIX;
  struct flume_lua_store *self = part->store;
  flume_store_range_init(range);
  if (part == &self->own) {
    range->upper = &used;
    range->upper_len = 1;
    return;
  }
  self->key.len = 0;
  append(L, &self->key, &part->prefix, part->prefix_len);
  raise_lower(L, self, range);
  self->key.data[0]++; /* the prefix is not the last that a byte can be */
  lower_upper(L, self, range);
}

void flume__store_get_range(lua_State *L, struct flume_store_part *part, int index, struct flume_store_range *range) {
  static const uint8_t behind = BEHIND;
  struct flume_lua_store *self = part->store;
  get_whole(L, part, range);
  if (lua_isnil(L, index)) return;
  luaL_checktype(L, index, LUA_TTABLE);
  if (get_bound(L, part, index, "gte", flume_key_encode)) raise_lower(L, self, range);
  if (get_bound(L, part, index, "gt", flume_key_encode)) {
    append(L, &self->key, &behind, 1);
    raise_lower(L, self, range);
  }
  if (get_bound(L, part, index, "lt", flume_key_encode)) lower_upper(L, self, range);
  if (get_bound(L, part, index, "lte", flume_key_encode)) {
    append(L, &self->key, &behind, 1);
    lower_upper(L, self, range);
  }
  if (get_bound(L, part, index, "prefix", flume_key_encode_prefix)) {
    raise_lower(L, self, range);
    if (step_behind(&self->key)) lower_upper(L, self, range);
  }
  lua_getfield(L, index, "reverse");
  range->reverse = lua_toboolean(L, -1);
  lua_pop(L, 1);
}

/* --- Reading ---------------------------------------------------------------------------------------------------- */

/* Replaces nil on top by null: a nil would be a hole in a list. */
static void null_for_nil(lua_State *L) {
  if (!lua_isnil(L, -1)) return;
  lua_pop(L, 1);
  lua_pushlightuserdata(L, NULL);
}

/* The key of a row. */
void flume__store_push_key(lua_State *L, struct flume_store_part *part, const uint8_t *key, size_t key_len) {
  const uint8_t *p = key + part->prefix_len;
  struct flume_buf *packed = &part->store->packed;
  packed->len = 0;
  int rv = flume_key_decode(&p, key + key_len, packed);
  if (rv == 0) rv = flume_marshal_push(L, packed->data, packed->len);
  if (rv != 0) luaL_error(L, "a key is damaged");
  null_for_nil(L);
}

/* Replaces the key on top by {key, seq [, value]}. */
void flume__store_make_item(lua_State *L, int64_t seq, const uint8_t *value, size_t value_len) {
  lua_createtable(L, value_len > 0 ? 3 : 2, 0);
  lua_insert(L, -2);
  lua_rawseti(L, -2, 1);
  lua_pushinteger(L, seq);
  lua_rawseti(L, -2, 2);
  if (value_len == 0) return;
  if (flume_marshal_push(L, value, value_len) != 0) luaL_error(L, "a value is damaged");
  null_for_nil(L);
  lua_rawseti(L, -2, 3);
}

/* The position of an entry: seq and ordinal, then the key. */
void flume__store_push_resume(lua_State *L, struct flume_store_part *part, const struct flume_store_entry *entry) {
  struct flume_buf *value = &part->store->value;
  uint8_t header[12];
  flume_put_le64(header, (uint64_t)entry->seq);
  flume_put_le32(header + 8, entry->ordinal);
  value->len = 0;
  append(L, value, header, sizeof header);
  append(L, value, entry->key, entry->key_len);
  lua_pushlstring(L, (const char *)value->data, value->len);
}

const uint8_t *flume__store_check_place(lua_State *L, int index, size_t *len) {
  const uint8_t *place = (const uint8_t *)luaL_checklstring(L, index, len);
  luaL_argcheck(L, *len >= 12, index, "no place in a range");
  return place;
}

void flume__store_resume(lua_State *L, struct flume_store_cursor *cursor, int index) {
  size_t len;
  const uint8_t *place = flume__store_check_place(L, index, &len);
  flume_store_cursor_resume(cursor, place + 12, len - 12, (int64_t)flume_get_le64(place), flume_get_le32(place + 8));
}

/* Stack indexes of the arguments of page, and of the values that page adds. */
enum {
  PAGE_RANGE = 1,
  PAGE_COUNT,
  PAGE_MIN_SEQ,
  PAGE_MAX_SEQ,
  PAGE_RESUME,
  PAGE_READER,
  PAGE_ITEMS = PAGE_READER + 2,
  PAGE_KEY
};

static int page(lua_State *L) {
  struct flume_store_part *part = part_of(L);
  struct flume_store_range range;
  struct flume_store_reader reader;
  struct flume_err err;
  struct flume_store_entry entry;
  bool has_key = false; /* that of the entry is in PAGE_KEY */
  lua_settop(L, PAGE_RESUME);
  lua_Integer count = luaL_checkinteger(L, PAGE_COUNT), found = 0;
  int64_t min_seq = luaL_optinteger(L, PAGE_MIN_SEQ, INT64_MIN);
  flume__store_get_range(L, part, PAGE_RANGE, &range);
  range.max_seq = luaL_optinteger(L, PAGE_MAX_SEQ, INT64_MAX);
  flume__store_push_reader(L, part, &range, &reader);
  lua_createtable(L, count < 16 ? (int)count : 16, 0);
  lua_pushnil(L);
  if (!lua_isnil(L, PAGE_RESUME)) {
    flume__store_resume(L, reader.own, PAGE_RESUME);
    if (reader.base != NULL) flume__store_resume(L, reader.base, PAGE_RESUME);
  }
  int rv = 0;
  while (found < count && (rv = flume__store_read(&reader, &entry, &err)) == 1) {
    has_key = has_key && entry.is_same_key;
    if (entry.seq < min_seq && part->kind == FLUME_STORE_INDEX) continue;
    if (has_key && !lua_istable(L, PAGE_KEY)) {
      lua_pushvalue(L, PAGE_KEY);
    } else {
      flume__store_push_key(L, part, entry.key, entry.key_len);
      lua_copy(L, -1, PAGE_KEY);
      has_key = true;
    }
    flume__store_make_item(L, entry.seq, entry.value, entry.value_len);
    lua_rawseti(L, PAGE_ITEMS, ++found);
  }
  if (rv < 0) return raise_error(L, &err);
  lua_pushvalue(L, PAGE_ITEMS);
  if (rv == 1) flume__store_push_resume(L, part, &entry);
  else lua_pushnil(L);
  flume__store_close_reader(L, PAGE_READER);
  return 2;
}

/* newest(key) -> the value or nil, and the seq, of the last entry of a key; nil: no entry */
static int newest(lua_State *L) {
  static const uint8_t behind = BEHIND;
  struct flume_store_part *part = part_of(L);
  struct flume_lua_store *self = part->store;
  struct flume_store_range range;
  struct flume_store_reader reader;
  struct flume_store_entry entry;
  struct flume_err err;
  lua_settop(L, 1);
  flume_store_range_init(&range);
  put_key(L, part, 1, flume_key_encode);
  raise_lower(L, self, &range);
  append(L, &self->key, &behind, 1);
  lower_upper(L, self, &range);
  range.reverse = true;
  flume__store_push_reader(L, part, &range, &reader);
  int rv = flume__store_read(&reader, &entry, &err);
  if (rv < 0) return raise_error(L, &err);
  if (rv == 0 || entry.value_len == 0) lua_pushnil(L);
  else if (flume_marshal_push(L, entry.value, entry.value_len) != 0) return luaL_error(L, "a value is damaged");
  if (rv == 1) lua_pushinteger(L, entry.seq);
  flume__store_close_reader(L, 2);
  return 1 + rv;
}

static int count(lua_State *L) {
  struct flume_store_part *part = part_of(L);
  struct flume_store_range range;
  struct flume_err err;
  lua_settop(L, 2);
  flume__store_get_range(L, part, 1, &range);
  range.max_seq = luaL_optinteger(L, 2, INT64_MAX);
  int64_t entries = flume__store_count(part, &range, &err);
  if (entries < 0) return raise_error(L, &err);
  lua_pushinteger(L, entries);
  return 1;
}

/* --- Following -------------------------------------------------------------------------------------------------- */

static int follow(lua_State *L) {
  struct flume_lua_store *self = self_of(L);
  struct flume_recent *recent = &self->recent;
  if (recent->readers == 0) recent->from_seq = self->seq + 1;
  recent->readers = (uint32_t)((lua_Integer)recent->readers + luaL_checkinteger(L, 1));
  if (recent->readers > 0) return 0;
  recent->from_seq = INT64_MAX;
  flume_buf_fini(&recent->entries);
  return 0;
}

static bool is_in(const struct flume_store_range *range, const struct flume_emitted *entry) {
  return (range->lower == NULL ||
          flume__store_compare(entry->key, entry->key_len, range->lower, range->lower_len) >= 0) &&
         (range->upper == NULL || flume__store_compare(entry->key, entry->key_len, range->upper, range->upper_len) < 0);
}

/* within(range, key) -> whether the key is in the range */
static int within(lua_State *L) {
  struct flume_store_part *part = part_of(L);
  struct flume_lua_store *self = part->store;
  struct flume_store_range range;
  lua_settop(L, 2);
  flume__store_get_range(L, part, 1, &range);
  put_key(L, part, 2, flume_key_encode);
  struct flume_emitted entry = {.key = self->key.data, .key_len = self->key.len};
  lua_pushboolean(L, is_in(&range, &entry));
  return 1;
}

/* since() -> integer */
static int since(lua_State *L) {
  lua_pushinteger(L, self_of(L)->seq);
  return 1;
}

/* recent(range, from_seq) -> items, and from_seq of the next call | nil */
static int recent(lua_State *L) {
  struct flume_store_part *part = part_of(L);
  struct flume_lua_store *self = part->store;
  const struct flume_recent *recent = &self->recent;
  struct flume_store_range range;
  lua_settop(L, 2);
  int64_t from_seq = luaL_checkinteger(L, 2), next_seq = from_seq;
  if (recent->readers == 0 || from_seq < recent->from_seq) return 0;
  flume__store_get_range(L, part, 1, &range);
  lua_newtable(L);
  lua_Integer found = 0;
  for (size_t at = 0; at < recent->entries.len;) {
    int64_t seq = (int64_t)flume_get_le64(recent->entries.data + at);
    size_t len = flume_get_le64(recent->entries.data + at + 8), off = 0;
    struct flume_buf entries = {.data = recent->entries.data + at + FLUME_RECENT_HEADER_BYTES, .len = len};
    struct flume_emitted entry;
    at += FLUME_RECENT_HEADER_BYTES + len;
    if (seq < from_seq) continue;
    while (flume__emitted_next(&entries, &off, &entry)) {
      if (!is_in(&range, &entry)) continue;
      flume__store_push_key(L, part, entry.key, entry.key_len);
      flume__store_make_item(L, seq, entry.value, entry.value_len);
      lua_rawseti(L, -2, ++found);
    }
    next_seq = seq + 1;
  }
  lua_pushinteger(L, next_seq);
  return 2;
}

/* --- The table ---------------------------------------------------------------------------------------------------- */

void flume__store_push_functions(lua_State *L, int part, int owner) {
  static const luaL_Reg functions[] = {{"emit", emit},
                                       {"get", get},
                                       {"put", put},
                                       {"id", id},
                                       {"page", page},
                                       {"count", count},
                                       {"recent", recent},
                                       {"follow", follow},
                                       {"seq", seq},
                                       {"add", add},
                                       {"remove", take_back},
                                       {"flush", flush},
                                       {"forget", forget},
                                       {"rebuild", rebuild},
                                       {"within", within},
                                       {"since", since},
                                       {"newest", newest},
                                       {"used", flume__store_used},
                                       {"used_note", flume__store_used_note},
                                       {NULL, NULL}};
  luaL_newlibtable(L, functions);
  lua_pushvalue(L, part);
  lua_pushvalue(L, owner);
  luaL_setfuncs(L, functions, 2);
}

void flume__store_push(lua_State *L, struct flume_lua_store *self, int owner) {
  int top = lua_gettop(L);
  lua_pushlightuserdata(L, &self->own);
  if (owner != 0) lua_pushvalue(L, owner);
  else lua_pushnil(L);
  flume__store_push_functions(L, top + 1, top + 2);
  lua_replace(L, top + 1);
  lua_settop(L, top + 1);
}
