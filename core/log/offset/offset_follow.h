/* What a read-only offset log does to see what its writer does; see follow.h. Loop thread only. */
#ifndef FLUME_LOG_OFFSET_FOLLOW_H
#define FLUME_LOG_OFFSET_FOLLOW_H

#include "log/follow.h"
#include "log/offset/offset_log.h"

struct flume_offset_follow {
  struct flume_follow follow;    /* it watches the file */
  struct flume_dir_watch beside; /* PATH.flume, from when it is there */
  bool watches_beside;
  uint64_t searched_bytes; /* of the file, when it was last searched for records behind something else */
};

/* Sets log->follow. poll_ms: as in struct flume_log_options. FLUME_ENOMEM. */
int flume__offset_follow_new(struct offset_log *log, uint32_t poll_ms, struct flume_err *err);
/* Undoes that, if it was done; the watches must be closed, or never have been opened. */
void flume__offset_follow_free(struct offset_log *log);

/* As flume_follow_bound, flume_follow_bound_holds and flume_follow_sync. */
int flume__offset_follow_bound(struct offset_log *log, struct flume_bound *bound, struct flume_err *err);
int flume__offset_follow_holds(struct offset_log *log, const struct flume_bound *bound, struct flume_err *err);
int flume__offset_follow_sync(struct offset_log *log, struct flume_err *err);
/* Takes over what the file "deleted" had when it was read last. FLUME_ENOMEM. */
int flume__offset_take_gone(struct offset_log *log, struct flume_err *err);
/* FLUME_ECORRUPT, with a text: the records end before the one that was acknowledged last. */
int flume__offset_ends_early(const struct offset_log *log, const struct flume_offset_scan *scan, int64_t since,
                             struct flume_err *err);

/* The log is open: looks once, and from then on whenever something changes. */
void flume__offset_follow_start(struct flume_offset_follow *follow);
/* Ends that, and calls flume__offset_drained. */
void flume__offset_follow_close(struct flume_offset_follow *follow);
/* Whether that is done. */
bool flume__offset_follow_closed(const struct flume_offset_follow *follow);

#endif
