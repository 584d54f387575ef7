/* bind.c - tensors of the file to fields of the model, each checked for shape and type. */
#include <inttypes.h>
#include <stdio.h>

#include "base/assert.h"
#include "base/num.h"
#include "model/model_internal.h"
#include "tensor/convert.h"

/* What kernels may rely on.  Files written with general.alignment below this can place
 * a tensor anywhere. */
enum { TENSOR_ALIGN_BYTES = 4 };

typedef struct tensor_name {
    char bytes[2 * GGUF_NAME_BYTES_MAX];
} tensor_name;

/* "blk.LAYER.STEM" + tail; without "blk.LAYER." outside the layers. */
static const char *name_of(tensor_name *n, uint32_t layer, const char *stem, const char *tail) {
    int bytes = layer == MODEL_LAYER_NONE
                    ? snprintf(n->bytes, sizeof n->bytes, "%s%s", stem, tail)
                    : snprintf(n->bytes, sizeof n->bytes, "blk.%u.%s%s", layer, stem, tail);
    ASSERT(bytes > 0 && (size_t)bytes < sizeof n->bytes); /* stems are ours, and short */
    return n->bytes;
}

/* --- checks ------------------------------------------------------------------ */
static status check_need(const char *name, model_need need, error *err) {
    if (need == MODEL_OPTIONAL) return OK;
    return error_set(err, ERR_FORMAT, "model: tensor '%s' is missing", name);
}

static status check_shape(const gguf_tensor *t, uint32_t parts, uint32_t rows, uint32_t cols,
                          error *err) {
    if (t->dims[0] != cols)
        return error_set(err, ERR_FORMAT,
                         "model: tensor '%.*s' has %" PRIu64 " columns, must have %u", STR(t->name),
                         t->dims[0], cols);
    if (t->dims[1] != rows)
        return error_set(err, ERR_FORMAT, "model: tensor '%.*s' has %" PRIu64 " rows, must have %u",
                         STR(t->name), t->dims[1], rows);
    if (t->dims[3] != 1 || (parts == 1 && t->dims[2] != 1))
        return error_set(err, ERR_FORMAT,
                         "model: tensor '%.*s' has %u dimensions, must have at most %d",
                         STR(t->name), t->dims_count, parts == 1 ? 2 : 3);
    if (t->dims[2] != parts)
        return error_set(err, ERR_FORMAT,
                         "model: tensor '%.*s' has %" PRIu64 " matrices, must have %u",
                         STR(t->name), t->dims[2], parts);
    return OK;
}

static status check_place(const gguf_tensor *t, const void *data, error *err) {
    uint32_t past = (uint32_t)((uintptr_t)data % TENSOR_ALIGN_BYTES);
    if (past == 0) return OK;
    return error_set(err, ERR_UNSUPPORTED,
                     "model: tensor '%.*s' lies %u bytes past a multiple of %d, must be a multiple "
                     "of %d",
                     STR(t->name), past, TENSOR_ALIGN_BYTES, TENSOR_ALIGN_BYTES);
}

static status check_type(const gguf_tensor *t, error *err) {
    if (!dtype_get((uint32_t)t->type)->is_integer) return OK;
    return error_set(err, ERR_UNSUPPORTED, "model: tensor '%.*s' is %s, weights cannot be integers",
                     STR(t->name), dtype_name(t->type));
}

/* The tensor of that name, marked as used; NULL when the file has none. */
static status find(model *m, const char *name, const gguf_tensor **out, error *err) {
    const gguf *g = m->internal->gguf;
    const gguf_tensor *t = gguf_tensor_find(g, str_of(name));
    *out = t;
    if (t == NULL) return OK;
    TRY(check_type(t, err));
    m->internal->bound[gguf_tensor_index(g, t)] = true;
    return OK;
}

void model_leave(model *m, uint32_t layer, const char *stem) {
    tensor_name n;
    const gguf *g = m->internal->gguf;
    const gguf_tensor *t = gguf_tensor_find(g, str_of(name_of(&n, layer, stem, ".weight")));
    if (t != NULL) m->internal->bound[gguf_tensor_index(g, t)] = true;
}

/* --- matrices ---------------------------------------------------------------- */
static status bind_whole(const gguf_tensor *t, uint32_t rows, uint32_t cols, model_tensor *out,
                         error *err) {
    TRY(check_shape(t, 1, rows, cols, err));
    TRY(check_place(t, t->data, err));
    *out = (model_tensor){.name = t->name,
                          .type = t->type,
                          .rows = rows,
                          .cols = cols,
                          .data = t->data,
                          .bytes = t->bytes,
                          .packed = t->packed};
    return OK;
}

status model_bind_matrix(model *m, uint32_t layer, const char *stem, uint32_t rows, uint32_t cols,
                         model_need need, model_tensor *out, error *err) {
    tensor_name n;
    const gguf_tensor *t = NULL;
    TRY(find(m, name_of(&n, layer, stem, ".weight"), &t, err));
    if (t == NULL) return check_need(n.bytes, need, err);
    return bind_whole(t, rows, cols, out, err);
}

status model_bind_stack(model *m, uint32_t layer, const char *stem, uint32_t heads, uint32_t rows,
                        uint32_t cols, model_tensor *out, error *err) {
    tensor_name n;
    const gguf_tensor *t = NULL;
    TRY(find(m, name_of(&n, layer, stem, ".weight"), &t, err));
    if (t == NULL) return check_need(n.bytes, MODEL_REQUIRED, err);
    TRY(check_shape(t, heads, rows, cols, err));
    if (t->data == NULL)
        return error_set(err, ERR_UNSUPPORTED, "model: tensor '%s' is packed, must be plain",
                         n.bytes);
    TRY(check_place(t, t->data, err));
    *out = (model_tensor){.name = t->name,
                          .type = t->type,
                          .rows = heads * rows,
                          .cols = cols,
                          .data = t->data,
                          .bytes = t->bytes};
    return OK;
}

uint64_t model_weight_rows(const model *m, uint32_t layer, const char *stem) {
    tensor_name n;
    const char *name = name_of(&n, layer, stem, ".weight");
    const gguf_tensor *t = gguf_tensor_find(m->internal->gguf, str_of(name));
    return t != NULL ? t->dims[1] : 0;
}

/* --- vectors ----------------------------------------------------------------- */
/* The vector as f32 in the model's arena, also where the file has it as that: every step reads it,
 * and from the file it would come back with all that lies around it whenever memory is short, since
 * the kernel reads ahead.  (A container with 1.15 x the size of a model was 12 times as slow.) */
static status copy_out(model *m, const gguf_tensor *t, uint32_t cols, const void **out,
                       error *err) {
    void *f32 = NULL;
    if (t->data == NULL)
        return error_set(err, ERR_UNSUPPORTED, "model: tensor '%.*s' is packed, must be plain",
                         STR(t->name));
    TRY(check_place(t, t->data, err));
    TRY(model_take(m, cols, sizeof(float), "a vector", &f32, err));
    dequant_row(t->type, t->data, f32, cols);
    *out = f32;
    return OK;
}

static status bind_vector(model *m, const char *name, uint32_t cols, model_need need,
                          model_tensor *out, error *err) {
    const gguf_tensor *t = NULL;
    const void *data = NULL;
    TRY(find(m, name, &t, err));
    if (t == NULL) return check_need(name, need, err);
    if (t->elems != cols)
        return error_set(err, ERR_FORMAT,
                         "model: tensor '%.*s' has %" PRIu64 " elements, must have %u",
                         STR(t->name), t->elems, cols);
    TRY(copy_out(m, t, cols, &data, err));
    *out = (model_tensor){.name = t->name,
                          .type = DTYPE_F32,
                          .rows = 1,
                          .cols = cols,
                          .data = data,
                          .bytes = (uint64_t)cols * sizeof(float)};
    return OK;
}

status model_bind_vector(model *m, uint32_t layer, const char *name, uint32_t cols, model_need need,
                         model_tensor *out, error *err) {
    tensor_name n;
    return bind_vector(m, name_of(&n, layer, name, ""), cols, need, out, err);
}

status model_bind_linear(model *m, uint32_t layer, const char *stem, uint32_t rows, uint32_t cols,
                         model_need need, model_linear *out, error *err) {
    tensor_name n;
    TRY(model_bind_matrix(m, layer, stem, rows, cols, need, &out->w, err));
    if (!model_has(&out->w)) return OK;
    return bind_vector(m, name_of(&n, layer, stem, ".bias"), rows, MODEL_OPTIONAL, &out->bias, err);
}

status model_bind_norm(model *m, uint32_t layer, const char *stem, uint32_t cols, model_need need,
                       model_norm *out, error *err) {
    tensor_name n;
    TRY(bind_vector(m, name_of(&n, layer, stem, ".weight"), cols, need, &out->gain, err));
    out->on = model_has(&out->gain);
    if (!out->on) return OK;
    return bind_vector(m, name_of(&n, layer, stem, ".bias"), cols, MODEL_OPTIONAL, &out->bias, err);
}

/* --- experts ----------------------------------------------------------------- */
/* Parts of one tensor: one behind the other, or wherever its description says. */
static status bind_stacked(const gguf_tensor *t, model_tensor *parts, uint32_t experts,
                           uint32_t rows, uint32_t cols, error *err) {
    TRY(check_shape(t, experts, rows, cols, err));
    uint64_t bytes = t->bytes / experts;
    for (uint32_t i = 0; i < experts; i++) {
        const void *data = t->data != NULL ? (const char *)t->data + i * bytes : NULL;
        const packed_matrix *packed = t->packed;
        if (t->parts != NULL) {
            data = t->parts[i].data;
            packed = t->parts[i].packed;
        }
        TRY(check_place(t, data, err));
        parts[i] = (model_tensor){.name = t->name,
                                  .type = t->type,
                                  .rows = rows,
                                  .cols = cols,
                                  .data = data,
                                  .bytes = bytes,
                                  /* rows of a part's own packed matrix begin at 0 */
                                  .row0 = t->parts != NULL ? 0 : i * rows,
                                  .packed = packed};
    }
    return OK;
}

/* Older files have a tensor per expert: "ffn_up.3" is part 3 of "ffn_up_exps". */
static const char *apart_stem(tensor_name *n, const char *stem, uint32_t expert) {
    str base = str_of(stem);
    if (str_ends(base, S("_exps"))) base.n -= S("_exps").n;
    (void)snprintf(n->bytes, sizeof n->bytes, "%.*s.%u", STR(base), expert);
    return n->bytes;
}

static bool has_apart(const model *m, uint32_t layer, const char *stem) {
    tensor_name n, one;
    const char *name = name_of(&n, layer, apart_stem(&one, stem, 0), ".weight");
    return gguf_tensor_find(m->internal->gguf, str_of(name)) != NULL;
}

static status bind_apart(model *m, uint32_t layer, const char *stem, model_tensor *parts,
                         uint32_t experts, uint32_t rows, uint32_t cols, error *err) {
    for (uint32_t i = 0; i < experts; i++) {
        tensor_name n;
        const char *one = apart_stem(&n, stem, i);
        TRY(model_bind_matrix(m, layer, one, rows, cols, MODEL_REQUIRED, &parts[i], err));
        if (parts[i].type != parts[0].type)
            return error_set(
                err, ERR_UNSUPPORTED, "model: tensor '%.*s' is %s, that of expert 0 is %s",
                STR(parts[i].name), dtype_name(parts[i].type), dtype_name(parts[0].type));
    }
    return OK;
}

status model_bind_experts(model *m, uint32_t layer, const char *stem, uint32_t rows, uint32_t cols,
                          model_need need, model_tensor *out, error *err) {
    tensor_name n;
    const gguf_tensor *t = NULL;
    void *parts = NULL;
    uint32_t experts = m->hparams.experts.count;
    TRY(find(m, name_of(&n, layer, stem, ".weight"), &t, err));
    if (t == NULL && !has_apart(m, layer, stem)) return check_need(n.bytes, need, err);
    TRY(model_take(m, experts, sizeof(model_tensor), "the experts", &parts, err));
    if (t != NULL)
        TRY(bind_stacked(t, parts, experts, rows, cols, err));
    else
        TRY(bind_apart(m, layer, stem, parts, experts, rows, cols, err));
    *out = *(const model_tensor *)parts;
    out->data = NULL;
    out->packed = NULL;
    out->parts = parts;
    return OK;
}

/* --- slices ------------------------------------------------------------------ */
model_tensor model_slice_rows(const model_tensor *from, uint32_t row0, uint32_t rows) {
    model_tensor t = *from;
    uint64_t row_bytes = from->rows != 0 ? from->bytes / from->rows : 0;
    t.rows = rows;
    t.row0 = from->row0 + row0;
    t.bytes = rows * row_bytes;
    if (from->data != NULL) t.data = (const char *)from->data + row0 * row_bytes;
    return model_has(from) ? t : (model_tensor){0};
}

/* A bias is one row whose columns go with the rows of w. */
static model_tensor slice_bias(const model_tensor *from, uint32_t first, uint32_t count) {
    model_tensor t = *from;
    if (from->data == NULL) return t;
    t.cols = count;
    t.bytes = (uint64_t)count * sizeof(float);
    t.data = (const float *)from->data + first;
    return t;
}

model_linear model_slice_linear(const model_linear *from, uint32_t row0, uint32_t rows) {
    return (model_linear){model_slice_rows(&from->w, row0, rows),
                          slice_bias(&from->bias, row0, rows)};
}

/* --- nothing left over --------------------------------------------------------- */
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
