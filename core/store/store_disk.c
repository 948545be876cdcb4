/* Transactions of a store, its meta data and a reducer's state, which are rows of the database "meta". A transaction
 * for writing begins and ends within one call, on one thread. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "store/store_private.h"

#define META_FORMAT 4u
#define STATE_HEADER_BYTES 4

static bool is_lmdb(int rv) {
  return rv >= MDB_KEYEXIST && rv <= MDB_LAST_ERRCODE;
}

static int from_lmdb(int rv) {
  if (rv == 0) return 0;
  if (rv == MDB_NOTFOUND) return FLUME_ENOENT;
  if (rv == MDB_CORRUPTED || rv == MDB_PAGE_NOTFOUND || rv == MDB_INVALID) return FLUME_ECORRUPT;
  if (rv == MDB_READERS_FULL) return UV_EBUSY;
  if (rv == MDB_VERSION_MISMATCH) return FLUME_EVERSION;
  if (rv > 0) return uv_translate_sys_error(rv);
  return is_lmdb(rv) ? UV_EIO : rv;
}

int flume__store_fail(const struct flume_store *store, struct flume_err *err, int rv, const char *doing) {
  const char *text = rv > 0 || is_lmdb(rv) ? mdb_strerror(rv) : flume_strerror(rv);
  if (rv == FLUME_ENOMEM || rv == ENOMEM) return flume_err_nomem(err);
  if (store->dir == NULL) return flume_err_set(err, from_lmdb(rv), "%s a view's store in memory: %s", doing, text);
  return flume_err_set(err, from_lmdb(rv), "%s a view's store in %s: %s", doing, store->dir, text);
}

/* --- Transactions ------------------------------------------------------------------------------------------------ */

void flume__store_close_env(struct flume_store *store) {
  assert(store->env != NULL || (store->idle == NULL && store->held == NULL));
  if (store->idle != NULL) mdb_txn_abort(store->idle);
  if (store->held != NULL) mdb_txn_abort(store->held);
  store->held = NULL;
  store->idle = NULL;
  if (store->env != NULL) flume__env_unref(store->env, store->io);
  store->env = NULL;
}

int flume__store_open_env(struct flume_store *store, enum flume__env_use use) {
  assert(store->env == NULL && store->dir != NULL);
  if (store->in_doubt) return UV_EIO;
  return flume__env_ref(&store->env, store->io, store->dir, use);
}

/* Another store's failure may have killed the environment. A snapshot that is held can still be read. */
static int ensure_env(struct flume_store *store) {
  if (store->env != NULL && store->env->is_dead) flume__store_close_env(store);
  return store->env != NULL ? 0 : flume__store_open_env(store, FLUME__ENV_READ);
}

static int begin_new(struct flume_store *store, MDB_txn **txn) {
  int rv = ensure_env(store);
  if (rv == 0) rv = flume__env_find_dbs(store->env);
  if (rv != 0) return rv;
  flume__env_enter(store->env);
  rv = flume__env_begin(store->env, txn);
  if (rv != 0) flume__env_leave(store->env);
  return rv;
}

int flume__store_begin(struct flume_store *store, MDB_txn **txn, struct flume_err *err) {
  assert(store->env != NULL || (store->held == NULL && store->idle == NULL));
  if (store->held != NULL) {
    flume__env_enter(store->env);
    *txn = store->held;
    return 0;
  }
  if (store->idle != NULL) {
    flume__env_enter(store->env);
    *txn = store->idle;
    if (mdb_txn_renew(store->idle) == 0) {
      store->idle = NULL;
      return 0;
    }
    flume__env_leave(store->env);
  }
  int rv = begin_new(store, txn);
  if (rv != 0) {
    rv = flume__store_fail(store, err, rv, "reading");
    assert(rv != 0);
    return rv;
  }
  assert(store->env != NULL);
  if (store->access == FLUME_STORE_READ) store->held = *txn;
  return 0;
}

void flume__store_end(struct flume_store *store, MDB_txn *txn) {
  if (txn == store->held) {
    flume__env_leave(store->env);
    return;
  }
  if (store->idle != NULL) {
    mdb_txn_abort(txn);
  } else {
    mdb_txn_reset(txn);
    store->idle = txn;
  }
  flume__env_leave(store->env);
}

int flume__store_open_for_writing(struct flume_store *store, struct flume_err *err) {
  if (store->env != NULL && store->env->is_dead) flume__store_close_env(store);
  if (store->env != NULL && store->env->is_writable && store->env->is_named) return 0;
  int rv = flume_io_mkdir_all(store->io, store->dir);
  if (rv == 0) rv = flume_io_sync_name(store->io, store->dir);
  if (rv != 0) return flume_err_set(err, rv, "creating %s: %s", store->dir, flume_strerror(rv));
  if (store->env != NULL && !store->env->is_writable) flume__store_close_env(store);
  if (store->env == NULL) rv = flume__store_open_env(store, FLUME__ENV_WRITE);
  if (rv != 0) return flume__store_fail(store, err, rv, "opening");
  rv = store->io->sync_dir(store->io->ctx, store->dir); /* LMDB syncs what it writes, but not the name of its file */
  if (rv != 0) return flume_err_set(err, rv, "syncing %s: %s", store->dir, flume_strerror(rv));
  store->env->is_named = true;
  return 0;
}

/* --- Meta data and state ----------------------------------------------------------------------------------------- */

static MDB_val key_of(const char *text) {
  return (MDB_val){.mv_data = (void *)text, .mv_size = strlen(text)};
}

/* Where things are in the value of "meta". */
enum {
  META_AT_FORMAT = 0,
  META_AT_CRC = 4, /* of what is behind it */
  META_AT_SINCE = 8,
  META_AT_LOG_ID = 16,
  META_AT_VERSION = 32,
  META_AT_FINGERPRINT = META_AT_VERSION + FLUME_STORE_VERSION_BYTES,
  META_AT_DELETIONS = META_AT_FINGERPRINT + 8,
  META_AT_DIGEST = META_AT_DELETIONS + 8,
  META_AT_HAS_DIGEST = META_AT_DIGEST + 4,
  META_BYTES = META_AT_HAS_DIGEST + 4,
};

static void encode_meta(uint8_t *bytes, const struct flume_store_meta *meta) {
  flume_put_le32(bytes + META_AT_FORMAT, META_FORMAT);
  flume_put_le64(bytes + META_AT_SINCE, (uint64_t)meta->since);
  memcpy(bytes + META_AT_LOG_ID, meta->log_id, sizeof meta->log_id);
  memcpy(bytes + META_AT_VERSION, meta->version, sizeof meta->version);
  flume_put_le64(bytes + META_AT_FINGERPRINT, meta->fingerprint);
  flume_put_le64(bytes + META_AT_DELETIONS, (uint64_t)meta->deletions);
  flume_put_le32(bytes + META_AT_DIGEST, meta->has_digest ? meta->digest : 0);
  flume_put_le32(bytes + META_AT_HAS_DIGEST, meta->has_digest);
  flume_put_le32(bytes + META_AT_CRC, flume_crc32c(0, bytes + META_AT_SINCE, META_BYTES - META_AT_SINCE));
}

static int decode_meta(const MDB_val *val, struct flume_store_meta *meta) {
  const uint8_t *bytes = val->mv_data;
  if (val->mv_size < META_AT_SINCE || flume_get_le32(bytes + META_AT_FORMAT) != META_FORMAT) return FLUME_EVERSION;
  if (val->mv_size != META_BYTES) return FLUME_ECORRUPT;
  uint32_t crc = flume_crc32c(0, bytes + META_AT_SINCE, META_BYTES - META_AT_SINCE);
  if (flume_get_le32(bytes + META_AT_CRC) != crc) return FLUME_ECORRUPT;
  meta->since = (int64_t)flume_get_le64(bytes + META_AT_SINCE);
  memcpy(meta->log_id, bytes + META_AT_LOG_ID, sizeof meta->log_id);
  memcpy(meta->version, bytes + META_AT_VERSION, sizeof meta->version);
  meta->version[FLUME_STORE_VERSION_BYTES - 1] = '\0';
  meta->fingerprint = flume_get_le64(bytes + META_AT_FINGERPRINT);
  meta->deletions = (int64_t)flume_get_le64(bytes + META_AT_DELETIONS);
  meta->digest = flume_get_le32(bytes + META_AT_DIGEST);
  meta->has_digest = flume_get_le32(bytes + META_AT_HAS_DIGEST) != 0;
  return 0;
}

void flume__store_let_go(struct flume_store *store) {
  if (store->held != NULL) mdb_txn_abort(store->held);
  store->held = NULL;
}

static int read_meta(struct flume_store *store, MDB_txn *txn, struct flume_store_meta *meta) {
  MDB_val key = key_of("meta"), val;
  int rv = mdb_get(txn, store->env->meta_db, &key, &val);
  if (rv != 0) return rv;
  return flume__env_is_mapped(store->env, &val) ? decode_meta(&val, meta) : FLUME_ECORRUPT;
}

bool flume__store_fits(const struct flume_store_meta *meta, const struct flume_store_meta *own,
                       const struct flume_store_meta *limit) {
  bool is_same = memcmp(meta->log_id, own->log_id, sizeof own->log_id) == 0 &&
                 strcmp(meta->version, own->version) == 0 && meta->fingerprint == own->fingerprint;
  return is_same && meta->since >= own->since && meta->since <= limit->since && meta->deletions >= own->deletions &&
         meta->deletions <= limit->deletions;
}

int flume__store_renew(struct flume_store *store, const struct flume_store_meta *own,
                       const struct flume_store_meta *limit, struct flume_store_meta *meta, struct flume_err *err) {
  MDB_txn *txn;
  assert(store->held != NULL && store->env != NULL);
  flume__env_enter(store->env);
  int rv = flume__env_begin(store->env, &txn);
  if (rv == 0) {
    rv = read_meta(store, txn, meta);
    if (rv == 0 && !flume__store_fits(meta, own, limit)) rv = FLUME_EAGAIN;
    if (rv == 0) {
      mdb_txn_abort(store->held);
      store->held = txn;
    } else {
      mdb_txn_abort(txn);
    }
  }
  flume__env_leave(store->env);
  if (rv == FLUME_EAGAIN) return flume_err_set(err, rv, "what was committed last does not fit");
  return rv == 0 ? 0 : flume__store_fail(store, err, rv, "reading");
}

int flume__store_load_meta(struct flume_store *store, struct flume_store_meta *meta, struct flume_err *err) {
  MDB_txn *txn;
  int rv = flume__store_begin(store, &txn, err);
  if (rv == FLUME_ENOENT && store->env != NULL && store->env->has_orphans) {
    return flume_err_set(err, FLUME_ECORRUPT, "the store in %s has rows without meta data", store->dir);
  }
  if (rv != 0) return rv;
  rv = read_meta(store, txn, meta);
  flume__store_end(store, txn);
  return rv == 0 ? 0 : flume__store_fail(store, err, rv, "reading");
}

int flume__store_read_state(struct flume_store *store, struct flume_buf *value, struct flume_err *err) {
  MDB_txn *txn;
  int rv = flume__store_begin(store, &txn, err);
  if (rv != 0) return rv;
  MDB_val key = key_of("state"), val;
  rv = mdb_get(txn, store->env->meta_db, &key, &val);
  if (rv == 0) {
    const uint8_t *data = val.mv_data;
    size_t len = val.mv_size - STATE_HEADER_BYTES;
    bool whole = val.mv_size >= STATE_HEADER_BYTES && flume__env_is_mapped(store->env, &val) &&
                 flume_crc32c(0, data + STATE_HEADER_BYTES, len) == flume_get_le32(data);
    rv = whole ? flume_buf_append(value, data + STATE_HEADER_BYTES, len) : FLUME_ECORRUPT;
  }
  flume__store_end(store, txn);
  return rv == 0 ? 0 : flume__store_fail(store, err, rv, "reading");
}

int flume__store_put_meta(struct flume_store *store, MDB_txn *txn, const struct flume_store_meta *meta) {
  uint8_t bytes[META_BYTES];
  MDB_val key = key_of("meta"), val = {.mv_data = bytes, .mv_size = sizeof bytes};
  encode_meta(bytes, meta);
  return mdb_put(txn, store->env->meta_db, &key, &val, 0);
}

int flume__store_put_state(struct flume_store *store, MDB_txn *txn) {
  if (!store->has_state) return 0;
  MDB_val key = key_of("state"), val = {.mv_size = STATE_HEADER_BYTES + store->state.len};
  int rv = mdb_put(txn, store->env->meta_db, &key, &val, MDB_RESERVE);
  if (rv != 0) return rv;
  flume_put_le32(val.mv_data, flume_crc32c(0, store->state.data, store->state.len));
  if (store->state.len > 0) memcpy((uint8_t *)val.mv_data + STATE_HEADER_BYTES, store->state.data, store->state.len);
  return 0;
}

int flume__store_put_erased(struct flume_store *store, MDB_txn *txn, int64_t deletions) {
  uint8_t bytes[8];
  MDB_val key = key_of("erased"), val = {.mv_data = bytes, .mv_size = sizeof bytes};
  flume_put_le64(bytes, (uint64_t)deletions);
  return mdb_put(txn, store->env->meta_db, &key, &val, 0);
}

int64_t flume__store_read_erased(struct flume_store *store, struct flume_err *err) {
  MDB_txn *txn;
  int64_t deletions = 0;
  int rv = flume__store_begin(store, &txn, err);
  if (rv != 0) return rv;
  MDB_val key = key_of("erased"), val;
  rv = mdb_get(txn, store->env->meta_db, &key, &val);
  if (rv == 0 && (val.mv_size != 8 || !flume__env_is_mapped(store->env, &val))) rv = FLUME_ECORRUPT;
  if (rv == 0) deletions = (int64_t)flume_get_le64(val.mv_data);
  flume__store_end(store, txn);
  return rv == 0 || rv == MDB_NOTFOUND ? deletions : flume__store_fail(store, err, rv, "reading");
}

uint64_t flume__store_disk_bytes(const struct flume_store *store) {
  char path[4096];
  struct stat st;
  int len = snprintf(path, sizeof path, "%s/data.mdb", store->dir);
  if (len < 0 || (size_t)len >= sizeof path || stat(path, &st) != 0) return 0;
  return (uint64_t)st.st_size;
}
