#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *flume_strerror(int code) {
  switch (code) {
#define FLUME_ERRNO_CASE(name, value, text, meaning) \
  case value: return meaning;
    FLUME_ERRNO_MAP(FLUME_ERRNO_CASE)
#undef FLUME_ERRNO_CASE
    case 0: return "no error";
    default: return uv_strerror(code);
  }
}

const char *flume_err_name(int code) {
  switch (code) {
#define FLUME_ERRNO_CASE(name, value, text, meaning) \
  case value: return text;
    FLUME_ERRNO_MAP(FLUME_ERRNO_CASE)
#undef FLUME_ERRNO_CASE
#define FLUME_UV_CASE(name, meaning) \
  case UV_##name: return #name;
    UV_ERRNO_MAP(FLUME_UV_CASE)
#undef FLUME_UV_CASE
    default: return "UNKNOWN";
  }
}

int flume_err_set(struct flume_err *err, int code, const char *fmt, ...) {
  if (err != NULL) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->msg, sizeof err->msg, fmt, args);
    va_end(args);
    err->code = code;
  }
  return code;
}

int flume_err_nomem(struct flume_err *err) {
  return flume_err_set(err, FLUME_ENOMEM, "out of memory");
}

void flume_err_wrap(struct flume_err *err, const char *fmt, ...) {
  if (err == NULL) return;
  char inner[sizeof err->msg];
  memcpy(inner, err->msg, sizeof inner);
  va_list args;
  va_start(args, fmt);
  int len = vsnprintf(err->msg, sizeof err->msg, fmt, args);
  va_end(args);
  if (len >= 0 && (size_t)len < sizeof err->msg) {
    snprintf(err->msg + len, sizeof err->msg - (size_t)len, ": %s", inner);
  }
}
