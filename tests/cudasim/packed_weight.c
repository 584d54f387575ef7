/* packed_weight.c - see packed_weight.h. */
#include "cudasim/packed_weight.h"

#include "backend/cuda/cuda_planar.h"
#include "cudasim/rig.h"
#include "tensor/quant.h"
#include "test.h"

const dtype packed_types[PACKED_TYPES] = {DTYPE_F32,  DTYPE_F16,  DTYPE_BF16, DTYPE_Q8_0,
                                          DTYPE_Q4_0, DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K};

packed_weight packed_weight_random(dtype type, uint32_t rows, uint32_t cols, float scale) {
    uint64_t row_bytes = 0, offsets[CK_PLANES_MAX], bytes = 0;
    CHECK(dtype_row_bytes(type, cols, &row_bytes));
    unsigned char *stored = rig_buffer(row_bytes * rows);
    float *row = rig_buffer(cols * sizeof *row);
    for (uint32_t r = 0; r < rows; r++) {
        rig_fill(row, cols, scale);
        quant_row(type, row, NULL, stored + r * row_bytes, cols);
    }
    packed_weight p = {.stored = {.type = type, .rows = rows, .cols = cols, .data = stored},
                       .matrix = {.rows = rows, .cols = cols}};
    ck_form form = CK_FORM_F32;
    CHECK(cuda_planar_form(type, &form));
    CHECK(cuda_planar_sizes(form, rows, cols, offsets, &bytes));
    unsigned char *planes = rig_buffer(bytes);
    void *at[CK_PLANES_MAX];
    p.matrix.form = form;
    for (uint32_t i = 0; i < CK_PLANES_MAX; i++) {
        at[i] = planes + offsets[i];
        p.matrix.plane[i] = rig_at(at[i]);
    }
    CHECK_EQ(cuda_planar_pack(form, &p.stored, 0, rows, at, NULL), OK);
    return p;
}
