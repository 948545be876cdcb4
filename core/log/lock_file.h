/* The writer's note, for those who follow it and for whoever opens the log next: how far it was acknowledged. It stands in
 * the file "lock", behind who has the lock (core/FORMAT.md). It is never synced, and written only of what is safe: whatever
 * a crash leaves of it, what it says is true. */
#ifndef FLUME_NOTE_H
#define FLUME_NOTE_H

#include <stdint.h>

#include "base/io.h"

#define FLUME_NOTE_BYTES 28 /* since, end of deletes, writer: 8 each; checksum: 4 */

struct flume_note {
  int64_t since;            /* acknowledged; FLUME_SEQ_MAX: whatever is whole */
  uint64_t deleted_end_off; /* how much of the file "deleted" is acknowledged: bytes */
  uint64_t writer;          /* a random number for each opening of the log */
};

/* Any thread, one at a time. 0 or an errno. */
int flume_note_write(const struct flume_io *io, int lock_file, const uint8_t *log_id, const struct flume_note *note);
/* The note that FLUME_NOTE_BYTES bytes of a lock file are. FLUME_ENOENT when they are no whole one, of this log. */
int flume_note_get(const uint8_t *bytes, const uint8_t *log_id, struct flume_note *note);
/* Also FLUME_ENOENT when there is none; or an errno. */
int flume_note_read(const struct flume_io *io, int lock_file, const uint8_t *log_id, struct flume_note *note);
/* Takes it away, durably. 0 or an errno. */
int flume_note_remove(const struct flume_io *io, int lock_file);

#endif
