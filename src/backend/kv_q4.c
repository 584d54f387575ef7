/* kv_q4.c - see kv_q4.h. */
#include "backend/kv_q4.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "tensor/convert.h"
#include "tensor/formula.h"

enum { F16_NAN = 0x7e00, CODE_MIN = -8, CODE_MAX = 7 };

/* Adding 1.5 * 2^23 leaves no bits below the point: the adder rounds to nearest, ties to even. */
static const float shift = 12582912.0f;

/* --- turning -------------------- */

static void turn_group(float *x) {
    for (uint32_t apart = 1; apart < KV_GROUP; apart *= 2)
        for (uint32_t i = 0; i < KV_GROUP; i += 2 * apart)
            for (uint32_t k = i; k < i + apart; k++) {
                const float a = x[k], b = x[k + apart];
                x[k] = a + b;
                x[k + apart] = a - b;
            }
    for (uint32_t i = 0; i < KV_GROUP; i++) x[i] *= FORMULA_TURN_32;
}

void kv_q4_turn(float *x, uint32_t n) {
    DASSERT(n % KV_GROUP == 0);
    for (uint32_t i = 0; i < n; i += KV_GROUP) turn_group(x + i);
}

/* --- storing -------------------- */

static uint8_t code_of(float x, float inverse) {
    if (inverse == 0) return -CODE_MIN; /* x may be no number */
    const float code = fmaf(x, inverse, shift) - shift;
    return (uint8_t)(fminf(fmaxf(code, CODE_MIN), CODE_MAX) - CODE_MIN);
}

/* x is turned already. */
static void put_group(uint8_t *codes, uint16_t *scale, const float *x) {
    float low = 0, high = 0;
    bool finite = true;
    for (int i = 0; i < KV_GROUP; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
        finite &= isfinite(x[i]) != 0;
    }
    *scale = convert_f32_to_f16((high > -low ? high : low) / CODE_MIN);
    const float s = convert_f16_to_f32(*scale);
    if (!finite || isinf(s)) *scale = F16_NAN;
    const float inverse = finite && !isinf(s) && s != 0 ? 1.0f / s : 0;
    for (int i = 0; i < KV_GROUP; i += 2)
        codes[i / 2] = (uint8_t)(code_of(x[i], inverse) | code_of(x[i + 1], inverse) << 4);
}

void kv_q4_put(kv_q4_row row, uint32_t first, const float *x, uint32_t n) {
    DASSERT(first % KV_GROUP == 0 && n % KV_GROUP == 0);
    for (uint32_t i = 0; i < n; i += KV_GROUP) {
        float turned[KV_GROUP];
        memcpy(turned, x + i, sizeof turned);
        turn_group(turned);
        put_group(row.codes + (first + i) / 2, row.scales + (first + i) / KV_GROUP, turned);
    }
}
