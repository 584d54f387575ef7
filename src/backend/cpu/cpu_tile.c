/* cpu_tile.c - gathers rows side by side for the matmul kernels and scatters what they make.
 *
 *   scratch:  | panel | x [count, cols] f32, or int16 and its scales | out [count, rows] |
 *
 * A single row, as in decoding, is multiplied where it lies. */
#include <string.h>

#include "backend/cpu/cpu_internal.h"

enum { ALIGN_FLOATS = 16 };

static size_t gathered_floats(const weight *w, bool int16) {
    size_t elems = (size_t)TILE_ROWS_MAX * num_align_size(w->cols, ALIGN_FLOATS);
    return int16 ? elems / 2 + num_align_size(elems / ACT_BLOCK, ALIGN_FLOATS) : elems;
}

size_t cpu_tile_floats(const weight *w, bool int16) {
    return cpu_matmul_panel_floats(w, int16) + gathered_floats(w, int16) +
           (size_t)TILE_ROWS_MAX * MATMUL_ROWS_MAX;
}

/* Copy the rows to `to` and let the arguments read them there. */
static void gather(const backend *b, const tile *t, float *to, matmul_args *a) {
    const uint32_t cols = t->w->cols, blocks = cols / ACT_BLOCK;
    if (!t->int16) {
        for (uint32_t i = 0; i < t->count; i++)
            memcpy(to + (size_t)i * cols, b->workspace + t->x[i], cols * sizeof *to);
        a->x = to;
        return;
    }
    int16_t *quants = (int16_t *)to;
    float *scales = to + (size_t)TILE_ROWS_MAX * num_align_size(cols, ALIGN_FLOATS) / 2;
    for (uint32_t i = 0; i < t->count; i++) {
        memcpy(quants + (size_t)i * cols, b->quants + t->x[i], cols * sizeof *quants);
        memcpy(scales + (size_t)i * blocks, b->scales + t->x[i] / ACT_BLOCK,
               blocks * sizeof *scales);
    }
    a->xq = quants;
    a->xs = scales;
}

static void read_in_place(const backend *b, const tile *t, matmul_args *a) {
    if (t->int16) {
        a->xq = b->quants + t->x[0];
        a->xs = b->scales + t->x[0] / ACT_BLOCK;
    } else {
        a->x = b->workspace + t->x[0];
    }
}

void cpu_tile_multiply(const backend *b, const tile *t, uint32_t row0, uint32_t rows,
                       float *scratch) {
    float *panel = scratch, *x = panel + cpu_matmul_panel_floats(t->w, t->int16);
    float *out = x + gathered_floats(t->w, t->int16);
    matmul_args a = {.x_rows = t->count};
    if (t->count == 1)
        read_in_place(b, t, &a);
    else
        gather(b, t, x, &a);
    for (uint32_t j = 0; j < rows; j += MATMUL_ROWS_MAX) {
        uint32_t n = num_min_u32(MATMUL_ROWS_MAX, rows - j);
        a.bias = t->bias != NULL ? t->bias + row0 + j : NULL;
        a.out = t->count == 1 ? b->workspace + t->out[0] + j : out;
        a.out_cols = n;
        cpu_matmul(b->k, t->w, a, row0 + j, n, panel);
        for (uint32_t i = 0; t->count > 1 && i < t->count; i++)
            memcpy(b->workspace + t->out[i] + j, out + (size_t)i * n, n * sizeof *out);
    }
}
