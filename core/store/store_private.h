/* A store, as its own files see it.
 *
 *   store.c         opening, state, groups
 *   store_index.c   entries: adding and removing
 *   store_env.c     LMDB environments, one per directory in a process
 *   store_rows.c    rows on disk, by names of any length
 *   store_disk.c    transactions and meta data
 *   store_commit.c  writing what is pending to LMDB
 *   store_cursor.c  reading ranges
 *   store_rewrite.c writing all rows into a new store
 *
 * Groups and entries are kept in *rows*, the same in memory and on disk (core/FORMAT.md):
 *
 *   name   the encoded key, and in an index 8 bytes of seq, big-endian, behind it
 *   body   a group's value; in an index a chunk (postings.h) of the key's entries from that seq on
 *
 * Rows are ordered by the bytes of their names. On disk a checksum of name and body lies before the body.
 *
 * Invariant: the seqs of a chunk lie above those of the key's chunk before it, whether the two are pending or on
 * disk. A pending row is new (FLUME_MEM_PUT), or replaces the row on disk with the same name (FLUME_MEM_REPLACED,
 * FLUME_MEM_GONE) because entries were removed from that row. New entries go to new rows only. */
#ifndef FLUME_STORE_PRIVATE_H
#define FLUME_STORE_PRIVATE_H

#include <lmdb.h>

#include "store/memtable.h"
#include "store/postings.h"
#include "store/store.h"

enum {
  FLUME__ROW_SEQ = 8,        /* bytes */
  FLUME__ROW_CRC = 4,        /* before the body, on disk */
  FLUME__NAME_KEY_MAX = 440, /* bytes of a name in LMDB before the seq; LMDB takes 511 in all */
  FLUME__NODE_BYTES = 8,     /* number of a node, see store_rows.c */
  FLUME__MARK_BYTES = 9,     /* more than a seq has, so that a mark's name is longer than that of every row */
  FLUME__MARK_NAME = FLUME__NAME_KEY_MAX + FLUME__MARK_BYTES,
  FLUME__TAIL_STRIDE = FLUME__NAME_KEY_MAX - FLUME__NODE_BYTES, /* bytes of a key that a node has */
  FLUME__ROW_LEVELS = 2 + FLUME_STORE_KEY_MAX / FLUME__TAIL_STRIDE,
};

/* An LMDB environment, which all stores of this process in the same directory have in common (store_env.c). */
struct flume__env;

struct flume_store {
  const struct flume_io *io;
  char *dir; /* owned; NULL: in memory */
  enum flume_store_access access;
  struct flume__env *env;          /* referenced; NULL until it is needed */
  MDB_txn *idle;                   /* a reset transaction for the next read; NULL for none */
  MDB_txn *held;                   /* FLUME_STORE_READ: the snapshot that all reads see; NULL before the first read */
  bool in_doubt;                   /* the pending writes may be on disk, see store_commit.c: nothing is opened */
  struct flume_memtable tables[2]; /* pending rows, by enum flume_store_kind; in memory, all rows */
  int64_t last_seq;                /* of the entry added last; later entries do not lie below it */
  int64_t committed_seq;           /* of the last commit; later entries lie above it */
  struct flume_buf state;          /* pending; in memory, the state */
  struct flume_buf name;           /* scratch: the name of a row */
  bool has_state;
  struct flume_store_meta meta; /* of a store in memory */
  bool has_meta;
};

/* --- store.c: names ----------------------------------------------------------------------------------------------- */

/* Bytes of a name behind the key. */
static inline size_t flume__row_suffix(enum flume_store_kind kind) {
  return kind == FLUME_STORE_INDEX ? FLUME__ROW_SEQ : 0;
}

/* Makes name the name of a group's row, or of the row of an index that begins with seq. FLUME_ENOMEM. */
int flume__row_name_make(struct flume_buf *name, enum flume_store_kind kind, const void *key, size_t key_len,
                         int64_t seq);
/* Changes the seq of the name of a row of an index. */
void flume__row_name_set_seq(struct flume_buf *name, int64_t seq);

/* Whether two names of rows of an index have the same key. */
bool flume__row_is_same_key(const void *a, size_t a_len, const void *b, size_t b_len);

/* The order of names: by their bytes, a shorter one before those that it begins. */
int flume__row_compare(const void *a, size_t a_len, const void *b, size_t b_len);

/* The parts of a row; borrowed. */
struct flume__row {
  const uint8_t *key;
  size_t key_len;
  int64_t seq;         /* index: of the beginning of the chunk; -1 for groups */
  const uint8_t *data; /* value or chunk */
  size_t len;
};

/* Splits name and body. FLUME_ECORRUPT. */
int flume__row_read(struct flume__row *row, enum flume_store_kind kind, const void *name, size_t name_len,
                    const uint8_t *body, size_t body_len);
/* The same for the value of a row on disk: verifies the checksum. */
int flume__row_read_disk(struct flume__row *row, enum flume_store_kind kind, const void *name, size_t name_len,
                         const MDB_val *value);

/* --- store_env.c -------------------------------------------------------------------------------------------------- */

struct flume__env {
  struct flume__env *next; /* in the list of this process' environments */
  unsigned refs;           /* stores that have it */
  bool is_listed;          /* false: opened without locks, for one store alone */
  bool is_dead;            /* LMDB answers all with an error; a new environment waits until no store has this one */
  bool is_writable;
  bool is_named;          /* the names of its files are durable */
  int process;            /* that opened it */
  uint64_t device, inode; /* of data.mdb */
  MDB_env *mdb;
  size_t page_bytes;
  uv_mutex_t lock;    /* of the members below */
  uv_cond_t idle;     /* signalled when readers falls */
  unsigned readers;   /* of the map: while there are any, the map may not move */
  uv_mutex_t opening; /* of has_dbs; held while databases are opened */
  bool has_dbs;       /* the numbers below are known, and there are meta data */
  bool has_orphans;   /* there were rows without meta data when these were looked for */
  MDB_dbi meta_db;
  MDB_dbi rows_db[2];  /* by enum flume_store_kind */
  MDB_dbi tails_db[2]; /* the same */
};

enum flume__env_use { FLUME__ENV_READ, FLUME__ENV_WRITE, FLUME__ENV_UNLOCKED };

/* The environment of the directory: shared with the stores of this process that have it open, or new. FLUME_ENOENT:
 * none exists, and use is not FLUME__ENV_WRITE. Other errors: codes of LMDB or of flume. The caller releases it with
 * flume__env_unref. Any thread. */
int flume__env_ref(struct flume__env **env, const struct flume_io *io, const char *dir, enum flume__env_use use);
void flume__env_unref(struct flume__env *env, const struct flume_io *io);
/* No new store gets the environment; flume__env_ref fails with UV_EIO as long as a store has it. */
void flume__env_kill(struct flume__env *env);
bool flume__env_is_shared(struct flume__env *env);

/* Around each use of mapped bytes. Any thread. */
void flume__env_enter(struct flume__env *env);
void flume__env_leave(struct flume__env *env);
/* Maps bytes bytes, or as many as the file says it has for 0. own: how many of the readers are the caller's. A code of
 * LMDB's; UV_EBUSY when others read for ten seconds. */
int flume__env_map(struct flume__env *env, size_t bytes, unsigned own);

/* Opens the databases, when there are meta data. FLUME_ENOENT when there are none; codes as above. */
int flume__env_find_dbs(struct flume__env *env);
/* The same in a transaction for writing; makes them. Rows without meta data are removed. Before the first commit of an
 * environment this takes env->opening, which flume__env_end_writing releases. */
int flume__env_begin_writing(struct flume__env *env, MDB_txn **txn, bool *is_first);
void flume__env_end_writing(struct flume__env *env, bool is_first, bool is_committed);
/* A transaction for reading. The caller has entered the environment. */
int flume__env_begin(struct flume__env *env, MDB_txn **txn);

/* Makes the file as long as the pages that it counts. LMDB does not write pages that were allocated and freed in one
 * transaction, so that the file may end before them; a shorter file is taken for damaged. A failure is harmless until
 * the store is opened again: then it is rebuilt. */
void flume__env_fill_file(struct flume__env *env, const struct flume_io *io);
/* Whether the value that LMDB gave in a transaction for reading lies in the pages that it should. */
bool flume__env_is_mapped(const struct flume__env *env, const MDB_val *value);

/* --- store_rows.c ------------------------------------------------------------------------------------------------- */

/* Rows of one kind, in a transaction. */
struct flume__rows {
  struct flume__env *env;
  const struct flume_io *io;
  enum flume_store_kind kind;
  MDB_txn *txn;
  bool is_writing;
  MDB_cursor *rows;
  MDB_cursor *tails;   /* NULL until it is needed */
  bool has_row;        /* the cursor is at a row, which the members below say */
  const uint8_t *name; /* borrowed until the next call */
  size_t name_len;
  MDB_val value;
  unsigned depth;                    /* of the row */
  uint64_t nodes[FLUME__ROW_LEVELS]; /* the numbers on the way to it; nodes[0] is 0 */
  struct flume_buf path;             /* depth > 0: the row's name */
};

/* All functions: 0, or a code of LMDB's or of ours. */
int flume__rows_open(struct flume__rows *rows, struct flume__env *env, const struct flume_io *io,
                     enum flume_store_kind kind, MDB_txn *txn, bool is_writing);
void flume__rows_close(struct flume__rows *rows);

/* Move to a row and set has_row. seek: to the first row that is not below name. step needs has_row. */
int flume__rows_seek(struct flume__rows *rows, const uint8_t *name, size_t len);
int flume__rows_end(struct flume__rows *rows, bool reverse); /* to the first row, or in reverse to the last */
int flume__rows_step(struct flume__rows *rows, bool reverse);

/* Writes a row, with its checksum. appends: it lies behind all rows that are there. May be called while a walk is at
 * a row, which ends the walk. */
int flume__rows_put(struct flume__rows *rows, const uint8_t *name, size_t len, const uint8_t *body, size_t body_len,
                    bool appends);
/* Removes the row, if there is one, and the nodes that are empty then. */
int flume__rows_remove(struct flume__rows *rows, const uint8_t *name, size_t len);
/* The value of the row with this name, borrowed: FLUME_ENOENT. */
int flume__rows_get(struct flume__rows *rows, const uint8_t *name, size_t len, MDB_val *value);
/* Index: moves to the key's row with this name, or to the one before it, and sets has_row. *at_end: no row lies
 * behind. */
int flume__rows_find_before(struct flume__rows *rows, const uint8_t *name, size_t len, bool *at_end);

/* --- store_disk.c ------------------------------------------------------------------------------------------------- */

/* Sets err to a text that names the directory; returns the code of ours for LMDB's. */
int flume__store_fail(const struct flume_store *store, struct flume_err *err, int rv, const char *doing);
/* Begins and ends reading. FLUME_ENOENT when nothing is there yet. */
int flume__store_begin(struct flume_store *store, MDB_txn **txn, struct flume_err *err);
void flume__store_end(struct flume_store *store, MDB_txn *txn);
/* Makes directory and environment for writing. */
int flume__store_open_for_writing(struct flume_store *store, struct flume_err *err);
/* Opens the environment. A code of LMDB's or of ours. */
int flume__store_open_env(struct flume_store *store, enum flume__env_use use);
void flume__store_close_env(struct flume_store *store);
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
/* Whether meta is of the same log, version and source as own, and neither behind own nor beyond limit. */
bool flume__store_fits(const struct flume_store_meta *meta, const struct flume_store_meta *own,
                       const struct flume_store_meta *limit);
uint64_t flume__store_disk_bytes(const struct flume_store *store);

/* --- store_commit.c ----------------------------------------------------------------------------------------------- */

int flume__store_write(struct flume_store *store, const struct flume_store_meta *meta, struct flume_err *err);
/* Doubles the map, after MDB_MAP_FULL. The store has no transaction open. A code of LMDB's. */
int flume__store_grow(struct flume_store *store);
int flume__store_drop(struct flume_store *store, struct flume_err *err);

#endif
