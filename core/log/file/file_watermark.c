/* The writer's note (note.h), while the log is open.
 *
 * It is written after each commit, when that is as safe as the sync mode makes it and before anyone is told: it only says
 * what is true already. In the modes in which an append is acknowledged when it is written there is nothing to say of each
 * one, so the note says that all whole frames count, until the log is closed in order.
 *
 * Whoever opens the log for writing next finds there what must be in the files: so a file that was cut between two frames,
 * where no frame is bad, is found to be damaged all the same.
 *
 * A note that is being overwritten while it is read has a wrong checksum; the event of that write is still to come. */
#include "base/err.h"
#include "log/file/file_log.h"

int flume__note_write(struct log_file *log) {
  return flume_note_write(log->log.io, log->lock, log->log.id, &log->note);
}

int flume__note_begin(struct log_file *log, struct flume_err *err) {
  int rv = uv_random(NULL, NULL, &log->note.writer, sizeof log->note.writer, 0, NULL);
  log->note.since = log->sync == FLUME_SYNC_ALWAYS ? log->log.since.value : FLUME_SEQ_MAX;
  log->note.deleted_end_off = log->deletions.end_off;
  if (rv == 0) rv = flume__note_write(log);
  return rv == 0 ? 0 : flume_err_set(err, rv, "writing %s/lock: %s", log->log.dir, flume_strerror(rv));
}

int flume__note_check(const struct log_file *log, struct flume_err *err) {
  struct flume_note note;
  int rv = flume_note_read(log->log.io, log->lock, log->log.id, &note);
  if (rv == FLUME_ENOENT) return 0;
  if (rv != 0) return flume_err_set(err, rv, "reading %s/lock: %s", log->log.dir, flume_strerror(rv));
  const struct flume_segment *active = flume__file_active(log);
  if (note.since != FLUME_SEQ_MAX && note.since >= log->next_seq) {
    return flume_err_set(
        err, FLUME_ECORRUPT,
        "%s: byte %llu (seq %lld): the log ends here, but seq %lld was acknowledged (says the file lock)", active->path,
        (unsigned long long)active->end_off, (long long)log->next_seq, (long long)note.since);
  }
  if (note.deleted_end_off <= log->deletions.end_off) return 0;
  return flume_err_set(
      err, FLUME_ECORRUPT, "%s/deleted: byte %llu: it ends here, but %llu bytes were acknowledged (says the file lock)",
      log->log.dir, (unsigned long long)log->deletions.end_off, (unsigned long long)note.deleted_end_off);
}
