#include "base/file_window.h"

#include <assert.h>

void flume_window_init(struct flume_window *window, const struct flume_io *io, int file, uint64_t file_bytes) {
  *window = (struct flume_window){.io = io, .file = file, .file_bytes = file_bytes, .step_bytes = FLUME_WINDOW_BYTES};
  flume_buf_init(&window->buf, io);
}

void flume_window_fini(struct flume_window *window) {
  flume_buf_fini(&window->buf);
}

/* Reads `want` bytes at off, or as many as there are: what is behind the first len of them may be zeros that a writer is
 * cutting off. FLUME_ECORRUPT when there are not even those. */
static int fill(struct flume_window *window, uint64_t off, size_t len, size_t want) {
  struct flume_buf *buf = &window->buf;
  window->off = off;
  buf->len = 0;
  int rv = flume_buf_reserve(buf, want);
  if (rv != 0) return rv;
  while (buf->len < want) {
    int64_t n = window->io->read(window->io->ctx, window->file, buf->data + buf->len, want - buf->len, off + buf->len);
    if (n == UV_EINTR) continue;
    if (n < 0) return (int)n;
    if (n == 0) break;
    buf->len += (size_t)n;
  }
  return buf->len < len ? FLUME_ECORRUPT : 0;
}

int flume_window_get(struct flume_window *window, uint64_t off, size_t len, const uint8_t **bytes) {
  if (off < window->off || off + len > window->off + window->buf.len) {
    uint64_t rest = window->file_bytes - off;
    assert(len <= rest);
    size_t want = len > window->step_bytes ? len : window->step_bytes;
    if (want > rest) want = (size_t)rest;
    if (window->step_bytes < FLUME_WINDOW_BYTES) window->step_bytes *= 4;
    int rv = fill(window, off, len, want);
    if (rv != 0) return rv;
  }
  *bytes = window->buf.data + (off - window->off);
  return 0;
}

void flume_window_forget(struct flume_window *window) {
  window->buf.len = 0;
}
