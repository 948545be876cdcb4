/* The framing of a JavaScript flumelog-offset file, byte by byte in core/FORMAT.md, section "Offset logs": a record is its
 * length, its bytes, its length again, and a pointer: the offset in the file where the record ends, which is where the
 * next one begins. */
#ifndef FLUME_OFFSET_FRAME_H
#define FLUME_OFFSET_FRAME_H

#include "base/file_window.h"

#define FLUME_OFFSET_LENGTH_BYTES 4
#define FLUME_OFFSET_SECTOR_BYTES 512u      /* what a disk writes as a whole */
#define FLUME_OFFSET_LIMIT_BYTES (1u << 30) /* of a record; what claims to be larger is none */

/* How wide the pointers of a file are, in bits. */
enum flume_offset_bits { FLUME_OFFSET_32 = 32, FLUME_OFFSET_48 = 48, FLUME_OFFSET_53 = 53 };

/* Whether there is such a framing. */
static inline bool flume_offset_bits_known(uint32_t bits) {
  return bits == FLUME_OFFSET_32 || bits == FLUME_OFFSET_48 || bits == FLUME_OFFSET_53;
}

/* The bytes that a pointer takes. */
static inline uint32_t flume_offset_pointer_bytes(enum flume_offset_bits bits) {
  return bits == FLUME_OFFSET_32 ? 4 : bits == FLUME_OFFSET_48 ? 6 : 8;
}

/* The bytes around a record of the file. */
static inline uint32_t flume_offset_framing_bytes(enum flume_offset_bits bits) {
  return 2 * FLUME_OFFSET_LENGTH_BYTES + flume_offset_pointer_bytes(bits);
}

/* No pointer can be greater: where the file has to end. */
static inline uint64_t flume_offset_max(enum flume_offset_bits bits) {
  return ((uint64_t)1 << bits) - 1;
}

struct flume_offset_record {
  uint64_t off; /* in the file, of its frame: its seq */
  uint32_t len; /* of its bytes, which begin at off + FLUME_OFFSET_LENGTH_BYTES */
  uint64_t end_off;
  bool zero; /* it has bytes, and all of them are 0: it was deleted, says the original */
};

/* The pointer at p. */
uint64_t flume_offset_pointer(const uint8_t *p, enum flume_offset_bits bits);

/* Writes the frame of a record that will be at off. Returns where it ends. */
uint8_t *flume_offset_put(uint8_t *out, struct flume_slice record, uint64_t off, enum flume_offset_bits bits);

/* Whether the bytes, of a record, are all 0. An empty one is not. */
bool flume_offset_is_zero(const uint8_t *data, size_t len);

/* Whether a sector of the disk lies within the frame, of len bytes, that is at off in the file, and has zeros alone: so
 * looks one that was never written, in a file that had become longer. One at the very start of the frame is none of
 * these, for its length would not be right then. */
bool flume_offset_has_hole(const uint8_t *frame, size_t len, uint64_t off);

/* The frame at off, which lies within the file: 1 and *record; 0 and *why, a static text, when it is none; else
 * FLUME_ENOMEM, FLUME_ECORRUPT (the file is shorter than it was) or an errno. */
int flume_offset_read(struct flume_window *window, uint64_t off, enum flume_offset_bits bits,
                      struct flume_offset_record *record, const char **why);

/* The first frame that begins behind off, wherever: 1 and *record, 0 when there is none, or as flume_offset_read. */
int flume_offset_find(struct flume_window *window, uint64_t off, enum flume_offset_bits bits,
                      struct flume_offset_record *record);

/* Which framing the file has: that of its first frame or, when the file does not begin with one, of the first that there
 * is; 0 when it has none. Errors as flume_offset_read. */
int flume_offset_detect(struct flume_window *window);

#endif
