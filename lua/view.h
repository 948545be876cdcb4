/* A view: a sink of the pump whose records are folded by Lua.
 *
 *   view.c         the userdata: opening, waiting, closing
 *   view_work.c    what is done for it, where: feeding, calls, checkpoints
 *
 * A script view has a Lua state of its own (vm.h) and is worked on by the pool's threads; an inline view lives in the
 * caller's state and is worked on in slices on the loop. The steps are the same (fold, save, commit); the executor
 * decides on which thread each is run. One piece of work at a time is under way for a view. */
#ifndef FLUME_LUA_VIEW_H
#define FLUME_LUA_VIEW_H

#include "../core/pump.h"
#include "../core/state.h"
#include "fold.h"
#include "vm.h"

struct flume_lua_pump {
  struct flume_pump pump;
  struct flume_lua_log *log;
  bool open;
  bool closing;
  int pin; /* registry: this userdata, while it closes */
  int cb;
};

enum flume_work {
  FLUME_WORK_NONE,
  FLUME_WORK_FEED,   /* fold a block; save and commit when that is due */
  FLUME_WORK_CALL,   /* call a function of the host */
  FLUME_WORK_COMMIT, /* save and commit: an inline view's commit, or a last one */
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

struct flume_view {
  struct flume_sink sink;
  struct flume_lua_pump *pump;
  struct flume_loop *loop;
  struct flume_vm *vm; /* NULL for an inline view */
  int host;            /* of an inline view: registry reference */
  bool open;
  bool closing;
  bool rebuilding; /* asked for; done as soon as nothing is under way */
  bool held;       /* not fed meanwhile */
  int pin;         /* registry: the userdata, while it is open */
  int close_cb;    /* registry */

  struct flume_job job;
  struct flume_deferred slice; /* an inline view's turn */
  enum flume_work working;     /* what is under way */
  struct flume_queue calls;    /* struct flume_view_call */
  struct flume_view_call *calling;
  bool called_last;          /* the last work was a call: a block goes first now */
  struct flume_block *block; /* to be fed; a reference */
  uint32_t from;
  struct flume_fold fold;
  int fold_status;
  struct flume_err err;
  struct flume_buf traceback; /* of the failure; a string */

  struct flume_state *state; /* NULL for a view without state on disk */
  struct flume_state_meta meta;
  struct flume_buf saved; /* the state, encoded, on its way to disk */
  bool dirty;             /* folded since the last commit */
  bool commit_due;
  uint64_t next_commit_ns;
  struct flume_append sync; /* of the log, before a commit that would be ahead of what is on disk */
  bool syncing;
  int sync_status;     /* why it could not be synced; 0 */
  int64_t durable_seq; /* of the log, when the work under way was begun */
  int commit_status;
};

/* view_work.c */
extern const struct flume_sink_ops flume__view_sink_ops;
void flume__view_work_init(struct flume_view *view);
/* Begins what is next for the view, if nothing is under way. */
void flume__view_next(struct flume_view *view);
void flume__view_call_free(lua_State *L, struct flume_view_call *call);

/* view.c: all work of a closing view is done. */
void flume__view_finish_close(struct flume_view *view);

/* pump(log), view(pump, options): into the table on top. */
void flume__view_open(lua_State *L);

#endif
