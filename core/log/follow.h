/* What the read-only handles of logs on disk have in common: each sees what its writer does. Loop thread only.
 *
 * The writer says in the file "lock" of the log's directory how far it has acknowledged (lock_file.h). A look reads that, and
 * the kind of log takes what it allows; the system's file events, or a timer, tell when it is time to look. */
#ifndef FLUME_FOLLOW_H
#define FLUME_FOLLOW_H

#include "log/lock_file.h"
#include "log/log.h"
#include "loop/dir_watch.h"

#define FLUME_FOLLOW_BYTES (1u << 20) /* about as much is read by one look before the loop gets its turn */
#define FLUME_FOLLOW_ATTEMPTS 8       /* at opening a log that its writer is changing */

struct flume_follow {
  struct flume_log *log;
  struct flume_watch watch;
  uint32_t poll_ms;           /* as in struct flume_log_options */
  struct flume_deferred look; /* to be taken */
  int64_t told_deletions;     /* how many deletions the observers were told of */
  bool names_changed;         /* files may have been replaced or removed; the kind's to clear */
  int lock_file;              /* -1 until there is one */
  uint64_t dead_writer;       /* flume_watermark.writer of one that was seen to be gone */
  /* The kind's: takes what is new. 1: there is more, to be asked for in the loop's next turn; 0; or an error, with which
   * the following ends for good. */
  int (*run)(struct flume_follow *follow, struct flume_err *err);
  void (*closed)(struct flume_follow *follow); /* the kind's: the watch is gone */
};

/* How far a look may go. */
struct flume_bound {
  struct flume_watermark watermark;
  bool alive;   /* somebody has the lock */
  bool unknown; /* and hasn't said yet how far the log goes */
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
/* A writer that has acknowledged less than what was seen is one that has just begun, and will say so; or the log is not
 * what it was, and then what was seen last is not there any more: FLUME_ECORRUPT. */
int flume_follow_check(const struct flume_follow *follow, const struct flume_bound *bound, struct flume_err *err);
/* Makes a file durable that nobody has promised to be, before what is in it is shown. On a file system that is mounted
 * read-only there is nothing to do. */
int flume_follow_sync(const struct flume_io *io, int file, const char *path, struct flume_err *err);

/* The log is open: looks once, and from then on whenever something changes at path, a file or a directory. */
void flume_follow_start(struct flume_follow *follow, const char *path);
/* Something has changed: a look is due. */
void flume_follow_changed(struct flume_follow *follow, enum flume_watch_change change);
/* Ends that, and calls follow->closed. */
void flume_follow_close(struct flume_follow *follow);

#endif
