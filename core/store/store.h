/* A view's store: its state, and the seq up to which the state was folded. The two belong together after any crash.
 *
 * A store holds three kinds of things, each written for one kind of view:
 *
 *   state    one value, replaced as a whole (a reducer)
 *   groups   a value for each key, in key order (a reducer with `group`)
 *   index    for each key, in key order, the entries (seq, value) that records put there, in seq order (an indexer)
 *
 * Writes gather in memory and are seen by reads at once; flume_store_commit makes all of them durable in one
 * transaction, together with the meta data. So memory is bounded by committing when flume_store_pending_bytes says
 * so, and what a store can hold is not bounded by memory. A store without a directory lives in memory alone, and a
 * commit only notes the meta data.
 *
 * On disk a store is an LMDB environment (data.mdb, lock.mdb). Other processes may read it while it is written, and
 * so may other stores of this process: all that are open in a directory have one environment in common.
 *
 * Keys are those of key.h, of at most FLUME_STORE_KEY_MAX bytes: no key begins another one. They are ordered by their
 * bytes.
 *
 * Threads: any, one at a time for each store. */
#ifndef FLUME_STORE_H
#define FLUME_STORE_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

#define FLUME_STORE_VERSION_BYTES 64
#define FLUME_STORE_KEY_MAX 65536 /* bytes of an encoded key */

struct flume_store;

/* The log and the source that the state was folded from, and its seq. The digest ties the state to the record at
 * since: a log that was restored from an older backup and appended to has a different record there. */
struct flume_store_meta {
  int64_t since;                           /* -1: nothing yet */
  uint8_t log_id[16];                      /* of the log that was folded */
  char version[FLUME_STORE_VERSION_BYTES]; /* the view's version as text; "": none */
  uint64_t fingerprint;                    /* of the view's source */
  int64_t deletions;                       /* number of the log's deletions that the state reflects */
  bool has_digest;                         /* false: the digest is unknown, and 0 */
  uint32_t digest;                         /* digest of the log's record at since, see flume_log_ops.digest */
};

/* Whether digest, of the log's record at meta->since, fits the state: it is meta's digest, or meta has none. */
static inline bool flume_store_meta_is_of(const struct flume_store_meta *meta, uint32_t digest) {
  return !meta->has_digest || meta->digest == digest;
}

/* Whether an error of flume_store_load or of a read means that the store is damaged or of a different format, and
 * must be rebuilt. All other errors come from the environment (memory, permission, no slot for a reader): the store
 * is good, and must be kept. */
static inline bool flume_store_is_unusable(int rv) {
  return rv == FLUME_ECORRUPT || rv == FLUME_EVERSION;
}

enum flume_store_access {
  FLUME_STORE_WRITE,
  FLUME_STORE_READ, /* another process may write: reads see the last commit before the first read */
};

/* The store in directory dir, which the first commit makes; in memory when dir is NULL. Opening reads nothing.
 * FLUME_ENOMEM. */
int flume_store_open(struct flume_store **store, const struct flume_io *io, const char *dir,
                     enum flume_store_access access, struct flume_err *err);
/* Closes and frees the store; discards uncommitted writes. No cursor may be open. */
void flume_store_close(struct flume_store *store);

/* The meta data of the last commit. FLUME_ENOENT: no commit yet. FLUME_ECORRUPT (rows without meta data are damage,
 * too) and FLUME_EVERSION: see flume_store_is_unusable. UV_EBUSY: 2,000 snapshots of the store are open.
 * FLUME_ENOMEM, or an errno. */
int flume_store_load(struct flume_store *store, struct flume_store_meta *meta, struct flume_err *err);

/* FLUME_STORE_READ: from now on reads see the last commit, if it is of the log, version and source of own, and
 * neither behind own nor beyond limit (in since and deletions). Then writes of this handle are discarded, and *meta
 * is the commit's meta data. FLUME_EAGAIN: the commit does not fit, and nothing has changed. A store that is not
 * renewed keeps the writer from reusing freed pages. */
int flume_store_renew(struct flume_store *store, const struct flume_store_meta *own,
                      const struct flume_store_meta *limit, struct flume_store_meta *meta, struct flume_err *err);

/* Makes all writes since the last commit, and meta, durable atomically. After a failure these writes are still
 * pending. FLUME_STORE_READ: FLUME_EREADONLY. When a failing disk hides whether the commit took place, all reads and
 * commits answer UV_EIO until flume_store_rollback or flume_store_clear. Blocks for as long as the disk does. */
int flume_store_commit(struct flume_store *store, const struct flume_store_meta *meta, struct flume_err *err);

/* Discards everything written since the last commit; in memory, everything. */
void flume_store_rollback(struct flume_store *store);

/* Empties the store, durably; meta data too. */
int flume_store_clear(struct flume_store *store, struct flume_err *err);

/* About how many bytes of memory a commit would free. */
size_t flume_store_pending_bytes(const struct flume_store *store);
/* About how many bytes the store has on disk, or in memory for a store without a directory. */
uint64_t flume_store_size_bytes(const struct flume_store *store);

/* --- state ---------------------------------------------------------------------------------------------------- */

/* Replaces the state. The bytes are copied. FLUME_ENOMEM. */
int flume_store_put_state(struct flume_store *store, const void *value, size_t len, struct flume_err *err);
/* Appends the state to value. FLUME_ENOENT when there is none; FLUME_ECORRUPT when its checksum is wrong. */
int flume_store_get_state(struct flume_store *store, struct flume_buf *value, struct flume_err *err);

/* --- groups --------------------------------------------------------------------------------------------------- */

/* Appends the value of key to value. FLUME_ENOENT, FLUME_ECORRUPT, FLUME_ENOMEM or an errno. */
int flume_store_get_group(struct flume_store *store, const void *key, size_t key_len, struct flume_buf *value,
                          struct flume_err *err);
/* Both copy key and value. Deleting a key that has no value is no error. FLUME_EINVAL: an empty key. FLUME_E2BIG: a
 * key of more than FLUME_STORE_KEY_MAX bytes. FLUME_ENOMEM. */
int flume_store_put_group(struct flume_store *store, const void *key, size_t key_len, const void *value, size_t len,
                          struct flume_err *err);
int flume_store_del_group(struct flume_store *store, const void *key, size_t key_len, struct flume_err *err);

/* --- index ---------------------------------------------------------------------------------------------------- */

/* Adds an entry behind those that the key has for this seq already. Copies key and value; an empty value is none.
 * Entries come in the order of their seqs. FLUME_EINVAL: an empty key; or seq is below that of an entry added before,
 * or not above what was committed, by this store or before it was loaded. FLUME_E2BIG: a key of more than
 * FLUME_STORE_KEY_MAX bytes. FLUME_ENOMEM. */
int flume_store_add_entry(struct flume_store *store, const void *key, size_t key_len, int64_t seq, const void *value,
                          size_t len, struct flume_err *err);
/* Removes all entries that a key has for seq; none is no error. FLUME_ENOMEM; for a store on disk, whose entries are
 * looked for, also FLUME_ECORRUPT or an errno. */
int flume_store_remove_entries(struct flume_store *store, const void *key, size_t key_len, int64_t seq,
                               struct flume_err *err);

/* --- reading ranges ------------------------------------------------------------------------------------------- */

enum flume_store_kind { FLUME_STORE_GROUPS, FLUME_STORE_INDEX };

/* The keys from lower (inclusive) to upper (exclusive), compared as bytes. NULL: no bound. For an exclusive lower
 * bound, or an inclusive upper bound, append a byte 0xff to the key: no other key begins with the key, so that no
 * key lies between the two. */
struct flume_store_range {
  const uint8_t *lower;
  size_t lower_len;
  const uint8_t *upper;
  size_t upper_len;
  int64_t max_seq; /* index: entries of later records are passed over */
  bool reverse;    /* from the last key to the first, and within a key from the last entry to the first */
};

/* Everything: no bounds, max_seq INT64_MAX, forward. */
void flume_store_range_init(struct flume_store_range *range);

/* Borrowed until the cursor's next call or close. */
struct flume_store_entry {
  const uint8_t *key;
  size_t key_len;
  int64_t seq;      /* index; -1 for groups */
  uint32_t ordinal; /* index: how many entries of the same key and seq lie before it */
  bool is_same_key; /* index: true: the same key as the previous entry; false: unknown */
  const uint8_t *value;
  size_t value_len;
};

struct flume_store_cursor;

/* Reads the store as of now; bytes of range are copied. While a cursor is open the store may not be written, and a
 * cursor may not be kept from one turn of work to the next: to go on later, open a new one and call
 * flume_store_cursor_resume. FLUME_ENOMEM, or as flume_store_load. */
int flume_store_cursor_open(struct flume_store_cursor **cursor, struct flume_store *store, enum flume_store_kind kind,
                            const struct flume_store_range *range, struct flume_err *err);
/* Before the first flume_store_cursor_next: begin behind this entry, in the cursor's direction. The entry need not be
 * there any more. */
void flume_store_cursor_resume(struct flume_store_cursor *cursor, const void *key, size_t key_len, int64_t seq,
                               uint32_t ordinal);
/* 1 and *entry; 0 at the end; or FLUME_ECORRUPT, FLUME_ENOMEM, an errno. */
int flume_store_cursor_next(struct flume_store_cursor *cursor, struct flume_store_entry *entry, struct flume_err *err);
void flume_store_cursor_close(struct flume_store_cursor *cursor);

/* The number of entries (or groups) in the range, by its bounds and max_seq; or an error. Much faster than a walk: it
 * reads the headers of chunks. */
int64_t flume_store_count(struct flume_store *store, enum flume_store_kind kind, const struct flume_store_range *range,
                          struct flume_err *err);

/* --- rewriting ------------------------------------------------------------------------------------------------ */

/* The bytes of removed rows stay in the file until others take their room. A rewrite copies what was committed, with
 * meta as the meta data, into a new store, whose file has nothing else. The caller then puts the new store in the
 * place of the old one. */
struct flume_store_rewrite;

/* For a store on disk in which nothing is pending. Between begin and free it may be read, but not written. dir is
 * removed and made again; free leaves it. The caller frees *rewrite. FLUME_ENOMEM, FLUME_ECORRUPT, or an errno. */
int flume_store_rewrite_begin(struct flume_store_rewrite **rewrite, struct flume_store *store, const char *dir,
                              const struct flume_store_meta *meta, struct flume_err *err);
/* Writes about a megabyte: 1; or 0 when the new store is complete, durable and closed. Not to be called after 0 or
 * after an error. Errors: as flume_store_rewrite_begin. */
int flume_store_rewrite_step(struct flume_store_rewrite *rewrite, struct flume_err *err);
void flume_store_rewrite_free(struct flume_store_rewrite *rewrite); /* NULL is allowed */

/* Continues with the store in directory dir, which has the same content. Nothing may be pending, and no cursor open.
 * FLUME_ENOMEM. */
int flume_store_move(struct flume_store *store, const char *dir, struct flume_err *err);

/* FLUME_STORE_READ: as flume_store_renew, with the store in directory dir, to which the writer has moved. Errors:
 * also those of flume_store_load. */
int flume_store_follow(struct flume_store *store, const char *dir, const struct flume_store_meta *own,
                       const struct flume_store_meta *limit, struct flume_store_meta *meta, struct flume_err *err);

/* The number of the log's deletions, from the first on, of whose records the file has no bytes left: the deletions
 * at the last rewrite. 0: never rewritten. A negative code: as flume_store_load. */
int64_t flume_store_erased(struct flume_store *store, struct flume_err *err);

/* --- copying and checking ------------------------------------------------------------------------------------- */

/* The processes that may write to the store meanwhile. */
enum flume_store_sharing {
  FLUME_STORE_RESTS,  /* no process: a store that is not open here is read without making a lock file */
  FLUME_STORE_SHARED, /* any process */
};

/* Puts a compacted copy of the store in directory from into the directory to, which is there; not synced. FLUME_ENOENT
 * when there is no store; FLUME_ECORRUPT, or an errno. */
int flume_store_copy(const struct flume_io *io, const char *from, const char *to, enum flume_store_sharing sharing,
                     struct flume_err *err);

/* Reads all of the store in directory dir: meta data, checksums, every entry. FLUME_ENOENT when nothing was ever
 * committed; FLUME_ECORRUPT, FLUME_EVERSION, FLUME_ENOMEM, or an errno. */
int flume_store_check(const struct flume_io *io, const char *dir, enum flume_store_sharing sharing,
                      struct flume_store_meta *meta, struct flume_err *err);

#endif
