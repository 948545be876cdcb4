/* Reading JSON: a recursive descent over the text that writes MessagePack as it goes. The count of a container is known
 * only at its end, so its header is filled in then (flume_msgpack_close).
 *
 * Equal keys: each object keeps a 64 bit set of the hashes of its keys. Only when a key's bit is already there are
 * the keys of that object compared, by sorting, when it closes; so ordinary objects pay a few instructions a key. */
#include "codec/json.h"

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/float_text.h"
#include "codec/json_text.h"
#include "codec/msgpack.h"

/* --- The text ------------------------------------------------------------------------------------------------- */

struct reader {
  const uint8_t *start;
  const uint8_t *p;
  const uint8_t *end;
  struct flume_buf *out;
  struct flume_err *err;
  unsigned depth; /* containers around p */
  bool is_stored; /* what JavaScript reads is read, flume_json_stored_to_msgpack */
};

static int fail_at(struct reader *r, const uint8_t *at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static int fail_at(struct reader *r, const uint8_t *at, const char *fmt, ...) {
  char text[160];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  return flume_err_set(r->err, FLUME_EINVAL, "column %zu: %s", (size_t)(at - r->start) + 1, text);
}

/* "expected X but found Y", where Y is what stands at r->p. */
static int fail_expected(struct reader *r, const char *expected) {
  if (r->p >= r->end) return fail_at(r, r->p, "expected %s but found the end of the text", expected);
  if (*r->p > 0x20 && *r->p < 0x7f) return fail_at(r, r->p, "expected %s but found '%c'", expected, *r->p);
  return fail_at(r, r->p, "expected %s but found byte 0x%02x", expected, *r->p);
}

static inline void pass_space(struct reader *r) {
  while (r->p < r->end && (*r->p == ' ' || *r->p == '\n' || *r->p == '\t' || *r->p == '\r')) r->p++;
}

/* --- Strings -------------------------------------------------------------------------------------------------- */

/* The four digits of a \u escape at p, or -1. */
static int32_t read_hex4(const uint8_t *p, const uint8_t *end) {
  int32_t code = 0;
  if (end - p < 4) return -1;
  for (int i = 0; i < 4; i++) {
    int letter = p[i] | 0x20;
    if (p[i] >= '0' && p[i] <= '9') {
      code = code * 16 + p[i] - '0';
    } else if (letter >= 'a' && letter <= 'f') {
      code = code * 16 + letter - 'a' + 10;
    } else {
      return -1;
    }
  }
  return code;
}

static uint8_t *store_utf8(uint8_t *to, uint32_t code) {
  if (code < 0x80) {
    *to++ = (uint8_t)code;
    return to;
  }
  if (code < 0x800) {
    *to++ = (uint8_t)(0xc0 | code >> 6);
  } else {
    if (code < 0x10000) {
      *to++ = (uint8_t)(0xe0 | code >> 12);
    } else {
      *to++ = (uint8_t)(0xf0 | code >> 18);
      *to++ = (uint8_t)(0x80 | (code >> 12 & 0x3f));
    }
    *to++ = (uint8_t)(0x80 | (code >> 6 & 0x3f));
  }
  *to++ = (uint8_t)(0x80 | (code & 0x3f));
  return to;
}

/* A \u escape, with its second half where it is the first of a surrogate pair; r->p is at the backslash. A half alone
 * stands for itself. */
static int read_unicode(struct reader *r, uint8_t **to) {
  int32_t code = read_hex4(r->p + 2, r->end);
  int32_t low = -1;
  if (code < 0) return fail_at(r, r->p, "\\u needs four hexadecimal digits");
  if (code >= 0xd800 && code <= 0xdbff && r->end - r->p >= 8 && r->p[6] == '\\' && r->p[7] == 'u') {
    low = read_hex4(r->p + 8, r->end);
  }
  if (low >= 0xdc00 && low <= 0xdfff) {
    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    r->p += 6;
  }
  r->p += 6;
  *to = store_utf8(*to, (uint32_t)code);
  return 0;
}

static int read_escape(struct reader *r, uint8_t **to) {
  uint8_t c = r->end - r->p >= 2 ? r->p[1] : 0;
  switch (c) {
    case 'u': return read_unicode(r, to);
    case '"':
    case '\\':
    case '/': break;
    case 'b': c = '\b'; break;
    case 'f': c = '\f'; break;
    case 'n': c = '\n'; break;
    case 'r': c = '\r'; break;
    case 't': c = '\t'; break;
    default: r->p++; return fail_expected(r, "an escape, one of \"\\/bfnrtu");
  }
  *(*to)++ = c;
  r->p += 2;
  return 0;
}

/* The text of a string from r->p to its closing quote, into room for as many bytes. */
static int read_string_text(struct reader *r, uint8_t **to) {
  for (;;) {
    const uint8_t *from = r->p;
    size_t len;
    int rv;
    r->p = flume__json_pass_plain(from, r->end);
    memcpy(*to, from, (size_t)(r->p - from));
    *to += r->p - from;
    if (r->p >= r->end) return fail_expected(r, "'\"'");
    if (*r->p == '"') return 0;
    if (*r->p == '\\') {
      rv = read_escape(r, to);
      if (rv != 0) return rv;
    } else {
      if (*r->p < 0x20) return fail_at(r, r->p, "control character 0x%02x in a string", *r->p);
      len = flume__utf8_len(r->p, r->end);
      if (len == 0 && !r->is_stored) return fail_at(r, r->p, "byte 0x%02x is not valid UTF-8", *r->p);
      if (len == 0) len = 1;
      memcpy(*to, r->p, len);
      *to += len;
      r->p += len;
    }
  }
}

/* The length up to the closing quote, an upper bound of what the string decodes to. */
static size_t raw_string_len(const uint8_t *from, const uint8_t *end) {
  const uint8_t *p = from;
  while (p < end && *p != '"') p += *p == '\\' ? 2 : 1;
  return (size_t)((p < end ? p : end) - from);
}

/* A string with escapes or beyond ASCII: decoded behind the largest header, then moved up to the one it needs. */
static int read_string_slow(struct reader *r) {
  struct flume_buf *out = r->out;
  uint8_t *base, *text, *to;
  int rv = flume_buf_reserve(out, FLUME__MSGPACK_TOKEN_MAX + raw_string_len(r->p, r->end));
  if (rv != 0) return flume_err_nomem(r->err);
  base = out->data + out->len;
  text = to = base + FLUME__MSGPACK_TOKEN_MAX;
  rv = read_string_text(r, &to);
  if (rv != 0) return rv;
  r->p++;
  base = flume__msgpack_store_str(base, (uint32_t)(to - text));
  memmove(base, text, (size_t)(to - text));
  out->len = (size_t)(base - out->data) + (size_t)(to - text);
  return 0;
}

/* r->p is behind the opening quote. */
static inline int read_string(struct reader *r) {
  const uint8_t *from = r->p;
  const uint8_t *to = flume__json_pass_plain(from, r->end);
  if (to >= r->end || *to != '"') return read_string_slow(r);
  r->p = to + 1;
  return flume_msgpack_write_str(r->out, from, (size_t)(to - from)) == 0 ? 0 : flume_err_nomem(r->err);
}

/* --- Numbers -------------------------------------------------------------------------------------------------- */

static const double powers_of_ten[] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
};

#define EXACT_INT (INT64_C(1) << 53)

static inline bool is_digit(const uint8_t *p, const uint8_t *end) {
  return p < end && *p >= '0' && *p <= '9';
}

/* A number's parts, as far as they tell its value exactly. */
struct number {
  const uint8_t *from;
  bool negative;
  bool integral;      /* no fraction, no exponent */
  bool exact;         /* magnitude holds all digits */
  size_t digits_len;  /* of the digits, with the point; they begin behind the sign */
  uint64_t magnitude; /* the digits, read without the point */
  int64_t exponent;   /* of ten */
};

static void read_digits(struct reader *r, struct number *n) {
  for (; is_digit(r->p, r->end); r->p++) {
    uint64_t digit = (uint64_t)(*r->p - '0');
    if (n->magnitude > (UINT64_MAX - digit) / 10) n->exact = false;
    n->magnitude = n->magnitude * 10 + digit;
  }
}

static int read_exponent(struct reader *r, struct number *n) {
  int64_t exponent = 0;
  bool negative;
  r->p++;
  negative = r->p < r->end && *r->p == '-';
  if (r->p < r->end && (*r->p == '-' || *r->p == '+')) r->p++;
  if (!is_digit(r->p, r->end)) return fail_expected(r, "a digit");
  for (; is_digit(r->p, r->end); r->p++) {
    if (exponent < 100000) exponent = exponent * 10 + (*r->p - '0');
  }
  n->exponent += negative ? -exponent : exponent;
  n->integral = false;
  return 0;
}

static int scan_number(struct reader *r, struct number *n) {
  *n = (struct number){.from = r->p, .integral = true, .exact = true};
  n->negative = *r->p == '-';
  if (n->negative) r->p++;
  if (!is_digit(r->p, r->end)) return fail_expected(r, "a digit");
  if (*r->p == '0') {
    r->p++;
    if (is_digit(r->p, r->end)) return fail_at(r, r->p, "a number can't go on after a leading 0");
  }
  read_digits(r, n);
  n->digits_len = (size_t)(r->p - n->from) - n->negative;
  if (r->p < r->end && *r->p == '.') {
    const uint8_t *point = r->p++;
    if (!is_digit(r->p, r->end)) return fail_expected(r, "a digit");
    read_digits(r, n);
    n->exponent = point + 1 - r->p;
    n->integral = false;
    n->digits_len = (size_t)(r->p - n->from) - n->negative;
  }
  if (r->p < r->end && (*r->p | 0x20) == 'e') return read_exponent(r, n);
  return 0;
}

/* The nearest double, without the sign. In what is not stored yet it has to keep an integer's digits. */
static int convert_double(struct reader *r, const struct number *n, double *v) {
  const char *digits = (const char *)n->from + n->negative;
  char local[128];
  size_t size = n->digits_len + 24;
  char *buf = size <= sizeof local ? local : flume_io_alloc(r->out->io, size);
  if (buf == NULL) return flume_err_nomem(r->err);
  *v = flume_float_read(digits, n->digits_len, n->exponent, buf);
  if (buf != local) flume_io_free(r->out->io, buf);
  if (r->is_stored) return 0;
  if (isinf(*v)) return fail_at(r, n->from, "number out of range");
  if (!n->integral || flume_float_keeps(*v, digits, n->digits_len)) return 0;
  return fail_at(r, n->from,
                 "an integer beyond 64 bits would lose digits; a string keeps them, and 1.5e20 says that it "
                 "is rounded");
}

static int read_float(struct reader *r, const struct number *n) {
  double v = 0;
  if (n->exact && n->magnitude <= EXACT_INT && n->exponent >= -22 && n->exponent <= 22) {
    /* Both operands are exact, so the one rounding of the operation gives the nearest double. */
    v = (double)n->magnitude;
    v = n->exponent < 0 ? v / powers_of_ten[-n->exponent] : v * powers_of_ten[n->exponent];
  } else {
    int rv = convert_double(r, n, &v);
    if (rv != 0) return rv;
  }
  if (n->negative) v = -v;
  return flume_msgpack_write_float(r->out, v) == 0 ? 0 : flume_err_nomem(r->err);
}

static int read_number(struct reader *r) {
  struct number n;
  int rv = scan_number(r, &n);
  if (rv != 0) return rv;
  if (!n.integral || !n.exact || n.magnitude > (uint64_t)INT64_MAX + n.negative) return read_float(r, &n);
  rv = flume_msgpack_write_int(r->out, (int64_t)(n.negative ? 0 - n.magnitude : n.magnitude));
  return rv == 0 ? 0 : flume_err_nomem(r->err);
}

/* --- Equal keys ----------------------------------------------------------------------------------------------- */

/* One key with its value, in the MessagePack written. */
struct entry {
  const uint8_t *key;
  const uint8_t *end;
  uint32_t key_size; /* with its header */
  bool drop;
};

static int compare_entries(const void *a, const void *b) {
  const struct entry *x = a, *y = b;
  int order;
  if (x->key_size != y->key_size) return x->key_size < y->key_size ? -1 : 1;
  order = memcmp(x->key, y->key, x->key_size);
  return order != 0 ? order : x->key < y->key ? -1 : 1;
}

static int compare_places(const void *a, const void *b) {
  const struct entry *x = a, *y = b;
  return x->key < y->key ? -1 : 1;
}

/* Marks all but the last of equal keys; returns how many are marked. The entries are in the order of their keys after
 * it. */
static uint32_t mark_equal(struct entry *entries, uint32_t count) {
  uint32_t marked = 0;
  qsort(entries, count, sizeof *entries, compare_entries);
  for (uint32_t i = 0; i + 1 < count; i++) {
    struct entry *e = &entries[i];
    if (e->key_size != e[1].key_size || memcmp(e->key, e[1].key, e->key_size) != 0) continue;
    e->drop = true;
    marked++;
  }
  return marked;
}

/* Removes all but the last of equal keys from the entries of a map, written from body_off to the end of out. */
static int drop_equal_keys(struct reader *r, size_t body_off, uint32_t *count) {
  struct flume_buf *out = r->out;
  const uint8_t *at = out->data + body_off, *end = out->data + out->len;
  struct entry local[32];
  struct entry *entries = *count <= 32 ? local : flume_io_alloc(out->io, *count * sizeof *entries);
  uint32_t marked;
  if (entries == NULL) return flume_err_nomem(r->err);
  for (uint32_t i = 0; i < *count; i++) {
    struct entry *e = &entries[i];
    *e = (struct entry){.key = at};
    (void)flume_msgpack_skip(&at, end);
    e->key_size = (uint32_t)(at - e->key);
    (void)flume_msgpack_skip(&at, end);
    e->end = at;
  }
  marked = mark_equal(entries, *count);
  if (marked > 0) {
    uint8_t *to = out->data + body_off;
    qsort(entries, *count, sizeof *entries, compare_places);
    for (uint32_t i = 0; i < *count; i++) {
      size_t size = (size_t)(entries[i].end - entries[i].key);
      if (entries[i].drop) continue;
      memmove(to, entries[i].key, size);
      to += size;
    }
    out->len = (size_t)(to - out->data);
    *count -= marked;
  }
  if (entries != local) flume_io_free(out->io, entries);
  return 0;
}

/* One bit of 64 for the key written from key_off to the end of out. */
static inline uint64_t key_bit(const struct flume_buf *out, size_t key_off) {
  const uint8_t *key = out->data + key_off;
  size_t len = out->len - key_off;
  uint32_t hash = (uint32_t)len * 31 + key[len / 2] * 7u + key[len - 1] * 131u + (len > 1 ? key[1] * 57u : 0);
  return UINT64_C(1) << ((hash * UINT32_C(0x9e3779b1)) >> 26);
}

/* --- Values --------------------------------------------------------------------------------------------------- */

static int read_value(struct reader *r);

/* Passes ',' and gives 1, or the closing bracket and gives 0. */
static inline int pass_comma(struct reader *r, uint8_t close, const char *expected) {
  pass_space(r);
  if (r->p >= r->end || (*r->p != ',' && *r->p != close)) return fail_expected(r, expected);
  return *r->p++ == ',';
}

/* The end of the container at p, by its brackets alone; NULL when it has none. */
static const uint8_t *find_closing(const uint8_t *p, const uint8_t *end) {
  size_t open = 0;
  bool in_string = false;
  for (; p < end; p++) {
    if (in_string && *p == '\\') p++;
    else if (*p == '"') in_string = !in_string;
    else if (!in_string && (*p == '[' || *p == '{')) open++;
    else if (!in_string && (*p == ']' || *p == '}') && --open == 0) return p + 1;
  }
  return NULL;
}

/* The container at r->p is too deep for a value: its text stands for it. */
static int read_as_text(struct reader *r) {
  const uint8_t *end = find_closing(r->p, r->end);
  int rv;
  if (end == NULL) return fail_at(r, r->p, "nested deeper than %d, and not closed", FLUME_MSGPACK_MAX_DEPTH);
  rv = flume_msgpack_write_str(r->out, r->p, (size_t)(end - r->p));
  r->p = end;
  return rv == 0 ? 0 : flume_err_nomem(r->err);
}

static inline bool is_text_only(const struct reader *r) {
  return r->is_stored && r->depth >= FLUME_MSGPACK_MAX_DEPTH;
}

static int enter(struct reader *r, size_t *header_off) {
  if (++r->depth > FLUME_MSGPACK_MAX_DEPTH) {
    return fail_at(r, r->p, "nested deeper than %d", FLUME_MSGPACK_MAX_DEPTH);
  }
  r->p++;
  pass_space(r);
  return flume_msgpack_open(r->out, header_off) == 0 ? 0 : flume_err_nomem(r->err);
}

static int leave(struct reader *r, size_t header_off, enum flume_type type, uint32_t count) {
  r->depth--;
  return flume_msgpack_close(r->out, header_off, type, count) == 0 ? 0 : flume_err_nomem(r->err);
}

static int read_array(struct reader *r) {
  size_t header_off;
  uint32_t count = 0;
  int rv = enter(r, &header_off);
  if (rv != 0) return rv;
  if (r->p < r->end && *r->p == ']') {
    r->p++;
    return leave(r, header_off, FLUME_TYPE_ARRAY, 0);
  }
  do {
    rv = read_value(r);
    if (rv != 0) return rv;
    count++;
    rv = pass_comma(r, ']', "',' or ']'");
    if (rv < 0) return rv;
  } while (rv == 1);
  return leave(r, header_off, FLUME_TYPE_ARRAY, count);
}

static inline int read_pair(struct reader *r) {
  int rv;
  pass_space(r);
  if (r->p >= r->end || *r->p != '"') return fail_expected(r, "a key in quotes");
  r->p++;
  rv = read_string(r);
  if (rv != 0) return rv;
  pass_space(r);
  if (r->p >= r->end || *r->p != ':') return fail_expected(r, "':'");
  r->p++;
  return 0;
}

static int read_object(struct reader *r) {
  size_t header_off, key_off;
  uint64_t seen = 0, bit;
  bool maybe_equal = false;
  uint32_t count = 0;
  int rv = enter(r, &header_off);
  if (rv != 0) return rv;
  if (r->p < r->end && *r->p == '}') {
    r->p++;
    return leave(r, header_off, FLUME_TYPE_MAP, 0);
  }
  do {
    key_off = r->out->len;
    rv = read_pair(r);
    if (rv != 0) return rv;
    bit = key_bit(r->out, key_off);
    maybe_equal |= (seen & bit) != 0;
    seen |= bit;
    rv = read_value(r);
    if (rv != 0) return rv;
    count++;
    rv = pass_comma(r, '}', "',' or '}'");
    if (rv < 0) return rv;
  } while (rv == 1);
  rv = maybe_equal ? drop_equal_keys(r, header_off + 1, &count) : 0;
  return rv != 0 ? rv : leave(r, header_off, FLUME_TYPE_MAP, count);
}

static int read_word(struct reader *r, const char *word, uint8_t token) {
  const uint8_t *from = r->p;
  for (; *word != '\0'; word++, r->p++) {
    if (r->p >= r->end || *r->p != (uint8_t)*word) {
      r->p = from;
      return fail_expected(r, "a value");
    }
  }
  return flume__msgpack_write_byte(r->out, token) == 0 ? 0 : flume_err_nomem(r->err);
}

static int read_value(struct reader *r) {
  pass_space(r);
  if (r->p >= r->end) return fail_expected(r, "a value");
  switch (*r->p) {
    case '"': r->p++; return read_string(r);
    case '{': return is_text_only(r) ? read_as_text(r) : read_object(r);
    case '[': return is_text_only(r) ? read_as_text(r) : read_array(r);
    case 't': return read_word(r, "true", 0xc3);
    case 'f': return read_word(r, "false", 0xc2);
    case 'n': return read_word(r, "null", 0xc0);
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9': return read_number(r);
    default: return fail_expected(r, "a value");
  }
}

static int read_text(const char *text, size_t len, bool is_stored, struct flume_buf *out, struct flume_err *err) {
  const uint8_t *start = (const uint8_t *)text;
  struct reader r = {.start = start, .p = start, .end = start + len, .out = out, .err = err, .is_stored = is_stored};
  size_t before = out->len;
  int rv;
  if (len > UINT32_MAX) return flume_err_set(err, FLUME_E2BIG, "a JSON text of %zu bytes", len);
  rv = read_value(&r);
  if (rv == 0) {
    pass_space(&r);
    if (r.p < r.end) rv = fail_expected(&r, "the end of the text");
  }
  if (rv != 0) out->len = before;
  return rv;
}

int flume_json_to_msgpack(const char *text, size_t len, struct flume_buf *out, struct flume_err *err) {
  return read_text(text, len, false, out, err);
}

int flume_json_stored_to_msgpack(const char *text, size_t len, struct flume_buf *out, struct flume_err *err) {
  return read_text(text, len, true, out, err);
}
