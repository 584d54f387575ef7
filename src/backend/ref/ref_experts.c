/* ref_experts.c - mixture of experts: the router's choice, the chosen experts, their sum. */
#include <float.h>
#include <math.h>

#include "backend/ref/ref_internal.h"
#include "base/assert.h"

/* --- the choice ------------------------------------------------------------------- */

/* What the choice works on, for one row.  A chance is never -inf or NaN, whatever a broken model
 * makes of its logits, until it is out of the question: so the used experts are always different
 * ones. */
typedef struct choice {
    const op_route *route;
    double *score;  /* [experts] what becomes the weight */
    double *chance; /* [experts] what is compared; -inf: chosen already, or out of the question */
    double *group;  /* [groups] the same for groups */
} choice;

static double possible(double chance) { return fmax(chance, -DBL_MAX); }

static void softmax(double *x, uint32_t n) {
    double max = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < n; i++) max = fmax(max, x[i]);
    for (uint32_t i = 0; i < n; i++) sum += x[i] = exp(x[i] - max);
    for (uint32_t i = 0; i < n; i++) x[i] /= sum;
}

static void score_experts(choice *c, const float *logits) {
    const op_route *t = c->route;
    for (uint32_t e = 0; e < t->experts; e++) {
        double x = (double)logits[e];
        c->score[e] = t->kind == ROUTE_SIGMOID ? 1 / (1 + exp(-x)) : x;
    }
    if (t->kind == ROUTE_SOFTMAX) softmax(c->score, t->experts);
    for (uint32_t e = 0; e < t->experts; e++)
        c->chance[e] = possible(c->score[e] + (t->bias != NULL ? (double)t->bias[e] : 0));
}

/* The lowest number among the greatest. */
static uint32_t best_of(const double *x, uint32_t n) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* The best of a group, or with a bias the sum of its two best. */
static double group_score(const op_route *t, const double *chance, uint32_t n) {
    uint32_t best = best_of(chance, n);
    double second = -INFINITY;
    for (uint32_t i = 0; i < n; i++)
        if (i != best) second = fmax(second, chance[i]);
    return possible(chance[best] + (t->bias != NULL && n > 1 ? second : 0));
}

/* Rule out the experts of all but the best groups. */
static void keep_best_groups(choice *c) {
    const op_route *t = c->route;
    uint32_t n = t->experts / t->groups;
    for (uint32_t g = 0; g < t->groups; g++)
        c->group[g] = group_score(t, c->chance + (size_t)g * n, n);
    for (uint32_t i = 0; i < t->groups_used; i++)
        c->group[best_of(c->group, t->groups)] = -INFINITY; /* chosen */
    for (uint32_t g = 0; g < t->groups; g++)
        for (uint32_t i = 0; i < n && c->group[g] != -INFINITY; i++)
            c->chance[(size_t)g * n + i] = -INFINITY;
}

/* out [2 * used]: numbers, then weights. */
static void choose(choice *c, float *out) {
    const op_route *t = c->route;
    double *share = c->group; /* [used]; the groups are done with */
    double sum = 0;
    for (uint32_t u = 0; u < t->used; u++) {
        uint32_t e = best_of(c->chance, t->experts);
        c->chance[e] = -INFINITY;
        out[u] = (float)e;
        share[u] = c->score[e];
    }
    if (t->kind == ROUTE_SOFTMAX_BEST) softmax(share, t->used);
    for (uint32_t u = 0; u < t->used; u++) sum += share[u];
    for (uint32_t u = 0; u < t->used; u++) {
        double w = t->normalize ? share[u] / sum : share[u];
        out[t->used + u] = (float)(w * (double)t->scale);
    }
}

void ref_route(backend *b, const op *o, const batch *in) {
    const op_route *t = &o->route;
    choice c = {t, b->scratch, b->scratch + t->experts, b->scratch + (size_t)2 * t->experts};
    for (uint32_t r = 0; r < ref_rows(b, o, in); r++) {
        score_experts(&c, ref_row(b, o->in[0], r));
        if (t->groups > 1) keep_best_groups(&c);
        choose(&c, ref_row(b, o->out, r));
    }
}

/* --- the experts ------------------------------------------------------------------ */

static void apply_expert(backend *b, const op_experts *a, uint32_t e, const float *x, float *y) {
    ASSERT(e < a->experts);
    const weight *w = &a->w[e];
    const float *bias = a->bias != NULL ? a->bias + (size_t)e * w->rows : NULL;
    for (uint32_t j = 0; j < w->rows; j++) {
        double sum = ref_dot(x, ref_weight_row(b, w, j), w->cols);
        y[j] = (float)(sum + (bias != NULL ? (double)bias[j] : 0));
    }
}

void ref_experts(backend *b, const op *o, const batch *in) {
    const op_experts *a = &o->experts;
    for (uint32_t r = 0; r < ref_rows(b, o, in); r++) {
        const float *x = ref_row(b, o->in[0], r), *routed = ref_row(b, o->in[1], r);
        float *y = ref_row(b, o->out, r);
        for (uint32_t u = 0; u < a->used; u++)
            apply_expert(b, a, (uint32_t)routed[u], a->shared_in ? x : x + (size_t)u * a->w->cols,
                         y + (size_t)u * a->w->rows);
    }
}

void ref_experts_sum(backend *b, const op *o, const batch *in) {
    uint32_t cols = ref_cols(b, o->out), used = o->experts.used;
    for (uint32_t r = 0; r < ref_rows(b, o, in); r++) {
        const float *x = ref_row(b, o->in[0], r), *share = ref_row(b, o->in[1], r) + used;
        float *y = ref_row(b, o->out, r);
        for (uint32_t c = 0; c < cols; c++) {
            double sum = 0;
            for (uint32_t u = 0; u < used; u++)
                sum += (double)share[u] * (double)x[(size_t)u * cols + c];
            y[c] = (float)sum;
        }
    }
}
