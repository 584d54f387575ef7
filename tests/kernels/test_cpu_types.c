/* test_cpu_types.c - every stored type on every machine: reading rows, the embedding, products
 * with recorded vectors, and what a backend says about its path. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/cpu_kernels.h"
#include "golden_paths.h"
#include "model/synth_internal.h"
#include "rig.h"
#include "tensor/convert.h"
#include "test.h"

/* README of the reference data: products in double. */
static const double matvec_relative_max = 1e-5;

/* --- reading -------------------- */

/* Equal bits, or both not a number: which of the many may differ. */
static bool same_floats(const float *a, const float *b, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        if (memcmp(a + i, b + i, sizeof *a) != 0 && !(isnan(a[i]) && isnan(b[i]))) return false;
    return true;
}

/* Any bits at all, scales that are no numbers included; rows of 1 to 4 blocks. */
TEST(kernel_dequant_of_every_class_gives_the_bits_of_the_portable_one) {
    enum { BLOCKS = 4, ROUNDS = 64 };
    static float want[256 * BLOCKS], got[256 * BLOCKS];
    const cpu_kernels *best = NULL;
    krig_random random = {21};
    CHECK_EQ(cpu_kernels_choose(CPU_ISA_AUTO, &best, NULL), OK);
    for (uint32_t id = 0; id < DTYPE_ID_END && best != NULL; id++) {
        const dtype_info *info = dtype_get(id);
        unsigned wrong = 0;
        for (uint32_t round = 0; info != NULL && round < ROUNDS; round++) {
            uint32_t blocks = 1 + round % BLOCKS, elems = info->block_elems * blocks;
            size_t bytes = (size_t)info->block_bytes * blocks;
            uint8_t *row = malloc(bytes); /* not a byte more: the sanitizer looks */
            for (size_t i = 0; i < bytes; i++) row[i] = (uint8_t)krig_u32(&random, 256);
            dequant_row((dtype)id, row, want, elems);
            best->dequant((dtype)id, row, got, elems);
            wrong += !same_floats(want, got, elems);
            free(row);
        }
        if (wrong > 0) (void)fprintf(stderr, "%s is read differently\n", dtype_name((dtype)id));
        CHECK_EQ(wrong, 0);
    }
}

TEST(kernel_embedding_reads_rows_of_every_type) {
    enum { VOCAB = 9, COLS = 512 };
    for (uint32_t id = 0; id < DTYPE_ID_END; id++) {
        const dtype_info *info = dtype_get(id);
        if (info == NULL || info->is_integer) continue;
        krig_random random = {id + 1};
        krig_weights list = {0};
        krig_batch in;
        static float want[VOCAB * COLS];
        program *p = krig_program(1);
        weight table = krig_weight(&list, &random, (dtype)id, VOCAB, COLS);
        (void)krig_finish(p, pg_embed(p, table));
        krig_batch_init(&in, VOCAB);
        for (uint32_t r = 0; r < VOCAB; r++) in.tokens[r] = (int32_t)(VOCAB - 1 - r);
        uint64_t row_bytes = 0;
        CHECK(dtype_row_bytes((dtype)id, COLS, &row_bytes));
        for (uint32_t r = 0; r < VOCAB; r++)
            dequant_row((dtype)id, (const char *)table.data + row_bytes * (VOCAB - 1 - r),
                        want + (size_t)r * COLS, COLS);
        for (int i = 0; i < RIG_MACHINES; i++) {
            float *got = krig_run(&krig_machines[i], p, &in);
            CHECK(memcmp(got, want, sizeof want) == 0);
            free(got);
        }
        program_destroy(p);
        krig_weights_deinit(&list);
    }
}

/* --- recorded products -------------------- */

enum { MATVEC_ROWS = 16, MATVEC_COLS = 256 };

static size_t read_recorded(const char *type, const char *rest, void *out, size_t bytes_max) {
    char relative[128];
    (void)snprintf(relative, sizeof relative, "oracle/public/dequant/%s%s", type, rest);
    const char *path = shared_path(relative);
    FILE *fp = path != NULL ? fopen(path, "rb") : NULL;
    if (fp == NULL) return 0;
    size_t n = fread(out, 1, bytes_max, fp);
    (void)fclose(fp);
    return n;
}

/* The largest error of a row, as a share of |row| |x|. */
static double matvec_error(dtype t, const uint8_t *w, const float *x, const float *got,
                           const float *want) {
    float row[MATVEC_COLS];
    double worst = 0, x_norm = 0;
    uint64_t row_bytes = 0;
    CHECK(dtype_row_bytes(t, MATVEC_COLS, &row_bytes));
    for (int c = 0; c < MATVEC_COLS; c++) x_norm += (double)x[c] * (double)x[c];
    for (int r = 0; r < MATVEC_ROWS; r++) {
        double norm = 0;
        dequant_row(t, w + row_bytes * (size_t)r, row, MATVEC_COLS);
        for (int c = 0; c < MATVEC_COLS; c++) norm += (double)row[c] * (double)row[c];
        double wrong = fabs((double)got[r] - (double)want[r]);
        if (norm > 0) worst = fmax(worst, wrong / sqrt(norm * x_norm));
    }
    return worst;
}

static void check_matvec(dtype t, const float *x) {
    static uint8_t w[MATVEC_ROWS * MATVEC_COLS * 8];
    float want[MATVEC_ROWS];
    krig_weights list = {0};
    krig_batch in;
    size_t bytes = read_recorded(dtype_name(t), ".quant.bin", w, sizeof w);
    CHECK(bytes > 0 && bytes < sizeof w);
    program *p = krig_program(1);
    value_id v = pg_embed(p, krig_table_of(&list, x, 1, MATVEC_COLS));
    (void)krig_finish(
        p, pg_matmul(p, v, (weight){.type = t, .rows = MATVEC_ROWS, .cols = MATVEC_COLS, .data = w},
                     NULL));
    krig_batch_init(&in, 1);
    size_t got_bytes = read_recorded(dtype_name(t), ".matvec.exact.f32", want, sizeof want);
    for (int i = 0; i < RIG_MACHINES && got_bytes == sizeof want; i++) {
        float *got = krig_run(&krig_machines[i], p, &in);
        double wrong = matvec_error(t, w, x, got, want);
        if (wrong > matvec_relative_max)
            (void)fprintf(stderr, "%s on %s: error %g\n", dtype_name(t), krig_machines[i].name,
                          wrong);
        CHECK(wrong <= matvec_relative_max);
        free(got);
    }
    program_destroy(p);
    krig_weights_deinit(&list);
}

TEST(kernel_matvec_of_every_recorded_type_matches_the_exact_product) {
    SHARED_OR_SKIP(index, "oracle/public/dequant/index.tsv");
    float x[MATVEC_COLS];
    CHECK(index != NULL);
    CHECK_EQ(read_recorded("matvec_x", ".f32", x, sizeof x), sizeof x);
    uint32_t types = 0;
    for (uint32_t id = 0; id < DTYPE_ID_END; id++) {
        float want[MATVEC_ROWS];
        if (dtype_get(id) == NULL) continue;
        if (read_recorded(dtype_name((dtype)id), ".matvec.exact.f32", want, sizeof want) == 0)
            continue;
        check_matvec((dtype)id, x);
        types++;
    }
    CHECK(types >= 23);
}

/* --- paths -------------------- */

TEST(kernel_paths_are_told_for_every_type) {
    static const dtype native[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    static const dtype repacked[] = {DTYPE_Q8_0, DTYPE_Q4_0, DTYPE_Q4_K, DTYPE_IQ4_XS};
    for (size_t i = 0; i < sizeof native / sizeof *native; i++)
        CHECK_STR(backend_path_name(backend_cpu.path(native[i])), "native");
    for (size_t i = 0; i < sizeof repacked / sizeof *repacked; i++)
        CHECK_STR(backend_path_name(backend_cpu.path(repacked[i])), "repacked");
    CHECK_STR(backend_path_name(backend_cpu.path(DTYPE_IQ2_XXS)), "rows dequantized to f32");
    CHECK_STR(backend_path_name(backend_ref.path(DTYPE_Q8_0)), "rows dequantized to f32");
}

/* Copies and panels are memory like any other: planned, and only where a weight needs it. */
TEST(kernel_copies_and_panels_are_part_of_the_plan) {
    static const dtype of[3] = {DTYPE_Q4_0, DTYPE_IQ2_XXS, DTYPE_F16};
    backend_memory plans[3] = {0};
    for (int i = 0; i < 3; i++) {
        krig_random random = {2};
        krig_weights list = {0};
        const backend_options opt = {.threads = 3};
        program *p = krig_program(1);
        value_id x = pg_embed(p, krig_table(&list, &random, RIG_ROWS_MAX, 256));
        (void)krig_finish(p, pg_matmul(p, x, krig_weight(&list, &random, of[i], 40, 256), NULL));
        CHECK_EQ(backend_cpu.plan(p, &opt, &plans[i], NULL), OK);
        program_destroy(p);
        krig_weights_deinit(&list);
    }
    CHECK_EQ(plans[0].replaced, (uint64_t)40 * 256 / 32 * 18);
    CHECK(plans[0].repacked >= (size_t)48 * 256 / 32 * 18); /* whole groups of 16 rows */
    CHECK(plans[1].repacked == 0 && plans[2].repacked == 0);
    for (int i = 0; i < 3; i++) CHECK(plans[i].workspace > (size_t)3 * 8 * 256 * sizeof(float));
}
