/* Copies and checks of stores that may be in use. */
#include "base/err.h"
#include "store/store_private.h"

/* A store for reading, with or without locks. */
static int open_store(struct flume_store **out, const struct flume_io *io, const char *dir,
                      enum flume_store_sharing sharing, struct flume_err *err) {
  struct flume_store *store;
  int rv = flume_store_open(&store, io, dir, FLUME_STORE_READ, err);
  if (rv != 0) return rv;
  rv = flume__store_open_env(store, sharing == FLUME_STORE_RESTS ? FLUME__ENV_UNLOCKED : FLUME__ENV_READ);
  if (rv != 0) {
    rv = flume__store_fail(store, err, rv, "opening");
    flume_store_close(store);
    return rv;
  }
  *out = store;
  return 0;
}

static int read_rows(struct flume_store *store, enum flume_store_kind kind, struct flume_err *err) {
  struct flume_store_range range;
  struct flume_store_cursor *cursor;
  struct flume_store_entry entry;
  flume_store_range_init(&range);
  int rv = flume_store_cursor_open(&cursor, store, kind, &range, err);
  if (rv != 0) return rv;
  while ((rv = flume_store_cursor_next(cursor, &entry, err)) == 1) continue;
  flume_store_cursor_close(cursor);
  return rv;
}

static int read_all(struct flume_store *store, struct flume_store_meta *meta, struct flume_err *err) {
  struct flume_buf state;
  int rv = flume_store_load(store, meta, err);
  if (rv != 0) return rv;
  flume_buf_init(&state, store->io);
  rv = flume_store_get_state(store, &state, err);
  if (rv == FLUME_ENOENT) rv = 0;
  flume_buf_fini(&state);
  if (rv == 0) rv = read_rows(store, FLUME_STORE_GROUPS, err);
  if (rv == 0) rv = read_rows(store, FLUME_STORE_INDEX, err);
  return rv;
}

int flume_store_check(const struct flume_io *io, const char *dir, enum flume_store_sharing sharing,
                      struct flume_store_meta *meta, struct flume_err *err) {
  struct flume_store *store;
  int rv = open_store(&store, io, dir, sharing, err);
  if (rv != 0) return rv;
  rv = read_all(store, meta, err);
  flume_store_close(store);
  return rv;
}

/* Reads everything first: LMDB copies pages without verifying them. */
int flume_store_copy(const struct flume_io *io, const char *from, const char *to, enum flume_store_sharing sharing,
                     struct flume_err *err) {
  struct flume_store *store;
  struct flume_store_meta meta;
  int rv = open_store(&store, io, from, sharing, err);
  if (rv != 0) return rv;
  rv = read_all(store, &meta, err);
  if (rv == 0) {
    flume__env_enter(store->env);
    rv = mdb_env_copy2(store->env->mdb, to, MDB_CP_COMPACT);
    flume__env_leave(store->env);
    if (rv != 0) rv = flume__store_fail(store, err, rv, "copying");
  }
  flume_store_close(store);
  return rv;
}
