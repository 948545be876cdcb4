/* Where the records of an offset log begin, against a plain array. */
#include "log/offset/offset_index.h"
#include "support.h"

#define OFFSETS 20000

static struct faults faults;
static struct flume_offset_index offsets;
static uint64_t model[OFFSETS];
static uint64_t count;

static void begin(void) {
  faults_init(&faults);
  flume_offset_index_init(&offsets, &faults.io);
  count = 0;
}

static void end(void) {
  flume_offset_index_fini(&offsets);
  CHECK_INT_EQ(offsets.count, 0);
  CHECK_INT_EQ(atomic_load(&faults.allocations), 0);
}

static void add(uint64_t off) {
  CHECK_INT_EQ(flume_offset_index_add(&offsets, off), 0);
  model[count++] = off;
}

/* Small steps, and from time to time one that four bytes do not hold. */
static void fill(uint64_t seed) {
  uint64_t off = 0;
  for (int i = 0; i < OFFSETS; i++) {
    add(off);
    off += 1 + random_below(&seed, 1000);
    if (i % 3001 == 3000) off += (uint64_t)UINT32_MAX + random_below(&seed, 3);
  }
}

/* How many of the model are smaller. */
static uint64_t rank_of(uint64_t off) {
  uint64_t low = 0, high = count;
  while (low < high) {
    uint64_t mid = low + (high - low) / 2;
    if (model[mid] < off) low = mid + 1;
    else high = mid;
  }
  return low;
}

static void check_around(uint64_t i) {
  uint64_t off = model[i];
  CHECK_INT_EQ(flume_offset_index_at(&offsets, i), off);
  CHECK_INT_EQ(flume_offset_index_find(&offsets, off), i);
  CHECK_INT_EQ(flume_offset_index_find(&offsets, off + 1), i + 1);
  CHECK(flume_offset_index_has(&offsets, off));
  CHECK_INT_EQ(flume_offset_index_find(&offsets, off + 500), rank_of(off + 500));
  bool follows = i + 1 < count && model[i + 1] == off + 1;
  CHECK(flume_offset_index_has(&offsets, off + 1) == follows);
}

TEST(offsets_are_where_they_were_put) {
  begin();
  CHECK_INT_EQ(flume_offset_index_find(&offsets, 0), 0);
  CHECK(!flume_offset_index_has(&offsets, 0));
  fill(3);
  CHECK_INT_EQ(offsets.count, OFFSETS);
  CHECK(offsets.pieces_count > OFFSETS / 4096 + 1); /* the wide steps begin some of their own */
  for (uint64_t i = 0; i < count && !test_failed; i++) check_around(i);
  CHECK_INT_EQ(flume_offset_index_find(&offsets, UINT64_MAX), OFFSETS);
  CHECK(!flume_offset_index_has(&offsets, UINT64_MAX));
  end();
}

/* Before the first offset there is none. */
TEST(an_offset_before_all_of_them) {
  begin();
  for (uint64_t i = 0; i < 5000; i++) add(1000 + i * 2);
  CHECK_INT_EQ(flume_offset_index_find(&offsets, 0), 0);
  CHECK(!flume_offset_index_has(&offsets, 999));
  CHECK_INT_EQ(flume_offset_index_find(&offsets, 1001), 1);
  end();
}

/* What was reserved needs no memory any more. */
TEST(room_that_was_reserved) {
  begin();
  add(7);
  CHECK_INT_EQ(flume_offset_index_reserve(&offsets, 10000), 0);
  size_t pieces = offsets.pieces_count;
  faults.forever = true;
  faults_arm(&faults, FAULT_ALLOC, 1, UV_ENOMEM);
  CHECK_INT_EQ(flume_offset_index_reserve(&offsets, 10000), 0);
  for (uint64_t i = 0; i < 10000; i++) add(8 + i);
  CHECK_INT_EQ(offsets.pieces_count, pieces);
  for (uint64_t i = 0; i < count && !test_failed; i++) check_around(i);
  CHECK_INT_EQ(flume_offset_index_reserve(&offsets, 10000), FLUME_ENOMEM);
  end();
}

/* An offset for which there is no memory is not in it; the others are. */
TEST(without_memory) {
  int nth = 1;
  for (bool hit = true; hit && !test_failed; nth++) {
    begin();
    faults_arm(&faults, FAULT_ALLOC, nth, UV_ENOMEM);
    int refused = 0;
    for (uint64_t i = 0; i < 10; i++) {
      uint64_t off = i * UINT32_MAX * 2;
      int rv = flume_offset_index_add(&offsets, off);
      if (rv == 0) model[count++] = off;
      else CHECK_INT_EQ(rv, FLUME_ENOMEM);
      refused += rv != 0;
    }
    hit = fault_was_hit(&faults);
    CHECK_INT_EQ(refused, hit);
    CHECK_INT_EQ(offsets.count, 10 - refused);
    for (uint64_t i = 0; i < count; i++) CHECK_INT_EQ(flume_offset_index_at(&offsets, i), model[i]);
    end();
  }
  CHECK(nth > 10);
}
