/* quant_super.h - searches for the types of 256 elements; for quant_*.c only.
 *
 * Such a super-block has groups of 16 or 32 elements.  A group's scale is a small integer, its
 * level, times the scale of the super-block; the affine types have the same once more for the
 * minimum.  First each group is fitted on its own; the super-block's scales are then chosen so
 * that the levels can follow, each group tries the levels around what it wants, and with codes
 * and levels held fixed the scales are solved for again.  The best of these trials is kept. */
#ifndef TENSOR_QUANT_SUPER_H
#define TENSOR_QUANT_SUPER_H

#include "tensor/quant_fit.h"

enum { SUPER = 256, SUPER_GROUPS_MAX = 16, SCALE_BYTES = 2, SCALES_BYTES = 2 * SCALE_BYTES };

/* --- scale -------------------------------------------------------------------- */

typedef struct super_scale {
    float d;                       /* as stored: a group's scale is d * level */
    float level[SUPER_GROUPS_MAX]; /* integers */
    float error;
} super_scale;

/* `span`: how many levels on either side of the wanted one are tried. */
QUANT_EXPAND void super_scale_levels(const quant_block *b, size_t group, const float *wanted,
                                     float level_max, int span, super_scale *s, snap_fn snap) {
    const float inverse = fit_inverse(s->d);
    s->error = 0.0f;
    for (size_t g = 0; g < SUPER / group; g++) {
        const float *x = b->x + g * group, *w = b->w + g * group;
        float centre = rintf(fminf(fmaxf(wanted[g] * inverse, -level_max - 1), level_max));
        float best = INFINITY;
        for (int step = -span; step <= span; step++) {
            const float level = centre + (float)step;
            if (level < -level_max - 1 || level > level_max) continue;
            const float e = fit_scale_error(x, w, group, s->d * level, snap);
            if (!(e < best)) continue;
            best = e;
            s->level[g] = level;
        }
        s->error += best;
    }
}

/* The d that suits levels and codes best. */
QUANT_EXPAND float super_scale_solve(const quant_block *b, size_t group, const super_scale *s,
                                     snap_fn snap) {
    double xa = 0, aa = 0;
    for (size_t g = 0; g < SUPER / group; g++) {
        const float inverse = fit_inverse(s->d * s->level[g]);
        lanes xq = {0}, qq = {0};
        for (size_t i = g * group; i < (g + 1) * group; i += LANES) {
            const lanes v = lanes_load(b->x + i), q = snap(v * inverse);
            const lanes wq = lanes_load(b->w + i) * q;
            xq += wq * v;
            qq += wq * q;
        }
        const double level = (double)s->level[g];
        xa += level * (double)lanes_sum(xq);
        aa += level * level * (double)lanes_sum(qq);
    }
    return aa > 0 ? (float)(xa / aa) : 0.0f;
}

/* wanted [groups]: each group's own scale.  at: where d is stored. */
QUANT_EXPAND super_scale super_scale_fit(const quant_block *b, size_t group, const float *wanted,
                                         float level_max, int span, uint32_t rounds, uint8_t *at,
                                         snap_fn snap) {
    float extreme = 0.0f;
    super_scale best = {.error = INFINITY}, s = {0};
    for (size_t g = 0; g < SUPER / group; g++)
        if (fabsf(wanted[g]) > fabsf(extreme)) extreme = wanted[g];
    float d = extreme / (-level_max - 1);
    for (uint32_t k = 0; k < rounds; k++) {
        s.d = quant_put_scale(at, d, b->unit);
        super_scale_levels(b, group, wanted, level_max, span, &s, snap);
        if (!(s.error < best.error)) break;
        best = s;
        d = super_scale_solve(b, group, &s, snap);
    }
    (void)quant_put_scale(at, best.d, b->unit);
    return best;
}

/* q [256] */
QUANT_EXPAND void super_scale_codes(const quant_block *b, size_t group, const super_scale *s,
                                    float *q, snap_fn snap) {
    for (size_t g = 0; g < SUPER / group; g++)
        fit_scale_codes(b->x + g * group, group, s->d * s->level[g], q + g * group, snap);
}

/* --- scale and minimum -------------------------------------------------------- */

typedef struct super_affine {
    float d, dmin; /* as stored: scale = d * level, min = dmin * min_level */
    float level[SUPER_GROUPS_MAX];
    float min_level[SUPER_GROUPS_MAX];
    float error;
} super_affine;

QUANT_EXPAND affine super_affine_group(const super_affine *s, size_t g) {
    return (affine){s->d * s->level[g], s->dmin * s->min_level[g]};
}

static inline float super_clamp(float level, float level_max) {
    return fminf(fmaxf(level, 0.0f), level_max);
}

/* The levels of group g.  A larger scale wants a larger min: the middle code stays put. */
QUANT_EXPAND float super_affine_pick(const quant_block *b, size_t group, size_t g, float top,
                                     affine wanted, float level_max, int span, super_affine *s) {
    const float *x = b->x + g * group, *w = b->w + g * group;
    const float centre = rintf(super_clamp(wanted.scale * fit_inverse(s->d), level_max));
    float best = INFINITY;
    for (int step = -span; step <= span; step++) {
        const float level = centre + (float)step;
        if (level < 0 || level > level_max) continue;
        const float min = wanted.min + (s->d * level - wanted.scale) * 0.5f * top;
        const float low = floorf(super_clamp(min * fit_inverse(s->dmin), level_max));
        for (int up = 0; up <= 1; up++) {
            const float m = low + (float)up;
            if (m > level_max) continue;
            const affine a = {s->d * level, s->dmin * m};
            const float e = fit_affine_error(x, w, group, top, a);
            if (!(e < best)) continue;
            best = e;
            s->level[g] = level;
            s->min_level[g] = m;
        }
    }
    return best;
}

/* The d and dmin that suit levels and codes best; unchanged where they are not determined. */
QUANT_EXPAND void super_affine_solve(const quant_block *b, size_t group, float top,
                                     const super_affine *s, float *d, float *dmin) {
    double aa = 0, ab = 0, bb = 0, xa = 0, xb = 0;
    float q[32];
    for (size_t g = 0; g < SUPER / group; g++) {
        lanes w1 = {0}, q1 = {0}, q2 = {0}, x1 = {0}, xq = {0};
        fit_affine_codes(b->x + g * group, group, top, super_affine_group(s, g), q);
        for (size_t i = 0; i < group; i += LANES) {
            const lanes x = lanes_load(b->x + g * group + i), w = lanes_load(b->w + g * group + i);
            const lanes wq = w * lanes_load(q + i);
            w1 += w;
            x1 += w * x;
            q1 += wq;
            q2 += wq * lanes_load(q + i);
            xq += wq * x;
        }
        const double level = (double)s->level[g], min_level = (double)s->min_level[g];
        aa += level * level * (double)lanes_sum(q2);
        ab += level * min_level * (double)lanes_sum(q1);
        bb += min_level * min_level * (double)lanes_sum(w1);
        xa += level * (double)lanes_sum(xq);
        xb += min_level * (double)lanes_sum(x1);
    }
    const double det = aa * bb - ab * ab;
    if (det > 1e-12 * aa * bb) {
        *d = (float)((xa * bb - xb * ab) / det);
        *dmin = (float)((xa * ab - xb * aa) / det);
    } else if (aa > 0 && bb == 0) {
        *d = (float)(xa / aa);
    }
}

/* wanted [groups]: what each group would have on its own.  at: where d and dmin are stored. */
QUANT_EXPAND super_affine super_affine_fit(const quant_block *b, size_t group, float top,
                                           const affine *wanted, float level_max, int span,
                                           uint32_t rounds, uint8_t *at) {
    super_affine best = {.error = INFINITY}, s = {0};
    float d = 0.0f, dmin = 0.0f;
    for (size_t g = 0; g < SUPER / group; g++) {
        d = fmaxf(d, wanted[g].scale / level_max);
        dmin = fmaxf(dmin, wanted[g].min / level_max);
    }
    for (uint32_t k = 0; k < rounds; k++) {
        s.d = quant_put_scale(at, fmaxf(d, 0.0f), b->unit);
        s.dmin = quant_put_scale(at + SCALE_BYTES, fmaxf(dmin, 0.0f), b->unit);
        s.error = 0.0f;
        for (size_t g = 0; g < SUPER / group; g++)
            s.error += super_affine_pick(b, group, g, top, wanted[g], level_max, span, &s);
        if (!(s.error < best.error)) break;
        best = s;
        super_affine_solve(b, group, top, &s, &d, &dmin);
    }
    (void)quant_put_scale(at, best.d, b->unit);
    (void)quant_put_scale(at + SCALE_BYTES, best.dmin, b->unit);
    return best;
}

/* q [256] */
QUANT_EXPAND void super_affine_codes(const quant_block *b, size_t group, float top,
                                     const super_affine *s, float *q) {
    for (size_t g = 0; g < SUPER / group; g++)
        fit_affine_codes(b->x + g * group, group, top, super_affine_group(s, g), q + g * group);
}

#endif
