/* imatrix.h - importance matrices: how much an error in each column of a weight matters.
 *
 * Both forms in use are read: GGUF with general.type "imatrix" (sums of squared activations and
 * how often each matrix met some), and the older list of records (mean squares times calls).
 * Either way an entry is the mean square of each column's activations, one row of columns per
 * matrix: a layer's experts have one each.  The file is taken as hostile: sizes are checked
 * against it and the limits below, values must be finite and not negative.
 * Immutable once open: any thread may read.
 * Source: llama.cpp, tools/imatrix (both layouts). */
#ifndef MODEL_IMATRIX_H
#define MODEL_IMATRIX_H

#include <stdint.h>

#include "base/error.h"
#include "base/str.h"

enum { IMATRIX_ENTRIES_MAX = 65536, IMATRIX_NAME_BYTES_MAX = 256 };

typedef struct imatrix imatrix;

typedef struct imatrix_entry {
    str name;            /* of the weight: "blk.0.attn_q.weight" */
    const float *values; /* [count], borrowed */
    uint64_t count;      /* columns, times matrices */
} imatrix_entry;

NODISCARD status imatrix_open(imatrix **out, const char *path, error *err);
/* The same from memory, which may go afterwards; `name` is for messages. */
NODISCARD status imatrix_read(imatrix **out, str bytes, const char *name, error *err);
/* Harmless on NULL. */
void imatrix_close(imatrix *m);

uint32_t imatrix_count(const imatrix *m);
const imatrix_entry *imatrix_get(const imatrix *m, uint32_t idx); /* idx < count */
/* NULL when the file has none for that weight. */
const imatrix_entry *imatrix_find(const imatrix *m, str name);

/* What it was computed from, and over how many chunks of text; "" and 0 where it does not say. */
str imatrix_dataset(const imatrix *m);
uint32_t imatrix_chunks(const imatrix *m);

/* The columns' importance for each of a tensor's `matrices` matrices of `cols` columns:
 * *stride is cols, or 0 when all share one row.  ERR_FORMAT with both sizes when the entry
 * does not fit the tensor. */
NODISCARD status imatrix_fit(const imatrix_entry *e, uint64_t cols, uint64_t matrices,
                             uint64_t *stride, error *err);

#endif
