/* Choosing the crashes of a file system that are tried. */
#include <stdio.h>
#include <string.h>

#include "sim_fs.h"

void sim_crashes_init(struct sim_crashes *crashes, const struct sim_fs *fs, struct sim_limits limits, uint64_t seed) {
  crashes->fs = fs;
  crashes->limits = limits;
  crashes->random = seed;
  crashes->turn = 0;
}

/* A size survives only with all earlier sizes of the file. Removes other sizes; false when it removed one. */
static bool keep_order(struct sim_crashes *crashes) {
  const struct sim_fs *fs = crashes->fs;
  bool lost[SIM_INODES_MAX] = {false}, kept = true;
  for (int i = 0; i < fs->items_count; i++) {
    const struct sim_item *item = &fs->items[i];
    if (item->kind != SIM_SIZE) continue;
    if (lost[item->inode] && crashes->survives[i]) kept = crashes->survives[i] = false;
    lost[item->inode] = !crashes->survives[i];
  }
  return kept;
}

static bool random_bit(struct sim_crashes *crashes) {
  uint64_t z = (crashes->random += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  return (z ^ (z >> 29)) >> 40 & 1;
}

enum family { PREFIX, SUFFIX, ALL_BUT_ONE, ONE, ONE_AND_METADATA, FAMILIES };

static bool survives_in(enum family family, const struct sim_item *item, int i, int chosen) {
  switch (family) {
    case PREFIX: return i <= chosen;
    case SUFFIX: return i > chosen;
    case ALL_BUT_ONE: return i != chosen;
    case ONE: return i == chosen;
    default: return i == chosen || item->kind != SIM_WRITE;
  }
}

/* Turn 0 keeps nothing; later turns are each family with each item. keep_order may make two turns equal. */
static bool next_of_many(struct sim_crashes *crashes) {
  const struct sim_fs *fs = crashes->fs;
  uint64_t n = (uint64_t)fs->items_count, turn = crashes->turn++;
  if (turn > n * FAMILIES + (uint64_t)crashes->limits.random_subsets) return false;
  for (int i = 0; i < fs->items_count; i++) {
    if (turn == 0) crashes->survives[i] = false;
    else if (turn > n * FAMILIES) crashes->survives[i] = random_bit(crashes);
    else crashes->survives[i] = survives_in((enum family)((turn - 1) / n), &fs->items[i], i, (int)((turn - 1) % n));
  }
  keep_order(crashes);
  return true;
}

static bool next_of_few(struct sim_crashes *crashes) {
  int n = crashes->fs->items_count;
  while (crashes->turn >> n == 0) {
    uint64_t turn = crashes->turn++;
    for (int i = 0; i < n; i++) crashes->survives[i] = turn >> i & 1;
    if (keep_order(crashes)) return true;
  }
  return false;
}

bool sim_crashes_next(struct sim_crashes *crashes) {
  return crashes->fs->items_count <= crashes->limits.exhaustive_items ? next_of_few(crashes) : next_of_many(crashes);
}

const char *sim_crashes_text(const struct sim_crashes *crashes) {
  static const char kinds[] = {'w', 's', 'l', 'r', 'u'};
  static char text[600];
  size_t len = 0;
  text[0] = '\0';
  for (int i = 0; i < crashes->fs->items_count && len < sizeof text - 16; i++) {
    const struct sim_item *item = &crashes->fs->items[i];
    len +=
        (size_t)snprintf(text + len, 16, "%s%c%d", crashes->survives[i] ? " +" : " -", kinds[item->kind], item->inode);
  }
  return text;
}
