/* cpu_bf16_products.c - products of prompt rows through panels of bf16 (cpu_bf16.h).
 *
 * The panel of a unit's weight rows is made once; the activation rows go by in blocks.
 *   scratch:  | panel [groups] bf16 | codes of some blocks, if packed | out [rows][lanes] |
 */
#include "backend/cpu/cpu_internal.h"
#include "base/assert.h"

_Static_assert(MATMUL_ROWS_MAX == BF16_GROUPS * PACK_ROWS, "a unit is one panel");

enum {
    CODE_BLOCKS = 8,
    CODES_FLOATS = CODE_BLOCKS * PACK_BLOCK_CODES / (int)sizeof(float),
    SCALES_FLOATS = CODE_BLOCKS * 2 * PACK_ROWS,
    ALIGN_FLOATS = 16
};

bool cpu_bf16_takes(const bf16_kernels *k, const weight *w) {
    if (k == NULL || w->data == NULL || w->packed != NULL || w->cols % BF16_COLS != 0) return false;
    /* F32 stays exact: small matrices that decide, like those of routers */
    if (w->type == DTYPE_F16 || w->type == DTYPE_BF16) return true;
    return k->takes_packed && cpu_weight_packs(w);
}

static size_t panel_floats(const weight *w) { return (size_t)MATMUL_ROWS_MAX * w->cols / 2; }

static size_t unpacked_floats(const weight *w) {
    return cpu_weight_packs(w) ? CODES_FLOATS + 2 * SCALES_FLOATS : 0;
}

size_t cpu_bf16_floats(const weight *w) {
    return num_align_size(panel_floats(w), ALIGN_FLOATS) +
           num_align_size(unpacked_floats(w), ALIGN_FLOATS) + (size_t)BF16_ROWS * MATMUL_ROWS_MAX;
}

static void group_of_codes(const backend *b, const pack_matrix *m, uint32_t group, float *scratch,
                           uint16_t *out) {
    const uint32_t blocks = m->w->cols / PACK_BLOCK;
    float *scales = scratch + CODES_FLOATS;
    pack_panel codes = {.codes = (uint8_t *)scratch,
                        .scales = scales,
                        .offsets = scales + SCALES_FLOATS,
                        .subs = m->format->subs,
                        .code_max = pack_code_max(m->format)};
    for (uint32_t at = 0; at < blocks; at += CODE_BLOCKS) {
        const uint32_t n = num_min_u32(CODE_BLOCKS, blocks - at);
        b->k->expand(m->format, m->groups + group * m->group_bytes, at, n, &codes);
        b->bf16->from_codes(&codes, n, out + (size_t)at * PACK_BLOCK * PACK_ROWS);
    }
}

static void group_of_rows(const backend *b, const weight *w, uint32_t row, uint32_t rows,
                          uint16_t *out) {
    const uint16_t *from = (const uint16_t *)w->data + (size_t)row * w->cols;
    b->bf16->from_rows(w->type, from, rows, w->cols, out);
}

/* Where the results of a block of rows go. */
static void store(const float *sums, uint32_t lanes, const matmul_args *to, uint32_t r0,
                  uint32_t count, uint32_t rows) {
    for (uint32_t r = 0; r < count; r++, sums += lanes) {
        const size_t at = (size_t)(r0 + r) * to->out_cols;
        for (uint32_t j = 0; j < rows; j++) {
            const float v = to->bias != NULL ? sums[j] + to->bias[j] : sums[j];
            to->out[at + j] = to->add != NULL ? to->add[at + j] + v : v;
        }
    }
}

void cpu_bf16_multiply(const backend *b, const op *o, const matmul_args *to, uint32_t row0,
                       uint32_t rows, uint32_t r0, uint32_t count, float *scratch) {
    const weight *w = &o->w;
    const pack_matrix *packed = pack_of(&b->packs, op_idx_of(b, o), 0);
    const uint32_t groups = num_div_up_u32(rows, PACK_ROWS);
    uint16_t *panel = (uint16_t *)scratch;
    float *unpacked = scratch + num_align_size(panel_floats(w), ALIGN_FLOATS);
    float *sums = unpacked + num_align_size(unpacked_floats(w), ALIGN_FLOATS);
    DASSERT(row0 % PACK_ROWS == 0 && groups <= BF16_GROUPS);
    for (uint32_t g = 0; g < groups; g++) {
        uint16_t *out = panel + (size_t)g * PACK_ROWS * w->cols;
        const uint32_t row = g * PACK_ROWS;
        if (packed != NULL)
            group_of_codes(b, packed, row0 / PACK_ROWS + g, unpacked, out);
        else
            group_of_rows(b, w, row0 + row, num_min_u32(PACK_ROWS, rows - row), out);
    }
    for (uint32_t r = r0; r < r0 + count; r += BF16_ROWS) {
        const uint32_t n = num_min_u32(BF16_ROWS, r0 + count - r);
        b->bf16->multiply(&(bf16_args){.panel = panel,
                                       .groups = groups,
                                       .cols = w->cols,
                                       .x = b->rounded + value_at(b, o->in[0], r),
                                       .x_stride = w->cols,
                                       .rows = n,
                                       .out = sums,
                                       .out_stride = (size_t)groups * PACK_ROWS});
        store(sums, groups * PACK_ROWS, to, r, n, rows);
    }
}
