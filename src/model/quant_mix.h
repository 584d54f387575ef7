/* quant_mix.h - names of quantized files, and the type each of their tensors gets.
 *
 * "Q4_K_M" is no tensor type: it says that most matrices are Q4_K and those where an error
 * costs most have more bits.  Which ones is read off a tensor's name, its layer and the
 * model's shape, so the answer never depends on the order of tensors.  Vectors, norms,
 * expert routers and other small tensors keep the type they have.
 * Pure functions, any thread.
 * Source: the mixes of llama.cpp's quantizer, whose files these names come from, and its
 * numbers for "general.file_type". */
#ifndef MODEL_QUANT_MIX_H
#define MODEL_QUANT_MIX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "tensor/dtype.h"

/* X(name, general.file_type, type of most matrices) */
#define QUANT_MIXES(X)    \
    X(F32, 0, F32)        \
    X(F16, 1, F16)        \
    X(BF16, 32, BF16)     \
    X(Q4_0, 2, Q4_0)      \
    X(Q4_1, 3, Q4_1)      \
    X(Q5_0, 8, Q5_0)      \
    X(Q5_1, 9, Q5_1)      \
    X(Q8_0, 7, Q8_0)      \
    X(Q2_K, 10, Q2_K)     \
    X(Q2_K_S, 21, Q2_K)   \
    X(Q3_K_S, 11, Q3_K)   \
    X(Q3_K_M, 12, Q3_K)   \
    X(Q3_K_L, 13, Q3_K)   \
    X(Q4_K_S, 14, Q4_K)   \
    X(Q4_K_M, 15, Q4_K)   \
    X(Q5_K_S, 16, Q5_K)   \
    X(Q5_K_M, 17, Q5_K)   \
    X(Q6_K, 18, Q6_K)     \
    X(IQ4_NL, 25, IQ4_NL) \
    X(IQ4_XS, 30, IQ4_XS) \
    X(TQ1_0, 36, TQ1_0)   \
    X(TQ2_0, 37, TQ2_0)   \
    X(MXFP4, 38, MXFP4)   \
    X(NVFP4, 39, NVFP4)   \
    X(Q1_0, 40, Q1_0)     \
    X(Q2_0, 41, Q2_0)

typedef enum quant_mix {
#define QUANT_MIX_ENUM(name, file_type, type) QUANT_MIX_##name,
    QUANT_MIXES(QUANT_MIX_ENUM)
#undef QUANT_MIX_ENUM
        QUANT_MIX_COUNT
} quant_mix;

/* In any case; also "Q3_K", "Q4_K" and "Q5_K" for their _M and "MXFP4_MOE" for MXFP4. */
bool quant_mix_from_name(str name, quant_mix *out);
const char *quant_mix_name(quant_mix m);
/* "F32, F16, ...": for messages that refuse a name. */
const char *quant_mix_names(void);
/* The type of most matrices. */
dtype quant_mix_type(quant_mix m);
/* The value of "general.file_type". */
uint32_t quant_mix_file_type(quant_mix m);

/* What the choice depends on besides the tensor.  Zeroed members mean: nothing special. */
typedef struct quant_mix_plan {
    quant_mix mix;
    uint32_t layers;         /* block_count */
    uint32_t experts;        /* of a layer; 0 or 1: dense */
    uint32_t heads_per_kv;   /* attention heads that share a key-value head */
    bool tied;               /* there is no output.weight: token_embd is the output, too */
    bool falcon;             /* general.architecture is falcon, whose output wants more bits */
    bool has_importance;     /* an importance matrix steers the quantizers */
    bool pure;               /* every matrix gets the mix's type, as far as its rows allow */
    const dtype *output;     /* borrowed; the type of output.weight, NULL: by the mix */
    const dtype *token_embd; /* borrowed; likewise */
} quant_mix_plan;

/* Name and shape of a tensor; dims innermost first. */
typedef struct quant_mix_tensor_info {
    str name;
    dtype type; /* what it is stored as */
    uint32_t dims_count;
    uint64_t dims[4];
} quant_mix_tensor_info;

/* Is this a weight matrix that mixes convert?  Everything else stays as it is. */
bool quant_mix_converts(const quant_mix_tensor_info *t);

/* The type the tensor gets.  *wanted (may be NULL) gets what the mix asks for: it differs from
 * the result when rows are no whole number of that type's blocks. */
dtype quant_mix_tensor(const quant_mix_plan *p, const quant_mix_tensor_info *t, dtype *wanted);

#endif
