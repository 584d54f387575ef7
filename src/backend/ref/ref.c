/* ref.c - the reference backend: one primitive after the other, as the formulas say.
 *
 * Scalar, one thread, every sum in double.  It is what the others are measured against:
 * never fast, never removed, no fusion. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backend/backend.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"
#include "base/os.h"
#include "tensor/convert.h"

struct backend {
    const program *p; /* borrowed */
    float *workspace; /* owned pages; [p->workspace_floats] */
    float *row;       /* [cols_max] one dequantized weight row */
    double *scores;   /* [ctx_max] */
    size_t bytes;
};

/* --- life cycle -------------------- */

static backend_path ref_path(dtype t) {
    return t == DTYPE_F32 ? BACKEND_PATH_NATIVE : BACKEND_PATH_ROWS;
}

static size_t weight_cols_max(const program *p) {
    size_t cols = 0;
    for (uint32_t i = 0; i < p->ops_count; i++)
        if (p->ops[i].w.cols > cols) cols = p->ops[i].w.cols;
    return num_align_size(cols, 16);
}

static status ref_plan(const program *p, const backend_options *opt, size_t *bytes, error *err) {
    (void)opt;
    (void)err;
    *bytes = (p->workspace_floats + weight_cols_max(p)) * sizeof(float) +
             (size_t)p->ctx_max * sizeof(double);
    return OK;
}

static void ref_close(backend *b) {
    if (b == NULL) return;
    os_unmap(b->workspace, b->bytes);
    mem_free(b);
}

static status ref_open(backend **out, const program *p, const backend_options *opt, error *err) {
    backend *b = mem_try_calloc(1, sizeof *b);
    if (b == NULL) return error_set(err, ERR_NOMEM, "ref: no memory");
    b->p = p;
    void *pages = NULL;
    status st = ref_plan(p, opt, &b->bytes, err);
    if (st == OK) st = os_map_pages(b->bytes, &pages, err);
    if (st != OK) {
        mem_free(b);
        return st;
    }
    b->workspace = pages;
    b->row = b->workspace + p->workspace_floats;
    b->scores = (double *)(b->row + weight_cols_max(p));
    *out = b;
    return OK;
}

/* --- primitives -------------------- */

static float *value_row(const backend *b, value_id v, uint32_t r) {
    const value *d = &b->p->values[v];
    return b->workspace + d->offset + (size_t)r * d->cols;
}

static const void *weight_row(const weight *w, uint32_t r) {
    uint64_t bytes = 0;
    bool whole = dtype_row_bytes(w->type, w->cols, &bytes);
    ASSERT(whole);
    return (const char *)w->data + bytes * r;
}

static void embed(backend *b, const op *o, const batch *in) {
    for (uint32_t r = 0; r < in->rows; r++)
        dequant_row(o->w.type, weight_row(&o->w, (uint32_t)in->tokens[r]), value_row(b, o->out, r),
                    o->w.cols);
}

static void norm_rms(backend *b, const op *o, uint32_t rows) {
    const float *w = o->w.data;
    for (uint32_t r = 0; r < rows; r++) {
        const float *x = value_row(b, o->in[0], r);
        float *y = value_row(b, o->out, r);
        double sum = 0;
        for (uint32_t c = 0; c < o->w.cols; c++) sum += (double)x[c] * x[c];
        double scale = 1.0 / sqrt(sum / o->w.cols + (double)o->eps);
        for (uint32_t c = 0; c < o->w.cols; c++) y[c] = (float)(x[c] * scale * w[c]);
    }
}

static void matmul(backend *b, const op *o, uint32_t rows) {
    for (uint32_t j = 0; j < o->w.rows; j++) {
        dequant_row(o->w.type, weight_row(&o->w, j), b->row, o->w.cols);
        for (uint32_t r = 0; r < rows; r++) {
            const float *x = value_row(b, o->in[0], r);
            double sum = o->bias != NULL ? o->bias[j] : 0.0;
            for (uint32_t c = 0; c < o->w.cols; c++) sum += (double)x[c] * b->row[c];
            value_row(b, o->out, r)[j] = (float)sum;
        }
    }
}

static void rope(backend *b, const op *o, const batch *in) {
    const op_rope *a = &o->rope;
    for (uint32_t r = 0; r < in->rows; r++) {
        for (uint32_t h = 0; h < a->heads; h++) {
            const float *x = value_row(b, o->in[0], r) + (size_t)h * a->head_dim;
            float *y = value_row(b, o->out, r) + (size_t)h * a->head_dim;
            for (uint32_t i = 0; i < a->dims; i += 2) {
                double f = pow((double)a->base, -(double)i / a->dims);
                if (a->freqs != NULL) f /= (double)a->freqs[i / 2];
                double angle = (double)in->pos[r] / (double)a->scale * f;
                double x0 = x[i], x1 = x[i + 1];
                y[i] = (float)(x0 * cos(angle) - x1 * sin(angle));
                y[i + 1] = (float)(x0 * sin(angle) + x1 * cos(angle));
            }
            for (uint32_t i = a->dims; i < a->head_dim; i++) y[i] = x[i];
        }
    }
}

static void kv_put(const kv_view *kv, void *block, uint32_t t, const float *x) {
    for (uint32_t i = 0; i < kv->layout.head_dim; i++) {
        size_t at = (size_t)t * kv->layout.head_dim + i;
        if (kv->layout.type == DTYPE_F16)
            ((uint16_t *)block)[at] = convert_f32_to_f16(x[i]);
        else
            ((float *)block)[at] = x[i];
    }
}

static double kv_get(const kv_view *kv, const void *block, uint32_t t, uint32_t i) {
    size_t at = (size_t)t * kv->layout.head_dim + i;
    return kv->layout.type == DTYPE_F16 ? convert_f16_to_f32(((const uint16_t *)block)[at])
                                        : ((const float *)block)[at];
}

static void kv_write(backend *b, const op *o, const batch *in) {
    const kv_layout *l = &in->kv.layout;
    for (uint32_t r = 0; r < in->rows; r++) {
        uint32_t block = in->pos[r] / KV_BLOCK_TOKENS, t = in->pos[r] % KV_BLOCK_TOKENS;
        for (int part = KV_K; part <= KV_V; part++)
            for (uint32_t h = 0; h < l->kv_heads; h++)
                kv_put(&in->kv, kv_at(&in->kv, in->seats[r], block, o->layer, part, h), t,
                       value_row(b, o->in[part], r) + (size_t)h * l->head_dim);
    }
}

/* One query head of one row: scores, softmax, weighted sum of the values. */
static void attend(backend *b, const op *o, const batch *in, uint32_t r, uint32_t h) {
    const op_attention *a = &o->attn;
    const kv_view *kv = &in->kv;
    const float *q = value_row(b, o->in[0], r) + (size_t)h * a->head_dim;
    float *y = value_row(b, o->out, r) + (size_t)h * a->head_dim;
    uint32_t kv_head = h / (a->heads / a->kv_heads), visible = in->pos[r] + 1;
    double max = -INFINITY, sum = 0;
    for (uint32_t t = 0; t < visible; t++) {
        const void *k = kv_at(kv, in->seats[r], t / KV_BLOCK_TOKENS, o->layer, KV_K, kv_head);
        double dot = 0;
        for (uint32_t i = 0; i < a->head_dim; i++)
            dot += q[i] * kv_get(kv, k, t % KV_BLOCK_TOKENS, i);
        b->scores[t] = dot * (double)a->scale;
        if (b->scores[t] > max) max = b->scores[t];
    }
    for (uint32_t t = 0; t < visible; t++) sum += b->scores[t] = exp(b->scores[t] - max);
    for (uint32_t i = 0; i < a->head_dim; i++) {
        double out = 0;
        for (uint32_t t = 0; t < visible; t++) {
            const void *v = kv_at(kv, in->seats[r], t / KV_BLOCK_TOKENS, o->layer, KV_V, kv_head);
            out += b->scores[t] * kv_get(kv, v, t % KV_BLOCK_TOKENS, i);
        }
        y[i] = (float)(out / sum);
    }
}

static void attention(backend *b, const op *o, const batch *in) {
    for (uint32_t r = 0; r < in->rows; r++)
        for (uint32_t h = 0; h < o->attn.heads; h++) attend(b, o, in, r, h);
}

static void act_mul(backend *b, const op *o, uint32_t rows) {
    uint32_t cols = b->p->values[o->out].cols;
    for (uint32_t r = 0; r < rows; r++) {
        const float *gate = value_row(b, o->in[0], r), *up = value_row(b, o->in[1], r);
        float *y = value_row(b, o->out, r);
        for (uint32_t c = 0; c < cols; c++)
            y[c] = (float)((double)gate[c] / (1.0 + exp(-(double)gate[c])) * (double)up[c]);
    }
}

static void add(backend *b, const op *o, uint32_t rows) {
    uint32_t cols = b->p->values[o->out].cols;
    for (uint32_t r = 0; r < rows; r++) {
        const float *x = value_row(b, o->in[0], r), *y = value_row(b, o->in[1], r);
        float *out = value_row(b, o->out, r);
        for (uint32_t c = 0; c < cols; c++) out[c] = x[c] + y[c];
    }
}

static void take_rows(backend *b, const op *o, const batch *in) {
    uint32_t cols = b->p->values[o->out].cols;
    for (uint32_t i = 0; i < in->taken_rows; i++)
        memcpy(value_row(b, o->out, i), value_row(b, o->in[0], in->taken[i]), cols * sizeof(float));
}

static const float *ref_step(backend *b, const batch *in) {
    for (uint32_t i = 0; i < b->p->ops_count; i++) {
        const op *o = &b->p->ops[i];
        bool taken = o->out != VALUE_NONE && b->p->values[o->out].taken;
        uint32_t rows = taken ? in->taken_rows : in->rows;
        switch (o->kind) {
        case OP_EMBED:
            embed(b, o, in);
            break;
        case OP_NORM_RMS:
            norm_rms(b, o, rows);
            break;
        case OP_MATMUL:
            matmul(b, o, rows);
            break;
        case OP_ROPE:
            rope(b, o, in);
            break;
        case OP_KV_WRITE:
            kv_write(b, o, in);
            break;
        case OP_ATTENTION:
            attention(b, o, in);
            break;
        case OP_ACT_MUL:
            act_mul(b, o, rows);
            break;
        case OP_ADD:
            add(b, o, rows);
            break;
        case OP_TAKE_ROWS:
            take_rows(b, o, in);
            break;
        case OP_KIND_COUNT:
            ASSERT(false);
        }
    }
    return value_row(b, b->p->logits, 0);
}

static void ref_report(const backend *b, backend_report *out) {
    *out = (backend_report){
        .numerics = "exact", .tasks = b->p->ops_count, .ops_unfused = b->p->ops_count};
    (void)snprintf(out->what, sizeof out->what, "ref");
}

const backend_ops backend_ref = {
    .name = "ref",
    .path = ref_path,
    .plan = ref_plan,
    .open = ref_open,
    .step = ref_step,
    .report = ref_report,
    .close = ref_close,
};
