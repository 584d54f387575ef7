/* test_kv_q4.c - rows of the KV cache in 4 bits (backend/kv_q4.h). */
#include "backend/kv_q4.h"

#include <math.h>

#include "tensor/convert.h"
#include "test.h"

enum { DIM = 96 };

static const kv_layout layout = {
    .type = DTYPE_Q4_0, .layers = 3, .kv_heads = 2, .key_dim = DIM, .value_dim = 32};

/* A row of its own, filled with what must be overwritten. */
static kv_q4_row fresh(void) {
    static uint8_t codes[DIM / 2];
    static uint16_t scales[DIM / KV_GROUP];
    memset(codes, 0x55, sizeof codes);
    memset(scales, 0xFF, sizeof scales);
    return (kv_q4_row){codes, scales};
}

/* A group as it was stored, turned; then as it was before that. */
static void get_turned(kv_q4_row row, uint32_t first, float out[KV_GROUP]) {
    for (uint32_t i = 0; i < KV_GROUP; i++)
        out[i] =
            convert_f16_to_f32(row.scales[first / KV_GROUP]) * (float)kv_q4_code(row, first + i);
}

static void get(kv_q4_row row, uint32_t first, float out[KV_GROUP]) {
    get_turned(row, first, out);
    kv_q4_turn(out, KV_GROUP);
}

static double dot(const float *a, const float *b, uint32_t n) {
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

TEST(kv_q4_rows_lie_side_by_side_and_fill_a_head) {
    static uint8_t head[KV_BLOCK_TOKENS * (DIM / 2 + DIM / 16)];
    CHECK_EQ(kv_row_bytes(&layout, KV_K), DIM / 2 + DIM / 16);
    CHECK_EQ(kv_head_bytes(&layout, KV_K), sizeof head);
    CHECK_EQ(kv_head_bytes(&layout, KV_V), KV_BLOCK_TOKENS * 18);
    CHECK_EQ(kv_block_bytes(&layout), 3 * 2 * (sizeof head + KV_BLOCK_TOKENS * 18));
    const kv_q4_row first = kv_q4_row_at(&layout, head, KV_K, 0);
    const kv_q4_row last = kv_q4_row_at(&layout, head, KV_K, KV_BLOCK_TOKENS - 1);
    CHECK(first.codes == head && last.codes == head + (ptrdiff_t)(KV_BLOCK_TOKENS - 1) * DIM / 2);
    CHECK((uint8_t *)first.scales == head + (ptrdiff_t)KV_BLOCK_TOKENS * DIM / 2);
    CHECK((uint8_t *)(last.scales + DIM / KV_GROUP) == head + sizeof head);
    CHECK_EQ(kv_head_bytes(&layout, KV_K) % 16, 0);
}

/* Against the matrix as it is defined, and twice is not at all. */
TEST(kv_q4_turns_by_the_walsh_hadamard_matrix) {
    float x[2 * KV_GROUP], turned[2 * KV_GROUP];
    for (int i = 0; i < 2 * KV_GROUP; i++) turned[i] = x[i] = sinf((float)(i * i));
    kv_q4_turn(turned, 2 * KV_GROUP);
    for (uint32_t i = 0; i < 2 * KV_GROUP; i++) {
        const uint32_t first = i / KV_GROUP * KV_GROUP;
        double want = 0;
        for (uint32_t k = 0; k < KV_GROUP; k++)
            want += (double)x[first + k] * (__builtin_parity(k & (i - first)) != 0 ? -1 : 1);
        CHECK(fabs((double)turned[i] - want / sqrt(KV_GROUP)) < 1e-6);
    }
    CHECK(fabs(dot(turned, turned, KV_GROUP) - dot(x, x, KV_GROUP)) < 1e-5);
    kv_q4_turn(turned, 2 * KV_GROUP);
    for (int i = 0; i < 2 * KV_GROUP; i++) CHECK(fabsf(turned[i] - x[i]) < 1e-6f);
}

TEST(kv_q4_is_within_a_scale) {
    float x[DIM], turned[DIM], back[KV_GROUP];
    const kv_q4_row row = fresh();
    for (int round = 0; round < 30; round++) {
        const float size = ldexpf(1, round - 15);
        for (int i = 0; i < DIM; i++) turned[i] = x[i] = size * sinf((float)(i * 7 + round));
        kv_q4_put(row, 0, x, DIM);
        kv_q4_turn(turned, DIM);
        for (uint32_t first = 0; first < DIM; first += KV_GROUP) {
            const double scale = fabs((double)convert_f16_to_f32(row.scales[first / KV_GROUP]));
            get_turned(row, first, back);
            /* the other end of the range has code 7 of 8: a whole scale; the rest is f16's */
            for (uint32_t i = 0; i < KV_GROUP; i++)
                CHECK(fabs((double)back[i] - (double)turned[first + i]) <=
                      scale * (1 + 8 * 0x1p-11) + 8 * 0x1p-25);
        }
    }
}

/* One element of a hundred times the others: stored as they are, 31 would be 0. */
TEST(kv_q4_keeps_small_elements_beside_a_large_one) {
    float x[KV_GROUP], back[KV_GROUP];
    double lost = 0, all = 0;
    const kv_q4_row row = fresh();
    for (int i = 0; i < KV_GROUP; i++) x[i] = sinf((float)(i * 3 + 1));
    x[5] = 20;
    kv_q4_put(row, 0, x, KV_GROUP);
    get(row, 0, back);
    for (int i = 0; i < KV_GROUP; i++) {
        if (i == 5) continue;
        lost += pow((double)(back[i] - x[i]), 2);
        all += pow((double)x[i], 2);
    }
    CHECK(lost < 0.1 * all);
}

TEST(kv_q4_group_has_a_scale_of_its_own) {
    float x[KV_GROUP] = {[3] = -2.54f, [4] = 1.27f}, back[KV_GROUP];
    const kv_q4_row row = fresh();
    kv_q4_put(row, 32, x, KV_GROUP);
    get(row, 32, back);
    CHECK(fabsf(back[3] + 2.54f) < 0.3f && fabsf(back[4] - 1.27f) < 0.3f);
    CHECK(row.codes[15] == 0x55 && row.codes[32] == 0x55); /* its neighbours are left alone */
    CHECK(row.scales[0] == 0xFFFF && row.scales[2] == 0xFFFF);
}

/* The largest and the smallest get code -8, whichever is further from 0. */
TEST(kv_q4_reaches_further_where_more_is) {
    float x[KV_GROUP] = {0}, back[KV_GROUP];
    const kv_q4_row row = fresh();
    for (int sign = -1; sign <= 1; sign += 2) {
        for (int i = 0; i < KV_GROUP; i++) x[i] = 0;
        x[0] = (float)sign * 8; /* turned: all alike */
        kv_q4_put(row, 0, x, KV_GROUP);
        for (uint32_t i = 0; i < KV_GROUP; i++) CHECK_EQ(kv_q4_code(row, i), -8);
        get(row, 0, back);
        CHECK(fabsf(back[0] - x[0]) < 0.005f && fabsf(back[1]) < 0.005f);
    }
}

TEST(kv_q4_of_zeros_and_of_next_to_nothing_is_zero) {
    static const float tiny[] = {0.0f, -0.0f, 1e-30f, -1e-45f};
    const kv_q4_row row = fresh();
    for (size_t k = 0; k < 4; k++) {
        float x[KV_GROUP], back[KV_GROUP];
        for (int i = 0; i < KV_GROUP; i++) x[i] = tiny[k];
        kv_q4_put(row, 0, x, KV_GROUP);
        get(row, 0, back);
        for (uint32_t i = 0; i < KV_GROUP; i++) CHECK(back[i] == 0.0f);
    }
}

TEST(kv_q4_of_what_is_no_number_is_none) {
    const float wrong[] = {NAN, INFINITY, -INFINITY, 1e8f}; /* no scale of f16 is as large */
    const kv_q4_row row = fresh();
    for (size_t k = 0; k < 4; k++) {
        float x[2 * KV_GROUP] = {[1] = 1, [7] = wrong[k], [40] = 2}, back[KV_GROUP];
        kv_q4_put(row, 0, x, 2 * KV_GROUP);
        get(row, 0, back);
        for (uint32_t i = 0; i < KV_GROUP; i++) CHECK(isnan(back[i]));
        get(row, 32, back);
        CHECK(fabsf(back[8] - 2) < 0.2f); /* of 2 alike, one end has code 7 of 8 */
    }
}
