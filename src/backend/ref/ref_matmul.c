/* ref_matmul.c - products with weights: plain, with adapters, head by head. */
#include <string.h>

#include "backend/ref/ref_internal.h"

/* y += scale * (x . A^T) . B^T of one adapter. */
static void adapt(backend *b, const lora_pair *pair, double scale, const float *x, float *y) {
    double *mid = b->scratch; /* [rank] */
    for (uint32_t k = 0; k < pair->a.rows; k++)
        mid[k] = ref_dot(x, ref_weight_row(b, &pair->a, k), pair->a.cols);
    for (uint32_t j = 0; j < pair->b.rows; j++) {
        const float *row = ref_weight_row(b, &pair->b, j);
        double sum = 0;
        for (uint32_t k = 0; k < pair->b.cols; k++) sum += mid[k] * (double)row[k];
        y[j] = (float)((double)y[j] + scale * sum);
    }
}

/* What the adapters of each row add to its product. */
static void adapt_rows(backend *b, const op *o, const batch *in) {
    for (uint32_t r = 0; r < ref_rows(b, o, in); r++) {
        const lora_mix *mix = in->loras[ref_batch_row(b, o, in, r)];
        for (uint32_t u = 0; mix != NULL && u < mix->count; u++) {
            const lora_pair *pair = &mix->uses[u].pairs[o->lora_slot];
            if (pair->a.data == NULL) continue;
            adapt(b, pair, (double)mix->uses[u].scale * (double)pair->scale,
                  ref_row(b, o->in[0], r), ref_row(b, o->out, r));
        }
    }
}

void ref_matmul(backend *b, const op *o, const batch *in) {
    uint32_t rows = ref_rows(b, o, in);
    for (uint32_t j = 0; j < o->w.rows && rows > 0; j++) {
        const float *w = ref_weight_row(b, &o->w, j);
        double bias = o->row != NULL ? (double)o->row[j] : 0.0;
        for (uint32_t r = 0; r < rows; r++)
            ref_row(b, o->out, r)[j] =
                (float)(bias + ref_dot(ref_row(b, o->in[0], r), w, o->w.cols));
    }
    if (o->lora_slot != LORA_SLOT_NONE && in->loras != NULL) adapt_rows(b, o, in);
}

/* out[c] = sum over j of x[j] * W[j][c] */
static void head_transposed(backend *b, const op *o, uint32_t w_row0, const float *x, float *y) {
    const op_heads_matmul *h = &o->heads;
    double *sum = b->scratch; /* [out_dim] */
    for (uint32_t c = 0; c < h->out_dim; c++) sum[c] = 0;
    for (uint32_t j = 0; j < h->in_dim; j++) {
        const float *row = ref_weight_row(b, &o->w, w_row0 + j);
        for (uint32_t c = 0; c < h->out_dim; c++) sum[c] += (double)x[j] * (double)row[c];
    }
    for (uint32_t c = 0; c < h->out_dim; c++) y[c] = (float)sum[c];
}

void ref_heads_matmul(backend *b, const op *o, const batch *in) {
    const op_heads_matmul *h = &o->heads;
    uint32_t rows = ref_rows(b, o, in);
    for (uint32_t r = 0; r < rows; r++) {
        const float *x = ref_row(b, o->in[0], r);
        float *y = ref_row(b, o->out, r);
        for (uint32_t i = 0; i < h->heads; i++) {
            uint32_t w_row0 = h->row0 + i * h->row_stride;
            if (h->transposed)
                head_transposed(b, o, w_row0, x, y);
            else
                for (uint32_t j = 0; j < h->out_dim; j++)
                    y[j] = (float)ref_dot(x, ref_weight_row(b, &o->w, w_row0 + j), h->in_dim);
            memcpy(y + h->out_dim, x + h->in_dim, h->tail_dim * sizeof(float));
            x += h->in_dim + h->tail_dim;
            y += h->out_dim + h->tail_dim;
        }
    }
}
