/* bench_experts.c - what is measured of experts: their products with the rows of a prompt and with
 * some that are generated, grouped by expert, and the grouping.
 *
 * Sizes are those of Mixtral 8x7B (Jiang et al. 2024), 8 experts of which a row uses 2, and of
 * Qwen3 30B-A3B (Qwen Team 2025), 128 of which it uses 8.  All experts are used, evenly. */
#include "gpu/bench_experts.h"

#include <stdio.h>

#include "backend/cuda/cuda_experts.h"
#include "backend/cuda/cuda_planar.h"
#include "base/num.h"
#include "gpu/bench_forms.h"

enum { PROMPT = 512, FEW = 16, EXPERTS_MOST = 128, USED_MOST = 8, GROUP_THREADS = 256 };
enum { DRY_ROWS = 16, DRY_EXPERTS = 8, DRY_COLS = 512 }; /* where sizes are scaled down */

typedef struct experts_shape {
    uint32_t experts, used, w_rows, cols;
} experts_shape;

static const experts_shape mixtral = {8, 2, 14336, 4096}, qwen3 = {128, 8, 768, 2048};

typedef struct experts_work {
    card_kernel kernel, grouping;
    card_grid grid;
    k_experts_args args;
    k_group_args group;
    uint32_t rows, copies; /* of x; of all experts */
    uint64_t matrix_bytes, bytes;
    size_t out_floats;
} experts_work;

/* Never more than it is where nothing is scaled: few experts, narrow matrices. */
static uint32_t scaled_within(const bench *b, uint32_t n, uint32_t least) {
    return num_max_u32(n / b->scale, num_min_u32(n, least));
}

static experts_work work_of(const bench *b, const experts_shape *s, uint32_t rows, uint32_t tile) {
    experts_work w = {.rows = scaled_within(b, rows, DRY_ROWS)};
    w.group = (k_group_args){
        .experts = scaled_within(b, s->experts, DRY_EXPERTS), .used = s->used, .tile = tile};
    w.args = (k_experts_args){.w_rows = scaled_within(b, s->w_rows, CK_GEMM_TILE),
                              .cols = scaled_within(b, s->cols, DRY_COLS),
                              .used = s->used,
                              .shared_in = 1};
    w.out_floats = (size_t)w.rows * s->used * w.args.w_rows;
    return w;
}

static uint32_t pairs_of(const experts_work *w) { return w->rows * w->args.used; }

/* --- grouping -------------------- */

static void launch_group(bench *b, void *work, uint32_t i) {
    const experts_work *w = work;
    (void)i;
    card_launch(b->card, &w->grouping, (card_grid){w->group.experts, 1, GROUP_THREADS, 0},
                &w->group, sizeof w->group);
}

/* Neighbouring rows use different experts: 7 is prime to numbers of experts. */
static uint32_t expert_of(const experts_work *w, uint32_t row, uint32_t place) {
    return (row * 7 + place) % w->group.experts;
}

static uint32_t used_experts(const experts_work *w) {
    bool used[EXPERTS_MOST] = {false};
    uint32_t count = 0;
    for (uint32_t i = 0; i < pairs_of(w); i++) {
        bool *is_used = &used[expert_of(w, i / w->args.used, i % w->args.used)];
        count += !*is_used;
        *is_used = true;
    }
    return count;
}

static status put_routed(bench *b, const experts_work *w, uint64_t *out, error *err) {
    static float routed[PROMPT * 2 * USED_MOST];
    const uint32_t used = w->args.used;
    for (uint32_t r = 0; r < w->rows; r++)
        for (uint32_t u = 0; u < used; u++) {
            routed[(r * 2) * used + u] = (float)expert_of(w, r, u);
            routed[(r * 2 + 1) * used + u] = 1.0f / (float)used;
        }
    return bench_put(b, routed, (size_t)w->rows * 2 * used * sizeof routed[0], out, err);
}

/* What the routed choose, and room for the lists of it. */
static status make_group(bench *b, experts_work *w, error *err) {
    const uint32_t pairs = pairs_of(w);
    k_group_args *g = &w->group;
    TRY(card_find(b->card, "k_group", &w->grouping, err));
    TRY(put_routed(b, w, &g->routed, err));
    TRY(bench_put(b, &w->rows, sizeof w->rows, &g->end, err));
    TRY(bench_reserve(b, pairs * sizeof(uint32_t), &g->pairs, err));
    TRY(bench_reserve(b, cuda_tiles_max(pairs, g->experts, g->tile) * sizeof(ck_tile), &g->tiles,
                      err));
    return bench_reserve(b, sizeof(uint32_t), &g->tiles_count, err);
}

static size_t group_room(const experts_work *w) {
    const size_t pairs = pairs_of(w);
    return cuda_arena_cost(pairs * 2 * sizeof(float)) + cuda_arena_cost(pairs * sizeof(uint32_t)) +
           cuda_arena_cost((pairs + w->group.experts) * sizeof(ck_tile)) + 2 * cuda_arena_cost(8);
}

static status bench_group(bench *b, const experts_shape *s, error *err) {
    experts_work w = work_of(b, s, PROMPT, CK_GEMM_TILE);
    bench_case c = {.kernel = "k_group",
                    .bytes = (uint64_t)pairs_of(&w) * (sizeof(float) + sizeof(uint32_t)),
                    .launches = bench_launches(b, 1),
                    .work = &w,
                    .launch = launch_group};
    (void)snprintf(c.name, sizeof c.name, "group %u rows by %u of %u experts", w.rows, w.args.used,
                   w.group.experts);
    if (!bench_wants(b, c.name)) return OK;
    cuda_arena_close(&b->arena);
    TRY(cuda_arena_open(&b->arena, &b->card->dev, "groups", group_room(&w), err));
    TRY(make_group(b, &w, err));
    return bench_run(b, &c, err);
}

/* --- products -------------------- */

static void launch_experts(bench *b, void *work, uint32_t i) {
    const experts_work *w = work;
    k_experts_args a = w->args;
    a.experts += (uint64_t)(i % w->copies) * w->group.experts * sizeof(ck_matrix);
    card_launch(b->card, &w->kernel, w->grid, &a, sizeof a);
}

/* Matrices, one after the other, and the table of them. */
static status take_weights(bench *b, const bench_form *f, experts_work *w,
                           const uint64_t offsets[CK_PLANES_MAX], error *err) {
    static ck_matrix table[EXPERTS_MOST];
    const uint32_t experts = w->group.experts;
    const size_t table_bytes = experts * sizeof table[0];
    uint64_t at = 0;
    TRY(bench_reserve(b, (size_t)w->copies * experts * w->matrix_bytes, &at, err));
    TRY(bench_reserve(b, w->copies * table_bytes, &w->args.experts, err));
    for (uint32_t i = 0; i < w->copies * experts; i++, at += w->matrix_bytes) {
        ck_matrix *m = &table[i % experts];
        *m = (ck_matrix){.rows = w->args.w_rows, .cols = w->args.cols, .form = f->form};
        for (uint32_t p = 0; p < CK_PLANES_MAX; p++) {
            const uint64_t end = p + 1 < CK_PLANES_MAX ? offsets[p + 1] : w->matrix_bytes;
            m->plane[p] = at + offsets[p];
            if (end > offsets[p]) bench_fill(b, m->plane[p], end - offsets[p], f->planes[p]);
        }
        if (i % experts + 1 < experts) continue;
        const uint64_t to = w->args.experts + i / experts * table_bytes;
        (void)cuda_copy_in(&b->card->dev, b->card->dev.compute, to, table, table_bytes);
        TRY(cuda_sync(&b->card->dev, err));
    }
    return OK;
}

static status make_experts(bench *b, const bench_form *f, experts_work *w, error *err) {
    uint64_t offsets[CK_PLANES_MAX], x_bytes = 0;
    k_experts_args *a = &w->args;
    if (!cuda_planar_sizes(f->form, a->w_rows, a->cols, offsets, &w->matrix_bytes))
        return error_set(err, ERR_INTERNAL, "bench: no %s of [%u, %u]", f->name, a->w_rows,
                         a->cols);
    const uint64_t all = w->group.experts * w->matrix_bytes;
    w->copies = bench_copies(b, all);
    const size_t x_room = (size_t)w->rows * a->cols * sizeof(float);
    const size_t room = w->copies * (all + w->group.experts * sizeof(ck_matrix)) +
                        4 * CUDA_ALIGN_BYTES + cuda_arena_cost(w->out_floats * sizeof(float)) +
                        2 * cuda_arena_cost(x_room) + group_room(w);
    cuda_arena_close(&b->arena);
    TRY(cuda_arena_open(&b->arena, &b->card->dev, f->name, room, err));
    TRY(take_weights(b, f, w, offsets, err));
    TRY(bench_take_x(b, f, w->rows, a->cols, &a->x, &a->sums, &x_bytes, err));
    TRY(bench_take_out(b, w->out_floats, &a->out, err));
    TRY(make_group(b, w, err));
    a->routed = w->group.routed;
    a->pairs = a->few_pairs = w->group.pairs;
    a->tiles = a->few_tiles = w->group.tiles;
    a->tiles_count = a->few_tiles_count = w->group.tiles_count;
    w->bytes = used_experts(w) * w->matrix_bytes + x_bytes + w->out_floats * sizeof(float);
    launch_group(b, w, 0);
    return OK;
}

/* Of a prompt's rows, or of a few that were generated: tiles of so many pairs and rows of w. */
static status bench_products(bench *b, const bench_form *f, const experts_shape *s, bool few,
                             error *err) {
    char kernel[32];
    const bool parts = few && f->form < CK_FORM_Q8_0;
    const uint32_t tile = parts ? CK_HALVES_X : few ? CK_SKINNY_X : CK_GEMM_TILE;
    const uint32_t tile_rows = parts                            ? CK_HALVES_ROWS
                               : few && f->form == CK_FORM_Q8_0 ? CK_SKINNY_ROWS_Q8_0
                               : few                            ? CK_SKINNY_ROWS
                                                                : CK_GEMM_TILE;
    experts_work w = work_of(b, s, few ? FEW : PROMPT, tile);
    (void)snprintf(kernel, sizeof kernel, few ? "k_experts_%s_%s" : "k_gemm_experts_%s", f->name,
                   parts ? "m8" : "n16");
    bench_case c = {.kernel = kernel,
                    .ops = UINT64_C(2) * w.out_floats * w.args.cols,
                    .work = &w,
                    .launch = launch_experts};
    (void)snprintf(c.name, sizeof c.name, "%s %s %u x [%u, %u] x %u by %u",
                   few ? "few experts" : "experts", f->name, w.group.experts, w.args.w_rows,
                   w.args.cols, w.rows, w.args.used);
    if (!bench_wants(b, c.name)) return OK;
    w.grid = (card_grid){cuda_tiles_max(pairs_of(&w), w.group.experts, tile),
                         num_div_up_u32(w.args.w_rows, tile_rows),
                         few ? CK_SKINNY_THREADS : CK_GEMM_THREADS, 0};
    TRY(card_find(b->card, c.kernel, &w.kernel, err));
    status st = make_experts(b, f, &w, err);
    if (st == ERR_NOMEM) {
        bench_say_why(c.name, err->msg);
        return OK;
    }
    TRY(st);
    c.bytes = w.bytes;
    c.launches = bench_launches(b, w.copies);
    TRY(bench_run(b, &c, err));
    return bench_check_out(b, c.name, w.args.out, w.out_floats, err);
}

status bench_experts(bench *b, error *err) {
    TRY(bench_group(b, &mixtral, err));
    TRY(bench_group(b, &qwen3, err));
    for (uint32_t f = 0; f < BENCH_FORMS; f++) {
        for (int few = 0; few < 2; few++) {
            TRY(bench_products(b, &bench_forms[f], &mixtral, few, err));
            TRY(bench_products(b, &bench_forms[f], &qwen3, few, err));
        }
    }
    return OK;
}
