/* bind.c - tensors of the file to fields of the model, each checked for shape and type. */
#include <inttypes.h>

#include "model/model_internal.h"
#include "tensor/convert.h"

/* What kernels may rely on.  Files written with general.alignment below this can place
 * a tensor anywhere. */
enum { TENSOR_ALIGN_BYTES = 4 };

static status missing(const char *name, error *err) {
    return error_set(err, ERR_FORMAT, "model: tensor '%s' is missing", name);
}

static status check_shape(const gguf_tensor *t, uint32_t rows, uint32_t cols, error *err) {
    if (t->dims[0] != cols)
        return error_set(err, ERR_FORMAT,
                         "model: tensor '%.*s' has %" PRIu64 " columns, must have %u", STR(t->name),
                         t->dims[0], cols);
    if (t->dims[1] != rows)
        return error_set(err, ERR_FORMAT, "model: tensor '%.*s' has %" PRIu64 " rows, must have %u",
                         STR(t->name), t->dims[1], rows);
    if (t->dims[2] != 1 || t->dims[3] != 1)
        return error_set(err, ERR_FORMAT,
                         "model: tensor '%.*s' has %u dimensions, must have at most 2",
                         STR(t->name), t->dims_count);
    return OK;
}

static status check_place(const gguf_tensor *t, error *err) {
    if (t->offset % TENSOR_ALIGN_BYTES == 0) return OK;
    return error_set(err, ERR_UNSUPPORTED,
                     "model: tensor '%.*s' is at byte %" PRIu64 ", must be a multiple of %d",
                     STR(t->name), t->offset, TENSOR_ALIGN_BYTES);
}

static status check_type(const gguf_tensor *t, error *err) {
    if (!dtype_get((uint32_t)t->type)->is_integer) return OK;
    return error_set(err, ERR_UNSUPPORTED, "model: tensor '%.*s' is %s, weights cannot be integers",
                     STR(t->name), dtype_name(t->type));
}

/* The tensor of that name and shape, marked as used; NULL when the file has none. */
static status find(model *m, const char *name, uint32_t rows, uint32_t cols,
                   const gguf_tensor **out, error *err) {
    const gguf *g = m->internal->gguf;
    const gguf_tensor *t = gguf_tensor_find(g, str_of(name));
    *out = t;
    if (t == NULL) return OK;
    TRY(check_shape(t, rows, cols, err));
    TRY(check_place(t, err));
    m->internal->bound[gguf_tensor_index(g, t)] = true;
    return OK;
}

status model_bind_matrix(model *m, const char *name, uint32_t rows, uint32_t cols,
                         model_tensor *out, error *err) {
    const gguf_tensor *t = NULL;
    TRY(find(m, name, rows, cols, &t, err));
    if (t == NULL) return missing(name, err);
    TRY(check_type(t, err));
    *out = (model_tensor){t->name, t->type, rows, cols, t->data, t->bytes};
    return OK;
}

/* The vector's f32 form: the file's own bytes, or a copy in the model's arena. */
static status widen(model *m, const gguf_tensor *t, uint32_t cols, const void **out, error *err) {
    void *f32 = NULL;
    *out = t->data;
    if (t->type == DTYPE_F32) return OK;
    TRY(model_take(m, cols, sizeof(float), "a vector", &f32, err));
    dequant_row(t->type, t->data, f32, cols);
    *out = f32;
    return OK;
}

status model_bind_vector(model *m, const char *name, uint32_t cols, bool optional,
                         model_tensor *out, error *err) {
    const gguf_tensor *t = NULL;
    const void *data = NULL;
    TRY(find(m, name, 1, cols, &t, err));
    if (t == NULL) return optional ? OK : missing(name, err);
    TRY(check_type(t, err));
    TRY(widen(m, t, cols, &data, err));
    *out = (model_tensor){t->name, DTYPE_F32, 1, cols, data, (uint64_t)cols * sizeof(float)};
    return OK;
}

status model_check_bound(const model *m, error *err) {
    const gguf *g = m->internal->gguf;
    for (uint32_t i = 0; i < gguf_tensor_count(g); i++) {
        if (m->internal->bound[i]) continue;
        return error_set(err, ERR_UNSUPPORTED,
                         "model: tensor '%.*s' has no place in architecture '%s' as this version "
                         "knows it",
                         STR(gguf_tensor_get(g, i)->name), m->hparams.arch);
    }
    return OK;
}
