/* Crashes while a store commits, and while it is written anew. LMDB does its own I/O: its system calls are recorded (see
 * recorded.h). After each of them every allowed combination of what is left is written out and opened: it holds exactly what
 * one of the commits left, the last acknowledged one or a later one, and goes on; and while it goes on, it crashes again. */
#include "store/store.h"
#include "view/view_dir.h"

#include "syscall_recorder.h"

#define COMMITS 14
#define KEYS 12
#define REWRITES 4
#define SAMPLE_STATES 400
#define SECOND_EVERY 40 /* after so many states the second crash is looked at too */
#define SECOND_SAMPLE 20
#define SECOND_STATES 200

static uint64_t states;

/* --- What is committed ----------------------------------------------------------------------------------------- */

static struct flume_err err;

static uint32_t state_len(int64_t commit) {
  static const uint32_t lens[] = {10, 300, 5000, 0, 20000};
  return lens[commit % 5];
}

/* Commit i sets some of the keys; the last one that did, up to `commit`, or -1. */
static bool sets_key(int64_t commit, int key) {
  return (commit * 7 + key * 3) % 4 == 0 || commit == 0;
}

static int64_t setter_of(int64_t commit, int key) {
  while (commit >= 0 && !sets_key(commit, key)) commit--;
  return commit;
}

static uint32_t value_len(int64_t commit, int key) {
  return 8 + (uint32_t)(commit * 37 + key * 101) % 900;
}

static struct flume_store_meta meta_of(int64_t commit) {
  return (struct flume_store_meta){
      .since = commit, .fingerprint = (uint64_t)commit * 3, .deletions = commit / 2};
}

static int put_commit(struct flume_store *store, int64_t commit) {
  uint8_t *state = payload_new(state_len(commit), (uint64_t)commit + 1);
  int rv = flume_store_put_state(store, state, state_len(commit), &err);
  free(state);
  for (int key = 0; rv == 0 && key < KEYS; key++) {
    uint8_t name = (uint8_t)key, value[1000];
    if (!sets_key(commit, key)) continue;
    payload_fill(value, value_len(commit, key), (uint64_t)(commit * 100 + key));
    rv = flume_store_put_group(store, &name, 1, value, value_len(commit, key), &err);
    if (rv == 0) rv = flume_store_add_entry(store, &name, 1, commit, value, 8, &err);
  }
  struct flume_store_meta meta = meta_of(commit);
  return rv == 0 ? flume_store_commit(store, &meta, &err) : rv;
}

static bool state_is(struct flume_store *store, int64_t commit) {
  struct flume_buf state;
  flume_buf_init(&state, &flume_io_posix);
  bool good = CHECK_INT_EQ(flume_store_get_state(store, &state, &err), 0) &&
              CHECK(state.len == state_len(commit) && payload_is(state.data, state.len, (uint64_t)commit + 1));
  flume_buf_fini(&state);
  return good;
}

static bool groups_are(struct flume_store *store, int64_t commit) {
  for (int key = 0; key < KEYS; key++) {
    uint8_t name = (uint8_t)key;
    int64_t setter = setter_of(commit, key);
    uint32_t len = value_len(setter, key);
    struct flume_buf value;
    flume_buf_init(&value, &flume_io_posix);
    bool good = CHECK_INT_EQ(flume_store_get_group(store, &name, 1, &value, &err), 0) &&
                CHECK(value.len == len && payload_is(value.data, len, (uint64_t)(setter * 100 + key)));
    flume_buf_fini(&value);
    if (!good) return false;
  }
  return true;
}

static bool entries_are(struct flume_store *store, int64_t commit) {
  struct flume_store_cursor *cursor;
  struct flume_store_range range;
  struct flume_store_entry entry;
  flume_store_range_init(&range);
  if (!CHECK_INT_EQ(flume_store_cursor_open(&cursor, store, FLUME_STORE_INDEX, &range, &err), 0)) return false;
  int64_t count = 0, expected = 0;
  int rv;
  bool good = true;
  while ((rv = flume_store_cursor_next(cursor, &entry, &err)) == 1) {
    count++;
    good = good && entry.key_len == 1 && entry.seq <= commit && sets_key(entry.seq, entry.key[0]);
  }
  flume_store_cursor_close(cursor);
  for (int64_t i = 0; i <= commit; i++) {
    for (int key = 0; key < KEYS; key++) expected += sets_key(i, key);
  }
  return CHECK(good) && CHECK_INT_EQ(rv, 0) && CHECK_INT_EQ(count, expected);
}

/* --- What is left ---------------------------------------------------------------------------------------------- */

/* A view's directory with one version or two, the active one of which is a store. */
struct view {
  char dir[TEST_PATH_MAX];
  uint32_t number;
};

static struct flume_store *open_store(const struct view *view, enum flume_store_access access) {
  char path[TEST_PATH_MAX + 16];
  struct flume_store *store;
  snprintf(path, sizeof path, "%s/%u", view->dir, (unsigned)view->number);
  MUST(flume_store_open(&store, &flume_io_posix, path, access, &err) == 0);
  return store;
}

/* Before the first commit the file may be anything. It is nobody's loss: a view whose store can't be read is built anew,
 * in another directory. */
static bool holds_a_commit(struct flume_store *store, int64_t acked, int64_t begun, int64_t *commit) {
  struct flume_store_meta meta;
  int rv = flume_store_load(store, &meta, &err);
  *commit = -1;
  if (rv != 0 && acked == 0) return true;
  if (!CHECK_INT_EQ(rv, 0)) printf("%s\n", err.msg);
  if (rv != 0) return false;
  *commit = meta.since;
  bool good = CHECK(meta.since >= acked - 1) && CHECK(meta.since < begun);
  good = good && CHECK(meta.fingerprint == (uint64_t)meta.since * 3 && meta.deletions == meta.since / 2);
  good = good && CHECK(flume_store_erased(store, &err) <= meta.deletions);
  return good && state_is(store, meta.since) && groups_are(store, meta.since) && entries_are(store, meta.since);
}

/* The store that the view has now is written anew, as the version with the next number. */
static void write_anew(struct view *view, int64_t commit) {
  struct flume_store *store = open_store(view, FLUME_STORE_WRITE);
  struct flume_store_rewrite *rewrite;
  struct flume_store_meta meta = meta_of(commit);
  char path[TEST_PATH_MAX + 8];
  snprintf(path, sizeof path, "%s/%s", view->dir, FLUME_VIEW_DIR_NEW);
  CHECK_INT_EQ(flume_store_rewrite_begin(&rewrite, store, path, &meta, &err), 0);
  int rv;
  while ((rv = flume_store_rewrite_step(rewrite, &err)) == 1) continue;
  CHECK_INT_EQ(rv, 0);
  flume_store_rewrite_free(rewrite);
  CHECK_INT_EQ(flume_view_dir_number(&flume_io_posix, view->dir, view->number + 1, &err), 0);
  CHECK_INT_EQ(flume_view_dir_activate(&flume_io_posix, view->dir, view->number + 1, &err), 0);
  flume_store_close(store);
  CHECK_INT_EQ(flume_view_dir_remove(&flume_io_posix, view->dir, view->number, &err), 0);
  view->number++;
}

static uint64_t try_each(const struct recording *record, const char *dir, int depth);

/* What a process does that finds what is left: takes up the active version, sweeps the others away, commits, and writes it
 * anew. */
static bool go_on(struct view *view, const struct moment *moment, struct recording *record) {
  int64_t commit;
  err.code = 0;
  MUST(flume_view_dir_active(&flume_io_posix, view->dir, &view->number, &err) == 0);
  if (view->number == FLUME_VIEW_DIR_NONE) view->number = 1;
  struct flume_store *store = open_store(view, FLUME_STORE_WRITE);
  bool good = holds_a_commit(store, moment->acked, moment->begun, &commit);
  bool usable = good && (commit >= 0 || err.code == FLUME_ENOENT);
  record->acked = usable ? commit + 1 : moment->acked; /* what was found is durable */
  record->begun = usable ? commit + 2 : moment->begun;
  if (usable) good = CHECK_INT_EQ(flume_view_dir_sweep(&flume_io_posix, view->dir, &view->number, 1, &err), 0);
  if (usable && good) good = CHECK_INT_EQ(put_commit(store, commit + 1), 0);
  if (usable) record->acked = commit + 2;
  flume_store_close(store);
  if (!usable || !good) return good;
  write_anew(view, commit + 1);
  store = open_store(view, FLUME_STORE_READ);
  good = holds_a_commit(store, commit + 2, commit + 2, &commit) && CHECK(flume_store_erased(store, &err) == commit / 2);
  flume_store_close(store);
  return good && !test_failed;
}

/* Takes fs over. depth 1: and again after each call of what that does. */
static bool try_left(struct sim_fs *fs, const struct moment *moment, const char *dir, int depth) {
  struct view view;
  struct recording again;
  snprintf(view.dir, sizeof view.dir, "%s", dir);
  write_out(fs, dir);
  record_begin(&again, dir, fs);
  if (depth == 0) recording = NULL;
  bool good = go_on(&view, moment, &again);
  recording = NULL;
  if (good && depth > 0) states += try_each(&again, dir, 0);
  record_free(&again);
  return good && !test_failed;
}

static uint64_t count_of(const struct recording *record, struct sim_limits limits) {
  struct sim_crashes crashes;
  uint64_t count = 0;
  for (int i = 0; i < record->moments_count; i++) {
    sim_crashes_init(&crashes, record->moments[i].fs, limits, 1);
    while (sim_crashes_next(&crashes)) count++;
  }
  return count;
}

/* How many of them are tried: all, or an even sample. */
static uint64_t try_each(const struct recording *record, const char *dir, int depth) {
  struct sim_limits limits = {.exhaustive_items = 8, .random_subsets = depth > 0 ? 32 : 8};
  struct sim_crashes crashes;
  const char *text = getenv("FLUME_CRASH");
  bool all = text != NULL && strcmp(text, "all") == 0;
  uint64_t most = depth > 0 ? (all ? UINT64_MAX : SAMPLE_STATES) : all ? SECOND_STATES : SECOND_SAMPLE;
  uint64_t stride = (count_of(record, limits) - 1) / most + 1, turn = 0, tried = 0;
  for (int i = 0; i < record->moments_count && !test_failed; i++) {
    sim_crashes_init(&crashes, record->moments[i].fs, limits, 1);
    while (!test_failed && sim_crashes_next(&crashes)) {
      if (turn++ % stride != 0) continue;
      bool twice = depth > 0 && tried++ % SECOND_EVERY == 0;
      struct sim_fs *fs = sim_fs_crash(record->moments[i].fs, crashes.survives);
      if (depth == 0) tried++;
      if (!try_left(fs, &record->moments[i], dir, twice ? 1 : 0)) {
        printf("the power went after call %d of %d with%s\n", i + 1, record->moments_count, sim_crashes_text(&crashes));
      }
    }
  }
  return tried;
}

/* --- Tests ----------------------------------------------------------------------------------------------------- */

/* Each state is made of files and directories, and goes again: in memory that is ten times as quick. */
static void quick_dir(char *path) {
  if (access("/dev/shm", W_OK) == 0) setenv("TMPDIR", "/dev/shm", 0);
  temp_dir(path);
}

static void report(const char *what, struct recording *record, const char *root) {
  char dir[TEST_PATH_MAX];
  recording = NULL;
  snprintf(dir, sizeof dir, "%s/left", root);
  states = 0;
  states += try_each(record, dir, 1);
  printf("%s: %llu crash states after %d calls\n", what, (unsigned long long)states, record->moments_count);
}

TEST(store_crashes) {
  char root[TEST_PATH_MAX - 16];
  struct flume_store *store = NULL;
  struct recording record;
  struct view view = {.number = 1};
  quick_dir(root);
  snprintf(view.dir, sizeof view.dir, "%s/view", root);
  record_begin(&record, view.dir, sim_fs_new());
  for (int64_t commit = 0; commit < COMMITS; commit++) {
    if (commit % 5 == 0) { /* the store is opened anew now and then */
      if (store != NULL) flume_store_close(store);
      store = open_store(&view, FLUME_STORE_WRITE);
    }
    record.begun = commit + 1;
    CHECK_INT_EQ(put_commit(store, commit), 0);
    if (commit == 0) CHECK_INT_EQ(flume_view_dir_activate(&flume_io_posix, view.dir, 1, &err), 0);
    record.acked = commit + 1;
  }
  flume_store_close(store);
  CHECK(record.moments_count > 3 * COMMITS);
  report("store", &record, root);
  record_free(&record);
  remove_dir(root);
}

TEST(rewritten_store_crashes) {
  char root[TEST_PATH_MAX - 16];
  struct recording record;
  struct view view = {.number = 1};
  quick_dir(root);
  snprintf(view.dir, sizeof view.dir, "%s/view", root);
  record_begin(&record, view.dir, sim_fs_new());
  for (int64_t commit = 0; commit < REWRITES; commit++) {
    struct flume_store *store = open_store(&view, FLUME_STORE_WRITE);
    record.begun = commit + 1;
    CHECK_INT_EQ(put_commit(store, commit), 0);
    if (commit == 0) CHECK_INT_EQ(flume_view_dir_activate(&flume_io_posix, view.dir, 1, &err), 0);
    record.acked = commit + 1;
    flume_store_close(store);
    write_anew(&view, commit);
  }
  report("store written anew", &record, root);
  record_free(&record);
  remove_dir(root);
}
