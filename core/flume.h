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
 *   Seqs      Dense ordinals 0, 1, 2 ... in int64_t; -1 is "nothing yet". A seq never changes its meaning.
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

struct flume_io; /* the door to files, clock and allocator: core/io.h */
struct flume_log;

enum flume_sync {
  FLUME_SYNC_ALWAYS = 0,   /* an append is acknowledged when it is on disk (fdatasync, shared by all who wait) */
  FLUME_SYNC_INTERVAL = 1, /* acknowledged when written; on disk at most interval_ms later */
  FLUME_SYNC_OS = 2,       /* acknowledged when written; on disk when the system gets to it, and at close */
};

/* How a file log recovers is written in core/FORMAT.md. Zero means the default throughout. */
struct flume_log_options {
  enum flume_sync sync;
  uint32_t interval_ms;      /* FLUME_SYNC_INTERVAL: the ceiling; default 100 */
  uint32_t max_record_bytes; /* a larger record is FLUME_E2BIG; default 256 MiB, at most 1 GiB */
  uint64_t segment_bytes;    /* size at which a new segment file is begun; default 256 MiB, at most 2 GiB */
  bool readonly;             /* no lock is taken, nothing is written; what another process writes is seen as it comes */
  bool damaged;              /* with readonly: open up to the damage instead of failing with FLUME_ECORRUPT */
  uint32_t poll_ms;          /* with readonly: look as often as this instead of waiting for file events */
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

/* The directory of a file log, NULL for a memory log. Valid until close. */
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
  struct flume_queue queue;
};

/* Appends count records as one atomic batch: after a crash all of them are there or none. The records are copied
 * before the call returns. cb fires once they are acknowledged (see enum flume_sync).
 * Errors, at once and without a callback: FLUME_E2BIG, FLUME_EINVAL (count 0), FLUME_ECLOSED, FLUME_EREADONLY,
 * FLUME_ENOMEM; by callback: what the disk said. After a failed write or sync the log takes no more appends. */
FLUME_EXPORT int flume_log_append(struct flume_log *log, struct flume_append *req, const struct flume_slice *records,
                                  size_t count, flume_append_cb cb, struct flume_err *err);

/* The same, waiting for it on the calling thread; no other callback runs meanwhile. *seq is the last record's.
 * Errors also: FLUME_EBUSY when other appends are still pending (only their callbacks can tell how they end). */
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
