/* The directory of one view: its versions on disk, and the files that all versions share.
 *
 *   views/NAME/
 *     active      the number of the version that answers reads, as text
 *     1/ 2/ ...   versions, each a store (store.h)
 *     new/        a version that a scrub is writing, without a number yet
 *     skipped     seqs that the view does not fold, one a line; "from" and a number behind a seq: versions with a lower
 *                 number may have consumed that record
 *     failed      why the view failed in an earlier process: version and source, the seq of the record, the message
 *     indexes/    of a view of queries: its indexes, each a directory like this one
 *     accepted    one line for each change that was accepted without a rebuild
 *
 * A version is built beside the active version under a number of its own. A single rename of the file `active` makes it
 * the active version: a crash before the rename leaves the old version active, a crash after it the new version. The
 * next mount removes the versions that are neither active nor needed.
 *
 * Files are replaced as a whole: written under a temporary name, synced, renamed, the directory synced. Any thread, one
 * at a time. */
#ifndef FLUME_VIEW_DIR_H
#define FLUME_VIEW_DIR_H

#include "base/buf.h"
#include "base/err.h"

/* The number that means no version. */
#define FLUME_VIEW_DIR_NONE 0u

/* The number of the active version. FLUME_VIEW_DIR_NONE: none, or the file `active` is not readable as a number; the
 * view is then rebuilt. 0 or an errno. */
int flume_view_dir_active(const struct flume_io *io, const char *path, uint32_t *number, struct flume_err *err);

/* Makes a version the active version, durably and atomically. 0 or an errno. */
int flume_view_dir_activate(const struct flume_io *io, const char *path, uint32_t number, struct flume_err *err);

/* The directory of a version without a number. A sweep removes what a crash leaves there. */
#define FLUME_VIEW_DIR_NEW "new"

/* Gives the version in FLUME_VIEW_DIR_NEW, which is complete and synced, a free number, durably and atomically. */
int flume_view_dir_number(const struct flume_io *io, const char *path, uint32_t number, struct flume_err *err);

/* Appends the numbers of all versions, unordered, as uint32_t. No directory: none. */
int flume_view_dir_list(const struct flume_io *io, const char *path, struct flume_buf *numbers, struct flume_err *err);

/* Removes a version. */
int flume_view_dir_remove(const struct flume_io *io, const char *path, uint32_t number, struct flume_err *err);

/* Removes the directory with all versions, durably. No directory is no error. A crash meanwhile leaves versions,
 * which are read as they are, or none. */
int flume_view_dir_remove_all(const struct flume_io *io, const char *path, struct flume_err *err);

/* Removes everything but the `count` versions in keep and the files above: discarded versions, and leftovers of a
 * crash. */
int flume_view_dir_sweep(const struct flume_io *io, const char *path, const uint32_t *keep, size_t count,
                         struct flume_err *err);

/* Read appends the text of the file path/name to text; no file: nothing. Write replaces the file, durably and
 * atomically. */
int flume_view_dir_read(const struct flume_io *io, const char *path, const char *name, struct flume_buf *text,
                        struct flume_err *err);
int flume_view_dir_write(const struct flume_io *io, const char *path, const char *name, const void *text, size_t len,
                         struct flume_err *err);

#endif
