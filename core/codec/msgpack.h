/* MessagePack: writing into a buffer, reading token by token, and walking bytes without building anything.
 *
 * Nothing here allocates but the buffer written to, and a path. Every reading function checks bounds against `end`
 * and accepts any bytes: what is not well-formed is FLUME_ECORRUPT, never undefined behaviour. Any thread.
 *
 * Numbers keep their kind: integers are int64 in the smallest encoding, floats are always float64, 3.0 too. Two
 * things that only other writers make are read as numbers: an unsigned integer above INT64_MAX as a float; a
 * timestamp (extension type -1) as its seconds since 1970, an integer when it has no fraction of a second, else a
 * float. */
#ifndef FLUME_MSGPACK_H
#define FLUME_MSGPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/err.h"

/* Containers inside one another, at most; a lone scalar has depth 0. */
#define FLUME_MSGPACK_MAX_DEPTH 128

enum flume_type {
  FLUME_TYPE_NIL,
  FLUME_TYPE_BOOL,  /* b */
  FLUME_TYPE_INT,   /* i */
  FLUME_TYPE_FLOAT, /* f; float32 is widened */
  FLUME_TYPE_STR,   /* str; also MessagePack's bin */
  FLUME_TYPE_ARRAY, /* count elements follow */
  FLUME_TYPE_MAP,   /* count pairs of key and value follow */
  FLUME_TYPE_EXT,   /* str: the payload, without the type byte, which is str.ext */
};

/* One token. The bytes of a string point into the text read, and live as long as that. */
struct flume_value {
  enum flume_type type;
  union {
    bool b;
    int64_t i;
    double f;
    uint32_t count;
    struct {
      const uint8_t *data;
      uint32_t len;
      int8_t ext;
    } str;
  };
};

/* --- Writing --------------------------------------------------------------------------------------------------
 * Each appends one token to buf and returns 0, or FLUME_ENOMEM and leaves buf as it was. The values of an array,
 * and the keys and values of a map, are then written by the caller: as many as the header promised. */

/* Room that any token but the bytes of a string fits in. */
#define FLUME__MSGPACK_TOKEN_MAX 9

/* These four store at p and return the end of what they stored; p has room for FLUME__MSGPACK_TOKEN_MAX bytes. */
static inline uint8_t *flume__msgpack_store_int(uint8_t *p, int64_t v);
static inline uint8_t *flume__msgpack_store_float(uint8_t *p, double v);
static inline uint8_t *flume__msgpack_store_str(uint8_t *p, uint32_t len);
static inline uint8_t *flume__msgpack_store_header(uint8_t *p, enum flume_type type, uint32_t count);

static inline int flume__msgpack_write_byte(struct flume_buf *buf, uint8_t byte) {
  int rv = flume_buf_reserve(buf, 1);
  if (rv != 0) return rv;
  buf->data[buf->len++] = byte;
  return 0;
}

static inline int flume_msgpack_write_nil(struct flume_buf *buf) {
  return flume__msgpack_write_byte(buf, 0xc0);
}

static inline int flume_msgpack_write_bool(struct flume_buf *buf, bool v) {
  return flume__msgpack_write_byte(buf, v ? 0xc3 : 0xc2);
}

static inline int flume_msgpack_write_int(struct flume_buf *buf, int64_t v) {
  int rv = flume_buf_reserve(buf, FLUME__MSGPACK_TOKEN_MAX);
  if (rv != 0) return rv;
  buf->len = (size_t)(flume__msgpack_store_int(buf->data + buf->len, v) - buf->data);
  return 0;
}

static inline int flume_msgpack_write_float(struct flume_buf *buf, double v) {
  int rv = flume_buf_reserve(buf, FLUME__MSGPACK_TOKEN_MAX);
  if (rv != 0) return rv;
  buf->len = (size_t)(flume__msgpack_store_float(buf->data + buf->len, v) - buf->data);
  return 0;
}

/* A string longer than UINT32_MAX is FLUME_E2BIG. */
static inline int flume_msgpack_write_str(struct flume_buf *buf, const void *data, size_t len) {
  uint8_t *p;
  int rv;
  if (len > UINT32_MAX) return FLUME_E2BIG;
  rv = flume_buf_reserve(buf, FLUME__MSGPACK_TOKEN_MAX + len);
  if (rv != 0) return rv;
  p = flume__msgpack_store_str(buf->data + buf->len, (uint32_t)len);
  if (len > 0) memcpy(p, data, len);
  buf->len = (size_t)(p - buf->data) + len;
  return 0;
}

/* A string marked as binary; it reads back as FLUME_TYPE_STR. Longer than UINT32_MAX is FLUME_E2BIG. */
int flume_msgpack_write_bin(struct flume_buf *buf, const void *data, size_t len);

static inline int flume_msgpack_write_array(struct flume_buf *buf, uint32_t count) {
  int rv = flume_buf_reserve(buf, FLUME__MSGPACK_TOKEN_MAX);
  if (rv != 0) return rv;
  buf->len = (size_t)(flume__msgpack_store_header(buf->data + buf->len, FLUME_TYPE_ARRAY, count) - buf->data);
  return 0;
}

static inline int flume_msgpack_write_map(struct flume_buf *buf, uint32_t count) {
  int rv = flume_buf_reserve(buf, FLUME__MSGPACK_TOKEN_MAX);
  if (rv != 0) return rv;
  buf->len = (size_t)(flume__msgpack_store_header(buf->data + buf->len, FLUME_TYPE_MAP, count) - buf->data);
  return 0;
}

/* For a writer that learns the count last: `open` leaves one byte for the header and gives its offset, `close` fills
 * it in, moving what was written since where a count above 15 needs more room. Same results as above. */
static inline int flume_msgpack_open(struct flume_buf *buf, size_t *header_off) {
  int rv = flume_buf_reserve(buf, 1);
  if (rv != 0) return rv;
  *header_off = buf->len++;
  return 0;
}

int flume__msgpack_close_wide(struct flume_buf *buf, size_t header_off, enum flume_type type, uint32_t count);

/* type is FLUME_TYPE_ARRAY or FLUME_TYPE_MAP. */
static inline int flume_msgpack_close(struct flume_buf *buf, size_t header_off, enum flume_type type, uint32_t count) {
  if (count > 15) return flume__msgpack_close_wide(buf, header_off, type, count);
  buf->data[header_off] = (uint8_t)((type == FLUME_TYPE_MAP ? 0x80 : 0x90) | count);
  return 0;
}

/* --- Reading -------------------------------------------------------------------------------------------------- */

/* Reads the token at *p and moves *p behind it; behind the header alone for an array or a map. 0, or FLUME_ECORRUPT
 * with *p and *v untouched. */
int flume_msgpack_read(const uint8_t **p, const uint8_t *end, struct flume_value *v);

/* Whether a value with this first byte is an array or a map. */
static inline bool flume__msgpack_is_container(uint8_t tag) {
  return (tag & 0xe0) == 0x80 || (tag >= 0xdc && tag <= 0xdf);
}

extern const uint8_t flume__msgpack_fixed[256]; /* whole size of a value by its first byte; 0 when that is not enough */
int flume__msgpack_skip_any(const uint8_t **p, const uint8_t *end);

/* Moves *p behind the whole value at *p, however deep. 0, or FLUME_ECORRUPT with *p untouched. */
static inline int flume_msgpack_skip(const uint8_t **p, const uint8_t *end) {
  if (*p < end) {
    size_t size = flume__msgpack_fixed[**p];
    if (size != 0 && (size_t)(end - *p) >= size) {
      *p += size;
      return 0;
    }
  }
  return flume__msgpack_skip_any(p, end);
}

/* 0 when the bytes are one well-formed value that fills them, no deeper than FLUME_MSGPACK_MAX_DEPTH; else
 * FLUME_ECORRUPT. */
int flume_msgpack_check(const uint8_t *data, size_t len);

/* As flume_msgpack_check, to the given depth (at most FLUME_MSGPACK_MAX_DEPTH); too deep is FLUME_E2BIG. */
int flume__msgpack_check_depth(const uint8_t *data, size_t len, unsigned max_depth);

/* --- Looking up ----------------------------------------------------------------------------------------------- */

/* Sets *value to where the value of a string key begins, in the map at `map`; of equal keys the first counts.
 * FLUME_ENOENT when there is no such key or no map, FLUME_ECORRUPT. The value itself has not been looked at. */
int flume_msgpack_find(const uint8_t *map, const uint8_t *end, const char *key, size_t key_len, const uint8_t **value);

struct flume_msgpack_path_key {
  const char *data; /* owned by the path; any bytes */
  uint32_t len;
};

/* Keys to follow into nested maps, one after the other. Immutable: any thread may read it. */
struct flume_msgpack_path {
  const struct flume_io *io;
  uint32_t count; /* at least 1 */
  struct flume_msgpack_path_key keys[];
};

/* Makes a path of text such as "content.mentions", split at the dots. The caller frees it with flume_msgpack_path_free.
 * FLUME_EINVAL when a key is empty, FLUME_E2BIG, FLUME_ENOMEM. */
int flume_msgpack_path_parse(const struct flume_io *io, const char *text, size_t len, struct flume_msgpack_path **path,
                             struct flume_err *err);
/* Makes a path of a list of keys, which may hold dots and be empty; the bytes are copied. FLUME_EINVAL when count is
 * 0, FLUME_E2BIG, FLUME_ENOMEM. */
int flume_msgpack_path_new(const struct flume_io *io, const struct flume_msgpack_path_key *keys, size_t count,
                           struct flume_msgpack_path **path, struct flume_err *err);
void flume_msgpack_path_free(struct flume_msgpack_path *path); /* NULL is allowed */

/* flume_msgpack_find for each key of the path in turn; same results. */
int flume_msgpack_seek(const uint8_t *map, const uint8_t *end, const struct flume_msgpack_path *path,
                       const uint8_t **value);

/* --- Storing -------------------------------------------------------------------------------------------------- */

static inline uint8_t *flume__msgpack_store_wide(uint8_t *p, int64_t v) {
  if (v >= 0) {
    if (v <= UINT8_MAX) return p[0] = 0xcc, p[1] = (uint8_t)v, p + 2;
    if (v <= UINT16_MAX) return p[0] = 0xcd, flume_put_be16(p + 1, (uint16_t)v), p + 3;
    if (v <= UINT32_MAX) return p[0] = 0xce, flume_put_be32(p + 1, (uint32_t)v), p + 5;
    return p[0] = 0xcf, flume_put_be64(p + 1, (uint64_t)v), p + 9;
  }
  if (v >= INT8_MIN) return p[0] = 0xd0, p[1] = (uint8_t)v, p + 2;
  if (v >= INT16_MIN) return p[0] = 0xd1, flume_put_be16(p + 1, (uint16_t)v), p + 3;
  if (v >= INT32_MIN) return p[0] = 0xd2, flume_put_be32(p + 1, (uint32_t)v), p + 5;
  return p[0] = 0xd3, flume_put_be64(p + 1, (uint64_t)v), p + 9;
}

static inline uint8_t *flume__msgpack_store_int(uint8_t *p, int64_t v) {
  if (v < -32 || v > 127) return flume__msgpack_store_wide(p, v);
  *p = (uint8_t)v;
  return p + 1;
}

static inline uint8_t *flume__msgpack_store_float(uint8_t *p, double v) {
  uint64_t bits;
  memcpy(&bits, &v, sizeof bits);
  p[0] = 0xcb;
  flume_put_be64(p + 1, bits);
  return p + 9;
}

static inline uint8_t *flume__msgpack_store_str(uint8_t *p, uint32_t len) {
  if (len <= 31) return p[0] = (uint8_t)(0xa0 | len), p + 1;
  if (len <= UINT8_MAX) return p[0] = 0xd9, p[1] = (uint8_t)len, p + 2;
  if (len <= UINT16_MAX) return p[0] = 0xda, flume_put_be16(p + 1, (uint16_t)len), p + 3;
  return p[0] = 0xdb, flume_put_be32(p + 1, len), p + 5;
}

static inline uint8_t *flume__msgpack_store_header(uint8_t *p, enum flume_type type, uint32_t count) {
  int map = type == FLUME_TYPE_MAP;
  if (count <= 15) return p[0] = (uint8_t)((map ? 0x80 : 0x90) | count), p + 1;
  if (count <= UINT16_MAX) return p[0] = map ? 0xde : 0xdc, flume_put_be16(p + 1, (uint16_t)count), p + 3;
  return p[0] = map ? 0xdf : 0xdd, flume_put_be32(p + 1, count), p + 5;
}

#endif
