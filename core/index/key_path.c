#include "index/key_path.h"

#include "codec/key.h"

struct flume_extract {
  const struct flume_io *io;
  enum flume_extract_shape shape;
  size_t count;
  struct flume_msgpack_path *paths[];
};

int flume_extract_new(const struct flume_io *io, enum flume_extract_shape shape, struct flume_msgpack_path **paths,
                      size_t count, struct flume_extract **out, struct flume_err *err) {
  struct flume_extract *extract = flume_io_alloc(io, sizeof *extract + count * sizeof *paths);
  if (extract == NULL) {
    for (size_t i = 0; i < count; i++) flume_msgpack_path_free(paths[i]);
    return flume_err_nomem(err);
  }
  extract->io = io;
  extract->shape = shape;
  extract->count = count;
  if (count > 0) memcpy(extract->paths, paths, count * sizeof *paths);
  *out = extract;
  return 0;
}

void flume_extract_free(struct flume_extract *extract) {
  if (extract == NULL) return;
  for (size_t i = 0; i < extract->count; i++) flume_msgpack_path_free(extract->paths[i]);
  flume_io_free(extract->io, extract);
}

/* The bytes of the value at a path; FLUME_ENOENT: none, or null. */
static int seek(const struct flume_msgpack_path *path, const uint8_t *record, const uint8_t *end, const uint8_t **value,
                size_t *len) {
  int rv = flume_msgpack_seek(record, end, path, value);
  if (rv != 0) return rv;
  const uint8_t *behind = *value;
  rv = flume_msgpack_skip(&behind, end);
  if (rv != 0) return rv;
  *len = (size_t)(behind - *value);
  return **value == 0xc0 ? FLUME_ENOENT : 0;
}

/* The array of the values, as MessagePack, into scratch: 1, or 0 when there are none. */
static int gather(const struct flume_extract *extract, const uint8_t *record, const uint8_t *end,
                  struct flume_buf *scratch) {
  int found = 0;
  int rv = flume_msgpack_write_array(scratch, (uint32_t)extract->count);
  for (size_t i = 0; rv == 0 && i < extract->count; i++) {
    const uint8_t *value;
    size_t len;
    rv = seek(extract->paths[i], record, end, &value, &len);
    if (rv == 0) {
      found = 1;
      rv = flume_buf_append(scratch, value, len);
    } else if (rv == FLUME_ENOENT) {
      rv = flume_msgpack_write_nil(scratch);
    }
  }
  return rv != 0 ? rv : found;
}

static enum flume_extract_kind kind_of(const uint8_t *value, size_t len, struct flume_buf *scratch) {
  const uint8_t *p = value;
  struct flume_value v;
  if (flume_msgpack_read(&p, value + len, &v) != 0) return FLUME_KIND_EXT;
  switch (v.type) {
    case FLUME_TYPE_NIL: return FLUME_KIND_NULL;
    case FLUME_TYPE_BOOL: return FLUME_KIND_BOOL;
    case FLUME_TYPE_INT: return FLUME_KIND_NUMBER;
    case FLUME_TYPE_FLOAT: return v.f == v.f ? FLUME_KIND_NUMBER : FLUME_KIND_NAN;
    case FLUME_TYPE_STR: return FLUME_KIND_STRING;
    case FLUME_TYPE_MAP: return FLUME_KIND_MAP;
    case FLUME_TYPE_EXT: return FLUME_KIND_EXT;
    case FLUME_TYPE_ARRAY: break;
  }
  scratch->len = 0;
  return flume_key_encode(value, len, scratch, NULL) == 0 ? FLUME_KIND_ARRAY : FLUME_KIND_OTHER_ARRAY;
}

/* The one byte of the shapes that have no values in their keys. */
static int extract_byte(const struct flume_extract *extract, const uint8_t *record, const uint8_t *end,
                        struct flume_buf *key, struct flume_buf *scratch) {
  uint8_t byte = '*';
  if (extract->shape == FLUME_EXTRACT_KIND) {
    const uint8_t *value;
    int rv = flume_msgpack_seek(record, end, extract->paths[0], &value);
    if (rv == FLUME_ENOENT) return 0;
    const uint8_t *behind = value;
    if (rv == 0) rv = flume_msgpack_skip(&behind, end);
    if (rv != 0) return rv;
    byte = (uint8_t)kind_of(value, (size_t)(behind - value), scratch);
  }
  int rv = flume_buf_append(key, &byte, 1);
  return rv == 0 ? 1 : rv;
}

int flume_extract_key(const struct flume_extract *extract, const uint8_t *record, size_t len, struct flume_buf *key,
                      struct flume_buf *scratch) {
  const uint8_t *end = record + len, *value = NULL;
  size_t value_len = 0;
  int rv;
  if (extract->shape == FLUME_EXTRACT_KIND || extract->shape == FLUME_EXTRACT_ANY) {
    return extract_byte(extract, record, end, key, scratch);
  }
  if (extract->shape == FLUME_EXTRACT_VALUE) {
    rv = seek(extract->paths[0], record, end, &value, &value_len);
    if (rv == FLUME_ENOENT) return 0;
    if (rv != 0) return rv;
  } else {
    scratch->len = 0;
    rv = gather(extract, record, end, scratch);
    if (rv <= 0) return rv;
    value = scratch->data;
    value_len = scratch->len;
  }
  rv = flume_key_encode(value, value_len, key, NULL);
  if (rv == 0) return 1;
  return rv == FLUME_EINVAL ? 0 : rv;
}
