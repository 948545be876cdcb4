#include "base/buf.h"

void flume_buf_init(struct flume_buf *buf, const struct flume_io *io) {
  *buf = (struct flume_buf){.io = io};
}

void flume_buf_fini(struct flume_buf *buf) {
  flume_io_free(buf->io, buf->data);
  buf->data = NULL;
  buf->len = 0;
  buf->cap = 0;
}

int flume_buf_grow(struct flume_buf *buf, size_t len) {
  if (len > SIZE_MAX / 2 - buf->len) return FLUME_ENOMEM;
  size_t cap = buf->cap > 0 ? buf->cap : 64;
  while (cap - buf->len < len) cap *= 2;
  uint8_t *data = flume_io_realloc(buf->io, buf->data, cap);
  if (data == NULL) return FLUME_ENOMEM;
  buf->data = data;
  buf->cap = cap;
  return 0;
}
