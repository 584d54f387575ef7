/* outfile.h - a file that appears whole or not at all.
 *
 * It is written under a temporary name in the folder it belongs to, brought to the disk, and
 * renamed at the end.  Until outfile_commit() has succeeded, what was there under the final
 * name is untouched, and outfile_abort() leaves nothing behind.  One thread. */
#ifndef BASE_OUTFILE_H
#define BASE_OUTFILE_H

#include <stdbool.h>

#include "base/error.h"

typedef struct outfile {
    int fd;     /* borrowed by who writes; -1 when there is none */
    char *temp; /* owned */
    char *path; /* owned */
} outfile;

/* Fills *f also on failure, so that outfile_abort() is harmless.  ERR_INVALID when `path` is
 * there and no regular file; a symbolic link there will be replaced, not followed. */
NODISCARD status outfile_open(outfile *f, const char *path, error *err);

/* On failure the temporary is still there: abort. */
NODISCARD status outfile_commit(outfile *f, error *err);

/* Drop the temporary; harmless after a commit and on what was never opened. */
void outfile_abort(outfile *f);

/* Do both paths lead to the same existing file? */
bool outfile_is_same(const char *a, const char *b);

#endif
