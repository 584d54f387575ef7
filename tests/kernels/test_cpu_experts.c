/* test_cpu_experts.c - the router's choice and products with the chosen experts.
 *
 * Method: 64 rows at once are measured against the reference; every row alone and every smaller
 * batch must then give the same bits, however many rows share an expert. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rig.h"
#include "test.h"

/* backend.h: f32 accumulation against double; activations rounded to 16 bits. */
static const double float_nmse_max = 1e-11;

/* --- routes -------------------- */

/* Rows whose numbers are not the reference's, or have one twice. */
static unsigned wrong_choices(const op_route *route, const float *got, const float *want,
                              uint32_t rows) {
    unsigned wrong = 0;
    for (uint32_t r = 0; r < rows; r++, got += route->used * 2, want += route->used * 2) {
        wrong += memcmp(got, want, route->used * sizeof *got) != 0;
        for (uint32_t u = 0; u < route->used; u++)
            for (uint32_t k = 0; k < u; k++) wrong += got[u] == got[k];
    }
    return wrong;
}

static void check_route(op_route route, const float *logits, uint32_t rows) {
    krig_weights list = {0};
    krig_batch in;
    program *p = krig_program(1);
    value_id x = pg_embed(p, krig_table_of(&list, logits, rows, route.experts));
    (void)krig_finish(p, pg_route(p, x, route));
    krig_batch_init(&in, rows);
    size_t count = (size_t)rows * route.used * 2;
    float *want = krig_run(&krig_machines[0], p, &in);
    for (int i = 1; i < RIG_MACHINES; i++) {
        float *got = krig_run(&krig_machines[i], p, &in);
        CHECK(memcmp(got, want, count * sizeof *got) == 0 || !isfinite(logits[0]));
        CHECK_EQ(wrong_choices(&route, got, want, rows), 0);
        free(got);
    }
    free(want);
    program_destroy(p);
    krig_weights_deinit(&list);
}

TEST(kernel_routes_of_every_kind) {
    enum { EXPERTS = 24, ROWS = 17 };
    krig_random random = {3};
    float logits[ROWS * EXPERTS], bias[EXPERTS];
    krig_normal(&random, logits, ROWS * EXPERTS);
    krig_normal(&random, bias, EXPERTS);
    for (int i = 0; i < EXPERTS; i++) logits[i] = 0.25f; /* ties go to the lower number */
    for (int form = 0; form < 24; form++) {
        op_route route = {.kind = (route_kind)(form % 3),
                          .experts = EXPERTS,
                          .used = form % 5 + 1,
                          .normalize = form % 2 != 0,
                          .scale = form % 4 == 0 ? 2.5f : 1.0f,
                          .bias = form >= 12 ? bias : NULL};
        check_route(route, logits, ROWS);
        route.groups = form % 7 == 0 ? 24 : 6;
        route.groups_used = form % 7 == 0 ? 9 : 2;
        check_route(route, logits, ROWS);
    }
}

/* A broken model: the choice is still one of different experts. */
TEST(kernel_routes_of_no_numbers) {
    float logits[3 * 8];
    for (int i = 0; i < 8; i++) {
        logits[i] = NAN;
        logits[8 + i] = -INFINITY;
        logits[16 + i] = i == 5 ? INFINITY : 0;
    }
    for (int kind = 0; kind < 3; kind++) {
        op_route route = {.kind = (route_kind)kind, .experts = 8, .used = 8, .scale = 1};
        check_route(route, logits, 3);
        route.used = 3;
        route.groups = 4;
        route.groups_used = 2;
        check_route(route, logits, 3);
    }
}

/* --- experts -------------------- */

typedef struct mixture {
    dtype type;
    uint32_t experts, used, cols, rows;
    bool shared_in;
    bool bias;
    bool crowded; /* all rows choose the same ones */
} mixture;

static value_id record_experts(program *p, krig_weights *list, krig_random *random,
                               const mixture *m) {
    uint32_t in_cols = m->shared_in ? m->cols : m->cols * m->used;
    op_experts experts = {.w = pg_weights(p, m->experts),
                          .experts = m->experts,
                          .used = m->used,
                          .shared_in = m->shared_in};
    for (uint32_t e = 0; e < m->experts; e++)
        *(weight *)(uintptr_t)&experts.w[e] = krig_weight(list, random, m->type, m->rows, m->cols);
    if (m->bias) experts.bias = krig_vector(list, random, m->experts * m->rows);
    value_id x = pg_embed(p, krig_table(list, random, RIG_ROWS_MAX, in_cols));
    weight logits = krig_table(list, random, RIG_ROWS_MAX, m->experts);
    float *table = (float *)(uintptr_t)logits.data;
    for (uint32_t r = 1; m->crowded && r < RIG_ROWS_MAX; r++)
        memcpy(table + (size_t)r * m->experts, table, m->experts * sizeof *table);
    op_route route = {.experts = m->experts, .used = m->used, .scale = 1.0f};
    value_id routed = pg_route(p, pg_embed(p, logits), route);
    value_id y = pg_experts(p, x, routed, experts);
    return pg_experts_sum(p, y, routed, m->used);
}

/* Rows in other company: alone, or among few. */
static unsigned companies_differ(const krig_machine *m, const program *p, const float *all) {
    unsigned wrong = 0;
    backend *b = krig_open(m, p);
    for (uint32_t n = 1; n < RIG_ROWS_MAX; n = n * 3 + 1) {
        for (uint32_t r0 = 0; r0 + n <= RIG_ROWS_MAX; r0 += 21) {
            krig_batch in;
            krig_batch_init(&in, n);
            for (uint32_t r = 0; r < n; r++) in.tokens[r] = (int32_t)(r0 + r);
            wrong += memcmp(krig_step(m, b, &in), all + (size_t)r0 * krig_cols(p),
                            (size_t)n * krig_cols(p) * sizeof *all) != 0;
        }
    }
    m->ops->close(b);
    return wrong;
}

static void check_mixture(const mixture *m) {
    krig_random random = {m->experts * 100 + m->rows};
    krig_weights list = {0};
    krig_batch in;
    program *p = krig_program(1);
    (void)krig_finish(p, record_experts(p, &list, &random, m));
    krig_batch_init(&in, RIG_ROWS_MAX);
    krig_check_all(p, &in, krig_nmse_max(m->type), dtype_name(m->type));
    for (int i = 1; i < RIG_MACHINES; i++) {
        float *all = krig_run(&krig_machines[i], p, &in);
        CHECK_EQ(companies_differ(&krig_machines[i], p, all), 0);
        free(all);
    }
    program_destroy(p);
    krig_weights_deinit(&list);
}

TEST(kernel_experts_of_every_kind_of_weight) {
    static const dtype types[] = {DTYPE_F32,  DTYPE_F16,   DTYPE_BF16, DTYPE_Q8_0,
                                  DTYPE_Q4_0, DTYPE_MXFP4, DTYPE_Q4_K};
    for (int t = 0; t < 7; t++) {
        mixture m = {types[t], 6, 2, 64, 40, true, t % 2 == 0, false};
        if (types[t] == DTYPE_Q4_K) m.cols = 256;
        check_mixture(&m);
        m.shared_in = false;
        m.crowded = t % 2 == 0;
        check_mixture(&m);
    }
}

TEST(kernel_experts_in_odd_shapes) {
    static const mixture shapes[] = {{DTYPE_F32, 1, 1, 7, 3, true, true, false},
                                     {DTYPE_F32, 5, 5, 9, 65, true, false, false},
                                     {DTYPE_F16, 40, 1, 17, 1, false, true, false},
                                     {DTYPE_F32, 3, 2, 33, 130, false, true, true},
                                     {DTYPE_Q8_0, 2, 1, 32, 9, true, false, true},
                                     {DTYPE_Q4_0, 33, 7, 96, 8, true, true, false},
                                     {DTYPE_IQ4_NL, 4, 3, 32, 70, false, true, true}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) check_mixture(&shapes[i]);
}

/* Two layers with routes of their own: the second must not use the first one's groups. */
TEST(kernel_experts_of_two_routes_in_turn) {
    krig_random random = {77};
    krig_weights list = {0};
    krig_batch in;
    program *p = krig_program(1);
    mixture m = {DTYPE_F32, 6, 2, 16, 16, true, false, false};
    value_id a = record_experts(p, &list, &random, &m);
    value_id b = record_experts(p, &list, &random, &m);
    (void)krig_finish(p, pg_add(p, a, b));
    krig_batch_init(&in, 33);
    krig_check_all(p, &in, float_nmse_max, "two routes");
    program_destroy(p);
    krig_weights_deinit(&list);
}
