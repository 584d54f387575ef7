/* test_dequant.c - blocks of every type against recorded values, bit for bit.
 *
 * Reference data: oracle/public/dequant.  Every type there has a set made by a quantizer and one
 * of random bits with chosen scales (zero, negative zero, subnormal, negative, large). */
#include "tensor/convert.h"

#include <math.h>

#include "golden_paths.h"
#include "tensor/iq_grids.h"
#include "test.h"

enum { ROWS = 16, COLS = 256, TYPES_RECORDED = 29 };

/* README of the reference data: products in double. */
static const double matvec_relative_max = 1e-5;

/* A whole file; free(). */
static void *dequant_slurp(const char *type, const char *rest, size_t *bytes) {
    char relative[128];
    (void)snprintf(relative, sizeof relative, "oracle/public/dequant/%s%s", type, rest);
    const char *path = shared_path(relative);
    FILE *fp = path != NULL ? fopen(path, "rb") : NULL;
    if (fp == NULL) return NULL;
    (void)fseek(fp, 0, SEEK_END);
    *bytes = (size_t)ftell(fp);
    (void)fseek(fp, 0, SEEK_SET);
    void *p = malloc(*bytes + 1);
    if (p != NULL && fread(p, 1, *bytes, fp) != *bytes) *bytes = 0;
    (void)fclose(fp);
    return p;
}

/* The recorded set as floats of our own, [elems]; free().  Compares them on the way. */
static float *check_set(dtype t, const char *set, uint32_t *elems) {
    char bin[32], f32[32];
    size_t packed_bytes = 0, want_bytes = 0;
    uint64_t row_bytes = 0;
    (void)snprintf(bin, sizeof bin, ".%s.bin", set);
    (void)snprintf(f32, sizeof f32, ".%s.f32", set);
    void *packed = dequant_slurp(dtype_name(t), bin, &packed_bytes);
    float *want = dequant_slurp(dtype_name(t), f32, &want_bytes);
    float *got = malloc(want_bytes + 1);
    *elems = (uint32_t)(want_bytes / sizeof *want);
    CHECK(packed != NULL && want != NULL && got != NULL && *elems > 0);
    CHECK(dtype_row_bytes(t, *elems, &row_bytes));
    CHECK_EQ(packed_bytes, row_bytes);
    dequant_row(t, packed, got, *elems);
    if (memcmp(got, want, want_bytes) != 0)
        (void)fprintf(stderr, "%s.%s is read differently\n", dtype_name(t), set);
    CHECK(memcmp(got, want, want_bytes) == 0);
    free(packed);
    free(want);
    return got;
}

/* Rows of the quantized set times a vector, where that is recorded. */
static void check_matvec(dtype t, const float *w) {
    size_t want_bytes = 0, x_bytes = 0;
    float *want = dequant_slurp(dtype_name(t), ".matvec.exact.f32", &want_bytes);
    float *x = dequant_slurp("matvec_x", ".f32", &x_bytes);
    if (want != NULL && x != NULL) {
        CHECK_EQ(want_bytes, ROWS * sizeof *want);
        CHECK_EQ(x_bytes, COLS * sizeof *x);
        for (uint32_t r = 0; r < ROWS; r++) {
            double sum = 0, size = 0;
            for (uint32_t c = 0; c < COLS; c++) {
                sum += (double)w[r * COLS + c] * (double)x[c];
                size += fabs((double)w[r * COLS + c] * (double)x[c]);
            }
            CHECK(fabs(sum - (double)want[r]) <= matvec_relative_max * size);
        }
    }
    free(want);
    free(x);
}

TEST(dequant_reads_every_recorded_type_bit_exactly) {
    SHARED_OR_SKIP(path, "oracle/public/dequant/index.tsv");
    FILE *fp = fopen(path, "r");
    char line[512], name[32];
    uint32_t types = 0, elems = 0;
    CHECK(fp != NULL && fgets(line, sizeof line, fp) != NULL); /* the heading */
    while (fgets(line, sizeof line, fp) != NULL) {
        dtype t = DTYPE_F32;
        CHECK_EQ(sscanf(line, "%31s", name), 1);
        CHECK(dtype_from_name(str_of(name), &t));
        float *w = check_set(t, "quant", &elems);
        check_matvec(t, w);
        free(w);
        free(check_set(t, "random", &elems));
        types++;
    }
    (void)fclose(fp);
    CHECK_EQ(types, TYPES_RECORDED);
}

/* A row is read the same in one go, block by block, and from an odd address. */
TEST(dequant_blocks_stand_for_themselves) {
    enum { ELEMS = 1024, BYTES_MAX = ELEMS * 8 };
    static uint8_t row[BYTES_MAX], shifted[BYTES_MAX + 1];
    static float whole[ELEMS], parts[ELEMS];
    for (uint32_t i = 0; i < BYTES_MAX; i++) row[i] = (uint8_t)(i * 37 % 119); /* finite scales */
    memcpy(shifted + 1, row, BYTES_MAX);
    for (uint32_t id = 0; id < DTYPE_ID_END; id++) {
        const dtype_info *info = dtype_get(id);
        if (info == NULL) continue;
        dequant_row((dtype)id, row, whole, ELEMS);
        for (uint32_t i = 0; i < ELEMS; i += info->block_elems)
            dequant_row((dtype)id, shifted + 1 + (size_t)i / info->block_elems * info->block_bytes,
                        parts + i, info->block_elems);
        CHECK(memcmp(whole, parts, sizeof whole) == 0);
        dequant_row((dtype)id, row, whole, 0); /* nothing is written */
        CHECK(memcmp(whole, parts, sizeof whole) == 0);
    }
}

TEST(dequant_plain_numbers_are_rounded_to_f32) {
    const double f64[2] = {0.1, -1e300};
    const int8_t i8[2] = {-128, 127};
    const int16_t i16[2] = {-32768, 32767};
    const int32_t i32[2] = {INT32_MIN, 16777217};
    const int64_t i64[2] = {INT64_MIN, 3};
    float out[2];
    dequant_row(DTYPE_F64, f64, out, 2);
    CHECK(out[0] == 0.1f && out[1] == -INFINITY);
    dequant_row(DTYPE_I8, i8, out, 2);
    CHECK(out[0] == -128.0f && out[1] == 127.0f);
    dequant_row(DTYPE_I16, i16, out, 2);
    CHECK(out[0] == -32768.0f && out[1] == 32767.0f);
    dequant_row(DTYPE_I32, i32, out, 2);
    CHECK(out[0] == -0x1p31f && out[1] == 16777216.0f);
    dequant_row(DTYPE_I64, i64, out, 2);
    CHECK(out[0] == -0x1p63f && out[1] == 3.0f);
}

/* Every scale byte of the four-bit float types: what the standards say, and what stands in for
 * their not-a-numbers. */
TEST(dequant_float8_scales_have_the_values_of_the_standard) {
    uint8_t mx[17] = {0}, nv[36] = {0};
    float out[64];
    for (uint32_t b = 0; b < 256; b++) {
        mx[0] = (uint8_t)b;
        mx[1] = 2; /* element 0 is 1.0 */
        dequant_row(DTYPE_MXFP4, mx, out, 32);
        CHECK(out[0] == ldexpf(1.0f, (int)b - 127)); /* infinity at 255 */
        CHECK(out[1] == 0.0f);
        nv[3] = (uint8_t)b;
        nv[4 + 24] = 2;
        dequant_row(DTYPE_NVFP4, nv, out, 64);
        int exponent = (int)(b >> 3 & 15);
        float mantissa = (float)(b & 7) / 8.0f;
        float want = exponent == 0 ? ldexpf(mantissa, -6) : ldexpf(1.0f + mantissa, exponent - 7);
        CHECK(out[48] == (b == 127 ? 0.0f : want));
        CHECK(out[0] == 0.0f);
    }
}

TEST(dequant_codebooks_have_their_levels_and_no_point_twice) {
    const iq_grids *g = iq_grids_get();
    for (uint32_t i = 0; i < 2048; i++)
        for (uint32_t k = 0; k < 8; k++) CHECK(g->iq1[i][k] >= -1 && g->iq1[i][k] <= 1);
    for (uint32_t i = 1; i < 1024; i++) CHECK(memcmp(g->iq2_s[i], g->iq2_s[i - 1], 8) != 0);
    static const int8_t lowest[8] = {8, 8, 8, 8, 8, 8, 8, 8};
    CHECK(memcmp(g->iq2_xxs[0], lowest, 8) == 0 && memcmp(g->iq2_xs[0], lowest, 8) == 0);
    CHECK(g->iq3_s[0][0] == 1 && g->iq3_xxs[0][0] == 4 && g->iq1[0][0] == -1);
    CHECK(iq_grids_get() == g);
}
