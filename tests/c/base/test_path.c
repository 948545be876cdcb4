/* Joining paths: what fits, and what does not by one byte. */
#include "base/path.h"

#include <uv.h>

#include "test.h"

TEST(dir_and_name_are_joined) {
  char path[16];
  CHECK_INT_EQ(flume_path_join(path, sizeof path, "a/b", "c"), 0);
  CHECK_STR_EQ(path, "a/b/c");
  CHECK_INT_EQ(flume_path_join(path, sizeof path, "", "c"), 0);
  CHECK_STR_EQ(path, "/c");
}

TEST(a_path_must_fit_with_its_zero) {
  char path[16];
  CHECK_INT_EQ(flume_path_join(path, 6, "a/b", "c"), 0);
  CHECK_STR_EQ(path, "a/b/c");
  CHECK_INT_EQ(flume_path_join(path, 5, "a/b", "c"), UV_ENAMETOOLONG);
  CHECK_INT_EQ(flume_path_join(path, 4, "a/b", "c"), UV_ENAMETOOLONG);
  CHECK_INT_EQ(flume_path_join(path, 1, "a/b", "c"), UV_ENAMETOOLONG);
}

/* A percent sign in a directory or a name is no format. */
TEST(names_are_taken_as_they_are) {
  char path[32];
  CHECK_INT_EQ(flume_path_join(path, sizeof path, "100%d", "%s"), 0);
  CHECK_STR_EQ(path, "100%d/%s");
}

TEST(names_can_be_made_by_a_format) {
  char path[32];
  CHECK_INT_EQ(flume_path_format(path, sizeof path, "log", "%04d.flume", 42), 0);
  CHECK_STR_EQ(path, "log/0042.flume");
  CHECK_INT_EQ(flume_path_format(path, 14, "log", "%04d.flume", 42), UV_ENAMETOOLONG);
}

TEST(a_suffix_is_appended) {
  char path[16];
  CHECK_INT_EQ(flume_path_append(path, sizeof path, "log/deleted", ".new"), 0);
  CHECK_STR_EQ(path, "log/deleted.new");
  CHECK_INT_EQ(flume_path_append(path, 15, "log/deleted", ".new"), UV_ENAMETOOLONG);
}
