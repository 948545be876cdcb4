/* The small things below the log: error texts, checksums, and the door to the real files. */
#include "base/crc32c.h"
#include "base/err.h"

#include "support.h"

/* --- Errors ---------------------------------------------------------------------------------------------------- */

TEST(each_code_has_a_name_and_a_meaning) {
#define OWN(name, value, text, meaning)                \
  CHECK_STR_EQ(flume_err_name(value), text);           \
  CHECK_STR_EQ(flume_strerror(value), meaning);
  FLUME_ERRNO_MAP(OWN)
#undef OWN
#define LIBUVS(name, meaning)                          \
  CHECK_STR_EQ(flume_err_name(UV_##name), #name);      \
  CHECK_STR_EQ(flume_strerror(UV_##name), meaning);
  UV_ERRNO_MAP(LIBUVS) /* cppcheck-suppress unknownMacro */
#undef LIBUVS
  CHECK_STR_EQ(flume_err_name(-77777), "UNKNOWN");
  CHECK_STR_EQ(flume_strerror(0), "no error");
}

TEST(error_texts) {
  struct flume_err err;
  CHECK_INT_EQ(flume_err_set(&err, FLUME_EINVAL, "no %d", 7), FLUME_EINVAL);
  CHECK_STR_EQ(err.msg, "no 7");
  flume_err_wrap(&err, "opening %s", "x");
  CHECK_STR_EQ(err.msg, "opening x: no 7");
  CHECK_INT_EQ(flume_err_set(NULL, FLUME_EINVAL, "nobody listens"), FLUME_EINVAL);
  CHECK_INT_EQ(flume_err_nomem(NULL), FLUME_ENOMEM);
  flume_err_wrap(NULL, "nobody");
  char longest[sizeof err.msg];
  memset(longest, 'x', sizeof longest);
  longest[sizeof longest - 1] = '\0';
  flume_err_wrap(&err, "%s%s", longest, longest);
  CHECK_INT_EQ(strlen(err.msg), sizeof err.msg - 1);
}

/* --- Checksums ------------------------------------------------------------------------------------------------- */

/* The processor's instruction and the table say the same, for all lengths and alignments. */
TEST(checksums_by_instruction_and_by_table) {
  uint8_t *data = payload_new(5000, 3);
  CHECK_INT_EQ(flume_crc32c(0, "123456789", 9), 0xe3069283u);
  CHECK_INT_EQ(flume_crc32c_table(0, "123456789", 9), 0xe3069283u);
  for (size_t len = 0; len < 4900; len += 1 + len / 7) {
    for (size_t at = 0; at < 9; at++) {
      CHECK_INT_EQ(flume_crc32c(77, data + at, len), flume_crc32c_table(77, data + at, len));
    }
  }
  free(data);
}

/* --- Directories ----------------------------------------------------------------------------------------------- */

static const struct flume_io *io = &flume_io_posix;

TEST(directories_are_made_and_removed_with_all_in_them) {
  char root[TEST_PATH_MAX], path[TEST_PATH_MAX + 64];
  temp_dir(root);
  snprintf(path, sizeof path, "%s/a/b//c/", root);
  CHECK_INT_EQ(flume_io_mkdir_all(io, path), 0);
  CHECK_INT_EQ(flume_io_mkdir_all(io, path), 0);
  CHECK(file_exists(root, "a/b/c"));
  write_file(path_in(root, "a/b/c/file"), "x", 1, 1);
  snprintf(path, sizeof path, "%s/a/b/c/file/d", root);
  CHECK_INT_EQ(flume_io_mkdir_all(io, path), UV_ENOTDIR);
  CHECK_INT_EQ(flume_io_remove_all(io, path_in(root, "a")), 0);
  CHECK(!file_exists(root, "a"));
  CHECK_INT_EQ(flume_io_remove_all(io, path_in(root, "a")), 0);
  write_file(path_in(root, "file"), "x", 1, 1);
  CHECK_INT_EQ(flume_io_remove_all(io, path_in(root, "file")), UV_ENOTDIR);
  remove_dir(root);
}

/* Relative to where the process is. */
TEST(directories_without_a_slash) {
  char root[TEST_PATH_MAX], here[TEST_PATH_MAX];
  temp_dir(root);
  MUST(getcwd(here, sizeof here) != NULL && chdir(root) == 0);
  CHECK_INT_EQ(flume_io_mkdir_all(io, "a"), 0);
  CHECK_INT_EQ(flume_io_mkdir_all(io, "b/c"), 0);
  CHECK_INT_EQ(flume_io_sync_name(io, "b"), 0);
  CHECK_INT_EQ(flume_io_sync_name(io, "b/"), 0);
  CHECK(file_exists(root, "a") && file_exists(root, "b/c"));
  MUST(chdir(here) == 0);
  remove_dir(root);
}

TEST(paths_that_are_too_long) {
  char *path = malloc(6000);
  MUST(path != NULL);
  memset(path, 'x', 5999);
  path[5999] = '\0';
  CHECK_INT_EQ(flume_io_mkdir_all(io, path), UV_ENAMETOOLONG);
  CHECK_INT_EQ(flume_io_mkdir_all(io, ""), UV_ENAMETOOLONG);
  CHECK_INT_EQ(flume_io_sync_name(io, path), UV_ENAMETOOLONG);
  struct flume_log *log;
  struct flume_err err;
  uv_loop_t loop;
  MUST(uv_loop_init(&loop) == 0);
  CHECK_INT_EQ(flume_log_open(&log, &loop, path, NULL, &err), UV_ENAMETOOLONG);
  loop_end(&loop);
  free(path);
}

/* --- The real files -------------------------------------------------------------------------------------------- */

TEST(missing_files) {
  char root[TEST_PATH_MAX];
  char holder[64];
  temp_dir(root);
  const char *none = path_in(root, "none/none");
  CHECK_INT_EQ(io->open(NULL, none, FLUME_IO_READ), UV_ENOENT);
  CHECK_INT_EQ(io->rename(NULL, none, root), UV_ENOENT);
  CHECK_INT_EQ(io->unlink(NULL, none), UV_ENOENT);
  CHECK_INT_EQ(io->mkdir(NULL, none), UV_ENOENT);
  CHECK_INT_EQ(io->rmdir(NULL, none), UV_ENOENT);
  CHECK_INT_EQ(io->sync_dir(NULL, none), UV_ENOENT);
  CHECK_INT_EQ(io->list(NULL, none, NULL, NULL), UV_ENOENT);
  CHECK_INT_EQ(io->close(NULL, -1), UV_EBADF);
  CHECK_INT_EQ(io->read(NULL, -1, root, 1, 0), UV_EBADF);
  CHECK_INT_EQ(io->write(NULL, -1, root, 1, 0), UV_EBADF);
  CHECK_INT_EQ(io->sync(NULL, -1), UV_EBADF);
  CHECK_INT_EQ(io->truncate(NULL, -1, 0), UV_EBADF);
  CHECK_INT_EQ(io->size(NULL, -1), UV_EBADF);
  CHECK_INT_EQ(io->lock(NULL, -1, holder, sizeof holder), UV_EBADF);
  CHECK_INT_EQ(io->locked(NULL, -1), UV_EBADF);
  CHECK_INT_EQ(io->is_at(NULL, -1, root), UV_EBADF);
  CHECK_INT_EQ(io->has_events(NULL, none), UV_ENOENT);
  remove_dir(root);
}

/* Directories of the system that have no fsync, and a device that is always full. */
TEST(operations_that_the_system_refuses) {
  char holder[64];
  CHECK_INT_EQ(io->sync_dir(NULL, "/proc/self"), UV_EINVAL);
  int full = io->open(NULL, "/dev/full", FLUME_IO_WRITE);
  if (full < 0) SKIP("there is no /dev/full");
  CHECK_INT_EQ(io->lock(NULL, full, holder, sizeof holder), UV_ENOSPC);
  CHECK_INT_EQ(io->close(NULL, full), 0);
}

TEST(a_file_is_at_its_path_until_it_is_replaced) {
  char root[TEST_PATH_MAX], path[TEST_PATH_MAX + 16], other[TEST_PATH_MAX + 16];
  temp_dir(root);
  snprintf(path, sizeof path, "%s/file", root);
  snprintf(other, sizeof other, "%s/other", root);
  write_file(path, "x", 1, 1);
  write_file(other, "y", 1, 1);
  int file = io->open(NULL, path, FLUME_IO_READ);
  CHECK_INT_EQ(io->is_at(NULL, file, path), 1);
  CHECK_INT_EQ(io->is_at(NULL, file, other), 0);
  CHECK_INT_EQ(io->rename(NULL, other, path), 0);
  CHECK_INT_EQ(io->is_at(NULL, file, path), 0);
  CHECK_INT_EQ(io->unlink(NULL, path), 0);
  CHECK_INT_EQ(io->is_at(NULL, file, path), UV_ENOENT);
  CHECK_INT_EQ(io->close(NULL, file), 0);
  remove_dir(root);
}

/* Who has the lock is what the file says of him; one who has not said yet is another process. */
TEST(a_lock_names_its_owner) {
  static const struct {
    const char *text, *holder;
  } cases[] = {{"", "another process"},
               {"nonsense\n", "another process"},
               {"-4 0\n", "another process"},
               {"4194304 0\n", "a process that 4194304, which is gone, has left behind"}, /* more than there can be */
               {"4194304 1\n", "process 4194304 of another container"},
               {"1 0\n", "process 1"}};
  char root[TEST_PATH_MAX], path[TEST_PATH_MAX + 16], holder[128];
  temp_dir(root);
  snprintf(path, sizeof path, "%s/lock", root);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    write_file(path, cases[i].text, strlen(cases[i].text), strlen(cases[i].text));
    int first = open(path, O_RDWR | O_CLOEXEC), second = io->open(NULL, path, FLUME_IO_WRITE);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    MUST(first >= 0 && second >= 0);
    CHECK_INT_EQ(io->locked(NULL, second), 0);
    MUST(fcntl(first, F_OFD_SETLK, &lock) == 0);
    CHECK_INT_EQ(io->locked(NULL, second), 1);
    CHECK_INT_EQ(io->lock(NULL, second, holder, sizeof holder), UV_EAGAIN);
    CHECK_STR_EQ(holder, cases[i].holder);
    close(first);
    CHECK_INT_EQ(io->lock(NULL, second, holder, sizeof holder), 0);
    CHECK_INT_EQ(io->close(NULL, second), 0);
  }
  remove_dir(root);
}

static int stop_at_second(void *arg, const char *name) {
  (void)name;
  return ++*(int *)arg == 2 ? 42 : 0;
}

TEST(a_listing_ends_when_its_callback_stops_it) {
  char root[TEST_PATH_MAX];
  int calls = 0;
  temp_dir(root);
  for (int i = 0; i < 4; i++) write_file(path_in(root, (const char *[]){"a", "b", "c", "d"}[i]), "", 0, 0);
  CHECK_INT_EQ(io->list(NULL, root, stop_at_second, &calls), 42);
  CHECK_INT_EQ(calls, 2);
  remove_dir(root);
}

TEST(copies_of_files) {
  char root[TEST_PATH_MAX], from[TEST_PATH_MAX + 16], to[TEST_PATH_MAX + 16];
  temp_dir(root);
  snprintf(from, sizeof from, "%s/from", root);
  snprintf(to, sizeof to, "%s/to", root);
  write_file(from, "hello", 5, 5);
  CHECK_INT_EQ(flume_io_copy(io, from, to, 6), FLUME_ECORRUPT);
  CHECK_INT_EQ(flume_io_copy(io, from, to, 5), UV_EEXIST);
  CHECK_INT_EQ(unlink(to), 0);
  CHECK_INT_EQ(flume_io_copy(io, from, to, 4), 0);
  struct image image = {.count = 0};
  image_take_file(&image, root, "to");
  CHECK(image.files[0].len == 4 && memcmp(image.files[0].data, "hell", 4) == 0);
  image_free(&image);
  CHECK_INT_EQ(flume_io_copy(io, path_in(root, "none"), to, 4), UV_ENOENT);
  remove_dir(root);
}

/* --- Limits of a log ------------------------------------------------------------------------------------------- */

TEST(batches_that_are_too_large) {
  uv_loop_t loop;
  struct flume_log *log;
  struct flume_err err;
  struct flume_log_options options = {.max_record_bytes = 1u << 30};
  int64_t seq = -1;
  MUST(uv_loop_init(&loop) == 0 && flume_log_open_memory(&log, &loop, &options, &err) == 0);
  struct flume_slice records[3];
  for (int i = 0; i < 3; i++) records[i] = slice(&err, (size_t)1 << 30); /* refused before a byte is looked at */
  CHECK_INT_EQ(flume_log_append_wait(log, records, 3, &seq, &err), FLUME_E2BIG);
  CHECK(strstr(err.msg, "the batch has 3 records") != NULL);
  records[0].len = ((size_t)1 << 30) + 1;
  CHECK_INT_EQ(flume_log_append_wait(log, records, 1, &seq, &err), FLUME_E2BIG);
  CHECK(strstr(err.msg, "the limit is 1073741824") != NULL);
  CHECK_INT_EQ(flume_log_append_wait(log, records, 0, &seq, &err), FLUME_EINVAL);
  CHECK_INT_EQ(seq, -1);
  log_close_wait(log, &loop);
  loop_end(&loop);
}

TEST(invalid_options) {
  uv_loop_t loop;
  struct flume_log *log;
  struct flume_err err;
  char root[TEST_PATH_MAX];
  temp_dir(root);
  MUST(uv_loop_init(&loop) == 0);
  struct flume_log_options options = {.sync = (enum flume_sync)9};
  CHECK_INT_EQ(flume_log_open(&log, &loop, root, &options, &err), FLUME_EINVAL);
  const struct {
    struct flume_log_options options;
    const char *why;
  } beyond[] = {
      {{.max_record_bytes = (1u << 30) + 1}, "max_record_bytes must be between 1 and 1073741824, not 1073741825"},
      {{.segment_bytes = UINT64_MAX}, "segment_bytes must be between 1 and 2147483648, not 18446744073709551615"},
      {{.interval_ms = 86400001}, "interval_ms must be between 1 and 86400000, not 86400001"},
      {{.readonly = true, .poll_ms = UINT32_MAX}, "poll_ms must be between 1 and 86400000, not 4294967295"},
  };
  for (size_t i = 0; i < sizeof beyond / sizeof *beyond; i++) {
    CHECK_INT_EQ(flume_log_open(&log, &loop, root, &beyond[i].options, &err), FLUME_EINVAL);
    CHECK(strcmp(err.msg, beyond[i].why) == 0);
    CHECK_INT_EQ(flume_log_open_memory(&log, &loop, &beyond[i].options, &err), FLUME_EINVAL);
  }
  options = (struct flume_log_options){.segment_bytes = (uint64_t)2 << 30, .max_record_bytes = 1u << 30};
  CHECK_INT_EQ(flume_log_open(&log, &loop, root, &options, &err), 0);
  log_close_wait(log, &loop);
  CHECK_INT_EQ(flume_log_open(&log, &loop, root, NULL, NULL), 0);
  log_close_wait(log, &loop);
  loop_end(&loop);
  remove_dir(root);
}
