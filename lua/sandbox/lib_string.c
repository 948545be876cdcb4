/* string.find, match, gmatch and gsub over the matcher of pattern.c. */
#include <lauxlib.h>
#include <string.h>

#include "lua/sandbox/pattern.h"

#define BYTES_PER_STEP 8 /* of a search for plain text */
#define TRIES_MAX 32     /* then a way that is linear in any case */

/* --- Arguments and captures -------------------------------------------------------------------------------------- */

/* Where a search begins, from 0: what counts from the end is turned, and what is before the start begins there. */
static size_t start_of(lua_State *L, int index, size_t len) {
  lua_Integer init = luaL_optinteger(L, index, 1);
  if (init > 0) return (size_t)init - 1;
  if (init == 0 || init < -(lua_Integer)len) return 0;
  return len + (size_t)init;
}

static void push_capture(struct flume_match *match, int i, const char *from, const char *to) {
  lua_State *L = match->L;
  if (i >= match->count) {
    if (i > 0) luaL_error(L, "invalid capture index %%%d", i + 1);
    lua_pushlstring(L, from, (size_t)(to - from));
    return;
  }
  const char *start = match->captures[i].start;
  ptrdiff_t len = match->captures[i].len;
  if (len == FLUME_CAPTURE_OPEN) luaL_error(L, "unfinished capture");
  if (len == FLUME_CAPTURE_POSITION) lua_pushinteger(L, start - match->subject + 1);
  else lua_pushlstring(L, start, (size_t)len);
}

/* Pushes the captures; when there are none, the whole match from `from` to `to`, if that is wanted (from is not NULL). */
static int push_captures(struct flume_match *match, const char *from, const char *to) {
  int count = match->count == 0 && from != NULL ? 1 : match->count;
  luaL_checkstack(match->L, count, "too many captures");
  for (int i = 0; i < count; i++) push_capture(match, i, from, to);
  return count;
}

/* --- find and match ---------------------------------------------------------------------------------------------- */

static bool is_plain(const char *pattern, size_t len) {
  for (const char *p = pattern, *end = pattern + len; p < end; p++) {
    switch (*p) {
      case '^':
      case '$':
      case '*':
      case '+':
      case '?':
      case '.':
      case '(':
      case '[':
      case '%':
      case '-': return false;
      default: break;
    }
  }
  return true;
}

/* Looks for the first character of p (which has one), until it was found too often in vain. */
static const char *find_text(const char *s, size_t s_len, const char *p, size_t p_len) {
  const char *end = s + s_len;
  for (int tries = 0; tries < TRIES_MAX; tries++) {
    if ((size_t)(end - s) < p_len) return NULL;
    s = memchr(s, *p, (size_t)(end - s) - p_len + 1);
    if (s == NULL || memcmp(s, p, p_len) == 0) return s;
    s++;
  }
  return memmem(s, (size_t)(end - s), p, p_len);
}

static int find_plain(lua_State *L, const char *s, size_t s_len, const char *p, size_t p_len, size_t init) {
  const char *found = p_len == 0 ? s + init : find_text(s + init, s_len - init, p, p_len);
  size_t looked_at = found != NULL ? (size_t)(found - s) - init : s_len - init;
  flume_budget_charge(L, flume_budget_of(L), (looked_at + p_len) / BYTES_PER_STEP);
  if (found == NULL) {
    lua_pushnil(L);
    return 1;
  }
  lua_pushinteger(L, found - s + 1);
  lua_pushinteger(L, found - s + (lua_Integer)p_len);
  return 2;
}

/* The first match at or behind `from`; sets *end. NULL for none. */
static const char *search(struct flume_match *match, const char *from, const char *pattern, const char **end) {
  bool anchored = pattern < match->pattern_end && *pattern == '^';
  if (anchored) pattern++;
  for (const char *at = from; at <= match->subject_end; at++) {
    match->count = 0;
    *end = flume_match_at(match, at, pattern);
    if (*end != NULL) return at;
    if (anchored) break;
  }
  return NULL;
}

static int string_find(lua_State *L) {
  size_t s_len, p_len;
  const char *s = luaL_checklstring(L, 1, &s_len), *p = luaL_checklstring(L, 2, &p_len), *end;
  size_t init = start_of(L, 3, s_len);
  if (init > s_len) {
    lua_pushnil(L);
    return 1;
  }
  if (lua_toboolean(L, 4) || is_plain(p, p_len)) return find_plain(L, s, s_len, p, p_len, init);
  struct flume_match match;
  flume_match_init(&match, L, s, s_len, p + p_len);
  const char *found = search(&match, s + init, p, &end);
  flume_match_settle(&match);
  if (found == NULL) {
    lua_pushnil(L);
    return 1;
  }
  lua_pushinteger(L, found - s + 1);
  lua_pushinteger(L, end - s);
  return 2 + push_captures(&match, NULL, NULL);
}

static int string_match(lua_State *L) {
  size_t s_len, p_len;
  const char *s = luaL_checklstring(L, 1, &s_len), *p = luaL_checklstring(L, 2, &p_len), *end;
  size_t init = start_of(L, 3, s_len);
  struct flume_match match;
  const char *found = NULL;
  if (init <= s_len) {
    flume_match_init(&match, L, s, s_len, p + p_len);
    found = search(&match, s + init, p, &end);
    flume_match_settle(&match);
  }
  if (found != NULL) return push_captures(&match, found, end);
  lua_pushnil(L);
  return 1;
}

/* --- gmatch ------------------------------------------------------------------------------------------------------ */

enum { GMATCH_SUBJECT = 1, GMATCH_PATTERN, GMATCH_NEXT, GMATCH_LAST_END, GMATCH_COUNT = 4 };

/* An empty match where the last one ended would be no progress. */
static int gmatch_next(lua_State *L) {
  size_t s_len, p_len;
  const char *s = lua_tolstring(L, lua_upvalueindex(GMATCH_SUBJECT), &s_len);
  const char *p = lua_tolstring(L, lua_upvalueindex(GMATCH_PATTERN), &p_len);
  lua_Integer last_end = lua_tointeger(L, lua_upvalueindex(GMATCH_LAST_END));
  struct flume_match match;
  flume_match_init(&match, L, s, s_len, p + p_len);
  for (size_t at = (size_t)lua_tointeger(L, lua_upvalueindex(GMATCH_NEXT)); at <= s_len; at++) {
    match.count = 0;
    const char *end = flume_match_at(&match, s + at, p);
    if (end == NULL || end - s == last_end) continue;
    flume_match_settle(&match);
    lua_pushinteger(L, end - s);
    lua_copy(L, -1, lua_upvalueindex(GMATCH_NEXT));
    lua_replace(L, lua_upvalueindex(GMATCH_LAST_END));
    return push_captures(&match, s + at, end);
  }
  flume_match_settle(&match);
  return 0;
}

static int string_gmatch(lua_State *L) {
  size_t s_len;
  luaL_checklstring(L, 1, &s_len);
  luaL_checkstring(L, 2);
  size_t init = start_of(L, 3, s_len);
  lua_settop(L, 2);
  lua_pushinteger(L, (lua_Integer)(init > s_len ? s_len + 1 : init));
  lua_pushinteger(L, -1);
  lua_pushcclosure(L, gmatch_next, GMATCH_COUNT);
  return 1;
}

/* --- gsub -------------------------------------------------------------------------------------------------------- */

/* The replacement text, argument 3, with what %0 to %9 stand for. */
static void add_text(struct flume_match *match, luaL_Buffer *out, const char *from, const char *to) {
  size_t len;
  const char *text = lua_tolstring(match->L, 3, &len), *end = text + len;
  for (;;) {
    const char *percent = memchr(text, '%', (size_t)(end - text));
    luaL_addlstring(out, text, (size_t)((percent != NULL ? percent : end) - text));
    if (percent == NULL) return;
    char c = percent + 1 < end ? percent[1] : '\0';
    text = percent + 2;
    if (c == '%') {
      luaL_addchar(out, '%');
    } else if (c == '0') {
      luaL_addlstring(out, from, (size_t)(to - from));
    } else if (c >= '1' && c <= '9') {
      push_capture(match, c - '1', from, to);
      luaL_tolstring(match->L, -1, NULL); /* of a position */
      lua_remove(match->L, -2);
      luaL_addvalue(out);
    } else {
      luaL_error(match->L, "invalid use of '%%' in replacement string");
    }
  }
}

/* What takes the place of a match; false: nothing does, it stays. */
static bool add_replacement(struct flume_match *match, luaL_Buffer *out, const char *from, const char *to) {
  lua_State *L = match->L;
  switch (lua_type(L, 3)) {
    case LUA_TFUNCTION:
      lua_pushvalue(L, 3);
      lua_call(L, push_captures(match, from, to), 1);
      break;
    case LUA_TTABLE:
      push_capture(match, 0, from, to);
      lua_gettable(L, 3);
      break;
    default: add_text(match, out, from, to); return true;
  }
  if (!lua_toboolean(L, -1)) {
    lua_pop(L, 1);
    luaL_addlstring(out, from, (size_t)(to - from));
    return false;
  }
  if (!lua_isstring(L, -1)) luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
  luaL_addvalue(out);
  return true;
}

static bool replace_all(struct flume_match *match, luaL_Buffer *out, const char *pattern, lua_Integer *count) {
  lua_Integer most = *count;
  bool anchored = pattern < match->pattern_end && *pattern == '^', changed = false;
  const char *at = match->subject, *last_end = NULL;
  if (anchored) pattern++;
  for (*count = 0; *count < most;) {
    flume_budget_look(match->L, match->budget);
    match->count = 0;
    const char *end = flume_match_at(match, at, pattern);
    if (end != NULL && end != last_end) {
      ++*count;
      flume_match_settle(match);
      if (add_replacement(match, out, at, end)) changed = true;
      at = last_end = end;
      match->given = match->left = flume_budget_left(match->budget);
    } else if (at < match->subject_end) {
      luaL_addchar(out, *at++);
    } else {
      break;
    }
    if (anchored) break;
  }
  flume_match_settle(match);
  luaL_addlstring(out, at, (size_t)(match->subject_end - at));
  return changed;
}

static int string_gsub(lua_State *L) {
  size_t s_len, p_len;
  const char *s = luaL_checklstring(L, 1, &s_len), *p = luaL_checklstring(L, 2, &p_len);
  int type = lua_type(L, 3);
  lua_Integer count = luaL_optinteger(L, 4, (lua_Integer)s_len + 1);
  bool can_replace = type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION || type == LUA_TTABLE;
  luaL_argexpected(L, can_replace, 3, "string/function/table");
  struct flume_match match;
  luaL_Buffer out;
  flume_match_init(&match, L, s, s_len, p + p_len);
  luaL_buffinit(L, &out);
  bool changed = replace_all(&match, &out, p, &count);
  luaL_pushresult(&out);
  if (!changed) lua_pushvalue(L, 1);
  lua_pushinteger(L, count);
  return 2;
}

void flume__pattern_open(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"find", string_find}, {"match", string_match}, {"gmatch", string_gmatch}, {"gsub", string_gsub}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
