/* Rewriting one sealed segment without the bytes of deleted records.
 *
 * Frames stay what they are, with their times; a removed record leaves a slot of 8 bytes, so that the others keep their
 * seqs. What is copied is checked: damage ends the rewriting, and the segment stays as it was.
 *
 * It goes in steps, so that whoever waits for it can look on, or give it up between two of them. Any thread, one at a
 * time. */
#ifndef FLUME_COMPACTION_H
#define FLUME_COMPACTION_H

#include "base/file_window.h"
#include "log/file/segment_writer.h"

struct flume_compaction {
  struct flume_segment *from; /* borrowed: open, loaded or peeked */
  struct flume_segment_writer writer;
  struct flume_window window;
  const int64_t *gone; /* borrowed: the deleted seqs of the segment, ascending */
  size_t gone_count;
  size_t gone_at;           /* the first that was not passed yet */
  uint64_t off;             /* in from: bytes before it are dealt with */
  struct flume_frame frame; /* the data frame that off is in */
  uint64_t frame_end_off;
  uint32_t frame_left; /* records of it; 0 between frames */
};

/* dir, from and gone are borrowed until fini. FLUME_ENOMEM or an errno. */
int flume_compaction_begin(struct flume_compaction *compaction, const char *dir, struct flume_segment *from,
                           const int64_t *gone, size_t gone_count, struct flume_err *err);
/* Deals with about max_bytes more: 1 when there is more to do; 0 when the new file is whole, and on disk under its
 * temporary name; FLUME_ECORRUPT, FLUME_ENOMEM or an errno. */
int flume_compaction_step(struct flume_compaction *compaction, uint64_t max_bytes, struct flume_err *err);
/* Puts the new file in the place of the old one. *segment is open and loaded, and the caller's reference. */
int flume_compaction_publish(struct flume_compaction *compaction, struct flume_segment **segment,
                             struct flume_err *err);
/* What was not published is removed. A zeroed struct is allowed. */
void flume_compaction_fini(struct flume_compaction *compaction);

#endif
