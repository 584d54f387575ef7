/* cpu_matmul.c - see cpu_matmul.h. */
#include "backend/cpu/cpu_matmul.h"

#include "base/num.h"

enum {
    /* Few activation rows: a panel of one weight row stays in the first-level cache.  More: the
     * kernel goes over several weight rows with the same activations, and those stay there. */
    PANEL_ROWS = 8,
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

size_t cpu_panel_floats(const program *p) {
    uint32_t cols = 0;
    for (uint32_t i = 0; i < p->ops_count; i++) {
        const op *o = &p->ops[i];
        if (o->kind == OP_MATMUL && cpu_matmul_path(o->w.type) == BACKEND_PATH_ROWS)
            cols = num_max_u32(cols, o->w.cols);
    }
    return PANEL_ROWS * num_align_size(cols, PANEL_ALIGN_FLOATS);
}

/* `rows` weight rows from `row` on, by way of the panel. */
static void multiply_panel(const cpu_kernels *k, dtype t, const matmul_args *a, uint32_t row,
                           uint32_t rows, float *panel) {
    const char *w = (const char *)a->w + row * a->w_row_bytes;
    for (uint32_t j = 0; j < rows; j++)
        k->dequant(t, w + j * a->w_row_bytes, panel + (size_t)j * a->cols, a->cols);
    matmul_args part = *a; /* the same product, whose weight row 0 is `row` */
    part.w = panel;
    part.w_row_bytes = a->cols * sizeof *panel;
    if (a->bias != NULL) part.bias = a->bias + row;
    if (a->add != NULL) part.add = a->add + row;
    part.out = a->out + row;
    k->matmul_f32(&part, 0, rows);
}

void cpu_matmul(const cpu_kernels *k, dtype t, const matmul_args *a, uint32_t row0, uint32_t row1,
                float *panel) {
    matmul_fn *native = native_kernel(k, t);
    if (native != NULL) {
        native(a, row0, row1);
        return;
    }
    const uint32_t rows = a->x_rows <= ACTIVATION_ROWS_FEW ? 1 : PANEL_ROWS;
    for (uint32_t row = row0; row < row1; row += rows)
        multiply_panel(k, t, a, row, num_min_u32(rows, row1 - row), panel);
}
