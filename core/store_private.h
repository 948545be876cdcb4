/* A store, as its own files see it.
 *
 *   store.c         opening, state, groups, index: writing, and committing it
 *   store_disk.c    LMDB: environments, transactions, meta data
 *   store_cursor.c  reading ranges
 *
 * Groups and entries go by the name of a *row*: a key that LMDB can take, of the encoded key and, for an index, 8 bytes
 * of seq and 4 of ordinal, both big-endian. A key that is too long is cut, and ends with its checksum instead; its rows
 * have the whole key before their value. So among keys that agree in their first FLUME__ROW_KEY_MAX bytes the order is
 * that of their checksums. */
#ifndef FLUME_STORE_PRIVATE_H
#define FLUME_STORE_PRIVATE_H

#include <lmdb.h>

#include "memtable.h"
#include "store.h"

enum {
  FLUME__ROW_KEY_MAX = 440,                                    /* bytes of a key that are kept as they are */
  FLUME__ROW_SUFFIX = 12,                                      /* seq and ordinal */
  FLUME__ROW_MAX = FLUME__ROW_KEY_MAX + 8 + FLUME__ROW_SUFFIX, /* LMDB takes 511 */
};

struct flume_store {
  const struct flume_io *io;
  char *dir; /* NULL: in memory */
  enum flume_store_access access;
  MDB_env *env; /* NULL until it is needed */
  bool writable;
  bool has_dbs; /* the numbers below are known */
  MDB_dbi meta_db;
  MDB_dbi dbs[2];                  /* by enum flume_store_kind */
  struct flume_memtable tables[2]; /* what is not committed; in memory, all of it */
  struct flume_buf state;          /* not committed, or in memory the one */
  bool has_state;
  struct flume_store_meta meta; /* of a store in memory */
  bool has_meta;
};

struct flume__row {
  uint8_t bytes[FLUME__ROW_MAX];
  size_t len;
};

/* The row of a key; for an index with seq and ordinal. */
void flume__row_make(struct flume__row *row, enum flume_store_kind kind, const void *key, size_t key_len, int64_t seq,
                     uint32_t ordinal);
/* Whether the key is too long to be a row's as it is. */
static inline bool flume__row_is_cut(size_t key_len) {
  return key_len > FLUME__ROW_KEY_MAX;
}
/* Takes a row and its value apart. FLUME_ECORRUPT. */
int flume__row_read(enum flume_store_kind kind, const uint8_t *row, size_t row_len, const uint8_t *value,
                    size_t value_len, struct flume_store_entry *entry);

/* store_disk.c */

/* The code for LMDB's, and a text that names the directory. */
int flume__store_fail(const struct flume_store *store, struct flume_err *err, int rv, const char *doing);
/* A transaction for reading; FLUME_ENOENT when nothing is there yet. The caller aborts it. */
int flume__store_begin(struct flume_store *store, MDB_txn **txn, struct flume_err *err);
int flume__store_load_meta(struct flume_store *store, struct flume_store_meta *meta, struct flume_err *err);
int flume__store_write(struct flume_store *store, const struct flume_store_meta *meta, struct flume_err *err);
int flume__store_drop(struct flume_store *store, struct flume_err *err);
int flume__store_read_state(struct flume_store *store, struct flume_buf *value, struct flume_err *err);
uint64_t flume__store_disk_bytes(const struct flume_store *store);

#endif
