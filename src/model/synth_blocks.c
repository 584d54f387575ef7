/* synth_blocks.c - random blocks of any quantized type, without a quantizer.
 *
 * A block is filled with random bits, so its quants are uniform; then the fields that must not be
 * random (scales, minima, sums) are set so that the elements have mean 0 and the wanted
 * deviation.  Where the levels are lopsided, every other block is negated.  Layouts:
 * tensor/dequant_*.c. */
#include <math.h>

#include "base/assert.h"
#include "model/synth_internal.h"
#include "tensor/convert.h"

static void put_half(uint8_t *p, float v) {
    uint16_t h = convert_f32_to_f16(v);
    memcpy(p, &h, sizeof h);
}

/* Negative in half of the blocks. */
static float either_sign(float v, uint64_t random) { return (random & 1u) != 0 ? -v : v; }

/* Set the fields of one block: an element is `step` times its quant, or level, as the table of
 * recipes below counts them.  `random` is fresh. */
typedef void finish_fn(uint8_t *block, float step, uint64_t random);

/* --- blocks with one scale --------------------------------------------------- */
static void finish_scale(uint8_t *block, float step, uint64_t random) {
    put_half(block, either_sign(step, random));
}

static void finish_q4_1(uint8_t *block, float step, uint64_t random) {
    (void)random;
    put_half(block, step);
    put_half(block + 2, -7.5f * step);
}

static void finish_q5_1(uint8_t *block, float step, uint64_t random) {
    (void)random;
    put_half(block, step);
    put_half(block + 2, -15.5f * step);
}

static int32_t sum_of(const uint8_t *quants, uint32_t count) {
    int32_t sum = 0;
    for (uint32_t k = 0; k < count; k++) sum += (int8_t)quants[k];
    return sum;
}

static void finish_q8_1(uint8_t *block, float step, uint64_t random) {
    const float scale = either_sign(step, random);
    put_half(block, scale);
    put_half(block + 2, scale * (float)sum_of(block + 4, 32));
}

static void finish_q8_k(uint8_t *block, float step, uint64_t random) {
    const float scale = either_sign(step, random);
    memcpy(block, &scale, sizeof scale);
    for (uint32_t n = 0; n < 16; n++) {
        int16_t sum = (int16_t)sum_of(block + 4 + (size_t)n * 16, 16);
        memcpy(block + 260 + (size_t)n * 2, &sum, sizeof sum);
    }
}

static void finish_tq1_0(uint8_t *block, float step, uint64_t random) {
    put_half(block + 52, either_sign(step, random));
}

/* Pairs of bits are -1, 0, 1; a fourth value is no ternary digit and becomes 0. */
static void finish_tq2_0(uint8_t *block, float step, uint64_t random) {
    for (uint32_t k = 0; k < 64; k++) {
        uint32_t threes = block[k] & (uint32_t)block[k] >> 1 & 0x55u;
        block[k] = (uint8_t)(block[k] & ~(threes << 1));
    }
    put_half(block + 64, either_sign(step, random));
}

/* --- K types: middling scales of the parts ------------------------------------- */
static void finish_q2_k(uint8_t *block, float step, uint64_t random) {
    (void)random;
    memset(block, 0xfa, 16); /* scale 10, minimum 15: 1.5 steps */
    put_half(block + 80, step / 10);
    put_half(block + 82, step / 10);
}

/* Scales of 16 or -16, stored as 48 and 16. */
static void finish_q3_k(uint8_t *block, float step, uint64_t random) {
    (void)random;
    memset(block + 96, 0, 8);
    for (uint32_t k = 104; k < 108; k++) block[k] |= 0x55;
    put_half(block + 108, step / 16);
}

/* Scales and minima of 32. */
static void set_k4_parts(uint8_t *block, float step, float min_steps) {
    put_half(block, step / 32);
    put_half(block + 2, min_steps * step / 32);
    memset(block + 4, 32 | 2 << 6, 8);
    memset(block + 12, 0, 4);
}

static void finish_q4_k(uint8_t *block, float step, uint64_t random) {
    (void)random;
    set_k4_parts(block, step, 7.5f);
}

static void finish_q5_k(uint8_t *block, float step, uint64_t random) {
    (void)random;
    set_k4_parts(block, step, 15.5f);
}

static void finish_q6_k(uint8_t *block, float step, uint64_t random) {
    for (uint32_t k = 0; k < 16; k++) block[192 + k] = (random >> k & 1u) != 0 ? 32 : (uint8_t)-32;
    put_half(block + 208, step / 32);
}

/* --- IQ types: the middle of each scale ---------------------------------------- */
static void finish_iq2_xxs(uint8_t *block, float step, uint64_t random) {
    for (uint32_t k = 9; k < 66; k += 8) block[k] = (uint8_t)((block[k] & 15) | 8 << 4);
    put_half(block, either_sign(step / (8.5f * 0.25f), random));
}

static void finish_iq2_xs(uint8_t *block, float step, uint64_t random) {
    memset(block + 66, 0x88, 8);
    put_half(block, either_sign(step / (8.5f * 0.25f), random));
}

static void finish_iq2_s(uint8_t *block, float step, uint64_t random) {
    memset(block + 74, 0x88, 8);
    put_half(block, either_sign(step / (8.5f * 0.25f), random));
}

static void finish_iq3_xxs(uint8_t *block, float step, uint64_t random) {
    for (uint32_t k = 69; k < 98; k += 4) block[k] = (uint8_t)((block[k] & 15) | 8 << 4);
    put_half(block, either_sign(step / (8.5f * 0.5f), random));
}

static void finish_iq3_s(uint8_t *block, float step, uint64_t random) {
    memset(block + 106, 0x88, 4);
    put_half(block, either_sign(step / 17, random));
}

static void finish_iq1_s(uint8_t *block, float step, uint64_t random) {
    for (uint32_t k = 35; k < 50; k += 2) block[k] = (uint8_t)((block[k] & 0x8f) | 4 << 4);
    put_half(block, either_sign(step / 9, random));
}

/* Four times four three-bit scales of 4, a nibble of the f16 factor above each. */
static void finish_iq1_m(uint8_t *block, float step, uint64_t random) {
    const uint32_t factor = convert_f32_to_f16(either_sign(step / 9, random));
    for (uint32_t n = 0; n < 4; n++) {
        uint16_t packed = (uint16_t)(0x924u | (factor >> n * 4 & 15u) << 12);
        memcpy(block + 48 + (size_t)n * 2, &packed, sizeof packed);
    }
}

/* Scales of 16 or -16, stored as 48 and 16. */
static void finish_iq4_xs(uint8_t *block, float step, uint64_t random) {
    put_half(block, either_sign(step / 16, random));
    block[2] |= 0x55;
    block[3] |= 0x55;
    memset(block + 4, 0, 4);
}

/* --- four-bit floats: scales are coarse, so two neighbours are mixed ------------- */
/* Take the larger of two scales often enough that the mean square is step^2? */
static bool takes_larger(float step, float smaller, float larger, uint32_t random16) {
    float share = (step * step - smaller * smaller) / (larger * larger - smaller * smaller);
    return (float)random16 < share * 65536.0f;
}

static void finish_mxfp4(uint8_t *block, float step, uint64_t random) {
    int exponent = 0;
    (void)frexpf(step, &exponent); /* 2^(exponent - 1) <= step < 2^exponent */
    const float smaller = ldexpf(1.0f, exponent - 1);
    const bool larger = takes_larger(step, smaller, smaller * 2, random & 0xffffu);
    ASSERT(exponent > -126 && exponent < 127);
    block[0] = (uint8_t)(exponent - 1 + 127 + (larger ? 1 : 0));
}

static float ue4m3_value(uint32_t code) {
    const float mantissa = (float)(code & 7u) / 8.0f;
    if (code < 8) return ldexpf(mantissa, -6);
    return ldexpf(1.0f + mantissa, (int)(code >> 3) - 7);
}

/* The largest code whose value is not above `step`, and at most the last but one. */
static uint32_t ue4m3_below(float step) {
    int exponent = 0;
    if (step < 0x1p-6f) return (uint32_t)(step * 512.0f);
    if (step >= 416.0f) return 125;
    float fraction = frexpf(step, &exponent);
    return (uint32_t)(exponent - 1 + 7) << 3 | (uint32_t)((fraction * 2 - 1) * 8);
}

static void finish_nvfp4(uint8_t *block, float step, uint64_t random) {
    const uint32_t code = ue4m3_below(step);
    for (uint32_t n = 0; n < 4; n++, random >>= 16) {
        bool larger =
            takes_larger(step, ue4m3_value(code), ue4m3_value(code + 1), random & 0xffffu);
        block[n] = (uint8_t)(code + (larger ? 1 : 0));
    }
}

/* --- recipes ----------------------------------------------------------------- */
typedef struct recipe {
    float deviation; /* of the elements, in steps: root mean square over equally likely quants */
    finish_fn *finish;
} recipe;

static const recipe recipes[DTYPE_ID_END] = {
    [DTYPE_Q4_1] = {4.6097722f, finish_q4_1},       /* 0..15 around 7.5 */
    [DTYPE_Q5_0] = {9.2466210f, finish_scale},      /* -16..15 */
    [DTYPE_Q5_1] = {9.2330927f, finish_q5_1},       /* 0..31 around 15.5 */
    [DTYPE_Q8_1] = {73.902300f, finish_q8_1},       /* -128..127 */
    [DTYPE_Q2_K] = {1.1180340f, finish_q2_k},       /* 0..3 around 1.5 */
    [DTYPE_Q3_K] = {2.3452079f, finish_q3_k},       /* -4..3 */
    [DTYPE_Q4_K] = {4.6097722f, finish_q4_k},       /* 0..15 around 7.5 */
    [DTYPE_Q5_K] = {9.2330927f, finish_q5_k},       /* 0..31 around 15.5 */
    [DTYPE_Q6_K] = {18.479719f, finish_q6_k},       /* -32..31 */
    [DTYPE_Q8_K] = {73.902300f, finish_q8_k},       /* -128..127 */
    [DTYPE_IQ1_S] = {0.7808984f, finish_iq1_s},     /* over the codebook, shifts included */
    [DTYPE_IQ1_M] = {0.7808984f, finish_iq1_m},     /* likewise */
    [DTYPE_IQ2_XXS] = {23.117746f, finish_iq2_xxs}, /* over the codebook */
    [DTYPE_IQ2_XS] = {24.217268f, finish_iq2_xs},
    [DTYPE_IQ2_S] = {24.430343f, finish_iq2_s},
    [DTYPE_IQ3_XXS] = {30.848673f, finish_iq3_xxs},
    [DTYPE_IQ3_S] = {7.5942001f, finish_iq3_s},
    [DTYPE_IQ4_NL] = {67.438861f, finish_scale}, /* over the levels */
    [DTYPE_IQ4_XS] = {67.438861f, finish_iq4_xs},
    [DTYPE_TQ1_0] = {0.8172936f, finish_tq1_0}, /* digits of equally likely bytes */
    [DTYPE_TQ2_0] = {0.7071068f, finish_tq2_0}, /* 0 twice as often as 1 and -1 */
    [DTYPE_MXFP4] = {2.9261750f, finish_mxfp4}, /* 0 .. 6 */
    [DTYPE_NVFP4] = {2.9261750f, finish_nvfp4},
    [DTYPE_Q1_0] = {1.0f, finish_scale},
    [DTYPE_Q2_0] = {1.2247449f, finish_scale}, /* -1..2 */
};

static void fill_random(synth_stream *s, uint8_t *block, uint32_t bytes) {
    for (uint32_t i = 0; i < bytes; i += 8) {
        uint64_t x = synth_next(s);
        memcpy(block + i, &x, bytes - i < 8 ? bytes - i : 8);
    }
}

bool synth_has_blocks(dtype t) { return recipes[t].finish != NULL; }

void synth_fill_blocks(dtype t, synth_stream *s, float sigma, uint32_t cols, uint8_t *row) {
    const dtype_info *info = dtype_get((uint32_t)t);
    const float step = sigma / recipes[t].deviation;
    for (uint32_t i = 0; i < cols; i += info->block_elems, row += info->block_bytes) {
        fill_random(s, row, info->block_bytes);
        recipes[t].finish(row, step, synth_next(s));
    }
}
