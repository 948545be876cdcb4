/* The superblock of an offset log: which file it belongs to, and how far the file was on disk. It is in the file "note" of
 * PATH.flume.
 *
 * The format of the file has no checksums and no frames of batches. So the file alone does not tell a record that was torn
 * by a crash from one that was damaged later: of several records that were written at once, a later one may have reached
 * the disk, and an earlier one not. The superblock tells:
 *
 * - Before anything is written behind limit_off, limit_off is raised, and the superblock is synced.
 * - After each sync of the file, durable_off is raised. The superblock is not synced then, as it only says what is true
 *   already.
 * - When the log is closed, open is cleared.
 *
 * So damage before durable_off is no torn tail. Neither is damage before a whole record, unless the log was open and all
 * that follows lies before limit_off.
 *
 * Nor does the framing tell that the middle of a record did not reach the disk. Such a hole has zeros, as the file was
 * shorter before; so a record behind durable_off that has a sector of zeros counts as torn. A record that really has such
 * a sector, and one that is deleted, is not acknowledged before it lies before durable_off of the superblock on disk.
 *
 * Failures: there are two slots, each in a sector of its own, written in turn. A crash tears one of them at most. When both
 * are bad the log is damaged.
 *
 * Invariants: durable_off <= limit_off while it is open, and both only grow until the log is closed. */
#include <assert.h>

#include "base/err.h"
#include "base/path.h"
#include "log/offset/offset_log.h"

#define SUPERBLOCK_MAGIC 0x746f6e66u /* "fnot" */
#define SUPERBLOCK_VERSION 1u
#define SUPERBLOCK_BYTES 60
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

static bool is_superblock(const uint8_t *bytes) {
  return flume_get_le32(bytes) == SUPERBLOCK_MAGIC && flume_get_le32(bytes + AT_CRC) == flume_crc32c(0, bytes, AT_CRC);
}

/* The newer one of the slots that are good. FLUME_ECORRUPT: none is. */
static int read_slots(const struct flume_io *io, int file, uint8_t *newest) {
  int found = FLUME_ECORRUPT;
  for (unsigned i = 0; i < SLOTS; i++) {
    uint8_t bytes[SUPERBLOCK_BYTES];
    int rv = flume_io_read_full(io, file, bytes, sizeof bytes, i * FLUME_OFFSET_SECTOR_BYTES);
    if (rv != 0 && rv != FLUME_ECORRUPT) return rv;
    if (rv != 0 || !is_superblock(bytes)) continue;
    if (found == 0 && flume_get_le64(bytes + AT_TURN) < flume_get_le64(newest + AT_TURN)) continue;
    memcpy(newest, bytes, sizeof bytes);
    found = 0;
  }
  return found;
}

static int read_newest(const struct offset_log *log, uint8_t *bytes) {
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

int flume__offset_superblock_read(const struct offset_log *log, struct flume_offset_superblock_read *read,
                                  struct flume_err *err) {
  uint8_t bytes[SUPERBLOCK_BYTES];
  read->bits = 0;
  int rv = read_newest(log, bytes);
  if (rv == UV_ENOENT || rv == UV_ENOTDIR) return 0;
  if (rv != 0 && rv != FLUME_ECORRUPT) {
    return flume_err_set(err, rv, "reading %s/note: %s", log->log.dir, flume_strerror(rv));
  }
  if (rv != 0) {
    return flume_err_set(err, FLUME_ECORRUPT, "%s/note: byte 0: damaged; without the directory the log begins anew",
                         log->log.dir);
  }
  if (flume_get_le16(bytes + AT_VERSION) != SUPERBLOCK_VERSION) {
    return flume_err_set(err, FLUME_EVERSION, "%s/note: byte 4: unknown version", log->log.dir);
  }
  read->bits = flume_get_le16(bytes + AT_BITS);
  memcpy(read->id, bytes + AT_ID, sizeof read->id);
  read->superblock = (struct flume_offset_superblock){.durable_off = flume_get_le64(bytes + AT_DURABLE),
                                                      .limit_off = flume_get_le64(bytes + AT_LIMIT),
                                                      .open = flume_get_le32(bytes + AT_OPEN) != 0};
  read->turn = flume_get_le64(bytes + AT_TURN);
  return 0;
}

int flume__offset_superblock_load(struct offset_log *log, struct flume_err *err) {
  struct flume_offset_superblock_read read;
  int rv = flume__offset_superblock_read(log, &read, err);
  if (rv != 0 || read.bits == 0) return rv;
  log->superblock_bits = read.bits;
  memcpy(log->log.id, read.id, sizeof log->log.id);
  log->superblock = read.superblock;
  log->superblock_turn = read.turn;
  return 0;
}

static void put_superblock(const struct offset_log *log, const struct flume_offset_superblock *superblock,
                           uint64_t turn, uint8_t *bytes) {
  memset(bytes, 0, SUPERBLOCK_BYTES);
  flume_put_le32(bytes + AT_MAGIC, SUPERBLOCK_MAGIC);
  flume_put_le16(bytes + AT_VERSION, SUPERBLOCK_VERSION);
  flume_put_le16(bytes + AT_BITS, (uint16_t)log->file->bits);
  memcpy(bytes + AT_ID, log->log.id, sizeof log->log.id);
  flume_put_le64(bytes + AT_DURABLE, superblock->durable_off);
  flume_put_le64(bytes + AT_LIMIT, superblock->limit_off);
  flume_put_le64(bytes + AT_TURN, turn);
  flume_put_le32(bytes + AT_OPEN, superblock->open);
  flume_put_le32(bytes + AT_CRC, flume_crc32c(0, bytes, AT_CRC));
}

int flume__offset_superblock_put(const struct offset_log *log, const struct flume_offset_superblock *superblock,
                                 struct flume_buf *out) {
  int rv = flume_buf_reserve(out, SUPERBLOCK_BYTES);
  if (rv != 0) return rv;
  put_superblock(log, superblock, SLOTS, out->data); /* the first slot */
  out->len = SUPERBLOCK_BYTES;
  return 0;
}

/* Writes the file at path, and syncs it if asked. */
static int write_file(struct offset_log *log, const char *path, int mode, bool synced) {
  const struct flume_io *io = log->log.io;
  uint8_t bytes[SUPERBLOCK_BYTES];
  int file = io->open(io->ctx, path, mode);
  assert(!log->superblock.open || log->superblock.durable_off <= log->superblock.limit_off);
  if (file < 0) return file;
  put_superblock(log, &log->superblock, ++log->superblock_turn, bytes);
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

static int write_superblock(struct offset_log *log, bool synced, struct flume_err *err) {
  char path[FLUME_PATH_MAX];
  int rv = flume__offset_path(log, "note", path, sizeof path);
  if (rv == 0) rv = write_file(log, path, FLUME_IO_WRITE, synced);
  if (rv == UV_ENOENT) rv = create(log, path);
  return rv == 0 ? 0 : flume_err_set(err, rv, "writing %s/note: %s", log->log.dir, flume_strerror(rv));
}

int flume__offset_superblock_sync(struct offset_log *log, struct flume_err *err) {
  return write_superblock(log, true, err);
}

int flume__offset_superblock_write(struct offset_log *log, struct flume_err *err) {
  return write_superblock(log, false, err);
}
