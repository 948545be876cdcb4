/* Floats to and from decimal text. Any thread; independent of the locale. */
#ifndef FLUME_FLOAT_TEXT_H
#define FLUME_FLOAT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Room for the text of any float, with its NUL. */
#define FLUME_FLOAT_TEXT_SIZE 40

/* Writes the shortest text that reads back as v, and of these the closest to v: "0.07", "-3.0", "5e-324", "1e+300".
 * The text always has a '.' or an 'e', so that it reads as a float. v is finite. Returns the text's length. */
size_t flume_float_text(double v, char text[FLUME_FLOAT_TEXT_SIZE]);

/* The double nearest to digits * 10^exponent, where digits are the count decimal digits at text; a '.' among them is
 * passed over. buf has room for count + 24 bytes. Beyond the range of double the result is an infinity. */
double flume_float_read(const char *text, size_t count, int64_t exponent, char *buf);

/* Whether the integer of count decimal digits at text is v, or what v is when it is rounded to as many significant
 * digits: then no digit is lost when v stands for the integer. v is finite and not negative. */
bool flume_float_keeps(double v, const char *text, size_t count);

#endif
