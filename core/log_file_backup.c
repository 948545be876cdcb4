/* Copying a log that is in use, and the views beside it.
 *
 * Happy path: in DIR.partial the views are copied first; then, on the loop, it is noted how far the log goes, which is
 * further than any of them; then the segments are copied up to there, and the deletions as of then are written. All is
 * synced, and DIR.partial becomes DIR.
 *
 * The sealed segments are copied from their files as they are when it is their turn: a compaction may put others in
 * their place meanwhile, with the same records. The active one only grows.
 *
 * Failures: what was copied is removed; a crash leaves DIR.partial, which nobody takes for a backup. */
#include <stdio.h>
#include <string.h>

#include "err.h"
#include "log_file.h"
#include "view_files.h"

#define PIECE_BYTES (8u << 20)
#define PARTIAL ".partial"

enum stage { STAGE_BEGIN, STAGE_SEGMENTS, STAGE_END };

/* A segment to be copied. */
struct portion {
  int64_t first_seq;
  uint64_t bytes; /* from its start; for a sealed one a guess until it is opened */
};

struct backup_task {
  struct flume_task task;
  struct flume_backup *req;
  enum stage stage;
  char *dir;       /* the backup, in the end */
  char *partial;   /* until then */
  char *views_dir; /* or NULL */
  bool made;       /* there is a DIR.partial */
  struct portion *portions;
  size_t portions_count;
  struct flume_buf deleted; /* what goes into the file of that name; empty when nothing was deleted */
  size_t at;                /* the portion that is under way */
  int from;                 /* its files; -1 between two */
  int to;
  uint64_t off;
  uint64_t done_bytes; /* of the portions before */
  uint64_t total_bytes;
};

static int fail(struct backup_task *task, int rv, const char *path) {
  return flume_err_set(&task->task.err, rv, "backing up to %s: %s", path, flume_strerror(rv));
}

static int join(char *path, size_t size, const char *dir, const char *name) {
  int len = snprintf(path, size, "%s/%s", dir, name);
  return len > 0 && (size_t)len < size ? 0 : UV_ENAMETOOLONG;
}

/* --- On a worker thread -------------------------------------------------------------------------------------- */

static int any_name(void *arg, const char *name) {
  (void)arg;
  (void)name;
  return UV_ENOTEMPTY;
}

static int begin(struct backup_task *task) {
  const struct flume_io *io = task->task.log->log.io;
  char path[4096];
  int rv = io->list(io->ctx, task->dir, any_name, NULL);
  if (rv == UV_ENOTEMPTY) return flume_err_set(&task->task.err, UV_EEXIST, "%s is there, and not empty", task->dir);
  if (rv != 0 && rv != UV_ENOENT) return fail(task, rv, task->dir);
  rv = io->list(io->ctx, task->partial, any_name, NULL);
  if (rv == 0 || rv == UV_ENOTEMPTY || rv == UV_ENOTDIR) {
    return flume_err_set(&task->task.err, UV_EEXIST, "%s is in the way: a backup that was cut short has left it",
                         task->partial);
  }
  if (rv != UV_ENOENT) return fail(task, rv, task->partial);
  task->made = true;
  rv = join(path, sizeof path, task->partial, "log");
  if (rv == 0) rv = flume_io_mkdir_all(io, path);
  if (rv != 0) return fail(task, rv, task->partial);
  if (task->views_dir == NULL) return 0;
  rv = join(path, sizeof path, task->partial, "views");
  if (rv != 0) return fail(task, rv, task->partial);
  struct flume_copied copied = {.bytes = 0};
  rv = flume_views_copy(io, task->views_dir, path, flume__file_sharing(task->task.log), &copied, &task->task.err);
  task->req->bytes += copied.bytes;
  task->req->files += copied.files;
  return rv;
}

static int segment_path(char *path, size_t size, const char *dir, const char *below, int64_t first_seq) {
  int len = snprintf(path, size, "%s%s/%020lld" FLUME_SEGMENT_SUFFIX, dir, below, (long long)first_seq);
  return len > 0 && (size_t)len < size ? 0 : UV_ENAMETOOLONG;
}

static int open_portion(struct backup_task *task) {
  const struct flume_log *log = &task->task.log->log;
  const struct flume_io *io = log->io;
  struct portion *portion = &task->portions[task->at];
  char from[4096], to[4096];
  int rv = segment_path(from, sizeof from, log->dir, "", portion->first_seq);
  if (rv == 0) rv = segment_path(to, sizeof to, task->partial, "/log", portion->first_seq);
  if (rv != 0) return fail(task, rv, task->partial);
  task->from = io->open(io->ctx, from, FLUME_IO_READ);
  if (task->from < 0) return fail(task, task->from, from);
  task->to = io->open(io->ctx, to, FLUME_IO_WRITE | FLUME_IO_CREATE | FLUME_IO_EXCLUSIVE);
  if (task->to < 0) return fail(task, task->to, to);
  int64_t size = io->size(io->ctx, task->from);
  if (size < 0) return fail(task, (int)size, from);
  bool sealed = task->at + 1 < task->portions_count;
  if (sealed) { /* now it is known */
    task->total_bytes += (uint64_t)size - portion->bytes;
    portion->bytes = (uint64_t)size;
  }
  if ((uint64_t)size < portion->bytes) return fail(task, FLUME_ECORRUPT, from);
  task->off = 0;
  return 0;
}

static int close_portion(struct backup_task *task) {
  const struct flume_io *io = task->task.log->log.io;
  int rv = 0;
  if (task->to >= 0) rv = io->close(io->ctx, task->to);
  if (task->from >= 0) io->close(io->ctx, task->from);
  task->from = task->to = -1;
  return rv;
}

static int copy_piece(struct backup_task *task) {
  const struct flume_io *io = task->task.log->log.io;
  uint64_t left = task->portions[task->at].bytes - task->off;
  size_t bytes = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
  struct flume_buf piece;
  flume_buf_init(&piece, io);
  int rv = flume_buf_reserve(&piece, bytes);
  if (rv == 0) rv = flume_io_read_full(io, task->from, piece.data, bytes, task->off);
  if (rv == 0) rv = flume_io_write_full(io, task->to, piece.data, bytes, task->off);
  flume_buf_fini(&piece);
  task->off += bytes;
  return rv;
}

/* 1 when there is more to copy. */
static int copy_segments(struct backup_task *task) {
  const struct flume_io *io = task->task.log->log.io;
  int rv = task->from < 0 ? open_portion(task) : 0;
  if (rv != 0) return rv;
  rv = copy_piece(task);
  if (rv != 0) return fail(task, rv, task->partial);
  const struct portion *portion = &task->portions[task->at];
  if (task->off < portion->bytes) return 1;
  rv = io->sync(io->ctx, task->to);
  if (rv == 0) rv = close_portion(task);
  if (rv != 0) return fail(task, rv, task->partial);
  task->done_bytes += portion->bytes;
  task->off = 0;
  task->req->bytes += portion->bytes;
  task->req->files++;
  return ++task->at < task->portions_count;
}

static int write_deleted(struct backup_task *task) {
  const struct flume_io *io = task->task.log->log.io;
  char path[4096];
  if (task->deleted.len == 0) return 0;
  int rv = join(path, sizeof path, task->partial, "log/deleted");
  if (rv != 0) return rv;
  int file = io->open(io->ctx, path, FLUME_IO_WRITE | FLUME_IO_CREATE | FLUME_IO_EXCLUSIVE);
  if (file < 0) return file;
  rv = flume_io_write_full(io, file, task->deleted.data, task->deleted.len, 0);
  if (rv == 0) rv = io->sync(io->ctx, file);
  io->close(io->ctx, file);
  task->req->bytes += task->deleted.len;
  task->req->files++;
  return rv;
}

/* The directory that the backup is in. */
static void parent_of(const char *dir, char *parent, size_t size) {
  const char *slash = strrchr(dir, '/');
  if (slash == NULL) snprintf(parent, size, ".");
  else snprintf(parent, size, "%.*s", slash == dir ? 1 : (int)(slash - dir), dir);
}

static int finish(struct backup_task *task) {
  const struct flume_io *io = task->task.log->log.io;
  char path[4096], parent[4096];
  parent_of(task->dir, parent, sizeof parent);
  int rv = write_deleted(task);
  if (rv == 0) rv = join(path, sizeof path, task->partial, "log");
  if (rv == 0) rv = io->sync_dir(io->ctx, path);
  if (rv == 0) rv = io->sync_dir(io->ctx, task->partial);
  if (rv == 0) rv = io->rename(io->ctx, task->partial, task->dir);
  if (rv != 0) return fail(task, rv, task->partial);
  task->made = false;
  rv = io->sync_dir(io->ctx, parent);
  return rv == 0 ? 0 : fail(task, rv, task->dir);
}

static int run(struct flume_task *base) {
  struct backup_task *task = (struct backup_task *)base;
  int rv = 0;
  switch (task->stage) {
    case STAGE_BEGIN: rv = begin(task); break;
    case STAGE_SEGMENTS:
      rv = copy_segments(task);
      if (rv == 0) task->stage = STAGE_END;
      break;
    case STAGE_END: return finish(task);
  }
  return rv == 0 ? 1 : rv;
}

/* --- On the loop --------------------------------------------------------------------------------------------- */

/* How far the log goes now. */
static int take_stock(struct backup_task *task) {
  struct log_file *log = task->task.log;
  const struct flume_segment *active = flume__file_active(log);
  task->portions = flume_io_alloc(log->log.io, log->segments_count * sizeof *task->portions);
  if (task->portions == NULL) return flume_err_nomem(&task->task.err);
  task->portions_count = log->segments_count;
  for (size_t i = 0; i < task->portions_count; i++) {
    uint64_t bytes = log->segment_bytes;
    if (log->segments[i] == active) {
      bool empty = active->next_seq == active->first_seq;
      bytes = empty ? FLUME_SEGMENT_HEADER_BYTES : active->data_end_off;
    }
    task->portions[i] = (struct portion){.first_seq = log->segments[i]->first_seq, .bytes = bytes};
    task->total_bytes += bytes;
  }
  task->req->since = log->log.since.value;
  if (log->deletions.deleted.count == 0) return 0;
  const struct flume_io *io = log->log.io;
  int rv = flume_deletions_write(&log->deletions, &task->deleted, io->now_ms(io->ctx), log->log.id);
  return rv == 0 ? 0 : flume_err_nomem(&task->task.err);
}

static int turn(struct flume_task *base) {
  struct backup_task *task = (struct backup_task *)base;
  if (task->stage == STAGE_BEGIN) {
    task->stage = STAGE_SEGMENTS;
    int rv = take_stock(task);
    if (rv != 0) return rv;
  }
  if (task->req->progress == NULL) return 0;
  uint64_t done_bytes = task->done_bytes + task->off;
  if (task->stage == STAGE_END || done_bytes > task->total_bytes) done_bytes = task->total_bytes;
  task->req->progress(task->req, done_bytes, task->total_bytes);
  return 0;
}

static void task_free(struct backup_task *task) {
  const struct flume_io *io = task->task.log->log.io;
  flume_buf_fini(&task->deleted);
  flume_io_free(io, task->portions);
  flume_io_free(io, task->dir);
  flume_io_free(io, task->partial);
  flume_io_free(io, task->views_dir);
  flume_io_free(io, task);
}

static void end(struct flume_task *base) {
  struct backup_task *task = (struct backup_task *)base;
  struct flume_backup *req = task->req;
  int status = base->status;
  struct flume_err err = base->err;
  err.code = status;
  close_portion(task);
  if (task->made) flume_io_remove_all(base->log->log.io, task->partial);
  task_free(task);
  req->cb(req, status, status == 0 ? NULL : &err);
}

/* text without slashes at its end, and more. */
static char *copy_text(const struct flume_io *io, const char *text, const char *more) {
  size_t len = strlen(text), more_len = strlen(more);
  while (len > 1 && text[len - 1] == '/') len--;
  char *copy = flume_io_alloc(io, len + more_len + 1);
  if (copy != NULL) snprintf(copy, len + more_len + 1, "%.*s%s", (int)len, text, more);
  return copy;
}

int flume__file_backup(struct flume_log *base, const char *dir, const char *views_dir, struct flume_backup *req,
                       struct flume_err *err) {
  struct log_file *log = (struct log_file *)base;
  if (log->segments_count == 0) return flume_err_set(err, FLUME_ECORRUPT, "%s: nothing of it is good", base->dir);
  struct backup_task *task = flume_io_zalloc(base->io, sizeof *task);
  if (task == NULL) return flume_err_nomem(err);
  task->task.log = log;
  task->task.run = run;
  task->task.turn = turn;
  task->task.end = end;
  task->req = req;
  task->from = task->to = -1;
  flume_buf_init(&task->deleted, base->io);
  task->dir = copy_text(base->io, dir, "");
  task->partial = copy_text(base->io, dir, PARTIAL);
  task->views_dir = views_dir != NULL ? copy_text(base->io, views_dir, "") : NULL;
  if (task->dir == NULL || task->partial == NULL || (views_dir != NULL && task->views_dir == NULL)) {
    task_free(task);
    return flume_err_nomem(err);
  }
  flume__task_init(&task->task, log);
  flume__task_go(&task->task);
  return 0;
}
