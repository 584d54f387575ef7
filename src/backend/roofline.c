/* roofline.c - see roofline.h. */
#include "backend/roofline.h"

#include <math.h>
#include <stdio.h>

#include "base/assert.h"
#include "base/num.h"

enum { FLOAT_BYTES = sizeof(float) };

/* Of one element. */
enum {
    NORM_RMS_FLOPS = 3,   /* square, sum, scale */
    NORM_LAYER_FLOPS = 5, /* sum, less the mean, square, sum, scale */
    ROPE_FLOPS = 3,       /* a pair is four products and two sums */
    ACT_FLOPS = 4,        /* x / (1 + exp(-x)) */
    SOFTMAX_FLOPS = 4,    /* less the largest, exp, sum, divide */
    SOFTCAP_FLOPS = 3,    /* divide, tanh, multiply */
    SLOPE_FLOPS = 2,
    ROUTE_FLOPS = 4,       /* the softmax, or a sigmoid */
    EXPERTS_SUM_FLOPS = 2, /* of each used expert */
    SCAN_STATE_FLOPS = 7,  /* dt A, exp, times h, dt x B, sum, C h, sum */
    SCAN_COLUMN_FLOPS = 3, /* dt x, D x, sum */
    WKV_FLOPS = 7,         /* k v, first, sum, r, sum, decay, sum: of each element of S */
    CONV_TAP_FLOPS = 2
};

uint64_t roof_work_bytes(const roof_work *w) {
    return w->weight_bytes + w->value_bytes + w->cache_bytes;
}

static roof_work sum_of(roof_work a, roof_work b) {
    return (roof_work){.weight_bytes = a.weight_bytes + b.weight_bytes,
                       .value_bytes = a.value_bytes + b.value_bytes,
                       .cache_bytes = a.cache_bytes + b.cache_bytes,
                       .flops = a.flops + b.flops};
}

/* --- shapes -------------------- */

static uint64_t rows_of(const batch *in, row_set rows) {
    if (rows == ROWS_ALL) return in->rows;
    return rows == ROWS_TAKEN ? in->taken_rows : in->head_rows;
}

static uint64_t value_bytes(const program *p, value_id v, uint64_t rows) {
    return rows * p->values[v].cols * FLOAT_BYTES;
}

/* Of an op: those of its result, or of what it reads. */
static uint64_t op_rows(const program *p, const op *o, const batch *in) {
    return rows_of(in, p->values[o->out != VALUE_NONE ? o->out : o->in[0]].rows);
}

static uint32_t out_cols(const program *p, const op *o) { return p->values[o->out].cols; }

/* `rows` rows of a matrix, as they are stored. */
static uint64_t stored_bytes(const weight *w, uint64_t rows) {
    uint64_t row = 0;
    if (w->packed != NULL)
        return w->packed->rows > 0 ? packed_bytes(w->packed) * rows / w->packed->rows : 0;
    return dtype_row_bytes(w->type, w->cols, &row) ? rows * row : 0;
}

static uint64_t floats_if(const void *data, uint64_t count) {
    return data != NULL ? count * FLOAT_BYTES : 0;
}

/* --- weights, cache and arithmetic of each kind of op -------------------- */

typedef roof_work work_fn(const program *p, const op *o, const batch *in);

/* Copies and look-ups of values alone. */
static roof_work no_work(const program *p, const op *o, const batch *in) {
    (void)p, (void)o, (void)in;
    return (roof_work){0};
}

static roof_work embed_work(const program *p, const op *o, const batch *in) {
    return (roof_work){.weight_bytes = stored_bytes(&o->w, op_rows(p, o, in))};
}

static roof_work norm_work(const program *p, const op *o, const batch *in) {
    const op_norm *n = &o->norm;
    const uint64_t elems = op_rows(p, o, in) * out_cols(p, o);
    const uint64_t each = (n->kind == NORM_RMS ? NORM_RMS_FLOPS : NORM_LAYER_FLOPS) +
                          (uint64_t)(n->gain != NULL) + (uint64_t)(n->bias != NULL);
    return (roof_work){.weight_bytes =
                           floats_if(n->gain, n->gain_len) + floats_if(n->bias, n->gain_len),
                       .flops = elems * each};
}

static roof_work matmul_work(const program *p, const op *o, const batch *in) {
    const uint64_t rows = op_rows(p, o, in), products = rows * o->w.rows * o->w.cols;
    if (rows == 0) return (roof_work){0};
    return (roof_work){.weight_bytes =
                           stored_bytes(&o->w, o->w.rows) + floats_if(o->row, o->w.rows),
                       .flops = 2 * products + (o->row != NULL ? rows * o->w.rows : 0)};
}

static roof_work heads_matmul_work(const program *p, const op *o, const batch *in) {
    const op_heads_matmul *h = &o->heads;
    const uint64_t rows = op_rows(p, o, in);
    if (rows == 0) return (roof_work){0};
    return (roof_work){.weight_bytes = stored_bytes(&o->w, (uint64_t)h->heads * h->w_rows),
                       .flops = 2 * rows * h->heads * h->in_dim * h->out_dim};
}

static roof_work rope_work(const program *p, const op *o, const batch *in) {
    return (roof_work){.flops = ROPE_FLOPS * op_rows(p, o, in) * o->rope.heads * o->rope.dims};
}

/* Keys and values of `tokens` tokens in one layer. */
static uint64_t token_bytes(const kv_layout *l, uint64_t tokens) {
    const uint64_t row = kv_row_bytes(l, KV_K) + (l->v_in_k ? 0 : kv_row_bytes(l, KV_V));
    return tokens * l->kv_heads * row;
}

static roof_work kv_write_work(const program *p, const op *o, const batch *in) {
    return (roof_work){.cache_bytes = token_bytes(&in->kv.layout, op_rows(p, o, in))};
}

/* Sum over i < rows of what position pos0 + i sees. */
static uint64_t seen_by_run(const op_attention *a, const batch_run *run) {
    const uint64_t window = a->window, tokens = (uint64_t)run->pos0 + run->rows;
    uint64_t sum = 0;
    for (uint64_t i = run->pos0; i < tokens; i++) {
        const uint64_t hidden = window > 0 && i + 1 > window ? i + 1 - window : 0;
        sum += (a->causal ? i + 1 : tokens) - hidden;
    }
    return sum;
}

/* Tokens that any row of the run sees. */
static uint64_t tokens_of_run(const op_attention *a, const batch_run *run) {
    const uint64_t first = run->pos0, window = a->window;
    const uint64_t hidden = window > 0 && first + 1 > window ? first + 1 - window : 0;
    return first + run->rows - hidden;
}

static roof_work attention_work(const program *p, const op *o, const batch *in) {
    const op_attention *a = &o->attn;
    uint64_t pairs = 0, tokens = 0;
    (void)p;
    for (uint32_t i = 0; i < in->runs_count; i++) {
        pairs += seen_by_run(a, &in->runs[i]);
        tokens += tokens_of_run(a, &in->runs[i]);
    }
    const uint64_t each = 2 * ((uint64_t)a->key_dim + a->value_dim) + SOFTMAX_FLOPS + 1 +
                          (a->softcap > 0 ? SOFTCAP_FLOPS : 0) +
                          (a->slopes != NULL ? SLOPE_FLOPS : 0);
    return (roof_work){.weight_bytes =
                           floats_if(a->sinks, a->heads) + floats_if(a->slopes, a->heads),
                       .cache_bytes = token_bytes(&in->kv.layout, tokens),
                       .flops = pairs * a->heads * each};
}

static uint64_t out_elems(const program *p, const op *o, const batch *in) {
    return op_rows(p, o, in) * out_cols(p, o);
}

static roof_work act_work(const program *p, const op *o, const batch *in) {
    return (roof_work){.flops = ACT_FLOPS * out_elems(p, o, in)};
}

static roof_work act_mul_work(const program *p, const op *o, const batch *in) {
    return (roof_work){.flops = (ACT_FLOPS + 1) * out_elems(p, o, in)};
}

/* ADD, MUL, and with one row for all. */
static roof_work binary_work(const program *p, const op *o, const batch *in) {
    return (roof_work){.weight_bytes = floats_if(o->row, out_cols(p, o)),
                       .flops = out_elems(p, o, in)};
}

static roof_work route_work(const program *p, const op *o, const batch *in) {
    const op_route *t = &o->route;
    return (roof_work){.weight_bytes = floats_if(t->bias, t->experts),
                       .flops = ROUTE_FLOPS * op_rows(p, o, in) * t->experts};
}

/* How many of `count` experts do so many rows use, which choose `used` each on their own? */
static uint64_t experts_in_use(const op_experts *x, uint64_t rows) {
    const double idle = 1 - (double)x->used / (double)num_max_u32(x->experts, 1);
    return (uint64_t)llround((double)x->experts * (1 - pow(idle, (double)rows)));
}

static roof_work experts_work(const program *p, const op *o, const batch *in) {
    const op_experts *x = &o->experts;
    const uint64_t rows = op_rows(p, o, in), outputs = rows * x->used * x->w[0].rows;
    const uint64_t read = experts_in_use(x, rows);
    return (roof_work){.weight_bytes = read * (stored_bytes(&x->w[0], x->w[0].rows) +
                                               floats_if(x->bias, x->w[0].rows)),
                       .flops = outputs * 2 * x->w[0].cols + (x->bias != NULL ? outputs : 0)};
}

static roof_work experts_sum_work(const program *p, const op *o, const batch *in) {
    return (roof_work){.flops = EXPERTS_SUM_FLOPS * out_elems(p, o, in) * o->experts.used};
}

/* Each run reads its sequence's state and leaves another. */
static uint64_t state_bytes(const op *o, const batch *in) {
    return 2ULL * in->runs_count * o->state.floats * FLOAT_BYTES;
}

static roof_work conv_work(const program *p, const op *o, const batch *in) {
    const uint64_t cols = out_cols(p, o), elems = out_elems(p, o, in);
    return (roof_work){
        .weight_bytes = cols * o->state.width * FLOAT_BYTES + floats_if(o->state.bias, cols),
        .cache_bytes = state_bytes(o, in),
        .flops = elems * (CONV_TAP_FLOPS * (uint64_t)o->state.width + (o->state.bias != NULL))};
}

static roof_work scan_work(const program *p, const op *o, const batch *in) {
    const uint64_t cols = out_cols(p, o), states = o->state.width;
    return (roof_work){.weight_bytes = cols * states * FLOAT_BYTES + floats_if(o->state.bias, cols),
                       .cache_bytes = state_bytes(o, in),
                       .flops =
                           out_elems(p, o, in) * (SCAN_STATE_FLOPS * states + SCAN_COLUMN_FLOPS)};
}

static roof_work shift_work(const program *p, const op *o, const batch *in) {
    (void)p;
    return (roof_work){.cache_bytes = state_bytes(o, in)};
}

static roof_work wkv_work(const program *p, const op *o, const batch *in) {
    return (roof_work){.weight_bytes = out_cols(p, o) * (uint64_t)FLOAT_BYTES,
                       .cache_bytes = state_bytes(o, in),
                       .flops = WKV_FLOPS * out_elems(p, o, in) * o->state.width};
}

static work_fn *const kinds[OP_KIND_COUNT] = {
    [OP_INPUT] = no_work,
    [OP_EMBED] = embed_work,
    [OP_EMBED_POS] = embed_work,
    [OP_NORM] = norm_work,
    [OP_MATMUL] = matmul_work,
    [OP_HEADS_MATMUL] = heads_matmul_work,
    [OP_ROPE] = rope_work,
    [OP_KV_WRITE] = kv_write_work,
    [OP_ATTENTION] = attention_work,
    [OP_ACT] = act_work,
    [OP_ACT_MUL] = act_mul_work,
    [OP_ADD] = binary_work,
    [OP_ADD_ROW] = binary_work,
    [OP_MUL] = binary_work,
    [OP_MUL_ROW] = binary_work,
    [OP_MUL_COL] = binary_work,
    [OP_ROUTE] = route_work,
    [OP_EXPERTS] = experts_work,
    [OP_EXPERTS_SUM] = experts_sum_work,
    [OP_CONV] = conv_work,
    [OP_SCAN] = scan_work,
    [OP_SHIFT] = shift_work,
    [OP_WKV] = wkv_work,
    [OP_TAKE_ROWS] = no_work,
    [OP_HOST] = no_work,
};

/* --- values -------------------- */

static bool is_among(uint32_t op_idx, const uint32_t *ops, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        if (ops[i] == op_idx) return true;
    return false;
}

static bool reads(const op *o, value_id v) {
    for (uint32_t i = 0; i < OP_INPUTS_MAX; i++)
        if (o->in[i] == v) return true;
    return false;
}

/* Is the value wanted by anything but these ops?  Results are, behind the last op. */
static bool is_read_outside(const program *p, value_id v, const uint32_t *ops, uint32_t count) {
    const value *d = &p->values[v];
    if (d->op_end >= p->ops_count || v == p->hidden || v == p->logits) return true;
    for (uint32_t i = d->op_def + 1U; i <= d->op_end; i++)
        if (reads(&p->ops[i], v) && !is_among(i, ops, count)) return true;
    return false;
}

/* Has one of the first `before` ops read it, or made it? */
static bool is_there(const program *p, value_id v, const uint32_t *ops, uint32_t before) {
    for (uint32_t i = 0; i < before; i++)
        if (p->ops[ops[i]].out == v || reads(&p->ops[ops[i]], v)) return true;
    return false;
}

/* Of each operand an op reads as many rows as it makes: TAKE_ROWS reads those that it takes. */
static uint64_t operand_bytes(const program *p, const uint32_t *ops, uint32_t i, const batch *in) {
    const op *o = &p->ops[ops[i]];
    const uint64_t rows = op_rows(p, o, in);
    uint64_t bytes = 0;
    for (uint32_t k = 0; k < OP_INPUTS_MAX; k++) {
        bool repeated = o->in[k] == VALUE_NONE;
        for (uint32_t j = 0; j < k && !repeated; j++) repeated = o->in[j] == o->in[k];
        if (!repeated && !is_there(p, o->in[k], ops, i)) bytes += value_bytes(p, o->in[k], rows);
    }
    return bytes;
}

roof_work roofline_task(const program *p, const uint32_t *ops, uint32_t count, const batch *in) {
    roof_work all = {0};
    for (uint32_t i = 0; i < count; i++) {
        ASSERT(ops[i] < p->ops_count);
        const op *o = &p->ops[ops[i]];
        all = sum_of(all, kinds[o->kind](p, o, in));
        all.value_bytes += operand_bytes(p, ops, i, in);
        if (o->out != VALUE_NONE && is_read_outside(p, o->out, ops, count))
            all.value_bytes += value_bytes(p, o->out, op_rows(p, o, in));
    }
    return all;
}

roof_work roofline_op(const program *p, uint32_t op_idx, const batch *in) {
    return roofline_task(p, &op_idx, 1, in);
}

/* --- what they are -------------------- */

/* NULL: it has none that it multiplies with or looks up. */
static const weight *weight_of(const op *o) {
    if (o->kind == OP_EXPERTS) return &o->experts.w[0];
    return o->w.data != NULL || o->w.packed != NULL ? &o->w : NULL;
}

roof_arith roofline_arith(const program *p, const uint32_t *ops, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        const op *o = &p->ops[ops[i]];
        const bool product =
            o->kind == OP_MATMUL || o->kind == OP_HEADS_MATMUL || o->kind == OP_EXPERTS;
        const weight *w = product ? weight_of(o) : NULL;
        if (w == NULL) continue;
        if (w->packed != NULL || dtype_get(w->type)->block_elems > 1) return ROOF_INTEGER;
        return w->type == DTYPE_F16 || w->type == DTYPE_BF16 ? ROOF_HALF : ROOF_FLOAT;
    }
    return ROOF_FLOAT;
}

/* "blk.7.attn_q.weight" as "attn_q". */
static str tensor_of(const weight *w) {
    str name = w->name;
    if (str_starts(name, S("blk."))) {
        name = str_skip(name, 4);
        while (name.n > 0 && name.p[0] != '.') name = str_skip(name, 1);
        if (name.n > 0) name = str_skip(name, 1);
    }
    if (str_ends(name, S(".weight"))) name.n -= S(".weight").n;
    return name;
}

static const char *type_of(const weight *w) {
    return w->packed != NULL ? packed_name(w->packed) : dtype_name(w->type);
}

void roofline_what(const program *p, const uint32_t *ops, uint32_t count,
                   char out[ROOF_WHAT_BYTES]) {
    const weight *before = NULL;
    size_t n = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i <= count; i++) {
        const weight *w = i < count ? weight_of(&p->ops[ops[i]]) : NULL;
        if (i < count && w == NULL) continue;
        if (before != NULL && (w == NULL || strcmp(type_of(w), type_of(before)) != 0) &&
            n < ROOF_WHAT_BYTES)
            n += (size_t)snprintf(out + n, ROOF_WHAT_BYTES - n, " %s", type_of(before));
        if (w != NULL && n < ROOF_WHAT_BYTES)
            n += (size_t)snprintf(out + n, ROOF_WHAT_BYTES - n, "%s%.*s",
                                  before != NULL ? ", " : "", STR(tensor_of(w)));
        before = w;
    }
}
