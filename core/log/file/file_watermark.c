/* What the high watermark tells whoever opens the log for writing next: what must be in the files. So a file that was cut
 * between two frames, where no frame is bad, is found to be damaged all the same.
 *
 * In the sync modes in which an append is acknowledged when it is written, the high watermark says that all whole frames
 * count, until the log is closed in order. */
#include "base/err.h"
#include "log/file/file_log.h"

int flume__file_check_watermark(const struct file_log *log, struct flume_err *err) {
  struct flume_watermark watermark;
  int rv = flume__watermark_read(log->log.io, log->log.lock_file.file, log->log.id, &watermark);
  if (rv == FLUME_ENOENT) return 0;
  if (rv != 0) return flume_err_set(err, rv, "reading %s/lock: %s", log->log.dir, flume_strerror(rv));
  const struct flume_segment *active = flume__file_active(log);
  if (watermark.since != FLUME_SEQ_MAX && watermark.since >= log->next_seq) {
    return flume_err_set(
        err, FLUME_ECORRUPT,
        "%s: byte %llu (seq %lld): the log ends here, but seq %lld was acknowledged (says the file lock)", active->path,
        (unsigned long long)active->end_off, (long long)log->next_seq, (long long)watermark.since);
  }
  if (watermark.deleted_end_off <= log->deletions.end_off) return 0;
  return flume_err_set(
      err, FLUME_ECORRUPT, "%s/deleted: byte %llu: it ends here, but %llu bytes were acknowledged (says the file lock)",
      log->log.dir, (unsigned long long)log->deletions.end_off, (unsigned long long)watermark.deleted_end_off);
}
