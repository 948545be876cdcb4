/* The state of a view: in Lua (what a reducer has, and the groups at hand) and in the store (all the rest, and what
 * survives). Saving brings the first into the second; committing makes that durable, with the seq up to which it was
 * folded and what it was folded by.
 *
 * Failures: a state on disk that doesn't fit the view (another version, another log) is left alone, and the caller is
 * told why; one that can't be read is taken for none. */
#include <lauxlib.h>
#include <string.h>

#include "lua/view/lua_aggregate.h"
#include "lua/view/lua_key_path.h"
#include "lua/view/lua_view.h"

/* A checkpoint that took t is followed by none for 20 t, and half a second at least: they cost a twentieth at most. */
#define COMMIT_SHARE 20u
#define COMMIT_PAUSE_NS (500u * 1000 * 1000)

/* A snapshot of a store that another process writes is kept no longer than this, if there is a newer one: it keeps that
 * process from using room again. */
#define RENEW_NS (5u * 1000 * 1000 * 1000)

#define REASON_BYTES 192

static void enter(struct flume_view *view) {
  if (view->vm != NULL) flume_vm_enter(view->vm);
}

static void leave(struct flume_view *view) {
  if (view->vm != NULL) flume_vm_leave(view->vm);
}

/* --- What the host says ---------------------------------------------------------------------------------------- */

static enum flume_view_kind kind_of(lua_State *L) {
  static const char *const kinds[] = {"reduce", "group", "index", "bitmap", "sink"};
  lua_getfield(L, -1, "kind");
  enum flume_view_kind kind = FLUME_VIEW_REDUCE;
  while (kind < FLUME_VIEW_SINK && strcmp(lua_tostring(L, -1), kinds[kind]) != 0) kind++;
  lua_pop(L, 1);
  return kind;
}

/* An index that is declared by paths, over records that are MessagePack as they are: core can do it alone. */
static int make_extract(lua_State *L, struct flume_view *view, struct flume_err *err) {
  bool transforms = lua_getfield(L, -1, "transform") != LUA_TNIL;
  lua_pop(L, 1);
  if (transforms || view->pump->log->codec != FLUME_CODEC_MSGPACK) return 0;
  return flume__extract_make(L, lua_gettop(L), &view->extract, err);
}

static int make_aggregate(lua_State *L, struct flume_view *view, struct flume_err *err) {
  flume_aggregate_free(view->kept.own.aggregate);
  view->kept.own.aggregate = NULL;
  int rv = flume__aggregate_make(L, lua_gettop(L), &view->kept.own.aggregate, err);
  bool transforms = lua_getfield(L, -1, "transform") != LUA_TNIL;
  lua_pop(L, 1);
  view->aggregates = view->kept.own.aggregate != NULL && !transforms && view->pump->log->codec == FLUME_CODEC_MSGPACK;
  return rv;
}

/* Bitmaps are made of what the core finds by paths; over other records there are none. */
static int make_bitmaps(lua_State *L, struct flume_view *view, struct flume_err *err) {
  int rv = make_extract(L, view, err);
  if (rv == 0 && view->extract == NULL) {
    rv = flume_err_set(err, FLUME_ENOTSUP, "bitmaps are of records that are MessagePack, without a mapper");
  }
  return rv == 0 ? flume_bitmaps_new(&flume_io_posix, &view->bitmaps, err) : rv;
}

struct meeting {
  struct flume_view *view;
  int owner; /* stack index of the view's userdata; 0 in a state of its own */
  struct flume_err *err;
  int status;
};

/* Learns of the host what kind it is, and gives it the store. */
static int meet_host(lua_State *L) {
  struct meeting *meeting = lua_touserdata(L, 1);
  struct flume_view *view = meeting->view;
  lua_rawgeti(L, LUA_REGISTRYINDEX, flume__view_host(view));
  view->kind = kind_of(L);
  view->kept.own.kind = view->kind == FLUME_VIEW_INDEX ? FLUME_STORE_INDEX : FLUME_STORE_GROUPS;
  if (view->kind == FLUME_VIEW_INDEX) meeting->status = make_extract(L, view, meeting->err);
  if (view->kind == FLUME_VIEW_GROUP) meeting->status = make_aggregate(L, view, meeting->err);
  if (view->kind == FLUME_VIEW_BITMAP) meeting->status = make_bitmaps(L, view, meeting->err);
  view->kept.used_count = 0;
  view->kept.is_plain = lua_getfield(L, -1, "transform") == LUA_TNIL && view->pump->log->codec == FLUME_CODEC_MSGPACK;
  lua_pop(L, 1);
  if (lua_getfield(L, -1, "attach") != LUA_TFUNCTION) return 0;
  flume__store_push(L, &view->kept, view->vm == NULL ? 2 : 0);
  lua_call(L, 1, 0);
  return 0;
}

static int meet(lua_State *caller, struct flume_view *view, struct flume_err *err) {
  lua_State *L = view->vm != NULL ? view->vm->L : caller;
  struct meeting meeting = {.view = view, .err = err};
  lua_pushcfunction(L, meet_host);
  lua_pushlightuserdata(L, &meeting);
  if (view->vm == NULL) lua_pushvalue(caller, 1);
  int rv = lua_pcall(L, view->vm == NULL ? 2 : 1, 0, 0);
  if (rv == LUA_OK) return meeting.status;
  flume_err_set(err, FLUME_EVIEW, "%s", lua_tostring(L, -1));
  lua_pop(L, 1);
  return FLUME_EVIEW;
}

/* --- From the store to Lua --------------------------------------------------------------------------------------- */

static int restore_initial(struct flume_view *view) {
  lua_State *L = flume__view_state(view);
  lua_rawgeti(L, LUA_REGISTRYINDEX, flume__view_host(view));
  lua_getfield(L, -1, "initial");
  size_t len;
  const char *initial = lua_tolstring(L, -1, &len);
  int rv = initial != NULL ? flume_fold_restore(L, flume__view_host(view), initial, len) : 0;
  lua_pop(L, 2);
  return rv;
}

/* What Lua holds becomes what the store has: the reducer's state, and no groups at hand. */
static int restore(struct flume_view *view, struct flume_err *err) {
  view->kept.seq = view->meta.since;
  flume__store_forget_recent(&view->kept);
  if (view->bitmaps != NULL) flume_bitmaps_use(view->bitmaps, view->kept.store);
  int rv = flume_fold_call(flume__view_state(view), flume__view_host(view), "forget", err);
  if (rv != 0 || view->kind != FLUME_VIEW_REDUCE) return rv;
  struct flume_buf value;
  flume_buf_init(&value, &flume_io_posix);
  rv = flume_store_get_state(view->kept.store, &value, err);
  if (rv == 0) rv = flume_fold_restore(flume__view_state(view), flume__view_host(view), value.data, value.len);
  else if (rv == FLUME_ENOENT) rv = restore_initial(view);
  flume_buf_fini(&value);
  return rv == 0 ? 0 : flume_err_set(err, rv, "taking up the state: %s", flume_strerror(rv));
}

/* From the store that another process writes to one in memory. */
static int leave_store(struct flume_view *view, struct flume_err *err) {
  struct flume_store *store;
  int rv = flume_store_open(&store, &flume_io_posix, NULL, FLUME_STORE_WRITE, err);
  if (rv != 0) return rv;
  flume_store_close(view->kept.store);
  view->kept.store = store;
  flume_io_free(&flume_io_posix, view->dir);
  view->dir = NULL;
  view->reads_only = false;
  return 0;
}

int flume__view_reset(struct flume_view *view, struct flume_err *err) {
  view->meta.since = -1;
  view->meta.deletions = 0;
  view->dirty = view->commit_due = false;
  if (view->kept.store == NULL) return 0;
  int rv = view->reads_only ? leave_store(view, err) : flume_store_clear(view->kept.store, err);
  return rv == 0 ? restore(view, err) : rv;
}

int flume__view_revert(struct flume_view *view, struct flume_err *err) {
  struct flume_store_meta meta;
  if (view->kept.store == NULL || view->dir == NULL) return flume__view_reset(view, err);
  flume_store_rollback(view->kept.store);
  int rv = flume_store_load(view->kept.store, &meta, err);
  if (rv == FLUME_ENOENT || flume_store_is_unusable(rv)) return flume__view_reset(view, err);
  if (rv != 0) return rv;
  view->meta.since = meta.since;
  view->meta.deletions = meta.deletions;
  view->dirty = view->commit_due = false;
  return restore(view, err);
}

/* The process that writes may have gone on in another directory: with the version written anew, or with another one. */
static int follow(struct flume_view *view, const struct flume_store_meta *limit, struct flume_store_meta *meta) {
  char path[4096];
  uint32_t number = FLUME_VIEW_DIR_NONE;
  int rv = flume_view_dir_active(&flume_io_posix, view->dir, &number, NULL);
  if (rv != 0 || number == FLUME_VIEW_DIR_NONE || number == view->number) return FLUME_EAGAIN;
  int len = snprintf(path, sizeof path, "%s/%u", view->dir, (unsigned)number);
  if (len < 0 || (size_t)len >= sizeof path) return FLUME_EAGAIN;
  rv = flume_store_follow(view->kept.store, path, &view->meta, limit, meta, NULL);
  if (rv == 0) view->number = number;
  return rv;
}

void flume__view_renew(struct flume_view *view) {
  struct flume_store_meta limit = {.since = view->log_since, .deletions = view->log_deletions}, meta;
  struct flume_err err;
  view->next_commit_ns = uv_hrtime() + RENEW_NS;
  if (follow(view, &limit, &meta) != 0 && flume_store_renew(view->kept.store, &view->meta, &limit, &meta, NULL) != 0) {
    return;
  }
  view->meta.since = meta.since;
  view->meta.deletions = meta.deletions;
  view->fold_status = restore(view, &err);
  if (view->fold_status != 0) view->err = err;
}

/* --- From Lua to the store --------------------------------------------------------------------------------------- */

int flume__view_save(struct flume_view *view) {
  lua_State *L = flume__view_state(view);
  int host = flume__view_host(view);
  if (view->bitmaps != NULL) return flume_bitmaps_save(view->bitmaps, &view->err);
  int rv = flume_fold_call(L, host, "flush", &view->err);
  if (rv != 0 || view->kind != FLUME_VIEW_REDUCE) return rv;
  struct flume_buf *value = &view->kept.value;
  value->len = 0;
  rv = flume_fold_save(L, host, value, &view->err);
  return rv == 0 ? flume_store_put_state(view->kept.store, value->data, value->len, &view->err) : rv;
}

static int activate(struct flume_view *view) {
  if (!view->activating || view->active) return 0;
  int rv = flume_view_dir_activate(&flume_io_posix, view->dir, view->number, &view->err);
  view->active = rv == 0;
  return rv;
}

int flume__view_commit(struct flume_view *view) {
  uint64_t start = uv_hrtime();
  if (!flume__store_begin_write(&view->kept)) return 1;
  int rv = flume_store_commit(view->kept.store, &view->meta, &view->err);
  view->committed_bytes = flume_store_size_bytes(view->kept.store);
  flume__store_end_write(&view->kept);
  if (rv == 0) rv = activate(view);
  uint64_t end = uv_hrtime();
  uint64_t pause = (end - start) * COMMIT_SHARE;
  view->next_commit_ns = end + (pause > COMMIT_PAUSE_NS ? pause : COMMIT_PAUSE_NS);
  if (rv == 0) view->dirty = false;
  return rv;
}

/* --- Taking up a state ------------------------------------------------------------------------------------------ */

/* Why the state found can't be gone on with; NULL when it can. text has room for the reason. */
static const char *reason_to_rebuild(struct flume_view *view, const struct flume_store_meta *found, char *text) {
  const struct flume_store_meta *wanted = &view->meta;
  const struct flume_log *log = view->pump->log->log;
  if (memcmp(found->log_id, wanted->log_id, 16) != 0) return "the log is another one";
  if (found->since > flume_log_since(log)) return "the view is ahead of the log";
  if (found->deletions > log->deletions.value) return "the log knows of fewer deletions";
  if (found->since >= view->unusable_from) return "a record was skipped";
  bool is_same = strcmp(found->version, wanted->version) == 0 &&
                 (wanted->version[0] != '\0' || found->fingerprint == wanted->fingerprint);
  view->accepting = view->accepting && !is_same;
  if (is_same || view->accepting) return NULL;
  if (strcmp(found->version, wanted->version) != 0) {
    snprintf(text, REASON_BYTES, "version %s -> %s", found->version[0] != '\0' ? found->version : "(none)",
             wanted->version[0] != '\0' ? wanted->version : "(none)");
    return text;
  }
  return "the source has changed";
}

/* Looks at what is in the store: 0 and *reason NULL, and view->meta says how far it is; or *reason, why that can't be
 * gone on with. Nothing there is no reason, but since -1. */
static int take_up(struct flume_view *view, const char **reason, char *text, struct flume_err *err) {
  struct flume_store_meta found;
  *reason = NULL;
  int rv = flume_store_load(view->kept.store, &found, err);
  if (rv == FLUME_ENOENT) {
    view->accepting = false;
    return restore(view, err);
  }
  if (flume_store_is_unusable(rv)) {
    *reason = "the state on disk is not readable";
    return 0;
  }
  if (rv != 0) return rv;
  *reason = reason_to_rebuild(view, &found, text);
  if (*reason != NULL) return 0;
  view->meta.since = found.since;
  view->meta.deletions = found.deletions;
  rv = restore(view, err);
  if (rv != FLUME_ECORRUPT) return rv;
  *reason = "the state on disk is damaged";
  return 0;
}

static void set_meta(lua_State *L, struct flume_view *view, int version, int fingerprint) {
  const struct flume_log *log = view->pump->log->log;
  const char *text = luaL_checkstring(L, version);
  if (strlen(text) >= sizeof view->meta.version) luaL_error(L, "a version of more than 63 bytes");
  memset(&view->meta, 0, sizeof view->meta);
  strcpy(view->meta.version, text);
  view->meta.fingerprint = (uint64_t)luaL_checkinteger(L, fingerprint);
  memcpy(view->meta.log_id, flume_log_id(log), 16);
  view->meta.since = -1;
}

/* The place {dir =, number =, active =} at index, or nil: the store lives in memory. */
static int open_store(lua_State *L, struct flume_view *view, int index, struct flume_err *err) {
  const char *dir = NULL;
  char path[4096];
  view->unusable_from = INT64_MAX;
  if (lua_istable(L, index)) {
    lua_getfield(L, index, "dir");
    lua_getfield(L, index, "number");
    lua_getfield(L, index, "active");
    dir = luaL_checkstring(L, -3);
    view->number = (uint32_t)luaL_checkinteger(L, -2);
    view->active = lua_toboolean(L, -1);
    lua_getfield(L, index, "activate");
    lua_getfield(L, index, "accept");
    lua_getfield(L, index, "read");
    lua_getfield(L, index, "unusable_from");
    view->activating = view->activates_first = lua_toboolean(L, -4);
    view->accepting = lua_toboolean(L, -3);
    view->reads_only = lua_toboolean(L, -2);
    view->unusable_from = luaL_optinteger(L, -1, INT64_MAX);
    int len = snprintf(path, sizeof path, "%s/%u", dir, (unsigned)view->number);
    if (len < 0 || (size_t)len >= sizeof path) return flume_err_set(err, UV_ENAMETOOLONG, "a view's path is too long");
    view->dir = flume_io_alloc(&flume_io_posix, strlen(dir) + 1);
    if (view->dir == NULL) return flume_err_nomem(err);
    strcpy(view->dir, dir);
  }
  int rv = flume_store_open(&view->kept.store, &flume_io_posix, dir != NULL ? path : NULL,
                            view->reads_only ? FLUME_STORE_READ : FLUME_STORE_WRITE, err);
  lua_settop(L, 5);
  return rv;
}

static void attach(lua_State *L, struct flume_view *view) {
  view->open = true;
  if (view->kept.store != NULL) view->committed_bytes = flume_store_size_bytes(view->kept.store);
  view->size_bytes = view->committed_bytes;
  lua_pushvalue(L, 1);
  view->pin = luaL_ref(L, LUA_REGISTRYINDEX);
  flume__view_work_start(view);
  flume_sink_attach(&view->sink, &view->pump->pump, &flume__view_sink_ops, view->meta.since, view->meta.deletions);
}

/* As if it had not been started. */
static void undo_start(struct flume_view *view) {
  if (view->kept.store != NULL) flume_store_close(view->kept.store);
  view->kept.store = NULL;
  flume_extract_free(view->extract);
  view->extract = NULL;
  flume_bitmaps_free(view->bitmaps);
  view->bitmaps = NULL;
  flume_io_free(&flume_io_posix, view->dir);
  view->dir = NULL;
  view->reads_only = false;
}

/* start(self, version, fingerprint, place, since) -> since, accepted | false, reason | nil, message, code.
 *
 * place: where the state is kept, {dir =, number =, active = it is the active one, activate = make it so with the first
 * commit, accept = go on with it whatever it was folded by, read = another process writes it, unusable_from = a seq that
 * it must not have come to}; nil: in memory. false: there is one that can't be gone on with, and nothing has changed;
 * start it at another place. since is where a view begins that keeps itself. */
int flume__view_start(lua_State *L) {
  struct flume_view *view = luaL_checkudata(L, 1, FLUME_VIEW_TYPE);
  const char *reason = NULL;
  char text[REASON_BYTES];
  struct flume_err err;
  lua_settop(L, 5);
  set_meta(L, view, 2, 3);
  enter(view);
  int rv = meet(L, view, &err);
  if (rv == 0 && view->kind != FLUME_VIEW_SINK) {
    rv = open_store(L, view, 4, &err);
    if (rv == 0) rv = take_up(view, &reason, text, &err);
  } else if (rv == 0) {
    view->meta.since = luaL_optinteger(L, 5, -1);
    const struct flume_log *log = view->pump->log->log;
    view->meta.deletions = log->deletions.value;
  }
  leave(view);
  if (rv != 0 || reason != NULL) undo_start(view);
  if (rv != 0) return flume__fail(L, rv, &err);
  if (reason != NULL) {
    lua_pushboolean(L, 0);
    lua_pushstring(L, reason);
    return 2;
  }
  attach(L, view);
  if (view->accepting) view->dirty = view->commit_due = true;
  lua_pushinteger(L, view->meta.since);
  lua_pushboolean(L, view->accepting);
  return 2;
}

/* A dry run may be looking at it. */
static void lose_store(struct flume_view *view) {
  enter(view);
  view->kept.store = NULL;
  leave(view);
}

/* adopt(self, other, version, fingerprint) -> since | nil, message, code: goes on with the state of another view, which is
 * quiet and loses it. */
int flume__view_adopt(lua_State *L) {
  struct flume_view *view = luaL_checkudata(L, 1, FLUME_VIEW_TYPE);
  struct flume_view *other = flume__view_check(L, 2);
  struct flume_err err;
  set_meta(L, view, 3, 4);
  enter(view);
  int rv = meet(L, view, &err);
  if (rv == 0 && view->kind != other->kind) {
    rv = flume_err_set(&err, FLUME_EINVAL, "the view is of another kind now: its state can't be kept");
  }
  if (rv == 0) {
    view->kept.store = other->kept.store;
    view->meta.since = other->meta.since;
    view->meta.deletions = other->meta.deletions;
    rv = restore(view, &err);
    if (rv != 0) view->kept.store = NULL;
  }
  leave(view);
  if (rv == 0) lose_store(other);
  if (rv != 0) return flume__fail(L, rv, &err);
  view->dir = other->dir;
  other->dir = NULL;
  view->number = other->number;
  view->active = other->active;
  view->activating = view->activates_first = other->activates_first;
  view->dirty = true;
  view->next_commit_ns = 0;
  attach(L, view);
  view->commit_due = view->dir != NULL;
  lua_pushinteger(L, view->meta.since);
  return 1;
}

/* The state of a reducer, encoded, into value; groups that are at hand go to the store, where they can be read. */
static int copy_state(struct flume_view *base, struct flume_buf *value, struct flume_err *err) {
  if (base == NULL) return 0;
  enter(base);
  lua_State *L = flume__view_state(base);
  int host = flume__view_host(base);
  int rv = flume_fold_call(L, host, "flush", err);
  if (rv == 0 && base->kind == FLUME_VIEW_REDUCE) rv = flume_fold_save(L, host, value, err);
  leave(base);
  return rv;
}

/* What a view uses begins with the states that base has of it. */
static int restore_from(struct flume_view *view, struct flume_view *base, struct flume_err *err) {
  if (base == NULL) return restore(view, err);
  enter(base);
  uv_mutex_lock(&base->kept.guard);
  view->kept.base = base->kept.store;
  int rv = restore(view, err);
  view->kept.base = NULL;
  uv_mutex_unlock(&base->kept.guard);
  leave(base);
  return rv;
}

/* start_dry(self, base or nil) -> true | nil, message, code: a store in memory, attached to nothing; a reducer begins with the
 * state of base. */
int flume__view_start_dry(lua_State *L) {
  struct flume_view *view = luaL_checkudata(L, 1, FLUME_VIEW_TYPE);
  struct flume_view *base = lua_isnoneornil(L, 2) ? NULL : flume__view_check(L, 2);
  struct flume_buf value;
  struct flume_err err;
  lua_settop(L, 2);
  flume_buf_init(&value, &flume_io_posix);
  int rv = copy_state(base, &value, &err);
  if (rv == 0) rv = flume_store_open(&view->kept.store, &flume_io_posix, NULL, FLUME_STORE_WRITE, &err);
  if (rv == 0) {
    enter(view);
    rv = meet(L, view, &err);
    if (rv == 0 && value.len > 0) rv = flume_store_put_state(view->kept.store, value.data, value.len, &err);
    if (rv == 0) rv = restore_from(view, base, &err);
    leave(view);
  }
  flume_buf_fini(&value);
  if (rv != 0) return flume__fail(L, rv, &err);
  lua_pushboolean(L, 1);
  return 1;
}
