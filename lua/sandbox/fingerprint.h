/* What a script is, whatever its comments and its layout: a hash of its tokens. FNV-1a, 64 bit. Any thread. */
#ifndef FLUME_LUA_FINGERPRINT_H
#define FLUME_LUA_FINGERPRINT_H

#include <stddef.h>
#include <stdint.h>

/* Extends hash (0 to start) by the tokens of a Lua source and a mark where it ends. Comments, the white space between
 * tokens and a first line that begins with # do not count. Each token counts as it is written and by itself: two sources
 * with the same tokens are the same program but for the numbers of its lines. Any text is accepted. */
uint64_t flume_fingerprint(uint64_t hash, const char *source, size_t len);

/* Extends hash by bytes and their number. */
uint64_t flume_fingerprint_bytes(uint64_t hash, const void *bytes, size_t len);

/* Called with the name of each module that the source requires literally: require "x", require("x"), require [[x]]. The
 * name is valid during the call. What is not 0 ends the search. */
typedef int (*flume_required)(void *arg, const char *name, size_t len);

/* 0, or what required returned. */
int flume_fingerprint_requires(const char *source, size_t len, flume_required required, void *arg);

#endif
