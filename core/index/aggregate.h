/* Counts, sums, least and greatest values by group, from the bytes of records: no Lua runs.
 *
 * The state of a group is one MessagePack array in the store: how many records are in it, and then for each field
 *
 *   count      an integer
 *   sum        an integer as long as all are and it fits into 64 bits, from then on a float
 *   min, max   the value, in the order of keys (key.h); nil for none
 *   distinct   a string: the state of distinct.h
 *
 * A field looks at the value at its path. One that is not there, null or, for a sum, no number is passed over, as is what
 * can't be a key by min, max and distinct. A record without a group is passed over as a whole.
 *
 * Groups that were touched are kept at hand, some megabytes of them, and go to the store when there are too many, or
 * with flume_aggregate_flush. One thread at a time, as for the store. */
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
  struct flume_path *path; /* NULL, for a count: of every record */
};

struct flume_aggregate;

/* group makes the key of the group; NULL: all are in one, whose key is true. Takes over group and the paths of fields,
 * also on failure; the array is the caller's. FLUME_ENOMEM. */
int flume_aggregate_new(const struct flume_io *io, struct flume_extract *group,
                        const struct flume_aggregate_field *fields, size_t count, struct flume_aggregate **aggregate,
                        struct flume_err *err);
void flume_aggregate_free(struct flume_aggregate *aggregate); /* NULL is allowed */

/* From now on the keys of its groups in the store have these bytes in front, which are copied. FLUME_ENOMEM. */
int flume_aggregate_prefix(struct flume_aggregate *aggregate, const void *bytes, size_t len, struct flume_err *err);

/* Adds a record to its group. Groups that store has not are looked for in base, unless that is NULL. FLUME_ECORRUPT,
 * FLUME_ENOMEM, or as flume_store_get_group. */
int flume_aggregate_add(struct flume_aggregate *aggregate, struct flume_store *store, struct flume_store *base,
                        const uint8_t *record, size_t len, struct flume_err *err);

/* Takes a record back that was added; the last one takes its group along. The same errors; FLUME_EAGAIN: it can't be
 * taken back (it is a least or greatest value, one of the distinct ones, or part of a sum of floats), and the state has to
 * be made anew from all that is left. */
int flume_aggregate_remove(struct flume_aggregate *aggregate, struct flume_store *store, struct flume_store *base,
                           const uint8_t *record, size_t len, struct flume_err *err);

/* The group that the last record was added to, as it is now, appended to key and value: 1; or 0, it was in none.
 * FLUME_ENOMEM. */
int flume_aggregate_last(struct flume_aggregate *aggregate, struct flume_buf *key, struct flume_buf *value);

/* Puts the groups that have changed into the store. FLUME_ENOMEM. */
int flume_aggregate_flush(struct flume_aggregate *aggregate, struct flume_store *store, struct flume_err *err);
/* Lets go of all that is at hand: the store has it, or has something else. */
void flume_aggregate_forget(struct flume_aggregate *aggregate);

#endif
