/* Private declarations of the simulated file system. */
#ifndef FLUME_TEST_SIM_FS_H
#define FLUME_TEST_SIM_FS_H

#include "sim.h"

/* Bytes [off, off + len), with zeros behind the data. */
void sim_bytes_get(const struct sim_bytes *bytes, uint8_t *out, size_t len, uint64_t off);

/* The inode at path, or UV_ENOENT. *dir gets the directory and last the name in it; *dir is -1 without such a
 * directory. */
int sim_fs_lookup(const struct sim_fs *fs, const char *path, int *dir, char *last);
bool sim_fs_dir_is_empty(const struct sim_fs *fs, int dir);
int sim_fs_inode_new(struct sim_fs *fs, bool dir);

void sim_fs_write(struct sim_fs *fs, int inode, const uint8_t *data, size_t len, uint64_t off);
void sim_fs_resize(struct sim_fs *fs, int inode, uint64_t size);
/* Changes a name in the cache. from: NULL for SIM_LINK; to: NULL for SIM_UNLINK. */
void sim_fs_name(struct sim_fs *fs, enum sim_item_kind kind, int inode, const struct sim_name *from,
                 const struct sim_name *to);
void sim_fs_sync(struct sim_fs *fs, int inode);
/* Makes the sectors of these bytes and the file's size durable, as a write with O_DSYNC does. */
void sim_fs_sync_range(struct sim_fs *fs, int inode, uint64_t off, size_t len);
void sim_fs_sync_fails(struct sim_fs *fs, int inode);
void sim_fs_sync_dir(struct sim_fs *fs, int dir);

#endif
