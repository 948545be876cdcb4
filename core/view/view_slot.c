/* See the table in view_slot.h. */
#include "view/view_slot.h"

#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "view/view_dir.h"

/* --- States ---------------------------------------------------------------------------------------------------- */

#define TO(state) (1u << FLUME_SLOT_##state)

static const unsigned transitions[] = {
    [FLUME_SLOT_SETTLED] = TO(CATCHING_UP) | TO(SETTLED),
    [FLUME_SLOT_CATCHING_UP] = TO(CATCHING_UP) | TO(ACTIVATING) | TO(OVERTAKING) | TO(FAILED) | TO(SETTLED),
    [FLUME_SLOT_ACTIVATING] = TO(CATCHING_UP) | TO(OVERTAKING) | TO(FAILED) | TO(SETTLED),
    [FLUME_SLOT_OVERTAKING] = TO(CATCHING_UP) | TO(FAILED) | TO(SETTLED),
    [FLUME_SLOT_FAILED] = TO(CATCHING_UP) | TO(SETTLED),
};

static void set_state(struct flume_view_slot *slot, enum flume_slot_state state) {
  assert((transitions[slot->state] & 1u << state) != 0);
  assert(state == FLUME_SLOT_SETTLED || slot->pending != NULL);
  slot->state = state;
}

/* --- News ------------------------------------------------------------------------------------------------------ */

static void run_told(struct flume_notice *notice) {
  struct flume_view_slot *slot = FLUME_CONTAINER_OF(notice, struct flume_view_slot, notice);
  slot->told(slot);
}

static void tell(struct flume_view_slot *slot) {
  slot->has_news = true;
  if (!flume_queue_empty(&slot->notice.queue)) return;
  flume_pump_tell(slot->pump, &slot->notice);
}

static void fail(struct flume_view_slot *slot, int status, const struct flume_err *err) {
  assert(status < 0);
  set_state(slot, FLUME_SLOT_FAILED);
  slot->status = status;
  slot->err = *err;
  tell(slot);
}

bool flume_slot_take_news(struct flume_view_slot *slot, struct flume_slot_news *news) {
  flume_pump_lock(slot->pump);
  bool has_news = slot->has_news;
  *news = (struct flume_slot_news){slot->serving, slot->pending, slot->swapped, slot->status, slot->err};
  slot->has_news = slot->swapped = false;
  slot->status = 0;
  flume_pump_unlock(slot->pump);
  return has_news;
}

/* --- Reads ----------------------------------------------------------------------------------------------------- */

static void answer_read(struct flume_view_read *read, int status) {
  struct flume_view_request *request = &read->call.request;
  flume_err_set(&request->err, status, "%s", flume_strerror(status));
  flume__view_answer(read->view, &request, status, &request->err);
}

static void register_read(struct flume_view_read *read, struct flume_view *view) {
  read->view = view;
  flume_sink_wait(&view->sink, &read->wait);
}

/* Locked. A read whose version was closed waits for the version that answers now. */
static void on_wait(struct flume_wait *wait, int status) {
  struct flume_view_read *read = FLUME_CONTAINER_OF(wait, struct flume_view_read, wait);
  struct flume_view *serving = read->slot->serving;
  if (status == FLUME_ECLOSED && serving != NULL && serving != read->view) {
    register_read(read, serving);
  } else if (status == 0 && read->runs) {
    flume__view_submit(read->view, &read->call);
  } else {
    answer_read(read, status);
  }
}

/* Moves the reads that wait for one version to another. */
static void move_reads(struct flume_view *from, struct flume_view *to) {
  struct flume_queue *node, *next;
  if (from == NULL || from == to) return;
  for (node = from->sink.waits.next; node != &from->sink.waits; node = next) {
    next = node->next;
    struct flume_wait *wait = FLUME_CONTAINER_OF(node, struct flume_wait, queue);
    if (wait->locked != on_wait) continue;
    flume_sink_unwait(&from->sink, wait);
    register_read(FLUME_CONTAINER_OF(wait, struct flume_view_read, wait), to);
  }
}

static int begin_read(struct flume_view_slot *slot, struct flume_view_read *read, int64_t seq, uint64_t deadline_ns) {
  struct flume_sink *sink = &slot->serving->sink;
  read->slot = slot;
  read->view = slot->serving;
  read->wait.locked = on_wait;
  read->wait.seq = seq;
  read->wait.deadline_ns = deadline_ns;
  flume_queue_init(&read->call.queue);
  if (sink->state == FLUME_SINK_FAILED && !sink->restarting) return FLUME_EVIEW;
  return flume_sink_has(sink, seq) ? 0 : 1;
}

enum flume_slot_reach flume_slot_reach(struct flume_view_slot *slot, int64_t seq, struct flume_view **serving) {
  flume_pump_lock(slot->pump);
  enum flume_slot_reach reach = FLUME_SLOT_NEWS;
  if (!slot->has_news) reach = flume_sink_has(&slot->serving->sink, seq) ? FLUME_SLOT_REACHED : FLUME_SLOT_BEHIND;
  *serving = slot->serving;
  flume_pump_unlock(slot->pump);
  return reach;
}

int flume_slot_wait(struct flume_view_slot *slot, struct flume_view_read *read, int64_t seq, uint64_t deadline_ns) {
  flume_pump_lock(slot->pump);
  read->runs = false;
  int rv = begin_read(slot, read, seq, deadline_ns);
  if (rv == 1) register_read(read, slot->serving);
  flume_pump_unlock(slot->pump);
  return rv;
}

int flume_slot_read(struct flume_view_slot *slot, struct flume_view_read *read, int64_t seq, uint64_t deadline_ns) {
  flume_pump_lock(slot->pump);
  read->runs = true;
  int rv = begin_read(slot, read, seq, deadline_ns);
  if (rv == 0 || (rv == 1 && seq < 0)) flume__view_submit(slot->serving, &read->call);
  else if (rv == 1) register_read(read, slot->serving);
  flume_pump_unlock(slot->pump);
  return rv < 0 ? rv : 1;
}

/* --- Taking the place ------------------------------------------------------------------------------------------ */

static bool has_failed(const struct flume_view *view) {
  return view->sink.state == FLUME_SINK_FAILED && !view->sink.restarting;
}

/* The first commit of the old version must not make it active after a newer version has become active. While such a
 * commit is under way, the newer version waits. */
static bool takes_precedence(struct flume_view_slot *slot) {
  struct flume_view *old = slot->serving;
  if (old == NULL || old == slot->pending) return true;
  if (flume__view_is_working(old)) return old->work.activation != FLUME_VIEW_FIRST;
  if (old->checkpoint.activation != FLUME_VIEW_FIRST) return true;
  old->checkpoint.activation = FLUME_VIEW_OFF;
  old->place.begins_active = false;
  if (slot->active_number == old->place.number) slot->active_number = FLUME_VIEW_DIR_NONE;
  return true;
}

/* A commit that is under way may still make the version active: flume__slot_activated is called then. */
static void drop(struct flume_view_slot *slot) {
  if (slot->state == FLUME_SLOT_ACTIVATING) flume__view_unwant_active(slot->pending);
  slot->pending = NULL;
  slot->status = 0;
  set_state(slot, FLUME_SLOT_SETTLED);
}

static void catch_up(struct flume_view_slot *slot) {
  set_state(slot, FLUME_SLOT_CATCHING_UP);
  slot->target = slot->pump->log->since.value;
}

static void swap(struct flume_view_slot *slot) {
  struct flume_view *old = slot->serving;
  slot->serving = slot->pending;
  slot->pending = NULL;
  set_state(slot, FLUME_SLOT_SETTLED);
  slot->swapped = true;
  move_reads(old, slot->serving);
  tell(slot);
}

/* One function for each state: it changes the state if its event has occurred. True: look again. */

static bool look_catching_up(struct flume_view_slot *slot) {
  struct flume_view *view = slot->pending;
  if (has_failed(view)) {
    fail(slot, view->sink.failure.code, &view->sink.failure);
    return false;
  }
  if (!flume_sink_has(&view->sink, slot->target)) return false;
  uint32_t number = view->place.number;
  if (view->place.dir == NULL || view->place.reads_only || number == slot->active_number) {
    set_state(slot, FLUME_SLOT_OVERTAKING);
    return true;
  }
  if (slot->blocked > 0 || !takes_precedence(slot)) return false;
  set_state(slot, FLUME_SLOT_ACTIVATING);
  flume__view_want_active(view);
  return true;
}

static bool look_activating(struct flume_view_slot *slot) {
  struct flume_view *view = slot->pending;
  struct flume_err err = {0};
  if (flume__view_is_working(view) || (view->wants & FLUME_WANT_ACTIVE) != 0) return false;
  int status = flume__view_activation_status(view, &err);
  if (status == 0) {
    assert(slot->active_number == view->place.number);
    set_state(slot, FLUME_SLOT_OVERTAKING);
    return true;
  }
  if (status < 0) {
    view->checkpoint.activation = FLUME_VIEW_OFF;
    fail(slot, status, &err);
    return false;
  }
  if (view->checkpoint.activation == FLUME_VIEW_ASKED) return false;
  catch_up(slot); /* the version has started over */
  tell(slot);
  return false;
}

static bool look_overtaking(struct flume_view_slot *slot) {
  struct flume_view *view = slot->pending, *old = slot->serving;
  bool is_ahead = old == NULL || old == view || has_failed(old) || view->sink.since.value >= old->sink.since.value;
  if (has_failed(view)) fail(slot, view->sink.failure.code, &view->sink.failure);
  else if (is_ahead) swap(slot);
  return false;
}

/* The record that the pending version failed on was deleted, or is skipped. */
static bool look_failed(struct flume_view_slot *slot) {
  if (has_failed(slot->pending)) return false;
  catch_up(slot);
  return true;
}

void flume__slot_look(struct flume_view_slot *slot) {
  bool again = slot->frozen == 0;
  while (again) {
    switch (slot->state) {
      case FLUME_SLOT_CATCHING_UP: again = look_catching_up(slot); break;
      case FLUME_SLOT_ACTIVATING: again = look_activating(slot); break;
      case FLUME_SLOT_OVERTAKING: again = look_overtaking(slot); break;
      case FLUME_SLOT_FAILED: again = look_failed(slot); break;
      case FLUME_SLOT_SETTLED: again = false; break;
    }
  }
}

/* --- By the owner ---------------------------------------------------------------------------------------------- */

void flume_slot_init(struct flume_view_slot *slot, struct flume_pump *pump,
                     void (*told)(struct flume_view_slot *slot)) {
  memset(slot, 0, sizeof *slot);
  slot->pump = pump;
  slot->told = told;
  slot->notice.run = run_told;
  slot->active_number = FLUME_VIEW_DIR_NONE;
  flume_queue_init(&slot->notice.queue);
}

void flume_slot_fini(struct flume_view_slot *slot) {
  assert(slot->serving == NULL && slot->pending == NULL);
  assert(flume_queue_empty(&slot->notice.queue));
}

void flume_slot_serve(struct flume_view_slot *slot, struct flume_view *view) {
  flume_pump_lock(slot->pump);
  struct flume_view *old = slot->serving;
  view->slot = slot;
  slot->serving = view;
  if (slot->pending == old && old != NULL && old != view) drop(slot);
  move_reads(old, view);
  flume__slot_look(slot);
  flume_pump_unlock(slot->pump);
}

void flume_slot_build(struct flume_view_slot *slot, struct flume_view *view) {
  flume_pump_lock(slot->pump);
  view->slot = slot;
  if (slot->pending != NULL && slot->pending != view) drop(slot);
  slot->pending = view;
  if (slot->state != FLUME_SLOT_ACTIVATING) catch_up(slot);
  flume__slot_look(slot);
  flume_pump_unlock(slot->pump);
}

bool flume_slot_drop(struct flume_view_slot *slot) {
  flume_pump_lock(slot->pump);
  bool has_pending = slot->pending != NULL;
  if (has_pending) drop(slot);
  flume_pump_unlock(slot->pump);
  return has_pending;
}

void flume__slot_closed(struct flume_view_slot *slot, struct flume_view *view) {
  if (slot->pending == view) drop(slot);
  if (slot->serving == view) slot->serving = NULL;
  view->slot = NULL;
}

void flume__slot_activated(struct flume_view_slot *slot, const struct flume_view *view) {
  assert(view->checkpoint.activation == FLUME_VIEW_ACTIVE);
  slot->active_number = view->place.number;
  tell(slot);
}

uint32_t flume_slot_active(struct flume_view_slot *slot) {
  flume_pump_lock(slot->pump);
  uint32_t number = slot->active_number;
  flume_pump_unlock(slot->pump);
  return number;
}

void flume_slot_set_active(struct flume_view_slot *slot, uint32_t number) {
  flume_pump_lock(slot->pump);
  slot->active_number = number;
  flume_pump_unlock(slot->pump);
}

void flume_slot_block(struct flume_view_slot *slot) {
  flume_pump_lock(slot->pump);
  slot->blocked++;
  flume_pump_unlock(slot->pump);
}

void flume_slot_unblock(struct flume_view_slot *slot) {
  flume_pump_lock(slot->pump);
  assert(slot->blocked > 0);
  slot->blocked--;
  flume__slot_look(slot);
  flume_pump_unlock(slot->pump);
}

void flume_slot_freeze(struct flume_view_slot *slot) {
  flume_pump_lock(slot->pump);
  slot->frozen++;
  flume_pump_unlock(slot->pump);
}

void flume_slot_thaw(struct flume_view_slot *slot) {
  flume_pump_lock(slot->pump);
  assert(slot->frozen > 0);
  slot->frozen--;
  flume__slot_look(slot);
  flume_pump_unlock(slot->pump);
}

bool flume_slot_is_activating(struct flume_view_slot *slot) {
  flume_pump_lock(slot->pump);
  bool is = slot->state == FLUME_SLOT_ACTIVATING;
  flume_pump_unlock(slot->pump);
  return is;
}
