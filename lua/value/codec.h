/* The codec as Lua functions, part of what require "flume" gives. */
#ifndef FLUME_LUA_CODEC_H
#define FLUME_LUA_CODEC_H

#include <lua.h>

/* Pushes a table with
 *   encode(value)       MessagePack bytes
 *   encode_sorted(value)  the same bytes for the same contents
 *   encode_state(value) as encode_sorted, of a view's state: errors name it
 *   decode(bytes)       the value
 *   record(bytes)       a lazy record over the bytes (a plain value if they are no map or array)
 *   table(item)         the plain value a record stands for; any other value as it is
 *   is_array(value)     whether it would be stored as an array
 *   json.encode(value)  JSON text; nil, message, "EINVAL" for what JSON can't say
 *   json.decode(text)   the value
 *   json_show(value)    JSON text whatever the value, the keys of tables in order; behind it nil, or what the text lacks,
 *                       and whether that is the type of keys alone
 *   error_text(value)   the text of a value that was raised; of a table without __tostring what it holds
 *   float_text(number)  the shortest decimal text that reads back as the float; "nan", "inf" and "-inf"
 *   null, array, map    see marshal.h
 * Values or bytes that can't be converted give nil, message, code; a malformed record raises. Returns 1, as an opener
 * for luaL_requiref. Raises memory errors. */
int flume__codec_open(lua_State *L);

#endif
