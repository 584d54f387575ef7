/* cpu_matmul.c - see cpu_matmul.h. */
#include "backend/cpu/cpu_matmul.h"

#include "backend/cpu/cpu_tasks.h"
#include "base/assert.h"
#include "base/num.h"

enum {
    /* Few activation rows: a panel of one weight row stays in the first-level cache.  More: the
     * kernel goes over several weight rows with the same activations, and those stay there. */
    ACTIVATION_ROWS_FEW = 4,
    PANEL_ALIGN_FLOATS = 16,
};

/* NULL: there is none. */
static matmul_fn *native_kernel(const cpu_kernels *k, dtype t) {
    switch (t) {
    case DTYPE_F32:
        return k->matmul_f32;
    case DTYPE_F16:
        return k->matmul_f16;
    case DTYPE_BF16:
        return k->matmul_bf16;
    case DTYPE_Q8_0:
        return k->matmul_q8_0;
    case DTYPE_Q4_0:
        return k->matmul_q4_0;
    default:
        return NULL;
    }
}

backend_path cpu_matmul_path(dtype t) {
    bool native = native_kernel(&cpu_kernels_scalar, t) != NULL; /* every class has the same */
    return native ? BACKEND_PATH_NATIVE : BACKEND_PATH_ROWS;
}

/* Packed matrices have no type; block weights want int16 activations. */
static bool is_native(const weight *w, bool int16) {
    if (w->packed != NULL || (cpu_weight_is_block(w) && !int16)) return false;
    return cpu_matmul_path(w->type) == BACKEND_PATH_NATIVE;
}

size_t cpu_panel_floats(uint32_t cols) {
    return PANEL_ROWS * num_align_size(cols, PANEL_ALIGN_FLOATS);
}

size_t cpu_matmul_panel_floats(const weight *w, bool int16) {
    return is_native(w, int16) ? 0 : cpu_panel_floats(w->cols);
}

static size_t row_bytes_of(const weight *w) {
    uint64_t bytes = 0;
    bool whole = dtype_row_bytes(w->type, w->cols, &bytes);
    ASSERT(whole);
    return (size_t)bytes;
}

void cpu_weight_rows(const cpu_kernels *k, const weight *w, uint32_t row0, uint32_t count,
                     float *out) {
    DASSERT(row0 + count <= w->rows);
    if (w->packed != NULL) {
        packed_rows(w->packed, w->row0 + row0, count, out);
        return;
    }
    const size_t bytes = row_bytes_of(w);
    for (uint32_t j = 0; j < count; j++)
        k->dequant(w->type, (const char *)w->data + (row0 + j) * bytes, out + (size_t)j * w->cols,
                   w->cols);
}

/* `rows` weight rows from row0 + j on, by way of the panel. */
static void multiply_panel(const cpu_kernels *k, const weight *w, matmul_args a, uint32_t row,
                           uint32_t rows, float *panel) {
    cpu_weight_rows(k, w, row, rows, panel);
    a.w = panel;
    a.w_row_bytes = w->cols * sizeof *panel;
    k->matmul_f32(&a, 0, rows);
}

void cpu_matmul(const cpu_kernels *k, const weight *w, matmul_args a, uint32_t row0, uint32_t rows,
                float *panel) {
    a.cols = w->cols;
    if (is_native(w, a.xq != NULL)) {
        a.w_row_bytes = row_bytes_of(w);
        a.w = (const char *)w->data + row0 * a.w_row_bytes;
        native_kernel(k, w->type)(&a, 0, rows);
        return;
    }
    /* packed matrices lie across their rows: eight cost little more than one */
    const bool few = a.x_rows <= ACTIVATION_ROWS_FEW && w->packed == NULL;
    const uint32_t step = few ? 1 : PANEL_ROWS;
    for (uint32_t j = 0; j < rows; j += step) {
        matmul_args part = a;
        if (a.bias != NULL) part.bias = a.bias + j;
        if (a.add != NULL) part.add = a.add + j;
        part.out = a.out + j;
        multiply_panel(k, w, part, row0 + j, num_min_u32(step, rows - j), panel);
    }
}
