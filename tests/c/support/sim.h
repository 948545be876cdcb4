/* A simulated file system in memory. A crash loses writes that were not synced.
 *
 * It implements struct flume_io. A program sees the cache. The file system also keeps the durable state, and the items:
 * the changes between the durable state and the cache, in order of time. A crash keeps or loses each item:
 *
 *   write   one item for each sector of 512 bytes that a write changes. Sectors survive whole and in any combination,
 *           so writes are torn and reordered.
 *   size    one item for each change of a file's size. The sizes of one file survive as a prefix (a journal keeps their
 *           order), independent of the data: a file that is longer than its data has zeros at its end.
 *   name    one item for each entry of a directory that is created, renamed or removed. A rename is kept or lost as a
 *           whole. A new directory whose name is lost loses all its files.
 *
 * sync makes the writes and sizes of a file durable, sync_dir the names of a directory; neither does the other's work.
 * A failed sync drops the writes: they stay in the cache, and no later sync makes them durable.
 *
 * Files are small; zeros at their end take no memory. The functions abort when memory or the model fails. */
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

/* --- The file system ---------------------------------------------------------------------------------------------- */

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
  size_t used; /* bytes of data; zeros from there to size */
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
  struct sim_item *items; /* the changes that are not durable, in order of time */
  int items_count;
  int items_cap;
  uint64_t time;
  bool never_crashes; /* only the cache is kept, for tests without crashes and with larger files */
};

/* With an empty root directory. The caller frees it with sim_fs_free. */
struct sim_fs *sim_fs_new(void);
struct sim_fs *sim_fs_copy(const struct sim_fs *fs);
void sim_fs_free(struct sim_fs *fs);
/* A hash of the names and contents in the cache. */
uint64_t sim_fs_hash(const struct sim_fs *fs);
/* The inode at an absolute path in the cache, or UV_ENOENT. */
int sim_fs_find(const struct sim_fs *fs, const char *path);
/* The last part of an inode's name in the cache, borrowed from fs; NULL when it has none. */
const char *sim_fs_name_of(const struct sim_fs *fs, int inode);
/* Whether the cache has these bytes in a file. */
bool sim_fs_has(const struct sim_fs *fs, int inode, uint64_t off, const void *data, size_t len);

/* --- Crashes ------------------------------------------------------------------------------------------------------ */

/* A new file system with the durable state and the items that survive; all of it is durable. */
struct sim_fs *sim_fs_crash(const struct sim_fs *fs, const bool *survives);

/* The crashes of one file system that are tried. With few items: every combination. Otherwise: all prefixes in time,
 * all suffixes, all items but one, one item alone (without and with all names and sizes), and a random sample. */
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

/* A seed always gives the same random subsets. fs is borrowed. */
void sim_crashes_init(struct sim_crashes *crashes, const struct sim_fs *fs, struct sim_limits limits, uint64_t seed);
/* Sets crashes->survives to the next crash; false when there are no more. No combination comes twice, but different
 * combinations may leave the same files. */
bool sim_crashes_next(struct sim_crashes *crashes);
/* The crash as text for a failure: "all", "none", or "+-++" by item. Valid until the next call. */
const char *sim_crashes_text(const struct sim_crashes *crashes);

/* --- A process on the file system --------------------------------------------------------------------------------- */

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
  int failing_sync;        /* the sync with this number, from 1, fails with EIO and drops the writes; 0: none */
  uint64_t capacity_bytes; /* of all files together; 0: no limit */
  /* Called after every operation that changed the file system, with the mutex held. NULL: no call. */
  void (*on_change)(struct sim *sim, void *arg);
  void *arg;
  const uint8_t *written; /* in on_change: the bytes of the write; otherwise NULL */
  size_t written_bytes;
  uint64_t written_off;
  int written_inode;
};

/* Takes ownership of fs. The struct must not move. */
void sim_init(struct sim *sim, struct sim_fs *fs);
/* Frees fs. No file is open and no memory allocated any more. */
void sim_fini(struct sim *sim);
/* The number of open files. */
int sim_open_files(struct sim *sim);
/* No operation runs while it is held, so on_change sees a consistent state. */
void sim_lock(struct sim *sim);
void sim_unlock(struct sim *sim);

#endif
