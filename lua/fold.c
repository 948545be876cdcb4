#include "fold.h"

#include <lauxlib.h>
#include <string.h>

#include "block.h"
#include "marshal.h"
#include "record.h"

#define LOOK_AT_CLOCK_EVERY 16 /* records */
#define NEW_HOLD_EVERY 64      /* records: see hold_block */

/* Where things are on the stack of run. */
enum { AT_FOLD = 1, AT_HOST, AT_STEP, AT_ACC, AT_BLOCK, AT_RECORDS, AT_TRANSFORM };

static void push_item(lua_State *L, const struct flume_fold *fold, bool transforms, bool bytes, int64_t seq,
                      const uint8_t *data, uint32_t len) {
  if (!transforms && fold->codec == FLUME_CODEC_MSGPACK) {
    flume_record_push_fast(L, data, len, AT_BLOCK, AT_RECORDS);
    return;
  }
  if (transforms) lua_pushvalue(L, AT_TRANSFORM);
  if (flume__value_push(L, bytes ? FLUME_CODEC_RAW : fold->codec, data, len) != 0) {
    luaL_error(L, "the record can't be decoded");
  }
  if (transforms) {
    lua_pushinteger(L, seq);
    lua_call(L, 2, 1);
  }
}

static bool time_is_up(const struct flume_fold *fold) {
  return (fold->interrupt != NULL && atomic_load_explicit(fold->interrupt, memory_order_relaxed)) ||
         uv_hrtime() >= fold->until_ns;
}

/* Records get a new userdata to hold their block every so often. One that lives through a whole block grows old under
 * the generational collector, which then frees neither it nor the block until a full collection: and as it does not see
 * the size of blocks, that may never come. */
static void hold_block(lua_State *L, struct flume_block *block) {
  flume__block_push(L, flume_block_ref(block));
  lua_replace(L, AT_BLOCK);
}

static int run(lua_State *L) {
  struct flume_fold *fold = lua_touserdata(L, AT_FOLD);
  lua_rawgeti(L, LUA_REGISTRYINDEX, fold->host);
  lua_getfield(L, AT_HOST, "kind");
  bool reduces = strcmp(lua_tostring(L, -1), "reduce") == 0;
  lua_pop(L, 1);
  lua_getfield(L, AT_HOST, "step");
  lua_getfield(L, AT_HOST, "acc");
  flume__block_push(L, flume_block_ref(fold->block));
  flume_record_open(L);
  bool transforms = lua_getfield(L, AT_HOST, "transform") != LUA_TNIL;
  lua_getfield(L, AT_HOST, "bytes");
  bool bytes = lua_toboolean(L, -1);
  lua_pop(L, 1);
  luaL_checkstack(L, 8, NULL);
  int64_t first_seq = fold->block->first_seq;
  uint32_t count = fold->block->count, folded = 0;
  for (uint32_t i = fold->from; i < count; i++) {
    uint32_t len;
    const uint8_t *data = flume_block_get(fold->block, i, &len);
    fold->next = i;
    if (i > fold->from && (i - fold->from) % NEW_HOLD_EVERY == 0) hold_block(L, fold->block);
    if (fold->spent != NULL) *fold->spent = 0;
    if (data != NULL) {
      lua_pushvalue(L, AT_STEP);
      if (reduces) lua_pushvalue(L, AT_ACC);
      push_item(L, fold, transforms, bytes, first_seq + i, data, len);
      lua_pushinteger(L, first_seq + i);
      lua_call(L, reduces ? 3 : 2, reduces);
      if (reduces) lua_replace(L, AT_ACC);
    } else {
      fold->skipped++;
    }
    fold->next = i + 1;
    if (++folded % LOOK_AT_CLOCK_EVERY == 0 && time_is_up(fold)) break;
  }
  lua_pushvalue(L, AT_ACC);
  lua_setfield(L, AT_HOST, "acc");
  return 0;
}

/* Message handler: message and traceback as two strings. */
static int explain(lua_State *L) {
  const char *message = lua_tostring(L, 1);
  if (message == NULL) message = luaL_tolstring(L, 1, NULL);
  lua_createtable(L, 2, 0);
  lua_pushstring(L, message);
  lua_rawseti(L, -2, 1);
  luaL_traceback(L, L, NULL, 1);
  lua_rawseti(L, -2, 2);
  return 1;
}

static int take_error(lua_State *L, struct flume_buf *traceback, struct flume_err *err) {
  if (!lua_istable(L, -1)) { /* no memory for it */
    flume_err_set(err, FLUME_EVIEW, "%s", lua_isstring(L, -1) ? lua_tostring(L, -1) : "not enough memory");
    return FLUME_EVIEW;
  }
  lua_rawgeti(L, -1, 1);
  flume_err_set(err, FLUME_EVIEW, "%s", lua_tostring(L, -1));
  lua_rawgeti(L, -2, 2);
  size_t len;
  const char *text = lua_tolstring(L, -1, &len);
  traceback->len = 0;
  if (flume_buf_append(traceback, text, len + 1) != 0) traceback->len = 0;
  return FLUME_EVIEW;
}

int flume_fold_run(lua_State *L, struct flume_fold *fold, struct flume_buf *traceback, struct flume_err *err) {
  int top = lua_gettop(L);
  fold->next = fold->from;
  fold->skipped = 0;
  if (!lua_checkstack(L, 16)) return flume_err_nomem(err);
  lua_pushcfunction(L, explain);
  lua_pushcfunction(L, run);
  lua_pushlightuserdata(L, fold);
  int rv = 0;
  if (lua_pcall(L, 1, 0, top + 1) != LUA_OK) rv = take_error(L, traceback, err);
  lua_settop(L, top);
  return rv;
}

struct restore {
  int host;
  const void *data;
  size_t len;
  int status;
};

static int restore(lua_State *L) {
  struct restore *args = lua_touserdata(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, args->host);
  args->status = flume_marshal_push(L, args->data, args->len);
  if (args->status == 0) lua_setfield(L, -2, "acc");
  return 0;
}

int flume_fold_restore(lua_State *L, int host, const void *data, size_t len) {
  struct restore args = {.host = host, .data = data, .len = len};
  lua_pushcfunction(L, restore);
  lua_pushlightuserdata(L, &args);
  if (lua_pcall(L, 1, 0, 0) == LUA_OK) return args.status;
  lua_pop(L, 1);
  return FLUME_ENOMEM;
}

int flume_fold_save(lua_State *L, int host, struct flume_buf *out, struct flume_err *err) {
  if (!lua_checkstack(L, 8)) return flume_err_nomem(err);
  lua_rawgeti(L, LUA_REGISTRYINDEX, host);
  lua_pushliteral(L, "acc");
  lua_rawget(L, -2);
  int rv = flume_marshal_encode(L, lua_gettop(L), out, err);
  if (rv != 0) flume_err_wrap(err, "state");
  lua_pop(L, 2);
  return rv;
}
