/* Rewriting a segment, record by record, to take the place of the old one: for compaction and repair.
 *
 * It is made under the temporary name, which readers pass over and the next opening for writing removes, and gets its
 * own name when it is whole and on disk. Its frames say that everything before them was on disk: when anybody reads
 * them it was.
 *
 * Any thread, one at a time. Errors, of all functions: FLUME_ENOMEM, or an errno. */
#ifndef FLUME_SEGMENT_WRITER_H
#define FLUME_SEGMENT_WRITER_H

#include "base/buf.h"
#include "log/file/segment.h"

struct flume_segment_writer {
  const char *dir;
  struct flume_segment *segment; /* a reference; NULL when the writer is not open */
  struct flume_buf out;          /* what is not in the file yet */
  uint64_t out_off;              /* where it goes: bytes */
  uint64_t frame_off;            /* of the data frame that is being written; 0 between frames */
  int64_t frame_seq;
  uint64_t frame_time_ms;
};

/* dir is borrowed until fini. */
int flume_segment_writer_open(struct flume_segment_writer *writer, const struct flume_io *io, const char *dir,
                              int64_t first_seq, const uint8_t *log_id, struct flume_err *err);
/* Begins a data frame, with the time of the one whose place it takes. */
int flume_segment_writer_begin(struct flume_segment_writer *writer, uint64_t time_ms, struct flume_err *err);
/* The next record as it stands in a segment, header and all: its seq must be the one it has there. */
int flume_segment_writer_put(struct flume_segment_writer *writer, const uint8_t *bytes, size_t len,
                             struct flume_err *err);
/* The next record is not there any more. */
int flume_segment_writer_remove(struct flume_segment_writer *writer, struct flume_err *err);
/* Ends the data frame; a frame without records is as if it had not been begun. */
int flume_segment_writer_end(struct flume_segment_writer *writer, struct flume_err *err);
/* Appends index and end frame and syncs: FLUME_FRAME_SEALED in flags when a segment follows. */
int flume_segment_writer_finish(struct flume_segment_writer *writer, uint16_t flags, struct flume_err *err);
/* Puts the finished file in its place. *segment is the writer's reference, now the caller's; it is open and loaded. */
int flume_segment_writer_publish(struct flume_segment_writer *writer, struct flume_segment **segment,
                                 struct flume_err *err);
/* Removes the temporary file, unless it has been put in its place. */
void flume_segment_writer_fini(struct flume_segment_writer *writer);

#endif
