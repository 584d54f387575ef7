/* test_k_quantize.c - k_quantize bit by bit: the arithmetic of cuda/quantize.h said once more. */
#include <math.h>

#include "cudasim/rig.h"
#include "test.h"

#include "abi.h"

enum { BLOCK = 32, THREADS = 256, PER_BLOCK = 1024 };

typedef struct quantize_buffers {
    float *x;
    int8_t *codes, *want_codes;
    ck_sums *sums, *want_sums;
} quantize_buffers;

static quantize_buffers buffers_of(uint32_t rows, uint32_t cols) {
    const size_t n = (size_t)rows * cols;
    return (quantize_buffers){.x = rig_buffer(n * sizeof(float)),
                              .codes = rig_buffer(n),
                              .want_codes = rig_buffer(n),
                              .sums = rig_buffer(n / BLOCK * sizeof(ck_sums)),
                              .want_sums = rig_buffer(n / BLOCK * sizeof(ck_sums))};
}

/* Of 32 finite elements. */
static void want_block(const float *x, int8_t *codes, ck_sums *sums) {
    const float shift = 0x1.8p23f;
    float amax = 0.0f;
    for (uint32_t k = 0; k < BLOCK; k++) amax = fmaxf(amax, fabsf(x[k]));
    const bool zero = amax < 0x1p-100f;
    int halves[2] = {0, 0};
    for (uint32_t k = 0; k < BLOCK; k++) {
        codes[k] = zero ? 0 : (int8_t)(fmaf(x[k], 127.0f / amax, shift) - shift);
        halves[k / 16] += codes[k];
    }
    *sums = (ck_sums){zero ? 0.0f : amax / 127.0f, (int16_t)halves[0], (int16_t)halves[1]};
}

static void run(int arch, const quantize_buffers *b, uint32_t rows, uint32_t cols) {
    k_quantize_args a = {.x = rig_at(b->x),
                         .codes = rig_at(b->codes),
                         .sums = rig_at(b->sums),
                         .count = rig_count(rows),
                         .cols = cols};
    const uint32_t grid_x = (cols + PER_BLOCK - 1) / PER_BLOCK;
    rig_run(arch, "k_quantize", &a, grid_x, rows + 2, THREADS, 0);
}

TEST(k_quantize_rounds_every_block_to_its_largest) {
    static const uint32_t cols[] = {32, 96, 1024, 1056, 2048, 5632};
    RIG_EACH(arch) {
        for (uint32_t i = 0; i < sizeof cols / sizeof cols[0]; i++) {
            const uint32_t rows = 1 + i % 3;
            quantize_buffers b = buffers_of(rows, cols[i]);
            rig_fill(b.x, (size_t)rows * cols[i], 5.0f);
            run(arch, &b, rows, cols[i]);
            for (size_t at = 0; at < (size_t)rows * cols[i]; at += BLOCK)
                want_block(b.x + at, b.want_codes + at, &b.want_sums[at / BLOCK]);
            rig_same(b.codes, b.want_codes, (size_t)rows * cols[i]);
            rig_same(b.sums, b.want_sums, (size_t)rows * cols[i] / BLOCK * sizeof(ck_sums));
        }
    }
    rig_done();
}

/* The promise that products are built on. */
TEST(k_quantize_is_within_half_a_step_and_uses_all_of_127) {
    RIG_EACH(arch) {
        quantize_buffers b = buffers_of(1, 4096);
        rig_fill(b.x, 4096, 1.0f);
        for (uint32_t i = 0; i < 4096; i++) b.x[i] *= ldexpf(1.0f, (int)rig_random(60) - 30);
        run(arch, &b, 1, 4096);
        uint32_t wrong = 0, full = 0;
        for (uint32_t i = 0; i < 4096; i++) {
            const double d = (double)b.sums[i / BLOCK].d;
            wrong += !(fabs((double)b.x[i] - d * b.codes[i]) <= d * 0.500001);
            full += b.codes[i] == 127 || b.codes[i] == -127;
        }
        CHECK_EQ(wrong, 0);
        CHECK(full >= 4096 / BLOCK);
    }
    rig_done();
}

/* Ties to even; zeros; numbers too small to divide by; the largest ones. */
TEST(k_quantize_edges) {
    RIG_EACH(arch) {
        quantize_buffers b = buffers_of(1, 4 * BLOCK);
        memset(b.x, 0, 4 * BLOCK * sizeof(float));
        b.x[0] = 127.0f;
        b.x[1] = 0.5f;
        b.x[2] = 1.5f;
        b.x[3] = -2.5f;
        b.x[BLOCK + 3] = 0x1p-101f;
        b.x[2 * BLOCK + 3] = 0x1p-99f;
        b.x[3 * BLOCK] = 0x1.fffffep127f;
        b.x[3 * BLOCK + 31] = -0x1.fffffep127f;
        run(arch, &b, 1, 4 * BLOCK);
        CHECK_EQ(b.codes[0], 127);
        CHECK_EQ(b.codes[1], 0);
        CHECK_EQ(b.codes[2], 2);
        CHECK_EQ(b.codes[3], -2);
        CHECK_EQ(b.sums[0].lo, 127);
        CHECK(b.sums[1].d == 0.0f);
        CHECK_EQ(b.codes[BLOCK + 3], 0);
        CHECK_EQ(b.codes[2 * BLOCK + 3], 127);
        CHECK_EQ(b.codes[3 * BLOCK], 127);
        CHECK_EQ(b.codes[3 * BLOCK + 31], -127);
        CHECK_EQ(b.sums[3].lo, 127);
        CHECK_EQ(b.sums[3].hi, -127);
    }
    rig_done();
}

TEST(k_quantize_infinities_and_nans_make_their_block_nan) {
    RIG_EACH(arch) {
        quantize_buffers b = buffers_of(1, 3 * BLOCK);
        rig_fill(b.x, 3 * BLOCK, 1.0f);
        b.x[5] = INFINITY;
        b.x[BLOCK + 31] = -NAN;
        run(arch, &b, 1, 3 * BLOCK);
        CHECK(isnan(b.sums[0].d));
        CHECK(isnan(b.sums[1].d));
        CHECK(isfinite(b.sums[2].d));
        for (uint32_t k = 0; k < 2 * BLOCK; k++) CHECK_EQ(b.codes[k], 0);
        CHECK_EQ(b.sums[0].lo, 0);
    }
    rig_done();
}
