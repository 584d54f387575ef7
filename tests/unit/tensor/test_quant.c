/* test_quant.c - round trips of every writable type.
 *
 * Quality: the root mean square error on the reference's own test rows, without and with an
 * importance matrix, held against what the reference quantizers reach.  Robustness: rows that
 * a search could divide by zero or overflow on come back finite and close. */
#include "tensor/quant.h"

#include <math.h>
#include <stdlib.h>

#include "golden_paths.h"
#include "tensor/convert.h"
#include "test.h"

enum { ROWS = 32, COLS = 1024, ROW_BYTES_MAX = COLS * 4 };

/* Ours is to be no worse than the reference; this much is rounding of its table. */
static const double WORSE_MAX = 1.001;

static float *quant_test_floats(const char *folder, const char *name, size_t count) {
    char path[1200];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    float *p = calloc(count, sizeof *p);
    CHECK(f != NULL && p != NULL);
    if (f == NULL || p == NULL) return p;
    CHECK_EQ(fread(p, sizeof *p, count, f), count);
    (void)fclose(f);
    return p;
}

typedef struct round_trip {
    double rmse;
    double weighted; /* each column by its importance */
} round_trip;

static round_trip round_trip_of(dtype t, const float *in, const float *importance,
                                const float *steer) {
    static unsigned char row[ROW_BYTES_MAX];
    static float out[COLS];
    double sum = 0, weighted = 0, weights = 0;
    for (uint32_t r = 0; r < ROWS; r++) {
        quant_row(t, in + (size_t)r * COLS, steer, row, COLS);
        dequant_row(t, row, out, COLS);
        for (uint32_t i = 0; i < COLS; i++) {
            const double e = (double)out[i] - (double)in[(size_t)r * COLS + i];
            sum += e * e;
            weighted += e * e * (double)importance[i];
            weights += (double)importance[i];
        }
    }
    return (round_trip){sqrt(sum / (ROWS * COLS)), sqrt(weighted / weights)};
}

static void check_error(const char *type, const char *what, double got, double want) {
    if (got <= want * WORSE_MAX) return;
    test_failures++;
    (void)fprintf(stderr, "%s: %s is %g, the reference has %g\n", type, what, got, want);
}

/* type, bits, rmse x 2, largest error x 2, weighted rmse (gauss plain, steered, heavy ...) */
static void check_table_row(const char *line, float *const in[2], const float *importance) {
    char name[32];
    double bits, rmse[2], most[2], weighted[4];
    dtype t;
    if (sscanf(line, "%31s %lf %lf %lf %lf %lf %lf %lf %lf %lf", name, &bits, &rmse[0], &rmse[1],
               &most[0], &most[1], &weighted[0], &weighted[1], &weighted[2], &weighted[3]) != 10)
        return;
    if (!dtype_from_name(str_of(name), &t) || !quant_is_writable(t)) return;
    for (uint32_t k = 0; k < 2; k++) {
        const round_trip plain = round_trip_of(t, in[k], importance, NULL);
        const round_trip steered = round_trip_of(t, in[k], importance, importance);
        check_error(name, "rmse", plain.rmse, rmse[k]);
        check_error(name, "weighted rmse", plain.weighted, weighted[2 * k]);
        check_error(name, "weighted rmse with importance", steered.weighted, weighted[2 * k + 1]);
    }
}

TEST(quant_errors_are_no_larger_than_those_of_the_reference_quantizers) {
    SHARED_OR_SKIP(folder, "oracle/public/dequant/rmse");
    char path[1200], line[512];
    float *in[2] = {quant_test_floats(folder, "gauss.f32", ROWS * COLS),
                    quant_test_floats(folder, "heavy.f32", ROWS * COLS)};
    float *importance = quant_test_floats(folder, "imatrix.f32", COLS);
    (void)snprintf(path, sizeof path, "%s/rmse.tsv", folder);
    FILE *table = fopen(path, "r");
    CHECK(table != NULL);
    while (table != NULL && fgets(line, sizeof line, table) != NULL)
        check_table_row(line, in, importance);
    if (table != NULL) (void)fclose(table);
    free(in[0]);
    free(in[1]);
    free(importance);
}

/* --- robustness ---------------------------------------------------------------- */
enum { N = 256 };

static void quant_round_trip(dtype t, const float in[N], const float *importance, float out[N]) {
    static unsigned char row[N * 4];
    quant_row(t, in, importance, row, N);
    dequant_row(t, row, out, N);
}

static bool has_blocks(dtype t) { return dtype_get((uint32_t)t)->block_elems > 1; }

TEST(quant_rows_of_zeros_stay_zero) {
    float in[N] = {0}, out[N];
    for (uint32_t id = 0; id < DTYPE_ID_END; id++) {
        if (!quant_is_writable((dtype)id)) continue;
        quant_round_trip((dtype)id, in, NULL, out);
        for (uint32_t i = 0; i < N; i++) CHECK(out[i] == 0.0f);
    }
}

/* Sizes from the smallest subnormal to the largest number, in rows that are constant, have one
 * outlier, alternate in sign, or grow. */
static void fill_shape(float in[N], uint32_t shape, float size) {
    for (uint32_t i = 0; i < N; i++) {
        in[i] = size;
        if (shape == 1) in[i] = i == 77 ? size : 0.0f;
        if (shape == 2) in[i] = i % 2 == 0 ? size : -size;
        if (shape == 3) in[i] = size * ((float)i / N);
        if (shape == 4) in[i] = i == 5 ? size : 1e-30f;
        if (shape == 5) in[i] = -size;
    }
}

TEST(quant_rows_of_any_size_come_back_finite) {
    static const float sizes[] = {0x1p-149f, 1e-40f, 0x1p-126f, 1e-20f, 1e-8f,   6e-5f,
                                  1.0f,      3e4f,   1e6f,      1e20f,  3.3e38f, 3.4028235e38f};
    float in[N], out[N];
    for (uint32_t id = 0; id < DTYPE_ID_END; id++) {
        if (!quant_is_writable((dtype)id) || !has_blocks((dtype)id)) continue;
        for (uint32_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            for (uint32_t shape = 0; shape < 6; shape++) {
                fill_shape(in, shape, sizes[s]);
                quant_round_trip((dtype)id, in, NULL, out);
                for (uint32_t i = 0; i < N; i++) CHECK(isfinite(out[i]));
            }
        }
    }
}

/* Importances of any size, or none at all, only steer. */
TEST(quant_importance_of_any_size_does_no_harm) {
    static const float sizes[] = {0.0f, 0x1p-149f, 1e-30f, 1.0f, 1e30f, 3.4e38f};
    float in[N], out[N], importance[N];
    for (uint32_t i = 0; i < N; i++) in[i] = sinf((float)i * 0.7f);
    for (uint32_t id = 0; id < DTYPE_ID_END; id++) {
        if (!quant_is_writable((dtype)id) || !has_blocks((dtype)id)) continue;
        for (uint32_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            for (uint32_t i = 0; i < N; i++) importance[i] = i % 3 == 0 ? sizes[s] : 0.0f;
            quant_round_trip((dtype)id, in, importance, out);
            for (uint32_t i = 0; i < N; i++) CHECK(isfinite(out[i]) && fabsf(out[i]) < 4.0f);
        }
    }
}

/* What a type holds exactly comes back exactly: all codes times a power of two. */
TEST(quant_values_on_the_grid_are_kept) {
    static const struct {
        dtype type;
        float first, last; /* codes */
    } grids[] = {{DTYPE_Q4_0, -8, 7},  {DTYPE_Q4_1, 3, 18},     {DTYPE_Q5_0, -16, 15},
                 {DTYPE_Q5_1, 5, 36},  {DTYPE_Q8_0, -127, -96}, {DTYPE_TQ1_0, -1, 1},
                 {DTYPE_TQ2_0, -1, 1}, {DTYPE_Q2_0, -1, 2}};
    float in[N], out[N];
    for (uint32_t k = 0; k < sizeof grids / sizeof *grids; k++) {
        const uint32_t codes = (uint32_t)(grids[k].last - grids[k].first) + 1;
        for (uint32_t i = 0; i < N; i++) in[i] = (grids[k].first + (float)(i % codes)) * 0.03125f;
        quant_round_trip(grids[k].type, in, NULL, out);
        for (uint32_t i = 0; i < N; i++) CHECK(fabsf(out[i] - in[i]) <= 2e-3f * fabsf(in[i]));
    }
}

TEST(quant_sign_bits_of_one_bit_blocks) {
    float in[N], out[N];
    for (uint32_t i = 0; i < N; i++) in[i] = i % 5 < 2 ? -0.5f : 0.5f;
    quant_round_trip(DTYPE_Q1_0, in, NULL, out);
    for (uint32_t i = 0; i < N; i++) CHECK(out[i] == in[i]);
}

/* With importance a few columns count; they have to come out better than without. */
TEST(quant_importance_moves_precision_to_its_columns) {
    float in[N], plain[N], steered[N], importance[N];
    for (uint32_t i = 0; i < N; i++) {
        in[i] = sinf((float)(i * i) * 0.37f);
        importance[i] = i % 8 == 0 ? 100.0f : 0.1f;
    }
    static const dtype types[] = {DTYPE_Q2_K, DTYPE_Q3_K, DTYPE_Q4_K, DTYPE_Q4_0, DTYPE_IQ4_XS};
    for (uint32_t k = 0; k < sizeof types / sizeof *types; k++) {
        double a = 0, b = 0;
        quant_round_trip(types[k], in, NULL, plain);
        quant_round_trip(types[k], in, importance, steered);
        for (uint32_t i = 0; i < N; i += 8) {
            a += pow((double)plain[i] - (double)in[i], 2);
            b += pow((double)steered[i] - (double)in[i], 2);
        }
        CHECK(b < a);
    }
}

TEST(quant_types_of_the_public_names_are_writable) {
    static const char *const names[] = {"F32",   "F16",    "BF16",   "Q4_0",  "Q4_1",  "Q5_0",
                                        "Q5_1",  "Q8_0",   "Q2_K",   "Q3_K",  "Q4_K",  "Q5_K",
                                        "Q6_K",  "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4",
                                        "NVFP4", "Q1_0",   "Q2_0"};
    dtype t = DTYPE_I32;
    CHECK(!quant_is_writable(t));
    CHECK(!quant_is_writable(DTYPE_IQ1_S));
    for (uint32_t i = 0; i < sizeof names / sizeof *names; i++)
        CHECK(dtype_from_name(str_of(names[i]), &t) && quant_is_writable(t));
}

TEST(quant_largest_is_the_last_number_that_stays_finite) {
    static const dtype types[] = {DTYPE_F16, DTYPE_BF16};
    for (size_t i = 0; i < 2; i++) {
        float last = quant_largest(types[i]), over = nextafterf(last, INFINITY), back = 0;
        uint16_t row = 0;
        quant_row(types[i], &last, NULL, &row, 1);
        dequant_row(types[i], &row, &back, 1);
        CHECK(isfinite(back));
        quant_row(types[i], &over, NULL, &row, 1);
        dequant_row(types[i], &row, &back, 1);
        CHECK(isinf(back));
    }
}
