/* The file "lock" in the directory of a log: who writes to the log, and the writer's high watermark (core/FORMAT.md).
 *
 * The high watermark tells followers, and the next writer that opens the log, how far the log was acknowledged. It is never
 * synced, and written only of records that are safe: whatever a crash leaves of it is true. */
#ifndef FLUME_LOCK_FILE_H
#define FLUME_LOCK_FILE_H

#include <stdint.h>

#include "base/io.h"

#define FLUME_WATERMARK_BYTES 28 /* since, end of deletes, writer: 8 each; checksum: 4 */

struct flume_watermark {
  int64_t since;            /* acknowledged; FLUME_SEQ_MAX: every whole record counts */
  uint64_t deleted_end_off; /* how much of the file "deleted" is acknowledged: bytes */
  uint64_t writer;          /* a random number for each opening of the log */
};

/* A writer's. */
struct flume_lock_file {
  const struct flume_io *io;
  const char *dir;                  /* of the log, borrowed */
  int file;                         /* -1 when the lock is not held */
  uv_pid_t pid;                     /* of the process that took the lock */
  struct flume_watermark watermark; /* as it was written last */
};

/* "DIR/lock". UV_ENAMETOOLONG. */
int flume__lock_file_path(const char *dir, char *path, size_t size, struct flume_err *err);
/* The process that has, or had, the log open for writing; 0: none. */
uv_pid_t flume__lock_file_holder(const struct flume_io *io, const char *dir);

/* Nothing is held. dir is borrowed. */
void flume__lock_file_init(struct flume_lock_file *lock, const struct flume_io *io, const char *dir);
/* Gives this process alone the right to write to the log, until the lock is released. name is the log's, for the error.
 * FLUME_ELOCKED, or an errno. */
int flume__lock_file_take(struct flume_lock_file *lock, const char *name, struct flume_err *err);
/* Nothing when the lock is not held. */
void flume__lock_file_release(struct flume_lock_file *lock);
/* 0 when this process holds the lock; FLUME_ELOCKED in a process that was forked from the writer: its copy of the handle
 * knows nothing of what the writer does from then on, and two would write into one log. */
int flume__lock_file_check(const struct flume_lock_file *lock, const char *name, struct flume_err *err);

/* A writer that has recovered the log says how far it goes. An errno. */
int flume__watermark_begin(struct flume_lock_file *lock, const uint8_t *log_id, int64_t since, uint64_t deleted_end_off,
                           struct flume_err *err);
/* Any thread, one at a time: writes lock->watermark. An errno. */
int flume__watermark_tell(struct flume_lock_file *lock, const uint8_t *log_id, struct flume_err *err);

/* Any thread, one at a time. 0 or an errno. */
int flume__watermark_write(const struct flume_io *io, int lock_file, const uint8_t *log_id,
                           const struct flume_watermark *watermark);
/* The high watermark in FLUME_WATERMARK_BYTES bytes of a lock file. FLUME_ENOENT when the bytes are not a whole one, of
 * this log. */
int flume__watermark_get(const uint8_t *bytes, const uint8_t *log_id, struct flume_watermark *watermark);
/* Also FLUME_ENOENT when there is none; or an errno. One that is being overwritten while it is read has a wrong checksum;
 * the file event of that write is still to come. */
int flume__watermark_read(const struct flume_io *io, int lock_file, const uint8_t *log_id,
                          struct flume_watermark *watermark);
/* Takes it away, durably. 0 or an errno. */
int flume__watermark_remove(const struct flume_io *io, int lock_file);

#endif
