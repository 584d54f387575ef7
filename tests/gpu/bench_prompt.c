/* bench_prompt.c - attention of the rows of prompts, for the measurements of bench_kernels.c.
 *
 * Heads are those of Llama 3 8B (Grattafiori et al. 2024): 32 of 128 over 8 heads of keys and
 * values.  The rows are the last ones of a sequence, as of a prompt that is read in steps. */
#include <stdio.h>

#include "backend/batch.h"
#include "backend/cuda/cuda_attention.h"
#include "base/alloc.h"
#include "base/num.h"
#include "gpu/bench.h"

enum { HEADS = 32, KV_HEADS = 8, HEAD_DIM = 128, ROWS = 512, ROW_FLOATS = HEADS * HEAD_DIM };

typedef struct prompt_work {
    card_kernel kernel;
    card_grid grid;
    k_attention_args args;
    uint32_t rows, tokens;
} prompt_work;

static void launch_prompt(bench *b, void *work, uint32_t i) {
    const prompt_work *w = work;
    (void)i;
    card_launch(b->card, &w->kernel, w->grid, &w->args, sizeof w->args);
}

/* What the step's descriptor has: [rows] of positions, seats and tokens that are seen, and the
 * sequence's blocks, scattered: 17 is prime to powers of two. */
static status put_rows(bench *b, prompt_work *w, error *err) {
    k_attention_args *a = &w->args;
    const uint32_t blocks = w->tokens / CK_KV_BLOCK_TOKENS, n = num_max_u32(w->rows, blocks);
    const ck_counts counts = {.rows = w->rows, .runs = 1};
    const ck_run run = {.rows = w->rows, .pos0 = w->tokens - w->rows};
    uint32_t *words = mem_alloc(n * sizeof *words);
    for (uint32_t i = 0; i < blocks; i++) words[i] = i * 17 % blocks;
    status st = bench_put(b, words, blocks * sizeof *words, &a->kv.tables, err);
    for (uint32_t r = 0; r < w->rows; r++) words[r] = run.pos0 + r;
    if (st == OK) st = bench_put(b, words, w->rows * sizeof *words, &a->pos, err);
    for (uint32_t r = 0; r < w->rows; r++) words[r]++;
    if (st == OK) st = bench_put(b, words, w->rows * sizeof *words, &a->seen, err);
    for (uint32_t r = 0; r < w->rows; r++) words[r] = 0;
    if (st == OK) st = bench_put(b, words, w->rows * sizeof *words, &a->seats, err);
    mem_free(words);
    TRY(st);
    TRY(bench_put(b, &counts, sizeof counts, &a->counts, err));
    return bench_put(b, &run, sizeof run, &a->runs, err);
}

/* Halves of +-[0.5, 1) are codes and scales as well. */
static status make_prompt(bench *b, prompt_work *w, size_t cache_bytes, error *err) {
    const size_t floats = (size_t)w->rows * ROW_FLOATS;
    const size_t words = (size_t)3 * w->rows + w->tokens / CK_KV_BLOCK_TOKENS;
    cuda_arena_close(&b->arena);
    TRY(cuda_arena_open(&b->arena, &b->card->dev, "prompt attention",
                        cache_bytes + 2 * floats * sizeof(float) + words * sizeof(uint32_t) +
                            10 * (size_t)CUDA_ALIGN_BYTES,
                        err));
    TRY(bench_take(b, cache_bytes, &bench_f16, &w->args.kv.blocks, err));
    TRY(put_rows(b, w, err));
    TRY(bench_take(b, floats * sizeof(float), &bench_f32, &w->args.q, err));
    return bench_take_out(b, floats, &w->args.out, err);
}

/* Pairs of a row and a token that it sees: a multiplication and an addition for each element of
 * its key and of its value. */
static uint64_t ops_of(const prompt_work *w) {
    const uint64_t last = w->tokens, first = w->tokens - w->rows;
    return (last * (last + 1) - first * (first + 1)) / 2 * ROW_FLOATS * 4;
}

static status bench_one(bench *b, dtype type, uint32_t tokens, error *err) {
    const kv_layout layout = {.type = type,
                              .layers = 1,
                              .kv_heads = KV_HEADS,
                              .key_dim = HEAD_DIM,
                              .value_dim = HEAD_DIM};
    prompt_work w = {.rows = num_max_u32(ROWS / b->scale, CK_PROMPT_QUERIES)};
    char kernel[CUDA_ATTENTION_NAME_BYTES];
    w.tokens = num_max_u32(tokens / b->scale / CK_KV_BLOCK_TOKENS * CK_KV_BLOCK_TOKENS, w.rows);
    const size_t cache_bytes = w.tokens / CK_KV_BLOCK_TOKENS * kv_block_bytes(&layout);
    w.args = (k_attention_args){.kv = {.block_bytes = kv_block_bytes(&layout),
                                       .table_stride = w.tokens / CK_KV_BLOCK_TOKENS,
                                       .type = type == DTYPE_Q8_0 ? CK_KV_Q8 : CK_KV_F16,
                                       .kv_heads = KV_HEADS,
                                       .key_dim = HEAD_DIM,
                                       .value_dim = HEAD_DIM},
                                .heads = HEADS,
                                .scale = 0.088388348f}; /* 1 / sqrt(128) */
    cuda_prompt_name(&w.args, kernel);
    w.grid = (card_grid){cuda_prompt_tiles(w.rows, 1, HEADS / KV_HEADS), KV_HEADS,
                         CK_PROMPT_THREADS, cuda_prompt_shared_bytes(HEAD_DIM, HEAD_DIM, false)};
    bench_case c = {.kernel = kernel,
                    .bytes = cache_bytes + (uint64_t)w.rows * ROW_FLOATS * 2 * sizeof(float),
                    .ops = ops_of(&w),
                    .launches = bench_launches(b, 1),
                    .work = &w,
                    .launch = launch_prompt};
    (void)snprintf(c.name, sizeof c.name, "prompt attention %s, %u rows, context %u",
                   type == DTYPE_Q8_0 ? "q8" : "f16", w.rows, w.tokens);
    if (!bench_wants(b, c.name)) return OK;
    TRY(card_find(b->card, c.kernel, &w.kernel, err));
    TRY(make_prompt(b, &w, cache_bytes, err));
    TRY(bench_run(b, &c, err));
    return bench_check_out(b, c.name, w.args.out, (size_t)w.rows * ROW_FLOATS, err);
}

status bench_prompt_attention(bench *b, error *err) {
    for (uint32_t tokens = ROWS; tokens <= 8192; tokens *= 16) {
        TRY(bench_one(b, DTYPE_F16, tokens, err));
        TRY(bench_one(b, DTYPE_Q8_0, tokens, err));
    }
    return OK;
}
