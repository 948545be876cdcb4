/* A sequence of calls on a log on a simulated disk, beside an array of the records that the log must have. The calls
 * are appends of all kinds, deletes, reads, streams, syncs, compactions, closing and opening, kills, and power cuts
 * that leave a part of the writes that were not durable. The bytes of the input are the calls and their arguments. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "log/file/file_log.h"
#include "sim.h"

#define DIR "/db/log"
#define RECORDS_MAX 300

struct record {
  uint16_t len;
  uint8_t fill;
  bool ends; /* a batch */
  bool deleting;
  bool deleted;
};

static struct {
  const uint8_t *data;
  size_t len;
  uv_loop_t loop;
  struct sim sim;
  struct flume_log_options options;
  struct flume_log *log;
  struct record records[RECORDS_MAX];
  int64_t count;    /* submitted */
  int64_t promised; /* the records up to this seq are there after any crash */
  int pending;
} f;

static uint8_t next_byte(void) {
  if (f.len == 0) return 0;
  f.len--;
  return *f.data++;
}

static void on_closed(void *data) {
  *(bool *)data = true;
}

static void open_log(void) {
  struct flume_err err;
  if (flume_log_open(&f.log, &f.loop, DIR, &f.options, &err) != 0) abort();
}

static void close_log(void) {
  bool closed = false;
  flume_log_close(f.log, on_closed, &closed);
  while (!closed) uv_run(&f.loop, UV_RUN_ONCE);
  f.promised = f.count - 1;
}

static void promise(int64_t seq) {
  if (seq > f.promised) f.promised = seq;
}

/* --- Calls -------------------------------------------------------------------------------------------------------- */

static int take(struct flume_slice *slices, uint8_t *bytes) {
  int count = 1 + next_byte() % 5;
  if (f.count + count > RECORDS_MAX) return 0;
  for (int i = 0; i < count; i++) {
    struct record *record = &f.records[f.count++];
    *record = (struct record){.len = (uint16_t)(next_byte() * 3), .fill = next_byte(), .ends = i == count - 1};
    memset(bytes, record->fill, record->len);
    slices[i] = (struct flume_slice){bytes, record->len};
    bytes += record->len;
  }
  return count;
}

static void append_wait(void) {
  struct flume_slice slices[5];
  static uint8_t bytes[5 * 768];
  int64_t seq = -1;
  int count = take(slices, bytes);
  if (count == 0) return;
  int rv = flume_log_append_wait(f.log, slices, (size_t)count, &seq, NULL);
  EXPECT(rv == 0 && seq == f.count - 1);
  if (f.options.sync == FLUME_SYNC_ALWAYS) promise(seq);
}

static void on_appended(struct flume_append *req, int status, int64_t seq, const struct flume_err *err) {
  (void)err;
  EXPECT(status == 0 && seq == (int64_t)(intptr_t)req->data);
  f.pending--;
  if (f.options.sync == FLUME_SYNC_ALWAYS) promise(seq);
}

static void append_many(void) {
  static struct flume_append reqs[4];
  static uint8_t bytes[5 * 768];
  for (int i = 0; i < 4; i++) {
    struct flume_slice slices[5];
    int count = take(slices, bytes);
    if (count == 0) break;
    reqs[i].data = (void *)(intptr_t)(f.count - 1);
    f.pending++;
    if (flume_log_append(f.log, &reqs[i], slices, (size_t)count, on_appended, NULL) != 0) abort();
  }
  while (f.pending > 0) uv_run(&f.loop, UV_RUN_ONCE);
}

static void on_done(struct flume_append *req, int status, int64_t seq, const struct flume_err *err) {
  (void)req, (void)seq, (void)err;
  EXPECT(status == 0);
  f.pending--;
}

static void del(void) {
  static struct flume_append req;
  int64_t seqs[3];
  if (f.count == 0) return;
  for (int i = 0; i < 3; i++) {
    seqs[i] = next_byte() % f.count;
    f.records[seqs[i]].deleting = true;
  }
  f.pending++;
  if (flume_log_del(f.log, &req, seqs, 3, on_done, NULL) != 0) abort();
  while (f.pending > 0) uv_run(&f.loop, UV_RUN_ONCE);
  for (int i = 0; i < 3; i++) f.records[seqs[i]].deleted = true;
  promise(f.count - 1);
}

static void sync_log(void) {
  static struct flume_append req;
  f.pending++;
  if (flume_log_sync(f.log, &req, on_done, NULL) != 0) abort();
  while (f.pending > 0) uv_run(&f.loop, UV_RUN_ONCE);
  promise(f.count - 1);
}

static void on_compacted(struct flume_compact *req, int status, const struct flume_err *err) {
  (void)req, (void)err;
  EXPECT(status == 0);
  f.pending--;
}

static void compact(void) {
  static struct flume_compact req;
  f.pending++;
  if (flume_log_compact(f.log, &req, on_compacted, NULL) != 0) abort();
  while (f.pending > 0) uv_run(&f.loop, UV_RUN_ONCE);
}

/* --- Checks ------------------------------------------------------------------------------------------------------- */

static void check_record(const struct flume_record *got) {
  const struct record *record = &f.records[got->seq];
  EXPECT(!record->deleted && got->len == record->len);
  for (uint32_t i = 0; i < got->len; i++) EXPECT(got->data[i] == record->fill);
}

static void get(int64_t seq) {
  struct flume_record got;
  int rv = flume_log_get(f.log, seq, &got, NULL);
  if (seq < 0 || seq >= f.count) {
    EXPECT(rv == FLUME_ENOENT);
  } else if (rv == FLUME_EDELETED) {
    EXPECT(f.records[seq].deleting);
  } else {
    EXPECT(rv == 0 && got.seq == seq);
    check_record(&got);
    flume_record_release(&got);
  }
}

static void stream(void) {
  struct flume_range range;
  struct flume_stream *stream;
  struct flume_record got;
  flume_range_init(&range);
  range.reverse = next_byte() % 2;
  range.first = next_byte();
  range.limit = next_byte() % 8 - 1;
  if (flume_stream_open(&stream, f.log, &range, NULL) != 0) abort();
  int rv;
  while ((rv = flume_stream_next(stream, &got, NULL)) == 1) {
    EXPECT(got.seq >= range.first && got.seq < f.count);
    check_record(&got);
    flume_record_release(&got);
  }
  EXPECT(rv == 0);
  flume_stream_close(stream);
}

/* --- Crashes ------------------------------------------------------------------------------------------------------ */

/* What is left is a prefix with whole batches, and all that was promised; it is what the log is from now on. */
static void take_stock(void) {
  int64_t since = flume_log_since(f.log);
  EXPECT(since >= f.promised && since < f.count);
  EXPECT(since < 0 || f.records[since].ends);
  f.count = since + 1;
  f.promised = since;
  for (int64_t seq = 0; seq < f.count; seq++) {
    get(seq);
    struct flume_record got;
    bool gone = flume_log_get(f.log, seq, &got, NULL) == FLUME_EDELETED;
    if (!gone) flume_record_release(&got);
    f.records[seq].deleting = f.records[seq].deleted = gone;
  }
}

/* The disk as it is now, or with some of what was not durable; the process goes on with a copy, as the log that is open
 * has to be closed first. */
static void crash(bool power) {
  static bool survives[SIM_ITEMS_MAX];
  const struct sim_fs *fs = f.sim.fs;
  uint8_t bits = 0;
  bool lost[SIM_INODES_MAX] = {false};
  for (int i = 0; power && i < fs->items_count; i++) {
    const struct sim_item *item = &fs->items[i];
    if (i % 8 == 0) bits = next_byte();
    survives[i] = bits >> i % 8 & 1;
    if (item->kind != SIM_SIZE) continue;
    survives[i] = survives[i] && !lost[item->inode]; /* sizes survive in order */
    lost[item->inode] = !survives[i];
  }
  struct sim_fs *left = power ? sim_fs_crash(fs, survives) : sim_fs_copy(fs);
  int64_t promised = f.promised;
  close_log();
  f.promised = promised;
  sim_fini(&f.sim);
  sim_init(&f.sim, left);
  f.options.io = &f.sim.io;
  open_log();
  take_stock();
}

static void one_call(void) {
  switch (next_byte() % 12) {
    case 0:
    case 1:
    case 2: append_wait(); break;
    case 3: append_many(); break;
    case 4: del(); break;
    case 5: get(next_byte() - 3); break;
    case 6: stream(); break;
    case 7: sync_log(); break;
    case 8: compact(); break;
    case 9:
      close_log();
      open_log();
      break;
    case 10: crash(false); break;
    default: crash(true); break;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  memset(&f, 0, sizeof f);
  f.data = data;
  f.len = len;
  f.promised = -1;
  uv_loop_init(&f.loop);
  sim_init(&f.sim, sim_fs_new());
  uint8_t how = next_byte();
  f.options = (struct flume_log_options){.io = &f.sim.io, .interval_ms = 3600000};
  f.options.sync = how % 2 == 0 ? FLUME_SYNC_ALWAYS : FLUME_SYNC_OS;
  f.options.segment_bytes = how % 3 == 0 ? 0 : 300 + how * 10u;
  open_log();
  for (int i = 0; i < 60 && f.len > 0; i++) one_call();
  close_log();
  open_log();
  take_stock();
  close_log();
  EXPECT(sim_open_files(&f.sim) == 0 && f.sim.allocations == 0);
  sim_fini(&f.sim);
  uv_run(&f.loop, UV_RUN_DEFAULT);
  EXPECT(uv_loop_close(&f.loop) == 0);
  return 0;
}
