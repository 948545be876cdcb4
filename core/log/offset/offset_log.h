/* The offset log, as its own files see it: a JavaScript flumelog-offset file, whose records are numbered by where they
 * begin in it. What flume has to know besides stands in a directory beside the file, PATH.flume (core/FORMAT.md).
 *
 *   offset_log.c         opening, closing, the vtable
 *   offset_open.c    from a file to a list of verified records
 *   offset_scan.c    reading records one after another
 *   offset_append.c  group commit: from append to acknowledged
 *   offset_read.c    planning and loading blocks
 *   offset_deleted.c     the files "deleted" and "zeros": sets of seqs
 *   offset_superblock.c  the file "note": how far the file is on disk
 *   offset_check.c   verifying every frame
 *   offset_verify.c  going through all frames, and saying what is wrong
 *   offset_backup.c  copying the file and what is beside it
 *   offset_repair.c  mending what is damaged
 *   offset_follow.c  a reader: seeing what the writer does
 *
 * Threads, beside those of log.h. The commit thread owns, while a commit is on its way, the commit, end_off, the superblock,
 * the high watermark, and of the two sets: file, unsynced and seqs.end_off. Guarded by log->log.lock: the index, data_end_off, what is in
 * the sets, gone and gone_taken. With a follower the lock also guards follow->lock_file, follow->names_changed, the
 * superblock and log.id. */
#ifndef FLUME_LOG_OFFSET_H
#define FLUME_LOG_OFFSET_H

#include <string.h>

#include "log/deletions.h"
#include "log/group_commit.h"
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

/* How far the file was on disk; see offset_superblock.c. */
struct flume_offset_superblock {
  uint64_t durable_off; /* every byte before it */
  uint64_t limit_off;   /* nothing was written from there on that is not on disk */
  bool open;            /* records may have been written behind durable_off */
};

/* A superblock as it is read. */
struct flume_offset_superblock_read {
  uint32_t bits; /* how wide pointers are; 0: there is no superblock */
  uint8_t id[16];
  struct flume_offset_superblock superblock;
  uint64_t turn;
};

/* A commit; the base's bytes are frames of records, or a delete frame with seqs. */
struct offset_commit {
  struct flume_commit
      base; /* must_sync: a record looks as if a part of it had not been written: see offset_superblock.c */
  struct flume_buf zeros; /* a delete frame with the seqs of those records that are all zeros */
  uint32_t zeros_count;
  uint64_t first_off;   /* of the first record */
  bool deletes_durable; /* its deletes are on disk, whatever comes of the records */
};

struct flume_offset_follow;

struct offset_log {
  struct flume_log log;
  struct flume_group group;
  struct flume_offset_file *file;
  bool draining; /* closing has begun: the last commit to come back ends it */
  bool damaged;  /* opened up to damage: there is more, or something is wrong beside it */

  struct flume_offset_index index;
  struct flume_offset_set deleted;           /* in the order of the deletions */
  struct flume_offset_set zeros;             /* records of zeros that were appended as such: they are not deleted */
  struct flume_offset_superblock superblock; /* as it was written last */
  uint64_t superblock_turn;                  /* how many were written before it */
  uint32_t superblock_bits;                  /* how wide it says that pointers are; 0: there was none */

  struct flume_offset_follow *follow; /* a follower's: see offset_follow.h; NULL for a writer, and with damaged */
  struct flume_tombstones gone;       /* a follower's: deleted, and what other programs have overwritten */
  size_t gone_taken;                  /* how many of deleted are in it */

  uint64_t synced_off;   /* every byte before it is on disk: as other threads than the commit's have synced */
  uint64_t end_off;      /* of the file: the commit's that is on its way */
  uint64_t data_end_off; /* of the last record in the index */
  uint64_t next_off;     /* for the next record that is taken */

  struct flume_tasks tasks;
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
  bool acknowledged;                /* by a writer that has the lock */
  const char *why;                  /* why the bytes at off are no record */
  struct flume_buf zeros;           /* int64_t: records of zeros */
  struct flume_buf unzeroed;        /* int64_t: records that were deleted and have their bytes */
};

/* The name of the file, without its directory. */
static inline const char *flume__offset_name(const struct offset_log *log) {
  const char *slash = strrchr(log->file->path, '/');
  return slash != NULL ? slash + 1 : log->file->path;
}

/* offset_log.c: the names of a log at path, and nothing opened; zero in all else. FLUME_ENOMEM, and nothing to fini. */
int flume__offset_init(struct offset_log *log, const struct flume_io *io, const char *path);
/* Closes what is open. */
void flume__offset_fini(struct offset_log *log);
/* Gives this process alone the right to write to the log. FLUME_ELOCKED, or an errno. */
int flume__offset_lock(struct offset_log *log, struct flume_err *err);
void flume__offset_file_unref(struct flume_offset_file *file);
/* Closes the log if it is to be closed and nothing is under way any more. */
void flume__offset_drained(struct offset_log *log);

/* offset_open.c: FLUME_ECORRUPT for a file that is none of flumelog-offset's, before anything is made beside it. A file
 * that is not there, or has a superblock, is left to flume__offset_recover. */
int flume__offset_look(struct offset_log *log, struct flume_err *err);
/* Opens the file, finds its records and what was deleted. bits 0: as the file has them; damaged: what
 * is good before the damage. */
int flume__offset_recover(struct offset_log *log, uint32_t bits, bool damaged, struct flume_err *err);
/* 0 when what is behind the last record may be one that is being written, or was when its writer died; FLUME_ECORRUPT
 * when it is damage; or an errno. */
int flume__offset_check_tail(struct offset_log *log, struct flume_offset_scan *scan, struct flume_err *err);
/* What the file's framing is: log->file->bits. asked: 0, or what the caller believes. FLUME_EINVAL, FLUME_EVERSION, … */
int flume__offset_choose_bits(struct offset_log *log, struct flume_window *window, uint32_t asked,
                              struct flume_err *err);

/* offset_scan.c */
void flume__offset_scan_init(struct flume_offset_scan *scan, struct offset_log *log, uint64_t file_bytes);
void flume__offset_scan_fini(struct flume_offset_scan *scan);
/* Puts as many records into the index as there are: 1 when one of the bounds was reached; 0 at the end of the file, or at
 * something else, and scan->why then. FLUME_ECORRUPT when the file has become shorter, FLUME_ENOMEM, an errno. */
int flume__offset_scan_records(struct offset_log *log, struct flume_offset_scan *scan, struct flume_err *err);
/* The records of zeros that it came by. */
const int64_t *flume__offset_scan_zeros(const struct flume_offset_scan *scan, size_t *count);

/* The seq of the last record in the index; -1 when there is none. */
static inline int64_t flume__offset_last_seq(const struct offset_log *log) {
  return log->index.count > 0 ? (int64_t)flume_offset_index_at(&log->index, log->index.count - 1) : -1;
}

/* offset_append.c */
extern const struct flume_group_ops flume__offset_group;
int flume__offset_sync_now(struct flume_log *log, struct flume_err *err);
int flume__offset_del(struct flume_log *log, struct flume_append *req, const int64_t *seqs, size_t count,
                      struct flume_err *err);
/* Overwrites the bytes of a record in the index with zeros; not synced. Any thread. */
int flume__offset_zero(struct offset_log *log, uint64_t off);
/* The same in any file that has a record there. */
int flume__offset_zero_in(const struct flume_io *io, int file, uint64_t off);

/* offset_read.c */
int flume__offset_plan(struct flume_log *log, int64_t seq, bool reverse, size_t max_bytes, struct flume_block **block,
                       struct flume_err *err);
int64_t flume__offset_deleted_count(const struct flume_log *log, int64_t seq);
int64_t flume__offset_deletion_at(const struct flume_log *log, int64_t ordinal);
bool flume__offset_is_lost(const struct flume_log *log, int64_t seq);
int flume__offset_plan_one(struct flume_log *log, int64_t seq, struct flume_block **block, struct flume_err *err);

/* What counts as deleted, in the order in which views count it. */
static inline const struct flume_tombstones *flume__offset_gone(const struct offset_log *log) {
  return log->log.readonly ? &log->gone : &log->deleted.seqs.deleted;
}

/* Where record number i of the index ends. */
static inline uint64_t flume__offset_end_of(const struct offset_log *log, uint64_t i) {
  return i + 1 < log->index.count ? flume_offset_index_at(&log->index, i + 1) : log->data_end_off;
}

/* offset_deleted.c */
void flume__offset_set_init(struct flume_offset_set *set, const struct flume_io *io, const char *name);
/* Closes the file. */
void flume__offset_set_fini(struct flume_offset_set *set, const struct flume_io *io);
/* Reads it, if it is there, up to end_off. */
int flume__offset_set_load(struct offset_log *log, struct flume_offset_set *set, uint64_t end_off,
                           struct flume_err *err);
/* The same for what was added since, or for all of it when it was written anew. FLUME_ECORRUPT also when it does not go
 * as far as end_off, unless that is UINT64_MAX: as far as frames are whole. */
int flume__offset_set_follow(struct offset_log *log, struct flume_offset_set *set, uint64_t end_off,
                             struct flume_err *err);
/* Appends all of its bytes. UV_ENOENT, another errno, FLUME_ENOMEM. */
int flume__offset_set_read(struct offset_log *log, struct flume_offset_set *set, struct flume_buf *bytes);
/* Replaces the file by one with what is in memory. Nothing to do when it is settled, or not there and empty. */
int flume__offset_set_rewrite(struct offset_log *log, struct flume_offset_set *set, struct flume_err *err);
/* Any thread: completes the frame in bytes, with count seqs, appends it and syncs it. What is in memory stays. */
int flume__offset_set_write(struct offset_log *log, struct flume_offset_set *set, struct flume_buf *bytes,
                            uint32_t count, struct flume_err *err);
/* Takes over what was written by flume__offset_set_write; room has been reserved. */
void flume__offset_set_publish(struct flume_offset_set *set, const struct flume_buf *bytes, uint32_t count);
/* Any thread: syncs the end frame. */
int flume__offset_set_end(struct offset_log *log, struct flume_offset_set *set, struct flume_err *err);

/* offset_superblock.c */
/* The path of a file in PATH.flume. UV_ENAMETOOLONG. */
int flume__offset_path(const struct offset_log *log, const char *name, char *path, size_t size);
/* FLUME_ECORRUPT, FLUME_EVERSION, or an errno. */
int flume__offset_superblock_read(const struct offset_log *log, struct flume_offset_superblock_read *read,
                                  struct flume_err *err);
/* Sets log->superblock, superblock_bits and log->log.id, if there is one. */
int flume__offset_superblock_load(struct offset_log *log, struct flume_err *err);
/* Any thread: writes log->superblock, and syncs it. */
int flume__offset_superblock_sync(struct offset_log *log, struct flume_err *err);
/* Any thread: writes it without a sync. */
int flume__offset_superblock_write(struct offset_log *log, struct flume_err *err);
/* The bytes of a file "note" of the log with this superblock. FLUME_ENOMEM. */
int flume__offset_superblock_put(const struct offset_log *log, const struct flume_offset_superblock *superblock,
                                 struct flume_buf *out);

/* offset_backup.c */
int flume__offset_copy(struct flume_log *log, struct flume_log_copy **copy, struct flume_err *err);

/* offset_check.c */
int flume__offset_check(struct flume_log *log, struct flume_report *report, struct flume_log_check **check,
                        struct flume_err *err);

#endif
