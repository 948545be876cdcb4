/* Writing all rows into a new store, so that nothing is left of what was removed.
 *
 * LMDB leaves the bytes of a removed row in its page, which may be free now, or in a gap between the page's other
 * rows. So the rows are put one by one into a store that has never had others, as many as go into a transaction of
 * moderate size at a time. Only the last transaction brings the meta data: an incomplete store counts for nothing. */
#include <assert.h>

#include "base/err.h"
#include "store/store_private.h"

#define STEP_BYTES ((size_t)1 << 20)

struct flume_store_rewrite {
  struct flume_store *from;
  struct flume_store *to;
  struct flume_store_meta meta;
  enum flume_store_kind kind; /* of the rows that are copied now */
  struct flume_buf last;      /* name of the last row that is committed; empty: none yet */
  struct flume_buf reached;   /* the same, once the current transaction is committed */
  bool is_done;
};

/* --- Beginning and ending
 * ------------------------------------------------------------------------------------------ */

static int open_new(struct flume_store_rewrite *rewrite, const char *dir, struct flume_err *err) {
  struct flume_store *from = rewrite->from;
  int rv = flume_store_open(&rewrite->to, from->io, dir, FLUME_STORE_WRITE, err);
  if (rv != 0) return rv;
  rv = flume__store_open_for_writing(rewrite->to, err);
  if (rv != 0) return rv;
  rv = flume_store_get_state(from, &rewrite->to->state, err);
  rewrite->to->has_state = rv == 0;
  return rv == FLUME_ENOENT ? 0 : rv;
}

int flume_store_rewrite_begin(struct flume_store_rewrite **out, struct flume_store *store, const char *dir,
                              const struct flume_store_meta *meta, struct flume_err *err) {
  assert(store->dir != NULL && store->access == FLUME_STORE_WRITE);
  int rv = flume_io_remove_all(store->io, dir);
  if (rv != 0) return flume_err_set(err, rv, "removing %s: %s", dir, flume_strerror(rv));
  struct flume_store_rewrite *rewrite = flume_io_zalloc(store->io, sizeof *rewrite);
  if (rewrite == NULL) return flume_err_nomem(err);
  rewrite->from = store;
  rewrite->meta = *meta;
  flume_buf_init(&rewrite->last, store->io);
  flume_buf_init(&rewrite->reached, store->io);
  rv = open_new(rewrite, dir, err);
  if (rv != 0) flume_store_rewrite_free(rewrite);
  else *out = rewrite;
  return rv;
}

void flume_store_rewrite_free(struct flume_store_rewrite *rewrite) {
  if (rewrite == NULL) return;
  if (rewrite->to != NULL) flume_store_close(rewrite->to);
  flume_buf_fini(&rewrite->last);
  flume_buf_fini(&rewrite->reached);
  flume_io_free(rewrite->from->io, rewrite);
}

/* --- Copying
 * ------------------------------------------------------------------------------------------------------- */

/* To the row behind the last one that is committed. */
static int seek(const struct flume_store_rewrite *rewrite, struct flume__rows *rows) {
  const struct flume_buf *last = &rewrite->last;
  if (last->len == 0) return flume__rows_end(rows, false);
  int rv = flume__rows_seek(rows, last->data, last->len);
  if (rv != 0) return rv;
  bool is_last = rows->has_row && flume__row_compare(rows->name, rows->name_len, last->data, last->len) == 0;
  return is_last ? flume__rows_step(rows, false) : FLUME_ECORRUPT;
}

/* Copies rows: 0, or MDB_NOTFOUND when there are no more of this kind. */
static int copy_rows(struct flume_store_rewrite *rewrite, struct flume__rows *from, struct flume__rows *to) {
  struct flume__row row;
  size_t bytes = 0;
  int rv = seek(rewrite, from);
  while (rv == 0 && from->has_row) {
    const uint8_t *body = (const uint8_t *)from->value.mv_data + FLUME__ROW_CRC;
    rv = flume__row_read_disk(&row, rewrite->kind, from->name, from->name_len, &from->value);
    if (rv == 0) rv = flume__rows_put(to, from->name, from->name_len, body, from->value.mv_size - FLUME__ROW_CRC, true);
    bytes += from->name_len + from->value.mv_size;
    if (rv == 0 && bytes >= STEP_BYTES) break;
    if (rv == 0) rv = flume__rows_step(from, false);
  }
  if (rv != 0) return rv;
  if (!from->has_row) return MDB_NOTFOUND;
  rewrite->reached.len = 0;
  return flume_buf_append(&rewrite->reached, from->name, from->name_len);
}

static int copy_some(struct flume_store_rewrite *rewrite, MDB_txn *from_txn, MDB_txn *to_txn) {
  struct flume__rows from, to;
  const struct flume_io *io = rewrite->from->io;
  int rv = flume__rows_open(&from, rewrite->from->env, io, rewrite->kind, from_txn, false);
  if (rv == 0) {
    rv = flume__rows_open(&to, rewrite->to->env, io, rewrite->kind, to_txn, true);
    if (rv == 0) rv = copy_rows(rewrite, &from, &to);
    flume__rows_close(&to);
  }
  flume__rows_close(&from);
  return rv;
}

/* State and meta data, which make the rows a store. */
static int put_rest(struct flume_store_rewrite *rewrite, MDB_txn *txn) {
  int rv = flume__store_put_state(rewrite->to, txn);
  if (rv == 0) rv = flume__store_put_erased(rewrite->to, txn, rewrite->meta.deletions);
  return rv == 0 ? flume__store_put_meta(rewrite->to, txn, &rewrite->meta) : rv;
}

/* One transaction of the new store: 0, or MDB_NOTFOUND when that was the last one of its kind of rows. */
static int write_some(struct flume_store_rewrite *rewrite, MDB_txn *from_txn) {
  struct flume__env *env = rewrite->to->env;
  MDB_txn *txn;
  bool is_first;
  int rv = flume__env_begin_writing(env, &txn, &is_first);
  if (rv != 0) return rv;
  int copied = copy_some(rewrite, from_txn, txn);
  bool is_last = copied == MDB_NOTFOUND && rewrite->kind == FLUME_STORE_INDEX;
  rv = is_last ? put_rest(rewrite, txn) : copied == MDB_NOTFOUND ? 0 : copied;
  if (rv != 0) {
    mdb_txn_abort(txn);
    flume__env_end_writing(env, is_first, false);
    return rv;
  }
  rv = mdb_txn_commit(txn);
  flume__env_end_writing(env, is_first, rv == 0);
  return rv != 0 ? rv : copied;
}

/* Notes that a transaction is committed. has_more: there are more rows of its kind. */
static void go_on(struct flume_store_rewrite *rewrite, bool has_more) {
  struct flume_buf last = rewrite->last;
  rewrite->last = rewrite->reached;
  rewrite->reached = last;
  if (has_more) return;
  rewrite->last.len = 0;
  rewrite->is_done = rewrite->kind == FLUME_STORE_INDEX;
  rewrite->kind = FLUME_STORE_INDEX;
}

int flume_store_rewrite_step(struct flume_store_rewrite *rewrite, struct flume_err *err) {
  struct flume_store *to = rewrite->to;
  MDB_txn *txn;
  assert(!rewrite->is_done);
  int rv = flume__store_begin(rewrite->from, &txn, err);
  if (rv != 0) return rv;
  rv = write_some(rewrite, txn);
  while (rv == MDB_MAP_FULL) {
    rv = flume__store_grow(to);
    if (rv == 0) rv = write_some(rewrite, txn);
  }
  flume__store_end(rewrite->from, txn);
  if (rv != 0 && rv != MDB_NOTFOUND) return flume__store_fail(to, err, rv, "writing the rows of");
  go_on(rewrite, rv == 0);
  if (!rewrite->is_done) return 1;
  flume__env_fill_file(to->env, to->io);
  flume__store_close_env(to);
  return 0;
}
