/* Checking the file of an offset log that is open, beside its use: in pieces on a worker thread, each followed by a look
 * at it on the loop.
 *
 * There are no checksums: what is verified is the framing, from the first byte to the last. Behind damage it goes on with
 * the next frame that is one. */
#include <stdio.h>
#include <string.h>

#include "err.h"
#include "log_offset.h"
#include "report.h"
#include "view_files.h"

#define PIECE_BYTES (8u << 20)

struct flume_offset_check {
  struct log_offset *log;
  struct flume_check *req;
  uv_work_t work;
  char *views_dir; /* to be checked before; then NULL */
  struct flume_window window;
  uint64_t off;     /* of what comes next */
  const char *name; /* of the file, without its directory */
  bool live;        /* a writer's: what is behind the end is not to be */
  int status;       /* 1: there is more */
  struct flume_err err;
};

static int add(struct flume_offset_check *check, enum flume_finding_kind kind, uint64_t off, const char *text) {
  return flume_report_add(&check->req->report, kind, check->name, off, (int64_t)off, "%s", text);
}

/* Reports what is no frame at check->off, and goes on behind it. */
static int pass_over(struct flume_offset_check *check, const char *why) {
  struct flume_offset_record next;
  enum flume_offset_bits bits = check->log->file->bits;
  int rv = flume_offset_find(&check->window, check->off, bits, &next);
  if (rv < 0) return rv;
  bool is_tail = rv == 0 && !check->live;
  uint64_t off = check->off;
  check->off = rv == 1 ? next.off : check->window.file_bytes;
  if (is_tail) return add(check, FLUME_FINDING_NOTE, off, "a torn tail");
  return add(check, FLUME_FINDING_DAMAGE, off, why);
}

static int check_records(struct flume_offset_check *check) {
  struct flume_report *report = &check->req->report;
  uint64_t until = check->off + PIECE_BYTES;
  while (check->off < check->window.file_bytes && check->off < until) {
    struct flume_offset_record record;
    const char *why = "";
    int rv = flume_offset_read(&check->window, check->off, check->log->file->bits, &record, &why);
    if (rv == 0) {
      rv = pass_over(check, why);
      if (rv != 0) return rv;
      continue;
    }
    if (rv < 0) return rv;
    report->records++;
    check->off = record.end_off;
  }
  report->bytes = check->off;
  return check->off < check->window.file_bytes;
}

static int run(struct flume_offset_check *check) {
  const struct flume_io *io = check->log->log.io;
  if (check->views_dir != NULL) {
    enum flume_store_sharing sharing = check->live ? FLUME_STORE_RESTS : FLUME_STORE_SHARED;
    int rv = flume_views_check(io, check->views_dir, sharing, &check->req->report, &check->err);
    flume_io_free(io, check->views_dir);
    check->views_dir = NULL;
    return rv == 0 ? 1 : rv;
  }
  int rv = check_records(check);
  if (rv >= 0) return rv;
  return flume_err_set(&check->err, rv, "reading %s: %s", check->log->file->path, flume_strerror(rv));
}

static void end(struct flume_offset_check *check) {
  struct log_offset *log = check->log;
  struct flume_check *req = check->req;
  int status = check->status;
  struct flume_err err = check->err;
  err.code = status;
  req->report.deleted = flume__offset_gone(log)->count;
  req->report.segments = 1;
  flume_window_fini(&check->window);
  flume_io_free(log->log.io, check->views_dir);
  flume_io_free(log->log.io, check);
  log->checking = NULL;
  if (status != 0) flume_report_fini(&req->report);
  req->cb(req, status, status == 0 ? NULL : &err);
  flume__offset_drained(log);
}

static void on_work(uv_work_t *work) {
  struct flume_offset_check *check = work->data;
  check->status = run(check);
}

static void on_work_done(uv_work_t *work, int status) {
  struct flume_offset_check *check = work->data;
  (void)status; /* the work is never cancelled */
  if (check->status >= 0 && check->req->progress != NULL) {
    check->req->progress(check->req, check->off, check->window.file_bytes);
  }
  if (check->status == 1 && check->log->draining) {
    check->status = flume_err_set(&check->err, FLUME_ECLOSED, "the log was closed");
  }
  if (check->status == 1) uv_queue_work(check->log->log.loop, work, on_work, on_work_done);
  else end(check);
}

static const char *name_of(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash != NULL ? slash + 1 : path;
}

static char *copy_text(const struct flume_io *io, const char *text) {
  char *copy = flume_io_alloc(io, strlen(text) + 1);
  if (copy != NULL) strcpy(copy, text);
  return copy;
}

/* How much there is to check: of a writer what it knows to be there; else the file as it is. */
static int measure(const struct log_offset *log, uint64_t *bytes, struct flume_err *err) {
  *bytes = log->data_end_off;
  if (!log->readonly) return 0;
  int64_t size = log->log.io->size(log->log.io->ctx, log->file->file);
  if (size < 0) {
    return flume_err_set(err, (int)size, "reading %s: %s", log->file->path, flume_strerror((int)size));
  }
  *bytes = (uint64_t)size;
  return 0;
}

int flume__offset_check(struct flume_log *base, const char *views_dir, struct flume_check *req, struct flume_err *err) {
  struct log_offset *log = (struct log_offset *)base;
  uint64_t bytes;
  if (log->checking != NULL) return flume_err_set(err, FLUME_EBUSY, "the log is being checked already");
  int rv = measure(log, &bytes, err);
  if (rv != 0) return rv;
  struct flume_offset_check *check = flume_io_zalloc(base->io, sizeof *check);
  if (check == NULL) return flume_err_nomem(err);
  if (views_dir != NULL && (check->views_dir = copy_text(base->io, views_dir)) == NULL) {
    flume_io_free(base->io, check);
    return flume_err_nomem(err);
  }
  check->log = log;
  check->req = req;
  check->work.data = check;
  check->live = !log->readonly;
  check->name = name_of(log->file->path);
  flume_window_init(&check->window, base->io, log->file->file, bytes);
  log->checking = check;
  uv_queue_work(base->loop, &check->work, on_work, on_work_done); /* fails for want of a function alone */
  return 0;
}
