/* Large blocks have a header in front that says whether they are a text: Lua tells the kind of a block when it is made,
 * not when it is freed. Texts matter, because comparing or converting one takes as long as it is, in one instruction. */
#include "lua/value/budget.h"

#include <assert.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Instructions between two runs of the hook. A coroutine counts by itself, and may end just before the hook is due: so
 * the interval is short there, and the creation of a coroutine costs as much. */
#define HOOK_EVERY 1000
#define HOOK_EVERY_IN_COROUTINE 200
#define HOOK_EVERY_WITH_MANY_VALUES 50
#define HOOK_EVERY_WHEN_SPENT 1   /* functions that are left to be closed do not get far */
#define HOOK_TEXT_BYTES (1 << 26) /* of the largest text, times the interval: some 0.1 s of numerals */
#define HOOK_SLOW_NS 4000000u     /* after an interval that took longer, the next one is shorter: to take HOOK_AIM_NS */
#define HOOK_AIM_NS 2000000u
#define MANY_VALUES 20000

#define REFUSALS_MAX 8                 /* of memory, until the budget is spent */
#define REFUSALS_PATIENCE 8            /* and this many more, until a library function that goes on is ended */
#define RESERVE_BYTES (1 << 20)        /* above the limit, to come to an end without collecting each time */
#define CHARGED_BYTES 4096             /* smaller blocks are for free: instructions make them */
#define BYTES_PER_STEP 8               /* of larger ones */
#define REFUSED_WHEN_SPENT_BYTES 65536 /* smaller ones are needed to report the error */
#define LARGE_BYTES (128 << 10)

#define NS_PER_STEP 50 /* of processor time: a step takes about 5 */
#define NS_AT_LEAST 1000000000u

/* A Lua stack that doubles: it is 16 bytes for each of its slots and 5 more. */
#define STACK_EXTRA_BYTES 80
#define STACK_LARGE_BYTES (32 << 10)
#define STACK_RUNAWAY_NS 30000000u /* between two doublings without an instruction */

/* --- Time -------------------------------------------------------------------------------------------------------- */

static uint64_t now_ns(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

uint64_t flume_budget_cpu_ns(void) {
  return now_ns(CLOCK_THREAD_CPUTIME_ID);
}

static uint64_t time_max_ns(const struct flume_budget *budget) {
  if (budget->time_max_ns != 0) return budget->time_max_ns;
  uint64_t max_ns = budget->steps_max < UINT64_MAX / NS_PER_STEP ? budget->steps_max * NS_PER_STEP : UINT64_MAX;
  return max_ns < NS_AT_LEAST ? NS_AT_LEAST : max_ns;
}

/* The processor time is only asked for when so much time has passed by the wall clock, which is cheaper to ask. */
static bool is_time_up(struct flume_budget *budget, uint64_t wall_ns) {
  struct flume_budget_clock *clock = &budget->clock;
  uint64_t max_ns = time_max_ns(budget);
  if (clock->wall_ns == 0) {
    clock->wall_ns = wall_ns;
    clock->cpu_ns = flume_budget_cpu_ns();
  }
  return wall_ns - clock->wall_ns > max_ns && flume_budget_cpu_ns() - clock->cpu_ns > max_ns;
}

static void spend_all(struct flume_budget *budget) {
  if (!flume_budget_is_spent(budget)) budget->is_late = true;
  budget->spent = UINT64_MAX;
}

static bool is_cancelled(const struct flume_budget *budget) {
  return budget->cancelled != NULL && atomic_load_explicit(budget->cancelled, memory_order_relaxed);
}

static bool is_up(struct flume_budget *budget, uint64_t wall_ns) {
  if (is_cancelled(budget) || is_time_up(budget, wall_ns)) spend_all(budget);
  return flume_budget_is_spent(budget);
}

bool flume_budget_is_up(struct flume_budget *budget) {
  if (budget == NULL || budget->steps_max == 0) return false;
  return is_up(budget, now_ns(CLOCK_MONOTONIC));
}

static void on_count(lua_State *L, lua_Debug *activation);

/* The longest interval that is safe in the state as it is. */
static int interval_max(const struct flume_budget *budget) {
  size_t class = FLUME_BUDGET_TEXT_CLASSES - 1;
  while (class > 0 && budget->texts[class] == 0) class --;
  int64_t every = (int64_t)HOOK_TEXT_BYTES >> class;
  if (budget->has_many_values && every > HOOK_EVERY_WITH_MANY_VALUES) every = HOOK_EVERY_WITH_MANY_VALUES;
  return every < 1 ? 1 : every > HOOK_EVERY ? HOOK_EVERY : (int)every;
}

/* At once, in whatever runs: a text that was just made may be used before the hook runs again. Lua allows this from
 * anywhere, as it does from a signal handler. */
static void shorten_interval(struct flume_budget *budget) {
  int max = interval_max(budget);
  if (budget->steps_max == 0 || budget->running == NULL || lua_gethookcount(budget->running) <= max) return;
  lua_sethook(budget->running, on_count, LUA_MASKCOUNT, max);
}

/* --- Large blocks ------------------------------------------------------------------------------------------------ */

struct header {
  size_t text_class; /* 0: no text */
  size_t unused;     /* the block behind stays aligned */
};

static size_t class_of(size_t bytes) {
  size_t class = 0;
  while (bytes >>= 1) class ++;
  return class < FLUME_BUDGET_TEXT_CLASSES ? class : FLUME_BUDGET_TEXT_CLASSES - 1;
}

static void count_large(struct flume_budget *budget, const struct header *header) {
  if (header->text_class != 0) budget->texts[header->text_class]++;
  else budget->large_blocks++;
}

static void discount_large(struct flume_budget *budget, const struct header *header) {
  unsigned *count = header->text_class != 0 ? &budget->texts[header->text_class] : &budget->large_blocks;
  assert(*count > 0);
  --*count;
}

static void *make_large(struct flume_budget *budget, size_t bytes, bool is_text) {
  struct header *header = malloc(sizeof *header + bytes);
  if (header == NULL) return NULL;
  header->text_class = is_text ? class_of(bytes) : 0;
  count_large(budget, header);
  if (is_text) shorten_interval(budget);
  return header + 1;
}

static void free_block(struct flume_budget *budget, void *ptr, size_t bytes) {
  if (bytes < LARGE_BYTES) {
    free(ptr);
    return;
  }
  struct header *header = (struct header *)ptr - 1;
  discount_large(budget, header);
  free(header);
}

/* As realloc, of a block that is not NULL. */
static void *resize_block(struct flume_budget *budget, void *ptr, size_t old_bytes, size_t new_bytes) {
  if (old_bytes < LARGE_BYTES && new_bytes < LARGE_BYTES) return realloc(ptr, new_bytes);
  if (old_bytes >= LARGE_BYTES && new_bytes >= LARGE_BYTES) {
    struct header *resized = realloc((struct header *)ptr - 1, sizeof *resized + new_bytes);
    if (resized == NULL) return NULL;
    return resized + 1; /* what is resized is no text */
  }
  void *made = new_bytes < LARGE_BYTES ? malloc(new_bytes) : make_large(budget, new_bytes, false);
  if (made == NULL) return NULL;
  memcpy(made, ptr, old_bytes < new_bytes ? old_bytes : new_bytes);
  free_block(budget, ptr, old_bytes);
  return made;
}

/* --- Memory ------------------------------------------------------------------------------------------------------ */

/* Where memory is short, Lua collects before it gives up a larger table of strings, and does so again for each string: a
 * library function that makes many would take hours. So it gets a memory error. */
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
  size_t max_bytes = budget->memory_max_bytes, used_bytes = budget->memory_bytes + budget->outside_bytes;
  if (flume_budget_is_spent(budget) && max_bytes < SIZE_MAX - RESERVE_BYTES) max_bytes += RESERVE_BYTES;
  if (more_bytes > max_bytes || used_bytes > max_bytes - more_bytes) {
    flume_budget_take(budget, budget->steps_max / REFUSALS_MAX + 1); /* collecting again and again is no way out */
    return false;
  }
  if (new_bytes < CHARGED_BYTES) return true;
  flume_budget_take(budget, new_bytes / BYTES_PER_STEP);
  if (new_bytes >= LARGE_BYTES) flume_budget_is_up(budget);
  return new_bytes < REFUSED_WHEN_SPENT_BYTES || !flume_budget_is_spent(budget);
}

static bool may_have(struct flume_budget *budget, size_t more_bytes, size_t new_bytes) {
  if (fits(budget, more_bytes, new_bytes)) return !is_to_end(budget);
  budget->refused++;
  return false;
}

/* A block that is as long as a Lua stack would be that doubles. Each step of a chain of __call metamethods moves all
 * arguments up by one slot. Lua versions differ in whether the stack is resized or made again, and a stack may have any
 * length at first: so each block is compared with the one before. */
static void watch_stack(struct flume_budget *budget, size_t new_bytes) {
  struct flume_budget_clock *clock = &budget->clock;
  bool doubles = new_bytes - STACK_EXTRA_BYTES == 2 * (clock->grown_bytes - STACK_EXTRA_BYTES);
  bool is_counted = clock->grown_at != clock->looks;
  uint64_t cpu_ns = flume_budget_cpu_ns();
  if (doubles && !is_counted && cpu_ns - clock->grown_ns > STACK_RUNAWAY_NS) spend_all(budget);
  clock->grown_bytes = new_bytes;
  clock->grown_ns = cpu_ns;
  clock->grown_at = clock->looks;
}

void *flume_budget_alloc(void *ud, void *ptr, size_t old_bytes, size_t new_bytes) {
  struct flume_budget *budget = ud;
  size_t kind = 0;
  void *moved;
  if (ptr == NULL) {
    kind = old_bytes;
    old_bytes = 0;
  }
  if (new_bytes == 0) {
    if (ptr != NULL) free_block(budget, ptr, old_bytes);
    assert(budget->memory_bytes >= old_bytes);
    budget->memory_bytes -= old_bytes;
    return NULL;
  }
  if (new_bytes >= STACK_LARGE_BYTES && kind == 0 && budget->steps_max != 0) watch_stack(budget, new_bytes);
  if (new_bytes > old_bytes && !may_have(budget, new_bytes - old_bytes, new_bytes)) return NULL;
  if (ptr != NULL) moved = resize_block(budget, ptr, old_bytes, new_bytes);
  else moved = new_bytes < LARGE_BYTES ? malloc(new_bytes) : make_large(budget, new_bytes, kind == LUA_TSTRING);
  if (moved == NULL) return NULL;
  budget->memory_bytes += new_bytes - old_bytes;
  return moved;
}

struct flume_budget *flume_budget_of(lua_State *L) {
  void *ud;
  return lua_getallocf(L, &ud) == flume_budget_alloc ? ud : NULL;
}

/* --- Memory of C buffers ------------------------------------------------------------------------------------------ */

struct counted {
  size_t bytes; /* of all, this header included */
  size_t unused;
};

/* flume_io's realloc. */
static void *realloc_counted(void *ctx, void *ptr, size_t size) {
  struct flume_budget *budget = ctx;
  struct counted *block = ptr != NULL ? (struct counted *)ptr - 1 : NULL;
  size_t old_bytes = block != NULL ? block->bytes : 0, new_bytes = sizeof *block + size;
  if (size == 0) {
    assert(budget->memory_bytes >= old_bytes);
    budget->memory_bytes -= old_bytes;
    free(block);
    return NULL;
  }
  if (new_bytes < size) return NULL;
  if (new_bytes > old_bytes && !fits(budget, new_bytes - old_bytes, new_bytes)) return NULL;
  struct counted *resized = realloc(block, new_bytes);
  if (resized == NULL) return NULL;
  resized->bytes = new_bytes;
  budget->memory_bytes += new_bytes - old_bytes;
  return resized + 1;
}

const struct flume_io *flume_budget_io(struct flume_budget *budget) {
  if (budget == NULL) return &flume_io_posix;
  if (budget->io.ctx == NULL) {
    budget->io = flume_io_posix;
    budget->io.ctx = budget;
    budget->io.realloc = realloc_counted;
  }
  return &budget->io;
}

bool flume_budget_set_outside(struct flume_budget *budget, size_t bytes) {
  if (budget == NULL) return true;
  budget->outside_bytes = bytes;
  size_t max_bytes = budget->memory_max_bytes;
  return bytes <= max_bytes && budget->memory_bytes <= max_bytes - bytes;
}

/* --- Steps ------------------------------------------------------------------------------------------------------- */

void flume_budget_explain(const struct flume_budget *budget, char *text, size_t text_bytes) {
  unsigned long long steps = budget->steps_max;
  if (is_cancelled(budget)) snprintf(text, text_bytes, FLUME_BUDGET_SPENT " ended: the view is being closed");
  else if (!budget->is_late) snprintf(text, text_bytes, FLUME_BUDGET_SPENT " of %llu spent", steps);
  else snprintf(text, text_bytes, FLUME_BUDGET_SPENT " of %llu spent: too much processor time", steps);
}

int flume_budget_raise(lua_State *L, const struct flume_budget *budget) {
  char text[120];
  if (lua_gethookcount(L) != HOOK_EVERY_WHEN_SPENT) { /* setting it takes time where the stack is deep */
    lua_sethook(L, on_count, LUA_MASKCOUNT, HOOK_EVERY_WHEN_SPENT);
  }
  flume_budget_explain(budget, text, sizeof text);
  return luaL_error(L, "%s", text);
}

int flume_budget_raise_memory(lua_State *L) {
  return luaL_error(L, "not enough memory");
}

static bool is_main(lua_State *L) {
  int is_main = lua_pushthread(L);
  lua_pop(L, 1);
  return is_main != 0;
}

/* After an interval of so many instructions that took so long. A short one becomes longer again step by step. */
static int next_interval(lua_State *L, const struct flume_budget *budget, int every, uint64_t took_ns) {
  int64_t next = took_ns > HOOK_SLOW_NS ? (int64_t)((uint64_t)every * HOOK_AIM_NS / took_ns) : (int64_t)every * 4;
  int max = interval_max(budget);
  if (next > HOOK_EVERY_IN_COROUTINE && max > HOOK_EVERY_IN_COROUTINE && !is_main(L)) max = HOOK_EVERY_IN_COROUTINE;
  return next < 1 ? 1 : next > max ? max : (int)next;
}

static void on_count(lua_State *L, lua_Debug *activation) {
  struct flume_budget *budget = flume_budget_of(L);
  struct flume_budget_clock *clock = &budget->clock;
  int every = lua_gethookcount(L);
  uint64_t wall_ns = now_ns(CLOCK_MONOTONIC);
  (void)activation;
  clock->looks++;
  is_up(budget, wall_ns);
  flume_budget_charge(L, budget, (uint64_t)every);
  int next = next_interval(L, budget, every, clock->looked_ns != 0 ? wall_ns - clock->looked_ns : 0);
  if (next != every) lua_sethook(L, on_count, LUA_MASKCOUNT, next);
  clock->looked_ns = wall_ns;
}

void flume_budget_begin(lua_State *L, struct flume_budget *budget) {
  assert(budget->closing == 0);
  budget->spent = 0;
  budget->refused = 0;
  budget->refuses = budget->is_late = false;
  budget->named = 0;
  budget->clock.wall_ns = budget->clock.looked_ns = 0;
  budget->running = L;
  if (budget->steps_max == 0) return;
  lua_sethook(L, on_count, LUA_MASKCOUNT, interval_max(budget));
}

void flume_budget_watch(lua_State *co, lua_State *L, struct flume_budget *budget) {
  if (budget == NULL || budget->steps_max == 0) return;
  flume_budget_charge(L, budget, HOOK_EVERY_IN_COROUTINE);
  lua_sethook(co, on_count, LUA_MASKCOUNT, HOOK_EVERY_IN_COROUTINE);
}

lua_State *flume_budget_switch(lua_State *L, struct flume_budget *budget) {
  lua_State *before = budget->running;
  budget->running = L;
  shorten_interval(budget);
  return before;
}

void flume_budget_charge_values(lua_State *L, struct flume_budget *budget, uint64_t count) {
  if (budget == NULL) return;
  if (count > MANY_VALUES && !budget->has_many_values) {
    budget->has_many_values = true;
    shorten_interval(budget);
  }
  flume_budget_charge(L, budget, count);
}
