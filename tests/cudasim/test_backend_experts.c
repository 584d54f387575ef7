/* test_backend_experts.c - mode `fast` of backend_cuda where experts are mixed: the rows of prompts
 * have their products grouped by expert on tensor cores.  Which rows that touches, by how much,
 * that company changes nothing, and what is launched and how it is reported.
 *
 * The router's logits come from a table, so that every backend chooses the same experts. */
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/blob.h"
#include "cudasim/backend_rig.h"
#include "engine/engine_rig.h"
#include "golden_paths.h"

enum { COLS = 256, ROWS = 22, GENERATED = 6, MATRICES = 3 };

static const double FAST_NMSE_MAX = 1e-4; /* backend.h */

static bool is_prompt[ROWS]; /* of the rows of a lab */

/* --- mixtures -------------------- */

/* Layers as models have them, with rows and columns of ours. */
typedef struct mixture {
    const char *name;
    op_route route;
    bool biases; /* of the experts */
    bool shared; /* a dense product beside them */
    op_act act;
} mixture;

static const float yes[1]; /* a bias of the router */

static const mixture mixtures[] = {
    {"mixtral", {ROUTE_SOFTMAX, 8, 2, true, 1, NULL, 1, 1}, false, false, {.kind = ACT_SILU}},
    {"qwen2moe", {ROUTE_SOFTMAX, 60, 4, false, 1, NULL, 1, 1}, false, true, {.kind = ACT_SILU}},
    {"deepseek2", {ROUTE_SIGMOID, 64, 6, true, 2.5f, yes, 8, 3}, false, true, {.kind = ACT_SILU}},
    {"gpt-oss", {ROUTE_SOFTMAX_BEST, 32, 4, false, 1, yes, 1, 1}, true, false, {.kind = ACT_GELU}},
};
enum { MIXTURES = sizeof mixtures / sizeof mixtures[0] };

static op_experts make_experts(lab *l, const mixture *mix, dtype type, bool shared_in) {
    op_experts x = {.experts = mix->route.experts,
                    .used = mix->route.used,
                    .shared_in = shared_in,
                    .bias = mix->biases
                                ? krig_vector(&l->weights, &l->random, mix->route.experts * COLS)
                                : NULL};
    weight *w = pg_weights(l->p, x.experts);
    for (uint32_t e = 0; e < x.experts; e++)
        w[e] = krig_weight(&l->weights, &l->random, type, COLS, COLS);
    x.w = w;
    return x;
}

/* x + the mixture of x; gate and up read the row, down what each place made. */
static value_id layer(lab *l, const mixture *mix, dtype type, value_id x) {
    op_route route = mix->route;
    const uint32_t experts = route.experts;
    if (route.bias != NULL) route.bias = krig_vector(&l->weights, &l->random, experts);
    const value_id routed = pg_route(l->p, lab_input(l, experts), route);
    const value_id gate = pg_experts(l->p, x, routed, make_experts(l, mix, type, true));
    const value_id up = pg_experts(l->p, x, routed, make_experts(l, mix, type, true));
    const value_id y = pg_act_mul(l->p, gate, up, mix->act);
    const value_id down = pg_experts(l->p, y, routed, make_experts(l, mix, type, false));
    const value_id sum = pg_add(l->p, x, pg_experts_sum(l->p, down, routed, route.used));
    if (!mix->shared) return sum;
    const weight w = krig_weight(&l->weights, &l->random, type, COLS, COLS);
    return pg_add(l->p, sum, pg_matmul(l->p, x, w, NULL));
}

static lab *mixed(const mixture *mix, dtype type, uint32_t layers, bool fast) {
    lab *l = lab_begin(ROWS, 1);
    l->fast = fast;
    value_id x = lab_input(l, COLS);
    for (uint32_t i = 0; i < layers; i++) x = layer(l, mix, type, x);
    lab_finish(l, x);
    for (uint32_t r = 0; r < ROWS; r++) is_prompt[r] = r >= GENERATED;
    l->in.prompt = is_prompt;
    return l;
}

/* --- the numbers -------------------- */

static void run_all(const mixture *mix, dtype type, bool fast, const backend_ops *ops, float *out,
                    char numerics[8]) {
    lab *l = mixed(mix, type, 1, fast);
    lab_machine m;
    backend_report report;
    if (lab_open(l, ops, &m)) {
        lab_step_rows(l, &m, is_prompt, 0, ROWS, out);
        ops->report(m.b, &report);
        (void)snprintf(numerics, 8, "%s", report.numerics);
        lab_close(&m);
    }
    lab_free(l);
}

static void check_mixture(const mixture *mix, dtype type, bool has_kernel, bool as_f16) {
    static float ref[ROWS * COLS], exact[ROWS * COLS], fast[ROWS * COLS];
    char numerics[8];
    run_all(mix, type, false, &backend_ref, ref, numerics);
    run_all(mix, type, false, &backend_cuda, exact, numerics);
    CHECK_STR(numerics, "exact");
    run_all(mix, type, true, &backend_cuda, fast, numerics);
    CHECK_STR(numerics, has_kernel ? "fast" : "exact");
    const size_t generated = (size_t)GENERATED * COLS, prompts = sizeof ref / 4 - generated;
    const double most = lab_generated_nmse_max(type, as_f16);
    if (most > 0)
        CHECK(krig_nmse(fast, exact, generated) <= most);
    else
        CHECK(memcmp(fast, exact, generated * sizeof *fast) == 0);
    const bool same = memcmp(fast + generated, exact + generated, prompts * sizeof *fast) == 0;
    CHECK_EQ(same, !has_kernel); /* the mode does something */
    const double nmse = krig_nmse(fast + generated, ref + generated, prompts);
    if (!(nmse <= FAST_NMSE_MAX))
        (void)fprintf(stderr, "%s of %s: nmse %g\n", mix->name, dtype_name(type), nmse);
    CHECK(nmse <= FAST_NMSE_MAX);
}

/* The PTX is for cc 7.5, which has no products of BF16; without nvcc there is nothing else.  Such
 * weights become F16 there. */
static bool has_machine_code(void) { return cuda_blobs[0].fatbin < cuda_blobs[0].fatbin_end; }

TEST(cuda_fast_experts_round_prompts_only_and_within_bounds) {
    static const dtype types[] = {DTYPE_F16,  DTYPE_Q8_0, DTYPE_Q4_0,
                                  DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K};
    HOST_MACHINE("t4");
    check_mixture(&mixtures[0], DTYPE_F32, false, false);
    check_mixture(&mixtures[0], DTYPE_BF16, true, true);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        check_mixture(&mixtures[0], types[i], true, false);
}

TEST(cuda_fast_experts_on_a_card_with_more_instructions) {
    HOST_MACHINE("h100");
    check_mixture(&mixtures[0], DTYPE_BF16, true, !has_machine_code());
    check_mixture(&mixtures[0], DTYPE_Q4_K, true, false);
}

TEST(cuda_fast_experts_of_every_shape_of_layer_are_near_the_reference) {
    static const dtype types[MIXTURES] = {DTYPE_Q4_K, DTYPE_Q8_0, DTYPE_Q6_K, DTYPE_MXFP4};
    HOST_MACHINE("t4");
    for (size_t i = 0; i < MIXTURES; i++) check_mixture(&mixtures[i], types[i], true, false);
}

/* --- company -------------------- */

/* A row has its bits alone, in pieces and beside rows of the other kind. */
static void check_company(const mixture *mix, dtype type) {
    static const uint32_t cuts[][2] = {{0, GENERATED},     {GENERATED, ROWS},     {2, 3}, {9, 10},
                                       {4, GENERATED + 1}, {GENERATED - 1, ROWS}, {7, 13}};
    static float all[ROWS * COLS], some[ROWS * COLS];
    lab *l = mixed(mix, type, 2, true);
    lab_machine m;
    if (lab_open(l, &backend_cuda, &m)) {
        lab_step_rows(l, &m, is_prompt, 0, ROWS, all);
        for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
            const size_t at = (size_t)cuts[i][0] * COLS;
            const size_t bytes = (cuts[i][1] - cuts[i][0]) * COLS * sizeof *all;
            lab_step_rows(l, &m, is_prompt, cuts[i][0], cuts[i][1], some);
            CHECK(memcmp(some + at, all + at, bytes) == 0);
        }
        lab_close(&m);
    }
    lab_free(l);
}

TEST(cuda_fast_experts_give_a_row_the_same_bits_in_any_company) {
    HOST_MACHINE("t4");
    check_company(&mixtures[0], DTYPE_F16);
    check_company(&mixtures[3], DTYPE_Q8_0);
    check_company(&mixtures[0], DTYPE_Q4_K);
    check_company(&mixtures[0], DTYPE_Q6_K);
}

/* Pairs and tiles fill the places that are planned for them: 64 rows by 4 leave few of 60 experts
 * without any. */
TEST(cuda_fast_experts_of_a_step_with_the_most_rows) {
    enum { MOST = RIG_ROWS_MAX, PIECE = 10 };
    static float all[MOST * COLS], pieces[MOST * COLS];
    static bool prompt[MOST];
    HOST_MACHINE("t4");
    lab *l = lab_begin(MOST, 1);
    lab_machine m;
    l->fast = true;
    const value_id x = lab_input(l, COLS);
    lab_finish(l, layer(l, &mixtures[1], DTYPE_Q8_0, x));
    CHECK_EQ(l->p->max.rows, MOST);
    for (uint32_t r = 0; r < MOST; r++) prompt[r] = true;
    if (lab_open(l, &backend_cuda, &m)) {
        lab_step_rows(l, &m, prompt, 0, MOST, all);
        for (uint32_t r = 0; r < MOST; r += PIECE)
            lab_step_rows(l, &m, prompt, r, r + PIECE < MOST ? r + PIECE : MOST, pieces);
        CHECK(memcmp(all, pieces, sizeof all) == 0);
        lab_close(&m);
    }
    lab_free(l);
}

/* --- launches -------------------- */

typedef struct launches {
    uint64_t streamed, together, grouped, on_tensor_cores, all;
} launches;

static launches launches_now(void) {
    return (launches){.streamed = host.launches("k_experts_q8_0"),
                      .together = host.launches("k_experts_q8_0_n16"),
                      .grouped = host.launches("k_group"),
                      .on_tensor_cores = host.launches("k_gemm_experts_q8_0"),
                      .all = host.calls("cuLaunchKernel")};
}

static launches launches_of(lab *l, const lab_machine *m, uint32_t first, uint32_t end) {
    static float out[ROWS * COLS];
    const launches before = launches_now();
    lab_step_rows(l, m, is_prompt, first, end, out);
    const launches after = launches_now();
    return (launches){.streamed = after.streamed - before.streamed,
                      .together = after.together - before.together,
                      .grouped = after.grouped - before.grouped,
                      .on_tensor_cores = after.on_tensor_cores - before.on_tensor_cores,
                      .all = after.all - before.all};
}

/* Two layers: pairs are grouped once in each, for three products; those of generated rows where
 * there are some, in either mode. */
TEST(cuda_fast_experts_are_launched_only_for_rows_that_there_are) {
    static const struct {
        uint32_t first, end;
        launches want;
    } cases[] = {{0, GENERATED, {0, 6, 2, 0, 0}}, {3, 4, {6, 0, 0, 0, 0}},
                 {3, 5, {6, 0, 0, 0, 0}},         {GENERATED, ROWS, {0, 0, 2, 6, 0}},
                 {9, 10, {0, 0, 2, 6, 0}},        {0, ROWS, {0, 6, 4, 6, 0}}};
    HOST_MACHINE("t4");
    lab *fast = mixed(&mixtures[0], DTYPE_Q8_0, 2, true),
        *exact = mixed(&mixtures[0], DTYPE_Q8_0, 2, false);
    lab_machine m, n;
    const bool opened = lab_open(fast, &backend_cuda, &m) && lab_open(exact, &backend_cuda, &n);
    CHECK(opened);
    for (size_t i = 0; opened && i < sizeof cases / sizeof cases[0]; i++) {
        const launches got = launches_of(fast, &m, cases[i].first, cases[i].end);
        CHECK_EQ(got.streamed, cases[i].want.streamed);
        CHECK_EQ(got.together, cases[i].want.together);
        CHECK_EQ(got.grouped, cases[i].want.grouped);
        CHECK_EQ(got.on_tensor_cores, cases[i].want.on_tensor_cores);
        const launches without = launches_of(exact, &n, cases[i].first, cases[i].end);
        CHECK_EQ(got.all - got.streamed - got.together - got.grouped - got.on_tensor_cores,
                 without.all - without.streamed - without.together - without.grouped);
        CHECK_EQ(without.grouped, without.together / 3);
    }
    lab_close(&m);
    lab_close(&n);
    lab_free(fast);
    lab_free(exact);
    CHECK_EQ(host.leaks(), 0);
}

/* A step of a generated row is played as a graph, with the bits and the kernels of single launches;
 * what was recorded is none the worse for prompts in between. */
TEST(cuda_fast_experts_of_generated_rows_are_played_as_a_graph) {
    static float first[ROWS * COLS], again[ROWS * COLS], others[ROWS * COLS];
    HOST_MACHINE("t4");
    lab *l = mixed(&mixtures[0], DTYPE_Q8_0, 2, true);
    lab_machine m;
    if (lab_open(l, &backend_cuda, &m)) {
        const uint64_t streamed = host.launches("k_experts_q8_0");
        lab_step_rows(l, &m, is_prompt, 3, 4, first);
        CHECK_EQ(host.launches("k_experts_q8_0") - streamed, 6);
        for (uint32_t i = 1; i <= 3; i++) {
            memset(again, 0, sizeof again);
            lab_step_rows(l, &m, is_prompt, 3, 4, again);
            CHECK_EQ(host.calls("cuGraphLaunch"), i);
            CHECK_EQ(host.launches("k_experts_q8_0") - streamed, 6 * (1 + i));
            CHECK(memcmp(first + 3 * COLS, again + 3 * COLS, COLS * sizeof *first) == 0);
            CHECK_EQ(host.launches("k_group"), 2 * (i - 1));
            lab_step_rows(l, &m, is_prompt, GENERATED, ROWS, others);
        }
        lab_close(&m);
    }
    lab_free(l);
}

/* Experts that lie between products of other values have their groups still. */
TEST(cuda_fast_experts_of_two_routes_are_grouped_whenever_they_take_turns) {
    static float got[ROWS * COLS], want[ROWS * COLS];
    const mixture *mix = &mixtures[0];
    HOST_MACHINE("t4");
    for (uint32_t k = 0; k < 2; k++) {
        lab *l = lab_begin(ROWS, 1);
        lab_machine m;
        l->fast = k == 0;
        const value_id x = lab_input(l, COLS);
        const value_id one = pg_route(l->p, lab_input(l, mix->route.experts), mix->route);
        const value_id two = pg_route(l->p, lab_input(l, mix->route.experts), mix->route);
        const value_id a = pg_experts(l->p, x, one, make_experts(l, mix, DTYPE_Q8_0, true));
        const value_id b = pg_experts(l->p, x, two, make_experts(l, mix, DTYPE_Q8_0, true));
        const value_id c = pg_experts(l->p, x, one, make_experts(l, mix, DTYPE_Q8_0, true));
        const value_id sum = pg_add(l->p, pg_experts_sum(l->p, a, one, mix->route.used),
                                    pg_experts_sum(l->p, b, two, mix->route.used));
        lab_finish(l, pg_add(l->p, sum, pg_experts_sum(l->p, c, one, mix->route.used)));
        for (uint32_t r = 0; r < ROWS; r++) is_prompt[r] = true;
        const uint64_t before = host.launches("k_group");
        if (lab_open(l, k == 0 ? &backend_cuda : &backend_ref, &m)) {
            lab_step_rows(l, &m, is_prompt, 0, ROWS, k == 0 ? got : want);
            lab_close(&m);
        }
        CHECK_EQ(host.launches("k_group") - before, k == 0 ? 3 : 0);
        lab_free(l);
    }
    CHECK(krig_nmse(got, want, ROWS * COLS) <= FAST_NMSE_MAX);
}

/* --- reports -------------------- */

/* The tasks of a step with prompts: groups are nobody's op, products have the bytes of each expert
 * that is in use, once. */
TEST(cuda_fast_experts_are_profiled_as_what_they_are) {
    static float out[ROWS * COLS];
    HOST_MACHINE("t4");
    lab *l = mixed(&mixtures[0], DTYPE_Q8_0, 1, true);
    lab_machine m;
    backend_profile parts[BACKEND_PARTS_MAX];
    if (lab_open(l, &backend_cuda, &m)) {
        uint32_t groups = 0, products = 0;
        CHECK_EQ(m.ops->profile(m.b, true, NULL), OK);
        lab_step_rows(l, &m, is_prompt, 0, ROWS, out);
        CHECK_EQ(m.ops->profiled(m.b, parts), 1);
        for (uint32_t i = 0; i < parts[0].count; i++) {
            const backend_task *t = &parts[0].tasks[i];
            if (!t->ran) continue;
            CHECK(t->ns > 0);
            if (strcmp(t->name, "k_group") == 0) {
                groups++;
                CHECK_EQ(t->ops_count, 0);
            }
            if (strcmp(t->name, "k_gemm_experts_q8_0") != 0) continue;
            /* 22 rows of 2 in 8 leave none idle */
            products++;
            CHECK_EQ(t->work.weight_bytes, (uint64_t)8 * COLS * (COLS / 32 * 34));
            CHECK_EQ(t->work.flops, (uint64_t)ROWS * 2 * COLS * COLS * 2);
            CHECK_EQ(roofline_arith(l->p, t->ops, 1), ROOF_INTEGER);
        }
        CHECK_EQ(groups, 2); /* of the rows of prompts, and of the others */
        CHECK_EQ(products, MATRICES);
        lab_close(&m);
    }
    lab_free(l);
}

/* --- models -------------------- */

enum { TOKENS = 24 };

static const rig_engine on_cuda = {"cuda", &backend_cuda, 1, CPU_ISA_AUTO};

static void check_model(const char *name, const char *type, double nmse_max) {
    model *m = rig_open_oracle(name, type);
    int32_t ids[TOKENS];
    if (m == NULL) return;
    rig_fill_ids(ids, TOKENS, m->hparams.vocab, 0);
    engine_options fast = rig_options(&on_cuda, DTYPE_F16, 64);
    const engine_options ref = rig_options(&rig_engines[0], DTYPE_F16, 64);
    fast.fast = true;
    const uint64_t before = host.launches("k_group");
    float *got = rig_all_logits(m, &fast, ids, TOKENS, TOKENS);
    CHECK(host.launches("k_group") > before);
    float *chunks = rig_all_logits(m, &fast, ids, TOKENS, 7);
    float *want = rig_all_logits(m, &ref, ids, TOKENS, TOKENS);
    const size_t count = (size_t)TOKENS * m->hparams.vocab;
    const double nmse = rig_nmse(got, want, count);
    if (!(nmse <= nmse_max)) (void)fprintf(stderr, "%s %s: nmse %g\n", name, type, nmse);
    CHECK(nmse <= nmse_max);
    CHECK(memcmp(got, chunks, count * sizeof *got) == 0);
    free(got);
    free(chunks);
    free(want);
    model_close(m);
}

/* Through whole models errors of 8 bits add up. */
TEST(cuda_fast_experts_of_models_are_near_the_reference) {
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    HOST_MACHINE("t4");
    check_model("mixtral", "Q8_0", 1e-3);
    check_model("gpt-oss", "MXFP4", 1e-3);
    check_model("deepseek2", "Q8_0", 1e-3);
}
