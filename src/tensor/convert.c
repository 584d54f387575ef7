/* convert.c - see convert.h. */
#include "tensor/convert.h"

#include <math.h>

#include "base/assert.h"

/* A block of 32 elements: an f16 scale, then the quants.  Q8_0: 32 int8.  Q4_0: 16
 * bytes, elements 0..15 in the low nibbles, 16..31 in the high ones, both minus 8. */
enum {
    BLOCK = 32,
    SCALE_BYTES = 2,
    Q8_0_BYTES = SCALE_BYTES + BLOCK,
    Q4_0_BYTES = SCALE_BYTES + BLOCK / 2,
};

static uint16_t load_u16(const void *p) {
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static void store_u16(void *p, uint16_t v) { memcpy(p, &v, sizeof v); }

/* --- reading --------------------------------------------------------------- */
static void dequant_f16(const uint8_t *row, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i++) out[i] = convert_f16_to_f32(load_u16(row + (size_t)i * 2));
}

static void dequant_bf16(const uint8_t *row, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i++)
        out[i] = convert_bf16_to_f32(load_u16(row + (size_t)i * 2));
}

static void dequant_q8_0(const uint8_t *row, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += BLOCK, row += Q8_0_BYTES) {
        float scale = convert_f16_to_f32(load_u16(row));
        const int8_t *q = (const int8_t *)(row + SCALE_BYTES);
        for (uint32_t k = 0; k < BLOCK; k++) out[i + k] = (float)q[k] * scale;
    }
}

static void dequant_q4_0(const uint8_t *row, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += BLOCK, row += Q4_0_BYTES) {
        float scale = convert_f16_to_f32(load_u16(row));
        const uint8_t *q = row + SCALE_BYTES;
        for (uint32_t k = 0; k < BLOCK / 2; k++) {
            out[i + k] = (float)((q[k] & 15) - 8) * scale;
            out[i + k + BLOCK / 2] = (float)((q[k] >> 4) - 8) * scale;
        }
    }
}

static void check_row(dtype t, uint32_t elems) {
    const dtype_info *info = dtype_get((uint32_t)t);
    ASSERT(info != NULL && info->can_compute && elems % info->block_elems == 0);
}

void dequant_row(dtype t, const void *row, float *out, uint32_t elems) {
    check_row(t, elems);
    if (t == DTYPE_F32) memcpy(out, row, (size_t)elems * sizeof *out);
    if (t == DTYPE_F16) dequant_f16(row, out, elems);
    if (t == DTYPE_BF16) dequant_bf16(row, out, elems);
    if (t == DTYPE_Q8_0) dequant_q8_0(row, out, elems);
    if (t == DTYPE_Q4_0) dequant_q4_0(row, out, elems);
}

/* --- writing --------------------------------------------------------------- */
static void quant_f16(const float *in, uint8_t *row, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i++) store_u16(row + (size_t)i * 2, convert_f32_to_f16(in[i]));
}

static void quant_bf16(const float *in, uint8_t *row, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i++) store_u16(row + (size_t)i * 2, convert_f32_to_bf16(in[i]));
}

/* The element of largest magnitude, with its sign; the first one of equals. */
static float extreme(const float *in) {
    float best = 0.0f;
    for (uint32_t k = 0; k < BLOCK; k++)
        if (fabsf(in[k]) > fabsf(best)) best = in[k];
    return best;
}

/* 1 / scale; 0 for a subnormal scale, whose inverse may overflow and whose f16 form is 0. */
static float invert(float scale) { return fabsf(scale) < 0x1p-126f ? 0.0f : 1.0f / scale; }

static void quant_q8_0(const float *in, uint8_t *row, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += BLOCK, row += Q8_0_BYTES) {
        float scale = fabsf(extreme(in + i)) / 127.0f;
        float inverse = invert(scale);
        store_u16(row, convert_f32_to_f16(scale));
        int8_t *q = (int8_t *)(row + SCALE_BYTES);
        for (uint32_t k = 0; k < BLOCK; k++) q[k] = (int8_t)roundf(in[i + k] * inverse);
    }
}

static uint8_t to_nibble(float scaled) {
    int q = (int)(scaled + 8.5f);
    return (uint8_t)(q > 15 ? 15 : q);
}

static void quant_q4_0(const float *in, uint8_t *row, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += BLOCK, row += Q4_0_BYTES) {
        /* -8 is the widest of -8..7: the extreme element gets it, whatever its sign */
        float scale = extreme(in + i) / -8.0f;
        float inverse = invert(scale);
        store_u16(row, convert_f32_to_f16(scale));
        for (uint32_t k = 0; k < BLOCK / 2; k++) {
            uint8_t low = to_nibble(in[i + k] * inverse);
            uint8_t high = to_nibble(in[i + k + BLOCK / 2] * inverse);
            row[SCALE_BYTES + k] = (uint8_t)(low | high << 4);
        }
    }
}

void quant_row(dtype t, const float *in, void *row, uint32_t elems) {
    check_row(t, elems);
    if (t == DTYPE_F32) memcpy(row, in, (size_t)elems * sizeof *in);
    if (t == DTYPE_F16) quant_f16(in, row, elems);
    if (t == DTYPE_BF16) quant_bf16(in, row, elems);
    if (t == DTYPE_Q8_0) quant_q8_0(in, row, elems);
    if (t == DTYPE_Q4_0) quant_q4_0(in, row, elems);
}
