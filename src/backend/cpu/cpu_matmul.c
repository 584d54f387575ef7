/* cpu_matmul.c - see cpu_matmul.h. */
#include "backend/cpu/cpu_matmul.h"

#include <string.h>

#include "base/assert.h"
#include "base/num.h"

enum {
    ACTIVATION_ROWS_FEW = 4, /* packed weights are read as one stream */
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
    default:
        return NULL;
    }
}

backend_path cpu_matmul_path(dtype t) {
    if (pack_format_of(t) != NULL) return BACKEND_PATH_REPACKED;
    bool native = native_kernel(&cpu_kernels_scalar, t) != NULL; /* every class has the same */
    return native ? BACKEND_PATH_NATIVE : BACKEND_PATH_ROWS;
}

/* Packed matrices have no type. */
static bool is_native(const weight *w) {
    return w->packed == NULL && cpu_matmul_path(w->type) == BACKEND_PATH_NATIVE;
}

size_t cpu_panel_floats(uint32_t cols) {
    return PANEL_ROWS * num_align_size(cols, PANEL_ALIGN_FLOATS);
}

size_t cpu_matmul_scratch_floats(const weight *w) {
    return MATMUL_SCRATCH_FLOATS + (w->packed != NULL ? cpu_panel_floats(w->cols) : 0);
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

/* Packed matrices lie across their rows: many are turned into f32 at a time. */
static void multiply_unpacked(const cpu_kernels *k, const weight *w, matmul_args a, uint32_t row0,
                              uint32_t rows) {
    float *panel = a.scratch + MATMUL_SCRATCH_FLOATS;
    a.w = panel;
    a.w_row_bytes = w->cols * sizeof *panel;
    for (uint32_t j = 0; j < rows; j += PANEL_ROWS) {
        const uint32_t n = num_min_u32(PANEL_ROWS, rows - j);
        matmul_args part = a;
        if (a.bias != NULL) part.bias = a.bias + j;
        if (a.add != NULL) part.add = a.add + j;
        part.out = a.out + j;
        cpu_weight_rows(k, w, row0 + j, n, panel);
        k->matmul_f32(&part, 0, n);
    }
}

void cpu_matmul(const cpu_kernels *k, const weight *w, matmul_args a, uint32_t row0, uint32_t rows,
                float *scratch) {
    a.cols = w->cols;
    a.scratch = scratch;
    if (w->packed != NULL) {
        multiply_unpacked(k, w, a, row0, rows);
        return;
    }
    a.type = w->type;
    a.w_row_bytes = row_bytes_of(w);
    a.w = (const char *)w->data + row0 * a.w_row_bytes;
    (is_native(w) ? native_kernel(k, w->type) : k->matmul_rows)(&a, 0, rows);
}

/* --- packed weights -------------------- */

/* A panel of PANEL_BLOCKS for PANEL_GROUPS groups, the activations of PANEL_X_ROWS rows and their
 * sums are in the first-level cache together: 20, 12 and 6 KiB.  Few rows take the panels of one
 * group after the other, so that the weights are one stream. */
enum {
    PANEL_BLOCKS = 8,
    PANEL_GROUPS = 4,
    PANEL_X_ROWS = 24,
    PANEL_CODES_FLOATS = PANEL_BLOCKS * PACK_BLOCK_CODES / (int)sizeof(float),
    PANEL_SCALES_FLOATS = PANEL_BLOCKS * 2 * PACK_ROWS,
    PANEL_FLOATS = PANEL_CODES_FLOATS + 2 * PANEL_SCALES_FLOATS,
};

size_t cpu_packed_floats(uint32_t x_rows) {
    return PANEL_GROUPS * (PANEL_FLOATS + (size_t)x_rows * PACK_ROWS);
}

/* Consecutive groups that go through the activations together. */
typedef struct group_run {
    uint32_t first, count; /* 1..PANEL_GROUPS */
    pack_panel panels[PANEL_GROUPS];
    float *acc; /* [count][x_rows][PACK_ROWS] */
} group_run;

static void lay_out_panels(const packed_args *a, float *scratch, group_run *g) {
    for (uint32_t i = 0; i < PANEL_GROUPS; i++, scratch += PANEL_FLOATS)
        g->panels[i] = (pack_panel){.codes = (uint8_t *)scratch,
                                    .scales = scratch + PANEL_CODES_FLOATS,
                                    .offsets = scratch + PANEL_CODES_FLOATS + PANEL_SCALES_FLOATS,
                                    .subs = a->w->format->subs,
                                    .code_max = pack_code_max(a->w->format)};
    g->acc = scratch;
}

/* Rows from r on that are of one mode, `most` at most. */
static uint32_t rows_alike(const packed_args *a, uint32_t r, uint32_t most) {
    uint32_t n = 1;
    if (a->fast == NULL) return num_min_u32(most, a->x_rows - r);
    while (n < most && r + n < a->x_rows && a->fast[r + n] == a->fast[r]) n++;
    return n;
}

/* Of group i and row r. */
static float *sums_at(const packed_args *a, const group_run *g, uint32_t i, uint32_t r) {
    return g->acc + ((size_t)i * a->x_rows + r) * PACK_ROWS;
}

/* All rows against the panels of `blocks` blocks from block `at` on. */
static void multiply_panels(const cpu_kernels *k, const packed_args *a, const group_run *g,
                            uint32_t at, uint32_t blocks) {
    for (uint32_t r = 0, n = 0; r < a->x_rows; r += n) {
        n = rows_alike(a, r, PANEL_X_ROWS);
        const act_block *x = a->x + r * a->row_blocks + at;
        const bool fast = a->fast != NULL && a->fast[r];
        uint32_t i = 0;
        if (k->dots_quad != NULL && g->count == PANEL_GROUPS) {
            k->dots_quad(&(dots_quad_args){.panel = g->panels,
                                           .blocks = blocks,
                                           .x = x,
                                           .row_blocks = a->row_blocks,
                                           .rows = n,
                                           .fast = fast,
                                           .acc = sums_at(a, g, 0, r),
                                           .acc_stride = a->x_rows});
            i = g->count;
        }
        for (; i < g->count; i++)
            k->dots(&(dots_args){.panel = &g->panels[i],
                                 .blocks = blocks,
                                 .x = x,
                                 .row_blocks = a->row_blocks,
                                 .rows = n,
                                 .fast = fast,
                                 .acc = sums_at(a, g, i, r)});
    }
}

static void multiply_groups(const cpu_kernels *k, const packed_args *a, const group_run *g) {
    const pack_matrix *w = a->w;
    const uint32_t blocks = w->w->cols / PACK_BLOCK;
    memset(g->acc, 0, (size_t)g->count * a->x_rows * PACK_ROWS * sizeof *g->acc);
    for (uint32_t at = 0; at < blocks; at += PANEL_BLOCKS) {
        const uint32_t n = num_min_u32(PANEL_BLOCKS, blocks - at);
        for (uint32_t i = 0; i < g->count; i++)
            k->expand(w->format, w->groups + (g->first + i) * w->group_bytes, at, n, &g->panels[i]);
        multiply_panels(k, a, g, at, n);
    }
}

/* Straight from the packed form: are the rows so few, and all computed exactly? */
static bool takes_packed(const cpu_kernels *k, const packed_args *a) {
    if (k->dots_packed == NULL || a->x_rows > PACKED_X_ROWS) return false;
    for (uint32_t r = 0; a->fast != NULL && r < a->x_rows; r++)
        if (a->fast[r]) return false;
    return true;
}

static void multiply_packed(const cpu_kernels *k, const packed_args *a, const group_run *g) {
    const pack_matrix *w = a->w;
    k->dots_packed(&(packed_dots_args){.format = w->format,
                                       .groups = w->groups + g->first * w->group_bytes,
                                       .group_bytes = w->group_bytes,
                                       .count = g->count,
                                       .blocks = w->w->cols / PACK_BLOCK,
                                       .x = a->x,
                                       .row_blocks = a->row_blocks,
                                       .rows = a->x_rows,
                                       .acc = g->acc});
}

/* The first `lanes` sums of each row to out[r, j ..]. */
static void store_sums(const packed_args *a, uint32_t j, uint32_t lanes, const float *acc) {
    for (uint32_t r = 0; r < a->x_rows; r++, acc += PACK_ROWS) {
        const size_t at = (size_t)r * a->out_cols + j;
        for (uint32_t i = 0; i < lanes; i++) {
            float v = a->bias != NULL ? acc[i] + a->bias[j + i] : acc[i];
            a->out[at + i] = a->add != NULL ? a->add[at + i] + v : v;
        }
    }
}

void cpu_matmul_packed(const cpu_kernels *k, const packed_args *a, uint32_t row0, uint32_t rows,
                       float *scratch) {
    const uint32_t groups = num_div_up_u32(rows, PACK_ROWS);
    const bool packed = takes_packed(k, a);
    const uint32_t together = packed || a->x_rows > ACTIVATION_ROWS_FEW ? PANEL_GROUPS : 1;
    DASSERT(row0 % PACK_ROWS == 0 && row0 + rows <= a->w->w->rows);
    group_run g;
    lay_out_panels(a, scratch, &g);
    for (uint32_t done = 0; done < groups; done += g.count) {
        g.first = row0 / PACK_ROWS + done;
        g.count = num_min_u32(together, groups - done);
        if (packed)
            multiply_packed(k, a, &g);
        else
            multiply_groups(k, a, &g);
        for (uint32_t i = 0; i < g.count; i++) {
            const uint32_t j = (done + i) * PACK_ROWS;
            store_sums(a, j, num_min_u32(PACK_ROWS, rows - j),
                       g.acc + (size_t)i * a->x_rows * PACK_ROWS);
        }
    }
}
