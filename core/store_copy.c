/* Copies and checks of stores that may be in use. */
#include "err.h"
#include "store_private.h"

static int open_env(const char *dir, enum flume_store_sharing sharing, MDB_env **out) {
  MDB_env *env;
  unsigned flags = MDB_RDONLY | MDB_NOTLS | (sharing == FLUME_STORE_RESTS ? MDB_NOLOCK : 0);
  int rv = mdb_env_create(&env);
  if (rv != 0) return rv;
  mdb_env_set_maxdbs(env, 3);
  rv = mdb_env_open(env, dir, flags, 0666);
  if (rv == 0) *out = env;
  else mdb_env_close(env);
  return rv;
}

int flume_store_copy(const char *from, const char *to, enum flume_store_sharing sharing, struct flume_err *err) {
  struct flume_store store = {.dir = (char *)from};
  int rv = open_env(from, sharing, &store.env);
  if (rv != 0) return flume__store_fail(&store, err, rv, "opening");
  rv = mdb_env_copy2(store.env, to, MDB_CP_COMPACT);
  mdb_env_close(store.env);
  return rv == 0 ? 0 : flume__store_fail(&store, err, rv, "copying");
}

static int read_all(struct flume_store *store, enum flume_store_kind kind, struct flume_err *err) {
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

int flume_store_check(const struct flume_io *io, const char *dir, enum flume_store_sharing sharing,
                      struct flume_store_meta *meta, struct flume_err *err) {
  struct flume_store *store;
  int rv = flume_store_open(&store, io, dir, FLUME_STORE_READ, err);
  if (rv != 0) return rv;
  rv = open_env(dir, sharing, &store->env);
  if (rv == 0) rv = flume__store_look_at_env(store);
  if (rv != 0) rv = flume__store_fail(store, err, rv, "opening");
  if (rv == 0) rv = flume_store_load(store, meta, err);
  if (rv == 0) {
    struct flume_buf state;
    flume_buf_init(&state, io);
    rv = flume_store_get_state(store, &state, err);
    if (rv == FLUME_ENOENT) rv = 0;
    flume_buf_fini(&state);
  }
  if (rv == 0) rv = read_all(store, FLUME_STORE_GROUPS, err);
  if (rv == 0) rv = read_all(store, FLUME_STORE_INDEX, err);
  flume_store_close(store);
  return rv;
}
