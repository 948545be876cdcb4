#include "index/hyperloglog.h"

#include <assert.h>
#include <math.h>

#include "base/bytes.h"
#include "flume.h"

#define INDEX_BITS 12u
#define REGISTERS (1u << INDEX_BITS)
#define RANK_MAX (64u - INDEX_BITS + 1) /* when all bits behind the index are 0 */
#define HASH_BYTES 8u
#define LIST_MAX_BYTES (128u * HASH_BYTES)

static bool is_list(size_t len) {
  return len <= LIST_MAX_BYTES;
}

bool flume_hyperloglog_is_state(size_t len) {
  return is_list(len) ? len % HASH_BYTES == 0 : len == REGISTERS;
}

/* --- Adding ----------------------------------------------------------------------------------------------------- */

static void add_to_registers(uint8_t *registers, uint64_t hash) {
  uint64_t behind = hash << INDEX_BITS;
  uint8_t rank = (uint8_t)(behind == 0 ? RANK_MAX : (unsigned)__builtin_clzll(behind) + 1);
  uint8_t *place = &registers[hash >> (64 - INDEX_BITS)];
  if (rank > *place) *place = rank;
}

/* Where the hash is in the sorted list, or would be. */
static size_t find(const struct flume_buf *list, uint64_t hash) {
  size_t low = 0, high = list->len / HASH_BYTES;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (flume_get_le64(list->data + middle * HASH_BYTES) < hash) low = middle + 1;
    else high = middle;
  }
  return low * HASH_BYTES;
}

static int list_to_registers(struct flume_buf *state) {
  uint8_t list[LIST_MAX_BYTES];
  size_t len = state->len;
  assert(len <= LIST_MAX_BYTES && len % HASH_BYTES == 0);
  memcpy(list, state->data, len);
  int rv = flume_buf_reserve(state, REGISTERS - len);
  if (rv != 0) return rv;
  memset(state->data, 0, REGISTERS);
  state->len = REGISTERS;
  for (size_t off = 0; off < len; off += HASH_BYTES) add_to_registers(state->data, flume_get_le64(list + off));
  return 0;
}

int flume_hyperloglog_add(struct flume_buf *state, uint64_t hash) {
  if (is_list(state->len)) {
    size_t at = find(state, hash);
    if (at < state->len && flume_get_le64(state->data + at) == hash) return 0;
    if (state->len < LIST_MAX_BYTES) {
      int rv = flume_buf_reserve(state, HASH_BYTES);
      if (rv != 0) return rv;
      memmove(state->data + at + HASH_BYTES, state->data + at, state->len - at);
      flume_put_le64(state->data + at, hash);
      state->len += HASH_BYTES;
      return 0;
    }
    int rv = list_to_registers(state);
    if (rv != 0) return rv;
  }
  add_to_registers(state->data, hash);
  return 0;
}

/* --- Counting --------------------------------------------------------------------------------------------------- */

/* sigma and tau of Ertl's paper ("New cardinality estimation algorithms for HyperLogLog sketches", algorithm 6). */
static double sigma(double x) {
  double y = 1, z = x, before;
  if (x == 1) return INFINITY;
  do {
    x *= x;
    before = z;
    z += x * y;
    y += y;
  } while (z != before);
  return z;
}

static double tau(double x) {
  double y = 1, z = 1 - x, before;
  if (x == 0 || x == 1) return 0;
  do {
    x = sqrt(x);
    before = z;
    y *= 0.5;
    z -= (1 - x) * (1 - x) * y;
  } while (z != before);
  return z / 3;
}

int64_t flume_hyperloglog_count(const uint8_t *state, size_t len) {
  uint32_t of_rank[RANK_MAX + 1] = {0};
  if (is_list(len)) return (int64_t)(len / HASH_BYTES);
  for (size_t i = 0; i < REGISTERS; i++) of_rank[state[i] <= RANK_MAX ? state[i] : RANK_MAX]++;
  double m = REGISTERS;
  double z = m * tau(1 - of_rank[RANK_MAX] / m);
  for (unsigned rank = RANK_MAX - 1; rank > 0; rank--) z = 0.5 * (z + of_rank[rank]);
  z += m * sigma(of_rank[0] / m);
  return llround(m * m / (2 * M_LN2 * z));
}
