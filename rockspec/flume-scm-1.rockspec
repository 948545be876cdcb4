rockspec_format = "3.0"
package = "flume"
version = "scm-1"
source = {
  url = "git+file://.",
}
description = {
  summary = "An embedded database: one durable append-only log, many views written in Lua",
  detailed = [[
A C core owns a durable log, the scheduling of views and the observables; views are Lua modules with a version, a reducer
and methods. Changing a view's version rebuilds it from the log.]],
  license = "MIT",
}
dependencies = {
  "lua >= 5.4, < 5.5",
}
external_dependencies = {
  LIBUV = {header = "uv.h"},
  LMDB = {header = "lmdb.h"},
  UTF8PROC = {header = "utf8proc.h"},
  LIBSTEMMER = {header = "libstemmer.h"},
  ROARING = {header = "roaring/roaring.h"},
}
build = {
  type = "make",
  build_target = "module",
  install_target = "install-lua",
  build_variables = {
    LUA_CFLAGS = "-I$(LUA_INCDIR)",
    CFLAGS = "$(CFLAGS)",
  },
  install_variables = {
    LUADIR = "$(LUADIR)",
    LUALIBDIR = "$(LIBDIR)",
  },
}
