/* gguf_tensors.c - the tensor section of a GGUF file: shapes, and where the bytes are. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/num.h"
#include "model/gguf_internal.h"

/* For "%.*s": a name that was read has at most GGUF_NAME_BYTES_MAX bytes and is shown whole. */
#define NAME(tensor) (int)(tensor)->name.n, (tensor)->name.p

/* --- one description ------------------------------------------------------- */
static status count_elems(gguf_tensor *t, error *err) {
    if (t->dims_count < 1 || t->dims_count > GGUF_DIMS_MAX)
        return error_set(err, ERR_FORMAT, "gguf: tensor '%.*s' has %u dimensions, must be 1 to %u",
                         NAME(t), t->dims_count, GGUF_DIMS_MAX);
    t->elems = 1;
    for (uint32_t i = 0; i < t->dims_count; i++) {
        if (t->dims[i] < 1 || t->dims[i] > INT64_MAX)
            return error_set(err, ERR_FORMAT,
                             "gguf: tensor '%.*s' has %" PRId64 " elements in dimension %u, must "
                             "be at least 1",
                             NAME(t), (int64_t)t->dims[i], i);
        if (!num_mul_u64(&t->elems, t->elems, t->dims[i]) || t->elems > INT64_MAX)
            return error_set(err, ERR_FORMAT,
                             "gguf: tensor '%.*s' has more than 2^63 elements up to dimension %u",
                             NAME(t), i);
    }
    for (uint32_t i = t->dims_count; i < GGUF_DIMS_MAX; i++) t->dims[i] = 1;
    return OK;
}

static status count_bytes(gguf_tensor *t, error *err) {
    uint64_t row_bytes = 0;
    const dtype_info *info = dtype_get((uint32_t)t->type);
    if (info == NULL)
        return error_set(err, ERR_FORMAT, "gguf: tensor '%.*s' has type %u, which is no ggml type",
                         NAME(t), (uint32_t)t->type);
    if (t->dims[0] % info->block_elems != 0)
        return error_set(err, ERR_FORMAT,
                         "gguf: tensor '%.*s' has rows of %" PRIu64 ", %s packs %u elements",
                         NAME(t), t->dims[0], info->name, info->block_elems);
    if (!dtype_row_bytes(t->type, t->dims[0], &row_bytes) ||
        !num_mul_u64(&t->bytes, row_bytes, t->elems / t->dims[0]))
        return error_set(err, ERR_FORMAT,
                         "gguf: tensor '%.*s' has %" PRIu64 " elements of %s, over 2^64 bytes",
                         NAME(t), t->elems, info->name);
    return OK;
}

status gguf_size_tensor(gguf_tensor *t, error *err) {
    TRY(count_elems(t, err));
    return count_bytes(t, err);
}

static status read_tensor(gguf_cursor *c, gguf_tensor *t, error *err) {
    uint32_t type = 0;
    TRY(gguf_read_name(c, "tensor name", GGUF_NAME_BYTES_MAX, &t->name, err));
    TRY(gguf_read_u32(c, "a tensor's dimensions", &t->dims_count, err));
    for (uint32_t i = 0; i < t->dims_count && i < GGUF_DIMS_MAX; i++)
        TRY(gguf_read_u64(c, "a tensor's dimensions", &t->dims[i], err));
    TRY(count_elems(t, err));
    TRY(gguf_read_u32(c, "a tensor's type", &type, err));
    t->type = (dtype)type;
    TRY(count_bytes(t, err));
    return gguf_read_u64(c, "a tensor's offset", &t->offset, err);
}

status gguf_index_tensors(gguf *g, error *err) {
    TRY(map_init(&g->tensor_index, g->tensors_count, err));
    for (uint32_t i = 0; i < g->tensors_count; i++)
        if (!map_add(&g->tensor_index, g->tensors[i].name, i))
            return error_set(err, ERR_FORMAT, "gguf: tensor '%.*s' appears twice, at %u and before",
                             NAME(&g->tensors[i]), i);
    return OK;
}

status gguf_read_tensors(gguf *g, gguf_cursor *c, error *err) {
    g->tensors = mem_try_calloc(g->tensors_count, sizeof *g->tensors);
    if (g->tensors == NULL)
        return error_set(err, ERR_NOMEM, "gguf: no memory for %u tensors", g->tensors_count);
    for (uint32_t i = 0; i < g->tensors_count; i++) TRY(read_tensor(c, &g->tensors[i], err));
    return gguf_index_tensors(g, err);
}

/* --- where the bytes are --------------------------------------------------- */
/* The file gives offsets from where data begins; here they become file offsets. */
static status place(const gguf *g, gguf_tensor *t, error *err) {
    uint64_t end = 0;
    if (t->offset % g->alignment != 0)
        return error_set(err, ERR_FORMAT,
                         "gguf: tensor '%.*s' is at offset %" PRIu64 ", alignment is %u", NAME(t),
                         t->offset, g->alignment);
    if (!num_add_u64(&t->offset, t->offset, g->data_offset) ||
        !num_add_u64(&end, t->offset, t->bytes))
        return error_set(err, ERR_FORMAT,
                         "gguf: tensor '%.*s' at offset %" PRIu64 " of %" PRIu64
                         " bytes ends past 2^64",
                         NAME(t), t->offset, t->bytes);
    if (!g->has_data) return OK;
    if (end > g->file.n)
        return error_set(err, ERR_FORMAT,
                         "gguf: tensor '%.*s' ends at %" PRIu64 ", file has %zu bytes", NAME(t),
                         end, g->file.n);
    t->data = g->file.p + t->offset;
    return OK;
}

typedef struct span {
    uint64_t begin, end;
    uint32_t tensor;
} span;

static int by_begin(const void *a, const void *b) {
    const span *x = a, *y = b;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

static status check_overlap(const gguf *g, span *order, error *err) {
    for (uint32_t i = 0; i < g->tensors_count; i++) {
        const gguf_tensor *t = &g->tensors[i];
        order[i] = (span){t->offset, t->offset + t->bytes, i};
    }
    qsort(order, g->tensors_count, sizeof *order, by_begin);
    for (uint32_t i = 1; i < g->tensors_count; i++) {
        if (order[i - 1].end <= order[i].begin) continue;
        return error_set(err, ERR_FORMAT,
                         "gguf: tensor '%.*s' begins at %" PRIu64 ", '%.*s' ends at %" PRIu64,
                         NAME(&g->tensors[order[i].tensor]), order[i].begin,
                         NAME(&g->tensors[order[i - 1].tensor]), order[i - 1].end);
    }
    return OK;
}

/* Writers pad the last tensor, or they do not; a file that ends inside the padding is one
 * of the first kind that was cut. */
static status check_end(const gguf *g, span last, error *err) {
    const uint64_t mask = g->alignment - 1;
    const uint64_t padded = (last.end + mask) & ~mask;
    if (!g->has_data || g->file.n == last.end || g->file.n >= padded) return OK;
    return error_set(err, ERR_FORMAT,
                     "gguf: padding behind tensor '%.*s' ends at %" PRIu64 ", file has %zu bytes",
                     NAME(&g->tensors[last.tensor]), padded, g->file.n);
}

status gguf_place_tensors(gguf *g, error *err) {
    for (uint32_t i = 0; i < g->tensors_count; i++) TRY(place(g, &g->tensors[i], err));
    if (g->tensors_count == 0) return OK;
    span *order = mem_try_calloc(g->tensors_count, sizeof *order);
    if (order == NULL)
        return error_set(err, ERR_NOMEM, "gguf: no memory to sort %u tensors", g->tensors_count);
    status st = check_overlap(g, order, err);
    if (st == OK) st = check_end(g, order[g->tensors_count - 1], err);
    mem_free(order);
    return st;
}
