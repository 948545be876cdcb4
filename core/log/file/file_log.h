/* The file log, as its own files see it.
 *
 *   log_file.c          opening, closing, the vtable
 *   log_file_open.c     from a directory to a list of verified segments
 *   log_file_append.c   group commit: from append to acknowledged
 *   log_file_read.c     planning and loading blocks
 *   log_file_deleted.c  the file "deleted"
 *   log_file_compact.c  removing the bytes of deleted records
 *   log_file_backup.c   copying the log, and the views beside it
 *   log_file_check.c    verifying every byte
 *   log_file_repair.c   mending what is damaged
 *   log_file_note.c     what the writer tells readers
 *   log_file_follow.c   a reader: seeing what the writer does
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
#include "log/file/segment.h"
#include "log/lock_file.h"
#include "log/log.h"
#include "log/task.h"

enum flume_commit_kind {
  FLUME_COMMIT_DATA,   /* write one frame of records */
  FLUME_COMMIT_SYNC,   /* make durable what was written */
  FLUME_COMMIT_DELETE, /* write one frame of deletes, and sync it */
  FLUME_COMMIT_ROLL,   /* seal the active segment, if it has records, and begin the next */
  FLUME_COMMIT_END,    /* end the active segment: the log is closing */
};

/* One trip to the disk. Appends that wait while another commit is on its way share the next one, as one frame. */
struct flume_commit {
  struct flume_queue queue;
  struct log_file *log;
  enum flume_commit_kind kind;
  struct flume_queue reqs; /* struct flume_append that it answers */
  struct flume_buf bytes;  /* the frame: header and body */
  uint32_t *offsets;       /* of each record in bytes */
  uint32_t offsets_cap;
  uint32_t count;                /* records, or deletes */
  int64_t first_seq;             /* of its first record */
  bool roll;                     /* end the active segment and write into a new one */
  bool synced;                   /* what it wrote is on disk */
  bool was_ended;                /* an end commit: the segment was ended before it */
  struct flume_segment *segment; /* that it writes to; a reference */
  int status;
  struct flume_err err;
};

struct log_file {
  struct flume_log log;
  enum flume_sync sync;
  uint32_t interval_ms;
  uint64_t segment_bytes;
  bool readonly;
  bool draining; /* closing has begun: the last commit to come back ends it */
  int lock;      /* file; -1 when readonly */
  uv_pid_t pid;  /* of the process that opened it for writing */

  struct flume_note note;      /* the writer's: as it was written last */
  struct flume_follow *follow; /* a reader's: see follow.h; NULL for a writer, and with options.damaged */

  struct flume_segment **segments; /* ascending by first_seq; the last one is the active one */
  size_t segments_count;
  size_t segments_cap;
  struct flume_segment **loaded; /* sealed segments with their offsets in memory, least recently used first */
  size_t loaded_count;
  size_t loaded_cap;
  size_t loaded_bytes;

  struct flume_deletions deletions;
  int deleted_file;      /* -1 until there is one */
  bool deleted_unsynced; /* its end frame is not on disk yet */

  int64_t next_seq;                /* for the next record that is taken */
  bool unsettled;                  /* the active segment's index was found to be bad, and is to be cut */
  struct flume_queue commits;      /* struct flume_commit, not begun */
  struct flume_commit *committing; /* the one on its way, or NULL */
  struct flume_queue spare;        /* struct flume_commit to use again */
  uint32_t spare_count;
  uv_work_t work;
  uv_timer_t timer;           /* FLUME_SYNC_INTERVAL: runs while something written is not synced */
  uint64_t unsynced_since_ns; /* when the oldest write was made that is not synced; 0 when there is none */

  struct flume_tasks tasks;
  bool compacting;
};

static inline struct flume_segment *flume__file_active(const struct log_file *log) {
  return log->segments[log->segments_count - 1];
}

/* log_file_open.c: finds, checks and loads what is in the directory; makes the first segment of a new log.
 * With damaged: what is good before the damage. */
int flume__file_recover(struct log_file *log, bool damaged, struct flume_err *err);
/* Loads the offsets of an active segment that opening only peeked at. With the lock held. */
int flume__file_load_active(struct log_file *log, struct flume_err *err);
/* Cuts the bad index that flume__file_load_active found, before anything is appended behind it. Owner thread. */
int flume__file_settle_active(struct log_file *log, struct flume_err *err);
/* Room for one more segment in the list: 0 or FLUME_ENOMEM. */
int flume__file_reserve_segment(struct log_file *log);
/* Puts a segment at the end of the list, where there is room, and takes over the caller's reference. */
void flume__file_add_segment(struct log_file *log, struct flume_segment *segment);

/* FLUME_ECORRUPT, with a text: what is in the segment does not end where the next one, at next_seq, begins. */
int flume__file_gap(const struct flume_segment *segment, int64_t next_seq, struct flume_err *err);

/* log_file_append.c */
int flume__file_append(struct flume_log *log, struct flume_append *req, const struct flume_slice *records, size_t count,
                       struct flume_err *err);
int flume__file_append_wait(struct flume_log *log, const struct flume_slice *records, size_t count, int64_t *seq,
                            struct flume_err *err);
int flume__file_sync(struct flume_log *log, struct flume_append *req, struct flume_err *err);
int flume__file_sync_now(struct flume_log *log, struct flume_err *err);
int flume__file_del(struct flume_log *log, struct flume_append *req, const int64_t *seqs, size_t count,
                    struct flume_err *err);
/* 0 when this handle may write; FLUME_EREADONLY; FLUME_ELOCKED in a process that was forked from the writer. */
int flume__file_check_writer(const struct log_file *log, struct flume_err *err);
/* Queues a commit without records; req may be NULL. FLUME_ENOMEM. */
int flume__file_submit(struct log_file *log, enum flume_commit_kind kind, struct flume_append *req);
void flume__commit_free(struct flume_commit *commit);

/* log_file.c: makes this process the one that may write to the log in dir, until *lock is closed. FLUME_ELOCKED, or an
 * errno. */
int flume__file_lock(const struct flume_io *io, const char *dir, int *lock, struct flume_err *err);
/* Closes the log if it is to be closed and nothing is under way any more. */
void flume__file_drained(struct log_file *log);

/* log_file_compact.c, log_file_backup.c, log_file_check.c */
int flume__file_compact(struct flume_log *log, struct flume_compact *req, struct flume_err *err);
int flume__file_backup(struct flume_log *log, const char *dir, const char *views_dir, struct flume_backup *req,
                       struct flume_err *err);
int flume__file_check(struct flume_log *log, const char *views_dir, struct flume_check *req, struct flume_err *err);

/* log_file_read.c */
int flume__file_plan(struct flume_log *log, int64_t seq, bool reverse, size_t max_bytes, struct flume_block **block,
                     struct flume_err *err);
int64_t flume__file_deleted_count(const struct flume_log *log, int64_t seq);
int64_t flume__file_deletion_at(const struct flume_log *log, int64_t ordinal);
bool flume__file_is_lost(const struct flume_log *log, int64_t seq);
int flume__file_plan_one(struct flume_log *log, int64_t seq, struct flume_block **block, struct flume_err *err);
/* The next four with the lock held.
 *
 * Notes that a sealed segment has its offsets in memory; room must have been reserved. */
void flume__file_loaded_add(struct log_file *log, struct flume_segment *segment);
int flume__file_loaded_reserve(struct log_file *log);
/* A segment is going to be let go of; it need not be among those with their offsets in memory. */
void flume__file_loaded_remove(struct log_file *log, const struct flume_segment *segment);
/* Puts a segment, open and loaded, in the place of the sealed one with the same seqs; takes over the reference. Blocks
 * of the old one stay good. Takes the lock. */
void flume__file_replace(struct log_file *log, struct flume_segment *segment);

/* log_file_deleted.c */
int flume__deleted_load(struct log_file *log, struct flume_err *err);
/* A follower, with the lock held: takes over what was deleted since, as far as end_off; with UINT64_MAX, as far as frames are whole.
 * FLUME_ECORRUPT when it does not go as far as that. */
int flume__deleted_follow(struct log_file *log, uint64_t end_off, struct flume_err *err);
/* Puts the seqs, in ascending order and each once, into a commit of deletes. FLUME_ENOMEM. */
int flume__deleted_take(struct flume_commit *commit, const int64_t *seqs, size_t count);
/* Takes out what was deleted before, and makes room in the sets for the rest. With the lock held. FLUME_ENOMEM. */
int flume__deleted_reserve(struct flume_commit *commit);
/* Any thread: appends the frame and syncs it. */
int flume__deleted_write(struct flume_commit *commit);
/* Any thread: syncs the end frame. */
int flume__deleted_end(struct flume_commit *commit);
/* The commit is on disk: the seqs are deleted for everybody. With the lock held. */
void flume__deleted_publish(struct flume_commit *commit);

/* log_file_note.c */
/* A writer that has recovered the log says so. */
int flume__note_begin(struct log_file *log, struct flume_err *err);
/* Any thread, one at a time: writes log->note. 0 or an errno. */
int flume__note_write(struct log_file *log);
/* FLUME_ECORRUPT when the files end before what the note of whoever wrote last says to be there; an errno. */
int flume__note_check(const struct log_file *log, struct flume_err *err);

#endif
