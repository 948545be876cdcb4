/* JSON text to and from MessagePack, straight from bytes to bytes. Any thread; independent of the locale. */
#ifndef FLUME_JSON_H
#define FLUME_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* Appends the MessagePack form of one JSON text to out.
 *
 * The text is RFC 8259 to the letter, white space around it allowed, nested at most 128 deep. A number without
 * fraction and exponent that fits int64 becomes an integer, any other the nearest float. An integer beyond int64 that
 * would lose digits as a float is refused. \u escapes become UTF-8; half of a surrogate pair without the other half,
 * as JavaScript writes it for a string that was cut in a character, becomes its three bytes of generalized UTF-8 (ed
 * a0..bf 80..bf), which flume_msgpack_to_json writes as the same escape. Of equal keys in one object the last stays,
 * where it stood.
 *
 * FLUME_EINVAL with a text such as "column 17: expected ',' or '}' but found 'x'", where the column counts bytes from
 * 1; FLUME_E2BIG; FLUME_ENOMEM. On failure out is as long as before. */
int flume_json_to_msgpack(const char *text, size_t len, struct flume_buf *out, struct flume_err *err);

/* The same for a text that is stored in a log already, perhaps by another program: what JavaScript reads, this reads
 * too. An integer beyond int64 becomes the nearest float, a number beyond double an infinity. Bytes that are not UTF-8
 * stay as they are. An array or object nested deeper than 128 becomes a string: its JSON text. */
int flume_json_stored_to_msgpack(const char *text, size_t len, struct flume_buf *out, struct flume_err *err);

/* What happens to a value that JSON can't say: nan, an infinity, a string that is not UTF-8, an ext value, a key that is
 * no string. */
enum flume_json_mode {
  FLUME_JSON_EXACT,     /* it is refused: the text reads back as the same value */
  FLUME_JSON_TEXT_KEYS, /* it is refused, but a key that is a number, a boolean or nil becomes its JSON text in quotes */
  FLUME_JSON_LOSSY,     /* it is written as null; bytes that are not UTF-8 become \ufffd, keys become text */
};

/* What a text lacks of its value. */
struct flume_json_loss {
  bool values;    /* a value was replaced, or two keys have the same text */
  bool keys;      /* a key that was no string became one */
  char what[256]; /* the first of these, "value.a[2]: nan has no JSON form"; "" when nothing was lost */
};

/* Appends the JSON text of the one MessagePack value in data to out, without white space or a newline. Floats are
 * written as flume_float_text does.
 *
 * loss tells what FLUME_JSON_LOSSY replaced; it may be NULL.
 *
 * FLUME_ECORRUPT when data is not one MessagePack value nested at most 128 deep; FLUME_EINVAL, with the path, for what is
 * refused; FLUME_ENOMEM. On failure out is as long as before. */
int flume_msgpack_to_json(const uint8_t *data, size_t len, enum flume_json_mode mode, struct flume_buf *out,
                          struct flume_json_loss *loss, struct flume_err *err);

#endif
