/* The writer's note for the processes that follow it: how far the log is acknowledged. It stands in the file "lock",
 * behind who has the lock (core/FORMAT.md).
 *
 * It is written after each commit, when that is as safe as the sync mode makes it and before anyone is told, and is
 * never synced: it only says what is true already. In the modes in which an append is acknowledged when it is written
 * there is nothing to say of each one, so the note says that all whole frames count.
 *
 * A note that is being overwritten while it is read has a wrong checksum; the event of that write is still to come. */
#include "err.h"
#include "log_file.h"

#define NOTE_BYTES 28 /* since, end of deletes, writer: 8 each; checksum: 4 */

static uint32_t note_crc(const struct log_file *log, const uint8_t *bytes) {
  return flume_crc32c(flume_crc32c(0, log->log.id, sizeof log->log.id), bytes, NOTE_BYTES - 4);
}

int flume__note_write(struct log_file *log) {
  const struct flume_io *io = log->log.io;
  uint8_t bytes[NOTE_BYTES];
  flume_put_le64(bytes, (uint64_t)log->note.since);
  flume_put_le64(bytes + 8, log->note.deleted_end_off);
  flume_put_le64(bytes + 16, log->note.writer);
  flume_put_le32(bytes + NOTE_BYTES - 4, note_crc(log, bytes));
  return flume_io_write_full(io, log->lock, bytes, sizeof bytes, FLUME_IO_LOCK_BYTES);
}

int flume__note_begin(struct log_file *log, struct flume_err *err) {
  int rv = uv_random(NULL, NULL, &log->note.writer, sizeof log->note.writer, 0, NULL);
  log->note.since = log->sync == FLUME_SYNC_ALWAYS ? log->log.since.value : FLUME_SEQ_MAX;
  log->note.deleted_end_off = log->deletions.end_off;
  if (rv == 0) rv = flume__note_write(log);
  return rv == 0 ? 0 : flume_err_set(err, rv, "writing %s/lock: %s", log->log.dir, flume_strerror(rv));
}

int flume__note_read(const struct log_file *log, int lock_file, struct flume_note *note) {
  uint8_t bytes[NOTE_BYTES];
  int rv = flume_io_read_full(log->log.io, lock_file, bytes, sizeof bytes, FLUME_IO_LOCK_BYTES);
  if (rv == FLUME_ECORRUPT) return FLUME_ENOENT;
  if (rv != 0) return rv;
  if (flume_get_le32(bytes + NOTE_BYTES - 4) != note_crc(log, bytes)) return FLUME_ENOENT;
  note->since = (int64_t)flume_get_le64(bytes);
  note->deleted_end_off = flume_get_le64(bytes + 8);
  note->writer = flume_get_le64(bytes + 16);
  return 0;
}
