/* What the simulation's views fold, and what they should have: to be included after sim_process.h, once a program.
 *
 * A record is a number (8 bytes) and some padding; its group is the number modulo GROUPS. Of each group a view has
 * the count and sum of its records, and a bit for each: so it can be told from the state alone whether a record is
 * in it that should not be, is not in it that should be, or was folded twice. Three ways of keeping that:
 *
 *   SIM_STATE    one value
 *   SIM_GROUPS   a value for each group
 *   SIM_INDEX    an entry for each record */
#ifndef FLUME_TEST_SIM_VIEWS_H
#define FLUME_TEST_SIM_VIEWS_H

#include "view/view.h"
#include "view/view_dir.h"

#include "sim_process.h"

#define GROUPS 5
#define SEQS_MAX 512
#define DELETIONS_MAX 512

/* What the log should have: what was appended, as far as it is not known to have failed. */
static struct model {
  uint64_t values[SEQS_MAX];
  int64_t count;                    /* handed to the log */
  int64_t kept;                     /* a crash of any kind leaves as many */
  int64_t acked;                    /* a crash of the process alone leaves as many */
  int64_t deletions[DELETIONS_MAX]; /* in their order, as far as they were seen */
  int64_t deletions_count;
  bool offered_deletion[SEQS_MAX];
  bool acked_deletion[SEQS_MAX];
} model;

struct sim_fold {
  int64_t count;
  uint64_t sum;
  uint8_t bits[SEQS_MAX / 8];
};

enum sim_kind { SIM_STATE, SIM_GROUPS, SIM_INDEX, SIM_KINDS };

/* How a view answers a deletion that it can't take back. */
enum sim_starting_over { SIM_ENGINE_STARTS_OVER, SIM_OWNER_DECLINES, SIM_OWNER_REBUILDS };

#define SIM_NAME_MAX (TEST_PATH_MAX + 16)

/* A view of the database, in all its versions. */
struct sim_slot {
  char dir[SIM_NAME_MAX]; /* real; "" for a view that lives in memory */
  enum sim_kind kind;
  bool is_inline;
  bool retracts;
  enum sim_starting_over starting_over;
  struct sim_view *current;   /* of the writer; NULL: not mounted */
  struct sim_view *pending;   /* a newer version that is built beside it */
  struct sim_view *reader;    /* of the reader */
  int version, acked_version; /* asked for; known to be the active one on disk */
  uint32_t numbers;           /* given to versions so far */
  bool passed[SEQS_MAX];      /* records that a version may have passed over */
  bool is_active;             /* a version was made the active one on disk */
  bool is_changing;           /* which version that is: an activation or a scrub is under way; one at a time */
};

/* One version of a view, mounted. */
struct sim_view {
  struct flume_view view;
  struct sim_view *next; /* of all of this machine since it was started */
  struct sim_process *process;
  struct sim_slot *slot;
  struct flume_view_ops ops;
  struct sim_fold folds[GROUPS];
  unsigned unsaved;      /* groups, as bits */
  bool passed[SEQS_MAX]; /* records that it may have passed over, since it was to skip them */
  bool fails_at_some;    /* records */
  bool can_fail;         /* it was told to, or the machine has had a fault */
  bool entered;          /* someone is at work */
  bool writing;
  bool reading;      /* the owner reads the store */
  int retracts_left; /* > 0: when so many records have been taken back, no more can be */
  bool is_stopped;   /* its sink was seen to be */
  bool is_closing, is_closed, is_quieting;
  int restarts; /* asked for, or made */
  int number;   /* of all, since the machine was started */
  int64_t last_since;
  int last_restarts;
  unsigned commits; /* made */
  unsigned commits_checked;
};

static bool sim_bit(const struct sim_fold *fold, int64_t seq) {
  return (fold->bits[seq / 8] >> (seq % 8) & 1) != 0;
}

static void sim_fold_add(struct sim_fold *folds, int64_t seq, uint64_t value) {
  struct sim_fold *fold = &folds[value % GROUPS];
  MUST(seq < SEQS_MAX && !sim_bit(fold, seq));
  fold->bits[seq / 8] |= (uint8_t)(1u << seq % 8);
  fold->count++;
  fold->sum += value;
}

static void sim_fold_remove(struct sim_fold *folds, int64_t seq, uint64_t value) {
  struct sim_fold *fold = &folds[value % GROUPS];
  fold->bits[seq / 8] &= (uint8_t) ~(1u << seq % 8);
  fold->count--;
  fold->sum -= value;
}

/* Learns which records are deleted. A reader may see what is on disk before the writer has published it. */
static void sim_learn_deletions(struct flume_log *log) {
  while (model.deletions_count < log->deletions.value && !test_failed) {
    int64_t seq = flume__log_deletion_at(log, model.deletions_count);
    CHECK(seq >= 0 && seq < model.count && model.offered_deletion[seq]);
    model.deletions[model.deletions_count++] = seq;
  }
}

static bool sim_is_deleted(int64_t seq, int64_t deletions) {
  for (int64_t i = 0; i < deletions; i++) {
    if (model.deletions[i] == seq) return true;
  }
  return false;
}

/* Whether the folds are what the records up to since make, without the first deletions. */
static bool sim_folds_are(const struct sim_fold *folds, int64_t since, int64_t deletions, const bool *passed) {
  struct sim_fold sums[GROUPS] = {{0}};
  bool good = CHECK(deletions <= model.deletions_count) && CHECK(since < model.count);
  if (!good) return false;
  static bool deleted[SEQS_MAX];
  memset(deleted, 0, sizeof deleted);
  for (int64_t i = 0; i < deletions; i++) deleted[model.deletions[i]] = true;
  for (int64_t seq = 0; seq <= since && good; seq++) {
    uint64_t value = model.values[seq];
    bool has = sim_bit(&folds[value % GROUPS], seq);
    bool should = !deleted[seq] && !(passed[seq] && !has);
    good = has == should;
    if (!good)
      printf("record %lld of %lld: %s\n", (long long)seq, (long long)since, has ? "deleted, but there" : "missing");
    if (has) sim_fold_add(sums, seq, value);
  }
  for (int i = 0; i < GROUPS && good; i++) good = memcmp(&sums[i], &folds[i], sizeof sums[i]) == 0;
  return CHECK(good);
}

/* --- The store -------------------------------------------------------------------------------------------------- */

static void sim_key(uint8_t key[2], unsigned group) {
  key[0] = 'g';
  key[1] = (uint8_t)('0' + group);
}

static int sim_save_state(struct sim_view *of, struct flume_err *err) {
  return flume_store_put_state(of->view.store, of->folds, sizeof of->folds, err);
}

static int sim_save_groups(struct sim_view *of, struct flume_err *err) {
  int rv = 0;
  for (unsigned i = 0; i < GROUPS && rv == 0; i++) {
    uint8_t key[2];
    if ((of->unsaved & 1u << i) == 0) continue;
    sim_key(key, i);
    if (of->folds[i].count > 0)
      rv = flume_store_put_group(of->view.store, key, 2, &of->folds[i], sizeof of->folds[i], err);
    else rv = flume_store_del_group(of->view.store, key, 2, err);
  }
  if (rv == 0) of->unsaved = 0;
  return rv;
}

static int sim_load_state(struct flume_store *store, const struct flume_io *io, struct sim_fold *folds,
                          struct flume_err *err) {
  struct flume_buf bytes;
  flume_buf_init(&bytes, io);
  int rv = flume_store_get_state(store, &bytes, err);
  if (rv == 0) {
    MUST(bytes.len == GROUPS * sizeof *folds);
    memcpy(folds, bytes.data, bytes.len);
  }
  flume_buf_fini(&bytes);
  return rv == FLUME_ENOENT ? 0 : rv;
}

static int sim_load_entries(struct flume_store *store, enum sim_kind kind, struct sim_fold *folds,
                            struct flume_err *err) {
  struct flume_store_range range;
  struct flume_store_cursor *cursor;
  struct flume_store_entry entry;
  flume_store_range_init(&range);
  enum flume_store_kind rows = kind == SIM_GROUPS ? FLUME_STORE_GROUPS : FLUME_STORE_INDEX;
  int rv = flume_store_cursor_open(&cursor, store, rows, &range, err);
  if (rv != 0) return rv;
  while ((rv = flume_store_cursor_next(cursor, &entry, err)) == 1) {
    unsigned group = entry.key[1] - (unsigned)'0';
    uint64_t value;
    MUST(entry.key_len == 2 && group < GROUPS);
    if (kind == SIM_GROUPS) {
      MUST(entry.value_len == sizeof *folds);
      memcpy(&folds[group], entry.value, sizeof *folds);
    } else {
      MUST(entry.value_len == sizeof value);
      memcpy(&value, entry.value, sizeof value);
      MUST(value % GROUPS == group && entry.ordinal == 0);
      sim_fold_add(folds, entry.seq, value);
    }
  }
  flume_store_cursor_close(cursor);
  return rv;
}

static int sim_load(struct flume_store *store, const struct flume_io *io, enum sim_kind kind, struct sim_fold *folds,
                    struct flume_err *err) {
  memset(folds, 0, GROUPS * sizeof *folds);
  return kind == SIM_STATE ? sim_load_state(store, io, folds, err) : sim_load_entries(store, kind, folds, err);
}

/* The reader may go on with what a version of the writer has folded. */
static const bool *sim_passed(const struct sim_view *of) {
  return of->process == &machine.processes[0] ? of->passed : of->slot->passed;
}

/* --- The vtable ------------------------------------------------------------------------------------------------- */

static void trace(const char *what, int64_t a, int64_t b); /* the test's */

static struct sim_view *sim_view_of(struct flume_view *view) {
  return FLUME_CONTAINER_OF(view, struct sim_view, view);
}

static void sim_view_enter(struct flume_view *view) {
  struct sim_view *of = sim_view_of(view);
  MUST(!of->entered && !of->reading);
  of->entered = true;
  sim_pause();
}

static void sim_view_leave(struct flume_view *view) {
  struct sim_view *of = sim_view_of(view);
  sim_pause();
  MUST(of->entered && !of->writing);
  of->entered = false;
}

/* The view is at work, and nobody but this thread. An inline view is worked on by its owner. */
static struct sim_view *sim_view_at_work(struct flume_view *view) {
  struct sim_view *of = sim_view_of(view);
  trace(flume_view_state_name(view->state), of->number, view->meta.since);
  CHECK(of->entered && !of->writing && view->state != FLUME_VIEW_IDLE);
  sim_learn_deletions(view->sink.pump->log);
  if (view->executor.is_inline) CHECK(machine.thread == (uv_thread_t)(of->process - machine.processes + 1));
  sim_pause();
  return of;
}

static bool sim_skips(const struct flume_view *view, int64_t seq) {
  for (size_t i = 0; i < view->skips.count; i++) {
    if (view->skips.seqs[i] == seq) return true;
  }
  return false;
}

static int sim_fold_record(struct sim_view *of, int64_t seq, const uint8_t *data, struct flume_err *err) {
  uint64_t value;
  uint8_t key[2];
  memcpy(&value, data, sizeof value);
  CHECK(seq < model.count && model.values[seq] == value);
  if (of->fails_at_some && value % 16 == 3) return flume_err_set(err, FLUME_EVIEW, "record %lld fails", (long long)seq);
  sim_fold_add(of->folds, seq, value);
  of->unsaved |= 1u << value % GROUPS;
  if (of->slot->kind != SIM_INDEX) return 0;
  sim_key(key, (unsigned)(value % GROUPS));
  return flume_store_add_entry(of->view.store, key, 2, seq, &value, sizeof value, err);
}

static int sim_view_fold(struct flume_view *view, struct flume_view_span *span, struct flume_err *err) {
  struct sim_view *of = sim_view_at_work(view);
  CHECK(view->sink.state == FLUME_SINK_FEEDING && !of->is_closed);
  unsigned slice = 1 + sim_below(40);
  do {
    uint32_t len;
    int64_t seq = flume_block_seq(span->block, span->next);
    const uint8_t *data = flume_block_get(span->block, span->next, &len);
    CHECK(seq > view->meta.since && seq <= view->sink.pump->log->since.value);
    if (data == NULL && !CHECK(sim_is_deleted(seq, view->meta.deletions))) {
      printf("record %lld is not among the first %lld deletions of %lld\n", (long long)seq,
             (long long)view->meta.deletions, (long long)model.deletions_count);
    }
    of->passed[seq] = data != NULL && sim_skips(view, seq);
    if (of->passed[seq] && of->slot->reader != of) of->slot->passed[seq] = true;
    int rv = data == NULL || of->passed[seq] ? 0 : sim_fold_record(of, seq, data, err);
    if (rv != 0) return rv;
    machine.now_ns += sim_below(200000);
  } while (++span->next < span->block->count && --slice > 0);
  return 0;
}

static int sim_view_retract(struct flume_view *view, struct flume_block *block, struct flume_err *err) {
  struct sim_view *of = sim_view_at_work(view);
  uint32_t len;
  uint64_t value;
  uint8_t key[2];
  int64_t seq = block->first_seq;
  CHECK(of->slot->retracts && block->count == 1 && seq <= view->meta.since && view->state == FLUME_VIEW_RETRACTING);
  memcpy(&value, flume_block_get(block, 0, &len), sizeof value);
  CHECK(model.values[seq] == value);
  if (sim_one_in(40) || (of->retracts_left > 0 && --of->retracts_left == 0)) return 1;
  if (!sim_bit(&of->folds[value % GROUPS], seq)) {
    CHECK(of->passed[seq] || of->slot->passed[seq]);
    return 0;
  }
  sim_fold_remove(of->folds, seq, value);
  of->unsaved |= 1u << value % GROUPS;
  if (of->slot->kind != SIM_INDEX) return 0;
  sim_key(key, (unsigned)(value % GROUPS));
  return flume_store_remove_entries(view->store, key, 2, seq, err);
}

static bool sim_view_can_retract(struct flume_view *view) {
  return sim_view_at_work(view)->slot->retracts;
}

static int sim_view_save(struct flume_view *view, struct flume_err *err) {
  struct sim_view *of = sim_view_at_work(view);
  if (of->slot->kind == SIM_INDEX) return 0;
  return of->slot->kind == SIM_STATE ? sim_save_state(of, err) : sim_save_groups(of, err);
}

/* Also called before the view is attached, and then not at work. */
static int sim_view_restore(struct flume_view *view, struct flume_err *err) {
  struct sim_view *of = sim_view_of(view);
  trace("restore", of->number, view->meta.since);
  of->restarts++;
  of->unsaved = 0;
  return sim_load(view->store, &of->process->io, of->slot->kind, of->folds, err);
}

static bool sim_view_begin_write(struct flume_view *view) {
  struct sim_view *of = sim_view_of(view);
  const struct flume_log *log = view->sink.pump->log;
  CHECK(of->entered && !of->writing && !view->place.reads_only && view->place.dir != NULL);
  if (view->state != FLUME_VIEW_SCRUBBING) CHECK(view->meta.since <= log->durable_seq);
  if (sim_one_in(6)) return false;
  of->writing = true;
  machine.uninterrupted++;
  return true;
}

static void sim_view_end_write(struct flume_view *view) {
  struct sim_view *of = sim_view_of(view);
  MUST(of->writing);
  of->writing = false;
  machine.uninterrupted--;
  of->commits++;
}

static bool sim_view_start_over(struct flume_view *view) {
  struct sim_view *of = sim_view_of(view);
  if (of->slot->starting_over == SIM_OWNER_DECLINES || of->is_closing) return false;
  of->restarts++;
  flume_view_rebuild(view, "the owner starts over");
  return true;
}

/* Sees what it should see. */
static void sim_view_call(struct flume_view *view, struct flume_view_call *call) {
  struct sim_view *of = sim_view_at_work(view);
  if (view->sink.state != FLUME_SINK_FAILED && !view->sink.restarting) {
    sim_folds_are(of->folds, view->meta.since, view->meta.deletions, sim_passed(of));
  }
  call->request.status = 0;
}

static void sim_view_init(struct sim_view *of, struct flume_pump *pump, bool is_inline) {
  of->ops = (struct flume_view_ops){.fold = sim_view_fold,
                                    .retract = sim_view_retract,
                                    .can_retract = sim_view_can_retract,
                                    .save = sim_view_save,
                                    .restore = sim_view_restore,
                                    .call = is_inline ? NULL : sim_view_call,
                                    .enter = sim_view_enter,
                                    .leave = sim_view_leave,
                                    .begin_write = sim_view_begin_write,
                                    .end_write = sim_view_end_write};
  if (of->slot->starting_over != SIM_ENGINE_STARTS_OVER) of->ops.start_over = sim_view_start_over;
  of->last_since = -1;
  flume_view_init(&of->view, pump, &of->ops, is_inline);
}

#endif
