/* Random operations on every kind of log, against an array that says what it should hold. */
#include "check_support.h"
#include "compact_support.h"
#include "each_log.h"

struct model_record {
  uint64_t key;
  uint32_t len;
  bool deleted;
};

struct model {
  struct fixture *f;
  uint64_t random;
  uint64_t keys;
  struct model_record *records;
  int64_t count;
  int64_t cap;
  struct flume_stream *live;
  int64_t live_next;
  struct compaction_answer compaction; /* answered, or under way */
};

static const uint32_t model_lens[] = {0, 1, 2, 30, 200, 3000, 70000};

/* Fills in count slices, whose data the caller frees, and takes them into the model. */
static void model_take(struct model *m, struct flume_slice *records, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (m->count == m->cap) {
      m->cap = m->cap > 0 ? m->cap * 2 : 64;
      m->records = realloc(m->records, (size_t)m->cap * sizeof *m->records);
      MUST(m->records != NULL);
    }
    uint32_t top = model_lens[random_below(&m->random, sizeof model_lens / sizeof model_lens[0])];
    struct model_record *record = &m->records[m->count++];
    *record = (struct model_record){.key = random_below(&m->random, 8) == 0 ? 0 : ++m->keys,
                                    .len = top > 0 ? random_below(&m->random, top) : 0};
    records[i] = slice(payload_new(record->len, record->key), record->len);
  }
}

static void model_free(struct flume_slice *records, size_t count) {
  for (size_t i = 0; i < count; i++) free((void *)records[i].data);
}

static void model_append(struct model *m) {
  struct flume_slice records[40];
  size_t count = random_below(&m->random, 3) == 0 ? 1 + random_below(&m->random, 40) : 1;
  model_take(m, records, count);
  int64_t seq = -1;
  int rv = FLUME_EBUSY; /* which append_wait may be while a compaction seals the active segment */
  if (random_below(&m->random, 2) == 0) rv = flume_log_append_wait(m->f->log, records, count, &seq, NULL);
  if (rv == FLUME_EBUSY) rv = log_append(m->f->log, &m->f->loop, records, count, &seq);
  CHECK_INT_EQ(rv, 0);
  CHECK_INT_EQ(seq, m->count - 1);
  model_free(records, count);
}

/* Several at once, answered together. */
static void model_append_many(struct model *m) {
  struct answer answers[8] = {{.calls = 0}};
  int64_t seqs[8];
  struct flume_slice records[5];
  for (int i = 0; i < 8; i++) {
    size_t count = 1 + random_below(&m->random, 5);
    model_take(m, records, count);
    seqs[i] = m->count - 1;
    CHECK_INT_EQ(flume_log_append(m->f->log, &answers[i].req, records, count, on_answer, NULL), 0);
    model_free(records, count);
    if (random_below(&m->random, 4) == 0) uv_run(&m->f->loop, UV_RUN_NOWAIT);
  }
  for (int i = 0; i < 8; i++) {
    answer_wait(&m->f->loop, &answers[i]);
    CHECK_INT_EQ(answers[i].status, 0);
    CHECK_INT_EQ(answers[i].seq, seqs[i]);
  }
}

static void model_del(struct model *m) {
  if (m->count == 0) return;
  int64_t seqs[6];
  size_t count = 1 + random_below(&m->random, 6);
  for (size_t i = 0; i < count; i++) {
    seqs[i] = random_below(&m->random, 4) == 0 ? m->count - 1 : (int64_t)random_below(&m->random, (uint32_t)m->count);
    m->records[seqs[i]].deleted = true;
  }
  CHECK_INT_EQ(log_del(m->f->log, &m->f->loop, seqs, count), 0);
}

static void model_get(struct model *m) {
  int64_t seq = (int64_t)random_below(&m->random, (uint32_t)m->count + 3) - 1;
  struct flume_record record;
  int rv = flume_log_get(m->f->log, seq, &record, NULL);
  int expected = seq < 0 || seq >= m->count ? FLUME_ENOENT : m->records[seq].deleted ? FLUME_EDELETED : 0;
  CHECK_INT_EQ(rv, expected);
  if (rv != 0) return;
  CHECK(record.len == m->records[seq].len && payload_is(record.data, record.len, m->records[seq].key));
  flume_record_release(&record);
}

static struct flume_range model_range(struct model *m) {
  struct flume_range range = everything();
  range.reverse = random_below(&m->random, 2);
  if (random_below(&m->random, 2)) range.first = random_below(&m->random, (uint32_t)m->count + 2);
  if (random_below(&m->random, 2)) range.last = random_below(&m->random, (uint32_t)m->count + 2);
  if (random_below(&m->random, 2)) range.limit = random_below(&m->random, 20);
  return range;
}

static void model_stream(struct model *m) {
  struct flume_range range = model_range(m);
  struct flume_stream *stream = stream_new(m->f, &range);
  struct flume_record record;
  int64_t left = range.limit;
  for (int64_t i = 0; i < m->count && left != 0; i++) {
    int64_t seq = range.reverse ? m->count - 1 - i : i;
    if (seq < range.first || seq > range.last || m->records[seq].deleted) continue;
    left--;
    if (!CHECK_INT_EQ(flume_stream_peek(stream, &record, NULL), 1)) break;
    CHECK_INT_EQ(record.seq, seq);
    CHECK(record.len == m->records[seq].len && payload_is(record.data, record.len, m->records[seq].key));
  }
  CHECK_INT_EQ(flume_stream_peek(stream, &record, NULL), 0);
  flume_stream_close(stream);
}

static void model_live(struct model *m) {
  struct flume_record record;
  for (; m->live_next < m->count; m->live_next++) {
    if (m->records[m->live_next].deleted) continue;
    if (!CHECK_INT_EQ(flume_stream_next(m->live, &record, NULL), 1)) return;
    CHECK_INT_EQ(record.seq, m->live_next);
    CHECK(payload_is(record.data, record.len, m->records[m->live_next].key));
    flume_record_release(&record);
  }
  CHECK_INT_EQ(flume_stream_next(m->live, &record, NULL), FLUME_EAGAIN);
}

static void model_settle(struct model *m) {
  while (m->compaction.calls == 0) uv_run(&m->f->loop, UV_RUN_ONCE);
  CHECK_INT_EQ(m->compaction.status, 0);
}

static void model_reopen(struct model *m) {
  model_settle(m);
  flume_stream_close(m->live);
  if (random_below(&m->random, 4) == 0) fixture_reopen(m->f);
  struct flume_range range = living(true);
  range.first = m->live_next;
  m->live = stream_new(m->f, &range);
}

/* Waits for it, or goes on beside it. */
static void model_compact(struct model *m) {
  if (m->compaction.calls > 0) {
    m->compaction = (struct compaction_answer){.calls = 0};
    CHECK_INT_EQ(flume_log_compact(m->f->log, &m->compaction.req, on_compacted, NULL), 0);
  }
  if (random_below(&m->random, 2)) model_settle(m);
}

static void model_check(struct model *m) {
  struct check_answer answer;
  CHECK_INT_EQ(log_check(m->f->log, &m->f->loop, &answer), 0);
  CHECK_INT_EQ(answer.req.report.damages, 0);
  CHECK_INT_EQ(answer.req.report.records, m->count);
  flume_report_fini(&answer.req.report);
}

static void model_step(struct model *m) {
  switch (random_below(&m->random, 14)) {
    case 0:
    case 1:
    case 2:
    case 3: model_append(m); break;
    case 4: model_append_many(m); break;
    case 5: model_del(m); break;
    case 6: CHECK_INT_EQ(log_sync(m->f->log, &m->f->loop), 0); break;
    case 7: model_reopen(m); break;
    case 8: model_stream(m); break;
    case 9: model_live(m); break;
    case 10: model_compact(m); break;
    case 11: model_check(m); break;
    default: model_get(m); break;
  }
  CHECK_INT_EQ(flume_log_since(m->f->log), m->count - 1);
}

EACH_LOG(random_operations_against_a_model) {
  struct model m = {.f = f, .random = random_seed(), .compaction = {.calls = 1}};
  struct flume_range range = living(true);
  m.live = stream_new(f, &range);
  for (int i = 0; i < 600 && !test_failed; i++) model_step(&m);
  model_settle(&m);
  model_live(&m);
  flume_stream_close(m.live);
  fixture_reopen(f);
  for (int i = 0; i < 20 && !test_failed; i++) model_stream(&m);
  free(m.records);
}
