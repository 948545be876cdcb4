/* Error codes and the caller-owned error text.
 *
 * A core function returns 0 or a negative code. libuv's codes (negated errno values) pass through; flume's own
 * codes lie below -5000. The optional last parameter `struct flume_err *err` receives code and text on failure
 * only; a caller further up may put its own words in front with flume_err_wrap. */
#ifndef FLUME_ERR_H
#define FLUME_ERR_H

#include "flume.h"

/* Writes code and formatted text into err (which may be NULL) and returns code. */
int flume_err_set(struct flume_err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* As flume_err_set, with the text "out of memory". */
int flume_err_nomem(struct flume_err *err);

/* Puts "<formatted>: " in front of the text already in err. */
void flume_err_wrap(struct flume_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
