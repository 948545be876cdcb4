/* Tokens are cut as Lua's own scanner cuts them, byte by byte and in any locale. Where a source is no Lua at all (a string
 * without an end, a malformed numeral) some token holds the rest: such a source is no program. */
#include "lua/sandbox/fingerprint.h"

#include <stdbool.h>
#include <string.h>

#define FNV_OFFSET 0xcbf29ce484222325u
#define FNV_PRIME 0x100000001b3u

/* --- Hashing ----------------------------------------------------------------------------------------------------- */

static uint64_t add_byte(uint64_t hash, uint8_t byte) {
  return (hash ^ byte) * FNV_PRIME;
}

uint64_t flume_fingerprint_bytes(uint64_t hash, const void *bytes, size_t len) {
  const uint8_t *p = bytes;
  if (hash == 0) hash = FNV_OFFSET;
  for (size_t rest = len, i = 0; i < 8; i++, rest >>= 8) hash = add_byte(hash, (uint8_t)rest);
  for (size_t i = 0; i < len; i++) hash = add_byte(hash, p[i]);
  return hash;
}

/* --- Cutting ----------------------------------------------------------------------------------------------------- */

enum kind { NONE, WORD, NUMERAL, QUOTED, BRACKETED, OPERATOR };

struct scanner {
  const char *p; /* behind the token */
  const char *end;
  enum kind kind;
  const char *token;
};

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

static void skip_to_token(struct scanner *scanner) {
  const char *p = scanner->p, *end = scanner->end;
  for (;;) {
    if (p < end && is_space(*p)) p++;
    else if (end - p >= 2 && p[0] == '-' && p[1] == '-') p = comment_end(p, end);
    else break;
  }
  scanner->p = p;
}

/* Moves on to the next token; false at the end. */
static bool next_token(struct scanner *scanner) {
  skip_to_token(scanner);
  const char *p = scanner->token = scanner->p, *end = scanner->end, *bracket;
  scanner->kind = NONE;
  if (p >= end) return false;
  if (*p == '"' || *p == '\'') {
    scanner->kind = QUOTED;
    scanner->p = quoted_end(p, end);
  } else if ((bracket = long_bracket_end(p, end)) != NULL) {
    scanner->kind = BRACKETED;
    scanner->p = bracket;
  } else if (is_digit(*p) || (*p == '.' && p + 1 < end && is_digit(p[1]))) {
    scanner->kind = NUMERAL;
    scanner->p = numeral_end(p, end);
  } else if (is_word(*p)) {
    scanner->kind = WORD;
    scanner->p = word_end(p, end);
  } else {
    scanner->kind = OPERATOR;
    scanner->p = operator_end(p, end);
  }
  return true;
}

static void start(struct scanner *scanner, const char *source, size_t len) {
  *scanner = (struct scanner){.p = source, .end = source + len};
  if (len > 0 && *source == '#') scanner->p = line_end(source, scanner->end);
}

uint64_t flume_fingerprint(uint64_t hash, const char *source, size_t len) {
  struct scanner scanner;
  start(&scanner, source, len);
  while (next_token(&scanner)) {
    hash = flume_fingerprint_bytes(hash, scanner.token, (size_t)(scanner.p - scanner.token));
  }
  return flume_fingerprint_bytes(hash, "", 0);
}

/* --- Modules ----------------------------------------------------------------------------------------------------- */

static bool is_token(const struct scanner *scanner, const char *text) {
  size_t len = strlen(text);
  return (size_t)(scanner->p - scanner->token) == len && memcmp(scanner->token, text, len) == 0;
}

/* The contents of a string token, when it is one without escapes. */
static bool read_string(const struct scanner *scanner, const char **text, size_t *len) {
  size_t around = 1;
  if (scanner->kind == BRACKETED) {
    while (scanner->token[around] == '=') around++;
    around++;
  } else if (scanner->kind != QUOTED) {
    return false;
  }
  if ((size_t)(scanner->p - scanner->token) < 2 * around) return false;
  *text = scanner->token + around;
  *len = (size_t)(scanner->p - scanner->token) - 2 * around;
  return memchr(*text, '\\', *len) == NULL;
}

int flume_fingerprint_requires(const char *source, size_t len, flume_required required, void *arg) {
  struct scanner scanner;
  int rv = 0;
  start(&scanner, source, len);
  while (rv == 0 && next_token(&scanner)) {
    const char *name;
    size_t name_len;
    if (scanner.kind != WORD || !is_token(&scanner, "require")) continue;
    struct scanner behind = scanner;
    bool in_parentheses = next_token(&behind) && is_token(&behind, "(") && next_token(&behind);
    if (!read_string(&behind, &name, &name_len)) continue;
    if (in_parentheses && !(next_token(&behind) && is_token(&behind, ")"))) continue;
    rv = required(arg, name, name_len);
  }
  return rv;
}
