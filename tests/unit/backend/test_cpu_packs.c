/* test_cpu_packs.c - expand, dots and digits: the scalar ones against plain sums in double, and
 * those of every instruction set this machine has against the scalar ones, bit for bit. */
#include <math.h>
#include <stdlib.h>

#include "backend/cpu/cpu_kernels.h"
#include "pack_rig.h"
#include "tensor/convert.h"
#include "test.h"

typedef struct packs_overlay {
    const char *name;
    cpu_kernels k;
    bool usable;
} packs_overlay;

enum { OVERLAYS = 3 };

/* The scalar functions first; each of the others on top of them alone. */
static uint32_t list_overlays(packs_overlay list[OVERLAYS]) {
    uint32_t n = 0;
    list[n++] = (packs_overlay){.name = "scalar", .usable = true};
#if defined(__x86_64__)
    list[n++] = (packs_overlay){
        .name = "avx2",
        .usable = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"),
    };
    list[n++] = (packs_overlay){
        .name = "avx512",
        .usable = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                  __builtin_cpu_supports("avx512vnni"),
    };
#elif defined(__aarch64__)
    list[n++] = (packs_overlay){.name = "neon", .usable = true};
#endif
    for (uint32_t i = 0; i < n; i++) cpu_packs_scalar(&list[i].k);
#if defined(__x86_64__)
    cpu_packs_avx2(&list[1].k);
    cpu_packs_avx512(&list[2].k);
#elif defined(__aarch64__)
    cpu_packs_neon(&list[1].k);
#endif
    return n;
}

/* fn(scalar, other, name) for all others that run here. */
typedef void compare_fn(const cpu_kernels *scalar, const cpu_kernels *other, const char *name);

static void with_overlays(compare_fn *fn) {
    packs_overlay list[OVERLAYS] = {0};
    const uint32_t n = list_overlays(list);
    for (uint32_t i = 1; i < n; i++)
        if (list[i].usable) fn(&list[0].k, &list[i].k, list[i].name);
}

static cpu_kernels scalar_kernels(void) {
    cpu_kernels k = {0};
    cpu_packs_scalar(&k);
    return k;
}

static bool is_same(const void *a, const void *b, size_t bytes, const char *isa, const char *what) {
    if (memcmp(a, b, bytes) == 0) return true;
    (void)fprintf(stderr, "%s: %s differs from scalar\n", isa, what);
    return false;
}

/* --- digits -------------------- */

enum { DIGIT_BLOCKS = 40, DIGIT_COLS = DIGIT_BLOCKS * PACK_BLOCK };

/* Ordinary numbers, then blocks of every kind that is not. */
static void make_activations(float *x, uint64_t *seed) {
    for (uint32_t c = 0; c < DIGIT_COLS; c++) x[c] = prig_normal(seed);
    float *b = x + (size_t)20 * PACK_BLOCK;
    memset(b, 0, PACK_BLOCK * sizeof *b);
    b += PACK_BLOCK;
    for (uint32_t c = 0; c < PACK_BLOCK; c++) b[c] = -0.0f;
    b += PACK_BLOCK;
    for (uint32_t c = 0; c < PACK_BLOCK; c++) b[c] = (float)c * 0x1p-149f;
    b += PACK_BLOCK;
    for (uint32_t c = 0; c < PACK_BLOCK; c++) b[c] = prig_normal(seed) * 0x1p-101f;
    b[5] = 0x1p-100f; /* the smallest that is not taken for 0 */
    b += PACK_BLOCK;
    for (uint32_t c = 0; c < PACK_BLOCK; c++) b[c] = (float)c * 0x1p-105f; /* taken for 0 */
    b += PACK_BLOCK;
    for (uint32_t c = 0; c < PACK_BLOCK; c++) b[c] = c % 2 == 0 ? 3.4e38f : -3.4e38f;
    b += PACK_BLOCK;
    for (uint32_t c = 0; c < PACK_BLOCK; c++) b[c] = (float)c - 16.5f; /* ties, at scale 1 */
    b[0] = 32512;
    b += PACK_BLOCK;
    for (uint32_t c = 0; c < PACK_BLOCK; c++) b[c] = 127.5f + 255.0f * (float)c;
    b[0] = -32512;
    b += PACK_BLOCK;
    b[3] = NAN; /* among ordinary ones */
    b += PACK_BLOCK;
    b[4] = INFINITY;
    b[9] = -INFINITY;
    b += PACK_BLOCK;
    for (uint32_t c = 0; c < PACK_BLOCK; c++) b[c] = c < 16 ? NAN : 0;
    b += PACK_BLOCK;
    for (uint32_t c = 0; c < PACK_BLOCK; c++) b[c] = -7; /* every digit at its end */
    b += PACK_BLOCK;
    for (uint32_t i = 0; i < PACK_BLOCK * 8; i++) b[i] = convert_bits_f32(prig_next(seed));
}

/* Counts are already checked. */
static void check_sums(const act_block *a) {
    const int32_t *hi = a->count_hi, *lo = a->count_lo;
    CHECK(a->scale_hi == 255.0f * a->scale);
    for (int i = 0; i < 3; i++) {
        const int32_t h = i < 2 ? hi[i] : hi[0] + hi[1], l = i < 2 ? lo[i] : lo[0] + lo[1];
        CHECK(a->sum[i] == (float)(255 * h + l) * a->scale);
        CHECK(a->sum_hi[i] == (float)h * a->scale_hi);
    }
}

TEST(packs_digits_say_the_activations) {
    const cpu_kernels k = scalar_kernels();
    uint64_t seed = 11;
    float x[DIGIT_COLS];
    act_block a[DIGIT_BLOCKS];
    make_activations(x, &seed);
    k.digits(x, a, DIGIT_COLS);
    for (uint32_t b = 0; b < DIGIT_BLOCKS; b++) {
        const float *xs = x + (size_t)b * PACK_BLOCK;
        int32_t hi[2] = {0}, lo[2] = {0};
        float max = 0;
        for (uint32_t c = 0; c < PACK_BLOCK; c++) {
            CHECK(a[b].hi[c] >= -127 && a[b].lo[c] >= -127);
            hi[c / 16] += a[b].hi[c], lo[c / 16] += a[b].lo[c];
            max = fmaxf(max, fabsf(xs[c]));
        }
        for (int i = 0; i < 2; i++) {
            CHECK_EQ(a[b].count_hi[i], hi[i]);
            CHECK_EQ(a[b].count_lo[i], lo[i]);
        }
        CHECK_EQ(a[b].unused_hi | a[b].unused_lo[0] | a[b].unused_lo[1] | a[b].unused_lo[2], 0);
        if (!isfinite(max) || isnan(xs[0]) || isnan(xs[3]) || b >= DIGIT_BLOCKS - 8) continue;
        const double scale = max < 0x1p-100f ? 0 : (double)max / 32512;
        CHECK(fabs((double)a[b].scale - scale) <= scale * 1e-7);
        for (uint32_t c = 0; c < PACK_BLOCK; c++) {
            const double q = 255.0 * a[b].hi[c] + a[b].lo[c];
            CHECK(fabs(xs[c] - scale * q) <= (scale > 0 ? 0.502 * scale : 0x1p-100));
        }
        check_sums(&a[b]);
    }
}

static void compare_digits(const cpu_kernels *scalar, const cpu_kernels *other, const char *name) {
    uint64_t seed = 12;
    act_block *want = prig_memory(DIGIT_BLOCKS * sizeof *want);
    act_block *got = prig_memory(DIGIT_BLOCKS * sizeof *got);
    float *x = prig_memory(DIGIT_COLS * sizeof *x);
    for (int round = 0; round < 30; round++) {
        make_activations(x, &seed);
        scalar->digits(x, want, DIGIT_COLS);
        other->digits(x, got, DIGIT_COLS);
        for (uint32_t b = 0; b < DIGIT_BLOCKS; b++) {
            char what[32];
            (void)snprintf(what, sizeof what, "digits of block %u", b);
            CHECK(is_same(got + b, want + b, sizeof *got, name, what));
        }
    }
    free(want);
    free(got);
    free(x);
}

TEST(packs_digits_are_the_same_bits) { with_overlays(compare_digits); }

/* --- expand -------------------- */

static void compare_expand(const cpu_kernels *scalar, const cpu_kernels *other, const char *name) {
    uint64_t seed = 21;
    for (uint32_t i = 0; i < PRIG_TYPES; i++) {
        prig_matrix m = prig_matrix_make(prig_types[i], 35, 5, PRIG_FINITE, &seed);
        const uint32_t step = m.f->super_blocks, blocks = m.cols / PACK_BLOCK;
        for (uint32_t first = 0; first < blocks; first += step) {
            for (uint32_t n = step; n <= blocks - first; n += step) {
                const uint8_t *group = m.packed + first / step % 3 * pack_group_bytes(m.f, m.cols);
                const size_t scales = (size_t)n * m.f->subs * PACK_ROWS * sizeof(float);
                pack_panel want = prig_panel_make(m.f, n), got = prig_panel_make(m.f, n);
                scalar->expand(m.f, group, first, n, &want);
                other->expand(m.f, group, first, n, &got);
                CHECK(is_same(got.codes, want.codes, (size_t)n * PACK_BLOCK_CODES, name,
                              dtype_name(m.f->type)));
                CHECK(is_same(got.scales, want.scales, scales, name, "a scale"));
                CHECK(is_same(got.offsets, want.offsets, scales, name, "an offset"));
                prig_panel_free(&want);
                prig_panel_free(&got);
            }
        }
        prig_matrix_free(&m);
    }
}

TEST(packs_expand_is_the_same_bits) { with_overlays(compare_expand); }

/* --- dots -------------------- */

/* A matrix times random rows, computed and in double. */
typedef struct dots_case {
    prig_matrix m;
    uint32_t rows;   /* of x */
    float *x;        /* [rows, cols] */
    act_block *a;    /* [rows, blocks] */
    pack_panel *all; /* [groups], the whole width each */
    uint32_t groups;
} dots_case;

static dots_case dots_case_make(dtype t, uint32_t w_rows, uint32_t supers, uint32_t rows,
                                uint64_t *seed) {
    const cpu_kernels k = scalar_kernels();
    dots_case d = {.m = prig_matrix_make(t, w_rows, supers, PRIG_TAME, seed), .rows = rows};
    const uint32_t blocks = d.m.cols / PACK_BLOCK;
    const size_t elems = (size_t)rows * d.m.cols;
    d.x = prig_memory(elems * sizeof *d.x);
    d.a = prig_memory((size_t)rows * blocks * sizeof *d.a);
    for (size_t i = 0; i < elems; i++) d.x[i] = prig_normal(seed);
    k.digits(d.x, d.a, (uint32_t)elems);
    d.groups = (w_rows + PACK_ROWS - 1) / PACK_ROWS;
    d.all = calloc(d.groups, sizeof *d.all);
    if (d.all == NULL) abort();
    for (uint32_t g = 0; g < d.groups; g++) {
        d.all[g] = prig_panel_make(d.m.f, blocks);
        k.expand(d.m.f, d.m.packed + g * pack_group_bytes(d.m.f, d.m.cols), 0, blocks, &d.all[g]);
    }
    return d;
}

static void dots_case_free(dots_case *d) {
    for (uint32_t g = 0; g < d->groups; g++) prig_panel_free(&d->all[g]);
    free(d->all);
    free(d->a);
    free(d->x);
    prig_matrix_free(&d->m);
}

static dots_args args_of(const dots_case *d, uint32_t group, bool fast, float *acc) {
    const uint32_t blocks = d->m.cols / PACK_BLOCK;
    return (dots_args){
        .panel = &d->all[group],
        .blocks = blocks,
        .x = d->a,
        .row_blocks = blocks,
        .rows = d->rows,
        .fast = fast,
        .acc = acc,
    };
}

/* acc [rows][16] of a group, from zeros. */
static void run_dots(const cpu_kernels *k, const dots_case *d, uint32_t group, bool fast,
                     float *acc) {
    const dots_args a = args_of(d, group, fast, acc);
    memset(acc, 0, (size_t)d->rows * PACK_ROWS * sizeof *acc);
    k->dots(&a);
}

/* Squared error over squared length of all products. */
static double nmse_of(const cpu_kernels *k, const dots_case *d, bool fast) {
    double wrong = 0, length = 0;
    float *acc = prig_memory((size_t)d->rows * PACK_ROWS * sizeof *acc);
    float *w = prig_memory((size_t)d->m.cols * sizeof *w);
    for (uint32_t row = 0; row < d->m.rows; row++) {
        if (row % PACK_ROWS == 0) run_dots(k, d, row / PACK_ROWS, fast, acc);
        dequant_row(d->m.f->type, d->m.weights + row * d->m.row_bytes, w, d->m.cols);
        for (uint32_t r = 0; r < d->rows; r++) {
            double want = 0;
            for (uint32_t c = 0; c < d->m.cols; c++)
                want += (double)w[c] * (double)d->x[(size_t)r * d->m.cols + c];
            const double got = (double)acc[(size_t)r * PACK_ROWS + row % PACK_ROWS];
            wrong += (got - want) * (got - want), length += want * want;
        }
    }
    free(acc);
    free(w);
    return wrong / length;
}

/* With q rounded to a step of max / 32512 the expected error is 4e-10, with one of max / 127.5
 * it is 2.5e-5. */
static const double exact_nmse_max = 1e-9, fast_nmse_max = 1e-4;

TEST(packs_dots_are_products_with_the_weights) {
    const cpu_kernels k = scalar_kernels();
    uint64_t seed = 31;
    for (uint32_t i = 0; i < PRIG_TYPES; i++) {
        const uint32_t supers = pack_format_of(prig_types[i])->super_blocks == 1 ? 24 : 3;
        dots_case d = dots_case_make(prig_types[i], 37, supers, 5, &seed);
        const double exact = nmse_of(&k, &d, false), fast = nmse_of(&k, &d, true);
        if (exact > exact_nmse_max || fast > fast_nmse_max)
            (void)fprintf(stderr, "%s: %g and %g\n", dtype_name(prig_types[i]), exact, fast);
        CHECK(exact <= exact_nmse_max);
        CHECK(fast <= fast_nmse_max && fast > exact);
        dots_case_free(&d);
    }
}

static void compare_dots(const cpu_kernels *scalar, const cpu_kernels *other, const char *name) {
    static const uint32_t rows[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 17, 24, 33};
    uint64_t seed = 32;
    for (uint32_t i = 0; i < PRIG_TYPES * 14; i++) {
        const uint32_t supers = 1 + i % 3;
        dots_case d = dots_case_make(prig_types[i / 14], 16, supers, rows[i % 14], &seed);
        const size_t bytes = (size_t)d.rows * PACK_ROWS * sizeof(float);
        float *want = prig_memory(bytes), *got = prig_memory(bytes);
        for (int way = 0; way < 4; way++) {
            if (way == 2) d.all[0].code_max = 0; /* not known */
            run_dots(scalar, &d, 0, way % 2 == 1, want);
            run_dots(other, &d, 0, way % 2 == 1, got);
            CHECK(is_same(got, want, bytes, name, way % 2 == 1 ? "dots fast" : "dots exact"));
        }
        free(want);
        free(got);
        dots_case_free(&d);
    }
}

TEST(packs_dots_are_the_same_bits) { with_overlays(compare_dots); }

/* Groups straight from their packed form, however many of them and of rows, from zeros. */
static void check_packed(const cpu_kernels *scalar, const cpu_kernels *other, const char *name,
                         const dots_case *d) {
    const size_t sums = (size_t)d->rows * PACK_ROWS, bytes = sums * sizeof(float);
    const size_t group_bytes = pack_group_bytes(d->m.f, d->m.cols);
    float *want = prig_memory(bytes), *got = prig_memory(d->groups * bytes);
    for (uint32_t first = 0; first < d->groups; first++) {
        const uint32_t blocks = d->m.cols / PACK_BLOCK, count = d->groups - first;
        other->dots_packed(&(packed_dots_args){.format = d->m.f,
                                               .groups = d->m.packed + first * group_bytes,
                                               .group_bytes = group_bytes,
                                               .count = count,
                                               .blocks = blocks,
                                               .x = d->a,
                                               .row_blocks = blocks,
                                               .rows = d->rows,
                                               .acc = got});
        for (uint32_t g = 0; g < count; g++) {
            run_dots(scalar, d, first + g, false, want);
            CHECK(is_same(got + g * sums, want, bytes, name, dtype_name(d->m.f->type)));
        }
    }
    free(want);
    free(got);
}

static void compare_packed(const cpu_kernels *scalar, const cpu_kernels *other, const char *name) {
    uint64_t seed = 36;
    if (other->dots_packed == NULL) return;
    for (uint32_t i = 0; i < PRIG_TYPES * PACKED_X_ROWS; i++) {
        const dtype t = prig_types[i / PACKED_X_ROWS];
        const uint32_t supers = i % 2 == 0 ? 1 + i % 3 : 37; /* less and more than is fetched */
        dots_case d = dots_case_make(t, 71, supers, 1 + i % PACKED_X_ROWS, &seed);
        check_packed(scalar, other, name, &d);
        dots_case_free(&d);
    }
}

TEST(packs_packed_dots_are_the_same_bits) { with_overlays(compare_packed); }

/* Blocks a few at a time, rows apart: the same bits as all at once. */
static void check_cuts(const cpu_kernels *k, dtype t, uint64_t *seed) {
    dots_case d = dots_case_make(t, 16, pack_format_of(t)->super_blocks == 1 ? 21 : 3, 11, seed);
    const size_t bytes = (size_t)d.rows * PACK_ROWS * sizeof(float);
    const uint32_t blocks = d.m.cols / PACK_BLOCK, subs = d.m.f->subs;
    float *want = prig_memory(bytes), *got = prig_memory(bytes);
    for (int fast = 0; fast < 2; fast++) {
        run_dots(k, &d, 0, fast != 0, want);
        memset(got, 0, bytes);
        for (uint32_t b = 0, n = 1; b < blocks; b += n, n = n % 8 + 1) {
            if (n > blocks - b) n = blocks - b;
            pack_panel part = d.all[0];
            part.codes += (size_t)b * PACK_BLOCK_CODES;
            part.scales += (size_t)b * subs * PACK_ROWS;
            part.offsets += (size_t)b * subs * PACK_ROWS;
            for (uint32_t r = 0, some = 1; r < d.rows; r += some, some++) {
                if (some > d.rows - r) some = d.rows - r;
                dots_args a = args_of(&d, 0, fast != 0, got + (size_t)r * PACK_ROWS);
                a.panel = &part, a.blocks = n, a.rows = some;
                a.x += (size_t)r * blocks + b;
                k->dots(&a);
            }
        }
        CHECK(memcmp(got, want, bytes) == 0);
    }
    free(want);
    free(got);
    dots_case_free(&d);
}

TEST(packs_dots_do_not_depend_on_the_cut) {
    packs_overlay list[OVERLAYS] = {0};
    const uint32_t n = list_overlays(list);
    uint64_t seed = 33;
    for (uint32_t i = 0; i < n * PRIG_TYPES; i++)
        if (list[i % n].usable) check_cuts(&list[i % n].k, prig_types[i / n], &seed);
}

/* The largest codes and digits, of both signs and alternating: int32 must hold the sums, and no
 * narrower one on the way may saturate. */
TEST(packs_dots_hold_the_largest_sums) {
    enum { ROWS = 5 };
    packs_overlay list[OVERLAYS] = {0};
    const uint32_t n = list_overlays(list);
    act_block x[ROWS] __attribute__((aligned(64)));
    memset(x, 0, sizeof x);
    for (uint32_t r = 0; r < ROWS; r++) {
        for (uint32_t c = 0; c < PACK_BLOCK; c++) {
            const int sign = r == 0 || (r == 2 && c % 2 == 0) || (r == 3 && c % 4 < 2) ? 1 : -1;
            x[r].hi[c] = (int8_t)(sign * 127);
            x[r].lo[c] = (int8_t)(r == 4 ? 127 : sign * 127);
            x[r].count_hi[c / 16] += x[r].hi[c];
            x[r].count_lo[c / 16] += x[r].lo[c];
        }
        x[r].scale = x[r].scale_hi = 1;
    }
    for (uint32_t i = 0; i < n * 8; i++) {
        static const uint32_t maxima[] = {255, 63, 31, 15};
        const uint32_t max = maxima[i / n % 4], subs = 1 + i / n / 4;
        if (!list[i % n].usable) continue;
        const pack_format f = {.subs = subs, .bytes = true};
        pack_panel p = prig_panel_make(&f, 1);
        p.code_max = max;
        memset(p.codes, (int)max, PACK_BLOCK_CODES);
        for (uint32_t s = 0; s < subs * PACK_ROWS; s++) p.scales[s] = 1, p.offsets[s] = 0;
        for (int fast = 0; fast < 2; fast++) {
            float acc[ROWS][PACK_ROWS] __attribute__((aligned(64))) = {0};
            const dots_args a = {.panel = &p,
                                 .blocks = 1,
                                 .x = x,
                                 .row_blocks = 1,
                                 .rows = ROWS,
                                 .fast = fast != 0,
                                 .acc = acc[0]};
            list[i % n].k.dots(&a);
            for (uint32_t r = 0; r < ROWS * PACK_ROWS; r++) {
                const act_block *b = &x[r / PACK_ROWS];
                float want = 0;
                for (uint32_t s = 0; s < 2; s++) {
                    const int32_t q = fast ? b->count_hi[s] : 255 * b->count_hi[s] + b->count_lo[s];
                    want += (float)((int32_t)max * q);
                }
                CHECK(acc[r / PACK_ROWS][r % PACK_ROWS] == want);
            }
        }
        prig_panel_free(&p);
    }
}

TEST(packs_dots_with_zeros_change_nothing) {
    packs_overlay list[OVERLAYS] = {0};
    const uint32_t n = list_overlays(list);
    uint64_t seed = 34;
    for (uint32_t i = 0; i < n * PRIG_TYPES; i++) {
        if (!list[i % n].usable) continue;
        dots_case d = dots_case_make(prig_types[i / n], 16, 2, 3, &seed);
        float acc[3][PACK_ROWS] __attribute__((aligned(64)));
        memset(d.x, 0, (size_t)d.rows * d.m.cols * sizeof *d.x);
        list[i % n].k.digits(d.x, d.a, d.rows * d.m.cols);
        for (uint32_t j = 0; j < 3 * PACK_ROWS; j++) acc[j / PACK_ROWS][j % PACK_ROWS] = (float)j;
        const dots_args a = args_of(&d, 0, false, acc[0]);
        list[i % n].k.dots(&a);
        for (uint32_t j = 0; j < 3 * PACK_ROWS; j++)
            CHECK(acc[j / PACK_ROWS][j % PACK_ROWS] == (float)j);
        dots_case_free(&d);
    }
}
