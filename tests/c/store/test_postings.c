/* Chunks of an index' entries: what is written reads back, and any bytes are read without harm. */
#include "store/postings.h"

#include "support.h"

#define ITEMS 300

struct made_item {
  int64_t seq;
  size_t value_len;
};

static struct made_item made[ITEMS];
static struct flume_buf buf;

/* A chunk of count entries, whose seqs grow by less than so much; every second one has no values. */
static void make(uint64_t *random, int64_t base_seq, uint32_t count, uint64_t step) {
  int64_t seq = base_seq;
  bool has_values = random_below(random, 2) == 0;
  buf.len = 0;
  MUST(flume_buf_reserve(&buf, FLUME_CHUNK_HEADER_BYTES) == 0);
  buf.len = flume_chunk_begin(buf.data, base_seq);
  for (uint32_t i = 0; i < count; i++) {
    uint8_t value[40];
    if (i > 0) seq += (int64_t)(random_next(random) % step);
    made[i] = (struct made_item){seq, has_values && random_below(random, 3) == 0 ? random_below(random, sizeof value) : 0};
    payload_fill(value, made[i].value_len, (uint64_t)i + 1);
    MUST(flume_buf_reserve(&buf, FLUME_CHUNK_ITEM_BYTES + sizeof value) == 0);
    buf.len = flume_chunk_append(buf.data, buf.len, seq, value, made[i].value_len);
  }
}

/* The same entries from the last to the first. */
static void check_backwards(const struct flume_chunk *chunk, const struct flume_chunk_item *items) {
  struct flume_chunk_place place;
  struct flume_chunk_item item;
  if (chunk->has_values) return;
  CHECK_INT_EQ(flume_chunk_last(chunk, &place), 0);
  for (uint32_t i = chunk->count; i > 0 && !test_failed; i--) {
    REQUIRE(flume_chunk_prev(chunk, &place, &item) == 1);
    CHECK_INT_EQ(item.seq, items[i - 1].seq);
    CHECK_INT_EQ(item.ordinal, items[i - 1].ordinal);
  }
  CHECK_INT_EQ(flume_chunk_prev(chunk, &place, &item), 0);
}

static void check(const struct flume_chunk *chunk, uint32_t count, int64_t without) {
  struct flume_chunk_item items[ITEMS];
  uint32_t next = 0, ordinal = 0;
  CHECK_INT_EQ(flume_chunk_read(chunk, items), 0);
  for (uint32_t i = 0; i < count && !test_failed; i++) {
    ordinal = i > 0 && made[i].seq == made[i - 1].seq ? ordinal + 1 : 0;
    if (made[i].seq == without) continue;
    REQUIRE(next < chunk->count);
    CHECK_INT_EQ(items[next].seq, made[i].seq);
    CHECK_INT_EQ(items[next].ordinal, ordinal);
    CHECK_INT_EQ(items[next].value_len, made[i].value_len);
    CHECK(payload_is(items[next].value, items[next].value_len, (uint64_t)i + 1));
    next++;
  }
  CHECK_INT_EQ(chunk->count, next);
  check_backwards(chunk, items);
}

TEST(written_postings_read_back) {
  uint64_t random = random_seed();
  flume_buf_init(&buf, &flume_io_posix);
  for (int round = 0; round < 500 && !test_failed; round++) {
    static const uint64_t steps[] = {1, 2, 3, 100, 10000, (uint64_t)1 << 33, (uint64_t)1 << 54};
    int64_t base_seq = random_below(&random, 2) == 0 ? 0 : (int64_t)(random_next(&random) >> 3);
    uint32_t count = 1 + random_below(&random, ITEMS);
    struct flume_chunk chunk;
    make(&random, base_seq, count, steps[random_below(&random, 7)]);
    CHECK_INT_EQ(flume_chunk_open(&chunk, base_seq, buf.data, buf.len), 0);
    CHECK_INT_EQ(chunk.last_seq, made[count - 1].seq);
    check(&chunk, count, -1);
    /* one seq out of it */
    struct flume_buf less;
    int64_t gone = made[random_below(&random, count)].seq;
    flume_buf_init(&less, &flume_io_posix);
    flume_buf_append(&less, "abc", 3);
    int64_t left = flume_chunk_without(&chunk, gone, &less);
    CHECK(left >= 0 && left < count);
    if (left > 0) {
      CHECK_INT_EQ(flume_chunk_open(&chunk, base_seq, less.data + 3, less.len - 3), 0);
      CHECK_INT_EQ(chunk.count, left);
      check(&chunk, count, gone);
    } else {
      CHECK_INT_EQ(less.len, 3);
    }
    flume_buf_fini(&less);
  }
  flume_buf_fini(&buf);
}

TEST(least_and_greatest_seqs) {
  struct flume_chunk chunk;
  uint8_t data[FLUME_CHUNK_HEADER_BYTES + 3 * FLUME_CHUNK_ITEM_BYTES];
  struct flume_chunk_item items[3];
  size_t len = flume_chunk_begin(data, 0);
  len = flume_chunk_append(data, len, 0, NULL, 0);
  len = flume_chunk_append(data, len, INT64_MAX, NULL, 0);
  len = flume_chunk_append(data, len, INT64_MAX, NULL, 0);
  CHECK_INT_EQ(flume_chunk_open(&chunk, 0, data, len), 0);
  CHECK_INT_EQ(flume_chunk_read(&chunk, items), 0);
  CHECK(items[0].seq == 0 && items[2].seq == INT64_MAX && items[2].ordinal == 1);
  CHECK_INT_EQ(flume_chunk_open(&chunk, 1, data, len), 0);
  CHECK_INT_EQ(flume_chunk_read(&chunk, items), FLUME_ECORRUPT); /* above an int64 */
}

TEST(chunks_are_joined) {
  uint64_t random = 5;
  struct flume_buf all;
  struct flume_chunk chunk;
  flume_buf_init(&buf, &flume_io_posix);
  flume_buf_init(&all, &flume_io_posix);
  make(&random, 7, 20, 50);
  flume_buf_append(&all, "abc", 3);
  flume_buf_append(&all, buf.data, buf.len);
  int64_t last = made[19].seq;
  make(&random, last + 3, 30, 50);
  CHECK_INT_EQ(flume_chunk_open(&chunk, last + 3, buf.data, buf.len), 0);
  CHECK_INT_EQ(flume_chunk_join(&all, 3, &chunk), 0);
  CHECK_INT_EQ(flume_chunk_open(&chunk, 7, all.data + 3, all.len - 3), 0);
  CHECK_INT_EQ(chunk.count, 50);
  struct flume_chunk_item items[50];
  CHECK_INT_EQ(flume_chunk_read(&chunk, items), 0);
  CHECK_INT_EQ(items[19].seq, last);
  for (int i = 0; i < 30; i++) CHECK_INT_EQ(items[20 + i].seq, made[i].seq);
  flume_buf_fini(&buf);
  flume_buf_fini(&all);
}

/* On a copy on the heap, so that a sanitizer sees a read beyond it. */
static void read_damaged(const uint8_t *data, size_t len) {
  uint8_t *copy = malloc(len > 0 ? len : 1);
  struct flume_chunk chunk;
  struct flume_buf out;
  MUST(copy != NULL);
  if (len > 0) memcpy(copy, data, len);
  flume_buf_init(&out, &flume_io_posix);
  int rv = flume_chunk_open(&chunk, 100, copy, len);
  CHECK(rv == 0 || rv == FLUME_ECORRUPT || rv == FLUME_EVERSION);
  if (rv == 0) {
    CHECK(chunk.count <= len);
    struct flume_chunk_item *items = malloc(chunk.count * sizeof *items);
    MUST(items != NULL);
    rv = flume_chunk_read(&chunk, items);
    CHECK(rv == 0 || rv == FLUME_ECORRUPT);
    for (uint32_t i = 0; rv == 0 && i < chunk.count; i++) {
      CHECK(items[i].seq >= 100 && items[i].value >= copy && items[i].value + items[i].value_len <= copy + len);
    }
    struct flume_chunk_place place;
    struct flume_chunk_item item;
    rv = chunk.has_values ? -1 : flume_chunk_last(&chunk, &place);
    for (uint32_t i = 0; rv == 0; i++) {
      REQUIRE(i <= chunk.count);
      rv = flume_chunk_prev(&chunk, &place, &item) == 1 ? 0 : -1;
    }
    if (flume_chunk_without(&chunk, 105, &out) <= 0) CHECK_INT_EQ(out.len, 0);
    out.len = 0;
    flume_buf_reserve(&out, FLUME_CHUNK_HEADER_BYTES + FLUME_CHUNK_ITEM_BYTES);
    out.len = flume_chunk_begin(out.data, 3);
    out.len = flume_chunk_append(out.data, out.len, 4, NULL, 0);
    flume_chunk_join(&out, 0, &chunk);
    free(items);
  }
  flume_buf_fini(&out);
  free(copy);
}

TEST(damaged_bytes) {
  uint64_t random = random_seed();
  flume_buf_init(&buf, &flume_io_posix);
  for (int round = 0; round < 60 && !test_failed; round++) {
    make(&random, 100, 1 + random_below(&random, 40), 300);
    for (size_t len = 0; len < buf.len; len++) read_damaged(buf.data, len);
    for (size_t at = 0; at < buf.len; at++) {
      uint8_t was = buf.data[at];
      buf.data[at] ^= (uint8_t)(1 << random_below(&random, 8));
      read_damaged(buf.data, buf.len);
      buf.data[at] = (uint8_t)random_next(&random);
      read_damaged(buf.data, buf.len);
      buf.data[at] = was;
    }
  }
  flume_buf_fini(&buf);
}
