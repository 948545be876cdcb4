/* The file "note" of PATH.flume: which file it belongs to, and how far that was on disk.
 *
 * The format has no checksums and no frames of batches, so that a file alone does not tell a record that was torn by a
 * crash from one that was damaged later: of several that were written at once, a later one may have come to the disk and
 * an earlier one not. The note does. Before anything is written behind limit_off, the note says so and is synced; after
 * each sync of the file it says how far that is durable, and is not synced, for it only says what is true already. When
 * the log is closed the note says that nothing is under way. So damage before durable_off is no torn tail, and neither
 * is damage before a whole record unless the log was open and all that follows lies before limit_off.
 *
 * Nor does the framing tell that the middle of a record did not come to the disk. Such a hole has zeros, as the file was
 * shorter before; so a record behind durable_off that has a sector of zeros was torn. One that has it in earnest, and one
 * that is deleted, is not acknowledged before the note has it before durable_off on the disk. */
#include "base/err.h"
#include "base/path.h"
#include "log/offset/offset_log.h"

#define NOTE_MAGIC 0x746f6e66u /* "fnot" */
#define NOTE_VERSION 1u
#define NOTE_BYTES 60
#define SLOTS 2u /* each in a sector of its own, written in turn */

/* Where things are. */
enum {
  AT_MAGIC = 0,
  AT_VERSION = 4,
  AT_BITS = 6,
  AT_ID = 8,
  AT_DURABLE = 24,
  AT_LIMIT = 32,
  AT_TURN = 40,
  AT_OPEN = 48,
  AT_CRC = 56
};

int flume__offset_path(const struct offset_log *log, const char *name, char *path, size_t size) {
  return flume_path_join(path, size, log->log.dir, name);
}

static bool is_note(const uint8_t *bytes) {
  return flume_get_le32(bytes) == NOTE_MAGIC && flume_get_le32(bytes + AT_CRC) == flume_crc32c(0, bytes, AT_CRC);
}

/* The newer one of the slots that are good. FLUME_ECORRUPT: none is. */
static int read_slots(const struct flume_io *io, int file, uint8_t *newest) {
  int found = FLUME_ECORRUPT;
  for (unsigned i = 0; i < SLOTS; i++) {
    uint8_t bytes[NOTE_BYTES];
    int rv = flume_io_read_full(io, file, bytes, sizeof bytes, i * FLUME_OFFSET_SECTOR_BYTES);
    if (rv != 0 && rv != FLUME_ECORRUPT) return rv;
    if (rv != 0 || !is_note(bytes)) continue;
    if (found == 0 && flume_get_le64(bytes + AT_TURN) < flume_get_le64(newest + AT_TURN)) continue;
    memcpy(newest, bytes, sizeof bytes);
    found = 0;
  }
  return found;
}

static int read_note(const struct offset_log *log, uint8_t *bytes) {
  const struct flume_io *io = log->log.io;
  char path[FLUME_PATH_MAX];
  int rv = flume__offset_path(log, "note", path, sizeof path);
  if (rv == 0) rv = io->open(io->ctx, path, FLUME_IO_READ);
  if (rv < 0) return rv;
  int file = rv;
  rv = read_slots(io, file, bytes);
  io->close(io->ctx, file);
  return rv;
}

int flume__offset_superblock_read(const struct offset_log *log, struct flume_offset_superblock_read *noted,
                                  struct flume_err *err) {
  uint8_t bytes[NOTE_BYTES];
  noted->bits = 0;
  int rv = read_note(log, bytes);
  if (rv == UV_ENOENT || rv == UV_ENOTDIR) return 0;
  if (rv != 0 && rv != FLUME_ECORRUPT) {
    return flume_err_set(err, rv, "reading %s/note: %s", log->log.dir, flume_strerror(rv));
  }
  if (rv != 0) {
    return flume_err_set(err, FLUME_ECORRUPT, "%s/note: byte 0: damaged; without the directory the log begins anew",
                         log->log.dir);
  }
  if (flume_get_le16(bytes + AT_VERSION) != NOTE_VERSION) {
    return flume_err_set(err, FLUME_EVERSION, "%s/note: byte 4: unknown version", log->log.dir);
  }
  noted->bits = flume_get_le16(bytes + AT_BITS);
  memcpy(noted->id, bytes + AT_ID, sizeof noted->id);
  noted->superblock = (struct flume_offset_superblock){.durable_off = flume_get_le64(bytes + AT_DURABLE),
                                                       .limit_off = flume_get_le64(bytes + AT_LIMIT),
                                                       .open = flume_get_le32(bytes + AT_OPEN) != 0};
  noted->turn = flume_get_le64(bytes + AT_TURN);
  return 0;
}

int flume__offset_superblock_load(struct offset_log *log, struct flume_err *err) {
  struct flume_offset_superblock_read noted;
  int rv = flume__offset_superblock_read(log, &noted, err);
  if (rv != 0 || noted.bits == 0) return rv;
  log->superblock_bits = noted.bits;
  memcpy(log->log.id, noted.id, sizeof log->log.id);
  log->superblock = noted.superblock;
  log->superblock_turn = noted.turn;
  return 0;
}

static void put_note(const struct offset_log *log, const struct flume_offset_superblock *note, uint64_t turn,
                     uint8_t *bytes) {
  memset(bytes, 0, NOTE_BYTES);
  flume_put_le32(bytes + AT_MAGIC, NOTE_MAGIC);
  flume_put_le16(bytes + AT_VERSION, NOTE_VERSION);
  flume_put_le16(bytes + AT_BITS, (uint16_t)log->file->bits);
  memcpy(bytes + AT_ID, log->log.id, sizeof log->log.id);
  flume_put_le64(bytes + AT_DURABLE, note->durable_off);
  flume_put_le64(bytes + AT_LIMIT, note->limit_off);
  flume_put_le64(bytes + AT_TURN, turn);
  flume_put_le32(bytes + AT_OPEN, note->open);
  flume_put_le32(bytes + AT_CRC, flume_crc32c(0, bytes, AT_CRC));
}

int flume__offset_superblock_put(const struct offset_log *log, const struct flume_offset_superblock *note,
                                 struct flume_buf *out) {
  int rv = flume_buf_reserve(out, NOTE_BYTES);
  if (rv != 0) return rv;
  put_note(log, note, SLOTS, out->data); /* the first slot */
  out->len = NOTE_BYTES;
  return 0;
}

/* Writes the file at path, and syncs it if asked. */
static int write_file(struct offset_log *log, const char *path, int mode, bool synced) {
  const struct flume_io *io = log->log.io;
  uint8_t bytes[NOTE_BYTES];
  int file = io->open(io->ctx, path, mode);
  if (file < 0) return file;
  put_note(log, &log->superblock, ++log->superblock_turn, bytes);
  uint64_t off = log->superblock_turn % SLOTS * FLUME_OFFSET_SECTOR_BYTES;
  int rv = flume_io_write_full(io, file, bytes, sizeof bytes, off);
  if (rv == 0 && synced) rv = io->sync(io->ctx, file);
  io->close(io->ctx, file);
  return rv;
}

/* The first note gets its name when it is whole; a later one is written over the one before the last. */
static int create(struct offset_log *log, const char *path) {
  const struct flume_io *io = log->log.io;
  char from[FLUME_PATH_MAX];
  int rv = flume__offset_path(log, "note.new", from, sizeof from);
  if (rv == 0) rv = write_file(log, from, FLUME_IO_WRITE | FLUME_IO_CREATE, true);
  if (rv == 0) rv = io->rename(io->ctx, from, path);
  return rv == 0 ? io->sync_dir(io->ctx, log->log.dir) : rv;
}

static int write_note(struct offset_log *log, bool synced, struct flume_err *err) {
  char path[FLUME_PATH_MAX];
  int rv = flume__offset_path(log, "note", path, sizeof path);
  if (rv == 0) rv = write_file(log, path, FLUME_IO_WRITE, synced);
  if (rv == UV_ENOENT) rv = create(log, path);
  return rv == 0 ? 0 : flume_err_set(err, rv, "writing %s/note: %s", log->log.dir, flume_strerror(rv));
}

int flume__offset_superblock_sync(struct offset_log *log, struct flume_err *err) {
  return write_note(log, true, err);
}

int flume__offset_superblock_write(struct offset_log *log, struct flume_err *err) {
  return write_note(log, false, err);
}
