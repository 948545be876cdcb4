#include "log/deletions.h"

#include <assert.h>

#define DELETED_SEGMENT_SEQ (-1) /* in the place of the frames: no segment has it */
#define BODY_HEADER_BYTES 4      /* checksum */
#define WRITTEN_AT_ONCE 4096u    /* seqs in a frame of flume_deletions_write */

void flume_deletions_init(struct flume_deletions *deletions, const struct flume_io *io) {
  *deletions = (struct flume_deletions){.end_off = 0};
  flume_tombstones_init(&deletions->deleted, io);
  flume_tombstones_init(&deletions->lost, io);
}

void flume_deletions_fini(struct flume_deletions *deletions) {
  flume_tombstones_fini(&deletions->deleted);
  flume_tombstones_fini(&deletions->lost);
}

/* --- Reading ------------------------------------------------------------------------------------------------- */

/* A piece of the file, from base_off to its end. Offsets in it count from there. */
struct piece {
  const struct flume_buf *bytes;
  uint64_t base_off;
  const uint8_t *log_id;
};

static int frame_at(const struct piece *piece, size_t off, struct flume_frame *frame) {
  const char *why;
  if (piece->bytes->len - off < FLUME_FRAME_HEADER_BYTES) return FLUME_ECORRUPT;
  struct flume_place place = {piece->log_id, DELETED_SEGMENT_SEQ, piece->base_off + off};
  int rv = flume_frame_get(piece->bytes->data + off, frame, &place, &why);
  if (rv != 0) return rv;
  return frame->kind == FLUME_FRAME_DELETE || frame->kind == FLUME_FRAME_END ? 0 : FLUME_ECORRUPT;
}

static int take_seqs(struct flume_deletions *deletions, const struct flume_frame *frame, const uint8_t *seqs) {
  int rv = flume_tombstones_reserve(&deletions->deleted, frame->count);
  bool lost = (frame->flags & FLUME_FRAME_LOST) != 0;
  if (rv == 0 && lost) rv = flume_tombstones_reserve(&deletions->lost, frame->count);
  if (rv != 0) return rv;
  for (uint32_t i = 0; i < frame->count; i++) {
    int64_t seq = (int64_t)flume_get_le64(seqs + (size_t)i * 8);
    if (seq < 0) flume_tombstones_add_unknown(&deletions->deleted);
    else flume_tombstones_add(&deletions->deleted, seq);
    if (lost && seq >= 0) flume_tombstones_add(&deletions->lost, seq);
  }
  return 0;
}

/* Takes over the seqs of the frame at off, and *off behind it. */
static int take_frame(struct flume_deletions *deletions, const struct piece *piece, size_t *off) {
  const struct flume_buf *file = piece->bytes;
  struct flume_frame frame;
  int rv = frame_at(piece, *off, &frame);
  if (rv != 0) return rv;
  size_t body_off = *off + FLUME_FRAME_HEADER_BYTES;
  if (frame.kind != FLUME_FRAME_DELETE || frame.first_seq != (int64_t)deletions->deleted.count ||
      frame.body_bytes != BODY_HEADER_BYTES + (uint64_t)frame.count * 8 || file->len - body_off < frame.body_bytes) {
    return FLUME_ECORRUPT;
  }
  const uint8_t *body = file->data + body_off;
  if (flume_get_le32(body) != flume_crc32c(0, body + 4, frame.body_bytes - 4)) return FLUME_ECORRUPT;
  rv = take_seqs(deletions, &frame, body + BODY_HEADER_BYTES);
  if (rv == 0) *off = body_off + frame.body_bytes;
  return rv;
}

/* The next good frame header behind off; the end when there is none. */
static size_t find_frame(const struct piece *piece, size_t off, struct flume_frame *frame) {
  for (off++; off < piece->bytes->len; off++) {
    if (frame_at(piece, off, frame) == 0) return off;
  }
  return piece->bytes->len;
}

/* Takes over good frames from *off on. FLUME_ECORRUPT at damage; *next_off is then the good frame behind it. */
static int take_frames(struct flume_deletions *deletions, const struct piece *piece, size_t *off, size_t *next_off,
                       struct flume_frame *next) {
  const struct flume_buf *file = piece->bytes;
  int rv = 0;
  while (*off < file->len && (rv = take_frame(deletions, piece, off)) == 0) continue;
  if (rv == FLUME_ENOMEM) return rv;
  deletions->end_off = piece->base_off + *off;
  *next_off = *off < file->len ? find_frame(piece, *off, next) : file->len;
  if (*next_off < file->len) return FLUME_ECORRUPT;
  struct flume_frame end;
  deletions->ended = file->len == *off + FLUME_FRAME_HEADER_BYTES && frame_at(piece, *off, &end) == 0 &&
                     end.kind == FLUME_FRAME_END && end.first_seq == (int64_t)deletions->deleted.count;
  return 0;
}

static int read_piece(struct flume_deletions *deletions, const struct piece *piece, uint64_t *bad_off) {
  size_t off = 0, next_off;
  struct flume_frame next;
  int rv = take_frames(deletions, piece, &off, &next_off, &next);
  if (rv == FLUME_ECORRUPT) *bad_off = piece->base_off + off;
  return rv;
}

int flume_deletions_read(struct flume_deletions *deletions, const struct flume_buf *file, const uint8_t *log_id,
                         uint64_t *bad_off) {
  struct piece piece = {file, 0, log_id};
  return read_piece(deletions, &piece, bad_off);
}

int flume_deletions_follow(struct flume_deletions *deletions, const struct flume_buf *more, const uint8_t *log_id,
                           uint64_t *bad_off) {
  struct piece piece = {more, deletions->end_off, log_id};
  return read_piece(deletions, &piece, bad_off);
}

int flume_deletions_salvage(struct flume_deletions *deletions, const struct flume_buf *file, const uint8_t *log_id,
                            uint64_t *off, uint64_t *bad_off) {
  size_t at = (size_t)*off, next_off;
  struct flume_frame next;
  struct piece piece = {file, 0, log_id};
  int rv = take_frames(deletions, &piece, &at, &next_off, &next);
  if (rv != FLUME_ECORRUPT) return rv;
  *bad_off = at;
  *off = next_off;
  int64_t missing = next.first_seq - (int64_t)deletions->deleted.count;
  if (missing < 0 || missing > (int64_t)(file->len / 8)) return FLUME_ECORRUPT;
  if (flume_tombstones_reserve(&deletions->deleted, (size_t)missing) != 0) return FLUME_ENOMEM;
  while (missing-- > 0) flume_tombstones_add_unknown(&deletions->deleted);
  return FLUME_ECORRUPT;
}

/* --- Writing ------------------------------------------------------------------------------------------------- */

int flume_deletions_reserve(struct flume_buf *bytes, size_t count) {
  return flume_buf_reserve(bytes, FLUME_FRAME_HEADER_BYTES + BODY_HEADER_BYTES + count * 8);
}

uint8_t *flume_deletions_seq(const struct flume_buf *bytes, uint32_t i) {
  return bytes->data + FLUME_FRAME_HEADER_BYTES + BODY_HEADER_BYTES + (size_t)i * 8;
}

void flume_deletions_put(struct flume_buf *bytes, uint32_t count, int64_t ordinal, uint64_t off, uint64_t time_ms,
                         const uint8_t *log_id, uint16_t flags) {
  assert(count > 0 && ordinal >= 0);
  uint32_t body_bytes = BODY_HEADER_BYTES + count * 8;
  uint8_t *body = bytes->data + FLUME_FRAME_HEADER_BYTES;
  flume_put_le32(body, flume_crc32c(0, body + 4, body_bytes - 4));
  struct flume_frame frame = {.kind = FLUME_FRAME_DELETE,
                              .flags = flags,
                              .count = count,
                              .body_bytes = body_bytes,
                              .first_seq = ordinal,
                              .time_ms = time_ms,
                              .durable_off = off};
  struct flume_place place = {log_id, DELETED_SEGMENT_SEQ, off};
  flume_frame_put(bytes->data, &frame, &place);
  bytes->len = FLUME_FRAME_HEADER_BYTES + body_bytes;
}

void flume_deletions_put_end(uint8_t *header, int64_t deletions, uint64_t off, uint64_t time_ms,
                             const uint8_t *log_id) {
  struct flume_frame frame = {.kind = FLUME_FRAME_END, .first_seq = deletions, .time_ms = time_ms, .durable_off = off};
  struct flume_place place = {log_id, DELETED_SEGMENT_SEQ, off};
  flume_frame_put(header, &frame, &place);
}

static bool is_lost(const struct flume_deletions *deletions, size_t i) {
  return flume_tombstones_has(&deletions->lost, deletions->deleted.order[i]);
}

int flume_deletions_write(const struct flume_deletions *deletions, struct flume_buf *out, uint64_t time_ms,
                          const uint8_t *log_id) {
  const struct flume_tombstones *deleted = &deletions->deleted;
  struct flume_buf frame;
  flume_buf_init(&frame, out->io);
  int rv = flume_deletions_reserve(&frame, WRITTEN_AT_ONCE);
  for (size_t i = 0; i < deleted->count && rv == 0;) {
    bool lost = is_lost(deletions, i);
    uint32_t count = 0;
    for (; i + count < deleted->count && count < WRITTEN_AT_ONCE && is_lost(deletions, i + count) == lost; count++) {
      flume_put_le64(flume_deletions_seq(&frame, count), (uint64_t)deleted->order[i + count]);
    }
    flume_deletions_put(&frame, count, (int64_t)i, out->len, time_ms, log_id, lost ? FLUME_FRAME_LOST : 0);
    rv = flume_buf_append(out, frame.data, frame.len);
    i += count;
  }
  uint8_t header[FLUME_FRAME_HEADER_BYTES];
  flume_deletions_put_end(header, (int64_t)deleted->count, out->len, time_ms, log_id);
  if (rv == 0) rv = flume_buf_append(out, header, sizeof header);
  flume_buf_fini(&frame);
  return rv;
}
