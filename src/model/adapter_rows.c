/* adapter_rows.c - see adapter_rows.h. */
#include "model/adapter_rows.h"

#include <string.h>

/* Where row r of a head of `dim` rows comes from. */
static uint32_t from_halves(uint32_t r, uint32_t dim) { return r / 2 + (r % 2) * (dim / 2); }
static uint32_t from_adjacent(uint32_t r, uint32_t dim) {
    return r < dim / 2 ? 2 * r : 2 * (r - dim / 2) + 1;
}

static status reorder(adapter *a, str tensor, uint32_t heads, model_tensor *b,
                      uint32_t (*source)(uint32_t r, uint32_t dim), error *err) {
    uint64_t row_bytes = 0;
    bool whole = dtype_row_bytes(b->type, b->cols, &row_bytes);
    if (!whole || heads == 0 || b->rows % heads != 0 || b->rows / heads % 2 != 0)
        return error_set(err, ERR_FORMAT, "lora: '%.*s' has %u rows, the model has %u heads",
                         STR(tensor), b->rows, heads);
    char *rows = arena_take(&a->arena, (size_t)(b->rows * row_bytes));
    if (rows == NULL) return error_set(err, ERR_NOMEM, "lora: no memory for '%.*s'", STR(tensor));
    uint32_t dim = b->rows / heads;
    for (uint32_t r = 0; r < b->rows; r++) {
        uint32_t from = r - r % dim + source(r % dim, dim);
        memcpy(rows + r * row_bytes, (const char *)b->data + from * row_bytes, row_bytes);
    }
    b->data = rows;
    return OK;
}

static const gguf_tensor *model_tensor_of(const adapter *a, str tensor) {
    const gguf *g = model_gguf(a->m);
    return g != NULL ? gguf_tensor_find(g, tensor) : NULL;
}

status adapter_rows_from_gguf(adapter *a, str tensor, model_tensor *b, error *err) {
    const gguf_tensor *t = model_tensor_of(a, tensor);
    if (t == NULL || t->halves_heads == 0) return OK;
    return reorder(a, tensor, t->halves_heads, b, from_adjacent, err);
}

status adapter_rows_from_halves(adapter *a, str tensor, uint32_t heads, model_tensor *b,
                                error *err) {
    const gguf_tensor *t = model_tensor_of(a, tensor);
    if (t != NULL && t->halves_heads != 0) return OK;
    return reorder(a, tensor, heads, b, from_halves, err);
}
