/* The number of distinct values, estimated in little memory: HyperLogLog.
 *
 * Up to 128 values are counted exactly, by a sorted list of their hashes. For more values there are 4096 registers of
 * one byte: the first 12 bits of a hash choose the register, which has the largest position of the first 1 bit behind
 * them. The standard error is 1.04 / sqrt(4096), 1.6 %. The state depends on the set of values alone, not on their
 * order. (Flajolet et al. 2007; the estimate is Ertl's of 2017, which is without bias from 0 on.) */
#ifndef FLUME_HYPERLOGLOG_H
#define FLUME_HYPERLOGLOG_H

#include <stdbool.h>

#include "base/buf.h"

#define FLUME_HYPERLOGLOG_MAX_BYTES 4096

/* Adds a value by its hash (hash.h) to the state, which is empty at first. FLUME_ENOMEM. */
int flume_hyperloglog_add(struct flume_buf *state, uint64_t hash);

/* Whether so many bytes can be a state. */
bool flume_hyperloglog_is_state(size_t len);

/* How many different values were added, about, to the state of len bytes, which is one. */
int64_t flume_hyperloglog_count(const uint8_t *state, size_t len);

#endif
