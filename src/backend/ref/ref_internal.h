/* ref_internal.h - what the files of the reference backend share.
 *
 * One function per op; each reads its inputs and writes its result in the workspace, for all rows
 * of the step, in row order.  Every sum is in double; results are rounded to f32 once. */
#ifndef BACKEND_REF_INTERNAL_H
#define BACKEND_REF_INTERNAL_H

#include "backend/backend.h"
#include "backend/host_memory.h"

struct backend {
    const program *p; /* borrowed */
    float *workspace; /* owned pages; [p->workspace_floats] */
    float *row;       /* one weight row as f32 */
    double *scratch;  /* what one row of one op needs: scores, probabilities, sums */
    int32_t *best;    /* [max.head] */
    size_t bytes;
    host_memory memory;
};

/* Row r of a value. */
float *ref_row(const backend *b, value_id v, uint32_t r);
uint32_t ref_cols(const backend *b, value_id v);
/* Rows of this op's values in this step. */
uint32_t ref_rows(const backend *b, const op *o, const batch *in);
/* The row of the batch that row r of this op's values is about. */
uint32_t ref_batch_row(const backend *b, const op *o, const batch *in, uint32_t r);

/* Row j of w as f32, until the next call. */
const float *ref_weight_row(backend *b, const weight *w, uint32_t j);
double ref_dot(const float *x, const float *y, uint32_t n);

/* --- ref_rows.c --- */
void ref_input(backend *b, const op *o, const batch *in);
void ref_embed(backend *b, const op *o, const batch *in);
void ref_embed_pos(backend *b, const op *o, const batch *in);
void ref_take_rows(backend *b, const op *o, const batch *in);
void ref_norm(backend *b, const op *o, const batch *in);
void ref_act(backend *b, const op *o, const batch *in);
void ref_act_mul(backend *b, const op *o, const batch *in);
void ref_add(backend *b, const op *o, const batch *in);
void ref_add_row(backend *b, const op *o, const batch *in);
void ref_mul(backend *b, const op *o, const batch *in);
void ref_mul_row(backend *b, const op *o, const batch *in);
void ref_mul_col(backend *b, const op *o, const batch *in);

/* --- ref_matmul.c --- */
void ref_matmul(backend *b, const op *o, const batch *in);
void ref_heads_matmul(backend *b, const op *o, const batch *in);

/* --- ref_attention.c --- */
void ref_rope(backend *b, const op *o, const batch *in);
void ref_kv_write(backend *b, const op *o, const batch *in);
void ref_attention(backend *b, const op *o, const batch *in);

/* --- ref_experts.c --- */
void ref_route(backend *b, const op *o, const batch *in);
void ref_experts(backend *b, const op *o, const batch *in);
void ref_experts_sum(backend *b, const op *o, const batch *in);

/* --- ref_state.c --- */
void ref_conv(backend *b, const op *o, const batch *in);
void ref_scan(backend *b, const op *o, const batch *in);
void ref_shift(backend *b, const op *o, const batch *in);
void ref_wkv(backend *b, const op *o, const batch *in);

#endif
