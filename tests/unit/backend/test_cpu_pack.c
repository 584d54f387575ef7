/* test_cpu_pack.c - the repacked layout: whatever a row's own blocks say, the packed groups say.
 *
 * Packed weights are read by the scalar expand() and compared with dequant_row(). */
#include <math.h>
#include <stdlib.h>

#include "backend/cpu/cpu_pack.h"
#include "pack_rig.h"
#include "tensor/convert.h"
#include "tensor/iq_grids.h"
#include "test.h"

TEST(pack_formats_add_up) {
    uint32_t packed = 0;
    for (uint32_t t = 0; t <= DTYPE_ID_END; t++) packed += pack_format_of((dtype)t) != NULL;
    CHECK_EQ(packed, PRIG_TYPES);
    for (uint32_t i = 0; i < PRIG_TYPES; i++) {
        const pack_format *f = pack_format_of(prig_types[i]);
        const dtype_info *info = dtype_get((uint32_t)prig_types[i]);
        CHECK(f != NULL && f->type == prig_types[i]);
        CHECK_EQ(f->super_blocks * PACK_BLOCK, info->block_elems);
        CHECK_EQ(f->super_bytes % 16, 0);
        CHECK(f->super_bytes >= f->super_blocks * f->codes_bytes + PACK_ROWS);
        CHECK_EQ(f->codes_bytes % 64, 0);
        CHECK(f->subs == 1 || f->subs == 2);
        CHECK(f->zero <= pack_code_max(f));
        /* it is read once per token: little more than the type's own size */
        const size_t slack = f->type == DTYPE_Q2_K ? 5 : 24;
        CHECK(f->super_bytes <= (size_t)info->block_bytes * 16 * (slack + 1) / slack);
    }
}

TEST(pack_fits_whole_superblocks) {
    CHECK(pack_fits(DTYPE_Q4_0, 32) && pack_fits(DTYPE_Q4_0, 96) && pack_fits(DTYPE_MXFP4, 2880));
    CHECK(!pack_fits(DTYPE_Q4_0, 0) && !pack_fits(DTYPE_Q4_0, 48));
    CHECK(pack_fits(DTYPE_Q4_K, 512) && !pack_fits(DTYPE_Q4_K, 288));
    CHECK(!pack_fits(DTYPE_F16, 256) && !pack_fits(DTYPE_IQ2_S, 256) && !pack_fits(DTYPE_I8, 32));
    const pack_format *f = pack_format_of(DTYPE_Q8_0);
    CHECK_EQ(pack_group_bytes(f, 64), 2 * (512 + 32));
    CHECK_EQ(pack_bytes(f, 33, 64), 3 * pack_group_bytes(f, 64));
    CHECK_EQ(pack_bytes(f, 0, 64), 0);
}

TEST(pack_tables_are_the_levels_plus_zero) {
    const pack_format *iq4 = pack_format_of(DTYPE_IQ4_NL), *fp4 = pack_format_of(DTYPE_MXFP4);
    for (uint32_t i = 0; i < 16; i++) {
        CHECK_EQ((int)iq4->table[i] - (int)iq4->zero, iq4_levels[i]);
        CHECK_EQ((int)fp4->table[i] - (int)fp4->zero, e2m1_levels[i]);
    }
    CHECK(pack_format_of(DTYPE_IQ4_XS)->table == iq4->table);
    CHECK_EQ(pack_format_of(DTYPE_IQ4_XS)->zero, iq4->zero);
}

/* Column c of row j of a panel that begins at column 0. */
static float panel_weight(const pack_panel *p, uint32_t j, uint32_t c) {
    const uint32_t b = c / PACK_BLOCK, v = c % PACK_BLOCK / 4, k = c % 4;
    const size_t part = (size_t)b * p->subs + c % PACK_BLOCK * p->subs / PACK_BLOCK;
    const uint8_t code = p->codes[(((size_t)b * PACK_VECTORS + v) * PACK_ROWS + j) * 4 + k];
    CHECK(code <= p->code_max);
    return fmaf(p->scales[part * PACK_ROWS + j], code, -p->offsets[part * PACK_ROWS + j]);
}

/* Weights of rows that exist must be the same numbers: products of scales and codes are exact in
 * f32 (scales have 19 bits at most, codes 8), so there is one rounding in both.  Rows of the
 * padding are 0. */
static uint32_t count_differences(const prig_matrix *m, const cpu_kernels *k) {
    const uint32_t blocks = m->cols / PACK_BLOCK;
    uint32_t wrong = 0;
    pack_panel p = prig_panel_make(m->f, blocks);
    float *want = prig_memory((size_t)m->cols * sizeof *want);
    for (uint32_t row = 0;
         row < pack_bytes(m->f, m->rows, m->cols) / pack_group_bytes(m->f, m->cols) * PACK_ROWS;
         row++) {
        if (row % PACK_ROWS == 0)
            k->expand(m->f, m->packed + row / PACK_ROWS * pack_group_bytes(m->f, m->cols), 0,
                      blocks, &p);
        memset(want, 0, (size_t)m->cols * sizeof *want);
        if (row < m->rows) dequant_row(m->f->type, m->weights + row * m->row_bytes, want, m->cols);
        for (uint32_t c = 0; c < m->cols; c++)
            wrong += panel_weight(&p, row % PACK_ROWS, c) != want[c];
    }
    free(want);
    prig_panel_free(&p);
    return wrong;
}

TEST(pack_keeps_every_weight) {
    static const uint32_t rows[] = {1, 15, 16, 33}, supers[] = {1, 24};
    cpu_kernels k = {0};
    uint64_t seed = 1;
    cpu_packs_scalar(&k);
    for (uint32_t i = 0; i < PRIG_TYPES * 8; i++) {
        const dtype t = prig_types[i / 8];
        prig_matrix m = prig_matrix_make(t, rows[i % 4], supers[i / 4 % 2], PRIG_FINITE, &seed);
        const uint32_t wrong = count_differences(&m, &k);
        if (wrong > 0) (void)fprintf(stderr, "%s [%u, %u]\n", dtype_name(t), m.rows, m.cols);
        CHECK_EQ(wrong, 0);
        prig_matrix_free(&m);
    }
}

TEST(pack_groups_can_be_packed_apart) {
    uint64_t seed = 2;
    for (uint32_t i = 0; i < PRIG_TYPES; i++) {
        prig_matrix m = prig_matrix_make(prig_types[i], 40, 2, PRIG_ANY, &seed);
        const size_t bytes = pack_group_bytes(m.f, m.cols);
        uint8_t *one = prig_memory(bytes);
        for (uint32_t g = 0; g < 3; g++) {
            pack_groups(m.f, m.weights, m.rows, m.cols, g, 1, one);
            CHECK(memcmp(one, m.packed + g * bytes, bytes) == 0);
        }
        memset(one, 7, bytes);
        pack_groups(m.f, m.weights, m.rows, m.cols, 1, 0, one);
        CHECK(one[0] == 7);
        free(one);
        prig_matrix_free(&m);
    }
}

/* Scales that are no numbers spoil their own weights and nothing else. */
TEST(pack_keeps_codes_of_any_bits) {
    cpu_kernels k = {0};
    uint64_t seed = 3;
    cpu_packs_scalar(&k);
    for (uint32_t i = 0; i < PRIG_TYPES; i++) {
        prig_matrix m = prig_matrix_make(prig_types[i], 16, 2, PRIG_ANY, &seed);
        const uint32_t blocks = m.cols / PACK_BLOCK;
        pack_panel p = prig_panel_make(m.f, blocks);
        memset(m.weights, 0xff, m.row_bytes * m.rows / 2);
        for (int round = 0; round < 2; round++) {
            k.expand(m.f, m.packed, 0, blocks, &p);
            for (size_t c = 0; c < (size_t)blocks * PACK_BLOCK_CODES; c++)
                CHECK(p.codes[c] <= p.code_max);
            pack_groups(m.f, m.weights, m.rows, m.cols, 0, 1, m.packed);
        }
        prig_panel_free(&p);
        prig_matrix_free(&m);
    }
}
