#include "window.h"

#include <assert.h>

void flume_window_init(struct flume_window *window, const struct flume_io *io, int file, uint64_t file_bytes) {
  *window = (struct flume_window){.io = io, .file = file, .file_bytes = file_bytes};
  flume_buf_init(&window->buf, io);
}

void flume_window_fini(struct flume_window *window) {
  flume_buf_fini(&window->buf);
}

int flume_window_get(struct flume_window *window, uint64_t off, size_t len, const uint8_t **bytes) {
  if (off < window->off || off + len > window->off + window->buf.len) {
    uint64_t rest = window->file_bytes - off;
    assert(len <= rest);
    size_t want = len > FLUME_WINDOW_BYTES ? len : FLUME_WINDOW_BYTES;
    if (want > rest) want = (size_t)rest;
    window->buf.len = 0;
    int rv = flume_buf_reserve(&window->buf, want);
    if (rv != 0) return rv;
    rv = flume_io_read_full(window->io, window->file, window->buf.data, want, off);
    if (rv != 0) return rv;
    window->off = off;
    window->buf.len = want;
  }
  *bytes = window->buf.data + (off - window->off);
  return 0;
}
