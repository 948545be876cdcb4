/* A growable byte buffer on the caller's memory: init, append, fini. */
#ifndef FLUME_BUF_H
#define FLUME_BUF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/io.h"

struct flume_buf {
  const struct flume_io *io; /* allocator */
  uint8_t *data;             /* owned; NULL while empty */
  size_t len;                /* bytes in use */
  size_t cap;                /* bytes allocated */
};

void flume_buf_init(struct flume_buf *buf, const struct flume_io *io);
void flume_buf_fini(struct flume_buf *buf);

/* Makes room for len more bytes: 0 or FLUME_ENOMEM, the buffer unchanged. */
int flume_buf_grow(struct flume_buf *buf, size_t len);

static inline int flume_buf_reserve(struct flume_buf *buf, size_t len) {
  return buf->cap - buf->len >= len ? 0 : flume_buf_grow(buf, len);
}

static inline int flume_buf_append(struct flume_buf *buf, const void *data, size_t len) {
  int rv = flume_buf_reserve(buf, len);
  if (rv != 0) return rv;
  if (len > 0) memcpy(buf->data + buf->len, data, len);
  buf->len += len;
  return 0;
}

#endif
