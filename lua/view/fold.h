/* Feeding the records of a block to a view's functions: the loop in which views spend their time. */
#ifndef FLUME_LUA_FOLD_H
#define FLUME_LUA_FOLD_H

#include <stdatomic.h>

#include "core/base/buf.h"
#include "core/index/bitmap_index.h"
#include "core/index/key_path.h"
#include "lua/binding/lua_log.h"
#include "lua/value/budget.h"
#include "lua/view/view_store.h"

enum flume_fold_action {
  FLUME_FOLD_STEP,    /* the records are new */
  FLUME_FOLD_RETRACT, /* they had been folded, and were deleted since: the host's retract takes them back */
};

/* One turn of folding, in the Lua state that the view's host object lives in. The host object (kinds.lua) is a table:
 *
 *   kind       "reduce": acc = step(acc, item, seq);  "group", "sink": step(item, seq);  "index": step(item, seq, emit)
 *   step       the function
 *   retract    the same for a record that was deleted, or nil; an index needs none: what it emitted is taken out again
 *   anew       true: of an index that can't take out what it emitted, since it uses other views
 *   acc        the state so far, of a reducer
 *   transform  nil, or a function (plain value or bytes) -> item: a mapper, or a decoder
 *   bytes      true: transform gets the bytes of the record as a string
 *   emit       of an index: the function that the store gives (store.h)
 *   leads      of a view that uses others, nil for none: their steps (item, seq [, emit]) and emits by turns, in the order
 *              of the store's. They fold each record before the view does, and those that it passes over
 */
struct flume_fold {
  int host; /* registry reference of the host object */
  enum flume_fold_action action;
  enum flume_codec codec;
  struct flume_lua_store *store;
  const struct flume_extract *extract; /* of an index declared by paths: no Lua is called; else NULL */
  bool aggregates;                     /* into the store's aggregate: no Lua is called either */
  struct flume_bitmaps *bitmaps;       /* where that puts the records, in place of the store; NULL for the store */
  const int64_t *skips;                /* ascending: records that the view passes over; borrowed */
  size_t skips_count;
  struct flume_block *block;    /* loaded; borrowed */
  uint32_t from;                /* the record to begin with */
  uint32_t limit;               /* records at most; 0 for all */
  uint64_t until_ns;            /* stop after this time, by uv_hrtime */
  const atomic_bool *interrupt; /* stop when it is set; may be NULL */
  struct flume_budget *budget;  /* begins anew with each record; may be NULL */
  /* results */
  uint32_t next;                          /* the first record that was not folded */
  uint32_t skipped;                       /* deleted ones among those that were */
  const struct flume_store_part *leading; /* the used view that raised; NULL: it was none */
};

/* Folds at least one record, and then as many as there is time for. 0; or FLUME_EVIEW with message and traceback in err
 * when the function raised, at record `next`: what a reducer did to its state until then is unknown, an index has
 * nothing of that record. Raises nothing. */
int flume_fold_run(lua_State *L, struct flume_fold *fold, struct flume_buf *traceback, struct flume_err *err);

/* Sets acc of a reducer's host object to the value that the bytes encode. 0, FLUME_ECORRUPT or FLUME_ENOMEM. */
int flume_fold_restore(lua_State *L, int host, const void *data, size_t len);
/* Appends the encoded acc. Errors: as flume_marshal_encode, the text beginning with "state: ". */
int flume_fold_save(lua_State *L, int host, struct flume_buf *out, struct flume_err *err);
/* Calls host[name](), when it has such a function. FLUME_EVIEW. */
int flume_fold_call(lua_State *L, int host, const char *name, struct flume_err *err);

#endif
