/* A store and its model, a sorted array of entries: random operations on both, and comparisons.
 *
 * A test program includes it once. */
#ifndef FLUME_TEST_STORE_MODEL_H
#define FLUME_TEST_STORE_MODEL_H

#include "codec/key.h"
#include "store/store_private.h"
#include "support.h"

#define KEYS 40
#define ENTRIES_MAX 3000
#define POPULAR 3 /* the number of frequent keys, which have several chunks */

struct made_key {
  struct flume_buf bytes;
};

struct model_entry {
  int key;
  int64_t seq; /* -1 for a group */
  uint32_t ordinal;
  uint64_t value; /* of payload_fill */
  size_t value_len;
};

struct model_list {
  struct model_entry entries[ENTRIES_MAX]; /* in the order of keys, seqs and ordinals */
  size_t count;
};

struct model {
  struct model_list lists[2]; /* by enum flume_store_kind */
  int64_t seq;                /* of the next record */
  int64_t since;
  bool has_meta;
  uint64_t state;
  bool has_state;
};

static struct made_key keys[KEYS];
static int keys_count;
static struct model now, committed;
static struct flume_store *store;
static struct faults faults;
static struct flume_err err;
static char dir[TEST_PATH_MAX];
static const char *store_dir; /* NULL: in memory */
static uint64_t random_state;

/* --- Keys --------------------------------------------------------------------------------------------------------- */

static int compare(const void *a, size_t a_len, const void *b, size_t b_len) {
  size_t len = a_len < b_len ? a_len : b_len;
  int order = len > 0 ? memcmp(a, b, len) : 0;
  return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

static int compare_keys(const void *a, const void *b) {
  const struct made_key *x = a, *y = b;
  return compare(x->bytes.data, x->bytes.len, y->bytes.data, y->bytes.len);
}

static void add_key(const struct flume_buf *value) {
  struct made_key *key = &keys[keys_count++];
  flume_buf_init(&key->bytes, &flume_io_posix);
  MUST(flume_key_encode(value->data, value->len, &key->bytes, &err) == 0);
}

/* Among them are long keys that agree in their first 440, 872 or 1304 bytes, where a level of the tree on disk ends. */
static void make_keys(void) {
  struct flume_buf value;
  uint8_t text[1500];
  keys_count = 0;
  for (int i = 0; keys_count < KEYS; i++) {
    flume_buf_init(&value, &flume_io_posix);
    memset(text, 'x', sizeof text);
    if (i % 4 == 0) {
      flume_msgpack_write_int(&value, i * 100 - 1000);
    } else if (i % 4 == 1) {
      memset(text, i, 4);
      flume_msgpack_write_str(&value, text, (size_t)i % 8);
    } else if (i % 4 == 2) {
      flume_msgpack_write_array(&value, 2);
      flume_msgpack_write_str(&value, "a", 1);
      flume_msgpack_write_int(&value, i);
    } else {
      size_t len = 380 + (size_t)i * 20;
      text[len - 1] = (uint8_t)i;
      if (i % 3 == 0) text[100] = (uint8_t)i;
      flume_msgpack_write_str(&value, text, len);
    }
    add_key(&value);
    flume_buf_fini(&value);
  }
  qsort(keys, KEYS, sizeof *keys, compare_keys);
}

static void free_keys(void) {
  for (int i = 0; i < KEYS; i++) flume_buf_fini(&keys[i].bytes);
}

/* --- The model ---------------------------------------------------------------------------------------------------- */

static int compare_entries(const struct model_entry *a, int key, int64_t seq, uint32_t ordinal) {
  if (a->key != key) return a->key < key ? -1 : 1;
  if (a->seq != seq) return a->seq < seq ? -1 : 1;
  return (a->ordinal > ordinal) - (a->ordinal < ordinal);
}

static size_t model_find(const struct model_list *list, int key, int64_t seq, uint32_t ordinal) {
  size_t i = 0;
  while (i < list->count && compare_entries(&list->entries[i], key, seq, ordinal) < 0) i++;
  return i;
}

static void model_remove_at(struct model_list *list, size_t i) {
  memmove(&list->entries[i], &list->entries[i + 1], (--list->count - i) * sizeof *list->entries);
}

static void model_insert(struct model_list *list, const struct model_entry *entry) {
  size_t i = model_find(list, entry->key, entry->seq, entry->ordinal);
  if (i < list->count && compare_entries(&list->entries[i], entry->key, entry->seq, entry->ordinal) == 0) {
    model_remove_at(list, i);
  }
  MUST(list->count < ENTRIES_MAX);
  memmove(&list->entries[i + 1], &list->entries[i], (list->count++ - i) * sizeof *list->entries);
  list->entries[i] = *entry;
}

static void model_reset(struct model *model) {
  memset(model, 0, sizeof *model);
  model->since = -1;
}

/* --- Comparing ---------------------------------------------------------------------------------------------------- */

static bool is_entry(const struct flume_store_entry *got, const struct model_entry *want) {
  const struct flume_buf *key = &keys[want->key].bytes;
  return CHECK(compare(got->key, got->key_len, key->data, key->len) == 0) && CHECK_INT_EQ(got->seq, want->seq) &&
         CHECK_INT_EQ(got->ordinal, want->ordinal) && CHECK_INT_EQ(got->value_len, want->value_len) &&
         CHECK(payload_is(got->value, got->value_len, want->value));
}

struct expected {
  const struct model_entry *entries[ENTRIES_MAX]; /* in the order of the range */
  size_t count;
};

static bool is_within(const struct flume_store_range *range, const struct model_entry *entry) {
  const struct flume_buf *key = &keys[entry->key].bytes;
  return (range->lower == NULL || compare(key->data, key->len, range->lower, range->lower_len) >= 0) &&
         (range->upper == NULL || compare(key->data, key->len, range->upper, range->upper_len) < 0) &&
         entry->seq <= range->max_seq;
}

static void expect(struct expected *expected, const struct model_list *list, const struct flume_store_range *range) {
  expected->count = 0;
  for (size_t i = 0; i < list->count; i++) {
    const struct model_entry *entry = &list->entries[range->reverse ? list->count - 1 - i : i];
    if (is_within(range, entry)) expected->entries[expected->count++] = entry;
  }
}

static struct flume_store_cursor *open_cursor(enum flume_store_kind kind, const struct flume_store_range *range) {
  struct flume_store_cursor *cursor = NULL;
  if (!CHECK_INT_EQ(flume_store_cursor_open(&cursor, store, kind, range, &err), 0)) printf("%s\n", err.msg);
  return cursor;
}

/* The cursor gives the expected entries from the i-th on; at most so many are compared. */
static void check_cursor(struct flume_store_cursor *cursor, const struct expected *expected, size_t i, size_t most) {
  struct flume_store_entry entry;
  int rv = 1;
  for (; i < expected->count && most > 0 && !test_failed; i++, most--) {
    rv = flume_store_cursor_next(cursor, &entry, &err);
    if (!CHECK_INT_EQ(rv, 1)) printf("%s\n", rv < 0 ? err.msg : "");
    if (rv == 1) is_entry(&entry, expected->entries[i]);
  }
  if (most > 0 && !test_failed) {
    CHECK_INT_EQ(flume_store_cursor_next(cursor, &entry, &err), 0);
    CHECK_INT_EQ(flume_store_cursor_next(cursor, &entry, &err), 0);
  }
  flume_store_cursor_close(cursor);
}

/* Reads on after an entry, which may not exist. */
static void check_resume(enum flume_store_kind kind, const struct flume_store_range *range,
                         const struct expected *expected, int key, int64_t seq, uint32_t ordinal) {
  struct flume_store_cursor *cursor = open_cursor(kind, range);
  if (cursor == NULL) return;
  flume_store_cursor_resume(cursor, keys[key].bytes.data, keys[key].bytes.len, seq, ordinal);
  size_t i = 0;
  while (i < expected->count) {
    int order = compare_entries(expected->entries[i], key, seq, ordinal);
    if (range->reverse ? order < 0 : order > 0) break;
    i++;
  }
  check_cursor(cursor, expected, i, 3);
}

static void check_range(enum flume_store_kind kind, const struct flume_store_range *range) {
  static struct expected expected;
  expect(&expected, &now.lists[kind], range);
  struct flume_store_cursor *cursor = open_cursor(kind, range);
  if (cursor == NULL) return;
  check_cursor(cursor, &expected, 0, SIZE_MAX);
  CHECK_INT_EQ(flume_store_count(store, kind, range, &err), expected.count);
  size_t step = expected.count / 25 + 1;
  for (size_t i = 0; i < expected.count && !test_failed; i += step) {
    const struct model_entry *entry = expected.entries[i];
    check_resume(kind, range, &expected, entry->key, entry->seq, entry->ordinal);
  }
  for (int i = 0; i < 5 && !test_failed; i++) {
    int key = (int)random_below(&random_state, KEYS);
    int64_t seq = kind == FLUME_STORE_INDEX ? (int64_t)random_below(&random_state, (uint32_t)now.seq + 2) : -1;
    struct made_key *at = &keys[key];
    if (range->lower != NULL && compare(at->bytes.data, at->bytes.len, range->lower, range->lower_len) < 0) continue;
    if (range->upper != NULL && compare(at->bytes.data, at->bytes.len, range->upper, range->upper_len) >= 0) continue;
    check_resume(kind, range, &expected, key, seq, kind == FLUME_STORE_INDEX ? random_below(&random_state, 3) : 0);
  }
}

/* A bound: a key, a key and 0xff, or a prefix of a key. */
static void random_bound(struct flume_buf *buf, const uint8_t **at, size_t *len) {
  const struct flume_buf *key = &keys[random_below(&random_state, KEYS)].bytes;
  flume_buf_init(buf, &flume_io_posix);
  uint32_t what = random_below(&random_state, 4);
  if (what == 0) return;
  size_t part = what == 1 ? 1 + random_below(&random_state, (uint32_t)key->len) : key->len;
  flume_buf_append(buf, key->data, part);
  if (what == 2) flume_buf_append(buf, "\xff", 1);
  *at = buf->data;
  *len = buf->len;
}

static void check_random_range(enum flume_store_kind kind) {
  struct flume_store_range range;
  struct flume_buf lower, upper;
  flume_store_range_init(&range);
  random_bound(&lower, &range.lower, &range.lower_len);
  random_bound(&upper, &range.upper, &range.upper_len);
  range.reverse = random_below(&random_state, 2) == 0;
  if (kind == FLUME_STORE_INDEX && random_below(&random_state, 3) == 0) {
    range.max_seq = (int64_t)random_below(&random_state, (uint32_t)now.seq + 1);
  }
  check_range(kind, &range);
  flume_buf_fini(&lower);
  flume_buf_fini(&upper);
}

static void check_group(int key) {
  struct flume_buf value;
  flume_buf_init(&value, &flume_io_posix);
  flume_buf_append(&value, "x", 1);
  const struct model_list *list = &now.lists[FLUME_STORE_GROUPS];
  size_t i = model_find(list, key, -1, 0);
  int rv = flume_store_get_group(store, keys[key].bytes.data, keys[key].bytes.len, &value, &err);
  if (i < list->count && list->entries[i].key == key) {
    CHECK_INT_EQ(rv, 0);
    CHECK_INT_EQ(value.len, list->entries[i].value_len + 1);
    CHECK(payload_is(value.data + 1, value.len - 1, list->entries[i].value));
  } else {
    CHECK_INT_EQ(rv, FLUME_ENOENT);
    CHECK_INT_EQ(value.len, 1);
  }
  flume_buf_fini(&value);
}

static void check_state(void) {
  struct flume_buf value;
  flume_buf_init(&value, &flume_io_posix);
  int rv = flume_store_get_state(store, &value, &err);
  CHECK_INT_EQ(rv, now.has_state ? 0 : FLUME_ENOENT);
  if (rv == 0) CHECK(value.len == now.state % 500 && payload_is(value.data, value.len, now.state));
  flume_buf_fini(&value);
}

static void check_all(void) {
  struct flume_store_range range;
  flume_store_range_init(&range);
  for (int kind = 0; kind < 2; kind++) {
    for (int reverse = 0; reverse < 2; reverse++) {
      range.reverse = reverse;
      check_range((enum flume_store_kind)kind, &range);
    }
    for (int i = 0; i < 6; i++) check_random_range((enum flume_store_kind)kind);
  }
  for (int i = 0; i < KEYS; i++) check_group(i);
  check_state();
}

static void check_meta(void) {
  struct flume_store_meta meta;
  int rv = flume_store_load(store, &meta, &err);
  CHECK_INT_EQ(rv, committed.has_meta ? 0 : FLUME_ENOENT);
  if (rv != 0) return;
  CHECK_INT_EQ(meta.since, committed.since);
  CHECK_STR_EQ(meta.version, "7");
  CHECK_INT_EQ(meta.fingerprint, committed.since * 3);
  CHECK_INT_EQ(meta.deletions, committed.since * 5);
}

/* --- Operations --------------------------------------------------------------------------------------------------- */

static size_t random_len(void) {
  static const uint32_t tops[] = {1, 1, 20, 20, 200, 1500, 9000};
  return random_below(&random_state, tops[random_below(&random_state, 7)]);
}

static int random_key(void) {
  bool popular = random_below(&random_state, 3) > 0;
  return (int)random_below(&random_state, popular ? POPULAR : KEYS) * (popular ? KEYS / POPULAR : 1);
}

static void do_group(void) {
  struct model_list *list = &now.lists[FLUME_STORE_GROUPS];
  struct model_entry entry = {
      .key = random_key(), .seq = -1, .value = random_next(&random_state), .value_len = random_len()};
  const struct flume_buf *key = &keys[entry.key].bytes;
  if (random_below(&random_state, 3) == 0) {
    size_t i = model_find(list, entry.key, -1, 0);
    if (i < list->count && list->entries[i].key == entry.key) model_remove_at(list, i);
    CHECK_INT_EQ(flume_store_del_group(store, key->data, key->len, &err), 0);
  } else {
    uint8_t *value = payload_new(entry.value_len, entry.value);
    CHECK_INT_EQ(flume_store_put_group(store, key->data, key->len, value, entry.value_len, &err), 0);
    free(value);
    model_insert(list, &entry);
  }
  check_group(entry.key);
}

static uint32_t next_ordinal(int key, int64_t seq) {
  const struct model_list *list = &now.lists[FLUME_STORE_INDEX];
  size_t i = model_find(list, key, seq, UINT32_MAX);
  bool same = i > 0 && list->entries[i - 1].key == key && list->entries[i - 1].seq == seq;
  return same ? list->entries[i - 1].ordinal + 1 : 0;
}

/* Entries of one record, some perhaps with equal keys. */
static void do_add(void) {
  struct model_list *list = &now.lists[FLUME_STORE_INDEX];
  if (list->count > ENTRIES_MAX - 20) return;
  int64_t seq = now.seq++;
  uint32_t count = random_below(&random_state, 12) == 0 ? 12 : random_below(&random_state, 4);
  int last = random_key();
  for (uint32_t i = 0; i < count; i++) {
    struct model_entry entry = {.key = random_below(&random_state, 3) == 0 ? last : random_key(), .seq = seq};
    const struct flume_buf *key = &keys[entry.key].bytes;
    entry.ordinal = next_ordinal(entry.key, seq);
    entry.value = random_next(&random_state);
    entry.value_len = random_below(&random_state, 3) == 0 ? random_len() : 0;
    uint8_t *value = payload_new(entry.value_len, entry.value);
    int rv = flume_store_add_entry(store, key->data, key->len, seq, value, entry.value_len, &err);
    if (!CHECK_INT_EQ(rv, 0)) printf("%s\n", err.msg);
    free(value);
    model_insert(list, &entry);
  }
  now.seq += random_below(&random_state, 20) == 0 ? 1000000 : 0;
}

static void remove_entries(int key, int64_t seq) {
  struct model_list *list = &now.lists[FLUME_STORE_INDEX];
  if (!CHECK_INT_EQ(flume_store_remove_entries(store, keys[key].bytes.data, keys[key].bytes.len, seq, &err), 0)) {
    printf("%s\n", err.msg);
  }
  for (size_t i = model_find(list, key, seq, 0);
       i < list->count && list->entries[i].key == key && list->entries[i].seq == seq;) {
    model_remove_at(list, i);
  }
  for (size_t i = 0; i < list->count; i++) MUST(list->entries[i].key != key || list->entries[i].seq != seq);
}

static void do_remove(void) {
  const struct model_list *list = &now.lists[FLUME_STORE_INDEX];
  if (list->count == 0 || random_below(&random_state, 10) == 0) {
    remove_entries(random_key(), (int64_t)random_below(&random_state, (uint32_t)now.seq + 1));
    return;
  }
  const struct model_entry entry = list->entries[random_below(&random_state, (uint32_t)list->count)];
  remove_entries(entry.key, entry.seq);
}

/* Removes all entries of a key, so that chunks become empty. */
static void do_remove_key(void) {
  const struct model_list *list = &now.lists[FLUME_STORE_INDEX];
  int key = random_key();
  for (;;) {
    size_t i = model_find(list, key, 0, 0);
    if (i == list->count || list->entries[i].key != key) return;
    remove_entries(key, list->entries[i].seq);
  }
}

static void do_state(void) {
  now.state = random_next(&random_state);
  now.has_state = true;
  uint8_t *value = payload_new(now.state % 500, now.state);
  CHECK_INT_EQ(flume_store_put_state(store, value, now.state % 500, &err), 0);
  free(value);
}

static void do_commit(void) {
  now.since = now.seq - 1;
  now.has_meta = true;
  struct flume_store_meta meta = {
      .since = now.since, .version = "7", .fingerprint = (uint64_t)now.since * 3, .deletions = now.since * 5};
  if (!CHECK_INT_EQ(flume_store_commit(store, &meta, &err), 0)) printf("%s\n", err.msg);
  if (store_dir != NULL) CHECK_INT_EQ(flume_store_pending_bytes(store), 0);
  committed = now;
  check_meta();
}

/* Rolls back: a store in memory is empty then, a store on disk has the last commit. */
static void do_rollback(void) {
  flume_store_rollback(store);
  if (store_dir == NULL) model_reset(&committed);
  now = committed;
  check_meta();
}

static void do_clear(void) {
  CHECK_INT_EQ(flume_store_clear(store, &err), 0);
  model_reset(&now);
  committed = now;
  check_meta();
}

static void must_open(enum flume_store_access access) {
  MUST(flume_store_open(&store, &faults.io, store_dir, access, &err) == 0);
}

static void do_reopen(void) {
  if (store_dir == NULL) return;
  flume_store_close(store);
  must_open(FLUME_STORE_WRITE);
  now = committed;
  check_meta();
}

static void do_something(void) {
  uint32_t what = random_below(&random_state, 200);
  if (what < 60) do_group();
  else if (what < 150) do_add();
  else if (what < 175) do_remove();
  else if (what < 177) do_remove_key();
  else if (what < 182) do_state();
  else if (what < 194) do_commit();
  else if (what < 196) do_rollback();
  else if (what < 199) do_reopen();
  else if (random_below(&random_state, 4) == 0) do_clear();
}

static void begin(bool on_disk) {
  faults_init(&faults);
  make_keys();
  model_reset(&now);
  model_reset(&committed);
  temp_dir(dir);
  store_dir = on_disk ? dir : NULL;
  must_open(FLUME_STORE_WRITE);
}

static void end(void) {
  flume_store_close(store);
  CHECK_INT_EQ(atomic_load(&faults.allocations), 0);
  free_keys();
  remove_dir(dir);
}

#endif
