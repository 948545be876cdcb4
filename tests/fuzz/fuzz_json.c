/* Any text as JSON: a text that can be read becomes a value, and the text of that value reads as the same value. */
#include "base/buf.h"
#include "codec/json.h"
#include "codec/msgpack.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  struct flume_buf packed, text, again, text_again;
  struct flume_err err;
  flume_buf_init(&packed, &flume_io_posix);
  flume_buf_init(&text, &flume_io_posix);
  flume_buf_init(&again, &flume_io_posix);
  flume_buf_init(&text_again, &flume_io_posix);
  if (flume_json_to_msgpack((const char *)data, len, &packed, &err) == 0) {
    EXPECT(flume_msgpack_check(packed.data, packed.len) == 0);
    EXPECT(flume_msgpack_to_json(packed.data, packed.len, FLUME_JSON_EXACT, &text, NULL, &err) == 0);
    EXPECT(flume_json_to_msgpack((const char *)text.data, text.len, &again, &err) == 0);
    EXPECT(flume_msgpack_to_json(again.data, again.len, FLUME_JSON_EXACT, &text_again, NULL, &err) == 0);
    EXPECT(text.len == text_again.len && memcmp(text.data, text_again.data, text.len) == 0);
  } else {
    EXPECT(err.code != 0 && err.msg[0] != '\0');
  }
  flume_buf_fini(&packed);
  flume_buf_fini(&text);
  flume_buf_fini(&again);
  flume_buf_fini(&text_again);
  return 0;
}
