/* Watches a directory for changes: by file events of the system, or by a timer where there are none. Loop thread
 * only. An open watch keeps the loop alive. */
#ifndef FLUME_DIR_WATCH_H
#define FLUME_DIR_WATCH_H

#include "base/io.h"

#define FLUME_DIR_WATCH_POLL_MS 250 /* between two calls, where there are no events */

enum flume_dir_change {
  FLUME_DIR_BYTES, /* a file was written to or cut */
  FLUME_DIR_NAMES, /* a file, or the directory itself, was made, renamed or removed */
  FLUME_DIR_ANY,   /* unknown: the timer has run */
};

struct flume_dir_watch {
  /* On the loop. Several changes may share one call. A look after the call sees all changes before it; each later
   * change makes another call. */
  void (*cb)(struct flume_dir_watch *watch, enum flume_dir_change change);
  void *data;       /* the caller's */
  uint32_t poll_ms; /* between two calls; 0: events are used */
  int reason;       /* why there are no events: a negative errno; 0: there are, or poll_ms was given */
  /* private */
  uv_fs_event_t event;
  uv_timer_t timer;
  unsigned open_handles;
  void (*closed)(struct flume_dir_watch *watch);
};

/* Begins to watch; set cb and data before. poll_ms > 0: a timer with this interval; 0: events, or a timer where
 * there are none. Can't fail. */
void flume_dir_watch_open(struct flume_dir_watch *watch, uv_loop_t *loop, const struct flume_io *io, const char *dir,
                          uint32_t poll_ms);
/* cb is not called again. */
void flume_dir_watch_stop(struct flume_dir_watch *watch);
/* The same; closed is called when the handles are gone. */
void flume_dir_watch_close(struct flume_dir_watch *watch, void (*closed)(struct flume_dir_watch *watch));

#endif
