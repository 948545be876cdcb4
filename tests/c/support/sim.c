/* The simulated file system behind struct flume_io. */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim_fs.h"

#define NOW_MS 1700000000000u

void sim_lock(struct sim *sim) {
  uv_mutex_lock(&sim->mutex);
}

void sim_unlock(struct sim *sim) {
  uv_mutex_unlock(&sim->mutex);
}

/* Ends an operation that changed the file system. */
static void changed(struct sim *sim) {
  if (sim->on_change != NULL) sim->on_change(sim, sim->arg);
}

static void *sim_realloc(void *ctx, void *ptr, size_t size) {
  struct sim *sim = ctx;
  if (size == 0) {
    atomic_fetch_sub(&sim->allocations, 1);
    free(ptr);
    return NULL;
  }
  void *moved = realloc(ptr, size);
  if (ptr == NULL && moved != NULL) atomic_fetch_add(&sim->allocations, 1);
  return moved;
}

/* --- Files -------------------------------------------------------------------------------------------------------- */

static struct sim_handle *handle_of(struct sim *sim, int file) {
  return file >= 0 && file < SIM_HANDLES_MAX && sim->handles[file].inode >= 0 ? &sim->handles[file] : NULL;
}

static struct sim_handle *writable(struct sim *sim, int file) {
  struct sim_handle *handle = handle_of(sim, file);
  return handle != NULL && handle->writable ? handle : NULL;
}

static int handle_new(struct sim *sim, int inode, int mode) {
  for (int i = 0; i < SIM_HANDLES_MAX; i++) {
    if (sim->handles[i].inode >= 0) continue;
    sim->handles[i] = (struct sim_handle){.inode = inode, .writable = (mode & FLUME_IO_WRITE) != 0};
    return i;
  }
  return UV_EMFILE;
}

static int make(struct sim *sim, int dir, const char *last, bool is_dir) {
  struct sim_name name = {.dir = dir};
  snprintf(name.name, sizeof name.name, "%s", last);
  int inode = sim_fs_inode_new(sim->fs, is_dir);
  sim_fs_name(sim->fs, SIM_LINK, inode, NULL, &name);
  changed(sim);
  return inode;
}

static int sim_open(void *ctx, const char *path, int mode) {
  struct sim *sim = ctx;
  int dir;
  char last[SIM_NAME_BYTES];
  sim_lock(sim);
  int rv = sim_fs_lookup(sim->fs, path, &dir, last);
  if (rv >= 0 && (mode & FLUME_IO_EXCLUSIVE)) rv = UV_EEXIST;
  if (rv >= 0 && (mode & FLUME_IO_WRITE) && sim->fs->inodes[rv]->dir) rv = UV_EISDIR;
  if (rv == UV_ENOENT && (mode & FLUME_IO_CREATE) && dir >= 0) rv = make(sim, dir, last, false);
  if (rv >= 0) rv = handle_new(sim, rv, mode);
  sim_unlock(sim);
  return rv;
}

static int sim_close(void *ctx, int file) {
  struct sim *sim = ctx;
  sim_lock(sim);
  struct sim_handle *handle = handle_of(sim, file);
  int rv = handle != NULL ? 0 : UV_EBADF;
  if (handle != NULL) handle->inode = -1;
  sim_unlock(sim);
  return rv;
}

static int64_t sim_read(void *ctx, int file, void *data, size_t len, uint64_t off) {
  struct sim *sim = ctx;
  int64_t rv = UV_EBADF;
  sim_lock(sim);
  struct sim_handle *handle = handle_of(sim, file);
  if (handle != NULL) {
    const struct sim_bytes *bytes = &sim->fs->inodes[handle->inode]->cached;
    if (off >= bytes->size) len = 0;
    else if (len > bytes->size - off) len = (size_t)(bytes->size - off);
    sim_bytes_get(bytes, data, len, off);
    rv = (int64_t)len;
  }
  sim_unlock(sim);
  return rv;
}

/* The number of the len bytes for which the disk has room. */
static size_t room_for(const struct sim *sim, int inode, size_t len, uint64_t off) {
  if (sim->capacity_bytes == 0) return len;
  uint64_t used = 0, size = sim->fs->inodes[inode]->cached.size;
  for (int i = 0; i < sim->fs->cached.count; i++)
    used += sim->fs->inodes[sim->fs->cached.entries[i].inode]->cached.size;
  uint64_t grows = off + len > size ? off + len - size : 0;
  uint64_t room = sim->capacity_bytes > used ? sim->capacity_bytes - used : 0;
  if (grows <= room) return len;
  return grows - room < len ? len - (size_t)(grows - room) : 0;
}

static int64_t sim_write(void *ctx, int file, const void *data, size_t len, uint64_t off) {
  struct sim *sim = ctx;
  int64_t rv = UV_EBADF;
  sim_lock(sim);
  struct sim_handle *handle = writable(sim, file);
  if (handle != NULL) {
    len = room_for(sim, handle->inode, len, off);
    rv = len > 0 ? (int64_t)len : UV_ENOSPC;
  }
  if (rv > 0) {
    sim_fs_write(sim->fs, handle->inode, data, len, off);
    sim->written = data;
    sim->written_bytes = len;
    sim->written_off = off;
    sim->written_inode = handle->inode;
    changed(sim);
    sim->written = NULL;
  }
  sim_unlock(sim);
  return rv;
}

static int sim_sync(void *ctx, int file) {
  struct sim *sim = ctx;
  int rv = UV_EBADF;
  sim_lock(sim);
  struct sim_handle *handle = handle_of(sim, file);
  if (handle != NULL) {
    rv = atomic_fetch_add(&sim->syncs, 1) + 1 == sim->failing_sync ? UV_EIO : 0;
    if (rv == 0) sim_fs_sync(sim->fs, handle->inode);
    else sim_fs_sync_fails(sim->fs, handle->inode);
    changed(sim);
  }
  sim_unlock(sim);
  return rv;
}

static int sim_truncate(void *ctx, int file, uint64_t len) {
  struct sim *sim = ctx;
  sim_lock(sim);
  struct sim_handle *handle = writable(sim, file);
  if (handle != NULL) {
    sim_fs_resize(sim->fs, handle->inode, len);
    changed(sim);
  }
  sim_unlock(sim);
  return handle != NULL ? 0 : UV_EBADF;
}

static int64_t sim_size(void *ctx, int file) {
  struct sim *sim = ctx;
  sim_lock(sim);
  struct sim_handle *handle = handle_of(sim, file);
  int64_t rv = handle != NULL ? (int64_t)sim->fs->inodes[handle->inode]->cached.size : UV_EBADF;
  sim_unlock(sim);
  return rv;
}

static int sim_take_lock(void *ctx, int file, char *holder, size_t holder_bytes) {
  struct sim *sim = ctx;
  sim_lock(sim);
  struct sim_handle *handle = handle_of(sim, file);
  int rv = handle != NULL ? 0 : UV_EBADF;
  for (int i = 0; rv == 0 && i < SIM_HANDLES_MAX; i++) {
    const struct sim_handle *other = &sim->handles[i];
    if (other != handle && other->inode == handle->inode && other->locks) rv = UV_EAGAIN;
  }
  if (rv == 0) handle->locks = true;
  else snprintf(holder, holder_bytes, "process 1");
  sim_unlock(sim);
  return rv;
}

static int sim_locked(void *ctx, int file) {
  struct sim *sim = ctx;
  sim_lock(sim);
  struct sim_handle *handle = handle_of(sim, file);
  int rv = handle != NULL ? 0 : UV_EBADF;
  for (int i = 0; rv == 0 && i < SIM_HANDLES_MAX; i++) {
    const struct sim_handle *other = &sim->handles[i];
    if (other != handle && other->inode == handle->inode && other->locks) rv = 1;
  }
  sim_unlock(sim);
  return rv;
}

/* --- Names -------------------------------------------------------------------------------------------------------- */

static int sim_rename(void *ctx, const char *from, const char *to) {
  struct sim *sim = ctx;
  struct sim_name old, new;
  sim_lock(sim);
  int inode = sim_fs_lookup(sim->fs, from, &old.dir, old.name);
  sim_fs_lookup(sim->fs, to, &new.dir, new.name);
  int rv = inode < 0 || new.dir < 0 ? UV_ENOENT : 0;
  if (rv == 0) {
    sim_fs_name(sim->fs, SIM_RENAME, inode, &old, &new);
    changed(sim);
  }
  sim_unlock(sim);
  return rv;
}

static int remove_name(struct sim *sim, const char *path, bool is_dir) {
  struct sim_name name;
  sim_lock(sim);
  int inode = sim_fs_lookup(sim->fs, path, &name.dir, name.name);
  int rv = inode < 0 ? inode : 0;
  if (rv == 0 && sim->fs->inodes[inode]->dir != is_dir) rv = is_dir ? UV_ENOTDIR : UV_EISDIR;
  if (rv == 0 && is_dir && !sim_fs_dir_is_empty(sim->fs, inode)) rv = UV_ENOTEMPTY;
  if (rv == 0) {
    sim_fs_name(sim->fs, SIM_UNLINK, inode, &name, NULL);
    changed(sim);
  }
  sim_unlock(sim);
  return rv;
}

static int sim_unlink(void *ctx, const char *path) {
  return remove_name(ctx, path, false);
}

static int sim_rmdir(void *ctx, const char *path) {
  return remove_name(ctx, path, true);
}

static int sim_mkdir(void *ctx, const char *path) {
  struct sim *sim = ctx;
  int dir;
  char last[SIM_NAME_BYTES];
  sim_lock(sim);
  int rv = sim_fs_lookup(sim->fs, path, &dir, last);
  if (rv == UV_ENOENT && dir >= 0) rv = make(sim, dir, last, true);
  sim_unlock(sim);
  return rv < 0 ? rv : 0;
}

static int sim_sync_dir(void *ctx, const char *path) {
  struct sim *sim = ctx;
  sim_lock(sim);
  int dir = sim_fs_find(sim->fs, path);
  if (dir >= 0) {
    sim_fs_sync_dir(sim->fs, dir);
    changed(sim);
  }
  sim_unlock(sim);
  return dir < 0 ? dir : 0;
}

/* The callback may change the directory: it is called on a copy. */
static int sim_list(void *ctx, const char *path, int (*each)(void *arg, const char *name), void *arg) {
  struct sim *sim = ctx;
  sim_lock(sim);
  int dir = sim_fs_find(sim->fs, path);
  struct sim_names names = sim->fs->cached;
  sim_unlock(sim);
  int rv = dir < 0 ? dir : 0;
  for (int i = 0; rv == 0 && i < names.count; i++) {
    if (names.entries[i].dir == dir) rv = each(arg, names.entries[i].name);
  }
  return rv;
}

/* --- The rest ----------------------------------------------------------------------------------------------------- */

static int sim_is_at(void *ctx, int file, const char *path) {
  struct sim *sim = ctx;
  int dir;
  char name[SIM_NAME_BYTES];
  sim_lock(sim);
  struct sim_handle *handle = handle_of(sim, file);
  int inode = sim_fs_lookup(sim->fs, path, &dir, name);
  int rv = handle == NULL ? UV_EBADF : inode < 0 ? UV_ENOENT : inode == handle->inode;
  sim_unlock(sim);
  return rv;
}

static int sim_has_events(void *ctx, const char *path) {
  (void)ctx;
  (void)path;
  return UV_ENOTSUP;
}

static uint64_t sim_now_ms(void *ctx) {
  (void)ctx;
  return NOW_MS;
}

static uint64_t sim_hrtime_ns(void *ctx) {
  (void)ctx;
  return uv_hrtime();
}

void sim_init(struct sim *sim, struct sim_fs *fs) {
  memset(sim, 0, sizeof *sim);
  uv_mutex_init(&sim->mutex);
  sim->fs = fs;
  for (int i = 0; i < SIM_HANDLES_MAX; i++) sim->handles[i].inode = -1;
  sim->io = (struct flume_io){.ctx = sim,
                              .realloc = sim_realloc,
                              .open = sim_open,
                              .close = sim_close,
                              .read = sim_read,
                              .write = sim_write,
                              .sync = sim_sync,
                              .truncate = sim_truncate,
                              .size = sim_size,
                              .rename = sim_rename,
                              .unlink = sim_unlink,
                              .mkdir = sim_mkdir,
                              .rmdir = sim_rmdir,
                              .sync_dir = sim_sync_dir,
                              .list = sim_list,
                              .lock = sim_take_lock,
                              .locked = sim_locked,
                              .is_at = sim_is_at,
                              .has_events = sim_has_events,
                              .now_ms = sim_now_ms,
                              .hrtime_ns = sim_hrtime_ns};
}

void sim_fini(struct sim *sim) {
  sim_fs_free(sim->fs);
  uv_mutex_destroy(&sim->mutex);
}

int sim_open_files(struct sim *sim) {
  int count = 0;
  for (int i = 0; i < SIM_HANDLES_MAX; i++) count += sim->handles[i].inode >= 0;
  return count;
}
