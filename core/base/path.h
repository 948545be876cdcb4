/* Paths of files. Any thread. */
#ifndef FLUME_PATH_H
#define FLUME_PATH_H

#include <stdbool.h>
#include <stddef.h>

#define FLUME_PATH_MAX 4096 /* bytes, with the zero at the end */

/* "DIR/NAME". UV_ENAMETOOLONG when it does not fit into size bytes. */
int flume_path_join(char *path, size_t size, const char *dir, const char *name);
/* The same with a name that is made like printf's. */
int flume_path_format(char *path, size_t size, const char *dir, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* An absolute path of what path names now, so that a later chdir(2) makes no difference. Without a working directory
 * (it was removed) the path as it is. UV_ENAMETOOLONG. */
int flume_path_absolute(char *out, size_t size, const char *path);
/* "PATH" "SUFFIX". UV_ENAMETOOLONG. */
int flume_path_append(char *path, size_t size, const char *base, const char *suffix);

#endif
