/* The contents of the simulated file system, and the contents after a crash. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim_fs.h"

#define MUST(cond)                                                  \
  do {                                                              \
    if (!(cond)) {                                                  \
      printf("%s:%d: broken sim: %s\n", __FILE__, __LINE__, #cond); \
      abort();                                                      \
    }                                                               \
  } while (0)

/* --- Bytes -------------------------------------------------------------------------------------------------------- */

static void bytes_reserve(struct sim_bytes *bytes, size_t cap) {
  if (cap <= bytes->cap) return;
  bytes->cap = cap < 2 * bytes->cap ? 2 * bytes->cap : cap;
  bytes->data = realloc(bytes->data, bytes->cap);
  MUST(bytes->data != NULL);
}

static void bytes_trim(struct sim_bytes *bytes) {
  while (bytes->used > 0 && bytes->data[bytes->used - 1] == 0) bytes->used--;
}

static void bytes_put(struct sim_bytes *bytes, const uint8_t *data, size_t len, uint64_t off) {
  size_t end = (size_t)off + len;
  if (end > bytes->used) {
    while (len > 0 && data[len - 1] == 0 && off + len > bytes->used) len--;
    end = (size_t)off + len;
  }
  if (len == 0) return;
  bytes_reserve(bytes, end);
  if (off > bytes->used) memset(bytes->data + bytes->used, 0, (size_t)off - bytes->used);
  memcpy(bytes->data + off, data, len);
  if (end > bytes->used) bytes->used = end;
}

static void bytes_cut(struct sim_bytes *bytes, uint64_t size) {
  if (bytes->used > size) bytes->used = (size_t)size;
  bytes->size = size;
  bytes_trim(bytes);
}

void sim_bytes_get(const struct sim_bytes *bytes, uint8_t *out, size_t len, uint64_t off) {
  size_t there = off >= bytes->used ? 0 : bytes->used - (size_t)off < len ? bytes->used - (size_t)off : len;
  if (there > 0) memcpy(out, bytes->data + off, there);
  memset(out + there, 0, len - there);
}

static void bytes_copy(struct sim_bytes *to, const struct sim_bytes *from) {
  bytes_reserve(to, from->used);
  if (from->used > 0) memcpy(to->data, from->data, from->used);
  to->used = from->used;
  to->size = from->size;
}

/* --- Names -------------------------------------------------------------------------------------------------------- */

static int names_at(const struct sim_names *names, int dir, const char *name) {
  for (int i = 0; i < names->count; i++) {
    if (names->entries[i].dir == dir && strcmp(names->entries[i].name, name) == 0) return i;
  }
  return -1;
}

static void names_remove(struct sim_names *names, int dir, const char *name, int inode) {
  int i = names_at(names, dir, name);
  if (i >= 0 && names->entries[i].inode == inode) names->entries[i] = names->entries[--names->count];
}

static void names_put(struct sim_names *names, int dir, const char *name, int inode) {
  int i = names_at(names, dir, name);
  if (i < 0) i = names->count++;
  MUST(names->count <= SIM_INODES_MAX);
  names->entries[i].dir = dir;
  names->entries[i].inode = inode;
  snprintf(names->entries[i].name, SIM_NAME_BYTES, "%s", name);
}

static void names_apply(struct sim_names *names, const struct sim_item *item) {
  if (item->kind != SIM_LINK) names_remove(names, item->from_dir, item->from, item->inode);
  if (item->kind != SIM_UNLINK) names_put(names, item->to_dir, item->to, item->inode);
}

int sim_fs_lookup(const struct sim_fs *fs, const char *path, int *dir, char *last) {
  int inode = 0;
  *dir = 0;
  last[0] = '\0';
  while (*path != '\0') {
    while (*path == '/') path++;
    size_t len = strcspn(path, "/");
    if (len == 0) break;
    MUST(len < SIM_NAME_BYTES);
    if (inode < 0) {
      *dir = -1;
      return UV_ENOENT;
    }
    *dir = inode;
    memcpy(last, path, len);
    last[len] = '\0';
    int i = names_at(&fs->cached, inode, last);
    inode = i < 0 ? UV_ENOENT : fs->cached.entries[i].inode;
    path += len;
  }
  return inode;
}

int sim_fs_find(const struct sim_fs *fs, const char *path) {
  int dir;
  char last[SIM_NAME_BYTES];
  return sim_fs_lookup(fs, path, &dir, last);
}

bool sim_fs_dir_is_empty(const struct sim_fs *fs, int dir) {
  for (int i = 0; i < fs->cached.count; i++) {
    if (fs->cached.entries[i].dir == dir) return false;
  }
  return true;
}

/* --- Whole file systems ------------------------------------------------------------------------------------------- */

int sim_fs_inode_new(struct sim_fs *fs, bool dir) {
  MUST(fs->inodes_count < SIM_INODES_MAX);
  struct sim_inode *inode = calloc(1, sizeof *inode);
  MUST(inode != NULL);
  inode->dir = dir;
  fs->inodes[fs->inodes_count] = inode;
  return fs->inodes_count++;
}

struct sim_fs *sim_fs_new(void) {
  struct sim_fs *fs = calloc(1, sizeof *fs);
  MUST(fs != NULL);
  sim_fs_inode_new(fs, true);
  return fs;
}

static struct sim_fs *fs_like(const struct sim_fs *fs) {
  struct sim_fs *copy = calloc(1, sizeof *copy);
  MUST(copy != NULL);
  copy->time = fs->time;
  copy->never_crashes = fs->never_crashes;
  for (int i = 0; i < fs->inodes_count; i++) sim_fs_inode_new(copy, fs->inodes[i]->dir);
  return copy;
}

struct sim_fs *sim_fs_copy(const struct sim_fs *fs) {
  struct sim_fs *copy = fs_like(fs);
  copy->cached = fs->cached;
  copy->durable = fs->durable;
  for (int i = 0; i < fs->inodes_count; i++) {
    bytes_copy(&copy->inodes[i]->cached, &fs->inodes[i]->cached);
    bytes_copy(&copy->inodes[i]->durable, &fs->inodes[i]->durable);
  }
  if (fs->items_count == 0) return copy;
  copy->items = malloc((size_t)fs->items_count * sizeof *copy->items);
  MUST(copy->items != NULL);
  memcpy(copy->items, fs->items, (size_t)fs->items_count * sizeof *copy->items);
  copy->items_count = copy->items_cap = fs->items_count;
  return copy;
}

void sim_fs_free(struct sim_fs *fs) {
  for (int i = 0; i < fs->inodes_count; i++) {
    free(fs->inodes[i]->cached.data);
    free(fs->inodes[i]->durable.data);
    free(fs->inodes[i]);
  }
  free(fs->items);
  free(fs);
}

static uint64_t mix(uint64_t z) {
  z = (z + 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

static uint64_t hash_bytes(uint64_t hash, const void *data, size_t len) {
  const uint8_t *p = data;
  for (; len >= 8; len -= 8, p += 8) {
    uint64_t word;
    memcpy(&word, p, 8);
    hash = mix(hash ^ word);
  }
  for (; len > 0; len--, p++) hash = mix(hash ^ *p);
  return hash;
}

/* The order of names in the table has no meaning, so the hashes of the names are added. */
uint64_t sim_fs_hash(const struct sim_fs *fs) {
  uint64_t sum = 0;
  for (int i = 0; i < fs->cached.count; i++) {
    const struct sim_name *name = &fs->cached.entries[i];
    const struct sim_bytes *bytes = &fs->inodes[name->inode]->cached;
    uint64_t hash = hash_bytes((uint64_t)name->dir, name->name, strlen(name->name));
    sum += hash_bytes(mix(hash ^ bytes->size), bytes->data, bytes->used);
  }
  return sum;
}

const char *sim_fs_name_of(const struct sim_fs *fs, int inode) {
  for (int i = 0; i < fs->cached.count; i++) {
    if (fs->cached.entries[i].inode == inode) return fs->cached.entries[i].name;
  }
  return NULL;
}

bool sim_fs_has(const struct sim_fs *fs, int inode, uint64_t off, const void *data, size_t len) {
  if (inode >= fs->inodes_count || off + len > fs->inodes[inode]->cached.size) return false;
  const struct sim_bytes *bytes = &fs->inodes[inode]->cached;
  size_t there = off >= bytes->used ? 0 : bytes->used - (size_t)off < len ? bytes->used - (size_t)off : len;
  if (there > 0 && memcmp(bytes->data + off, data, there) != 0) return false;
  for (size_t i = there; i < len; i++) {
    if (((const uint8_t *)data)[i] != 0) return false;
  }
  return true;
}

/* --- Changes ------------------------------------------------------------------------------------------------------ */

static struct sim_item *item_new(struct sim_fs *fs, enum sim_item_kind kind, int inode) {
  if (fs->items_count == fs->items_cap) {
    fs->items_cap = fs->items_cap > 0 ? 2 * fs->items_cap : 16;
    fs->items = realloc(fs->items, (size_t)fs->items_cap * sizeof *fs->items);
    MUST(fs->items != NULL);
  }
  MUST(fs->items_count < SIM_ITEMS_MAX);
  struct sim_item *item = &fs->items[fs->items_count++];
  memset(item, 0, sizeof *item);
  item->kind = kind;
  item->inode = inode;
  item->time = ++fs->time;
  return item;
}

/* Whether an item concerns a sector: a write to it, or a size that may cut it. */
static bool is_pending(const struct sim_fs *fs, int inode, uint64_t sector) {
  for (int i = 0; i < fs->items_count; i++) {
    const struct sim_item *item = &fs->items[i];
    if (item->inode != inode) continue;
    if (item->kind == SIM_WRITE && item->at == sector) return true;
    if (item->kind == SIM_SIZE && item->at < (sector + 1) * SIM_SECTOR_BYTES) return true;
  }
  return false;
}

static bool has_write_behind(const struct sim_fs *fs, int inode, uint64_t off) {
  for (int i = 0; i < fs->items_count; i++) {
    const struct sim_item *item = &fs->items[i];
    if (item->kind == SIM_WRITE && item->inode == inode && (item->at + 1) * SIM_SECTOR_BYTES > off) return true;
  }
  return false;
}

static bool zeros(const uint8_t *data, size_t len) {
  return len == 0 || (data[0] == 0 && memcmp(data, data + 1, len - 1) == 0);
}

/* A sector that is the same on disk and in the cache can't lose anything. */
static void write_sector(struct sim_fs *fs, int inode, uint64_t sector) {
  uint8_t now[SIM_SECTOR_BYTES], before[SIM_SECTOR_BYTES];
  sim_bytes_get(&fs->inodes[inode]->cached, now, sizeof now, sector * SIM_SECTOR_BYTES);
  sim_bytes_get(&fs->inodes[inode]->durable, before, sizeof before, sector * SIM_SECTOR_BYTES);
  if (memcmp(now, before, sizeof now) == 0 && !is_pending(fs, inode, sector)) return;
  struct sim_item *item = item_new(fs, SIM_WRITE, inode);
  item->at = sector;
  memcpy(item->data, now, sizeof now);
}

void sim_fs_write(struct sim_fs *fs, int inode, const uint8_t *data, size_t len, uint64_t off) {
  struct sim_inode *file = fs->inodes[inode];
  if (off + len > file->cached.size) {
    if (!fs->never_crashes) item_new(fs, SIM_SIZE, inode)->at = off + len;
    file->cached.size = off + len;
  }
  if (off >= file->cached.used && off >= file->durable.used && zeros(data, len) && !has_write_behind(fs, inode, off)) {
    return; /* written ahead */
  }
  bytes_put(&file->cached, data, len, off);
  bytes_trim(&file->cached);
  if (fs->never_crashes) return;
  for (uint64_t at = off / SIM_SECTOR_BYTES; at * SIM_SECTOR_BYTES < off + len; at++) write_sector(fs, inode, at);
}

void sim_fs_resize(struct sim_fs *fs, int inode, uint64_t size) {
  struct sim_inode *file = fs->inodes[inode];
  if (size == file->cached.size) return;
  if (!fs->never_crashes) item_new(fs, SIM_SIZE, inode)->at = size;
  bytes_cut(&file->cached, size);
}

static bool is_name(const struct sim_item *item) {
  return item->kind != SIM_WRITE && item->kind != SIM_SIZE;
}

void sim_fs_name(struct sim_fs *fs, enum sim_item_kind kind, int inode, const struct sim_name *from,
                 const struct sim_name *to) {
  struct sim_item *item = item_new(fs, kind, inode);
  item->from_dir = item->to_dir = -1;
  if (from != NULL) {
    item->from_dir = from->dir;
    memcpy(item->from, from->name, SIM_NAME_BYTES);
  }
  if (to != NULL) {
    item->to_dir = to->dir;
    memcpy(item->to, to->name, SIM_NAME_BYTES);
  }
  names_apply(&fs->cached, item);
  if (fs->never_crashes) fs->items_count--;
}

/* Makes one item durable. */
static void survive(struct sim_fs *fs, const struct sim_item *item) {
  struct sim_bytes *bytes = &fs->inodes[item->inode]->durable;
  switch (item->kind) {
    case SIM_WRITE: bytes_put(bytes, item->data, SIM_SECTOR_BYTES, item->at * SIM_SECTOR_BYTES); break;
    case SIM_SIZE:
      if (item->at < bytes->size) bytes_cut(bytes, item->at);
      bytes->size = item->at;
      break;
    case SIM_LINK:
    case SIM_RENAME:
    case SIM_UNLINK: names_apply(&fs->durable, item); break;
  }
}

/* Item by item: writes that a failed sync dropped are in the cache and must not become durable. */
void sim_fs_sync(struct sim_fs *fs, int inode) {
  int kept = 0;
  for (int i = 0; i < fs->items_count; i++) {
    const struct sim_item *item = &fs->items[i];
    if (is_name(item) || item->inode != inode) fs->items[kept++] = *item;
    else survive(fs, item);
  }
  fs->items_count = kept;
}

void sim_fs_sync_range(struct sim_fs *fs, int inode, uint64_t off, size_t len) {
  int kept = 0;
  for (int i = 0; i < fs->items_count; i++) {
    const struct sim_item *item = &fs->items[i];
    bool within = item->kind == SIM_SIZE || (item->kind == SIM_WRITE && item->at * SIM_SECTOR_BYTES < off + len &&
                                             (item->at + 1) * SIM_SECTOR_BYTES > off);
    if (within && item->inode == inode) survive(fs, item);
    else fs->items[kept++] = *item;
  }
  fs->items_count = kept;
}

void sim_fs_sync_fails(struct sim_fs *fs, int inode) {
  int kept = 0;
  for (int i = 0; i < fs->items_count; i++) {
    const struct sim_item *item = &fs->items[i];
    if (item->kind != SIM_WRITE || item->inode != inode) fs->items[kept++] = *item;
  }
  fs->items_count = kept;
}

/* A rename between directories becomes durable with the target directory. */
void sim_fs_sync_dir(struct sim_fs *fs, int dir) {
  int kept = 0;
  for (int i = 0; i < fs->items_count; i++) {
    const struct sim_item *item = &fs->items[i];
    int of = item->kind == SIM_UNLINK ? item->from_dir : item->to_dir;
    if (is_name(item) && of == dir) names_apply(&fs->durable, item);
    else fs->items[kept++] = *item;
  }
  fs->items_count = kept;
}

/* --- Crashes ------------------------------------------------------------------------------------------------------ */

/* Files in a directory without a name are lost with it. */
static bool is_lost(const struct sim_names *names, int dir) {
  for (int depth = 0; dir != 0; depth++) {
    int i = 0;
    while (i < names->count && names->entries[i].inode != dir) i++;
    if (i == names->count || depth > SIM_INODES_MAX) return true;
    dir = names->entries[i].dir;
  }
  return false;
}

struct sim_fs *sim_fs_crash(const struct sim_fs *fs, const bool *survives) {
  struct sim_fs *after = fs_like(fs);
  after->durable = fs->durable;
  for (int i = 0; i < fs->inodes_count; i++) bytes_copy(&after->inodes[i]->durable, &fs->inodes[i]->durable);
  for (int i = 0; i < fs->items_count; i++) {
    if (survives[i]) survive(after, &fs->items[i]);
  }
  for (int i = after->durable.count - 1; i >= 0; i--) {
    struct sim_name *name = &after->durable.entries[i];
    if (is_lost(&after->durable, name->dir)) *name = after->durable.entries[--after->durable.count];
  }
  after->cached = after->durable;
  for (int i = 0; i < after->inodes_count; i++) {
    bytes_cut(&after->inodes[i]->durable, after->inodes[i]->durable.size);
    bytes_copy(&after->inodes[i]->cached, &after->inodes[i]->durable);
  }
  return after;
}
