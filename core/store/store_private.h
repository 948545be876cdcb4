/* A store, as its own files see it.
 *
 *   store.c         opening, state, groups
 *   store_index.c   entries: adding and removing
 *   store_disk.c    LMDB: environments, transactions, meta data
 *   store_commit.c  writing what is pending to LMDB
 *   store_cursor.c  reading ranges
 *   store_rewrite.c writing all of it anew
 *
 * Groups and entries are kept in *rows*, the same in memory and on disk (core/FORMAT.md):
 *
 *   name   a key that LMDB can take: the encoded key, and in an index 8 bytes of seq, big-endian, behind it
 *   body   a group's value; in an index a chunk (chunk.h) of the key's entries from that seq on
 *
 * A key that is too long is cut, and ends with a digest instead; its rows have the whole key at the beginning of the
 * body. So among keys that agree in their first FLUME__ROW_KEY_MAX bytes the order is that of their digests. On disk a
 * checksum of name and body lies before the body.
 *
 * Of the chunks of a key each one's seqs lie above those of the one before it, whether they are pending or on disk. A
 * pending row is a new one (FLUME_MEM_PUT), or takes the place of the row on disk that has its name (FLUME_MEM_REPLACED,
 * FLUME_MEM_GONE): entries were removed from that. New entries go to new rows only. */
#ifndef FLUME_STORE_PRIVATE_H
#define FLUME_STORE_PRIVATE_H

#include <lmdb.h>

#include "store/memtable.h"
#include "store/postings.h"
#include "store/store.h"

enum {
  FLUME__ROW_KEY_MAX = 440, /* bytes of a key that are kept as they are */
  FLUME__ROW_DIGEST = 16,   /* of a longer one */
  FLUME__ROW_SEQ = 8,
  FLUME__ROW_MAX = FLUME__ROW_KEY_MAX + FLUME__ROW_DIGEST + FLUME__ROW_SEQ, /* LMDB takes 511 */
  FLUME__ROW_CRC = 4,                                                       /* before the body, on disk */
};

struct flume_store {
  const struct flume_io *io;
  char *dir; /* NULL: in memory */
  enum flume_store_access access;
  MDB_env *env;  /* NULL until it is needed */
  MDB_txn *idle; /* one for reading that waits to be used again; NULL for none */
  MDB_txn *held; /* FLUME_STORE_READ: the snapshot that everything is read from; NULL until there is one */
  size_t page_bytes;
  bool writable;
  bool in_doubt; /* what is pending may be on disk, see store_commit.c: nothing is opened */
  bool has_dbs;  /* the numbers below are known */
  MDB_dbi meta_db;
  MDB_dbi dbs[2];                  /* by enum flume_store_kind */
  struct flume_memtable tables[2]; /* what is not committed; in memory, all of it */
  int64_t last_seq;                /* of an entry that was added; no later one lies below it */
  int64_t committed_seq;           /* what was committed last; entries to come lie above it */
  struct flume_buf state;          /* not committed, or in memory the one */
  bool has_state;
  struct flume_store_meta meta; /* of a store in memory */
  bool has_meta;
};

struct flume__row_name {
  uint8_t bytes[FLUME__ROW_MAX];
  size_t len;
};

/* The name of a group's row, or of an index' row that begins with seq. */
void flume__row_name_make(struct flume__row_name *name, enum flume_store_kind kind, const void *key, size_t key_len,
                          int64_t seq);

/* Whether the key is too long to be in a name as it is. */
static inline bool flume__row_is_cut(size_t key_len) {
  return key_len > FLUME__ROW_KEY_MAX;
}

/* Whether two names of rows of an index are of the same key. */
bool flume__row_is_same_key(const void *a, size_t a_len, const void *b, size_t b_len);

/* A row that was taken apart. Borrowed from where it is. */
struct flume__row {
  const uint8_t *key;
  size_t key_len;
  int64_t seq;         /* index: that the chunk begins with; -1 for groups */
  const uint8_t *data; /* value or chunk */
  size_t len;
};

/* Takes name and body apart. FLUME_ECORRUPT. */
int flume__row_read(struct flume__row *row, enum flume_store_kind kind, const void *name, size_t name_len,
                    const uint8_t *body, size_t body_len);
/* The same for a row on disk, whose checksum is looked at. */
int flume__row_read_disk(struct flume__row *row, enum flume_store_kind kind, const MDB_val *name, const MDB_val *value);
/* The same in a transaction for reading: also when a page is damaged nothing beyond the file is touched. */
int flume__row_read_mapped(struct flume__row *row, const struct flume_store *store, enum flume_store_kind kind,
                           const MDB_val *name, const MDB_val *value);

/* Bytes that the body has before value or chunk. */
static inline size_t flume__row_key_bytes(size_t key_len) {
  return flume__row_is_cut(key_len) ? 4 + key_len : 0;
}
/* Writes these; body has room for them. */
void flume__row_put_key(uint8_t *body, const void *key, size_t key_len);

/* store_disk.c */

/* The code for LMDB's, and a text that names the directory. */
int flume__store_fail(const struct flume_store *store, struct flume_err *err, int rv, const char *doing);
/* A transaction for reading; FLUME_ENOENT when nothing is there yet. The caller gives it back. */
int flume__store_begin(struct flume_store *store, MDB_txn **txn, struct flume_err *err);
void flume__store_end(struct flume_store *store, MDB_txn *txn);
/* A transaction for writing, with the databases made. The caller ends it. */
int flume__store_begin_writing(struct flume_store *store, MDB_txn **txn);
/* Makes the environment one for writing. */
int flume__store_open_for_writing(struct flume_store *store, struct flume_err *err);
/* Opens the environment, with flags of LMDB's. A code of LMDB's or of ours. */
int flume__store_open_env(struct flume_store *store, unsigned flags);
void flume__store_close_env(struct flume_store *store);
/* Of an environment that was just opened: learns the size of its pages. FLUME_ECORRUPT when the file was cut short. */
int flume__store_look_at_env(struct flume_store *store);
/* After a commit: LMDB does not write pages that were allocated and freed again in the same transaction, and so leaves a
 * file that may end before the last page it counts. Makes it as long as that, so that a shorter one is damaged. Where this
 * fails nothing is wrong yet; the store is built anew when it is next opened. */
void flume__store_fill_file(struct flume_store *store);
/* Whether the value that LMDB gave in a transaction for reading lies in the pages that it should. */
bool flume__store_is_mapped(const struct flume_store *store, const MDB_val *value);
/* FLUME_STORE_READ: the next read begins a new snapshot. */
void flume__store_let_go(struct flume_store *store);
/* See flume_store_renew. */
int flume__store_renew(struct flume_store *store, const struct flume_store_meta *own,
                       const struct flume_store_meta *limit, struct flume_store_meta *meta, struct flume_err *err);
int flume__store_load_meta(struct flume_store *store, struct flume_store_meta *meta, struct flume_err *err);
int flume__store_put_meta(struct flume_store *store, MDB_txn *txn, const struct flume_store_meta *meta);
int flume__store_put_state(struct flume_store *store, MDB_txn *txn);
int flume__store_read_state(struct flume_store *store, struct flume_buf *value, struct flume_err *err);
int64_t flume__store_read_erased(struct flume_store *store, struct flume_err *err);
int flume__store_put_erased(struct flume_store *store, MDB_txn *txn, int64_t deletions);
/* Whether what was folded by the same as own is not behind it, nor beyond limit. */
bool flume__store_fits(const struct flume_store_meta *meta, const struct flume_store_meta *own,
                       const struct flume_store_meta *limit);
uint64_t flume__store_disk_bytes(const struct flume_store *store);

/* store_commit.c */

int flume__store_write(struct flume_store *store, const struct flume_store_meta *meta, struct flume_err *err);
/* A larger map, after MDB_MAP_FULL. No transaction may be open. A code of LMDB's. */
int flume__store_grow(struct flume_store *store);
int flume__store_drop(struct flume_store *store, struct flume_err *err);

#endif
