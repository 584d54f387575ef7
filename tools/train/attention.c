/* attention.c - softmax(q k^T / sqrt(head_dim)) v within each document, and its gradients.
 *
 * A task is one document and one head of keys, with all heads of queries that share it: nobody
 * else touches its keys' gradients.  Queries go in blocks of BLOCK rows; a block that ends at
 * row i sees keys 0 .. i - 1, so half of the square is never computed:
 *
 *   S [block, keys] = Q K^T     P = softmax(S) up to each row's own key, zero behind
 *   out = P V
 *
 * The way back computes P again from the maximum and sum of each row instead of keeping it:
 *
 *   dP = dout V^T     dS = P * (dP - sum(P * dP)) / sqrt(head_dim)
 *   dV += P^T dout    dQ = dS K    dK += dS^T Q
 *
 * Source: Vaswani et al. 2017; grouped queries, Ainslie et al. 2023; computing P anew, Dao et al.
 * 2022. */
#include <math.h>
#include <string.h>

#include "base/num.h"
#include "train/gemm.h"
#include "train/layers.h"

enum { BLOCK = 64 };

/* Scratch: [gemm] [S or P: BLOCK, ctx] [dP: BLOCK, ctx]. */
size_t crew_scratch_bytes(uint32_t ctx) {
    return gemm_scratch_bytes() + 2 * (size_t)BLOCK * ctx * sizeof(float);
}

typedef struct attention_job {
    const kernels *kern;
    const attention *a;
} attention_job;

/* One head of queries over one document. */
typedef struct head_run {
    const kernels *kern;
    void *scratch; /* of the products */
    float *p, *dp; /* [BLOCK, ctx] */
    uint32_t ctx, head_dim, length, heads;
    size_t q_row, k_row; /* elements from one token to the next, in q and out and in k and v */
    float scale;
    const float *q, *k, *v, *dout; /* the head's element 0 at the document's first token */
    float *out, *dq, *dk, *dv;
    float *max, *sum; /* [length, heads], at this head */
} head_run;

static matrix rows_of(const float *p, size_t row) { return (matrix){p, row, 1}; }
static matrix columns_of(const float *p, size_t row) { return (matrix){p, 1, row}; }

/* c [m, n] (+)= a b. */
static void multiply(const head_run *r, const uint32_t mnk[3], matrix a, matrix b, float *c,
                     size_t ldc, bool add) {
    const gemm g = {mnk[0], mnk[1], mnk[2], a, b, c, ldc, add};
    gemm_here(r->kern, &g, r->scratch);
}

/* Scores of queries begin .. begin + rows - 1 with the keys up to the last of them. */
static void scores(const head_run *r, uint32_t begin, uint32_t rows) {
    const uint32_t keys = begin + rows;
    multiply(r, (uint32_t[]){rows, keys, r->head_dim}, rows_of(r->q + begin * r->q_row, r->q_row),
             columns_of(r->k, r->k_row), r->p, r->ctx, false);
}

/* --- forward ----------------------------------------------------------------------------- */

static void forward_block(const head_run *r, uint32_t begin, uint32_t rows) {
    const uint32_t keys = begin + rows;
    scores(r, begin, rows);
    for (uint32_t i = 0; i < rows; i++) {
        const uint32_t seen = begin + i + 1;
        const size_t at = (size_t)(begin + i) * r->heads;
        float *row = r->p + (size_t)i * r->ctx;
        r->kern->exp_row(row, seen, r->scale, &r->max[at], &r->sum[at]);
        r->kern->scale_row(row, seen, 1.0f / r->sum[at]);
        memset(row + seen, 0, (keys - seen) * sizeof *row);
    }
    multiply(r, (uint32_t[]){rows, r->head_dim, keys}, rows_of(r->p, r->ctx),
             rows_of(r->v, r->k_row), r->out + begin * r->q_row, r->q_row, false);
}

/* --- backward ---------------------------------------------------------------------------- */

/* p = P and dp = dP become P and dS. */
static void backward_rows(const head_run *r, uint32_t begin, uint32_t rows) {
    for (uint32_t i = 0; i < rows; i++) {
        const uint32_t seen = begin + i + 1, unseen = rows - i - 1;
        const size_t at = (size_t)(begin + i) * r->heads;
        float *p = r->p + (size_t)i * r->ctx, *dp = r->dp + (size_t)i * r->ctx;
        r->kern->exp_row_again(p, seen, r->scale, r->max[at], 1.0f / r->sum[at]);
        r->kern->softmax_grad_row(p, dp, seen, r->scale);
        memset(p + seen, 0, unseen * sizeof *p);
        memset(dp + seen, 0, unseen * sizeof *dp);
    }
}

static void backward_block(const head_run *r, uint32_t begin, uint32_t rows) {
    const uint32_t keys = begin + rows, dim = r->head_dim;
    const float *q = r->q + begin * r->q_row, *dout = r->dout + begin * r->q_row;
    scores(r, begin, rows);
    multiply(r, (uint32_t[]){rows, keys, dim}, rows_of(dout, r->q_row), columns_of(r->v, r->k_row),
             r->dp, r->ctx, false);
    backward_rows(r, begin, rows);
    multiply(r, (uint32_t[]){keys, dim, rows}, columns_of(r->p, r->ctx), rows_of(dout, r->q_row),
             r->dv, r->k_row, true);
    multiply(r, (uint32_t[]){rows, dim, keys}, rows_of(r->dp, r->ctx), rows_of(r->k, r->k_row),
             r->dq + begin * r->q_row, r->q_row, false);
    multiply(r, (uint32_t[]){keys, dim, rows}, columns_of(r->dp, r->ctx), rows_of(q, r->q_row),
             r->dk, r->k_row, true);
}

/* --- tasks ------------------------------------------------------------------------------- */

/* Head `h` of queries in document `doc`; pointers that this direction has not stay NULL. */
static head_run head_of(const attention_job *j, uint32_t doc, uint32_t h, void *scratch) {
    const attention *a = j->a;
    const size_t first = a->begins[doc];
    head_run r = {.kern = j->kern, .scratch = scratch, .ctx = a->ctx, .head_dim = a->head_dim};
    r.p = (float *)((char *)scratch + gemm_scratch_bytes());
    r.dp = r.p + (size_t)BLOCK * a->ctx;
    r.length = a->begins[doc + 1] - a->begins[doc];
    r.heads = a->heads;
    r.q_row = (size_t)a->heads * a->head_dim;
    r.k_row = (size_t)a->kv_heads * a->head_dim;
    r.scale = 1.0f / sqrtf((float)a->head_dim);
    const size_t q_at = first * r.q_row + (size_t)h * a->head_dim;
    const size_t k_at = first * r.k_row + (size_t)(h / (a->heads / a->kv_heads)) * a->head_dim;
    r.q = a->q + q_at;
    r.k = a->k + k_at;
    r.v = a->v + k_at;
    r.max = a->max + first * a->heads + h;
    r.sum = a->sum + first * a->heads + h;
    if (a->dout == NULL) {
        r.out = a->out + q_at;
        return r;
    }
    r.dout = a->dout + q_at;
    r.dq = a->dq + q_at;
    r.dk = a->dk + k_at;
    r.dv = a->dv + k_at;
    return r;
}

static void clear_key_gradients(const head_run *r) {
    for (uint32_t t = 0; t < r->length; t++) {
        memset(r->dk + t * r->k_row, 0, r->head_dim * sizeof *r->dk);
        memset(r->dv + t * r->k_row, 0, r->head_dim * sizeof *r->dv);
    }
}

static void run_group(void *arg, uint32_t index, void *scratch) {
    const attention_job *j = arg;
    const attention *a = j->a;
    const uint32_t doc = index / a->kv_heads, group = a->heads / a->kv_heads;
    const uint32_t first = index % a->kv_heads * group;
    for (uint32_t h = first; h < first + group; h++) {
        const head_run r = head_of(j, doc, h, scratch);
        if (r.dout != NULL && h == first) clear_key_gradients(&r);
        for (uint32_t at = 0; at < r.length; at += BLOCK) {
            const uint32_t rows = num_min_u32(BLOCK, r.length - at);
            if (r.dout != NULL)
                backward_block(&r, at, rows);
            else
                forward_block(&r, at, rows);
        }
    }
}

void attention_forward(const crew *c, const attention *a) {
    attention there = *a;
    there.dout = NULL;
    attention_job j = {c->kern, &there};
    pool_run(c->pool, a->docs * a->kv_heads, run_group, &j);
}

void attention_backward(const crew *c, const attention *a) {
    attention_job j = {c->kern, a};
    pool_run(c->pool, a->docs * a->kv_heads, run_group, &j);
}
