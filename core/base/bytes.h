/* Little-endian (files) and big-endian (MessagePack, keys) integers in byte buffers. */
#ifndef FLUME_BYTES_H
#define FLUME_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define FLUME_BYTES_ACCESSORS(bits)                                     \
  static inline uint##bits##_t flume_get_le##bits(const uint8_t *p) {   \
    uint##bits##_t v;                                                   \
    memcpy(&v, p, sizeof v);                                            \
    return le##bits##toh(v);                                            \
  }                                                                     \
  static inline void flume_put_le##bits(uint8_t *p, uint##bits##_t v) { \
    v = htole##bits(v);                                                 \
    memcpy(p, &v, sizeof v);                                            \
  }                                                                     \
  static inline uint##bits##_t flume_get_be##bits(const uint8_t *p) {   \
    uint##bits##_t v;                                                   \
    memcpy(&v, p, sizeof v);                                            \
    return be##bits##toh(v);                                            \
  }                                                                     \
  static inline void flume_put_be##bits(uint8_t *p, uint##bits##_t v) { \
    v = htobe##bits(v);                                                 \
    memcpy(p, &v, sizeof v);                                            \
  }

FLUME_BYTES_ACCESSORS(16)
FLUME_BYTES_ACCESSORS(32)
FLUME_BYTES_ACCESSORS(64)

#undef FLUME_BYTES_ACCESSORS

#endif
