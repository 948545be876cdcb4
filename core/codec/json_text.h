/* What reading and writing JSON strings share: passing over bytes that stand for themselves, and UTF-8. */
#ifndef FLUME_JSON_TEXT_H
#define FLUME_JSON_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FLUME__EACH_BYTE(n) (UINT64_C(0x0101010101010101) * (n))

/* Whether a byte stands for itself in a JSON string: printable ASCII but for the quote and the backslash. */
static inline bool flume__json_is_plain(uint8_t c) {
  return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

/* The first byte from p on that is not plain, or end. */
static inline const uint8_t *flume__json_pass_plain(const uint8_t *p, const uint8_t *end) {
  while (end - p >= 8) {
    uint64_t bytes, quotes, slashes;
    memcpy(&bytes, p, sizeof bytes);
    quotes = bytes ^ FLUME__EACH_BYTE('"');
    slashes = bytes ^ FLUME__EACH_BYTE('\\');
    /* The high bit of a byte comes out set where the byte has it, is below 0x20, or is the quote or the backslash and
     * so zero here. A borrow may set it in bytes after such a one, but never clears it. */
    if (((bytes | (bytes - FLUME__EACH_BYTE(0x20)) | (quotes - FLUME__EACH_BYTE(1)) | (slashes - FLUME__EACH_BYTE(1))) &
         FLUME__EACH_BYTE(0x80)) != 0) {
      break;
    }
    p += 8;
  }
  while (p < end && flume__json_is_plain(*p)) p++;
  return p;
}

/* The length of the UTF-8 sequence at p, 1 to 4, or 0 when it is not valid. p is below end. */
static inline size_t flume__utf8_len(const uint8_t *p, const uint8_t *end) {
  uint8_t low = 0x80, high = 0xbf; /* what the second byte may be */
  size_t len;
  if (p[0] < 0x80) return 1;
  if (p[0] < 0xc2 || p[0] > 0xf4) return 0;
  len = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
  if (p[0] == 0xe0) low = 0xa0;
  if (p[0] == 0xed) high = 0x9f;
  if (p[0] == 0xf0) low = 0x90;
  if (p[0] == 0xf4) high = 0x8f;
  if ((size_t)(end - p) < len || p[1] < low || p[1] > high) return 0;
  for (size_t i = 2; i < len; i++) {
    if ((p[i] & 0xc0) != 0x80) return 0;
  }
  return len;
}

#endif
