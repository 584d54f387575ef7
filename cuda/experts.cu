/* experts.cu - the router's choice of experts, one row per warp.
 *
 * The experts with the greatest chances are chosen, best first, ties to the lower number.  A chance
 * is the score plus the bias; without a bias it is the logit, which orders experts as their scores
 * do and does not run out of digits.  A chance is finite until its expert is chosen or out of the
 * question, whatever a broken model makes of its logits: the chosen ones are always different. */
#include "ck_math.h"
#include "tensor/formula.h"

enum { LANES = 32 };
#define FLOAT_MAX 3.402823466e38f

/* [CK_EXPERTS_MAX] each, in shared memory. */
typedef struct choice {
    float *score;  /* what becomes the weight */
    float *chance; /* what is compared; -infinity: chosen already, or out of the question */
    float *group;  /* the chances of groups; then the scores of the chosen */
} choice;

CK_DEV float possible(float chance) { return chance > -FLOAT_MAX ? chance : -FLOAT_MAX; }

/* x[i] becomes its share of the sum of e^x, for i of all lanes. */
CK_DEV void softmax(float *x, uint32_t n) {
    float max = -CK_INFINITY, sum = 0;
    for (uint32_t i = ck_lane(); i < n; i += LANES) max = ck_max(x[i], max);
    max = ck_warp_max(max);
    for (uint32_t i = ck_lane(); i < n; i += LANES) sum += x[i] = ck_exp(x[i] - max);
    sum = ck_warp_sum(sum);
    for (uint32_t i = ck_lane(); i < n; i += LANES) x[i] /= sum;
    ck_syncwarp();
}

CK_DEV void score_experts(const k_route_args &a, const float *logits, const choice &c) {
    for (uint32_t e = ck_lane(); e < a.experts; e += LANES) {
        float x = ck_ld(logits + e);
        c.score[e] = a.kind == ROUTE_SIGMOID ? 1.0f / (1.0f + ck_exp(-x)) : x;
        c.chance[e] = possible(x);
    }
    if (a.kind == ROUTE_SOFTMAX) softmax(c.score, a.experts);
    for (uint32_t e = ck_lane(); a.bias != 0 && e < a.experts; e += LANES)
        c.chance[e] = possible(c.score[e] + ck_ld((const float *)a.bias + e));
    ck_syncwarp();
}

/* The lowest number among the greatest of x [n]; the same in all lanes. */
CK_DEV uint32_t best_of(const float *x, uint32_t n) {
    float best = -CK_INFINITY;
    uint32_t at = UINT32_MAX;
    for (uint32_t i = ck_lane(); i < n; i += LANES) {
        if (x[i] <= best && at != UINT32_MAX) continue;
        best = x[i];
        at = i;
    }
    for (unsigned m = LANES / 2; m > 0; m >>= 1) {
        float other = ck_shfl_xor_f(best, m);
        uint32_t other_at = ck_shfl_xor(at, m);
        if (other < best || (other == best && other_at > at)) continue;
        best = other;
        at = other_at;
    }
    return at;
}

/* The best of a group, or with a bias the sum of its two best; by one lane. */
CK_DEV float group_score(const float *chance, uint32_t n, bool has_bias) {
    float best = -CK_INFINITY, second = -CK_INFINITY;
    for (uint32_t i = 0; i < n; i++) {
        second = ck_max(ck_min(chance[i], best), second);
        best = ck_max(chance[i], best);
    }
    return possible(best + (has_bias && n > 1 ? second : 0));
}

/* Rule out the experts of all but the best groups. */
CK_DEV void keep_best_groups(const k_route_args &a, const choice &c) {
    uint32_t n = a.experts / a.groups;
    for (uint32_t g = ck_lane(); g < a.groups; g += LANES)
        c.group[g] = group_score(c.chance + g * n, n, a.bias != 0);
    ck_syncwarp();
    for (uint32_t i = 0; i < a.groups_used; i++) {
        uint32_t g = best_of(c.group, a.groups);
        if (ck_lane() == 0) c.group[g] = -CK_INFINITY; /* chosen */
        ck_syncwarp();
    }
    for (uint32_t e = ck_lane(); e < a.experts; e += LANES)
        if (c.group[e / n] != -CK_INFINITY) c.chance[e] = -CK_INFINITY;
    ck_syncwarp();
}

/* out [2 * used]: numbers, then weights. */
CK_DEV void choose(const k_route_args &a, const choice &c, float *out) {
    float *share = c.group; /* the groups are done with */
    for (uint32_t u = 0; u < a.used; u++) {
        uint32_t e = best_of(c.chance, a.experts);
        if (ck_lane() == 0) {
            c.chance[e] = -CK_INFINITY;
            share[u] = c.score[e];
            ck_st(out + u, (float)e);
        }
        ck_syncwarp();
    }
    if (a.kind == ROUTE_SOFTMAX_BEST) softmax(share, a.used);
    float sum = 0;
    for (uint32_t u = ck_lane(); u < a.used; u += LANES) sum += share[u];
    sum = ck_warp_sum(sum);
    for (uint32_t u = ck_lane(); u < a.used; u += LANES)
        ck_st(out + a.used + u, (a.normalize ? share[u] / sum : share[u]) * a.scale);
}

CK_KERNEL(k_route, 32) {
    CK_SHARED(float, score, CK_EXPERTS_MAX);
    CK_SHARED(float, chance, CK_EXPERTS_MAX);
    CK_SHARED(float, group, CK_EXPERTS_MAX);
    uint32_t row = ck_bid_x;
    if (row >= ck_ld((const uint32_t *)a.count)) return;
    choice c = {score, chance, group};
    score_experts(a, (const float *)a.logits + (uint64_t)row * a.experts, c);
    if (a.groups > 1) keep_best_groups(a, c);
    choose(a, c, (float *)a.out + (uint64_t)row * 2 * a.used);
}
