/* An LMDB environment with three databases: "meta" (meta data and a reducer's state), "groups" and "index".
 *
 * An environment for writing takes memory and time that one for reading doesn't, so it is made at the first commit; the
 * one for reading goes then, since a process may not have a directory open twice. A write transaction begins and ends
 * within one call, on one thread. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "store/store_private.h"

#define FIRST_MAP_BYTES ((size_t)16 << 20) /* doubled when full; address space, not memory */
#define META_FORMAT 3u
#define STATE_HEADER_BYTES 4

static bool is_lmdb(int rv) {
  return rv >= MDB_KEYEXIST && rv <= MDB_LAST_ERRCODE;
}

static int from_lmdb(int rv) {
  if (rv == 0) return 0;
  if (rv == MDB_NOTFOUND) return FLUME_ENOENT;
  if (rv == MDB_CORRUPTED || rv == MDB_PAGE_NOTFOUND || rv == MDB_INVALID || rv == MDB_PANIC) return FLUME_ECORRUPT;
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

/* --- Environments ------------------------------------------------------------------------------------------------ */

void flume__store_close_env(struct flume_store *store) {
  if (store->idle != NULL) mdb_txn_abort(store->idle);
  if (store->held != NULL) mdb_txn_abort(store->held);
  store->held = NULL;
  store->idle = NULL;
  if (store->env != NULL) mdb_env_close(store->env);
  store->env = NULL;
  store->has_dbs = store->writable = false;
}

/* Bytes that the file must have for all the pages that it says it has. */
static int measure(struct flume_store *store, uint64_t *wanted, int64_t *size) {
  MDB_envinfo info;
  MDB_stat stat;
  mdb_filehandle_t file;
  int rv = mdb_env_info(store->env, &info);
  if (rv == 0) rv = mdb_env_stat(store->env, &stat);
  if (rv == 0) rv = mdb_env_get_fd(store->env, &file);
  if (rv != 0) return rv;
  *wanted = ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize;
  *size = store->io->size(store->io->ctx, file);
  return *size < 0 ? (int)*size : 0;
}

/* What lies behind the end of a file that was cut short can be mapped, but touching it ends the process. */
int flume__store_look_at_env(struct flume_store *store) {
  uint64_t wanted;
  int64_t size;
  MDB_stat stat;
  int rv = measure(store, &wanted, &size);
  if (rv == 0) rv = mdb_env_stat(store->env, &stat);
  if (rv != 0) return rv;
  store->page_bytes = stat.ms_psize;
  return (uint64_t)size < wanted ? FLUME_ECORRUPT : 0;
}

void flume__store_fill_file(struct flume_store *store) {
  mdb_filehandle_t file;
  uint64_t wanted;
  int64_t size;
  if (measure(store, &wanted, &size) != 0 || (uint64_t)size >= wanted) return;
  if (mdb_env_get_fd(store->env, &file) == 0) store->io->truncate(store->io->ctx, file, wanted);
}

int flume__store_open_env(struct flume_store *store, unsigned flags) {
  if (store->in_doubt) return UV_EIO;
  int rv = mdb_env_create(&store->env);
  if (rv != 0) {
    store->env = NULL;
    return rv;
  }
  mdb_env_set_mapsize(store->env, FIRST_MAP_BYTES);
  mdb_env_set_maxdbs(store->env, 3);
  rv = mdb_env_open(store->env, store->dir, MDB_NOTLS | flags, 0666);
  if (rv == 0) rv = flume__store_look_at_env(store);
  store->writable = rv == 0 && (flags & MDB_RDONLY) == 0;
  if (rv != 0) flume__store_close_env(store);
  return rv;
}

static int open_dbs(struct flume_store *store, MDB_txn *txn, unsigned flags) {
  if (store->has_dbs) return 0;
  int rv = mdb_dbi_open(txn, "meta", flags, &store->meta_db);
  if (rv == 0) rv = mdb_dbi_open(txn, "groups", flags, &store->dbs[FLUME_STORE_GROUPS]);
  if (rv == 0) rv = mdb_dbi_open(txn, "index", flags, &store->dbs[FLUME_STORE_INDEX]);
  return rv;
}

/* Another process may have made the file larger than what is mapped, and readers that were killed may have left no place
 * for others. */
static int begin(struct flume_store *store, MDB_txn **txn) {
  int rv = mdb_txn_begin(store->env, NULL, MDB_RDONLY, txn), dead;
  if (rv == MDB_MAP_RESIZED) rv = mdb_env_set_mapsize(store->env, 0);
  else if (rv == MDB_READERS_FULL) rv = mdb_reader_check(store->env, &dead);
  else return rv;
  return rv == 0 ? mdb_txn_begin(store->env, NULL, MDB_RDONLY, txn) : rv;
}

/* Handles of databases that a transaction for reading has opened are lost when it is aborted: it has to be committed. */
static int find_dbs(struct flume_store *store) {
  MDB_txn *txn;
  if (store->has_dbs) return 0;
  int rv = begin(store, &txn);
  if (rv != 0) return rv;
  rv = open_dbs(store, txn, 0);
  if (rv == 0) rv = mdb_txn_commit(txn);
  else mdb_txn_abort(txn);
  store->has_dbs = rv == 0;
  return rv;
}

int flume__store_begin(struct flume_store *store, MDB_txn **txn, struct flume_err *err) {
  if (store->held != NULL) {
    *txn = store->held;
    return 0;
  }
  if (store->idle != NULL && mdb_txn_renew(store->idle) == 0) {
    *txn = store->idle;
    store->idle = NULL;
    return 0;
  }
  int rv = store->env != NULL ? 0 : flume__store_open_env(store, MDB_RDONLY);
  if (rv == 0) rv = find_dbs(store);
  if (rv == 0) rv = begin(store, txn);
  if (rv != 0) return flume__store_fail(store, err, rv, "reading");
  if (store->access == FLUME_STORE_READ) store->held = *txn;
  return 0;
}

void flume__store_end(struct flume_store *store, MDB_txn *txn) {
  if (txn == store->held) return;
  if (store->idle != NULL) {
    mdb_txn_abort(txn);
    return;
  }
  mdb_txn_reset(txn);
  store->idle = txn;
}

int flume__store_begin_writing(struct flume_store *store, MDB_txn **txn) {
  int dead, rv = mdb_reader_check(store->env, &dead); /* one that was killed would keep old pages for ever */
  if (rv == 0) rv = mdb_txn_begin(store->env, NULL, 0, txn);
  if (rv != 0) return rv;
  rv = open_dbs(store, *txn, MDB_CREATE);
  if (rv != 0) mdb_txn_abort(*txn);
  return rv;
}

int flume__store_open_for_writing(struct flume_store *store, struct flume_err *err) {
  if (store->writable) return 0;
  flume__store_close_env(store);
  int rv = flume_io_mkdir_all(store->io, store->dir);
  if (rv == 0) rv = flume_io_sync_name(store->io, store->dir);
  if (rv != 0) return flume_err_set(err, rv, "creating %s: %s", store->dir, flume_strerror(rv));
  rv = flume__store_open_env(store, 0);
  if (rv != 0) return flume__store_fail(store, err, rv, "opening");
  rv = store->io->sync_dir(store->io->ctx, store->dir); /* LMDB syncs what it writes, but not the name of its file */
  if (rv != 0) {
    flume__store_close_env(store);
    return flume_err_set(err, rv, "syncing %s: %s", store->dir, flume_strerror(rv));
  }
  return 0;
}

/* --- Meta data and state ----------------------------------------------------------------------------------------- */

/* LMDB keeps a key, and a value that is not long, in one page. A long value begins behind the header of a page, where its
 * number and how many pages follow are written (struct MDB_page in its source). */
enum { PAGE_AT_FLAGS = 10, PAGE_AT_COUNT = 12, PAGE_HEADER_BYTES = 16, PAGE_IS_LONG_VALUE = 0x04 };

bool flume__store_is_mapped(const struct flume_store *store, const MDB_val *value) {
  size_t off = (uintptr_t)value->mv_data % store->page_bytes;
  if (value->mv_size <= store->page_bytes - off) return true;
  if (off != PAGE_HEADER_BYTES) return false;
  const uint8_t *page = (const uint8_t *)value->mv_data - PAGE_HEADER_BYTES;
  MDB_envinfo info;
  uint64_t number;
  uint32_t count;
  uint16_t flags;
  memcpy(&number, page, sizeof number);
  memcpy(&flags, page + PAGE_AT_FLAGS, sizeof flags);
  memcpy(&count, page + PAGE_AT_COUNT, sizeof count);
  if ((flags & PAGE_IS_LONG_VALUE) == 0 || mdb_env_info(store->env, &info) != 0) return false;
  if (number > info.me_last_pgno || count > info.me_last_pgno + 1 - number) return false;
  return value->mv_size <= count * store->page_bytes - PAGE_HEADER_BYTES;
}

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
  META_BYTES = META_AT_DELETIONS + 8,
};

static void encode_meta(uint8_t *bytes, const struct flume_store_meta *meta) {
  flume_put_le32(bytes + META_AT_FORMAT, META_FORMAT);
  flume_put_le64(bytes + META_AT_SINCE, (uint64_t)meta->since);
  memcpy(bytes + META_AT_LOG_ID, meta->log_id, sizeof meta->log_id);
  memcpy(bytes + META_AT_VERSION, meta->version, sizeof meta->version);
  flume_put_le64(bytes + META_AT_FINGERPRINT, meta->fingerprint);
  flume_put_le64(bytes + META_AT_DELETIONS, (uint64_t)meta->deletions);
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
  return 0;
}

void flume__store_let_go(struct flume_store *store) {
  if (store->held != NULL) mdb_txn_abort(store->held);
  store->held = NULL;
}

static int read_meta(struct flume_store *store, MDB_txn *txn, struct flume_store_meta *meta) {
  MDB_val key = key_of("meta"), val;
  int rv = mdb_get(txn, store->meta_db, &key, &val);
  if (rv != 0) return rv;
  return flume__store_is_mapped(store, &val) ? decode_meta(&val, meta) : FLUME_ECORRUPT;
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
  int rv = begin(store, &txn);
  if (rv == 0) {
    rv = read_meta(store, txn, meta);
    if (rv == 0 && !flume__store_fits(meta, own, limit)) rv = FLUME_EAGAIN;
    if (rv != 0) {
      mdb_txn_abort(txn);
    } else {
      mdb_txn_abort(store->held);
      store->held = txn;
    }
  }
  if (rv == FLUME_EAGAIN) return flume_err_set(err, rv, "what was committed last does not fit");
  return rv == 0 ? 0 : flume__store_fail(store, err, rv, "reading");
}

int flume__store_load_meta(struct flume_store *store, struct flume_store_meta *meta, struct flume_err *err) {
  MDB_txn *txn;
  int rv = flume__store_begin(store, &txn, err);
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
  rv = mdb_get(txn, store->meta_db, &key, &val);
  if (rv == 0) {
    const uint8_t *data = val.mv_data;
    size_t len = val.mv_size - STATE_HEADER_BYTES;
    bool whole = val.mv_size >= STATE_HEADER_BYTES && flume__store_is_mapped(store, &val) &&
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
  return mdb_put(txn, store->meta_db, &key, &val, 0);
}

int flume__store_put_state(struct flume_store *store, MDB_txn *txn) {
  if (!store->has_state) return 0;
  MDB_val key = key_of("state"), val = {.mv_size = STATE_HEADER_BYTES + store->state.len};
  int rv = mdb_put(txn, store->meta_db, &key, &val, MDB_RESERVE);
  if (rv != 0) return rv;
  flume_put_le32(val.mv_data, flume_crc32c(0, store->state.data, store->state.len));
  if (store->state.len > 0) memcpy((uint8_t *)val.mv_data + STATE_HEADER_BYTES, store->state.data, store->state.len);
  return 0;
}

int flume__store_put_erased(struct flume_store *store, MDB_txn *txn, int64_t deletions) {
  uint8_t bytes[8];
  MDB_val key = key_of("erased"), val = {.mv_data = bytes, .mv_size = sizeof bytes};
  flume_put_le64(bytes, (uint64_t)deletions);
  return mdb_put(txn, store->meta_db, &key, &val, 0);
}

int64_t flume__store_read_erased(struct flume_store *store, struct flume_err *err) {
  MDB_txn *txn;
  int64_t deletions = 0;
  int rv = flume__store_begin(store, &txn, err);
  if (rv != 0) return rv;
  MDB_val key = key_of("erased"), val;
  rv = mdb_get(txn, store->meta_db, &key, &val);
  if (rv == 0 && (val.mv_size != 8 || !flume__store_is_mapped(store, &val))) rv = FLUME_ECORRUPT;
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
