/* struct flume_io on POSIX files, malloc and the system's clocks. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"

static void *posix_realloc(void *ctx, void *ptr, size_t size) {
  (void)ctx;
  if (size == 0) {
    free(ptr);
    return NULL;
  }
  return realloc(ptr, size);
}

static int posix_open(void *ctx, const char *path, int mode) {
  (void)ctx;
  int flags = O_CLOEXEC | ((mode & FLUME_IO_WRITE) ? O_RDWR : O_RDONLY);
  if (mode & FLUME_IO_CREATE) flags |= O_CREAT;
  if (mode & FLUME_IO_EXCLUSIVE) flags |= O_EXCL;
  int file = open(path, flags, 0666);
  return file >= 0 ? file : -errno;
}

static int posix_close(void *ctx, int file) {
  (void)ctx;
  return close(file) == 0 || errno == EINTR ? 0 : -errno;
}

static int64_t posix_read(void *ctx, int file, void *data, size_t len, uint64_t off) {
  (void)ctx;
  ssize_t n = pread(file, data, len, (off_t)off);
  return n >= 0 ? n : -errno;
}

static int64_t posix_write(void *ctx, int file, const void *data, size_t len, uint64_t off) {
  (void)ctx;
  ssize_t n = pwrite(file, data, len, (off_t)off);
  return n >= 0 ? n : -errno;
}

static int posix_sync(void *ctx, int file) {
  (void)ctx;
  return fdatasync(file) == 0 ? 0 : -errno;
}

static int posix_truncate(void *ctx, int file, uint64_t len) {
  (void)ctx;
  return ftruncate(file, (off_t)len) == 0 ? 0 : -errno;
}

static int64_t posix_size(void *ctx, int file) {
  (void)ctx;
  struct stat st;
  return fstat(file, &st) == 0 ? st.st_size : -errno;
}

static int posix_rename(void *ctx, const char *from, const char *to) {
  (void)ctx;
  return rename(from, to) == 0 ? 0 : -errno;
}

static int posix_unlink(void *ctx, const char *path) {
  (void)ctx;
  return unlink(path) == 0 ? 0 : -errno;
}

static int posix_mkdir(void *ctx, const char *path) {
  (void)ctx;
  return mkdir(path, 0777) == 0 || errno == EEXIST ? 0 : -errno;
}

static int posix_rmdir(void *ctx, const char *path) {
  (void)ctx;
  return rmdir(path) == 0 ? 0 : -errno;
}

static int posix_sync_dir(void *ctx, const char *path) {
  (void)ctx;
  int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0) return -errno;
  int rv = fsync(dir) == 0 ? 0 : -errno;
  close(dir);
  return rv;
}

static int posix_list(void *ctx, const char *path, int (*each)(void *arg, const char *name), void *arg) {
  (void)ctx;
  DIR *dir = opendir(path);
  if (dir == NULL) return -errno;
  int rv = 0;
  while (rv == 0) {
    errno = 0;
    struct dirent *entry = readdir(dir);
    if (entry == NULL) {
      rv = -errno;
      break;
    }
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    rv = each(arg, entry->d_name);
  }
  closedir(dir);
  return rv;
}

/* A process id means something in its own pid namespace alone; this number tells them apart. 0: not known. */
static unsigned long long pid_namespace(void) {
  struct stat st;
  return stat("/proc/self/ns/pid", &st) == 0 ? st.st_ino : 0;
}

static int write_holder(int file) {
  char text[FLUME_IO_LOCK_BYTES] = {0}; /* in one write, so that nobody reads half of it */
  snprintf(text, sizeof text, "%d %llu\n", (int)getpid(), pid_namespace());
  ssize_t n = pwrite(file, text, sizeof text, 0);
  if (n == (ssize_t)sizeof text) return 0;
  return n < 0 ? -errno : UV_ENOSPC;
}

static void describe_holder(int file, char *holder, size_t holder_bytes) {
  char text[FLUME_IO_LOCK_BYTES + 1] = {0}, *end = text;
  int pid = 0;
  if (pread(file, text, FLUME_IO_LOCK_BYTES, 0) > 0) pid = (int)strtol(text, &end, 10);
  unsigned long long space = strtoull(end, NULL, 10), own_space = pid_namespace();
  if (pid <= 0) {
    snprintf(holder, holder_bytes, "another process"); /* it has not said yet */
  } else if (space != 0 && own_space != 0 && space != own_space) {
    snprintf(holder, holder_bytes, "process %d of another container", pid);
  } else if (pid == getpid()) {
    snprintf(holder, holder_bytes, "process %d, which is this one", pid);
  } else if (kill(pid, 0) != 0 && errno == ESRCH) {
    snprintf(holder, holder_bytes, "a process that %d, which is gone, has left behind", pid);
  } else {
    snprintf(holder, holder_bytes, "process %d", pid);
  }
}

/* Open file description locks: released by the kernel when the last descriptor goes, also at kill -9, and unlike
 * plain POSIX locks not dropped when some other descriptor of the file is closed in this process. A process that was
 * forked has the descriptors, and so the lock too. Such a lock has no pid of its own: it is written into the file. */
static int posix_lock(void *ctx, int file, char *holder, size_t holder_bytes) {
  (void)ctx;
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  if (fcntl(file, F_OFD_SETLK, &lock) == 0) return write_holder(file);
  if (errno != EAGAIN && errno != EACCES) return -errno;
  describe_holder(file, holder, holder_bytes);
  return UV_EAGAIN;
}

static int posix_locked(void *ctx, int file) {
  (void)ctx;
  struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET}; /* which the lock of a writer stands against */
  if (fcntl(file, F_OFD_GETLK, &lock) != 0) return -errno;
  return lock.l_type != F_UNLCK;
}

static int posix_is_at(void *ctx, int file, const char *path) {
  (void)ctx;
  struct stat mine, named;
  if (fstat(file, &mine) != 0 || stat(path, &named) != 0) return -errno;
  return mine.st_dev == named.st_dev && mine.st_ino == named.st_ino;
}

/* File systems whose files change on other machines, or in another system's kernel, which this one is not told of. */
static const uint32_t distant_file_systems[] = {
    0x00006969, /* NFS */
    0x0000517b, /* SMB */
    0xff534d42, /* CIFS */
    0xfe534d42, /* SMB 2 and 3 */
    0x65735546, /* FUSE */
    0x01021997, /* 9P */
    0x00c36400, /* Ceph */
    0x5346414f, /* AFS */
    0x73757245, /* Coda */
    0x0bd00bd3, /* Lustre */
    0x47504653, /* GPFS */
    0x786f4256, /* VirtualBox */
};

static int posix_has_events(void *ctx, const char *path) {
  (void)ctx;
  struct statfs fs;
  if (statfs(path, &fs) != 0) return -errno;
  for (size_t i = 0; i < sizeof distant_file_systems / sizeof distant_file_systems[0]; i++) {
    if ((uint32_t)fs.f_type == distant_file_systems[i]) return UV_ENOTSUP;
  }
  return 0;
}

static uint64_t posix_now_ms(void *ctx) {
  (void)ctx;
  struct timespec ts;
  clock_gettime(CLOCK_REALTIME, &ts);
  return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static uint64_t posix_hrtime_ns(void *ctx) {
  (void)ctx;
  return uv_hrtime();
}

const struct flume_io flume_io_posix = {
    .realloc = posix_realloc,
    .open = posix_open,
    .close = posix_close,
    .read = posix_read,
    .write = posix_write,
    .sync = posix_sync,
    .truncate = posix_truncate,
    .size = posix_size,
    .rename = posix_rename,
    .unlink = posix_unlink,
    .mkdir = posix_mkdir,
    .rmdir = posix_rmdir,
    .sync_dir = posix_sync_dir,
    .list = posix_list,
    .lock = posix_lock,
    .locked = posix_locked,
    .is_at = posix_is_at,
    .has_events = posix_has_events,
    .now_ms = posix_now_ms,
    .hrtime_ns = posix_hrtime_ns,
};
