/* The walkers share one table by first byte, so that passing over a value costs a load and an addition where its
 * size is known from that byte, which it is for nearly all fields of real records.
 *
 * Passing over nested values keeps a count of the values still to pass, not a stack: hostile nesting costs nothing.
 * Every value takes at least a byte, so a count above the bytes left is refused at once. */
#include "codec/msgpack.h"

/* --- Writing -------------------------------------------------------------------------------------------------- */

int flume_msgpack_write_bin(struct flume_buf *buf, const void *data, size_t len) {
  uint8_t *p;
  int rv;
  if (len > UINT32_MAX) return FLUME_E2BIG;
  rv = flume_buf_reserve(buf, FLUME__MSGPACK_TOKEN_MAX + len);
  if (rv != 0) return rv;
  p = buf->data + buf->len;
  if (len <= UINT8_MAX) {
    p[0] = 0xc4;
    p[1] = (uint8_t)len;
    p += 2;
  } else if (len <= UINT16_MAX) {
    p[0] = 0xc5;
    flume_put_be16(p + 1, (uint16_t)len);
    p += 3;
  } else {
    p[0] = 0xc6;
    flume_put_be32(p + 1, (uint32_t)len);
    p += 5;
  }
  if (len > 0) memcpy(p, data, len);
  buf->len = (size_t)(p - buf->data) + len;
  return 0;
}

int flume__msgpack_close_wide(struct flume_buf *buf, size_t header_off, enum flume_type type, uint32_t count) {
  uint8_t header[FLUME__MSGPACK_TOKEN_MAX];
  size_t size = (size_t)(flume__msgpack_store_header(header, type, count) - header);
  size_t body_off = header_off + 1;
  int rv = flume_buf_reserve(buf, size - 1);
  if (rv != 0) return rv;
  memmove(buf->data + header_off + size, buf->data + body_off, buf->len - body_off);
  memcpy(buf->data + header_off, header, size);
  buf->len += size - 1;
  return 0;
}

/* --- Reading -------------------------------------------------------------------------------------------------- */

/* The bytes that follow a first byte 0xc0 to 0xdf before its payload: the number itself, or a length. */
static const uint8_t field_size[32] = {
    0, 0, 0, 0, 1, 2, 4, 1, 2, 4, 4, 8, 1, 2, 4, 8, /* nil - bool bin ext float uint */
    1, 2, 4, 8, 0, 0, 0, 0, 0, 1, 2, 4, 2, 4, 2, 4, /* int fixext str array map */
};

static uint64_t get_field(const uint8_t *p, size_t size) {
  switch (size) {
    case 1: return *p;
    case 2: return flume_get_be16(p);
    case 4: return flume_get_be32(p);
    case 8: return flume_get_be64(p);
    default: return 0;
  }
}

static double get_float(uint64_t bits, size_t size) {
  double f64;
  if (size == 4) {
    uint32_t bits32 = (uint32_t)bits;
    float f32;
    memcpy(&f32, &bits32, sizeof f32);
    return (double)f32;
  }
  memcpy(&f64, &bits, sizeof f64);
  return f64;
}

static void set_uint(struct flume_value *v, uint64_t n) {
  if (n <= INT64_MAX) {
    v->type = FLUME_TYPE_INT;
    v->i = (int64_t)n;
  } else {
    v->type = FLUME_TYPE_FLOAT;
    v->f = (double)n;
  }
}

/* A string or ext whose payload of len bytes begins at *p. */
static int read_payload(const uint8_t **p, const uint8_t *end, struct flume_value *v, enum flume_type type,
                        uint64_t len) {
  if ((uint64_t)(end - *p) < len) return FLUME_ECORRUPT;
  v->type = type;
  v->str.data = *p;
  v->str.len = (uint32_t)len;
  *p += len;
  return 0;
}

#define EXT_TIMESTAMP (-1)

/* Seconds in 4 bytes; nanoseconds and seconds in 30 and 34 bits; or in 4 and 8 bytes. A timestamp of another length, or
 * with a second or more of nanoseconds, stays an extension type. */
static void read_timestamp(struct flume_value *v) {
  const uint8_t *data = v->str.data;
  int64_t seconds;
  uint64_t nanoseconds = 0, word;
  switch (v->str.len) {
    case 4: seconds = flume_get_be32(data); break;
    case 8:
      word = flume_get_be64(data);
      nanoseconds = word >> 34;
      seconds = (int64_t)(word & (((uint64_t)1 << 34) - 1));
      break;
    case 12:
      nanoseconds = flume_get_be32(data);
      seconds = (int64_t)flume_get_be64(data + 4);
      break;
    default: return;
  }
  if (nanoseconds > 999999999) return;
  v->type = nanoseconds == 0 ? FLUME_TYPE_INT : FLUME_TYPE_FLOAT;
  if (nanoseconds == 0) v->i = seconds;
  else v->f = (double)seconds + (double)nanoseconds / 1e9;
}

/* As read_payload, past the type byte that stands before an ext's payload. */
static int read_ext(const uint8_t **p, const uint8_t *end, struct flume_value *v, uint64_t len) {
  const uint8_t *at = *p + 1;
  if (*p == end || read_payload(&at, end, v, FLUME_TYPE_EXT, len) != 0) return FLUME_ECORRUPT;
  v->str.ext = (int8_t) * *p;
  *p = at;
  if (v->str.ext == EXT_TIMESTAMP) read_timestamp(v);
  return 0;
}

static int set_count(struct flume_value *v, enum flume_type type, uint64_t count) {
  v->type = type;
  v->count = (uint32_t)count;
  return 0;
}

/* Tokens with a first byte from 0xc0 to 0xdf. */
static int read_tagged(const uint8_t **p, const uint8_t *end, struct flume_value *v) {
  const uint8_t *at = *p;
  uint8_t tag = *at++;
  size_t size = field_size[tag - 0xc0];
  uint64_t n;
  int rv = 0;
  if ((size_t)(end - at) < size) return FLUME_ECORRUPT;
  n = get_field(at, size);
  at += size;
  /* clang-format off */
  switch (tag) {
    case 0xc0: v->type = FLUME_TYPE_NIL; break;
    case 0xc2: case 0xc3: v->type = FLUME_TYPE_BOOL; v->b = tag == 0xc3; break;
    case 0xca: case 0xcb: v->type = FLUME_TYPE_FLOAT; v->f = get_float(n, size); break;
    case 0xcc: case 0xcd: case 0xce: case 0xcf: set_uint(v, n); break;
    case 0xd0: v->type = FLUME_TYPE_INT; v->i = (int8_t)n; break;
    case 0xd1: v->type = FLUME_TYPE_INT; v->i = (int16_t)n; break;
    case 0xd2: v->type = FLUME_TYPE_INT; v->i = (int32_t)n; break;
    case 0xd3: v->type = FLUME_TYPE_INT; v->i = (int64_t)n; break;
    case 0xc4: case 0xc5: case 0xc6: case 0xd9: case 0xda: case 0xdb:
      rv = read_payload(&at, end, v, FLUME_TYPE_STR, n);
      break;
    case 0xc7: case 0xc8: case 0xc9: rv = read_ext(&at, end, v, n); break;
    case 0xd4: case 0xd5: case 0xd6: case 0xd7: case 0xd8: rv = read_ext(&at, end, v, 1u << (tag - 0xd4)); break;
    case 0xdc: case 0xdd: rv = set_count(v, FLUME_TYPE_ARRAY, n); break;
    case 0xde: case 0xdf: rv = set_count(v, FLUME_TYPE_MAP, n); break;
    default: return FLUME_ECORRUPT;
  }
  /* clang-format on */
  if (rv == 0) *p = at;
  return rv;
}

int flume_msgpack_read(const uint8_t **p, const uint8_t *end, struct flume_value *v) {
  const uint8_t *at = *p;
  uint8_t tag;
  if (at >= end) return FLUME_ECORRUPT;
  tag = *at;
  if (tag < 0x80 || tag >= 0xe0) {
    v->type = FLUME_TYPE_INT;
    v->i = (int8_t)tag;
  } else if (tag >= 0xc0) {
    return read_tagged(p, end, v);
  } else if (tag >= 0xa0) {
    uint32_t len = tag & 31;
    if ((size_t)(end - at) <= len) return FLUME_ECORRUPT;
    v->type = FLUME_TYPE_STR;
    v->str.data = at + 1;
    v->str.len = len;
    at += len;
  } else {
    v->type = tag >= 0x90 ? FLUME_TYPE_ARRAY : FLUME_TYPE_MAP;
    v->count = tag & 15;
  }
  *p = at + 1;
  return 0;
}

/* --- Walking -------------------------------------------------------------------------------------------------- */

#define ROW(n) n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n

const uint8_t
    flume__msgpack_fixed
        [256] =
            {
                ROW(1), ROW(1), ROW(1), ROW(1), ROW(1), ROW(1), ROW(1), ROW(1), /* small int */
                1,      0,      0,      0,      0,      0,      0,      0,      0,  0,      0,      0,  0,
                0,      0,      0, /* small map */
                1,      0,      0,      0,      0,      0,      0,      0,      0,  0,      0,      0,  0,
                0,      0,      0, /* small array */
                1,      2,      3,      4,      5,      6,      7,      8,      9,  10,     11,     12, 13,
                14,     15,     16, /* short string */
                17,     18,     19,     20,     21,     22,     23,     24,     25, 26,     27,     28, 29,
                30,     31,     32,     1,      0,      1,      1,      0,      0,  0,      0,      0,  0,
                5,      9,      2,      3,      5,      9,      2,      3,      5,  9,      3,      4,  6,
                10,     18,     0,      0,      0,      0,      0,      0,      0,  ROW(1), ROW(1), /* small negative */
};

#undef ROW

/* Passes over one token whose size its first byte does not tell; *children becomes the values that belong to it. */
static int step_sized(const uint8_t **p, const uint8_t *end, uint64_t *children) {
  struct flume_value v;
  int rv = flume_msgpack_read(p, end, &v);
  if (rv != 0) return rv;
  *children = v.type == FLUME_TYPE_ARRAY ? v.count : v.type == FLUME_TYPE_MAP ? 2 * (uint64_t)v.count : 0;
  return *children <= (uint64_t)(end - *p) ? 0 : FLUME_ECORRUPT;
}

static inline int step(const uint8_t **p, const uint8_t *end, uint64_t *children) {
  size_t size;
  if (*p >= end) return FLUME_ECORRUPT;
  size = flume__msgpack_fixed[**p];
  if (size == 0) return step_sized(p, end, children);
  if ((size_t)(end - *p) < size) return FLUME_ECORRUPT;
  *p += size;
  *children = 0;
  return 0;
}

int flume__msgpack_skip_any(const uint8_t **p, const uint8_t *end) {
  const uint8_t *at = *p;
  uint64_t left = 1, children;
  do {
    if (step(&at, end, &children) != 0) return FLUME_ECORRUPT;
    left += children - 1;
    if (left > (uint64_t)(end - at)) return FLUME_ECORRUPT;
  } while (left > 0);
  *p = at;
  return 0;
}

int flume__msgpack_check_depth(const uint8_t *data, size_t len, unsigned max_depth) {
  uint64_t left[FLUME_MSGPACK_MAX_DEPTH + 1]; /* values still to come, in each container around */
  const uint8_t *at = data, *end = data + len;
  unsigned depth = 0;
  uint64_t children;
  left[0] = 1;
  for (;;) {
    while (left[depth] == 0) {
      if (depth == 0) return at == end ? 0 : FLUME_ECORRUPT;
      depth--;
    }
    left[depth]--;
    if (depth == max_depth && at < end && flume__msgpack_is_container(*at)) return FLUME_E2BIG;
    if (step(&at, end, &children) != 0) return FLUME_ECORRUPT;
    if (children > 0) left[++depth] = children;
  }
}

int flume_msgpack_check(const uint8_t *data, size_t len) {
  return flume__msgpack_check_depth(data, len, FLUME_MSGPACK_MAX_DEPTH) == 0 ? 0 : FLUME_ECORRUPT;
}

/* --- Looking up ----------------------------------------------------------------------------------------------- */

static inline bool same_bytes(const uint8_t *data, size_t len, const char *key, size_t key_len) {
  return len == key_len && (len == 0 || (data[0] == (uint8_t)key[0] && memcmp(data, key, len) == 0));
}

/* Moves *p from a map's key to its value and tells in *hit whether the key is the one asked for. */
static inline int pass_key(const uint8_t **p, const uint8_t *end, const char *key, size_t key_len, bool *hit) {
  const uint8_t *at = *p;
  struct flume_value v;
  if (at < end && (*at & 0xe0) == 0xa0) {
    size_t len = *at & 31;
    if ((size_t)(end - at) <= len) return FLUME_ECORRUPT;
    *hit = same_bytes(at + 1, len, key, key_len);
    *p = at + 1 + len;
    return 0;
  }
  if (flume_msgpack_read(&at, end, &v) != 0) return FLUME_ECORRUPT;
  *hit = v.type == FLUME_TYPE_STR && same_bytes(v.str.data, v.str.len, key, key_len);
  return flume_msgpack_skip(p, end);
}

int flume_msgpack_find(const uint8_t *map, const uint8_t *end, const char *key, size_t key_len, const uint8_t **value) {
  struct flume_value header;
  bool hit;
  if (flume_msgpack_read(&map, end, &header) != 0) return FLUME_ECORRUPT;
  if (header.type != FLUME_TYPE_MAP) return FLUME_ENOENT;
  for (uint32_t i = 0; i < header.count; i++) {
    if (pass_key(&map, end, key, key_len, &hit) != 0) return FLUME_ECORRUPT;
    if (hit) {
      if (map >= end) return FLUME_ECORRUPT;
      *value = map;
      return 0;
    }
    if (flume_msgpack_skip(&map, end) != 0) return FLUME_ECORRUPT;
  }
  return FLUME_ENOENT;
}

int flume_msgpack_seek(const uint8_t *map, const uint8_t *end, const struct flume_msgpack_path *path,
                       const uint8_t **value) {
  for (uint32_t i = 0; i < path->count; i++) {
    int rv = flume_msgpack_find(map, end, path->keys[i].data, path->keys[i].len, &map);
    if (rv != 0) return rv;
  }
  *value = map;
  return 0;
}

/* --- Paths ---------------------------------------------------------------------------------------------------- */

/* A path with room for its keys, and behind them, in the same allocation, for len bytes of their text. */
static struct flume_msgpack_path *new_path(const struct flume_io *io, size_t count, size_t len, char **text) {
  size_t size = sizeof(struct flume_msgpack_path) + count * sizeof(struct flume_msgpack_path_key);
  struct flume_msgpack_path *path = flume_io_alloc(io, size + len);
  if (path == NULL) return NULL;
  path->io = io;
  path->count = (uint32_t)count;
  *text = (char *)path + size;
  return path;
}

int flume_msgpack_path_new(const struct flume_io *io, const struct flume_msgpack_path_key *keys, size_t count,
                           struct flume_msgpack_path **path, struct flume_err *err) {
  struct flume_msgpack_path *made;
  size_t len = 0;
  char *text;
  if (count == 0) return flume_err_set(err, FLUME_EINVAL, "a path needs at least one key");
  if (count > UINT32_MAX / sizeof *keys) return flume_err_set(err, FLUME_E2BIG, "a path of %zu keys", count);
  for (size_t i = 0; i < count; i++) len += keys[i].len;
  made = new_path(io, count, len, &text);
  if (made == NULL) return flume_err_nomem(err);
  for (size_t i = 0; i < count; i++) {
    made->keys[i] = (struct flume_msgpack_path_key){text, keys[i].len};
    if (keys[i].len > 0) memcpy(text, keys[i].data, keys[i].len);
    text += keys[i].len;
  }
  *path = made;
  return 0;
}

int flume_msgpack_path_parse(const struct flume_io *io, const char *text, size_t len, struct flume_msgpack_path **path,
                             struct flume_err *err) {
  struct flume_msgpack_path *made;
  size_t count = 1, from = 0;
  char *copy;
  if (len > UINT32_MAX / 32) return flume_err_set(err, FLUME_E2BIG, "a path of %zu bytes", len);
  for (size_t i = 0; i < len; i++) count += text[i] == '.';
  made = new_path(io, count, len, &copy);
  if (made == NULL) return flume_err_nomem(err);
  if (len > 0) memcpy(copy, text, len);
  for (size_t k = 0; k < count; k++) {
    size_t to = from;
    while (to < len && copy[to] != '.') to++;
    if (to == from) {
      flume_msgpack_path_free(made);
      return flume_err_set(err, FLUME_EINVAL, "path '%.*s': key %zu is empty", (int)(len < 200 ? len : 200), text,
                           k + 1);
    }
    made->keys[k] = (struct flume_msgpack_path_key){copy + from, (uint32_t)(to - from)};
    from = to + 1;
  }
  *path = made;
  return 0;
}

void flume_msgpack_path_free(struct flume_msgpack_path *path) {
  if (path != NULL) flume_io_free(path->io, path);
}
