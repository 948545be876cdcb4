/* For tests of backups: waiting for one. */
#ifndef FLUME_TEST_BACKING_UP_H
#define FLUME_TEST_BACKING_UP_H

#include "support.h"

struct backup_answer {
  struct flume_backup req;
  int calls;
  int status;
  struct flume_err err;
};

static char backup_target[TEST_PATH_MAX];

static inline void on_backup(struct flume_backup *req, int status, const struct flume_err *error) {
  struct backup_answer *answer = FLUME_CONTAINER_OF(req, struct backup_answer, req);
  answer->calls++;
  answer->status = status;
  CHECK((error != NULL) == (status != 0));
  if (error != NULL) answer->err = *error;
}

/* Submits a backup with the request in answer, and waits on the loop. */
static inline int backup_on(struct flume_log *log, uv_loop_t *loop, const char *views_dir,
                            struct backup_answer *answer) {
  int rv = flume_log_backup(log, backup_target, views_dir, &answer->req, on_backup, &answer->err);
  if (rv != 0) return rv;
  CHECK_INT_EQ(answer->calls, 0);
  while (answer->calls == 0) MUST(uv_run(loop, UV_RUN_ONCE) != 0 || answer->calls > 0);
  return answer->status;
}

static inline int backup(struct flume_log *log, uv_loop_t *loop, const char *views_dir, struct backup_answer *answer) {
  *answer = (struct backup_answer){.calls = 0};
  return backup_on(log, loop, views_dir, answer);
}

#endif
