/* The quarantine: a directory damaged-TIME in that of the log, for the files that a repair replaces. It is made when the first
 * file is put there. Any thread, one at a time. */
#ifndef FLUME_QUARANTINE_H
#define FLUME_QUARANTINE_H

#include "base/io.h"

#define FLUME_QUARANTINE_PREFIX "damaged-"

struct flume_quarantine {
  const struct flume_io *io;
  const char *dir; /* of the log, borrowed */
  char path[4096]; /* of damaged-TIME; empty until it was made */
};

void flume__quarantine_init(struct flume_quarantine *quarantine, const struct flume_io *io, const char *dir);

/* Makes the directory, if that was not done. UV_ENAMETOOLONG or another errno. */
int flume__quarantine_make(struct flume_quarantine *quarantine, struct flume_err *err);
/* Copies the file of that name in the log's directory, if there is one, and syncs the copy. Errors as of make. */
int flume__quarantine_put(struct flume_quarantine *quarantine, const char *name, struct flume_err *err);
/* What a file of that name is called there. 0 or UV_ENAMETOOLONG. */
int flume__quarantine_name(const struct flume_quarantine *quarantine, const char *name, char *path, size_t size);
/* The name of the directory alone; NULL when nothing was put there. */
const char *flume__quarantine_dir(const struct flume_quarantine *quarantine);

#endif
