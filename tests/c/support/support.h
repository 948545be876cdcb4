/* Fixtures for the tests of logs: a loop with a log, answers to wait for, recognisable payloads, files that fail on
 * demand (struct faults), and images of a log's directory.
 *
 * All functions are static inline, so that a test program is one file. MUST aborts when the test itself is broken. */
#ifndef FLUME_TEST_SUPPORT_H
#define FLUME_TEST_SUPPORT_H

#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "log/file/file_log.h"
#include "test.h"

#define TEST_PATH_MAX 512

#define MUST(cond)                                                   \
  do {                                                               \
    if (!(cond)) {                                                   \
      printf("%s:%d: broken test: %s\n", __FILE__, __LINE__, #cond); \
      abort();                                                       \
    }                                                                \
  } while (0)

/* Ends a program that hangs. A test program begins this time again with each test. */
__attribute__((constructor)) static void limit_time(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  alarm(TEST_SECONDS);
}

/* --- Random numbers and payloads ---------------------------------------------------------------------------------- */

static inline uint64_t random_next(uint64_t *state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

static inline uint32_t random_below(uint64_t *state, uint32_t limit) {
  return (uint32_t)(random_next(state) % limit);
}

/* Key 0 gives zeros. */
static inline void payload_fill(uint8_t *out, size_t len, uint64_t key) {
  uint64_t state = key;
  for (size_t i = 0; i < len; i += 8) {
    uint64_t word = key == 0 ? 0 : random_next(&state);
    memcpy(out + i, &word, len - i < 8 ? len - i : 8);
  }
}

static inline bool payload_is(const uint8_t *data, size_t len, uint64_t key) {
  uint64_t state = key;
  for (size_t i = 0; i < len; i += 8) {
    uint64_t word = key == 0 ? 0 : random_next(&state);
    if (memcmp(data + i, &word, len - i < 8 ? len - i : 8) != 0) return false;
  }
  return true;
}

/* Owned by the caller: free(3). */
static inline uint8_t *payload_new(size_t len, uint64_t key) {
  uint8_t *data = malloc(len > 0 ? len : 1);
  MUST(data != NULL);
  payload_fill(data, len, key);
  return data;
}

/* --- Directories -------------------------------------------------------------------------------------------------- */

static inline void temp_dir(char *path) {
  const char *tmp = getenv("TMPDIR");
  snprintf(path, TEST_PATH_MAX, "%s/flume-test-XXXXXX", tmp != NULL ? tmp : "/tmp");
  MUST(mkdtemp(path) != NULL);
}

static inline void remove_dir(const char *path) {
  MUST(flume_io_remove_all(&flume_io_posix, path) == 0);
}

/* DIR/NAME. Valid for the next three calls. */
static inline const char *path_in(const char *dir, const char *name) {
  static char paths[4][TEST_PATH_MAX * 2];
  static int turn;
  char *path = paths[turn++ & 3];
  snprintf(path, sizeof paths[0], "%s/%s", dir, name);
  return path;
}

static inline bool file_exists(const char *dir, const char *name) {
  return access(path_in(dir, name), F_OK) == 0;
}

/* A copy of a file in memory. */
struct image_file {
  char name[64];
  uint8_t *data;
  size_t len;  /* bytes */
  size_t used; /* bytes before the zeros at the end */
};

struct image {
  struct image_file files[32];
  int count;
};

static inline void image_take_file(struct image *image, const char *dir, const char *name) {
  MUST(image->count < 32);
  struct image_file *file = &image->files[image->count++];
  snprintf(file->name, sizeof file->name, "%s", name);
  int fd = open(path_in(dir, name), O_RDONLY | O_CLOEXEC);
  struct stat st;
  MUST(fd >= 0 && fstat(fd, &st) == 0);
  file->len = (size_t)st.st_size;
  file->data = malloc(file->len + 1);
  MUST(file->data != NULL && read(fd, file->data, file->len) == (ssize_t)file->len);
  close(fd);
  file->used = file->len;
  while (file->used > 0 && file->data[file->used - 1] == 0) file->used--;
}

struct image_listing {
  struct image *image;
  const char *dir;
};

static inline int image_take_entry(void *arg, const char *name) {
  struct image_listing *listing = arg;
  if (strcmp(name, "lock") != 0) image_take_file(listing->image, listing->dir, name);
  return 0;
}

static inline int image_order(const void *a, const void *b) {
  return strcmp(((const struct image_file *)a)->name, ((const struct image_file *)b)->name);
}

/* The files of the directory without the lock, ordered by name. */
static inline void image_take(struct image *image, const char *dir) {
  image->count = 0;
  struct image_listing listing = {image, dir}; /* cppcheck-suppress ctuuninitvar */
  MUST(flume_io_posix.list(NULL, dir, image_take_entry, &listing) == 0);
  qsort(image->files, (size_t)image->count, sizeof image->files[0], image_order);
}

static inline void image_free(struct image *image) {
  for (int i = 0; i < image->count; i++) free(image->files[i].data);
  image->count = 0;
}

/* Writes len bytes, and zeros up to size. Without O_TRUNC: ext4 flushes a truncated file when it is closed. */
static inline void write_file(const char *path, const void *data, size_t len, size_t size) {
  int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  MUST(fd >= 0 && write(fd, data, len) == (ssize_t)len);
  MUST(ftruncate(fd, (off_t)len) == 0 && ftruncate(fd, (off_t)size) == 0);
  close(fd);
}

static inline void image_put_file(const struct image_file *file, const char *dir) {
  write_file(path_in(dir, file->name), file->data, file->used, file->len);
}

static inline int image_remove_stranger(void *arg, const char *name) {
  struct image_listing *listing = arg;
  for (int i = 0; i < listing->image->count; i++) {
    if (strcmp(listing->image->files[i].name, name) == 0) return 0;
  }
  return unlink(path_in(listing->dir, name)) == 0 ? 0 : -1;
}

/* Writes the image to the directory, and removes all other files. */
static inline void image_put(struct image *image, const char *dir) {
  struct image_listing listing = {image, dir};
  MUST(mkdir(dir, 0777) == 0 || errno == EEXIST);
  MUST(flume_io_posix.list(NULL, dir, image_remove_stranger, &listing) == 0);
  for (int i = 0; i < image->count; i++) image_put_file(&image->files[i], dir);
}

/* Whether the files of the image are in the directory, with one byte of one file changed by xor. */
static inline bool image_is(const struct image *image, const char *dir, int changed, size_t off, uint8_t xor) {
  bool same = true;
  for (int i = 0; i < image->count; i++) {
    struct image now = {.count = 0};
    if (!file_exists(dir, image->files[i].name)) return false;
    image_take_file(&now, dir, image->files[i].name);
    if (i == changed && off < now.files[0].len) now.files[0].data[off] ^= xor;
    same &= now.files[0].len == image->files[i].len &&
            memcmp(now.files[0].data, image->files[i].data, now.files[0].len) == 0;
    image_free(&now);
  }
  return same;
}

/* --- Forked processes --------------------------------------------------------------------------------------------- */

#ifdef FLUME_COVERAGE
void __gcov_dump(void);
#endif

/* Ends a forked child without the test's exit functions. Its coverage counts. */
static inline _Noreturn void child_exit(int status) {
#ifdef FLUME_COVERAGE
  __gcov_dump();
#endif
  _exit(status);
}

/* --- Files that fail on demand ------------------------------------------------------------------------------------ */

enum fault_op {
  FAULT_NONE,
  FAULT_ALLOC,
  FAULT_OPEN,
  FAULT_READ,
  FAULT_WRITE,
  FAULT_SYNC,
  FAULT_TRUNCATE,
  FAULT_RENAME,
  FAULT_SYNC_DIR,
  FAULT_LIST,
  FAULT_LOCK,
  FAULT_SIZE,
  FAULT_MKDIR,
  FAULT_UNLINK,
  FAULT_RMDIR,
  FAULT_OPS,
};

static const char *const fault_names[FAULT_OPS] = {"none", "alloc",    "open",   "read",     "write",
                                                   "sync", "truncate", "rename", "sync_dir", "list",
                                                   "lock", "size",     "mkdir",  "unlink",   "rmdir"};

struct faults {
  struct flume_io io;
  enum fault_op op;    /* the operation that fails */
  int nth;             /* the call of it that fails, counted from 1 */
  int code;            /* the error */
  bool forever;        /* all later calls fail, too */
  bool fast;           /* syncs do nothing */
  size_t max_transfer; /* the most bytes of a read or write; 0: no limit */
  bool interrupts;     /* every second read or write fails with EINTR */
  atomic_int calls[FAULT_OPS];
  atomic_int transfers;
  atomic_int files;        /* open now */
  atomic_long allocations; /* live now */
};

static inline int fault(struct faults *faults, enum fault_op op) {
  int call = atomic_fetch_add(&faults->calls[op], 1) + 1;
  bool hit = faults->op == op && (call == faults->nth || (faults->forever && call > faults->nth));
  return hit ? faults->code : 0;
}

static inline bool fault_was_hit(struct faults *faults) {
  return faults->op != FAULT_NONE && atomic_load(&faults->calls[faults->op]) >= faults->nth;
}

static inline void *fault_realloc(void *ctx, void *ptr, size_t size) {
  struct faults *faults = ctx;
  if (size == 0) {
    atomic_fetch_sub(&faults->allocations, 1);
    free(ptr);
    return NULL;
  }
  if (fault(faults, FAULT_ALLOC) != 0) return NULL;
  if (ptr == NULL) atomic_fetch_add(&faults->allocations, 1);
  return realloc(ptr, size);
}

static inline int fault_open(void *ctx, const char *path, int mode) {
  struct faults *faults = ctx;
  int code = fault(faults, FAULT_OPEN);
  if (code != 0) return code;
  int file = flume_io_posix.open(NULL, path, mode);
  if (file >= 0) atomic_fetch_add(&faults->files, 1);
  return file;
}

static inline int fault_close(void *ctx, int file) {
  atomic_fetch_sub(&((struct faults *)ctx)->files, 1);
  return flume_io_posix.close(NULL, file);
}

static inline bool fault_interrupts(struct faults *faults) {
  return faults->interrupts && atomic_fetch_add(&faults->transfers, 1) % 2 == 0;
}

static inline int64_t fault_read(void *ctx, int file, void *data, size_t len, uint64_t off) {
  struct faults *faults = ctx;
  int code = fault(faults, FAULT_READ);
  if (code != 0) return code;
  if (fault_interrupts(faults)) return UV_EINTR;
  if (faults->max_transfer > 0 && len > faults->max_transfer) len = faults->max_transfer;
  return flume_io_posix.read(NULL, file, data, len, off);
}

/* A write that fails leaves its first half in the file. */
static inline int64_t fault_write(void *ctx, int file, const void *data, size_t len, uint64_t off) {
  struct faults *faults = ctx;
  int code = fault(faults, FAULT_WRITE);
  if (code != 0) {
    flume_io_posix.write(NULL, file, data, len / 2, off);
    return code;
  }
  if (fault_interrupts(faults)) return UV_EINTR;
  if (faults->max_transfer > 0 && len > faults->max_transfer) len = faults->max_transfer;
  return flume_io_posix.write(NULL, file, data, len, off);
}

static inline int fault_sync(void *ctx, int file) {
  struct faults *faults = ctx;
  int code = fault(faults, FAULT_SYNC);
  if (code != 0) return code;
  return faults->fast ? 0 : flume_io_posix.sync(NULL, file);
}

static inline int fault_truncate(void *ctx, int file, uint64_t len) {
  int code = fault(ctx, FAULT_TRUNCATE);
  return code != 0 ? code : flume_io_posix.truncate(NULL, file, len);
}

static inline int fault_rename(void *ctx, const char *from, const char *to) {
  int code = fault(ctx, FAULT_RENAME);
  return code != 0 ? code : flume_io_posix.rename(NULL, from, to);
}

static inline int fault_sync_dir(void *ctx, const char *path) {
  struct faults *faults = ctx;
  int code = fault(faults, FAULT_SYNC_DIR);
  if (code != 0) return code;
  return faults->fast ? 0 : flume_io_posix.sync_dir(NULL, path);
}

static inline int fault_list(void *ctx, const char *path, int (*each)(void *arg, const char *name), void *arg) {
  int code = fault(ctx, FAULT_LIST);
  return code != 0 ? code : flume_io_posix.list(NULL, path, each, arg);
}

static inline int fault_lock(void *ctx, int file, char *holder, size_t holder_bytes) {
  int code = fault(ctx, FAULT_LOCK);
  return code != 0 ? code : flume_io_posix.lock(NULL, file, holder, holder_bytes);
}

static inline int64_t fault_size(void *ctx, int file) {
  int code = fault(ctx, FAULT_SIZE);
  return code != 0 ? code : flume_io_posix.size(NULL, file);
}

static inline int fault_mkdir(void *ctx, const char *path) {
  int code = fault(ctx, FAULT_MKDIR);
  return code != 0 ? code : flume_io_posix.mkdir(NULL, path);
}

static inline int fault_unlink(void *ctx, const char *path) {
  int code = fault(ctx, FAULT_UNLINK);
  return code != 0 ? code : flume_io_posix.unlink(NULL, path);
}

static inline int fault_rmdir(void *ctx, const char *path) {
  int code = fault(ctx, FAULT_RMDIR);
  return code != 0 ? code : flume_io_posix.rmdir(NULL, path);
}

static inline void faults_init(struct faults *faults) {
  memset(faults, 0, sizeof *faults);
  faults->fast = true;
  faults->io = flume_io_posix;
  faults->io.ctx = faults;
  faults->io.realloc = fault_realloc;
  faults->io.open = fault_open;
  faults->io.close = fault_close;
  faults->io.read = fault_read;
  faults->io.write = fault_write;
  faults->io.sync = fault_sync;
  faults->io.truncate = fault_truncate;
  faults->io.rename = fault_rename;
  faults->io.sync_dir = fault_sync_dir;
  faults->io.list = fault_list;
  faults->io.lock = fault_lock;
  faults->io.size = fault_size;
  faults->io.mkdir = fault_mkdir;
  faults->io.unlink = fault_unlink;
  faults->io.rmdir = fault_rmdir;
}

/* The nth call of op from now on fails with code. */
static inline void faults_arm(struct faults *faults, enum fault_op op, int nth, int code) {
  for (int i = 0; i < FAULT_OPS; i++) atomic_store(&faults->calls[i], 0);
  faults->op = op;
  faults->nth = nth;
  faults->code = code;
}

/* --- Answers ------------------------------------------------------------------------------------------------------ */

struct answer {
  struct flume_append req;
  int calls;
  int status;
  int64_t seq;
  struct flume_err err;
};

static inline void on_answer(struct flume_append *req, int status, int64_t seq, const struct flume_err *err) {
  struct answer *answer = FLUME_CONTAINER_OF(req, struct answer, req);
  answer->calls++;
  answer->status = status;
  answer->seq = seq;
  CHECK((err != NULL) == (status != 0));
  if (err != NULL) answer->err = *err;
}

static inline void answer_wait(uv_loop_t *loop, struct answer *answer) {
  while (answer->calls == 0) MUST(uv_run(loop, UV_RUN_ONCE) != 0 || answer->calls > 0);
}

/* Runs the loop until nothing is pending. */
static inline void loop_drain(uv_loop_t *loop) {
  uv_run(loop, UV_RUN_DEFAULT);
}

static inline void loop_end(uv_loop_t *loop) {
  loop_drain(loop);
  CHECK_INT_EQ(uv_loop_close(loop), 0);
}

static inline struct flume_slice slice(const void *data, size_t len) {
  return (struct flume_slice){data, len};
}

static inline struct flume_slice slice_text(const char *text) {
  return slice(text, strlen(text));
}

static inline void on_closed(void *data) {
  *(bool *)data = true;
}

static inline void log_close_wait(struct flume_log *log, uv_loop_t *loop) {
  bool closed = false;
  flume_log_close(log, on_closed, &closed);
  while (!closed) uv_run(loop, UV_RUN_ONCE);
}

/* Submits an append and waits on the loop. Returns the status; *seq gets the answer's seq. */
static inline int log_append(struct flume_log *log, uv_loop_t *loop, const struct flume_slice *records, size_t count,
                             int64_t *seq) {
  struct answer answer = {.calls = 0};
  int rv = flume_log_append(log, &answer.req, records, count, on_answer, NULL);
  if (rv != 0) return rv;
  CHECK_INT_EQ(answer.calls, 0);
  answer_wait(loop, &answer);
  CHECK_INT_EQ(answer.calls, 1);
  *seq = answer.seq;
  return answer.status;
}

static inline int log_del(struct flume_log *log, uv_loop_t *loop, const int64_t *seqs, size_t count) {
  struct answer answer = {.calls = 0};
  int rv = flume_log_del(log, &answer.req, seqs, count, on_answer, NULL);
  if (rv != 0) return rv;
  CHECK_INT_EQ(answer.calls, 0);
  answer_wait(loop, &answer);
  return answer.status;
}

static inline int log_sync(struct flume_log *log, uv_loop_t *loop) {
  struct answer answer = {.calls = 0};
  int rv = flume_log_sync(log, &answer.req, on_answer, NULL);
  if (rv != 0) return rv;
  CHECK_INT_EQ(answer.calls, 0);
  answer_wait(loop, &answer);
  return answer.status;
}

#endif
