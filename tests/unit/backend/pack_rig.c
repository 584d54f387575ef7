/* pack_rig.c - see pack_rig.h. */
#include "pack_rig.h"

#include <stdlib.h>
#include <string.h>

const dtype prig_types[PRIG_TYPES] = {
    DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q5_0, DTYPE_Q5_1,   DTYPE_Q8_0,   DTYPE_Q2_K,  DTYPE_Q3_K,
    DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K, DTYPE_IQ4_NL, DTYPE_IQ4_XS, DTYPE_MXFP4,
};

uint32_t prig_next(uint64_t *seed) {
    uint64_t x = *seed += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)(x >> 32);
}

/* The sum of 12 uniform numbers has variance 1. */
float prig_normal(uint64_t *seed) {
    float sum = -6;
    for (int i = 0; i < 12; i++) sum += (float)(prig_next(seed) >> 8) * 0x1p-24f;
    return sum;
}

void *prig_memory(size_t bytes) {
    void *p = NULL;
    if (posix_memalign(&p, 64, bytes + (bytes == 0)) != 0) abort();
    memset(p, 0xa5, bytes);
    return p;
}

/* Where the f16 numbers of a block are: one or two from this byte on. */
static uint32_t halves_of(dtype t, size_t *at) {
    *at = t == DTYPE_Q2_K ? 80 : t == DTYPE_Q3_K ? 108 : t == DTYPE_Q6_K ? 208 : 0;
    switch ((int)t) {
    case DTYPE_MXFP4:
        return 0;
    case DTYPE_Q4_1:
    case DTYPE_Q5_1:
    case DTYPE_Q2_K:
    case DTYPE_Q4_K:
    case DTYPE_Q5_K:
        return 2;
    default:
        return 1;
    }
}

static void restrain_block(dtype t, uint8_t *block, prig_scales scales) {
    size_t at = 0;
    const uint32_t halves = halves_of(t, &at);
    for (uint32_t i = 0; i < halves; i++) {
        uint8_t *top = block + at + (size_t)i * 2 + 1; /* sign, exponent, two bits */
        if (scales == PRIG_TAME) *top = (uint8_t)((*top & 0x9f) | 0x20);
        if ((*top & 0x7c) == 0x7c) *top &= 0xbf;
    }
    if (t != DTYPE_MXFP4) return;
    if (scales == PRIG_TAME) block[0] = 121 + block[0] % 8;
    if (block[0] > 250) block[0] -= 250;
}

prig_matrix prig_matrix_make(dtype t, uint32_t rows, uint32_t supers, prig_scales scales,
                             uint64_t *seed) {
    const pack_format *f = pack_format_of(t);
    const dtype_info *info = dtype_get((uint32_t)t);
    prig_matrix m = {.f = f, .rows = rows, .cols = supers * f->super_blocks * PACK_BLOCK};
    m.row_bytes = (size_t)(m.cols / info->block_elems) * info->block_bytes;
    m.weights = malloc(m.row_bytes * rows);
    if (m.weights == NULL) abort();
    for (size_t i = 0; i < m.row_bytes * rows; i++) m.weights[i] = (uint8_t)prig_next(seed);
    for (size_t i = 0; scales != PRIG_ANY && i < m.row_bytes * rows; i += info->block_bytes)
        restrain_block(t, m.weights + i, scales);
    m.packed = prig_memory(pack_bytes(f, rows, m.cols));
    pack_groups(f, m.weights, rows, m.cols, 0, (rows + PACK_ROWS - 1) / PACK_ROWS, m.packed);
    return m;
}

void prig_matrix_free(prig_matrix *m) {
    free(m->weights);
    free(m->packed);
}

pack_panel prig_panel_make(const pack_format *f, uint32_t blocks) {
    const size_t scales = (size_t)blocks * f->subs * PACK_ROWS;
    return (pack_panel){
        .codes = prig_memory((size_t)blocks * PACK_BLOCK_CODES),
        .scales = prig_memory(scales * sizeof(float)),
        .offsets = prig_memory(scales * sizeof(float)),
        .subs = f->subs,
        .code_max = pack_code_max(f),
    };
}

void prig_panel_free(pack_panel *p) {
    free(p->codes);
    free(p->scales);
    free(p->offsets);
}
