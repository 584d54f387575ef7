/* bench_forms.h - the forms of weights that products are measured with, and how random words are
 * made into planes of theirs: all numbers are finite, and neither large nor tiny. */
#ifndef TESTS_GPU_BENCH_FORMS_H
#define TESTS_GPU_BENCH_FORMS_H

#include "abi.h"
#include "gpu/bench.h"

enum { BENCH_FORMS = 6, BENCH_SUMS_PER = 32 /* elements that share a ck_sums */ };

typedef struct bench_form {
    const char *name; /* in kernels' names */
    ck_form form;
    const bench_bits *planes[CK_PLANES_MAX];
} bench_form;

extern const bench_form bench_forms[BENCH_FORMS];
extern const bench_bits bench_sums; /* ck_sums */

/* Activations as kernels with these weights read them, x [rows, cols] and sums of codes, of the
 * case's arena; `bytes` of them together. */
NODISCARD status bench_take_x(bench *b, const bench_form *f, size_t rows, size_t cols, uint64_t *x,
                              uint64_t *sums, uint64_t *bytes, error *err);

#endif
