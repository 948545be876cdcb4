/* Boundaries of words in scripts that are written without spaces between words: Thai, Lao, Khmer and Burmese. They
 * are found with ICU's dictionaries; without ICU (built with WITH_ICU=0) there are none, and a run of such letters is
 * one word. One segmenter is used by one thread at a time. */
#ifndef FLUME_TEXT_SEGMENTER_H
#define FLUME_TEXT_SEGMENTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct flume_segmenter;

/* The version of ICU and so of its dictionaries, such as "72.1"; "" without ICU. out has room for 32 bytes. */
void flume_segmenter_version(char *out);

/* NULL without ICU, or when there is no memory, or none of ICU's data. */
struct flume_segmenter *flume_segmenter_new(void);
void flume_segmenter_free(struct flume_segmenter *segmenter); /* NULL is allowed */

/* Whether the character belongs to one of these scripts. */
bool flume_segmenter_wants(int32_t character);

/* Begins with a run of such characters, UTF-8, which stay where they are until the last call of next. False: ICU has no
 * memory. */
bool flume_segmenter_begin(struct flume_segmenter *segmenter, const uint8_t *run, size_t len);
/* The next boundary behind the beginning, in bytes; len at the end. */
size_t flume_segmenter_next(struct flume_segmenter *segmenter, size_t len);

#endif
