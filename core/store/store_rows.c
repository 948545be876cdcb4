/* Rows on disk, by names of any length and in the order of these.
 *
 * LMDB takes names of at most 511 bytes. A row whose key is longer than FLUME__NAME_KEY_MAX bytes lies in a tree of
 * nodes:
 *
 *   rows_db    key, seq                        a row with a short key
 *              first 440 bytes, mark           all rows whose keys begin with these: number of a node
 *   tails_db   node, rest of the key, seq      a row of the node
 *              node, next 432 bytes, mark      rows of the node whose keys go on with these: number of a node
 *
 * A mark is nine bytes 0xff. No key begins another one, so that nothing else lies where the rows of the mark's node
 * belong. A node has at least one row, and its number is above that of its parent: a walk through damaged nodes ends.
 * The checksum of a row is of its whole name and so of the way to it; that of a mark is of the bytes of the key that
 * lead to it. */
#include <assert.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "store/store_private.h"

static const uint8_t mark[FLUME__MARK_BYTES] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

/* Bytes of a key that lie above the nodes of a depth. */
static size_t bytes_above(unsigned depth) {
  return depth == 0 ? 0 : FLUME__NAME_KEY_MAX + (size_t)FLUME__TAIL_STRIDE * (depth - 1);
}

static size_t stride_of(unsigned depth) {
  return depth == 0 ? FLUME__NAME_KEY_MAX : FLUME__TAIL_STRIDE;
}

static size_t node_bytes(unsigned depth) {
  return depth == 0 ? 0 : FLUME__NODE_BYTES;
}

int flume__rows_open(struct flume__rows *rows, struct flume__env *env, const struct flume_io *io,
                     enum flume_store_kind kind, MDB_txn *txn, bool is_writing) {
  *rows = (struct flume__rows){.env = env, .io = io, .kind = kind, .txn = txn, .is_writing = is_writing};
  flume_buf_init(&rows->path, io);
  int rv = mdb_cursor_open(txn, env->rows_db[kind], &rows->rows);
  if (rv != 0) rows->rows = NULL;
  return rv;
}

void flume__rows_close(struct flume__rows *rows) {
  if (rows->tails != NULL) mdb_cursor_close(rows->tails);
  if (rows->rows != NULL) mdb_cursor_close(rows->rows);
  flume_buf_fini(&rows->path);
}

static int cursor_of(struct flume__rows *rows, unsigned depth, MDB_cursor **cursor) {
  *cursor = depth == 0 ? rows->rows : rows->tails;
  if (*cursor != NULL) return 0;
  int rv = mdb_cursor_open(rows->txn, rows->env->tails_db[rows->kind], &rows->tails);
  if (rv != 0) rows->tails = NULL;
  *cursor = rows->tails;
  return rv;
}

/* Whether LMDB's bytes may be read: pages of a transaction for writing are not all in the map, but were verified. */
static bool may_read(const struct flume__rows *rows, const MDB_val *value) {
  return rows->is_writing || flume__env_is_mapped(rows->env, value);
}

static bool is_mark(const MDB_val *name) {
  return name->mv_size == FLUME__MARK_NAME;
}

/* The number that a mark has; path has the bytes of keys that lead to it. */
static int read_mark(const uint8_t *path, size_t len, const MDB_val *value, uint64_t parent, uint64_t *node) {
  const uint8_t *data = value->mv_data;
  if (value->mv_size != FLUME__ROW_CRC + FLUME__NODE_BYTES) return FLUME_ECORRUPT;
  uint32_t crc = flume_crc32c(flume_crc32c(0, path, len), data + FLUME__ROW_CRC, FLUME__NODE_BYTES);
  if (crc != flume_get_le32(data)) return FLUME_ECORRUPT;
  *node = flume_get_be64(data + FLUME__ROW_CRC);
  return *node > parent && *node < UINT64_MAX ? 0 : FLUME_ECORRUPT;
}

static void put_mark(uint8_t *out, const uint8_t *path, size_t len, uint64_t node) {
  flume_put_be64(out + FLUME__ROW_CRC, node);
  flume_put_le32(out, flume_crc32c(flume_crc32c(0, path, len), out + FLUME__ROW_CRC, FLUME__NODE_BYTES));
}

/* --- Walking ------------------------------------------------------------------------------------------------------ */

/* The name of the mark that leads from depth to the node below, for the bytes of keys in path. */
static MDB_val mark_name(uint8_t *out, const uint8_t *path, unsigned depth, uint64_t node) {
  size_t len = node_bytes(depth);
  if (depth > 0) flume_put_be64(out, node);
  memcpy(out + len, path + bytes_above(depth), stride_of(depth));
  memcpy(out + FLUME__NAME_KEY_MAX, mark, sizeof mark);
  return (MDB_val){.mv_data = out, .mv_size = FLUME__MARK_NAME};
}

/* What LMDB's cursor is at, or was moved to with op; *found says whether that is in the node. */
static int get(struct flume__rows *rows, MDB_cursor_op op, MDB_val *name, bool *found) {
  MDB_cursor *cursor;
  int rv = cursor_of(rows, rows->depth, &cursor);
  if (rv == 0) rv = mdb_cursor_get(cursor, name, &rows->value, op);
  *found = rv == 0;
  if (rv != 0) return rv == MDB_NOTFOUND ? 0 : rv > 0 ? -rv : rv;
  if (!may_read(rows, name) || !may_read(rows, &rows->value)) return FLUME_ECORRUPT;
  if (rows->depth == 0) return 0;
  if (name->mv_size < FLUME__NODE_BYTES) return FLUME_ECORRUPT;
  *found = flume_get_be64(name->mv_data) == rows->nodes[rows->depth];
  return 0;
}

/* Goes down through a mark: its bytes go to the path, and the cursor to the first or last row of the node. */
static int enter_node(struct flume__rows *rows, const MDB_val *name, uint64_t *node) {
  size_t above = bytes_above(rows->depth), skip = node_bytes(rows->depth);
  const uint8_t *bytes = name->mv_data;
  if (rows->depth + 1 >= FLUME__ROW_LEVELS) return FLUME_ECORRUPT;
  if (memcmp(bytes + FLUME__NAME_KEY_MAX, mark, sizeof mark) != 0) return FLUME_ECORRUPT;
  rows->path.len = above;
  int rv = flume_buf_append(&rows->path, bytes + skip, FLUME__NAME_KEY_MAX - skip);
  if (rv == 0) rv = read_mark(rows->path.data, rows->path.len, &rows->value, rows->nodes[rows->depth], node);
  if (rv == 0) rows->nodes[++rows->depth] = *node;
  return rv;
}

static int go_down(struct flume__rows *rows, MDB_val *name, bool reverse) {
  uint8_t bytes[FLUME__NODE_BYTES];
  uint64_t node;
  MDB_cursor *cursor = NULL;
  MDB_val at = {.mv_data = bytes, .mv_size = sizeof bytes}, value;
  bool found;
  int rv = enter_node(rows, name, &node);
  if (rv == 0) rv = cursor_of(rows, rows->depth, &cursor);
  if (rv != 0) return rv;
  flume_put_be64(bytes, node + reverse);
  rv = mdb_cursor_get(cursor, &at, &value, MDB_SET_RANGE);
  if (rv != 0 && rv != MDB_NOTFOUND) return rv;
  MDB_cursor_op op = !reverse ? MDB_GET_CURRENT : rv == 0 ? MDB_PREV : MDB_LAST;
  if (rv != 0 && !reverse) return FLUME_ECORRUPT;
  rv = get(rows, op, name, &found);
  return rv == 0 && !found ? FLUME_ECORRUPT : rv;
}

/* Goes up to the mark that led to the node. */
static int go_up(struct flume__rows *rows) {
  uint8_t bytes[FLUME__MARK_NAME];
  bool found;
  assert(rows->depth > 0);
  if (--rows->depth == 0) return 0; /* that cursor has stayed there */
  MDB_val name = mark_name(bytes, rows->path.data, rows->depth, rows->nodes[rows->depth]);
  int rv = get(rows, MDB_SET_KEY, &name, &found);
  return rv == 0 && !found ? FLUME_ECORRUPT : rv;
}

/* From what the cursor is at, or from the end of a node, to a row. */
static int settle(struct flume__rows *rows, MDB_val *name, bool found, bool reverse) {
  int rv = 0;
  rows->has_row = false;
  while (rv == 0) {
    if (found && !is_mark(name)) break;
    if (found) {
      rv = go_down(rows, name, reverse);
    } else {
      if (rows->depth == 0) return 0;
      rv = go_up(rows);
      if (rv == 0) rv = get(rows, reverse ? MDB_PREV : MDB_NEXT, name, &found);
    }
  }
  if (rv != 0) return rv;
  rows->has_row = true;
  rows->name = name->mv_data;
  rows->name_len = name->mv_size;
  if (rows->depth > 0) {
    rows->path.len = bytes_above(rows->depth);
    rv = flume_buf_append(&rows->path, (uint8_t *)name->mv_data + FLUME__NODE_BYTES, name->mv_size - FLUME__NODE_BYTES);
    rows->name = rows->path.data;
    rows->name_len = rows->path.len;
  }
  return rv == 0 && rows->name_len > FLUME_STORE_KEY_MAX + FLUME__ROW_SEQ ? FLUME_ECORRUPT : rv;
}

int flume__rows_end(struct flume__rows *rows, bool reverse) {
  MDB_val name;
  bool found;
  rows->depth = 0;
  int rv = get(rows, reverse ? MDB_LAST : MDB_FIRST, &name, &found);
  return rv == 0 ? settle(rows, &name, found, reverse) : rv;
}

int flume__rows_step(struct flume__rows *rows, bool reverse) {
  MDB_val name;
  bool found;
  assert(rows->has_row);
  int rv = get(rows, reverse ? MDB_PREV : MDB_NEXT, &name, &found);
  return rv == 0 ? settle(rows, &name, found, reverse) : rv;
}

/* In the node at rows->depth, to the first row that is not below the rest of the name. *below: it is a mark whose
 * rows may lie on both sides of the name. */
static int seek_in_node(struct flume__rows *rows, const uint8_t *rest, size_t len, MDB_val *name, bool *found,
                        bool *below) {
  uint8_t target[FLUME__MARK_NAME];
  size_t skip = node_bytes(rows->depth), stride = stride_of(rows->depth);
  size_t taken = len < stride + FLUME__ROW_SEQ ? len : stride + FLUME__ROW_SEQ;
  if (skip > 0) flume_put_be64(target, rows->nodes[rows->depth]);
  if (taken > 0) memcpy(target + skip, rest, taken);
  *name = (MDB_val){.mv_data = target, .mv_size = skip + taken};
  int rv = name->mv_size == 0 ? get(rows, MDB_FIRST, name, found) : get(rows, MDB_SET_RANGE, name, found);
  bool is_cut = taken < len && rv == 0 && *found && name->mv_size == skip + taken &&
                memcmp(name->mv_data, target, skip + taken) == 0;
  if (is_cut) rv = get(rows, MDB_NEXT, name, found); /* a row that the name begins with lies before it */
  *below =
      rv == 0 && *found && is_mark(name) && len > stride && memcmp((uint8_t *)name->mv_data + skip, rest, stride) == 0;
  return rv;
}

int flume__rows_seek(struct flume__rows *rows, const uint8_t *name, size_t len) {
  MDB_val at;
  bool found, below;
  uint64_t node;
  rows->depth = 0;
  for (;;) {
    size_t above = bytes_above(rows->depth);
    int rv = seek_in_node(rows, name + above, len - above, &at, &found, &below);
    if (rv != 0) return rv;
    if (!below) return settle(rows, &at, found, false);
    rv = enter_node(rows, &at, &node);
    if (rv != 0) return rv;
  }
}

/* --- Single rows -------------------------------------------------------------------------------------------------- */

/* Where a row is, or would be. */
struct row_place {
  unsigned depth; /* 0: in rows_db; else in tails_db */
  size_t len;
  uint8_t name[FLUME__MARK_NAME]; /* there */
};

/* The node that the mark for the name leads to from depth. MDB_NOTFOUND. */
static int find_node(struct flume__rows *rows, const uint8_t *name, unsigned depth, uint64_t *node) {
  uint8_t bytes[FLUME__MARK_NAME];
  MDB_cursor *cursor;
  MDB_val value, key = mark_name(bytes, name, depth, *node);
  int rv = cursor_of(rows, depth, &cursor);
  if (rv == 0) rv = mdb_cursor_get(cursor, &key, &value, MDB_SET);
  if (rv == 0 && !may_read(rows, &value)) rv = FLUME_ECORRUPT;
  return rv == 0 ? read_mark(name, bytes_above(depth + 1), &value, *node, node) : rv;
}

static void end_place(struct row_place *place, const uint8_t *name, size_t len, uint64_t node) {
  size_t above = bytes_above(place->depth), skip = node_bytes(place->depth);
  assert(len - above + skip < sizeof place->name);
  if (skip > 0) flume_put_be64(place->name, node);
  memcpy(place->name + skip, name + above, len - above);
  place->len = skip + len - above;
}

/* The place of the row with this name. FLUME_ENOENT: a node on the way is not there. */
static int locate(struct flume__rows *rows, const uint8_t *name, size_t len, struct row_place *place) {
  size_t key_len = len - flume__row_suffix(rows->kind);
  uint64_t node = 0;
  assert(len > flume__row_suffix(rows->kind) && key_len <= FLUME_STORE_KEY_MAX);
  for (place->depth = 0; key_len - bytes_above(place->depth) > stride_of(place->depth); place->depth++) {
    int rv = find_node(rows, name, place->depth, &node);
    if (rv != 0) return rv == MDB_NOTFOUND ? FLUME_ENOENT : rv;
  }
  end_place(place, name, len, node);
  return 0;
}

/* The number for a new node: above those of all nodes that have rows. */
static int next_node(struct flume__rows *rows, uint64_t *node) {
  MDB_cursor *cursor;
  MDB_val name, value;
  int rv = cursor_of(rows, 1, &cursor);
  if (rv == 0) rv = mdb_cursor_get(cursor, &name, &value, MDB_LAST);
  if (rv == 0 && name.mv_size < FLUME__NODE_BYTES) rv = FLUME_ECORRUPT;
  if (rv == 0) *node = flume_get_be64(name.mv_data) + 1;
  else if (rv == MDB_NOTFOUND) *node = 1, rv = 0;
  return rv == 0 && *node > UINT64_MAX - FLUME__ROW_LEVELS ? FLUME_ECORRUPT : rv;
}

static int add_mark(struct flume__rows *rows, const uint8_t *name, unsigned depth, uint64_t parent, uint64_t node,
                    bool appends) {
  uint8_t bytes[FLUME__MARK_NAME], body[FLUME__ROW_CRC + FLUME__NODE_BYTES];
  MDB_cursor *cursor;
  MDB_val key = mark_name(bytes, name, depth, parent), value = {.mv_data = body, .mv_size = sizeof body};
  int rv = cursor_of(rows, depth, &cursor);
  put_mark(body, name, bytes_above(depth + 1), node);
  return rv == 0 ? mdb_cursor_put(cursor, &key, &value, depth == 0 && appends ? MDB_APPEND : 0) : rv;
}

/* The same, and makes the nodes. */
static int make_place(struct flume__rows *rows, const uint8_t *name, size_t len, bool appends,
                      struct row_place *place) {
  size_t key_len = len - flume__row_suffix(rows->kind);
  uint64_t node = 0, made = 0;
  assert(rows->is_writing && len > flume__row_suffix(rows->kind) && key_len <= FLUME_STORE_KEY_MAX);
  for (place->depth = 0; key_len - bytes_above(place->depth) > stride_of(place->depth); place->depth++) {
    uint64_t parent = node;
    int rv = made > 0 ? MDB_NOTFOUND : find_node(rows, name, place->depth, &node);
    if (rv != 0 && rv != MDB_NOTFOUND) return rv;
    if (rv == 0) continue;
    rv = made > 0 ? 0 : next_node(rows, &made);
    node = made++;
    if (rv == 0 && node <= parent) rv = FLUME_ECORRUPT;
    if (rv == 0) rv = add_mark(rows, name, place->depth, parent, node, appends);
    if (rv != 0) return rv;
  }
  end_place(place, name, len, node);
  return 0;
}

int flume__rows_put(struct flume__rows *rows, const uint8_t *name, size_t len, const uint8_t *body, size_t body_len,
                    bool appends) {
  struct row_place place;
  MDB_cursor *cursor;
  int rv = make_place(rows, name, len, appends, &place);
  if (rv == 0) rv = cursor_of(rows, place.depth, &cursor);
  if (rv != 0) return rv;
  MDB_val key = {.mv_data = place.name, .mv_size = place.len}, value = {.mv_size = FLUME__ROW_CRC + body_len};
  uint32_t crc = flume_crc32c(flume_crc32c(0, name, len), body, body_len);
  bool at_end = appends && place.depth == 0;
  rv = mdb_cursor_put(cursor, &key, &value, MDB_RESERVE | (at_end ? MDB_APPEND : 0));
  if (rv != 0) return rv;
  flume_put_le32(value.mv_data, crc);
  if (body_len > 0) memcpy((uint8_t *)value.mv_data + FLUME__ROW_CRC, body, body_len);
  return 0;
}

static int remove_name(struct flume__rows *rows, unsigned depth, MDB_val *name) {
  MDB_cursor *cursor;
  MDB_val value;
  int rv = cursor_of(rows, depth, &cursor);
  if (rv == 0) rv = mdb_cursor_get(cursor, name, &value, MDB_SET);
  return rv == 0 ? mdb_cursor_del(cursor, 0) : rv;
}

/* 1 when the node has no rows. */
static int is_empty(struct flume__rows *rows, uint64_t node) {
  uint8_t bytes[FLUME__NODE_BYTES];
  MDB_val value, name = {.mv_data = bytes, .mv_size = sizeof bytes};
  flume_put_be64(bytes, node);
  int rv = mdb_cursor_get(rows->tails, &name, &value, MDB_SET_RANGE);
  if (rv != 0) return rv == MDB_NOTFOUND ? 1 : rv > 0 ? -rv : rv;
  return name.mv_size < FLUME__NODE_BYTES || flume_get_be64(name.mv_data) != node;
}

int flume__rows_remove(struct flume__rows *rows, const uint8_t *name, size_t len) {
  struct row_place place;
  uint8_t bytes[FLUME__MARK_NAME];
  uint64_t nodes[FLUME__ROW_LEVELS] = {0};
  assert(rows->is_writing);
  int rv = locate(rows, name, len, &place);
  for (unsigned depth = 0; rv == 0 && depth < place.depth; depth++) {
    nodes[depth + 1] = nodes[depth];
    rv = find_node(rows, name, depth, &nodes[depth + 1]);
  }
  MDB_val at = {.mv_data = place.name, .mv_size = place.len};
  if (rv == 0) rv = remove_name(rows, place.depth, &at);
  for (unsigned depth = place.depth; rv == 0 && depth > 0; depth--) {
    rv = is_empty(rows, nodes[depth]);
    if (rv != 1) break;
    at = mark_name(bytes, name, depth - 1, nodes[depth - 1]);
    rv = remove_name(rows, depth - 1, &at);
  }
  return rv == FLUME_ENOENT || rv == MDB_NOTFOUND ? 0 : rv;
}

int flume__rows_get(struct flume__rows *rows, const uint8_t *name, size_t len, MDB_val *value) {
  struct row_place place;
  MDB_cursor *cursor = NULL;
  int rv = locate(rows, name, len, &place);
  if (rv == 0) rv = cursor_of(rows, place.depth, &cursor);
  if (rv != 0) return rv;
  MDB_val at = {.mv_data = place.name, .mv_size = place.len};
  rv = mdb_cursor_get(cursor, &at, value, MDB_SET);
  if (rv != 0) return rv == MDB_NOTFOUND ? FLUME_ENOENT : rv;
  return may_read(rows, value) ? 0 : FLUME_ECORRUPT;
}

int flume__rows_find_before(struct flume__rows *rows, const uint8_t *name, size_t len, bool *at_end) {
  assert(rows->kind == FLUME_STORE_INDEX);
  int rv = flume__rows_seek(rows, name, len);
  *at_end = rv == 0 && !rows->has_row;
  if (rv == 0 && rows->has_row && flume__row_compare(rows->name, rows->name_len, name, len) == 0) return 0;
  if (rv == 0) rv = rows->has_row ? flume__rows_step(rows, true) : flume__rows_end(rows, true);
  if (rv == 0 && rows->has_row) rows->has_row = flume__row_is_same_key(rows->name, rows->name_len, name, len);
  return rv;
}
