#include "lua/value/budget.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <time.h>

/* Instructions between two looks of the hook. A coroutine counts by itself, and may end just before the hook is due: so
 * the interval is short there, and the creation of one costs as much. */
#define HOOK_EVERY 1000
#define HOOK_EVERY_IN_COROUTINE 200
#define HOOK_EVERY_WITH_LARGE_TEXT 100
#define HOOK_EVERY_WHEN_SPENT 1 /* what is left to be closed does not get far */
#define LARGE_TEXT_BYTES (8 << 20)

#define REFUSALS_MAX 8                 /* of memory, until the budget is spent */
#define REFUSALS_PATIENCE 8            /* and this many more, until a library function that goes on is ended */
#define RESERVE_BYTES (1 << 20)        /* above the limit, to come to an end without collecting each time */
#define CHARGED_BYTES 4096             /* smaller blocks are for free: instructions make them */
#define BYTES_PER_STEP 8               /* of larger ones */
#define REFUSED_WHEN_SPENT_BYTES 65536 /* smaller ones are needed to report the error */

#define NS_PER_STEP 50 /* of processor time: a step takes about 5 */
#define NS_AT_LEAST 1000000000u

/* --- Memory ------------------------------------------------------------------------------------------------------ */

/* Where memory is short, Lua collects before it gives up a larger table of strings, and then does so for each string
 * anew: a library function that makes many would be at it for hours. So it gets a memory error. */
static bool is_to_end(struct flume_budget *budget) {
  if (budget->refuses) {
    budget->refuses = false;
    return true;
  }
  if (!flume_budget_is_spent(budget) || budget->refused < REFUSALS_MAX + REFUSALS_PATIENCE) return false;
  budget->refused = REFUSALS_MAX;
  budget->refuses = true;
  return true;
}

static bool fits(struct flume_budget *budget, size_t more_bytes, size_t new_bytes) {
  size_t max_bytes = budget->memory_max_bytes;
  if (flume_budget_is_spent(budget) && max_bytes < SIZE_MAX - RESERVE_BYTES) max_bytes += RESERVE_BYTES;
  if (more_bytes > max_bytes || budget->memory_bytes > max_bytes - more_bytes) {
    flume_budget_take(budget, budget->steps_max / REFUSALS_MAX + 1); /* collecting again and again is no way out */
    return false;
  }
  if (new_bytes < CHARGED_BYTES) return true;
  flume_budget_take(budget, new_bytes / BYTES_PER_STEP);
  return new_bytes < REFUSED_WHEN_SPENT_BYTES || !flume_budget_is_spent(budget);
}

static bool may_have(struct flume_budget *budget, size_t more_bytes, size_t new_bytes) {
  if (fits(budget, more_bytes, new_bytes)) return !is_to_end(budget);
  budget->refused++;
  return false;
}

void *flume_budget_alloc(void *ud, void *ptr, size_t old_bytes, size_t new_bytes) {
  struct flume_budget *budget = ud;
  size_t kind = 0;
  if (ptr == NULL) {
    kind = old_bytes;
    old_bytes = 0;
  }
  if (new_bytes == 0) {
    free(ptr);
    budget->memory_bytes -= old_bytes;
    return NULL;
  }
  if (new_bytes > old_bytes && !may_have(budget, new_bytes - old_bytes, new_bytes)) return NULL;
  void *moved = realloc(ptr, new_bytes);
  if (moved == NULL) return NULL;
  budget->memory_bytes += new_bytes - old_bytes;
  if (kind == LUA_TSTRING && new_bytes >= LARGE_TEXT_BYTES) budget->has_large_text = true;
  return moved;
}

struct flume_budget *flume_budget_of(lua_State *L) {
  void *ud;
  return lua_getallocf(L, &ud) == flume_budget_alloc ? ud : NULL;
}

/* --- Steps ------------------------------------------------------------------------------------------------------- */

static void on_count(lua_State *L, lua_Debug *activation);

int flume_budget_raise(lua_State *L, const struct flume_budget *budget) {
  if (lua_gethookcount(L) != HOOK_EVERY_WHEN_SPENT) { /* setting it takes time where the stack is deep */
    lua_sethook(L, on_count, LUA_MASKCOUNT, HOOK_EVERY_WHEN_SPENT);
  }
  return luaL_error(L, "instruction budget of %I spent", (LUAI_UACINT)budget->steps_max);
}

int flume_budget_raise_memory(lua_State *L) {
  return luaL_error(L, "not enough memory");
}

static uint64_t now_ns(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* Processor time is asked for only when so much time has passed: that costs more. */
static bool is_time_up(struct flume_budget *budget) {
  uint64_t wall_ns = now_ns(CLOCK_MONOTONIC);
  uint64_t max_ns = budget->steps_max < UINT64_MAX / NS_PER_STEP ? budget->steps_max * NS_PER_STEP : UINT64_MAX;
  if (max_ns < NS_AT_LEAST) max_ns = NS_AT_LEAST;
  if (budget->wall_ns == 0) {
    budget->wall_ns = wall_ns;
    budget->cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID);
  }
  return wall_ns - budget->wall_ns > max_ns && now_ns(CLOCK_THREAD_CPUTIME_ID) - budget->cpu_ns > max_ns;
}

static void on_count(lua_State *L, lua_Debug *activation) {
  struct flume_budget *budget = flume_budget_of(L);
  int every = lua_gethookcount(L);
  (void)activation;
  if (budget->has_large_text && every > HOOK_EVERY_WITH_LARGE_TEXT) {
    lua_sethook(L, on_count, LUA_MASKCOUNT, HOOK_EVERY_WITH_LARGE_TEXT);
  }
  if (is_time_up(budget)) flume_budget_take(budget, UINT64_MAX);
  flume_budget_charge(L, budget, (uint64_t)every);
}

void flume_budget_begin(lua_State *L, struct flume_budget *budget) {
  budget->spent = 0;
  budget->refused = 0;
  budget->refuses = false;
  budget->named = 0;
  budget->wall_ns = 0;
  if (budget->steps_max == 0) return;
  lua_sethook(L, on_count, LUA_MASKCOUNT, budget->has_large_text ? HOOK_EVERY_WITH_LARGE_TEXT : HOOK_EVERY);
}

void flume_budget_watch(lua_State *co, lua_State *L, struct flume_budget *budget) {
  if (budget == NULL || budget->steps_max == 0) return;
  flume_budget_charge(L, budget, HOOK_EVERY_IN_COROUTINE);
  lua_sethook(co, on_count, LUA_MASKCOUNT, HOOK_EVERY_IN_COROUTINE);
}
