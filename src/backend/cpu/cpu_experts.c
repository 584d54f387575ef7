/* cpu_experts.c - mixture of experts: the router's choice, the chosen experts, their sum.
 *
 * The (row, slot) pairs of a step are sorted by expert once per routed value, so that the weights
 * of an expert are read once for all the rows that chose it.  The units of a product are made for
 * as many experts as could be in use, since they are counted before the router has run; those that
 * are not find nothing to do. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "backend/cpu/cpu_internal.h"
#include "base/assert.h"

/* --- the choice, in double as in backend/ref -------------------- */

/* Of one row.  A chance is never -inf or NaN, whatever a broken model makes of its logits, until
 * it is out of the question: so the used experts are always different ones. */
typedef struct choice {
    const op_route *route;
    double *score;  /* [experts] what becomes the weight */
    double *chance; /* [experts] what is compared; -inf: chosen already, or out of the question */
    double *group;  /* [groups] the same for groups; afterwards [used] weights */
} choice;

size_t cpu_route_floats(const op *o) {
    const op_route *a = &o->route;
    return ((size_t)2 * a->experts + num_max_u32(a->groups, a->used)) * 2;
}

static double possible(double chance) { return fmax(chance, -DBL_MAX); }

static void softmax(double *x, uint32_t n) {
    double max = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < n; i++) max = fmax(max, x[i]);
    for (uint32_t i = 0; i < n; i++) sum += x[i] = exp(x[i] - max);
    for (uint32_t i = 0; i < n; i++) x[i] /= sum;
}

static void score_experts(const choice *c, const float *logits) {
    const op_route *a = c->route;
    for (uint32_t e = 0; e < a->experts; e++) {
        double x = (double)logits[e];
        c->score[e] = a->kind == ROUTE_SIGMOID ? 1.0 / (1.0 + exp(-x)) : x;
    }
    if (a->kind == ROUTE_SOFTMAX) softmax(c->score, a->experts);
    for (uint32_t e = 0; e < a->experts; e++)
        c->chance[e] = possible(c->score[e] + (a->bias != NULL ? (double)a->bias[e] : 0.0));
}

/* The lowest number among the greatest. */
static uint32_t best_of(const double *x, uint32_t n) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* The best of a group; with a bias the sum of its two best. */
static double group_score(const op_route *a, const double *chance, uint32_t n) {
    const uint32_t best = best_of(chance, n);
    if (a->bias == NULL || n == 1) return chance[best];
    double second = -INFINITY;
    for (uint32_t i = 0; i < n; i++)
        if (i != best) second = fmax(second, chance[i]);
    return possible(chance[best] + second);
}

/* Rule out the experts of all but the best groups. */
static void keep_best_groups(const choice *c) {
    const op_route *a = c->route;
    const uint32_t n = a->experts / a->groups;
    for (uint32_t g = 0; g < a->groups; g++)
        c->group[g] = group_score(a, c->chance + (size_t)g * n, n);
    for (uint32_t i = 0; i < a->groups_used; i++)
        c->group[best_of(c->group, a->groups)] = -INFINITY; /* chosen */
    for (uint32_t g = 0; g < a->groups; g++)
        for (uint32_t i = 0; i < n && c->group[g] != -INFINITY; i++)
            c->chance[(size_t)g * n + i] = -INFINITY;
}

/* out [2 * used]: numbers, then weights. */
static void choose(const choice *c, float *out) {
    const op_route *a = c->route;
    double *weights = c->group, sum = 0; /* the groups are done with */
    for (uint32_t u = 0; u < a->used; u++) {
        const uint32_t e = best_of(c->chance, a->experts);
        c->chance[e] = -INFINITY;
        out[u] = (float)e;
        weights[u] = c->score[e];
    }
    if (a->kind == ROUTE_SOFTMAX_BEST) softmax(weights, a->used);
    for (uint32_t u = 0; u < a->used; u++) sum += weights[u];
    for (uint32_t u = 0; u < a->used; u++) {
        double w = a->normalize ? weights[u] / sum : weights[u];
        out[a->used + u] = (float)(w * (double)a->scale);
    }
}

void cpu_route(backend *b, const task *t, uint32_t r, uint32_t worker) {
    const op *o = t->ops[0];
    double *scratch = (double *)worker_scratch(b, worker);
    const choice c = {&o->route, scratch, scratch + o->route.experts,
                      scratch + (size_t)2 * o->route.experts};
    score_experts(&c, value_row(b, o->in[0], r));
    if (o->route.groups > 1) keep_best_groups(&c);
    choose(&c, value_row(b, o->out, r));
}

/* --- who has which rows -------------------- */

uint32_t cpu_units_group(const backend *b, const task *t) {
    return step_rows(b, t->rows) > 0 ? 1 : 0;
}

static uint32_t expert_of(const backend *b, const op *o, uint32_t r, uint32_t slot) {
    uint32_t e = (uint32_t)value_row(b, o->in[1], r)[slot];
    ASSERT(e < o->experts.experts);
    return e;
}

/* begin[e] becomes where the pairs of e begin, from how many there are in begin[e + 1]. */
static void start_groups(expert_groups *g, uint32_t experts) {
    g->active_count = 0;
    for (uint32_t e = 0; e < experts; e++) {
        if (g->begin[e + 1] > 0) g->active[g->active_count++] = e;
        g->begin[e + 1] += g->begin[e];
    }
}

/* A counting sort, with begin[e] as the cursor of e, put back by one place at the end. */
void cpu_group(backend *b, const task *t, uint32_t unit, uint32_t worker) {
    const op *o = t->ops[0];
    const uint32_t rows = step_rows(b, t->rows), used = o->experts.used;
    const uint32_t experts = o->experts.experts;
    expert_groups *g = &b->groups;
    (void)unit;
    (void)worker;
    memset(g->begin, 0, ((size_t)experts + 1) * sizeof *g->begin);
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t u = 0; u < used; u++) g->begin[expert_of(b, o, r, u) + 1]++;
    start_groups(g, experts);
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t u = 0; u < used; u++)
            g->pairs[g->begin[expert_of(b, o, r, u)]++] = r * used + u;
    memmove(g->begin + 1, g->begin, experts * sizeof *g->begin);
    g->begin[0] = 0;
}

/* --- the experts -------------------- */

/* The most experts that the rows of this step can have chosen. */
static uint32_t active_max(const backend *b, const task *t) {
    const op_experts *a = &t->ops[0]->experts;
    return num_min_u32(a->experts, step_rows(b, t->rows) * a->used);
}

static uint32_t unit_rows(const backend *b, const task *t) {
    uint64_t rows = (uint64_t)t->ops[0]->experts.w[0].rows * active_max(b, t);
    return cpu_unit_rows(b, (uint32_t)num_min_u64(rows, UINT32_MAX));
}

uint32_t cpu_units_experts(const backend *b, const task *t) {
    return active_max(b, t) * num_div_up_u32(t->ops[0]->experts.w[0].rows, unit_rows(b, t));
}

/* Up to TILE_ROWS_MAX pairs against weight rows row0 .. row0 + rows - 1 of expert e. */
static void multiply_pairs(const backend *b, const op *o, uint32_t e, const uint32_t *pairs,
                           uint32_t count, uint32_t row0, uint32_t rows, float *scratch) {
    const op_experts *a = &o->experts;
    const weight *w = &a->w[e];
    tile part = {.w = w,
                 .bias = a->bias != NULL ? a->bias + (size_t)e * w->rows : NULL,
                 .packed = pack_of(&b->packs, op_idx_of(b, o), e),
                 .count = count};
    const bool *fast = step_fast_rows(b, b->p->values[o->out].rows);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t r = pairs[i] / a->used, slot = pairs[i] % a->used;
        part.fast[i] = fast != NULL && fast[r];
        part.x[i] = value_at(b, o->in[0], r) + (a->shared_in ? 0 : (size_t)slot * w->cols);
        part.out[i] = value_at(b, o->out, r) + (size_t)slot * w->rows + row0;
    }
    cpu_tile_multiply(b, &part, row0, rows, scratch);
}

void cpu_experts(backend *b, const task *t, uint32_t unit, uint32_t worker) {
    const op *o = t->ops[0];
    const expert_groups *g = &b->groups;
    const uint32_t w_rows = o->experts.w[0].rows, per = unit_rows(b, t);
    const uint32_t units = num_div_up_u32(w_rows, per), row0 = unit % units * per;
    if (unit / units >= g->active_count) return;
    const uint32_t e = g->active[unit / units], rows = num_min_u32(per, w_rows - row0);
    for (uint32_t i = g->begin[e]; i < g->begin[e + 1]; i += TILE_ROWS_MAX)
        multiply_pairs(b, o, e, g->pairs + i, num_min_u32(TILE_ROWS_MAX, g->begin[e + 1] - i), row0,
                       rows, worker_scratch(b, worker));
}

size_t cpu_experts_floats(const op *o) {
    const weight *w = &o->experts.w[0];
    size_t floats = 0;
    for (uint32_t e = 0; e < o->experts.experts; e++) /* packed or not may differ */
        floats = num_max_u64(floats, cpu_tile_floats(&w[e], cpu_weight_packs(&w[e])));
    return floats;
}

/* --- their sum -------------------- */

void cpu_experts_sum(backend *b, const task *t, uint32_t r, uint32_t worker) {
    const op *o = t->ops[0];
    const uint32_t cols = value_cols(b, o->out), used = o->experts.used;
    const float *x = value_row(b, o->in[0], r), *weights = value_row(b, o->in[1], r) + used;
    float *y = value_row(b, o->out, r);
    (void)worker;
    memset(y, 0, cols * sizeof *y);
    for (uint32_t u = 0; u < used; u++, x += cols)
        for (uint32_t c = 0; c < cols; c++) y[c] += weights[u] * x[c];
}
