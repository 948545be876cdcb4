/* Reading a range. In a dry run the rows of a used view are in two stores: the store that the dry run began with,
 * and its own. Both are read side by side. Entries of an index all count; of two groups with one key the dry run's
 * own counts. */
#include <lauxlib.h>
#include <string.h>

#include "lua/view/view_store.h"

enum { OWN, BASE };

int flume__store_compare(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len) {
  size_t len = a_len < b_len ? a_len : b_len;
  int order = len > 0 ? memcmp(a, b, len) : 0;
  return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

/* The second store to read; NULL: none. */
static struct flume_store *base_of(const struct flume_store_part *part) {
  return part != &part->store->own ? part->store->base : NULL;
}

static struct flume_store_range base_range(const struct flume_store_part *part, const struct flume_store_range *range) {
  struct flume_store_range narrowed = *range;
  if (narrowed.max_seq > part->store->base_seq) narrowed.max_seq = part->store->base_seq;
  return narrowed;
}

/* *own and *base are NULL before; the caller closes them, also after a failure. */
static int open_reader(struct flume_store_part *part, const struct flume_store_range *range,
                       struct flume_store_cursor **own, struct flume_store_cursor **base,
                       struct flume_store_reader *reader, struct flume_err *err) {
  *reader = (struct flume_store_reader){.kind = part->kind, .reverse = range->reverse};
  int rv = flume_store_cursor_open(own, part->store->store, part->kind, range, err);
  if (rv != 0) return rv;
  reader->own = *own;
  if (base_of(part) == NULL) return 0;
  struct flume_store_range narrowed = base_range(part, range);
  rv = flume_store_cursor_open(base, base_of(part), part->kind, &narrowed, err);
  if (rv == 0) reader->base = *base;
  return rv;
}

/* A cursor, closed when an error passes. */
struct cursor_box {
  struct flume_store_cursor *cursor;
};

static int cursor_gc(lua_State *L) {
  struct cursor_box *box = lua_touserdata(L, 1);
  if (box->cursor != NULL) flume_store_cursor_close(box->cursor);
  box->cursor = NULL;
  return 0;
}

struct flume_store_cursor **flume__store_push_cursor(lua_State *L) {
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
  return &box->cursor;
}

void flume__store_push_reader(lua_State *L, struct flume_store_part *part, const struct flume_store_range *range,
                              struct flume_store_reader *reader) {
  struct flume_store_cursor *none = NULL, **own = flume__store_push_cursor(L), **base = &none;
  struct flume_err err;
  if (part->store->base != NULL) base = flume__store_push_cursor(L);
  else lua_pushnil(L);
  if (open_reader(part, range, own, base, reader, &err) != 0) luaL_error(L, "%s", err.msg);
}

void flume__store_close_reader(lua_State *L, int index) {
  if (!lua_isnil(L, index + 1)) lua_closeslot(L, index + 1);
  lua_closeslot(L, index);
}

/* Which of the two entries comes first: below 0: the own one; 0: both are of one group. */
static int order_of(const struct flume_store_reader *reader) {
  const struct flume_store_entry *a = &reader->ahead[OWN], *b = &reader->ahead[BASE];
  if (!reader->has[BASE]) return -1;
  if (!reader->has[OWN]) return 1;
  int order = flume__store_compare(a->key, a->key_len, b->key, b->key_len);
  if (order == 0 && reader->kind == FLUME_STORE_INDEX) order = a->seq < b->seq ? -1 : 1;
  return reader->reverse ? -order : order;
}

int flume__store_read(struct flume_store_reader *reader, struct flume_store_entry *entry, struct flume_err *err) {
  if (reader->base == NULL) return flume_store_cursor_next(reader->own, entry, err);
  for (int side = OWN; side <= BASE; side++) {
    if (reader->has[side] || reader->ended[side]) continue;
    int rv = flume_store_cursor_next(side == OWN ? reader->own : reader->base, &reader->ahead[side], err);
    if (rv < 0) return rv;
    reader->has[side] = rv == 1;
    reader->ended[side] = rv == 0;
  }
  if (!reader->has[OWN] && !reader->has[BASE]) return 0;
  int order = order_of(reader), side = order <= 0 ? OWN : BASE;
  *entry = reader->ahead[side];
  entry->is_same_key = false; /* the previous entry may be of the other cursor */
  reader->has[side] = false;
  if (order == 0) reader->has[BASE] = false;
  return 1;
}

/* A group that both stores have counts once, so that all groups are read. */
static int64_t count_groups(struct flume_store_part *part, const struct flume_store_range *range,
                            struct flume_err *err) {
  struct flume_store_cursor *own = NULL, *base = NULL;
  struct flume_store_reader reader;
  struct flume_store_entry entry;
  int64_t count = 0;
  int rv = open_reader(part, range, &own, &base, &reader, err);
  while (rv == 0 && (rv = flume__store_read(&reader, &entry, err)) == 1) {
    count++;
    rv = 0;
  }
  if (base != NULL) flume_store_cursor_close(base);
  if (own != NULL) flume_store_cursor_close(own);
  return rv == 0 ? count : rv;
}

int64_t flume__store_count(struct flume_store_part *part, const struct flume_store_range *range,
                           struct flume_err *err) {
  struct flume_store *base = base_of(part);
  if (base != NULL && part->kind == FLUME_STORE_GROUPS) return count_groups(part, range, err);
  int64_t count = flume_store_count(part->store->store, part->kind, range, err);
  if (base == NULL || count < 0) return count;
  struct flume_store_range narrowed = base_range(part, range);
  int64_t more = flume_store_count(base, part->kind, &narrowed, err);
  return more < 0 ? more : count + more;
}
