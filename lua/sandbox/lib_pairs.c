/* A run 1, 2, 3 … needs no preparation: behind i comes i + 1 as long as there is one. When there is none, the keys that
 * come later are listed and sorted, and the list is gone through. Fields that are cleared meanwhile are passed over.
 *
 * A list has the smallest keys, and at most FIRST_MAX of them, so that a loop that ends early is cheap. Behind its last key
 * the next list is made, of at most NEXT_MAX keys. Keys without an order (tables, functions …) come last, all in one list.
 *
 * pairs keeps the list in its iterator. next, which is only given a key, keeps the list that it made last: a loop over next
 * makes it once. */
#include "lua/sandbox/lib_pairs.h"

#include <assert.h>
#include <lauxlib.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "lua/value/budget.h"

#define STEPS_PER_KEY 8
#define INSERTED_MAX 12    /* so few are sorted by insertion */
#define USER_VALUES_MAX 64 /* so many keys of a list are user values */
#define FIRST_MAX 65536
#define NEXT_MAX 524288

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
  int count;        /* room */
  int given;        /* keys */
  int at;           /* the key that was given last */
  uint64_t ordered; /* keys that come behind the list, at most: of those with an order, */
  uint64_t others;  /* and without */
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

/* What a list is to have: the keys behind 1, 2 … last, and behind `after` when has_after. */
struct wanted {
  lua_Integer last;
  bool has_after;
  struct key after;
  bool only_ordered; /* keys */
  bool only_others;
};

static bool is_wanted(lua_State *L, const struct wanted *wanted, struct key *key) {
  if (is_behind(L, -1, wanted->last)) return false;
  read_key(L, -1, key);
  if (key->rank == RANK_OTHER ? wanted->only_ordered : wanted->only_others) return false;
  return !wanted->has_after || compare_value(key, &wanted->after) > 0;
}

/* How many keys are wanted, with and without an order. */
static void count_keys(lua_State *L, int table, const struct wanted *wanted, uint64_t *ordered, uint64_t *others) {
  struct flume_budget *budget = flume_budget_of(L);
  uint64_t all = 0;
  struct key key;
  *ordered = *others = 0;
  lua_pushnil(L);
  while (lua_next(L, table)) {
    lua_pop(L, 1);
    all++;
    if (is_wanted(L, wanted, &key)) ++*(key.rank == RANK_OTHER ? others : ordered);
  }
  flume_budget_charge(L, budget, all);
  flume_budget_look_large(L, budget); /* a table that was emptied has many places without a key */
}

/* Lets the key at i sink in a heap whose largest key is the first. */
static void sink(struct key *keys, int count, int i) {
  struct key key = keys[i];
  for (int child; (child = 2 * i + 1) < count; i = child) {
    if (child + 1 < count && compare(&keys[child + 1], &keys[child]) > 0) child++;
    if (compare(&keys[child], &key) <= 0) break;
    keys[i] = keys[child];
  }
  keys[i] = key;
}

/* Stores the key at the stack's top in a slot of the list at index `at`. */
static void keep_key(lua_State *L, const struct list *list, int at, int slot) {
  lua_pushvalue(L, -1);
  if (list->count <= USER_VALUES_MAX) lua_setiuservalue(L, at, 1 + slot);
  else lua_rawseti(L, at + 1, slot);
}

/* Fills the list with the smallest keys, as many as it has room for: a heap of those so far, whose largest key gives way
 * to a smaller one. There are fewer when some were cleared since they were counted. */
static void fill_list(lua_State *L, struct list *list, int at, int table, const struct wanted *wanted) {
  int filled = 0;
  uint64_t all = 0;
  struct key key;
  lua_pushnil(L);
  while (lua_next(L, table)) {
    lua_pop(L, 1);
    all++;
    if (!is_wanted(L, wanted, &key)) continue;
    if (filled < list->count) {
      key.slot = filled + 1;
      list->keys[filled++] = key;
      keep_key(L, list, at, key.slot);
      if (filled < list->count) continue;
      if (list->ordered == 0) break; /* all that there are */
      for (int i = filled / 2; i-- > 0;) sink(list->keys, filled, i);
    } else if (compare_value(&key, &list->keys[0]) < 0) {
      key.slot = list->keys[0].slot;
      list->keys[0] = key;
      keep_key(L, list, at, key.slot);
      sink(list->keys, filled, 0);
    }
  }
  assert(filled <= list->count);
  list->given = filled;
  flume_budget_charge(L, flume_budget_of(L), all + (uint64_t)filled * STEPS_PER_KEY);
}

/* Pushes an empty list of the table with room for count keys. */
static struct list *new_list(lua_State *L, int table, int count) {
  bool is_small = count <= USER_VALUES_MAX;
  size_t bytes = sizeof(struct list) + (size_t)count * sizeof(struct key);
  struct list *list = lua_newuserdatauv(L, bytes, is_small ? 1 + count : 2);
  *list = (struct list){.count = count, .at = -1};
  lua_pushvalue(L, table);
  lua_setiuservalue(L, -2, 1);
  return list;
}

/* Pushes the list of the keys that come behind the one at index 2; nil when there are none. before: the list whose last
 * key that is; NULL to count them. */
static struct list *push_list(lua_State *L, int table, const struct list *before) {
  struct wanted wanted = {.last = lua_isinteger(L, 2) ? lua_tointeger(L, 2) : 0};
  uint64_t ordered, others;
  luaL_checkstack(L, 8, NULL);
  if (!lua_isnil(L, 2)) read_key(L, 2, &wanted.after);
  wanted.has_after = !lua_isnil(L, 2) && wanted.after.rank != RANK_OTHER;
  wanted.only_others = !lua_isnil(L, 2) && wanted.after.rank == RANK_OTHER;
  if (before != NULL) ordered = before->ordered, others = before->others;
  else count_keys(L, table, &wanted, &ordered, &others);
  uint64_t count = ordered + others, most = before != NULL ? NEXT_MAX : FIRST_MAX;
  if (count == 0) {
    lua_pushnil(L);
    return NULL;
  }
  wanted.only_ordered = count > FIRST_MAX && ordered > 0;
  if (wanted.only_ordered) count = ordered < most ? ordered : most;
  if (count > INT_MAX) luaL_error(L, "too many keys");
  struct list *list = new_list(L, table, (int)count);
  int at = lua_gettop(L);
  if (wanted.only_ordered) list->ordered = ordered - count, list->others = others;
  if (count > USER_VALUES_MAX) lua_createtable(L, (int)count, 0);
  fill_list(L, list, at, table, &wanted);
  lua_settop(L, count > USER_VALUES_MAX ? at + 1 : at);
  if (count > USER_VALUES_MAX) lua_setiuservalue(L, at, 2);
  if (list->given == 0 && list->others > 0) { /* all with an order were cleared meanwhile */
    struct list rest = {.others = list->others};
    lua_settop(L, at - 1);
    return push_list(L, table, &rest);
  }
  sort(list->keys, list->given);
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
  while (++list->at < list->given) {
    push_key(L, list, list_index, list->at);
    lua_pushvalue(L, -1);
    if (lua_rawget(L, table) != LUA_TNIL) return 2;
    lua_pop(L, 2);
  }
  lua_pushnil(L);
  return 1;
}

#define LIST lua_upvalueindex(1) /* nil before it is needed */

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

/* As give_next, of the list in LIST. Behind its last key, when there are more, the next list takes its place. */
static int give_next_of_part(lua_State *L, struct list *list) {
  for (;;) {
    int count = give_next(L, list, LIST, 1);
    if (count == 2 || list->ordered + list->others == 0 || list->given == 0) return count;
    lua_settop(L, 1);
    push_key(L, list, LIST, list->given - 1); /* at index 2 */
    list = push_list(L, 1, list);
    if (list == NULL) return 1;
    lua_replace(L, LIST);
  }
}

/* --- pairs ------------------------------------------------------------------------------------------------------- */

/* The script has this function, and may call it with anything. */
static int iterate(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 2);
  struct list *list = lua_touserdata(L, LIST);
  if (list == NULL) {
    if (give_element(L)) return 2;
    list = push_list(L, 1, NULL);
    if (list == NULL) return 1;
    lua_replace(L, LIST);
  }
  return give_next_of_part(L, list);
}

/* Behind a __pairs that has yielded. */
static int finish_pairs(lua_State *L, int status, lua_KContext context) {
  (void)L, (void)status, (void)context;
  return 3;
}

static int pairs(lua_State *L) {
  luaL_checkany(L, 1);
  if (luaL_getmetafield(L, 1, "__pairs") != LUA_TNIL) {
    lua_pushvalue(L, 1);
    lua_callk(L, 1, 3, 0, finish_pairs);
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
  struct list *list = push_list(L, 1, NULL);
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
  flume_budget_look_large(L, flume_budget_of(L));
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
  while (++at < list->given && compare_value(&list->keys[at], &key) <= 0) {
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
    list = push_list(L, 1, NULL);
    lua_replace(L, LIST);
    if (list != NULL && !go_to_key(L, list)) luaL_error(L, "invalid key to 'next'");
  }
  if (list != NULL && give_next_of_part(L, list) == 2) return 2;
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
