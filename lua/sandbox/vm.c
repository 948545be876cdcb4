#include "lua/sandbox/vm.h"

#include <assert.h>
#include <dlfcn.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdlib.h>
#include <string.h>

#include "lua/sandbox/fingerprint.h"
#include "lua/sandbox/guard.h"
#include "lua/sandbox/lib.h"
#include "lua/sandbox/lib_tostring.h"
#include "lua/sandbox/load.h"
#include "lua/value/box.h"
#include "lua/value/codec.h"
#include "lua/value/marshal.h"
#include "lua/value/raised.h"

#define MAX_RESULTS 10000 /* of one call: callers copy them around on their stacks */
#define CLOSE_RESERVE_BYTES (1 << 20)

/* Processor time for one call on the thread of the caller, who waits. */
#define CALLER_NS_PER_1000_STEPS 3500
#define CALLER_NS_AT_LEAST 700000000u
#define CALLER_ENCODE_NS 200000000u /* and for its results */

/* --- Files, for the Lua side --------------------------------------------------------------------------------------- */

static int read_all(const char *path, struct flume_buf *text) {
  const struct flume_io *io = &flume_io_posix;
  int file = io->open(io->ctx, path, FLUME_IO_READ);
  if (file < 0) return file;
  int64_t n = 1;
  while (n > 0) {
    n = flume_buf_reserve(text, 4096);
    if (n == 0) n = io->read(io->ctx, file, text->data + text->len, text->cap - text->len, text->len);
    if (n > 0) text->len += (size_t)n;
    if (n == UV_EINTR) n = 1;
  }
  io->close(io->ctx, file);
  return (int)n;
}

/* How many bytes the byte order mark at the beginning of a text has. */
static size_t mark_len(const struct flume_buf *text) {
  return text->len >= 3 && memcmp(text->data, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
}

/* read_file(path) -> text, without a byte order mark | nil, message */
static int read_file(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  lua_settop(L, 1);
  struct flume_buf *text = flume_box_buf(L);
  int rv = read_all(path, text);
  size_t mark = mark_len(text);
  if (rv == 0) lua_pushlstring(L, (const char *)text->data + mark, text->len - mark);
  flume_box_free(L, 2); /* now: where all memory is used up, finalizers may fail */
  if (rv == 0) return 1;
  lua_pushnil(L);
  lua_pushfstring(L, "%s: %s", path, flume_strerror(rv));
  return 2;
}

/* fingerprint(source [, hash]) -> hash */
static int fingerprint(lua_State *L) {
  size_t len;
  const char *source = luaL_checklstring(L, 1, &len);
  lua_pushinteger(L, (lua_Integer)flume_fingerprint((uint64_t)luaL_optinteger(L, 2, 0), source, len));
  return 1;
}

/* fingerprint_bytes(bytes [, hash]) -> hash */
static int fingerprint_bytes(lua_State *L) {
  size_t len;
  const char *bytes = luaL_checklstring(L, 1, &len);
  lua_pushinteger(L, (lua_Integer)flume_fingerprint_bytes((uint64_t)luaL_optinteger(L, 2, 0), bytes, len));
  return 1;
}

static int note_required(void *arg, const char *name, size_t len) {
  lua_State *L = arg;
  lua_pushlstring(L, name, len);
  lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
  return 0;
}

/* required(source) -> list of the modules that it requires literally, as they come */
static int required(lua_State *L) {
  size_t len;
  const char *source = luaL_checklstring(L, 1, &len);
  lua_newtable(L);
  flume_fingerprint_requires(source, len, note_required, L);
  return 1;
}

static int each_entry(void *arg, const char *name) {
  return flume_buf_append(arg, name, strlen(name) + 1);
}

/* list_dir(path) -> names, unordered | nil, message, code */
static int list_dir(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  struct flume_buf *names = flume_box_buf(L);
  int rv = flume_io_posix.list(flume_io_posix.ctx, path, each_entry, names);
  if (rv != 0) {
    lua_pushnil(L);
    lua_pushfstring(L, "%s: %s", path, flume_strerror(rv));
    lua_pushstring(L, flume_err_name(rv));
    return 3;
  }
  lua_newtable(L);
  lua_Integer count = 0;
  for (size_t off = 0; off < names->len; off += strlen((const char *)names->data + off) + 1) {
    lua_pushstring(L, (const char *)names->data + off);
    lua_rawseti(L, -2, ++count);
  }
  return 1;
}

/* open_module(path, function) -> what the function of a C module returns: of flume's own modules, for a state without
 * require. The library stays loaded. */
static int open_module(lua_State *L) {
  const char *path = luaL_checkstring(L, 1), *name = luaL_checkstring(L, 2);
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) return luaL_error(L, "%s", dlerror());
  void *symbol = dlsym(library, name);
  if (symbol == NULL) return luaL_error(L, "%s has no function %s", path, name);
  lua_CFunction open;
  memcpy(&open, &symbol, sizeof open);
  lua_pushcfunction(L, open);
  lua_call(L, 0, 1);
  return 1;
}

/* Two functions of Lua's debug library, for the host: no script gets them (lua/flume/host/sealed.lua). */
static void add_inspection(lua_State *L) {
  lua_pushcfunction(L, luaopen_debug);
  lua_call(L, 0, 1);
  lua_getfield(L, -1, "getupvalue");
  lua_setfield(L, -3, "getupvalue");
  lua_getfield(L, -1, "getmetatable");
  lua_setfield(L, -3, "raw_metatable");
  lua_pop(L, 1);
}

void flume__vm_open(lua_State *L) {
  static const luaL_Reg functions[] = {{"read_file", read_file},
                                       {"fingerprint", fingerprint},
                                       {"fingerprint_bytes", fingerprint_bytes},
                                       {"required", required},
                                       {"list_dir", list_dir},
                                       {"open_module", open_module},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
  add_inspection(L);
}

/* --- Making one ------------------------------------------------------------------------------------------------ */

static int open_libraries(lua_State *L) {
  static const luaL_Reg libraries[] = {{LUA_GNAME, luaopen_base},
                                       {LUA_TABLIBNAME, luaopen_table},
                                       {LUA_STRLIBNAME, luaopen_string},
                                       {LUA_MATHLIBNAME, luaopen_math},
                                       {LUA_UTF8LIBNAME, luaopen_utf8},
                                       {LUA_COLIBNAME, luaopen_coroutine},
                                       {NULL, NULL}};
  for (const luaL_Reg *library = libraries; library->name != NULL; library++) {
    luaL_requiref(L, library->name, library->func, 1);
    lua_pop(L, 1);
  }
  luaL_requiref(L, "flume_core", flume__codec_open, 1);
  flume__vm_open(L);
  flume__library_open(L);
  flume__guard_open(L);
  flume__load_open(L);
  lua_gc(L, LUA_GCGEN, 0, 0);
  return 0;
}

static int open_all_libraries(lua_State *L) {
  luaL_openlibs(L);
  luaL_requiref(L, "flume_core", flume__codec_open, 1);
  flume__vm_open(L);
  lua_gc(L, LUA_GCGEN, 0, 0);
  return 0;
}

static struct flume_vm *new_vm(size_t memory_max_bytes, uint64_t steps_max, lua_CFunction open) {
  struct flume_vm *vm = calloc(1, sizeof *vm);
  if (vm == NULL) return NULL;
  vm->budget.memory_max_bytes = memory_max_bytes;
  vm->budget.steps_max = steps_max;
  vm->host = LUA_NOREF;
  vm->owner = uv_thread_self();
  if (uv_mutex_init(&vm->mutex) != 0) goto err_after_alloc;
  vm->L = lua_newstate(flume_budget_alloc, &vm->budget);
  if (vm->L == NULL) goto err_after_mutex;
  lua_pushcfunction(vm->L, open);
  if (lua_pcall(vm->L, 0, 0, 0) != LUA_OK) goto err_after_state;
  return vm;

err_after_state:
  lua_close(vm->L);
err_after_mutex:
  uv_mutex_destroy(&vm->mutex);
err_after_alloc:
  free(vm);
  return NULL;
}

struct flume_vm *flume_vm_new(size_t memory_max_bytes, uint64_t steps_max) {
  return new_vm(memory_max_bytes, steps_max, open_libraries);
}

struct flume_vm *flume_vm_new_trusted(size_t memory_max_bytes) {
  return new_vm(memory_max_bytes != 0 ? memory_max_bytes : SIZE_MAX, 0, open_all_libraries);
}

/* The limit of memory holds in lua_close too, with a reserve: finalizers of boxes and files must not fail because the
 * script has used up its memory. */
void flume_vm_free(struct flume_vm *vm) {
  struct flume_budget *budget = &vm->budget;
  lua_sethook(vm->L, NULL, 0, 0);
  budget->running = NULL;
  budget->spent = 0;
  budget->refused = 0;
  budget->refuses = false;
  if (budget->memory_max_bytes < SIZE_MAX - CLOSE_RESERVE_BYTES) budget->memory_max_bytes += CLOSE_RESERVE_BYTES;
  flume_guard_close(vm->L);
  lua_close(vm->L);
  assert(budget->memory_bytes == 0);
  uv_mutex_destroy(&vm->mutex);
  free(vm);
}

static uv_once_t locale_once = UV_ONCE_INIT;
static locale_t c_locale; /* NULL when there is no memory for it; lives as long as the process */

static void make_c_locale(void) {
  c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

/* Scripts see the C locale, whatever the process has: a state must not depend on how a number is written there. */
static void enter_locale(struct flume_vm *vm) {
  uv_once(&locale_once, make_c_locale);
  vm->locale = c_locale != (locale_t)0 ? uselocale(c_locale) : (locale_t)0;
}

static void leave_locale(struct flume_vm *vm) {
  if (vm->locale != (locale_t)0) uselocale(vm->locale);
}

/* 0 for the budget's own limit, on worker threads. */
static uint64_t time_max_ns(const struct flume_vm *vm) {
  uv_thread_t self = uv_thread_self();
  if (!uv_thread_equal(&self, &vm->owner)) return 0;
  uint64_t steps_max = vm->budget.steps_max;
  uint64_t thousands = steps_max / 1000, most = UINT64_MAX / CALLER_NS_PER_1000_STEPS;
  uint64_t max_ns = thousands < most ? thousands * CALLER_NS_PER_1000_STEPS : UINT64_MAX;
  return max_ns < CALLER_NS_AT_LEAST ? CALLER_NS_AT_LEAST : max_ns;
}

void flume_vm_enter(struct flume_vm *vm) {
  atomic_store_explicit(&vm->wanted, true, memory_order_relaxed);
  uv_mutex_lock(&vm->mutex);
  atomic_store_explicit(&vm->wanted, false, memory_order_relaxed);
  enter_locale(vm);
  vm->budget.time_max_ns = time_max_ns(vm);
  flume_budget_begin(vm->L, &vm->budget);
}

void flume_vm_leave(struct flume_vm *vm) {
  leave_locale(vm);
  uv_mutex_unlock(&vm->mutex);
}

/* --- Values across --------------------------------------------------------------------------------------------- */

int flume_values_put(lua_State *L, int first, int last, struct flume_buf *out, struct flume_err *err) {
  size_t start = out->len;
  int rv = flume_msgpack_write_array(out, (uint32_t)(last >= first ? last - first + 1 : 0));
  if (rv != 0) return flume_err_nomem(err);
  for (int i = first; i <= last; i++) {
    rv = flume_marshal_encode(L, i, out, err);
    if (rv == 0) continue;
    out->len = start;
    return rv;
  }
  return 0;
}

int flume_values_push(lua_State *L, const struct flume_buf *values) {
  const uint8_t *p = values->data, *end = values->data + values->len;
  struct flume_value header;
  if (values->len == 0) return 0;
  if (flume_msgpack_read(&p, end, &header) != 0 || header.type != FLUME_TYPE_ARRAY) return FLUME_ECORRUPT;
  luaL_checkstack(L, (int)header.count + 4, "too many values");
  for (uint32_t i = 0; i < header.count; i++) {
    const uint8_t *value = p;
    if (flume_msgpack_skip(&p, end) != 0) return FLUME_ECORRUPT;
    if (flume_marshal_push(L, value, (size_t)(p - value)) != 0) return FLUME_ECORRUPT;
  }
  return (int)header.count;
}

struct invocation {
  struct flume_vm *vm;
  const char *name;
  const struct flume_buf *args;
  struct flume_buf *results;
  struct flume_err *err;
  int status;
};

static int invoke(lua_State *L) {
  struct invocation *call = lua_touserdata(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, call->vm->host);
  if (lua_getfield(L, -1, call->name) != LUA_TFUNCTION) return luaL_error(L, "no function %s", call->name);
  lua_remove(L, -2);
  int count = flume_values_push(L, call->args);
  if (count < 0) return luaL_error(L, "arguments can't be decoded");
  lua_call(L, count, LUA_MULTRET);
  flume_guard_check(L);
  if (lua_gettop(L) - 1 > MAX_RESULTS)
    return luaL_error(L, "%d results; there may be %d", lua_gettop(L) - 1, MAX_RESULTS);
  call->vm->budget.encode_max_ns = call->vm->budget.time_max_ns != 0 ? CALLER_ENCODE_NS : 0;
  call->status = flume_values_put(L, 2, lua_gettop(L), call->results, call->err);
  call->vm->budget.encode_max_ns = 0;
  if (call->status != 0) flume_err_wrap(call->err, "result");
  return 0;
}

/* Message handler: what was raised as {code, message}, made here, where reading a view's own error object (it may have
 * metamethods that raise, or run for ever) is still protected. Errors that the host raises on purpose are tables with a
 * message and a code of their own. */
static int describe_error(lua_State *L) {
  bool is_table = lua_istable(L, 1);
  lua_createtable(L, 2, 0);
  if (is_table) {
    lua_pushliteral(L, "code");
    lua_rawget(L, 1);
    lua_rawseti(L, 2, 1);
    lua_pushliteral(L, "message");
    lua_rawget(L, 1);
    if (lua_type(L, -1) != LUA_TSTRING && !flume_raised_push_text(L, 1)) flume_name_tostring(L, 1, NULL);
  } else {
    flume_name_tostring(L, 1, NULL);
  }
  lua_rawseti(L, 2, 2);
  lua_settop(L, 2);
  return 1;
}

/* The error that pcall left on top. Raises nothing: a table here is one of describe_error. */
static int take_error(lua_State *L, struct flume_err *err) {
  int status = FLUME_EVIEW;
  int top = lua_gettop(L);
  if (lua_istable(L, top)) {
    lua_rawgeti(L, top, 1);
    if (lua_type(L, -1) == LUA_TSTRING && strcmp(lua_tostring(L, -1), "EINVAL") == 0) status = FLUME_EINVAL;
    lua_rawgeti(L, top, 2);
  }
  flume_err_set(err, status, "%s", lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "not enough memory");
  lua_settop(L, top - 1);
  return status;
}

int flume_vm_call(struct flume_vm *vm, const char *name, const struct flume_buf *args, struct flume_buf *results,
                  struct flume_err *err) {
  struct invocation call = {vm, name, args, results, err, 0};
  flume_budget_begin(vm->L, &vm->budget);
  int top = lua_gettop(vm->L);
  lua_pushcfunction(vm->L, describe_error);
  lua_pushcfunction(vm->L, invoke);
  lua_pushlightuserdata(vm->L, &call);
  if (lua_pcall(vm->L, 1, 0, top + 1) != LUA_OK) call.status = take_error(vm->L, err);
  lua_settop(vm->L, top);
  return call.status;
}

struct loading {
  const char *source;
  size_t source_len;
  const struct flume_buf *args;
  int host;
};

static int load_host(lua_State *L) {
  struct loading *loading = lua_touserdata(L, 1);
  if (luaL_loadbufferx(L, loading->source, loading->source_len, "=flume.host", "b") != LUA_OK) return lua_error(L);
  lua_call(L, 0, 1);
  int count = flume_values_push(L, loading->args);
  if (count < 0) return luaL_error(L, "arguments can't be decoded");
  lua_call(L, count, 1);
  luaL_checktype(L, -1, LUA_TTABLE);
  loading->host = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

int flume_vm_load(struct flume_vm *vm, const char *source, size_t source_len, const struct flume_buf *args,
                  struct flume_err *err) {
  struct loading loading = {source, source_len, args, LUA_NOREF};
  flume_budget_begin(vm->L, &vm->budget);
  int top = lua_gettop(vm->L), rv = 0;
  lua_pushcfunction(vm->L, describe_error);
  lua_pushcfunction(vm->L, load_host);
  lua_pushlightuserdata(vm->L, &loading);
  if (lua_pcall(vm->L, 1, 0, top + 1) != LUA_OK) rv = take_error(vm->L, err);
  else vm->host = loading.host;
  lua_settop(vm->L, top);
  return rv;
}
