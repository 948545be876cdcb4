#include "view/view_dir.h"

#include <stdio.h>
#include <string.h>

#define PATH_BYTES 4096
#define ACTIVE "active"
#define REPLACE_TRIES 10

static const char *const files[] = {ACTIVE, "skipped", "accepted", "failed", "indexes"};

static int join(char *out, const char *path, const char *name, const char *suffix, struct flume_err *err) {
  int len = snprintf(out, PATH_BYTES, "%s/%s%s", path, name, suffix);
  if (len > 0 && len < PATH_BYTES) return 0;
  return flume_err_set(err, UV_ENAMETOOLONG, "the path of a view's %s is too long", name);
}

static int fail(struct flume_err *err, int rv, const char *doing, const char *path) {
  return flume_err_set(err, rv, "%s %s: %s", doing, path, flume_strerror(rv));
}

/* --- Small files ----------------------------------------------------------------------------------------------- */

static int read_file(const struct flume_io *io, int file, struct flume_buf *text) {
  int64_t size = io->size(io->ctx, file);
  if (size < 0) return (int)size;
  int rv = flume_buf_reserve(text, (size_t)size);
  if (rv == 0) rv = flume_io_read_full(io, file, text->data + text->len, (size_t)size, 0);
  if (rv == 0) text->len += (size_t)size;
  return rv;
}

int flume_view_dir_read(const struct flume_io *io, const char *path, const char *name, struct flume_buf *text,
                        struct flume_err *err) {
  char from[PATH_BYTES];
  int rv = join(from, path, name, "", err);
  if (rv != 0) return rv;
  int file = io->open(io->ctx, from, FLUME_IO_READ);
  if (file == UV_ENOENT) return 0;
  if (file < 0) return fail(err, file, "opening", from);
  rv = read_file(io, file, text);
  io->close(io->ctx, file);
  return rv == 0 ? 0 : fail(err, rv, "reading", from);
}

static int write_new(const struct flume_io *io, const char *path, const void *text, size_t len) {
  int file = io->open(io->ctx, path, FLUME_IO_WRITE | FLUME_IO_CREATE);
  if (file < 0) return file;
  int rv = io->truncate(io->ctx, file, 0);
  if (rv == 0 && len > 0) rv = flume_io_write_full(io, file, text, len, 0);
  if (rv == 0) rv = io->sync(io->ctx, file);
  int closed = io->close(io->ctx, file);
  return rv != 0 ? rv : closed;
}

/* UV_ENOENT: a sweep on a different thread removed the new file as a leftover of a crash. */
static int replace(const struct flume_io *io, const char *from, const char *to, const void *text, size_t len) {
  int rv = write_new(io, from, text, len);
  return rv == 0 ? io->rename(io->ctx, from, to) : rv;
}

int flume_view_dir_write(const struct flume_io *io, const char *path, const char *name, const void *text, size_t len,
                         struct flume_err *err) {
  char to[PATH_BYTES], from[PATH_BYTES];
  int rv = join(to, path, name, "", err);
  if (rv == 0) rv = join(from, path, name, ".new", err);
  if (rv != 0) return rv;
  rv = flume_io_mkdir_all(io, path);
  if (rv == 0) rv = flume_io_sync_name(io, path); /* the directory may exist while its name is not durable: see io.c */
  if (rv != 0) return fail(err, rv, "creating", path);
  rv = replace(io, from, to, text, len);
  for (int tries = 1; rv == UV_ENOENT && tries < REPLACE_TRIES; tries++) rv = replace(io, from, to, text, len);
  if (rv == 0) rv = io->sync_dir(io->ctx, path);
  return rv == 0 ? 0 : fail(err, rv, "writing", to);
}

/* --- Versions -------------------------------------------------------------------------------------------------- */

/* Parses a text of len bytes as a number; FLUME_VIEW_DIR_NONE: it is none. */
static uint32_t parse_number(const char *text, size_t len) {
  uint64_t number = 0;
  if (len == 0 || len > 10 || text[0] == '0') return FLUME_VIEW_DIR_NONE;
  for (size_t i = 0; i < len; i++) {
    if (text[i] < '0' || text[i] > '9') return FLUME_VIEW_DIR_NONE;
    number = number * 10 + (uint64_t)(text[i] - '0');
  }
  return number <= UINT32_MAX ? (uint32_t)number : FLUME_VIEW_DIR_NONE;
}

int flume_view_dir_active(const struct flume_io *io, const char *path, uint32_t *number, struct flume_err *err) {
  struct flume_buf text;
  flume_buf_init(&text, io);
  int rv = flume_view_dir_read(io, path, ACTIVE, &text, err);
  if (rv == 0) {
    size_t len = text.len > 0 && text.data[text.len - 1] == '\n' ? text.len - 1 : 0;
    *number = parse_number((const char *)text.data, len);
  }
  flume_buf_fini(&text);
  return rv;
}

int flume_view_dir_activate(const struct flume_io *io, const char *path, uint32_t number, struct flume_err *err) {
  char text[16];
  int len = snprintf(text, sizeof text, "%u\n", (unsigned)number);
  return flume_view_dir_write(io, path, ACTIVE, text, (size_t)len, err);
}

int flume_view_dir_number(const struct flume_io *io, const char *path, uint32_t number, struct flume_err *err) {
  char name[16], from[PATH_BYTES], to[PATH_BYTES];
  snprintf(name, sizeof name, "%u", (unsigned)number);
  int rv = join(from, path, FLUME_VIEW_DIR_NEW, "", err);
  if (rv == 0) rv = join(to, path, name, "", err);
  if (rv != 0) return rv;
  rv = io->rename(io->ctx, from, to);
  if (rv == 0) rv = io->sync_dir(io->ctx, path);
  return rv == 0 ? 0 : fail(err, rv, "renaming", from);
}

static int add_number(void *arg, const char *name) {
  uint32_t number = parse_number(name, strlen(name));
  return number == FLUME_VIEW_DIR_NONE ? 0 : flume_buf_append(arg, &number, sizeof number);
}

int flume_view_dir_list(const struct flume_io *io, const char *path, struct flume_buf *numbers, struct flume_err *err) {
  int rv = io->list(io->ctx, path, add_number, numbers);
  return rv == 0 || rv == UV_ENOENT ? 0 : fail(err, rv, "listing", path);
}

static int remove_path(const struct flume_io *io, const char *path) {
  int rv = io->unlink(io->ctx, path);
  if (rv == UV_EISDIR || rv == UV_EPERM) rv = flume_io_remove_all(io, path);
  return rv == UV_ENOENT ? 0 : rv;
}

int flume_view_dir_remove(const struct flume_io *io, const char *path, uint32_t number, struct flume_err *err) {
  char name[16], whole[PATH_BYTES];
  snprintf(name, sizeof name, "%u", (unsigned)number);
  int rv = join(whole, path, name, "", err);
  if (rv != 0) return rv;
  rv = remove_path(io, whole);
  return rv == 0 ? 0 : fail(err, rv, "removing", whole);
}

struct sweep {
  const uint32_t *keep;
  size_t count;
  struct flume_buf *names; /* names to remove, each with its terminating zero */
};

static bool is_kept(const struct sweep *sweep, const char *name) {
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    if (strcmp(name, files[i]) == 0) return true;
  }
  uint32_t number = parse_number(name, strlen(name));
  for (size_t i = 0; i < sweep->count; i++) {
    if (number != FLUME_VIEW_DIR_NONE && number == sweep->keep[i]) return true;
  }
  return false;
}

static int note_name(void *arg, const char *name) {
  struct sweep *sweep = arg;
  return is_kept(sweep, name) ? 0 : flume_buf_append(sweep->names, name, strlen(name) + 1);
}

int flume_view_dir_sweep(const struct flume_io *io, const char *path, const uint32_t *keep, size_t count,
                         struct flume_err *err) {
  struct flume_buf names;
  char whole[PATH_BYTES];
  flume_buf_init(&names, io);
  struct sweep sweep = {.keep = keep, .count = count, .names = &names};
  int rv = io->list(io->ctx, path, note_name, &sweep);
  if (rv == UV_ENOENT) rv = 0;
  if (rv != 0) fail(err, rv, "listing", path);
  if (rv == 0 &&
      names.len >
          0) { /* `active` may be in the cache alone: it must be durable before the previous version is removed */
    rv = io->sync_dir(io->ctx, path);
    if (rv != 0) fail(err, rv, "syncing", path);
  }
  for (size_t off = 0; rv == 0 && off < names.len; off += strlen((char *)names.data + off) + 1) {
    rv = join(whole, path, (char *)names.data + off, "", err);
    if (rv != 0) break;
    rv = remove_path(io, whole);
    if (rv != 0) fail(err, rv, "removing", whole);
  }
  flume_buf_fini(&names);
  return rv;
}

int flume_view_dir_remove_all(const struct flume_io *io, const char *path, struct flume_err *err) {
  int rv = flume_io_remove_all(io, path);
  if (rv == 0) rv = flume_io_sync_name(io, path);
  if (rv == UV_ENOENT) rv = 0; /* nor its folder */
  return rv == 0 ? 0 : flume_err_set(err, rv, "removing %s: %s", path, flume_strerror(rv));
}
