/* The Lua binding when allocations fail.
 *
 * A script opens a database, appends, reads, mounts an inline and a script view, deletes and closes, each step in a
 * pcall. Each run lets a different allocation fail: of the Lua state (once, so that Lua collects all garbage and tries
 * again; twice, which raises; or all from there on), or of the C code. After each run the state can be closed, nothing
 * is left allocated or locked, and acknowledged records are in the log.
 *
 * FLUME_CRASH=all tries every allocation; without it some hundred are tried. LUA_PATH must lead to the Lua files. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "longjmp.h"
#include "support.h"

int luaopen_flume_core(lua_State *L);
void *__real_realloc(void *ptr, size_t size);
void *__wrap_realloc(void *ptr, size_t size);

enum mode { LUA_ONCE, LUA_TWICE, LUA_FOR_EVER, C_ONCE, C_FOR_EVER };

static struct {
  const char *script;
  enum mode mode;
  atomic_bool armed; /* between arm() and disarm() of the script */
  long nth;          /* the allocation that fails, counted from 1 */
  atomic_long calls; /* since it was armed */
  long blocks;       /* live, of the Lua state */
  int64_t acked;
  int64_t deleted;
  int answers; /* callbacks that were called */
  int errors;  /* callbacks with FLUME_ENOMEM */
  char dir[TEST_PATH_MAX];
  char view[TEST_PATH_MAX];
} run;

static bool refused(bool of_lua) {
  if (!run.armed || of_lua != (run.mode <= LUA_FOR_EVER)) return false;
  long call = atomic_fetch_add(&run.calls, 1) + 1;
  if (run.mode == LUA_FOR_EVER || run.mode == C_FOR_EVER) return call >= run.nth;
  return call == run.nth || (run.mode == LUA_TWICE && call - 1 == run.nth);
}

/* Every allocation of core and lua comes through here; the allocations of libc itself don't. */
void *__wrap_realloc(void *ptr, size_t size) {
  return refused(false) ? NULL : __real_realloc(ptr, size);
}

static void *lua_alloc(void *ud, void *ptr, size_t old_bytes, size_t new_bytes) {
  (void)ud;
  if (ptr == NULL) old_bytes = 0;
  if (new_bytes == 0) {
    run.blocks -= ptr != NULL;
    free(ptr);
    return NULL;
  }
  if (new_bytes > old_bytes && refused(true)) return NULL;
  void *moved = __real_realloc(ptr, new_bytes);
  MUST(moved != NULL);
  run.blocks += ptr == NULL;
  return moved;
}

/* --- Functions for the script, which allocate nothing ------------------------------------------------------------- */

static int script_arm(lua_State *L) {
  (void)L;
  atomic_store(&run.calls, 0);
  run.armed = true;
  return 0;
}

static int script_disarm(lua_State *L) {
  (void)L;
  run.armed = false;
  return 0;
}

static int script_acked(lua_State *L) {
  int64_t seq = lua_tointeger(L, 1);
  CHECK(seq > run.acked);
  run.acked = seq;
  return 0;
}

static int script_deleted(lua_State *L) {
  run.deleted = lua_tointeger(L, 1);
  return 0;
}

static int script_answer(lua_State *L) {
  run.answers++;
  if (lua_type(L, 1) == LUA_TSTRING) run.errors += strcmp(lua_tostring(L, 1), "ENOMEM") == 0;
  if (lua_type(L, 1) != LUA_TTABLE) return 0;
  lua_getfield(L, 1, "code");
  run.errors += strcmp(lua_tostring(L, -1), "ENOMEM") == 0;
  return 0;
}

static int script_answers(lua_State *L) {
  lua_pushinteger(L, run.answers);
  return 1;
}

/* Each step makes its own values, within its pcall. */
static const char SCRIPT[] =
    "local dir, view, arm, disarm, acked, deleted = ...\n"
    "local flume = require 'flume'\n"
    "local db, seq\n"
    "local function append(value) seq = db:append(value); if seq then acked(seq) end end\n"
    "local steps = {\n"
    "  function () db = flume.open(dir) end,\n"
    "  function () append {n = 0} end,\n"
    "  function () append {n = 1, text = ('x'):rep(100)} end,\n"
    "  function () append {{n = 2}, {n = 3, list = {1, 2.5, 'three'}}, {n = 4}} end,\n"
    "  function () db:use('sum', flume.reduce(1, function (acc, item) return acc + item.n end, 0)) end,\n"
    "  function () db:use('script', view) end,\n"
    "  function () db:use('by', flume.index(1, 'n')) end,\n"
    "  function () db:use('user', {version = 1, uses = {'by', 'sum'}, initial = 0, reducer = function (_, item, _, "
    "uses)\n"
    "    for _ in uses.by:read {gte = item.n} do assert(uses.by:get(item.n) == nil) end\n"
    "    return uses.by:count() + uses.sum:get()\n"
    "  end}) end,\n"
    "  function () return db.user:get {timeout = 10000} end,\n"
    "  function () assert(db:get(3)).n = 3 end,\n"
    "  function () for _, value in db:stream {reverse = true} do assert(value.n) end end,\n"
    "  function () for _, value in db:stream {lazy = true, gte = 1} do assert(value.n) end end,\n"
    "  function () return db.sum:get {timeout = 10000} end,\n"
    "  function () return db.script:get {timeout = 10000} end,\n"
    "  function () if db:del(1) then deleted(1) end end,\n"
    "  function () return db.sum:get {timeout = 10000} end,\n"
    "  function () append {n = 5} end,\n"
    "  function () return db.script:get {timeout = 10000} end,\n"
    "}\n"
    "arm()\n"
    "for i = 1, #steps do pcall(steps[i]) end\n"
    "disarm()\n"
    "if db then db:close() end\n";

/* Each operation begins with memory and ends without. */
static const char ANSWERED_SCRIPT[] =
    "local dir, view, arm, disarm, acked, deleted, answer, answers = ...\n"
    "local flume, core = require 'flume', require 'flume.core'\n"
    "local db = assert(flume.open(dir))\n"
    "for n = 0, 5 do acked(assert(db:append {n = n})) end\n"
    "assert(db:use('sum', flume.reduce(1, function (acc, item) return acc + item.n end, 0)).sum:get())\n"
    "assert(db:del(1))\n"
    "deleted(1)\n"
    "assert(db.sum:get() == 14)\n"
    "local log, sum = db.log.core, db.sum._core\n"
    "local operations = {\n"
    "  function () return log:check(nil, nil, answer) end,\n"
    "  function () return log:compact(nil, answer) end,\n"
    "  function () return log:backup(dir .. '/copy', nil, nil, answer) end,\n"
    "  function () return log:backup(dir .. '/copy', nil, nil, answer) end,\n" /* the folder exists */
    "  function () sum:wait(1000, 1, answer) return true end,\n"
    "}\n"
    "for i = 1, #operations do\n"
    "  if operations[i]() then\n"
    "    arm()\n"
    "    while answers() < i do core.step(1000) end\n"
    "    disarm()\n"
    "  else\n"
    "    answer()\n"
    "  end\n"
    "end\n"
    "assert(db:get(0).n == 0 and db.sum:get() == 14)\n"
    "assert(db:close())\n";

static int script_run(lua_State *L) {
  static const lua_CFunction functions[] = {script_arm,     script_disarm, script_acked,
                                            script_deleted, script_answer, script_answers};
  luaL_openlibs(L);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, luaopen_flume_core);
  lua_setfield(L, -2, "flume.core");
  if (luaL_loadstring(L, run.script) != LUA_OK) return lua_error(L);
  lua_pushstring(L, run.dir);
  lua_pushstring(L, run.view);
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) lua_pushcfunction(L, functions[i]);
  lua_call(L, 2 + sizeof functions / sizeof *functions, 0);
  return 0;
}

/* --- After a run -------------------------------------------------------------------------------------------------- */

static void check_log(void) {
  uv_loop_t loop;
  struct flume_log *log = NULL;
  struct flume_err err;
  if (access(run.dir, F_OK) != 0) return; /* the script did not get that far */
  char path[TEST_PATH_MAX + 8];
  snprintf(path, sizeof path, "%s/log", run.dir);
  MUST(uv_loop_init(&loop) == 0);
  if (!CHECK_INT_EQ(flume_log_open(&log, &loop, path, NULL, &err), 0)) printf("%s\n", err.msg);
  if (log != NULL) {
    CHECK(flume_log_since(log) >= run.acked);
    for (int64_t seq = 0; seq <= run.acked; seq++) {
      struct flume_record record;
      int rv = flume_log_get(log, seq, &record, &err);
      CHECK(seq == run.deleted ? rv == FLUME_EDELETED : rv == 0 || (rv == FLUME_EDELETED && seq == 1));
      if (rv == 0) flume_record_release(&record);
    }
    log_close_wait(log, &loop);
  }
  loop_end(&loop);
}

/* Whether the nth allocation was reached. */
static bool run_once(const char *script, enum mode mode, long nth) {
  char root[TEST_PATH_MAX - 16];
  temp_dir(root);
  snprintf(run.dir, sizeof run.dir, "%s/db", root);
  snprintf(run.view, sizeof run.view, "%s/v.lua", root);
  static const char view[] =
      "return {version = 1, initial = 0, reducer = function (acc, item) return acc + item.n end}";
  write_file(run.view, view, sizeof view - 1, sizeof view - 1);
  run.script = script;
  run.mode = mode;
  run.nth = nth;
  run.blocks = 0;
  run.answers = run.errors = 0;
  run.acked = run.deleted = -1;
  atomic_store(&run.calls, 0);
  lua_State *L = lua_newstate(lua_alloc, NULL);
  MUST(L != NULL);
  lua_pushcfunction(L, script_run);
  int rv = lua_pcall(L, 0, 0, 0);
  run.armed = false;
  const char *text = lua_tostring(L, -1);
  if (!CHECK_INT_EQ(rv, LUA_OK)) printf("%s\n", text != NULL ? text : "no text");
  lua_close(L);
  CHECK_INT_EQ(run.blocks, 0);
  check_log();
  remove_dir(root);
  bool reached = atomic_load(&run.calls) >= nth;
  if (!reached) CHECK(run.acked == 5 && run.deleted == 1);
  return reached;
}

static long count_calls(enum mode mode) {
  run_once(SCRIPT, mode, LONG_MAX);
  return atomic_load(&run.calls);
}

#define SAMPLE 60

static void refuse_each(enum mode mode) {
  const char *text = getenv("FLUME_CRASH");
  long count = count_calls(mode), step = text != NULL && strcmp(text, "all") == 0 ? 1 : count / SAMPLE + 1;
  CHECK(count > 20);
  long tried = 0;
  for (long nth = 1; nth <= count && !test_failed; nth += step, tried++) {
    run_once(SCRIPT, mode, nth);
    if (test_failed) printf("allocation %ld\n", nth);
  }
  printf("%ld of %ld allocations\n", tried, count);
}

TEST(lua_collects_garbage_at_each_allocation) {
  refuse_each(LUA_ONCE);
}
TEST(one_allocation_of_lua_fails) {
  refuse_each(LUA_TWICE);
}
TEST(lua_has_no_memory_from_one_allocation_on) {
  refuse_each(LUA_FOR_EVER);
}
TEST(one_allocation_of_c_fails) {
  refuse_each(C_ONCE);
}
TEST(c_has_no_memory_from_one_allocation_on) {
  refuse_each(C_FOR_EVER);
}

/* An error in a callback of the loop would leave it by a longjmp. */
TEST(answers_without_memory) {
  run_once(ANSWERED_SCRIPT, LUA_FOR_EVER, 1);
  CHECK_INT_EQ(run.answers, 5);
  CHECK(run.errors >= 4);
  printf("%d of %d answers were that there is no memory\n", run.errors, run.answers);
}
