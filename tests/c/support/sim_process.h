/* Processes on a simulated machine: several, of many threads each, run by one thread of this program.
 *
 * A simulated process has an event loop, and a struct flume_io whose files are on the simulated disk (sim.h), whose
 * clock is the machine's, and whose pool (loop/pool.h) runs nothing by itself. What libuv would do on threads, or by
 * its own clock, is kept in lists: jobs and alarms of the pool, works of uv_queue_work, timers. The test takes from
 * the lists whatever it likes, in any order. For that the linker wraps some of libuv's functions; see the Makefile.
 *
 * A job may be interrupted where it holds no lock: sim_interrupted() lets the test take further steps, on other
 * threads, before the job goes on. Interruptions nest. uv_thread_self answers the simulated thread.
 *
 * A crash gives back all memory and closes all files of all processes, and abandons what they were at. It must not
 * happen while a loop runs: libuv keeps lists on the stack meanwhile.
 *
 * Files below machine.real_dir are real ones: LMDB uses no struct flume_io. To be included once a program. */
#ifndef FLUME_TEST_SIM_PROCESS_H
#define FLUME_TEST_SIM_PROCESS_H

#include <setjmp.h>

#include "loop/pool.h"

#include "sim.h"
#include "support.h"

#define SIM_PROCESSES 2
#define SIM_LIST_MAX 64
#define SIM_DEPTH_MAX 3
#define SIM_DISK_FILE 100000 /* files on the simulated disk have the numbers from here on: LMDB's are real ones */
#define SIM_OUTSIDE 9999     /* the thread that only looks */
#define SIM_WORKER 100 /* threads: workers have the numbers from here on, by depth; owners those of the processes */

struct sim_process {
  struct flume_io io;
  uv_loop_t loop;
  bool has_loop;
  bool owner_busy; /* its owner thread is at something, perhaps interrupted */
  /* Which write, sync or allocation from now on fails, counted from 1; 0: none. */
  int failing_write, failing_sync, failing_alloc;
  int write_error; /* what the failing write answers */
};

struct sim_work {
  uv_work_t *req;
  uv_work_cb run;
  uv_after_work_cb after;
  struct sim_process *process;
  enum { SIM_WORK_WAITS, SIM_WORK_RUNS, SIM_WORK_RAN } state;
};

struct sim_timer {
  uv_timer_t *timer;
  uv_timer_cb cb;
  uint64_t at_ns;
  uint64_t repeat_ns;
};

struct sim_job {
  struct flume_job *job;
  struct sim_process *process;
};

struct sim_allocation {
  struct sim_allocation *next, *prev;
  size_t size;
  size_t pad;
};

static struct machine {
  struct sim disk;
  struct sim_process processes[SIM_PROCESSES];
  char real_dir[TEST_PATH_MAX];
  uint64_t random;
  uint64_t now_ns;
  struct sim_job jobs[SIM_LIST_MAX];
  int jobs_count;
  struct flume_alarm *alarms[SIM_LIST_MAX];
  int alarms_count;
  struct sim_work works[SIM_LIST_MAX];
  int works_count;
  struct sim_timer timers[SIM_LIST_MAX];
  int timers_count;
  struct sim_allocation allocations;
  long allocations_count;
  uv_thread_t thread; /* the simulated one */
  int depth;          /* of interruptions */
  int locks_held;     /* by whoever is at work, or was interrupted */
  int uninterrupted;  /* > 0: no interruption now */
  bool is_plain;      /* nothing happens by chance but what the test asks for */
  unsigned patience;  /* one in so many places is an interruption; 0: none is */
} machine;

/* --- Chance ----------------------------------------------------------------------------------------------------- */

static uint64_t sim_random(void) {
  uint64_t z = (machine.random += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

static unsigned sim_below(unsigned limit) {
  return (unsigned)(sim_random() >> 32) % limit;
}

/* Never, on a machine that is plain. */
static bool sim_one_in(unsigned n) {
  return !machine.is_plain && sim_below(n) == 0;
}

/* --- Memory ----------------------------------------------------------------------------------------------------- */

static bool sim_fails(int *countdown) {
  return *countdown > 0 && --*countdown == 0;
}

static void sim_free(void *ptr) {
  if (ptr == NULL) return;
  struct sim_allocation *allocation = (struct sim_allocation *)ptr - 1;
  allocation->prev->next = allocation->next;
  allocation->next->prev = allocation->prev;
  machine.allocations_count--;
  free(allocation);
}

static void *sim_process_realloc(void *ctx, void *ptr, size_t size) {
  struct sim_process *process = ctx;
  if (size == 0) {
    sim_free(ptr);
    return NULL;
  }
  if (sim_fails(&process->failing_alloc)) return NULL;
  struct sim_allocation *allocation = malloc(sizeof *allocation + size);
  MUST(allocation != NULL);
  allocation->size = size;
  allocation->next = machine.allocations.next;
  allocation->prev = &machine.allocations;
  allocation->next->prev = allocation->prev->next = allocation;
  machine.allocations_count++;
  if (ptr != NULL) {
    size_t old = ((struct sim_allocation *)ptr - 1)->size;
    memcpy(allocation + 1, ptr, old < size ? old : size);
    sim_free(ptr);
  }
  return allocation + 1;
}

/* --- Interruptions ---------------------------------------------------------------------------------------------- */

static void sim_interrupted(void); /* the test's: takes some steps */

/* A place where the thread may be interrupted. */
static void sim_pause(void) {
  if (machine.patience == 0 || machine.locks_held > 0 || machine.uninterrupted > 0) return;
  if (machine.depth >= SIM_DEPTH_MAX || !sim_one_in(machine.patience)) return;
  machine.depth++;
  uv_thread_t thread = machine.thread;
  sim_interrupted();
  machine.thread = thread;
  machine.depth--;
  MUST(machine.locks_held == 0);
}

/* --- Files ------------------------------------------------------------------------------------------------------ */

static bool sim_is_real(const char *path) {
  return strncmp(path, machine.real_dir, strlen(machine.real_dir)) == 0;
}

static const struct flume_io *sim_io_of(const char *path) {
  return sim_is_real(path) ? &flume_io_posix : &machine.disk.io;
}

static int sim_process_open(void *ctx, const char *path, int mode) {
  (void)ctx;
  if (sim_is_real(path)) return flume_io_posix.open(NULL, path, mode);
  int file = machine.disk.io.open(&machine.disk, path, mode);
  return file < 0 ? file : file + SIM_DISK_FILE;
}

static int sim_process_close(void *ctx, int file) {
  (void)ctx;
  if (file < SIM_DISK_FILE) return flume_io_posix.close(NULL, file);
  return machine.disk.io.close(&machine.disk, file - SIM_DISK_FILE);
}

static int64_t sim_process_read(void *ctx, int file, void *data, size_t len, uint64_t off) {
  (void)ctx;
  sim_pause();
  if (file < SIM_DISK_FILE) return flume_io_posix.read(NULL, file, data, len, off);
  return machine.disk.io.read(&machine.disk, file - SIM_DISK_FILE, data, len, off);
}

static int64_t sim_process_write(void *ctx, int file, const void *data, size_t len, uint64_t off) {
  struct sim_process *process = ctx;
  sim_pause();
  if (sim_fails(&process->failing_write)) return process->write_error;
  if (file < SIM_DISK_FILE) return flume_io_posix.write(NULL, file, data, len, off);
  return machine.disk.io.write(&machine.disk, file - SIM_DISK_FILE, data, len, off);
}

static int sim_process_sync(void *ctx, int file) {
  struct sim_process *process = ctx;
  sim_pause();
  bool fails = sim_fails(&process->failing_sync);
  if (file < SIM_DISK_FILE) return fails ? UV_EIO : 0;
  machine.disk.failing_sync = fails ? atomic_load(&machine.disk.syncs) + 1 : 0;
  return machine.disk.io.sync(&machine.disk, file - SIM_DISK_FILE);
}

static int sim_process_truncate(void *ctx, int file, uint64_t len) {
  (void)ctx;
  if (file < SIM_DISK_FILE) return flume_io_posix.truncate(NULL, file, len);
  return machine.disk.io.truncate(&machine.disk, file - SIM_DISK_FILE, len);
}

static int64_t sim_process_size(void *ctx, int file) {
  (void)ctx;
  if (file < SIM_DISK_FILE) return flume_io_posix.size(NULL, file);
  return machine.disk.io.size(&machine.disk, file - SIM_DISK_FILE);
}

static int sim_process_rename(void *ctx, const char *from, const char *to) {
  struct sim_process *process = ctx;
  sim_pause();
  if (sim_fails(&process->failing_write)) return process->write_error;
  return sim_io_of(from)->rename(&machine.disk, from, to);
}

static int sim_process_unlink(void *ctx, const char *path) {
  (void)ctx;
  sim_pause();
  return sim_io_of(path)->unlink(&machine.disk, path);
}

static int sim_process_mkdir(void *ctx, const char *path) {
  (void)ctx;
  return sim_io_of(path)->mkdir(&machine.disk, path);
}

static int sim_process_rmdir(void *ctx, const char *path) {
  (void)ctx;
  return sim_io_of(path)->rmdir(&machine.disk, path);
}

static int sim_process_sync_dir(void *ctx, const char *path) {
  struct sim_process *process = ctx;
  sim_pause();
  if (sim_fails(&process->failing_sync)) return UV_EIO;
  return sim_is_real(path) ? 0 : machine.disk.io.sync_dir(&machine.disk, path);
}

static int sim_process_list(void *ctx, const char *path, int (*each)(void *arg, const char *name), void *arg) {
  (void)ctx;
  return sim_io_of(path)->list(&machine.disk, path, each, arg);
}

static int sim_process_lock(void *ctx, int file, char *holder, size_t holder_bytes) {
  (void)ctx;
  return machine.disk.io.lock(&machine.disk, file - SIM_DISK_FILE, holder, holder_bytes);
}

static int sim_process_locked(void *ctx, int file) {
  (void)ctx;
  return machine.disk.io.locked(&machine.disk, file - SIM_DISK_FILE);
}

static int sim_process_is_at(void *ctx, int file, const char *path) {
  (void)ctx;
  return machine.disk.io.is_at(&machine.disk, file - SIM_DISK_FILE, path);
}

static int sim_process_has_events(void *ctx, const char *path) {
  (void)ctx;
  (void)path;
  return UV_ENOTSUP;
}

static uint64_t sim_process_now_ms(void *ctx) {
  (void)ctx;
  return 1700000000000u + machine.now_ns / 1000000;
}

static uint64_t sim_process_hrtime_ns(void *ctx) {
  (void)ctx;
  return machine.now_ns;
}

/* --- Jobs and alarms -------------------------------------------------------------------------------------------- */

static void sim_process_submit(void *ctx, struct flume_job *job) {
  MUST(machine.jobs_count < SIM_LIST_MAX && job->done == NULL);
  machine.jobs[machine.jobs_count++] = (struct sim_job){job, ctx};
}

static void sim_process_set_alarm(void *ctx, struct flume_alarm *alarm, uint64_t at_ns) {
  (void)ctx;
  int i = 0;
  while (i < machine.alarms_count && machine.alarms[i] != alarm) i++;
  if (i == machine.alarms_count) {
    if (at_ns == 0) return;
    MUST(machine.alarms_count < SIM_LIST_MAX);
    machine.alarms[machine.alarms_count++] = alarm;
  }
  alarm->at_ns = at_ns;
  if (at_ns == 0) machine.alarms[i] = machine.alarms[--machine.alarms_count];
}

bool __wrap_flume_pool_is_wanted(struct flume_pool *pool);

bool __wrap_flume_pool_is_wanted(struct flume_pool *pool) {
  (void)pool;
  return sim_one_in(4);
}

/* --- libuv ------------------------------------------------------------------------------------------------------ */

void __real_uv_mutex_lock(uv_mutex_t *mutex);
void __wrap_uv_mutex_lock(uv_mutex_t *mutex);
void __real_uv_mutex_unlock(uv_mutex_t *mutex);
void __wrap_uv_mutex_unlock(uv_mutex_t *mutex);
uv_thread_t __wrap_uv_thread_self(void);
int __wrap_uv_random(uv_loop_t *loop, uv_random_t *req, void *data, size_t len, unsigned flags, uv_random_cb cb);
int __wrap_uv_queue_work(uv_loop_t *loop, uv_work_t *req, uv_work_cb run, uv_after_work_cb after);
int __wrap_uv_timer_start(uv_timer_t *timer, uv_timer_cb cb, uint64_t timeout_ms, uint64_t repeat_ms);
int __wrap_uv_timer_stop(uv_timer_t *timer);
void __real_uv_close(uv_handle_t *handle, uv_close_cb cb);
void __wrap_uv_close(uv_handle_t *handle, uv_close_cb cb);

void __wrap_uv_mutex_lock(uv_mutex_t *mutex) {
  MUST(uv_mutex_trylock(mutex) == 0); /* whoever has it would never let go of it */
  machine.locks_held++;
}

void __wrap_uv_mutex_unlock(uv_mutex_t *mutex) {
  MUST(machine.locks_held > 0);
  machine.locks_held--;
  __real_uv_mutex_unlock(mutex);
}

uv_thread_t __wrap_uv_thread_self(void) {
  return machine.thread;
}

int __wrap_uv_random(uv_loop_t *loop, uv_random_t *req, void *data, size_t len, unsigned flags, uv_random_cb cb) {
  (void)loop;
  (void)req;
  (void)flags;
  (void)cb;
  for (size_t i = 0; i < len; i++) ((uint8_t *)data)[i] = (uint8_t)(sim_random() >> 32);
  return 0;
}

static struct sim_process *sim_process_of(const uv_loop_t *loop) {
  for (int i = 0; i < SIM_PROCESSES; i++) {
    if (&machine.processes[i].loop == loop) return &machine.processes[i];
  }
  MUST(false);
  return NULL;
}

int __wrap_uv_queue_work(uv_loop_t *loop, uv_work_t *req, uv_work_cb run, uv_after_work_cb after) {
  MUST(machine.works_count < SIM_LIST_MAX);
  req->loop = loop;
  machine.works[machine.works_count++] = (struct sim_work){req, run, after, sim_process_of(loop), SIM_WORK_WAITS};
  return 0;
}

int __wrap_uv_timer_stop(uv_timer_t *timer) {
  for (int i = 0; i < machine.timers_count; i++) {
    if (machine.timers[i].timer != timer) continue;
    machine.timers[i] = machine.timers[--machine.timers_count];
    break;
  }
  return 0;
}

int __wrap_uv_timer_start(uv_timer_t *timer, uv_timer_cb cb, uint64_t timeout_ms, uint64_t repeat_ms) {
  __wrap_uv_timer_stop(timer);
  MUST(machine.timers_count < SIM_LIST_MAX);
  machine.timers[machine.timers_count++] =
      (struct sim_timer){timer, cb, machine.now_ns + timeout_ms * 1000000, repeat_ms * 1000000};
  return 0;
}

void __wrap_uv_close(uv_handle_t *handle, uv_close_cb cb) {
  if (handle->type == UV_TIMER) __wrap_uv_timer_stop((uv_timer_t *)handle);
  __real_uv_close(handle, cb);
}

/* --- Steps: each answers whether there was such a thing to do --------------------------------------------------- */

/* Begins something on a thread of the process; the caller ends it. */
static void sim_enter_owner(struct sim_process *process) {
  MUST(!process->owner_busy);
  process->owner_busy = true;
  machine.thread = (uv_thread_t)(process - machine.processes + 1);
}

static void sim_leave_owner(struct sim_process *process) {
  process->owner_busy = false;
  machine.thread = SIM_OUTSIDE;
}

static bool sim_run_job(void) {
  if (machine.jobs_count == 0) return false;
  int i = (int)sim_below((unsigned)machine.jobs_count);
  struct flume_job *job = machine.jobs[i].job;
  memmove(machine.jobs + i, machine.jobs + i + 1, (size_t)(--machine.jobs_count - i) * sizeof *machine.jobs);
  machine.thread = (uv_thread_t)(SIM_WORKER + machine.depth);
  job->run(job);
  machine.thread = SIM_OUTSIDE;
  return true;
}

static bool sim_ring_alarm(void) {
  for (int i = 0; i < machine.alarms_count; i++) {
    struct flume_alarm *alarm = machine.alarms[i];
    if (alarm->at_ns > machine.now_ns) continue;
    machine.alarms[i] = machine.alarms[--machine.alarms_count];
    alarm->at_ns = 0;
    machine.thread = (uv_thread_t)(2 * SIM_WORKER + machine.depth);
    alarm->run(alarm);
    machine.thread = SIM_OUTSIDE;
    return true;
  }
  return false;
}

static bool sim_run_work(void) {
  for (int i = 0; i < machine.works_count; i++) {
    struct sim_work *work = &machine.works[i];
    if (work->state != SIM_WORK_WAITS) continue;
    uv_work_t *req = work->req;
    work->state = SIM_WORK_RUNS;
    machine.thread = (uv_thread_t)(SIM_WORKER + machine.depth);
    work->run(req);
    machine.thread = SIM_OUTSIDE;
    for (int j = 0; j < machine.works_count; j++) {
      if (machine.works[j].req == req) machine.works[j].state = SIM_WORK_RAN;
    }
    return true;
  }
  return false;
}

static bool sim_end_work(struct sim_process *process) {
  for (int i = 0; i < machine.works_count && !process->owner_busy; i++) {
    struct sim_work work = machine.works[i];
    if (work.state != SIM_WORK_RAN || work.process != process) continue;
    memmove(machine.works + i, machine.works + i + 1, (size_t)(--machine.works_count - i) * sizeof *machine.works);
    sim_enter_owner(process);
    work.after(work.req, 0);
    sim_leave_owner(process);
    return true;
  }
  return false;
}

static bool sim_fire_timer(struct sim_process *process) {
  for (int i = 0; i < machine.timers_count && !process->owner_busy; i++) {
    struct sim_timer timer = machine.timers[i];
    if (timer.at_ns > machine.now_ns || timer.timer->loop != &process->loop) continue;
    if (timer.repeat_ns > 0) machine.timers[i].at_ns = machine.now_ns + timer.repeat_ns;
    else __wrap_uv_timer_stop(timer.timer);
    sim_enter_owner(process);
    timer.cb(timer.timer);
    sim_leave_owner(process);
    return true;
  }
  return false;
}

static bool sim_turn_loop(struct sim_process *process) {
  if (!process->has_loop || process->owner_busy) return false;
  sim_enter_owner(process);
  uv_run(&process->loop, UV_RUN_NOWAIT);
  sim_leave_owner(process);
  return true;
}

/* To the next moment at which something is due, or by a little. */
static void sim_pass_time(void) {
  uint64_t next = machine.now_ns + 1000000 + sim_below(50000000);
  if (sim_one_in(3)) {
    for (int i = 0; i < machine.alarms_count; i++) {
      if (machine.alarms[i]->at_ns > next) next = machine.alarms[i]->at_ns;
    }
  }
  if (sim_one_in(8)) next += 1000000000u;
  machine.now_ns = next;
}

/* --- Beginning and end ------------------------------------------------------------------------------------------ */

static void sim_process_init(struct sim_process *process) {
  memset(process, 0, sizeof *process);
  process->io = (struct flume_io){.ctx = process,
                                  .realloc = sim_process_realloc,
                                  .open = sim_process_open,
                                  .close = sim_process_close,
                                  .read = sim_process_read,
                                  .write = sim_process_write,
                                  .sync = sim_process_sync,
                                  .truncate = sim_process_truncate,
                                  .size = sim_process_size,
                                  .rename = sim_process_rename,
                                  .unlink = sim_process_unlink,
                                  .mkdir = sim_process_mkdir,
                                  .rmdir = sim_process_rmdir,
                                  .sync_dir = sim_process_sync_dir,
                                  .list = sim_process_list,
                                  .lock = sim_process_lock,
                                  .locked = sim_process_locked,
                                  .is_at = sim_process_is_at,
                                  .has_events = sim_process_has_events,
                                  .now_ms = sim_process_now_ms,
                                  .hrtime_ns = sim_process_hrtime_ns,
                                  .submit = sim_process_submit,
                                  .set_alarm = sim_process_set_alarm};
}

/* A machine with an empty disk. */
static void sim_machine_init(uint64_t seed, const char *real_dir) {
  memset(&machine, 0, sizeof machine);
  machine.random = seed;
  machine.now_ns = 1000000000u;
  machine.thread = SIM_OUTSIDE;
  machine.allocations.next = machine.allocations.prev = &machine.allocations;
  snprintf(machine.real_dir, sizeof machine.real_dir, "%s", real_dir);
  sim_init(&machine.disk, sim_fs_new());
  for (int i = 0; i < SIM_PROCESSES; i++) sim_process_init(&machine.processes[i]);
}

static void sim_loop_open(struct sim_process *process) {
  MUST(!process->has_loop && uv_loop_init(&process->loop) == 0);
  process->has_loop = true;
}

static void sim_abandon_handle(uv_handle_t *handle, void *arg) {
  (void)arg;
  if (uv_is_closing(handle)) handle->close_cb = NULL;
  else __real_uv_close(handle, NULL);
}

/* Without a word to those who have handles in it. */
static void sim_loop_abandon(struct sim_process *process) {
  if (!process->has_loop) return;
  uv_walk(&process->loop, sim_abandon_handle, NULL);
  while (uv_loop_alive(&process->loop)) uv_run(&process->loop, UV_RUN_NOWAIT);
  uv_run(&process->loop, UV_RUN_NOWAIT);
  MUST(uv_loop_close(&process->loop) == 0);
  process->has_loop = false;
}

/* All processes are gone; the stores that they had open have been closed. */
static void sim_machine_abandon(void) {
  for (int i = 0; i < SIM_PROCESSES; i++) {
    sim_loop_abandon(&machine.processes[i]);
    sim_process_init(&machine.processes[i]);
  }
  while (machine.allocations.next != &machine.allocations) sim_free(machine.allocations.next + 1);
  for (int i = 0; i < SIM_HANDLES_MAX; i++) machine.disk.handles[i] = (struct sim_handle){.inode = -1};
  machine.jobs_count = machine.alarms_count = machine.works_count = machine.timers_count = 0;
  machine.depth = machine.locks_held = machine.uninterrupted = 0;
  machine.thread = SIM_OUTSIDE;
}

/* What is left on disk when the power goes: what is durable, and each other change or none, by chance. */
static void sim_power_cut(void) {
  static bool survives[SIM_ITEMS_MAX];
  const struct sim_fs *fs = machine.disk.fs;
  static bool lost[SIM_INODES_MAX];
  unsigned chance = sim_below(3); /* none, half, all */
  memset(lost, 0, sizeof lost);
  for (int i = 0; i < fs->items_count; i++) {
    const struct sim_item *item = &fs->items[i];
    survives[i] = chance == 2 || (chance == 1 && sim_one_in(2));
    if (item->kind != SIM_SIZE) continue;
    if (lost[item->inode]) survives[i] = false; /* the sizes of a file survive in their order */
    lost[item->inode] = !survives[i];
  }
  struct sim_fs *left = sim_fs_crash(fs, survives);
  sim_fs_free(machine.disk.fs);
  machine.disk.fs = left;
}

static void sim_machine_fini(void) {
  sim_fini(&machine.disk);
}

#endif
