#include "store.h"

#include <lauxlib.h>

#include "../core/bytes.h"
#include "../core/key.h"
#include "budget.h"
#include "marshal.h"

#define BEHIND 0xff /* a byte that puts a bound behind a key, see struct flume_store_range */
#define USED 0xff   /* the first byte of rows that are behind all keys, see put_used */
#define ENTRY_HEADER_BYTES 8
#define EMITTED_BYTES_PER_STEP 8
#define RECENT_HEADER_BYTES 16 /* seq, and bytes of entries */

int flume__store_init(struct flume_lua_store *self, const struct flume_io *io) {
  *self = (struct flume_lua_store){.seq = -1, .recent = {.from_seq = INT64_MAX}};
  flume_buf_init(&self->emitted, io);
  flume_buf_init(&self->recent.entries, io);
  flume_buf_init(&self->packed, io);
  flume_buf_init(&self->key, io);
  flume_buf_init(&self->value, io);
  flume_buf_init(&self->lower, io);
  flume_buf_init(&self->upper, io);
  return uv_mutex_init(&self->guard);
}

void flume__store_fini(struct flume_lua_store *self) {
  if (self->store != NULL) flume_store_close(self->store);
  self->store = NULL;
  flume_aggregate_free(self->aggregate);
  self->aggregate = NULL;
  flume_buf_fini(&self->emitted);
  flume_buf_fini(&self->recent.entries);
  flume_buf_fini(&self->packed);
  flume_buf_fini(&self->key);
  flume_buf_fini(&self->value);
  flume_buf_fini(&self->lower);
  flume_buf_fini(&self->upper);
  uv_mutex_destroy(&self->guard);
}

/* --- Who is at it ------------------------------------------------------------------------------------------------- */

void flume__store_announce(struct flume_lua_store *self) {
  uv_mutex_lock(&self->guard);
  self->has_writer = true;
  self->is_read = false;
  uv_mutex_unlock(&self->guard);
}

void flume__store_await(struct flume_lua_store *self) {
  uv_mutex_lock(&self->guard);
  self->is_read = self->has_writer;
  uv_mutex_unlock(&self->guard);
}

bool flume__store_begin_write(struct flume_lua_store *self) {
  uv_mutex_lock(&self->guard);
  if (!self->is_read) return true;
  self->has_writer = false;
  uv_mutex_unlock(&self->guard);
  return false;
}

void flume__store_end_write(struct flume_lua_store *self) {
  self->has_writer = false;
  uv_mutex_unlock(&self->guard);
}

/* --- What a record emits ---------------------------------------------------------------------------------------- */

int flume__emitted_add(struct flume_buf *emitted, const struct flume_buf *key, const struct flume_buf *value) {
  uint8_t header[ENTRY_HEADER_BYTES];
  int rv = flume_buf_reserve(emitted, sizeof header + key->len + value->len);
  if (rv != 0) return rv;
  flume_put_le32(header, (uint32_t)key->len);
  flume_put_le32(header + 4, (uint32_t)value->len);
  flume_buf_append(emitted, header, sizeof header);
  flume_buf_append(emitted, key->data, key->len);
  flume_buf_append(emitted, value->data, value->len);
  return 0;
}

bool flume__emitted_next(const struct flume_buf *emitted, size_t *off, struct flume_emitted *entry) {
  if (*off >= emitted->len) return false;
  const uint8_t *header = emitted->data + *off;
  entry->key_len = flume_get_le32(header);
  entry->value_len = flume_get_le32(header + 4);
  entry->key = header + ENTRY_HEADER_BYTES;
  entry->value = entry->key + entry->key_len;
  *off += ENTRY_HEADER_BYTES + entry->key_len + entry->value_len;
  return true;
}

/* For those who follow: the entries of the record, behind its seq and their length. When that becomes too much, it is
 * all let go of, and who follows reads the range anew. */
static void note_recent(struct flume_lua_store *self) {
  struct flume_recent *recent = &self->recent;
  uint8_t header[RECENT_HEADER_BYTES];
  if (recent->readers == 0 || self->emitted.len == 0) return;
  flume_put_le64(header, (uint64_t)self->seq);
  flume_put_le64(header + 8, self->emitted.len);
  bool fits = recent->entries.len + self->emitted.len <= FLUME_RECENT_MAX_BYTES;
  if (fits && flume_buf_reserve(&recent->entries, sizeof header + self->emitted.len) == 0) {
    flume_buf_append(&recent->entries, header, sizeof header);
    flume_buf_append(&recent->entries, self->emitted.data, self->emitted.len);
    return;
  }
  flume__store_forget_recent(self);
}

void flume__store_forget_recent(struct flume_lua_store *self) {
  self->recent.entries.len = 0;
  if (self->recent.readers > 0) self->recent.from_seq = self->seq + 1;
}

/* The record is not one of those that came of late any more. */
static void drop_recent(struct flume_lua_store *self, int64_t seq) {
  struct flume_buf *entries = &self->recent.entries;
  for (size_t at = 0; at < entries->len;) {
    size_t len = RECENT_HEADER_BYTES + flume_get_le64(entries->data + at + 8);
    if ((int64_t)flume_get_le64(entries->data + at) != seq) {
      at += len;
      continue;
    }
    memmove(entries->data + at, entries->data + at + len, entries->len - at - len);
    entries->len -= len;
  }
}

/* A group that has changed, in self->key and self->value. */
static void note_group(struct flume_lua_store *self) {
  if (self->recent.readers == 0) return;
  self->emitted.len = 0;
  if (flume__emitted_add(&self->emitted, &self->key, &self->value) == 0) note_recent(self);
  self->emitted.len = 0;
}

int flume__store_aggregate_add(struct flume_lua_store *self, const uint8_t *record, size_t len, struct flume_err *err) {
  int rv = flume_aggregate_add(self->aggregate, self->store, self->base, record, len, err);
  if (rv != 0 || self->recent.readers == 0) return rv;
  self->key.len = self->value.len = 0;
  rv = flume_aggregate_last(self->aggregate, &self->key, &self->value);
  if (rv < 0) return flume_err_nomem(err);
  if (rv == 1) note_group(self);
  return 0;
}

int flume__store_aggregate_remove(struct flume_lua_store *self, const uint8_t *record, size_t len,
                                  struct flume_err *err) {
  int rv = flume_aggregate_remove(self->aggregate, self->store, self->base, record, len, err);
  if (rv != FLUME_EAGAIN) return rv;
  self->must_rebuild = true;
  return 0;
}

int flume__store_add_emitted(struct flume_lua_store *self, struct flume_err *err) {
  struct flume_emitted entry;
  size_t off = 0;
  int rv = 0;
  while (rv == 0 && flume__emitted_next(&self->emitted, &off, &entry)) {
    rv = flume_store_add_entry(self->store, entry.key, entry.key_len, self->seq, entry.value, entry.value_len, err);
  }
  if (rv == 0) note_recent(self);
  self->emitted.len = 0;
  return rv;
}

int flume__store_remove_emitted(struct flume_lua_store *self, struct flume_err *err) {
  struct flume_emitted entry;
  size_t off = 0;
  int rv = 0;
  while (rv == 0 && flume__emitted_next(&self->emitted, &off, &entry)) {
    rv = flume_store_remove_entries(self->store, entry.key, entry.key_len, self->seq, err);
  }
  drop_recent(self, self->seq);
  self->emitted.len = 0;
  return rv;
}

/* --- Values and keys -------------------------------------------------------------------------------------------- */

static struct flume_lua_store *self_of(lua_State *L) {
  struct flume_lua_store *self = lua_touserdata(L, lua_upvalueindex(1));
  flume__store_await(self);
  if (self->store == NULL) luaL_error(L, "the view is closed");
  return self;
}

static int raise_error(lua_State *L, const struct flume_err *err) {
  return luaL_error(L, "%s", err->msg);
}

static void pack(lua_State *L, int index, struct flume_buf *out) {
  struct flume_err err;
  out->len = 0;
  if (flume_marshal_encode_sorted(L, index, out, &err) != 0) raise_error(L, &err);
}

typedef int (*encode_key)(const uint8_t *value, size_t len, struct flume_buf *out, struct flume_err *err);

static void put_key(lua_State *L, struct flume_lua_store *self, int index, struct flume_buf *out, encode_key encode) {
  struct flume_err err;
  pack(L, index, &self->packed);
  out->len = 0;
  if (encode(self->packed.data, self->packed.len, out, &err) != 0) raise_error(L, &err);
}

/* emit(key [, value]); null is no value, as it would become nil on its way to who reads it */
static int emit(lua_State *L) {
  struct flume_lua_store *self = lua_touserdata(L, lua_upvalueindex(1));
  lua_settop(L, 2);
  put_key(L, self, 1, &self->key, flume_key_encode);
  self->value.len = 0;
  bool is_null = lua_islightuserdata(L, 2) && lua_touserdata(L, 2) == NULL;
  if (!lua_isnil(L, 2) && !is_null) pack(L, 2, &self->value);
  struct flume_budget *budget = flume_budget_of(L);
  flume_budget_charge(L, budget, (self->key.len + self->value.len) / EMITTED_BYTES_PER_STEP);
  flume_budget_check_bytes(L, budget, self->emitted.len);
  if (flume__emitted_add(&self->emitted, &self->key, &self->value) != 0) return luaL_error(L, "not enough memory");
  return 0;
}

static int push_group(lua_State *L, struct flume_lua_store *self) {
  struct flume_err err;
  self->value.len = 0;
  int rv = flume_store_get_group(self->store, self->key.data, self->key.len, &self->value, &err);
  if (rv == FLUME_ENOENT && self->base != NULL) {
    rv = flume_store_get_group(self->base, self->key.data, self->key.len, &self->value, &err);
  }
  if (rv == FLUME_ENOENT) return 0;
  if (rv == 0) rv = flume_marshal_push(L, self->value.data, self->value.len);
  else return raise_error(L, &err);
  return rv == 0 ? 1 : luaL_error(L, "a group's state is damaged");
}

static int get(lua_State *L) {
  struct flume_lua_store *self = self_of(L);
  put_key(L, self, 1, &self->key, flume_key_encode);
  return push_group(L, self);
}

static int put(lua_State *L) {
  struct flume_lua_store *self = self_of(L);
  struct flume_err err;
  int rv;
  lua_settop(L, 2);
  put_key(L, self, 1, &self->key, flume_key_encode);
  if (lua_isnil(L, 2)) {
    rv = flume_store_del_group(self->store, self->key.data, self->key.len, &err);
  } else {
    pack(L, 2, &self->value);
    rv = flume_store_put_group(self->store, self->key.data, self->key.len, self->value.data, self->value.len, &err);
    if (rv == 0) note_group(self);
  }
  return rv == 0 ? 0 : raise_error(L, &err);
}

typedef int (*change_aggregate)(struct flume_lua_store *self, const uint8_t *record, size_t len, struct flume_err *err);

/* An item that is not the record as it is in the log. */
static int change(lua_State *L, change_aggregate fn) {
  struct flume_lua_store *self = self_of(L);
  struct flume_err err;
  luaL_checkany(L, 1);
  pack(L, 1, &self->packed);
  return fn(self, self->packed.data, self->packed.len, &err) == 0 ? 0 : raise_error(L, &err);
}

static int add(lua_State *L) {
  return change(L, flume__store_aggregate_add);
}

/* (remove is a function of C.) */
static int take_back(lua_State *L) {
  return change(L, flume__store_aggregate_remove);
}

/* rebuild(): the record that is being taken back can't be */
static int rebuild(lua_State *L) {
  self_of(L)->must_rebuild = true;
  return 0;
}

static int flush(lua_State *L) {
  struct flume_lua_store *self = self_of(L);
  struct flume_err err;
  return flume_aggregate_flush(self->aggregate, self->store, &err) == 0 ? 0 : raise_error(L, &err);
}

static int forget(lua_State *L) {
  flume_aggregate_forget(self_of(L)->aggregate);
  return 0;
}

/* seq() -> of the record that is being folded, or was last */
static int seq(lua_State *L) {
  lua_pushinteger(L, self_of(L)->seq);
  return 1;
}

static int encode_used(const uint8_t *value, size_t len, struct flume_buf *out, struct flume_err *err) {
  static const uint8_t used = USED;
  if (flume_buf_append(out, &used, 1) != 0) return flume_err_nomem(err);
  return flume_key_encode(value, len, out, err);
}

static int get_used(lua_State *L) {
  struct flume_lua_store *self = self_of(L);
  put_key(L, self, 1, &self->key, encode_used);
  return push_group(L, self);
}

static int put_used(lua_State *L) {
  struct flume_lua_store *self = self_of(L);
  struct flume_err err;
  int rv;
  lua_settop(L, 2);
  put_key(L, self, 1, &self->key, encode_used);
  if (lua_isnil(L, 2)) {
    rv = flume_store_del_group(self->store, self->key.data, self->key.len, &err);
  } else {
    pack(L, 2, &self->value);
    rv = flume_store_put_group(self->store, self->key.data, self->key.len, self->value.data, self->value.len, &err);
  }
  return rv == 0 ? 0 : raise_error(L, &err);
}

/* id(key) -> the key's bytes */
static int id(lua_State *L) {
  struct flume_lua_store *self = self_of(L);
  put_key(L, self, 1, &self->key, flume_key_encode);
  lua_pushlstring(L, (const char *)self->key.data, self->key.len);
  return 1;
}

/* --- Ranges ----------------------------------------------------------------------------------------------------- */

static int compare(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len) {
  size_t len = a_len < b_len ? a_len : b_len;
  int order = len > 0 ? memcmp(a, b, len) : 0;
  return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

static void append(lua_State *L, struct flume_buf *buf, const void *data, size_t len) {
  if (flume_buf_append(buf, data, len) != 0) luaL_error(L, "not enough memory");
}

static void raise_lower(lua_State *L, struct flume_lua_store *self, struct flume_store_range *range) {
  if (range->lower != NULL && compare(self->key.data, self->key.len, range->lower, range->lower_len) <= 0) return;
  self->lower.len = 0;
  append(L, &self->lower, self->key.data, self->key.len);
  range->lower = self->lower.data;
  range->lower_len = self->lower.len;
}

static void lower_upper(lua_State *L, struct flume_lua_store *self, struct flume_store_range *range) {
  if (range->upper != NULL && compare(self->key.data, self->key.len, range->upper, range->upper_len) >= 0) return;
  self->upper.len = 0;
  append(L, &self->upper, self->key.data, self->key.len);
  range->upper = self->upper.data;
  range->upper_len = self->upper.len;
}

/* Makes of the bytes that keys begin with the first ones behind all of them; false when there are none. */
static bool step_behind(struct flume_buf *prefix) {
  while (prefix->len > 0 && prefix->data[prefix->len - 1] == 0xff) prefix->len--;
  if (prefix->len == 0) return false;
  prefix->data[prefix->len - 1]++;
  return true;
}

/* Puts the field's value, as a key, into self->key; false when the table has none. */
static bool get_bound(lua_State *L, struct flume_lua_store *self, int index, const char *name, encode_key encode) {
  if (lua_getfield(L, index, name) == LUA_TNIL) {
    lua_pop(L, 1);
    return false;
  }
  put_key(L, self, lua_gettop(L), &self->key, encode);
  lua_pop(L, 1);
  return true;
}

void flume__store_get_range(lua_State *L, struct flume_lua_store *self, int index, struct flume_store_range *range) {
  static const uint8_t behind = BEHIND, used = USED;
  flume_store_range_init(range);
  if (self->kind == FLUME_STORE_GROUPS) {
    range->upper = &used;
    range->upper_len = 1;
  }
  if (lua_isnil(L, index)) return;
  luaL_checktype(L, index, LUA_TTABLE);
  if (get_bound(L, self, index, "gte", flume_key_encode)) raise_lower(L, self, range);
  if (get_bound(L, self, index, "gt", flume_key_encode)) {
    append(L, &self->key, &behind, 1);
    raise_lower(L, self, range);
  }
  if (get_bound(L, self, index, "lt", flume_key_encode)) lower_upper(L, self, range);
  if (get_bound(L, self, index, "lte", flume_key_encode)) {
    append(L, &self->key, &behind, 1);
    lower_upper(L, self, range);
  }
  if (get_bound(L, self, index, "prefix", flume_key_encode_prefix)) {
    raise_lower(L, self, range);
    if (step_behind(&self->key)) lower_upper(L, self, range);
  }
  lua_getfield(L, index, "reverse");
  range->reverse = lua_toboolean(L, -1);
  lua_pop(L, 1);
}

/* --- Reading ---------------------------------------------------------------------------------------------------- */

/* A cursor that an error closes. */
struct cursor_box {
  struct flume_store_cursor *cursor;
};

static int cursor_gc(lua_State *L) {
  struct cursor_box *box = lua_touserdata(L, 1);
  if (box->cursor != NULL) flume_store_cursor_close(box->cursor);
  box->cursor = NULL;
  return 0;
}

static struct cursor_box *push_cursor_box(lua_State *L) {
  struct cursor_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  box->cursor = NULL;
  if (luaL_newmetatable(L, "flume.store.cursor")) {
    lua_pushcfunction(L, cursor_gc);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "__gc");
    lua_setfield(L, -2, "__close");
  }
  lua_setmetatable(L, -2);
  lua_toclose(L, -1);
  return box;
}

/* Of the value on top: a nil in a list would be a hole. */
static void null_for_nil(lua_State *L) {
  if (!lua_isnil(L, -1)) return;
  lua_pop(L, 1);
  lua_pushlightuserdata(L, NULL);
}

static void push_key(lua_State *L, struct flume_lua_store *self, const uint8_t *key, size_t key_len) {
  const uint8_t *p = key;
  self->packed.len = 0;
  int rv = flume_key_decode(&p, key + key_len, &self->packed);
  if (rv == 0) rv = flume_marshal_push(L, self->packed.data, self->packed.len);
  if (rv != 0) luaL_error(L, "a key is damaged");
  null_for_nil(L);
}

/* Replaces the key on top by {key, seq [, value]}. */
static void make_item(lua_State *L, int64_t seq, const uint8_t *value, size_t value_len) {
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

struct flume_store_cursor **flume__store_push_cursor(lua_State *L) {
  return &push_cursor_box(L)->cursor;
}

/* Where an entry is: seq and ordinal, then the key. */
void flume__store_push_resume(lua_State *L, struct flume_lua_store *self, const struct flume_store_entry *entry) {
  uint8_t header[12];
  flume_put_le64(header, (uint64_t)entry->seq);
  flume_put_le32(header + 8, entry->ordinal);
  self->value.len = 0;
  append(L, &self->value, header, sizeof header);
  append(L, &self->value, entry->key, entry->key_len);
  lua_pushlstring(L, (const char *)self->value.data, self->value.len);
}

void flume__store_resume(lua_State *L, struct flume_store_cursor *cursor, int index) {
  size_t len;
  const uint8_t *place = (const uint8_t *)luaL_checklstring(L, index, &len);
  luaL_argcheck(L, len >= 12, index, "no place in a range");
  flume_store_cursor_resume(cursor, place + 12, len - 12, (int64_t)flume_get_le64(place), flume_get_le32(place + 8));
}

/* Where the arguments of page are, from the first on, and what it adds. */
enum { PAGE_RANGE, PAGE_COUNT, PAGE_MIN_SEQ, PAGE_MAX_SEQ, PAGE_RESUME, PAGE_BOX, PAGE_ITEMS, PAGE_KEY };

int flume__store_page(lua_State *L, struct flume_lua_store *self, int first) {
  struct flume_store_range range;
  struct flume_err err;
  struct flume_store_entry entry;
  const uint8_t *last_key = NULL;
  lua_settop(L, first + PAGE_RESUME);
  lua_Integer count = luaL_checkinteger(L, first + PAGE_COUNT), found = 0;
  int64_t min_seq = luaL_optinteger(L, first + PAGE_MIN_SEQ, INT64_MIN);
  flume__store_get_range(L, self, first + PAGE_RANGE, &range);
  range.max_seq = luaL_optinteger(L, first + PAGE_MAX_SEQ, INT64_MAX);
  struct cursor_box *box = push_cursor_box(L);
  lua_createtable(L, count < 16 ? (int)count : 16, 0);
  lua_pushnil(L);
  if (flume_store_cursor_open(&box->cursor, self->store, self->kind, &range, &err) != 0) return raise_error(L, &err);
  if (!lua_isnil(L, first + PAGE_RESUME)) flume__store_resume(L, box->cursor, first + PAGE_RESUME);
  int rv = 0;
  while (found < count && (rv = flume_store_cursor_next(box->cursor, &entry, &err)) == 1) {
    if (entry.seq < min_seq && self->kind == FLUME_STORE_INDEX) continue;
    if (entry.key == last_key && !lua_istable(L, first + PAGE_KEY)) { /* of the same row */
      lua_pushvalue(L, first + PAGE_KEY);
    } else {
      push_key(L, self, entry.key, entry.key_len);
      lua_copy(L, -1, first + PAGE_KEY);
      last_key = entry.key;
    }
    make_item(L, entry.seq, entry.value, entry.value_len);
    lua_rawseti(L, first + PAGE_ITEMS, ++found);
  }
  if (rv < 0) return raise_error(L, &err);
  lua_pushvalue(L, first + PAGE_ITEMS);
  if (rv == 1) flume__store_push_resume(L, self, &entry);
  else lua_pushnil(L);
  lua_closeslot(L, first + PAGE_BOX);
  return 2;
}

static int page(lua_State *L) {
  return flume__store_page(L, self_of(L), 1);
}

static int count(lua_State *L) {
  struct flume_lua_store *self = self_of(L);
  struct flume_store_range range;
  struct flume_err err;
  lua_settop(L, 2);
  flume__store_get_range(L, self, 1, &range);
  range.max_seq = luaL_optinteger(L, 2, INT64_MAX);
  int64_t entries = flume_store_count(self->store, self->kind, &range, &err);
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
  return (range->lower == NULL || compare(entry->key, entry->key_len, range->lower, range->lower_len) >= 0) &&
         (range->upper == NULL || compare(entry->key, entry->key_len, range->upper, range->upper_len) < 0);
}

/* within(range, key) -> whether the key is in the range */
static int within(lua_State *L) {
  struct flume_lua_store *self = self_of(L);
  struct flume_store_range range;
  lua_settop(L, 2);
  flume__store_get_range(L, self, 1, &range);
  put_key(L, self, 2, &self->key, flume_key_encode);
  struct flume_emitted entry = {.key = self->key.data, .key_len = self->key.len};
  lua_pushboolean(L, is_in(&range, &entry));
  return 1;
}

/* since() -> integer */
static int since(lua_State *L) {
  lua_pushinteger(L, self_of(L)->seq);
  return 1;
}

/* recent(range, from_seq) -> items, and the seq to ask for next | nil */
static int recent(lua_State *L) {
  struct flume_lua_store *self = self_of(L);
  const struct flume_recent *recent = &self->recent;
  struct flume_store_range range;
  lua_settop(L, 2);
  int64_t from_seq = luaL_checkinteger(L, 2), next_seq = from_seq;
  if (recent->readers == 0 || from_seq < recent->from_seq) return 0;
  flume__store_get_range(L, self, 1, &range);
  lua_newtable(L);
  lua_Integer found = 0;
  for (size_t at = 0; at < recent->entries.len;) {
    int64_t seq = (int64_t)flume_get_le64(recent->entries.data + at);
    size_t len = flume_get_le64(recent->entries.data + at + 8), off = 0;
    struct flume_buf entries = {.data = recent->entries.data + at + RECENT_HEADER_BYTES, .len = len};
    struct flume_emitted entry;
    at += RECENT_HEADER_BYTES + len;
    if (seq < from_seq) continue;
    while (flume__emitted_next(&entries, &off, &entry)) {
      if (!is_in(&range, &entry)) continue;
      push_key(L, self, entry.key, entry.key_len);
      make_item(L, seq, entry.value, entry.value_len);
      lua_rawseti(L, -2, ++found);
    }
    next_seq = seq + 1;
  }
  lua_pushinteger(L, next_seq);
  return 2;
}

void flume__store_push(lua_State *L, struct flume_lua_store *self, int owner) {
  static const luaL_Reg functions[] = {
      {"emit", emit},         {"get", get},           {"put", put},       {"id", id},           {"page", page},
      {"count", count},       {"recent", recent},     {"follow", follow}, {"seq", seq},         {"add", add},
      {"remove", take_back},  {"flush", flush},       {"forget", forget}, {"rebuild", rebuild}, {"within", within},
      {"get_used", get_used}, {"put_used", put_used}, {"since", since},   {NULL, NULL}};
  luaL_newlibtable(L, functions);
  lua_pushlightuserdata(L, self);
  if (owner != 0) lua_pushvalue(L, owner);
  else lua_pushnil(L);
  luaL_setfuncs(L, functions, 2);
}
