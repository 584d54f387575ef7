/* test_cpu_fast.c - mode `fast`: which rows it touches, by how much, and that company changes
 * nothing. */
#include <stdlib.h>
#include <string.h>

#include "rig.h"
#include "test.h"

enum { ROWS = 9, COLS = 512, OUT = 72 };

static const double fast_nmse_max = 1e-4;
static const cpu_isa classes[] = {CPU_ISA_SCALAR, CPU_ISA_AVX2, CPU_ISA_AUTO};

typedef struct rig {
    krig_weights list;
    krig_batch in;
    program *p;
    bool prompt[ROWS];
} rig;

static value_id add_experts(rig *r, krig_random *random, dtype t, value_id x) {
    enum { EXPERTS = 4, USED = 2 };
    value_id router =
        pg_matmul(r->p, x, krig_weight(&r->list, random, DTYPE_F32, EXPERTS, COLS), NULL);
    value_id routed =
        pg_route(r->p, router,
                 (op_route){.kind = ROUTE_SOFTMAX, .experts = EXPERTS, .used = USED, .scale = 1});
    weight *w = pg_weights(r->p, EXPERTS);
    CHECK(w != NULL);
    for (int e = 0; e < EXPERTS; e++) w[e] = krig_weight(&r->list, random, t, COLS, COLS);
    value_id y = pg_experts(
        r->p, x, routed, (op_experts){.w = w, .experts = EXPERTS, .used = USED, .shared_in = true});
    return pg_experts_sum(r->p, y, routed, USED);
}

static void rig_open(rig *r, dtype t, bool experts) {
    krig_random random = {t + 3u};
    *r = (rig){.p = krig_program(1)};
    value_id x = pg_embed(r->p, krig_table(&r->list, &random, RIG_ROWS_MAX, COLS));
    if (experts) x = add_experts(r, &random, t, x);
    (void)krig_finish(r->p, pg_matmul(r->p, x, krig_weight(&r->list, &random, t, OUT, COLS), NULL));
    krig_batch_init(&r->in, ROWS);
    for (int i = 0; i < ROWS; i++) r->prompt[i] = i < 4 || i > 6;
    r->in.prompt = r->prompt;
}

static void rig_close(rig *r) {
    program_destroy(r->p);
    krig_weights_deinit(&r->list);
}

static float *run(rig *r, const backend_ops *ops, cpu_isa isa, bool fast, uint32_t threads) {
    const krig_machine m = {"", ops, {.threads = threads, .isa_cap = isa, .fast = fast}};
    return krig_run(&m, r->p, &r->in);
}

static double row_nmse(const float *got, const float *want) {
    double wrong = 0, all = 0;
    for (int j = 0; j < OUT; j++) {
        const double d = (double)got[j] - (double)want[j];
        wrong += d * d;
        all += (double)want[j] * (double)want[j];
    }
    return wrong / all;
}

static void check_type(dtype t, cpu_isa isa, bool experts) {
    rig r;
    rig_open(&r, t, experts);
    float *ref = run(&r, &backend_ref, isa, false, 1);
    float *exact = run(&r, &backend_cpu, isa, false, 1);
    float *fast = run(&r, &backend_cpu, isa, true, 1);
    float *two = run(&r, &backend_cpu, isa, true, 2);
    CHECK(memcmp(fast, two, (size_t)ROWS * OUT * sizeof *fast) == 0);
    for (int i = 0; i < ROWS; i++) {
        const float *f = fast + (size_t)i * OUT, *e = exact + (size_t)i * OUT;
        const double nmse = row_nmse(f, ref + (size_t)i * OUT);
        if (!r.prompt[i]) CHECK(memcmp(f, e, OUT * sizeof *f) == 0);
        if (nmse > fast_nmse_max)
            (void)fprintf(stderr, "%s: row %d has nmse %g\n", dtype_name(t), i, nmse);
        CHECK(nmse <= (r.prompt[i] ? fast_nmse_max : 1e-7));
    }
    free(ref);
    free(exact);
    free(fast);
    free(two);
    rig_close(&r);
}

TEST(fast_rounds_prompts_only_and_within_bounds) {
    static const dtype types[] = {DTYPE_Q8_0,  DTYPE_Q4_0, DTYPE_Q4_K,   DTYPE_Q6_K,
                                  DTYPE_MXFP4, DTYPE_F16,  DTYPE_IQ2_XXS};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        for (size_t c = 0; c < sizeof classes / sizeof *classes; c++)
            check_type(types[i], classes[c], false);
}

TEST(fast_experts_round_the_rows_of_prompts) {
    for (size_t c = 0; c < sizeof classes / sizeof *classes; c++)
        check_type(DTYPE_Q4_K, classes[c], true);
}

/* Without lo digits a prompt's row is really another number: the mode does something. */
TEST(fast_is_not_exact_for_packed_weights) {
    rig r;
    rig_open(&r, DTYPE_Q4_0, false);
    float *exact = run(&r, &backend_cpu, CPU_ISA_AUTO, false, 1);
    float *fast = run(&r, &backend_cpu, CPU_ISA_AUTO, true, 1);
    CHECK(memcmp(fast, exact, OUT * sizeof *fast) != 0);
    free(exact);
    free(fast);
    rig_close(&r);
}
