/* test_kv_q8.c - rows of the KV cache in 8 bits (backend/kv_q8.h). */
#include <math.h>
#include <stdlib.h>

#include "backend/kv_q8.h"
#include "tensor/convert.h"
#include "test.h"

enum { DIM = 96 };

static const kv_layout layout = {
    .type = DTYPE_Q8_0, .layers = 3, .kv_heads = 2, .key_dim = DIM, .value_dim = 32};

static float get(kv_q8_row row, uint32_t i) {
    return convert_f16_to_f32(row.scales[i / KV_GROUP]) * (float)row.codes[i];
}

/* A row of its own, filled with what must be overwritten. */
static kv_q8_row fresh(void) {
    static int8_t codes[DIM];
    static uint16_t scales[DIM / KV_GROUP];
    memset(codes, 0x55, sizeof codes);
    memset(scales, 0xFF, sizeof scales);
    return (kv_q8_row){codes, scales};
}

TEST(kv_q8_rows_lie_side_by_side_and_fill_a_head) {
    static int8_t head[KV_BLOCK_TOKENS * (DIM + DIM / 16)];
    CHECK_EQ(kv_row_bytes(&layout, KV_K), DIM + DIM / 16);
    CHECK_EQ(kv_head_bytes(&layout, KV_K), sizeof head);
    CHECK_EQ(kv_head_bytes(&layout, KV_V), KV_BLOCK_TOKENS * 34);
    CHECK_EQ(kv_block_bytes(&layout), 3 * 2 * (sizeof head + KV_BLOCK_TOKENS * 34));
    const kv_q8_row first = kv_q8_row_at(&layout, head, KV_K, 0);
    const kv_q8_row last = kv_q8_row_at(&layout, head, KV_K, KV_BLOCK_TOKENS - 1);
    CHECK(first.codes == head && last.codes == head + (ptrdiff_t)(KV_BLOCK_TOKENS - 1) * DIM);
    CHECK((int8_t *)first.scales == head + (ptrdiff_t)KV_BLOCK_TOKENS * DIM);
    CHECK((int8_t *)(last.scales + DIM / KV_GROUP) == head + sizeof head);
    CHECK_EQ(kv_head_bytes(&layout, KV_K) % 16, 0);
}

TEST(kv_q8_is_within_half_a_scale) {
    float x[DIM];
    const kv_q8_row row = fresh();
    for (int round = 0; round < 38; round++) {
        const float size = ldexpf(1, round - 15); /* scales of 2^-22 to 2^15 */
        for (int i = 0; i < DIM; i++) x[i] = size * sinf((float)(i * 7 + round));
        kv_q8_put(row, 0, x, DIM);
        for (uint32_t i = 0; i < DIM; i++) {
            const double scale = (double)convert_f16_to_f32(row.scales[i / KV_GROUP]);
            /* half a code, and of 127 codes what the rounding of the scale to f16 takes */
            const double bound = scale * (0.5 + 127 * 0x1p-11) + 127 * 0x1p-25;
            CHECK(fabs((double)get(row, i) - (double)x[i]) <= bound);
        }
    }
}

TEST(kv_q8_group_has_a_scale_of_its_own) {
    float x[KV_GROUP] = {[3] = -2.54f, [4] = 1.27f};
    const kv_q8_row row = fresh();
    kv_q8_put(row, 32, x, KV_GROUP);
    CHECK(row.codes[32 + 3] == -127 && row.codes[32 + 5] == 0);
    CHECK(abs(row.codes[32 + 4] - 63) <= 1);
    CHECK(row.codes[0] == 0x55 && row.codes[64] == 0x55); /* its neighbours are left alone */
    CHECK(row.scales[0] == 0xFFFF && row.scales[2] == 0xFFFF);
}

TEST(kv_q8_of_zeros_and_of_next_to_nothing_is_zero) {
    static const float tiny[] = {0.0f, -0.0f, 1e-30f, -1e-45f};
    const kv_q8_row row = fresh();
    for (size_t k = 0; k < 4; k++) {
        float x[KV_GROUP];
        for (int i = 0; i < KV_GROUP; i++) x[i] = tiny[k];
        kv_q8_put(row, 0, x, KV_GROUP);
        for (uint32_t i = 0; i < KV_GROUP; i++) CHECK(get(row, i) == 0.0f);
    }
}

TEST(kv_q8_of_what_is_no_number_is_none) {
    const float wrong[] = {NAN, INFINITY, -INFINITY, 1e8f}; /* no scale of f16 is as large */
    const kv_q8_row row = fresh();
    for (size_t k = 0; k < 4; k++) {
        float x[2 * KV_GROUP] = {[1] = 1, [7] = wrong[k], [40] = 2};
        kv_q8_put(row, 0, x, 2 * KV_GROUP);
        for (uint32_t i = 0; i < KV_GROUP; i++) CHECK(isnan(get(row, i)));
        CHECK(fabsf(get(row, 40) - 2) < 0.002f);
    }
}
