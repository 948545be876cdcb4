/* The directory of a view's versions, on the real file system. */
#include "view/view_dir.h"

#include "support.h"

static const struct flume_io *io = &flume_io_posix;

static uint32_t active_of(const char *path) {
  uint32_t number = 99;
  struct flume_err err;
  MUST(flume_view_dir_active(io, path, &number, &err) == 0);
  return number;
}

static void make_version(const char *path, const char *name) {
  char whole[TEST_PATH_MAX + 32];
  snprintf(whole, sizeof whole, "%s/%s", path, name);
  MUST(flume_io_mkdir_all(io, whole) == 0);
  struct flume_err err;
  MUST(flume_view_dir_write(io, whole, "data.mdb", "x", 1, &err) == 0);
}

static size_t count_versions(const char *path) {
  struct flume_buf numbers;
  struct flume_err err;
  flume_buf_init(&numbers, io);
  MUST(flume_view_dir_list(io, path, &numbers, &err) == 0);
  size_t count = numbers.len / sizeof(uint32_t);
  flume_buf_fini(&numbers);
  return count;
}

TEST(a_missing_folder_is_no_error) {
  char dir[TEST_PATH_MAX];
  temp_dir(dir);
  char path[TEST_PATH_MAX + 16];
  snprintf(path, sizeof path, "%s/views/none", dir);
  struct flume_err err;
  CHECK_INT_EQ(active_of(path), FLUME_VIEW_DIR_NONE);
  CHECK_INT_EQ(count_versions(path), 0);
  CHECK_INT_EQ(flume_view_dir_remove(io, path, 7, &err), 0);
  CHECK_INT_EQ(flume_view_dir_sweep(io, path, NULL, 0, &err), 0);
  remove_dir(dir);
}

TEST(one_version_is_active_at_a_time) {
  char dir[TEST_PATH_MAX];
  temp_dir(dir);
  struct flume_err err;
  make_version(dir, "1");
  make_version(dir, "2");
  CHECK_INT_EQ(flume_view_dir_activate(io, dir, 1, &err), 0);
  CHECK_INT_EQ(active_of(dir), 1);
  CHECK_INT_EQ(flume_view_dir_activate(io, dir, 2, &err), 0);
  CHECK_INT_EQ(active_of(dir), 2);
  CHECK_INT_EQ(flume_view_dir_remove(io, dir, 1, &err), 0);
  CHECK_INT_EQ(count_versions(dir), 1);
  remove_dir(dir);
}

TEST(sweeping_keeps_valid_versions_and_their_files) {
  char dir[TEST_PATH_MAX];
  temp_dir(dir);
  struct flume_err err;
  make_version(dir, "1");
  make_version(dir, "2");
  make_version(dir, "4294967295");
  make_version(dir, "01");
  make_version(dir, "tmp");
  MUST(flume_view_dir_write(io, dir, "active.new", "1\n", 2, &err) == 0);
  MUST(flume_view_dir_write(io, dir, "skipped", "5\n", 2, &err) == 0);
  MUST(flume_view_dir_activate(io, dir, 2, &err) == 0);
  CHECK_INT_EQ(count_versions(dir), 3);
  uint32_t keep[] = {2, 9};
  CHECK_INT_EQ(flume_view_dir_sweep(io, dir, keep, 2, &err), 0);
  CHECK_INT_EQ(count_versions(dir), 1);
  CHECK_INT_EQ(active_of(dir), 2);
  struct flume_buf text;
  flume_buf_init(&text, io);
  CHECK_INT_EQ(flume_view_dir_read(io, dir, "skipped", &text, &err), 0);
  CHECK_INT_EQ(text.len, 2);
  CHECK_INT_EQ(flume_view_dir_read(io, dir, "tmp/data.mdb", &text, &err), 0);
  CHECK_INT_EQ(flume_view_dir_read(io, dir, "active.new", &text, &err), 0);
  CHECK_INT_EQ(text.len, 2);
  flume_buf_fini(&text);
  remove_dir(dir);
}

TEST(folders_without_a_number_are_no_versions) {
  static const char *const texts[] = {"", "1", "0\n", "-1\n", "1x\n", "4294967296\n", "1\n\n", "99999999999\n", "\0\n"};
  char dir[TEST_PATH_MAX];
  temp_dir(dir);
  struct flume_err err;
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    MUST(flume_view_dir_write(io, dir, "active", texts[i], strlen(texts[i]), &err) == 0);
    CHECK_INT_EQ(active_of(dir), FLUME_VIEW_DIR_NONE);
  }
  remove_dir(dir);
}

TEST(a_path_that_is_too_long_is_reported) {
  char path[5000];
  struct flume_err err = {0};
  uint32_t number;
  memset(path, 'a', sizeof path);
  path[sizeof path - 1] = '\0';
  CHECK_INT_EQ(flume_view_dir_active(io, path, &number, &err), UV_ENAMETOOLONG);
  CHECK(strstr(err.msg, "too long") != NULL);
}
