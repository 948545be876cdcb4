/* What every kind of log has, and the vtable that a kind fills in. The public functions of flume.h check what is
 * common (closed, sizes) and then call the kind. */
#ifndef FLUME_LOG_H
#define FLUME_LOG_H

#include "base/io.h"
#include "log/block.h"
#include "loop/defer.h"
#include "loop/observable.h"

enum flume_log_state { FLUME_LOG_OPEN, FLUME_LOG_CLOSING };

struct flume_log_ops {
  const char *kind; /* "file", "memory", "offset" */

  /* Takes the records and later calls flume__append_finish. Sizes are checked. */
  int (*append)(struct flume_log *log, struct flume_append *req, const struct flume_slice *records, size_t count,
                struct flume_err *err);
  /* As append, done when it returns; FLUME_EBUSY when it can't be. */
  int (*append_wait)(struct flume_log *log, const struct flume_slice *records, size_t count, int64_t *seq,
                     struct flume_err *err);
  int (*sync)(struct flume_log *log, struct flume_append *req, struct flume_err *err);
  int (*del)(struct flume_log *log, struct flume_append *req, const int64_t *seqs, size_t count, struct flume_err *err);

  /* Plans a block that holds seq, which is <= since: it begins with seq or, when reverse, ends with it; about
   * max_bytes long. Deleted records are marked in it. Where there is no record with that seq, which is so in an offset
   * log alone, it is the next one that there is or, when reverse, the last one before it. FLUME_ENOENT: none is. */
  int (*plan)(struct flume_log *log, int64_t seq, bool reverse, size_t max_bytes, struct flume_block **block,
              struct flume_err *err);

  /* How many records up to and with seq are deleted. */
  int64_t (*deleted_count)(const struct flume_log *log, int64_t seq);
  /* The seq of the deletion with this ordinal, 0 <= ordinal < log->deletions.value. -1 when nobody knows any more: what
   * recorded it was damaged. */
  int64_t (*deletion_at)(const struct flume_log *log, int64_t ordinal);
  /* A loaded block that has the one deleted record alone, with the bytes it had; the caller unrefs it. FLUME_ENOENT
   * when the bytes are gone, or seq is not deleted; FLUME_ECORRUPT, FLUME_ENOMEM or an errno. */
  int (*read_deleted)(struct flume_log *log, int64_t seq, struct flume_block **block, struct flume_err *err);

  /* Whether a deleted record was taken out by a repair. NULL when that can't be. */
  bool (*is_lost)(const struct flume_log *log, int64_t seq);
  /* *digest is a checksum of the record with seq <= since, and of its seq: two logs that have the same one there have,
   * as good as certainly, the same record there. It stays what it is until a compaction takes out the bytes of a
   * deleted record: FLUME_EDELETED from then on. Else FLUME_ECORRUPT or an errno. */
  int (*digest)(struct flume_log *log, int64_t seq, uint32_t *digest, struct flume_err *err);

  /* Removes the bytes of deleted records. NULL when there is no such thing. */
  int (*compact)(struct flume_log *log, struct flume_compact *req, struct flume_err *err);
  /* Copies it to dir/log, and views_dir to dir/views. NULL when there is no such thing. */
  int (*backup)(struct flume_log *log, const char *dir, const char *views_dir, struct flume_backup *req,
                struct flume_err *err);
  /* Verifies every byte. NULL when there is no such thing. */
  int (*check)(struct flume_log *log, const char *views_dir, struct flume_check *req, struct flume_err *err);

  /* Ends what is pending, then calls flume__log_closed. */
  void (*close)(struct flume_log *log);
  void (*free)(struct flume_log *log);
};

struct flume_log {
  const struct flume_log_ops *ops;
  const struct flume_io *io;
  uv_loop_t *loop;
  struct flume_defer defer;
  struct flume_obv since;
  int64_t durable_seq; /* the last record that is known to be on disk; since, for a log in memory */
  /* How many deletions the log ever had, from its beginning on; it only grows. Each has the ordinal that this number
   * had before it. A seq that is deleted again adds none. */
  struct flume_obv deletions;
  enum flume_log_state state;
  uint32_t max_record_bytes;
  uint8_t id[16];
  char *dir;                   /* NULL for a log without one */
  struct flume_queue finished; /* struct flume_append whose callback is due */
  struct flume_deferred finish;
  enum flume_following following;
  struct flume_err following_why; /* see flume_log_following */
  struct flume_err failure;       /* code != 0: why the log takes no more appends */
  struct flume_deferred close_later;
  flume_log_close_cb close_cb;
  void *close_data;
};

/* Fills in the common part; the kind's own follows in the same struct. */
void flume__log_init(struct flume_log *log, const struct flume_log_ops *ops, const struct flume_io *io, uv_loop_t *loop,
                     uint32_t max_record_bytes);
/* Undoes flume__log_init for a log that never got open: closes the handles, then calls ops->free. */
void flume__log_abandon(struct flume_log *log);

/* The callback fires in the loop's next turn, or at the end of this one when now is called from the loop. */
void flume__append_finish(struct flume_log *log, struct flume_append *req, int status, int64_t seq);
/* Calls the callbacks that are due. Only from the loop. */
void flume__log_run_finished(struct flume_log *log);

/* The kind has nothing pending any more. */
void flume__log_closed(struct flume_log *log);

/* A loaded block around seq; see flume_log_ops.plan. The caller unrefs it. */
int flume_log_read(struct flume_log *log, int64_t seq, bool reverse, size_t max_bytes, struct flume_block **block,
                   struct flume_err *err);

/* The order of seqs, for qsort and bsearch: of int64_t. */
static inline int flume__compare_seqs(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

#endif
