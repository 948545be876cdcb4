/* Calls of the functions of a script view's host. A call crosses to the view's Lua state as MessagePack: it waits
 * for its turn, runs on a worker, and its results go back to the loop. A short function of an idle view runs at once
 * on the owner's thread. */
#include <lauxlib.h>

#include "lua/value/box.h"
#include "lua/value/marshal.h"
#include "lua/view/lua_view.h"

void flume__call_init(struct lua_call *call, struct flume_loop *loop, void (*free)(struct lua_call *call)) {
  *call = (struct lua_call){.loop = loop, .cb = LUA_NOREF, .free = free};
  flume_buf_init(&call->args, &flume_io_posix);
  flume_buf_init(&call->results, &flume_io_posix);
}

void flume__call_fini(struct lua_call *call) {
  luaL_unref(call->loop->L, LUA_REGISTRYINDEX, call->cb);
  call->cb = LUA_NOREF;
  flume_buf_fini(&call->args);
  flume_buf_fini(&call->results);
}

int flume__call_prepare(lua_State *L, struct lua_call *call, const char *name, int first, struct flume_err *err) {
  snprintf(call->name, sizeof call->name, "%s", name);
  return flume_values_put(L, first, lua_gettop(L), &call->args, err);
}

void flume__view_run_call(struct flume_view *view, struct flume_view_call *base) {
  struct lua_view *self = FLUME_CONTAINER_OF(view, struct lua_view, view);
  struct lua_call *call = base->data;
  struct flume_view_request *request = &base->request;
  call->has_run = true;
  request->status = flume_vm_call(self->vm, call->name, &call->args, &call->results, &request->err);
}

/* Pushes the callback, a nil (two for a read) and the results. */
static int push_results(lua_State *L) {
  struct lua_call *call = lua_touserdata(L, 1);
  int nils = lua_toboolean(L, 2) ? 2 : 1;
  lua_settop(L, 0);
  lua_rawgeti(L, LUA_REGISTRYINDEX, call->cb);
  lua_settop(L, 1 + nils);
  int count = flume_values_push(L, &call->results);
  return count >= 0 ? 1 + nils + count : luaL_error(L, "they can't be decoded");
}

void flume__call_answer(struct lua_call *call, int status, const struct flume_err *why, bool is_read) {
  struct flume_loop *loop = call->loop;
  lua_State *L = loop->L;
  int top = lua_gettop(L);
  struct flume_err err = *why;
  if (status == 0) {
    lua_pushcfunction(L, push_results);
    lua_pushlightuserdata(L, call);
    lua_pushboolean(L, is_read);
    if (lua_pcall(L, 2, LUA_MULTRET, 0) != LUA_OK) {
      status = flume_err_set(&err, FLUME_EVIEW, "results: %s", lua_tostring(L, -1));
      lua_settop(L, top);
    }
  }
  if (status != 0) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, call->cb);
    if (is_read) lua_pushnil(L);
    flume__push_error(L, status, &err);
  }
  flume__loop_call(loop, lua_gettop(L) - top - 1);
  flume__call_fini(call);
  call->free(call);
}

/* --- A call that waits for nothing -------------------------------------------------------------------------------- */

struct plain_call {
  struct flume_view_call call;
  struct lua_call own;
};

static void free_plain(struct lua_call *call) {
  flume_io_free(&flume_io_posix, FLUME_CONTAINER_OF(call, struct plain_call, own));
}

static void on_answer(struct flume_view_request *request, int status, const struct flume_err *err) {
  struct flume_view_call *call = FLUME_CONTAINER_OF(request, struct flume_view_call, request);
  flume__call_answer(call->data, status, err, false);
}

/* call(self, cb, name, args...) -> true | nil, message, code; of a view with a state of its own. cb(err, results...) */
int flume__view_call(lua_State *L) {
  struct lua_view *self = flume__view_check(L, 1);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  const char *name = luaL_checkstring(L, 3);
  struct plain_call *call = flume_io_zalloc(&flume_io_posix, sizeof *call);
  if (call == NULL) return luaL_error(L, "out of memory");
  struct flume_err err;
  flume__call_init(&call->own, self->loop, free_plain);
  call->call.request.cb = on_answer;
  call->call.data = &call->own;
  int rv = flume__call_prepare(L, &call->own, name, 4, &err);
  if (rv != 0) {
    flume__call_fini(&call->own);
    free_plain(&call->own);
    return flume__fail(L, rv, &err);
  }
  lua_pushvalue(L, 2);
  call->own.cb = luaL_ref(L, LUA_REGISTRYINDEX);
  flume_view_submit(&self->view, &call->call);
  lua_pushboolean(L, 1);
  return 1;
}

/* --- On the owner's thread ---------------------------------------------------------------------------------------- */

/* Calls host[name] with the arguments behind the name at index. Pushes true and the results, or nil, message, code. */
static int call_here(lua_State *L, struct lua_view *self, int index) {
  const char *name = luaL_checkstring(L, index);
  int last = lua_gettop(L);
  struct flume_buf *args = flume_box_buf(L), *results = flume_box_buf(L);
  struct flume_err err;
  int rv = flume_values_put(L, index + 1, last, args, &err);
  if (rv == 0) {
    flume_vm_enter(self->vm);
    rv = flume_vm_call(self->vm, name, args, results, &err);
    flume_vm_leave(self->vm);
  }
  if (rv != 0) return flume__fail(L, rv, &err);
  lua_pushboolean(L, 1);
  int count = flume_values_push(L, results);
  if (count < 0) return luaL_error(L, "results can't be decoded");
  return 1 + count;
}

/* call_now(self, name, args...) -> true, results... | nil, message, code. On this thread, between two records. */
int flume__view_call_now(lua_State *L) {
  struct lua_view *self = flume__view_check_any(L, 1);
  if (self->vm == NULL) return luaL_error(L, "the view is closed");
  return call_here(L, self, 2);
}

/* (arguments of the caller...): upvalues are the view and the index of the name */
static int call_protected(lua_State *L) {
  struct lua_view *self = lua_touserdata(L, lua_upvalueindex(1));
  return call_here(L, self, (int)lua_tointeger(L, lua_upvalueindex(2)));
}

int flume__view_call_resting(lua_State *L, struct lua_view *self, int index) {
  int args = lua_gettop(L);
  if (self->vm == NULL) return 0;
  lua_pushlightuserdata(L, self);
  lua_pushinteger(L, index);
  lua_pushcclosure(L, call_protected, 2);
  for (int i = 1; i <= args; i++) lua_pushvalue(L, i);
  if (!flume_view_begin_reading(&self->view)) {
    lua_settop(L, args);
    return 0;
  }
  int status = lua_pcall(L, args, LUA_MULTRET, 0);
  flume_view_end_reading(&self->view);
  return status == LUA_OK ? lua_gettop(L) - args : lua_error(L);
}

/* call_if_idle(self, name, args...): the same when no work is under way and no call waits; else nil */
int flume__view_call_if_idle(lua_State *L) {
  return flume__view_call_resting(L, flume__view_check(L, 1), 2);
}

/* page_if_idle(self, range, n, min_seq, max_seq, resume) -> as page in view_store.h, and the seq of the state; nil
 * while the view works. Of an index, whose state is all in the store: its entries become values of the caller's
 * state directly. */
int flume__view_page_if_idle(lua_State *L) {
  struct lua_view *self = flume__view_check(L, 1);
  struct flume_err err;
  if (self->vm == NULL || self->kind != FLUME_VIEW_INDEX) return 0;
  struct flume_store_page *page = flume__store_begin_page(L, 2);
  if (!self->open || self->closing || !flume_view_begin_reading(&self->view)) return 0;
  int64_t seq = self->kept.seq;
  int rv = self->kept.store == NULL ? FLUME_EAGAIN : flume__store_read_page(L, page, self->kept.store, &err);
  flume_view_end_reading(&self->view);
  if (rv == FLUME_EAGAIN) return 0;
  if (rv != 0) return luaL_error(L, "%s", err.msg);
  flume__store_push_page(L, page);
  lua_pushinteger(L, seq);
  return 3;
}
