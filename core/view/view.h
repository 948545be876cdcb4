/* The view engine: one version of a view, without Lua.
 *
 * A view is a sink of the pump. Its records are folded, its calls answered and its state saved by what is behind a
 * vtable (lua/view/ has the one there is); the engine decides what is done when, and on which thread, keeps the store,
 * commits checkpoints, takes back deleted records, starts over, and answers those who asked for something.
 *
 *   view_machine.c     the states, and what is next
 *   view_work.c        the work of each state: folding, taking back, restoring, calling
 *   view_checkpoint.c  saving and committing; making a version the active one
 *   view_scrub.c       writing the store anew, so that nothing is left of what was deleted
 *   view_start.c       from a directory to a state that can be gone on with; handing a state over
 *
 * Threads. A view with a state of its own (a script) is worked on by the pool's threads; one that lives in the owner's
 * Lua state (inline) has its turns on the owner's thread, and only its commits and scrubs, which wait for the disk, are
 * jobs of the pool. One piece of work at a time is under way for a view. What a function is allowed to touch:
 *
 *   locked      (the pump's lock is held)   everything, while no work is under way; while one is, all but `work`,
 *                                           `meta`, `store`, `bitmaps` and what is behind the vtable
 *   working     (by the one who works)      `work`, `meta`, `store`, `bitmaps`, and what is behind the vtable
 *
 * The states. "event" is what happens, or what is found when a view that is IDLE looks for what to do next, in the order
 * of `choose` in view_machine.c. A transition that isn't in this table is an assertion.
 *
 *   state       event                                               next        by
 *
 *   NEW         flume_view_attach                                   IDLE        owner
 *   IDLE        asked to close, and all is done                     CLOSED      worker or owner
 *   IDLE        a rebuild or a revival is wanted                    RESTORING   worker or owner
 *   IDLE        nothing of what was deleted shall be left on disk   SCRUBBING   worker
 *   IDLE        a checkpoint is due                                 COMMITTING  worker (script)
 *   IDLE        a checkpoint is due, or quiet is wanted             SAVING      owner (inline); worker, for quiet
 *   IDLE        records that it had were deleted                    RETRACTING  worker or owner
 *   IDLE        a call waits                                        CALLING     worker
 *   IDLE        it has a block                                      FOLDING     worker or owner
 *   IDLE        the owner wants to look at the store now            READING     owner
 *   SAVING      a checkpoint is due                                 COMMITTING  worker
 *   any working state   the work is done                            IDLE        the one who worked
 *
 * Failures:
 *   - A record that can't be folded, a state that can't be saved or written: the sink fails (pump.h). What is in memory
 *     is not to be trusted any more; the last checkpoint on disk still is.
 *   - The disk is full: the view stalls. It goes on in memory, and its checkpoint is tried again.
 *   - The log can't be synced: no checkpoint is made any more; the one there is stays. */
#ifndef FLUME_VIEW_H
#define FLUME_VIEW_H

#include "index/bitmap_index.h"
#include "store/store.h"
#include "view/pump.h"

#define FLUME_VIEW_GONE_MAX 64 /* deleted records that are taken back in one go */
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

/* The state's name, in lower case. Static. */
const char *flume_view_state_name(enum flume_view_state state);

/* What is wanted of a view, as a set: it is seen to when the view is IDLE. */
enum flume_view_want {
  FLUME_WANT_REBUILD = 1, /* to start over from the first record */
  FLUME_WANT_REVIVE = 2,  /* to go on from the last checkpoint */
  FLUME_WANT_ACTIVE = 4,  /* a checkpoint that makes it the active version, whatever it is now */
  FLUME_WANT_RETRACT = 8, /* the pump waits until what was deleted is taken back */
  FLUME_WANT_CLOSE = 16,  /* with a last checkpoint */
  FLUME_WANT_DROP = 32,   /* with FLUME_WANT_CLOSE: its state is not needed any more */
  FLUME_WANT_SCRUB = 64,  /* nothing of what was deleted shall be left in its files */
};

/* Where a view is looked after. */
enum flume_view_seat {
  FLUME_SEAT_NONE,    /* nowhere: it has to be woken when there is something to do */
  FLUME_SEAT_POOL,    /* its job waits for a worker */
  FLUME_SEAT_TURNS,   /* its turn waits for the owner */
  FLUME_SEAT_WORKING, /* a worker, or the owner, is at it, and looks what is next when done */
};

/* Whether what is in memory is on disk. */
enum flume_view_freshness {
  FLUME_VIEW_CLEAN,
  FLUME_VIEW_DIRTY, /* folded since the last commit */
  FLUME_VIEW_DUE,   /* and it is time for a checkpoint */
};

/*  state       event                                        next
 *
 *  OFF         flume_view_activate                          ASKED
 *  FIRST       the first commit                             ACTIVE
 *  ASKED       a commit                                     ACTIVE
 *  ASKED       it starts over, or the commit fails          OFF, or FIRST if it began with that
 *  ACTIVE      flume_view_activate                          ASKED (another version may be the active one now) */
enum flume_view_activation {
  FLUME_VIEW_OFF,   /* it is not the active version on disk, and does not become it */
  FLUME_VIEW_FIRST, /* there was none: its first commit makes it so */
  FLUME_VIEW_ASKED, /* the next commit makes it so */
  FLUME_VIEW_ACTIVE,
};

/* A run of records to be folded. */
struct flume_view_span {
  struct flume_block *block; /* loaded; borrowed */
  uint32_t from;             /* the record to begin with */
  uint64_t until_ns;         /* by io->hrtime_ns: to stop after the record at which this has passed */
  uint32_t next;             /* result: the first record that was not folded */
};

struct flume_view_call;

/* What folds, and keeps what is in memory. Called by the one who works, not locked, but where it says so. */
struct flume_view_ops {
  /* Folds at least one record of the span. 0; or FLUME_EVIEW, at record span->next; or what the store answers. */
  int (*fold)(struct flume_view *view, struct flume_view_span *span, struct flume_err *err);
  /* Takes back record 0 of the block, whose bytes it has. 0; 1: it can't, and has to start over; or as fold. */
  int (*retract)(struct flume_view *view, struct flume_block *block, struct flume_err *err);
  /* Whether it can ever. */
  bool (*can_retract)(struct flume_view *view);
  /* Puts what is in memory into view->store. */
  int (*save)(struct flume_view *view, struct flume_err *err);
  /* Takes up what view->store has, as of view->meta.since: nothing else is in memory afterwards. */
  int (*restore)(struct flume_view *view, struct flume_err *err);
  /* Runs a call. Its result, or error, goes into the call. NULL for an inline view. */
  void (*call)(struct flume_view *view, struct flume_view_call *call);
  /* Between these two, the owner calls none of the view's functions by itself. All of the above is called within. */
  void (*enter)(struct flume_view *view);
  void (*leave)(struct flume_view *view);
  /* Of a view whose store the owner reads too: false, if that is so now; then the work is put off. Else it is not read
   * until end_write. */
  bool (*begin_write)(struct flume_view *view);
  void (*end_write)(struct flume_view *view);
  /* The commit of an inline view is about to be handed to the pool. Locked, owner. */
  void (*announce)(struct flume_view *view);
  /* Starts over in its own way, which ends with flume_view_rebuild. On the loop. False: it has none. May be NULL. */
  bool (*start_over)(struct flume_view *view);
};

/* Something asked of a view, answered once. Embedded by the caller, who keeps it until cb. */
struct flume_view_request {
  /* On the loop. 0 or a negative code; err is set for one. */
  void (*cb)(struct flume_view_request *request, int status, const struct flume_err *err);
  int status;
  struct flume_err err;
  struct flume_notice notice;
};

/* A call of the view's own functions. Embedded by the caller, who fills in what is behind it. */
struct flume_view_call {
  struct flume_view_request request; /* answered FLUME_ECLOSED when the view is closed before */
  void *data;                        /* the caller's */
  struct flume_queue queue;
};

/* Where the versions of a view are kept. */
struct flume_view_place {
  char *dir;             /* see view_dir.h; NULL for a view that lives in memory. Owned */
  uint32_t number;       /* of this version there */
  bool reads_only;       /* another process writes the store: this one folds on in memory, and never commits */
  bool accepts;          /* it goes on with a state of another version */
  bool begins_active;    /* its first commit makes it the active one (FLUME_VIEW_FIRST); no other is asked to before */
  int64_t unusable_from; /* a state that has come to this seq can't be gone on with */
};

/* Why the last work failed, and where. */
struct flume_view_failure {
  int status;
  struct flume_err err;
  struct flume_buf traceback; /* a string; "" when there is none */
};

/* The work under way. */
struct flume_view_work {
  struct flume_block *block; /* to be folded; a reference. NULL for none */
  uint32_t from;
  struct flume_view_span span;
  int64_t since; /* of the log, when the work was begun; so are the next two */
  int64_t durable_seq;
  int64_t deletions;
  int64_t gone_until;  /* the ordinal of the first deletion behind those that are taken back */
  int64_t failing_seq; /* the record that could not be taken back */
  bool cant_retract;
  bool rebuilds;   /* RESTORING: from the first record, not from the last checkpoint */
  bool was_active; /* it was the active version when the work was begun */
  struct flume_view_failure failed;
};

struct flume_view_checkpoint {
  enum flume_view_freshness freshness;
  enum flume_view_activation activation;
  uint64_t next_ns;         /* no checkpoint before this, unless one is asked for */
  uint64_t committed_bytes; /* size of the store when it was opened, or after the last commit */
  uint64_t size_bytes;      /* the same, locked */
  bool put_off;             /* the owner was reading the store */
  int commit_status;        /* of the last one */
  int sync_status;          /* why the log could not be synced, for good; 0 */
  struct flume_err stall;   /* code != 0: why checkpoints can't be written at the moment */
};

struct flume_view_scrub {
  uint32_t number;                     /* the version's number once its store was written anew */
  int64_t until;                       /* how many deletions it is about */
  int64_t gone;                        /* of how many nothing is left; -1 while that is not known */
  struct flume_store_rewrite *rewrite; /* NULL: not under way */
  int status;                          /* 1: there is more to write */
};

/* Those who wait for an answer; NULL for none. */
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
  bool is_busy;   /* counted in pump->busy */
  struct flume_job job;
  struct flume_turn turn;
};

struct flume_view {
  struct flume_sink sink;
  const struct flume_view_ops *ops;
  const struct flume_io *io;
  struct flume_view_slot *slot; /* that it is in; NULL for none */
  enum flume_view_state state;
  unsigned wants;   /* of enum flume_view_want */
  bool held;        /* records are not folded meanwhile */
  bool called_last; /* the last work was a call: a block goes first now */
  struct flume_view_executor executor;
  struct flume_notice start_over; /* the owner is to call ops->start_over; run is NULL: not told so */
  struct flume_queue calls;       /* struct flume_view_call */
  struct flume_view_call *calling;
  struct flume_view_requests requests;
  struct flume_view_work work;
  struct flume_view_skips skips;     /* records that it passes over */
  struct flume_view_skips new_skips; /* in their place, as soon as nothing is under way; seqs NULL for no change */
  struct flume_store *store;         /* NULL for a view that keeps itself */
  struct flume_bitmaps *bitmaps;     /* of a view of sets; else NULL. Owned */
  struct flume_store_meta meta;      /* what its state was folded by, and how far */
  struct flume_view_place place;
  struct flume_view_checkpoint checkpoint;
  struct flume_view_scrub scrub;
  struct flume_buf traceback; /* of the failure; a string */
  const char *reason;         /* why it started over of itself; NULL: it didn't. Static */
};

/* On the caller's memory; is_inline says where it is worked on. Owner. */
void flume_view_init(struct flume_view *view, struct flume_pump *pump, const struct flume_view_ops *ops,
                     bool is_inline);
/* Frees what a view has that is NEW or CLOSED. Owner. */
void flume_view_fini(struct flume_view *view);

/* --- Starting: a view that is NEW. Owner, not locked -------------------------------------------------------------- */

/* Why a state can't be gone on with; room for the text of flume_view_open. */
#define FLUME_VIEW_REASON_BYTES 192

/* Opens the store in view->place, and takes up what is there, if it fits view->meta (version, fingerprint, log).
 * Entered, if others know of the view. 0 and *reason NULL: view->meta says how far it is (-1 for nothing there), place.accepts whether the state is one of
 * another version. 0 and *reason: why there is one that can't be gone on with; nothing has changed, and another place
 * may be tried. Else an error; nothing has changed either. */
int flume_view_open(struct flume_view *view, const char **reason, char text[FLUME_VIEW_REASON_BYTES],
                    struct flume_err *err);
/* Goes on with the state of another view, which is quiet (see flume_view_quiet) and loses it, as well as its place. Both
 * are entered. */
int flume_view_adopt(struct flume_view *view, struct flume_view *other, struct flume_err *err);
/* From now on it is fed. */
void flume_view_attach(struct flume_view *view);

/* --- Once it is attached: owner or any other thread, not locked ---------------------------------------------------- */

/* Runs the call when its turn comes; calls go before records, by turns. */
void flume_view_submit(struct flume_view *view, struct flume_view_call *call);

/* Starts over from the first record, as soon as nothing is under way. why is static, and told by status; or NULL. */
void flume_view_rebuild(struct flume_view *view, const char *why);
/* Goes on from the last checkpoint, also after a failure. */
void flume_view_revive(struct flume_view *view);
/* The records that it passes over, from the next block on; takes over seqs. */
void flume_view_set_skips(struct flume_view *view, int64_t *seqs, size_t count);
/* Whether it may begin a block; answers whether it was held before. */
bool flume_view_hold(struct flume_view *view, bool held);
/* It consumes nothing more, and all that waits for it is answered with the error. Only while it is held. */
void flume_view_fail(struct flume_view *view, const struct flume_err *err);

/* Answered when nothing is under way and no call waits; from then on it is held, and its store has all of its state,
 * unless it has failed. One at a time. */
void flume_view_quiet(struct flume_view *view, struct flume_view_request *request);
/* Of a version on disk that this process writes. A checkpoint, and then it is the active one on disk. FLUME_EAGAIN: it
 * has started over, and may be asked again when it has caught up. A request that waits is given up: its cb is not called. */
void flume_view_activate(struct flume_view *view, struct flume_view_request *request);
/* Answered when it has taken back all that is deleted now, and nothing of that is left in its files. place.number is
 * `number` then, if that took writing them anew. FLUME_EAGAIN: it was changed meanwhile. One at a time, and while no other
 * version of the view is asked to become the active one. */
void flume_view_scrub(struct flume_view *view, uint32_t number, struct flume_view_request *request);
/* A last checkpoint, unless its state is to be dropped; then the answer, on the loop, and it is CLOSED. Who waits for it
 * gets FLUME_ECLOSED before. request may be NULL: then the next one that is given is answered. */
void flume_view_close(struct flume_view *view, bool drop, struct flume_view_request *request);

/* The owner looks at the store, or calls the view's functions, itself: true if nothing is under way and no call waits;
 * then nothing begins until flume_view_end_reading. Owner. */
bool flume_view_begin_reading(struct flume_view *view);
void flume_view_end_reading(struct flume_view *view);

/* --- Between its own files ------------------------------------------------------------------------------------------ */

static inline const struct flume_io *flume__view_io(const struct flume_view *view) {
  return view->io; /* the log may be gone before a view that was never attached */
}

static inline uint64_t flume__view_now_ns(const struct flume_view *view) {
  const struct flume_io *io = flume__view_io(view);
  return io->hrtime_ns(io->ctx);
}

/* view_machine.c. Locked. */
void flume__view_set_state(struct flume_view *view, enum flume_view_state state);
bool flume__view_is_working(const struct flume_view *view);
/* Sees to it that a worker, or the owner, looks what is next. */
void flume__view_wake(struct flume_view *view);
void flume__view_submit(struct flume_view *view, struct flume_view_call *call);
void flume__view_want_active(struct flume_view *view);
/* It need not become the active version any more, unless the commit for that has begun. */
void flume__view_unwant_active(struct flume_view *view);
/* Answers a request, if there is one, and forgets it. */
void flume__view_answer(struct flume_view *view, struct flume_view_request **request, int status,
                        const struct flume_err *err);
/* What was asked for while it was at work: nothing is under way now. */
void flume__view_take_wishes(struct flume_view *view);
/* The block goes back; the pump does not wait for deleted records any more. */
void flume__view_let_go(struct flume_view *view);
/* The failure in view->work ends it; the block goes back. */
void flume__view_fail_at(struct flume_view *view, int64_t seq);

/* view_work.c: the work of a state, and what follows. The first: working; the second: locked. */
void flume__view_run(struct flume_view *view);
void flume__view_ran(struct flume_view *view);
extern const struct flume_sink_ops flume__view_sink_ops;

/* view_checkpoint.c */
bool flume__view_wants_commit(const struct flume_view *view);      /* working */
bool flume__view_is_durable(const struct flume_view *view);        /* working: the log has its records on disk */
size_t flume__view_pending_bytes(const struct flume_view *view);   /* working */
void flume__view_run_save(struct flume_view *view);                /* working */
void flume__view_run_commit(struct flume_view *view, bool saves);  /* working */
void flume__view_settle_commit(struct flume_view *view);           /* locked */
void flume__view_committed(struct flume_view *view);               /* locked */
void flume__view_commit_when_idle(struct flume_view *view);        /* locked */
bool flume__view_wants_last_commit(const struct flume_view *view); /* locked */
void flume__view_tell_active(struct flume_view *view);             /* locked */
/* What became of making it the active version: 0, or the error; 1 while that is not known. Locked, not working. */
int flume__view_activation_status(const struct flume_view *view, struct flume_err *err);
int flume__view_path(const struct flume_view *view, const char *name, char path[FLUME_VIEW_PATH_BYTES],
                     struct flume_err *err);

/* view_scrub.c */
bool flume__view_scrub_is_next(struct flume_view *view); /* locked: what is next is SCRUBBING */
void flume__view_run_scrub(struct flume_view *view);     /* working */
void flume__view_scrubbed(struct flume_view *view);      /* locked */
void flume__view_end_scrub(struct flume_view *view, int status, const struct flume_err *err); /* locked */

/* view_start.c. Working. */
int flume__view_reset(struct flume_view *view,
                      struct flume_err *err); /* to the state before the first record, durably */
int flume__view_revert(struct flume_view *view, struct flume_err *err); /* to the last checkpoint */
void flume__view_renew(
    struct flume_view *view); /* reads_only: goes on with what the writer has committed, if further */
int flume__view_restore(struct flume_view *view, struct flume_err *err);

#endif
