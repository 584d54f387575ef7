/* test_backend_pdl.c - kernels that start while the one ahead of them ends: the same bits as
 * without, in graphs and one by one; what is prefetched; where there is none of it. */
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/blob.h"
#include "base/log.h"
#include "cudasim/backend_rig.h"
#include "engine/engine_rig.h"

#define H100_DEFERRED "{\"gpus\":[{\"preset\":\"h100\"}],\"streams\":\"deferred\",\"seed\":3}"

static const rig_engine on_cuda = {"cuda", &backend_cuda, 1, CPU_ISA_AUTO};

enum { SEATS = 6, STEPS = 11, PROMPT = 5 };

/* The PTX is for cc 7.5, and cannot wait. */
static bool has_machine_code(void) { return cuda_blobs[0].fatbin < cuda_blobs[0].fatbin_end; }
#define NEED_MACHINE_CODE() \
    if (!has_machine_code()) SKIP("the kernels are PTX of cc 7.5")

static engine_options options(bool no_pdl, bool no_graphs) {
    engine_options opt = rig_options(&on_cuda, DTYPE_F16, 64);
    opt.rows_max = 24;
    opt.taken_rows_max = 12;
    opt.no_pdl = no_pdl;
    opt.no_graphs = no_graphs;
    return opt;
}

static int32_t token_of(uint32_t seat, uint32_t pos) {
    return (int32_t)((seat * 41 + pos * 13 + 5) % 64);
}

/* One token more of each of the seats 0 .. count - 1; their logits [count, vocab] go to out. */
static void advance(engine *e, uint32_t count, uint32_t pos[SEATS], float *out) {
    engine_row rows[SEATS];
    for (uint32_t s = 0; s < count; s++) {
        CHECK_EQ(kv_seat_grow(engine_kv(e), s, pos[s] + 1, NULL), OK);
        rows[s] = (engine_row){
            .token = token_of(s, pos[s]), .pos = pos[s], .seat = s, .wants_logits = true};
        pos[s]++;
    }
    const float *logits = engine_step(e, rows, count);
    CHECK(engine_fault(e) == NULL);
    if (engine_fault(e) != NULL)
        (void)fprintf(stderr, "%s\n", engine_fault(e)->msg);
    else
        memcpy(out, logits, (size_t)count * engine_vocab(e) * sizeof *out);
}

static void begin_with_a_prompt(engine *e, uint32_t pos[SEATS]) {
    engine_row rows[PROMPT];
    CHECK_EQ(kv_seat_grow(engine_kv(e), 0, PROMPT, NULL), OK);
    for (uint32_t i = 0; i < PROMPT; i++)
        rows[i] = (engine_row){.token = token_of(0, i), .pos = i, .seat = 0, .prompt = true};
    (void)engine_step(e, rows, PROMPT);
    pos[0] = PROMPT;
}

/* All that a prompt and a crowd of changing size are told, in one piece; NULL after a failure. */
static float *run_crowd(const model *m, const engine_options *opt, size_t *bytes) {
    static const uint32_t sizes[STEPS] = {1, 1, 1, 2, 2, 3, 3, 6, 5, 6, 1};
    engine *e = NULL;
    uint32_t pos[SEATS] = {0};
    CHECK_EQ(engine_open(&e, m, opt, NULL), OK);
    if (e == NULL) return NULL;
    const size_t step = (size_t)SEATS * engine_vocab(e);
    float *all = calloc(STEPS * step, sizeof *all);
    *bytes = STEPS * step * sizeof *all;
    begin_with_a_prompt(e, pos);
    for (uint32_t i = 0; i < STEPS; i++) advance(e, sizes[i], pos, all + i * step);
    engine_close(e);
    return all;
}

/* Runs it, holds it against `want`, and returns the launches that were early. */
static uint64_t run_against(const model *m, const engine_options *opt, const float *want) {
    size_t bytes = 0;
    const uint64_t before = host.early_launches(NULL);
    float *got = run_crowd(m, opt, &bytes);
    CHECK(got != NULL && memcmp(got, want, bytes) == 0);
    free(got);
    return host.early_launches(NULL) - before;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SPECS = 1 };
#else
enum { SPECS = 3 };
#endif

TEST(cuda_overlap_changes_no_bit) {
    static const char *const specs[] = {"synth:tiny:q8_0", "synth:tiny:f16", "synth:tiny:q4_k_m"};
    static const char *const machines[] = {"h100", H100_DEFERRED};
    for (size_t i = 0; i < SPECS; i++) {
        HOST_MACHINE(machines[i % 2]);
        NEED_MACHINE_CODE();
        size_t bytes = 0;
        model *m = rig_open_model(specs[i]);
        const engine_options plain = options(true, true);
        float *want = run_crowd(m, &plain, &bytes);
        CHECK_EQ(host.early_launches(NULL), 0);
        CHECK_EQ(host.calls("cuLaunchKernelEx"), 0);
        for (int graphs = 0; graphs < 2; graphs++) {
            const engine_options off = options(true, graphs == 0), on = options(false, graphs == 0);
            const uint64_t launches = host.launches(NULL);
            CHECK_EQ(run_against(m, &off, want), 0);
            const uint64_t of_a_run = host.launches(NULL) - launches;
            /* all of a step but the first, which comes behind copies */
            CHECK_EQ(run_against(m, &on, want), of_a_run - (1 + STEPS));
        }
        CHECK(host.calls("cuGraphLaunch") > 0);
        free(want);
        model_close(m);
        CHECK_EQ(host.leaks(), 0);
    }
}

TEST(cuda_overlap_is_for_newer_cards) {
    static const char *const machines[] = {"t4", "a10"};
    for (size_t i = 0; i < 2; i++) {
        HOST_MACHINE(machines[i]);
        size_t bytes = 0;
        model *m = rig_open_model("synth:tiny:q8_0");
        const engine_options opt = options(false, false);
        free(run_crowd(m, &opt, &bytes));
        CHECK(host.launches(NULL) > 0);
        CHECK_EQ(host.early_launches(NULL), 0);
        CHECK_EQ(host.calls("cuLaunchKernelEx"), 0);
        model_close(m);
    }
}

/* --- what it depends on -------------------- */

typedef struct overlap_case {
    int driver;
    bool wanted, has_call;
    bool overlaps, in_graphs;
} overlap_case;

static void check_overlap(const overlap_case *c) {
    cu_driver driver = host.driver;
    driver.version = c->driver;
    if (!c->has_call) driver.launch_ex = NULL;
    host.dev.driver = &driver;
    cuda_device_overlap(&host.dev, c->wanted);
    CHECK_EQ(host.dev.overlaps, c->overlaps);
    CHECK_EQ(host.dev.overlaps_in_graphs, c->in_graphs);
    host.dev.driver = &host.driver;
}

TEST(cuda_overlap_needs_a_driver_that_has_it) {
    static const overlap_case cases[] = {
        {13000, true, true, true, true},    {12030, true, true, true, true},
        {12020, true, true, true, false},   {11080, true, true, true, false},
        {11070, true, true, false, false},  {13000, true, false, false, false},
        {13000, false, true, false, false},
    };
    HOST_MACHINE("h100");
    NEED_MACHINE_CODE();
    const cuda_images images = CUDA_IMAGES_EMBEDDED;
    CHECK_EQ(host.driver.init(0), CU_SUCCESS);
    CHECK_EQ(cuda_device_open(&host.dev, &host.driver, 0, &images, NULL), OK);
    CHECK_EQ(host.dev.image.code_path, 900);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) check_overlap(&cases[i]);
    cuda_chain(&host.dev, true, true); /* what recorded launches are is asked for each chain */
    CHECK_EQ(host.dev.chain, CUDA_CHAIN_NONE);
    check_overlap(&cases[2]);
    cuda_chain(&host.dev, true, true);
    CHECK_EQ(host.dev.chain, CUDA_CHAIN_NONE);
    cuda_chain(&host.dev, true, false);
    CHECK_EQ(host.dev.chain, CUDA_CHAIN_FIRST);
    cuda_chain(&host.dev, false, false);
    CHECK_EQ(host.dev.chain, CUDA_CHAIN_NONE);
    host_end();
}

/* PTX of cc 7.5 on the same card. */
TEST(cuda_overlap_needs_code_that_waits) {
    HOST_MACHINE("h100");
    host_device(0);
    CHECK_EQ(host.dev.image.code_path, 750);
    cuda_device_overlap(&host.dev, true);
    CHECK(!host.dev.overlaps && !host.dev.overlaps_in_graphs);
    host_end();
}

/* The first such launch is refused, of those one by one or of those that are recorded: it is
 * launched as ever, and no other one is tried. */
TEST(cuda_overlap_that_the_driver_refuses_costs_only_time) {
    HOST_MACHINE("h100");
    NEED_MACHINE_CODE();
    size_t bytes = 0;
    model *m = rig_open_model("synth:tiny:q8_0");
    const engine_options plain = options(true, false), opt = options(false, false);
    float *want = run_crowd(m, &plain, &bytes);
    CHECK(host_machine("h100"));
    host.fault_add("cuLaunchKernelEx", NULL, 1, CU_NOT_SUPPORTED);
    CHECK_EQ(run_against(m, &opt, want), 0);
    CHECK_EQ(host.calls("cuLaunchKernelEx"), 1);
    CHECK(host.calls("cuGraphLaunch") > 0);

    CHECK(host_machine("h100"));
    engine *e = NULL;
    uint32_t pos[SEATS] = {0};
    float *out = calloc((size_t)SEATS * 4096, sizeof *out);
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    CHECK(engine_vocab(e) <= 4096);
    begin_with_a_prompt(e, pos);
    advance(e, 1, pos, out);
    host.fault_add("cuLaunchKernelEx", NULL, 2, CU_NOT_SUPPORTED); /* while it is recorded */
    const uint64_t asked = host.calls("cuLaunchKernelEx"), early = host.early_launches(NULL);
    for (uint32_t i = 1; i < 3; i++) advance(e, 1, pos, out);
    CHECK_EQ(host.calls("cuLaunchKernelEx"), asked + 2);
    CHECK_EQ(host.calls("cuGraphLaunch"), 2);
    CHECK_EQ(host.early_launches(NULL), early + 2); /* one of each playing */
    engine_close(e);
    free(out);
    free(want);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

/* A driver that makes no graph of such launches makes one of plain ones. */
TEST(cuda_overlap_that_graphs_refuse_costs_no_graph) {
    HOST_MACHINE("h100");
    NEED_MACHINE_CODE();
    size_t bytes = 0;
    model *m = rig_open_model("synth:tiny:q8_0");
    const engine_options plain = options(true, false), opt = options(false, false);
    float *want = run_crowd(m, &plain, &bytes);
    const uint64_t graphs = host.calls("cuGraphInstantiateWithFlags");
    const uint64_t played = host.calls("cuGraphLaunch");
    CHECK(host_machine("h100"));
    host.fault_add("cuGraphInstantiateWithFlags", NULL, 1, CU_NOT_SUPPORTED);
    log_set_level(LOG_ERROR);
    CHECK(run_against(m, &opt, want) > 0); /* one by one */
    log_set_level(LOG_INFO);
    CHECK_EQ(host.calls("cuGraphInstantiateWithFlags"), graphs + 1);
    CHECK_EQ(host.calls("cuGraphLaunch"), played);
    free(want);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

/* --- what is prefetched, and when there is no chain -------------------- */

enum { COLS = 256, ROWS_OUT = 512 };

static lab *two_products(dtype type) {
    lab *l = lab_begin(1, 16);
    value_id x = lab_input(l, COLS);
    const weight up = krig_weight(&l->weights, &l->random, type, ROWS_OUT, COLS);
    const weight down = krig_weight(&l->weights, &l->random, type, COLS, ROWS_OUT);
    lab_finish(l, pg_matmul(l->p, pg_matmul(l->p, x, up, NULL), down, NULL));
    return l;
}

/* Rows are shorter than what a warp loads at a time: a product prefetches all of its weights, and
 * nothing else. */
TEST(cuda_overlap_prefetches_weights) {
    static const struct {
        dtype type;
        const char *kernel;
        uint64_t bytes; /* of a weight, times 32 */
    } cases[] = {{DTYPE_F16, "k_gemv_f16_n1", 64},
                 {DTYPE_Q8_0, "k_gemv_q8_0_n1", 34},
                 {DTYPE_Q4_0, "k_gemv_q4_0_n1", 18},
                 {DTYPE_Q4_K, "k_gemv_q4_k_n1", 18},
                 {DTYPE_Q5_K, "k_gemv_q5_k_n1", 22}};
    HOST_MACHINE("h100");
    NEED_MACHINE_CODE();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sim_counters all = {0};
        lab_machine cuda;
        CHECK(host_machine("h100"));
        lab *l = two_products(cases[i].type);
        if (lab_open(l, &backend_cuda, &cuda)) {
            host.count(true);
            (void)lab_step(l, &cuda);
            host.count(false);
            const uint64_t weights = UINT64_C(2) * ROWS_OUT * COLS * cases[i].bytes / 32;
            CHECK(host.counted(cases[i].kernel, NULL, &all));
            CHECK_EQ(all.prefetch_sectors * 32, weights);
            CHECK_EQ(all.prefetch_unread, 0);
            lab_close(&cuda);
        }
        lab_free(l);
    }
}

/* Events stand between launches that are measured. */
TEST(cuda_overlap_is_off_while_launches_are_measured) {
    HOST_MACHINE("h100");
    NEED_MACHINE_CODE();
    lab_machine cuda;
    error err = {0};
    lab *l = two_products(DTYPE_Q8_0);
    if (lab_open(l, &backend_cuda, &cuda)) {
        (void)lab_step(l, &cuda);
        const uint64_t early = host.early_launches(NULL);
        CHECK(early > 0);
        CHECK_EQ(backend_cuda.profile(cuda.b, true, &err), OK);
        (void)lab_step(l, &cuda);
        CHECK_EQ(host.early_launches(NULL), early);
        CHECK_EQ(backend_cuda.profile(cuda.b, false, &err), OK);
        (void)lab_step(l, &cuda);
        CHECK(host.early_launches(NULL) > early);
        lab_close(&cuda);
    }
    lab_free(l);
}
