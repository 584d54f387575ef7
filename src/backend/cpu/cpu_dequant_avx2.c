/* cpu_dequant_avx2.c - stored rows to f32 with AVX2, for the types that fill model files.
 *
 * The same operations in the same order as tensor/dequant_*.c, where the layouts are explained,
 * so the same bits: quants become exact f32 integers, then one multiplication and at most one
 * addition, never fused.  Types that are not here go the portable way. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "backend/cpu/cpu_kernels.h"
#include "tensor/convert.h"
#include "tensor/iq_grids.h"

#define INLINE static inline __attribute__((always_inline))

enum { BLOCK = 32, PAIR = 2 * BLOCK, BLOCK_K = 256 };

/* --- parts ----------------------------------------------------------------- */
INLINE float half_at(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return _cvtsh_ss(v);
}
INLINE uint32_t u32_at(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE __m128i load16(const uint8_t *p) { return _mm_loadu_si128((const __m128i *)p); }
INLINE __m256i load32(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)p); }

/* Eight int8 in the low half of q. */
INLINE __m256 floats_of(__m128i q) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)); }

/* out [16] = q * scale */
INLINE void put16(float *out, __m128i q, __m256 scale) {
    _mm256_storeu_ps(out, _mm256_mul_ps(floats_of(q), scale));
    _mm256_storeu_ps(out + 8, _mm256_mul_ps(floats_of(_mm_srli_si128(q, 8)), scale));
}
/* out [16] = q * scale + offset; a - b and a + (-b) are the same bits */
INLINE void put16_offset(float *out, __m128i q, __m256 scale, __m256 offset) {
    __m256 low = _mm256_mul_ps(floats_of(q), scale);
    __m256 high = _mm256_mul_ps(floats_of(_mm_srli_si128(q, 8)), scale);
    _mm256_storeu_ps(out, _mm256_add_ps(low, offset));
    _mm256_storeu_ps(out + 8, _mm256_add_ps(high, offset));
}
INLINE void put32(float *out, __m256i q, float scale) {
    put16(out, _mm256_castsi256_si128(q), _mm256_set1_ps(scale));
    put16(out + 16, _mm256_extracti128_si256(q, 1), _mm256_set1_ps(scale));
}
INLINE void put32_offset(float *out, __m256i q, float scale, float offset) {
    __m256 s = _mm256_set1_ps(scale), o = _mm256_set1_ps(offset);
    put16_offset(out, _mm256_castsi256_si128(q), s, o);
    put16_offset(out + 16, _mm256_extracti128_si256(q, 1), s, o);
}

/* Bits `shift` and up of every byte, under the mask. */
INLINE __m256i bits32(__m256i q, int shift, int mask) {
    return _mm256_and_si256(_mm256_srl_epi16(q, _mm_cvtsi32_si128(shift)),
                            _mm256_set1_epi8((char)mask));
}
INLINE __m128i bits16(__m128i q, int shift, int mask) {
    return _mm_and_si128(_mm_srl_epi16(q, _mm_cvtsi32_si128(shift)), _mm_set1_epi8((char)mask));
}

/* 16 bytes of nibbles as 32 bytes: low halves, then high ones. */
INLINE __m256i nibbles(const uint8_t *p) {
    __m128i q = load16(p), mask = _mm_set1_epi8(15);
    return _mm256_set_m128i(_mm_and_si128(_mm_srli_epi16(q, 4), mask), _mm_and_si128(q, mask));
}

/* Bit k of the number as 16 in byte k. */
INLINE __m256i fifth_bits(const uint8_t *p) {
    const __m256i spread = _mm256_setr_epi64x(0x0000000000000000, 0x0101010101010101,
                                              0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
    __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32((int)u32_at(p)), spread);
    __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
    return _mm256_and_si256(set, _mm256_set1_epi8(16));
}

/* --- halves ---------------------------------------------------------------- */
static void row_f16(const uint8_t *row, float *out, uint32_t elems) {
    uint32_t i = 0;
    for (; i + 8 <= elems; i += 8)
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(load16(row + i * sizeof(uint16_t))));
    for (; i < elems; i++) out[i] = half_at(row + i * sizeof(uint16_t));
}

/* --- blocks of 32 ---------------------------------------------------------- */
static void row_q4_1(const uint8_t *b, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += BLOCK, b += 20)
        put32_offset(out + i, nibbles(b + 4), half_at(b), half_at(b + 2));
}

static void row_q5_0(const uint8_t *b, float *out, uint32_t elems) {
    const __m256i sixteen = _mm256_set1_epi8(16);
    for (uint32_t i = 0; i < elems; i += BLOCK, b += 22) {
        __m256i q = _mm256_or_si256(nibbles(b + 6), fifth_bits(b + 2));
        put32(out + i, _mm256_sub_epi8(q, sixteen), half_at(b));
    }
}

static void row_q5_1(const uint8_t *b, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += BLOCK, b += 24) {
        __m256i q = _mm256_or_si256(nibbles(b + 8), fifth_bits(b + 4));
        put32_offset(out + i, q, half_at(b), half_at(b + 2));
    }
}

static void row_q4_0(const uint8_t *b, float *out, uint32_t elems) {
    const __m256i eight = _mm256_set1_epi8(8);
    for (uint32_t i = 0; i < elems; i += BLOCK, b += 18)
        put32(out + i, _mm256_sub_epi8(nibbles(b + 2), eight), half_at(b));
}

static void row_q8_0(const uint8_t *b, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += BLOCK, b += 34) put32(out + i, load32(b + 2), half_at(b));
}

static void row_q8_1(const uint8_t *b, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += BLOCK, b += 36) put32(out + i, load32(b + 4), half_at(b));
}

/* Nibbles as indices of 16 levels. */
INLINE __m256i levels(const int8_t *sixteen, const uint8_t *p) {
    __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)sixteen));
    return _mm256_shuffle_epi8(table, nibbles(p));
}

static void row_iq4_nl(const uint8_t *b, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += BLOCK, b += 18)
        put32(out + i, levels(iq4_levels, b + 2), half_at(b));
}

static void row_mxfp4(const uint8_t *b, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += BLOCK, b += 17)
        put32(out + i, levels(e2m1_levels, b + 1), convert_e8m0_half(b[0]));
}

/* --- blocks of 256 --------------------------------------------------------- */
static void row_iq4_xs(const uint8_t *b, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += BLOCK_K, b += 136) {
        const float d = half_at(b);
        const uint32_t high = (uint32_t)b[2] | (uint32_t)b[3] << 8, low = u32_at(b + 4);
        for (size_t part = 0; part < 8; part++, out += BLOCK) {
            uint32_t scale = (low >> part * 4 & 15u) | (high >> part * 2 & 3u) << 4;
            put32(out, levels(iq4_levels, b + 8 + part * 16), d * (float)((int32_t)scale - 32));
        }
    }
}

static void row_q2_k(const uint8_t *b, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += BLOCK_K, b += 84) {
        const float d = half_at(b + 80), dmin = half_at(b + 82);
        for (size_t part = 0; part < 16; part++, out += 16) {
            __m128i q = load16(b + 16 + part / 8 * 32 + part % 2 * 16);
            put16_offset(out, bits16(q, (int)(part % 8 / 2 * 2), 3),
                         _mm256_set1_ps(d * (float)(b[part] & 15)),
                         _mm256_set1_ps(-(dmin * (float)(b[part] >> 4))));
        }
    }
}

/* The 16 scales of a Q3_K block, int8. */
INLINE void q3_k_scales(const uint8_t *packed, int8_t *scales) {
    const uint32_t a = u32_at(packed), b = u32_at(packed + 4), top = u32_at(packed + 8);
    const uint32_t four = 0x0f0f0f0f, two = 0x03030303;
    const uint32_t words[4] = {
        (a & four) | (top & two) << 4,
        (b & four) | (top >> 2 & two) << 4,
        (a >> 4 & four) | (top >> 4 & two) << 4,
        (b >> 4 & four) | (top >> 6 & two) << 4,
    };
    __m128i all = _mm_loadu_si128((const __m128i *)words);
    _mm_storeu_si128((__m128i *)scales, _mm_sub_epi8(all, _mm_set1_epi8(32)));
}

static void row_q3_k(const uint8_t *b, float *out, uint32_t elems) {
    int8_t scales[16];
    for (uint32_t i = 0; i < elems; i += BLOCK_K, b += 110) {
        const float d = half_at(b + 108);
        q3_k_scales(b + 96, scales);
        for (size_t part = 0; part < 16; part++, out += 16) {
            __m128i low = load16(b + 32 + part / 8 * 32 + part % 2 * 16);
            __m128i high = bits16(load16(b + part % 2 * 16), (int)(part / 2), 1);
            __m128i q =
                _mm_or_si128(bits16(low, (int)(part % 8 / 2 * 2), 3), _mm_slli_epi16(high, 2));
            put16(out, _mm_sub_epi8(q, _mm_set1_epi8(4)), _mm256_set1_ps(d * (float)scales[part]));
        }
    }
}

/* The factors of the eight parts of a Q4_K or Q5_K block. */
typedef struct parts_k {
    float scale[8];
    float offset[8]; /* minus the minimum */
} parts_k;

INLINE parts_k parts_of(const uint8_t *b) {
    const uint32_t six = 0x3f3f3f3f, four = 0x0f0f0f0f, two = 0x03030303;
    const uint32_t s = u32_at(b + 4), m = u32_at(b + 8), rest = u32_at(b + 12);
    __m128i scales =
        _mm_set_epi32(0, 0, (int)((rest & four) | (s >> 6 & two) << 4), (int)(s & six));
    __m128i mins =
        _mm_set_epi32(0, 0, (int)((rest >> 4 & four) | (m >> 6 & two) << 4), (int)(m & six));
    __m256 dmin = _mm256_set1_ps(half_at(b + 2)), sign = _mm256_set1_ps(-0.0f);
    parts_k p;
    _mm256_storeu_ps(p.scale, _mm256_mul_ps(_mm256_set1_ps(half_at(b)), floats_of(scales)));
    _mm256_storeu_ps(p.offset, _mm256_xor_ps(sign, _mm256_mul_ps(dmin, floats_of(mins))));
    return p;
}

static void row_q4_k(const uint8_t *b, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += BLOCK_K, b += 144) {
        const parts_k p = parts_of(b);
        for (size_t part = 0; part < 8; part += 2, out += PAIR) {
            __m256i q = load32(b + 16 + part * 16);
            put32_offset(out, bits32(q, 0, 15), p.scale[part], p.offset[part]);
            put32_offset(out + BLOCK, bits32(q, 4, 15), p.scale[part + 1], p.offset[part + 1]);
        }
    }
}

static void row_q5_k(const uint8_t *b, float *out, uint32_t elems) {
    for (uint32_t i = 0; i < elems; i += BLOCK_K, b += 176) {
        const parts_k p = parts_of(b);
        const __m256i high = load32(b + 16);
        for (size_t part = 0; part < 8; part++, out += BLOCK) {
            __m256i q = bits32(load32(b + 48 + part / 2 * 32), (int)(part % 2 * 4), 15);
            __m256i fifth = _mm256_slli_epi16(bits32(high, (int)part, 1), 4);
            put32_offset(out, _mm256_or_si256(q, fifth), p.scale[part], p.offset[part]);
        }
    }
}

static void row_q6_k(const uint8_t *b, float *out, uint32_t elems) {
    const __m256i offset = _mm256_set1_epi8(32);
    for (uint32_t i = 0; i < elems; i += BLOCK_K, b += 210) {
        const float d = half_at(b + 208);
        const int8_t *scales = (const int8_t *)(b + 192);
        for (size_t quarter = 0; quarter < 8; quarter++, out += BLOCK, scales += 2) {
            const size_t plane = quarter / 4, j = quarter % 4;
            __m256i low = bits32(load32(b + plane * 64 + j % 2 * 32), (int)(j / 2 * 4), 15);
            __m256i high = bits32(load32(b + 128 + plane * 32), (int)(j * 2), 3);
            __m256i q = _mm256_or_si256(low, _mm256_slli_epi16(high, 4));
            q = _mm256_sub_epi8(q, offset);
            put16(out, _mm256_castsi256_si128(q), _mm256_set1_ps(d * (float)scales[0]));
            put16(out + 16, _mm256_extracti128_si256(q, 1), _mm256_set1_ps(d * (float)scales[1]));
        }
    }
}

void cpu_dequant_avx2(dtype t, const void *row, float *out, uint32_t elems) {
    typedef void row_fn(const uint8_t *b, float *out, uint32_t elems);
    static row_fn *const rows[DTYPE_ID_END] = {
        [DTYPE_F16] = row_f16,       [DTYPE_Q4_0] = row_q4_0,     [DTYPE_Q4_1] = row_q4_1,
        [DTYPE_Q5_0] = row_q5_0,     [DTYPE_Q5_1] = row_q5_1,     [DTYPE_Q8_0] = row_q8_0,
        [DTYPE_Q8_1] = row_q8_1,     [DTYPE_Q2_K] = row_q2_k,     [DTYPE_Q3_K] = row_q3_k,
        [DTYPE_Q4_K] = row_q4_k,     [DTYPE_Q5_K] = row_q5_k,     [DTYPE_Q6_K] = row_q6_k,
        [DTYPE_IQ4_NL] = row_iq4_nl, [DTYPE_IQ4_XS] = row_iq4_xs, [DTYPE_MXFP4] = row_mxfp4,
    };
    if (rows[t] != NULL)
        rows[t](row, out, elems);
    else
        dequant_row(t, row, out, elems);
}
#else
typedef int cpu_dequant_avx2_is_for_x86_only; /* a translation unit holds a declaration */
#endif
