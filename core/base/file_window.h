/* A piece of a file in memory that moves forward: for reading a file once, from its beginning to its end. */
#ifndef FLUME_WINDOW_H
#define FLUME_WINDOW_H

#include "base/buf.h"

#define FLUME_WINDOW_BYTES (1u << 20) /* read at a time, at most */

struct flume_window {
  const struct flume_io *io;
  int file;
  uint64_t file_bytes; /* nothing is read from there on */
  struct flume_buf buf;
  uint64_t off; /* of buf.data[0] in the file */
  size_t
      step_bytes; /* that are read next; it grows to FLUME_WINDOW_BYTES, and may be set lower where little is expected */
};

/* Reads nothing yet. The file stays the caller's. */
void flume_window_init(struct flume_window *window, const struct flume_io *io, int file, uint64_t file_bytes);
void flume_window_fini(struct flume_window *window);

/* Bytes [off, off + len) of the file, borrowed until the next call. They must lie within the file. FLUME_ENOMEM,
 * FLUME_ECORRUPT when the file is shorter than that, or an errno. */
int flume_window_get(struct flume_window *window, uint64_t off, size_t len, const uint8_t **bytes);

/* What was read is forgotten: another process may have written there since. */
void flume_window_forget(struct flume_window *window);

#endif
