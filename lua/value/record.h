/* Lazy records: a userdata over the bytes of a stored value that decodes what is touched, and nothing else.
 *
 * To Lua a record reads like the table it stands for: item.key, item[1], #item, pairs(item), ipairs(item). Containers
 * in it are records over the same bytes, null is flume.null, a missing key nil. It can't be changed. #item is 0 for a
 * map; pairs goes in the order of the bytes.
 *
 * The bytes belong to a block that the record keeps alive by its user value; it has no finalizer of its own. Bytes are
 * not trusted: where they turn out not to be MessagePack, reading the record raises "record is not valid MessagePack".
 *
 * All functions: on the thread of the Lua state. */
#ifndef FLUME_LUA_RECORD_H
#define FLUME_LUA_RECORD_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

/* Pushes the metatable of records, made at the first call in a state. */
void flume_record_open(lua_State *L);

/* Pushes the value that data is: a record if it is a map or an array, else the plain value, nil as flume.null. The
 * value at block_index keeps data alive, whatever it is; 0 when the caller vouches for that. Raises memory errors, and
 * an error for a malformed plain value. */
void flume_record_push(lua_State *L, const uint8_t *data, uint32_t len, int block_index);

/* As flume_record_push, for loops: the metatable of records is at metatable_index. Neither index may be relative to
 * the top of the stack. Needs 2 free stack slots. */
void flume_record_push_fast(lua_State *L, const uint8_t *data, uint32_t len, int block_index, int metatable_index);

/* Whether the value at index is a record, and if so its bytes, valid while the record lives. They are exactly one
 * value, unless they are malformed. Raises nothing. */
bool flume_record_bytes(lua_State *L, int index, const uint8_t **data, uint32_t *len);

/* Whether the value at index is a record, and one of an array. Raises nothing. */
bool flume_record_is_array(lua_State *L, int index);

/* Pushes the plain value that a record at index stands for, any other value as it is. Raises an error for malformed
 * bytes. */
void flume_record_copy(lua_State *L, int index);

#endif
