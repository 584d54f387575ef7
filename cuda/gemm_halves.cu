/* gemm_halves.cu - prompts with weights of F16 and BF16 on tensor cores, 16 to a step; sums in f32.
 *
 * Activations are rounded to the type of the weights on their way into shared memory, to nearest,
 * ties to even.  Finite ones that F16 does not reach become its largest number.  cols may be
 * anything: rows of w are padded to granules, rows of x are not; what lies past the end is 0. */
#include "gemm.h"
#include "halves.h"
#include "planar.h"

struct gemm_type_f16 {
    CK_DEV uint32_t rounded(float x) { return half_of(x); }
    CK_DEV void mma(float acc[4], const uint32_t a[4], const uint32_t b[2]) {
        halves_mma(acc, a, b);
    }
};

#if CK_ARCH >= 800
struct gemm_type_bf16 {
    CK_DEV uint32_t rounded(float x) {
        const uint32_t u = ck_f2u(x);
        const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
        return nan ? u >> 16 | 0x40u : (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
    }
    CK_DEV void mma(float acc[4], const uint32_t a[4], const uint32_t b[2]) {
        ck_mma_m16n8k16_bf16(acc, a, b);
    }
};
#endif

template <typename type> struct gemm_halves {
    enum { COLS = 16, GRANULE = 8 }; /* of a step; of a granule */

    typedef struct shared {
        uint32_t none;
    } shared;

    typedef struct job {
        const uint8_t *w, *x;
        uint32_t cols;
        ck_u4 granules[2];
        float values[COLS];
    } job;

    CK_DEV uint32_t steps(uint32_t cols) { return (cols + COLS - 1) / COLS; }
    CK_DEV uint32_t granules(uint32_t cols) { return (cols + GRANULE - 1) / GRANULE; }

    CK_DEV void begin(job &j, const gemm_input &in, uint32_t w_row, uint32_t x_row) {
        j.w = planar_at(in.w, 0, (uint64_t)w_row * granules(in.w.cols) * 16);
        j.x = (const uint8_t *)in.x + (uint64_t)x_row * in.w.cols * sizeof(float);
        j.cols = in.w.cols;
    }

    /* Rows of x are 16-aligned where cols is a multiple of 4. */
    CK_DEV void load_x(job &j, uint32_t col) {
        const float *x = (const float *)j.x + col;
        if (j.cols % 4 == 0) {
#pragma unroll
            for (uint32_t i = 0; i < COLS; i += 4) {
                const ck_u4 v = col + i < j.cols ? ck_ld16(x + i) : ck_u4{0, 0, 0, 0};
                j.values[i] = ck_u2f(v.x);
                j.values[i + 1] = ck_u2f(v.y);
                j.values[i + 2] = ck_u2f(v.z);
                j.values[i + 3] = ck_u2f(v.w);
            }
            return;
        }
#pragma unroll
        for (uint32_t i = 0; i < COLS; i++) j.values[i] = col + i < j.cols ? ck_ld(x + i) : 0.0f;
    }

    CK_DEV void load(job &j, uint32_t chunk) {
        const uint32_t step = chunk * GEMM_STEPS + gemm_half();
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) {
            const uint32_t granule = step * 2 + i;
            const bool there = granule < granules(j.cols);
            j.granules[i] = there ? ck_ldg16(j.w + (uint64_t)granule * 16) : ck_u4{0, 0, 0, 0};
        }
        load_x(j, step * COLS);
    }

    CK_DEV uint32_t word_of(const float *x) {
        return type::rounded(x[0]) | type::rounded(x[1]) << 16;
    }
    CK_DEV void put(const job &j, uint32_t chunk, gemm_rows &rows, shared &s) {
        (void)chunk, (void)s;
#pragma unroll
        for (uint32_t i = 0; i < 2; i++) {
            const float *x = j.values + i * GRANULE;
            const uint32_t granule = gemm_half() * 2 + i;
            gemm_put(rows.w, granule, j.granules[i]);
            gemm_put(rows.x, granule, {word_of(x), word_of(x + 2), word_of(x + 4), word_of(x + 6)});
        }
    }

    typedef shared scales;
    CK_DEV scales scales_of(const shared &s, uint32_t step, uint32_t w) {
        (void)s, (void)step, (void)w;
        return {0};
    }

    CK_DEV void multiply(float acc[4], const uint32_t a[4], const uint32_t b[2], const scales &of,
                         const shared &s, uint32_t step, uint32_t x) {
        (void)of, (void)s, (void)step, (void)x;
        type::mma(acc, a, b);
    }
};

typedef gemm_halves<gemm_type_f16> gemm_f16;
GEMM_KERNELS(f16, 4)

#if CK_ARCH >= 800
typedef gemm_halves<gemm_type_bf16> gemm_bf16;
GEMM_KERNELS(bf16, 4)
#endif
