/* Several stores of one process in the same directory, and as many readers as there is place for. */
#include <lmdb.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "store/store_private.h"
#include "support.h"

static struct flume_err err;
static char dir[TEST_PATH_MAX];

static struct flume_store *open_store(enum flume_store_access access) {
  struct flume_store *store;
  MUST(flume_store_open(&store, &flume_io_posix, dir, access, &err) == 0);
  return store;
}

/* Round i has the value i in each of count groups, of len bytes. */
static void write_round(struct flume_store *store, int64_t round, int count, size_t len) {
  uint8_t *value = calloc(1, len);
  for (int i = 0; i < count; i++) {
    char key[16];
    size_t key_len = (size_t)snprintf(key, sizeof key, "%06d", i);
    memcpy(value, &round, sizeof round);
    MUST(flume_store_put_group(store, key, key_len, value, len, &err) == 0);
  }
  free(value);
  struct flume_store_meta meta = {.since = round, .version = "1"};
  CHECK_INT_EQ(flume_store_commit(store, &meta, &err), 0);
}

/* How many groups there are; all have the value round. */
static int count_groups(struct flume_store *store, int64_t round) {
  struct flume_store_range range;
  struct flume_store_cursor *cursor;
  struct flume_store_entry entry;
  int count = 0, rv;
  flume_store_range_init(&range);
  rv = flume_store_cursor_open(&cursor, store, FLUME_STORE_GROUPS, &range, &err);
  if (rv != 0) return rv;
  while ((rv = flume_store_cursor_next(cursor, &entry, &err)) == 1) {
    count += memcmp(entry.value, &round, sizeof round) == 0;
  }
  flume_store_cursor_close(cursor);
  return rv == 0 ? count : rv;
}

/* A writer in a process of its own, which commits a round whenever it is told to. */
static int to_writer[2], from_writer[2];

static void writer_main(void) {
  struct flume_store *store = open_store(FLUME_STORE_WRITE);
  char byte;
  for (int64_t round = 0; read(to_writer[0], &byte, 1) == 1; round++) {
    write_round(store, round, 3000, 16);
    MUST(write(from_writer[1], "x", 1) == 1);
  }
  flume_store_close(store);
}

static void next_round(void) {
  char byte;
  MUST(write(to_writer[1], "x", 1) == 1 && read(from_writer[0], &byte, 1) == 1);
}

/* Another store of the process is opened and closed, checked, copied: the first one's snapshot stays what it is, however
 * much is committed. */
static void use_second_store(void) {
  struct flume_store_meta meta;
  struct flume_store *second = open_store(FLUME_STORE_READ);
  CHECK_INT_EQ(flume_store_load(second, &meta, &err), 0);
  flume_store_close(second);
  CHECK_INT_EQ(flume_store_check(&flume_io_posix, dir, FLUME_STORE_SHARED, &meta, &err), 0);
  CHECK_INT_EQ(flume_store_check(&flume_io_posix, dir, FLUME_STORE_RESTS, &meta, &err), 0);
  char to[TEST_PATH_MAX];
  temp_dir(to);
  CHECK_INT_EQ(flume_store_copy(&flume_io_posix, dir, to, FLUME_STORE_SHARED, &err), 0);
  remove_dir(to);
}

TEST(a_second_store_leaves_the_snapshot_of_the_first) {
  temp_dir(dir);
  MUST(pipe(to_writer) == 0 && pipe(from_writer) == 0);
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    close(to_writer[1]);
    writer_main();
    child_exit(0);
  }
  next_round();
  struct flume_store *first = open_store(FLUME_STORE_READ);
  CHECK_INT_EQ(count_groups(first, 0), 3000);
  use_second_store();
  for (int round = 0; round < 20; round++) next_round();
  CHECK_INT_EQ(count_groups(first, 0), 3000);
  flume_store_close(first);
  first = open_store(FLUME_STORE_READ);
  CHECK_INT_EQ(count_groups(first, 20), 3000);
  flume_store_close(first);
  close(to_writer[1]);
  int status;
  MUST(waitpid(pid, &status, 0) == pid);
  CHECK_INT_EQ(status, 0);
  close(to_writer[0]);
  close(from_writer[0]);
  close(from_writer[1]);
  remove_dir(dir);
}

/* The writer enlarges the map, which moves it, while a reader of the same process holds a snapshot. */
TEST(a_snapshot_outlives_a_larger_map) {
  temp_dir(dir);
  struct flume_store *writer = open_store(FLUME_STORE_WRITE), *reader = open_store(FLUME_STORE_READ);
  write_round(writer, 0, 500, 16);
  CHECK_INT_EQ(count_groups(reader, 0), 500);
  CHECK(reader->env == writer->env);
  write_round(writer, 1, 500, 200000); /* 100 MB */
  CHECK_INT_EQ(count_groups(reader, 0), 500);
  CHECK_INT_EQ(count_groups(writer, 1), 500);
  flume_store_close(writer);
  CHECK_INT_EQ(count_groups(reader, 0), 500);
  flume_store_close(reader);
  remove_dir(dir);
}

/* A reader may be there before the writer, and before the store. */
TEST(a_store_for_reading_that_is_opened_first) {
  temp_dir(dir);
  struct flume_store_meta meta;
  struct flume_store *reader = open_store(FLUME_STORE_READ), *writer = open_store(FLUME_STORE_WRITE);
  CHECK_INT_EQ(flume_store_load(reader, &meta, &err), FLUME_ENOENT);
  write_round(writer, 0, 10, 16);
  CHECK_INT_EQ(flume_store_load(reader, &meta, &err), 0);
  flume_store_close(writer);
  writer = open_store(FLUME_STORE_WRITE);
  CHECK_INT_EQ(flume_store_load(writer, &meta, &err), 0);
  write_round(writer, 1, 10, 16);
  CHECK_INT_EQ(count_groups(reader, 0), 10);
  flume_store_close(reader);
  flume_store_close(writer);
  remove_dir(dir);
}

/* Without a place for one more reader nothing is damaged, and what says so is not what says damage. */
TEST(more_readers_than_there_is_place_for) {
  enum { ALL = 2100 };
  static struct flume_store *stores[ALL];
  temp_dir(dir);
  struct flume_store *writer = open_store(FLUME_STORE_WRITE);
  write_round(writer, 0, 10, 16);
  CHECK_INT_EQ(count_groups(writer, 0), 10);
  int opened = 0, rv = 0;
  while (rv == 0 && opened < ALL) {
    stores[opened] = open_store(FLUME_STORE_READ);
    struct flume_store_meta meta;
    rv = flume_store_load(stores[opened++], &meta, &err);
  }
  CHECK_INT_EQ(rv, UV_EBUSY);
  CHECK(!flume_store_is_unusable(rv) && opened > 1000);
  write_round(writer, 1, 10, 16);
  CHECK_INT_EQ(count_groups(writer, 1), 10);
  struct flume_store_meta meta;
  struct flume_store *second = open_store(FLUME_STORE_WRITE);
  CHECK_INT_EQ(flume_store_load(second, &meta, &err), UV_EBUSY);
  flume_store_close(second);
  for (int i = 0; i < opened; i++) flume_store_close(stores[i]);
  second = open_store(FLUME_STORE_READ);
  CHECK_INT_EQ(count_groups(second, 1), 10);
  flume_store_close(second);
  flume_store_close(writer);
  remove_dir(dir);
}

static struct flume_store *busy;
static uv_sem_t is_busy, may_end;

static void read_slowly(void *arg) {
  struct flume_store_range range;
  struct flume_store_cursor *cursor;
  struct flume_store_entry entry;
  int *rv = arg;
  flume_store_range_init(&range);
  MUST(flume_store_cursor_open(&cursor, busy, FLUME_STORE_GROUPS, &range, NULL) == 0);
  int count = 0;
  while ((*rv = flume_store_cursor_next(cursor, &entry, NULL)) == 1) {
    if (count++ == 0) {
      uv_sem_post(&is_busy);
      uv_sem_wait(&may_end);
    }
  }
  flume_store_cursor_close(cursor);
}

static void let_end(void *arg) {
  (void)arg;
  uv_sem_post(&may_end);
}

/* The map does not move while a cursor of another thread is open: the commit waits for it. */
TEST(a_larger_map_waits_for_cursors) {
  uv_thread_t reader, waker;
  int rv = -1;
  temp_dir(dir);
  struct flume_store *writer = open_store(FLUME_STORE_WRITE);
  write_round(writer, 0, 500, 16);
  busy = open_store(FLUME_STORE_READ);
  uv_sem_init(&is_busy, 0);
  uv_sem_init(&may_end, 0);
  MUST(uv_thread_create(&reader, read_slowly, &rv) == 0);
  uv_sem_wait(&is_busy);
  MUST(uv_thread_create(&waker, let_end, NULL) == 0);
  write_round(writer, 1, 500, 100000);
  uv_thread_join(&reader);
  uv_thread_join(&waker);
  CHECK_INT_EQ(rv, 0);
  flume_store_close(busy);
  flume_store_close(writer);
  uv_sem_destroy(&is_busy);
  uv_sem_destroy(&may_end);
  remove_dir(dir);
}
