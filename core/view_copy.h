/* Copying what views keep on disk, for a backup: a directory with all in it, LMDB environments as such. */
#ifndef FLUME_VIEW_COPY_H
#define FLUME_VIEW_COPY_H

#include "err.h"
#include "io.h"

/* Who may be writing to the environments meanwhile. */
enum flume_view_writer {
  FLUME_VIEW_WRITER_HERE,      /* this process: its locks must not be touched by opening an environment twice */
  FLUME_VIEW_WRITER_ELSEWHERE, /* another process, perhaps */
};

/* What was copied. */
struct flume_copied {
  uint64_t bytes;
  uint64_t files;
};

/* Copies the views in directory from, each a directory of its own, to the new directory to, durably. Each copy of an
 * environment is as of one commit, and can be read. A view that can't be copied, as it changes all the while or is
 * damaged, is left out: it is built anew from the log. No directory: nothing. Errors: FLUME_ENOMEM, an errno of writing. */
int flume_views_copy(const struct flume_io *io, const char *from, const char *to, enum flume_view_writer writer,
                     struct flume_copied *copied, struct flume_err *err);

#endif
