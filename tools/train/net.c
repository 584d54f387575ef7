/* net.c - see net.h.
 *
 *   x[0] = embedding
 *   each layer:  h = norm(x);  q, k, v = h W;  q, k turned;  o = attention(q, k, v)
 *                mid = x + o W;  h = norm(mid);  x' = mid + (silu(h W) * (h W)) W
 *   logits = norm(x[layers]) embedding^T,  for the tokens that have a weight
 *
 * What a layer computes stays in its own buffers until the way back has used it.  One set of
 * scratch buffers holds the gradients on the way; dx is that of the residual stream, which every
 * block adds to. */
#include "train/net.h"

#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"

enum { HEAD_ROWS = 512, ALIGN_FLOATS = 16 };

typedef struct layer_buffers {
    float *x;         /* [tokens, embd] what comes in */
    float *inv1, *h1; /* [tokens], [tokens, embd] */
    float *q, *k, *v; /* [tokens, heads or kv_heads, head_dim] */
    float *max, *sum; /* [tokens, heads] */
    float *o;         /* [tokens, heads, head_dim] */
    float *mid;       /* [tokens, embd] */
    float *inv2, *h2; /* [tokens], [tokens, embd] */
    float *gate, *up; /* [tokens, ff] */
    float *act;       /* [tokens, ff] */
} layer_buffers;

/* The last norm and the output, for HEAD_ROWS tokens at a time. */
typedef struct head_buffers {
    float *x, *h, *dh, *dx; /* [HEAD_ROWS, embd] */
    float *inv;             /* [HEAD_ROWS] */
    float *logits;          /* [HEAD_ROWS, vocab] */
    int32_t targets[HEAD_ROWS];
    float weights[HEAD_ROWS];
    double losses[HEAD_ROWS];
    uint32_t rows[HEAD_ROWS]; /* their tokens */
} head_buffers;

struct net {
    shape shape;
    crew crew;
    uint32_t tokens_max;
    rope_table rope;
    void *memory; /* owned; everything below points into it */
    layer_buffers layer[SHAPE_LAYERS_MAX];
    float *x_out;               /* [tokens, embd] of the last layer */
    float *dx, *dh;             /* [tokens, embd] */
    float *dq, *dk, *dv, *dout; /* [tokens, heads or kv_heads, head_dim] */
    float *dact;                /* [tokens, ff] */
    head_buffers head;
};

/* --- memory ------------------------------------------------------------------------------ */

/* The first time over `at` is NULL and only the sizes are added up. */
typedef struct layout {
    float *at;
    size_t count;
} layout;

static float *take(layout *l, size_t rows, size_t cols) {
    float *p = l->at != NULL ? l->at + l->count : NULL;
    l->count += num_align_size(rows * cols, ALIGN_FLOATS);
    return p;
}

static void lay_out_layer(layer_buffers *b, const shape *s, size_t tokens, layout *l) {
    const size_t q = (size_t)s->heads * s->head_dim, kv = (size_t)s->kv_heads * s->head_dim;
    b->x = take(l, tokens, s->embd);
    b->inv1 = take(l, tokens, 1);
    b->h1 = take(l, tokens, s->embd);
    b->q = take(l, tokens, q);
    b->k = take(l, tokens, kv);
    b->v = take(l, tokens, kv);
    b->max = take(l, tokens, s->heads);
    b->sum = take(l, tokens, s->heads);
    b->o = take(l, tokens, q);
    b->mid = take(l, tokens, s->embd);
    b->inv2 = take(l, tokens, 1);
    b->h2 = take(l, tokens, s->embd);
    b->gate = take(l, tokens, s->ff);
    b->up = take(l, tokens, s->ff);
    b->act = take(l, tokens, s->ff);
}

static void lay_out(net *n, layout *l) {
    const shape *s = &n->shape;
    const size_t tokens = n->tokens_max;
    const size_t q = (size_t)s->heads * s->head_dim, kv = (size_t)s->kv_heads * s->head_dim;
    for (uint32_t i = 0; i < s->layers; i++) lay_out_layer(&n->layer[i], s, tokens, l);
    n->x_out = take(l, tokens, s->embd);
    n->dx = take(l, tokens, s->embd);
    n->dh = take(l, tokens, s->embd);
    n->dq = take(l, tokens, q);
    n->dk = take(l, tokens, kv);
    n->dv = take(l, tokens, kv);
    n->dout = take(l, tokens, q);
    n->dact = take(l, tokens, s->ff);
    n->head.x = take(l, HEAD_ROWS, s->embd);
    n->head.h = take(l, HEAD_ROWS, s->embd);
    n->head.dh = take(l, HEAD_ROWS, s->embd);
    n->head.dx = take(l, HEAD_ROWS, s->embd);
    n->head.inv = take(l, HEAD_ROWS, 1);
    n->head.logits = take(l, HEAD_ROWS, s->vocab);
}

status net_create(net **out, const shape *s, const crew *c, uint32_t tokens_max, error *err) {
    net *n = mem_try_calloc(1, sizeof *n);
    if (n == NULL) return error_set(err, ERR_NOMEM, "train: no memory for a model");
    n->shape = *s;
    n->crew = *c;
    n->tokens_max = tokens_max;
    layout sizes = {0};
    lay_out(n, &sizes);
    n->memory = mem_try_alloc_aligned(64, sizes.count * sizeof(float));
    status st = OK;
    if (n->memory == NULL)
        st = error_set(err, ERR_NOMEM, "train: no memory for %zu MB of activations",
                       sizes.count * sizeof(float) >> 20);
    if (st == OK) st = rope_table_init(&n->rope, s->ctx, s->head_dim, s->rope_base, err);
    if (st != OK) {
        net_destroy(n);
        return st;
    }
    layout places = {.at = n->memory};
    lay_out(n, &places);
    *out = n;
    return OK;
}

void net_destroy(net *n) {
    if (n == NULL) return;
    rope_table_deinit(&n->rope);
    mem_free(n->memory);
    mem_free(n);
}

/* --- forward ----------------------------------------------------------------------------- */

static const float *weight(const net *n, const float *params, uint32_t layer, layer_tensor which) {
    return params + shape_layer_at(&n->shape, layer, which);
}

static attention attention_of(const net *n, const layer_buffers *a, const doc_batch *b) {
    const shape *s = &n->shape;
    return (attention){.docs = b->docs,
                       .begins = b->begins,
                       .heads = s->heads,
                       .kv_heads = s->kv_heads,
                       .head_dim = s->head_dim,
                       .ctx = s->ctx,
                       .q = a->q,
                       .k = a->k,
                       .v = a->v,
                       .out = a->o,
                       .max = a->max,
                       .sum = a->sum};
}

static void forward_attention(net *n, const float *params, uint32_t layer, const doc_batch *b) {
    const shape *s = &n->shape;
    const crew *c = &n->crew;
    layer_buffers *a = &n->layer[layer];
    const uint32_t t = b->tokens, q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;
    norm_forward(c, a->x, weight(n, params, layer, LAYER_ATTN_NORM), a->h1, a->inv1, t, s->embd,
                 s->norm_eps);
    linear_forward(c, a->h1, weight(n, params, layer, LAYER_Q), a->q, t, s->embd, q, false);
    linear_forward(c, a->h1, weight(n, params, layer, LAYER_K), a->k, t, s->embd, kv, false);
    linear_forward(c, a->h1, weight(n, params, layer, LAYER_V), a->v, t, s->embd, kv, false);
    rope_apply(c, &n->rope, b->positions, a->q, t, s->heads, false);
    rope_apply(c, &n->rope, b->positions, a->k, t, s->kv_heads, false);
    const attention att = attention_of(n, a, b);
    attention_forward(c, &att);
    memcpy(a->mid, a->x, (size_t)t * s->embd * sizeof *a->x);
    linear_forward(c, a->o, weight(n, params, layer, LAYER_O), a->mid, t, q, s->embd, true);
}

static void forward_ffn(net *n, const float *params, uint32_t layer, const doc_batch *b) {
    const shape *s = &n->shape;
    const crew *c = &n->crew;
    layer_buffers *a = &n->layer[layer];
    const uint32_t t = b->tokens;
    float *out = layer + 1 < s->layers ? n->layer[layer + 1].x : n->x_out;
    norm_forward(c, a->mid, weight(n, params, layer, LAYER_FFN_NORM), a->h2, a->inv2, t, s->embd,
                 s->norm_eps);
    linear_forward(c, a->h2, weight(n, params, layer, LAYER_GATE), a->gate, t, s->embd, s->ff,
                   false);
    linear_forward(c, a->h2, weight(n, params, layer, LAYER_UP), a->up, t, s->embd, s->ff, false);
    swiglu_forward(c, a->gate, a->up, a->act, t, s->ff);
    memcpy(out, a->mid, (size_t)t * s->embd * sizeof *out);
    linear_forward(c, a->act, weight(n, params, layer, LAYER_DOWN), out, t, s->ff, s->embd, true);
}

static void forward(net *n, const float *params, const doc_batch *b) {
    ASSERT(b->tokens <= n->tokens_max);
    embed_forward(&n->crew, b->ids, params, n->layer[0].x, b->tokens, n->shape.embd);
    for (uint32_t layer = 0; layer < n->shape.layers; layer++) {
        forward_attention(n, params, layer, b);
        forward_ffn(n, params, layer, b);
    }
}

/* --- the head: loss, and its gradient by the residual stream ----------------------------- */

/* The next up to HEAD_ROWS tokens with a weight, from *at on. */
static uint32_t gather(net *n, const doc_batch *b, uint32_t *at) {
    const size_t embd = n->shape.embd;
    head_buffers *h = &n->head;
    uint32_t count = 0;
    for (; *at < b->tokens && count < HEAD_ROWS; ++*at) {
        if (b->weights[*at] == 0) continue;
        h->rows[count] = *at;
        h->targets[count] = b->targets[*at];
        h->weights[count] = b->weights[*at];
        memcpy(h->x + count * embd, n->x_out + *at * embd, embd * sizeof *h->x);
        count++;
    }
    return count;
}

static void head_forward(net *n, const float *params, uint32_t rows) {
    const shape *s = &n->shape;
    head_buffers *h = &n->head;
    norm_forward(&n->crew, h->x, params + shape_output_norm_at(s), h->h, h->inv, rows, s->embd,
                 s->norm_eps);
    linear_forward(&n->crew, h->h, params, h->logits, rows, s->embd, s->vocab, false);
}

/* h->logits are gradients by now. */
static void head_backward(net *n, const float *params, float *grads, uint32_t rows) {
    const shape *s = &n->shape;
    head_buffers *h = &n->head;
    const size_t norm_at = shape_output_norm_at(s);
    linear_backward_weight(&n->crew, h->logits, h->h, grads, rows, s->embd, s->vocab);
    linear_backward_input(&n->crew, h->logits, params, h->dh, rows, s->embd, s->vocab, false);
    memset(h->dx, 0, (size_t)rows * s->embd * sizeof *h->dx);
    const norm_gradient g = {.dy = h->dh,
                             .x = h->x,
                             .gain = params + norm_at,
                             .inv = h->inv,
                             .dx = h->dx,
                             .dgain = grads + norm_at,
                             .n = rows,
                             .cols = s->embd};
    norm_backward(&n->crew, &g);
    for (uint32_t i = 0; i < rows; i++)
        memcpy(n->dx + (size_t)h->rows[i] * s->embd, h->dx + (size_t)i * s->embd,
               s->embd * sizeof *n->dx);
}

/* grads NULL: the loss alone. */
static double run_head(net *n, const float *params, float *grads, const doc_batch *b, float scale) {
    head_buffers *h = &n->head;
    double loss = 0;
    if (grads != NULL) memset(n->dx, 0, (size_t)b->tokens * n->shape.embd * sizeof *n->dx);
    for (uint32_t at = 0, rows = 0; (rows = gather(n, b, &at)) > 0;) {
        head_forward(n, params, rows);
        loss_rows(&n->crew, h->logits, h->targets, h->weights, h->losses, rows, n->shape.vocab,
                  scale);
        for (uint32_t i = 0; i < rows; i++) loss += (double)h->weights[i] * h->losses[i];
        if (grads != NULL) head_backward(n, params, grads, rows);
    }
    return loss;
}

/* --- backward ---------------------------------------------------------------------------- */

/* grad += dy^T x, and where_to (+)= dy W: one linear layer on the way back. */
typedef struct linear_back {
    const float *dy, *x;
    float *dx;
    uint32_t in, out;
    bool add;
} linear_back;

static void backward_linear(net *n, const float *params, float *grads, size_t at, uint32_t tokens,
                            const linear_back *l) {
    linear_backward_weight(&n->crew, l->dy, l->x, grads + at, tokens, l->in, l->out);
    linear_backward_input(&n->crew, l->dy, params + at, l->dx, tokens, l->in, l->out, l->add);
}

static void backward_norm(net *n, const float *params, float *grads, size_t at, uint32_t tokens,
                          const float *x, const float *inv) {
    const norm_gradient g = {.dy = n->dh,
                             .x = x,
                             .gain = params + at,
                             .inv = inv,
                             .dx = n->dx,
                             .dgain = grads + at,
                             .n = tokens,
                             .cols = n->shape.embd};
    norm_backward(&n->crew, &g);
}

static void backward_ffn(net *n, const float *params, float *grads, uint32_t layer,
                         const doc_batch *b) {
    const shape *s = &n->shape;
    layer_buffers *a = &n->layer[layer];
    const uint32_t t = b->tokens;
    const linear_back down = {n->dx, a->act, n->dact, s->ff, s->embd, false};
    const linear_back gate = {a->gate, a->h2, n->dh, s->embd, s->ff, false};
    const linear_back up = {a->up, a->h2, n->dh, s->embd, s->ff, true};
    backward_linear(n, params, grads, shape_layer_at(s, layer, LAYER_DOWN), t, &down);
    swiglu_backward(&n->crew, a->gate, a->up, n->dact, t, s->ff);
    backward_linear(n, params, grads, shape_layer_at(s, layer, LAYER_GATE), t, &gate);
    backward_linear(n, params, grads, shape_layer_at(s, layer, LAYER_UP), t, &up);
    backward_norm(n, params, grads, shape_layer_at(s, layer, LAYER_FFN_NORM), t, a->mid, a->inv2);
}

static void backward_attention(net *n, const float *params, float *grads, uint32_t layer,
                               const doc_batch *b) {
    const shape *s = &n->shape;
    layer_buffers *a = &n->layer[layer];
    const uint32_t t = b->tokens, q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;
    const linear_back o = {n->dx, a->o, n->dout, q, s->embd, false};
    const linear_back to_q = {n->dq, a->h1, n->dh, s->embd, q, false};
    const linear_back to_k = {n->dk, a->h1, n->dh, s->embd, kv, true};
    const linear_back to_v = {n->dv, a->h1, n->dh, s->embd, kv, true};
    backward_linear(n, params, grads, shape_layer_at(s, layer, LAYER_O), t, &o);
    attention att = attention_of(n, a, b);
    att.dout = n->dout;
    att.dq = n->dq;
    att.dk = n->dk;
    att.dv = n->dv;
    attention_backward(&n->crew, &att);
    rope_apply(&n->crew, &n->rope, b->positions, n->dq, t, s->heads, true);
    rope_apply(&n->crew, &n->rope, b->positions, n->dk, t, s->kv_heads, true);
    backward_linear(n, params, grads, shape_layer_at(s, layer, LAYER_Q), t, &to_q);
    backward_linear(n, params, grads, shape_layer_at(s, layer, LAYER_K), t, &to_k);
    backward_linear(n, params, grads, shape_layer_at(s, layer, LAYER_V), t, &to_v);
    backward_norm(n, params, grads, shape_layer_at(s, layer, LAYER_ATTN_NORM), t, a->x, a->inv1);
}

/* --- the whole --------------------------------------------------------------------------- */

double net_loss(net *n, const float *params, const doc_batch *b) {
    forward(n, params, b);
    return run_head(n, params, NULL, b, 0);
}

double net_gradient(net *n, const float *params, float *grads, const doc_batch *b, float scale) {
    forward(n, params, b);
    const double loss = run_head(n, params, grads, b, scale);
    for (uint32_t layer = n->shape.layers; layer-- > 0;) {
        backward_ffn(n, params, grads, layer, b);
        backward_attention(n, params, grads, layer, b);
    }
    embed_backward(&n->crew, b->ids, n->dx, grads, b->tokens, n->shape.embd);
    return loss;
}

void net_logits(net *n, const float *params, const doc_batch *b, float *logits) {
    const shape *s = &n->shape;
    forward(n, params, b);
    for (uint32_t at = 0; at < b->tokens; at += HEAD_ROWS) {
        const uint32_t rows = num_min_u32(HEAD_ROWS, b->tokens - at);
        memcpy(n->head.x, n->x_out + (size_t)at * s->embd, (size_t)rows * s->embd * sizeof(float));
        head_forward(n, params, rows);
        memcpy(logits + (size_t)at * s->vocab, n->head.logits,
               (size_t)rows * s->vocab * sizeof(float));
    }
}
