/* Crashes while a store commits. LMDB does its own I/O: its system calls are wrapped by the linker, done for real, and
 * recorded on a simulated disk (sim.h) as well. After each of them every allowed combination of what is left is written
 * out and opened: it holds exactly what one of the commits left, the last acknowledged one or a later one, and goes on.
 *
 * A write to a file that was opened with O_DSYNC is durable when it returns, itself and nothing else of the file. */
#include <sys/uio.h>

#include "../../core/store.h"

#include "sim_fs.h"
#include "support.h"

#define COMMITS 14
#define KEYS 12
#define SAMPLE_STATES 400

/* --- Recording ------------------------------------------------------------------------------------------------- */

struct moment {
  struct sim_fs *fs;
  int64_t acked; /* commits */
  int64_t begun;
};

static struct {
  bool on;
  char dir[TEST_PATH_MAX]; /* whose files are recorded */
  struct sim_fs *fs;
  struct {
    int inode; /* -1: not recorded */
    bool dsync;
    bool is_dir;
  } files[256]; /* by descriptor */
  struct moment *moments;
  int moments_count, moments_cap;
  int64_t acked, begun;
} record;

static void keep_moment(void) {
  if (record.moments_count == record.moments_cap) {
    record.moments_cap = record.moments_cap > 0 ? 2 * record.moments_cap : 64;
    record.moments = realloc(record.moments, (size_t)record.moments_cap * sizeof *record.moments);
    MUST(record.moments != NULL);
  }
  record.moments[record.moments_count++] =
      (struct moment){sim_fs_copy(record.fs), record.acked, record.begun};
}

/* The inode of a file in the directory, made when it is new; -1 for any other, and for the lock file, which nobody reads
 * after a crash. */
static int inode_of(const char *path) {
  size_t len = strlen(record.dir);
  if (strncmp(path, record.dir, len) != 0 || path[len] != '/' || strcmp(path + len, "/lock.mdb") == 0) return -1;
  int inode = sim_fs_find(record.fs, path + len);
  if (inode >= 0) return inode;
  struct sim_name name = {.dir = 0};
  snprintf(name.name, sizeof name.name, "%s", path + len + 1);
  inode = sim_fs_inode_new(record.fs, false);
  sim_fs_name(record.fs, SIM_LINK, inode, NULL, &name);
  keep_moment();
  return inode;
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __real_close(int fd);
int __wrap_close(int fd);
ssize_t __real_pwrite(int fd, const void *data, size_t len, off_t off);
ssize_t __wrap_pwrite(int fd, const void *data, size_t len, off_t off);
ssize_t __real_write(int fd, const void *data, size_t len);
ssize_t __wrap_write(int fd, const void *data, size_t len);
ssize_t __real_writev(int fd, const struct iovec *parts, int count);
ssize_t __wrap_writev(int fd, const struct iovec *parts, int count);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_ftruncate(int fd, off_t size);
int __wrap_ftruncate(int fd, off_t size);
int __wrap_msync(void *data, size_t len, int flags);

int __wrap_open(const char *path, int flags, ...) {
  va_list args;
  va_start(args, flags);
  int mode = (flags & O_CREAT) != 0 ? va_arg(args, int) : 0;
  va_end(args);
  int fd = __real_open(path, flags, mode);
  if (!record.on || fd < 0) return fd;
  MUST(fd < 256);
  record.files[fd].is_dir = strcmp(path, record.dir) == 0;
  record.files[fd].inode = record.files[fd].is_dir ? 0 : inode_of(path);
  record.files[fd].dsync = (flags & O_DSYNC) != 0;
  return fd;
}

int __wrap_close(int fd) {
  if (fd >= 0 && fd < 256) record.files[fd].inode = -1;
  return __real_close(fd);
}

static bool is_recorded(int fd) {
  return record.on && fd >= 0 && fd < 256 && record.files[fd].inode >= 0;
}

static void written(int fd, const void *data, ssize_t len, off_t off) {
  if (!is_recorded(fd) || len <= 0) return;
  sim_fs_write(record.fs, record.files[fd].inode, data, (size_t)len, (uint64_t)off);
  if (record.files[fd].dsync) {
    keep_moment(); /* on its way, but the call has not returned */
    sim_fs_sync_range(record.fs, record.files[fd].inode, (uint64_t)off, (size_t)len);
  }
  keep_moment();
}

ssize_t __wrap_pwrite(int fd, const void *data, size_t len, off_t off) {
  ssize_t n = __real_pwrite(fd, data, len, off);
  written(fd, data, n, off);
  return n;
}

ssize_t __wrap_write(int fd, const void *data, size_t len) {
  off_t off = is_recorded(fd) ? lseek(fd, 0, SEEK_CUR) : 0;
  ssize_t n = __real_write(fd, data, len);
  written(fd, data, n, off);
  return n;
}

ssize_t __wrap_writev(int fd, const struct iovec *parts, int count) {
  off_t off = is_recorded(fd) ? lseek(fd, 0, SEEK_CUR) : 0;
  ssize_t n = __real_writev(fd, parts, count), left = n;
  for (int i = 0; i < count && left > 0; i++) {
    ssize_t len = (ssize_t)parts[i].iov_len < left ? (ssize_t)parts[i].iov_len : left;
    written(fd, parts[i].iov_base, len, off);
    off += len;
    left -= len;
  }
  return n;
}

static void synced(int fd) {
  if (!is_recorded(fd)) return;
  if (record.files[fd].is_dir) sim_fs_sync_dir(record.fs, 0);
  else sim_fs_sync(record.fs, record.files[fd].inode);
  keep_moment();
}

int __wrap_fdatasync(int fd) {
  if (!is_recorded(fd)) return __real_fdatasync(fd);
  synced(fd);
  return 0;
}

int __wrap_fsync(int fd) {
  if (!is_recorded(fd)) return __real_fsync(fd);
  synced(fd);
  return 0;
}

int __wrap_ftruncate(int fd, off_t size) {
  int rv = __real_ftruncate(fd, size);
  if (rv == 0 && is_recorded(fd)) {
    sim_fs_resize(record.fs, record.files[fd].inode, (uint64_t)size);
    keep_moment();
  }
  return rv;
}

/* A store that wrote through a map would have to be recorded in another way. */
int __wrap_msync(void *data, size_t len, int flags) {
  (void)data, (void)len, (void)flags;
  MUST(!record.on);
  return 0;
}

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
  struct flume_store_meta meta = {.since = commit, .fingerprint = (uint64_t)commit * 3, .deletions = commit / 2};
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

/* Into the directory, which has nothing else afterwards. */
static void write_out(const struct sim_fs *fs, const char *dir) {
  unlink(path_in(dir, "data.mdb"));
  unlink(path_in(dir, "lock.mdb"));
  for (int i = 0; i < fs->cached.count; i++) {
    const struct sim_bytes *bytes = &fs->inodes[fs->cached.entries[i].inode]->cached;
    write_file(path_in(dir, fs->cached.entries[i].name), bytes->data, bytes->used, bytes->size);
  }
}

/* Before the first commit the file may be anything. It is nobody's loss: a view whose store can't be read is built anew,
 * in another directory. */
static bool holds_a_commit(struct flume_store *store, const struct moment *moment, int64_t *commit) {
  struct flume_store_meta meta;
  int rv = flume_store_load(store, &meta, &err);
  *commit = -1;
  if (rv != 0 && moment->acked == 0) return true;
  if (!CHECK_INT_EQ(rv, 0)) printf("%s\n", err.msg);
  if (rv != 0) return false;
  *commit = meta.since;
  bool good = CHECK(meta.since >= moment->acked - 1) && CHECK(meta.since < moment->begun);
  good = good && CHECK(meta.fingerprint == (uint64_t)meta.since * 3 && meta.deletions == meta.since / 2);
  return good && state_is(store, meta.since) && groups_are(store, meta.since) && entries_are(store, meta.since);
}

static bool try_left(const struct sim_fs *fs, const struct moment *moment, const char *dir) {
  struct flume_store *store;
  struct moment next = *moment;
  int64_t commit;
  err.code = 0;
  write_out(fs, dir);
  MUST(flume_store_open(&store, &flume_io_posix, dir, FLUME_STORE_WRITE, &err) == 0);
  bool good = holds_a_commit(store, moment, &commit);
  bool usable = good && (commit >= 0 || err.code == FLUME_ENOENT);
  if (usable) good = CHECK_INT_EQ(put_commit(store, commit + 1), 0);
  next.acked = next.begun = commit + 2;
  flume_store_close(store);
  if (!usable || !good) return good;
  MUST(flume_store_open(&store, &flume_io_posix, dir, FLUME_STORE_READ, &err) == 0);
  good = holds_a_commit(store, &next, &commit);
  flume_store_close(store);
  return good;
}

static uint64_t try_each(const char *dir) {
  const char *text = getenv("FLUME_CRASH");
  bool all = text != NULL && strcmp(text, "all") == 0;
  struct sim_limits limits = {.exhaustive_items = 8, .random_subsets = 32};
  struct sim_crashes crashes;
  uint64_t count = 0, stride = 1, turn = 0, tried = 0;
  for (int pass = all ? 1 : 0; pass < 2; pass++) { /* the first only counts, for an even sample */
    for (int i = 0; i < record.moments_count && !test_failed; i++) {
      sim_crashes_init(&crashes, record.moments[i].fs, limits, 1);
      while (!test_failed && sim_crashes_next(&crashes)) {
        count++;
        if (pass == 0 || turn++ % stride != 0) continue;
        struct sim_fs *fs = sim_fs_crash(record.moments[i].fs, crashes.survives);
        tried++;
        if (!try_left(fs, &record.moments[i], dir)) {
          printf("the power went after call %d of %d with%s\n", i + 1, record.moments_count, sim_crashes_text(&crashes));
        }
        sim_fs_free(fs);
      }
    }
    stride = all ? 1 : count / SAMPLE_STATES + 1;
  }
  return tried;
}

static void record_begin(const char *root) {
  memset(&record, 0, sizeof record);
  for (int i = 0; i < 256; i++) record.files[i].inode = -1;
  snprintf(record.dir, sizeof record.dir, "%s/store", root);
  record.fs = sim_fs_new();
  record.on = true;
}

static void record_end(void) {
  for (int i = 0; i < record.moments_count; i++) sim_fs_free(record.moments[i].fs);
  free(record.moments);
  sim_fs_free(record.fs);
}

TEST(store_crashes) {
  char root[TEST_PATH_MAX - 16];
  struct flume_store *store = NULL;
  temp_dir(root);
  record_begin(root);
  for (int64_t commit = 0; commit < COMMITS; commit++) {
    if (commit % 5 == 0) { /* the store is opened anew now and then */
      if (store != NULL) flume_store_close(store);
      MUST(flume_store_open(&store, &flume_io_posix, record.dir, FLUME_STORE_WRITE, &err) == 0);
    }
    record.begun = commit + 1;
    CHECK_INT_EQ(put_commit(store, commit), 0);
    record.acked = commit + 1;
  }
  flume_store_close(store);
  record.on = false;
  CHECK(record.moments_count > 3 * COMMITS);
  char dir[TEST_PATH_MAX];
  snprintf(dir, sizeof dir, "%s/left", root);
  MUST(mkdir(dir, 0777) == 0);
  printf("store: %llu crash states after %d calls\n", (unsigned long long)try_each(dir), record.moments_count);
  record_end();
  remove_dir(root);
}
