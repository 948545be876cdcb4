/* Group commit: how appends, syncs and deletes of a log on disk reach the disk, for every kind of such a log.
 *
 * Happy path: append puts the records into the waiting commit, which numbers them. When no commit is on its way, the
 * waiting one is handed to a thread of libuv's pool, which writes and syncs it. Back on the loop it is published: since
 * grows, the callbacks fire, and the next waiting commit goes. All appends that came in meanwhile are in the next commit:
 * they share its write and its sync.
 *
 * Failures:
 *
 * - A write or a sync fails: nothing is tried again. After a failed fsync the kernel may have dropped the pages, and a
 *   second one would answer success for data that is gone. The commit and all that wait behind it are answered with the
 *   error, as their records were numbered after records that are not there, and the log takes no more appends. Reads go
 *   on. Opening the log again cuts what was left half written.
 * - A sync by another thread fails (flume__log_sync_now): the same, for the commits that wait.
 * - There is no memory for a commit that waits: it and those behind it are answered with the error. The disk was not
 *   touched, and the log goes on.
 *
 * Invariants: commits go one after another, in the order in which they were begun. A record is published before its
 * append is answered, and after it was written. The commit on its way is not in the list of those that wait.
 *
 * Owner thread, except for the functions that say otherwise. */
#ifndef FLUME_GROUP_COMMIT_H
#define FLUME_GROUP_COMMIT_H

#include "base/buf.h"
#include "log/deletions.h"
#include "log/log.h"

enum flume_commit_kind {
  FLUME_COMMIT_DATA,   /* write records */
  FLUME_COMMIT_SYNC,   /* make durable what was written */
  FLUME_COMMIT_DELETE, /* write deletes, and sync them */
  FLUME_COMMIT_ROLL,   /* a file log: seal the active segment, if it has records, and begin the next */
  FLUME_COMMIT_END,    /* the log is closing */
};

struct flume_group;

/* One trip to the disk. Embedded first in the kind's own struct. */
struct flume_commit {
  struct flume_queue queue;
  struct flume_group *group;
  enum flume_commit_kind kind;
  struct flume_queue reqs; /* struct flume_append that it answers */
  struct flume_buf bytes;  /* to be written */
  uint32_t count;          /* records, or deletes */
  int64_t last_seq;        /* of the last record taken so far, by this commit or before it */
  bool must_sync;          /* whatever the sync mode is */
  bool synced;             /* what it wrote is on disk */
  int status;              /* 0, or why it failed: see err */
  struct flume_err err;
};

struct flume_group_ops {
  /* A zeroed commit of the kind's, or NULL: no memory. */
  struct flume_commit *(*alloc)(struct flume_group *group);
  void (*free)(struct flume_commit *commit);
  /* Lets go of what the commit held. It is freed, or used again. */
  void (*release)(struct flume_commit *commit);
  /* Prepares the kind's own fields of a new or used commit, and last_seq. The fields above are set. */
  void (*begin)(struct flume_commit *commit);
  /* Takes over the bytes of the records and numbers them. FLUME_ENOMEM, or FLUME_E2BIG, with err: then nothing was taken. */
  int (*take)(struct flume_commit *commit, const struct flume_slice *records, size_t count, struct flume_err *err);
  /* Everything that the commit needs and that could fail for want of memory, before it goes. 0 or an error, with
   * commit->err. */
  int (*prepare)(struct flume_commit *commit);

  /* The next four on the commit thread: 0 or an error, with commit->err.
   *
   * Writes the records of a data commit. */
  int (*write)(struct flume_commit *commit);
  /* Makes durable what was written so far. */
  int (*sync)(struct flume_commit *commit);
  /* Tells followers that a data commit is acknowledged: it is on disk. */
  int (*tell)(struct flume_commit *commit);
  /* A commit of another kind than data and sync. */
  int (*run)(struct flume_commit *commit);

  /* Makes a commit seen by readers, with the log's lock held; of one that failed, what is on disk all the same. */
  void (*publish)(struct flume_commit *commit);
  /* Nothing waits any more: the next record is numbered as the one behind since. */
  void (*rewind)(struct flume_group *group);
  /* A commit is over: the log may have waited for it. */
  void (*drained)(struct flume_group *group);
};

struct flume_group {
  const struct flume_group_ops *ops;
  struct flume_log *log;
  enum flume_sync sync;
  uint32_t interval_ms;
  struct flume_queue waiting;      /* struct flume_commit, not begun */
  struct flume_commit *committing; /* the one on its way, or NULL */
  struct flume_queue spare;        /* struct flume_commit to use again */
  uint32_t spare_count;
  uv_work_t work;
  uv_timer_t timer;           /* FLUME_SYNC_INTERVAL: runs while something written is not synced */
  uint64_t unsynced_since_ns; /* when the oldest write was made that is not synced; 0 when there is none */
};

/* Before the log is opened; the timer is left out. interval_ms 0: the default. */
void flume__group_init(struct flume_group *group, const struct flume_group_ops *ops, struct flume_log *log,
                       enum flume_sync sync, uint32_t interval_ms);
/* The log is open: the timer gets its handle. */
void flume__group_open(struct flume_group *group);
/* Stops the timer, and ends the log on disk when it can still be written: with an end commit. */
void flume__group_end(struct flume_group *group);
/* Whether nothing waits and nothing is on its way. */
bool flume__group_is_idle(const struct flume_group *group);
/* Closes the timer's handle; closed fires when it is gone, with group->timer.data as it was set by init: the group. */
void flume__group_close(struct flume_group *group, uv_close_cb closed);
/* Frees the spare commits. */
void flume__group_fini(struct flume_group *group);

/* flume_log_ops.append and .sync of every log that has a group. */
int flume__group_append(struct flume_log *log, struct flume_append *req, const struct flume_slice *records,
                        size_t count, struct flume_err *err);
int flume__group_sync(struct flume_log *log, struct flume_append *req, struct flume_err *err);
/* flume_log_ops.del of such logs: deletes that wait share one commit. The seqs are in any order, each any number of times. */
int flume__group_del(struct flume_log *log, struct flume_append *req, const int64_t *seqs, size_t count,
                     struct flume_err *err);
/* For the kind's prepare: the seqs of a commit of deletes get into ascending order, each once, without those that are
 * deleted already; deleted gets room for them. With the log's lock held. FLUME_ENOMEM. */
int flume__commit_reserve_deletes(struct flume_commit *commit, struct flume_tombstones *deleted);
/* As append, done when it returns: the commit runs on this thread. FLUME_EBUSY when another one waits or is on its way. */
int flume__group_append_wait(struct flume_group *group, const struct flume_slice *records, size_t count, int64_t *seq,
                             struct flume_err *err);

/* A new commit, not submitted yet. NULL: no memory. */
struct flume_commit *flume__commit_new(struct flume_group *group, enum flume_commit_kind kind);
/* Gives back a commit that was not submitted. */
void flume__commit_drop(struct flume_commit *commit);
/* Queues a commit; req may be NULL. */
void flume__commit_submit(struct flume_commit *commit, struct flume_append *req);
/* Queues a commit without records or deletes; req may be NULL. FLUME_ENOMEM. */
int flume__group_submit(struct flume_group *group, enum flume_commit_kind kind, struct flume_append *req);

#endif
