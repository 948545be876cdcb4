/* A view's store (core/store/store.h), for the Lua code of its host. */
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

/* Recent changes of the store, for live followers: entries in the order of their records. */
struct flume_recent {
  uint32_t readers; /* 0: no changes are recorded */
  int64_t from_seq; /* all changes of this seq and later ones are recorded */
  struct flume_buf entries;
};

enum {
  FLUME_USED_MAX = 126, /* maximum number of used views, indirect ones included */
  FLUME_USED_PREFIX =
      0x80, /* first byte of the keys of the first used view, behind all keys of the view; the others follow */
};

/* The part of one view in a store: of the view itself, or of a used view, whose rows lie behind the view's own. */
struct flume_store_part {
  struct flume_lua_store *store;
  enum flume_store_kind kind;
  uint8_t prefix; /* of a used view: the prefix of its keys */
  size_t prefix_len;
  struct flume_extract *extract;     /* of a used index by paths; NULL. Owned */
  struct flume_aggregate *aggregate; /* of a view that is declared as an aggregate; NULL. Owned */
  /* of a used view */
  const char *name; /* a string of the Lua state */
  bool in_core;     /* records are folded by one of these two */
  int64_t *skips;   /* seqs that the view doesn't fold, ascending. Owned */
  size_t skips_count;
};

struct flume_lua_store {
  struct flume_store *store; /* NULL when it is closed */
  struct flume_store_part own;
  struct flume_store_part *used[FLUME_USED_MAX]; /* in the order of folding; borrowed from Lua */
  unsigned used_count;
  bool is_plain;            /* used views fold the bytes of records, in MessagePack */
  uv_mutex_t guard;         /* held while a job writes the store: the reader may be on a different thread */
  bool has_writer;          /* a job will write the store, or writes it; guarded, as is is_read */
  bool is_read;             /* the loop has read the store since has_writer was set: the job puts its work off */
  struct flume_store *base; /* of a dry run: rows that are not in store are read here; NULL: none */
  int64_t base_seq;         /* of the last record to read there */
  int64_t seq;              /* of the current record, else of the last record in the state */
  struct flume_buf emitted; /* entries emitted so far; see flume_emitted_next */
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

/* A job on a different thread writes a store that the loop reads. The loop calls announce before it submits the job. */
void flume__store_announce(struct flume_lua_store *self);
/* The loop calls await before it reads: waits for a job that is writing; a job that has not begun puts its work off. */
void flume__store_await(struct flume_lua_store *self);
/* For the job. False: put the work off. True: the loop doesn't read the store until flume__store_end_write. */
bool flume__store_begin_write(struct flume_lua_store *self);
void flume__store_end_write(struct flume_lua_store *self);

struct flume_emitted {
  const uint8_t *key;
  size_t key_len;
  const uint8_t *value;
  size_t value_len;
};

/* Walks through emitted entries: *off begins with 0. False at the end. */
bool flume__emitted_next(const struct flume_buf *emitted, size_t *off, struct flume_emitted *entry);
/* Appends an entry: key and value are there already, encoded. */
int flume__emitted_add(struct flume_buf *emitted, const struct flume_buf *key, const struct flume_buf *value);

/* Adds the emitted entries of the record to the store, or removes them from it; then clears them. */
int flume__store_add_emitted(struct flume_lua_store *self, struct flume_err *err);
int flume__store_remove_emitted(struct flume_lua_store *self, struct flume_err *err);
/* The same for a used view, which has no followers. */
int flume__store_add_used(struct flume_lua_store *self, struct flume_err *err);

/* A record for a used view that the core folds. FLUME_ECORRUPT, FLUME_ENOMEM, or as flume_store_get_group. */
int flume__store_fold_used(struct flume_store_part *part, const uint8_t *data, uint32_t len, struct flume_err *err);

/* A record for the aggregate: added, or taken back; must_rebuild when it can't be. */
int flume__store_aggregate_add(struct flume_lua_store *self, const uint8_t *record, size_t len, struct flume_err *err);
int flume__store_aggregate_remove(struct flume_lua_store *self, const uint8_t *record, size_t len,
                                  struct flume_err *err);

/* For followers: records a changed group, in self->key and self->value. */
void flume__store_note_group(struct flume_lua_store *self);
/* For followers: the store was replaced. They read their ranges again. */
void flume__store_forget_recent(struct flume_lua_store *self);

/* The order of keys, which is that of their bytes. */
int flume__store_compare(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len);

/* Reads a range of a part. On the caller's memory. */
struct flume_store_reader {
  struct flume_store_cursor *own;
  struct flume_store_cursor *base; /* in a dry run, of the store that it began with; NULL */
  enum flume_store_kind kind;
  bool reverse;
  struct flume_store_entry ahead[2]; /* of own and of base: read, but not delivered yet */
  bool has[2];
  bool ended[2];
};

/* Pushes two values that close its cursors, when they are popped or an error passes. Raises errors. */
void flume__store_push_reader(lua_State *L, struct flume_store_part *part, const struct flume_store_range *range,
                              struct flume_store_reader *reader);
/* Closes the cursors; index: of the first of the two values. */
void flume__store_close_reader(lua_State *L, int index);
/* As flume_store_cursor_next. */
int flume__store_read(struct flume_store_reader *reader, struct flume_store_entry *entry, struct flume_err *err);
/* The number of entries or groups in the range, as flume_store_count. */
int64_t flume__store_count(struct flume_store_part *part, const struct flume_store_range *range, struct flume_err *err);

/* page (see below) of an index, for a Lua state that is not the view's: view_store_page.c. In this order:
 *
 * Takes the arguments from index first to the top, and pushes the userdata that owns the page. Raises errors. */
struct flume_store_page *flume__store_begin_page(lua_State *L, int first);
/* Reads the store, which must not be used for anything else meanwhile. Calls no Lua code and raises nothing. */
int flume__store_read_page(lua_State *L, struct flume_store_page *page, struct flume_store *store,
                           struct flume_err *err);
/* Pushes the two results, and frees the page. Raises errors. */
void flume__store_push_page(lua_State *L, struct flume_store_page *page);

/* Parts of page. Not to be called while the store is used for anything else. All raise errors.
 *
 * Reads a range from the table at index; nil: everything. The bounds are borrowed until the next call. */
void flume__store_get_range(lua_State *L, struct flume_store_part *part, int index, struct flume_store_range *range);
/* Pushes a userdata that closes its cursor, if any, when it is popped or an error passes. */
struct flume_store_cursor **flume__store_push_cursor(lua_State *L);
/* Pushes a string that names the position of the entry. Resume begins a cursor behind such a position. */
void flume__store_push_resume(lua_State *L, struct flume_store_part *part, const struct flume_store_entry *entry);
void flume__store_resume(lua_State *L, struct flume_store_cursor *cursor, int index);
/* Checks the value at index for flume__store_resume. */
const uint8_t *flume__store_check_place(lua_State *L, int index, size_t *len);
/* Pushes the key of a row. Then replaces it by {key, seq [, value]}. */
void flume__store_push_key(lua_State *L, struct flume_store_part *part, const uint8_t *key, size_t key_len);
void flume__store_make_item(lua_State *L, int64_t seq, const uint8_t *value, size_t value_len);

/* Pushes a table of functions for the host. They keep the value at index owner alive, in which self lives; 0: self
 * outlives the Lua state.
 *
 *   emit(key [, value])            adds an entry of the current record
 *   get(key) -> value or nil       of a group
 *   put(key, value or nil)         of a group
 *   id(key) -> string              the key's bytes
 *   seq() -> integer               of the current or last record; -1 before the first record
 *   add(item), remove(item)        to or from the aggregate's groups; flush() or forget() its cached groups
 *   rebuild()                      the current record can't be taken back: the view must be rebuilt
 *   page(range, n, min_seq, max_seq, resume or nil) -> items, resume or nil
 *                                  up to n entries of the range, each {key, seq} or {key, seq, value}; a nil key is
 *                                  null, the seq of a group -1. The second result is the position of the next
 *                                  page; nil: the end of the range
 *   newest(key) -> value or nil, seq; nothing when the key has no entries
 *   count(range, max_seq) -> integer
 *   recent(range, from_seq) -> items, next seq | nil
 *                                  entries since from_seq, in the same form; nil: not known any more
 *   within(range, key) -> boolean
 *   since() -> integer             the seq of the state, outside of a fold
 *   follow(change)                 change: 1: one more follower; -1: one less
 *   used(number, host, name, skips) -> table
 *                                  these functions for the part of a used view, whose host object is given. They live
 *                                  as long as the host. The numbers count from 1, and are the same each time
 *   used_note([text]) -> text or nil
 *                                  the names and versions of the used views, stored beside their rows
 *
 * range: {gt=, gte=, lt=, lte=, prefix=, reverse=}, each optional. Bad keys raise an error. */
void flume__store_push(lua_State *L, struct flume_lua_store *self, int owner);

/* The same for a part. part: index of the value that points to it; owner: index of the value that keeps the store
 * alive. */
void flume__store_push_functions(lua_State *L, int part, int owner);
/* view_store_used.c: two of these functions. */
int flume__store_used(lua_State *L);
int flume__store_used_note(lua_State *L);

#endif
