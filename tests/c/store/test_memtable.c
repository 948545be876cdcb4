/* The ordered map in memory, against a sorted array. */
#include "store/memtable.h"

#include "support.h"

#define KEYS_MAX 4000
#define KEY_BYTES 24

struct model_entry {
  uint8_t key[KEY_BYTES];
  size_t key_len;
  uint64_t value; /* of payload_fill */
  size_t value_len;
  bool gone;
};

struct model {
  struct model_entry entries[KEYS_MAX]; /* ascending */
  size_t count;
  uint64_t random;
};

static struct flume_memtable table;
static struct model model;

static int compare(const void *a, size_t a_len, const void *b, size_t b_len) {
  size_t len = a_len < b_len ? a_len : b_len;
  int order = len > 0 ? memcmp(a, b, len) : 0;
  return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

static size_t model_find(const void *key, size_t len, bool *found) {
  size_t i = 0;
  while (i < model.count && compare(model.entries[i].key, model.entries[i].key_len, key, len) < 0) i++;
  *found = i < model.count && compare(model.entries[i].key, model.entries[i].key_len, key, len) == 0;
  return i;
}

static struct model_entry *model_set(const void *key, size_t len) {
  bool found;
  size_t i = model_find(key, len, &found);
  if (!found) {
    MUST(model.count < KEYS_MAX);
    memmove(&model.entries[i + 1], &model.entries[i], (model.count++ - i) * sizeof *model.entries);
  }
  struct model_entry *entry = &model.entries[i];
  if (len > 0) memcpy(entry->key, key, len);
  entry->key_len = len;
  return entry;
}

static void model_remove(const void *key, size_t len) {
  bool found;
  size_t i = model_find(key, len, &found);
  if (found) memmove(&model.entries[i], &model.entries[i + 1], (--model.count - i) * sizeof *model.entries);
}

/* --- Comparing ------------------------------------------------------------------------------------------------------ */

static bool is_entry(const struct flume_mem_entry *got, const struct model_entry *want) {
  return CHECK(got != NULL) && CHECK_INT_EQ(got->key_len, want->key_len) &&
         CHECK(memcmp(got->bytes, want->key, want->key_len) == 0) &&
         CHECK_INT_EQ(got->state, want->gone ? FLUME_MEM_GONE : FLUME_MEM_PUT) &&
         CHECK_INT_EQ(got->value_len, want->value_len) && CHECK(got->value_cap >= got->value_len) &&
         CHECK(payload_is(flume_mem_value(got), want->value_len, want->value));
}

static void check_walks(void) {
  struct flume_mem_place place = {0, 0};
  CHECK_INT_EQ(table.count, model.count);
  for (size_t i = 0; i < model.count && !test_failed; i++) is_entry(flume_memtable_next(&table, &place), &model.entries[i]);
  CHECK(flume_memtable_next(&table, &place) == NULL);
  place = flume_memtable_end(&table);
  for (size_t i = model.count; i > 0 && !test_failed; i--) {
    is_entry(flume_memtable_prev(&table, &place), &model.entries[i - 1]);
  }
  CHECK(flume_memtable_prev(&table, &place) == NULL);
}

static void check_key(const void *key, size_t len) {
  bool found;
  size_t i = model_find(key, len, &found);
  const struct flume_mem_entry *got = flume_memtable_get(&table, key, len);
  if (found) is_entry(got, &model.entries[i]);
  else CHECK(got == NULL);
  struct flume_mem_place place = flume_memtable_seek(&table, key, len), back = place;
  got = flume_memtable_next(&table, &place);
  if (i < model.count) is_entry(got, &model.entries[i]);
  else CHECK(got == NULL);
  got = flume_memtable_prev(&table, &back);
  if (i > 0) is_entry(got, &model.entries[i - 1]);
  else CHECK(got == NULL);
}

/* --- Doing ---------------------------------------------------------------------------------------------------------- */

/* Keys of few different bytes, which agree in their first ones; the empty one too. */
static size_t random_key(uint8_t *key) {
  static const uint8_t bytes[] = {0x00, 0x01, 'a', 0xff};
  size_t len = random_below(&model.random, KEY_BYTES + 1);
  size_t same = random_below(&model.random, 3) * 5;
  for (size_t i = 0; i < len; i++) key[i] = i < same ? 'k' : bytes[random_below(&model.random, 4)];
  return len;
}

static void do_put(const uint8_t *key, size_t len) {
  struct model_entry *entry = model_set(key, len);
  entry->gone = false;
  entry->value = random_next(&model.random);
  entry->value_len = random_below(&model.random, 4) == 0 ? 0 : random_below(&model.random, 200);
  uint8_t *value = payload_new(entry->value_len, entry->value);
  CHECK_INT_EQ(flume_memtable_put(&table, key, len, value, entry->value_len), 0);
  free(value);
}

static void do_note_gone(const uint8_t *key, size_t len) {
  struct model_entry *entry = model_set(key, len);
  entry->gone = true;
  entry->value_len = 0;
  CHECK_INT_EQ(flume_memtable_put(&table, key, len, NULL, 0), 0);
}

/* The value grows in place, and the payload with it. */
static void do_grow(const uint8_t *key, size_t len) {
  bool found;
  size_t i = model_find(key, len, &found);
  if (!found || model.entries[i].gone) return;
  size_t more = random_below(&model.random, 500);
  struct flume_mem_place place = flume_memtable_seek(&table, key, len);
  struct flume_mem_entry *entry = flume_memtable_reserve(&table, place, more);
  if (!CHECK(entry != NULL && entry->value_cap >= entry->value_len + more)) return;
  model.entries[i].value_len += more;
  payload_fill(flume_mem_value_of(entry), model.entries[i].value_len, model.entries[i].value);
  entry->value_len = (uint32_t)model.entries[i].value_len;
}

static void do_something(void) {
  uint8_t key[KEY_BYTES];
  size_t len = random_key(key);
  if (model.count > 0 && random_below(&model.random, 2) == 0) {
    struct model_entry *known = &model.entries[random_below(&model.random, (uint32_t)model.count)];
    memcpy(key, known->key, len = known->key_len);
  }
  uint32_t what = random_below(&model.random, 10);
  if (what < 5 && model.count < KEYS_MAX - 1) do_put(key, len);
  else if (what < 6 && model.count < KEYS_MAX - 1) do_note_gone(key, len);
  else if (what < 8) do_grow(key, len);
  else {
    flume_memtable_remove(&table, key, len);
    model_remove(key, len);
  }
  check_key(key, len);
  check_key(key, random_key(key));
}

static void begin(struct flume_io const *io, uint64_t seed) {
  memset(&model, 0, sizeof model);
  model.random = seed;
  flume_memtable_init(&table, io);
}

TEST(random_operations) {
  uint64_t seed = random_seed();
  struct faults faults;
  faults_init(&faults);
  begin(&faults.io, seed);
  for (int i = 0; i < 30000 && !test_failed; i++) {
    do_something();
    if (i % 500 == 0) check_walks();
    if (i == 15000) {
      flume_memtable_clear(&table);
      model.count = 0;
      CHECK_INT_EQ(table.bytes, 0);
    }
  }
  check_walks();
  while (model.count > 0) {
    struct model_entry last = model.entries[random_below(&model.random, (uint32_t)model.count)];
    flume_memtable_remove(&table, last.key, last.key_len);
    model_remove(last.key, last.key_len);
  }
  check_walks();
  CHECK_INT_EQ(table.bytes, 0);
  flume_memtable_fini(&table);
  CHECK_INT_EQ(atomic_load(&faults.allocations), 0);
}

/* Keys that ascend, descend and come from the middle fill leaves in different ways. */
static void fill(size_t first, size_t step, size_t count) {
  begin(&flume_io_posix, 1);
  for (size_t i = 0; i < count; i++) {
    char key[16];
    int len = snprintf(key, sizeof key, "%08zu", (first + i * step) % count);
    do_put((const uint8_t *)key, (size_t)len);
  }
  check_walks();
  CHECK_INT_EQ(table.count, count);
  flume_memtable_fini(&table);
}

TEST(ascending_keys) { fill(0, 1, 1000); }
TEST(descending_keys) { fill(999, 999, 1000); }
TEST(scattered_keys) { fill(0, 377, 1000); }

TEST(an_empty_map) {
  begin(&flume_io_posix, 1);
  struct flume_mem_place place = flume_memtable_seek(&table, "a", 1);
  CHECK(flume_memtable_next(&table, &place) == NULL);
  CHECK(flume_memtable_prev(&table, &place) == NULL);
  place = flume_memtable_end(&table);
  CHECK(flume_memtable_prev(&table, &place) == NULL);
  CHECK(flume_memtable_get(&table, "", 0) == NULL);
  flume_memtable_remove(&table, "a", 1);
  flume_memtable_clear(&table);
  CHECK_INT_EQ(table.count, 0);
  flume_memtable_fini(&table);
}

/* Each allocation fails once: nothing has changed then. */
TEST(without_memory) {
  bool hit = true;
  for (int nth = 1; hit && nth < 3000 && !test_failed; nth += 1 + nth / 20) {
    struct faults faults;
    faults_init(&faults);
    begin(&faults.io, 7);
    faults_arm(&faults, FAULT_ALLOC, nth, UV_ENOMEM);
    size_t bytes = 0;
    for (int i = 0; i < 600; i++) {
      uint8_t key[KEY_BYTES];
      size_t len = random_key(key);
      if (flume_memtable_put(&table, key, len, "value", 5) == 0) {
        struct model_entry *entry = model_set(key, len);
        entry->value_len = 5;
      } else {
        CHECK_INT_EQ(table.bytes, bytes);
      }
      bytes = table.bytes;
      struct flume_mem_place place = flume_memtable_seek(&table, key, len);
      if (flume_memtable_get(&table, key, len) != NULL && flume_memtable_reserve(&table, place, 300) == NULL) {
        CHECK_INT_EQ(table.bytes, bytes);
      }
      bytes = table.bytes;
    }
    hit = fault_was_hit(&faults);
    CHECK_INT_EQ(table.count, model.count);
    struct flume_mem_place place = {0, 0};
    for (size_t i = 0; i < model.count; i++) {
      const struct flume_mem_entry *entry = flume_memtable_next(&table, &place);
      CHECK(entry->value_len == 5 && compare(entry->bytes, entry->key_len, model.entries[i].key, model.entries[i].key_len) == 0);
    }
    flume_memtable_fini(&table);
    CHECK_INT_EQ(atomic_load(&faults.allocations), 0);
  }
}
