/* cuda_planar_convert.c - stored types without a form of their own, as blocks of one that has.
 *
 * A type whose elements are an f16 scale times a whole number of seven bits is Q8_0 with smaller
 * numbers.  Its reader in tensor/convert.h tells the numbers, when the scale of a copy of the block
 * is set to 1; so no layout is written down here a second time but where the scale is.
 * Source of the layouts: tensor/dequant_*.c. */
#include <math.h>
#include <string.h>

#include "backend/cuda/cuda_planar_internal.h"
#include "base/assert.h"
#include "base/num.h"
#include "tensor/convert.h"

enum { ELEMS_MAX = 256, BYTES_MAX = 256, PART = 32, Q8_0_BYTES = 2 + PART, F16_ONE = 0x3c00 };

static uint16_t get_u16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* --- to Q8_0: one scale, whole numbers -------------------- */

typedef struct scale_place {
    dtype type;
    uint32_t at; /* byte of the block's f16 scale */
} scale_place;

static const scale_place scale_places[] = {
    {DTYPE_Q5_0, 0}, {DTYPE_Q8_1, 0},   {DTYPE_IQ4_NL, 0}, {DTYPE_Q1_0, 0},
    {DTYPE_Q2_0, 0}, {DTYPE_TQ1_0, 52}, {DTYPE_TQ2_0, 64},
};

static uint32_t scale_at(dtype t) {
    for (size_t i = 0; i < sizeof scale_places / sizeof scale_places[0]; i++)
        if (scale_places[i].type == t) return scale_places[i].at;
    ASSERT(!"a type of one f16 scale");
    return 0;
}

static uint32_t to_q8_0(dtype from, const uint8_t *block, uint8_t *out) {
    const dtype_info *info = dtype_get((uint32_t)from);
    ASSERT(info->block_bytes <= BYTES_MAX);
    uint8_t copy[BYTES_MAX];
    float numbers[ELEMS_MAX];
    const uint32_t at = scale_at(from), parts = info->block_elems / PART;
    const uint16_t one = F16_ONE;
    memcpy(copy, block, info->block_bytes);
    memcpy(copy + at, &one, sizeof one);
    dequant_row(from, copy, numbers, info->block_elems);
    for (size_t p = 0; p < parts; p++, out += Q8_0_BYTES) {
        memcpy(out, block + at, 2);
        for (size_t k = 0; k < PART; k++) out[2 + k] = (uint8_t)(int8_t)numbers[p * PART + k];
    }
    return parts;
}

/* --- MXFP4 to Q8_0 -------------------- */

/* The scale of a block is a power of two, here as 2^(e - 128) for doubled elements: f16 has it from
 * 104 (its smallest number) to 143. */
enum { E8M0_ONE = 128, E8M0_F16_MIN = 104, E8M0_F16_MAX = 143 };

static bool mxfp4_is_zero(const uint8_t *block) {
    for (uint32_t k = 1; k <= 16; k++)
        if ((block[k] & 0x77u) != 0) return false;
    return true;
}

/* Below f16, elements are rounded to multiples of its smallest number. */
static uint32_t mxfp4_to_q8_0(const uint8_t *block, uint8_t *out) {
    const uint32_t e = block[0];
    uint8_t copy[17];
    float numbers[PART];
    memcpy(copy, block, sizeof copy);
    copy[0] = E8M0_ONE;
    dequant_row(DTYPE_MXFP4, copy, numbers, PART);
    const bool zero = mxfp4_is_zero(block);
    const uint32_t kept = num_max_u32(e, E8M0_F16_MIN);
    ASSERT(zero || kept <= E8M0_F16_MAX);
    const uint16_t d = zero ? 0 : convert_f32_to_f16(convert_e8m0_half((uint8_t)kept));
    memcpy(out, &d, sizeof d);
    const float shrink = ldexpf(1.0f, (int)e - (int)kept);
    for (size_t k = 0; k < PART; k++) out[2 + k] = (uint8_t)(int8_t)rintf(numbers[k] * shrink);
    return 1;
}

static uint64_t blocks_of(const weight *w, const dtype_info *info) {
    return (uint64_t)w->rows * (w->cols / info->block_elems);
}

/* Has any block that is not all zeros a scale below `min` or above `max`? */
static bool mxfp4_has_scale_outside(const weight *w, uint32_t min, uint32_t max) {
    const dtype_info *info = dtype_get(DTYPE_MXFP4);
    const uint8_t *block = w->data;
    for (uint64_t i = blocks_of(w, info); i > 0; i--, block += info->block_bytes)
        if ((block[0] < min || block[0] > max) && !mxfp4_is_zero(block)) return true;
    return false;
}

bool cuda_convert_mxfp4_is_exact(const weight *w) {
    return !mxfp4_has_scale_outside(w, E8M0_F16_MIN, UINT8_MAX);
}

/* --- Q3_K to Q6_K -------------------- */

/* Both have f16 factor, 16 small scales and numbers around zero: -4..3 here, -32..31 there, which
 * Q6_K stores with 32 added. */
enum { Q3_SCALES = 96, Q3_D = 108, Q3_BYTES = 110, Q6_PAIRS = 128, Q6_SCALES = 192, Q6_D = 208 };

static int8_t q3_scale(const uint8_t *packed, uint32_t s) {
    const uint32_t low = s < 8 ? packed[s] & 15u : packed[s - 8] >> 4;
    const uint32_t high = packed[8 + s % 4] >> (s / 4 * 2) & 3u;
    return (int8_t)((int)(low | high << 4) - 32);
}

static uint32_t q3_k_to_q6_k(const uint8_t *block, uint8_t *out) {
    uint8_t copy[Q3_BYTES];
    float numbers[ELEMS_MAX];
    const uint16_t one = F16_ONE;
    memcpy(copy, block, sizeof copy);
    memset(copy + Q3_SCALES, 0x11, 8); /* sixteen times 33, which is a scale of 1: low nibbles, */
    memset(copy + Q3_SCALES + 8, 0xaa, 4); /* upper pairs */
    memcpy(copy + Q3_D, &one, sizeof one);
    dequant_row(DTYPE_Q3_K, copy, numbers, ELEMS_MAX);
    memset(out, 0, Q6_SCALES);
    for (uint32_t e = 0; e < ELEMS_MAX; e++) {
        const uint32_t code = (uint32_t)((int)numbers[e] + 32);
        const uint32_t half = e / 128, quarter = e % 128 / 32, k = e % 32;
        out[half * 64 + quarter % 2 * 32 + k] |= (uint8_t)((code & 15u) << (quarter / 2 * 4));
        out[Q6_PAIRS + half * 32 + k] |= (uint8_t)(code >> 4 << (quarter * 2));
    }
    for (uint32_t s = 0; s < 16; s++) out[Q6_SCALES + s] = (uint8_t)q3_scale(block + Q3_SCALES, s);
    memcpy(out + Q6_D, block + Q3_D, 2);
    return 1;
}

uint32_t cuda_convert_block(dtype from, const uint8_t *block, uint8_t out[CUDA_CONVERT_BYTES_MAX]) {
    if (from == DTYPE_Q3_K) return q3_k_to_q6_k(block, out);
    if (from == DTYPE_MXFP4) return mxfp4_to_q8_0(block, out);
    return to_q8_0(from, block, out);
}

/* --- does f16 do? -------------------- */

static const float f16_end = 65520.0f; /* rounds to infinity */

/* No element of a block is larger than |d| * d_most + |m| * m_most, d and m its f16 factors. */
typedef struct bound {
    dtype type;
    uint32_t d_at, d_most, m_at, m_most;
} bound;

static const bound bounds[] = {
    {DTYPE_Q4_1, 0, 15, 2, 1},     {DTYPE_Q5_1, 0, 31, 2, 1},     {DTYPE_Q2_K, 80, 45, 82, 15},
    {DTYPE_IQ1_S, 0, 17, 0, 0},    {DTYPE_IQ2_XXS, 0, 167, 0, 0}, {DTYPE_IQ2_XS, 0, 167, 0, 0},
    {DTYPE_IQ2_S, 0, 167, 0, 0},   {DTYPE_IQ3_XXS, 0, 481, 0, 0}, {DTYPE_IQ3_S, 0, 465, 0, 0},
    {DTYPE_IQ4_XS, 0, 4064, 0, 0},
};

static const bound *bound_of(dtype t) {
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++)
        if (bounds[i].type == t) return &bounds[i];
    return NULL;
}

/* Cheap, and seldom not enough. */
static bool block_surely_fits(const bound *b, const uint8_t *block) {
    if (b == NULL) return false;
    const float d = fabsf(convert_f16_to_f32(get_u16(block + b->d_at)));
    const float m = fabsf(convert_f16_to_f32(get_u16(block + b->m_at)));
    return d * (float)b->d_most + m * (float)b->m_most < f16_end;
}

static bool block_fits(dtype t, const uint8_t *block, uint32_t elems) {
    float values[ELEMS_MAX];
    dequant_row(t, block, values, elems);
    bool fits = true;
    for (uint32_t i = 0; i < elems; i++) fits &= fabsf(values[i]) < f16_end;
    return fits;
}

/* By the scales alone: 16 is the most that a number of four bits and a zero point are apart, 448
 * the largest e4m3. */
static bool packed_fits(const packed_matrix *m) {
    const float most = m->kind == PACKED_FP8 ? 448.0f : m->kind == PACKED_INT8 ? 128.0f : 16.0f;
    const dtype_info *info = dtype_get((uint32_t)m->scale_type);
    const uint64_t count = packed_sizes_of(m).scales / info->block_bytes;
    const uint8_t *scale = m->scales;
    for (uint64_t i = 0; i < count; i++, scale += info->block_bytes) {
        float v = 0.0f;
        dequant_row(m->scale_type, scale, &v, 1);
        if (!(fabsf(v) * most < f16_end)) return false;
    }
    return true;
}

bool cuda_convert_needs_f32(const weight *w) {
    if (w->packed != NULL) return !packed_fits(w->packed);
    if (w->type == DTYPE_MXFP4) return mxfp4_has_scale_outside(w, 0, E8M0_F16_MAX);
    const dtype_info *info = dtype_get((uint32_t)w->type);
    const bound *b = bound_of(w->type);
    const uint8_t *block = w->data;
    for (uint64_t i = blocks_of(w, info); i > 0; i--, block += info->block_bytes)
        if (!block_surely_fits(b, block) && !block_fits(w->type, block, info->block_elems))
            return true;
    return false;
}
