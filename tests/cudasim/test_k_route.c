/* test_k_route.c - the router's choice against the reference. */
#include <math.h>

#include "cudasim/oracle.h"
#include "cudasim/rig.h"
#include "test.h"

#include "abi.h"

typedef struct route_case {
    op_route route; /* bias: not NULL means yes */
    uint32_t rows;
    float scale; /* of the logits */
} route_case;

static const float yes[1];

static void run_route(int arch, const op_route *t, uint32_t rows, const float *logits, float *out) {
    k_route_args a = {.logits = rig_at(logits),
                      .out = rig_at(out),
                      .bias = t->bias != NULL ? rig_at(t->bias) : 0,
                      .count = rig_count(rows),
                      .experts = t->experts,
                      .used = t->used,
                      .kind = t->kind,
                      .normalize = t->normalize,
                      .groups = t->groups,
                      .groups_used = t->groups_used,
                      .scale = t->scale};
    rig_run(arch, "k_route", &a, rows + 1, 1, 32, 0);
}

/* Numbers exactly, weights nearly. */
static void check_route(int arch, const route_case *c) {
    op_route t = c->route;
    float *logits = rig_buffer((size_t)c->rows * t.experts * sizeof *logits);
    float *bias = rig_buffer(t.experts * sizeof *bias);
    float *out = rig_buffer((size_t)c->rows * 2 * t.used * sizeof *out);
    rig_fill(logits, (size_t)c->rows * t.experts, c->scale);
    rig_fill(bias, t.experts, 0.5f);
    for (uint32_t r = 0; r < c->rows && t.experts > 3; r++) /* a tie */
        logits[(size_t)r * t.experts + t.experts - 1] = logits[(size_t)r * t.experts + 2];
    if (t.bias != NULL) t.bias = bias;
    oracle_begin(c->rows);
    const float *want = oracle_end(pg_route(oracle_program(), oracle_input(logits, t.experts), t));
    run_route(arch, &t, c->rows, logits, out);
    for (uint32_t r = 0; r < c->rows; r++) {
        size_t at = (size_t)r * 2 * t.used;
        rig_same(out + at, want + at, t.used * sizeof *out);
        for (uint32_t u = t.used; u < 2 * t.used; u++) {
            bool near =
                fabsf(out[at + u] - want[at + u]) <= 1e-6f * (0.01f + fabsf(want[at + u])) * 4;
            CHECK(near);
        }
    }
}

TEST(k_route_chooses_as_the_reference_does) {
    static const route_case cases[] = {
        {{ROUTE_SOFTMAX, 8, 2, true, 1, NULL, 0, 0}, 17, 3},
        {{ROUTE_SOFTMAX, 1, 1, false, 1, NULL, 0, 0}, 1, 3},
        {{ROUTE_SOFTMAX, 33, 33, false, 2.5f, NULL, 1, 1}, 3, 20},
        {{ROUTE_SOFTMAX, 1024, 8, true, 1, yes, 0, 0}, 2, 1},
        {{ROUTE_SIGMOID, 256, 8, true, 2.5f, yes, 8, 4}, 3, 4},
        {{ROUTE_SIGMOID, 31, 6, false, 1, NULL, 0, 0}, 3, 12},
        {{ROUTE_SIGMOID, 60, 6, true, 16, NULL, 20, 3}, 3, 2},
        {{ROUTE_SOFTMAX, 160, 6, false, 16, NULL, 8, 3}, 3, 2},
        {{ROUTE_SOFTMAX_BEST, 32, 4, false, 1, NULL, 0, 0}, 17, 5},
        {{ROUTE_SOFTMAX_BEST, 128, 4, true, 0.5f, yes, 128, 4}, 3, 2},
    };
    RIG_EACH(arch) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) check_route(arch, &cases[i]);
    }
    rig_done();
}

/* Whatever the logits are, the used experts are different ones. */
TEST(k_route_of_broken_logits_chooses_different_experts) {
    static const float broken[] = {NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 0};
    enum { EXPERTS = 40, USED = 8 };
    RIG_EACH(arch) {
        for (uint32_t i = 0; i < 6 * 3 * 2; i++) {
            float *logits = rig_buffer(EXPERTS * sizeof *logits), *out = rig_buffer(2 * USED * 4);
            float *bias = rig_buffer(EXPERTS * sizeof *bias);
            for (uint32_t e = 0; e < EXPERTS; e++) {
                logits[e] = broken[e % 5 == 0 ? rig_random(6) : i % 6];
                bias[e] = i % 4 == 0 ? NAN : -INFINITY;
            }
            op_route t = {(route_kind)(i % 3), EXPERTS, USED, true, 1, NULL, i % 2 * 10, 4};
            if (i >= 18) t.bias = bias;
            run_route(arch, &t, 1, logits, out);
            for (uint32_t u = 0; u < USED; u++) {
                CHECK(out[u] >= 0 && out[u] < EXPERTS);
                for (uint32_t k = 0; k < u; k++) CHECK(out[k] != out[u]);
            }
        }
    }
    rig_done();
}
