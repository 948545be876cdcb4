/* The tokens of a Lua source, one after the other. Any text is accepted. Any thread; nothing is allocated. */
#ifndef FLUME_LUA_SCANNER_H
#define FLUME_LUA_SCANNER_H

#include <stdbool.h>
#include <stddef.h>

enum flume_token {
  FLUME_TOKEN_NONE,
  FLUME_TOKEN_WORD, /* keywords too */
  FLUME_TOKEN_NUMERAL,
  FLUME_TOKEN_QUOTED,    /* a string, with its quotes */
  FLUME_TOKEN_BRACKETED, /* a long string, with its brackets */
  FLUME_TOKEN_OPERATOR,
};

struct flume_scanner {
  const char *p; /* behind the token */
  const char *end;
  enum flume_token kind;
  const char *token;
};

/* Before the first token of len bytes of source, which the caller keeps. A first line that begins with # is passed over. */
void flume_scanner_start(struct flume_scanner *scanner, const char *source, size_t len);

/* Moves on to the next token, over white space and comments; false at the end. */
bool flume_scanner_next(struct flume_scanner *scanner);

/* Whether the token is this text. */
bool flume_token_is(const struct flume_scanner *scanner, const char *text);

#endif
