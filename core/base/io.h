/* The one door to the world: every file operation, clock reading and allocation of core goes through this vtable,
 * so that a test can put a simulated disk, a failing allocator or a stopped clock behind it.
 *
 * File functions return 0 (or a count) or a negative errno value; none of them retries or hides a short transfer:
 * that is done once, in io.c (flume_io_read_full, flume_io_write_full). A file is an int, as open(2) gives it.
 * All functions may be called from any thread, but one file is written by one thread at a time. A file may be read and
 * synced by other threads meanwhile. */
#ifndef FLUME_IO_H
#define FLUME_IO_H

#include <stddef.h>
#include <stdint.h>

#include "flume.h"

enum flume_io_open {
  FLUME_IO_READ = 1,      /* reading */
  FLUME_IO_WRITE = 2,     /* reading and writing */
  FLUME_IO_CREATE = 4,    /* create when missing */
  FLUME_IO_EXCLUSIVE = 8, /* fail with EEXIST when there */
};

struct flume_job;
struct flume_alarm;

#define FLUME_IO_LOCK_BYTES 64 /* of a file that is locked */

struct flume_io {
  void *ctx; /* handed to every function */

  /* As realloc(3); size 0 frees and returns NULL. */
  void *(*realloc)(void *ctx, void *ptr, size_t size);

  int (*open)(void *ctx, const char *path, int mode); /* file, or negative errno; mode of enum flume_io_open */
  int (*close)(void *ctx, int file);
  int64_t (*read)(void *ctx, int file, void *data, size_t len, uint64_t off);        /* bytes read, 0 at the end */
  int64_t (*write)(void *ctx, int file, const void *data, size_t len, uint64_t off); /* bytes written */
  int (*sync)(void *ctx, int file);                                                  /* fdatasync */
  int (*truncate)(void *ctx, int file, uint64_t len);
  int64_t (*size)(void *ctx, int file); /* bytes */

  int (*rename)(void *ctx, const char *from, const char *to);
  int (*unlink)(void *ctx, const char *path);
  int (*mkdir)(void *ctx, const char *path); /* 0 when it is there already */
  int (*rmdir)(void *ctx, const char *path);
  int (*sync_dir)(void *ctx, const char *path); /* makes names in the directory durable */
  /* Calls each(arg, name) for every entry but "." and ".."; stops at the first result that is not 0, and returns it. */
  int (*list)(void *ctx, const char *path, int (*each)(void *arg, const char *name), void *arg);

  /* Takes a write lock on the whole file for this open file description, and notes in the file's first
   * FLUME_IO_LOCK_BYTES which process has it now: 0; or -EAGAIN, and the holder in words: "process 12". */
  int (*lock)(void *ctx, int file, char *holder, size_t holder_bytes);
  int (*locked)(void *ctx, int file); /* 1 when a different open file description has such a lock, 0 when none has */

  int (*is_at)(void *ctx, int file,
               const char *path); /* 1 when path names the file, 0 when it names a different one; UV_ENOENT */
  /* 0 when the system tells of what others change in the directory; a negative errno when it has to be looked at. */
  int (*has_events)(void *ctx, const char *path);

  uint64_t (*now_ms)(void *ctx);    /* wall clock, milliseconds since 1970 */
  uint64_t (*hrtime_ns)(void *ctx); /* monotonic clock */

  /* Threads (loop/pool.h). NULL, both: the pool's own threads run jobs and alarms. Else these take them, and run each on
   * any thread, at any later time, jobs in any order; at_ns 0 takes an alarm back. */
  void (*submit)(void *ctx, struct flume_job *job);
  void (*set_alarm)(void *ctx, struct flume_alarm *alarm, uint64_t at_ns);
};

/* The real thing: POSIX files, malloc, system clocks. */
extern const struct flume_io flume_io_posix;

void *flume_io_alloc(const struct flume_io *io, size_t size);  /* NULL when there is no memory */
void *flume_io_zalloc(const struct flume_io *io, size_t size); /* zeroed */
void *flume_io_realloc(const struct flume_io *io, void *ptr, size_t size);
void flume_io_free(const struct flume_io *io, void *ptr); /* NULL is allowed */

/* Reads exactly len bytes at off. Retries EINTR and short reads; the end of the file is FLUME_ECORRUPT. */
int flume_io_read_full(const struct flume_io *io, int file, void *data, size_t len, uint64_t off);
/* Writes exactly len bytes at off. Retries EINTR and short writes; a write of 0 bytes is ENOSPC. */
int flume_io_write_full(const struct flume_io *io, int file, const void *data, size_t len, uint64_t off);
/* Copies the first len bytes of a file to a new one, and syncs that. FLUME_ECORRUPT when it is shorter, UV_EEXIST when
 * the new one is there already. */
int flume_io_copy(const struct flume_io *io, const char *from, const char *to, uint64_t len);
/* Makes the name of a file or directory durable in the directory that it is in. */
int flume_io_sync_name(const struct flume_io *io, const char *path);
/* mkdir for each missing part of path, each made durable. */
int flume_io_mkdir_all(const struct flume_io *io, const char *path);
/* Removes the directory and all in it; 0 when it is not there. */
int flume_io_remove_all(const struct flume_io *io, const char *path);

#endif
