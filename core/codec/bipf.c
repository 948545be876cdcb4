/* A value is a tag and its bytes; the tag is a varint of the number of those bytes, shifted by three, and the type. */
#include "codec/bipf.h"

#include <math.h>

#include "codec/msgpack.h"

enum bipf_type {
  BIPF_STRING,
  BIPF_BUFFER,
  BIPF_INT,    /* four bytes, little-endian */
  BIPF_DOUBLE, /* eight, little-endian */
  BIPF_ARRAY,  /* values */
  BIPF_OBJECT, /* strings and values in turn */
  BIPF_BOOL,   /* none for null, or one: 0 false, 1 true, 2 undefined */
};

#define MAX_EXACT 9007199254740992.0 /* 2^53: doubles up to there hold every integer */

struct reader {
  const uint8_t *start;
  const uint8_t *p;
  struct flume_buf *out;
  struct flume_err *err;
};

static int read_value(struct reader *reader, const uint8_t *end, unsigned depth);

static int fail(const struct reader *reader, const uint8_t *at, const char *what) {
  return flume_err_set(reader->err, FLUME_ECORRUPT, "byte %zu: %s", (size_t)(at - reader->start), what);
}

static int result(const struct reader *reader, int rv) {
  return rv == 0 ? 0 : flume_err_nomem(reader->err);
}

/* The tag at reader->p, whose value ends within end. */
static int read_tag(struct reader *reader, const uint8_t *end, enum bipf_type *type, uint32_t *len) {
  const uint8_t *at = reader->p;
  uint64_t tag = 0;
  for (unsigned shift = 0; shift <= 28; shift += 7) {
    if (reader->p == end) return fail(reader, at, "a tag that is cut off");
    uint8_t byte = *reader->p++;
    tag |= (uint64_t)(byte & 0x7f) << shift;
    if (byte >= 0x80) continue;
    *type = (enum bipf_type)(tag & 7);
    if (tag >> 3 > (uint64_t)(end - reader->p)) return fail(reader, at, "a value that is longer than what it is in");
    *len = (uint32_t)(tag >> 3);
    return 0;
  }
  return fail(reader, at, "a tag that is too long");
}

static int write_double(struct reader *reader, const uint8_t *bytes) {
  uint64_t bits = flume_get_le64(bytes);
  double number;
  memcpy(&number, &bits, sizeof number);
  bool whole = fabs(number) <= MAX_EXACT && number == floor(number);
  return result(reader, whole ? flume_msgpack_write_int(reader->out, (int64_t)number)
                              : flume_msgpack_write_float(reader->out, number));
}

static int read_scalar(struct reader *reader, enum bipf_type type, uint32_t len) {
  const uint8_t *bytes = reader->p;
  reader->p += len;
  switch (type) {
    case BIPF_STRING: return result(reader, flume_msgpack_write_str(reader->out, bytes, len));
    case BIPF_BUFFER: return result(reader, flume_msgpack_write_bin(reader->out, bytes, len));
    case BIPF_INT:
      if (len != 4) return fail(reader, bytes, "an integer that has not four bytes");
      return result(reader, flume_msgpack_write_int(reader->out, (int32_t)flume_get_le32(bytes)));
    case BIPF_DOUBLE:
      return len == 8 ? write_double(reader, bytes) : fail(reader, bytes, "a double without eight bytes");
    case BIPF_BOOL:
      if (len == 0 || (len == 1 && *bytes == 2)) return result(reader, flume_msgpack_write_nil(reader->out));
      if (len > 1 || *bytes > 2) return fail(reader, bytes, "neither true nor false nor null");
      return result(reader, flume_msgpack_write_bool(reader->out, *bytes == 1));
    default: return fail(reader, bytes, "a type that does not exist");
  }
}

static int read_key(struct reader *reader, const uint8_t *end) {
  const uint8_t *at = reader->p;
  enum bipf_type type = BIPF_BOOL;
  uint32_t len = 0;
  int rv = read_tag(reader, end, &type, &len);
  if (rv != 0) return rv;
  return type == BIPF_STRING ? read_scalar(reader, type, len) : fail(reader, at, "a key that is no string");
}

static int read_container(struct reader *reader, enum bipf_type type, const uint8_t *end, unsigned depth) {
  size_t header_off = 0;
  if (depth > FLUME_MSGPACK_MAX_DEPTH) return fail(reader, reader->p, "nested more than 128 deep");
  int rv = result(reader, flume_msgpack_open(reader->out, &header_off));
  uint32_t count = 0;
  for (; rv == 0 && reader->p < end; count++) {
    if (type == BIPF_OBJECT) rv = read_key(reader, end);
    if (rv == 0) rv = read_value(reader, end, depth);
  }
  if (rv != 0) return rv;
  enum flume_type made = type == BIPF_OBJECT ? FLUME_TYPE_MAP : FLUME_TYPE_ARRAY;
  return result(reader, flume_msgpack_close(reader->out, header_off, made, count));
}

static int read_value(struct reader *reader, const uint8_t *end, unsigned depth) {
  enum bipf_type type = BIPF_BOOL;
  uint32_t len = 0;
  int rv = read_tag(reader, end, &type, &len);
  if (rv != 0) return rv;
  if (type != BIPF_ARRAY && type != BIPF_OBJECT) return read_scalar(reader, type, len);
  return read_container(reader, type, reader->p + len, depth + 1);
}

int flume_bipf_to_msgpack(const uint8_t *data, size_t len, struct flume_buf *out, struct flume_err *err) {
  struct reader reader = {.start = data, .p = data, .out = out, .err = err};
  size_t before = out->len;
  int rv = read_value(&reader, data + len, 0);
  if (rv == 0 && reader.p != data + len) rv = fail(&reader, reader.p, "bytes behind the value");
  if (rv != 0) out->len = before;
  return rv;
}
