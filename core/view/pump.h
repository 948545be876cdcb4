/* The pump: moves durable records from a log to the sinks (views) that are attached to it.
 *
 * Each sink consumes the log in order, at its own speed, a block at a time; the pump reads each block once and hands it
 * to all sinks that are about there. Only records up to the log's since are handed on, and only numbers flow back: how
 * far a sink has come. A sink is a vtable; the core does not know what is behind it.
 *
 * The pump runs on whatever thread has something to tell it: the log's, when records are acknowledged; a worker, when a
 * sink has consumed its block; the clock. It needs no event loop. The loop of the thread that opened it (the owner) is
 * told of what has happened, and calls back from there: notices, observers, and the turns of sinks that live in the
 * owner's Lua state.
 *
 * One lock guards the pump and all its sinks. "Locked" below means: the caller holds it. The lock of the log is taken
 * inside it, never the other way round. No function of a notice runs under it. */
#ifndef FLUME_PUMP_H
#define FLUME_PUMP_H

#include <stdatomic.h>

#include "log/log.h"
#include "loop/pool.h"

#define FLUME_PUMP_WINDOW 8 /* blocks kept at hand */

struct flume_sink;

/* All of them are called locked, on any thread; they may take, but not wait. */
struct flume_sink_ops {
  /* Consume records [from, count) of the loaded block, and then call flume_sink_fed once; never from inside. The block
   * is the sink's own reference until then. */
  void (*feed)(struct flume_sink *sink, struct flume_block *block, uint32_t from);

  /* Records that the sink had consumed were deleted: those of the log's deletions from sink->deletions on whose seq is
   * at most since. Take them back and then call flume_sink_forgot, or start over with flume_sink_restart; later, never
   * from inside. Never called while a feed is on its way, and nothing is fed meanwhile. */
  void (*forget)(struct flume_sink *sink);

  /* The moment that flume_sink_wake_at named has come. May be NULL. */
  void (*due)(struct flume_sink *sink);

  /* It may have moved, failed or started over. May be NULL. */
  void (*moved)(struct flume_sink *sink);
};

/*  state        event                          next         caused by
 *
 *  DETACHED     flume_sink_attach              IDLE         whoever mounts it
 *  IDLE         its next block is loaded       FEEDING      the pump (ops->feed)
 *  IDLE         records it had were deleted    FORGETTING   the pump (ops->forget)
 *  FEEDING      flume_sink_fed, _unfeed        IDLE         the sink
 *  FORGETTING   flume_sink_forgot, _unfeed     IDLE         the sink
 *  any but DETACHED   flume_sink_failed        FAILED       the sink; the pump, for a block that can't be read
 *  IDLE, FAILED       flume_sink_restart       IDLE         the sink
 *  any but FAILED, DETACHED   flume_sink_stop  STOPPED      the sink
 *  IDLE, FAILED, STOPPED      flume_sink_detach   DETACHED  the sink */
enum flume_sink_state {
  FLUME_SINK_DETACHED,
  FLUME_SINK_IDLE,       /* nothing to consume, or waiting for its block */
  FLUME_SINK_FEEDING,    /* a block is with the sink */
  FLUME_SINK_FORGETTING, /* it takes back what was deleted */
  FLUME_SINK_FAILED,     /* consumes nothing more: see failure */
  FLUME_SINK_STOPPED,    /* is handed nothing any more */
};

struct flume_sink {
  const struct flume_sink_ops *ops;
  struct flume_pump *pump;
  enum flume_sink_state state;
  struct flume_obv since; /* the last seq that it has consumed; -1 for none. Its observers are called from the loop */
  int64_t seen_since;     /* what they were told of last; loop thread */
  int64_t deletions;      /* how many of the log's deletions, in their order, it knows of */
  bool restarting;        /* it is going to be restarted: nothing counts as reached until then */
  bool slow;              /* it takes much longer over a block than the others: they don't wait for it */
  uint64_t feed_ns;       /* when the block that it is at was handed to it */
  uint64_t turn_ns;       /* that it takes over a block, about; 0: not known */
  uint64_t due_ns;        /* see flume_sink_wake_at; 0 for never */
  int64_t start_seq;      /* where it was when it was attached or restarted; for progress */
  uint64_t start_ns;
  struct flume_err failure; /* when FAILED */
  int64_t failure_seq;      /* the record that it failed on; -1 when none */
  struct flume_queue queue;
  struct flume_queue waits; /* struct flume_wait */
};

/* Something that the owner's loop is to be told. Embedded by the caller, who keeps it until run was called. */
struct flume_notice {
  void (*run)(struct flume_notice *notice); /* on the loop, not locked */
  struct flume_queue queue;
};

/* Waits until a sink has come to a seq. Embedded by the caller, who keeps it until its callback. */
struct flume_wait {
  /* On the loop. 0; FLUME_ETIMEDOUT; FLUME_ECLOSED; FLUME_EVIEW: the sink failed; or why a log can't follow its writer
   * any more. */
  void (*cb)(struct flume_wait *wait, int status);
  /* In place of cb, when it is not NULL: at once, locked, on any thread; the wait is in no queue any more. */
  void (*locked)(struct flume_wait *wait, int status);
  int64_t seq;
  uint64_t deadline_ns; /* by io->hrtime_ns; 0 for none */
  int status;
  struct flume_notice notice;
  struct flume_queue queue;
};

/* Looking at all sinks: a round that is asked for within a round follows it. */
enum flume_pump_round { FLUME_PUMP_AT_REST, FLUME_PUMP_SCHEDULING, FLUME_PUMP_AGAIN };

/* A sink's turn on the owner's thread. */
struct flume_turn {
  void (*run)(struct flume_turn *turn); /* on the loop, or from flume_pump_take_turns; not locked */
  struct flume_queue queue;
};

/* What the owner's loop is to be told. */
struct flume_pump_news {
  struct flume_queue notices; /* struct flume_notice */
  struct flume_queue turns;   /* struct flume_turn */
  atomic_bool has_turns;      /* for an owner that asks without the lock */
  bool moved;                 /* a sink's since was set: its observers are to be told */
  bool told;                  /* the loop knows that there is something for it */
};

/* Of the owner's thread alone. */
struct flume_pump_owner {
  uv_thread_t thread;
  uv_async_t async;
  struct flume_deferred drain;
  bool referenced;  /* async keeps the loop alive */
  bool taking;      /* turns are being taken */
  uint64_t took_ns; /* when flume_pump_take_due_turns took some last */
};

struct flume_pump {
  struct flume_log *log;
  struct flume_pool *pool;
  uv_mutex_t lock;
  bool ready; /* while false no sink is fed, and no wait ends well */
  bool closing;
  bool held_back; /* a sink waits for the others to need a block no more */
  enum flume_pump_round round;
  struct flume_queue sinks;
  unsigned sinks_count;
  struct flume_log_listener listener;
  struct flume_alarm alarm;                     /* the earliest moment at which the pump has to look... */
  uint64_t rings_ns;                            /* ... which is this one; 0 for none */
  unsigned loads;                               /* on their way */
  unsigned busy;                                /* what keeps the owner's loop alive: loads, work, waits in time */
  struct flume_load *window[FLUME_PUMP_WINDOW]; /* the blocks at hand; NULL for none */
  uint64_t blocks_read;                         /* since it was opened */
  struct flume_pump_news news;
  struct flume_pump_owner owner;
  void (*closed)(struct flume_pump *pump); /* not NULL while it closes; owner */
};

/* The log and the pool must outlive the pump. The calling thread becomes the owner. 0, or libuv's error. */
int flume_pump_open(struct flume_pump *pump, struct flume_log *log, struct flume_pool *pool);
/* Owner. All sinks must be detached. closed fires when no load is on its way and the handles are gone. */
void flume_pump_close(struct flume_pump *pump, void (*closed)(struct flume_pump *pump));
/* Any thread. */
void flume_pump_set_ready(struct flume_pump *pump, bool ready);

void flume_pump_lock(struct flume_pump *pump);
/* Lets go of the lock; then wakes the owner's loop, if there is something for it. */
void flume_pump_unlock(struct flume_pump *pump);

/* Locked. Hands the loop a notice that is in no queue; its run is called once, later. */
void flume_pump_tell(struct flume_pump *pump, struct flume_notice *notice);
/* Locked. Hands the owner a turn that is in no queue. */
void flume_pump_give_turn(struct flume_pump *pump, struct flume_turn *turn);
/* Owner, not locked. Costs next to nothing when there is none. Runs each turn that is due once: so views that live in the caller's state go on when the caller
 * calls anything. Does nothing within itself. */
void flume_pump_take_turns(struct flume_pump *pump);
/* The same, at most once a millisecond: for a caller who calls often. */
void flume_pump_take_due_turns(struct flume_pump *pump);
/* Locked. Something begins, or ends, that the owner's loop stays alive for. */
void flume_pump_begin_work(struct flume_pump *pump);
void flume_pump_end_work(struct flume_pump *pump);

/* All of what follows: locked. */

/* The sink goes on behind since; deletions is how many of the log's deletions it knows of. */
void flume_sink_attach(struct flume_sink *sink, struct flume_pump *pump, const struct flume_sink_ops *ops,
                       int64_t since, int64_t deletions);
/* Not while FEEDING or FORGETTING. What waits gets FLUME_ECLOSED. The owner then calls flume_sink_fini, not locked. */
void flume_sink_detach(struct flume_sink *sink);
void flume_sink_fini(struct flume_sink *sink);
/* Not while FEEDING or FORGETTING: the sink has another state now, as of since. Also after a failure. */
void flume_sink_restart(struct flume_sink *sink, int64_t since, int64_t deletions);

/* Whether records that the sink had consumed were deleted, which it does not know of. */
bool flume_sink_is_stale(const struct flume_sink *sink);

/* The sink has consumed what is up to since. */
void flume_sink_fed(struct flume_sink *sink, int64_t since);
/* The sink gives back what it was handed, a block or deletions, without having done anything with it. It is not looked at
 * again within this call. */
void flume_sink_unfeed(struct flume_sink *sink);
/* The sink is going to be detached: it is handed nothing any more, and gives back what it has. A failure stays. */
void flume_sink_stop(struct flume_sink *sink);
/* The sink has taken back what the first `deletions` deletions have taken away. */
void flume_sink_forgot(struct flume_sink *sink, int64_t deletions);
/* The failure that ends it; seq is the record that it failed on. */
void flume_sink_failed(struct flume_sink *sink, int64_t seq, const struct flume_err *err);
/* ops->due is called once, soon after that moment by io->hrtime_ns; 0: it isn't. */
void flume_sink_wake_at(struct flume_sink *sink, uint64_t due_ns);

/* True when a read that wants seq need not wait. */
bool flume_sink_has(const struct flume_sink *sink, int64_t seq);
/* A wait without a deadline does not keep the loop alive. cb fires once, later: when the sink has come to seq (and the
 * pump is ready), or can't any more. */
void flume_sink_wait(struct flume_sink *sink, struct flume_wait *wait);
/* Takes back a wait that has not ended. */
void flume_sink_unwait(struct flume_sink *sink, struct flume_wait *wait);

#endif
