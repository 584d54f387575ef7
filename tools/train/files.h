/* files.h - whole files, read and written. */
#ifndef TRAIN_FILES_H
#define TRAIN_FILES_H

#include "base/buf.h"

/* All of it, appended to `out`. */
NODISCARD status file_read(const char *path, buf *out, error *err);

/* A number that changes when the bytes do: FNV-1a, 64 bits (Fowler, Noll and Vo).  Begin with
 * FILE_HASH_BEGIN.  Against mistakes, not against enemies. */
#define FILE_HASH_BEGIN UINT64_C(0xCBF29CE484222325)
uint64_t file_hash(uint64_t so_far, const void *bytes, size_t n);

#endif
