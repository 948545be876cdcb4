/* Where a view's state lives on disk: an LMDB environment of its own, in which the state, the seq up to which it was
 * folded, and what it was folded by are committed in one transaction. After any crash they belong together.
 *
 * Any thread, one at a time. */
#ifndef FLUME_STATE_H
#define FLUME_STATE_H

#include "buf.h"

#define FLUME_STATE_VERSION_BYTES 64

struct flume_state;

/* What a state was folded by, and how far. */
struct flume_state_meta {
  int64_t since;                           /* -1: nothing yet */
  uint8_t log_id[16];                      /* the log that it was folded from */
  char version[FLUME_STATE_VERSION_BYTES]; /* the view's version as text; "" when it gives none */
  uint64_t fingerprint;                    /* of the view's source */
  uint64_t deletions;                      /* of records it had folded, that it knows of */
};

/* The state kept in directory dir, which is made by the first commit. FLUME_ENOMEM. */
int flume_state_open(struct flume_state **state, const struct flume_io *io, const char *dir, struct flume_err *err);
void flume_state_close(struct flume_state *state);

/* The committed state, appended to value. FLUME_ENOENT: nothing was ever committed. FLUME_ECORRUPT: not readable. */
int flume_state_load(struct flume_state *state, struct flume_state_meta *meta, struct flume_buf *value,
                     struct flume_err *err);

/* Replaces the state by value, durably; all of it or nothing. */
int flume_state_commit(struct flume_state *state, const struct flume_state_meta *meta, const void *value, size_t len,
                       struct flume_err *err);

/* Forgets the state, durably. */
int flume_state_clear(struct flume_state *state, struct flume_err *err);

#endif
