/* A frame is recognised by its two lengths, which are the same, and by its pointer, which is right at one place of the
 * file alone. So what looks like one inside the bytes of a record, which hold another file perhaps, is none. */
#include "log/offset/offset_frame.h"

#include "base/bytes.h"

#define PIECE_BYTES 4096u

uint64_t flume_offset_pointer(const uint8_t *p, enum flume_offset_bits bits) {
  switch (bits) {
    case FLUME_OFFSET_32: return flume_get_be32(p);
    case FLUME_OFFSET_48: return (uint64_t)flume_get_be16(p) << 32 | flume_get_be32(p + 2);
    case FLUME_OFFSET_53: break;
  }
  return flume_get_be64(p);
}

static uint8_t *put_pointer(uint8_t *p, uint64_t off, enum flume_offset_bits bits) {
  switch (bits) {
    case FLUME_OFFSET_32: flume_put_be32(p, (uint32_t)off); break;
    case FLUME_OFFSET_48:
      flume_put_be16(p, (uint16_t)(off >> 32));
      flume_put_be32(p + 2, (uint32_t)off);
      break;
    case FLUME_OFFSET_53: flume_put_be64(p, off); break;
  }
  return p + flume_offset_pointer_bytes(bits);
}

uint8_t *flume_offset_put(uint8_t *out, struct flume_slice record, uint64_t off, enum flume_offset_bits bits) {
  flume_put_be32(out, (uint32_t)record.len);
  if (record.len > 0) memcpy(out + FLUME_OFFSET_LENGTH_BYTES, record.data, record.len);
  uint8_t *behind = out + FLUME_OFFSET_LENGTH_BYTES + record.len;
  flume_put_be32(behind, (uint32_t)record.len);
  return put_pointer(behind + FLUME_OFFSET_LENGTH_BYTES, off + flume_offset_framing_bytes(bits) + record.len, bits);
}

bool flume_offset_is_zero(const uint8_t *data, size_t len) {
  return len > 0 && data[0] == 0 && memcmp(data, data + 1, len - 1) == 0;
}

bool flume_offset_has_hole(const uint8_t *frame, size_t len, uint64_t off) {
  size_t at = FLUME_OFFSET_SECTOR_BYTES - (size_t)(off % FLUME_OFFSET_SECTOR_BYTES);
  for (; at < len && len - at >= FLUME_OFFSET_SECTOR_BYTES; at += FLUME_OFFSET_SECTOR_BYTES) {
    if (flume_offset_is_zero(frame + at, FLUME_OFFSET_SECTOR_BYTES)) return true;
  }
  return false;
}

/* Whether the len bytes at off are 0, a piece at a time: most records end this with their first byte. */
static int read_zero(struct flume_window *window, uint64_t off, uint32_t len, bool *zero) {
  *zero = len > 0;
  for (uint32_t done = 0; done < len && *zero;) {
    const uint8_t *bytes;
    uint32_t piece = done == 0 ? 1 : len - done < PIECE_BYTES ? len - done : PIECE_BYTES;
    int rv = flume_window_get(window, off + done, piece, &bytes);
    if (rv != 0) return rv;
    *zero = flume_offset_is_zero(bytes, piece);
    done += piece;
  }
  return 0;
}

static int is_none(const char **why, const char *text) {
  if (why != NULL) *why = text;
  return 0;
}

int flume_offset_read(struct flume_window *window, uint64_t off, enum flume_offset_bits bits,
                      struct flume_offset_record *record, const char **why) {
  uint64_t rest = window->file_bytes - off, framing = flume_offset_framing_bytes(bits);
  const uint8_t *bytes;
  if (rest < framing) return is_none(why, "the file ends within a record");
  int rv = flume_window_get(window, off, FLUME_OFFSET_LENGTH_BYTES, &bytes);
  if (rv != 0) return rv;
  uint32_t len = flume_get_be32(bytes);
  if (len > rest - framing) return is_none(why, "a record that is longer than the file");
  if (len > FLUME_OFFSET_LIMIT_BYTES) return is_none(why, "a record that is longer than 1 GiB");
  uint64_t end_off = off + framing + len;
  bool zero;
  rv = read_zero(window, off + FLUME_OFFSET_LENGTH_BYTES, len, &zero);
  if (rv == 0) {
    size_t tail = (size_t)framing - FLUME_OFFSET_LENGTH_BYTES;
    rv = flume_window_get(window, end_off - tail, tail, &bytes);
  }
  if (rv != 0) return rv;
  if (flume_get_be32(bytes) != len) return is_none(why, "the lengths before and behind a record differ");
  if (flume_offset_pointer(bytes + FLUME_OFFSET_LENGTH_BYTES, bits) != end_off) {
    return is_none(why, "the pointer behind a record is wrong");
  }
  *record = (struct flume_offset_record){.off = off, .len = len, .end_off = end_off, .zero = zero};
  return 1;
}

/* Whether a frame that begins behind off ends where the pointer at `bytes` is: that is at end_off - pointer_bytes. */
static int ends_frame(struct flume_window *lengths, uint64_t off, uint64_t end_off, enum flume_offset_bits bits,
                      struct flume_offset_record *record) {
  const uint8_t *bytes;
  uint64_t framing = flume_offset_framing_bytes(bits);
  uint64_t length_off = end_off - framing + FLUME_OFFSET_LENGTH_BYTES;
  int rv = flume_window_get(lengths, length_off, FLUME_OFFSET_LENGTH_BYTES, &bytes);
  if (rv != 0) return rv;
  uint32_t len = flume_get_be32(bytes);
  if (len > end_off - framing || end_off - framing - len <= off) return 0;
  return flume_offset_read(lengths, end_off - framing - len, bits, record, NULL);
}

/* A pointer that says where it ends itself is rare: so the bytes are read once, and few places are looked at twice. */
static int find(struct flume_window *window, struct flume_window *lengths, uint64_t off, enum flume_offset_bits bits,
                struct flume_offset_record *record) {
  uint32_t pointer_bytes = flume_offset_pointer_bytes(bits);
  uint64_t first_off = off + flume_offset_framing_bytes(bits) + 1;
  for (uint64_t end_off = first_off; end_off <= window->file_bytes; end_off++) {
    const uint8_t *bytes;
    int rv = flume_window_get(window, end_off - pointer_bytes, pointer_bytes, &bytes);
    if (rv != 0) return rv;
    if (flume_offset_pointer(bytes, bits) != end_off) continue;
    rv = ends_frame(lengths, off, end_off, bits, record);
    if (rv != 0) return rv;
  }
  return 0;
}

int flume_offset_find(struct flume_window *window, uint64_t off, enum flume_offset_bits bits,
                      struct flume_offset_record *record) {
  struct flume_window lengths;
  flume_window_init(&lengths, window->io, window->file, window->file_bytes);
  lengths.step_bytes = PIECE_BYTES;
  int rv = find(window, &lengths, off, bits, record);
  flume_window_fini(&lengths);
  return rv;
}

int flume_offset_detect(struct flume_window *window) {
  static const enum flume_offset_bits all[] = {FLUME_OFFSET_32, FLUME_OFFSET_48, FLUME_OFFSET_53};
  struct flume_offset_record record;
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    int rv = flume_offset_read(window, 0, all[i], &record, NULL);
    if (rv != 0) return rv < 0 ? rv : (int)all[i];
  }
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) { /* damaged, or nothing but a torn record */
    int rv = flume_offset_find(window, 0, all[i], &record);
    if (rv != 0) return rv < 0 ? rv : (int)all[i];
  }
  return 0;
}
