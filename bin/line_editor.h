/* The line editor of the prompt, on libedit's own interface: editing, history, completion, bracketed paste. While it
 * waits for a key it calls a Lua function, which serves the event loop.
 *
 * There is one editor for the process, since there is one terminal. All functions are for the main thread. */
#ifndef FLUME_LINE_EDITOR_H
#define FLUME_LINE_EDITOR_H

#include <lua.h>
#include <stdbool.h>

/* readline(prompt, idle) → the line; nil, "eof"; or nil, "interrupted". idle() is called while there is no input. It
 * returns for how many milliseconds it need not be called again, and true to keep hidden what it hid. An error of idle
 * ends the line, and is raised. */
int flume_line_editor_read(lua_State *L);

/* hide() → true once the prompt is off the screen, so that something else can be printed in its place; the next key or
 * the next idle shows it again. false when it can't be hidden: there is no prompt, or something is typed. */
int flume_line_editor_hide(lua_State *L);

/* bind(text): a line of editrc(5). */
int flume_line_editor_bind(lua_State *L);

/* set_completer(fn): fn(line, first, last) returns a list of what the word line:sub(first, last) may become, behind what
 * all of these begin with; nil for nothing. */
int flume_line_editor_set_completer(lua_State *L);

/* history_limit(entries): how many are kept. history_add(text): one more. */
int flume_line_editor_history_limit(lua_State *L);
int flume_line_editor_history_add(lua_State *L);

/* Whether the terminal can't erase a line. */
bool flume_line_editor_is_dumb(void);

#endif
