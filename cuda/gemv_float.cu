/* gemv_float.cu - products with weights of F32, F16 and BF16; activations stay f32.
 *
 * A group is one granule: 4 or 8 elements, multiplied and added one after the other.  cols may be
 * anything: rows of w are padded to granules, rows of x are not.  Where cols is a multiple of 4 the
 * rows of x are aligned and whole groups of them are read 16 bytes at a time; else, and at the end
 * of a row, element by element, as 0 past the end.  The order of sums is the same either way.
 * ptx_count: k_gemv_f32_n1 weights 16 budget 4.3
 * ptx_count: k_gemv_f16_n1 weights 32 budget 5.0
 * ptx_count: k_gemv_bf16_n1 weights 32 budget 4.6 */
#include "gemv.h"

/* --- two elements of a word of a granule -------------------- */

struct gemv_word_f16 {
    CK_DEV float low(uint32_t u) { return ck_h2f((uint16_t)u); }
    CK_DEV float high(uint32_t u) { return ck_h2f((uint16_t)(u >> 16)); }
};
struct gemv_word_bf16 {
    CK_DEV float low(uint32_t u) { return ck_u2f(u << 16); }
    CK_DEV float high(uint32_t u) { return ck_u2f(u & 0xffff0000u); }
};

/* --- what the three share -------------------- */

template <int ELEMENTS> struct gemv_float {
    enum { GROUP = ELEMENTS, UNROLL = 2, RAGGED = 1, X_BYTES = 4, X_UNITS = GROUP };
    typedef ck_u4 tile;
    typedef struct input {
        float x[ELEMENTS];
    } input;

    CK_DEV uint32_t x_units(uint32_t cols) { return cols; }
    /* Whole groups of an aligned row. */
    CK_DEV uint32_t groups(uint32_t cols) { return cols % 4 == 0 ? cols / ELEMENTS : 0; }
    CK_DEV tile load(const ck_matrix &w, uint32_t group) { return gemv_granule(w, 0, group); }
    CK_DEV void ahead(const ck_matrix &w, uint32_t group) { gemv_prefetch<16>(w, 0, group); }
    CK_DEV input input_of(const gemv_job &job, uint32_t at) {
        input in;
#pragma unroll
        for (int i = 0; i < ELEMENTS; i += 4) {
            const ck_u4 x = ck_ld16((const float *)job.x + at + i);
            in.x[i] = ck_u2f(x.x);
            in.x[i + 1] = ck_u2f(x.y);
            in.x[i + 2] = ck_u2f(x.z);
            in.x[i + 3] = ck_u2f(x.w);
        }
        return in;
    }
    CK_DEV input input_ragged(const gemv_job &job, uint32_t before, uint32_t group, uint32_t cols) {
        const uint32_t col = group * ELEMENTS;
        input in;
#pragma unroll
        for (uint32_t i = 0; i < ELEMENTS; i++) {
            const bool there = col + i < cols;
            in.x[i] = there ? ck_ld((const float *)job.x + before + col + i) : 0.0f;
        }
        return in;
    }
};

struct gemv_f32 : gemv_float<4> {
    CK_DEV float dot(tile t, const input &in, float acc) {
        acc = ck_fma(ck_u2f(t.x), in.x[0], acc);
        acc = ck_fma(ck_u2f(t.y), in.x[1], acc);
        acc = ck_fma(ck_u2f(t.z), in.x[2], acc);
        return ck_fma(ck_u2f(t.w), in.x[3], acc);
    }
};

template <typename word> struct gemv_halves : gemv_float<8> {
    CK_DEV float dot(tile t, const input &in, float acc) {
        const uint32_t words[4] = {t.x, t.y, t.z, t.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            acc = ck_fma(word::low(words[i]), in.x[2 * i], acc);
            acc = ck_fma(word::high(words[i]), in.x[2 * i + 1], acc);
        }
        return acc;
    }
};
typedef gemv_halves<gemv_word_f16> gemv_f16;
typedef gemv_halves<gemv_word_bf16> gemv_bf16;

GEMV_KERNELS(f32, CK_EARLY_OF)
GEMV_KERNELS(f16, CK_EARLY_OF)
GEMV_KERNELS(bf16, CK_EARLY_OF)
