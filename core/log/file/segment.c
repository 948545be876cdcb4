#include "log/file/segment.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/path.h"

static const uint8_t magic[8] = {'f', 'l', 'u', 'm', 'e', 'l', 'o', 'g'};

#define HARDEN_BYTES (1u << 20) /* at a time */
#define NAME_DIGITS 20
#define NAME_BYTES (NAME_DIGITS + sizeof FLUME_SEGMENT_SUFFIX)
#define INDEX_BODY_HEADER_BYTES 12 /* checksum, offset of the index frame before this one */
#define END_BODY_BYTES 12          /* checksum, offset of the last index frame */
#define END_BYTES (FLUME_FRAME_HEADER_BYTES + END_BODY_BYTES)

int64_t flume_segment_seq_of(const char *name) {
  if (strspn(name, "0123456789") != NAME_DIGITS || strcmp(name + NAME_DIGITS, FLUME_SEGMENT_SUFFIX) != 0) return -1;
  unsigned long long seq = strtoull(name, NULL, 10);
  return seq <= INT64_MAX ? (int64_t)seq : -1;
}

bool flume_segment_is_temporary(const char *name) {
  static const char suffix[] = FLUME_SEGMENT_SUFFIX FLUME_TEMPORARY_SUFFIX;
  size_t len = strlen(name);
  if (strcmp(name, "deleted" FLUME_TEMPORARY_SUFFIX) == 0) return true;
  return len == NAME_DIGITS + sizeof suffix - 1 && strcmp(name + NAME_DIGITS, suffix) == 0;
}

int flume_segment_path(const char *dir, int64_t first_seq, char *path, size_t size) {
  return flume_path_format(path, size, dir, "%020lld" FLUME_SEGMENT_SUFFIX, (long long)first_seq);
}

struct flume_segment *flume_segment_new(const struct flume_io *io, const char *dir, int64_t first_seq) {
  size_t path_bytes = strlen(dir) + sizeof "/" + NAME_BYTES;
  struct flume_segment *segment = flume_io_zalloc(io, sizeof *segment);
  if (segment == NULL) return NULL;
  segment->path = flume_io_alloc(io, path_bytes);
  if (segment->path == NULL) {
    flume_io_free(io, segment);
    return NULL;
  }
  flume_segment_path(dir, first_seq, segment->path, path_bytes); /* it fits */
  atomic_init(&segment->refs, 1);
  segment->io = io;
  segment->file = -1;
  segment->first_seq = first_seq;
  segment->next_seq = first_seq;
  segment->indexed_seq = first_seq;
  segment->offsets_seq = first_seq;
  segment->end_off = FLUME_SEGMENT_HEADER_BYTES;
  return segment;
}

struct flume_segment *flume_segment_ref(struct flume_segment *segment) {
  atomic_fetch_add_explicit(&segment->refs, 1, memory_order_relaxed);
  return segment;
}

void flume_segment_unref(struct flume_segment *segment) {
  int refs = atomic_fetch_sub_explicit(&segment->refs, 1, memory_order_acq_rel);
  assert(refs > 0);
  if (refs != 1) return;
  const struct flume_io *io = segment->io;
  if (segment->file >= 0) io->close(io->ctx, segment->file);
  flume_io_free(io, segment->offsets);
  flume_io_free(io, segment->path);
  flume_io_free(io, segment);
}

static void put_header(uint8_t *header, int64_t first_seq, const uint8_t *log_id, uint64_t time_ms) {
  memset(header, 0, FLUME_SEGMENT_HEADER_BYTES);
  memcpy(header, magic, sizeof magic);
  flume_put_le32(header + 8, FLUME_SEGMENT_VERSION);
  flume_put_le32(header + 12, FLUME_SEGMENT_HEADER_BYTES);
  flume_put_le64(header + 16, (uint64_t)first_seq);
  memcpy(header + 24, log_id, 16);
  flume_put_le64(header + 40, time_ms);
  flume_put_le32(header + 60, flume_crc32c(0, header, 60));
}

static int temporary_path(const struct flume_segment *segment, char *path, size_t size, struct flume_err *err) {
  int rv = flume_path_append(path, size, segment->path, FLUME_TEMPORARY_SUFFIX);
  return rv == 0 ? 0 : flume_err_set(err, rv, "%s: %s", segment->path, flume_strerror(rv));
}

static int write_header(const struct flume_segment *segment, const uint8_t *log_id) {
  const struct flume_io *io = segment->io;
  uint8_t header[FLUME_SEGMENT_HEADER_BYTES];
  put_header(header, segment->first_seq, log_id, io->now_ms(io->ctx));
  int rv = flume_io_write_full(io, segment->file, header, sizeof header, 0);
  return rv == 0 ? io->truncate(io->ctx, segment->file, sizeof header) : rv;
}

int flume_segment_draft(struct flume_segment *segment, const uint8_t *log_id, struct flume_err *err) {
  assert(segment->file < 0 && segment->next_seq == segment->first_seq);
  const struct flume_io *io = segment->io;
  char temporary[FLUME_PATH_MAX];
  int rv = temporary_path(segment, temporary, sizeof temporary, err);
  if (rv != 0) return rv;
  segment->file = io->open(io->ctx, temporary, FLUME_IO_WRITE | FLUME_IO_CREATE);
  if (segment->file < 0) {
    rv = segment->file;
    segment->file = -1;
    return flume_err_set(err, rv, "creating %s: %s", temporary, flume_strerror(rv));
  }
  rv = write_header(segment, log_id);
  if (rv != 0) return flume_err_set(err, rv, "writing %s: %s", temporary, flume_strerror(rv));
  memcpy(segment->log_id, log_id, 16);
  segment->loaded = true;
  segment->durable_off = segment->file_bytes = segment->zeroed_off = FLUME_SEGMENT_HEADER_BYTES;
  return 0;
}

int flume_segment_publish(struct flume_segment *segment, const char *dir, struct flume_err *err) {
  assert(segment->file >= 0);
  const struct flume_io *io = segment->io;
  char temporary[FLUME_PATH_MAX];
  int rv = temporary_path(segment, temporary, sizeof temporary, err);
  if (rv != 0) return rv;
  const char *step = "syncing";
  rv = io->sync(io->ctx, segment->file);
  if (rv == 0) {
    step = "renaming";
    rv = io->rename(io->ctx, temporary, segment->path);
  }
  if (rv == 0) {
    step = "syncing the directory of";
    rv = io->sync_dir(io->ctx, dir);
  }
  return rv == 0 ? 0 : flume_err_set(err, rv, "%s %s: %s", step, segment->path, flume_strerror(rv));
}

void flume_segment_undraft(struct flume_segment *segment) {
  char temporary[FLUME_PATH_MAX];
  if (temporary_path(segment, temporary, sizeof temporary, NULL) != 0) return;
  segment->io->unlink(segment->io->ctx, temporary);
}

/* Happy path: write under a temporary name, sync, rename, sync the directory. A crash before the rename leaves a
 * temporary file, which opening the log removes; after it, a whole segment. */
int flume_segment_create(struct flume_segment *segment, const char *dir, const uint8_t *log_id, struct flume_err *err) {
  int rv = flume_segment_draft(segment, log_id, err);
  return rv == 0 ? flume_segment_publish(segment, dir, err) : rv;
}

static int check_header(struct flume_segment *segment, const uint8_t *header, struct flume_err *err) {
  if (memcmp(header, magic, sizeof magic) != 0) {
    return flume_err_set(err, FLUME_ECORRUPT, "%s: byte 0: not a flume segment", segment->path);
  }
  if (flume_get_le32(header + 60) != flume_crc32c(0, header, 60)) {
    return flume_err_set(err, FLUME_ECORRUPT, "%s: byte 0: segment header checksum mismatch", segment->path);
  }
  uint32_t version = flume_get_le32(header + 8); /* behind the checksum, which every version has at this place */
  if (version != FLUME_SEGMENT_VERSION) {
    return flume_err_set(err, FLUME_EVERSION, "%s: format version %u; this flume reads version %d", segment->path,
                         version, FLUME_SEGMENT_VERSION);
  }
  if ((int64_t)flume_get_le64(header + 16) != segment->first_seq) {
    return flume_err_set(err, FLUME_ECORRUPT, "%s: byte 16: the segment begins with seq %lld", segment->path,
                         (long long)flume_get_le64(header + 16));
  }
  memcpy(segment->log_id, header + 24, 16);
  return 0;
}

int flume_segment_open(struct flume_segment *segment, bool readonly, struct flume_err *err) {
  assert(segment->file < 0);
  const struct flume_io *io = segment->io;
  int rv = io->open(io->ctx, segment->path, readonly ? FLUME_IO_READ : FLUME_IO_WRITE);
  if (rv < 0) return flume_err_set(err, rv, "opening %s: %s", segment->path, flume_strerror(rv));
  int file = rv;
  uint8_t header[FLUME_SEGMENT_HEADER_BYTES];
  rv = flume_io_read_full(io, file, header, sizeof header, 0);
  if (rv == FLUME_ECORRUPT) {
    flume_err_set(err, rv, "%s: byte 0: the file ends within its header", segment->path);
  } else if (rv != 0) {
    flume_err_set(err, rv, "reading %s: %s", segment->path, flume_strerror(rv));
  } else {
    rv = check_header(segment, header, err);
  }
  if (rv != 0) {
    io->close(io->ctx, file);
    return rv;
  }
  segment->file = file;
  return 0;
}

int flume_segment_open_damaged(struct flume_segment *segment, const uint8_t *log_id, struct flume_err *err) {
  const struct flume_io *io = segment->io;
  int rv = io->open(io->ctx, segment->path, FLUME_IO_READ);
  if (rv < 0) return flume_err_set(err, rv, "opening %s: %s", segment->path, flume_strerror(rv));
  segment->file = rv;
  memcpy(segment->log_id, log_id, 16);
  return 0;
}

int flume_segment_reserve(struct flume_segment *segment, size_t count) {
  assert(segment->next_seq >= segment->offsets_seq);
  size_t used = (size_t)(segment->next_seq - segment->offsets_seq);
  if (segment->offsets_cap - used >= count) return 0;
  size_t cap = segment->offsets_cap > 0 ? segment->offsets_cap : 1024;
  while (cap - used < count) cap *= 2;
  uint32_t *offsets = flume_io_realloc(segment->io, segment->offsets, cap * sizeof *offsets);
  if (offsets == NULL) return FLUME_ENOMEM;
  segment->offsets = offsets;
  segment->offsets_cap = cap;
  return 0;
}

void flume_segment_unload(struct flume_segment *segment) {
  assert(segment->offsets_seq == segment->first_seq);
  flume_io_free(segment->io, segment->offsets);
  segment->offsets = NULL;
  segment->offsets_cap = 0;
  segment->next_seq = segment->first_seq;
  segment->loaded = false;
}

/* --- Loading by the index ------------------------------------------------------------------------------------ */

static struct flume_place place_at(const struct flume_segment *segment, uint64_t off) {
  return (struct flume_place){.log_id = segment->log_id, .segment_seq = segment->first_seq, .off = off};
}

/* The end frame that closes the file, if one does: FLUME_ENOENT when none. */
static int read_end(const struct flume_segment *segment, struct flume_frame *end, uint64_t *index_off) {
  if (segment->file_bytes < FLUME_SEGMENT_HEADER_BYTES + END_BYTES) return FLUME_ENOENT;
  uint64_t off = segment->file_bytes - END_BYTES;
  uint8_t bytes[END_BYTES];
  int rv = flume_io_read_full(segment->io, segment->file, bytes, sizeof bytes, off);
  if (rv != 0) return rv;
  const char *why;
  struct flume_place place = place_at(segment, off);
  const uint8_t *body = bytes + FLUME_FRAME_HEADER_BYTES;
  if (flume_frame_get(bytes, end, &place, &why) != 0 || end->kind != FLUME_FRAME_END ||
      end->body_bytes != END_BODY_BYTES || flume_get_le32(body) != flume_crc32c(0, body + 4, 8)) {
    return FLUME_ENOENT;
  }
  *index_off = flume_get_le64(body + 4);
  return 0;
}

/* Reads one index frame; its records end with seq `next`. *next and *off go back to the index before it. */
static int read_index(struct flume_segment *segment, uint64_t *off, int64_t *next) {
  const struct flume_io *io = segment->io;
  uint8_t head[FLUME_FRAME_HEADER_BYTES + INDEX_BODY_HEADER_BYTES];
  int rv = flume_io_read_full(io, segment->file, head, sizeof head, *off);
  if (rv != 0) return rv;
  struct flume_frame frame;
  const char *why;
  struct flume_place place = place_at(segment, *off);
  rv = flume_frame_get(head, &frame, &place, &why);
  if (rv != 0) return rv;
  if (frame.kind != FLUME_FRAME_INDEX || frame.first_seq < segment->first_seq ||
      frame.first_seq + frame.count != *next ||
      frame.body_bytes != INDEX_BODY_HEADER_BYTES + (uint64_t)frame.count * 4) {
    return FLUME_ECORRUPT;
  }
  uint32_t *offsets = segment->offsets + (frame.first_seq - segment->first_seq);
  size_t bytes = (size_t)frame.count * 4;
  rv = flume_io_read_full(io, segment->file, offsets, bytes, *off + sizeof head);
  if (rv != 0) return rv;
  const uint8_t *body = head + FLUME_FRAME_HEADER_BYTES;
  uint32_t crc = flume_crc32c(flume_crc32c(0, body + 4, 8), offsets, bytes);
  if (crc != flume_get_le32(body)) return FLUME_ECORRUPT;
  uint64_t before = flume_get_le64(body + 4); /* where the index before it is: the records are between the two */
  uint64_t last = before;
  bool ascending = true;
  for (uint32_t i = 0; i < frame.count; i++) {
    offsets[i] = le32toh(offsets[i]);
    ascending &= offsets[i] > last;
    last = offsets[i];
  }
  if (!ascending || last >= *off) return FLUME_ECORRUPT;
  *next = frame.first_seq;
  *off = before;
  return 0;
}

static int measure(struct flume_segment *segment, struct flume_err *err) {
  int64_t size = segment->io->size(segment->io->ctx, segment->file);
  if (size < 0) return flume_err_set(err, (int)size, "%s: %s", segment->path, flume_strerror((int)size));
  segment->file_bytes = (uint64_t)size;
  return 0;
}

/* Takes over what the end frame says: all but the offsets. FLUME_ENOENT when there is none. */
static int take_end(struct flume_segment *segment) {
  struct flume_frame end;
  uint64_t index_off;
  int rv = read_end(segment, &end, &index_off);
  if (rv != 0) return rv;
  if (end.first_seq < segment->first_seq || end.first_seq - segment->first_seq > (int64_t)(segment->file_bytes / 8) ||
      index_off >= segment->file_bytes) {
    return FLUME_ENOENT;
  }
  segment->next_seq = segment->indexed_seq = end.first_seq;
  segment->index_off = index_off;
  segment->data_end_off = index_off; /* an index follows the last record that it covers */
  segment->end_off = segment->durable_off = segment->zeroed_off = segment->file_bytes;
  segment->ended = true;
  segment->sealed = (end.flags & FLUME_FRAME_SEALED) != 0;
  segment->removed_count = end.count;
  return 0;
}

int flume_segment_peek(struct flume_segment *segment, struct flume_err *err) {
  int rv = measure(segment, err);
  if (rv != 0) return rv;
  rv = take_end(segment);
  return rv == 0 ? 0 : flume_err_set(err, rv, "reading the end of %s: %s", segment->path, flume_strerror(rv));
}

/* 0; FLUME_ENOENT when the file was not closed in order or its index can't be trusted: then it has to be scanned. */
static int load_by_index(struct flume_segment *segment) {
  segment->next_seq = segment->first_seq;
  int rv = take_end(segment);
  if (rv != 0) return rv;
  int64_t next = segment->next_seq;
  segment->next_seq = segment->first_seq; /* room is reserved behind it */
  rv = flume_segment_reserve(segment, (size_t)(next - segment->first_seq));
  if (rv != 0) return rv;
  segment->next_seq = next;
  for (uint64_t off = segment->index_off; next > segment->first_seq;) {
    if (off >= segment->file_bytes || off == 0) return FLUME_ENOENT;
    uint64_t at = off;
    rv = read_index(segment, &off, &next);
    if (rv == FLUME_ECORRUPT || (rv == 0 && off >= at)) return FLUME_ENOENT;
    if (rv != 0) return rv;
  }
  segment->loaded = true;
  return 0;
}

int flume_segment_load(struct flume_segment *segment, struct flume_damage *damage, struct flume_err *err) {
  int rv = measure(segment, err);
  return rv == 0 ? flume_segment_load_to(segment, segment->file_bytes, damage, err) : rv;
}

int flume_segment_load_to(struct flume_segment *segment, uint64_t file_bytes, struct flume_damage *damage,
                          struct flume_err *err) {
  *damage = (struct flume_damage){0};
  segment->file_bytes = file_bytes;
  int rv = load_by_index(segment);
  if (rv == FLUME_ENOENT) return flume_segment_scan(segment, damage, err);
  if (rv != 0) return flume_err_set(err, rv, "reading the index of %s: %s", segment->path, flume_strerror(rv));
  return 0;
}

/* --- Hardening ------------------------------------------------------------------------------------------------ */

static int write_anew(struct flume_segment *segment) {
  const struct flume_io *io = segment->io;
  struct flume_buf buf;
  flume_buf_init(&buf, io);
  int rv = 0;
  for (uint64_t off = segment->durable_off; rv == 0 && off < segment->end_off; off += HARDEN_BYTES) {
    uint64_t rest = segment->end_off - off;
    size_t len = rest < HARDEN_BYTES ? (size_t)rest : HARDEN_BYTES;
    rv = flume_buf_reserve(&buf, len);
    if (rv == 0) rv = flume_io_read_full(io, segment->file, buf.data, len, off);
    if (rv == 0) rv = flume_io_write_full(io, segment->file, buf.data, len, off);
  }
  flume_buf_fini(&buf);
  return rv;
}

int flume_segment_harden(struct flume_segment *segment) {
  assert(segment->file >= 0);
  int rv = write_anew(segment);
  if (rv == 0) rv = segment->io->sync(segment->io->ctx, segment->file);
  if (rv == 0) segment->durable_off = segment->end_off;
  return rv;
}

/* --- Ending -------------------------------------------------------------------------------------------------- */

static int put_index(struct flume_segment *segment, struct flume_buf *out) {
  assert(segment->indexed_seq >= segment->first_seq && segment->indexed_seq < segment->next_seq);
  uint32_t count = (uint32_t)(segment->next_seq - segment->indexed_seq);
  size_t body_bytes = INDEX_BODY_HEADER_BYTES + (size_t)count * 4;
  int rv = flume_buf_reserve(out, FLUME_FRAME_HEADER_BYTES + body_bytes + END_BYTES);
  if (rv != 0) return rv;
  struct flume_frame frame = {.kind = FLUME_FRAME_INDEX,
                              .count = count,
                              .body_bytes = (uint32_t)body_bytes,
                              .first_seq = segment->indexed_seq,
                              .time_ms = segment->io->now_ms(segment->io->ctx),
                              .durable_off = segment->end_off};
  struct flume_place place = place_at(segment, segment->end_off + out->len);
  flume_frame_put(out->data + out->len, &frame, &place);
  uint8_t *body = out->data + out->len + FLUME_FRAME_HEADER_BYTES;
  flume_put_le64(body + 4, segment->index_off);
  const uint32_t *offsets = segment->offsets + (segment->indexed_seq - segment->first_seq);
  for (uint32_t i = 0; i < count; i++) flume_put_le32(body + INDEX_BODY_HEADER_BYTES + (size_t)i * 4, offsets[i]);
  flume_put_le32(body, flume_crc32c(0, body + 4, body_bytes - 4));
  out->len += FLUME_FRAME_HEADER_BYTES + body_bytes;
  return 0;
}

static int put_end(struct flume_segment *segment, struct flume_buf *out, uint64_t index_off, uint16_t flags) {
  int rv = flume_buf_reserve(out, END_BYTES);
  if (rv != 0) return rv;
  struct flume_frame frame = {.kind = FLUME_FRAME_END,
                              .flags = flags,
                              .count = segment->removed_count,
                              .body_bytes = END_BODY_BYTES,
                              .first_seq = segment->next_seq,
                              .time_ms = segment->io->now_ms(segment->io->ctx),
                              .durable_off = segment->end_off};
  struct flume_place place = place_at(segment, segment->end_off + out->len);
  flume_frame_put(out->data + out->len, &frame, &place);
  uint8_t *body = out->data + out->len + FLUME_FRAME_HEADER_BYTES;
  flume_put_le64(body + 4, index_off);
  flume_put_le32(body, flume_crc32c(0, body + 4, 8));
  out->len += END_BYTES;
  return 0;
}

int flume_segment_settle(struct flume_segment *segment, struct flume_err *err) {
  assert(segment->file >= 0 && segment->end_off >= FLUME_SEGMENT_HEADER_BYTES);
  const struct flume_io *io = segment->io;
  if (segment->ended) return 0;
  int rv = io->truncate(io->ctx, segment->file, segment->end_off);
  if (rv == 0) rv = io->sync(io->ctx, segment->file);
  if (rv != 0) return flume_err_set(err, rv, "ending %s: %s", segment->path, flume_strerror(rv));
  segment->file_bytes = segment->zeroed_off = segment->durable_off = segment->end_off;
  return 0;
}

/* Index and end frame in one write behind a settled segment. */
static int write_end(struct flume_segment *segment, uint16_t flags, struct flume_err *err) {
  assert(segment->file >= 0 && (segment->loaded || segment->indexed_seq == segment->next_seq));
  const struct flume_io *io = segment->io;
  struct flume_buf out;
  flume_buf_init(&out, io);
  uint64_t index_off = segment->index_off;
  int rv = 0;
  if (segment->next_seq > segment->indexed_seq) {
    index_off = segment->end_off;
    rv = put_index(segment, &out);
  }
  if (rv == 0) rv = put_end(segment, &out, index_off, flags);
  if (rv == 0) rv = flume_io_write_full(io, segment->file, out.data, out.len, segment->end_off);
  if (rv == 0) rv = io->sync(io->ctx, segment->file);
  if (rv == 0) {
    segment->end_off += out.len;
    segment->file_bytes = segment->zeroed_off = segment->durable_off = segment->end_off;
    segment->index_off = index_off;
    segment->indexed_seq = segment->next_seq;
    segment->ended = true;
    segment->sealed = (flags & FLUME_FRAME_SEALED) != 0;
  } else {
    flume_err_set(err, rv, "ending %s: %s", segment->path, flume_strerror(rv));
  }
  flume_buf_fini(&out);
  return rv;
}

/* Happy path: cut the zeros after the last frame, sync (data and new size), write index and end frame, sync. The end
 * frame says that everything before the index was durable, so damage found there later can't be taken for a torn write;
 * a crash in between leaves at most a torn index, which carries no records. */
int flume_segment_end(struct flume_segment *segment, struct flume_err *err) {
  if (segment->ended) return 0;
  int rv = flume_segment_settle(segment, err);
  return rv == 0 ? write_end(segment, 0, err) : rv;
}

int flume_segment_seal(struct flume_segment *segment, struct flume_err *err) {
  assert(segment->file >= 0);
  return segment->sealed ? 0 : write_end(segment, FLUME_FRAME_SEALED, err);
}
