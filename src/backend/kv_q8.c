/* kv_q8.c - see kv_q8.h. */
#include "backend/kv_q8.h"

#include <math.h>

#include "base/assert.h"
#include "tensor/convert.h"

enum { F16_NAN = 0x7e00, CODE_MAX = 127 };

/* Adding 1.5 * 2^23 leaves no bits below the point: the adder rounds to nearest, ties to even. */
static const float shift = 12582912.0f;

static int8_t code_of(float x, float inverse) {
    if (inverse == 0) return 0; /* x may be no number */
    const float code = fmaf(x, inverse, shift) - shift;
    return (int8_t)fminf(fmaxf(code, -CODE_MAX), CODE_MAX);
}

static void put_group(int8_t *codes, uint16_t *scale, const float *x) {
    float amax = 0;
    bool finite = true;
    for (int i = 0; i < KV_GROUP; i++) {
        amax = fmaxf(amax, fabsf(x[i]));
        finite &= isfinite(x[i]) != 0;
    }
    *scale = convert_f32_to_f16(amax / CODE_MAX);
    const float s = convert_f16_to_f32(*scale);
    if (!finite || isinf(s)) *scale = F16_NAN;
    const float inverse = finite && !isinf(s) && s > 0 ? 1.0f / s : 0;
    for (int i = 0; i < KV_GROUP; i++) codes[i] = code_of(x[i], inverse);
}

void kv_q8_put(kv_q8_row row, uint32_t first, const float *x, uint32_t n) {
    DASSERT(first % KV_GROUP == 0 && n % KV_GROUP == 0);
    for (uint32_t i = 0; i < n; i += KV_GROUP)
        put_group(row.codes + first + i, row.scales + (first + i) / KV_GROUP, x + i);
}
