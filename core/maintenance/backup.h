/* Copying a log that is in use, and the views beside it, to a new directory: what the kinds of logs have in common. */
#ifndef FLUME_BACKUP_H
#define FLUME_BACKUP_H

#include "base/buf.h"
#include "log/task.h"

struct flume_backup_task;

/* A file to be copied. */
struct flume_portion {
  int64_t first_seq;
  uint64_t bytes; /* from its start */
  bool whole;     /* as many bytes as it has when it is its turn, and bytes is a guess until then */
};

struct flume_backup_kind {
  /* On the loop: how far the log goes now; sets the portions (flume_io_alloc) and req->since. 0 or an error, with err. */
  int (*take_stock)(struct flume_backup_task *task);
  /* The name of a portion: *from, in the directory from_dir, becomes *to, in the copy. Each has room for size bytes. */
  int (*name)(const struct flume_backup_task *task, const struct flume_portion *portion, char *from, char *to,
              size_t size);
  /* On a worker thread, when the portions are there: the rest. 0 or an error, with err. */
  int (*finish)(struct flume_backup_task *task);
  /* Frees the kind's own. */
  void (*fini)(struct flume_backup_task *task);
};

/* The kind's own may follow in the same struct. */
struct flume_backup_task {
  struct flume_task task;
  const struct flume_backup_kind *kind;
  struct flume_backup *req;
  struct flume_portion *portions;
  size_t portions_count;
  char log_dir[256]; /* of the log's own files, in the copy; the views are in the same, or beside it */
  char views_name[300];
  /* private */
  int stage;
  char *dir;       /* the backup, in the end */
  char *partial;   /* until then */
  char *views_dir; /* or NULL */
  bool made;       /* there is a DIR.partial */
  size_t at;       /* the portion that is under way */
  int from;        /* its files; -1 between two */
  int to;
  uint64_t off;
  uint64_t done_bytes; /* of the portions before */
  uint64_t total_bytes;
};

/* Begins. The task is zeroed but for the kind's own, and is freed when it has ended, or now if this fails. log_dir and
 * views_name: where the log's own files and the views go. FLUME_ENOMEM. */
int flume_backup_go(struct flume_backup_task *task, struct flume_tasks *tasks, const char *dir, const char *views_dir,
                    struct flume_err *err);

/* For finish: makes a file of the copy, synced. Nothing when there are no bytes. 0 or an error, with err. */
int flume_backup_put(struct flume_backup_task *task, const char *name, const struct flume_buf *bytes);
/* The path of a file of the copy. UV_ENAMETOOLONG. */
int flume_backup_path(const struct flume_backup_task *task, const char *name, char *path, size_t size);
/* rv, with a text in err. */
int flume_backup_fail(struct flume_backup_task *task, int rv, const char *path);

#endif
