/* hf_split.c - tensors that GGUF has in another cut: fused ones that become several, rows that
 * change places.  Plain types only; slices stay where they are in the file. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "model/hf_tensors.h"
#include "tensor/convert.h"

/* --- q, k and v head by head ----------------------------------------------------------- */
bool hf_is_by_head(const hf_job *j, uint32_t bits) {
    return (bits & HF_QKV_BY_HEAD) != 0 && j->kv_heads > 1;
}

status hf_split_heads(hf_job *j, const safetensor *t, uint64_t row_bytes, const void *data,
                      void **out, error *err) {
    uint64_t queries = j->heads / j->kv_heads, rows = (uint64_t)j->head_dim * (queries + 2);
    uint64_t head = j->head_dim * row_bytes, q_bytes = queries * head;
    if (t->dims_count == 0 || t->dims[0] != rows * j->kv_heads)
        return error_set(err, ERR_FORMAT,
                         "tensor '%.*s' has %" PRIu64 " rows, want %" PRIu64
                         ": %u heads of %u, and keys and values of %u",
                         STR(t->name), t->dims_count > 0 ? t->dims[0] : 0, rows * j->kv_heads,
                         j->heads, j->head_dim, j->kv_heads);
    TRY(hf_take(j, t, rows * j->kv_heads * row_bytes, out, err));
    char *q = *out, *k = q + q_bytes * j->kv_heads, *v = k + head * j->kv_heads;
    const char *from = data;
    for (uint32_t g = 0; g < j->kv_heads; g++, from += rows * row_bytes) {
        memcpy(q + g * q_bytes, from, q_bytes);
        memcpy(k + g * head, from + q_bytes, head);
        memcpy(v + g * head, from + q_bytes + head, head);
    }
    return OK;
}

/* --- slices ------------------------------------------------------------------------------ */
typedef struct slice {
    const char *pattern;
    uint64_t rows;
    uint32_t halves; /* heads whose rows are rotary halves; 0: none */
} slice;

/* Which slices `whole` has; answers how many. */
static uint32_t slices_of(const hf_job *j, uint32_t bits, uint64_t rows, slice out[3]) {
    uint64_t q = (uint64_t)j->heads * j->head_dim, k = (uint64_t)j->kv_heads * j->head_dim;
    if ((bits & HF_UP_GATE) != 0) {
        out[0] = (slice){"blk.#.ffn_up", rows / 2, 0};
        out[1] = (slice){"blk.#.ffn_gate", rows - rows / 2, 0};
        return 2;
    }
    out[0] = (slice){"blk.#.attn_q", q, hf_halves_of(j, HF_QUERY_ROWS)};
    out[1] = (slice){"blk.#.attn_k", k, hf_halves_of(j, HF_KEY_ROWS)};
    out[2] = (slice){"blk.#.attn_v", k, 0};
    return 3;
}

static status put_slice(hf_job *j, const hf_match *m, const gguf_tensor *whole, const slice *s,
                        uint64_t row0, const char *suffix, error *err) {
    char name[GGUF_NAME_BYTES_MAX], stem[GGUF_NAME_BYTES_MAX - 8];
    bool is_vector = whole->dims_count == 1;
    uint64_t row_bytes =
        (is_vector ? 1 : whole->dims[0]) * (uint64_t)dtype_get(whole->type)->block_bytes;
    gguf_tensor t = *whole;
    if (!hf_name_expand(s->pattern, m->layer, 0, stem, sizeof stem))
        return error_set(err, ERR_INTERNAL, "layer %u has a name too long", m->layer);
    (void)snprintf(name, sizeof name, "%s.%s", stem, suffix);
    t.name = str_of(name);
    t.dims[is_vector ? 0 : 1] = s->rows;
    t.data = (const char *)whole->data + row0 * row_bytes;
    t.halves_heads = s->halves;
    gguf_make_tensor(j->maker, &t);
    return OK;
}

status hf_put_slices(hf_job *j, const hf_match *m, const gguf_tensor *whole, const char *suffix,
                     error *err) {
    slice slices[3];
    uint64_t rows = whole->dims[whole->dims_count == 1 ? 0 : 1], row0 = 0, sum = 0;
    uint32_t count = slices_of(j, m->row->bits, rows, slices);
    for (uint32_t i = 0; i < count; i++) sum += slices[i].rows;
    if (whole->dims_count > 2 || rows != sum || rows % 2 != 0)
        return error_set(err, ERR_FORMAT,
                         "module '%.*s' has %" PRIu64 " rows, want %" PRIu64 " in %u parts",
                         STR(m->module), rows, sum, count);
    for (uint32_t i = 0; i < count; i++) {
        TRY(put_slice(j, m, whole, &slices[i], row0, suffix, err));
        row0 += slices[i].rows;
    }
    return OK;
}

/* --- rows of length one -------------------------------------------------------------------- */
/* Baichuan 2 makes them so when it first computes.  Its class guards against a length of 0 by
 * 1e-12. */
static void unit_row(float *row, uint64_t cols) {
    double sum = 0;
    for (uint64_t i = 0; i < cols; i++) sum += (double)row[i] * (double)row[i];
    double length = fmax(sqrt(sum), 1e-12);
    for (uint64_t i = 0; i < cols; i++) row[i] = (float)((double)row[i] / length);
}

status hf_unit_rows(hf_job *j, const safetensor *t, gguf_tensor *out, error *err) {
    void *taken = NULL;
    uint64_t rows = t->dims[0], cols = t->dims_count == 2 ? t->dims[1] : 0;
    if (cols == 0 || cols > MODEL_EMBD_MAX || rows > MODEL_VOCAB_MAX)
        return error_set(err, ERR_FORMAT, "tensor '%.*s' is no matrix of at most %u rows",
                         STR(t->name), MODEL_VOCAB_MAX);
    TRY(hf_take(j, t, rows * cols * sizeof(float), &taken, err));
    const char *from = t->data;
    uint64_t row_bytes = cols * dtype_get(out->type)->block_bytes;
    for (uint64_t r = 0; r < rows; r++) {
        float *row = (float *)taken + r * cols;
        dequant_row(out->type, from + r * row_bytes, row, (uint32_t)cols);
        unit_row(row, cols);
    }
    out->type = DTYPE_F32;
    out->data = taken;
    return OK;
}
