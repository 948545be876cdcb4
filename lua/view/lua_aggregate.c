#include "lua/view/lua_aggregate.h"

#include <lauxlib.h>
#include <string.h>

/* Parses the path on top, and pops it. */
static int pop_path(lua_State *L, struct flume_msgpack_path **path, struct flume_err *err) {
  size_t len;
  const char *text = lua_tolstring(L, -1, &len);
  int rv = text != NULL ? flume_msgpack_path_parse(&flume_io_posix, text, len, path, err)
                        : flume_err_set(err, FLUME_EINVAL, "a path must be a string");
  lua_pop(L, 1);
  return rv;
}

static enum flume_aggregate_op op_of(const char *name) {
  static const char *const names[] = {"count", "sum", "min", "max", "distinct"};
  enum flume_aggregate_op op = FLUME_AGGREGATE_COUNT;
  while (op < FLUME_AGGREGATE_DISTINCT && strcmp(name, names[op]) != 0) op++;
  return op;
}

/* The extract of the host's paths; NULL when it has none. */
static int make_group(lua_State *L, int index, struct flume_extract **group, struct flume_err *err) {
  struct flume_msgpack_path *paths[FLUME_AGGREGATE_PATHS_MAX];
  size_t made = 0;
  int rv = 0;
  bool is_list = lua_getfield(L, index, "paths_are_list") != LUA_TNIL && lua_toboolean(L, -1);
  lua_pop(L, 1);
  if (lua_getfield(L, index, "paths") == LUA_TNIL) {
    lua_pop(L, 1);
    return 0;
  }
  size_t count = lua_rawlen(L, -1);
  if (count > FLUME_AGGREGATE_PATHS_MAX) rv = flume_err_set(err, FLUME_EINVAL, "a group of more than 16 paths");
  while (rv == 0 && made < count) {
    lua_rawgeti(L, -1, (lua_Integer)made + 1);
    rv = pop_path(L, &paths[made], err);
    if (rv == 0) made++;
  }
  lua_pop(L, 1);
  if (rv == 0) {
    return flume_extract_new(&flume_io_posix, is_list ? FLUME_EXTRACT_ARRAY : FLUME_EXTRACT_VALUE, paths, count, group,
                             err);
  }
  while (made > 0) flume_msgpack_path_free(paths[--made]);
  return rv;
}

/* The field {op, path or nil} on top. */
static int make_field(lua_State *L, struct flume_aggregate_field *field, struct flume_err *err) {
  lua_rawgeti(L, -1, 1);
  field->op = op_of(lua_tostring(L, -1));
  field->path = NULL;
  lua_pop(L, 1);
  if (lua_rawgeti(L, -1, 2) != LUA_TNIL) return pop_path(L, &field->path, err);
  lua_pop(L, 1);
  return 0;
}

int flume__aggregate_make(lua_State *L, int index, struct flume_aggregate **out, struct flume_err *err) {
  struct flume_aggregate_field fields[FLUME_AGGREGATE_FIELDS_MAX];
  struct flume_extract *group = NULL;
  size_t made = 0;
  *out = NULL;
  if (lua_getfield(L, index, "aggregate") == LUA_TNIL) {
    lua_pop(L, 1);
    return 0;
  }
  size_t count = lua_rawlen(L, -1);
  int rv = count <= FLUME_AGGREGATE_FIELDS_MAX ? 0 : flume_err_set(err, FLUME_EINVAL, "more than 64 fields");
  while (rv == 0 && made < count) {
    lua_rawgeti(L, -1, (lua_Integer)made + 1);
    rv = make_field(L, &fields[made], err);
    lua_pop(L, 1);
    if (rv == 0) made++;
  }
  lua_pop(L, 1);
  if (rv == 0) rv = make_group(L, index, &group, err);
  if (rv == 0) return flume_aggregate_new(&flume_io_posix, group, fields, count, out, err);
  while (made > 0) flume_msgpack_path_free(fields[--made].path);
  return rv;
}
