/* cuda_planar.c - see cuda_planar.h: forms, sizes, and rows into planes. */
#include "backend/cuda/cuda_planar.h"

#include <string.h>

#include "backend/cuda/cuda_planar_internal.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"
#include "tensor/convert.h"

enum { PLANE_ALIGN = 256, GRANULE = 16, PIECE = 256, PANEL_ROWS = 8 };

/* --- forms -------------------- */

typedef struct form_info {
    const char *name;
    dtype type;
    uint32_t cols_multiple;
    /* quantized: bytes of a row in each plane are cols divided by these */
    uint32_t divisors[CK_PLANES_MAX];
} form_info;

static const form_info forms[CK_FORM_COUNT] = {
    [CK_FORM_F32] = {"F32", DTYPE_F32, 1, {0}},
    [CK_FORM_F16] = {"F16", DTYPE_F16, 1, {0}},
    [CK_FORM_BF16] = {"BF16", DTYPE_BF16, 1, {0}},
    [CK_FORM_Q8_0] = {"Q8_0", DTYPE_Q8_0, 32, {2, 2, 16}},
    [CK_FORM_Q4_0] = {"Q4_0", DTYPE_Q4_0, 32, {2, 16}},
    [CK_FORM_Q4_K] = {"Q4_K", DTYPE_Q4_K, 256, {4, 4, 16}},
    [CK_FORM_Q5_K] = {"Q5_K", DTYPE_Q5_K, 256, {4, 4, 16, 8}},
    [CK_FORM_Q6_K] = {"Q6_K", DTYPE_Q6_K, 256, {4, 4, 4, 16, 128}},
};

static bool is_float(ck_form form) { return form <= CK_FORM_BF16; }

static uint32_t element_bytes(ck_form form) { return form == CK_FORM_F32 ? 4 : 2; }

const char *cuda_form_name(ck_form form) {
    return (uint32_t)form < CK_FORM_COUNT ? forms[form].name : "?";
}

const char *cuda_conversion_name(cuda_conversion c) {
    static const char *const names[] = {"as stored", "converted exactly", "rounded"};
    return (uint32_t)c <= CUDA_ROUNDED ? names[c] : "?";
}

dtype cuda_planar_type(ck_form form) { return forms[form].type; }

/* --- which form a type gets -------------------- */

/* Every Q8_0 here has a scale in f16 and whole numbers of seven bits; NVFP4 has elements of six
 * bits, all in the range of f16.  The rest needs more than a form has. */
bool cuda_planar_form(dtype t, ck_form *out) {
    const dtype_info *info = dtype_get((uint32_t)t);
    if (info == NULL || info->is_integer) return false;
    *out = CK_FORM_F16;
    for (uint32_t f = 0; f < CK_FORM_COUNT; f++)
        if (forms[f].type == t) *out = (ck_form)f;
    switch (t) {
    case DTYPE_F64:
        *out = CK_FORM_F32;
        break;
    case DTYPE_Q3_K:
        *out = CK_FORM_Q6_K;
        break;
    case DTYPE_Q5_0:
    case DTYPE_Q8_1:
    case DTYPE_IQ4_NL:
    case DTYPE_MXFP4:
    case DTYPE_Q1_0:
    case DTYPE_Q2_0:
    case DTYPE_TQ1_0:
    case DTYPE_TQ2_0:
        *out = CK_FORM_Q8_0;
        break;
    default:
        break;
    }
    return true;
}

static cuda_conversion conversion_to(ck_form form, dtype t) {
    if (forms[form].type == t) return CUDA_AS_STORED;
    if (!is_float(form) || t == DTYPE_NVFP4) return CUDA_EXACT;
    return form == CK_FORM_F32 && t != DTYPE_F64 ? CUDA_EXACT : CUDA_ROUNDED;
}

cuda_conversion cuda_planar_conversion(dtype t) {
    ck_form form = CK_FORM_F16;
    return cuda_planar_form(t, &form) ? conversion_to(form, t) : CUDA_ROUNDED;
}

bool cuda_planar_cols_fit(ck_form form, uint32_t cols) {
    return cols != 0 && cols % forms[form].cols_multiple == 0;
}

ck_form cuda_planar_choose(const weight *w, cuda_conversion *how) {
    ck_form form = CK_FORM_F16;
    cuda_conversion made = CUDA_ROUNDED;
    const bool known = w->packed != NULL || cuda_planar_form(w->type, &form);
    ASSERT(known);
    if (w->packed == NULL && !cuda_planar_cols_fit(form, w->cols)) form = CK_FORM_F16;
    const bool stored = w->packed == NULL && forms[form].type == w->type;
    const bool mxfp4 = w->packed == NULL && w->type == DTYPE_MXFP4;
    if (!stored && (form == CK_FORM_F16 || mxfp4) && cuda_convert_needs_f32(w)) form = CK_FORM_F32;
    if (w->packed == NULL) made = conversion_to(form, w->type);
    if (mxfp4 && form == CK_FORM_Q8_0 && !cuda_convert_mxfp4_is_exact(w)) made = CUDA_ROUNDED;
    if (w->packed != NULL && form == CK_FORM_F32) made = CUDA_EXACT;
    if (how != NULL) *how = made;
    return form;
}

/* --- sizes -------------------- */

void cuda_planar_row_bytes(ck_form form, uint32_t cols, uint64_t out[CK_PLANES_MAX]) {
    for (uint32_t p = 0; p < CK_PLANES_MAX; p++) {
        const uint32_t divisor = forms[form].divisors[p];
        out[p] = divisor != 0 ? cols / divisor : 0;
    }
    if (is_float(form))
        out[0] = ((uint64_t)cols * element_bytes(form) + GRANULE - 1) / GRANULE * GRANULE;
}

bool cuda_planar_sizes(ck_form form, uint32_t rows, uint32_t cols, uint64_t offsets[CK_PLANES_MAX],
                       uint64_t *bytes) {
    if (!cuda_planar_cols_fit(form, cols)) return false;
    uint64_t row_bytes[CK_PLANES_MAX], at[CK_PLANES_MAX], end = 0;
    cuda_planar_row_bytes(form, cols, row_bytes);
    if (row_bytes[0] / GRANULE * rows > UINT32_MAX) return false;
    for (uint32_t p = 0; p < CK_PLANES_MAX; p++) {
        uint64_t plane = 0;
        at[p] = end;
        if (!num_mul_u64(&plane, row_bytes[p], rows)) return false;
        if (!num_add_u64(&plane, plane, PLANE_ALIGN - 1)) return false;
        if (!num_add_u64(&end, end, plane / PLANE_ALIGN * PLANE_ALIGN)) return false;
    }
    memcpy(offsets, at, sizeof at);
    *bytes = end;
    return true;
}

/* --- rows into planes: floats -------------------- */

static void put_floats(ck_form form, const float *values, uint32_t count, uint8_t *out) {
    if (form == CK_FORM_F32) {
        memcpy(out, values, (size_t)count * sizeof *values);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint16_t half = convert_f32_to_f16(values[i]);
        memcpy(out + (size_t)i * sizeof half, &half, sizeof half);
    }
}

/* One row; `out` has room for it and its padding. */
static void pack_float_row(ck_form form, const weight *w, const uint8_t *row, uint8_t *out,
                           uint64_t row_bytes) {
    const uint32_t size = element_bytes(form);
    const uint64_t filled = (uint64_t)w->cols * size;
    memset(out + filled, 0, row_bytes - filled);
    if (forms[form].type == w->type) {
        memcpy(out, row, filled);
        return;
    }
    ASSERT(form != CK_FORM_BF16);
    const dtype_info *info = dtype_get((uint32_t)w->type);
    float piece[PIECE];
    for (uint32_t done = 0; done < w->cols; done += PIECE) {
        const uint32_t count = num_min_u32(w->cols - done, PIECE);
        const uint8_t *from = row + (uint64_t)(done / info->block_elems) * info->block_bytes;
        dequant_row(w->type, from, piece, count);
        put_floats(form, piece, count, out + (uint64_t)done * size);
    }
}

static status pack_packed(ck_form form, const weight *w, uint32_t row0, uint32_t rows, uint8_t *out,
                          error *err) {
    uint64_t row_bytes[CK_PLANES_MAX];
    cuda_planar_row_bytes(form, w->cols, row_bytes);
    size_t bytes = 0;
    float *panel = NULL;
    if (num_mul_size(&bytes, w->cols, sizeof(float) * PANEL_ROWS)) panel = mem_try_alloc(bytes);
    if (panel == NULL)
        return error_set(err, ERR_NOMEM, "cuda: no memory for %u rows of '%.*s' with %u columns",
                         (unsigned)PANEL_ROWS, STR(w->name), w->cols);
    memset(out, 0, rows * row_bytes[0]);
    for (uint32_t done = 0; done < rows;) {
        const uint32_t row = w->row0 + row0 + done;
        const uint32_t count = num_min_u32(rows - done, PANEL_ROWS - row % PANEL_ROWS);
        packed_rows(w->packed, row, count, panel);
        for (uint32_t r = 0; r < count; r++)
            put_floats(form, panel + (size_t)r * w->cols, w->cols, out + (done + r) * row_bytes[0]);
        done += count;
    }
    mem_free(panel);
    return OK;
}

/* --- rows into planes: blocks -------------------- */

static void pack_blocks(ck_form form, const weight *w, uint32_t row0, uint32_t rows,
                        uint8_t *const planes[CK_PLANES_MAX]) {
    const cuda_bits bits = cuda_bits_of(form);
    const dtype_info *from = dtype_get((uint32_t)w->type);
    const dtype_info *to = dtype_get((uint32_t)forms[form].type);
    const uint64_t blocks = w->cols / from->block_elems;
    const uint8_t *block = (const uint8_t *)w->data + row0 * blocks * from->block_bytes;
    uint64_t index = 0;
    for (uint64_t i = 0; i < rows * blocks; i++, block += from->block_bytes) {
        if (from == to) {
            bits.put(block, planes, index++);
            continue;
        }
        uint8_t made[CUDA_CONVERT_BYTES_MAX];
        const uint32_t count = cuda_convert_block(w->type, block, made);
        for (uint32_t k = 0; k < count; k++)
            bits.put(made + (size_t)k * to->block_bytes, planes, index++);
    }
}

status cuda_planar_pack(ck_form form, const weight *w, uint32_t row0, uint32_t rows,
                        void *const plane_out[CK_PLANES_MAX], error *err) {
    ASSERT(cuda_planar_cols_fit(form, w->cols));
    ASSERT(row0 <= w->rows && rows <= w->rows - row0);
    uint8_t *planes[CK_PLANES_MAX];
    for (uint32_t p = 0; p < CK_PLANES_MAX; p++) planes[p] = plane_out[p];
    if (w->packed != NULL) return pack_packed(form, w, row0, rows, planes[0], err);
    if (!is_float(form)) {
        pack_blocks(form, w, row0, rows, planes);
        return OK;
    }
    const dtype_info *from = dtype_get((uint32_t)w->type);
    const uint64_t stored = (uint64_t)(w->cols / from->block_elems) * from->block_bytes;
    uint64_t row_bytes[CK_PLANES_MAX];
    cuda_planar_row_bytes(form, w->cols, row_bytes);
    for (uint64_t r = 0; r < rows; r++)
        pack_float_row(form, w, (const uint8_t *)w->data + (row0 + r) * stored,
                       planes[0] + r * row_bytes[0], row_bytes[0]);
    return OK;
}

/* --- and back -------------------- */

void cuda_planar_unpack(ck_form form, uint32_t cols, uint32_t rows,
                        const void *const planes[CK_PLANES_MAX], void *rows_out) {
    uint8_t *out = rows_out;
    if (is_float(form)) {
        const uint64_t filled = (uint64_t)cols * element_bytes(form);
        uint64_t row_bytes[CK_PLANES_MAX];
        cuda_planar_row_bytes(form, cols, row_bytes);
        for (uint64_t r = 0; r < rows; r++, out += filled)
            memcpy(out, (const uint8_t *)planes[0] + r * row_bytes[0], filled);
        return;
    }
    const uint8_t *from[CK_PLANES_MAX];
    for (uint32_t p = 0; p < CK_PLANES_MAX; p++) from[p] = planes[p];
    const dtype_info *info = dtype_get((uint32_t)forms[form].type);
    const cuda_bits bits = cuda_bits_of(form);
    const uint64_t blocks = (uint64_t)rows * (cols / info->block_elems);
    for (uint64_t i = 0; i < blocks; i++, out += info->block_bytes) bits.get(out, from, i);
}
