#include "crc32c.h"

#include <string.h>

#include "bytes.h"

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

__attribute__((target("sse4.2"))) static uint32_t tail_by_instruction(uint64_t crc, const uint8_t *p, size_t len) {
  for (; len >= 8; len -= 8, p += 8) crc = _mm_crc32_u64(crc, flume_get_le64(p));
  uint32_t crc32 = (uint32_t)crc;
  if (len & 4) {
    crc32 = _mm_crc32_u32(crc32, flume_get_le32(p));
    p += 4;
  }
  if (len & 2) {
    crc32 = _mm_crc32_u16(crc32, flume_get_le16(p));
    p += 2;
  }
  if (len & 1) crc32 = _mm_crc32_u8(crc32, *p);
  return crc32;
}

__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t crc, const void *data, size_t len) {
  return ~tail_by_instruction(~crc, data, len);
}

#define LANES 4

__attribute__((target("sse4.2"))) static void many_by_instruction(struct flume_crc32c_job *jobs, size_t count) {
  for (; count >= LANES; count -= LANES, jobs += LANES) {
    size_t len = jobs[0].len;
    for (int i = 1; i < LANES; i++) len = jobs[i].len < len ? jobs[i].len : len;
    len &= ~(size_t)7;
    const uint8_t *a = jobs[0].data, *b = jobs[1].data, *c = jobs[2].data, *d = jobs[3].data;
    uint64_t crc_a = (uint32_t)~jobs[0].crc, crc_b = (uint32_t)~jobs[1].crc;
    uint64_t crc_c = (uint32_t)~jobs[2].crc, crc_d = (uint32_t)~jobs[3].crc;
    for (size_t at = 0; at < len; at += 8) {
      crc_a = _mm_crc32_u64(crc_a, flume_get_le64(a + at));
      crc_b = _mm_crc32_u64(crc_b, flume_get_le64(b + at));
      crc_c = _mm_crc32_u64(crc_c, flume_get_le64(c + at));
      crc_d = _mm_crc32_u64(crc_d, flume_get_le64(d + at));
    }
    jobs[0].crc = ~tail_by_instruction(crc_a, a + len, jobs[0].len - len);
    jobs[1].crc = ~tail_by_instruction(crc_b, b + len, jobs[1].len - len);
    jobs[2].crc = ~tail_by_instruction(crc_c, c + len, jobs[2].len - len);
    jobs[3].crc = ~tail_by_instruction(crc_d, d + len, jobs[3].len - len);
  }
  for (size_t i = 0; i < count; i++) jobs[i].crc = by_instruction(jobs[i].crc, jobs[i].data, jobs[i].len);
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

#else

static const int has_instruction = 0;
#define by_instruction flume_crc32c_table
#define many_by_instruction many_by_table

#endif

uint32_t flume_crc32c(uint32_t crc, const void *data, size_t len) {
  return has_instruction ? by_instruction(crc, data, len) : flume_crc32c_table(crc, data, len);
}

void flume_crc32c_many(struct flume_crc32c_job *jobs, size_t count) {
  if (has_instruction) many_by_instruction(jobs, count);
  else many_by_table(jobs, count);
}
