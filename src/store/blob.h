/* blob.h - the bytes of one file, mapped read-only.
 *
 * Whoever opens it owns it and closes it; views into it live as long as the blob.  Any
 * thread may read.  An empty file is an error: no model format has one. */
#ifndef STORE_BLOB_H
#define STORE_BLOB_H

#include "base/error.h"
#include "base/str.h"

typedef struct blob blob;

/* ERR_INVALID for what is no regular file; a pipe is not waited for. */
NODISCARD status blob_open_file(blob **out, const char *path, error *err);

/* Takes ownership of fd, also on failure.  `name` is for messages. */
NODISCARD status blob_open_fd(blob **out, int fd, const char *name, error *err);

/* Borrowed bytes, 16-byte aligned, that outlive the blob. */
NODISCARD status blob_open_memory(blob **out, str bytes, const char *name, error *err);

/* Harmless on NULL. */
void blob_close(blob *b);

/* The whole content. */
str blob_view(const blob *b);
const char *blob_name(const blob *b);

/* These bytes of the view will not be read again soon: a mapped file's pages leave our memory
 * (and come back when they are read after all).  Nothing where there is no mapping. */
void blob_forget(const blob *b, const void *from, size_t bytes);

#endif
