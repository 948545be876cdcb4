/* The slot of a view (core/view/view_slot.h), for Lua: which version answers, and the reads that wait for it.
 *
 * A read crosses from Lua to the engine once, with the function and its arguments, and comes back once, with the
 * answer: at once, when the view has what is asked for and nothing to do, else by its callback from the loop. */
#include <assert.h>
#include <lauxlib.h>
#include <string.h>

#include "core/view/view_slot.h"
#include "lua/view/lua_view.h"

#define SLOT_TYPE "flume.view.slot"

enum { SLOT_UV_PUMP = 1, SLOT_UV_TOLD = 2, SLOT_UV_COUNT = 2 };

static const char slots_key; /* registry: the slots that are open, weak, by their addresses */

struct lua_slot {
  struct flume_view_slot slot;
  struct flume_lua_pump *pump;
  struct flume_loop *loop;
  bool open;
};

static struct lua_slot *check_slot(lua_State *L) {
  struct lua_slot *self = luaL_checkudata(L, 1, SLOT_TYPE);
  if (!self->open) luaL_error(L, "the view is closed");
  return self;
}

/* --- Which version is which --------------------------------------------------------------------------------------- */

static void on_told(struct flume_view_slot *slot) {
  struct lua_slot *self = FLUME_CONTAINER_OF(slot, struct lua_slot, slot);
  lua_State *L = self->loop->L;
  int top = lua_gettop(L);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &slots_key);
  lua_rawgetp(L, -1, self);
  if (self->open && lua_touserdata(L, -1) != NULL) {
    lua_getiuservalue(L, -1, SLOT_UV_TOLD);
    flume__loop_call(self->loop, 0);
  }
  lua_settop(L, top);
}

/* An open view is pinned, and pins its slot. */
static struct flume_view *check_version(lua_State *L) {
  struct lua_view *view = flume__view_check(L, 2);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, 2, FLUME_VIEW_UV_SLOT);
  return &view->view;
}

/* serve(self, view): the view answers from now on; reads that wait for the old version wait for this one */
static int slot_serve(lua_State *L) {
  flume_slot_serve(&check_slot(L)->slot, check_version(L));
  return 0;
}

/* build(self, view): the pending version, which answers once it has caught up */
static int slot_build(lua_State *L) {
  flume_slot_build(&check_slot(L)->slot, check_version(L));
  return 0;
}

/* drop(self) -> whether there was a pending version, which is discarded */
static int slot_drop(lua_State *L) {
  lua_pushboolean(L, flume_slot_drop(&check_slot(L)->slot));
  return 1;
}

/* active(self) -> the number of the active version on disk, or nil */
static int slot_active(lua_State *L) {
  struct lua_slot *self = luaL_checkudata(L, 1, SLOT_TYPE);
  uint32_t number = self->open ? flume_slot_active(&self->slot) : self->slot.active_number;
  if (number == FLUME_VIEW_DIR_NONE) return 0;
  lua_pushinteger(L, number);
  return 1;
}

/* set_active(self, number or nil) */
static int slot_set_active(lua_State *L) {
  struct lua_slot *self = check_slot(L);
  flume_slot_set_active(&self->slot, (uint32_t)luaL_optinteger(L, 2, FLUME_VIEW_DIR_NONE));
  return 0;
}

/* block(self), unblock(self): no version becomes active in between */
static int slot_block(lua_State *L) {
  flume_slot_block(&check_slot(L)->slot);
  return 0;
}

static int slot_unblock(lua_State *L) {
  flume_slot_unblock(&check_slot(L)->slot);
  return 0;
}

/* freeze(self), thaw(self): the engine changes nothing in the slot in between */
static int slot_freeze(lua_State *L) {
  flume_slot_freeze(&check_slot(L)->slot);
  return 0;
}

static int slot_thaw(lua_State *L) {
  struct lua_slot *self = luaL_checkudata(L, 1, SLOT_TYPE);
  if (self->open) flume_slot_thaw(&self->slot);
  return 0;
}

/* is_activating(self) -> whether a version is becoming the active version */
static int slot_is_activating(lua_State *L) {
  lua_pushboolean(L, flume_slot_is_activating(&check_slot(L)->slot));
  return 1;
}

/* news(self) -> nothing | swapped, err: whether the pending version answers now; why the pending version failed */
static int slot_news(lua_State *L) {
  struct lua_slot *self = luaL_checkudata(L, 1, SLOT_TYPE);
  struct flume_slot_news news;
  if (!self->open || !flume_slot_take_news(&self->slot, &news)) return 0;
  lua_pushboolean(L, news.swapped);
  if (news.status != 0) flume__push_error(L, news.status, &news.err);
  else lua_pushnil(L);
  return 2;
}

/* --- Reads -------------------------------------------------------------------------------------------------------- */

struct lua_read {
  struct flume_view_read read;
  struct lua_call call; /* the callback gets its answer behind a nil */
};

static uint64_t deadline_of(lua_State *L, const struct lua_slot *self, int index) {
  lua_Number timeout_ms = luaL_optnumber(L, index, -1);
  const struct flume_io *io = self->slot.pump->log->io;
  if (!(timeout_ms >= 0 && timeout_ms < 9e12)) return 0; /* for ever */
  return io->hrtime_ns(io->ctx) + (uint64_t)(timeout_ms * 1e6) + 1;
}

static void free_read(struct lua_call *call) {
  flume_io_free(&flume_io_posix, FLUME_CONTAINER_OF(call, struct lua_read, call));
}

/* A read that was not answered through flume__call_answer, which frees it too. */
static void end_read(struct lua_read *read) {
  flume__call_fini(&read->call);
  free_read(&read->call);
}

/* cb(code, err, results...): code when the function has not run, err when it has failed. */
static void on_read(struct flume_view_request *request, int status, const struct flume_err *err) {
  struct flume_view_call *call = FLUME_CONTAINER_OF(request, struct flume_view_call, request);
  struct flume_view_read *base = FLUME_CONTAINER_OF(call, struct flume_view_read, call);
  struct lua_read *read = FLUME_CONTAINER_OF(base, struct lua_read, read);
  lua_State *L = read->call.loop->L;
  if (read->call.has_run) {
    flume__call_answer(&read->call, status, err, true);
    return;
  }
  lua_rawgeti(L, LUA_REGISTRYINDEX, read->call.cb);
  if (status == 0) lua_pushnil(L);
  else flume__push_error_name(L, status);
  flume__loop_call(read->call.loop, 1);
  end_read(read);
}

static struct lua_read *new_read(lua_State *L, struct lua_slot *self, int cb) {
  luaL_checktype(L, cb, LUA_TFUNCTION);
  struct lua_read *read = flume_io_zalloc(&flume_io_posix, sizeof *read);
  if (read == NULL) luaL_error(L, "out of memory");
  assert(read != NULL); /* luaL_error doesn't return */
  flume__call_init(&read->call, self->loop, free_read);
  read->read.call.request.cb = on_read;
  read->read.call.data = &read->call;
  return read;
}

static void keep_callback(lua_State *L, struct lua_read *read, int cb) {
  lua_pushvalue(L, cb);
  read->call.cb = luaL_ref(L, LUA_REGISTRYINDEX);
}

/* wait(self, seq, timeout_ms or nil, cb) -> true: the version that answers has reached seq | code: the version has
 * failed | nil: cb(code or nil) will be called */
static int slot_wait(lua_State *L) {
  struct lua_slot *self = check_slot(L);
  lua_Integer seq = luaL_checkinteger(L, 2);
  uint64_t deadline_ns = deadline_of(L, self, 3);
  lua_settop(L, 4);
  struct flume_view *serving;
  if (flume_slot_reach(&self->slot, seq, &serving) == FLUME_SLOT_REACHED) { /* the usual case allocates nothing */
    lua_pushboolean(L, 1);
    return 1;
  }
  struct lua_read *read = new_read(L, self, 4);
  keep_callback(L, read, 4);
  int rv = flume_slot_wait(&self->slot, &read->read, seq, deadline_ns);
  if (rv == 1) return 0;
  end_read(read);
  if (rv == 0) lua_pushboolean(L, 1);
  else flume__push_error_name(L, rv);
  return 1;
}

/* Runs it here, if the view has nothing to do: pushes "now", and true and the results, or nil, message, code; how many
 * these are. 0: it has something to do. */
static int read_here(lua_State *L, struct flume_view *view) {
  int count = flume__view_call_resting(L, FLUME_CONTAINER_OF(view, struct lua_view, view), 6);
  if (count == 0) return 0;
  lua_pushliteral(L, "now");
  lua_insert(L, -count - 1);
  return count + 1;
}

/* read(self, seq, timeout_ms or nil, is_quick, cb, name, args...) ->
 *
 *   "now", results... | "now", nil, message, code    the host's function has run
 *   "later"                                          cb(nil, err, results...); cb(code) when it has not run
 *   "failed"                                         the version that answers has failed
 *   "news"                                           first see to the news
 *   nil, message, code                               an argument can't be encoded
 *
 * seq -1: does not wait. is_quick: the function is short, and runs on this thread if the view rests. */
static int slot_read(lua_State *L) {
  struct lua_slot *self = check_slot(L);
  lua_Integer seq = luaL_checkinteger(L, 2);
  uint64_t deadline_ns = deadline_of(L, self, 3);
  const char *name = luaL_checkstring(L, 6);
  struct flume_view *serving;
  enum flume_slot_reach reach = flume_slot_reach(&self->slot, seq, &serving);
  if (reach == FLUME_SLOT_NEWS) {
    lua_pushliteral(L, "news");
    return 1;
  }
  int count = reach == FLUME_SLOT_REACHED && lua_toboolean(L, 4) ? read_here(L, serving) : 0;
  if (count > 0) return count;
  struct lua_read *read = new_read(L, self, 5);
  struct flume_err err;
  int rv = flume__call_prepare(L, &read->call, name, 7, &err);
  if (rv != 0) {
    end_read(read);
    return flume__fail(L, rv, &err);
  }
  keep_callback(L, read, 5);
  rv = flume_slot_read(&self->slot, &read->read, seq, deadline_ns);
  if (rv == 1) {
    lua_pushliteral(L, "later");
    return 1;
  }
  end_read(read);
  lua_pushliteral(L, "failed");
  return 1;
}

/* --- Opening and closing ------------------------------------------------------------------------------------------ */

/* Collected unclosed: its pending notice is dropped. */
static int slot_gc(lua_State *L) {
  struct lua_slot *self = luaL_checkudata(L, 1, SLOT_TYPE);
  if (!self->open || !self->pump->open) return 0;
  flume_pump_lock(self->slot.pump);
  flume_queue_remove(&self->slot.notice.queue);
  flume_pump_unlock(self->slot.pump);
  return 0;
}

/* close(self): after its versions were closed */
static int slot_close(lua_State *L) {
  struct lua_slot *self = luaL_checkudata(L, 1, SLOT_TYPE);
  if (!self->open) return 0;
  self->open = false;
  flume_pump_lock(self->slot.pump);
  flume_queue_remove(&self->slot.notice.queue);
  flume_pump_unlock(self->slot.pump);
  flume_slot_fini(&self->slot);
  return 0;
}

static void remember(lua_State *L, struct lua_slot *self) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &slots_key) == LUA_TNIL) {
    lua_pop(L, 1);
    lua_createtable(L, 0, 1);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "v");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &slots_key);
  }
  lua_pushvalue(L, -2);
  lua_rawsetp(L, -2, self);
  lua_pop(L, 1);
}

/* slot(pump, told) -> slot: told() is called from the loop when there is news */
static int slot_new(lua_State *L) {
  struct flume_lua_pump *pump = flume__pump_check(L, 1);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  struct lua_slot *self = lua_newuserdatauv(L, sizeof *self, SLOT_UV_COUNT);
  memset(self, 0, sizeof *self);
  self->pump = pump;
  self->loop = pump->log->loop;
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, SLOT_UV_PUMP);
  if (luaL_newmetatable(L, SLOT_TYPE)) {
    static const luaL_Reg methods[] = {{"serve", slot_serve},
                                       {"build", slot_build},
                                       {"drop", slot_drop},
                                       {"active", slot_active},
                                       {"set_active", slot_set_active},
                                       {"block", slot_block},
                                       {"unblock", slot_unblock},
                                       {"freeze", slot_freeze},
                                       {"thaw", slot_thaw},
                                       {"is_activating", slot_is_activating},
                                       {"news", slot_news},
                                       {"wait", slot_wait},
                                       {"read", slot_read},
                                       {"close", slot_close},
                                       {"__gc", slot_gc},
                                       {NULL, NULL}};
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
  }
  lua_setmetatable(L, -2);
  lua_pushvalue(L, 2);
  lua_setiuservalue(L, -2, SLOT_UV_TOLD);
  remember(L, self);
  flume_slot_init(&self->slot, &pump->pump, on_told);
  self->open = true;
  return 1;
}

void flume__slot_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"slot", slot_new}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
