#include "lua/binding/lua_loop.h"

#include <assert.h>
#include <lauxlib.h>

static const char registry_key;  /* the loop's userdata */
static const char on_error_key;  /* function (err) */
static const char no_memory_key; /* an error object, for when there is no memory for a new one */

/* User values of the loop. */
enum {
  LOOP_UV_THREAD = 1, /* loop->L */
  LOOP_UV_INHERITED,  /* in a forked child: the loop of the parent, which the parent's handles point to; else nil */
  LOOP_UV_COUNT = LOOP_UV_INHERITED
};

/* luv's context as its header (luv.h) has it; only the loop and the mode are looked at. */
struct luv_context {
  uv_loop_t *loop;
  lua_State *L;
  void *functions[3];
  int mode;
};

static void count_closed(void *data) {
  --*(int *)data;
}

static void on_timer_closed(uv_handle_t *handle) {
  count_closed(handle->data);
}

static void on_defer_closed(struct flume_defer *defer) {
  count_closed(FLUME_CONTAINER_OF(defer, struct flume_loop, defer)->defer_open);
}

/* Databases were made later, so they are collected before: the pool is idle. luv's loop outlives the handles here. */
static int loop_gc(lua_State *L) {
  struct flume_loop *loop = lua_touserdata(L, 1);
  if (flume__loop_is_inherited(loop)) return 0;
  if (loop->pool != NULL) { /* else there was no memory for the loop */
    int open = 3;
    loop->defer_open = &open;
    loop->timer.data = &open;
    uv_close((uv_handle_t *)&loop->timer, on_timer_closed);
    flume_pool_close(loop->pool, count_closed, &open);
    flume_defer_close(&loop->defer, on_defer_closed);
    loop->pool = NULL;
    while (open > 0) uv_run(loop->loop, UV_RUN_NOWAIT);
  }
  if (!loop->owned) return 0;
  uv_run(loop->loop, UV_RUN_DEFAULT);
  uv_loop_close(loop->loop);
  loop->owned = false;
  return 0;
}

/* --- The end of a forked child ------------------------------------------------------------------------------------ */

static pid_t loop_pid; /* of the process that made the first loop, which its children have too; 0: none */

static void work_on_nothing(uv_work_t *work) {
  (void)work;
}

/* When libuv is unloaded or the process ends, libuv joins the threads of its pool. A forked child has the list of
 * its parent's threads, but not the threads: it would wait for ever, or crash. libuv starts its pool again at the
 * first work in a child: so the child gives it some. This runs before libuv's own destructor, because this library
 * needs libuv. */
__attribute__((destructor)) static void start_pool_of_child(void) {
  uv_loop_t loop;
  uv_work_t work;
  if (loop_pid == 0 || loop_pid == getpid() || uv_loop_init(&loop) != 0) return;
  if (uv_queue_work(&loop, &work, work_on_nothing, NULL) == 0) uv_run(&loop, UV_RUN_DEFAULT);
  uv_loop_close(&loop);
}

/* --- Later -------------------------------------------------------------------------------------------------------- */

struct later {
  struct flume_queue queue;
  int fn; /* registry */
};

static void run_later(struct flume_deferred *deferred) {
  struct flume_loop *loop = FLUME_CONTAINER_OF(deferred, struct flume_loop, run_later);
  struct flume_queue round, *node;
  flume_queue_init(&round);
  flume_queue_move(&round, &loop->later);
  while ((node = flume_queue_shift(&round)) != NULL) {
    struct later *later = FLUME_CONTAINER_OF(node, struct later, queue);
    lua_rawgeti(loop->L, LUA_REGISTRYINDEX, later->fn);
    luaL_unref(loop->L, LUA_REGISTRYINDEX, later->fn);
    flume_io_free(&flume_io_posix, later);
    flume__loop_call(loop, 0);
  }
}

/* --- Errors ------------------------------------------------------------------------------------------------------ */

struct failure {
  int status;
  const struct flume_err *err;
};

static int make_error(lua_State *L) {
  const struct failure *failure = lua_touserdata(L, 1);
  lua_createtable(L, 0, 2);
  lua_pushstring(L, failure->err != NULL ? failure->err->msg : flume_strerror(failure->status));
  lua_setfield(L, -2, "message");
  lua_pushstring(L, flume_err_name(failure->status));
  lua_setfield(L, -2, "code");
  luaL_newmetatable(L, FLUME_ERROR_TYPE);
  lua_setmetatable(L, -2);
  return 1;
}

static int make_error_name(lua_State *L) {
  const struct failure *failure = lua_touserdata(L, 1);
  lua_pushstring(L, flume_err_name(failure->status));
  return 1;
}

/* Pushes the result of make(arg). False: no memory; pushes the error object kept for that. */
static bool push_made(lua_State *L, lua_CFunction make, void *arg) {
  lua_pushcfunction(L, make);
  lua_pushlightuserdata(L, arg);
  if (lua_pcall(L, 1, 1, 0) == LUA_OK) return true;
  lua_pop(L, 1);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &no_memory_key);
  return false;
}

void flume__push_error(lua_State *L, int status, const struct flume_err *err) {
  push_made(L, make_error, &(struct failure){status, err});
}

void flume__push_error_name(lua_State *L, int status) {
  if (push_made(L, make_error_name, &(struct failure){status, NULL})) return;
  lua_getfield(L, -1, "code"); /* a string that is there already */
  lua_remove(L, -2);
}

void flume__push_outcome(lua_State *L, int status, const struct flume_err *err, lua_CFunction make, void *arg) {
  if (status != 0) {
    flume__push_error(L, status, err);
    lua_pushnil(L);
    return;
  }
  lua_pushnil(L);
  if (push_made(L, make, arg)) return;
  lua_replace(L, -2);
  lua_pushnil(L);
}

static void keep_error_for_no_memory(lua_State *L) {
  lua_pushcfunction(L, make_error);
  lua_pushlightuserdata(L, &(struct failure){FLUME_ENOMEM, NULL});
  lua_call(L, 1, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &no_memory_key);
}

/* --- The loop ----------------------------------------------------------------------------------------------------- */

static void choose_loop(lua_State *L, struct flume_loop *loop) {
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  bool luv_loaded = lua_getfield(L, -1, "luv") != LUA_TNIL;
  lua_pop(L, 2);
  lua_getfield(L, LUA_REGISTRYINDEX, "luv_context");
  struct luv_context *luv = lua_touserdata(L, -1);
  lua_pop(L, 1);
  if (luv_loaded && luv != NULL) {
    loop->loop = luv->loop;
    loop->luv_mode = &luv->mode;
    return;
  }
  int rv = uv_loop_init(&loop->own);
  if (rv != 0) luaL_error(L, "starting an event loop: %s", uv_strerror(rv));
  loop->loop = &loop->own;
  loop->owned = true;
}

struct flume_loop *flume__loop_get(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &registry_key);
  struct flume_loop *loop = lua_touserdata(L, -1);
  if (loop != NULL && !flume__loop_is_inherited(loop)) {
    lua_pop(L, 1);
    return loop;
  }
  loop = lua_newuserdatauv(L, sizeof *loop, LOOP_UV_COUNT);
  *loop = (struct flume_loop){.pid = getpid()};
  if (loop_pid == 0) loop_pid = loop->pid;
  lua_insert(L, -2);
  lua_setiuservalue(L, -2, LOOP_UV_INHERITED);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, loop_gc);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  loop->L = lua_newthread(L);
  lua_setiuservalue(L, -2, LOOP_UV_THREAD);
  keep_error_for_no_memory(L);
  choose_loop(L, loop);
  int rv = flume_pool_open(&loop->pool, loop->loop, &flume_io_posix);
  if (rv != 0) luaL_error(L, "starting an event loop: %s", flume_strerror(rv));
  flume_defer_open(&loop->defer, loop->loop);
  flume_queue_init(&loop->later);
  flume_deferred_init(&loop->run_later, run_later);
  uv_timer_init(loop->loop, &loop->timer);
  uv_unref((uv_handle_t *)&loop->timer);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &registry_key);
  return loop;
}

static int traceback(lua_State *L) {
  if (lua_type(L, 1) == LUA_TSTRING) luaL_traceback(L, L, lua_tostring(L, 1), 1);
  return 1;
}

void flume__loop_call(struct flume_loop *loop, int nargs) {
  lua_State *L = loop->L;
  int function = lua_gettop(L) - nargs;
  if (loop->ending) {
    lua_settop(L, function - 1);
    return;
  }
  lua_pushcfunction(L, traceback);
  lua_insert(L, function);
  if (lua_pcall(L, nargs, 0, function) != LUA_OK) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &on_error_key);
    lua_insert(L, -2);
    if (lua_isnil(L, -2) || lua_pcall(L, 1, 0, 0) != LUA_OK) lua_pop(L, 1);
  }
  lua_settop(L, function - 1);
}

static void on_step_timeout(uv_timer_t *timer) {
  (void)timer; /* it only wakes the loop */
}

bool flume__loop_step(struct flume_loop *loop, int64_t timeout_ms) {
  assert(!loop->stepping);
  loop->stepping = true;
  uv_update_time(loop->loop); /* the loop's clock stood still while Lua ran */
  if (timeout_ms > 0) uv_timer_start(&loop->timer, on_step_timeout, (uint64_t)timeout_ms, 0);
  bool alive = uv_run(loop->loop, timeout_ms == 0 ? UV_RUN_NOWAIT : UV_RUN_ONCE) != 0;
  uv_timer_stop(&loop->timer);
  loop->stepping = false;
  return alive;
}

static bool is_running(const struct flume_loop *loop) {
  return loop->stepping || (loop->luv_mode != NULL && *loop->luv_mode != -1);
}

int flume__fail(lua_State *L, int status, const struct flume_err *err) {
  lua_pushnil(L);
  lua_pushstring(L, err != NULL ? err->msg : flume_strerror(status));
  lua_pushstring(L, flume_err_name(status));
  return 3;
}

/* --- For async.lua ----------------------------------------------------------------------------------------------- */

static int step(lua_State *L) {
  struct flume_loop *loop = flume__loop_get(L);
  lua_Number timeout_ms = luaL_optnumber(L, 1, -1);
  if (is_running(loop)) return luaL_error(L, "the event loop is running already");
  lua_pushboolean(L, flume__loop_step(loop, timeout_ms >= 0 && timeout_ms < 9e15 ? (int64_t)timeout_ms : -1));
  return 1;
}

/* later(fn): calls fn in the loop's next turn */
static int later(lua_State *L) {
  struct flume_loop *loop = flume__loop_get(L);
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  int fn = luaL_ref(L, LUA_REGISTRYINDEX);
  struct later *item = flume_io_alloc(&flume_io_posix, sizeof *item);
  if (item == NULL) {
    luaL_unref(L, LUA_REGISTRYINDEX, fn);
    return luaL_error(L, "out of memory");
  }
  item->fn = fn;
  flume_queue_push(&loop->later, &item->queue);
  flume_defer(&loop->defer, &loop->run_later);
  return 0;
}

static int running(lua_State *L) {
  lua_pushboolean(L, is_running(flume__loop_get(L)));
  return 1;
}

/* forked() -> whether this is a forked child of a process that has used flume in this Lua state */
static int forked(lua_State *L) {
  flume__loop_get(L);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &registry_key);
  lua_pushboolean(L, lua_getiuservalue(L, -1, LOOP_UV_INHERITED) != LUA_TNIL);
  return 1;
}

static int fd(lua_State *L) {
  lua_pushinteger(L, uv_backend_fd(flume__loop_get(L)->loop));
  return 1;
}

static int timeout(lua_State *L) {
  struct flume_loop *loop = flume__loop_get(L);
  uv_update_time(loop->loop);
  lua_pushinteger(L, uv_backend_timeout(loop->loop));
  return 1;
}

static int alive(lua_State *L) {
  lua_pushboolean(L, uv_loop_alive(flume__loop_get(L)->loop));
  return 1;
}

/* thread() -> the coroutine that callbacks run in, and the functions of inline views */
static int thread(lua_State *L) {
  flume__loop_get(L);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &registry_key);
  lua_getiuservalue(L, -1, LOOP_UV_THREAD);
  return 1;
}

static int now(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)(uv_hrtime() / 1000000));
  return 1;
}

/* random_bytes(n) -> n random bytes of the system; n is at most 256 */
static int random_bytes(lua_State *L) {
  char bytes[256];
  lua_Integer n = luaL_checkinteger(L, 1);
  luaL_argcheck(L, n >= 0 && (size_t)n <= sizeof bytes, 1, "out of range");
  int rv = uv_random(NULL, NULL, bytes, (size_t)n, 0, NULL);
  if (rv != 0) return luaL_error(L, "random bytes: %s", uv_strerror(rv));
  lua_pushlstring(L, bytes, (size_t)n);
  return 1;
}

static int set_on_error(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &on_error_key);
  return 0;
}

/* The metatable of error objects; its metamethods are set in errors.lua. */
static int error_metatable(lua_State *L) {
  luaL_newmetatable(L, FLUME_ERROR_TYPE);
  return 1;
}

void flume__loop_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"step", step},
                                       {"later", later},
                                       {"running", running},
                                       {"forked", forked},
                                       {"fd", fd},
                                       {"timeout", timeout},
                                       {"alive", alive},
                                       {"thread", thread},
                                       {"now", now},
                                       {"random_bytes", random_bytes},
                                       {"set_on_error", set_on_error},
                                       {"error_metatable", error_metatable},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
