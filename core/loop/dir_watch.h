/* Tells that something in a directory has changed: by the system's file events where it has them, else by a timer, for
 * looking again and again. Loop thread only; keeps the loop alive while it is open. */
#ifndef FLUME_WATCH_H
#define FLUME_WATCH_H

#include "base/io.h"

#define FLUME_WATCH_POLL_MS 250 /* between two looks, where there are no events */

enum flume_watch_change {
  FLUME_WATCH_BYTES, /* a file was written to or cut */
  FLUME_WATCH_NAMES, /* a file, or the directory itself, was made, renamed or removed */
  FLUME_WATCH_ANY,   /* nobody knows: it is time to look */
};

struct flume_watch {
  /* On the loop. Several changes may share one call. The next look has to see what was before it: what happens after the
   * call is told by another. */
  void (*cb)(struct flume_watch *watch, enum flume_watch_change change);
  void *data;       /* the caller's */
  uint32_t poll_ms; /* between two looks; 0 when there are events */
  int reason;       /* why there are none: a negative errno; 0 when there are, or when looking was asked for */
  /* private */
  uv_fs_event_t event;
  uv_timer_t timer;
  unsigned open_handles;
  void (*closed)(struct flume_watch *watch);
};

/* Begins. With poll_ms > 0 it looks as often as that, and asks for no events; with 0 it does so where it has to. Set cb
 * and data before. Can't fail. */
void flume_watch_open(struct flume_watch *watch, uv_loop_t *loop, const struct flume_io *io, const char *dir,
                      uint32_t poll_ms);
/* cb is not called again. */
void flume_watch_stop(struct flume_watch *watch);
/* The same; and closed is called when the handles are gone. */
void flume_watch_close(struct flume_watch *watch, void (*closed)(struct flume_watch *watch));

#endif
