/* A set is a userdata that keeps the views of its leaves alive. These may be closed all the same: whatever is done with
 * the set then raises "the view is closed".
 *
 * The plan that a set is made of:
 *
 *   {"key", view, value}     the records that the view, one of bitmaps, has for the value
 *   {"bytes", view, string}  the same for the bytes of a key
 *   {"range", view, range}   the records of the view, an index, in the range (view_store.h), as of now
 *   {"and", plan...}, {"or", plan...}, {"without", plan, plan...} */
#include "lua/view/lua_seqset.h"

#include <lauxlib.h>
#include <string.h>

#include "core/codec/key.h"
#include "core/index/seqset.h"
#include "lua/value/box.h"
#include "lua/value/marshal.h"
#include "lua/view/lua_view.h"

#define TYPE "flume.seqset"
#define PLAN_DEPTH_MAX 64
#define AT_ONCE 1024 /* seqs read at once */

struct lua_seqset {
  struct flume_seqset *set;
  struct lua_view **views; /* of the leaves; also in the user value */
  size_t views_count;
};

struct leaves {
  struct lua_seqset *self;
  int pins; /* stack index of the table that pins the views */
};

static int raise_error(lua_State *L, const struct flume_err *err) {
  return luaL_error(L, "%s", err->msg);
}

/* --- Views ------------------------------------------------------------------------------------------------------- */

static struct lua_view *check_kind(lua_State *L, int index, enum flume_view_kind kind) {
  struct lua_view *view = flume__view_check(L, index);
  if (view->kind != kind || view->kept.store == NULL || view->vm != NULL) {
    luaL_error(L, "a view of another kind was expected");
  }
  flume__store_await(&view->kept);
  return view;
}

static void note_view(lua_State *L, const struct leaves *leaves, struct lua_view *view, int index) {
  struct lua_seqset *self = leaves->self;
  size_t size = (self->views_count + 1) * sizeof *self->views;
  struct lua_view **views = flume_io_realloc(&flume_io_posix, self->views, size);
  if (views == NULL) {
    luaL_error(L, "not enough memory");
    return;
  }
  self->views = views;
  lua_pushvalue(L, index);
  lua_rawseti(L, leaves->pins, (lua_Integer)self->views_count + 1);
  self->views[self->views_count++] = view;
}

static struct lua_seqset *check_set(lua_State *L, int index) {
  struct lua_seqset *self = luaL_checkudata(L, index, TYPE);
  for (size_t i = 0; i < self->views_count; i++) {
    if (self->views[i]->view.bitmaps == NULL || self->views[i]->closing) luaL_error(L, "the view is closed");
    flume__store_await(&self->views[i]->kept);
  }
  if (self->set == NULL) luaL_error(L, "an empty plan");
  return self;
}

/* --- Making ------------------------------------------------------------------------------------------------------ */

/* A list of sets, freed when an error passes. */
struct children {
  struct flume_seqset **sets;
  size_t count;
};

static int children_gc(lua_State *L) {
  struct children *children = lua_touserdata(L, 1);
  for (size_t i = 0; i < children->count; i++) flume_seqset_free(children->sets[i]);
  flume_io_free(&flume_io_posix, children->sets);
  *children = (struct children){NULL, 0};
  return 0;
}

static struct children *push_children(lua_State *L, size_t count) {
  struct children *children = lua_newuserdatauv(L, sizeof *children, 0);
  *children = (struct children){NULL, 0};
  if (luaL_newmetatable(L, "flume.seqset.children")) {
    lua_pushcfunction(L, children_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  children->sets = flume_io_alloc(&flume_io_posix, (count + 1) * sizeof *children->sets);
  if (children->sets == NULL) luaL_error(L, "not enough memory");
  return children;
}

static void own(lua_State *L, struct children *children, int rv, struct flume_seqset *const *set) {
  if (rv != 0) luaL_error(L, "not enough memory");
  children->sets[children->count++] = *set;
}

/* The leaf of a key that the plan at index has as its third element. */
static void make_key(lua_State *L, const struct leaves *leaves, int plan, bool is_bytes, struct children *into) {
  struct flume_err err;
  struct flume_seqset *set = NULL;
  lua_rawgeti(L, plan, 2);
  struct lua_view *view = check_kind(L, lua_gettop(L), FLUME_VIEW_BITMAP);
  note_view(L, leaves, view, lua_gettop(L));
  lua_rawgeti(L, plan, 3);
  struct flume_buf *key = &view->kept.key, *packed = &view->kept.packed;
  if (is_bytes) {
    size_t len;
    const char *bytes = luaL_checklstring(L, -1, &len);
    own(L, into, flume_seqset_of_key(&flume_io_posix, view->view.bitmaps, bytes, len, &set), &set);
  } else {
    packed->len = key->len = 0;
    if (flume_marshal_encode_sorted(L, lua_gettop(L), packed, &err) != 0) raise_error(L, &err);
    if (flume_key_encode(packed->data, packed->len, key, &err) != 0) raise_error(L, &err);
    own(L, into, flume_seqset_of_key(&flume_io_posix, view->view.bitmaps, key->data, key->len, &set), &set);
  }
  flume_bitmaps_trim(view->view.bitmaps);
  lua_pop(L, 2);
}

/* The list of the records in the range. */
static void make_range(lua_State *L, int plan, struct children *into) {
  struct flume_store_range range;
  struct flume_store_entry entry;
  struct flume_err err;
  struct flume_seqset *list = NULL;
  lua_rawgeti(L, plan, 2);
  struct lua_view *view = check_kind(L, lua_gettop(L), FLUME_VIEW_INDEX);
  lua_rawgeti(L, plan, 3);
  flume__store_get_range(L, &view->kept.own, lua_gettop(L), &range);
  own(L, into, flume_seqset_of_list(&flume_io_posix, &list), &list);
  struct flume_store_cursor **cursor = flume__store_push_cursor(L);
  int rv = flume_store_cursor_open(cursor, view->kept.store, FLUME_STORE_INDEX, &range, &err);
  if (rv != 0) raise_error(L, &err);
  while ((rv = flume_store_cursor_next(*cursor, &entry, &err)) == 1) {
    if (flume_seqset_put(list, entry.seq) != 0) luaL_error(L, "not enough memory");
  }
  if (rv < 0) raise_error(L, &err);
  lua_pop(L, 3); /* and closes the cursor */
}

static void make(lua_State *L, const struct leaves *leaves, int plan, unsigned depth, struct children *into);

static void make_combined(lua_State *L, const struct leaves *leaves, int plan, enum flume_seqset_op op, unsigned depth,
                          struct children *into) {
  size_t count = lua_rawlen(L, plan) - 1;
  struct flume_seqset *set = NULL;
  if (count == 0) luaL_error(L, "nothing to combine");
  struct children *children = push_children(L, count);
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, plan, (lua_Integer)i + 2);
    make(L, leaves, lua_gettop(L), depth + 1, children);
    lua_pop(L, 1);
  }
  size_t made = children->count;
  children->count = 0; /* the set takes ownership, or they are freed */
  own(L, into, flume_seqset_combine(&flume_io_posix, op, children->sets, made, &set), &set);
  lua_pop(L, 1);
}

static void make(lua_State *L, const struct leaves *leaves, int plan, unsigned depth, struct children *into) {
  static const char *const words[] = {"and", "or", "without", "key", "bytes", "range", NULL};
  if (depth > PLAN_DEPTH_MAX) luaL_error(L, "a plan that is too deep");
  luaL_checkstack(L, 16, NULL);
  luaL_checktype(L, plan, LUA_TTABLE);
  lua_rawgeti(L, plan, 1);
  int word = luaL_checkoption(L, lua_gettop(L), NULL, words);
  lua_pop(L, 1);
  switch (word) {
    case 3: make_key(L, leaves, plan, false, into); break;
    case 4: make_key(L, leaves, plan, true, into); break;
    case 5: make_range(L, plan, into); break;
    default: make_combined(L, leaves, plan, (enum flume_seqset_op)word, depth, into);
  }
}

static void push_metatable(lua_State *L);

/* seqset(plan) -> set */
static int new_set(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  struct lua_seqset *self = lua_newuserdatauv(L, sizeof *self, 1);
  memset(self, 0, sizeof *self);
  push_metatable(L);
  lua_setmetatable(L, 2);
  lua_newtable(L);
  lua_pushvalue(L, 3);
  lua_setiuservalue(L, 2, 1);
  struct leaves leaves = {self, 3};
  struct children *made = push_children(L, 1);
  make(L, &leaves, 1, 0, made);
  self->set = made->sets[0];
  made->count = 0;
  lua_settop(L, 2);
  return 1;
}

/* --- Reading ----------------------------------------------------------------------------------------------------- */

static void push_seqs(lua_State *L, const int64_t *seqs, int64_t count, lua_Integer before) {
  for (int64_t i = 0; i < count; i++) {
    lua_pushinteger(L, seqs[i]);
    lua_rawseti(L, -2, before + i + 1);
  }
}

/* set:read(n, first, last, reverse) -> list of at most n seqs */
static int set_read(lua_State *L) {
  struct lua_seqset *self = check_set(L, 1);
  lua_Integer left = luaL_checkinteger(L, 2), found = 0;
  int64_t first = luaL_checkinteger(L, 3), last = luaL_checkinteger(L, 4);
  bool reverse = lua_toboolean(L, 5);
  int64_t seqs[AT_ONCE];
  lua_createtable(L, left < AT_ONCE ? (int)left : AT_ONCE, 0);
  while (left > 0) {
    struct flume_err err;
    size_t cap = left < AT_ONCE ? (size_t)left : AT_ONCE;
    int64_t count = flume_seqset_read(self->set, first, last, reverse, seqs, cap, &err);
    if (count < 0) return raise_error(L, &err);
    push_seqs(L, seqs, count, found);
    found += count;
    left -= count;
    if ((size_t)count < cap) break;
    if (reverse) last = seqs[count - 1] - 1;
    else first = seqs[count - 1] + 1;
  }
  return 1;
}

/* set:count(first, last) -> integer */
static int set_count(lua_State *L) {
  struct lua_seqset *self = check_set(L, 1);
  struct flume_err err;
  int64_t count = flume_seqset_count(self->set, luaL_checkinteger(L, 2), luaL_checkinteger(L, 3), &err);
  if (count < 0) return raise_error(L, &err);
  lua_pushinteger(L, count);
  return 1;
}

static int set_gc(lua_State *L) {
  struct lua_seqset *self = luaL_checkudata(L, 1, TYPE);
  flume_seqset_free(self->set);
  flume_io_free(&flume_io_posix, self->views);
  memset(self, 0, sizeof *self);
  return 0;
}

/* The cursor of a walk, closed when an error passes. */
struct walk {
  struct flume_store_cursor *cursor;
  struct lua_seqset *set; /* NULL: every record */
  int64_t last_seq;
  lua_Integer left;
};

/* Appends the next entries of the walk to the list on top. 1: more entries follow *entry; 0: the end. */
static int walk_on(lua_State *L, struct walk *walk, struct flume_store_entry *entry) {
  struct flume_err err;
  lua_Integer found = 0;
  for (;;) {
    if (walk->left == 0) return found > 0;
    int rv = flume_store_cursor_next(walk->cursor, entry, &err);
    if (rv < 0) raise_error(L, &err);
    if (rv == 0) return 0;
    if (entry->seq > walk->last_seq) continue;
    int has = walk->set != NULL ? flume_seqset_has(walk->set->set, entry->seq, &err) : 1;
    if (has < 0) raise_error(L, &err);
    if (has == 0) continue;
    lua_pushinteger(L, entry->seq);
    lua_rawseti(L, -2, ++found);
    walk->left--;
  }
}

/* walk(view, range, set or nil, n, last_seq, resume or nil) -> seqs, resume or nil: the first n of the records that
 * are in the set and not behind last_seq, in the order in which the index has them. The second result goes on behind
 * the last of them. */
static int walk(lua_State *L) {
  struct flume_store_range range;
  struct flume_store_entry entry;
  struct flume_err err;
  lua_settop(L, 6);
  struct walk walk = {.left = luaL_checkinteger(L, 4), .last_seq = luaL_checkinteger(L, 5)};
  struct lua_view *view = check_kind(L, 1, FLUME_VIEW_INDEX);
  walk.set = lua_isnil(L, 3) ? NULL : check_set(L, 3);
  flume__store_get_range(L, &view->kept.own, 2, &range);
  struct flume_store_cursor **cursor = flume__store_push_cursor(L);
  if (flume_store_cursor_open(cursor, view->kept.store, FLUME_STORE_INDEX, &range, &err) != 0) {
    return raise_error(L, &err);
  }
  walk.cursor = *cursor;
  if (!lua_isnil(L, 6)) flume__store_resume(L, *cursor, 6);
  if (walk.set != NULL) flume_seqset_forget(walk.set->set);
  lua_newtable(L);
  int more = walk_on(L, &walk, &entry);
  if (more) flume__store_push_resume(L, &view->kept.own, &entry);
  else lua_pushnil(L);
  if (walk.set != NULL) flume_seqset_forget(walk.set->set);
  return 2;
}

static void push_metatable(lua_State *L) {
  static const luaL_Reg methods[] = {{"read", set_read}, {"count", set_count}, {"__gc", set_gc}, {NULL, NULL}};
  if (luaL_newmetatable(L, TYPE) == 0) return;
  luaL_setfuncs(L, methods, 0);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
}

/* key(value) -> the bytes of the value as a key, in the order of keys; nil when it can't be a key. */
static int key_of(lua_State *L) {
  lua_settop(L, 1);
  struct flume_buf *packed = flume_box_buf(L), *key = flume_box_buf(L);
  if (flume_marshal_encode_sorted(L, 1, packed, NULL) != 0) return 0;
  if (flume_key_encode(packed->data, packed->len, key, NULL) != 0) return 0;
  lua_pushlstring(L, (const char *)key->data, key->len);
  return 1;
}

/* is_below(a, b) -> whether the bytes of a come before those of b */
static int is_below(lua_State *L) {
  size_t a_len, b_len;
  const char *a = luaL_checklstring(L, 1, &a_len), *b = luaL_checklstring(L, 2, &b_len);
  int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
  lua_pushboolean(L, order < 0 || (order == 0 && a_len < b_len));
  return 1;
}

void flume__seqset_open(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"seqset", new_set}, {"walk", walk}, {"key", key_of}, {"is_below", is_below}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
