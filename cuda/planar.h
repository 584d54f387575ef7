/* planar.h - single elements and blocks of weights of any form, from their planes.
 *
 * For kernels that look weights up instead of multiplying whole rows with them.  The form is a
 * number in the matrix, the same for all threads; abi.h has the planes, cuda_planar.h the order of
 * the bits.  An element of a quantized form is scale * code - min of its 16 neighbours; products
 * are exact in f32, so values are those of tensor/dequant_*.c bit by bit. */
#ifndef CUDA_PLANAR_H
#define CUDA_PLANAR_H
#include "ck_fma.h"

/* Of 16 neighbouring elements. */
typedef struct planar_scale {
    float scale, min;
} planar_scale;

/* Of 32 neighbouring elements: value k = scale * code - min, of part k / 16. */
typedef struct planar_codes {
    uint32_t words[8]; /* code k is byte k % 4 of word k / 4, signed */
    planar_scale part[2];
} planar_codes;

CK_DEV const uint8_t *planar_at(const ck_matrix &w, uint32_t plane, uint64_t offset) {
    return (const uint8_t *)w.plane[plane] + offset;
}

/* --- F32, F16, BF16: rows padded to 16 bytes -------------------- */

CK_DEV bool planar_is_float(const ck_matrix &w) { return w.form <= CK_FORM_BF16; }

CK_DEV float planar_float(const ck_matrix &w, uint32_t row, uint32_t col) {
    const uint32_t size = w.form == CK_FORM_F32 ? 4 : 2;
    const uint64_t stride = ((uint64_t)w.cols * size + 15) & ~(uint64_t)15;
    const uint8_t *at = planar_at(w, 0, row * stride + (uint64_t)col * size);
    if (w.form == CK_FORM_F32) return ck_ld((const float *)at);
    const uint16_t half = ck_ldg2(at);
    return w.form == CK_FORM_F16 ? ck_h2f(half) : ck_bf2f(half);
}

/* --- scales -------------------- */

/* Q4_K, Q5_K: part p of 8 in the 16 bytes d, dmin, and six-bit scales and minima: 0..3 in the low
 * bits of bytes 0..3 and 4..7; of 4..7 low nibbles in bytes 8..11, upper pairs on top of 0..7. */
CK_DEV planar_scale planar_scale_k(ck_u4 header, uint32_t p) {
    const uint32_t shift = p % 4 * 8;
    const uint32_t a = header.y >> shift, b = header.z >> shift, c = header.w >> shift;
    const uint32_t scale = p < 4 ? a & 63u : (c & 15u) | (a >> 2 & 48u);
    const uint32_t min = p < 4 ? b & 63u : (c >> 4 & 15u) | (b >> 2 & 48u);
    const float d = ck_h2f((uint16_t)header.x), dmin = ck_h2f((uint16_t)(header.x >> 16));
    return {d * (float)scale, dmin * (float)min};
}

/* Q4_K, Q5_K: the six-bit scales, or minima, of the two parts of a quarter, the lowest two bits of
 * the number, in the lowest two bytes.  Parts 0..3 have all six in a byte of `whole`; 4..7 four in
 * a nibble of `nibbles` and two on top of a byte of `whole`. */
CK_DEV uint32_t planar_six_bits(uint32_t whole, uint32_t nibbles, uint32_t quarter) {
    const uint32_t shift = (quarter & 1u) * 16;
    const uint32_t early = whole >> shift & 0x3f3fu;
    const uint32_t late = (nibbles >> shift & 0x0f0fu) | (whole >> (shift + 2) & 0x3030u);
    return (quarter & 2u) != 0 ? late : early;
}

/* Of elements 16 part .. 16 part + 15 of a row of a quantized form. */
CK_DEV planar_scale planar_scale_of(const ck_matrix &w, uint32_t row, uint32_t part) {
    const uint64_t at32 = (uint64_t)row * (w.cols / 32) + part / 2;
    const uint64_t at256 = (uint64_t)row * (w.cols / 256) + part / 16;
    if (w.form == CK_FORM_Q8_0) return {ck_h2f(ck_ldg2(planar_at(w, 2, at32 * 2))), 0.0f};
    if (w.form == CK_FORM_Q4_0) {
        const float d = ck_h2f(ck_ldg2(planar_at(w, 1, at32 * 2)));
        return {d, d * 8.0f};
    }
    if (w.form == CK_FORM_Q6_K) {
        const float d = ck_h2f(ck_ldg2(planar_at(w, 4, at256 * 2)));
        const uint8_t *scales = planar_at(w, 3, (uint64_t)row * (w.cols / 16) + part);
        const float scale = d * (float)ck_ld((const int8_t *)scales);
        return {scale, scale * 32.0f};
    }
    return planar_scale_k(ck_ldg16(planar_at(w, 2, at256 * 16)), part % 16 / 2);
}

/* --- codes: unsigned but for Q8_0 -------------------- */

CK_DEV uint32_t planar_nibble(const ck_matrix &w, uint32_t plane, uint64_t at, bool high) {
    return (uint32_t)ck_ld(planar_at(w, plane, at)) >> (high ? 4 : 0) & 15u;
}

CK_DEV int planar_code(const ck_matrix &w, uint32_t row, uint32_t col) {
    const uint64_t at32 = ((uint64_t)row * (w.cols / 32) + col / 32) * 16 + col % 16;
    if (w.form == CK_FORM_Q8_0) return ck_ld((const int8_t *)planar_at(w, col / 16 % 2, at32));
    if (w.form == CK_FORM_Q4_0) return (int)planar_nibble(w, 0, at32, (col & 16u) != 0);
    const uint64_t group = (uint64_t)row * (w.cols / 64) + col / 64, at64 = group * 16 + col % 16;
    if (w.form == CK_FORM_Q6_K) {
        const uint32_t upper = ck_ld(planar_at(w, 2, at64)) >> (col % 64 / 16 * 2) & 3u;
        return (int)(planar_nibble(w, col / 32 % 2, at64, (col & 16u) != 0) | upper << 4);
    }
    const uint32_t low = planar_nibble(w, col / 16 % 2, at64, (col & 32u) != 0);
    if (w.form == CK_FORM_Q4_K) return (int)low;
    const uint32_t bit = col % 4 * 8 + col % 32 / 4;
    const uint32_t fifths = ck_ldg4(planar_at(w, 3, group * 8 + col / 32 % 2 * 4));
    return (int)(low | (fifths >> bit & 1u) << 4);
}

CK_DEV ck_u4 planar_low(ck_u4 g) {
    const uint32_t m = 0x0f0f0f0fu;
    return {g.x & m, g.y & m, g.z & m, g.w & m};
}
CK_DEV ck_u4 planar_high(ck_u4 g) { return planar_low({g.x >> 4, g.y >> 4, g.z >> 4, g.w >> 4}); }
CK_DEV void planar_put(uint32_t *words, ck_u4 g) {
    words[0] = g.x;
    words[1] = g.y;
    words[2] = g.z;
    words[3] = g.w;
}
CK_DEV ck_u4 planar_granule(const ck_matrix &w, uint32_t plane, uint64_t index) {
    return ck_ldg16(planar_at(w, plane, index * 16));
}

CK_DEV void planar_words_k(const ck_matrix &w, uint64_t group, bool second, uint32_t *words) {
    const ck_u4 a = planar_granule(w, 0, group), b = planar_granule(w, 1, group);
    planar_put(words, second ? planar_high(a) : planar_low(a));
    planar_put(words + 4, second ? planar_high(b) : planar_low(b));
    if (w.form == CK_FORM_Q4_K) return;
    const uint32_t fifths = ck_ldg4(planar_at(w, 3, group * 8 + (second ? 4 : 0)));
    for (uint32_t i = 0; i < 8; i++) words[i] |= (fifths >> i & 0x01010101u) << 4;
}

CK_DEV void planar_words_6k(const ck_matrix &w, uint64_t group, bool second, uint32_t *words) {
    const ck_u4 low = planar_granule(w, second ? 1 : 0, group);
    uint32_t pairs[4];
    planar_put(words, planar_low(low));
    planar_put(words + 4, planar_high(low));
    planar_put(pairs, planar_granule(w, 2, group));
    for (uint32_t i = 0; i < 4; i++) {
        const uint32_t p = second ? pairs[i] >> 4 : pairs[i];
        words[i] |= (p & 0x03030303u) << 4;
        words[4 + i] |= (p & 0x0c0c0c0cu) << 2;
    }
}

/* Elements 32 block .. 32 block + 31 of a row of a quantized form. */
CK_DEV planar_codes planar_codes_of(const ck_matrix &w, uint32_t row, uint32_t block) {
    planar_codes c;
    const uint64_t at32 = (uint64_t)row * (w.cols / 32) + block;
    const uint64_t group = (uint64_t)row * (w.cols / 64) + block / 2;
    if (w.form == CK_FORM_Q8_0) {
        planar_put(c.words, planar_granule(w, 0, at32));
        planar_put(c.words + 4, planar_granule(w, 1, at32));
    } else if (w.form == CK_FORM_Q4_0) {
        const ck_u4 g = planar_granule(w, 0, at32);
        planar_put(c.words, planar_low(g));
        planar_put(c.words + 4, planar_high(g));
    } else if (w.form == CK_FORM_Q6_K) {
        planar_words_6k(w, group, block % 2 != 0, c.words);
    } else {
        planar_words_k(w, group, block % 2 != 0, c.words);
    }
    c.part[0] = planar_scale_of(w, row, block * 2);
    c.part[1] = w.form == CK_FORM_Q6_K ? planar_scale_of(w, row, block * 2 + 1) : c.part[0];
    return c;
}

/* --- values -------------------- */

/* Element col of a row. */
CK_DEV float planar_element(const ck_matrix &w, uint32_t row, uint32_t col) {
    if (planar_is_float(w)) return planar_float(w, row, col);
    const planar_scale s = planar_scale_of(w, row, col / 16);
    return ck_fma(s.scale, (float)planar_code(w, row, col), -s.min);
}

/* Elements 32 block .. 32 block + 31 of a row by one thread; 0 beyond the row.  Unrolled, so that
 * an out with constant indices stays in registers. */
CK_DEV void planar_block(const ck_matrix &w, uint32_t row, uint32_t block, float out[32]) {
    if (planar_is_float(w)) {
#pragma unroll
        for (uint32_t k = 0; k < 32; k++) {
            const uint32_t col = block * 32 + k;
            out[k] = col < w.cols ? planar_float(w, row, col) : 0.0f;
        }
        return;
    }
    const planar_codes c = planar_codes_of(w, row, block);
#pragma unroll
    for (uint32_t k = 0; k < 32; k++) {
        const int code = (int)(int8_t)(uint8_t)(c.words[k / 4] >> (k % 4 * 8));
        out[k] = ck_fma(c.part[k / 16].scale, (float)code, -c.part[k / 16].min);
    }
}

#endif
