/* Records the system calls of a process on the files below one directory. The linker wraps the calls; each call is done
 * on the real disk and repeated on a simulated disk (sim.h). After each call a copy of the simulated disk is kept,
 * with the numbers of commits that were begun and acknowledged. For libraries with their own I/O, such as LMDB.
 *
 * The real disk is not synced, because the test's own process does not crash.
 *
 * A write to a file that was opened with O_DSYNC makes its own bytes durable, and no other bytes of the file. LMDB's
 * lock files are left out, because they are not read after a crash. */
#ifndef FLUME_TEST_RECORDED_H
#define FLUME_TEST_RECORDED_H

#include <sys/uio.h>

#include "sim_fs.h"
#include "support.h"

#define RECORDED_FILES 256

struct moment {
  struct sim_fs *fs;
  int64_t acked; /* commits */
  int64_t begun;
};

struct recording {
  char dir[TEST_PATH_MAX]; /* files below it are recorded */
  struct sim_fs *fs;
  struct moment *moments;
  int moments_count, moments_cap;
  int64_t acked, begun;
};

static struct recording *recording; /* NULL: nothing is recorded */

static struct {
  int inode; /* -1: not recorded */
  bool dsync;
} recorded_files[RECORDED_FILES]; /* by descriptor */

/* Begins with the contents of fs, and takes ownership of fs. The directory must have the same contents. */
static void record_begin(struct recording *record, const char *dir, struct sim_fs *fs) {
  memset(record, 0, sizeof *record);
  snprintf(record->dir, sizeof record->dir, "%s", dir);
  record->fs = fs;
  for (int i = 0; i < RECORDED_FILES; i++) recorded_files[i].inode = -1;
  recording = record;
}

static void record_free(struct recording *record) {
  for (int i = 0; i < record->moments_count; i++) sim_fs_free(record->moments[i].fs);
  free(record->moments);
  sim_fs_free(record->fs);
}

static void keep_moment(void) {
  struct recording *record = recording;
  if (record->moments_count == record->moments_cap) {
    record->moments_cap = record->moments_cap > 0 ? 2 * record->moments_cap : 64;
    record->moments = realloc(record->moments, (size_t)record->moments_cap * sizeof *record->moments);
    MUST(record->moments != NULL);
  }
  record->moments[record->moments_count++] = (struct moment){sim_fs_copy(record->fs), record->acked, record->begun};
}

/* The path on the simulated disk; NULL when the file is not recorded. */
static const char *recorded_path(const char *path) {
  size_t len = recording != NULL ? strlen(recording->dir) : 0;
  if (len == 0 || strncmp(path, recording->dir, len) != 0 || (path[len] != '/' && path[len] != '\0')) return NULL;
  const char *last = strrchr(path, '/');
  return strcmp(last, "/lock.mdb") == 0 ? NULL : path + len;
}

static int recorded_make(const char *path, bool dir) {
  struct sim_name name;
  int inode = sim_fs_lookup(recording->fs, path, &name.dir, name.name);
  if (inode >= 0) return inode;
  MUST(name.dir >= 0);
  inode = sim_fs_inode_new(recording->fs, dir);
  sim_fs_name(recording->fs, SIM_LINK, inode, NULL, &name);
  keep_moment();
  return inode;
}

static void recorded_remove(const char *path) {
  struct sim_name name;
  const char *recorded = recorded_path(path);
  int inode = recorded != NULL ? sim_fs_lookup(recording->fs, recorded, &name.dir, name.name) : -1;
  if (inode < 0) return;
  sim_fs_name(recording->fs, SIM_UNLINK, inode, &name, NULL);
  keep_moment();
}

/* --- The calls ---------------------------------------------------------------------------------------------------- */

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __real_close(int fd);
int __wrap_close(int fd);
ssize_t __real_pwrite(int fd, const void *data, size_t len, off_t off);
ssize_t __wrap_pwrite(int fd, const void *data, size_t len, off_t off);
ssize_t __real_write(int fd, const void *data, size_t len);
ssize_t __wrap_write(int fd, const void *data, size_t len);
ssize_t __real_writev(int fd, const struct iovec *parts, int count);
ssize_t __wrap_writev(int fd, const struct iovec *parts, int count);
int __wrap_fdatasync(int fd);
int __wrap_fsync(int fd);
int __real_ftruncate(int fd, off_t size);
int __wrap_ftruncate(int fd, off_t size);
int __wrap_msync(void *data, size_t len, int flags);
int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __real_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode);
int __real_unlink(const char *path);
int __wrap_unlink(const char *path);
int __real_rmdir(const char *path);
int __wrap_rmdir(const char *path);

int __wrap_open(const char *path, int flags, ...) {
  va_list args;
  va_start(args, flags);
  int mode = (flags & O_CREAT) != 0 ? va_arg(args, int) : 0;
  va_end(args);
  int fd = __real_open(path, flags & ~(O_DSYNC | O_SYNC), mode);
  const char *recorded = fd >= 0 ? recorded_path(path) : NULL;
  if (recorded == NULL) return fd;
  MUST(fd < RECORDED_FILES);
  recorded_files[fd].inode = recorded_make(recorded, false);
  recorded_files[fd].dsync = (flags & O_DSYNC) != 0;
  return fd;
}

int __wrap_close(int fd) {
  if (fd >= 0 && fd < RECORDED_FILES) recorded_files[fd].inode = -1;
  return __real_close(fd);
}

static bool is_recorded(int fd) {
  return recording != NULL && fd >= 0 && fd < RECORDED_FILES && recorded_files[fd].inode >= 0;
}

static void written(int fd, const void *data, ssize_t len, off_t off) {
  if (!is_recorded(fd) || len <= 0) return;
  sim_fs_write(recording->fs, recorded_files[fd].inode, data, (size_t)len, (uint64_t)off);
  if (recorded_files[fd].dsync) {
    keep_moment(); /* the write has begun, but the call has not returned */
    sim_fs_sync_range(recording->fs, recorded_files[fd].inode, (uint64_t)off, (size_t)len);
  }
  keep_moment();
}

ssize_t __wrap_pwrite(int fd, const void *data, size_t len, off_t off) {
  ssize_t n = __real_pwrite(fd, data, len, off);
  written(fd, data, n, off);
  return n;
}

ssize_t __wrap_write(int fd, const void *data, size_t len) {
  off_t off = is_recorded(fd) ? lseek(fd, 0, SEEK_CUR) : 0;
  ssize_t n = __real_write(fd, data, len);
  written(fd, data, n, off);
  return n;
}

ssize_t __wrap_writev(int fd, const struct iovec *parts, int count) {
  off_t off = is_recorded(fd) ? lseek(fd, 0, SEEK_CUR) : 0;
  ssize_t n = __real_writev(fd, parts, count), left = n;
  for (int i = 0; i < count && left > 0; i++) {
    ssize_t len = (ssize_t)parts[i].iov_len < left ? (ssize_t)parts[i].iov_len : left;
    written(fd, parts[i].iov_base, len, off);
    off += len;
    left -= len;
  }
  return n;
}

static void synced(int fd) {
  int inode = recorded_files[fd].inode;
  if (recording->fs->inodes[inode]->dir) sim_fs_sync_dir(recording->fs, inode);
  else sim_fs_sync(recording->fs, inode);
  keep_moment();
}

int __wrap_fdatasync(int fd) {
  if (is_recorded(fd)) synced(fd);
  return 0;
}

int __wrap_fsync(int fd) {
  return __wrap_fdatasync(fd);
}

int __wrap_ftruncate(int fd, off_t size) {
  int rv = __real_ftruncate(fd, size);
  if (rv == 0 && is_recorded(fd)) {
    sim_fs_resize(recording->fs, recorded_files[fd].inode, (uint64_t)size);
    keep_moment();
  }
  return rv;
}

/* Writes through a memory map are not recorded: the store must not use them. */
int __wrap_msync(void *data, size_t len, int flags) {
  (void)data, (void)len, (void)flags;
  MUST(recording == NULL);
  return 0;
}

int __wrap_rename(const char *from, const char *to) {
  struct sim_name old, new;
  int rv = __real_rename(from, to);
  const char *recorded = rv == 0 ? recorded_path(from) : NULL;
  if (recorded == NULL) return rv;
  int inode = sim_fs_lookup(recording->fs, recorded, &old.dir, old.name);
  sim_fs_lookup(recording->fs, recorded_path(to), &new.dir, new.name);
  MUST(inode >= 0 && new.dir >= 0);
  sim_fs_name(recording->fs, SIM_RENAME, inode, &old, &new);
  keep_moment();
  return rv;
}

int __wrap_mkdir(const char *path, mode_t mode) {
  int rv = __real_mkdir(path, mode);
  const char *recorded = rv == 0 ? recorded_path(path) : NULL;
  if (recorded != NULL && recorded[0] != '\0') recorded_make(recorded, true);
  return rv;
}

int __wrap_unlink(const char *path) {
  int rv = __real_unlink(path);
  if (rv == 0) recorded_remove(path);
  return rv;
}

int __wrap_rmdir(const char *path) {
  int rv = __real_rmdir(path);
  if (rv == 0) recorded_remove(path);
  return rv;
}

/* --- After a crash ------------------------------------------------------------------------------------------------ */

static void write_out_dir(const struct sim_fs *fs, int dir, const char *path) {
  char below[TEST_PATH_MAX + SIM_NAME_BYTES];
  MUST(mkdir(path, 0777) == 0);
  for (int i = 0; i < fs->cached.count; i++) {
    const struct sim_name *name = &fs->cached.entries[i];
    const struct sim_inode *inode = fs->inodes[name->inode];
    if (name->dir != dir) continue;
    snprintf(below, sizeof below, "%s/%s", path, name->name);
    if (inode->dir) write_out_dir(fs, name->inode, below);
    else write_file(below, inode->cached.data, inode->cached.used, inode->cached.size);
  }
}

/* Writes fs to the directory and removes all other files. Nothing is recorded. */
static void write_out(const struct sim_fs *fs, const char *dir) {
  struct recording *before = recording;
  recording = NULL;
  MUST(flume_io_remove_all(&flume_io_posix, dir) == 0);
  write_out_dir(fs, 0, dir);
  recording = before;
}

#endif
