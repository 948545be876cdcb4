/* Maintenance of a log: what takes its time, answers by callback, and tells how far it is. */
#include <string.h>

#include "log.h"

/* What such work has in common; the request of core follows in the same struct. */
struct work {
  struct flume_lua_log *self;
  int cb;       /* registry */
  int progress; /* registry; LUA_NOREF without one */
  int pin;      /* registry: the log */
};

/* For the log at index 1; progress (or nil) and callback are at the given indexes. A zeroed struct of the given size,
 * which begins with a struct work. Raises memory errors. */
static void *work_new(lua_State *L, struct flume_lua_log *self, size_t bytes, int progress_index, int cb_index) {
  luaL_checktype(L, cb_index, LUA_TFUNCTION);
  lua_pushvalue(L, cb_index);
  int cb = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushvalue(L, progress_index);
  int progress = lua_isnil(L, -1) ? (lua_pop(L, 1), LUA_NOREF) : luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushvalue(L, 1);
  int pin = luaL_ref(L, LUA_REGISTRYINDEX);
  struct work *work = flume_io_zalloc(&flume_io_posix, bytes);
  if (work == NULL) {
    luaL_unref(L, LUA_REGISTRYINDEX, cb);
    luaL_unref(L, LUA_REGISTRYINDEX, progress);
    luaL_unref(L, LUA_REGISTRYINDEX, pin);
    luaL_error(L, "out of memory");
    return NULL; /* not reached */
  }
  *work = (struct work){.self = self, .cb = cb, .progress = progress, .pin = pin};
  return work;
}

static void work_free(lua_State *L, struct work *work) {
  luaL_unref(L, LUA_REGISTRYINDEX, work->cb);
  luaL_unref(L, LUA_REGISTRYINDEX, work->progress);
  luaL_unref(L, LUA_REGISTRYINDEX, work->pin);
  flume_io_free(&flume_io_posix, work);
}

static int work_submitted(lua_State *L, struct work *work, int rv, const struct flume_err *err) {
  if (rv != 0) {
    work_free(L, work);
    return flume__fail(L, rv, err);
  }
  lua_pushboolean(L, 1);
  return 1;
}

static void tell_progress(struct work *work, uint64_t done_bytes, uint64_t total_bytes) {
  if (work->progress == LUA_NOREF) return;
  lua_State *L = work->self->loop->L;
  lua_rawgeti(L, LUA_REGISTRYINDEX, work->progress);
  lua_pushinteger(L, (lua_Integer)done_bytes);
  lua_pushinteger(L, (lua_Integer)total_bytes);
  flume__loop_call(work->self->loop, 2);
}

static void set_number(lua_State *L, const char *name, uint64_t number) {
  lua_pushinteger(L, (lua_Integer)number);
  lua_setfield(L, -2, name);
}

/* --- Compaction ------------------------------------------------------------------------------------------------- */

struct compact {
  struct work work;
  struct flume_compact req;
};

static void on_compact_progress(struct flume_compact *req, uint64_t done_bytes, uint64_t total_bytes) {
  tell_progress(req->data, done_bytes, total_bytes);
}

static void on_compacted(struct flume_compact *req, int status, const struct flume_err *err) {
  struct compact *compact = FLUME_CONTAINER_OF(req, struct compact, req);
  struct flume_loop *loop = compact->work.self->loop;
  lua_State *L = loop->L;
  lua_rawgeti(L, LUA_REGISTRYINDEX, compact->work.cb);
  if (status == 0) lua_pushnil(L);
  else flume__push_error(L, status, err);
  lua_createtable(L, 0, 4);
  set_number(L, "segments", req->segments);
  set_number(L, "records", req->records);
  set_number(L, "bytes_before", req->bytes_before);
  set_number(L, "bytes_after", req->bytes_after);
  work_free(L, &compact->work);
  flume__loop_call(loop, 2);
}

/* compact(self, progress | nil, cb) -> true | nil, message, code; cb(err, statistics) */
static int log_compact(lua_State *L) {
  struct flume_lua_log *self = flume__log_check(L, 1);
  struct compact *compact = work_new(L, self, sizeof *compact, 2, 3);
  struct flume_err err;
  compact->req.data = &compact->work;
  compact->req.progress = on_compact_progress;
  int rv = flume_log_compact(self->log, &compact->req, on_compacted, &err);
  return work_submitted(L, &compact->work, rv, &err);
}

const luaL_Reg flume__log_maintenance[] = {{"compact", log_compact}, {NULL, NULL}};
