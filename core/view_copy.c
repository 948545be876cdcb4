#include "view_copy.h"

#include <lmdb.h>
#include <stdio.h>
#include <string.h>

#define ENVIRONMENT "data.mdb"
#define ENVIRONMENT_LOCK "lock.mdb"
#define TRIES 4

struct copying {
  const struct flume_io *io;
  const char *from;
  const char *to;
  enum flume_view_writer writer;
  struct flume_copied *copied;
};

static int copy_tree(const struct copying *copying);

static int join(char *path, size_t size, const char *dir, const char *name) {
  int len = snprintf(path, size, "%s/%s", dir, name);
  return len > 0 && (size_t)len < size ? 0 : UV_ENAMETOOLONG;
}

/* --- Environments -------------------------------------------------------------------------------------------- */

static int from_lmdb(int rv) {
  if (rv == 0) return 0;
  return rv > 0 ? uv_translate_sys_error(rv) : FLUME_ECORRUPT;
}

static int open_environment(const char *dir, unsigned flags, MDB_env **out) {
  MDB_env *env;
  int rv = mdb_env_create(&env);
  if (rv != 0) return rv;
  mdb_env_set_maxdbs(env, 16);
  rv = mdb_env_open(env, dir, MDB_RDONLY | MDB_NOTLS | flags, 0666);
  if (rv == 0) *out = env;
  else mdb_env_close(env);
  return rv;
}

/* Reads every entry of a database, and of those that are named in it. */
static int read_database(MDB_txn *txn, MDB_dbi dbi, int depth) {
  MDB_cursor *cursor;
  int rv = mdb_cursor_open(txn, dbi, &cursor);
  if (rv != 0) return rv;
  MDB_val key, value;
  while ((rv = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
    char name[512];
    MDB_dbi named;
    if (depth > 0 || key.mv_size >= sizeof name) continue;
    memcpy(name, key.mv_data, key.mv_size);
    name[key.mv_size] = '\0';
    if (mdb_dbi_open(txn, name, 0, &named) == 0) rv = read_database(txn, named, depth + 1);
    if (rv != 0) break;
  }
  mdb_cursor_close(cursor);
  return rv == MDB_NOTFOUND ? 0 : rv;
}

static int check_environment(const char *dir) {
  MDB_env *env;
  MDB_txn *txn;
  MDB_dbi dbi;
  int rv = open_environment(dir, MDB_NOLOCK, &env);
  if (rv != 0) return rv;
  rv = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);
  if (rv == 0) {
    rv = mdb_dbi_open(txn, NULL, 0, &dbi);
    if (rv == 0) rv = read_database(txn, dbi, 0);
    mdb_txn_abort(txn);
  }
  mdb_env_close(env);
  return rv;
}

/* Without the environment's locks a writer may reuse pages that the copy is still to read; so the copy is looked at. */
static int copy_environment(const struct copying *copying) {
  char lock[4096];
  int rv = join(lock, sizeof lock, copying->from, ENVIRONMENT_LOCK);
  if (rv != 0) return rv;
  int file = copying->io->open(copying->io->ctx, lock, FLUME_IO_READ);
  if (file >= 0) copying->io->close(copying->io->ctx, file);
  bool locks = file >= 0 && copying->writer == FLUME_VIEW_WRITER_ELSEWHERE;
  MDB_env *env;
  rv = open_environment(copying->from, locks ? 0 : MDB_NOLOCK, &env);
  if (rv != 0) return from_lmdb(rv);
  rv = mdb_env_copy2(env, copying->to, MDB_CP_COMPACT);
  mdb_env_close(env);
  if (rv == 0) rv = check_environment(copying->to);
  return from_lmdb(rv);
}

/* --- Trees --------------------------------------------------------------------------------------------------- */

static int count_file(const struct copying *copying, const char *path) {
  const struct flume_io *io = copying->io;
  int file = io->open(io->ctx, path, FLUME_IO_WRITE);
  if (file < 0) return file;
  int64_t size = io->size(io->ctx, file);
  int rv = size < 0 ? (int)size : io->sync(io->ctx, file);
  io->close(io->ctx, file);
  if (rv != 0) return rv;
  copying->copied->files++;
  copying->copied->bytes += (uint64_t)size;
  return 0;
}

static int copy_file(const struct copying *copying, const char *from, const char *to) {
  const struct flume_io *io = copying->io;
  int file = io->open(io->ctx, from, FLUME_IO_READ);
  if (file < 0) return file;
  int64_t size = io->size(io->ctx, file);
  io->close(io->ctx, file);
  return size < 0 ? (int)size : flume_io_copy(io, from, to, (uint64_t)size);
}

static int copy_entry(void *arg, const char *name) {
  const struct copying *copying = arg;
  char from[4096], to[4096];
  int rv = join(from, sizeof from, copying->from, name);
  if (rv == 0) rv = join(to, sizeof to, copying->to, name);
  if (rv != 0 || strcmp(name, ENVIRONMENT_LOCK) == 0) return rv;
  struct copying below = *copying;
  below.from = from;
  below.to = to;
  rv = copy_tree(&below);
  if (rv != UV_ENOTDIR) return rv;
  rv = strcmp(name, ENVIRONMENT) == 0 ? copy_environment(copying) : copy_file(copying, from, to);
  return rv == 0 ? count_file(copying, to) : rv;
}

static int each_nothing(void *arg, const char *name) {
  (void)arg;
  (void)name;
  return 0;
}

/* UV_ENOTDIR for a file. */
static int copy_tree(const struct copying *copying) {
  const struct flume_io *io = copying->io;
  int rv = io->list(io->ctx, copying->from, each_nothing, NULL);
  if (rv == 0) rv = io->mkdir(io->ctx, copying->to);
  if (rv == 0) rv = io->list(io->ctx, copying->from, copy_entry, (void *)copying);
  return rv == 0 ? io->sync_dir(io->ctx, copying->to) : rv;
}

/* --- Views --------------------------------------------------------------------------------------------------- */

/* What failed was the view's own doing: it changed under the copying, or it is damaged. */
static bool is_of_view(int rv) {
  return rv == UV_ENOENT || rv == UV_EEXIST || rv == FLUME_ECORRUPT || rv == UV_EINVAL;
}

static int copy_view(void *arg, const char *name) {
  const struct copying *views = arg;
  char from[4096], to[4096];
  int rv = join(from, sizeof from, views->from, name);
  if (rv == 0) rv = join(to, sizeof to, views->to, name);
  if (rv != 0) return rv;
  for (int i = 0; i < TRIES; i++) {
    struct flume_copied copied = {.bytes = 0};
    struct copying view = {views->io, from, to, views->writer, &copied};
    rv = copy_tree(&view);
    if (rv == UV_ENOTDIR) return 0; /* no view */
    if (rv == 0) {
      views->copied->bytes += copied.bytes;
      views->copied->files += copied.files;
      return 0;
    }
    int removed = flume_io_remove_all(views->io, to);
    if (removed != 0 || !is_of_view(rv)) return removed != 0 ? removed : rv;
  }
  return 0;
}

int flume_views_copy(const struct flume_io *io, const char *from, const char *to, enum flume_view_writer writer,
                     struct flume_copied *copied, struct flume_err *err) {
  struct copying views = {io, from, to, writer, copied};
  int rv = io->list(io->ctx, from, each_nothing, NULL);
  if (rv == UV_ENOENT) return 0;
  if (rv == 0) rv = io->mkdir(io->ctx, to);
  if (rv == 0) rv = io->list(io->ctx, from, copy_view, &views);
  if (rv == 0) rv = io->sync_dir(io->ctx, to);
  return rv == 0 ? 0 : flume_err_set(err, rv, "copying %s to %s: %s", from, to, flume_strerror(rv));
}
