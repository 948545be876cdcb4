/* The view engine: one version of a view, without Lua.
 *
 * A view is a sink of the pump. The code behind a vtable (struct flume_view_ops, implemented in lua/view/) folds
 * records, runs calls and saves the state. The engine decides when, and on which thread. It owns the store, commits
 * checkpoints, takes back deleted records, rebuilds, and answers requests.
 *
 *   view_machine.c     the states, and the choice of the next work
 *   view_work.c        the work of each state: folding, taking back, restoring, calling
 *   view_checkpoint.c  saving and committing; making a version the active version
 *   view_scrub.c       rewriting the store, so that no byte of deleted records is left
 *   view_start.c       opening a directory, restoring a state, handing a state over
 *
 * Threads. Workers of the pool do the work of a view with a Lua state of its own (script view). The owner's thread does
 * the work of a view in the owner's Lua state (inline view), in turns; only commits and scrubs of an inline view, which
 * wait for the disk, are jobs of the pool. At most one piece of work is under way for a view. A function may touch:
 *
 *   locked    the pump's lock is held   everything while no work is under way; during work everything but `work`,
 *                                       `meta`, `store`, `bitmaps` and the data behind the vtable
 *   working   called by the working     `work`, `meta`, `store`, `bitmaps` and the data behind the vtable
 *             thread, not locked
 *
 * States. An event of an IDLE view is a condition, and `choose` in view_machine.c checks the conditions in the order of
 * this table. A transition that isn't in the table is an assertion.
 *
 *   state       event                                               next        by
 *
 *   NEW         flume_view_attach                                   IDLE        owner
 *   IDLE        a close is requested, no work is left               CLOSED      worker or owner
 *   IDLE        a rebuild or a revival is requested                 RESTORING   worker or owner
 *   IDLE        a scrub is requested, and can go on                 SCRUBBING   worker
 *   IDLE        a checkpoint is due                                 COMMITTING  worker (script)
 *   IDLE        a checkpoint is due, or quiet is requested          SAVING      owner (inline); worker, for quiet
 *   IDLE        records that it had consumed were deleted           RETRACTING  worker or owner
 *   IDLE        a call waits                                        CALLING     worker
 *   IDLE        it has a block                                      FOLDING     worker or owner
 *   IDLE        the owner reads the store                           READING     owner
 *   SAVING      a checkpoint is due                                 COMMITTING  worker
 *   any working state   the work is done                            IDLE        the working thread
 *
 * Failures:
 *   - A record can't be folded, or a state can't be saved or written: the sink fails (pump.h). The state in memory
 *     is not valid any more; the last checkpoint on disk is.
 *   - The disk is full: the view stalls. It folds on in memory, and tries the checkpoint again.
 *   - The log can't be synced: the view makes no more checkpoints, and keeps its last one. */
#ifndef FLUME_VIEW_H
#define FLUME_VIEW_H

#include "index/bitmap_index.h"
#include "store/store.h"
#include "view/pump.h"

#define FLUME_VIEW_GONE_MAX 64 /* deleted records taken back in one piece of work */
#define FLUME_VIEW_PATH_BYTES 4096

struct flume_view;
struct flume_view_slot;

enum flume_view_state {
  FLUME_VIEW_NEW,
  FLUME_VIEW_IDLE,
  FLUME_VIEW_FOLDING,
  FLUME_VIEW_RETRACTING,
  FLUME_VIEW_CALLING,
  FLUME_VIEW_RESTORING,
  FLUME_VIEW_SAVING,
  FLUME_VIEW_COMMITTING,
  FLUME_VIEW_SCRUBBING,
  FLUME_VIEW_READING,
  FLUME_VIEW_CLOSED,
};

/* The state's name in lower case. Static. */
const char *flume_view_state_name(enum flume_view_state state);

/* Requests to a view, as a set of bits. A view that is IDLE fulfils them. */
enum flume_view_want {
  FLUME_WANT_REBUILD = 1, /* start over from the first record */
  FLUME_WANT_REVIVE = 2,  /* restore the last checkpoint */
  FLUME_WANT_ACTIVE = 4,  /* commit a checkpoint that makes this version the active version */
  FLUME_WANT_RETRACT = 8, /* take back deleted records: the pump waits for this */
  FLUME_WANT_CLOSE = 16,  /* close, after a last checkpoint */
  FLUME_WANT_DROP = 32,   /* with FLUME_WANT_CLOSE: without the last checkpoint, since the state is dropped */
  FLUME_WANT_SCRUB = 64,  /* remove all bytes of deleted records from the files */
};

/* Which thread looks at the view next. */
enum flume_view_seat {
  FLUME_SEAT_NONE,    /* none: flume__view_wake queues the view when there is work */
  FLUME_SEAT_POOL,    /* the view's job waits for a worker */
  FLUME_SEAT_TURNS,   /* the view's turn waits for the owner */
  FLUME_SEAT_WORKING, /* a worker or the owner works on the view, and chooses the next work itself */
};

/* Whether the state in memory is on disk. */
enum flume_view_freshness {
  FLUME_VIEW_CLEAN,
  FLUME_VIEW_DIRTY, /* changed since the last commit */
  FLUME_VIEW_DUE,   /* changed, and a checkpoint is due */
};

/*  state       event                                        next
 *
 *  OFF         flume_view_activate                          ASKED
 *  FIRST       the first commit                             ACTIVE
 *  ASKED       a commit                                     ACTIVE
 *  ASKED       it starts over, or the commit fails          OFF, or FIRST if it began with that
 *  ACTIVE      flume_view_activate                          ASKED (a different version may be active now) */
enum flume_view_activation {
  FLUME_VIEW_OFF,   /* not the active version on disk; no commit changes that */
  FLUME_VIEW_FIRST, /* no version was active: the first commit makes this one active */
  FLUME_VIEW_ASKED, /* the next commit makes this version active */
  FLUME_VIEW_ACTIVE,
};

/* A run of records to fold. */
struct flume_view_span {
  struct flume_block *block; /* loaded; borrowed */
  uint32_t from;             /* index of the first record to fold */
  uint64_t until_ns;         /* by io->hrtime_ns: stop after the record during which this time passes */
  uint32_t next;             /* result: the first record that was not folded */
};

struct flume_view_call;

/* What the engine calls: the code that folds records and holds the state in memory. Called by the working thread,
 * not locked, unless a member says otherwise. */
struct flume_view_ops {
  /* Folds at least one record of the span. 0; FLUME_EVIEW: record span->next failed; or an error of the store. */
  int (*fold)(struct flume_view *view, struct flume_view_span *span, struct flume_err *err);
  /* Takes back record 0 of the block, which has the record's bytes. 0; 1: impossible, the view must start over; or
   * as fold. */
  int (*retract)(struct flume_view *view, struct flume_block *block, struct flume_err *err);
  /* Whether retract is possible for this view at all. */
  bool (*can_retract)(struct flume_view *view);
  /* Writes the state in memory to view->store. */
  int (*save)(struct flume_view *view, struct flume_err *err);
  /* Replaces the state in memory by the state in view->store, which is as of view->meta.since. */
  int (*restore)(struct flume_view *view, struct flume_err *err);
  /* Runs a call, and stores the result or the error in it. NULL for an inline view. */
  void (*call)(struct flume_view *view, struct flume_view_call *call);
  /* Between enter and leave the owner calls none of the view's functions itself. The engine calls all members above
   * within them. */
  void (*enter)(struct flume_view *view);
  void (*leave)(struct flume_view *view);
  /* Begins writing to the store. False: the owner is reading the store; the engine tries again later. True: the
   * owner doesn't read the store until end_write. */
  bool (*begin_write)(struct flume_view *view);
  void (*end_write)(struct flume_view *view);
  /* The engine is about to hand a commit or scrub of an inline view to the pool. Locked, owner. */
  void (*announce)(struct flume_view *view);
  /* Starts over in the view's own way, which ends with flume_view_rebuild. False: the view has no way of its own. On
   * the loop. May be NULL. */
  bool (*start_over)(struct flume_view *view);
};

/* A request to a view, answered once. Embedded by the caller and kept until cb. */
struct flume_view_request {
  /* On the loop. 0 or a negative code; err is set for one. */
  void (*cb)(struct flume_view_request *request, int status, const struct flume_err *err);
  int status;
  struct flume_err err;
  struct flume_notice notice;
};

/* A call of a function of the view. Embedded by the caller and kept until request.cb; the function and its arguments
 * are in data. */
struct flume_view_call {
  struct flume_view_request request; /* FLUME_ECLOSED when the view is closed before the call has run */
  void *data;                        /* the caller's */
  struct flume_queue queue;
};

/* The place of a version on disk. */
struct flume_view_place {
  char *dir;             /* of the view, see view_dir.h; NULL for a view in memory. Owned */
  uint32_t number;       /* of this version in dir */
  bool reads_only;       /* another process writes the store: this process folds in memory and never commits */
  bool accepts;          /* continue with a state of a different version */
  bool begins_active;    /* the first commit makes this version active, see FLUME_VIEW_FIRST */
  int64_t unusable_from; /* a state that has consumed this seq must be rebuilt */
};

/* Why the last work failed. */
struct flume_view_failure {
  int status;
  struct flume_err err;
  struct flume_buf traceback; /* text; "" for none */
};

/* The work under way. */
struct flume_view_work {
  struct flume_block *block; /* the block to fold; a reference. NULL for none */
  uint32_t from;
  struct flume_view_span span;
  int64_t since; /* of the log when the work began; so are the next two */
  int64_t durable_seq;
  int64_t deletions;
  int64_t gone_until;  /* ordinal of the first deletion that is not taken back yet */
  int64_t failing_seq; /* the record that retract failed on */
  bool cant_retract;
  bool rebuilds;                         /* RESTORING: start from the first record, not from the last checkpoint */
  enum flume_view_activation activation; /* when the work began */
  struct flume_view_failure failed;
};

struct flume_view_checkpoint {
  enum flume_view_freshness freshness;
  enum flume_view_activation activation;
  uint64_t next_ns;         /* no checkpoint before this time, unless one is requested */
  uint64_t committed_bytes; /* size of the store at opening or after the last commit */
  uint64_t size_bytes;      /* copy of committed_bytes, guarded by the pump's lock */
  bool put_off;             /* the last commit was put off: the owner was reading the store */
  int commit_status;        /* of the last commit */
  int sync_status;          /* permanent: why the log could not be synced; 0 */
  struct flume_err stall;   /* code != 0: why checkpoints can't be written for now */
};

struct flume_view_scrub {
  uint32_t number;                     /* number of the version after the rewrite */
  int64_t until;                       /* deletions that the scrub covers */
  int64_t gone;                        /* deletions without bytes left in the file; -1: not known yet */
  struct flume_store_rewrite *rewrite; /* NULL: no rewrite has begun */
  int status;                          /* 1: more to write; 0: done; else the error */
};

/* Requests that wait for an answer; NULL for none. */
struct flume_view_requests {
  struct flume_view_request *quiet;
  struct flume_view_request *active;
  struct flume_view_request *scrub;
  struct flume_view_request *close;
};

struct flume_view_skips {
  int64_t *seqs; /* ascending; owned */
  size_t count;
};

/* Where a view is worked on. */
struct flume_view_executor {
  enum flume_view_seat seat;
  bool is_inline; /* by the owner, not by the pool */
  bool is_busy;   /* the view is counted in pump->busy */
  struct flume_job job;
  struct flume_turn turn;
};

struct flume_view {
  struct flume_sink sink;
  const struct flume_view_ops *ops;
  const struct flume_io *io;
  struct flume_view_slot *slot; /* NULL for none */
  enum flume_view_state state;
  unsigned wants;   /* set of enum flume_view_want */
  bool held;        /* no records are folded while this is set */
  bool called_last; /* the last work was a call: a block goes before the next call */
  struct flume_view_executor executor;
  struct flume_notice start_over; /* the owner is to call ops->start_over; run is NULL: not told so */
  struct flume_queue calls;       /* struct flume_view_call */
  struct flume_view_call *calling;
  struct flume_view_requests requests;
  struct flume_view_work work;
  struct flume_view_skips skips;     /* records that the view doesn't fold */
  struct flume_view_skips new_skips; /* replace skips when no work is under way; seqs NULL: no change */
  struct flume_store *store;         /* NULL for a view that keeps its own state */
  struct flume_bitmaps *bitmaps;     /* of a bitmap view; else NULL. Owned */
  struct flume_store_meta meta;      /* the version that folded the state, and how far */
  struct flume_view_place place;
  struct flume_view_checkpoint checkpoint;
  struct flume_view_scrub scrub;
  struct flume_buf traceback; /* of the failure; text */
  const char *reason;         /* why the view started over by itself; NULL: it didn't. Static */
};

/* Initializes the caller's memory. is_inline: the owner's thread does the work. Owner. */
void flume_view_init(struct flume_view *view, struct flume_pump *pump, const struct flume_view_ops *ops,
                     bool is_inline);
/* Frees the members of a view that is NEW or CLOSED. Owner. */
void flume_view_fini(struct flume_view *view);

/* --- Starting: a view that is NEW. Owner, not locked -------------------------------------------------------------- */

/* Room for the reason of flume_view_open. */
#define FLUME_VIEW_REASON_BYTES 192

/* Opens the store in view->place, and takes up its state if it fits view->meta (version, fingerprint, log). Entered, if
 * other threads know the view.
 *   - 0, *reason NULL: view->meta has the state's since (-1: no state); place.accepts: it is of a different version.
 *   - 0, *reason set: why the state must be rebuilt. Nothing has changed; the caller may try a different place.
 *   - An error: nothing has changed. */
int flume_view_open(struct flume_view *view, const char **reason, char text[FLUME_VIEW_REASON_BYTES],
                    struct flume_err *err);
/* Takes over the state and the place of another view, which is quiet (see flume_view_quiet) and has none afterwards.
 * Both are entered. 0 or an error of restore; then nothing has changed. */
int flume_view_adopt(struct flume_view *view, struct flume_view *other, struct flume_err *err);
/* Attaches the view to the pump, which feeds it from now on. */
void flume_view_attach(struct flume_view *view);

/* --- Once attached: any thread, not locked --------------------------------------------------------------------- */

/* Queues a call. Calls and blocks take turns; a call goes first. call->request is answered on the loop. */
void flume_view_submit(struct flume_view *view, struct flume_view_call *call);

/* Starts over from the first record when no work is under way. why: static text for the status, or NULL. */
void flume_view_rebuild(struct flume_view *view, const char *why);
/* Restores the last checkpoint, also after a failure. */
void flume_view_revive(struct flume_view *view);
/* Sets the records that the view doesn't fold, from the next block on. Takes ownership of seqs (ascending). */
void flume_view_set_skips(struct flume_view *view, int64_t *seqs, size_t count);
/* Sets whether the view is held: a held view begins no block. Returns whether it was held before. */
bool flume_view_hold(struct flume_view *view, bool held);
/* Fails the view: it consumes nothing more, and all waits end with FLUME_EVIEW. Only while the view is held. */
void flume_view_fail(struct flume_view *view, const struct flume_err *err);

/* Answered when no work is under way and no call waits. From then on the view is held, and its store has the whole
 * state, unless the view has failed. One request at a time. */
void flume_view_quiet(struct flume_view *view, struct flume_view_request *request);
/* Commits a checkpoint that makes this version the active version on disk. Only for a version on disk that this
 * process writes. FLUME_EAGAIN: the view has started over; ask again once it has caught up. A new request replaces a
 * waiting one, whose cb is never called. */
void flume_view_activate(struct flume_view *view, struct flume_view_request *request);
/* Takes back all records that are deleted now, and removes their bytes from the view's files. If that takes a
 * rewrite, place.number becomes `number`. FLUME_EAGAIN: the view has changed meanwhile. One request at a time, and
 * only while no other version of the view is asked to become active. */
void flume_view_scrub(struct flume_view *view, uint32_t number, struct flume_view_request *request);
/* Closes the view after a last checkpoint (with drop: without). Waits and requests end with FLUME_ECLOSED first; then
 * request is answered, on the loop, and the view is CLOSED: 0, or why the state can't be stored (FLUME_EVIEW,
 * FLUME_EINVAL). request may be NULL: a later call of flume_view_close can pass it. */
void flume_view_close(struct flume_view *view, bool drop, struct flume_view_request *request);

/* Lets the owner read the store or call the view's functions itself. True: no work is under way and no call waits;
 * none begins until flume_view_end_reading. Owner. */
bool flume_view_begin_reading(struct flume_view *view);
void flume_view_end_reading(struct flume_view *view);

/* --- Between the files of the engine --------------------------------------------------------------------------- */

static inline const struct flume_io *flume__view_io(const struct flume_view *view) {
  return view->io; /* a view that was never attached may outlive its log */
}

static inline uint64_t flume__view_now_ns(const struct flume_view *view) {
  const struct flume_io *io = flume__view_io(view);
  return io->hrtime_ns(io->ctx);
}

/* view_machine.c. Locked. */
void flume__view_set_state(struct flume_view *view, enum flume_view_state state);
bool flume__view_is_working(const struct flume_view *view);
/* Queues the view for a worker or the owner, if it is idle and may have work. */
void flume__view_wake(struct flume_view *view);
void flume__view_submit(struct flume_view *view, struct flume_view_call *call);
void flume__view_want_active(struct flume_view *view);
/* Takes back FLUME_WANT_ACTIVE, unless the commit has begun. */
void flume__view_unwant_active(struct flume_view *view);
/* Answers *request, if it is not NULL, and sets it to NULL. */
void flume__view_answer(struct flume_view *view, struct flume_view_request **request, int status,
                        const struct flume_err *err);
/* Takes up requests that came during the work: the active version, new skips. No work is under way. */
void flume__view_take_wishes(struct flume_view *view);
/* Gives back the block or the deletions that the pump has handed out. */
void flume__view_let_go(struct flume_view *view);
/* Fails the view at seq with the failure in view->work, and gives back the block. */
void flume__view_fail_at(struct flume_view *view, int64_t seq);

/* view_work.c: the work of a state (working), and what follows it (locked). */
void flume__view_run(struct flume_view *view);
void flume__view_ran(struct flume_view *view);
extern const struct flume_sink_ops flume__view_sink_ops;

/* view_checkpoint.c */
bool flume__view_wants_commit(const struct flume_view *view);      /* working */
bool flume__view_is_durable(const struct flume_view *view);        /* working: the log has the folded records on disk */
size_t flume__view_pending_bytes(const struct flume_view *view);   /* working */
void flume__view_run_save(struct flume_view *view);                /* working */
void flume__view_run_commit(struct flume_view *view, bool saves);  /* working */
void flume__view_settle_commit(struct flume_view *view);           /* locked */
void flume__view_committed(struct flume_view *view);               /* locked */
void flume__view_commit_when_idle(struct flume_view *view);        /* locked */
bool flume__view_wants_last_commit(const struct flume_view *view); /* locked */
void flume__view_tell_active(struct flume_view *view);             /* locked */
/* The result of making this version active: 0, an error, or 1 while it is open. Locked, not working. */
int flume__view_activation_status(const struct flume_view *view, struct flume_err *err);

/* view_scrub.c */
bool flume__view_scrub_is_next(struct flume_view *view); /* locked: the next state is SCRUBBING */
void flume__view_run_scrub(struct flume_view *view);     /* working */
void flume__view_scrubbed(struct flume_view *view);      /* locked */
void flume__view_end_scrub(struct flume_view *view, int status, const struct flume_err *err); /* locked */

/* view_start.c. Working; 0 or an error.
 *
 * view->place.dir/name into path. UV_ENAMETOOLONG. Any thread. */
int flume__view_path(const struct flume_view *view, const char *name, char path[FLUME_VIEW_PATH_BYTES],
                     struct flume_err *err);
/* Resets the store, durably, and memory to the state before the first record. */
int flume__view_reset(struct flume_view *view, struct flume_err *err);
/* Restores the last checkpoint. */
int flume__view_revert(struct flume_view *view, struct flume_err *err);
/* reads_only: takes up the writer's last commit, if it is further. A failure goes to view->work.failed. */
void flume__view_renew(struct flume_view *view);
/* Replaces the state in memory by the state in the store. */
int flume__view_restore(struct flume_view *view, struct flume_err *err);

#endif
