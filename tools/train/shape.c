/* shape.c - see shape.h.  Tensor names are those of GGUF files of architecture "llama". */
#include "train/shape.h"

#include <stdio.h>

#include "base/assert.h"

/* --- checks ------------------------------------------------------------------------------ */

static status check_range(const char *what, uint32_t value, uint32_t min, uint32_t max,
                          error *err) {
    if (value >= min && value <= max) return OK;
    return error_set(err, ERR_INVALID, "model: %s is %u, must be %u to %u", what, value, min, max);
}

status shape_check(const shape *s, error *err) {
    TRY(check_range("the vocabulary", s->vocab, 2, SHAPE_VOCAB_MAX, err));
    TRY(check_range("embd", s->embd, 1, SHAPE_EMBD_MAX, err));
    TRY(check_range("layers", s->layers, 1, SHAPE_LAYERS_MAX, err));
    TRY(check_range("heads", s->heads, 1, SHAPE_EMBD_MAX, err));
    TRY(check_range("kv-heads", s->kv_heads, 1, s->heads, err));
    TRY(check_range("head-dim", s->head_dim, 2, 256, err));
    TRY(check_range("ff", s->ff, 1, SHAPE_FF_MAX, err));
    TRY(check_range("ctx", s->ctx, 2, SHAPE_CTX_MAX, err));
    if (s->heads % s->kv_heads != 0)
        return error_set(err, ERR_INVALID, "model: %u heads cannot share %u kv-heads evenly",
                         s->heads, s->kv_heads);
    if (s->head_dim % 2 != 0)
        return error_set(err, ERR_INVALID, "model: head-dim is %u, pairs need an even number",
                         s->head_dim);
    if (s->heads > SHAPE_EMBD_MAX / s->head_dim)
        return error_set(err, ERR_INVALID, "model: %u heads of %u are more than %u columns",
                         s->heads, s->head_dim, SHAPE_EMBD_MAX);
    return OK;
}

/* --- one layer --------------------------------------------------------------------------- */

typedef struct layer_row {
    const char *name;
    uint32_t rows, cols;
    bool residual;
} layer_row;

static layer_row layer_row_of(const shape *s, layer_tensor which) {
    const uint32_t q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;
    const layer_row rows[LAYER_TENSORS] = {
        [LAYER_ATTN_NORM] = {"attn_norm", 0, s->embd, false},
        [LAYER_Q] = {"attn_q", q, s->embd, false},
        [LAYER_K] = {"attn_k", kv, s->embd, false},
        [LAYER_V] = {"attn_v", kv, s->embd, false},
        [LAYER_O] = {"attn_output", s->embd, q, true},
        [LAYER_FFN_NORM] = {"ffn_norm", 0, s->embd, false},
        [LAYER_GATE] = {"ffn_gate", s->ff, s->embd, false},
        [LAYER_UP] = {"ffn_up", s->ff, s->embd, false},
        [LAYER_DOWN] = {"ffn_down", s->embd, s->ff, true},
    };
    return rows[which];
}

static size_t row_count(layer_row r) { return (size_t)(r.rows > 0 ? r.rows : 1) * r.cols; }

/* Elements of a layer before tensor `which`. */
static size_t layer_offset(const shape *s, layer_tensor which) {
    size_t at = 0;
    for (uint32_t i = 0; i < which; i++) at += row_count(layer_row_of(s, (layer_tensor)i));
    return at;
}

size_t shape_layer_at(const shape *s, uint32_t layer, layer_tensor which) {
    return (size_t)s->vocab * s->embd + layer * layer_offset(s, LAYER_TENSORS) +
           layer_offset(s, which);
}

size_t shape_output_norm_at(const shape *s) { return shape_layer_at(s, s->layers, 0); }

/* --- all tensors ------------------------------------------------------------------------- */

uint32_t shape_tensors(const shape *s) { return 1 + s->layers * LAYER_TENSORS + 1; }

size_t shape_tensor_count(const shape_tensor *t) {
    return (size_t)(t->rows > 0 ? t->rows : 1) * t->cols;
}

size_t shape_params(const shape *s) { return shape_output_norm_at(s) + s->embd; }

shape_tensor shape_tensor_get(const shape *s, uint32_t index) {
    ASSERT(index < shape_tensors(s));
    if (index == 0)
        return (shape_tensor){.name = "token_embd.weight", .rows = s->vocab, .cols = s->embd};
    if (index == shape_tensors(s) - 1)
        return (shape_tensor){
            .name = "output_norm.weight", .at = shape_output_norm_at(s), .cols = s->embd};
    const uint32_t layer = (index - 1) / LAYER_TENSORS;
    const layer_tensor which = (layer_tensor)((index - 1) % LAYER_TENSORS);
    const layer_row r = layer_row_of(s, which);
    shape_tensor t = {.at = shape_layer_at(s, layer, which),
                      .rows = r.rows,
                      .cols = r.cols,
                      .residual = r.residual};
    (void)snprintf(t.name, sizeof t.name, "blk.%u.%s.weight", layer, r.name);
    return t;
}
