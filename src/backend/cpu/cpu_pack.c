/* cpu_pack.c - see cpu_pack.h.  The walk over a matrix. */
#include "backend/cpu/cpu_pack.h"

#include "backend/cpu/cpu_pack_quads.h"
#include "base/assert.h"
#include "base/num.h"

/* tensor/iq_grids.h's levels, plus zero */
static const uint8_t codes_iq4[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                      129, 141, 153, 166, 181, 197, 217, 241};
static const uint8_t codes_e2m1[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

enum { KINDS = DTYPE_ID_END };

#define codes_none NULL

static const pack_format formats[KINDS] = {
#define FORMAT(name, packer, n, t, o, b, table_, form_, zero_, subs_, blocks) \
    [DTYPE_##name] = {.type = DTYPE_##name,                                   \
                      .nibbles = (n),                                         \
                      .twos = (t),                                            \
                      .ones = (o),                                            \
                      .bytes = (b),                                           \
                      .table = codes_##table_,                                \
                      .form = SCALE_##form_,                                  \
                      .zero = (zero_),                                        \
                      .subs = (subs_),                                        \
                      .super_blocks = (blocks),                               \
                      .codes_bytes = PACK_CODES_BYTES(n, t, o, b),            \
                      .super_bytes = (blocks)*PACK_CODES_BYTES(n, t, o, b) + form_##_BYTES},
    PACK_FORMATS(FORMAT)
#undef FORMAT
};

static pack_quad_fn *const packers[KINDS] = {
#define PACKER(name, packer, n, t, o, b, table_, form_, zero_, subs_, blocks) \
    [DTYPE_##name] = pack_##packer,
    PACK_FORMATS(PACKER)
#undef PACKER
};

const pack_format *pack_format_of(dtype t) {
    if ((uint32_t)t >= KINDS || packers[t] == NULL) return NULL;
    return &formats[t];
}

bool pack_fits(dtype t, uint32_t cols) {
    const pack_format *f = pack_format_of(t);
    return f != NULL && cols > 0 && cols % (f->super_blocks * PACK_BLOCK) == 0;
}

size_t pack_group_bytes(const pack_format *f, uint32_t cols) {
    return (size_t)(cols / (f->super_blocks * PACK_BLOCK)) * f->super_bytes;
}

size_t pack_bytes(const pack_format *f, uint32_t rows, uint32_t cols) {
    return num_div_up_u32(rows, PACK_ROWS) * pack_group_bytes(f, cols);
}

/* --- the walk -------------------- */

/* What is packed, as rows of superblocks. */
typedef struct pack_source {
    const uint8_t *weights;
    uint32_t rows;
    size_t row_bytes;
    size_t super_bytes; /* of a row */
} pack_source;

/* Rows behind the last are zeros, the same ones in every superblock. */
static void begin_group(const pack_source *s, size_t group, quad_rows q[QUADS]) {
    static const uint8_t zeros[256];
    ASSERT(s->super_bytes <= sizeof zeros);
    for (uint32_t j = 0; j < PACK_ROWS; j++) {
        const size_t row = group * PACK_ROWS + j;
        const bool exists = row < s->rows;
        quad_rows *of_row = &q[j / QUAD_ROWS];
        of_row->index = j / QUAD_ROWS;
        of_row->at[j % QUAD_ROWS] = exists ? s->weights + row * s->row_bytes : zeros;
        of_row->step[j % QUAD_ROWS] = exists ? s->super_bytes : 0;
    }
}

void pack_groups(const pack_format *f, const void *weights, uint32_t rows, uint32_t cols,
                 uint32_t first, uint32_t count, uint8_t *out) {
    const dtype_info *info = dtype_get((uint32_t)f->type);
    const size_t supers = cols / (f->super_blocks * PACK_BLOCK), end = first + (size_t)count;
    const pack_source s = {
        .weights = weights,
        .rows = rows,
        .row_bytes = supers * info->block_bytes,
        .super_bytes = info->block_bytes,
    };
    ASSERT(pack_fits(f->type, cols) && end <= num_div_up_u32(rows, PACK_ROWS));
    pack_quad_fn *const pack = packers[f->type];
    for (size_t g = first; g < end; g++) {
        quad_rows q[QUADS];
        begin_group(&s, g, q);
        for (size_t i = 0; i < supers; i++, out += f->super_bytes) {
            for (uint32_t k = 0; k < QUADS; k++) {
                pack(&q[k], out);
                for (uint32_t r = 0; r < QUAD_ROWS; r++) q[k].at[r] += q[k].step[r];
            }
        }
    }
}
