/* A hash of bytes, the same on every machine and for ever: counts that depend on it are kept on disk. Not for secrets, nor
 * against callers that choose their bytes to collide. */
#ifndef FLUME_HASH_H
#define FLUME_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

/* Every bit of the result depends on every bit of x: the finalizer of splitmix64. */
static inline uint64_t flume_hash_mix(uint64_t x) {
  x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
  return x ^ (x >> 31);
}

static inline uint64_t flume_hash64(const uint8_t *data, size_t len) {
  uint64_t hash = UINT64_C(0x9e3779b97f4a7c15) * (len + 1);
  for (; len >= 8; data += 8, len -= 8) hash = flume_hash_mix(hash ^ flume_get_le64(data)) + len;
  uint64_t rest = 0;
  for (size_t i = 0; i < len; i++) rest |= (uint64_t)data[i] << 8 * i;
  return flume_hash_mix(hash ^ rest);
}

#endif
