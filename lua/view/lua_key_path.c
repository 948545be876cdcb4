#include "lua/view/lua_key_path.h"

#include <lauxlib.h>

/* Parses the list of paths on top. 0 or a negative code; the paths made so far are the caller's. */
static int parse_paths(lua_State *L, struct flume_msgpack_path **paths, size_t *count, struct flume_err *err) {
  size_t n = lua_rawlen(L, -1);
  if (n == 0 || n > FLUME_EXTRACT_PATHS_MAX) {
    return flume_err_set(err, FLUME_EINVAL, "an index needs 1 to %d paths", FLUME_EXTRACT_PATHS_MAX);
  }
  for (*count = 0; *count < n; ++*count) {
    size_t len;
    lua_rawgeti(L, -1, (lua_Integer)*count + 1);
    const char *text = lua_tolstring(L, -1, &len);
    int rv = flume_msgpack_path_parse(&flume_io_posix, text, len, &paths[*count], err);
    lua_pop(L, 1);
    if (rv != 0) return rv;
  }
  return 0;
}

static enum flume_extract_shape get_shape(lua_State *L, int index) {
  static const char *const shapes[] = {"value", "array", "kind", "any", NULL};
  lua_getfield(L, index, "shape");
  enum flume_extract_shape shape = (enum flume_extract_shape)luaL_checkoption(L, -1, "value", shapes);
  lua_pop(L, 1);
  return shape;
}

int flume__extract_make(lua_State *L, int index, struct flume_extract **out, struct flume_err *err) {
  struct flume_msgpack_path *paths[FLUME_EXTRACT_PATHS_MAX];
  enum flume_extract_shape shape = get_shape(L, index);
  size_t count = 0;
  int rv = 0;
  *out = NULL;
  if (lua_getfield(L, index, "paths") == LUA_TTABLE) {
    if (shape != FLUME_EXTRACT_ANY) rv = parse_paths(L, paths, &count, err);
    if (rv == 0) {
      rv = flume_extract_new(&flume_io_posix, shape, paths, count, out, err);
    } else {
      for (size_t i = 0; i < count; i++) flume_msgpack_path_free(paths[i]);
    }
  }
  lua_pop(L, 1);
  return rv;
}
