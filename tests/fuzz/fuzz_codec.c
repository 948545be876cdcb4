/* Any bytes as MessagePack, and as a key.
 *
 * - A value that can be read can be written as JSON and as a key, and reads back from both.
 * - A key that can be decoded encodes to the same bytes. */
#include "base/buf.h"
#include "codec/json.h"
#include "codec/key.h"
#include "codec/msgpack.h"
#include "fuzz.h"

static void walk(const uint8_t *data, size_t len) {
  const uint8_t *p = data, *end = data + len, *value;
  struct flume_value v;
  while (p < end && flume_msgpack_read(&p, end, &v) == 0) continue;
  p = data;
  while (p < end && flume_msgpack_skip(&p, end) == 0) continue;
  flume_msgpack_find(data, end, "a", 1, &value);
}

static void from_msgpack(const uint8_t *data, size_t len) {
  struct flume_buf text, packed;
  struct flume_err err;
  flume_buf_init(&text, &flume_io_posix);
  flume_buf_init(&packed, &flume_io_posix);
  if (flume_msgpack_to_json(data, len, FLUME_JSON_LOSSY, &text, NULL, &err) == 0) {
    EXPECT(flume_msgpack_check(data, len) == 0);
    EXPECT(flume_json_stored_to_msgpack((const char *)text.data, text.len, &packed, &err) == 0);
    EXPECT(flume_msgpack_check(packed.data, packed.len) == 0);
  }
  flume_buf_fini(&text);
  flume_buf_fini(&packed);
}

/* A key that was decoded encodes to the same bytes. */
static void check_key(const uint8_t *bytes, size_t len) {
  struct flume_buf value, again;
  struct flume_err err;
  const uint8_t *p = bytes, *skipped = bytes;
  flume_buf_init(&value, &flume_io_posix);
  flume_buf_init(&again, &flume_io_posix);
  if (flume_key_decode(&p, bytes + len, &value) == 0) {
    EXPECT(flume_key_skip(&skipped, bytes + len) == 0 && skipped == p);
    EXPECT(flume_msgpack_check(value.data, value.len) == 0);
    if (flume_key_encode(value.data, value.len, &again, &err) == 0) {
      const uint8_t *end = again.data + again.len, *q = again.data;
      EXPECT(flume_key_skip(&q, end) == 0 && q == end);
    }
  }
  flume_buf_fini(&value);
  flume_buf_fini(&again);
}

static void to_key(const uint8_t *data, size_t len) {
  struct flume_buf key, value, again;
  struct flume_err err;
  flume_buf_init(&key, &flume_io_posix);
  flume_buf_init(&value, &flume_io_posix);
  flume_buf_init(&again, &flume_io_posix);
  if (flume_key_encode(data, len, &key, &err) == 0) {
    const uint8_t *p = key.data;
    EXPECT(flume_key_decode(&p, key.data + key.len, &value) == 0 && p == key.data + key.len);
    EXPECT(flume_key_encode(value.data, value.len, &again, &err) == 0);
    EXPECT(again.len == key.len && memcmp(again.data, key.data, key.len) == 0);
    key.len = 0;
    flume_key_encode_prefix(data, len, &key, &err);
  }
  flume_buf_fini(&key);
  flume_buf_fini(&value);
  flume_buf_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  walk(data, len);
  from_msgpack(data, len);
  to_key(data, len);
  check_key(data, len);
  return 0;
}
