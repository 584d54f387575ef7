/* test_convert.c - half precision to f32 and back, bit for bit; blocks: test_dequant.c. */
#include "tensor/convert.h"
#include "tensor/quant.h"

#include <math.h>

#include "golden_paths.h"
#include "test.h"

/* A whole file; free(). */
static void *slurp(const char *path, size_t *bytes) {
    FILE *fp = fopen(path, "rb");
    if (fp == NULL) return NULL;
    (void)fseek(fp, 0, SEEK_END);
    *bytes = (size_t)ftell(fp);
    (void)fseek(fp, 0, SEEK_SET);
    void *p = malloc(*bytes + 1);
    if (p != NULL && fread(p, 1, *bytes, fp) != *bytes) *bytes = 0;
    (void)fclose(fp);
    return p;
}

static void *slurp_in(const char *folder, const char *type, const char *rest, size_t *bytes) {
    char path[1200];
    (void)snprintf(path, sizeof path, "%s/%s%s", folder, type, rest);
    void *p = slurp(path, bytes);
    CHECK(p != NULL);
    return p;
}

TEST(convert_writes_half_precision_like_the_reference) {
    SHARED_OR_SKIP(folder, "oracle/public/dequant");
    static const dtype halves[] = {DTYPE_F16, DTYPE_BF16};
    size_t in_bytes = 0, want_bytes = 0;
    float *in = slurp_in(folder, "input", ".f32", &in_bytes);
    for (uint32_t i = 0; i < 2; i++) {
        void *want = slurp_in(folder, dtype_name(halves[i]), ".quant.bin", &want_bytes);
        void *got = malloc(want_bytes + 1);
        CHECK(got != NULL);
        quant_row(halves[i], in, NULL, got, (uint32_t)(in_bytes / sizeof *in));
        CHECK(memcmp(got, want, want_bytes) == 0);
        free(want);
        free(got);
    }
    free(in);
}

TEST(convert_f32_rows_are_copied) {
    const float in[3] = {1.5f, -0.0f, 3e38f};
    float out[3], back[3];
    quant_row(DTYPE_F32, in, NULL, out, 3);
    dequant_row(DTYPE_F32, out, back, 3);
    CHECK(memcmp(in, back, sizeof in) == 0);
}

TEST(convert_every_f16_comes_back_from_f32) {
    for (uint32_t h = 0; h <= 0xffff; h++) {
        float f = convert_f16_to_f32((uint16_t)h);
        bool nan = (h & 0x7c00) == 0x7c00 && (h & 0x3ff) != 0;
        CHECK((isnan(f) != 0) == nan);
        if (nan)
            CHECK(isnan(convert_f16_to_f32(convert_f32_to_f16(f))));
        else
            CHECK(convert_f32_to_f16(f) == h);
    }
}

TEST(convert_f16_has_the_values_of_the_standard) {
    CHECK(convert_f16_to_f32(0x0001) == 0x1p-24f);
    CHECK(convert_f16_to_f32(0x03ff) == 0x1.ff8p-15f);
    CHECK(convert_f16_to_f32(0x0400) == 0x1p-14f);
    CHECK(convert_f16_to_f32(0x3c00) == 1.0f);
    CHECK(convert_f16_to_f32(0x7bff) == 65504.0f);
    CHECK(convert_f16_to_f32(0xfc00) == -INFINITY);
    CHECK(signbit(convert_f16_to_f32(0x8000)) && convert_f16_to_f32(0x8000) == 0.0f);
}

/* Between two neighbours the nearer one, half way the one with an even last bit; over
 * the whole range, subnormals and the step to infinity included. */
TEST(convert_rounds_to_the_nearest_f16_ties_to_even) {
    for (uint32_t h = 0; h < 0x7bff; h++) {
        float low = convert_f16_to_f32((uint16_t)h), high = convert_f16_to_f32((uint16_t)(h + 1));
        float half = low + (high - low) / 2; /* exact */
        uint32_t even = h % 2 == 0 ? h : h + 1;
        CHECK(convert_f32_to_f16(half) == even);
        CHECK(convert_f32_to_f16(nextafterf(half, 0.0f)) == h);
        CHECK(convert_f32_to_f16(nextafterf(half, INFINITY)) == h + 1);
        CHECK(convert_f32_to_f16(-half) == (even | 0x8000));
    }
    CHECK(convert_f32_to_f16(nextafterf(65520.0f, 0.0f)) == 0x7bff);
    CHECK(convert_f32_to_f16(65520.0f) == 0x7c00);
    CHECK(convert_f32_to_f16(INFINITY) == 0x7c00);
    CHECK(convert_f32_to_f16(0x1p-149f) == 0);
}

TEST(convert_bf16_rounds_to_the_nearest_ties_to_even) {
    CHECK(convert_f32_to_bf16(1.0f) == 0x3f80);
    CHECK(convert_f32_to_bf16(convert_bits_f32(0x3f808000)) == 0x3f80);
    CHECK(convert_f32_to_bf16(convert_bits_f32(0x3f818000)) == 0x3f82);
    CHECK(convert_f32_to_bf16(convert_bits_f32(0x3f808001)) == 0x3f81);
    CHECK(convert_f32_to_bf16(convert_bits_f32(0x7f7fffff)) == 0x7f80);
    CHECK(isnan(convert_bf16_to_f32(convert_f32_to_bf16(convert_bits_f32(0x7f800001)))));
    CHECK(convert_bf16_to_f32(0xbf80) == -1.0f);
}

TEST(convert_blocks_of_zeros_and_of_the_smallest_numbers_stay_zero) {
    float in[32] = {0}, out[32];
    unsigned char row[34];
    static const dtype types[] = {DTYPE_Q8_0, DTYPE_Q4_0};
    for (uint32_t i = 0; i < 2; i++) {
        in[3] = 0.0f;
        quant_row(types[i], in, NULL, row, 32);
        dequant_row(types[i], row, out, 32);
        for (uint32_t k = 0; k < 32; k++) CHECK(out[k] == 0.0f);
        in[3] = 0x1p-149f;
        quant_row(types[i], in, NULL, row, 32);
        dequant_row(types[i], row, out, 32);
        for (uint32_t k = 0; k < 32; k++) CHECK(out[k] == 0.0f);
    }
}
