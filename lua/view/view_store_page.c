/* A page of an index for a Lua state that is not the view's own, read while the view is idle.
 *
 * Wherever a Lua state allocates, finalizers of the program may run and call the view, which then works on another
 * thread. So Lua is used only before and after reading: the arguments are taken first; then the entries are copied;
 * they become values once the store is released. The page owns the scratch memory. */
#include <lauxlib.h>

#include "core/base/bytes.h"
#include "lua/view/view_store.h"

#define HEADER_BYTES 16 /* before the key and the value of an entry: seq and both lengths */

struct flume_store_page {
  struct flume_lua_store scratch; /* without a store; in emitted: the entries, each with a header */
  bool open;
  struct flume_store_range range;
  lua_Integer count;
  int64_t min_seq;
  int resume;       /* on the stack: the position of the next page, or nil */
  bool more;        /* the page has as many entries as requested */
  uint32_t ordinal; /* of the last entry */
};

static void free_page(struct flume_store_page *page) {
  if (page->open) flume__store_fini(&page->scratch);
  page->open = false;
}

static int page_gc(lua_State *L) {
  free_page(lua_touserdata(L, 1));
  return 0;
}

static struct flume_store_page *push_page(lua_State *L) {
  struct flume_store_page *page = lua_newuserdatauv(L, sizeof *page, 0);
  page->open = false;
  if (luaL_newmetatable(L, "flume.store.page")) {
    lua_pushcfunction(L, page_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  if (flume__store_init(&page->scratch, &flume_io_posix) != 0) luaL_error(L, "not enough memory");
  page->scratch.own.kind = FLUME_STORE_INDEX;
  page->open = true;
  return page;
}

struct flume_store_page *flume__store_begin_page(lua_State *L, int first) {
  lua_settop(L, first + 4);
  lua_Integer count = luaL_checkinteger(L, first + 1);
  int64_t min_seq = luaL_optinteger(L, first + 2, INT64_MIN), max_seq = luaL_optinteger(L, first + 3, INT64_MAX);
  size_t len;
  if (!lua_isnil(L, first + 4)) flume__store_check_place(L, first + 4, &len);
  struct flume_store_page *page = push_page(L);
  page->count = count;
  page->min_seq = min_seq;
  page->resume = first + 4;
  page->more = false;
  flume__store_get_range(L, &page->scratch.own, first, &page->range);
  page->range.max_seq = max_seq;
  return page;
}

static int copy_entry(struct flume_buf *entries, const struct flume_store_entry *entry, struct flume_err *err) {
  uint8_t header[HEADER_BYTES];
  flume_put_le64(header, (uint64_t)entry->seq);
  flume_put_le32(header + 8, (uint32_t)entry->key_len);
  flume_put_le32(header + 12, (uint32_t)entry->value_len);
  if (flume_buf_reserve(entries, sizeof header + entry->key_len + entry->value_len) != 0) return flume_err_nomem(err);
  flume_buf_append(entries, header, sizeof header);
  flume_buf_append(entries, entry->key, entry->key_len);
  flume_buf_append(entries, entry->value, entry->value_len);
  return 0;
}

int flume__store_read_page(lua_State *L, struct flume_store_page *page, struct flume_store *store,
                           struct flume_err *err) {
  struct flume_store_cursor *cursor;
  struct flume_store_entry entry;
  lua_Integer found = 0;
  int rv = flume_store_cursor_open(&cursor, store, FLUME_STORE_INDEX, &page->range, err);
  if (rv != 0) return rv;
  if (!lua_isnil(L, page->resume)) flume__store_resume(L, cursor, page->resume);
  while (found < page->count && (rv = flume_store_cursor_next(cursor, &entry, err)) == 1) {
    if (entry.seq < page->min_seq) continue;
    rv = copy_entry(&page->scratch.emitted, &entry, err);
    if (rv != 0) break;
    page->ordinal = entry.ordinal;
    found++;
  }
  flume_store_cursor_close(cursor);
  page->more = found == page->count && found > 0;
  return rv < 0 ? rv : 0;
}

/* Of the header and what follows it. */
static struct flume_store_entry entry_at(const struct flume_store_page *page, size_t off) {
  const uint8_t *header = page->scratch.emitted.data + off;
  struct flume_store_entry entry = {.key = header + HEADER_BYTES,
                                    .key_len = flume_get_le32(header + 8),
                                    .seq = (int64_t)flume_get_le64(header),
                                    .ordinal = page->ordinal,
                                    .value_len = flume_get_le32(header + 12)};
  entry.value = entry.key + entry.key_len;
  return entry;
}

void flume__store_push_page(lua_State *L, struct flume_store_page *page) {
  struct flume_store_part *part = &page->scratch.own;
  struct flume_store_entry entry = {.key = NULL}, last = entry;
  lua_Integer found = 0;
  lua_createtable(L, page->count < 16 ? (int)page->count : 16, 0);
  int items = lua_gettop(L);
  lua_pushnil(L); /* the last key as a value */
  for (size_t off = 0; off < page->scratch.emitted.len; last = entry) {
    entry = entry_at(page, off);
    off += HEADER_BYTES + entry.key_len + entry.value_len;
    if (found == 0 || flume__store_compare(entry.key, entry.key_len, last.key, last.key_len) != 0) {
      flume__store_push_key(L, part, entry.key, entry.key_len);
      lua_replace(L, items + 1);
    }
    lua_pushvalue(L, items + 1);
    flume__store_make_item(L, entry.seq, entry.value, entry.value_len);
    lua_rawseti(L, items, ++found);
  }
  lua_pop(L, 1);
  if (page->more) flume__store_push_resume(L, part, &entry);
  else lua_pushnil(L);
  free_page(page);
}
