/* Watching folders for changes, by the events of the file system; where it has none, by a timer. */
#ifndef FLUME_LUA_WATCH_H
#define FLUME_LUA_WATCH_H

#include <lua.h>

/* Puts watch and read_link into the table on top.
 *
 *   watch(fn) -> watcher       fn() on the loop, soon after something has changed; a burst of changes is one call
 *   watcher:look(places)       watches these places from now on, and no others. places: a list of {folder},
 *                              for all changes in a folder, and {folder, name}, for those of one name in it. A folder
 *                              that isn't there is passed over. Whether there are events for all; else fn is called
 *                              once a second. Keeps the loop alive
 *   watcher:stop()             fn is not called again; may be called twice
 *   read_link(path)            where a symbolic link leads; nil for what is none */
void flume__watch_open(lua_State *L);

#endif
