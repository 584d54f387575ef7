/* ref.c - the reference backend: one primitive after the other, as the formulas say.
 *
 * Scalar, one thread, every sum in double.  It is what the others are measured against:
 * never fast, never removed, no fusion. */
#include <stdio.h>

#include "backend/host_best.h"
#include "backend/ref/ref_internal.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"
#include "base/os.h"
#include "tensor/convert.h"

/* --- life cycle ------------------------------------------------------------------- */

static backend_path ref_path(dtype t) {
    return t == DTYPE_F32 ? BACKEND_PATH_NATIVE : BACKEND_PATH_ROWS;
}

static size_t max_size(size_t a, size_t b) { return a > b ? a : b; }

/* Floats of the widest weight row: of the program's own and of adapters, whose A is as wide as the
 * weight it adapts, and B as its rank. */
static size_t weight_row_floats(const program *p) {
    size_t cols = p->max.lora_rank;
    for (uint32_t i = 0; i < p->ops_count; i++) {
        const op *o = &p->ops[i];
        cols = max_size(cols, o->kind == OP_EXPERTS ? o->experts.w[0].cols : o->w.cols);
    }
    return num_align_size(cols, 16);
}

/* Doubles that one row of one op needs at most. */
static size_t scratch_doubles(const program *p) {
    size_t most = max_size(p->max.ctx, p->max.lora_rank);
    for (uint32_t i = 0; i < p->ops_count; i++) {
        const op *o = &p->ops[i];
        if (o->kind == OP_HEADS_MATMUL) most = max_size(most, o->heads.out_dim);
        if (o->kind == OP_ROUTE) most = max_size(most, (size_t)3 * o->route.experts);
    }
    return most;
}

static status ref_plan(const program *p, const backend_options *opt, backend_memory *out,
                       error *err) {
    (void)opt;
    (void)err;
    *out = (backend_memory){
        .workspace = (p->workspace_floats + weight_row_floats(p)) * sizeof(float) +
                     scratch_doubles(p) * sizeof(double) + p->max.head * sizeof(int32_t)};
    return OK;
}

static void ref_close(backend *b) {
    if (b == NULL) return;
    os_unmap(b->workspace, b->bytes);
    host_memory_close(&b->memory);
    mem_free(b);
}

static status ref_open(backend **out, const program *p, const backend_options *opt, error *err) {
    backend *b = mem_try_calloc(1, sizeof *b);
    if (b == NULL) return error_set(err, ERR_NOMEM, "ref: no memory");
    b->p = p;
    void *pages = NULL;
    backend_memory memory;
    status st = ref_plan(p, opt, &memory, err);
    b->bytes = memory.workspace;
    if (st == OK) st = os_map_pages(b->bytes, &pages, err);
    if (st != OK) {
        mem_free(b);
        return st;
    }
    b->workspace = pages;
    b->row = b->workspace + p->workspace_floats;
    b->scratch = (double *)(b->row + weight_row_floats(p));
    b->best = (int32_t *)(b->scratch + scratch_doubles(p));
    *out = b;
    return OK;
}

static status ref_memory(backend *b, size_t kv_bytes, size_t state_bytes, void **kv, float **states,
                         error *err) {
    TRY(host_memory_open(&b->memory, kv_bytes, state_bytes, err));
    *kv = b->memory.kv;
    *states = b->memory.states;
    return OK;
}

/* --- what the ops share ----------------------------------------------------------- */

float *ref_row(const backend *b, value_id v, uint32_t r) {
    const value *d = &b->p->values[v];
    return b->workspace + d->offset + (size_t)r * d->cols;
}

uint32_t ref_cols(const backend *b, value_id v) { return b->p->values[v].cols; }

/* An op without a result has the rows of what it reads. */
static row_set rows_of(const backend *b, const op *o) {
    return b->p->values[o->out != VALUE_NONE ? o->out : o->in[0]].rows;
}

uint32_t ref_rows(const backend *b, const op *o, const batch *in) {
    const uint32_t rows[] = {
        [ROWS_ALL] = in->rows, [ROWS_TAKEN] = in->taken_rows, [ROWS_HEAD] = in->head_rows};
    return rows[rows_of(b, o)];
}

uint32_t ref_batch_row(const backend *b, const op *o, const batch *in, uint32_t r) {
    row_set set = rows_of(b, o);
    if (set == ROWS_HEAD) r = in->head[r];
    return set == ROWS_ALL ? r : in->taken[r];
}

const float *ref_weight_row(backend *b, const weight *w, uint32_t j) {
    if (w->packed != NULL) {
        packed_rows(w->packed, w->row0 + j, 1, b->row);
        return b->row;
    }
    uint64_t bytes = 0;
    bool whole = dtype_row_bytes(w->type, w->cols, &bytes);
    ASSERT(whole && j < w->rows);
    dequant_row(w->type, (const char *)w->data + bytes * j, b->row, w->cols);
    return b->row;
}

double ref_dot(const float *x, const float *y, uint32_t n) {
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += (double)x[i] * (double)y[i];
    return sum;
}

/* --- a step ----------------------------------------------------------------------- */

typedef void run_op(backend *b, const op *o, const batch *in);

static run_op *const runs[OP_KIND_COUNT] = {
    [OP_INPUT] = ref_input,
    [OP_EMBED] = ref_embed,
    [OP_EMBED_POS] = ref_embed_pos,
    [OP_NORM] = ref_norm,
    [OP_MATMUL] = ref_matmul,
    [OP_HEADS_MATMUL] = ref_heads_matmul,
    [OP_ROPE] = ref_rope,
    [OP_KV_WRITE] = ref_kv_write,
    [OP_ATTENTION] = ref_attention,
    [OP_ACT] = ref_act,
    [OP_ACT_MUL] = ref_act_mul,
    [OP_ADD] = ref_add,
    [OP_ADD_ROW] = ref_add_row,
    [OP_MUL] = ref_mul,
    [OP_MUL_ROW] = ref_mul_row,
    [OP_MUL_COL] = ref_mul_col,
    [OP_ROUTE] = ref_route,
    [OP_EXPERTS] = ref_experts,
    [OP_EXPERTS_SUM] = ref_experts_sum,
    [OP_CONV] = ref_conv,
    [OP_SCAN] = ref_scan,
    [OP_SHIFT] = ref_shift,
    [OP_WKV] = ref_wkv,
    [OP_TAKE_ROWS] = ref_take_rows,
};

static step_result ref_step(backend *b, const batch *in) {
    const program *p = b->p;
    for (uint32_t i = 0; i < p->ops_count; i++) runs[p->ops[i].kind](b, &p->ops[i], in);
    step_result result = {.hidden = ref_row(b, p->hidden, 0)};
    if (p->logits == VALUE_NONE) return result;
    result.logits = ref_row(b, p->logits, 0);
    result.best = host_best(in, result.logits, ref_cols(b, p->logits), b->best);
    return result;
}

/* Weights are read as they are stored. */
static status ref_load(backend *b, const backend_progress *progress, error *err) {
    (void)b, (void)progress, (void)err;
    return OK;
}

static void ref_report(const backend *b, backend_report *out) {
    *out = (backend_report){
        .numerics = "exact", .tasks = b->p->ops_count, .ops_unfused = b->p->ops_count};
    (void)snprintf(out->what, sizeof out->what, "ref");
}

const backend_ops backend_ref = {
    .name = "ref",
    .path = ref_path,
    .packed_path = BACKEND_PATH_ROWS,
    .plan = ref_plan,
    .open = ref_open,
    .memory = ref_memory,
    .load = ref_load,
    .step = ref_step,
    .report = ref_report,
    .close = ref_close,
};
