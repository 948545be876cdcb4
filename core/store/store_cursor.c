/* A cursor walks through two ordered lists of rows at once, what is not committed and what is: of two rows with the same
 * name the one that is not committed counts, and one that is noted as deleted hides the other. In an index, each row that
 * lies in the range is a chunk, whose entries are then read one by one; backwards that goes only where there are no
 * values, and else all are read into a list. */
#include "base/bytes.h"
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
  bool resumes; /* begin behind the entry that these say */
  struct flume__row_name from;
  int64_t from_seq;
  uint32_t from_ordinal;
  struct flume_mem_place place;
  const struct flume_mem_entry *pending; /* the next row that is not committed; NULL at the end */
  MDB_txn *txn;                          /* NULL: nothing is committed */
  MDB_cursor *rows;
  MDB_val name, value; /* the next row that is */
  bool has_row;
  enum side side;                 /* of the row that was delivered last: that list steps on first */
  struct flume__row row;          /* that one */
  struct flume_chunk chunk;       /* of an index' row */
  struct flume_chunk_place at;    /* what is left of it */
  struct flume_chunk_item *items; /* or all of it, and at.left of them are left; owned */
  uint32_t items_cap;
  uint8_t bounds[]; /* lower, upper */
};

void flume_store_range_init(struct flume_store_range *range) {
  *range = (struct flume_store_range){.max_seq = INT64_MAX};
}

/* --- Opening ----------------------------------------------------------------------------------------------------- */

static int open_rows(struct flume_store_cursor *cursor, struct flume_err *err) {
  if (cursor->store->dir == NULL) return 0;
  int rv = flume__store_begin(cursor->store, &cursor->txn, err);
  if (rv != 0) cursor->txn = NULL;
  if (rv == FLUME_ENOENT) return 0;
  if (rv != 0) return rv;
  rv = mdb_cursor_open(cursor->txn, cursor->store->dbs[cursor->kind], &cursor->rows);
  if (rv != 0) cursor->rows = NULL;
  return rv == 0 ? 0 : flume__store_fail(cursor->store, err, rv, "reading");
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
  if (cursor->rows != NULL) mdb_cursor_close(cursor->rows);
  if (cursor->txn != NULL) flume__store_end(cursor->store, cursor->txn);
  flume_io_free(cursor->store->io, cursor->items);
  flume_io_free(cursor->store->io, cursor);
}

void flume_store_cursor_resume(struct flume_store_cursor *cursor, const void *key, size_t key_len, int64_t seq,
                               uint32_t ordinal) {
  flume__row_name_make(&cursor->from, cursor->kind, key, key_len, seq);
  cursor->from_seq = seq;
  cursor->from_ordinal = ordinal;
  cursor->resumes = true;
}

/* --- Two lists of rows ------------------------------------------------------------------------------------------- */

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

static int get_row(struct flume_store_cursor *cursor, MDB_cursor_op op) {
  int rv = mdb_cursor_get(cursor->rows, &cursor->name, &cursor->value, op);
  cursor->has_row = rv == 0;
  if (rv == MDB_NOTFOUND) return 0;
  return rv > 0 ? -rv : rv; /* what is above 0 is no error here */
}

static int step_row(struct flume_store_cursor *cursor) {
  return get_row(cursor, cursor->reverse ? MDB_PREV : MDB_NEXT);
}

/* The rows from a name on, or in reverse those before it. */
static int seek_rows(struct flume_store_cursor *cursor, const uint8_t *at, size_t len) {
  if (len == 0)
    return cursor->reverse ? 0 : get_row(cursor, MDB_FIRST); /* LMDB has no empty keys: all lies behind it */
  cursor->name = (MDB_val){.mv_data = (void *)at, .mv_size = len};
  int rv = get_row(cursor, MDB_SET_RANGE);
  if (rv != 0 || !cursor->reverse) return rv;
  return get_row(cursor, cursor->has_row ? MDB_PREV : MDB_LAST);
}

static int seek(struct flume_store_cursor *cursor, const uint8_t *at, size_t len) {
  cursor->place = flume_memtable_seek(&cursor->store->tables[cursor->kind], at, len);
  step_pending(cursor);
  return cursor->rows != NULL ? seek_rows(cursor, at, len) : 0;
}

static int seek_to_end(struct flume_store_cursor *cursor) {
  const struct flume_memtable *table = &cursor->store->tables[cursor->kind];
  cursor->place = cursor->reverse ? flume_memtable_end(table) : (struct flume_mem_place){0, 0};
  step_pending(cursor);
  return cursor->rows != NULL ? get_row(cursor, cursor->reverse ? MDB_LAST : MDB_FIRST) : 0;
}

/* Steps one list back by a row, if that is of the same key as `from`: it may have entries behind the one to begin
 * behind. */
static int step_back(struct flume_store_cursor *cursor) {
  const struct flume_memtable *table = &cursor->store->tables[cursor->kind];
  const struct flume__row_name *from = &cursor->from;
  struct flume_mem_place place = flume_memtable_seek(table, from->bytes, from->len);
  struct flume_mem_place before = place;
  const struct flume_mem_entry *entry = flume_memtable_prev(table, &before);
  if (entry != NULL && flume__row_is_same_key(entry->bytes, entry->key_len, from->bytes, from->len)) {
    cursor->place = before;
    step_pending(cursor);
  }
  if (cursor->rows == NULL) return 0;
  int rv = get_row(cursor, cursor->has_row ? MDB_PREV : MDB_LAST);
  if (rv != 0) return rv;
  if (cursor->has_row && flume__row_is_same_key(cursor->name.mv_data, cursor->name.mv_size, from->bytes, from->len)) {
    return 0;
  }
  return seek_rows(cursor, from->bytes, from->len);
}

/* Where a walk begins that goes on behind an entry. */
static int seek_behind(struct flume_store_cursor *cursor) {
  struct flume__row_name *from = &cursor->from;
  if (cursor->kind == FLUME_STORE_GROUPS) {
    uint8_t behind[FLUME__ROW_MAX + 1];
    memcpy(behind, from->bytes, from->len);
    behind[from->len] = 0; /* the first name that can lie behind it */
    return seek(cursor, behind, from->len + (cursor->reverse ? 0 : 1));
  }
  if (cursor->reverse) { /* the row that begins with this seq may have entries before it */
    struct flume__row_name behind = *from;
    flume_put_be64(behind.bytes + behind.len - FLUME__ROW_SEQ, (uint64_t)cursor->from_seq + 1);
    return seek(cursor, behind.bytes, behind.len);
  }
  int rv = seek(cursor, from->bytes, from->len);
  return rv == 0 ? step_back(cursor) : rv;
}

/* Of a bound that is longer than a name can be only the beginning counts here; the rest is seen to by locate. */
static int start(struct flume_store_cursor *cursor) {
  const uint8_t *bound = cursor->reverse ? cursor->upper : cursor->lower;
  size_t len = cursor->reverse ? cursor->upper_len : cursor->lower_len;
  uint8_t behind[FLUME__ROW_MAX + 1];
  cursor->started = true;
  if (cursor->resumes) return seek_behind(cursor);
  if (bound == NULL) return seek_to_end(cursor);
  if (len <= FLUME__ROW_KEY_MAX) return seek(cursor, bound, len);
  memcpy(behind, bound, FLUME__ROW_KEY_MAX);
  memset(behind + FLUME__ROW_KEY_MAX, 0xff, sizeof behind - FLUME__ROW_KEY_MAX);
  return seek(cursor, behind, cursor->reverse ? sizeof behind : FLUME__ROW_KEY_MAX);
}

/* Which list has the next row. Of two rows with the same name the committed one is passed over. */
static int choose(struct flume_store_cursor *cursor, enum side *side) {
  if (cursor->pending == NULL || !cursor->has_row) {
    *side = cursor->pending != NULL ? SIDE_PENDING : cursor->has_row ? SIDE_ROW : SIDE_NONE;
    return 0;
  }
  int order = compare(cursor->pending->bytes, cursor->pending->key_len, cursor->name.mv_data, cursor->name.mv_size);
  if (order == 0) {
    *side = SIDE_PENDING;
    return step_row(cursor);
  }
  *side = (order < 0) != cursor->reverse ? SIDE_PENDING : SIDE_ROW;
  return 0;
}

/* The next row into cursor->row: 1, 0 at the end, or an error. */
static int next_row(struct flume_store_cursor *cursor) {
  for (;;) {
    if (cursor->side == SIDE_PENDING) step_pending(cursor);
    int rv = cursor->side == SIDE_ROW ? step_row(cursor) : 0;
    if (rv == 0) rv = choose(cursor, &cursor->side);
    if (rv != 0 || cursor->side == SIDE_NONE) return rv;
    const struct flume_mem_entry *pending = cursor->pending;
    if (cursor->side == SIDE_ROW) {
      rv = flume__row_read_mapped(&cursor->row, cursor->store, cursor->kind, &cursor->name, &cursor->value);
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

/* Whether a key lies before the range in the cursor's direction, in it, or behind all of it. Keys that were cut are
 * ordered by their first bytes only, and so end nothing. */
enum where { BEFORE, WITHIN, AFTER };

static enum where locate(const struct flume_store_cursor *cursor) {
  const struct flume__row *row = &cursor->row;
  bool below = cursor->lower != NULL && compare(row->key, row->key_len, cursor->lower, cursor->lower_len) < 0;
  bool above = cursor->upper != NULL && compare(row->key, row->key_len, cursor->upper, cursor->upper_len) >= 0;
  if (!below && !above) return WITHIN;
  if (below != cursor->reverse) return BEFORE;
  const uint8_t *bound = below ? cursor->lower : cursor->upper;
  size_t len = below ? cursor->lower_len : cursor->upper_len;
  bool undecided =
      flume__row_is_cut(row->key_len) && len >= FLUME__ROW_KEY_MAX && memcmp(row->key, bound, FLUME__ROW_KEY_MAX) == 0;
  return undecided ? BEFORE : AFTER;
}

/* The next row that lies in the range: 1, 0 at the end, or an error. */
static int next_within(struct flume_store_cursor *cursor) {
  int rv = cursor->started ? 0 : start(cursor);
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
  struct flume__row_name name;
  flume__row_name_make(&name, FLUME_STORE_INDEX, cursor->row.key, cursor->row.key_len, 0);
  return flume__row_is_same_key(name.bytes, name.len, cursor->from.bytes, cursor->from.len);
}

/* The next row's chunk: 1, 0 at the end, or an error. */
static int next_chunk(struct flume_store_cursor *cursor) {
  int rv = next_within(cursor);
  if (rv <= 0) return rv;
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
                                      .value = item.value,
                                      .value_len = item.value_len};
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
