/* An offset log's part of a backup (log/log_copy.h): DIR/NAME is the file, and DIR/NAME.flume what stands beside it.
 *
 * What is deleted while the file is copied may come into the copy in part. Its seq is in the file "deleted" before that
 * begins: so that is read when the copy is there, and what it names is overwritten in the copy too. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/path.h"
#include "log/log_copy.h"
#include "log/offset/offset_log.h"

#define FILE_NAME_BYTES 240

struct offset_backup {
  struct flume_log_copy base;
  uint64_t end_off; /* of the copy */
  size_t deleted;   /* how many deletions were done when that was noted */
  char name[FILE_NAME_BYTES];
};

static struct offset_log *log_of(const struct flume_log_copy *copy) {
  return (struct offset_log *)copy->log;
}

static int name(const struct flume_log_copy *copy, const struct flume_portion *portion, char *from, char *to,
                size_t size) {
  const char *path = log_of(copy)->file->path;
  (void)portion; /* there is one */
  if (strlen(path) >= size) return UV_ENAMETOOLONG;
  strcpy(from, path);
  strcpy(to, ((const struct offset_backup *)copy)->name);
  return 0;
}

static int take_stock(struct flume_log_copy *copy) {
  const struct offset_log *log = log_of(copy);
  struct offset_backup *backup = (struct offset_backup *)copy;
  copy->portions = flume_io_alloc(log->log.io, sizeof *copy->portions);
  if (copy->portions == NULL) return flume_err_nomem(&copy->err);
  copy->portions_count = 1;
  copy->portions[0] = (struct flume_portion){.bytes = log->data_end_off};
  copy->since = log->log.since.value;
  backup->end_off = log->data_end_off;
  backup->deleted = log->deleted.seqs.deleted.count;
  return 0;
}

/* --- On a worker thread -------------------------------------------------------------------------------------- */

/* Those of the set that are of records in the copy, and no fewer than kept. Where another stood, its ordinal is left. */
static int take_part(const struct flume_deletions *all, size_t kept, uint64_t end_off, struct flume_deletions *part) {
  size_t count = all->deleted.count;
  while (count > kept && (uint64_t)all->deleted.order[count - 1] >= end_off) count--;
  if (flume_tombstones_reserve(&part->deleted, count) != 0) return FLUME_ENOMEM;
  if (flume_tombstones_reserve(&part->lost, all->lost.count) != 0) return FLUME_ENOMEM;
  for (size_t i = 0; i < count; i++) {
    int64_t seq = all->deleted.order[i];
    if (seq < 0 || (uint64_t)seq >= end_off) flume_tombstones_add_unknown(&part->deleted);
    else flume_tombstones_add(&part->deleted, seq);
    if (seq >= 0 && flume_tombstones_has(&all->lost, seq)) flume_tombstones_add(&part->lost, seq);
  }
  return 0;
}

/* A set of the log as its file has it now, without what is behind the end of the copy; it is put into the copy. The
 * first ones, kept of them, were there when the copy was begun: views count them. */
static int copy_set(struct flume_log_copy *copy, const char *set_name, size_t kept, struct flume_deletions *part) {
  struct offset_log *log = log_of(copy);
  const struct offset_backup *backup = (const struct offset_backup *)copy;
  const struct flume_io *io = log->log.io;
  char to[FILE_NAME_BYTES + 32];
  struct flume_offset_set set;
  struct flume_buf bytes;
  snprintf(to, sizeof to, "%s.flume/%s", backup->name, set_name);
  flume__offset_set_init(&set, io, set_name);
  flume_buf_init(&bytes, io);
  int rv = flume__offset_set_load(log, &set, UINT64_MAX, &copy->err);
  if (rv == 0 && set.seqs.deleted.count > 0) {
    rv = take_part(&set.seqs, kept, backup->end_off, part);
    if (rv == 0) rv = flume_deletions_write(part, &bytes, io->now_ms(io->ctx), log->log.id);
    rv = rv == 0 ? flume__copy_put(copy, to, &bytes) : flume_err_nomem(&copy->err);
  }
  flume_buf_fini(&bytes);
  flume__offset_set_fini(&set, io);
  return rv;
}

static int zero_late(struct flume_log_copy *copy, const struct flume_deletions *deleted) {
  const struct offset_backup *backup = (const struct offset_backup *)copy;
  const struct flume_io *io = log_of(copy)->log.io;
  char path[FLUME_PATH_MAX];
  if (deleted->deleted.count <= backup->deleted) return 0;
  int rv = flume__copy_path(copy, backup->name, path, sizeof path);
  int file = rv == 0 ? io->open(io->ctx, path, FLUME_IO_WRITE) : rv;
  if (file < 0) return flume__copy_fail(copy, file, path);
  for (size_t i = backup->deleted; i < deleted->deleted.count && rv == 0; i++) {
    int64_t seq = deleted->deleted.order[i];
    if (seq >= 0) rv = flume__offset_zero_in(io, file, (uint64_t)seq);
  }
  if (rv == 0) rv = io->sync(io->ctx, file);
  io->close(io->ctx, file);
  return rv == 0 ? 0 : flume__copy_fail(copy, rv, path);
}

static int put_superblock(struct flume_log_copy *copy) {
  const struct offset_backup *backup = (const struct offset_backup *)copy;
  const struct offset_log *log = log_of(copy);
  struct flume_offset_superblock superblock = {.durable_off = backup->end_off, .limit_off = backup->end_off};
  char to[FILE_NAME_BYTES + 32];
  struct flume_buf bytes;
  snprintf(to, sizeof to, "%s.flume/note", backup->name);
  flume_buf_init(&bytes, log->log.io);
  int rv = flume__offset_superblock_put(log, &superblock, &bytes);
  rv = rv == 0 ? flume__copy_put(copy, to, &bytes) : flume_err_nomem(&copy->err);
  flume_buf_fini(&bytes);
  return rv;
}

/* A file that no writer of flume's has had open has nothing beside it, and neither has the copy. */
static int finish(struct flume_log_copy *copy) {
  const struct flume_io *io = log_of(copy)->log.io;
  struct flume_deletions zeros, deleted;
  if (log_of(copy)->superblock_bits == 0) return 0;
  flume_deletions_init(&zeros, io);
  flume_deletions_init(&deleted, io);
  int rv = copy_set(copy, "zeros", 0, &zeros);
  if (rv == 0) rv = copy_set(copy, "deleted", ((const struct offset_backup *)copy)->deleted, &deleted);
  if (rv == 0) rv = zero_late(copy, &deleted);
  if (rv == 0) rv = put_superblock(copy);
  flume_deletions_fini(&deleted);
  flume_deletions_fini(&zeros);
  return rv;
}

static void fini(struct flume_log_copy *copy) {
  (void)copy;
}

static const struct flume_log_copy_ops offset_ops = {
    .take_stock = take_stock, .name = name, .finish = finish, .fini = fini};

int flume__offset_copy(struct flume_log *base, struct flume_log_copy **out, struct flume_err *err) {
  struct offset_log *log = (struct offset_log *)base;
  const char *own_name = flume__offset_name(log);
  if (log->damaged) {
    return flume_err_set(err, FLUME_ECORRUPT, "%s is damaged, and a copy would end there; check --repair mends it",
                         log->file->path);
  }
  if (strlen(own_name) >= FILE_NAME_BYTES) return flume_err_set(err, UV_ENAMETOOLONG, "%s", log->file->path);
  struct offset_backup *task = flume_io_zalloc(base->io, sizeof *task);
  if (task == NULL) return flume_err_nomem(err);
  task->base.ops = &offset_ops;
  task->base.log = base;
  strcpy(task->name, own_name);
  bool beside = log->superblock_bits != 0;
  snprintf(task->base.log_dir, sizeof task->base.log_dir, "%s%s", beside ? own_name : "", beside ? ".flume" : "");
  if (beside) snprintf(task->base.views_name, sizeof task->base.views_name, "%s.flume/views", own_name);
  *out = &task->base;
  return 0;
}
