/* A slot: what a database mounts under one name. One version of the view answers; a second, pending version may be
 * built to replace it. The slot is the only record of which version answers, which is pending, and which is active
 * on disk. It needs no event loop: once the pending version has caught up, the engine makes it the active version on
 * disk and lets it answer. The owner is told afterwards.
 *
 * The slot also owns waiting reads: a read waits for the version that answers. When a different version takes the
 * place, the read waits for that version.
 *
 *   state        event                                                         next         by
 *
 *   SETTLED      flume_slot_build                                              CATCHING_UP  owner
 *   CATCHING_UP  the pending version has reached the target                    ACTIVATING   engine
 *   CATCHING_UP  the same, of one without a place on disk, or active already   OVERTAKING   engine
 *   CATCHING_UP  it failed                                                     FAILED       engine
 *   ACTIVATING   its commit has made it the active version                     OVERTAKING   engine
 *   ACTIVATING   it started over                                               CATCHING_UP  engine
 *   ACTIVATING   the commit failed                                             FAILED       engine
 *   OVERTAKING   it is not behind the version that answers, and replaces it    SETTLED      engine
 *   OVERTAKING   it failed                                                     FAILED       engine
 *   FAILED       it goes on: the record that it failed on is gone              CATCHING_UP  engine
 *   FAILED       flume_slot_build of a new version                             CATCHING_UP  owner
 *   any          flume_slot_drop: the pending version is discarded             SETTLED      owner
 *
 * A version may be pending and answer at the same time, if it was mounted while no other version could answer.
 *
 * Threads: the owner's, not locked, unless a function says otherwise. */
#ifndef FLUME_VIEW_SLOT_H
#define FLUME_VIEW_SLOT_H

#include "view/view.h"

enum flume_slot_state {
  FLUME_SLOT_SETTLED,
  FLUME_SLOT_CATCHING_UP,
  FLUME_SLOT_ACTIVATING,
  FLUME_SLOT_OVERTAKING,
  FLUME_SLOT_FAILED,
};

/* News of a slot since the last flume_slot_take_news. */
struct flume_slot_news {
  struct flume_view *serving; /* the version that answers */
  struct flume_view *pending; /* NULL for none */
  bool swapped;               /* the pending version answers now */
  int status;                 /* why the pending version failed, with err; 0 */
  struct flume_err err;
};

struct flume_view_slot {
  struct flume_pump *pump;
  enum flume_slot_state state;
  struct flume_view *serving;
  struct flume_view *pending;
  int64_t target;         /* seq that the pending version must reach */
  uint32_t active_number; /* of the active version on disk; FLUME_VIEW_DIR_NONE for none */
  unsigned blocked;       /* reasons why no version may become active: versions that close, scrubs */
  unsigned frozen;        /* the owner is deciding: the engine changes nothing */
  bool has_news;
  bool swapped;
  int status;
  struct flume_err err;
  struct flume_notice notice;
  void (*told)(struct flume_view_slot *slot); /* called on the loop when there is news */
};

void flume_slot_init(struct flume_view_slot *slot, struct flume_pump *pump, void (*told)(struct flume_view_slot *slot));
/* The slot has no version any more. */
void flume_slot_fini(struct flume_view_slot *slot);

/* Makes the view the version that answers: the first version, or a version that has taken over the state of the old
 * one. Reads that wait for the old version wait for the new one. */
void flume_slot_serve(struct flume_view_slot *slot, struct flume_view *view);
/* Makes the view the pending version, which answers once it has caught up. It may answer already. Replaces a
 * different pending version. */
void flume_slot_build(struct flume_view_slot *slot, struct flume_view *view);
/* Discards the pending version; if it is also the version that answers, it still answers. False: no version is
 * pending. */
bool flume_slot_drop(struct flume_view_slot *slot);

uint32_t flume_slot_active(struct flume_view_slot *slot);
void flume_slot_set_active(struct flume_view_slot *slot, uint32_t number);
/* No version becomes the active version between block and unblock. They nest. */
void flume_slot_block(struct flume_view_slot *slot);
void flume_slot_unblock(struct flume_view_slot *slot);
/* The engine changes nothing in the slot between freeze and thaw: for an owner that looks and then decides. They
 * nest. */
void flume_slot_freeze(struct flume_view_slot *slot);
void flume_slot_thaw(struct flume_view_slot *slot);
/* Whether the commit that makes a version the active one is under way. */
bool flume_slot_is_activating(struct flume_view_slot *slot);

/* Takes the news, and clears them. False: there are none. */
bool flume_slot_take_news(struct flume_view_slot *slot, struct flume_slot_news *news);

enum flume_slot_reach {
  FLUME_SLOT_BEHIND,  /* the version that answers has not reached the seq, or has failed */
  FLUME_SLOT_REACHED, /* it has */
  FLUME_SLOT_NEWS,    /* the owner does not know yet which version answers: see flume_slot_take_news */
};

/* The since of the version that answers, and the version in *serving. Only the owner closes it. */
enum flume_slot_reach flume_slot_reach(struct flume_view_slot *slot, int64_t seq, struct flume_view **serving);

/* A read: waits for a seq, then runs a call. Embedded by the caller and kept until call.request is answered, once,
 * on the loop. */
struct flume_view_read {
  struct flume_wait wait;
  struct flume_view_call call;
  struct flume_view_slot *slot;
  struct flume_view *view; /* the version that the read waits for, or that runs the call */
  bool runs;               /* false: the read only waits */
};

/* Waits until the version that answers has reached seq. deadline_ns: by io->hrtime_ns, 0 for none. Returns:
 *   - 0: the version has reached seq. The read doesn't wait.
 *   - 1: the read waits. It is answered with 0; FLUME_ETIMEDOUT; FLUME_ECLOSED; FLUME_EVIEW: the version failed; or the
 *     reason why the log can't follow its writer.
 *   - FLUME_EVIEW: the version has failed. The read doesn't wait. */
int flume_slot_wait(struct flume_view_slot *slot, struct flume_view_read *read, int64_t seq, uint64_t deadline_ns);
/* As flume_slot_wait, but runs read->call after the wait; its answer is the read's. For script views. seq -1: no wait.
 * Never returns 0. */
int flume_slot_read(struct flume_view_slot *slot, struct flume_view_read *read, int64_t seq, uint64_t deadline_ns);

/* For the view engine, locked: a version has moved, failed, started over, or become active. Changes the state if its
 * event has occurred. */
void flume__slot_look(struct flume_view_slot *slot);
/* Locked. The view is closed. */
void flume__slot_closed(struct flume_view_slot *slot, struct flume_view *view);
/* Locked. A commit has made the view the active version on disk, whether or not that is still wanted. */
void flume__slot_activated(struct flume_view_slot *slot, const struct flume_view *view);

#endif
