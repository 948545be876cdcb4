/* What a read-only file log does to see what its writer does; see follow.h. Loop thread only. */
#ifndef FLUME_LOG_FILE_FOLLOW_H
#define FLUME_LOG_FILE_FOLLOW_H

#include "log/file/file_log.h"
#include "log/follow.h"

/* Sets log->follow. poll_ms: as in struct flume_log_options. FLUME_ENOMEM. */
int flume__file_follow_new(struct file_log *log, uint32_t poll_ms, struct flume_err *err);
/* Undoes that, if it was done; the watch must be closed, or never have been opened. */
void flume__file_follow_free(struct file_log *log);

/* While the log is being opened, when its last segment, which is open, was not closed in order: finds out what is there.
 * Errors as flume_log_open. */
int flume__file_follow_recover(struct flume_follow *follow, struct flume_err *err);
/* Takes over what was deleted since, as far as it counts. */
int flume__file_follow_deletes(struct flume_follow *follow, struct flume_err *err);

#endif
