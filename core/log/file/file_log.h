/* The file log, as its own files see it.
 *
 *   file_log.c          opening, closing, the vtable
 *   file_open.c     from a directory to a list of verified segments
 *   file_append.c   group commit: from append to acknowledged
 *   file_read.c     planning and loading blocks
 *   file_deleted.c  the file "deleted"
 *   file_compact.c  removing the bytes of deleted records
 *   file_backup.c   its part of a backup
 *   file_check.c    its part of a check
 *   file_repair.c   mending what is damaged
 *   file_watermark.c     what the writer tells readers
 *   file_follow.c   a reader: seeing what the writer does
 *
 * Threads, beside those of log.h. The commit thread owns, while a commit is on its way, the commit, the high watermark,
 * the file "deleted", and of the segment that it writes to: file_bytes, end_off, durable_off, zeroed_off, no_room_ahead,
 * index_off, indexed_seq, ended and sealed. The active segment is loaded before a commit that needs its offsets, so that no
 * reader thread loads it meanwhile. Guarded by log->log.lock: the list of segments, the cache of loaded segments, all other
 * fields of the segments in the list, and the deletions. A follower's reader threads may learn of deletions, so with it
 * the lock also guards follow->lock_file, follow->names_changed and deleted_file. */
#ifndef FLUME_LOG_FILE_H
#define FLUME_LOG_FILE_H

#include "base/buf.h"
#include "log/deletions.h"
#include "log/file/segment_table.h"
#include "log/group_commit.h"
#include "log/lock_file.h"
#include "log/log.h"
#include "log/task.h"

/* A commit; the base's bytes are the frame: header and body. */
struct file_commit {
  struct flume_commit base;
  uint32_t *offsets; /* of each record in the frame */
  uint32_t offsets_cap;
  int64_t first_seq;             /* of its first record */
  bool roll;                     /* end the active segment and write into a new one */
  bool was_ended;                /* an end commit: the segment was ended before it */
  struct flume_segment *segment; /* that it writes to; a reference */
};

struct file_log {
  struct flume_log log;
  struct flume_group group;
  uint64_t segment_bytes;
  bool draining;  /* closing has begun: the last commit to come back ends it */
  bool unsettled; /* the active segment's index was found to be bad, and is to be cut */
  bool compacting;

  struct flume_follow *follow; /* a follower's: see follow.h; NULL for a writer, and with options.damaged */
  struct flume_segment_table segments;
  struct flume_deletions deletions;
  int deleted_file;      /* -1 until there is one */
  bool deleted_unsynced; /* its end frame is not on disk yet */
  int64_t next_seq;      /* for the next record that is taken */
  struct flume_tasks tasks;
};

static inline struct flume_segment *flume__file_active(const struct file_log *log) {
  return flume__segments_last(&log->segments);
}

/* file_open.c: finds, checks and loads what is in the directory; makes the first segment of a new log.
 * With damaged: what is good before the damage. */
int flume__file_recover(struct file_log *log, bool damaged, struct flume_err *err);
/* Loads the offsets of an active segment that opening only peeked at. With the lock held. */
int flume__file_load_active(struct file_log *log, struct flume_err *err);
/* Cuts the bad index that flume__file_load_active found, before anything is appended behind it. Owner thread. */
int flume__file_settle_active(struct file_log *log, struct flume_err *err);
/* FLUME_ECORRUPT, with a text: what is in the segment does not end where the next one, at next_seq, begins. */
int flume__file_gap(const struct flume_segment *segment, int64_t next_seq, struct flume_err *err);

static inline struct file_log *flume__commit_log(const struct file_commit *commit) {
  return (struct file_log *)commit->base.group->log;
}

/* file_append.c */
extern const struct flume_group_ops flume__file_group;
int flume__file_sync_now(struct flume_log *log, struct flume_err *err);

/* file_log.c */
/* Closes the log if it is to be closed and nothing is under way any more. */
void flume__file_drained(struct file_log *log);

/* file_compact.c, file_backup.c, file_check.c */
int flume__file_compact(struct flume_log *log, struct flume_compact *req, struct flume_err *err);
int flume__file_copy(struct flume_log *log, struct flume_log_copy **copy, struct flume_err *err);
int flume__file_check(struct flume_log *log, struct flume_report *report, struct flume_log_check **check,
                      struct flume_err *err);

/* file_read.c */
int flume__file_plan(struct flume_log *log, int64_t seq, bool reverse, size_t max_bytes, struct flume_block **block,
                     struct flume_err *err);
int64_t flume__file_deleted_count(const struct flume_log *log, int64_t seq);
int64_t flume__file_deletion_at(const struct flume_log *log, int64_t ordinal);
bool flume__file_is_lost(const struct flume_log *log, int64_t seq);
int flume__file_plan_one(struct flume_log *log, int64_t seq, struct flume_block **block, struct flume_err *err);
/* Puts a segment, open and loaded, in the place of the sealed one with the same seqs; takes over the reference. Blocks
 * of the old one stay good. Takes the lock. */
void flume__file_replace(struct file_log *log, struct flume_segment *segment);

/* file_deleted.c */
int flume__file_deleted_load(struct file_log *log, struct flume_err *err);
/* A follower, with the lock held: takes over what was deleted since, as far as end_off; with UINT64_MAX, as far as frames are whole.
 * FLUME_ECORRUPT when it does not go as far as that. */
int flume__file_deleted_follow(struct file_log *log, uint64_t end_off, struct flume_err *err);
/* Any thread: appends the frame and syncs it. */
int flume__file_deleted_write(struct file_commit *commit);
/* Any thread: syncs the end frame. */
int flume__file_deleted_end(struct file_commit *commit);
/* The commit is on disk: the seqs are deleted for everybody. With the lock held. */
void flume__file_deleted_publish(struct file_commit *commit);

/* file_watermark.c: FLUME_ECORRUPT when the files end before what the high watermark of the last writer says to be there; an
 * errno. */
int flume__file_check_watermark(const struct file_log *log, struct flume_err *err);

#endif
