/* muon.c - see muon.h.
 *
 * A task is one matrix from its momentum to its weights: there are dozens of them, each small. */
#include "train/muon.h"

#include <math.h>

#include "base/alloc.h"
#include "base/num.h"
#include "train/gemm.h"

enum { ITERATIONS = 5, ALIGN_FLOATS = 16 };

/* Of the polynomial, which is steep at 0 (Jordan et al. 2024). */
#define TERM_1 3.4445f
#define TERM_3 (-4.7750f)
#define TERM_5 2.0315f

#define STEP_SIZE  0.2f /* root mean square of a step of AdamW (Liu et al. 2025) */
#define NORM_FLOOR 1e-7f

struct muon_room {
    size_t at; /* of the tensor in params */
    uint32_t rows, cols;
    float *x, *next;        /* [rows, cols] */
    float *square, *fourth; /* [side, side], side = min(rows, cols) */
};

bool muon_takes(const shape_tensor *t) { return t->rows > 0 && t->at > 0; }

/* --- memory ------------------------------------------------------------------------------ */

static size_t room_floats(const shape_tensor *t) {
    const size_t side = num_min_u32(t->rows, t->cols);
    return 2 * (num_align_size(shape_tensor_count(t), ALIGN_FLOATS) +
                num_align_size(side * side, ALIGN_FLOATS));
}

static void lay_out(muon *m) {
    float *at = m->memory;
    muon_room *r = m->rooms;
    for (uint32_t i = 0; i < shape_tensors(&m->shape); i++) {
        const shape_tensor t = shape_tensor_get(&m->shape, i);
        const size_t side = num_min_u32(t.rows, t.cols);
        if (!muon_takes(&t)) continue;
        *r = (muon_room){.at = t.at, .rows = t.rows, .cols = t.cols, .x = at};
        r->next = r->x + num_align_size(shape_tensor_count(&t), ALIGN_FLOATS);
        r->square = r->next + num_align_size(shape_tensor_count(&t), ALIGN_FLOATS);
        r->fourth = r->square + num_align_size(side * side, ALIGN_FLOATS);
        at += room_floats(&t);
        r++;
    }
}

status muon_init(muon *m, const shape *s, error *err) {
    size_t floats = 0;
    *m = (muon){.shape = *s};
    for (uint32_t i = 0; i < shape_tensors(s); i++) {
        const shape_tensor t = shape_tensor_get(s, i);
        if (!muon_takes(&t)) continue;
        floats += room_floats(&t);
        m->count++;
    }
    m->rooms = mem_try_calloc(m->count, sizeof *m->rooms);
    m->memory = mem_try_alloc_aligned(64, floats * sizeof *m->memory);
    if (m->rooms == NULL || m->memory == NULL) {
        muon_deinit(m);
        return error_set(err, ERR_NOMEM, "train: no memory for Muon's %zu MB",
                         floats * sizeof *m->memory >> 20);
    }
    lay_out(m);
    return OK;
}

void muon_deinit(muon *m) {
    mem_free(m->rooms);
    mem_free(m->memory);
    *m = (muon){0};
}

/* --- one matrix -------------------------------------------------------------------------- */

typedef struct muon_job {
    const kernels *kern;
    const muon_scalars *scalars;
    muon_room *rooms;
    float *params, *momentum;
    const float *grads;
} muon_job;

static void multiply(const kernels *kern, void *scratch, const uint32_t mnk[3], matrix a, matrix b,
                     float *out) {
    const gemm g = {mnk[0], mnk[1], mnk[2], a, b, out, mnk[1], false};
    gemm_here(kern, &g, scratch);
}

/* square = a I + b square + c square^2: what X is multiplied with. */
static void polynomial(const kernels *kern, muon_room *r, uint32_t side, void *scratch) {
    const matrix square = matrix_of(r->square, side);
    multiply(kern, scratch, (uint32_t[]){side, side, side}, square, square, r->fourth);
    for (size_t i = 0; i < (size_t)side * side; i++)
        r->square[i] = TERM_3 * r->square[i] + TERM_5 * r->fourth[i];
    for (size_t i = 0; i < side; i++) r->square[i * side + i] += TERM_1;
}

/* The shorter side is squared: X X^T of a wide X, X^T X of a tall one. */
static void iterate(const kernels *kern, muon_room *r, void *scratch) {
    const uint32_t rows = r->rows, cols = r->cols, side = num_min_u32(rows, cols);
    const matrix x = matrix_of(r->x, cols), turned = matrix_transposed(r->x, cols);
    const matrix square = matrix_of(r->square, side);
    const bool wide = rows <= cols;
    multiply(kern, scratch, (uint32_t[]){side, side, wide ? cols : rows}, wide ? x : turned,
             wide ? turned : x, r->square);
    polynomial(kern, r, side, scratch);
    multiply(kern, scratch, (uint32_t[]){rows, cols, side}, wide ? square : x, wide ? x : square,
             r->next);
    float *done = r->next;
    r->next = r->x;
    r->x = done;
}

static void orthogonalize(const kernels *kern, muon_room *r, void *scratch) {
    const uint32_t count = r->rows * r->cols;
    const float norm = sqrtf(kern->sum_squares(r->x, count));
    kern->scale_row(r->x, count, 1.0f / (norm + NORM_FLOOR));
    for (int i = 0; i < ITERATIONS; i++) iterate(kern, r, scratch);
}

static void step_matrix(void *arg, uint32_t index, void *scratch) {
    const muon_job *j = arg;
    const muon_scalars *s = j->scalars;
    muon_room *r = &j->rooms[index];
    const size_t count = (size_t)r->rows * r->cols;
    float *params = j->params + r->at, *momentum = j->momentum + r->at;
    const float *grads = j->grads + r->at;
    for (size_t i = 0; i < count; i++) {
        const float g = grads[i] * s->grad_scale;
        momentum[i] = s->momentum * momentum[i] + g;
        r->x[i] = s->momentum * momentum[i] + g;
    }
    orthogonalize(j->kern, r, scratch);
    const float rate = s->rate * STEP_SIZE * sqrtf((float)num_max_u32(r->rows, r->cols));
    const float keep = 1.0f - s->rate * s->decay;
    for (size_t i = 0; i < count; i++) params[i] = params[i] * keep - rate * r->x[i];
}

void muon_step(muon *m, const crew *c, const muon_scalars *s, float *params, float *momentum,
               const float *grads) {
    muon_job j = {c->kern, s, m->rooms, params, momentum, grads};
    pool_run(c->pool, m->count, step_matrix, &j);
}
