#include "base/crc32c.h"

#include <string.h>

#include "base/bytes.h"

#define POLYNOMIAL 0x82F63B78u

/* Slicing by 8 (Kounavis and Berry, 2005): table[k][b] is the CRC of byte b followed by k zero bytes. */
static uint32_t table[8][256];

__attribute__((constructor)) static void fill_table(void) {
  for (uint32_t b = 0; b < 256; b++) {
    uint32_t crc = b;
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (crc & 1 ? POLYNOMIAL : 0);
    table[0][b] = crc;
  }
  for (int k = 1; k < 8; k++) {
    for (uint32_t b = 0; b < 256; b++) table[k][b] = (table[k - 1][b] >> 8) ^ table[0][table[k - 1][b] & 0xff];
  }
}

uint32_t flume_crc32c_table(uint32_t crc, const void *data, size_t len) {
  const uint8_t *p = data;
  crc = ~crc;
  for (; len >= 8; len -= 8, p += 8) {
    uint32_t lo = crc ^ flume_get_le32(p);
    uint32_t hi = flume_get_le32(p + 4);
    crc = table[7][lo & 0xff] ^ table[6][(lo >> 8) & 0xff] ^ table[5][(lo >> 16) & 0xff] ^ table[4][lo >> 24] ^
          table[3][hi & 0xff] ^ table[2][(hi >> 8) & 0xff] ^ table[1][(hi >> 16) & 0xff] ^ table[0][hi >> 24];
  }
  while (len-- > 0) crc = (crc >> 8) ^ table[0][(crc ^ *p++) & 0xff];
  return ~crc;
}

static void many_by_table(struct flume_crc32c_job *jobs, size_t count) {
  for (size_t i = 0; i < count; i++) jobs[i].crc = flume_crc32c_table(jobs[i].crc, jobs[i].data, jobs[i].len);
}

#if defined(__x86_64__)

#include <nmmintrin.h>

#define SSE42 __attribute__((target("sse4.2")))

SSE42 static uint64_t last_bytes(uint64_t crc, const uint8_t *p, size_t len) {
  if (len & 4) {
    crc = _mm_crc32_u32((uint32_t)crc, flume_get_le32(p));
    p += 4;
  }
  if (len & 2) {
    crc = _mm_crc32_u16((uint32_t)crc, flume_get_le16(p));
    p += 2;
  }
  if (len & 1) crc = _mm_crc32_u8((uint32_t)crc, *p);
  return crc;
}

SSE42 static uint32_t by_instruction(uint32_t start, const void *data, size_t len) {
  const uint8_t *p = data;
  uint64_t crc = ~start;
  for (; len >= 8; len -= 8, p += 8) crc = _mm_crc32_u64(crc, flume_get_le64(p));
  return ~(uint32_t)last_bytes(crc, p, len);
}

/* The last len & 7 bytes before end, without a branch (their number is anyone's guess, and a wrong guess costs as much
 * as a hundred bytes): zero bytes leave a zero CRC as it is, so the bytes are moved to the upper end of a word. There
 * must be 8 bytes before end. */
SSE42 static inline uint32_t finish(uint64_t crc, const uint8_t *end, size_t len) {
  unsigned bits = (unsigned)(len & 7) * 8;
  uint64_t word = flume_get_le64(end - 8);
  word = word >> 8 >> (56 - bits) ^ crc;
  return ~(uint32_t)(_mm_crc32_u64(0, word << 8 << (56 - bits)) ^ crc >> bits);
}

#define LANES 4

/* Sorts two keys; compiled without a branch. */
static inline void sort_two(size_t *a, size_t *b) {
  size_t low = *a < *b ? *a : *b, high = *a < *b ? *b : *a;
  *a = low;
  *b = high;
}

/* Four lanes until the shortest ends, then three, two and one: the tails run beside each other too. */
SSE42 static void four_by_instruction(struct flume_crc32c_job *jobs) {
  size_t ka = jobs[0].len * LANES, kb = jobs[1].len * LANES + 1, kc = jobs[2].len * LANES + 2,
         kd = jobs[3].len * LANES + 3;
  sort_two(&ka, &kb);
  sort_two(&kc, &kd);
  sort_two(&ka, &kc);
  sort_two(&kb, &kd);
  sort_two(&kb, &kc);
  struct flume_crc32c_job *a = &jobs[ka % LANES], *b = &jobs[kb % LANES];
  struct flume_crc32c_job *c = &jobs[kc % LANES], *d = &jobs[kd % LANES];
  uint64_t crc_a = (uint32_t)~a->crc, crc_b = (uint32_t)~b->crc, crc_c = (uint32_t)~c->crc, crc_d = (uint32_t)~d->crc;
  const uint8_t *pa = a->data, *pb = b->data, *pc = c->data, *pd = d->data;
  size_t at = 0;
  for (size_t len = a->len & ~(size_t)7; at < len; at += 8) {
    crc_a = _mm_crc32_u64(crc_a, flume_get_le64(pa + at));
    crc_b = _mm_crc32_u64(crc_b, flume_get_le64(pb + at));
    crc_c = _mm_crc32_u64(crc_c, flume_get_le64(pc + at));
    crc_d = _mm_crc32_u64(crc_d, flume_get_le64(pd + at));
  }
  a->crc = finish(crc_a, pa + a->len, a->len);
  for (size_t len = b->len & ~(size_t)7; at < len; at += 8) {
    crc_b = _mm_crc32_u64(crc_b, flume_get_le64(pb + at));
    crc_c = _mm_crc32_u64(crc_c, flume_get_le64(pc + at));
    crc_d = _mm_crc32_u64(crc_d, flume_get_le64(pd + at));
  }
  b->crc = finish(crc_b, pb + b->len, b->len);
  for (size_t len = c->len & ~(size_t)7; at < len; at += 8) {
    crc_c = _mm_crc32_u64(crc_c, flume_get_le64(pc + at));
    crc_d = _mm_crc32_u64(crc_d, flume_get_le64(pd + at));
  }
  c->crc = finish(crc_c, pc + c->len, c->len);
  for (size_t len = d->len & ~(size_t)7; at < len; at += 8) crc_d = _mm_crc32_u64(crc_d, flume_get_le64(pd + at));
  d->crc = finish(crc_d, pd + d->len, d->len);
}

SSE42 static void many_by_instruction(struct flume_crc32c_job *jobs, size_t count) {
  for (; count >= LANES; count -= LANES, jobs += LANES) {
    size_t shortest = jobs[0].len;
    for (int i = 1; i < LANES; i++) shortest = jobs[i].len < shortest ? jobs[i].len : shortest;
    if (shortest < 8) {
      for (int i = 0; i < LANES; i++) jobs[i].crc = by_instruction(jobs[i].crc, jobs[i].data, jobs[i].len);
    } else {
      four_by_instruction(jobs);
    }
  }
  for (size_t i = 0; i < count; i++) jobs[i].crc = by_instruction(jobs[i].crc, jobs[i].data, jobs[i].len);
}

SSE42 static uint32_t words_by_instruction(uint64_t first, uint32_t second) {
  return ~_mm_crc32_u32((uint32_t)_mm_crc32_u64(UINT32_MAX, first), second);
}

static int has_instruction;

__attribute__((constructor)) static void find_instruction(void) {
  __builtin_cpu_init();
  has_instruction = __builtin_cpu_supports("sse4.2");
}

#elif defined(__ARM_FEATURE_CRC32)

#include <arm_acle.h>

static const int has_instruction = 1;

static uint32_t by_instruction(uint32_t crc, const void *data, size_t len) {
  const uint8_t *p = data;
  crc = ~crc;
  for (; len >= 8; len -= 8, p += 8) crc = __crc32cd(crc, flume_get_le64(p));
  while (len-- > 0) crc = __crc32cb(crc, *p++);
  return ~crc;
}

static void many_by_instruction(struct flume_crc32c_job *jobs, size_t count) {
  for (size_t i = 0; i < count; i++) jobs[i].crc = by_instruction(jobs[i].crc, jobs[i].data, jobs[i].len);
}

static uint32_t words_by_instruction(uint64_t first, uint32_t second) {
  return ~__crc32cw(__crc32cd(UINT32_MAX, first), second);
}

#else

static const int has_instruction = 0;
#define words_by_instruction(first, second) 0
#define by_instruction flume_crc32c_table
#define many_by_instruction many_by_table

#endif

uint32_t flume_crc32c_words(uint64_t first, uint32_t second) {
  if (has_instruction) return words_by_instruction(first, second);
  uint8_t bytes[12];
  flume_put_le64(bytes, first);
  flume_put_le32(bytes + 8, second);
  return flume_crc32c_table(0, bytes, sizeof bytes);
}

uint32_t flume_crc32c(uint32_t crc, const void *data, size_t len) {
  return has_instruction ? by_instruction(crc, data, len) : flume_crc32c_table(crc, data, len);
}

void flume_crc32c_many(struct flume_crc32c_job *jobs, size_t count) {
  if (has_instruction) many_by_instruction(jobs, count);
  else many_by_table(jobs, count);
}
