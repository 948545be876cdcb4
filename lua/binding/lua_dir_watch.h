/* Watching a folder for changes, by the events that the file system gives. */
#ifndef FLUME_LUA_WATCH_H
#define FLUME_LUA_WATCH_H

#include <lua.h>

/* Puts watch into the table on top.
 *
 *   watch(path, fn) -> watcher | nil, message, code    fn() on the loop, soon after something in the folder has changed;
 *                                                      a burst of changes is one. Keeps the loop alive
 *   watcher:stop()                                     never again; may be called twice */
void flume__watch_open(lua_State *L);

#endif
