/* Starting a view: reads its host object, opens its store at the place that Lua names, and takes up the state if it
 * fits (core/view/view_start.c). A view may take over the state of a view whose code a reload replaces. */
#include <lauxlib.h>
#include <string.h>

#include "lua/view/lua_aggregate.h"
#include "lua/view/lua_key_path.h"
#include "lua/view/lua_view.h"

/* --- What the host says ---------------------------------------------------------------------------------------- */

static enum flume_view_kind kind_of(lua_State *L) {
  static const char *const kinds[] = {"reduce", "group", "index", "bitmap", "sink"};
  lua_getfield(L, -1, "kind");
  enum flume_view_kind kind = FLUME_VIEW_REDUCE;
  while (kind < FLUME_VIEW_SINK && strcmp(lua_tostring(L, -1), kinds[kind]) != 0) kind++;
  lua_pop(L, 1);
  return kind;
}

/* An index that is declared by paths, over records in MessagePack, needs no Lua to fold. */
static int make_extract(lua_State *L, struct lua_view *self, struct flume_err *err) {
  bool transforms = lua_getfield(L, -1, "transform") != LUA_TNIL;
  lua_pop(L, 1);
  if (transforms || self->pump->log->codec != FLUME_CODEC_MSGPACK) return 0;
  return flume__extract_make(L, lua_gettop(L), &self->extract, err);
}

static int make_aggregate(lua_State *L, struct lua_view *self, struct flume_err *err) {
  flume_aggregate_free(self->kept.own.aggregate);
  self->kept.own.aggregate = NULL;
  int rv = flume__aggregate_make(L, lua_gettop(L), &self->kept.own.aggregate, err);
  bool transforms = lua_getfield(L, -1, "transform") != LUA_TNIL;
  lua_pop(L, 1);
  self->aggregates = self->kept.own.aggregate != NULL && !transforms && self->pump->log->codec == FLUME_CODEC_MSGPACK;
  return rv;
}

/* Bitmap views need paths, and records in MessagePack. */
static int make_bitmaps(lua_State *L, struct lua_view *self, struct flume_err *err) {
  int rv = make_extract(L, self, err);
  if (rv == 0 && self->extract == NULL) {
    rv = flume_err_set(err, FLUME_ENOTSUP, "bitmaps are of records that are MessagePack, without a mapper");
  }
  return rv == 0 ? flume_bitmaps_new(&flume_io_posix, &self->view.bitmaps, err) : rv;
}

struct meeting {
  struct lua_view *self;
  int owner; /* stack index of the view's userdata; 0 in a script view's state */
  struct flume_err *err;
  int status;
};

/* Reads the kind of the host, and gives it the functions of the store. */
static int meet_host(lua_State *L) {
  struct meeting *meeting = lua_touserdata(L, 1);
  struct lua_view *self = meeting->self;
  lua_rawgeti(L, LUA_REGISTRYINDEX, flume__view_host(self));
  self->kind = kind_of(L);
  self->kept.own.kind = self->kind == FLUME_VIEW_INDEX ? FLUME_STORE_INDEX : FLUME_STORE_GROUPS;
  if (self->kind == FLUME_VIEW_INDEX) meeting->status = make_extract(L, self, meeting->err);
  if (self->kind == FLUME_VIEW_GROUP) meeting->status = make_aggregate(L, self, meeting->err);
  if (self->kind == FLUME_VIEW_BITMAP) meeting->status = make_bitmaps(L, self, meeting->err);
  self->kept.used_count = 0;
  self->kept.is_plain = lua_getfield(L, -1, "transform") == LUA_TNIL && self->pump->log->codec == FLUME_CODEC_MSGPACK;
  lua_pop(L, 1);
  if (lua_getfield(L, -1, "attach") != LUA_TFUNCTION) return 0;
  flume__store_push(L, &self->kept, self->vm == NULL ? 2 : 0);
  lua_call(L, 1, 0);
  return 0;
}

static int meet(lua_State *caller, struct lua_view *self, struct flume_err *err) {
  lua_State *L = self->vm != NULL ? self->vm->L : caller;
  struct meeting meeting = {.self = self, .err = err};
  lua_pushcfunction(L, meet_host);
  lua_pushlightuserdata(L, &meeting);
  if (self->vm == NULL) lua_pushvalue(caller, 1);
  int rv = lua_pcall(L, self->vm == NULL ? 2 : 1, 0, 0);
  if (rv == LUA_OK) return meeting.status;
  flume_err_set(err, FLUME_EVIEW, "%s", lua_tostring(L, -1));
  lua_pop(L, 1);
  return FLUME_EVIEW;
}

/* --- Taking up a state -------------------------------------------------------------------------------------------- */

static void set_meta(lua_State *L, struct lua_view *self, int version, int fingerprint) {
  const struct flume_log *log = self->pump->log->log;
  struct flume_store_meta *meta = &self->view.meta;
  const char *text = luaL_checkstring(L, version);
  if (strlen(text) >= sizeof meta->version)
    luaL_error(L, "a version of more than %d bytes", (int)sizeof meta->version - 1);
  memset(meta, 0, sizeof *meta);
  strcpy(meta->version, text);
  meta->fingerprint = (uint64_t)luaL_checkinteger(L, fingerprint);
  memcpy(meta->log_id, flume_log_id(log), sizeof meta->log_id);
  meta->since = -1;
}

/* The place {dir =, number =, active =} at index, or nil: the state lives in memory. */
static int get_place(lua_State *L, struct flume_view *view, int index, struct flume_err *err) {
  struct flume_view_place *place = &view->place;
  *place = (struct flume_view_place){.unusable_from = INT64_MAX};
  if (!lua_istable(L, index)) return 0;
  lua_getfield(L, index, "dir");
  lua_getfield(L, index, "number");
  lua_getfield(L, index, "active");
  lua_getfield(L, index, "activate");
  lua_getfield(L, index, "accept");
  lua_getfield(L, index, "read");
  lua_getfield(L, index, "unusable_from");
  const char *dir = luaL_checkstring(L, -7);
  place->number = (uint32_t)luaL_checkinteger(L, -6);
  if (lua_toboolean(L, -5)) view->checkpoint.activation = FLUME_VIEW_ACTIVE;
  place->begins_active = lua_toboolean(L, -4);
  place->accepts = lua_toboolean(L, -3);
  place->reads_only = lua_toboolean(L, -2);
  place->unusable_from = luaL_optinteger(L, -1, INT64_MAX);
  place->dir = flume_io_alloc(&flume_io_posix, strlen(dir) + 1);
  if (place->dir == NULL) return flume_err_nomem(err);
  strcpy(place->dir, dir);
  lua_settop(L, 5);
  return 0;
}

static void attach(lua_State *L, struct lua_view *self) {
  lua_pushvalue(L, 1);
  self->pin = luaL_ref(L, LUA_REGISTRYINDEX);
  self->open = true;
  flume_view_attach(&self->view);
}

/* Frees the members that were made for the host of a view that could not be started. */
static void undo_meeting(struct lua_view *self) {
  self->kept.store = NULL;
  flume_extract_free(self->extract);
  self->extract = NULL;
  flume_bitmaps_free(self->view.bitmaps);
  self->view.bitmaps = NULL;
  flume_io_free(&flume_io_posix, self->view.place.dir);
  self->view.place.dir = NULL;
  self->view.checkpoint.activation = FLUME_VIEW_OFF;
}

/* start(self, version, fingerprint, place, since) -> since, accepted | false, reason | nil, message, code.
 *
 * place: where the state is kept, {dir =, number =, active = it is the active version, activate = the first commit
 * makes it active, accept = take up a state of any version, read = another process writes the store, unusable_from =
 * a seq that the state must not have reached}; nil: in memory. since: where a view that keeps its own state begins.
 * false: the state on disk must be rebuilt, and nothing has changed: start the view at a different place. */
int flume__view_start(lua_State *L) {
  struct lua_view *self = flume__view_check_any(L, 1);
  struct flume_view *view = &self->view;
  const char *reason = NULL;
  char text[FLUME_VIEW_REASON_BYTES];
  struct flume_err err;
  lua_settop(L, 5);
  if (self->open || self->released) return luaL_error(L, "the view was started before");
  set_meta(L, self, 2, 3);
  int rv = get_place(L, view, 4, &err);
  flume__view_enter(self);
  if (rv == 0) rv = meet(L, self, &err);
  if (rv == 0 && self->kind != FLUME_VIEW_SINK) {
    rv = flume_view_open(view, &reason, text, &err);
  } else if (rv == 0) {
    view->meta.since = luaL_optinteger(L, 5, -1);
    view->meta.deletions = self->pump->log->log->deletions.value;
  }
  flume__view_leave(self);
  if (rv != 0 || reason != NULL) undo_meeting(self);
  if (rv != 0) return flume__fail(L, rv, &err);
  if (reason != NULL) {
    lua_pushboolean(L, 0);
    lua_pushstring(L, reason);
    return 2;
  }
  int64_t since = view->meta.since;
  bool accepts = view->place.accepts;
  attach(L, self);
  lua_pushinteger(L, since);
  lua_pushboolean(L, accepts);
  return 2;
}

/* adopt(self, other, version, fingerprint) -> since | nil, message, code: takes over the state of another view,
 * which is quiet and has none afterwards. */
int flume__view_adopt(lua_State *L) {
  struct lua_view *self = flume__view_check_any(L, 1);
  struct lua_view *other = flume__view_check(L, 2);
  struct flume_err err;
  set_meta(L, self, 3, 4);
  flume__view_enter(self);
  int rv = meet(L, self, &err);
  if (rv == 0 && self->kind != other->kind) {
    rv = flume_err_set(&err, FLUME_EINVAL, "the view is of another kind now: its state can't be kept");
  }
  flume__view_enter(other); /* a dry run may be reading its store */
  if (rv == 0) rv = flume_view_adopt(&self->view, &other->view, &err);
  if (rv == 0) other->kept.store = NULL;
  flume__view_leave(other);
  flume__view_leave(self);
  if (rv != 0) {
    undo_meeting(self);
    return flume__fail(L, rv, &err);
  }
  int64_t since = self->view.meta.since;
  attach(L, self);
  lua_pushinteger(L, since);
  return 1;
}

/* --- Dry runs ----------------------------------------------------------------------------------------------------- */

/* Encodes the state of a reducer into value; writes cached groups to the store, where they can be read. */
static int copy_state(struct lua_view *base, struct flume_buf *value, struct flume_err *err) {
  if (base == NULL) return 0;
  flume__view_enter(base);
  lua_State *L = flume__view_state(base);
  int host = flume__view_host(base);
  int rv = flume_fold_call(L, host, "flush", err);
  if (rv == 0 && base->kind == FLUME_VIEW_REDUCE) rv = flume_fold_save(L, host, value, err);
  flume__view_leave(base);
  return rv;
}

/* The used views begin with their states in base. */
static int restore_from(struct lua_view *self, struct lua_view *base, struct flume_err *err) {
  if (base == NULL) return flume__view_restore(&self->view, err);
  flume__view_enter(base);
  uv_mutex_lock(&base->kept.guard);
  self->kept.base = base->kept.store;
  int rv = flume__view_restore(&self->view, err);
  self->kept.base = NULL;
  uv_mutex_unlock(&base->kept.guard);
  flume__view_leave(base);
  return rv;
}

/* start_dry(self, base or nil) -> true | nil, message, code: a store in memory, attached to nothing; a reducer
 * begins with the state of base. */
int flume__view_start_dry(lua_State *L) {
  struct lua_view *self = flume__view_check_any(L, 1);
  struct lua_view *base = lua_isnoneornil(L, 2) ? NULL : flume__view_check(L, 2);
  struct flume_view *view = &self->view;
  struct flume_buf value;
  struct flume_err err;
  lua_settop(L, 2);
  flume_buf_init(&value, &flume_io_posix);
  int rv = copy_state(base, &value, &err);
  if (rv == 0) rv = flume_store_open(&view->store, &flume_io_posix, NULL, FLUME_STORE_WRITE, &err);
  if (rv == 0) {
    flume__view_enter(self);
    rv = meet(L, self, &err);
    if (rv == 0 && value.len > 0) rv = flume_store_put_state(view->store, value.data, value.len, &err);
    if (rv == 0) rv = restore_from(self, base, &err);
    flume__view_leave(self);
  }
  flume_buf_fini(&value);
  if (rv != 0) return flume__fail(L, rv, &err);
  lua_pushboolean(L, 1);
  return 1;
}
