/* Any bytes as MessagePack, and any text as JSON: what is read as a value can be written and read again. */
#include <assert.h>

#include "buf.h"
#include "json.h"
#include "msgpack.h"

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
  if (flume_msgpack_to_json(data, len, &text, &err) == 0) {
    assert(flume_msgpack_check(data, len) == 0);
    assert(flume_json_to_msgpack((const char *)text.data, text.len, &packed, &err) == 0);
    assert(flume_msgpack_check(packed.data, packed.len) == 0);
  }
  flume_buf_fini(&text);
  flume_buf_fini(&packed);
}

static void from_json(const char *text, size_t len) {
  struct flume_buf packed, again;
  struct flume_err err;
  flume_buf_init(&packed, &flume_io_posix);
  flume_buf_init(&again, &flume_io_posix);
  if (flume_json_to_msgpack(text, len, &packed, &err) == 0) {
    assert(flume_msgpack_check(packed.data, packed.len) == 0);
    assert(flume_msgpack_to_json(packed.data, packed.len, &again, &err) == 0);
  }
  flume_buf_fini(&packed);
  flume_buf_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  walk(data, len);
  from_msgpack(data, len);
  from_json((const char *)data, len);
  return 0;
}
