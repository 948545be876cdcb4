/* Keys: values whose encoded bytes sort as the values do, so that an ordered store of bytes can keep them.
 *
 * The order is that of FoundationDB's tuple layer, type by type: nil, strings (by their bytes), arrays (element by
 * element, a shorter one before a longer one that it begins), numbers, false, true. Unlike there, integers and floats
 * are one kind and sort by what they are worth, since to Lua 1 and 1.0 are the same key: a float that an int64 can
 * hold is stored as that integer. Encodings are prefix-free: no key's bytes begin another key's.
 * (FoundationDB: design/tuple.md in its source.)
 *
 * Any thread. Nothing here keeps state. */
#ifndef FLUME_KEY_H
#define FLUME_KEY_H

#include "base/buf.h"
#include "base/err.h"
#include "codec/msgpack.h"

/* Arrays inside one another, at most. */
#define FLUME_KEY_MAX_DEPTH 32

/* Appends the key that one MessagePack value stands for. FLUME_EINVAL with the place, "key[2]: a map can't be a key",
 * for maps, nan and what is nested too deep; FLUME_ECORRUPT for bytes that are no value; FLUME_ENOMEM. On failure out
 * is as long as before. */
int flume_key_encode(const uint8_t *value, size_t len, struct flume_buf *out, struct flume_err *err);

/* As flume_key_encode, of what the keys of a range begin with: an array's elements without its end, a string without
 * its end; any other value as it is. */
int flume_key_encode_prefix(const uint8_t *value, size_t len, struct flume_buf *out, struct flume_err *err);

/* Appends the MessagePack value of the key at *p and moves *p behind it. FLUME_ECORRUPT, FLUME_ENOMEM. */
int flume_key_decode(const uint8_t **p, const uint8_t *end, struct flume_buf *out);

/* Moves *p behind the key at *p. 0, or FLUME_ECORRUPT with *p untouched. */
int flume_key_skip(const uint8_t **p, const uint8_t *end);

#endif
