/* A backtracking matcher that reads the pattern as it goes: what is behind the place where a match fails is never looked
 * at. Each item of the pattern is tried in a loop; what can be tried in more than one way calls itself for what comes
 * behind. The depth of these calls is limited by the items of the pattern, not by the subject.
 *
 * Steps: one for each item that is tried, one for each character that a repetition takes or gives back, and for sets,
 * %b and references to captures as many as there are characters to look at. */
#include "lua/sandbox/pattern.h"

#include <assert.h>
#include <lauxlib.h>
#include <string.h>

#define DEPTH_MAX 200
#define BYTES_PER_STEP 8 /* where bytes are only compared */

void flume_match_init(struct flume_match *match, lua_State *L, const char *subject, size_t subject_len,
                      const char *pattern_end) {
  match->L = L;
  match->budget = flume_budget_of(L);
  match->subject = subject;
  match->subject_end = subject + subject_len;
  match->pattern_end = pattern_end;
  match->given = match->left = flume_budget_left(match->budget);
  match->depth = match->count = 0;
}

void flume_match_settle(struct flume_match *match) {
  if (match->budget != NULL) flume_budget_charge(match->L, match->budget, (uint64_t)(match->given - match->left));
  match->given = match->left = flume_budget_left(match->budget);
}

static inline void spend(struct flume_match *match, int64_t steps) {
  match->left -= steps;
  if (match->left < 0) flume_match_settle(match);
}

/* --- One character ----------------------------------------------------------------------------------------------- */

enum { UPPER = 1, LOWER = 2, DIGIT = 4, HEX = 8, SPACE = 16, PUNCTUATION = 32, CONTROL = 64, ZERO = 128 };

/* ASCII, whatever the locale of the process is. */
static const uint8_t classes[256] = {
    [0] = CONTROL | ZERO,
    [1 ... 8] = CONTROL,
    [9 ... 13] = CONTROL | SPACE,
    [14 ... 31] = CONTROL,
    [' '] = SPACE,
    ['!' ... '/'] = PUNCTUATION,
    ['0' ... '9'] = DIGIT | HEX,
    [':' ... '@'] = PUNCTUATION,
    ['A' ... 'F'] = UPPER | HEX,
    ['G' ... 'Z'] = UPPER,
    ['[' ... '`'] = PUNCTUATION,
    ['a' ... 'f'] = LOWER | HEX,
    ['g' ... 'z'] = LOWER,
    ['{' ... '~'] = PUNCTUATION,
    [127] = CONTROL,
};

/* The bits of the class that a letter stands for after %; 0 for none. */
static const uint8_t letters[128] = {
    ['a'] = UPPER | LOWER,
    ['c'] = CONTROL,
    ['d'] = DIGIT,
    ['g'] = UPPER | LOWER | DIGIT | PUNCTUATION,
    ['l'] = LOWER,
    ['p'] = PUNCTUATION,
    ['s'] = SPACE,
    ['u'] = UPPER,
    ['w'] = UPPER | LOWER | DIGIT,
    ['x'] = HEX,
    ['z'] = ZERO,
};

/* Whether c belongs to what % and the letter stand for. */
static inline bool is_of_class(unsigned char c, unsigned char letter) {
  uint8_t bits = letter < 128 ? letters[letter | 0x20] : 0;
  if (bits == 0 || (classes[letter] & (UPPER | LOWER)) == 0) return c == letter;
  return ((classes[c] & bits) != 0) == ((classes[letter] & LOWER) != 0);
}

/* Whether c is in the set from the bracket at p to the one at last. */
static bool is_in_set(unsigned char c, const char *p, const char *last) {
  bool wanted = true;
  if (*++p == '^') {
    wanted = false;
    p++;
  }
  while (p < last) {
    if (*p == '%') {
      if (is_of_class(c, (unsigned char)p[1])) return wanted;
      p += 2;
    } else if (p[1] == '-' && p + 2 < last) {
      if ((unsigned char)*p <= c && c <= (unsigned char)p[2]) return wanted;
      p += 3;
    } else if ((unsigned char)*p++ == c) {
      return wanted;
    }
  }
  return !wanted;
}

/* The end of the set that begins at p; a bracket that closes it is not its first character. */
static const char *set_end(const struct flume_match *match, const char *p) {
  const char *end = match->pattern_end;
  if (++p < end && *p == '^') p++;
  for (bool first = true; p < end; first = false) {
    if (*p == ']' && !first) return p + 1;
    p += *p == '%' && p + 1 < end ? 2 : 1;
  }
  luaL_error(match->L, "malformed pattern (missing ']')");
  return NULL;
}

/* The end of the single character class at p. */
static inline const char *class_end(const struct flume_match *match, const char *p) {
  if (*p == '[') return set_end(match, p);
  if (*p != '%') return p + 1;
  if (p + 1 == match->pattern_end) luaL_error(match->L, "malformed pattern (ends with '%%')");
  return p + 2;
}

/* Whether the character c is of the class from p to end. */
static inline bool is_of(struct flume_match *match, unsigned char c, const char *p, const char *end) {
  switch (*p) {
    case '.': return true;
    case '%': return is_of_class(c, (unsigned char)p[1]);
    case '[': spend(match, (end - p) / BYTES_PER_STEP); return is_in_set(c, p, end - 1);
    default: return (unsigned char)*p == c;
  }
}

static inline bool is_at(struct flume_match *match, const char *s, const char *p, const char *end) {
  return s < match->subject_end && is_of(match, (unsigned char)*s, p, end);
}

/* --- Repetitions ------------------------------------------------------------------------------------------------- */

/* As many as there are, then fewer. */
static const char *match_longest(struct flume_match *match, const char *s, const char *p, const char *end,
                                 ptrdiff_t least) {
  ptrdiff_t count = 0;
  while (is_at(match, s + count, p, end)) count++;
  spend(match, count);
  if (end + 1 == match->pattern_end) return count >= least ? s + count : NULL;
  for (; count >= least; count--) {
    const char *matched = flume_match_at(match, s + count, end + 1);
    if (matched != NULL) return matched;
  }
  return NULL;
}

static const char *match_shortest(struct flume_match *match, const char *s, const char *p, const char *end) {
  for (;;) {
    const char *matched = flume_match_at(match, s, end + 1);
    if (matched != NULL) return matched;
    if (!is_at(match, s, p, end)) return NULL;
    s++;
  }
}

/* --- Captures ---------------------------------------------------------------------------------------------------- */

static const char *match_opened(struct flume_match *match, const char *s, const char *p, ptrdiff_t len) {
  if (match->count >= FLUME_CAPTURES_MAX) luaL_error(match->L, "too many captures");
  match->captures[match->count].start = s;
  match->captures[match->count].len = len;
  match->count++;
  const char *matched = flume_match_at(match, s, p);
  if (matched == NULL) match->count--;
  return matched;
}

static const char *match_closed(struct flume_match *match, const char *s, const char *p) {
  int i = match->count - 1;
  while (i >= 0 && match->captures[i].len != FLUME_CAPTURE_OPEN) i--;
  if (i < 0) luaL_error(match->L, "invalid pattern capture");
  match->captures[i].len = s - match->captures[i].start;
  const char *matched = flume_match_at(match, s, p);
  if (matched == NULL) match->captures[i].len = FLUME_CAPTURE_OPEN;
  return matched;
}

/* Behind what the capture with that digit holds, when it is at s again. */
static const char *match_again(struct flume_match *match, const char *s, unsigned char digit) {
  int i = digit - '1';
  if (i < 0 || i >= match->count || match->captures[i].len == FLUME_CAPTURE_OPEN) {
    luaL_error(match->L, "invalid capture index %%%d", i + 1);
  }
  size_t len = (size_t)match->captures[i].len; /* of a position: larger than anything */
  if ((size_t)(match->subject_end - s) < len) return NULL;
  spend(match, (int64_t)(len / BYTES_PER_STEP));
  return memcmp(match->captures[i].start, s, len) == 0 ? s + len : NULL;
}

/* --- What begins with % -------------------------------------------------------------------------------------------- */

/* %bxy, p at the x: behind the y that balances the x at s. */
static const char *match_balanced(struct flume_match *match, const char *s, const char *p) {
  if (match->pattern_end - p < 2) luaL_error(match->L, "malformed pattern (missing arguments to '%%b')");
  if (s == match->subject_end || *s != p[0]) return NULL;
  const char *from = s, *balanced = NULL;
  size_t open = 1;
  while (++s < match->subject_end) {
    if (*s == p[1]) {
      if (--open > 0) continue;
      balanced = s + 1;
      break;
    }
    if (*s == p[0]) open++;
  }
  spend(match, s - from);
  return balanced;
}

/* %f and the set from p to end: is s where the set begins to hold? Both ends of the subject count as the character 0. */
static bool is_frontier(struct flume_match *match, const char *s, const char *p, const char *end) {
  unsigned char before = s == match->subject ? 0 : (unsigned char)s[-1];
  unsigned char behind = s == match->subject_end ? 0 : (unsigned char)*s;
  spend(match, (end - p) / BYTES_PER_STEP);
  return !is_in_set(before, p, end - 1) && is_in_set(behind, p, end - 1);
}

enum special { SPECIAL_NONE, SPECIAL_MATCHED, SPECIAL_FAILED };

/* The item at *p if it is one of %b, %f and %1: when it matches, *s and *p are moved behind it. */
static enum special match_special(struct flume_match *match, const char **s, const char **p) {
  const char *item = *p + 1, *behind, *matched;
  if (item >= match->pattern_end) return SPECIAL_NONE;
  if (*item == 'b') {
    matched = match_balanced(match, *s, item + 1);
    behind = item + 3;
  } else if (*item == 'f') {
    if (++item >= match->pattern_end || *item != '[') luaL_error(match->L, "missing '[' after '%%f' in pattern");
    behind = set_end(match, item);
    matched = is_frontier(match, *s, item, behind) ? *s : NULL;
  } else if (*item >= '0' && *item <= '9') {
    matched = match_again(match, *s, (unsigned char)*item);
    behind = item + 1;
  } else {
    return SPECIAL_NONE;
  }
  if (matched == NULL) return SPECIAL_FAILED;
  *s = matched;
  *p = behind;
  return SPECIAL_MATCHED;
}

/* --- The items of a pattern, one after the other ------------------------------------------------------------------ */

static const char *match_items(struct flume_match *match, const char *s, const char *p) {
  const char *pattern_end = match->pattern_end;
  assert(s != NULL);
  while (p < pattern_end) {
    spend(match, 1);
    if (*p == '(') {
      if (p + 1 < pattern_end && p[1] == ')') return match_opened(match, s, p + 2, FLUME_CAPTURE_POSITION);
      return match_opened(match, s, p + 1, FLUME_CAPTURE_OPEN);
    }
    if (*p == ')') return match_closed(match, s, p + 1);
    if (*p == '$' && p + 1 == pattern_end) return s == match->subject_end ? s : NULL;
    enum special special = *p == '%' ? match_special(match, &s, &p) : SPECIAL_NONE;
    if (special == SPECIAL_FAILED) return NULL;
    if (special == SPECIAL_MATCHED) continue;
    const char *end = class_end(match, p);
    switch (end < pattern_end ? *end : '\0') {
      case '*': return match_longest(match, s, p, end, 0);
      case '+': return match_longest(match, s, p, end, 1);
      case '-': return match_shortest(match, s, p, end);
      case '?': {
        const char *matched = is_at(match, s, p, end) ? flume_match_at(match, s + 1, end + 1) : NULL;
        if (matched != NULL) return matched;
        p = end + 1;
        break;
      }
      default:
        if (!is_at(match, s, p, end)) return NULL;
        s++;
        p = end;
    }
  }
  return s;
}

const char *flume_match_at(struct flume_match *match, const char *at, const char *pattern) {
  if (match->depth == DEPTH_MAX) luaL_error(match->L, "pattern too complex");
  match->depth++;
  const char *matched = match_items(match, at, pattern);
  match->depth--;
  return matched;
}
