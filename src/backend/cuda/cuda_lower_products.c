/* cuda_lower_products.c - products with weights, and the norms and sums around them.
 *
 * What is fused must not be seen: a result is written where, and not before, the ops themselves
 * would have written it.  Ops next to each other share a launch only if the memory of a later one's
 * result is neither read nor written by other blocks of that launch: the program may have put it
 * where something lay that is dead by then. */
#include "backend/cuda/cuda_experts.h"
#include "backend/cuda/cuda_lower_kernels.h"
#include "base/assert.h"

enum { NORM_SHARED_MAX = 40 << 10 }; /* bytes: what every card allows without being asked */

/* --- norms -------------------- */

/* x [+ add], whose sum goes to `sum` if that is a value. */
static status emit_norm(lowering *w, uint32_t op_idx, value_id x, value_id add, value_id sum,
                        error *err) {
    const op *o = &w->p->ops[op_idx];
    const op_norm *n = &o->norm;
    const uint32_t cols = w->p->values[o->out].cols;
    const lower_result to = lower_result_of(w, o->out);
    const bool fits = cols * sizeof(float) <= NORM_SHARED_MAX;
    k_norm_args a = {.x = lower_value(w, x),
                     .add = lower_value(w, add),
                     .sum = lower_value(w, sum),
                     .gain = lower_floats(w, n->gain, n->gain_len),
                     .bias = lower_floats(w, n->bias, n->gain_len),
                     .out = to.floats,
                     .codes = to.codes,
                     .sums = to.sums,
                     .count = lower_count(w, lower_rows(w, o)),
                     .cols = cols,
                     .group = n->group,
                     .gain_len = n->gain_len,
                     .kind = n->kind,
                     .eps = n->eps,
                     .in_shared = fits};
    cuda_launch_entry e = {.kernel = CUDA_k_norm,
                           .many = CUDA_k_norm,
                           .rows = lower_rows(w, o),
                           .shared_bytes = fits ? cols * (uint32_t)sizeof(float) : 0};
    return LOWER_EMIT(w, &e, &a, err);
}

status lower_norm(lowering *w, uint32_t op_idx, error *err) {
    return emit_norm(w, op_idx, w->p->ops[op_idx].in[0], VALUE_NONE, VALUE_NONE, err);
}

/* Of a block that has a row to itself: its result may lie on the row of a summand, and the kernel
 * allows that for x. */
static bool norm_may_add(const lowering *w, const op *add, const op *norm) {
    return add->in[0] != add->in[1] && lower_apart_or_same(w, norm->out, add->in[0]) &&
           lower_apart_or_same(w, norm->out, add->in[1]) && !lower_overlap(w, norm->out, add->out);
}

/* A sum, and the norm of it when that comes next. */
status lower_add(lowering *w, uint32_t op_idx, error *err) {
    const program *p = w->p;
    const op *o = &p->ops[op_idx];
    const op *next = op_idx + 1 < p->ops_count ? &p->ops[op_idx + 1] : NULL;
    if (next == NULL || next->kind != OP_NORM || next->in[0] != o->out) {
        return lower_binary(w, op_idx, err);
    }
    const bool alone = p->values[o->out].op_end == op_idx + 1;
    if (!norm_may_add(w, o, next)) return lower_binary(w, op_idx, err);
    const bool on_second = lower_overlap(w, next->out, o->in[1]);
    w->done[op_idx + 1] = LOWER_FUSED;
    return emit_norm(w, op_idx + 1, o->in[on_second ? 1 : 0], o->in[on_second ? 0 : 1],
                     alone ? VALUE_NONE : o->out, err);
}

/* --- products -------------------- */

/* The operand of a product: its codes, made now if they are not there, or the value itself. */
typedef struct operand {
    cu_ptr x, sums;
    cu_ptr one_x, one_sums; /* in a step of one row */
} operand;

static status emit_quantize(lowering *w, value_id v, bool pairs, error *err) {
    const value *d = &w->p->values[v];
    ASSERT(!w->only_codes[v]);
    enum { COLS_PER_BLOCK = 1024 };
    k_quantize_args a = {.x = lower_value(w, v),
                         .codes = w->bases.workspace + w->l->codes_at,
                         .sums = w->bases.workspace + w->l->sums_at,
                         .count = lower_count(w, d->rows),
                         .cols = d->cols,
                         .pairs = pairs};
    cuda_launch_entry e = {.kernel = CUDA_k_quantize,
                           .many = CUDA_k_quantize,
                           .grid = CUDA_GRID_ROWS_Y,
                           .rows = d->rows,
                           .width = lower_blocks(d->cols, COLS_PER_BLOCK)};
    w->codes_of = pairs ? VALUE_NONE : v;
    w->gated = VALUE_NONE;
    return LOWER_EMIT(w, &e, &a, err);
}

static status take_operand(lowering *w, uint32_t op_idx, operand *out, error *err) {
    const value_id v = w->p->ops[op_idx].in[0];
    const bool pairs = cuda_in_pairs(w->l, op_idx);
    if (!lower_reads_codes(w, op_idx) && !pairs) {
        *out = (operand){.x = lower_value(w, v), .one_x = lower_value(w, v)};
        return OK;
    }
    if (w->codes_of != v || pairs) TRY(emit_quantize(w, v, pairs, err));
    const bool gated = w->gated == v;
    const cu_ptr base = w->bases.workspace;
    *out = (operand){.x = base + w->l->codes_at,
                     .sums = base + w->l->sums_at,
                     .one_x = base + (gated ? w->l->gated_codes_at : w->l->codes_at),
                     .one_sums = base + (gated ? w->l->gated_sums_at : w->l->sums_at)};
    return OK;
}

/* The sum that this product may be written as, if its memory is read by no other blocks. */
static const op *sum_of_product(const lowering *w, uint32_t op_idx) {
    const op *o = &w->p->ops[op_idx], *add = lower_only_reader(w, op_idx, OP_ADD);
    if (add == NULL || add->in[0] == add->in[1]) return NULL;
    const value_id other = add->in[add->in[0] == o->out ? 1 : 0];
    if (!lower_apart_or_same(w, add->out, other)) return NULL;
    if (!lower_reads_codes(w, op_idx) && lower_overlap(w, add->out, o->in[0])) return NULL;
    return add;
}

/* --- products with more rows than a few -------------------- */

/* Blocks along w are the grid's second dimension; a matrix with more of them than that can have,
 * which takes a million rows, stays with the other kernels. */
static void add_skinny(const lowering *w, uint32_t op_idx, uint32_t count, cuda_launch_entry *e) {
    enum { GRID_Y_MAX = 65535 };
    const bool pairs = cuda_in_pairs(w->l, op_idx), halves = lower_in_halves(w, op_idx);
    const skinny_kernels k = lower_skinny_kernels(w, op_idx);
    uint32_t tiles = 0;
    if (k.w_rows == 0) return;
    for (uint32_t i = 0; i < count; i++)
        tiles += lower_blocks(w->p->ops[op_idx + i].w.rows, k.w_rows);
    e->skinny = count > 1 ? k.together : pairs ? k.pairs : k.one;
    e->skinny_tiles = tiles <= GRID_Y_MAX ? tiles : 0;
    e->skinny_rows = pairs ? CK_SKINNY_X / 2 : CK_SKINNY_X;
    e->skinny_from = pairs ? CUDA_SKINNY_FROM_PAIRS : CUDA_SKINNY_FROM;
    if (!halves) return;
    e->skinny_rows = CK_HALVES_CROWD;
    e->skinny_from = CK_HALVES_X + 1;
}

/* --- products with the rows of prompts -------------------- */

/* Do the rows of prompts have a kernel of their own in this product?  Only whole batches have any:
 * rows that are taken are few. */
static bool has_prompts(const lowering *w, uint32_t op_idx) {
    return w->prompts.on != NULL && lower_rows(w, &w->p->ops[op_idx]) == ROWS_ALL &&
           lower_prompt_kernels(w, op_idx).there;
}

/* Blocks along the rows of w of all these products. */
static uint32_t prompt_tiles(const lowering *w, uint32_t op_idx, uint32_t count) {
    uint32_t tiles = 0;
    for (uint32_t i = 0; i < count; i++)
        tiles += lower_blocks(w->p->ops[op_idx + i].w.rows, CK_GEMM_TILE);
    return tiles;
}

static void add_prompts(const lowering *w, uint32_t op_idx, uint32_t count, cuda_launch_entry *e) {
    if (!has_prompts(w, op_idx)) return;
    const prompt_kernels k = lower_prompt_kernels(w, op_idx);
    e->prompt = count > 1 ? k.together : k.one;
    e->prompt_tiles = prompt_tiles(w, op_idx, count);
}

/* --- launches of products -------------------- */

static uint32_t product_width(product_kernels k, uint32_t rows) {
    return lower_blocks(rows, k.w_rows > 0 ? k.w_rows : CK_GEMV_BLOCK_ROWS);
}

static cuda_launch_entry product_entry(const lowering *w, uint32_t op_idx, product_kernels k) {
    const op *o = &w->p->ops[op_idx];
    return (cuda_launch_entry){.kernel = k.one,
                               .many = k.many,
                               .many_rows = k.many_rows,
                               .grid = CUDA_GRID_ROWS_Y,
                               .rows = lower_rows(w, o),
                               .width = product_width(k, o->w.rows)};
}

static k_gemv_args product_args(const lowering *w, uint32_t op_idx, operand in) {
    const op *o = &w->p->ops[op_idx];
    return (k_gemv_args){.w = lower_matrix(w, op_idx),
                         .x = in.x,
                         .sums = in.sums,
                         .bias = lower_floats(w, o->row, o->w.rows),
                         .out = lower_value(w, o->out),
                         .count = has_prompts(w, op_idx) ? lower_count_generated(w)
                                                         : lower_count(w, lower_rows(w, o)),
                         .out_stride = o->w.rows};
}

/* May the MATMUL behind these `count` ones share their launch?  All read the same, with weights of
 * one form; none writes where another does, nor what they read. */
static bool may_join(const lowering *w, uint32_t op_idx, uint32_t count) {
    const program *p = w->p;
    const uint32_t idx = op_idx + count;
    const value_id x = p->ops[op_idx].in[0];
    if (idx >= p->ops_count || p->ops[idx].kind != OP_MATMUL || p->ops[idx].in[0] != x)
        return false;
    if (cuda_weight_of(w->l, idx)->form != cuda_weight_of(w->l, op_idx)->form) return false;
    if (sum_of_product(w, idx) != NULL) return false;
    for (uint32_t i = op_idx; i < idx; i++)
        if (lower_overlap(w, p->ops[i].out, p->ops[idx].out)) return false;
    return lower_reads_codes(w, idx) || !lower_overlap(w, p->ops[idx].out, x);
}

/* How many MATMULs from this one on are one launch: q, k and v; gate and up. */
static uint32_t products_together(const lowering *w, uint32_t op_idx) {
    uint32_t count = 1;
    if (cuda_in_pairs(w->l, op_idx)) return 1;
    while (count < CK_GEMVS_MAX && may_join(w, op_idx, count)) count++;
    return count;
}

/* The products next to each other from this one on, with the sum of a single one. */
static cuda_launch_entry describe_products(lowering *w, uint32_t op_idx, uint32_t count, operand in,
                                           const op *add, k_gemvs_args *out) {
    const op *o = &w->p->ops[op_idx];
    const product_kernels k = lower_product_kernels(w, op_idx, count);
    cuda_launch_entry e = product_entry(w, op_idx, k);
    *out = (k_gemvs_args){.of = {product_args(w, op_idx, in)}};
    for (uint32_t i = 1; i < count; i++) {
        out->of[i] = product_args(w, op_idx + i, in);
        e.width += product_width(k, w->p->ops[op_idx + i].w.rows);
        w->done[op_idx + i] = LOWER_FUSED;
    }
    add_skinny(w, op_idx, count, &e);
    add_prompts(w, op_idx, count, &e);
    if (add != NULL) {
        out->of[0].out = lower_value(w, add->out);
        out->of[0].add = lower_value(w, add->in[add->in[0] == o->out ? 1 : 0]);
        w->done[op_idx + 1] = LOWER_FUSED;
    }
    return e;
}

static status emit_products(lowering *w, const cuda_launch_entry *e, const k_gemvs_args *a,
                            uint32_t count, error *err) {
    return count > 1 ? LOWER_EMIT(w, e, a, err) : LOWER_EMIT(w, e, &a->of[0], err);
}

status lower_matmul(lowering *w, uint32_t op_idx, error *err) {
    const uint32_t count = products_together(w, op_idx);
    const op *add = count > 1 ? NULL : sum_of_product(w, op_idx);
    operand in = {0};
    lower_tail tail;
    k_gemvs_args a;
    TRY(lower_shrink(w, op_idx, count, err));
    TRY(take_operand(w, op_idx, &in, err));
    const bool goes_on = !w->adapters && lower_find_tail(w, op_idx, count, add, &tail);
    const bool twice = goes_on || in.one_x != in.x;
    cuda_launch_entry e = describe_products(w, op_idx, count, in, add, &a);
    e.when = twice ? CUDA_FOR_MANY_ROWS : CUDA_ALWAYS;
    TRY(emit_products(w, &e, &a, count, err));
    if (!twice) return lower_expand(w, op_idx, count, add, err);
    ASSERT(!w->adapters); /* nobody has left codes of one row elsewhere */
    for (uint32_t i = 0; i < count; i++) {
        a.of[i].x = in.one_x;
        a.of[i].sums = in.one_sums;
    }
    e.when = CUDA_FOR_ONE_ROW;
    e.prompt_tiles = e.skinny_tiles = 0; /* the row is none of a prompt then, and alone */
    if (!goes_on) return emit_products(w, &e, &a, count, err);
    return lower_emit_tail(w, op_idx, &tail, &e, a.of, err);
}

/* --- experts -------------------- */

/* The count of rows that k_experts_* are for. */
static cu_ptr count_of_experts(const lowering *w, uint32_t op_idx) {
    if (has_prompts(w, op_idx)) return lower_count_generated(w);
    return lower_count(w, lower_rows(w, &w->p->ops[op_idx]));
}

static k_group_args group_args(const lowering *w, uint32_t op_idx, const cuda_groups *g,
                               uint32_t tile) {
    const op *o = &w->p->ops[op_idx];
    const cu_ptr base = w->bases.workspace;
    return (k_group_args){.routed = lower_value(w, o->in[1]),
                          .pairs = base + g->pairs_at,
                          .tiles = base + g->tiles_at,
                          .tiles_count = base + g->tiles_count_at,
                          .experts = o->experts.experts,
                          .used = o->experts.used,
                          .tile = tile};
}

static cuda_launch_entry group_entry(const lowering *w, uint32_t op_idx, cuda_when when) {
    const op *o = &w->p->ops[op_idx];
    return (cuda_launch_entry){.kernel = CUDA_k_group,
                               .many = CUDA_k_group,
                               .grid = CUDA_GRID_ROWS_Y,
                               .when = when,
                               .rows = lower_rows(w, o),
                               .width = o->experts.experts};
}

/* The pairs of the rows of prompts by expert, unless they lie there already. */
static status emit_groups(lowering *w, uint32_t op_idx, error *err) {
    const op *o = &w->p->ops[op_idx];
    if (w->grouped == o->in[1]) return OK;
    w->grouped = o->in[1];
    k_group_args a = group_args(w, op_idx, &w->l->groups, CK_GEMM_TILE);
    a.first = lower_count_generated(w);
    a.end = lower_count(w, ROWS_ALL);
    const cuda_launch_entry e = group_entry(w, op_idx, CUDA_WHEN_PROMPTS);
    return LOWER_EMIT(w, &e, &a, err);
}

/* Those of the other rows, likewise. */
static status emit_few_groups(lowering *w, uint32_t op_idx, uint32_t tile, error *err) {
    const op *o = &w->p->ops[op_idx];
    if (w->few_grouped == o->in[1] && w->few_tile == tile) return OK;
    w->few_grouped = o->in[1];
    w->few_tile = tile;
    k_group_args a = group_args(w, op_idx, &w->l->few_groups, tile);
    a.end = count_of_experts(w, op_idx);
    cuda_launch_entry e = group_entry(w, op_idx, CUDA_WHEN_CROWDED);
    e.skinny_from = cuda_few_from(o->experts.experts, o->experts.used);
    e.no_prompts = has_prompts(w, op_idx);
    return LOWER_EMIT(w, &e, &a, err);
}

static k_experts_args experts_args(const lowering *w, uint32_t op_idx, operand in) {
    const op *o = &w->p->ops[op_idx];
    const op_experts *x = &o->experts;
    const cuda_groups *g = &w->l->groups, *few = &w->l->few_groups;
    const cu_ptr base = w->bases.workspace;
    const uint32_t rows = x->w[0].rows;
    return (k_experts_args){.experts = base + cuda_matrices_at(w->l, op_idx),
                            .routed = lower_value(w, o->in[1]),
                            .x = in.x,
                            .sums = in.sums,
                            .bias = lower_floats(w, x->bias, (uint64_t)x->experts * rows),
                            .out = lower_value(w, o->out),
                            .count = count_of_experts(w, op_idx),
                            .pairs = base + g->pairs_at,
                            .tiles = base + g->tiles_at,
                            .tiles_count = base + g->tiles_count_at,
                            .few_pairs = base + few->pairs_at,
                            .few_tiles = base + few->tiles_at,
                            .few_tiles_count = base + few->tiles_count_at,
                            .w_rows = rows,
                            .cols = x->w[0].cols,
                            .used = x->used,
                            .shared_in = x->shared_in};
}

/* All pairs of an expert together, where rows are many. */
static status add_few_groups(lowering *w, uint32_t op_idx, cuda_launch_entry *e, error *err) {
    const op *o = &w->p->ops[op_idx];
    const ck_form form = cuda_weight_of(w->l, op_idx)->form;
    const bool halves = lower_in_halves(w, op_idx);
    const skinny_kernels k = lower_skinny_kernels(w, op_idx);
    if (k.w_rows == 0) return OK;
    e->skinny = k.experts;
    e->skinny_tiles = lower_blocks(o->experts.w[0].rows, halves ? CK_HALVES_ROWS : k.w_rows);
    e->skinny_rows = cuda_few_tile(form);
    e->skinny_from = cuda_few_from(o->experts.experts, o->experts.used);
    e->skinny_experts = o->experts.experts;
    return emit_few_groups(w, op_idx, e->skinny_rows, err);
}

status lower_experts(lowering *w, uint32_t op_idx, error *err) {
    const op *o = &w->p->ops[op_idx];
    const uint32_t rows = o->experts.w[0].rows;
    operand in = {0};
    TRY(take_operand(w, op_idx, &in, err));
    k_experts_args a = experts_args(w, op_idx, in);
    const product_kernels k = lower_experts_kernels(w, op_idx);
    cuda_launch_entry e = {.kernel = k.one,
                           .many = k.many,
                           .grid = CUDA_GRID_ROWS_Y,
                           .rows = lower_rows(w, o),
                           .width = product_width(k, rows),
                           .per_row = o->experts.used};
    TRY(add_few_groups(w, op_idx, &e, err));
    if (has_prompts(w, op_idx)) {
        TRY(emit_groups(w, op_idx, err));
        e.prompt = lower_prompt_kernels(w, op_idx).experts;
        e.prompt_tiles = lower_blocks(rows, CK_GEMM_TILE);
        e.prompt_experts = o->experts.experts;
    }
    return LOWER_EMIT(w, &e, &a, err);
}
