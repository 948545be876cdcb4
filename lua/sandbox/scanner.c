/* Tokens are cut as Lua's own scanner cuts them, byte by byte and in any locale. Where a source is no Lua at all (a string
 * without an end, a malformed numeral) some token holds the rest: such a source is no program. */
#include "lua/sandbox/scanner.h"

#include <string.h>

static bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

static bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_';
}

static bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_newline(char c) {
  return c == '\n' || c == '\r';
}

/* Behind the long bracket [==[ ... ]==] that opens at p, or NULL when none does. */
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

static const char *line_end(const char *p, const char *end) {
  while (p < end && !is_newline(*p)) p++;
  return p;
}

static const char *comment_end(const char *p, const char *end) {
  const char *closed = long_bracket_end(p + 2, end);
  return closed != NULL ? closed : line_end(p, end);
}

static const char *quoted_end(const char *p, const char *end) {
  char quote = *p++;
  while (p < end && *p != quote) p += *p == '\\' && p + 1 < end ? 2 : 1;
  return p < end ? p + 1 : end;
}

static const char *word_end(const char *p, const char *end) {
  while (p < end && is_word(*p)) p++;
  return p;
}

static const char *numeral_end(const char *p, const char *end) {
  bool is_hex = *p == '0' && p + 1 < end && (p[1] == 'x' || p[1] == 'X');
  const char *exponent = is_hex ? "pP" : "eE";
  for (; p < end; p++) {
    bool is_exponent = *p != '\0' && strchr(exponent, *p) != NULL;
    if (is_exponent && p + 1 < end && (p[1] == '+' || p[1] == '-')) p++;
    else if (!is_word(*p) && *p != '.') break;
  }
  return p;
}

/* Two operators that stand apart must not look like one of two characters. */
static const char *operator_end(const char *p, const char *end) {
  static const char *const operators[] = {"...", "..", "==", "~=", "<=", ">=", "<<", ">>", "//", "::"};
  for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
    size_t len = strlen(operators[i]);
    if ((size_t)(end - p) >= len && memcmp(p, operators[i], len) == 0) return p + len;
  }
  return p + 1;
}

static void skip_to_token(struct flume_scanner *scanner) {
  const char *p = scanner->p, *end = scanner->end;
  for (;;) {
    if (p < end && is_space(*p)) p++;
    else if (end - p >= 2 && p[0] == '-' && p[1] == '-') p = comment_end(p, end);
    else break;
  }
  scanner->p = p;
}

bool flume_scanner_next(struct flume_scanner *scanner) {
  skip_to_token(scanner);
  const char *p = scanner->token = scanner->p, *end = scanner->end, *bracket;
  scanner->kind = FLUME_TOKEN_NONE;
  if (p >= end) return false;
  if (*p == '"' || *p == '\'') {
    scanner->kind = FLUME_TOKEN_QUOTED;
    scanner->p = quoted_end(p, end);
  } else if ((bracket = long_bracket_end(p, end)) != NULL) {
    scanner->kind = FLUME_TOKEN_BRACKETED;
    scanner->p = bracket;
  } else if (is_digit(*p) || (*p == '.' && p + 1 < end && is_digit(p[1]))) {
    scanner->kind = FLUME_TOKEN_NUMERAL;
    scanner->p = numeral_end(p, end);
  } else if (is_word(*p)) {
    scanner->kind = FLUME_TOKEN_WORD;
    scanner->p = word_end(p, end);
  } else {
    scanner->kind = FLUME_TOKEN_OPERATOR;
    scanner->p = operator_end(p, end);
  }
  return true;
}

void flume_scanner_start(struct flume_scanner *scanner, const char *source, size_t len) {
  *scanner = (struct flume_scanner){.p = source, .end = source + len};
  if (len > 0 && *source == '#') scanner->p = line_end(source, scanner->end);
}

bool flume_token_is(const struct flume_scanner *scanner, const char *text) {
  size_t len = strlen(text);
  return (size_t)(scanner->p - scanner->token) == len && memcmp(scanner->token, text, len) == 0;
}
