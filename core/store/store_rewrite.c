/* Writing a store anew, so that nothing is left of what was removed from it.
 *
 * LMDB leaves the bytes of a removed row in its page, which may be free now, or in the gap between the rows of one that is
 * not; copying pages would bring along the gaps. So the rows are put one by one into a store that has never had any other,
 * as many as go into a transaction of moderate size at a time. Only the last transaction brings the meta data: a store that
 * was cut short counts for nothing. */
#include <assert.h>

#include "base/err.h"
#include "store/store_private.h"

#define STEP_BYTES ((size_t)1 << 20)

struct flume_store_rewrite {
  struct flume_store *from;
  struct flume_store *to;
  struct flume_store_meta meta;
  enum flume_store_kind kind; /* what is being copied */
  struct flume_buf last;      /* name of the last row of it that is there; empty: none yet */
  struct flume_buf reached;   /* the same, when the transaction under way is committed */
  bool is_done;
};

/* --- Beginning and ending ------------------------------------------------------------------------------------------ */

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

/* --- Copying ------------------------------------------------------------------------------------------------------- */

/* To the row behind the last one that is there. */
static int seek(const struct flume_store_rewrite *rewrite, MDB_cursor *cursor, MDB_val *name, MDB_val *value) {
  if (rewrite->last.len == 0) return mdb_cursor_get(cursor, name, value, MDB_FIRST);
  *name = (MDB_val){.mv_data = rewrite->last.data, .mv_size = rewrite->last.len};
  int rv = mdb_cursor_get(cursor, name, value, MDB_SET_KEY);
  return rv == 0 ? mdb_cursor_get(cursor, name, value, MDB_NEXT) : FLUME_ECORRUPT;
}

/* Copies rows from cursor to cursor: 0, or MDB_NOTFOUND when there are no more of this kind. */
static int copy_rows(struct flume_store_rewrite *rewrite, MDB_cursor *from, MDB_cursor *to) {
  MDB_val name, value;
  struct flume__row row;
  size_t bytes = 0;
  int rv = seek(rewrite, from, &name, &value);
  while (rv == 0) {
    rv = flume__row_read_mapped(&row, rewrite->from, rewrite->kind, &name, &value);
    if (rv == 0) rv = mdb_cursor_put(to, &name, &value, MDB_APPEND);
    bytes += name.mv_size + value.mv_size;
    if (rv == 0 && bytes >= STEP_BYTES) break;
    if (rv == 0) rv = mdb_cursor_get(from, &name, &value, MDB_NEXT);
  }
  if (rv != 0) return rv;
  rewrite->reached.len = 0;
  return flume_buf_append(&rewrite->reached, name.mv_data, name.mv_size);
}

static int copy_some(struct flume_store_rewrite *rewrite, MDB_txn *from_txn, MDB_txn *to_txn) {
  MDB_cursor *from, *to;
  int rv = mdb_cursor_open(from_txn, rewrite->from->dbs[rewrite->kind], &from);
  if (rv != 0) return rv;
  rv = mdb_cursor_open(to_txn, rewrite->to->dbs[rewrite->kind], &to);
  if (rv == 0) {
    rv = copy_rows(rewrite, from, to);
    mdb_cursor_close(to);
  }
  mdb_cursor_close(from);
  return rv;
}

/* What makes a store of the rows. */
static int put_rest(struct flume_store_rewrite *rewrite, MDB_txn *txn) {
  int rv = flume__store_put_state(rewrite->to, txn);
  if (rv == 0) rv = flume__store_put_erased(rewrite->to, txn, rewrite->meta.deletions);
  return rv == 0 ? flume__store_put_meta(rewrite->to, txn, &rewrite->meta) : rv;
}

/* One transaction of the new store: 0, or MDB_NOTFOUND when that was the last one of its kind of rows. */
static int write_some(struct flume_store_rewrite *rewrite, MDB_txn *from_txn) {
  MDB_txn *txn;
  int rv = flume__store_begin_writing(rewrite->to, &txn);
  if (rv != 0) return rv;
  int copied = copy_some(rewrite, from_txn, txn);
  bool is_last = copied == MDB_NOTFOUND && rewrite->kind == FLUME_STORE_INDEX;
  rv = is_last ? put_rest(rewrite, txn) : copied == MDB_NOTFOUND ? 0 : copied;
  if (rv != 0) {
    mdb_txn_abort(txn);
    return rv;
  }
  rv = mdb_txn_commit(txn);
  if (rv != 0) return rv;
  rewrite->to->has_dbs = true;
  return copied;
}

/* The rows that the transaction brought are there; or all of their kind. */
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
  if (rv != 0 && rv != MDB_NOTFOUND) return flume__store_fail(to, err, rv, "writing anew");
  go_on(rewrite, rv == 0);
  if (!rewrite->is_done) return 1;
  flume__store_fill_file(to);
  flume__store_close_env(to);
  return 0;
}
