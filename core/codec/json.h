/* JSON text to and from MessagePack, straight from bytes to bytes. Any thread; independent of the locale. */
#ifndef FLUME_JSON_H
#define FLUME_JSON_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* Appends the MessagePack form of one JSON text to out.
 *
 * The text is RFC 8259 to the letter, white space around it allowed, nested at most 128 deep. A number without
 * fraction and exponent that fits int64 becomes an integer, any other the nearest float. \u escapes become UTF-8.
 * Of equal keys in one object the last stays, where it stood.
 *
 * FLUME_EINVAL with a text such as "column 17: expected ',' or '}' but found 'x'", where the column counts bytes from
 * 1; FLUME_E2BIG; FLUME_ENOMEM. On failure out is as long as before. */
int flume_json_to_msgpack(const char *text, size_t len, struct flume_buf *out, struct flume_err *err);

/* Appends the JSON text of the one MessagePack value in data to out, without white space or a newline.
 *
 * Floats are written with as few digits as read back to the same float, and always look like floats ("3.0"); nan and
 * the infinities become null. Each byte of a string that is not part of valid UTF-8 becomes \ufffd. Map keys that are
 * numbers, booleans or nil are written as their JSON text in quotes.
 *
 * FLUME_ECORRUPT when data is not one MessagePack value nested at most 128 deep; FLUME_EINVAL when it holds what JSON
 * can't say, an ext value or a container as a key; FLUME_ENOMEM. On failure out is as long as before. */
int flume_msgpack_to_json(const uint8_t *data, size_t len, struct flume_buf *out, struct flume_err *err);

#endif
