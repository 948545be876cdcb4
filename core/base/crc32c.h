/* CRC-32C (Castagnoli, reflected polynomial 0x82F63B78; RFC 3720 appendix B.4): the checksum of every frame. */
#ifndef FLUME_CRC32C_H
#define FLUME_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Extends crc (0 to start) by len bytes. Uses the CPU's instruction where there is one. Any thread. */
uint32_t flume_crc32c(uint32_t crc, const void *data, size_t len);

/* The same for 12 bytes: first and then second, both little-endian, from 0. */
uint32_t flume_crc32c_words(uint64_t first, uint32_t second);

/* The same by tables; for tests, and for CPUs without the instruction. */
uint32_t flume_crc32c_table(uint32_t crc, const void *data, size_t len);

/* One piece of work for flume_crc32c_many. */
struct flume_crc32c_job {
  const uint8_t *data;
  size_t len;
  uint32_t crc; /* in: where to start; out: the result */
};

/* As flume_crc32c for each job, several at a time: one stream is bound by the instruction's latency of three cycles,
 * and independent streams run beside it for nothing. */
void flume_crc32c_many(struct flume_crc32c_job *jobs, size_t count);

#endif
