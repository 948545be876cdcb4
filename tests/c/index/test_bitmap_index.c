/* Sets of records in bitmaps, and sets made of them, against plain arrays of booleans. */
#include "index/bitmap_index.h"
#include "index/seqset.h"
#include "support.h"

#define SEQS ((size_t)3 * FLUME_BITMAP_SPAN / 2) /* more than a span */
#define KEYS 4
#define NEAR 600 /* seqs that are changed, about */

static struct flume_err err;
static uint64_t random_state;
static bool model[KEYS][SEQS];
static const char *const keys[KEYS] = {"a", "bc", "\x02key with\x00zero", "d"};
static const size_t key_lens[KEYS] = {1, 2, 14, 1};

/* Some about the border of two spans, some at the beginning, some anywhere. */
static int64_t random_seq(void) {
  switch (random_below(&random_state, 3)) {
    case 0: return random_below(&random_state, NEAR);
    case 1: return (int64_t)FLUME_BITMAP_SPAN - NEAR / 2 + random_below(&random_state, NEAR);
    default: return random_below(&random_state, (uint32_t)SEQS);
  }
}

static void change(struct flume_bitmaps *bitmaps, int times) {
  for (int i = 0; i < times; i++) {
    unsigned key = random_below(&random_state, KEYS - 1); /* the last one stays empty */
    int64_t seq = random_seq();
    bool add = random_below(&random_state, 3) > 0;
    MUST((add ? flume_bitmaps_add : flume_bitmaps_remove)(bitmaps, keys[key], key_lens[key], seq, &err) == 0);
    model[key][seq] = add;
  }
}

static struct flume_seqset *of_key(struct flume_bitmaps *bitmaps, unsigned key) {
  struct flume_seqset *set;
  MUST(flume_seqset_of_key(&flume_io_posix, bitmaps, keys[key], key_lens[key], &set) == 0);
  return set;
}

typedef bool (*predicate)(size_t seq);

/* Reads all of the set from first to last, in pieces of cap, and compares. */
static void check_read(struct flume_seqset *set, predicate is_in, int64_t first, int64_t last, bool reverse, size_t cap) {
  static int64_t got[SEQS];
  size_t count = 0, expected = 0;
  int64_t from = first, to = last, n;
  while ((n = flume_seqset_read(set, from, to, reverse, got + count, cap, &err)) > 0) {
    count += (size_t)n;
    if (reverse) to = got[count - 1] - 1;
    else from = got[count - 1] + 1;
  }
  MUST(n == 0);
  for (int64_t i = 0; i <= last - first; i++) {
    int64_t seq = reverse ? last - i : first + i;
    if (!is_in((size_t)seq)) continue;
    MUST(expected < count);
    MUST(got[expected] == seq);
    expected++;
  }
  CHECK(expected == count);
  CHECK(flume_seqset_count(set, first, last, &err) == (int64_t)count);
}

static void check_set(struct flume_seqset *set, predicate is_in) {
  int64_t end = SEQS - 1, border = FLUME_BITMAP_SPAN;
  check_read(set, is_in, 0, end, false, 100);
  check_read(set, is_in, 0, end, true, 1000);
  check_read(set, is_in, 17, border - 1, true, 7000);
  check_read(set, is_in, border - 5, border + 5, false, 3);
  check_read(set, is_in, border, end, true, 5000);
  for (int i = 0; i < 300; i++) {
    int64_t seq = random_seq();
    CHECK(flume_seqset_has(set, seq, &err) == (is_in((size_t)seq) ? 1 : 0));
  }
  CHECK(flume_seqset_has(set, -1, &err) == 0);
  CHECK(flume_seqset_has(set, SEQS * 4, &err) == 0);
  flume_seqset_forget(set);
}

static bool in_first(size_t seq) {
  return model[0][seq];
}

static bool in_none(size_t seq) {
  (void)seq;
  return false;
}

static bool in_listed(size_t seq) {
  return seq % 1000 == 0;
}

/* (a and bc) or listed, without the third */
static bool in_combined(size_t seq) {
  return ((model[0][seq] && model[1][seq]) || in_listed(seq)) && !model[2][seq];
}

static struct flume_seqset *combined(struct flume_bitmaps *bitmaps) {
  struct flume_seqset *sets[2], *set, *list;
  sets[0] = of_key(bitmaps, 0);
  sets[1] = of_key(bitmaps, 1);
  MUST(flume_seqset_combine(&flume_io_posix, FLUME_SEQSET_AND, sets, 2, &set) == 0);
  MUST(flume_seqset_of_list(&flume_io_posix, &list) == 0);
  for (size_t seq = 0; seq < SEQS; seq += 1000) MUST(flume_seqset_put(list, (int64_t)seq) == 0);
  sets[0] = set;
  sets[1] = list;
  MUST(flume_seqset_combine(&flume_io_posix, FLUME_SEQSET_OR, sets, 2, &set) == 0);
  sets[0] = set;
  sets[1] = of_key(bitmaps, 2);
  MUST(flume_seqset_combine(&flume_io_posix, FLUME_SEQSET_WITHOUT, sets, 2, &set) == 0);
  return set;
}

static void check_all(struct flume_bitmaps *bitmaps) {
  struct flume_seqset *first = of_key(bitmaps, 0), *empty = of_key(bitmaps, KEYS - 1), *mixed = combined(bitmaps);
  check_set(first, in_first);
  check_set(empty, in_none);
  check_set(mixed, in_combined);
  flume_seqset_free(first);
  flume_seqset_free(empty);
  flume_seqset_free(mixed);
}

static struct flume_bitmaps *make(struct flume_store *store) {
  struct flume_bitmaps *bitmaps;
  MUST(flume_bitmaps_new(&flume_io_posix, &bitmaps, &err) == 0);
  flume_bitmaps_use(bitmaps, store);
  return bitmaps;
}

/* --- Cases ----------------------------------------------------------------------------------------------------------- */

TEST(sets_have_the_added_members) {
  struct flume_store *store;
  MUST(flume_store_open(&store, &flume_io_posix, NULL, FLUME_STORE_WRITE, &err) == 0);
  struct flume_bitmaps *bitmaps = make(store);
  random_state = 7;
  for (int round = 0; round < 4; round++) {
    change(bitmaps, 3000);
    check_all(bitmaps);
    MUST(flume_bitmaps_save(bitmaps, &err) == 0);
    CHECK_INT_EQ(flume_bitmaps_pending_bytes(bitmaps), 0);
    check_all(bitmaps);
    flume_bitmaps_use(bitmaps, store); /* all that is at hand goes */
    check_all(bitmaps);
  }
  flume_bitmaps_free(bitmaps);
  flume_store_close(store);
  memset(model, 0, sizeof model);
}

TEST(sets_survive_on_disk) {
  char dir[TEST_PATH_MAX];
  struct flume_store_meta meta = {.since = 1};
  struct flume_store *store;
  random_state = 8;
  temp_dir(dir);
  for (int round = 0; round < 3; round++) {
    MUST(flume_store_open(&store, &flume_io_posix, dir, FLUME_STORE_WRITE, &err) == 0);
    struct flume_bitmaps *bitmaps = make(store);
    check_all(bitmaps);
    change(bitmaps, 2000);
    MUST(flume_bitmaps_save(bitmaps, &err) == 0);
    MUST(flume_store_commit(store, &meta, &err) == 0);
    flume_bitmaps_free(bitmaps);
    flume_store_close(store);
  }
  remove_dir(dir);
  memset(model, 0, sizeof model);
}

TEST(unsaved_changes_are_dropped) {
  struct flume_store *store;
  MUST(flume_store_open(&store, &flume_io_posix, NULL, FLUME_STORE_WRITE, &err) == 0);
  struct flume_bitmaps *bitmaps = make(store);
  MUST(flume_bitmaps_add(bitmaps, "a", 1, 5, &err) == 0);
  CHECK(flume_bitmaps_pending_bytes(bitmaps) > 0);
  flume_bitmaps_use(bitmaps, store);
  const roaring_bitmap_t *bitmap = NULL;
  CHECK(flume_bitmaps_get(bitmaps, "a", 1, 0, &bitmap, &err) == 0 && bitmap == NULL);
  CHECK(flume_bitmaps_add(bitmaps, "a", 1, -1, &err) == FLUME_EINVAL);
  flume_bitmaps_free(bitmaps);
  flume_store_close(store);
}

TEST(damaged_bitmap_is_reported) {
  struct flume_store *store;
  uint8_t key[9] = {'a'};
  MUST(flume_store_open(&store, &flume_io_posix, NULL, FLUME_STORE_WRITE, &err) == 0);
  MUST(flume_store_put_group(store, key, sizeof key, "nonsense", 8, &err) == 0);
  struct flume_bitmaps *bitmaps = make(store);
  const roaring_bitmap_t *bitmap = NULL;
  CHECK(flume_bitmaps_get(bitmaps, "a", 1, 0, &bitmap, &err) == FLUME_ECORRUPT);
  flume_bitmaps_free(bitmaps);
  flume_store_close(store);
}
