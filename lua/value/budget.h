/* What a view's own Lua state may use: memory, and steps for one record or one call. A step is one instruction, or work of
 * about the same cost inside a library function or the allocator. All is counted, not timed, so that a script comes to
 * its end at the same place on every machine.
 *
 * As a last resort there is a limit of time as well: some single instructions (comparing strings of many megabytes,
 * passing on a million arguments) are worth far more than a step. It is ten times what the steps take as a rule, and it
 * is the processor time of the thread, so that a busy machine makes no difference. */
#ifndef FLUME_LUA_BUDGET_H
#define FLUME_LUA_BUDGET_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All are 0 or as the owner of the state sets them; the state must be made with flume_budget_alloc and this as its
 * argument. Used by the thread that runs the state. */
struct flume_budget {
  size_t memory_bytes;
  size_t memory_max_bytes;
  uint64_t spent;      /* steps since the last record or call began */
  uint64_t steps_max;  /* for one of them; 0 for no limit */
  unsigned refused;    /* blocks of memory, since it began or since it was last brought to an end */
  bool refuses;        /* the next block too: Lua asks twice, and collects in between */
  uint64_t wall_ns;    /* when the hook first ran in it; 0: it has not */
  uint64_t cpu_ns;     /* the same, by the thread's processor time */
  bool has_large_text; /* the state has had a string that takes long to compare: the hook looks more often */
  uint64_t named;      /* objects that were given a number since it began: see name.h */
};

/* The allocator of such a state. */
void *flume_budget_alloc(void *ud, void *ptr, size_t old_bytes, size_t new_bytes);

/* The budget of the state that L belongs to; NULL for a state that has none. */
struct flume_budget *flume_budget_of(lua_State *L);

/* A new record or call: L, the main thread of the state, begins to count from 0. Raises nothing. */
void flume_budget_begin(lua_State *L, struct flume_budget *budget);

/* Counts for a new coroutine too, and takes steps for it. Raises. */
void flume_budget_watch(lua_State *co, lua_State *L, struct flume_budget *budget);

static inline bool flume_budget_is_spent(const struct flume_budget *budget) {
  return budget->steps_max != 0 && budget->spent > budget->steps_max;
}

/* How many steps are left; budget may be NULL: INT64_MAX for no limit. */
static inline int64_t flume_budget_left(const struct flume_budget *budget) {
  if (budget == NULL || budget->steps_max == 0) return INT64_MAX;
  return budget->spent < budget->steps_max ? (int64_t)(budget->steps_max - budget->spent) : 0;
}

/* Raises the error of a spent budget. A script that catches it gets it again from what it caught it with, until nothing
 * is left around it that could: see sandbox.lua. */
int flume_budget_raise(lua_State *L, const struct flume_budget *budget);

/* Raises a memory error. */
int flume_budget_raise_memory(lua_State *L);

/* Takes steps, and raises nothing when they are spent. */
static inline void flume_budget_take(struct flume_budget *budget, uint64_t steps) {
  budget->spent = steps < UINT64_MAX - budget->spent ? budget->spent + steps : UINT64_MAX;
}

/* Takes steps for work that a library function has done or is about to do; budget may be NULL. Raises. */
static inline void flume_budget_charge(lua_State *L, struct flume_budget *budget, uint64_t steps) {
  if (budget == NULL) return;
  flume_budget_take(budget, steps);
  if (flume_budget_is_spent(budget)) flume_budget_raise(L, budget);
}

/* Raises a memory error when so many bytes that are not Lua's would, with those that are, be more than the state may have;
 * budget may be NULL. */
static inline void flume_budget_check_bytes(lua_State *L, const struct flume_budget *budget, size_t bytes) {
  if (budget == NULL || budget->memory_bytes > budget->memory_max_bytes) return;
  if (bytes > budget->memory_max_bytes - budget->memory_bytes) flume_budget_raise_memory(L);
}

#endif
