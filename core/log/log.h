/* What every kind of log has, and the vtable that a kind fills in. The public functions of flume.h check what is
 * common (closed, sizes) and then call the kind.
 *
 * Threads. A log is owned by the thread that runs its loop: that thread alone opens, appends, deletes, compacts,
 * follows, closes, and uses the observers. Two kinds of other threads touch a log:
 *
 * - The commit thread writes and syncs one commit at a time. It owns what the kind's header says it owns.
 * - Reader threads call the functions under "Reading, from any thread". They must have returned for good before
 *   flume_log_close is called.
 *
 * log->lock guards what reader threads look at: the segments and what is loaded of them, deletions, since, durable_seq,
 * following and failure. The owner changes these with the lock held, and may read without it what only the owner
 * changes. The lock is held for short: no record is read, nothing is written or synced, and no callback is called
 * under it. Loading the index of a sealed segment is the longest work under it.
 *
 * log->sync_lock is held while the file with the newest records is synced, whichever thread does so. A failed sync is
 * reported to one caller alone, and the next sync may answer success for data that is lost: therefore sync_failed is
 * set under the same lock, and no sync is begun after a failed one.
 *
 * Order of locks: listening, sync_lock, lock. */
#ifndef FLUME_LOG_H
#define FLUME_LOG_H

#include <stdatomic.h>

#include "base/io.h"
#include "log/block.h"
#include "log/lock_file.h"
#include "loop/defer.h"
#include "loop/observable.h"

/* Told of each move of a log: since, deletions, durable_seq or following has changed, or the log has failed. */
struct flume_log_listener {
  /* On the thread that caused the move, without the log's lock: the owner, also from within flume_log_append_wait, or a
   * thread that calls flume__log_sync_now. It may call the reading functions. It must not add or remove a listener, and
   * must not wait for the loop. */
  void (*moved)(struct flume_log_listener *listener);
  struct flume_queue queue; /* private */
};

struct flume_group;
struct flume_log_check;
struct flume_log_copy;
struct flume_tasks;

enum flume_log_state { FLUME_LOG_OPEN, FLUME_LOG_CLOSING };

struct flume_log_ops {
  const char *kind;   /* "file", "memory", "offset" */
  const char *erased; /* what becomes of the bytes of a deleted record: "removed", "overwritten" */

  /* Takes the records and calls flume__append_finish: at once, or later when the log has a group. Sizes are checked. */
  int (*append)(struct flume_log *log, struct flume_append *req, const struct flume_slice *records, size_t count,
                struct flume_err *err);
  int (*sync)(struct flume_log *log, struct flume_append *req, struct flume_err *err);
  int (*del)(struct flume_log *log, struct flume_append *req, const int64_t *seqs, size_t count, struct flume_err *err);

  /* The reading functions up to is_lost are called with the lock held, on any thread.
   *
   * Plans a block that holds seq, which is <= since: it begins with seq or, when reverse, ends with it; about
   * max_bytes long. Deleted records are marked in it. Where there is no record with that seq, which is so in an offset
   * log alone, it is the next one that there is or, when reverse, the last one before it. FLUME_ENOENT: none is. */
  int (*plan)(struct flume_log *log, int64_t seq, bool reverse, size_t max_bytes, struct flume_block **block,
              struct flume_err *err);

  /* A planned block with the record seq alone, with the bytes that it has: not marked when it is deleted. FLUME_ENOENT: no
   * record has this seq. */
  int (*plan_one)(struct flume_log *log, int64_t seq, struct flume_block **block, struct flume_err *err);

  /* How many records up to and with seq are deleted. */
  int64_t (*deleted_count)(const struct flume_log *log, int64_t seq);
  /* The seq of the deletion with this ordinal, 0 <= ordinal < log->deletions.value. -1 when it is not known any more: the
   * file that recorded it was damaged. */
  int64_t (*deletion_at)(const struct flume_log *log, int64_t ordinal);
  /* Whether a deleted record was taken out by a repair. NULL when that can't be. */
  bool (*is_lost)(const struct flume_log *log, int64_t seq);

  /* Makes the published records durable: 0, with durable_seq raised; or an errno. Any thread, without the lock. NULL
   * when records are durable, or as good as durable, once they are published. */
  int (*sync_now)(struct flume_log *log, struct flume_err *err);

  /* Removes the bytes of deleted records. NULL when there is no such thing. */
  int (*compact)(struct flume_log *log, struct flume_compact *req, struct flume_err *err);
  /* Makes a copy that can begin: see log_copy.h. FLUME_ENOMEM, FLUME_ECORRUPT, … NULL when there is no such thing. */
  int (*copy)(struct flume_log *log, struct flume_log_copy **copy, struct flume_err *err);
  /* Makes a verification of every byte that can begin: see log_check.h. FLUME_ENOMEM. */
  int (*check)(struct flume_log *log, struct flume_report *report, struct flume_log_check **check,
               struct flume_err *err);

  /* Ends what is pending, then calls flume__log_closed. */
  void (*close)(struct flume_log *log);
  void (*free)(struct flume_log *log);
};

struct flume_log {
  const struct flume_log_ops *ops;
  const struct flume_io *io;
  uv_loop_t *loop;
  struct flume_defer defer;
  uv_mutex_t lock;                  /* see above */
  _Atomic(uintptr_t) lock_holder;   /* the thread that holds it; 0: none. For assertions */
  uv_mutex_t sync_lock;             /* see above */
  int sync_failed;                  /* guarded by sync_lock: the errno of the first sync that failed; 0 */
  uv_mutex_t listening;             /* guards listeners, and is held while they are told */
  struct flume_queue listeners;     /* struct flume_log_listener */
  _Atomic uint32_t listeners_count; /* so that a log without any takes no mutex to tell them */
  struct flume_obv since;           /* its value is changed with the lock held */
  _Atomic int64_t durable_seq; /* the last record that is known to be on disk: <= since, if it is read before since */
  /* How many deletions the log ever had, from its beginning on; it only grows. Each has the ordinal that this number
   * had before it. A seq that is deleted again adds none. */
  struct flume_obv deletions;
  enum flume_log_state state;
  bool readonly;
  uint32_t max_record_bytes;
  uint8_t id[16];
  char *dir;                        /* NULL for a log without one */
  const char *name;                 /* the path by which it was opened, for texts; borrowed */
  struct flume_lock_file lock_file; /* a writer's, of a log on disk */
  struct flume_tasks *tasks;        /* that go on beside its use */
  struct flume_group *group;        /* through which all writes go; NULL: records are durable when they are appended */
  struct flume_queue finished;      /* struct flume_append whose callback is due */
  uint64_t pending_bytes;           /* owner thread: of appends, deletes and syncs whose callback has not fired */
  struct flume_deferred finish;
  enum flume_following following;
  struct flume_err following_why; /* see flume_log_following; guarded by lock, as following */
  _Atomic bool failed;            /* there is a failure */
  struct flume_err failure;       /* code != 0: why the log takes no more appends; guarded by lock */
  struct flume_deferred close_later;
  flume_log_close_cb close_cb;
  void *close_data;
};

/* Fills in the common part; the kind's own follows in the same struct. FLUME_ENOMEM or an errno: nothing is to be undone. */
int flume__log_init(struct flume_log *log, const struct flume_log_ops *ops, const struct flume_io *io, uv_loop_t *loop,
                    uint32_t max_record_bytes);
/* Undoes flume__log_init for a log that never got open: closes the handles, then calls ops->free. */
void flume__log_abandon(struct flume_log *log);

/* --- The lock ------------------------------------------------------------------------------------------------- */

void flume__log_lock(struct flume_log *log);
void flume__log_unlock(struct flume_log *log);
/* Whether the calling thread holds the lock. For assertions. */
bool flume__log_is_locked(const struct flume_log *log);

/* Tells the listeners. On the thread that moved the log, without the lock. */
void flume__log_moved(struct flume_log *log);
/* Owner thread. After remove has returned, moved is not called any more; so remove waits for a call that is under way, and
 * must not be called with a lock held that moved takes. */
void flume__log_listen(struct flume_log *log, struct flume_log_listener *listener);
void flume__log_unlisten(struct flume_log *log, struct flume_log_listener *listener);

/* Sets the failure, unless there is one: the log takes no more appends. Any thread, without the lock. code is not 0; err
 * has its text. */
void flume__log_fail(struct flume_log *log, int code, const struct flume_err *err);
/* The failure's code, with *err; 0 when there is none. Any thread, without the lock. */
int flume__log_failure(struct flume_log *log, struct flume_err *err);

/* Syncs the file that has the newest records, under sync_lock: 0 or an errno, also that of an earlier sync. Any thread,
 * without the lock. */
int flume__log_sync_file(struct flume_log *log, int file);
/* For a step that syncs that file among other things: take sync_lock, which answers the errno of an earlier failure, and
 * give it back with the step's result, in which a sync may have failed. */
int flume__log_sync_begin(struct flume_log *log);
int flume__log_sync_end(struct flume_log *log, int rv);

/* --- Appends --------------------------------------------------------------------------------------------------- */

/* 0 when this handle may write; FLUME_EREADONLY; FLUME_ELOCKED in a process that was forked from the writer. */
int flume__log_check_writer(const struct flume_log *log, struct flume_err *err);
/* The path that a log goes by from now on, in out with its FLUME_PATH_MAX bytes: absolute, unless the disk is a simulated
 * one, which has no working directory. FLUME_EINVAL or UV_ENAMETOOLONG, with err. */
int flume__log_place(const struct flume_io *io, const char *path, char *out, struct flume_err *err);
/* What is wrong with the options that all logs on disk have: FLUME_EINVAL. */
int flume__log_check_options(const struct flume_log_options *options, struct flume_err *err);

/* The callback fires in the loop's next turn, or at the end of this one when now is called from the loop. */
void flume__append_finish(struct flume_log *log, struct flume_append *req, int status, int64_t seq);
/* Calls the callbacks that are due. Only from the loop. */
void flume__log_run_finished(struct flume_log *log);

/* The kind has nothing pending any more. */
void flume__log_closed(struct flume_log *log);

/* --- Reading, from any thread ---------------------------------------------------------------------------------
 *
 * The blocks belong to the caller, who unrefs them. since and deletions are read as log->since.value and
 * log->deletions.value: what is not beyond a value that was read can be planned, and counted. */

/* See flume_log_ops.plan. block->deletions is the number of deletions that the block knows of. */
int flume__log_plan(struct flume_log *log, int64_t seq, bool reverse, size_t max_bytes, struct flume_block **block,
                    struct flume_err *err);
/* How many records up to and with seq are deleted. */
int64_t flume__log_deleted_count(struct flume_log *log, int64_t seq);
/* The seq of the deletion with this ordinal, 0 <= ordinal < log->deletions.value. -1 when a repair has
 * found its frame to be damaged: it may then be any record that the log had, and none is known to be deleted by it. */
int64_t flume__log_deletion_at(struct flume_log *log, int64_t ordinal);
/* A loaded block that has the one deleted record alone, with the bytes it had. FLUME_ENOENT when the bytes are gone, or
 * seq is not deleted; FLUME_ECORRUPT, FLUME_ENOMEM or an errno. */
int flume__log_read_deleted(struct flume_log *log, int64_t seq, struct flume_block **block, struct flume_err *err);
/* Whether a deleted record was taken out by a repair. */
bool flume__log_is_lost(struct flume_log *log, int64_t seq);
/* *digest is a checksum of the record with seq <= since, and of its seq: two logs with the same digest have, as good as
 * certainly, the same record there. It stays the same until a compaction takes out the bytes of a deleted record:
 * FLUME_EDELETED from then on. Else FLUME_ENOENT, FLUME_ECORRUPT, FLUME_ENOMEM or an errno. Reads the record. */
int flume__log_digest(struct flume_log *log, int64_t seq, uint32_t *digest, struct flume_err *err);
/* Makes the records up to seq <= since durable, if they are not: durable_seq >= seq when it returns 0. When the sync fails
 * the log fails, as it does when the sync of a commit fails. The listeners are told on this thread: the caller must not
 * hold a lock that they take. FLUME_EINVAL: seq is beyond since; or an errno. Blocks for as long as the disk does. */
int flume__log_sync_now(struct flume_log *log, int64_t seq, struct flume_err *err);

/* A loaded block around seq; see flume_log_ops.plan. */
int flume_log_read(struct flume_log *log, int64_t seq, bool reverse, size_t max_bytes, struct flume_block **block,
                   struct flume_err *err);

/* The order of seqs, for qsort and bsearch: of int64_t. */
static inline int flume__compare_seqs(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

#endif
