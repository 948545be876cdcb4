/* Happy path of feeding: the pump hands over a block; fold it for a slice of time; when a checkpoint is due, encode the
 * state and commit it together with the seq up to which it was folded; tell the pump how far the view has come. For a
 * script view all of it is one job on a worker thread; for an inline view fold and encode run on the loop, and only the
 * commit, which waits for the disk, is a job.
 *
 * Failures: a step function that raises, or a state that can't be encoded or written, ends the view: what is in memory
 * is not to be trusted any more, the last checkpoint on disk still is. Calls and waits are answered with the error. */
#include <assert.h>
#include <lauxlib.h>
#include <string.h>

#include "marshal.h"
#include "view.h"

#define SCRIPT_SLICE_NS (20u * 1000 * 1000)
#define INLINE_SLICE_NS (4u * 1000 * 1000)

/* A checkpoint that took t is followed by none for 20 t, and a second at least: they cost a twentieth at most. */
#define COMMIT_SHARE 20u
#define COMMIT_PAUSE_NS (1000u * 1000 * 1000)

static lua_State *state_of(const struct flume_view *view) {
  return view->vm != NULL ? view->vm->L : view->loop->L;
}

static int host_of(const struct flume_view *view) {
  return view->vm != NULL ? view->vm->host : view->host;
}

/* --- The steps ------------------------------------------------------------------------------------------------- */

static void fold(struct flume_view *view, uint64_t slice_ns) {
  view->fold = (struct flume_fold){.host = host_of(view),
                                   .codec = view->pump->log->codec,
                                   .block = view->block,
                                   .from = view->from,
                                   .until_ns = uv_hrtime() + slice_ns};
  if (view->vm != NULL) {
    view->fold.interrupt = &view->vm->wanted;
    view->fold.spent = &view->vm->spent;
  }
  view->fold_status = flume_fold_run(state_of(view), &view->fold, &view->traceback, &view->err);
  if (view->fold_status != 0) return;
  view->dirty = true;
  view->meta.since = view->block->first_seq + view->fold.next - 1;
  view->meta.deletions += view->fold.skipped;
  view->commit_due = view->state != NULL && uv_hrtime() >= view->next_commit_ns;
}

/* Whether the records that the state was folded from are on disk. Loop thread; durable_seq only grows. */
static bool is_durable(const struct flume_view *view) {
  return view->meta.since <= view->pump->log->log->durable_seq;
}

static void save(struct flume_view *view) {
  view->saved.len = 0;
  view->commit_status = flume_fold_save(state_of(view), host_of(view), &view->saved, &view->err);
}

static void commit(struct flume_view *view) {
  if (view->commit_status != 0) return;
  uint64_t start = uv_hrtime();
  view->commit_status = flume_state_commit(view->state, &view->meta, view->saved.data, view->saved.len, &view->err);
  uint64_t end = uv_hrtime();
  uint64_t pause = (end - start) * COMMIT_SHARE;
  view->next_commit_ns = end + (pause > COMMIT_PAUSE_NS ? pause : COMMIT_PAUSE_NS);
  if (view->commit_status == 0) view->dirty = false;
}

/* --- On a worker thread ---------------------------------------------------------------------------------------- */

static void run_job(struct flume_job *job) {
  struct flume_view *view = FLUME_CONTAINER_OF(job, struct flume_view, job);
  if (view->vm == NULL) {
    commit(view);
    return;
  }
  flume_vm_enter(view->vm);
  switch (view->working) {
    case FLUME_WORK_FEED:
      fold(view, SCRIPT_SLICE_NS);
      if (view->fold_status == 0 && view->commit_due && view->meta.since <= view->durable_seq) {
        save(view);
        commit(view);
        view->commit_due = false;
      }
      break;
    case FLUME_WORK_CALL:
      view->calling->status = flume_vm_call(view->vm, view->calling->name, &view->calling->args,
                                            &view->calling->results, &view->calling->err);
      break;
    case FLUME_WORK_COMMIT:
      save(view);
      commit(view);
      break;
    case FLUME_WORK_NONE: break;
  }
  flume_vm_leave(view->vm);
}

/* --- Back on the loop ------------------------------------------------------------------------------------------ */

static void drop_block(struct flume_view *view) {
  flume_block_unref(view->block);
  view->block = NULL;
}

static void after_feed(struct flume_view *view) {
  int64_t next = view->block->first_seq + view->fold.next;
  drop_block(view);
  if (view->fold_status != 0) {
    view->commit_due = false;
    flume_sink_failed(&view->sink, next, &view->err);
  } else if (view->commit_status != 0) {
    flume_sink_failed(&view->sink, next - 1, &view->err);
  } else {
    flume_sink_fed(&view->sink, next - 1, view->fold.skipped);
  }
}

static void after_commit(struct flume_view *view) {
  view->commit_due = false;
  if (view->commit_status != 0 && !view->closing) flume_sink_failed(&view->sink, view->meta.since, &view->err);
}

static void on_synced(struct flume_append *req, int status, int64_t seq, const struct flume_err *err) {
  struct flume_view *view = FLUME_CONTAINER_OF(req, struct flume_view, sync);
  (void)seq;
  view->syncing = false;
  view->sync_status = status;
  if (status != 0) view->err = *err;
  flume__view_next(view);
}

/* A state on disk must not know of records that a power cut can still take away: so the log is synced first. False:
 * wait for on_synced. In sync_status: why it can't be. */
static bool log_is_synced(struct flume_view *view) {
  if (is_durable(view) || view->sync_status != 0) return true;
  view->sync_status = flume_log_sync(view->pump->log->log, &view->sync, on_synced, &view->err);
  view->syncing = view->sync_status == 0;
  return !view->syncing;
}

void flume__view_call_free(lua_State *L, struct flume_view_call *call) {
  luaL_unref(L, LUA_REGISTRYINDEX, call->cb);
  flume_buf_fini(&call->args);
  flume_buf_fini(&call->results);
  flume_io_free(&flume_io_posix, call);
}

/* The callback, nil and the results, to be called. */
static int push_results(lua_State *L) {
  struct flume_view_call *call = lua_touserdata(L, 1);
  lua_settop(L, 0);
  lua_rawgeti(L, LUA_REGISTRYINDEX, call->cb);
  lua_pushnil(L);
  int count = flume_values_push(L, &call->results);
  return count >= 0 ? 2 + count : luaL_error(L, "they can't be decoded");
}

static void answer(struct flume_view *view, struct flume_view_call *call) {
  lua_State *L = view->loop->L;
  int top = lua_gettop(L);
  if (call->status == 0) {
    lua_pushcfunction(L, push_results);
    lua_pushlightuserdata(L, call);
    if (lua_pcall(L, 1, LUA_MULTRET, 0) != LUA_OK) {
      call->status = flume_err_set(&call->err, FLUME_EVIEW, "results: %s", lua_tostring(L, -1));
      lua_settop(L, top);
    }
  }
  if (call->status != 0) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, call->cb);
    flume__push_error(L, call->status, &call->err);
  }
  flume__loop_call(view->loop, lua_gettop(L) - top - 1);
  flume__view_call_free(L, call);
}

static void after_call(struct flume_view *view) {
  struct flume_view_call *call = view->calling;
  view->calling = NULL;
  view->called_last = true;
  answer(view, call);
}

static void job_done(struct flume_job *job) {
  struct flume_view *view = FLUME_CONTAINER_OF(job, struct flume_view, job);
  enum flume_work worked = view->working;
  view->working = FLUME_WORK_NONE;
  if (worked == FLUME_WORK_FEED) after_feed(view);
  if (worked == FLUME_WORK_CALL) after_call(view);
  if (worked == FLUME_WORK_COMMIT) after_commit(view);
  flume__view_next(view);
}

/* An inline view's slice, on the loop. */
static void run_slice(struct flume_deferred *deferred) {
  struct flume_view *view = FLUME_CONTAINER_OF(deferred, struct flume_view, slice);
  if (view->working == FLUME_WORK_FEED && (view->held || view->rebuilding || view->closing)) {
    view->working = FLUME_WORK_NONE; /* the block waits, or goes */
    flume__view_next(view);
    return;
  }
  if (view->working == FLUME_WORK_FEED) {
    fold(view, INLINE_SLICE_NS);
    if (view->fold_status == 0 && view->commit_due && is_durable(view)) {
      save(view);
      view->commit_due = false;
      flume_pool_submit(view->loop->pool, &view->job);
      return;
    }
  }
  job_done(&view->job);
}

/* --- What comes next ------------------------------------------------------------------------------------------- */

static void start_work(struct flume_view *view, enum flume_work work) {
  view->working = work;
  view->durable_seq = view->pump->log->log->durable_seq;
  if (view->vm != NULL) flume_pool_submit(view->loop->pool, &view->job);
  else flume_defer(&view->pump->pump.log->defer, &view->slice);
}

static void start_call(struct flume_view *view) {
  struct flume_queue *node = flume_queue_shift(&view->calls);
  view->calling = FLUME_CONTAINER_OF(node, struct flume_view_call, queue);
  start_work(view, FLUME_WORK_CALL);
}

/* Starts over: the state on disk goes first, so that a crash finds either the old state or none. */
static void rebuild(struct flume_view *view) {
  view->rebuilding = false;
  struct flume_err err;
  int rv = view->state != NULL ? flume_state_clear(view->state, &err) : 0;
  if (rv == 0) {
    if (view->vm != NULL) flume_vm_enter(view->vm);
    lua_State *L = state_of(view);
    lua_rawgeti(L, LUA_REGISTRYINDEX, host_of(view));
    lua_getfield(L, -1, "initial");
    size_t len;
    const char *initial = lua_tolstring(L, -1, &len);
    if (initial != NULL) rv = flume_fold_restore(L, host_of(view), initial, len);
    lua_pop(L, 2);
    if (view->vm != NULL) flume_vm_leave(view->vm);
    if (rv != 0) flume_err_set(&err, rv, "starting over: %s", flume_strerror(rv));
  }
  if (view->block != NULL) drop_block(view);
  if (view->sink.state == FLUME_SINK_FEEDING) flume_sink_unfeed(&view->sink);
  view->meta.since = -1;
  view->meta.deletions = 0;
  view->dirty = view->commit_due = false;
  view->traceback.len = 0;
  flume_sink_restart(&view->sink, -1, 0);
  if (rv != 0) flume_sink_failed(&view->sink, -1, &err);
}

static void start_commit(struct flume_view *view) {
  view->working = FLUME_WORK_COMMIT;
  if (view->vm == NULL) save(view);
  flume_pool_submit(view->loop->pool, &view->job);
}

static bool wants_last_commit(const struct flume_view *view) {
  return view->state != NULL && view->dirty && view->commit_status == 0 && view->sync_status == 0 &&
         view->sink.state != FLUME_SINK_FAILED;
}

static void close_step(struct flume_view *view) {
  struct flume_queue *node;
  while ((node = flume_queue_shift(&view->calls)) != NULL) {
    struct flume_view_call *call = FLUME_CONTAINER_OF(node, struct flume_view_call, queue);
    call->status = flume_err_set(&call->err, FLUME_ECLOSED, "the database was closed");
    answer(view, call);
  }
  if (view->block != NULL) drop_block(view);
  if (view->sink.state == FLUME_SINK_FEEDING) flume_sink_unfeed(&view->sink);
  if (!wants_last_commit(view)) {
    flume__view_finish_close(view);
  } else if (log_is_synced(view)) {
    start_commit(view);
  }
}

/* A log that can't be synced takes no more appends; its views go on with what it has, and keep the checkpoint they have. */
static void commit_after_sync(struct flume_view *view) {
  if (view->sync_status == 0 && view->sink.state != FLUME_SINK_FAILED) start_commit(view);
  else view->commit_due = false;
}

void flume__view_next(struct flume_view *view) {
  if (view->working != FLUME_WORK_NONE || view->syncing) return;
  if (view->closing) {
    close_step(view);
    return;
  }
  if (view->rebuilding) rebuild(view);
  if (view->commit_due && log_is_synced(view)) commit_after_sync(view);
  if (view->working != FLUME_WORK_NONE || view->syncing) return;
  bool has_call = !flume_queue_empty(&view->calls);
  if (has_call && !(view->called_last && view->block != NULL)) {
    start_call(view);
  } else if (view->block != NULL && !view->held) {
    view->called_last = false;
    start_work(view, FLUME_WORK_FEED);
  }
}

static void feed(struct flume_sink *sink, struct flume_block *block, uint32_t from) {
  struct flume_view *view = FLUME_CONTAINER_OF(sink, struct flume_view, sink);
  view->block = block;
  view->from = from;
  flume__view_next(view);
}

/* An inline view's host may start over in its own way, which ends with core:rebuild. */
static bool starts_over_itself(struct flume_view *view) {
  lua_State *L = view->loop->L;
  if (view->vm != NULL) return false;
  lua_rawgeti(L, LUA_REGISTRYINDEX, view->host);
  bool itself = lua_getfield(L, -1, "start_over") == LUA_TFUNCTION;
  lua_remove(L, -2);
  if (itself) flume__loop_call(view->loop, 0);
  else lua_pop(L, 1);
  return itself;
}

static void stale(struct flume_sink *sink) {
  struct flume_view *view = FLUME_CONTAINER_OF(sink, struct flume_view, sink);
  sink->restarting = true;
  if (starts_over_itself(view)) return;
  view->rebuilding = true;
  flume__view_next(view);
}

const struct flume_sink_ops flume__view_sink_ops = {.feed = feed, .stale = stale};

void flume__view_work_init(struct flume_view *view) {
  view->job.run = run_job;
  view->job.done = job_done;
  flume_queue_init(&view->calls);
  flume_deferred_init(&view->slice, run_slice);
  flume_buf_init(&view->traceback, &flume_io_posix);
  flume_buf_init(&view->saved, &flume_io_posix);
  view->next_commit_ns = uv_hrtime() + COMMIT_PAUSE_NS;
}
