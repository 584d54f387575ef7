/* cpu_floats.c - see cpu_floats.h. */
#include "backend/cpu/cpu_floats.h"

#include <string.h>

#include "base/assert.h"
#include "base/num.h"

/* A block of the result: `rows` weight rows from `row` on, `x_rows` activation rows from `x` on. */
typedef struct float_block {
    uint32_t row, rows;
    uint32_t x, x_rows;
} float_block;

static void fill_row(const float_kernels *k, float_fill *fill, dtype t, const char *row,
                     uint32_t col0, uint32_t cols, float *to) {
    if (fill != NULL) {
        fill(row, col0, cols, to);
        return;
    }
    uint64_t skip = 0;
    bool whole = dtype_row_bytes(t, col0, &skip); /* panels are cut between blocks */
    ASSERT(whole);
    k->dequant(t, row + skip, to, cols);
    memset(to + cols, 0, (num_align_size(cols, FLOAT_LANES) - cols) * sizeof *to);
}

static void fill_panel(const float_kernels *k, float_fill *fill, const matmul_args *a, uint32_t row,
                       uint32_t rows, uint32_t col0) {
    const uint32_t cols = num_min_u32(FLOAT_COLS, a->cols - col0);
    for (uint32_t j = 0; j < FLOAT_PANEL_ROWS; j++) {
        const char *w = (const char *)a->w + (row + (size_t)j) * a->w_row_bytes;
        float *to = a->scratch + (size_t)j * FLOAT_COLS;
        if (j < rows)
            fill_row(k, fill, a->type, w, col0, cols, to);
        else
            memset(to, 0, num_align_size(cols, FLOAT_LANES) * sizeof *to);
    }
}

/* The panel, weight rows from j on in the block and columns from col0 on, with the activations. */
static void multiply_panel(const float_kernels *k, const matmul_args *a, const float_block *b,
                           uint32_t j, uint32_t col0) {
    const uint32_t row = b->row + j;
    const size_t at = (size_t)b->x * a->out_cols + row;
    const size_t kept = (size_t)j * b->x_rows * FLOAT_LANES;
    float_panel p = {
        .w = a->scratch,
        .x = a->x + (size_t)b->x * a->cols + col0,
        .x_stride = a->cols,
        .x_rows = b->x_rows,
        .cols = num_min_u32(FLOAT_COLS, a->cols - col0),
        .rows = num_min_u32(FLOAT_PANEL_ROWS, b->rows - j),
        .first = col0 == 0,
        .lanes = a->scratch + FLOAT_PANEL + kept,
        .bias = a->bias != NULL ? a->bias + row : NULL,
        .add = a->add != NULL ? a->add + at : NULL,
        .out = a->out + at,
        .out_cols = a->out_cols,
    };
    p.last = col0 + p.cols == a->cols;
    k->panel(&p);
}

static void multiply_block(const float_kernels *k, float_fill *fill, const matmul_args *a,
                           const float_block *b) {
    for (uint32_t col0 = 0; col0 < a->cols; col0 += FLOAT_COLS) {
        for (uint32_t j = 0; j < b->rows; j += FLOAT_PANEL_ROWS) {
            const uint32_t rows = num_min_u32(FLOAT_PANEL_ROWS, b->rows - j);
            fill_panel(k, fill, a, b->row + j, rows, col0);
            multiply_panel(k, a, b, j, col0);
        }
    }
}

void cpu_floats_panels(const float_kernels *k, float_fill *fill, const matmul_args *a,
                       uint32_t row0, uint32_t row1) {
    ASSERT(a->scratch != NULL);
    for (uint32_t j = row0; j < row1; j += FLOAT_RUN_ROWS) {
        float_block b = {.row = j, .rows = num_min_u32(FLOAT_RUN_ROWS, row1 - j)};
        for (; b.x < a->x_rows; b.x += b.x_rows) {
            b.x_rows = num_min_u32(FLOAT_X_ROWS, a->x_rows - b.x);
            multiply_block(k, fill, a, &b);
        }
    }
}

void cpu_floats_multiply(const float_kernels *k, matmul_fn *direct, float_fill *fill,
                         const matmul_args *a, uint32_t row0, uint32_t row1) {
    if (a->x_rows <= k->direct_rows_max || a->scratch == NULL)
        direct(a, row0, row1);
    else
        cpu_floats_panels(k, fill, a, row0, row1);
}
