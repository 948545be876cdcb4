#include "index/seqset.h"

#include <assert.h>
#include <string.h>

enum kind { OF_KEY, OF_LIST, COMBINED };

struct flume_seqset {
  const struct flume_io *io;
  enum kind kind;
  enum flume_seqset_op op;
  struct flume_bitmaps *bitmaps;
  struct flume_seqset **sets; /* owned */
  size_t count;
  roaring_bitmap_t **spans; /* of a list; else those that flume_seqset_has has computed; NULL for an empty one */
  bool *known;              /* not of a list: which spans were computed */
  size_t spans_count;
  size_t key_len;
  uint8_t key[];
};

/* A set in one span. NULL: it has no record there. */
struct bits {
  const roaring_bitmap_t *bitmap;
  roaring_bitmap_t *owned; /* the same bitmap, when it was made for this; NULL when it is borrowed */
};

/* --- Making ------------------------------------------------------------------------------------------------------ */

static struct flume_seqset *make(const struct flume_io *io, enum kind kind, size_t key_len) {
  struct flume_seqset *set = flume_io_zalloc(io, sizeof *set + key_len);
  if (set == NULL) return NULL;
  set->io = io;
  set->kind = kind;
  set->key_len = key_len;
  return set;
}

int flume_seqset_of_key(const struct flume_io *io, struct flume_bitmaps *bitmaps, const void *key, size_t key_len,
                        struct flume_seqset **out) {
  struct flume_seqset *set = make(io, OF_KEY, key_len);
  if (set == NULL) return FLUME_ENOMEM;
  set->bitmaps = bitmaps;
  memcpy(set->key, key, key_len);
  *out = set;
  return 0;
}

int flume_seqset_of_list(const struct flume_io *io, struct flume_seqset **out) {
  *out = make(io, OF_LIST, 0);
  return *out != NULL ? 0 : FLUME_ENOMEM;
}

/* Room for that span. */
static int reserve(struct flume_seqset *set, int64_t span) {
  size_t count = set->spans_count;
  if (span < (int64_t)count) return 0;
  while (span >= (int64_t)count) count = count == 0 ? 8 : count * 2;
  roaring_bitmap_t **spans = flume_io_realloc(set->io, set->spans, count * sizeof *spans);
  if (spans == NULL) return FLUME_ENOMEM;
  set->spans = spans;
  bool *known = flume_io_realloc(set->io, set->known, count * sizeof *known);
  if (known == NULL) return FLUME_ENOMEM;
  set->known = known;
  for (size_t i = set->spans_count; i < count; i++) {
    set->spans[i] = NULL;
    set->known[i] = false;
  }
  set->spans_count = count;
  return 0;
}

int flume_seqset_put(struct flume_seqset *list, int64_t seq) {
  assert(list->kind == OF_LIST && seq >= 0);
  int64_t span = seq >> FLUME_BITMAP_SPAN_BITS;
  int rv = reserve(list, span);
  if (rv != 0) return rv;
  if (list->spans[span] == NULL) list->spans[span] = roaring_bitmap_create();
  if (list->spans[span] == NULL) return FLUME_ENOMEM;
  roaring_bitmap_add(list->spans[span], (uint32_t)(seq & (FLUME_BITMAP_SPAN - 1)));
  return 0;
}

int flume_seqset_combine(const struct flume_io *io, enum flume_seqset_op op, struct flume_seqset **sets, size_t count,
                         struct flume_seqset **out) {
  assert(count > 0);
  struct flume_seqset *set = make(io, COMBINED, 0);
  struct flume_seqset **own = flume_io_alloc(io, count * sizeof *sets);
  if (set == NULL || own == NULL) {
    for (size_t i = 0; i < count; i++) flume_seqset_free(sets[i]);
    flume_io_free(io, set);
    flume_io_free(io, own);
    return FLUME_ENOMEM;
  }
  memcpy(own, sets, count * sizeof *sets);
  set->op = op;
  set->sets = own;
  set->count = count;
  *out = set;
  return 0;
}

static void free_spans(struct flume_seqset *set) {
  assert(set->spans_count == 0 || (set->spans != NULL && set->known != NULL));
  for (size_t i = 0; i < set->spans_count; i++) {
    if (set->spans[i] != NULL) roaring_bitmap_free(set->spans[i]);
  }
  flume_io_free(set->io, set->spans);
  flume_io_free(set->io, set->known);
  set->spans = NULL;
  set->known = NULL;
  set->spans_count = 0;
}

void flume_seqset_free(struct flume_seqset *set) {
  if (set == NULL) return;
  for (size_t i = 0; i < set->count; i++) flume_seqset_free(set->sets[i]);
  free_spans(set);
  flume_io_free(set->io, set->sets);
  flume_io_free(set->io, set);
}

/* --- Computing a span -------------------------------------------------------------------------------------------- */

static void drop(struct bits *bits) {
  if (bits->owned != NULL) roaring_bitmap_free(bits->owned);
  *bits = (struct bits){NULL, NULL};
}

/* Replaces a by the combination of both. */
static int merge(struct bits *a, struct bits *b, enum flume_seqset_op op) {
  roaring_bitmap_t *made = NULL;
  if (op == FLUME_SEQSET_OR && a->bitmap == NULL) {
    *a = *b;
    *b = (struct bits){NULL, NULL};
    return 0;
  }
  if (a->bitmap == NULL || b->bitmap == NULL) {
    if (op == FLUME_SEQSET_AND) drop(a);
    drop(b);
    return 0;
  }
  switch (op) {
    case FLUME_SEQSET_AND: made = roaring_bitmap_and(a->bitmap, b->bitmap); break;
    case FLUME_SEQSET_OR: made = roaring_bitmap_or(a->bitmap, b->bitmap); break;
    case FLUME_SEQSET_WITHOUT: made = roaring_bitmap_andnot(a->bitmap, b->bitmap); break;
  }
  drop(a);
  drop(b);
  if (made == NULL) return FLUME_ENOMEM;
  *a = (struct bits){made, made};
  if (roaring_bitmap_is_empty(made)) drop(a);
  return 0;
}

static int compute(struct flume_seqset *set, int64_t span, struct bits *bits, struct flume_err *err);

static int compute_combined(struct flume_seqset *set, int64_t span, struct bits *bits, struct flume_err *err) {
  assert(set->count > 0 && bits->bitmap == NULL && bits->owned == NULL);
  int rv = compute(set->sets[0], span, bits, err);
  for (size_t i = 1; rv == 0 && i < set->count; i++) {
    struct bits more = {NULL, NULL};
    if (bits->bitmap == NULL && set->op != FLUME_SEQSET_OR) return 0;
    rv = compute(set->sets[i], span, &more, err);
    if (rv == 0 && merge(bits, &more, set->op) != 0) rv = flume_err_nomem(err);
  }
  if (rv != 0) drop(bits);
  return rv;
}

static int compute(struct flume_seqset *set, int64_t span, struct bits *bits, struct flume_err *err) {
  *bits = (struct bits){NULL, NULL};
  switch (set->kind) {
    case OF_KEY: return flume_bitmaps_get(set->bitmaps, set->key, set->key_len, span, &bits->bitmap, err);
    case OF_LIST:
      if (span < (int64_t)set->spans_count) bits->bitmap = set->spans[span];
      return 0;
    case COMBINED: return compute_combined(set, span, bits, err);
  }
  return 0;
}

/* --- Reading ----------------------------------------------------------------------------------------------------- */

/* The part of the span from first to last, counted from the span's beginning. */
static void cut(int64_t span, int64_t first, int64_t last, uint32_t *from, uint32_t *to) {
  assert(span >= 0);
  int64_t begin = span * FLUME_BITMAP_SPAN;
  assert(first <= last && last >= begin && first < begin + FLUME_BITMAP_SPAN);
  *from = first > begin ? (uint32_t)(first - begin) : 0;
  *to = last < begin + FLUME_BITMAP_SPAN - 1 ? (uint32_t)(last - begin) : (uint32_t)(FLUME_BITMAP_SPAN - 1);
}

static size_t take_up(const roaring_bitmap_t *bitmap, int64_t begin, uint32_t from, uint32_t to, int64_t *seqs,
                      size_t cap) {
  roaring_uint32_iterator_t it;
  size_t count = 0;
  roaring_init_iterator(bitmap, &it);
  roaring_move_uint32_iterator_equalorlarger(&it, from);
  while (it.has_value && it.current_value <= to && count < cap) {
    seqs[count++] = begin + it.current_value;
    roaring_advance_uint32_iterator(&it);
  }
  return count;
}

static size_t take_down(const roaring_bitmap_t *bitmap, int64_t begin, uint32_t from, uint32_t to, int64_t *seqs,
                        size_t cap) {
  roaring_uint32_iterator_t it;
  size_t count = 0;
  roaring_init_iterator(bitmap, &it);
  bool above = roaring_move_uint32_iterator_equalorlarger(&it, to);
  if (!above) roaring_init_iterator_last(bitmap, &it);
  else if (it.current_value > to) roaring_previous_uint32_iterator(&it);
  while (it.has_value && it.current_value >= from && it.current_value <= to && count < cap) {
    seqs[count++] = begin + it.current_value;
    roaring_previous_uint32_iterator(&it);
  }
  return count;
}

int64_t flume_seqset_read(struct flume_seqset *set, int64_t first, int64_t last, bool reverse, int64_t *seqs,
                          size_t cap, struct flume_err *err) {
  size_t count = 0;
  if (first < 0) first = 0;
  if (last < first) return 0;
  int64_t lowest = first >> FLUME_BITMAP_SPAN_BITS, highest = last >> FLUME_BITMAP_SPAN_BITS;
  int64_t step = reverse ? -1 : 1;
  for (int64_t span = reverse ? highest : lowest; span >= lowest && span <= highest && count < cap; span += step) {
    struct bits bits;
    uint32_t from, to;
    int rv = compute(set, span, &bits, err);
    if (rv != 0) return rv;
    if (bits.bitmap == NULL) continue;
    cut(span, first, last, &from, &to);
    count += (reverse ? take_down : take_up)(bits.bitmap, span << FLUME_BITMAP_SPAN_BITS, from, to, seqs + count,
                                             cap - count);
    drop(&bits);
  }
  return (int64_t)count;
}

int64_t flume_seqset_count(struct flume_seqset *set, int64_t first, int64_t last, struct flume_err *err) {
  int64_t count = 0;
  if (first < 0) first = 0;
  if (last < first) return 0;
  for (int64_t span = first >> FLUME_BITMAP_SPAN_BITS; span <= last >> FLUME_BITMAP_SPAN_BITS; span++) {
    struct bits bits;
    uint32_t from, to;
    int rv = compute(set, span, &bits, err);
    if (rv != 0) return rv;
    if (bits.bitmap == NULL) continue;
    cut(span, first, last, &from, &to);
    count += (int64_t)roaring_bitmap_range_cardinality(bits.bitmap, from, (uint64_t)to + 1);
    drop(&bits);
  }
  return count;
}

/* --- Looking up -------------------------------------------------------------------------------------------------- */

static int compute_and_keep(struct flume_seqset *set, int64_t span, struct flume_err *err) {
  struct bits bits;
  assert(set->kind != OF_LIST && span >= 0);
  if (reserve(set, span) != 0) return flume_err_nomem(err);
  if (set->known[span]) return 0;
  int rv = compute(set, span, &bits, err);
  if (rv != 0) return rv;
  if (bits.bitmap != NULL && bits.owned == NULL) {
    bits.owned = roaring_bitmap_copy(bits.bitmap);
    if (bits.owned == NULL) return flume_err_nomem(err);
  }
  set->spans[span] = bits.owned;
  set->known[span] = true;
  return 0;
}

int flume_seqset_has(struct flume_seqset *set, int64_t seq, struct flume_err *err) {
  int64_t span = seq >> FLUME_BITMAP_SPAN_BITS;
  if (seq < 0) return 0;
  if (set->kind != OF_LIST) {
    int rv = compute_and_keep(set, span, err);
    if (rv != 0) return rv;
  } else if (span >= (int64_t)set->spans_count) {
    return 0;
  }
  const roaring_bitmap_t *bitmap = set->spans[span];
  return bitmap != NULL && roaring_bitmap_contains(bitmap, (uint32_t)(seq & (FLUME_BITMAP_SPAN - 1)));
}

void flume_seqset_forget(struct flume_seqset *set) {
  if (set->kind != OF_LIST) free_spans(set);
}
