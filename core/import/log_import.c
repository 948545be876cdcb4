#include "import/log_import.h"

#include "base/bytes.h"
#include "codec/bipf.h"
#include "codec/json.h"

#define ASYNC_BLOCK_BYTES 65536u /* unless the log was made with another blockSize */
#define ASYNC_MIN_BLOCK_BYTES 64u
#define ASYNC_MAX_BLOCK_BYTES (1u << 20)
#define ASYNC_PROBE_BYTES (UINT64_C(16) << 20) /* of the file, to find out how large its blocks are */
#define ASYNC_HEADER_BYTES 2u

/* One record of a file, not decoded; its bytes are borrowed until the next one. */
struct found {
  uint64_t off;
  const uint8_t *data;
  uint32_t len;
};

static int fail(const struct flume_import *import, uint64_t off, const char *what, struct flume_err *err) {
  return flume_err_set(err, FLUME_ECORRUPT, "%s: byte %llu: %s", import->path, (unsigned long long)off, what);
}

static int fail_reading(const struct flume_import *import, int rv, struct flume_err *err) {
  if (rv == FLUME_ECORRUPT) return fail(import, import->window.file_bytes, "the file has become shorter", err);
  return flume_err_set(err, rv, "reading %s: %s", import->path, flume_strerror(rv));
}

/* --- Opening ------------------------------------------------------------------------------------------------- */

static int choose_bits(struct flume_import *import, uint32_t bits, struct flume_err *err) {
  int found = bits != 0 || import->window.file_bytes == 0 ? (int)bits : flume_offset_detect(&import->window);
  if (found < 0) return fail_reading(import, found, err);
  if (found == 0 && import->window.file_bytes > 0) {
    return fail(import, 0, "no flumelog-offset record with pointers of 32, 48 or 53 bits", err);
  }
  import->bits = found != 0 ? (enum flume_offset_bits)found : FLUME_OFFSET_32;
  return 0;
}

static int choose_block(struct flume_import *import, struct flume_err *err);

int flume_import_open(struct flume_import *import, const struct flume_io *io, enum flume_import_format format,
                      const char *path, uint32_t bits, struct flume_err *err) {
  int file = io->open(io->ctx, path, FLUME_IO_READ);
  if (file < 0) return flume_err_set(err, file, "opening %s: %s", path, flume_strerror(file));
  int64_t size = io->size(io->ctx, file);
  *import = (struct flume_import){.format = format, .path = path};
  flume_window_init(&import->window, io, file, size > 0 ? (uint64_t)size : 0);
  int rv = size < 0 ? fail_reading(import, (int)size, err) : 0;
  if (rv == 0) rv = format == FLUME_IMPORT_OFFSET ? choose_bits(import, bits, err) : choose_block(import, err);
  if (rv != 0) flume_import_close(import);
  return rv;
}

void flume_import_close(struct flume_import *import) {
  const struct flume_io *io = import->window.io;
  if (io == NULL) return;
  io->close(io->ctx, import->window.file);
  flume_window_fini(&import->window);
  import->window.io = NULL;
}

/* --- Offset files -------------------------------------------------------------------------------------------- */

/* Goes on behind bytes that are no frame. */
static int pass_over_offset(struct flume_import *import, const char *why, struct flume_err *err) {
  struct flume_offset_record next;
  uint64_t off = import->off;
  int rv = flume_offset_find(&import->window, off, import->bits, &next);
  if (rv < 0) return fail_reading(import, rv, err);
  import->off = rv == 1 ? next.off : import->window.file_bytes;
  return fail(import, off, why, err);
}

static int next_offset(struct flume_import *import, struct found *found, struct flume_err *err) {
  struct flume_offset_record record;
  const char *why = "";
  while (import->off < import->window.file_bytes) {
    int rv = flume_offset_read(&import->window, import->off, import->bits, &record, &why);
    if (rv == 0) return pass_over_offset(import, why, err);
    if (rv > 0 && !record.zero) {
      rv = flume_window_get(&import->window, record.off + FLUME_OFFSET_LENGTH_BYTES, record.len, &found->data);
    }
    if (rv < 0) return fail_reading(import, rv, err);
    import->off = record.end_off;
    import->deleted += record.zero;
    if (record.zero) continue;
    found->off = record.off;
    found->len = record.len;
    return 1;
  }
  return 0;
}

/* --- async-append-only-log files ----------------------------------------------------------------------------- */

static uint64_t block_end(const struct flume_import *import) {
  uint64_t end = import->off - import->off % import->block_bytes + import->block_bytes;
  return end < import->window.file_bytes ? end : import->window.file_bytes;
}

/* A length of 0 ends the block; the rest of it is 0 too. */
static int end_block(struct flume_import *import, uint64_t off, uint64_t end, struct flume_err *err) {
  const uint8_t *bytes;
  int rv = flume_window_get(&import->window, off, (size_t)(end - off), &bytes);
  if (rv != 0) return fail_reading(import, rv, err);
  if (flume_offset_is_zero(bytes, (size_t)(end - off))) return 0;
  return fail(import, off, "something behind the end of a block", err);
}

/* The record at import->off: 1, 0 when the block has no more, or an error. */
static int read_async(struct flume_import *import, struct found *found, struct flume_err *err) {
  uint64_t off = import->off, end = block_end(import);
  const uint8_t *bytes;
  import->off = end;
  if (end - off < ASYNC_HEADER_BYTES) return 0;
  int rv = flume_window_get(&import->window, off, ASYNC_HEADER_BYTES, &bytes);
  if (rv != 0) return fail_reading(import, rv, err);
  uint32_t len = flume_get_le16(bytes);
  if (len == 0) return end_block(import, off, end, err);
  if (len > end - off - ASYNC_HEADER_BYTES) return fail(import, off, "a record that is longer than its block", err);
  rv = flume_window_get(&import->window, off + ASYNC_HEADER_BYTES, len, &found->data);
  if (rv != 0) return fail_reading(import, rv, err);
  import->off = off + ASYNC_HEADER_BYTES + len;
  found->off = off;
  found->len = len;
  return 1;
}

static int next_async(struct flume_import *import, struct found *found, struct flume_err *err) {
  while (import->off < import->window.file_bytes) {
    int rv = read_async(import, found, err);
    if (rv < 0) return rv;
    if (rv == 0) continue;
    if (!flume_offset_is_zero(found->data, found->len)) return 1;
    import->deleted++;
  }
  return 0;
}

/* Whether the first blocks of the file are blocks of that many bytes, whose records are BIPF or zeros. Returns 1, 0, or an
 * error of reading. */
static int fits_block(struct flume_import *import, uint32_t block_bytes) {
  uint64_t end = import->window.file_bytes < ASYNC_PROBE_BYTES ? import->window.file_bytes : ASYNC_PROBE_BYTES;
  struct flume_buf packed;
  struct found found;
  struct flume_err err;
  int rv = 0;
  flume_buf_init(&packed, import->window.io);
  import->off = 0;
  import->block_bytes = block_bytes;
  while (import->off < end && rv >= 0) {
    packed.len = 0;
    rv = read_async(import, &found, &err);
    if (rv == 1 && block_bytes != ASYNC_BLOCK_BYTES && !flume_offset_is_zero(found.data, found.len)) {
      rv = flume_bipf_to_msgpack(found.data, found.len, &packed, &err);
    }
  }
  flume_buf_fini(&packed);
  import->off = 0;
  return rv >= 0 ? 1 : rv == FLUME_ECORRUPT ? 0 : rv;
}

/* The file does not tell how large its blocks are. All records of a block follow each other, and zeros fill its rest: of
 * a size that is not the right one, some block goes on behind zeros. Where several sizes fit, which is so for one block
 * or blocks without a gap, the records are the same. */
static int choose_block(struct flume_import *import, struct flume_err *err) {
  int rv = fits_block(import, ASYNC_BLOCK_BYTES);
  for (uint32_t size = ASYNC_MAX_BLOCK_BYTES; rv == 0 && size >= ASYNC_MIN_BLOCK_BYTES; size /= 2) {
    if (import->window.file_bytes % size == 0) rv = fits_block(import, size);
  }
  if (rv == 0) import->block_bytes = ASYNC_BLOCK_BYTES; /* it is damaged: the import says where */
  return rv < 0 ? fail_reading(import, rv, err) : 0;
}

/* --- Records ------------------------------------------------------------------------------------------------- */

static int next_found(struct flume_import *import, struct found *found, struct flume_err *err) {
  return import->format == FLUME_IMPORT_OFFSET ? next_offset(import, found, err) : next_async(import, found, err);
}

static int decode(const struct flume_import *import, const struct found *found, struct flume_buf *out,
                  struct flume_err *err) {
  struct flume_err why = {0};
  int rv = import->format == FLUME_IMPORT_OFFSET
               ? flume_json_to_msgpack((const char *)found->data, found->len, out, &why)
               : flume_bipf_to_msgpack(found->data, found->len, out, &why);
  if (rv == 0) return 1;
  if (rv == FLUME_ENOMEM) return flume_err_nomem(err);
  return fail(import, found->off, why.msg, err);
}

int flume_import_next(struct flume_import *import, struct flume_buf *out, struct flume_err *err) {
  struct found found;
  int rv = next_found(import, &found, err);
  return rv == 1 ? decode(import, &found, out, err) : rv;
}

int flume_import_next_json(struct flume_import *import, struct flume_buf *out, struct flume_err *err) {
  struct flume_buf packed;
  struct found found;
  flume_buf_init(&packed, out->io);
  int rv = next_found(import, &found, err);
  if (rv == 1) rv = decode(import, &found, &packed, err);
  if (rv == 1) {
    struct flume_err why;
    int written = flume_msgpack_to_json(packed.data, packed.len, FLUME_JSON_EXACT, out, NULL, &why);
    if (written == FLUME_ENOMEM) rv = flume_err_nomem(err);
    else if (written != 0) rv = fail(import, found.off, why.msg, err);
  }
  flume_buf_fini(&packed);
  return rv;
}
