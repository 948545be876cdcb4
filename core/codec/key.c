/* The bytes of a key:
 *
 *   nil      01
 *   string   02 its bytes 00; in them a byte 00 is 01 01 and a byte 01 is 01 02, which keeps their order
 *   array    05 its elements 00
 *   number   10, 8 bytes of the largest double that is not above it, 2 bytes of what is missing to it
 *   false    26
 *   true     27
 *
 * The double is big-endian with its sign bit turned, and with all others turned too when it is negative, so that the
 * bytes sort as the numbers do. Only an integer beyond 2^53 can be missing something, less than 1024. */
#include "codec/key.h"

#include <math.h>
#include <stdio.h>

enum {
  END = 0x00,
  ESCAPE = 0x01,
  TAG_NIL = 0x01,
  TAG_STRING = 0x02,
  TAG_ARRAY = 0x05,
  TAG_NUMBER = 0x10,
  TAG_FALSE = 0x26,
  TAG_TRUE = 0x27,
};

#define NUMBER_BYTES 11
#define INT64_END 9223372036854775808.0 /* 2^63 */
#define PLACE_BYTES 128

/* Where the value is that is being encoded, for the text of an error. */
struct place {
  char text[PLACE_BYTES];
  size_t len;
};

static int refuse(struct flume_err *err, const struct place *place, const char *what) {
  return flume_err_set(err, FLUME_EINVAL, "key%.*s: %s can't be a key", (int)place->len, place->text, what);
}

/* --- Writing --------------------------------------------------------------------------------------------------- */

static int put_byte(struct flume_buf *out, uint8_t byte) {
  return flume_buf_append(out, &byte, 1);
}

/* Whether one of eight bytes is 00 or 01. (Bit Twiddling Hacks: "Determine if a word has a zero byte".) */
static bool needs_escape(uint64_t word) {
  word &= 0xfefefefefefefefeu;
  return ((word - 0x0101010101010101u) & ~word & 0x8080808080808080u) != 0;
}

/* The string's bytes, without tag and end. */
static int put_bytes(struct flume_buf *out, const uint8_t *data, size_t len) {
  int rv = flume_buf_reserve(out, 2 * len);
  if (rv != 0) return rv;
  uint8_t *to = out->data + out->len;
  for (size_t i = 0; i < len;) {
    uint64_t word;
    if (len - i >= sizeof word) {
      memcpy(&word, data + i, sizeof word);
      if (!needs_escape(word)) {
        memcpy(to, &word, sizeof word);
        to += sizeof word;
        i += sizeof word;
        continue;
      }
    }
    if (data[i] <= ESCAPE) *to++ = ESCAPE, *to++ = (uint8_t)(data[i++] + 1);
    else *to++ = data[i++];
  }
  out->len = (size_t)(to - out->data);
  return 0;
}

static int put_number(struct flume_buf *out, double below, uint16_t missing) {
  uint8_t bytes[NUMBER_BYTES] = {TAG_NUMBER};
  uint64_t bits;
  if (below == 0) below = 0; /* not -0 */
  memcpy(&bits, &below, sizeof bits);
  bits ^= bits >> 63 != 0 ? UINT64_MAX : (uint64_t)1 << 63;
  flume_put_be64(bytes + 1, bits);
  flume_put_be16(bytes + 9, missing);
  return flume_buf_append(out, bytes, sizeof bytes);
}

static int put_int(struct flume_buf *out, int64_t value) {
  double below = (double)value;
  if (below >= INT64_END || (int64_t)below > value) below = nextafter(below, -INFINITY);
  return put_number(out, below, (uint16_t)(value - (int64_t)below));
}

static int put_value(const uint8_t **p, const uint8_t *end, struct flume_buf *out, unsigned depth, struct place *place,
                     struct flume_err *err);

static int put_elements(const uint8_t **p, const uint8_t *end, uint32_t count, struct flume_buf *out, unsigned depth,
                        struct place *place, struct flume_err *err) {
  int rv = 0;
  size_t len = place->len;
  if (depth >= FLUME_KEY_MAX_DEPTH) return refuse(err, place, "an array that is nested so deep");
  for (uint32_t i = 0; rv == 0 && i < count; i++) {
    int added = snprintf(place->text + len, sizeof place->text - len, "[%u]", (unsigned)i + 1);
    place->len = len + ((size_t)added < sizeof place->text - len ? (size_t)added : 0);
    rv = put_value(p, end, out, depth + 1, place, err);
  }
  place->len = len;
  return rv;
}

static int put_array(const uint8_t **p, const uint8_t *end, uint32_t count, struct flume_buf *out, unsigned depth,
                     struct place *place, struct flume_err *err) {
  int rv = put_byte(out, TAG_ARRAY);
  if (rv == 0) rv = put_elements(p, end, count, out, depth, place, err);
  return rv == 0 ? put_byte(out, END) : rv;
}

static int put_value(const uint8_t **p, const uint8_t *end, struct flume_buf *out, unsigned depth, struct place *place,
                     struct flume_err *err) {
  struct flume_value v;
  int rv = flume_msgpack_read(p, end, &v);
  if (rv != 0) return flume_err_set(err, rv, "key: not valid MessagePack");
  switch (v.type) {
    case FLUME_TYPE_NIL: return put_byte(out, TAG_NIL);
    case FLUME_TYPE_BOOL: return put_byte(out, v.b ? TAG_TRUE : TAG_FALSE);
    case FLUME_TYPE_INT: return put_int(out, v.i);
    case FLUME_TYPE_FLOAT: return v.f != v.f ? refuse(err, place, "nan") : put_number(out, v.f, 0);
    case FLUME_TYPE_STR:
      rv = put_byte(out, TAG_STRING);
      if (rv == 0) rv = put_bytes(out, v.str.data, v.str.len);
      return rv == 0 ? put_byte(out, END) : rv;
    case FLUME_TYPE_ARRAY: return put_array(p, end, v.count, out, depth, place, err);
    case FLUME_TYPE_MAP: return refuse(err, place, "a map");
    case FLUME_TYPE_EXT: return refuse(err, place, "a MessagePack extension type");
  }
  return FLUME_ECORRUPT;
}

static int settle(int rv, const uint8_t *p, const uint8_t *end, struct flume_buf *out, size_t start,
                  struct flume_err *err) {
  if (rv == 0 && p != end) rv = flume_err_set(err, FLUME_ECORRUPT, "key: not valid MessagePack");
  if (rv == FLUME_ENOMEM) flume_err_nomem(err);
  if (rv != 0) out->len = start;
  return rv;
}

int flume_key_encode(const uint8_t *value, size_t len, struct flume_buf *out, struct flume_err *err) {
  const uint8_t *p = value, *end = value + len;
  struct place place = {.len = 0};
  size_t start = out->len;
  int rv = put_value(&p, end, out, 0, &place, err);
  return settle(rv, p, end, out, start, err);
}

int flume_key_encode_prefix(const uint8_t *value, size_t len, struct flume_buf *out, struct flume_err *err) {
  const uint8_t *p = value, *end = value + len;
  struct place place = {.len = 0};
  struct flume_value v;
  size_t start = out->len;
  int rv = flume_msgpack_read(&p, end, &v);
  if (rv != 0 || (v.type != FLUME_TYPE_ARRAY && v.type != FLUME_TYPE_STR))
    return flume_key_encode(value, len, out, err);
  rv = put_byte(out, v.type == FLUME_TYPE_ARRAY ? TAG_ARRAY : TAG_STRING);
  if (rv == 0 && v.type == FLUME_TYPE_STR) rv = put_bytes(out, v.str.data, v.str.len);
  if (rv == 0 && v.type == FLUME_TYPE_ARRAY) rv = put_elements(&p, end, v.count, out, 0, &place, err);
  return settle(rv, p, end, out, start, err);
}

/* --- Reading --------------------------------------------------------------------------------------------------- */

static int get_number(const uint8_t **p, const uint8_t *end, struct flume_buf *out) {
  if (end - *p < NUMBER_BYTES) return FLUME_ECORRUPT;
  uint64_t bits = flume_get_be64(*p + 1);
  uint16_t missing = flume_get_be16(*p + 9);
  double below;
  bits ^= bits >> 63 != 0 ? (uint64_t)1 << 63 : UINT64_MAX;
  memcpy(&below, &bits, sizeof below);
  if (below != below) return FLUME_ECORRUPT;
  *p += NUMBER_BYTES;
  if (below < -INT64_END || below >= INT64_END || below != floor(below)) {
    return missing == 0 ? flume_msgpack_write_float(out, below) : FLUME_ECORRUPT;
  }
  if ((int64_t)below > INT64_MAX - missing) return FLUME_ECORRUPT;
  return flume_msgpack_write_int(out, (int64_t)below + missing);
}

/* The bytes of the string at *p that its encoding takes, without tag and end; FLUME_ECORRUPT. */
static int measure_string(const uint8_t *p, const uint8_t *end, size_t *encoded_len, size_t *len) {
  const uint8_t *stop = memchr(p, END, (size_t)(end - p));
  if (stop == NULL) return FLUME_ECORRUPT;
  *encoded_len = *len = (size_t)(stop - p);
  for (const uint8_t *q = p; q < stop; q++) {
    if (*q != ESCAPE) continue;
    if (++q == stop || *q < 1 || *q > 2) return FLUME_ECORRUPT;
    --*len;
  }
  return 0;
}

static int get_string(const uint8_t **p, const uint8_t *end, struct flume_buf *out) {
  size_t encoded_len, len;
  int rv = measure_string(++*p, end, &encoded_len, &len);
  if (rv == 0 && len > UINT32_MAX) rv = FLUME_E2BIG;
  if (rv == 0) rv = flume_buf_reserve(out, FLUME__MSGPACK_TOKEN_MAX + len);
  if (rv != 0) return rv;
  uint8_t *to = flume__msgpack_store_str(out->data + out->len, (uint32_t)len);
  for (size_t i = 0; i < encoded_len; i++) {
    uint8_t byte = (*p)[i];
    *to++ = byte == ESCAPE ? (uint8_t)((*p)[++i] - 1) : byte;
  }
  out->len = (size_t)(to - out->data);
  *p += encoded_len + 1;
  return 0;
}

static int get_value(const uint8_t **p, const uint8_t *end, struct flume_buf *out, unsigned depth);

static int get_array(const uint8_t **p, const uint8_t *end, struct flume_buf *out, unsigned depth) {
  size_t header_off;
  uint32_t count = 0;
  if (depth >= FLUME_KEY_MAX_DEPTH) return FLUME_ECORRUPT;
  int rv = flume_msgpack_open(out, &header_off);
  for (++*p; rv == 0; count++) {
    if (*p == end) return FLUME_ECORRUPT;
    if (**p == END) break;
    rv = get_value(p, end, out, depth + 1);
  }
  if (rv != 0) return rv;
  ++*p;
  return flume_msgpack_close(out, header_off, FLUME_TYPE_ARRAY, count);
}

static int get_value(const uint8_t **p, const uint8_t *end, struct flume_buf *out, unsigned depth) {
  if (*p == end) return FLUME_ECORRUPT;
  switch (**p) {
    case TAG_NIL: return ++*p, flume_msgpack_write_nil(out);
    case TAG_FALSE: return ++*p, flume_msgpack_write_bool(out, false);
    case TAG_TRUE: return ++*p, flume_msgpack_write_bool(out, true);
    case TAG_NUMBER: return get_number(p, end, out);
    case TAG_STRING: return get_string(p, end, out);
    case TAG_ARRAY: return get_array(p, end, out, depth);
    default: return FLUME_ECORRUPT;
  }
}

int flume_key_decode(const uint8_t **p, const uint8_t *end, struct flume_buf *out) {
  const uint8_t *at = *p;
  size_t start = out->len;
  int rv = get_value(&at, end, out, 0);
  if (rv == 0) *p = at;
  else out->len = start;
  return rv;
}

int flume_key_skip(const uint8_t **p, const uint8_t *end) {
  const uint8_t *at = *p;
  unsigned depth = 0;
  do {
    size_t encoded_len, len;
    if (at == end) return FLUME_ECORRUPT;
    switch (*at++) {
      case TAG_NIL:
      case TAG_FALSE:
      case TAG_TRUE: break;
      case TAG_NUMBER:
        if (end - at < NUMBER_BYTES - 1) return FLUME_ECORRUPT;
        at += NUMBER_BYTES - 1;
        break;
      case TAG_STRING:
        if (measure_string(at, end, &encoded_len, &len) != 0) return FLUME_ECORRUPT;
        at += encoded_len + 1;
        break;
      case TAG_ARRAY:
        if (++depth > FLUME_KEY_MAX_DEPTH) return FLUME_ECORRUPT;
        break;
      case END:
        if (depth-- == 0) return FLUME_ECORRUPT;
        break;
      default: return FLUME_ECORRUPT;
    }
  } while (depth > 0);
  *p = at;
  return 0;
}
