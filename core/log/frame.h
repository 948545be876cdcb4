/* The frame: the unit of atomicity in a segment file. Byte by byte in core/FORMAT.md, section "Frames". */
#ifndef FLUME_FRAME_H
#define FLUME_FRAME_H

#include "base/bytes.h"
#include "base/crc32c.h"
#include "log/block.h"

#define FLUME_FRAME_MAGIC 0x6d6c4672u /* "rFlm" */
#define FLUME_FRAME_HEADER_BYTES 48

enum flume_frame_kind {
  FLUME_FRAME_DATA = 1,   /* count records */
  FLUME_FRAME_INDEX = 2,  /* offsets of the records since the last index */
  FLUME_FRAME_END = 3,    /* closed in order: where the last index is */
  FLUME_FRAME_DELETE = 4, /* count seqs that were deleted; only in the file "deleted" */
};

enum flume_frame_flag {
  FLUME_FRAME_SEALED = 1, /* of an end frame: the next segment has been begun */
  FLUME_FRAME_LOST = 1,   /* of a delete frame: a repair took the records out, for they were damaged */
};

struct flume_frame {
  uint16_t kind;  /* enum flume_frame_kind */
  uint16_t flags; /* enum flume_frame_flag */
  uint32_t count;
  uint32_t body_bytes;  /* that follow the header */
  int64_t first_seq;    /* of the first record, or that the next record will have */
  uint64_t time_ms;     /* since 1970, when it was written */
  uint64_t durable_off; /* every byte of the file before this one was on disk when the frame was written */
};

/* The seq of the next record, where the frame stands: an index begins with records before it, all others have it. */
static inline int64_t flume_frame_next_seq(const struct flume_frame *frame) {
  return frame->kind == FLUME_FRAME_INDEX ? frame->first_seq + frame->count : frame->first_seq;
}

/* Where a frame stands. It goes into the header's checksum, so that a frame that was copied elsewhere, by a misplaced
 * write or inside a record, is not taken for one. */
struct flume_place {
  const uint8_t *log_id; /* 16 bytes */
  int64_t segment_seq;   /* first_seq of the segment */
  uint64_t off;          /* in the file */
};

/* In place of a record's length: its bytes were taken out, and nothing follows. No record is as long. */
#define FLUME_RECORD_REMOVED 0x80000000u

/* Writes the 48 bytes of the header, checksum included. */
void flume_frame_put(uint8_t *header, const struct flume_frame *frame, const struct flume_place *place);
/* 0, or FLUME_ECORRUPT with *why a static text. Checks the header alone. */
int flume_frame_get(const uint8_t *header, struct flume_frame *frame, const struct flume_place *place,
                    const char **why);

/* Where the checksum of a record starts: it covers seq and length too, so that bytes of another record, or of this
 * one at another place, don't pass for it. */
static inline uint32_t flume_record_seed(int64_t seq, uint32_t len) {
  return flume_crc32c_words((uint64_t)seq, len);
}

/* Whether the 8 bytes say that record seq was taken out. */
static inline bool flume_record_is_removed(const uint8_t *header, int64_t seq) {
  return flume_get_le32(header) == FLUME_RECORD_REMOVED &&
         flume_get_le32(header + 4) == flume_record_seed(seq, FLUME_RECORD_REMOVED);
}

/* Writes header and bytes of each record at out, which has room; offsets[i] gets where record i begins, counted from
 * `at`, the offset that out has. Returns the end. */
uint8_t *flume_records_put(uint8_t *out, uint32_t at, const struct flume_slice *records, size_t count,
                           int64_t first_seq, uint32_t *offsets);

/* Checks records against their checksums. Record i begins at base + offsets[i] (or is FLUME_BLOCK_GONE) and ends
 * within len; the offset of one that was taken out becomes FLUME_BLOCK_GONE. Returns the number of good records before
 * the first bad one: count when all are good. */
uint32_t flume_records_check(const uint8_t *base, size_t len, uint32_t *offsets, uint32_t count, int64_t first_seq);

#endif
