#include "lua/sandbox/fingerprint.h"

#include <stdbool.h>
#include <string.h>

#include "lua/sandbox/scanner.h"

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

/* --- Tokens ------------------------------------------------------------------------------------------------------ */

uint64_t flume_fingerprint(uint64_t hash, const char *source, size_t len) {
  struct flume_scanner scanner;
  flume_scanner_start(&scanner, source, len);
  while (flume_scanner_next(&scanner)) {
    hash = flume_fingerprint_bytes(hash, scanner.token, (size_t)(scanner.p - scanner.token));
  }
  return flume_fingerprint_bytes(hash, "", 0);
}

/* --- Modules ----------------------------------------------------------------------------------------------------- */

/* The contents of a string token, when it is one without escapes. */
static bool read_string(const struct flume_scanner *scanner, const char **text, size_t *len) {
  size_t around = 1;
  if (scanner->kind == FLUME_TOKEN_BRACKETED) {
    while (scanner->token[around] == '=') around++;
    around++;
  } else if (scanner->kind != FLUME_TOKEN_QUOTED) {
    return false;
  }
  if ((size_t)(scanner->p - scanner->token) < 2 * around) return false;
  *text = scanner->token + around;
  *len = (size_t)(scanner->p - scanner->token) - 2 * around;
  return memchr(*text, '\\', *len) == NULL;
}

int flume_fingerprint_requires(const char *source, size_t len, flume_required required, void *arg) {
  struct flume_scanner scanner;
  int rv = 0;
  flume_scanner_start(&scanner, source, len);
  while (rv == 0 && flume_scanner_next(&scanner)) {
    const char *name;
    size_t name_len;
    if (scanner.kind != FLUME_TOKEN_WORD || !flume_token_is(&scanner, "require")) continue;
    struct flume_scanner behind = scanner;
    bool in_parentheses = flume_scanner_next(&behind) && flume_token_is(&behind, "(") && flume_scanner_next(&behind);
    if (!read_string(&behind, &name, &name_len)) continue;
    if (in_parentheses && !(flume_scanner_next(&behind) && flume_token_is(&behind, ")"))) continue;
    rv = required(arg, name, name_len);
  }
  return rv;
}
