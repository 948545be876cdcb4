/* What a script view's Lua state may use: memory, and steps for one record or one call. A step is one instruction, or work
 * of about the same cost inside a library function or the allocator. Steps are counted, not timed, so that a script ends
 * at the same place on every machine.
 *
 * The last resort is a limit of processor time, for instructions that cost far more than a step: an index chain of 2000
 * tables, a comparison of two texts of 100 MB, a function that gets a million arguments. On a worker thread the limit is
 * about ten times what the steps usually take. On the thread of the caller, who waits, it is about a second.
 *
 * Who looks at the time:
 *   - the count hook. Its interval follows the cost of the instructions: the largest text that is alive bounds it, and
 *     a slow interval makes the next one shorter.
 *   - library functions that loop over elements (flume_budget_look), and the encoder (flume_budget_is_up).
 *   - the allocator, when a Lua stack doubles and no instruction was counted since it last doubled: Lua calls no hook
 *     while it follows a chain of __call metamethods.
 *
 * Memory is Lua's blocks, the buffers made with flume_budget_io, and what flume_budget_set_outside reports.
 *
 * Every function is called on the thread that runs the state. */
#ifndef FLUME_LUA_BUDGET_H
#define FLUME_LUA_BUDGET_H

#include <lua.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/io.h"

/* In the message of the error of a spent budget. */
#define FLUME_BUDGET_SPENT "instruction budget"

#define FLUME_BUDGET_TEXT_CLASSES 48 /* by the power of two of a text's length */

/* Where the state stands in the present record or call. */
struct flume_budget_clock {
  uint64_t wall_ns;   /* monotonic clock when it was first asked; 0: not yet */
  uint64_t cpu_ns;    /* the thread's processor time then */
  uint64_t looked_ns; /* monotonic clock when the hook last ran; 0: not yet */
  uint64_t looks;     /* runs of the hook, ever */
  uint64_t turns;     /* of loops in library functions, ever */
  size_t grown_bytes; /* the last large block that may have been a stack */
  uint64_t grown_ns;  /* processor time when it was made */
  uint64_t grown_at;  /* looks then */
};

/* All 0 but for what the owner sets: memory_max_bytes, steps_max, time_max_ns, encode_max_ns,
 * cancelled. The state is made with
 * flume_budget_alloc and this as its argument. */
struct flume_budget {
  size_t memory_bytes;          /* Lua's, and of buffers that are made with io */
  size_t outside_bytes;         /* see flume_budget_set_outside */
  size_t memory_max_bytes;      /* for both */
  uint64_t spent;               /* steps since the present record or call began */
  uint64_t steps_max;           /* for one of them; 0: no limit of steps and of time */
  uint64_t time_max_ns;         /* processor time for one of them; 0: by steps_max */
  uint64_t encode_max_ns;       /* processor time for one encoding (marshal.h); 0: FLUME_MARSHAL_MAX_NS */
  const atomic_bool *cancelled; /* when true, the running record or call ends as if its steps were spent; NULL: never */
  lua_State *running;           /* the thread of the state that runs; NULL before the first record or call */
  struct flume_budget_clock clock;
  unsigned refused;      /* blocks of memory, since the record or call began or a library function was last ended */
  unsigned closing;      /* coroutines that are being closed, one inside the other */
  bool refuses;          /* the next block too: Lua asks twice, and collects in between */
  bool is_late;          /* the time was up before the steps were */
  bool has_many_values;  /* a function of the library has returned very many values: copying them is one instruction */
  uint64_t named;        /* objects that were numbered in the present record or call: see lib_tostring.h */
  unsigned large_blocks; /* that are alive, and no texts */
  unsigned texts[FLUME_BUDGET_TEXT_CLASSES]; /* large texts that are alive, by class */
  struct flume_io io;                        /* see flume_budget_io; its ctx is NULL before the first use */
};

/* The allocator of such a state. */
void *flume_budget_alloc(void *ud, void *ptr, size_t old_bytes, size_t new_bytes);

/* The budget of the state that L belongs to; NULL for a state that has none. */
struct flume_budget *flume_budget_of(lua_State *L);

/* For C buffers that a script makes grow: allocations by this io count as memory of the state, and fail with NULL (so that
 * flume_buf functions give FLUME_ENOMEM) above its limit. Valid as long as the budget; buffers are freed before that. For
 * budget NULL, flume_io_posix. */
const struct flume_io *flume_budget_io(struct flume_budget *budget);

/* Says how many bytes outside of Lua the state's work holds now, such as rows that wait for a commit. They count as memory
 * until less is said. False when all together is more than the state may have; it is counted all the same. budget may be
 * NULL. */
bool flume_budget_set_outside(struct flume_budget *budget, size_t bytes);

/* A new record or call begins: L, the main thread of the state, counts from 0. Raises nothing. */
void flume_budget_begin(lua_State *L, struct flume_budget *budget);

/* Counts for a new coroutine too, and takes steps for it; budget may be NULL. Raises. */
void flume_budget_watch(lua_State *co, lua_State *L, struct flume_budget *budget);

/* Says that L runs from now on, a coroutine or the thread that has resumed it; the thread that ran before. */
lua_State *flume_budget_switch(lua_State *L, struct flume_budget *budget);

static inline bool flume_budget_is_spent(const struct flume_budget *budget) {
  return budget->steps_max != 0 && budget->spent > budget->steps_max;
}

/* How many steps are left; budget may be NULL: INT64_MAX for no limit. */
static inline int64_t flume_budget_left(const struct flume_budget *budget) {
  if (budget == NULL || budget->steps_max == 0) return INT64_MAX;
  return budget->spent < budget->steps_max ? (int64_t)(budget->steps_max - budget->spent) : 0;
}

/* Writes why the budget is spent: "instruction budget of 5 spent". */
void flume_budget_explain(const struct flume_budget *budget, char *text, size_t text_bytes);

/* Raises the error of a spent budget. Whatever catches it in the script raises it again: see lib_coroutine.h. */
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

/* The processor time of this thread. */
uint64_t flume_budget_cpu_ns(void);

/* Looks at the clock: whether steps or time are used up, or the call was cancelled. Raises nothing. budget may be NULL:
 * false. */
bool flume_budget_is_up(struct flume_budget *budget);

/* One turn of a loop in a library function, whose turns may each be as expensive as an instruction: every so often looks
 * at the clock, and raises when the time is up. budget may be NULL. */
static inline void flume_budget_look(lua_State *L, struct flume_budget *budget) {
  if (budget == NULL || ++budget->clock.turns % 64 != 0) return;
  if (flume_budget_is_up(budget)) flume_budget_raise(L, budget);
}

/* After a walk through a table, whose length Lua does not tell: looks at the clock when the state has large blocks. Raises.
 * budget may be NULL. */
static inline void flume_budget_look_large(lua_State *L, struct flume_budget *budget) {
  if (budget != NULL && budget->large_blocks > 0 && flume_budget_is_up(budget)) flume_budget_raise(L, budget);
}

/* Takes steps for so many values that a library function returns or gets, and remembers that there are such. Raises. */
void flume_budget_charge_values(lua_State *L, struct flume_budget *budget, uint64_t count);

/* Raises a memory error when so many bytes that are not counted yet would, with those that are, be more than the state
 * may have; budget may be NULL. */
static inline void flume_budget_check_bytes(lua_State *L, const struct flume_budget *budget, size_t bytes) {
  if (budget == NULL || budget->memory_bytes > budget->memory_max_bytes) return;
  if (bytes > budget->memory_max_bytes - budget->memory_bytes) flume_budget_raise_memory(L);
}

#endif
