/* layers.h - every operation of the model, forward and backward.
 *
 * Names: x is an input, y an output, dx the gradient of the loss by x.  n is tokens.  All
 * matrices are f32, row-major, one token or one output feature per row.  A gradient of a weight
 * is always added to what is there (steps are made of several batches); whether the gradient of an
 * input is written or added is said with each function.
 * The work is cut by tokens, heads or columns, never by threads: see pool.h. */
#ifndef TRAIN_LAYERS_H
#define TRAIN_LAYERS_H

#include <stdbool.h>
#include <stdint.h>

#include "train/kernels.h"
#include "train/pool.h"

/* Who computes. */
typedef struct crew {
    const kernels *kern;
    pool *pool; /* borrowed; scratch of crew_scratch_bytes() */
} crew;

/* For documents of up to ctx tokens. */
size_t crew_scratch_bytes(uint32_t ctx);

/* --- linear.c: y = x W^T ----------------------------------------------------------------- */
/* w [out, in]; with `add`, y += x W^T. */
void linear_forward(const crew *c, const float *x, const float *w, float *y, uint32_t n,
                    uint32_t in, uint32_t out, bool add);
/* dx [n, in] = dy W, or += with `add`. */
void linear_backward_input(const crew *c, const float *dy, const float *w, float *dx, uint32_t n,
                           uint32_t in, uint32_t out, bool add);
/* dw [out, in] += dy^T x. */
void linear_backward_weight(const crew *c, const float *dy, const float *x, float *dw, uint32_t n,
                            uint32_t in, uint32_t out);

/* --- embed.c: rows of a table ------------------------------------------------------------ */
/* x [n, cols] = table[ids]. */
void embed_forward(const crew *c, const int32_t *ids, const float *table, float *x, uint32_t n,
                   uint32_t cols);
/* dtable[ids] += dx. */
void embed_backward(const crew *c, const int32_t *ids, const float *dx, float *dtable, uint32_t n,
                    uint32_t cols);

/* --- norm.c: RMSNorm (Zhang and Sennrich 2019) ------------------------------------------- */
/* y = x * gain * inv with inv [n] = 1 / sqrt(mean(x^2) + eps), which the backward pass wants. */
void norm_forward(const crew *c, const float *x, const float *gain, float *y, float *inv,
                  uint32_t n, uint32_t cols, float eps);
/* Adds to dx and to dgain. */
typedef struct norm_gradient {
    const float *dy, *x, *gain, *inv;
    float *dx, *dgain;
    uint32_t n, cols;
} norm_gradient;
void norm_backward(const crew *c, const norm_gradient *g);

/* --- rope.c: rotary positions (Su et al. 2021), adjacent pairs as in GGUF's llama -------- */
typedef struct rope_table {
    uint32_t ctx, pairs;
    float *cos, *sin; /* [ctx, pairs] owned */
} rope_table;

NODISCARD status rope_table_init(rope_table *t, uint32_t ctx, uint32_t head_dim, float base,
                                 error *err);
void rope_table_deinit(rope_table *t);
/* x [n, heads, 2 * pairs] is turned by its positions [n], or back with `back`: the gradient of a
 * rotation is the rotation the other way round. */
void rope_apply(const crew *c, const rope_table *t, const uint32_t *positions, float *x, uint32_t n,
                uint32_t heads, bool back);

/* --- swiglu.c: silu(gate) * up (Shazeer 2020) -------------------------------------------- */
void swiglu_forward(const crew *c, const float *gate, const float *up, float *y, uint32_t n,
                    uint32_t cols);
/* gate and up become dgate and dup. */
void swiglu_backward(const crew *c, float *gate, float *up, const float *dy, uint32_t n,
                     uint32_t cols);

/* --- attention.c: causal, within documents, heads in groups ------------------------------ */
typedef struct attention {
    uint32_t docs;
    const uint32_t *begins; /* [docs + 1] tokens: document i is begins[i] .. begins[i + 1] - 1 */
    uint32_t heads, kv_heads, head_dim;
    uint32_t ctx;        /* no document is longer */
    const float *q;      /* [n, heads, head_dim] */
    const float *k, *v;  /* [n, kv_heads, head_dim] */
    float *out;          /* [n, heads, head_dim] */
    float *max, *sum;    /* [n, heads] of the softmax, for the way back */
    const float *dout;   /* backward: of out */
    float *dq, *dk, *dv; /* backward: written */
} attention;

void attention_forward(const crew *c, const attention *a);
void attention_backward(const crew *c, const attention *a);

/* --- loss.c: softmax and cross-entropy --------------------------------------------------- */
/* logits [n, vocab] become their gradients under sum(weights * losses) * scale; losses [n] are
 * those of targets [n], without weight. */
void loss_rows(const crew *c, float *logits, const int32_t *targets, const float *weights,
               double *losses, uint32_t n, uint32_t vocab, float scale);

#endif
