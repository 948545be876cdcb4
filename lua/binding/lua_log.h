/* The log as a userdata, and the encoding of its records. */
#ifndef FLUME_LUA_LOG_H
#define FLUME_LUA_LOG_H

#include <lauxlib.h>

#include "core/log/log.h"
#include "lua/binding/lua_loop.h"

/* The encoding of records. */
enum flume_codec {
  FLUME_CODEC_MSGPACK,
  FLUME_CODEC_JSON, /* JSON text */
  FLUME_CODEC_RAW,  /* strings, as they are */
};

struct flume_lua_log {
  struct flume_log *log; /* NULL once it is closed */
  struct flume_loop *loop;
  enum flume_codec codec;
  bool closing;
  bool keeps_order; /* get and get_list return lazy records, with keys in stored order */
};

/* The log at index; raises when it is something else, or closed. */
struct flume_lua_log *flume__lua_log_check(lua_State *L, int index);

/* Decodes a record and pushes the plain value, nil as flume.null. 0, or FLUME_ECORRUPT with the reason in err and
 * nothing pushed. Raises memory errors. */
int flume__value_push(lua_State *L, enum flume_codec codec, const uint8_t *data, uint32_t len, struct flume_err *err);

/* The same for JSON, but an array or object is pushed as a lazy record, which keeps the order of its keys. */
int flume__json_push_lazy(lua_State *L, const uint8_t *data, uint32_t len, struct flume_err *err);

/* Puts "record SEQ can't be decoded" before the reason in err, and pushes nil, the message and the code. */
int flume__fail_decoding(lua_State *L, int64_t seq, struct flume_err *err);

/* lua_log_maintain.c: more methods of a log. */
extern const luaL_Reg flume__log_maintenance[];
int flume__log_repair(lua_State *L);

/* open_file(dir, options), open_offset(path, options), open_memory(options), repair(dir): into the table on top. */
void flume__log_open(lua_State *L);

#endif
