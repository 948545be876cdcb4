/* Writing JSON: the MessagePack is checked as a whole first, then walked token by token; depth is bounded by then. */
#include <locale.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/json.h"
#include "codec/json_text.h"
#include "codec/msgpack.h"

struct writer {
  const uint8_t *p;
  const uint8_t *end;
  struct flume_buf *out;
  struct flume_err *err;
};

static inline int put(struct writer *w, const void *data, size_t len) {
  return flume_buf_append(w->out, data, len) == 0 ? 0 : flume_err_nomem(w->err);
}

static inline int put_byte(struct writer *w, char c) {
  return put(w, &c, 1);
}

/* --- Numbers -------------------------------------------------------------------------------------------------- */

/* Room for any number: 20 digits and a sign, or 17 digits, point, sign and exponent. */
#define NUMBER_SIZE 40

/* Writes the digits of v so that they end before `end`, at least `min` of them; returns where they begin. */
static char *print_digits(char *end, uint64_t v, int min) {
  while (v > 0 || min > 0) {
    *--end = (char)('0' + v % 10);
    v /= 10;
    min--;
  }
  return end;
}

static int write_int(struct writer *w, int64_t v) {
  char text[NUMBER_SIZE];
  char *end = text + sizeof text;
  char *p = print_digits(end, v < 0 ? 0 - (uint64_t)v : (uint64_t)v, 1);
  if (v < 0) *--p = '-';
  return put(w, p, (size_t)(end - p));
}

#define MAX_DECIMALS 9

static const double powers_of_ten[MAX_DECIMALS + 1] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9};
static const uint64_t int_powers_of_ten[MAX_DECIMALS + 1] = {
    1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000,
};

/* A float that is exactly what a decimal fraction of few digits reads as, which most are that people store: dividing
 * an integer below 2^53 by such a power of ten rounds once, as reading the text does. NULL for any other float. */
static char *print_decimal(char *end, double v) {
  double magnitude = fabs(v);
  char *p;
  for (int decimals = 0; decimals <= MAX_DECIMALS; decimals++) {
    double scaled = magnitude * powers_of_ten[decimals];
    uint64_t digits;
    if (!(scaled <= 9007199254740992.0)) return NULL;
    digits = (uint64_t)scaled;
    if ((double)digits != scaled || scaled / powers_of_ten[decimals] != magnitude) continue;
    p = print_digits(end, digits % int_powers_of_ten[decimals], decimals);
    if (decimals == 0) *--p = '0';
    *--p = '.';
    p = print_digits(p, digits / int_powers_of_ten[decimals], 1);
    if (signbit(v)) *--p = '-';
    return p;
  }
  return NULL;
}

/* Writes v with the fewest of 15, 16 and 17 digits that read back as v, with a '.' whatever the locale. */
static int print_float(char *text, size_t size, double v) {
  locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
  locale_t before;
  if (c == (locale_t)0) return FLUME_ENOMEM;
  before = uselocale(c);
  for (int digits = 15; digits <= 17; digits++) {
    snprintf(text, size, "%.*g", digits, v);
    if (strtod(text, NULL) == v) break;
  }
  uselocale(before);
  freelocale(c);
  return 0;
}

static int write_float(struct writer *w, double v) {
  char text[NUMBER_SIZE];
  char *end = text + sizeof text;
  char *p;
  if (!isfinite(v)) return put(w, "null", 4);
  p = print_decimal(end, v);
  if (p != NULL) return put(w, p, (size_t)(end - p));
  if (print_float(text, sizeof text - 2, v) != 0) return flume_err_nomem(w->err);
  if (strpbrk(text, ".e") == NULL) strcat(text, ".0");
  return put(w, text, strlen(text));
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

static int write_string_text(struct writer *w, const uint8_t *p, const uint8_t *end) {
  int rv = 0;
  while (p < end && rv == 0) {
    const uint8_t *from = p;
    p = pass_high(flume__json_pass_plain(p, end), end);
    rv = put(w, from, (size_t)(p - from));
    if (rv != 0 || p == end || flume__json_is_plain(*p)) continue;
    rv = *p >= 0x80 ? put(w, "\\ufffd", 6) : write_escape(w, *p);
    p++;
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

static int fail(struct writer *w, int code, const char *text) {
  return flume_err_set(w->err, code, "%s", text);
}

static int write_scalar(struct writer *w, const struct flume_value *v) {
  switch (v->type) {
    case FLUME_TYPE_NIL: return put(w, "null", 4);
    case FLUME_TYPE_BOOL: return v->b ? put(w, "true", 4) : put(w, "false", 5);
    case FLUME_TYPE_INT: return write_int(w, v->i);
    case FLUME_TYPE_FLOAT: return write_float(w, v->f);
    case FLUME_TYPE_STR: return write_string(w, v->str.data, v->str.len);
    default: return fail(w, FLUME_EINVAL, "a MessagePack extension value has no JSON form");
  }
}

static int write_key(struct writer *w) {
  struct flume_value v;
  int rv;
  if (flume_msgpack_read(&w->p, w->end, &v) != 0) return fail(w, FLUME_ECORRUPT, "not valid MessagePack");
  if (v.type == FLUME_TYPE_STR) return write_string(w, v.str.data, v.str.len);
  if (v.type == FLUME_TYPE_ARRAY || v.type == FLUME_TYPE_MAP) {
    return fail(w, FLUME_EINVAL, "a map key that is an array or a map has no JSON form");
  }
  rv = put_byte(w, '"');
  if (rv == 0) rv = write_scalar(w, &v);
  return rv != 0 ? rv : put_byte(w, '"');
}

static int write_value(struct writer *w);

static int write_array(struct writer *w, uint32_t count) {
  int rv = put_byte(w, '[');
  for (uint32_t i = 0; i < count && rv == 0; i++) {
    if (i > 0) rv = put_byte(w, ',');
    if (rv == 0) rv = write_value(w);
  }
  return rv != 0 ? rv : put_byte(w, ']');
}

static int write_map(struct writer *w, uint32_t count) {
  int rv = put_byte(w, '{');
  for (uint32_t i = 0; i < count && rv == 0; i++) {
    if (i > 0) rv = put_byte(w, ',');
    if (rv == 0) rv = write_key(w);
    if (rv == 0) rv = put_byte(w, ':');
    if (rv == 0) rv = write_value(w);
  }
  return rv != 0 ? rv : put_byte(w, '}');
}

static int write_value(struct writer *w) {
  struct flume_value v;
  if (flume_msgpack_read(&w->p, w->end, &v) != 0) return fail(w, FLUME_ECORRUPT, "not valid MessagePack");
  if (v.type == FLUME_TYPE_ARRAY) return write_array(w, v.count);
  if (v.type == FLUME_TYPE_MAP) return write_map(w, v.count);
  return write_scalar(w, &v);
}

int flume_msgpack_to_json(const uint8_t *data, size_t len, struct flume_buf *out, struct flume_err *err) {
  struct writer w = {.p = data, .end = data + len, .out = out, .err = err};
  size_t before = out->len;
  int rv;
  if (flume_msgpack_check(data, len) != 0) return flume_err_set(err, FLUME_ECORRUPT, "not valid MessagePack");
  rv = write_value(&w);
  if (rv != 0) out->len = before;
  return rv;
}
