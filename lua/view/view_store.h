/* A view's store (core/store/store.h), as the Lua code of its host reaches it. */
#ifndef FLUME_LUA_STORE_H
#define FLUME_LUA_STORE_H

#include <lua.h>
#include <uv.h>

#include "core/index/aggregate.h"
#include "core/store/store.h"

enum {
  FLUME_RECENT_MAX_BYTES = 4 << 20,
  FLUME_RECENT_HEADER_BYTES = 16, /* before the entries of a record: seq, and bytes of entries */
};

/* What was put into the store of late, for those who follow it live: entries in the order in which they came. */
struct flume_recent {
  uint32_t readers; /* while there are none, nothing is kept */
  int64_t from_seq; /* everything that came with this seq or a later one is here */
  struct flume_buf entries;
};

enum {
  FLUME_USED_MAX = 126,     /* views that one may use, with those that these use */
  FLUME_USED_PREFIX = 0x80, /* first byte of the rows of the first of them: behind all keys. The others follow */
};

/* What one view has there: the view itself, or one that it uses, whose rows lie behind all of the view's own. */
struct flume_store_part {
  struct flume_lua_store *store;
  enum flume_store_kind kind;
  uint8_t prefix; /* of a used view: what the keys of its rows begin with */
  size_t prefix_len;
  struct flume_extract *extract;     /* of an index by paths that is used; NULL. Owned */
  struct flume_aggregate *aggregate; /* of a view that is declared by it; NULL. Owned */
  /* of a used view */
  const char *name; /* a string of the Lua state */
  bool in_core;     /* records are folded by one of these two */
  int64_t *skips;   /* ascending: records that it passes over. Owned */
  size_t skips_count;
};

struct flume_lua_store {
  struct flume_store *store; /* NULL when it is closed */
  struct flume_store_part own;
  struct flume_store_part *used[FLUME_USED_MAX]; /* in the order in which they are folded; borrowed from Lua */
  unsigned used_count;
  bool is_plain;    /* records are folded as they are in the log, as MessagePack */
  uv_mutex_t guard; /* held while a job writes it, which another thread may do than the one that reads */
  bool has_writer;  /* a job is to write it, or does. This and the next are guarded, for one that the loop reads */
  bool is_read;     /* the loop has been reading it since that was said: the job puts its work off */
  struct flume_store *base; /* of a dry run: what is not in store is read here; NULL for none */
  int64_t base_seq;         /* of its last record that counts */
  int64_t seq;              /* of the record that is being folded, else of the last one in the state */
  struct flume_buf emitted; /* what it emitted so far; see flume_emitted_next */
  struct flume_recent recent;
  bool must_rebuild; /* a record could not be taken back */
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
/* The same of a view that is used: nobody follows it. */
int flume__store_add_used(struct flume_lua_store *self, struct flume_err *err);

/* A record for a used view that the core folds. FLUME_ECORRUPT, FLUME_ENOMEM, or as flume_store_get_group. */
int flume__store_fold_used(struct flume_store_part *part, const uint8_t *data, uint32_t len, struct flume_err *err);

/* A record for the aggregate: added, or taken back; must_rebuild when it can't be. */
int flume__store_aggregate_add(struct flume_lua_store *self, const uint8_t *record, size_t len, struct flume_err *err);
int flume__store_aggregate_remove(struct flume_lua_store *self, const uint8_t *record, size_t len,
                                  struct flume_err *err);

/* For those who follow: a group that has changed, in self->key and self->value. */
void flume__store_note_group(struct flume_lua_store *self);
/* For those who follow, who then read the ranges anew: what the store has is not what it was before. */
void flume__store_forget_recent(struct flume_lua_store *self);

/* The order of keys, which is that of their bytes. */
int flume__store_compare(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len);

/* Reads what a part has in a range. On the caller's memory. */
struct flume_store_reader {
  struct flume_store_cursor *own;
  struct flume_store_cursor *base; /* in a dry run, of what the view has that it began with; NULL */
  enum flume_store_kind kind;
  bool reverse;
  struct flume_store_entry ahead[2]; /* of own and of base: read, but not delivered, if it has that */
  bool has[2];
  bool ended[2];
};

/* Pushes two values that close its cursors, when they are popped or an error passes. Raises errors. */
void flume__store_push_reader(lua_State *L, struct flume_store_part *part, const struct flume_store_range *range,
                              struct flume_store_reader *reader);
/* Closes them; index is of the first of the two values. */
void flume__store_close_reader(lua_State *L, int index);
/* As flume_store_cursor_next. */
int flume__store_read(struct flume_store_reader *reader, struct flume_store_entry *entry, struct flume_err *err);
/* How many entries or groups there are in the range, as flume_store_count. */
int64_t flume__store_count(struct flume_store_part *part, const struct flume_store_range *range, struct flume_err *err);

/* page, below, of an index, for another Lua state than the view's: see store_page.c. In this order:
 *
 * Takes the arguments from the index first on, which are the last ones, and pushes what owns the page. Raises errors. */
struct flume_store_page *flume__store_begin_page(lua_State *L, int first);
/* Reads the store, with which nothing else may be done meanwhile. Calls no Lua code and raises nothing. */
int flume__store_read_page(lua_State *L, struct flume_store_page *page, struct flume_store *store,
                           struct flume_err *err);
/* Pushes the two results, and frees the page. Raises errors. */
void flume__store_push_page(lua_State *L, struct flume_store_page *page);

/* What pages are made with; none of them is to be called while something else is done with the store. Each raises errors.
 *
 * The range that the table at index is, or all for nil. Its bounds are borrowed until the next call. */
void flume__store_get_range(lua_State *L, struct flume_store_part *part, int index, struct flume_store_range *range);
/* Pushes a userdata that closes the cursor, when there is one: when it is popped, or an error passes. */
struct flume_store_cursor **flume__store_push_cursor(lua_State *L);
/* Pushes a string that says where the entry is, and begins a cursor behind the one that such a string names. */
void flume__store_push_resume(lua_State *L, struct flume_store_part *part, const struct flume_store_entry *entry);
void flume__store_resume(lua_State *L, struct flume_store_cursor *cursor, int index);
/* What flume__store_resume asks of the value at index. */
const uint8_t *flume__store_check_place(lua_State *L, int index, size_t *len);
/* Pushes the key of a row. Then replaces it by {key, seq [, value]}. */
void flume__store_push_key(lua_State *L, struct flume_store_part *part, const uint8_t *key, size_t key_len);
void flume__store_make_item(lua_State *L, int64_t seq, const uint8_t *value, size_t value_len);

/* Pushes a table of functions for the host. They keep the value at index owner alive, in which self lives; 0: self
 * outlives the Lua state.
 *
 *   emit(key [, value])            an entry of the record that is being folded
 *   get(key) -> value or nil       of a group
 *   put(key, value or nil)         of a group
 *   id(key) -> string              the key's bytes
 *   seq() -> integer               of the record that is being folded, or was last; -1 before the first
 *   add(item), remove(item)        to the aggregate's groups, or from them; flush(), forget() what it has at hand
 *   rebuild()                      the record that is being taken back can't be: the view is to be built anew
 *   page(range, n, min_seq, max_seq, resume or nil) -> items, resume or nil
 *                                  up to n entries of the range, each as {key, seq} or {key, seq, value}; nil as a key is
 *                                  null, the seq of a group -1. The second result goes on behind the last of them, and
 *                                  is nil at the end of the range
 *   newest(key) -> value or nil, seq; nothing when the key has no entries
 *   count(range, max_seq) -> integer
 *   recent(range, from_seq) -> items, next seq | nil
 *                                  what came since, in the same form; nil: it is not known any more
 *   within(range, key) -> boolean
 *   since() -> integer             up to which seq the state was folded, outside of a fold
 *   follow(change)                 change is 1 for one more who follows, -1 for one less
 *   used(number, host, name, skips) -> table
 *                                  these functions for a view that this one uses, whose host object that is: for what it
 *                                  has in this store, apart from all else there. They are kept as long as the host is.
 *                                  The numbers count from 1, and are the same each time
 *   used_note([text]) -> text or nil
 *                                  what those are that are used, noted beside their rows
 *
 * range: {gt=, gte=, lt=, lte=, prefix=, reverse=}, each optional. Bad keys raise an error. */
void flume__store_push(lua_State *L, struct flume_lua_store *self, int owner);

/* The same for a part: part is the index of what points to it, owner that of what keeps the store alive. */
void flume__store_push_functions(lua_State *L, int part, int owner);
/* store_used.c: two of these functions. */
int flume__store_used(lua_State *L);
int flume__store_used_note(lua_State *L);

#endif
