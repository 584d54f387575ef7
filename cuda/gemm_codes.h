/* gemm_codes.h - products with quantized weights on tensor cores: codes by codes, 32 to a step.
 *
 *     sum over steps in ascending order of  dx * (scale * (codes . x codes) + other)
 *
 * The int sum of a step is exact, in an int as in a float: below 2^20.  What `other` is:
 *   GEMM_ONE   nothing: all 32 have one scale
 *   GEMM_MIN   - minimum * sum of the x codes
 *   GEMM_TWO   the second 16 have a scale, and an int sum, of their own
 * Codes are signed: those with an offset lose it when they are unpacked.
 *
 * A form of weights is a struct (gemm_q8_0.cu is the shortest):
 *   KIND      of these
 *   ACROSS    0: a thread's two granules of codes are next to each other, step ck_tid % 2 of the
 *             chunk; 1: they are granule ck_tid % 2 of either step
 *   tile      half of a row's chunk as loaded
 *   load(tile, w, row, chunk)
 *   unpack(tile, chunk)      two granules of codes, and the numbers of step ck_tid % 2 */
#ifndef CUDA_GEMM_CODES_H
#define CUDA_GEMM_CODES_H
#include "gemm.h"
#include "planar.h"

enum gemm_kind { GEMM_ONE, GEMM_MIN, GEMM_TWO };

typedef struct gemm_unpacked {
    ck_u4 codes[2];
    float scale, other; /* other: minus the minimum, or the scale of the second 16 */
} gemm_unpacked;

/* Bytes of 0..2 * offset - 1 less an offset of a power of two: one sum of a word has no carries. */
CK_DEV uint32_t gemm_less_word(uint32_t codes, uint32_t offset) {
    return (codes + 0x01010101u * (0x80u - offset)) ^ 0x80808080u;
}
CK_DEV ck_u4 gemm_less(ck_u4 codes, uint32_t offset) {
    return {gemm_less_word(codes.x, offset), gemm_less_word(codes.y, offset),
            gemm_less_word(codes.z, offset), gemm_less_word(codes.w, offset)};
}

/* One step of 16 rows of w by 8 of x, and of its halves; the same ints on all cards. */
CK_DEV void gemm_mma(int c[4], const uint32_t a[4], const uint32_t b[2]) {
#if CK_ARCH >= 800
    ck_mma_m16n8k32_s8(c, a, b);
#else
    ck_mma_m8n8k16_s8(c, a, b);
    ck_mma_m8n8k16_s8(c, a + 2, b + 1);
    ck_mma_m8n8k16_s8(c + 2, a + 1, b);
    ck_mma_m8n8k16_s8(c + 2, a + 3, b + 1);
#endif
}
CK_DEV void gemm_mma_half(int c[4], const uint32_t a[2], const uint32_t b[1]) {
#if CK_ARCH >= 800
    ck_mma_m16n8k16_s8(c, a, b);
#else
    ck_mma_m8n8k16_s8(c, a, b);
    ck_mma_m8n8k16_s8(c + 2, a + 1, b);
#endif
}

typedef struct gemm_pair {
    float x, y;
} gemm_pair;

template <typename weights> struct gemm_codes {
    enum { COLS = 32 }; /* of a step */

    typedef struct shared {
        float scale[GEMM_STEPS][CK_GEMM_TILE], other[GEMM_STEPS][CK_GEMM_TILE];
        alignas(8) float d[GEMM_STEPS][CK_GEMM_TILE]; /* of x, as are the sums of its codes */
        alignas(8) float sum[GEMM_STEPS][CK_GEMM_TILE];
    } shared;

    typedef struct job {
        const ck_matrix *w;
        uint32_t row;
        uint64_t x, sums;
        typename weights::tile tile;
        ck_u4 codes[2];
        uint64_t of_codes; /* ck_sums */
    } job;

    CK_DEV uint32_t steps(uint32_t cols) { return cols / COLS; }

    CK_DEV void begin(job &j, const gemm_input &in, uint32_t w_row, uint32_t x_row) {
        j.w = &in.w;
        j.row = w_row;
        j.x = in.x + (uint64_t)x_row * in.w.cols;
        j.sums = in.sums + (uint64_t)x_row * (in.w.cols / COLS) * sizeof(ck_sums);
    }

    CK_DEV void load(job &j, uint32_t chunk) {
        const uint32_t step = chunk * GEMM_STEPS + gemm_half();
        weights::load(j.tile, *j.w, j.row, chunk);
        if (step >= steps(j.w->cols)) return;
        const uint8_t *codes = (const uint8_t *)j.x + step * COLS;
        j.codes[0] = ck_ld16(codes);
        j.codes[1] = ck_ld16(codes + 16);
        j.of_codes = ck_ld((const uint64_t *)j.sums + step);
    }

    CK_DEV void put(job &j, uint32_t chunk, gemm_rows &rows, shared &s) {
        const uint32_t half = gemm_half(), row = gemm_thread_row();
        if (chunk * GEMM_STEPS + half >= steps(j.w->cols)) return;
        const gemm_unpacked u = weights::unpack(j.tile, chunk);
        const uint32_t halves = (uint32_t)(j.of_codes >> 32);
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) {
            gemm_put(rows.w, weights::ACROSS ? half + 2 * i : half * 2 + i, u.codes[i]);
            gemm_put(rows.x, half * 2 + i, j.codes[i]);
        }
        s.scale[half][row] = u.scale;
        s.d[half][row] = ck_u2f((uint32_t)j.of_codes);
        if constexpr (weights::KIND != GEMM_ONE) s.other[half][row] = u.other;
        if constexpr (weights::KIND == GEMM_MIN)
            s.sum[half][row] = (float)((int)(int16_t)(uint16_t)halves + ((int)halves >> 16));
    }

    /* Of rows x and x + 1 of x. */
    CK_DEV gemm_pair pair_of(const float *of_x, uint32_t x) {
        return *(const gemm_pair *)(of_x + x);
    }

    typedef struct scales {
        float scale[2], other[2];
    } scales;
    CK_DEV scales scales_of(const shared &s, uint32_t step, uint32_t w) {
        scales of = {{s.scale[step][w], s.scale[step][w + 8]}, {0.0f, 0.0f}};
        if constexpr (weights::KIND != GEMM_ONE) {
            of.other[0] = s.other[step][w];
            of.other[1] = s.other[step][w + 8];
        }
        return of;
    }

    /* scale * sum + other, of one element. */
    CK_DEV float scaled(float scale, float other, int c, int second, float x_sum) {
        if constexpr (weights::KIND == GEMM_MIN) return ck_fma(scale, (float)c, other * x_sum);
        if constexpr (weights::KIND == GEMM_TWO)
            return ck_fma(other, (float)second, scale * (float)c);
        return scale * (float)c;
    }

    CK_DEV void multiply(float acc[4], const uint32_t a[4], const uint32_t b[2], const scales &of,
                         const shared &s, uint32_t step, uint32_t x) {
        int c[4] = {0, 0, 0, 0}, second[4] = {0, 0, 0, 0};
        if constexpr (weights::KIND == GEMM_TWO) {
            gemm_mma_half(c, a, b);
            gemm_mma_half(second, a + 2, b + 1);
        } else {
            gemm_mma(c, a, b);
        }
        const gemm_pair d = pair_of(s.d[step], x);
        gemm_pair sum = {0.0f, 0.0f};
        if constexpr (weights::KIND == GEMM_MIN) sum = pair_of(s.sum[step], x);
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            const float v = scaled(of.scale[i / 2], of.other[i / 2], c[i], second[i],
                                   i % 2 == 0 ? sum.x : sum.y);
            acc[i] = ck_fma(i % 2 == 0 ? d.x : d.y, v, acc[i]);
        }
    }
};

#endif
