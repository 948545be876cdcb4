/* Reading files of other kinds of logs from their beginning to their end, for importing their records. */
#ifndef FLUME_IMPORT_H
#define FLUME_IMPORT_H

#include "base/buf.h"
#include "log/offset/offset_frame.h"

enum flume_import_format {
  FLUME_IMPORT_OFFSET, /* JavaScript flumelog-offset, of JSON */
  FLUME_IMPORT_ASYNC,  /* JavaScript async-append-only-log, of BIPF */
};

/* An import that is under way. It holds a piece of the file in memory, or one record when that is larger. Any thread,
 * one at a time. */
struct flume_import {
  enum flume_import_format format;
  const char *path; /* borrowed */
  struct flume_window window;
  enum flume_offset_bits bits; /* FLUME_IMPORT_OFFSET */
  uint32_t block_bytes;        /* FLUME_IMPORT_ASYNC */
  uint64_t off;                /* of what comes next: bytes */
  uint64_t deleted;            /* records that were passed over */
};

/* Opens the file, which stays as it is; path must live on. bits: of the pointers of an offset file, 0 to find out.
 * FLUME_ECORRUPT when that can't be found out; FLUME_ENOMEM or an errno. */
int flume_import_open(struct flume_import *import, const struct flume_io *io, enum flume_import_format format,
                      const char *path, uint32_t bits, struct flume_err *err);
void flume_import_close(struct flume_import *import);

/* Appends the next record that is not deleted to out, as MessagePack or as JSON text: 1, or 0 at the end.
 * FLUME_ECORRUPT, with file and byte in the text, for what is none: import->off is then behind it, so that it can be
 * passed over; out is as it was. Else FLUME_ENOMEM or an errno. */
int flume_import_next(struct flume_import *import, struct flume_buf *out, struct flume_err *err);
int flume_import_next_json(struct flume_import *import, struct flume_buf *out, struct flume_err *err);

#endif
