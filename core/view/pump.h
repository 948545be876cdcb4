/* The pump: moves durable records from a log to the sinks (views) that are attached to it.
 *
 * Each sink consumes the log in order, at its own speed, a block at a time. The pump reads a block once for all sinks
 * that need it at about the same time. It hands out only records up to the log's since. A sink reports one number: the
 * seq that it has consumed up to. A sink is a vtable.
 *
 * The pump runs on the thread of the event: the thread that publishes records, a worker whose sink has consumed a
 * block, or the clock. It needs no event loop. It wakes the loop of the thread that opened it (the owner) for
 * notices, observers, and the turns of sinks in the owner's Lua state.
 *
 * One lock guards the pump and all its sinks. "Locked" below means: the caller holds it. The lock of the log is taken
 * inside it, never the other way round. No function of a notice runs under it. */
#ifndef FLUME_PUMP_H
#define FLUME_PUMP_H

#include <stdatomic.h>

#include "log/log.h"
#include "loop/pool.h"

#define FLUME_PUMP_WINDOW 8 /* blocks in memory */

struct flume_sink;

/* All are called locked, on any thread. They keep what they are handed and return; they never wait. */
struct flume_sink_ops {
  /* Consume records [from, count) of the loaded block, then call flume_sink_fed once, later, never from inside. The
   * sink owns the reference to the block. */
  void (*feed)(struct flume_sink *sink, struct flume_block *block, uint32_t from);

  /* Records that the sink had consumed were deleted: those of the log's deletions from sink->deletions on whose seq is
   * at most since. Take them back and then call flume_sink_forgot, or start over with flume_sink_restart; later, never
   * from inside. Never called while a feed is on its way, and nothing is fed meanwhile. */
  void (*forget)(struct flume_sink *sink);

  /* The time of flume_sink_wake_at has passed. May be NULL. */
  void (*due)(struct flume_sink *sink);

  /* The record that the sink failed on was deleted: the sink may restart. May be NULL. */
  void (*healed)(struct flume_sink *sink);

  /* The sink may have moved, failed or started over. May be NULL. */
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
  FLUME_SINK_IDLE,       /* nothing to consume, or the next block is not loaded */
  FLUME_SINK_FEEDING,    /* a block is with the sink */
  FLUME_SINK_FORGETTING, /* the sink takes back deleted records */
  FLUME_SINK_FAILED,     /* the sink consumes nothing more: see failure */
  FLUME_SINK_STOPPED,    /* the sink is about to be detached, and is handed nothing */
};

struct flume_sink {
  const struct flume_sink_ops *ops;
  struct flume_pump *pump;
  enum flume_sink_state state;
  struct flume_obv since; /* the last seq consumed; -1: none. Observers are called on the loop */
  int64_t seen_since;     /* the value that the observers saw last; loop thread */
  int64_t deletions;      /* number of the log's deletions that the sink has processed */
  bool restarting;        /* a restart is pending: no seq counts as reached until then */
  bool slow;              /* much slower than the other sinks, which don't wait for it */
  uint64_t feed_ns;       /* when the current block was handed over */
  uint64_t turn_ns;       /* moving average of the time for a block; 0: not known */
  uint64_t due_ns;        /* see flume_sink_wake_at; 0 for never */
  int64_t start_seq;      /* since at attaching or restarting; for progress */
  uint64_t start_ns;
  struct flume_err failure;  /* when FAILED */
  int64_t failure_seq;       /* the record that failed; -1: none */
  int64_t failure_deletions; /* number of the log's deletions that were searched for that record */
  struct flume_queue queue;
  struct flume_queue waits; /* struct flume_wait */
};

/* A message to the owner's loop. Embedded by the caller and kept until run is called. */
struct flume_notice {
  void (*run)(struct flume_notice *notice); /* on the loop, not locked */
  struct flume_queue queue;
};

/* A wait until a sink has reached a seq. Embedded by the caller and kept until its callback. */
struct flume_wait {
  /* On the loop. status: 0; FLUME_ETIMEDOUT; FLUME_ECLOSED; FLUME_EVIEW: the sink failed; or why the log can't
   * follow its writer. */
  void (*cb)(struct flume_wait *wait, int status);
  /* If not NULL, called in place of cb: at once, locked, on any thread. The wait is in no queue then. */
  void (*locked)(struct flume_wait *wait, int status);
  int64_t seq;
  uint64_t deadline_ns; /* by io->hrtime_ns; 0 for none */
  int status;
  struct flume_notice notice;
  struct flume_queue queue;
};

/* The state of a round over all sinks. A round that is requested within a round follows it. */
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
  atomic_bool has_turns;      /* so that the owner can look without the lock */
  bool moved;                 /* the since of a sink has changed: observers must be called */
  bool told;                  /* the loop has been woken for the news */
};

/* Of the owner's thread alone. */
struct flume_pump_owner {
  uv_thread_t thread;
  uv_async_t async;
  struct flume_deferred drain;
  bool referenced;  /* async keeps the loop alive */
  bool taking;      /* within flume_pump_take_turns */
  uint64_t took_ns; /* when flume_pump_take_due_turns took some last */
};

struct flume_pump {
  struct flume_log *log;
  struct flume_pool *pool;
  uv_mutex_t lock;
  bool ready; /* while false, no sink is fed and no wait succeeds */
  bool closing;
  bool held_back; /* a sink waits for a free place in the window */
  enum flume_pump_round round;
  struct flume_queue sinks;
  unsigned sinks_count;
  struct flume_log_listener listener;
  struct flume_alarm alarm; /* the earliest time at which the pump must look at its sinks */
  uint64_t rings_ns;        /* that time by io->hrtime_ns; 0: none */
  unsigned loads;           /* loads under way */
  unsigned busy;            /* reasons to keep the owner's loop alive: loads, work, waits with a deadline */
  struct flume_load *window[FLUME_PUMP_WINDOW]; /* the blocks in memory; NULL for none */
  uint64_t blocks_read;                         /* since the pump was opened */
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
/* Releases the lock, and wakes the owner's loop if there is news. */
void flume_pump_unlock(struct flume_pump *pump);

/* Locked. Queues a notice, which is in no queue, for the loop: its run is called once, later. */
void flume_pump_tell(struct flume_pump *pump, struct flume_notice *notice);
/* Locked. Queues a turn, which is in no queue, for the owner. */
void flume_pump_give_turn(struct flume_pump *pump, struct flume_turn *turn);
/* Owner, not locked. Costs next to nothing when there is none. Runs each turn that is due once: so views that live
 * in the caller's state go on when the caller calls anything. Does nothing within itself. */
void flume_pump_take_turns(struct flume_pump *pump);
/* The same, at most once a millisecond: for frequent calls. */
void flume_pump_take_due_turns(struct flume_pump *pump);
/* Locked. Begin or end work that keeps the owner's loop alive. */
void flume_pump_begin_work(struct flume_pump *pump);
void flume_pump_end_work(struct flume_pump *pump);

/* All of what follows: locked. */

/* Attaches the sink, which has consumed everything up to since and the first `deletions` deletions of the log. */
void flume_sink_attach(struct flume_sink *sink, struct flume_pump *pump, const struct flume_sink_ops *ops,
                       int64_t since, int64_t deletions);
/* Not while FEEDING or FORGETTING. Waits end with FLUME_ECLOSED. The owner then calls flume_sink_fini, not locked. */
void flume_sink_detach(struct flume_sink *sink);
void flume_sink_fini(struct flume_sink *sink);
/* Not while FEEDING or FORGETTING. The sink has replaced its state by one as of since. Ends a failure. */
void flume_sink_restart(struct flume_sink *sink, int64_t since, int64_t deletions);

/* Whether consumed records were deleted without the sink having processed it. */
bool flume_sink_is_stale(const struct flume_sink *sink);

/* The sink has consumed everything up to since. */
void flume_sink_fed(struct flume_sink *sink, int64_t since);
/* The sink gives back a block or deletions unprocessed. The pump doesn't look at the sink within this call. */
void flume_sink_unfeed(struct flume_sink *sink);
/* The sink is about to be detached: the pump hands it nothing more. A failure stays. */
void flume_sink_stop(struct flume_sink *sink);
/* The sink has processed the first `deletions` deletions of the log. */
void flume_sink_forgot(struct flume_sink *sink, int64_t deletions);
/* Fails the sink. seq: the record that failed, or -1. */
void flume_sink_failed(struct flume_sink *sink, int64_t seq, const struct flume_err *err);
/* ops->due is called once, soon after due_ns by io->hrtime_ns; 0: never. */
void flume_sink_wake_at(struct flume_sink *sink, uint64_t due_ns);

/* True when a read that wants seq need not wait. */
bool flume_sink_has(const struct flume_sink *sink, int64_t seq);
/* Begins a wait. It ends once, when the sink has reached seq and the pump is ready, or can't reach it: see cb. A
 * wait without a deadline doesn't keep the loop alive. */
void flume_sink_wait(struct flume_sink *sink, struct flume_wait *wait);
/* Cancels a wait that has not ended. */
void flume_sink_unwait(struct flume_sink *sink, struct flume_wait *wait);

#endif
