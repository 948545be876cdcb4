#include "budget.h"

#include <lauxlib.h>
#include <stdlib.h>

#define HOOK_EVERY 10000 /* instructions */
#define REFUSALS_MAX 64  /* of memory, until the budget is spent */

void *flume_budget_alloc(void *ud, void *ptr, size_t old_bytes, size_t new_bytes) {
  struct flume_budget *budget = ud;
  if (ptr == NULL) old_bytes = 0;
  if (new_bytes == 0) {
    free(ptr);
    budget->memory_bytes -= old_bytes;
    return NULL;
  }
  if (new_bytes > old_bytes && budget->memory_bytes + (new_bytes - old_bytes) > budget->memory_max_bytes) {
    budget->spent += budget->steps_max / REFUSALS_MAX + 1; /* collecting in vain, again and again, is no way out */
    return NULL;
  }
  void *moved = realloc(ptr, new_bytes);
  if (moved == NULL) return NULL;
  budget->memory_bytes += new_bytes - old_bytes;
  return moved;
}

struct flume_budget *flume_budget_of(lua_State *L) {
  void *ud;
  return lua_getallocf(L, &ud) == flume_budget_alloc ? ud : NULL;
}

int flume_budget_raise(lua_State *L, const struct flume_budget *budget) {
  return luaL_error(L, "instruction budget of %I spent", (LUAI_UACINT)budget->steps_max);
}

/* Coroutines inherit the hook. */
static void on_count(lua_State *L, lua_Debug *activation) {
  (void)activation;
  flume_budget_charge(L, flume_budget_of(L), HOOK_EVERY);
}

void flume_budget_begin(lua_State *L, struct flume_budget *budget) {
  budget->spent = 0;
  if (budget->steps_max > 0) lua_sethook(L, on_count, LUA_MASKCOUNT, HOOK_EVERY);
}
