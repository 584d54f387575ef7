/* bench_forms.c - see bench_forms.h. */
#include "gpu/bench_forms.h"

/* Of about 2^-7: factors of blocks, one after the other; d and dmin, then twelve bytes of scales;
 * of ck_sums, d and then both sums. */
static const bench_bits halves = {{0x83ff83ffu, 0x83ff83ffu, 0x83ff83ffu, 0x83ff83ffu},
                                  {0x20002000u, 0x20002000u, 0x20002000u, 0x20002000u}};
static const bench_bits scales = {{0x83ff83ffu, ~0u, ~0u, ~0u}, {0x20002000u, 0, 0, 0}};
const bench_bits bench_sums = {{0x007fffffu, ~0u, 0x007fffffu, ~0u},
                               {0x3c000000u, 0, 0x3c000000u, 0}};

const bench_form bench_forms[BENCH_FORMS] = {
    {"f16", CK_FORM_F16, {&halves}},
    {"q8_0", CK_FORM_Q8_0, {&bench_any, &bench_any, &halves}},
    {"q4_0", CK_FORM_Q4_0, {&bench_any, &halves}},
    {"q4_k", CK_FORM_Q4_K, {&bench_any, &bench_any, &scales}},
    {"q5_k", CK_FORM_Q5_K, {&bench_any, &bench_any, &scales, &bench_any}},
    {"q6_k", CK_FORM_Q6_K, {&bench_any, &bench_any, &bench_any, &bench_any, &halves}},
};

status bench_take_x(bench *b, const bench_form *f, size_t rows, size_t cols, uint64_t *x,
                    uint64_t *sums, uint64_t *bytes, error *err) {
    const size_t n = rows * cols, sums_bytes = n / BENCH_SUMS_PER * sizeof(ck_sums);
    if (f->form == CK_FORM_F16) {
        *bytes = n * sizeof(float);
        return bench_take(b, *bytes, &bench_f32, x, err);
    }
    *bytes = n + sums_bytes;
    TRY(bench_take(b, n, &bench_any, x, err));
    return bench_take(b, sums_bytes, &bench_sums, sums, err);
}
