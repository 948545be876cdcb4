/* Feeding the records of a block to a view's step function: the loop in which views spend their time. */
#ifndef FLUME_LUA_FOLD_H
#define FLUME_LUA_FOLD_H

#include <stdatomic.h>

#include "../core/buf.h"
#include "log.h"

/* One turn of folding, in the Lua state that the view's host object lives in. The host object (host.lua) is a table:
 *
 *   kind       "reduce": acc = step(acc, item, seq);  "sink": step(item, seq)
 *   step       the function
 *   acc        the state so far, of a reducer
 *   transform  nil, or a function (plain value or bytes) -> item: a mapper, or a decoder
 *   bytes      true: transform gets the bytes of the record as a string
 */
struct flume_fold {
  int host; /* registry reference of the host object */
  enum flume_codec codec;
  struct flume_block *block;    /* loaded; borrowed */
  uint32_t from;                /* the record to begin with */
  uint64_t until_ns;            /* stop after this time, by uv_hrtime */
  const atomic_bool *interrupt; /* stop when it is set; may be NULL */
  uint64_t *spent;              /* set to 0 at each record: its instruction count; may be NULL */
  /* results */
  uint32_t next;    /* the first record that was not folded */
  uint32_t skipped; /* deleted ones among those that were */
};

/* Folds at least one record, and then as many as there is time for. 0; or FLUME_EVIEW with message and traceback in err
 * when the function raised, at record `next`: what it did to the state until then is unknown. Raises nothing. */
int flume_fold_run(lua_State *L, struct flume_fold *fold, struct flume_buf *traceback, struct flume_err *err);

/* Sets acc of a reducer's host object to the value that the bytes encode. 0, FLUME_ECORRUPT or FLUME_ENOMEM. */
int flume_fold_restore(lua_State *L, int host, const void *data, size_t len);
/* Appends the encoded acc. Errors: as flume_marshal_encode, the text beginning with "state: ". */
int flume_fold_save(lua_State *L, int host, struct flume_buf *out, struct flume_err *err);

#endif
