/* Where a repair puts the files that it replaces: a directory damaged-TIME of its own, in that of the log, made when there
 * is something to put there. Any thread, one at a time. */
#ifndef FLUME_ASIDE_H
#define FLUME_ASIDE_H

#include "base/io.h"

#define FLUME_ASIDE_PREFIX "damaged-"

struct flume_aside {
  const struct flume_io *io;
  const char *dir; /* of the log, borrowed */
  char path[4096]; /* of damaged-TIME; empty until it was made */
};

void flume_aside_init(struct flume_aside *aside, const struct flume_io *io, const char *dir);

/* Makes the directory, if that was not done. UV_ENAMETOOLONG or another errno. */
int flume_aside_make(struct flume_aside *aside, struct flume_err *err);
/* Copies the file of that name in the log's directory, if there is one, and syncs the copy. Errors as of make. */
int flume_aside_put(struct flume_aside *aside, const char *name, struct flume_err *err);
/* What a file of that name is called there. 0 or UV_ENAMETOOLONG. */
int flume_aside_name(const struct flume_aside *aside, const char *name, char *path, size_t size);
/* The name of the directory alone; NULL when nothing was put there. */
const char *flume_aside_dir(const struct flume_aside *aside);

#endif
