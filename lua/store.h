/* A view's store (core/store.h), as the Lua code of its host reaches it. */
#ifndef FLUME_LUA_STORE_H
#define FLUME_LUA_STORE_H

#include <lua.h>
#include <uv.h>

#include "../core/aggregate.h"
#include "../core/store.h"

enum { FLUME_RECENT_MAX_BYTES = 4 << 20 };

/* What was put into the store of late, for those who follow it live: entries in the order in which they came. */
struct flume_recent {
  uint32_t readers; /* while there are none, nothing is kept */
  int64_t from_seq; /* everything that came with this seq or a later one is here */
  struct flume_buf entries;
};

struct flume_lua_store {
  struct flume_store *store; /* NULL when it is closed */
  enum flume_store_kind kind;
  uv_mutex_t guard; /* held while a job writes it, which another thread may do than the one that reads */
  bool has_writer;  /* a job is to write it, or does. This and the next are guarded, for one that the loop reads */
  bool is_read;     /* the loop has been reading it since that was said: the job puts its work off */
  struct flume_store *base; /* of a dry run: groups that are not in store are read here; NULL for none */
  int64_t seq;              /* of the record that is being folded, else of the last one in the state */
  struct flume_buf emitted; /* what it emitted so far; see flume_emitted_next */
  struct flume_recent recent;
  struct flume_aggregate *aggregate; /* of a view that is declared by it; NULL. Owned */
  bool must_rebuild;                 /* a record could not be taken back */
  /* scratch */
  struct flume_buf packed;
  struct flume_buf key;
  struct flume_buf value;
  struct flume_buf lower;
  struct flume_buf upper;
};

/* Errors: libuv's. */
int flume__store_init(struct flume_lua_store *self, const struct flume_io *io);
/* Closes the store too. */
void flume__store_fini(struct flume_lua_store *self);

/* A store that the loop reads is written by a job, on another thread. The loop says that before it submits the job... */
void flume__store_announce(struct flume_lua_store *self);
/* ... and before it reads: a job that is at it ends; one that has not begun yet is to put it off, and is submitted anew. */
void flume__store_await(struct flume_lua_store *self);
/* For the job. False: it has to be put off; else nobody reads the store until flume__store_end_write. */
bool flume__store_begin_write(struct flume_lua_store *self);
void flume__store_end_write(struct flume_lua_store *self);

struct flume_emitted {
  const uint8_t *key;
  size_t key_len;
  const uint8_t *value;
  size_t value_len;
};

/* Walks through entries that were emitted: *off begins with 0. False at the end. */
bool flume__emitted_next(const struct flume_buf *emitted, size_t *off, struct flume_emitted *entry);
/* Appends an entry: key and value are there already, encoded. */
int flume__emitted_add(struct flume_buf *emitted, const struct flume_buf *key, const struct flume_buf *value);

/* Adds what the record emitted to the store, or takes it out of it; then forgets it. */
int flume__store_add_emitted(struct flume_lua_store *self, struct flume_err *err);
int flume__store_remove_emitted(struct flume_lua_store *self, struct flume_err *err);

/* A record for the aggregate: added, or taken back; must_rebuild when it can't be. */
int flume__store_aggregate_add(struct flume_lua_store *self, const uint8_t *record, size_t len, struct flume_err *err);
int flume__store_aggregate_remove(struct flume_lua_store *self, const uint8_t *record, size_t len,
                                  struct flume_err *err);

/* For those who follow, who then read the ranges anew: what the store has is not what it was before. */
void flume__store_forget_recent(struct flume_lua_store *self);

/* page, below, with its arguments from the index first on, for any Lua state: nothing else may be done with the store
 * meanwhile. Raises errors. Returns 2. */
int flume__store_page(lua_State *L, struct flume_lua_store *self, int first);

/* What page does it with; none of them is to be called while something else is done with the store. Each raises errors.
 *
 * The range that the table at index is, or all for nil. Its bounds are borrowed until the next call. */
void flume__store_get_range(lua_State *L, struct flume_lua_store *self, int index, struct flume_store_range *range);
/* Pushes a userdata that closes the cursor, when there is one: when it is popped, or an error passes. */
struct flume_store_cursor **flume__store_push_cursor(lua_State *L);
/* Pushes a string that says where the entry is, and begins a cursor behind the one that such a string names. */
void flume__store_push_resume(lua_State *L, struct flume_lua_store *self, const struct flume_store_entry *entry);
void flume__store_resume(lua_State *L, struct flume_store_cursor *cursor, int index);

/* Pushes a table of functions for the host. They keep the value at index owner alive, in which self lives; 0: self
 * outlives the Lua state.
 *
 *   emit(key [, value])            an entry of the record that is being folded
 *   get(key) -> value or nil       of a group
 *   put(key, value or nil)         of a group
 *   get_used(key) -> value or nil  rows beside the groups, which no range has: the states of what a view uses
 *   put_used(key, value or nil)
 *   id(key) -> string              the key's bytes
 *   seq() -> integer               of the record that is being folded, or was last; -1 before the first
 *   add(item), remove(item)        to the aggregate's groups, or from them; flush(), forget() what it has at hand
 *   rebuild()                      the record that is being taken back can't be: the view is to be built anew
 *   page(range, n, min_seq, max_seq, resume or nil) -> items, resume or nil
 *                                  up to n entries of the range, each as {key, seq} or {key, seq, value}; nil as a key is
 *                                  null, the seq of a group -1. The second result goes on behind the last of them, and
 *                                  is nil at the end of the range
 *   count(range, max_seq) -> integer
 *   recent(range, from_seq) -> items, next seq | nil
 *                                  what came since, in the same form; nil: it is not known any more
 *   within(range, key) -> boolean
 *   since() -> integer             up to which seq the state was folded, outside of a fold
 *   follow(change)                 change is 1 for one more who follows, -1 for one less
 *
 * range: {gt=, gte=, lt=, lte=, prefix=, reverse=}, each optional. Bad keys raise an error. */
void flume__store_push(lua_State *L, struct flume_lua_store *self, int owner);

#endif
