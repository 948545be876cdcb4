/* For tests of compaction: waiting for one, and looking for bytes in the files of a log. */
#ifndef FLUME_TEST_COMPACTING_H
#define FLUME_TEST_COMPACTING_H

#include "support.h"

struct compaction_answer {
  struct flume_compact req;
  int calls;
  int status;
  struct flume_err err;
};

static inline void on_compacted(struct flume_compact *req, int status, const struct flume_err *err) {
  struct compaction_answer *answer = FLUME_CONTAINER_OF(req, struct compaction_answer, req);
  answer->calls++;
  answer->status = status;
  CHECK((err != NULL) == (status != 0));
  if (err != NULL) answer->err = *err;
}

/* Submits a compaction and waits on the loop. */
static inline int log_compact(struct flume_log *log, uv_loop_t *loop, struct compaction_answer *answer) {
  *answer = (struct compaction_answer){.calls = 0};
  int rv = flume_log_compact(log, &answer->req, on_compacted, &answer->err);
  if (rv != 0) return rv;
  CHECK_INT_EQ(answer->calls, 0);
  while (answer->calls == 0) MUST(uv_run(loop, UV_RUN_ONCE) != 0 || answer->calls > 0);
  CHECK_INT_EQ(answer->calls, 1);
  return answer->status;
}

/* The number of files of the directory that contain the bytes. */
static inline int files_with(const char *dir, const void *bytes, size_t len) {
  struct image image;
  int count = 0;
  image_take(&image, dir);
  for (int i = 0; i < image.count; i++) {
    if (memmem(image.files[i].data, image.files[i].len, bytes, len) != NULL) count++;
  }
  image_free(&image);
  return count;
}

#endif
