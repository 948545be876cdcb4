/* Maintenance of a log: long work that reports progress and answers by callback. */
#include <string.h>
#include <sys/stat.h>

#include "lua/binding/lua_log.h"

/* The common part of such work; the request of core follows in the same struct. */
struct work {
  struct flume_lua_log *self;
  int cb;       /* registry */
  int progress; /* registry; LUA_NOREF without one */
  int pin;      /* registry: the log */
};

/* For the log at index 1; progress (or nil) and callback are at the given indexes. A zeroed struct of the given size,
 * which begins with a struct work. Raises memory errors. */
static void *work_new(lua_State *L, struct flume_lua_log *self, size_t bytes, int progress_index, int cb_index) {
  luaL_checktype(L, cb_index, LUA_TFUNCTION);
  lua_pushvalue(L, cb_index);
  int cb = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushvalue(L, progress_index);
  int progress = lua_isnil(L, -1) ? (lua_pop(L, 1), LUA_NOREF) : luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushvalue(L, 1);
  int pin = luaL_ref(L, LUA_REGISTRYINDEX);
  struct work *work = flume_io_zalloc(&flume_io_posix, bytes);
  if (work == NULL) {
    luaL_unref(L, LUA_REGISTRYINDEX, cb);
    luaL_unref(L, LUA_REGISTRYINDEX, progress);
    luaL_unref(L, LUA_REGISTRYINDEX, pin);
    luaL_error(L, "out of memory");
    return NULL; /* not reached */
  }
  *work = (struct work){.self = self, .cb = cb, .progress = progress, .pin = pin};
  return work;
}

static void work_free(lua_State *L, struct work *work) {
  luaL_unref(L, LUA_REGISTRYINDEX, work->cb);
  luaL_unref(L, LUA_REGISTRYINDEX, work->progress);
  luaL_unref(L, LUA_REGISTRYINDEX, work->pin);
  flume_io_free(&flume_io_posix, work);
}

static int work_submitted(lua_State *L, struct work *work, int rv, const struct flume_err *err) {
  if (rv != 0) {
    work_free(L, work);
    return flume__fail(L, rv, err);
  }
  lua_pushboolean(L, 1);
  return 1;
}

static void tell_progress(struct work *work, uint64_t done_bytes, uint64_t total_bytes) {
  if (work->progress == LUA_NOREF) return;
  lua_State *L = work->self->loop->L;
  lua_rawgeti(L, LUA_REGISTRYINDEX, work->progress);
  lua_pushinteger(L, (lua_Integer)done_bytes);
  lua_pushinteger(L, (lua_Integer)total_bytes);
  flume__loop_call(work->self->loop, 2);
}

static void set_number(lua_State *L, const char *name, uint64_t number) {
  lua_pushinteger(L, (lua_Integer)number);
  lua_setfield(L, -2, name);
}

/* --- Compaction ------------------------------------------------------------------------------------------------- */

struct compact {
  struct work work;
  struct flume_compact req;
};

static void on_compact_progress(struct flume_compact *req, uint64_t done_bytes, uint64_t total_bytes) {
  tell_progress(req->data, done_bytes, total_bytes);
}

static int compact_statistics(lua_State *L) {
  const struct flume_compact *req = lua_touserdata(L, 1);
  lua_createtable(L, 0, 4);
  set_number(L, "segments", req->segments);
  set_number(L, "records", req->records);
  set_number(L, "bytes_before", req->bytes_before);
  set_number(L, "bytes_after", req->bytes_after);
  return 1;
}

static void on_compacted(struct flume_compact *req, int status, const struct flume_err *err) {
  struct compact *compact = FLUME_CONTAINER_OF(req, struct compact, req);
  struct flume_loop *loop = compact->work.self->loop;
  lua_State *L = loop->L;
  lua_rawgeti(L, LUA_REGISTRYINDEX, compact->work.cb);
  flume__push_outcome(L, status, err, compact_statistics, req);
  work_free(L, &compact->work);
  flume__loop_call(loop, 2);
}

/* compact(self, progress | nil, cb) -> true | nil, message, code; cb(err, statistics) */
static int log_compact(lua_State *L) {
  struct flume_lua_log *self = flume__lua_log_check(L, 1);
  struct compact *compact = work_new(L, self, sizeof *compact, 2, 3);
  struct flume_err err;
  compact->req.data = &compact->work;
  compact->req.progress = on_compact_progress;
  int rv = flume_log_compact(self->log, &compact->req, on_compacted, &err);
  return work_submitted(L, &compact->work, rv, &err);
}

/* --- Backup ----------------------------------------------------------------------------------------------------- */

struct backup {
  struct work work;
  struct flume_backup req;
};

static void on_backup_progress(struct flume_backup *req, uint64_t done_bytes, uint64_t total_bytes) {
  tell_progress(req->data, done_bytes, total_bytes);
}

static int backup_statistics(lua_State *L) {
  const struct flume_backup *req = lua_touserdata(L, 1);
  lua_createtable(L, 0, 3);
  lua_pushinteger(L, req->since);
  lua_setfield(L, -2, "since");
  set_number(L, "bytes", req->bytes);
  set_number(L, "files", req->files);
  return 1;
}

static void on_backup(struct flume_backup *req, int status, const struct flume_err *err) {
  struct backup *backup = FLUME_CONTAINER_OF(req, struct backup, req);
  struct flume_loop *loop = backup->work.self->loop;
  lua_State *L = loop->L;
  lua_rawgeti(L, LUA_REGISTRYINDEX, backup->work.cb);
  flume__push_outcome(L, status, err, backup_statistics, req);
  work_free(L, &backup->work);
  flume__loop_call(loop, 2);
}

/* backup(self, dir, views_dir | nil, progress | nil, cb) -> true | nil, message, code; cb(err, statistics) */
static int log_backup(lua_State *L) {
  struct flume_lua_log *self = flume__lua_log_check(L, 1);
  const char *dir = luaL_checkstring(L, 2);
  const char *views_dir = luaL_optstring(L, 3, NULL);
  struct backup *backup = work_new(L, self, sizeof *backup, 4, 5);
  struct flume_err err;
  backup->req.data = &backup->work;
  backup->req.progress = on_backup_progress;
  int rv = flume_log_backup(self->log, dir, views_dir, &backup->req, on_backup, &err);
  return work_submitted(L, &backup->work, rv, &err);
}

/* --- Check and repair ------------------------------------------------------------------------------------------- */

struct check {
  struct work work;
  struct flume_check req;
};

/* Pushes the list of the report's findings of one kind. Raises memory errors. */
static void push_findings(lua_State *L, const struct flume_report *report, enum flume_finding_kind kind) {
  lua_newtable(L);
  lua_Integer count = 0;
  for (size_t i = 0; i < report->findings_count; i++) {
    const struct flume_finding *finding = &report->findings[i];
    if (finding->kind != kind) continue;
    lua_createtable(L, 0, 4);
    lua_pushstring(L, finding->file);
    lua_setfield(L, -2, "file");
    set_number(L, "offset", finding->off);
    if (finding->seq >= 0) set_number(L, "seq", (uint64_t)finding->seq);
    lua_pushstring(L, finding->what);
    lua_setfield(L, -2, "what");
    lua_rawseti(L, -2, ++count);
  }
}

/* A report that the userdata owns, so that an error while it becomes a table can't leak it. */
static int report_gc(lua_State *L) {
  flume_report_fini(lua_touserdata(L, 1));
  return 0;
}

/* Pushes a userdata with an empty report. Raises memory errors. */
static struct flume_report *report_box(lua_State *L) {
  struct flume_report *report = lua_newuserdatauv(L, sizeof *report, 0);
  memset(report, 0, sizeof *report);
  if (luaL_newmetatable(L, "flume.report")) {
    lua_pushcfunction(L, report_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return report;
}

/* report (userdata) -> table */
static int report_table(lua_State *L) {
  const struct flume_report *report = lua_touserdata(L, 1);
  lua_createtable(L, 0, 8);
  lua_pushboolean(L, report->damages == 0);
  lua_setfield(L, -2, "ok");
  set_number(L, "segments", report->segments);
  set_number(L, "records", report->records);
  set_number(L, "deleted", report->deleted);
  set_number(L, "bytes", report->bytes);
  push_findings(L, report, FLUME_FINDING_DAMAGE);
  lua_setfield(L, -2, "problems");
  push_findings(L, report, FLUME_FINDING_NOTE);
  lua_setfield(L, -2, "notes");
  push_findings(L, report, FLUME_FINDING_REPAIR);
  lua_setfield(L, -2, "repairs");
  return 1;
}

static void on_check_progress(struct flume_check *req, uint64_t done_bytes, uint64_t total_bytes) {
  tell_progress(req->data, done_bytes, total_bytes);
}

static void on_checked(struct flume_check *req, int status, const struct flume_err *err) {
  struct check *check = FLUME_CONTAINER_OF(req, struct check, req);
  struct flume_loop *loop = check->work.self->loop;
  lua_State *L = loop->L;
  lua_rawgeti(L, LUA_REGISTRYINDEX, check->work.cb);
  flume__push_outcome(L, status, err, report_table, &req->report);
  flume_report_fini(&req->report);
  work_free(L, &check->work);
  flume__loop_call(loop, 2);
}

/* check(self, views_dir | nil, progress | nil, cb) -> true | nil, message, code; cb(err, report) */
static int log_check(lua_State *L) {
  struct flume_lua_log *self = flume__lua_log_check(L, 1);
  const char *views_dir = luaL_optstring(L, 2, NULL);
  struct check *check = work_new(L, self, sizeof *check, 3, 4);
  struct flume_err err;
  check->req.data = &check->work;
  check->req.progress = on_check_progress;
  int rv = flume_log_check(self->log, views_dir, &check->req, on_checked, &err);
  return work_submitted(L, &check->work, rv, &err);
}

static bool is_file(const char *path) {
  struct stat found;
  return stat(path, &found) == 0 && S_ISREG(found.st_mode);
}

/* repair(path) -> report | nil, message, code; of a file log its directory, of an offset log its file */
int flume__log_repair(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  struct flume_report *report = report_box(L);
  struct flume_err err;
  int rv =
      is_file(path) ? flume_log_repair_offset(path, NULL, report, &err) : flume_log_repair(path, NULL, report, &err);
  if (rv != 0) return flume__fail(L, rv, &err);
  lua_pushcfunction(L, report_table);
  lua_insert(L, -2);
  lua_call(L, 1, 1);
  return 1;
}

const luaL_Reg flume__log_maintenance[] = {
    {"compact", log_compact}, {"backup", log_backup}, {"check", log_check}, {NULL, NULL}};
