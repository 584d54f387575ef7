/* cpu_packs_scalar.c - expand, dots and digits in plain C, the reference of all others.
 *
 * What cpu_pack.h and cpu_kernels.h say, in the same order and as directly as compilers can
 * still vectorize. */
#include <math.h>

#include "backend/cpu/cpu_kernels.h"
#include "tensor/convert.h"

enum { VECTOR = PACK_ROWS * 4, HALF_COLS = PACK_BLOCK / 2 };

/* --- expand: codes -------------------- */

/* Each adds the bits of one plane to the u-vectors of a block. */
static void add_nibbles(const uint8_t *restrict plane, uint8_t *restrict codes) {
    for (uint32_t k = 0; k < 4 * VECTOR; k++) {
        codes[k] = plane[k] & 15;
        codes[k + 4 * VECTOR] = plane[k] >> 4;
    }
}

static void add_twos(const uint8_t *restrict plane, uint32_t shift, uint8_t *restrict codes) {
    for (uint32_t part = 0; part < 4; part++, codes += (size_t)2 * VECTOR)
        for (uint32_t k = 0; k < 2 * VECTOR; k++)
            codes[k] |= (uint8_t)((plane[k] >> part * 2 & 3) << shift);
}

static void add_ones(const uint8_t *restrict plane, uint32_t shift, uint8_t *restrict codes) {
    for (uint32_t v = 0; v < PACK_VECTORS; v++, codes += VECTOR)
        for (uint32_t k = 0; k < VECTOR; k++) codes[k] |= (uint8_t)((plane[k] >> v & 1) << shift);
}

static void expand_codes(const pack_format *f, const uint8_t *planes, uint8_t *codes) {
    if (f->bytes) {
        memcpy(codes, planes, PACK_BLOCK_CODES);
        return;
    }
    uint32_t shift = 0; /* of the bits of the next plane */
    memset(codes, 0, PACK_BLOCK_CODES);
    if (f->nibbles) {
        add_nibbles(planes, codes);
        planes += (size_t)4 * VECTOR, shift += 4;
    }
    if (f->twos) {
        add_twos(planes, shift, codes);
        planes += (size_t)2 * VECTOR, shift += 2;
    }
    if (f->ones) add_ones(planes, shift, codes);
    if (f->table == NULL) return;
    for (uint32_t k = 0; k < PACK_BLOCK_CODES; k++) codes[k] = f->table[codes[k]];
}

/* --- expand: scales -------------------- */

static void get_halves(const uint8_t *p, float *out) {
    for (uint32_t j = 0; j < PACK_ROWS; j++) {
        uint16_t h;
        memcpy(&h, p + (size_t)j * 2, sizeof h);
        out[j] = convert_f16_to_f32(h);
    }
}

/* Scales of one number each, of a superblock of one block. */
static void expand_single(const pack_format *f, const uint8_t *p, float *scales, float *offsets) {
    if (f->form == SCALE_POWER)
        for (uint32_t j = 0; j < PACK_ROWS; j++) scales[j] = convert_e8m0_half(p[j]);
    else
        get_halves(p, scales);
    if (f->form == SCALE_HALF_MIN) {
        get_halves(p + (size_t)PACK_ROWS * 2, offsets);
        for (uint32_t j = 0; j < PACK_ROWS; j++) offsets[j] = -offsets[j];
        return;
    }
    for (uint32_t j = 0; j < PACK_ROWS; j++) offsets[j] = (float)f->zero * scales[j];
}

/* Scales and minima that share factors: K32 and K16. */
static void expand_affine(const uint8_t *p, uint32_t parts, float *scales, float *offsets) {
    float d[PACK_ROWS], dmin[PACK_ROWS];
    get_halves(p, d);
    get_halves(p + (size_t)PACK_ROWS * 2, dmin);
    p += (size_t)PACK_ROWS * 4;
    for (uint32_t i = 0; i < parts; i++, p += (size_t)PACK_ROWS * 2) {
        for (uint32_t j = 0; j < PACK_ROWS; j++) {
            *scales++ = d[j] * (float)p[j];
            *offsets++ = dmin[j] * (float)p[PACK_ROWS + j];
        }
    }
}

/* Signed scales that share a factor: SIGNED32 and SIGNED16. */
static void expand_signed(const pack_format *f, const uint8_t *p, uint32_t parts, float *scales,
                          float *offsets) {
    float d[PACK_ROWS];
    get_halves(p, d);
    p += (size_t)PACK_ROWS * 2;
    for (uint32_t i = 0; i < parts; i++, p += PACK_ROWS) {
        for (uint32_t j = 0; j < PACK_ROWS; j++) {
            *scales = d[j] * (float)(int8_t)p[j];
            *offsets++ = (float)f->zero * *scales++;
        }
    }
}

static void expand(const pack_format *f, const uint8_t *group, uint32_t first, uint32_t count,
                   const pack_panel *out) {
    const uint32_t parts = f->super_blocks * f->subs;
    const uint8_t *super = group + (size_t)(first / f->super_blocks) * f->super_bytes;
    uint8_t *codes = out->codes;
    float *scales = out->scales, *offsets = out->offsets;
    for (uint32_t i = 0; i < count; i += f->super_blocks, super += f->super_bytes) {
        const uint8_t *p = super;
        for (uint32_t b = 0; b < f->super_blocks; b++) {
            expand_codes(f, p, codes);
            codes += PACK_BLOCK_CODES, p += f->codes_bytes;
        }
        if (f->form == SCALE_K32 || f->form == SCALE_K16)
            expand_affine(p, parts, scales, offsets);
        else if (f->form == SCALE_SIGNED32 || f->form == SCALE_SIGNED16)
            expand_signed(f, p, parts, scales, offsets);
        else
            expand_single(f, p, scales, offsets);
        scales += (size_t)parts * PACK_ROWS, offsets += (size_t)parts * PACK_ROWS;
    }
}

/* --- dots -------------------- */

/* n[j] = codes of row j times q, over `vectors` u-vectors. */
static void multiply(const uint8_t *codes, const int32_t *q, uint32_t vectors,
                     int32_t n[PACK_ROWS]) {
    memset(n, 0, PACK_ROWS * sizeof *n);
    for (uint32_t v = 0; v < vectors; v++, codes += VECTOR, q += 4)
        for (uint32_t j = 0; j < PACK_ROWS; j++) {
            const uint8_t *c = codes + (size_t)j * 4;
            n[j] += c[0] * q[0] + c[1] * q[1] + c[2] * q[2] + c[3] * q[3];
        }
}

/* One block of one row. */
static void dot_block(const dots_args *a, uint32_t b, const act_block *x, float *acc) {
    const uint32_t subs = a->panel->subs;
    const uint8_t *codes = a->panel->codes + (size_t)b * PACK_BLOCK_CODES;
    const float *scales = a->panel->scales + (size_t)b * subs * PACK_ROWS;
    const float *offsets = a->panel->offsets + (size_t)b * subs * PACK_ROWS;
    const float x_scale = a->fast ? x->scale_hi : x->scale;
    const float *sums = (a->fast ? x->sum_hi : x->sum) + (subs == 1 ? 2 : 0);
    int32_t q[PACK_BLOCK];
    for (uint32_t c = 0; c < PACK_BLOCK; c++) q[c] = a->fast ? x->hi[c] : 255 * x->hi[c] + x->lo[c];
    for (uint32_t s = 0; s < subs; s++) {
        int32_t n[PACK_ROWS];
        multiply(codes + (size_t)s * (PACK_BLOCK_CODES / 2), q + (size_t)s * HALF_COLS,
                 PACK_VECTORS / subs, n);
        for (uint32_t j = 0; j < PACK_ROWS; j++) {
            const size_t at = (size_t)s * PACK_ROWS + j;
            acc[j] = fmaf((float)n[j], scales[at] * x_scale, acc[j]);
            acc[j] = fmaf(-offsets[at], sums[s], acc[j]);
        }
    }
}

static void dots(const dots_args *a) {
    for (uint32_t r = 0; r < a->rows; r++)
        for (uint32_t b = 0; b < a->blocks; b++)
            dot_block(a, b, a->x + r * a->row_blocks + b, a->acc + (size_t)r * PACK_ROWS);
}

/* --- digits -------------------- */

enum { LARGEST = 32512 }; /* 255 * 127 + 127 */

/* A NaN becomes the lowest. */
static int32_t to_integer(float v) {
    v = v > -(float)LARGEST ? v : -(float)LARGEST;
    v = v < (float)LARGEST ? v : (float)LARGEST;
    /* beyond 2^23 floats have no fraction: the addition rounds, ties to even */
    return (int32_t)((v + 0x1.8p23f) - 0x1.8p23f);
}

static void digits_of_block(const float *x, act_block *out) {
    float max = 0;
    for (uint32_t c = 0; c < PACK_BLOCK; c++) max = fabsf(x[c]) > max ? fabsf(x[c]) : max;
    if (max < 0x1p-100f) max = 0; /* 32512 / max must not overflow */
    const float inverse = max > 0 ? (float)LARGEST / max : 0;
    *out = (act_block){.scale = max / (float)LARGEST};
    for (uint32_t c = 0; c < PACK_BLOCK; c++) {
        const int32_t q = to_integer(x[c] * inverse);
        /* 127 and 255 * 128 make the division one of positive numbers that rounds to nearest */
        const int32_t hi = (q + 127 + 255 * 128) / 255 - 128;
        out->hi[c] = (int8_t)hi;
        out->lo[c] = (int8_t)(q - 255 * hi);
        out->count_hi[c / HALF_COLS] += hi;
        out->count_lo[c / HALF_COLS] += q - 255 * hi;
    }
    out->scale_hi = 255.0f * out->scale;
    const int32_t *hi = out->count_hi, *lo = out->count_lo;
    const int32_t count_hi[3] = {hi[0], hi[1], hi[0] + hi[1]};
    const int32_t count_lo[3] = {lo[0], lo[1], lo[0] + lo[1]};
    for (uint32_t i = 0; i < 3; i++) {
        out->sum[i] = (float)(255 * count_hi[i] + count_lo[i]) * out->scale;
        out->sum_hi[i] = (float)count_hi[i] * out->scale_hi;
    }
}

static void digits(const float *x, act_block *out, uint32_t cols) {
    for (uint32_t b = 0; b < cols / PACK_BLOCK; b++)
        digits_of_block(x + (size_t)b * PACK_BLOCK, out + b);
}

void cpu_packs_scalar(cpu_kernels *k) {
    k->expand = expand;
    k->dots = dots;
    k->digits = digits;
}
