/* checkpoint.h - everything a run needs to go on as if it had not stopped.
 *
 * Layout, in the machine's byte order: checkpoint_head, then params, m and v as f32 [params each],
 * then the FNV-1a of all that as u64.  A file for a machine's own use, written whole or not at
 * all (base/outfile.h). */
#ifndef TRAIN_CHECKPOINT_H
#define TRAIN_CHECKPOINT_H

#include "train/adamw.h"
#include "train/dataset.h"

typedef struct checkpoint_head {
    char magic[8];        /* CHECKPOINT_MAGIC */
    uint64_t fingerprint; /* of the corpus, the vocabulary and all options that matter */
    uint64_t params;
    uint32_t step; /* done so far, also of the optimizer */
    uint32_t epoch, at;
    uint32_t reserved; /* 0 */
} checkpoint_head;

#define CHECKPOINT_MAGIC "GTRAIN1"

typedef struct checkpoint {
    uint64_t fingerprint;
    float *params;    /* [optimizer->count] borrowed */
    adamw *optimizer; /* borrowed */
    walk *documents;  /* borrowed */
} checkpoint;

NODISCARD status checkpoint_write(const char *path, const checkpoint *c, error *err);
/* ERR_NOT_FOUND or ERR_IO when there is none, ERR_FORMAT for no checkpoint or a damaged one,
 * ERR_INVALID for one of another run.  Nothing is changed on failure. */
NODISCARD status checkpoint_read(const char *path, const checkpoint *c, error *err);

#endif
