/* A view's store with any rows. The rows are written with LMDB's functions and read with the store's.
 *
 * - The store's functions give the rows, or an error.
 * - A store that opens for writing takes a commit, and has it after reopening.
 *
 * LMDB trusts its own pages, so this target changes no bytes of data.mdb itself; tests/c/store/test_store_damage.c
 * does.
 *
 * The input is a list of entries: a byte for the database, a byte for the length of the key, the key, a byte for the
 * length of the value, the value. */
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"
#include "store/store.h"

static char dir[64];

static void clean(void) {
  flume_io_remove_all(&flume_io_posix, dir);
}

static void make_dir(void) {
  if (dir[0] != '\0') return;
  strcpy(dir, access("/dev/shm", W_OK) == 0 ? "/dev/shm/flume-fuzz-XXXXXX" : "/tmp/flume-fuzz-XXXXXX");
  if (mkdtemp(dir) == NULL) abort();
  atexit(clean);
}

static const char *in_dir(const char *name) {
  static char path[128];
  snprintf(path, sizeof path, "%s/%s", dir, name);
  return path;
}

/* The next length and bytes of the input. The bytes are fewer, or none, where the input ends. */
static MDB_val take(const uint8_t **data, size_t *len) {
  size_t want = *len > 0 ? **data : 0;
  if (*len > 0) (*data)++, (*len)--;
  if (want > *len) want = *len;
  MDB_val val = {.mv_size = want, .mv_data = (void *)*data};
  *data += want;
  *len -= want;
  return val;
}

static void write_rows(const uint8_t *data, size_t len) {
  static const char *const names[] = {"meta", "groups", "index", "group_tails", "index_tails"};
  static const char *const fields[] = {"meta", "state"};
  MDB_env *env;
  MDB_txn *txn;
  MDB_dbi dbs[5];
  if (mdb_env_create(&env) != 0) abort();
  mdb_env_set_maxdbs(env, 5);
  if (mdb_env_open(env, dir, MDB_NOSYNC | MDB_NOTLS, 0666) != 0 || mdb_txn_begin(env, NULL, 0, &txn) != 0) abort();
  for (int i = 0; i < 5; i++) {
    if (mdb_dbi_open(txn, names[i], MDB_CREATE, &dbs[i]) != 0) abort();
  }
  while (len > 0) {
    uint8_t kind = *data++;
    len--;
    MDB_val key = take(&data, &len), val = take(&data, &len);
    if (kind % 5 == 0) key = (MDB_val){.mv_size = 4 + (kind % 2), .mv_data = (void *)fields[kind % 2]};
    mdb_put(txn, dbs[kind % 5], &key, &val, 0);
  }
  if (mdb_txn_commit(txn) != 0) abort();
  mdb_env_close(env);
}

static volatile uint8_t seen; /* all bytes are looked at */

static void read_rows(struct flume_store *store, enum flume_store_kind kind, bool reverse) {
  struct flume_store_range range;
  struct flume_store_cursor *cursor;
  struct flume_store_entry entry;
  struct flume_err err;
  flume_store_range_init(&range);
  range.reverse = reverse;
  if (flume_store_cursor_open(&cursor, store, kind, &range, &err) != 0) return;
  int rv;
  uint8_t sum = 0;
  while ((rv = flume_store_cursor_next(cursor, &entry, &err)) == 1) {
    for (size_t i = 0; i < entry.key_len; i++) sum ^= entry.key[i];
    for (size_t i = 0; i < entry.value_len; i++) sum ^= entry.value[i];
  }
  EXPECT(rv == 0 || rv == FLUME_ECORRUPT);
  flume_store_cursor_close(cursor);
  int64_t count = flume_store_count(store, kind, &range, &err);
  EXPECT(count >= 0 || count == FLUME_ECORRUPT);
  seen = sum;
}

static void read_all(struct flume_store *store) {
  struct flume_store_meta meta;
  struct flume_buf value;
  struct flume_err err;
  flume_buf_init(&value, &flume_io_posix);
  int rv = flume_store_load(store, &meta, &err);
  EXPECT(rv == 0 || rv == FLUME_ENOENT || rv == FLUME_ECORRUPT || rv == FLUME_EVERSION);
  if (rv == 0) EXPECT(memchr(meta.version, '\0', sizeof meta.version) != NULL);
  rv = flume_store_get_state(store, &value, &err);
  EXPECT(rv == 0 || rv == FLUME_ENOENT || rv == FLUME_ECORRUPT);
  rv = flume_store_get_group(store, "k", 1, &value, &err);
  EXPECT(rv == 0 || rv == FLUME_ENOENT || rv == FLUME_ECORRUPT);
  for (int i = 0; i < 4; i++) read_rows(store, i % 2 == 0 ? FLUME_STORE_GROUPS : FLUME_STORE_INDEX, i / 2 == 1);
  flume_buf_fini(&value);
}

static void commit_one(struct flume_store *store) {
  struct flume_store_meta meta = {.since = 7}, loaded;
  struct flume_err err;
  EXPECT(flume_store_put_group(store, "k", 1, "v", 1, &err) == 0);
  EXPECT(flume_store_add_entry(store, "k", 1, 7, "v", 1, &err) == 0);
  EXPECT(flume_store_commit(store, &meta, &err) == 0);
  EXPECT(flume_store_load(store, &loaded, &err) == 0 && loaded.since == 7);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  struct flume_store *store;
  struct flume_err err;
  make_dir();
  unlink(in_dir("data.mdb"));
  unlink(in_dir("lock.mdb"));
  write_rows(data, len);
  if (flume_store_open(&store, &flume_io_posix, dir, FLUME_STORE_WRITE, &err) != 0) abort();
  read_all(store);
  commit_one(store);
  flume_store_close(store);
  return 0;
}
