/* The file "note" of PATH.flume: which file it belongs to, and how far that was on disk.
 *
 * The format has no checksums and no frames of batches, so that a file alone does not tell a record that was torn by a
 * crash from one that was damaged later: of several that were written at once, a later one may have come to the disk and
 * an earlier one not. The note does. Before anything is written behind limit_off, the note says so and is synced; after
 * each sync of the file it says how far that is durable, and is not synced, for it only says what is true already. When
 * the log is closed the note says that nothing is under way. So damage before durable_off is no torn tail, and neither
 * is damage before a whole record unless the log was open and all that follows lies before limit_off. */
#include <stdio.h>

#include "err.h"
#include "log_offset.h"

#define NOTE_MAGIC 0x746f6e66u /* "fnot" */
#define NOTE_VERSION 1u
#define NOTE_BYTES 52

/* Where things are. */
enum {
  AT_MAGIC = 0,
  AT_VERSION = 4,
  AT_BITS = 6,
  AT_ID = 8,
  AT_DURABLE = 24,
  AT_LIMIT = 32,
  AT_OPEN = 40,
  AT_CRC = 48
};

int flume__offset_path(const struct log_offset *log, const char *name, char *path, size_t size) {
  int len = snprintf(path, size, "%s/%s", log->log.dir, name);
  return len > 0 && (size_t)len < size ? 0 : UV_ENAMETOOLONG;
}

static int read_note(struct log_offset *log, uint8_t *bytes) {
  const struct flume_io *io = log->log.io;
  char path[4096];
  int rv = flume__offset_path(log, "note", path, sizeof path);
  if (rv == 0) rv = io->open(io->ctx, path, FLUME_IO_READ);
  if (rv < 0) return rv;
  int file = rv;
  rv = flume_io_read_full(io, file, bytes, NOTE_BYTES, 0);
  io->close(io->ctx, file);
  return rv;
}

int flume__offset_note_load(struct log_offset *log, uint32_t *bits, struct flume_err *err) {
  uint8_t bytes[NOTE_BYTES];
  *bits = 0;
  int rv = read_note(log, bytes);
  if (rv == UV_ENOENT || rv == -ENOTDIR) return 0;
  if (rv != 0 && rv != FLUME_ECORRUPT) {
    return flume_err_set(err, rv, "reading %s/note: %s", log->log.dir, flume_strerror(rv));
  }
  if (rv != 0 || flume_get_le32(bytes) != NOTE_MAGIC ||
      flume_get_le32(bytes + AT_CRC) != flume_crc32c(0, bytes, AT_CRC)) {
    return flume_err_set(err, FLUME_ECORRUPT, "%s/note: byte 0: damaged; without the directory the log begins anew",
                         log->log.dir);
  }
  if (flume_get_le16(bytes + AT_VERSION) != NOTE_VERSION) {
    return flume_err_set(err, FLUME_EVERSION, "%s/note: byte 4: unknown version", log->log.dir);
  }
  *bits = flume_get_le16(bytes + AT_BITS);
  memcpy(log->log.id, bytes + AT_ID, sizeof log->log.id);
  log->note = (struct flume_offset_note){.durable_off = flume_get_le64(bytes + AT_DURABLE),
                                         .limit_off = flume_get_le64(bytes + AT_LIMIT),
                                         .open = flume_get_le32(bytes + AT_OPEN) != 0};
  return 0;
}

static int write_note(struct log_offset *log, bool *created, int *file) {
  const struct flume_io *io = log->log.io;
  uint8_t bytes[NOTE_BYTES] = {0};
  flume_put_le32(bytes + AT_MAGIC, NOTE_MAGIC);
  flume_put_le16(bytes + AT_VERSION, NOTE_VERSION);
  flume_put_le16(bytes + AT_BITS, (uint16_t)log->file->bits);
  memcpy(bytes + AT_ID, log->log.id, sizeof log->log.id);
  flume_put_le64(bytes + AT_DURABLE, log->note.durable_off);
  flume_put_le64(bytes + AT_LIMIT, log->note.limit_off);
  flume_put_le32(bytes + AT_OPEN, log->note.open);
  flume_put_le32(bytes + AT_CRC, flume_crc32c(0, bytes, AT_CRC));
  char path[4096];
  int rv = flume__offset_path(log, "note", path, sizeof path);
  if (rv == 0) rv = io->open(io->ctx, path, FLUME_IO_WRITE);
  *created = rv == UV_ENOENT;
  if (*created) rv = io->open(io->ctx, path, FLUME_IO_WRITE | FLUME_IO_CREATE);
  if (rv < 0) return rv;
  *file = rv;
  return flume_io_write_full(io, *file, bytes, sizeof bytes, 0);
}

static int write_and(struct log_offset *log, int (*sync)(void *ctx, int file), struct flume_err *err) {
  const struct flume_io *io = log->log.io;
  bool created = false;
  int file = -1;
  int rv = write_note(log, &created, &file);
  if (rv == 0 && sync != NULL) rv = sync(io->ctx, file);
  if (file >= 0) io->close(io->ctx, file);
  if (rv == 0 && created) rv = io->sync_dir(io->ctx, log->log.dir);
  return rv == 0 ? 0 : flume_err_set(err, rv, "writing %s/note: %s", log->log.dir, flume_strerror(rv));
}

int flume__offset_note_sync(struct log_offset *log, struct flume_err *err) {
  return write_and(log, log->log.io->sync, err);
}

int flume__offset_note_write(struct log_offset *log, struct flume_err *err) {
  return write_and(log, NULL, err);
}
