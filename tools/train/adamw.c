/* adamw.c - see adamw.h. */
#include "train/adamw.h"

#include <math.h>

#include "base/alloc.h"
#include "train/slices.h"

enum { PART = 4096 }; /* elements of one task, and of one sum in f32 */

status adamw_init(adamw *a, const shape *s, error *err) {
    *a = (adamw){.shape = *s, .count = shape_params(s)};
    a->m = mem_try_calloc(a->count, sizeof *a->m);
    a->v = mem_try_calloc(a->count, sizeof *a->v);
    a->parts = mem_try_calloc(a->count / PART + 1, sizeof *a->parts);
    status st = OK;
    if (a->m == NULL || a->v == NULL || a->parts == NULL)
        st = error_set(err, ERR_NOMEM, "train: no memory for the moments of %zu parameters",
                       a->count);
    if (st == OK) st = muon_init(&a->muon, s, err);
    if (st != OK) adamw_deinit(a);
    return st;
}

void adamw_deinit(adamw *a) {
    mem_free(a->m);
    mem_free(a->v);
    mem_free(a->parts);
    muon_deinit(&a->muon);
    *a = (adamw){0};
}

/* --- the gradient's length --------------------------------------------------------------- */

typedef struct length_job {
    const kernels *kern;
    const float *grads;
    double *parts;
    uint32_t count;
} length_job;

static void sum_part(void *arg, uint32_t index, void *scratch) {
    const length_job *j = arg;
    const slice s = slice_of(index, PART, j->count);
    (void)scratch;
    j->parts[index] = (double)j->kern->sum_squares(j->grads + s.begin, s.count);
}

static float length(const adamw *a, const crew *c, const float *grads) {
    length_job j = {c->kern, grads, a->parts, (uint32_t)a->count};
    double sum = 0;
    slices_run(c, j.count, PART, sum_part, &j);
    for (uint32_t i = 0; i < num_div_up_u32(j.count, PART); i++) sum += a->parts[i];
    return (float)sqrt(sum);
}

/* --- the step ---------------------------------------------------------------------------- */

typedef struct step_job {
    const kernels *kern;
    const adamw_scalars *scalars;
    float *params, *m, *v;
    const float *grads;
    uint32_t count;
} step_job;

static void step_part(void *arg, uint32_t index, void *scratch) {
    const step_job *j = arg;
    const slice s = slice_of(index, PART, j->count);
    (void)scratch;
    j->kern->adamw_row(j->params + s.begin, j->grads + s.begin, j->m + s.begin, j->v + s.begin,
                       s.count, j->scalars);
}

float adamw_step(adamw *a, const crew *c, const adamw_options *opt, float rate, float *params,
                 const float *grads) {
    const float norm = length(a, c, grads);
    if (!isfinite(norm)) return norm;
    a->steps++;
    const double seen1 = 1.0 - pow((double)opt->beta1, a->steps);
    const double seen2 = 1.0 - pow((double)opt->beta2, a->steps);
    adamw_scalars s = {.beta1 = opt->beta1, .beta2 = opt->beta2, .eps = opt->eps};
    s.rate = (float)((double)rate / seen1);
    s.root = (float)(1.0 / sqrt(seen2));
    s.grad_scale = opt->clip > 0 && norm > opt->clip ? opt->clip / norm : 1.0f;
    for (uint32_t i = 0; i < shape_tensors(&a->shape); i++) {
        const shape_tensor t = shape_tensor_get(&a->shape, i);
        s.keep = t.rows > 0 ? 1.0f - rate * opt->decay : 1.0f;
        if (opt->muon && muon_takes(&t)) continue;
        step_job j = {c->kern,
                      &s,
                      params + t.at,
                      a->m + t.at,
                      a->v + t.at,
                      grads + t.at,
                      (uint32_t)shape_tensor_count(&t)};
        slices_run(c, j.count, PART, step_part, &j);
    }
    const muon_scalars scalars = {opt->momentum, rate, opt->decay, s.grad_scale};
    if (opt->muon) muon_step(&a->muon, c, &scalars, params, a->m, grads);
    return norm;
}
