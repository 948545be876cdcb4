/* BIPF, the binary format of the records of async-append-only-log files, to MessagePack. Any thread. */
#ifndef FLUME_BIPF_H
#define FLUME_BIPF_H

#include "base/buf.h"
#include "base/err.h"

/* Appends the MessagePack form of the one BIPF value in data to out.
 *
 * A number that has no fraction becomes an integer, as it would by way of JSON; undefined becomes nil. FLUME_ECORRUPT
 * with a text such as "byte 17: a value that is longer than what it is in", where the byte counts from 0; FLUME_ENOMEM.
 * On failure out is as long as before. */
int flume_bipf_to_msgpack(const uint8_t *data, size_t len, struct flume_buf *out, struct flume_err *err);

#endif
