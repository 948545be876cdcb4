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
  FLUME_FOLD_RETRACT, /* the records were folded and then deleted: the host's retract takes them back */
};

/* One turn of folding, in the Lua state that the view's host object lives in. The host object
 * (lua/flume/host/kinds/choose.lua) is a table:
 *
 *   kind       "reduce": acc = step(acc, item, seq);  "group", "sink": step(item, seq);  "index": step(item, seq, emit)
 *   step       the function
 *   retract    takes back a deleted record, or nil; an index needs none, as its entries of the record are removed
 *   anew       true: an index that must be rebuilt when records are deleted, since it uses other views
 *   acc        the state so far, of a reducer
 *   transform  nil, or a function (plain value or bytes) -> item: a mapper, or a decoder
 *   bytes      true: transform gets the bytes of the record as a string
 *   emit       of an index: the function of the store (view_store.h)
 *   leads      of a view that uses other views, else nil: step (item, seq [, emit]) and emit of each used view, in the
 *              order of the store. Used views fold each record before the view does, and records that the view skips
 */
struct flume_fold {
  int host; /* registry reference of the host object */
  enum flume_fold_action action;
  enum flume_codec codec;
  struct flume_lua_store *store;
  const struct flume_extract *extract; /* of an index by paths, which calls no Lua; else NULL */
  bool aggregates;                     /* records go into the store's aggregate, which calls no Lua */
  struct flume_bitmaps *bitmaps;       /* extract puts the records here; NULL: into the store */
  const int64_t *skips;                /* seqs that the view doesn't fold, ascending; borrowed */
  size_t skips_count;
  struct flume_block *block;    /* loaded; borrowed */
  uint32_t from;                /* the record to begin with */
  uint32_t limit;               /* maximum number of records; 0: all */
  uint64_t until_ns;            /* time to stop, by uv_hrtime */
  const atomic_bool *interrupt; /* stop when set; may be NULL */
  struct flume_budget *budget;  /* restarts with each record; may be NULL */
  /* results */
  uint32_t next;                          /* the first record that was not folded */
  uint32_t skipped;                       /* deleted records among those before next */
  const struct flume_store_part *leading; /* the used view that raised; NULL: none */
};

/* Folds at least one record, and then as many as time allows. 0; or FLUME_EVIEW, with the message in err and the
 * traceback, when the function raised at record `next`: the state of a reducer is unknown then; an index has no
 * entry of that record. Raises nothing. In the thread that has entered the state. */
int flume_fold_run(lua_State *L, struct flume_fold *fold, struct flume_buf *traceback, struct flume_err *err);

/* Sets acc of a reducer's host object to the value that the bytes encode. 0, FLUME_ECORRUPT or FLUME_ENOMEM. */
int flume_fold_restore(lua_State *L, int host, const void *data, size_t len);
/* Appends the encoded acc. Errors: as flume_marshal_encode, the text beginning with "state: ". */
int flume_fold_save(lua_State *L, int host, struct flume_buf *out, struct flume_err *err);
/* Calls host[name](), when it has such a function. FLUME_EVIEW. */
int flume_fold_call(lua_State *L, int host, const char *name, struct flume_err *err);

#endif
