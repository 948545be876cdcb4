/* One segment file: its header, the frames in it, the index of its records, and how it is scanned and sealed.
 *
 * A segment is referenced by its log and by the blocks that are read from it; it keeps its file open as long, so that
 * a reader is not disturbed when the file is replaced or removed. */
#ifndef FLUME_SEGMENT_H
#define FLUME_SEGMENT_H

#include "base/io.h"
#include "log/frame.h"

#define FLUME_SEGMENT_HEADER_BYTES 64
#define FLUME_SEGMENT_VERSION 1
#define FLUME_SEGMENT_SUFFIX ".flume"
#define FLUME_TEMPORARY_SUFFIX ".new" /* of a file until it is whole */

struct flume_segment {
  atomic_int refs;
  const struct flume_io *io;
  char *path;
  int file;              /* -1 until opened */
  int64_t first_seq;     /* of its first record, as in its name */
  int64_t next_seq;      /* of the record after its last one */
  uint64_t end_off;      /* where the next frame goes: bytes */
  uint64_t data_end_off; /* where the last record ends */
  uint64_t file_bytes;   /* size of the file when it was loaded */
  uint64_t zeroed_off;   /* up to here the file is known to be written, with zeros after end_off */
  uint64_t index_off;    /* of the last index frame; 0 when there is none */
  int64_t indexed_seq;   /* the first record that no index frame covers */
  uint64_t durable_off;  /* every byte before it is on disk; after a scan, as far as a frame says so */
  uint64_t synced_off;   /* the same, as other threads than the commit's have synced it; guarded by the log's lock */
  bool no_room_ahead;    /* the disk was full when zeros were written: it is not tried again */
  bool ended;            /* the last frame is an end frame */
  bool sealed;           /* and says that the next segment has been begun */
  bool loaded;           /* offsets are there */
  uint32_t *offsets;     /* of each record's header in the file */
  size_t offsets_cap;
  int64_t offsets_seq;    /* the seq of offsets[0]: first_seq, except in a tail */
  uint32_t removed_count; /* records whose bytes a compaction or a repair took out; known once it is loaded or peeked */
  uint8_t log_id[16];
};

/* What a scan says of the place where it stopped. */
struct flume_damage {
  uint64_t off;    /* of the first bad byte, about */
  int64_t seq;     /* that would have come there */
  const char *why; /* static text; NULL: the file simply ends */
  bool torn;       /* nothing after it was ever acknowledged: may be cut off */
};

/* The seq in the name of a segment's file, "00000000000000000042.flume" is 42; -1 for any other name. */
int64_t flume_segment_seq_of(const char *name);
/* Whether the name is that of a temporary file, which a crash has left behind. */
bool flume_segment_is_temporary(const char *name);

/* "DIR/00000000000000000000.flume". UV_ENAMETOOLONG. */
int flume_segment_path(const char *dir, int64_t first_seq, char *path, size_t size);
/* A segment with that path, that owns its path, with one reference. NULL: no memory. */
struct flume_segment *flume_segment_new(const struct flume_io *io, const char *dir, int64_t first_seq);
struct flume_segment *flume_segment_ref(struct flume_segment *segment);
void flume_segment_unref(struct flume_segment *segment);

/* Makes the file under a temporary name, with its header alone. The segment is then open and empty. */
int flume_segment_draft(struct flume_segment *segment, const uint8_t *log_id, struct flume_err *err);
/* Syncs what was drafted, and gives it its own name, durably. When that fails the file may have either name. */
int flume_segment_publish(struct flume_segment *segment, const char *dir, struct flume_err *err);
/* Removes the temporary file. */
void flume_segment_undraft(struct flume_segment *segment);
/* Drafts and publishes. */
int flume_segment_create(struct flume_segment *segment, const char *dir, const uint8_t *log_id, struct flume_err *err);

/* Opens the file and checks its header. */
int flume_segment_open(struct flume_segment *segment, bool readonly, struct flume_err *err);

/* Opens the file for reading, whatever its header says; the id is the one it should have. An errno. */
int flume_segment_open_damaged(struct flume_segment *segment, const uint8_t *log_id, struct flume_err *err);

/* Finds next_seq and end_off of a segment that was closed in order, without its offsets: the segment is not loaded
 * then. FLUME_ENOENT when it was not; an errno. */
int flume_segment_peek(struct flume_segment *segment, struct flume_err *err);

/* Finds next_seq, end_off and the offsets: by the index when the file was closed in order, else by a scan.
 * FLUME_ECORRUPT: *damage says where; the segment then holds what is good before it. */
int flume_segment_load(struct flume_segment *segment, struct flume_damage *damage, struct flume_err *err);

/* The same, always by a scan that verifies every byte. */
int flume_segment_scan(struct flume_segment *segment, struct flume_damage *damage, struct flume_err *err);

/* As flume_segment_load, of the first file_bytes bytes alone: what another process may have written behind them is left
 * out. */
int flume_segment_load_to(struct flume_segment *segment, uint64_t file_bytes, struct flume_damage *damage,
                          struct flume_err *err);

/* Goes on at end_off with the frames that another process has written there, to record last_seq or, with
 * FLUME_SEQ_MAX, to the last one that is whole; not on much beyond max_bytes. The segment is loaded, and file_bytes what
 * the file has now. 1 when it has come further; 0 when nothing more is there; FLUME_ECORRUPT, FLUME_ENOMEM, an errno. */
int flume_segment_follow(struct flume_segment *segment, int64_t last_seq, size_t max_bytes, struct flume_err *err);

/* The tail of a loaded segment: what flume_segment_follow goes on with while other threads read the segment itself. It
 * borrows the segment's path and file, and has offsets of new records alone. */
void flume_segment_tail_init(struct flume_segment *tail, const struct flume_segment *segment, uint64_t file_bytes);
void flume_segment_tail_fini(struct flume_segment *tail);
/* The segment gets what was found in its tail. FLUME_ENOMEM, and nothing has changed. */
int flume_segment_take_tail(struct flume_segment *segment, const struct flume_segment *tail);

/* Makes what was loaded durable. Bytes of which no frame says that they were on disk are written again: after a failed sync
 * they may be in the system's cache alone, and no later sync writes them. FLUME_ENOMEM or an errno. */
int flume_segment_harden(struct flume_segment *segment);
/* Frees the offsets; the file stays open. */
void flume_segment_unload(struct flume_segment *segment);

struct flume_window;

/* Whether the file has nothing but zeros from off on. */
int flume__segment_is_zeros(struct flume_window *window, uint64_t off, bool *result);
/* The next place at or behind *off where a good frame header of the segment stands: 1; 0 for none; an error. */
int flume__segment_find_frame(const struct flume_segment *segment, struct flume_window *window, uint64_t *off,
                              struct flume_frame *frame);

/* Room for count more offsets: 0 or FLUME_ENOMEM. */
int flume_segment_reserve(struct flume_segment *segment, size_t count);

/* Cuts what was preallocated after end_off, and syncs. */
int flume_segment_settle(struct flume_segment *segment, struct flume_err *err);
/* Ends the file: settles it, appends index and end frame, syncs. */
int flume_segment_end(struct flume_segment *segment, struct flume_err *err);
/* The same for a segment that is settled and whose successor is on disk: nothing is appended to it any more. */
int flume_segment_seal(struct flume_segment *segment, struct flume_err *err);

#endif
