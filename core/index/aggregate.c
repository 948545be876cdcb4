/* For each record: find the key of its group, then the group in memory (a hash table) or in the store; then change
 * the cell of each field. A changed group goes to the store as a whole, when it is flushed.
 *
 * Failures:
 *   - A failure within a record leaves its group half changed, in memory alone. The view ends, and starts again with
 *     its state in its store. */
#include "index/aggregate.h"

#include <assert.h>
#include <math.h>

#include "base/hash.h"
#include "base/queue.h"
#include "codec/key.h"
#include "codec/msgpack.h"
#include "index/hyperloglog.h"

#define BUCKETS_FIRST 1024u
#define AT_HAND_MAX_BYTES (16u << 20)

struct cell {
  bool is_float;
  bool is_int;            /* min, max: of an integer, which is in i: most values can be passed over by comparing that */
  int64_t i;              /* count; sum while it is an integer */
  double f;               /* sum, when it is a float */
  struct flume_buf bytes; /* min, max: an encoded key, empty for none; distinct: its state */
};

struct group {
  struct group *next;         /* in the same bucket */
  struct flume_queue changed; /* among those that are to be flushed; by itself when it is not */
  uint64_t hash;
  int64_t records;
  uint32_t key_len;
  const uint8_t *key; /* behind the cells */
  struct cell cells[];
};

struct text {
  const uint8_t *data; /* NULL for none */
  size_t len;
};

struct field {
  struct flume_aggregate_field is;
  const struct field *before; /* one before it that has the same path; NULL */
  struct text value;          /* in the record that is at hand */
};

struct flume_aggregate {
  const struct flume_io *io;
  struct flume_extract *group; /* NULL: all records are in one */
  struct group **buckets;
  size_t buckets_count; /* a power of two; 0 at first */
  size_t groups_count;
  size_t bytes;               /* of all that is at hand, about */
  struct group *last;         /* that the last record is in; NULL */
  struct flume_queue changed; /* struct group */
  struct flume_buf prefix;    /* that keys have in front */
  struct flume_buf key;       /* scratch, as are the next two */
  struct flume_buf value;
  struct flume_buf packed;
  size_t count;
  struct field fields[];
};

static bool is_same_path(const struct flume_msgpack_path *a, const struct flume_msgpack_path *b) {
  if (a == NULL || b == NULL || a->count != b->count) return false;
  for (uint32_t i = 0; i < a->count; i++) {
    if (a->keys[i].len != b->keys[i].len || memcmp(a->keys[i].data, b->keys[i].data, a->keys[i].len) != 0) return false;
  }
  return true;
}

static const struct field *find_before(const struct flume_aggregate *self, size_t index) {
  for (size_t i = 0; i < index; i++) {
    if (is_same_path(self->fields[i].is.path, self->fields[index].is.path)) return &self->fields[i];
  }
  return NULL;
}

int flume_aggregate_new(const struct flume_io *io, struct flume_extract *group,
                        const struct flume_aggregate_field *fields, size_t count, struct flume_aggregate **out,
                        struct flume_err *err) {
  struct flume_aggregate *self = flume_io_zalloc(io, sizeof *self + count * sizeof *self->fields);
  if (self == NULL) {
    for (size_t i = 0; i < count; i++) flume_msgpack_path_free(fields[i].path);
    flume_extract_free(group);
    return flume_err_nomem(err);
  }
  self->io = io;
  self->group = group;
  self->count = count;
  for (size_t i = 0; i < count; i++) {
    self->fields[i].is = fields[i];
    self->fields[i].before = find_before(self, i);
  }
  flume_queue_init(&self->changed);
  flume_buf_init(&self->prefix, io);
  flume_buf_init(&self->key, io);
  flume_buf_init(&self->value, io);
  flume_buf_init(&self->packed, io);
  *out = self;
  return 0;
}

int flume_aggregate_prefix(struct flume_aggregate *self, const void *bytes, size_t len, struct flume_err *err) {
  self->prefix.len = 0;
  return flume_buf_append(&self->prefix, bytes, len) == 0 ? 0 : flume_err_nomem(err);
}

void flume_aggregate_free(struct flume_aggregate *self) {
  if (self == NULL) return;
  flume_aggregate_forget(self);
  flume_buf_fini(&self->prefix);
  flume_buf_fini(&self->key);
  flume_buf_fini(&self->value);
  flume_buf_fini(&self->packed);
  for (size_t i = 0; i < self->count; i++) flume_msgpack_path_free(self->fields[i].is.path);
  flume_extract_free(self->group);
  flume_io_free(self->io, self);
}

/* --- Groups at hand --------------------------------------------------------------------------------------------- */

static size_t group_bytes(const struct flume_aggregate *self, const struct group *group) {
  size_t bytes = sizeof *group + self->count * sizeof(struct cell) + group->key_len;
  for (size_t i = 0; i < self->count; i++) bytes += group->cells[i].bytes.cap;
  return bytes;
}

static void free_group(struct flume_aggregate *self, struct group *group) {
  for (size_t i = 0; i < self->count; i++) flume_buf_fini(&group->cells[i].bytes);
  flume_io_free(self->io, group);
}

static struct group *new_group(struct flume_aggregate *self, uint64_t hash) {
  struct group *group = flume_io_zalloc(self->io, sizeof *group + self->count * sizeof(struct cell) + self->key.len);
  if (group == NULL) return NULL;
  uint8_t *key = (uint8_t *)&group->cells[self->count];
  memcpy(key, self->key.data, self->key.len);
  group->key = key;
  group->key_len = (uint32_t)self->key.len;
  group->hash = hash;
  flume_queue_init(&group->changed);
  for (size_t i = 0; i < self->count; i++) flume_buf_init(&group->cells[i].bytes, self->io);
  return group;
}

static int grow(struct flume_aggregate *self) {
  size_t count = self->buckets_count == 0 ? BUCKETS_FIRST : self->buckets_count * 2;
  struct group **buckets = flume_io_zalloc(self->io, count * sizeof *buckets);
  if (buckets == NULL) return FLUME_ENOMEM;
  for (size_t i = 0; i < self->buckets_count; i++) {
    struct group *group = self->buckets[i], *next;
    for (; group != NULL; group = next) {
      next = group->next;
      group->next = buckets[group->hash & (count - 1)];
      buckets[group->hash & (count - 1)] = group;
    }
  }
  flume_io_free(self->io, self->buckets);
  self->buckets = buckets;
  self->buckets_count = count;
  return 0;
}

static int add_group(struct flume_aggregate *self, struct group *group) {
  if (self->groups_count >= self->buckets_count && grow(self) != 0) return FLUME_ENOMEM;
  struct group **bucket = &self->buckets[group->hash & (self->buckets_count - 1)];
  group->next = *bucket;
  *bucket = group;
  self->groups_count++;
  self->bytes += group_bytes(self, group);
  return 0;
}

static struct group *find_group(const struct flume_aggregate *self, uint64_t hash) {
  if (self->buckets_count == 0) return NULL;
  struct group *group = self->buckets[hash & (self->buckets_count - 1)];
  for (; group != NULL; group = group->next) {
    if (group->hash == hash && group->key_len == self->key.len &&
        memcmp(group->key, self->key.data, self->key.len) == 0) {
      return group;
    }
  }
  return NULL;
}

static void take_out(struct flume_aggregate *self, struct group *group) {
  struct group **place = &self->buckets[group->hash & (self->buckets_count - 1)];
  while (*place != group) {
    assert(*place != NULL);
    place = &(*place)->next;
  }
  assert(self->groups_count > 0 && self->bytes >= group_bytes(self, group) && self->last != group);
  *place = group->next;
  self->groups_count--;
  self->bytes -= group_bytes(self, group);
  flume_queue_remove(&group->changed);
  free_group(self, group);
}

void flume_aggregate_forget(struct flume_aggregate *self) {
  for (size_t i = 0; i < self->buckets_count; i++) {
    struct group *group = self->buckets[i], *next;
    for (; group != NULL; group = next) {
      next = group->next;
      free_group(self, group);
    }
  }
  flume_io_free(self->io, self->buckets);
  self->buckets = NULL;
  self->buckets_count = self->groups_count = self->bytes = 0;
  self->last = NULL;
  flume_queue_init(&self->changed);
}

/* --- A group as it is in the store -------------------------------------------------------------------------------- */

static int write_cell(enum flume_aggregate_op op, const struct cell *cell, struct flume_buf *out) {
  const uint8_t *key = cell->bytes.data;
  switch (op) {
    case FLUME_AGGREGATE_COUNT: return flume_msgpack_write_int(out, cell->i);
    case FLUME_AGGREGATE_SUM:
      return cell->is_float ? flume_msgpack_write_float(out, cell->f) : flume_msgpack_write_int(out, cell->i);
    case FLUME_AGGREGATE_MIN:
    case FLUME_AGGREGATE_MAX:
      return cell->bytes.len == 0 ? flume_msgpack_write_nil(out)
                                  : flume_key_decode(&key, cell->bytes.data + cell->bytes.len, out);
    case FLUME_AGGREGATE_DISTINCT: return flume_msgpack_write_str(out, cell->bytes.data, cell->bytes.len);
  }
  return FLUME_EINVAL;
}

static int write_group(const struct flume_aggregate *self, const struct group *group, struct flume_buf *out) {
  int rv = flume_msgpack_write_array(out, (uint32_t)self->count + 1);
  if (rv == 0) rv = flume_msgpack_write_int(out, group->records);
  for (size_t i = 0; rv == 0 && i < self->count; i++) rv = write_cell(self->fields[i].is.op, &group->cells[i], out);
  return rv;
}

static int read_cell(enum flume_aggregate_op op, const uint8_t *value, const uint8_t *end, struct cell *cell) {
  struct flume_value v;
  const uint8_t *p = value;
  int rv = flume_msgpack_read(&p, end, &v);
  if (rv != 0) return rv;
  switch (op) {
    case FLUME_AGGREGATE_COUNT:
    case FLUME_AGGREGATE_SUM:
      cell->is_float = v.type == FLUME_TYPE_FLOAT;
      if (cell->is_float) cell->f = v.f;
      else cell->i = v.i;
      return cell->is_float || v.type == FLUME_TYPE_INT ? 0 : FLUME_ECORRUPT;
    case FLUME_AGGREGATE_MIN:
    case FLUME_AGGREGATE_MAX:
      cell->is_int = v.type == FLUME_TYPE_INT;
      cell->i = cell->is_int ? v.i : 0;
      return v.type == FLUME_TYPE_NIL ? 0 : flume_key_encode(value, (size_t)(end - value), &cell->bytes, NULL);
    case FLUME_AGGREGATE_DISTINCT:
      if (v.type != FLUME_TYPE_STR || !flume_hyperloglog_is_state(v.str.len)) return FLUME_ECORRUPT;
      return flume_buf_append(&cell->bytes, v.str.data, v.str.len);
  }
  return FLUME_ECORRUPT;
}

static int read_group(const struct flume_aggregate *self, struct group *group) {
  const uint8_t *p = self->value.data, *end = p + self->value.len;
  struct flume_value v;
  if (flume_msgpack_read(&p, end, &v) != 0 || v.type != FLUME_TYPE_ARRAY || v.count != self->count + 1 ||
      flume_msgpack_read(&p, end, &v) != 0 || v.type != FLUME_TYPE_INT) {
    return FLUME_ECORRUPT;
  }
  group->records = v.i;
  for (size_t i = 0; i < self->count; i++) {
    const uint8_t *value = p;
    int rv = flume_msgpack_skip(&p, end);
    if (rv == 0) rv = read_cell(self->fields[i].is.op, value, p, &group->cells[i]);
    if (rv != 0) return rv;
  }
  return 0;
}

static int load_group(struct flume_aggregate *self, struct flume_store *store, struct flume_store *base,
                      struct group *group, struct flume_err *err) {
  self->value.len = 0;
  int rv = flume_store_get_group(store, group->key, group->key_len, &self->value, err);
  if (rv == FLUME_ENOENT && base != NULL) {
    rv = flume_store_get_group(base, group->key, group->key_len, &self->value, err);
  }
  if (rv == FLUME_ENOENT) return 0;
  if (rv != 0) return rv;
  rv = read_group(self, group);
  return rv == 0 ? 0 : flume_err_set(err, rv, "a group's state is damaged");
}

/* The group whose key is in self->key. */
static int fetch_group(struct flume_aggregate *self, struct flume_store *store, struct flume_store *base,
                       struct group **out, struct flume_err *err) {
  uint64_t hash = flume_hash64(self->key.data, self->key.len);
  *out = find_group(self, hash);
  if (*out != NULL) return 0;
  struct group *group = new_group(self, hash);
  if (group == NULL) return flume_err_nomem(err);
  int rv = load_group(self, store, base, group, err);
  if (rv == 0) rv = add_group(self, group) == 0 ? 0 : flume_err_nomem(err);
  if (rv != 0) {
    free_group(self, group);
    return rv;
  }
  *out = group;
  return 0;
}

static int flush_group(struct flume_aggregate *self, struct flume_store *store, const struct group *group,
                       struct flume_err *err) {
  self->value.len = 0;
  int rv = write_group(self, group, &self->value);
  if (rv != 0) return flume_err_set(err, rv, "writing a group: %s", flume_strerror(rv));
  return flume_store_put_group(store, group->key, group->key_len, self->value.data, self->value.len, err);
}

int flume_aggregate_flush(struct flume_aggregate *self, struct flume_store *store, struct flume_err *err) {
  while (!flume_queue_empty(&self->changed)) {
    struct group *group = FLUME_CONTAINER_OF(self->changed.next, struct group, changed);
    assert(self->groups_count > 0);
    int rv = flush_group(self, store, group, err);
    if (rv != 0) return rv;
    flume_queue_remove(&group->changed);
  }
  return 0;
}

static int make_room(struct flume_aggregate *self, struct flume_store *store, struct flume_err *err) {
  if (self->bytes < AT_HAND_MAX_BYTES) return 0;
  int rv = flume_aggregate_flush(self, store, err);
  if (rv == 0) flume_aggregate_forget(self);
  return rv;
}

/* --- Fields of a record ------------------------------------------------------------------------------------------ */

/* Finds the field's value in the record, none when it is null. Fields before it have been looked for. */
static int seek(struct field *field, const struct text *record) {
  const uint8_t *end = record->data + record->len, *data, *behind;
  field->value.data = NULL;
  if (field->is.path == NULL) return 0;
  if (field->before != NULL) {
    field->value = field->before->value;
    return 0;
  }
  int rv = flume_msgpack_seek(record->data, end, field->is.path, &data);
  if (rv == FLUME_ENOENT) return 0;
  if (rv != 0) return rv;
  behind = data;
  rv = flume_msgpack_skip(&behind, end);
  if (rv == 0 && *data != 0xc0) field->value = (struct text){data, (size_t)(behind - data)};
  return rv;
}

static bool looks_at_none(const struct field *field) {
  return field->is.path != NULL && field->value.data == NULL;
}

/* The value as a number: false when it is none. */
static bool get_number(const struct text *value, struct flume_value *number) {
  const uint8_t *p = value->data;
  if (flume_msgpack_read(&p, value->data + value->len, number) != 0) return false;
  return number->type == FLUME_TYPE_INT || (number->type == FLUME_TYPE_FLOAT && !isnan(number->f));
}

/* The value as a key, in self->packed: 1; 0 when it can't be one. */
static int get_key(struct flume_aggregate *self, const struct text *value) {
  self->packed.len = 0;
  int rv = flume_key_encode(value->data, value->len, &self->packed, NULL);
  if (rv == FLUME_EINVAL) return 0;
  return rv == 0 ? 1 : rv;
}

static int compare(const struct flume_buf *a, const struct flume_buf *b) {
  size_t len = a->len < b->len ? a->len : b->len;
  int order = len > 0 ? memcmp(a->data, b->data, len) : 0;
  return order != 0 ? order : (a->len > b->len) - (a->len < b->len);
}

/* --- Adding ------------------------------------------------------------------------------------------------------ */

static void add_to_sum(struct cell *cell, const struct flume_value *number) {
  if (!cell->is_float && number->type == FLUME_TYPE_INT) {
    int64_t sum;
    if (!__builtin_add_overflow(cell->i, number->i, &sum)) {
      cell->i = sum;
      return;
    }
  }
  if (!cell->is_float) cell->f = (double)cell->i;
  cell->is_float = true;
  cell->f += number->type == FLUME_TYPE_INT ? (double)number->i : number->f;
}

/* Whether an integer is not beyond the one in the cell. */
static bool is_within(const struct field *field, const struct cell *cell, const struct flume_value *number) {
  if (!cell->is_int || number->type != FLUME_TYPE_INT) return false;
  return field->is.op == FLUME_AGGREGATE_MIN ? number->i >= cell->i : number->i <= cell->i;
}

/* The value goes into the cell when it is beyond the one there. */
static int add_edge(struct flume_aggregate *self, const struct field *field, struct cell *cell) {
  struct flume_value number;
  bool is_number = get_number(&field->value, &number);
  if (is_number && is_within(field, cell, &number)) return 0;
  int rv = get_key(self, &field->value);
  if (rv <= 0) return rv;
  if (cell->bytes.len > 0) {
    int order = compare(&self->packed, &cell->bytes);
    if (field->is.op == FLUME_AGGREGATE_MIN ? order >= 0 : order <= 0) return 0;
  }
  size_t before = cell->bytes.cap;
  cell->is_int = is_number && number.type == FLUME_TYPE_INT;
  cell->i = cell->is_int ? number.i : 0;
  cell->bytes.len = 0;
  rv = flume_buf_append(&cell->bytes, self->packed.data, self->packed.len);
  self->bytes += cell->bytes.cap - before;
  return rv;
}

static int add_distinct(struct flume_aggregate *self, const struct field *field, struct cell *cell) {
  size_t before = cell->bytes.cap;
  int rv = get_key(self, &field->value);
  if (rv <= 0) return rv;
  rv = flume_hyperloglog_add(&cell->bytes, flume_hash64(self->packed.data, self->packed.len));
  self->bytes += cell->bytes.cap - before;
  return rv;
}

static int add_field(struct flume_aggregate *self, const struct field *field, struct cell *cell) {
  struct flume_value number;
  if (looks_at_none(field)) return 0;
  switch (field->is.op) {
    case FLUME_AGGREGATE_COUNT: cell->i++; return 0;
    case FLUME_AGGREGATE_SUM:
      if (get_number(&field->value, &number)) add_to_sum(cell, &number);
      return 0;
    case FLUME_AGGREGATE_MIN:
    case FLUME_AGGREGATE_MAX: return add_edge(self, field, cell);
    case FLUME_AGGREGATE_DISTINCT: return add_distinct(self, field, cell);
  }
  return FLUME_EINVAL;
}

/* The key of the record's group into self->key: 1; 0 for none. */
static int get_group_key(struct flume_aggregate *self, const struct text *record) {
  static const uint8_t all = 0xc3; /* true */
  self->key.len = 0;
  if (flume_buf_append(&self->key, self->prefix.data, self->prefix.len) != 0) return FLUME_ENOMEM;
  if (self->group != NULL) {
    return flume_extract_key(self->group, record->data, record->len, &self->key, &self->packed);
  }
  int rv = flume_key_encode(&all, 1, &self->key, NULL);
  return rv == 0 ? 1 : rv;
}

static int unreadable(int rv, struct flume_err *err) {
  return flume_err_set(err, rv, "the record can't be read: %s", flume_strerror(rv));
}

/* The record's group; NULL: it is in none, and *rv is 0, or *rv is an error. */
static struct group *group_of(struct flume_aggregate *self, struct flume_store *store, struct flume_store *base,
                              const struct text *record, int *rv, struct flume_err *err) {
  struct group *group = NULL;
  self->last = NULL;
  *rv = make_room(self, store, err);
  if (*rv != 0) return NULL;
  *rv = get_group_key(self, record);
  if (*rv < 0) unreadable(*rv, err);
  if (*rv <= 0) return NULL;
  *rv = fetch_group(self, store, base, &group, err);
  return *rv == 0 ? group : NULL;
}

static void note_changed(struct flume_aggregate *self, struct group *group) {
  if (flume_queue_empty(&group->changed)) flume_queue_push(&self->changed, &group->changed);
}

int flume_aggregate_add(struct flume_aggregate *self, struct flume_store *store, struct flume_store *base,
                        const uint8_t *data, size_t len, struct flume_err *err) {
  struct text record = {data, len};
  int rv;
  struct group *group = group_of(self, store, base, &record, &rv, err);
  if (group == NULL) return rv;
  group->records++;
  note_changed(self, group);
  for (size_t i = 0; i < self->count; i++) {
    rv = seek(&self->fields[i], &record);
    if (rv == 0) rv = add_field(self, &self->fields[i], &group->cells[i]);
    if (rv != 0) return unreadable(rv, err);
  }
  self->last = group;
  return 0;
}

int flume_aggregate_last(struct flume_aggregate *self, struct flume_buf *key, struct flume_buf *value) {
  if (self->last == NULL) return 0;
  int rv = flume_buf_append(key, self->last->key, self->last->key_len);
  if (rv == 0) rv = write_group(self, self->last, value);
  return rv == 0 ? 1 : rv;
}

/* --- Taking back ------------------------------------------------------------------------------------------------- */

static int remove_from_sum(struct cell *cell, const struct flume_value *number) {
  if (cell->is_float || number->type == FLUME_TYPE_FLOAT) return FLUME_EAGAIN;
  return __builtin_sub_overflow(cell->i, number->i, &cell->i) ? FLUME_EAGAIN : 0;
}

static int remove_field(struct flume_aggregate *self, const struct field *field, struct cell *cell) {
  struct flume_value number;
  int rv;
  if (looks_at_none(field)) return 0;
  switch (field->is.op) {
    case FLUME_AGGREGATE_COUNT: cell->i--; return 0;
    case FLUME_AGGREGATE_SUM: return get_number(&field->value, &number) ? remove_from_sum(cell, &number) : 0;
    case FLUME_AGGREGATE_MIN:
    case FLUME_AGGREGATE_MAX:
      rv = get_key(self, &field->value);
      return rv == 1 && compare(&self->packed, &cell->bytes) == 0 ? FLUME_EAGAIN : rv < 0 ? rv : 0;
    case FLUME_AGGREGATE_DISTINCT: rv = get_key(self, &field->value); return rv == 1 ? FLUME_EAGAIN : rv;
  }
  return FLUME_EINVAL;
}

int flume_aggregate_remove(struct flume_aggregate *self, struct flume_store *store, struct flume_store *base,
                           const uint8_t *data, size_t len, struct flume_err *err) {
  struct text record = {data, len};
  int rv;
  struct group *group = group_of(self, store, base, &record, &rv, err);
  if (group == NULL) return rv;
  if (group->records <= 1) {
    rv = flume_store_del_group(store, group->key, group->key_len, err);
    if (rv == 0) take_out(self, group);
    return rv;
  }
  group->records--;
  note_changed(self, group);
  for (size_t i = 0; i < self->count; i++) {
    rv = seek(&self->fields[i], &record);
    if (rv == 0) rv = remove_field(self, &self->fields[i], &group->cells[i]);
    if (rv == FLUME_EAGAIN) return flume_err_set(err, rv, "the record can't be taken back");
    if (rv != 0) return unreadable(rv, err);
  }
  return 0;
}
