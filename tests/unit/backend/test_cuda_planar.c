/* test_cuda_planar.c - weights in planes: nothing lost, every bit where the header says, and types
 * without a form of their own as exactly as promised. */
#include <math.h>
#include <stdlib.h>

#include "backend/cuda/cuda_planar.h"
#include "base/alloc.h"
#include "model/synth_internal.h"
#include "tensor/convert.h"
#include "test.h"

static uint64_t planar_seed = 1;

static uint32_t planar_random(uint32_t below) {
    planar_seed = planar_seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(planar_seed >> 33) % below;
}

static void planar_random_bytes(void *out, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) ((uint8_t *)out)[i] = (uint8_t)planar_random(256);
}

static uint64_t stored_bytes(dtype t, uint32_t cols) {
    uint64_t bytes = 0;
    CHECK(dtype_row_bytes(t, cols, &bytes));
    return bytes;
}

/* A matrix whose rows lie in planes of exactly the bytes they need. */
typedef struct planar_matrix {
    weight w;
    ck_form form;
    uint8_t *rows; /* owned: the stored rows */
    void *planes[CK_PLANES_MAX];
    uint64_t row_bytes[CK_PLANES_MAX];
} planar_matrix;

static planar_matrix matrix_of(dtype t, uint32_t rows, uint32_t cols) {
    planar_matrix m = {.rows = malloc(rows * stored_bytes(t, cols))};
    m.w = (weight){.type = t, .rows = rows, .cols = cols, .data = m.rows, .name = str_of("w")};
    return m;
}

/* Random elements as a model has them. */
static planar_matrix tame_matrix(dtype t, uint32_t rows, uint32_t cols) {
    planar_matrix m = matrix_of(t, rows, cols);
    for (uint32_t r = 0; r < rows; r++)
        synth_fill_row(t, 7, r, 0.1f, cols, m.rows + r * stored_bytes(t, cols));
    return m;
}

static void alloc_planes(planar_matrix *m) {
    cuda_planar_row_bytes(m->form, m->w.cols, m->row_bytes);
    for (uint32_t p = 0; p < CK_PLANES_MAX; p++) {
        m->planes[p] = malloc(m->row_bytes[p] * m->w.rows + 1);
        memset(m->planes[p], 0xa5, m->row_bytes[p] * m->w.rows);
    }
}

/* Packs rows `step` at a time, from the last ones to the first. */
static void pack_in_steps(planar_matrix *m, uint32_t step) {
    alloc_planes(m);
    for (uint32_t end = m->w.rows; end > 0;) {
        const uint32_t count = end < step ? end : step;
        void *ranges[CK_PLANES_MAX];
        end -= count;
        for (uint32_t p = 0; p < CK_PLANES_MAX; p++)
            ranges[p] = (uint8_t *)m->planes[p] + end * m->row_bytes[p];
        CHECK_EQ(cuda_planar_pack(m->form, &m->w, end, count, ranges, NULL), OK);
    }
}

static void pack_as_chosen(planar_matrix *m) {
    m->form = cuda_planar_choose(&m->w, NULL);
    pack_in_steps(m, 3);
}

static void matrix_free(planar_matrix *m) {
    for (uint32_t p = 0; p < CK_PLANES_MAX; p++) free(m->planes[p]);
    free(m->rows);
}

static const void *const *planes_of(const planar_matrix *m) {
    return (const void *const *)m->planes;
}

static dtype type_of(ck_form form) {
    static const dtype types[CK_FORM_COUNT] = {DTYPE_F32,  DTYPE_F16,  DTYPE_BF16, DTYPE_Q8_0,
                                               DTYPE_Q4_0, DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K};
    return types[form];
}

/* --- permutations -------------------- */

TEST(cuda_planar_gives_every_bit_back) {
    for (uint32_t f = 0; f < CK_FORM_COUNT; f++) {
        const dtype t = type_of((ck_form)f);
        const uint32_t elems = dtype_get((uint32_t)t)->block_elems;
        for (uint32_t n = 1; n <= 5; n += 2) {
            planar_matrix m = matrix_of(t, 7, n * elems);
            const uint64_t bytes = 7 * stored_bytes(t, n * elems);
            planar_random_bytes(m.rows, bytes);
            m.form = cuda_planar_choose(&m.w, NULL);
            CHECK_EQ(m.form, f);
            pack_in_steps(&m, n);
            uint8_t *back = malloc(bytes);
            memset(back, 0x5a, bytes);
            cuda_planar_unpack(m.form, m.w.cols, 7, planes_of(&m), back);
            CHECK(memcmp(back, m.rows, bytes) == 0);
            free(back);
            matrix_free(&m);
        }
    }
}

/* The code of element e of a row, unsigned but for Q8_0, as the header's words have it. */
static int code_of(const planar_matrix *m, uint32_t row, uint32_t e) {
    const uint8_t *p[CK_PLANES_MAX];
    for (uint32_t i = 0; i < CK_PLANES_MAX; i++)
        p[i] = (const uint8_t *)m->planes[i] + row * m->row_bytes[i];
    const uint32_t g32 = e / 32 * 16 + e % 16, g64 = e / 64 * 16 + e % 16, part = e % 64 / 16;
    if (m->form == CK_FORM_Q8_0) return (int8_t)p[e / 16 % 2][g32];
    if (m->form == CK_FORM_Q4_0) return p[0][g32] >> (e / 16 % 2 * 4) & 15;
    if (m->form == CK_FORM_Q6_K)
        return (p[part / 2][g64] >> (part % 2 * 4) & 15) | (p[2][g64] >> (part * 2) & 3) << 4;
    const int low = p[part % 2][g64] >> (part / 2 * 4) & 15;
    if (m->form == CK_FORM_Q4_K) return low;
    uint32_t word = 0;
    memcpy(&word, p[3] + e / 32 * 4, sizeof word);
    return low | (int)(word >> (e % 4 * 8 + e % 32 / 4) & 1u) << 4;
}

/* With all scales 1 and minima 0, a reader of the stored type gives codes. */
static void set_scales_to_one(dtype t, uint8_t *block) {
    static const uint8_t one[2] = {0x00, 0x3c};
    memcpy(block + (t == DTYPE_Q6_K ? 208 : 0), one, 2);
    if (t == DTYPE_Q6_K) memset(block + 192, 1, 16);
    if (t != DTYPE_Q4_K && t != DTYPE_Q5_K) return;
    memset(block + 2, 0, 14);
    memset(block + 4, 1, 4);  /* scales of parts 0..3 */
    memset(block + 12, 1, 4); /* of parts 4..7 */
}

TEST(cuda_planar_has_each_element_where_its_header_says) {
    for (uint32_t f = CK_FORM_Q8_0; f < CK_FORM_COUNT; f++) {
        const dtype t = type_of((ck_form)f);
        planar_matrix m = matrix_of(t, 2, 512);
        const dtype_info *info = dtype_get((uint32_t)t);
        planar_random_bytes(m.rows, 2 * stored_bytes(t, 512));
        for (uint32_t b = 0; b < 2 * 512 / info->block_elems; b++)
            set_scales_to_one(t, m.rows + (size_t)b * info->block_bytes);
        pack_as_chosen(&m);
        const int offset = t == DTYPE_Q4_0 ? 8 : t == DTYPE_Q6_K ? 32 : 0;
        float values[512];
        uint32_t wrong = 0;
        for (uint32_t r = 0; r < 2; r++) {
            dequant_row(t, m.rows + r * stored_bytes(t, 512), values, 512);
            for (uint32_t e = 0; e < 512; e++)
                wrong += code_of(&m, r, e) - offset != (int)values[e];
        }
        CHECK_EQ(wrong, 0);
        matrix_free(&m);
    }
}

/* --- sizes -------------------- */

TEST(cuda_planar_takes_the_bytes_of_the_stored_rows) {
    for (uint32_t f = 0; f < CK_FORM_COUNT; f++) {
        uint64_t offsets[CK_PLANES_MAX], row_bytes[CK_PLANES_MAX], bytes = 0, sum = 0;
        CHECK(cuda_planar_sizes((ck_form)f, 9, 512, offsets, &bytes));
        cuda_planar_row_bytes((ck_form)f, 512, row_bytes);
        for (uint32_t p = 0; p < CK_PLANES_MAX; p++) {
            CHECK_EQ(offsets[p] % 256, 0);
            CHECK(offsets[p] + 9 * row_bytes[p] <=
                  (p + 1 < CK_PLANES_MAX ? offsets[p + 1] : bytes));
            sum += row_bytes[p];
        }
        CHECK_EQ(sum, stored_bytes(type_of((ck_form)f), 512));
        CHECK_EQ(bytes % 256, 0);
        CHECK(bytes < 9 * sum + 256 * CK_PLANES_MAX);
    }
}

TEST(cuda_planar_refuses_columns_that_do_not_fit_and_more_granules_than_32_bits_count) {
    uint64_t offsets[CK_PLANES_MAX] = {77}, bytes = 77;
    CHECK(!cuda_planar_sizes(CK_FORM_Q8_0, 4, 48, offsets, &bytes));
    CHECK(!cuda_planar_sizes(CK_FORM_Q4_K, 4, 128, offsets, &bytes));
    CHECK(!cuda_planar_sizes(CK_FORM_F16, 4, 0, offsets, &bytes));
    CHECK_EQ(offsets[0], 77);
    CHECK_EQ(bytes, 77);
    CHECK(cuda_planar_sizes(CK_FORM_F32, UINT32_MAX, 4, offsets, &bytes));
    CHECK(!cuda_planar_sizes(CK_FORM_F32, UINT32_MAX, 5, offsets, &bytes));
    CHECK(!cuda_planar_sizes(CK_FORM_F32, UINT32_MAX, UINT32_MAX, offsets, &bytes));
}

TEST(cuda_planar_pads_rows_of_floats_with_zeros) {
    planar_matrix m = tame_matrix(DTYPE_F16, 3, 9);
    pack_as_chosen(&m);
    CHECK_EQ(m.row_bytes[0], 32);
    for (uint32_t r = 0; r < 3; r++)
        for (uint32_t i = 18; i < 32; i++) CHECK_EQ(((uint8_t *)m.planes[0])[r * 32 + i], 0);
    matrix_free(&m);
}

/* --- other types -------------------- */

static bool same_number(float a, float b) {
    return convert_f32_bits(a) == convert_f32_bits(b) || (a == 0.0f && b == 0.0f);
}

/* Elements that are not what the conversion promises. */
static uint32_t count_wrong(const planar_matrix *m, cuda_conversion how) {
    const dtype t = type_of(m->form);
    const uint32_t n = m->w.cols;
    uint8_t *back = malloc(m->w.rows * stored_bytes(t, n));
    float *got = malloc(n * sizeof *got), *want = malloc(n * sizeof *want);
    cuda_planar_unpack(m->form, n, m->w.rows, planes_of(m), back);
    uint32_t wrong = 0;
    for (uint32_t r = 0; r < m->w.rows; r++) {
        dequant_row(t, back + r * stored_bytes(t, n), got, n);
        dequant_row(m->w.type, m->rows + r * stored_bytes(m->w.type, n), want, n);
        for (uint32_t i = 0; i < n; i++) {
            float w = want[i];
            if (how == CUDA_ROUNDED && m->form == CK_FORM_F16)
                w = convert_f16_to_f32(convert_f32_to_f16(w));
            wrong += !same_number(got[i], w);
        }
    }
    free(back);
    free(got);
    free(want);
    return wrong;
}

TEST(cuda_planar_converts_every_other_type_as_exactly_as_it_says) {
    for (uint32_t id = 0; id < DTYPE_ID_END; id++) {
        const dtype_info *info = dtype_get(id);
        ck_form form = CK_FORM_COUNT;
        if (info == NULL || info->is_integer) {
            CHECK(!cuda_planar_form((dtype)id, &form));
            continue;
        }
        CHECK(cuda_planar_form((dtype)id, &form));
        planar_matrix m = tame_matrix((dtype)id, 5, 512);
        cuda_conversion how = CUDA_ROUNDED;
        m.form = cuda_planar_choose(&m.w, &how);
        CHECK_EQ(m.form, form);
        CHECK_EQ(how, cuda_planar_conversion((dtype)id));
        CHECK_EQ(how == CUDA_AS_STORED, type_of(form) == (dtype)id);
        pack_in_steps(&m, 2);
        if (count_wrong(&m, how) != 0)
            (void)fprintf(stderr, "%s as %s: %u elements differ\n", info->name,
                          cuda_form_name(m.form), count_wrong(&m, how));
        CHECK_EQ(count_wrong(&m, how), 0);
        matrix_free(&m);
    }
}

/* All bit patterns: only infinities and NaNs may differ in what they become. */
TEST(cuda_planar_converts_any_bits_of_types_with_one_scale) {
    static const dtype types[] = {DTYPE_Q5_0, DTYPE_Q8_1,  DTYPE_IQ4_NL, DTYPE_Q1_0,
                                  DTYPE_Q2_0, DTYPE_TQ1_0, DTYPE_TQ2_0,  DTYPE_Q3_K};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        planar_matrix m = matrix_of(types[i], 16, 512);
        const uint64_t bytes = 16 * stored_bytes(types[i], 512);
        planar_random_bytes(m.rows, bytes);
        const dtype_info *info = dtype_get((uint32_t)types[i]);
        static const uint8_t scale[2] = {0x34, 0x2a};
        const uint32_t at = types[i] == DTYPE_TQ1_0   ? 52
                            : types[i] == DTYPE_TQ2_0 ? 64
                            : types[i] == DTYPE_Q3_K  ? 108
                                                      : 0;
        for (uint64_t b = 0; b < bytes; b += info->block_bytes) memcpy(m.rows + b + at, scale, 2);
        pack_as_chosen(&m);
        CHECK_EQ(count_wrong(&m, CUDA_EXACT), 0);
        matrix_free(&m);
    }
}

/* --- range -------------------- */

static bool has_element_beyond_f16(const planar_matrix *m) {
    float values[512];
    bool beyond = false;
    for (uint32_t r = 0; r < m->w.rows; r++) {
        dequant_row(m->w.type, m->rows + r * stored_bytes(m->w.type, m->w.cols), values, m->w.cols);
        for (uint32_t i = 0; i < m->w.cols; i++) beyond |= !(fabsf(values[i]) < 65520.0f);
    }
    return beyond;
}

TEST(cuda_planar_keeps_f32_where_f16_has_not_the_range) {
    static const dtype types[] = {DTYPE_Q4_1,  DTYPE_Q5_1,  DTYPE_Q2_K,    DTYPE_Q8_K,
                                  DTYPE_IQ1_S, DTYPE_IQ1_M, DTYPE_IQ2_XXS, DTYPE_IQ2_XS,
                                  DTYPE_IQ2_S, DTYPE_IQ3_S, DTYPE_IQ3_XXS, DTYPE_IQ4_XS,
                                  DTYPE_NVFP4};
    uint32_t beyond = 0, within = 0;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        for (uint32_t n = 0; n < 40; n++) {
            planar_matrix m = matrix_of(types[i], 1, 256);
            planar_random_bytes(m.rows, stored_bytes(types[i], 256));
            cuda_conversion how = CUDA_AS_STORED;
            m.form = cuda_planar_choose(&m.w, &how);
            const bool want = has_element_beyond_f16(&m);
            CHECK_EQ(m.form, want ? CK_FORM_F32 : CK_FORM_F16);
            pack_in_steps(&m, 1);
            if (m.form == CK_FORM_F16) CHECK_EQ(count_wrong(&m, how), 0);
            beyond += want;
            within += !want;
            matrix_free(&m);
        }
    CHECK(beyond > 20);
    CHECK(within > 20);
}

TEST(cuda_planar_mxfp4_is_q8_0_as_far_as_its_scales_are_f16) {
    static const struct {
        uint8_t scale;
        ck_form form;
        cuda_conversion how;
    } cases[] = {{104, CK_FORM_Q8_0, CUDA_EXACT},
                 {143, CK_FORM_Q8_0, CUDA_EXACT},
                 {103, CK_FORM_Q8_0, CUDA_ROUNDED},
                 {0, CK_FORM_Q8_0, CUDA_ROUNDED},
                 {144, CK_FORM_F32, CUDA_EXACT}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        planar_matrix m = tame_matrix(DTYPE_MXFP4, 2, 64);
        m.rows[17] = cases[i].scale;
        m.rows[18] = 0x71; /* elements 0.5 and 6, doubled 1 and 12 */
        m.rows[34] = 255;  /* of a block of zeros: no matter */
        memset(m.rows + 35, 0x80, 16);
        cuda_conversion how = CUDA_AS_STORED;
        m.form = cuda_planar_choose(&m.w, &how);
        CHECK_EQ(m.form, cases[i].form);
        CHECK_EQ(how, cases[i].how);
        pack_in_steps(&m, 1);
        if (how == CUDA_EXACT) CHECK_EQ(count_wrong(&m, how), 0);
        matrix_free(&m);
    }
}

/* 2^-25 is half of the smallest f16, and so 12 times it is 6 of them. */
TEST(cuda_planar_mxfp4_rounds_what_is_below_f16) {
    planar_matrix m = tame_matrix(DTYPE_MXFP4, 1, 32);
    m.rows[0] = 103;
    memset(m.rows + 1, 0x75, 16); /* 3 and 6, doubled 6 and 12 */
    pack_as_chosen(&m);
    CHECK_EQ(((int8_t *)m.planes[0])[0], 3);
    CHECK_EQ(((int8_t *)m.planes[1])[15], 6);
    CHECK_EQ(((uint8_t *)m.planes[2])[0], 1);
    matrix_free(&m);
}

/* --- packed matrices -------------------- */

static int8_t int8_data[24 * 12];
static float int8_scales[24];

/* Rows 2 .. 23 of a matrix of 24. */
static weight packed_weight(packed_matrix *m, float scale) {
    planar_random_bytes(int8_data, sizeof int8_data);
    for (uint32_t r = 0; r < 24; r++) int8_scales[r] = scale * (float)(r + 1);
    *m = (packed_matrix){.kind = PACKED_INT8,
                         .rows = 24,
                         .cols = 12,
                         .data = int8_data,
                         .scales = int8_scales,
                         .scale_type = DTYPE_F32,
                         .group = 12,
                         .row_group = 1};
    return (weight){.rows = 22, .cols = 12, .packed = m, .row0 = 2, .name = str_of("packed")};
}

TEST(cuda_planar_packs_matrices_of_other_tools_as_f16) {
    packed_matrix packed;
    planar_matrix m = {.w = packed_weight(&packed, 0.01f)};
    cuda_conversion how = CUDA_AS_STORED;
    m.form = cuda_planar_choose(&m.w, &how);
    CHECK_EQ(m.form, CK_FORM_F16);
    CHECK_EQ(how, CUDA_ROUNDED);
    for (uint32_t step = 1; step <= 22; step += 7) {
        pack_in_steps(&m, step);
        uint32_t wrong = 0;
        for (uint32_t r = 0; r < 22; r++)
            for (uint32_t c = 0; c < 12; c++) {
                uint16_t half = 0;
                memcpy(&half, (uint8_t *)m.planes[0] + r * m.row_bytes[0] + c * 2, 2);
                const float want = int8_scales[r + 2] * (float)int8_data[(r + 2) * 12 + c];
                wrong += half != convert_f32_to_f16(want);
            }
        CHECK_EQ(wrong, 0);
        matrix_free(&m);
    }
}

TEST(cuda_planar_packed_matrix_with_large_scales_becomes_f32) {
    packed_matrix packed;
    const weight w = packed_weight(&packed, 100.0f);
    cuda_conversion how = CUDA_AS_STORED;
    CHECK_EQ(cuda_planar_choose(&w, &how), CK_FORM_F32);
    CHECK_EQ(how, CUDA_EXACT);
}

TEST(cuda_planar_packed_matrix_without_memory_is_an_error) {
    packed_matrix packed;
    planar_matrix m = {.w = packed_weight(&packed, 0.01f), .form = CK_FORM_F16};
    alloc_planes(&m);
    error err = {0};
    mem_fail_after(0);
    CHECK_EQ(cuda_planar_pack(m.form, &m.w, 0, 22, m.planes, &err), ERR_NOMEM);
    mem_fail_after(-1);
    CHECK_HAS(err.msg, "'packed' with 12 columns");
    matrix_free(&m);
}

TEST(cuda_planar_names_are_for_the_log) {
    CHECK_STR(cuda_form_name(CK_FORM_Q4_K), "Q4_K");
    CHECK_STR(cuda_form_name(CK_FORM_COUNT), "?");
    CHECK_STR(cuda_conversion_name(CUDA_EXACT), "converted exactly");
    CHECK_EQ(cuda_planar_conversion(DTYPE_NVFP4), CUDA_EXACT);
    CHECK_EQ(cuda_planar_conversion(DTYPE_F64), CUDA_ROUNDED);
}
