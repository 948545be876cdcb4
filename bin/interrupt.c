#include "interrupt.h"

#include <lauxlib.h>
#include <lualib.h>
#include <signal.h>
#include <unistd.h>

static lua_State *volatile watched;                /* where a signal raises an error, or NULL */
static lua_State *volatile loop;                   /* where callbacks of the event loop run, or NULL */
static volatile sig_atomic_t pending;              /* how many signals are not answered yet, 2 at most */
static volatile sig_atomic_t terminated;           /* the signal that is to end the process, or 0 */
static volatile sig_atomic_t is_kept;              /* SIGINT does not end the process */
static bool hangup_is_ignored;                     /* as nohup has it */
static const char watched_key[] = "flume.watched"; /* of the registry: what is watched is not collected meanwhile */
static const char loop_key[] = "flume.watched_loop";

enum { ALL_EVENTS = LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT };

static void raise_always(lua_State *L, lua_Debug *ar) {
  (void)ar;
  luaL_error(L, "interrupted!");
}

static void raise_once(lua_State *L, lua_Debug *ar) {
  lua_sethook(L, NULL, 0, 0);
  raise_always(L, ar);
}

static void set_hook(lua_State *L) {
  lua_sethook(L, pending > 1 ? raise_always : raise_once, ALL_EVENTS, 1);
}

/* What a callback is in the midst of is broken off when it does not end by itself. */
static void break_callback(void) {
  lua_Debug ar;
  if (loop != NULL && lua_getstack(loop, 0, &ar)) lua_sethook(loop, raise_once, ALL_EVENTS, 1);
}

static void on_signal(int sig) {
  lua_State *L = watched;
  if (pending && sig == SIGINT && !is_kept) _exit(128 + sig);
  if (sig != SIGINT) terminated = sig;
  pending = pending ? 2 : 1;
  if (L != NULL) set_hook(L);
  if (pending > 1) break_callback();
}

/* Unlike an ignored signal this is not inherited by the programs that Lua code starts. */
static void on_sigpipe(int sig) {
  (void)sig;
}

bool flume_interrupt_pending(void) {
  return pending;
}

bool flume_interrupt_take(void) {
  bool was_pending = pending;
  pending = 0;
  if (was_pending && loop != NULL) lua_sethook(loop, NULL, 0, 0);
  return was_pending;
}

bool flume_interrupt_terminated(void) {
  return terminated;
}

void flume_interrupt_end_process(void) {
  if (!terminated) return;
  signal(terminated, SIG_DFL);
  raise(terminated);
}

void flume_interrupt_keep_process(void) {
  is_kept = 1;
}

int flume_interrupt_watch(lua_State *L) {
  lua_settop(L, 1);
  watched = NULL;
  lua_pushvalue(L, 1);
  lua_setfield(L, LUA_REGISTRYINDEX, watched_key);
  watched = lua_tothread(L, 1);
  return 0;
}

int flume_interrupt_watch_loop(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTHREAD);
  lua_pushvalue(L, 1);
  lua_setfield(L, LUA_REGISTRYINDEX, loop_key);
  loop = lua_tothread(L, 1);
  return 0;
}

/* The function of guard has ended. */
static int end_guard(lua_State *L, int status, lua_KContext ctx) {
  (void)ctx;
  if (watched == L) watched = NULL;
  lua_sethook(L, NULL, 0, 0);
  lua_pushboolean(L, status == LUA_OK || status == LUA_YIELD);
  lua_insert(L, 3);
  lua_call(L, lua_gettop(L) - 2, 0);
  return 0;
}

int flume_interrupt_guard(lua_State *L) {
  lua_settop(L, 3);
  lua_rotate(L, 1, -1); /* the handler, done, the function */
  lua_pushthread(L);
  lua_setfield(L, LUA_REGISTRYINDEX, watched_key);
  watched = L;
  return end_guard(L, lua_pcallk(L, 0, LUA_MULTRET, 1, 0, end_guard), 0);
}

int flume_interrupt_abandon(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTHREAD);
  lua_sethook(lua_tothread(L, 1), raise_always, ALL_EVENTS, 1);
  return 0;
}

/* --- Coroutines of the watched one ---------------------------------------------------------------------------------- */

/* A signal that came before is moved along, so that it raises its error in the coroutine that runs. */
static void move_watch(lua_State *from, lua_State *to) {
  watched = to;
  if (lua_gethook(from) == raise_once) lua_sethook(from, NULL, 0, 0);
  if (pending) set_hook(to);
}

/* Calls the function at 1, which resumes the coroutine next, with the values above it. */
static int call_watched(lua_State *L, lua_State *next) {
  lua_State *before = watched;
  int status;
  if (before == NULL || next == NULL) {
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
  }
  move_watch(before, next);
  status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
  move_watch(next, before);
  return status == LUA_OK ? lua_gettop(L) : lua_error(L);
}

/* Upvalue: the resume of Lua. */
static int resume(lua_State *L) {
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  return call_watched(L, lua_tothread(L, 2));
}

/* Upvalues: what the wrap of Lua gave, and its coroutine. */
static int call_wrapped(lua_State *L) {
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  return call_watched(L, lua_tothread(L, lua_upvalueindex(2)));
}

/* Upvalue: the wrap of Lua, whose result has its coroutine as an upvalue. */
static int wrap(lua_State *L) {
  lua_settop(L, 1);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, 1, 1);
  if (lua_getupvalue(L, 1, 1) == NULL) lua_pushnil(L);
  lua_pushcclosure(L, call_wrapped, 2);
  return 1;
}

static void replace(lua_State *L, const char *name, lua_CFunction function) {
  lua_getfield(L, -1, name);
  lua_pushcclosure(L, function, 1);
  lua_setfield(L, -2, name);
}

/* --- Opening and closing -------------------------------------------------------------------------------------------- */

void flume_interrupt_handle(void) {
  struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART: a read that waits has to come back */
  if (terminated) return;
  sigaction(SIGINT, &action, NULL);
  action.sa_flags = SA_RESETHAND;
  sigaction(SIGTERM, &action, NULL);
  if (!hangup_is_ignored) sigaction(SIGHUP, &action, NULL);
}

void flume_interrupt_open(lua_State *L) {
  struct sigaction inherited = {.sa_handler = SIG_DFL};
  lua_getglobal(L, LUA_COLIBNAME);
  replace(L, "resume", resume);
  replace(L, "wrap", wrap);
  lua_pop(L, 1);
  sigaction(SIGHUP, NULL, &inherited);
  hangup_is_ignored = inherited.sa_handler == SIG_IGN;
  signal(SIGPIPE, on_sigpipe); /* the write fails instead, and what is open is closed in order */
  flume_interrupt_handle();
}

void flume_interrupt_close(void) {
  watched = loop = NULL;
}
