/* bench_prompt.c - attention of the rows of prompts, for the measurements of bench_kernels.c.
 *
 * Heads are those of Llama 3 8B (Grattafiori et al. 2024): 32 of 128 over 8 heads of keys and
 * values; and of DeepSeek V2 Lite (DeepSeek-AI 2024): 16 over one latent of 576 elements, of which
 * 512 are the value.  The rows are the last ones of a sequence, as of a prompt that is read in
 * steps. */
#include <stdio.h>

#include "backend/batch.h"
#include "backend/cuda/cuda_attention.h"
#include "base/alloc.h"
#include "base/num.h"
#include "gpu/bench.h"

enum { ROWS = 512, CONTEXT_MAX = 8192 };

typedef struct prompt_heads {
    const char *cache; /* as the row's name has it */
    kv_layout layout;
    ck_kv_type type;
    uint32_t heads;
    float scale; /* 1 / sqrt of the elements of a key before it becomes a latent */
} prompt_heads;

#define LLAMA(t) \
    { .type = DTYPE_##t, .layers = 1, .kv_heads = 8, .key_dim = 128, .value_dim = 128 }
#define LATENTS(t)                                                                       \
    {                                                                                    \
        .type = DTYPE_##t, .layers = 1, .kv_heads = 1, .key_dim = 576, .value_dim = 512, \
        .v_in_k = true                                                                   \
    }
static const prompt_heads heads_of[] = {{"f16", LLAMA(F16), CK_KV_F16, 32, 0.088388348f},
                                        {"q8", LLAMA(Q8_0), CK_KV_Q8, 32, 0.088388348f},
                                        {"q4", LLAMA(Q4_0), CK_KV_Q4, 32, 0.088388348f},
                                        {"f16 latents", LATENTS(F16), CK_KV_F16, 16, 0.072168784f}};

typedef struct prompt_work {
    const prompt_heads *of;
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

static size_t query_floats(const prompt_work *w) {
    return (size_t)w->rows * w->of->heads * w->of->layout.key_dim;
}
static size_t out_floats(const prompt_work *w) {
    return (size_t)w->rows * w->of->heads * w->of->layout.value_dim;
}

/* Halves of +-[0.5, 1) are codes and scales as well. */
static status make_prompt(bench *b, prompt_work *w, size_t cache_bytes, error *err) {
    const size_t floats = query_floats(w) + out_floats(w);
    const size_t words = (size_t)3 * w->rows + w->tokens / CK_KV_BLOCK_TOKENS;
    cuda_arena_close(&b->arena);
    TRY(cuda_arena_open(&b->arena, &b->card->dev, "prompt attention",
                        cache_bytes + floats * sizeof(float) + words * sizeof(uint32_t) +
                            10 * (size_t)CUDA_ALIGN_BYTES,
                        err));
    TRY(bench_take(b, cache_bytes, &bench_f16, &w->args.kv.blocks, err));
    TRY(put_rows(b, w, err));
    TRY(bench_take(b, query_floats(w) * sizeof(float), &bench_f32, &w->args.q, err));
    return bench_take_out(b, out_floats(w), &w->args.out, err);
}

/* Pairs of a row and a token that it sees: a multiplication and an addition for each element of
 * its key and of its value. */
static uint64_t ops_of(const prompt_work *w) {
    const uint64_t last = w->tokens, first = w->tokens - w->rows;
    const uint64_t elems = w->of->layout.key_dim + w->of->layout.value_dim;
    return (last * (last + 1) - first * (first + 1)) / 2 * w->of->heads * elems * 2;
}

static k_attention_args args_of(const prompt_work *w) {
    const kv_layout *l = &w->of->layout;
    return (k_attention_args){.kv = {.block_bytes = kv_block_bytes(l),
                                     .table_stride = w->tokens / CK_KV_BLOCK_TOKENS,
                                     .type = w->of->type,
                                     .kv_heads = l->kv_heads,
                                     .key_dim = l->key_dim,
                                     .value_dim = l->value_dim,
                                     .v_in_k = l->v_in_k},
                              .heads = w->of->heads,
                              .scale = w->of->scale};
}

static card_grid grid_of(const prompt_work *w) {
    const kv_layout *l = &w->of->layout;
    const uint32_t tile = cuda_prompt_tile_queries(l->key_dim, l->value_dim);
    return (card_grid){cuda_prompt_tiles(w->rows, 1, w->of->heads / l->kv_heads, tile), l->kv_heads,
                       tile == CK_PROMPT_WIDE_QUERIES ? CK_PROMPT_WIDE_THREADS : CK_PROMPT_THREADS,
                       cuda_prompt_shared_bytes(l->key_dim, l->value_dim, l->v_in_k)};
}

static status bench_one(bench *b, const prompt_heads *of, uint32_t tokens, error *err) {
    prompt_work w = {.of = of, .rows = num_max_u32(ROWS / b->scale, CK_PROMPT_QUERIES)};
    char kernel[CUDA_ATTENTION_NAME_BYTES];
    w.tokens = num_max_u32(tokens / b->scale / CK_KV_BLOCK_TOKENS * CK_KV_BLOCK_TOKENS, w.rows);
    w.args = args_of(&w);
    w.grid = grid_of(&w);
    cuda_prompt_name(&w.args, kernel);
    const size_t cache_bytes = w.tokens / CK_KV_BLOCK_TOKENS * kv_block_bytes(&of->layout);
    bench_case c = {.kernel = kernel,
                    .bytes = cache_bytes + (query_floats(&w) + out_floats(&w)) * sizeof(float),
                    .ops = ops_of(&w),
                    .launches = bench_launches(b, 1),
                    .work = &w,
                    .launch = launch_prompt};
    (void)snprintf(c.name, sizeof c.name, "prompt attention %s, %u rows, context %u", of->cache,
                   w.rows, w.tokens);
    if (!bench_wants(b, c.name)) return OK;
    TRY(card_find(b->card, c.kernel, &w.kernel, err));
    TRY(make_prompt(b, &w, cache_bytes, err));
    TRY(bench_run(b, &c, err));
    return bench_check_out(b, c.name, w.args.out, out_floats(&w), err);
}

status bench_prompt_attention(bench *b, error *err) {
    for (uint32_t tokens = ROWS; tokens <= CONTEXT_MAX; tokens *= 16)
        for (size_t i = 0; i < sizeof heads_of / sizeof heads_of[0]; i++)
            TRY(bench_one(b, &heads_of[i], tokens, err));
    return OK;
}
