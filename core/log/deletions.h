/* The frames of the file "deleted", in memory: reading them, and making them (core/FORMAT.md). */
#ifndef FLUME_DELETIONS_H
#define FLUME_DELETIONS_H

#include "base/buf.h"
#include "log/frame.h"
#include "log/tombstones.h"

/* What was read. */
struct flume_deletions {
  struct flume_tombstones deleted;
  struct flume_tombstones lost; /* those of deleted that a repair took out */
  uint64_t end_off;             /* behind the last delete frame: bytes */
  bool ended;                   /* the end frame is there, and nothing behind it */
};

void flume_deletions_init(struct flume_deletions *deletions, const struct flume_io *io);
void flume_deletions_fini(struct flume_deletions *deletions);

/* Takes over the frames in the file's bytes. What is torn at the end is passed over. FLUME_ECORRUPT: *bad_off is where
 * damage begins, and what is before it was taken over. FLUME_ENOMEM. */
int flume_deletions_read(struct flume_deletions *deletions, const struct flume_buf *file, const uint8_t *log_id,
                         uint64_t *bad_off);
/* The same for the bytes that the file has from end_off on. */
int flume_deletions_follow(struct flume_deletions *deletions, const struct flume_buf *more, const uint8_t *log_id,
                           uint64_t *bad_off);
/* As flume_deletions_read, but going on behind damage at *off (0 at first) with the next good frame: what it shows to be
 * missing is unknown. FLUME_ECORRUPT, *bad_off, and *off where to go on. */
int flume_deletions_salvage(struct flume_deletions *deletions, const struct flume_buf *file, const uint8_t *log_id,
                            uint64_t *off, uint64_t *bad_off);

/* Room in bytes for the header and count seqs. FLUME_ENOMEM. */
int flume_deletions_reserve(struct flume_buf *bytes, size_t count);
/* Where seq number i of such bytes is. */
uint8_t *flume_deletions_seq(const struct flume_buf *bytes, uint32_t i);
/* Completes a delete frame with count seqs, which will stand at off. ordinal: how many deletions are before it. */
void flume_deletions_put(struct flume_buf *bytes, uint32_t count, int64_t ordinal, uint64_t off, uint64_t time_ms,
                         const uint8_t *log_id, uint16_t flags);
/* Writes the 48 bytes of an end frame that will stand at off. */
void flume_deletions_put_end(uint8_t *header, int64_t deletions, uint64_t off, uint64_t time_ms, const uint8_t *log_id);

/* Appends all of it to out as a file that can take the place of the one it was read from. FLUME_ENOMEM. */
int flume_deletions_write(const struct flume_deletions *deletions, struct flume_buf *out, uint64_t time_ms,
                          const uint8_t *log_id);

#endif
