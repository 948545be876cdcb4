/* Most floats that people store are decimal fractions of few digits. These are found by arithmetic: an integer below
 * 2^53 divided by a power of ten up to 10^22 is rounded once, exactly as the text is when it is read. For all others
 * the C library prints 15, 16 and 17 digits until the text reads back as the same float. The digits are handed to the
 * library as an integer with an exponent, without a decimal point, since the point depends on the locale. */
#include "codec/float_text.h"

#include <assert.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A float's magnitude: digits * 10^exponent. The last digit is not 0, unless digits is 0. */
struct decimal {
  uint64_t digits;
  int exponent;
};

#define MAX_DECIMALS 9

/* Up to here v * 10^MAX_DECIMALS, rounded, is less than a half away from its true value. */
#define MAX_SCALED 2251799813685248.0 /* 2^51 */

static const double powers_of_ten[MAX_DECIMALS + 1] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9};

/* The magnitude as an integer over a small power of ten. False when v is no such fraction. */
static bool find_fraction(double v, struct decimal *d) {
  for (int decimals = 0; decimals <= MAX_DECIMALS; decimals++) {
    double scaled = v * powers_of_ten[decimals];
    uint64_t digits;
    if (!(scaled <= MAX_SCALED)) return false;
    digits = (uint64_t)(scaled + 0.5);
    if ((double)digits / powers_of_ten[decimals] != v) continue;
    *d = (struct decimal){digits, -decimals};
    return true;
  }
  return false;
}

/* Whether the decimal reads as v. */
static bool reads_as(const struct decimal *d, double v) {
  char text[48];
  snprintf(text, sizeof text, "%" PRIu64 "e%d", d->digits, d->exponent);
  return strtod(text, NULL) == v;
}

/* v rounded to a number of significant digits. */
static struct decimal round_to(double v, int digits) {
  struct decimal d = {0, 0};
  char text[48];
  const char *p;
  snprintf(text, sizeof text, "%.*e", digits - 1, v);
  for (p = text; *p != 'e'; p++) {
    if (*p >= '0' && *p <= '9') d.digits = d.digits * 10 + (uint64_t)(*p - '0'); /* else it is the locale's point */
  }
  d.exponent = atoi(p + 1) - (digits - 1);
  return d;
}

/* The shortest decimal by trial. A normal float of at most 15 digits is found at 15, a subnormal one may need fewer. At
 * a power of two the floats below are closer than those above: there the decimal above v may read back when the one
 * nearest to v, below it, does not. */
static struct decimal find_shortest(double v) {
  for (int digits = v < DBL_MIN ? 1 : 15; digits < 17; digits++) {
    struct decimal d = round_to(v, digits);
    if (reads_as(&d, v)) return d;
    d.digits++;
    if (reads_as(&d, v)) return d;
  }
  return round_to(v, 17);
}

/* Writes the digits of v, at least min of them, so that they end before end. Returns where they begin. */
static char *put_digits(char *end, uint64_t v, int min) {
  while (v > 0 || min > 0) {
    *--end = (char)('0' + v % 10);
    v /= 10;
    min--;
  }
  return end;
}

/* Writes count digits with a point behind the first whole of them; returns the end. Where whole is not positive zeros
 * stand before the digits, where it is beyond count behind them. */
static char *put_fixed(char *to, const char *digits, int count, int whole) {
  int i;
  if (whole <= 0) *to++ = '0';
  for (i = 0; i < whole; i++) *to++ = i < count ? digits[i] : '0';
  *to++ = '.';
  for (i = whole; i < 0; i++) *to++ = '0';
  for (i = whole > 0 ? whole : 0; i < count; i++) *to++ = digits[i];
  if (whole >= count) *to++ = '0';
  return to;
}

static char *put_scientific(char *to, const char *digits, int count, int exponent) {
  *to++ = digits[0];
  if (count > 1) *to++ = '.';
  for (int i = 1; i < count; i++) *to++ = digits[i];
  return to + sprintf(to, "e%+d", exponent);
}

size_t flume_float_text(double v, char text[FLUME_FLOAT_TEXT_SIZE]) {
  char buf[24], *end = buf + sizeof buf, *to = text, *digits;
  double magnitude = fabs(v);
  struct decimal d;
  int count, whole;
  assert(isfinite(v));
  if (!find_fraction(magnitude, &d)) d = find_shortest(magnitude);
  for (; d.digits >= 10 && d.digits % 10 == 0; d.exponent++) d.digits /= 10;
  digits = put_digits(end, d.digits, 1);
  count = (int)(end - digits);
  whole = count + d.exponent; /* digits before the point */
  if (signbit(v)) *to++ = '-';
  if (whole > -4 && (whole <= 16 || whole <= count + 2)) to = put_fixed(to, digits, count, whole);
  else to = put_scientific(to, digits, count, whole - 1);
  *to = '\0';
  return (size_t)(to - text);
}

double flume_float_read(const char *text, size_t count, int64_t exponent, char *buf) {
  char *to = buf;
  for (size_t i = 0; i < count; i++) {
    if (text[i] != '.') *to++ = text[i];
  }
  sprintf(to, "e%" PRId64, exponent);
  return strtod(buf, NULL);
}

/* The integers that fit a double have fewer digits. */
#define MAX_INTEGER_DIGITS 310

bool flume_float_keeps(double v, const char *text, size_t count) {
  char printed[MAX_INTEGER_DIGITS + 16];
  size_t significant = count;
  const char *p = printed;
  while (significant > 1 && text[significant - 1] == '0') significant--;
  if (count > MAX_INTEGER_DIGITS) return false;
  snprintf(printed, sizeof printed, "%.*e", (int)significant - 1, v);
  for (size_t i = 0; i < significant; p++) {
    if (*p < '0' || *p > '9') continue; /* the point of the locale */
    if (*p != text[i++]) return false;
  }
  return true;
}
