/* A view at one version: a sink of the pump whose records are folded by Lua, and the store that it keeps.
 *
 *   view.c         the userdata: opening, waiting, closing
 *   view_state.c   its state: taken up from the store, saved, committed, handed on
 *   view_work.c    what is done for it, where: feeding, calls, checkpoints
 *   view_erase.c   its store is written anew, so that nothing is left of what was deleted
 *   view_explain.c a dry run
 *
 * (What a database mounts under a name is lua/flume/view/view.lua: it has one of these, and a second one while a new version
 * is built beside the old.)
 *
 * A script view has a Lua state of its own (vm.h) and is worked on by the pool's threads; an inline view lives in the
 * caller's state and is worked on in slices on the loop. The steps are the same (fold, save, commit); the executor
 * decides on which thread each is run. One piece of work at a time is under way for a view. */
#ifndef FLUME_LUA_VIEW_H
#define FLUME_LUA_VIEW_H

#include "core/index/bitmap_index.h"
#include "core/view/view_dir.h"
#include "lua/binding/lua_pump.h"
#include "lua/sandbox/vm.h"
#include "lua/view/fold.h"
#include "lua/view/view_store.h"

#define FLUME_VIEW_GONE_MAX 64 /* deleted records that are taken back in one go */
#define FLUME_VIEW_TYPE "flume.view.core"

enum flume_work {
  FLUME_WORK_NONE,
  FLUME_WORK_FEED,    /* fold a block; save and commit when that is due */
  FLUME_WORK_RETRACT, /* take back records that were deleted */
  FLUME_WORK_CALL,    /* call a function of the host */
  FLUME_WORK_COMMIT,  /* save and commit: an inline view's commit, or one that was asked for */
  FLUME_WORK_ERASE,   /* write some of the store anew */
};

enum flume_view_kind {
  FLUME_VIEW_REDUCE, /* one state */
  FLUME_VIEW_GROUP,  /* a state for each key, in the store */
  FLUME_VIEW_INDEX,  /* entries in the store */
  FLUME_VIEW_BITMAP, /* sets of records in the store */
  FLUME_VIEW_SINK,   /* keeps itself */
};

enum flume_view_end {
  FLUME_VIEW_KEEP, /* a last checkpoint */
  FLUME_VIEW_DROP, /* its state is not needed any more */
};

/* A call that waits for its turn. */
struct flume_view_call {
  struct flume_queue queue;
  char name[16]; /* of the host's function */
  struct flume_buf args;
  struct flume_buf results;
  int cb; /* registry */
  int status;
  struct flume_err err;
};

struct explain;

struct flume_view {  // NOLINT(clang-analyzer-optin.performance.Padding): fields stand by what they are about
  struct flume_sink sink;
  struct flume_lua_pump *pump;
  struct flume_loop *loop;
  struct flume_vm *vm; /* NULL for an inline view */
  int host;            /* of an inline view: registry reference */
  enum flume_view_kind kind;
  bool open;
  bool closing;
  bool finishing; /* its last handle is being closed */
  bool released;
  enum flume_view_end end;
  bool rebuilding; /* asked for; done as soon as nothing is under way */
  bool reviving;   /* the same: to go on from the last checkpoint */
  bool held;       /* not fed meanwhile */
  int pin;         /* registry: the userdata, while it is open */
  int close_cb;    /* registry */
  int quiet_cb;    /* registry: called once when no work is under way and no call waits; it is held from then on */

  struct flume_job job;
  struct flume_deferred slice; /* an inline view's turn */
  struct flume_deferred nudge; /* looks at what is next, in the loop's next turn */
  enum flume_work working;     /* what is under way */
  struct flume_queue calls;    /* struct flume_view_call */
  struct flume_view_call *calling;
  bool called_last;          /* the last work was a call: a block goes first now */
  struct flume_block *block; /* to be fed; a reference */
  uint32_t from;
  struct flume_fold fold;
  struct flume_extract *extract; /* of an index by paths, and of bitmaps */
  bool aggregates;               /* records go into kept.aggregate as they are */
  struct flume_bitmaps *bitmaps; /* of a view of that kind; else NULL */
  int64_t *skips;                /* ascending: records that it passes over; owned */
  size_t skips_count;
  int64_t *new_skips; /* in their place, as soon as nothing is under way; NULL for no change. Owned */
  size_t new_skips_count;
  bool forgetting;                               /* the pump waits until what was deleted is taken back */
  struct flume_block *gone[FLUME_VIEW_GONE_MAX]; /* deleted records to be taken back; references */
  unsigned gone_count;
  int64_t gone_until; /* the ordinal of the first deletion behind them */
  int64_t failing_seq;
  const char *reason; /* why it started over of itself; NULL: it didn't. Static */
  int fold_status;
  struct flume_err err;
  struct flume_buf traceback; /* of the failure; a string */

  struct flume_lua_store kept; /* kept.store: NULL for a view that keeps itself */
  struct flume_store_meta meta;
  char *dir;             /* of its versions, see view_dir.h; NULL when it lives in memory. Owned */
  uint32_t number;       /* of this version there */
  bool active;           /* it is the active one there */
  bool reads_only;       /* another process writes the store: this one folds on in memory, and never commits */
  int64_t unusable_from; /* a state that has come to this seq can't be gone on with */
  bool accepting;        /* it goes on with a state of another version */
  bool activates_first;  /* there was none: its first commit makes it so */
  bool activating;       /* the next commit makes it so */
  bool activation_off;   /* what was asked for can't be done now: to be told */
  bool wants_active;     /* asked for: see flume__view_take_wishes */
  int active_cb;         /* registry: called once when that is done */
  int erase_cb;          /* registry: called once when nothing is left of what was deleted; see view_erase.c */
  uint32_t erase_number; /* the version's number from then on */
  int64_t erase_until;   /* how many deletions it is about */
  int64_t erased;        /* of how many nothing is left; -1 while that is not known */
  struct flume_store_rewrite *rewrite; /* NULL: not under way */
  int erase_status;                    /* 1: there is more to write */
  bool dirty;                          /* folded since the last commit */
  uint64_t committed_bytes;            /* size of the store when it was opened, or after the last commit */
  uint64_t size_bytes;                 /* the same, for the loop thread */
  bool commit_due;
  uint64_t next_commit_ns;
  uv_timer_t idle;          /* a checkpoint for what is not followed by more records; open from start to close */
  struct flume_append sync; /* of the log, before a commit that would be ahead of what is on disk */
  bool syncing;
  int sync_status;     /* why it could not be synced; 0 */
  int64_t durable_seq; /* of the log, when the work under way was begun; so are the next two */
  int64_t log_since;
  int64_t log_deletions;
  int commit_status;
  bool commit_put_off;     /* the loop was reading the store */
  struct explain *explain; /* the dry run that it is used for */
  struct flume_err stall;  /* code != 0: why checkpoints can't be written at the moment */
};

static inline lua_State *flume__view_state(const struct flume_view *view) {
  return view->vm != NULL ? view->vm->L : view->loop->L;
}

static inline int flume__view_host(const struct flume_view *view) {
  return view->vm != NULL ? view->vm->host : view->host;
}

/* view_state.c. All but the first on any thread, while the view's Lua state is entered. */

/* start(self, version, fingerprint, place, since): see view_state.c */
int flume__view_start(lua_State *L);
/* start_dry(self, base or nil): see view_state.c */
int flume__view_start_dry(lua_State *L);
/* adopt(self, other, version, fingerprint): see view_state.c */
int flume__view_adopt(lua_State *L);
/* Puts what Lua holds into the store. The error is in view->err. */
int flume__view_save(struct flume_view *view);
/* Commits the store, and makes the version the active one if that was asked for. The error is in view->err. 1: the loop
 * is reading the store, and it has to be done later. */
int flume__view_commit(struct flume_view *view);
/* To the state before the first record, durably; or to the last checkpoint. */
int flume__view_reset(struct flume_view *view, struct flume_err *err);
int flume__view_revert(struct flume_view *view, struct flume_err *err);
/* A store that another process writes: goes on with what that has committed since, if it is further. */
void flume__view_renew(struct flume_view *view);

/* view_work.c */
extern const struct flume_sink_ops flume__view_sink_ops;
void flume__view_work_init(struct flume_view *view);
/* For a view that is attached to the pump. */
void flume__view_work_start(struct flume_view *view);
/* Begins what is next for the view, if nothing is under way. */
void flume__view_next(struct flume_view *view);
/* Tells who asked for it what became of making the version the active one, as soon as that is known. */
void flume__view_tell_active(struct flume_view *view);
/* What was asked for while it was at work: nothing is under way now. */
void flume__view_take_wishes(struct flume_view *view);
void flume__view_call_free(lua_State *L, struct flume_view_call *call);

/* view_erase.c */

/* erase(self, number, cb): see view_erase.c */
int flume__view_erase(lua_State *L);
/* What is next for that; whether something is under way now, or all else but calls has to wait. Loop thread. */
bool flume__view_erase_next(struct flume_view *view);
/* The work itself, on a worker thread, and what follows on the loop. */
void flume__view_erase_run(struct flume_view *view);
void flume__view_erase_ran(struct flume_view *view);
/* Ends what is under way, and answers with the status when that is not 0. The view is not at work. */
void flume__view_erase_end(struct flume_view *view, int status);

/* view.c: all work of a closing view is done. */
void flume__view_finish_close(struct flume_view *view);
/* The view at index; raises when it is something else, or closed. */
struct flume_view *flume__view_check(lua_State *L, int index);

/* view_explain.c */

/* explain(self, base or nil, from, to, cb): a dry run over records from to to of a view that was started with start_dry; cb(err,
 * results). base is the view whose groups are read through to. */
int flume__view_explain(lua_State *L);
/* explain_stop(self): the dry run ends soon, with ECLOSED */
int flume__view_explain_stop(lua_State *L);

/* view(pump, options): into the table on top. */
void flume__view_open(lua_State *L);

#endif
