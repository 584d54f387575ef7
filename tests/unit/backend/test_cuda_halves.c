/* test_cuda_halves.c - which matrices of BF16 may become F16, and what that costs them. */
#include <math.h>

#include "backend/cuda/cuda_internal.h"
#include "kernels/rig.h"
#include "tensor/convert.h"
#include "test.h"

enum { ROWS = 40, COLS = 77 };

static weight of(const uint16_t *data, uint32_t rows, uint32_t cols) {
    return (weight){.type = DTYPE_BF16, .rows = rows, .cols = cols, .data = data};
}

static float as_half(uint16_t x) {
    return convert_f16_to_f32(convert_f32_to_f16(convert_bf16_to_f32(x)));
}

/* All there are: a matrix of one element can be no more than exact. */
TEST(cuda_halves_takes_every_number_that_f16_has) {
    uint32_t wrong = 0, changed = 0;
    for (uint32_t bits = 0; bits <= UINT16_MAX; bits++) {
        const uint16_t x = (uint16_t)bits;
        const float number = convert_bf16_to_f32(x), size = fabsf(number);
        const bool want = size == 0.0f || (size >= 0x1p-17f && size <= 65504.0f);
        const weight w = of(&x, 1, 1);
        cuda_conversion how = CUDA_AS_STORED;
        const bool fits = cuda_halves_fit(&w, &how);
        wrong += fits != want || (fits && how != CUDA_EXACT);
        changed += fits && as_half(x) != number;
    }
    CHECK_EQ(wrong, 0);
    CHECK_EQ(changed, 0);
}

static void fill(uint16_t *data, float sigma) {
    float x[ROWS * COLS];
    krig_random r = {3};
    krig_normal(&r, x, ROWS * COLS);
    for (uint32_t i = 0; i < ROWS * COLS; i++) data[i] = convert_f32_to_bf16(x[i] * sigma);
}

/* A few small numbers among others are rounded; where most are small, it stays BF16. */
TEST(cuda_halves_rounds_what_is_small_beside_the_rest) {
    static uint16_t data[ROWS * COLS];
    cuda_conversion how = CUDA_AS_STORED;
    const weight w = of(data, ROWS, COLS);
    fill(data, 0.02f);
    for (uint32_t i = 0; i < ROWS; i++) data[i * COLS + i] = (uint16_t)(0x3301 + i * 8);
    CHECK(cuda_halves_fit(&w, &how));
    CHECK_EQ(how, CUDA_ROUNDED);
    double loss = 0.0, square = 0.0;
    for (uint32_t i = 0; i < ROWS * COLS; i++) {
        const double number = convert_bf16_to_f32(data[i]), off = as_half(data[i]) - number;
        loss += off * off;
        square += number * number;
    }
    CHECK(loss > 0.0);
    CHECK(loss <= 1e-9 * square);
    fill(data, 1e-6f);
    CHECK(!cuda_halves_fit(&w, &how));
}

TEST(cuda_halves_refuses_what_f16_cannot_hold) {
    static const uint16_t beyond[] = {0x4780, 0xc780, 0x7f7f, 0x7f80, 0xff80, 0x7fc0};
    static const uint32_t places[] = {0, COLS - 1, ROWS * COLS - 1};
    static uint16_t data[ROWS * COLS];
    const weight w = of(data, ROWS, COLS);
    cuda_conversion how = CUDA_AS_STORED;
    for (uint32_t i = 0; i < 6; i++)
        for (uint32_t p = 0; p < 3; p++) {
            fill(data, 1.0f);
            data[places[p]] = beyond[i];
            CHECK(!cuda_halves_fit(&w, &how));
        }
}
