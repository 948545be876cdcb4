/* The whole, deterministically: file log, pump, view engine and store in one process and one thread, on the
 * simulated disk, by a simulated clock, driven by a seed.
 *
 * At each step the seed chooses: a job of the pool (in any order), a work of libuv's pool or the end of one, an
 * alarm or a timer whose time has come (or has long been over), the clock, a turn of the loop, or something that the
 * user does: appends, deletions, compactions; views that are mounted, closed, rebuilt, revived, held, reloaded,
 * replaced by a newer version, scrubbed, called and waited for. Work is interrupted by further steps where it holds
 * no lock. A second process follows the log, and has views too. Now and then something fails, the database is
 * closed, or both processes crash: then the disk keeps what a crash may keep, and all begins again from that.
 *
 * After each step the invariants of check_all are looked at. At the end of a seed all that was asked for is
 * answered, each view has come to the log's since, everything is closed, and nothing is left in memory or open.
 *
 * The store is LMDB: it uses no struct flume_io, so its files are real ones, and a crash leaves all that was
 * committed. That shows that no checkpoint is ahead of what the log kept; the store joins the simulated disk when it
 * goes through flume_io.
 *
 * FLUME_SEEDS=N runs so many seeds; FLUME_SEED=S runs that one; FLUME_TRACE=1 prints its steps. */
#include <inttypes.h>
#include <signal.h>

#include "base/err.h"

#include "sim_views.h"

#define DEFAULT_SEEDS 3000
#define SLOTS 4
#define DRAIN_STEPS 20000
#define MANY 80 /* deletions: more than a view takes back in one go */

enum { WRITER, READER };

struct db {
  struct sim_process *process;
  struct flume_log *log; /* NULL: not open */
  struct flume_pool *pool;
  struct flume_pump pump;
  int closing; /* what is left to be closed: views, then pump, pool and log */
};

/* Something that is answered once. They are kept until the machine is started again. */
struct asked {
  struct asked *next;
  const char *what;
  struct sim_view *of;
  struct db *db;
  int answers;
  int status;
  void (*then)(struct asked *asked, int status);
  union {
    struct flume_view_request request;
    struct flume_view_call call;
    struct flume_append append;
    struct flume_compact compact;
    struct flume_wait wait;
  };
  int64_t first, last; /* of an append */
  int64_t seqs[MANY];  /* of a deletion */
  size_t count;
  int restarts; /* of the view, when it was asked */
};

static struct simulation {
  uint64_t seed;
  struct db dbs[SIM_PROCESSES];
  struct sim_slot slots[SLOTS];
  struct sim_view *views;
  struct asked *asked;
  unsigned steps, until;
  uint64_t hash; /* of the trace */
  bool had_fault, had_bad_sync;
  bool compacting, big_records;
  struct flume_log_options options;
  unsigned quiet; /* > 0: the user asks for nothing now */
  jmp_buf crash;
} sim;

static uint64_t all_steps, all_crashes, all_commits;
static struct flume_err err;
static bool traces;

static void trace(const char *what, int64_t a, int64_t b) {
  uint64_t parts[] = {(uint64_t)a, (uint64_t)b, machine.now_ns, (uint64_t)machine.depth};
  for (const char *c = what; *c != '\0'; c++) sim.hash = (sim.hash ^ (uint8_t)*c) * 0x100000001b3u;
  for (int i = 0; i < 4; i++) sim.hash = (sim.hash ^ parts[i] ^ parts[i] >> 29) * 0x100000001b3u;
  if (traces) printf("%6u %*s%s %" PRId64 " %" PRId64 "\n", sim.steps, 2 * machine.depth, "", what, a, b);
}

static int slot_number(const struct sim_slot *slot) {
  return (int)(slot - sim.slots);
}

/* --- Answers ---------------------------------------------------------------------------------------------------- */

static struct asked *ask(const char *what, struct sim_view *of, struct db *db) {
  struct asked *asked = calloc(1, sizeof *asked);
  MUST(asked != NULL);
  *asked = (struct asked){.next = sim.asked, .what = what, .of = of, .db = db};
  if (of != NULL) asked->restarts = of->restarts;
  sim.asked = asked;
  trace(what, of != NULL ? of->number : -1, 0);
  return asked;
}

static void answered(struct asked *asked, int status) {
  trace("answer", status, asked->of != NULL ? asked->of->number : -1);
  trace(asked->what, status, 0);
  if (!CHECK_INT_EQ(++asked->answers, 1)) printf("%s\n", asked->what);
  asked->status = status;
  if (asked->then != NULL) asked->then(asked, status);
}

static bool is_fault(int status) {
  return status == FLUME_ENOMEM || status == UV_EIO || status == UV_ENOSPC;
}

/* Whether what was asked of a view, or of a log, may have ended like this. */
static void check_status(const struct asked *asked, int status, bool allowed) {
  bool failed = status == FLUME_EVIEW && asked->of != NULL && asked->of->can_fail;
  bool closed = status == FLUME_ECLOSED && (asked->of == NULL || asked->of->is_closing);
  bool fault = is_fault(status) && sim.had_fault;
  if (CHECK(status == 0 || allowed || failed || closed || fault)) return;
  printf("%s: answered %d (%s)\n", asked->what, status, flume_strerror(status));
  if (asked->of != NULL) printf("view %d: %s\n", asked->of->number, asked->of->view.work.failed.err.msg);
}

static void on_request(struct flume_view_request *request, int status, const struct flume_err *why) {
  struct asked *asked = FLUME_CONTAINER_OF(request, struct asked, request);
  if (status != 0) CHECK_INT_EQ(why->code, status);
  answered(asked, status);
}

/* --- Views ------------------------------------------------------------------------------------------------------ */

static bool is_usable(const struct sim_view *of) {
  return of != NULL && !of->is_closing && !of->is_quieting;
}

static struct sim_view *view_new(struct sim_slot *slot, struct db *db) {
  struct sim_view *of = calloc(1, sizeof *of);
  MUST(of != NULL);
  of->next = sim.views;
  of->number = sim.views != NULL ? sim.views->number + 1 : 0;
  sim.views = of;
  of->process = db->process;
  of->slot = slot;
  memcpy(of->passed, slot->passed, sizeof of->passed);
  of->can_fail = sim.had_fault;
  sim_view_init(of, &db->pump, slot->is_inline);
  memcpy(of->view.meta.log_id, flume_log_id(db->log), 16);
  return of;
}

static char *place_dir(const struct sim_slot *slot, struct db *db) {
  size_t len = strlen(slot->dir) + 1;
  char *dir = flume_io_alloc(&db->process->io, len);
  if (dir != NULL) memcpy(dir, slot->dir, len);
  return dir;
}

/* Opens the version with this number, or one in memory for 0. NULL: it can't be opened. */
static struct sim_view *view_open(struct sim_slot *slot, struct db *db, uint32_t number, int version,
                                  bool begins_active) {
  char text[FLUME_VIEW_REASON_BYTES];
  const char *reason = NULL;
  struct sim_view *of = view_new(slot, db);
  struct flume_view *view = &of->view;
  snprintf(view->meta.version, sizeof view->meta.version, "%d", version);
  view->place.number = number;
  view->place.begins_active = begins_active;
  view->place.reads_only = number != 0 && db->process == &machine.processes[READER];
  if (number != 0) view->place.dir = place_dir(slot, db);
  int rv = number != 0 && view->place.dir == NULL ? FLUME_ENOMEM : flume_view_open(view, &reason, text, &err);
  trace("open", rv, of->number);
  trace("  since", view->meta.since, number);
  if (rv == 0 && reason == NULL) {
    of->last_since = view->meta.since;
    flume_view_attach(view);
    return of;
  }
  if (rv != 0) CHECK(sim.had_fault && is_fault(rv));
  else if (!CHECK(db == &sim.dbs[READER])) printf("view %d: %s\n", slot_number(slot), reason);
  of->is_closed = true;
  flume_view_fini(view);
  return NULL;
}

#define EMPTY -1 /* a version that has started over: there is nothing of it on disk yet */
#define UNREADABLE -2

/* The version of the state that this version's directory has. */
static int version_on_disk(struct sim_slot *slot, uint32_t number, struct db *db) {
  char path[SIM_NAME_MAX + 16];
  struct flume_store *store;
  struct flume_store_meta meta;
  snprintf(path, sizeof path, "%s/%u", slot->dir, (unsigned)number);
  int rv = flume_store_open(&store, &db->process->io, path, FLUME_STORE_READ, &err);
  if (rv != 0) return UNREADABLE;
  rv = flume_store_load(store, &meta, &err);
  flume_store_close(store);
  return rv == 0 ? atoi(meta.version) : rv == FLUME_ENOENT ? EMPTY : UNREADABLE;
}

/* As a process does that finds what another one left. */
static void mount(struct sim_slot *slot) {
  struct db *db = &sim.dbs[WRITER];
  uint32_t number = 0;
  if (slot->dir[0] == '\0') {
    slot->current = view_open(slot, db, 0, slot->version, false);
    return;
  }
  if (flume_view_dir_active(&flume_io_posix, slot->dir, &number, &err) != 0) return;
  CHECK(number != 0 || !slot->is_active);
  if (number != 0) {
    int version = version_on_disk(slot, number, db);
    if (version == UNREADABLE && CHECK(sim.had_fault)) return;
    CHECK(version == EMPTY || (version >= slot->acked_version && version <= slot->version));
    if (version != EMPTY) slot->version = version;
  }
  MUST(flume_io_mkdir_all(&flume_io_posix, slot->dir) == 0);
  flume_view_dir_sweep(&flume_io_posix, slot->dir, &number, number != 0, &err);
  bool begins = number == 0;
  if (begins) number = ++slot->numbers;
  slot->current = view_open(slot, db, number, slot->version, begins);
}

static void mount_reader(struct sim_slot *slot) {
  struct db *db = &sim.dbs[READER];
  uint32_t number = 0;
  if (slot->dir[0] != '\0') flume_view_dir_active(&flume_io_posix, slot->dir, &number, &err);
  int version = number != 0 ? version_on_disk(slot, number, db) : EMPTY;
  if (version >= 0) slot->reader = view_open(slot, db, number, version, false);
  if (slot->reader == NULL) slot->reader = view_open(slot, db, 0, slot->version, false);
}

static bool has_open_versions(const struct sim_slot *slot) {
  for (const struct sim_view *of = sim.views; of != NULL; of = of->next) {
    if (of->slot == slot && !of->is_closed && of->process == &machine.processes[WRITER]) return true;
  }
  return false;
}

static void remove_version(struct sim_slot *slot, uint32_t number) {
  uint32_t active;
  if (flume_view_dir_active(&flume_io_posix, slot->dir, &active, &err) != 0 || active == number) return;
  flume_view_dir_remove(&flume_io_posix, slot->dir, number, &err);
}

static void on_view_closed(struct asked *asked, int status) {
  struct sim_view *of = asked->of;
  CHECK_INT_EQ(status, 0); /* a state that can't be stored there is none */
  CHECK_INT_EQ(of->view.state, FLUME_VIEW_CLOSED);
  CHECK(!of->entered && !of->reading);
  uint32_t number = of->view.place.dir != NULL ? of->view.place.number : 0;
  bool drop = (of->view.wants & FLUME_WANT_DROP) != 0;
  of->is_closed = true;
  all_commits += of->commits;
  flume_view_fini(&of->view);
  if (drop && number != 0) remove_version(of->slot, number);
}

static void end_reading(struct sim_view *of) {
  if (!of->reading) return;
  of->reading = false;
  flume_view_end_reading(&of->view);
}

static void close_view(struct sim_view *of, bool drop) {
  if (of == NULL || of->is_closing) return;
  end_reading(of);
  of->is_closing = true;
  struct asked *asked = ask(drop ? "drop view" : "close view", of, NULL);
  asked->request.cb = on_request;
  asked->then = on_view_closed;
  if (of->slot->current == of) of->slot->current = NULL;
  if (of->slot->pending == of) of->slot->pending = NULL;
  if (of->slot->reader == of) of->slot->reader = NULL;
  flume_view_close(&of->view, drop, &asked->request);
}

/* --- Reloads, new versions, scrubs ------------------------------------------------------------------------------ */

/* The same version goes on in a new instance; or the old one goes on, or is failed. */
static void on_quiet(struct asked *asked, int status) {
  struct sim_view *of = asked->of, *heir;
  check_status(asked, status, false);
  of->is_quieting = false;
  if (of->is_closing) return;
  CHECK(of->view.held);
  bool is_free = of->view.state == FLUME_VIEW_IDLE && flume_queue_empty(&of->view.calls);
  bool is_good = of->view.sink.state != FLUME_SINK_FAILED && !of->view.sink.restarting;
  bool fails = is_free && is_good && sim_one_in(4);
  if (fails) {
    flume_err_set(&err, FLUME_EVIEW, "failed by its owner");
    of->can_fail = true;
    flume_view_fail(&of->view, &err);
  }
  if (fails || !is_free || !is_good || of->slot->current != of || sim_one_in(3)) {
    flume_view_hold(&of->view, false);
    return;
  }
  heir = view_new(of->slot, &sim.dbs[WRITER]);
  memcpy(heir->passed, of->passed, sizeof heir->passed);
  memcpy(heir->view.meta.version, of->view.meta.version, sizeof heir->view.meta.version);
  if (flume_view_adopt(&heir->view, &of->view, &err) != 0) {
    CHECK(sim.had_fault);
    heir->is_closed = true;
    flume_view_fini(&heir->view);
    flume_view_hold(&of->view, false);
    return;
  }
  heir->last_since = heir->view.meta.since;
  of->slot->current = heir;
  flume_view_attach(&heir->view);
  close_view(of, true);
}

static void reload(struct sim_view *of) {
  struct asked *asked = ask("quiet", of, NULL);
  asked->request.cb = on_request;
  asked->then = on_quiet;
  of->is_quieting = true;
  flume_view_quiet(&of->view, &asked->request);
}

static void on_active(struct asked *asked, int status) {
  struct sim_view *of = asked->of;
  struct sim_slot *slot = of->slot;
  check_status(asked, status, status == FLUME_EAGAIN);
  of->is_quieting = of->slot->is_changing = false;
  if (status != 0) return;
  slot->acked_version = atoi(of->view.meta.version);
  slot->is_active = true;
  if (of->is_closing || slot->pending != of) return;
  close_view(slot->current, true);
  slot->current = of;
  slot->pending = NULL;
}

static void activate(struct sim_view *of) {
  if (of->slot->is_changing) return;
  struct asked *asked = ask("activate", of, NULL);
  asked->request.cb = on_request;
  asked->then = on_active;
  of->is_quieting = of->slot->is_changing = true;
  flume_view_activate(&of->view, &asked->request);
}

/* Before the first version is the active one on disk, no other may become it. */
static bool is_first(const struct sim_view *of) {
  const struct flume_view_checkpoint *checkpoint = &of->view.checkpoint;
  return checkpoint->activation == FLUME_VIEW_FIRST || checkpoint->activation == FLUME_VIEW_ASKED;
}

/* Nor while one that could still become it with its last checkpoint is being closed. */
static bool ends_first(const struct sim_slot *slot) {
  for (const struct sim_view *of = sim.views; of != NULL; of = of->next) {
    bool is_ours = of->slot == slot && of->process == &machine.processes[WRITER];
    if (is_ours && of->is_closing && !of->is_closed && is_first(of)) return true;
  }
  return false;
}

static void upgrade(struct sim_slot *slot) {
  if (slot->pending != NULL) {
    struct sim_view *first = slot->current != NULL && is_first(slot->current) ? slot->current : slot->pending;
    if (is_usable(first) && !ends_first(slot)) activate(first);
  } else if (slot->dir[0] != '\0' && slot->current != NULL) {
    trace("upgrade", slot_number(slot), ++slot->version);
    slot->pending = view_open(slot, &sim.dbs[WRITER], ++slot->numbers, slot->version, false);
  }
}

static void on_scrubbed(struct asked *asked, int status) {
  struct sim_view *of = asked->of;
  check_status(asked, status, status == FLUME_EAGAIN);
  of->is_quieting = of->slot->is_changing = false;
  uint32_t before = (uint32_t)asked->first;
  if (!of->is_closing && of->view.place.number != before) remove_version(of->slot, before);
}

static void scrub(struct sim_view *of) {
  if (of->view.place.dir == NULL || of->slot->is_changing) return;
  struct asked *asked = ask("scrub", of, NULL);
  asked->request.cb = on_request;
  asked->then = on_scrubbed;
  asked->first = of->view.place.number;
  of->is_quieting = of->slot->is_changing = true;
  flume_view_scrub(&of->view, ++of->slot->numbers, &asked->request);
}

/* --- What else may be asked of a view --------------------------------------------------------------------------- */

static void on_called(struct asked *asked, int status) {
  check_status(asked, status, false);
}

static void call(struct sim_view *of) {
  if (of->view.executor.is_inline) return;
  struct asked *asked = ask("call", of, NULL);
  asked->call.request.cb = on_request;
  asked->then = on_called;
  flume_queue_init(&asked->call.queue);
  flume_view_submit(&of->view, &asked->call);
}

static void on_waited(struct flume_wait *wait, int status) {
  struct asked *asked = FLUME_CONTAINER_OF(wait, struct asked, wait);
  struct sim_view *of = asked->of;
  bool late = wait->deadline_ns != 0 && wait->deadline_ns <= machine.now_ns;
  bool lost = asked->db == &sim.dbs[READER] && sim.had_bad_sync;
  check_status(asked, status, (status == FLUME_ETIMEDOUT && late) || (lost && status == FLUME_ECORRUPT));
  if (status == 0) CHECK(of->view.sink.since.value >= wait->seq || of->restarts > asked->restarts);
  answered(asked, status);
}

static void wait_for(struct sim_view *of, struct db *db) {
  struct asked *asked = ask("wait", of, db);
  asked->wait.cb = on_waited;
  asked->wait.seq = (int64_t)sim_below((unsigned)(db->log->since.value + 4)) - 1;
  if (sim_one_in(2)) asked->wait.deadline_ns = machine.now_ns + 1 + sim_below(400000000);
  flume_pump_lock(&db->pump);
  flume_sink_wait(&of->view.sink, &asked->wait);
  flume_pump_unlock(&db->pump);
}

static void skip(struct sim_view *of) {
  int64_t *seqs = flume_io_alloc(&of->process->io, 4 * sizeof *seqs);
  int64_t first = sim_below((unsigned)model.count + 8);
  if (seqs == NULL) return;
  for (int i = 0; i < 4; i++) seqs[i] = first + i;
  flume_view_set_skips(&of->view, seqs, 4);
}

static void read_here(struct sim_view *of) {
  if (of->reading) {
    end_reading(of);
  } else if (flume_view_begin_reading(&of->view)) {
    of->reading = true;
  }
}

static void restart(struct sim_view *of, bool rebuilds) {
  of->restarts++;
  if (rebuilds) flume_view_rebuild(&of->view, NULL);
  else flume_view_revive(&of->view);
}

/* --- The log ---------------------------------------------------------------------------------------------------- */

static void on_appended(struct flume_append *req, int status, int64_t seq, const struct flume_err *why) {
  struct asked *asked = FLUME_CONTAINER_OF(req, struct asked, append);
  (void)why;
  check_status(asked, status, false);
  if (status == 0) {
    CHECK_INT_EQ(seq, asked->last);
    if (seq >= model.acked) model.acked = seq + 1;
    if (sim.options.sync == FLUME_SYNC_ALWAYS && seq >= model.kept) model.kept = seq + 1;
  }
  answered(asked, status);
}

static void put_values(const uint64_t *values, int64_t first, size_t count) {
  memcpy(model.values + first, values, count * sizeof *values);
  if (first + (int64_t)count > model.count) model.count = first + (int64_t)count;
}

static void append_wait(const struct flume_slice *records, const uint64_t *values, size_t count) {
  struct flume_log *log = sim.dbs[WRITER].log;
  int64_t first = log->since.value + 1, seq; /* if it takes them at all, these are the next ones */
  uint64_t before[4];
  int64_t count_before = model.count;
  bool had_failed = flume__log_failure(log, NULL) != 0; /* then it writes nothing */
  memcpy(before, model.values + first, sizeof before);
  put_values(values, first, count); /* what the disk may have, also when it fails */
  int rv = flume_log_append_wait(log, records, count, &seq, &err);
  trace("append_wait", rv, first);
  if (rv == FLUME_EBUSY || rv == FLUME_ENOMEM || had_failed) {
    memcpy(model.values + first, before, sizeof before);
    model.count = count_before;
  }
  CHECK(rv == 0 || rv == FLUME_EBUSY || (sim.had_fault && is_fault(rv)));
  if (rv != 0) return;
  CHECK_INT_EQ(seq, first + (int64_t)count - 1);
  model.acked = seq + 1;
  if (sim.options.sync == FLUME_SYNC_ALWAYS) model.kept = seq + 1;
}

static void append(bool waits) {
  static uint8_t bytes[4][40000];
  struct flume_slice records[4];
  uint64_t values[4];
  size_t count = 1 + sim_below(4);
  if (model.count + 8 > SEQS_MAX) return;
  for (size_t i = 0; i < count; i++) {
    size_t len = sim.big_records ? 20000 + sim_below(20000) : 8 + sim_below(40);
    values[i] = sim_random() >> 8;
    memset(bytes[i], (int)values[i], len);
    memcpy(bytes[i], &values[i], sizeof values[i]);
    records[i] = slice(bytes[i], len);
  }
  if (waits) {
    append_wait(records, values, count);
    return;
  }
  struct asked *asked = ask("append", NULL, &sim.dbs[WRITER]);
  int rv = flume_log_append(sim.dbs[WRITER].log, &asked->append, records, count, on_appended, &err);
  trace("appended", rv, model.count);
  if (rv != 0) asked->answers = 1;
  CHECK(rv == 0 || (sim.had_fault && is_fault(rv)));
  if (rv != 0) return;
  asked->last = asked->append.seq;
  put_values(values, asked->last + 1 - (int64_t)count, count);
}

static void on_deleted(struct flume_append *req, int status, int64_t seq, const struct flume_err *why) {
  struct asked *asked = FLUME_CONTAINER_OF(req, struct asked, append);
  (void)seq;
  (void)why;
  check_status(asked, status, false);
  for (size_t i = 0; i < asked->count && status == 0; i++) model.acked_deletion[asked->seqs[i]] = true;
  answered(asked, status);
}

static void delete_some(void) {
  struct flume_log *log = sim.dbs[WRITER].log;
  if (log->since.value < 0 || model.deletions_count + 2 * MANY > DELETIONS_MAX) return;
  struct asked *asked = ask("delete", NULL, &sim.dbs[WRITER]);
  asked->count = sim_one_in(8) ? MANY : 1 + sim_below(4);
  for (size_t i = 0; i < asked->count; i++) {
    asked->seqs[i] = sim_below((unsigned)log->since.value + 1);
    model.offered_deletion[asked->seqs[i]] = true;
  }
  int rv = flume_log_del(log, &asked->append, asked->seqs, asked->count, on_deleted, &err);
  if (rv != 0) asked->answers = 1;
  if (rv != 0) CHECK(sim.had_fault && is_fault(rv));
}

static void on_compacted(struct flume_compact *req, int status, const struct flume_err *why) {
  struct asked *asked = FLUME_CONTAINER_OF(req, struct asked, compact);
  (void)why;
  sim.compacting = false;
  check_status(asked, status, false);
  answered(asked, status);
}

static void compact(void) {
  if (sim.compacting) return;
  struct asked *asked = ask("compact", NULL, &sim.dbs[WRITER]);
  int rv = flume_log_compact(sim.dbs[WRITER].log, &asked->compact, on_compacted, &err);
  sim.compacting = rv == 0;
  if (rv != 0) asked->answers = 1;
  if (rv != 0) CHECK(sim.had_fault);
}

/* What the log has must be what the model says; what the model can't know is learned here. */
static void learn_log(void) {
  struct flume_log *log = sim.dbs[WRITER].log;
  CHECK(log->since.value < model.count);
  CHECK(log->since.value + 1 >= model.kept);
  for (int64_t seq = 0; seq <= log->since.value && !test_failed; seq++) {
    struct flume_record record;
    int rv = flume_log_get(log, seq, &record, &err);
    if (rv == FLUME_EDELETED) continue;
    if (!CHECK_INT_EQ(rv, 0)) break;
    uint64_t value;
    memcpy(&value, record.data, sizeof value);
    CHECK(value == model.values[seq]);
    CHECK(!model.acked_deletion[seq]);
    flume_record_release(&record);
  }
  model.count = model.acked = log->since.value + 1;
  model.kept = log->durable_seq + 1;
  CHECK(log->deletions.value >= model.deletions_count);
  for (int64_t i = 0; i < model.deletions_count && !test_failed; i++) {
    CHECK_INT_EQ(flume__log_deletion_at(log, i), model.deletions[i]);
  }
}

/* --- Databases -------------------------------------------------------------------------------------------------- */

static bool open_db(struct db *db) {
  struct flume_log_options options = sim.options;
  bool is_reader = db == &sim.dbs[READER];
  if (db->log != NULL) return true;
  db->process->failing_alloc = 0;
  if (!db->process->has_loop) sim_loop_open(db->process);
  options.io = &db->process->io;
  options.readonly = is_reader;
  sim_enter_owner(db->process);
  machine.uninterrupted++;
  int rv = flume_log_open(&db->log, &db->process->loop, "/db", &options, &err);
  if (rv == 0) {
    db->process->failing_alloc = 0;
    rv = flume_pool_open(&db->pool, &db->process->loop, &db->process->io);
    MUST(rv == 0 && flume_pump_open(&db->pump, db->log, db->pool) == 0);
    if (!is_reader) learn_log();
  } else {
    db->log = NULL;
    while (uv_loop_alive(&db->process->loop)) uv_run(&db->process->loop, UV_RUN_NOWAIT);
    sim_loop_abandon(db->process);
    CHECK(sim.had_fault || (is_reader && rv == FLUME_ENOENT));
    if (test_failed) printf("%s\n", err.msg);
  }
  machine.uninterrupted--;
  sim_leave_owner(db->process);
  trace("open database", is_reader, rv);
  return rv == 0;
}

static void step(void);

static void on_pool_closed(void *data) {
  struct db *db = data;
  db->closing--;
}

static void on_log_closed(void *data) {
  struct db *db = data;
  db->closing--;
  db->log = NULL;
}

static void on_pump_closed(struct flume_pump *pump) {
  FLUME_CONTAINER_OF(pump, struct db, pump)->closing--;
}

static void step_until(struct db *db, int closing, const char *what) {
  for (int i = 0; db->closing > closing && !test_failed; i++) {
    if (!CHECK(i < DRAIN_STEPS)) printf("it does not end: %s\n", what);
    step();
  }
}

static bool has_open_views(const struct db *db) {
  for (struct sim_view *of = sim.views; of != NULL; of = of->next) {
    if (of->process == db->process && !of->is_closed) return true;
  }
  return false;
}

static void close_db(struct db *db, bool drops) {
  if (db->log == NULL) return;
  trace("close database", db == &sim.dbs[READER], 0);
  sim.quiet++;
  sim_enter_owner(db->process);
  for (struct sim_view *of = sim.views; of != NULL; of = of->next) {
    if (of->process == db->process) close_view(of->is_closed ? NULL : of, drops);
  }
  sim_leave_owner(db->process);
  for (int i = 0; has_open_views(db) && !test_failed; i++) {
    if (!CHECK(i < DRAIN_STEPS)) printf("it does not end: closing views\n");
    step();
  }
  if (test_failed) return;
  db->closing = 3;
  sim_enter_owner(db->process);
  flume_pump_close(&db->pump, on_pump_closed);
  sim_leave_owner(db->process);
  step_until(db, 2, "closing the pump");
  if (test_failed) return;
  sim_enter_owner(db->process);
  flume_pool_close(db->pool, on_pool_closed, db);
  flume_log_close(db->log, on_log_closed, db);
  sim_leave_owner(db->process);
  step_until(db, 0, "closing the log");
  if (test_failed) return;
  if (db == &sim.dbs[WRITER] && !sim.had_fault) model.kept = model.acked;
  sim_loop_abandon(db->process);
  sim.quiet--;
}

static void check_answers(void) {
  for (struct asked *asked = sim.asked; asked != NULL; asked = asked->next) {
    if (!CHECK_INT_EQ(asked->answers, 1)) printf("never answered: %s\n", asked->what);
  }
}

static void forget_answers(void) {
  while (sim.asked != NULL) {
    struct asked *asked = sim.asked;
    sim.asked = asked->next;
    free(asked);
  }
  while (sim.views != NULL) {
    struct sim_view *of = sim.views;
    sim.views = of->next;
    free(of);
  }
  for (int i = 0; i < SLOTS; i++) {
    sim.slots[i].current = sim.slots[i].pending = sim.slots[i].reader = NULL;
    sim.slots[i].is_changing = false;
  }
  sim.compacting = false;
}

/* Nothing is left of either process. */
static void close_all(void) {
  close_db(&sim.dbs[READER], false);
  if (!test_failed) close_db(&sim.dbs[WRITER], false);
  if (test_failed) return;
  check_answers();
  CHECK_INT_EQ(machine.allocations_count, 0);
  CHECK_INT_EQ(sim_open_files(&machine.disk), 0);
  CHECK(machine.jobs_count == 0 && machine.alarms_count == 0 && machine.works_count == 0 && machine.timers_count == 0);
  forget_answers();
}

/* Both processes are killed, or the power goes. */
static void crash(void) {
  bool power = sim.had_bad_sync || sim_one_in(2); /* after a failed sync no later one is to be believed */
  trace("crash", power, 0);
  all_crashes++;
  int64_t durable = sim.dbs[WRITER].log != NULL ? sim.dbs[WRITER].log->durable_seq + 1 : 0;
  if (durable > model.kept) model.kept = durable;
  if (power) model.acked = model.kept;
  else if (model.acked > model.kept) model.kept = model.acked;
  machine.thread = SIM_OUTSIDE;
  for (struct sim_view *of = sim.views; of != NULL; of = of->next) {
    flume_store_rewrite_free(of->view.scrub.rewrite);
    if (of->view.store != NULL) flume_store_close(of->view.store);
  }
  sim_machine_abandon();
  for (int i = 0; i < SIM_PROCESSES; i++) {
    sim.dbs[i].log = NULL;
    sim.dbs[i].closing = 0;
  }
  forget_answers();
  if (power) sim_power_cut();
  sim.had_fault = sim.had_bad_sync = false;
  sim.quiet = 0;
}

/* --- Invariants ------------------------------------------------------------------------------------------------- */

static bool is_resting(const struct sim_view *of) {
  return (of->view.state == FLUME_VIEW_IDLE || of->view.state == FLUME_VIEW_READING) && !of->entered;
}

/* Its state is the fold of the records up to its since, without those that it knows to be deleted. */
static void check_view(struct sim_view *of, const struct flume_log *log) {
  struct flume_view *view = &of->view;
  int64_t since = view->sink.since.value;
  if (!CHECK(since <= log->since.value))
    printf("view %d of process %d is at %lld of %lld\n", of->number, (int)(of->process - machine.processes),
           (long long)since, (long long)log->since.value);
  CHECK(view->sink.deletions <= log->deletions.value);
  bool may_go_back = of->restarts != of->last_restarts || view->sink.state == FLUME_SINK_FAILED;
  if (!CHECK(since >= of->last_since || may_go_back)) {
    printf("view %d of process %d went from %" PRId64 " to %" PRId64 "\n", slot_number(of->slot),
           (int)(of->process - machine.processes), of->last_since, since);
  }
  of->last_since = since;
  if (is_resting(of) && !view->sink.restarting) of->last_restarts = of->restarts;
  CHECK(!of->is_stopped || view->sink.state == FLUME_SINK_STOPPED || view->sink.state == FLUME_SINK_DETACHED);
  of->is_stopped = view->sink.state == FLUME_SINK_STOPPED;
  CHECK(!of->entered || view->executor.seat == FLUME_SEAT_WORKING);
  if (!is_resting(of) || view->sink.state == FLUME_SINK_FAILED || view->sink.restarting) return;
  CHECK_INT_EQ(since, view->meta.since);
  sim_folds_are(of->folds, view->meta.since, view->meta.deletions, sim_passed(of));
}

/* What was committed is the fold of a prefix that the log has on disk. */
static void check_commit(struct sim_view *of, const struct flume_log *log) {
  struct sim_slot *slot = of->slot;
  char path[SIM_NAME_MAX + 16];
  struct flume_store *store;
  struct flume_store_meta meta;
  struct sim_fold folds[GROUPS];
  of->commits_checked = of->commits;
  snprintf(path, sizeof path, "%s/%u", slot->dir, (unsigned)of->view.place.number);
  struct sim_process plain;
  sim_process_init(&plain);
  MUST(flume_store_open(&store, &plain.io, path, FLUME_STORE_READ, &err) == 0);
  int rv = flume_store_load(store, &meta, &err);
  if (!CHECK(rv == 0 || rv == FLUME_ENOENT)) printf("%s\n", err.msg);
  if (rv == 0) {
    CHECK(meta.since <= log->durable_seq);
    CHECK_INT_EQ(sim_load(store, &plain.io, slot->kind, folds, &err), 0);
    sim_folds_are(folds, meta.since, meta.deletions, slot->passed);
  }
  flume_store_close(store);
}

static void check_active(struct sim_slot *slot) {
  uint32_t number = 0;
  if (!slot->is_active) return;
  CHECK_INT_EQ(flume_view_dir_active(&flume_io_posix, slot->dir, &number, &err), 0);
  CHECK(number != 0);
  struct sim_process plain;
  sim_process_init(&plain);
  struct db db = {.process = &plain};
  int version = version_on_disk(slot, number, &db);
  if (CHECK(version == EMPTY || (version >= slot->acked_version && version <= slot->version))) return;
  printf("view %d: version %d is active (number %u), not one of %d to %d: %s\n", slot_number(slot), version,
         (unsigned)number, slot->acked_version, slot->version, version < 0 ? err.msg : "");
}

static void check_all(void) {
  for (int i = 0; i < SIM_PROCESSES; i++) {
    struct db *db = &sim.dbs[i];
    if (db->log == NULL || db->closing > 0) continue;
    CHECK(db->log->since.value < model.count && db->log->durable_seq <= db->log->since.value);
    sim_learn_deletions(db->log);
    for (struct sim_view *of = sim.views; of != NULL && !test_failed; of = of->next) {
      if (of->is_closed || of->process != db->process || of->view.state == FLUME_VIEW_NEW) continue;
      check_view(of, db->log);
      bool was_active = of->view.checkpoint.activation == FLUME_VIEW_ACTIVE && of->slot->current == of;
      if (was_active && i == WRITER) of->slot->is_active = true;
      if (of->commits > of->commits_checked && machine.depth == 0 && sim_one_in(4)) {
        if (of->view.place.dir != NULL) check_commit(of, db->log);
        check_active(of->slot);
      }
    }
  }
}

/* --- What the user does ----------------------------------------------------------------------------------------- */

static bool may_activate(const struct sim_view *of) {
  return of->slot->current == of && of->view.place.dir != NULL && of->view.sink.state != FLUME_SINK_FAILED;
}

static void act_on_view(struct sim_view *of, struct db *db) {
  bool writes = db == &sim.dbs[WRITER];
  unsigned choice = sim_below(20);
  trace("act on view", of->number, choice);
  switch (choice) {
    case 0: close_view(of, false); break;
    case 1: restart(of, true); break;
    case 2:
    case 3: restart(of, false); break;
    case 4:
      if (writes) skip(of);
      break;
    case 5:
    case 6: flume_view_hold(&of->view, sim_one_in(2)); break;
    case 7:
      if (writes && of->slot->current == of) reload(of);
      break;
    case 8:
    case 9:
      if (writes) upgrade(of->slot);
      break;
    case 10:
      if (writes && of->slot->current == of) scrub(of);
      break;
    case 11:
    case 12: call(of); break;
    case 13:
    case 14:
    case 15: wait_for(of, db); break;
    case 16:
    case 17: read_here(of); break;
    case 18:
      of->fails_at_some = sim_one_in(2);
      if (of->fails_at_some) of->can_fail = true;
      break;
    default:
      if (may_activate(of) && sim_one_in(3)) activate(of);
      break;
  }
}

static void act_on_slot(struct db *db) {
  struct sim_slot *slot = &sim.slots[sim_below(SLOTS)];
  bool writes = db == &sim.dbs[WRITER];
  struct sim_view *of = writes ? slot->current : slot->reader;
  if (writes && slot->pending != NULL && sim_one_in(3)) of = slot->pending;
  if (is_usable(of)) act_on_view(of, db);
  else if (of != NULL) return;
  else if (!writes) mount_reader(slot);
  else if (slot->pending == NULL && !has_open_versions(slot)) mount(slot);
}

static void on_synced(struct flume_append *req, int status, int64_t seq, const struct flume_err *why) {
  struct asked *asked = FLUME_CONTAINER_OF(req, struct asked, append);
  (void)why;
  (void)seq;
  check_status(asked, status, false);
  answered(asked, status);
}

static void sync_log(void) {
  struct asked *asked = ask("sync", NULL, &sim.dbs[WRITER]);
  int rv = flume_log_sync(sim.dbs[WRITER].log, &asked->append, on_synced, &err);
  if (rv != 0) asked->answers = 1;
  CHECK(rv == 0 || sim.had_fault);
}

static void act_in(struct db *db) {
  sim_enter_owner(db->process);
  unsigned choice = sim_below(db == &sim.dbs[WRITER] ? 20 : 10);
  if (choice < 8) act_on_slot(db);
  else if (choice == 8) flume_pump_take_turns(&db->pump);
  else if (choice == 9) flume_pump_set_ready(&db->pump, !sim_one_in(4));
  else if (choice < 13) append(false);
  else if (choice < 16) append(true);
  else if (choice < 18) delete_some();
  else if (choice == 18) compact();
  else sync_log();
  sim_leave_owner(db->process);
}

static void cause_fault(void) {
  struct sim_process *process = &machine.processes[sim_one_in(4) ? READER : WRITER];
  unsigned kind = sim_below(3);
  sim.had_fault = true;
  for (struct sim_view *of = sim.views; of != NULL; of = of->next) of->can_fail = true;
  trace("fault", process == &machine.processes[READER], kind);
  if (kind == 0) process->failing_alloc = (int)(1 + sim_below(60));
  if (kind == 1) process->failing_write = (int)(1 + sim_below(12));
  if (kind == 2) process->failing_sync = (int)(1 + sim_below(8));
  process->write_error = sim_one_in(2) ? UV_ENOSPC : UV_EIO;
  if (kind == 2) sim.had_bad_sync = true;
}

static bool may_crash(void) {
  return !machine.processes[WRITER].owner_busy && !machine.processes[READER].owner_busy && machine.locks_held == 0 &&
         machine.uninterrupted == 0;
}

/* What takes a while, and can't be done within another step. */
static void act_at_large(void) {
  struct db *reader = &sim.dbs[READER], *writer = &sim.dbs[WRITER];
  unsigned choice = sim_below(12);
  if (choice < 4) {
    if (reader->log == NULL) open_db(reader);
    else if (choice == 0) close_db(reader, false);
  } else if (choice < 6 && !sim.had_bad_sync) {
    close_db(writer, false);
  } else if (choice == 6) {
    cause_fault();
  } else if (choice == 7) {
    crash();
  }
}

static void act(void) {
  struct db *db = &sim.dbs[sim_one_in(4) ? READER : WRITER];
  if (machine.depth == 0 && sim_one_in(24)) act_at_large();
  else if (machine.depth > 0 && sim_one_in(200) && may_crash()) longjmp(sim.crash, 1);
  else if (db->log == NULL && machine.depth == 0 && db == &sim.dbs[WRITER]) open_db(db);
  else if (db->log != NULL && !db->process->owner_busy) act_in(db);
}

/* --- Steps ------------------------------------------------------------------------------------------------------ */

static bool step_on(unsigned choice, struct sim_process *process) {
  switch (choice) {
    case 0:
    case 1:
    case 2:
    case 3: return sim_run_job();
    case 4:
    case 5: return sim_run_work();
    case 6:
    case 7: return sim_end_work(process);
    case 8: return sim_ring_alarm();
    case 9: return sim_fire_timer(process);
    case 10: sim_pass_time(); return true;
    default: return sim_turn_loop(process);
  }
}

static void step(void) {
  struct sim_process *process = &machine.processes[sim_below(3) == 0 ? READER : WRITER];
  uv_thread_t thread = machine.thread;
  unsigned choice = sim_below(sim.quiet > 0 ? 13 : 18);
  if (test_failed) return;
  sim.steps++;
  all_steps++;
  trace("step", choice, machine.jobs_count);
  if (choice >= 13) act();
  else step_on(choice, process);
  machine.thread = thread;
  check_all();
}

static void sim_interrupted(void) {
  for (unsigned left = 1 + sim_below(4); left > 0; left--) step();
}

/* --- Seeds ------------------------------------------------------------------------------------------------------ */

static bool is_settled_view(const struct sim_view *of, const struct flume_log *log) {
  const struct flume_sink *sink = &of->view.sink;
  return !of->is_closing && of->view.state == FLUME_VIEW_IDLE && sink->state == FLUME_SINK_IDLE &&
         of->view.executor.seat == FLUME_SEAT_NONE && sink->since.value == log->since.value &&
         sink->deletions == log->deletions.value;
}

static bool is_settled(void) {
  const struct flume_log *log = sim.dbs[WRITER].log;
  for (struct sim_view *of = sim.views; of != NULL; of = of->next) {
    if (!of->is_closed && !is_settled_view(of, log)) return false;
  }
  for (struct asked *asked = sim.asked; asked != NULL; asked = asked->next) {
    bool endless = asked->wait.cb == on_waited && asked->wait.deadline_ns == 0 && asked->wait.seq > log->since.value;
    if (asked->answers == 0 && !endless) return false;
  }
  return machine.jobs_count == 0 && machine.works_count == 0;
}

/* Whatever kept views from going on is put right. */
static void put_right(struct db *db) {
  if (db->log == NULL) return;
  sim_enter_owner(db->process);
  flume_pump_set_ready(&db->pump, true);
  for (struct sim_view *of = sim.views; of != NULL; of = of->next) {
    of->fails_at_some = false;
    if (of->process != db->process || of->is_closing) continue;
    end_reading(of);
    bool is_quiet = of->is_quieting && of->view.requests.scrub == NULL && of->view.requests.active == NULL;
    if (!is_quiet) flume_view_hold(&of->view, false);
    if (of->view.sink.state == FLUME_SINK_FAILED) restart(of, sim_one_in(2));
  }
  sim_leave_owner(db->process);
}

static void tell_unsettled(void) {
  const struct flume_log *reader = sim.dbs[READER].log;
  if (reader != NULL && reader->following == FLUME_FOLLOWING_LOST)
    printf("the reader is lost: %s\n", reader->following_why.msg);
  if (reader != NULL) printf("the reader is at %" PRId64 "\n", reader->since.value);
  for (struct sim_view *of = sim.views; of != NULL; of = of->next) {
    const struct flume_view *view = &of->view;
    if (of->is_closed || is_settled_view(of, sim.dbs[WRITER].log)) continue;
    printf("view %d is at %" PRId64 " of %" PRId64 ", %s, sink %d, seat %d, wants %u, held %d: %s\n",
           slot_number(of->slot), view->sink.since.value, sim.dbs[WRITER].log->since.value,
           flume_view_state_name(view->state), view->sink.state, view->executor.seat, view->wants, view->held,
           view->sink.failure.msg);
  }
  for (struct asked *asked = sim.asked; asked != NULL; asked = asked->next) {
    if (asked->answers > 0) continue;
    const struct flume_view *view = asked->of != NULL ? &asked->of->view : NULL;
    printf("not answered: %s", asked->what);
    if (view != NULL) {
      printf(" of view %d, %s, place %s, store %p, freshness %d, activation %d", asked->of->number,
             flume_view_state_name(view->state), view->place.dir, (void *)view->store, view->checkpoint.freshness,
             view->checkpoint.activation);
      printf(", commit %d, sync %d, stall %d, sink %d, wants %u, put off %d", view->checkpoint.commit_status,
             view->checkpoint.sync_status, view->checkpoint.stall.code, view->sink.state, view->wants,
             view->checkpoint.put_off);
    }
    printf("\n");
  }
}

/* Steps without the user, until nothing is left to be done. */
static void settle(void) {
  sim.quiet++;
  for (int round = 0; !test_failed && !is_settled(); round++) {
    if (round > 0 && round % 50 == 0) put_right(&sim.dbs[WRITER]);
    if (round > 0 && round % 50 == 0) put_right(&sim.dbs[READER]);
    for (int i = 0; i < 20; i++) step();
    if (CHECK(round < 1000)) continue;
    printf("it does not settle:\n");
    tell_unsettled();
  }
  sim.quiet--;
}

static void drain(void) {
  struct db *writer = &sim.dbs[WRITER], *reader = &sim.dbs[READER];
  sim.quiet++;
  for (int i = 0; i < SIM_PROCESSES; i++) {
    struct sim_process *process = &machine.processes[i];
    process->failing_alloc = process->failing_sync = process->failing_write = 0;
  }
  if (sim.had_fault) {
    if (sim.had_bad_sync) crash();
    close_db(reader, false);
    close_db(writer, false);
    sim.quiet = 1;
  }
  open_db(writer);
  settle();
  sim.quiet--;
}

static void set_up(uint64_t seed, const char *real_dir) {
  memset(&sim, 0, sizeof sim);
  memset(&model, 0, sizeof model);
  sim.seed = seed;
  sim.hash = 0xcbf29ce484222325u;
  sim_machine_init(seed * 0x9e3779b97f4a7c15u + 1, real_dir);
  static const uint64_t segment_bytes[] = {0, 0, 1500, 6000};
  static const unsigned patience[] = {0, 40, 10};
  sim.options.sync = (enum flume_sync)sim_below(3);
  sim.options.segment_bytes = segment_bytes[sim_below(4)];
  sim.until = 60 + sim_below(200);
  if (sim_one_in(20)) {
    sim.until *= 8;
    sim.options.segment_bytes = 0; /* a simulated disk has few files */
  }
  sim.big_records = sim_one_in(12);
  machine.patience = patience[sim_below(3)];
  for (int i = 0; i < SIM_PROCESSES; i++) sim.dbs[i].process = &machine.processes[i];
  for (int i = 0; i < SLOTS; i++) {
    struct sim_slot *slot = &sim.slots[i];
    if (!sim_one_in(4)) snprintf(slot->dir, sizeof slot->dir, "%s/v%d", real_dir, i);
    slot->kind = (enum sim_kind)sim_below(SIM_KINDS);
    slot->is_inline = sim_one_in(2);
    slot->retracts = !sim_one_in(3);
    slot->starting_over = (enum sim_starting_over)sim_below(3);
  }
}

static void tear_down(void) {
  if (test_failed) return;
  sim_machine_fini();
}

static void run_steps(void) {
  if (setjmp(sim.crash) != 0) crash();
  while (sim.steps < sim.until && !test_failed) step();
  if (!test_failed) drain();
  if (!test_failed) close_all();
}

static void tell_seed(void) {
  printf("seed %" PRIu64 ", step %u: FLUME_SEED=%" PRIu64 " build/tests/test_simulation\n", sim.seed, sim.steps,
         sim.seed);
}

/* The hash of what happened. */
static uint64_t run_seed(uint64_t seed, const char *base) {
  char dir[TEST_PATH_MAX];
  snprintf(dir, sizeof dir, "%.200s/s", base);
  MUST(flume_io_mkdir_all(&flume_io_posix, dir) == 0);
  set_up(seed, dir);
  run_steps();
  if (test_failed) tell_seed();
  tear_down();
  flume_io_remove_all(&flume_io_posix, dir);
  return sim.hash;
}

static void on_abort(int signal) {
  tell_seed();
  fflush(stdout);
  (void)signal;
  _exit(70);
}

static void base_dir(char *path) {
  if (access("/dev/shm", W_OK) == 0) {
    snprintf(path, TEST_PATH_MAX, "/dev/shm/flume-simulation-XXXXXX");
    MUST(mkdtemp(path) != NULL);
  } else {
    temp_dir(path);
  }
}

/* --- What seeds have found, step by step ------------------------------------------------------------------------ */

static char plain_dir[TEST_PATH_MAX];

/* A writer with one view, which has folded some records. */
static struct sim_view *begin_plain(struct sim_slot slot) {
  char dir[TEST_PATH_MAX];
  base_dir(plain_dir);
  snprintf(dir, sizeof dir, "%.200s/s", plain_dir);
  set_up(1, dir);
  machine.is_plain = true;
  machine.patience = 0;
  sim.options.sync = FLUME_SYNC_ALWAYS;
  sim.options.segment_bytes = 0;
  sim.big_records = false;
  if (slot.dir[0] != '\0') snprintf(slot.dir, sizeof slot.dir, "%s/v", dir);
  sim.slots[0] = slot;
  MUST(open_db(&sim.dbs[WRITER]));
  sim_enter_owner(sim.dbs[WRITER].process);
  mount(&sim.slots[0]);
  for (int i = 0; i < 4; i++) append(true);
  sim_leave_owner(sim.dbs[WRITER].process);
  settle();
  return sim.slots[0].current;
}

static void end_plain(void) {
  put_right(&sim.dbs[WRITER]);
  settle();
  close_all();
  if (!test_failed) sim_machine_fini();
  remove_dir(plain_dir);
}

static void delete_first(size_t count) {
  struct asked *asked = ask("delete", NULL, &sim.dbs[WRITER]);
  asked->count = count;
  for (size_t i = 0; i < count; i++) {
    asked->seqs[i] = (int64_t)i;
    model.offered_deletion[i] = true;
  }
  sim_enter_owner(sim.dbs[WRITER].process);
  CHECK_INT_EQ(flume_log_del(sim.dbs[WRITER].log, &asked->append, asked->seqs, count, on_deleted, &err), 0);
  sim_leave_owner(sim.dbs[WRITER].process);
  while (sim_run_work() || sim_end_work(sim.dbs[WRITER].process)) continue;
}

TEST(a_checkpoint_fails_while_a_block_waits) {
  struct sim_view *of = begin_plain((struct sim_slot){.dir = "v", .is_inline = true, .retracts = true});
  struct sim_process *process = sim.dbs[WRITER].process;
  sim_enter_owner(process);
  append(true);
  sim_leave_owner(process);
  for (int i = 0; i < 100 && of->view.state != FLUME_VIEW_COMMITTING; i++) {
    machine.now_ns += 1000000000u;
    sim_ring_alarm();
    sim_turn_loop(process);
  }
  sim_enter_owner(process);
  append(true);
  sim_leave_owner(process);
  REQUIRE(of->view.state == FLUME_VIEW_COMMITTING && of->view.work.block != NULL);
  sim.had_fault = of->can_fail = true;
  flume_io_remove_all(&flume_io_posix, of->slot->dir);
  CHECK(sim_run_job());
  CHECK_INT_EQ(of->view.sink.state, FLUME_SINK_FAILED);
  CHECK(of->view.work.block == NULL);
  MUST(flume_io_mkdir_all(&flume_io_posix, of->slot->dir) == 0);
  end_plain();
}

TEST(a_view_is_failed_while_deletions_wait) {
  struct sim_view *of = begin_plain((struct sim_slot){.retracts = true});
  flume_view_hold(&of->view, true);
  delete_first(2);
  REQUIRE(of->view.sink.state == FLUME_SINK_FORGETTING);
  flume_err_set(&err, FLUME_EVIEW, "failed by its owner");
  flume_view_fail(&of->view, &err);
  CHECK_INT_EQ(of->view.sink.state, FLUME_SINK_FAILED);
  CHECK_INT_EQ(of->view.wants & FLUME_WANT_RETRACT, 0);
  end_plain();
}

TEST(a_rebuild_that_fails_is_fed_nothing) {
  struct sim_view *of = begin_plain((struct sim_slot){.kind = SIM_GROUPS, .retracts = true});
  sim.had_fault = of->can_fail = true;
  restart(of, true);
  of->process->failing_alloc = 1; /* where it looks at what the store has */
  while (sim_run_job()) continue;
  CHECK_INT_EQ(of->view.sink.state, FLUME_SINK_FAILED);
  CHECK(of->view.work.block == NULL && of->view.sink.since.value == -1);
  end_plain();
}

TEST(a_half_done_state_is_not_committed) {
  struct sim_view *of =
      begin_plain((struct sim_slot){.dir = "v", .retracts = true, .starting_over = SIM_OWNER_DECLINES});
  activate(of);
  settle();
  unsigned commits = of->commits;
  of->retracts_left = 2;
  delete_first(3);
  while (sim_run_job()) continue;
  CHECK(of->view.sink.restarting);
  activate(of);
  while (sim_run_job()) continue;
  CHECK_INT_EQ(of->commits, commits);
  end_plain();
}

TEST(a_view_starts_over_twice_before_the_loop_hears_of_it) {
  struct sim_view *of = begin_plain((struct sim_slot){.starting_over = SIM_OWNER_DECLINES});
  delete_first(1);
  while (sim_run_job()) continue;
  call(of);
  while (sim_run_job()) continue;
  restart(of, false);
  while (sim_run_job()) continue;
  append(true);
  delete_first(2);
  while (sim_run_job()) continue;
  end_plain();
}

TEST(a_reader_that_is_revived_does_not_go_ahead_of_its_log) {
  struct sim_view *of = begin_plain((struct sim_slot){.dir = "v", .retracts = true});
  struct db *reader = &sim.dbs[READER];
  activate(of);
  settle();
  MUST(open_db(reader));
  sim_enter_owner(reader->process);
  mount_reader(of->slot);
  sim_leave_owner(reader->process);
  REQUIRE(of->slot->reader != NULL && of->slot->reader->view.place.reads_only);
  sim_enter_owner(of->process);
  append(true);
  sim_leave_owner(of->process);
  while (sim_run_job()) continue;
  activate(of);
  while (sim_run_job()) continue;
  CHECK(of->view.meta.since > reader->log->since.value);
  restart(of->slot->reader, false);
  while (sim_run_job()) continue;
  CHECK(of->slot->reader->view.sink.since.value <= reader->log->since.value);
  end_plain();
}

/* --- Seeds by number -------------------------------------------------------------------------------------------- */

static uint64_t number_from(const char *name, uint64_t otherwise) {
  const char *text = getenv(name);
  return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

TEST(all_seeds) {
  char dir[TEST_PATH_MAX];
  uint64_t only = number_from("FLUME_SEED", 0), first = only != 0 ? only : number_from("FLUME_FIRST_SEED", 1);
  uint64_t count = only != 0 ? 1 : number_from("FLUME_SEEDS", DEFAULT_SEEDS);
  traces = getenv("FLUME_TRACE") != NULL;
  signal(SIGABRT, on_abort);
  base_dir(dir);
  all_steps = all_crashes = all_commits = 0;
  for (uint64_t seed = first; seed < first + count && !test_failed; seed++) run_seed(seed, dir);
  printf("simulation: %" PRIu64 " schedules, %" PRIu64 " steps, %" PRIu64 " crashes, %" PRIu64 " commits\n", count,
         all_steps, all_crashes, all_commits);
  remove_dir(dir);
}

/* A seed is of use only if it repeats. */
TEST(a_seed_takes_the_same_steps_again) {
  char dir[TEST_PATH_MAX];
  base_dir(dir);
  for (uint64_t seed = 1; seed <= 20 && !test_failed; seed++) {
    uint64_t hash = run_seed(seed, dir);
    unsigned steps = sim.steps;
    CHECK(run_seed(seed, dir) == hash);
    CHECK_INT_EQ(sim.steps, steps);
  }
  remove_dir(dir);
}
