/* A slot: what a database mounts under one name. One version of the view answers, another may be built to take its
 * place; the slot has the one record of which is which, and of what becomes of it. It needs no event loop: when the
 * pending version has caught up, the engine makes it the active version on disk, and lets it answer. The owner is told.
 *
 * It also owns the waiting: a read waits for the version that answers. When another one takes the place, the reads go
 * with it.
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
 *   OVERTAKING   it is not behind the version that answers: it answers now     SETTLED      engine
 *   OVERTAKING   it failed                                                     FAILED       engine
 *   FAILED       flume_slot_build (of a new version, or of one that revived)   CATCHING_UP  owner
 *   any          flume_slot_drop: the pending version is discarded             SETTLED      owner
 *
 * A version may be pending and answer at the same time: it was mounted while there was no other that could.
 *
 * Owner: flume_slot_* but where "locked" is said. All are called not locked, but where it is said. */
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

/* What has happened since the slot was asked last. */
struct flume_slot_news {
  struct flume_view *serving; /* the version that answers */
  struct flume_view *pending; /* NULL for none */
  bool swapped;               /* the pending version has taken the place, or has become the active one in its place */
  int status;                 /* why the pending version failed, with err; 0 */
  struct flume_err err;
};

struct flume_view_slot {
  struct flume_pump *pump;
  enum flume_slot_state state;
  struct flume_view *serving;
  struct flume_view *pending;
  int64_t target;         /* that the pending version has to reach */
  uint32_t active_number; /* of the active version on disk; FLUME_VIEW_DIR_NONE for none */
  unsigned blocked; /* what keeps a version from becoming the active one: versions that are being closed, scrubs */
  unsigned frozen;  /* the owner is about to decide something */
  bool has_news;
  bool swapped;
  int status;
  struct flume_err err;
  struct flume_notice notice;
  void (*told)(struct flume_view_slot *slot); /* on the loop: there is news */
};

void flume_slot_init(struct flume_view_slot *slot, struct flume_pump *pump, void (*told)(struct flume_view_slot *slot));
/* No version is in it any more. */
void flume_slot_fini(struct flume_view_slot *slot);

/* The version that answers, from now on: the first one, or one that has taken over the state of the other. The reads that
 * wait for the old one go on with it. */
void flume_slot_serve(struct flume_view_slot *slot, struct flume_view *view);
/* The version takes the place as soon as it has caught up. It may be the one that answers. A different one that is pending
 * is replaced. */
void flume_slot_build(struct flume_view_slot *slot, struct flume_view *view);
/* The pending version is discarded. If it is the version that answers, it goes on to answer. False: there is none, or it has
 * taken the place already. */
bool flume_slot_drop(struct flume_view_slot *slot);
/* The version is going to be closed, and is in the slot no more. */
void flume_slot_leave(struct flume_view_slot *slot, struct flume_view *view);

uint32_t flume_slot_active(struct flume_view_slot *slot);
void flume_slot_set_active(struct flume_view_slot *slot, uint32_t number);
/* No version becomes the active one between these two. They nest. */
void flume_slot_block(struct flume_view_slot *slot);
void flume_slot_unblock(struct flume_view_slot *slot);
/* Nothing changes in the slot between these two, but by its functions: for an owner that looks, and then decides. They
 * nest. */
void flume_slot_freeze(struct flume_view_slot *slot);
void flume_slot_thaw(struct flume_view_slot *slot);
/* Whether the commit that makes a version the active one is under way. */
bool flume_slot_is_activating(struct flume_view_slot *slot);

/* What has happened; forgets it. False: nothing. */
bool flume_slot_take_news(struct flume_view_slot *slot, struct flume_slot_news *news);

enum flume_slot_reach {
  FLUME_SLOT_BEHIND,  /* the version that answers has not reached the seq, or has failed */
  FLUME_SLOT_REACHED, /* it has */
  FLUME_SLOT_NEWS,    /* the owner does not know yet which version answers: see flume_slot_take_news */
};

/* How far the version that answers is; which one that is, in *serving. It is closed by the owner alone. */
enum flume_slot_reach flume_slot_reach(struct flume_view_slot *slot, int64_t seq, struct flume_view **serving);

/* A read that waits for a seq, and then runs a call. Embedded by the caller, who keeps it until the call's request is
 * answered; its cb fires on the loop, once. */
struct flume_view_read {
  struct flume_wait wait;
  struct flume_view_call call;
  struct flume_view_slot *slot;
  struct flume_view *view; /* that it waits for, or that runs the call */
  bool runs;               /* false: it only waits */
};

/* 0: the version that answers has reached seq, and has not failed: nothing else was done. 1: the read waits, and will be
 * answered: with 0; FLUME_ETIMEDOUT; FLUME_ECLOSED; FLUME_EVIEW: the version failed; or why the log can't follow its
 * writer. deadline_ns: by io->hrtime_ns, 0 for none. FLUME_EVIEW: the version has failed. */
int flume_slot_wait(struct flume_view_slot *slot, struct flume_view_read *read, int64_t seq, uint64_t deadline_ns);
/* As flume_slot_wait; but then the call runs, and its answer is the read's. Of versions with a state of their own.
 * seq -1 does not wait. 0 is never answered. */
int flume_slot_read(struct flume_view_slot *slot, struct flume_view_read *read, int64_t seq, uint64_t deadline_ns);

/* For the view engine. Locked: the view has moved, failed, started over, or become the active version. */
void flume__slot_look(struct flume_view_slot *slot);
/* Locked. The view is closed. */
void flume__slot_closed(struct flume_view_slot *slot, struct flume_view *view);
/* Locked. A commit has made the view's version the active one on disk, whether it is still wanted or not. */
void flume__slot_activated(struct flume_view_slot *slot, const struct flume_view *view);

#endif
