/* Stores on disk while another process reads them, and when their file is damaged. */
#include <sched.h>
#include <signal.h>

#include "store/store.h"
#include "support.h"

#define GROUPS 200
#define ENTRIES 3000
#define COMMITS 60

static struct flume_err err;
static char dir[TEST_PATH_MAX];

static struct flume_store *open_store(enum flume_store_access access) {
  struct flume_store *store = NULL;
  MUST(flume_store_open(&store, &flume_io_posix, dir, access, &err) == 0);
  return store;
}

static void commit_at(struct flume_store *store, int64_t since) {
  struct flume_store_meta meta = {.since = since};
  if (!CHECK_INT_EQ(flume_store_commit(store, &meta, &err), 0)) printf("%s\n", err.msg);
}

/* A key of key.h: a string. */
static size_t key_of(uint8_t *key, int i) {
  return (size_t)snprintf((char *)key, 64, "\x02%06d some more bytes, so that there are pages", i) + 1;
}

/* --- Another process ------------------------------------------------------------------------------------------------ */

/* Each commit gives every group the same value, and adds one entry for its seq. */
static void write_round(struct flume_store *store, int64_t seq) {
  uint8_t key[64];
  for (int i = 0; i < 20; i++) {
    size_t len = key_of(key, i);
    MUST(flume_store_put_group(store, key, len, &seq, sizeof seq, &err) == 0);
  }
  size_t len = key_of(key, 0);
  MUST(flume_store_add_entry(store, key, len, seq, NULL, 0, &err) == 0);
  MUST(flume_store_put_state(store, &seq, sizeof seq, &err) == 0);
  commit_at(store, seq);
}

/* The seq that all groups agree on, -1 for no groups; -2 when they don't. */
static int64_t read_groups(struct flume_store *store) {
  struct flume_store_range range;
  struct flume_store_cursor *cursor;
  struct flume_store_entry entry;
  int64_t found = -1;
  int count = 0, rv;
  flume_store_range_init(&range);
  if (flume_store_cursor_open(&cursor, store, FLUME_STORE_GROUPS, &range, &err) != 0) return -2;
  while ((rv = flume_store_cursor_next(cursor, &entry, &err)) == 1) {
    int64_t seq;
    MUST(entry.value_len == sizeof seq);
    memcpy(&seq, entry.value, sizeof seq);
    if (count++ > 0 && seq != found) rv = -1;
    found = seq;
    if (rv < 0) break;
  }
  flume_store_cursor_close(cursor);
  return rv == 0 && (count == 0 || count == 20) ? found : -2;
}

/* Entries are 0, 1, 2 ... up to the seq that was committed. */
static bool entries_are_whole(struct flume_store *store, int64_t last) {
  struct flume_store_range range;
  struct flume_store_cursor *cursor;
  struct flume_store_entry entry;
  int64_t next = 0;
  int rv;
  flume_store_range_init(&range);
  if (flume_store_cursor_open(&cursor, store, FLUME_STORE_INDEX, &range, &err) != 0) return false;
  while ((rv = flume_store_cursor_next(cursor, &entry, &err)) == 1 && entry.seq == next) next++;
  flume_store_cursor_close(cursor);
  return rv == 0 && next == last + 1;
}

static const struct flume_store_meta no_limit = {.since = INT64_MAX, .deletions = INT64_MAX};

/* All that a reader sees is of one commit; it goes on to the next when it asks for that. */
static int follow_writer(void) {
  struct flume_store *store = open_store(FLUME_STORE_READ);
  struct flume_store_meta own = {.since = -1};
  int rv;
  while ((rv = flume_store_load(store, &own, &err)) == FLUME_ENOENT) sched_yield();
  while (rv == 0 && own.since < COMMITS - 1) {
    struct flume_store_meta meta;
    if (read_groups(store) != own.since || !entries_are_whole(store, own.since)) return 2;
    rv = flume_store_renew(store, &own, &no_limit, &meta, &err);
    if (rv == 0 && meta.since < own.since) return 3;
    if (rv == 0) own = meta;
    sched_yield();
  }
  flume_store_close(store);
  return rv == 0 ? 0 : 4;
}

/* Runs in a child: its exit code, or 100 and the signal that ended it. */
static int child_wait(pid_t pid) {
  int status;
  MUST(waitpid(pid, &status, 0) == pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

TEST(another_process_sees_whole_commits) {
  temp_dir(dir);
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) child_exit(follow_writer());
  struct flume_store *store = open_store(FLUME_STORE_WRITE);
  for (int64_t seq = 0; seq < COMMITS; seq++) write_round(store, seq);
  CHECK_INT_EQ(child_wait(pid), 0);
  flume_store_close(store);
  remove_dir(dir);
}

/* A reader that was there before the file has grown beyond what it had mapped. */
TEST(a_reader_follows_a_file_that_grows) {
  int to_child[2], to_parent[2];
  char byte = 0;
  temp_dir(dir);
  MUST(pipe(to_child) == 0 && pipe(to_parent) == 0);
  struct flume_store *store = open_store(FLUME_STORE_WRITE);
  write_round(store, 0);
  flume_store_close(store);
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    struct flume_store_meta own, meta;
    store = open_store(FLUME_STORE_READ);
    bool ok = flume_store_load(store, &own, &err) == 0 && read_groups(store) == 0 &&
              write(to_parent[1], &byte, 1) == 1 && read(to_child[0], &byte, 1) == 1 && read_groups(store) == 0 &&
              flume_store_renew(store, &own, &no_limit, &meta, &err) == 0;
    child_exit(ok && meta.since == 1 && read_groups(store) == 1 && entries_are_whole(store, 1) ? 0 : 1);
  }
  store = open_store(FLUME_STORE_WRITE);
  MUST(read(to_parent[0], &byte, 1) == 1);
  size_t len = 40 << 20;
  uint8_t *value = payload_new(len, 3);
  CHECK_INT_EQ(flume_store_put_state(store, value, len, &err), 0);
  commit_at(store, 0);
  free(value);
  write_round(store, 1);
  MUST(write(to_child[1], &byte, 1) == 1);
  CHECK_INT_EQ(child_wait(pid), 0);
  flume_store_close(store);
  for (int i = 0; i < 2; i++) close(to_child[i]), close(to_parent[i]);
  remove_dir(dir);
}

/* --- Damage ---------------------------------------------------------------------------------------------------------- */

enum { RIGHT, HIDDEN = 2, REFUSED, WRONG }; /* HIDDEN: something was not found; 1 is a sanitizer's */

static uint64_t value_key(int i) {
  return (uint64_t)i + 1000;
}

static void make_store(void) {
  struct flume_store *store = open_store(FLUME_STORE_WRITE);
  uint8_t key[64], value[100];
  for (int i = 0; i < GROUPS; i++) {
    size_t len = key_of(key, i);
    payload_fill(value, sizeof value, value_key(i));
    MUST(flume_store_put_group(store, key, len, value, sizeof value, &err) == 0);
  }
  for (int i = 0; i < ENTRIES; i++) {
    size_t len = key_of(key, i % 5);
    payload_fill(value, 40, value_key(i));
    MUST(flume_store_add_entry(store, key, len, i, value, i % 7 == 0 ? 40 : 0, &err) == 0);
    if (i % 500 == 499) commit_at(store, i);
  }
  payload_fill(value, sizeof value, 77);
  MUST(flume_store_put_state(store, value, sizeof value, &err) == 0);
  commit_at(store, ENTRIES);
  flume_store_close(store);
}

static int judge_groups(struct flume_store *store) {
  uint8_t key[64];
  int worst = RIGHT;
  for (int i = 0; i < GROUPS; i++) {
    struct flume_buf value;
    flume_buf_init(&value, &flume_io_posix);
    size_t len = key_of(key, i);
    int rv = flume_store_get_group(store, key, len, &value, &err);
    bool right = rv == 0 && value.len == 100 && payload_is(value.data, 100, value_key(i));
    flume_buf_fini(&value);
    if (rv == FLUME_ENOENT) worst = HIDDEN;
    else if (rv != 0) return REFUSED;
    else if (!right) return WRONG;
  }
  return worst;
}

static bool is_right(const struct flume_store_entry *entry) {
  uint8_t key[64];
  size_t len = key_of(key, (int)(entry->seq % 5)), value_len = entry->seq % 7 == 0 ? 40 : 0;
  return entry->seq >= 0 && entry->seq < ENTRIES && entry->key_len == len && memcmp(entry->key, key, len) == 0 &&
         entry->value_len == value_len && payload_is(entry->value, value_len, value_key((int)entry->seq));
}

static int judge_entries(struct flume_store *store, bool reverse) {
  struct flume_store_range range;
  struct flume_store_cursor *cursor;
  struct flume_store_entry entry;
  int rv, count = 0;
  bool right = true;
  flume_store_range_init(&range);
  range.reverse = reverse;
  if (flume_store_cursor_open(&cursor, store, FLUME_STORE_INDEX, &range, &err) != 0) return REFUSED;
  while ((rv = flume_store_cursor_next(cursor, &entry, &err)) == 1 && right && count <= ENTRIES) {
    right = is_right(&entry);
    count++;
  }
  flume_store_cursor_close(cursor);
  if (!right || count > ENTRIES) return WRONG;
  if (rv < 0) return REFUSED;
  return count == ENTRIES ? RIGHT : HIDDEN;
}

/* Whether it is of a commit before the last: the page that says so is taken for the newest when its number has grown. */
static bool is_older(int64_t since) {
  return since >= 0 && since < ENTRIES && since % 500 == 499;
}

static int judge_rest(struct flume_store *store) {
  struct flume_store_range range;
  struct flume_store_meta meta;
  struct flume_buf state;
  int rv = flume_store_load(store, &meta, &err);
  if (rv != 0) return rv == FLUME_ENOENT ? HIDDEN : REFUSED;
  flume_buf_init(&state, &flume_io_posix);
  rv = flume_store_get_state(store, &state, &err);
  bool right = rv != 0 || (state.len == 100 && payload_is(state.data, 100, 77));
  flume_buf_fini(&state);
  if (!right || (meta.since != ENTRIES && !is_older(meta.since))) return WRONG;
  if (rv != 0) return rv == FLUME_ENOENT ? HIDDEN : REFUSED;
  flume_store_range_init(&range);
  int64_t count = flume_store_count(store, FLUME_STORE_INDEX, &range, &err);
  if (count < 0) return REFUSED;
  return count > ENTRIES ? WRONG : count < ENTRIES ? HIDDEN : RIGHT;
}

/* A check finds what reading would, and is not wrong about a store that is right. */
static int judge_by_check(void) {
  struct flume_store_meta meta;
  int rv = flume_store_check(&flume_io_posix, dir, FLUME_STORE_SHARED, &meta, &err);
  return rv == 0 ? RIGHT : rv == FLUME_ENOENT ? HIDDEN : REFUSED;
}

/* In a process of its own: the worst of the answers, or 100 and the signal that ended it. */
static int judge(void) {
  fflush(stdout);
  pid_t pid = fork();
  if (pid != 0) return child_wait(pid);
  alarm(20);
  MUST(freopen("/dev/null", "w", stderr) != NULL); /* what ends it has a lot to say */
  struct flume_store *store = open_store(FLUME_STORE_READ);
  int verdicts[] = {judge_rest(store), judge_groups(store), judge_entries(store, false), judge_entries(store, true), 0};
  flume_store_close(store);
  verdicts[4] = judge_by_check();
  int worst = RIGHT;
  for (int i = 0; i < 5; i++) worst = verdicts[i] > worst ? verdicts[i] : worst;
  child_exit(worst);
}

/* In a process of its own: what copying answers, or 100 and the signal that ended it. */
static int judge_copy(void) {
  fflush(stdout);
  pid_t pid = fork();
  if (pid != 0) return child_wait(pid);
  char to[TEST_PATH_MAX];
  temp_dir(to);
  int rv = flume_store_copy(&flume_io_posix, dir, to, FLUME_STORE_SHARED, &err);
  remove_dir(to);
  child_exit(rv == 0 ? RIGHT : REFUSED);
}

static void begin(struct image *image) {
  temp_dir(dir);
  make_store();
  CHECK_INT_EQ(judge(), RIGHT);
  image->count = 0;
  image_take_file(image, dir, "data.mdb");
}

static void end(struct image *image) {
  image_free(image);
  remove_dir(dir);
}

/* A file that ends too early is not touched beyond its end. */
TEST(a_file_that_was_cut_is_refused) {
  uint64_t random = random_seed();
  struct image image;
  begin(&image);
  struct image_file *file = &image.files[0];
  for (int i = 0; i < 60 && !test_failed; i++) {
    size_t len = i < 20 ? file->len - 1 - (size_t)i * 4096 : random_below(&random, (uint32_t)file->len);
    if (i == 59) len = 1;
    write_file(path_in(dir, "data.mdb"), file->data, len, len);
    if (!CHECK_INT_EQ(judge(), REFUSED)) printf("cut to %zu of %zu bytes\n", len, file->len);
    if (!CHECK_INT_EQ(judge_copy(), REFUSED)) printf("copied, cut to %zu of %zu bytes\n", len, file->len);
  }
  end(&image);
}

/* Where a byte of a row's value is changed, an answer is right or none. */
TEST(values_with_flipped_bytes_are_refused) {
  uint64_t random = random_seed();
  struct image image;
  int flipped = 0;
  begin(&image);
  struct image_file *file = &image.files[0];
  for (int i = 0; i < 150 && !test_failed; i++) {
    uint8_t value[100];
    size_t len = i % 3 == 0 ? 40 : sizeof value;
    payload_fill(value, sizeof value, i % 10 == 9 ? 77 : value_key((int)random_below(&random, GROUPS) / 7 * 7));
    for (size_t off = 0; off + len <= file->len; off++) {
      if (memcmp(file->data + off, value, len) != 0) continue;
      size_t at = off + random_below(&random, (uint32_t)len);
      file->data[at] ^= (uint8_t)(1 << random_below(&random, 8));
      write_file(path_in(dir, "data.mdb"), file->data, file->len, file->len);
      int verdict = judge();
      if (!CHECK(verdict == RIGHT || verdict == REFUSED)) printf("byte %zu: %d\n", at, verdict);
      flipped += verdict == REFUSED;
      memcpy(file->data + off, value, len);
    }
  }
  CHECK(flipped > 50); /* others lie in pages that are not in use any more */
  end(&image);
}

/* LMDB trusts its own pages. What is wrong in them may hide rows, and some of it may end the process that reads; but what
 * is given is what was put there. */
TEST(pages_with_flipped_bytes_give_no_wrong_rows) {
  uint64_t random = random_seed();
  struct image image;
  int answered = 0;
  begin(&image);
  struct image_file *file = &image.files[0];
  for (int i = 0; i < 300 && !test_failed; i++) {
    size_t at = random_below(&random, (uint32_t)file->len);
    uint8_t was = file->data[at];
    file->data[at] ^= (uint8_t)(1 << random_below(&random, 8));
    write_file(path_in(dir, "data.mdb"), file->data, file->len, file->len);
    int verdict = judge();
    if (!CHECK(verdict != WRONG && verdict != 100 + SIGALRM)) printf("byte %zu: %d\n", at, verdict);
    answered += verdict == RIGHT || verdict == HIDDEN || verdict == REFUSED;
    file->data[at] = was;
  }
  if (!CHECK(answered >= 280)) printf("%d of 300 answered\n", answered);
  end(&image);
}

/* --- Readers that are killed ---------------------------------------------------------------------------------------- */

#define PLACES 126 /* for readers, in LMDB */

static int read_and_die(void) {
  if (read_groups(open_store(FLUME_STORE_READ)) < 0) return 1;
  kill(getpid(), SIGKILL);
  return 2;
}

/* A reader that is killed leaves its place taken. */
static void kill_readers(int count) {
  for (int i = 0; i < count && !test_failed; i++) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) child_exit(read_and_die());
    CHECK_INT_EQ(child_wait(pid), 100 + SIGKILL);
  }
}

TEST(killed_readers_block_no_slot) {
  temp_dir(dir);
  struct flume_store *store = open_store(FLUME_STORE_WRITE);
  write_round(store, 0);
  kill_readers(PLACES);
  CHECK_INT_EQ(judge_copy(), RIGHT);
  kill_readers(PLACES + 1);
  CHECK_INT_EQ(read_groups(store), 0);
  flume_store_close(store);
  remove_dir(dir);
}

/* Nor do they keep the pages that they could see from being used again. */
TEST(a_killed_reader_keeps_no_pages) {
  temp_dir(dir);
  struct flume_store *store = open_store(FLUME_STORE_WRITE);
  for (int64_t seq = 0; seq < 20; seq++) write_round(store, seq);
  kill_readers(1);
  uint64_t before = flume_store_size_bytes(store);
  for (int64_t seq = 20; seq < 220; seq++) write_round(store, seq);
  CHECK(flume_store_size_bytes(store) < 2 * before);
  flume_store_close(store);
  remove_dir(dir);
}
