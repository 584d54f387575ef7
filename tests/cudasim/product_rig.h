/* product_rig.h - what the tests of products share: weights of every form, activations as kernels
 * read them, and the truth: sums in double over the elements of the stored rows and of the
 * activations. */
#ifndef CUDASIM_PRODUCT_RIG_H
#define CUDASIM_PRODUCT_RIG_H

#include <stdbool.h>

#include "abi.h"
#include "backend/program.h"

enum { PRODUCT_BLOCK = 32, PRODUCT_COLS_MAX = 5632, PRODUCT_FORMS = CK_FORM_COUNT };

/* Of the sum of the magnitudes of all terms: f32 sums of up to 180 groups, and the rounding of each
 * group. */
static const double PRODUCT_ERROR_MAX = 1e-6;

typedef struct product_form {
    const char *name; /* in kernel names */
    dtype type;
    ck_form form;
    uint32_t cols[8]; /* to try; 0 ends it */
} product_form;

extern const product_form product_forms[PRODUCT_FORMS]; /* by ck_form */

bool product_is_float(ck_form form);

/* "k_gemv_q8_0_n1" of "gemv", "q8_0", "_n1"; until the next call. */
char *product_kernel(const char *kind, const char *form, const char *tail);

/* --- weights: in buffers of the rig -------------------- */

typedef struct product_weight {
    weight w;
    ck_form form;
    uint64_t row_bytes[CK_PLANES_MAX];
    ck_matrix on_device;
} product_weight;

/* Each plane is a buffer of its own: reading past a plane's end is a fault. */
product_weight product_weight_put(weight w);
/* Random, of variance 1 / cols. */
product_weight product_weight_make(dtype t, uint32_t rows, uint32_t cols);
/* Of a quantized form, one row of 2048: codes, scales and minima at the ends of their ranges. */
product_weight product_weight_extreme(const product_form *f);
/* Bytes of all planes. */
uint64_t product_weight_bytes(const product_weight *g);
/* The elements of a row as the stored type has them: out [cols]. */
void product_weight_row(const product_weight *g, uint32_t row, float *out);

/* --- activations -------------------- */

typedef struct product_x {
    float *values; /* [rows, cols] what codes and sums stand for, or the f32 itself */
    int8_t *codes;
    ck_sums *sums;
} product_x;

product_x product_x_make(ck_form form, uint32_t rows, uint32_t cols);
/* Two rows of 2048: all codes 127, all codes -127. */
product_x product_x_extreme(ck_form form);
uint64_t product_x_at(const product_x *x);
/* A row that nobody may read becomes NaN. */
void product_x_spoil(ck_form form, product_x *x, uint32_t row, uint32_t cols);

/* --- on tensor cores -------------------- */

/* Has this code path k_gemm_* and k_gemm_experts_* of the form? */
bool product_has_gemm(int arch, const product_form *f);
/* What they multiply with instead of x. */
float product_x_rounded(ck_form form, float x);
/* What they read of a matrix of whole tiles for a tile of x; columns that an MMA from code path 800
 * on multiplies. */
uint64_t product_gemm_bytes(const product_weight *g);
uint64_t product_gemm_k(ck_form form);
/* What lanes ask for of a matrix in kernels for some rows, for a tile of x. */
uint64_t product_skinny_bytes(const product_weight *g);

/* --- truth -------------------- */

/* Fails unless out [w.rows] is the product with row x_row of x, plus extra [w.rows]. */
void product_check_row(const product_weight *g, const product_x *x, uint32_t x_row,
                       const float *extra, const float *out, const char *what);

#endif
