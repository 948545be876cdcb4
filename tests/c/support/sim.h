/* A file system in memory that loses, at a crash, what nobody made durable.
 *
 * It stands behind struct flume_io. A program sees the cache. Beside it stands what is durable, and in between, in the
 * order in which it came, what is not: the items. Each item may survive a crash or be lost:
 *
 *   write   one item for each sector of 512 bytes that a write changes. Sectors survive whole, in any combination: so
 *           writes are torn, and come to the disk in another order than they were made.
 *   size    one item for each change of a file's size. Those of one file survive as a prefix (a journal keeps their
 *           order), whatever happens to the data: a file may be longer than its data, and has zeros there.
 *   name    one item for each entry of a directory that is made, renamed or removed. A rename is lost or kept as a
 *           whole. Without the name of a new directory all in it is lost.
 *
 * sync makes a file's writes and sizes durable, sync_dir the names in a directory, and neither does the other's work. A
 * sync that fails drops the writes: they stay in the cache, and no later sync brings them to the disk.
 *
 * Files are small; zeros at their end take no memory. Whatever can't fail in a working test aborts. */
#ifndef FLUME_TEST_SIM_H
#define FLUME_TEST_SIM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/io.h"

#define SIM_SECTOR_BYTES 512
#define SIM_NAME_BYTES 64
#define SIM_INODES_MAX 128
#define SIM_HANDLES_MAX 64
#define SIM_ITEMS_MAX 4096

/* --- The file system ------------------------------------------------------------------------------------------ */

enum sim_item_kind { SIM_WRITE, SIM_SIZE, SIM_LINK, SIM_RENAME, SIM_UNLINK };

struct sim_item {
  enum sim_item_kind kind;
  uint64_t time; /* order among all items of the file system */
  int inode;     /* written, linked, renamed or unlinked */
  uint64_t at;   /* SIM_WRITE: number of the sector; SIM_SIZE: the new size in bytes */
  uint8_t data[SIM_SECTOR_BYTES];
  int from_dir, to_dir; /* inodes; names below are in them */
  char from[SIM_NAME_BYTES], to[SIM_NAME_BYTES];
};

struct sim_bytes {
  uint8_t *data;
  size_t used;   /* bytes of data; zeros from there to size */
  size_t cap;
  uint64_t size; /* bytes */
};

struct sim_inode {
  bool dir;
  struct sim_bytes cached;
  struct sim_bytes durable;
};

struct sim_name {
  int dir; /* inode */
  char name[SIM_NAME_BYTES];
  int inode;
};

struct sim_names {
  struct sim_name entries[SIM_INODES_MAX];
  int count;
};

struct sim_fs {
  struct sim_inode *inodes[SIM_INODES_MAX]; /* 0 is the root */
  int inodes_count;
  struct sim_names cached;
  struct sim_names durable;
  struct sim_item *items; /* what is not durable, in order of time */
  int items_count;
  int items_cap;
  uint64_t time;
  bool never_crashes; /* only the cache is kept: a disk for tests that have no use for the rest, and larger files */
};

/* With an empty root directory. The caller frees it with sim_fs_free. */
struct sim_fs *sim_fs_new(void);
struct sim_fs *sim_fs_copy(const struct sim_fs *fs);
void sim_fs_free(struct sim_fs *fs);
/* The same for file systems with the same names and contents in the cache. */
uint64_t sim_fs_hash(const struct sim_fs *fs);
/* The inode at an absolute path in the cache, or UV_ENOENT. */
int sim_fs_find(const struct sim_fs *fs, const char *path);
/* The last part of an inode's name in the cache, borrowed from fs; NULL when it has none. */
const char *sim_fs_name_of(const struct sim_fs *fs, int inode);
/* Whether the cache has these bytes in a file. */
bool sim_fs_has(const struct sim_fs *fs, int inode, uint64_t off, const void *data, size_t len);

/* --- Crashes -------------------------------------------------------------------------------------------------- */

/* A new file system: what is durable, with those items that survive. All of it is durable. */
struct sim_fs *sim_fs_crash(const struct sim_fs *fs, const bool *survives);

/* How many crashes of one file system are looked at: with few items every combination; else all prefixes in time, all
 * suffixes, all but one, one alone (without and with all names and sizes), and some by chance. */
struct sim_limits {
  int exhaustive_items;
  int random_subsets;
};

struct sim_crashes {
  const struct sim_fs *fs;
  struct sim_limits limits;
  uint64_t random;
  uint64_t turn;
  bool survives[SIM_ITEMS_MAX]; /* the present crash, by item */
};

/* Every seed gives the same random subsets again. fs is borrowed. */
void sim_crashes_init(struct sim_crashes *crashes, const struct sim_fs *fs, struct sim_limits limits, uint64_t seed);
/* The next crash, in crashes->survives; false when there are no more. Never twice the same combination, but different
 * ones may leave the same files. */
bool sim_crashes_next(struct sim_crashes *crashes);
/* "all", "none" or "+-++" by item: for the text of a failure. Valid until the next call. */
const char *sim_crashes_text(const struct sim_crashes *crashes);

/* --- A process that uses it ----------------------------------------------------------------------------------- */

struct sim_handle {
  int inode; /* -1: free */
  bool writable;
  bool locks;
};

struct sim {
  struct flume_io io;
  struct sim_fs *fs;
  uv_mutex_t mutex;
  struct sim_handle handles[SIM_HANDLES_MAX];
  atomic_long allocations; /* live */
  atomic_int syncs;        /* so far, of files */
  int failing_sync;        /* this one, counted from 1, answers EIO and drops what was written; 0: none does */
  uint64_t capacity_bytes; /* of all files together; 0: no limit */
  /* Called after every operation that changed something, with the mutex held. NULL: none. */
  void (*on_change)(struct sim *sim, void *arg);
  void *arg;
  const uint8_t *written; /* in on_change: what a write wrote; else NULL */
  size_t written_bytes;
  uint64_t written_off;
  int written_inode;
};

/* Takes fs over. The struct must stay where it is. */
void sim_init(struct sim *sim, struct sim_fs *fs);
/* Frees fs. Nothing may be open or allocated any more. */
void sim_fini(struct sim *sim);
/* How many files are open. */
int sim_open_files(struct sim *sim);
/* While it is held no operation runs: for telling on_change what it may look at. */
void sim_lock(struct sim *sim);
void sim_unlock(struct sim *sim);

#endif
