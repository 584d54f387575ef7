/* test_train_kernels.c - the inner loops: right against double precision, and the same bits for
 * every instruction set, cut and number of threads. */
#include "train/gemm.h"
#include "train_rig.h"

static const char *const NAMES[] = {"plain", "avx2", "avx512"};
enum { NAMES_COUNT = sizeof NAMES / sizeof *NAMES };

/* --- products ---------------------------------------------------------------------------- */

typedef struct product {
    uint32_t m, n, k;
    bool a_turned, b_turned, add;
} product;

static const product PRODUCTS[] = {
    {1, 1, 1, false, false, false},   {3, 5, 7, false, true, false},
    {8, 32, 16, true, false, true},   {9, 33, 17, true, true, true},
    {64, 48, 300, false, true, true}, {200, 70, 31, false, false, false},
    {31, 520, 5, true, false, false}, {96, 64, 512, false, true, false},
};
enum { PRODUCTS_COUNT = sizeof PRODUCTS / sizeof *PRODUCTS };

static gemm gemm_of(const product *p, const float *a, const float *b, float *c) {
    return (gemm){.m = p->m,
                  .n = p->n,
                  .k = p->k,
                  .a = p->a_turned ? matrix_transposed(a, p->m) : matrix_of(a, p->k),
                  .b = p->b_turned ? matrix_transposed(b, p->k) : matrix_of(b, p->n),
                  .c = c,
                  .ldc = p->n,
                  .add = p->add};
}

/* c [m, n] of random content, multiplied into. */
static float *multiply(const product *p, const char *name, uint32_t threads, const float *a,
                       const float *b) {
    float *c = rig_random(3, (size_t)p->m * p->n);
    const gemm g = gemm_of(p, a, b, c);
    crew w = rig_crew(name, threads);
    gemm_shared(w.kern, &g, w.pool);
    pool_destroy(w.pool);
    return c;
}

/* Largest difference from a sum in double precision. */
static double product_error(const product *p, const float *a, const float *b, const float *c) {
    float *before = rig_random(3, (size_t)p->m * p->n);
    const gemm g = gemm_of(p, a, b, before);
    double worst = 0;
    for (size_t i = 0; i < p->m; i++)
        for (size_t j = 0; j < p->n; j++) {
            double sum = p->add ? (double)before[i * p->n + j] : 0;
            for (size_t k = 0; k < p->k; k++)
                sum += (double)g.a.p[i * g.a.row + k * g.a.col] *
                       (double)g.b.p[k * g.b.row + j * g.b.col];
            worst = fmax(worst, fabs(sum - (double)c[i * p->n + j]));
        }
    mem_free(before);
    return worst;
}

TEST(train_products_are_right_and_the_same_bits_everywhere) {
    for (size_t i = 0; i < PRODUCTS_COUNT; i++) {
        const product *p = &PRODUCTS[i];
        float *a = rig_random(1, (size_t)p->m * p->k), *b = rig_random(2, (size_t)p->n * p->k);
        float *first = multiply(p, "plain", 1, a, b);
        CHECK(product_error(p, a, b, first) < 2e-6 * (double)p->k + 1e-5);
        for (size_t n = 0; n < NAMES_COUNT; n++) {
            if (kernels_find(NAMES[n]) == NULL) continue;
            float *c = multiply(p, NAMES[n], 1 + (uint32_t)n, a, b);
            CHECK(memcmp(c, first, (size_t)p->m * p->n * sizeof *c) == 0);
            mem_free(c);
        }
        mem_free(a);
        mem_free(b);
        mem_free(first);
    }
}

/* --- rows -------------------------------------------------------------------------------- */

enum { ROW_MAX = 70 };

/* All row operations one after the other over rows of n; what they leave goes to `out`. */
static void run_rows(const kernels *k, uint32_t n, float out[6 * ROW_MAX + 4]) {
    float *x = rig_random(4, ROW_MAX), *y = rig_random(5, ROW_MAX), *z = rig_random(6, ROW_MAX);
    float *at = out;
    float max = 0, sum = 0, inv = 0;
    memset(out, 0, (6 * ROW_MAX + 4) * sizeof *out);
    memcpy(at, x, n * sizeof *at);
    k->exp_row(at, n, 0.7f, &max, &sum);
    at += n;
    memcpy(at, x, n * sizeof *at);
    k->exp_row_again(at, n, 0.7f, max, 1.0f / sum);
    memcpy(at + n, y, n * sizeof *at);
    k->softmax_grad_row(at, at + n, n, 0.3f);
    at += 2 * n;
    k->rms_row(x, y, at, n, 1e-5f, &inv);
    memcpy(at + n, z, n * sizeof *at);
    k->rms_grad_row(y, x, z, inv, at + n, n);
    at += 2 * n;
    k->swiglu_row(x, y, at, n);
    k->swiglu_grad_row(x, y, z, n);
    at[0] += x[n - 1] + y[0];
    at += n;
    at[0] = max;
    at[1] = sum;
    at[2] = inv;
    at[3] = k->sum_squares(z, n);
    mem_free(x);
    mem_free(y);
    mem_free(z);
}

TEST(train_rows_are_the_same_bits_everywhere) {
    static const uint32_t sizes[] = {1, 2, 15, 16, 17, 31, 32, 48, 70};
    float first[6 * ROW_MAX + 4], other[6 * ROW_MAX + 4];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        run_rows(kernels_find("plain"), sizes[i], first);
        for (size_t n = 0; n < NAMES_COUNT; n++) {
            if (kernels_find(NAMES[n]) == NULL) continue;
            run_rows(kernels_find(NAMES[n]), sizes[i], other);
            CHECK(memcmp(first, other, sizeof first) == 0);
        }
    }
}

TEST(train_exponential_is_within_three_ulps) {
    const kernels *k = kernels_best();
    double worst = 0;
    for (int i = -8600; i <= 0; i++) {
        float row[2] = {(float)i / 100.0f, 0.0f}, max = 0, sum = 0;
        k->exp_row(row, 2, 1.0f, &max, &sum);
        const double want = exp((double)((float)i / 100.0f));
        worst = fmax(worst, fabs((double)row[0] - want) / want);
    }
    CHECK(worst < 3.6e-7);
}
