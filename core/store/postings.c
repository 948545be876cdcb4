#include "store/postings.h"

#include <assert.h>

#include "base/bytes.h"
#include "base/err.h"

#define FORMAT 1
#define HAS_VALUES 1 /* in the flags */

/* Where things are in the header. */
enum { AT_FORMAT = 0, AT_FLAGS = 1, AT_COUNT = 2, AT_LAST_SEQ = 6 };

/* --- Varints: seven bits a byte, the lowest first, the top bit set on all but the last --------------------------- */

static size_t put_varint(uint8_t *p, uint64_t v) {
  size_t len = 0;
  for (; v >= 0x80; v >>= 7) p[len++] = (uint8_t)(v | 0x80);
  p[len++] = (uint8_t)v;
  return len;
}

static int get_varint(const uint8_t **p, const uint8_t *end, uint64_t *v) {
  uint64_t value = 0;
  for (unsigned shift = 0; *p < end && shift < 64; shift += 7) {
    uint8_t byte = *(*p)++;
    if (shift == 63 && byte > 1) return FLUME_ECORRUPT;
    value |= (uint64_t)(byte & 0x7f) << shift;
    if (byte < 0x80) {
      *v = value;
      return 0;
    }
  }
  return FLUME_ECORRUPT;
}

/* --- Reading ----------------------------------------------------------------------------------------------------- */

int flume_chunk_open(struct flume_chunk *chunk, int64_t base_seq, const uint8_t *data, size_t len) {
  if (len < FLUME_CHUNK_HEADER_BYTES) return FLUME_ECORRUPT;
  if (data[AT_FORMAT] != FORMAT || data[AT_FLAGS] > HAS_VALUES) return FLUME_EVERSION;
  *chunk = (struct flume_chunk){.data = data,
                                .len = len,
                                .base_seq = base_seq,
                                .count = flume_get_le32(data + AT_COUNT),
                                .has_values = data[AT_FLAGS] == HAS_VALUES,
                                .last_seq = (int64_t)flume_get_le64(data + AT_LAST_SEQ)};
  bool fits = base_seq >= 0 && chunk->count > 0 && chunk->count <= len - FLUME_CHUNK_HEADER_BYTES;
  return fits && chunk->last_seq >= base_seq ? 0 : FLUME_ECORRUPT;
}

/* The entry at *p, which follows the one with *seq. */
static int read_item(const uint8_t **p, const uint8_t *end, int64_t *seq, struct flume_chunk_item *item) {
  uint64_t step, value_len = 0;
  if (*p < end && **p < 0x80) step = *(*p)++;
  else if (get_varint(p, end, &step) != 0) return FLUME_ECORRUPT;
  bool has_value = (step & 1) != 0;
  step >>= 1;
  if (step > (uint64_t)(INT64_MAX - *seq)) return FLUME_ECORRUPT;
  if (has_value &&
      (get_varint(p, end, &value_len) != 0 || value_len > (uint64_t)(end - *p) || value_len > UINT32_MAX)) {
    return FLUME_ECORRUPT;
  }
  item->seq = *seq += (int64_t)step;
  item->value = *p;
  item->value_len = (uint32_t)value_len;
  item->ordinal = 0;
  *p += value_len;
  return 0;
}

void flume_chunk_first(const struct flume_chunk *chunk, struct flume_chunk_place *place) {
  *place = (struct flume_chunk_place){
      .p = chunk->data + FLUME_CHUNK_HEADER_BYTES, .seq = chunk->base_seq, .left = chunk->count};
}

int flume_chunk_next(const struct flume_chunk *chunk, struct flume_chunk_place *place, struct flume_chunk_item *item) {
  const uint8_t *end = chunk->data + chunk->len;
  int64_t before = place->seq;
  if (place->left == 0) return place->p == end && before == chunk->last_seq ? 0 : FLUME_ECORRUPT;
  int rv = read_item(&place->p, end, &place->seq, item);
  if (rv != 0) return rv;
  if (place->seq != before) place->ordinal = 0;
  item->ordinal = place->ordinal++;
  place->left--;
  return 1;
}

int flume_chunk_read(const struct flume_chunk *chunk, struct flume_chunk_item *items) {
  struct flume_chunk_place place;
  int rv = 1;
  flume_chunk_first(chunk, &place);
  for (uint32_t i = 0; rv == 1 && i < chunk->count; i++) rv = flume_chunk_next(chunk, &place, &items[i]);
  return rv == 1 ? flume_chunk_next(chunk, &place, &items[0]) : rv;
}

/* The step of the entry that ends at p, and where it begins. Only a varint's last byte has no top bit. */
static int read_back(const struct flume_chunk *chunk, const uint8_t **p, uint64_t *step) {
  const uint8_t *start = chunk->data + FLUME_CHUNK_HEADER_BYTES, *q = *p, *end = *p;
  if (q == start || q[-1] >= 0x80) return FLUME_ECORRUPT;
  for (q--; q > start && q[-1] >= 0x80; q--) continue;
  *p = q;
  int rv = get_varint(&q, end, step);
  if (rv != 0 || q != end || (*step & 1) != 0) return FLUME_ECORRUPT;
  *step >>= 1;
  return 0;
}

/* The number of entries of the place's seq before the entry that ends there. At least that entry is left. */
static int find_ordinal(const struct flume_chunk *chunk, struct flume_chunk_place *place) {
  const uint8_t *p = place->p;
  uint64_t step = 0;
  place->ordinal = 0;
  for (uint32_t left = place->left;; left--) {
    int rv = read_back(chunk, &p, &step);
    if (rv != 0) return rv;
    if (step > 0 || left == 1) return 0;
    place->ordinal++;
  }
}

int flume_chunk_last(const struct flume_chunk *chunk, struct flume_chunk_place *place) {
  *place = (struct flume_chunk_place){.p = chunk->data + chunk->len, .seq = chunk->last_seq, .left = chunk->count};
  return find_ordinal(chunk, place);
}

int flume_chunk_prev(const struct flume_chunk *chunk, struct flume_chunk_place *place, struct flume_chunk_item *item) {
  uint64_t step;
  if (place->left == 0) return 0;
  *item = (struct flume_chunk_item){.seq = place->seq, .ordinal = place->ordinal, .value = place->p};
  int rv = read_back(chunk, &place->p, &step);
  if (rv != 0 || step > (uint64_t)(place->seq - chunk->base_seq)) return FLUME_ECORRUPT;
  place->seq -= (int64_t)step;
  place->left--;
  if (place->left == 0) {
    return place->p == chunk->data + FLUME_CHUNK_HEADER_BYTES && place->seq == chunk->base_seq ? 1 : FLUME_ECORRUPT;
  }
  if (step == 0) place->ordinal--;
  else rv = find_ordinal(chunk, place);
  return rv == 0 ? 1 : rv;
}

/* --- Writing ----------------------------------------------------------------------------------------------------- */

static void put_header(uint8_t *data, uint32_t count, int64_t last_seq) {
  flume_put_le32(data + AT_COUNT, count);
  flume_put_le64(data + AT_LAST_SEQ, (uint64_t)last_seq);
}

size_t flume_chunk_begin(uint8_t *data, int64_t base_seq) {
  data[AT_FORMAT] = FORMAT;
  data[AT_FLAGS] = 0;
  put_header(data, 0, base_seq);
  return FLUME_CHUNK_HEADER_BYTES;
}

int64_t flume_chunk_last_seq(const uint8_t *data) {
  return (int64_t)flume_get_le64(data + AT_LAST_SEQ);
}

size_t flume_chunk_append(uint8_t *data, size_t len, int64_t seq, const void *value, size_t value_len) {
  assert(len >= FLUME_CHUNK_HEADER_BYTES && seq >= flume_chunk_last_seq(data));
  uint64_t step = (uint64_t)(seq - flume_chunk_last_seq(data));
  len += put_varint(data + len, step << 1 | (value_len > 0));
  if (value_len > 0) {
    data[AT_FLAGS] = HAS_VALUES;
    len += put_varint(data + len, value_len);
    memcpy(data + len, value, value_len);
  }
  put_header(data, flume_get_le32(data + AT_COUNT) + 1, seq);
  return len + value_len;
}

int flume_chunk_join(struct flume_buf *buf, size_t start, const struct flume_chunk *chunk) {
  const uint8_t *p = chunk->data + FLUME_CHUNK_HEADER_BYTES, *end = chunk->data + chunk->len;
  struct flume_chunk_item first;
  int64_t seq = chunk->base_seq;
  int rv = read_item(&p, end, &seq, &first);
  if (rv == 0) rv = flume_buf_reserve(buf, FLUME_CHUNK_ITEM_BYTES + first.value_len + (size_t)(end - p));
  if (rv != 0) return rv;
  uint8_t *data = buf->data + start;
  buf->len = start + flume_chunk_append(data, buf->len - start, first.seq, first.value, first.value_len);
  uint32_t count = flume_get_le32(data + AT_COUNT) + chunk->count - 1;
  put_header(data, count, chunk->last_seq);
  if (chunk->has_values) data[AT_FLAGS] = HAS_VALUES;
  return flume_buf_append(buf, p, (size_t)(end - p));
}

/* Appends the entry to the chunk that begins at start of buf; begins the chunk when buf ends there. */
static int copy_item(const struct flume_chunk *chunk, const struct flume_chunk_item *item, struct flume_buf *buf,
                     size_t start) {
  int rv = flume_buf_reserve(buf, FLUME_CHUNK_HEADER_BYTES + FLUME_CHUNK_ITEM_BYTES + item->value_len);
  if (rv != 0) return rv;
  if (buf->len == start) buf->len += flume_chunk_begin(buf->data + start, chunk->base_seq);
  buf->len = start + flume_chunk_append(buf->data + start, buf->len - start, item->seq, item->value, item->value_len);
  return 0;
}

int64_t flume_chunk_without(const struct flume_chunk *chunk, int64_t seq, struct flume_buf *buf) {
  const uint8_t *p = chunk->data + FLUME_CHUNK_HEADER_BYTES, *end = chunk->data + chunk->len;
  size_t start = buf->len;
  int64_t at = chunk->base_seq, left = 0;
  for (uint32_t i = 0; i < chunk->count; i++) {
    struct flume_chunk_item item;
    int rv = read_item(&p, end, &at, &item);
    if (rv == 0 && at == seq) continue;
    if (rv == 0) rv = copy_item(chunk, &item, buf, start);
    if (rv != 0) {
      buf->len = start;
      return rv;
    }
    left++;
  }
  return left;
}
