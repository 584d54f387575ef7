/* requant.h - a GGUF file again, with its matrices in other types.
 *
 * Every key and every tensor of the input is in the output, in the same order.  Keys are copied
 * byte for byte but for those that tell how the file was quantized; tensors are streamed, a few
 * megabytes per thread at a time.  Every element is looked at: one that is no finite number is
 * an error that names it.  The bytes do not depend on the number of threads.
 * The output appears under its name when it is complete, else not at all. */
#ifndef MODEL_REQUANT_H
#define MODEL_REQUANT_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "model/quant_mix.h"

typedef struct requant_options {
    quant_mix mix;
    bool pure;               /* see quant_mix_plan */
    const dtype *output;     /* borrowed; likewise */
    const dtype *token_embd; /* borrowed; likewise */
    const char *imatrix;     /* path of an importance matrix, or NULL */
    uint32_t threads;        /* 0: all cores this process may use */

    const volatile sig_atomic_t *stop; /* borrowed; not 0: give up.  NULL: never */
    /* Called on the caller's thread with the input bytes that are done; NULL: nobody. */
    void (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
    void *progress_ctx;
} requant_options;

typedef struct requant_report {
    uint64_t in_bytes;  /* of tensors */
    uint64_t out_bytes; /* likewise */
    uint64_t elems;
    uint32_t tensors;
    uint32_t converted;
    uint32_t fallbacks;          /* rows were no whole number of the wanted type's blocks */
    uint32_t requantized;        /* converted from a type that had lost precision before */
    uint32_t without_importance; /* converted to blocks, but the matrix has no entry for it */
    uint64_t f32_bytes;          /* of the converted tensors, as f32 */
    uint64_t ns;
} requant_report;

/* Fallbacks, tensors without importance and lossy inputs are logged as warnings.
 * ERR_INVALID      both paths are the same file, or the input is no regular file
 * ERR_FORMAT       broken input, an element that is not finite or too large for the new type,
 *                  an importance matrix of another model
 * ERR_CANCELED     *stop was set
 * ERR_IO, ERR_NOT_FOUND, ERR_NOMEM, ERR_LIMIT as usual.
 * *report is untouched on failure. */
NODISCARD status requant_file(const char *in, const char *out, const requant_options *opt,
                              requant_report *report, error *err);

#endif
