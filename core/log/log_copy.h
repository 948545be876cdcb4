/* Copying the files of a log that is in use to a new directory, in steps: what the kinds of logs have in common.
 *
 * Happy path: the log makes a copy (flume_log_ops.copy). On the loop, taking stock notes how far the log goes. Then, on a
 * worker thread, the portions are copied up to there, and what else the kind of log has is written. All is synced.
 *
 * Failures: an error ends the copy, and what is in the directory is the caller's to remove. */
#ifndef FLUME_LOG_COPY_H
#define FLUME_LOG_COPY_H

#include "base/buf.h"
#include "log/log.h"

/* A file to be copied. */
struct flume_portion {
  int64_t first_seq;
  uint64_t bytes; /* from its start */
  bool whole;     /* as many bytes as it has when it is its turn, and bytes is a guess until then */
};

struct flume_log_copy_ops {
  /* On the loop: how far the log goes now; sets the portions (flume_io_alloc) and since. 0 or an error, with err. */
  int (*take_stock)(struct flume_log_copy *copy);
  /* The path of a portion's file, from, and its name in the copy, to. Each has room for size bytes. UV_ENAMETOOLONG. */
  int (*name)(const struct flume_log_copy *copy, const struct flume_portion *portion, char *from, char *to,
              size_t size);
  /* On a worker thread, when the portions are there: the rest. 0 or an error, with err. */
  int (*finish)(struct flume_log_copy *copy);
  /* Frees the kind's own. */
  void (*fini)(struct flume_log_copy *copy);
};

/* Embedded first in a struct of the kind's own, from flume_io_zalloc. */
struct flume_log_copy {
  const struct flume_log_copy_ops *ops;
  struct flume_log *log;
  char log_dir[256];    /* of the log's own files, in the copy: "" for the copy's directory itself */
  char views_name[300]; /* of the directory for what views keep; "" when there is no place for it */
  struct flume_portion *portions;
  size_t portions_count;
  int64_t since;  /* of the copy */
  uint64_t bytes; /* that were copied */
  uint64_t files;
  struct flume_err err;
  /* private */
  const char *dir; /* borrowed */
  size_t at;       /* the portion that is under way */
  int from;        /* its files; -1 between two */
  int to;
  uint64_t off;
  uint64_t done_bytes; /* of the portions before */
  uint64_t total_bytes;
};

/* The copy goes to directory dir, which is borrowed and made by the caller. */
void flume__copy_init(struct flume_log_copy *copy, const char *dir);
/* Closes what is open, and frees the copy. */
void flume__copy_free(struct flume_log_copy *copy);
/* Loop thread: how far the log goes now. 0 or an error, with err. */
int flume__copy_take_stock(struct flume_log_copy *copy);
/* Any thread, one at a time: 1 when there is more to do, 0 when all is there and synced; or an error, with err. */
int flume__copy_step(struct flume_log_copy *copy);
/* How much is done, of how much. While no step is under way. */
void flume__copy_measure(const struct flume_log_copy *copy, uint64_t *done_bytes, uint64_t *total_bytes);

/* For finish: makes a file of the copy, synced. Nothing when there are no bytes. 0 or an error, with err. */
int flume__copy_put(struct flume_log_copy *copy, const char *name, const struct flume_buf *bytes);
/* The path of a file of the copy. UV_ENAMETOOLONG. */
int flume__copy_path(const struct flume_log_copy *copy, const char *name, char *path, size_t size);
/* rv, with a text in err. */
int flume__copy_fail(struct flume_log_copy *copy, int rv, const char *path);

#endif
