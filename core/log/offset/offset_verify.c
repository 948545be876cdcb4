/* Verifying an offset log. There are no checksums: the framing is verified, from the first byte to the last. Behind damage
 * it goes on with the next good frame. What is beside the file is read before its length is looked at, as it speaks of what is in
 * the file already. */
#include "log/offset/offset_verify.h"

#include "base/err.h"

void flume_offset_verify_init(struct flume_offset_verify *verify, struct offset_log *log, struct flume_report *report) {
  const struct flume_io *io = log->log.io;
  *verify = (struct flume_offset_verify){.log = log, .report = report, .live_off = UINT64_MAX};
  flume__offset_set_init(&verify->deleted, io, "deleted");
  flume__offset_set_init(&verify->zeros, io, "zeros");
  flume_window_init(&verify->window, io, log->file->file, 0);
  flume_buf_init(&verify->gaps, io);
  flume_buf_init(&verify->strangers, io);
}

void flume_offset_verify_fini(struct flume_offset_verify *verify) {
  const struct flume_io *io = verify->log->log.io;
  flume__offset_set_fini(&verify->deleted, io);
  flume__offset_set_fini(&verify->zeros, io);
  flume_io_free(io, verify->named);
  flume_window_fini(&verify->window);
  flume_buf_fini(&verify->gaps);
  flume_buf_fini(&verify->strangers);
}

static int add(struct flume_offset_verify *verify, enum flume_finding_kind kind, const char *file, uint64_t off,
               int64_t seq, const char *text) {
  return flume_report_add(verify->report, kind, file, off, seq, "%s", text);
}

/* --- What is beside the file ---------------------------------------------------------------------------------- */

/* Every good frame of a set, and a finding for each place that is none. */
static int salvage(struct flume_offset_verify *verify, struct flume_offset_set *set, bool *damaged) {
  struct offset_log *log = verify->log;
  struct flume_buf bytes;
  uint64_t off = 0, bad_off = 0;
  flume_buf_init(&bytes, log->log.io);
  int rv = flume__offset_set_read(log, set, &bytes);
  while (rv == 0 && (rv = flume_deletions_salvage(&set->seqs, &bytes, log->log.id, &off, &bad_off)) == FLUME_ECORRUPT) {
    *damaged = true;
    rv = add(verify, FLUME_FINDING_DAMAGE, set->name, bad_off, -1, "bad frame");
  }
  flume_buf_fini(&bytes);
  return rv == UV_ENOENT ? 0 : rv;
}

static int list_named(struct flume_offset_verify *verify) {
  const struct flume_tombstones *deleted = &verify->deleted.seqs.deleted;
  verify->named_count = (size_t)flume_tombstones_count(deleted, INT64_MAX - 1);
  if (verify->named_count == 0) return 0;
  verify->named = flume_io_alloc(verify->log->log.io, verify->named_count * sizeof *verify->named);
  if (verify->named == NULL) return FLUME_ENOMEM;
  flume_tombstones_copy(deleted, verify->named);
  return 0;
}

int flume_offset_verify_begin(struct flume_offset_verify *verify, struct flume_err *err) {
  struct offset_log *log = verify->log;
  const struct flume_io *io = log->log.io;
  struct flume_offset_superblock_read read;
  int rv = flume__offset_superblock_read(log, &read, err);
  if (rv == FLUME_ECORRUPT) {
    verify->superblock_damaged = true;
    rv = add(verify, FLUME_FINDING_DAMAGE, "note", 0, -1, "damaged, both times that it stands there");
  } else if (rv == 0 && read.bits != 0) {
    verify->superblock = read.superblock;
    rv = salvage(verify, &verify->zeros, &verify->zeros_damaged);
    if (rv == 0) rv = salvage(verify, &verify->deleted, &verify->deleted_damaged);
    if (rv == 0) rv = list_named(verify);
    if (rv != 0) flume_err_set(err, rv, "reading %s: %s", log->log.dir, flume_strerror(rv));
  }
  if (rv != 0) return rv;
  int64_t size = io->size(io->ctx, log->file->file);
  if (size < 0) return flume_err_set(err, (int)size, "reading %s: %s", log->file->path, flume_strerror((int)size));
  verify->window.file_bytes = (uint64_t)size < verify->live_off ? (uint64_t)size : verify->live_off;
  return 0;
}

/* The next one that is deleted before off. */
static bool next_named(struct flume_offset_verify *verify, uint64_t off, int64_t *seq) {
  if (verify->named_at == verify->named_count || (uint64_t)verify->named[verify->named_at] >= off) return false;
  *seq = verify->named[verify->named_at++];
  return true;
}

/* What is deleted before off, of which no record was found. */
static int check_named(struct flume_offset_verify *verify, uint64_t off) {
  int64_t seq;
  int rv = 0;
  while (rv == 0 && next_named(verify, off, &seq)) {
    rv = flume_buf_append(&verify->strangers, &seq, sizeof seq);
    if (rv == 0) {
      rv = add(verify, FLUME_FINDING_DAMAGE, "deleted", 0, seq, "is deleted, but no record begins there");
    }
  }
  return rv;
}

/* --- The file ------------------------------------------------------------------------------------------------- */

static int take_gap(struct flume_offset_verify *verify, uint64_t off, uint64_t end_off, const char *why) {
  struct flume_offset_gap gap = {.off = off, .end_off = end_off};
  int64_t seq;
  int rv = 0;
  while (rv == 0 && next_named(verify, end_off, &seq)) {
    if ((uint64_t)seq != off) rv = flume_buf_append(&verify->strangers, &seq, sizeof seq);
  }
  if (rv == 0) rv = flume_buf_append(&verify->gaps, &gap, sizeof gap);
  return rv == 0 ? add(verify, FLUME_FINDING_DAMAGE, flume__offset_name(verify->log), off, (int64_t)off, why) : rv;
}

/* How far there have to be records. */
static uint64_t promised_off(const struct flume_offset_verify *verify) {
  return verify->live_off < UINT64_MAX ? verify->live_off : verify->superblock.durable_off;
}

/* Whether what begins at verify->off may have been torn by a crash, or is being written. */
static bool may_be_torn(const struct flume_offset_verify *verify) {
  const struct flume_offset_superblock *superblock = &verify->superblock;
  return verify->off >= promised_off(verify) && superblock->open && verify->window.file_bytes <= superblock->limit_off;
}

/* Reports what is no frame at verify->off, and goes on behind it. */
static int pass_over(struct flume_offset_verify *verify, const char *why) {
  struct flume_offset_record next;
  uint64_t off = verify->off, file_bytes = verify->window.file_bytes;
  int rv = flume_offset_find(&verify->window, off, verify->log->file->bits, &next);
  if (rv < 0) return rv;
  bool torn = may_be_torn(verify) || (rv == 0 && off >= promised_off(verify));
  verify->off = rv == 1 && !torn ? next.off : file_bytes;
  if (torn) return add(verify, FLUME_FINDING_NOTE, flume__offset_name(verify->log), off, (int64_t)off, "a torn tail");
  verify->at_end = rv == 0;
  return take_gap(verify, off, rv == 1 ? next.off : promised_off(verify), why);
}

/* The file was longer. */
static int check_end(struct flume_offset_verify *verify) {
  uint64_t file_bytes = verify->window.file_bytes, end_off = promised_off(verify);
  if (file_bytes >= end_off || verify->at_end) return 0;
  verify->at_end = true;
  return take_gap(verify, file_bytes, end_off, "the file ends here, and was longer");
}

static int step(struct flume_offset_verify *verify, uint64_t max_bytes) {
  uint64_t until = verify->off + max_bytes;
  while (verify->off < verify->window.file_bytes && verify->off < until) {
    struct flume_offset_record record;
    const char *why = "";
    int rv = flume_offset_read(&verify->window, verify->off, verify->log->file->bits, &record, &why);
    if (rv == 1) {
      verify->report->records++;
      verify->off = record.end_off;
      rv = check_named(verify, record.off);
      bool named = verify->named_at < verify->named_count && (uint64_t)verify->named[verify->named_at] == record.off;
      if (named) verify->named_at++;
    } else if (rv == 0) {
      rv = pass_over(verify, why);
    }
    if (rv != 0) return rv;
  }
  verify->report->bytes = verify->off;
  if (verify->off < verify->window.file_bytes) return 1;
  int rv = check_end(verify);
  return rv == 0 ? check_named(verify, verify->live_off) : rv;
}

int flume_offset_verify_step(struct flume_offset_verify *verify, uint64_t max_bytes, struct flume_err *err) {
  int rv = step(verify, max_bytes);
  if (rv >= 0) return rv;
  return flume_err_set(err, rv, "reading %s: %s", verify->log->file->path, flume_strerror(rv));
}
