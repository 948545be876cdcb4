#include "text/segmenter.h"

#include <stdio.h>
#include <stdlib.h>

bool flume_segmenter_wants(int32_t c) {
  return (c >= 0x0e00 && c <= 0x0eff) ||                                                                 /* Thai, Lao */
         (c >= 0x1000 && c <= 0x109f) || (c >= 0xa9e0 && c <= 0xa9ff) || (c >= 0xaa60 && c <= 0xaa7f) || /* Burmese */
         (c >= 0x1780 && c <= 0x17ff) || (c >= 0x19e0 && c <= 0x19ff);                                   /* Khmer */
}

#ifdef FLUME_WITH_ICU

#include <unicode/ubrk.h>
#include <unicode/utext.h>
#include <unicode/uversion.h>

struct flume_segmenter {
  UBreakIterator *words;
  UText *text; /* NULL before the first run */
};

void flume_segmenter_version(char *out) {
  UVersionInfo version;
  u_getVersion(version);
  snprintf(out, 32, "%d.%d", version[0], version[1]);
}

struct flume_segmenter *flume_segmenter_new(void) {
  UErrorCode status = U_ZERO_ERROR;
  struct flume_segmenter *segmenter = calloc(1, sizeof *segmenter);
  if (segmenter == NULL) return NULL;
  segmenter->words = ubrk_open(UBRK_WORD, "", NULL, 0, &status);
  if (U_SUCCESS(status)) return segmenter;
  free(segmenter);
  return NULL;
}

void flume_segmenter_free(struct flume_segmenter *segmenter) {
  if (segmenter == NULL) return;
  ubrk_close(segmenter->words);
  if (segmenter->text != NULL) utext_close(segmenter->text);
  free(segmenter);
}

bool flume_segmenter_begin(struct flume_segmenter *segmenter, const uint8_t *run, size_t len) {
  UErrorCode status = U_ZERO_ERROR;
  UText *text = utext_openUTF8(segmenter->text, (const char *)run, (int64_t)len, &status);
  if (U_FAILURE(status)) return false;
  segmenter->text = text;
  ubrk_setUText(segmenter->words, text, &status);
  return U_SUCCESS(status) && ubrk_first(segmenter->words) == 0;
}

size_t flume_segmenter_next(struct flume_segmenter *segmenter, size_t len) {
  int32_t at = ubrk_next(segmenter->words);
  return at == UBRK_DONE || (size_t)at > len ? len : (size_t)at;
}

#else

void flume_segmenter_version(char *out) {
  out[0] = '\0';
}

struct flume_segmenter *flume_segmenter_new(void) {
  return NULL;
}

void flume_segmenter_free(struct flume_segmenter *segmenter) {
  (void)segmenter;
}

bool flume_segmenter_begin(struct flume_segmenter *segmenter, const uint8_t *run, size_t len) {
  (void)segmenter, (void)run, (void)len;
  return true;
}

size_t flume_segmenter_next(struct flume_segmenter *segmenter, size_t len) {
  (void)segmenter;
  return len;
}

#endif
