/* Pieces of up to PIECE_COUNT offsets, each relative to the piece's first one. Pieces that are made ahead, by reserve,
 * stand empty behind the one that is being filled. */
#include "log/offset/offset_index.h"

#include <assert.h>

#define PIECE_COUNT 4096u

struct flume_offset_piece {
  uint64_t first_off;
  uint64_t first; /* how many offsets are before it */
  uint32_t count;
  uint32_t steps[PIECE_COUNT];
};

void flume_offset_index_init(struct flume_offset_index *index, const struct flume_io *io) {
  *index = (struct flume_offset_index){.io = io};
}

void flume_offset_index_fini(struct flume_offset_index *index) {
  for (size_t i = 0; i < index->pieces_count; i++) flume_io_free(index->io, index->pieces[i]);
  flume_io_free(index->io, index->pieces);
  flume_offset_index_init(index, index->io);
}

static int add_piece(struct flume_offset_index *index) {
  assert(index->pieces_count <= index->pieces_cap);
  if (index->pieces_count == index->pieces_cap) {
    size_t cap = index->pieces_cap > 0 ? index->pieces_cap * 2 : 8;
    struct flume_offset_piece **pieces = flume_io_realloc(index->io, index->pieces, cap * sizeof *pieces);
    if (pieces == NULL) return FLUME_ENOMEM;
    index->pieces = pieces;
    index->pieces_cap = cap;
  }
  struct flume_offset_piece *piece = flume_io_alloc(index->io, sizeof *piece);
  if (piece == NULL) return FLUME_ENOMEM;
  piece->count = 0;
  index->pieces[index->pieces_count++] = piece;
  return 0;
}

/* How many pieces are in use; the last of them is the one that is being filled. */
static size_t used(const struct flume_offset_index *index) {
  size_t count = index->pieces_count;
  while (count > 0 && index->pieces[count - 1]->count == 0) count--;
  return count;
}

int flume_offset_index_reserve(struct flume_offset_index *index, uint64_t count) {
  size_t at = used(index);
  uint64_t room = at > 0 ? PIECE_COUNT - index->pieces[at - 1]->count : 0;
  room += (uint64_t)(index->pieces_count - at) * PIECE_COUNT;
  for (; room < count; room += PIECE_COUNT) {
    if (add_piece(index) != 0) return FLUME_ENOMEM;
  }
  return 0;
}

static bool takes(const struct flume_offset_piece *piece, uint64_t off) {
  return piece->count < PIECE_COUNT && off - piece->first_off <= UINT32_MAX;
}

int flume_offset_index_add(struct flume_offset_index *index, uint64_t off) {
  size_t at = used(index);
  assert(at == 0 || off > index->pieces[at - 1]->first_off);
  if (at == 0 || !takes(index->pieces[at - 1], off)) {
    if (at == index->pieces_count && add_piece(index) != 0) return FLUME_ENOMEM;
    index->pieces[at]->first_off = off;
    index->pieces[at]->first = index->count;
    at++;
  }
  struct flume_offset_piece *piece = index->pieces[at - 1];
  piece->steps[piece->count++] = (uint32_t)(off - piece->first_off);
  index->count++;
  return 0;
}

/* The last piece whose first offset is not greater, or the first one. */
static const struct flume_offset_piece *piece_of(const struct flume_offset_index *index, uint64_t off) {
  size_t low = 0, high = used(index);
  while (high - low > 1) {
    size_t mid = low + (high - low) / 2;
    if (index->pieces[mid]->first_off <= off) low = mid;
    else high = mid;
  }
  return index->pieces[low];
}

uint64_t flume_offset_index_at(const struct flume_offset_index *index, uint64_t i) {
  assert(i < index->count);
  size_t low = 0, high = used(index);
  while (high - low > 1) {
    size_t mid = low + (high - low) / 2;
    if (index->pieces[mid]->first <= i) low = mid;
    else high = mid;
  }
  const struct flume_offset_piece *piece = index->pieces[low];
  return piece->first_off + piece->steps[i - piece->first];
}

uint64_t flume_offset_index_find(const struct flume_offset_index *index, uint64_t off) {
  if (index->count == 0) return 0;
  const struct flume_offset_piece *piece = piece_of(index, off);
  uint32_t low = 0, high = piece->count;
  while (low < high) {
    uint32_t mid = low + (high - low) / 2;
    if (piece->first_off + piece->steps[mid] < off) low = mid + 1;
    else high = mid;
  }
  return piece->first + low;
}

bool flume_offset_index_has(const struct flume_offset_index *index, uint64_t off) {
  uint64_t i = flume_offset_index_find(index, off);
  return i < index->count && flume_offset_index_at(index, i) == off;
}
