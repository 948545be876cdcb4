/* The versions of a view on a disk that crashes (sim.h): after each operation of a change of versions every allowed
 * combination of what is left is looked at, after a kill too. One version is active, the last one that was acknowledged
 * or the one that was on its way, and all of it is there. */
#include "view/view_dir.h"

#include "sim.h"
#include "support.h"

#define VIEW "/db/views/v"
#define VERSIONS 4

struct moment {
  struct sim_fs *fs;
  uint32_t acked; /* the active version; 0 for none */
  uint32_t begun; /* the last one that was to become it */
};

struct history {
  struct moment moments[400];
  int count;
  uint32_t acked;
  uint32_t begun;
};

static struct flume_err err;
static uint64_t states;

static void keep_moment(struct sim *sim, void *arg) {
  struct history *history = arg;
  MUST(history->count < 400);
  history->moments[history->count++] = (struct moment){sim_fs_copy(sim->fs), history->acked, history->begun};
}

static void data_path(char *path, uint32_t number) {
  snprintf(path, 64, "%s/%u", VIEW, (unsigned)number);
}

static bool is_whole(const struct flume_io *io, uint32_t number) {
  char path[64];
  struct flume_buf data;
  data_path(path, number);
  flume_buf_init(&data, io);
  bool whole = flume_view_dir_read(io, path, "data.mdb", &data, &err) == 0 && data.len == 1500 &&
               payload_is(data.data, data.len, number);
  flume_buf_fini(&data);
  return whole;
}

/* Makes version after version, each the active one in its turn, and removes the one before, as a mount does: what else
 * lies there is swept away first. */
static void change_versions(const struct flume_io *io, struct history *history, uint32_t from, uint32_t to) {
  char path[64];
  uint8_t *data;
  if (from > 0) CHECK_INT_EQ(flume_view_dir_sweep(io, VIEW, &from, 1, &err), 0);
  for (uint32_t number = from + 1; number <= to; number++) {
    data_path(path, number);
    data = payload_new(1500, number);
    CHECK_INT_EQ(flume_view_dir_write(io, path, "data.mdb", data, 1500, &err), 0);
    free(data);
    history->begun = number;
    CHECK_INT_EQ(flume_view_dir_activate(io, VIEW, number, &err), 0);
    history->acked = number;
    if (number > 1) CHECK_INT_EQ(flume_view_dir_remove(io, VIEW, number - 1, &err), 0);
  }
}

/* What is active now, when it keeps what was promised; else -1. */
static int64_t active_of(const struct flume_io *io, uint32_t acked, uint32_t begun) {
  uint32_t number = 0;
  if (!CHECK_INT_EQ(flume_view_dir_active(io, VIEW, &number, &err), 0)) return -1;
  bool good = CHECK(number >= acked && number <= begun) && CHECK(number == 0 || is_whole(io, number));
  return good ? (int64_t)number : -1;
}

static void try_each(struct history *history, bool again);

/* Takes fs over: a process comes, and goes on from there. */
static bool try_left(struct sim_fs *fs, const struct moment *moment, bool again) {
  struct sim sim;
  struct history *next = calloc(1, sizeof *next);
  MUST(next != NULL);
  sim_init(&sim, fs);
  states++;
  int64_t active = active_of(&sim.io, moment->acked, moment->begun);
  next->acked = moment->acked;
  next->begun = moment->begun;
  sim.on_change = again ? keep_moment : NULL;
  sim.arg = next;
  if (active >= 0) change_versions(&sim.io, next, (uint32_t)active, (uint32_t)active + 1);
  if (active >= 0) active = active_of(&sim.io, next->acked, next->begun);
  CHECK_INT_EQ(sim_open_files(&sim), 0);
  CHECK_INT_EQ(atomic_load(&sim.allocations), 0);
  if (again && active >= 0) try_each(next, false);
  for (int i = 0; i < next->count; i++) sim_fs_free(next->moments[i].fs);
  free(next);
  sim_fini(&sim);
  return active >= 0 && !test_failed;
}

static void try_each(struct history *history, bool again) {
  struct sim_limits limits = {.exhaustive_items = 8, .random_subsets = 16};
  struct sim_crashes crashes;
  for (int i = 0; i < history->count && !test_failed; i++) {
    const struct moment *moment = &history->moments[i];
    sim_crashes_init(&crashes, moment->fs, limits, 1);
    while (!test_failed && sim_crashes_next(&crashes)) {
      if (try_left(sim_fs_crash(moment->fs, crashes.survives), moment, false)) continue;
      printf("the power went after operation %d of %d with%s\n", i + 1, history->count, sim_crashes_text(&crashes));
    }
    if (!again || test_failed) continue;
    if (!try_left(sim_fs_copy(moment->fs), moment, true)) printf("killed after operation %d\n", i + 1);
  }
}

TEST(change_of_versions_crashes) {
  static struct history history;
  struct sim sim;
  sim_init(&sim, sim_fs_new());
  sim.on_change = keep_moment;
  sim.arg = &history;
  change_versions(&sim.io, &history, 0, VERSIONS);
  try_each(&history, true);
  for (int i = 0; i < history.count; i++) sim_fs_free(history.moments[i].fs);
  sim_fini(&sim);
  printf("views: %llu crash states after %d operations\n", (unsigned long long)states, history.count);
}
