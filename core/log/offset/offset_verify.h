/* Going through the file of an offset log and what stands beside it, and saying in a report what is wrong: for a check,
 * which does it beside a log that is open, and for a repair, which then mends it. Any thread, one at a time. */
#ifndef FLUME_LOG_OFFSET_VERIFY_H
#define FLUME_LOG_OFFSET_VERIFY_H

#include "log/offset/offset_log.h"
#include "log/report.h"

/* Bytes of the file that are no records, and should be. */
struct flume_offset_gap {
  uint64_t off;
  uint64_t end_off; /* where the next good record begins; or, when none does, how far the file was on disk */
};

struct flume_offset_verify {
  struct offset_log *log; /* for its names, its id, its framing and its file; nothing else of it is looked at */
  struct flume_report *report;
  struct flume_offset_superblock superblock;
  bool superblock_damaged;
  struct flume_offset_set deleted;
  struct flume_offset_set zeros;
  bool deleted_damaged;
  bool zeros_damaged;
  struct flume_buf strangers; /* int64_t, ascending: seqs that are deleted, and at which no record begins */
  int64_t *named;             /* seqs that are deleted, ascending, each of which has to be a record's */
  size_t named_count;
  size_t named_at;
  struct flume_window window;
  uint64_t live_off;     /* a writer's own: how far it knows the file to go; else UINT64_MAX */
  uint64_t off;          /* of what comes next */
  struct flume_buf gaps; /* struct flume_offset_gap */
  bool at_end;           /* no good record comes behind the last of them */
};

/* Opens nothing. log and report are borrowed. For a log that is open for writing live_off may be set then: all bytes before
 * it must be records, and those behind it are not verified. */
void flume_offset_verify_init(struct flume_offset_verify *verify, struct offset_log *log, struct flume_report *report);
void flume_offset_verify_fini(struct flume_offset_verify *verify);

/* Reads what stands beside the file, and then how long that is. FLUME_EVERSION, FLUME_ENOMEM, an errno. */
int flume_offset_verify_begin(struct flume_offset_verify *verify, struct flume_err *err);
/* About max_bytes more of the file: 1 when there is more; 0 when the report is complete; an error as above. */
int flume_offset_verify_step(struct flume_offset_verify *verify, uint64_t max_bytes, struct flume_err *err);

#endif
