/* Bitmaps and sets of records when memory runs out: flume's own, and that of CRoaring, whose functions are wrapped by
 * the linker. Whatever is refused is told; what was there before still is, and nothing is left behind. */
#include "index/bitmap_index.h"
#include "index/seqset.h"
#include "support.h"

#define SEQS 400 /* in each of two spans */
#define KEYS 200 /* more than the table has buckets at first */

/* --- The wrapped functions ---------------------------------------------------------------------------------------- */

static int roaring_nth; /* call that answers NULL, counted from 1; 0: none does */
static int roaring_calls;

static bool roaring_fails(void) {
  return ++roaring_calls == roaring_nth;
}

#define WRAP(name, params, args)                            \
  roaring_bitmap_t *__real_##name params;                   \
  roaring_bitmap_t *__wrap_##name params;                   \
  roaring_bitmap_t *__wrap_##name params { return roaring_fails() ? NULL : __real_##name args; }

WRAP(roaring_bitmap_create_with_capacity, (uint32_t cap), (cap))
/* A function of its own in some versions, one that calls the above in others. */
roaring_bitmap_t *__wrap_roaring_bitmap_create(void);
roaring_bitmap_t *__wrap_roaring_bitmap_create(void) {
  return roaring_fails() ? NULL : __real_roaring_bitmap_create_with_capacity(0);
}

WRAP(roaring_bitmap_and, (const roaring_bitmap_t *a, const roaring_bitmap_t *b), (a, b))
WRAP(roaring_bitmap_or, (const roaring_bitmap_t *a, const roaring_bitmap_t *b), (a, b))
WRAP(roaring_bitmap_andnot, (const roaring_bitmap_t *a, const roaring_bitmap_t *b), (a, b))
WRAP(roaring_bitmap_copy, (const roaring_bitmap_t *a), (a))
WRAP(roaring_bitmap_portable_deserialize_safe, (const char *data, size_t len), (data, len))

/* --- A store with bitmaps ----------------------------------------------------------------------------------------- */

static struct flume_err err;
static struct faults faults;
static struct flume_store *store;
static struct flume_bitmaps *bitmaps;

static int64_t seq_of(int i) {
  return i < SEQS ? i : FLUME_BITMAP_SPAN + i - SEQS;
}

/* Key 0 has each, key 1 every second, key 2 every third record. */
static bool is_of(int key, int64_t seq) {
  int64_t number = seq & (FLUME_BITMAP_SPAN - 1);
  return number < SEQS && seq < 2 * FLUME_BITMAP_SPAN && number % (key + 1) == 0;
}

static const char *const keys[] = {"a", "b", "c"};

/* With the memory and the store that all is well with. */
static void make_store(void) {
  MUST(flume_store_open(&store, &flume_io_posix, NULL, FLUME_STORE_WRITE, &err) == 0);
  MUST(flume_bitmaps_new(&flume_io_posix, &bitmaps, &err) == 0);
  flume_bitmaps_use(bitmaps, store);
  for (int key = 0; key < 3; key++) {
    for (int i = 0; i < 2 * SEQS; i++) {
      if (is_of(key, seq_of(i))) MUST(flume_bitmaps_add(bitmaps, keys[key], 1, seq_of(i), &err) == 0);
    }
  }
  MUST(flume_bitmaps_save(bitmaps, &err) == 0);
  flume_bitmaps_free(bitmaps);
  bitmaps = NULL;
}

static void begin(void) {
  faults_init(&faults);
  roaring_nth = 0;
  make_store();
}

static void end(void) {
  flume_bitmaps_free(bitmaps);
  flume_store_close(store);
  bitmaps = NULL;
  CHECK_INT_EQ(atomic_load(&faults.allocations), 0);
}

static int open_bitmaps(void) {
  int rv = flume_bitmaps_new(&faults.io, &bitmaps, &err);
  if (rv == 0) flume_bitmaps_use(bitmaps, store);
  return rv;
}

/* --- Sets --------------------------------------------------------------------------------------------------------- */

static int of_key(int key, struct flume_seqset **set) {
  return flume_seqset_of_key(&faults.io, bitmaps, keys[key], 1, set);
}

static int of_list(struct flume_seqset **list) {
  int rv = flume_seqset_of_list(&faults.io, list);
  for (int64_t seq = 0; rv == 0 && seq < 100; seq += 10) rv = flume_seqset_put(*list, seq);
  if (rv == 0) rv = flume_seqset_put(*list, 40 * FLUME_BITMAP_SPAN);
  if (rv != 0) flume_seqset_free(*list);
  return rv;
}

/* Both are taken over, if there are both. */
static int combine(enum flume_seqset_op op, struct flume_seqset *a, struct flume_seqset *b, struct flume_seqset **set) {
  struct flume_seqset *both[] = {a, b};
  return flume_seqset_combine(&faults.io, op, both, 2, set);
}

/* (a or ((b and c) or list)) without b. */
static int make_set(struct flume_seqset **out) {
  struct flume_seqset *left, *right;
  int rv = of_key(1, &left);
  if (rv != 0) return rv;
  rv = of_key(2, &right);
  if (rv == 0) rv = combine(FLUME_SEQSET_AND, left, right, &left);
  else flume_seqset_free(left);
  if (rv != 0) return rv;
  rv = of_list(&right);
  if (rv == 0) rv = combine(FLUME_SEQSET_OR, left, right, &left);
  else flume_seqset_free(left);
  if (rv != 0) return rv;
  rv = of_key(0, &right);
  if (rv == 0) rv = combine(FLUME_SEQSET_OR, right, left, &left);
  else flume_seqset_free(left);
  if (rv != 0) return rv;
  rv = of_key(1, &right);
  if (rv == 0) return combine(FLUME_SEQSET_WITHOUT, left, right, out);
  flume_seqset_free(left);
  return rv;
}

/* The odd ones, and the one of the list that lies far behind. */
static bool is_in(int64_t seq) {
  return (is_of(0, seq) && !is_of(1, seq)) || seq == 40 * FLUME_BITMAP_SPAN;
}

static int64_t count_in(int64_t first, int64_t last) {
  int64_t count = last >= 40 * FLUME_BITMAP_SPAN;
  for (int i = 0; i < 2 * SEQS; i++) count += seq_of(i) >= first && seq_of(i) <= last && is_in(seq_of(i));
  return count;
}

/* Reads the set in each way; the first error. */
static int64_t read_set(struct flume_seqset *set) {
  static int64_t seqs[2 * SEQS];
  int64_t last = 41 * FLUME_BITMAP_SPAN;
  for (int reverse = 0; reverse < 2; reverse++) {
    int64_t count = flume_seqset_read(set, -5, last, reverse != 0, seqs, 2 * SEQS, &err);
    if (count < 0) return count;
    CHECK_INT_EQ(count, count_in(0, last));
    for (int64_t i = 0; i < count; i++) {
      CHECK(is_in(seqs[i]));
      if (i > 0) CHECK((seqs[i] > seqs[i - 1]) == (reverse == 0));
    }
  }
  int64_t count = flume_seqset_count(set, -5, last, &err);
  if (count >= 0) CHECK_INT_EQ(count, count_in(0, last));
  for (int i = 0; count >= 0 && i < 2 * SEQS; i += 7) {
    int has = flume_seqset_has(set, seq_of(i), &err);
    if (has < 0) return has;
    CHECK_INT_EQ(has, is_in(seq_of(i)));
  }
  return count < 0 ? count : 0;
}

static int use_sets(void) {
  struct flume_seqset *set, *key;
  int rv = open_bitmaps();
  if (rv != 0) return rv;
  rv = make_set(&set);
  if (rv != 0) return rv;
  rv = (int)read_set(set);
  flume_seqset_forget(set);
  if (rv == 0) rv = (int)read_set(set);
  flume_seqset_free(set);
  if (rv != 0) return rv;
  rv = of_key(2, &key);
  if (rv != 0) return rv;
  rv = flume_seqset_has(key, 3, &err);
  flume_seqset_free(key);
  return rv < 0 ? rv : CHECK_INT_EQ(rv, 1) ? 0 : UV_EIO;
}

TEST(sets_without_memory) {
  int nth = 1, told = 0;
  for (bool hit = true; hit && nth < 500 && !test_failed; nth++) {
    begin();
    faults_arm(&faults, FAULT_ALLOC, nth, UV_ENOMEM);
    int rv = use_sets();
    hit = fault_was_hit(&faults);
    CHECK(rv == 0 || (hit && rv == FLUME_ENOMEM)); /* a table that can't grow does as well */
    told += rv != 0;
    end();
    if (test_failed) printf("allocation %d\n", nth);
  }
  CHECK(told > 20 && told >= nth - 3);
}

TEST(sets_when_croaring_has_no_memory) {
  int nth = 1;
  for (bool hit = true; hit && nth < 500 && !test_failed; nth++) {
    begin();
    roaring_calls = 0;
    roaring_nth = nth;
    int rv = use_sets();
    hit = roaring_calls >= nth;
    roaring_nth = 0;
    CHECK_INT_EQ(rv, hit ? FLUME_ENOMEM : 0);
    end();
    if (test_failed) printf("call %d\n", nth);
  }
  CHECK(nth > 10);
}

/* Nothing is there in a span that nobody has put anything into, whatever sets are combined. */
TEST(empty_sets) {
  static const enum flume_seqset_op ops[] = {FLUME_SEQSET_AND, FLUME_SEQSET_OR, FLUME_SEQSET_WITHOUT};
  begin();
  MUST(open_bitmaps() == 0);
  for (size_t i = 0; i < 3; i++) {
    struct flume_seqset *list, *key, *set;
    int64_t seqs[4];
    MUST(flume_seqset_of_list(&faults.io, &list) == 0 && flume_seqset_put(list, 5 * FLUME_BITMAP_SPAN) == 0);
    CHECK_INT_EQ(flume_seqset_has(list, 5 * FLUME_BITMAP_SPAN, &err), 1);
    CHECK_INT_EQ(flume_seqset_has(list, 5, &err), 0);
    CHECK_INT_EQ(flume_seqset_has(list, 500 * FLUME_BITMAP_SPAN, &err), 0);
    flume_seqset_forget(list);
    MUST(of_key(0, &key) == 0 && combine(ops[i], list, key, &set) == 0);
    int64_t expected = ops[i] == FLUME_SEQSET_AND ? 0 : 1;
    CHECK_INT_EQ(flume_seqset_count(set, 2 * FLUME_BITMAP_SPAN, 9 * FLUME_BITMAP_SPAN, &err), expected);
    CHECK_INT_EQ(flume_seqset_read(set, 7, 6, false, seqs, 4, &err), 0);
    CHECK_INT_EQ(flume_seqset_count(set, 7, 6, &err), 0);
    flume_seqset_free(set);
  }
  flume_seqset_free(NULL);
  end();
}

/* --- Bitmaps ------------------------------------------------------------------------------------------------------ */

static size_t key_text(char *key, int i) {
  return (size_t)snprintf(key, 16, "key %03d", i) + 1;
}

/* Each key gets its number, and some lose it again; the first error. */
static int change_many(void) {
  char key[16];
  int rv = open_bitmaps();
  for (int i = 0; i < KEYS && rv == 0; i++) {
    size_t len = key_text(key, i);
    rv = flume_bitmaps_add(bitmaps, key, len, i, &err);
    if (rv == 0 && i % 3 == 0) rv = flume_bitmaps_remove(bitmaps, key, len, i, &err);
  }
  if (rv == 0) CHECK(flume_bitmaps_pending_bytes(bitmaps) > 0);
  if (rv == 0) rv = flume_bitmaps_save(bitmaps, &err);
  if (rv == 0) CHECK_INT_EQ(flume_bitmaps_pending_bytes(bitmaps), 0);
  return rv;
}

/* What the store has of it, with memory again. */
static void check_many(void) {
  char key[16];
  const roaring_bitmap_t *bitmap;
  MUST(open_bitmaps() == 0);
  for (int i = 0; i < KEYS; i++) {
    size_t len = key_text(key, i);
    CHECK_INT_EQ(flume_bitmaps_get(bitmaps, key, len, 0, &bitmap, &err), 0);
    CHECK((bitmap == NULL) == (i % 3 == 0));
    if (bitmap == NULL) continue;
    CHECK_INT_EQ(roaring_bitmap_get_cardinality(bitmap), 1);
    CHECK(roaring_bitmap_contains(bitmap, (uint32_t)i));
  }
}

TEST(many_keys_without_memory) {
  int nth = 1, told = 0;
  for (bool hit = true; hit && nth < 2000 && !test_failed; nth += 1 + nth / 20) {
    begin();
    faults_arm(&faults, FAULT_ALLOC, nth, UV_ENOMEM);
    int rv = change_many();
    hit = fault_was_hit(&faults);
    CHECK(rv == 0 || (hit && rv == FLUME_ENOMEM));
    told += rv != 0;
    faults_arm(&faults, FAULT_NONE, 0, 0);
    if (rv == 0) {
      flume_bitmaps_free(bitmaps);
      check_many();
    }
    end();
    if (test_failed) printf("allocation %d\n", nth);
  }
  CHECK(told > 20);
}

TEST(many_keys_when_croaring_has_no_memory) {
  int nth = 1;
  for (bool hit = true; hit && nth < 1000 && !test_failed; nth += 1 + nth / 10) {
    begin();
    roaring_calls = 0;
    roaring_nth = nth;
    int rv = change_many();
    hit = roaring_calls >= nth;
    roaring_nth = 0;
    CHECK_INT_EQ(rv, hit ? FLUME_ENOMEM : 0);
    end();
  }
}

/* What was changed is not let go of, however much is at hand. */
TEST(pending_changes_are_not_trimmed) {
  char key[16];
  begin();
  MUST(open_bitmaps() == 0);
  MUST(flume_bitmaps_add(bitmaps, "pending", 8, 7, &err) == 0);
  size_t pending = flume_bitmaps_pending_bytes(bitmaps);
  const roaring_bitmap_t *bitmap;
  for (int i = 0; i < 60000; i++) {
    snprintf(key, sizeof key, "none %08d", i);
    MUST(flume_bitmaps_get(bitmaps, key, 14, 0, &bitmap, &err) == 0 && bitmap == NULL);
  }
  long before = atomic_load(&faults.allocations);
  flume_bitmaps_trim(bitmaps);
  CHECK(atomic_load(&faults.allocations) < before - 50000);
  CHECK_INT_EQ(flume_bitmaps_pending_bytes(bitmaps), pending);
  CHECK_INT_EQ(flume_bitmaps_get(bitmaps, "pending", 8, 0, &bitmap, &err), 0);
  CHECK(bitmap != NULL && roaring_bitmap_contains(bitmap, 7));
  long after = atomic_load(&faults.allocations);
  flume_bitmaps_trim(bitmaps); /* it is little now */
  CHECK_INT_EQ(atomic_load(&faults.allocations), after);
  end();
}

TEST(invalid_arguments_are_refused) {
  const roaring_bitmap_t *bitmap;
  begin();
  MUST(open_bitmaps() == 0);
  CHECK_INT_EQ(flume_bitmaps_remove(bitmaps, "a", 1, -1, &err), FLUME_EINVAL);
  CHECK_INT_EQ(flume_bitmaps_add(bitmaps, "a", UINT32_MAX, 1, &err), FLUME_E2BIG); /* no byte of it is looked at */
  CHECK_INT_EQ(flume_bitmaps_remove(bitmaps, "a", UINT32_MAX, 1, &err), FLUME_E2BIG);
  CHECK_INT_EQ(flume_bitmaps_get(bitmaps, "a", UINT32_MAX, 0, &bitmap, &err), FLUME_E2BIG);
  CHECK_INT_EQ(flume_bitmaps_remove(bitmaps, "never", 5, 3, &err), 0);
  CHECK_INT_EQ(flume_bitmaps_pending_bytes(bitmaps), 0);
  flume_bitmaps_use(bitmaps, NULL); /* without a store all is in memory */
  CHECK_INT_EQ(flume_bitmaps_get(bitmaps, "a", 1, 0, &bitmap, &err), 0);
  CHECK(bitmap == NULL);
  flume_bitmaps_free(bitmaps);
  flume_bitmaps_free(NULL);
  bitmaps = NULL;
  end();
}

/* A set that can't be read says why, however it is read. */
TEST(damage_is_reported_by_every_set) {
  struct flume_seqset *set;
  int64_t seqs[4];
  uint8_t key[9] = {'a'};
  begin();
  MUST(flume_store_put_group(store, key, sizeof key, "nonsense", 8, &err) == 0);
  MUST(open_bitmaps() == 0);
  MUST(make_set(&set) == 0);
  CHECK_INT_EQ(flume_seqset_read(set, 0, 100, false, seqs, 4, &err), FLUME_ECORRUPT);
  CHECK_INT_EQ(flume_seqset_count(set, 0, 100, &err), FLUME_ECORRUPT);
  CHECK_INT_EQ(flume_seqset_has(set, 5, &err), FLUME_ECORRUPT);
  CHECK_INT_EQ(flume_bitmaps_add(bitmaps, "a", 1, 5, &err), FLUME_ECORRUPT);
  CHECK_INT_EQ(flume_bitmaps_remove(bitmaps, "a", 1, 5, &err), FLUME_ECORRUPT);
  flume_seqset_free(set);
  end();
}
