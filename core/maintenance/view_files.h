/* What views keep on disk, all of it: copying it for a backup, and checking it. */
#ifndef FLUME_VIEW_FILES_H
#define FLUME_VIEW_FILES_H

#include "log/log.h"
#include "store/store.h"

/* What was copied. */
struct flume_copied {
  uint64_t bytes;
  uint64_t files;
};

/* Who may have the stores of the log's views open. Any thread. */
enum flume_store_sharing flume__views_sharing(const struct flume_log *log);

/* Copies the views in directory from, each a directory of its own, to the new directory to, durably. Each copy of a
 * store is as of one commit, and can be read. A view that can't be copied, as it changes all the while or is damaged, is
 * left out: it is built anew from the log. No directory: nothing. Errors: FLUME_ENOMEM, an errno of writing. */
int flume_views_copy(const struct flume_io *io, const char *from, const char *to, enum flume_store_sharing sharing,
                     struct flume_copied *copied, struct flume_err *err);

/* Reads every store of the views in directory dir, and adds what is wrong with it to the report, as of the file
 * views/NAME/VERSION. */
int flume_views_check(const struct flume_io *io, const char *dir, enum flume_store_sharing sharing,
                      struct flume_report *report, struct flume_err *err);

#endif
