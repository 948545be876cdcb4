/* What the followers of all logs on disk have in common: read-only handles, each of which sees what its writer does.
 *
 * Happy path: the writer puts its high watermark into the file "lock" of the log's directory (lock_file.h). A file event, or
 * a timer where there are no events, makes a look due. The look reads the high watermark, and the kind of log takes what it
 * allows.
 *
 * Failures: a look that fails ends the following for good: log->following is FLUME_FOLLOWING_LOST, and following_why says
 * why.
 *
 * Threads: the loop thread, except that a reader thread of a file log may ask for the bound, and learn of deletions; it
 * does so with the log's lock held. */
#ifndef FLUME_FOLLOW_H
#define FLUME_FOLLOW_H

#include "log/lock_file.h"
#include "log/log.h"
#include "loop/dir_watch.h"

#define FLUME_FOLLOW_BYTES (1u << 20) /* about as much is read by one look before the loop gets its turn */
#define FLUME_FOLLOW_ATTEMPTS 8       /* at opening a log that its writer is changing */

struct flume_follow {
  struct flume_log *log;
  struct flume_dir_watch watch;
  uint32_t poll_ms;           /* as in struct flume_log_options */
  struct flume_deferred look; /* to be taken */
  int64_t told_deletions;     /* how many deletions the observers were told of */
  bool names_changed;         /* files may have been replaced or removed; the kind's to clear */
  int lock_file;              /* -1 until there is one */
  uint64_t dead_writer;       /* flume_watermark.writer of one that was seen to be gone */
  /* The kind's: takes new records and deletions. 1: there are more, for the loop's next turn; 0; or an error, which ends the
   * following for good. */
  int (*run)(struct flume_follow *follow, struct flume_err *err);
  void (*closed)(struct flume_follow *follow); /* the kind's: the watch is gone */
};

/* How far a look may go. */
struct flume_bound {
  struct flume_watermark watermark;
  bool alive;   /* a writer has the lock */
  bool unknown; /* and has not written its high watermark yet */
};

/* Opens nothing. run and closed are the caller's to set. */
void flume_follow_init(struct flume_follow *follow, struct flume_log *log, uint32_t poll_ms);
/* Closes the file "lock"; the watch must be closed, or never have been opened. */
void flume_follow_fini(struct flume_follow *follow);

/* How far the log may be read now; without a writer, as far as there is anything. An errno. Without the log's lock. */
int flume_follow_bound(struct flume_follow *follow, struct flume_bound *bound, struct flume_err *err);
/* The same on any thread, with the log's lock held. */
int flume__follow_bound_locked(struct flume_follow *follow, struct flume_bound *bound, struct flume_err *err);
/* Whether the writer still says what it said when the bound was read: 1, 0 or an errno. */
int flume_follow_bound_holds(struct flume_follow *follow, const struct flume_bound *bound, struct flume_err *err);
/* A high watermark below since: the writer has just begun, and will raise it; or the log was replaced by an older copy, and
 * then the record at since is not there any more: FLUME_ECORRUPT. */
int flume_follow_check(const struct flume_follow *follow, const struct flume_bound *bound, struct flume_err *err);
/* Makes a file durable before its records are shown, where no writer has acknowledged them. On a file system that is
 * mounted read-only there is nothing to do. */
int flume_follow_sync(const struct flume_io *io, int file, const char *path, struct flume_err *err);

/* The log is open: looks once, and from then on whenever something changes at path, a file or a directory. */
void flume_follow_start(struct flume_follow *follow, const char *path);
/* Something has changed: a look is due. */
void flume_follow_changed(struct flume_follow *follow, enum flume_dir_change change);
/* Ends that, and calls follow->closed. */
void flume_follow_close(struct flume_follow *follow);

#endif
