#include "state.h"

#include <assert.h>
#include <lmdb.h>
#include <string.h>

#include "bytes.h"
#include "crc32c.h"
#include "err.h"

#define FIRST_MAP_BYTES ((size_t)16 << 20) /* doubled when full; address space, not memory */
#define META_FORMAT 1u

struct flume_state {
  const struct flume_io *io;
  MDB_env *env;
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

static int fail(struct flume_err *err, int rv, const char *doing) {
  return flume_err_set(err, from_lmdb(rv), "%s a view's state: %s", doing, mdb_strerror(rv));
}

int flume_state_open(struct flume_state **out, const struct flume_io *io, const char *dir, struct flume_err *err) {
  int rv = flume_io_mkdir_all(io, dir);
  if (rv != 0) return flume_err_set(err, rv, "creating %s: %s", dir, flume_strerror(rv));
  struct flume_state *state = flume_io_zalloc(io, sizeof *state);
  if (state == NULL) return flume_err_nomem(err);
  state->io = io;
  MDB_txn *txn;
  rv = mdb_env_create(&state->env);
  if (rv != 0) goto err_after_alloc;
  mdb_env_set_mapsize(state->env, FIRST_MAP_BYTES);
  /* Only this process writes (the log's lock sees to that), and one thread at a time: no lock file is needed. */
  rv = mdb_env_open(state->env, dir, MDB_NOTLS | MDB_NOLOCK, 0666);
  if (rv != 0) goto err_after_env;
  rv = mdb_txn_begin(state->env, NULL, MDB_RDONLY, &txn);
  if (rv != 0) goto err_after_env;
  rv = mdb_dbi_open(txn, NULL, 0, &state->dbi);
  if (rv != 0) {
    mdb_txn_abort(txn);
    goto err_after_env;
  }
  rv = mdb_txn_commit(txn);
  if (rv != 0) goto err_after_env;
  *out = state;
  return 0;

err_after_env:
  mdb_env_close(state->env);
err_after_alloc:
  assert(rv != 0);
  flume_io_free(io, state);
  fail(err, rv, "opening");
  flume_err_wrap(err, "%s", dir);
  return from_lmdb(rv);
}

void flume_state_close(struct flume_state *state) {
  mdb_env_close(state->env);
  flume_io_free(state->io, state);
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

int flume_state_load(struct flume_state *state, struct flume_state_meta *meta, struct flume_buf *value,
                     struct flume_err *err) {
  MDB_txn *txn;
  int rv = mdb_txn_begin(state->env, NULL, MDB_RDONLY, &txn);
  if (rv != 0) return fail(err, rv, "reading");
  MDB_val key = key_of("meta"), meta_val, value_val;
  rv = mdb_get(txn, state->dbi, &key, &meta_val);
  if (rv == 0) {
    key = key_of("state");
    rv = mdb_get(txn, state->dbi, &key, &value_val);
  }
  if (rv != 0) {
    mdb_txn_abort(txn);
    return fail(err, rv, "reading");
  }
  uint32_t value_crc = 0;
  rv = get_meta(&meta_val, meta, &value_crc);
  if (rv == 0 && flume_crc32c(0, value_val.mv_data, value_val.mv_size) != value_crc) rv = FLUME_ECORRUPT;
  if (rv == 0) rv = flume_buf_append(value, value_val.mv_data, value_val.mv_size);
  mdb_txn_abort(txn);
  return rv == 0 ? 0 : flume_err_set(err, rv, "reading a view's state: %s", flume_strerror(rv));
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
  uint8_t bytes[META_BYTES];
  put_meta(bytes, meta, flume_crc32c(0, value, len));
  int rv = commit_once(state, bytes, value, len);
  while (rv == MDB_MAP_FULL) {
    MDB_envinfo info;
    mdb_env_info(state->env, &info);
    rv = mdb_env_set_mapsize(state->env, info.me_mapsize * 2);
    if (rv == 0) rv = commit_once(state, bytes, value, len);
  }
  return rv == 0 ? 0 : fail(err, rv, "committing");
}

int flume_state_clear(struct flume_state *state, struct flume_err *err) {
  MDB_txn *txn;
  int rv = mdb_txn_begin(state->env, NULL, 0, &txn);
  if (rv == 0) {
    rv = mdb_drop(txn, state->dbi, 0);
    if (rv == 0) rv = mdb_txn_commit(txn);
    else mdb_txn_abort(txn);
  }
  return rv == 0 ? 0 : fail(err, rv, "clearing");
}
