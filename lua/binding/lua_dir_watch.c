#include "lua/binding/lua_dir_watch.h"

#include <lauxlib.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "lua/binding/lua_loop.h"

#define WATCH_TYPE "flume.watcher"
#define SETTLE_MS 50        /* quiet time before fn is called: an editor writes a file in several steps */
#define SETTLE_MOST_MS 1000 /* longest delay of fn */
#define POLL_MS 1000        /* between two calls, where there are no events */

/* A place to look at. */
struct place {
  uv_fs_event_t event;
  struct watch *watch;
  struct place *next;
  char *name; /* the name to watch; NULL: all */
};

struct watch {
  uv_timer_t settle;
  uv_timer_t poll;
  struct flume_loop *loop;
  struct place *places;
  uint64_t first_ms; /* the first change since fn was called, on the loop's clock; 0: none */
  int fn;            /* registry */
  int handles;       /* that are not closed yet */
};

/* --- Changes ---------------------------------------------------------------------------------------------------- */

static void on_settled(uv_timer_t *timer) {
  struct watch *watch = timer->data;
  watch->first_ms = 0;
  lua_rawgeti(watch->loop->L, LUA_REGISTRYINDEX, watch->fn);
  flume__loop_call(watch->loop, 0);
}

static void on_event(uv_fs_event_t *event, const char *name, int events, int status) {
  struct place *place = event->data;
  struct watch *watch = place->watch;
  (void)events;
  if (status == 0 && place->name != NULL && name != NULL && strcmp(name, place->name) != 0) return;
  uint64_t now = uv_now(watch->loop->loop);
  if (watch->first_ms == 0) watch->first_ms = now + 1;
  uint64_t left = watch->first_ms + SETTLE_MOST_MS > now ? watch->first_ms + SETTLE_MOST_MS - now : 0;
  uv_timer_start(&watch->settle, on_settled, left < SETTLE_MS ? left : SETTLE_MS, 0);
}

/* --- Ends ------------------------------------------------------------------------------------------------------- */

static void let_go(struct watch *watch) {
  if (--watch->handles == 0) flume_io_free(&flume_io_posix, watch);
}

static void on_closed(uv_handle_t *handle) {
  let_go(handle->data);
}

static void on_place_closed(uv_handle_t *handle) {
  struct place *place = handle->data;
  struct watch *watch = place->watch;
  flume_io_free(&flume_io_posix, place->name);
  flume_io_free(&flume_io_posix, place);
  let_go(watch);
}

static void drop_places(struct watch *watch) {
  struct place *place = watch->places;
  watch->places = NULL;
  while (place != NULL) {
    struct place *next = place->next;
    uv_close((uv_handle_t *)&place->event, on_place_closed);
    place = next;
  }
}

static int watch_stop(lua_State *L) {
  struct watch **box = luaL_checkudata(L, 1, WATCH_TYPE);
  struct watch *watch = *box;
  if (watch == NULL) return 0;
  *box = NULL;
  luaL_unref(L, LUA_REGISTRYINDEX, watch->fn);
  drop_places(watch);
  uv_close((uv_handle_t *)&watch->settle, on_closed);
  uv_close((uv_handle_t *)&watch->poll, on_closed);
  return 0;
}

/* --- Places ----------------------------------------------------------------------------------------------------- */

static bool is_missing(int rv) {
  return rv == UV_ENOENT || rv == UV_ENOTDIR || rv == UV_EACCES || rv == UV_ELOOP || rv == UV_ENAMETOOLONG;
}

/* 0, or a negative errno: there are no events for the folder. */
static int add_place(struct watch *watch, const char *folder, const char *name) {
  int rv = flume_io_posix.has_events(flume_io_posix.ctx, folder);
  if (rv != 0) return is_missing(rv) ? 0 : rv;
  struct place *place = flume_io_zalloc(&flume_io_posix, sizeof *place);
  if (place == NULL) return UV_ENOMEM;
  if (name != NULL) {
    size_t size = strlen(name) + 1;
    place->name = flume_io_alloc(&flume_io_posix, size);
    if (place->name == NULL) {
      flume_io_free(&flume_io_posix, place);
      return UV_ENOMEM;
    }
    memcpy(place->name, name, size);
  }
  place->watch = watch;
  place->event.data = place;
  uv_fs_event_init(watch->loop->loop, &place->event); /* can't fail */
  watch->handles++;
  place->next = watch->places;
  watch->places = place;
  rv = uv_fs_event_start(&place->event, on_event, folder, 0);
  return is_missing(rv) ? 0 : rv;
}

static int watch_look(lua_State *L) {
  struct watch **box = luaL_checkudata(L, 1, WATCH_TYPE);
  luaL_checktype(L, 2, LUA_TTABLE);
  if (*box == NULL) return luaL_error(L, "the watcher was stopped");
  lua_Integer count = luaL_len(L, 2);
  int rv = 0;
  drop_places(*box);
  for (lua_Integer i = 1; i <= count; i++) {
    lua_geti(L, 2, i);
    lua_geti(L, -1, 1);
    lua_geti(L, -2, 2);
    int failed = add_place(*box, luaL_checkstring(L, -2), luaL_optstring(L, -1, NULL));
    if (failed != 0) rv = failed;
    lua_pop(L, 3);
  }
  uv_timer_stop(&(*box)->poll);
  if (rv != 0) uv_timer_start(&(*box)->poll, on_settled, POLL_MS, POLL_MS);
  lua_pushboolean(L, rv == 0);
  return 1;
}

static void push_metatable(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"look", watch_look}, {"stop", watch_stop}, {"__gc", watch_stop}, {"__close", watch_stop}, {NULL, NULL}};
  if (luaL_newmetatable(L, WATCH_TYPE) == 0) return;
  luaL_setfuncs(L, methods, 0);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
}

static int watch_new(lua_State *L) {
  struct flume_loop *loop = flume__loop_get(L);
  luaL_checktype(L, 1, LUA_TFUNCTION);
  struct watch **box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = NULL;
  push_metatable(L);
  lua_setmetatable(L, -2);
  lua_pushvalue(L, 1);
  int fn = luaL_ref(L, LUA_REGISTRYINDEX);
  struct watch *watch = flume_io_zalloc(&flume_io_posix, sizeof *watch);
  if (watch == NULL) {
    luaL_unref(L, LUA_REGISTRYINDEX, fn);
    return luaL_error(L, "out of memory");
  }
  watch->loop = loop;
  watch->fn = fn;
  watch->handles = 2;
  watch->settle.data = watch->poll.data = watch;
  uv_timer_init(loop->loop, &watch->settle);
  uv_timer_init(loop->loop, &watch->poll);
  uv_unref((uv_handle_t *)&watch->settle);
  *box = watch;
  return 1;
}

static int read_link(lua_State *L) {
  char target[PATH_MAX];
  ssize_t len = readlink(luaL_checkstring(L, 1), target, sizeof target);
  if (len < 0 || (size_t)len == sizeof target) lua_pushnil(L);
  else lua_pushlstring(L, target, (size_t)len);
  return 1;
}

void flume__watch_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"watch", watch_new}, {"read_link", read_link}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
