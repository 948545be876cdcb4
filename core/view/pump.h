/* The pump: moves durable records from a log to the sinks (views) that are attached to it.
 *
 * Each sink consumes the log in order, at its own speed, a block at a time; the pump reads each block once and hands it
 * to all sinks that are about there. Only records up to the log's since are handed on, and only numbers flow back: how
 * far a sink has come. A sink is a vtable; the core does not know what is behind it. Loop thread only. */
#ifndef FLUME_PUMP_H
#define FLUME_PUMP_H

#include "log/log.h"
#include "loop/pool.h"

#define FLUME_PUMP_WINDOW 8 /* blocks kept at hand */

struct flume_sink;

struct flume_sink_ops {
  /* Consume records [from, count) of the loaded block, and then call flume_sink_fed once; never from inside. The block
   * is the sink's own reference until then. */
  void (*feed)(struct flume_sink *sink, struct flume_block *block, uint32_t from);

  /* Records that the sink had consumed were deleted: those of the log's deletions from sink->deletions on whose seq is
   * at most since. Take them back and then call flume_sink_forgot, or start over with flume_sink_restart; later, never
   * from inside. Never called while a feed is on its way, and nothing is fed meanwhile. */
  void (*forget)(struct flume_sink *sink);
};

enum flume_sink_state {
  FLUME_SINK_IDLE,       /* nothing to consume, or waiting for its block */
  FLUME_SINK_FEEDING,    /* a block is with the sink */
  FLUME_SINK_FORGETTING, /* it takes back what was deleted */
  FLUME_SINK_FAILED,     /* consumes nothing more: see failure */
  FLUME_SINK_DETACHED,
};

struct flume_sink {
  const struct flume_sink_ops *ops;
  struct flume_pump *pump;
  enum flume_sink_state state;
  struct flume_obv since; /* the last seq that it has consumed; -1 for none */
  int64_t deletions;      /* how many of the log's deletions, in their order, it knows of */
  bool restarting;        /* it is going to be restarted: nothing counts as reached until then */
  uint64_t feed_ns;       /* when the block that it is at was handed to it */
  uint64_t turn_ns;       /* that it takes over a block, about; 0: not known */
  bool slow;              /* much longer than the others: they don't wait for it */
  int64_t start_seq;      /* where it was when it was attached or restarted; for progress */
  uint64_t start_ns;
  struct flume_err failure; /* when FAILED */
  int64_t failure_seq;      /* the record that it failed on; -1 when none */
  struct flume_queue queue;
  struct flume_queue waits; /* struct flume_wait */
};

/* Waits until a sink has come to a seq. Embedded by the caller, who keeps it until its callback. */
struct flume_wait {
  /* 0; FLUME_ETIMEDOUT; FLUME_ECLOSED; FLUME_EVIEW: the sink failed; or why a log can't follow its writer any more. */
  void (*cb)(struct flume_wait *wait, int status);
  int64_t seq;
  uint64_t deadline_ms; /* by uv_now; 0 for none */
  struct flume_queue queue;
};

struct flume_pump {
  struct flume_log *log;
  struct flume_pool *pool;
  bool ready; /* while false no sink is fed, and no wait ends well */
  bool closing;
  struct flume_queue sinks;
  unsigned sinks_count;
  struct flume_observer on_since;
  struct flume_observer on_deletion;
  struct flume_deferred schedule;
  uv_timer_t timer;                             /* for the earliest deadline */
  unsigned loads;                               /* on their way */
  struct flume_load *window[FLUME_PUMP_WINDOW]; /* the blocks at hand; NULL for none */
  bool held_back;                               /* a sink waits for the others */
  uint64_t blocks_read;                         /* since it was opened */
  void (*closed)(struct flume_pump *pump);
};

/* The log and the pool must outlive the pump. */
int flume_pump_open(struct flume_pump *pump, struct flume_log *log, struct flume_pool *pool);
/* All sinks must be detached. closed fires when no load is on its way and the handles are gone. */
void flume_pump_close(struct flume_pump *pump, void (*closed)(struct flume_pump *pump));
void flume_pump_set_ready(struct flume_pump *pump, bool ready);

/* The sink goes on behind since; deletions is how many of the log's deletions it knows of. */
void flume_sink_attach(struct flume_sink *sink, struct flume_pump *pump, const struct flume_sink_ops *ops,
                       int64_t since, int64_t deletions);
/* Not while FEEDING or FORGETTING. What waits gets FLUME_ECLOSED. */
void flume_sink_detach(struct flume_sink *sink);
/* Not while FEEDING or FORGETTING: the sink has another state now, as of since. Also after a failure. */
void flume_sink_restart(struct flume_sink *sink, int64_t since, int64_t deletions);

/* Whether records that the sink had consumed were deleted, which it does not know of. */
bool flume_sink_is_stale(const struct flume_sink *sink);

/* The sink has consumed what is up to since. */
void flume_sink_fed(struct flume_sink *sink, int64_t since);
/* The sink gives the block back without having consumed anything of it. */
void flume_sink_unfeed(struct flume_sink *sink);
/* The sink has taken back what the first `deletions` deletions have taken away. */
void flume_sink_forgot(struct flume_sink *sink, int64_t deletions);
/* The failure that ends it; seq is the record that it failed on. */
void flume_sink_failed(struct flume_sink *sink, int64_t seq, const struct flume_err *err);

/* True when a read that wants seq need not wait. */
bool flume_sink_has(const struct flume_sink *sink, int64_t seq);
/* A wait without a deadline does not keep the loop alive. cb fires once, later: when the sink has come to seq (and the pump is ready), or can't any more. */
void flume_sink_wait(struct flume_sink *sink, struct flume_wait *wait);

#endif
