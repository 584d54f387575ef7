/* cpu_tile.c - gathers rows side by side for the matmul kernels and scatters what they make.
 *
 *   scratch:  | panel | x [count, cols] f32 or digits | out [count, rows] |
 *
 * A single row, as in decoding, is multiplied where it lies. */
#include <string.h>

#include "backend/cpu/cpu_internal.h"

enum { ALIGN_FLOATS = 32 };

_Static_assert(sizeof(act_block) == PACK_BLOCK * sizeof(float), "digits take the place of floats");

static size_t gathered_floats(const weight *w) {
    return (size_t)TILE_ROWS_MAX * num_align_size(w->cols, ALIGN_FLOATS);
}

static size_t panel_floats(const weight *w, bool packed) {
    size_t floats = packed ? cpu_packed_floats(TILE_ROWS_MAX) : cpu_matmul_scratch_floats(w);
    return num_align_size(floats, ALIGN_FLOATS);
}

size_t cpu_tile_floats(const weight *w, bool packed) {
    return panel_floats(w, packed) + gathered_floats(w) + (size_t)TILE_ROWS_MAX * MATMUL_ROWS_MAX;
}

/* The rows side by side: where they are when there is one, else copied to `to`. */
static const float *floats_of(const backend *b, const tile *t, float *to) {
    const uint32_t cols = t->w->cols;
    if (t->count == 1) return b->workspace + t->x[0];
    for (uint32_t i = 0; i < t->count; i++)
        memcpy(to + (size_t)i * cols, b->workspace + t->x[i], cols * sizeof *to);
    return to;
}

static const act_block *digits_of(const backend *b, const tile *t, act_block *to) {
    const uint32_t blocks = t->w->cols / PACK_BLOCK;
    if (t->count == 1) return b->digits + t->x[0] / PACK_BLOCK;
    for (uint32_t i = 0; i < t->count; i++)
        memcpy(to + (size_t)i * blocks, b->digits + t->x[i] / PACK_BLOCK, blocks * sizeof *to);
    return to;
}

/* Where a run of weight rows puts its results: in place, or side by side at `out`. */
typedef struct tile_run {
    uint32_t row0, rows;
    const float *bias;
    float *out;
    float *panel;
} tile_run;

static void multiply_floats(const backend *b, const tile *t, const float *x, const tile_run *to) {
    const matmul_args a = {
        .x_rows = t->count, .x = x, .bias = to->bias, .out = to->out, .out_cols = to->rows};
    cpu_matmul(b->k, t->w, a, to->row0, to->rows, to->panel);
}

static void multiply_digits(const backend *b, const tile *t, const act_block *x,
                            const tile_run *to) {
    const packed_args a = {.w = t->packed,
                           .x = x,
                           .row_blocks = t->w->cols / PACK_BLOCK,
                           .x_rows = t->count,
                           .fast = t->fast,
                           .bias = to->bias,
                           .out = to->out,
                           .out_cols = to->rows};
    cpu_matmul_packed(b->k, &a, to->row0, to->rows, to->panel);
}

void cpu_tile_multiply(const backend *b, const tile *t, uint32_t row0, uint32_t rows,
                       float *scratch) {
    float *gathered = scratch + panel_floats(t->w, t->packed != NULL);
    float *out = gathered + gathered_floats(t->w);
    const float *x = t->packed == NULL ? floats_of(b, t, gathered) : NULL;
    const act_block *digits = t->packed != NULL ? digits_of(b, t, (act_block *)gathered) : NULL;
    for (uint32_t j = 0; j < rows; j += MATMUL_ROWS_MAX) {
        const uint32_t n = num_min_u32(MATMUL_ROWS_MAX, rows - j);
        const tile_run to = {.row0 = row0 + j,
                             .rows = n,
                             .bias = t->bias != NULL ? t->bias + row0 + j : NULL,
                             .out = t->count == 1 ? b->workspace + t->out[0] + j : out,
                             .panel = scratch};
        if (t->packed != NULL)
            multiply_digits(b, t, digits, &to);
        else
            multiply_floats(b, t, x, &to);
        for (uint32_t i = 0; t->count > 1 && i < t->count; i++)
            memcpy(b->workspace + t->out[i] + j, out + (size_t)i * n, n * sizeof *out);
    }
}
