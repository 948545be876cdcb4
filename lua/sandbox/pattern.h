/* Lua's patterns, with bounded work: every trial of a match is a step of the budget that the state has, if it has one. */
#ifndef FLUME_LUA_PATTERN_H
#define FLUME_LUA_PATTERN_H

#include "lua/value/budget.h"

#define FLUME_CAPTURES_MAX 32

/* What a match found, and where the matcher stands. Lives on the C stack of one library function. */
struct flume_match {
  lua_State *L;
  struct flume_budget *budget;
  const char *subject;
  const char *subject_end;
  const char *pattern_end;
  int64_t left;  /* steps that may still be taken */
  int64_t given; /* what left was when it was last settled */
  int depth;     /* of recursion */
  int count;     /* captures so far */
  struct {
    const char *start;
    ptrdiff_t len; /* or one of FLUME_CAPTURE_* */
  } captures[FLUME_CAPTURES_MAX];
};

#define FLUME_CAPTURE_OPEN (-1)
#define FLUME_CAPTURE_POSITION (-2)

/* A match in the subject of a pattern that ends there. Nothing is to be freed. */
void flume_match_init(struct flume_match *match, lua_State *L, const char *subject, size_t subject_len,
                      const char *pattern_end);

/* Whether the pattern, without its anchor, matches at `at`: the end of the match, NULL for none. Raises what is wrong
 * with the pattern, as far as the match came to it, and the error of a spent budget. */
const char *flume_match_at(struct flume_match *match, const char *at, const char *pattern);

/* Takes the steps from the budget. Due before other code runs in the state, and in the end. */
void flume_match_settle(struct flume_match *match);

/* Puts find, match, gmatch and gsub into the table on top. */
void flume__pattern_open(lua_State *L);

#endif
