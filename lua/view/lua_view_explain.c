/* A dry run: folds some records of the log, one by one, into a view that is not attached, and measures each. Its
 * result is never committed. The view begins with its initial state or, when the records are the next ones of the
 * view that answers, with a copy of that view's state, whose groups the dry run reads.
 *
 * It runs in slices of time: on a worker thread for a script view, on the loop for an inline view. */
#include <lauxlib.h>
#include <string.h>

#include "lua/view/lua_view.h"

#define SLICE_NS (10u * 1000 * 1000)
#define BLOCK_BYTES (128u << 10)
#define SLOWEST 10

struct measured {
  int64_t seq;
  uint64_t ns;
  int64_t bytes; /* growth of the memory in use */
};

struct explain {
  struct lua_view *view;
  struct lua_view *base; /* the view that answers; NULL to begin with the initial state */
  int64_t base_seq;      /* that it began with */
  int64_t next;
  int64_t last;
  struct flume_block *block;
  struct flume_job job;
  struct flume_deferred slice;
  struct flume_fold fold;
  int cb;  /* registry */
  int pin; /* registry: both userdata */
  bool stopped;
  int status;
  struct flume_err err;
  /* results */
  int64_t records;
  int64_t deleted;
  int64_t skipped;
  uint64_t total_ns;
  int64_t bytes;
  struct measured slowest[SLOWEST]; /* the slowest first */
  unsigned slowest_count;
};

/* --- One record --------------------------------------------------------------------------------------------------- */

static int64_t memory_of(const struct lua_view *view) {
  if (view->vm != NULL) return (int64_t)view->vm->budget.memory_bytes;
  lua_State *L = view->loop->L;
  return (int64_t)lua_gc(L, LUA_GCCOUNT) * 1024 + lua_gc(L, LUA_GCCOUNTB);
}

static void note(struct explain *self, const struct measured *one) {
  unsigned at = self->slowest_count;
  while (at > 0 && self->slowest[at - 1].ns < one->ns) at--;
  if (at == SLOWEST) return;
  unsigned moved = (self->slowest_count < SLOWEST ? self->slowest_count++ : SLOWEST - 1) - at;
  memmove(self->slowest + at + 1, self->slowest + at, moved * sizeof *self->slowest);
  self->slowest[at] = *one;
}

static bool is_skipped(const struct lua_view *view, int64_t seq) {
  for (size_t i = 0; i < view->view.skips.count; i++) {
    if (view->view.skips.seqs[i] == seq) return true;
  }
  return false;
}

static void fold_one(struct explain *self, uint32_t i) {
  struct lua_view *view = self->view;
  struct measured one = {.seq = flume_block_seq(self->block, i)};
  uint32_t len;
  if (flume_block_get(self->block, i, &len) == NULL) {
    self->deleted++;
    return;
  }
  bool skips = is_skipped(view, one.seq);
  self->fold = (struct flume_fold){.host = flume__view_host(view),
                                   .codec = view->pump->log->codec,
                                   .store = &view->kept,
                                   .extract = view->extract,
                                   .aggregates = view->aggregates,
                                   .skips = &one.seq,
                                   .skips_count = skips ? 1 : 0,
                                   .block = self->block,
                                   .from = i,
                                   .limit = 1,
                                   .budget = view->vm != NULL ? &view->vm->budget : NULL};
  int64_t before = memory_of(view);
  uint64_t start = uv_hrtime();
  self->status = flume_fold_run(flume__view_state(view), &self->fold, &view->view.traceback, &self->err);
  if (skips) {
    self->skipped++;
    return;
  }
  one.ns = uv_hrtime() - start;
  one.bytes = memory_of(view) - before;
  self->records++;
  self->total_ns += one.ns;
  self->bytes += one.bytes;
  note(self, &one);
}

static void fold_some(struct explain *self) {
  uint64_t until = uv_hrtime() + SLICE_NS;
  struct lua_view *view = self->view, *base = self->base;
  flume__view_enter(view);
  if (base != NULL && base->vm != NULL) flume_vm_enter(base->vm);
  if (base != NULL && base->vm == NULL) flume__store_await(&base->kept);
  view->kept.base = base != NULL ? base->kept.store : NULL;
  view->kept.base_seq = self->base_seq;
  if (base != NULL && view->kept.base == NULL) {
    self->status = flume_err_set(&self->err, FLUME_EAGAIN, "other code has taken over the view's state meanwhile");
  }
  while (self->status == 0 && uv_hrtime() < until) {
    uint32_t i = flume_block_find(self->block, self->next);
    if (i == self->block->count) break;
    self->next = flume_block_seq(self->block, i);
    if (self->next > self->last) break;
    fold_one(self, i);
    if (self->status == 0) self->next++;
  }
  if (base != NULL && base->vm != NULL) flume_vm_leave(base->vm);
  flume__view_leave(view);
}

/* --- From slice to slice ------------------------------------------------------------------------------------------ */

static void set_number(lua_State *L, const char *name, lua_Number value) {
  lua_pushnumber(L, value);
  lua_setfield(L, -2, name);
}

static void set_integer(lua_State *L, const char *name, int64_t value) {
  lua_pushinteger(L, value);
  lua_setfield(L, -2, name);
}

static void push_measured(lua_State *L, const struct measured *one) {
  lua_createtable(L, 0, 3);
  set_integer(L, "seq", one->seq);
  set_number(L, "us", (lua_Number)one->ns / 1e3);
  set_integer(L, "bytes", one->bytes);
}

static void push_error(lua_State *L, const struct explain *self) {
  const struct flume_buf *traceback = &self->view->view.traceback;
  lua_createtable(L, 0, 3);
  set_integer(L, "seq", self->next);
  lua_pushstring(L, self->err.msg);
  lua_setfield(L, -2, "message");
  lua_pushstring(L, traceback->len > 0 ? (const char *)traceback->data : "");
  lua_setfield(L, -2, "traceback");
}

static int make_results(lua_State *L) {
  const struct explain *self = lua_touserdata(L, 1);
  lua_createtable(L, 0, 8);
  set_integer(L, "records", self->records);
  set_integer(L, "deleted", self->deleted);
  set_integer(L, "skipped", self->skipped);
  set_number(L, "ms", (lua_Number)self->total_ns / 1e6);
  set_number(L, "us_per_record", self->records > 0 ? (lua_Number)self->total_ns / 1e3 / (lua_Number)self->records : 0);
  set_number(L, "bytes_per_record", self->records > 0 ? (lua_Number)self->bytes / (lua_Number)self->records : 0);
  lua_createtable(L, (int)self->slowest_count, 0);
  for (unsigned i = 0; i < self->slowest_count; i++) {
    push_measured(L, &self->slowest[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_setfield(L, -2, "slowest");
  if (self->status == FLUME_EVIEW) {
    push_error(L, self);
    lua_setfield(L, -2, "error");
  }
  return 1;
}

static void finish(struct explain *self) {
  struct flume_loop *loop = self->view->loop;
  lua_State *L = loop->L;
  flume_block_unref(self->block);
  self->view->explain = NULL;
  lua_rawgeti(L, LUA_REGISTRYINDEX, self->cb);
  luaL_unref(L, LUA_REGISTRYINDEX, self->cb);
  luaL_unref(L, LUA_REGISTRYINDEX, self->pin);
  if (self->stopped) self->status = flume_err_set(&self->err, FLUME_ECLOSED, "the database was closed");
  flume__push_outcome(L, self->status == FLUME_EVIEW ? 0 : self->status, &self->err, make_results, self);
  flume_io_free(&flume_io_posix, self);
  flume__loop_call(loop, 2);
}

static bool has_block(struct explain *self) {
  struct flume_block *block = self->block;
  if (block != NULL && self->next <= flume_block_last_seq(block)) return true;
  flume_block_unref(block);
  self->block = NULL;
  self->status = flume_log_read(self->view->pump->log->log, self->next, false, BLOCK_BYTES, &self->block, &self->err);
  return self->status == 0;
}

static void go_on(struct explain *self) {
  if (self->stopped || self->status != 0 || self->next > self->last || !has_block(self)) finish(self);
  else if (self->view->vm != NULL) flume_pool_submit(self->view->loop->pool, &self->job);
  else flume_defer(&self->view->pump->pump.log->defer, &self->slice);
}

static void run_job(struct flume_job *job) {
  fold_some(FLUME_CONTAINER_OF(job, struct explain, job));
}

static void job_done(struct flume_job *job) {
  go_on(FLUME_CONTAINER_OF(job, struct explain, job));
}

static void run_slice(struct flume_deferred *deferred) {
  struct explain *self = FLUME_CONTAINER_OF(deferred, struct explain, slice);
  if (self->block != NULL && !self->stopped) fold_some(self);
  go_on(self);
}

int flume__view_explain(lua_State *L) {
  struct lua_view *view = flume__view_check_any(L, 1);
  struct lua_view *base = lua_isnil(L, 2) ? NULL : flume__view_check(L, 2);
  int64_t from = luaL_checkinteger(L, 3), to = luaL_checkinteger(L, 4);
  luaL_checktype(L, 5, LUA_TFUNCTION);
  if (view->open || view->explain != NULL) return luaL_error(L, "a dry run needs a view of its own");
  struct explain *self = flume_io_zalloc(&flume_io_posix, sizeof *self);
  if (self == NULL) return luaL_error(L, "out of memory");
  self->view = view;
  self->base = base;
  self->base_seq = from - 1;
  self->next = from;
  self->last = to;
  self->job = (struct flume_job){.run = run_job, .done = job_done};
  flume_deferred_init(&self->slice, run_slice);
  view->explain = self;
  lua_pushvalue(L, 5);
  self->cb = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_createtable(L, 2, 0);
  lua_pushvalue(L, 1);
  lua_rawseti(L, -2, 1);
  lua_pushvalue(L, 2);
  lua_rawseti(L, -2, 2);
  self->pin = luaL_ref(L, LUA_REGISTRYINDEX);
  flume_defer(&view->pump->pump.log->defer, &self->slice);
  return 0;
}

int flume__view_explain_stop(lua_State *L) {
  struct lua_view *view = flume__view_check_any(L, 1);
  if (view->explain != NULL) view->explain->stopped = true;
  return 0;
}
