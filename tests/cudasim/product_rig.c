/* product_rig.c - see product_rig.h. */
#include "cudasim/product_rig.h"

#include <math.h>
#include <string.h>

#include "backend/cuda/cuda_planar.h"
#include "cudasim/rig.h"
#include "model/synth_internal.h"
#include "tensor/convert.h"
#include "test.h"

const product_form product_forms[PRODUCT_FORMS] = {
    {"f32", DTYPE_F32, CK_FORM_F32, {1, 7, 8, 9, 63, 100, 576, 2048}},
    {"f16", DTYPE_F16, CK_FORM_F16, {1, 7, 8, 9, 63, 100, 576, 2048}},
    {"bf16", DTYPE_BF16, CK_FORM_BF16, {1, 7, 8, 9, 63, 100, 576, 2048}},
    {"q8_0", DTYPE_Q8_0, CK_FORM_Q8_0, {32, 96, 288, 1056, 2048, 4096, 5632}},
    {"q4_0", DTYPE_Q4_0, CK_FORM_Q4_0, {32, 96, 288, 1056, 2048, 4096, 5632}},
    {"q4_k", DTYPE_Q4_K, CK_FORM_Q4_K, {256, 768, 2048, 2304, 4096, 5632}},
    {"q5_k", DTYPE_Q5_K, CK_FORM_Q5_K, {256, 768, 2048, 2304, 4096, 5632}},
    {"q6_k", DTYPE_Q6_K, CK_FORM_Q6_K, {256, 768, 2048, 2304, 4096, 5632}},
};

bool product_is_float(ck_form form) { return form <= CK_FORM_BF16; }

char *product_kernel(const char *kind, const char *form, const char *tail) {
    static char name[32];
    (void)snprintf(name, sizeof name, "k_%s_%s%s", kind, form, tail);
    return name;
}

/* --- weights -------------------- */

product_weight product_weight_put(weight w) {
    product_weight g = {.w = w, .form = cuda_planar_choose(&w, NULL)};
    void *planes[CK_PLANES_MAX];
    cuda_planar_row_bytes(g.form, w.cols, g.row_bytes);
    g.on_device = (ck_matrix){.rows = w.rows, .cols = w.cols, .form = g.form};
    for (uint32_t p = 0; p < CK_PLANES_MAX; p++) {
        planes[p] = rig_buffer(g.row_bytes[p] * w.rows);
        g.on_device.plane[p] = rig_at(planes[p]);
    }
    CHECK_EQ(cuda_planar_pack(g.form, &w, 0, w.rows, planes, NULL), OK);
    return g;
}

product_weight product_weight_make(dtype t, uint32_t rows, uint32_t cols) {
    uint64_t row_bytes = 0;
    CHECK(dtype_row_bytes(t, cols, &row_bytes));
    uint8_t *data = rig_buffer(row_bytes * rows);
    const uint32_t seed = rig_random(1 << 20);
    const float sigma = 1.0f / sqrtf((float)cols);
    for (uint32_t r = 0; r < rows; r++)
        synth_fill_row(t, seed, r, sigma, cols, data + r * row_bytes);
    return product_weight_put((weight){.type = t, .rows = rows, .cols = cols, .data = data});
}

uint64_t product_weight_bytes(const product_weight *g) {
    uint64_t sum = 0;
    for (uint32_t p = 0; p < CK_PLANES_MAX; p++) sum += g->row_bytes[p] * g->w.rows;
    return sum;
}

product_weight product_weight_extreme(const product_form *f) {
    static const uint8_t d[4] = {0x00, 0x14, 0x00, 0x10};
    enum { COLS = 2048 };
    uint64_t stored = 0;
    (void)dtype_row_bytes(f->type, COLS, &stored);
    uint8_t *data = rig_buffer(stored);
    const dtype_info *info = dtype_get((uint32_t)f->type);
    memset(data, f->type == DTYPE_Q8_0 ? 0x80 : f->type == DTYPE_Q6_K ? 0x00 : 0xff, stored);
    for (uint64_t b = 0; b < stored; b += info->block_bytes) {
        if (f->type == DTYPE_Q6_K) memset(data + b + 192, 0x80, 16); /* scales of -128 */
        const uint32_t factors = f->type == DTYPE_Q4_K || f->type == DTYPE_Q5_K ? 4 : 2;
        memcpy(data + b + (f->type == DTYPE_Q6_K ? 208 : 0), d, factors);
    }
    return product_weight_put((weight){.type = f->type, .rows = 1, .cols = COLS, .data = data});
}

void product_weight_row(const product_weight *g, uint32_t row, float *out) {
    uint64_t stored = 0;
    (void)dtype_row_bytes(g->w.type, g->w.cols, &stored);
    dequant_row(g->w.type, (const uint8_t *)g->w.data + row * stored, out, g->w.cols);
}

/* --- activations -------------------- */

product_x product_x_make(ck_form form, uint32_t rows, uint32_t cols) {
    const size_t n = (size_t)rows * cols;
    product_x x = {.values = rig_buffer(n * sizeof(float))};
    if (product_is_float(form)) {
        rig_fill(x.values, n, 2.0f);
        return x;
    }
    x.codes = rig_buffer(n);
    x.sums = rig_buffer(n / PRODUCT_BLOCK * sizeof(ck_sums));
    for (size_t i = 0; i < n; i++) x.codes[i] = (int8_t)((int)rig_random(255) - 127);
    for (size_t b = 0; b < n / PRODUCT_BLOCK; b++) {
        ck_sums s = {.d = (float)(1 + rig_random(1000)) * 1e-5f};
        for (uint32_t k = 0; k < 16; k++) {
            s.lo = (int16_t)(s.lo + x.codes[b * PRODUCT_BLOCK + k]);
            s.hi = (int16_t)(s.hi + x.codes[b * PRODUCT_BLOCK + 16 + k]);
        }
        x.sums[b] = s;
        for (uint32_t k = 0; k < PRODUCT_BLOCK; k++)
            x.values[b * PRODUCT_BLOCK + k] = s.d * (float)x.codes[b * PRODUCT_BLOCK + k];
    }
    return x;
}

product_x product_x_extreme(ck_form form) {
    enum { COLS = 2048 };
    const product_x x = product_x_make(form, 2, COLS);
    memset(x.codes, 127, COLS);
    memset(x.codes + COLS, -127, COLS);
    for (uint32_t b = 0; b < 2 * COLS / PRODUCT_BLOCK; b++) {
        const int16_t half = b < COLS / PRODUCT_BLOCK ? 16 * 127 : -16 * 127;
        x.sums[b] = (ck_sums){0.001f, half, half};
    }
    return x;
}

uint64_t product_x_at(const product_x *x) {
    return rig_at(x->codes != NULL ? (void *)x->codes : x->values);
}

void product_x_spoil(ck_form form, product_x *x, uint32_t row, uint32_t cols) {
    for (uint32_t c = 0; c < cols; c++) x->values[(size_t)row * cols + c] = NAN;
    for (uint32_t b = 0; !product_is_float(form) && b < cols / PRODUCT_BLOCK; b++)
        x->sums[(size_t)row * (cols / PRODUCT_BLOCK) + b].d = NAN;
}

/* --- on tensor cores -------------------- */

bool product_has_gemm(int arch, const product_form *f) {
    return f->form != CK_FORM_F32 && (f->form != CK_FORM_BF16 || arch >= 800);
}

float product_x_rounded(ck_form form, float x) {
    if (form == CK_FORM_F16) return convert_f16_to_f32(convert_f32_to_f16(x));
    return form == CK_FORM_BF16 ? convert_bf16_to_f32(convert_f32_to_bf16(x)) : x;
}

/* Bytes that the two threads of a row both ask for: scales of a block of Q4_K and Q5_K, fifth bits,
 * upper pairs and the factor of Q6_K. */
static uint64_t bytes_asked_again(ck_form form, uint64_t elements) {
    if (form == CK_FORM_Q4_K) return elements / 256 * 16;
    if (form == CK_FORM_Q5_K) return elements / 256 * 16 + elements / 64 * 8;
    return form == CK_FORM_Q6_K ? elements / 64 * 16 + elements / 256 * 2 : 0;
}

uint64_t product_gemm_bytes(const product_weight *g) {
    return product_weight_bytes(g) + bytes_asked_again(g->form, (uint64_t)g->w.rows * g->w.cols);
}

/* The 16 bytes of scales of a block of Q4_K and Q5_K, and the factor of one of Q6_K, are asked for
 * by its four groups. */
uint64_t product_skinny_bytes(const product_weight *g) {
    const uint64_t elements = (uint64_t)g->w.rows * g->w.cols, bytes = product_weight_bytes(g);
    if (g->form == CK_FORM_Q4_K || g->form == CK_FORM_Q5_K) return bytes + elements / 256 * 48;
    return g->form == CK_FORM_Q6_K ? bytes + elements / 256 * 6 : bytes;
}

/* m16n8k16, but for codes with one scale: m16n8k32. */
uint64_t product_gemm_k(ck_form form) {
    return product_is_float(form) || form == CK_FORM_Q6_K ? 16 : 32;
}

/* --- truth -------------------- */

/* Elements of w as the stored type has them, and x . w of one row each in double. */
void product_check_row(const product_weight *g, const product_x *x, uint32_t x_row,
                       const float *extra, const float *out, const char *what) {
    static float w[PRODUCT_COLS_MAX];
    const uint32_t cols = g->w.cols;
    for (uint32_t r = 0; r < g->w.rows; r++) {
        product_weight_row(g, r, w);
        double sum = 0.0, all = 0.0;
        for (uint32_t c = 0; c < cols; c++) {
            const size_t at = (size_t)x_row * cols + c;
            const double v = x->codes == NULL
                                 ? (double)x->values[at]
                                 : (double)x->sums[at / PRODUCT_BLOCK].d * x->codes[at];
            sum += (double)w[c] * v;
            all += fabs((double)w[c] * v);
        }
        const double off = fabs((double)out[r] - (sum + (double)extra[r]));
        if (off <= PRODUCT_ERROR_MAX * (all + fabs((double)extra[r]))) continue;
        CHECK(!"a product is what its terms add up to");
        (void)fprintf(stderr, "%s: [%u, %u], row %u of x, row %u: %.9g, want %.9g\n", what,
                      g->w.rows, cols, x_row, r, (double)out[r], sum + (double)extra[r]);
        return;
    }
}
