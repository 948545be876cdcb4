/* Reading everything in the directory of a file log, and saying in a report what is wrong: for flume_log_check, which
 * does it beside a log that is open, and for flume_log_repair, which then mends it.
 *
 * It goes in steps. Any thread, one at a time. */
#ifndef FLUME_CHECK_H
#define FLUME_CHECK_H

#include "log/deletions.h"
#include "log/file/segment_verify.h"
#include "log/lock_file.h"
#include "log/report.h"

/* Records that are damaged or missing. */
struct flume_lost_range {
  int64_t seq;
  int64_t count;
};

/* A segment as the names tell: it goes from first_seq to where the next one begins. */
struct flume_checked_segment {
  int64_t first_seq;
  bool damaged; /* something is wrong with it */
  bool foreign; /* it belongs to another log */
  bool unnamed; /* there is none, but should be */
};

struct flume_checker {
  const struct flume_io *io;
  const char *dir; /* borrowed */
  struct flume_report *report;
  int64_t live_seq; /* of an open log: where its active segment begins, and how far it goes; -1 */
  uint64_t live_off;
  uint8_t log_id[16];
  struct flume_checked_segment *segments; /* ascending */
  size_t segments_count;
  size_t segments_cap;
  struct flume_watermark watermark; /* of the last writer; since is -1 without one that says how far the log goes */
  struct flume_deletions deletions;
  bool deletions_damaged;
  bool overlaps;            /* two segments have records with the same seqs */
  bool successor_missing;   /* the last segment is sealed */
  int64_t next_seq;         /* of the record after the last one */
  struct flume_buf lost;    /* struct flume_lost_range */
  struct flume_buf removed; /* int64_t: taken out, but not in deletions */
  size_t at;                /* the segment that is under way */
  struct flume_segment *segment;
  struct flume_verify verify;
  uint64_t done_bytes; /* of the segments before it */
  uint64_t total_bytes;
};

/* Lists the directory and reads the file "deleted". For an open log: the first seq of its active segment, and its end
 * as of now; else -1 and 0. report is borrowed. FLUME_ENOENT when there is no log; FLUME_ECORRUPT when no segment says
 * which log it belongs to; FLUME_EVERSION, FLUME_ENOMEM, an errno. fini is due in any case. */
int flume_checker_open(struct flume_checker *checker, const struct flume_io *io, const char *dir, int64_t live_seq,
                       uint64_t live_off, struct flume_report *report, struct flume_err *err);
/* About max_bytes more: 1 when there is more; 0 when the report is complete; an error as above. */
int flume_checker_step(struct flume_checker *checker, uint64_t max_bytes, struct flume_err *err);
/* How many bytes of total_bytes were read. */
uint64_t flume_checker_done(const struct flume_checker *checker);
void flume_checker_fini(struct flume_checker *checker);

/* For whoever mends it: begins the verification of segment i with other ops; segment and verification are the caller's
 * to unref and to fini. */
int flume_checker_verify(const struct flume_checker *checker, size_t i, const struct flume_verify_ops *ops, void *arg,
                         struct flume_segment **segment, struct flume_verify *verify, struct flume_err *err);

#endif
