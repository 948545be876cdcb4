/* Reading a segment from its first frame to its last byte, verifying all, and going on behind whatever is bad.
 *
 * Where frames or records are damaged, the seqs of what follows say how many there were; good records between are found
 * again by their checksums, which cover their seqs. What ends the last segment and was never acknowledged as durable is
 * torn, and no damage; nor is an index that a crash has cut short and an opening has passed over: see segment_scan.c.
 *
 * It goes in steps. Any thread, one at a time. */
#ifndef FLUME_SEGMENT_VERIFY_H
#define FLUME_SEGMENT_VERIFY_H

#include "base/file_window.h"
#include "log/file/segment.h"

/* What it comes upon, in the order of the seqs: each seq is in one call of record or lost. All return 0, or an error,
 * which ends the verification. */
struct flume_verify_ops {
  /* The records of one data frame follow. */
  int (*frame)(void *arg, uint64_t time_ms);
  /* A good record, header and all, borrowed. For one that was taken out its length is FLUME_RECORD_REMOVED, and len 8. */
  int (*record)(void *arg, int64_t seq, const uint8_t *bytes, size_t len);
  /* The records [seq, seq + count) are damaged or missing. */
  int (*lost)(void *arg, int64_t seq, int64_t count);
  int (*problem)(void *arg, uint64_t off, int64_t seq, const char *what);
  /* An index or end frame that was never whole: an opening has passed over it, as the records are all there. */
  int (*remnant)(void *arg, uint64_t off, int64_t seq);
};

/* A bad place without records. An index behind it that covers all records again shows that it was whole once. */
struct flume_doubt {
  uint64_t off;
  int64_t seq;
  const char *why;
};

struct flume_verify {
  const struct flume_segment *segment; /* borrowed: its file is open, its log_id known */
  const struct flume_verify_ops *ops;
  void *arg;
  struct flume_window window;
  struct flume_buf offsets; /* uint32_t for each record so far; 0 when it is lost */
  struct flume_buf doubts;  /* struct flume_doubt: what may be remnants, or damaged */
  bool last;                /* no segment follows */
  int64_t bound_seq;        /* where the next one begins; for the last: how far it goes at least */
  uint64_t off;             /* bytes before it are verified */
  int64_t next_seq;
  uint64_t index_off; /* of the last index frame; 0 */
  int64_t indexed_seq;
  uint32_t removed_count;
  bool ended;        /* the last frame is an end frame */
  bool sealed;       /* which says so */
  uint64_t torn_off; /* where a torn end begins; 0 when there is none */
};

/* end_off: bytes of the file to look at. ops and arg are borrowed until fini. */
void flume_verify_init(struct flume_verify *verify, const struct flume_segment *segment, uint64_t end_off, bool last,
                       int64_t bound_seq, const struct flume_verify_ops *ops, void *arg);
/* About max_bytes more: 1 when there is more; 0 at the end; FLUME_ENOMEM, an errno, or what a function of ops gave. */
int flume_verify_step(struct flume_verify *verify, uint64_t max_bytes);
void flume_verify_fini(struct flume_verify *verify);

#endif
