/* quant_block.c - a block of input at a common size; see quant_internal.h. */
#include <math.h>

#include "base/assert.h"
#include "tensor/quant_internal.h"

/* Scaling by more than this would leave the range of powers of two in f32. */
enum { EXPONENT_MAX = 120 };

/* So that a column without importance still gets sensible codes. */
#define IMPORTANCE_MIN 1e-6f

static float largest(const float *in, uint32_t n) {
    float amax = 0.0f;
    for (uint32_t i = 0; i < n; i++) amax = fmaxf(amax, fabsf(in[i]));
    return amax;
}

static void load_importance(quant_block *b, const float *importance) {
    double sum = 0;
    for (uint32_t i = 0; i < b->n; i++) b->w[i] = 1.0f;
    if (importance == NULL) return;
    for (uint32_t i = 0; i < b->n; i++) sum += (double)importance[i];
    if (!(sum > 0) || !isfinite(sum)) return;
    const double scale = (double)b->n / sum;
    for (uint32_t i = 0; i < b->n; i++)
        b->w[i] = fmaxf((float)((double)importance[i] * scale), IMPORTANCE_MIN);
}

void quant_block_load(quant_block *b, const float *in, const float *importance, uint32_t n) {
    ASSERT(n <= QUANT_BLOCK_MAX && n % 16 == 0);
    const float amax = largest(in, n);
    int exponent = amax > 0.0f ? ilogbf(amax) : 0;
    if (exponent > EXPONENT_MAX) exponent = EXPONENT_MAX;
    if (exponent < -EXPONENT_MAX) exponent = -EXPONENT_MAX;
    const float factor = ldexpf(1.0f, -exponent);
    b->n = n;
    b->unit = ldexpf(1.0f, exponent);
    b->amax = amax * factor;
    for (uint32_t i = 0; i < n; i++) b->x[i] = in[i] * factor;
    load_importance(b, importance);
}

float quant_put_scale(uint8_t *at, float scale, float unit) {
    const float f16_max = 65504.0f;
    float wanted = fminf(fmaxf(scale * unit, -f16_max), f16_max);
    const uint16_t h = convert_f32_to_f16(wanted);
    memcpy(at, &h, sizeof h);
    return convert_f16_to_f32(h) / unit;
}
