/* A view at one version, for Lua: the engine of core (core/view/view.h), the host object whose functions fold and
 * answer, and the Lua state that they live in.
 *
 *   lua_view.c          the userdata: waiting, asking, closing
 *   lua_view_start.c    starting on a state, taking a state over
 *   lua_view_host.c     what the engine calls: fold, take back, save, restore, call
 *   lua_view_call.c     calls of the host's functions, and their answers
 *   lua_view_explain.c  a dry run
 *   lua_slot.c          which version answers, and the reads that wait for it
 *
 * (What a database mounts under a name is lua/flume/view/view.lua: it has one of these, and a second one while a new
 * version is built beside the old.)
 *
 * A script view has a Lua state of its own (vm.h); the host of an inline view lives in the caller's state. All
 * functions here are called on the owner's thread, but those of the engine's vtable. */
#ifndef FLUME_LUA_VIEW_H
#define FLUME_LUA_VIEW_H

#include "core/view/view.h"
#include "core/view/view_dir.h"
#include "lua/binding/lua_pump.h"
#include "lua/sandbox/vm.h"
#include "lua/view/fold.h"
#include "lua/view/view_store.h"

#define FLUME_VIEW_TYPE "flume.view.core"
#define FLUME_VIEW_UV_SLOT 2 /* user value of a view: its slot */

enum flume_view_kind {
  FLUME_VIEW_REDUCE, /* one state */
  FLUME_VIEW_GROUP,  /* a state for each key, in the store */
  FLUME_VIEW_INDEX,  /* entries in the store */
  FLUME_VIEW_BITMAP, /* sets of records in the store */
  FLUME_VIEW_SINK,   /* keeps its own state */
};

struct explain;

struct lua_view {
  struct flume_view view;
  struct flume_lua_pump *pump;
  struct flume_loop *loop;
  struct flume_vm *vm; /* NULL for an inline view */
  int host;            /* of an inline view: registry reference */
  enum flume_view_kind kind;
  bool open;                     /* started, and not closed yet */
  bool closing;                  /* asked to close */
  bool released;                 /* freed, except for the userdata */
  int pin;                       /* registry: the userdata, while open */
  struct flume_view_request end; /* of closing */
  int close_cb;                  /* registry */
  struct flume_extract *extract; /* of an index by paths, and of a bitmap view */
  bool aggregates;               /* records go into kept.aggregate without Lua */
  struct flume_lua_store kept;   /* the engine's store, for the host */
  struct explain *explain;       /* the dry run of this view; NULL: none */
};

static inline lua_State *flume__view_state(const struct lua_view *self) {
  return self->vm != NULL ? self->vm->L : self->loop->L;
}

static inline int flume__view_host(const struct lua_view *self) {
  return self->vm != NULL ? self->vm->host : self->host;
}

static inline void flume__view_enter(struct lua_view *self) {
  if (self->vm != NULL) flume_vm_enter(self->vm);
}

static inline void flume__view_leave(struct lua_view *self) {
  if (self->vm != NULL) flume_vm_leave(self->vm);
}

/* lua_view.c: the view at index; raises when it is something else, or closed. */
struct lua_view *flume__view_check(lua_State *L, int index);
/* The same, also for a view that was not started. */
struct lua_view *flume__view_check_any(lua_State *L, int index);

/* lua_view_host.c */
extern const struct flume_view_ops flume__view_script_ops;
extern const struct flume_view_ops flume__view_inline_ops;

/* lua_view_start.c */

/* start(self, version, fingerprint, place, since), adopt(self, other, version, fingerprint), start_dry(self, base) */
int flume__view_start(lua_State *L);
int flume__view_adopt(lua_State *L);
int flume__view_start_dry(lua_State *L);

/* A call of a function of the host: the common part of a plain call and of a read that waits. */
struct lua_call {
  struct flume_loop *loop;
  char name[16]; /* of the host's function */
  struct flume_buf args;
  struct flume_buf results;
  int cb; /* registry */
  bool has_run;
  void (*free)(struct lua_call *call); /* frees the struct that it is embedded in */
};

/* lua_view_call.c */

void flume__call_init(struct lua_call *call, struct flume_loop *loop, void (*free)(struct lua_call *call));
void flume__call_fini(struct lua_call *call);
/* Encodes the arguments from index first on. Errors: as flume_values_put. */
int flume__call_prepare(lua_State *L, struct lua_call *call, const char *name, int first, struct flume_err *err);
/* On the loop: calls the callback with nil and the results, or the error; for a read, with one more nil before them.
 * Frees the call. */
void flume__call_answer(struct lua_call *call, int status, const struct flume_err *why, bool is_read);
/* Calls the function whose name is at index, with the arguments behind the name, on this thread, if the view is
 * idle. Pushes true and the results, or nil, message, code. Returns their number; 0: the view is not idle. Owner. */
int flume__view_call_resting(lua_State *L, struct lua_view *self, int index);

/* call(self, cb, name, args...), call_now(self, name, args...), call_if_idle(self, name, args...), page_if_idle(...) */
int flume__view_call(lua_State *L);
int flume__view_call_now(lua_State *L);
int flume__view_call_if_idle(lua_State *L);
int flume__view_page_if_idle(lua_State *L);
/* For the vtable: runs it. */
void flume__view_run_call(struct flume_view *view, struct flume_view_call *call);

/* lua_view_explain.c */

/* explain(self, base or nil, from, to, cb): a dry run over the records from `from` to `to`, on a view that was
 * started with start_dry; cb(err, results). base: the view whose groups the dry run reads. explain_stop(self): ends
 * the dry run soon, with ECLOSED */
int flume__view_explain(lua_State *L);
int flume__view_explain_stop(lua_State *L);

/* view(pump, options): into the table on top. */
void flume__view_open(lua_State *L);

/* lua_slot.c: slot(pump, told), into the table on top. */
void flume__slot_open(lua_State *L);

#endif
