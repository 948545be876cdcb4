/* The parts of used views in a view's store: one userdata for each, which its functions hold. */
#include <lauxlib.h>
#include <string.h>

#include "lua/view/lua_aggregate.h"
#include "lua/view/lua_key_path.h"
#include "lua/view/view_store.h"

#define PART_TYPE "flume.store.part"

static int part_gc(lua_State *L) {
  struct flume_store_part *part = lua_touserdata(L, 1);
  flume_extract_free(part->extract);
  flume_aggregate_free(part->aggregate);
  flume_io_free(&flume_io_posix, part->skips);
  part->extract = NULL;
  part->aggregate = NULL;
  part->skips = NULL;
  return 0;
}

/* The part of the view whose name is at index. */
static struct flume_store_part *push_part(lua_State *L, struct flume_lua_store *self, lua_Integer number, int name) {
  struct flume_store_part *part = lua_newuserdatauv(L, sizeof *part, 1);
  *part = (struct flume_store_part){.store = self,
                                    .kind = FLUME_STORE_GROUPS,
                                    .prefix = (uint8_t)(FLUME_USED_PREFIX + number - 1),
                                    .prefix_len = 1,
                                    .name = luaL_checkstring(L, name)};
  if (luaL_newmetatable(L, PART_TYPE)) {
    lua_pushcfunction(L, part_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  lua_pushvalue(L, name);
  lua_setiuservalue(L, -2, 1);
  return part;
}

/* The list at index. */
static void take_skips(lua_State *L, struct flume_store_part *part, int index) {
  size_t count = lua_rawlen(L, index);
  if (count == 0) return;
  part->skips = flume_io_alloc(&flume_io_posix, count * sizeof *part->skips);
  if (part->skips == NULL) {
    luaL_error(L, "not enough memory");
    return;
  }
  part->skips_count = count;
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, index, (lua_Integer)i + 1);
    part->skips[i] = lua_tointeger(L, -1);
    lua_pop(L, 1);
  }
}

/* Reads the kind of the host at index. */
static int meet_used(lua_State *L, struct flume_store_part *part, int index, struct flume_err *err) {
  lua_getfield(L, index, "kind");
  if (strcmp(luaL_checkstring(L, -1), "index") == 0) part->kind = FLUME_STORE_INDEX;
  lua_pop(L, 1);
  int rv = part->kind == FLUME_STORE_INDEX ? flume__extract_make(L, index, &part->extract, err)
                                           : flume__aggregate_make(L, index, &part->aggregate, err);
  if (rv == 0 && part->aggregate != NULL) {
    rv = flume_aggregate_prefix(part->aggregate, &part->prefix, part->prefix_len, err);
  }
  part->in_core = part->store->is_plain && (part->extract != NULL || part->aggregate != NULL);
  return rv;
}

/* used(number, host, name, skips); the store need not be open yet */
int flume__store_used(lua_State *L) {
  struct flume_lua_store *self = ((struct flume_store_part *)lua_touserdata(L, lua_upvalueindex(1)))->store;
  struct flume_err err;
  lua_Integer number = luaL_checkinteger(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  luaL_checktype(L, 4, LUA_TTABLE);
  lua_settop(L, 4);
  luaL_argcheck(L, number >= 1 && number <= FLUME_USED_MAX && number <= self->used_count + 1, 1, "the next number");
  struct flume_store_part *part = push_part(L, self, number, 3);
  take_skips(L, part, 4);
  if (meet_used(L, part, 2, &err) != 0) return luaL_error(L, "%s", err.msg);
  flume__store_push_functions(L, 5, lua_upvalueindex(2));
  self->used[number - 1] = part;
  self->used_count = (unsigned)number;
  return 1;
}

/* used_note([text]) -> the text that is stored there, or nil */
int flume__store_used_note(lua_State *L) {
  static const uint8_t key = FLUME_USED_PREFIX + FLUME_USED_MAX;
  struct flume_lua_store *self = ((struct flume_store_part *)lua_touserdata(L, lua_upvalueindex(1)))->store;
  struct flume_err err;
  size_t len;
  int rv;
  flume__store_await(self);
  if (lua_isnoneornil(L, 1)) {
    self->value.len = 0;
    rv = flume_store_get_group(self->store, &key, 1, &self->value, &err);
    if (rv == FLUME_ENOENT) return 0;
    if (rv == 0) lua_pushlstring(L, (const char *)self->value.data, self->value.len);
  } else {
    const char *text = luaL_checklstring(L, 1, &len);
    rv = flume_store_put_group(self->store, &key, 1, text, len, &err);
    lua_settop(L, 1);
  }
  return rv == 0 ? 1 : luaL_error(L, "%s", err.msg);
}
