#include "base/path.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

int flume_path_append(char *path, size_t size, const char *base, const char *suffix) {
  size_t base_len = strlen(base), suffix_len = strlen(suffix);
  if (base_len + suffix_len >= size) return UV_ENAMETOOLONG;
  memcpy(path, base, base_len + 1);
  memcpy(path + base_len, suffix, suffix_len + 1);
  return 0;
}

int flume_path_join(char *path, size_t size, const char *dir, const char *name) {
  return flume_path_format(path, size, dir, "%s", name);
}

int flume_path_format(char *path, size_t size, const char *dir, const char *fmt, ...) {
  int rv = flume_path_append(path, size, dir, "/");
  if (rv != 0) return rv;
  size_t used = strlen(path);
  va_list args;
  va_start(args, fmt);
  int len = vsnprintf(path + used, size - used, fmt, args);
  va_end(args);
  return len >= 0 && (size_t)len < size - used ? 0 : UV_ENAMETOOLONG;
}

int flume_path_absolute(char *out, size_t size, const char *path) {
  char dir[FLUME_PATH_MAX];
  size_t len = sizeof dir;
  if (path[0] == '/' || uv_cwd(dir, &len) != 0) return flume_path_append(out, size, path, "");
  return flume_path_join(out, size, strcmp(dir, "/") == 0 ? "" : dir, path);
}
