/* bench_tokens.c - see bench_tokens.h.  Rows are as wide as the vocabulary of Llama 3. */
#include "gpu/bench_tokens.h"

#include <stdio.h>

#include "abi.h"
#include "base/num.h"
#include "tensor/sample.h"

enum { TOKENS = 128256, ROWS_MAX = 4, SAID_WORDS = sizeof(sample_logprobs) / sizeof(uint32_t) };

typedef struct tokens_work {
    card_kernel kernel;
    card_grid grid;
    uint32_t rows, cols;
    uint32_t copies;
    uint64_t copy_bytes; /* from one step's logits to the next one's */
    k_argmax_args largest;
    k_logprobs_args said;
} tokens_work;

static tokens_work work_of(const bench *b, uint32_t rows) {
    const uint32_t cols = num_max_u32(TOKENS / b->scale, CK_ARGMAX_COLS);
    tokens_work w = {
        .rows = rows, .cols = cols, .copy_bytes = (uint64_t)rows * cols * sizeof(float)};
    w.copies = bench_copies(b, w.copy_bytes);
    return w;
}

/* An arena with logits in it, and `more` bytes. */
static status open_logits(bench *b, const tokens_work *w, const char *name, size_t more,
                          uint64_t *x, error *err) {
    const size_t bytes = w->copies * w->copy_bytes;
    cuda_arena_close(&b->arena);
    TRY(cuda_arena_open(&b->arena, &b->card->dev, name, bytes + more + 8 * (size_t)CUDA_ALIGN_BYTES,
                        err));
    return bench_take(b, bytes, &bench_f32, x, err);
}

static bench_case case_of(const bench *b, tokens_work *w, const char *kernel,
                          void (*launch)(bench *, void *, uint32_t)) {
    return (bench_case){.kernel = kernel,
                        .bytes = w->copy_bytes,
                        .launches = bench_launches(b, w->copies),
                        .work = w,
                        .launch = launch};
}

/* --- the largest -------------------- */

static void launch_argmax(bench *b, void *work, uint32_t i) {
    const tokens_work *w = work;
    k_argmax_args a = w->largest;
    a.x += i % w->copies * w->copy_bytes;
    card_launch(b->card, &w->kernel, w->grid, &a, sizeof a);
}

static status make_argmax(bench *b, tokens_work *w, error *err) {
    static const uint32_t none[ROWS_MAX];
    k_argmax_args *a = &w->largest;
    const size_t parts_bytes = (size_t)w->rows * w->grid.x * sizeof(uint64_t);
    a->cols = w->cols;
    TRY(open_logits(b, w, "argmax", parts_bytes, &a->x, err));
    TRY(bench_reserve(b, parts_bytes, &a->parts, err));
    TRY(bench_put(b, none, w->rows * sizeof *none, &a->tickets, err));
    TRY(bench_put(b, &w->rows, sizeof w->rows, &a->count, err));
    return bench_take_out(b, w->rows, &a->out, err);
}

static status bench_argmax(bench *b, uint32_t rows, error *err) {
    tokens_work w = work_of(b, rows);
    bench_case c = case_of(b, &w, "k_argmax", launch_argmax);
    w.grid = (card_grid){num_div_up_u32(w.cols, CK_ARGMAX_COLS), rows, 256, 0};
    (void)snprintf(c.name, sizeof c.name, "argmax [%u, %u]", rows, w.cols);
    if (!bench_wants(b, c.name)) return OK;
    TRY(card_find(b->card, c.kernel, &w.kernel, err));
    TRY(make_argmax(b, &w, err));
    TRY(bench_run(b, &c, err));
    return bench_check_out(b, c.name, w.largest.out, rows, err);
}

/* --- log-probabilities -------------------- */

static void launch_logprobs(bench *b, void *work, uint32_t i) {
    const tokens_work *w = work;
    k_logprobs_args a = w->said;
    a.x += i % w->copies * w->copy_bytes;
    card_launch(b->card, &w->kernel, w->grid, &a, sizeof a);
}

static status make_logprobs(bench *b, tokens_work *w, error *err) {
    sample_rule rules[ROWS_MAX];
    uint32_t drawn[ROWS_MAX];
    k_logprobs_args *a = &w->said;
    for (uint32_t r = 0; r < ROWS_MAX; r++) {
        rules[r] = (sample_rule){.wanted = 1, .logprobs = 1 + SAMPLE_TOP_MAX};
        drawn[r] = r;
    }
    a->cols = w->cols;
    TRY(open_logits(b, w, "logprobs", 0, &a->x, err));
    TRY(bench_put(b, rules, w->rows * sizeof *rules, &a->rules, err));
    TRY(bench_put(b, drawn, w->rows * sizeof *drawn, &a->drawn, err));
    TRY(bench_put(b, &w->rows, sizeof w->rows, &a->count, err));
    return bench_take_out(b, (size_t)w->rows * SAID_WORDS, &a->out, err);
}

static status bench_logprobs(bench *b, uint32_t rows, error *err) {
    tokens_work w = work_of(b, rows);
    bench_case c = case_of(b, &w, "k_logprobs", launch_logprobs);
    w.grid = (card_grid){rows, 1, 1024, 0};
    (void)snprintf(c.name, sizeof c.name, "logprobs [%u, %u] top %u", rows, w.cols, SAMPLE_TOP_MAX);
    if (!bench_wants(b, c.name)) return OK;
    TRY(card_find(b->card, c.kernel, &w.kernel, err));
    TRY(make_logprobs(b, &w, err));
    TRY(bench_run(b, &c, err));
    return bench_check_out(b, c.name, w.said.out, (size_t)rows * SAID_WORDS, err);
}

/* --- all -------------------- */

status bench_tokens(bench *b, error *err) {
    TRY(bench_argmax(b, 1, err));
    TRY(bench_argmax(b, ROWS_MAX, err));
    TRY(bench_logprobs(b, 1, err));
    return bench_logprobs(b, ROWS_MAX, err);
}
