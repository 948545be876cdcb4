/* A cursor walks through two ordered lists of rows at once, the pending ones and those on disk. Of two rows with the
 * same name the pending one counts; if it is noted as deleted, there is none. In an index each row that lies in the
 * range is a chunk, whose entries are read one by one. Backwards that is possible only in chunks without values: of
 * others all entries are read into a list first. */
#include <assert.h>

#include "store/store_private.h"

enum side { SIDE_NONE, SIDE_PENDING, SIDE_ROW };

struct flume_store_cursor {
  struct flume_store *store;
  enum flume_store_kind kind;
  bool reverse;
  int64_t max_seq;
  const uint8_t *lower; /* NULL: no bound */
  size_t lower_len;
  const uint8_t *upper;
  size_t upper_len;
  bool started;
  bool ended;
  bool resumes;          /* begin behind the entry that these say */
  struct flume_buf from; /* name of a row, see seek_behind */
  int from_status;       /* of making it */
  int64_t from_seq;
  uint32_t from_ordinal;
  struct flume_mem_place place;
  const struct flume_mem_entry *pending; /* the next pending row; NULL at the end */
  MDB_txn *txn;                          /* NULL: nothing is on disk */
  bool has_rows;                         /* rows is open */
  struct flume__rows rows;               /* at the next row on disk */
  enum side side;                        /* of the row that was delivered last: that list steps on first */
  struct flume__row row;                 /* that one */
  struct flume_chunk chunk;              /* of an index' row */
  bool is_begun;                         /* an entry of it was delivered */
  struct flume_chunk_place at;           /* what is left of it */
  struct flume_chunk_item *items;        /* or all of it, and at.left of them are left; owned */
  uint32_t items_cap;
  uint8_t bounds[]; /* lower, upper */
};

void flume_store_range_init(struct flume_store_range *range) {
  *range = (struct flume_store_range){.max_seq = INT64_MAX};
}

/* --- Opening ----------------------------------------------------------------------------------------------------- */

static int open_rows(struct flume_store_cursor *cursor, struct flume_err *err) {
  struct flume_store *store = cursor->store;
  if (store->dir == NULL) return 0;
  int rv = flume__store_begin(store, &cursor->txn, err);
  if (rv != 0) cursor->txn = NULL;
  if (rv == FLUME_ENOENT) return 0;
  if (rv != 0) return rv;
  cursor->has_rows = true;
  rv = flume__rows_open(&cursor->rows, store->env, store->io, cursor->kind, cursor->txn, false);
  return rv == 0 ? 0 : flume__store_fail(store, err, rv, "reading");
}

static void copy_bounds(struct flume_store_cursor *cursor, const struct flume_store_range *range) {
  uint8_t *bound = cursor->bounds;
  if (range->lower != NULL) {
    if (range->lower_len > 0) memcpy(bound, range->lower, range->lower_len);
    cursor->lower = bound;
    cursor->lower_len = range->lower_len;
    bound += range->lower_len;
  }
  if (range->upper == NULL) return;
  if (range->upper_len > 0) memcpy(bound, range->upper, range->upper_len);
  cursor->upper = bound;
  cursor->upper_len = range->upper_len;
}

int flume_store_cursor_open(struct flume_store_cursor **out, struct flume_store *store, enum flume_store_kind kind,
                            const struct flume_store_range *range, struct flume_err *err) {
  struct flume_store_cursor *cursor = flume_io_alloc(store->io, sizeof *cursor + range->lower_len + range->upper_len);
  if (cursor == NULL) return flume_err_nomem(err);
  memset(cursor, 0, sizeof *cursor);
  cursor->store = store;
  cursor->kind = kind;
  cursor->reverse = range->reverse;
  cursor->max_seq = range->max_seq;
  flume_buf_init(&cursor->from, store->io);
  copy_bounds(cursor, range);
  int rv = open_rows(cursor, err);
  if (rv != 0) {
    flume_store_cursor_close(cursor);
    return rv;
  }
  *out = cursor;
  return 0;
}

void flume_store_cursor_close(struct flume_store_cursor *cursor) {
  if (cursor->has_rows) flume__rows_close(&cursor->rows);
  flume_buf_fini(&cursor->from);
  if (cursor->txn != NULL) flume__store_end(cursor->store, cursor->txn);
  flume_io_free(cursor->store->io, cursor->items);
  flume_io_free(cursor->store->io, cursor);
}

void flume_store_cursor_resume(struct flume_store_cursor *cursor, const void *key, size_t key_len, int64_t seq,
                               uint32_t ordinal) {
  assert(!cursor->started);
  cursor->from_status = flume__row_name_make(&cursor->from, cursor->kind, key, key_len, seq);
  cursor->from_seq = seq;
  cursor->from_ordinal = ordinal;
  cursor->resumes = true;
}

/* --- Two lists of rows ------------------------------------------------------------------------------------------- */

static void step_pending(struct flume_store_cursor *cursor) {
  const struct flume_memtable *table = &cursor->store->tables[cursor->kind];
  cursor->pending =
      cursor->reverse ? flume_memtable_prev(table, &cursor->place) : flume_memtable_next(table, &cursor->place);
}

static bool has_row(const struct flume_store_cursor *cursor) {
  return cursor->has_rows && cursor->rows.has_row;
}

/* To the rows on disk from a name on, or in reverse to those before it. */
static int seek_rows(struct flume_store_cursor *cursor, const uint8_t *at, size_t len) {
  struct flume__rows *rows = &cursor->rows;
  int rv = flume__rows_seek(rows, at, len);
  if (rv != 0 || !cursor->reverse) return rv;
  return rows->has_row ? flume__rows_step(rows, true) : flume__rows_end(rows, true);
}

static int seek(struct flume_store_cursor *cursor, const uint8_t *at, size_t len) {
  cursor->place = flume_memtable_seek(&cursor->store->tables[cursor->kind], at, len);
  step_pending(cursor);
  return cursor->has_rows ? seek_rows(cursor, at, len) : 0;
}

static int seek_to_end(struct flume_store_cursor *cursor) {
  const struct flume_memtable *table = &cursor->store->tables[cursor->kind];
  cursor->place = cursor->reverse ? flume_memtable_end(table) : (struct flume_mem_place){0, 0};
  step_pending(cursor);
  return cursor->has_rows ? flume__rows_end(&cursor->rows, cursor->reverse) : 0;
}

static bool is_of_from(const struct flume_store_cursor *cursor, const void *name, size_t len) {
  return flume__row_is_same_key(name, len, cursor->from.data, cursor->from.len);
}

/* Steps each list back by a row, if that has the key of `from`: it may have entries behind the one to begin behind. */
static int step_back(struct flume_store_cursor *cursor) {
  const struct flume_memtable *table = &cursor->store->tables[cursor->kind];
  const struct flume_buf *from = &cursor->from;
  struct flume__rows *rows = &cursor->rows;
  struct flume_mem_place before = flume_memtable_seek(table, from->data, from->len);
  const struct flume_mem_entry *entry = flume_memtable_prev(table, &before);
  if (entry != NULL && is_of_from(cursor, entry->bytes, entry->key_len)) {
    cursor->place = before;
    step_pending(cursor);
  }
  if (!cursor->has_rows) return 0;
  int rv = rows->has_row ? flume__rows_step(rows, true) : flume__rows_end(rows, true);
  if (rv != 0 || (rows->has_row && is_of_from(cursor, rows->name, rows->name_len))) return rv;
  return seek_rows(cursor, from->data, from->len);
}

/* To where a walk begins that goes on behind an entry. */
static int seek_behind(struct flume_store_cursor *cursor) {
  struct flume_buf *from = &cursor->from;
  if (cursor->from_status != 0) return cursor->from_status;
  if (cursor->kind == FLUME_STORE_GROUPS) {
    if (cursor->reverse) return seek(cursor, from->data, from->len);
    int rv = flume_buf_append(from, "", 1); /* the first name that can lie behind it */
    return rv == 0 ? seek(cursor, from->data, from->len) : rv;
  }
  if (cursor->reverse) { /* the row that begins with this seq may have entries before it */
    flume__row_name_set_seq(from, cursor->from_seq + 1);
    int rv = seek(cursor, from->data, from->len);
    flume__row_name_set_seq(from, cursor->from_seq);
    return rv;
  }
  int rv = seek(cursor, from->data, from->len);
  return rv == 0 ? step_back(cursor) : rv;
}

static int start(struct flume_store_cursor *cursor) {
  const uint8_t *bound = cursor->reverse ? cursor->upper : cursor->lower;
  size_t len = cursor->reverse ? cursor->upper_len : cursor->lower_len;
  assert(!cursor->started);
  cursor->started = true;
  if (cursor->resumes) return seek_behind(cursor);
  return bound != NULL ? seek(cursor, bound, len) : seek_to_end(cursor);
}

/* The list that has the next row. Of two rows with the same name the row on disk is skipped. */
static int choose(struct flume_store_cursor *cursor, enum side *side) {
  const struct flume_mem_entry *pending = cursor->pending;
  struct flume__rows *rows = &cursor->rows;
  if (pending == NULL || !has_row(cursor)) {
    *side = pending != NULL ? SIDE_PENDING : has_row(cursor) ? SIDE_ROW : SIDE_NONE;
    return 0;
  }
  int order = flume__row_compare(pending->bytes, pending->key_len, rows->name, rows->name_len);
  if (order == 0) {
    *side = SIDE_PENDING;
    return flume__rows_step(rows, cursor->reverse);
  }
  *side = (order < 0) != cursor->reverse ? SIDE_PENDING : SIDE_ROW;
  return 0;
}

/* The next row into cursor->row: 1, 0 at the end, or an error. */
static int next_row(struct flume_store_cursor *cursor) {
  struct flume__rows *rows = &cursor->rows;
  for (;;) {
    if (cursor->side == SIDE_PENDING) step_pending(cursor);
    int rv = cursor->side == SIDE_ROW ? flume__rows_step(rows, cursor->reverse) : 0;
    if (rv == 0) rv = choose(cursor, &cursor->side);
    if (rv != 0) return rv > 0 ? -rv : rv; /* a system's code of LMDB's */
    if (cursor->side == SIDE_NONE) return 0;
    const struct flume_mem_entry *pending = cursor->pending;
    if (cursor->side == SIDE_ROW) {
      rv = flume__row_read_disk(&cursor->row, cursor->kind, rows->name, rows->name_len, &rows->value);
    } else if (pending->state != FLUME_MEM_GONE) {
      rv = flume__row_read(&cursor->row, cursor->kind, pending->bytes, pending->key_len, flume_mem_value(pending),
                           pending->value_len);
    } else {
      continue;
    }
    return rv == 0 ? 1 : rv;
  }
}

/* --- The range --------------------------------------------------------------------------------------------------- */

/* Whether a key lies before the range in the cursor's direction, in it, or behind all of it. */
enum where { BEFORE, WITHIN, AFTER };

static enum where locate(const struct flume_store_cursor *cursor) {
  const struct flume__row *row = &cursor->row;
  bool below =
      cursor->lower != NULL && flume__row_compare(row->key, row->key_len, cursor->lower, cursor->lower_len) < 0;
  bool above =
      cursor->upper != NULL && flume__row_compare(row->key, row->key_len, cursor->upper, cursor->upper_len) >= 0;
  if (!below && !above) return WITHIN;
  return below != cursor->reverse ? BEFORE : AFTER;
}

/* The next row that lies in the range: 1, 0 at the end, or an error. */
static int next_within(struct flume_store_cursor *cursor) {
  int rv = cursor->started ? 0 : start(cursor);
  if (rv > 0) rv = -rv; /* a system's code of LMDB's */
  while (rv == 0 && !cursor->ended) {
    rv = next_row(cursor);
    if (rv < 0) return rv;
    enum where where = rv == 1 ? locate(cursor) : AFTER;
    cursor->ended = where == AFTER;
    if (where == WITHIN) return 1;
    rv = 0;
  }
  return rv;
}

/* --- Entries ----------------------------------------------------------------------------------------------------- */

static int reserve_items(struct flume_store_cursor *cursor, uint32_t count) {
  const struct flume_io *io = cursor->store->io;
  if (count <= cursor->items_cap) return 0;
  struct flume_chunk_item *items = flume_io_alloc(io, count * sizeof *items);
  if (items == NULL) return FLUME_ENOMEM;
  flume_io_free(io, cursor->items);
  cursor->items = items;
  cursor->items_cap = count;
  return 0;
}

static bool is_listed(const struct flume_store_cursor *cursor) {
  return cursor->reverse && cursor->chunk.has_values;
}

static bool is_from_key(const struct flume_store_cursor *cursor) {
  size_t key_len = cursor->from.len - FLUME__ROW_SEQ;
  return cursor->row.key_len == key_len && memcmp(cursor->row.key, cursor->from.data, key_len) == 0;
}

/* The next row's chunk: 1, 0 at the end, or an error. */
static int next_chunk(struct flume_store_cursor *cursor) {
  int rv = next_within(cursor);
  if (rv <= 0) return rv;
  cursor->is_begun = false;
  if (cursor->resumes) cursor->resumes = is_from_key(cursor);
  rv = flume_chunk_open(&cursor->chunk, cursor->row.seq, cursor->row.data, cursor->row.len);
  if (rv == 0 && is_listed(cursor)) {
    rv = reserve_items(cursor, cursor->chunk.count);
    if (rv == 0) rv = flume_chunk_read(&cursor->chunk, cursor->items);
    cursor->at.left = cursor->chunk.count;
  } else if (rv == 0 && cursor->reverse) {
    rv = flume_chunk_last(&cursor->chunk, &cursor->at);
  } else if (rv == 0) {
    flume_chunk_first(&cursor->chunk, &cursor->at);
  }
  if (rv != 0) cursor->at.left = 0;
  return rv == 0 ? 1 : rv;
}

static int next_item(struct flume_store_cursor *cursor, struct flume_chunk_item *item) {
  if (!cursor->reverse) return flume_chunk_next(&cursor->chunk, &cursor->at, item);
  if (!is_listed(cursor)) return flume_chunk_prev(&cursor->chunk, &cursor->at, item);
  *item = cursor->items[--cursor->at.left];
  return 1;
}

/* Of the key of the entry to begin behind: whether this one lies before that, or is it. */
static bool is_before_start(const struct flume_store_cursor *cursor, const struct flume_chunk_item *item) {
  if (item->seq != cursor->from_seq) return (item->seq > cursor->from_seq) == cursor->reverse;
  return item->ordinal == cursor->from_ordinal || (item->ordinal > cursor->from_ordinal) == cursor->reverse;
}

static int next_entry(struct flume_store_cursor *cursor, struct flume_store_entry *entry) {
  struct flume_chunk_item item;
  do {
    while (cursor->at.left == 0) {
      int rv = next_chunk(cursor);
      if (rv <= 0) return rv;
    }
    int rv = next_item(cursor, &item);
    if (rv <= 0) return rv;
    if (!cursor->reverse && item.seq > cursor->max_seq) cursor->at.left = 0; /* and all behind it */
  } while (item.seq > cursor->max_seq || (cursor->resumes && is_before_start(cursor, &item)));
  *entry = (struct flume_store_entry){.key = cursor->row.key,
                                      .key_len = cursor->row.key_len,
                                      .seq = item.seq,
                                      .ordinal = item.ordinal,
                                      .is_same_key = cursor->is_begun,
                                      .value = item.value,
                                      .value_len = item.value_len};
  cursor->is_begun = true;
  return 1;
}

static int next_group(struct flume_store_cursor *cursor, struct flume_store_entry *entry) {
  int rv = next_within(cursor);
  if (rv <= 0) return rv;
  *entry = (struct flume_store_entry){.key = cursor->row.key,
                                      .key_len = cursor->row.key_len,
                                      .seq = -1,
                                      .value = cursor->row.data,
                                      .value_len = cursor->row.len};
  return 1;
}

int flume_store_cursor_next(struct flume_store_cursor *cursor, struct flume_store_entry *entry, struct flume_err *err) {
  int rv = cursor->kind == FLUME_STORE_INDEX ? next_entry(cursor, entry) : next_group(cursor, entry);
  return rv >= 0 ? rv : flume__store_fail(cursor->store, err, rv, "reading");
}

/* --- Counting ---------------------------------------------------------------------------------------------------- */

/* How many entries of the row the range has. */
static int64_t count_row(struct flume_store_cursor *cursor) {
  struct flume_chunk chunk;
  struct flume_chunk_place place;
  struct flume_chunk_item item;
  int64_t count = 0;
  if (cursor->kind == FLUME_STORE_GROUPS) return 1;
  int rv = flume_chunk_open(&chunk, cursor->row.seq, cursor->row.data, cursor->row.len);
  if (rv != 0) return rv;
  if (chunk.last_seq <= cursor->max_seq) return chunk.count;
  if (chunk.base_seq > cursor->max_seq) return 0;
  flume_chunk_first(&chunk, &place);
  while ((rv = flume_chunk_next(&chunk, &place, &item)) == 1 && item.seq <= cursor->max_seq) count++;
  return rv < 0 ? rv : count;
}

int64_t flume_store_count(struct flume_store *store, enum flume_store_kind kind, const struct flume_store_range *range,
                          struct flume_err *err) {
  struct flume_store_cursor *cursor;
  int64_t count = 0;
  int rv = flume_store_cursor_open(&cursor, store, kind, range, err);
  if (rv != 0) return rv;
  while ((rv = next_within(cursor)) == 1) {
    int64_t more = count_row(cursor);
    if (more < 0) {
      rv = (int)more;
      break;
    }
    count += more;
  }
  flume_store_cursor_close(cursor);
  return rv == 0 ? count : flume__store_fail(store, err, rv, "reading");
}
