/* Happy path of feeding: the pump hands over a block; fold it for a slice of time; when a checkpoint is due, save the
 * state and commit it together with the seq up to which it was folded; tell the pump how far the view has come. For a
 * script view all of it is one job on a worker thread; for an inline view fold and save run on the loop, and only the
 * commit, which waits for the disk, is a job.
 *
 * When records that were folded are deleted, a view that can takes them back, some at a time; any other starts over.
 *
 * Failures: a step function that raises, or a state that can't be encoded or written, ends the view: what is in memory
 * is not to be trusted any more, the last checkpoint on disk still is. Calls and waits are answered with the error. A
 * full disk ends nothing: the view goes on in memory, and its checkpoint is tried again. */
#include <assert.h>
#include <errno.h>
#include <lauxlib.h>
#include <string.h>

#include "lua/value/marshal.h"
#include "lua/view/lua_view.h"

#define SCRIPT_SLICE_NS (20u * 1000 * 1000)
#define INLINE_SLICE_NS (4u * 1000 * 1000)

#define FIRST_COMMIT_NS (200u * 1000 * 1000) /* after a view was opened */
#define STALL_NS (1000u * 1000 * 1000)       /* until a checkpoint that found no room is tried again */
#define PENDING_MAX_BYTES (16u << 20)        /* of a store: then a checkpoint is due */
#define PENDING_STALLED_BYTES (128u << 20)   /* of a store that can't be written: then the view ends */

/* --- The steps ------------------------------------------------------------------------------------------------- */

static size_t pending_bytes(const struct flume_view *view) {
  size_t bytes = view->kept.store != NULL ? flume_store_pending_bytes(view->kept.store) : 0;
  return view->bitmaps != NULL ? bytes + flume_bitmaps_pending_bytes(view->bitmaps) : bytes;
}

static bool wants_commit(const struct flume_view *view) {
  if (view->dir == NULL || view->reads_only) return false;
  if (uv_hrtime() >= view->next_commit_ns) return true;
  return view->stall.code == 0 && pending_bytes(view) > PENDING_MAX_BYTES;
}

static void on_idle(uv_timer_t *timer) {
  struct flume_view *view = timer->data;
  if (view->working == FLUME_WORK_NONE && view->dirty && !view->closing) view->commit_due = true;
  flume__view_next(view);
}

/* When no more records come, what there is becomes a checkpoint all the same, a little later. */
static void commit_when_idle(struct flume_view *view) {
  if (!view->dirty || view->dir == NULL || view->reads_only || uv_is_active((uv_handle_t *)&view->idle)) return;
  uint64_t now = uv_hrtime();
  uint64_t wait_ms = view->next_commit_ns > now ? (view->next_commit_ns - now) / 1000000 + 1 : 1;
  uv_timer_start(&view->idle, on_idle, wait_ms, 0);
}

static bool wants_renewal(const struct flume_view *view) {
  return view->reads_only && (uv_hrtime() >= view->next_commit_ns || pending_bytes(view) > PENDING_MAX_BYTES);
}

static void prepare(struct flume_view *view, enum flume_fold_action action, uint64_t slice_ns) {
  view->fold = (struct flume_fold){.host = flume__view_host(view),
                                   .action = action,
                                   .codec = view->pump->log->codec,
                                   .store = &view->kept,
                                   .extract = view->extract,
                                   .aggregates = view->aggregates,
                                   .bitmaps = view->bitmaps,
                                   .skips = view->skips,
                                   .skips_count = view->skips_count,
                                   .until_ns = uv_hrtime() + slice_ns};
  if (view->vm == NULL) return;
  view->fold.interrupt = &view->vm->wanted;
  view->fold.budget = &view->vm->budget;
}

static void fold(struct flume_view *view, uint64_t slice_ns) {
  prepare(view, FLUME_FOLD_STEP, slice_ns);
  view->fold.block = view->block;
  view->fold.from = view->from;
  view->fold_status = flume_fold_run(flume__view_state(view), &view->fold, &view->traceback, &view->err);
  if (view->fold_status != 0) return;
  view->dirty = true;
  if (view->fold.next > view->from) {
    view->meta.since = view->kept.seq = flume_block_seq(view->block, view->fold.next - 1);
  }
  view->commit_due = view->commit_due || wants_commit(view);
  if (wants_renewal(view)) flume__view_renew(view);
}

/* Takes back the records that were fetched. */
static void retract(struct flume_view *view) {
  view->fold_status = 0;
  for (unsigned i = 0; i < view->gone_count && view->fold_status == 0 && !view->kept.must_rebuild; i++) {
    prepare(view, FLUME_FOLD_RETRACT, 0);
    view->fold.block = view->gone[i];
    view->failing_seq = view->gone[i]->first_seq;
    view->fold_status = flume_fold_run(flume__view_state(view), &view->fold, &view->traceback, &view->err);
  }
  view->kept.seq = view->meta.since;
  if (view->fold_status != 0) return;
  view->dirty = true;
  view->commit_due = view->commit_due || wants_commit(view);
}

/* Whether the records that the state was folded from are on disk. Loop thread; durable_seq only grows. */
static bool is_durable(const struct flume_view *view) {
  return view->meta.since <= view->pump->log->log->durable_seq;
}

static void save(struct flume_view *view) {
  view->commit_status = flume__view_save(view);
}

static void commit(struct flume_view *view) {
  if (view->commit_status == 0) view->commit_status = flume__view_commit(view);
  view->commit_put_off = view->commit_status == 1;
  if (view->commit_put_off) view->commit_status = 0;
}

/* --- On a worker thread ---------------------------------------------------------------------------------------- */

static void commit_if_due(struct flume_view *view) {
  if (view->fold_status != 0 || !view->commit_due || view->meta.since > view->durable_seq) return;
  save(view);
  commit(view);
  view->commit_due = false;
}

static void run_job(struct flume_job *job) {
  struct flume_view *view = FLUME_CONTAINER_OF(job, struct flume_view, job);
  if (view->vm == NULL) {
    if (view->working == FLUME_WORK_ERASE) flume__view_erase_run(view);
    else commit(view);
    return;
  }
  flume_vm_enter(view->vm);
  switch (view->working) {
    case FLUME_WORK_FEED:
      fold(view, SCRIPT_SLICE_NS);
      commit_if_due(view);
      break;
    case FLUME_WORK_RETRACT: retract(view); break;
    case FLUME_WORK_CALL:
      view->calling->status = flume_vm_call(view->vm, view->calling->name, &view->calling->args,
                                            &view->calling->results, &view->calling->err);
      break;
    case FLUME_WORK_COMMIT:
      save(view);
      commit(view);
      break;
    case FLUME_WORK_ERASE: flume__view_erase_run(view); break;
    case FLUME_WORK_NONE: break;
  }
  flume_vm_leave(view->vm);
}

/* --- Back on the loop ------------------------------------------------------------------------------------------ */

static void drop_block(struct flume_view *view) {
  flume_block_unref(view->block);
  view->block = NULL;
}

static void fail(struct flume_view *view, int64_t seq) {
  view->commit_due = false;
  flume_sink_failed(&view->sink, seq, &view->err);
}

/* A checkpoint that found no room is tried again, while there is memory to go on in. */
static void settle_commit(struct flume_view *view) {
  int rv = view->commit_status;
  bool is_full = rv == UV_ENOSPC || rv == -EDQUOT;
  if (rv == 0) {
    if (!view->dirty) view->stall.code = 0;
  } else if (is_full && !view->closing && pending_bytes(view) < PENDING_STALLED_BYTES) {
    view->stall = view->err;
    view->commit_status = 0;
    view->next_commit_ns = uv_hrtime() + STALL_NS;
  }
}

static void after_feed(struct flume_view *view) {
  uint32_t at = view->fold.next < view->block->count ? view->fold.next : view->block->count - 1;
  int64_t failing_seq = view->fold_status != 0 ? flume_block_seq(view->block, at) : view->meta.since;
  drop_block(view);
  settle_commit(view);
  if (view->fold_status != 0 || view->commit_status != 0) {
    fail(view, failing_seq);
  } else {
    view->sink.deletions = view->meta.deletions;
    flume_sink_fed(&view->sink, view->meta.since);
    commit_when_idle(view);
  }
}

static void drop_gone(struct flume_view *view) {
  for (unsigned i = 0; i < view->gone_count; i++) flume_block_unref(view->gone[i]);
  view->gone_count = 0;
}

static void start_over(struct flume_view *view);

static void after_retract(struct flume_view *view) {
  drop_gone(view);
  if (view->kept.must_rebuild) {
    view->kept.must_rebuild = false;
    start_over(view);
    return;
  }
  if (view->fold_status != 0) {
    view->forgetting = false;
    fail(view, view->failing_seq);
    return;
  }
  view->meta.deletions = view->gone_until;
}

/* What became of making the version the active one: 0, or the error, also in *err; 1 while it is not known. */
static int activation_status(const struct flume_view *view, struct flume_err *err) {
  if (view->active) return 0;
  if (view->activation_off) return flume_err_set(err, FLUME_EAGAIN, "the view has started over");
  if (view->sink.state != FLUME_SINK_FAILED && view->commit_status == 0) return 1;
  *err = view->sink.state == FLUME_SINK_FAILED ? view->sink.failure : view->err;
  return err->code;
}

void flume__view_tell_active(struct flume_view *view) {
  struct flume_err err;
  if (view->active_cb == LUA_NOREF || view->wants_active || view->working != FLUME_WORK_NONE) return;
  int status = activation_status(view, &err);
  if (status > 0) return;
  lua_State *L = view->loop->L;
  int cb = view->active_cb;
  view->active_cb = LUA_NOREF;
  view->activation_off = false;
  if (status < 0 && status != FLUME_EAGAIN) view->activating = view->activates_first = false;
  lua_rawgeti(L, LUA_REGISTRYINDEX, cb);
  luaL_unref(L, LUA_REGISTRYINDEX, cb);
  if (status == 0) lua_pushnil(L);
  else flume__push_error(L, status, &err);
  flume__loop_call(view->loop, 1);
}

static void after_commit(struct flume_view *view) {
  settle_commit(view);
  if (view->commit_status != 0 && !view->closing) fail(view, view->meta.since);
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

/* What the work has left is taken up first: an answer may begin other work, which has all this for its own. */
static void job_done(struct flume_job *job) {
  struct flume_view *view = FLUME_CONTAINER_OF(job, struct flume_view, job);
  enum flume_work worked = view->working;
  view->working = FLUME_WORK_NONE;
  view->size_bytes = view->committed_bytes;
  if (worked == FLUME_WORK_COMMIT || view->commit_put_off) view->commit_due = view->commit_put_off;
  view->commit_put_off = false;
  if (worked == FLUME_WORK_FEED) after_feed(view);
  if (worked == FLUME_WORK_RETRACT) after_retract(view);
  if (worked == FLUME_WORK_CALL) after_call(view);
  if (worked == FLUME_WORK_COMMIT) after_commit(view);
  if (worked == FLUME_WORK_ERASE) flume__view_erase_ran(view);
  flume__view_tell_active(view);
  flume__view_next(view);
}

static bool is_put_off(const struct flume_view *view) {
  return view->held || view->rebuilding || view->reviving || view->closing;
}

/* An inline view's slice, on the loop. */
static void run_slice(struct flume_deferred *deferred) {
  struct flume_view *view = FLUME_CONTAINER_OF(deferred, struct flume_view, slice);
  bool feeds = view->working == FLUME_WORK_FEED;
  if (feeds && is_put_off(view)) {
    view->working = FLUME_WORK_NONE; /* the block waits, or goes */
    flume__view_next(view);
    return;
  }
  if (feeds) fold(view, INLINE_SLICE_NS);
  else if (view->working == FLUME_WORK_RETRACT) retract(view);
  if (feeds && view->fold_status == 0 && view->commit_due && is_durable(view)) {
    save(view);
    view->commit_due = false;
    flume__store_announce(&view->kept);
    flume_pool_submit(view->loop->pool, &view->job);
    return;
  }
  job_done(&view->job);
}

/* --- What comes next ------------------------------------------------------------------------------------------- */

static void start_work(struct flume_view *view, enum flume_work work) {
  view->working = work;
  view->durable_seq = view->pump->log->log->durable_seq;
  view->log_since = view->pump->log->log->since.value;
  view->log_deletions = view->pump->log->log->deletions.value;
  if (view->vm == NULL) flume_defer(&view->pump->pump.log->defer, &view->slice);
  else if (work == FLUME_WORK_CALL) flume_pool_submit_first(view->loop->pool, &view->job);
  else flume_pool_submit(view->loop->pool, &view->job);
}

static void start_call(struct flume_view *view) {
  struct flume_queue *node = flume_queue_shift(&view->calls);
  view->calling = FLUME_CONTAINER_OF(node, struct flume_view_call, queue);
  start_work(view, FLUME_WORK_CALL);
}

static void let_go(struct flume_view *view) {
  if (view->block != NULL) drop_block(view);
  view->forgetting = false;
  if (view->sink.state == FLUME_SINK_FEEDING) flume_sink_unfeed(&view->sink);
  if (view->sink.state == FLUME_SINK_FORGETTING) flume_sink_forgot(&view->sink, view->sink.deletions);
}

/* Starts over, or from the last checkpoint: the state on disk goes first, so that a crash finds either the old state or
 * none. */
static void restart(struct flume_view *view) {
  struct flume_err err;
  if (view->vm != NULL) flume_vm_enter(view->vm);
  int rv = view->rebuilding ? flume__view_reset(view, &err) : flume__view_revert(view, &err);
  if (view->vm != NULL) flume_vm_leave(view->vm);
  view->rebuilding = view->reviving = false;
  if (view->active_cb != LUA_NOREF) { /* the state that was to be the active one is gone */
    view->activating = view->activates_first;
    view->activation_off = true;
    flume_defer(&view->pump->pump.log->defer, &view->nudge);
  }
  let_go(view);
  view->traceback.len = 0;
  flume_sink_restart(&view->sink, view->meta.since, view->meta.deletions);
  if (rv != 0) flume_sink_failed(&view->sink, -1, &err);
}

static void start_commit(struct flume_view *view) {
  view->working = FLUME_WORK_COMMIT;
  view->commit_status = 0;
  if (view->vm == NULL) {
    save(view);
    flume__store_announce(&view->kept);
  }
  flume_pool_submit(view->loop->pool, &view->job);
}

static bool wants_last_commit(const struct flume_view *view) {
  return view->dir != NULL && !view->reads_only && view->kept.store != NULL && view->end == FLUME_VIEW_KEEP &&
         view->dirty && view->commit_status == 0 && view->sync_status == 0 && view->sink.state != FLUME_SINK_FAILED;
}

static void close_step(struct flume_view *view) {
  struct flume_queue *node;
  flume__view_erase_end(view, FLUME_ECLOSED);
  if (view->end == FLUME_VIEW_DROP &&
      !flume_queue_empty(&view->calls)) { /* its place was taken: what it was asked it answers */
    start_call(view);
    return;
  }
  while ((node = flume_queue_shift(&view->calls)) != NULL) {
    struct flume_view_call *call = FLUME_CONTAINER_OF(node, struct flume_view_call, queue);
    call->status = flume_err_set(&call->err, FLUME_ECLOSED, "the database was closed");
    answer(view, call);
  }
  let_go(view);
  if (!wants_last_commit(view)) {
    flume__view_finish_close(view);
  } else if (log_is_synced(view)) {
    start_commit(view);
  }
}

/* A log that can't be synced takes no more appends; its views go on with what it has, and keep the checkpoint they
 * have. */
static void commit_after_sync(struct flume_view *view) {
  if (view->sync_status == 0 && view->sink.state != FLUME_SINK_FAILED) {
    start_commit(view);
    return;
  }
  view->commit_due = false;
  if (view->sync_status == 0) view->err = view->sink.failure;
  view->commit_status = view->err.code;
  flume__view_tell_active(view);
}

/* Nothing is under way and nobody waits: who asked for that is told, once. A view whose state can't be saved has none
 * that another could go on with: it fails. */
static void tell_quiet(struct flume_view *view) {
  lua_State *L = view->loop->L;
  int cb = view->quiet_cb;
  view->quiet_cb = LUA_NOREF;
  view->held = true;
  if (view->kept.store != NULL && view->sink.state != FLUME_SINK_FAILED) {
    if (view->vm != NULL) flume_vm_enter(view->vm);
    int rv = flume__view_save(view);
    if (view->vm != NULL) flume_vm_leave(view->vm);
    if (rv != 0) {
      let_go(view);
      fail(view, view->meta.since);
    }
  }
  lua_rawgeti(L, LUA_REGISTRYINDEX, cb);
  luaL_unref(L, LUA_REGISTRYINDEX, cb);
  flume__loop_call(view->loop, 0);
}

/* --- What was deleted -------------------------------------------------------------------------------------------- */

/* Fetches the next deleted records that the view had consumed: how many, or a negative code. */
static int fetch_gone(struct flume_view *view) {
  struct flume_log *log = view->pump->log->log;
  struct flume_err err;
  int64_t i = view->gone_until;
  while (i < log->deletions.value && view->gone_count < FLUME_VIEW_GONE_MAX) {
    int64_t seq = flume__log_deletion_at(log, i++);
    if (seq > view->meta.since) continue;
    int rv = flume__log_read_deleted(log, seq, &view->gone[view->gone_count], &err);
    if (rv != 0) {
      drop_gone(view);
      return rv;
    }
    view->gone_count++;
  }
  view->gone_until = i;
  return (int)view->gone_count;
}

/* host, field -> whether the host has something there. Raises memory errors, as the name may be new to the state. */
static int has_field(lua_State *L) {
  lua_pushboolean(L, lua_getfield(L, 1, lua_touserdata(L, 2)) != LUA_TNIL);
  return 1;
}

/* Whether the host on top has that field; false when there is no memory to look. */
static bool host_has(lua_State *L, const char *field) {
  lua_pushcfunction(L, has_field);
  lua_pushvalue(L, -2);
  lua_pushlightuserdata(L, (void *)(uintptr_t)field);
  bool has = lua_pcall(L, 2, 1, 0) == LUA_OK && lua_toboolean(L, -1);
  lua_pop(L, 1);
  return has;
}

static bool can_retract(struct flume_view *view) {
  if (view->kind == FLUME_VIEW_BITMAP) return true;
  lua_State *L = flume__view_state(view);
  if (view->vm != NULL) flume_vm_enter(view->vm);
  lua_rawgeti(L, LUA_REGISTRYINDEX, flume__view_host(view));
  /* "anew": of a view that uses others */
  bool can = view->kind == FLUME_VIEW_INDEX ? !host_has(L, "anew") : host_has(L, "retract");
  lua_pop(L, 1);
  if (view->vm != NULL) flume_vm_leave(view->vm);
  return can;
}

/* An inline view's host may start over in its own way, which ends with core:rebuild. */
static bool starts_over_itself(struct flume_view *view) {
  lua_State *L = view->loop->L;
  if (view->vm != NULL) return false;
  lua_rawgeti(L, LUA_REGISTRYINDEX, view->host);
  bool itself = host_has(L, "start_over");
  if (itself) {
    lua_getfield(L, -1, "start_over");
    flume__loop_call(view->loop, 0);
  }
  lua_pop(L, 1);
  return itself;
}

static void start_over(struct flume_view *view) {
  view->reason = "records were deleted";
  view->sink.restarting = true;
  view->forgetting = false;
  flume_sink_forgot(&view->sink, view->sink.deletions);
  if (!starts_over_itself(view)) view->rebuilding = true;
}

/* The next step of taking back; when all is taken back, the pump is told. */
static void forget_step(struct flume_view *view) {
  int count = fetch_gone(view);
  if (count > 0) {
    start_work(view, FLUME_WORK_RETRACT);
  } else if (count == 0) {
    view->forgetting = false;
    view->meta.deletions = view->gone_until;
    flume_sink_forgot(&view->sink, view->gone_until);
  } else {
    start_over(view);
  }
}

static void forget(struct flume_sink *sink) {
  struct flume_view *view = FLUME_CONTAINER_OF(sink, struct flume_view, sink);
  view->forgetting = true;
  view->gone_until = sink->deletions;
  if (!can_retract(view)) start_over(view);
  flume__view_next(view);
}

/* --- */

static void next_work(struct flume_view *view) {
  if (view->forgetting && !view->held) forget_step(view);
  if (view->working != FLUME_WORK_NONE || view->rebuilding) return;
  bool has_call = !flume_queue_empty(&view->calls);
  bool may_feed = view->block != NULL && !view->held && view->quiet_cb == LUA_NOREF;
  if (has_call && !(view->called_last && may_feed)) {
    start_call(view);
  } else if (may_feed) {
    view->called_last = false;
    view->meta.deletions = view->sink.deletions;
    start_work(view, FLUME_WORK_FEED);
  } else if (view->quiet_cb != LUA_NOREF) {
    tell_quiet(view);
  }
}

void flume__view_take_wishes(struct flume_view *view) {
  if (view->wants_active && !view->reads_only) {
    view->wants_active = view->active = false; /* another may have been made it meanwhile */
    view->activating = view->dirty = view->commit_due = true;
  }
  if (view->new_skips != NULL) {
    flume_io_free(&flume_io_posix, view->skips);
    view->skips = view->new_skips;
    view->skips_count = view->new_skips_count;
    view->new_skips = NULL;
  }
}

void flume__view_next(struct flume_view *view) {
  if (view->working != FLUME_WORK_NONE || view->syncing) return;
  flume__view_take_wishes(view);
  if (view->closing) {
    close_step(view);
    return;
  }
  if (view->rebuilding || view->reviving) restart(view);
  if (flume__view_erase_next(view)) return;
  if (view->commit_due && log_is_synced(view)) commit_after_sync(view);
  if (view->working != FLUME_WORK_NONE || view->syncing) return;
  bool was_forgetting = view->forgetting;
  next_work(view);
  bool has_forgotten = was_forgetting && !view->forgetting; /* which is what erasing may have waited for */
  if ((view->rebuilding || has_forgotten) && view->working == FLUME_WORK_NONE) flume__view_next(view);
}

static void feed(struct flume_sink *sink, struct flume_block *block, uint32_t from) {
  struct flume_view *view = FLUME_CONTAINER_OF(sink, struct flume_view, sink);
  view->block = block;
  view->from = from;
  flume__view_next(view);
}

const struct flume_sink_ops flume__view_sink_ops = {.feed = feed, .forget = forget};

void flume__view_work_init(struct flume_view *view) {
  view->job.run = run_job;
  view->job.done = job_done;
  flume_queue_init(&view->calls);
  flume_deferred_init(&view->slice, run_slice);
  flume_buf_init(&view->traceback, &flume_io_posix);
  view->next_commit_ns = uv_hrtime() + FIRST_COMMIT_NS;
}

void flume__view_work_start(struct flume_view *view) {
  uv_timer_init(view->loop->loop, &view->idle);
  uv_unref((uv_handle_t *)&view->idle);
  view->idle.data = view;
}
