/* Makes the key of an index entry from the bytes of a record, for views that are declared by paths: no Lua runs.
 *
 * With one path the key is the value there; with a list of paths it is an array of the values there. A record without
 * a value (or with null) at the path, or at all paths of the list, has no entry; nor has a record whose value can't
 * be a key, such as a map. So an index of "author" has the records with an author. Immutable: any thread may use
 * it. */
#ifndef FLUME_KEY_PATH_H
#define FLUME_KEY_PATH_H

#include "base/buf.h"
#include "base/err.h"
#include "codec/msgpack.h"

struct flume_extract;

enum flume_extract_shape {
  FLUME_EXTRACT_VALUE, /* of one path */
  FLUME_EXTRACT_ARRAY, /* of a list of paths, also of a list of one */
  FLUME_EXTRACT_KIND,  /* of one path: what kind of value it has there, enum flume_extract_kind, as one byte */
  FLUME_EXTRACT_ANY,   /* without paths: the byte '*', the same for every record */
};

/* Null has a kind, only a missing value has none. */
enum flume_extract_kind {
  FLUME_KIND_NULL = 'z',
  FLUME_KIND_BOOL = 'b',
  FLUME_KIND_NUMBER = 'n',
  FLUME_KIND_STRING = 's',
  FLUME_KIND_ARRAY = 'a', /* that can be a key */
  FLUME_KIND_MAP = 'm',
  FLUME_KIND_NAN = 'f',
  FLUME_KIND_OTHER_ARRAY = 'o',
  FLUME_KIND_EXT = 'e',
};

/* Takes ownership of the paths, also on failure; the array stays the caller's. FLUME_ENOMEM. */
int flume_extract_new(const struct flume_io *io, enum flume_extract_shape shape, struct flume_msgpack_path **paths,
                      size_t count, struct flume_extract **extract, struct flume_err *err);
void flume_extract_free(struct flume_extract *extract); /* NULL is allowed */

/* Appends the encoded key to key: 1; or 0, the record has none and key is as before. FLUME_ENOMEM; FLUME_ECORRUPT when
 * the record is no MessagePack. scratch is overwritten. */
int flume_extract_key(const struct flume_extract *extract, const uint8_t *record, size_t len, struct flume_buf *key,
                      struct flume_buf *scratch);

#endif
