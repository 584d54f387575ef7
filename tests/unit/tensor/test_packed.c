/* test_packed.c - the formats of other tools against a plain reading of their definitions.
 *
 * Every case draws a matrix of quanta, scales and zero points, packs it the way the tool does,
 * and computes each weight from the drawn numbers: packing and formula here share no code with
 * what is tested. */
#include <math.h>
#include <stdlib.h>

#include "tensor/convert.h"
#include "tensor/packed.h"
#include "test.h"

/* --- drawing ---------------------------------------------------------------------- */
enum { ROWS_MAX = 48, COLS_MAX = 320, BYTES_MAX = ROWS_MAX * COLS_MAX * 4 };

typedef struct sample {
    packed_matrix m;
    uint32_t groups;
    uint8_t quanta[ROWS_MAX][COLS_MAX]; /* 4 bit, or the byte */
    float scales[ROWS_MAX][COLS_MAX];   /* [row, group] */
    int32_t zeros[ROWS_MAX][COLS_MAX];  /* likewise, as they are subtracted */
    int32_t groups_of[COLS_MAX];        /* of each input */
    /* One byte in front: nothing in a SafeTensors file is aligned. */
    unsigned char data[BYTES_MAX + 1];
    unsigned char packed_scales[BYTES_MAX + 1];
    unsigned char packed_zeros[BYTES_MAX + 1];
    unsigned char g_idx[COLS_MAX * 4 + 1];
    float want[ROWS_MAX][COLS_MAX];
} sample;

static sample the_sample; /* a megabyte: not on the stack */
static uint32_t draw_state;

static uint32_t draw(uint32_t below) {
    draw_state = draw_state * 1664525u + 1013904223u;
    return (draw_state >> 8) % below;
}

static void or_nibble(unsigned char *words, size_t word, uint32_t nibble, uint32_t value) {
    words[word * 4 + nibble / 2] |= (unsigned char)(value << (4 * (nibble % 2)));
}

static void put_scale(sample *s, size_t at, float value) {
    unsigned char *p = s->packed_scales + 1;
    const uint16_t half =
        s->m.scale_type == DTYPE_F16 ? convert_f32_to_f16(value) : convert_f32_to_bf16(value);
    if (s->m.scale_type == DTYPE_F32)
        memcpy(p + at * sizeof value, &value, sizeof value);
    else
        memcpy(p + at * sizeof half, &half, sizeof half);
}

static void draw_numbers(sample *s, bool symmetric) {
    const packed_matrix *m = &s->m;
    for (uint32_t r = 0; r < m->rows; r++) {
        for (uint32_t i = 0; i < m->cols; i++)
            s->quanta[r][i] = (uint8_t)draw(m->kind <= PACKED_INT4 ? 16 : 256);
        for (uint32_t g = 0; g < s->groups; g++) {
            /* eight significant bits: exact in every scale type */
            s->scales[r][g] = (float)(128 + draw(128)) * 0x1p-12f * (draw(8) == 0 ? -1.0f : 1.0f);
            s->zeros[r][g] = symmetric ? 8 : (int32_t)draw(16);
        }
    }
}

static void draw_groups(sample *s, bool act_order) {
    for (uint32_t i = 0; i < s->m.cols; i++) {
        s->groups_of[i] = (int32_t)(act_order ? draw(s->groups) : i / s->m.group);
        memcpy(s->g_idx + 1 + i * sizeof(int32_t), &s->groups_of[i], sizeof(int32_t));
    }
    if (act_order) s->m.g_idx = (const int32_t *)(const void *)(s->g_idx + 1);
}

static sample *begin(packed_kind kind, uint32_t rows, uint32_t cols, uint32_t group, dtype scales) {
    sample *s = &the_sample;
    memset(s, 0, sizeof *s);
    s->m = (packed_matrix){.kind = kind,
                           .rows = rows,
                           .cols = cols,
                           .data = s->data + 1,
                           .scales = s->packed_scales + 1,
                           .scale_type = scales,
                           .group = group,
                           .row_group = 1};
    s->groups = (cols + group - 1) / group;
    draw_state = rows * 7919 + cols * 31 + group + (uint32_t)kind;
    return s;
}

/* --- the formats ------------------------------------------------------------------ */
/* AutoGPTQ: qweight[i / 8][row], qzeros[group][row / 8] holding zero - 1 modulo 16. */
static void pack_gptq(sample *s) {
    packed_matrix *m = &s->m;
    const size_t zero_words = (m->rows + 7) / 8;
    for (uint32_t r = 0; r < m->rows; r++) {
        for (uint32_t i = 0; i < m->cols; i++)
            or_nibble(s->data + 1, (size_t)(i / 8) * m->rows + r, i % 8, s->quanta[r][i]);
        for (uint32_t g = 0; g < s->groups; g++) {
            const uint32_t stored = (uint32_t)(s->zeros[r][g] - (int32_t)m->zero_offset) & 15u;
            put_scale(s, (size_t)g * m->rows + r, s->scales[r][g]);
            or_nibble(s->packed_zeros + 1, g * zero_words + r / 8, r % 8, stored);
        }
    }
    m->zeros = s->packed_zeros + 1;
}

/* AutoAWQ: qweight[i][row / 8]; the nibbles from the lowest on are outputs 0 2 4 6 1 3 5 7. */
static void pack_awq(sample *s) {
    static const uint32_t order[8] = {0, 2, 4, 6, 1, 3, 5, 7};
    packed_matrix *m = &s->m;
    const size_t words = (m->rows + 7) / 8;
    for (uint32_t octet = 0; octet < m->rows; octet += 8)
        for (uint32_t nibble = 0; nibble < 8; nibble++) {
            const uint32_t r = octet + order[nibble];
            if (r >= m->rows) continue;
            for (uint32_t i = 0; i < m->cols; i++)
                or_nibble(s->data + 1, i * words + octet / 8, nibble, s->quanta[r][i]);
            for (uint32_t g = 0; g < s->groups; g++) {
                put_scale(s, (size_t)g * m->rows + r, s->scales[r][g]);
                or_nibble(s->packed_zeros + 1, g * words + octet / 8, nibble,
                          (uint32_t)s->zeros[r][g]);
            }
        }
    m->zeros = s->packed_zeros + 1;
}

/* compressed-tensors: weight_packed[row][i / 8], weight_zero_point[row / 8][group]. */
static void pack_int4(sample *s, bool symmetric) {
    packed_matrix *m = &s->m;
    const size_t words = (m->cols + 7) / 8;
    for (uint32_t r = 0; r < m->rows; r++) {
        for (uint32_t i = 0; i < m->cols; i++)
            or_nibble(s->data + 1, r * words + i / 8, i % 8, s->quanta[r][i]);
        for (uint32_t g = 0; g < s->groups; g++) {
            put_scale(s, (size_t)r * s->groups + g, s->scales[r][g]);
            or_nibble(s->packed_zeros + 1, (size_t)(r / 8) * s->groups + g, r % 8,
                      (uint32_t)s->zeros[r][g]);
        }
    }
    if (!symmetric) m->zeros = s->packed_zeros + 1;
}

static void expect_nibbles(sample *s) {
    for (uint32_t r = 0; r < s->m.rows; r++)
        for (uint32_t i = 0; i < s->m.cols; i++) {
            const int32_t g = s->groups_of[i];
            s->want[r][i] = s->scales[r][g] * (float)((int32_t)s->quanta[r][i] - s->zeros[r][g]);
        }
}

/* --- comparing -------------------------------------------------------------------- */
static bool same_bits(float a, float b) {
    return convert_f32_bits(a) == convert_f32_bits(b) || (isnan(a) && isnan(b));
}

static void check_rows(const sample *s, uint32_t row0, uint32_t count) {
    static float got[ROWS_MAX * COLS_MAX + 1];
    const uint32_t elems = count * s->m.cols;
    got[elems] = 42.0f;
    packed_rows(&s->m, row0, count, got);
    CHECK(got[elems] == 42.0f);
    for (uint32_t e = 0; e < elems; e++) {
        const uint32_t r = row0 + e / s->m.cols, i = e % s->m.cols;
        if (same_bits(got[e], s->want[r][i])) continue;
        (void)fprintf(stderr, "%s row %u col %u: %g, want %g\n", packed_name(&s->m), r, i,
                      (double)got[e], (double)s->want[r][i]);
        CHECK(!"a weight differs");
        return;
    }
}

/* Alone, all at once, and in pieces that do not begin at multiples of eight. */
static void check(sample *s) {
    const packed_sizes sizes = packed_sizes_of(&s->m);
    error err = {0};
    CHECK_EQ(packed_check(&s->m, S("w"), &sizes, &err), OK);
    CHECK_STR(err.msg, "");
    CHECK_EQ(packed_bytes(&s->m), sizes.data + sizes.scales + sizes.zeros + sizes.g_idx);
    for (uint32_t r = 0; r < s->m.rows; r++) check_rows(s, r, 1);
    check_rows(s, 0, s->m.rows);
    check_rows(s, 0, 0);
    for (uint32_t r = 3; r < s->m.rows; r += 11)
        check_rows(s, r, s->m.rows - r < 13 ? s->m.rows - r : 13);
}

/* --- tests ------------------------------------------------------------------------ */
TEST(packed_gptq_subtracts_stored_zeros_plus_one_modulo_16) {
    static const uint32_t groups[] = {32, 64, 128, 320};
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        for (uint32_t offset = 0; offset < 2; offset++) {
            sample *s = begin(PACKED_GPTQ, 48, 320, groups[i], DTYPE_F16);
            s->m.zero_offset = offset;
            draw_numbers(s, false);
            draw_groups(s, false);
            pack_gptq(s);
            expect_nibbles(s);
            check(s);
        }
}

TEST(packed_follows_the_groups_of_act_order) {
    for (uint32_t kind = PACKED_GPTQ; kind <= PACKED_INT4; kind++)
        for (uint32_t group = 1; group <= 64; group *= 4) { /* 320 groups do not fit the cache */
            sample *s = begin((packed_kind)kind, 24, 320, group, DTYPE_BF16);
            s->m.zero_offset = kind == PACKED_GPTQ ? 1 : 0;
            draw_numbers(s, false);
            draw_groups(s, true);
            if (kind == PACKED_GPTQ) pack_gptq(s);
            if (kind == PACKED_AWQ) pack_awq(s);
            if (kind == PACKED_INT4) pack_int4(s, false);
            expect_nibbles(s);
            check(s);
        }
}

TEST(packed_awq_unpacks_outputs_in_their_order) {
    static const uint32_t rows[] = {8, 40, 48};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        sample *s = begin(PACKED_AWQ, rows[i], 256, i == 1 ? 32 : 128, DTYPE_F16);
        draw_numbers(s, false);
        draw_groups(s, false);
        pack_awq(s);
        expect_nibbles(s);
        check(s);
    }
}

TEST(packed_int4_is_offset_by_8_with_and_without_zero_points) {
    for (int symmetric = 0; symmetric < 2; symmetric++)
        for (uint32_t group = 32; group <= 320; group *= 10) {
            sample *s = begin(PACKED_INT4, 40, 320, group, DTYPE_BF16);
            draw_numbers(s, symmetric);
            draw_groups(s, false);
            pack_int4(s, symmetric);
            expect_nibbles(s);
            check(s);
        }
}

TEST(packed_shapes_need_no_whole_words_or_groups) {
    sample *s = begin(PACKED_INT4, 13, 45, 12, DTYPE_F32);
    draw_numbers(s, false);
    draw_groups(s, false);
    pack_int4(s, false);
    expect_nibbles(s);
    check(s);
    s = begin(PACKED_GPTQ, 13, 45, 12, DTYPE_F32);
    s->m.zero_offset = 1;
    draw_numbers(s, false);
    draw_groups(s, false);
    pack_gptq(s);
    expect_nibbles(s);
    check(s);
    s = begin(PACKED_AWQ, 13, 45, 12, DTYPE_F32);
    draw_numbers(s, false);
    draw_groups(s, false);
    pack_awq(s);
    expect_nibbles(s);
    check(s);
}

TEST(packed_int8_scales_rows_or_the_whole_matrix) {
    for (int whole = 0; whole < 2; whole++) {
        sample *s = begin(PACKED_INT8, 20, 50, 50, DTYPE_F32);
        draw_numbers(s, true);
        for (uint32_t r = 0; r < 20; r++) {
            put_scale(s, whole ? 0 : r, s->scales[whole ? 0 : r][0]);
            for (uint32_t i = 0; i < 50; i++) {
                const int value = s->quanta[r][i] < 128 ? s->quanta[r][i] : s->quanta[r][i] - 256;
                s->data[1 + r * 50 + i] = s->quanta[r][i];
                s->want[r][i] = s->scales[whole ? 0 : r][0] * (float)value;
            }
        }
        if (whole) s->m.row_group = 20;
        check(s);
    }
}

/* Sign, four bits of exponent with bias 7, three of mantissa; S.1111.111 is the only NaN. */
static float fp8_value(uint8_t code) {
    const int exponent = code >> 3 & 15, mantissa = code & 7;
    const double magnitude =
        exponent == 0 ? ldexp(mantissa, -9) : ldexp(8 + mantissa, exponent - 10);
    if (exponent == 15 && mantissa == 7) return NAN;
    return (float)(code & 0x80 ? -magnitude : magnitude);
}

TEST(packed_fp8_has_256_values_and_two_of_them_are_no_numbers) {
    sample *s = begin(PACKED_FP8, 4, 256, 256, DTYPE_F32);
    s->m.row_group = 4;
    put_scale(s, 0, 1.0f);
    for (uint32_t r = 0; r < 4; r++)
        for (uint32_t i = 0; i < 256; i++) {
            s->data[1 + r * 256 + i] = (unsigned char)i;
            s->want[r][i] = fp8_value((uint8_t)i);
        }
    CHECK(fp8_value(0x7e) == 448.0f && fp8_value(0x01) == 0x1p-9f && fp8_value(0x38) == 1.0f);
    CHECK(isnan(s->want[0][0x7f]) && isnan(s->want[0][0xff]) && signbit(s->want[0][0x80]));
    check(s);
}

TEST(packed_fp8_scales_matrices_rows_and_blocks) {
    const struct {
        uint32_t rows, cols;
    } blocks[] = {{48, 320}, {1, 320}, {16, 128}, {1, 32}, {20, 100}};
    for (size_t b = 0; b < sizeof blocks / sizeof *blocks; b++) {
        sample *s = begin(PACKED_FP8, 48, 320, blocks[b].cols, b % 2 == 0 ? DTYPE_F32 : DTYPE_BF16);
        s->m.row_group = blocks[b].rows;
        draw_numbers(s, true);
        for (uint32_t r = 0; r < 48; r++)
            for (uint32_t i = 0; i < 320; i++) {
                const uint32_t br = r / blocks[b].rows, bc = i / blocks[b].cols;
                put_scale(s, (size_t)br * s->groups + bc, s->scales[br][bc]);
                s->data[1 + r * 320 + i] = s->quanta[r][i];
                s->want[r][i] = s->scales[br][bc] * fp8_value(s->quanta[r][i]);
            }
        check(s);
    }
}

static status lie(const packed_matrix *m, packed_sizes sizes, error *err) {
    return packed_check(m, S("w"), &sizes, err);
}

TEST(packed_check_names_what_does_not_belong_together) {
    error err = {0};
    int32_t g_idx[16] = {0, 1, 1, 1};
    packed_matrix m = {.kind = PACKED_GPTQ,
                       .rows = 8,
                       .cols = 16,
                       .group = 8,
                       .row_group = 1,
                       .scale_type = DTYPE_F16,
                       .zeros = g_idx,
                       .g_idx = g_idx};
    const packed_sizes good = {.data = 64, .scales = 32, .zeros = 8, .g_idx = 64};
    CHECK_EQ(lie(&m, good, &err), OK);
    CHECK_EQ(lie(&m, (packed_sizes){60, 32, 8, 64}, &err), ERR_FORMAT);
    CHECK_STR(err.msg, "'w': the weights of GPTQ int4 [8, 16] have 60 bytes, must have 64");
    CHECK_EQ(lie(&m, (packed_sizes){64, 64, 8, 64}, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "the scales of GPTQ int4 [8, 16] have 64 bytes, must have 32");
    CHECK_EQ(lie(&m, (packed_sizes){64, 32, 0, 64}, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "the zero points");
    CHECK_EQ(lie(&m, (packed_sizes){64, 32, 8, 60}, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "the group numbers");
    g_idx[7] = 2;
    CHECK_EQ(lie(&m, good, &err), ERR_FORMAT);
    CHECK_STR(err.msg, "'w': column 7 is in group 2, there are 2");
    g_idx[7] = -1;
    CHECK_EQ(lie(&m, good, &err), ERR_FORMAT);
    CHECK_HAS(err.msg, "column 7 is in group -1, there are 2");
    g_idx[7] = 0;
    m.group = 0;
    CHECK_EQ(lie(&m, good, &err), ERR_FORMAT);
    m.group = 8;
    m.row_group = 2;
    CHECK_EQ(lie(&m, good, &err), ERR_UNSUPPORTED);
    m.row_group = 1;
    m.scale_type = DTYPE_F64;
    CHECK_EQ(lie(&m, good, &err), ERR_UNSUPPORTED);
    CHECK_HAS(err.msg, "scales of GPTQ int4 are F64, must be F32, F16 or BF16");
    m.scale_type = DTYPE_F16;
    m.kind = PACKED_FP8;
    CHECK_EQ(lie(&m, good, &err), ERR_UNSUPPORTED);
    CHECK_HAS(err.msg, "FP8 with zero points");
    m.cols = 0;
    CHECK_EQ(lie(&m, good, &err), ERR_FORMAT);
    m.cols = UINT32_MAX;
    CHECK_EQ(lie(&m, good, &err), ERR_FORMAT);
    CHECK_STR(packed_name(&(packed_matrix){.kind = PACKED_AWQ}), "AWQ int4");
}
