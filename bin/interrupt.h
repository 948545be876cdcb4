/* What signals mean to the Lua code that runs.
 *
 * SIGINT (Ctrl-C) raises "interrupted!" in the watched coroutine, once that runs Lua code, and sets a flag for the
 * function that waits on behalf of a coroutine that waits. Code that catches the error goes on. A second SIGINT
 * before the first is answered raises it for good: at every instruction until the coroutine is dead, and in the
 * Lua code that runs on the event loop meanwhile. Without a prompt the second SIGINT ends the process.
 *
 * SIGTERM and SIGHUP are answered in the same way, and remembered: what is under way is brought to its end, and
 * then the process ends by that signal. A second one ends it at once.
 *
 * A signal is the process's, hence there is one handler for the process. All functions are for its main thread. */
#ifndef FLUME_INTERRUPT_H
#define FLUME_INTERRUPT_H

#include <lua.h>
#include <stdbool.h>

/* Handles the signals from now on. L is the state whose coroutine.resume and coroutine.wrap are replaced by ones that
 * watch the coroutine that they run, for as long as it runs, when their caller is watched. */
void flume_interrupt_open(lua_State *L);

/* Handles the signals again, after a library has taken them. */
void flume_interrupt_handle(void);

/* Nothing is watched any more; to be called before the state is closed. */
void flume_interrupt_close(void);

/* From now on no number of SIGINTs ends the process: there is a prompt. */
void flume_interrupt_keep_process(void);

/* Whether there was a signal since the last take, which tells it, too. */
bool flume_interrupt_pending(void);
bool flume_interrupt_take(void);

/* Whether the process is to end by a SIGTERM or SIGHUP; and ends it by that, or returns when there was none. */
bool flume_interrupt_terminated(void);
void flume_interrupt_end_process(void);

/* watch([thread]): from now on a signal raises "interrupted!" in this coroutine, or nowhere. */
int flume_interrupt_watch(lua_State *L);

/* watch_loop(thread): the coroutine of the event loop's callbacks. */
int flume_interrupt_watch_loop(lua_State *L);

/* guard(fn, handler, done): calls fn() with this coroutine watched, and done(true, results…), or done(false, error) with
 * what handler made of the error. Nothing is watched, and nothing raised, from then on. */
int flume_interrupt_guard(lua_State *L);

/* abandon(thread): raises "interrupted!" in this coroutine, which is guarded, whenever it runs. */
int flume_interrupt_abandon(lua_State *L);

#endif
