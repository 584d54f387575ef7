/* cpu_products.c - matrix products: several of one input at a time, adapters, head by head.
 *
 * Adapters.  A task before the product makes x . A^T of every row that has one, so that the
 * product's own units only add their part of (x . A^T) . B^T, use after use, to what they stored.
 * A step without adapters has no units there.  Each number is one dot of one row, whoever computes
 * it. */
#include <string.h>

#include "backend/cpu/cpu_internal.h"
#include "base/assert.h"

enum { UNITS_PER_WORKER = 8 }; /* so that a worker that lost its core holds nobody up for long */

_Static_assert(MATMUL_ROWS_MAX % PACK_ROWS == 0, "units are whole groups");

uint32_t cpu_unit_rows(const backend *b, uint32_t weight_rows) {
    uint32_t per = weight_rows / (cpu_pool_threads(b->pool) * UNITS_PER_WORKER);
    return num_min_u32(num_max_u32(per & ~(PACK_ROWS - 1u), PACK_ROWS), MATMUL_ROWS_MAX);
}

/* --- adapters -------------------- */

static const lora_mix *mix_of(const backend *b, row_set rows, uint32_t r) {
    if (rows == ROWS_HEAD) r = b->in->head[r];
    if (rows != ROWS_ALL) r = b->in->taken[r];
    return b->in->loras[r];
}

/* x . A^T of one row, op and use: [rank] */
static float *lora_middle(const backend *b, uint32_t r, uint32_t op_idx, uint32_t use) {
    size_t at = ((size_t)r * TASK_OPS_MAX + op_idx) * LORA_PER_ROW_MAX + use;
    return b->lora + at * b->p->max.lora_rank;
}

size_t cpu_lora_floats(const program *p) {
    return (size_t)p->max.rows * TASK_OPS_MAX * LORA_PER_ROW_MAX * p->max.lora_rank;
}

uint32_t cpu_units_lora(const backend *b, const task *t) {
    return b->in->loras != NULL ? step_rows(b, t->rows) * t->ops_count : 0;
}

void cpu_lora(backend *b, const task *t, uint32_t unit, uint32_t worker) {
    (void)worker;
    const uint32_t r = unit / t->ops_count, op_idx = unit % t->ops_count;
    const op *o = t->ops[op_idx];
    const lora_mix *mix = o->lora_slot != LORA_SLOT_NONE ? mix_of(b, t->rows, r) : NULL;
    for (uint32_t u = 0; mix != NULL && u < mix->count; u++) {
        const weight *a = &mix->uses[u].pairs[o->lora_slot].a;
        if (a->data == NULL) continue;
        ASSERT(a->rows <= b->p->max.lora_rank && a->cols == o->w.cols);
        matmul_args args = {.x_rows = 1,
                            .x = value_row(b, o->in[0], r),
                            .out = lora_middle(b, r, op_idx, u),
                            .out_cols = a->rows};
        cpu_matmul(b->k, a, args, 0, a->rows, NULL);
    }
}

/* y[j] += the sum over the row's uses of scale * middle . B[row0 + j] for j < rows */
static void adapt_row(const backend *b, const lora_mix *mix, const op *o,
                      const float *const *middle, uint32_t row0, uint32_t rows, float *y) {
    float delta[MATMUL_ROWS_MAX];
    for (uint32_t u = 0; u < mix->count; u++) {
        const lora_pair *pair = &mix->uses[u].pairs[o->lora_slot];
        if (pair->a.data == NULL) continue;
        const float scale = mix->uses[u].scale * pair->scale;
        matmul_args args = {.x_rows = 1, .x = middle[u], .out = delta, .out_cols = rows};
        cpu_matmul(b->k, &pair->b, args, row0, rows, NULL);
        for (uint32_t j = 0; j < rows; j++) y[j] += scale * delta[j];
    }
}

static void adapt(const backend *b, const task *t, uint32_t op_idx, uint32_t row0, uint32_t rows) {
    const op *o = t->ops[op_idx];
    const value_id out = t->add_op != NULL ? t->add_op->out : o->out;
    for (uint32_t r = 0; r < step_rows(b, t->rows); r++) {
        const lora_mix *mix = mix_of(b, t->rows, r);
        const float *middle[LORA_PER_ROW_MAX];
        for (uint32_t u = 0; u < LORA_PER_ROW_MAX; u++) middle[u] = lora_middle(b, r, op_idx, u);
        if (mix != NULL) adapt_row(b, mix, o, middle, row0, rows, value_row(b, out, r) + row0);
    }
}

/* --- products: units are runs of weight rows, op after op -------------------- */

static uint32_t unit_rows(const backend *b, const task *t) {
    uint32_t rows = 0;
    for (uint32_t i = 0; i < t->ops_count; i++) rows += t->ops[i]->w.rows;
    return cpu_unit_rows(b, rows);
}

uint32_t cpu_units_product(const backend *b, const task *t) {
    uint32_t units = 0;
    if (step_rows(b, t->rows) == 0) return 0;
    for (uint32_t i = 0; i < t->ops_count; i++)
        units += num_div_up_u32(t->ops[i]->w.rows, unit_rows(b, t));
    return units;
}

/* Consecutive activation rows that are computed alike. */
typedef struct span {
    uint32_t row0, rows;
    bool fast;
} span;

static span next_span(const bool *fast, uint32_t row0, uint32_t end) {
    span s = {.row0 = row0, .rows = 1, .fast = fast != NULL && fast[row0]};
    while (row0 + s.rows < end && (fast != NULL && fast[row0 + s.rows]) == s.fast) s.rows++;
    return s;
}

static void multiply_floats(const backend *b, const op *o, matmul_args a, span s, uint32_t row0,
                            uint32_t rows, float *scratch) {
    const size_t at = s.row0 * a.out_cols;
    a.x_rows = s.rows;
    a.x = value_row(b, o->in[0], s.row0);
    a.out += at;
    if (a.add != NULL) a.add += at;
    cpu_matmul(b->k, &o->w, a, row0, rows, scratch);
}

static void multiply_digits(const backend *b, const op *o, const matmul_args *to, span s,
                            const bool *fast, uint32_t row0, uint32_t rows, float *scratch) {
    const size_t at = s.row0 * to->out_cols;
    const packed_args a = {.w = pack_of(&b->packs, op_idx_of(b, o), 0),
                           .x = value_digits(b, o->in[0], s.row0),
                           .row_blocks = o->w.cols / PACK_BLOCK,
                           .x_rows = s.rows,
                           .fast = fast,
                           .bias = to->bias,
                           .add = to->add != NULL ? to->add + at : NULL,
                           .out = to->out + at,
                           .out_cols = to->out_cols};
    cpu_matmul_packed(b->k, &a, row0, rows, scratch);
}

/* Without bf16 all rows go together: the kernels of packed weights know both modes, and
 * float weights have only one. */
static void multiply_span(const backend *b, const op *o, const matmul_args *to, span s,
                          const bool *fast, uint32_t row0, uint32_t rows, float *scratch) {
    if (pack_of(&b->packs, op_idx_of(b, o), 0) != NULL)
        multiply_digits(b, o, to, s, fast, row0, rows, scratch);
    else
        multiply_floats(b, o, *to, s, row0, rows, scratch);
}

static void multiply_rows(const backend *b, const task *t, uint32_t op_idx, uint32_t row0,
                          uint32_t worker) {
    const op *o = t->ops[op_idx], *sum = t->add_op;
    const uint32_t rows = num_min_u32(unit_rows(b, t), o->w.rows - row0);
    const uint32_t x_rows = step_rows(b, t->rows);
    const bool *fast = step_fast_rows(b, t->rows);
    float *scratch = worker_scratch(b, worker);
    const matmul_args to = {
        .bias = o->row != NULL ? o->row + row0 : NULL,
        .add = sum != NULL ? value_row(b, sum->in[0], 0) + row0 : NULL,
        .out = value_row(b, sum != NULL ? sum->out : o->out, 0) + row0,
        .out_cols = o->w.rows,
    };
    if (!cpu_bf16_takes(b->bf16, &o->w)) {
        multiply_span(b, o, &to, (span){.rows = x_rows}, fast, row0, rows, scratch);
    } else {
        span s = {0};
        for (uint32_t r = 0; r < x_rows; r += s.rows) {
            s = next_span(fast, r, x_rows);
            if (s.fast)
                cpu_bf16_multiply(b, o, &to, row0, rows, s.row0, s.rows, scratch);
            else
                multiply_span(b, o, &to, s, NULL, row0, rows, scratch);
        }
    }
    if (b->in->loras != NULL && o->lora_slot != LORA_SLOT_NONE) adapt(b, t, op_idx, row0, rows);
}

void cpu_product(backend *b, const task *t, uint32_t unit, uint32_t worker) {
    const uint32_t per = unit_rows(b, t);
    for (uint32_t i = 0; i < t->ops_count; i++) {
        uint32_t units = num_div_up_u32(t->ops[i]->w.rows, per);
        if (unit < units) {
            multiply_rows(b, t, i, unit * per, worker);
            return;
        }
        unit -= units;
    }
}

/* --- head by head -------------------- */

uint32_t cpu_units_heads(const backend *b, const task *t) {
    return step_rows(b, t->rows) > 0 ? t->ops[0]->heads.heads : 0;
}

/* Where head h of row r begins in the input and in the result. */
static size_t head_in(const backend *b, const op *o, uint32_t r, uint32_t h) {
    return value_at(b, o->in[0], r) + (size_t)h * (o->heads.in_dim + o->heads.tail_dim);
}
static size_t head_out(const backend *b, const op *o, uint32_t r, uint32_t h) {
    return value_at(b, o->out, r) + (size_t)h * (o->heads.out_dim + o->heads.tail_dim);
}

/* out[j] = x . W[j], tile by tile of rows */
static void multiply_head(const backend *b, const task *t, uint32_t h, float *scratch) {
    const op *o = t->ops[0];
    const uint32_t w_row0 = o->heads.row0 + h * o->heads.row_stride, rows = step_rows(b, t->rows);
    for (uint32_t r0 = 0; r0 < rows; r0 += TILE_ROWS_MAX) {
        tile part = {.w = &o->w, .count = num_min_u32(TILE_ROWS_MAX, rows - r0)};
        for (uint32_t i = 0; i < part.count; i++) {
            part.x[i] = head_in(b, o, r0 + i, h);
            part.out[i] = head_out(b, o, r0 + i, h);
        }
        cpu_tile_multiply(b, &part, w_row0, o->heads.out_dim, scratch);
    }
}

/* out[c] = sum over j of x[j] * W[j][c], in the order of j whatever the panel */
static void multiply_head_transposed(const backend *b, const task *t, uint32_t h, float *panel) {
    const op *o = t->ops[0];
    const uint32_t w_row0 = o->heads.row0 + h * o->heads.row_stride, out_dim = o->heads.out_dim;
    const uint32_t rows = step_rows(b, t->rows);
    for (uint32_t r = 0; r < rows; r++)
        memset(b->workspace + head_out(b, o, r, h), 0, out_dim * sizeof(float));
    for (uint32_t j = 0; j < o->heads.in_dim; j += PANEL_ROWS) {
        uint32_t n = num_min_u32(PANEL_ROWS, o->heads.in_dim - j);
        cpu_weight_rows(b->k, &o->w, w_row0 + j, n, panel);
        for (uint32_t r = 0; r < rows; r++)
            b->k->mix_f32(b->workspace + head_in(b, o, r, h) + j, panel, out_dim, out_dim, n,
                          b->workspace + head_out(b, o, r, h));
    }
}

void cpu_heads_matmul(backend *b, const task *t, uint32_t h, uint32_t worker) {
    const op *o = t->ops[0];
    const op_heads_matmul *a = &o->heads;
    float *scratch = worker_scratch(b, worker);
    if (a->transposed)
        multiply_head_transposed(b, t, h, scratch);
    else
        multiply_head(b, t, h, scratch);
    for (uint32_t r = 0; r < step_rows(b, t->rows); r++)
        memcpy(b->workspace + head_out(b, o, r, h) + a->out_dim,
               b->workspace + head_in(b, o, r, h) + a->in_dim, a->tail_dim * sizeof(float));
}

/* --- scratch -------------------- */

size_t cpu_product_floats(const program *p, const op *o, const bf16_kernels *bf16) {
    if (o->kind == OP_MATMUL) {
        const size_t floats = cpu_weight_packs(&o->w)
                                  ? cpu_packed_floats(program_rows_max(p, p->values[o->out].rows))
                                  : cpu_matmul_scratch_floats(&o->w);
        return cpu_bf16_takes(bf16, &o->w) ? num_max_u64(floats, cpu_bf16_floats(&o->w)) : floats;
    }
    return o->heads.transposed ? cpu_panel_floats(o->w.cols) : cpu_tile_floats(&o->w, false);
}
