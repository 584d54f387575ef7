/* cpu.c - the CPU backend: runs the tasks of a program on a thread pool.
 *
 * Memory of one instance, laid out once:
 *
 *   | workspace floats | int16 shadow: quants | scales | rope tables | scores, panels |
 *
 * The shadow holds the int16 form of a value at the value's own place: element i of the
 * workspace has its quant at quants[i] and its scale at scales[i / 32].  Values whose
 * lives overlap do not share floats, so their shadows do not meet either.  Scores and panels
 * (weight rows turned into f32, backend/cpu/cpu_matmul.h) are one per worker.
 *
 * Every worker walks the whole task list; a task begins when all units of the one before
 * are done.  Which worker computes a unit does not matter for its bits. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backend/cpu/cpu_kernels.h"
#include "backend/cpu/cpu_matmul.h"
#include "backend/cpu/cpu_pool.h"
#include "backend/cpu/cpu_tasks.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"
#include "base/os.h"
#include "tensor/convert.h"

enum {
    ROPE_TABLES_MAX = 4,
    MATMUL_ROWS_MIN = 8, /* weight rows per unit */
    MATMUL_ROWS_MAX = 64,
    UNITS_PER_WORKER = 8, /* so that a worker that lost its core holds nobody up for long */
    SCORES_PAD = 16,      /* softmax works on whole vectors */
};

/* cos and sin of every row for one set of rope attributes. */
typedef struct rope_table {
    op_rope attrs;
    double *inverse; /* [dims / 2] angle per position */
    float *cos_sin;  /* [rows_max, dims / 2, 2] */
} rope_table;

struct backend {
    const program *p; /* borrowed */
    const cpu_kernels *k;
    cpu_pool *pool;
    task_list list;
    cpu_phase *phases; /* owned; [list.count] one per task */
    void *memory;      /* owned pages */
    size_t memory_bytes;
    float *workspace;
    int16_t *quants;
    float *scales;
    float *scores; /* [threads, scores_stride] */
    size_t scores_stride;
    float *panels; /* [threads, panel_floats] */
    size_t panel_floats;
    rope_table ropes[ROPE_TABLES_MAX];
    uint32_t ropes_count;
    const batch *in; /* of the running step */
};

/* --- memory -------------------- */

static bool same_rope(const op_rope *a, const op_rope *b) {
    return a->dims == b->dims && a->base == b->base && a->scale == b->scale && a->freqs == b->freqs;
}

static rope_table *find_rope(backend *b, const op_rope *attrs) {
    for (uint32_t i = 0; i < b->ropes_count; i++)
        if (same_rope(&b->ropes[i].attrs, attrs)) return &b->ropes[i];
    return NULL;
}

static void *carve(backend *b, size_t bytes) {
    void *at = b->memory != NULL ? (char *)b->memory + b->memory_bytes : NULL;
    b->memory_bytes += num_align_size(bytes, 64);
    return at;
}

/* Lay the instance out from b->memory on; with b->memory NULL it only adds up the bytes. */
static void lay_out(backend *b, uint32_t threads) {
    const program *p = b->p;
    b->memory_bytes = 0;
    b->workspace = carve(b, p->workspace_floats * sizeof(float));
    size_t shadow = b->list.any_quantized ? p->workspace_floats : 0;
    b->quants = carve(b, shadow * sizeof(int16_t));
    b->scales = carve(b, shadow / ACT_BLOCK * sizeof(float));
    for (uint32_t i = 0; i < b->ropes_count; i++) {
        size_t pairs = b->ropes[i].attrs.dims / 2;
        b->ropes[i].inverse = carve(b, pairs * sizeof(double));
        b->ropes[i].cos_sin = carve(b, p->rows_max * pairs * 2 * sizeof(float));
    }
    b->scores_stride = num_align_size((size_t)p->ctx_max + SCORES_PAD, SCORES_PAD);
    b->scores = carve(b, threads * b->scores_stride * sizeof(float));
    b->panel_floats = cpu_panel_floats(p);
    b->panels = carve(b, threads * b->panel_floats * sizeof(float));
}

static void collect_ropes(backend *b) {
    for (uint32_t i = 0; i < b->p->ops_count; i++) {
        const op *o = &b->p->ops[i];
        if (o->kind != OP_ROPE || find_rope(b, &o->rope) != NULL) continue;
        ASSERT(b->ropes_count < ROPE_TABLES_MAX);
        b->ropes[b->ropes_count++].attrs = o->rope;
    }
}

static void fill_inverse(rope_table *t) {
    for (uint32_t i = 0; i < t->attrs.dims / 2; i++) {
        double f = pow((double)t->attrs.base, -2.0 * i / t->attrs.dims) / (double)t->attrs.scale;
        if (t->attrs.freqs != NULL) f /= (double)t->attrs.freqs[i];
        t->inverse[i] = f;
    }
}

static status cpu_plan(const program *p, const backend_options *opt, size_t *bytes, error *err) {
    backend b = {.p = p};
    TRY(cpu_tasks_build(&b.list, p, err));
    collect_ropes(&b);
    lay_out(&b, opt->threads);
    cpu_tasks_destroy(&b.list);
    *bytes = b.memory_bytes;
    return OK;
}

static void cpu_close(backend *b) {
    if (b == NULL) return;
    cpu_pool_destroy(b->pool);
    cpu_tasks_destroy(&b->list);
    os_unmap(b->memory, b->memory_bytes);
    mem_free(b->phases);
    mem_free(b);
}

static status open_memory(backend *b, const backend_options *opt, error *err) {
    collect_ropes(b);
    lay_out(b, opt->threads);
    TRY(os_map_pages(b->memory_bytes, &b->memory, err));
    lay_out(b, opt->threads);
    for (uint32_t i = 0; i < b->ropes_count; i++) fill_inverse(&b->ropes[i]);
    b->phases = mem_try_alloc_aligned(64, b->list.count * sizeof *b->phases);
    if (b->phases == NULL)
        return error_set(err, ERR_NOMEM, "cpu: no memory for %u tasks", b->list.count);
    return OK;
}

static status cpu_open(backend **out, const program *p, const backend_options *opt, error *err) {
    backend *b = mem_try_calloc(1, sizeof *b);
    if (b == NULL) return error_set(err, ERR_NOMEM, "cpu: no memory");
    b->p = p;
    status st = cpu_kernels_choose(opt->isa_cap, &b->k, err);
    if (st == OK) st = cpu_tasks_build(&b->list, p, err);
    if (st == OK) st = open_memory(b, opt, err);
    if (st == OK) st = cpu_pool_create(&b->pool, opt->threads, err);
    if (st != OK) {
        cpu_close(b);
        return st;
    }
    *out = b;
    return OK;
}

/* --- values -------------------- */

static size_t value_at(const backend *b, value_id v, uint32_t r) {
    const value *d = &b->p->values[v];
    return d->offset + (size_t)r * d->cols;
}

static float *value_row(const backend *b, value_id v, uint32_t r) {
    return b->workspace + value_at(b, v, r);
}

static void quantize_row(const backend *b, value_id v, uint32_t r) {
    size_t at = value_at(b, v, r);
    b->k->quantize(b->workspace + at, b->quants + at, b->scales + at / ACT_BLOCK,
                   b->p->values[v].cols);
}

/* --- units: one call computes one unit of a task -------------------- */

static void unit_embed(backend *b, const task *t, uint32_t r) {
    const op *o = t->ops[0];
    uint64_t row_bytes = 0;
    bool whole = dtype_row_bytes(o->w.type, o->w.cols, &row_bytes);
    ASSERT(whole);
    b->k->dequant(o->w.type, (const char *)o->w.data + row_bytes * (uint64_t)b->in->tokens[r],
                  value_row(b, o->out, r), o->w.cols);
    for (uint32_t i = 0; i < b->ropes_count; i++) {
        const rope_table *table = &b->ropes[i];
        uint32_t pairs = table->attrs.dims / 2;
        float *cs = table->cos_sin + (size_t)r * pairs * 2;
        for (size_t k = 0; k < pairs; k++) {
            double angle = b->in->pos[r] * table->inverse[k];
            cs[2 * k] = (float)cos(angle);
            cs[2 * k + 1] = (float)sin(angle);
        }
    }
}

static void unit_norm(backend *b, const task *t, uint32_t r) {
    const op *o = t->ops[0];
    b->k->norm_rms(value_row(b, o->in[0], r), o->w.data, value_row(b, o->out, r), o->w.cols,
                   o->eps);
    if (t->quantize) quantize_row(b, o->out, r);
}

static void unit_act_mul(backend *b, const task *t, uint32_t r) {
    const op *o = t->ops[0];
    b->k->silu_mul(value_row(b, o->in[0], r), value_row(b, o->in[1], r), value_row(b, o->out, r),
                   b->p->values[o->out].cols);
    if (t->quantize) quantize_row(b, o->out, r);
}

static void rope_row(const backend *b, const op *o, uint32_t r) {
    const op_rope *a = &o->rope;
    const rope_table *table = find_rope((backend *)b, a);
    const float *cs = table->cos_sin + (size_t)r * a->dims;
    const float *x = value_row(b, o->in[0], r);
    float *y = value_row(b, o->out, r);
    for (uint32_t h = 0; h < a->heads; h++, x += a->head_dim, y += a->head_dim) {
        for (uint32_t i = 0; i < a->dims; i += 2) {
            float x0 = x[i], x1 = x[i + 1], c = cs[i], s = cs[i + 1];
            y[i] = x0 * c - x1 * s;
            y[i + 1] = x0 * s + x1 * c;
        }
        if (y != x) memcpy(y + a->dims, x + a->dims, (a->head_dim - a->dims) * sizeof *x);
    }
}

static void kv_put(const kv_layout *l, void *row, const float *x) {
    if (l->type == DTYPE_F32) {
        memcpy(row, x, l->head_dim * sizeof *x);
        return;
    }
    uint16_t *h = row;
    for (uint32_t i = 0; i < l->head_dim; i++) h[i] = convert_f32_to_f16(x[i]);
}

static void kv_write_row(const backend *b, const op *o, uint32_t r) {
    const kv_view *kv = &b->in->kv;
    uint32_t block = b->in->pos[r] / KV_BLOCK_TOKENS, t = b->in->pos[r] % KV_BLOCK_TOKENS;
    for (int part = KV_K; part <= KV_V; part++) {
        const float *x = value_row(b, o->in[part], r);
        for (uint32_t h = 0; h < kv->layout.kv_heads; h++) {
            char *rows = kv_at(kv, b->in->seats[r], block, o->layer, part, h);
            kv_put(&kv->layout, rows + t * kv_row_bytes(&kv->layout),
                   x + (size_t)h * kv->layout.head_dim);
        }
    }
}

static void unit_rope_kv(backend *b, const task *t, uint32_t r) {
    rope_row(b, t->ops[0], r);
    rope_row(b, t->ops[1], r);
    kv_write_row(b, t->ops[2], r);
}

/* One query head: block by block over what the row may see. */
static void attend(const backend *b, const op *o, uint32_t r, uint32_t h, float *scores) {
    const op_attention *a = &o->attn;
    const kv_view *kv = &b->in->kv;
    bool f16 = kv->layout.type == DTYPE_F16;
    const float *q = value_row(b, o->in[0], r) + (size_t)h * a->head_dim;
    float *y = value_row(b, o->out, r) + (size_t)h * a->head_dim;
    uint32_t kv_head = h / (a->heads / a->kv_heads), visible = b->in->pos[r] + 1;
    for (uint32_t t = 0; t < visible; t += KV_BLOCK_TOKENS) {
        uint32_t n = num_min_u32(KV_BLOCK_TOKENS, visible - t);
        const void *k = kv_at(kv, b->in->seats[r], t / KV_BLOCK_TOKENS, o->layer, KV_K, kv_head);
        (f16 ? b->k->scores_f16 : b->k->scores_f32)(q, k, a->head_dim, n, a->scale, scores + t);
    }
    float sum = b->k->softmax(scores, visible);
    memset(y, 0, a->head_dim * sizeof *y);
    for (uint32_t t = 0; t < visible; t += KV_BLOCK_TOKENS) {
        uint32_t n = num_min_u32(KV_BLOCK_TOKENS, visible - t);
        const void *v = kv_at(kv, b->in->seats[r], t / KV_BLOCK_TOKENS, o->layer, KV_V, kv_head);
        (f16 ? b->k->mix_f16 : b->k->mix_f32)(scores + t, v, a->head_dim, n, y);
    }
    for (uint32_t i = 0; i < a->head_dim; i++) y[i] /= sum;
}

/* Unit: the query heads of one row that share a KV head. */
static void unit_attention(backend *b, const task *t, uint32_t unit, uint32_t worker) {
    const op *o = t->ops[0];
    uint32_t r = unit / o->attn.kv_heads, group = o->attn.heads / o->attn.kv_heads;
    uint32_t h0 = unit % o->attn.kv_heads * group;
    for (uint32_t h = h0; h < h0 + group; h++)
        attend(b, o, r, h, b->scores + worker * b->scores_stride);
}

static void unit_add(backend *b, const task *t, uint32_t r) {
    const op *o = t->ops[0];
    const float *x = value_row(b, o->in[0], r), *y = value_row(b, o->in[1], r);
    float *out = value_row(b, o->out, r);
    for (uint32_t c = 0; c < b->p->values[o->out].cols; c++) out[c] = x[c] + y[c];
}

static void unit_take_rows(backend *b, const task *t, uint32_t i) {
    const op *o = t->ops[0];
    memcpy(value_row(b, o->out, i), value_row(b, o->in[0], b->in->taken[i]),
           b->p->values[o->out].cols * sizeof(float));
}

/* --- matmul: units are runs of weight rows, op after op -------------------- */

static uint32_t task_rows(const backend *b, const task *t) {
    return t->taken ? b->in->taken_rows : b->in->rows;
}

static uint32_t matmul_unit_rows(const backend *b, const task *t) {
    uint32_t rows = 0;
    for (uint32_t i = 0; i < t->ops_count; i++) rows += t->ops[i]->w.rows;
    uint32_t per = rows / (cpu_pool_threads(b->pool) * UNITS_PER_WORKER);
    return num_min_u32(num_max_u32(per & ~7u, MATMUL_ROWS_MIN), MATMUL_ROWS_MAX);
}

static void matmul_rows(const backend *b, const task *t, const op *o, uint32_t row0,
                        uint32_t worker) {
    size_t x_at = value_at(b, o->in[0], 0);
    const op *sum = t->add_op;
    uint64_t row_bytes = 0;
    bool whole = dtype_row_bytes(o->w.type, o->w.cols, &row_bytes);
    ASSERT(whole);
    matmul_args a = {
        .w = o->w.data,
        .w_row_bytes = (size_t)row_bytes,
        .cols = o->w.cols,
        .x_rows = task_rows(b, t),
        .x = b->workspace + x_at,
        .xq = b->quants + x_at,
        .xs = b->scales + x_at / ACT_BLOCK,
        .bias = o->bias,
        .add = sum != NULL ? value_row(b, sum->in[0], 0) : NULL,
        .out = value_row(b, sum != NULL ? sum->out : o->out, 0),
        .out_cols = o->w.rows,
    };
    uint32_t row1 = num_min_u32(row0 + matmul_unit_rows(b, t), o->w.rows);
    cpu_matmul(b->k, o->w.type, &a, row0, row1, b->panels + worker * b->panel_floats);
}

static void unit_matmul(backend *b, const task *t, uint32_t unit, uint32_t worker) {
    uint32_t per = matmul_unit_rows(b, t);
    for (uint32_t i = 0; i < t->ops_count; i++) {
        uint32_t units = num_div_up_u32(t->ops[i]->w.rows, per);
        if (unit < units) {
            matmul_rows(b, t, t->ops[i], unit * per, worker);
            return;
        }
        unit -= units;
    }
}

/* --- the step -------------------- */

static uint32_t task_units(const backend *b, const task *t) {
    uint32_t rows = task_rows(b, t), units = 0;
    if (t->kind == TASK_ATTENTION) return rows * t->ops[0]->attn.kv_heads;
    if (t->kind != TASK_MATMUL) return rows;
    for (uint32_t i = 0; i < t->ops_count && rows > 0; i++)
        units += num_div_up_u32(t->ops[i]->w.rows, matmul_unit_rows(b, t));
    return units;
}

static void run_unit(backend *b, const task *t, uint32_t unit, uint32_t worker) {
    switch (t->kind) {
    case TASK_EMBED:
        unit_embed(b, t, unit);
        break;
    case TASK_NORM:
        unit_norm(b, t, unit);
        break;
    case TASK_QUANTIZE:
        quantize_row(b, t->ops[0]->in[0], unit);
        break;
    case TASK_MATMUL:
        unit_matmul(b, t, unit, worker);
        break;
    case TASK_ROPE:
        rope_row(b, t->ops[0], unit);
        break;
    case TASK_ROPE_KV:
        unit_rope_kv(b, t, unit);
        break;
    case TASK_KV_WRITE:
        kv_write_row(b, t->ops[0], unit);
        break;
    case TASK_ATTENTION:
        unit_attention(b, t, unit, worker);
        break;
    case TASK_ACT_MUL:
        unit_act_mul(b, t, unit);
        break;
    case TASK_ADD:
        unit_add(b, t, unit);
        break;
    case TASK_TAKE_ROWS:
        unit_take_rows(b, t, unit);
        break;
    }
}

static void run_tasks(void *ctx, uint32_t run, uint32_t worker) {
    backend *b = ctx;
    for (uint32_t i = 0; i < b->list.count; i++) {
        cpu_phase *phase = &b->phases[i];
        uint32_t unit = 0;
        while (cpu_phase_claim(phase, run, &unit)) {
            run_unit(b, &b->list.tasks[i], unit, worker);
            cpu_phase_done(b->pool, phase);
        }
        if (!cpu_phase_wait(b->pool, phase, run)) return;
    }
}

static const float *cpu_step(backend *b, const batch *in) {
    ASSERT(in->rows <= b->p->rows_max && in->taken_rows <= b->p->taken_rows_max);
    uint32_t run = cpu_pool_next_run(b->pool);
    b->in = in;
    for (uint32_t i = 0; i < b->list.count; i++)
        cpu_phase_open(&b->phases[i], run, task_units(b, &b->list.tasks[i]));
    cpu_pool_run(b->pool, run_tasks, b);
    return value_row(b, b->p->logits, 0);
}

static void cpu_report(const backend *b, backend_report *out) {
    *out = (backend_report){.numerics = "exact",
                            .tasks = b->list.count,
                            .ops_fused = b->list.ops_fused,
                            .ops_unfused = b->list.ops_unfused};
    (void)snprintf(out->what, sizeof out->what, "cpu %s", b->k->isa);
}

const backend_ops backend_cpu = {
    .name = "cpu",
    .path = cpu_matmul_path,
    .plan = cpu_plan,
    .open = cpu_open,
    .step = cpu_step,
    .report = cpu_report,
    .close = cpu_close,
};
