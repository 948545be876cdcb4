/* LMDB environments. A process must not have a directory open twice: closing the second one would release the locks
 * of the first, and opening it would empty the table of readers, so that the writer reuses pages that are being read.
 * So all stores of this process in a directory have one environment, which is found by device and inode of its data
 * file, and closed with the last of the stores. The list of environments is the one thing in core that belongs to the
 * process.
 *
 * An environment is opened for writing if the process may do so, since a store that writes may be opened while
 * another one reads. Opening neither makes files for a reader nor changes any.
 *
 * The map must not move while it is read: readers count themselves (flume__env_enter), and whoever enlarges the map
 * waits for them. A snapshot that rests has no pointers into the map, and does not count. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "store/store_private.h"

#define FIRST_MAP_BYTES ((size_t)16 << 20) /* doubled when full; address space, not memory */
#define READERS_MAX 2000u                  /* snapshots of all processes */
#define MAP_WAIT_NS (10u * 1000 * 1000 * 1000ull)

static uv_once_t once = UV_ONCE_INIT;
static uv_mutex_t list_lock;
static struct flume__env *list;

static void init_list(void) {
  if (uv_mutex_init(&list_lock) != 0) abort();
}

/* --- Opening ------------------------------------------------------------------------------------------------------ */

/* Bytes that the file must have for all the pages that it says it has. */
static int measure(struct flume__env *env, const struct flume_io *io, uint64_t *wanted, int64_t *size) {
  MDB_envinfo info;
  MDB_stat stat;
  mdb_filehandle_t file;
  int rv = mdb_env_info(env->mdb, &info);
  if (rv == 0) rv = mdb_env_stat(env->mdb, &stat);
  if (rv == 0) rv = mdb_env_get_fd(env->mdb, &file);
  if (rv != 0) return rv;
  *wanted = ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize;
  *size = io->size(io->ctx, file);
  return *size < 0 ? (int)*size : 0;
}

/* Bytes behind the end of a file that was cut short can be mapped, but reading them ends the process. */
static int look_at_file(struct flume__env *env, const struct flume_io *io) {
  uint64_t wanted;
  int64_t size;
  MDB_stat stat;
  int rv = measure(env, io, &wanted, &size);
  if (rv == 0) rv = mdb_env_stat(env->mdb, &stat);
  if (rv != 0) return rv;
  env->page_bytes = stat.ms_psize;
  return (uint64_t)size < wanted ? FLUME_ECORRUPT : 0;
}

void flume__env_fill_file(struct flume__env *env, const struct flume_io *io) {
  mdb_filehandle_t file;
  uint64_t wanted;
  int64_t size;
  if (measure(env, io, &wanted, &size) != 0 || (uint64_t)size >= wanted) return;
  if (mdb_env_get_fd(env->mdb, &file) == 0) io->truncate(io->ctx, file, wanted);
}

static int open_mdb(struct flume__env *env, const struct flume_io *io, const char *dir, unsigned flags) {
  int rv = mdb_env_create(&env->mdb);
  if (rv != 0) {
    env->mdb = NULL;
    return rv;
  }
  mdb_env_set_mapsize(env->mdb, FIRST_MAP_BYTES);
  mdb_env_set_maxdbs(env->mdb, 5);
  mdb_env_set_maxreaders(env->mdb, READERS_MAX);
  rv = mdb_env_open(env->mdb, dir, MDB_NOTLS | flags, 0666);
  if (rv == 0) rv = look_at_file(env, io);
  env->is_writable = rv == 0 && (flags & MDB_RDONLY) == 0;
  if (rv != 0) mdb_env_close(env->mdb);
  if (rv != 0) env->mdb = NULL;
  return rv;
}

static int open_for(struct flume__env *env, const struct flume_io *io, const char *dir, enum flume__env_use use) {
  if (use == FLUME__ENV_UNLOCKED) return open_mdb(env, io, dir, MDB_RDONLY | MDB_NOLOCK);
  int rv = open_mdb(env, io, dir, 0);
  if (use == FLUME__ENV_WRITE || (rv != EACCES && rv != EROFS && rv != EPERM)) return rv;
  return open_mdb(env, io, dir, MDB_RDONLY);
}

/* Which file an environment is of. An empty file is none yet: LMDB would begin an environment in it. */
static int identify(const char *dir, struct stat *st) {
  char path[4096];
  int len = snprintf(path, sizeof path, "%s/data.mdb", dir);
  if (len < 0 || (size_t)len >= sizeof path) return ENAMETOOLONG;
  if (stat(path, st) != 0) return errno;
  return st->st_size > 0 ? 0 : ENOENT;
}

static void free_env(struct flume__env *env, const struct flume_io *io) {
  if (env->mdb != NULL && env->process == (int)getpid()) mdb_env_close(env->mdb);
  uv_mutex_destroy(&env->opening);
  uv_cond_destroy(&env->idle);
  uv_mutex_destroy(&env->lock);
  flume_io_free(io, env);
}

static struct flume__env *make_env(const struct flume_io *io) {
  struct flume__env *env = flume_io_zalloc(io, sizeof *env);
  if (env == NULL) return NULL;
  env->process = (int)getpid();
  env->refs = 1;
  if (uv_mutex_init(&env->lock) != 0) goto err_after_alloc;
  if (uv_cond_init(&env->idle) != 0) goto err_after_lock;
  if (uv_mutex_init(&env->opening) != 0) goto err_after_cond;
  return env;

err_after_cond:
  uv_cond_destroy(&env->idle);
err_after_lock:
  uv_mutex_destroy(&env->lock);
err_after_alloc:
  flume_io_free(io, env);
  return NULL;
}

/* An environment of the parent's can't be used after fork; it stays in the list. */
static struct flume__env *find(const struct stat *st) {
  int process = (int)getpid();
  for (struct flume__env *env = list; env != NULL; env = env->next) {
    if (env->device == st->st_dev && env->inode == st->st_ino && env->process == process) return env;
  }
  return NULL;
}

/* With the lock of the list. */
static int ref_listed(struct flume__env **out, const struct flume_io *io, const char *dir, enum flume__env_use use) {
  struct stat st;
  int rv = identify(dir, &st);
  if (rv != 0 && (rv != ENOENT || use != FLUME__ENV_WRITE)) return rv == ENOENT ? FLUME_ENOENT : rv;
  struct flume__env *env = rv == 0 ? find(&st) : NULL;
  if (env != NULL) {
    assert(env->refs > 0 && env->is_listed);
    if (env->is_dead) return UV_EIO;
    if (use == FLUME__ENV_WRITE && !env->is_writable) return EACCES;
    env->refs++;
    *out = env;
    return 0;
  }
  env = make_env(io);
  if (env == NULL) return FLUME_ENOMEM;
  rv = open_for(env, io, dir, use);
  if (rv == 0) rv = identify(dir, &st);
  if (rv != 0) {
    free_env(env, io);
    return rv;
  }
  env->device = st.st_dev;
  env->inode = st.st_ino;
  *out = env;
  if (use == FLUME__ENV_UNLOCKED) return 0;
  env->is_listed = true;
  env->next = list;
  list = env;
  return 0;
}

int flume__env_ref(struct flume__env **env, const struct flume_io *io, const char *dir, enum flume__env_use use) {
  uv_once(&once, init_list);
  uv_mutex_lock(&list_lock);
  int rv = ref_listed(env, io, dir, use);
  uv_mutex_unlock(&list_lock);
  return rv;
}

void flume__env_unref(struct flume__env *env, const struct flume_io *io) {
  uv_mutex_lock(&list_lock);
  assert(env->refs > 0);
  if (--env->refs == 0) {
    struct flume__env **at = &list;
    while (*at != NULL && *at != env) at = &(*at)->next;
    assert((*at == env) == env->is_listed && env->readers == 0);
    if (*at != NULL) *at = env->next;
    free_env(env, io);
  }
  uv_mutex_unlock(&list_lock);
}

void flume__env_kill(struct flume__env *env) {
  uv_mutex_lock(&list_lock);
  env->is_dead = true;
  uv_mutex_unlock(&list_lock);
}

bool flume__env_is_shared(struct flume__env *env) {
  uv_mutex_lock(&list_lock);
  bool is_shared = env->refs > 1;
  uv_mutex_unlock(&list_lock);
  return is_shared;
}

/* --- The map ------------------------------------------------------------------------------------------------------ */

void flume__env_enter(struct flume__env *env) {
  uv_mutex_lock(&env->lock);
  env->readers++;
  uv_mutex_unlock(&env->lock);
}

void flume__env_leave(struct flume__env *env) {
  uv_mutex_lock(&env->lock);
  assert(env->readers > 0);
  env->readers--;
  uv_cond_broadcast(&env->idle);
  uv_mutex_unlock(&env->lock);
}

int flume__env_map(struct flume__env *env, size_t bytes, unsigned own) {
  uint64_t end = uv_hrtime() + MAP_WAIT_NS, now;
  int rv = 0;
  uv_mutex_lock(&env->lock);
  while (env->readers > own && (now = uv_hrtime()) < end) uv_cond_timedwait(&env->idle, &env->lock, end - now);
  rv = env->readers > own ? UV_EBUSY : mdb_env_set_mapsize(env->mdb, bytes);
  uv_mutex_unlock(&env->lock);
  if (rv != 0 && rv != UV_EBUSY && rv != EINVAL) flume__env_kill(env); /* nothing may be mapped any more */
  return rv;
}

/* LMDB keeps a key, and a value that is not long, in one page. A long value begins behind the header of a page, where
 * its number and how many pages follow are written (struct MDB_page in its source). */
enum { PAGE_AT_FLAGS = 10, PAGE_AT_COUNT = 12, PAGE_HEADER_BYTES = 16, PAGE_IS_LONG_VALUE = 0x04 };

bool flume__env_is_mapped(const struct flume__env *env, const MDB_val *value) {
  size_t off = (uintptr_t)value->mv_data % env->page_bytes;
  if (value->mv_size <= env->page_bytes - off) return true;
  if (off != PAGE_HEADER_BYTES) return false;
  const uint8_t *page = (const uint8_t *)value->mv_data - PAGE_HEADER_BYTES;
  MDB_envinfo info;
  uint64_t number;
  uint32_t count;
  uint16_t flags;
  memcpy(&number, page, sizeof number);
  memcpy(&flags, page + PAGE_AT_FLAGS, sizeof flags);
  memcpy(&count, page + PAGE_AT_COUNT, sizeof count);
  if ((flags & PAGE_IS_LONG_VALUE) == 0 || mdb_env_info(env->mdb, &info) != 0) return false;
  if (number > info.me_last_pgno || count > info.me_last_pgno + 1 - number) return false;
  return value->mv_size <= count * env->page_bytes - PAGE_HEADER_BYTES;
}

/* --- Databases ---------------------------------------------------------------------------------------------------- */

static int open_row_dbs(struct flume__env *env, MDB_txn *txn, unsigned flags) {
  static const char *const rows[] = {"groups", "index"}, *const tails[] = {"group_tails", "index_tails"};
  int rv = 0;
  for (int kind = 0; rv == 0 && kind < 2; kind++) {
    rv = mdb_dbi_open(txn, rows[kind], flags, &env->rows_db[kind]);
    if (rv == 0) rv = mdb_dbi_open(txn, tails[kind], flags, &env->tails_db[kind]);
  }
  return rv;
}

static int find_meta(struct flume__env *env, MDB_txn *txn) {
  MDB_val key = {.mv_data = (void *)"meta", .mv_size = 4}, value;
  return mdb_get(txn, env->meta_db, &key, &value);
}

int flume__env_begin(struct flume__env *env, MDB_txn **txn) {
  int dead, rv = mdb_txn_begin(env->mdb, NULL, MDB_RDONLY, txn);
  if (rv == MDB_MAP_RESIZED) rv = flume__env_map(env, 0, 1);               /* another process has enlarged the file */
  else if (rv == MDB_READERS_FULL) rv = mdb_reader_check(env->mdb, &dead); /* processes that ended by a signal */
  else return rv;
  return rv == 0 ? mdb_txn_begin(env->mdb, NULL, MDB_RDONLY, txn) : rv;
}

static bool has_rows(MDB_txn *txn) {
  static const char *const names[] = {"groups", "index"};
  size_t entries = 0;
  for (int kind = 0; kind < 2; kind++) {
    MDB_stat stat;
    MDB_dbi db;
    if (mdb_dbi_open(txn, names[kind], 0, &db) == 0 && mdb_stat(txn, db, &stat) == 0) entries += stat.ms_entries;
  }
  return entries > 0;
}

/* The numbers of databases that a transaction has opened are lost when it is aborted: it has to be committed. A store
 * of an older format has fewer databases. */
static int find_dbs(struct flume__env *env) {
  MDB_txn *txn;
  int rv = flume__env_begin(env, &txn);
  if (rv != 0) return rv;
  rv = mdb_dbi_open(txn, "meta", 0, &env->meta_db);
  if (rv == 0) rv = find_meta(env, txn);
  if (rv == MDB_NOTFOUND) rv = FLUME_ENOENT;
  env->has_orphans = rv == FLUME_ENOENT && has_rows(txn);
  if (rv == 0) rv = open_row_dbs(env, txn, 0);
  if (rv == MDB_NOTFOUND) rv = FLUME_EVERSION;
  if (rv == 0) rv = mdb_txn_commit(txn);
  else mdb_txn_abort(txn);
  env->has_dbs = rv == 0;
  return rv;
}

int flume__env_find_dbs(struct flume__env *env) {
  int rv = 0;
  uv_mutex_lock(&env->opening);
  if (!env->has_dbs) {
    flume__env_enter(env);
    rv = find_dbs(env);
    flume__env_leave(env);
  }
  uv_mutex_unlock(&env->opening);
  return rv;
}

/* Rows belong to meta data: without these they are of an unknown log and version. */
static int make_dbs(struct flume__env *env, MDB_txn *txn) {
  int rv = mdb_dbi_open(txn, "meta", MDB_CREATE, &env->meta_db);
  if (rv == 0) rv = open_row_dbs(env, txn, MDB_CREATE);
  if (rv == 0) rv = find_meta(env, txn);
  if (rv != MDB_NOTFOUND) return rv;
  rv = mdb_drop(txn, env->meta_db, 0);
  for (int kind = 0; rv == 0 && kind < 2; kind++) {
    rv = mdb_drop(txn, env->rows_db[kind], 0);
    if (rv == 0) rv = mdb_drop(txn, env->tails_db[kind], 0);
  }
  return rv;
}

int flume__env_begin_writing(struct flume__env *env, MDB_txn **txn, bool *is_first) {
  int dead, rv = mdb_reader_check(env->mdb, &dead); /* a reader that ended by a signal would keep old pages for ever */
  uv_mutex_lock(&env->opening);
  *is_first = !env->has_dbs;
  if (!*is_first) uv_mutex_unlock(&env->opening);
  if (rv == 0) rv = mdb_txn_begin(env->mdb, NULL, 0, txn);
  if (rv == 0 && *is_first) {
    rv = make_dbs(env, *txn);
    if (rv != 0) mdb_txn_abort(*txn);
  }
  if (rv != 0) flume__env_end_writing(env, *is_first, false);
  return rv;
}

void flume__env_end_writing(struct flume__env *env, bool is_first, bool is_committed) {
  if (!is_first) return;
  assert(!env->has_dbs);
  env->has_dbs = is_committed;
  uv_mutex_unlock(&env->opening);
}
