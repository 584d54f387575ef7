/* test_backend_prompts.c - mode `fast` of backend_cuda: the rows of prompts have kernels of their
 * own.  Which rows these touch, by how much, that company changes nothing, and that there are no
 * launches for rows that a step does not have. */
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/blob.h"
#include "cudasim/backend_rig.h"
#include "engine/engine_rig.h"

enum { COLS = 256, OUT = 72, ROWS = 20, GENERATED = 6 };

static const double FAST_NMSE_MAX = 1e-4; /* backend.h */

/* --- products -------------------- */

static bool is_prompt[ROWS]; /* of the rows of a lab */

/* Two products in one launch, and one whose sum is with the residual. */
static lab *products(dtype type, bool fast) {
    lab *l = lab_begin(ROWS, 1);
    l->fast = fast;
    const value_id x = lab_input(l, COLS);
    const weight gate = krig_weight(&l->weights, &l->random, type, OUT, COLS);
    const weight up = krig_weight(&l->weights, &l->random, type, OUT, COLS);
    const value_id a = pg_matmul(l->p, x, gate, krig_vector(&l->weights, &l->random, OUT));
    const value_id b = pg_matmul(l->p, x, up, NULL);
    const value_id y = krig_silu_mul(l->p, a, b);
    const weight down = krig_weight(&l->weights, &l->random, DTYPE_F32, COLS, OUT);
    const value_id sum = pg_add(l->p, x, pg_matmul(l->p, y, down, NULL));
    const weight last = krig_weight(&l->weights, &l->random, type, COLS, COLS);
    lab_finish(l, pg_add(l->p, sum, pg_matmul(l->p, sum, last, NULL)));
    for (uint32_t r = 0; r < ROWS; r++) is_prompt[r] = r >= GENERATED;
    l->in.prompt = is_prompt;
    return l;
}

static void run_rows(lab *l, const lab_machine *m, uint32_t first, uint32_t end, float *out) {
    lab_step_rows(l, m, is_prompt, first, end, out);
}

static void run_all(dtype type, bool fast, const backend_ops *ops, float *out, char *numerics) {
    lab *l = products(type, fast);
    lab_machine m;
    backend_report report;
    if (lab_open(l, ops, &m)) {
        run_rows(l, &m, 0, ROWS, out);
        ops->report(m.b, &report);
        (void)snprintf(numerics, 8, "%s", report.numerics);
        lab_close(&m);
    }
    lab_free(l);
}

static void check_type(dtype type, bool has_kernel, bool as_f16) {
    static float ref[ROWS * COLS], exact[ROWS * COLS], fast[ROWS * COLS];
    char numerics[8];
    run_all(type, false, &backend_ref, ref, numerics);
    run_all(type, false, &backend_cuda, exact, numerics);
    CHECK_STR(numerics, "exact");
    run_all(type, true, &backend_cuda, fast, numerics);
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
    if (nmse > FAST_NMSE_MAX) (void)fprintf(stderr, "%s: nmse %g\n", dtype_name(type), nmse);
    CHECK(nmse <= FAST_NMSE_MAX);
}

/* The PTX is for cc 7.5, which has no products of BF16; without nvcc there is nothing else.  Such
 * weights become F16 there. */
static bool has_machine_code(void) { return cuda_blobs[0].fatbin < cuda_blobs[0].fatbin_end; }

TEST(cuda_fast_rounds_prompts_only_and_within_bounds) {
    static const dtype types[] = {DTYPE_F16,  DTYPE_BF16, DTYPE_Q8_0, DTYPE_Q4_0,
                                  DTYPE_Q4_K, DTYPE_Q5_K, DTYPE_Q6_K};
    static const char *const machines[] = {"t4", "h100"};
    for (size_t k = 0; k < 2; k++) {
        HOST_MACHINE(machines[k]);
        check_type(DTYPE_F32, false, false);
        for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
            check_type(types[i], true, types[i] == DTYPE_BF16 && !(k == 1 && has_machine_code()));
    }
}

/* A row has its bits alone, in pieces and beside rows of the other kind. */
static void check_company(dtype type) {
    static const uint32_t cuts[][2] = {{0, GENERATED},     {GENERATED, ROWS},     {2, 3}, {9, 10},
                                       {4, GENERATED + 1}, {GENERATED - 1, ROWS}, {7, 13}};
    static float all[ROWS * COLS], some[ROWS * COLS];
    lab *l = products(type, true);
    lab_machine m;
    if (lab_open(l, &backend_cuda, &m)) {
        run_rows(l, &m, 0, ROWS, all);
        for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
            const size_t at = (size_t)cuts[i][0] * COLS;
            const size_t bytes = (cuts[i][1] - cuts[i][0]) * COLS * sizeof *all;
            run_rows(l, &m, cuts[i][0], cuts[i][1], some);
            CHECK(memcmp(some + at, all + at, bytes) == 0);
        }
        lab_close(&m);
    }
    lab_free(l);
}

TEST(cuda_fast_rows_do_not_depend_on_their_company) {
    static const dtype types[] = {DTYPE_F16, DTYPE_Q8_0, DTYPE_Q4_K, DTYPE_Q6_K};
    HOST_MACHINE("t4");
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) check_company(types[i]);
    HOST_MACHINE("h100");
    check_company(DTYPE_F16);
    check_company(DTYPE_BF16);
}

/* --- launches -------------------- */

static uint64_t gemms(void) { return host.launches("k_gemm_q8_0") + host.launches("k_gemms_q8_0"); }
static uint64_t gemvs(void) {
    return host.launches("k_gemv_q8_0_n1") + host.launches("k_gemv_q8_0_n4") +
           host.launches("k_gemvs_q8_0_n1") + host.launches("k_gemvs_q8_0_n4") +
           host.launches("k_gemv_q8_0_n16") + host.launches("k_gemvs_q8_0_n16");
}

TEST(cuda_fast_launches_only_for_rows_that_there_are) {
    static const struct {
        uint32_t first, end;
        uint64_t gemvs, gemms;
    } cases[] = {{0, GENERATED, 2, 0}, {GENERATED, ROWS, 0, 2}, {0, ROWS, 2, 2}};
    static float out[ROWS * COLS];
    HOST_MACHINE("t4");
    lab *l = products(DTYPE_Q8_0, true);
    lab_machine m;
    if (lab_open(l, &backend_cuda, &m)) {
        for (size_t i = 0; i < 3; i++) {
            const uint64_t gemvs_before = gemvs(), gemms_before = gemms();
            run_rows(l, &m, cases[i].first, cases[i].end, out);
            CHECK_EQ(gemvs() - gemvs_before, cases[i].gemvs);
            CHECK_EQ(gemms() - gemms_before, cases[i].gemms);
        }
        lab_close(&m);
    }
    lab_free(l);
}

/* --- models -------------------- */

enum { TOKENS = 24, CROWD = 80 };

static const rig_engine on_cuda = {"cuda", &backend_cuda, 1, CPU_ISA_AUTO};

static engine_options options_on(const rig_engine *e, dtype kv_type) {
    engine_options opt = rig_options(e, kv_type, 2 * CROWD);
    opt.rows_max = opt.taken_rows_max = 2 * CROWD;
    return opt;
}

/* Through whole models errors of 8 bits add up, in either mode alike. */
TEST(cuda_fast_prompts_of_models_are_near_the_reference) {
    static const struct {
        const char *path;
        double nmse_max;
        dtype kv_type;
        const char *attention;
    } cases[] = {{"synth:tiny:f16", 1e-4, DTYPE_F16, "k_prompt_attention_f16_d64"},
                 {"synth:small:f16", 1e-3, DTYPE_Q8_0, "k_prompt_attention_q8_d64"},
                 {"synth:tiny:q8_0", 1e-3, DTYPE_F16, "k_prompt_attention_f16_d64"},
                 {"synth:tiny:q4_0", 1e-3, DTYPE_F16, "k_prompt_attention_f16_d64"},
                 {"synth:small:f16", 1e-3, DTYPE_Q4_0, "k_prompt_attention_q4_d64"},
                 {"synth:small:q4_k_m", 1e-3, DTYPE_F16, "k_prompt_attention_f16_d64"}};
    HOST_MACHINE("t4");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        model *m = rig_open_model(cases[i].path);
        if (m == NULL) continue;
        int32_t ids[TOKENS];
        rig_fill_ids(ids, TOKENS, m->hparams.vocab, 0);
        engine_options fast = options_on(&on_cuda, cases[i].kv_type),
                       ref = options_on(&rig_engines[0], cases[i].kv_type);
        const uint64_t attentions = host.launches(cases[i].attention);
        fast.fast = true;
        float *got = rig_all_logits(m, &fast, ids, TOKENS, TOKENS);
        float *chunks = rig_all_logits(m, &fast, ids, TOKENS, 7);
        float *want = rig_all_logits(m, &ref, ids, TOKENS, TOKENS);
        const size_t count = (size_t)TOKENS * m->hparams.vocab;
        const double nmse = rig_nmse(got, want, count);
        if (!(nmse <= cases[i].nmse_max)) (void)fprintf(stderr, "%s: %g\n", cases[i].path, nmse);
        CHECK(nmse <= cases[i].nmse_max);
        CHECK(memcmp(got, chunks, count * sizeof *got) == 0);
        CHECK(host.launches(cases[i].attention) > attentions);
        free(got);
        free(chunks);
        free(want);
        model_close(m);
    }
}

/* What a sequence gets for TOKENS tokens, of which the first `prompt_count` were given: alone, or
 * beside a prompt of CROWD tokens from its first generated one on. */
static float *logits_of(const model *m, uint32_t prompt_count, bool crowd) {
    int32_t ids[TOKENS], others[CROWD];
    engine_options opt = options_on(&on_cuda, DTYPE_F16);
    engine *e = NULL;
    opt.fast = true;
    rig_fill_ids(ids, TOKENS, m->hparams.vocab, 0);
    rig_fill_ids(others, CROWD, m->hparams.vocab - 1, 0);
    float *logits = calloc((size_t)TOKENS * m->hparams.vocab, sizeof *logits);
    rig_sequence list[] = {
        {.ids = ids, .count = prompt_count, .prompt_count = prompt_count, .seat = 1},
        {.ids = others, .count = CROWD, .prompt_count = CROWD, .seat = 4}};
    list[0].logits = logits;
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    if (e == NULL) return logits;
    rig_advance(e, list, 1, prompt_count);
    list[0].count = TOKENS;
    while (list[0].done < TOKENS) rig_advance(e, list, crowd ? 2 : 1, 9);
    engine_close(e);
    return logits;
}

TEST(cuda_fast_generated_rows_do_not_depend_on_prompts_beside_them) {
    static const char *const paths[] = {"synth:tiny:q8_0", "synth:small:q4_k_m"};
    HOST_MACHINE("t4");
    for (size_t i = 0; i < 2; i++) {
        model *m = rig_open_model(paths[i]);
        if (m == NULL) continue;
        float *alone = logits_of(m, 5, false), *beside = logits_of(m, 5, true);
        CHECK(memcmp(alone, beside, (size_t)TOKENS * m->hparams.vocab * sizeof *alone) == 0);
        free(alone);
        free(beside);
        model_close(m);
    }
}
