/* A read-only log that sees what its writer does. Loop thread only. */
#ifndef FLUME_LOG_FILE_FOLLOW_H
#define FLUME_LOG_FILE_FOLLOW_H

#include "log_file.h"
#include "watch.h"

struct flume_follow {
  struct log_file *log;
  struct flume_watch watch;
  uint32_t poll_ms; /* as asked for */
  struct flume_deferred look;
  bool names_changed;   /* files may have been replaced or removed */
  int lock_file;        /* -1 until there is one */
  uint64_t dead_writer; /* flume_note.writer of one that was seen to be gone */
};

/* Sets log->follow. poll_ms: as in struct flume_log_options. FLUME_ENOMEM. */
int flume__follow_new(struct log_file *log, uint32_t poll_ms, struct flume_err *err);
/* Closes the file; the handles must be closed, or never have been opened. */
void flume__follow_free(struct flume_follow *follow);

/* While the log is being opened, when its last segment, which is open, was not closed in order: finds out what is there.
 * Errors as flume_log_open. */
int flume__follow_recover(struct flume_follow *follow, struct flume_err *err);
/* Takes over what was deleted since, as far as it counts. */
int flume__follow_deletes(struct flume_follow *follow, struct flume_err *err);

/* The log is open: looks once, and from then on whenever something changes. */
void flume__follow_start(struct flume_follow *follow);
/* Ends that, and calls flume__file_drained. */
void flume__follow_close(struct flume_follow *follow);

#endif
