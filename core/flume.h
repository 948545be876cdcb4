/* flume: an embedded database made of one durable append-only log and many views.
 *
 * This is the public C header. It gives the log, its streams and its observables; views are hosted by the Lua
 * binding, which builds on the same core.
 *
 * Conventions
 *   Results   Functions return 0 (or a count) or a negative code: libuv's codes pass through, flume's own lie below
 *             -5000. Out-parameters are untouched on failure. The optional last parameter `err` gets code and text,
 *             on failure only.
 *   Threads   A log belongs to the thread that runs its loop. Every function is called on that thread unless its
 *             comment says otherwise; callbacks run there.
 *   Callbacks A request's callback fires exactly once, never from inside the call that submitted it.
 *   Ownership The caller embeds request structs and keeps them until their callback. Bytes given to flume are
 *             copied before the call returns. `get` borrows, `ref`/`unref` count.
 *   Seqs      Dense ordinals 0, 1, 2 ... in int64_t (of an offset log alone byte offsets); -1 is "nothing yet". A seq
 *             never changes its meaning.
 */
#ifndef FLUME_H
#define FLUME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define FLUME_EXPORT __attribute__((visibility("default")))
#else
#define FLUME_EXPORT
#endif

/* --- Errors ------------------------------------------------------------------------------------------------- */

#define FLUME_ERRNO_MAP(X)                                       \
  X(FLUME_ECORRUPT, -5001, "ECORRUPT", "data is damaged")        \
  X(FLUME_EDELETED, -5002, "EDELETED", "deleted")                \
  X(FLUME_ECLOSED, -5003, "ECLOSED", "closed")                   \
  X(FLUME_ELOCKED, -5004, "ELOCKED", "locked by another writer") \
  X(FLUME_EVIEW, -5005, "EVIEW", "view failed")                  \
  X(FLUME_EREADONLY, -5006, "EREADONLY", "opened read-only")     \
  X(FLUME_EVERSION, -5007, "EVERSION", "unknown format version")

enum flume_errno {
#define FLUME_ERRNO_ENUM(name, value, text, meaning) name = value,
  FLUME_ERRNO_MAP(FLUME_ERRNO_ENUM)
#undef FLUME_ERRNO_ENUM
      FLUME_ENOMEM = UV_ENOMEM,
  FLUME_EINVAL = UV_EINVAL,
  FLUME_ENOENT = UV_ENOENT,
  FLUME_ETIMEDOUT = UV_ETIMEDOUT,
  FLUME_E2BIG = UV_E2BIG,
  FLUME_EAGAIN = UV_EAGAIN,
  FLUME_ENOTSUP = UV_ENOTSUP,
  FLUME_EBUSY = UV_EBUSY,
  FLUME_EEXIST = UV_EEXIST,
};

struct flume_err {
  int code;      /* negative */
  char msg[512]; /* what was wrong, and where; no trailing newline */
};

/* What a code means, in words; for libuv's codes too. A static string. Any thread. */
FLUME_EXPORT const char *flume_strerror(int code);
/* A code's name, "ECORRUPT"; "UNKNOWN" for a code that has none. A static string. Any thread. */
FLUME_EXPORT const char *flume_err_name(int code);

/* --- Lists -------------------------------------------------------------------------------------------------- */

/* A node of an intrusive list: private to flume where it stands in a struct of the caller's. */
struct flume_queue {
  struct flume_queue *next;
  struct flume_queue *prev;
};

/* --- Bytes and records -------------------------------------------------------------------------------------- */

/* Borrowed bytes. */
struct flume_slice {
  const void *data;
  size_t len; /* bytes */
};

struct flume_block; /* an immutable, reference-counted run of consecutive records */

/* One record. data stays valid until flume_record_release. */
struct flume_record {
  int64_t seq;
  const uint8_t *data;
  uint32_t len;              /* bytes */
  struct flume_block *block; /* one reference, owned by this struct */
};

/* Gives back what flume_log_get or flume_stream_next handed out. A zeroed struct is allowed. Any thread. */
FLUME_EXPORT void flume_record_release(struct flume_record *record);

/* --- The log ------------------------------------------------------------------------------------------------ */

struct flume_io; /* the door to files, clock and allocator: core/base/io.h */
struct flume_log;

enum flume_sync {
  FLUME_SYNC_ALWAYS = 0,   /* an append is acknowledged when it is on disk (fdatasync, shared by all who wait) */
  FLUME_SYNC_INTERVAL = 1, /* acknowledged when written; on disk at most interval_ms later, or with the next append if
                              the loop doesn't run */
  FLUME_SYNC_OS = 2,       /* acknowledged when written; on disk when the system gets to it, and at close */
};

/* How a file log recovers is written in core/FORMAT.md. Zero means the default throughout. A value beyond its limit is
 * FLUME_EINVAL. */
struct flume_log_options {
  enum flume_sync sync;
  uint32_t interval_ms;      /* FLUME_SYNC_INTERVAL: the ceiling; default 100, at most 86,400,000 */
  uint32_t max_record_bytes; /* a larger record is FLUME_E2BIG; default 256 MiB, at most 1 GiB */
  uint64_t segment_bytes;    /* size at which a new segment file is begun; default 256 MiB, at most 2 GiB */
  bool readonly;             /* no lock is taken, nothing is written; what another process writes is seen as it comes */
  bool damaged;              /* with readonly: open up to the damage instead of failing with FLUME_ECORRUPT */
  uint32_t poll_ms;          /* with readonly: look as often as this instead of waiting for file events;
                                default: events; at most 86,400,000 */
  uint32_t offset_bits; /* of an offset log's pointers: 32, 48 or 53; default what the file has, 32 for a new one */
  const struct flume_io *io; /* default: the real one. Must outlive the log. */
};

/* Opens, or creates, the file log in directory dir. options may be NULL. A process that is forked while a log is open
 * must not use its copy of the handle: what it appends is refused with FLUME_ELOCKED.
 * Errors: FLUME_ELOCKED (another writer; the text has its pid), FLUME_ECORRUPT (the text has file and offset),
 * FLUME_EVERSION, FLUME_ENOENT (readonly and not there), FLUME_ENOMEM, or an errno of libuv's. */
FLUME_EXPORT int flume_log_open(struct flume_log **log, uv_loop_t *loop, const char *dir,
                                const struct flume_log_options *options, struct flume_err *err);

/* A log that lives in memory. Errors: FLUME_ENOMEM. */
FLUME_EXPORT int flume_log_open_memory(struct flume_log **log, uv_loop_t *loop, const struct flume_log_options *options,
                                       struct flume_err *err);

/* Opens, or creates, the JavaScript flumelog-offset file at path. Its seqs are the byte offsets at which the records begin
 * in the file, so that they don't follow one another; seqs in between are of no record: FLUME_ENOENT. The deletes and the
 * lock of flume's are in the directory path.flume, which is created beside it. The file is read once, and 4 bytes of
 * memory are kept for each record. What can't be kept of the file log's promises, as the format has no place for it: a
 * crash may leave the first records of a batch that was not acknowledged; damage within a record's bytes is not noticed;
 * and a deleted record is overwritten at once, so that compacting has nothing to do. A backup is dir/NAME, after the file.
 * A read-only log follows flume's writers, and also programs that append to the file alone: of those every whole record
 * counts, and what they overwrite among the records that it has is seen by get and by streams, but not counted as deleted
 * before the log is opened again. Errors: as flume_log_open; FLUME_EINVAL when the file has other pointers than offset_bits. Appends also answer
 * FLUME_E2BIG when the file would outgrow its pointers, and FLUME_ECORRUPT when another program has written to it. */
FLUME_EXPORT int flume_log_open_offset(struct flume_log **log, uv_loop_t *loop, const char *path,
                                       const struct flume_log_options *options, struct flume_err *err);

typedef void (*flume_log_close_cb)(void *data);

/* Ends the log: appends already submitted are finished first, then everything is made durable and cb (may be NULL)
 * is called with data; the log is gone when it is called. Later appends answer FLUME_ECLOSED. Streams must not
 * be asked for records any more. Blocks and records stay valid as long as they are referenced. */
FLUME_EXPORT void flume_log_close(struct flume_log *log, flume_log_close_cb cb, void *data);

/* The seq of the last acknowledged record; -1 when there is none. */
FLUME_EXPORT int64_t flume_log_since(const struct flume_log *log);

/* How a log learns of what another process writes. A read-only log does, on the loop, which it keeps alive; its since is
 * what the writer has acknowledged (core/FORMAT.md, "Readers"). */
enum flume_following {
  FLUME_FOLLOWING_NONE = 0,   /* it does not: it is a writer's, in memory, or was opened with damaged */
  FLUME_FOLLOWING_EVENTS = 1, /* by the system's file events, at once */
  FLUME_FOLLOWING_POLL = 2,   /* by looking now and then: there are no events, or it was asked for */
  FLUME_FOLLOWING_LOST = 3,   /* not any more: the log is not what it was, or can't be read */
};

/* why (may be NULL): with POLL, the reason and how often; with LOST, what went wrong. Untouched otherwise. */
FLUME_EXPORT enum flume_following flume_log_following(const struct flume_log *log, struct flume_err *why);

/* The directory of a file log; path.flume of an offset log; NULL for a memory log. Valid until close. */
FLUME_EXPORT const char *flume_log_dir(const struct flume_log *log);

/* 16 bytes that tell this log from every other. Valid until close. */
FLUME_EXPORT const uint8_t *flume_log_id(const struct flume_log *log);

struct flume_append;
/* seq: of the last record when status is 0. err: code and text, NULL when status is 0; valid during the call. */
typedef void (*flume_append_cb)(struct flume_append *req, int status, int64_t seq, const struct flume_err *err);

/* A pending append, delete or sync; embedded by the caller, who keeps it until its callback. */
struct flume_append {
  void *data; /* the caller's */
  /* private */
  flume_append_cb cb;
  int64_t seq;
  int status;
  uint64_t pending_bytes;
  struct flume_queue queue;
};

/* Appends count records as one atomic batch: after a crash all of them are there or none. The records are copied
 * before the call returns. cb fires once they are acknowledged (see enum flume_sync).
 * Errors, at once and without a callback: FLUME_EAGAIN (64 MiB are pending, where each append or delete counts its bytes
 * and 512 more: try again when callbacks have fired; one alone may be larger), FLUME_E2BIG, FLUME_EINVAL (count 0),
 * FLUME_ECLOSED, FLUME_EREADONLY, FLUME_ENOMEM; by callback: what the disk said. After a failed write or sync the log takes no more appends. */
FLUME_EXPORT int flume_log_append(struct flume_log *log, struct flume_append *req, const struct flume_slice *records,
                                  size_t count, flume_append_cb cb, struct flume_err *err);

/* The same, waiting for it on the calling thread; no other callback runs meanwhile. *seq is the last record's.
 * Errors also: FLUME_EBUSY when other appends are still pending (only their callbacks can tell how they end), or a
 * compaction seals the active segment. */
FLUME_EXPORT int flume_log_append_wait(struct flume_log *log, const struct flume_slice *records, size_t count,
                                       int64_t *seq, struct flume_err *err);

/* cb fires when everything acknowledged before is on disk, whatever the sync mode. Errors as flume_log_append. */
FLUME_EXPORT int flume_log_sync(struct flume_log *log, struct flume_append *req, flume_append_cb cb,
                                struct flume_err *err);

/* Deletes records: get answers FLUME_EDELETED, streams pass over them. Durable when cb fires; a seq that is deleted
 * already is no error. The bytes stay on disk until the segment is compacted.
 * Errors: FLUME_ENOENT (a seq beyond since), and as flume_log_append. */
FLUME_EXPORT int flume_log_del(struct flume_log *log, struct flume_append *req, const int64_t *seqs, size_t count,
                               flume_append_cb cb, struct flume_err *err);

/* Reads one record; the caller releases it. Errors: FLUME_ENOENT, FLUME_EDELETED, FLUME_ECORRUPT, or an errno. */
FLUME_EXPORT int flume_log_get(struct flume_log *log, int64_t seq, struct flume_record *record, struct flume_err *err);

/* --- Maintenance -------------------------------------------------------------------------------------------- */

struct flume_compact;
/* err: code and text, NULL when status is 0; valid during the call. */
typedef void (*flume_compact_cb)(struct flume_compact *req, int status, const struct flume_err *err);

/* A compaction; embedded by the caller, who keeps it until its callback. */
struct flume_compact {
  void *data; /* the caller's */
  /* The caller's, or NULL: called on the loop now and then. */
  void (*progress)(struct flume_compact *req, uint64_t done_bytes, uint64_t total_bytes);
  /* What was done, also when it failed on its way: */
  uint32_t segments;     /* that were written anew */
  uint64_t records;      /* whose bytes were removed */
  uint64_t bytes_before; /* of those segments */
  uint64_t bytes_after;
  /* private */
  flume_compact_cb cb;
};

/* Removes the bytes of deleted records from every file of the log; seqs stay what they are. Segments that hold such
 * bytes are written anew, one after another, on a worker thread, and swapped in when they are on disk; reads, streams
 * and appends go on, and what is deleted meanwhile is left to the next compaction. The active segment is sealed first
 * if need be. A crash leaves old or new segments, and nothing in between; compacting again does what is left to do.
 * Errors, at once: FLUME_EBUSY (another one is under way), FLUME_ECLOSED, FLUME_EREADONLY, FLUME_ENOTSUP (not this kind
 * of log), FLUME_ENOMEM; by callback: FLUME_ECORRUPT (the text has file and byte; that segment stays as it was),
 * FLUME_ECLOSED when the log is closed before it is done, or what the disk said. The log itself goes on in any case. */
FLUME_EXPORT int flume_log_compact(struct flume_log *log, struct flume_compact *req, flume_compact_cb cb,
                                   struct flume_err *err);

enum flume_finding_kind {
  FLUME_FINDING_DAMAGE, /* something is not what it should be */
  FLUME_FINDING_NOTE,   /* worth knowing, and no harm: a torn tail, a leftover */
  FLUME_FINDING_REPAIR, /* what a repair did */
};

struct flume_finding {
  enum flume_finding_kind kind;
  char file[64];  /* name, within the directory of the log */
  uint64_t off;   /* bytes from its start */
  int64_t seq;    /* of the record that it is about, or that would have come there; -1: none */
  char what[192]; /* in words */
};

/* What a check or a repair found. flume_report_fini frees it. */
struct flume_report {
  struct flume_finding *findings;
  size_t findings_count; /* at most 10000 are kept */
  uint64_t damages;      /* findings of kind FLUME_FINDING_DAMAGE, kept or not */
  uint32_t segments;     /* that were read */
  uint64_t records;      /* good ones, and those whose bytes were taken out */
  uint64_t deleted;      /* of them */
  uint64_t bytes;        /* of all files that were read */
  /* private */
  const struct flume_io *io;
  size_t findings_cap;
};

/* Frees the findings. A zeroed struct is allowed, and calling it twice. */
FLUME_EXPORT void flume_report_fini(struct flume_report *report);

struct flume_backup;
/* err: code and text, NULL when status is 0; valid during the call. */
typedef void (*flume_backup_cb)(struct flume_backup *req, int status, const struct flume_err *err);

/* A backup; embedded by the caller, who keeps it until its callback. */
struct flume_backup {
  void *data; /* the caller's */
  /* The caller's, or NULL: called on the loop now and then. */
  void (*progress)(struct flume_backup *req, uint64_t done_bytes, uint64_t total_bytes);
  int64_t since;  /* of the copy */
  uint64_t bytes; /* that were copied */
  uint64_t files;
  /* private */
  flume_backup_cb cb;
};

/* Makes a copy of the log in dir/log, and of what the views keep in views_dir (NULL: of none) in dir/views, while all
 * of them are in use; only views that this process keeps must rest until the first call of progress, by when they are
 * copied. The log is copied as of one moment, which is behind what any view of the copy knows. Everything is on disk
 * when cb fires; until then it is in dir.partial, so half a backup is never taken for a whole one. The copy is the same
 * log: it has the same id, and the same records under the same seqs. So what a view or a reader knows of the one is
 * true of the other, up to the copy's since; but once records are appended to both, they differ behind that, and only
 * one of them may go on as the log. Errors, at once: FLUME_ECLOSED, FLUME_ENOTSUP, FLUME_ENOMEM; by callback:
 * FLUME_EEXIST (dir is there, and not empty), FLUME_ECLOSED when the log is closed before it is done, or what the disk
 * said; then nothing is left of it. */
FLUME_EXPORT int flume_log_backup(struct flume_log *log, const char *dir, const char *views_dir,
                                  struct flume_backup *req, flume_backup_cb cb, struct flume_err *err);

struct flume_check;
/* err: code and text, NULL when status is 0; valid during the call. */
typedef void (*flume_check_cb)(struct flume_check *req, int status, const struct flume_err *err);

/* A check; embedded by the caller, who keeps it until its callback. */
struct flume_check {
  void *data; /* the caller's */
  /* The caller's, or NULL: called on the loop now and then. */
  void (*progress)(struct flume_check *req, uint64_t done_bytes, uint64_t total_bytes);
  struct flume_report report; /* the caller's to fini, after the callback with status 0 */
  /* private */
  flume_check_cb cb;
};

/* Reads every byte of the log's files as of now, on a worker thread, and verifies all: headers, checksums, indexes,
 * seqs without gaps, the file "deleted", and whether there are files that don't belong there; and first what the views
 * keep in views_dir (NULL: of none), which must rest until the first call of progress if this process keeps them.
 * Damage is no error: it stands in the report. A log that can't be opened for its damage can be when it is opened
 * read-only with `damaged`; the check then looks at all files in the directory, whatever could be opened. Errors, at
 * once: FLUME_ECLOSED, FLUME_ENOTSUP, FLUME_ENOMEM; by callback: FLUME_ECLOSED when the log is closed before it is
 * done, or what the disk said. */
FLUME_EXPORT int flume_log_check(struct flume_log *log, const char *views_dir, struct flume_check *req,
                                 flume_check_cb cb, struct flume_err *err);

/* Repairs the file log in directory dir, which nobody may have open for writing; waits for it. It does what is proven,
 * and nothing else: good records keep their seqs; for each record that is damaged or missing, whose seq is known by its
 * neighbours, `get` answers "lost" (code FLUME_EDELETED), streams pass over it, and views take it for deleted. Files
 * that are written anew or removed are first copied to dir/damaged-TIME. A log without damage is left as it is. io may
 * be NULL. The report, which the caller finis, says what was found and what was done. Errors: FLUME_ELOCKED,
 * FLUME_ENOENT (no log there), FLUME_ECORRUPT (beyond what can be proven; the text says why, and the log is as it was),
 * FLUME_ENOMEM, or an errno. */
FLUME_EXPORT int flume_log_repair(const char *dir, const struct flume_io *io, struct flume_report *report,
                                  struct flume_err *err);

/* The same for the flumelog-offset file at path. The good records stay where they are. A record of which one thing alone
 * is wrong that frames it (a length, or the pointer) is framed anew, and is there again. All else that is damaged is lost:
 * in its place come records of zeros, which count as deleted; how many records were there is not known. What is replaced
 * is copied to path.flume/damaged-TIME before. FLUME_ENOENT: there is no file. */
FLUME_EXPORT int flume_log_repair_offset(const char *path, const struct flume_io *io, struct flume_report *report,
                                         struct flume_err *err);

/* --- Observables -------------------------------------------------------------------------------------------- */

/* Watches a number, such as a log's since. Embedded by the caller, who keeps it until flume_observer_stop. */
struct flume_observer {
  void (*cb)(struct flume_observer *observer, int64_t value);
  void *data; /* the caller's */
  /* private */
  struct flume_queue queue;
};

/* cb fires on the loop, soon after since has grown; several steps may share one call. Also when a read-only log can't
 * follow its writer any more. Set cb and data before. */
FLUME_EXPORT void flume_log_observe(struct flume_log *log, struct flume_observer *observer);
/* Never fires again. May be called from any callback, and twice. */
FLUME_EXPORT void flume_observer_stop(struct flume_observer *observer);

/* --- Streams ------------------------------------------------------------------------------------------------ */

#define FLUME_SEQ_MAX INT64_MAX

/* What a stream delivers. flume_range_init gives everything there is, oldest first. */
struct flume_range {
  int64_t first; /* inclusive; default 0 */
  int64_t last;  /* inclusive; default FLUME_SEQ_MAX */
  int64_t limit; /* deleted records do not count; -1 is no limit */
  bool reverse;  /* newest first; not together with live */
  bool live;     /* go on with what is appended later */
  bool old;      /* deliver what is there at the start; default true */
};

FLUME_EXPORT void flume_range_init(struct flume_range *range);

struct flume_stream;

/* A cursor over the log as it is now, and with live also as it grows. Errors: FLUME_EINVAL, FLUME_ENOMEM. */
FLUME_EXPORT int flume_stream_open(struct flume_stream **stream, struct flume_log *log, const struct flume_range *range,
                                   struct flume_err *err);

/* The next record: 1 and *record, which the caller releases; 0 at the end; FLUME_EAGAIN when a live stream has to
 * wait (observe the log and ask again); else FLUME_ECORRUPT, FLUME_ENOMEM or an errno: the stream stays before the
 * record that could not be read. A live stream of a log that is FLUME_FOLLOWING_LOST ends with what went wrong. */
FLUME_EXPORT int flume_stream_next(struct flume_stream *stream, struct flume_record *record, struct flume_err *err);

/* As flume_stream_next, but the record is borrowed: valid until the next call on this stream. */
FLUME_EXPORT int flume_stream_peek(struct flume_stream *stream, struct flume_record *record, struct flume_err *err);

/* May also be called after the log is gone. */
FLUME_EXPORT void flume_stream_close(struct flume_stream *stream);

#ifdef __cplusplus
}
#endif

#endif
