#include "state.h"

#include <lmdb.h>
#include <string.h>

#include "bytes.h"
#include "crc32c.h"
#include "err.h"

#define FIRST_MAP_BYTES ((size_t)16 << 20) /* doubled when full; address space, not memory */
#define META_FORMAT 1u

struct flume_state {
  const struct flume_io *io;
  char *dir;
  MDB_env *env; /* for writing; NULL until there is something to write */
  MDB_dbi dbi;
};

static int from_lmdb(int rv) {
  if (rv == 0) return 0;
  if (rv == MDB_NOTFOUND) return FLUME_ENOENT;
  if (rv == MDB_CORRUPTED || rv == MDB_PAGE_NOTFOUND || rv == MDB_INVALID || rv == MDB_PANIC) return FLUME_ECORRUPT;
  if (rv == MDB_VERSION_MISMATCH) return FLUME_EVERSION;
  if (rv > 0) return uv_translate_sys_error(rv);
  return UV_EIO;
}

static int fail(const struct flume_state *state, struct flume_err *err, int rv, const char *doing) {
  return flume_err_set(err, from_lmdb(rv), "%s a view's state in %s: %s", doing, state->dir, mdb_strerror(rv));
}

int flume_state_open(struct flume_state **out, const struct flume_io *io, const char *dir, struct flume_err *err) {
  struct flume_state *state = flume_io_zalloc(io, sizeof *state);
  if (state == NULL) return flume_err_nomem(err);
  state->io = io;
  state->dir = flume_io_alloc(io, strlen(dir) + 1);
  if (state->dir == NULL) {
    flume_io_free(io, state);
    return flume_err_nomem(err);
  }
  strcpy(state->dir, dir);
  *out = state;
  return 0;
}

void flume_state_close(struct flume_state *state) {
  if (state->env != NULL) mdb_env_close(state->env);
  flume_io_free(state->io, state->dir);
  flume_io_free(state->io, state);
}

/* Only this process writes (the log's lock sees to that), and one thread at a time: no lock file is needed. An
 * environment for writing takes memory and time that one for reading doesn't, so it is made at the first commit. */
static int open_env(struct flume_state *state, unsigned flags, MDB_env **out) {
  MDB_env *env;
  int rv = mdb_env_create(&env);
  if (rv != 0) return rv;
  mdb_env_set_mapsize(env, FIRST_MAP_BYTES);
  rv = mdb_env_open(env, state->dir, MDB_NOTLS | MDB_NOLOCK | flags, 0666);
  MDB_txn *txn;
  if (rv == 0) rv = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);
  if (rv == 0) {
    rv = mdb_dbi_open(txn, NULL, 0, &state->dbi);
    if (rv == 0) rv = mdb_txn_commit(txn);
    else mdb_txn_abort(txn);
  }
  if (rv != 0) {
    mdb_env_close(env);
    return rv;
  }
  *out = env;
  return 0;
}

static int open_for_writing(struct flume_state *state, struct flume_err *err) {
  if (state->env != NULL) return 0;
  int rv = flume_io_mkdir_all(state->io, state->dir);
  if (rv != 0) return flume_err_set(err, rv, "creating %s: %s", state->dir, flume_strerror(rv));
  rv = open_env(state, 0, &state->env);
  return rv == 0 ? 0 : fail(state, err, rv, "opening");
}

static MDB_val key_of(const char *text) {
  return (MDB_val){.mv_data = (void *)text, .mv_size = strlen(text)};
}

/* Where things are in the value of "meta". */
enum {
  META_AT_FORMAT = 0,
  META_AT_CRC = 4,
  META_AT_SINCE = 8,
  META_AT_LOG_ID = 16,
  META_AT_VERSION = 32,
  META_AT_FINGERPRINT = META_AT_VERSION + FLUME_STATE_VERSION_BYTES,
  META_AT_DELETIONS = META_AT_FINGERPRINT + 8,
  META_BYTES = META_AT_DELETIONS + 8,
};

static void put_meta(uint8_t *bytes, const struct flume_state_meta *meta, uint32_t value_crc) {
  flume_put_le32(bytes + META_AT_FORMAT, META_FORMAT);
  flume_put_le32(bytes + META_AT_CRC, value_crc);
  flume_put_le64(bytes + META_AT_SINCE, (uint64_t)meta->since);
  memcpy(bytes + META_AT_LOG_ID, meta->log_id, sizeof meta->log_id);
  memcpy(bytes + META_AT_VERSION, meta->version, sizeof meta->version);
  flume_put_le64(bytes + META_AT_FINGERPRINT, meta->fingerprint);
  flume_put_le64(bytes + META_AT_DELETIONS, meta->deletions);
}

static int get_meta(const MDB_val *val, struct flume_state_meta *meta, uint32_t *value_crc) {
  const uint8_t *bytes = val->mv_data;
  if (val->mv_size != META_BYTES || flume_get_le32(bytes + META_AT_FORMAT) != META_FORMAT) return FLUME_EVERSION;
  *value_crc = flume_get_le32(bytes + META_AT_CRC);
  meta->since = (int64_t)flume_get_le64(bytes + META_AT_SINCE);
  memcpy(meta->log_id, bytes + META_AT_LOG_ID, sizeof meta->log_id);
  memcpy(meta->version, bytes + META_AT_VERSION, sizeof meta->version);
  meta->version[FLUME_STATE_VERSION_BYTES - 1] = '\0';
  meta->fingerprint = flume_get_le64(bytes + META_AT_FINGERPRINT);
  meta->deletions = flume_get_le64(bytes + META_AT_DELETIONS);
  return 0;
}

static int read_all(struct flume_state *state, MDB_txn *txn, struct flume_state_meta *meta, struct flume_buf *value,
                    struct flume_err *err) {
  MDB_val key = key_of("meta"), meta_val, value_val;
  int rv = mdb_get(txn, state->dbi, &key, &meta_val);
  if (rv == 0) {
    key = key_of("state");
    rv = mdb_get(txn, state->dbi, &key, &value_val);
  }
  if (rv != 0) return fail(state, err, rv, "reading");
  uint32_t value_crc = 0;
  rv = get_meta(&meta_val, meta, &value_crc);
  if (rv == 0 && flume_crc32c(0, value_val.mv_data, value_val.mv_size) != value_crc) rv = FLUME_ECORRUPT;
  if (rv == 0) rv = flume_buf_append(value, value_val.mv_data, value_val.mv_size);
  return rv == 0 ? 0 : flume_err_set(err, rv, "reading a view's state in %s: %s", state->dir, flume_strerror(rv));
}

int flume_state_load(struct flume_state *state, struct flume_state_meta *meta, struct flume_buf *value,
                     struct flume_err *err) {
  MDB_env *env;
  int rv = open_env(state, MDB_RDONLY, &env);
  if (rv != 0) return fail(state, err, rv, "opening");
  MDB_txn *txn;
  rv = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);
  if (rv == 0) {
    rv = read_all(state, txn, meta, value, err);
    mdb_txn_abort(txn);
  } else {
    rv = fail(state, err, rv, "reading");
  }
  mdb_env_close(env);
  return rv;
}

static int commit_once(struct flume_state *state, const uint8_t *meta, const void *value, size_t len) {
  MDB_txn *txn;
  int rv = mdb_txn_begin(state->env, NULL, 0, &txn);
  if (rv != 0) return rv;
  MDB_val key = key_of("state"), val = {.mv_data = (void *)value, .mv_size = len};
  rv = mdb_put(txn, state->dbi, &key, &val, 0);
  if (rv == 0) {
    key = key_of("meta");
    val = (MDB_val){.mv_data = (void *)meta, .mv_size = META_BYTES};
    rv = mdb_put(txn, state->dbi, &key, &val, 0);
  }
  if (rv != 0) {
    mdb_txn_abort(txn);
    return rv;
  }
  return mdb_txn_commit(txn);
}

int flume_state_commit(struct flume_state *state, const struct flume_state_meta *meta, const void *value, size_t len,
                       struct flume_err *err) {
  int rv = open_for_writing(state, err);
  if (rv != 0) return rv;
  uint8_t bytes[META_BYTES];
  put_meta(bytes, meta, flume_crc32c(0, value, len));
  rv = commit_once(state, bytes, value, len);
  while (rv == MDB_MAP_FULL) {
    MDB_envinfo info;
    mdb_env_info(state->env, &info);
    rv = mdb_env_set_mapsize(state->env, info.me_mapsize * 2);
    if (rv == 0) rv = commit_once(state, bytes, value, len);
  }
  return rv == 0 ? 0 : fail(state, err, rv, "committing");
}

int flume_state_clear(struct flume_state *state, struct flume_err *err) {
  MDB_txn *txn;
  int rv = open_for_writing(state, err);
  if (rv != 0) return rv;
  rv = mdb_txn_begin(state->env, NULL, 0, &txn);
  if (rv == 0) {
    rv = mdb_drop(txn, state->dbi, 0);
    if (rv == 0) rv = mdb_txn_commit(txn);
    else mdb_txn_abort(txn);
  }
  return rv == 0 ? 0 : fail(state, err, rv, "clearing");
}
