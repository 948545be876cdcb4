/* A script view's own Lua state: the libraries that can do no harm (or all, for a trusted script), a budget of memory and
 * instructions, and a host object (host.lua) whose functions are called with values that cross as MessagePack.
 *
 * Any thread may call, one at a time: flume_vm_enter waits for the others. A call on the thread that made the state has
 * about a second of processor time; see lua/value/budget.h for the others. */
#ifndef FLUME_LUA_VM_H
#define FLUME_LUA_VM_H

#include <locale.h>
#include <stdatomic.h>

#include "core/base/buf.h"
#include "core/base/err.h"
#include "lua/binding/lua_loop.h"
#include "lua/value/budget.h"

struct flume_vm {
  lua_State *L;
  int host; /* registry reference of the host object, LUA_NOREF before it is loaded */
  uv_mutex_t mutex;
  locale_t locale;    /* while a thread is in: its locale from before; NULL otherwise, or when it wasn't changed */
  uv_thread_t owner;  /* the thread that made the state: that of the caller */
  atomic_bool wanted; /* another thread waits for the state: a long fold should pause */
  struct flume_budget budget;
};

/* A state with at most so much memory and so many steps for one record or call (0: no limit). NULL: no memory. */
struct flume_vm *flume_vm_new(size_t memory_max_bytes, uint64_t steps_max);
/* A state for a script that is trusted: with all of Lua's library, and without a limit of steps. memory_max_bytes is 0
 * for no limit. NULL: no memory. */
struct flume_vm *flume_vm_new_trusted(size_t memory_max_bytes);
void flume_vm_free(struct flume_vm *vm);

void flume_vm_enter(struct flume_vm *vm);
void flume_vm_leave(struct flume_vm *vm);

/* Runs host.lua, compiled, and calls the function that it returns with the arguments; the table that this one
 * returns becomes the host object. FLUME_EVIEW, FLUME_ENOMEM. */
int flume_vm_load(struct flume_vm *vm, const char *source, size_t source_len, const struct flume_buf *args,
                  struct flume_err *err);

/* Calls host[name](args...). args and results are arrays, see flume_values_put. Within enter and leave. */
int flume_vm_call(struct flume_vm *vm, const char *name, const struct flume_buf *args, struct flume_buf *results,
                  struct flume_err *err);

/* Appends the values from first to last (stack indexes) as one array. Raises nothing. Errors: flume_marshal_encode. */
int flume_values_put(lua_State *L, int first, int last, struct flume_buf *out, struct flume_err *err);
/* Pushes the values of such an array; the number of them, or FLUME_ECORRUPT. Raises memory errors. */
int flume_values_push(lua_State *L, const struct flume_buf *values);

/* Puts read_file, list_dir, fingerprint, fingerprint_bytes and required into the table on top. */
void flume__vm_open(lua_State *L);

#endif
