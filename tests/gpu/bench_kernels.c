/* bench_kernels.c - what is measured: copies, launches, products, attention, norms; experts in
 * bench_experts.c, what makes tokens of logits in bench_tokens.c.
 *
 * Sizes are those of Llama 3 8B (Grattafiori et al. 2024): rows of 4096, feed-forward of 14336,
 * 128256 tokens, 32 heads of 128 over 8 heads of keys and values.  The data of a case is an arena
 * of its own. */
#include <stdio.h>
#include <string.h>

#include "backend/batch.h"
#include "backend/cuda/cuda_attention.h"
#include "backend/cuda/cuda_planar.h"
#include "base/num.h"
#include "base/os.h"
#include "gpu/bench_experts.h"
#include "gpu/bench_forms.h"
#include "gpu/bench_tokens.h"

enum {
    DIM = 4096,
    FFN = 14336,
    TOKENS = 128256,
    HEADS = 32,
    KV_HEADS = 8,
    HEAD_DIM = 128,
    PROMPT = 512
};

/* n / scale, but not less than least. */
static uint32_t scaled(const bench *b, uint32_t n, uint32_t least) {
    return num_max_u32(n / b->scale, least);
}

static status open_arena(bench *b, const char *name, size_t bytes, error *err) {
    cuda_arena_close(&b->arena);
    return cuda_arena_open(&b->arena, &b->card->dev, name, bytes, err);
}

/* --- copies: the yardstick -------------------- */

typedef struct copy_work {
    uint64_t from, to;
    size_t bytes;
} copy_work;

static void launch_copy(bench *b, void *work, uint32_t i) {
    const copy_work *w = work;
    (void)i;
    (void)cuda_copy(&b->card->dev, b->card->dev.compute, w->to, w->from, w->bytes);
}

static status bench_copy(bench *b, error *err) {
    uint64_t free_bytes = 0, all = 0;
    TRY(cuda_device_memory(&b->card->dev, &free_bytes, &all, err));
    const uint64_t most = (UINT64_C(1) << 30) / b->scale;
    copy_work w = {.bytes =
                       num_min_u64(free_bytes / 4, most) / CUDA_ALIGN_BYTES * CUDA_ALIGN_BYTES};
    TRY(open_arena(b, "copy", 2 * w.bytes, err));
    TRY(bench_take(b, w.bytes, &bench_any, &w.from, err));
    TRY(bench_take(b, w.bytes, &bench_any, &w.to, err));
    const bench_case c = {.name = "copy",
                          .kernel = "",
                          .bytes = 2 * w.bytes,
                          .launches = 2,
                          .work = &w,
                          .launch = launch_copy};
    return bench_run(b, &c, err);
}

/* --- launches -------------------- */

/* A kernel that finds that it has nothing to do. */
typedef struct idle_work {
    card_kernel kernel;
    k_take_rows_args args;
} idle_work;

static void launch_idle(bench *b, void *work, uint32_t i) {
    const idle_work *w = work;
    (void)i;
    card_launch(b->card, &w->kernel, (card_grid){1, 1, 256, 0}, &w->args, sizeof w->args);
}

/* From the launch to the end of waiting for it, as a program sees it: the shortest of some. */
static status time_waiting(bench *b, idle_work *w, double *us, error *err) {
    *us = 1e9;
    for (uint32_t i = 0; i < b->repeats; i++) {
        const uint64_t start_ns = os_now_ns();
        launch_idle(b, w, i);
        TRY(cuda_sync(&b->card->dev, err));
        const double now = (double)(os_now_ns() - start_ns) * 1e-3;
        if (now < *us) *us = now;
    }
    return OK;
}

static status bench_launches_alone(bench *b, error *err) {
    static const uint32_t none[4];
    idle_work w = {.args = {.cols = 1}};
    double us = 0;
    TRY(open_arena(b, "launch", CUDA_ALIGN_BYTES, err));
    TRY(bench_put(b, none, sizeof none, &w.args.count, err));
    TRY(card_find(b->card, "k_take_rows", &w.kernel, err));
    const bench_case c = {.name = "launch, one after the other",
                          .kernel = w.kernel.name,
                          .launches = b->scale > 1 ? 8 : 256,
                          .work = &w,
                          .launch = launch_idle,
                          .chain = true};
    TRY(bench_run(b, &c, err));
    TRY(time_waiting(b, &w, &us, err));
    bench_say_us("launch, and waiting for it", us);
    return OK;
}

/* --- products -------------------- */

typedef struct gemv_work {
    card_kernel kernel;
    card_grid grid;
    k_gemv_args args;
    uint32_t copies;
    uint64_t copy_bytes; /* from one copy of the weights to the next */
    uint64_t bytes;      /* of weights, x and out */
    bool of_prompt;      /* k_gemm_* */
    uint32_t skinny;     /* k_gemv_*_n16: rows of w to a block; else 0 */
    bool parts;          /* k_gemv_*_m8, and from CK_HALVES_X + 1 rows on _m32 */
    size_t out_floats;
} gemv_work;

static void launch_gemv(bench *b, void *work, uint32_t i) {
    const gemv_work *w = work;
    k_gemv_args a = w->args;
    for (uint32_t p = 0; p < CK_PLANES_MAX; p++) a.w.plane[p] += i % w->copies * w->copy_bytes;
    card_launch(b->card, &w->kernel, w->grid, &a, sizeof a);
}

/* The rows of the matrix as two, in one launch: gate and up. */
static void launch_halves(bench *b, void *work, uint32_t i) {
    const gemv_work *w = work;
    const uint32_t rows = w->args.w.rows / 2;
    uint64_t row_bytes[CK_PLANES_MAX];
    cuda_planar_row_bytes((ck_form)w->args.w.form, w->args.w.cols, row_bytes);
    k_gemvs_args a = {.of = {w->args, w->args}};
    for (uint32_t k = 0; k < 2; k++) {
        a.of[k].w.rows = a.of[k].out_stride = rows;
        a.of[k].out += k * (w->out_floats / 2 * sizeof(float));
        for (uint32_t p = 0; p < CK_PLANES_MAX; p++)
            a.of[k].w.plane[p] += i % w->copies * w->copy_bytes + k * rows * row_bytes[p];
    }
    card_launch(b->card, &w->kernel, w->grid, &a, sizeof a);
}

/* All copies of the weights, plane by plane. */
static status take_weights(bench *b, const bench_form *f, gemv_work *w,
                           const uint64_t offsets[CK_PLANES_MAX], error *err) {
    uint64_t at = 0;
    TRY(bench_reserve(b, w->copies * w->copy_bytes, &at, err));
    for (uint32_t p = 0; p < CK_PLANES_MAX; p++) {
        const uint64_t end = p + 1 < CK_PLANES_MAX ? offsets[p + 1] : w->copy_bytes;
        w->args.w.plane[p] = at + offsets[p];
        for (uint32_t i = 0; i < w->copies && end > offsets[p]; i++)
            bench_fill(b, at + i * w->copy_bytes + offsets[p], end - offsets[p], f->planes[p]);
    }
    return OK;
}

static status take_input(bench *b, const bench_form *f, gemv_work *w, uint32_t x_rows,
                         uint64_t *bytes, error *err) {
    const uint32_t range[] = {0, x_rows}; /* of k_gemm_*; k_gemv_* count to its end */
    TRY(bench_put(b, range, sizeof range, &w->args.count, err));
    if (!w->of_prompt) w->args.count += sizeof range[0];
    return bench_take_x(b, f, x_rows, w->args.w.cols, &w->args.x, &w->args.sums, bytes, err);
}

static status make_gemv(bench *b, const bench_form *f, gemv_work *w, uint32_t x_rows, error *err) {
    uint64_t offsets[CK_PLANES_MAX], row[CK_PLANES_MAX], x_bytes = 0;
    const ck_matrix *m = &w->args.w;
    cuda_planar_row_bytes(f->form, m->cols, row);
    if (!cuda_planar_sizes(f->form, m->rows, m->cols, offsets, &w->copy_bytes))
        return error_set(err, ERR_INTERNAL, "bench: no %s of [%u, %u]", f->name, m->rows, m->cols);
    w->copies = bench_copies(b, w->copy_bytes);
    w->out_floats = (size_t)x_rows * m->rows;
    const size_t x_room = (size_t)x_rows * m->cols * sizeof(float) + CUDA_ALIGN_BYTES;
    const size_t room = w->copies * w->copy_bytes + cuda_arena_cost(w->out_floats * sizeof(float)) +
                        2 * cuda_arena_cost(x_room) + cuda_arena_cost(2 * sizeof x_rows);
    TRY(open_arena(b, f->name, room, err));
    TRY(take_weights(b, f, w, offsets, err));
    TRY(take_input(b, f, w, x_rows, &x_bytes, err));
    TRY(bench_take_out(b, w->out_floats, &w->args.out, err));
    w->bytes = x_bytes + w->out_floats * sizeof(float);
    for (uint32_t p = 0; p < CK_PLANES_MAX; p++) w->bytes += row[p] * m->rows;
    return OK;
}

enum { GEMV_MANY = 4 }; /* rows of x to a block of k_gemv_*_n4 */

static card_grid product_grid(const gemv_work *w, uint32_t x_rows) {
    const uint32_t rows = w->args.w.rows;
    if (w->of_prompt)
        return (card_grid){num_div_up_u32(x_rows, CK_GEMM_TILE), num_div_up_u32(rows, CK_GEMM_TILE),
                           CK_GEMM_THREADS, 0};
    if (w->parts && x_rows > CK_HALVES_X)
        return (card_grid){num_div_up_u32(x_rows, CK_HALVES_CROWD),
                           num_div_up_u32(rows, CK_HALVES_CROWD_ROWS), CK_SKINNY_THREADS, 0};
    if (w->parts)
        return (card_grid){num_div_up_u32(rows, CK_HALVES_ROWS),
                           num_div_up_u32(x_rows, CK_HALVES_X), CK_SKINNY_THREADS, 0};
    if (w->skinny > 0)
        return (card_grid){num_div_up_u32(x_rows, CK_SKINNY_X), num_div_up_u32(rows, w->skinny),
                           CK_SKINNY_THREADS, 0};
    return (card_grid){num_div_up_u32(rows, CK_GEMV_BLOCK_ROWS),
                       num_div_up_u32(x_rows, x_rows > 1 ? GEMV_MANY : 1), CK_GEMV_THREADS, 0};
}

/* `c` has its names and how it is launched. */
static status bench_product(bench *b, const bench_form *f, bench_case *c, gemv_work *w,
                            uint32_t x_rows, error *err) {
    if (!bench_wants(b, c->name)) return OK;
    w->args.out_stride = w->args.w.rows;
    w->grid = product_grid(w, x_rows);
    TRY(card_find(b->card, c->kernel, &w->kernel, err));
    status st = make_gemv(b, f, w, x_rows, err);
    if (st == ERR_NOMEM) {
        bench_say_why(c->name, err->msg);
        return OK;
    }
    TRY(st);
    c->work = w;
    c->bytes = w->bytes;
    c->launches = bench_launches(b, w->copies);
    c->chain = !w->of_prompt && x_rows == 1;
    TRY(bench_run(b, c, err));
    return bench_check_out(b, c->name, w->args.out, w->out_floats, err);
}

static status bench_gemv(bench *b, const bench_form *f, uint32_t rows, uint32_t cols,
                         uint32_t x_rows, error *err) {
    char kernel[32];
    gemv_work w = {
        .args = {
            .w = {.rows = scaled(b, rows, CK_GEMV_BLOCK_ROWS), .cols = cols, .form = f->form}}};
    (void)snprintf(kernel, sizeof kernel, "k_gemv_%s_n%u", f->name, x_rows > 1 ? GEMV_MANY : 1);
    bench_case c = {.kernel = kernel, .launch = launch_gemv};
    (void)snprintf(c.name, sizeof c.name, "gemv %s [%u, %u] x %u", f->name, w.args.w.rows, cols,
                   x_rows);
    return bench_product(b, f, &c, &w, x_rows, err);
}

static status bench_halves(bench *b, const bench_form *f, uint32_t rows, uint32_t cols,
                           uint32_t x_rows, error *err) {
    char kernel[32];
    rows = scaled(b, rows, CK_GEMV_BLOCK_ROWS) / CK_GEMV_BLOCK_ROWS * CK_GEMV_BLOCK_ROWS;
    gemv_work w = {.args = {.w = {.rows = 2 * rows, .cols = cols, .form = f->form}}};
    (void)snprintf(kernel, sizeof kernel, "k_gemvs_%s_n%u", f->name, x_rows);
    bench_case c = {.kernel = kernel, .launch = launch_halves};
    (void)snprintf(c.name, sizeof c.name, "gemv %s 2 x [%u, %u] x %u", f->name, rows, cols, x_rows);
    return bench_product(b, f, &c, &w, x_rows, err);
}

/* More rows than a few, on tensor cores. */
static status bench_skinny(bench *b, const bench_form *f, uint32_t rows, uint32_t cols,
                           uint32_t x_rows, error *err) {
    char kernel[32];
    const bool parts = f->form < CK_FORM_Q8_0;
    gemv_work w = {
        .args = {.w = {.rows = scaled(b, rows, CK_SKINNY_ROWS), .cols = cols, .form = f->form}},
        .parts = parts,
        .skinny = parts                     ? 0
                  : f->form == CK_FORM_Q8_0 ? CK_SKINNY_ROWS_Q8_0
                                            : CK_SKINNY_ROWS};
    (void)snprintf(kernel, sizeof kernel, "k_gemv_%s_%s", f->name,
                   !parts                 ? "n16"
                   : x_rows > CK_HALVES_X ? "m32"
                                          : "m8");
    bench_case c = {.kernel = kernel,
                    .ops = UINT64_C(2) * w.args.w.rows * cols * x_rows,
                    .launch = launch_gemv};
    (void)snprintf(c.name, sizeof c.name, "skinny %s [%u, %u] x %u", f->name, w.args.w.rows, cols,
                   x_rows);
    return bench_product(b, f, &c, &w, x_rows, err);
}

/* With the fewest rows that the program takes it for (CUDA_SKINNY_FROM, and of floats 1), with 8
 * and with 32; and by fours, which is what it is instead of. */
static status bench_skinnies(bench *b, error *err) {
    static const uint32_t shapes[][2] = {{DIM, DIM}, {FFN, DIM}};
    for (uint32_t i = 0; i < BENCH_FORMS; i++) {
        const bench_form *f = &bench_forms[i];
        const uint32_t x_rows[] = {f->form < CK_FORM_Q8_0 ? 1 : 5, 8, 32};
        for (size_t s = 0; s < 2; s++)
            for (size_t n = 0; n < 3; n++) {
                TRY(bench_skinny(b, f, shapes[s][0], shapes[s][1], x_rows[n], err));
                if (x_rows[n] > 1) /* else it is measured above */
                    TRY(bench_gemv(b, f, shapes[s][0], shapes[s][1], x_rows[n], err));
            }
    }
    return OK;
}

/* Rows of a prompt, on tensor cores. */
static status bench_gemm(bench *b, const bench_form *f, uint32_t rows, uint32_t cols, error *err) {
    char kernel[32];
    const uint32_t x_rows = scaled(b, PROMPT, CK_GEMM_TILE);
    gemv_work w = {
        .args = {.w = {.rows = scaled(b, rows, CK_GEMM_TILE), .cols = cols, .form = f->form}},
        .of_prompt = true};
    (void)snprintf(kernel, sizeof kernel, "k_gemm_%s", f->name);
    bench_case c = {.kernel = kernel,
                    .ops = UINT64_C(2) * w.args.w.rows * cols * x_rows,
                    .launch = launch_gemv};
    (void)snprintf(c.name, sizeof c.name, "gemm %s [%u, %u] x %u", f->name, w.args.w.rows, cols,
                   x_rows);
    return bench_product(b, f, &c, &w, x_rows, err);
}

static status bench_gemms(bench *b, error *err) {
    for (uint32_t f = 0; f < BENCH_FORMS; f++) {
        TRY(bench_gemm(b, &bench_forms[f], DIM, DIM, err));
        TRY(bench_gemm(b, &bench_forms[f], FFN, DIM, err));
    }
    return OK;
}

static status bench_gemvs(bench *b, error *err) {
    static const uint32_t shapes[][2] = {{DIM, DIM}, {DIM, FFN}, {FFN, DIM}, {TOKENS, DIM}};
    for (uint32_t f = 0; f < BENCH_FORMS; f++)
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
            for (uint32_t x_rows = 1; x_rows <= 4; x_rows += 3)
                TRY(bench_gemv(b, &bench_forms[f], shapes[s][0], shapes[s][1], x_rows, err));
    for (uint32_t f = 0; f < BENCH_FORMS; f++)
        for (uint32_t x_rows = 1; x_rows <= 4; x_rows += 3)
            TRY(bench_halves(b, &bench_forms[f], FFN, DIM, x_rows, err));
    return OK;
}

/* --- attention -------------------- */

typedef struct attention_work {
    card_kernel kernel;
    card_grid grid;
    k_attention_args args;
    ck_splits splits;
    uint32_t copies;
    uint64_t copy_bytes; /* from one cache to the next */
} attention_work;

static void launch_attention(bench *b, void *work, uint32_t i) {
    const attention_work *w = work;
    k_attention_args a = w->args;
    a.kv.blocks += i % w->copies * w->copy_bytes;
    card_launch(b->card, &w->kernel, w->grid, &a, sizeof a);
}

/* The blocks of one sequence, scattered: 17 is prime to powers of two. */
static status put_table(bench *b, uint32_t blocks, uint64_t *out, error *err) {
    static uint32_t table[1 << 16];
    for (uint32_t i = 0; i < blocks; i++) table[i] = i * 17 % blocks;
    return bench_put(b, table, blocks * sizeof table[0], out, err);
}

/* One row, which is shared by as many blocks as in a step of the program. */
static void share_attention(attention_work *w, uint32_t tokens, uint32_t *slot,
                            uint64_t *parts_bytes) {
    const batch_run run = {.rows = 1, .pos0 = tokens - 1};
    const batch in = {.rows = 1, .runs = &run, .runs_count = 1};
    const cuda_attention_cut cut = cuda_attention_cut_of(HEADS, KV_HEADS, HEAD_DIM, HEAD_DIM);
    k_attention_args *a = &w->args;
    cuda_attention_share(&in, 1, 1, &w->splits, slot);
    a->per_block = cut.per_block;
    a->groups = cut.groups;
    a->splits_max = cut.splits_max;
    a->parts_stride = cuda_attention_splits(&cut, tokens);
    *parts_bytes = cuda_attention_parts_bytes(&cut, HEAD_DIM, 1, a->parts_stride);
    const uint32_t blocks = 1 + cuda_attention_further(&w->splits);
    w->grid = (card_grid){cut.groups, blocks, 128, cut.shared_bytes};
}

static status put_splits(bench *b, attention_work *w, uint32_t slot, uint64_t parts_bytes,
                         error *err) {
    static const uint32_t none[KV_HEADS];
    k_attention_args *a = &w->args;
    TRY(bench_put(b, &w->splits, sizeof w->splits, &a->splits, err));
    TRY(bench_put(b, &slot, sizeof slot, &a->slots, err));
    TRY(bench_put(b, none, a->groups * sizeof *none, &a->tickets, err));
    return bench_reserve(b, parts_bytes, &a->parts, err);
}

static status make_attention(bench *b, attention_work *w, uint32_t tokens, error *err) {
    const uint32_t blocks = tokens / CK_KV_BLOCK_TOKENS, one = 1, none = 0, last = tokens - 1;
    k_attention_args *a = &w->args;
    uint32_t slot = 0;
    uint64_t parts_bytes = 0;
    share_attention(w, tokens, &slot, &parts_bytes);
    TRY(open_arena(b, "attention",
                   w->copies * w->copy_bytes + parts_bytes + 12 * (size_t)CUDA_ALIGN_BYTES +
                       blocks * sizeof(uint32_t) + (size_t)2 * HEADS * HEAD_DIM * sizeof(float),
                   err));
    TRY(put_splits(b, w, slot, parts_bytes, err));
    TRY(bench_take(b, w->copies * w->copy_bytes, &bench_f16, &a->kv.blocks, err));
    TRY(put_table(b, blocks, &a->kv.tables, err));
    TRY(bench_take(b, (size_t)HEADS * HEAD_DIM * sizeof(float), &bench_f32, &a->q, err));
    TRY(bench_put(b, &last, sizeof last, &a->pos, err));
    TRY(bench_put(b, &none, sizeof none, &a->seats, err));
    TRY(bench_put(b, &tokens, sizeof tokens, &a->seen, err));
    TRY(bench_put(b, &one, sizeof one, &a->count, err));
    return bench_take_out(b, (size_t)HEADS * HEAD_DIM, &a->out, err);
}

static status bench_attention(bench *b, uint32_t tokens, error *err) {
    static const kv_layout layout = {.type = DTYPE_F16,
                                     .layers = 1,
                                     .kv_heads = KV_HEADS,
                                     .key_dim = HEAD_DIM,
                                     .value_dim = HEAD_DIM};
    tokens = scaled(b, tokens, CK_KV_BLOCK_TOKENS) / CK_KV_BLOCK_TOKENS * CK_KV_BLOCK_TOKENS;
    attention_work w = {.copy_bytes = tokens / CK_KV_BLOCK_TOKENS * kv_block_bytes(&layout),
                        .args = {.kv = {.block_bytes = kv_block_bytes(&layout),
                                        .table_stride = tokens / CK_KV_BLOCK_TOKENS,
                                        .type = CK_KV_F16,
                                        .kv_heads = KV_HEADS,
                                        .key_dim = HEAD_DIM,
                                        .value_dim = HEAD_DIM},
                                 .heads = HEADS,
                                 .scale = 0.088388348f}}; /* 1 / sqrt(128) */
    w.copies = bench_copies(b, w.copy_bytes);
    bench_case c = {.kernel = "k_attention_f16_n4", /* 32 heads over 8 */
                    .bytes = w.copy_bytes,
                    .launches = bench_launches(b, w.copies),
                    .work = &w,
                    .launch = launch_attention};
    (void)snprintf(c.name, sizeof c.name, "attention, %u heads of %u, context %u", HEADS, HEAD_DIM,
                   tokens);
    if (!bench_wants(b, c.name)) return OK;
    TRY(card_find(b->card, c.kernel, &w.kernel, err));
    TRY(make_attention(b, &w, tokens, err));
    TRY(bench_run(b, &c, err));
    return bench_check_out(b, c.name, w.args.out, (size_t)HEADS * HEAD_DIM, err);
}

/* --- norm -------------------- */

typedef struct norm_work {
    card_kernel kernel;
    card_grid grid;
    k_norm_args args;
} norm_work;

static void launch_norm(bench *b, void *work, uint32_t i) {
    const norm_work *w = work;
    (void)i;
    card_launch(b->card, &w->kernel, w->grid, &w->args, sizeof w->args);
}

/* What stands before a product: the sum with what a layer adds, its norm, and that in 8 bits. */
static status make_norm(bench *b, norm_work *w, uint32_t rows, error *err) {
    const size_t n = (size_t)rows * DIM;
    k_norm_args *a = &w->args;
    TRY(open_arena(b, "norm", n * 16 + DIM * sizeof(float) + 8 * (size_t)CUDA_ALIGN_BYTES, err));
    TRY(bench_take(b, n * sizeof(float), &bench_f32, &a->x, err));
    TRY(bench_take(b, n * sizeof(float), &bench_f32, &a->add, err));
    TRY(bench_take(b, DIM * sizeof(float), &bench_f32, &a->gain, err));
    TRY(bench_reserve(b, n, &a->codes, err));
    TRY(bench_reserve(b, n / BENCH_SUMS_PER * sizeof(ck_sums), &a->sums, err));
    a->sum = a->x;
    return bench_put(b, &rows, sizeof rows, &a->count, err);
}

static status bench_norm(bench *b, uint32_t rows, error *err) {
    norm_work w = {
        .grid = {rows, 1, 256, DIM * sizeof(float)},
        .args = {.cols = DIM, .group = DIM, .gain_len = DIM, .eps = 1e-5f, .in_shared = 1}};
    const uint64_t n = (uint64_t)rows * DIM;
    bench_case c = {.kernel = "k_norm",
                    .bytes = n * (3 * sizeof(float) + 1) + n / BENCH_SUMS_PER * sizeof(ck_sums) +
                             DIM * sizeof(float),
                    .launches = bench_launches(b, b->scale > 1 ? 1 : 64),
                    .work = &w,
                    .launch = launch_norm};
    (void)snprintf(c.name, sizeof c.name, "add, norm and quantize [%u, %u]", rows, DIM);
    if (!bench_wants(b, c.name)) return OK;
    TRY(card_find(b->card, c.kernel, &w.kernel, err));
    TRY(make_norm(b, &w, rows, err));
    return bench_run(b, &c, err);
}

/* --- all -------------------- */

/* Copies and launches are measured always: the rest is compared with them. */
status bench_kernels(bench *b, error *err) {
    TRY(bench_copy(b, err));
    TRY(bench_launches_alone(b, err));
    TRY(bench_gemvs(b, err));
    TRY(bench_skinnies(b, err));
    TRY(bench_gemms(b, err));
    TRY(bench_experts(b, err));
    for (uint32_t tokens = 1024; tokens <= 32768; tokens *= tokens == 1024 ? 8 : 4)
        TRY(bench_attention(b, tokens, err));
    TRY(bench_prompt_attention(b, err));
    TRY(bench_norm(b, 1, err));
    TRY(bench_norm(b, 4, err));
    return bench_tokens(b, err);
}
