#include "log/lock_file.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/err.h"

#define AT_CRC (FLUME_NOTE_BYTES - 4)

static uint32_t note_crc(const uint8_t *log_id, const uint8_t *bytes) {
  return flume_crc32c(flume_crc32c(0, log_id, 16), bytes, AT_CRC);
}

int flume_note_write(const struct flume_io *io, int lock_file, const uint8_t *log_id, const struct flume_note *note) {
  uint8_t bytes[FLUME_NOTE_BYTES];
  flume_put_le64(bytes, (uint64_t)note->since);
  flume_put_le64(bytes + 8, note->deleted_end_off);
  flume_put_le64(bytes + 16, note->writer);
  flume_put_le32(bytes + AT_CRC, note_crc(log_id, bytes));
  return flume_io_write_full(io, lock_file, bytes, sizeof bytes, FLUME_IO_LOCK_BYTES);
}

int flume_note_get(const uint8_t *bytes, const uint8_t *log_id, struct flume_note *note) {
  if (flume_get_le32(bytes + AT_CRC) != note_crc(log_id, bytes)) return FLUME_ENOENT;
  note->since = (int64_t)flume_get_le64(bytes);
  note->deleted_end_off = flume_get_le64(bytes + 8);
  note->writer = flume_get_le64(bytes + 16);
  return 0;
}

int flume_note_read(const struct flume_io *io, int lock_file, const uint8_t *log_id, struct flume_note *note) {
  uint8_t bytes[FLUME_NOTE_BYTES];
  int rv = flume_io_read_full(io, lock_file, bytes, sizeof bytes, FLUME_IO_LOCK_BYTES);
  if (rv == FLUME_ECORRUPT) return FLUME_ENOENT;
  return rv == 0 ? flume_note_get(bytes, log_id, note) : rv;
}

int flume_note_remove(const struct flume_io *io, int lock_file) {
  int rv = io->truncate(io->ctx, lock_file, FLUME_IO_LOCK_BYTES);
  return rv == 0 ? io->sync(io->ctx, lock_file) : rv;
}
