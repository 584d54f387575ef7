/* linear.c - y = x W^T and its gradients: three products of the same matrices. */
#include "train/gemm.h"
#include "train/layers.h"

void linear_forward(const crew *c, const float *x, const float *w, float *y, uint32_t n,
                    uint32_t in, uint32_t out, bool add) {
    const gemm g = {.m = n,
                    .n = out,
                    .k = in,
                    .a = matrix_of(x, in),
                    .b = matrix_transposed(w, in),
                    .c = y,
                    .ldc = out,
                    .add = add};
    gemm_shared(c->kern, &g, c->pool);
}

void linear_backward_input(const crew *c, const float *dy, const float *w, float *dx, uint32_t n,
                           uint32_t in, uint32_t out, bool add) {
    const gemm g = {.m = n,
                    .n = in,
                    .k = out,
                    .a = matrix_of(dy, out),
                    .b = matrix_of(w, in),
                    .c = dx,
                    .ldc = in,
                    .add = add};
    gemm_shared(c->kern, &g, c->pool);
}

void linear_backward_weight(const crew *c, const float *dy, const float *x, float *dw, uint32_t n,
                            uint32_t in, uint32_t out) {
    const gemm g = {.m = out,
                    .n = in,
                    .k = n,
                    .a = matrix_transposed(dy, out),
                    .b = matrix_of(x, in),
                    .c = dw,
                    .ldc = in,
                    .add = true};
    gemm_shared(c->kern, &g, c->pool);
}
