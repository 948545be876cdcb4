/* Every byte flipped and every length cut, in logs with records of all sizes, on a disk in memory (sim.h). Damage is
 * found, or changes nothing: what a log gives out is what was put in, or ECORRUPT with file and byte; it never ends
 * early without a word. The one thing that can't be told from a torn write is damage to the last frame of a log that was
 * not closed.
 *
 * Headers, indexes and the ends of records are tried byte by byte, the insides of large records here and there, the same
 * ones each time. FLUME_CRASH=all takes more of these; it still leaves most of 20 MB out. */
#include "sim.h"
#include "support.h"

#define DIR "/log"
#define RECORDS_MAX 16
#define NEAR 64  /* bytes around the boundaries of frames and records that are all tried */
#define TAIL 200 /* and at the end of the file */

struct shape {
  const char *name;
  uint32_t lens[RECORDS_MAX]; /* ends with END */
  int batch;                  /* records in an append */
  uint64_t segment_bytes;
  bool zeros;
  int64_t deleted; /* a record that is deleted, in an append of its own; -1: none */
};

#define END UINT32_MAX

struct built {
  const struct shape *shape;
  struct sim sim;
  int64_t count;
  int64_t last_first_seq; /* of the last frame */
  uint64_t boundaries[RECORDS_MAX * 2 + 8];
  int boundaries_count;
  struct sim_fs *left[2]; /* crashed, closed */
};

static uv_loop_t loop;
static struct flume_err err;
static uint64_t tried, detected, harmless;

static bool all(void) {
  const char *text = getenv("FLUME_CRASH");
  return text != NULL && strcmp(text, "all") == 0;
}

/* --- Making ---------------------------------------------------------------------------------------------------- */

static uint64_t key_of(const struct shape *shape, int64_t seq) {
  return shape->zeros ? 0 : (uint64_t)seq + 1;
}

static struct flume_log *open_log(struct sim *sim, const struct shape *shape, bool readonly) {
  struct flume_log *log = NULL;
  struct flume_log_options options = {.readonly = readonly, .segment_bytes = shape->segment_bytes, .io = &sim->io};
  int rv = flume_log_open(&log, &loop, DIR, &options, &err);
  if (rv == 0) return log;
  loop_drain(&loop);
  return NULL;
}

static void append_next(struct built *built, struct flume_log *log) {
  const struct shape *shape = built->shape;
  struct flume_slice records[RECORDS_MAX];
  int count = 0;
  int64_t seq = -1;
  for (; count < shape->batch && shape->lens[built->count + count] != END; count++) {
    uint32_t len = shape->lens[built->count + count];
    records[count] = slice(payload_new(len, key_of(shape, built->count + count)), len);
  }
  MUST(flume_log_append_wait(log, records, (size_t)count, &seq, &err) == 0);
  for (int i = 0; i < count; i++) free((void *)records[i].data);
  built->last_first_seq = built->count;
  built->count += count;
}

/* Where frames and records begin, in whichever segment. */
static void note_boundaries(struct built *built, struct flume_log *base) {
  struct file_log *log = (struct file_log *)base;
  for (size_t i = 0; i < log->segments.count; i++) {
    const struct flume_segment *segment = log->segments.list[i];
    for (int64_t at = 0; segment->offsets != NULL && at < segment->next_seq - segment->first_seq; at++) {
      built->boundaries[built->boundaries_count++] = segment->offsets[at];
    }
    built->boundaries[built->boundaries_count++] = segment->end_off;
  }
}

static void build(struct built *built, const struct shape *shape) {
  memset(built, 0, sizeof *built);
  built->shape = shape;
  MUST(uv_loop_init(&loop) == 0);
  sim_init(&built->sim, sim_fs_new());
  built->sim.fs->never_crashes = true;
  struct flume_log *log = open_log(&built->sim, shape, false);
  MUST(log != NULL);
  while (shape->lens[built->count] != END) {
    append_next(built, log);
    if (shape->deleted >= 0 && built->count > shape->deleted && built->last_first_seq <= shape->deleted) {
      MUST(log_del(log, &loop, &shape->deleted, 1) == 0);
    }
  }
  note_boundaries(built, log);
  built->left[0] = sim_fs_copy(built->sim.fs);
  log_close_wait(log, &loop);
  built->left[1] = sim_fs_copy(built->sim.fs);
}

static void built_fini(struct built *built) {
  for (int i = 0; i < 2; i++) sim_fs_free(built->left[i]);
  sim_fini(&built->sim);
  loop_end(&loop);
}

/* --- Checking -------------------------------------------------------------------------------------------------- */

struct blow {
  struct built *built;
  bool closed;
  int inode;
  const char *name; /* of the file */
  uint64_t off;
  bool cut; /* the file ends there; else the byte is flipped */
};

static bool names_file_and_byte(void) {
  bool good = strstr(err.msg, DIR "/") != NULL && strstr(err.msg, "byte ") != NULL;
  if (!good) printf("the text is: %s\n", err.msg);
  return CHECK(good);
}

/* Record seq is what was put in, or ECORRUPT; *found says that damage was found. */
static bool record_is(const struct blow *blow, struct flume_log *log, int64_t seq, bool *found) {
  const struct shape *shape = blow->built->shape;
  struct flume_record record;
  int rv = flume_log_get(log, seq, &record, &err);
  if (rv == FLUME_ECORRUPT) {
    *found = true;
    return names_file_and_byte();
  }
  bool lost_delete = strcmp(blow->name, "deleted") == 0; /* its last frame may be taken for a torn one */
  if (seq == shape->deleted && !(lost_delete && rv == 0)) return CHECK_INT_EQ(rv, FLUME_EDELETED);
  if (!CHECK_INT_EQ(rv, 0)) return false;
  bool good = record.len == shape->lens[seq] && payload_is(record.data, record.len, key_of(shape, seq));
  flume_record_release(&record);
  return CHECK(good);
}

/* How the log may end: where it did; before the last frame, if that can pass for torn; where a cut file ends. */
static bool may_end_with(const struct blow *blow, int64_t since) {
  int64_t count = blow->built->count;
  if (since == count - 1) return true;
  if (blow->cut) return since < count - 1 && strcmp(blow->name, "deleted") != 0;
  return !blow->closed && since + 1 == blow->built->last_first_seq;
}

static bool check_open(const struct blow *blow, struct sim *sim, bool readonly) {
  bool found = false, good;
  struct flume_log *log = open_log(sim, blow->built->shape, readonly);
  if (log == NULL) {
    good = CHECK(err.code == FLUME_ECORRUPT || err.code == FLUME_EVERSION) && names_file_and_byte();
    found = true;
  } else {
    int64_t since = flume_log_since(log);
    good = CHECK(may_end_with(blow, since));
    for (int64_t seq = 0; good && seq <= since; seq++) good = record_is(blow, log, seq, &found);
    found = found || since < blow->built->count - 1;
    log_close_wait(log, &loop);
  }
  if (found) detected++;
  else harmless++;
  return good;
}

/* Small logs are opened for writing as well, on a copy. */
static bool check_blow(const struct blow *blow, struct sim *sim) {
  tried++;
  bool good = check_open(blow, sim, true);
  if (good && sim->fs->inodes[blow->inode]->cached.used < 100000) {
    struct sim copy;
    sim_init(&copy, sim_fs_copy(sim->fs));
    good = check_open(blow, &copy, false);
    CHECK_INT_EQ(sim_open_files(&copy), 0);
    CHECK_INT_EQ(atomic_load(&copy.allocations), 0);
    sim_fini(&copy);
  }
  if (!good || test_failed) {
    printf("  %s, %s, %s at byte %llu of %s\n", blow->built->shape->name, blow->closed ? "closed" : "crashed",
           blow->cut ? "cut" : "flipped", (unsigned long long)blow->off, blow->name);
  }
  return good && !test_failed;
}

/* --- Choosing -------------------------------------------------------------------------------------------------- */

static bool is_near_a_boundary(const struct built *built, uint64_t off, size_t used) {
  if (off < NEAR || off + TAIL > used) return true;
  for (int i = 0; i < built->boundaries_count; i++) {
    if (off + NEAR > built->boundaries[i] && off < built->boundaries[i] + NEAR) return true;
  }
  return false;
}

/* One in how many of the places at off is tried: all in files of some kilobytes and around boundaries, few within large
 * records. Each takes long in files of many megabytes: there all() makes a difference at the boundaries as well. */
static uint64_t rarity(const struct built *built, uint64_t off, size_t used) {
  bool near = used < 4000 || off >= used || is_near_a_boundary(built, off, used);
  if (used < 1000000) return near ? 1 : all() ? 25 : 1500;
  return near ? (all() ? 1 : 48) : (all() ? 100000 : 3000000);
}

static uint64_t next_place(const struct built *built, uint64_t off, size_t used) {
  uint64_t state = off, rare = rarity(built, off + 1, used);
  uint64_t to = off + 1 + (rare > 1 ? random_next(&state) % (2 * rare) : 0);
  for (int i = 0; i < built->boundaries_count + 2; i++) { /* never across the beginning of a part where more are tried */
    uint64_t from = i < built->boundaries_count ? built->boundaries[i] - NEAR : used - (i == built->boundaries_count) * TAIL;
    if (off < from && from < to) to = from;
  }
  return to;
}

static bool flip_all(struct blow *blow, struct sim *sim) {
  struct sim_bytes *bytes = &sim->fs->inodes[blow->inode]->cached;
  blow->cut = false;
  for (blow->off = 0; blow->off < bytes->used; blow->off = next_place(blow->built, blow->off, bytes->used)) {
    uint8_t xor = blow->off % 2 == 0 ? 0xff : (uint8_t)(1u << blow->off / 2 % 8);
    bytes->data[blow->off] ^= xor;
    bool good = check_blow(blow, sim);
    bytes->data[blow->off] ^= xor;
    if (!good) return false;
  }
  return true;
}

static bool cut_all(struct blow *blow, struct sim *sim) {
  struct sim_bytes *bytes = &sim->fs->inodes[blow->inode]->cached;
  size_t used = bytes->used;
  uint64_t size = bytes->size;
  bool good = true;
  blow->cut = true;
  for (blow->off = 0; good && blow->off < used; blow->off = next_place(blow->built, blow->off, used)) {
    bytes->used = (size_t)blow->off;
    bytes->size = blow->off;
    good = check_blow(blow, sim);
  }
  bytes->used = used;
  bytes->size = size;
  return good;
}

static void damage(const struct shape *shape) {
  struct built built;
  build(&built, shape);
  for (int closed = 0; closed < 2 && !test_failed; closed++) {
    struct sim sim;
    sim_init(&sim, built.left[closed]);
    for (int i = 0; i < sim.fs->cached.count && !test_failed; i++) {
      const struct sim_name *name = &sim.fs->cached.entries[i];
      struct blow blow = {.built = &built, .closed = closed == 1, .inode = name->inode, .name = name->name};
      if (sim.fs->inodes[name->inode]->dir || strcmp(name->name, "lock") == 0) continue;
      if (flip_all(&blow, &sim)) cut_all(&blow, &sim);
    }
    CHECK_INT_EQ(sim_open_files(&sim), 0);
    CHECK_INT_EQ(atomic_load(&sim.allocations), 0);
    built.left[closed] = sim_fs_copy(sim.fs);
    sim_fini(&sim);
  }
  built_fini(&built);
}

#define DAMAGE(id, ...)                                          \
  TEST(id) {                                                     \
    static const struct shape shape = {.name = #id, __VA_ARGS__}; \
    damage(&shape);                                              \
  }

DAMAGE(empty_log, .lens = {END}, .batch = 1, .deleted = -1)
DAMAGE(one_empty_record, .lens = {0, END}, .batch = 1, .deleted = -1)
DAMAGE(small_records, .lens = {100, 0, 1, 100, 0, 1, END}, .batch = 1, .deleted = -1)
DAMAGE(small_batches, .lens = {100, 0, 1, 100, 0, 1, 0, END}, .batch = 3, .deleted = -1)
DAMAGE(records_of_zeros, .lens = {100, 0, 1, 512, 100, END}, .batch = 1, .zeros = true, .deleted = -1)
DAMAGE(batches_of_zeros, .lens = {1, 0, 0, 512, 0, 100, END}, .batch = 2, .zeros = true, .deleted = -1)
DAMAGE(segments, .lens = {100, 0, 1, 100, 300, 1, 100, END}, .batch = 2, .segment_bytes = 400, .deleted = -1)
DAMAGE(segments_with_deletes, .lens = {100, 0, 1, 100, 300, 1, END}, .batch = 2, .segment_bytes = 400, .deleted = 3)
DAMAGE(a_delete, .lens = {100, 0, 1, END}, .batch = 1, .deleted = 1)
DAMAGE(first_record_of_64_kb, .lens = {65536, 1, 100, END}, .batch = 1, .deleted = -1)
DAMAGE(last_record_of_64_kb, .lens = {1, 0, 65536, END}, .batch = 1, .deleted = -1)
DAMAGE(batch_with_64_kb, .lens = {1, 65536, 0, 100, 1, END}, .batch = 3, .deleted = -1)
DAMAGE(zeros_of_64_kb, .lens = {1, 65536, 0, 100, END}, .batch = 1, .zeros = true, .deleted = -1)
DAMAGE(segments_of_64_kb, .lens = {65536, 65536, 100, 65536, END}, .batch = 1, .segment_bytes = 70000, .deleted = -1)
DAMAGE(record_of_20_mb, .lens = {100, 20000000, 1, END}, .batch = 1, .deleted = -1)
DAMAGE(last_record_of_20_mb, .lens = {1, 20000000, END}, .batch = 1, .deleted = -1)
DAMAGE(batch_with_20_mb, .lens = {1, 20000000, 0, 100, END}, .batch = 3, .deleted = -1)

TEST(total) {
  CHECK(detected > 0);
  printf("%llu places: %llu times found, %llu times nothing was changed\n", (unsigned long long)tried,
         (unsigned long long)detected, (unsigned long long)harmless);
}
