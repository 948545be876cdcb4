/* Tells that something in a directory has changed: by the system's file events where there are any, else by a timer, for
 * looking again and again. Loop thread only; keeps the loop alive while it is open. */
#ifndef FLUME_DIR_WATCH_H
#define FLUME_DIR_WATCH_H

#include "base/io.h"

#define FLUME_DIR_WATCH_POLL_MS 250 /* between two looks, where there are no events */

enum flume_dir_change {
  FLUME_DIR_BYTES, /* a file was written to or cut */
  FLUME_DIR_NAMES, /* a file, or the directory itself, was made, renamed or removed */
  FLUME_DIR_ANY,   /* not known: it is time to look */
};

struct flume_dir_watch {
  /* On the loop. Several changes may share one call. A look after the call sees all changes before it; each later change
   * makes another call. */
  void (*cb)(struct flume_dir_watch *watch, enum flume_dir_change change);
  void *data;       /* the caller's */
  uint32_t poll_ms; /* between two looks; 0 when there are events */
  int reason;       /* why there are none: a negative errno; 0 when there are, or when looking was asked for */
  /* private */
  uv_fs_event_t event;
  uv_timer_t timer;
  unsigned open_handles;
  void (*closed)(struct flume_dir_watch *watch);
};

/* Begins. With poll_ms > 0 it looks as often as that, and asks for no events; with 0 it does so where it has to. Set cb
 * and data before. Can't fail. */
void flume_dir_watch_open(struct flume_dir_watch *watch, uv_loop_t *loop, const struct flume_io *io, const char *dir,
                          uint32_t poll_ms);
/* cb is not called again. */
void flume_dir_watch_stop(struct flume_dir_watch *watch);
/* The same; and closed is called when the handles are gone. */
void flume_dir_watch_close(struct flume_dir_watch *watch, void (*closed)(struct flume_dir_watch *watch));

#endif
