/* A run 1, 2, 3 … needs no preparation: behind i comes i + 1 as long as there is one. When there is none, the keys that
 * come later are listed and sorted, and that list is gone through. Fields that are cleared meanwhile are passed over.
 *
 * pairs keeps the list in its iterator. next, which is only given a key, keeps the one that it made last: a loop over next
 * makes it once. */
#include "lua/sandbox/lib_pairs.h"

#include <lauxlib.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "lua/value/budget.h"

#define STEPS_PER_KEY 8
#define INSERTED_MAX 12    /* so few are sorted by insertion */
#define USER_VALUES_MAX 64 /* so many keys of a list are user values */

enum rank { RANK_POSITIVE, RANK_INTEGER, RANK_FLOAT, RANK_STRING, RANK_BOOLEAN, RANK_OTHER };

struct key {
  enum rank rank;
  int slot; /* where the list has the key itself, from 1 */
  union {
    lua_Integer integer; /* 0 and 1 for booleans; equal for all others */
    lua_Number number;
    uint64_t prefix; /* of the string, so that it sorts as the string does */
  };
  const char *text; /* the string, as long as the key is in the table */
  size_t len;
};

/* A userdata. Its first user value is the table that the keys are of; the keys by slot follow: as user values, or when
 * there are many in a table. */
struct list {
  int count;
  int at; /* the key that was given last */
  struct key keys[];
};

/* --- Comparing --------------------------------------------------------------------------------------------------- */

static uint64_t prefix_of(const char *text, size_t len) {
  unsigned char bytes[8] = {0};
  uint64_t prefix = 0;
  memcpy(bytes, text, len < 8 ? len : 8);
  for (int i = 0; i < 8; i++) prefix = prefix << 8 | bytes[i];
  return prefix;
}

/* Fills in all but the slot. */
static void read_key(lua_State *L, int index, struct key *key) {
  key->integer = 0;
  switch (lua_type(L, index)) {
    case LUA_TNUMBER:
      if (!lua_isinteger(L, index)) {
        key->rank = RANK_FLOAT;
        key->number = lua_tonumber(L, index);
        break;
      }
      key->integer = lua_tointeger(L, index);
      key->rank = key->integer > 0 ? RANK_POSITIVE : RANK_INTEGER;
      break;
    case LUA_TSTRING:
      key->rank = RANK_STRING;
      key->text = lua_tolstring(L, index, &key->len);
      key->prefix = prefix_of(key->text, key->len);
      break;
    case LUA_TBOOLEAN:
      key->rank = RANK_BOOLEAN;
      key->integer = lua_toboolean(L, index);
      break;
    default: key->rank = RANK_OTHER; break;
  }
}

static int compare_text(const struct key *a, const struct key *b) {
  if (a->prefix != b->prefix) return a->prefix < b->prefix ? -1 : 1;
  int order = memcmp(a->text, b->text, a->len < b->len ? a->len : b->len);
  return order != 0 ? order : (a->len > b->len) - (a->len < b->len);
}

/* 0 for the same key, and for two of those that have no order. */
static int compare_value(const struct key *a, const struct key *b) {
  if (a->rank != b->rank) return a->rank < b->rank ? -1 : 1;
  if (a->rank == RANK_STRING) return compare_text(a, b);
  if (a->rank == RANK_FLOAT) return (a->number > b->number) - (a->number < b->number);
  return (a->integer > b->integer) - (a->integer < b->integer);
}

static int compare(const void *a, const void *b) {
  int order = compare_value(a, b);
  return order != 0 ? order : ((const struct key *)a)->slot - ((const struct key *)b)->slot;
}

static void sort(struct key *keys, int count) {
  if (count > INSERTED_MAX) {
    qsort(keys, (size_t)count, sizeof *keys, compare);
    return;
  }
  for (int i = 1; i < count; i++) {
    struct key key = keys[i];
    int to = i;
    for (; to > 0 && compare(&keys[to - 1], &key) > 0; to--) keys[to] = keys[to - 1];
    keys[to] = key;
  }
}

/* --- Listing ----------------------------------------------------------------------------------------------------- */

/* Whether the key at index is one of 1, 2 … last. */
static bool is_behind(lua_State *L, int index, lua_Integer last) {
  return lua_isinteger(L, index) && lua_tointeger(L, index) >= 1 && lua_tointeger(L, index) <= last;
}

/* How many keys there are, but for 1, 2 … last. */
static int count_keys(lua_State *L, int table, lua_Integer last) {
  uint64_t count = 0, all = 0;
  lua_pushnil(L);
  while (lua_next(L, table)) {
    lua_pop(L, 1);
    all++;
    if (!is_behind(L, -1, last)) count++;
  }
  flume_budget_charge(L, flume_budget_of(L), all + count * STEPS_PER_KEY);
  if (count > INT_MAX) luaL_error(L, "too many keys");
  return (int)count;
}

/* Pushes the list of the keys that come behind the one at index 2, or somewhat more; nil when there are none. */
static struct list *push_list(lua_State *L, int table) {
  lua_Integer last = lua_isinteger(L, 2) ? lua_tointeger(L, 2) : 0;
  luaL_checkstack(L, 8, NULL);
  int count = count_keys(L, table, last);
  if (count == 0) {
    lua_pushnil(L);
    return NULL;
  }
  bool is_small = count <= USER_VALUES_MAX;
  size_t bytes = sizeof(struct list) + (size_t)count * sizeof(struct key);
  struct list *list = lua_newuserdatauv(L, bytes, is_small ? 1 + count : 2);
  int at = lua_gettop(L), slot = 0;
  lua_pushvalue(L, table);
  lua_setiuservalue(L, at, 1);
  if (!is_small) lua_createtable(L, count, 0);
  list->count = count;
  list->at = -1;
  lua_pushnil(L);
  while (slot < count && lua_next(L, table)) {
    lua_pop(L, 1);
    if (is_behind(L, -1, last)) continue;
    struct key *key = &list->keys[slot++];
    read_key(L, -1, key);
    key->slot = slot;
    lua_pushvalue(L, -1);
    if (is_small) lua_setiuservalue(L, at, 1 + slot);
    else lua_rawseti(L, at + 1, slot);
  }
  if (!is_small) {
    lua_settop(L, at + 1);
    lua_setiuservalue(L, at, 2);
  }
  lua_settop(L, at);
  sort(list->keys, count);
  return list;
}

/* Pushes the key number i of the list, from 0. */
static void push_key(lua_State *L, const struct list *list, int list_index, int i) {
  int slot = list->keys[i].slot;
  if (list->count <= USER_VALUES_MAX) {
    lua_getiuservalue(L, list_index, 1 + slot);
    return;
  }
  lua_getiuservalue(L, list_index, 2);
  lua_rawgeti(L, -1, slot);
  lua_remove(L, -2);
}

/* Pushes the next key of the list that still has a value, and the value: 2. Nil when there is none: 1. */
static int give_next(lua_State *L, struct list *list, int list_index, int table) {
  while (++list->at < list->count) {
    push_key(L, list, list_index, list->at);
    lua_pushvalue(L, -1);
    if (lua_rawget(L, table) != LUA_TNIL) return 2;
    lua_pop(L, 2);
  }
  lua_pushnil(L);
  return 1;
}

/* Pushes the positive integer behind the key at index 2 (nil at the start) and its value: whether there is one. */
static bool give_element(lua_State *L) {
  lua_Integer i = 0;
  if (lua_isinteger(L, 2)) {
    i = lua_tointeger(L, 2);
    if (i < 1 || i == LUA_MAXINTEGER) return false;
  } else if (!lua_isnil(L, 2)) {
    return false;
  }
  lua_pushinteger(L, i + 1);
  if (lua_rawgeti(L, 1, i + 1) != LUA_TNIL) return true;
  lua_pop(L, 2);
  return false;
}

/* --- pairs ------------------------------------------------------------------------------------------------------- */

#define LIST lua_upvalueindex(1) /* nil before it is needed */

static int iterate(lua_State *L) {
  struct list *list = lua_touserdata(L, LIST);
  if (list == NULL) {
    lua_settop(L, 2);
    if (give_element(L)) return 2;
    list = push_list(L, 1);
    if (list == NULL) return 1;
    lua_replace(L, LIST);
  }
  return give_next(L, list, LIST, 1);
}

static int pairs(lua_State *L) {
  luaL_checkany(L, 1);
  if (luaL_getmetafield(L, 1, "__pairs") != LUA_TNIL) {
    lua_pushvalue(L, 1);
    lua_call(L, 1, 3);
    return 3;
  }
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_pushnil(L);
  lua_pushcclosure(L, iterate, 1);
  lua_pushvalue(L, 1);
  lua_pushnil(L);
  return 3;
}

/* --- next -------------------------------------------------------------------------------------------------------- */

/* The first of keys that have no order is only found again in a list, once it has been cleared. */
static int give_first_of_list(lua_State *L) {
  lua_pushnil(L);
  lua_replace(L, 2);
  struct list *list = push_list(L, 1);
  lua_replace(L, LIST);
  return give_next(L, list, LIST, 1);
}

/* Pushes the first key and its value: without a list, since it may be all that is asked for. */
static int give_first(lua_State *L) {
  struct key first = {.rank = RANK_OTHER}, key;
  uint64_t count = 0;
  lua_settop(L, 2); /* where the first key so far is */
  lua_pushnil(L);
  while (lua_next(L, 1)) {
    lua_pop(L, 1);
    read_key(L, -1, &key);
    if (count++ > 0 && compare_value(&key, &first) >= 0) continue;
    first = key;
    lua_copy(L, -1, 2);
  }
  flume_budget_charge(L, flume_budget_of(L), count * STEPS_PER_KEY);
  if (count == 0) {
    lua_pushnil(L);
    return 1;
  }
  if (first.rank == RANK_OTHER) return give_first_of_list(L);
  lua_pushvalue(L, 2);
  lua_pushvalue(L, 2);
  lua_rawget(L, 1);
  return 2;
}

/* The list that next made last, if it is of the table at index 1; else NULL. */
static struct list *list_of_table(lua_State *L) {
  struct list *list = lua_touserdata(L, LIST);
  if (list == NULL) return NULL;
  lua_getiuservalue(L, LIST, 1);
  bool is_same = lua_rawequal(L, -1, 1);
  lua_pop(L, 1);
  return is_same ? list : NULL;
}

static void forget_list(lua_State *L) {
  lua_pushnil(L);
  lua_replace(L, LIST);
}

static bool is_key_at(lua_State *L, const struct list *list, int i, const struct key *key) {
  if (key->rank != RANK_OTHER) return compare_value(&list->keys[i], key) == 0;
  push_key(L, list, LIST, i);
  bool is_same = lua_rawequal(L, -1, 2);
  lua_pop(L, 1);
  return is_same;
}

/* Moves the list on to the key at index 2, which may have been cleared. False: it stands behind that, or has not got a
 * key that it should have. */
static bool go_to_key(lua_State *L, struct list *list) {
  struct key key;
  read_key(L, 2, &key);
  int at = list->at;
  if (at >= 0 && is_key_at(L, list, at, &key)) return true;
  if (at >= 0 && compare_value(&list->keys[at], &key) > 0) return false;
  while (++at < list->count && compare_value(&list->keys[at], &key) <= 0) {
    list->at = at;
    if (is_key_at(L, list, at, &key)) return true;
  }
  return key.rank != RANK_OTHER;
}

/* next(table [, key]) */
static int next(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 2);
  struct list *list = list_of_table(L);
  if (lua_isnil(L, 2) && list != NULL) forget_list(L);
  if (give_element(L)) return 2;
  if (lua_isnil(L, 2)) return give_first(L);
  if (list == NULL || !go_to_key(L, list)) {
    list = push_list(L, 1);
    lua_replace(L, LIST);
    if (list != NULL && !go_to_key(L, list)) luaL_error(L, "invalid key to 'next'");
  }
  if (list != NULL && give_next(L, list, LIST, 1) == 2) return 2;
  forget_list(L);
  lua_pushnil(L);
  return 1;
}

void flume__order_open(lua_State *L) {
  lua_pushcfunction(L, pairs);
  lua_setfield(L, -2, "pairs");
  lua_pushnil(L);
  lua_pushcclosure(L, next, 1);
  lua_setfield(L, -2, "next");
}
