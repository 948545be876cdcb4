/* Counts, sums, least, greatest and distinct values by group, from the bytes of records: no Lua runs.
 *
 * The state of a group is one MessagePack array in the store: the number of its records, and then for each field
 *
 *   count      an integer
 *   sum        an integer as long as all are and it fits into 64 bits, from then on a float
 *   min, max   the value, in the order of keys (key.h); nil for none
 *   distinct   a string: the state of hyperloglog.h
 *
 * A field reads the value at its path. It passes over a missing value and null; a sum passes over what is no number;
 * min, max and distinct pass over what can't be a key. A record without a group is passed over as a whole.
 *
 * Some megabytes of recent groups are kept in memory. They go to the store when there are too many, and by
 * flume_aggregate_flush. Threads: one at a time, as for the store. */
#ifndef FLUME_AGGREGATE_H
#define FLUME_AGGREGATE_H

#include "index/key_path.h"
#include "store/store.h"

enum flume_aggregate_op {
  FLUME_AGGREGATE_COUNT,
  FLUME_AGGREGATE_SUM,
  FLUME_AGGREGATE_MIN,
  FLUME_AGGREGATE_MAX,
  FLUME_AGGREGATE_DISTINCT,
};

struct flume_aggregate_field {
  enum flume_aggregate_op op;
  struct flume_msgpack_path *path; /* NULL, for a count: of every record */
};

struct flume_aggregate;

/* group makes the key of a record's group; NULL: all records are in one group, whose key is true. Takes ownership of
 * group and of the fields' paths, also on failure; the array stays the caller's. FLUME_ENOMEM. */
int flume_aggregate_new(const struct flume_io *io, struct flume_extract *group,
                        const struct flume_aggregate_field *fields, size_t count, struct flume_aggregate **aggregate,
                        struct flume_err *err);
void flume_aggregate_free(struct flume_aggregate *aggregate); /* NULL is allowed */

/* From now on the keys of groups in the store begin with these bytes, which are copied. FLUME_ENOMEM. */
int flume_aggregate_prefix(struct flume_aggregate *aggregate, const void *bytes, size_t len, struct flume_err *err);

/* Adds a record to its group. A group that is not in store is looked for in base, unless base is NULL. FLUME_ECORRUPT,
 * FLUME_ENOMEM, or as flume_store_get_group. */
int flume_aggregate_add(struct flume_aggregate *aggregate, struct flume_store *store, struct flume_store *base,
                        const uint8_t *record, size_t len, struct flume_err *err);

/* Takes back a record that was added; with its last record a group is removed. Errors: the same; FLUME_EAGAIN: the
 * record can't be taken back (its value is the least, the greatest, a distinct one, or part of a sum of floats), and
 * the state has to be rebuilt from the records that are left. */
int flume_aggregate_remove(struct flume_aggregate *aggregate, struct flume_store *store, struct flume_store *base,
                           const uint8_t *record, size_t len, struct flume_err *err);

/* Appends key and present value of the group that the last record was added to: 1; or 0, it was in none.
 * FLUME_ENOMEM. */
int flume_aggregate_last(struct flume_aggregate *aggregate, struct flume_buf *key, struct flume_buf *value);

/* Puts the changed groups into the store. FLUME_ENOMEM. */
int flume_aggregate_flush(struct flume_aggregate *aggregate, struct flume_store *store, struct flume_err *err);
/* Discards the groups in memory: the store has them, or was replaced. */
void flume_aggregate_forget(struct flume_aggregate *aggregate);

#endif
