/* The loop that a Lua state's databases run on: luv's loop when luv is loaded, else a loop of flume's own.
 *
 * Each Lua state has one, made at first use and kept in the registry. Callbacks run on a Lua thread of their own,
 * never on the coroutine that submitted the work: that coroutine may be dead by then.
 *
 * A forked child has the memory of its parent's loop, but none of its threads, and shares its epoll instance. So the
 * child leaves that loop and everything on it alone (flume__loop_is_inherited), and makes another at its first use.
 *
 * All functions: on the thread of the Lua state. */
#ifndef FLUME_LUA_LOOP_H
#define FLUME_LUA_LOOP_H

#include <lua.h>
#include <unistd.h>

#include "core/base/err.h"
#include "core/loop/defer.h"
#include "core/loop/pool.h"

#define FLUME_ERROR_TYPE "flume.error"

struct flume_loop {
  uv_loop_t *loop;
  uv_loop_t own;
  bool owned;               /* loop is own */
  const int *luv_mode;      /* mode of luv's loop, -1 while it is not running; NULL without luv */
  bool stepping;            /* flume.step is running it */
  bool ending;              /* the Lua state is closing: no callback is called, as its values may be gone */
  struct flume_defer defer; /* of core.later */
  struct flume_queue later; /* struct later */
  struct flume_deferred run_later;
  int *defer_open;         /* while it closes */
  uv_timer_t timer;        /* of flume.step */
  lua_State *L;            /* callbacks run here */
  struct flume_pool *pool; /* worker threads of the views */
  pid_t pid;               /* the process that made the loop */
};

/* Whether the loop is the parent's, in a forked child. Then a handle on it neither waits nor writes nor closes: its
 * finalizer returns at once. */
static inline bool flume__loop_is_inherited(const struct flume_loop *loop) {
  return loop->pid != getpid();
}

/* The state's loop, made when there is none of this process. Raises when that fails. */
struct flume_loop *flume__loop_get(lua_State *L);

/* Calls the function below its nargs arguments on loop->L. An error goes to core.on_error (see async.lua), never to the
 * event loop. */
void flume__loop_call(struct flume_loop *loop, int nargs);

/* Runs the loop once, which must not be running, and waits at most timeout_ms (-1: without limit); true while
 * anything is left. */
bool flume__loop_step(struct flume_loop *loop, int64_t timeout_ms);

/* Arguments that callbacks of the loop push for a function. These functions don't raise: an error would leave the
 * loop by a longjmp. Without memory, each pushes an error object that was made with the loop (or its code) instead. */

/* An error object {code=, message=} for a status; err may be NULL. */
void flume__push_error(lua_State *L, int status, const struct flume_err *err);
/* The name of a status: "ECLOSED". */
void flume__push_error_name(lua_State *L, int status);
/* Two values: nil and what make(arg, a light userdata) returns; or the error of a status other than 0, and nil. make
 * may raise. */
void flume__push_outcome(lua_State *L, int status, const struct flume_err *err, lua_CFunction make, void *arg);
/* Pushes nil, message, code; returns 3. */
int flume__fail(lua_State *L, int status, const struct flume_err *err);

/* Puts step, later, running, forked, fd, timeout, alive, thread, now, random_bytes, set_on_error and error_metatable
 * into the table on top. */
void flume__loop_open(lua_State *L);

#endif
