/* ref_attention.c - rotary positions, the KV cache, and attention over it. */
#include <math.h>

#include "backend/kv_q4.h"
#include "backend/kv_q8.h"
#include "backend/ref/ref_internal.h"
#include "base/assert.h"
#include "base/num.h"
#include "tensor/convert.h"

/* --- rotary positions ------------------------------------------------------------- */

/* One head: both elements of a pair are read before either is written. */
static void turn_head(const op_rope *a, uint32_t pos, const float *x, float *y) {
    for (uint32_t c = 0; c < a->head_dim; c++) y[c] = x[c];
    bool halves = a->pairs == ROPE_HALVES;
    for (uint32_t i = 0; i < a->dims / 2; i++) {
        uint32_t first = a->first + (halves ? i : 2 * i);
        uint32_t second = halves ? first + a->dims / 2 : first + 1;
        double angle = (double)pos * a->freqs[i], magnitude = (double)a->magnitude;
        double x0 = (double)x[first], x1 = (double)x[second];
        y[first] = (float)(magnitude * (x0 * cos(angle) - x1 * sin(angle)));
        y[second] = (float)(magnitude * (x0 * sin(angle) + x1 * cos(angle)));
    }
}

void ref_rope(backend *b, const op *o, const batch *in) {
    const op_rope *a = &o->rope;
    for (uint32_t r = 0; r < in->rows; r++) {
        const float *x = ref_row(b, o->in[0], r);
        float *y = ref_row(b, o->out, r);
        for (uint32_t h = 0; h < a->heads; h++)
            turn_head(a, in->pos[r], x + (size_t)h * a->head_dim, y + (size_t)h * a->head_dim);
    }
}

/* --- the KV cache ----------------------------------------------------------------- */

/* Row t of a head of a block. */
typedef struct kv_row {
    const kv_layout *l;
    void *head;
    kv_part part;
    uint32_t t;
} kv_row;

/* Its elements `first` .. */
static void kv_put(kv_row row, uint32_t first, const float *x, uint32_t n) {
    const size_t at = (size_t)row.t * kv_row_elems(row.l, (int)row.part) + first;
    if (row.l->type == DTYPE_Q8_0) {
        kv_q8_put(kv_q8_row_at(row.l, row.head, (int)row.part, row.t), first, x, n);
        return;
    }
    if (row.l->type == DTYPE_Q4_0) {
        kv_q4_put(kv_q4_row_at(row.l, row.head, (int)row.part, row.t), first, x, n);
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (row.l->type == DTYPE_F16)
            ((uint16_t *)row.head)[at + i] = convert_f32_to_f16(x[i]);
        else
            ((float *)row.head)[at + i] = x[i];
    }
}

/* Element i as it was before its group was turned: a row of the Walsh-Hadamard matrix times it. */
static double kv_get_q4(kv_q4_row row, uint32_t i) {
    const uint32_t first = i / KV_GROUP * KV_GROUP;
    double sum = 0;
    for (uint32_t k = 0; k < KV_GROUP; k++) {
        const bool minus = __builtin_parity(k & (i - first)) != 0;
        sum += (minus ? -1 : 1) * kv_q4_code(row, first + k);
    }
    return sum / sqrt(KV_GROUP) * (double)convert_f16_to_f32(row.scales[i / KV_GROUP]);
}

static double kv_get(kv_row row, uint32_t i) {
    const size_t at = (size_t)row.t * kv_row_elems(row.l, (int)row.part) + i;
    if (row.l->type == DTYPE_Q8_0) {
        const kv_q8_row q = kv_q8_row_at(row.l, row.head, (int)row.part, row.t);
        return (double)convert_f16_to_f32(q.scales[i / KV_GROUP]) * q.codes[i];
    }
    if (row.l->type == DTYPE_Q4_0)
        return kv_get_q4(kv_q4_row_at(row.l, row.head, (int)row.part, row.t), i);
    return row.l->type == DTYPE_F16 ? (double)convert_f16_to_f32(((const uint16_t *)row.head)[at])
                                    : (double)((const float *)row.head)[at];
}

/* One head of one row.  A latent cache has one row for both: k, then v. */
static void kv_put_head(backend *b, const op *o, const batch *in, uint32_t r, uint32_t h) {
    const kv_layout *l = &in->kv.layout;
    uint32_t block = in->pos[r] / KV_BLOCK_TOKENS, t = in->pos[r] % KV_BLOCK_TOKENS;
    uint32_t k_dim = ref_cols(b, o->in[0]) / l->kv_heads;
    uint32_t v_dim = ref_cols(b, o->in[1]) / l->kv_heads;
    ASSERT(l->v_in_k ? k_dim + v_dim == l->key_dim : k_dim == l->key_dim && v_dim == l->value_dim);
    const kv_row k = {l, kv_at(&in->kv, in->seats[r], block, o->layer, KV_K, h), KV_K, t};
    const kv_row v = {l, kv_at(&in->kv, in->seats[r], block, o->layer, KV_V, h), KV_V, t};
    kv_put(k, 0, ref_row(b, o->in[0], r) + (size_t)h * k_dim, k_dim);
    kv_put(v, l->v_in_k ? k_dim : 0, ref_row(b, o->in[1], r) + (size_t)h * v_dim, v_dim);
}

void ref_kv_write(backend *b, const op *o, const batch *in) {
    for (uint32_t r = 0; r < in->rows; r++)
        for (uint32_t h = 0; h < in->kv.layout.kv_heads; h++) kv_put_head(b, o, in, r, h);
}

/* --- attention -------------------------------------------------------------------- */

/* One head of keys or values of one sequence. */
typedef struct kv_head {
    const kv_view *kv;
    uint32_t seat;
    uint32_t layer;
    uint32_t head;
    kv_part part;
} kv_head;

static double kv_head_get(const kv_head *s, uint32_t pos, uint32_t i) {
    const kv_layout *l = &s->kv->layout;
    void *head = kv_at(s->kv, s->seat, pos / KV_BLOCK_TOKENS, s->layer, s->part, s->head);
    return kv_get((kv_row){l, head, s->part, pos % KV_BLOCK_TOKENS}, i);
}

/* The score of query head h at position i for the key at position j. */
static double score(const op_attention *a, const float *q, const kv_head *k, uint32_t h, uint32_t i,
                    uint32_t j) {
    double s = 0;
    for (uint32_t c = 0; c < a->key_dim; c++) s += (double)q[c] * kv_head_get(k, j, c);
    s *= (double)a->scale;
    if (a->softcap != 0) s = (double)a->softcap * tanh(s / (double)a->softcap);
    if (a->slopes != NULL) s -= (double)a->slopes[h] * fabs((double)i - (double)j);
    return s;
}

typedef struct span {
    uint32_t begin, end; /* positions begin .. end - 1 */
} span;

/* What row r sees: a window reaches back, and forward where the row may look there. */
static span seen_by(const op_attention *a, const batch *in, uint32_t r) {
    uint32_t i = in->pos[r], end = a->causal ? i + 1 : batch_seen_whole(in, r);
    if (a->window == 0) return (span){0, end};
    uint32_t begin = i + 1 > a->window ? i + 1 - a->window : 0;
    return (span){begin, (uint32_t)num_min_u64(end, (uint64_t)i + a->window)};
}

/* One query head of one row: scores, softmax, weighted sum of the values. */
static void attend(backend *b, const op *o, const batch *in, uint32_t r, uint32_t h) {
    const op_attention *a = &o->attn;
    const float *q = ref_row(b, o->in[0], r) + (size_t)h * a->key_dim;
    float *y = ref_row(b, o->out, r) + (size_t)h * a->value_dim;
    kv_head k = {&in->kv, in->seats[r], o->layer, h / (a->heads / a->kv_heads), KV_K}, v = k;
    v.part = KV_V;
    span seen = seen_by(a, in, r);
    double *w = b->scratch; /* [seen] */
    uint32_t n = seen.end - seen.begin;
    double max = a->sinks != NULL ? (double)a->sinks[h] : -INFINITY;
    for (uint32_t j = 0; j < n; j++)
        max = fmax(max, w[j] = score(a, q, &k, h, in->pos[r], seen.begin + j));
    double sum = a->sinks != NULL ? exp((double)a->sinks[h] - max) : 0;
    for (uint32_t j = 0; j < n; j++) sum += w[j] = exp(w[j] - max);
    for (uint32_t c = 0; c < a->value_dim; c++) {
        double out = 0;
        for (uint32_t j = 0; j < n; j++) out += w[j] * kv_head_get(&v, seen.begin + j, c);
        y[c] = (float)(out / sum);
    }
}

void ref_attention(backend *b, const op *o, const batch *in) {
    const kv_layout *l = &in->kv.layout;
    const op_attention *a = &o->attn;
    ASSERT(a->kv_heads == l->kv_heads && a->key_dim == l->key_dim && a->value_dim == l->value_dim);
    for (uint32_t r = 0; r < in->rows; r++)
        for (uint32_t h = 0; h < a->heads; h++) attend(b, o, in, r, h);
}
