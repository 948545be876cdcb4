#include "lua/binding/lua_dir_watch.h"

#include <lauxlib.h>

#include "lua/binding/lua_loop.h"

#define WATCH_TYPE "flume.watcher"
#define SETTLE_MS 50 /* without another change, until fn is called: an editor writes a file in several steps */

struct watch {
  uv_fs_event_t event;
  uv_timer_t settle;
  struct flume_loop *loop;
  int fn; /* registry */
  int handles;
};

static void on_settled(uv_timer_t *timer) {
  struct watch *watch = timer->data;
  lua_rawgeti(watch->loop->L, LUA_REGISTRYINDEX, watch->fn);
  flume__loop_call(watch->loop, 0);
}

static void on_event(uv_fs_event_t *event, const char *name, int events, int status) {
  struct watch *watch = event->data;
  (void)name;
  (void)events;
  if (status == 0) uv_timer_start(&watch->settle, on_settled, SETTLE_MS, 0);
}

static void on_closed(uv_handle_t *handle) {
  struct watch *watch = handle->data;
  if (--watch->handles == 0) flume_io_free(&flume_io_posix, watch);
}

static int watch_stop(lua_State *L) {
  struct watch **box = luaL_checkudata(L, 1, WATCH_TYPE);
  struct watch *watch = *box;
  if (watch == NULL) return 0;
  *box = NULL;
  luaL_unref(L, LUA_REGISTRYINDEX, watch->fn);
  uv_close((uv_handle_t *)&watch->event, on_closed);
  uv_close((uv_handle_t *)&watch->settle, on_closed);
  return 0;
}

static void push_metatable(lua_State *L) {
  static const luaL_Reg methods[] = {{"stop", watch_stop}, {"__gc", watch_stop}, {"__close", watch_stop}, {NULL, NULL}};
  if (luaL_newmetatable(L, WATCH_TYPE) == 0) return;
  luaL_setfuncs(L, methods, 0);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
}

static int watch_new(lua_State *L) {
  struct flume_loop *loop = flume__loop_get(L);
  const char *path = luaL_checkstring(L, 1);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  struct watch **box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = NULL;
  push_metatable(L);
  lua_setmetatable(L, -2);
  lua_pushvalue(L, 2);
  int fn = luaL_ref(L, LUA_REGISTRYINDEX);
  struct watch *watch = flume_io_zalloc(&flume_io_posix, sizeof *watch);
  if (watch == NULL) {
    luaL_unref(L, LUA_REGISTRYINDEX, fn);
    return luaL_error(L, "out of memory");
  }
  watch->loop = loop;
  watch->fn = fn;
  watch->handles = 2;
  watch->event.data = watch->settle.data = watch;
  uv_fs_event_init(loop->loop, &watch->event);
  uv_timer_init(loop->loop, &watch->settle);
  uv_unref((uv_handle_t *)&watch->settle);
  *box = watch;
  int rv = uv_fs_event_start(&watch->event, on_event, path, 0);
  if (rv == 0) return 1;
  struct flume_err err;
  flume_err_set(&err, rv, "watching %s: %s", path, flume_strerror(rv));
  return flume__fail(L, rv, &err); /* the watcher is collected */
}

void flume__watch_open(lua_State *L) {
  lua_pushcfunction(L, watch_new);
  lua_setfield(L, -2, "watch");
}
