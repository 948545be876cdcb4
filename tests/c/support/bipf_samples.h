/* BIPF values that are made by hand, for tests: a tag, then the bytes. */
#ifndef FLUME_TEST_BIPF_MADE_H
#define FLUME_TEST_BIPF_MADE_H

#include "support.h"

#define BIPF_BYTES_MAX 2048

enum bipf_tag { BIPF_STRING, BIPF_BUFFER, BIPF_INT, BIPF_DOUBLE, BIPF_ARRAY, BIPF_OBJECT, BIPF_BOOL, BIPF_NO_TYPE };

struct bipf {
  uint8_t data[BIPF_BYTES_MAX];
  size_t len;
};

static inline void bipf_put(struct bipf *bipf, const void *data, size_t len) {
  MUST(bipf->len + len <= sizeof bipf->data);
  if (len > 0) memcpy(bipf->data + bipf->len, data, len);
  bipf->len += len;
}

static inline void bipf_put_tag(struct bipf *bipf, enum bipf_tag tag, size_t len) {
  for (uint64_t rest = (uint64_t)len << 3 | tag;; rest >>= 7) {
    uint8_t byte = (uint8_t)(rest < 0x80 ? rest : rest | 0x80);
    bipf_put(bipf, &byte, 1);
    if (rest < 0x80) return;
  }
}

static inline void bipf_put_value(struct bipf *bipf, enum bipf_tag tag, const void *data, size_t len) {
  bipf_put_tag(bipf, tag, len);
  bipf_put(bipf, data, len);
}

static inline void bipf_put_text(struct bipf *bipf, const char *text) {
  bipf_put_value(bipf, BIPF_STRING, text, strlen(text));
}

static inline void bipf_put_int(struct bipf *bipf, int32_t number) {
  uint8_t bytes[4];
  for (int i = 0; i < 4; i++) bytes[i] = (uint8_t)((uint32_t)number >> (8 * i));
  bipf_put_value(bipf, BIPF_INT, bytes, sizeof bytes);
}

static inline void bipf_put_double(struct bipf *bipf, double number) {
  uint64_t bits;
  uint8_t bytes[8];
  memcpy(&bits, &number, sizeof bits);
  for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(bits >> (8 * i));
  bipf_put_value(bipf, BIPF_DOUBLE, bytes, sizeof bytes);
}

/* Appends an array or object that contains the values in inside. */
static inline void bipf_put_container(struct bipf *bipf, enum bipf_tag tag, const struct bipf *inside) {
  bipf_put_value(bipf, tag, inside->data, inside->len);
}

#endif
