/* A cursor walks through two ordered lists at once, what is not committed and what is: of two rows with the same key the
 * one that is not committed counts, and one that is noted as deleted hides the other. */
#include <string.h>

#include "store_private.h"

struct flume_store_cursor {
  struct flume_store *store;
  enum flume_store_kind kind;
  bool reverse;
  int64_t max_seq;
  bool has_lower;
  bool has_upper;
  struct flume_buf lower;
  struct flume_buf upper;
  bool started;
  bool resumes; /* begin behind `from` */
  struct flume__row from;
  struct flume_mem_place place;
  const struct flume_mem_entry *pending; /* the next one that is not committed; NULL at the end */
  MDB_txn *txn;                          /* NULL: nothing is committed */
  MDB_cursor *rows;
  MDB_val key, value; /* the next one that is */
  bool has_row;
};

void flume_store_range_init(struct flume_store_range *range) {
  *range = (struct flume_store_range){.max_seq = INT64_MAX};
}

static int copy_bounds(struct flume_store_cursor *cursor, const struct flume_store_range *range) {
  int rv = 0;
  cursor->has_lower = range->lower != NULL;
  cursor->has_upper = range->upper != NULL;
  if (cursor->has_lower) rv = flume_buf_append(&cursor->lower, range->lower, range->lower_len);
  if (rv == 0 && cursor->has_upper) rv = flume_buf_append(&cursor->upper, range->upper, range->upper_len);
  return rv;
}

static int open_rows(struct flume_store_cursor *cursor, struct flume_err *err) {
  if (cursor->store->dir == NULL) return 0;
  int rv = flume__store_begin(cursor->store, &cursor->txn, err);
  if (rv == FLUME_ENOENT) {
    cursor->txn = NULL;
    return 0;
  }
  if (rv != 0) return rv;
  rv = mdb_cursor_open(cursor->txn, cursor->store->dbs[cursor->kind], &cursor->rows);
  return rv == 0 ? 0 : flume__store_fail(cursor->store, err, rv, "reading");
}

int flume_store_cursor_open(struct flume_store_cursor **out, struct flume_store *store, enum flume_store_kind kind,
                            const struct flume_store_range *range, struct flume_err *err) {
  struct flume_store_cursor *cursor = flume_io_zalloc(store->io, sizeof *cursor);
  if (cursor == NULL) return flume_err_nomem(err);
  cursor->store = store;
  cursor->kind = kind;
  cursor->reverse = range->reverse;
  cursor->max_seq = range->max_seq;
  flume_buf_init(&cursor->lower, store->io);
  flume_buf_init(&cursor->upper, store->io);
  int rv = copy_bounds(cursor, range);
  if (rv != 0) flume_err_nomem(err);
  else rv = open_rows(cursor, err);
  if (rv != 0) {
    flume_store_cursor_close(cursor);
    return rv;
  }
  *out = cursor;
  return 0;
}

void flume_store_cursor_close(struct flume_store_cursor *cursor) {
  if (cursor->rows != NULL) mdb_cursor_close(cursor->rows);
  if (cursor->txn != NULL) mdb_txn_abort(cursor->txn);
  flume_buf_fini(&cursor->lower);
  flume_buf_fini(&cursor->upper);
  flume_io_free(cursor->store->io, cursor);
}

int flume_store_cursor_resume(struct flume_store_cursor *cursor, const void *key, size_t key_len, int64_t seq,
                              uint32_t ordinal) {
  flume__row_make(&cursor->from, cursor->kind, key, key_len, seq, ordinal);
  cursor->resumes = true;
  return 0;
}

/* --- Walking ----------------------------------------------------------------------------------------------------- */

static int compare(const void *a, size_t a_len, const void *b, size_t b_len) {
  size_t len = a_len < b_len ? a_len : b_len;
  int order = len > 0 ? memcmp(a, b, len) : 0;
  return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

static void step_pending(struct flume_store_cursor *cursor) {
  const struct flume_memtable *table = &cursor->store->tables[cursor->kind];
  cursor->pending =
      cursor->reverse ? flume_memtable_prev(table, &cursor->place) : flume_memtable_next(table, &cursor->place);
}

static int settle_row(struct flume_store_cursor *cursor, int rv) {
  cursor->has_row = rv == 0;
  return rv == MDB_NOTFOUND ? 0 : rv;
}

static int step_row(struct flume_store_cursor *cursor) {
  return settle_row(cursor,
                    mdb_cursor_get(cursor->rows, &cursor->key, &cursor->value, cursor->reverse ? MDB_PREV : MDB_NEXT));
}

/* Where the walk begins: the rows from `at` on, or below it in reverse; at NULL is the very beginning. */
static int seek_rows(struct flume_store_cursor *cursor, const uint8_t *at, size_t len) {
  if (cursor->rows == NULL) return 0;
  if (at == NULL) {
    return settle_row(
        cursor, mdb_cursor_get(cursor->rows, &cursor->key, &cursor->value, cursor->reverse ? MDB_LAST : MDB_FIRST));
  }
  if (len == 0) { /* LMDB has no empty keys: everything is behind it */
    return cursor->reverse ? settle_row(cursor, MDB_NOTFOUND)
                           : settle_row(cursor, mdb_cursor_get(cursor->rows, &cursor->key, &cursor->value, MDB_FIRST));
  }
  cursor->key = (MDB_val){.mv_data = (void *)at, .mv_size = len};
  int rv = mdb_cursor_get(cursor->rows, &cursor->key, &cursor->value, MDB_SET_RANGE);
  if (!cursor->reverse) return settle_row(cursor, rv);
  if (rv == MDB_NOTFOUND) rv = mdb_cursor_get(cursor->rows, &cursor->key, &cursor->value, MDB_LAST);
  else if (rv == 0) rv = mdb_cursor_get(cursor->rows, &cursor->key, &cursor->value, MDB_PREV);
  return settle_row(cursor, rv);
}

static void seek_pending(struct flume_store_cursor *cursor, const uint8_t *at, size_t len) {
  const struct flume_memtable *table = &cursor->store->tables[cursor->kind];
  if (at != NULL) cursor->place = flume_memtable_seek(table, at, len);
  else cursor->place = cursor->reverse ? flume_memtable_end(table) : (struct flume_mem_place){0, 0};
  step_pending(cursor);
}

static int start(struct flume_store_cursor *cursor) {
  const struct flume_buf *bound = cursor->reverse ? &cursor->upper : &cursor->lower;
  bool has_bound = cursor->reverse ? cursor->has_upper : cursor->has_lower;
  const uint8_t *at = has_bound ? (bound->len > 0 ? bound->data : (const uint8_t *)"") : NULL;
  size_t len = bound->len;
  uint8_t behind[FLUME__ROW_MAX + 1];
  cursor->started = true;
  if (cursor->resumes) {
    memcpy(behind, cursor->from.bytes, cursor->from.len);
    behind[cursor->from.len] = 0; /* the first row that can be behind it */
    at = behind;
    len = cursor->from.len + (cursor->reverse ? 0 : 1);
  } else if (has_bound && flume__row_is_cut(len)) {
    len = FLUME__ROW_KEY_MAX; /* rows of keys that are as long begin like this */
    if (cursor->reverse) {    /* and those that agree so far lie behind it */
      memcpy(behind, at, len);
      memset(behind + len, 0xff, sizeof behind - len);
      at = behind;
      len = sizeof behind;
    }
  }
  seek_pending(cursor, at, len < 511 ? len : 511);
  return seek_rows(cursor, at, len < 511 ? len : 511);
}

enum side { SIDE_NONE, SIDE_PENDING, SIDE_ROW };

/* Which of the two comes first. Of two that are the same row the committed one is passed over. */
static int choose(struct flume_store_cursor *cursor, enum side *side) {
  if (cursor->pending == NULL || !cursor->has_row) {
    *side = cursor->pending != NULL ? SIDE_PENDING : cursor->has_row ? SIDE_ROW : SIDE_NONE;
    return 0;
  }
  int order = compare(cursor->pending->bytes, cursor->pending->key_len, cursor->key.mv_data, cursor->key.mv_size);
  if (order == 0) {
    *side = SIDE_PENDING;
    return step_row(cursor);
  }
  *side = (order < 0) != cursor->reverse ? SIDE_PENDING : SIDE_ROW;
  return 0;
}

/* The next row, whatever is in it. The row's bytes stay where they are until the walk goes on. */
static int next_row(struct flume_store_cursor *cursor, struct flume_store_entry *entry, bool *gone,
                    struct flume_err *err) {
  enum side side = SIDE_NONE;
  int rv = choose(cursor, &side);
  *gone = false;
  if (rv == 0 && side == SIDE_PENDING) {
    const struct flume_mem_entry *pending = cursor->pending;
    step_pending(cursor);
    *gone = pending->gone;
    if (!*gone) {
      rv = flume__row_read(cursor->kind, pending->bytes, pending->key_len, flume_mem_value(pending), pending->value_len,
                           entry);
    }
  } else if (rv == 0 && side == SIDE_ROW) {
    rv = flume__row_read(cursor->kind, cursor->key.mv_data, cursor->key.mv_size, cursor->value.mv_data,
                         cursor->value.mv_size, entry);
    if (rv == 0) rv = step_row(cursor);
  }
  if (rv != 0) return flume__store_fail(cursor->store, err, rv, "reading");
  return side != SIDE_NONE;
}

/* Whether the entry lies before the range in the cursor's direction, in it, or behind all of it. Keys that were cut are
 * ordered by their first bytes only, and so end nothing. */
enum where { BEFORE, WITHIN, AFTER };

static enum where locate(const struct flume_store_cursor *cursor, const struct flume_store_entry *entry) {
  bool below = cursor->has_lower && compare(entry->key, entry->key_len, cursor->lower.data, cursor->lower.len) < 0;
  bool above = cursor->has_upper && compare(entry->key, entry->key_len, cursor->upper.data, cursor->upper.len) >= 0;
  if (!below && !above) return WITHIN;
  if (below != cursor->reverse) return BEFORE;
  const struct flume_buf *bound = below ? &cursor->lower : &cursor->upper;
  bool undecided = flume__row_is_cut(entry->key_len) && bound->len >= FLUME__ROW_KEY_MAX &&
                   memcmp(entry->key, bound->data, FLUME__ROW_KEY_MAX) == 0;
  return undecided ? BEFORE : AFTER;
}

int flume_store_cursor_next(struct flume_store_cursor *cursor, struct flume_store_entry *entry, struct flume_err *err) {
  int rv = cursor->started ? 0 : start(cursor);
  if (rv != 0) return flume__store_fail(cursor->store, err, rv, "reading");
  for (;;) {
    bool gone;
    rv = next_row(cursor, entry, &gone, err);
    if (rv <= 0) return rv;
    if (gone) continue;
    enum where where = locate(cursor, entry);
    if (where == AFTER) return 0;
    if (where == BEFORE || (cursor->kind == FLUME_STORE_INDEX && entry->seq > cursor->max_seq)) continue;
    return 1;
  }
}

int64_t flume_store_count(struct flume_store *store, enum flume_store_kind kind, const struct flume_store_range *range,
                          struct flume_err *err) {
  struct flume_store_cursor *cursor;
  struct flume_store_entry entry;
  int64_t count = 0;
  int rv = flume_store_cursor_open(&cursor, store, kind, range, err);
  if (rv != 0) return rv;
  while ((rv = flume_store_cursor_next(cursor, &entry, err)) == 1) count++;
  flume_store_cursor_close(cursor);
  return rv == 0 ? count : rv;
}
