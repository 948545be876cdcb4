#include "fingerprint.h"

#include <ctype.h>
#include <string.h>

#define FNV_OFFSET 0xcbf29ce484222325u
#define FNV_PRIME 0x100000001b3u

static uint64_t add(uint64_t hash, const char *bytes, size_t len) {
  for (size_t i = 0; i < len; i++) hash = (hash ^ (uint8_t)bytes[i]) * FNV_PRIME;
  return (hash ^ 0xff) * FNV_PRIME; /* where one token ends and the next begins */
}

/* The end of a long bracket [==[ ... ]==] that opens at p, or NULL when none does. */
static const char *long_bracket_end(const char *p, const char *end) {
  if (p >= end || *p != '[') return NULL;
  size_t level = 0;
  const char *q = p + 1;
  while (q < end && *q == '=') q++, level++;
  if (q >= end || *q != '[') return NULL;
  for (q++; q < end; q++) {
    if (*q != ']') continue;
    size_t n = 0;
    while (q + 1 + n < end && q[1 + n] == '=') n++;
    if (n == level && q + 1 + n < end && q[1 + n] == ']') return q + n + 2;
  }
  return end;
}

static const char *quoted_end(const char *p, const char *end) {
  char quote = *p++;
  while (p < end && *p != quote) p += *p == '\\' && p + 1 < end ? 2 : 1;
  return p < end ? p + 1 : end;
}

static const char *comment_end(const char *p, const char *end) {
  const char *closed = long_bracket_end(p + 2, end);
  if (closed != NULL) return closed;
  const char *newline = memchr(p, '\n', (size_t)(end - p));
  return newline != NULL ? newline : end;
}

static int is_word(char c) {
  return isalnum((unsigned char)c) || c == '_';
}

static const char *word_end(const char *p, const char *end) {
  int number = isdigit((unsigned char)*p);
  while (p < end) {
    int exponent_sign = number && (*p == '+' || *p == '-') && strchr("eEpP", p[-1]) != NULL;
    if (!is_word(*p) && !(number && *p == '.') && !exponent_sign) break;
    p++;
  }
  return p;
}

/* Operators of several characters: two tokens that stand apart must not look like one. */
static const char *operator_end(const char *p, const char *end) {
  static const char *const operators[] = {"...", "..", "==", "~=", "<=", ">=", "<<", ">>", "//", "::"};
  for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
    size_t len = strlen(operators[i]);
    if ((size_t)(end - p) >= len && memcmp(p, operators[i], len) == 0) return p + len;
  }
  return p + 1;
}

uint64_t flume_fingerprint(uint64_t hash, const char *source, size_t len) {
  const char *p = source, *end = source + len;
  if (hash == 0) hash = FNV_OFFSET;
  if (len > 0 && *p == '#') { /* first line of a script */
    const char *newline = memchr(p, '\n', len);
    p = newline != NULL ? newline : end;
  }
  while (p < end) {
    const char *start = p;
    const char *bracket;
    if (isspace((unsigned char)*p)) {
      p++;
      continue;
    }
    if (end - p >= 2 && p[0] == '-' && p[1] == '-') {
      p = comment_end(p, end);
      continue;
    }
    if (*p == '"' || *p == '\'') p = quoted_end(p, end);
    else if (*p == '[' && (bracket = long_bracket_end(p, end)) != NULL) p = bracket;
    else if (is_word(*p)) p = word_end(p, end);
    else p = operator_end(p, end);
    hash = add(hash, start, (size_t)(p - start));
  }
  return hash;
}
