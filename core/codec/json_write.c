/* Writing JSON: the MessagePack is checked as a whole first, then walked token by token; depth is bounded by then. Each
 * container in work has a place on the C stack, so that the path of a value is only spelt out when JSON can't say it. */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "codec/float_text.h"
#include "codec/json.h"
#include "codec/json_text.h"
#include "codec/msgpack.h"

/* Where a value stands: an element of an array, or the value of a key. */
struct place {
  const struct place *around; /* NULL for the outermost container */
  const uint8_t *key;         /* MessagePack; NULL for an element */
  uint32_t index;             /* of the element, from 1 */
};

struct writer {
  const uint8_t *p;
  const uint8_t *end;
  enum flume_json_mode mode;
  struct flume_buf *out;
  struct flume_json_loss *loss;
  struct flume_err *err;
  const struct place *place; /* of the value in work; NULL for the outermost */
};

static inline int put(struct writer *w, const void *data, size_t len) {
  return flume_buf_append(w->out, data, len) == 0 ? 0 : flume_err_nomem(w->err);
}

static inline int put_byte(struct writer *w, char c) {
  return put(w, &c, 1);
}

/* --- What JSON can't say -------------------------------------------------------------------------------------- */

/* A text that is cut where it is full. */
struct line {
  char text[200];
  size_t len;
};

static void add(struct line *line, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void add(struct line *line, const char *fmt, ...) {
  size_t room = sizeof line->text - line->len;
  va_list args;
  int len;
  va_start(args, fmt);
  len = vsnprintf(line->text + line->len, room, fmt, args);
  va_end(args);
  if (len > 0) line->len += (size_t)len < room ? (size_t)len : room - 1;
}

static bool is_identifier(const uint8_t *s, size_t len) {
  for (size_t i = 0; i < len; i++) {
    bool letter = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') || s[i] == '_';
    if (!letter && (i == 0 || s[i] < '0' || s[i] > '9')) return false;
  }
  return len > 0;
}

static void add_string(struct line *line, const uint8_t *s, size_t len) {
  if (is_identifier(s, len)) {
    add(line, ".%.*s", (int)len, (const char *)s);
    return;
  }
  add(line, "[\"");
  for (size_t i = 0; i < len && line->len < sizeof line->text - 1; i++) {
    if (s[i] < 0x20 || s[i] >= 0x7f || s[i] == '"' || s[i] == '\\') add(line, "\\x%02x", s[i]);
    else add(line, "%c", s[i]);
  }
  add(line, "\"]");
}

/* The text of a key that is no string and no container. */
static void print_key(const struct flume_value *v, struct line *line) {
  char text[FLUME_FLOAT_TEXT_SIZE] = "nan";
  switch (v->type) {
    case FLUME_TYPE_NIL: add(line, "null"); break;
    case FLUME_TYPE_BOOL: add(line, "%s", v->b ? "true" : "false"); break;
    case FLUME_TYPE_INT: add(line, "%" PRId64, v->i); break;
    case FLUME_TYPE_FLOAT:
      if (isfinite(v->f)) flume_float_text(v->f, text);
      add(line, "%s", text);
      break;
    default: add(line, "..."); break;
  }
}

static void add_place(struct line *line, const struct place *place) {
  struct flume_value v;
  const uint8_t *key;
  if (place == NULL) return;
  add_place(line, place->around);
  if (place->key == NULL) {
    add(line, "[%" PRIu32 "]", place->index);
    return;
  }
  key = place->key;
  (void)flume_msgpack_read(&key, key + FLUME__MSGPACK_TOKEN_MAX, &v); /* it was checked with the value */
  if (v.type == FLUME_TYPE_STR) {
    add_string(line, v.str.data, v.str.len);
  } else {
    add(line, "[");
    print_key(&v, line);
    add(line, "]");
  }
}

/* Refuses, in all modes but FLUME_JSON_LOSSY; notes the loss there. */
static int lose(struct writer *w, bool is_value, const char *what) {
  struct line path = {.len = 0};
  struct flume_json_loss *loss = w->loss;
  add_place(&path, w->place);
  if (w->mode != FLUME_JSON_LOSSY) return flume_err_set(w->err, FLUME_EINVAL, "value%s: %s", path.text, what);
  if (loss == NULL) return 0;
  if (is_value ? !loss->values : !loss->keys && !loss->values) {
    snprintf(loss->what, sizeof loss->what, "value%s: %.48s", path.text, what);
  }
  if (is_value) loss->values = true;
  else loss->keys = true;
  return 0;
}

static int lose_value(struct writer *w, const char *instead, const char *what) {
  int rv = lose(w, true, what);
  return rv != 0 ? rv : put(w, instead, strlen(instead));
}

/* --- Numbers -------------------------------------------------------------------------------------------------- */

/* Room for an integer of 64 bits with its sign. */
#define INT_SIZE 24

static size_t print_int(int64_t v, char text[INT_SIZE]) {
  char buf[INT_SIZE], *end = buf + sizeof buf, *p = end;
  uint64_t magnitude = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
  do {
    *--p = (char)('0' + magnitude % 10);
    magnitude /= 10;
  } while (magnitude > 0);
  if (v < 0) *--p = '-';
  memcpy(text, p, (size_t)(end - p));
  return (size_t)(end - p);
}

static int write_int(struct writer *w, int64_t v) {
  char text[INT_SIZE];
  return put(w, text, print_int(v, text));
}

static int write_float(struct writer *w, double v) {
  char text[FLUME_FLOAT_TEXT_SIZE];
  if (isfinite(v)) return put(w, text, flume_float_text(v, text));
  return lose_value(w, "null", isnan(v) ? "nan has no JSON form" : "an infinity has no JSON form");
}

/* --- Strings -------------------------------------------------------------------------------------------------- */

static int write_escape(struct writer *w, uint8_t c) {
  static const char short_forms[] = "\"\"\\\\\bb\ff\nn\rr\tt";
  char text[8];
  for (const char *s = short_forms; *s != '\0'; s += 2) {
    if ((uint8_t)s[0] != c) continue;
    text[0] = '\\';
    text[1] = s[1];
    return put(w, text, 2);
  }
  snprintf(text, sizeof text, "\\u%04x", c);
  return put(w, text, 6);
}

/* The bytes from p that are valid UTF-8 beyond ASCII go out as they are. */
static const uint8_t *pass_high(const uint8_t *p, const uint8_t *end) {
  while (p < end && *p >= 0x80) {
    size_t len = flume__utf8_len(p, end);
    if (len == 0) break;
    p += len;
  }
  return p;
}

#define SURROGATE_BYTES 3

/* The half of a surrogate pair at p, in generalized UTF-8; 0 for none. */
static unsigned surrogate_at(const uint8_t *p, const uint8_t *end) {
  if (end - p < SURROGATE_BYTES || p[0] != 0xed || p[1] < 0xa0 || p[1] > 0xbf || (p[2] & 0xc0) != 0x80) return 0;
  return 0xd000u | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
}

/* The byte at p is no UTF-8. A half of a surrogate pair is written as its escape, but not a whole pair, which would read
 * as one character. */
static int write_odd(struct writer *w, const uint8_t **p, const uint8_t *end) {
  unsigned half = surrogate_at(*p, end);
  char text[12];
  if (half == 0 || (half < 0xdc00 && surrogate_at(*p + SURROGATE_BYTES, end) >= 0xdc00)) {
    (*p)++;
    return lose_value(w, "\\ufffd", "a string that is not UTF-8 has no JSON form");
  }
  *p += SURROGATE_BYTES;
  snprintf(text, sizeof text, "\\u%04x", half);
  return put(w, text, 6);
}

static int write_string_text(struct writer *w, const uint8_t *p, const uint8_t *end) {
  int rv = 0;
  while (p < end && rv == 0) {
    const uint8_t *from = p;
    p = pass_high(flume__json_pass_plain(p, end), end);
    rv = put(w, from, (size_t)(p - from));
    if (rv != 0 || p == end || flume__json_is_plain(*p)) continue;
    rv = *p >= 0x80 ? write_odd(w, &p, end) : write_escape(w, *p++);
  }
  return rv;
}

static int write_string(struct writer *w, const uint8_t *data, size_t len) {
  const uint8_t *end = data + len;
  int rv;
  if (flume_buf_reserve(w->out, len + 2) != 0) return flume_err_nomem(w->err);
  w->out->data[w->out->len++] = '"';
  rv = write_string_text(w, data, end);
  return rv != 0 ? rv : put_byte(w, '"');
}

/* --- Values --------------------------------------------------------------------------------------------------- */

static int fail_corrupt(struct writer *w) {
  return flume_err_set(w->err, FLUME_ECORRUPT, "not valid MessagePack");
}

static int write_scalar(struct writer *w, const struct flume_value *v) {
  switch (v->type) {
    case FLUME_TYPE_NIL: return put(w, "null", 4);
    case FLUME_TYPE_BOOL: return v->b ? put(w, "true", 4) : put(w, "false", 5);
    case FLUME_TYPE_INT: return write_int(w, v->i);
    case FLUME_TYPE_FLOAT: return write_float(w, v->f);
    case FLUME_TYPE_STR: return write_string(w, v->str.data, v->str.len);
    default: return lose_value(w, "null", "a MessagePack extension value has no JSON form");
  }
}

/* A key that is an array, an object or an extension value. */
static int write_odd_key(struct writer *w, const uint8_t *key) {
  int rv = lose(w, true, "a key that is no string has no JSON form");
  w->p = key;
  if (rv == 0 && flume_msgpack_skip(&w->p, w->end) != 0) rv = fail_corrupt(w);
  return rv != 0 ? rv : put(w, "\"null\"", 6);
}

/* The key at w->p. Returns 0 for a string, 1 for any other, or an error. */
static int write_key(struct writer *w) {
  const uint8_t *key = w->p;
  struct line line = {.text = "\"", .len = 1};
  struct flume_value v;
  int rv;
  if (flume_msgpack_read(&w->p, w->end, &v) != 0) return fail_corrupt(w);
  if (v.type == FLUME_TYPE_STR) return write_string(w, v.str.data, v.str.len);
  if (v.type == FLUME_TYPE_ARRAY || v.type == FLUME_TYPE_MAP || v.type == FLUME_TYPE_EXT) {
    rv = write_odd_key(w, key);
    return rv != 0 ? rv : 1;
  }
  rv = w->mode == FLUME_JSON_TEXT_KEYS ? 0 : lose(w, false, "a key that is no string has no JSON form");
  if (rv != 0) return rv;
  print_key(&v, &line);
  add(&line, "\"");
  rv = put(w, line.text, line.len);
  return rv != 0 ? rv : 1;
}

static int write_value(struct writer *w);

/* --- Keys of one text ----------------------------------------------------------------------------------------- */

struct key_text {
  uint64_t hash;
  const uint8_t *key;
};

static int compare_texts(const void *a, const void *b) {
  const struct key_text *x = a, *y = b;
  return (x->hash > y->hash) - (x->hash < y->hash);
}

/* The hashes of the texts of count keys from `at` on. */
static int hash_texts(struct writer *w, const uint8_t *at, uint32_t count, struct key_text *texts) {
  struct flume_buf text;
  struct flume_json_loss unused = {.values = true, .keys = true};
  struct writer scratch = {.end = w->end, .mode = FLUME_JSON_LOSSY, .out = &text, .loss = &unused, .err = w->err};
  int rv = 0;
  flume_buf_init(&text, w->out->io);
  for (uint32_t i = 0; i < count && rv >= 0; i++) {
    text.len = 0;
    scratch.p = at;
    rv = write_key(&scratch);
    texts[i] = (struct key_text){flume_hash64(text.data, text.len), at};
    at = scratch.p;
    if (flume_msgpack_skip(&at, w->end) != 0) rv = fail_corrupt(w);
  }
  flume_buf_fini(&text);
  return rv < 0 ? rv : 0;
}

/* A map with keys of several types: 1 and "1" have the same text, and who reads it loses one of them. */
static int find_equal_texts(struct writer *w, const uint8_t *pairs, uint32_t count) {
  struct key_text *texts = flume_io_alloc(w->out->io, count * sizeof *texts);
  struct place place = {.around = w->place};
  int rv;
  if (texts == NULL) return flume_err_nomem(w->err);
  rv = hash_texts(w, pairs, count, texts);
  if (rv == 0) qsort(texts, count, sizeof *texts, compare_texts);
  for (uint32_t i = 1; i < count && rv == 0; i++) {
    if (texts[i].hash != texts[i - 1].hash) continue;
    place.key = texts[i].key;
    w->place = &place;
    rv = lose(w, true, "two keys have the same JSON form");
    w->place = place.around;
    break;
  }
  flume_io_free(w->out->io, texts);
  return rv;
}

/* --- Containers ----------------------------------------------------------------------------------------------- */

static int write_array(struct writer *w, uint32_t count) {
  struct place place = {.around = w->place};
  int rv = put_byte(w, '[');
  w->place = &place;
  for (uint32_t i = 0; i < count && rv == 0; i++) {
    place.index = i + 1;
    if (i > 0) rv = put_byte(w, ',');
    if (rv == 0) rv = write_value(w);
  }
  w->place = place.around;
  return rv != 0 ? rv : put_byte(w, ']');
}

static int write_map(struct writer *w, uint32_t count) {
  struct place place = {.around = w->place};
  const uint8_t *pairs = w->p;
  uint32_t others = 0; /* keys that are no strings */
  int rv = put_byte(w, '{');
  w->place = &place;
  for (uint32_t i = 0; i < count && rv == 0; i++) {
    place.key = w->p;
    if (i > 0) rv = put_byte(w, ',');
    if (rv == 0) rv = write_key(w);
    if (rv == 1) others++;
    if (rv >= 0) rv = put_byte(w, ':');
    if (rv == 0) rv = write_value(w);
  }
  w->place = place.around;
  if (rv == 0 && others > 0 && count > 1) rv = find_equal_texts(w, pairs, count);
  return rv != 0 ? rv : put_byte(w, '}');
}

static int write_value(struct writer *w) {
  struct flume_value v;
  if (flume_msgpack_read(&w->p, w->end, &v) != 0) return fail_corrupt(w);
  if (v.type == FLUME_TYPE_ARRAY) return write_array(w, v.count);
  if (v.type == FLUME_TYPE_MAP) return write_map(w, v.count);
  return write_scalar(w, &v);
}

int flume_msgpack_to_json(const uint8_t *data, size_t len, enum flume_json_mode mode, struct flume_buf *out,
                          struct flume_json_loss *loss, struct flume_err *err) {
  struct writer w = {.p = data, .end = data + len, .mode = mode, .out = out, .loss = loss, .err = err};
  size_t before = out->len;
  int rv;
  if (loss != NULL) *loss = (struct flume_json_loss){.what = ""};
  if (flume_msgpack_check(data, len) != 0) return flume_err_set(err, FLUME_ECORRUPT, "not valid MessagePack");
  rv = write_value(&w);
  if (rv != 0) out->len = before;
  return rv;
}
