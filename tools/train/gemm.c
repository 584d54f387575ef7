/* gemm.c - see gemm.h.
 *
 * Blocks, from the outside in (sizes in floats):
 *   task    C is cut into pieces of at most TASK_ROWS x TASK_COLS; each is one task
 *   k       a task goes over k in steps of BLOCK_K; between steps C waits in memory
 *   pack    the step's part of B is copied into panels [k][nr]: from then on it is read in order.
 *           BLOCK_K x TASK_COLS floats stay in L2.  A row of A is read where it lies when k runs
 *           along memory; otherwise A is copied into panels [k][mr], and so is its last one when it
 *           is not whole
 *   panels  one panel of B, 32 KiB, stays in L1 while all panels of A go past it
 *   tile    kernels.gemm_tile: mr x nr elements of C in registers */
#include "train/gemm.h"

#include <string.h>

#include "base/assert.h"
#include "base/num.h"

enum {
    BLOCK_K = 256,
    TASK_ROWS = 512,
    TASK_COLS = 512,
    TASKS_PER_THREAD = 2, /* at least, where the product is large enough */
    TASK_SIDE_MIN = 64,
    PANELS_AT_ONCE = 8,
};

/* Panels are padded to whole tiles. */
enum {
    A_FLOATS = (TASK_ROWS + KERNELS_MR_MAX) * BLOCK_K,
    B_FLOATS = (TASK_COLS + KERNELS_NR_MAX) * BLOCK_K
};

size_t gemm_scratch_bytes(void) { return (size_t)(A_FLOATS + B_FLOATS) * sizeof(float); }

/* --- packing ----------------------------------------------------------------------------- */

typedef float quad __attribute__((vector_size(16)));

/* out [4 steps][width] = src [4 lines][4 steps], which lie one behind the other. */
static void transpose_quad(const float *src, size_t line, uint32_t width, float *out) {
    quad r[4];
    for (uint32_t i = 0; i < 4; i++) memcpy(&r[i], src + i * line, sizeof r[i]);
    const quad ab_low = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5);
    const quad ab_high = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
    const quad cd_low = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
    const quad cd_high = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
    r[0] = __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5);
    r[1] = __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7);
    r[2] = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
    r[3] = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
    for (uint32_t i = 0; i < 4; i++) memcpy(out + (size_t)i * width, &r[i], sizeof r[i]);
}

/* A panel of whole lines that are read along: four steps of four lines at a time. */
static void pack_along(const float *src, size_t line, uint32_t width, uint32_t k, float *out) {
    const uint32_t quads = width / 4 * 4, steps = k / 4 * 4;
    for (uint32_t i = 0; i < steps; i += 4)
        for (uint32_t w = 0; w < quads; w += 4)
            transpose_quad(src + w * line + i, line, width, out + (size_t)i * width + w);
    for (uint32_t w = 0; w < width; w++)
        for (uint32_t i = w < quads ? steps : 0; i < k; i++) out[i * width + w] = src[w * line + i];
}

/* Whole panels of lines that lie side by side: a step of a few of them is one run of memory, which
 * is read in one go.  Few, since panels may all begin in the same set of the L1 cache.  Four floats
 * at a time: a call of memcpy for so few bytes would cost more than they do. */
static inline __attribute__((always_inline)) void
copy_panels(const float *src, size_t step, uint32_t lines, uint32_t width, uint32_t k, float *out) {
    const uint32_t quads = width / 4 * 4;
    for (uint32_t i = 0; i < k; i++, src += step)
        for (uint32_t at = 0; at < lines; at += width) {
            const float *from = src + at;
            float *to = out + (size_t)at * k + (size_t)i * width;
            for (uint32_t w = 0; w < quads; w += 4) memcpy(to + w, from + w, sizeof(quad));
            for (uint32_t w = quads; w < width; w++) to[w] = from[w];
        }
}

static void pack_across(const float *src, size_t step, uint32_t lines, uint32_t width, uint32_t k,
                        float *out) {
    const uint32_t few = PANELS_AT_ONCE * width;
    for (uint32_t at = 0; at < lines; at += few) {
        const uint32_t count = num_min_u32(few, lines - at);
        float *to = out + (size_t)at * k;
        if (width == 8) /* the loops of the widths of AVX-512 are unrolled */
            copy_panels(src + at, step, count, 8, k, to);
        else if (width == 32)
            copy_panels(src + at, step, count, 32, k, to);
        else
            copy_panels(src + at, step, count, width, k, to);
    }
}

/* out [k][width] = lines of `src`, of which there are `count` <= width: the rest is zero.  A line
 * is a row of A or a column of B; line and step are the strides from one to the next and along. */
static void pack_panel(const float *src, size_t line, size_t step, uint32_t count, uint32_t width,
                       uint32_t k, float *out) {
    if (count == width && step == 1) {
        pack_along(src, line, width, k, out);
        return;
    }
    memset(out, 0, (size_t)k * width * sizeof *out);
    for (uint32_t w = 0; w < count; w++)
        for (uint32_t i = 0; i < k; i++) out[i * width + w] = src[w * line + i * step];
}

static void pack(const float *src, size_t line, size_t step, uint32_t lines, uint32_t width,
                 uint32_t k, float *out) {
    uint32_t at = 0;
    if (line == 1) {
        at = lines / width * width;
        pack_across(src, step, at, width, k, out);
    }
    for (; at < lines; at += width)
        pack_panel(src + at * line, line, step, num_min_u32(width, lines - at), width, k,
                   out + (size_t)at * k);
}

/* --- tiles ------------------------------------------------------------------------------- */

/* The operands of a row of tiles: mr rows of A, of which `rows` are there. */
typedef struct tile_rows {
    const float *a;
    size_t row, col;
    uint32_t rows, k;
    bool add;
} tile_rows;

/* A tile that hangs over the edge is computed aside. */
static void edge_tile(const kernels *kern, const tile_rows *t, const float *b, float *c, size_t ldc,
                      uint32_t cols) {
    float tile[KERNELS_MR_MAX * KERNELS_NR_MAX] = {0};
    for (uint32_t i = 0; i < t->rows && t->add; i++)
        memcpy(tile + (size_t)i * kern->nr, c + i * ldc, cols * sizeof *c);
    kern->gemm_tile(t->k, t->a, t->row, t->col, b, tile, kern->nr, t->add);
    for (uint32_t i = 0; i < t->rows; i++)
        memcpy(c + i * ldc, tile + (size_t)i * kern->nr, cols * sizeof *c);
}

/* The k columns of A from `at` on, where they are read from: in place, or packed in `packed`. */
typedef struct left_side {
    const gemm *g;
    const float *packed; /* panels; of the last one alone when the others are in place */
    uint32_t at, k;
    bool in_place;
} left_side;

static tile_rows rows_at(const kernels *kern, const left_side *l, uint32_t i) {
    const matrix *a = &l->g->a;
    const uint32_t rows = num_min_u32(kern->mr, l->g->m - i);
    tile_rows t = {.rows = rows, .k = l->k, .add = l->g->add || l->at > 0};
    if (l->in_place && rows == kern->mr) {
        t.a = a->p + i * a->row + l->at * a->col;
        t.row = a->row;
        t.col = a->col;
        return t;
    }
    t.a = l->packed + (l->in_place ? 0 : (size_t)i * l->k);
    t.row = 1;
    t.col = kern->mr;
    return t;
}

static left_side prepare_left(const kernels *kern, const gemm *g, uint32_t at, uint32_t k,
                              float *packed) {
    const matrix *a = &g->a;
    const left_side l = {g, packed, at, k, a->col == 1};
    const uint32_t whole = l.in_place ? g->m / kern->mr * kern->mr : 0;
    pack(a->p + whole * a->row + at * a->col, a->row, a->col, g->m - whole, kern->mr, k, packed);
    return l;
}

static void multiply_panels(const kernels *kern, const gemm *g, const left_side *l,
                            const float *b) {
    for (uint32_t j = 0; j < g->n; j += kern->nr)
        for (uint32_t i = 0; i < g->m; i += kern->mr) {
            const tile_rows t = rows_at(kern, l, i);
            const uint32_t cols = num_min_u32(kern->nr, g->n - j);
            const float *panel = b + (size_t)j * l->k;
            float *c = g->c + i * g->ldc + j;
            if (t.rows == kern->mr && cols == kern->nr)
                kern->gemm_tile(t.k, t.a, t.row, t.col, panel, c, g->ldc, t.add);
            else
                edge_tile(kern, &t, panel, c, g->ldc, cols);
        }
}

/* --- tasks ------------------------------------------------------------------------------- */

/* g is one task: at most TASK_ROWS x TASK_COLS. */
static void multiply_task(const kernels *kern, const gemm *g, void *scratch) {
    float *a = scratch, *b = a + A_FLOATS;
    for (uint32_t at = 0; at < g->k; at += BLOCK_K) {
        const uint32_t k = num_min_u32(BLOCK_K, g->k - at);
        const left_side left = prepare_left(kern, g, at, k, a);
        pack(g->b.p + at * g->b.row, g->b.col, g->b.row, g->n, kern->nr, k, b);
        multiply_panels(kern, g, &left, b);
    }
}

typedef struct task_grid {
    const kernels *kern;
    const gemm *g;
    uint32_t rows, cols; /* of a task */
    uint32_t across;     /* tasks along n */
    uint32_t count;
} task_grid;

static uint32_t round_up(uint32_t n, uint32_t to) { return num_div_up_u32(n, to) * to; }

/* Even pieces, each within the limits, at least `wanted` of them while they are not too small. */
static task_grid cut(const kernels *kern, const gemm *g, uint32_t wanted) {
    uint32_t down = num_div_up_u32(g->m, TASK_ROWS), across = num_div_up_u32(g->n, TASK_COLS);
    while (down * across < wanted) {
        const uint32_t rows = g->m / down, cols = g->n / across;
        if (num_max_u32(rows, cols) < 2 * TASK_SIDE_MIN) break;
        if (rows >= cols)
            down++;
        else
            across++;
    }
    task_grid t = {.kern = kern, .g = g};
    t.rows = num_min_u32(round_up(num_div_up_u32(g->m, down), kern->mr), TASK_ROWS);
    t.cols = num_min_u32(round_up(num_div_up_u32(g->n, across), kern->nr), TASK_COLS);
    t.across = num_div_up_u32(g->n, t.cols);
    t.count = num_div_up_u32(g->m, t.rows) * t.across;
    return t;
}

static void run_task(void *arg, uint32_t index, void *scratch) {
    const task_grid *t = arg;
    const uint32_t i = index / t->across * t->rows, j = index % t->across * t->cols;
    gemm part = *t->g;
    part.m = num_min_u32(t->rows, part.m - i);
    part.n = num_min_u32(t->cols, part.n - j);
    part.a.p += i * part.a.row;
    part.b.p += j * part.b.col;
    part.c += i * part.ldc + j;
    multiply_task(t->kern, &part, scratch);
}

void gemm_here(const kernels *kern, const gemm *g, void *scratch) {
    task_grid t = cut(kern, g, 1);
    for (uint32_t i = 0; i < t.count; i++) run_task(&t, i, scratch);
}

void gemm_shared(const kernels *kern, const gemm *g, pool *p) {
    task_grid t = cut(kern, g, TASKS_PER_THREAD * pool_threads(p));
    pool_run(p, t.count, run_task, &t);
}
