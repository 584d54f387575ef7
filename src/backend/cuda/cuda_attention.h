/* cuda_attention.h - how the work of k_attention is cut into blocks: by its shape for good, by the
 * spans of its rows in each step; and that of k_prompt_attention.
 *
 * Pure functions.  A row's span of tokens is cut into splits, of which several blocks can compute
 * one each (flash decoding, Dao et al. 2023).  What is summed in which order follows from the span
 * and the shape, never from who computes it. */
#ifndef BACKEND_CUDA_ATTENTION_H
#define BACKEND_CUDA_ATTENTION_H

#include "abi.h"
#include "backend/batch.h"

/* The kernel for so many heads of a block: k_attention_TYPE_nN computes up to N of them,
 * k_attention_TYPE_any one, of any dimensions. */
typedef enum cuda_attention_pack {
    CUDA_ATTENTION_ANY,
    CUDA_ATTENTION_N1,
    CUDA_ATTENTION_N2,
    CUDA_ATTENTION_N4,
    CUDA_ATTENTION_N8,
    CUDA_ATTENTION_PACKS
} cuda_attention_pack;

/* Of one op, see k_attention_args. */
typedef struct cuda_attention_cut {
    uint32_t per_block;    /* query heads of a block: they share a head of the cache */
    uint32_t groups;       /* blocks that a row's heads make */
    uint32_t splits_max;   /* of a span */
    uint32_t shared_bytes; /* dynamic shared memory of a block */
} cuda_attention_cut;

/* heads is a multiple of kv_heads; the dimensions are at most CK_ATTENTION_DIM_MAX. */
cuda_attention_cut cuda_attention_cut_of(uint32_t heads, uint32_t kv_heads, uint32_t key_dim,
                                         uint32_t value_dim);

cuda_attention_pack cuda_attention_pack_of(uint32_t per_block, uint32_t key_dim,
                                           uint32_t value_dim);
/* "k_attention_f16_n4" */
enum { CUDA_ATTENTION_NAME_BYTES = 48 };
void cuda_attention_name(const k_attention_args *a, char out[CUDA_ATTENTION_NAME_BYTES]);

/* Splits of spans of up to so many tokens. */
uint32_t cuda_attention_splits(const cuda_attention_cut *cut, uint32_t tokens);

/* What k_attention_args.parts points to, for `rows` rows that are shared. */
uint64_t cuda_attention_parts_bytes(const cuda_attention_cut *cut, uint32_t value_dim,
                                    uint32_t rows, uint32_t splits);

/* The step's rows that several blocks share: those of the runs that see the most tokens, as far as
 * there are slots, of each all that are among the first `rows` rows of the step.  A prompt's rows
 * are blocks enough by themselves.
 * slots [in->rows] gets each row's index into out->row, or CK_SPLIT_NONE.
 * slots_max: at most CK_SPLIT_ROWS_MAX. */
void cuda_attention_share(const batch *in, uint32_t rows, uint32_t slots_max, ck_splits *out,
                          uint32_t *slots);

/* Blocks that a launch has along its rows beside one for each; more do no harm. */
static inline uint32_t cuda_attention_further(const ck_splits *s) {
    return s->rows > 0 ? s->rows * (s->blocks - 1) : 0;
}
enum { CUDA_ATTENTION_FURTHER_MAX = 256 };

/* --- rows of prompts on tensor cores -------------------- */

/* The most elements of a key that the kernel has room for: k_prompt_attention_TYPE_dD.  Values have
 * at most as many, of D576 at most CK_PROMPT_WIDE_VALUES. */
typedef enum cuda_prompt_width {
    CUDA_PROMPT_NONE, /* there is none for these: k_attention computes all rows */
    CUDA_PROMPT_D64,
    CUDA_PROMPT_D128,
    CUDA_PROMPT_D256,
    CUDA_PROMPT_D576,
    CUDA_PROMPT_WIDTHS
} cuda_prompt_width;

cuda_prompt_width cuda_prompt_width_of(uint32_t key_dim, uint32_t value_dim);

/* Dynamic shared memory of a block, for heads that there is a kernel for. */
uint32_t cuda_prompt_shared_bytes(uint32_t key_dim, uint32_t value_dim, bool v_in_k);

/* "k_prompt_attention_f16_d128"; "" where there is none, as with a cache of F32. */
void cuda_prompt_name(const k_attention_args *a, char out[CUDA_ATTENTION_NAME_BYTES]);

/* Of a block: a query is one row and one head. */
uint32_t cuda_prompt_tile_queries(uint32_t key_dim, uint32_t value_dim);

/* Tiles of so many rows of so many runs, at least as many as there are; group: query heads of a
 * head of the cache; queries: of a tile. */
static inline uint32_t cuda_prompt_tiles(uint32_t rows, uint32_t runs, uint32_t group,
                                         uint32_t queries) {
    return rows * group / queries + runs;
}

#endif
