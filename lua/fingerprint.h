/* What a script is, whatever its comments and its layout: a hash of its tokens. */
#ifndef FLUME_LUA_FINGERPRINT_H
#define FLUME_LUA_FINGERPRINT_H

#include <stddef.h>
#include <stdint.h>

/* Extends hash (0 to start) by the tokens of a Lua source. Comments and the white space between tokens do not count;
 * two tokens never count as one. Any text is accepted. FNV-1a, 64 bit. Any thread. */
uint64_t flume_fingerprint(uint64_t hash, const char *source, size_t len);

#endif
