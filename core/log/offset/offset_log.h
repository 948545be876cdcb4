/* The offset log, as its own files see it: a JavaScript flumelog-offset file, whose records are numbered by where they
 * begin in it. What flume has to know besides stands in a directory beside the file, PATH.flume (core/FORMAT.md).
 *
 *   log_offset.c         opening, closing, the vtable
 *   log_offset_open.c    from a file to a list of verified records
 *   log_offset_scan.c    reading records one after another
 *   log_offset_append.c  group commit: from append to acknowledged
 *   log_offset_read.c    planning and loading blocks
 *   log_offset_set.c     the files "deleted" and "zeros": sets of seqs
 *   log_offset_note.c    the file "note": how far the file is on disk
 *   log_offset_check.c   verifying every frame
 *   log_offset_verify.c  going through all frames, and saying what is wrong
 *   log_offset_backup.c  copying the file and what is beside it
 *   log_offset_repair.c  mending what is damaged
 *   log_offset_follow.c  a reader: seeing what the writer does
 *
 * Threads, beside those of log.h. The commit thread owns, while a commit is on its way, the commit, end_off, the note,
 * told, and of the two sets: file, unsynced and seqs.end_off. Guarded by log->log.lock: the index, data_end_off, what is in
 * the sets, gone and gone_taken. With a follower the lock also guards follow->lock_file, follow->names_changed, the note
 * and log.id. */
#ifndef FLUME_LOG_OFFSET_H
#define FLUME_LOG_OFFSET_H

#include <string.h>

#include "log/deletions.h"
#include "log/lock_file.h"
#include "log/log.h"
#include "log/offset/offset_frame.h"
#include "log/offset/offset_index.h"
#include "log/task.h"

/* The file, which blocks keep open that are not loaded yet. */
struct flume_offset_file {
  atomic_int refs;
  const struct flume_io *io;
  int file; /* -1: closed */
  enum flume_offset_bits bits;
  uv_rwlock_t zeroing; /* for writing while a record is overwritten with zeros, for reading while a block is loaded */
  char path[];
};

/* A set of seqs that is kept in a file of PATH.flume, in the form of a file log's "deleted". */
struct flume_offset_set {
  const char *name; /* of the file */
  int file;         /* -1 until there is one */
  bool unsynced;    /* its end frame is not on disk yet */
  struct flume_deletions seqs;
};

/* How far the file was on disk; see log_offset_note.c. */
struct flume_offset_note {
  uint64_t durable_off; /* every byte before it */
  uint64_t limit_off;   /* nothing was written from there on that is not on disk */
  bool open;            /* records may have been written behind durable_off */
};

/* A note as it is read. */
struct flume_offset_noted {
  uint32_t bits; /* how wide pointers are; 0: there is no note */
  uint8_t id[16];
  struct flume_offset_note note;
  uint64_t turn;
};

enum flume_offset_commit_kind {
  FLUME_OFFSET_COMMIT_DATA,   /* write records */
  FLUME_OFFSET_COMMIT_SYNC,   /* make durable what was written */
  FLUME_OFFSET_COMMIT_DELETE, /* note deletes, and overwrite the records */
  FLUME_OFFSET_COMMIT_END,    /* the log is closing */
};

/* One trip to the disk. Appends that wait while another commit is on its way share the next one. */
struct flume_offset_commit {
  struct flume_queue queue;
  struct log_offset *log;
  enum flume_offset_commit_kind kind;
  struct flume_queue reqs; /* struct flume_append that it answers */
  struct flume_buf bytes;  /* frames of records; or a delete frame with seqs */
  uint32_t count;          /* of them */
  struct flume_buf zeros;  /* a delete frame with the seqs of those records that are all zeros */
  uint32_t zeros_count;
  uint64_t first_off; /* of the first record */
  int64_t last_seq;   /* of the last one, or of the log's last one when it ends that */
  bool has_hole;      /* a record looks as if a part of it had not been written: see log_offset_note.c */
  bool synced;        /* what it wrote is on disk */
  bool noted;         /* its deletes are on disk, whatever comes of the records */
  int status;
  struct flume_err err;
};

struct flume_offset_follow;

struct log_offset {
  struct flume_log log;
  struct flume_offset_file *file;
  enum flume_sync sync;
  uint32_t interval_ms;
  bool readonly;
  bool draining; /* closing has begun: the last commit to come back ends it */
  int lock;      /* file; -1 when readonly */
  uv_pid_t pid;  /* of the process that opened it for writing */

  struct flume_offset_index index;
  struct flume_offset_set deleted; /* in the order of the deletions */
  struct flume_offset_set zeros;   /* records of zeros that were appended as such: they are not deleted */
  struct flume_offset_note note;   /* as it was written last */
  uint64_t note_turn;              /* how many notes there were before it */
  uint32_t noted_bits;             /* how wide the note says that pointers are; 0: there was none */
  struct flume_note told;          /* a writer's: what it has told those who follow it */

  struct flume_offset_follow *follow; /* a reader's: see log_offset_follow.h; NULL for a writer, and with damaged */
  struct flume_tombstones gone;       /* a reader's: deleted, and what other programs have overwritten */
  size_t gone_taken;                  /* how many of deleted are in it */

  uint64_t
      synced_off; /* every byte before it is on disk: as other threads than the commit's have synced; guarded by lock */
  uint64_t end_off;                       /* of the file: the commit's that is on its way */
  uint64_t data_end_off;                  /* of the last record in the index */
  uint64_t next_off;                      /* for the next record that is taken */
  struct flume_queue commits;             /* struct flume_offset_commit, not begun */
  struct flume_offset_commit *committing; /* the one on its way, or NULL */
  uv_work_t work;
  uv_timer_t timer;           /* FLUME_SYNC_INTERVAL: runs while something written is not synced */
  uint64_t unsynced_since_ns; /* when the oldest write was made that is not synced; 0 when there is none */

  struct flume_tasks tasks;
  bool damaged;                     /* opened up to damage: there is more, or something is wrong beside it */
  struct flume_compact *compacting; /* done, to be answered; or NULL */
  struct flume_deferred answer_compact;
};

/* Records of the file that are read one after another, from log->data_end_off on, into an index: the log's, or a
 * follower's own, while other threads read the log's. */
struct flume_offset_scan {
  struct flume_window window;
  struct flume_offset_index *index; /* gets the records */
  uint64_t off;                     /* of what comes next */
  uint64_t until_off;               /* there it stops */
  int64_t last_seq;                 /* and behind that record */
  bool acknowledged;                /* a writer that is there vouches for what is read */
  const char *why;                  /* what comes next is no record */
  struct flume_buf zeros;           /* int64_t: records of zeros */
  struct flume_buf unzeroed;        /* int64_t: records that were deleted and have their bytes */
};

/* The name of the file, without its directory. */
static inline const char *flume__offset_name(const struct log_offset *log) {
  const char *slash = strrchr(log->file->path, '/');
  return slash != NULL ? slash + 1 : log->file->path;
}

/* log_offset.c: the names of a log at path, and nothing opened; zero in all else. FLUME_ENOMEM, and nothing to fini. */
int flume__offset_init(struct log_offset *log, const struct flume_io *io, const char *path);
/* Closes what is open. */
void flume__offset_fini(struct log_offset *log);
/* Makes this process the one that may write to the log: log->lock. FLUME_ELOCKED, or an errno. */
int flume__offset_lock(struct log_offset *log, struct flume_err *err);
void flume__offset_file_unref(struct flume_offset_file *file);
/* Closes the log if it is to be closed and nothing is under way any more. */
void flume__offset_drained(struct log_offset *log);

/* log_offset_open.c: FLUME_ECORRUPT for a file that is none of flumelog-offset's, before anything is made beside it. A file
 * that is not there, or has a note, is left to flume__offset_recover. */
int flume__offset_look(struct log_offset *log, struct flume_err *err);
/* Opens the file, finds its records and what was deleted. bits 0: as the file has them; damaged: what
 * is good before the damage. */
int flume__offset_recover(struct log_offset *log, uint32_t bits, bool damaged, struct flume_err *err);
/* 0 when what is behind the last record may be one that is being written, or was when its writer died; FLUME_ECORRUPT
 * when it is damage; or an errno. */
int flume__offset_check_tail(struct log_offset *log, struct flume_offset_scan *scan, struct flume_err *err);
/* What the file's framing is: log->file->bits. asked: 0, or what the caller believes. FLUME_EINVAL, FLUME_EVERSION, … */
int flume__offset_choose_bits(struct log_offset *log, struct flume_window *window, uint32_t asked,
                              struct flume_err *err);

/* log_offset_scan.c */
void flume__offset_scan_init(struct flume_offset_scan *scan, struct log_offset *log, uint64_t file_bytes);
void flume__offset_scan_fini(struct flume_offset_scan *scan);
/* Puts as many records into the index as there are: 1 when one of the bounds was reached; 0 at the end of the file, or at
 * something else, and scan->why then. FLUME_ECORRUPT when the file has become shorter, FLUME_ENOMEM, an errno. */
int flume__offset_scan_records(struct log_offset *log, struct flume_offset_scan *scan, struct flume_err *err);
/* The records of zeros that it came by. */
const int64_t *flume__offset_scan_zeros(const struct flume_offset_scan *scan, size_t *count);

/* The seq of the last record in the index; -1 when there is none. */
static inline int64_t flume__offset_last_seq(const struct log_offset *log) {
  return log->index.count > 0 ? (int64_t)flume_offset_index_at(&log->index, log->index.count - 1) : -1;
}

/* log_offset_append.c */
int flume__offset_append(struct flume_log *log, struct flume_append *req, const struct flume_slice *records,
                         size_t count, struct flume_err *err);
int flume__offset_append_wait(struct flume_log *log, const struct flume_slice *records, size_t count, int64_t *seq,
                              struct flume_err *err);
int flume__offset_sync(struct flume_log *log, struct flume_append *req, struct flume_err *err);
int flume__offset_sync_now(struct flume_log *log, struct flume_err *err);
int flume__offset_del(struct flume_log *log, struct flume_append *req, const int64_t *seqs, size_t count,
                      struct flume_err *err);
/* 0 when this handle may write; FLUME_EREADONLY; FLUME_ELOCKED in a process that was forked from the writer. */
int flume__offset_check_writer(const struct log_offset *log, struct flume_err *err);
/* Queues a commit without records; req may be NULL. FLUME_ENOMEM. */
int flume__offset_submit(struct log_offset *log, enum flume_offset_commit_kind kind, struct flume_append *req);
/* Overwrites the bytes of a record in the index with zeros; not synced. Any thread. */
int flume__offset_zero(struct log_offset *log, uint64_t off);
/* The same in any file that has a record there. */
int flume__offset_zero_in(const struct flume_io *io, int file, uint64_t off);

/* log_offset_read.c */
int flume__offset_plan(struct flume_log *log, int64_t seq, bool reverse, size_t max_bytes, struct flume_block **block,
                       struct flume_err *err);
int64_t flume__offset_deleted_count(const struct flume_log *log, int64_t seq);
int64_t flume__offset_deletion_at(const struct flume_log *log, int64_t ordinal);
bool flume__offset_is_lost(const struct flume_log *log, int64_t seq);
int flume__offset_plan_one(struct flume_log *log, int64_t seq, struct flume_block **block, struct flume_err *err);

/* What counts as deleted, in the order in which views count it. */
static inline const struct flume_tombstones *flume__offset_gone(const struct log_offset *log) {
  return log->readonly ? &log->gone : &log->deleted.seqs.deleted;
}

/* Where record number i of the index ends. */
static inline uint64_t flume__offset_end_of(const struct log_offset *log, uint64_t i) {
  return i + 1 < log->index.count ? flume_offset_index_at(&log->index, i + 1) : log->data_end_off;
}

/* log_offset_set.c */
void flume__offset_set_init(struct flume_offset_set *set, const struct flume_io *io, const char *name);
/* Closes the file. */
void flume__offset_set_fini(struct flume_offset_set *set, const struct flume_io *io);
/* Reads it, if it is there, up to end_off. */
int flume__offset_set_load(struct log_offset *log, struct flume_offset_set *set, uint64_t end_off,
                           struct flume_err *err);
/* The same for what was added since, or for all of it when it was written anew. FLUME_ECORRUPT also when it does not go
 * as far as end_off, unless that is UINT64_MAX: as far as frames are whole. */
int flume__offset_set_follow(struct log_offset *log, struct flume_offset_set *set, uint64_t end_off,
                             struct flume_err *err);
/* Appends all of its bytes. UV_ENOENT, another errno, FLUME_ENOMEM. */
int flume__offset_set_read(struct log_offset *log, struct flume_offset_set *set, struct flume_buf *bytes);
/* Replaces the file by one with what is in memory. Nothing to do when it is settled, or not there and empty. */
int flume__offset_set_rewrite(struct log_offset *log, struct flume_offset_set *set, struct flume_err *err);
/* Any thread: completes the frame in bytes, with count seqs, appends it and syncs it. What is in memory stays. */
int flume__offset_set_write(struct log_offset *log, struct flume_offset_set *set, struct flume_buf *bytes,
                            uint32_t count, struct flume_err *err);
/* Takes over what was written by flume__offset_set_write; room has been reserved. */
void flume__offset_set_publish(struct flume_offset_set *set, const struct flume_buf *bytes, uint32_t count);
/* Any thread: syncs the end frame. */
int flume__offset_set_end(struct log_offset *log, struct flume_offset_set *set, struct flume_err *err);

/* log_offset_note.c */
/* The path of a file in PATH.flume. UV_ENAMETOOLONG. */
int flume__offset_path(const struct log_offset *log, const char *name, char *path, size_t size);
/* FLUME_ECORRUPT, FLUME_EVERSION, or an errno. */
int flume__offset_note_read(const struct log_offset *log, struct flume_offset_noted *noted, struct flume_err *err);
/* Sets log->noted_bits, log->note and log->log.id, if there is one. */
int flume__offset_note_load(struct log_offset *log, struct flume_err *err);
/* Any thread: writes log->note, and syncs it. */
int flume__offset_note_sync(struct log_offset *log, struct flume_err *err);
/* Any thread: writes it, and leaves it to the system when it comes to be on disk. */
int flume__offset_note_write(struct log_offset *log, struct flume_err *err);
/* A writer that has recovered the log says so to those who follow it. */
int flume__offset_tell_begin(struct log_offset *log, struct flume_err *err);
/* Any thread: tells them what is acknowledged now, log->told. */
int flume__offset_tell(struct log_offset *log, struct flume_err *err);

/* The bytes of a file "note" of the log that says this. FLUME_ENOMEM. */
int flume__offset_note_put(const struct log_offset *log, const struct flume_offset_note *note, struct flume_buf *out);

/* log_offset_backup.c */
int flume__offset_backup(struct flume_log *log, const char *dir, const char *views_dir, struct flume_backup *req,
                         struct flume_err *err);

/* log_offset_check.c */
int flume__offset_check(struct flume_log *log, const char *views_dir, struct flume_check *req, struct flume_err *err);

#endif
