/* The directory of one view: its versions on disk, and what is kept about it from one version to the next.
 *
 *   views/NAME/
 *     active      the number of the version that answers reads, as text
 *     1/ 2/ ...   versions, each a store (store.h)
 *     new/        a version that is being written as a whole, and has no number yet
 *     skipped     seqs that the view passes over, one a line; "from" and a number behind one: versions with a lower
 *                 number may have consumed it
 *     failed      why the view failed in an earlier process: version and source, the seq of the record, the message
 *     indexes/    of a view of queries: the indexes that it made, each a directory like this one
 *     accepted    one line for each change that was accepted without building the view anew
 *
 * A version is built beside the active one under a number of its own. What makes it the active one is a single rename
 * of the file `active`: before it a crash leaves the old version active, behind it the new one. Versions that are
 * neither active nor wanted are swept away when the view is mounted next.
 *
 * Files are replaced as a whole: written under another name, synced, renamed, the directory synced. Any thread, one at
 * a time. */
#ifndef FLUME_VIEW_DIR_H
#define FLUME_VIEW_DIR_H

#include "base/buf.h"
#include "base/err.h"

/* In place of a number: none. */
#define FLUME_VIEW_DIR_NONE 0u

/* The active version; FLUME_VIEW_DIR_NONE when there is none, and when what is written there can't be read, which makes
 * the view build anew. 0 and *number, or an errno. */
int flume_view_dir_active(const struct flume_io *io, const char *path, uint32_t *number, struct flume_err *err);

/* Makes a version the active one, durably and at once. */
int flume_view_dir_activate(const struct flume_io *io, const char *path, uint32_t number, struct flume_err *err);

/* Where a version is written that has no number yet; what is left there by a crash is swept away. */
#define FLUME_VIEW_DIR_NEW "new"

/* Gives that version, which is complete and synced, a number that none has: durably and at once. */
int flume_view_dir_number(const struct flume_io *io, const char *path, uint32_t number, struct flume_err *err);

/* Appends the numbers of all versions there, unordered, as uint32_t. No directory: nothing. */
int flume_view_dir_list(const struct flume_io *io, const char *path, struct flume_buf *numbers, struct flume_err *err);

/* Removes a version. */
int flume_view_dir_remove(const struct flume_io *io, const char *path, uint32_t number, struct flume_err *err);

/* Removes the directory with all versions, durably. No directory is no error. A crash meanwhile leaves versions, which are
 * read as they are, or none. */
int flume_view_dir_remove_all(const struct flume_io *io, const char *path, struct flume_err *err);

/* Removes whatever is there and is none of count versions, nor one of the files above: versions that were given up,
 * and what a crash left behind. */
int flume_view_dir_sweep(const struct flume_io *io, const char *path, const uint32_t *keep, size_t count,
                         struct flume_err *err);

/* The small files: appends the text of path/name to text, nothing when there is none; and replaces it. */
int flume_view_dir_read(const struct flume_io *io, const char *path, const char *name, struct flume_buf *text,
                        struct flume_err *err);
int flume_view_dir_write(const struct flume_io *io, const char *path, const char *name, const void *text, size_t len,
                         struct flume_err *err);

#endif
