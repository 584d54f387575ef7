/* cuda_attention.c - see cuda_attention.h. */
#include "backend/cuda/cuda_attention.h"

#include <stdio.h>

#include "base/assert.h"
#include "base/num.h"

enum {
    UNIT = CK_ATTENTION_UNIT, /* elements that a lane reads at once */
    VALUES_MAX = 1024,        /* of the heads of a block: 32 registers of a thread */
    ROW_SPLITS_MAX = 64,      /* of a span: the last block adds them up one after the other */
    ROW_SPLITS_MIN = 4,
    ROW_BLOCKS = 512, /* blocks that fill any card there is */
};

static uint32_t round_up(uint32_t n, uint32_t to) { return num_div_up_u32(n, to) * to; }

/* Rows that are no whole number of units are read element by element, for one head at a time. */
static bool has_units(uint32_t key_dim, uint32_t value_dim) {
    return key_dim % UNIT == 0 && value_dim % UNIT == 0;
}

static uint32_t heads_max(uint32_t key_dim, uint32_t value_dim) {
    uint32_t heads = CK_ATTENTION_HEADS_MAX;
    if (!has_units(key_dim, value_dim)) return 1;
    while (heads * value_dim > VALUES_MAX && heads > 1) heads /= 2;
    return heads;
}

cuda_attention_pack cuda_attention_pack_of(uint32_t per_block, uint32_t key_dim,
                                           uint32_t value_dim) {
    ASSERT(per_block > 0 && per_block <= heads_max(key_dim, value_dim));
    if (!has_units(key_dim, value_dim)) return CUDA_ATTENTION_ANY;
    if (per_block <= 2) return per_block == 1 ? CUDA_ATTENTION_N1 : CUDA_ATTENTION_N2;
    return per_block <= 4 ? CUDA_ATTENTION_N4 : CUDA_ATTENTION_N8;
}

/* Heads that a kernel has memory for. */
static uint32_t packed_heads(cuda_attention_pack pack) {
    static const uint32_t heads[CUDA_ATTENTION_PACKS] = {1, 1, 2, 4, 8};
    return heads[pack];
}

void cuda_attention_name(const k_attention_args *a, char out[CUDA_ATTENTION_NAME_BYTES]) {
    static const char *const types[] = {
        [CK_KV_F32] = "f32", [CK_KV_F16] = "f16", [CK_KV_Q8] = "q8", [CK_KV_Q4] = "q4"};
    static const char *const packs[CUDA_ATTENTION_PACKS] = {"any", "n1", "n2", "n4", "n8"};
    (void)snprintf(out, CUDA_ATTENTION_NAME_BYTES, "k_attention_%s_%s", types[a->kv.type],
                   packs[cuda_attention_pack_of(a->per_block, a->kv.key_dim, a->kv.value_dim)]);
}

cuda_attention_cut cuda_attention_cut_of(uint32_t heads, uint32_t kv_heads, uint32_t key_dim,
                                         uint32_t value_dim) {
    ASSERT(kv_heads > 0 && heads % kv_heads == 0 && heads > 0);
    const uint32_t group = heads / kv_heads;
    const uint32_t blocks = num_div_up_u32(group, heads_max(key_dim, value_dim));
    cuda_attention_cut c = {.per_block = num_div_up_u32(group, blocks),
                            .groups = kv_heads * blocks};
    c.splits_max = num_min_u32(num_max_u32(ROW_BLOCKS / c.groups, ROW_SPLITS_MIN), ROW_SPLITS_MAX);
    const uint32_t row = round_up(key_dim, CK_ATTENTION_PANEL) + 2 * round_up(value_dim, UNIT);
    const cuda_attention_pack pack = cuda_attention_pack_of(c.per_block, key_dim, value_dim);
    c.shared_bytes = packed_heads(pack) * row * (uint32_t)sizeof(float);
    return c;
}

/* As cut_of() of attention.cu: a span that begins in the middle of a block of the cache has no more
 * blocks than the first `tokens` ones. */
uint32_t cuda_attention_splits(const cuda_attention_cut *cut, uint32_t tokens) {
    const uint32_t blocks = num_div_up_u32(tokens, CK_KV_BLOCK_TOKENS);
    return num_min_u32(num_div_up_u32(blocks, CK_SPLIT_BLOCKS), cut->splits_max);
}

uint64_t cuda_attention_parts_bytes(const cuda_attention_cut *cut, uint32_t value_dim,
                                    uint32_t rows, uint32_t splits) {
    const uint64_t row = round_up(value_dim, UNIT) + CK_ATTENTION_EXTRA;
    return (uint64_t)rows * cut->groups * splits * cut->per_block * row * sizeof(float);
}

/* --- rows of prompts on tensor cores -------------------- */

/* Of keys, and of values. */
static const uint32_t prompt_dims[CUDA_PROMPT_WIDTHS] = {0, 64, 128, 256, 576};
static const uint32_t prompt_values[CUDA_PROMPT_WIDTHS] = {0, 64, 128, 256, CK_PROMPT_WIDE_VALUES};

cuda_prompt_width cuda_prompt_width_of(uint32_t key_dim, uint32_t value_dim) {
    if (key_dim % CK_PROMPT_UNIT != 0 || value_dim % CK_PROMPT_UNIT != 0) return CUDA_PROMPT_NONE;
    for (int w = CUDA_PROMPT_D64; w < CUDA_PROMPT_WIDTHS; w++)
        if (key_dim <= prompt_dims[w] && value_dim <= prompt_values[w]) return (cuda_prompt_width)w;
    return CUDA_PROMPT_NONE;
}

/* As memory_of() of attention_prompt.cu: rows of an odd number of 16 bytes. */
static uint32_t prompt_tile_bytes(uint32_t dim) {
    return CK_PROMPT_PIECE * (dim * 2 / 16 | 1u) * 16;
}

uint32_t cuda_prompt_shared_bytes(uint32_t key_dim, uint32_t value_dim, bool v_in_k) {
    const uint32_t keys = prompt_tile_bytes(key_dim);
    const uint32_t values = v_in_k ? 0 : prompt_tile_bytes(value_dim);
    switch (cuda_prompt_width_of(key_dim, value_dim)) {
    case CUDA_PROMPT_D256: /* beside queries */
        return CK_PROMPT_QUERIES * prompt_dims[CUDA_PROMPT_D256] * 2 + num_max_u32(keys, values);
    case CUDA_PROMPT_D576: /* beside the scores of 16 queries that each warp has */
        return CK_PROMPT_WIDE_THREADS / 32 * 16 * CK_PROMPT_PIECE * (uint32_t)sizeof(float) +
               num_max_u32(keys, values);
    default:
        return keys + values;
    }
}

uint32_t cuda_prompt_tile_queries(uint32_t key_dim, uint32_t value_dim) {
    const bool is_wide = cuda_prompt_width_of(key_dim, value_dim) == CUDA_PROMPT_D576;
    return is_wide ? CK_PROMPT_WIDE_QUERIES : CK_PROMPT_QUERIES;
}

void cuda_prompt_name(const k_attention_args *a, char out[CUDA_ATTENTION_NAME_BYTES]) {
    static const char *const types[] = {
        [CK_KV_F32] = NULL, [CK_KV_F16] = "f16", [CK_KV_Q8] = "q8", [CK_KV_Q4] = "q4"};
    const uint32_t dim = prompt_dims[cuda_prompt_width_of(a->kv.key_dim, a->kv.value_dim)];
    out[0] = '\0';
    if (types[a->kv.type] == NULL || dim == 0) return;
    (void)snprintf(out, CUDA_ATTENTION_NAME_BYTES, "k_prompt_attention_%s_d%u", types[a->kv.type],
                   dim);
}

/* --- the rows of a step -------------------- */

static uint32_t tokens_of(const batch_run *r) { return r->pos0 + r->rows; }

/* Of its rows those before row `end`: behind it prompts begin. */
static uint32_t rows_within(const batch_run *r, uint32_t end) {
    return num_min_u32(r->rows, end - r->row0);
}

/* The run that sees most of those that have no slots yet, and fits; NULL: none has two splits. */
static const batch_run *longest_run(const batch *in, uint32_t rows, const uint32_t *slots,
                                    uint32_t rows_max) {
    const batch_run *best = NULL;
    for (uint32_t i = 0; i < in->runs_count; i++) {
        const batch_run *r = &in->runs[i];
        if (r->row0 >= rows || rows_within(r, rows) > rows_max) continue;
        if (slots[r->row0] != CK_SPLIT_NONE) continue;
        if (tokens_of(r) <= CK_SPLIT_BLOCKS * CK_KV_BLOCK_TOKENS) continue;
        if (best == NULL || tokens_of(r) > tokens_of(best)) best = r;
    }
    return best;
}

/* A share of the blocks for each row, so that all of its blocks have the same number of splits but
 * for the last. */
static uint32_t blocks_of(uint32_t rows, uint32_t tokens) {
    const uint32_t splits =
        num_min_u32(num_div_up_u32(tokens, CK_SPLIT_BLOCKS * CK_KV_BLOCK_TOKENS), ROW_SPLITS_MAX);
    const uint32_t rounds = num_div_up_u32(splits * rows, CUDA_ATTENTION_FURTHER_MAX);
    return num_div_up_u32(splits, num_max_u32(rounds, 1));
}

void cuda_attention_share(const batch *in, uint32_t rows, uint32_t slots_max, ck_splits *out,
                          uint32_t *slots) {
    uint32_t longest = 0;
    ASSERT(slots_max <= CK_SPLIT_ROWS_MAX);
    *out = (ck_splits){.blocks = 1};
    for (uint32_t r = 0; r < in->rows; r++) slots[r] = CK_SPLIT_NONE;
    for (;;) {
        const batch_run *run = longest_run(in, rows, slots, slots_max - out->rows);
        if (run == NULL) break;
        longest = num_max_u32(longest, tokens_of(run));
        for (uint32_t r = run->row0; r < run->row0 + rows_within(run, rows); r++) {
            slots[r] = out->rows;
            out->row[out->rows++] = r;
        }
    }
    if (out->rows > 0) out->blocks = blocks_of(out->rows, longest);
}
