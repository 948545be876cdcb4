#include "lua/view/fold.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "lua/sandbox/guard.h"
#include "lua/sandbox/lib_tostring.h"
#include "lua/value/block_ref.h"
#include "lua/value/marshal.h"
#include "lua/value/raised.h"
#include "lua/value/record.h"

#define LOOK_AT_CLOCK_EVERY 16         /* records at most */
#define SLOW_RECORDS_NS (1000u * 1000) /* from one look to the next */
#define PENDING_MAX_BYTES (16u << 20)  /* of a store: as in core/view/view_checkpoint.c */
#define NEW_HOLD_EVERY 64              /* records: see hold_block */

/* Indexes on the stack of run. */
enum { AT_FOLD = 1, AT_HOST, AT_STEP, AT_ACC, AT_BLOCK, AT_RECORDS, AT_TRANSFORM, AT_EMIT, AT_LEADS, AT_ITEM };

enum fold_kind { KIND_REDUCE, KIND_INDEX, KIND_SINK };

/* What the host does with an item. */
struct ways {
  bool transforms;
  bool bytes;
  bool leads;
};

static void push_item(lua_State *L, const struct flume_fold *fold, const struct ways *ways, int64_t seq,
                      const uint8_t *data, uint32_t len) {
  if (!ways->transforms && fold->codec == FLUME_CODEC_MSGPACK) {
    flume_record_push_fast(L, data, len, AT_BLOCK, AT_RECORDS);
    return;
  }
  if (ways->transforms) lua_pushvalue(L, AT_TRANSFORM);
  struct flume_err err;
  if (flume__value_push(L, ways->bytes ? FLUME_CODEC_RAW : fold->codec, data, len, &err) != 0) {
    luaL_error(L, "the record can't be decoded: %s", err.msg);
  }
  if (ways->transforms) {
    lua_pushinteger(L, seq);
    lua_call(L, 2, 1);
  }
}

/* When to read the clock next: after each slow record; after ever more records while they are fast. */
struct clock {
  uint64_t looked_ns;
  uint32_t every; /* records between two looks */
  uint32_t left;
};

static struct clock start_clock(void) {
  return (struct clock){.looked_ns = uv_hrtime(), .every = 1, .left = 1};
}

/* A record was folded. */
static bool time_to_look(struct clock *clock) {
  if (--clock->left > 0) return false;
  uint64_t now = uv_hrtime();
  bool is_slow = now - clock->looked_ns > SLOW_RECORDS_NS;
  clock->every = is_slow ? 1 : clock->every < LOOK_AT_CLOCK_EVERY ? clock->every * 2 : LOOK_AT_CLOCK_EVERY;
  clock->left = clock->every;
  clock->looked_ns = now;
  return true;
}

/* Stops also when the pending bytes make a commit due. */
static bool time_is_up(const struct flume_fold *fold) {
  const struct flume_store *store = fold->store->store;
  if (store != NULL && flume_store_pending_bytes(store) > PENDING_MAX_BYTES) return true;
  return (fold->interrupt != NULL && atomic_load_explicit(fold->interrupt, memory_order_relaxed)) ||
         uv_hrtime() >= fold->until_ns;
}

/* Records get a new userdata to hold their block every so often. A userdata that lives through a whole block grows
 * old under the generational collector, which then frees neither it nor the block before a full collection. As the
 * collector doesn't see the size of blocks, that may never come. */
static void hold_block(lua_State *L, struct flume_block *block) {
  flume__block_push(L, flume_block_ref(block));
  lua_replace(L, AT_BLOCK);
}

/* Whether the view skips the record. *skip moves forward: the seqs ascend from call to call. */
static bool is_passed_over(const struct flume_fold *fold, int64_t seq, size_t *skip) {
  while (*skip < fold->skips_count && fold->skips[*skip] < seq) ++*skip;
  return *skip < fold->skips_count && fold->skips[*skip] == seq;
}

static uint32_t end_of(const struct flume_fold *fold) {
  uint32_t count = fold->block->count;
  return fold->limit != 0 && count - fold->from > fold->limit ? fold->from + fold->limit : count;
}

static enum fold_kind kind_of(lua_State *L) {
  lua_getfield(L, AT_HOST, "kind");
  const char *kind = lua_tostring(L, -1);
  enum fold_kind found = strcmp(kind, "reduce") == 0  ? KIND_REDUCE
                         : strcmp(kind, "index") == 0 ? KIND_INDEX
                                                      : KIND_SINK;
  lua_pop(L, 1);
  return found;
}

static void settle_emitted(lua_State *L, const struct flume_fold *fold) {
  struct flume_err err;
  int rv = fold->action == FLUME_FOLD_STEP ? flume__store_add_emitted(fold->store, &err)
                                           : flume__store_remove_emitted(fold->store, &err);
  if (rv != 0) luaL_error(L, "%s", err.msg);
}

static bool is_skipped_by(const struct flume_store_part *part, int64_t seq) {
  return part->skips_count > 0 &&
         bsearch(&seq, part->skips, part->skips_count, sizeof seq, flume__compare_seqs) != NULL;
}

/* A used view (number, from 0) folds a record in Lua. */
static void lead_in_lua(lua_State *L, struct flume_lua_store *store, unsigned number, int64_t seq) {
  struct flume_err err;
  lua_rawgeti(L, AT_LEADS, 2 * (lua_Integer)number + 1);
  lua_pushvalue(L, AT_ITEM);
  lua_pushinteger(L, seq);
  if (store->used[number]->kind != FLUME_STORE_INDEX) {
    lua_call(L, 2, 0);
    return;
  }
  store->emitted.len = 0;
  lua_rawgeti(L, AT_LEADS, 2 * (lua_Integer)number + 2);
  lua_call(L, 3, 0);
  if (flume__store_add_used(store, &err) != 0) luaL_error(L, "%s", err.msg);
}

/* The used views fold the record before the view does. */
static void lead(lua_State *L, struct flume_fold *fold, int64_t seq, const uint8_t *data, uint32_t len) {
  struct flume_lua_store *store = fold->store;
  struct flume_err err;
  for (unsigned i = 0; i < store->used_count; i++) {
    struct flume_store_part *part = store->used[i];
    if (is_skipped_by(part, seq)) continue;
    fold->leading = part;
    if (!part->in_core) lead_in_lua(L, store, i, seq);
    else if (flume__store_fold_used(part, data, len, &err) != 0) luaL_error(L, "%s", err.msg);
  }
  fold->leading = NULL;
}

/* The step function for the item on top, which is popped. */
static void step(lua_State *L, const struct flume_fold *fold, enum fold_kind kind, int64_t seq) {
  lua_pushvalue(L, AT_STEP);
  if (kind == KIND_REDUCE) lua_pushvalue(L, AT_ACC);
  lua_rotate(L, AT_ITEM, -1);
  lua_pushinteger(L, seq);
  switch (kind) {
    case KIND_REDUCE:
      lua_call(L, 3, 1);
      lua_replace(L, AT_ACC);
      break;
    case KIND_INDEX:
      fold->store->emitted.len = 0;
      lua_pushvalue(L, AT_EMIT);
      lua_call(L, 3, 0);
      settle_emitted(L, fold);
      break;
    case KIND_SINK: lua_call(L, 2, 0); break;
  }
}

/* Folds one record. */
static void fold_record(lua_State *L, struct flume_fold *fold, enum fold_kind kind, const struct ways *ways,
                        int64_t seq, bool is_skipped, const uint8_t *data, uint32_t len) {
  if (is_skipped && !ways->leads) return;
  fold->store->seq = seq;
  push_item(L, fold, ways, seq, data, len);
  if (ways->leads) lead(L, fold, seq, data, len);
  if (is_skipped) lua_pop(L, 1);
  else step(L, fold, kind, seq);
}

/* Folds records one by one until one fails. */
static void check_script(lua_State *L, struct flume_fold *fold, uint32_t folded) {
  if (folded == 0 || lua_getfield(L, AT_HOST, "check") != LUA_TFUNCTION) return;
  if (fold->budget != NULL) flume_budget_begin(L, fold->budget);
  uint32_t next = fold->next;
  fold->next = next - 1;
  lua_pushinteger(L, folded);
  lua_call(L, 1, 0);
  fold->next = next;
}

static int run(lua_State *L) {
  struct flume_fold *fold = lua_touserdata(L, AT_FOLD);
  lua_rawgeti(L, LUA_REGISTRYINDEX, fold->host);
  enum fold_kind kind = kind_of(L);
  lua_getfield(L, AT_HOST, fold->action == FLUME_FOLD_STEP || kind == KIND_INDEX ? "step" : "retract");
  lua_getfield(L, AT_HOST, "acc");
  flume__block_push(L, flume_block_ref(fold->block));
  flume_record_open(L);
  struct ways ways = {.transforms = lua_getfield(L, AT_HOST, "transform") != LUA_TNIL};
  lua_getfield(L, AT_HOST, "emit");
  ways.leads = lua_getfield(L, AT_HOST, "leads") != LUA_TNIL && fold->action == FLUME_FOLD_STEP;
  lua_getfield(L, AT_HOST, "bytes");
  ways.bytes = lua_toboolean(L, -1);
  lua_pop(L, 1);
  luaL_checkstack(L, 8, NULL);
  uint32_t end = end_of(fold), folded = 0;
  struct clock clock = start_clock();
  size_t skip = 0;
  for (uint32_t i = fold->from; i < end; i++) {
    uint32_t len;
    const uint8_t *data = flume_block_get(fold->block, i, &len);
    fold->next = i;
    if (i > fold->from && (i - fold->from) % NEW_HOLD_EVERY == 0) hold_block(L, fold->block);
    if (fold->budget != NULL) flume_budget_begin(L, fold->budget);
    int64_t seq = flume_block_seq(fold->block, i);
    if (data == NULL) fold->skipped++;
    else fold_record(L, fold, kind, &ways, seq, is_passed_over(fold, seq, &skip), data, len);
    fold->next = i + 1;
    folded++;
    if (time_to_look(&clock) && time_is_up(fold)) break;
  }
  if (fold->budget != NULL) flume_guard_check(L);
  lua_pushvalue(L, AT_ACC);
  lua_setfield(L, AT_HOST, "acc");
  check_script(L, fold, folded);
  return 0;
}

/* --- What needs no Lua at all ------------------------------------------------------------------------------------- */

/* Folds a record into an index that is declared by paths. */
static int extract_entry(struct flume_fold *fold, int64_t seq, const uint8_t *data, uint32_t len,
                         struct flume_err *err) {
  struct flume_lua_store *store = fold->store;
  store->seq = seq;
  store->key.len = store->value.len = 0;
  int rv = flume_extract_key(fold->extract, data, len, &store->key, &store->packed);
  if (rv < 0) return flume_err_set(err, FLUME_EVIEW, "the record can't be read: %s", flume_strerror(rv));
  if (rv == 0) return 0;
  if (fold->bitmaps != NULL) {
    return (fold->action == FLUME_FOLD_STEP ? flume_bitmaps_add : flume_bitmaps_remove)(fold->bitmaps, store->key.data,
                                                                                        store->key.len, seq, err);
  }
  if (store->recent.readers == 0 && fold->action == FLUME_FOLD_STEP) {
    return flume_store_add_entry(store->store, store->key.data, store->key.len, seq, NULL, 0, err);
  }
  store->emitted.len = 0;
  rv = flume__emitted_add(&store->emitted, &store->key, &store->value);
  if (rv != 0) return flume_err_nomem(err);
  return fold->action == FLUME_FOLD_STEP ? flume__store_add_emitted(store, err)
                                         : flume__store_remove_emitted(store, err);
}

static int aggregate_record(struct flume_fold *fold, int64_t seq, const uint8_t *data, uint32_t len,
                            struct flume_err *err) {
  fold->store->seq = seq;
  return fold->action == FLUME_FOLD_STEP ? flume__store_aggregate_add(fold->store, data, len, err)
                                         : flume__store_aggregate_remove(fold->store, data, len, err);
}

typedef int (*fold_one)(struct flume_fold *fold, int64_t seq, const uint8_t *data, uint32_t len, struct flume_err *err);

static int run_in_core(struct flume_fold *fold, fold_one one, struct flume_err *err) {
  uint32_t end = end_of(fold);
  struct clock clock = start_clock();
  size_t skip = 0;
  int rv = 0;
  for (uint32_t i = fold->from; rv == 0 && i < end; i++) {
    uint32_t len;
    const uint8_t *data = flume_block_get(fold->block, i, &len);
    fold->next = i;
    if (data == NULL) fold->skipped++;
    else if (!is_passed_over(fold, flume_block_seq(fold->block, i), &skip)) {
      rv = one(fold, flume_block_seq(fold->block, i), data, len, err);
    }
    if (rv == 0) fold->next = i + 1;
    if (time_to_look(&clock) && time_is_up(fold)) break;
  }
  return rv;
}

/* Message handler: message and traceback as two strings. */
static int explain(lua_State *L) {
  const char *message = lua_tostring(L, 1);
  if (message == NULL) message = flume_raised_push_text(L, 1) ? lua_tostring(L, -1) : flume_name_tostring(L, 1, NULL);
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
  fold->leading = NULL;
  if (fold->extract != NULL) return run_in_core(fold, extract_entry, err);
  if (fold->aggregates) return run_in_core(fold, aggregate_record, err);
  if (!lua_checkstack(L, 16)) return flume_err_nomem(err);
  lua_pushcfunction(L, explain);
  lua_pushcfunction(L, run);
  lua_pushlightuserdata(L, fold);
  int rv = 0;
  if (lua_pcall(L, 1, 0, top + 1) != LUA_OK) {
    rv = take_error(L, traceback, err);
    if (fold->leading != NULL) flume_err_wrap(err, "it uses \"%s\"", fold->leading->name);
  }
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
  int rv = flume_marshal_encode_state(L, lua_gettop(L), out, err);
  lua_pop(L, 2);
  return rv;
}

struct host_call {
  int host;
  const char *name;
};

static int call_host(lua_State *L) {
  struct host_call *call = lua_touserdata(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, call->host);
  if (lua_getfield(L, -1, call->name) == LUA_TFUNCTION) lua_call(L, 0, 0);
  return 0;
}

int flume_fold_call(lua_State *L, int host, const char *name, struct flume_err *err) {
  struct host_call call = {host, name};
  if (!lua_checkstack(L, 4)) return flume_err_nomem(err);
  lua_pushcfunction(L, call_host);
  lua_pushlightuserdata(L, &call);
  if (lua_pcall(L, 1, 0, 0) == LUA_OK) return 0;
  const char *message = lua_tostring(L, -1);
  flume_err_set(err, FLUME_EVIEW, "%s", message != NULL ? message : "not enough memory");
  lua_pop(L, 1);
  return FLUME_EVIEW;
}
