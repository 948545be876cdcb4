#include "loop/dir_watch.h"

#include <assert.h>

static void on_event(uv_fs_event_t *event, const char *name, int events, int status) {
  struct flume_dir_watch *watch = event->data;
  (void)name;
  enum flume_dir_change change = events & UV_RENAME ? FLUME_DIR_NAMES : FLUME_DIR_BYTES;
  watch->cb(watch, status == 0 ? change : FLUME_DIR_ANY);
}

static void on_timer(uv_timer_t *timer) {
  struct flume_dir_watch *watch = timer->data;
  watch->cb(watch, FLUME_DIR_ANY);
}

void flume_dir_watch_open(struct flume_dir_watch *watch, uv_loop_t *loop, const struct flume_io *io, const char *dir,
                          uint32_t poll_ms) {
  uv_fs_event_init(loop, &watch->event); /* neither init can fail */
  uv_timer_init(loop, &watch->timer);
  assert(watch->cb != NULL);
  watch->event.data = watch;
  watch->timer.data = watch;
  watch->open_handles = 2;
  watch->reason = 0;
  watch->poll_ms = poll_ms;
  if (poll_ms == 0) {
    watch->reason = io->has_events(io->ctx, dir);
    if (watch->reason == 0) watch->reason = uv_fs_event_start(&watch->event, on_event, dir, 0);
    if (watch->reason == 0) return;
    watch->poll_ms = FLUME_DIR_WATCH_POLL_MS;
  }
  uv_timer_start(&watch->timer, on_timer, watch->poll_ms, watch->poll_ms);
}

void flume_dir_watch_stop(struct flume_dir_watch *watch) {
  uv_fs_event_stop(&watch->event);
  uv_timer_stop(&watch->timer);
}

static void on_close(uv_handle_t *handle) {
  struct flume_dir_watch *watch = handle->data;
  assert(watch->open_handles > 0);
  if (--watch->open_handles == 0) watch->closed(watch);
}

void flume_dir_watch_close(struct flume_dir_watch *watch, void (*closed)(struct flume_dir_watch *watch)) {
  assert(closed != NULL && watch->open_handles == 2);
  watch->closed = closed;
  uv_close((uv_handle_t *)&watch->event, on_close);
  uv_close((uv_handle_t *)&watch->timer, on_close);
}
